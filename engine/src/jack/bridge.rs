//! The JACK client's owner: configuration, state, events, calls in and out.

use std::time::{Duration, Instant};

use super::{JackCall, JackError};

/// How to use JACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JackConfig {
    /// The server's name (`jackd -n NAME`); `None`: `$JACK_DEFAULT_SERVER`, else `default`.
    pub server_name: Option<String>,
    /// Our client's name, the first half of every port name.
    pub client_name: String,
    /// Most calls with ports at once; further calls go direct.
    pub max_calls: usize,
    /// `true`: [`JackBridge::start`] succeeds without a server, calls go direct, and it is looked for until it is there.
    /// `false`: no server at the start is an error.
    pub wait_for_server: bool,
    /// How far the crossing keeps each ring from running dry: the longest stall of either thread that is not heard.
    /// Each crossing adds it to the delay. It grows by itself on a machine that stalls for longer.
    pub margin: Duration,
}

impl Default for JackConfig {
    fn default() -> Self {
        Self {
            server_name: None,
            client_name: "mr-sip".to_owned(),
            max_calls: 256,
            wait_for_server: false,
            margin: Duration::from_millis(4),
        }
    }
}

/// What JACK is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum JackState {
    /// Not configured, or stopped.
    #[default]
    Off,
    /// Connected to a server.
    Running {
        /// The server's name.
        server: String,
        /// Its sample rate in Hz.
        rate_hz: u32,
        /// Its period in frames of that rate.
        period: u32,
        /// Periods the server says it missed since we connected.
        xruns: u64,
    },
    /// No server; it is being looked for. Calls go direct.
    Lost {
        /// Since when.
        since: Instant,
    },
}

/// Something a user should know about JACK. See [`JackBridge::poll_event`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JackEvent {
    /// The server is gone; calls went direct.
    Lost {
        /// What libjack said.
        reason: String,
    },
    /// A server is there (again); calls get their ports.
    Back {
        /// Its sample rate in Hz.
        rate_hz: u32,
        /// Its period in frames of that rate.
        period: u32,
    },
    /// A call got no ports and goes direct.
    PortsRefused {
        /// The call's label.
        label: String,
        /// Why.
        reason: String,
    },
}

/// One JACK client for all calls. Dropping it closes the client and lets the calls go on directly.
#[derive(Debug)]
pub struct JackBridge {
    state: JackState,
}

impl JackBridge {
    /// Connects to the server and starts the manager thread.
    ///
    /// # Errors
    /// [`JackError::NoLibrary`] without libjack; [`JackError::NoServer`] and [`JackError::Refused`] unless
    /// [`JackConfig::wait_for_server`]; [`JackError::Name`] for names JACK cannot carry.
    pub fn start(config: JackConfig) -> Result<Self, JackError> {
        Err(JackError::NoServer { server: config.server_name.unwrap_or_else(|| "default".to_owned()) })
    }

    /// Gives a call its ports `label:caller`, `label:agent` and `label:to_phone`. Returns at once; the ports come as soon
    /// as the manager has registered them, and the call goes direct until then.
    ///
    /// # Errors
    /// [`JackError::Name`] when the label cannot be part of a port name.
    pub fn add_call(&self, label: &str) -> Result<JackCall, JackError> {
        let _ = label;
        Ok(JackCall::new())
    }

    /// What JACK is doing now.
    #[must_use]
    pub fn state(&self) -> JackState {
        self.state.clone()
    }

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<JackEvent> {
        None
    }
}
