//! What one call costs the media thread, in machine instructions per tick of 5 ms.
//!
//! Time measured on a busy machine says little; instructions counted by valgrind's callgrind are the same on every run,
//! so that a change that makes every call dearer shows on any machine. `--check` counts and holds the figures to
//! [`Line::bound`]; without it the program runs natively and prints nanoseconds.
//!
//! Counted is what the media thread does for a call: taking packets, the tick, handing out packets and events. Not
//! counted are the system calls around it, and the far end, whose packets are made beforehand.
//!
//! With many calls a tick costs more than its instructions say: what a call needs has left the caches since its last tick.
//! `--cold` counts that on the same simulated machine: how many cache lines a tick of one of 500 calls fetches.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use engine::call::{CallControls, MediaCall, MediaCallConfig, MediaParams};
use engine::clock::Time;
use engine::codec::{Codec, Encoder, G722_PAYLOAD_TYPE, PCMU_PAYLOAD_TYPE};
use engine::rtp::srtp::{MAX_TRAILER_BYTES, SrtpSession};
use engine::{
    CallId, Generation, MasterKey, PACKET_SAMPLES, SrtpParams, SrtpSuite, TICK, TICK_SAMPLES, TelephoneEvent,
    VOICE_SAMPLES,
};

/// Calls on the thread: enough that their memory does not all stay in the first-level cache.
const CALLS: u32 = 20;
/// Calls whose memory is far more than a second-level cache holds.
const MANY_CALLS: u32 = 500;
/// Until the jitter buffer has found its depth.
const WARM_UP: Duration = Duration::from_secs(2);
/// What is counted.
const MEASURED: Duration = Duration::from_secs(8);
/// What is counted of many calls.
const MEASURED_COLD: Duration = Duration::from_millis(400);
/// The caches that `--cold` simulates: 32 KiB, and 1 MiB of second level, which valgrind takes for the last.
const CACHES: [&str; 3] = ["--cache-sim=yes", "--D1=32768,8,64", "--LL=1048576,16,64"];
const PTIME: Duration = Duration::from_millis(20);
const RTP_HEADER_BYTES: usize = 12;

#[derive(Debug, Parser)]
#[command(about = "What one call costs the media thread")]
struct Arguments {
    /// Count instructions with valgrind and fail if a call has become dearer than it may be
    #[arg(long)]
    check: bool,
    /// Count the cache lines that a tick of one of many calls fetches, with valgrind
    #[arg(long, conflicts_with = "check")]
    cold: bool,
    /// Calls at once
    #[arg(long, default_value_t = CALLS, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    calls: u32,
    /// Milliseconds that are measured, after two seconds that are not
    #[arg(long, default_value_t = MEASURED.as_millis() as u32, hide = true)]
    measured_ms: u32,
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
    /// A clear line, encrypted.
    Srtp,
    /// A clear line, G.722.
    G722,
    /// A clear line, Opus.
    Opus,
}

impl Line {
    const ALL: [Self; 5] = [Self::Clear, Self::Bad, Self::Srtp, Self::G722, Self::Opus];

    /// The most instructions that a tick of one call may take: what was counted when this was last set (2,346, 3,286,
    /// 5,671, 82,062 and 124,445, rustc 1.95; a limiter had come, and places for effects, detectors and bridges) and a quarter
    /// more, because compilers differ. Raise it only together with a reason for what is dearer. SRTP is counted as on a
    /// processor without instructions for SHA-1, which valgrind does not know.
    const fn bound(self) -> u64 {
        match self {
            Self::Clear => 2_900,
            Self::Bad => 4_100,
            Self::Srtp => 7_000,
            Self::G722 => 102_000,
            Self::Opus => 155_000,
        }
    }

    const fn codec(self) -> (Codec, u8) {
        match self {
            Self::Clear | Self::Bad | Self::Srtp => (Codec::Pcmu, PCMU_PAYLOAD_TYPE),
            Self::G722 => (Codec::G722, G722_PAYLOAD_TYPE),
            Self::Opus => (Codec::Opus, 111),
        }
    }

    /// The shortest packet that is sent while the agent speaks; Opus has no fixed length.
    const fn least_bytes(self) -> usize {
        match self {
            Self::Opus => RTP_HEADER_BYTES,
            _ => RTP_HEADER_BYTES + PACKET_SAMPLES,
        }
    }

    /// The keys of a call; both directions have the same one, which a real call must not.
    fn srtp(self) -> Option<SrtpParams> {
        let key = MasterKey::new([7; MasterKey::BYTES]);
        let suite = SrtpSuite::AesCm128HmacSha1_80;
        (self == Self::Srtp).then(|| SrtpParams { suite, local: key.clone(), remote: key })
    }

    const fn loss(self) -> f32 {
        match self {
            Self::Bad => 0.05,
            _ => 0.0,
        }
    }

    const fn most_late(self) -> Duration {
        match self {
            Self::Bad => Duration::from_millis(40),
            _ => Duration::from_millis(2),
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
    speech: Generation,
    /// Samples of it so far.
    said: u32,
}

impl Load {
    fn new(number: u32, line: Line, measured: Duration) -> Self {
        let port = 20_000 + 2 * u16::try_from(number).unwrap_or(0);
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (codec, payload_type) = line.codec();
        let (call, mut controls) = MediaCall::new(MediaCallConfig {
            id: CallId(number),
            params: MediaParams {
                telephone_event: Some(TelephoneEvent::new(101, codec.clock_rate_hz())),
                srtp: line.srtp(),
                ..MediaParams::new(source, codec, payload_type)
            },
            media_lost_after: Duration::from_secs(30),
            start: Time::ZERO,
            start_instant: Instant::now(),
            seed: u64::from(number) + 1,
            phase: (number % 4) as u8,
            jack: None,
            record: None,
        });
        let speech = controls.voice.start_response();
        let packets = far_end(line, u64::from(number), measured);
        let mut load = Self { call, controls, source, packets, arrived: 0, speech, said: 0 };
        load.speak(VOICE_SAMPLES / 2);
        load
    }

    /// The agent speaks all the time.
    fn speak(&mut self, samples: usize) {
        let next: Vec<f32> = (self.said..).take(samples).map(tone).collect();
        let _ = self.controls.voice.write(self.speech, &next);
        self.said += next.len() as u32;
    }
}

/// Something that is not silence: two partials of a voice.
fn tone(sample: u32) -> f32 {
    let seconds = sample as f32 / 8_000.0;
    0.2 * (seconds * 1_250.0).sin() + 0.1 * (seconds * 4_400.0).sin()
}

/// The packets of a caller who speaks all the time, in the order in which the network delivers them.
fn far_end(line: Line, seed: u64, measured: Duration) -> Vec<(Time, Vec<u8>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let count = ((WARM_UP + measured).as_millis() / PTIME.as_millis()) as u32;
    let (codec, payload_type) = line.codec();
    let mut encoder = Encoder::new(codec);
    let mut srtp = line.srtp().as_ref().map(SrtpSession::new);
    let mut packets: Vec<(Time, Vec<u8>)> = (0..count)
        .filter_map(|number| {
            let late = line.most_late().mul_f32(random.f32());
            if random.f32() < line.loss() {
                return None;
            }
            let mut packet = vec![0x80, payload_type];
            packet.extend((number as u16).to_be_bytes());
            packet.extend((number * codec.clock_rate_hz() / 50).to_be_bytes());
            packet.extend((seed as u32 + 7).to_be_bytes());
            packet.resize(RTP_HEADER_BYTES + PACKET_SAMPLES + MAX_TRAILER_BYTES, 0);
            let samples: Vec<f32> =
                (0..PACKET_SAMPLES as u32).map(|i| tone(number * PACKET_SAMPLES as u32 + i)).collect();
            let payload = encoder.encode(&samples, &mut packet[RTP_HEADER_BYTES..][..PACKET_SAMPLES]);
            let plain = RTP_HEADER_BYTES + payload;
            let length = srtp.as_mut().map_or(plain, |srtp| srtp.protect_rtp(&mut packet, plain));
            packet.truncate(length);
            Some((Time::ZERO + PTIME * number + late, packet))
        })
        .collect();
    packets.sort_by_key(|(arrival, _)| *arrival);
    packets
}

/// One pass of the media thread over all calls, first what came and then the ticks, as it does; the bytes it would send.
fn pass(loads: &mut [Load], now: Time) -> usize {
    for load in loads.iter_mut() {
        while let Some((arrival, packet)) = load.packets.get_mut(load.arrived).filter(|(arrival, _)| *arrival <= now) {
            load.call.on_packet(*arrival, load.source, packet);
            load.arrived += 1;
        }
    }
    let mut sent = 0;
    for load in loads {
        load.call.tick(now);
        while let Some(packet) = load.call.poll_transmit() {
            sent += packet.bytes.len();
        }
        while load.call.poll_event().is_some() {}
        while load.call.poll_retired().is_some() {}
        assert!(!(load.call.looks_around() && load.call.is_abandoned()), "its controls are here");
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
const fn call_ticks(calls: u32, measured: Duration) -> u64 {
    (measured.as_nanos() / TICK.as_nanos()) as u64 * calls as u64
}

/// Runs the calls; how long the counted passes took.
fn run(line: Line, calls: u32, measured: Duration) -> anyhow::Result<Duration> {
    let mut loads: Vec<Load> = (0..calls).map(|number| Load::new(number, line, measured)).collect();
    let mut now = Time::ZERO;
    let (mut sent, mut took) = (0, Duration::ZERO);
    while now < Time::ZERO + WARM_UP + measured {
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
            load.speak(TICK_SAMPLES);
        }
        now += TICK;
    }
    // a call that did nothing would be cheap
    let expected = (measured.as_millis() / PTIME.as_millis()) as usize * line.least_bytes();
    ensure!(sent >= expected * calls as usize, "the calls sent {sent} bytes, fewer than {expected} each");
    Ok(took)
}

/// What callgrind counts in the counted passes, one figure an event, and over how many ticks of a call.
fn collect(line: Line, calls: u32, measured: Duration, options: &[&str]) -> anyhow::Result<(Vec<u64>, u64)> {
    let name = line.to_possible_value().context("a line without a name")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .args(options)
        .arg(std::env::current_exe()?)
        .args(["--line", name.get_name(), "--calls", &calls.to_string()])
        .args(["--measured-ms", &measured.as_millis().to_string()])
        .output()
        .context("valgrind cannot be run; the fix: apt-get install valgrind")?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed:\n{report}");
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, counts)| counts.split_whitespace().map(|count| count.parse().ok()).collect())
        .with_context(|| format!("valgrind reported no count:\n{report}"))?;
    Ok((collected, call_ticks(calls, measured)))
}

/// Instructions that a tick of one call takes, by callgrind.
fn count(line: Line) -> anyhow::Result<u64> {
    let (collected, ticks) = collect(line, CALLS, MEASURED, &[])?;
    Ok(collected.first().context("valgrind counted no instructions")? / ticks)
}

/// Cache lines that a tick of one of many calls fetches from beyond the second level: to read, and to write.
fn count_cold(line: Line) -> anyhow::Result<[f64; 2]> {
    let (collected, ticks) = collect(line, MANY_CALLS, MEASURED_COLD, &CACHES)?;
    // Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw
    let &[_, _, _, _, _, _, _, read, written] = &collected[..] else {
        anyhow::bail!("valgrind counted {} events, and nine were expected", collected.len());
    };
    Ok([read, written].map(|lines| lines as f64 / ticks as f64))
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
        } else if arguments.cold {
            let [read, written] = count_cold(line)?;
            println!(
                "{line:?} line, {MANY_CALLS} calls: {read:.1} + {written:.1} cache lines fetched per call and tick"
            );
        } else {
            let measured = Duration::from_millis(arguments.measured_ms.into());
            let nanos = run(line, arguments.calls, measured)?.as_nanos();
            let nanos = nanos / u128::from(call_ticks(arguments.calls, measured));
            println!("{line:?} line, {} calls: {nanos} ns per call and tick", arguments.calls);
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
