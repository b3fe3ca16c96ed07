//! How long packets must wait so that the slower ones are in time.
//!
//! Every packet has a *transit*: its arrival minus its timestamp, both in samples. Only differences of transits mean
//! anything, so they are measured against the fastest packet of the last seconds, the *base*. The waiting time asked for
//! is a high percentile of these differences, with the past forgotten exponentially.
//!
//! A percentile knows nothing of what is rare: a network that stands still for 100 ms every few seconds (a wireless link that
//! looks for another cell, a queue that fills) makes 3 % of the packets late, and every one of these times is heard. So
//! packets that come later than the percentile provides for are remembered as *peaks*; what has happened twice within some
//! seconds will happen again, and is waited for.
//!
//! Measured on a schedule, and not by how full the buffer is, so a burst or a gap does not look like a change of delay.

use crate::clock::Time;

/// Share of the packets that should be in time. The others are played late: the delay gives way for them.
const PERCENTILE: f32 = 0.97;
/// Memory of the distribution, in samples: 2.4 s. A burst that is over has lost its say (under 3 %) after 8.5 s, so the
/// delay is back at its base within 10 s (case 30).
const MEMORY: f32 = 19_200.0;
/// Width of a bin: 5 ms, the grid on which packets are used.
const BIN: f64 = 40.0;
/// Up to 500 ms are told apart.
const BINS: usize = 100;
/// What the delay is before anything is known: bin 5, so 30 ms and the grid.
const FIRST_BIN: usize = 5;
/// Bins are written down with their factor before it gets so small that sums lose digits.
const LEAST_SCALE: f32 = 1e-3;
/// The base is the smallest transit of six windows of 2 s: long enough to contain a fast packet, short enough to follow
/// two clocks that drift apart by 200 ppm (2.4 ms in 12 s, case 47).
const WINDOWS: usize = 6;
const WINDOW_SAMPLES: f64 = 16_000.0;

/// The delay that is asked for is kept within this: 0.5 ms. Packets that use up more than the rest are late.
pub(super) const SLACK: f64 = 4.0;

/// Peaks that are remembered.
const PEAKS: usize = 8;
/// How long a peak is remembered: as long as case 30 leaves, with the time in which the delay is taken back: 8 s.
const PEAK_MEMORY: f64 = 64_000.0;
/// Late packets within 400 ms belong to one peak.
const PEAK_LENGTH: f64 = 3_200.0;

/// A time when packets were later than was provided for.
#[derive(Debug, Clone, Copy)]
struct Peak {
    began: f64,
    /// The latest packet's delay above the base.
    height: f64,
}

/// None: so long ago that it is forgotten.
const NO_PEAK: Peak = Peak { began: f64::NEG_INFINITY, height: 0.0 };

#[derive(Debug)]
#[repr(C)] // what every packet needs lies together; of the bins the first few are in use
pub(super) struct DelayEstimator {
    minima: [f64; WINDOWS],
    window_ends: f64,
    /// The base that the bins are counted from.
    reference: f64,
    /// What follows from all that, reckoned with every packet.
    usual: f64,
    target: f64,
    packets: u32,
    /// A bin's share of the packets is what it holds times this.
    scale: f32,
    bins: [f32; BINS],
    /// The newest first.
    peaks: [Peak; PEAKS],
}

impl DelayEstimator {
    pub(super) fn new() -> Self {
        let mut bins = [0.0; BINS];
        bins[FIRST_BIN] = 1.0;
        let first = up_to(FIRST_BIN);
        Self {
            minima: [f64::INFINITY; WINDOWS],
            window_ends: 0.0,
            reference: f64::INFINITY,
            usual: first,
            target: first,
            packets: 0,
            scale: 1.0,
            bins,
            peaks: [NO_PEAK; PEAKS],
        }
    }

    /// The stream's clock jumped: transits start anew, what is known of their spread stays.
    pub(super) fn restart(&mut self) {
        self.minima = [f64::INFINITY; WINDOWS];
        self.reference = f64::INFINITY;
    }

    /// Takes a packet of so many samples into account.
    pub(super) fn update(&mut self, arrival: Time, timestamp: i64, samples: usize) {
        let now = arrival.as_samples_8k();
        let transit = now - timestamp as f64;
        if self.reference.is_infinite() {
            self.window_ends = now + WINDOW_SAMPLES;
            self.reference = transit;
        }
        if now >= self.window_ends {
            self.minima.rotate_right(1);
            self.minima[0] = f64::INFINITY;
            self.window_ends = now + WINDOW_SAMPLES;
        }
        self.minima[0] = self.minima[0].min(transit);
        self.follow_base();

        let late = transit - self.base();
        self.note_peak(now, late);
        let bin = bin_of(late);
        self.packets = self.packets.saturating_add(1);
        let weight = (samples as f32 / MEMORY).max(1.0 / (self.packets as f32 + 1.0)).min(0.5);
        // all bins fade, which one factor for all of them says as well
        self.scale *= 1.0 - weight;
        if self.scale < LEAST_SCALE {
            self.bins.iter_mut().for_each(|bin| *bin *= self.scale);
            self.scale = 1.0;
        }
        self.bins[bin] += weight / self.scale;
        self.usual = up_to(self.percentile());
        self.target = self.usual.max(self.repeated_peak(now));
    }

    /// Remembers a packet that the percentile does not provide for.
    fn note_peak(&mut self, now: f64, late: f64) {
        if late <= self.usual - BIN - SLACK {
            return;
        }
        if now - self.peaks[0].began >= PEAK_LENGTH {
            self.peaks.rotate_right(1);
            self.peaks[0] = Peak { began: now, height: late };
        } else {
            self.peaks[0].height = self.peaks[0].height.max(late);
        }
    }

    /// What the second highest of the remembered peaks asks for: one alone may never come again.
    fn repeated_peak(&self, now: f64) -> f64 {
        let (mut highest, mut second) = (0.0, 0.0);
        for peak in self.peaks.iter().filter(|peak| now - peak.began < PEAK_MEMORY) {
            if peak.height > highest {
                (highest, second) = (peak.height, highest);
            } else if peak.height > second {
                second = peak.height;
            }
        }
        if second > 0.0 { up_to(bin_of(second + SLACK)) } else { 0.0 }
    }

    /// The fastest transit that is remembered.
    pub(super) fn base(&self) -> f64 {
        self.minima.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// How long after the fastest packet's arrival a sample should be played, in samples.
    pub(super) fn target(&self) -> f64 {
        self.target
    }

    fn percentile(&self) -> usize {
        let mut seen = 0.0;
        for (bin, held) in self.bins.iter().enumerate() {
            seen += held * self.scale;
            if seen >= PERCENTILE {
                return bin;
            }
        }
        BINS - 1
    }

    /// Shifts the bins by whole steps when the base has moved.
    fn follow_base(&mut self) {
        let steps = ((self.reference - self.base()) / BIN).trunc().clamp(-(BINS as f64), BINS as f64);
        if steps == 0.0 {
            return;
        }
        self.reference -= steps * BIN;
        let shift = steps.abs() as usize;
        let mut moved = [0.0; BINS];
        for (index, share) in self.bins.iter().enumerate() {
            let to = if steps > 0.0 { index.saturating_add(shift) } else { index.saturating_sub(shift) };
            moved[to.min(BINS - 1)] += share;
        }
        self.bins = moved;
    }
}

fn bin_of(late: f64) -> usize {
    (late / BIN).clamp(0.0, (BINS - 1) as f64) as usize
}

/// The delay with which the packets of a bin are in time: its upper edge, and the grid.
fn up_to(bin: usize) -> f64 {
    (bin + 2) as f64 * BIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(estimator: &mut DelayEstimator, packets: std::ops::Range<u32>, mut delay_ms: impl FnMut(u32) -> u32) {
        for n in packets {
            let arrival = Time::from_nanos(u64::from(1_000 + n * 20 + delay_ms(n)) * 1_000_000);
            estimator.update(arrival, i64::from(n) * 160, 160);
        }
    }

    fn target_ms(estimator: &DelayEstimator) -> f64 {
        estimator.target() / 8.0
    }

    #[test]
    fn a_steady_stream_needs_10_ms_and_an_uneven_one_its_spread() {
        let mut estimator = DelayEstimator::new();
        feed(&mut estimator, 0..200, |_| 50);
        assert!((target_ms(&estimator) - 10.0).abs() < 0.1);
        let mut random = fastrand::Rng::with_seed(1);
        feed(&mut estimator, 200..1000, |_| 50 + random.u32(0..100));
        assert!((95.0..115.0).contains(&target_ms(&estimator)), "{}", target_ms(&estimator));
    }

    #[test]
    fn it_is_back_at_the_base_10_s_after_300_ms_of_jitter() {
        // case 30
        let mut estimator = DelayEstimator::new();
        let mut random = fastrand::Rng::with_seed(2);
        feed(&mut estimator, 0..500, |_| random.u32(0..300));
        assert!(target_ms(&estimator) > 280.0);
        feed(&mut estimator, 500..1000, |_| 0);
        assert!(target_ms(&estimator) <= 15.0, "{}", target_ms(&estimator));
    }

    #[test]
    fn what_stood_still_twice_is_waited_for_and_once_is_not() {
        let mut estimator = DelayEstimator::new();
        // a packet is held up for 300 ms, and those behind it until then
        let stall = |at: u32| move |n: u32| if (at..at + 15).contains(&n) { 300 - (n - at) * 20 } else { n % 2 };
        feed(&mut estimator, 0..200, |_| 0);
        feed(&mut estimator, 200..500, stall(200));
        assert!(target_ms(&estimator) <= 15.0, "{}", target_ms(&estimator));
        feed(&mut estimator, 500..700, stall(500));
        assert!(target_ms(&estimator) <= 15.0, "{}: more than 8 s lie between", target_ms(&estimator));
        for round in 0..10 {
            let at = 700 + round * 150;
            feed(&mut estimator, at..at + 150, stall(at));
            assert!((300.0..315.0).contains(&target_ms(&estimator)), "{}", target_ms(&estimator));
        }
        feed(&mut estimator, 2_200..2_550, |n| n % 2);
        assert!(target_ms(&estimator) <= 15.0, "forgotten after 8 s: {}", target_ms(&estimator));
    }

    #[test]
    fn a_faster_path_moves_the_base_and_what_is_known_with_it() {
        let mut estimator = DelayEstimator::new();
        feed(&mut estimator, 0..500, |n| 100 + n % 2 * 20);
        let before = estimator.base();
        feed(&mut estimator, 500..501, |_| 60);
        assert!((before - estimator.base() - 320.0).abs() < 1.0);
        assert!((target_ms(&estimator) - 70.0).abs() <= 5.0, "40 ms more than 30: {}", target_ms(&estimator));
    }

    #[test]
    fn clocks_that_drift_apart_are_followed() {
        // case 47: 200 ppm for ten minutes are 120 ms
        for ppm in [-200.0, 200.0] {
            let mut estimator = DelayEstimator::new();
            for n in 0..30_000_i64 {
                let arrival = 1e9 + n as f64 * 20e6 * (1.0 + ppm * 1e-6);
                estimator.update(Time::from_nanos(arrival as u64), n * 160, 160);
            }
            assert!(target_ms(&estimator) <= 15.0);
        }
    }
}
