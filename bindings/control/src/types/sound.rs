//! What is heard besides words, and why nothing is heard: the small words of events and requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The way a key goes or comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DigitsVia {
    /// As a telephone event (RFC 4733).
    #[default]
    Rfc4733,
    /// In a SIP INFO.
    Info,
    /// As its two tones, in the audio.
    Inband,
}

/// A tone that is no speech. A new one is read as `other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// It rings at the called.
    Ringback,
    /// The called is busy.
    Busy,
    /// No way through (reorder).
    Congestion,
    /// Three rising tones (special information): the number cannot be reached, and a voice will say why.
    Sit,
    /// An exchange waits for digits.
    Dial,
    /// A fax.
    Fax,
    /// An answering machine's.
    Beep,
    /// One that this version has no name for.
    #[serde(other)]
    Other,
}

/// Who has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnsweredBy {
    /// Somebody.
    Person,
    /// An answering machine, or another announcement.
    Machine,
    /// Nothing was said.
    #[serde(other)]
    Unknown,
}

/// Why audio does not come, or does not arrive at the far end. A new one is read as `other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediaReason {
    /// Nothing comes at all.
    NoPackets,
    /// What we send comes back as undeliverable (ICMP).
    Unreachable,
    /// Packets come from a host that the session description does not name.
    OtherSource,
    /// Packets come with a payload type that was not agreed on.
    UnknownPayload,
    /// SRTP was agreed, and what comes is not encrypted with the agreed key.
    NotAuthenticated,
    /// Comfort noise comes and never a word.
    OnlyComfortNoise,
    /// The far end reports (RTCP) that it receives nothing.
    FarEndHearsNothing,
    /// One that this version has no name for.
    #[serde(other)]
    Other,
}

/// What a call listens for in the sound; what is absent is as configured (`[detect]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Detect {
    /// Keys by their tones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digits: Option<bool>,
    /// The network's tones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<bool>,
    /// A person or a machine, and its beep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<bool>,
    /// Music, as for those who wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub music: Option<bool>,
}
