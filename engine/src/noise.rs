//! Comfort noise: quiet white noise that tells the listener that the line is up.

/// White noise from a 32-bit xorshift generator (Marsaglia 2003); no allocation, no state to share.
#[derive(Debug, Clone)]
pub(crate) struct Noise {
    state: u32,
}

impl Noise {
    /// A generator; equal seeds give equal noise.
    #[must_use]
    pub(crate) const fn new(seed: u32) -> Self {
        Self { state: if seed == 0 { 0x9E37_79B9 } else { seed } }
    }

    /// The next sample, uniform in [-1, 1).
    pub(crate) fn sample(&mut self) -> f32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        self.state.cast_signed() as f32 / 2_147_483_648.0
    }

    /// The next sample of noise with this root mean square (a uniform density has an RMS of 1/sqrt(3)).
    pub(crate) fn sample_at(&mut self, rms: f32) -> f32 {
        self.sample() * rms * 1.732_050_8
    }
}
