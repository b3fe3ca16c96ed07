//! The sockets of the media thread: reading what came to all of them, with the kernel's receive times, and sending what
//! all calls want sent.
//!
//! There are two ways, chosen as the thread starts ([`NetIo`]): `plain` asks epoll which sockets have something and reads
//! and sends with a system call each; `uring` leaves a standing order for packets with the kernel for every socket and
//! hands out and takes in packets in batches. Containers often forbid io_uring and old kernels do not know all of it, so it
//! is tried with a real packet before it is relied on.
//!
//! What must hold for both: everything is allocated beforehand; nothing waits; in one tick a flood on some sockets leaves
//! something for the others, and what is too much stays in the kernel, whose buffers are the bound (cases 2 and 17).

mod plain;
mod uring;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use crate::clock::{Time, read_clock};
use crate::realtime::Grant;
use plain::Plain;
use uring::Uring;

/// Datagrams that are read in one tick altogether: about 1 ms of work.
const TICK_SHARE: usize = 2_048;
/// Longest datagram that is read whole: an Ethernet frame. Longer ones are no telephone audio.
const DATAGRAM_BYTES: usize = 1_536;
/// Room for a source address: that of IPv6, the longer one.
const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Room for one timestamp with its header.
const CONTROL_BYTES: usize = CONTROL_HEADER_BYTES + size_of::<libc::timespec>();
const CONTROL_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
/// A kernel timestamp that is older than this is not believed: the clock of the day was set, or the thread was stopped.
const OLDEST: Duration = Duration::from_secs(1);

/// How media threads read and write their sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum NetIo {
    /// By io_uring where it works, else plainly.
    #[default]
    Auto,
    /// A system call for each packet.
    Plain,
    /// By io_uring; plainly where it does not work, and [`crate::Report::net_io`] says why.
    Uring,
}

/// A socket of the thread: the number of its call's slot, and which of the call's two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u32);

impl Token {
    pub(crate) fn new(slot: usize, rtcp: bool) -> Self {
        Self(u32::try_from(slot << 1).unwrap_or(u32::MAX) | u32::from(rtcp))
    }

    pub(crate) fn slot(self) -> usize {
        self.index() >> 1
    }

    pub(crate) fn is_rtcp(self) -> bool {
        self.0 & 1 != 0
    }

    fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A datagram that was read, to be decrypted in its place.
#[derive(Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) arrival: Time,
    pub(crate) source: SocketAddr,
    pub(crate) bytes: &'a mut [u8],
}

/// What a socket has for its call.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    Datagram(Datagram<'a>),
    /// A datagram that was cut off, or whose source cannot be read.
    Unreadable,
    /// The network could not deliver what was sent. The socket's queue of errors is to be emptied now: as long as something
    /// lies in it, the kernel does not wait for packets, but looks again and again.
    Error,
}

impl<'a> From<Option<Datagram<'a>>> for Received<'a> {
    fn from(datagram: Option<Datagram<'a>>) -> Self {
        datagram.map_or(Self::Unreadable, Self::Datagram)
    }
}

/// The sockets, one way or the other.
pub(crate) struct Net {
    way: Way,
    failed: Failed,
}

#[allow(clippy::large_enum_variant, reason = "there is one a thread")]
enum Way {
    Plain(Plain),
    Uring(Uring),
}

/// Whose packets the kernel would not take.
struct Failed(Vec<Token>);

impl Failed {
    fn push(&mut self, token: Token) {
        if self.0.len() < self.0.capacity() {
            self.0.push(token);
        }
    }
}

impl Net {
    /// For the sockets of so many calls. To be made on the thread that will use it.
    pub(crate) fn open(kind: NetIo, calls: usize) -> io::Result<(Self, Grant)> {
        let sockets = calls * 2;
        let with = |way| Self { way, failed: Failed(Vec::with_capacity(sockets)) };
        if kind == NetIo::Plain {
            let plain = Plain::new(sockets)?;
            return Ok((with(Way::Plain(plain)), Grant::NotAsked("plain sockets by configuration".to_owned())));
        }
        match Uring::new(sockets).and_then(Uring::tried) {
            Ok(uring) => Ok((with(Way::Uring(uring)), Grant::Granted("io_uring".to_owned()))),
            Err(error) => {
                let refused = Grant::Refused {
                    reason: format!("io_uring does not work here ({error}), plain sockets do its work"),
                    fix: "it wants Linux 6.1, kernel.io_uring_disabled = 0 and a seccomp profile that allows it"
                        .to_owned(),
                };
                Ok((with(Way::Plain(Plain::new(sockets)?)), refused))
            }
        }
    }

    /// Listens to a socket of a call.
    pub(crate) fn add(&mut self, token: Token, socket: &UdpSocket) {
        match &mut self.way {
            Way::Plain(plain) => plain.add(token, socket),
            Way::Uring(uring) => uring.add(token, socket),
        }
    }

    /// Listens to it no longer.
    pub(crate) fn remove(&mut self, token: Token, socket: &UdpSocket) {
        match &mut self.way {
            Way::Plain(plain) => plain.remove(token, socket),
            Way::Uring(uring) => uring.remove(token),
        }
    }

    /// Reads what has come, up to a tick's share, without waiting. Returns how often something was left unread because a
    /// share was used up.
    pub(crate) fn receive(&mut self, take: &mut impl FnMut(Token, Received<'_>)) -> u64 {
        match &mut self.way {
            Way::Plain(plain) => plain.receive(take),
            Way::Uring(uring) => uring.receive(take, &mut self.failed),
        }
    }

    /// Sends a packet, at the next [`flush`](Self::flush) at the latest.
    pub(crate) fn send(&mut self, token: Token, socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
        let queued = match &mut self.way {
            Way::Uring(uring) => uring.queue(token, socket, bytes, to),
            Way::Plain(_) => false,
        };
        // an error may be about an earlier packet (ICMP): then this one was not even tried
        if !queued && (0..2).all(|_| socket.send_to(bytes, to).is_err()) {
            self.failed.push(token);
        }
    }

    /// Sends what has not been sent yet.
    pub(crate) fn flush(&mut self) {
        if let Way::Uring(uring) = &mut self.way {
            uring.flush();
        }
    }

    /// Whose packet the kernel would not take, one after the other; the socket's queue of errors is to be emptied then too.
    /// To be asked once a tick, after [`receive`](Self::receive).
    pub(crate) fn poll_failed(&mut self) -> Option<Token> {
        self.failed.0.pop()
    }
}

/// The two clocks that tell when a packet came: the kernel stamps with the time of day, and we count monotonic time.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    monotonic: Time,
    time_of_day: u64,
}

impl Clocks {
    /// To be looked at once a tick.
    fn now() -> Self {
        Self { monotonic: Time::now(), time_of_day: read_clock(libc::CLOCK_REALTIME) }
    }

    fn arrival(&self, stamp: Option<u64>) -> Time {
        let age = stamp.map_or(Duration::ZERO, |stamp| {
            let age = Duration::from_nanos(self.time_of_day.saturating_sub(stamp));
            if age > OLDEST { Duration::ZERO } else { age }
        });
        self.monotonic - age
    }
}

/// The kernel's receive time in nanoseconds of the time of day, in the control messages of a datagram. The sockets ask for
/// no other messages, so it is the first one.
fn timestamp(control: &[u8]) -> Option<u64> {
    let (header, rest) = control.split_at_checked(CONTROL_HEADER_BYTES)?;
    let number = |at: usize| Some(libc::c_int::from_ne_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let level = number(std::mem::offset_of!(libc::cmsghdr, cmsg_level))?;
    let kind = number(std::mem::offset_of!(libc::cmsghdr, cmsg_type))?;
    if level != libc::SOL_SOCKET || kind != libc::SCM_TIMESTAMPNS {
        return None;
    }
    let (seconds, rest) = rest.split_first_chunk()?;
    let nanos = rest.first_chunk()?;
    let seconds = u64::try_from(libc::time_t::from_ne_bytes(*seconds)).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(libc::c_long::from_ne_bytes(*nanos)).ok()?)
}

/// The address in the bytes of a `sockaddr_in` or `sockaddr_in6`.
fn source(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    match libc::c_int::from(libc::sa_family_t::from_ne_bytes(*family)) {
        libc::AF_INET => Some(SocketAddr::new(Ipv4Addr::from(*rest.first_chunk::<4>()?).into(), port)),
        libc::AF_INET6 => {
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let ip = Ipv6Addr::from(*ip);
            // a dual-stack socket shows IPv4 sources as mapped addresses; SDP names them plainly
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::new(v4.into(), port),
                None => SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(*rest.first_chunk()?)).into(),
            })
        }
        _ => None,
    }
}

/// An address as the kernel wants it, and how long that is.
fn sockaddr(address: SocketAddr) -> ([u8; NAME_BYTES], usize) {
    let mut bytes = [0; NAME_BYTES];
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            (bytes, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            (bytes, NAME_BYTES)
        }
    }
}

#[cfg(test)]
mod tests;
