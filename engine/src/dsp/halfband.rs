//! Between 8 and 16 kHz, for codecs that sample at twice the rate of a call: a half-band filter, sample by sample.
//!
//! What must hold: nothing here allocates; the telephone band (up to 3.4 kHz) is flat; what could alias into it (from
//! 4.6 kHz on) is 60 dB down. Half of the coefficients of such a filter are zero, and the others are symmetric, so that an
//! output sample takes 16 multiplications. The delay of either direction is 31 samples of 16 kHz: 1.9 ms.

use std::f64::consts::PI;

/// Coefficients on one side of the middle, the zeros left out.
const SIDE: usize = 16;
/// From the middle to the end of the impulse response, at 16 kHz.
const REACH: usize = 2 * SIDE - 1;
/// Samples of one phase that an output sample is made of.
const SPAN: usize = 2 * SIDE;
/// Shape of the Kaiser window: 65 dB.
const BETA: f64 = 6.2;

/// The coefficients from the middle outwards, for a gain of one at twice the rate.
fn coefficients() -> [f32; SIDE] {
    let mut side: [f64; SIDE] = std::array::from_fn(|n| {
        let at = (2 * n + 1) as f64;
        let edge = at / (REACH + 1) as f64;
        let window = bessel(BETA * (1.0 - edge * edge).sqrt()) / bessel(BETA);
        (PI * at / 2.0).sin() / (PI * at) * window
    });
    // the window costs a little gain; the two phases must have the same
    let sum: f64 = 2.0 * side.iter().sum::<f64>();
    side.iter_mut().for_each(|c| *c *= 0.5 / sum);
    side.map(|c| c as f32)
}

/// The modified Bessel function of the first kind and order zero.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..40 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

/// The last samples of one phase; they are kept twice, so that they always lie in a row.
#[derive(Debug, Clone)]
struct Line<const N: usize> {
    samples: [[f32; N]; 2],
    at: usize,
}

impl<const N: usize> Line<N> {
    const fn new() -> Self {
        Self { samples: [[0.0; N]; 2], at: 0 }
    }

    /// Takes a sample in, and gives all of the last N, the oldest first.
    fn push(&mut self, sample: f32) -> &[f32] {
        self.samples[0][self.at] = sample;
        self.samples[1][self.at] = sample;
        self.at = (self.at + 1) % N;
        &self.samples.as_flattened()[self.at..self.at + N]
    }
}

fn convolve(side: &[f32; SIDE], line: &[f32]) -> f32 {
    let (older, newer) = line.split_at(SIDE);
    side.iter().zip(newer).zip(older.iter().rev()).map(|((c, a), b)| c * (a + b)).sum()
}

/// From 8 kHz to 16 kHz.
#[derive(Debug, Clone)]
pub struct Doubler {
    side: [f32; SIDE],
    line: Line<SPAN>,
}

impl Default for Doubler {
    fn default() -> Self {
        Self { side: coefficients(), line: Line::new() }
    }
}

impl Doubler {
    /// Two samples for one.
    pub fn push(&mut self, sample: f32) -> [f32; 2] {
        let line = self.line.push(sample);
        [2.0 * convolve(&self.side, line), line[SIDE]]
    }
}

/// From 16 kHz to 8 kHz.
#[derive(Debug, Clone)]
pub struct Halver {
    side: [f32; SIDE],
    even: Line<SPAN>,
    odd: Line<{ SIDE + 1 }>,
}

impl Default for Halver {
    fn default() -> Self {
        Self { side: coefficients(), even: Line::new(), odd: Line::new() }
    }
}

impl Halver {
    /// One sample for two.
    pub fn push(&mut self, [first, second]: [f32; 2]) -> f32 {
        let middle = self.odd.push(second)[0];
        0.5 * middle + convolve(&self.side, self.even.push(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, rate: f64, n: usize) -> f32 {
        (n as f64 * hz * 2.0 * PI / rate).sin() as f32
    }

    /// The amplitude of a frequency in what comes after the beginning.
    fn amplitude(samples: &[f32], hz: f64, rate: f64) -> f64 {
        let samples = &samples[400..];
        let (mut re, mut im) = (0.0, 0.0);
        for (n, &s) in samples.iter().enumerate() {
            let phase = n as f64 * hz * 2.0 * PI / rate;
            re += f64::from(s) * phase.cos();
            im += f64::from(s) * phase.sin();
        }
        2.0 * (re * re + im * im).sqrt() / samples.len() as f64
    }

    fn db(amplitude: f64) -> f64 {
        20.0 * amplitude.max(1e-9).log10()
    }

    #[test]
    fn the_telephone_band_is_flat_and_images_are_60_db_down() {
        for hz in [50.0, 300.0, 1_000.0, 2_000.0, 3_000.0, 3_400.0] {
            let mut doubler = Doubler::default();
            let out: Vec<f32> = (0..8_400).flat_map(|n| doubler.push(tone(hz, 8_000.0, n))).collect();
            let (wanted, image) = (amplitude(&out, hz, 16_000.0), amplitude(&out, 8_000.0 - hz, 16_000.0));
            assert!(db(wanted).abs() < 0.1, "{hz} Hz: {} dB", db(wanted));
            assert!(db(image) < -60.0, "image of {hz} Hz: {} dB", db(image));
        }
    }

    #[test]
    fn what_would_alias_into_the_telephone_band_is_60_db_down() {
        for hz in [4_600.0, 5_000.0, 6_000.0, 7_000.0, 7_900.0] {
            let mut halver = Halver::default();
            let out: Vec<f32> =
                (0..8_400).map(|n| halver.push([tone(hz, 16_000.0, 2 * n), tone(hz, 16_000.0, 2 * n + 1)])).collect();
            assert!(db(amplitude(&out, 8_000.0 - hz, 8_000.0)) < -60.0, "{hz} Hz");
        }
        for hz in [50.0, 1_000.0, 3_400.0] {
            let mut halver = Halver::default();
            let out: Vec<f32> =
                (0..8_400).map(|n| halver.push([tone(hz, 16_000.0, 2 * n), tone(hz, 16_000.0, 2 * n + 1)])).collect();
            assert!(db(amplitude(&out, hz, 8_000.0)).abs() < 0.1, "{hz} Hz");
        }
    }

    #[test]
    fn there_and_back_is_a_delay_of_31_samples() {
        let (mut doubler, mut halver) = (Doubler::default(), Halver::default());
        let out: Vec<f32> = (0..2_000).map(|n| halver.push(doubler.push(tone(440.0, 8_000.0, n)))).collect();
        for (n, &sample) in out.iter().enumerate().skip(100) {
            assert!((sample - tone(440.0, 8_000.0, n - 31)).abs() < 2e-3, "sample {n}");
        }
    }
}
