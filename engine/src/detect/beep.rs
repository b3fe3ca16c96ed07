//! The beep of an answering machine: one steady tone after speech, and silence after it.

use super::spectrum::{FRAME_MS, Frame, Sound};

/// Beeps are seen this long, in ms: the window shows a tone a little longer than it is, and each end is a frame unsure.
const SHORTEST_MS: u32 = 120;
const LONGEST_MS: u32 = 1_560;
const LOWEST_HZ: f32 = 390.0;
const HIGHEST_HZ: f32 = 2_020.0;
/// How far its frequency may wander.
const STEADY_HZ: f32 = 12.0;
/// Silence that shows that it was the beep, in ms.
const SILENCE_MS: u32 = 300;
/// The same where it might be the first of several busy tones.
const SILENCE_AFTER_LOW_MS: u32 = 800;
const LOW_HZ: f32 = 640.0;
/// Speech that must have been heard before, in ms, and how long ago its end may be.
const SPEECH_MS: u32 = 300;
const SPEECH_AGO_MS: u32 = 4_000;
/// Silence is this much below the beep, as power: 17 dB.
const QUIETER: f32 = 0.02;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Waiting,
    Sounding {
        hz: f32,
        level: f32,
        frames: u32,
    },
    /// It is over, and nothing else has come; `doubt` frames are the window's tail.
    After {
        hz: f32,
        level: f32,
        silent: u32,
        doubt: u32,
    },
}

/// Waits for the beep.
#[derive(Debug)]
pub(super) struct Beep {
    phase: Phase,
    speech_frames: u32,
    since_speech: u32,
}

impl Default for Beep {
    fn default() -> Self {
        Self { phase: Phase::Waiting, speech_frames: 0, since_speech: 0 }
    }
}

impl Beep {
    /// Takes a look, and whether it is speech; the confidence in percent when the beep was heard.
    pub(super) fn push(&mut self, frame: &Frame, speech: bool) -> Option<u8> {
        if speech && self.phase == Phase::Waiting {
            self.speech_frames = self.speech_frames.saturating_add(1);
            self.since_speech = 0;
        } else {
            self.since_speech = self.since_speech.saturating_add(1);
        }
        let tone = match frame.sound {
            Sound::Tone(hz) if (LOWEST_HZ..=HIGHEST_HZ).contains(&hz) => Some(hz),
            _ => None,
        };
        match self.phase {
            Phase::Waiting => {
                let spoken = self.speech_frames * FRAME_MS >= SPEECH_MS
                    && self.since_speech.saturating_mul(FRAME_MS) <= SPEECH_AGO_MS;
                if let Some(hz) = tone.filter(|_| spoken) {
                    self.phase = Phase::Sounding { hz, level: frame.level, frames: 1 };
                }
            }
            Phase::Sounding { hz, level, frames } => {
                let level = level.max(frame.level);
                if tone.is_some_and(|now| (now - hz).abs() <= STEADY_HZ) {
                    self.phase = Phase::Sounding { hz, level, frames: frames.saturating_add(1) };
                } else if (SHORTEST_MS..=LONGEST_MS).contains(&(frames * FRAME_MS)) {
                    self.phase = Phase::After { hz, level, silent: 0, doubt: 0 };
                } else {
                    self.phase = Phase::Waiting;
                }
            }
            Phase::After { hz, level, silent, doubt } => {
                let quiet = frame.level <= level * QUIETER;
                let enough = if hz < LOW_HZ { SILENCE_AFTER_LOW_MS } else { SILENCE_MS };
                if quiet && (silent + 1) * FRAME_MS >= enough {
                    *self = Self::default();
                    return Some(90);
                }
                self.phase = match (quiet, silent, doubt) {
                    (true, ..) => Phase::After { hz, level, silent: silent + 1, doubt },
                    // the room's echo of it dies away
                    (false, 0, 0..=4) => Phase::After { hz, level, silent, doubt: doubt + 1 },
                    _ => Phase::Waiting,
                };
            }
        }
        None
    }
}
