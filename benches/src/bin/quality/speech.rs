//! What is said: sentences by espeak-ng's voices, at 8 kHz and the level that P.862 is used with.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Rate inside a call.
const RATE_HZ: f64 = 8_000.0;
/// Speech is at this level while somebody speaks, in dB of full scale.
const LEVEL_DB: f32 = -26.0;
/// The room behind the voice, in dB of full scale: no telephone is digitally silent.
const ROOM_DB: f32 = -65.0;

/// Different pitches, sexes and accents.
pub(crate) const VOICES: [&str; 6] =
    ["en-us+m3", "en-gb+f2", "en-gb-scotland+m7", "en-us+f5", "en-us+m1", "en-gb-x-rp+f4"];

/// Each voice says another part of these, in turn.
const TEXTS: [&str; 3] = [
    "Good morning, you are talking to the office of the harbour. The ferry leaves at half past nine. Please bring the blue \
     folder and four copies of the map. Our opening hours have changed since last week. We would be glad to see you again \
     before the end of the month. Nobody has asked for the keys so far.",
    "The price of the smaller room is seventy five pounds a night. Breakfast is served from six until ten. I have put your \
     name on the list for Thursday. Would you rather sit near the window or closer to the stage? Thank you, I will call \
     you back as soon as the doctor is here. Turn left behind the church.",
    "Yes, that is what I meant to say. The number of the contract is on the first page. Let me check whether the shoes are \
     still in stock. They should arrive within three working days. If something is broken, keep the box and give us a ring. \
     She will change the whole order while you wait.",
];

/// One voice saying something.
#[derive(Debug)]
pub(crate) struct Talk {
    /// Mono, 8 kHz, in [-1, 1].
    pub(crate) samples: Vec<f32>,
}

/// The first so many voices.
///
/// # Errors
/// espeak-ng is missing or fails.
pub(crate) fn talks(voices: usize) -> Result<Vec<Talk>> {
    VOICES.iter().take(voices).enumerate().map(|(n, voice)| talk(voice, TEXTS[n % TEXTS.len()], n as u64)).collect()
}

fn talk(voice: &str, text: &str, seed: u64) -> Result<Talk> {
    let output = Command::new("espeak-ng")
        .args(["-v", voice, "-s", "150", "--stdout", text])
        .output()
        .context("espeak-ng cannot be run; the fix: apt-get install espeak-ng")?;
    ensure!(output.status.success(), "espeak-ng failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut wave = hound::WavReader::new(&output.stdout[..]).context("espeak-ng gave no WAV")?;
    let rate_hz = f64::from(wave.spec().sample_rate);
    // its header tells a length that a pipe cannot know, so the end comes as an error
    let spoken: Vec<f32> = wave.samples::<i16>().map_while(|s| s.ok()).map(|s| f32::from(s) / 32_768.0).collect();
    ensure!(spoken.len() as f64 > 10.0 * rate_hz, "espeak-ng said too little");
    let mut samples = resample(&spoken, rate_hz / RATE_HZ);
    level(&mut samples);
    let mut random = fastrand::Rng::with_seed(seed);
    let room = 10_f32.powf(ROOM_DB / 20.0) * 3_f32.sqrt();
    samples.iter_mut().for_each(|s| *s += room * (2.0 * random.f32() - 1.0));
    Ok(Talk { samples })
}

/// Every `ratio`th sample (at least 1), after a low-pass: a windowed sinc over 32 samples of the lower rate.
fn resample(samples: &[f32], ratio: f64) -> Vec<f32> {
    const CUT: f64 = 0.92;
    let reach = 16.0 * ratio;
    (0..(samples.len() as f64 / ratio) as usize)
        .map(|n| {
            let centre = n as f64 * ratio;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach) as usize).min(samples.len() - 1);
            let sum: f64 = (first..=last)
                .map(|k| {
                    let t = k as f64 - centre;
                    let x = std::f64::consts::PI * t * CUT / ratio;
                    let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
                    let window = 0.5 + 0.5 * (std::f64::consts::PI * t / reach).cos();
                    f64::from(samples[k]) * sinc * window
                })
                .sum();
            (sum * CUT / ratio) as f32
        })
        .collect()
}

/// Brings the loud parts to the usual level.
fn level(samples: &mut [f32]) {
    let powers = samples.chunks(160).map(|c| c.iter().map(|s| s * s).sum::<f32>() / 160.0);
    let loudest = powers.clone().fold(0.0, f32::max);
    let active: Vec<f32> = powers.filter(|p| *p > 1e-3 * loudest).collect();
    let rms = (active.iter().sum::<f32>() / active.len().max(1) as f32).sqrt().max(1e-9);
    let gain = 10_f32.powf(LEVEL_DB / 20.0) / rms;
    samples.iter_mut().for_each(|s| *s = (*s * gain).clamp(-0.99, 0.99));
}
