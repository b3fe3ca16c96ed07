//! The crate's one error type.

use std::io;
use std::path::PathBuf;

use crate::types::ApiError;

/// What can go wrong on the control socket, on either end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A frame announces more bytes than [`crate::frame::MAX_PAYLOAD`]; the connection is closed.
    #[error("frame of {0} bytes: at most {max} are allowed", max = crate::frame::MAX_PAYLOAD)]
    FrameTooLong(usize),
    /// A frame's kind is neither 1 (JSON) nor 2 (audio); the connection is closed.
    #[error("frame of unknown kind {0}: known are 1 (JSON) and 2 (audio)")]
    UnknownKind(u8),
    /// A JSON frame has flags or a channel, which are reserved and must be 0.
    #[error("JSON frame with flags {flags} and channel {channel}: both must be 0")]
    ReservedBits {
        /// The header's flags.
        flags: u8,
        /// The header's channel.
        channel: u16,
    },
    /// An audio frame is shorter than its own header or carries part of a sample.
    #[error("audio frame of {0} bytes: wanted 16 bytes of header, then whole samples")]
    BadAudio(usize),
    /// An audio frame names an encoding this version does not know.
    #[error("audio frame of unknown encoding {0}: known are 0 (s16le), 1 (f32le), 2 (u-law) and 3 (A-law)")]
    UnknownEncoding(u8),
    /// A line of the JSON-lines mode is longer than [`crate::frame::MAX_PAYLOAD`].
    #[error("line longer than {max} bytes", max = crate::frame::MAX_PAYLOAD)]
    LineTooLong,
    /// A message that is to be sent is larger than one frame may be.
    #[error("message of {0} bytes does not fit in one frame")]
    MessageTooLong(usize),
    /// Another daemon holds the lock beside the socket.
    #[error("another mr-sip is running (pid {pid}) on {}", .socket.display())]
    AlreadyRunning {
        /// The process that holds the lock, or `unknown`.
        pid: String,
        /// The socket both want.
        socket: PathBuf,
    },
    /// The folder of the socket could be tampered with by other users, or is someone else's.
    #[error("{} is not safe for a control socket: {why}", .folder.display())]
    UnsafeFolder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// The socket's path does not fit into a Unix socket address.
    #[error("the path of the socket is too long ({}): at most 107 bytes; choose a shorter one with MR_SIP_SOCKET", .0.display())]
    PathTooLong(PathBuf),
    /// Making, binding or registering the socket failed.
    #[error("{what} {}: {source}", .path.display())]
    Socket {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Nobody listens on the socket.
    #[error("the daemon is not running on {}; start it with: mr-sip serve", .0.display())]
    NotRunning(PathBuf),
    /// The socket is there, but belongs to another user.
    #[error("{} belongs to another user: only its owner and root may talk to that daemon", .0.display())]
    NotAllowed(PathBuf),
    /// The daemon closed the connection.
    #[error("the daemon closed the connection")]
    Closed,
    /// The daemon did not answer in time.
    #[error("no answer to {method} within {seconds} s")]
    TimedOut {
        /// The method that was asked.
        method: String,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The far end sent what is not JSON-RPC 2.0, or a result of another shape than documented.
    #[error("unexpected message: {0}")]
    Unexpected(String),
    /// The daemon answered the request with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Reading or writing failed.
    #[error("control connection: {0}")]
    Io(#[from] io::Error),
}
