//! Music, as those get it who wait in a queue.
//!
//! Notes stay where they are, and voices glide: in a spectrogram music is made of level bars and speech of curved ones. So
//! it is counted how long each bin stands out of its neighbourhood in 2.6 s; a few bins that do for most of that time are
//! music ("continuous frequency activation": Seyerlehner, Pohle, Schedl, Widmer: Automatic music detection in television
//! productions, DAFx 2007). Bins are compared with their neighbours, so loudness does not count, and a voice over music mostly
//! leaves it music.
//!
//! What is level too and no music: the network's tones, which are one or two frequencies and nothing else, and hum, which
//! does not change. The first are left out, the second is found by comparing what stood out with what did 2.6 s before.

use heapless::Vec;
use realfft::num_complex::Complex;

use super::progress::Kind;
use super::spectrum::Frame;

/// The bins of 7.8 Hz that are counted, 352 to 3,100 Hz: what every line lets through, away from its edges, which are level
/// too.
const FIRST: usize = 45;
const BINS: usize = 352;
/// A bin's neighbourhood: so many to either side, 80 Hz.
const AROUND: usize = 10;
/// A bin stands out if it is this much above its neighbourhood's mean: 2.2 dB, in octaves of power.
const STANDS_OUT: f32 = 0.72;
/// Looks are taken so many frames apart: 40 ms.
pub(super) const FRAMES_A_LOOK: u8 = 2;
/// Looks in half a block: 1.28 s.
const LOOKS: u8 = 32;
/// What is counted over a block, 2.56 s, is compared with the least within so many bins.
const BESIDE: usize = 4;
/// Bins whose shares are added up.
const BEST: usize = 5;
/// Weaker than this, -48 dB of full scale, is no music that somebody is to hear, and so is what is 30 dB below the loudest
/// of the last seconds: as powers.
const WEAK: f32 = 1.6e-5;
const WEAKER: f32 = 1e-3;
/// How the loudest is forgotten: 10 dB in a block.
const FORGET: f32 = 0.965;
/// Music from here, of 5. What this and the rest tell of recorded music and speech is measured by the bench `talkoff`; they
/// were chosen by part of the same recordings.
const MUSIC: f32 = 2.5;
/// No music below.
const NO_MUSIC: f32 = 2.0;
/// So many blocks one after the other, which overlap by half, make it begin and end: 6.4 s and 3.8 s.
const TO_BEGIN: u8 = 4;
const TO_END: u8 = 2;
/// The share of what stands out that is another now than a block ago, at least once, where notes change. Hum in noise stays
/// below. It is looked for from the fourth block on, for hum that begins is a change as well.
const CHANGE: f32 = 0.2;

/// How often each bin stood out in half a block.
type Counts = [u8; BINS];

/// Listens for music.
#[derive(Debug)]
pub(super) struct Music {
    /// The newest last; the newest is being counted.
    halves: [Counts; 4],
    /// Half blocks that were counted, up to four.
    known: u8,
    looks: u8,
    loudest: f32,
    /// Blocks in a row that speak against what was told last.
    against: u8,
    /// Notes changed in them.
    changed: bool,
    playing: bool,
}

impl Default for Music {
    fn default() -> Self {
        Self { halves: [[0; BINS]; 4], known: 0, looks: 0, loudest: 0.0, against: 0, changed: false, playing: false }
    }
}

impl Music {
    /// Takes a frame and its spectrum. Returns whether music plays, when that has changed, with a confidence in percent.
    pub(super) fn push(&mut self, frame: &Frame, spectrum: &[Complex<f32>]) -> Option<(bool, u8)> {
        self.loudest = (self.loudest * FORGET).max(frame.window_level);
        let loud = frame.window_level > WEAK && frame.window_level > self.loudest * WEAKER;
        if loud && Kind::of(frame.sound) == Kind::Other {
            self.count(spectrum);
        }
        self.looks += 1;
        if self.looks < LOOKS {
            return None;
        }
        self.looks = 0;
        self.known = (self.known + 1).min(4);
        let told = if self.known >= 2 { self.judge() } else { None };
        self.halves.rotate_left(1);
        self.halves[3] = [0; BINS];
        told
    }

    /// Counts the bins that stand out.
    fn count(&mut self, spectrum: &[Complex<f32>]) {
        let mut levels = [0.0_f32; BINS + 2 * AROUND];
        for (level, x) in levels.iter_mut().zip(spectrum.iter().skip(FIRST - AROUND)) {
            *level = log2(x.norm_sqr());
        }
        let width = 2 * AROUND + 1;
        let mut sum: f32 = levels[..width - 1].iter().sum();
        for (n, count) in self.halves[3].iter_mut().enumerate() {
            sum += levels[n + width - 1];
            *count += u8::from(levels[n + AROUND] - sum / width as f32 > STANDS_OUT);
            sum -= levels[n];
        }
    }

    fn judge(&mut self) -> Option<(bool, u8)> {
        let [a, b, c, d] = &self.halves;
        let score = score(c, d);
        let against = if self.playing { score < NO_MUSIC } else { score > MUSIC };
        if !against {
            (self.against, self.changed) = (0, false);
            return None;
        }
        self.against = self.against.saturating_add(1);
        let enough = if self.playing {
            self.against >= TO_END
        } else {
            let many = self.against >= TO_BEGIN;
            self.changed |= many && change([a, b], [c, d]) > CHANGE;
            self.changed
        };
        if !enough {
            return None;
        }
        (self.against, self.changed) = (0, false);
        self.playing = !self.playing;
        let sure = if self.playing { 60.0 + 25.0 * (score - MUSIC) } else { 60.0 + 40.0 * (NO_MUSIC - score) };
        Some((self.playing, sure.clamp(60.0, 95.0) as u8))
    }
}

/// The shares of a block's time, added up, for which the few bins stood out that did so longest: 0 to 5.
fn score(one: &Counts, other: &Counts) -> f32 {
    let counts: [u8; BINS] = std::array::from_fn(|n| one[n] + other[n]);
    let mut best: Vec<u8, BEST> = Vec::new();
    for n in BESIDE..BINS - BESIDE {
        let least = counts[n - BESIDE..=n + BESIDE].iter().copied().min().unwrap_or(0);
        let above = counts[n] - least;
        let at = best.partition_point(|other| *other >= above);
        if at < BEST {
            if best.is_full() {
                best.pop();
            }
            let _ = best.insert(at, above);
        }
    }
    let sum: u16 = best.iter().map(|above| u16::from(*above)).sum();
    f32::from(sum) / f32::from(2 * LOOKS)
}

/// The share of what stood out in a block or in another that did not do so in both.
fn change(before: [&Counts; 2], now: [&Counts; 2]) -> f32 {
    let (mut apart, mut all) = (0_u32, 0_u32);
    for n in 0..BINS {
        let (before, now) = (before[0][n] + before[1][n], now[0][n] + now[1][n]);
        apart += u32::from(before.abs_diff(now));
        all += u32::from(before.max(now));
    }
    apart as f32 / all.max(1) as f32
}

/// The logarithm to base 2, straight between powers of two: off by 0.09 at most. Good enough to compare neighbours, and the
/// compiler does several at a time.
fn log2(x: f32) -> f32 {
    (x.max(f32::MIN_POSITIVE).to_bits() as f32) / (1 << 23) as f32
}
