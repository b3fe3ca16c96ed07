//! Takes a constant offset away, and what rumbles below speech.

/// One zero at 0 Hz, one pole that puts the corner (-3 dB) at 20 Hz: 1 - 2 pi 20 / 8000.
const POLE: f32 = 0.9843;

/// The high-pass.
#[derive(Debug, Default)]
pub(super) struct DcBlocker {
    input: f32,
    output: f32,
}

impl DcBlocker {
    pub(super) fn process(&mut self, samples: &mut [f32]) {
        for sample in samples {
            self.output = *sample - self.input + POLE * self.output;
            self.input = *sample;
            *sample = self.output;
        }
        if self.output.abs() < 1e-15 {
            self.output = 0.0; // numbers near zero are slow to reckon with
        }
    }
}
