//! The slow hand on the ratio of a crossing: a proportional-integral controller on the ring's fill.
//!
//! What must hold: it follows any steady drift between two clocks without leaving the set point, and it is never heard:
//! the ratio moves by no more than [`STEEPEST`], and slowly.

/// Largest deviation of the ratio: 0.5 %, a twelfth of a semitone, which nobody hears in speech. It walks 20 ms off in 4 s.
const STEEPEST: f64 = 0.005;
/// An error is walked off with this time constant, in seconds: slow enough that 1 ms of jitter moves the pitch by less than
/// 250 ppm, fast enough that a drift of 200 ppm costs less than a millisecond until the integral has learnt it.
const WALK_S: f64 = 4.0;
/// Time constant of the integral, in seconds: four times the proportional one damps the loop critically.
const LEARN_S: f64 = 4.0 * WALK_S;
/// Largest drift that is learnt: 0.1 %; no two crystal clocks differ by as much, so more is a fault that must not be kept.
const LEARNT_MAX: f64 = 0.001;
/// The error is smoothed with this time constant, in seconds, against the jitter of both threads' wake-ups.
const SMOOTH_S: f64 = 0.3;
/// Samples a second that the error is counted in.
const HZ: f64 = super::crossing::WIRE_HZ as f64;

/// See the module.
#[derive(Debug)]
pub(super) struct Steering {
    error: f64,
    learnt: f64,
    deviation: f64,
}

impl Steering {
    pub(super) fn new() -> Self {
        Self { error: 0.0, learnt: 0.0, deviation: 0.0 }
    }

    /// Forgets the error but not the drift, which belongs to the clocks and not to what happened in the ring.
    pub(super) fn restart(&mut self, error: f64) {
        self.error = error;
    }

    /// Takes the fill's error now (samples of 8 kHz; positive: too full) and the seconds since the last time. Returns the
    /// factor on the nominal output/input ratio: below 1 when too full, because the filter then eats more or makes less.
    pub(super) fn steer(&mut self, error: f64, seconds: f64) -> f64 {
        self.error += (error - self.error) * (seconds / (SMOOTH_S + seconds));
        let proportional = self.error / HZ / WALK_S;
        if proportional.abs() < STEEPEST {
            // A larger error is a stall, from which nothing is to be learnt about the clocks.
            self.learnt = (self.learnt + proportional * seconds / LEARN_S).clamp(-LEARNT_MAX, LEARNT_MAX);
        }
        self.deviation = (proportional + self.learnt).clamp(-STEEPEST, STEEPEST);
        1.0 / (1.0 + self.deviation)
    }

    /// The smoothed error in samples of 8 kHz.
    pub(super) fn error(&self) -> f64 {
        self.error
    }

    /// The ratio's deviation in force; positive: the ring is being emptied.
    pub(super) fn deviation(&self) -> f64 {
        self.deviation
    }
}
