//! The tables that are a handful of keys each: `[media]`, `[jack]`, `[asr]`, `[turns]`, `[detect]`, `[recording]`, `[control]`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// RTP and the media thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    pub bind_ip: IpAddr,
    #[serde(with = "port_range")]
    pub rtp_ports: RangeInclusive<u16>,
    pub codecs: Vec<CodecName>,
    pub ptime_ms: u8,
    pub srtp: Srtp,
    pub cores: Vec<usize>,
    pub realtime: bool,
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
            srtp: Srtp::Off,
            cores: Vec::new(),
            realtime: true,
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
    pub workers: usize,
    pub partial_interval_ms: u64,
}

impl Default for Asr {
    fn default() -> Self {
        Self { model: "telephone-en".to_owned(), models_folder: None, workers: 0, partial_interval_ms: 500 }
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turns {
    pub end_of_turn_ms: u64,
    pub barge_in: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Self { end_of_turn_ms: 500, barge_in: true }
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
    pub after_answer_s: u64,
}

impl Default for Detect {
    fn default() -> Self {
        Self { digits: InbandDigits::Auto, progress: true, answered_by: true, after_answer_s: 30 }
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
