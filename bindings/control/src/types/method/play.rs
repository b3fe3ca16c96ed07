//! Requests about files and tones that the far end hears, beside the agent's voice or in its place.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, Request, within};
use crate::types::call::CallId;

/// Longest path, in bytes: what Linux takes.
const MAX_PATH: usize = 4096;
const GAIN_DB: RangeInclusive<f32> = -60.0..=20.0;
const FREQUENCY_HZ: RangeInclusive<f32> = 20.0..=3_900.0;
const MAX_FREQUENCIES: usize = 4;
const CADENCE_MS: RangeInclusive<u32> = 0..=60_000;
/// A day.
const FOR_MS: RangeInclusive<u32> = 20..=86_400_000;

/// Beside the agent's voice or in its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlayMode {
    /// Added to the voice.
    #[default]
    Mix,
    /// The voice waits until the player is over.
    Instead,
}

/// Tones that have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToneName {
    /// The dial tone.
    Dial,
    /// It rings at the far end.
    Ringback,
    /// The far end is busy.
    Busy,
    /// The network is busy.
    Congestion,
    /// The special information tone, once.
    Sit,
    /// A short tone, once.
    Beep,
}

/// Whose tones are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToneRegion {
    /// Most of Europe: 425 Hz.
    #[default]
    Eu,
    /// North America: the precise tone plan.
    Us,
}

fn yes() -> bool {
    true
}

fn gain_db(value: f32) -> Result<(), String> {
    within("gain_db", value, &GAIN_DB)
}

/// `play.file`: plays a WAV file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlayFile {
    /// Which call.
    pub call: CallId,
    /// An absolute path, or one under the configured folder (`voice.folder`).
    pub path: String,
    /// Beside the voice or in its place.
    #[serde(default)]
    pub mode: PlayMode,
    /// Whether `audio.halt`, `audio.clear` and barge-in end it, and ducking lowers it.
    #[serde(default = "yes")]
    pub bargeable: bool,
    /// How much louder it is than it came, -60 to 20.
    #[serde(default)]
    pub gain_db: f32,
}

impl Request for PlayFile {
    const NAME: &'static str = "play.file";
    type Reply = PlayReply;

    fn check(&self) -> Result<(), String> {
        gain_db(self.gain_db)?;
        if self.path.is_empty() || self.path.len() > MAX_PATH {
            Err(format!("`path`: {} bytes: from 1 to {MAX_PATH}", self.path.len()))
        } else if self.path.chars().any(char::is_control) {
            Err("`path`: must not hold control characters".to_owned())
        } else {
            Ok(())
        }
    }
}

/// `play.tone`: plays a tone that has a name, or frequencies in a cadence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlayTone {
    /// Which call.
    pub call: CallId,
    /// The tone's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tone: Option<ToneName>,
    /// Whose tone of that name.
    #[serde(default)]
    pub region: ToneRegion,
    /// Instead of a name: up to four frequencies at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frequencies_hz: Vec<f32>,
    /// How long they sound before a pause; 0: all the time.
    #[serde(default)]
    pub on_ms: u32,
    /// The pause.
    #[serde(default)]
    pub off_ms: u32,
    /// How long all of it lasts; absent: until it is stopped (a beep and the special information tone end by themselves).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u32>,
    /// Beside the voice or in its place.
    #[serde(default)]
    pub mode: PlayMode,
    /// Whether `audio.halt`, `audio.clear` and barge-in end it, and ducking lowers it.
    #[serde(default = "yes")]
    pub bargeable: bool,
    /// How much louder than usual (-16 dBFS for each frequency), -60 to 20.
    #[serde(default)]
    pub gain_db: f32,
}

impl Request for PlayTone {
    const NAME: &'static str = "play.tone";
    type Reply = PlayReply;

    fn check(&self) -> Result<(), String> {
        gain_db(self.gain_db)?;
        if self.tone.is_some() != self.frequencies_hz.is_empty() {
            return Err("either `tone` or `frequencies_hz` is needed".to_owned());
        }
        if self.frequencies_hz.len() > MAX_FREQUENCIES {
            return Err(format!("`frequencies_hz`: {} of them: at most {MAX_FREQUENCIES}", self.frequencies_hz.len()));
        }
        self.frequencies_hz.iter().try_for_each(|hz| within("frequencies_hz", *hz, &FREQUENCY_HZ))?;
        within("on_ms", self.on_ms, &CADENCE_MS)?;
        within("off_ms", self.off_ms, &CADENCE_MS)?;
        self.for_ms.map_or(Ok(()), |ms| within("for_ms", ms, &FOR_MS))
    }
}

/// The answer to [`PlayFile`] and [`PlayTone`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlayReply {
    /// The player's number, in its call.
    pub play: u64,
}

/// `play.stop`: fades a player out; `play.finished` follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlayStop {
    /// Which call.
    pub call: CallId,
    /// Which player.
    pub play: u64,
}

impl Request for PlayStop {
    const NAME: &'static str = "play.stop";
    type Reply = Done;
}
