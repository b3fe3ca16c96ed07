//! A client of ours at a server, and the calls' ports at it: the one that calls share, or a call's own.

use std::sync::Arc;
use std::time::Instant;

use jack::{AsyncClient, AudioIn, AudioOut, Client, Port, PortSpec};
use rtrb::{Consumer, Producer, RingBuffer};

use super::JackError;
use super::call::Link;
use super::client;
use super::config::JackConfig;
use super::patchbay::CallEnds;
use super::process::{Appeared, CallPorts, Notifications, Order, Processor, Server};
use crate::dsp::crossing;

/// The client on a server, and the rings to its process callback.
pub(super) struct Connection {
    client: AsyncClient<Notifications, Processor>,
    pub(super) server: Arc<Server>,
    /// Ports that came up, where somebody looks at them.
    pub(super) appeared: Option<Appeared>,
    orders: Producer<Order>,
    done: Consumer<Box<CallPorts>>,
}

/// What a call's ports are called.
#[derive(Debug)]
pub(super) struct PortNames {
    /// What comes before `caller`, `agent` and `to_phone` in the ports' names.
    pub(super) prefix: String,
    /// The same in their aliases, client's name and all.
    pub(super) alias: Option<String>,
}

impl Connection {
    /// Opens and activates the client that calls share. No calls yet.
    pub(super) fn shared(config: &JackConfig, server_name: &str, epoch: Instant) -> Result<Self, JackError> {
        let watch = !config.connect.is_empty();
        Self::open(server_name, &config.client_name, config.max_calls.max(1), watch, epoch)
    }

    /// Opens and activates a client for one call.
    pub(super) fn own(server_name: &str, client_name: &str, epoch: Instant) -> Result<Self, JackError> {
        Self::open(server_name, client_name, 1, false, epoch)
    }

    fn open(
        server_name: &str,
        client_name: &str,
        max_calls: usize,
        watch: bool,
        epoch: Instant,
    ) -> Result<Self, JackError> {
        let client = client::open(server_name, client_name)?;
        let server = Server::new(client.sample_rate(), client.buffer_size());
        // An order to add and one to remove for every call there can be.
        let (orders, orders_in) = RingBuffer::new(2 * max_calls);
        let (done_out, done) = RingBuffer::new(max_calls);
        let processor = Processor::new(Arc::clone(&server), epoch, orders_in, done_out, max_calls);
        let (notifications, appeared) = if watch {
            let (notifications, appeared) = Notifications::with_ports(Arc::clone(&server));
            (notifications, Some(appeared))
        } else {
            (Notifications::new(Arc::clone(&server)), None)
        };
        let client = client.activate_async(notifications, processor).map_err(|error| JackError::Refused {
            server: server_name.to_owned(),
            client: client_name.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { client, server, appeared, orders, done })
    }

    /// The client, to ask and to connect.
    pub(super) fn client(&self) -> &Client {
        self.client.as_client()
    }

    fn register<P: PortSpec>(&self, spec: P, names: &PortNames, kind: &str) -> Result<Port<P>, String> {
        let name = format!("{}{kind}", names.prefix);
        let mut port = self.client().register_port(&name, spec).map_err(|error| error.to_string())?;
        if let Some(alias) = &names.alias
            && let Err(error) = port.set_alias(&format!("{alias}:{kind}"))
        {
            log::debug!("JACK: {name}: {error}");
        }
        Ok(port)
    }

    fn unregister<P>(&self, port: Port<P>) {
        if let Err(error) = self.client().unregister_port(port) {
            log::debug!("JACK: {error}");
        }
    }

    /// Registers a call's ports, hands their ends to the process callback and returns the other ends, and what the ports
    /// are called. `margin` is in samples of 8 kHz; `patch`: whether `agent` is connected to `to_phone`.
    pub(super) fn plug(
        &mut self,
        id: u64,
        names: &PortNames,
        margin: u32,
        patch: bool,
    ) -> Result<(Link, CallEnds), String> {
        let rate = self.server.rate_hz;
        let (caller, caller_port) = crossing::to_port(rate, margin).map_err(|e| e.to_string())?;
        let (agent, agent_port) = crossing::to_port(rate, margin).map_err(|e| e.to_string())?;
        let (to_phone_port, to_phone) = crossing::from_port(rate, margin).map_err(|e| e.to_string())?;
        let out = self.register(AudioOut::default(), names, "caller")?;
        let voice = match self.register(AudioOut::default(), names, "agent") {
            Ok(port) => port,
            Err(error) => {
                self.unregister(out);
                return Err(error);
            }
        };
        let back = match self.register(AudioIn::default(), names, "to_phone") {
            Ok(port) => port,
            Err(error) => {
                self.unregister(out);
                self.unregister(voice);
                return Err(error);
            }
        };
        if patch && let Err(error) = self.client().connect_ports(&voice, &back) {
            log::warn!("JACK: {}agent is not connected to to_phone: {error}", names.prefix);
        }
        let ends = CallEnds::new(&out, &voice, &back);
        let ports =
            CallPorts { id, caller: (out, caller_port), agent: (voice, agent_port), to_phone: (back, to_phone_port) };
        if let Err(rtrb::PushError::Full(Order::Add(ports))) = self.orders.push(Order::Add(Box::new(ports))) {
            self.unplug(*ports);
            return Err("the process callback does not take orders".to_owned());
        }
        Ok((Link { server: Arc::clone(&self.server), caller, agent, to_phone }, ends))
    }

    fn unplug(&self, ports: CallPorts) {
        self.unregister(ports.caller.0);
        self.unregister(ports.agent.0);
        self.unregister(ports.to_phone.0);
    }

    /// Has a call's ports taken out of the process callback; they go at the next
    /// [`drop_what_is_done_with`](Self::drop_what_is_done_with).
    pub(super) fn remove(&mut self, id: u64) {
        if self.orders.push(Order::Remove(id)).is_err() {
            log::warn!("JACK: the process callback does not take orders; reconnecting");
            self.server.end();
        }
    }

    pub(super) fn drop_what_is_done_with(&mut self) {
        while let Ok(ports) = self.done.pop() {
            self.unplug(*ports);
        }
    }

    /// Leaves the server properly, so that it does not keep a slot for us.
    pub(super) fn close(self) {
        self.server.end();
        match self.client.deactivate() {
            Ok((client, _, _)) => drop(client),
            Err(error) => log::debug!("JACK: {error}"),
        }
    }
}
