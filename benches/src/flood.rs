//! A flood of junk at SIP and RTP ports on loopback, for benches of what a daemon does under attack (cases 2, 17, 21, 22).
//!
//! One thread sends at a steady rate, half of it SIP and half RTP. Each datagram has a source address of its own choice:
//! on Linux the whole of 127.0.0.0/8 is local, and `IP_PKTINFO` lets one socket send from any of it. Half comes from a
//! few addresses that go on and on, as a scanner does, and half from hundreds of thousands, as forged ones are.
//! It only ever sends to loopback, and ends by itself.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use nix::libc::in_pktinfo;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};

/// How often the flood looks how much is due.
const BEAT: Duration = Duration::from_millis(1);
/// What was missed is made up for by this much of a second at most: a flood is steady, not a burst after a stall.
const MOST_AT_ONCE: f64 = 0.02;
/// Addresses that go on and on.
const STUBBORN: u8 = 64;
/// Different datagrams of each kind.
const VARIETY: usize = 2_048;
/// The seven methods of the flood.
const METHODS: [&str; 7] = ["INVITE", "OPTIONS", "REGISTER", "BYE", "CANCEL", "SUBSCRIBE", "MESSAGE"];

/// What a flood really sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// To the SIP port.
    pub sip: u64,
    /// To RTP and RTCP ports.
    pub rtp: u64,
    /// What the system did not take.
    pub refused: u64,
    /// Seconds of a thread's whole processor time that sending took.
    pub busy: f64,
    /// How long it went on, in seconds.
    pub seconds: f64,
    /// The slowest full second: datagrams sent in it.
    pub slowest_second: u64,
}

impl Sent {
    /// Datagrams a second, all together.
    #[must_use]
    pub fn rate(&self) -> f64 {
        (self.sip + self.rtp) as f64 / self.seconds.max(0.001)
    }
}

/// A flood that goes on. Dropping it ends it.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Sent>>,
}

impl Flood {
    /// Sends `rate` datagrams a second until it is stopped, or `longest` is over: half to `sip`, half to the `rtp` ports
    /// and the RTCP ports above them.
    ///
    /// # Errors
    /// A target is not on loopback, or there is no socket.
    pub fn start(rate: u32, sip: SocketAddr, rtp: &[SocketAddr], longest: Duration) -> Result<Self> {
        let address = |target: &SocketAddr| match target {
            SocketAddr::V4(v4) if v4.ip().is_loopback() => Ok(*v4),
            other => anyhow::bail!("{other} is not on IPv4 loopback: this flood goes nowhere else"),
        };
        let sip = address(&sip)?;
        let rtp = rtp.iter().map(address).collect::<Result<Vec<_>>>()?;
        ensure!(!rtp.is_empty(), "there is no RTP port to flood");
        let socket = UdpSocket::bind("0.0.0.0:0").context("no socket for the flood")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("flood".into()).spawn(move || {
            let mut random = Rng::with_seed(17);
            let junk = Junk::new(&mut random, sip);
            Sender { socket, sip, rtp, junk, random, sent: Sent::default() }.run(rate, longest, &stopped)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it, and tells what it sent.
    ///
    /// # Errors
    /// Its thread has panicked.
    pub fn stop(mut self) -> Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the flood was stopped already")?;
        thread.join().map_err(|_| anyhow::anyhow!("the flood's thread panicked"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Sender {
    socket: UdpSocket,
    sip: SocketAddrV4,
    rtp: Vec<SocketAddrV4>,
    junk: Junk,
    random: Rng,
    sent: Sent,
}

impl Sender {
    fn run(mut self, rate: u32, longest: Duration, stop: &AtomicBool) -> Sent {
        let began = Instant::now();
        let rate = f64::from(rate);
        let mut due = 0.0;
        let mut last = began;
        let (mut second, mut at_second) = (1, 0);
        self.sent.slowest_second = u64::MAX;
        while !stop.load(Ordering::Relaxed) && began.elapsed() < longest {
            let now = Instant::now();
            due = (due + rate * (now - last).as_secs_f64()).min(rate * MOST_AT_ONCE);
            last = now;
            while due >= 1.0 {
                self.send_one();
                due -= 1.0;
            }
            self.sent.busy += now.elapsed().as_secs_f64();
            if began.elapsed().as_secs() >= second {
                let all = self.sent.sip + self.sent.rtp;
                self.sent.slowest_second = self.sent.slowest_second.min(all - at_second);
                (second, at_second) = (second + 1, all);
            }
            thread::sleep(BEAT);
        }
        self.sent.seconds = began.elapsed().as_secs_f64();
        self.sent
    }

    fn send_one(&mut self) {
        let to_sip = self.random.bool();
        let (bytes, to) = if to_sip {
            (self.random.choice(&self.junk.sip), self.sip)
        } else {
            let port = self.random.choice(&self.rtp).copied().unwrap_or(self.sip);
            // one in four to RTCP
            let above = u16::from(self.random.u8(0..4) == 0);
            (self.random.choice(&self.junk.rtp), SocketAddrV4::new(*port.ip(), port.port().saturating_add(above)))
        };
        let Some(bytes) = bytes else { return };
        let from = if self.random.bool() {
            Ipv4Addr::new(127, 0, 1, self.random.u8(1..=STUBBORN))
        } else {
            Ipv4Addr::new(127, self.random.u8(1..255), self.random.u8(..), self.random.u8(1..255))
        };
        let source = in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: nix::libc::in_addr { s_addr: u32::from(from).to_be() },
            ipi_addr: nix::libc::in_addr { s_addr: 0 },
        };
        let to = SockaddrIn::from(to);
        let control = [ControlMessage::Ipv4PacketInfo(&source)];
        let done =
            sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(bytes)], &control, MsgFlags::MSG_DONTWAIT, Some(&to));
        match done {
            Ok(_) if to_sip => self.sent.sip += 1,
            Ok(_) => self.sent.rtp += 1,
            Err(_) => self.sent.refused += 1,
        }
    }
}

/// What is sent, made beforehand.
struct Junk {
    sip: Vec<Vec<u8>>,
    rtp: Vec<Vec<u8>>,
}

impl Junk {
    fn new(random: &mut Rng, target: SocketAddrV4) -> Self {
        let sip = (0..VARIETY).map(|number| match number % 4 {
            0 => noise(random, 1, 600),
            1 => {
                let mut whole = request(random, target);
                whole.truncate(random.usize(1..whole.len()));
                whole
            }
            _ => request(random, target),
        });
        let sip = sip.collect();
        let rtp = (0..VARIETY).map(|number| if number % 4 == 0 { noise(random, 1, 300) } else { audio(random) });
        Self { sip, rtp: rtp.collect() }
    }
}

fn noise(random: &mut Rng, shortest: usize, longest: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(shortest..=longest)];
    random.fill(&mut bytes);
    bytes
}

/// A whole request of somebody whom nobody knows.
fn request(random: &mut Rng, target: SocketAddrV4) -> Vec<u8> {
    let method = METHODS[random.usize(0..METHODS.len())];
    let (number, tag) = (random.u32(..), random.u32(..));
    // the methods of a dialog claim one
    let to_tag = if matches!(method, "BYE" | "CANCEL") { format!(";tag={tag:x}") } else { String::new() };
    let body = if method == "INVITE" {
        "v=0\r\no=- 1 1 IN IP4 127.9.9.9\r\ns=-\r\nc=IN IP4 127.9.9.9\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\n"
    } else {
        ""
    };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:100@{target} SIP/2.0\r\nVia: SIP/2.0/UDP 127.9.9.9:5060;rport;branch=z9hG4bK{number:x}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{tag}@{target}>;tag={number}\r\nTo: <sip:100@{target}>{to_tag}\r\n\
         Call-ID: {number:x}{tag:x}\r\nCSeq: {} {method}\r\nContact: <sip:100@127.9.9.9>\r\n{kind}\
         Content-Length: {}\r\n\r\n{body}",
        random.u16(1..),
        body.len()
    )
    .into_bytes()
}

/// A packet of PCMU that is nobody's.
fn audio(random: &mut Rng) -> Vec<u8> {
    let mut bytes = noise(random, 172, 172);
    // version 2, no padding, extension or sources; payload type 0
    bytes[0] = 0x80;
    bytes[1] = 0;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_from_many_addresses_and_no_faster_than_its_rate() {
        let sip = UdpSocket::bind("127.0.0.1:0").unwrap();
        let rtp = [UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()];
        let flood = Flood::start(2_000, sip.local_addr().unwrap(), &rtp, Duration::from_secs(60)).unwrap();
        let mut sources = std::collections::BTreeSet::new();
        sip.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        for _ in 0..20 {
            let (_, from) = sip.recv_from(&mut [0; 2048]).unwrap();
            sources.insert(from.ip());
        }
        assert!(sources.len() > 5, "{sources:?}");
        assert!(!sources.contains(&Ipv4Addr::LOCALHOST.into()));
        let sent = flood.stop().unwrap();
        assert!(sent.sip >= 20 && sent.rate() <= 2_000.0, "{sent:?}");
    }

    #[test]
    fn it_ends_by_itself() {
        let target = [UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()];
        let mut flood = Flood::start(100, target[0], &target, BEAT).unwrap();
        flood.thread.take().unwrap().join().unwrap();
    }

    #[test]
    fn it_goes_nowhere_but_to_loopback() {
        let outside = "192.0.2.1:5060".parse().unwrap();
        assert!(Flood::start(1, outside, &["127.0.0.1:9".parse().unwrap()], BEAT).is_err());
    }
}
