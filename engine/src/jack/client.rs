//! Opening a JACK client: the one place that names the library, and the errors a user can do something about.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_uint};

use jack::{Client, ClientOptions, ClientStatus, LoggerType};

use super::names::check_name;

/// Why JACK cannot be used. Calls go on in direct mode; each text says what would bring JACK back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JackError {
    /// libjack is not on this machine.
    #[error(
        "libjack cannot be loaded ({reason}): install the Debian package jackd2 (scripts/setup_jack.sh does), or run without JACK"
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
    /// The server is there but says nothing: it is stopped, or hangs.
    #[error(
        "the JACK server \"{server}\" does not answer: it is stopped or hangs (`pgrep -a jackd` shows it); end it and start it again, or run without JACK"
    )]
    NoAnswer {
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
    #[error("\"{name}\" cannot be a JACK name: 1 to 32 of the characters A-Z a-z 0-9 . - _")]
    Name {
        /// The name given.
        name: String,
    },
    /// A pattern of a [`ConnectRule`](super::ConnectRule) that is no regular expression.
    #[error("the pattern \"{pattern}\" of a connection cannot be used: {why}")]
    Pattern {
        /// The pattern given.
        pattern: String,
        /// What is wrong with it, and the fix.
        why: String,
    },
    /// The thread that looks after the client could not be started.
    #[error("cannot start the JACK manager thread: {reason}")]
    Thread {
        /// The system's words.
        reason: String,
    },
}

impl JackError {
    /// Whether a later try may succeed without a change of the configuration.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::NoServer { .. } | Self::NoAnswer { .. } | Self::Refused { .. })
    }
}

/// The server's name when none is configured, as libjack finds it.
pub(super) fn default_server() -> String {
    std::env::var("JACK_DEFAULT_SERVER").unwrap_or_else(|_| "default".to_owned())
}

/// C's `jack_client_open`, with the server's name as the variable argument.
type OpenClient = unsafe extern "C" fn(*const c_char, c_uint, *mut c_uint, ...) -> *mut jack_sys::jack_client_t;

/// Opens a client on the named server. Never starts a server.
///
/// The `jack` crate cannot name a server (its `SERVER_NAME` option is a note to do it); setting `JACK_DEFAULT_SERVER`
/// instead would race with every other thread that reads the environment. So the client is opened here, by the same
/// library handle, and everything after is the crate's.
pub(super) fn open(server: &str, client: &str) -> Result<Client, JackError> {
    check_name(server)?;
    check_name(client)?;
    let library = jack_sys::library().map_err(|e| JackError::NoLibrary { reason: e.to_string() })?;
    jack::set_logger(LoggerType::Custom { info: quiet, error: quiet });
    // SAFETY: the symbol is C's jack_client_open, which has had this signature since JACK 0.50.
    let open = unsafe { library.get::<OpenClient>(b"jack_client_open\0") }
        .map_err(|e| JackError::NoLibrary { reason: e.to_string() })?;
    // check_name left no NUL in either.
    let bad = |name: &str| JackError::Name { name: name.to_owned() };
    let (server_c, client_c) =
        (CString::new(server).map_err(|_| bad(server))?, CString::new(client).map_err(|_| bad(client))?);
    let options = ClientOptions::NO_START_SERVER | ClientOptions::SERVER_NAME;
    let mut status: c_uint = 0;
    // SAFETY: three pointers to live, NUL-terminated strings or a live integer; SERVER_NAME announces exactly one
    // variable argument, the server's name.
    let raw = unsafe { open(client_c.as_ptr(), options.bits(), &raw mut status, server_c.as_ptr()) };
    if raw.is_null() {
        let status = ClientStatus::from_bits_retain(status);
        return Err(if status.contains(ClientStatus::SERVER_FAILED) || status.is_empty() {
            JackError::NoServer { server: server.to_owned() }
        } else {
            JackError::Refused { server: server.to_owned(), client: client.to_owned(), reason: format!("{status:?}") }
        });
    }
    // SAFETY: just opened, not null, and owned by nobody else: `Client` closes it when dropped.
    Ok(unsafe { Client::from_raw(raw) })
}

thread_local! {
    /// Whether this is JACK's process thread, where logging is forbidden.
    static REAL_TIME: Cell<bool> = const { Cell::new(false) };
}

/// Called at the start of JACK's process thread.
pub(super) fn mark_real_time_thread() {
    REAL_TIME.with(|flag| flag.set(true));
}

/// libjack's own words: details, not news (a server that is not there is ten lines of them at every try).
unsafe extern "C" fn quiet(message: *const c_char) {
    if message.is_null() || REAL_TIME.with(Cell::get) {
        return;
    }
    // SAFETY: libjack passes a NUL-terminated string that lives until we return.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    log::debug!("libjack: {}", text.trim_end());
}
