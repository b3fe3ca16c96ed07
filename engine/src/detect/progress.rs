//! The tones that a network answers with instead of a person: it rings, it is busy, no way through, three rising tones, a fax.
//!
//! A tone is a frequency, or two, and a cadence. Where the frequencies alone are telling (North America's and the United
//! Kingdom's pairs) a fraction of a second is enough; where one frequency is used for everything (425 Hz in most of Europe)
//! the cadence must be waited for. How sure one can be after what was heard is the confidence.
//!
//! | plan | dial | ringing | busy | congestion |
//! |---|---|---|---|---|
//! | Europe (ETSI TR 101 041) | 425, on | 425, 1 s / 4 s | 425, 0.5 / 0.5 | 425, 0.2-0.25 / same |
//! | North America (ANSI T1.401) | 350+440, on | 440+480, 2 s / 4 s | 480+620, 0.5 / 0.5 | 480+620, 0.25 / 0.25 |
//! | United Kingdom (BT SIN 350) | 350+440, on | 400+450, 0.4 / 0.2 / 0.4 / 2 | 400, 0.375 / 0.375 | 400, 0.4 / 0.35 / 0.225 / 0.525 |
//!
//! Special information (ITU-T E.180): 950, 1400, 1800 Hz, 330 ms each. Fax (ITU-T T.30): calling 1100 Hz, 0.5 s / 3 s;
//! called 2100 Hz for 2.6 s and more.

use heapless::Deque;

use super::CallTone;
use super::spectrum::{FRAME_MS, Frame, Sound};

/// Runs that are remembered: two cycles of the longest cadence.
const RUNS: usize = 8;
/// So many frames of nothing clear are the way from one to the next, more are something else: the window's length and a frame.
const DOUBT_FRAMES: u32 = 6;
/// Whatever is this much weaker than the tone before it is the silence of a noisy line: 10 dB, as power.
const QUIETER: f32 = 0.1;
/// When a tone was gone for so long, the next one is news even if it is the same.
const FORGOTTEN_MS: u32 = 10_000;
/// A tone is told once more when it is surer by this.
const SURER: u8 = 20;

/// What a frame can be of a network's tones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Silence,
    Other,
    /// One tone of 400 to 450 Hz.
    Single,
    /// 440+480 or 400+450.
    Ringing,
    /// 480+620.
    Busy,
    /// 350+440.
    Dial,
    /// A tone of special information, by its place.
    Special(u8),
    FaxCalling,
    FaxCalled,
}

impl Kind {
    pub(super) fn of(sound: Sound) -> Self {
        let near = |hz: f32, wanted: f32, by: f32| (hz - wanted).abs() <= by;
        match sound {
            Sound::Silence => Self::Silence,
            Sound::Tone(hz) if (390.0..=462.0).contains(&hz) => Self::Single,
            Sound::Tone(hz) if near(hz, 950.0, 52.0) => Self::Special(0),
            Sound::Tone(hz) if near(hz, 1_400.0, 52.0) => Self::Special(1),
            Sound::Tone(hz) if near(hz, 1_800.0, 52.0) => Self::Special(2),
            Sound::Tone(hz) if near(hz, 1_100.0, 40.0) => Self::FaxCalling,
            Sound::Tone(hz) if near(hz, 2_100.0, 20.0) => Self::FaxCalled,
            Sound::Pair(a, b) => {
                let is = |low: f32, high: f32| near(a, low, 12.0) && near(b, high, 12.0);
                match () {
                    () if is(440.0, 480.0) || is(400.0, 450.0) => Self::Ringing,
                    () if is(480.0, 620.0) => Self::Busy,
                    () if is(350.0, 440.0) => Self::Dial,
                    () => Self::Other,
                }
            }
            Sound::Tone(_) | Sound::Other => Self::Other,
        }
    }
}

/// So long one kind.
#[derive(Debug, Clone, Copy)]
struct Run {
    kind: Kind,
    frames: u32,
}

impl Run {
    fn ms(self) -> u32 {
        self.frames * FRAME_MS
    }

    fn is(self, kind: Kind, ms: std::ops::RangeInclusive<u32>) -> bool {
        self.kind == kind && ms.contains(&self.ms())
    }
}

/// Follows the tones.
#[derive(Debug)]
pub(super) struct Progress {
    past: Deque<Run, RUNS>,
    now: Run,
    doubt: u32,
    told: Option<(CallTone, u8)>,
    since_tone: u32,
    /// The level of the last tone.
    level: f32,
}

impl Default for Progress {
    fn default() -> Self {
        let now = Run { kind: Kind::Silence, frames: 0 };
        Self { past: Deque::new(), now, doubt: 0, told: None, since_tone: 0, level: 0.0 }
    }
}

impl Progress {
    /// Takes a look; a tone is returned when it has become clear, with a confidence in percent.
    pub(super) fn push(&mut self, frame: &Frame) -> Option<(CallTone, u8)> {
        let mut kind = Kind::of(frame.sound);
        if matches!(kind, Kind::Silence | Kind::Other) {
            if frame.window_level < self.level * QUIETER {
                kind = Kind::Silence;
            }
        } else if self.now.kind != kind || frame.window_level > self.level {
            self.level = frame.window_level;
        }
        self.count(kind);
        let Some((tone, confidence)) = self.judge() else {
            self.since_tone = self.since_tone.saturating_add(FRAME_MS);
            if self.since_tone >= FORGOTTEN_MS {
                self.told = None;
            }
            return None;
        };
        self.since_tone = 0;
        let news = self.told.is_none_or(|(told, sure)| told != tone || confidence >= sure.saturating_add(SURER));
        if news {
            self.told = Some((tone, confidence));
        }
        news.then_some((tone, confidence))
    }

    fn count(&mut self, kind: Kind) {
        if kind == self.now.kind {
            self.now.frames = self.now.frames.saturating_add(1 + std::mem::take(&mut self.doubt));
        } else if kind == Kind::Other {
            self.doubt += 1;
            if self.doubt > DOUBT_FRAMES {
                let frames = std::mem::take(&mut self.doubt);
                self.begin(Run { kind, frames });
            }
        } else {
            // what was unclear between two is shared between them
            let doubt = std::mem::take(&mut self.doubt);
            self.now.frames = self.now.frames.saturating_add(doubt - doubt / 2);
            self.begin(Run { kind, frames: 1 + doubt / 2 });
        }
    }

    fn begin(&mut self, run: Run) {
        if self.past.is_full() {
            self.past.pop_front();
        }
        let _ = self.past.push_back(std::mem::replace(&mut self.now, run));
    }

    /// The run so many before this one.
    fn before(&self, n: usize) -> Option<Run> {
        self.past.iter().rev().nth(n.checked_sub(1)?).copied()
    }

    fn judge(&self) -> Option<(CallTone, u8)> {
        let ms = self.now.ms();
        match self.now.kind {
            Kind::Ringing if ms >= 300 => {
                let again = self.before(2).is_some_and(|run| run.kind == Kind::Ringing);
                Some((CallTone::Ringback, if again { 95 } else { 80 }))
            }
            Kind::Dial if ms >= 600 => Some((CallTone::Dial, 85)),
            Kind::Single if ms >= 2_300 => Some((CallTone::Dial, 70)),
            Kind::FaxCalled if ms >= 1_000 => Some((CallTone::Fax, 85)),
            Kind::Busy => self.busy_by_pair(),
            Kind::Single => self.busy_by_cadence(),
            Kind::Special(2) if ms >= 160 => {
                let rising =
                    self.before(1)?.is(Kind::Special(1), 160..=520) && self.before(2)?.is(Kind::Special(0), 160..=520);
                rising.then_some((CallTone::SpecialInformation, 95))
            }
            Kind::Silence => self.by_what_went_before(ms),
            _ => None,
        }
    }

    /// 480+620: two equal lengths of it and of silence.
    fn busy_by_pair(&self) -> Option<(CallTone, u8)> {
        let (off, on) = (self.before(1)?, self.before(2)?);
        if on.kind != Kind::Busy || off.kind != Kind::Silence {
            return None;
        }
        match (on.ms() + off.ms()) / 2 {
            140..=330 => Some((CallTone::Congestion, 85)),
            370..=650 => Some((CallTone::Busy, 85)),
            _ => None,
        }
    }

    /// One frequency: two whole cycles.
    fn busy_by_cadence(&self) -> Option<(CallTone, u8)> {
        let (off, on, off_before, on_before) = (self.before(1)?, self.before(2)?, self.before(3)?, self.before(4)?);
        let kinds = [on, on_before].iter().all(|run| run.kind == Kind::Single)
            && [off, off_before].iter().all(|run| run.kind == Kind::Silence);
        if !kinds {
            return None;
        }
        let [on, off, on_before, off_before] = [on, off, on_before, off_before].map(Run::ms);
        // the United Kingdom's congestion: a long and a short one in turn, with pauses the other way round
        let uneven = |on: u32, off: u32, short: u32, long: u32| {
            (320..=480).contains(&on)
                && (270..=430).contains(&off)
                && (150..=300).contains(&short)
                && (440..=620).contains(&long)
        };
        if uneven(on, off, on_before, off_before) || uneven(on_before, off_before, on, off) {
            return Some((CallTone::Congestion, 90));
        }
        let lengths = [on, off, on_before, off_before];
        let all = |range: std::ops::RangeInclusive<u32>| lengths.iter().all(|ms| range.contains(ms));
        if all(130..=310) {
            Some((CallTone::Congestion, 90))
        } else if all(310..=650) {
            Some((CallTone::Busy, 90))
        } else {
            None
        }
    }

    fn by_what_went_before(&self, silent_ms: u32) -> Option<(CallTone, u8)> {
        let last = self.before(1)?;
        let before = self.before(3);
        if last.is(Kind::Single, 620..=1_900) && silent_ms >= 1_500 {
            let again = before.is_some_and(|run| run.is(Kind::Single, 620..=1_900));
            return Some((CallTone::Ringback, if again { 95 } else { 70 }));
        }
        if last.is(Kind::FaxCalling, 380..=640) && silent_ms >= 1_000 {
            let again = before.is_some_and(|run| run.is(Kind::FaxCalling, 380..=640));
            return Some((CallTone::Fax, if again { 95 } else { 70 }));
        }
        None
    }
}
