//! Line-echo control: takes out of what is heard what was sent a little earlier, so that the agent does not hear itself.
//!
//! ```text
//! sent --> spectra of the last 880 ms --+-> filter (280 ms of them, from `start` on) --> echo as expected
//!                                       |                                                  |
//!                                       +-> search: which delay?                           v
//! heard ---------------------------------------------------------------------------------> - --> residual --> ears
//! ```
//!
//! - The echo comes back after the network, the far end and our own jitter buffer: 30 to 600 ms, and it moves whenever the
//!   jitter buffer does. `delay` finds it; `filter` models 280 ms around it; the window follows in whole blocks and what
//!   was learnt moves along.
//! - When the path jumps within the window, the filter does harm for a moment. That is seen at once, because a caller who
//!   speaks never makes more of what is left than of what was heard, and has nothing to do with the model, while what is
//!   left of a path that has moved goes against it; later it is coherent with what was sent. Then the path is learnt anew.
//! - What the filter leaves is turned down while it is alone (`residual`). Before the path is known, that is all there is:
//!   what is more than 6 dB below what was sent is then taken for its echo.
//!
//! What must hold: nothing allocates but [`EchoCanceller::new`]; what comes out is finite and never louder than what went
//! in and the model's bound; every loop is of fixed length.

mod delay;
mod filter;
mod history;
mod residual;

use self::delay::{DelaySearch, Peak};
use self::filter::{EchoFilter, PARTITIONS};
use self::history::History;
use self::residual::Residual;
use super::spectrum::{BLOCK, FRAME, Spectrum, Transform};
use super::{power, sane};

/// Delays that are searched, in blocks: 600 ms beyond the packet time.
const DELAYS: usize = 60;
/// Delays that are watched for a path that has changed: 100 ms from the window's beginning.
const WATCHED: usize = 10;
/// Blocks of the window before where the echo begins: a jitter buffer that gets shorter moves it ahead.
const BEFORE: usize = 3;
/// As long as the echo begins within so many blocks of the window, the window stays.
const WITHIN: usize = 8;
/// The newest frame's share of the search's averages, which remember almost a second, and of the watch's: 300 ms.
const SEARCH_SHARE: f32 = 0.025;
const WATCH_SHARE: f32 = 0.06;
/// Coherence of an echo: not less than this (a caller who speaks without pause over an echo at -10 dB leaves 0.2), and
/// so much more than the mean of all delays.
const COHERENT: f32 = 0.15;
const ABOVE_MEAN: f32 = 1.6;
/// Coherence of what is left after the path has changed; of what is left by a model that still learns it is up to 0.3.
const LEFT_COHERENT: f32 = 0.25;
/// Quieter than this (-60 dBFS) nothing is sent that could come back.
const SILENCE: f32 = 1e-6;
/// Blocks of the agent's speech after which an echo that was not found is not there: 2 s.
const PATIENCE: u32 = 200;
/// Powers are averaged over about 100 ms.
const POWER_SHARE: f32 = 0.1;
/// The filter is good when it left so little once (15 dB), harmful when more is left than was heard, and doubtful when it
/// takes away less than 6 dB.
const GOOD: f32 = 0.03;
const HARMFUL: f32 = 1.3;
const DOUBTFUL: f32 = 0.25;
/// What is left goes against the model (their correlation): so much is a path that has moved, more is one that is gone.
const AGAINST: f32 = -0.35;
const FAR_AGAINST: f32 = -0.55;

/// Samples that wait to be compared: two of the longest packets.
const WAITING: usize = 960;

/// Where the echo begins to be modelled.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Path {
    /// Not found in so many blocks of the agent's speech.
    Unknown(u32),
    /// So many blocks ago.
    At(usize),
}

/// Takes the echo out of a call, 10 ms at a time.
#[derive(Debug)]
pub(super) struct EchoCanceller {
    transform: Transform,
    history: History,
    sent_frame: [f32; FRAME],
    heard_frame: [f32; FRAME],
    left_frame: [f32; FRAME],
    /// What was sent and has not been compared yet.
    waiting: [f32; WAITING],
    waits: usize,
    /// Power of each block that may still come back.
    sent_powers: [f32; DELAYS],
    blocks: usize,
    search: DelaySearch,
    watch: DelaySearch,
    path: Path,
    filter: EchoFilter,
    residual: Residual,
    heard_power: f32,
    left_power: f32,
    echo_power: f32,
    /// Mean product of what is left and the expected echo.
    cross_power: f32,
    good: bool,
    /// Blocks of the agent's speech since the path was found, until the filter has shown that it is one.
    unproven: u32,
    /// How much of the expected echo is taken away: 1, or 0 while that does harm.
    mix: f32,
}

impl EchoCanceller {
    pub(super) fn new() -> Self {
        Self {
            transform: Transform::new(),
            history: History::new(DELAYS + PARTITIONS),
            sent_frame: [0.0; FRAME],
            heard_frame: [0.0; FRAME],
            left_frame: [0.0; FRAME],
            waiting: [0.0; WAITING],
            waits: 0,
            sent_powers: [0.0; DELAYS],
            blocks: 0,
            search: DelaySearch::new(DELAYS, SEARCH_SHARE),
            watch: DelaySearch::new(WATCHED, WATCH_SHARE),
            path: Path::Unknown(0),
            filter: EchoFilter::new(),
            residual: Residual::new(),
            heard_power: 0.0,
            left_power: 0.0,
            echo_power: 0.0,
            cross_power: 0.0,
            good: false,
            unproven: 0,
            mix: 0.0,
        }
    }

    /// Takes what is sent, as it is sent. A packet is known when its last sample is, so it waits here: what is heard is
    /// compared with what was sent a packet time earlier, and the rest of the way is the search's to find. An echo cannot
    /// come back sooner.
    pub(super) fn sent(&mut self, samples: &[f32]) {
        let samples = &samples[samples.len().saturating_sub(WAITING)..];
        let too_many = (self.waits + samples.len()).saturating_sub(WAITING);
        self.waiting.copy_within(too_many..self.waits.max(too_many), 0);
        self.waits -= too_many.min(self.waits);
        for (place, &sample) in self.waiting[self.waits..].iter_mut().zip(samples) {
            *place = sane(sample);
        }
        self.waits += samples.len();
    }

    /// The next block of what was sent. Where nothing waits, silence is put in: so the distance is found at the beginning.
    fn next_sent(&mut self) -> [f32; BLOCK] {
        let mut block = [0.0; BLOCK];
        if self.waits >= BLOCK {
            block.copy_from_slice(&self.waiting[..BLOCK]);
            self.waiting.copy_within(BLOCK..self.waits, 0);
            self.waits -= BLOCK;
        }
        block
    }

    /// Cleans a block of what is heard.
    pub(super) fn process(&mut self, heard: &mut [f32; BLOCK]) {
        let sent = self.next_sent();
        append(&mut self.sent_frame, &sent);
        append(&mut self.heard_frame, heard);
        self.history.push(&mut self.transform, &self.sent_frame);
        self.blocks = self.blocks.wrapping_add(1);
        self.sent_powers[self.blocks % DELAYS] = power(&sent);
        let loudest = self.sent_powers.iter().fold(0.0_f32, |loudest, &power| loudest.max(power));
        if loudest < SILENCE {
            return self.residual.release(heard);
        }
        self.search();
        match &mut self.path {
            Path::At(start) => {
                let start = *start;
                let echo = self.cancel(start, heard);
                self.residual.apply(heard, echo, loudest);
                self.give_up();
            }
            Path::Unknown(looked) if *looked < PATIENCE => {
                *looked += 1;
                self.residual.apply(heard, 0.0, loudest);
            }
            Path::Unknown(_) => self.residual.release(heard),
        }
    }

    fn search(&mut self) {
        if self.blocks.is_multiple_of(2) {
            let mut spectrum = Spectrum::ZERO;
            self.transform.forward(&self.heard_frame, &mut spectrum);
            let peak = self.search.look(&spectrum, &self.history, 0);
            if let Some(peak) = peak.filter(|p| p.coherence > COHERENT.max(ABOVE_MEAN * p.mean)) {
                self.follow(peak);
            }
        }
    }

    fn follow(&mut self, peak: Peak) {
        let to = peak.lag.saturating_sub(BEFORE);
        let onset = peak.lag - to;
        match self.path {
            Path::At(start) if peak.lag > start && peak.lag <= start + WITHIN => return,
            Path::At(start) => {
                self.filter.shift(start, to, onset);
                self.good = false;
            }
            Path::Unknown(_) => self.learn_anew(onset),
        }
        self.path = Path::At(to);
        self.watch.reset();
    }

    /// A path that nothing was learnt of was none: likeness by chance.
    fn give_up(&mut self) {
        self.unproven = if self.residual.has_converged() { 0 } else { self.unproven + 1 };
        if self.unproven > PATIENCE {
            self.unproven = 0;
            self.path = Path::Unknown(PATIENCE);
            self.search.reset();
        }
    }

    fn learn_anew(&mut self, onset: usize) {
        self.filter.reset(onset);
        self.residual.reset();
        self.watch.reset();
        self.good = false;
    }

    /// Takes the echo away and learns from what is left; the power of the expected echo.
    fn cancel(&mut self, start: usize, heard: &mut [f32; BLOCK]) -> f32 {
        let mut frame = [0.0; FRAME];
        self.filter.predict(&self.history, start, &mut self.transform, &mut frame);
        let echo = &frame[BLOCK..];
        let taken = power(echo);
        if !taken.is_finite() {
            self.learn_anew(BEFORE.min(start));
            return 0.0;
        }
        let mut left = [0.0; FRAME];
        for ((left, heard), echo) in left[BLOCK..].iter_mut().zip(&*heard).zip(echo) {
            *left = heard - echo;
        }
        self.heard_power += POWER_SHARE * (power(heard) - self.heard_power);
        self.left_power += POWER_SHARE * (power(&left[BLOCK..]) - self.left_power);
        self.echo_power += POWER_SHARE * (taken - self.echo_power);
        let cross = left[BLOCK..].iter().zip(echo).map(|(left, echo)| left * echo).sum::<f32>() / BLOCK as f32;
        self.cross_power += POWER_SHARE * (cross - self.cross_power);
        self.good |= self.left_power < GOOD * self.heard_power;

        let mut spectrum = Spectrum::ZERO;
        self.transform.forward(&left, &mut spectrum);
        self.filter.adapt(&self.history, start, &spectrum);
        self.filter.constrain(&mut self.transform);
        self.left_frame.copy_within(BLOCK.., 0);
        self.left_frame[BLOCK..].copy_from_slice(&left[BLOCK..]);

        let target = if self.left_power > HARMFUL * self.heard_power { 0.0 } else { 1.0 };
        let step = (target - self.mix) / BLOCK as f32;
        for (sample, echo) in heard.iter_mut().zip(echo) {
            self.mix += step;
            *sample -= self.mix * echo;
        }
        self.mix = target;
        if self.has_changed(start) || !self.filter.is_sane() {
            self.learn_anew(BEFORE.min(start));
        }
        taken
    }

    /// Whether the path that was learnt is no longer the echo's.
    fn has_changed(&mut self, start: usize) -> bool {
        if !self.good {
            return false;
        }
        if self.left_power > SILENCE {
            let against = self.cross_power / (self.left_power * self.echo_power).sqrt().max(SILENCE);
            if self.left_power > HARMFUL * self.heard_power || against < FAR_AGAINST {
                return true;
            }
            if against < AGAINST {
                self.residual.doubt();
            }
        }
        if self.blocks.is_multiple_of(2) {
            return false; // the search's turn
        }
        let mut spectrum = Spectrum::ZERO;
        self.transform.forward(&self.left_frame, &mut spectrum);
        let peak = self.watch.look(&spectrum, &self.history, start);
        self.left_power > DOUBTFUL * self.heard_power && peak.is_some_and(|peak| peak.coherence > LEFT_COHERENT)
    }
}

fn append(frame: &mut [f32; FRAME], block: &[f32; BLOCK]) {
    frame.copy_within(BLOCK.., 0);
    frame[BLOCK..].copy_from_slice(block);
}
