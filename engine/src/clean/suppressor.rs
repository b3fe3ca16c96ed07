//! Noise suppression by `sonora-ns`, which is WebRTC's: a Wiener filter that knows speech from noise by how steady,
//! how flat and how likely a spectrum is.
//!
//! It works on 160 samples at a time and was made for 16 kHz. At 8 kHz it is given 20 ms instead of 10: its spectra
//! (256 points) are then of 32 ms, as is usual in speech enhancement, and it costs half.

use sonora_ns::config::{NS_FRAME_SIZE, NsConfig, SuppressionLevel};
use sonora_ns::noise_suppressor::NoiseSuppressor;

use super::spectrum::BLOCK;

/// It reckons in 16-bit units.
const SCALE: f32 = 32_768.0;
/// The suppressor with its framing: a block in, a block out, 22 ms later: 12 for the overlap of its frames, and a block that
/// it waits for.
pub(super) struct Suppressor {
    suppressor: NoiseSuppressor,
    frame: [f32; NS_FRAME_SIZE],
    cleaned: [f32; NS_FRAME_SIZE],
    filled: usize,
}

impl std::fmt::Debug for Suppressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppressor").field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl Suppressor {
    pub(super) fn new() -> Self {
        Self {
            suppressor: NoiseSuppressor::new(NsConfig { target_level: SuppressionLevel::K18dB }),
            frame: [0.0; NS_FRAME_SIZE],
            cleaned: [0.0; NS_FRAME_SIZE],
            filled: 0,
        }
    }

    pub(super) fn process(&mut self, block: &mut [f32; BLOCK]) {
        for (place, sample) in self.frame[self.filled..].iter_mut().zip(&*block) {
            *place = *sample * SCALE;
        }
        self.filled += BLOCK;
        let ready = if self.filled == NS_FRAME_SIZE {
            self.filled = 0;
            self.suppressor.analyze(&self.frame);
            self.suppressor.process(&mut self.frame);
            for (cleaned, sample) in self.cleaned.iter_mut().zip(&self.frame) {
                *cleaned = sample / SCALE;
            }
            &self.cleaned[..BLOCK]
        } else {
            &self.cleaned[BLOCK..]
        };
        block.copy_from_slice(ready);
    }
}

const _: () = assert!(NS_FRAME_SIZE == 2 * BLOCK);
