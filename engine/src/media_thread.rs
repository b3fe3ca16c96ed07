//! The media thread: many calls, one loop on an absolute clock.
//!
//! Every 5 ms it takes in new calls, reads the sockets that have something, ticks every call, and sends what the calls
//! want sent. It is woken by its clock and not by packets; the kernel's receive times tell when those really came.
//!
//! What must hold: between [`Loop::run`]'s first and last tick the thread never allocates, frees, locks, logs, waits for
//! anything but its clock, or panics. Calls come in by a ring, built elsewhere; ended calls and taps go out by a ring, to
//! be dropped elsewhere. A ring that is full makes it try again at the next tick.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::TICK;
use crate::bridge::{LINKS_PER_CALL, LinkCommand, Links};
use crate::call::{self, MediaCall};
use crate::clock::Time;
use crate::event::{CallId, MediaEvent};
use crate::icmp;
use crate::net::{Net, NetIo, Received, Token};
use crate::ports::ReservedPort;
use crate::realtime::{self, Grant};
use crate::stats::{Counter, LatenessHistogram, ThreadStats};

/// A tick whose last packet leaves so long after the tick was due is late: a tenth of a packet, what a far end's jitter buffer
/// does not notice yet.
const LATE: Duration = Duration::from_millis(2);
/// A tick that begins so long after it was due has begun late: 1 ms, and the edge of a bucket of the histogram.
const LATE_START: Duration = Duration::from_micros(1024);
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
    pub(crate) late_ticks: Counter,
    pub(crate) skipped_ticks: Counter,
    pub(crate) busy_ns: Counter,
    pub(crate) deferred_drains: Counter,
    pub(crate) lost_events: Counter,
    pub(crate) calls: AtomicUsize,
    stop: AtomicBool,
}

impl ThreadFigures {
    pub(crate) fn snapshot(&self) -> ThreadStats {
        ThreadStats {
            calls: self.calls.load(Ordering::Relaxed),
            ticks: self.lateness.count(),
            late_starts: self.lateness.beyond(LATE_START),
            lateness_max: self.lateness.max(),
            late_ticks: self.late_ticks.get(),
            skipped_ticks: self.skipped_ticks.get(),
            overruns: self.overruns.get(),
            busy: Duration::from_nanos(self.busy_ns.get()),
        }
    }
}

/// How a media thread is to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadConfig {
    pub(crate) max_calls: usize,
    pub(crate) core: Option<usize>,
    pub(crate) priority: Option<u8>,
    pub(crate) net_io: NetIo,
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
    pub(crate) net_io: Grant,
    thread: Option<JoinHandle<()>>,
}

impl MediaThread {
    /// Starts a thread for at most so many calls.
    pub(crate) fn start(index: usize, config: &ThreadConfig) -> io::Result<Self> {
        let &ThreadConfig { max_calls, core, priority, net_io } = config;
        let (new_in, new_out) = RingBuffer::new(max_calls);
        let (orders_in, orders_out) = RingBuffer::new(max_calls * LINKS_PER_CALL);
        let (events_in, events_out) = RingBuffer::new(max_calls * EVENTS_PER_CALL);
        // every call and all of its taps may end at once
        let (retired_in, retired_out) = RingBuffer::new(max_calls * 2 + 64);
        let figures = Arc::new(ThreadFigures::default());
        let theirs = figures.clone();
        let (grants_in, grants) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("media-{index}")).spawn(move || {
            let granted = (realtime::pin(core), realtime::schedule(priority));
            let (net, net_io) = match Net::open(net_io, max_calls) {
                Ok((net, grant)) => (net, Ok(grant)),
                Err(error) => return drop(grants_in.send((granted, Err(error)))),
            };
            let _ = grants_in.send((granted, net_io));
            drop(grants_in);
            let slots = (0..max_calls).map(|_| None).collect();
            let mut media_loop = Loop {
                new_calls: new_out,
                orders: orders_out,
                links: Links::new(max_calls),
                events: events_in,
                retired: retired_in,
                net,
                slots,
                figures: theirs,
            };
            media_loop.run();
        })?;
        let ((pinned, realtime), net_io) = grants.recv().map_err(io::Error::other)?;
        let (thread, net_io) = (Some(thread), net_io?);
        Ok(Self {
            new_calls: new_in,
            orders: orders_in,
            events: events_out,
            retired: retired_out,
            figures,
            pinned,
            realtime,
            net_io,
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
    net: Net,
    slots: Box<[Option<Box<RunningCall>>]>,
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
            let ended = Time::now();
            if ended.since(due) > LATE {
                self.figures.late_ticks.add(1);
            }
            due += TICK;
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
        self.receive(now);
        self.links.tick(&mut self.slots, now);
        for index in 0..self.slots.len() {
            self.tick_call(index, now);
        }
        self.net.flush();
    }

    fn take_new_calls(&mut self) {
        while !self.new_calls.is_empty() {
            let Some(index) = self.slots.iter().position(Option::is_none) else { return };
            let Ok(call) = self.new_calls.pop() else { return };
            self.net.add(Token::new(index, false), &call.port.rtp);
            self.net.add(Token::new(index, true), &call.port.rtcp);
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
        let slots = &mut self.slots;
        let deferred = self.net.receive(&mut |token, received| {
            let Some(Some(call)) = slots.get_mut(token.slot()) else { return };
            match received {
                Received::Datagram(datagram) if token.is_rtcp() => {
                    call.media.on_rtcp(datagram.arrival, datagram.source, datagram.bytes);
                }
                Received::Datagram(datagram) => call.media.on_packet(datagram.arrival, datagram.source, datagram.bytes),
                Received::Unreadable => call.media.counters().bad_packets.add(1),
                Received::Error => take_errors(call, token, now),
            }
        });
        self.figures.deferred_drains.add(deferred);
        while let Some(token) = self.net.poll_failed() {
            if let Some(Some(call)) = self.slots.get_mut(token.slot()) {
                call.media.counters().send_failures.add(1);
                take_errors(call, token, now);
            }
        }
    }

    fn tick_call(&mut self, index: usize, now: Time) {
        let Some(call) = &mut self.slots[index] else { return };
        let id = call.media.id();
        call.media.tick(now);
        while let Some(packet) = call.media.poll_transmit() {
            let socket = if packet.rtcp { &call.port.rtcp } else { &call.port.rtp };
            self.net.send(Token::new(index, packet.rtcp), socket, packet.bytes, packet.to);
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
        if call.media.looks_around() && call.media.is_abandoned() && !self.retired.is_full() {
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
        self.net.flush(); // its last packet, which goes by its socket
        self.net.remove(Token::new(index, false), &call.port.rtp);
        self.net.remove(Token::new(index, true), &call.port.rtcp);
        self.figures.calls.fetch_sub(1, Ordering::Relaxed);
        Some(call)
    }
}

/// Takes what came back as undeliverable. A far end that listens to no reports is none that does not listen.
fn take_errors(call: &mut RunningCall, token: Token, now: Time) {
    let socket = if token.is_rtcp() { &call.port.rtcp } else { &call.port.rtp };
    if icmp::take_unreachable(socket) && !token.is_rtcp() {
        call.media.note_unreachable(now);
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
