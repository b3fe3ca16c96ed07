//! Telephone keys in the sound itself (ITU-T Q.23, Q.24): for far ends that agree to no telephone events.
//!
//! A key is one tone of a low and one of a high group. Whether two tones are there is easily told by correlating with the
//! eight frequencies; that they are a key and not somebody's voice is told by everything else that a key is and speech is
//! not for as long as 35 ms: nearly all energy is in the two tones, both keep their level, and both are within 2.5 % of
//! their frequency. A window that is short enough for the shortest key cannot see 2.5 % of 697 Hz in a spectrum, but the
//! turning of a tone's phase from one window to the next shows a few hertz.
//!
//! | | accepted for sure | refused for sure |
//! |---|---|---|
//! | frequency | +-1.5 % and 2 Hz | +-3.5 % |
//! | length of a key | 40 ms | 20 ms |
//! | pause between keys | 40 ms | 10 ms (bridged: it is one key) |
//! | low tone above the high one | 8 dB | 14 dB |
//! | high tone above the low one | 4 dB | 10 dB |
//! | noise below the key | 15 dB | 3 dB |
//! | level of the stronger tone | -36 to 0 dBm0 | -48 dBm0 |

use std::f32::consts::TAU;
use std::time::Duration;

use super::{RATE_HZ, full_scale_amplitude};
use crate::TICK_SAMPLES;
use crate::dtmf::{HIGH_HZ, Heard, KEY_PAD, LOW_HZ};

/// 15 ms: the shortest window whose main lobe (+-133 Hz, Hann) keeps the two groups, 268 Hz apart, out of each other.
const WINDOW: usize = 120;
/// From one window to the next: the turning of the phase is without doubt within +-66 Hz, more than 3.5 % of any tone.
const HOP: usize = 60;
/// What one look sees: three windows.
const SPAN: usize = WINDOW + 2 * HOP;
const SPAN_TICKS: usize = SPAN / TICK_SAMPLES;
/// Looks in a row that must see the same key: with the span 35 ms, so that 40 ms are enough wherever the ticks fall.
const LOOKS: u8 = 2;
/// Looks without the key that end it: a gap of 10 ms spoils the looks of 45 ms at most, a pause of 40 ms those of at least 70.
const RELEASE_LOOKS: u8 = 11;
/// Half way between what must be taken and what must not.
const FREQUENCY_TOLERANCE: f32 = 0.025;
/// Least share of the energy that is in the two tones. At 15 dB it is 0.97; a vowel's two strongest partials rarely have it.
const PURITY: f32 = 0.85;
/// The weakest 5 ms of a look against its mean. Two tones beat, by a fifth at most; what begins or ends is weaker.
const STEADY: f32 = 0.4;
/// The weakest window's tone against the strongest's.
const LEVEL_STEADY: f32 = 0.6;
/// 11 dB and 7 dB, as amplitudes: what is accepted for sure and some noise.
const MOST_LOW_ABOVE: f32 = 3.55;
const MOST_HIGH_ABOVE: f32 = 2.24;
/// Below this no tone is a key's.
const LEAST_DBM0: f32 = -42.0;

/// One frequency seen in one window: its complex amplitude.
#[derive(Debug, Clone, Copy)]
struct Seen {
    re: f32,
    im: f32,
}

impl Seen {
    fn amplitude(self) -> f32 {
        self.re.hypot(self.im)
    }
}

/// The eight frequencies under a Hann window, scaled so that a tone gives its amplitude.
#[derive(Debug)]
struct Correlators {
    cos: [[f32; WINDOW]; 8],
    sin: [[f32; WINDOW]; 8],
}

impl Correlators {
    fn new() -> Self {
        let mut all = Self { cos: [[0.0; WINDOW]; 8], sin: [[0.0; WINDOW]; 8] };
        let hann = |n: usize| 0.5 - 0.5 * (TAU * (n as f32 + 0.5) / WINDOW as f32).cos();
        let scale = 2.0 / (0..WINDOW).map(hann).sum::<f32>();
        for ((cos, sin), hz) in all.cos.iter_mut().zip(&mut all.sin).zip(LOW_HZ.iter().chain(&HIGH_HZ)) {
            for (n, (cos, sin)) in cos.iter_mut().zip(sin).enumerate() {
                let phase = TAU * hz * n as f32 / RATE_HZ;
                *cos = hann(n) * scale * phase.cos();
                *sin = -hann(n) * scale * phase.sin();
            }
        }
        all
    }

    fn look(&self, tone: usize, window: &[f32]) -> Seen {
        let dot = |table: &[f32; WINDOW]| table.iter().zip(window).map(|(a, b)| a * b).sum();
        Seen { re: dot(&self.cos[tone]), im: dot(&self.sin[tone]) }
    }
}

/// How much of a tone that is so far beside the frequency the window shows (Hann's main lobe).
fn lobe(offset_hz: f32) -> f32 {
    let bins = (offset_hz * WINDOW as f32 / RATE_HZ).abs();
    if bins < 1e-3 {
        return 1.0;
    }
    let phase = std::f32::consts::PI * bins;
    (phase.sin() / phase / (1.0 - bins * bins)).abs().max(0.3)
}

#[derive(Debug, Clone, Copy)]
struct Held {
    key: usize,
    /// Ticks since the first look that saw it, and how many of them ago it was seen last.
    ticks: u32,
    unseen: u8,
}

impl Held {
    fn heard(self) -> Heard {
        let seen = self.ticks.saturating_sub(u32::from(self.unseen)) + SPAN_TICKS as u32;
        Heard { digit: KEY_PAD[self.key / 4][self.key % 4], duration: Duration::from_millis(5) * seen }
    }
}

/// Hears keys in 8 kHz audio, tick by tick. Does not allocate; about 8 kB.
#[derive(Debug)]
pub struct KeyDetector {
    correlators: Correlators,
    past: [f32; SPAN],
    energies: [f32; SPAN_TICKS],
    candidate: Option<(usize, u8)>,
    held: Option<Held>,
}

impl Default for KeyDetector {
    fn default() -> Self {
        Self {
            correlators: Correlators::new(),
            past: [0.0; SPAN],
            energies: [0.0; SPAN_TICKS],
            candidate: None,
            held: None,
        }
    }
}

impl KeyDetector {
    /// Takes the next 5 ms; a key is returned when it was released, or when the next one is already held.
    pub fn push(&mut self, tick: &[f32; TICK_SAMPLES]) -> Option<Heard> {
        self.past.copy_within(TICK_SAMPLES.., 0);
        self.past[SPAN - TICK_SAMPLES..].copy_from_slice(tick);
        self.energies.copy_within(1.., 0);
        self.energies[SPAN_TICKS - 1] = tick.iter().map(|s| s * s).sum::<f32>() / TICK_SAMPLES as f32;
        let key = self.key();
        self.candidate = key.map(|key| match self.candidate {
            Some((before, looks)) if before == key => (key, looks.saturating_add(1)),
            _ => (key, 1),
        });
        let sure = self.candidate.filter(|(_, looks)| *looks >= LOOKS).map(|(key, _)| key);
        let mut released = None;
        if let Some(held) = &mut self.held {
            held.ticks += 1;
            held.unseen = if key == Some(held.key) { 0 } else { held.unseen + 1 };
            let other = sure.is_some_and(|key| key != held.key);
            if other || held.unseen >= RELEASE_LOOKS {
                released = self.held.take().map(Held::heard);
            }
        }
        if let Some(key) = sure.filter(|_| self.held.is_none()) {
            self.held = Some(Held { key, ticks: u32::from(LOOKS) - 1, unseen: 0 });
        }
        released
    }

    /// Whether a key sounds now, as far as can be told.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The key that fills the whole span, if one does: `low * 4 + high`.
    fn key(&self) -> Option<usize> {
        let energy = self.energies.iter().sum::<f32>() / SPAN_TICKS as f32;
        let least = full_scale_amplitude(LEAST_DBM0);
        let weakest = self.energies.iter().copied().fold(f32::INFINITY, f32::min);
        if energy < least * least || weakest < STEADY * energy {
            return None;
        }
        let middle = self.past.get(HOP..HOP + WINDOW)?;
        let seen: [Seen; 8] = std::array::from_fn(|tone| self.correlators.look(tone, middle));
        let strongest =
            |tones: std::ops::Range<usize>| tones.max_by(|&a, &b| seen[a].amplitude().total_cmp(&seen[b].amplitude()));
        let (low, high) = (strongest(0..4)?, strongest(4..8)?);
        let a = self.tone(low, seen[low])?;
        let b = self.tone(high, seen[high])?;
        let twisted = a > b * MOST_LOW_ABOVE || b > a * MOST_HIGH_ABOVE;
        let mean = self.past.iter().sum::<f32>() / SPAN as f32;
        let pure = (a * a + b * b) / 2.0 >= PURITY * (energy - mean * mean);
        (!twisted && pure && a.min(b) >= least).then_some(low * 4 + high - 4)
    }

    /// The amplitude of a tone, if it is steady over the span and near enough to its frequency.
    fn tone(&self, tone: usize, middle: Seen) -> Option<f32> {
        let first = self.correlators.look(tone, self.past.get(..WINDOW)?);
        let last = self.correlators.look(tone, self.past.get(2 * HOP..)?);
        let levels = [first.amplitude(), middle.amplitude(), last.amplitude()];
        let most = levels.iter().copied().fold(0.0, f32::max);
        let least = levels.iter().copied().fold(f32::INFINITY, f32::min);
        if least < LEVEL_STEADY * most || least <= 0.0 {
            return None;
        }
        let hz = if tone < 4 { LOW_HZ[tone] } else { HIGH_HZ[tone - 4] };
        // what the phase turns beyond what the frequency itself does, over both hops
        let expected = TAU * hz * HOP as f32 / RATE_HZ;
        let (re, im) = add(turned(first, middle), turned(middle, last));
        let turn = im.atan2(re) - expected;
        let beyond = turn - TAU * (turn / TAU).round();
        let offset_hz = beyond * RATE_HZ / (TAU * HOP as f32);
        let near = offset_hz.abs() <= hz * FREQUENCY_TOLERANCE;
        near.then(|| levels.iter().sum::<f32>() / 3.0 / lobe(offset_hz))
    }
}

/// `b` against `a`: the product with the conjugate.
fn turned(a: Seen, b: Seen) -> (f32, f32) {
    (b.re * a.re + b.im * a.im, b.im * a.re - b.re * a.im)
}

fn add(a: (f32, f32), b: (f32, f32)) -> (f32, f32) {
    (a.0 + b.0, a.1 + b.1)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
