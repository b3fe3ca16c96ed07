//! The stream connections, made and accepted: which one a message goes by, how many there may be, and when they go.
//!
//! | bound | what happens beyond it |
//! |---|---|
//! | [`StreamLimits::accepted`], what the guard allows | the newcomer is closed at once and counted |
//! | [`StreamLimits::made`] | the longest unused one goes |
//! | [`StreamLimits::queue`] | the connection goes: its far end does not read |
//! | a message's length | the connection goes, see `message::frame` |
//! | descriptors of the process (case 44) | nothing is accepted for a second, and that is counted |
//!
//! Sockets are real, time is a parameter: tests let deadlines pass without waiting.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{
    Interest, Registry, Token,
    net::{TcpListener, TcpStream},
};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt},
};

use super::{
    connection::{Broken, Connection, PING, READ, ReadMore, Stage, plain, who},
    start_line,
    tls::Tls,
};
use crate::{
    guard::{DropReason, Offence, Seat},
    message::Frame,
    timer::Timers,
    transport::{ConnectionId, Peer, Transport},
};

/// Connections accepted in one turn of the loop.
const ACCEPTS_A_TURN: usize = 32;
/// Connections that may do something in one turn of the loop, each with one read.
const VISITS_A_TURN: usize = 64;
/// How long nothing is accepted after the system had no descriptor or memory left.
const PAUSE: Duration = Duration::from_secs(1);
/// A silent connection is asked by the kernel whether its far end is still there.
const PROBE_SECONDS: u32 = 60;
/// How long what was sent may stay without the far end's acknowledgement: less than timer B, so that another server can be
/// tried.
const UNACKNOWLEDGED_MS: u32 = 20_000;
/// The tokens below it are the loop's own.
const FIRST_CONNECTION: usize = 16;
/// The token of the first listener.
const FIRST_LISTENER: usize = 8;

/// Bounds and deadlines of stream connections (case 18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamLimits {
    /// Accepted connections at once. What one address, and all strangers, may have of it is in
    /// [`GuardConfig`](crate::guard::GuardConfig).
    pub accepted: usize,
    /// Connections of our own at once.
    pub made: usize,
    /// Bytes that may wait for one far end.
    pub queue: usize,
    /// How long TCP's handshake may take.
    pub connect: Duration,
    /// How long that of TLS may take.
    pub handshake: Duration,
    /// How long a message may take from its first byte to its last.
    pub message: Duration,
    /// How long whoever came may stay without a first message.
    pub first_message: Duration,
    /// How long a connection stays on which nothing happens, keep-alives included, and that no call needs.
    pub idle: Duration,
    /// How long a far end may take nothing of what waits for it.
    pub stalled: Duration,
}

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits {
            accepted: 1024,
            made: 512,
            queue: 512 * 1024,
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            message: Duration::from_secs(10),
            first_message: Duration::from_secs(30),
            idle: Duration::from_secs(600),
            stalled: Duration::from_secs(20),
        }
    }
}

/// What came of the connections.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// One whole message.
    Message { from: Peer, bytes: Vec<u8> },
    /// A connection broke, or (without a number) could not be made.
    Closed { peer: Peer, reason: String },
    /// An accepted connection is gone: its seat goes back to the guard.
    Left { seat: Seat },
    /// Somebody who had connected did what nobody may.
    Offended { from: IpAddr, offence: Offence },
}

/// Who may connect: decided before a byte is read.
pub(super) type Admit<'a> = &'a mut dyn FnMut(IpAddr) -> Result<Seat, DropReason>;

/// What was counted of stream connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StreamStats {
    /// There now.
    pub open: u64,
    /// Taken in since the start.
    pub accepted: u64,
    /// Made by us and finished, TLS included.
    pub made: u64,
    /// Of our own, those that could not be made, TLS included.
    pub not_made: u64,
    /// Closed at once: too many, or not let in by the guard.
    pub refused: u64,
    /// TLS handshakes that failed, either way.
    pub handshake_failures: u64,
    /// Closed for what they sent, or for taking too long over it.
    pub abused: u64,
    /// Times that the system had no descriptor left for another connection.
    pub pauses: u64,
    /// Messages received.
    pub received: u64,
    /// Messages handed to a connection.
    pub sent: u64,
}

type Place = (Transport, SocketAddr, Option<Arc<str>>);

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    transport: Transport,
    token: Token,
    /// There may be somebody to accept.
    ready: bool,
}

#[derive(Debug)]
pub(super) struct Streams {
    registry: Registry,
    limits: StreamLimits,
    tls: Tls,
    /// Connections of our own are made from here.
    local_ip: IpAddr,
    listeners: Vec<Listener>,
    /// Nothing is accepted before.
    paused_until: Option<Instant>,
    connections: HashMap<ConnectionId, Connection>,
    /// The connection that serves a place.
    places: HashMap<Place, ConnectionId>,
    accepted: usize,
    /// Those with something to do, each once.
    ready: VecDeque<ConnectionId>,
    timers: Timers<ConnectionId>,
    events: VecDeque<StreamEvent>,
    buffer: Vec<u8>,
    last: u64,
    stats: StreamStats,
}

impl Streams {
    /// Without connections or listeners. Connections are made from `local_ip`, unless that is unspecified.
    pub(super) fn new(registry: Registry, limits: StreamLimits, tls: Tls, local_ip: IpAddr) -> Streams {
        Streams {
            registry,
            limits,
            tls,
            local_ip,
            listeners: Vec::new(),
            paused_until: None,
            connections: HashMap::new(),
            places: HashMap::new(),
            accepted: 0,
            ready: VecDeque::new(),
            timers: Timers::new(),
            events: VecDeque::new(),
            buffer: vec![0; READ],
            last: 0,
            stats: StreamStats::default(),
        }
    }

    /// Accepts connections on this socket from now on.
    pub(super) fn listen(&mut self, mut socket: TcpListener, transport: Transport) -> io::Result<()> {
        let token = Token(FIRST_LISTENER + self.listeners.len());
        self.registry.register(&mut socket, token, Interest::READABLE)?;
        self.listeners.push(Listener { socket, transport, token, ready: true });
        Ok(())
    }

    pub(super) fn stats(&self) -> StreamStats {
        StreamStats { open: self.connections.len() as u64, ..self.stats }
    }

    /// What happened next.
    pub(super) fn poll(&mut self) -> Option<StreamEvent> {
        self.events.pop_front()
    }

    /// When [`Streams::handle_timeout`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.paused_until).min()
    }

    /// Everything that was sent is with the kernel.
    pub(super) fn is_flushed(&self) -> bool {
        self.connections.values().all(Connection::is_flushed)
    }

    /// Takes note of what the poller said.
    pub(super) fn handle_readiness(&mut self, now: Instant, event: &mio::event::Event) {
        if let Some(listener) = self.listeners.iter_mut().find(|l| l.token == event.token()) {
            listener.ready = true;
            return;
        }
        let Some(id) = event.token().0.checked_sub(FIRST_CONNECTION).map(|n| ConnectionId(n as u64)) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        let written = if event.is_writable() || event.is_write_closed() || event.is_error() {
            connection.on_writable(now)
        } else {
            Ok(())
        };
        self.after(id, written);
    }

    /// Accepts and reads, as much as is fair; true if there is more to do at once.
    pub(super) fn turn(&mut self, now: Instant, admit: Admit) -> bool {
        let more = self.accept(now, admit);
        for _ in 0..VISITS_A_TURN {
            let Some(id) = self.ready.pop_front() else { break };
            self.visit(now, id);
        }
        more || !self.ready.is_empty()
    }

    /// Closes what takes too long. `needed`: a call counts on this connection although nothing happens on it; the flag says
    /// that we made it.
    pub(super) fn handle_timeout(&mut self, now: Instant, needed: &dyn Fn(ConnectionId, bool) -> bool) {
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
        }
        while let Some(id) = self.timers.pop_due(now) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            match connection.overdue(now) {
                None => {}
                Some(Some(broken)) => self.remove(id, &broken),
                Some(None) if needed(id, connection.made) => connection.keep(now),
                Some(None) => {
                    let reason = format!("nothing happened on the connection to {} for long", connection.who());
                    self.remove(id, &Broken::new(reason));
                }
            }
            self.refresh(id);
        }
    }

    /// Sends a message: by the connection that the peer names, by one that is there, or by a new one.
    pub(super) fn send(&mut self, now: Instant, to: &Peer, bytes: Vec<u8>) {
        if bytes != PING {
            log::trace!("{to} <- {}", start_line(&bytes));
            self.stats.sent += 1;
        }
        let named = to.connection.filter(|id| self.connections.contains_key(id));
        let place = (to.transport, to.address, to.name.clone());
        let there = named.or_else(|| self.places.get(&place).copied()).or_else(|| self.checked_by_another_name(to));
        let Some(id) = there else {
            return self.make(now, to, bytes);
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            let queued = connection.queue(now, bytes);
            self.after(id, queued);
        }
    }

    /// Routes and contacts often name a TLS server by its bare address, which certificates seldom do. Such a name says no more
    /// than a place, so a connection of ours to just that place serves, which was checked for the name that led there
    /// (RFC 5923's aliases). A host's name is never served by a connection that was checked for another.
    fn checked_by_another_name(&self, to: &Peer) -> Option<ConnectionId> {
        let name = to.name.as_deref().filter(|_| to.transport == Transport::Tls)?;
        let bare: IpAddr = name.trim_matches(['[', ']']).parse().ok()?;
        let serves = |c: &&Connection| c.made && c.peer.transport == Transport::Tls && c.peer.address == to.address;
        self.connections.values().filter(|_| bare == to.address.ip()).find(serves).and_then(Connection::id)
    }

    /// Closes everything, politely.
    pub(super) fn close(&mut self) {
        for connection in self.connections.values_mut() {
            connection.close();
        }
    }

    /// A new connection, with its first message.
    fn make(&mut self, now: Instant, to: &Peer, bytes: Vec<u8>) {
        if bytes == PING {
            return log::debug!("there is no connection to {} to keep alive", who(to));
        }
        let tls = match (to.transport, &to.name) {
            (Transport::Udp, _) => return,
            (Transport::Tcp, _) => None,
            (Transport::Tls, None) => {
                let reason =
                    format!("no TLS connection to {}: its host's name is not known to check it by", to.address);
                return self.not_made(to, reason);
            }
            (Transport::Tls, Some(name)) => match self.tls.client(name) {
                Ok(tls) => Some(tls),
                Err(reason) => return self.not_made(to, reason),
            },
        };
        self.make_room();
        let connecting = self.connect(to.address);
        let stream = match connecting {
            Ok(stream) => stream,
            Err(e) => return self.not_made(to, format!("cannot connect to {}: {}", who(to), plain(&e))),
        };
        let Some(id) = self.add(now, to.clone(), stream, tls, true) else {
            return self.not_made(to, format!("cannot connect to {}: the system cannot watch another socket", who(to)));
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            log::debug!("connection {} to {} by {}", id.0, connection.who(), to.transport);
            let queued = connection.queue(now, bytes);
            self.after(id, queued);
        }
    }

    fn not_made(&mut self, to: &Peer, reason: String) {
        log::debug!("{reason}");
        self.stats.not_made += 1;
        self.events.push_back(StreamEvent::Closed { peer: Peer { connection: None, ..to.clone() }, reason });
    }

    /// A socket that is on its way to be connected.
    fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(family, SockType::Stream, flags, None)?;
        if !self.local_ip.is_unspecified() && self.local_ip.is_ipv4() == to.is_ipv4() {
            bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(SocketAddr::new(self.local_ip, 0)))?;
        }
        match connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from_std(fd.into())),
            Err(e) => Err(e.into()),
        }
    }

    /// The longest unused connection of our own goes if there are too many.
    fn make_room(&mut self) {
        if self.connections.len() - self.accepted < self.limits.made {
            return;
        }
        let oldest = self.connections.values().filter(|c| c.made).min_by_key(|c| c.last_used());
        if let Some(id) = oldest.and_then(Connection::id) {
            self.remove(id, &Broken::new("too many connections are open".into()));
        }
    }

    fn add(
        &mut self,
        now: Instant,
        to: Peer,
        mut stream: TcpStream,
        tls: Option<rustls::Connection>,
        made: bool,
    ) -> Option<ConnectionId> {
        self.last += 1;
        let id = ConnectionId(self.last);
        let token = Token(FIRST_CONNECTION.checked_add(usize::try_from(id.0).ok()?)?);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).ok()?;
        // wishes, not needs
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &PROBE_SECONDS);
        let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MS);
        let place = (to.transport, to.address, to.name.clone());
        self.places.insert(place, id);
        let peer = Peer { connection: Some(id), ..to };
        self.connections.insert(id, Connection::new(now, peer, stream, tls, made, self.limits));
        self.refresh(id);
        Some(id)
    }

    /// Takes in who waits at the listeners; true if more may wait.
    fn accept(&mut self, now: Instant, admit: Admit) -> bool {
        if self.paused_until.is_some() {
            return false;
        }
        let mut left = ACCEPTS_A_TURN;
        for index in 0..self.listeners.len() {
            while let Some(listener) = self.listeners.get_mut(index).filter(|l| l.ready && left > 0) {
                left -= 1;
                match listener.socket.accept() {
                    Ok((stream, from)) => {
                        let transport = listener.transport;
                        self.take(now, stream, from, transport, &mut *admit);
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                    Err(e) if is_exhausted(&e) => {
                        log::warn!("no connections are accepted for {} s: {}", PAUSE.as_secs(), plain(&e));
                        self.stats.pauses += 1;
                        self.paused_until = Some(now + PAUSE);
                        return false;
                    }
                    // whoever came is gone already
                    Err(e) => log::debug!("not accepted: {e}"),
                }
            }
        }
        left == 0
    }

    fn take(&mut self, now: Instant, stream: TcpStream, from: SocketAddr, transport: Transport, admit: Admit) {
        let address = SocketAddr::new(from.ip().to_canonical(), from.port());
        let full = self.accepted >= self.limits.accepted;
        let seat = if full { Err(DropReason::Connections) } else { admit(address.ip()) };
        let seat = match seat {
            Ok(seat) => seat,
            Err(reason) => {
                self.stats.refused += 1;
                return log::debug!("connection of {address} refused: {reason:?}");
            }
        };
        let tls = if transport == Transport::Tls { self.tls.server() } else { None };
        let peer = Peer { transport, address, connection: None, name: None };
        let added =
            if tls.is_some() == (transport == Transport::Tls) { self.add(now, peer, stream, tls, false) } else { None };
        let Some(connection) = added.and_then(|id| self.connections.get_mut(&id)) else {
            return self.events.push_back(StreamEvent::Left { seat });
        };
        log::debug!("connection of {address} by {transport}");
        connection.seat = Some(seat);
        self.stats.accepted += 1;
        self.accepted += 1;
    }

    /// One read, and what comes of it.
    fn visit(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.queued = false;
        let mut frames = Vec::new();
        let read = connection.read(now, &mut self.buffer, &mut frames);
        connection.readable = read == Ok(ReadMore::Yes);
        let from = connection.peer.clone();
        for frame in frames {
            if let Frame::Message(bytes) = frame {
                log::trace!("{from} -> {}", start_line(&bytes));
                self.stats.received += 1;
                self.events.push_back(StreamEvent::Message { from: from.clone(), bytes });
            }
        }
        let done = read.and_then(|_| connection.flush(now));
        self.after(id, done);
    }

    /// After something was done with a connection: it goes, or waits for what is next.
    fn after(&mut self, id: ConnectionId, done: Result<(), Broken>) {
        if let Err(broken) = done {
            return self.remove(id, &broken);
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.stage != Stage::Connecting && connection.readable && !connection.queued {
            connection.queued = true;
            self.ready.push_back(id);
        }
        if connection.stage == Stage::Open && connection.made && !connection.counted {
            connection.counted = true;
            self.stats.made += 1;
        }
        self.refresh(id);
    }

    fn refresh(&mut self, id: ConnectionId) {
        let at = self.connections.get(&id).and_then(Connection::deadline);
        self.timers.set(id, at);
    }

    fn remove(&mut self, id: ConnectionId, broken: &Broken) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        let _ = self.registry.deregister(&mut connection.socket);
        connection.close();
        self.refresh(id);
        let mut peer = connection.peer.clone();
        let place = (peer.transport, peer.address, peer.name.clone());
        if self.places.get(&place) == Some(&id) {
            self.places.remove(&place);
        }
        log::debug!("connection {} with {peer} is gone: {}", id.0, broken.reason);
        self.stats.handshake_failures += u64::from(connection.stage == Stage::Handshaking);
        if connection.made {
            if connection.stage != Stage::Open {
                self.stats.not_made += 1;
                peer.connection = None;
            }
        } else {
            self.accepted -= 1;
            if let Some(offence) = broken.offence {
                self.stats.abused += 1;
                self.events.push_back(StreamEvent::Offended { from: peer.address.ip(), offence });
            }
        }
        if let Some(seat) = connection.seat.take() {
            self.events.push_back(StreamEvent::Left { seat });
        }
        // of who never said anything nobody knows
        if connection.made || connection.is_proven() {
            self.events.push_back(StreamEvent::Closed { peer, reason: broken.reason.clone() });
        }
    }
}

/// The process or the system has no descriptor or memory left: trying again at once would spin.
fn is_exhausted(e: &io::Error) -> bool {
    let number = e.raw_os_error().map(Errno::from_raw);
    matches!(number, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
