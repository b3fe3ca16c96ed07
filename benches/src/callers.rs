//! Everybody who calls, in this process: calls with audio in both directions, and what of it came when.
//!
//! sipp sends audio but never looks at what comes back, so benches that ask how steady the far end's audio is call by
//! themselves: the signaling is this project's own user agent, the audio plain sockets. A packet's time of arrival is
//! the kernel's (`SO_TIMESTAMPNS`), so a busy measuring process does not measure itself.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use signaling::net::{Command, Endpoint, EndpointConfig};
use signaling::sdp::{self, AudioCodec, LocalMedia};
use signaling::{CallId, Dial, Event, UserAgentConfig};

/// Audio of one packet.
const PTIME: Duration = Duration::from_millis(20);
/// Samples of PCMU in it.
const SAMPLES: u32 = 160;
/// How often the sockets are looked at.
const BEAT: Duration = Duration::from_millis(2);
/// One extra call is made this often while others are up.
const EXTRA_EVERY: Duration = Duration::from_millis(500);
/// How long an extra call may take to be answered.
const EXTRA_LIMIT: Duration = Duration::from_secs(5);
/// Tags of extra calls begin here.
const EXTRA: u64 = 1 << 32;

/// A packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When, in nanoseconds of the time of day, as the kernel says.
    pub at_ns: u64,
    /// Its RTP sequence number.
    pub sequence: u16,
    /// Its RTP timestamp.
    pub timestamp: u32,
}

/// What was seen of the extra calls.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// From the command to the answer, milliseconds, of each.
    pub setup_ms: Vec<f64>,
    /// Calls that were refused, or not answered in time.
    pub failed: usize,
}

/// A call that is up or on its way.
#[derive(Debug)]
struct Line {
    dialled: Instant,
    call: Option<CallId>,
    answered: bool,
}

/// Everybody who calls.
#[derive(Debug)]
pub struct Callers {
    endpoint: Endpoint,
    target: SocketAddr,
    lines: BTreeMap<u64, Line>,
    phones: Phones,
    /// Where extra calls want their audio; nobody listens to it.
    spare: UdpSocket,
    extra: Extra,
    next_extra: u64,
    extra_due: Option<Instant>,
    lost: usize,
}

impl Callers {
    /// Makes so many calls, and waits until all are up.
    ///
    /// # Errors
    /// Not all of them are answered in time.
    pub fn start(target: SocketAddr, calls: usize, limit: Duration) -> Result<Self> {
        let bind: SocketAddr = "127.0.0.1:0".parse()?;
        let endpoint = Endpoint::start(EndpointConfig::new(bind, UserAgentConfig::new(bind)), || {})?;
        let phones = Phones::start(calls)?;
        let mut callers = Self {
            endpoint,
            target,
            lines: BTreeMap::new(),
            phones,
            spare: UdpSocket::bind("127.0.0.1:0")?,
            extra: Extra::default(),
            next_extra: EXTRA,
            extra_due: None,
            lost: 0,
        };
        for phone in 0..calls {
            callers.dial(phone as u64)?;
            // a caller every few milliseconds, not all at once
            callers.attend(Duration::from_millis(20))?;
        }
        let began = Instant::now();
        while callers.up() < calls {
            ensure!(began.elapsed() < limit, "only {} of {calls} calls came up", callers.up());
            ensure!(callers.lost == 0, "a call was lost while the others came up");
            callers.attend(Duration::from_millis(20))?;
        }
        Ok(callers)
    }

    /// From which address they call.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// Where the far end receives each call's RTP.
    #[must_use]
    pub fn remote_media(&self) -> Vec<SocketAddr> {
        self.phones.shared.iter().filter_map(|phone| lock(phone).remote).collect()
    }

    /// Calls that ended though nobody hung up.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.lost
    }

    /// Serves signaling for so long; with `extra`, further calls are made and ended all the time.
    ///
    /// # Errors
    /// The user agent does not take commands.
    pub fn talk(&mut self, time: Duration, extra: bool) -> Result<()> {
        self.extra_due = extra.then(Instant::now);
        let done = self.attend(time);
        self.extra_due = None;
        done
    }

    /// What arrived at each call since this was last asked, and how the extra calls went.
    pub fn take(&mut self) -> (Vec<Vec<Arrival>>, Extra) {
        let heard = self.phones.shared.iter().map(|phone| std::mem::take(&mut lock(phone).heard)).collect();
        (heard, std::mem::take(&mut self.extra))
    }

    fn up(&self) -> usize {
        self.lines.iter().filter(|(tag, line)| **tag < EXTRA && line.answered).count()
    }

    fn dial(&mut self, tag: u64) -> Result<()> {
        let phone = usize::try_from(tag).ok().and_then(|index| self.phones.shared.get(index));
        let media = match phone {
            Some(phone) => lock(phone).socket.local_addr()?,
            None => self.spare.local_addr()?,
        };
        let dial = Dial {
            account: None,
            to: format!("sip:agent@{}", self.target),
            sdp: sdp::offer(&local(media)),
            display_name: None,
            headers: Vec::new(),
            privacy: false,
        };
        self.lines.insert(tag, Line { dialled: Instant::now(), call: None, answered: false });
        Ok(self.endpoint.command(Command::Dial { tag, dial })?)
    }

    fn attend(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if let Some(event) = self.endpoint.recv_timeout(left.min(Duration::from_millis(10))) {
                self.on_event(event)?;
            }
            if let Some(due) = self.extra_due.filter(|due| Instant::now() >= *due) {
                self.extra_due = Some(due + EXTRA_EVERY);
                self.next_extra += 1;
                self.dial(self.next_extra)?;
            }
            self.give_up_late_ones()?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Dialing { tag, call } => {
                if let Some(line) = self.lines.get_mut(&tag) {
                    line.call = Some(call);
                }
            }
            Event::DialFailed { tag, error } => {
                eprintln!("a call could not be made: {error}");
                self.over(tag);
            }
            Event::Answered { call, sdp } => {
                let Some((tag, line)) = self.lines.iter_mut().find(|(_, line)| line.call == Some(call)) else {
                    return Ok(());
                };
                line.answered = true;
                if *tag >= EXTRA {
                    self.extra.setup_ms.push(line.dialled.elapsed().as_secs_f64() * 1000.0);
                    self.endpoint.command(Command::Hangup(call))?;
                } else if let Some(phone) = usize::try_from(*tag).ok().and_then(|tag| self.phones.shared.get(tag)) {
                    let mut phone = lock(phone);
                    let plan = sdp::accept(
                        &sdp.context("an answer without a description")?,
                        &local(phone.socket.local_addr()?),
                    )?;
                    phone.remote = Some(plan.remote);
                }
            }
            Event::Ended { call, cause, reason, .. } => {
                let tag = self.lines.iter().find(|(_, line)| line.call == Some(call)).map(|(tag, _)| *tag);
                if let Some(tag) = tag {
                    if tag < EXTRA {
                        eprintln!("a call was lost: {cause}: {reason}");
                    }
                    self.over(tag);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn over(&mut self, tag: u64) {
        let answered = self.lines.remove(&tag).is_some_and(|line| line.answered);
        if tag < EXTRA {
            self.lost += 1;
        } else if !answered {
            self.extra.failed += 1;
        }
    }

    fn give_up_late_ones(&mut self) -> Result<()> {
        let late: Vec<_> = self
            .lines
            .iter()
            .filter(|(tag, line)| **tag >= EXTRA && !line.answered && line.dialled.elapsed() > EXTRA_LIMIT)
            .map(|(tag, line)| (*tag, line.call))
            .collect();
        for (tag, call) in late {
            if let Some(call) = call {
                self.endpoint.command(Command::Hangup(call))?;
            }
            self.over(tag);
        }
        Ok(())
    }
}

/// What a caller offers.
fn local(media: SocketAddr) -> LocalMedia {
    LocalMedia { codecs: vec![AudioCodec::Pcmu], ..LocalMedia::new(media) }
}

#[derive(Debug)]
struct Phone {
    socket: UdpSocket,
    remote: Option<SocketAddr>,
    heard: Vec<Arrival>,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    /// When the next packet is to be sent.
    due: Instant,
}

/// The audio of all calls, on one thread.
#[derive(Debug)]
struct Phones {
    shared: Arc<Vec<Mutex<Phone>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Phones {
    fn start(count: usize) -> Result<Self> {
        let began = Instant::now();
        let make = |index: usize| -> Result<Mutex<Phone>> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_nonblocking(true)?;
            setsockopt(&socket.as_fd(), ReceiveTimestampns, &true)?;
            let share = PTIME * u32::try_from(index)? / u32::try_from(count)?.max(1);
            let ssrc = fastrand::u32(..);
            let due = began + share;
            Ok(Mutex::new(Phone { socket, remote: None, heard: Vec::new(), sequence: 0, timestamp: 0, ssrc, due }))
        };
        let shared = Arc::new((0..count).map(make).collect::<Result<Vec<_>>>()?);
        let stop = Arc::new(AtomicBool::new(false));
        let (phones, stopped) = (shared.clone(), stop.clone());
        let thread = thread::Builder::new().name("callers".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for phone in phones.iter() {
                    let mut phone = lock(phone);
                    phone.hear();
                    phone.speak();
                }
                thread::sleep(BEAT);
            }
        })?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }
}

impl Drop for Phones {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Phone {
    /// Notes what has come.
    fn hear(&mut self) {
        let mut bytes = [0_u8; 2048];
        let mut control = nix::cmsg_space!(TimeSpec);
        loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let fd = self.socket.as_raw_fd();
            let Ok(message) = recvmsg::<SockaddrIn>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT) else {
                return;
            };
            let stamp = message.cmsgs().ok().and_then(|mut messages| {
                messages.find_map(|message| match message {
                    ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                    _ => None,
                })
            });
            let length = message.bytes;
            let Some(stamp) = stamp else { continue };
            let Some([_, kind, a, b, c, d, e, f]) = bytes.get(..length).and_then(|bytes| bytes.first_chunk()) else {
                continue;
            };
            // RFC 5761 section 4: these are RTCP, of a call whose RTCP port happens to be this one
            if (64..96).contains(&(kind & 0x7f)) {
                continue;
            }
            self.heard.push(Arrival {
                at_ns: u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX),
                sequence: u16::from_be_bytes([*a, *b]),
                timestamp: u32::from_be_bytes([*c, *d, *e, *f]),
            });
        }
    }

    /// Sends what is due.
    fn speak(&mut self) {
        let now = Instant::now();
        while self.due <= now {
            self.due += PTIME;
            let Some(remote) = self.remote else { continue };
            let mut packet = [0_u8; 12 + SAMPLES as usize];
            packet[0] = 0x80;
            packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
            packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
            packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
            // a saw tooth of 50 Hz, softly: something that is not silence
            for (index, byte) in packet[12..].iter_mut().enumerate() {
                *byte = 0xd0 | (index as u8 & 0x0f);
            }
            let _ = self.socket.send_to(&packet, remote);
            self.sequence = self.sequence.wrapping_add(1);
            self.timestamp = self.timestamp.wrapping_add(SAMPLES);
        }
    }
}

fn lock(phone: &Mutex<Phone>) -> std::sync::MutexGuard<'_, Phone> {
    phone.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How steadily packets came.
#[derive(Debug, Clone, Default)]
pub struct Steadiness {
    /// Packets that there should have been, by their sequence numbers.
    pub expected: u64,
    /// Of those, the ones that came no later than a packet's length after their time.
    pub on_time: u64,
    /// How late each that came was, milliseconds, against the earliest one of its call.
    pub late_ms: Vec<f64>,
    /// Time between one packet and the next of its call, milliseconds.
    pub apart_ms: Vec<f64>,
}

impl Steadiness {
    /// Adds one call's packets.
    pub fn add(&mut self, heard: &[Arrival]) {
        let Some(first) = heard.first() else { return };
        // by the packets' own clock: when each should have come, if the first was on time
        let offset_ms = |packet: &Arrival| {
            let media = f64::from(packet.timestamp.wrapping_sub(first.timestamp).cast_signed()) / 8.0;
            (packet.at_ns as f64 - first.at_ns as f64) / 1e6 - media
        };
        let earliest = heard.iter().map(offset_ms).fold(f64::INFINITY, f64::min);
        let place = |packet: &Arrival| i64::from(packet.sequence.wrapping_sub(first.sequence).cast_signed());
        // sequence numbers wrap once in 22 minutes; a bench's minute does not go round half of them
        let mut places: Vec<i64> = heard.iter().map(place).collect();
        places.sort_unstable();
        places.dedup();
        let span = places.last().zip(places.first()).map_or(0, |(last, first)| last - first + 1);
        self.expected += u64::try_from(span).unwrap_or(0);
        for packet in heard {
            let late = offset_ms(packet) - earliest;
            self.on_time += u64::from(late <= PTIME.as_secs_f64() * 1000.0);
            self.late_ms.push(late);
        }
        self.apart_ms.extend(heard.windows(2).map(|pair| (pair[1].at_ns as f64 - pair[0].at_ns as f64) / 1e6));
    }

    /// Share of the packets that came, and came on time.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.expected == 0 { 0.0 } else { self.on_time as f64 / self.expected as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u16, at_ms: u64) -> Arrival {
        Arrival {
            at_ns: at_ms * 1_000_000,
            sequence: number.wrapping_add(u16::MAX - 1),
            timestamp: u32::from(number) * SAMPLES,
        }
    }

    #[test]
    fn packets_that_are_late_or_missing_are_not_on_time() {
        let mut steady = Steadiness::default();
        // number 3 is 25 ms late, number 4 is missing
        steady.add(&[packet(0, 1000), packet(1, 1020), packet(2, 1045), packet(3, 1085), packet(5, 1100)]);
        assert_eq!((steady.expected, steady.on_time), (6, 4));
        assert_eq!(steady.late_ms, [0.0, 0.0, 5.0, 25.0, 0.0]);
        assert_eq!(steady.apart_ms, [20.0, 25.0, 40.0, 15.0]);
    }
}
