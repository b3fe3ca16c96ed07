//! Opening a JACK client: the one place that names the library, and the errors a user can do something about.

/// Why JACK cannot be used. Calls go on in direct mode; each text says what would bring JACK back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JackError {
    /// libjack is not on this machine.
    #[error(
        "libjack is not installed ({reason}): install the Debian package jackd2 (scripts/setup_jack.sh does), or run without JACK"
    )]
    NoLibrary {
        /// The dynamic loader's words.
        reason: String,
    },
    /// No server of this name answers.
    #[error(
        "no JACK server \"{server}\" is running for this user: start one (for example `jackd -n {server} -d dummy -r 48000 -p 256`), or run without JACK"
    )]
    NoServer {
        /// The server's name.
        server: String,
    },
    /// The server is there but refuses a client.
    #[error("the JACK server \"{server}\" refused the client \"{client}\": {reason}")]
    Refused {
        /// The server's name.
        server: String,
        /// The client name asked for.
        client: String,
        /// What the server said.
        reason: String,
    },
    /// A server, client or call name that JACK cannot carry.
    #[error("\"{name}\" cannot be a JACK name: 1 to 32 characters, letters, digits, - and _")]
    Name {
        /// The name given.
        name: String,
    },
    /// The thread that looks after the client could not be started.
    #[error("cannot start the JACK manager thread: {reason}")]
    Thread {
        /// The system's words.
        reason: String,
    },
}
