//! A call as clients see it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// A call's number in this daemon, written `c17`. Where one is read, `"c17"`, `"17"` and `17` are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u32);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl FromStr for CallId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('c').unwrap_or(text);
        // u32's own parser takes a leading `+`
        match digits.parse() {
            Ok(number) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Self(number)),
            _ => Err(format!("{text:?} is not a call: wanted c1, c2, ...")),
        }
    }
}

impl JsonSchema for CallId {
    fn schema_name() -> Cow<'static, str> {
        "CallId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A call's number in this daemon: \"c17\"; where one is read, \"17\" and 17 do as well.",
            "type": ["string", "integer"],
            "pattern": "^c?[0-9]+$",
            "minimum": 0,
            "maximum": u32::MAX,
        })
    }
}

impl Serialize for CallId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CallId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = CallId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a call such as \"c17\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CallId, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<CallId, E> {
                u32::try_from(number).map(CallId).map_err(|_| E::custom(format!("{number} is not a call: too large")))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// Who began the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The far end called us.
    In,
    /// We called.
    Out,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// INVITE sent, nothing heard yet.
    Dialing,
    /// The far end rings (180).
    Ringing,
    /// The far end sends media before the answer (183).
    Early,
    /// The far end called us and waits to be answered.
    Incoming,
    /// Both ends talk.
    Answered,
    /// Over; `cause` says why.
    Ended,
}

impl CallState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dialing => "dialing",
            Self::Ringing => "ringing",
            Self::Early => "early",
            Self::Incoming => "incoming",
            Self::Answered => "answered",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// We hung up.
    Hangup,
    /// The far end hung up.
    RemoteHangup,
    /// The call was given up before it was answered.
    Cancelled,
    /// The far end is busy (486, 600).
    Busy,
    /// Nobody answered in time.
    NoAnswer,
    /// The far end declined (603).
    Declined,
    /// No such destination (404, 604, ...).
    NotFound,
    /// The provider did not take the credentials.
    Auth,
    /// No common codec, or media stopped.
    Media,
    /// The far end could not be reached.
    Network,
    /// The far end stopped answering.
    Timeout,
    /// We or the far end refused the call for another reason.
    Rejected,
    /// Anything else; `reason` says more.
    Error,
    /// The client that owned the call went away and did not come back within its grace time.
    ClientGone,
    /// The call has lasted as long as a call may (`[dialing] max_call_s`, `[sip] max_incoming_call_s`).
    TimeLimit,
    /// The far end was sent to somebody else, and is there now.
    Transferred,
    /// Another call has taken its place.
    Replaced,
}

impl Cause {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hangup => "hangup",
            Self::RemoteHangup => "remote_hangup",
            Self::Cancelled => "cancelled",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Declined => "declined",
            Self::NotFound => "not_found",
            Self::Auth => "auth",
            Self::Media => "media",
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Rejected => "rejected",
            Self::Error => "error",
            Self::ClientGone => "client_gone",
            Self::TimeLimit => "time_limit",
            Self::Transferred => "transferred",
            Self::Replaced => "replaced",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who has put a call on hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// We have (`call.hold`).
    Us,
    /// The far end has.
    FarEnd,
    /// Each the other.
    Both,
}

impl Hold {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::FarEnd => "far_end",
            Self::Both => "both",
        }
    }
}

/// How samples are written, on the wire of an audio channel. Always mono.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Signed 16 bit, little endian.
    #[default]
    S16,
    /// 32 bit float in [-1, 1], little endian.
    F32,
    /// G.711 u-law, one byte a sample.
    Ulaw,
    /// G.711 A-law, one byte a sample.
    Alaw,
}

impl Encoding {
    /// The encoding that an audio frame's low four flag bits name.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::S16),
            1 => Some(Self::F32),
            2 => Some(Self::Ulaw),
            3 => Some(Self::Alaw),
            _ => None,
        }
    }

    /// The low four flag bits of an audio frame in this encoding.
    pub fn bits(self) -> u8 {
        match self {
            Self::S16 => 0,
            Self::F32 => 1,
            Self::Ulaw => 2,
            Self::Alaw => 3,
        }
    }

    /// Bytes of one sample.
    pub fn sample_bytes(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::F32 => 4,
            Self::Ulaw | Self::Alaw => 1,
        }
    }
}

/// Who said a line of the transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The far end.
    Caller,
    /// The agent.
    Agent,
}

/// One line of a call's transcript. Times are milliseconds since the call's media began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Who said it.
    pub who: Speaker,
    /// What was said; absent for agent audio that came without text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where it begins.
    pub start_ms: u64,
    /// Where it ends.
    pub end_ms: u64,
    /// The caller's utterance, as in `transcript.final`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utterance: Option<u32>,
}

/// What a call's media went through. Counts are packets unless the name says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MediaStats {
    /// RTP packets that came.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came too late to be played.
    pub late: u64,
    /// Frames of 20 ms that were made up for what was missing.
    pub concealed: u64,
    /// Packets out of order that could still be used.
    pub reordered: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Interarrival jitter, RFC 3550 section 6.4.1.
    pub jitter_ms: f64,
    /// Times the agent's voice ran dry within a response.
    pub underruns: u64,
    /// The playout delay that the jitter buffer aims at.
    pub target_delay_ms: f64,
    /// RTP packets sent.
    pub sent: u64,
    /// Datagrams that were not RTP or not of this call.
    pub bad_packets: u64,
    /// Packets from a source that is not the latched one.
    pub foreign_packets: u64,
    /// Figures that are newer than this crate.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// How a recording stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordingState {
    /// It runs.
    Recording,
    /// What is said now is left out.
    Paused,
    /// It is over, and all of it is on disk or on its way there.
    Finished,
    /// It stopped by itself; the call went on.
    Failed,
}

/// Time that a recording leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// When it began, on the call's clock.
    pub at_ms: u64,
    /// How long it was, or has been.
    pub for_ms: u64,
}

/// One recording of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recording {
    /// The file. One that was full is followed by others, with `-2`, `-3` before `.wav`.
    pub path: String,
    /// How it stands.
    pub state: RecordingState,
    /// Where it begins, on the call's clock.
    pub start_ms: u64,
    /// What it leaves out: on the file's clock, all that comes later is earlier by as much.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
    /// Why it stopped by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A call. Also what `call.summary` tells at the end of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// Its number.
    pub call: CallId,
    /// Who began it.
    pub direction: Direction,
    /// Where it stands.
    pub state: CallState,
    /// The caller's address.
    pub from: String,
    /// The called address.
    pub to: String,
    /// The account it runs over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// When it was dialled or came in.
    pub started_unix_ms: u64,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_unix_ms: Option<u64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_unix_ms: Option<u64>,
    /// Time from answer to end, or till now; 0 before the answer.
    #[serde(default)]
    pub duration_ms: u64,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The last SIP status that mattered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The end in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Name of the client that owns it, as it called itself in `hello`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The codec on the wire, such as `PCMU`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// The SRTP suite of its audio, such as `AES_CM_128_HMAC_SHA1_80`; absent: not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtp: Option<String>,
    /// Who holds it; absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Whether its audio runs through JACK ports.
    #[serde(default)]
    pub jack: bool,
    /// Path of the recording that was begun last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// All recordings, in the order in which they were begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recordings: Vec<Recording>,
    /// What the dialling client attached.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// What its media went through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<MediaStats>,
    /// What was said; in `call.get` and `call.summary`, not in `call.list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Vec<Line>>,
}
