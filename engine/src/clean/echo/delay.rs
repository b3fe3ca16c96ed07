//! Where the echo is: how long after it was sent it comes back.
//!
//! For each delay, a block apart, the coherence of what is heard with what was sent then. It is an average and not a loop:
//! it cannot diverge, and a caller who speaks at the same time only adds noise to it.

use super::super::spectrum::Spectrum;
use super::history::History;

/// Bins that are looked at: 250 to 3,400 Hz.
const FIRST_BIN: usize = 5;
const LAST_BIN: usize = 68;
const USED: usize = LAST_BIN - FIRST_BIN + 1;
/// Looks until all delays' coherence is computed anew: 200 ms.
const ROUND: usize = 10;
/// Looks until the averages mean something.
const WARM_UP: usize = 20;
/// What silence is divided by.
const LEAST_POWER: f32 = 1e-9;

/// What the scan found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Peak {
    /// The delay of the strongest coherence, in blocks.
    pub(super) lag: usize,
    /// Its coherence, from 0 to 1.
    pub(super) coherence: f32,
    /// The mean over all delays: what chance and the likeness of speech to itself make.
    pub(super) mean: f32,
}

#[derive(Debug, Clone)]
struct Lag {
    cross_re: [f32; USED],
    cross_im: [f32; USED],
    sent: [f32; USED],
    coherence: f32,
}

/// The search. To be given every second block, because frames are two blocks long.
#[derive(Debug)]
pub(super) struct DelaySearch {
    lags: Box<[Lag]>,
    heard: [f32; USED],
    share: f32,
    looks: usize,
}

impl DelaySearch {
    /// A search over so many delays, a multiple of [`ROUND`]; `share`: how much the newest frame counts in the averages.
    pub(super) fn new(lags: usize, share: f32) -> Self {
        Self { lags: vec![Lag::NEW; lags].into(), heard: [0.0; USED], share, looks: 0 }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.lags.fill(Lag::NEW);
        (self.heard, self.looks) = ([0.0; USED], 0);
    }

    /// Compares what is heard with all that was sent from `first` blocks ago on. When a round is complete and enough was
    /// heard: the delay of the strongest coherence.
    pub(super) fn look(&mut self, heard: &Spectrum, history: &History, first: usize) -> Option<Peak> {
        let share = self.share;
        let (heard_re, heard_im) = (&heard.re[FIRST_BIN..=LAST_BIN], &heard.im[FIRST_BIN..=LAST_BIN]);
        for bin in 0..USED {
            let power = heard_re[bin] * heard_re[bin] + heard_im[bin] * heard_im[bin];
            self.heard[bin] += share * (power - self.heard[bin]);
        }
        for (ago, lag) in self.lags.iter_mut().enumerate() {
            let sent = history.ago(first + ago);
            let (sent_re, sent_im) = (&sent.re[FIRST_BIN..=LAST_BIN], &sent.im[FIRST_BIN..=LAST_BIN]);
            for bin in 0..USED {
                let (re, im) = (sent_re[bin], sent_im[bin]);
                let cross_re = heard_re[bin] * re + heard_im[bin] * im;
                let cross_im = heard_im[bin] * re - heard_re[bin] * im;
                lag.cross_re[bin] += share * (cross_re - lag.cross_re[bin]);
                lag.cross_im[bin] += share * (cross_im - lag.cross_im[bin]);
                lag.sent[bin] += share * (re * re + im * im - lag.sent[bin]);
            }
        }
        let scored = self.lags.len() / ROUND;
        let turn = self.looks % ROUND;
        for lag in self.lags.iter_mut().skip(turn * scored).take(scored) {
            lag.coherence = lag.coherence_with(&self.heard);
        }
        self.looks += 1;
        if turn + 1 < ROUND || self.looks < WARM_UP {
            return None;
        }
        let (lag, best) = self.lags.iter().enumerate().max_by(|(_, a), (_, b)| a.coherence.total_cmp(&b.coherence))?;
        let mean = self.lags.iter().map(|lag| lag.coherence).sum::<f32>() / self.lags.len() as f32;
        Some(Peak { lag: first + lag, coherence: best.coherence, mean })
    }
}

impl Lag {
    const NEW: Self = Self { cross_re: [0.0; USED], cross_im: [0.0; USED], sent: [0.0; USED], coherence: 0.0 };

    fn coherence_with(&self, heard: &[f32; USED]) -> f32 {
        let coherence = (0..USED).map(|bin| {
            let cross = self.cross_re[bin] * self.cross_re[bin] + self.cross_im[bin] * self.cross_im[bin];
            cross / (self.sent[bin] * heard[bin] + LEAST_POWER)
        });
        coherence.sum::<f32>() / USED as f32
    }
}
