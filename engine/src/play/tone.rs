//! Tones: up to four frequencies at once, in a cadence, computed sample by sample.

use heapless::Vec as FixedVec;

/// Frequencies that sound at once.
pub const MAX_FREQUENCIES: usize = 4;
/// Pieces of a cadence.
const MAX_SEGMENTS: usize = 4;
/// What each frequency has, in dB of full scale: -13 dBm0 (the North American precise tone plan) is -16.
const LEVEL_DB: f32 = -16.0;
/// Ramps at the edges, in samples: 5 ms, so that nothing clicks.
const EDGE: u32 = 40;
const SAMPLES_PER_MS: u32 = 8;

/// Whose tones are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Region {
    /// 425 Hz, as ITU-T E.180 recommends and most of Europe has it.
    #[default]
    Europe,
    /// The precise tone plan of North America.
    NorthAmerica,
}

/// The tones that everybody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedTone {
    /// The exchange waits for digits.
    Dial,
    /// It rings at the far end.
    Ringback,
    /// The far end is busy.
    Busy,
    /// The network is busy.
    Congestion,
    /// Something is said to follow: three rising tones (ITU-T E.180).
    Sit,
    /// One short tone: speak now.
    Beep,
}

/// One piece of a cadence.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Segment {
    /// What sounds, in Hz; 0: nothing.
    pub frequencies_hz: [f32; MAX_FREQUENCIES],
    /// For how long, in ms; 0: for ever.
    pub on_ms: u32,
    /// The silence after it, in ms.
    pub off_ms: u32,
}

impl Segment {
    /// Some frequencies (the first four), in Hz.
    #[must_use]
    pub fn new(frequencies_hz: &[f32], on_ms: u32, off_ms: u32) -> Self {
        let mut all = [0.0; MAX_FREQUENCIES];
        for (slot, hz) in all.iter_mut().zip(frequencies_hz) {
            *slot = if hz.is_finite() { hz.clamp(0.0, 3_999.0) } else { 0.0 };
        }
        Self { frequencies_hz: all, on_ms, off_ms }
    }
}

/// A tone that sounds.
#[derive(Debug, Clone)]
pub struct Tone {
    segments: FixedVec<Segment, MAX_SEGMENTS>,
    /// The segment that sounds, and the samples of it that have.
    current: usize,
    at: u32,
    /// Full turns, 0 to 1.
    phases: [f64; MAX_FREQUENCIES],
    /// Samples left of the whole.
    left: Option<u64>,
    amplitude: f32,
}

impl Tone {
    /// A cadence that repeats, for so long; `None`: until it is stopped. Segments beyond the fourth are left out; without
    /// any it is over at once.
    #[must_use]
    pub fn new(segments: &[Segment], for_ms: Option<u32>) -> Self {
        let count = segments.len().min(MAX_SEGMENTS);
        let silent = segments.iter().all(|segment| segment.on_ms == 0 && segment.off_ms > 0) || count == 0;
        Self {
            segments: FixedVec::from_slice(&segments[..count]).unwrap_or_default(),
            current: 0,
            at: 0,
            phases: [0.0; MAX_FREQUENCIES],
            left: if silent { Some(0) } else { for_ms.map(|ms| u64::from(ms) * u64::from(SAMPLES_PER_MS)) },
            amplitude: 10.0_f32.powf(LEVEL_DB / 20.0),
        }
    }

    /// One that everybody knows; for so long, or until it is stopped. A beep and the special information tone are over by
    /// themselves.
    #[must_use]
    pub fn named(tone: NamedTone, region: Region, for_ms: Option<u32>) -> Self {
        let us = region == Region::NorthAmerica;
        let one = |eu: &[f32], na: &[f32], on_ms, off_ms| {
            Self::new(&[Segment::new(if us { na } else { eu }, on_ms, off_ms)], for_ms)
        };
        match tone {
            NamedTone::Dial => one(&[425.0], &[350.0, 440.0], 0, 0),
            NamedTone::Ringback if us => one(&[], &[440.0, 480.0], 2_000, 4_000),
            NamedTone::Ringback => one(&[425.0], &[], 1_000, 4_000),
            NamedTone::Busy => one(&[425.0], &[480.0, 620.0], 500, 500),
            NamedTone::Congestion => one(&[425.0], &[480.0, 620.0], 250, 250),
            NamedTone::Beep => Self::new(&[Segment::new(&[1_000.0], 0, 0)], Some(for_ms.unwrap_or(250))),
            NamedTone::Sit => {
                let piece = |hz| Segment::new(&[hz], 330, 0);
                Self::new(&[piece(950.0), piece(1_400.0), piece(1_800.0)], Some(for_ms.unwrap_or(990)))
            }
        }
    }

    /// The next sample; `None` when it is over.
    pub(super) fn next(&mut self) -> Option<f32> {
        if self.left == Some(0) {
            return None;
        }
        let segment = *self.segments.get(self.current)?;
        let (on, off) = (segment.on_ms.saturating_mul(SAMPLES_PER_MS), segment.off_ms.saturating_mul(SAMPLES_PER_MS));
        let endless = on == 0;
        let mut sample = 0.0;
        if endless || self.at < on {
            for (phase, hz) in self.phases.iter_mut().zip(segment.frequencies_hz) {
                if hz > 0.0 {
                    sample += (*phase * std::f64::consts::TAU).sin() as f32;
                    *phase = (*phase + f64::from(hz) / 8_000.0).fract();
                }
            }
            let whole = self.left.map_or(u32::MAX, |left| u32::try_from(left - 1).unwrap_or(u32::MAX));
            let to_end = if endless { whole } else { whole.min(on - self.at - 1) };
            sample *= self.amplitude * self.at.min(to_end).min(EDGE) as f32 / EDGE as f32;
        }
        self.left = self.left.map(|left| left - 1);
        self.at = self.at.saturating_add(1);
        if !endless && self.at >= on.saturating_add(off) {
            self.at = 0;
            self.current = (self.current + 1) % self.segments.len();
            self.phases = [0.0; MAX_FREQUENCIES];
        }
        Some(sample)
    }
}
