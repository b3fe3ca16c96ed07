//! What callers say and what is no speech, at 8 kHz: sentences of espeak-ng, and sounds made of numbers.

use std::path::Path;

use anyhow::Result;
use mr_sip::demo::voice::Voice;

/// Samples a second.
pub(crate) const RATE: usize = 8_000;
/// Pause between two sentences: longer than any silence that a turn waits for, and the recogniser's time.
pub(crate) const PAUSE: usize = 5 * RATE / 2;
/// A sentence's speech ends where it was last this loud against its loudest frame.
const SPEECH_BELOW_PEAK_DB: f32 = 35.0;
/// Frames by which that is found.
const FRAME: usize = RATE / 100;
/// What an idle line hisses, of full scale.
const LINE_HISS: f32 = 0.000_6;

/// Words that the shipped model knows, as callers say them.
const SENTENCES: [&str; 24] = [
    "yes please",
    "no thank you",
    "hello",
    "goodbye",
    "four two seven one",
    "nine three zero six",
    "i would like to book an appointment for friday morning",
    "my account number is four two seven one",
    "what are your hours",
    "please transfer me to billing",
    "i want to speak to a person",
    "can you repeat that please",
    "tuesday afternoon",
    "two zero three three two two four five three eight",
    "i need help with my bill",
    "the internet is not working",
    "i lost my credit card",
    "are you open on monday",
    "check my balance please",
    "it is not correct",
    "how much is the delivery",
    "wait a minute",
    "cancel my appointment",
    "speak to an operator",
];
const VOICES: [Voice; 3] = [
    Voice { name: "en-us", rate: 150 },
    Voice { name: "en-gb", rate: 165 },
    Voice { name: "en-gb-scotland", rate: 140 },
];

/// One sentence.
#[derive(Debug, Clone)]
pub(crate) struct Clip {
    pub(crate) said: String,
    pub(crate) samples: Vec<f32>,
    /// Where its speech begins and ends, in samples.
    pub(crate) voiced: (usize, usize),
}

impl Clip {
    /// What a voice makes of a text.
    pub(crate) fn say(voice: Voice, text: &str, scratch: &Path) -> Result<Self> {
        let mut samples = voice.say(text, scratch)?.at_telephone_rate()?;
        let peak = samples.iter().fold(0.0f32, |peak, s| peak.max(s.abs())).max(1e-6);
        samples.iter_mut().for_each(|s| *s *= 0.4 / peak);
        let voiced = voiced(&samples);
        Ok(Self { said: text.to_owned(), samples, voiced })
    }
}

/// All sentences, each by one of the voices.
pub(crate) fn sentences(scratch: &Path) -> Result<Vec<Clip>> {
    let by = SENTENCES.iter().enumerate().map(|(n, text)| (VOICES[n % VOICES.len()], text));
    by.map(|(voice, text)| Clip::say(voice, text, scratch)).collect()
}

/// First and last frame that are loud enough.
fn voiced(samples: &[f32]) -> (usize, usize) {
    let levels: Vec<f32> = samples.chunks(FRAME).map(level_db).collect();
    let least = levels.iter().copied().fold(f32::NEG_INFINITY, f32::max) - SPEECH_BELOW_PEAK_DB;
    let first = levels.iter().position(|level| *level >= least).unwrap_or(0);
    let last = levels.iter().rposition(|level| *level >= least).map_or(samples.len(), |last| (last + 1) * FRAME);
    (first * FRAME, last.min(samples.len()))
}

/// Root mean square, dB of full scale.
pub(crate) fn level_db(samples: &[f32]) -> f32 {
    let energy: f32 = samples.iter().map(|s| s * s).sum();
    (10.0 * (energy / samples.len().max(1) as f32).log10()).max(-100.0)
}

/// White noise of this level, of full scale.
pub(crate) fn hiss(samples: usize, level: f32, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..samples).map(|_| level * (2.0 * random.f32() - 1.0)).collect()
}

/// Hold music: a tune of decaying harmonic tones over a bass.
pub(crate) fn music(samples: usize) -> Vec<f32> {
    let tune = [262.0, 330.0, 392.0, 523.0, 440.0, 349.0, 294.0, 392.0];
    let tone =
        |hz: f32, t: f32| (1..5).map(|h| (std::f32::consts::TAU * hz * h as f32 * t).sin() / h as f32).sum::<f32>();
    (0..samples)
        .map(|n| {
            let t = n as f32 / RATE as f32;
            let (note, bass) = (tune[(t * 2.5) as usize % tune.len()], tune[(t * 0.6) as usize % tune.len()] / 2.0);
            0.12 * (-3.0 * (t * 2.5).fract()).exp() * tone(note, t) + 0.06 * tone(bass, t)
        })
        .collect()
}

/// Coughs, knocks and clicks: short bursts of noise, every second or so.
pub(crate) fn bursts(samples: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sound = hiss(samples, LINE_HISS, seed);
    let mut at = RATE / 2;
    while at + RATE / 4 < samples {
        let length = random.usize(RATE / 100..RATE / 8);
        for n in 0..length {
            sound[at + n] += 0.4 * (-(n as f32) * 4.0 / length as f32).exp() * (2.0 * random.f32() - 1.0);
        }
        at += random.usize(RATE / 2..2 * RATE);
    }
    sound
}

/// What one caller sends, and where its sentences lie.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tape {
    pub(crate) samples: Vec<f32>,
    /// Which sentence, and where its speech begins and ends in samples.
    pub(crate) marks: Vec<(usize, usize, usize)>,
}

impl Tape {
    /// Sentences with pauses between, from the `first` one on, for at least so many seconds.
    pub(crate) fn of(clips: &[Clip], first: usize, seconds: usize) -> Self {
        let mut tape = Self { samples: vec![0.0; RATE], marks: Vec::new() };
        for nth in 0.. {
            let index = (first + nth) % clips.len();
            let clip = &clips[index];
            let at = tape.samples.len();
            tape.marks.push((index, at + clip.voiced.0, at + clip.voiced.1));
            tape.samples.extend_from_slice(&clip.samples);
            tape.samples.extend(std::iter::repeat_n(0.0, PAUSE));
            if tape.samples.len() >= seconds * RATE && (seconds > 0 || nth + 1 == clips.len()) {
                break;
            }
        }
        tape.with_line()
    }

    /// A sound without sentences.
    pub(crate) fn sound(samples: Vec<f32>) -> Self {
        Self { samples, marks: Vec::new() }.with_line()
    }

    /// Speech in it, in seconds.
    pub(crate) fn talked(&self) -> f64 {
        self.marks.iter().map(|(_, from, to)| (to - from) as f64 / RATE as f64).sum()
    }

    fn with_line(mut self) -> Self {
        let length = self.samples.len();
        for (sample, hiss) in self.samples.iter_mut().zip(hiss(length, LINE_HISS, 9)) {
            *sample += hiss;
        }
        self
    }
}
