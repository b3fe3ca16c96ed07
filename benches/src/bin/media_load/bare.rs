//! The floor: a thread that receives every call's packets and sends as many, and does nothing else. Once by a system call
//! each, and once in batches by io_uring.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use engine::TICK;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use mr_sip_benches::cpu;

use crate::far_end::FarEnd;
use crate::{MEDIA_PRIORITY, PHASES, RTP_BYTES, SRTP_TAG_BYTES, phase_of};

/// How packets come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// recv until there is nothing, and sendto.
    Calls,
    /// Multishot recvmsg into provided buffers; sends as one submission a tick.
    Uring,
}

/// Runs the loop on a core; microseconds of processor time a packet pair.
pub(crate) fn measure(far_end: &mut FarEnd, means: Means, srtp: bool, core: usize, time: Duration) -> Result<f64> {
    let sockets: Vec<UdpSocket> =
        far_end.addresses.iter().map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ours = Vec::new();
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        ours.push(socket.local_addr()?);
    }
    far_end.send_to(&ours, srtp)?;
    let to = &far_end.addresses;
    let bytes = vec![0x80; RTP_BYTES + if srtp { SRTP_TAG_BYTES } else { 0 }];
    std::thread::scope(|scope| {
        let run = || {
            cpu::pin_to(&[core])?;
            cpu::become_real_time(MEDIA_PRIORITY);
            match means {
                Means::Calls => run(time, &mut Calls { sockets: &sockets, to, bytes: &bytes }),
                Means::Uring => run(time, &mut Uring::new(&sockets, to, &bytes)?),
            }
        };
        scope.spawn(run).join().map_err(|_| anyhow::anyhow!("the bare loop panicked"))?
    })
}

trait Bare {
    /// Receives all that came, and sends for the calls of this phase; how many packets were received and sent.
    fn tick(&mut self, phase: usize) -> Result<(u64, u64)>;
}

fn run(time: Duration, bare: &mut impl Bare) -> Result<f64> {
    let warm_up = Duration::from_secs(1);
    let began = Instant::now();
    let (mut tick, mut received, mut sent, mut spent) = (0_u32, 0, 0, None);
    while began.elapsed() < warm_up + time {
        if spent.is_none() && began.elapsed() >= warm_up {
            (received, sent, spent) = (0, 0, Some(thread_time()));
        }
        let (more_received, more_sent) = bare.tick(tick as usize % PHASES)?;
        (received, sent) = (received + more_received, sent + more_sent);
        tick += 1;
        std::thread::sleep((began + TICK * tick).saturating_duration_since(Instant::now()));
    }
    let spent = thread_time() - spent.context("too short")?;
    ensure!(received * 10 > sent * 9, "only {received} packets came, and {sent} were sent");
    Ok(spent.as_secs_f64() * 1e6 / ((received + sent) as f64 / 2.0))
}

fn thread_time() -> Duration {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` is a valid timespec that the kernel may write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut spec) };
    Duration::new(spec.tv_sec.cast_unsigned(), u32::try_from(spec.tv_nsec).unwrap_or(0))
}

struct Calls<'a> {
    sockets: &'a [UdpSocket],
    to: &'a [SocketAddr],
    bytes: &'a [u8],
}

impl Bare for Calls<'_> {
    fn tick(&mut self, phase: usize) -> Result<(u64, u64)> {
        let (mut received, mut sent) = (0, 0);
        let mut sink = [0; 2_048];
        for (n, (socket, to)) in self.sockets.iter().zip(self.to).enumerate() {
            if phase_of(n) == phase {
                while socket.recv(&mut sink).is_ok() {
                    received += 1;
                }
                socket.send_to(self.bytes, to)?;
                sent += 1;
            }
        }
        Ok((received, sent))
    }
}

const BUFFERS: u16 = 1_024;
const BUFFER_BYTES: usize = 2_048;
/// What completions of sends carry; those of receives carry the socket's number.
const SEND: u64 = u64::MAX;

struct Uring<'a> {
    ring: IoUring,
    /// Registered with the ring, so it lives as long.
    entries: Box<[BufferPage]>,
    buffers: Box<[u8]>,
    tail: u16,
    addresses: Vec<libc::sockaddr_in>,
    bytes: &'a [u8],
    template: Box<libc::msghdr>,
}

/// A page of buffer descriptors; a ring of them must begin at a page.
#[repr(align(4096))]
#[expect(dead_code, reason = "only its address is used")]
struct BufferPage([u8; 4_096]);

impl<'a> Uring<'a> {
    fn new(sockets: &[UdpSocket], to: &[SocketAddr], bytes: &'a [u8]) -> Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(8_192)
            .build(4_096)?;
        let pages = usize::from(BUFFERS) * size_of::<types::BufRingEntry>() / size_of::<BufferPage>();
        // SAFETY: an all-zero msghdr is a valid value.
        let mut template: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        template.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        let mut uring = Self {
            ring,
            entries: (0..pages).map(|_| BufferPage([0; 4_096])).collect(),
            buffers: vec![0; usize::from(BUFFERS) * BUFFER_BYTES].into_boxed_slice(),
            tail: 0,
            addresses: to.iter().map(sockaddr).collect(),
            bytes,
            template,
        };
        for buffer in 0..BUFFERS {
            uring.provide(buffer);
        }
        uring.publish();
        let ring_address = uring.entries.as_mut_ptr() as u64;
        // SAFETY: the ring of buffers lies at a page, holds BUFFERS descriptors and lives as long as the io_uring does.
        unsafe { uring.ring.submitter().register_buf_ring_with_flags(ring_address, BUFFERS, 0, 0)? };
        let descriptors: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        uring.ring.submitter().register_files(&descriptors)?;
        for socket in 0..sockets.len() {
            uring.listen(socket as u64)?;
        }
        Ok(uring)
    }

    fn provide(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (BUFFERS - 1));
        let address = self.buffers[usize::from(buffer) * BUFFER_BYTES..].as_mut_ptr() as u64;
        // SAFETY: `slot` is below BUFFERS, and `entries` has room for so many descriptors, aligned to pages.
        let entry = unsafe { &mut *self.entries.as_mut_ptr().cast::<types::BufRingEntry>().add(slot) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the tail of a ring of buffers lies in its first descriptor, and is shared with the kernel as an atomic.
        let tail = unsafe { &*types::BufRingEntry::tail(self.entries.as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    fn listen(&mut self, socket: u64) -> Result<()> {
        let template: *const libc::msghdr = &raw const *self.template;
        let entry = opcode::RecvMsgMulti::new(types::Fixed(socket as u32), template, 0).build().user_data(socket);
        self.push(&entry)
    }

    fn push(&mut self, entry: &squeue::Entry) -> Result<()> {
        loop {
            // SAFETY: what the entry points to (template, bytes, addresses) lives as long as the ring does.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }
}

impl Bare for Uring<'_> {
    fn tick(&mut self, phase: usize) -> Result<(u64, u64)> {
        let (mut received, mut sent) = (0, 0);
        loop {
            // SAFETY: no signal mask is given, so there is nothing that could be dangling.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None)? };
            while let Some(entry) = { self.ring.completion().next() } {
                if entry.user_data() == SEND {
                    ensure!(entry.result() >= 0, "a packet was not sent: error {}", -entry.result());
                    continue;
                }
                if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
                    received += 1;
                    self.provide(buffer);
                }
                if !cqueue::more(entry.flags()) {
                    self.listen(entry.user_data())?;
                }
            }
            self.publish();
            if !self.ring.submission().taskrun() {
                break;
            }
        }
        for n in (0..self.addresses.len()).filter(|n| phase_of(*n) == phase) {
            let address: *const libc::sockaddr_in = &raw const self.addresses[n];
            let entry = opcode::Send::new(types::Fixed(n as u32), self.bytes.as_ptr(), self.bytes.len() as u32)
                .flags(libc::MSG_DONTWAIT)
                .dest_addr(address.cast())
                .dest_addr_len(size_of::<libc::sockaddr_in>() as libc::socklen_t)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(SEND);
            self.push(&entry)?;
            sent += 1;
        }
        self.ring.submit()?;
        Ok((received, sent))
    }
}

/// `IORING_ENTER_GETEVENTS`, which the crate keeps to itself.
const ENTER_GETEVENTS: u32 = 1;

fn sockaddr(address: &SocketAddr) -> libc::sockaddr_in {
    // SAFETY: an all-zero sockaddr_in is a valid value.
    let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    raw.sin_family = libc::AF_INET as libc::sa_family_t;
    raw.sin_port = address.port().to_be();
    raw.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
    raw
}
