//! 8 kHz to 16 kHz, for whole utterances, on the workers' threads.
//!
//! `rubato`'s synchronous FFT resampler with a long window: flat to 3.4 kHz, images below -80 dB. Its delay is constant
//! and cut off, so sample `2 n` of what comes out is sample `n` of what went in.

use rubato::{Fft, FixedSync, Indexing, Resampler, audioadapter_buffers::direct::InterleavedSlice};

use crate::{AsrError, STREAM_RATE_HZ, WHISPER_RATE_HZ};

/// Input samples that the filter spans: 32 ms, for a transition band that ends below 4 kHz.
const FILTER_SAMPLES: usize = 256;

/// Doubles the rate of utterances. Cheap to reset, so one serves a worker for all its jobs.
pub struct Upsampler {
    fft: Fft<f32>,
    chunk: Vec<f32>,
}

impl std::fmt::Debug for Upsampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upsampler").finish_non_exhaustive()
    }
}

impl Upsampler {
    /// A resampler from [`STREAM_RATE_HZ`] to [`WHISPER_RATE_HZ`].
    ///
    /// # Errors
    /// [`AsrError::Config`] if rubato refuses, which it does not for these rates.
    pub fn new() -> Result<Self, AsrError> {
        let fft = Fft::new(STREAM_RATE_HZ as usize, WHISPER_RATE_HZ as usize, FILTER_SAMPLES, 1, FixedSync::Both)
            .map_err(|e| AsrError::Config(format!("resampler: {e}")))?;
        let chunk = vec![0.0; fft.output_frames_max()];
        Ok(Self { fft, chunk })
    }

    /// Replaces `out` by the samples at twice the rate: `2 * samples.len()` of them.
    pub fn process(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.fft.reset();
        out.clear();
        let wanted = 2 * samples.len();
        let mut skip = self.fft.output_delay();
        out.reserve(wanted);
        let mut offset = 0;
        while out.len() < wanted {
            let needed = self.fft.input_frames_next();
            let rest = &samples[offset.min(samples.len())..];
            let given = rest.len().min(needed);
            offset += given;
            let Some(produced) = self.chunk(&rest[..given]) else {
                // can't happen with these sizes; silence is better than a worker that dies
                out.resize(wanted, 0.0);
                return;
            };
            let fresh = &self.chunk[skip.min(produced)..produced];
            skip -= skip.min(produced);
            out.extend_from_slice(&fresh[..fresh.len().min(wanted - out.len())]);
        }
    }

    /// Runs one chunk, short ones filled up with silence; how many samples came out.
    fn chunk(&mut self, input: &[f32]) -> Option<usize> {
        let capacity = self.chunk.len();
        let indexing = Indexing::new().partial_len(input.len());
        let input = InterleavedSlice::new(input, 1, input.len()).ok()?;
        let mut output = InterleavedSlice::new_mut(&mut self.chunk, 1, capacity).ok()?;
        let (_, produced) = self.fft.process_into_buffer(&input, &mut output, Some(&indexing)).ok()?;
        Some(produced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, rate: f32, count: usize) -> Vec<f32> {
        (0..count).map(|i| (std::f32::consts::TAU * hz * i as f32 / rate).sin()).collect()
    }

    fn doubled(samples: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        Upsampler::new().unwrap().process(samples, &mut out);
        out
    }

    #[test]
    fn tones_of_the_telephone_band_keep_their_level_and_their_place() {
        for hz in [100.0, 1_000.0, 3_000.0, 3_400.0] {
            let out = doubled(&tone(hz, 8_000.0, 8_000));
            let expected = tone(hz, 16_000.0, 16_000);
            let error: f32 =
                out[2_000..14_000].iter().zip(&expected[2_000..14_000]).map(|(a, b)| (a - b).powi(2)).sum();
            let signal: f32 = expected[2_000..14_000].iter().map(|s| s * s).sum();
            let db = 10.0 * (error / signal).log10();
            assert!(db < -40.0, "{hz} Hz: error {db} dB");
        }
    }

    #[test]
    fn any_length_comes_out_doubled() {
        let mut resampler = Upsampler::new().unwrap();
        let mut out = vec![1.0; 3];
        for length in [0, 1, 159, 160, 255, 256, 257, 4_000, 160_000] {
            resampler.process(&vec![0.5; length], &mut out);
            assert_eq!(out.len(), 2 * length);
        }
    }

    #[test]
    fn one_utterance_leaves_nothing_in_the_next() {
        let mut resampler = Upsampler::new().unwrap();
        let mut out = Vec::new();
        resampler.process(&tone(440.0, 8_000.0, 5_000), &mut out);
        resampler.process(&[0.0; 1_000], &mut out);
        assert!(out.iter().all(|s| *s == 0.0));
    }
}
