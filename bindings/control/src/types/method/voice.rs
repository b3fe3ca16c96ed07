//! Requests about what the agent says and what the caller is heard to say.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, Request, within};
use crate::types::call::{CallId, Encoding};

/// Longest text of a response; a transcript of it must still fit into one frame.
const MAX_TEXT: usize = 64 * 1024;
const VOICE_RATE: RangeInclusive<u32> = 8_000..=48_000;

/// `response.start`: opens a channel for one utterance of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseEndReply {
    /// What is still to be played.
    pub queued_ms: u64,
}

/// How far the agent's voice has come: the answer to `audio.halt`, `audio.resume`, `audio.clear` and `audio.position`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// `audio.duck`: lowers the agent's voice while the caller may be speaking, or brings it back; nothing is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AudioDuck {
    /// Which call.
    pub call: CallId,
    /// Lower, or as it was.
    pub ducked: bool,
    /// How much lower, 0 to 60 dB; as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth_db: Option<f32>,
    /// How long it takes to get there, 0 to 1000; as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_ms: Option<u32>,
    /// How long it takes to come back, 0 to 1000; as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_ms: Option<u32>,
}

impl Request for AudioDuck {
    const NAME: &'static str = "audio.duck";
    type Reply = Position;

    fn check(&self) -> Result<(), String> {
        self.depth_db.map_or(Ok(()), |db| within("depth_db", db, &(0.0..=60.0)))?;
        self.down_ms.map_or(Ok(()), |ms| within("down_ms", ms, &(0..=1_000)))?;
        self.up_ms.map_or(Ok(()), |ms| within("up_ms", ms, &(0..=1_000)))
    }
}

/// `media.subscribe`: the caller's audio, as frames from the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubscribeReply {
    /// What the audio frames come on.
    pub channel: u16,
}

/// `media.unsubscribe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MediaUnsubscribe {
    /// The channel that `media.subscribe` gave.
    pub channel: u16,
}

impl Request for MediaUnsubscribe {
    const NAME: &'static str = "media.unsubscribe";
    type Reply = Done;
}

about_call! {
    /// `audio.halt`: fades out and forgets what is queued; nothing plays until `audio.resume`.
    "audio.halt" AudioHalt => Position,
    /// `audio.resume`: ends a halt and begins a new turn.
    "audio.resume" AudioResume => Position,
    /// `audio.clear`: fades out and forgets what is queued; what comes then plays.
    "audio.clear" AudioClear => Position,
    /// `audio.position`: how far the agent's voice has come.
    "audio.position" AudioPosition => Position,
}
