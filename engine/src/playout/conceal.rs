//! What is heard in place of a missing packet: the last pitch period repeated, and faded out (the method of ITU-T G.711
//! appendix I, without its delay). Where the loss lasts, the noise of the line remains.

use crate::noise::Noise;

/// Samples of the past that are looked at.
pub(super) const HISTORY: usize = 480;
/// Longest pitch period: 20 ms, 50 Hz.
const MAX_PERIOD: usize = 160;
/// Shortest: 5 ms, 200 Hz; a higher voice is found at twice its period or more.
const MIN_PERIOD: usize = 40;
/// Samples that are compared: 15 ms, because a voice glides.
const WINDOW: usize = 120;
/// Full volume for the first 10 ms, as in G.711 appendix I; silent after 80 ms and not after 60, which the bench `quality`
/// prefers wherever packets are lost in bursts, and where not it makes no difference.
const HOLD: u32 = 80;
const SILENT_AT: u32 = 640;
/// Where no packet is missing (the far end is silent by intent), the last sound fades within 5 ms.
const QUIET_FADE: u32 = 40;
/// Mean square under which there is no pitch to look for: -66 dBFS.
const SILENCE: f32 = 2.5e-7;

#[derive(Debug)]
pub(super) struct Concealer {
    period: [f32; MAX_PERIOD],
    length: usize,
    at: usize,
    made: u32,
    hold: u32,
    silent_at: u32,
    /// The step from the last real sample to the first repeated one, taken back over the first samples.
    step: f32,
    active: bool,
    noise: Noise,
    noise_rms: f32,
}

impl Concealer {
    pub(super) fn new() -> Self {
        Self {
            period: [0.0; MAX_PERIOD],
            length: MIN_PERIOD,
            at: 0,
            made: 0,
            hold: 0,
            silent_at: 0,
            step: 0.0,
            active: false,
            noise: Noise::new(0xC0FF_EE11),
            noise_rms: 0.0,
        }
    }

    /// Whether something is being invented now.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// How loud the line is when nobody speaks.
    pub(super) fn set_noise(&mut self, rms: f32) {
        self.noise_rms = rms;
    }

    /// A packet is missing after these samples.
    pub(super) fn begin(&mut self, history: &[f32; HISTORY]) {
        self.start(history, HOLD, SILENT_AT);
    }

    /// The far end is silent by intent after these samples.
    pub(super) fn begin_quiet(&mut self, history: &[f32; HISTORY]) {
        self.start(history, 0, QUIET_FADE);
    }

    /// Real samples are there again.
    pub(super) fn end(&mut self) {
        self.active = false;
    }

    /// The next invented sample.
    pub(super) fn sample(&mut self) -> f32 {
        let fading = self.made.saturating_sub(self.hold) as f32 / (self.silent_at - self.hold).max(1) as f32;
        let gain = (1.0 - fading).max(0.0);
        let mut sample = 0.0;
        if gain > 0.0 {
            let correction = 1.0 - (self.made as f32 / (self.length / 4).max(1) as f32).min(1.0);
            sample = gain * (self.period[self.at] + self.step * correction);
            self.at = (self.at + 1) % self.length;
            self.made += 1;
        }
        sample + (1.0 - gain) * self.noise.sample_at(self.noise_rms)
    }

    fn start(&mut self, history: &[f32; HISTORY], hold: u32, silent_at: u32) {
        self.active = true;
        (self.made, self.at, self.hold, self.silent_at) = (0, 0, hold, silent_at);
        self.length = pitch(history);
        let period = &mut self.period[..self.length];
        let from = HISTORY - self.length;
        period.copy_from_slice(&history[from..]);
        // the end of the period leads over to its beginning as the samples before it did
        let overlap = self.length / 4;
        for n in 0..overlap {
            let share = (n + 1) as f32 / (overlap + 1) as f32;
            let at = self.length - overlap + n;
            period[at] += share * (history[from - overlap + n] - period[at]);
        }
        // what comes first should go on from the last sample as the repeated wave would
        self.step = history[HISTORY - 1] - history[from - 1];
    }
}

/// The period at which the end of the history repeats best.
fn pitch(history: &[f32; HISTORY]) -> usize {
    let recent = &history[HISTORY - WINDOW..];
    if recent.iter().map(|x| x * x).sum::<f32>() < SILENCE * WINDOW as f32 {
        return MAX_PERIOD; // noise is best repeated as seldom as possible
    }
    // every second lag on every second sample, then the neighbours of the best one on all
    let coarse = best_lag(history, (MIN_PERIOD..=MAX_PERIOD).step_by(2), 2);
    best_lag(history, coarse.saturating_sub(1).max(MIN_PERIOD)..=(coarse + 1).min(MAX_PERIOD), 1)
}

fn best_lag(history: &[f32; HISTORY], lags: impl Iterator<Item = usize>, stride: usize) -> usize {
    let recent = &history[HISTORY - WINDOW..];
    let mut best = (MIN_PERIOD, f32::NEG_INFINITY);
    for lag in lags {
        let earlier = &history[HISTORY - WINDOW - lag..HISTORY - lag];
        let (mut dot, mut energy) = (0.0, 1e-9);
        for (a, b) in recent.iter().zip(earlier).step_by(stride) {
            dot += a * b;
            energy += b * b;
        }
        let score = dot / f32::sqrt(energy);
        if score > best.1 {
            best = (lag, score);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32) -> impl Fn(usize) -> f32 {
        move |n| {
            0.3 * (n as f32 * hz * std::f32::consts::TAU / 8_000.0).sin()
                + 0.2 * (n as f32 * 2.0 * hz * std::f32::consts::TAU / 8_000.0).sin()
        }
    }

    #[test]
    fn a_voiced_sound_goes_on_without_a_click_and_fades() {
        for hz in [80.0, 123.0, 187.0, 250.0, 333.0] {
            let tone = tone(hz);
            let history = std::array::from_fn(&tone);
            let mut concealer = Concealer::new();
            concealer.begin(&history);
            let made: Vec<f32> = (0..800).map(|_| concealer.sample()).collect();
            let steepest = (0..HISTORY - 1).map(|n| (tone(n + 1) - tone(n)).abs()).fold(0.0, f32::max);
            let mut last = history[HISTORY - 1];
            for (n, &sample) in made.iter().enumerate() {
                assert!((sample - last).abs() < 1.5 * steepest, "{hz} Hz: step at {n}");
                last = sample;
            }
            // the first 10 ms are what would have come
            let error: f32 = (0..80).map(|n| (made[n] - tone(HISTORY + n)).powi(2)).sum();
            let energy: f32 = (0..80).map(|n| tone(HISTORY + n).powi(2)).sum();
            assert!(error < 0.1 * energy, "{hz} Hz: {error} of {energy}");
            assert!(made[640..].iter().all(|s| s.abs() < 1e-6), "silent after 80 ms");
        }
    }

    #[test]
    fn the_noise_of_the_line_remains() {
        let mut concealer = Concealer::new();
        concealer.set_noise(0.01);
        concealer.begin(&[0.0; HISTORY]);
        let made: Vec<f32> = (0..4000).map(|_| concealer.sample()).collect();
        let rms = (made[640..].iter().map(|s| s * s).sum::<f32>() / 3360.0).sqrt();
        assert!((0.009..0.011).contains(&rms), "{rms}");
    }
}
