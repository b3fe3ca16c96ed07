//! The tables that are a handful of keys each: `[media]`, `[jack]`, `[asr]`, `[turns]`,
//! `[detect]`, `[voice]`, `[clean]`, `[recording]`, `[control]`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// RTP and the media thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    pub bind_ip: IpAddr,
    #[serde(with = "port_range")]
    pub rtp_ports: RangeInclusive<u16>,
    pub codecs: Vec<CodecName>,
    pub ptime_ms: u8,
    pub comfort_noise: bool,
    pub srtp: Srtp,
    pub cores: Vec<usize>,
    pub realtime: bool,
    pub packets: Packets,
    pub lost_after_s: u64,
    pub digits_without_events: DigitsWithoutEvents,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            bind_ip: IpAddr::from([0, 0, 0, 0]),
            rtp_ports: 20000..=29999,
            codecs: vec![CodecName::Pcmu, CodecName::Pcma, CodecName::Opus, CodecName::G722],
            ptime_ms: 20,
            comfort_noise: false,
            srtp: Srtp::Off,
            cores: Vec::new(),
            realtime: true,
            packets: Packets::Auto,
            lost_after_s: 30,
            digits_without_events: DigitsWithoutEvents::Info,
        }
    }
}

/// A codec as SDP names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CodecName {
    Opus,
    G722,
    Pcmu,
    Pcma,
}

/// Whether audio is encrypted, with keys in the SDP (RFC 4568).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Never.
    Off,
    /// Where the far end can; offered beside plain audio.
    Optional,
    /// Always; a call without it fails.
    Required,
}

/// How the media thread reads and writes its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packets {
    /// By io_uring where it works.
    Auto,
    /// A system call for each.
    Plain,
    /// By io_uring; `doctor` warns where it does not work.
    IoUring,
}

/// `"20000-29999"` in the file, a range in the program.
mod port_range {
    use std::ops::RangeInclusive;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(range: &RangeInclusive<u16>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{}-{}", range.start(), range.end()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<RangeInclusive<u16>, D::Error> {
        let text = String::deserialize(d)?;
        text.split_once('-')
            .and_then(|(low, high)| Some(low.trim().parse().ok()?..=high.trim().parse().ok()?))
            .filter(|range: &RangeInclusive<u16>| *range.start() >= 1024 && range.end() > range.start())
            .ok_or_else(|| {
                D::Error::custom(format!(
                    "`{text}` is not a port range; write \"LOW-HIGH\" with 1024 <= LOW < HIGH <= 65535"
                ))
            })
    }
}

/// What is done to callers' audio before it is recognised, until a client says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clean {
    pub dc: bool,
    pub echo: bool,
    pub noise: bool,
    pub agc: bool,
}

/// Whether calls appear as ports of a JACK server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JackMode {
    /// Use a server that runs when the daemon starts.
    Auto,
    /// Use a server whenever one is there.
    On,
    /// Never.
    Off,
}

/// The JACK side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jack {
    pub mode: JackMode,
    pub server: String,
    pub client: String,
    pub clients: JackClients,
    pub max_clients: usize,
    pub patch_agent: bool,
    pub connect: Vec<JackConnect>,
}

/// Whose JACK client a call's ports belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JackClients {
    /// All calls' to one.
    One,
    /// Each call's to one of its own.
    PerCall,
}

/// Outputs that are connected to inputs as they appear: regular expressions on whole port names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JackConnect {
    pub from: String,
    pub to: String,
}

impl Default for Jack {
    fn default() -> Self {
        Self {
            mode: JackMode::Auto,
            server: String::new(),
            client: "mr-sip".to_owned(),
            clients: JackClients::One,
            max_clients: 200,
            patch_agent: true,
            connect: Vec::new(),
        }
    }
}

/// The ears.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asr {
    pub model: String,
    pub models_folder: Option<PathBuf>,
    pub language: String,
    pub vocabulary: Vec<String>,
    pub workers: usize,
    pub partial_interval_ms: u64,
    pub refuse_when_full: bool,
    pub detector: SpeechDetector,
    pub url: String,
    pub url_model: String,
    pub url_key: Secret,
    pub url_timeout_s: u64,
    pub url_ca: Option<PathBuf>,
}

/// What tells speech from other sounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpeechDetector {
    /// webrtc-vad.
    Webrtc,
    /// earshot, a neural network.
    Earshot,
}

impl Default for Asr {
    fn default() -> Self {
        Self {
            model: "telephone-en".to_owned(),
            models_folder: None,
            language: "en".to_owned(),
            vocabulary: Vec::new(),
            workers: 0,
            partial_interval_ms: 500,
            refuse_when_full: true,
            detector: SpeechDetector::Webrtc,
            url: String::new(),
            url_model: "whisper-1".to_owned(),
            url_key: Secret::default(),
            url_timeout_s: 10,
            url_ca: None,
        }
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turns {
    pub style: TurnStyle,
    pub end_of_turn_ms: u64,
    pub barge_in: bool,
    pub barge_in_ms: u64,
    pub barge_in_words: usize,
    pub barge_in_sure_ms: u64,
}

/// How callers are expected to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TurnStyle {
    /// Free talk.
    Open,
    /// Answers of a word or two.
    Quick,
    /// Numbers, dictated in groups.
    Digits,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            style: TurnStyle::Open,
            end_of_turn_ms: 500,
            barge_in: true,
            barge_in_ms: 120,
            barge_in_words: 0,
            barge_in_sure_ms: 1200,
        }
    }
}

/// How keys go to a far end that knows no telephone events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DigitsWithoutEvents {
    /// By SIP INFO.
    Info,
    /// As tones in the audio.
    Inband,
}

/// Whether keys are listened for in the audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InbandDigits {
    /// Where the far end agreed to no telephone events.
    Auto,
    /// On every call.
    On,
    /// Never.
    Off,
}

/// What is listened for besides words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detect {
    pub digits: InbandDigits,
    pub progress: bool,
    pub answered_by: bool,
    pub music: bool,
    pub after_answer_s: u64,
}

impl Default for Detect {
    fn default() -> Self {
        Self { digits: InbandDigits::Auto, progress: true, answered_by: true, music: true, after_answer_s: 30 }
    }
}

/// The agent's voice and what is played beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Voice {
    pub duck_db: u32,
    pub duck_ms: u32,
    pub restore_ms: u32,
    pub fade_ms: u32,
    pub folder: Option<PathBuf>,
}

impl Default for Voice {
    fn default() -> Self {
        Self { duck_db: 18, duck_ms: 10, restore_ms: 30, fade_ms: 20, folder: None }
    }
}

/// Recordings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recording {
    pub enabled: bool,
    pub folder: Option<PathBuf>,
}

impl Default for Recording {
    fn default() -> Self {
        Self { enabled: true, folder: None }
    }
}

/// The control socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    pub socket: Option<PathBuf>,
    pub grace_s: u64,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: None, grace_s: 5 }
    }
}
