//! The thread that does everything about JACK that may block: connect, register and unregister ports, build crossings,
//! patch, notice a lost server and come back when there is one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer};

use super::JackError;
use super::call::Link;
use super::config::{JackClients, JackConfig, JackEvent};
use super::connection::{Connection, PortNames};
use super::names::CallName;
use super::patchbay::{CallEnds, Patchbay};
use super::process::Server;
use crate::dsp::crossing::WIRE_HZ;

/// How often the manager looks after the server and the rings. The audio does not wait for it: the media thread sees a
/// lost server by itself.
const ROUND: Duration = Duration::from_millis(20);
/// First pause before another try to connect, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between tries: a server that was started is found within this time.
const RETRY_LONGEST: Duration = Duration::from_secs(4);
/// Missed periods are told at most this often: a machine that misses them misses many.
const XRUNS_TOLD: Duration = Duration::from_secs(10);

/// What the bridge and the calls ask of the manager.
#[derive(Debug)]
pub(super) enum Command {
    Add { id: u64, name: CallName, links: Producer<Box<Link>>, retired: Consumer<Box<Link>> },
    Remove(u64),
    Stop,
}

/// What the manager tells whoever asks for the state.
#[derive(Debug)]
pub(super) enum Status {
    Running(Arc<Server>),
    Lost(Instant),
    Stopped,
}

/// Where a call's ports are.
enum Plugged {
    /// It has none.
    No,
    /// At the client that calls share.
    Shared,
    /// At a client of its own.
    Own(Connection),
}

struct Call {
    name: CallName,
    plugged: Plugged,
    links: Producer<Box<Link>>,
    retired: Consumer<Box<Link>>,
}

/// What was said last about the server, so that only news is told.
struct Told {
    xruns: u64,
    xruns_at: Option<Instant>,
    freewheels: bool,
    period: u32,
}

impl Told {
    fn new(period: u32) -> Self {
        Self { xruns: 0, xruns_at: None, freewheels: false, period }
    }
}

/// The manager thread's state.
pub(super) struct Manager {
    config: JackConfig,
    server_name: String,
    epoch: Instant,
    commands: Receiver<Command>,
    events: Sender<JackEvent>,
    status: Arc<Mutex<Status>>,
    connection: Option<Connection>,
    calls: BTreeMap<u64, Call>,
    patchbay: Patchbay,
    own_clients: Arc<AtomicUsize>,
    /// A call got no client of its own, and that was told.
    refusal_told: bool,
    told: Told,
    next_try: Instant,
    pause: Duration,
}

impl Manager {
    pub(super) fn new(
        config: JackConfig,
        server_name: String,
        epoch: Instant,
        commands: Receiver<Command>,
        events: Sender<JackEvent>,
        status: Arc<Mutex<Status>>,
    ) -> Self {
        let patchbay = Patchbay::new(config.connect.clone());
        Self {
            config,
            server_name,
            epoch,
            commands,
            events,
            status,
            connection: None,
            calls: BTreeMap::new(),
            patchbay,
            own_clients: Arc::default(),
            refusal_told: false,
            told: Told::new(0),
            next_try: epoch,
            pause: RETRY_FIRST,
        }
    }

    /// How many calls have a client of their own, for whoever asks.
    pub(super) fn own_clients(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.own_clients)
    }

    /// Connects, hands the outcome to `first` (a channel without room, so that it is known whether somebody took it), and
    /// looks after the server until it is told to stop or nobody is left to tell it.
    pub(super) fn run(mut self, first: &SyncSender<Result<(), JackError>>) {
        let connected = self.connect();
        if first.send(connected).is_err() {
            self.tell_back();
        }
        loop {
            match self.commands.recv_timeout(ROUND) {
                Ok(Command::Add { id, name, links, retired }) => {
                    self.calls.insert(id, Call { name, plugged: Plugged::No, links, retired });
                    self.plug(id);
                }
                Ok(Command::Remove(id)) => self.remove(id),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.drop_what_is_done_with();
            if self.connection.is_some() && !self.all_alive() {
                self.lose();
            }
            match &self.connection {
                Some(connection) => {
                    if let Some(appeared) = &connection.appeared {
                        self.patchbay.look(connection.client(), appeared);
                    }
                    self.tell_news();
                }
                None if Instant::now() >= self.next_try => self.try_again(),
                None => {}
            }
        }
        self.close();
    }

    fn tell(&self, event: JackEvent) {
        // Nobody listens any more: the bridge is being dropped.
        let _ = self.events.send(event);
    }

    fn set_status(&self, status: Status) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Whether every client of ours is one still. libjack knows one server a process and takes the end of any client for
    /// the end of it, so one that is cut off (a zombie) means a new start for all.
    fn all_alive(&self) -> bool {
        let own = |call: &Call| match &call.plugged {
            Plugged::Own(connection) => connection.server.alive(),
            Plugged::No | Plugged::Shared => true,
        };
        self.connection.as_ref().is_some_and(|connection| connection.server.alive()) && self.calls.values().all(own)
    }

    /// Gives a call its ports, if there is a server.
    fn plug(&mut self, id: u64) {
        if self.connection.is_none() || !self.all_alive() {
            return;
        }
        let in_use = self.calls.values().filter(|call| !matches!(call.plugged, Plugged::No)).count();
        let Some(call) = self.calls.get(&id) else { return };
        let label = call.name.label.clone();
        let plugged = if in_use >= self.config.max_calls {
            Err(format!("{in_use} calls have ports, and that is the limit"))
        } else if call.links.slots() == 0 {
            Err("the call has not taken its last ports yet".to_owned())
        } else {
            let alias = self.alias(id);
            self.plug_own(id, &label, alias.as_ref()).map_or_else(|| self.plug_shared(id, &label, alias), Ok)
        };
        let (Some(connection), Some(call)) = (&self.connection, self.calls.get_mut(&id)) else { return };
        match plugged {
            Ok((plugged, link, ends)) => {
                call.plugged = plugged;
                // There is room: only this thread pushes, and it looked.
                let _ = call.links.push(Box::new(link));
                self.patchbay.call_came(connection.client(), id, ends);
            }
            Err(reason) => {
                log::warn!("JACK: call {label} has no ports and goes direct: {reason}");
                self.tell(JackEvent::PortsRefused { label, reason });
            }
        }
    }

    /// What stands before the kind of port in the aliases of a call's ports.
    fn alias(&self, id: u64) -> Option<String> {
        let others = self.calls.iter().filter(|(other, call)| **other != id && !matches!(call.plugged, Plugged::No));
        let peer = self.calls.get(&id)?.name.alias(others.map(|(_, call)| call.name.peer.as_str()))?;
        Some(format!("{}:{peer}", self.config.client_name))
    }

    /// Ports at a client of the call's own, if it is to have one and can.
    fn plug_own(&mut self, id: u64, label: &str, alias: Option<&String>) -> Option<(Plugged, Link, CallEnds)> {
        if self.config.clients != JackClients::PerCall {
            return None;
        }
        let in_use = self.own_clients.load(Ordering::Relaxed);
        let made = if in_use >= self.config.max_clients {
            Err(format!("{in_use} calls have clients, and that is the limit"))
        } else {
            let client_name = format!("{}-{label}", self.config.client_name);
            let names = PortNames { prefix: String::new(), alias: alias.cloned() };
            Connection::own(&self.server_name, &client_name, self.epoch).map_err(|error| error.to_string()).and_then(
                |mut connection| {
                    let (link, ends) = connection.plug(id, &names, self.margin(), self.config.patch_agent)?;
                    Ok((Plugged::Own(connection), link, ends))
                },
            )
        };
        match made {
            Ok(plugged) => {
                self.own_clients.fetch_add(1, Ordering::Relaxed);
                self.refusal_told = false;
                Some(plugged)
            }
            Err(reason) => {
                if !std::mem::replace(&mut self.refusal_told, true) {
                    log::warn!(
                        "JACK: call {label} has no client of its own, its ports are at the shared one: {reason}"
                    );
                    self.tell(JackEvent::ClientRefused { label: label.to_owned(), reason });
                }
                None
            }
        }
    }

    fn plug_shared(
        &mut self,
        id: u64,
        label: &str,
        alias: Option<String>,
    ) -> Result<(Plugged, Link, CallEnds), String> {
        let (margin, patch) = (self.margin(), self.config.patch_agent);
        let connection = self.connection.as_mut().ok_or("the server is gone")?;
        let (link, ends) = connection.plug(id, &PortNames { prefix: format!("{label}:"), alias }, margin, patch)?;
        Ok((Plugged::Shared, link, ends))
    }

    /// In samples of 8 kHz.
    fn margin(&self) -> u32 {
        (self.config.margin.as_secs_f64() * f64::from(WIRE_HZ)) as u32
    }

    fn remove(&mut self, id: u64) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.patchbay.call_went(id);
        match (call.plugged, &mut self.connection) {
            (Plugged::Own(own), _) => {
                own.close();
                self.own_clients.fetch_sub(1, Ordering::Relaxed);
            }
            (Plugged::Shared, Some(connection)) => connection.remove(id),
            (Plugged::Shared | Plugged::No, _) => {}
        }
    }

    fn drop_what_is_done_with(&mut self) {
        for call in self.calls.values_mut() {
            while call.retired.pop().is_ok() {}
        }
        if let Some(connection) = &mut self.connection {
            connection.drop_what_is_done_with();
        }
    }

    /// Missed periods, freewheeling, another period: what the server did by itself.
    fn tell_news(&mut self) {
        let Some(server) = self.connection.as_ref().map(|connection| Arc::clone(&connection.server)) else { return };
        let (total, now) = (server.xruns(), Instant::now());
        if total != self.told.xruns && self.told.xruns_at.is_none_or(|at| now.duration_since(at) >= XRUNS_TOLD) {
            let count = total - self.told.xruns;
            (self.told.xruns, self.told.xruns_at) = (total, Some(now));
            self.tell(JackEvent::Xruns { count, total });
        }
        if server.freewheels() != self.told.freewheels {
            self.told.freewheels = server.freewheels();
            self.tell(JackEvent::Freewheel { on: self.told.freewheels });
        }
        if server.period() != self.told.period {
            self.told.period = server.period();
            self.tell(JackEvent::Period { frames: self.told.period });
        }
    }

    fn lose(&mut self) {
        let since = Instant::now();
        self.set_status(Status::Lost(since));
        // Closing the old clients before a new one is opened is not optional: libjack ends clients of a dead server itself
        // when the next one is opened, and closing them afterwards would be a double free.
        self.unplug_all(drop);
        drop(self.connection.take());
        self.pause = RETRY_FIRST;
        self.next_try = since + self.pause;
        log::warn!("JACK: server {} is gone; calls go direct", self.server_name);
        self.tell(JackEvent::Lost { reason: format!("the server {} ended or cut us off", self.server_name) });
    }

    fn unplug_all(&mut self, close: impl Fn(Connection)) {
        self.patchbay.clear();
        for call in self.calls.values_mut() {
            if let Plugged::Own(own) = std::mem::replace(&mut call.plugged, Plugged::No) {
                own.server.end();
                close(own);
            }
        }
        self.own_clients.store(0, Ordering::Relaxed);
    }

    /// Opens the client that calls share and gives the calls their ports. Does not return while the server hangs.
    fn connect(&mut self) -> Result<(), JackError> {
        let tried = Connection::shared(&self.config, &self.server_name, self.epoch);
        self.next_try = Instant::now() + self.pause;
        let connection = tried?;
        self.told = Told::new(connection.server.period());
        self.refusal_told = false;
        self.set_status(Status::Running(Arc::clone(&connection.server)));
        self.connection = Some(connection);
        let ids: Vec<u64> = self.calls.keys().copied().collect();
        for id in ids {
            self.plug(id);
        }
        Ok(())
    }

    fn try_again(&mut self) {
        self.pause = (2 * self.pause).min(RETRY_LONGEST);
        match self.connect() {
            Ok(()) => self.tell_back(),
            Err(error) => log::debug!("{error}"),
        }
    }

    fn tell_back(&self) {
        let Some(connection) = &self.connection else { return };
        let (rate_hz, period) = (connection.server.rate_hz, connection.server.period());
        log::info!("JACK: server {} is back, {rate_hz} Hz, {period} frames", self.server_name);
        self.tell(JackEvent::Back { rate_hz, period });
    }

    /// Leaves the server properly, so that it does not keep a slot for us.
    fn close(&mut self) {
        self.set_status(Status::Stopped);
        self.unplug_all(Connection::close);
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }
}
