//! The model of the echo's path: a filter in the frequency domain that is cut into partitions of a block, each adapted
//! as a Kalman filter (Enzner and Vary 2006; partitioned by Kuech, Mabande and Enzner 2014).
//!
//! Beside every weight stands how uncertain it is. The step of the adaptation follows from that and from how much of what
//! is heard is not echo, so it is large at the beginning and small while the caller speaks, without a detector for it.

use super::super::spectrum::{BINS, BLOCK, FRAME, Spectrum, Transform};
use super::history::History;

/// Partitions of the filter: 280 ms, of which two lie before where the echo is thought to begin.
pub(super) const PARTITIONS: usize = 28;
/// A path is forgotten at this rate, a block: how fast it may change (half of its power in 12 s).
const TRANSITION: f32 = 0.9997;
/// What else is in the line is estimated over this share of the newest block.
const NOISE_SHARE: f32 = 0.2;
/// Least power of a bin: silence at 16 bits.
const LEAST_POWER: f32 = 1e-6;
/// Partitions whose circular part is cut off, a block: all of them within 70 ms.
const CONSTRAINED: usize = 4;
/// A path that is louder than this is none: +12 dB.
const MOST_GAIN: f32 = 16.0;

/// The filter.
#[derive(Debug)]
pub(super) struct EchoFilter {
    weights: Box<[Spectrum]>,
    /// Expected squared error of each weight.
    uncertainty: Box<[[f32; BINS]]>,
    /// Power of what is heard and is not echo.
    noise: [f32; BINS],
    next_constrained: usize,
}

impl EchoFilter {
    pub(super) fn new() -> Self {
        Self {
            weights: vec![Spectrum::ZERO; PARTITIONS].into(),
            uncertainty: vec![[0.0; BINS]; PARTITIONS].into(),
            noise: [LEAST_POWER; BINS],
            next_constrained: 0,
        }
    }

    /// Forgets the path. What comes is expected to be loudest in partition `onset`.
    pub(super) fn reset(&mut self, onset: usize) {
        self.weights.fill(Spectrum::ZERO);
        for (partition, uncertainty) in self.uncertainty.iter_mut().enumerate() {
            *uncertainty = [expected_power(partition, onset); BINS];
        }
    }

    /// The window moves: what is known of the path moves with it, what comes into sight is learnt.
    pub(super) fn shift(&mut self, from: usize, to: usize, onset: usize) {
        let (count, later) = (from.abs_diff(to), to > from);
        if count >= PARTITIONS {
            return self.reset(onset);
        }
        if later {
            self.weights.rotate_left(count);
            self.uncertainty.rotate_left(count);
        } else {
            self.weights.rotate_right(count);
            self.uncertainty.rotate_right(count);
        }
        let new = if later { PARTITIONS - count..PARTITIONS } else { 0..count };
        for partition in new {
            self.weights[partition] = Spectrum::ZERO;
            self.uncertainty[partition] = [expected_power(partition, onset); BINS];
        }
    }

    /// The echo as it is expected, in the second half of the frame. `start`: how many blocks ago the window begins.
    pub(super) fn predict(&self, history: &History, start: usize, transform: &mut Transform, frame: &mut [f32; FRAME]) {
        let mut echo = Spectrum::ZERO;
        for (partition, weight) in self.weights.iter().enumerate() {
            echo.add_product(weight, history.ago(start + partition));
        }
        transform.inverse(&echo, frame);
    }

    /// Learns from what was left of a block when the prediction was taken away.
    pub(super) fn adapt(&mut self, history: &History, start: usize, left: &Spectrum) {
        let mut denominator = [0.0; BINS];
        for (partition, uncertainty) in self.uncertainty.iter().enumerate() {
            let sent = history.ago(start + partition);
            for bin in 0..BINS {
                let power = sent.re[bin] * sent.re[bin] + sent.im[bin] * sent.im[bin];
                denominator[bin] += power * uncertainty[bin];
            }
        }
        let mut step = [0.0; BINS];
        for (bin, power) in left.powers().enumerate() {
            self.noise[bin] += NOISE_SHARE * (power - self.noise[bin]);
            // at once when it grows: the first syllable of a caller must not be learnt
            let noise = self.noise[bin].max(power).max(LEAST_POWER);
            // half of the frame is zero: twice the noise (Kuech et al., equation 20)
            step[bin] = 1.0 / (denominator[bin] + 2.0 * noise);
        }
        const FORGET: f32 = TRANSITION * TRANSITION;
        for (partition, (weight, uncertainty)) in self.weights.iter_mut().zip(&mut self.uncertainty).enumerate() {
            let sent = history.ago(start + partition);
            for bin in 0..BINS {
                let (re, im) = (sent.re[bin], sent.im[bin]);
                let gain = uncertainty[bin] * step[bin];
                weight.re[bin] = TRANSITION * (weight.re[bin] + gain * (re * left.re[bin] + im * left.im[bin]));
                weight.im[bin] = TRANSITION * (weight.im[bin] + gain * (re * left.im[bin] - im * left.re[bin]));
                let path = weight.re[bin] * weight.re[bin] + weight.im[bin] * weight.im[bin];
                let known = 1.0 - 0.5 * gain * (re * re + im * im);
                uncertainty[bin] = FORGET * known * uncertainty[bin] + (1.0 - FORGET) * path;
            }
        }
    }

    /// Cuts off what a few partitions' weights would do around the block's edges (the gradient constraint of
    /// overlap-save), taking turns.
    pub(super) fn constrain(&mut self, transform: &mut Transform) {
        let mut frame = [0.0; FRAME];
        for _ in 0..CONSTRAINED {
            let weight = &mut self.weights[self.next_constrained];
            transform.inverse(weight, &mut frame);
            frame[BLOCK..].fill(0.0);
            transform.forward(&frame, weight);
            self.next_constrained = (self.next_constrained + 1) % PARTITIONS;
        }
    }

    /// Whether the weights are those of a path that can be.
    pub(super) fn is_sane(&self) -> bool {
        let power: f32 = self.weights.iter().flat_map(Spectrum::powers).sum();
        power.is_finite() && power < MOST_GAIN * BINS as f32
    }
}

/// The power that a weight is expected to have before anything is known: an echo at -6 dB that begins in `onset` and fades
/// by 60 dB in 300 ms, as rooms do; what comes earlier is unlikely.
fn expected_power(partition: usize, onset: usize) -> f32 {
    match partition.checked_sub(onset) {
        Some(after) => 0.25 * 10_f32.powf(-0.2 * after as f32),
        None => 0.1 * 10_f32.powf(-0.5 * ((onset - partition) as f32)),
    }
}
