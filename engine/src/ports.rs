//! RTP port pairs: an even port for RTP and the odd one above it for RTCP (RFC 3550 section 11), bound before the
//! session description that names them is sent.
//!
//! Ports are handed out in turn over the whole range, so that the late packets of an ended call meet a closed port and
//! not the next call (case 38); a port that was used a moment ago is not handed out at all.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::icmp;

/// How long a port rests after a call. The far end of a call that has ended stops sending within a round trip and its
/// own jitter buffer; 2 s covers satellite links.
const REST: Duration = Duration::from_secs(2);

/// Expedited forwarding (RFC 3246), the class for telephony, as the byte of the IP header: DSCP 46.
const TOS_EXPEDITED: libc::c_int = 46 << 2;

#[derive(Debug)]
struct Pool {
    ip: IpAddr,
    range: RangeInclusive<u16>,
    next: u16,
    in_use: BTreeSet<u16>,
    resting: VecDeque<(u16, Instant)>,
}

/// Hands out port pairs of a range.
#[derive(Debug, Clone)]
pub(crate) struct PortPool(Arc<Mutex<Pool>>);

/// A bound pair of RTP and RTCP sockets, for one call. Dropping it gives the ports back.
#[derive(Debug)]
pub struct ReservedPort {
    pub(crate) rtp: UdpSocket,
    pub(crate) rtcp: UdpSocket,
    address: SocketAddr,
    pool: PortPool,
}

impl ReservedPort {
    /// The RTP port; RTCP is the next one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The RTP address as it is bound (perhaps `0.0.0.0`).
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        let mut pool = self.pool.lock();
        pool.in_use.remove(&self.address.port());
        pool.resting.push_back((self.address.port(), Instant::now()));
    }
}

impl PortPool {
    /// A pool over the even ports of a range whose odd neighbours are in it too.
    pub(crate) fn new(ip: IpAddr, range: RangeInclusive<u16>) -> Result<Self, EngineError> {
        let first = range.start().saturating_add(range.start() % 2);
        if first == 0 || first >= *range.end() {
            return Err(EngineError::Config(format!(
                "RTP port range {}-{} has no pair of an even port and the odd one above it",
                range.start(),
                range.end()
            )));
        }
        let pool = Pool { ip, next: first, range, in_use: BTreeSet::new(), resting: VecDeque::new() };
        Ok(Self(Arc::new(Mutex::new(pool))))
    }

    /// Binds the next free pair.
    pub(crate) fn reserve(&self) -> Result<ReservedPort, EngineError> {
        let mut pool = self.lock();
        while pool.resting.front().is_some_and(|(_, since)| since.elapsed() >= REST) {
            pool.resting.pop_front();
        }
        let first = pool.range.start() + pool.range.start() % 2;
        let pairs = (*pool.range.end() - first).div_ceil(2);
        let (mut refused, mut last) = (0, None);
        for _ in 0..pairs {
            let port = pool.next;
            pool.next = if port.checked_add(3).is_some_and(|odd| odd <= *pool.range.end()) { port + 2 } else { first };
            if pool.in_use.contains(&port) || pool.resting.iter().any(|&(resting, _)| resting == port) {
                continue;
            }
            match bind_pair(pool.ip, port) {
                Ok((rtp, rtcp)) => {
                    pool.in_use.insert(port);
                    let address = SocketAddr::new(pool.ip, port);
                    return Ok(ReservedPort { rtp, rtcp, address, pool: self.clone() });
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE) => return Err(EngineError::Descriptors(error)),
                    Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => {
                        return Err(EngineError::Bind { ip: pool.ip, source: error });
                    }
                    _ => {
                        refused += 1;
                        last = Some(error);
                    }
                },
            }
        }
        Err(EngineError::NoPort {
            ip: pool.ip,
            range: pool.range.clone(),
            in_use: pool.in_use.len(),
            resting: pool.resting.len(),
            refused,
            last,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // every state of the pool is a valid one
    }
}

fn bind_pair(ip: IpAddr, port: u16) -> io::Result<(UdpSocket, UdpSocket)> {
    Ok((bind(SocketAddr::new(ip, port))?, bind(SocketAddr::new(ip, port + 1))?))
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    let (level, name) = icmp::option(&address);
    let _ = set_option(&socket, level, name, 1); // without it nobody is told that the far end does not listen
    // marking is a courtesy to routers: without it the call works
    let _ = match address {
        SocketAddr::V4(_) => set_option(&socket, libc::IPPROTO_IP, libc::IP_TOS, TOS_EXPEDITED),
        SocketAddr::V6(_) => set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, TOS_EXPEDITED),
    };
    Ok(socket)
}

fn set_option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the duration of the call, and `value` is a valid c_int of the size given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn ports_are_even_distinct_and_rest_after_use() {
        let pool = PortPool::new(LOCAL, 23_001..=23_006).unwrap();
        let a = pool.reserve().unwrap();
        let b = pool.reserve().unwrap();
        assert_eq!((a.port(), b.port()), (23_002, 23_004));
        // 23006 has no odd neighbour within the range
        assert!(matches!(pool.reserve(), Err(EngineError::NoPort { in_use: 2, .. })));
        drop(a);
        let error = pool.reserve().unwrap_err();
        assert!(matches!(error, EngineError::NoPort { in_use: 1, resting: 1, .. }), "case 38: {error}");
    }

    #[test]
    fn a_port_taken_by_another_program_is_passed_over_and_named_when_it_was_the_last() {
        let taken = UdpSocket::bind((LOCAL, 23_013)).unwrap(); // the RTCP half
        let pool = PortPool::new(LOCAL, 23_010..=23_015).unwrap();
        let ports: Vec<_> = (0..2).map(|_| pool.reserve().unwrap()).collect();
        assert_eq!(ports.iter().map(ReservedPort::port).collect::<Vec<_>>(), [23_010, 23_014]);
        let error = pool.reserve().unwrap_err().to_string();
        assert!(error.contains("1 refused by the system") && error.contains("in use"), "case 44: {error}");
        drop(taken);
    }

    #[test]
    fn an_address_that_is_not_ours_is_a_clear_error() {
        let pool = PortPool::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 23_020..=23_029).unwrap();
        assert!(matches!(pool.reserve(), Err(EngineError::Bind { .. })));
    }

    #[test]
    fn a_range_without_a_pair_is_refused() {
        assert!(PortPool::new(LOCAL, 5..=5).is_err());
        assert!(PortPool::new(LOCAL, 5..=6).is_err());
        assert!(PortPool::new(LOCAL, 0..=0).is_err());
        assert!(PortPool::new(LOCAL, 65_535..=65_535).is_err());
    }
}
