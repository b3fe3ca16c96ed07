//! Requests: what a client may ask, with its bounds, and what it gets.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::call::{Call, CallId, Encoding};
use super::error::{ApiError, ErrorCode};
use super::status::Status;

/// The version of the protocol that is spoken here.
pub const PROTOCOL: u32 = 1;

/// Longest destination or account name, in bytes.
const MAX_NAME: usize = 512;
/// Longest text of a response; a transcript of it must still fit into one frame.
const MAX_TEXT: usize = 64 * 1024;
/// Most digits of one `call.dtmf`.
const MAX_DIGITS: usize = 64;
/// The far end needs 40 ms to recognise a digit (ITU-T Q.24); RFC 4733's duration field ends at 8191 ms at 8 kHz.
const DIGIT_MS: RangeInclusive<u32> = 40..=8000;
const GAP_MS: RangeInclusive<u32> = 30..=8000;
/// From one second to the longest that networks let a phone ring.
const DIAL_TIMEOUT_MS: RangeInclusive<u64> = 1_000..=600_000;
const VOICE_RATE: RangeInclusive<u32> = 8_000..=48_000;

/// One kind of request: its name and what comes back.
pub trait Request: Serialize + DeserializeOwned {
    /// The method's name on the wire.
    const NAME: &'static str;
    /// The shape of its result.
    type Reply: Serialize + DeserializeOwned;

    /// Whether every field is within its bounds.
    ///
    /// # Errors
    /// The field at fault and what is allowed.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// `Method` and the table of names from one list, so that none can be forgotten.
macro_rules! methods {
    ($($name:literal $kind:ident => $reply:ty),* $(,)?) => {
        /// A request that was read and found to be within bounds.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Method {
            $(#[doc = concat!("`", $name, "`")] $kind($kind),)*
        }

        impl Method {
            /// Every method's name.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Reads a request.
            ///
            /// # Errors
            /// -32601 for a name that is not known, -32602 for parameters that do not fit: the message names the field and
            /// what is allowed.
            pub fn parse(name: &str, params: Value) -> Result<Self, ApiError> {
                match name {
                    $($name => read::<$kind>(params).map(Self::$kind),)*
                    other => Err(ApiError::new(
                        ErrorCode::MethodNotFound,
                        format!("there is no method {:?}", shorten(other)),
                    )),
                }
            }

            /// The name on the wire.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }
        }

        $(impl From<$kind> for Method {
            fn from(request: $kind) -> Self {
                Self::$kind(request)
            }
        })*
    };
}

methods! {
    "hello" Hello => HelloReply,
    "call.dial" CallDial => DialReply,
    "call.answer" CallAnswer => Done,
    "call.reject" CallReject => Done,
    "call.hangup" CallHangup => Done,
    "call.dtmf" CallDtmf => Done,
    "call.list" CallList => CallListReply,
    "call.get" CallGet => Call,
    "response.start" ResponseStart => ResponseStartReply,
    "response.end" ResponseEnd => ResponseEndReply,
    "audio.halt" AudioHalt => Position,
    "audio.resume" AudioResume => Position,
    "audio.clear" AudioClear => Position,
    "audio.position" AudioPosition => Position,
    "media.subscribe" MediaSubscribe => SubscribeReply,
    "media.unsubscribe" MediaUnsubscribe => Done,
    "daemon.status" DaemonStatus => Status,
    "daemon.shutdown" DaemonShutdown => Done,
}

fn read<R: Request>(params: Value) -> Result<R, ApiError> {
    let params = match params {
        Value::Null => Value::Object(Map::new()),
        Value::Object(mut fields) => {
            // absent and null are the same
            fields.retain(|_, value| !value.is_null());
            Value::Object(fields)
        }
        _ => {
            return Err(ApiError::invalid_params(format!("{}: params must be an object", R::NAME)));
        }
    };
    let request: R = serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        let what = error.into_inner();
        ApiError::invalid_params(match path.as_str() {
            "." => format!("{}: {what}", R::NAME),
            field => format!("{}: `{field}`: {what}", R::NAME),
        })
    })?;
    request.check().map_err(|what| ApiError::invalid_params(format!("{}: {what}", R::NAME)))?;
    Ok(request)
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

fn within<T: PartialOrd + std::fmt::Display>(field: &str, value: T, range: &RangeInclusive<T>) -> Result<(), String> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(format!("`{field}`: {value}: from {} to {}", range.start(), range.end()))
    }
}

/// Names go into SIP headers and logs: no control characters (CR and LF above all), not empty, not endless.
fn name(field: &str, value: &str) -> Result<(), String> {
    if value.trim().is_empty() {
        Err(format!("`{field}`: must not be empty"))
    } else if value.len() > MAX_NAME {
        Err(format!("`{field}`: {} bytes: at most {MAX_NAME}", value.len()))
    } else if value.chars().any(char::is_control) {
        Err(format!("`{field}`: must not hold control characters"))
    } else {
        Ok(())
    }
}

/// The result of what has nothing to tell: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// Which calls' events a client gets. Those of accounts, JACK and the daemon itself come with `own` and `all`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventFilter {
    /// Of its own calls, and of those nobody owns yet.
    #[default]
    Own,
    /// Of all calls.
    All,
    /// None.
    None,
}

/// `hello`: the first request of a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The client's name, for logs and `owner`.
    pub client: String,
    /// The version it speaks: [`PROTOCOL`].
    pub protocol: u32,
    /// Features it would use; what is not known is ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Which events it wants.
    #[serde(default)]
    pub events: EventFilter,
    /// The token of a lost connection, to take over its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Request for Hello {
    const NAME: &'static str = "hello";
    type Reply = HelloReply;

    fn check(&self) -> Result<(), String> {
        name("client", &self.client)
    }
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HelloReply {
    /// `mr-sip`.
    pub server: String,
    /// The daemon's version.
    pub version: String,
    /// The version of the protocol.
    pub protocol: u32,
    /// What the daemon can do beyond version 1.
    #[serde(default)]
    pub features: Vec<String>,
    /// The session's number, which stays the same when it is resumed.
    pub session: u64,
    /// What resumes this session after a lost connection. Secret.
    pub token: String,
    /// The calls that this client owned and owns again.
    #[serde(default)]
    pub resumed: Vec<CallId>,
}

/// `call.dial`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CallDial {
    /// A SIP URI, or what an account's dialling rules make one of.
    pub to: String,
    /// The account to call through; the first one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// How long it may ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether to record it; as configured when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<bool>,
    /// Anything; comes back in [`Call`].
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Request for CallDial {
    const NAME: &'static str = "call.dial";
    type Reply = DialReply;

    fn check(&self) -> Result<(), String> {
        name("to", &self.to)?;
        self.account.as_deref().map_or(Ok(()), |account| name("account", account))?;
        self.timeout_ms.map_or(Ok(()), |timeout| within("timeout_ms", timeout, &DIAL_TIMEOUT_MS))
    }
}

/// The answer to [`CallDial`]: the call exists, all else comes as events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DialReply {
    /// The new call.
    pub call: CallId,
}

/// A request that names a call and nothing else.
macro_rules! about_call {
    ($($(#[$doc:meta])* $name:literal $kind:ident => $reply:ty),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $kind {
            /// Which call.
            pub call: CallId,
        }

        impl Request for $kind {
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    )*};
}

about_call! {
    /// `call.answer`: answers an incoming call and makes the client its owner.
    "call.answer" CallAnswer => Done,
    /// `call.get`: one call with its transcript; ended calls are kept for a while.
    "call.get" CallGet => Call,
    /// `audio.halt`: fades out and forgets what is queued; nothing plays until `audio.resume`.
    "audio.halt" AudioHalt => Position,
    /// `audio.resume`: ends a halt and begins a new turn.
    "audio.resume" AudioResume => Position,
    /// `audio.clear`: fades out and forgets what is queued; what comes then plays.
    "audio.clear" AudioClear => Position,
    /// `audio.position`: how far the agent's voice has come.
    "audio.position" AudioPosition => Position,
}

/// `call.hangup`: ends a call in whatever state it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallHangup {
    /// Which call.
    pub call: CallId,
    /// Also when another client owns it.
    #[serde(default)]
    pub force: bool,
}

impl CallHangup {
    /// Ends a call of this client's.
    pub fn new(call: CallId) -> Self {
        Self { call, force: false }
    }
}

impl Request for CallHangup {
    const NAME: &'static str = "call.hangup";
    type Reply = Done;
}

/// `call.reject`: refuses an incoming call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallReject {
    /// Which call.
    pub call: CallId,
    /// The SIP status, 400 to 699.
    #[serde(default = "busy_here")]
    pub status: u16,
}

fn busy_here() -> u16 {
    486
}

impl Request for CallReject {
    const NAME: &'static str = "call.reject";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        within("status", self.status, &(400..=699))
    }
}

/// `call.dtmf`: presses keys, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallDtmf {
    /// Which call.
    pub call: CallId,
    /// `0`-`9`, `*`, `#`, `A`-`D`; small letters become capitals.
    pub digits: String,
    /// How long each is held.
    #[serde(default = "digit_ms")]
    pub duration_ms: u32,
    /// The pause after each.
    #[serde(default = "gap_ms")]
    pub gap_ms: u32,
    /// Also when another client owns the call.
    #[serde(default)]
    pub force: bool,
}

fn digit_ms() -> u32 {
    120
}

fn gap_ms() -> u32 {
    60
}

impl CallDtmf {
    /// The digits with the usual timing.
    pub fn new(call: CallId, digits: impl Into<String>) -> Self {
        Self { call, digits: digits.into(), duration_ms: digit_ms(), gap_ms: gap_ms(), force: false }
    }
}

impl Request for CallDtmf {
    const NAME: &'static str = "call.dtmf";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        let known = |digit: char| matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d');
        if let Some(other) = self.digits.chars().find(|digit| !known(*digit)) {
            return Err(format!("`digits`: {other:?}: allowed are 0-9 * # A-D"));
        }
        if self.digits.is_empty() || self.digits.len() > MAX_DIGITS {
            return Err(format!("`digits`: {} of them: from 1 to {MAX_DIGITS}", self.digits.len()));
        }
        within("duration_ms", self.duration_ms, &DIGIT_MS)?;
        within("gap_ms", self.gap_ms, &GAP_MS)
    }
}

/// `call.list`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CallList {}

impl Request for CallList {
    const NAME: &'static str = "call.list";
    type Reply = CallListReply;
}

/// The answer to [`CallList`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CallListReply {
    /// Every call that has not ended, without transcripts.
    pub calls: Vec<Call>,
}

/// `response.start`: opens a channel for one utterance of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseStart {
    /// Which call.
    pub call: CallId,
    /// Sample rate of the audio that will come, 8000 to 48000.
    #[serde(default = "phone_rate")]
    pub rate: u32,
    /// Encoding of the audio that will come.
    #[serde(default)]
    pub encoding: Encoding,
    /// What will be said, for the transcript.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

fn phone_rate() -> u32 {
    8000
}

impl ResponseStart {
    /// A response in s16 at 8000 Hz, without text.
    pub fn new(call: CallId) -> Self {
        Self { call, rate: phone_rate(), encoding: Encoding::S16, text: None }
    }
}

impl Request for ResponseStart {
    const NAME: &'static str = "response.start";
    type Reply = ResponseStartReply;

    fn check(&self) -> Result<(), String> {
        within("rate", self.rate, &VOICE_RATE)?;
        match &self.text {
            Some(text) if text.len() > MAX_TEXT => Err(format!("`text`: {} bytes: at most {MAX_TEXT}", text.len())),
            _ => Ok(()),
        }
    }
}

/// The answer to [`ResponseStart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseStartReply {
    /// The response's number.
    pub response: u64,
    /// What audio frames carry; after `audio.halt` or `audio.clear` frames of this generation are discarded.
    pub generation: u64,
    /// What audio frames are sent on.
    pub channel: u16,
    /// How much audio may be sent beyond what was played.
    pub window_ms: u64,
}

/// `response.end`: no more audio will come. What is queued plays out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseEnd {
    /// Which call.
    pub call: CallId,
    /// Which response.
    pub response: u64,
}

impl Request for ResponseEnd {
    const NAME: &'static str = "response.end";
    type Reply = ResponseEndReply;
}

/// The answer to [`ResponseEnd`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseEndReply {
    /// What is still to be played.
    pub queued_ms: u64,
}

/// How far the agent's voice has come: the answer to `audio.halt`, `audio.resume`, `audio.clear` and `audio.position`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Whether a halt is in force.
    pub halted: bool,
    /// The current generation.
    pub generation: u64,
    /// The response that plays or played last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<u64>,
    /// How much of that response was sent to the caller.
    pub played_ms: u64,
    /// How much was sent to the caller since the last resume or the turn's beginning, over all responses.
    pub turn_ms: u64,
    /// What waits to be played.
    pub queued_ms: u64,
}

/// `media.subscribe`: the caller's audio, as frames from the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaSubscribe {
    /// Which call.
    pub call: CallId,
    /// 8000 or 16000.
    #[serde(default = "phone_rate")]
    pub rate: u32,
    /// How the samples are written.
    #[serde(default)]
    pub encoding: Encoding,
}

impl Request for MediaSubscribe {
    const NAME: &'static str = "media.subscribe";
    type Reply = SubscribeReply;

    fn check(&self) -> Result<(), String> {
        match self.rate {
            8000 | 16000 => Ok(()),
            other => Err(format!("`rate`: {other}: 8000 or 16000")),
        }
    }
}

/// The answer to [`MediaSubscribe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscribeReply {
    /// What the audio frames come on.
    pub channel: u16,
}

/// `media.unsubscribe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaUnsubscribe {
    /// The channel that `media.subscribe` gave.
    pub channel: u16,
}

impl Request for MediaUnsubscribe {
    const NAME: &'static str = "media.unsubscribe";
    type Reply = Done;
}

/// `daemon.status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {}

impl Request for DaemonStatus {
    const NAME: &'static str = "daemon.status";
    type Reply = Status;
}

/// `daemon.shutdown`: hangs up all calls and ends the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DaemonShutdown {}

impl Request for DaemonShutdown {
    const NAME: &'static str = "daemon.shutdown";
    type Reply = Done;
}
