//! How far the recogniser is behind, and what follows: partials are given up first, then new calls; finals never.
//!
//! Pure: it is told when jobs begin and end, and what waits.

use std::time::{Duration, Instant};

/// Busy time is forgotten with this time constant.
const MEMORY: Duration = Duration::from_secs(5);
/// A final or eager that waits longer than this: the workers have nothing to spare for partials.
const NO_PARTIALS_WAIT: Duration = Duration::from_millis(300);
/// With so much of the workers' time in finals and eagers, partials would make them wait.
const NO_PARTIALS_BUSY: f32 = 0.75;
/// A final or eager that waits longer than this is late for a conversation: no further caller is wanted.
const FULL_WAIT: Duration = Duration::from_millis(1_500);
/// With so much of the workers' time in finals and eagers the next call's would make queues grow without end.
const FULL_BUSY: f32 = 0.95;
/// Where a level was entered it is left only this far below, and after this time.
const RETURN_SHARE: f32 = 0.7;
const RETURN_AFTER: Duration = Duration::from_secs(2);

/// What the recogniser can still take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LoadLevel {
    /// Everything.
    #[default]
    Free,
    /// Finals and eagers; partials are not computed.
    NoPartials,
    /// The calls that are up, and no others.
    Full,
}

impl std::fmt::Display for LoadLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Free => "free",
            Self::NoPartials => "no_partials",
            Self::Full => "full",
        })
    }
}

/// The recogniser's load at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct EarsLoad {
    /// What it can still take.
    pub level: LoadLevel,
    /// Recogniser threads.
    pub workers: usize,
    /// Share of their time that went into finals and eagers lately, 0 to 1.
    pub busy: f32,
    /// Jobs that wait.
    pub waiting: usize,
    /// How long the one that matters most has been waiting.
    pub longest_wait: Duration,
    /// Jobs done since the start: finals, eagers, partials.
    pub done: [u64; 3],
    /// Partials that were dropped before they began, or aborted.
    pub dropped: u64,
}

/// The measurement.
#[derive(Debug)]
pub(crate) struct LoadMeter {
    workers: usize,
    busy: f32,
    at: Instant,
    /// Jobs that matter and are running.
    running: usize,
    level: LoadLevel,
    /// Since when a lower level would do.
    calmer_since: Option<Instant>,
}

impl LoadMeter {
    pub(crate) fn new(workers: usize, now: Instant) -> Self {
        Self { workers, busy: 0.0, at: now, running: 0, level: LoadLevel::Free, calmer_since: None }
    }

    /// A final or eager begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.advance(now);
        self.running += 1;
    }

    /// A final or eager is done, or its worker is lost.
    pub(crate) fn end(&mut self, now: Instant) {
        self.advance(now);
        self.running = self.running.saturating_sub(1);
    }

    /// Share of the workers' time, 0 to 1.
    pub(crate) fn busy(&self) -> f32 {
        self.busy
    }

    /// The level now; `waits` is how long the oldest final or eager has been waiting.
    pub(crate) fn level(&mut self, now: Instant, waits: Duration) -> LoadLevel {
        self.advance(now);
        let waits = waits.as_secs_f32();
        let reached = |share: f32| {
            if waits >= FULL_WAIT.as_secs_f32() * share || self.busy >= FULL_BUSY * share {
                LoadLevel::Full
            } else if waits >= NO_PARTIALS_WAIT.as_secs_f32() * share || self.busy >= NO_PARTIALS_BUSY * share {
                LoadLevel::NoPartials
            } else {
                LoadLevel::Free
            }
        };
        if reached(1.0) >= self.level {
            self.level = reached(1.0);
            self.calmer_since = None;
        } else if reached(RETURN_SHARE) >= self.level {
            self.calmer_since = None;
        } else if now.saturating_duration_since(*self.calmer_since.get_or_insert(now)) >= RETURN_AFTER {
            self.level = reached(RETURN_SHARE);
            self.calmer_since = None;
        }
        self.level
    }

    /// Lets time pass, with what runs.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        let share = (self.running as f32 / self.workers.max(1) as f32).min(1.0);
        let keep = (-passed.as_secs_f32() / MEMORY.as_secs_f32()).exp();
        self.busy = share + (self.busy - share) * keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NONE: Duration = Duration::ZERO;

    /// Every second one job of `busy` seconds on one worker.
    fn work(meter: &mut LoadMeter, now: &mut Instant, seconds: u32, busy: f32) {
        for _ in 0..seconds {
            meter.begin(*now);
            meter.end(*now + SECOND.mul_f32(busy));
            *now += SECOND;
            meter.level(*now, NONE);
        }
    }

    #[test]
    fn busy_is_the_share_of_the_workers_time() {
        let mut now = Instant::now();
        let mut meter = LoadMeter::new(1, now);
        work(&mut meter, &mut now, 60, 0.4);
        assert!((0.3..0.5).contains(&meter.busy()), "{}", meter.busy());
        let mut pair = LoadMeter::new(2, now);
        work(&mut pair, &mut now, 60, 0.4);
        assert!((0.15..0.25).contains(&pair.busy()), "{}", pair.busy());
    }

    #[test]
    fn partials_go_first_then_new_calls_and_both_come_back() {
        let mut now = Instant::now();
        let mut meter = LoadMeter::new(1, now);
        work(&mut meter, &mut now, 30, 0.5);
        assert_eq!(meter.level(now, NONE), LoadLevel::Free);
        work(&mut meter, &mut now, 60, 0.85);
        assert_eq!(meter.level(now, NONE), LoadLevel::NoPartials);
        work(&mut meter, &mut now, 60, 1.0);
        assert_eq!(meter.level(now, NONE), LoadLevel::Full);
        work(&mut meter, &mut now, 60, 0.1);
        assert_eq!(meter.level(now, NONE), LoadLevel::Free);
    }

    #[test]
    fn finals_that_wait_tell_at_once() {
        let now = Instant::now();
        let mut meter = LoadMeter::new(4, now);
        assert_eq!(meter.level(now, Duration::from_millis(299)), LoadLevel::Free);
        assert_eq!(meter.level(now, Duration::from_millis(300)), LoadLevel::NoPartials);
        assert_eq!(meter.level(now, Duration::from_millis(1_500)), LoadLevel::Full);
    }

    #[test]
    fn a_level_does_not_flutter() {
        let mut now = Instant::now();
        let mut meter = LoadMeter::new(1, now);
        meter.level(now, Duration::from_millis(1_500));
        let mut changes = 0;
        let mut last = LoadLevel::Full;
        for step in 0..1_000 {
            now += Duration::from_millis(100);
            // to and fro about the threshold
            let level = meter.level(now, Duration::from_millis(if step % 2 == 0 { 1_450 } else { 1_550 }));
            changes += u32::from(level != last);
            last = level;
        }
        assert_eq!(changes, 0);
        now += RETURN_AFTER;
        meter.level(now, NONE);
        assert_eq!(meter.level(now + RETURN_AFTER, NONE), LoadLevel::Free);
    }
}
