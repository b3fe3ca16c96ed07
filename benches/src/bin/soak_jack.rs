//! Hours of calls between two clocks: RTP that runs fast against a real JACK server.
//!
//! Two calls run on one `jackd` (dummy driver), each with its `caller` port patched to its `to_phone`:
//! - `crossing`: the call's own 8 kHz clock runs fast by `--ppm` against the server. The rings between them must stay at
//!   their set points by a steered ratio, without a sample lost. This is what the JACK room answers for.
//! - `telephone`: the whole engine on this machine's clock, and a far end that sends RTP which runs fast by `--ppm`. Here
//!   the jitter buffer takes the drift up, and the rings have none to follow.
//!
//! It prints how far the rings were from their set points and what was lost, and fails if one was further than 5 ms off
//! or a sample was lost while no thread was later than the margin.

// The server is started as the engine's own tests start it.
#[path = "../../../engine/tests/support/jackd.rs"]
#[allow(dead_code, reason = "tests also kill their servers and start them again")]
mod jackd;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use engine::codec::{Codec, PCMU_PAYLOAD_TYPE};
use engine::dsp::crossing::CrossingStats;
use engine::jack::{JackBridge, JackCall, JackCallStats, JackConfig, JackState, Route};
use engine::rtp::packet::Packet;
use engine::{
    CallHandle, CallId, CallSetup, CallStats, Engine, EngineConfig, MediaParams, PACKET_SAMPLES, TICK, TICK_SAMPLES,
};
use jackd::Jackd;
use mr_sip_benches::cpu::become_real_time;
use mr_sip_benches::timeline::{self, Panel};
use serde::Serialize;

const PTIME: Duration = Duration::from_millis(20);
/// Until jitter buffer and crossings have found their depth and learnt the drift.
const WARM_UP: Duration = Duration::from_secs(60);
/// How often the figures are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The rings may be this far from their set points.
const BOUND_MS: f64 = 5.0;
/// Priority of the threads that stand for the far end and the second call, if the system gives it.
const PRIORITY: u8 = 60;

#[derive(Debug, Parser)]
#[command(about = "Hours of calls between two clocks: RTP that runs fast against a real JACK server")]
struct Arguments {
    /// Minutes to run, after a minute of warming up
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// How much faster RTP's clock runs than the server's, in parts per million
    #[arg(long, default_value_t = 100.0, allow_negative_numbers = true)]
    ppm: f64,
    /// The server's rate in Hz
    #[arg(long, default_value_t = 48_000)]
    rate: u32,
    /// The server's period in frames
    #[arg(long, default_value_t = 256)]
    period: u32,
    /// The longest stall of a thread that is not heard, in ms
    #[arg(long, default_value_t = 4)]
    margin_ms: u64,
    /// Write the figures here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw them over time here, as SVG
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// How values spread, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    min: f64,
    p1: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        (!sorted.is_empty()).then(|| Self { min: at(0.0), p1: at(0.01), p50: at(0.5), p99: at(0.99), max: at(1.0) })
    }
}

/// One look at both calls.
#[derive(Debug, Clone, Copy)]
struct Look {
    minutes: f64,
    crossing: JackCallStats,
    telephone: CallStats,
}

/// What a run came to.
#[derive(Debug, Serialize)]
struct Figures {
    minutes: f64,
    ppm: f64,
    server: String,
    /// Distance of the fill from the set point, of the crossings to the port, of the agent, and back.
    crossing_error_ms: [Option<Spread>; 3],
    crossing_fill_ms: [Option<Spread>; 3],
    /// Parts per million that the ratios were steered by.
    crossing_steered: [Option<Spread>; 3],
    crossing_dry: u64,
    crossing_samples_lost: u64,
    crossing_samples_missing: u64,
    telephone_error_ms: Option<Spread>,
    telephone_delay_ms: Option<Spread>,
    telephone_samples_lost: u64,
    telephone_samples_missing: u64,
    telephone_packets_lost_or_late: u64,
    telephone_concealed_samples: u64,
    telephone_stretched_samples: u64,
    media_ticks_later_than_margin: u64,
    media_tick_lateness_p99_us: u128,
    media_tick_lateness_max_us: u128,
    xruns: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let server = Jackd::start("soak", arguments.rate, arguments.period);
    let config = |client: &str| JackConfig {
        server_name: Some(server.name().to_owned()),
        client_name: client.to_owned(),
        max_calls: 4,
        patch_agent: false,
        connect: Vec::new(),
        margin: Duration::from_millis(arguments.margin_ms),
        ..JackConfig::default()
    };
    let bridge = JackBridge::start(config("mr-sip-crossing"))?;
    let crossing = bridge.add_call("c1")?;
    let mut engine = Engine::start(EngineConfig {
        bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_ports: 31_100..=31_199,
        max_calls: 4,
        jack: Some(config("mr-sip-telephone")),
        ..EngineConfig::default()
    })?;
    let far_end = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    far_end.set_nonblocking(true)?;
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
    let stop = AtomicBool::new(false);
    let late = AtomicU64::new(0);
    let looks = std::thread::scope(|threads| -> Result<Vec<Look>> {
        let (stats_out, stats) = std::sync::mpsc::channel();
        threads.spawn(|| run_crossing(crossing, &arguments, stats_out, &late, &stop));
        threads.spawn(|| send_rtp(&far_end, remote, arguments.ppm, &stop));
        let looks = watch(&arguments, &server, &mut engine, &call, &stats);
        stop.store(true, Ordering::Relaxed);
        looks
    })?;
    let xruns = match bridge.state() {
        JackState::Running { xruns, .. } => xruns,
        _ => 0,
    };
    let figures = evaluate(&arguments, &looks, &engine, xruns, late.load(Ordering::Relaxed));
    print(&figures);
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")
            .with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &arguments.svg {
        draw(&arguments, &looks, file)?;
    }
    judge(&figures)
}

/// The call whose clock runs fast: an exchange every 5 ms of it.
fn run_crossing(
    mut call: JackCall,
    arguments: &Arguments,
    stats: std::sync::mpsc::Sender<JackCallStats>,
    late: &AtomicU64,
    stop: &AtomicBool,
) {
    become_real_time(PRIORITY);
    let tick_s = TICK.as_secs_f64() / (1.0 + arguments.ppm / 1e6);
    let begin = Instant::now();
    let mut number: u64 = 0;
    let looks = (LOOK.as_millis() / TICK.as_millis()) as u64;
    while !stop.load(Ordering::Relaxed) {
        let due = begin + Duration::from_secs_f64(number as f64 * tick_s);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if due.elapsed() > Duration::from_millis(arguments.margin_ms) {
            late.fetch_add(1, Ordering::Relaxed);
        }
        let said: [f32; TICK_SAMPLES] = std::array::from_fn(|n| tone(number * TICK_SAMPLES as u64 + n as u64));
        let mut heard = [0.0; TICK_SAMPLES];
        let route = call.exchange(due, &said, &[0.0; TICK_SAMPLES], &mut heard);
        number += 1;
        if number.is_multiple_of(looks) && route == Route::Jack && stats.send(call.stats()).is_err() {
            return;
        }
    }
}

/// The far end whose clock runs fast: a packet every 20 ms of it.
fn send_rtp(socket: &UdpSocket, remote: SocketAddr, ppm: f64, stop: &AtomicBool) {
    become_real_time(PRIORITY);
    let packet_s = PTIME.as_secs_f64() / (1.0 + ppm / 1e6);
    let begin = Instant::now();
    let mut number: u64 = 0;
    let mut sink = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        let samples: [f32; PACKET_SAMPLES] = std::array::from_fn(|n| tone(number * PACKET_SAMPLES as u64 + n as u64));
        let mut payload = [0; PACKET_SAMPLES];
        Codec::Pcmu.encode(&samples, &mut payload);
        let packet = Packet {
            payload_type: PCMU_PAYLOAD_TYPE,
            marker: number == 0,
            sequence: number as u16,
            timestamp: (number * PACKET_SAMPLES as u64) as u32,
            ssrc: 0x50A1_0001,
            payload: &payload,
        };
        let mut bytes = [0; 12 + PACKET_SAMPLES];
        let length = packet.write(&mut bytes);
        let due = begin + Duration::from_secs_f64(number as f64 * packet_s);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let _ = socket.send_to(&bytes[..length], remote);
        while socket.recv(&mut sink).is_ok() {}
        number += 1;
    }
}

/// A voice's pitch with pauses, in which a jitter buffer may change its length.
fn tone(sample: u64) -> f32 {
    let seconds = sample as f64 / 8_000.0;
    if seconds.fract() > 0.75 { 0.0 } else { (0.3 * (seconds * std::f64::consts::TAU * 200.0).sin()) as f32 }
}

/// Patches both calls and looks at them until the time is over.
fn watch(
    arguments: &Arguments,
    server: &Jackd,
    engine: &mut Engine,
    call: &CallHandle,
    stats: &std::sync::mpsc::Receiver<JackCallStats>,
) -> Result<Vec<Look>> {
    let deadline = Instant::now() + Duration::from_secs(20);
    for client in ["mr-sip-crossing", "mr-sip-telephone"] {
        let (caller, to_phone) = (format!("{client}:c1:caller"), format!("{client}:c1:to_phone"));
        while !server.tool("jack_connect", &[&caller, &to_phone]).0 {
            ensure!(Instant::now() < deadline, "the ports of {client} cannot be patched");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let begin = Instant::now() + WARM_UP;
    let time = Duration::from_secs_f64(arguments.minutes * 60.0);
    let mut looks = Vec::new();
    while begin.elapsed() < time {
        let crossing = stats.recv_timeout(Duration::from_secs(20)).context("the call lost its JACK ports")?;
        while engine.poll_event().is_some() {}
        if Instant::now() >= begin {
            looks.push(Look { minutes: begin.elapsed().as_secs_f64() / 60.0, crossing, telephone: call.stats() });
            if looks.len() % 600 == 0 {
                eprintln!("{:.0} of {:.0} minutes", begin.elapsed().as_secs_f64() / 60.0, arguments.minutes);
            }
        }
    }
    Ok(looks)
}

fn ms(samples: f32) -> f64 {
    f64::from(samples) / 8.0
}

/// A crossing's name, and where its figures are.
type Crossing = (&'static str, fn(&JackCallStats) -> CrossingStats);

const CROSSINGS: [Crossing; 3] = [("caller", |s| s.caller), ("agent", |s| s.agent), ("to_phone", |s| s.to_phone)];

fn evaluate(arguments: &Arguments, looks: &[Look], engine: &Engine, xruns: u64, late: u64) -> Figures {
    let spread = |value: &dyn Fn(&CrossingStats) -> f64| {
        CROSSINGS.map(|(_, of)| Spread::of(looks.iter().map(|look| value(&of(&look.crossing)))))
    };
    let (first, last) = (looks.first(), looks.last());
    let grown = |figure: &dyn Fn(&Look) -> u64| last.map_or(0, figure) - first.map_or(0, figure);
    let sum = |figure: fn(&CrossingStats) -> u64| {
        grown(&|look| CROSSINGS.iter().map(|(_, of)| figure(&of(&look.crossing))).sum())
    };
    let stats = engine.stats();
    Figures {
        minutes: arguments.minutes,
        ppm: arguments.ppm,
        server: format!("jackd dummy {}/{}, margin {} ms", arguments.rate, arguments.period, arguments.margin_ms),
        crossing_error_ms: spread(&|s| ms(s.fill - s.set_point)),
        crossing_fill_ms: spread(&|s| ms(s.fill)),
        crossing_steered: spread(&|s| f64::from(s.ppm)),
        crossing_dry: sum(|s| s.dry),
        crossing_samples_lost: sum(|s| s.discarded),
        crossing_samples_missing: sum(|s| s.missing),
        telephone_error_ms: Spread::of(looks.iter().map(|look| look.telephone.jack_error_ms.into())),
        telephone_delay_ms: Spread::of(looks.iter().map(|look| look.telephone.delay_ms.into())),
        telephone_samples_lost: grown(&|look| look.telephone.jack_lost_samples),
        telephone_samples_missing: grown(&|look| look.telephone.jack_missing_samples),
        telephone_packets_lost_or_late: grown(&|look| look.telephone.lost + look.telephone.late),
        telephone_concealed_samples: grown(&|look| look.telephone.concealed_samples),
        telephone_stretched_samples: grown(&|look| look.telephone.shrunk_samples + look.telephone.grown_samples),
        media_ticks_later_than_margin: late,
        media_tick_lateness_p99_us: stats.tick_lateness_p99.as_micros(),
        media_tick_lateness_max_us: stats.tick_lateness_max.as_micros(),
        xruns,
    }
}

fn print(figures: &Figures) {
    println!("{} minutes at {:+} ppm, {}", figures.minutes, figures.ppm, figures.server);
    println!("{:<38}{:>9}{:>9}{:>9}{:>9}{:>9}", "", "min", "p1", "p50", "p99", "max");
    let row = |name: String, spread: Option<Spread>| {
        if let Some(s) = spread {
            println!("{name:<38}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}", s.min, s.p1, s.p50, s.p99, s.max);
        }
    };
    for (n, (name, _)) in CROSSINGS.iter().enumerate() {
        row(format!("crossing {name}: fill, ms"), figures.crossing_fill_ms[n]);
        row(format!("crossing {name}: off set point, ms"), figures.crossing_error_ms[n]);
        row(format!("crossing {name}: steered, ppm"), figures.crossing_steered[n]);
    }
    row("telephone: off set point, ms".to_owned(), figures.telephone_error_ms);
    row("telephone: jitter buffer, ms".to_owned(), figures.telephone_delay_ms);
    println!(
        "crossing: {} samples given up, {} missing, {} times dry; its thread was later than the margin {} times",
        figures.crossing_samples_lost,
        figures.crossing_samples_missing,
        figures.crossing_dry,
        figures.media_ticks_later_than_margin
    );
    println!(
        "telephone: {} samples given up, {} missing at JACK; {} packets lost or late, {} samples concealed, {} stretched",
        figures.telephone_samples_lost,
        figures.telephone_samples_missing,
        figures.telephone_packets_lost_or_late,
        figures.telephone_concealed_samples,
        figures.telephone_stretched_samples
    );
    println!(
        "machine: {} periods missed by jackd; engine's ticks late p99 {} us, max {} us",
        figures.xruns, figures.media_tick_lateness_p99_us, figures.media_tick_lateness_max_us
    );
}

fn draw(arguments: &Arguments, looks: &[Look], file: &std::path::Path) -> Result<()> {
    // a point every ten seconds is as much as the picture shows
    let every = looks.iter().step_by(100);
    let line = |name: &str, value: &dyn Fn(&Look) -> f64| {
        (name.to_owned(), every.clone().map(|look| (look.minutes, value(look))).collect())
    };
    let error = CROSSINGS.map(|(name, of)| {
        line(name, &|look| {
            let stats = of(&look.crossing);
            ms(stats.fill - stats.set_point)
        })
    });
    let steered = CROSSINGS.map(|(name, of)| line(name, &|look| of(&look.crossing).ppm.into()));
    let panels = [
        Panel {
            title: "crossing: fill off its set point, ms".to_owned(),
            at_least: BOUND_MS,
            bounds: vec![-BOUND_MS, BOUND_MS],
            lines: error.into(),
        },
        Panel {
            title: "crossing: ratio steered by, ppm".to_owned(),
            at_least: 2.0 * arguments.ppm.abs(),
            bounds: Vec::new(),
            lines: steered.into(),
        },
        Panel {
            title: "telephone: worst ring off its set point, ms".to_owned(),
            at_least: BOUND_MS,
            bounds: vec![-BOUND_MS, BOUND_MS],
            lines: vec![line("worst of three", &|look| look.telephone.jack_error_ms.into())],
        },
    ];
    timeline::draw(
        &format!("{:+} ppm against jackd {}/{}", arguments.ppm, arguments.rate, arguments.period),
        &panels,
        file,
    )
}

/// The goal, as far as the machine let it be reached.
fn judge(figures: &Figures) -> Result<()> {
    let worst = figures.crossing_error_ms.iter().flatten().map(|s| s.max.max(-s.min)).fold(0.0, f64::max);
    let calm = figures.media_ticks_later_than_margin == 0 && figures.xruns == 0;
    if !calm {
        println!("the machine stalled for longer than the margin: what was lost or off by it is not judged");
        return Ok(());
    }
    ensure!(worst <= BOUND_MS, "a ring was {worst:.2} ms off its set point, more than {BOUND_MS} ms");
    ensure!(figures.crossing_samples_lost == 0, "{} samples were lost", figures.crossing_samples_lost);
    println!("no ring was more than {worst:.2} ms off its set point, and no sample was lost");
    Ok(())
}
