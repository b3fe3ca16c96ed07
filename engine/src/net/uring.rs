//! All sockets through one io_uring: a standing order (multishot recvmsg) for the packets of each, which the kernel puts
//! into buffers that were provided, and sends in batches.
//!
//! The ring is set up so that the kernel does its work only when the thread enters it, on the thread's own time: arriving
//! packets interrupt nobody. Each entry hands out what a number of sockets have, at most 32 packets of one socket before
//! the others have had their turn, so a flood cannot crowd them out; the thread stops entering when a tick's share is used up.
//!
//! What must hold: all memory that the kernel was told of (buffers, their ring, the packets to be sent) lives as long as
//! the ring does and does not move; a buffer is the kernel's from `provide` to the completion that names it, and ours from
//! there to the next `provide`; packets to be sent are not touched between `queue` and the end of `flush`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, CancelBuilder, Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};
use nix::sys::socket::{setsockopt, sockopt};

use super::{
    CONTROL_BYTES, Clocks, DATAGRAM_BYTES, Datagram, Failed, NAME_BYTES, Received, TICK_SHARE, Token, sockaddr, source,
    timestamp,
};

/// Buffers for packets: what one entry can hand out at once under a flood, and then some. If they do run out, standing
/// orders end and are given anew.
const BUFFERS: u16 = 1_024;
/// Before the packet, the kernel writes a header of four words, the source and the control messages.
const HEADER_BYTES: usize = 16;
const PACKET_AT: usize = HEADER_BYTES + NAME_BYTES + CONTROL_BYTES;
const BUFFER_BYTES: usize = (PACKET_AT + DATAGRAM_BYTES).next_multiple_of(64);
const GROUP: u16 = 0;
const PAGE: usize = 4_096;
const PAGES: usize = BUFFERS as usize * size_of::<BufRingEntry>() / PAGE;

/// Packets of one submission. Few enough that the first one does not wait long for the last, and that they stay in the
/// cache until the kernel has copied them; many enough that entering the kernel costs next to nothing for each.
const SENDS: usize = 32;
/// Longest packet that is sent this way: 60 ms of G.711 with header and tag.
const SEND_BYTES: usize = 512;

/// Completions that can wait: more than packets of a tick's share, and all that goes wrong with sends.
const COMPLETIONS: u32 = 8_192;
/// Kernel entries in one tick, should the kernel ever say that there is more and not hand it out.
const MOST_ENTRIES: usize = 1_024;

/// `IORING_ENTER_GETEVENTS`, which the crate keeps to itself.
const GET_EVENTS: u32 = 1;
/// What tells the completion of a send from that of a standing order.
const SEND: u64 = 1 << 63;
/// What belongs to no socket.
const NOBODY: u64 = u64::MAX;

/// What a ring of descriptors must begin at.
#[repr(align(4096))]
#[expect(dead_code, reason = "only its address is used, as the kernel's")]
struct Page([u8; PAGE]);

#[derive(Clone, Copy)]
struct Sending {
    to: [u8; NAME_BYTES],
    bytes: [u8; SEND_BYTES],
}

/// What is known of a socket.
#[derive(Clone, Copy, Default)]
struct Place {
    socket: Option<Fd>,
    /// Raised when the socket goes, so that what still comes of its standing order is not taken for its successor's.
    generation: u32,
}

/// The sockets of a thread.
pub(super) struct Uring {
    // before the memory that it uses, so that it is gone when that goes
    ring: IoUring,
    places: Box<[Place]>,
    /// The ring by which buffers are provided: descriptors, in pages.
    provided: Box<[Page]>,
    provided_tail: u16,
    buffers: Box<[u8]>,
    /// How packets are to be written into buffers: room for source and control messages.
    template: Box<libc::msghdr>,
    sends: Box<[Sending]>,
    queued: usize,
}

impl Uring {
    pub(super) fn new(sockets: usize) -> io::Result<Self> {
        let ring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(256)?;
        // SAFETY: an all-zero msghdr is a valid value: null pointers with lengths of zero.
        let mut template: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        template.msg_namelen = NAME_BYTES as libc::socklen_t;
        template.msg_controllen = CONTROL_BYTES;
        let mut uring = Self {
            ring,
            places: vec![Place::default(); sockets].into_boxed_slice(),
            provided: (0..PAGES).map(|_| Page([0; PAGE])).collect(),
            provided_tail: 0,
            buffers: vec![0; usize::from(BUFFERS) * BUFFER_BYTES].into_boxed_slice(),
            template,
            sends: vec![Sending { to: [0; NAME_BYTES], bytes: [0; SEND_BYTES] }; SENDS].into_boxed_slice(),
            queued: 0,
        };
        for buffer in 0..BUFFERS {
            uring.provide(buffer);
        }
        uring.publish_provided();
        let address = uring.provided.as_mut_ptr() as u64;
        // SAFETY: `provided` begins at a page and holds BUFFERS descriptors, which is a power of two; it is neither moved nor
        // freed before the ring is.
        unsafe { uring.ring.submitter().register_buf_ring_with_flags(address, BUFFERS, GROUP, 0)? };
        Ok(uring)
    }

    /// Sends a packet to itself and waits for it: kernels before 6.1 and sandboxes know only parts of all this.
    pub(super) fn tried(mut self) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        setsockopt(&socket.as_fd(), sockopt::ReceiveTimestampns, &true)?;
        let address = socket.local_addr()?;
        let token = Token(0);
        self.add(token, &socket);
        let queued = self.queue(token, &socket, b"mr_sip", address);
        self.flush();
        let (mut came, mut failed) = (false, Failed(Vec::with_capacity(1)));
        for _ in 0..200 {
            let mut take = |_, received: Received<'_>| {
                came |= matches!(received, Received::Datagram(d) if d.bytes == b"mr_sip" && d.source == address);
            };
            self.receive(&mut take, &mut failed);
            if came {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.remove(token);
        self.receive(&mut |_, _| {}, &mut failed);
        if queued && came && failed.0.is_empty() {
            Ok(self)
        } else {
            Err(io::Error::other("a packet did not come back"))
        }
    }

    pub(super) fn add(&mut self, token: Token, socket: &UdpSocket) {
        let Some(place) = self.places.get_mut(token.index()) else { return };
        place.socket = Some(Fd(socket.as_raw_fd()));
        self.order(token);
    }

    /// Its standing order is taken back at once, so that another thread may go on with the socket.
    pub(super) fn remove(&mut self, token: Token) {
        let Some(place) = self.places.get_mut(token.index()) else { return };
        let order = order_name(token, place.generation);
        place.socket = None;
        place.generation = place.generation.wrapping_add(1) & !(1 << 31);
        let cancel = opcode::AsyncCancel::new(order).build().user_data(NOBODY);
        self.push(&cancel);
        let _ = self.ring.submit();
    }

    pub(super) fn receive(&mut self, take: &mut impl FnMut(Token, Received<'_>), failed: &mut Failed) -> u64 {
        let clocks = Clocks::now();
        let mut left = TICK_SHARE;
        for _ in 0..MOST_ENTRIES {
            if self.enter().is_err() {
                return 1; // out of memory, or too many completions wait: what was read is taken, the rest at the next tick
            }
            while let Some(entry) = self.completion() {
                left = left.saturating_sub(1);
                match self.live(&entry) {
                    Some(token) if entry.user_data() & SEND != 0 => failed.push(token), // the others say nothing
                    token => self.take(&entry, token, &clocks, take),
                }
            }
            self.publish_provided();
            let more = self.ring.submission().taskrun();
            if !more {
                return 0;
            }
            if left == 0 {
                return 1;
            }
        }
        1
    }

    /// Puts a packet into the next submission; `false` if it cannot be sent this way.
    pub(super) fn queue(&mut self, token: Token, socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> bool {
        if self.queued == SENDS {
            self.flush();
        }
        let generation = self.places.get(token.index()).map_or(0, |place| place.generation);
        let Some(sending) = self.sends.get_mut(self.queued) else { return false };
        let Some(room) = sending.bytes.get_mut(..bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        let (address, address_bytes) = sockaddr(to);
        sending.to = address;
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), room.as_ptr(), bytes.len() as u32)
            // done at once or not at all, so that `flush` is the end of it
            .flags(libc::MSG_DONTWAIT)
            .dest_addr(sending.to.as_ptr().cast())
            .dest_addr_len(address_bytes as libc::socklen_t)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(SEND | order_name(token, generation));
        let pushed = self.push(&entry);
        self.queued += usize::from(pushed);
        pushed
    }

    /// Sends what is queued. What could not be sent is told by the next `receive`.
    pub(super) fn flush(&mut self) {
        if self.queued == 0 {
            return;
        }
        let _ = self.ring.submit();
        // what the kernel would not take now is still its to read, so it must not be written over: until it does, packets
        // go the plain way
        if self.ring.submission().is_empty() {
            self.queued = 0;
        }
    }

    /// Whose completion it is, if the socket is still the one that it was.
    fn live(&self, entry: &cqueue::Entry) -> Option<Token> {
        let name = entry.user_data();
        let token = Token((name & u64::from(u32::MAX)) as u32);
        let place = self.places.get(token.index()).filter(|place| place.socket.is_some())?;
        (order_name(token, place.generation) == name & !SEND).then_some(token)
    }

    /// Takes what came by a standing order, which is nobody's any more if there is no `token`.
    fn take(
        &mut self,
        entry: &cqueue::Entry,
        token: Option<Token>,
        clocks: &Clocks,
        take: &mut impl FnMut(Token, Received<'_>),
    ) {
        if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
            if let Some(token) = token {
                take(token, self.datagram(buffer, entry.result(), clocks).into());
            }
            self.provide(buffer);
        }
        if let Some(token) = token.filter(|_| !cqueue::more(entry.flags())) {
            if entry.result() < 0 && entry.result() != -libc::ENOBUFS {
                take(token, Received::Error);
            }
            self.order(token);
        }
    }

    /// The packet in a buffer, of which the kernel has filled so many bytes.
    fn datagram(&mut self, buffer: u16, filled: i32, clocks: &Clocks) -> Option<Datagram<'_>> {
        let at = usize::from(buffer) * BUFFER_BYTES;
        let bytes = self.buffers.get_mut(at..at + BUFFER_BYTES)?.get_mut(..usize::try_from(filled).ok()?)?;
        let message = RecvMsgOut::parse(bytes, &self.template).ok()?;
        if message.is_payload_truncated() {
            return None;
        }
        let (source, length) = (source(message.name_data())?, message.payload_data().len());
        let arrival = clocks.arrival(timestamp(message.control_data()));
        Some(Datagram { arrival, source, bytes: bytes.get_mut(PACKET_AT..PACKET_AT + length)? })
    }

    /// Gives the standing order for a socket.
    fn order(&mut self, token: Token) {
        let Some(&Place { socket: Some(socket), generation }) = self.places.get(token.index()) else { return };
        let template: *const libc::msghdr = &raw const *self.template;
        let entry = opcode::RecvMsgMulti::new(socket, template, GROUP).build().user_data(order_name(token, generation));
        self.push(&entry);
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: what entries point to is owned by `self`, lives as long as the ring and is not moved (boxes); see the
            // module about when it may be touched.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return true;
            }
            let _ = self.ring.submit();
        }
        false
    }

    /// Submits what is pushed, and lets the kernel do what has come up, without waiting.
    fn enter(&mut self) -> io::Result<usize> {
        let pushed = self.ring.submission().len();
        // SAFETY: so many entries are pushed, and no signal mask is given that could be dangling.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(pushed as u32, 0, GET_EVENTS, None) }
    }

    fn completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn provide(&mut self, buffer: u16) {
        let at = usize::from(buffer) * BUFFER_BYTES;
        let Some(bytes) = self.buffers.get_mut(at..at + BUFFER_BYTES) else { return };
        let place = usize::from(self.provided_tail % BUFFERS);
        // SAFETY: `provided` has room for BUFFERS descriptors, aligned to pages, and `place` is below BUFFERS. The kernel reads
        // descriptors up to the tail that was published, and this one lies behind it.
        let entry = unsafe { &mut *self.provided.as_mut_ptr().cast::<BufRingEntry>().add(place) };
        entry.set_addr(bytes.as_mut_ptr() as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.provided_tail = self.provided_tail.wrapping_add(1);
    }

    fn publish_provided(&mut self) {
        // SAFETY: the tail lies in the first descriptor, two aligned bytes that both sides use as an atomic number.
        let tail = unsafe { &*BufRingEntry::tail(self.provided.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.provided_tail, Ordering::Release);
    }
}

impl Drop for Uring {
    /// Closing a ring lets go of its sockets at some later time; so that their ports are free at once, all orders are taken
    /// back first.
    fn drop(&mut self) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(NOBODY);
        self.push(&cancel);
        for _ in 0..MOST_ENTRIES {
            if self.enter().is_err() {
                return;
            }
            while self.completion().is_some() {}
            if !self.ring.submission().taskrun() {
                return;
            }
        }
    }
}

/// What completions carry: the socket and its generation (31 bits).
fn order_name(token: Token, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(token.0)
}
