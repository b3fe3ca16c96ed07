//! Who has answered: a person or a machine, by the timing of what is said first.
//!
//! A person says "hello" and waits. A machine says whole sentences and does not wait. So the length of the first stretch of
//! speech, up to the first real pause, tells them apart, more surely the shorter or the longer it is; a voicemail's beep
//! tells it for sure, whatever was thought before. It is told and nothing is done about it: a guess hangs up on nobody.

use super::spectrum::{FRAME_MS, Frame, Sound};
use super::{Party, full_scale_amplitude};

/// A pause that ends the greeting, in ms: longer than between sentences, as long as people wait for an answer.
const PAUSE_MS: u32 = 800;
/// Speech without such a pause for so long is a machine's, in ms.
const MACHINE_MS: u32 = 3_600;
/// Nothing said for so long: who knows. In ms.
const SILENT_MS: u32 = 5_000;
/// Speech is louder than this, in dBm0, and than the line's noise by 9 dB.
const SPEECH_DBM0: f32 = -42.0;
const ABOVE_NOISE: f32 = 8.0;
/// The noise is the quietest there was; it may rise by a thousandth a frame (2 dB in 10 s).
const NOISE_RISE: f32 = 1.001;
/// Frames of speech within the last five that begin a greeting: a click is no speech.
const ONSET_FRAMES: u32 = 3;

/// Tells speech from a quiet line.
#[derive(Debug)]
pub(super) struct Speech {
    noise: f32,
}

impl Default for Speech {
    fn default() -> Self {
        Self { noise: 1.0 }
    }
}

impl Speech {
    pub(super) fn is_speech(&mut self, frame: &Frame) -> bool {
        // a line of zeros is no measure of noise
        let floor = full_scale_amplitude(-60.0).powi(2) / 2.0;
        self.noise = (self.noise * NOISE_RISE).min(frame.level).max(floor);
        let loud = full_scale_amplitude(SPEECH_DBM0).powi(2) / 2.0;
        let tone = matches!(frame.sound, Sound::Tone(_) | Sound::Pair(..));
        !tone && frame.level > loud.max(self.noise * ABOVE_NOISE)
    }
}

/// Listens from the answer on.
#[derive(Debug, Default)]
pub(super) struct AnsweredBy {
    frames: u32,
    /// The last five frames, newest in the lowest bit.
    recent: u8,
    /// First and last frame of the greeting.
    greeting: Option<(u32, u32)>,
    told: Option<(Party, u8)>,
}

impl AnsweredBy {
    /// Takes a look; who it is when that has become clear, with a confidence in percent.
    pub(super) fn push(&mut self, speech: bool) -> Option<(Party, u8)> {
        self.frames = self.frames.saturating_add(1);
        self.recent = (self.recent << 1 | u8::from(speech)) & 0x1F;
        if speech {
            match &mut self.greeting {
                Some((_, last)) => *last = self.frames,
                None if self.recent.count_ones() >= ONSET_FRAMES => {
                    self.greeting = Some((self.frames - ONSET_FRAMES, self.frames));
                }
                None => {}
            }
        }
        if self.told.is_some_and(|(party, _)| party != Party::Unknown) {
            return None;
        }
        let verdict = match self.greeting {
            None if self.told.is_none() && self.frames * FRAME_MS >= SILENT_MS => (Party::Unknown, 50),
            None => return None,
            Some((first, last)) => {
                let (spoke_ms, silent_ms) = ((last - first) * FRAME_MS, (self.frames - last) * FRAME_MS);
                if spoke_ms >= MACHINE_MS {
                    (Party::Machine, 75)
                } else if silent_ms >= PAUSE_MS {
                    by_length(spoke_ms)
                } else {
                    return None;
                }
            }
        };
        self.told = Some(verdict);
        Some(verdict)
    }

    /// The beep was heard.
    pub(super) fn on_beep(&mut self) -> Option<(Party, u8)> {
        let verdict = (Party::Machine, 97);
        let news = self.told != Some(verdict);
        self.told = Some(verdict);
        news.then_some(verdict)
    }

    /// Time since the answer, in ms.
    pub(super) fn after_ms(&self) -> u32 {
        self.frames.saturating_mul(FRAME_MS)
    }
}

/// What a greeting of this length that was followed by a pause says.
fn by_length(spoke_ms: u32) -> (Party, u8) {
    match spoke_ms {
        0..=900 => (Party::Person, 90),
        901..=1_500 => (Party::Person, 85),
        1_501..=2_200 => (Party::Person, 70),
        2_201..=2_900 => (Party::Person, 55),
        _ => (Party::Machine, 60),
    }
}
