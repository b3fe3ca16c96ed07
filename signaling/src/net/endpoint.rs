//! The endpoint: the thread, its loop, and the handle to it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use mio::{Events, Interest, Poll, Token, Waker, net::UdpSocket};
use rand::{TryRng, rngs::SysRng};

use super::{
    Command, StreamStats,
    config::{EndpointConfig, Sockets, widen},
    local_ip_towards,
    resolver::{NOT_FOUND_LIFE, Resolver},
    start_line,
    streams::{StreamEvent, Streams},
    tls::Tls,
    unreachable,
};
use crate::{
    agent::{LocalIp, Seed, Transmit, UserAgent},
    error::SignalingError,
    event::Event,
    guard::GuardCounters,
    transport::Transport,
};

/// Commands that may wait for the loop.
pub const COMMAND_QUEUE: usize = 1024;
/// Events that may wait for the application.
pub const EVENT_QUEUE: usize = 4096;
/// Datagrams taken per wake-up before timers and commands get their turn again.
const DATAGRAMS_A_TURN: usize = 256;
/// How soon events that found no room are tried again.
const EVENT_RETRY: Duration = Duration::from_millis(5);
/// How long an endpoint that closes waits for BYEs and unregistrations to be answered.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Readiness taken per wake-up; what is beyond comes with the next.
const READY_A_TURN: usize = 256;
/// The largest UDP payload.
const LARGEST_DATAGRAM: usize = 65_535;

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// What the loop counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams the system did not take: a full buffer, no route, a refused port.
    pub send_errors: u64,
    /// Errors reading the socket; on Linux usually ICMP's news about something sent before.
    pub receive_errors: u64,
    /// Messages that were no SIP message.
    pub malformed: u64,
    /// Room for datagrams that wait in the system, in bytes, as the system granted it.
    pub receive_buffer: usize,
    /// STUN that was no answer to anything we asked.
    pub stun_dropped: u64,
    /// Of TCP and TLS connections.
    pub streams: StreamStats,
    /// Of the guard: who was let in, and what was thrown away for what reason.
    pub guard: GuardCounters,
}

#[derive(Debug, Default)]
struct SharedStats {
    received: AtomicU64,
    sent: AtomicU64,
    send_errors: AtomicU64,
    receive_errors: AtomicU64,
    malformed: AtomicU64,
    receive_buffer: usize,
    stun_dropped: AtomicU64,
    streams: Mutex<StreamStats>,
    guard: Mutex<GuardCounters>,
}

enum Order {
    Do(Command),
    Close,
}

/// A user agent on a socket. Dropping it closes it: calls are ended, bindings removed, for at most two seconds.
#[derive(Debug)]
pub struct Endpoint {
    local: SocketAddr,
    tcp: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    orders: Sender<Order>,
    events: Receiver<Event>,
    waker: Arc<Waker>,
    stats: Arc<SharedStats>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Opens the socket and starts the thread. `on_event` is called from that thread after events were queued: make it
    /// short, a waker or a channel.
    ///
    /// # Errors
    /// The socket could not be opened (port in use), the configuration is bad, or the thread could not be made.
    pub fn start(config: EndpointConfig, on_event: impl Fn() + Send + 'static) -> Result<Endpoint, SignalingError> {
        let Sockets { udp: mut socket, tcp, tls } = Sockets::open(&config)?;
        let failed = |source| SignalingError::Socket { addr: config.bind, source };
        let local = socket.local_addr().map_err(failed)?;
        let tcp_local = tcp.as_ref().and_then(|l| l.local_addr().ok());
        let tls_local = tls.as_ref().and_then(|l| l.local_addr().ok());
        let poll = Poll::new().map_err(SignalingError::Start)?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE).map_err(SignalingError::Start)?;
        let context = Tls::new(&config.tls_files)?;
        if let Some(addr) = config.tls.filter(|_| !context.is_server()) {
            return Err(SignalingError::NoCertificate(addr));
        }
        let registry = poll.registry().try_clone().map_err(SignalingError::Start)?;
        let mut streams = Streams::new(registry, config.streams, context, local.ip());
        for (listener, transport) in [(tcp, Transport::Tcp), (tls, Transport::Tls)] {
            if let Some(listener) = listener {
                streams.listen(listener, transport).map_err(SignalingError::Start)?;
            }
        }
        if let Err(e) = unreachable::watch(&socket, local.is_ipv4()) {
            log::debug!("dead addresses will be noticed late: {e}");
        }
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(SignalingError::Start)?);

        let mut agent_config = config.agent;
        agent_config.local = local;
        agent_config.tcp_port = tcp_local.map(|a| a.port());
        agent_config.tls_port = tls_local.map(|a| a.port());
        agent_config.local_ip = if local.ip().is_unspecified() {
            LocalIp::Route(Arc::new(local_ip_towards))
        } else {
            LocalIp::Fixed(local.ip())
        };
        let mut seed = Seed::default();
        SysRng.try_fill_bytes(&mut seed).map_err(|e| SignalingError::Start(io::Error::other(e.to_string())))?;
        let agent = UserAgent::new(agent_config, seed)?;

        let (orders, taken) = bounded(COMMAND_QUEUE);
        let (told, events) = bounded(EVENT_QUEUE);
        let wake = waker.clone();
        let resolver = Resolver::start(
            config.dns,
            Arc::new(move || {
                let _ = wake.wake();
            }),
        )
        .map_err(SignalingError::Start)?;
        let stats = Arc::new(SharedStats { receive_buffer: widen(&socket), ..SharedStats::default() });
        let running = Running {
            poll,
            socket,
            streams,
            is_v6: local.is_ipv6(),
            agent,
            orders: taken,
            events: told,
            waiting: None,
            on_event: Box::new(on_event),
            resolver,
            stats: stats.clone(),
            closing: None,
        };
        let thread =
            thread::Builder::new().name("sip".into()).spawn(move || running.run()).map_err(SignalingError::Start)?;
        Ok(Endpoint { local, tcp: tcp_local, tls: tls_local, orders, events, waker, stats, thread: Some(thread) })
    }

    /// Where it listens, with the port that was really taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where it accepts TCP connections.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Where it accepts TLS connections.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls
    }

    /// Hands a command to the loop; never blocks.
    ///
    /// # Errors
    /// [`SignalingError::Queue`]: the queue is full or the loop has ended; nothing was done.
    pub fn command(&self, command: Command) -> Result<(), SignalingError> {
        self.order(Order::Do(command))
    }

    /// The next event, if there is one.
    pub fn try_recv(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The next event, waited for.
    pub fn recv_timeout(&self, limit: Duration) -> Option<Event> {
        self.events.recv_timeout(limit).ok()
    }

    /// What the loop counted.
    pub fn stats(&self) -> EndpointStats {
        EndpointStats {
            received: self.stats.received.load(Relaxed),
            sent: self.stats.sent.load(Relaxed),
            send_errors: self.stats.send_errors.load(Relaxed),
            receive_errors: self.stats.receive_errors.load(Relaxed),
            malformed: self.stats.malformed.load(Relaxed),
            receive_buffer: self.stats.receive_buffer,
            stun_dropped: self.stats.stun_dropped.load(Relaxed),
            streams: *self.stats.streams.lock().unwrap_or_else(PoisonError::into_inner),
            guard: *self.stats.guard.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Ends all calls, removes all bindings, and waits at most two seconds for the answers. Events of that time stay to be
    /// received.
    pub fn close(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // a full command queue empties within a turn of the loop, unless the loop is gone
        while let Err(SignalingError::Queue(FULL)) = self.order(Order::Close) {
            thread::yield_now();
        }
        if thread.join().is_err() {
            log::error!("the signaling thread panicked");
        }
    }

    fn order(&self, order: Order) -> Result<(), SignalingError> {
        self.orders.try_send(order).map_err(|e| match e {
            TrySendError::Full(_) => SignalingError::Queue(FULL),
            TrySendError::Disconnected(_) => SignalingError::Queue("it has ended"),
        })?;
        self.waker.wake().map_err(|_| SignalingError::Queue("it cannot be woken"))
    }
}

const FULL: &str = "its queue is full";

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.close();
    }
}

struct Running {
    poll: Poll,
    socket: UdpSocket,
    streams: Streams,
    is_v6: bool,
    agent: UserAgent,
    orders: Receiver<Order>,
    events: Sender<Event>,
    /// The event that found no room.
    waiting: Option<Event>,
    on_event: Box<dyn Fn() + Send>,
    resolver: Resolver,
    stats: Arc<SharedStats>,
    /// Set once closing began: when it ends at the latest.
    closing: Option<Instant>,
}

impl Running {
    fn run(mut self) {
        let mut ready = Events::with_capacity(READY_A_TURN);
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        let mut more = false;
        self.agent.handle_timeout(Instant::now());
        loop {
            self.hand_out();
            if let Some(limit) = self.closing
                && (self.agent.is_idle() && self.streams.is_flushed() || Instant::now() >= limit)
            {
                return self.streams.close();
            }
            if let Err(e) = self.poll.poll(&mut ready, Some(self.sleep(more)))
                && e.kind() != io::ErrorKind::Interrupted
            {
                log::error!("waiting for the SIP sockets failed: {e}");
                thread::sleep(EVENT_RETRY);
            }
            let now = Instant::now();
            for event in ready.iter().filter(|e| !matches!(e.token(), SOCKET | WAKER)) {
                self.streams.handle_readiness(now, event);
            }
            // each kind of input gets its share of a turn, whatever the others bring
            more = self.receive(&mut buffer);
            more |= self.serve_streams();
            let now = Instant::now();
            for address in unreachable::take(&self.socket) {
                log::debug!("nobody listens at {address}");
                self.agent.handle_unreachable(now, address);
            }
            while let Some((id, targets, life)) = self.resolver.try_answer() {
                self.agent.handle_resolved(now, id, &targets, life);
            }
            self.take_orders(now);
            self.agent.handle_timeout(now);
        }
    }

    /// Connections' deadlines, newcomers and messages; true if there is more to do at once.
    fn serve_streams(&mut self) -> bool {
        let now = Instant::now();
        let agent = &self.agent;
        self.streams.handle_timeout(now, &|id, made| agent.needs_connection(id, made));
        let agent = &mut self.agent;
        let more = self.streams.turn(now, &mut |ip| agent.admit_connection(now, ip));
        self.take_from_streams();
        let counted = self.streams.stats();
        *self.stats.streams.lock().unwrap_or_else(PoisonError::into_inner) = counted;
        *self.stats.guard.lock().unwrap_or_else(PoisonError::into_inner) = self.agent.guard_counters();
        more
    }

    /// What connections brought goes to the agent, and its answers go out.
    fn take_from_streams(&mut self) {
        while let Some(event) = self.streams.poll() {
            let now = Instant::now();
            match event {
                StreamEvent::Message { from, bytes } => self.agent.handle_message(now, &from, &bytes),
                StreamEvent::Closed { peer, reason } => self.agent.handle_closed(now, &peer, &reason),
                StreamEvent::Left { seat } => self.agent.leave_connection(seat),
                StreamEvent::Offended { from, offence } => self.agent.offend(now, from, offence),
            }
            self.send();
        }
    }

    /// How long to wait for the socket. `more`: datagrams were left behind, and mio tells of them only once.
    fn sleep(&self, more: bool) -> Duration {
        if more {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let due = self.agent.poll_timeout().into_iter().chain(self.streams.poll_timeout()).min();
        let mut until = due.map(|t| t.saturating_duration_since(now));
        let mut sooner = |d: Duration| until = Some(until.map_or(d, |u| u.min(d)));
        if self.waiting.is_some() {
            sooner(EVENT_RETRY);
        }
        if let Some(limit) = self.closing {
            sooner(limit.saturating_duration_since(now));
        }
        // a bound of its own, so that a lost wake-up could never be for ever
        until.unwrap_or(Duration::from_secs(60)).min(Duration::from_secs(60))
    }

    /// Reads what has come; true if there may be more.
    fn receive(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..DATAGRAMS_A_TURN {
            match self.socket.recv_from(buffer) {
                Ok((length, from)) => {
                    self.stats.received.fetch_add(1, Relaxed);
                    // on a socket for both families IPv4 looks like IPv6
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    if let Some(bytes) = buffer.get(..length) {
                        log::trace!("{from} -> {}", start_line(bytes));
                        self.agent.handle_datagram(Instant::now(), from, bytes);
                    }
                    self.send();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) => {
                    // ICMP's news surfaces here once more, see the `unreachable` module
                    self.stats.receive_errors.fetch_add(1, Relaxed);
                    log::debug!("SIP socket: {e}");
                }
            }
        }
        true
    }

    fn take_orders(&mut self, now: Instant) {
        for _ in 0..COMMAND_QUEUE {
            match self.orders.try_recv() {
                Ok(Order::Do(command)) => self.obey(now, command),
                Ok(Order::Close) => {
                    if self.closing.is_none() {
                        self.closing = Some(now + CLOSE_LIMIT);
                        self.agent.shutdown(now);
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn obey(&mut self, now: Instant, command: Command) {
        let agent = &mut self.agent;
        let done = match command {
            Command::Dial { tag, dial } => {
                agent.dial_tagged(now, tag, dial);
                Ok(())
            }
            Command::Ring(call) => agent.ring(now, call),
            Command::Progress { call, sdp } => agent.progress(now, call, sdp),
            Command::Reoffer { call, sdp } => agent.reoffer(now, call, sdp),
            Command::Info { call, content_type, body } => agent.info(now, call, content_type, body),
            Command::Transfer { call, to } => agent.transfer(now, call, &to),
            Command::TransferTo { call, other } => agent.transfer_to(now, call, other),
            Command::AcceptTransfer { call, sdp } => agent.accept_transfer(now, call, sdp),
            Command::RejectTransfer { call, status } => agent.reject_transfer(now, call, status),
            Command::Answer { call, sdp } => agent.answer(now, call, sdp),
            Command::Reject { call, status } => agent.reject(now, call, status),
            Command::Hangup(call) => agent.hangup(now, call),
            Command::AnswerReoffer { call, sdp } => agent.answer_reoffer(now, call, sdp),
            Command::RejectReoffer { call, status } => agent.reject_reoffer(now, call, status),
            Command::Trace { tag, of } => {
                agent.tell_trace(tag, &of);
                Ok(())
            }
            Command::Bans { tag } => {
                agent.tell_bans(now, tag);
                Ok(())
            }
            Command::Pardon(address) => {
                agent.pardon(now, address);
                Ok(())
            }
        };
        // the call ended while the command was on its way; its event is in the queue
        if let Err(e) = done {
            log::debug!("command not done: {e}");
        }
    }

    fn send(&mut self) {
        while let Some(Transmit { to, bytes }) = self.agent.poll_transmit() {
            match to.transport {
                Transport::Udp => self.send_datagram(to.address, &bytes),
                _ => self.streams.send(Instant::now(), &to, bytes),
            }
        }
        let counted = self.agent.counters();
        self.stats.malformed.store(counted.malformed, Relaxed);
        self.stats.stun_dropped.store(counted.stun_dropped, Relaxed);
    }

    fn send_datagram(&mut self, to: SocketAddr, bytes: &[u8]) {
        match self.socket.send_to(bytes, self.as_sent(to)) {
            Ok(_) => {
                log::trace!("UDP {to} <- {}", start_line(bytes));
                self.stats.sent.fetch_add(1, Relaxed);
            }
            Err(e) => {
                self.stats.send_errors.fetch_add(1, Relaxed);
                log::debug!("nothing sent to {to}: {e}");
                if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    self.agent.handle_unreachable(Instant::now(), to);
                }
            }
        }
    }

    /// An address as the socket wants it: one for both families takes IPv4 addresses only as IPv6.
    fn as_sent(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }

    /// Everything the agent has for others: messages, questions, events.
    fn hand_out(&mut self) {
        loop {
            self.send();
            // connections that could not even be begun
            self.take_from_streams();
            let Some(question) = self.agent.poll_resolve() else { break };
            if let Err(question) = self.resolver.ask(question) {
                self.agent.handle_resolved(Instant::now(), question.id, &[], NOT_FOUND_LIFE);
            }
        }
        let mut told = false;
        while let Some(event) = self.waiting.take().or_else(|| self.agent.poll_event()) {
            match self.events.try_send(event) {
                Ok(()) => told = true,
                Err(TrySendError::Full(event)) => {
                    self.waiting = Some(event);
                    break;
                }
                // nobody listens any more: the handle is being dropped
                Err(TrySendError::Disconnected(_)) => break,
            }
        }
        if told {
            (self.on_event)();
        }
    }
}
