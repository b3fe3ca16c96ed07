//! Second-order filters, with the coefficients of Robert Bristow-Johnson's "Cookbook formulae for audio equalizer biquad
//! filter coefficients".

use std::f64::consts::{PI, SQRT_2};

/// Samples of a call, a second.
const RATE_HZ: f64 = 8_000.0;
/// Below this a state is silence; numbers near zero are slow to reckon with.
const SILENCE: f64 = 1e-20;

/// A filter in the transposed direct form II. Stable for every frequency below 4 kHz and every positive quality.
#[derive(Debug, Clone)]
pub(super) struct Biquad {
    b: [f64; 3],
    a: [f64; 2],
    state: [f64; 2],
}

impl Biquad {
    fn new(b: [f64; 3], a: [f64; 3]) -> Self {
        let scale = 1.0 / a[0];
        Self { b: b.map(|b| b * scale), a: [a[1] * scale, a[2] * scale], state: [0.0; 2] }
    }

    /// Lets through what is below `hz`; `q`: its quality.
    pub(super) fn low_pass(hz: f64, q: f64) -> Self {
        let (cos, alpha) = angle(hz, q);
        let b = (1.0 - cos) / 2.0;
        Self::new([b, 2.0 * b, b], [1.0 + alpha, -2.0 * cos, 1.0 - alpha])
    }

    /// Lets through what is above `hz`.
    pub(super) fn high_pass(hz: f64, q: f64) -> Self {
        let (cos, alpha) = angle(hz, q);
        let b = (1.0 + cos) / 2.0;
        Self::new([b, -2.0 * b, b], [1.0 + alpha, -2.0 * cos, 1.0 - alpha])
    }

    /// Raises what is around `hz` by `db`.
    pub(super) fn peak(hz: f64, q: f64, db: f64) -> Self {
        let ((cos, alpha), a) = (angle(hz, q), amplitude(db));
        Self::new([1.0 + alpha * a, -2.0 * cos, 1.0 - alpha * a], [1.0 + alpha / a, -2.0 * cos, 1.0 - alpha / a])
    }

    /// Raises what is below `hz` by `db`, as steeply as can be without a bump.
    pub(super) fn low_shelf(hz: f64, db: f64) -> Self {
        Self::shelf(hz, db, 1.0)
    }

    /// Raises what is above `hz` by `db`, as steeply as can be without a bump.
    pub(super) fn high_shelf(hz: f64, db: f64) -> Self {
        Self::shelf(hz, db, -1.0)
    }

    /// The two shelves are each other's mirror image: the cosine changes its sign.
    fn shelf(hz: f64, db: f64, side: f64) -> Self {
        let ((cos, alpha), a) = (angle(hz, 1.0 / SQRT_2), amplitude(db));
        let (cos, root) = (side * cos, 2.0 * a.sqrt() * alpha);
        let (up, down) = (a + 1.0, a - 1.0);
        Self::new(
            [a * (up - down * cos + root), side * 2.0 * a * (down - up * cos), a * (up - down * cos - root)],
            [up + down * cos + root, side * -2.0 * (down + up * cos), up + down * cos - root],
        )
    }

    /// Filters samples in their place.
    pub(super) fn process(&mut self, samples: &mut [f32]) {
        let [mut first, mut second] = self.state;
        for sample in samples {
            let input = f64::from(*sample);
            let output = self.b[0] * input + first;
            first = self.b[1] * input - self.a[0] * output + second;
            second = self.b[2] * input - self.a[1] * output;
            *sample = output as f32;
        }
        self.state = [first, second].map(|state| if state.abs() < SILENCE { 0.0 } else { state });
    }
}

/// The cosine of a frequency's angle, and the cookbook's alpha.
fn angle(hz: f64, q: f64) -> (f64, f64) {
    let (sin, cos) = (2.0 * PI * hz / RATE_HZ).sin_cos();
    (cos, sin / (2.0 * q))
}

/// The cookbook's A: the square root of the gain.
fn amplitude(db: f64) -> f64 {
    10_f64.powf(db / 40.0)
}
