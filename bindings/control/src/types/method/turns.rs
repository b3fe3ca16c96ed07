//! Requests about whose turn it is, and text of recognisers that are the client's.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, Request, within};
use crate::types::call::CallId;

/// Bounds of the silences that end a turn.
const SILENCE_MS: RangeInclusive<u64> = 100..=10_000;
const BARGE_IN_MS: RangeInclusive<u64> = 40..=5_000;
/// Most words that may be told beforehand, and the bytes of all of them.
const MAX_VOCABULARY: usize = 100;
const MAX_VOCABULARY_BYTES: usize = 1_000;
/// Longest text of one `transcript.push`.
const MAX_PUSH: usize = 16 * 1024;

/// How the caller is expected to talk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TurnStyle {
    /// Free talk.
    #[default]
    Open,
    /// A word or a short phrase in answer to a question.
    Quick,
    /// A number, dictated in groups.
    Digits,
}

/// Who turns the caller's audio into text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecognizedBy {
    /// The daemon.
    #[default]
    BuiltIn,
    /// A client, by `transcript.push`.
    Client,
}

/// `turn.policy`: when it is whose turn on a call. What is not named stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnPolicy {
    /// Which call.
    pub call: CallId,
    /// How the caller is expected to talk; sets the three silences to what goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<TurnStyle>,
    /// Silence that ends a turn whose text is a whole phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_ms: Option<u64>,
    /// Silence that ends a turn whose text tells nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_turn_ms: Option<u64>,
    /// Silence that ends a turn whose text wants more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete_ms: Option<u64>,
    /// How many digits the number has that is expected; 0: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digits: Option<u64>,
    /// Whether the caller's speech stops the agent's voice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barge_in: Option<bool>,
    /// Voice that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barge_in_ms: Option<u64>,
    /// Words that it takes; 0: the voice alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barge_in_words: Option<u64>,
    /// Voice that does it without words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barge_in_sure_ms: Option<u64>,
    /// The caller's language, as Whisper names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Words that may come: names, products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<Vec<String>>,
    /// Who the recogniser is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recognizer: Option<RecognizedBy>,
}

impl TurnPolicy {
    /// Asks how it is, and changes nothing.
    pub fn new(call: CallId) -> Self {
        Self {
            call,
            style: None,
            complete_ms: None,
            end_of_turn_ms: None,
            incomplete_ms: None,
            digits: None,
            barge_in: None,
            barge_in_ms: None,
            barge_in_words: None,
            barge_in_sure_ms: None,
            language: None,
            vocabulary: None,
            recognizer: None,
        }
    }
}

impl Request for TurnPolicy {
    const NAME: &'static str = "turn.policy";
    type Reply = TurnPolicyReply;

    fn check(&self) -> Result<(), String> {
        let check = |name, value: Option<u64>, range: &RangeInclusive<u64>| {
            value.map_or(Ok(()), |value| within(name, value, range))
        };
        check("complete_ms", self.complete_ms, &SILENCE_MS)?;
        check("end_of_turn_ms", self.end_of_turn_ms, &SILENCE_MS)?;
        check("incomplete_ms", self.incomplete_ms, &SILENCE_MS)?;
        check("digits", self.digits, &(0..=64))?;
        check("barge_in_ms", self.barge_in_ms, &BARGE_IN_MS)?;
        check("barge_in_words", self.barge_in_words, &(0..=10))?;
        check("barge_in_sure_ms", self.barge_in_sure_ms, &BARGE_IN_MS)?;
        if let Some(language) = &self.language {
            super::name("language", language)?;
        }
        let words = self.vocabulary.as_deref().unwrap_or_default();
        if words.len() > MAX_VOCABULARY {
            return Err(format!("`vocabulary`: {} words: at most {MAX_VOCABULARY}", words.len()));
        }
        for (nth, word) in words.iter().enumerate() {
            super::name(&format!("vocabulary[{nth}]"), word)?;
        }
        match words.iter().map(String::len).sum::<usize>() {
            bytes if bytes > MAX_VOCABULARY_BYTES => {
                Err(format!("`vocabulary`: {bytes} bytes: at most {MAX_VOCABULARY_BYTES}"))
            }
            _ => Ok(()),
        }
    }
}

/// The answer to [`TurnPolicy`]: how it is now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnPolicyReply {
    /// How the caller is expected to talk.
    pub style: TurnStyle,
    /// Silence that ends a turn whose text is a whole phrase.
    pub complete_ms: u64,
    /// Silence that ends a turn whose text tells nothing.
    pub end_of_turn_ms: u64,
    /// Silence that ends a turn whose text wants more.
    pub incomplete_ms: u64,
    /// How many digits are expected; 0: not known.
    pub digits: u64,
    /// Whether the caller's speech stops the agent's voice.
    pub barge_in: bool,
    /// Voice that it takes.
    pub barge_in_ms: u64,
    /// Words that it takes.
    pub barge_in_words: u64,
    /// Voice that does it without words.
    pub barge_in_sure_ms: u64,
    /// The caller's language.
    pub language: String,
    /// Words that may come.
    #[serde(default)]
    pub vocabulary: Vec<String>,
    /// Who the recogniser is.
    pub recognizer: RecognizedBy,
}

/// `transcript.push`: what a client's recogniser has heard on a call that is set to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TranscriptPush {
    /// Which call.
    pub call: CallId,
    /// The words since those that were settled last.
    pub text: String,
    /// They will not change any more; without it the next push replaces them.
    #[serde(default)]
    pub settled: bool,
    /// The recogniser says that the caller's turn is over.
    #[serde(default)]
    pub end_of_turn: bool,
}

impl Request for TranscriptPush {
    const NAME: &'static str = "transcript.push";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        if self.text.len() > MAX_PUSH {
            return Err(format!("`text`: {} bytes: at most {MAX_PUSH}", self.text.len()));
        }
        if self.text.chars().any(char::is_control) {
            return Err("`text`: must not hold control characters".into());
        }
        Ok(())
    }
}
