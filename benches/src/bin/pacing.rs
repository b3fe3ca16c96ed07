//! How evenly packets leave: the times between the packets of a call, by the kernel's receive timestamps on loopback.
//!
//! The goal is that 99.9 % of the times are within 1 ms of 20 ms. Beside the engine, in the same run and on the same
//! machine, two threads that do nothing but send: one that sleeps to an absolute time at the usual priority, and one that
//! sleeps for 20 ms after each packet, as simple programs do.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use engine::call::MediaParams;
use engine::{CallHandle, CallId, CallSetup, Codec, Engine, EngineConfig, Generation};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use serde::Serialize;

const PTIME: Duration = Duration::from_millis(20);
/// What counts as even.
const EVEN_MS: f64 = 1.0;

#[derive(Debug, Parser)]
#[command(about = "How evenly packets leave")]
struct Arguments {
    /// Calls at once
    #[arg(long, default_value_t = 50)]
    calls: u32,
    /// How long
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How far the times between packets are from 20 ms, in ms.
#[derive(Debug, Serialize)]
struct Figures {
    sender: &'static str,
    intervals: usize,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    within_1_ms: f64,
}

impl Figures {
    fn of(sender: &'static str, mut off_ms: Vec<f64>) -> Result<Self> {
        off_ms.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (share * (off_ms.len().saturating_sub(1)) as f64).ceil() as usize;
            off_ms.get(index).copied().context("no packets came")
        };
        let within = off_ms.partition_point(|off| *off <= EVEN_MS);
        Ok(Self {
            sender,
            intervals: off_ms.len(),
            p50_ms: at(0.5)?,
            p99_ms: at(0.99)?,
            p999_ms: at(0.999)?,
            max_ms: at(1.0)?,
            within_1_ms: within as f64 / off_ms.len() as f64,
        })
    }
}

/// A far end that notes when packets came.
struct FarEnd {
    socket: UdpSocket,
    last: Option<f64>,
    off_ms: Vec<f64>,
}

impl FarEnd {
    fn new() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self { socket, last: None, off_ms: Vec::new() })
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Takes what is there. RTCP reports, which are not paced, go to another port.
    fn drain(&mut self) {
        let mut bytes = [0; 2_048];
        let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
        loop {
            let mut slices = [std::io::IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let Ok(message) = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags)
            else {
                return;
            };
            let Ok(stamps) = message.cmsgs() else { continue };
            for stamp in stamps {
                if let ControlMessageOwned::ScmTimestampns(time) = stamp {
                    let now = time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6;
                    if let Some(last) = self.last.replace(now) {
                        self.off_ms.push((now - last - PTIME.as_secs_f64() * 1e3).abs());
                    }
                }
            }
        }
    }
}

/// The calls of an engine, which all speak.
fn by_engine(calls: u32, time: Duration) -> Result<Vec<f64>> {
    let mut engine = Engine::start(EngineConfig {
        bind_ip: Ipv4Addr::LOCALHOST.into(),
        rtp_ports: 26_000..=27_999,
        lock_memory: false,
        ..EngineConfig::default()
    })?;
    eprintln!("engine: {:?}", engine.report());
    let speech: Vec<f32> = (0..1_600).map(|n| 0.3 * (n as f32 * 0.3).sin()).collect();
    let mut ends: Vec<(FarEnd, CallHandle, Generation)> = Vec::new();
    for number in 0..calls {
        let far_end = FarEnd::new()?;
        let media = MediaParams::new(far_end.address()?, Codec::Pcmu, 0);
        let (id, label, port) = (CallId(number), format!("c{number}"), engine.reserve_port()?);
        let mut handle =
            engine.add_call(CallSetup { id, label, far_end: String::new(), port, media, record_to: None })?;
        let generation = handle.voice().start_response();
        ends.push((far_end, handle, generation));
    }
    let begun = Instant::now();
    while begun.elapsed() < time {
        for (far_end, handle, generation) in &mut ends {
            let _ = handle.voice().write(*generation, &speech); // 200 ms more, as long as there is room
            far_end.drain();
        }
        std::thread::sleep(Duration::from_millis(100));
        while engine.poll_event().is_some() {}
    }
    Ok(ends.into_iter().flat_map(|(far_end, ..)| far_end.off_ms).collect())
}

/// One thread that does nothing but send.
fn by_sleep(absolute: bool, time: Duration) -> Result<Vec<f64>> {
    let mut far_end = FarEnd::new()?;
    let to = far_end.address()?;
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let begun = Instant::now();
        let mut due = begun;
        while begun.elapsed() < time {
            due += PTIME;
            std::thread::sleep(if absolute { due.saturating_duration_since(Instant::now()) } else { PTIME });
            socket.send_to(&[0; 172], to)?;
        }
        Ok(())
    });
    while !sender.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
        far_end.drain();
    }
    far_end.drain();
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    Ok(far_end.off_ms)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    let rows = [
        Figures::of("engine", by_engine(arguments.calls, time)?)?,
        Figures::of("sleep to a time", by_sleep(true, time)?)?,
        Figures::of("sleep for 20 ms", by_sleep(false, time)?)?,
    ];
    println!("| sender | intervals | p50 | p99 | p99.9 | max | within 1 ms |\n|---|---|---|---|---|---|---|");
    for row in &rows {
        println!(
            "| {} | {} | {:.3} ms | {:.3} ms | {:.3} ms | {:.3} ms | {:.2} % |",
            row.sender,
            row.intervals,
            row.p50_ms,
            row.p99_ms,
            row.p999_ms,
            row.max_ms,
            row.within_1_ms * 100.0
        );
    }
    if let Some(path) = arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
    }
    Ok(())
}
