//! What the ears tell the rest of the daemon.

use std::{fmt, time::Duration};

use crate::words::Word;

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
/// its one `Final`, and so does each `Eager`, of which every one but the last was taken back by `Resumed`; `Closed` is the last.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EarsEvent {
    /// The caller may be speaking: `SpeechStart` or `OnsetOver` follows.
    Onset {
        /// Which stream.
        stream: StreamId,
        /// When the first voiced frame began.
        at: Duration,
    },
    /// The caller was not speaking: it was a cough or a click.
    OnsetOver {
        /// Which stream.
        stream: StreamId,
    },
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
        /// Its first so many words will be the same in all further partials of the utterance.
        confirmed: usize,
        /// Where the utterance's speech began.
        start: Duration,
        /// Up to where it was heard.
        end: Duration,
    },
    /// The caller pauses, and this is what was said: perhaps all. `Final` (with the same text, if nothing more was said)
    /// or `Resumed` follows.
    Eager {
        /// Which stream.
        stream: StreamId,
        /// Number of the utterance in its stream, from 1.
        utterance: u32,
        /// The whole utterance's text; never empty.
        text: String,
        /// Where the utterance's speech began.
        start: Duration,
        /// Where its speech stopped.
        end: Duration,
    },
    /// The caller goes on: the utterance's `Eager` is taken back.
    Resumed {
        /// Which stream.
        stream: StreamId,
        /// Number of the utterance in its stream, from 1.
        utterance: u32,
        /// When the speech began again.
        at: Duration,
    },
    /// The caller interrupts the agent, by the rule of [`BargeIn`](crate::BargeIn). Told once a spell of speech.
    BargeIn {
        /// Which stream.
        stream: StreamId,
    },
    /// The utterance is over and this is its text.
    Final {
        /// Which stream.
        stream: StreamId,
        /// Number of the utterance in its stream, from 1.
        utterance: u32,
        /// The text; empty when nothing was understood or the sound was no speech.
        text: String,
        /// It is what the last `Eager` said: who has begun to answer that may go on.
        as_eager: bool,
        /// It was said while the agent spoke, did not interrupt it, and only shows that the caller listens ("uh-huh").
        backchannel: bool,
        /// The words of `text`, and an estimate of when each was said.
        words: Vec<Word>,
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
    /// A job was not done, and its text is lost: the recogniser failed, for this reason.
    RecognizerFailed {
        /// The stream it was working for.
        stream: StreamId,
        /// Why, in a sentence.
        reason: String,
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
            Self::Onset { stream, .. }
            | Self::OnsetOver { stream }
            | Self::SpeechStart { stream, .. }
            | Self::SpeechStop { stream, .. }
            | Self::Partial { stream, .. }
            | Self::Eager { stream, .. }
            | Self::Resumed { stream, .. }
            | Self::BargeIn { stream }
            | Self::Final { stream, .. }
            | Self::Closed { stream }
            | Self::RecognizerFailed { stream, .. }
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
