//! Many short calls in a row against the real daemon: what is left afterwards (case 48), and how many a second it takes.
//!
//! sipp (Debian's `sip-tester`) calls, `mr-sip serve` answers at once, and the caller hangs up half a second later. Some
//! calls come first, for longer than signaling remembers one, so that everything that is made once and kept (tables at
//! their full size, traces of the last calls) is there; what the daemon holds after them is the baseline that it must come
//! back to after the rest. What is judged, and by which bound, is printed beside each figure.
//! With `--highest` the rate is raised step by step instead, until a call fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use control::Client;
use control::types::{CallState, DaemonStatus, EventFilter};
use mr_sip::demo::servers::{Daemon, DaemonSetup};
use mr_sip_benches::process::{self, Footprint};
use mr_sip_benches::sipp::{self, Counted, Load};
use plotters::prelude::*;
use serde::Serialize;

/// Signaling forgets a call's last transaction 64*T1 after its end (RFC 3261 section 17): before that nothing is over.
const SETTLE: Duration = Duration::from_secs(34);
/// How much memory in use may differ from the baseline: what is kept of the last calls is of different sizes, but twenty
/// bytes kept of each call would be more than this.
const IN_USE_SLACK_KIB: u64 = 2 * 1024;
/// How much resident memory may differ from it: besides, what is small lies between other gaps each time. A stall of a
/// shared machine piles calls up, and the heap keeps the room that they needed beyond their large blocks, 16 KiB a call.
const RESIDENT_SLACK_KIB: u64 = 6 * 1024;
/// How long sipp may take beyond the time that its rate needs.
const GRACE: Duration = Duration::from_secs(90);
/// How long the calls before the baseline go on, at least.
const WARM_UP: Duration = Duration::from_secs(40);
/// One step of the search for the highest rate.
const STEP: Duration = Duration::from_secs(20);
/// The rates that are tried, in calls a second.
const RATES: [u32; 11] = [100, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000];

/// Many short calls in a row against the real daemon.
#[derive(Debug, Parser)]
struct Options {
    /// Calls after the baseline was taken
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
    /// New calls a second
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Look for the highest rate without a failed call, instead
    #[arg(long)]
    highest: bool,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw memory and descriptors over the calls into this file as SVG
    #[arg(long)]
    svg: Option<PathBuf>,
    /// The daemon to measure; default: `mr-sip` beside this program
    #[arg(long)]
    daemon: Option<PathBuf>,
}

/// What the daemon holds at one moment.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    /// Calls so far.
    calls: u64,
    #[serde(flatten)]
    held: Footprint,
    /// Calls that have not ended, as the daemon says.
    live: u64,
    /// Calls that the media engine has.
    engine_calls: u64,
    /// Files in the recordings folder.
    recordings: u64,
    /// Memory that the daemon has asked for and not given back, KiB.
    in_use_kib: u64,
    /// Memory that its allocator has of the system, touched or not, KiB.
    heap_kib: u64,
}

/// A row of sipp's results.
#[derive(Debug, Clone, Copy, Serialize)]
struct Step {
    rate: u32,
    calls: u64,
    failed: u64,
    /// Of the failed ones, those that were refused.
    refused: u64,
    sent_again: u64,
    /// Calls a second that were really made, the last half second of each included.
    achieved: f64,
    daemon_cores: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let folder = std::env::temp_dir().join(format!("mr-sip-churn-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = if options.highest { highest(&options, &folder) } else { churn(&options, &folder) };
    let _ = fs::remove_dir_all(&folder);
    outcome
}

/// A daemon that answers everybody, and somebody who asks it how it is.
struct Bench<'a> {
    daemon: Daemon,
    client: Client,
    folder: &'a Path,
    runs: u32,
}

impl<'a> Bench<'a> {
    fn start(options: &Options, folder: &'a Path) -> Result<Self> {
        let program = match &options.daemon {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("mr-sip"),
        };
        ensure!(program.is_file(), "{} is not there; build it: cargo build --release -p mr-sip", program.display());
        let setup = DaemonSetup {
            program: Some(&program),
            incoming: "auto",
            max_calls: 2_000,
            record: false,
            // a line in the log for each call is not what is measured
            environment: &[("RUST_LOG", "warn"), ("MR_SIP_LOG", "warn")],
            ..DaemonSetup::default()
        };
        let daemon = Daemon::start(folder, &setup)?;
        let client = daemon.connect("churn", EventFilter::None)?;
        Ok(Self { daemon, client, folder, runs: 0 })
    }

    fn sample(&mut self, calls: u64) -> Result<Sample> {
        let list = self.client.calls()?;
        let engine = self.client.request(&DaemonStatus {})?.engine;
        let memory = engine.get("memory").and_then(serde_json::Value::as_object);
        let kib = |name: &str| memory.and_then(|memory| memory.get(name)?.as_u64()).unwrap_or_default();
        Ok(Sample {
            calls,
            held: Footprint::of(self.daemon.pid())?,
            live: list.iter().filter(|call| call.state != CallState::Ended).count() as u64,
            engine_calls: engine.get("calls").and_then(serde_json::Value::as_u64).unwrap_or(u64::MAX),
            recordings: process::files_in(&self.folder.join("calls")),
            in_use_kib: kib("in_use_kib"),
            heap_kib: kib("held_kib"),
        })
    }

    /// So many calls at this rate; what the daemon held meanwhile goes into `samples`, once a second.
    fn run(&mut self, rate: u32, calls: u64, samples: &mut Vec<Sample>) -> Result<Step> {
        self.runs += 1;
        let name = format!("run{}", self.runs);
        let before = samples.last().map_or(0, |sample| sample.calls);
        let cores = process_seconds(self.daemon.pid())?;
        let began = Instant::now();
        let limit = Duration::from_secs_f64(calls as f64 / f64::from(rate)) + GRACE;
        let load = Load { rate, calls, at_once: rate * 5 };
        let mut sipp = sipp::start(load, self.folder, &name, self.daemon.sip_address())?;
        let mut sampled = Instant::now();
        while sipp.try_wait()?.is_none() {
            if began.elapsed() > limit {
                let _ = (sipp.kill(), sipp.wait());
                bail!("sipp did not end: {:?}", sipp::counted(self.folder, &name).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
            if sampled.elapsed() > Duration::from_secs(1) {
                sampled = Instant::now();
                // in its first second sipp has written nothing
                let so_far = sipp::counted(self.folder, &name).unwrap_or_default();
                samples.push(self.sample(before + so_far.calls)?);
                eprint!("\r{} calls, {} failed ", before + so_far.calls, so_far.failed);
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let Counted { calls, failed, refused, retransmitted } = sipp::counted(self.folder, &name)?;
        eprintln!("\r{} calls, {failed} failed ", before + calls);
        samples.push(self.sample(before + calls)?);
        Ok(Step {
            rate,
            calls,
            failed,
            refused,
            sent_again: retransmitted,
            achieved: calls as f64 / seconds,
            daemon_cores: (process_seconds(self.daemon.pid())? - cores) / seconds,
        })
    }

    /// The first things that the daemon complained of.
    fn print_warnings(&self) {
        let said = self.daemon.log();
        for line in said.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).take(5) {
            println!("  the daemon said: {line}");
        }
    }

    /// Waits until signaling has forgotten the last call, and says what is held then.
    fn settle(&mut self, samples: &mut Vec<Sample>) -> Result<Sample> {
        std::thread::sleep(SETTLE);
        let sample = self.sample(samples.last().map_or(0, |sample| sample.calls))?;
        samples.push(sample);
        Ok(sample)
    }
}

fn process_seconds(pid: u32) -> Result<f64> {
    Ok(mr_sip_benches::cpu::process_time(pid)?.as_secs_f64())
}

fn churn(options: &Options, folder: &Path) -> Result<()> {
    let mut bench = Bench::start(options, folder)?;
    let mut samples = Vec::new();
    let fresh = bench.sample(0)?;
    samples.push(fresh);
    let before = (options.calls / 10).max(u64::from(options.rate) * WARM_UP.as_secs());
    let warm_up = bench.run(options.rate, before, &mut samples)?;
    let baseline = bench.settle(&mut samples)?;
    let main = bench.run(options.rate, options.calls, &mut samples)?;
    let busiest = samples.iter().map(|sample| sample.held.rss_kib).max().unwrap_or_default();
    let end = bench.settle(&mut samples)?;
    print_table(&main, &fresh, &baseline, &end, busiest);
    bench.print_warnings();
    if let Some(path) = &options.json {
        let all = serde_json::json!({
            "warm_up": warm_up, "main": main, "fresh": fresh, "baseline": baseline, "end": end, "samples": samples,
        });
        fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    if let Some(path) = &options.svg {
        draw(&samples, path).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))?;
    }
    judge(&main, &fresh, &baseline, &end)
}

fn judge(main: &Step, fresh: &Sample, baseline: &Sample, end: &Sample) -> Result<()> {
    ensure!(main.failed == 0, "{} calls failed", main.failed);
    ensure!((end.live, end.engine_calls) == (0, 0), "{} calls are left, {} in the engine", end.live, end.engine_calls);
    let kept =
        |sample: &Sample| (sample.held.descriptors, sample.held.threads, sample.held.udp_ports, sample.recordings);
    ensure!(kept(end) == kept(fresh), "descriptors, threads, ports, files: {:?} became {:?}", kept(fresh), kept(end));
    for (what, before, after, slack) in judged(baseline, end) {
        ensure!(after <= before + slack, "{what} grew from {before} to {after} KiB");
    }
    Ok(())
}

/// What of memory must come back: its name, the baseline, the end, and how much they may differ, in KiB. Where the allocator
/// keeps no books (another libc than glibc) memory in use is 0 both times.
fn judged(baseline: &Sample, end: &Sample) -> [(&'static str, u64, u64, u64); 2] {
    [
        ("resident memory", baseline.held.rss_kib, end.held.rss_kib, RESIDENT_SLACK_KIB),
        ("memory in use", baseline.in_use_kib, end.in_use_kib, IN_USE_SLACK_KIB),
    ]
}

fn print_table(main: &Step, fresh: &Sample, baseline: &Sample, end: &Sample, busiest: u64) {
    println!(
        "{} calls at {}/s ({:.0}/s achieved), {} failed, {} messages sent again, daemon {:.2} cores",
        main.calls, main.rate, main.achieved, main.failed, main.sent_again, main.daemon_cores
    );
    let row = |name: &str, figure: &dyn Fn(&Sample) -> String, rule: &str| {
        println!("  {name:<26} {:>12} {:>12} {:>12}   {rule}", figure(fresh), figure(baseline), figure(end));
    };
    let within = |slack: u64| format!("at the end at most baseline + {} MiB", slack / 1024);
    println!("  {:<26} {:>12} {:>12} {:>12}   judged", "", "fresh", "baseline", "at the end");
    row("calls so far", &|s| s.calls.to_string(), "none may fail");
    row("resident memory, MiB", &|s| format!("{:.1}", s.held.rss_mib()), &within(RESIDENT_SLACK_KIB));
    row("memory in use, MiB", &|s| format!("{:.1}", s.in_use_kib as f64 / 1024.0), &within(IN_USE_SLACK_KIB));
    row("held, touched or not, MiB", &|s| format!("{:.1}", s.heap_kib as f64 / 1024.0), "no");
    row("open descriptors", &|s| s.held.descriptors.to_string(), "at the end as fresh");
    row("threads", &|s| s.held.threads.to_string(), "at the end as fresh");
    row("bound UDP ports", &|s| s.held.udp_ports.to_string(), "at the end as fresh");
    row("recordings", &|s| s.recordings.to_string(), "at the end as fresh");
    row("calls, daemon's list", &|s| s.live.to_string(), "at the end 0");
    row("calls, media engine", &|s| s.engine_calls.to_string(), "at the end 0");
    println!("  resident memory at most    {:>12.1} MiB", busiest as f64 / 1024.0);
}

/// Raises the rate until a call fails.
fn highest(options: &Options, folder: &Path) -> Result<()> {
    let mut bench = Bench::start(options, folder)?;
    let mut samples = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    println!(
        "{:>8} {:>8} {:>8} {:>8} {:>12} {:>10} {:>8}",
        "calls/s", "calls", "failed", "refused", "sent again", "achieved", "cores"
    );
    for rate in RATES {
        let step = bench.run(rate, u64::from(rate) * STEP.as_secs(), &mut samples)?;
        println!(
            "{:>8} {:>8} {:>8} {:>8} {:>12} {:>10.0} {:>8.2}",
            step.rate, step.calls, step.failed, step.refused, step.sent_again, step.achieved, step.daemon_cores
        );
        steps.push(step);
        if step.failed > 0 {
            break;
        }
    }
    bench.print_warnings();
    let best = steps.iter().rev().find(|step| step.failed == 0).context("calls fail at the lowest rate")?;
    println!("highest rate without a failed call: {}/s", best.rate);
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&serde_json::json!({ "highest": best.rate, "steps": steps }))?)?;
    }
    Ok(())
}

const INK: RGBColor = RGBColor(40, 44, 52);
const MEMORY: RGBColor = RGBColor(60, 120, 190);
const DESCRIPTORS: RGBColor = RGBColor(200, 110, 40);
const PORTS: RGBColor = RGBColor(80, 150, 80);
const THREADS: RGBColor = RGBColor(150, 80, 160);

/// One line of a panel.
type Series<'a> = (&'a str, RGBColor, &'a dyn Fn(&Sample) -> f64);

/// Memory above, what is counted below, over the number of calls.
fn draw(samples: &[Sample], file: &Path) -> Result<()> {
    let area = SVGBackend::new(file, (900, 560)).into_drawing_area();
    let broken = |error: String| anyhow!(error);
    area.fill(&WHITE).map_err(|e| broken(e.to_string()))?;
    let panels = area.split_evenly((2, 1));
    let [above, below] = panels.as_slice() else { bail!("two panels were asked for") };
    let memory: [Series<'_>; 3] = [
        ("resident", MEMORY, &|s| s.held.rss_mib()),
        ("in use", PORTS, &|s| s.in_use_kib as f64 / 1024.0),
        ("held, touched or not", DESCRIPTORS, &|s| s.heap_kib as f64 / 1024.0),
    ];
    panel(samples, "memory, MiB", &memory, above)?;
    let counted: [Series<'_>; 3] = [
        ("descriptors", DESCRIPTORS, &|s| s.held.descriptors as f64),
        ("UDP ports", PORTS, &|s| s.held.udp_ports as f64),
        ("threads", THREADS, &|s| s.held.threads as f64),
    ];
    panel(samples, "descriptors, UDP ports, threads", &counted, below)?;
    area.present().map_err(|e| broken(e.to_string()))
}

fn panel(
    samples: &[Sample],
    caption: &str,
    series: &[Series<'_>],
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
) -> Result<()> {
    let end = samples.last().map_or(1, |sample| sample.calls.max(1)) as f64;
    let values = samples.iter().flat_map(|sample| series.iter().map(|(_, _, figure)| figure(sample)));
    let highest = values.fold(1.0, f64::max) * 1.15;
    let broken = |error: String| anyhow!(error);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16).into_font().color(&INK))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(34)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..end, 0.0..highest)
        .map_err(|e| broken(e.to_string()))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("calls so far")
        .x_label_formatter(&|calls| format!("{calls:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 12).into_font().color(&INK))
        .axis_style(INK)
        .draw()
        .map_err(|e| broken(e.to_string()))?;
    for (name, colour, figure) in series {
        let line = LineSeries::new(samples.iter().map(|sample| (sample.calls as f64, figure(sample))), *colour);
        let colour = *colour;
        chart
            .draw_series(line)
            .map_err(|e| broken(e.to_string()))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(INK)
        .label_font(("sans-serif", 12).into_font().color(&INK))
        .draw()
        .map_err(|e| broken(e.to_string()))
}
