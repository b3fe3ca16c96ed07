//! Many calls on one core: the engine alone, with real sockets, against a loop that only receives and sends the same packets.
//!
//! A process on the other cores is everybody who calls. The engine's media thread has a core to itself and does all that it
//! does for a call: playout, decoding, the ears' ring, the agent's voice, encoding, statistics. What it costs is its own
//! processor time, and so is what the bare loops cost, so that the figures mean something on a busy machine too.

mod bare;
mod far_end;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bare::Means;
use clap::Parser;
use engine::codec::{Codec, PCMU_PAYLOAD_TYPE};
use engine::realtime::{GuardedAllocator, choose_cores};
use engine::{
    CallHandle, CallId, CallSetup, CallStats, EarTap, Engine, EngineConfig, Generation, MediaParams, NetIo,
    PACKET_SAMPLES, TelephoneEvent, VOICE_SAMPLES,
};
use far_end::FarEnd;
use mr_sip_benches::cpu;
use plotters::prelude::*;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: GuardedAllocator = GuardedAllocator;

/// Ticks from one packet of a call to the next.
const PHASES: usize = 4;
const RTP_BYTES: usize = 12 + PACKET_SAMPLES;
const SRTP_TAG_BYTES: usize = 10;
const MEDIA_PRIORITY: u8 = 60;
/// Until the jitter buffers have found their depth.
const WARM_UP: Duration = Duration::from_secs(3);
const ENGINE_PORTS: std::ops::RangeInclusive<u16> = 40_000..=47_999;
/// What is asked for: media at most so many times the bare loop, plain and encrypted.
const GOALS: [f64; 2] = [1.5, 1.8];

#[derive(Debug, Parser)]
#[command(about = "Calls on one core, against a loop that only receives and sends the same packets")]
struct Options {
    /// Calls at once
    #[arg(long, default_value_t = 100)]
    calls: usize,
    /// Seconds with all calls up, each way
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Encrypted calls as well
    #[arg(long)]
    srtp: bool,
    /// Write the figures here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw the cost of a packet pair here, as SVG
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Be the far end of a bench that has this core
    #[arg(long, hide = true)]
    far_end_beside: Option<usize>,
}

/// What one way of doing it showed.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    srtp: bool,
    us_a_pair: f64,
    /// Against the cheapest bare loop with packets of the same length.
    ratio: f64,
    goal: Option<f64>,
    media: Option<Media>,
}

/// What the engine itself says of a run.
#[derive(Debug, Default, Serialize)]
struct Media {
    io: String,
    percent_of_a_core_a_call: f64,
    received: u64,
    sent: u64,
    lost_or_late: u64,
    concealed_samples: u64,
    underruns: u64,
    skipped: u64,
    tick_lateness_p50_us: u128,
    tick_lateness_p99_us: u128,
    tick_lateness_max_us: u128,
    ticks: u64,
    /// Ticks whose last packet left more than 2 ms after they were due.
    late_ticks: u64,
    allocations: u64,
    /// Of the first run; the later ones use the memory that it gave back.
    kilobytes_a_call: Option<f64>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let core = choose_cores().last().copied().unwrap_or(0);
    allow_descriptors(options.calls * 4 + 200)?;
    if let Some(core) = options.far_end_beside {
        far_end::run(options.calls, core)?;
        return Ok(ExitCode::SUCCESS);
    }
    cpu::pin_to(&cpu::all_but(core))?;
    let mut far_end = FarEnd::start(options.calls, core)?;
    let time = Duration::from_secs(options.seconds);
    let mut rows = Vec::new();
    for srtp in [false, true].into_iter().take(1 + usize::from(options.srtp)) {
        rows.extend(measure(&mut far_end, srtp, core, time)?);
    }
    drop(far_end);
    print_table(&options, &rows);
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")?;
    }
    if let Some(path) = &options.svg {
        draw(&options, &rows, path)?;
    }
    let media = || rows.iter().filter_map(|row| row.media.as_ref());
    let sound = media().all(|m| m.underruns == 0 && m.allocations == 0);
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The bare loops and the media, one after the other.
fn measure(far_end: &mut FarEnd, srtp: bool, core: usize, time: Duration) -> Result<Vec<Row>> {
    let kind = if srtp { ", SRTP" } else { "" };
    let row = |name: &str, us_a_pair, media: Option<Media>| {
        let goal = media.is_some().then_some(GOALS[usize::from(srtp)]);
        Row { name: format!("{name}{kind}"), srtp, us_a_pair, ratio: 0.0, goal, media }
    };
    let mut rows = Vec::new();
    for (name, means) in [("bare loop, a call each", Means::Calls), ("bare loop, io_uring", Means::Uring)] {
        match bare::measure(far_end, means, srtp, core, time) {
            Ok(us) => rows.push(row(name, us, None)),
            Err(error) => eprintln!("{name}: not measured: {error}"),
        }
    }
    let floor = rows.iter().map(|row| row.us_a_pair).fold(f64::INFINITY, f64::min);
    for (name, io) in [("media, plain sockets", NetIo::Plain), ("media, io_uring", NetIo::Uring)] {
        let (us, mut media) = media(far_end, io, srtp, core, time)?;
        media.kilobytes_a_call = media.kilobytes_a_call.filter(|_| !srtp && io == NetIo::Plain);
        rows.push(row(name, us, Some(media)));
    }
    for row in &mut rows {
        row.ratio = row.us_a_pair / floor;
    }
    Ok(rows)
}

/// A call with the agent's side of it.
struct Talk {
    handle: CallHandle,
    ears: EarTap,
    generation: Generation,
    said: usize,
}

impl Talk {
    /// Hears what there is, and keeps the agent talking.
    fn attend(&mut self, voice: &[f32]) {
        let heard = self.ears.samples.slots();
        if let Ok(chunk) = self.ears.samples.read_chunk(heard) {
            chunk.commit_all();
        }
        while self.handle.voice().queued() < VOICE_SAMPLES / 4 {
            let from = self.said % voice.len();
            let engine::WriteResult::Accepted(count) = self.handle.voice().write(self.generation, &voice[from..])
            else {
                return;
            };
            self.said += count;
        }
    }
}

fn media(far_end: &mut FarEnd, io: NetIo, srtp: bool, core: usize, time: Duration) -> Result<(f64, Media)> {
    let mut engine = Engine::start(EngineConfig {
        bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_ports: ENGINE_PORTS,
        cores: vec![core],
        realtime_priority: Some(MEDIA_PRIORITY),
        max_calls: far_end.addresses.len(),
        net_io: io,
        ..EngineConfig::default()
    })?;
    let before = resident_bytes()?;
    let voice: Vec<f32> = (0..8_000).map(tone).collect();
    let mut talks = Vec::new();
    let mut ours = Vec::new();
    for (n, &remote) in far_end.addresses.iter().enumerate() {
        let port = engine.reserve_port()?;
        ours.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port.port())));
        let media = MediaParams {
            telephone_event: Some(TelephoneEvent::new(101, 8_000)),
            srtp: srtp.then(|| far_end::keys(n, true)),
            ..MediaParams::new(remote, Codec::Pcmu, PCMU_PAYLOAD_TYPE)
        };
        let setup = CallSetup {
            id: CallId(n as u32),
            label: format!("c{n}"),
            far_end: String::new(),
            port,
            media,
            record_to: None,
        };
        let mut handle = engine.add_call(setup)?;
        let ears = handle.take_ears().context("a call without ears")?;
        let generation = handle.voice().start_response();
        talks.push(Talk { handle, ears, generation, said: 0 });
    }
    far_end.send_to(&ours, srtp)?;
    let attend = |engine: &mut Engine, talks: &mut [Talk], time: Duration| {
        let began = Instant::now();
        while began.elapsed() < time {
            talks.iter_mut().for_each(|talk| talk.attend(&voice));
            while engine.poll_event().is_some() {}
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    attend(&mut engine, &mut talks, WARM_UP);
    let sum =
        |talks: &[Talk], figure: fn(&CallStats) -> u64| talks.iter().map(|t| figure(&t.handle.stats())).sum::<u64>();
    let figures: [fn(&CallStats) -> u64; 6] =
        [|s| s.received, |s| s.sent, |s| s.lost + s.late, |s| s.concealed_samples, |s| s.underruns, |s| s.skipped];
    let at_first = (figures.map(|f| sum(&talks, f)), engine.stats(), media_time()?, Instant::now());
    attend(&mut engine, &mut talks, time);
    let at_last = (figures.map(|f| sum(&talks, f)), engine.stats(), media_time()?, Instant::now());
    let [received, sent, lost_or_late, concealed_samples, underruns, skipped] =
        std::array::from_fn(|n| at_last.0[n] - at_first.0[n]);
    let (stats, spent) = (at_last.1, at_last.2 - at_first.2);
    let calls = talks.len() as f64;
    let media = Media {
        io: engine.report().net_io.to_string(),
        percent_of_a_core_a_call: 100.0 * spent.as_secs_f64() / (at_last.3 - at_first.3).as_secs_f64() / calls,
        received,
        sent,
        lost_or_late,
        concealed_samples,
        underruns,
        skipped,
        tick_lateness_p50_us: stats.tick_lateness_p50.as_micros(),
        tick_lateness_p99_us: stats.tick_lateness_p99.as_micros(),
        tick_lateness_max_us: stats.tick_lateness_max.as_micros(),
        ticks: stats.ticks - at_first.1.ticks,
        late_ticks: stats.late_ticks - at_first.1.late_ticks,
        allocations: stats.allocation_violations,
        kilobytes_a_call: Some((resident_bytes()?.saturating_sub(before)) as f64 / 1_024.0 / calls),
    };
    ensure!(received * 10 > sent * 9, "only {received} packets came, and {sent} were sent");
    Ok((spent.as_secs_f64() * 1e6 / ((received + sent) as f64 / 2.0), media))
}

/// Processor time of the media thread, which the scheduler counts in nanoseconds (the first figure of schedstat).
fn media_time() -> Result<Duration> {
    for entry in fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == "media-0") {
            let schedstat = fs::read_to_string(path.join("schedstat"))?;
            let nanos = schedstat.split_whitespace().next().context("an empty schedstat")?.parse()?;
            return Ok(Duration::from_nanos(nanos));
        }
    }
    anyhow::bail!("there is no media thread")
}

fn resident_bytes() -> Result<usize> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split_whitespace().nth(1).context("a short statm")?.parse::<usize>()? * 4_096)
}

fn allow_descriptors(count: usize) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit, written here and read in the next call.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_cur.max(count as u64);
        limit.rlim_max = limit.rlim_max.max(limit.rlim_cur);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    ensure!(done == 0, "{count} descriptors are not allowed here (ulimit -n)");
    Ok(())
}

/// In which of the ticks of a packet a call sends, here and at the far end.
fn phase_of(call: usize) -> usize {
    call % PHASES
}

/// Something that is not silence: two partials of a voice.
fn tone(sample: usize) -> f32 {
    let seconds = sample as f32 / 8_000.0;
    0.2 * (seconds * 1_250.0).sin() + 0.1 * (seconds * 4_400.0).sin()
}

fn print_table(options: &Options, rows: &[Row]) {
    println!("{} calls for {} s each way, PCMU, 20 ms, both directions", options.calls, options.seconds);
    println!("{:<30} {:>12} {:>8} {:>8}", "", "us a pair", "ratio", "goal");
    for row in rows {
        let goal = row.goal.map_or_else(String::new, |goal| format!("{goal:.1}"));
        println!("{:<30} {:>12.2} {:>8.2} {:>8}", row.name, row.us_a_pair, row.ratio, goal);
    }
    for row in rows {
        let Some(media) = &row.media else { continue };
        println!("\n{} ({})", row.name, media.io);
        println!("  media thread, % of a core a call {:>12.3}", media.percent_of_a_core_a_call);
        println!("  packets received / sent          {:>12} / {}", media.received, media.sent);
        println!("  lost or late / concealed samples {:>12} / {}", media.lost_or_late, media.concealed_samples);
        println!("  underruns / slots skipped        {:>12} / {}", media.underruns, media.skipped);
        println!("  allocations, real-time threads   {:>12}", media.allocations);
        println!(
            "  tick lateness p50 / p99 / max, us {:>11} / {} / {}",
            media.tick_lateness_p50_us, media.tick_lateness_p99_us, media.tick_lateness_max_us
        );
        println!("  ticks not sent within 2 ms       {:>12} of {}", media.late_ticks, media.ticks);
        if let Some(kilobytes) = media.kilobytes_a_call {
            println!("  resident memory a call, kB       {kilobytes:>12.0}");
        }
    }
}

/// A bar for each row.
fn draw(options: &Options, rows: &[Row], file: &Path) -> Result<()> {
    let area = SVGBackend::new(file, (900, 60 + 48 * rows.len() as u32)).into_drawing_area();
    let (ink, media, bare) = (RGBColor(40, 44, 52), RGBColor(60, 120, 190), RGBColor(150, 155, 165));
    let text = |size| ("sans-serif", size).into_font().color(&ink);
    area.fill(&WHITE)?;
    let title = format!("Processor time of a packet in and a packet out, {} calls on one core", options.calls);
    area.draw(&Text::new(title, (16, 16), text(20)))?;
    let longest = rows.iter().map(|row| row.us_a_pair).fold(1.0, f64::max);
    for (n, row) in rows.iter().enumerate() {
        let top = 56 + 48 * n as i32;
        let right = 260 + (row.us_a_pair / longest * 420.0) as i32;
        let colour = if row.media.is_some() { media } else { bare };
        area.draw(&Text::new(row.name.clone(), (16, top + 7), text(15)))?;
        area.draw(&Rectangle::new([(260, top), (right, top + 28)], colour.filled()))?;
        let label = format!("{:.2} us, {:.2} times the floor", row.us_a_pair, row.ratio);
        area.draw(&Text::new(label, (right + 8, top + 7), text(14)))?;
    }
    area.present().with_context(|| file.display().to_string())
}
