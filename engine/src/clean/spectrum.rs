//! Blocks of 10 ms and their spectra, for what works in the frequency domain.

use std::fmt;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Samples of a block: 10 ms.
pub(super) const BLOCK: usize = 80;
/// Samples of a frame: a block and the one before it, as overlap-save wants them (Oppenheim and Schafer, section 8.7.3).
pub(super) const FRAME: usize = 2 * BLOCK;
/// Bins of a frame's spectrum, 50 Hz apart.
pub(super) const BINS: usize = FRAME / 2 + 1;

/// The spectrum of a frame. Real and imaginary parts lie apart, so that loops over them become vector instructions.
#[derive(Debug, Clone)]
pub(super) struct Spectrum {
    pub(super) re: [f32; BINS],
    pub(super) im: [f32; BINS],
}

impl Spectrum {
    pub(super) const ZERO: Self = Self { re: [0.0; BINS], im: [0.0; BINS] };

    /// The power of each bin.
    pub(super) fn powers(&self) -> impl Iterator<Item = f32> + '_ {
        self.re.iter().zip(&self.im).map(|(re, im)| re * re + im * im)
    }

    /// Adds the product of two spectra.
    pub(super) fn add_product(&mut self, a: &Self, b: &Self) {
        for bin in 0..BINS {
            self.re[bin] += a.re[bin] * b.re[bin] - a.im[bin] * b.im[bin];
            self.im[bin] += a.re[bin] * b.im[bin] + a.im[bin] * b.re[bin];
        }
    }
}

/// From frames to spectra and back. Making one allocates, using it does not.
pub(super) struct Transform {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    time: Vec<f32>,
    bins: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transform").finish_non_exhaustive()
    }
}

impl Transform {
    pub(super) fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(FRAME), planner.plan_fft_inverse(FRAME));
        let scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Self {
            time: forward.make_input_vec(),
            bins: forward.make_output_vec(),
            scratch: vec![Complex::ZERO; scratch],
            forward,
            inverse,
        }
    }

    /// The spectrum of a frame, not scaled.
    pub(super) fn forward(&mut self, frame: &[f32; FRAME], spectrum: &mut Spectrum) {
        self.time.copy_from_slice(frame);
        // fails only if the lengths are not those of the plan, which made the buffers
        let _ = self.forward.process_with_scratch(&mut self.time, &mut self.bins, &mut self.scratch);
        for (bin, value) in self.bins.iter().enumerate().take(BINS) {
            (spectrum.re[bin], spectrum.im[bin]) = (value.re, value.im);
        }
    }

    /// The frame of a spectrum, scaled so that it undoes [`forward`](Self::forward).
    pub(super) fn inverse(&mut self, spectrum: &Spectrum, frame: &mut [f32; FRAME]) {
        for (bin, value) in self.bins.iter_mut().enumerate().take(BINS) {
            *value = Complex::new(spectrum.re[bin], spectrum.im[bin]);
        }
        // a real frame has real ends; anything else would be refused
        (self.bins[0].im, self.bins[BINS - 1].im) = (0.0, 0.0);
        let _ = self.inverse.process_with_scratch(&mut self.bins, &mut self.time, &mut self.scratch);
        for (sample, value) in frame.iter_mut().zip(&self.time) {
            *sample = value / FRAME as f32;
        }
    }
}
