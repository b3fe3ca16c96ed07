//! One stream connection: bytes and messages, both ways, in the clear or within TLS, and what it may take its time for.
//!
//! It never waits: reading and writing stop where the socket would block. It reads no clock: the time is a parameter.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::Shutdown,
    time::{Duration, Instant},
};

use mio::net::TcpStream;

use super::{streams::StreamLimits, tls};
use crate::{
    guard::{Offence, Seat},
    message::{Frame, FrameError, Framer},
    transport::{ConnectionId, Peer},
};

/// Bytes read at a time; one visit to a connection reads no more, so that all get their turn.
pub(super) const READ: usize = 16 * 1024;
/// How much of a message is handed to TLS at a time: a record's length.
const RECORD: usize = 16 * 1024;
/// RFC 5626 section 4.4.1: how soon a ping must be answered by a far end that answers them.
const PONG: Duration = Duration::from_secs(10);
/// What a ping is.
pub(super) const PING: &[u8] = b"\r\n\r\n";
const PONG_BYTES: &[u8] = b"\r\n";

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// TCP's own handshake.
    Connecting,
    /// That of TLS.
    Handshaking,
    /// Messages can go.
    Open,
}

/// Why a connection has to go: one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) reason: String,
    /// What the far end did that nobody may do; nothing if a network failed or a connection was closed.
    pub(super) offence: Option<Offence>,
}

impl Broken {
    pub(super) fn new(reason: String) -> Broken {
        Broken { reason, offence: None }
    }
}

/// What a visit to a readable connection comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadMore {
    /// There may be more.
    Yes,
    /// Not before the next readiness.
    No,
}

#[derive(Debug)]
pub(super) struct Connection {
    /// The far end; its `connection` is this one's number.
    pub(super) peer: Peer,
    /// We made it, as opposed to accepted it.
    pub(super) made: bool,
    /// What the guard gave it when it was accepted.
    pub(super) seat: Option<Seat>,
    /// Its place in the queue of those that have something to do.
    pub(super) queued: bool,
    pub(super) readable: bool,
    /// Among those that we made.
    pub(super) counted: bool,
    pub(super) stage: Stage,
    pub(super) socket: TcpStream,
    tls: Option<Box<rustls::Connection>>,
    framer: Framer,
    /// Whole messages; of the first, `begun` bytes are gone.
    out: VecDeque<Vec<u8>>,
    begun: usize,
    out_bytes: usize,
    limits: StreamLimits,
    since: Instant,
    /// The last time that bytes went either way.
    active: Instant,
    /// When the message that is under way began to come.
    message_since: Option<Instant>,
    /// The last time that the far end took something, or that there was nothing to take.
    taken: Instant,
    /// Messages that came.
    messages: u64,
    /// It answered a ping: from now on silence after one means that it is gone.
    pongs: bool,
    pong_by: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        peer: Peer,
        socket: TcpStream,
        tls: Option<rustls::Connection>,
        made: bool,
        limits: StreamLimits,
    ) -> Connection {
        let stage = match (made, &tls) {
            (true, _) => Stage::Connecting,
            (false, Some(_)) => Stage::Handshaking,
            (false, None) => Stage::Open,
        };
        Connection {
            peer,
            made,
            seat: None,
            queued: false,
            readable: false,
            counted: false,
            stage,
            socket,
            tls: tls.map(Box::new),
            framer: Framer::new(),
            out: VecDeque::new(),
            begun: 0,
            out_bytes: 0,
            limits,
            since: now,
            active: now,
            message_since: None,
            taken: now,
            messages: 0,
            pongs: false,
            pong_by: None,
        }
    }

    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.peer.connection
    }

    /// The far end as people know it.
    pub(super) fn who(&self) -> String {
        who(&self.peer)
    }

    /// A message has come on it: whoever is there speaks SIP.
    pub(super) fn is_proven(&self) -> bool {
        self.messages > 0
    }

    /// The last time that anything happened on it.
    pub(super) fn last_used(&self) -> Instant {
        self.active
    }

    /// Nothing waits to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty() && !self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Takes a message to be sent, or a ping.
    pub(super) fn queue(&mut self, now: Instant, bytes: Vec<u8>) -> Result<(), Broken> {
        if self.out_bytes.saturating_add(bytes.len()) > self.limits.queue {
            return Err(Broken::new(format!("{} does not take what is sent to it", self.who())));
        }
        if bytes == PING {
            // one on the way is enough
            if self.pong_by.is_some() || self.out.iter().any(|waiting| waiting == PING) {
                return Ok(());
            }
            self.pong_by = Some(now + PONG).filter(|_| self.pongs);
        }
        if self.out.is_empty() {
            self.taken = now;
        }
        self.out_bytes += bytes.len();
        self.out.push_back(bytes);
        if self.stage == Stage::Open { self.flush(now) } else { Ok(()) }
    }

    /// The socket can be written to, or has failed to connect.
    pub(super) fn on_writable(&mut self, now: Instant) -> Result<(), Broken> {
        if self.stage == Stage::Connecting {
            if let Some(e) = self.socket.take_error().ok().flatten() {
                return Err(self.not_connected(&e));
            }
            match self.socket.peer_addr() {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(e) => return Err(self.not_connected(&e)),
            }
            self.stage = if self.tls.is_some() { Stage::Handshaking } else { Stage::Open };
            (self.since, self.active, self.taken) = (now, now, now);
        }
        self.flush(now)
    }

    pub(super) fn not_connected(&self, e: &io::Error) -> Broken {
        Broken::new(format!("cannot connect to {}: {}", self.who(), plain(e)))
    }

    /// Reads once, no more than `buffer` holds in the clear; what is whole goes to `frames`.
    pub(super) fn read(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        frames: &mut Vec<Frame>,
    ) -> Result<ReadMore, Broken> {
        let more = match self.tls.take() {
            Some(mut tls) => {
                let more = self.read_tls(now, &mut tls, buffer, frames);
                self.tls = Some(tls);
                more?
            }
            None => match self.socket.read(buffer) {
                Ok(0) => return Err(self.ended()),
                Ok(length) => {
                    self.take_in(now, buffer.get(..length).unwrap_or_default(), frames)?;
                    ReadMore::Yes
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ReadMore::No,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => ReadMore::Yes,
                Err(e) => return Err(self.failed(&e)),
            },
        };
        Ok(more)
    }

    fn read_tls(
        &mut self,
        now: Instant,
        tls: &mut rustls::Connection,
        buffer: &mut [u8],
        frames: &mut Vec<Frame>,
    ) -> Result<ReadMore, Broken> {
        let more = match tls.read_tls(&mut self.socket) {
            Ok(0) => return Err(self.ended()),
            Ok(_) => ReadMore::Yes,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => ReadMore::No,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => ReadMore::Yes,
            Err(e) => return Err(self.failed(&e)),
        };
        let processed = tls.process_new_packets();
        if let Err(e) = processed {
            // the alert that says why; if it cannot go, the far end has to guess
            let _ = tls.write_tls(&mut self.socket);
            let host = self.peer.name.as_deref().map_or_else(|| self.peer.address.to_string(), str::to_owned);
            let offence = matches!(e, rustls::Error::InvalidMessage(_)).then_some(Offence::NotSip);
            return Err(Broken { reason: tls::explain(&e, &host, self.made), offence });
        }
        if self.stage == Stage::Handshaking && !tls.is_handshaking() {
            self.stage = Stage::Open;
            (self.since, self.active, self.taken) = (now, now, now);
        }
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Err(self.ended()),
                Ok(length) => self.take_in(now, buffer.get(..length).unwrap_or_default(), frames)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(more),
                Err(e) => return Err(self.failed(&e)),
            }
        }
    }

    /// Bytes of the far end, in the clear.
    fn take_in(&mut self, now: Instant, bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), Broken> {
        self.active = now;
        self.framer.push(bytes);
        loop {
            match self.framer.next() {
                Ok(Some(frame)) => {
                    self.message_since = None;
                    // whatever comes shows that the far end lives
                    self.pong_by = None;
                    match frame {
                        Frame::Message(_) => self.messages += 1,
                        Frame::Pong => self.pongs = true,
                        Frame::Ping => self.queue(now, PONG_BYTES.to_vec())?,
                    }
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(e) => return Err(self.unreadable(e)),
            }
        }
        if self.framer.is_mid_message() {
            self.message_since.get_or_insert(now);
        }
        Ok(())
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self, now: Instant) -> Result<(), Broken> {
        if self.stage == Stage::Connecting {
            return Ok(());
        }
        let written = match self.tls.take() {
            Some(mut tls) => {
                let written = self.write_tls(&mut tls);
                self.tls = Some(tls);
                written
            }
            None => self.write_plain(),
        };
        match written {
            Ok(0) => {}
            Ok(_) => (self.active, self.taken) = (now, now),
            Err(e) => return Err(self.failed(&e)),
        }
        Ok(())
    }

    /// How many bytes went.
    fn write_plain(&mut self) -> io::Result<usize> {
        let mut written = 0;
        while let Some(first) = self.out.front() {
            match self.socket.write(first.get(self.begun..).unwrap_or_default()) {
                Ok(length) => {
                    written += length;
                    self.took(length);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(written)
    }

    /// TLS keeps records until the socket takes them, so it is given the next only when it holds none.
    fn write_tls(&mut self, tls: &mut rustls::Connection) -> io::Result<usize> {
        let mut written = 0;
        loop {
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(length) => written += length,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(written),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            if self.stage != Stage::Open {
                return Ok(written);
            }
            let Some(first) = self.out.front() else { return Ok(written) };
            let rest = first.get(self.begun..).unwrap_or_default();
            let length = tls.writer().write(rest.get(..RECORD).unwrap_or(rest))?;
            self.took(length);
        }
    }

    fn took(&mut self, length: usize) {
        self.begun += length;
        self.out_bytes = self.out_bytes.saturating_sub(length);
        if self.out.front().is_some_and(|first| self.begun >= first.len()) {
            self.out.pop_front();
            self.begun = 0;
        }
    }

    /// When something is due to be done about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = match self.stage {
            Stage::Connecting => return Some(self.since + self.limits.connect),
            Stage::Handshaking => return Some(self.since + self.limits.handshake),
            Stage::Open => [
                Some(self.active + self.limits.idle),
                self.message_since.map(|since| since + self.limits.message),
                (!self.made && !self.is_proven()).then(|| self.since + self.limits.first_message),
                (!self.out.is_empty()).then(|| self.taken + self.limits.stalled),
                self.pong_by,
            ],
        };
        waits.into_iter().flatten().min()
    }

    /// What it is late with, if it is; `None` for the second: nothing is wrong but that nothing has happened for long.
    pub(super) fn overdue(&self, now: Instant) -> Option<Option<Broken>> {
        if self.deadline().is_none_or(|at| now < at) {
            return None;
        }
        let who = self.who();
        let seconds = |limit: Duration| limit.as_secs_f32();
        let (slow, reason) = match self.stage {
            Stage::Connecting => {
                (false, format!("cannot connect to {who}: no answer within {} s", seconds(self.limits.connect)))
            }
            Stage::Handshaking => {
                let limit = seconds(self.limits.handshake);
                (true, format!("{who} did not finish the TLS handshake within {limit} s: is it TLS at that port?"))
            }
            Stage::Open if self.message_since.is_some_and(|since| now >= since + self.limits.message) => {
                (true, format!("{who} began a message and did not end it within {} s", seconds(self.limits.message)))
            }
            Stage::Open if !self.made && !self.is_proven() && now >= self.since + self.limits.first_message => {
                (true, format!("{who} sent nothing for {} s", seconds(self.limits.first_message)))
            }
            Stage::Open if !self.out.is_empty() && now >= self.taken + self.limits.stalled => {
                (false, format!("{who} does not take what is sent to it"))
            }
            Stage::Open if self.pong_by.is_some_and(|by| now >= by) => {
                (false, format!("{who} does not answer keep-alives any more"))
            }
            Stage::Open => return Some(None),
        };
        Some(Some(Broken { reason, offence: slow.then_some(Offence::SlowConnection) }))
    }

    /// It is needed although nothing happens.
    pub(super) fn keep(&mut self, now: Instant) {
        self.active = now;
    }

    /// Says goodbye as far as that goes without waiting.
    pub(super) fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.socket);
        }
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn unreadable(&self, e: FrameError) -> Broken {
        Broken { reason: format!("{} sent what cannot be read: {e}", self.who()), offence: Some(Offence::NotSip) }
    }

    fn ended(&self) -> Broken {
        let who = self.who();
        Broken::new(match self.stage {
            Stage::Handshaking => format!("{who} closed the connection in the TLS handshake: is it TLS at that port?"),
            _ => format!("{who} closed the connection"),
        })
    }

    fn failed(&self, e: &io::Error) -> Broken {
        match self.stage {
            Stage::Connecting => self.not_connected(e),
            Stage::Handshaking => {
                Broken::new(format!("{} broke off in the TLS handshake: is it TLS at that port?", self.who()))
            }
            Stage::Open => Broken::new(format!("the connection to {} broke: {}", self.who(), plain(e))),
        }
    }
}

/// A far end as people know it: by name and address, or by address.
pub(super) fn who(peer: &Peer) -> String {
    match &peer.name {
        Some(name) if name.parse() != Ok(peer.address.ip()) => format!("{name} ({})", peer.address),
        _ => peer.address.to_string(),
    }
}

/// An error of the system without its number.
pub(super) fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}
