//! The daemon's end of the control socket: many clients on one [`mio::Registry`], owned by one thread.
//!
//! It keeps the socket, the connections, their framing, `hello` with sessions and grace time, who owns which call, and who gets which
//! event. What the methods do is the daemon's business. Nothing here blocks; time comes in as a parameter.
//!
//! ```no_run
//! # use std::time::{Duration, Instant};
//! # use mr_sip_control::{ApiError, Input, Server, ServerConfig, socket};
//! let mut poll = mio::Poll::new()?;
//! let config = ServerConfig { version: "0.1.0".into(), ..ServerConfig::default() };
//! let mut server = Server::bind(&socket::default_path(), poll.registry(), mio::Token(100), config)?;
//! let mut events = mio::Events::with_capacity(256);
//! loop {
//!     let timeout = server.poll_timeout(Instant::now()).map(|at| at.saturating_duration_since(Instant::now()));
//!     poll.poll(&mut events, timeout)?;
//!     for event in &events {
//!         server.handle(event); // false: somebody else's token
//!     }
//!     let now = Instant::now();
//!     server.handle_timeout(now);
//!     for _ in 0..256 { // a client that sends without end must not keep the thread; the poll comes back at once for the rest
//!         match server.next_input(now) {
//!             Some(Input::Request { id, method, .. }) => {
//!                 server.respond::<()>(&id, Err(ApiError::internal(format!("{} is not made yet", method.name()))));
//!             }
//!             Some(_) => {}
//!             None => break,
//!         }
//!     }
//! }
//! # #[allow(unreachable_code)] Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tokens from the base on are the server's: the base itself for the listener, then one for each of [`MAX_CONNECTIONS`].

mod accept;
mod connection;
mod intake;
mod output;
mod session;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event as Readiness;
use mio::{Interest, Registry, Token};
use serde::Serialize;

use self::connection::Connection;
use self::output::CONTROL_LIMIT;
pub use self::session::ClientId;
use self::session::Sessions;
use crate::error::ControlError;
use crate::frame::Mode;
use crate::socket::OwnedSocket;
use crate::types::{
    ApiError, CallId, Encoding, Event, Id, Method, error_message, notification_message, result_message,
};

/// Most connections at a time; further ones are closed at once.
pub const MAX_CONNECTIONS: usize = 256;
/// How long a client that lost its connection may stay away before its calls end.
pub const GRACE: Duration = Duration::from_secs(5);
/// When descriptors are used up, accepting is tried again after this.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// An event for so many clients is written to them at once. With more it is queued for all.
const FEW: usize = 8;
/// To so many clients at most queued events are written before requests are looked for again.
const WRITES: usize = 8;
/// How long that may take: a write wakes its reader, which may then have the processor for hundreds of microseconds.
const WRITING: Duration = Duration::from_micros(200);

/// What the daemon says of itself in `hello`, and how patient it is.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The daemon's version.
    pub version: String,
    /// What it can do beyond version 1.
    pub features: Vec<String>,
    /// How long a client that lost its connection may stay away.
    pub grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").into(), features: Vec::new(), grace: GRACE }
    }
}

/// Which request an answer belongs to: connection and the client's `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "every request wants an answer"]
pub struct RequestId {
    slot: usize,
    serial: u64,
    // None: the client wants no answer
    id: Option<Id>,
}

/// What the clients do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// A new client said `hello`.
    Connected {
        /// Who.
        client: ClientId,
        /// What it calls itself.
        name: String,
    },
    /// A client asks for something within its bounds; to be answered once by [`Server::respond`], now or later. Never [`Method::Hello`].
    Request {
        /// Who.
        client: ClientId,
        /// For the answer.
        id: RequestId,
        /// What.
        method: Method,
    },
    /// A client's audio: whole samples.
    Audio {
        /// Who.
        client: ClientId,
        /// The channel, as given by `response.start`; not checked.
        channel: u16,
        /// How the samples are written.
        encoding: Encoding,
        /// The response's generation; not checked.
        generation: u64,
        /// The client's monotonic clock at the first sample.
        monotonic_ns: u64,
        /// The samples.
        samples: Vec<u8>,
    },
    /// A client's connection ended: its voice must halt and its subscriptions end. [`Input::Resumed`] or [`Input::Expired`] follows.
    Gone {
        /// Who.
        client: ClientId,
    },
    /// A client came back with its token within its grace time; it knows its calls, and gets the events it missed.
    Resumed {
        /// Who.
        client: ClientId,
    },
    /// A client did not come back: its calls must end ([`crate::types::Cause::ClientGone`]). It is forgotten, and owns nothing any more.
    Expired {
        /// Who.
        client: ClientId,
        /// What it owned.
        calls: Vec<CallId>,
    },
}

/// The listening socket and its clients.
#[derive(Debug)]
pub struct Server {
    socket: OwnedSocket,
    registry: Arc<Registry>,
    base: Token,
    config: ServerConfig,
    slots: Vec<Option<Connection>>,
    // the slot that may read next, so that nobody is starved
    turn: usize,
    serial: u64,
    sessions: Sessions,
    inputs: VecDeque<Input>,
    // slots with events that are not written yet; each once (`Connection::unsent`)
    unsent: VecDeque<usize>,
    accept_again: bool,
}

impl Server {
    /// Takes the lock beside `path`, replaces a stale socket and listens. The socket is removed again when the server is dropped.
    ///
    /// # Errors
    /// [`ControlError::AlreadyRunning`], [`ControlError::UnsafeFolder`], [`ControlError::PathTooLong`], [`ControlError::Socket`]:
    /// one sentence each, with the fix.
    pub fn bind(path: &Path, registry: &Registry, base: Token, config: ServerConfig) -> Result<Self, ControlError> {
        let mut socket = OwnedSocket::bind(path)?;
        let failed = |source| ControlError::Socket { what: "cannot watch", path: path.to_owned(), source };
        let registry = registry.try_clone().map_err(failed)?;
        registry.register(&mut socket.listener, base, Interest::READABLE).map_err(failed)?;
        Ok(Self {
            socket,
            registry: Arc::new(registry),
            base,
            config,
            slots: Vec::new(),
            turn: 0,
            serial: 0,
            sessions: Sessions::default(),
            inputs: VecDeque::new(),
            unsent: VecDeque::new(),
            accept_again: false,
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// Takes one readiness event; false when its token is not one of the server's.
    pub fn handle(&mut self, event: &Readiness) -> bool {
        let Some(index) = event.token().0.checked_sub(self.base.0).filter(|index| *index <= MAX_CONNECTIONS) else {
            return false;
        };
        let Some(slot) = index.checked_sub(1) else {
            self.accept();
            return true;
        };
        if let Some(Some(connection)) = self.slots.get_mut(slot) {
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                connection.readable = true;
            }
            if event.is_writable() {
                connection.flush();
            }
        }
        true
    }

    /// When to call [`Self::handle_timeout`] and [`Self::next_input`] at the latest.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let busy = |connection: &Connection| connection.readable || connection.is_over();
        if !self.inputs.is_empty() || !self.unsent.is_empty() || self.slots.iter().flatten().any(busy) {
            return Some(now);
        }
        let accept = self.accept_again.then_some(now + ACCEPT_RETRY);
        [self.sessions.next_expiry(), accept].into_iter().flatten().min()
    }

    /// Ends the sessions whose grace time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.accept_again {
            self.accept();
        }
        for client in self.sessions.expired(now) {
            self.expire(client);
        }
    }

    /// What a client did, `None` when nothing more is known. Reads from the sockets as it goes, one client after the other.
    /// When nothing more is known, queued events are written to some of those whom they wait for: with hundreds of subscribers a
    /// request waits for a few of their writes, not for all. [`Self::poll_timeout`] knows of the rest.
    pub fn next_input(&mut self, now: Instant) -> Option<Input> {
        loop {
            self.reap(now);
            if let Some(input) = self.inputs.pop_front() {
                return Some(input);
            }
            let count = self.slots.len();
            let readable = |slot: &usize| {
                self.slots.get(*slot).is_some_and(|slot| slot.as_ref().is_some_and(|connection| connection.readable))
            };
            let Some(slot) = (self.turn..count).chain(0..self.turn.min(count)).find(readable) else {
                self.write_events(WRITES, WRITING);
                return None;
            };
            self.turn = slot + 1;
            self.read(slot);
        }
    }

    /// Whether events wait to be written, so that [`Self::next_input`] is to be called again soon.
    pub fn is_writing(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Writes the events that wait for the next clients, at most so many and for so long.
    fn write_events(&mut self, clients: usize, limit: Duration) {
        let begin = Instant::now();
        for written in 0..clients {
            if written > 0 && begin.elapsed() > limit {
                return;
            }
            let Some(slot) = self.unsent.pop_front() else { return };
            // a connection that took the place of the one that was meant loses nothing by being written to
            if let Some(Some(connection)) = self.slots.get_mut(slot) {
                connection.unsent = false;
                connection.flush();
            }
        }
    }

    /// Answers a request. Nothing happens when the connection it came by is gone.
    pub fn respond<T: Serialize>(&mut self, request: &RequestId, result: Result<T, ApiError>) {
        let Some(connection) = self.slots.get_mut(request.slot).and_then(Option::as_mut) else {
            return;
        };
        if connection.serial != request.serial {
            return;
        }
        connection.unanswered = connection.unanswered.saturating_sub(1);
        let Some(id) = &request.id else {
            return;
        };
        let text = result.and_then(|result| {
            result_message(id, &result)
                .map_err(|error| ApiError::internal(format!("the result cannot be written: {error}")))
        });
        let mode = connection.decoder.mode();
        let sent = match text {
            Ok(text) => connection.send_json(mode, &text),
            Err(error) => connection.send_json(mode, &error_message(Some(id), &error)),
        };
        if let Err(error) = sent {
            let error = ApiError::internal(error.to_string());
            // a short one fits
            let _ = connection.send_json(mode, &error_message(Some(id), &error));
        }
    }

    /// Tells an event to all whom it concerns: about a call to its owner and to those who want all; about an unowned call, and about no
    /// call at all, to everybody but those who want none. An owner that is away gets it when it comes back.
    ///
    /// `time_ms`: milliseconds since the call's media began.
    pub fn notify(&mut self, event: &Event, time_ms: Option<u64>) {
        let call = event.call();
        let wanting: Vec<_> = self
            .sessions
            .iter()
            .filter(|(client, session)| self.sessions.wants(*client, session.filter, call))
            .map(|(client, _)| client)
            .collect();
        if wanting.is_empty() {
            return;
        }
        let text = match notification_message(event, time_ms) {
            Ok(text) => Arc::from(text),
            Err(error) => {
                log::error!("an event cannot be written: {error}");
                return;
            }
        };
        let at_once = wanting.len() <= FEW;
        for client in wanting {
            self.tell(client, &text, at_once);
        }
    }

    fn tell(&mut self, client: ClientId, text: &Arc<[u8]>, at_once: bool) {
        let Some(session) = self.sessions.get_mut(client) else {
            return;
        };
        let slot = session.slot;
        if let Some(connection) = slot.and_then(|slot| self.slots.get_mut(slot)).and_then(Option::as_mut) {
            let mode = connection.decoder.mode();
            if let Err(error) = connection.queue_json(mode, text) {
                log::error!("an event cannot be sent: {error}");
            }
            if at_once {
                connection.flush();
            } else if let (Some(slot), false) = (slot, std::mem::replace(&mut connection.unsent, true)) {
                self.unsent.push_back(slot);
            }
            return;
        }
        session.missed_bytes += text.len();
        if session.missed_bytes > CONTROL_LIMIT {
            // like a connected client that does not read: better gone than with a gap
            self.expire(client);
        } else {
            session.missed.push(text.clone());
        }
    }

    /// Sends audio to a subscriber. What it does not read in time is dropped, oldest first, and counted.
    /// Nothing happens when the client is away or speaks JSON lines.
    ///
    /// # Errors
    /// [`ControlError::FrameTooLong`] or [`ControlError::BadAudio`].
    pub fn send_audio(
        &mut self,
        client: ClientId,
        channel: u16,
        encoding: Encoding,
        generation: u64,
        monotonic_ns: u64,
        samples: &[u8],
    ) -> Result<(), ControlError> {
        let Some(session) = self.sessions.get_mut(client) else {
            return Ok(());
        };
        let connection = session.slot.and_then(|slot| self.slots.get_mut(slot)).and_then(Option::as_mut);
        if let Some(connection) = connection.filter(|connection| connection.decoder.mode() == Some(Mode::Framed)) {
            session.audio_dropped += connection.send_audio(channel, encoding, generation, monotonic_ns, samples)?;
        }
        Ok(())
    }

    /// Audio frames that the client was too slow for.
    pub fn audio_dropped(&self, client: ClientId) -> u64 {
        self.sessions.get(client).map_or(0, |session| session.audio_dropped)
    }

    /// A channel number that the client does not use yet; `None` when it uses all, or is unknown.
    pub fn open_channel(&mut self, client: ClientId) -> Option<u16> {
        self.sessions.get_mut(client)?.open_channel()
    }

    /// Gives a channel number back.
    pub fn close_channel(&mut self, client: ClientId, channel: u16) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.close_channel(channel);
        }
    }

    /// Says whose a call is from now on; `None`: nobody's, also when the call is over and told of.
    pub fn set_owner(&mut self, call: CallId, owner: Option<ClientId>) {
        self.sessions.set_owner(call, owner.filter(|client| self.sessions.get(*client).is_some()));
    }

    /// Whose a call is.
    pub fn owner(&self, call: CallId) -> Option<ClientId> {
        self.sessions.owner(call)
    }

    /// Whether `client` may do something to `call`: it is the owner's or nobody's.
    ///
    /// # Errors
    /// 1002.
    pub fn check_owner(&self, client: ClientId, call: CallId) -> Result<(), ApiError> {
        match self.owner(call) {
            Some(owner) if owner != client => Err(ApiError::not_owner(call)),
            _ => Ok(()),
        }
    }

    /// What a client calls itself.
    pub fn name(&self, client: ClientId) -> Option<&str> {
        self.sessions.get(client).map(|session| session.name.as_str())
    }

    /// Whether a client is connected now.
    pub fn is_connected(&self, client: ClientId) -> bool {
        self.sessions.get(client).is_some_and(|session| session.slot.is_some())
    }

    /// Removes the connections that are over.
    fn reap(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            if !self.slots[slot].as_ref().is_some_and(Connection::is_over) {
                continue;
            }
            let Some(mut connection) = self.slots[slot].take() else {
                continue;
            };
            let _ = self.registry.deregister(&mut connection.stream);
            let Some(client) = connection.client else {
                continue;
            };
            log::info!("{client} left: {}", connection.dead.as_deref().unwrap_or("it has said all"));
            if let Some(session) = self.sessions.get_mut(client).filter(|session| session.slot == Some(slot)) {
                session.slot = None;
                session.expires = Some(now + self.config.grace);
                self.inputs.push_back(Input::Gone { client });
            }
        }
        self.limit_sessions();
    }

    /// Sessions in their grace time are bounded like connections: the one that would end first ends now.
    fn limit_sessions(&mut self) {
        while self.sessions.iter().filter(|(_, session)| session.slot.is_none()).count() > MAX_CONNECTIONS {
            let away = self.sessions.iter().filter_map(|(client, session)| Some((session.expires?, client)));
            let Some((_, oldest)) = away.min() else {
                return;
            };
            self.expire(oldest);
        }
    }

    fn expire(&mut self, client: ClientId) {
        let calls = self.sessions.calls_of(client);
        if self.sessions.end(client).is_none() {
            return;
        }
        for call in &calls {
            self.sessions.set_owner(*call, None);
        }
        self.inputs.push_back(Input::Expired { client, calls });
    }
}

impl Drop for Server {
    /// What was told last is still written, as far as the sockets take it.
    fn drop(&mut self) {
        self.write_events(self.unsent.len(), Duration::MAX);
    }
}
