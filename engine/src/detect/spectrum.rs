//! What 100 ms of sound are made of: silence, one steady tone, two of them, or anything else.
//!
//! 100 ms tell 440 and 480 Hz apart (Hann's main lobe is +-20 Hz) and are short against every cadence of a network's tones.
//! They are looked at every 20 ms. A tone counts from when it fills about half of the window to when it fills only half, so
//! that lengths come out right although the window is long.

use std::f32::consts::TAU;
use std::fmt;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use super::{RATE_HZ, full_scale_amplitude};
use crate::TICK_SAMPLES;

/// 100 ms.
const WINDOW: usize = 800;
/// The next power of two: bins of 7.8 Hz.
const POINTS: usize = 1_024;
/// A look every so many ticks: 20 ms.
const TICKS_A_FRAME: u8 = 4;
/// The length of a frame.
pub(super) const FRAME_MS: u32 = 20;
/// Tones are looked for from here to there, in Hz.
const LOWEST_HZ: f32 = 300.0;
const HIGHEST_HZ: f32 = 2_300.0;
/// A tone's energy is within so many bins of its peak (Hann's main lobe, and a rest of frequency).
const LOBE_BINS: usize = 4;
/// A second tone is beyond the main lobe of the first: 23 Hz.
const APART_BINS: usize = 3;
/// Least share of the energy that is in the tones.
const PURITY: f32 = 0.8;
/// The weaker of two tones against the stronger, as power: 12 dB.
const LEAST_SECOND: f32 = 0.06;
/// The mean square of Hann's window.
const HANN_POWER: f32 = 0.375;
/// Below this it is silent.
const SILENCE_DBM0: f32 = -46.0;

/// What a window is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sound {
    Silence,
    /// One tone, in Hz.
    Tone(f32),
    /// Two tones, the lower one first.
    Pair(f32, f32),
    Other,
}

/// A look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub(super) sound: Sound,
    /// Mean square of the newest 20 ms.
    pub(super) level: f32,
    /// Mean square of the window, its middle counting most.
    pub(super) window_level: f32,
}

/// Looks at the sound every 20 ms. Does not allocate once it is built.
pub(super) struct Spectrum {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Box<[f32; WINDOW]>,
    past: Box<[f32; WINDOW]>,
    input: Box<[f32; POINTS]>,
    output: Box<[Complex<f32>]>,
    scratch: Box<[Complex<f32>]>,
    ticks: u8,
    frames: u8,
}

impl fmt::Debug for Spectrum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spectrum").field("ticks", &self.ticks).finish_non_exhaustive()
    }
}

impl Spectrum {
    pub(super) fn new() -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(POINTS);
        let window = std::array::from_fn(|n| 0.5 - 0.5 * (TAU * (n as f32 + 0.5) / WINDOW as f32).cos());
        Self {
            window: Box::new(window),
            past: Box::new([0.0; WINDOW]),
            input: Box::new([0.0; POINTS]),
            output: fft.make_output_vec().into_boxed_slice(),
            scratch: fft.make_scratch_vec().into_boxed_slice(),
            fft,
            ticks: 0,
            frames: 0,
        }
    }

    /// Takes the next 5 ms; a frame after every fourth, of which every nth is looked at.
    pub(super) fn push(&mut self, tick: &[f32; TICK_SAMPLES], every: u8) -> Option<Frame> {
        // kept in order only as far as it is looked at: the newest 20 ms are filled tick by tick
        let at = WINDOW - TICK_SAMPLES * usize::from(TICKS_A_FRAME - self.ticks % TICKS_A_FRAME);
        self.past.get_mut(at..at + TICK_SAMPLES)?.copy_from_slice(tick);
        self.ticks += 1;
        if self.ticks < TICKS_A_FRAME {
            return None;
        }
        self.ticks = 0;
        let newest = TICK_SAMPLES * usize::from(TICKS_A_FRAME);
        let square = |samples: &[f32]| samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32;
        let level = square(self.past.get(WINDOW - newest..)?);
        self.frames = self.frames.wrapping_add(1);
        let frame = self.is_nth_frame(every).then(|| {
            let (sound, window_level) = self.look();
            Frame { sound, level, window_level }
        });
        self.past.copy_within(newest.., 0);
        frame
    }

    /// Whether the last frame is an nth one. `n`: a power of two.
    pub(super) fn is_nth_frame(&self, n: u8) -> bool {
        self.frames.is_multiple_of(n)
    }

    /// The spectrum of the last look that was not silent, in bins of 7.8 Hz.
    pub(super) fn bins(&self) -> &[Complex<f32>] {
        &self.output
    }

    /// What the window is made of, and its level.
    fn look(&mut self) -> (Sound, f32) {
        let mut energy = 0.0;
        for ((input, past), window) in self.input.iter_mut().zip(self.past.iter()).zip(self.window.iter()) {
            *input = past * window;
            energy += *input * *input;
        }
        let level = energy / (WINDOW as f32 * HANN_POWER);
        if !level.is_finite() || level < full_scale_amplitude(SILENCE_DBM0).powi(2) / 2.0 {
            return (Sound::Silence, 0.0);
        }
        (self.transform(), level)
    }

    fn transform(&mut self) -> Sound {
        if let Some(padding) = self.input.get_mut(WINDOW..) {
            padding.fill(0.0);
        }
        let done = self.fft.process_with_scratch(&mut *self.input, &mut self.output, &mut self.scratch);
        if done.is_err() {
            return Sound::Other; // cannot be: the lengths are the plan's own
        }
        let (first, last) = (bin(LOWEST_HZ), bin(HIGHEST_HZ));
        let total = self.output.iter().skip(3).map(|x| x.norm_sqr()).sum::<f32>(); // without a constant part
        let Some(a) = self.strongest(first..=last, None) else { return Sound::Other };
        let b = self.strongest(first..=last, Some(a)).unwrap_or(a);
        let pair = b != a && self.power(b) >= LEAST_SECOND * self.power(a);
        let lobes = |bins: &[usize]| {
            let within = |n: usize| bins.iter().any(|bin| n.abs_diff(*bin) <= LOBE_BINS);
            let (from, to) = (a.min(b).saturating_sub(LOBE_BINS), a.max(b) + LOBE_BINS);
            (from..=to).filter(|n| within(*n)).map(|n| self.power(n)).sum::<f32>()
        };
        if pair && lobes(&[a, b]) >= PURITY * total {
            let (low, high) = (self.hz(a.min(b)), self.hz(a.max(b)));
            return Sound::Pair(low, high);
        }
        if lobes(&[a]) >= PURITY * total { Sound::Tone(self.hz(a)) } else { Sound::Other }
    }

    fn power(&self, bin: usize) -> f32 {
        self.output.get(bin).map_or(0.0, |x| x.norm_sqr())
    }

    /// The strongest peak, apart from another one.
    fn strongest(&self, bins: std::ops::RangeInclusive<usize>, apart_from: Option<usize>) -> Option<usize> {
        bins.filter(|n| apart_from.is_none_or(|other| n.abs_diff(other) > APART_BINS))
            .filter(|&n| self.power(n) >= self.power(n - 1) && self.power(n) >= self.power(n + 1))
            .max_by(|&a, &b| self.power(a).total_cmp(&self.power(b)))
    }

    /// The frequency of a peak, by the parabola through its logarithms.
    fn hz(&self, bin: usize) -> f32 {
        let log = |n: usize| (self.power(n) + f32::MIN_POSITIVE).ln();
        let (before, at, after) = (log(bin - 1), log(bin), log(bin + 1));
        let bend = before - 2.0 * at + after;
        let beside = if bend.abs() < 1e-6 { 0.0 } else { 0.5 * (before - after) / bend };
        (bin as f32 + beside.clamp(-0.5, 0.5)) * RATE_HZ / POINTS as f32
    }
}

fn bin(hz: f32) -> usize {
    (hz * POINTS as f32 / RATE_HZ) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    fn look(sound: impl Fn(f32) -> f32) -> Sound {
        let mut spectrum = Spectrum::new();
        let samples: Vec<f32> = (0..1_600).map(|n| sound(n as f32 / 8_000.0)).collect();
        samples.as_chunks().0.iter().filter_map(|tick| spectrum.push(tick, 1)).last().unwrap().sound
    }

    #[test]
    fn tones_are_told_with_their_frequencies_and_pairs_that_are_40_hz_apart_as_two() {
        assert_eq!(look(|_| 0.0), Sound::Silence);
        for hz in [400.0, 425.0, 440.0, 951.3, 1_100.0, 2_100.0] {
            let Sound::Tone(found) = look(|t| 0.1 * (TAU * hz * t).sin()) else { panic!("{hz}") };
            assert!((found - hz).abs() < 1.5, "{hz}: {found}");
        }
        for (a, b) in [(440.0, 480.0), (480.0, 620.0), (350.0, 440.0), (400.0, 450.0)] {
            for twist in [0.5, 1.0, 2.0] {
                let sound = look(|t| 0.1 * (TAU * a * t).sin() + 0.1 * twist * (TAU * b * t).sin());
                let Sound::Pair(low, high) = sound else { panic!("{a} {b} {twist}: {sound:?}") };
                assert!((low - a).abs() < 8.0 && (high - b).abs() < 8.0, "{a} {b}: {low} {high}");
            }
        }
        let mut random = Noise::new(1);
        let noise: Vec<f32> = (0..2_000).map(|_| random.sample_at(0.1)).collect();
        assert_eq!(look(|t| noise[(t * 8_000.0) as usize]), Sound::Other);
        assert_eq!(look(|_| f32::NAN), Sound::Silence);
    }
}
