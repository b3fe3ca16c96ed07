//! The sockets of the media thread: which of many have something (epoll), and reading them in batches with the kernel's
//! receive times (recvmmsg, `SO_TIMESTAMPNS`). Everything is allocated beforehand.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::clock::{Time, read_clock};

/// Datagrams read by one system call.
const BATCH: usize = 16;
/// Longest datagram that is read whole: an Ethernet frame. Longer ones are no telephone audio.
const DATAGRAM_BYTES: usize = 1_536;
/// Room for one timestamp with its header (32 bytes on 64-bit Linux), in words, so that it is aligned.
const CONTROL_WORDS: usize = 8;
/// A kernel timestamp that is older than this is not believed: the clock of the day was set, or the thread was stopped.
const OLDEST: Duration = Duration::from_secs(1);

/// Tells which sockets can be read.
#[derive(Debug)]
pub(crate) struct Readiness {
    epoll: Epoll,
    events: Box<[EpollEvent]>,
    count: usize,
}

impl Readiness {
    /// For so many sockets.
    pub(crate) fn new(sockets: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); sockets.max(1)].into_boxed_slice(), count: 0 })
    }

    /// Watches a socket; `token` is what [`ready`](Self::ready) says of it.
    pub(crate) fn add(&self, socket: &UdpSocket, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Watches it no longer.
    pub(crate) fn remove(&self, socket: &UdpSocket) {
        let _ = self.epoll.delete(socket);
    }

    /// Looks which sockets can be read now, without waiting; returns how many.
    pub(crate) fn look(&mut self) -> usize {
        self.count = self.epoll.wait(&mut self.events, EpollTimeout::ZERO).unwrap_or(0);
        self.count
    }

    /// Whether that socket has an error to tell.
    pub(crate) fn has_error(&self, index: usize) -> bool {
        self.events[..self.count].get(index).is_some_and(|event| event.events().contains(EpollFlags::EPOLLERR))
    }

    /// The token of a socket that [`look`](Self::look) found.
    pub(crate) fn ready(&self, index: usize) -> u64 {
        self.events[..self.count].get(index).map_or(u64::MAX, EpollEvent::data)
    }
}

#[repr(C, align(16))]
struct Slot {
    data: [u8; DATAGRAM_BYTES],
    control: [u64; CONTROL_WORDS],
    name: libc::sockaddr_storage,
}

/// Reads datagrams in batches.
pub(crate) struct Batch {
    slots: Box<[Slot; BATCH]>,
    count: usize,
    lengths: [usize; BATCH],
    truncated: [bool; BATCH],
    stamps: [Option<u64>; BATCH],
    monotonic: Time,
    time_of_day: u64,
}

/// A datagram that was read.
#[derive(Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) arrival: Time,
    pub(crate) source: SocketAddr,
    pub(crate) bytes: &'a mut [u8],
}

impl Batch {
    pub(crate) fn new() -> io::Result<Self> {
        let slots: Vec<Slot> = (0..BATCH)
            .map(|_| Slot {
                data: [0; DATAGRAM_BYTES],
                control: [0; CONTROL_WORDS],
                // SAFETY: an all-zero sockaddr_storage is a valid value (AF_UNSPEC and padding).
                name: unsafe { std::mem::zeroed() },
            })
            .collect();
        let slots = slots.into_boxed_slice().try_into().map_err(|_| io::Error::other("batch of the wrong size"))?;
        let mut batch = Self {
            slots,
            count: 0,
            lengths: [0; BATCH],
            truncated: [false; BATCH],
            stamps: [None; BATCH],
            monotonic: Time::ZERO,
            time_of_day: 0,
        };
        batch.look_at_clocks();
        Ok(batch)
    }

    /// Compares the clock of the kernel's timestamps with ours. To be done once a tick.
    pub(crate) fn look_at_clocks(&mut self) {
        self.monotonic = Time::now();
        self.time_of_day = read_clock(libc::CLOCK_REALTIME);
    }

    /// Reads what a socket has, up to a batch, without waiting; returns whether there may be more.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> bool {
        self.count = 0;
        // SAFETY: all-zero msghdr structures are valid values: null pointers with lengths of zero.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        for ((header, vector), slot) in headers.iter_mut().zip(&mut vectors).zip(self.slots.iter_mut()) {
            vector.iov_base = slot.data.as_mut_ptr().cast();
            vector.iov_len = DATAGRAM_BYTES;
            header.msg_hdr.msg_name = (&raw mut slot.name).cast();
            header.msg_hdr.msg_namelen = name_length();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_WORDS * size_of::<u64>();
        }
        // SAFETY: the descriptor is open; each of the BATCH headers points to buffers of the lengths that it states, all
        // of which outlive the call and are not otherwise used during it; a null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        // an error here is "nothing there", or an ICMP error of an earlier packet, which is cleared by being read
        self.count = usize::try_from(received).unwrap_or(0).min(BATCH);
        for (index, header) in headers.iter().enumerate().take(self.count) {
            self.lengths[index] = to_usize(header.msg_len).min(DATAGRAM_BYTES);
            self.truncated[index] = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            // SAFETY: the kernel has filled in this header and the control bytes it points to, which lie in `slots`.
            self.stamps[index] = unsafe { timestamp(&header.msg_hdr) };
        }
        self.count == BATCH
    }

    /// How many datagrams the last call of [`receive`](Self::receive) read.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// One of them, to be decrypted in its place. One that was cut off, or whose source cannot be read, is `None`.
    pub(crate) fn get(&mut self, index: usize) -> Option<Datagram<'_>> {
        if index >= self.count || self.truncated[index] {
            return None;
        }
        let slot = &mut self.slots[index];
        let age = self.stamps[index].map_or(Duration::ZERO, |stamp| {
            let age = Duration::from_nanos(self.time_of_day.saturating_sub(stamp));
            if age > OLDEST { Duration::ZERO } else { age }
        });
        Some(Datagram {
            arrival: self.monotonic - age,
            source: source(&slot.name)?,
            bytes: &mut slot.data[..self.lengths[index]],
        })
    }
}

fn name_length() -> libc::socklen_t {
    size_of::<libc::sockaddr_storage>() as libc::socklen_t
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The kernel's receive time in nanoseconds of the time of day.
///
/// # Safety
/// `header` was filled in by recvmmsg, and its control buffer still exists.
unsafe fn timestamp(header: &libc::msghdr) -> Option<u64> {
    // SAFETY: the header describes a control buffer that the kernel has filled.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return only headers that lie within the control buffer, which is aligned
        // for them.
        let (level, kind, length) = unsafe { ((*message).cmsg_level, (*message).cmsg_type, (*message).cmsg_len) };
        // SAFETY: CMSG_LEN only computes.
        let enough = length >= unsafe { libc::CMSG_LEN(size_of::<libc::timespec>() as libc::c_uint) } as usize;
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS && enough {
            // SAFETY: this message carries a timespec, and its length says that it is whole.
            let spec = unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::timespec>()) };
            let seconds = u64::try_from(spec.tv_sec).ok()?;
            return Some(seconds * 1_000_000_000 + u64::try_from(spec.tv_nsec).ok()?);
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

fn source(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is larger and aligned for every family, holds a
            // sockaddr_in.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a sockaddr_in6.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            // a dual-stack socket shows IPv4 sources as mapped addresses; SDP names them plainly
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::new(v4.into(), port),
                None => SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn bound(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        nix::sys::socket::setsockopt(&socket.as_fd(), nix::sys::socket::sockopt::ReceiveTimestampns, &true).unwrap();
        socket
    }

    #[test]
    fn datagrams_come_with_their_bytes_sources_and_arrival_times() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(sender) = UdpSocket::bind(local) else { continue }; // no IPv6 here
            let receiver = bound(local);
            let mut readiness = Readiness::new(4).unwrap();
            readiness.add(&receiver, 42).unwrap();
            assert_eq!(readiness.look(), 0);
            let before = Time::now();
            for n in 0..20_u8 {
                sender.send_to(&[n; 33], receiver.local_addr().unwrap()).unwrap();
            }
            sender.send_to(&[0; 4000], receiver.local_addr().unwrap()).unwrap();
            assert_eq!((readiness.look(), readiness.ready(0)), (1, 42));
            let mut batch = Batch::new().unwrap();
            batch.look_at_clocks();
            let after = Time::now();
            let mut seen = 0;
            loop {
                let more = batch.receive(&receiver);
                for index in 0..batch.len() {
                    let Some(datagram) = batch.get(index) else {
                        assert_eq!(seen, 20, "only the oversized one is dropped");
                        continue;
                    };
                    assert_eq!(datagram.bytes, [seen; 33]);
                    assert_eq!(datagram.source, sender.local_addr().unwrap());
                    let slack = Duration::from_millis(1); // two clocks read one after the other
                    assert!(datagram.arrival + slack >= before && datagram.arrival <= after);
                    seen += 1;
                }
                if !more {
                    break;
                }
            }
            assert_eq!(seen, 20);
        }
    }
}
