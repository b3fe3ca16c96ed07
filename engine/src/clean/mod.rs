//! What the ears hear, made better: DC removal, line-echo control, noise suppression, automatic gain.
//!
//! ```text
//! playout -> blocks of 10 ms -> [dc] -> [echo] -> [noise] -> [agc] -> taps (ears, subscribers)
//!                                         ^
//! what is encoded and sent ---------------+
//! ```
//!
//! Each part is there or not, and can be switched while the call runs: a [`Cleaner`] with the parts that are wanted is built
//! on another thread and moved in by a command; it takes over what the one before it had learnt
//! ([`Cleaner::take_over`]), and that one is moved out to be dropped elsewhere. A call without a cleaner does not know of any
//! of this. Recorder, JACK and detectors get the caller as he came.
//!
//! # Where it runs
//! On the media thread, in the call's tick. The rule is that what allocates or costs more than about a hundredth of a core a
//! call does not run there; none of the parts does either (`engine/tests/no_allocation.rs` and the bench `cleaning` hold
//! that). WebRTC's AEC3 allocates on every frame, which is why the echo control here is our own. On the ears' side there
//! would be nothing to gain but a second ring for what is sent, and its alignment to lose: here both sides of the call are
//! counted by the same clock. Blocks of 10 ms are two ticks, so what is heard comes 5 ms later, and 22 ms with
//! noise suppression.
//!
//! # What must hold
//! - As many samples leave as came in, so that the ears' clock stays the call's.
//! - What comes out is finite and within [-1, 1] whatever comes in.
//! - Nothing allocates but the making.

mod agc;
mod dc;
mod echo;
mod spectrum;
mod suppressor;

use self::agc::GainControl;
use self::dc::DcBlocker;
use self::echo::EchoCanceller;
use self::spectrum::BLOCK;
use self::suppressor::Suppressor;

/// Which parts there are to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanConfig {
    /// A constant offset and rumble below 20 Hz are taken away.
    pub dc: bool,
    /// Speech is brought to about -23 dBFS.
    pub agc: bool,
    /// Noise is suppressed, by up to 18 dB.
    pub noise: bool,
    /// The echo of what is sent is taken away.
    pub echo: bool,
}

impl CleanConfig {
    /// Nothing.
    pub const OFF: Self = Self { dc: false, agc: false, noise: false, echo: false };

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_off(self) -> bool {
        self == Self::OFF
    }
}

/// Cleans what is heard of one call.
///
/// ```
/// use mr_sip_engine::clean::{CleanConfig, Cleaner};
///
/// let mut cleaner = Cleaner::new(CleanConfig { dc: true, ..CleanConfig::OFF });
/// let mut cleaned = Vec::new();
/// for _ in 0..400 {
///     cleaner.process(&[0.25; 40], |block| cleaned.extend_from_slice(block));
/// }
/// assert_eq!(cleaned.len(), 400 * 40);
/// assert!(cleaned[8_000..].iter().all(|sample| sample.abs() < 0.001));
/// ```
#[derive(Debug)]
pub struct Cleaner {
    config: CleanConfig,
    block: [f32; BLOCK],
    filled: usize,
    dc: Option<DcBlocker>,
    echo: Option<Box<EchoCanceller>>,
    noise: Option<Box<Suppressor>>,
    agc: Option<GainControl>,
}

impl Cleaner {
    /// Builds the parts. Not for a real-time thread.
    #[must_use]
    pub fn new(config: CleanConfig) -> Self {
        Self {
            config,
            block: [0.0; BLOCK],
            filled: 0,
            dc: config.dc.then(DcBlocker::default),
            echo: config.echo.then(|| Box::new(EchoCanceller::new())),
            noise: config.noise.then(|| Box::new(Suppressor::new())),
            agc: config.agc.then(GainControl::new),
        }
    }

    /// Which parts there are.
    #[must_use]
    pub fn config(&self) -> CleanConfig {
        self.config
    }

    /// Goes on where another stopped: takes the samples that wait in it, and the parts that both have.
    pub fn take_over(&mut self, before: &mut Self) {
        (self.block, self.filled) = (before.block, std::mem::take(&mut before.filled));
        exchange(&mut self.dc, &mut before.dc);
        exchange(&mut self.echo, &mut before.echo);
        exchange(&mut self.noise, &mut before.noise);
        exchange(&mut self.agc, &mut before.agc);
    }

    /// Takes what is sent: as much as is heard, in pieces of at most 60 ms, each when it is complete.
    pub fn sent(&mut self, samples: &[f32]) {
        if let Some(echo) = &mut self.echo {
            echo.sent(samples);
        }
    }

    /// Takes what is heard; gives out what is cleaned, a block at a time.
    pub fn process(&mut self, mut heard: &[f32], mut out: impl FnMut(&[f32])) {
        while !heard.is_empty() {
            let (now, later) = heard.split_at(heard.len().min(BLOCK - self.filled));
            for (place, &sample) in self.block[self.filled..].iter_mut().zip(now) {
                *place = sane(sample);
            }
            self.filled += now.len();
            heard = later;
            if self.filled == BLOCK {
                self.filled = 0;
                self.clean();
                out(&self.block);
            }
        }
    }

    /// What was taken and did not make a block yet; forgets it.
    pub fn rest(&mut self) -> &[f32] {
        &self.block[..std::mem::take(&mut self.filled)]
    }

    fn clean(&mut self) {
        let block = &mut self.block;
        if let Some(dc) = &mut self.dc {
            dc.process(block);
        }
        if let Some(echo) = &mut self.echo {
            echo.process(block);
        }
        if let Some(noise) = &mut self.noise {
            noise.process(block);
        }
        if let Some(agc) = &mut self.agc {
            agc.process(block);
        }
        for sample in block {
            *sample = sample.clamp(-1.0, 1.0);
        }
    }
}

fn exchange<T>(new: &mut Option<T>, before: &mut Option<T>) {
    if new.is_some() && before.is_some() {
        std::mem::swap(new, before);
    }
}

/// What is no number would stay in averages for ever.
fn sane(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 }
}

/// Mean square.
fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
}
