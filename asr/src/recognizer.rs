//! The seam between the workers and whatever turns audio into text. Whisper is the real one; tests
//! put a fake behind it.

use std::sync::atomic::AtomicBool;

use crate::AsrError;

/// What a call's recogniser is told beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hints {
    /// Words that may come: names, products, the sentence before. A model that was trained with prompts (Whisper's own
    /// are) leans towards them; each costs time, so only the last few dozen tokens count.
    pub prompt: String,
    /// The language, as Whisper names it (`en`, `de`, ... or `auto`), in place of the configured one.
    pub language: Option<String>,
}

/// What a recogniser makes of one utterance, before any guard has judged it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// The text, as the model wrote it.
    pub text: String,
    /// Text tokens in it.
    pub tokens: usize,
    /// Mean natural logarithm of the tokens' probabilities; 0 is certainty.
    pub mean_log_prob: f32,
    /// Probability that there is no speech at all, 0 to 1.
    pub no_speech: f32,
    /// The token limit was reached before the model was done: mostly a loop.
    pub cut_off: bool,
}

/// Why there is no hypothesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecognizeError {
    /// `abort` was set while it worked.
    #[error("aborted")]
    Aborted,
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

/// One worker's recogniser. It is made on its worker's thread and stays there.
pub trait Recognizer {
    /// Recognises one utterance of 16 kHz mono samples. Should look at `abort` now and then.
    ///
    /// # Errors
    /// See [`RecognizeError`].
    fn recognize(&mut self, samples: &[f32], hints: &Hints, abort: &AtomicBool) -> Result<Hypothesis, RecognizeError>;
}

/// Makes a recogniser for each worker: at the start, and again after one has died.
pub trait Recognizers: Send + Sync + 'static {
    /// A new recogniser, for the calling thread.
    ///
    /// # Errors
    /// There is no memory for it, or the model is of no use.
    fn create(&self) -> Result<Box<dyn Recognizer + '_>, AsrError>;
}
