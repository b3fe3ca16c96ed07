//! Whether this machine kept time while the demo ran.
//!
//! The demo is often the first thing that runs on a small, shared or still busy machine. Where that machine lets threads
//! wait for tens of milliseconds, a piece of an answer goes missing at the caller, at jackd or here, and none of the
//! three could help it. The verdict must tell that from a fault of ours.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use control::types::Status;

/// How long the watching thread sleeps each time: a tick of the engine.
const NAP: Duration = Duration::from_millis(5);
/// A packet's length. Who wakes later than this has missed one; baresip, with two to six packets in hand, soon does.
const LATE: Duration = Duration::from_millis(20);

/// A thread of ordinary priority, like the caller's, that sees how late it is woken.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Watch {
    pub(super) fn start() -> std::io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = thread::Builder::new().name("demo-watch".to_owned()).spawn(move || {
            let mut worst = Duration::ZERO;
            while !seen.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(NAP);
                worst = worst.max(began.elapsed().saturating_sub(NAP));
            }
            worst
        })?;
        Ok(Self { over, thread })
    }

    /// What was seen until now, together with what the daemon says of its own threads and of jackd.
    pub(super) fn stop(self, status: Option<&Status>) -> Strain {
        self.over.store(true, Ordering::Relaxed);
        let threads = status.iter().flat_map(|status| &status.media_threads);
        Strain {
            woken_late: self.thread.join().unwrap_or_default(),
            jack_xruns: status.and_then(|status| status.jack.get("xruns")?.as_u64()).unwrap_or(0),
            tick_late: Duration::from_micros(threads.map(|thread| thread.latest_start_us).max().unwrap_or(0)),
        }
    }
}

/// What this machine did to the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Strain {
    /// How late a thread of ordinary priority was woken at worst.
    pub woken_late: Duration,
    /// Periods that jackd missed.
    pub jack_xruns: u64,
    /// How late a tick of the engine began at worst.
    pub tick_late: Duration,
}

impl Strain {
    /// Whether that alone can have cost a piece of what was said.
    pub(super) fn costs_audio(&self) -> bool {
        self.jack_xruns > 0 || self.woken_late > LATE || self.tick_late > LATE
    }
}

impl fmt::Display for Strain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a thread of ordinary priority was woken up to {} ms late, a tick of the engine up to {} ms, and JACK missed {} periods",
            self.woken_late.as_millis(),
            self.tick_late.as_millis(),
            self.jack_xruns
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_keeps_time_is_no_excuse() {
        let quiet = Strain { woken_late: Duration::from_millis(3), jack_xruns: 0, tick_late: Duration::from_millis(2) };
        assert!(!quiet.costs_audio());
        assert!(Strain { jack_xruns: 1, ..quiet }.costs_audio());
        assert!(Strain { woken_late: Duration::from_millis(21), ..quiet }.costs_audio());
        assert!(Strain { tick_late: Duration::from_millis(21), ..quiet }.costs_audio());
    }

    #[test]
    fn the_watch_ends_when_it_is_told() {
        let strain = Watch::start().unwrap().stop(None);
        assert_eq!((strain.jack_xruns, strain.tick_late), (0, Duration::ZERO));
    }
}
