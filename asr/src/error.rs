//! The one error type of this crate. Every message is one sentence that a user can act on.

use std::path::PathBuf;

/// What can go wrong with the ears.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AsrError {
    /// No model of that name was found in any of the folders searched.
    #[error("speech model \"{name}\" not found: {advice} (looked in {searched})")]
    ModelNotFound {
        /// What was asked for.
        name: String,
        /// What to download or to check.
        advice: String,
        /// The folders that were searched.
        searched: String,
    },
    /// The file is there but is no ggml Whisper model, or only a part of one.
    #[error("{} is not a usable speech model: {reason}", path.display())]
    BadModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// whisper.cpp could not load the model or make a state.
    #[error("whisper could not be started: {0}")]
    Whisper(String),
    /// A thread could not be started.
    #[error("could not start thread {name}: {source}")]
    Thread {
        /// The thread's name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// A configured value is outside what is allowed.
    #[error("{0}")]
    Config(String),
    /// The ears have been shut down, or their listener thread has died.
    #[error("the ears are not running")]
    Stopped,
}
