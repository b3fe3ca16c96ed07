//! What the ears tell the rest of the daemon.

use std::{fmt, time::Duration};

/// One call's stream of caller samples. The daemon uses the call's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// Something heard. Times (`at`, `start`, `end`) are of the stream's own sample clock: 0 is its first sample.
///
/// A stream's events come in order: `SpeechStart` and `SpeechStop` alternate strictly; an utterance (numbered from 1
/// in each stream) is one or more such spells of speech, or a part of one that was too long; its `Partial`s come before
/// its one `Final`; `Closed` is the last.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EarsEvent {
    /// The caller is speaking (confirmed, see [`TurnPolicy::confirm_after`](crate::TurnPolicy::confirm_after)).
    SpeechStart {
        /// Which stream.
        stream: StreamId,
        /// When the first voiced frame began.
        at: Duration,
    },
    /// The caller paused. The turn is not over yet: another `SpeechStart` may follow in the same utterance.
    SpeechStop {
        /// Which stream.
        stream: StreamId,
        /// When the last voiced frame ended.
        at: Duration,
    },
    /// What has been understood so far of an utterance that goes on. Replaces the utterance's earlier partials.
    Partial {
        /// Which stream.
        stream: StreamId,
        /// Number of the utterance in its stream, from 1.
        utterance: u32,
        /// The whole utterance's text up to `end`; never empty.
        text: String,
        /// Where the utterance's speech began.
        start: Duration,
        /// Up to where it was heard.
        end: Duration,
    },
    /// The utterance is over and this is its text.
    Final {
        /// Which stream.
        stream: StreamId,
        /// Number of the utterance in its stream, from 1.
        utterance: u32,
        /// The text; empty when nothing was understood or the sound was no speech.
        text: String,
        /// Where the utterance's speech began.
        start: Duration,
        /// Where the utterance's speech ended.
        end: Duration,
        /// From the end of speech to this event: the silence that was waited for plus the recogniser's time.
        latency: Duration,
    },
    /// The stream was removed (or its producer went away) and all its finals have been given out.
    Closed {
        /// Which stream.
        stream: StreamId,
    },
    /// A recogniser died or hung and was built again; its job was given to it once more.
    WorkerRestarted {
        /// Which worker, from 0.
        worker: usize,
        /// The stream it was working for.
        stream: StreamId,
        /// What happened.
        cause: RestartCause,
    },
}

impl EarsEvent {
    /// The stream that the event is about.
    pub fn stream(&self) -> StreamId {
        match *self {
            Self::SpeechStart { stream, .. }
            | Self::SpeechStop { stream, .. }
            | Self::Partial { stream, .. }
            | Self::Final { stream, .. }
            | Self::Closed { stream }
            | Self::WorkerRestarted { stream, .. } => stream,
        }
    }
}

/// Why a recogniser was built again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestartCause {
    /// It panicked, with this message.
    Panicked(String),
    /// It did not come back within [`EarsConfig::stuck_after`](crate::EarsConfig::stuck_after).
    Stuck,
}

impl fmt::Display for RestartCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Stuck => write!(f, "did not come back in time"),
        }
    }
}
