//! What can go wrong when the application asks something of this room.

use crate::event::CallId;

/// Everything a caller of this crate can be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalingError {
    /// The call has ended or never was.
    #[error("no call {0}")]
    NoSuchCall(CallId),
    /// No account of this name is configured.
    #[error("no account named {0:?}")]
    NoSuchAccount(String),
    /// The call is not in a state in which this can be done.
    #[error("call {call} cannot be {action} now")]
    WrongState {
        /// The call.
        call: CallId,
        /// What was asked, as a participle: "answered", "rejected".
        action: &'static str,
    },
    /// What was to be dialled is not a SIP or tel address, or has no host and no account to give one.
    #[error("cannot dial {to:?}: {why}")]
    BadDestination {
        /// The address as it was given.
        to: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The outgoing guard does not permit the call.
    #[error(transparent)]
    Toll(#[from] crate::toll::Refusal),
    /// A configured value cannot be written into a SIP message.
    #[error("{field} {why}")]
    BadConfig {
        /// Which value.
        field: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A status outside 300..=699 was given to refuse a call with.
    #[error("{0} is not a status that refuses a call (300 to 699)")]
    BadStatus(u16),
    /// As many calls as are allowed at once are up.
    #[error("{0} calls are up, no more are allowed")]
    TooManyCalls(usize),
    /// The command queue of the endpoint is full, or its thread is gone.
    #[error("the signaling thread does not take commands: {0}")]
    Queue(&'static str),
    /// The socket could not be opened.
    #[error("cannot open the SIP socket on {addr}: {source}")]
    Socket {
        /// The address that was asked for.
        addr: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file for TLS cannot be used.
    #[error("{} {why}", file.display())]
    TlsFile {
        /// Which file.
        file: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS connections are to be accepted, but there is no certificate to show.
    #[error("TLS on {0} needs a certificate and its key")]
    NoCertificate(std::net::SocketAddr),
    /// The thread or its poller could not be made.
    #[error("cannot start the signaling thread: {0}")]
    Start(std::io::Error),
}
