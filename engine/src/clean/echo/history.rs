//! What was sent lately, as spectra: the echo's possible causes.

use super::super::spectrum::{FRAME, Spectrum, Transform};

/// A ring of the newest spectra of what was sent, a block apart.
#[derive(Debug)]
pub(super) struct History {
    spectra: Box<[Spectrum]>,
    newest: usize,
}

impl History {
    pub(super) fn new(blocks: usize) -> Self {
        Self { spectra: vec![Spectrum::ZERO; blocks].into(), newest: 0 }
    }

    /// Takes the frame of the next block.
    pub(super) fn push(&mut self, transform: &mut Transform, frame: &[f32; FRAME]) {
        self.newest = (self.newest + 1) % self.spectra.len();
        transform.forward(frame, &mut self.spectra[self.newest]);
    }

    /// The spectrum of so many blocks ago; the oldest, if that is longer than what is kept.
    pub(super) fn ago(&self, blocks: usize) -> &Spectrum {
        let length = self.spectra.len();
        &self.spectra[(self.newest + length - blocks.min(length - 1)) % length]
    }
}
