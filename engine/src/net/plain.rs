//! A system call for each packet: epoll tells which sockets have something, recvmmsg reads it in batches.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{
    CONTROL_BYTES, Clocks, DATAGRAM_BYTES, Datagram, NAME_BYTES, Received, TICK_SHARE, Token, source, timestamp,
};

/// Datagrams read by one system call.
const BATCH: usize = 16;
/// Datagrams that are read from one socket in one tick: a call's own take one; the rest is for bursts.
const SOCKET_SHARE: usize = 256;
const CONTROL_WORDS: usize = CONTROL_BYTES.div_ceil(size_of::<u64>());

/// The sockets of a thread.
pub(super) struct Plain {
    epoll: Epoll,
    events: Box<[EpollEvent]>,
    /// By token; open while they are here.
    sockets: Box<[Option<RawFd>]>,
    batch: Batch,
    /// Whose turn it is to be read first.
    first: usize,
}

impl Plain {
    pub(super) fn new(sockets: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); sockets.max(1)].into_boxed_slice(),
            sockets: vec![None; sockets].into_boxed_slice(),
            batch: Batch::new(),
            first: 0,
        })
    }

    /// Descriptors that epoll cannot take make a call that hears nothing, and says so by MediaLost.
    pub(super) fn add(&mut self, token: Token, socket: &UdpSocket) {
        let Some(place) = self.sockets.get_mut(token.index()) else { return };
        *place = Some(socket.as_raw_fd());
        let _ = self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, u64::from(token.0)));
    }

    pub(super) fn remove(&mut self, token: Token, socket: &UdpSocket) {
        let _ = self.epoll.delete(socket);
        if let Some(place) = self.sockets.get_mut(token.index()) {
            *place = None;
        }
    }

    pub(super) fn receive(&mut self, take: &mut impl FnMut(Token, Received<'_>)) -> u64 {
        let clocks = Clocks::now();
        let ready = self.epoll.wait(&mut self.events, EpollTimeout::ZERO).unwrap_or(0);
        let (mut left, mut deferred) = (TICK_SHARE, 0);
        // not always the same ones first, so that floods on some sockets leave something for the others
        self.first = self.first.wrapping_add(1);
        for n in 0..ready {
            let Some(event) = self.events.get(self.first.wrapping_add(n) % ready) else { continue };
            let token = Token(u32::try_from(event.data()).unwrap_or(u32::MAX));
            let Some(&Some(socket)) = self.sockets.get(token.index()) else { continue };
            if event.events().contains(EpollFlags::EPOLLERR) {
                take(token, Received::Error);
            }
            if left == 0 {
                deferred += 1;
                continue;
            }
            let share = left.min(SOCKET_SHARE);
            let read = self.batch.drain(socket, share, &clocks, &mut |datagram| take(token, datagram.into()));
            deferred += u64::from(read >= SOCKET_SHARE);
            left = left.saturating_sub(read);
        }
        deferred
    }
}

#[repr(C, align(16))]
struct Slot {
    control: [u64; CONTROL_WORDS],
    name: [u8; NAME_BYTES],
    data: [u8; DATAGRAM_BYTES],
}

/// Reads datagrams in batches.
struct Batch(Box<[Slot]>);

impl Batch {
    fn new() -> Self {
        let empty = || Slot { control: [0; CONTROL_WORDS], name: [0; NAME_BYTES], data: [0; DATAGRAM_BYTES] };
        Self((0..BATCH).map(|_| empty()).collect())
    }

    /// Reads a socket up to a share, without waiting; returns how many datagrams it was.
    fn drain(
        &mut self,
        socket: RawFd,
        share: usize,
        clocks: &Clocks,
        take: &mut impl FnMut(Option<Datagram<'_>>),
    ) -> usize {
        let mut read = 0;
        loop {
            let count = self.read(socket, clocks, take);
            read += count;
            if count < BATCH || read >= share {
                return read;
            }
        }
    }

    fn read(&mut self, socket: RawFd, clocks: &Clocks, take: &mut impl FnMut(Option<Datagram<'_>>)) -> usize {
        // SAFETY: all-zero msghdr structures are valid values: null pointers with lengths of zero.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        for ((header, vector), slot) in headers.iter_mut().zip(&mut vectors).zip(self.0.iter_mut()) {
            vector.iov_base = slot.data.as_mut_ptr().cast();
            vector.iov_len = DATAGRAM_BYTES;
            header.msg_hdr.msg_name = slot.name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
        }
        // SAFETY: the descriptor is that of a socket which is removed from here before it is closed; each of the BATCH
        // headers points to buffers of the lengths that it states, all of which outlive the call and are not otherwise
        // used during it; a null timeout is allowed.
        let received = unsafe {
            let (first, count) = (headers.as_mut_ptr(), BATCH as libc::c_uint);
            libc::recvmmsg(socket, first, count, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
        // an error here is "nothing there", or an ICMP error of an earlier packet, which is cleared by being read
        let count = usize::try_from(received).unwrap_or(0).min(BATCH);
        for (header, slot) in headers.iter().zip(self.0.iter_mut()).take(count) {
            take(slot.datagram(header, clocks));
        }
        count
    }
}

impl Slot {
    fn datagram(&mut self, header: &libc::mmsghdr, clocks: &Clocks) -> Option<Datagram<'_>> {
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        // SAFETY: the words of `control` are bytes without padding, and CONTROL_BYTES of them fit into it.
        let control: &[u8; CONTROL_BYTES] = unsafe { &*self.control.as_ptr().cast() };
        let stamp = control.get(..header.msg_hdr.msg_controllen).and_then(timestamp);
        Some(Datagram {
            arrival: clocks.arrival(stamp),
            source: source(&self.name)?,
            bytes: self.data.get_mut(..usize::try_from(header.msg_len).ok()?)?,
        })
    }
}
