//! Is this frame speech? webrtc-vad, held in check by levels.
//!
//! webrtc's detector is a cheap and forgiving gate: it lets noise through and hangs on to speech for too long (measured
//! on telephone audio: a third to a half of the pauses over 250 ms missed). So a frame counts as voiced only if it also
//! stands out of the background, which is tracked as the minimum of the last seconds, and is not far below the
//! speech that was going on, which catches room tails and the detector's own hangover.
//!
//! A steady tone or a steady hiss becomes background by itself within two seconds.
//!
//! In webrtc's place a neural detector can be chosen ([`DetectorKind::Earshot`]); the levels hold for it, too.

mod neural;

use std::{collections::VecDeque, time::Duration};

use webrtc_vad::{SampleRate, Vad, VadMode};

use self::neural::Neural;
use crate::STREAM_RATE_HZ;

/// Samples of the frames that the detector works on: 20 ms, one of the three lengths that webrtc-vad takes.
pub const FRAME_SAMPLES: usize = 160;
/// Length of a frame.
pub const FRAME: Duration = Duration::from_millis(20);

/// What webrtc-vad hears is louder by this much (12 dB): it was made for microphones. Of 260 voiced frames that arrive
/// at a peak of -31 dBFS, as on many lines, over a hiss of -65 dBFS, it found 149 without and 215 with it; at -42 dBFS
/// 0 and 94. What it then finds too much is held back by the levels below.
const DETECTOR_GAIN: f32 = 4.0;
/// Quieter than this is never speech: G.711's own steps are at -72 dBFS, an idle line's hiss is near -65.
const LEAST_LEVEL_DB: f32 = -60.0;
/// Speech stands out of the background by at least this. At 5 dB SNR vowels still do.
const ABOVE_FLOOR_DB: f32 = 6.0;
/// A voice that the neural detector is sure of need stand out less.
const ABOVE_FLOOR_NEURAL_DB: f32 = 2.0;
/// Consonants are up to 25 dB below the loudest vowels; what is further below is tail.
const BELOW_SPEECH_DB: f32 = 30.0;
/// The background is the quietest that was heard in this time. Speech dips to it within a second or so.
const FLOOR_WINDOW: Duration = Duration::from_millis(2_000);
/// The window is kept as minima of parts this long.
const FLOOR_PART: Duration = Duration::from_millis(200);
/// No background is assumed to be louder than this before a whole window was heard, so that a call that begins with
/// speech is heard from its first word.
const FIRST_FLOOR_DB: f32 = -54.0;
/// Digital silence has no logarithm.
const SILENCE_DB: f32 = -100.0;
/// The speech level forgets at this rate, so that one shout does not deafen.
const SPEECH_DECAY_DB_PER_FRAME: f32 = 0.1;

/// What was found out about one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VadFrame {
    /// Speech, by the detector and by level.
    pub voiced: bool,
    /// Root mean square in dB of full scale (-100 for digital silence).
    pub level_db: f32,
}

/// Which detector listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DetectorKind {
    /// webrtc-vad: cheap, and ready to take a noise for speech.
    #[default]
    WebRtc,
    /// earshot: a small neural network. Like webrtc-vad it takes a loud hiss or tone for speech until the levels know it.
    Earshot,
}

/// How readily the detector takes a sound for speech: webrtc-vad's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sensitivity {
    /// Mode 2. Misses little; measured F1 .889 on clean telephone speech.
    #[default]
    Normal,
    /// Mode 3. Fewer false alarms, misses quiet speech.
    Strict,
}

/// The detector of one stream. Must be made and used on one thread (`webrtc_vad::Vad` is not `Send`).
pub struct Detector {
    vad: Vad,
    /// Asked in `vad`'s place.
    neural: Option<Neural>,
    floor: NoiseFloor,
    /// Decaying peak of voiced levels.
    speech_db: f32,
    pcm: [i16; FRAME_SAMPLES],
    clean: [f32; FRAME_SAMPLES],
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector")
            .field("floor", &self.floor)
            .field("speech_db", &self.speech_db)
            .finish_non_exhaustive()
    }
}

impl Detector {
    /// A detector of this kind for 8 kHz.
    pub fn of(kind: DetectorKind) -> Self {
        let neural = match kind {
            DetectorKind::WebRtc => None,
            DetectorKind::Earshot => Neural::new(),
        };
        Self { neural, ..Self::new(Sensitivity::Normal) }
    }

    /// webrtc-vad for 8 kHz.
    pub fn new(sensitivity: Sensitivity) -> Self {
        let mode = match sensitivity {
            Sensitivity::Normal => VadMode::Aggressive,
            Sensitivity::Strict => VadMode::VeryAggressive,
        };
        debug_assert_eq!(STREAM_RATE_HZ, 8_000);
        Self {
            vad: Vad::new_with_rate_and_mode(SampleRate::Rate8kHz, mode),
            neural: None,
            floor: NoiseFloor::new(),
            speech_db: SILENCE_DB,
            pcm: [0; FRAME_SAMPLES],
            clean: [0.0; FRAME_SAMPLES],
        }
    }

    /// Judges the stream's next frame.
    pub fn push(&mut self, frame: &[f32; FRAME_SAMPLES]) -> VadFrame {
        let mut energy = 0.0f32;
        for ((out, clean), &sample) in self.pcm.iter_mut().zip(&mut self.clean).zip(frame) {
            // what is no number, or beyond all bounds, must not poison the levels
            let sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
            energy += sample * sample;
            *clean = sample;
            // a float to int cast saturates
            *out = (sample * DETECTOR_GAIN * 32_767.0) as i16;
        }
        let level_db = (10.0 * (energy / FRAME_SAMPLES as f32).log10()).max(SILENCE_DB);
        let floor_db = self.floor.push(level_db);
        // always asked, so that its own model of the background goes on learning
        let detected = match &mut self.neural {
            Some(neural) => neural.push(&self.clean),
            None => self.vad.is_voice_segment(&self.pcm).unwrap_or(false),
        };
        self.speech_db -= SPEECH_DECAY_DB_PER_FRAME;
        let above = if self.neural.is_some() { ABOVE_FLOOR_NEURAL_DB } else { ABOVE_FLOOR_DB };
        let threshold = LEAST_LEVEL_DB.max(floor_db + above).max(self.speech_db - BELOW_SPEECH_DB);
        let voiced = detected && level_db >= threshold;
        if voiced {
            self.speech_db = self.speech_db.max(level_db);
        }
        VadFrame { voiced, level_db }
    }
}

/// The background's level: the minimum of the last [`FLOOR_WINDOW`], kept as minima of its parts.
#[derive(Debug)]
struct NoiseFloor {
    parts: VecDeque<f32>,
    current: f32,
    frames_in_current: u32,
}

impl NoiseFloor {
    const FRAMES_A_PART: u32 = (FLOOR_PART.as_millis() / FRAME.as_millis()) as u32;
    const PARTS: usize = (FLOOR_WINDOW.as_millis() / FLOOR_PART.as_millis()) as usize;

    fn new() -> Self {
        Self { parts: VecDeque::with_capacity(Self::PARTS), current: f32::INFINITY, frames_in_current: 0 }
    }

    fn push(&mut self, level_db: f32) -> f32 {
        self.current = self.current.min(level_db);
        self.frames_in_current += 1;
        if self.frames_in_current == Self::FRAMES_A_PART {
            if self.parts.len() == Self::PARTS {
                self.parts.pop_front();
            }
            self.parts.push_back(self.current);
            self.current = f32::INFINITY;
            self.frames_in_current = 0;
        }
        let quietest = self.parts.iter().copied().fold(self.current, f32::min);
        if self.parts.len() < Self::PARTS { quietest.min(FIRST_FLOOR_DB) } else { quietest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f32 = STREAM_RATE_HZ as f32;

    fn frames(seconds: f32, mut sample: impl FnMut(f32) -> f32) -> Vec<[f32; FRAME_SAMPLES]> {
        let count = (seconds * RATE) as usize / FRAME_SAMPLES;
        (0..count).map(|f| std::array::from_fn(|i| sample((f * FRAME_SAMPLES + i) as f32 / RATE))).collect()
    }

    fn voiced_share(detector: &mut Detector, frames: &[[f32; FRAME_SAMPLES]]) -> f32 {
        let voiced = frames.iter().filter(|f| detector.push(f).voiced).count();
        voiced as f32 / frames.len() as f32
    }

    /// A vowel-like buzz: harmonics of 120 Hz under two formants, with syllables four times a second.
    fn buzz(t: f32) -> f32 {
        let carrier: f32 = (1..25)
            .map(|h| {
                let hz = 120.0 * h as f32;
                let formants =
                    (-((hz - 600.0) / 200.0).powi(2)).exp() + 0.5 * (-((hz - 1_500.0) / 300.0).powi(2)).exp();
                formants * (std::f32::consts::TAU * hz * t).sin()
            })
            .sum();
        let syllable = (std::f32::consts::TAU * 4.0 * t).sin().abs().sqrt();
        0.1 * carrier * syllable
    }

    #[test]
    fn digital_silence_is_not_voiced_and_has_a_finite_level() {
        let mut detector = Detector::new(Sensitivity::Normal);
        for frame in frames(1.0, |_| 0.0) {
            let heard = detector.push(&frame);
            assert!(!heard.voiced);
            assert_eq!(heard.level_db, SILENCE_DB);
        }
    }

    #[test]
    fn speech_like_sound_is_voiced_from_the_first_second_on() {
        let mut detector = Detector::new(Sensitivity::Normal);
        let share = voiced_share(&mut detector, &frames(3.0, buzz));
        assert!(share > 0.7, "only {share} of a buzz was voiced");
    }

    #[test]
    fn a_quiet_voice_on_a_hissing_line_is_voiced() {
        let mut detector = Detector::new(Sensitivity::Normal);
        let mut random = fastrand::Rng::with_seed(4);
        let share = voiced_share(&mut detector, &frames(3.0, |t| 0.1 * buzz(t) + 0.002 * (random.f32() - 0.5)));
        assert!(share > 0.5, "only {share} of a quiet buzz was voiced");
    }

    #[test]
    fn a_steady_hiss_becomes_background() {
        let mut detector = Detector::new(Sensitivity::Normal);
        let mut random = fastrand::Rng::with_seed(1);
        let noise = frames(8.0, |_| 0.1 * (random.f32() - 0.5));
        voiced_share(&mut detector, &noise[..150]);
        let share = voiced_share(&mut detector, &noise[150..]);
        assert!(share < 0.02, "{share} of a steady hiss was voiced");
    }

    #[test]
    fn a_steady_tone_becomes_background() {
        let mut detector = Detector::new(Sensitivity::Normal);
        let tone = frames(8.0, |t| 0.3 * (std::f32::consts::TAU * 440.0 * t).sin());
        voiced_share(&mut detector, &tone[..150]);
        let share = voiced_share(&mut detector, &tone[150..]);
        assert!(share < 0.02, "{share} of a steady tone was voiced");
    }

    #[test]
    fn a_pause_after_speech_is_seen_within_a_tenth_of_a_second() {
        let mut detector = Detector::new(Sensitivity::Normal);
        let mut random = fastrand::Rng::with_seed(2);
        // a room at -60 dBFS behind it
        let mut room = move || 0.003 * (random.f32() - 0.5);
        let speech = frames(2.0, |t| buzz(t) + room());
        voiced_share(&mut detector, &speech);
        let mut random = fastrand::Rng::with_seed(3);
        let pause = frames(0.6, |_| 0.003 * (random.f32() - 0.5));
        let last = pause.iter().rposition(|f| detector.push(f).voiced);
        assert!(last.is_none_or(|last| last < 5), "frame {last:?} of the pause was still voiced");
    }

    #[test]
    fn a_loud_hiss_or_tone_is_a_voice_to_the_neural_detector_only_until_the_levels_know_it() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut hiss = move |level: f32| level * (random.f32() - 0.5);
        let tone = |t: f32| 0.3 * (std::f32::consts::TAU * 425.0 * t).sin();
        for (name, sound) in [
            ("silence", frames(4.0, |_| 0.0)),
            ("a quiet hiss", frames(4.0, |_| hiss(0.01))),
            ("a hiss", frames(4.0, |_| hiss(0.2))),
            ("a tone", frames(4.0, tone)),
        ] {
            let mut detector = Detector::of(DetectorKind::Earshot);
            let at_first = voiced_share(&mut detector, &sound[..100]);
            assert!(at_first < 0.05 || ["a hiss", "a tone"].contains(&name), "{at_first} of {name} was voiced");
            // the levels know it by now
            let share = voiced_share(&mut detector, &sound[100..]);
            assert!(share < 0.05, "{share} of {name} was voiced");
        }
    }

    #[test]
    fn samples_that_are_no_numbers_or_far_too_loud_do_no_harm() {
        for kind in [DetectorKind::WebRtc, DetectorKind::Earshot] {
            let mut detector = Detector::of(kind);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1.0, 1.0] {
                let heard = detector.push(&[bad; FRAME_SAMPLES]);
                assert!(heard.level_db.is_finite());
            }
        }
    }
}
