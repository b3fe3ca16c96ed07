//! What is in the sound besides words: telephone keys, the network's tones, a fax, an answering machine and its beep, music.
//!
//! [`Detectors`] listens to what the caller's playout gives, tick by tick, and says [`Finding`]s. It is built off the media
//! thread, moved in and out by a command, and allocates nothing between. A call without it pays one test a tick. What has a
//! confidence is a guess: it is told, and nothing is done about it here.

mod answered_by;
mod beep;
pub mod keys;
mod music;
mod progress;
mod spectrum;

use std::time::Duration;

use answered_by::{AnsweredBy, Speech};
use beep::Beep;
use keys::KeyDetector;
use music::Music;
use progress::Progress;
use spectrum::Spectrum;

use crate::dtmf::Heard;
use crate::{TICK, TICK_SAMPLES};

/// The call's rate.
const RATE_HZ: f32 = 8_000.0;
/// A key that was told from its tones is not told again by an event that comes within this.
const SAME_KEY: Duration = Duration::from_millis(1_000);

/// The amplitude of a tone of so many dBm0, full scale being 1: that is +3.17 dBm0 (ITU-T G.711, mu-law).
pub(crate) fn full_scale_amplitude(dbm0: f32) -> f32 {
    10_f32.powf((dbm0 - 3.17) / 20.0)
}

/// A tone that is no speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallTone {
    /// It rings at the called.
    Ringback,
    /// The called is busy.
    Busy,
    /// No way through (North America: reorder, fast busy).
    Congestion,
    /// Three rising tones: the number cannot be reached, and a voice will say why (ITU-T E.180).
    SpecialInformation,
    /// An exchange waits for digits.
    Dial,
    /// A fax, calling or called (ITU-T T.30).
    Fax,
    /// An answering machine's: speak now.
    Beep,
}

impl CallTone {
    /// Its name in the control protocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ringback => "ringback",
            Self::Busy => "busy",
            Self::Congestion => "congestion",
            Self::SpecialInformation => "sit",
            Self::Dial => "dial",
            Self::Fax => "fax",
            Self::Beep => "beep",
        }
    }
}

/// Who has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Party {
    /// Somebody.
    Person,
    /// An answering machine, or another announcement.
    Machine,
    /// Nothing was said.
    Unknown,
}

impl Party {
    /// Its name in the control protocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Machine => "machine",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// A key by its tones.
    Key(Heard),
    /// A tone, with a confidence in percent.
    Tone(CallTone, u8),
    /// Who has answered, with a confidence in percent, so long after the answer.
    AnsweredBy(Party, u8, Duration),
    /// Music plays, or does no longer, with a confidence in percent.
    Music(bool, u8),
}

/// What is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DetectConfig {
    /// Telephone keys in the sound.
    pub keys: bool,
    /// The network's tones.
    pub progress: bool,
    /// A person or a machine, and the machine's beep. The call was answered as this begins.
    pub answered_by: bool,
    /// Music.
    pub music: bool,
    /// How long tones and who has answered are listened for; `None`: all the time. Keys and music are all the time.
    pub tones_for: Option<Duration>,
}

impl DetectConfig {
    /// Whether nothing is listened for.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        !self.keys && !self.progress && !self.answered_by && !self.music
    }
}

/// What needs the spectrum.
#[derive(Debug)]
struct Tones {
    spectrum: Spectrum,
    speech: Speech,
    progress: Option<Progress>,
    answered: Option<(AnsweredBy, Beep)>,
    music: Option<Box<Music>>,
    ticks_left: Option<u32>,
}

impl Tones {
    fn is_done(&self) -> bool {
        self.ticks_left == Some(0) && self.music.is_none()
    }

    fn push(&mut self, tick: &[f32; TICK_SAMPLES], emit: &mut impl FnMut(Finding)) {
        let over = self.ticks_left == Some(0);
        if let Some(left) = &mut self.ticks_left {
            *left = left.saturating_sub(1);
        }
        let Some(frame) = self.spectrum.push(tick, if over { music::FRAMES_A_LOOK } else { 1 }) else { return };
        if self.spectrum.is_nth_frame(music::FRAMES_A_LOOK)
            && let Some((playing, confidence)) =
                self.music.as_mut().and_then(|music| music.push(&frame, self.spectrum.bins()))
        {
            emit(Finding::Music(playing, confidence));
        }
        if over {
            return;
        }
        let speech = self.speech.is_speech(&frame);
        if let Some((tone, confidence)) = self.progress.as_mut().and_then(|progress| progress.push(&frame)) {
            emit(Finding::Tone(tone, confidence));
        }
        let Some((answered, beep)) = &mut self.answered else { return };
        let mut verdict = answered.push(speech);
        if let Some(confidence) = beep.push(&frame, speech) {
            emit(Finding::Tone(CallTone::Beep, confidence));
            verdict = answered.on_beep().or(verdict);
        }
        if let Some((party, confidence)) = verdict {
            let after = Duration::from_millis(answered.after_ms().into());
            emit(Finding::AnsweredBy(party, confidence, after));
        }
    }
}

/// Listens to one call.
#[derive(Debug)]
pub struct Detectors {
    keys: Option<KeyDetector>,
    tones: Option<Tones>,
    /// The far end sends keys as events: what is in the sound is an echo of them.
    events_come: bool,
    /// The last key told from its tones, and how many ticks ago.
    told: Option<(char, u32)>,
}

impl Detectors {
    /// Builds what was asked for. Allocates.
    #[must_use]
    pub fn new(config: &DetectConfig) -> Self {
        let tones = (config.progress || config.answered_by || config.music).then(|| Tones {
            spectrum: Spectrum::new(),
            speech: Speech::default(),
            progress: config.progress.then(Progress::default),
            answered: config.answered_by.then(Default::default),
            music: config.music.then(Default::default),
            ticks_left: config
                .tones_for
                .map(|time| u32::try_from(time.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX)),
        });
        Self { keys: config.keys.then(KeyDetector::default), tones, events_come: false, told: None }
    }

    /// Takes the next 5 ms that were heard.
    pub fn push(&mut self, tick: &[f32; TICK_SAMPLES], mut emit: impl FnMut(Finding)) {
        if let Some((_, ago)) = &mut self.told {
            *ago = ago.saturating_add(1);
        }
        if let Some(heard) = self.keys.as_mut().and_then(|keys| keys.push(tick)).filter(|_| !self.events_come) {
            self.told = Some((heard.digit, 0));
            emit(Finding::Key(heard));
        }
        if let Some(tones) = self.tones.as_mut().filter(|tones| !tones.is_done()) {
            tones.push(tick, &mut emit);
        }
    }

    /// Whether the time is over and nothing else is listened for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.keys.is_none() && self.tones.as_ref().is_none_or(Tones::is_done)
    }

    /// A telephone event came: from now on those are the keys. Two reports of one key would be worse than none in the sound.
    pub fn on_event(&mut self) {
        self.events_come = true;
    }

    /// Whether the key of an event is one that was told from its tones a moment ago. Asked once an event.
    pub fn told_already(&mut self, digit: char) -> bool {
        let ticks = u32::try_from(SAME_KEY.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX);
        self.told.take_if(|(told, ago)| *told == digit && *ago <= ticks).is_some()
    }

    /// Goes on where others were: a key that is being held, what was heard of a tone, and what is known of the far end.
    pub fn follow(&mut self, before: &mut Self) {
        (self.events_come, self.told) = (before.events_come, before.told);
        if let (Some(keys), Some(others)) = (&mut self.keys, &mut before.keys) {
            std::mem::swap(keys, others);
        }
        if let (Some(tones), Some(others)) = (&mut self.tones, &mut before.tones) {
            if let (Some(progress), Some(other)) = (&mut tones.progress, &mut others.progress) {
                std::mem::swap(progress, other);
            }
            if let (Some(music), Some(other)) = (&mut tones.music, &mut others.music) {
                std::mem::swap(music, other);
            }
        }
    }
}

#[cfg(test)]
mod tests;
