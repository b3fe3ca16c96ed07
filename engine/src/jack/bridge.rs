//! The JACK client's owner: configuration, state, events, calls in and out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rtrb::RingBuffer;

use super::client::{check_name, default_server};
use super::manager::{Command, Connection, Manager, Status};
use super::{JackCall, JackError};

/// Links that can be on their way to a call: more than one only when servers come and go between two ticks.
const LINKS: usize = 4;
/// Longest wait for a server to let our client go; a stopped (SIGSTOP) server never does.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

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
    /// Each crossing adds it to the delay. It grows by itself on a machine that stalls for longer, and shrinks back within minutes.
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
    server_name: String,
    epoch: Instant,
    next_id: AtomicU64,
    commands: Sender<Command>,
    events: Receiver<JackEvent>,
    status: Arc<Mutex<Status>>,
    /// Dropped by the manager thread when it ends.
    ended: Receiver<()>,
}

impl JackBridge {
    /// Connects to the server and starts the manager thread.
    ///
    /// # Errors
    /// [`JackError::NoLibrary`] without libjack; [`JackError::NoServer`] and [`JackError::Refused`] unless
    /// [`JackConfig::wait_for_server`]; [`JackError::Name`] for names JACK cannot carry; [`JackError::Thread`].
    pub fn start(config: JackConfig) -> Result<Self, JackError> {
        let server_name = config.server_name.clone().unwrap_or_else(default_server);
        // One clock for the media thread and the process callback, and never 0 on it.
        let now = Instant::now();
        let epoch = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let connection = match Connection::open(&config, &server_name, epoch) {
            Ok(connection) => Some(connection),
            Err(JackError::NoServer { .. } | JackError::Refused { .. }) if config.wait_for_server => None,
            Err(error) => return Err(error),
        };
        let status = match &connection {
            Some(connection) => Status::Running(Arc::clone(&connection.server)),
            None => Status::Lost(now),
        };
        let status = Arc::new(Mutex::new(status));
        let (commands, commands_in) = mpsc::channel();
        let (events_out, events) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let manager =
            Manager::new(config, server_name.clone(), epoch, commands_in, events_out, Arc::clone(&status), connection);
        std::thread::Builder::new()
            .name("jack-manager".to_owned())
            .spawn(move || {
                manager.run();
                drop(end);
            })
            .map_err(|error| JackError::Thread { reason: error.to_string() })?;
        Ok(Self { server_name, epoch, next_id: AtomicU64::new(0), commands, events, status, ended })
    }

    /// Gives a call its ports `label:caller`, `label:agent` and `label:to_phone`. Returns at once; the ports come as soon
    /// as the manager has registered them, and the call goes direct until then (or for good, with
    /// [`JackEvent::PortsRefused`]).
    ///
    /// # Errors
    /// [`JackError::Name`] when the label cannot be part of a port name.
    pub fn add_call(&self, label: &str) -> Result<JackCall, JackError> {
        check_name(label)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (links, links_in) = RingBuffer::new(LINKS);
        let (retired_out, retired) = RingBuffer::new(LINKS);
        // The manager runs as long as the bridge is there.
        let _ = self.commands.send(Command::Add { id, label: label.to_owned(), links, retired });
        Ok(JackCall::new(id, self.epoch, self.commands.clone(), links_in, retired_out))
    }

    /// What JACK is doing now.
    #[must_use]
    pub fn state(&self) -> JackState {
        match &*self.status.lock().unwrap_or_else(PoisonError::into_inner) {
            Status::Stopped => JackState::Off,
            Status::Lost(since) => JackState::Lost { since: *since },
            Status::Running(server) if !server.alive() => JackState::Lost { since: Instant::now() },
            Status::Running(server) => JackState::Running {
                server: self.server_name.clone(),
                rate_hz: server.rate_hz,
                period: server.period(),
                xruns: server.xruns(),
            },
        }
    }

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<JackEvent> {
        self.events.try_recv().ok()
    }
}

impl Drop for JackBridge {
    fn drop(&mut self) {
        if self.commands.send(Command::Stop).is_ok()
            && self.ended.recv_timeout(CLOSE_LIMIT) == Err(RecvTimeoutError::Timeout)
        {
            log::warn!("JACK: the server {} does not let us go; leaving without goodbye", self.server_name);
        }
    }
}
