//! How the voice gives way: the settings of barge-in, and the ramp of a ducked gain.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Samples of 8 kHz in a millisecond.
const SAMPLES_PER_MS: u32 = 8;

/// Barge-in in two steps: duck when the caller may be speaking, fade out and flush when he is. Times up to 1 s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BargeIn {
    /// How much lower a ducked voice is, in dB: 0 to 60.
    pub duck_db: f32,
    /// How long it takes to get there, in ms.
    pub duck_ms: u32,
    /// How long it takes to come back after a false alarm, in ms.
    pub restore_ms: u32,
    /// How long the fade at a halt or clear takes, in ms.
    pub fade_ms: u32,
}

impl Default for BargeIn {
    /// -18 dB in 10 ms, back in 30 ms; a fade of 20 ms: short enough to feel instant and long enough not to click.
    fn default() -> Self {
        Self { duck_db: 18.0, duck_ms: 10, restore_ms: 30, fade_ms: 20 }
    }
}

/// The same as the control thread writes it and the media thread reads it.
#[derive(Debug)]
pub(super) struct SharedBargeIn {
    ducked: AtomicBool,
    /// Halts and clears so far.
    flushes: AtomicU32,
    /// The gain of a ducked voice, as bits.
    gain: AtomicU32,
    duck_samples: AtomicU32,
    restore_samples: AtomicU32,
    fade_samples: AtomicU32,
}

impl Default for SharedBargeIn {
    fn default() -> Self {
        let shared = Self {
            ducked: AtomicBool::new(false),
            flushes: AtomicU32::new(0),
            gain: AtomicU32::new(0),
            duck_samples: AtomicU32::new(0),
            restore_samples: AtomicU32::new(0),
            fade_samples: AtomicU32::new(0),
        };
        shared.set(&BargeIn::default());
        shared
    }
}

impl SharedBargeIn {
    pub(super) fn set(&self, settings: &BargeIn) {
        let db = if settings.duck_db.is_finite() { settings.duck_db.clamp(0.0, 60.0) } else { 0.0 };
        let samples = |ms: u32| ms.min(1_000) * SAMPLES_PER_MS;
        self.gain.store(10.0_f32.powf(-db / 20.0).to_bits(), Ordering::Relaxed);
        self.duck_samples.store(samples(settings.duck_ms).max(1), Ordering::Relaxed);
        self.restore_samples.store(samples(settings.restore_ms).max(1), Ordering::Relaxed);
        self.fade_samples.store(samples(settings.fade_ms).max(1), Ordering::Release);
    }

    pub(super) fn duck(&self, ducked: bool) {
        self.ducked.store(ducked, Ordering::Release);
    }

    pub(super) fn note_flush(&self) {
        self.flushes.fetch_add(1, Ordering::Release);
    }

    pub(super) fn flushes(&self) -> u32 {
        self.flushes.load(Ordering::Acquire)
    }

    /// As it is now.
    pub(super) fn look(&self) -> Barge {
        let fade_samples = self.fade_samples.load(Ordering::Acquire);
        let ducked_gain = f32::from_bits(self.gain.load(Ordering::Relaxed));
        let depth = 1.0 - ducked_gain;
        Barge {
            flushes: self.flushes(),
            fade_samples,
            target: if self.ducked.load(Ordering::Acquire) { ducked_gain } else { 1.0 },
            down: depth / self.duck_samples.load(Ordering::Relaxed) as f32,
            up: depth / self.restore_samples.load(Ordering::Relaxed) as f32,
        }
    }
}

/// What the voice does, and the players with it, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Barge {
    /// Halts and clears so far.
    pub(crate) flushes: u32,
    /// How long a fade is.
    pub(crate) fade_samples: u32,
    /// The gain to go to.
    target: f32,
    /// Change of gain a sample on the way down, and up.
    down: f32,
    up: f32,
}

/// A gain on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Duck {
    gain: f32,
}

impl Default for Duck {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Duck {
    /// The gain of the next sample.
    pub(crate) fn next(&mut self, barge: &Barge) -> f32 {
        if self.gain != barge.target {
            let left = barge.target - self.gain;
            let step = if left < 0.0 { -barge.down } else { barge.up };
            // a little more than a step counts as one: rounding must not make the ramp a sample longer
            self.gain = if left.abs() <= step.abs() * 1.01 { barge.target } else { self.gain + step };
        }
        self.gain
    }

    /// The gain, while it stays as it is.
    pub(crate) fn steady(&self, barge: &Barge) -> Option<f32> {
        (self.gain == barge.target).then_some(self.gain)
    }

    /// Goes on by so many samples that nobody hears.
    pub(crate) fn skip(&mut self, samples: usize, barge: &Barge) {
        let reach = samples as f32;
        self.gain = if self.gain > barge.target {
            (self.gain - reach * barge.down).max(barge.target)
        } else {
            (self.gain + reach * barge.up).min(barge.target)
        };
    }
}
