//! The thread that does everything about JACK that may block: connect, register and unregister ports, build crossings,
//! notice a lost server and come back when there is one.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jack::{AsyncClient, AudioIn, AudioOut, Port};
use rtrb::{Consumer, Producer, RingBuffer};

use super::JackError;
use super::bridge::{JackConfig, JackEvent};
use super::call::Link;
use super::client;
use super::process::{CallPorts, Notifications, Order, Processor, Server};
use crate::dsp::crossing::{self, WIRE_HZ};

/// How often the manager looks after the server and the rings. The audio does not wait for it: the media thread sees a
/// lost server by itself.
const ROUND: Duration = Duration::from_millis(20);
/// First pause before another try to connect, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between tries: a server that was started is found within this time.
const RETRY_LONGEST: Duration = Duration::from_secs(4);

/// What the bridge and the calls ask of the manager.
#[derive(Debug)]
pub(super) enum Command {
    Add { id: u64, label: String, links: Producer<Box<Link>>, retired: Consumer<Box<Link>> },
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

/// The client on a server, and the rings to its process callback.
pub(super) struct Connection {
    client: AsyncClient<Notifications, Processor>,
    pub(super) server: Arc<Server>,
    orders: Producer<Order>,
    done: Consumer<Box<CallPorts>>,
}

impl Connection {
    /// Opens and activates a client. No calls yet.
    pub(super) fn open(config: &JackConfig, server_name: &str, epoch: Instant) -> Result<Self, JackError> {
        let client = client::open(server_name, &config.client_name)?;
        let server = Server::new(client.sample_rate(), client.buffer_size());
        let room = config.max_calls.max(1);
        // An order to add and one to remove for every call there can be.
        let (orders, orders_in) = RingBuffer::new(2 * room);
        let (done_out, done) = RingBuffer::new(room);
        let processor = Processor::new(Arc::clone(&server), epoch, orders_in, done_out, room);
        let client = client.activate_async(Notifications(Arc::clone(&server)), processor).map_err(|error| {
            JackError::Refused {
                server: server_name.to_owned(),
                client: config.client_name.clone(),
                reason: error.to_string(),
            }
        })?;
        Ok(Self { client, server, orders, done })
    }

    fn register(&self, name: &str) -> Result<Port<AudioOut>, String> {
        self.client.as_client().register_port(name, AudioOut::default()).map_err(|error| error.to_string())
    }

    fn unregister<P>(&self, port: Port<P>) {
        if let Err(error) = self.client.as_client().unregister_port(port) {
            log::debug!("JACK: {error}");
        }
    }

    /// Registers a call's ports, hands their ends to the process callback and returns the other ends.
    fn plug(&mut self, id: u64, label: &str, margin: u32) -> Result<Link, String> {
        let rate = self.server.rate_hz;
        let (caller, caller_port) = crossing::to_port(rate, margin).map_err(|e| e.to_string())?;
        let (agent, agent_port) = crossing::to_port(rate, margin).map_err(|e| e.to_string())?;
        let (to_phone_port, to_phone) = crossing::from_port(rate, margin).map_err(|e| e.to_string())?;
        let out = self.register(&format!("{label}:caller"))?;
        let voice = match self.register(&format!("{label}:agent")) {
            Ok(port) => port,
            Err(error) => {
                self.unregister(out);
                return Err(error);
            }
        };
        let back = match self.client.as_client().register_port(&format!("{label}:to_phone"), AudioIn::default()) {
            Ok(port) => port,
            Err(error) => {
                self.unregister(out);
                self.unregister(voice);
                return Err(error.to_string());
            }
        };
        if let Err(error) = self.client.as_client().connect_ports(&voice, &back) {
            log::warn!("JACK: call {label}: agent is not connected to to_phone: {error}");
        }
        let ports =
            CallPorts { id, caller: (out, caller_port), agent: (voice, agent_port), to_phone: (back, to_phone_port) };
        if let Err(rtrb::PushError::Full(Order::Add(ports))) = self.orders.push(Order::Add(Box::new(ports))) {
            self.unplug(*ports);
            return Err("the process callback does not take orders".to_owned());
        }
        Ok(Link { server: Arc::clone(&self.server), caller, agent, to_phone })
    }

    fn unplug(&self, ports: CallPorts) {
        self.unregister(ports.caller.0);
        self.unregister(ports.agent.0);
        self.unregister(ports.to_phone.0);
    }
}

struct Call {
    label: String,
    /// Whether it has ports on the present connection.
    plugged: bool,
    links: Producer<Box<Link>>,
    retired: Consumer<Box<Link>>,
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
        connection: Option<Connection>,
    ) -> Self {
        Self {
            config,
            server_name,
            epoch,
            commands,
            events,
            status,
            connection,
            calls: BTreeMap::new(),
            next_try: epoch + RETRY_FIRST,
            pause: RETRY_FIRST,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.commands.recv_timeout(ROUND) {
                Ok(Command::Add { id, label, links, retired }) => {
                    self.add(id, Call { label, plugged: false, links, retired })
                }
                Ok(Command::Remove(id)) => self.remove(id),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.drop_what_is_done_with();
            if self.connection.as_ref().is_some_and(|connection| !connection.server.alive()) {
                self.lose();
            }
            if self.connection.is_none() && Instant::now() >= self.next_try {
                self.try_again();
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

    fn add(&mut self, id: u64, call: Call) {
        self.calls.insert(id, call);
        self.plug(id);
    }

    fn plug(&mut self, id: u64) {
        let in_use = self.calls.values().filter(|call| call.plugged).count();
        let (Some(connection), Some(call)) = (&mut self.connection, self.calls.get_mut(&id)) else { return };
        let margin = (self.config.margin.as_secs_f64() * f64::from(WIRE_HZ)) as u32;
        let plugged = if in_use >= self.config.max_calls {
            Err(format!("{in_use} calls have ports, and that is the limit"))
        } else if call.links.slots() > 0 {
            connection.plug(id, &call.label, margin)
        } else {
            Err("the call has not taken its last ports yet".to_owned())
        };
        match plugged {
            Ok(link) => {
                call.plugged = true;
                // There is room: only this thread pushes, and it looked.
                let _ = call.links.push(Box::new(link));
            }
            Err(reason) => {
                log::warn!("JACK: call {} has no ports and goes direct: {reason}", call.label);
                let event = JackEvent::PortsRefused { label: call.label.clone(), reason };
                self.tell(event);
            }
        }
    }

    fn remove(&mut self, id: u64) {
        if self.calls.remove(&id).is_some()
            && let Some(connection) = &mut self.connection
            && connection.orders.push(Order::Remove(id)).is_err()
        {
            log::warn!("JACK: the process callback does not take orders; reconnecting");
            connection.server.end();
        }
    }

    fn drop_what_is_done_with(&mut self) {
        for call in self.calls.values_mut() {
            while call.retired.pop().is_ok() {}
        }
        if let Some(connection) = &mut self.connection {
            while let Ok(ports) = connection.done.pop() {
                connection.unplug(*ports);
            }
        }
    }

    fn lose(&mut self) {
        let since = Instant::now();
        self.set_status(Status::Lost(since));
        // Closing the old client before a new one is opened is not optional: libjack ends clients of a dead server itself
        // when the next one is opened, and closing them afterwards would be a double free.
        drop(self.connection.take());
        for call in self.calls.values_mut() {
            call.plugged = false;
        }
        self.pause = RETRY_FIRST;
        self.next_try = since + self.pause;
        log::warn!("JACK: server {} is gone; calls go direct", self.server_name);
        self.tell(JackEvent::Lost { reason: format!("the server {} ended or cut us off", self.server_name) });
    }

    fn try_again(&mut self) {
        match Connection::open(&self.config, &self.server_name, self.epoch) {
            Ok(connection) => {
                let (rate_hz, period) = (connection.server.rate_hz, connection.server.period());
                self.set_status(Status::Running(Arc::clone(&connection.server)));
                self.connection = Some(connection);
                let ids: Vec<u64> = self.calls.keys().copied().collect();
                for id in ids {
                    self.plug(id);
                }
                log::info!("JACK: server {} is back, {rate_hz} Hz, {period} frames", self.server_name);
                self.tell(JackEvent::Back { rate_hz, period });
            }
            Err(error) => {
                log::debug!("{error}");
                self.pause = (2 * self.pause).min(RETRY_LONGEST);
                self.next_try = Instant::now() + self.pause;
            }
        }
    }

    /// Leaves the server properly, so that it does not keep a slot for us.
    fn close(&mut self) {
        self.set_status(Status::Stopped);
        let Some(connection) = self.connection.take() else { return };
        connection.server.end();
        match connection.client.deactivate() {
            Ok((client, _, _)) => drop(client),
            Err(error) => log::debug!("JACK: {error}"),
        }
    }
}
