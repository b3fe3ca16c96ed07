//! Fixed-ratio sample rate conversion at the edges: speech synthesis and files at any rate into the 8 kHz of a call, a
//! call's 8 kHz out to a subscriber.
//!
//! A windowed sinc in as many phases as the two rates need (for 44.1 -> 8 kHz: 80), so that every sample that comes out
//! is at its exact time; rates that would need very many phases interpolate between 512 of them.
//!
//! What must hold:
//! - The telephone band, up to 0.425 of the lower rate (3.4 kHz of 8), is flat within 0.1 dB, and level and DC are kept.
//! - What would fold into that band is 80 dB down: everything from 4.6 kHz on, for 8 kHz. (Between 3.4 and 4.6 kHz the
//!   filter falls; what folds there stays above 3.4 kHz.)
//! - How the input is cut into pieces makes no difference to a single bit of the output.
//! - `process` allocates nothing. A sample comes out when 24 samples of the lower rate (3 ms at 8 kHz) after it are known;
//!   that is the whole latency, and in the stream itself there is none: the first sample out is of the time of the first in.
//!
//! The libraries were measured first. fixed-resample's FFT preset is 20 dB down at 3.1 kHz for 48 -> 8 kHz and its
//! polynomial presets alias at 0 dB; its `PacketResampler` panics on a resampler whose blocks vary in length. rubato's FFT
//! with a Hann window of 10 ms (what was here before) reaches 65 dB, waits for 10 ms, and takes blocks of a whole second for
//! rates without a common divisor. rubato's sinc reaches the same 87 dB as this, but its output stands up to 1.5 samples
//! beside its time and comes in blocks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Samples of the lower rate on either side that a sample is made of: 87 dB for this window.
const REACH: usize = 24;
/// More phases than this are interpolated between this many: the error is 106 dB down.
const MOST_PHASES: usize = 512;
/// Input samples that are taken at once.
const CHUNK: usize = 1_024;
/// Output samples that are handed over at once.
const BLOCK: usize = 256;
/// Filters that are kept for the next one of the same two rates.
const KEPT: usize = 8;
/// Lowest and highest rate accepted, in Hz: below 4 kHz there is no speech left, above 192 kHz nobody synthesises.
const RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=192_000;

/// Why a [`Resampler`] could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResamplerError {
    /// A rate outside 4 kHz ..= 192 kHz.
    #[error("cannot resample from {from_hz} Hz to {to_hz} Hz: rates from 4000 to 192000 Hz are supported")]
    Rate {
        /// The input rate asked for, in Hz.
        from_hz: u32,
        /// The output rate asked for, in Hz.
        to_hz: u32,
    },
}

/// The filter of two rates.
#[derive(Debug)]
struct Filter {
    /// The output rate over the rates' greatest common divisor: output samples until the phases repeat.
    up: u64,
    /// The same of the input rate.
    down: u64,
    /// Input samples on either side.
    reach: usize,
    /// Phases in the table, without the last one, which is the first one of the next sample.
    phases: usize,
    /// The taps of phase 0, of phase 1, ...; each phase sums up to one.
    taps: Vec<f32>,
}

impl Filter {
    fn new(from_hz: u32, to_hz: u32) -> Self {
        let divisor = divisor(from_hz, to_hz);
        let (up, down) = (u64::from(to_hz / divisor), u64::from(from_hz / divisor));
        let lower = f64::from(to_hz.min(from_hz)) / f64::from(from_hz);
        let reach = (REACH as f64 / lower).ceil() as usize;
        let phases = usize::try_from(up).unwrap_or(MOST_PHASES).min(MOST_PHASES);
        let mut taps = Vec::with_capacity((phases + 1) * 2 * reach);
        let mut row = vec![0.0; 2 * reach];
        for phase in 0..=phases {
            let between = phase as f64 / phases as f64;
            for (n, tap) in row.iter_mut().enumerate() {
                let at = between + (reach - 1) as f64 - n as f64;
                *tap = sinc(at * lower) * blackman_harris(at * lower / REACH as f64);
            }
            let sum: f64 = row.iter().sum();
            taps.extend(row.iter().map(|tap| (tap / sum) as f32));
        }
        Self { up, down, reach, phases, taps }
    }

    /// The filter of two rates, one of the last ones if there is one.
    fn shared(from_hz: u32, to_hz: u32) -> Arc<Self> {
        static LAST: Mutex<VecDeque<(u32, u32, Arc<Filter>)>> = Mutex::new(VecDeque::new());
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., filter)) = last.iter().find(|(from, to, _)| (*from, *to) == (from_hz, to_hz)) {
            return filter.clone();
        }
        let filter = Arc::new(Self::new(from_hz, to_hz));
        last.truncate(KEPT - 1);
        last.push_front((from_hz, to_hz, filter.clone()));
        filter
    }

    /// The output sample that stands `phase / up` after the middle of `samples`, which are twice `reach`.
    fn apply(&self, phase: u64, samples: &[f32]) -> f32 {
        let row = |phase: usize| {
            let at = phase * 2 * self.reach;
            self.taps.get(at..at + 2 * self.reach).unwrap_or_default()
        };
        if self.up == self.phases as u64 {
            return dot(row(usize::try_from(phase).unwrap_or(0)), samples);
        }
        let exact = phase as f64 / self.up as f64 * self.phases as f64;
        let below = exact as usize;
        let share = (exact - below as f64) as f32;
        let (one, other) = (dot(row(below), samples), dot(row(below + 1), samples));
        one + (other - one) * share
    }
}

/// Products summed in eight lanes, which the processor does at once.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a.zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// The four-term window of Harris (1978), for -1 to 1.
fn blackman_harris(x: f64) -> f64 {
    if x.abs() >= 1.0 {
        return 0.0;
    }
    let x = x * std::f64::consts::PI;
    0.358_75 + 0.488_29 * x.cos() + 0.141_28 * (2.0 * x).cos() + 0.011_68 * (3.0 * x).cos()
}

/// A stream of mono `f32` samples from one fixed rate to another.
///
/// The first sample out stands at the time of the first sample in, and after [`flush`](Self::flush) exactly
/// `round(samples_in * to / from)` samples have come out.
///
/// ```
/// use mr_sip_engine::dsp::Resampler;
/// let mut resampler = Resampler::new(24_000, 8_000)?;
/// let mut out = Vec::new();
/// resampler.process(&[0.0; 2_400], |samples| out.extend_from_slice(samples));
/// resampler.flush(|samples| out.extend_from_slice(samples));
/// assert_eq!(out.len(), 800);
/// # Ok::<(), mr_sip_engine::dsp::ResamplerError>(())
/// ```
#[derive(Debug)]
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    /// `None` when the rates are equal: samples pass untouched.
    filter: Option<Arc<Filter>>,
    /// Input samples, the oldest first; the first is the first that the next output sample needs.
    line: Vec<f32>,
    /// Input samples to be passed over before the line goes on: the next output sample is beyond it.
    skip: usize,
    /// How far behind the middle of its input samples the next output sample stands, in units of `1 / up`.
    phase: u64,
    samples_in: u64,
    samples_out: u64,
}

impl Resampler {
    /// Builds a converter from `from_hz` to `to_hz`.
    ///
    /// # Errors
    /// [`ResamplerError::Rate`] for a rate outside 4 kHz ..= 192 kHz.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, ResamplerError> {
        if !RATES_HZ.contains(&from_hz) || !RATES_HZ.contains(&to_hz) {
            return Err(ResamplerError::Rate { from_hz, to_hz });
        }
        let filter = (from_hz != to_hz).then(|| Filter::shared(from_hz, to_hz));
        let room = filter.as_ref().map_or(0, |filter| 2 * filter.reach + CHUNK);
        let mut resampler = Self {
            from_hz,
            to_hz,
            filter,
            line: Vec::with_capacity(room),
            skip: 0,
            phase: 0,
            samples_in: 0,
            samples_out: 0,
        };
        resampler.restart();
        Ok(resampler)
    }

    /// The input rate in Hz.
    pub fn from_hz(&self) -> u32 {
        self.from_hz
    }

    /// The output rate in Hz.
    pub fn to_hz(&self) -> u32 {
        self.to_hz
    }

    /// Input samples that must be known after a sample before it comes out.
    pub fn latency(&self) -> usize {
        self.filter.as_ref().map_or(0, |filter| filter.reach)
    }

    /// Takes any number of samples; `sink` is called with every block that becomes ready (none, one or several).
    pub fn process(&mut self, samples: &[f32], mut sink: impl FnMut(&[f32])) {
        self.samples_in += samples.len() as u64;
        let Some(filter) = self.filter.clone() else {
            self.samples_out += samples.len() as u64;
            if !samples.is_empty() {
                sink(samples);
            }
            return;
        };
        for chunk in samples.chunks(CHUNK) {
            self.take(&filter, chunk, u64::MAX, &mut sink);
        }
    }

    /// Ends the stream: gives out what the filter still holds, so that the total out is
    /// `round(total in * to / from)`, and makes the converter ready for a new stream.
    pub fn flush(&mut self, mut sink: impl FnMut(&[f32])) {
        if let Some(filter) = self.filter.clone() {
            let (from, to) = (u64::from(self.from_hz), u64::from(self.to_hz));
            let total = (self.samples_in * to + from / 2) / from;
            // silence after the end, as much as the last samples look ahead and one more step
            let mut left = filter.reach + self.skip + usize::try_from(filter.down / filter.up).unwrap_or(0) + 2;
            while left > 0 {
                let count = left.min(CHUNK);
                self.take(&filter, &[0.0; CHUNK][..count], total, &mut sink);
                left -= count;
            }
            self.restart();
        }
        self.samples_in = 0;
        self.samples_out = 0;
    }

    /// Takes at most [`CHUNK`] samples, and gives out what becomes ready, up to a total.
    fn take(&mut self, filter: &Filter, mut chunk: &[f32], total: u64, sink: &mut impl FnMut(&[f32])) {
        let skipped = self.skip.min(chunk.len());
        self.skip -= skipped;
        chunk = &chunk[skipped..];
        self.line.extend_from_slice(chunk);
        let mut block = [0.0; BLOCK];
        let (mut filled, mut first) = (0, 0);
        while let Some(samples) = self.line.get(first..first + 2 * filter.reach) {
            if self.samples_out >= total {
                break;
            }
            block[filled] = filter.apply(self.phase, samples);
            self.samples_out += 1;
            filled += 1;
            if filled == BLOCK {
                sink(&block);
                filled = 0;
            }
            let next = self.phase + filter.down;
            first += usize::try_from(next / filter.up).unwrap_or(usize::MAX);
            self.phase = next % filter.up;
        }
        if filled > 0 {
            sink(&block[..filled]);
        }
        let gone = first.min(self.line.len());
        self.skip += first - gone;
        self.line.copy_within(gone.., 0);
        self.line.truncate(self.line.len() - gone);
    }

    /// Silence before the first sample, as much as it looks back.
    fn restart(&mut self) {
        let before = self.filter.as_ref().map_or(0, |filter| filter.reach - 1);
        self.line.clear();
        self.line.resize(before, 0.0);
        (self.skip, self.phase) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    const RATES: [u32; 7] = [11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

    fn tone(hz: f64, rate: u32, seconds: f64) -> Vec<f32> {
        (0..(seconds * f64::from(rate)) as usize)
            .map(|n| (0.5 * (TAU * hz * n as f64 / f64::from(rate)).sin()) as f32)
            .collect()
    }

    fn convert(from: u32, to: u32, samples: &[f32], piece: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut out = Vec::new();
        for part in samples.chunks(piece) {
            resampler.process(part, |block| out.extend_from_slice(block));
        }
        resampler.flush(|block| out.extend_from_slice(block));
        out
    }

    /// Level of the middle of `samples` in dB relative to a tone of amplitude 0.5.
    fn level_db(samples: &[f32]) -> f64 {
        let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
        let power = middle.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / middle.len() as f64;
        10.0 * (power / 0.125).max(1e-30).log10()
    }

    #[test]
    fn the_telephone_band_is_flat_within_a_tenth_of_a_db_from_and_to_every_rate() {
        for rate in RATES {
            for hz in (100..=3_400).step_by(150).map(f64::from) {
                let (down, up) =
                    (convert(rate, 8_000, &tone(hz, rate, 0.5), 777), convert(8_000, rate, &tone(hz, 8_000, 0.5), 33));
                for level in [level_db(&down), level_db(&up)] {
                    assert!(level.abs() < 0.1, "{rate} Hz: {hz} Hz is {level:.3} dB");
                }
            }
        }
    }

    #[test]
    fn what_would_fold_into_the_telephone_band_is_80_db_down() {
        for rate in RATES {
            let mut hz = 4_600.0;
            while hz < f64::from(rate) / 2.0 {
                let level = level_db(&convert(rate, 8_000, &tone(hz, rate, 0.25), 777));
                assert!(level < -80.0, "{rate} Hz: {hz} Hz comes through at {level:.1} dB");
                hz += 183.0;
            }
        }
    }

    #[test]
    fn images_of_the_telephone_band_are_80_db_down_on_the_way_up() {
        for rate in [16_000, 24_000, 44_100, 48_000] {
            for hz in [300.0, 1_000.0, 2_500.0, 3_400.0] {
                let out = convert(8_000, rate, &tone(hz, 8_000, 0.5), 160);
                let ideal = tone(hz, rate, 0.5);
                let middle = out.len() / 4..out.len() * 3 / 4;
                let off =
                    middle.clone().map(|n| f64::from(out[n] - ideal[n]).powi(2)).sum::<f64>() / middle.len() as f64;
                let off = 10.0 * (off / 0.125).log10();
                assert!(off < -80.0, "{hz} Hz to {rate} Hz: all that is not the tone is at {off:.1} dB");
            }
        }
    }

    #[test]
    fn every_sample_comes_out_at_its_time_and_the_pieces_make_no_difference() {
        for rate in RATES.into_iter().chain([8_000, 47_999, 8_001]) {
            let samples = tone(500.0, rate, 0.3217);
            let whole = convert(rate, 8_000, &samples, 100_000);
            let expected = (samples.len() as f64 * 8_000.0 / f64::from(rate)).round() as usize;
            assert_eq!(whole.len(), expected, "{rate} Hz");
            for piece in [1, 7, 160, 441, 1_000] {
                assert!(convert(rate, 8_000, &samples, piece) == whole, "{rate} Hz in pieces of {piece}");
            }
            let ideal = tone(500.0, 8_000, 0.3217);
            let worst = (100..whole.len() - 100).map(|n| (whole[n] - ideal[n]).abs()).fold(0.0, f32::max);
            assert!(worst < 5e-5, "{rate} Hz: off the ideal by {worst}");
        }
    }

    #[test]
    fn a_constant_stays_what_it_is() {
        for rate in RATES.into_iter().chain([47_999]) {
            let out = convert(rate, 8_000, &vec![0.5; rate as usize / 4], 97);
            let off = out[100..out.len() - 100].iter().map(|s| (s - 0.5).abs()).fold(0.0, f32::max);
            assert!(off < 1e-6, "{rate} Hz: off by {off}");
        }
    }

    #[test]
    fn a_sample_waits_for_3_ms_of_audio_after_it() {
        for rate in RATES.into_iter().filter(|rate| *rate > 8_000) {
            let mut resampler = Resampler::new(rate, 8_000).unwrap();
            let latency = resampler.latency();
            assert_eq!((latency as f64 / f64::from(rate) * 1e3).floor(), 3.0, "{rate} Hz");
            let mut out = 0;
            resampler.process(&vec![0.1; latency], |block| out += block.len());
            assert_eq!(out, 0);
            resampler.process(&[0.1], |block| out += block.len());
            assert_eq!(out, 1);
        }
    }

    #[test]
    fn a_flushed_resampler_starts_anew() {
        let mut resampler = Resampler::new(24_000, 8_000).unwrap();
        for _ in 0..3 {
            let mut out = 0;
            resampler.process(&tone(440.0, 24_000, 0.11), |block| out += block.len());
            resampler.flush(|block| out += block.len());
            assert_eq!(out, 880);
        }
    }

    #[test]
    fn a_call_can_be_brought_up_for_a_subscriber() {
        let level = level_db(&convert(8_000, 16_000, &tone(1_000.0, 8_000, 1.0), 160));
        assert!(level.abs() < 0.5, "{level:.2} dB");
    }

    #[test]
    fn impossible_rates_are_refused_with_the_reason() {
        for (from, to) in [(0, 8_000), (8_000, 0), (1_000_000, 8_000)] {
            assert_eq!(Resampler::new(from, to).unwrap_err(), ResamplerError::Rate { from_hz: from, to_hz: to });
        }
    }
}
