//! What one call costs the media thread, in machine instructions per tick of 5 ms.
//!
//! Time measured on a busy machine says little; instructions counted by valgrind's callgrind are the same on every run,
//! so that a change that makes every call dearer shows on any machine. `--check` counts and holds the figures to
//! [`Line::bound`]; without it the program runs natively and prints nanoseconds.
//!
//! Counted is what the media thread does for a call: taking packets, the tick, handing out packets and events. Not
//! counted are the system calls around it, and the far end, whose packets are made beforehand.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use engine::call::{CallControls, MediaCall, MediaCallConfig, MediaParams};
use engine::clock::Time;
use engine::codec::{Codec, PCMU_PAYLOAD_TYPE};
use engine::{CallId, PACKET_SAMPLES, TICK, TelephoneEvent};

/// Calls on the thread: enough that their memory does not all stay in the first-level cache.
const CALLS: u32 = 20;
/// Until the jitter buffer has found its depth.
const WARM_UP: Duration = Duration::from_secs(2);
/// What is counted.
const MEASURED: Duration = Duration::from_secs(8);
const PTIME: Duration = Duration::from_millis(20);
const RTP_HEADER_BYTES: usize = 12;

#[derive(Debug, Parser)]
#[command(about = "What one call costs the media thread")]
struct Arguments {
    /// Count instructions with valgrind and fail if a call has become dearer than it may be
    #[arg(long)]
    check: bool,
    /// Only this kind of line
    #[arg(long, value_enum)]
    line: Option<Line>,
}

/// The network between a caller and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Line {
    /// Nothing is lost, and packets are within 2 ms of their time.
    Clear,
    /// One packet in twenty is lost and the others are up to 40 ms late, some of them overtaken.
    Bad,
}

impl Line {
    const ALL: [Self; 2] = [Self::Clear, Self::Bad];

    /// The most instructions that a tick of one call may take: what was counted when this was last set (6,331 and
    /// 6,221, rustc 1.95) and a quarter more, because compilers differ. Raise it only together with a reason for what is dearer.
    const fn bound(self) -> u64 {
        match self {
            Self::Clear => 8_000,
            Self::Bad => 8_000,
        }
    }

    const fn loss(self) -> f32 {
        match self {
            Self::Clear => 0.0,
            Self::Bad => 0.05,
        }
    }

    const fn most_late(self) -> Duration {
        match self {
            Self::Clear => Duration::from_millis(2),
            Self::Bad => Duration::from_millis(40),
        }
    }
}

/// A call, and what the network will bring it.
struct Load {
    call: MediaCall,
    controls: CallControls,
    source: SocketAddr,
    /// In the order of arrival.
    packets: Vec<(Time, Vec<u8>)>,
    /// How many of them have arrived.
    arrived: usize,
}

impl Load {
    fn new(number: u32, line: Line) -> Self {
        let port = 20_000 + 2 * u16::try_from(number).unwrap_or(0);
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (call, mut controls) = MediaCall::new(MediaCallConfig {
            id: CallId(number),
            params: MediaParams {
                telephone_event: Some(TelephoneEvent::new(101, 8_000)),
                ..MediaParams::new(source, Codec::Pcmu, PCMU_PAYLOAD_TYPE)
            },
            media_lost_after: Duration::from_secs(30),
            start: Time::ZERO,
            start_instant: Instant::now(),
            seed: u64::from(number) + 1,
            phase: (number % 4) as u8,
            jack: None,
            record: None,
        });
        // the agent speaks all the time
        let generation = controls.voice.start_response();
        let seconds = (WARM_UP + MEASURED).as_secs_f32();
        let voice: Vec<f32> = (0..(seconds * 8_000.0) as u32).map(tone).collect();
        let _ = controls.voice.write(generation, &voice);
        let packets = far_end(line, u64::from(number));
        Self { call, controls, source, packets, arrived: 0 }
    }
}

/// Something that is not silence: two partials of a voice.
fn tone(sample: u32) -> f32 {
    let seconds = sample as f32 / 8_000.0;
    0.2 * (seconds * 1_250.0).sin() + 0.1 * (seconds * 4_400.0).sin()
}

/// The packets of a caller who speaks all the time, in the order in which the network delivers them.
fn far_end(line: Line, seed: u64) -> Vec<(Time, Vec<u8>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let count = ((WARM_UP + MEASURED).as_millis() / PTIME.as_millis()) as u32;
    let mut packets: Vec<(Time, Vec<u8>)> = (0..count)
        .filter_map(|number| {
            let late = line.most_late().mul_f32(random.f32());
            if random.f32() < line.loss() {
                return None;
            }
            let mut packet = vec![0x80, PCMU_PAYLOAD_TYPE];
            packet.extend((number as u16).to_be_bytes());
            packet.extend((number * PACKET_SAMPLES as u32).to_be_bytes());
            packet.extend((seed as u32 + 7).to_be_bytes());
            packet.resize(RTP_HEADER_BYTES + PACKET_SAMPLES, 0);
            let samples: Vec<f32> =
                (0..PACKET_SAMPLES as u32).map(|i| tone(number * PACKET_SAMPLES as u32 + i)).collect();
            Codec::Pcmu.encode(&samples, &mut packet[RTP_HEADER_BYTES..]);
            Some((Time::ZERO + PTIME * number + late, packet))
        })
        .collect();
    packets.sort_by_key(|(arrival, _)| *arrival);
    packets
}

/// One pass of the media thread over all calls; the bytes it would send.
fn pass(loads: &mut [Load], now: Time) -> usize {
    let mut sent = 0;
    for load in loads {
        while let Some((arrival, packet)) = load.packets.get_mut(load.arrived).filter(|(arrival, _)| *arrival <= now) {
            load.call.on_packet(*arrival, load.source, packet);
            load.arrived += 1;
        }
        load.call.tick(now);
        while let Some(packet) = load.call.poll_transmit() {
            sent += packet.bytes.len();
        }
        while load.call.poll_event().is_some() {}
    }
    sent
}

/// A pass that counts. Not inlined: callgrind counts from its entry to its return, and finds it by [`COUNTED`].
#[inline(never)]
fn counted_pass(loads: &mut [Load], now: Time) -> usize {
    pass(loads, now)
}

/// How callgrind is told of [`counted_pass`].
const COUNTED: &str = "*counted_pass*";

/// Ticks that are counted, over all calls.
const fn call_ticks() -> u64 {
    (MEASURED.as_nanos() / TICK.as_nanos()) as u64 * CALLS as u64
}

/// Runs the calls; how long the counted passes took.
fn run(line: Line) -> anyhow::Result<Duration> {
    let mut loads: Vec<Load> = (0..CALLS).map(|number| Load::new(number, line)).collect();
    let mut now = Time::ZERO;
    let (mut sent, mut took) = (0, Duration::ZERO);
    while now < Time::ZERO + WARM_UP + MEASURED {
        if now < Time::ZERO + WARM_UP {
            pass(&mut loads, now);
        } else {
            let begun = Instant::now();
            sent += counted_pass(&mut loads, now);
            took += begun.elapsed();
        }
        for load in &mut loads {
            // the ears listen, so that their ring is never full
            let heard = load.controls.ears.samples.slots();
            if let Ok(chunk) = load.controls.ears.samples.read_chunk(heard) {
                chunk.commit_all();
            }
        }
        now += TICK;
    }
    // a call that did nothing would be cheap
    let expected = (MEASURED.as_millis() / PTIME.as_millis()) as usize * (RTP_HEADER_BYTES + PACKET_SAMPLES);
    ensure!(sent >= expected * CALLS as usize, "the calls sent {sent} bytes, fewer than {expected} each");
    Ok(took)
}

/// Instructions that a tick of one call takes, by callgrind.
fn count(line: Line) -> anyhow::Result<u64> {
    let name = line.to_possible_value().context("a line without a name")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(std::env::current_exe()?)
        .args(["--line", name.get_name()])
        .output()
        .context("valgrind cannot be run; the fix: apt-get install valgrind")?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed:\n{report}");
    let collected: u64 = report
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.trim().parse().ok())
        .with_context(|| format!("valgrind reported no count:\n{report}"))?;
    Ok(collected / call_ticks())
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut good = true;
    for line in Line::ALL.into_iter().filter(|line| arguments.line.is_none_or(|wanted| wanted == *line)) {
        if arguments.check {
            let (counted, bound) = (count(line)?, line.bound());
            good &= counted <= bound;
            let verdict = if counted <= bound { "good" } else { "TOO DEAR" };
            println!("{line:?} line: {counted} instructions per call and tick, at most {bound}: {verdict}");
        } else {
            let nanos = run(line)?.as_nanos() / u128::from(call_ticks());
            println!("{line:?} line: {nanos} ns per call and tick");
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
