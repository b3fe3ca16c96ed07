//! Fixed-ratio sample rate conversion at the edges: speech synthesis at any rate into the 8 kHz of a call, a call's
//! 8 kHz out to a subscriber.
//!
//! What must hold: nothing above the lower of the two Nyquist frequencies comes through as an alias, the telephone band
//! is flat, and `process` allocates nothing (everything is sized at construction). It runs off the real-time threads.
//!
//! `fixed-resample`'s own presets are not used: its FFT preset (chunk 512) is 20 dB down at 3.1 kHz for 48 -> 8 kHz and
//! its polynomial presets have no anti-alias filter at all (measured: aliases at 0 dB). The filter here is rubato's FFT
//! resampler with 10 ms blocks and a Hann window, whose edge is steep enough for the telephone band: the tests below
//! hold it to +-0.5 dB up to 3.4 kHz and to aliases below -60 dB.

use fixed_resample::{Interleaved, LastPacketInfo, PacketResampler};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, WindowFunction};

/// Blocks a second: 10 ms each, the shortest whose Hann-windowed filter still holds the telephone band.
const BLOCKS_PER_SECOND: u32 = 100;
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
    /// The filter could not be built for this pair of rates.
    #[error("cannot build a resampler from {from_hz} Hz to {to_hz} Hz: {reason}")]
    Filter {
        /// The input rate asked for, in Hz.
        from_hz: u32,
        /// The output rate asked for, in Hz.
        to_hz: u32,
        /// The library's words.
        reason: String,
    },
}

/// A stream of mono `f32` samples from one fixed rate to another.
///
/// The filter's delay is trimmed: the first sample out stands at the time of the first sample in, and after
/// [`flush`](Self::flush) exactly `round(samples_in * to / from)` samples have come out.
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
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    /// `None` when the rates are equal: samples pass untouched.
    filter: Option<PacketResampler<f32, Interleaved<f32>>>,
    samples_in: u64,
    samples_out: u64,
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resampler")
            .field("from_hz", &self.from_hz)
            .field("to_hz", &self.to_hz)
            .field("samples_in", &self.samples_in)
            .field("samples_out", &self.samples_out)
            .finish_non_exhaustive()
    }
}

impl Resampler {
    /// Builds a converter from `from_hz` to `to_hz`.
    ///
    /// # Errors
    /// [`ResamplerError::Rate`] for a rate outside 4 kHz ..= 192 kHz, [`ResamplerError::Filter`] when the filter
    /// cannot be built for the pair.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, ResamplerError> {
        if !RATES_HZ.contains(&from_hz) || !RATES_HZ.contains(&to_hz) {
            return Err(ResamplerError::Rate { from_hz, to_hz });
        }
        let filter = if from_hz == to_hz {
            None
        } else {
            let block = (from_hz / BLOCKS_PER_SECOND) as usize;
            let fft =
                Fft::new_custom(from_hz as usize, to_hz as usize, block, 1, 1, WindowFunction::Hann, FixedSync::Input)
                    .map_err(|error| ResamplerError::Filter { from_hz, to_hz, reason: error.to_string() })?;
            Some(PacketResampler::from_custom(Box::new(fft)))
        };
        Ok(Self { from_hz, to_hz, filter, samples_in: 0, samples_out: 0 })
    }

    /// The input rate in Hz.
    pub fn from_hz(&self) -> u32 {
        self.from_hz
    }

    /// The output rate in Hz.
    pub fn to_hz(&self) -> u32 {
        self.to_hz
    }

    /// Takes any number of samples; `sink` is called with every block that becomes ready (none, one or several).
    pub fn process(&mut self, samples: &[f32], mut sink: impl FnMut(&[f32])) {
        if samples.is_empty() {
            return;
        }
        self.samples_in += samples.len() as u64;
        let mut produced = 0;
        match &mut self.filter {
            None => {
                produced = samples.len() as u64;
                sink(samples);
            }
            Some(filter) => {
                // A slice of one channel always fits its own length.
                if let Ok(input) = InterleavedSlice::new(samples, 1, samples.len()) {
                    let count = |block: &[f32], frames: usize| {
                        produced += frames as u64;
                        sink(&block[..frames]);
                    };
                    filter.process(&input, None, None, count, None, true);
                }
            }
        }
        self.samples_out += produced;
    }

    /// Ends the stream: gives out what the filter still holds, so that the total out is
    /// `round(total in * to / from)`, and makes the converter ready for a new stream.
    pub fn flush(&mut self, mut sink: impl FnMut(&[f32])) {
        let ratio = f64::from(self.to_hz) / f64::from(self.from_hz);
        let total = (self.samples_in as f64 * ratio).round() as u64;
        let missing = total.saturating_sub(self.samples_out);
        if let Some(filter) = &mut self.filter {
            if missing > 0
                && let Ok(nothing) = InterleavedSlice::new(&[0.0f32; 1][..0], 1, 0)
            {
                let last = LastPacketInfo { desired_output_frames: Some(missing) };
                let pass = |block: &[f32], frames: usize| sink(&block[..frames]);
                filter.process(&nothing, None, None, pass, Some(last), true);
            }
            filter.reset();
        }
        self.samples_in = 0;
        self.samples_out = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    const RATES: [u32; 6] = [16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

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
    fn telephone_band_is_flat_from_every_synthesis_rate() {
        for rate in RATES {
            for hz in [200.0, 300.0, 1_000.0, 2_000.0, 3_000.0, 3_200.0, 3_400.0] {
                let level = level_db(&convert(rate, 8_000, &tone(hz, rate, 1.0), 777));
                assert!(level.abs() < 0.5, "{rate} Hz: {hz} Hz is {level:.2} dB");
            }
        }
    }

    #[test]
    fn nothing_above_the_band_comes_through_as_an_alias() {
        for rate in RATES {
            for hz in [4_600.0, 5_000.0, 6_000.0, 7_000.0, 7_900.0, 9_000.0, 15_000.0] {
                if hz < f64::from(rate) / 2.0 {
                    let level = level_db(&convert(rate, 8_000, &tone(hz, rate, 1.0), 777));
                    assert!(level < -60.0, "{rate} Hz: {hz} Hz comes through at {level:.1} dB");
                }
            }
        }
    }

    #[test]
    fn every_sample_comes_out_and_none_is_late_whatever_the_pieces() {
        for rate in RATES.into_iter().chain([8_000]) {
            for piece in [1, 160, 1_000, 100_000] {
                let samples = tone(500.0, rate, 0.3217);
                let out = convert(rate, 8_000, &samples, piece);
                let expected = (samples.len() as f64 * 8_000.0 / f64::from(rate)).round() as usize;
                assert_eq!(out.len(), expected, "{rate} Hz in pieces of {piece}");
                let ideal = tone(500.0, 8_000, 0.3217);
                let worst =
                    (200..out.len().min(ideal.len()) - 200).map(|n| (out[n] - ideal[n]).abs()).fold(0.0, f32::max);
                // A quarter of an 8 kHz sample: blocks of an odd length have their middle between two samples.
                assert!(worst < 0.05, "{rate} Hz: off the ideal by {worst}");
            }
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
