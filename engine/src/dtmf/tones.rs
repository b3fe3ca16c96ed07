//! Keys as the tones themselves, for far ends that know neither telephone events nor INFO.
//!
//! Levels are those that telephones are to send by (ETSI ES 201 235-2: the high tone a little above the low one, as lines
//! weaken it): -9 and -7 dBm0. Edges are rounded: a tone that begins or ends at once clicks, and spills into other keys.

use std::f32::consts::TAU;

use super::{HIGH_HZ, KEY_PAD, KEYS, LOW_HZ};
use crate::detect::full_scale_amplitude;

const LOW_DBM0: f32 = -9.0;
const HIGH_DBM0: f32 = -7.0;
/// The rounding of each edge: 2.5 ms. A receiver sees a key of 40 ms for more than 37.
const EDGE_SAMPLES: u32 = 20;
const SAMPLES_PER_MS: u32 = 8;

/// One key as it sounds, at 8 kHz.
#[derive(Debug, Clone, Copy)]
pub struct KeyTone {
    /// Turns a sample, of the low and of the high tone.
    step: [f32; 2],
    turns: [f32; 2],
    length: u32,
    at: u32,
}

impl KeyTone {
    /// A key by its number as an event; one that there is not sounds as 0.
    pub(super) fn new(event: u8, duration_ms: u16) -> Self {
        let key = KEYS.get(usize::from(event)).copied().unwrap_or('0');
        let place = KEY_PAD.iter().flatten().position(|k| *k == key).unwrap_or(0);
        let step = [LOW_HZ[place / 4] / 8_000.0, HIGH_HZ[place % 4] / 8_000.0];
        Self { step, turns: [0.0; 2], length: u32::from(duration_ms) * SAMPLES_PER_MS, at: 0 }
    }

    /// What has not sounded yet.
    pub(super) fn left_ms(&self) -> u16 {
        u16::try_from(self.length.saturating_sub(self.at).div_ceil(SAMPLES_PER_MS)).unwrap_or(u16::MAX)
    }

    /// The silence that was written behind the tone.
    pub(super) fn silent_ms(&self) -> u16 {
        u16::try_from(self.at.saturating_sub(self.length) / SAMPLES_PER_MS).unwrap_or(u16::MAX)
    }

    /// Writes what comes next, and silence behind its end.
    pub(super) fn fill(&mut self, audio: &mut [f32]) {
        let (low, high) = (full_scale_amplitude(LOW_DBM0), full_scale_amplitude(HIGH_DBM0));
        for sample in audio {
            let edge = self.at.min((self.length - 1).saturating_sub(self.at)).min(EDGE_SAMPLES);
            let gain = match (self.at < self.length, edge) {
                (false, _) => 0.0,
                (true, EDGE_SAMPLES) => 1.0,
                (true, edge) => 0.5 - 0.5 * (TAU / 2.0 * edge as f32 / EDGE_SAMPLES as f32).cos(),
            };
            let [a, b] = self.turns.map(|turns| (TAU * turns).sin());
            *sample = gain * (low * a + high * b);
            for (turns, step) in self.turns.iter_mut().zip(self.step) {
                *turns = (*turns + step).fract();
            }
            self.at = self.at.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::keys::KeyDetector;
    use crate::{Codec, TICK_SAMPLES};

    #[test]
    fn every_key_is_heard_as_what_it_is_and_as_long_as_it_was_held() {
        for (event, key) in KEYS.iter().enumerate() {
            for duration_ms in [40, 120] {
                let mut tone = KeyTone::new(event as u8, duration_ms);
                let mut audio = vec![0.0; 8_000];
                tone.fill(&mut audio[..4_000]);
                let mut codes = vec![0; audio.len()];
                Codec::Pcma.encode(&audio, &mut codes);
                Codec::Pcma.decode(&codes, &mut audio);
                let mut detector = KeyDetector::default();
                let heard: Vec<_> =
                    audio.as_chunks::<TICK_SAMPLES>().0.iter().filter_map(|tick| detector.push(tick)).collect();
                assert_eq!(heard.len(), 1, "{key} {duration_ms}");
                assert_eq!(heard[0].digit, *key);
                assert!(heard[0].duration.as_millis().abs_diff(duration_ms.into()) <= 10, "{heard:?}");
            }
        }
    }

    #[test]
    fn levels_are_as_stated_and_edges_do_not_click() {
        let mut audio = vec![0.0; 1_000];
        KeyTone::new(0, 100).fill(&mut audio);
        let power = audio[40..760].iter().map(|s| s * s).sum::<f32>() / 720.0;
        let expected = (full_scale_amplitude(LOW_DBM0).powi(2) + full_scale_amplitude(HIGH_DBM0).powi(2)) / 2.0;
        assert!((power / expected - 1.0).abs() < 0.05, "{power} {expected}");
        assert!(audio.iter().all(|s| s.abs() < 0.6), "below -3 dBFS with room");
        assert!(audio[0].abs() < 1e-6 && audio[800..].iter().all(|s| *s == 0.0));
        let jump = audio.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
        assert!((audio[799] - audio[800]).abs() < 0.02 && jump < 0.5);
    }
}
