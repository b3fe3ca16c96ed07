//! Something that is like speech, of numbers alone: a buzz of changing pitch through three resonances that move from sound
//! to sound, hisses between, syllables of changing loudness, and pauses.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::f32::consts::TAU;

pub(crate) const RATE_HZ: f32 = 8_000.0;

/// Resonances of some vowels, in Hz (Peterson and Barney 1952).
const VOWELS: [[f32; 3]; 6] = [
    [730.0, 1_090.0, 2_440.0],
    [270.0, 2_290.0, 3_010.0],
    [300.0, 870.0, 2_240.0],
    [530.0, 1_840.0, 2_480.0],
    [570.0, 840.0, 2_410.0],
    [440.0, 1_020.0, 2_240.0],
];
const BANDWIDTHS: [f32; 3] = [80.0, 110.0, 170.0];

/// A resonance (a pole pair) in direct form.
#[derive(Default)]
struct Resonance {
    y: [f32; 2],
}

impl Resonance {
    fn next(&mut self, x: f32, hz: f32, bandwidth_hz: f32) -> f32 {
        let r = (-TAU / 2.0 * bandwidth_hz / RATE_HZ).exp();
        let a = 2.0 * r * (TAU * hz / RATE_HZ).cos();
        let y = (1.0 - r) * x + a * self.y[0] - r * r * self.y[1];
        self.y = [y, self.y[0]];
        y
    }
}

/// So many seconds of it at this root mean square in dBFS (over the whole, pauses included). `pitch_hz`: about 110 for a
/// man, 200 for a woman.
pub(crate) fn speech(seconds: f32, level_db: f32, pitch_hz: f32, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let count = (seconds * RATE_HZ) as usize;
    let mut samples = Vec::with_capacity(count + 4_000);
    let mut resonances: [Resonance; 3] = Default::default();
    let (mut formants, mut phase, mut syllables_left) = (VOWELS[0], 0.0_f32, 6);
    while samples.len() < count {
        if syllables_left == 0 {
            samples.extend(std::iter::repeat_n(0.0, random.usize(2_000..5_000)));
            syllables_left = random.u32(5..12);
        }
        syllables_left -= 1;
        // a consonant: a hiss, or a stop
        let hiss = random.usize(200..700);
        let loud = if random.u32(0..3) == 0 { 0.0 } else { 0.05 + 0.1 * random.f32() };
        let mut before = 0.0;
        for n in 0..hiss {
            let noise = random.f32() * 2.0 - 1.0;
            let edge = (n.min(hiss - n) as f32 / 60.0).min(1.0);
            samples.push(loud * edge * (noise - 0.7 * before));
            before = noise;
        }
        // a vowel
        let target = VOWELS[random.usize(0..VOWELS.len())];
        let (length, loud) = (random.usize(700..2_200), 0.4 + 0.6 * random.f32());
        let (from, to) = (0.8 + 0.4 * random.f32(), 0.8 + 0.4 * random.f32());
        for n in 0..length {
            let share = n as f32 / length as f32;
            phase += pitch_hz * (from + (to - from) * share) * (1.0 + 0.01 * (random.f32() - 0.5)) / RATE_HZ;
            let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
            phase = phase.fract();
            let source = pulse * 8.0 + 0.05 * (random.f32() - 0.5);
            let envelope = loud * (n.min(length - n) as f32 / 200.0).min(1.0);
            let mut y = 0.0;
            for (((resonance, formant), target), bandwidth) in
                resonances.iter_mut().zip(&mut formants).zip(target).zip(BANDWIDTHS)
            {
                *formant += 0.004 * (target - *formant);
                y += resonance.next(source, *formant, bandwidth);
            }
            samples.push(envelope * y);
        }
    }
    samples.truncate(count);
    let gain = 10_f32.powf(level_db / 20.0) / power(&samples).sqrt();
    samples.iter_mut().for_each(|sample| *sample = (*sample * gain).clamp(-1.0, 1.0));
    samples
}

/// White noise at this root mean square in dBFS.
pub(crate) fn noise(count: usize, level_db: f32, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let peak = 3_f32.sqrt() * 10_f32.powf(level_db / 20.0);
    (0..count).map(|_| peak * (2.0 * random.f32() - 1.0)).collect()
}

/// The response of a way back: it begins after `delay_ms`, fades by 60 dB in `tail_ms`, and passes white noise at `gain_db`.
/// Like a hybrid's, it lets little of the lowest frequencies through.
pub(crate) fn echo_path(delay_ms: f32, tail_ms: f32, gain_db: f32, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (delay, tail) = ((delay_ms * 8.0) as usize, (tail_ms * 8.0) as usize);
    let mut response = vec![0.0; delay + tail];
    let mut before = 0.0;
    for n in 0..tail {
        let fresh = random.f32() * 2.0 - 1.0;
        response[delay + n] = (fresh - 0.3 * before) * 10_f32.powf(-3.0 * n as f32 / tail as f32);
        before = fresh;
    }
    let gain = 10_f32.powf(gain_db / 20.0) / response.iter().map(|h| h * h).sum::<f32>().sqrt();
    response.iter_mut().for_each(|h| *h *= gain);
    response
}

/// What comes back of `sent`.
pub(crate) fn echo_of(sent: &[f32], response: &[f32]) -> Vec<f32> {
    let first = response.iter().position(|&h| h != 0.0).unwrap_or(0);
    let mut echo = vec![0.0; sent.len()];
    for (n, &x) in sent.iter().enumerate().filter(|(_, x)| **x != 0.0) {
        for (place, &h) in echo.iter_mut().skip(n + first).zip(&response[first..]) {
            *place += x * h;
        }
    }
    echo
}

/// Mean square.
pub(crate) fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32
}

/// In dB of full scale.
pub(crate) fn level_db(samples: &[f32]) -> f32 {
    10.0 * (power(samples) + 1e-12).log10()
}
