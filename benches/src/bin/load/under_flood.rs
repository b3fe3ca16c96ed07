//! The same calls without and with a flood of junk (cases 2 and 17): what reaches the callers, and when.
//!
//! The callers are this process, because sipp does not look at the audio that it gets: 50 calls on which the agent
//! speaks all the time, and every half second one more that is made, answered and ended. Their address is trusted; the
//! flood's are those of strangers, and get no answer. What comes is measured at the callers' sockets by the kernel's
//! receive times, not by what the daemon believes that it sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use control::Client;
use control::types::{Call, CallState, DaemonStatus, EventFilter, MediaStats, Status};
use mr_sip::demo::servers::{Daemon, DaemonSetup};
use mr_sip_benches::agent::Agent;
use mr_sip_benches::callers::{Callers, Steadiness};
use mr_sip_benches::flood::{Flood, Sent};
use mr_sip_benches::histogram::Summary;
use mr_sip_benches::process::{self, Footprint};
use serde::Serialize;

use super::Options;

/// Before a phase is measured, so that neither the build-up nor the flood's first packets count as steady.
const SETTLE: Duration = Duration::from_secs(2);
/// Share of the packets that must come on time.
const ON_TIME: f64 = 0.999;
/// How much resident memory may grow under the flood, KiB: what is touched for the first time, not something that grows
/// with each datagram, of which there are millions.
const MEMORY_SLACK_KIB: u64 = 4 * 1024;

/// What the daemon had counted at one moment.
struct Counted {
    at: Instant,
    held: Footprint,
    threads: BTreeMap<String, Duration>,
    status: Status,
    media: Vec<MediaStats>,
    dropped_at_sip: u64,
    dropped_at_rtp: u64,
}

/// What one phase showed.
#[derive(Debug, Serialize)]
struct Phase {
    seconds: f64,
    /// What the callers heard.
    expected: u64,
    on_time: f64,
    late: Option<Summary>,
    apart: Option<Summary>,
    late_p999_ms: f64,
    /// What the daemon heard of them.
    received: u64,
    lost_or_late: u64,
    concealed: u64,
    lost_calls: usize,
    extra_calls: usize,
    extra_failed: usize,
    setup: Option<Summary>,
    rss_before_kib: u64,
    rss_after_kib: u64,
    sip_cores: f64,
    media_cores: f64,
    daemon_cores: f64,
    /// What was thrown away, and where: by the kernel because a queue was full, by the guard, by the calls.
    dropped: BTreeMap<&'static str, u64>,
    tick_lateness_max_us: u64,
    flood_rate: f64,
    flood_slowest_second: u64,
    flood_cores: f64,
}

pub(super) fn run(options: &Options, rate: u32, folder: &Path) -> Result<()> {
    let program = super::program(options)?;
    let setup = DaemonSetup {
        program: Some(&program),
        incoming: "auto",
        max_calls: options.calls as usize + 50,
        record: options.record,
        barge_in: false,
        // the callers alone: the rest of loopback is the flood
        sip: "trusted = [\"127.0.0.1/32\"]\nstrangers = \"ignore\"",
        environment: &[("RUST_LOG", "warn")],
        ..DaemonSetup::default()
    };
    let daemon = Daemon::start(folder, &setup)?;
    let mut agent = Agent::new(folder)?;
    let mut brain = daemon.connect("load", EventFilter::All)?;
    let (quiet, flooded) = agent.attend_during(&mut brain, || phases(options, rate, &daemon))?;
    print_table(options, rate, &quiet, &flooded);
    if let Some(path) = &options.json {
        let all = serde_json::json!({ "calls": options.calls, "asked_rate": rate, "quiet": quiet, "flood": flooded });
        fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    judge(&flooded)
}

fn phases(options: &Options, rate: u32, daemon: &Daemon) -> Result<(Phase, Phase)> {
    let mut client = daemon.connect("figures", EventFilter::None)?;
    let sip = daemon.sip_address();
    let mut callers = Callers::start(sip, options.calls as usize, Duration::from_secs(30))?;
    let seconds = Duration::from_secs(options.seconds.into());
    eprintln!("{} calls up; {} s without a flood", options.calls, seconds.as_secs());
    let quiet = phase(daemon, &mut client, &mut callers, seconds, None)?;
    eprintln!("{} s with {rate} datagrams a second of junk", seconds.as_secs());
    let flooded = phase(daemon, &mut client, &mut callers, seconds, Some(rate))?;
    Ok((quiet, flooded))
}

fn phase(
    daemon: &Daemon,
    client: &mut Client,
    callers: &mut Callers,
    time: Duration,
    flood: Option<u32>,
) -> Result<Phase> {
    let rtp = callers.remote_media();
    let lost_before = callers.lost();
    let rss_before = Footprint::of(daemon.pid())?.rss_kib;
    let flood = flood
        .map(|rate| Flood::start(rate, daemon.sip_address(), &rtp, SETTLE + time + Duration::from_secs(5)))
        .transpose()?;
    callers.talk(SETTLE, false)?;
    callers.take();
    let before = count(daemon, client, &rtp)?;
    callers.talk(time, true)?;
    let after = count(daemon, client, &rtp)?;
    let (heard, extra) = callers.take();
    let sent = flood.map(Flood::stop).transpose()?.unwrap_or_default();
    let mut steady = Steadiness::default();
    heard.iter().for_each(|call| steady.add(call));
    let seconds = (after.at - before.at).as_secs_f64();
    let cores = |wanted: &dyn Fn(&str) -> bool| {
        let sum = |counted: &Counted| -> f64 {
            counted.threads.iter().filter(|(name, _)| wanted(name)).map(|(_, time)| time.as_secs_f64()).sum()
        };
        (sum(&after) - sum(&before)) / seconds
    };
    let media = |figure: &dyn Fn(&MediaStats) -> u64| {
        let sum = |counted: &Counted| -> u64 { counted.media.iter().map(figure).sum() };
        sum(&after).saturating_sub(sum(&before))
    };
    let mut late = steady.late_ms.clone();
    late.sort_by(f64::total_cmp);
    Ok(Phase {
        seconds,
        expected: steady.expected,
        on_time: steady.share(),
        late: Summary::of(&steady.late_ms),
        apart: Summary::of(&steady.apart_ms),
        late_p999_ms: late.get((late.len() as f64 * 0.999) as usize).copied().unwrap_or_default(),
        received: media(&|s| s.received),
        lost_or_late: media(&|s| s.lost + s.late),
        concealed: media(&|s| s.concealed),
        lost_calls: callers.lost() - lost_before,
        extra_calls: extra.setup_ms.len(),
        extra_failed: extra.failed,
        setup: Summary::of(&extra.setup_ms),
        rss_before_kib: rss_before,
        rss_after_kib: after.held.rss_kib,
        sip_cores: cores(&|name| name == "sip"),
        media_cores: cores(&|name| name.starts_with("media-")),
        daemon_cores: cores(&|_| true),
        dropped: dropped(&before, &after, media(&|s| s.foreign_packets), media(&|s| s.bad_packets)),
        tick_lateness_max_us: number(&after.status.engine, "tick_lateness_max_us"),
        flood_rate: if sent.seconds > 0.0 { sent.rate() } else { 0.0 },
        flood_slowest_second: if sent.seconds > 1.0 { sent.slowest_second } else { 0 },
        flood_cores: busy(&sent),
    })
}

fn busy(sent: &Sent) -> f64 {
    if sent.seconds > 0.0 { sent.busy / sent.seconds } else { 0.0 }
}

fn count(daemon: &Daemon, client: &mut Client, rtp: &[SocketAddr]) -> Result<Counted> {
    let status = client.request(&DaemonStatus {})?;
    let calls: Vec<Call> = client.calls()?;
    // the calls that last, not the extra ones
    let calls = calls.iter().filter(|call| call.state == CallState::Answered);
    let sip = BTreeSet::from([daemon.sip_address().port()]);
    let media = rtp.iter().flat_map(|address| [address.port(), address.port().saturating_add(1)]).collect();
    Ok(Counted {
        at: Instant::now(),
        held: Footprint::of(daemon.pid())?,
        threads: process::thread_times(daemon.pid())?,
        status,
        media: calls.filter_map(|call| call.stats.clone()).collect(),
        dropped_at_sip: process::dropped_at(&sip)?,
        dropped_at_rtp: process::dropped_at(&media)?,
    })
}

fn number(figures: &serde_json::Map<String, serde_json::Value>, name: &str) -> u64 {
    figures.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default()
}

fn dropped(before: &Counted, after: &Counted, foreign: u64, bad: u64) -> BTreeMap<&'static str, u64> {
    let guard = |counted: &Counted, reason: &str| {
        let reasons = counted.status.sip.get("dropped").and_then(serde_json::Value::as_object);
        reasons.map_or(0, |reasons| number(reasons, reason))
    };
    let of_guard = |reason: &str| guard(after, reason).saturating_sub(guard(before, reason));
    let of_sip = |name: &str| number(&after.status.sip, name).saturating_sub(number(&before.status.sip, name));
    BTreeMap::from([
        ("sip: datagrams read", of_sip("received")),
        ("sip: dropped, banned", of_guard("banned")),
        ("sip: dropped, one's rate", of_guard("rate")),
        ("sip: dropped, strangers' rate", of_guard("strangers")),
        ("sip: dropped, newcomers' rate", of_guard("newcomers")),
        ("sip: strangers read, no answer", of_sip("strangers_heard")),
        ("sip: of those malformed", of_sip("malformed")),
        ("sip: bans", of_sip("bans")),
        ("sip: lost in the kernel's queue", after.dropped_at_sip.saturating_sub(before.dropped_at_sip)),
        ("rtp: dropped, foreign source", foreign),
        ("rtp: dropped, not RTP or RTCP", bad),
        ("rtp: lost in the kernel's queues", after.dropped_at_rtp.saturating_sub(before.dropped_at_rtp)),
    ])
}

fn judge(flooded: &Phase) -> Result<()> {
    ensure!(flooded.lost_calls == 0, "{} calls were lost under the flood", flooded.lost_calls);
    ensure!(flooded.extra_failed == 0, "{} calls could not be made under the flood", flooded.extra_failed);
    ensure!(flooded.on_time >= ON_TIME, "only {:.3} % of the packets came on time", 100.0 * flooded.on_time);
    let heard = 1.0 - flooded.lost_or_late as f64 / flooded.received.max(1) as f64;
    ensure!(heard >= ON_TIME, "only {:.3} % of the callers' packets were in time", 100.0 * heard);
    let grown = flooded.rss_after_kib.saturating_sub(flooded.rss_before_kib);
    ensure!(grown <= MEMORY_SLACK_KIB, "memory grew by {grown} KiB under the flood");
    Ok(())
}

fn print_table(options: &Options, rate: u32, quiet: &Phase, flooded: &Phase) {
    println!(
        "{} calls, PCMU, both directions, {} s each way; flood asked for {rate}/s",
        options.calls, options.seconds
    );
    let row = |name: &str, figure: &dyn Fn(&Phase) -> String| {
        println!("  {name:<42} {:>14} {:>14}", figure(quiet), figure(flooded));
    };
    let ms = |summary: Option<Summary>, figure: fn(&Summary) -> f64| {
        summary.map_or_else(|| "-".to_owned(), |summary| format!("{:.2}", figure(&summary)))
    };
    row("", &|p| if p.flood_rate > 0.0 { "flood".into() } else { "quiet".into() });
    row("junk sent, datagrams/s", &|p| format!("{:.0}", p.flood_rate));
    row("junk sent in the slowest second", &|p| p.flood_slowest_second.to_string());
    row("calls lost", &|p| p.lost_calls.to_string());
    row("packets to the callers", &|p| p.expected.to_string());
    row("  on time, %", &|p| format!("{:.4}", 100.0 * p.on_time));
    row("  late p50, ms", &|p| ms(p.late, |s| s.p50_ms));
    row("  late p99, ms", &|p| ms(p.late, |s| s.p99_ms));
    row("  late p99.9, ms", &|p| format!("{:.2}", p.late_p999_ms));
    row("  late at most, ms", &|p| ms(p.late, |s| s.max_ms));
    row("  apart p50, ms", &|p| ms(p.apart, |s| s.p50_ms));
    row("  apart p99, ms", &|p| ms(p.apart, |s| s.p99_ms));
    row("  apart at most, ms", &|p| ms(p.apart, |s| s.max_ms));
    row("packets from the callers", &|p| p.received.to_string());
    row("  lost or late", &|p| p.lost_or_late.to_string());
    row("  frames concealed", &|p| p.concealed.to_string());
    row("extra calls made and ended", &|p| p.extra_calls.to_string());
    row("  failed", &|p| p.extra_failed.to_string());
    row("  set up p50, ms", &|p| ms(p.setup, |s| s.p50_ms));
    row("  set up at most, ms", &|p| ms(p.setup, |s| s.max_ms));
    row("resident memory before, MiB", &|p| format!("{:.1}", p.rss_before_kib as f64 / 1024.0));
    row("resident memory after, MiB", &|p| format!("{:.1}", p.rss_after_kib as f64 / 1024.0));
    row("SIP thread, cores", &|p| format!("{:.3}", p.sip_cores));
    row("media thread, cores", &|p| format!("{:.3}", p.media_cores));
    row("whole daemon, cores", &|p| format!("{:.3}", p.daemon_cores));
    row("the flood's own thread, cores", &|p| format!("{:.3}", p.flood_cores));
    row("tick late at most so far, us", &|p| p.tick_lateness_max_us.to_string());
    for name in flooded.dropped.keys() {
        row(name, &|p| p.dropped.get(name).copied().unwrap_or_default().to_string());
    }
}
