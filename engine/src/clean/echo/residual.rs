//! What the filter leaves of the echo: turned down while nothing else is heard.
//!
//! One gain for the whole band, without delay: this is for ears that shall not take the rest of the echo for a caller, so
//! it must hold still while the agent alone is heard and be out of the way as soon as the caller says something.

use super::super::spectrum::BLOCK;

/// What is only echo is turned down by so much: 30 dB.
const FLOOR_GAIN: f32 = 0.032;
/// What is heard is more than echo when it is this much above what is usually left of the echo: 10 dB, as words are not all
/// alike.
const ABOVE_ECHO: f32 = 10.0;
/// Quieter than this (-60 dBFS) nobody speaks.
const SILENCE: f32 = 1e-6;
/// What is louder than the whole echo by this (3 dB) is let through at once, anything else when it has lasted for so many
/// blocks: an echo whose way has just changed is found out within that.
const AT_ONCE: f32 = 2.0;
const PATIENCE: u32 = 20;
/// The caller is let through for so many blocks after that: 150 ms, a stop within a word.
const HOLD: u32 = 15;
/// The share of the echo that is left follows what is seen by so much, a block; it is a median.
const LEAKAGE_STEP: f32 = 1.04;
/// While the caller speaks, what is seen says little: 2 dB in a second.
const LEAKAGE_STEP_IN_SPEECH: f32 = 1.005;
/// Least that is left.
const LEAST_LEAKAGE: f32 = 1e-4;
/// The filter is worth believing when it once left so little.
const CONVERGED: f32 = 0.1;
/// What it is thought to leave when it is doubted: it is believed again after 200 ms that show better.
const DOUBTED: f32 = 0.2;
/// The echo dies away after its cause: its expected power falls by this, a block (40 dB in 260 ms).
const TAIL: f32 = 0.7;
/// The loudest echo there is, before it is known: -6 dB, what the networks promise (ITU-T G.168 section 6.2).
const LOUDEST_ECHO: f32 = 0.25;

/// The suppressor.
#[derive(Debug)]
pub(super) struct Residual {
    /// The part of the echo's power that the filter leaves.
    leakage: f32,
    converged: bool,
    expected: f32,
    gain: f32,
    hold: u32,
    /// Blocks that were more than echo, less those that were not.
    evidence: u32,
}

impl Residual {
    pub(super) const fn new() -> Self {
        Self { leakage: 1.0, converged: false, expected: 0.0, gain: 1.0, hold: 0, evidence: 0 }
    }

    /// The path is another: how much is left is not known.
    pub(super) fn reset(&mut self) {
        (self.leakage, self.converged) = (1.0, false);
        self.hold = 0;
    }

    /// The filter may not be worth believing any more; what it leaves has to show that anew.
    pub(super) fn doubt(&mut self) {
        self.converged = false;
        self.leakage = self.leakage.max(DOUBTED);
        self.hold = 0;
    }

    /// Whether the filter was once worth believing on this path.
    pub(super) const fn has_converged(&self) -> bool {
        self.converged
    }

    /// Turns down `block`, from which an echo of the power `echo` was taken away. `loudest`: the power of the loudest
    /// block that may come back now.
    pub(super) fn apply(&mut self, block: &mut [f32; BLOCK], echo: f32, loudest: f32) {
        let left = super::super::power(block);
        self.expected = echo.max(TAIL * self.expected);
        if echo > SILENCE {
            let speaks = self.converged && self.hold > 0;
            let step = if speaks { LEAKAGE_STEP_IN_SPEECH } else { LEAKAGE_STEP };
            let grows = left > self.leakage * echo;
            self.leakage *= if grows { step } else { 1.0 / step };
            self.leakage = self.leakage.clamp(LEAST_LEAKAGE, 1.0);
            self.converged |= self.leakage < CONVERGED;
        }
        let usual = if self.converged { ABOVE_ECHO * self.leakage * self.expected } else { LOUDEST_ECHO * loudest };
        let speaks = left > usual.max(SILENCE);
        self.evidence = if speaks { self.evidence + 1 } else { self.evidence.saturating_sub(1) };
        if speaks && (self.hold > 0 || left > AT_ONCE * self.expected || self.evidence > PATIENCE) {
            self.evidence = self.evidence.min(PATIENCE);
            self.hold = HOLD;
        } else {
            self.hold = self.hold.saturating_sub(1);
        }
        self.turn_to(if self.hold > 0 { 1.0 } else { FLOOR_GAIN }, block);
    }

    /// Nothing comes back: everything is let through.
    pub(super) fn release(&mut self, block: &mut [f32; BLOCK]) {
        if self.gain < 1.0 {
            self.turn_to(1.0, block);
        }
    }

    fn turn_to(&mut self, target: f32, block: &mut [f32; BLOCK]) {
        // opens within the block, closes over five
        let end = target.max(if target < self.gain { 0.5 * self.gain } else { 0.0 });
        let step = (end - self.gain) / BLOCK as f32;
        for sample in block {
            self.gain += step;
            *sample *= self.gain;
        }
        self.gain = end;
    }
}
