//! The JACK process callback: port buffers on one side, crossings on the other, and nothing else.
//!
//! What must hold: the callback allocates, frees, locks, logs and waits for nothing, whatever arrives. Calls come in as
//! boxes through a ring and leave through another, so that the manager makes and drops them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Instant;

use jack::{AudioIn, AudioOut, Client, ClientStatus, Control, Frames, Port, PortId, ProcessScope};
use rtrb::{Consumer, Producer};

use super::client::mark_real_time_thread;
use crate::dsp::crossing::{PortReader, PortWriter};
use crate::realtime;

/// A server that has not called us for this long hangs (stopped, swapped out, dead without notice): calls go direct.
const SILENT_US: u64 = 60_000;
/// The same in its own periods, for servers with very long ones.
const SILENT_PERIODS: u64 = 4;

/// One connection to a server, as every thread sees it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) rate_hz: u32,
    alive: AtomicBool,
    freewheel: AtomicBool,
    period: AtomicU32,
    xruns: AtomicU64,
    /// When the process callback last began, in microseconds since the bridge's epoch; 0: not yet.
    heartbeat_us: AtomicU64,
}

impl Server {
    pub(super) fn new(rate_hz: u32, period: u32) -> Arc<Self> {
        Arc::new(Self {
            rate_hz,
            alive: AtomicBool::new(true),
            freewheel: AtomicBool::new(false),
            period: AtomicU32::new(period),
            xruns: AtomicU64::new(0),
            heartbeat_us: AtomicU64::new(0),
        })
    }

    /// Whether the server still holds us as its client. Once `false`, for ever.
    pub(super) fn alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// As if the process callback had begun at this time.
    #[cfg(test)]
    pub(super) fn beat(&self, now_us: u64) {
        self.heartbeat_us.store(now_us, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// Whether it calls us as it should, in real time.
    pub(super) fn serving(&self, now_us: u64) -> bool {
        let heartbeat = self.heartbeat_us.load(Ordering::Acquire);
        let period_us = u64::from(self.period()) * 1_000_000 / u64::from(self.rate_hz.max(1));
        self.alive()
            && heartbeat != 0
            && !self.freewheels()
            && now_us.saturating_sub(heartbeat) < SILENT_US.max(SILENT_PERIODS * period_us)
    }

    /// Whether it runs as fast as it can instead of in real time.
    pub(super) fn freewheels(&self) -> bool {
        self.freewheel.load(Ordering::Acquire)
    }

    pub(super) fn period(&self) -> u32 {
        self.period.load(Ordering::Relaxed)
    }

    pub(super) fn xruns(&self) -> u64 {
        self.xruns.load(Ordering::Relaxed)
    }
}

/// One call's ports and the port ends of its crossings.
#[derive(Debug)]
pub(super) struct CallPorts {
    pub(super) id: u64,
    pub(super) caller: (Port<AudioOut>, PortReader),
    pub(super) agent: (Port<AudioOut>, PortReader),
    pub(super) to_phone: (Port<AudioIn>, PortWriter),
}

impl CallPorts {
    fn process(&mut self, now_us: u64, scope: &ProcessScope) {
        self.caller.1.read(now_us, self.caller.0.as_mut_slice(scope));
        self.agent.1.read(now_us, self.agent.0.as_mut_slice(scope));
        // Last: jackd2 copies a client's own output when the input buffer is asked for, so the loop from agent to to_phone
        // costs no period.
        self.to_phone.1.write(now_us, self.to_phone.0.as_slice(scope));
    }

    /// Time means nothing to the server now: silence, until it does again.
    fn rest(&mut self, scope: &ProcessScope) {
        for (port, reader) in [&mut self.caller, &mut self.agent] {
            port.as_mut_slice(scope).fill(0.0);
            reader.rest();
        }
    }
}

/// What the manager asks of the callback.
#[derive(Debug)]
pub(super) enum Order {
    Add(Box<CallPorts>),
    Remove(u64),
}

/// The process callback's state.
#[derive(Debug)]
pub(super) struct Processor {
    server: Arc<Server>,
    epoch: Instant,
    orders: Consumer<Order>,
    /// Removed calls, back to the manager. Has room for every call there can be.
    done: Producer<Box<CallPorts>>,
    /// Never longer than its capacity.
    // Boxed because they come and go as boxes: unboxing on arrival would free memory in the callback.
    #[allow(clippy::vec_box)]
    calls: Vec<Box<CallPorts>>,
}

impl Processor {
    pub(super) fn new(
        server: Arc<Server>,
        epoch: Instant,
        orders: Consumer<Order>,
        done: Producer<Box<CallPorts>>,
        max_calls: usize,
    ) -> Self {
        Self { server, epoch, orders, done, calls: Vec::with_capacity(max_calls) }
    }

    fn follow_orders(&mut self) {
        while let Ok(order) = self.orders.pop() {
            match order {
                Order::Add(call) if self.calls.len() < self.calls.capacity() => self.calls.push(call),
                Order::Add(call) => self.give_back(call),
                Order::Remove(id) => {
                    if let Some(at) = self.calls.iter().position(|call| call.id == id) {
                        let call = self.calls.swap_remove(at);
                        self.give_back(call);
                    }
                }
            }
        }
    }

    fn give_back(&mut self, call: Box<CallPorts>) {
        if let Err(rtrb::PushError::Full(call)) = self.done.push(call) {
            // Cannot be (the ring holds every call there can be); leaking is the one thing that is safe here.
            std::mem::forget(call);
        }
    }
}

impl jack::ProcessHandler for Processor {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        realtime::mark_thread();
        let now_us = self.epoch.elapsed().as_micros() as u64;
        self.follow_orders();
        let freewheels = self.server.freewheels();
        for call in &mut self.calls {
            if freewheels {
                call.rest(scope);
            } else {
                call.process(now_us, scope);
            }
        }
        self.server.period.store(scope.n_frames(), Ordering::Relaxed);
        self.server.heartbeat_us.store(now_us.max(1), Ordering::Release);
        realtime::unmark_thread();
        Control::Continue
    }
}

/// Ports that can appear while the manager is busy; of more it is told that it missed some.
const APPEARED: usize = 1_024;

/// Ports that appeared at the server, from its notification thread to the manager.
#[derive(Debug)]
pub(super) struct Appeared {
    pub(super) ports: Receiver<PortId>,
    missed: Arc<AtomicBool>,
}

impl Appeared {
    /// Whether some are not in [`ports`](Self::ports), for there was no room; once.
    pub(super) fn missed_some(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }
}

/// What the server tells us outside the process callback.
#[derive(Debug)]
pub(super) struct Notifications {
    server: Arc<Server>,
    appeared: Option<(SyncSender<PortId>, Arc<AtomicBool>)>,
}

impl Notifications {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, appeared: None }
    }

    /// Such that tell of ports.
    pub(super) fn with_ports(server: Arc<Server>) -> (Self, Appeared) {
        let (ports_in, ports) = mpsc::sync_channel(APPEARED);
        let missed = Arc::new(AtomicBool::new(false));
        (Self { server, appeared: Some((ports_in, Arc::clone(&missed))) }, Appeared { ports, missed })
    }
}

impl jack::NotificationHandler for Notifications {
    fn thread_init(&self, _: &Client) {
        mark_real_time_thread();
    }

    unsafe fn shutdown(&mut self, _: ClientStatus, _: &str) {
        self.server.end();
    }

    fn freewheel(&mut self, _: &Client, enabled: bool) {
        self.server.freewheel.store(enabled, Ordering::Release);
    }

    fn sample_rate(&mut self, _: &Client, rate_hz: Frames) -> Control {
        // Every crossing is built for one rate: end this connection, and the manager makes another.
        if rate_hz != self.server.rate_hz {
            self.server.end();
        }
        Control::Continue
    }

    fn port_registration(&mut self, _: &Client, port: PortId, registered: bool) {
        if let (true, Some((ports, missed))) = (registered, &self.appeared)
            && ports.try_send(port).is_err()
        {
            missed.store(true, Ordering::Release);
        }
    }

    fn xrun(&mut self, _: &Client) -> Control {
        self.server.xruns.fetch_add(1, Ordering::Relaxed);
        Control::Continue
    }
}
