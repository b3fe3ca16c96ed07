//! How long a sample takes from the caller's packet to the packet that answers it, directly and through JACK.
//!
//! A far end on loopback sends RTP with an impulse every 300 ms and looks for it in what comes back. In
//! between is the real engine: its sockets, its media thread, and (in JACK mode) a real `jackd` on the dummy driver with
//! the call's `caller` port patched to its `to_phone`. Without JACK the program itself feeds what the ears hear to the
//! agent's voice.
//!
//! Times are those of a *stream*: a packet is sent when its first sample is due, so sample `p` of a packet sent at `t` counts
//! as sent at `t + p/8 ms`, and likewise received. Stages:
//! - `in`: from the far end's packet to the tick in which the sample comes out of the jitter buffer (seen by the ears);
//! - `jack` or `echo`: from there until the sample is handed to the next packet;
//! - `out`: filling the packet, 15 ms by definition (a packet of four 5 ms ticks is sent at the last of them).
//!
//! Then the agent alone ([`agent`]): from its samples to the wire, and from its halt to the last packet with speech.

// The servers are started as the engine's own tests start them.
mod agent;
#[path = "../../../../engine/tests/support/jackd.rs"]
#[allow(dead_code, reason = "tests also kill their servers and start them again")]
mod jackd;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use engine::codec::{Codec, PCMU_PAYLOAD_TYPE};
use engine::rtp::packet::Packet;
use engine::{
    CallHandle, CallId, CallSetup, EarTap, Engine, EngineConfig, JackConfig, JackState, MediaEvent, MediaParams,
    PACKET_SAMPLES, TICK_SAMPLES, WriteResult,
};
use jackd::Jackd;
use mr_sip_benches::cpu::become_real_time;
use mr_sip_benches::histogram::{self, Row, Summary};
use serde::Serialize;

const PTIME: Duration = Duration::from_millis(20);
const SAMPLE_MS: f64 = 0.125;
/// Packets from one impulse to the next: longer than any delay that is measured.
const IMPULSE_PACKETS: u64 = 15;
/// The impulse, and what counts as one: the filters on the way take a little of it, comfort noise is a thousandth.
const IMPULSE: f32 = 0.9;
const FOUND: f32 = 0.3;
/// Until the jitter buffer and the crossings have found their depth.
const WARM_UP: Duration = Duration::from_secs(3);
/// From an exchange to its packet: the packet leaves with the last of its four ticks.
const OUT_MS: f64 = 15.0;
/// What the direct echo keeps in the voice: a packet, and a tick for the feeding thread to be late.
const ECHO_SAMPLES: usize = PACKET_SAMPLES + 2 * TICK_SAMPLES;
/// How often the far end looks whether it is to stop.
const FAR_END_TIMEOUT: Duration = Duration::from_millis(100);
/// Priority of the far end's threads, if the system gives it: what is measured is the engine, not they.
const FAR_END_PRIORITY: u8 = 50;

#[derive(Debug, Parser)]
#[command(about = "Latency from RTP in to RTP out, directly and through JACK")]
struct Arguments {
    /// Seconds to measure each way
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Five seconds each way
    #[arg(long)]
    quick: bool,
    /// Only this way: direct, 8000/80, 48000/128, 48000/256 or any other RATE/PERIOD
    #[arg(long)]
    only: Vec<String>,
    /// Write the figures here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw the distributions here, as SVG
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// A way through the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Jack { rate_hz: u32, period: u32 },
}

impl Way {
    const USUAL: [Self; 4] = [
        Self::Direct,
        Self::Jack { rate_hz: 8_000, period: 80 },
        Self::Jack { rate_hz: 48_000, period: 128 },
        Self::Jack { rate_hz: 48_000, period: 256 },
    ];

    fn parse(text: &str) -> Result<Self> {
        if text == "direct" {
            return Ok(Self::Direct);
        }
        let (rate, period) = text.split_once('/').context("a way is `direct` or RATE/PERIOD")?;
        Ok(Self::Jack { rate_hz: rate.parse()?, period: period.parse()? })
    }

    fn name(self) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::Jack { rate_hz, period } => format!("jack {rate_hz}/{period}"),
        }
    }
}

/// An impulse on its way: times of its sample in each stream.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    at: Instant,
    /// Milliseconds to add: the sample's place in its block.
    place_ms: f64,
}

impl Sighting {
    fn since(self, earlier: Self) -> f64 {
        (self.at.saturating_duration_since(earlier.at).as_secs_f64()
            - earlier.at.saturating_duration_since(self.at).as_secs_f64())
            * 1e3
            + self.place_ms
            - earlier.place_ms
    }
}

#[derive(Debug, Serialize)]
struct Figures {
    way: String,
    sent: usize,
    heard: usize,
    r#in: Option<Summary>,
    middle: Option<Summary>,
    out_ms: f64,
    total: Option<Summary>,
    tick_lateness_p99_us: u128,
    tick_lateness_max_us: u128,
    jack_xruns: u64,
    #[serde(skip)]
    totals_ms: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    ways: &'a [Figures],
    agent: &'a [agent::Figures],
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(if arguments.quick { 5 } else { arguments.seconds });
    let ways: Vec<Way> = if arguments.only.is_empty() {
        Way::USUAL.to_vec()
    } else {
        arguments.only.iter().map(|text| Way::parse(text)).collect::<Result<_>>()?
    };
    println!("{:<16} {:>5} {:>26} {:>26} {:>6} {:>26}", "", "", "in", "jack or echo", "out", "total");
    println!("{:<16} {:>5}{}{:>7}{}", "", "n", quantile_heads().repeat(2), "", quantile_heads());
    let mut all = Vec::new();
    for &way in &ways {
        let figures = measure(way, time).with_context(|| way.name())?;
        println!(
            "{:<16} {:>5}{}{}{:>7.1}{}",
            figures.way,
            figures.heard,
            quantiles(figures.r#in),
            quantiles(figures.middle),
            figures.out_ms,
            quantiles(figures.total)
        );
        all.push(figures);
    }
    println!("milliseconds; n: impulses that came back");
    let agents = ways.iter().map(|&way| agent::measure(way, time)).collect::<Result<Vec<_>>>()?;
    println!("\n{:<16} {:>5} {:>26} {:>9} {:>26}", "", "n", "PCM to wire", "n", "halt to last speech");
    println!("{:<22}{}{:>10}{}", "", quantile_heads(), "", quantile_heads());
    for a in &agents {
        let (wire, halted) = (quantiles(a.to_wire), quantiles(a.halted));
        println!("{:<16} {:>5}{wire}{:>10}{halted}", a.way, a.written, a.halts);
    }
    for figures in &all {
        println!(
            "{}: {} of {} impulses, tick lateness p99 {} us, max {} us, JACK xruns {}",
            figures.way,
            figures.heard,
            figures.sent,
            figures.tick_lateness_p99_us,
            figures.tick_lateness_max_us,
            figures.jack_xruns
        );
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&Report { ways: &all, agent: &agents })? + "\n")
            .with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &arguments.svg {
        let rows: Vec<Row> =
            all.iter().map(|f| Row { name: f.way.clone(), durations_ms: f.totals_ms.clone() }).collect();
        histogram::draw("From RTP in to RTP out", &rows, file)?;
    }
    ensure!(all.iter().all(|f| f.heard * 10 >= f.sent * 9), "more than a tenth of the impulses was lost");
    Ok(())
}

fn quantile_heads() -> String {
    format!("{:>9}{:>9}{:>9}", "p50", "p99", "max")
}

fn quantiles(summary: Option<Summary>) -> String {
    summary.map_or_else(
        || format!("{:>9}{:>9}{:>9}", "-", "-", "-"),
        |s| format!("{:>9.1}{:>9.1}{:>9.1}", s.p50_ms, s.p99_ms, s.max_ms),
    )
}

/// A call of the real engine, and its far end's socket. Dropped in this order.
struct Running {
    far_end: UdpSocket,
    /// Where the far end sends to.
    remote: SocketAddr,
    call: CallHandle,
    engine: Engine,
    server: Option<Jackd>,
}

impl Running {
    fn start(way: Way) -> Result<Self> {
        let server = match way {
            Way::Direct => None,
            Way::Jack { rate_hz, period } => Some(Jackd::start("latency", rate_hz, period)),
        };
        let mut engine = Engine::start(EngineConfig {
            bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            rtp_ports: 31_000..=31_099,
            max_calls: 4,
            jack: server.as_ref().map(|server| JackConfig {
                server_name: Some(server.name().to_owned()),
                max_calls: 4,
                ..JackConfig::default()
            }),
            ..EngineConfig::default()
        })?;
        let far_end = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = engine.reserve_port()?;
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, port.port()));
        let call = engine.add_call(CallSetup {
            id: CallId(1),
            label: "c1".to_owned(),
            far_end: String::new(),
            port,
            media: MediaParams::new(far_end.local_addr()?, Codec::Pcmu, PCMU_PAYLOAD_TYPE),
            record_to: None,
        })?;
        if server.is_some() {
            wait_for_jack(&mut engine)?;
        }
        Ok(Self { far_end, remote, call, engine, server })
    }
}

fn measure(way: Way, time: Duration) -> Result<Figures> {
    let Running { far_end, remote, mut call, engine, server } = Running::start(way)?;
    let ears = call.take_ears().context("the call has no ears")?;
    if let Some(server) = &server {
        let patched = server.tool("jack_disconnect", &["mr-sip:c1:agent", "mr-sip:c1:to_phone"]).0
            && server.tool("jack_connect", &["mr-sip:c1:caller", "mr-sip:c1:to_phone"]).0;
        ensure!(patched, "the call's ports could not be patched");
    }
    let (sent, seen, heard) = exchange(&far_end, remote, ears, call, server.is_none(), WARM_UP + time)?;
    let stats = engine.stats();
    let xruns = match engine.jack_state() {
        JackState::Running { xruns, .. } => xruns,
        _ => 0,
    };
    Ok(evaluate(way, &sent, &seen, &heard, &stats, xruns))
}

/// Matches the impulses of the three places by time: they are further apart than any delay.
fn evaluate(
    way: Way,
    sent: &[Sighting],
    seen: &[Sighting],
    heard: &[Sighting],
    stats: &engine::EngineStats,
    xruns: u64,
) -> Figures {
    let warm = sent.first().map(|first| first.at + WARM_UP);
    let measured: Vec<Sighting> = sent.iter().copied().filter(|s| warm.is_some_and(|warm| s.at >= warm)).collect();
    let next = |sightings: &[Sighting], after: Sighting| {
        let window = 0.0..PTIME.as_secs_f64() * 1e3 * IMPULSE_PACKETS as f64;
        sightings.iter().copied().find(|s| window.contains(&s.since(after)))
    };
    let (mut ins, mut middles, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for sent in &measured {
        if let (Some(seen), Some(heard)) = (next(seen, *sent), next(heard, *sent)) {
            ins.push(seen.since(*sent));
            middles.push(heard.since(seen) - OUT_MS);
            totals.push(heard.since(*sent));
        }
    }
    Figures {
        way: way.name(),
        sent: measured.len(),
        heard: totals.len(),
        r#in: Summary::of(&ins),
        middle: Summary::of(&middles),
        out_ms: OUT_MS,
        total: Summary::of(&totals),
        tick_lateness_p99_us: stats.tick_lateness_p99.as_micros(),
        tick_lateness_max_us: stats.tick_lateness_max.as_micros(),
        jack_xruns: xruns,
        totals_ms: totals,
    }
}

fn wait_for_jack(engine: &mut Engine) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        while let Some((_, event)) = engine.poll_event() {
            if event == MediaEvent::JackBack {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the call did not get its JACK ports: {:?}", engine.jack_state())
}

type Sightings = (Vec<Sighting>, Vec<Sighting>, Vec<Sighting>);

/// Runs the far end and the ears for a while: impulses sent, seen by the ears, heard back.
fn exchange(
    far_end: &UdpSocket,
    remote: SocketAddr,
    ears: EarTap,
    call: CallHandle,
    echo: bool,
    time: Duration,
) -> Result<Sightings> {
    let stop = Arc::new(AtomicBool::new(false));
    far_end.set_read_timeout(Some(FAR_END_TIMEOUT))?;
    std::thread::scope(|threads| {
        let listener = threads.spawn(|| listen(far_end, &stop));
        let watcher = threads.spawn(|| watch(ears, call, echo, &stop));
        let sent = speak(far_end, remote, time);
        stop.store(true, Ordering::Relaxed);
        let gone = |_| anyhow::anyhow!("a thread of the bench panicked");
        let (seen, heard) = (watcher.join().map_err(gone)?, listener.join().map_err(gone)?);
        Ok((sent?, seen, heard?))
    })
}

/// Sends a packet every 20 ms, by the absolute clock.
fn speak(socket: &UdpSocket, remote: SocketAddr, time: Duration) -> Result<Vec<Sighting>> {
    become_real_time(FAR_END_PRIORITY);
    let mut random = fastrand::Rng::with_seed(1);
    let mut sent = Vec::new();
    let begin = Instant::now();
    for number in 0..(time.as_millis() / PTIME.as_millis()) as u64 {
        let mut samples = [0.0; PACKET_SAMPLES];
        let impulse = (number % IMPULSE_PACKETS == IMPULSE_PACKETS - 1).then(|| random.usize(0..PACKET_SAMPLES));
        if let Some(at) = impulse {
            samples[at] = IMPULSE;
        }
        let mut payload = [0; PACKET_SAMPLES];
        Codec::Pcmu.encode(&samples, &mut payload);
        let packet = Packet {
            payload_type: PCMU_PAYLOAD_TYPE,
            marker: number == 0,
            sequence: number as u16,
            timestamp: (number as u32).wrapping_mul(PACKET_SAMPLES as u32),
            ssrc: 0x1A7E_0001,
            payload: &payload,
        };
        let mut bytes = [0; 12 + PACKET_SAMPLES];
        let length = packet.write(&mut bytes);
        std::thread::sleep((begin + PTIME * number as u32).saturating_duration_since(Instant::now()));
        let at = Instant::now();
        socket.send_to(&bytes[..length], remote)?;
        sent.extend(impulse.map(|place| Sighting { at, place_ms: place as f64 * SAMPLE_MS }));
    }
    Ok(sent)
}

/// Looks for impulses in what comes back.
fn listen(socket: &UdpSocket, stop: &AtomicBool) -> Result<Vec<Sighting>> {
    become_real_time(FAR_END_PRIORITY);
    let mut heard: Vec<Sighting> = Vec::new();
    let mut loudest = 0.0;
    let mut bytes = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        let length = match socket.recv(&mut bytes) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error.into()),
        };
        let at = Instant::now();
        let Some(packet) = Packet::parse(&bytes[..length]).filter(|p| p.payload_type == PCMU_PAYLOAD_TYPE) else {
            continue; // RTCP
        };
        let mut samples = [0.0; PACKET_SAMPLES];
        let count = Codec::Pcmu.decode(packet.payload, &mut samples);
        let Some((place, peak)) = loudest_of(&samples[..count]) else { continue };
        if peak > FOUND {
            let sighting = Sighting { at, place_ms: place as f64 * SAMPLE_MS };
            match heard.last_mut() {
                // The same impulse, spread over the edge of two packets: the louder side is its place.
                Some(last) if at.duration_since(last.at) < 2 * PTIME => {
                    if peak > loudest {
                        *last = sighting;
                    }
                }
                _ => heard.push(sighting),
            }
            loudest = peak;
        }
    }
    Ok(heard)
}

fn loudest_of(samples: &[f32]) -> Option<(usize, f32)> {
    samples.iter().map(|s| s.abs()).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Looks for impulses in what the ears hear; without JACK, says it back.
fn watch(mut ears: EarTap, mut call: CallHandle, echo: bool, stop: &AtomicBool) -> Vec<Sighting> {
    become_real_time(FAR_END_PRIORITY);
    let mut seen = Vec::new();
    let mut count = 0;
    let generation = echo.then(|| {
        let generation = call.voice().start_response();
        let _ = call.voice().write(generation, &[0.0; ECHO_SAMPLES]);
        generation
    });
    while !stop.load(Ordering::Relaxed) {
        let at = Instant::now();
        let mut block = [0.0; TICK_SAMPLES];
        while ears.samples.pop_entire_slice(&mut block).is_ok() {
            if let Some(place) = block.iter().position(|s| s.abs() > FOUND) {
                seen.push(Sighting { at, place_ms: place as f64 * SAMPLE_MS });
            }
            if let Some(generation) = generation
                && call.voice().write(generation, &block) != WriteResult::Accepted(TICK_SAMPLES)
            {
                log_once(&mut count);
            }
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    seen
}

fn log_once(count: &mut u64) {
    if *count == 0 {
        eprintln!("the voice did not take all of the echo");
    }
    *count += 1;
}
