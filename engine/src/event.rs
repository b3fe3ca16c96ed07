//! What a call's media has to say to the rest of the daemon.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::call::MediaFault;
use crate::detect::{CallTone, Party};
use crate::play::{PlayEnd, PlayId};
use crate::voice::Generation;

/// The number of a call, the same in every room of the daemon; shown as `c17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u32);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// How a key came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeysBy {
    /// As a telephone event (RFC 4733).
    Event,
    /// As its tones, in the audio.
    Sound,
}

/// Something that happened in the media of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MediaEvent {
    /// The caller pressed a key. Said once a key, when it is released.
    Digit {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held, as far as it was heard.
        duration: Duration,
        /// How it came.
        by: KeysBy,
    },
    /// A tone was heard that is no speech.
    Tone {
        /// Which.
        tone: CallTone,
        /// How sure that is, in percent.
        confidence: u8,
    },
    /// Who has answered, by what was said first. May be said again, when the beep of a machine is heard later.
    AnsweredBy {
        /// Who.
        party: Party,
        /// How sure that is, in percent.
        confidence: u8,
        /// How long after the answer it became clear.
        after: Duration,
    },
    /// Music plays, as for those who wait, or does no longer.
    Music {
        /// Whether it does now.
        playing: bool,
        /// How sure that is, in percent.
        confidence: u8,
    },
    /// No packet has come for the configured time although the far end should be sending (case 31). Said again when more is
    /// known about why.
    MediaLost {
        /// Why, as far as it can be told.
        fault: MediaFault,
    },
    /// Packets come, and yet one of the two ends hears nothing. Not a reason to end the call.
    OneWay {
        /// Why.
        fault: MediaFault,
    },
    /// All is well again after [`MediaLost`](Self::MediaLost) or [`OneWay`](Self::OneWay).
    MediaFound,
    /// The first sample of a response goes out.
    ResponseStarted {
        /// Which response.
        generation: Generation,
    },
    /// A response is over: played to its end, or cut.
    ResponseFinished {
        /// Which response.
        generation: Generation,
        /// Its samples that were sent, at 8 kHz.
        played: u64,
        /// Whether it was halted or cleared before its end.
        interrupted: bool,
    },
    /// A response that has not ended has no samples: comfort noise is sent until more come. Said once a gap.
    Underrun {
        /// Which response.
        generation: Generation,
        /// Its samples that were sent before the gap.
        played: u64,
    },
    /// A player is over.
    PlayFinished {
        /// Which player.
        play: PlayId,
        /// Its samples that were sent, at 8 kHz.
        played: u64,
        /// Why.
        reason: PlayEnd,
    },
    /// The call's JACK ports are gone or silent; the agent's voice goes to the caller directly.
    JackLost,
    /// The call is on its JACK ports (again).
    JackBack,
    /// News of one of the call's recordings.
    Recording(Box<RecordingNews>),
}

/// News of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingNews {
    /// The file.
    pub path: PathBuf,
    /// What happened.
    pub state: RecordingState,
    /// How much was recorded so far, without pauses; over all files, if one was not enough.
    pub length: Duration,
}

/// What happened to a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingState {
    /// The file is there.
    Started,
    /// The file before was full; it goes on in this one.
    Continued,
    /// All of it is on disk.
    Finished,
    /// It stopped, and the call goes on (case 41). Says why.
    Failed(String),
}
