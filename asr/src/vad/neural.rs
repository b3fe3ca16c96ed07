//! The `earshot` detector: a small neural network over mel bands, in pure Rust. It works on 16 ms at 16 kHz; here it gets
//! our 20 ms at 8 kHz, doubled in rate by the resampler, which costs 10 ms of delay.

use rubato::{Fft, FixedSync, Resampler, audioadapter_buffers::direct::InterleavedSlice};

use super::FRAME_SAMPLES;
use crate::{STREAM_RATE_HZ, WHISPER_RATE_HZ};

/// Samples of the frames that it looks at.
const NEURAL_SAMPLES: usize = 256;
/// Our frame at its rate.
const DOUBLED: usize = 2 * FRAME_SAMPLES;
/// From this score on a sound is a voice; earshot's own proposal.
const VOICE: f32 = 0.5;
/// A voice that goes on may fall this far.
const STILL_VOICE: f32 = 0.35;

pub(super) struct Neural {
    detector: Box<earshot::Detector>,
    resampler: Fft<f32>,
    doubled: [f32; DOUBLED],
    /// Samples that do not fill a frame yet.
    pending: [f32; NEURAL_SAMPLES],
    filled: usize,
    score: f32,
    voiced: bool,
}

impl Neural {
    /// `None` if rubato refuses, which it does not for these rates.
    pub(super) fn new() -> Option<Self> {
        let (from, to) = (STREAM_RATE_HZ as usize, WHISPER_RATE_HZ as usize);
        Some(Self {
            detector: Box::default(),
            resampler: Fft::new(from, to, FRAME_SAMPLES, 1, FixedSync::Both).ok()?,
            doubled: [0.0; DOUBLED],
            pending: [0.0; NEURAL_SAMPLES],
            filled: 0,
            score: 0.0,
            voiced: false,
        })
    }

    /// Whether the stream's next frame, of numbers in [-1, 1], is a voice.
    pub(super) fn push(&mut self, frame: &[f32; FRAME_SAMPLES]) -> bool {
        let produced = self.double(frame).unwrap_or(0);
        let mut best: Option<f32> = None;
        for place in 0..produced.min(DOUBLED) {
            self.pending[self.filled] = self.doubled[place].clamp(-1.0, 1.0);
            self.filled += 1;
            if self.filled == NEURAL_SAMPLES {
                self.filled = 0;
                let score = self.detector.predict_f32(&self.pending);
                best = Some(best.map_or(score, |best| best.max(score)));
            }
        }
        // every frame of ours completes one of its, but for the one in five that completes two
        self.score = best.unwrap_or(self.score);
        self.voiced = self.score >= if self.voiced { STILL_VOICE } else { VOICE };
        self.voiced
    }

    fn double(&mut self, frame: &[f32; FRAME_SAMPLES]) -> Option<usize> {
        let input = InterleavedSlice::new(&frame[..], 1, FRAME_SAMPLES).ok()?;
        let mut output = InterleavedSlice::new_mut(&mut self.doubled[..], 1, DOUBLED).ok()?;
        self.resampler.process_into_buffer(&input, &mut output, None).ok().map(|(_, produced)| produced)
    }
}
