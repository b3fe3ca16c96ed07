//! Everybody who calls: a process of its own on the other cores, which sends every call's packets, of real speech-like
//! sound and encrypted if asked for, and throws away what comes back.
//!
//! It is this program again. On its standard output stand the ports that it has bound; a line on its standard input names
//! the ports to send to, one each, and whether to encrypt. When the input ends, so does it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, TryRecvError};
use std::time::Instant;

use anyhow::{Context, Result};
use engine::codec::{Codec, PCMU_PAYLOAD_TYPE};
use engine::rtp::packet::Packet;
use engine::rtp::srtp::{MAX_TRAILER_BYTES, SrtpSession};
use engine::{MasterKey, PACKET_SAMPLES, SrtpParams, SrtpSuite, TICK};
use mr_sip_benches::cpu;

use crate::{PHASES, RTP_BYTES, phase_of, tone};

/// Below the thread that is measured.
const PRIORITY: u8 = 50;
/// Packets of sound that are sent in turn: one second.
const SOUNDS: usize = 50;

/// The far ends, as the bench holds them.
pub(crate) struct FarEnd {
    child: Child,
    input: ChildStdin,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl FarEnd {
    /// Starts the process for so many calls.
    pub(crate) fn start(calls: usize, core: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--calls", &calls.to_string(), "--far-end-beside", &core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the far end cannot be started")?;
        let input = child.stdin.take().context("no input")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let addresses = addresses(&line)?;
        Ok(Self { child, input, addresses })
    }

    /// Sends to these from now on, as new streams.
    pub(crate) fn send_to(&mut self, addresses: &[SocketAddr], srtp: bool) -> Result<()> {
        let ports: Vec<String> = addresses.iter().map(|a| a.port().to_string()).collect();
        writeln!(self.input, "{} {}", if srtp { "srtp" } else { "rtp" }, ports.join(" "))?;
        self.input.flush().context("the far end is gone")
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn addresses(ports: &str) -> Result<Vec<SocketAddr>> {
    ports.split_whitespace().map(|port| Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse::<u16>()?)))).collect()
}

/// The encryption of a call; `ours` is the engine's side.
pub(crate) fn keys(call: usize, ours: bool) -> SrtpParams {
    let key = |end: u8| {
        let mut bytes = [end; MasterKey::BYTES];
        bytes[..8].copy_from_slice(&(call as u64).to_le_bytes());
        MasterKey::new(bytes)
    };
    let (local, remote) = if ours { (key(1), key(2)) } else { (key(2), key(1)) };
    SrtpParams { suite: SrtpSuite::AesCm128HmacSha1_80, local, remote }
}

struct Stream {
    to: SocketAddr,
    srtp: Option<SrtpSession>,
    ssrc: u32,
    number: u32,
}

/// The process.
pub(crate) fn run(calls: usize, core: usize) -> Result<()> {
    cpu::pin_to(&cpu::all_but(core))?;
    cpu::become_real_time(PRIORITY);
    let sockets = (0..calls).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<Vec<_>, _>>()?;
    let mut ports = String::new();
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        ports += &format!("{} ", socket.local_addr()?.port());
    }
    println!("{ports}");
    let (lines_in, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = lines_in.send(line);
        }
    });
    let sounds: Vec<[u8; PACKET_SAMPLES]> = (0..SOUNDS).map(sound).collect();
    let mut streams: Vec<Stream> = Vec::new();
    let (mut tick, began) = (0, Instant::now());
    let mut sink = [0; 2_048];
    for generation in 1.. {
        loop {
            match lines.try_recv() {
                Ok(line) => {
                    let (kind, ports) = line.split_once(' ').context("no ports")?;
                    streams = addresses(ports)?
                        .into_iter()
                        .enumerate()
                        .map(|(n, to)| Stream {
                            to,
                            srtp: (kind == "srtp").then(|| SrtpSession::new(&keys(n, false))),
                            ssrc: generation << 16 | n as u32,
                            number: 0,
                        })
                        .collect();
                    break;
                }
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {}
            }
            for (n, (stream, socket)) in streams.iter_mut().zip(&sockets).enumerate() {
                if phase_of(n) == tick as usize % PHASES {
                    stream.send(socket, &sounds);
                    while socket.recv(&mut sink).is_ok() {}
                }
            }
            tick += 1;
            std::thread::sleep((began + TICK * tick).saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}

fn sound(number: usize) -> [u8; PACKET_SAMPLES] {
    let samples: Vec<f32> = (0..PACKET_SAMPLES).map(|n| tone(number * PACKET_SAMPLES + n)).collect();
    let mut bytes = [0; PACKET_SAMPLES];
    Codec::Pcmu.encode(&samples, &mut bytes);
    bytes
}

impl Stream {
    fn send(&mut self, socket: &UdpSocket, sounds: &[[u8; PACKET_SAMPLES]]) {
        let packet = Packet {
            payload_type: PCMU_PAYLOAD_TYPE,
            marker: self.number == 0,
            sequence: (self.number & 0xFFFF) as u16,
            timestamp: self.number.wrapping_mul(PACKET_SAMPLES as u32),
            ssrc: self.ssrc,
            payload: &sounds[self.number as usize % sounds.len()],
        };
        let mut bytes = [0; RTP_BYTES + MAX_TRAILER_BYTES];
        let mut length = packet.write(&mut bytes);
        if let Some(srtp) = &mut self.srtp {
            length = srtp.protect_rtp(&mut bytes, length);
        }
        let _ = socket.send_to(&bytes[..length], self.to); // a port that is closed between two phases
        self.number = self.number.wrapping_add(1);
    }
}
