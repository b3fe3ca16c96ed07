//! The JACK client's owner: state, events, calls in and out.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rtrb::RingBuffer;

use super::client::default_server;
use super::config::{JackConfig, JackEvent, JackState};
use super::manager::{Command, Manager, Status};
use super::names::CallName;
use super::{JackCall, JackError};

/// Links that can be on their way to a call: more than one only when servers come and go between two ticks.
const LINKS: usize = 4;
/// Longest wait for a server to take our client; one that is not busy does so within tens of milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait for a server to let our client go; a stopped (SIGSTOP) server never does.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Our side of a JACK server. Dropping it closes our clients and lets the calls go on directly.
#[derive(Debug)]
pub struct JackBridge {
    server_name: String,
    epoch: Instant,
    next_id: AtomicU64,
    commands: Sender<Command>,
    events: Receiver<JackEvent>,
    status: Arc<Mutex<Status>>,
    own_clients: Arc<AtomicUsize>,
    /// Dropped by the manager thread when it ends.
    ended: Receiver<()>,
}

impl JackBridge {
    /// Starts the manager thread, has it connect to the server and waits for that, but at most 3 s: a server that hangs
    /// keeps whoever connects to it waiting for as long as it hangs.
    ///
    /// # Errors
    /// [`JackError::NoLibrary`] without libjack; [`JackError::NoServer`], [`JackError::NoAnswer`] and [`JackError::Refused`]
    /// unless [`JackConfig::wait_for_server`]; [`JackError::Name`] for names JACK cannot carry; [`JackError::Thread`].
    pub fn start(config: JackConfig) -> Result<Self, JackError> {
        let server_name = config.server_name.clone().unwrap_or_else(default_server);
        let wait_for_server = config.wait_for_server;
        // One clock for the media thread and the process callback, and never 0 on it.
        let now = Instant::now();
        let epoch = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let status = Arc::new(Mutex::new(Status::Lost(now)));
        let (commands, commands_in) = mpsc::channel();
        let (events_out, events) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let (first_out, first) = mpsc::sync_channel(0);
        let manager = Manager::new(config, server_name.clone(), epoch, commands_in, events_out, Arc::clone(&status));
        let own_clients = manager.own_clients();
        std::thread::Builder::new()
            .name("jack-manager".to_owned())
            .spawn(move || {
                manager.run(&first_out);
                drop(end);
            })
            .map_err(|error| JackError::Thread { reason: error.to_string() })?;
        let connected = first
            .recv_timeout(ANSWER_LIMIT)
            .unwrap_or_else(|_| Err(JackError::NoAnswer { server: server_name.clone() }));
        match connected {
            Err(error) if !(wait_for_server && error.may_pass()) => Err(error),
            _ => Ok(Self {
                server_name,
                epoch,
                next_id: AtomicU64::new(0),
                commands,
                events,
                status,
                own_clients,
                ended,
            }),
        }
    }

    /// Gives a call its ports `label:caller`, `label:agent` and `label:to_phone`. Returns at once; the ports come as soon
    /// as the manager has registered them, and the call goes direct until then (or for good, with
    /// [`JackEvent::PortsRefused`]).
    ///
    /// # Errors
    /// [`JackError::Name`] when the label cannot be part of a port name.
    pub fn add_call(&self, label: &str) -> Result<JackCall, JackError> {
        self.add_call_with(label, "")
    }

    /// As [`add_call`](Self::add_call), for a call with this far end (a SIP address or a number): the ports then have
    /// aliases with its name in the place of the label, such as `mr-sip:+4930123456:caller`. Of several calls with the
    /// same far end, the later ones' have `-label` behind it.
    ///
    /// # Errors
    /// As [`add_call`](Self::add_call).
    pub fn add_call_with(&self, label: &str, far_end: &str) -> Result<JackCall, JackError> {
        let name = CallName::new(label, far_end)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (links, links_in) = RingBuffer::new(LINKS);
        let (retired_out, retired) = RingBuffer::new(LINKS);
        // The manager runs as long as the bridge is there.
        let _ = self.commands.send(Command::Add { id, name, links, retired });
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
                freewheeling: server.freewheels(),
                own_clients: self.own_clients.load(Ordering::Relaxed),
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
