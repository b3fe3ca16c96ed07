//! Callers who say what is on a tape: calls of this project's own user agent, RTP over plain sockets on loopback. When
//! each sample left is known, so is the time from a word's end to its text.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use engine::Codec;
use signaling::net::{Command, Endpoint, EndpointConfig};
use signaling::sdp::{self, AudioCodec, LocalMedia};
use signaling::{CallId, Dial, Event, UserAgentConfig};

use super::material::{RATE, Tape, level_db};

/// Audio of one packet.
const PTIME: Duration = Duration::from_millis(20);
const SAMPLES: usize = RATE / 50;
/// How often the sockets are looked at.
const BEAT: Duration = Duration::from_millis(1);
/// How long all calls together may take to come up.
const UP: Duration = Duration::from_secs(60);
/// Delay of the echo that a line gives back, in packets.
const ECHO_PACKETS: usize = 4;

/// One caller's end.
#[derive(Debug)]
pub(crate) struct Line {
    socket: UdpSocket,
    remote: Option<SocketAddr>,
    tape: Tape,
    /// What comes is sent back, times this.
    echo: f32,
    coming_back: VecDeque<f32>,
    next: usize,
    due: Instant,
    sequence: u16,
    ssrc: u32,
    /// When the first packet of the tape left.
    pub(crate) began: Option<Instant>,
    /// What was heard of the agent: when, and how loud.
    pub(crate) heard: Vec<(Instant, f32)>,
}

impl Line {
    /// When this sample of the tape had left.
    pub(crate) fn sent_at(&self, sample: usize) -> Option<Instant> {
        // with its packet
        let packets = (sample / SAMPLES) as u32;
        Some(self.began? + PTIME * packets)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.next >= self.tape.samples.len()
    }

    fn hear(&mut self) {
        let mut bytes = [0_u8; 2048];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let packet = bytes.get(..length).unwrap_or_default();
            // RTP of PCMU; RTCP has other types (RFC 5761 section 4)
            let Some((&[_, 0 | 0x80, ..], payload)) = packet.split_at_checked(12) else { continue };
            let mut samples = vec![0.0; payload.len()];
            Codec::Pcmu.decode(payload, &mut samples);
            self.heard.push((Instant::now(), level_db(&samples)));
            if self.echo > 0.0 {
                self.coming_back.extend(samples.iter().map(|s| s * self.echo));
            }
        }
    }

    fn speak(&mut self) {
        let now = Instant::now();
        while self.due <= now {
            self.due += PTIME;
            let Some(remote) = self.remote else { continue };
            self.began.get_or_insert(now);
            let mut samples = [0.0; SAMPLES];
            let end = (self.next + SAMPLES).min(self.tape.samples.len());
            for (out, sample) in samples.iter_mut().zip(self.tape.samples.get(self.next..end).unwrap_or_default()) {
                *out = *sample;
            }
            if self.coming_back.len() > ECHO_PACKETS * SAMPLES {
                for (out, echo) in samples.iter_mut().zip(self.coming_back.drain(..SAMPLES)) {
                    *out += echo;
                }
            }
            let mut packet = [0_u8; 12 + SAMPLES];
            packet[0] = 0x80;
            packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
            packet[4..8].copy_from_slice(&(self.next as u32).to_be_bytes());
            packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
            Codec::Pcmu.encode(&samples, &mut packet[12..]);
            let _ = self.socket.send_to(&packet, remote);
            self.sequence = self.sequence.wrapping_add(1);
            self.next += SAMPLES;
        }
    }
}

/// All callers.
#[derive(Debug)]
pub(crate) struct Lines {
    endpoint: Endpoint,
    calls: Vec<CallId>,
    lines: Arc<Vec<Mutex<Line>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Calls the daemon once for each tape (with the share of what comes that is sent back), and waits until all are up.
    pub(crate) fn call(target: SocketAddr, tapes: Vec<(Tape, f32)>) -> Result<Self> {
        let bind: SocketAddr = "127.0.0.1:0".parse()?;
        let endpoint = Endpoint::start(EndpointConfig::new(bind, UserAgentConfig::new(bind)), || {})?;
        let count = tapes.len();
        let make = |(index, (tape, echo)): (usize, (Tape, f32))| -> Result<Mutex<Line>> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_nonblocking(true)?;
            Ok(Mutex::new(Line {
                socket,
                remote: None,
                tape,
                echo,
                coming_back: VecDeque::new(),
                next: 0,
                due: Instant::now() + PTIME * index as u32 / count as u32,
                sequence: 0,
                ssrc: fastrand::u32(..),
                began: None,
                heard: Vec::new(),
            }))
        };
        let lines = Arc::new(tapes.into_iter().enumerate().map(make).collect::<Result<Vec<_>>>()?);
        let stop = Arc::new(AtomicBool::new(false));
        let (all, stopped) = (lines.clone(), stop.clone());
        let thread = thread::Builder::new().name("lines".into()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for line in all.iter() {
                    let mut line = lock(line);
                    line.hear();
                    line.speak();
                }
                thread::sleep(BEAT);
            }
        })?;
        let mut lines = Self { endpoint, calls: Vec::new(), lines, stop, thread: Some(thread) };
        for index in 0..count {
            // one after the other, so that the daemon's calls are in the order of the tapes
            lines.dial(index, target)?;
        }
        Ok(lines)
    }

    /// The caller's end of a call.
    pub(crate) fn line(&self, index: usize) -> MutexGuard<'_, Line> {
        lock(&self.lines[index])
    }

    pub(crate) fn are_over(&self) -> bool {
        self.lines.iter().all(|line| lock(line).is_over())
    }

    fn dial(&mut self, index: usize, target: SocketAddr) -> Result<()> {
        let media = local(self.line(index).socket.local_addr()?);
        let dial = Dial {
            account: None,
            to: format!("sip:agent@{target}"),
            sdp: sdp::offer(&media),
            display_name: None,
            headers: Vec::new(),
            privacy: false,
        };
        self.endpoint.command(Command::Dial { tag: index as u64, dial })?;
        let began = Instant::now();
        loop {
            ensure!(began.elapsed() < UP, "call {index} was not answered");
            match self.endpoint.recv_timeout(Duration::from_millis(100)) {
                Some(Event::Dialing { call, .. }) => self.calls.push(call),
                Some(Event::Answered { sdp: answer, .. }) => {
                    let plan = sdp::accept(&answer.context("an answer without a description")?, &media)?;
                    let mut line = self.line(index);
                    line.due = line.due.max(Instant::now());
                    line.remote = Some(plan.remote);
                    return Ok(());
                }
                Some(Event::Ended { reason, .. }) => anyhow::bail!("call {index} was refused: {reason}"),
                Some(Event::DialFailed { error, .. }) => anyhow::bail!("call {index}: {error}"),
                _ => {}
            }
        }
    }

    /// Ends all calls.
    pub(crate) fn hang_up(self) -> Result<()> {
        for call in &self.calls {
            self.endpoint.command(Command::Hangup(*call))?;
        }
        let mut left = self.calls.len();
        let began = Instant::now();
        while left > 0 && began.elapsed() < Duration::from_secs(5) {
            if let Some(Event::Ended { .. }) = self.endpoint.recv_timeout(Duration::from_millis(100)) {
                left -= 1;
            }
        }
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn local(media: SocketAddr) -> LocalMedia {
    LocalMedia { codecs: vec![AudioCodec::Pcmu], ..LocalMedia::new(media) }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}
