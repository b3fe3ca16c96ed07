//! What each kind of turn showed, beside each other, and the goals.

use anyhow::{Result, ensure};
use mr_sip_benches::callers::{Extra, Steadiness};
use mr_sip_benches::histogram::Summary;
use mr_sip_benches::process::Scheduling;
use serde_json::{Value, json};

use super::Counted;
use super::Options;
use super::pings::RoundTrips;
use super::subscribers::Told;

/// A command is to come back within this, 99 times of 100.
const COMMAND_GOAL_MS: f64 = 2.0;
/// Packets are to leave no later with subscribers than without, beyond this.
const DELAY_GOAL_US: f64 = 1.0;
/// The reader that got the fewest events got this share of what the one with the most got, at least: they do not connect
/// at the same moment.
const ALIKE: f64 = 0.98;
/// A mean that is so many times its standard error is hardly chance: 1 % or less from ten rounds on.
const SURE: f64 = 2.8;

/// Who subscribes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody.
    #[default]
    Nobody,
    /// Clients that read.
    Readers,
    /// Nobody; as much as clients get is told by somebody else to somebody else.
    Strangers,
    /// Clients that read, and one that does not.
    AndOneMute,
}

impl Kind {
    /// How many kinds there are.
    pub(crate) const COUNT: usize = 4;
    /// In the order of a round: what clients get is needed for the strangers.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Nobody, Self::Readers, Self::Strangers, Self::AndOneMute];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody subscribed",
            Self::Readers => "subscribers",
            Self::Strangers => "strangers",
            Self::AndOneMute => "and one mute",
        }
    }
}

/// What all turns of one kind showed.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) seconds: f64,
    command_ms: Vec<f64>,
    echo_ms: Vec<f64>,
    sizes: (usize, usize),
    /// How late each packet came, microseconds.
    late_us: Vec<f64>,
    /// The same, the middle of each turn.
    turns_late_us: Vec<f64>,
    /// How far each time between two packets was from 20 ms, microseconds.
    uneven_us: Vec<f64>,
    packets: u64,
    /// How long subscribers read, the turns' beginnings included.
    told_seconds: f64,
    events: u64,
    bytes: u64,
    fewest: u64,
    most: u64,
    lost_subscribers: usize,
    /// How long after each of its connections the mute one was cut off, turn by turn.
    mute_gone_after_s: Vec<Vec<f64>>,
    mute_asked: u64,
    ticks: f64,
    late_ticks: f64,
    skipped_ticks: f64,
    overruns: f64,
    busy_ms: f64,
    /// What a tick took on average, of each turn, microseconds.
    turns_tick_us: Vec<f64>,
    /// Time on a processor, going to sleep and waking included.
    turns_ran_us: Vec<f64>,
    /// Time that the thread was ready and waited for a processor.
    turns_waited_us: Vec<f64>,
    lost_calls: usize,
    extra_calls: usize,
    extra_failed: usize,
    control: Scheduling,
    media: Scheduling,
    feeder_seconds: f64,
    realtime: String,
}

impl Figures {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    pub(crate) fn add_trips(&mut self, trips: RoundTrips) {
        self.command_ms.extend(trips.command_ms);
        self.echo_ms.extend(trips.echo_ms);
        self.sizes = trips.sizes;
    }

    pub(crate) fn add_packets(&mut self, steady: &Steadiness) {
        let late: Vec<f64> = steady.late_ms.iter().map(|ms| ms * 1e3).collect();
        self.turns_late_us.push(quantile(&late, 0.5));
        self.late_us.extend(late);
        self.uneven_us.extend(steady.apart_ms.iter().map(|ms| (ms - 20.0).abs() * 1e3));
        self.packets += steady.expected;
    }

    pub(crate) fn add_told(&mut self, told: &Told) {
        self.told_seconds += told.lasted.as_secs_f64();
        self.events += told.events;
        self.bytes += told.bytes;
        self.fewest += told.fewest;
        self.most += told.most;
        self.lost_subscribers += told.lost;
        if let Some(mute) = &told.mute {
            self.mute_gone_after_s.push(mute.gone_after.iter().map(std::time::Duration::as_secs_f64).collect());
            self.mute_asked += mute.asked;
        }
    }

    pub(crate) fn add_extra(&mut self, extra: &Extra, lost_calls: usize) {
        self.lost_calls += lost_calls;
        self.extra_calls += extra.setup_ms.len();
        self.extra_failed += extra.failed;
    }

    /// What came between the two ends of a turn.
    pub(crate) fn add_counted(&mut self, before: &Counted, after: &Counted) {
        let more = |name: &str| after.figure(name) - before.figure(name);
        let (ticks, busy_ms) = (more("ticks"), more("busy_ms"));
        let (control, media) = (after.control.since(&before.control), after.media.since(&before.media));
        self.seconds += (after.at - before.at).as_secs_f64();
        self.ticks += ticks;
        self.late_ticks += more("late_ticks");
        self.skipped_ticks += more("skipped_ticks");
        self.overruns += more("overruns");
        self.busy_ms += busy_ms;
        self.turns_tick_us.push(1e3 * busy_ms / ticks.max(1.0));
        self.turns_ran_us.push(1e6 * media.ran.as_secs_f64() / ticks.max(1.0));
        self.turns_waited_us.push(1e6 * media.waited.as_secs_f64() / ticks.max(1.0));
        self.control.join(&control);
        self.media.join(&media);
        self.feeder_seconds += after.feeder.saturating_sub(before.feeder).as_secs_f64();
        self.realtime = after.engine.get("realtime").map(ToString::to_string).unwrap_or_default();
    }

    /// What a tick took on average, microseconds.
    fn tick_us(&self) -> f64 {
        1e3 * self.busy_ms / self.ticks.max(1.0)
    }

    /// This time, shared by all ticks, microseconds.
    fn per_tick_us(&self, time: std::time::Duration) -> f64 {
        1e6 * time.as_secs_f64() / self.ticks.max(1.0)
    }

    fn told_a_second(&self, count: u64) -> f64 {
        if self.told_seconds > 0.0 { count as f64 / self.told_seconds } else { 0.0 }
    }

    fn cut_offs(&self) -> usize {
        self.mute_gone_after_s.iter().map(Vec::len).sum()
    }
}

/// How much more a figure was in turns of one kind than in those of another: the mean over the rounds, each turn against the
/// other of its own round, when the machine was as busy.
#[derive(Debug, Clone, Copy)]
struct More {
    mean: f64,
    /// The standard error of the mean; infinite with a single round.
    error: f64,
}

impl More {
    fn of(turns: &[f64], others: &[f64]) -> Self {
        let more: Vec<f64> = turns.iter().zip(others).map(|(ours, theirs)| ours - theirs).collect();
        let count = more.len() as f64;
        let mean = more.iter().sum::<f64>() / count.max(1.0);
        let squares: f64 = more.iter().map(|value| (value - mean).powi(2)).sum();
        let error = if count > 1.0 { (squares / (count - 1.0) / count).sqrt() } else { f64::INFINITY };
        Self { mean, error }
    }

    /// Whether it is more, and hardly by chance.
    fn is_sure(self) -> bool {
        self.mean > SURE * self.error
    }
}

impl std::fmt::Display for More {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:+.1} +- {:.1}", self.mean, self.error)
    }
}

/// This share of the values is no larger.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

pub(crate) fn print(options: &Options, kinds: &[Figures; Kind::COUNT]) {
    let [quiet, ..] = kinds;
    println!(
        "{} calls, PCMU, both directions; {} subscribers; {} turns of {} s each; media threads: {}",
        options.calls, options.subscribers, options.rounds, options.seconds, quiet.realtime
    );
    println!("command of {} bytes, answer of {}", quiet.sizes.0, quiet.sizes.1);
    let row = |name: &str, figure: &dyn Fn(&Figures) -> String| {
        let cells: Vec<String> = kinds.iter().map(|kind| format!("{:>26}", figure(kind))).collect();
        println!("  {name:<46} {}", cells.join(" "));
    };
    let more = |of: fn(&Figures) -> &[f64]| move |k: &Figures| More::of(of(k), of(quiet)).to_string();
    row("", &|k| k.kind.name().to_owned());
    row("commands, echoes", &|k| format!("{}, {}", k.command_ms.len(), k.echo_ms.len()));
    row("command p50 / p99 / p99.9 / max, ms", &|k| spread(&k.command_ms, 3));
    row("bare echo p50 / p99 / p99.9 / max, ms", &|k| spread(&k.echo_ms, 3));
    row("events told, a second", &|k| format!("{:.0}", k.told_a_second(k.events)));
    row("  MiB a second", &|k| format!("{:.2}", k.told_a_second(k.bytes) / 1_048_576.0));
    row("  fewest, most of one reader", &|k| format!("{}, {}", k.fewest, k.most));
    row("  readers disconnected", &|k| k.lost_subscribers.to_string());
    row("the mute one: requests, cut off", &|k| format!("{}, {}", k.mute_asked, k.cut_offs()));
    row("  after p50 / p99 / p99.9 / max, s", &|k| spread(&k.mute_gone_after_s.concat(), 2));
    row("packets at the far end", &|k| k.packets.to_string());
    row("  late p50 / p99 / p99.9 / max, us", &|k| spread(&k.late_us, 1));
    row("    p50, more than nobody's of the round", &more(|k| &k.turns_late_us));
    row("  off 20 ms p50 / p99 / p99.9 / max, us", &|k| spread(&k.uneven_us, 1));
    row("media ticks", &|k| k.ticks.to_string());
    row("  late, skipped, overrun", &|k| format!("{}, {}, {}", k.late_ticks, k.skipped_ticks, k.overruns));
    row("  mean length, us", &|k| format!("{:.1}", k.tick_us()));
    row("    more than nobody's of the round", &more(|k| &k.turns_tick_us));
    row("  on a processor, us a tick", &|k| format!("{:.1}", k.per_tick_us(k.media.ran)));
    row("    more than nobody's of the round", &more(|k| &k.turns_ran_us));
    row("  ready and waiting for one, us a tick", &|k| format!("{:.1}", k.per_tick_us(k.media.waited)));
    row("    more than nobody's of the round", &more(|k| &k.turns_waited_us));
    row("  media thread: slept, was preempted, a second", &|k| switches(&k.media, k.seconds));
    row("  media threads, cores", &|k| format!("{:.3}", k.media.ran.as_secs_f64() / k.seconds));
    row("control thread, cores", &|k| format!("{:.3}", k.control.ran.as_secs_f64() / k.seconds));
    row("  slept, was preempted, a second", &|k| switches(&k.control, k.seconds));
    row("whoever feeds strangers, cores", &|k| format!("{:.3}", k.feeder_seconds / k.seconds));
    row("calls lost", &|k| k.lost_calls.to_string());
    row("extra calls, failed", &|k| format!("{}, {}", k.extra_calls, k.extra_failed));
    print_goals(kinds);
    println!("{}", whose(kinds));
}

fn spread(values: &[f64], digits: usize) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    [0.5, 0.99, 0.999, 1.0].map(|share| format!("{:.*}", digits, quantile(values, share))).join(" / ")
}

fn switches(scheduling: &Scheduling, seconds: f64) -> String {
    format!("{:.0}, {:.1}", scheduling.voluntary as f64 / seconds, scheduling.involuntary as f64 / seconds)
}

fn print_goals(kinds: &[Figures; Kind::COUNT]) {
    let [quiet, others @ ..] = kinds;
    let verdict = |met: bool| if met { "met" } else { "MISSED" };
    for kind in kinds {
        let p99 = quantile(&kind.command_ms, 0.99);
        let name = kind.kind.name();
        println!(
            "goal, {name}: command p99 {p99:.3} ms, below {COMMAND_GOAL_MS} ms: {}",
            verdict(p99 < COMMAND_GOAL_MS)
        );
    }
    // what turns of one and the same kind differ by is the machine's doing, and less than that says nothing
    let turns = &quiet.turns_late_us;
    let spread = quantile(turns, 1.0) - quantile(turns, 0.0);
    for kind in others {
        let more = quantile(&kind.late_us, 0.5) - quantile(&quiet.late_us, 0.5);
        let verdict = if turns.len() < 2 || spread > DELAY_GOAL_US {
            format!("cannot be told here, nobody's own {} turns differ by {spread:.1} us", turns.len())
        } else {
            verdict(more <= DELAY_GOAL_US).to_owned()
        };
        println!(
            "goal, {}: packets {more:+.1} us later (p50) than with nobody, at most {DELAY_GOAL_US}: {verdict}",
            kind.kind.name()
        );
    }
}

/// Whether it is the daemon or the machine that makes a tick longer when there are subscribers.
fn whose(kinds: &[Figures; Kind::COUNT]) -> String {
    let [quiet, readers, strangers, _] = kinds;
    let with = More::of(&readers.turns_tick_us, &quiet.turns_tick_us);
    let without = More::of(&strangers.turns_tick_us, &quiet.turns_tick_us);
    let own = More::of(&readers.turns_tick_us, &strangers.turns_tick_us);
    let verdict = if !with.is_sure() {
        "that it is more with subscribers cannot be told from chance here"
    } else if own.is_sure() {
        "more than the machine explains: look at the daemon"
    } else if without.is_sure() {
        "it is the machine that is shared: strangers do as much"
    } else {
        "whose it is cannot be told here"
    };
    format!(
        "whose: a media tick takes {with} us more with subscribers, {without} with strangers; with subscribers {own} more than with strangers: {verdict}"
    )
}

pub(crate) fn to_json(options: &Options, kinds: &[Figures; Kind::COUNT]) -> Value {
    let scheduling = |s: &Scheduling| {
        json!({
            "ran_s": s.ran.as_secs_f64(), "waited_s": s.waited.as_secs_f64(),
            "voluntary": s.voluntary, "involuntary": s.involuntary,
        })
    };
    let of = |k: &Figures| {
        let tail = |values: &[f64]| quantile(values, 0.999);
        let spread = |values: &[f64]| [0.5, 0.99, 0.999, 1.0].map(|share| quantile(values, share));
        json!({
            "kind": k.kind.name(), "seconds": k.seconds,
            "command": Summary::of(&k.command_ms), "command_p999_ms": tail(&k.command_ms),
            "echo": Summary::of(&k.echo_ms), "echo_p999_ms": tail(&k.echo_ms),
            "told_s": k.told_seconds, "events": k.events, "bytes": k.bytes, "fewest": k.fewest, "most": k.most,
            "lost_subscribers": k.lost_subscribers, "mute_gone_after_s": k.mute_gone_after_s, "mute_asked": k.mute_asked,
            "packets": k.packets, "turns_late_p50_us": k.turns_late_us,
            "late_us": spread(&k.late_us),
            "uneven_us": spread(&k.uneven_us),
            "ticks": k.ticks, "late_ticks": k.late_ticks, "skipped_ticks": k.skipped_ticks, "overruns": k.overruns,
            "tick_us": k.tick_us(), "turns_tick_us": k.turns_tick_us, "turns_ran_us": k.turns_ran_us, "turns_waited_us": k.turns_waited_us,
            "media": scheduling(&k.media), "control": scheduling(&k.control),
            "feeder_cores": k.feeder_seconds / k.seconds, "lost_calls": k.lost_calls,
            "extra_calls": k.extra_calls, "extra_failed": k.extra_failed,
        })
    };
    json!({ "calls": options.calls, "subscribers": options.subscribers, "kinds": kinds.iter().map(of).collect::<Vec<_>>() })
}

/// Fails when something was lost, or commands came back too late. Packets' times are the machine's too, and only shown.
pub(crate) fn judge(kinds: &[Figures; Kind::COUNT]) -> Result<()> {
    for kind in kinds {
        let name = kind.kind.name();
        ensure!(kind.lost_calls == 0, "{name}: {} calls were lost", kind.lost_calls);
        ensure!(kind.extra_failed == 0, "{name}: {} calls could not be made", kind.extra_failed);
        ensure!(kind.lost_subscribers == 0, "{name}: {} readers were disconnected", kind.lost_subscribers);
        let alike = kind.fewest as f64 >= ALIKE * kind.most as f64;
        ensure!(alike, "{name}: a reader got {} events of {}", kind.fewest, kind.most);
        let uncut = kind.mute_gone_after_s.iter().filter(|turn| turn.is_empty()).count();
        ensure!(uncut == 0, "{name}: in {uncut} turns the one that never reads was not cut off");
        let p99 = quantile(&kind.command_ms, 0.99);
        ensure!(p99 < COMMAND_GOAL_MS, "{name}: commands took {p99:.3} ms (p99), more than {COMMAND_GOAL_MS}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_every_round_has_is_sure_and_one_that_comes_and_goes_is_not() {
        let quiet = [200.0, 240.0, 210.0, 260.0];
        let more = More::of(&quiet.map(|us| us + 10.0), &quiet);
        assert!((more.mean - 10.0).abs() < 1e-9 && more.error < 1e-9 && more.is_sure());
        let unsure = More::of(&[230.0, 220.0, 240.0, 250.0], &quiet);
        assert!((unsure.mean - 7.5).abs() < 1e-9 && !unsure.is_sure(), "{unsure}");
        assert!(!More::of(&[300.0], &[200.0]).is_sure(), "one round says nothing");
    }
}
