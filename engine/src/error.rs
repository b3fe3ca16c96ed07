//! What can go wrong when the engine is asked for something.

use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::play::PlayError;

/// Why the engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// Every even port of the range is taken, by calls of ours, by other programs, or resting after a call.
    #[error("no free RTP port pair in {}-{} on {ip}: {in_use} in use by calls, {resting} resting after a call, {refused} refused by the system{}", range.start(), range.end(), last.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    NoPort {
        /// The address that was to be bound.
        ip: IpAddr,
        /// The configured range.
        range: RangeInclusive<u16>,
        /// Ports held by calls and reservations of this engine.
        in_use: usize,
        /// Ports that wait until late packets of their last call have died out.
        resting: usize,
        /// Ports that could not be bound.
        refused: usize,
        /// The last reason the system gave.
        last: Option<io::Error>,
    },
    /// The address cannot be bound at all (not ours, or no permission); another port would not help.
    #[error("cannot open RTP sockets on {ip}: {source}; set the bind address to one of this machine's addresses")]
    Bind {
        /// The address that was to be bound.
        ip: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No file descriptors are left (`ulimit -n`): no more calls now.
    #[error("no file descriptors left for another call: {0}; raise the limit (ulimit -n, LimitNOFILE)")]
    Descriptors(io::Error),
    /// The configured number of calls is reached.
    #[error("no capacity: {max} calls are up")]
    Full {
        /// The configured largest number of calls.
        max: usize,
    },
    /// The media thread has not yet taken what it was given before; try again in the next loop.
    #[error("the media thread has not caught up; try again")]
    Busy,
    /// The call has ended, or its media thread has.
    #[error("the call is over")]
    Ended,
    /// A call has no more room for subscribers.
    #[error("a call has at most {max} subscribers")]
    TooManySubscribers {
        /// How many a call can have.
        max: usize,
    },
    /// The text has something that is not a digit a telephone can send.
    #[error("{0:?} is not a telephone digit (0-9, *, #, A-D)")]
    BadDigit(char),
    /// More digits than fit in the queue of a call.
    #[error("at most {max} digits can wait to be sent")]
    TooManyDigits {
        /// The queue's size.
        max: usize,
    },
    /// A call cannot hear itself.
    #[error("a call cannot be bridged to itself")]
    BridgedToItself,
    /// Two calls are in bridges of different media threads, and neither can be moved.
    #[error("both calls are in bridges of different media threads: end one of these bridges first")]
    BridgedApart,
    /// There are as many links as the configured number of calls allows.
    #[error("at most {max} links between calls")]
    TooManyLinks {
        /// How many there can be.
        max: usize,
    },
    /// The far end did not agree to telephone events.
    #[error("the far end does not take digits as telephone events")]
    NoTelephoneEvents,
    /// A call plays as much as it can already.
    #[error("a call plays at most {max} files and tones at once")]
    TooManyPlayers {
        /// How many a call can have.
        max: usize,
    },
    /// A file cannot be played.
    #[error(transparent)]
    Play(#[from] PlayError),
    /// A thread, timer or poll instance could not be made.
    #[error("cannot start the media thread: {0}")]
    Thread(#[source] io::Error),
    /// JACK was asked for and cannot be used at all.
    #[error("JACK: {0}")]
    Jack(String),
}
