//! The media thread: many calls, one loop on an absolute clock.
//!
//! Every 5 ms it takes in new calls, reads the sockets that have something, ticks every call, and sends what the calls
//! want sent. It is woken by its clock and not by packets; the kernel's receive times tell when those really came.
//!
//! What must hold: between [`Loop::run`]'s first and last tick the thread never allocates, frees, locks, logs, waits for
//! anything but its clock, or panics. Calls come in by a ring, built elsewhere; ended calls and taps go out by a ring, to
//! be dropped elsewhere. A ring that is full makes it try again at the next tick.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::TICK;
use crate::bridge::{LINKS_PER_CALL, LinkCommand, Links};
use crate::call::{self, MediaCall};
use crate::clock::Time;
use crate::event::{CallId, MediaEvent};
use crate::icmp;
use crate::net::{Batch, Readiness};
use crate::ports::ReservedPort;
use crate::realtime::{self, Grant};
use crate::stats::{Counter, LatenessHistogram};

/// Datagrams that are read from one socket in one tick: a call's own take one; the rest is for bursts. What is left stays
/// in the kernel, whose buffer is the bound (cases 2 and 17).
const SOCKET_SHARE: usize = 256;
/// Datagrams that are read in one tick altogether: about 1 ms of work.
const TICK_SHARE: usize = 2_048;
/// Events that wait for the daemon, for each call that there can be.
const EVENTS_PER_CALL: usize = 32;

/// A call as it runs: its media and its sockets.
#[derive(Debug)]
pub(crate) struct RunningCall {
    pub(crate) media: MediaCall,
    pub(crate) port: ReservedPort,
}

/// What a media thread is done with.
#[derive(Debug)]
pub(crate) enum Retired {
    Call(Box<RunningCall>),
    /// A call that runs, asked for by [`Order::Give`].
    Given(Box<RunningCall>),
    Part(call::Retired),
}

/// What a media thread is to do about calls that it has.
#[derive(Debug)]
pub(crate) enum Order {
    /// Change a link between two of them.
    Link(LinkCommand),
    /// Give one away, as it is, so that another thread goes on with it.
    Give(CallId),
}

/// What a media thread tells of itself.
#[derive(Debug, Default)]
pub(crate) struct ThreadFigures {
    pub(crate) lateness: LatenessHistogram,
    pub(crate) overruns: Counter,
    pub(crate) skipped_ticks: Counter,
    pub(crate) busy_ns: Counter,
    pub(crate) deferred_drains: Counter,
    pub(crate) lost_events: Counter,
    pub(crate) calls: AtomicUsize,
    stop: AtomicBool,
}

/// A running media thread, as the engine holds it.
#[derive(Debug)]
pub(crate) struct MediaThread {
    pub(crate) new_calls: Producer<Box<RunningCall>>,
    pub(crate) orders: Producer<Order>,
    pub(crate) events: Consumer<(CallId, MediaEvent)>,
    pub(crate) retired: Consumer<Retired>,
    pub(crate) figures: Arc<ThreadFigures>,
    pub(crate) pinned: Grant,
    pub(crate) realtime: Grant,
    thread: Option<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts a thread for at most so many calls.
    pub(crate) fn start(index: usize, max_calls: usize, core: Option<usize>, priority: Option<u8>) -> io::Result<Self> {
        let (new_in, new_out) = RingBuffer::new(max_calls);
        let (orders_in, orders_out) = RingBuffer::new(max_calls * LINKS_PER_CALL);
        let (events_in, events_out) = RingBuffer::new(max_calls * EVENTS_PER_CALL);
        // every call and all of its taps may end at once
        let (retired_in, retired_out) = RingBuffer::new(max_calls * 2 + 64);
        let figures = Arc::new(ThreadFigures::default());
        let mut media_loop = Loop {
            new_calls: new_out,
            orders: orders_out,
            links: Links::new(max_calls),
            events: events_in,
            retired: retired_in,
            readiness: Readiness::new(max_calls * 2)?,
            batch: Batch::new()?,
            slots: (0..max_calls).map(|_| None).collect(),
            first: 0,
            figures: figures.clone(),
        };
        let (grants_in, grants) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("media-{index}")).spawn(move || {
            let _ = grants_in.send((realtime::pin(core), realtime::schedule(priority)));
            drop(grants_in);
            media_loop.run();
        })?;
        let (pinned, realtime) = grants.recv().map_err(io::Error::other)?;
        let thread = Some(thread);
        Ok(Self {
            new_calls: new_in,
            orders: orders_in,
            events: events_out,
            retired: retired_out,
            figures,
            pinned,
            realtime,
            thread,
        })
    }

    /// Whether the thread is gone, which only a fault of ours can do.
    pub(crate) fn is_gone(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for MediaThread {
    fn drop(&mut self) {
        self.figures.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Loop {
    new_calls: Consumer<Box<RunningCall>>,
    orders: Consumer<Order>,
    links: Links,
    events: Producer<(CallId, MediaEvent)>,
    retired: Producer<Retired>,
    readiness: Readiness,
    batch: Batch,
    slots: Box<[Option<Box<RunningCall>>]>,
    /// Whose turn it is to be read first.
    first: usize,
    figures: Arc<ThreadFigures>,
}

impl Loop {
    fn run(&mut self) {
        realtime::mark_thread();
        let mut due = Time::now() + TICK;
        while !self.figures.stop.load(Ordering::Acquire) {
            sleep_until(due);
            let begun = Time::now();
            self.figures.lateness.record(begun.since(due));
            // a thread that was stalled makes one tick of it; each call makes up for the rest as far as it makes sense
            let missed = begun.since(due).as_nanos() / TICK.as_nanos();
            let missed = u32::try_from(missed).unwrap_or(u32::MAX);
            if missed > 0 {
                self.figures.skipped_ticks.add(u64::from(missed));
                due += TICK * missed;
            }
            self.tick(due);
            due += TICK;
            let ended = Time::now();
            self.figures.busy_ns.add(ended.since(begun).as_nanos().try_into().unwrap_or(u64::MAX));
            if ended > due {
                self.figures.overruns.add(1);
            }
        }
        realtime::unmark_thread();
    }

    fn tick(&mut self, now: Time) {
        self.take_new_calls();
        self.take_orders();
        self.batch.look_at_clocks();
        self.receive(now);
        self.links.tick(&mut self.slots, now);
        for index in 0..self.slots.len() {
            self.tick_call(index, now);
        }
    }

    fn take_new_calls(&mut self) {
        while !self.new_calls.is_empty() {
            let Some(index) = self.slots.iter().position(Option::is_none) else { return };
            let Ok(call) = self.new_calls.pop() else { return };
            let token = (index as u64) << 1;
            // descriptors that epoll cannot take make a call that hears nothing, and says so by MediaLost
            let _ = self.readiness.add(&call.port.rtp, token);
            let _ = self.readiness.add(&call.port.rtcp, token | 1);
            self.slots[index] = Some(call);
            self.figures.calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take_orders(&mut self) {
        // a call that is given away is retired, for which there must be room
        while !self.retired.is_full() {
            match self.orders.pop() {
                Ok(Order::Link(command)) => self.links.change(command, &mut self.slots),
                Ok(Order::Give(id)) => {
                    let has_it = |slot: &Option<Box<RunningCall>>| slot.as_ref().is_some_and(|c| c.media.id() == id);
                    if let Some(call) = self.slots.iter().position(has_it).and_then(|index| self.take_out(index)) {
                        let _ = self.retired.push(Retired::Given(call)); // there is room
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn receive(&mut self, now: Time) {
        let ready = self.readiness.look();
        let mut left = TICK_SHARE;
        // not always the same ones first, so that floods on some sockets leave something for the others
        self.first = self.first.wrapping_add(1);
        for n in 0..ready {
            let at = self.first.wrapping_add(n) % ready;
            let token = self.readiness.ready(at);
            let index = usize::try_from(token >> 1).unwrap_or(usize::MAX);
            let Some(Some(call)) = self.slots.get_mut(index) else { continue };
            if self.readiness.has_error(at) {
                take_errors(call, token & 1 != 0, now);
            }
            if left == 0 {
                self.figures.deferred_drains.add(1);
                continue;
            }
            let read = drain(&mut self.batch, call, token & 1 != 0, left.min(SOCKET_SHARE));
            if read >= SOCKET_SHARE {
                self.figures.deferred_drains.add(1);
            }
            left = left.saturating_sub(read);
        }
    }

    fn tick_call(&mut self, index: usize, now: Time) {
        let Some(call) = &mut self.slots[index] else { return };
        let id = call.media.id();
        call.media.tick(now);
        while let Some(packet) = call.media.poll_transmit() {
            let socket = if packet.rtcp { &call.port.rtcp } else { &call.port.rtp };
            // an error may be about an earlier packet (ICMP): then this one was not even tried
            let failed = (0..2).all(|_| socket.send_to(packet.bytes, packet.to).is_err());
            if failed {
                call.media.counters().send_failures.add(1);
            }
        }
        while !self.events.is_full()
            && let Some(event) = call.media.poll_event()
        {
            if self.events.push((id, event)).is_err() {
                self.figures.lost_events.add(1);
            }
        }
        while !self.retired.is_full()
            && let Some(part) = call.media.poll_retired()
        {
            let _ = self.retired.push(Retired::Part(part)); // there is room
        }
        if call.media.is_abandoned() && !self.retired.is_full() {
            self.retire(index);
        }
    }

    fn retire(&mut self, index: usize) {
        if let Some(call) = self.take_out(index) {
            let _ = self.retired.push(Retired::Call(call)); // there is room
        }
    }

    fn take_out(&mut self, index: usize) -> Option<Box<RunningCall>> {
        self.links.forget(index, &mut self.slots);
        let call = self.slots[index].take()?;
        self.readiness.remove(&call.port.rtp);
        self.readiness.remove(&call.port.rtcp);
        self.figures.calls.fetch_sub(1, Ordering::Relaxed);
        Some(call)
    }
}

/// Takes what came back as undeliverable. A far end that listens to no reports is none that does not listen.
fn take_errors(call: &mut RunningCall, rtcp: bool, now: Time) {
    let socket = if rtcp { &call.port.rtcp } else { &call.port.rtp };
    if icmp::take_unreachable(socket) && !rtcp {
        call.media.note_unreachable(now);
    }
}

/// Reads a socket into its call, up to a share; returns how many datagrams it was.
fn drain(batch: &mut Batch, call: &mut RunningCall, rtcp: bool, share: usize) -> usize {
    let socket: &UdpSocket = if rtcp { &call.port.rtcp } else { &call.port.rtp };
    let mut read = 0;
    loop {
        let more = batch.receive(socket);
        for index in 0..batch.len() {
            match batch.get(index) {
                Some(datagram) if rtcp => call.media.on_rtcp(datagram.arrival, datagram.source, datagram.bytes),
                Some(datagram) => call.media.on_packet(datagram.arrival, datagram.source, datagram.bytes),
                None => call.media.counters().bad_packets.add(1),
            }
        }
        read += batch.len();
        if !more || read >= share {
            return read;
        }
    }
}

/// Sleeps until a point of `CLOCK_MONOTONIC`; at once if it is over.
fn sleep_until(due: Time) {
    let nanos = due.as_nanos();
    let spec = libc::timespec {
        tv_sec: libc::time_t::try_from(nanos / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: `spec` is a valid timespec; the remaining time is not asked for, as absolute sleeps have none.
    while unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const spec, std::ptr::null_mut())
    } == libc::EINTR
    {}
}
