//! Figures: per-call counters that the media thread writes and anybody reads, and the histogram of tick lateness.
//!
//! Counters have one writer and are read by others, so they are relaxed atomics: each figure is exact, a set of them read
//! together may be one packet apart.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::TICK;

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only the one writing thread may call this.
    pub fn add(&self, n: u64) {
        // a load and a store instead of a locked addition: there is one writer
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Puts a value in its place.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A floating-point figure that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// Puts a value in its place.
    pub fn set(&self, value: f32) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }
}

macro_rules! call_figures {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters of one call as the media thread writes them. [`CallStats`] is their readable form.
        #[derive(Debug, Default)]
        #[allow(missing_docs, reason = "each is documented where it is read, in CallStats")]
        pub struct Counters {
            $(pub $name: Counter,)*
            /// See [`CallStats::jitter_ms`].
            pub jitter_ms: Gauge,
            /// See [`CallStats::target_delay_ms`].
            pub target_delay_ms: Gauge,
            /// See [`CallStats::delay_ms`].
            pub delay_ms: Gauge,
            /// See [`CallStats::round_trip_ms`].
            pub round_trip_ms: Gauge,
            /// See [`CallStats::far_loss`].
            pub far_loss: Gauge,
            /// See [`CallStats::far_jitter_ms`].
            pub far_jitter_ms: Gauge,
            /// See [`CallStats::jack_error_ms`].
            pub jack_error_ms: Gauge,
        }

        /// The figures of one call at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        #[non_exhaustive]
        pub struct CallStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Interarrival jitter of RFC 3550 section 6.4.1, in milliseconds.
            pub jitter_ms: f32,
            /// The playout delay that the measured jitter asks for, above the fastest packet, in milliseconds.
            pub target_delay_ms: f32,
            /// The playout delay as it is, above the fastest packet, in milliseconds.
            pub delay_ms: f32,
            /// Round trip by RTCP, in milliseconds; 0: not known.
            pub round_trip_ms: f32,
            /// Share of our packets that the far end last reported lost, 0 to 1.
            pub far_loss: f32,
            /// Jitter of our packets as the far end sees it, in milliseconds.
            pub far_jitter_ms: f32,
            /// How far that one of the three rings to and from JACK is from its set point which is furthest off, in
            /// milliseconds; positive: too full. 0 without JACK.
            pub jack_error_ms: f32,
            /// Estimated mean opinion score, 1 to 4.5 (E-model of ITU-T G.107, simplified; see [`mos`]).
            pub mos: f32,
        }

        impl Counters {
            /// The figures as they are now.
            #[must_use]
            pub fn snapshot(&self) -> CallStats {
                let mut stats = CallStats {
                    $($name: self.$name.get(),)*
                    jitter_ms: self.jitter_ms.get(),
                    target_delay_ms: self.target_delay_ms.get(),
                    delay_ms: self.delay_ms.get(),
                    round_trip_ms: self.round_trip_ms.get(),
                    far_loss: self.far_loss.get(),
                    far_jitter_ms: self.far_jitter_ms.get(),
                    jack_error_ms: self.jack_error_ms.get(),
                    mos: 0.0,
                };
                let gone = stats.lost + stats.late;
                let loss = gone as f32 / (stats.received + stats.lost).max(1) as f32;
                stats.mos = mos(stats.round_trip_ms / 2.0 + stats.delay_ms + 20.0, loss);
                stats
            }
        }
    };
}

call_figures! {
    /// RTP packets of the far end that were taken.
    received,
    /// Their payload bytes.
    received_bytes,
    /// Packets that never came, by the sequence numbers (RFC 3550 appendix A.3).
    lost,
    /// Packets that came when their turn was over.
    late,
    /// Packets that came after one with a higher sequence number.
    reordered,
    /// Packets that had come before.
    duplicates,
    /// Samples invented for missing packets.
    concealed_samples,
    /// Samples of missing packets that came with the packets after them (Opus).
    recovered_samples,
    /// Stretches of samples invented.
    concealments,
    /// Samples taken out to shorten the delay.
    shrunk_samples,
    /// Samples put in to lengthen the delay.
    grown_samples,
    /// Times the stream was started anew: another SSRC, or a jump of sequence numbers or timestamps (case 28).
    resyncs,
    /// Datagrams that are no RTP, or of a payload type that was not agreed on (cases 2 and 29).
    bad_packets,
    /// Datagrams from a source that is not the call's far end (cases 21 and 22).
    foreign_packets,
    /// Encrypted packets whose tag is wrong, and plain ones on a call that is encrypted (case 24).
    srtp_unauthentic,
    /// Encrypted packets that had come before, or whose turn was long over (case 25).
    srtp_replayed,
    /// STUN messages on the media port: keep-alives, or attempts at ICE. They are not answered (case 27).
    stun_packets,
    /// DTLS records on the media port: attempts at DTLS-SRTP. They are not answered (case 26).
    dtls_packets,
    /// Times the far end's address was followed after a change (case 23).
    relatches,
    /// RTP packets sent.
    sent,
    /// Their payload bytes.
    sent_bytes,
    /// Packets the kernel would not take.
    send_failures,
    /// Packets that were not sent since the thread was stalled when they were due (case 43).
    skipped,
    /// Gaps inside a response of the agent's voice.
    underruns,
    /// Their length in samples.
    underrun_samples,
    /// Gaps in files that were played, because the disk was too slow.
    play_underruns,
    /// Samples of silence in these gaps.
    play_underrun_samples,
    /// Telephone keys heard.
    digits_received,
    /// Telephone keys sent.
    digits_sent,
    /// Samples that a full ring kept from the ears or a subscriber.
    tap_lost_samples,
    /// Samples that a full ring kept from the recorder; they are silence in the file.
    record_lost_samples,
    /// Samples on their way to and from JACK that were given up: a full ring, or a surplus after a stall.
    jack_lost_samples,
    /// Samples on their way to and from JACK that were not there in time: silence in their place.
    jack_missing_samples,
    /// Events that found their queue full.
    lost_events,
}

/// The E-model of ITU-T G.107 with everything but delay and loss at its default, for G.711 with concealment: `delay_ms`
/// one way, mouth to ear, and `loss` from 0 to 1. Ie = 0 and Bpl = 25.1 are G.113's figures for G.711 with appendix I
/// concealment; the delay term is the usual two-piece approximation (Cole and Rosenbluth 2001).
#[must_use]
pub fn mos(delay_ms: f32, loss: f32) -> f32 {
    let beyond = (delay_ms - 177.3).max(0.0);
    let delay_impairment = 0.024 * delay_ms + 0.11 * beyond;
    let percent = loss.clamp(0.0, 1.0) * 100.0;
    let loss_impairment = 95.0 * percent / (percent + 25.1);
    let r = (93.2 - delay_impairment - loss_impairment).clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

/// Buckets of the lateness histogram: quarter octaves from 1 us to 16 s.
const BUCKETS: usize = 96;
const BUCKETS_PER_OCTAVE: f32 = 4.0;

/// Where a lateness is counted.
fn bucket(lateness: Duration) -> usize {
    // by nanoseconds, so that a whole number of microseconds is one
    let micros = u64::try_from(lateness.as_nanos()).unwrap_or(u64::MAX) as f32 / 1e3;
    ((micros.max(1.0).log2() * BUCKETS_PER_OCTAVE) as usize).min(BUCKETS - 1)
}

/// How late ticks were: a histogram that one thread writes without waiting and others read.
#[derive(Debug)]
pub struct LatenessHistogram {
    buckets: [Counter; BUCKETS],
    max_ns: Counter,
}

impl Default for LatenessHistogram {
    fn default() -> Self {
        Self { buckets: [const { Counter(AtomicU64::new(0)) }; BUCKETS], max_ns: Counter::default() }
    }
}

impl LatenessHistogram {
    /// Counts one tick.
    pub fn record(&self, lateness: Duration) {
        self.buckets[bucket(lateness)].add(1);
        let nanos = u64::try_from(lateness.as_nanos()).unwrap_or(u64::MAX);
        if nanos > self.max_ns.get() {
            self.max_ns.set(nanos);
        }
    }

    /// The lateness that this share (0 to 1) of the ticks did not exceed; exact to 19 % (a quarter octave).
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let counts: Vec<u64> = self.buckets.iter().map(Counter::get).collect();
        let total: u64 = counts.iter().sum();
        let rank = (share * total as f64).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                let upper_us = 2_f32.powf((bucket + 1) as f32 / BUCKETS_PER_OCTAVE);
                return Duration::from_secs_f32(upper_us * 1e-6).min(self.max());
            }
        }
        Duration::ZERO
    }

    /// Ticks that were later than this; exact to a quarter octave.
    #[must_use]
    pub fn beyond(&self, lateness: Duration) -> u64 {
        self.buckets[bucket(lateness)..].iter().map(Counter::get).sum()
    }

    /// The latest tick of all.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns.get())
    }

    /// Ticks counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }
}

/// Figures of one media thread at one moment, since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ThreadStats {
    /// Calls that it has.
    pub calls: usize,
    /// Ticks of 5 ms that it made.
    pub ticks: u64,
    /// Those that began more than 1.024 ms after they were due.
    pub late_starts: u64,
    /// The latest beginning of all.
    pub lateness_max: Duration,
    /// Ticks whose last packet left more than 2 ms after they were due.
    pub late_ticks: u64,
    /// Ticks that were left out after a stall (case 43).
    pub skipped_ticks: u64,
    /// Ticks that were still busy when the next was due.
    pub overruns: u64,
    /// Time spent on ticks.
    pub busy: Duration,
}

impl ThreadStats {
    /// The share of its time that it spent on ticks, 0 to 1.
    #[must_use]
    pub fn load(&self) -> f64 {
        let lasted = TICK.as_secs_f64() * (self.ticks + self.skipped_ticks) as f64;
        if lasted > 0.0 { self.busy.as_secs_f64() / lasted } else { 0.0 }
    }
}

/// Figures of the whole engine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EngineStats {
    /// Ticks of 5 ms that were made, over all media threads.
    pub ticks: u64,
    /// Half of the ticks began no later than this.
    pub tick_lateness_p50: Duration,
    /// 99 of 100 ticks began no later than this.
    pub tick_lateness_p99: Duration,
    /// The latest tick.
    pub tick_lateness_max: Duration,
    /// Ticks that were still busy when the next was due.
    pub overruns: u64,
    /// Ticks whose last packet left more than 2 ms after they were due.
    pub late_ticks: u64,
    /// Ticks that were left out after a stall (case 43).
    pub skipped_ticks: u64,
    /// Time the media threads spent on ticks, all together.
    pub busy: Duration,
    /// Calls that are up.
    pub calls: usize,
    /// Datagrams left in the kernel for the next tick since one tick's share was used up (cases 2 and 17).
    pub deferred_drains: u64,
    /// Events that found their queue full.
    pub lost_events: u64,
    /// Allocations and frees on real-time threads, where the guard is installed (see [`crate::realtime`]).
    pub allocation_violations: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_quarter_octave() {
        let histogram = LatenessHistogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0)] {
            let got = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!((0.99..1.2).contains(&(got / micros)), "{share}: {got}");
        }
        assert_eq!(histogram.max(), Duration::from_micros(1000));
        assert_eq!(histogram.count(), 1000);
        histogram.record(Duration::from_micros(1100));
        let beyond = |micros| histogram.beyond(Duration::from_micros(micros));
        assert_eq!((beyond(0), beyond(512), beyond(1024), beyond(10_000)), (1001, 490, 1, 0));
    }

    #[test]
    fn the_load_of_a_thread_counts_the_ticks_that_it_left_out() {
        let busy = Duration::from_millis(30);
        let stats = ThreadStats { ticks: 9, skipped_ticks: 3, busy, ..ThreadStats::default() };
        assert!((stats.load() - 0.5).abs() < 1e-9, "{}", stats.load());
        assert!(ThreadStats::default().load() < 1e-9);
    }

    #[test]
    fn a_clean_call_scores_as_g711_does_and_loss_and_delay_cost() {
        let clean = mos(60.0, 0.0);
        assert!((4.3..4.45).contains(&clean), "{clean}");
        assert!(mos(60.0, 0.05) < 4.0);
        assert!(mos(400.0, 0.0) < 3.6);
        assert!((1.0..1.5).contains(&mos(1000.0, 1.0)));
    }
}
