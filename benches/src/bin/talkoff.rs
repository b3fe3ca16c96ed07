//! Talk-off: how often speech and music are taken for telephone keys, speech for music, and how much music is found.
//!
//! Hours of speech are made by espeak-ng, in many voices, rates and pitches, sentence by sentence, each at several levels and
//! through mu-law; nothing is written to disk. Beside it chords and tunes of harmonic tones. Every key that is heard is a
//! false one. The rival in the same run is the textbook's detector: Goertzel over 205 samples, levels against each other and
//! against the block's energy, twist, and two blocks in a row. Folders of recordings (WAV, 8 kHz) can be given, of music or
//! of speech: what is shorter than a minute is strung together.

use std::f32::consts::TAU;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::Parser;
use engine::Codec;
use engine::detect::keys::KeyDetector;
use engine::detect::{DetectConfig, Detectors, Finding};
use engine::dsp::Resampler;
use engine::dtmf::{HIGH_HZ, KEY_PAD, LOW_HZ};
use serde::Serialize;

/// Levels of the same speech, as RMS in dB of full scale: faint, usual, loud.
const LEVELS_DB: [f32; 3] = [-35.0, -25.0, -15.0];
const WAV_HEADER_BYTES: usize = 44;
const ESPEAK_HZ: u32 = 22_050;
const VOICES: [&str; 14] =
    ["en-us", "en-gb", "de", "fr", "es", "it", "pl", "pt", "nl", "sv", "tr", "ru", "cs", "en-gb-scotland"];
const VARIANTS: [&str; 6] = ["", "+m3", "+m7", "+f1", "+f3", "+f5"];
const WORDS: [&str; 48] = [
    "hello",
    "please",
    "number",
    "seven",
    "morning",
    "information",
    "account",
    "tomorrow",
    "really",
    "beautiful",
    "no",
    "oh",
    "you",
    "who",
    "moon",
    "see",
    "three",
    "be",
    "nineteen",
    "forty",
    "order",
    "delivery",
    "address",
    "street",
    "maybe",
    "good",
    "evening",
    "thank",
    "very",
    "much",
    "the",
    "a",
    "of",
    "and",
    "appointment",
    "doctor",
    "calling",
    "again",
    "where",
    "why",
    "yes",
    "alright",
    "banana",
    "aluminium",
    "lullaby",
    "anyone",
    "orange",
    "umbrella",
];

#[derive(Debug, Parser)]
#[command(about = "How often speech and music are taken for telephone keys, and speech for music")]
struct Arguments {
    /// Hours of speech, all levels together
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Hours of music-like sound
    #[arg(long, default_value_t = 0.25)]
    music_hours: f64,
    /// Recordings to listen to, WAV of 8 kHz; any number of folders
    #[arg(long, value_name = "FOLDER")]
    recordings: Vec<PathBuf>,
    /// Write the figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What was heard in so much of one kind of sound.
#[derive(Debug, Default, Serialize)]
struct Score {
    sound: String,
    hours: f64,
    false_keys: u64,
    textbook_false_keys: u64,
    /// How often music began, by the detector.
    music_begins: u64,
    /// Hours during which music played, by the detector.
    music_hours: f64,
    /// Longer pieces, and those in which music was found.
    pieces: u64,
    musical_pieces: u64,
}

impl Score {
    fn new(sound: &str) -> Self {
        Self { sound: sound.to_owned(), ..Self::default() }
    }

    fn listen(&mut self, samples: &[f32]) {
        let mut codes = vec![0; samples.len()];
        let mut heard = vec![0.0; samples.len()];
        Codec::Pcmu.encode(samples, &mut codes);
        Codec::Pcmu.decode(&codes, &mut heard);
        // a pause at the end, in which what is held is let go
        heard.extend([0.0; 1_600]);
        let mut detector = KeyDetector::default();
        for tick in heard.as_chunks().0 {
            self.false_keys += u64::from(detector.push(tick).is_some());
        }
        self.textbook_false_keys += textbook(&heard);
        self.listen_for_music(&heard);
        self.hours += samples.len() as f64 / 8_000.0 / 3_600.0;
    }

    /// Counts the music in a piece.
    fn listen_for_music(&mut self, heard: &[f32]) {
        let mut detectors = Detectors::new(&DetectConfig { music: true, ..DetectConfig::default() });
        let (mut playing, mut ticks, mut begins) = (false, 0_u64, 0);
        for tick in heard.as_chunks().0 {
            detectors.push(tick, |finding| {
                if let Finding::Music(now, _) = finding {
                    playing = now;
                    begins += u64::from(now);
                }
            });
            ticks += u64::from(playing);
        }
        self.music_begins += begins;
        self.music_hours += ticks as f64 / 200.0 / 3_600.0;
        self.pieces += 1;
        self.musical_pieces += u64::from(begins > 0);
    }
}

/// Keys that the textbook's detector hears.
fn textbook(samples: &[f32]) -> u64 {
    let (mut before, mut told, mut keys) = (None, None, 0);
    for block in samples.chunks_exact(205) {
        let power = |hz: f32| {
            let coefficient = 2.0 * (TAU * hz / 8_000.0).cos();
            let (mut a, mut b) = (0.0_f32, 0.0_f32);
            for sample in block {
                (a, b) = (sample + coefficient * a - b, a);
            }
            (a * a + b * b - coefficient * a * b) / (205.0 * 205.0 / 2.0)
        };
        let energy = block.iter().map(|s| s * s).sum::<f32>() / 205.0;
        let strongest = |group: &[f32; 4]| {
            let powers = group.map(power);
            let best = (0..4).max_by(|a, b| powers[*a].total_cmp(&powers[*b])).unwrap_or(0);
            let clear = (0..4).all(|n| n == best || powers[n] * 6.3 < powers[best]);
            (best, powers[best], clear)
        };
        let (row, low, low_clear) = strongest(&LOW_HZ);
        let (column, high, high_clear) = strongest(&HIGH_HZ);
        let twist = low < high * 6.3 && high < low * 2.5;
        let good = energy > 1e-5 && low_clear && high_clear && twist && low + high > 0.42 * energy;
        let key = good.then_some(KEY_PAD[row][column]);
        if key.is_some() && key == before && told != key {
            keys += 1;
            told = key;
        }
        if key.is_none() && before.is_none() {
            told = None;
        }
        before = key;
    }
    keys
}

/// One sentence, at 8 kHz.
fn say(text: &str, random: &mut fastrand::Rng) -> anyhow::Result<Vec<f32>> {
    let voice = format!("{}{}", VOICES[random.usize(0..VOICES.len())], VARIANTS[random.usize(0..VARIANTS.len())]);
    let mut child = Command::new("espeak-ng")
        .args([
            "--stdout",
            "-v",
            &voice,
            "-s",
            &random.u32(110..220).to_string(),
            "-p",
            &random.u32(0..100).to_string(),
            text,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("espeak-ng cannot be run; the fix: apt-get install espeak-ng")?;
    let mut wav = Vec::new();
    child.stdout.take().context("no output of espeak-ng")?.read_to_end(&mut wav)?;
    child.wait()?;
    let samples: Vec<f32> = wav
        .get(WAV_HEADER_BYTES..)
        .unwrap_or_default()
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from(i16::from_le_bytes(*bytes)) / 32_768.0)
        .collect();
    let mut resampler = Resampler::new(ESPEAK_HZ, 8_000)?;
    let mut out = Vec::new();
    resampler.process(&samples, |block| out.extend_from_slice(block));
    resampler.flush(|block| out.extend_from_slice(block));
    Ok(out)
}

fn at_level(samples: &[f32], level_db: f32) -> Vec<f32> {
    let rms = (samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32).sqrt();
    let gain = 10_f32.powf(level_db / 20.0) / rms.max(1e-6);
    samples.iter().map(|s| (s * gain).clamp(-1.0, 1.0)).collect()
}

fn speech(hours: f64, random: &mut fastrand::Rng) -> anyhow::Result<Vec<Score>> {
    let mut scores: Vec<Score> = LEVELS_DB.iter().map(|db| Score::new(&format!("speech at {db} dBFS"))).collect();
    while scores.iter().map(|score| score.hours).sum::<f64>() < hours {
        let words: Vec<&str> = (0..60).map(|_| WORDS[random.usize(0..WORDS.len())]).collect();
        let said = say(&words.join(" "), random)?;
        ensure!(said.len() > 8_000, "espeak-ng said nothing");
        for (score, db) in scores.iter_mut().zip(LEVELS_DB) {
            score.listen(&at_level(&said, db));
        }
    }
    Ok(scores)
}

/// Chords of one to four notes of the tempered scale, with partials, each as long as notes are.
fn music(hours: f64, random: &mut fastrand::Rng) -> Score {
    let mut score = Score::new("chords and tunes");
    while score.hours < hours {
        let mut samples = Vec::new();
        while samples.len() < 8_000 * 60 {
            let notes: Vec<f32> =
                (0..random.usize(1..5)).map(|_| 110.0 * 2_f32.powf(random.u32(0..48) as f32 / 12.0)).collect();
            let partials = random.i32(1..8);
            let length = random.usize(600..8_000);
            let decay = random.f32() * 3.0;
            samples.extend((0..length).map(|n| {
                let t = n as f32 / 8_000.0;
                let partial = |hz: f32, k: i32| {
                    if hz * (k as f32) < 3_400.0 { (TAU * hz * k as f32 * t).sin() / k as f32 } else { 0.0 }
                };
                let sum: f32 = notes.iter().flat_map(|hz| (1..=partials).map(|k| partial(*hz, k))).sum();
                sum * (-decay * t).exp() / notes.len() as f32
            }));
        }
        score.listen(&at_level(&samples, -18.0));
    }
    score
}

/// The recordings of a folder, in the order of their names.
fn recordings(folder: &Path) -> anyhow::Result<Score> {
    let mut score = Score::new(&folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy());
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wav"));
    files.sort();
    let mut piece = Vec::new();
    for (n, file) in files.iter().enumerate() {
        let mut wav = hound::WavReader::open(file).with_context(|| format!("{} is no WAV file", file.display()))?;
        let spec = wav.spec();
        let usable = spec.sample_rate == 8_000 && spec.channels == 1 && spec.bits_per_sample == 16;
        ensure!(usable, "{}: the fix: sox IN -r 8000 -c 1 -b 16 OUT.wav", file.display());
        let samples: Vec<f32> =
            wav.samples::<i16>().map(|s| s.map(|s| f32::from(s) / 32_768.0)).collect::<Result<_, _>>()?;
        piece.extend_from_slice(&at_level(&samples, -21.0));
        piece.extend([0.0; 2_400]); // 300 ms
        if piece.len() >= 60 * 8_000 || n + 1 == files.len() {
            score.listen(&piece);
            piece.clear();
        }
    }
    ensure!(score.hours > 0.0, "no WAV files in {}", folder.display());
    Ok(score)
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut random = fastrand::Rng::with_seed(1);
    let mut scores = speech(arguments.hours, &mut random)?;
    scores.push(music(arguments.music_hours, &mut random));
    for folder in &arguments.recordings {
        scores.push(recordings(folder)?);
    }
    println!(
        "| sound | hours | false keys | an hour | textbook Goertzel | an hour | pieces | with music | music, of the time |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for score in &scores {
        let hourly = |keys: u64| keys as f64 / score.hours;
        println!(
            "| {} | {:.2} | {} | {:.2} | {} | {:.2} | {} | {} | {:.1} % |",
            score.sound,
            score.hours,
            score.false_keys,
            hourly(score.false_keys),
            score.textbook_false_keys,
            hourly(score.textbook_false_keys),
            score.pieces,
            score.musical_pieces,
            100.0 * score.music_hours / score.hours
        );
    }
    if let Some(path) = arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&scores)?)?;
    }
    Ok(())
}
