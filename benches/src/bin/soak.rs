//! Hours of calls with churn against the real daemon: whether anything grows that should stay as it is.
//!
//! Some calls stay up all the time, with audio in both directions and an agent that speaks on each; beside them one more
//! call is made, answered and ended every half second. Once a minute is written down what the daemon holds, how late its
//! packets were at the far end (by the kernel's times) and how long a call took to be answered. Judged is the last quarter
//! of the time against the second one: the first is left out, because until then rooms fill that are kept for good (traces of
//! the last calls, the allocator's own). At the end all hang up, and descriptors, threads and ports must be what they
//! were before the first call.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use control::Client;
use control::types::{DaemonStatus, EventFilter};
use mr_sip::demo::servers::{Daemon, DaemonSetup};
use mr_sip_benches::agent::Agent;
use mr_sip_benches::callers::{Callers, Steadiness};
use mr_sip_benches::histogram::Summary;
use mr_sip_benches::process::Footprint;
use mr_sip_benches::timeline::{self, Panel};
use serde::Serialize;

/// How long the calls may take to come up.
const BUILD_UP: Duration = Duration::from_secs(60);
/// Signaling forgets a call's last transaction 64*T1 after its end (RFC 3261 section 17), and ports rest for two seconds.
const SETTLE: Duration = Duration::from_secs(36);
/// How much memory in use may grow from the second quarter to the last: what is kept of the last calls differs by so much.
const IN_USE_SLACK_MIB: f64 = 2.0;
/// How much resident memory may: besides, what is small lies between other gaps each time (see `churn`).
const RESIDENT_SLACK_MIB: f64 = 6.0;
/// By how much the middle of the minutes' packet lateness and set-up time may grow: half as much again, and this.
const TIME_FACTOR: f64 = 1.5;
const TIME_SLACK_MS: f64 = 0.5;
/// Fewer samples than this tell nothing of quarters.
const LEAST_SAMPLES: usize = 8;

/// Hours of calls with churn against the real daemon.
#[derive(Debug, Parser)]
struct Options {
    /// Calls that stay up all the time
    #[arg(long, default_value_t = 20)]
    calls: usize,
    /// How long, in minutes
    #[arg(long, default_value_t = 120.0)]
    minutes: f64,
    /// Seconds between two samples
    #[arg(long, default_value_t = 60.0)]
    every: f64,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw them over the time into this file as SVG
    #[arg(long)]
    svg: Option<PathBuf>,
    /// The daemon to measure; default: `mr-sip` beside this program
    #[arg(long)]
    daemon: Option<PathBuf>,
}

/// What was seen in the time since the sample before.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    minute: f64,
    #[serde(flatten)]
    held: Footprint,
    /// Memory that the daemon has asked for and not given back, MiB.
    in_use_mib: f64,
    /// Packets at the far end, how many of those that were sent did not come in time, and how late the others were.
    packets: u64,
    not_on_time: u64,
    late_p50_ms: f64,
    late_p99_ms: f64,
    /// Calls made beside the others, and how long they took to be answered.
    extra: usize,
    setup_p50_ms: f64,
    setup_p99_ms: f64,
    late_ticks: f64,
    skipped_ticks: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let samples = (60.0 * options.minutes / options.every) as usize;
    ensure!(
        options.every >= 1.0 && samples >= LEAST_SAMPLES,
        "{samples} samples are too few to compare quarters: at least {LEAST_SAMPLES} of a second or more are wanted"
    );
    let program = match &options.daemon {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("mr-sip"),
    };
    ensure!(program.is_file(), "{} is not there; build it: cargo build --release -p mr-sip", program.display());
    let folder = std::env::temp_dir().join(format!("mr-sip-soak-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = soak(&options, samples, &program, &folder);
    let _ = fs::remove_dir_all(&folder);
    outcome
}

fn soak(options: &Options, samples: usize, program: &Path, folder: &Path) -> Result<()> {
    let setup = DaemonSetup {
        program: Some(program),
        incoming: "auto",
        max_calls: options.calls + 50,
        record: false,
        // the agent is to speak all the time, whatever the callers say
        barge_in: false,
        sip: "trusted = [\"127.0.0.1/32\"]",
        environment: &[("RUST_LOG", "warn")],
        ..DaemonSetup::default()
    };
    let daemon = Daemon::start(folder, &setup)?;
    let mut client = daemon.connect("soak", EventFilter::None)?;
    let mut agent = Agent::new(folder)?;
    let mut brain = daemon.connect("agent", EventFilter::Own)?;
    let fresh = Footprint::of(daemon.pid())?;
    let seen = agent.attend_during(&mut brain, || {
        let mut callers = Callers::start(daemon.sip_address(), options.calls, BUILD_UP)?;
        let seen = watch(options, samples, &daemon, &mut client, &mut callers)?;
        ensure!(callers.lost() == 0, "{} of the calls that were to stay up are gone", callers.lost());
        Ok(seen)
    })?;
    eprintln!("all have hung up; {} s until signaling has forgotten them", SETTLE.as_secs());
    std::thread::sleep(SETTLE);
    let end = Footprint::of(daemon.pid())?;
    let quarters = Quarters::of(&seen);
    print_table(options, &seen, &quarters, &fresh, &end);
    for line in daemon.log().lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).take(5) {
        println!("  the daemon said: {line}");
    }
    if let Some(path) = &options.json {
        let all = serde_json::json!({ "calls": options.calls, "fresh": fresh, "end": end, "samples": seen });
        fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    if let Some(path) = &options.svg {
        draw(options, &seen, path)?;
    }
    judge(&seen, &quarters, &fresh, &end)
}

/// So many samples while the calls go on.
fn watch(
    options: &Options,
    samples: usize,
    daemon: &Daemon,
    client: &mut Client,
    callers: &mut Callers,
) -> Result<Vec<Sample>> {
    let began = Instant::now();
    let figure = |engine: &serde_json::Map<String, serde_json::Value>, name: &str| {
        engine.get(name).and_then(serde_json::Value::as_f64).unwrap_or_default()
    };
    let mut before = client.request(&DaemonStatus {})?.engine;
    callers.take();
    let mut seen: Vec<Sample> = Vec::with_capacity(samples);
    for number in 1..=samples {
        let until = Duration::from_secs_f64(options.every * number as f64);
        callers.talk(until.saturating_sub(began.elapsed()), true)?;
        let engine = client.request(&DaemonStatus {})?.engine;
        let (heard, extra) = callers.take();
        let mut steady = Steadiness::default();
        heard.iter().for_each(|call| steady.add(call));
        let setup = Summary::of(&extra.setup_ms);
        let late = Summary::of(&steady.late_ms);
        let memory = engine.get("memory").and_then(serde_json::Value::as_object);
        let in_use_kib = memory.and_then(|memory| memory.get("in_use_kib")?.as_f64()).unwrap_or_default();
        ensure!(extra.failed == 0, "{} calls could not be made in minute {number}", extra.failed);
        let sample = Sample {
            minute: began.elapsed().as_secs_f64() / 60.0,
            held: Footprint::of(daemon.pid())?,
            in_use_mib: in_use_kib / 1024.0,
            packets: steady.expected,
            not_on_time: steady.expected.saturating_sub(steady.on_time),
            late_p50_ms: late.as_ref().map_or(0.0, |s| s.p50_ms),
            late_p99_ms: late.as_ref().map_or(0.0, |s| s.p99_ms),
            extra: extra.setup_ms.len(),
            setup_p50_ms: setup.as_ref().map_or(0.0, |s| s.p50_ms),
            setup_p99_ms: setup.as_ref().map_or(0.0, |s| s.p99_ms),
            late_ticks: figure(&engine, "late_ticks") - figure(&before, "late_ticks"),
            skipped_ticks: figure(&engine, "skipped_ticks") - figure(&before, "skipped_ticks"),
        };
        before = engine;
        eprint!(
            "\r{:.1} of {:.1} min, {:.1} MiB, {} descriptors, packets late {:.2} ms (p99), {} calls lost ",
            sample.minute,
            options.minutes,
            sample.held.rss_mib(),
            sample.held.descriptors,
            sample.late_p99_ms,
            callers.lost()
        );
        seen.push(sample);
    }
    eprintln!();
    Ok(seen)
}

/// The second quarter of the time and the last one.
struct Quarters<'a>([&'a [Sample]; 2]);

impl<'a> Quarters<'a> {
    fn of(seen: &'a [Sample]) -> Self {
        let quarter = seen.len() / 4;
        Self([&seen[quarter..2 * quarter], &seen[seen.len() - quarter..]])
    }

    /// The middle of a figure in each.
    fn middle(&self, figure: impl Fn(&Sample) -> f64) -> [f64; 2] {
        self.0.map(|quarter| {
            let mut values: Vec<f64> = quarter.iter().map(&figure).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        })
    }

    /// What is judged: its name, its middle in each quarter, and the most that it may be in the last.
    fn judged(&self) -> [(&'static str, [f64; 2], f64); 5] {
        let plus = |values: [f64; 2], slack: f64| (values, values[0] + slack);
        let times = |values: [f64; 2]| (values, values[0] * TIME_FACTOR + TIME_SLACK_MS);
        let rows = [
            ("resident memory, MiB", plus(self.middle(|s| s.held.rss_mib()), RESIDENT_SLACK_MIB)),
            ("memory in use, MiB", plus(self.middle(|s| s.in_use_mib), IN_USE_SLACK_MIB)),
            // those of the call that comes and goes may be there or not
            ("open descriptors", plus(self.middle(|s| s.held.descriptors as f64), 4.0)),
            ("packets late p99, ms", times(self.middle(|s| s.late_p99_ms))),
            ("call answered after p50, ms", times(self.middle(|s| s.setup_p50_ms))),
        ];
        rows.map(|(name, (values, most))| (name, values, most))
    }
}

fn print_table(options: &Options, seen: &[Sample], quarters: &Quarters<'_>, fresh: &Footprint, end: &Footprint) {
    let sum = |figure: &dyn Fn(&Sample) -> f64| seen.iter().map(figure).sum::<f64>();
    println!(
        "{} calls for {:.0} min, PCMU, both directions; beside them {} calls one after the other, none failed",
        options.calls,
        options.minutes,
        sum(&|s| s.extra as f64)
    );
    println!(
        "  {} packets at the far end, {} not within 20 ms of their time; ticks late / skipped: {} / {}",
        sum(&|s| s.packets as f64),
        sum(&|s| s.not_on_time as f64),
        sum(&|s| s.late_ticks),
        sum(&|s| s.skipped_ticks)
    );
    println!("  {:<30} {:>14} {:>14} {:>14}", "middle of the", "2nd quarter", "last quarter", "at most");
    for (name, [before, after], most) in quarters.judged() {
        println!("  {name:<30} {before:>14.2} {after:>14.2} {most:>14.2}");
    }
    println!("  {:<30} {:>14} {:>14}", "", "before", "after all");
    for (name, before, after) in kept(fresh, end) {
        println!("  {name:<30} {before:>14} {after:>14}");
    }
}

/// What must be after the last call as it was before the first.
fn kept(fresh: &Footprint, end: &Footprint) -> [(&'static str, u64, u64); 3] {
    [
        ("open descriptors", fresh.descriptors, end.descriptors),
        ("threads", fresh.threads, end.threads),
        ("bound UDP ports", fresh.udp_ports, end.udp_ports),
    ]
}

fn judge(seen: &[Sample], quarters: &Quarters<'_>, fresh: &Footprint, end: &Footprint) -> Result<()> {
    for (name, [before, after], most) in quarters.judged() {
        ensure!(after <= most, "{name}: {before:.2} became {after:.2}, at most {most:.2}");
    }
    for (name, before, after) in kept(fresh, end) {
        ensure!(before == after, "{name}: {before} before the first call, {after} after the last");
    }
    ensure!(seen.iter().all(|s| s.packets > 0), "no packets came in some minutes");
    Ok(())
}

fn draw(options: &Options, seen: &[Sample], file: &Path) -> Result<()> {
    let line = |name: &str, figure: &dyn Fn(&Sample) -> f64| {
        (name.to_owned(), seen.iter().map(|s| (s.minute, figure(s))).collect::<Vec<_>>())
    };
    let panel = |title: &str, lines| Panel { title: title.to_owned(), at_least: 1.0, bounds: Vec::new(), lines };
    timeline::draw(
        &format!("{} calls, and one more every half second", options.calls),
        &[
            panel("resident memory, MiB", vec![line("resident", &|s| s.held.rss_mib())]),
            panel(
                "descriptors, ports, threads",
                vec![
                    line("descriptors", &|s| s.held.descriptors as f64),
                    line("UDP ports", &|s| s.held.udp_ports as f64),
                    line("threads", &|s| s.held.threads as f64),
                ],
            ),
            panel(
                "milliseconds",
                vec![
                    line("packets late, p99", &|s| s.late_p99_ms),
                    line("call answered after, p50", &|s| s.setup_p50_ms),
                ],
            ),
        ],
        file,
    )
}
