//! The two speech detectors on the same sounds: frames of 20 ms against the clean sentence's own level.

use asr::vad::{Detector, DetectorKind, FRAME_SAMPLES};
use serde::Serialize;

use super::material::{Clip, RATE, Tape, bursts, hiss, level_db, music};

/// A frame of the clean sentence this far below its loudest one is no speech.
const SILENT_BELOW_PEAK_DB: f32 = 35.0;
/// Seconds of each sound that is no speech.
const SECONDS: usize = 60;

/// How one detector did on one sound.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    detector: &'static str,
    sound: String,
    /// Harmonic mean of precision and recall over frames, where there is speech.
    f1: Option<f64>,
    /// Frames taken for speech that are none, percent of all such frames.
    false_percent: f64,
}

pub(crate) fn measure(clips: &[Clip]) -> Vec<Row> {
    let speech = Tape::of(clips, 0, 0).samples;
    let peak = speech.chunks(FRAME_SAMPLES).map(level_db).fold(f32::NEG_INFINITY, f32::max);
    let truth: Vec<bool> =
        speech.chunks(FRAME_SAMPLES).map(|frame| level_db(frame) > peak - SILENT_BELOW_PEAK_DB).collect();
    let voiced: Vec<f32> = speech
        .chunks(FRAME_SAMPLES)
        .zip(&truth)
        .filter(|(_, voiced)| **voiced)
        .flat_map(|(frame, _)| frame.iter().copied())
        .collect();
    let noisy = |snr_db: f32| -> Vec<f32> {
        // uniform noise has a third of its peak's square
        let level = 10f32.powf((level_db(&voiced) - snr_db) / 20.0) * 3f32.sqrt();
        speech.iter().zip(hiss(speech.len(), level, 3)).map(|(s, n)| s + n).collect()
    };
    let mut sounds = vec![("clean".to_owned(), speech.clone(), true)];
    sounds.extend([20.0, 10.0, 5.0, 0.0].map(|snr| (format!("white noise, {snr} dB"), noisy(snr), true)));
    sounds.push(("hiss at -30 dBFS".into(), hiss(SECONDS * RATE, 0.055, 5), false));
    sounds.push(("hold music".into(), music(SECONDS * RATE), false));
    sounds.push(("coughs and knocks".into(), bursts(SECONDS * RATE, 6), false));
    let mut rows = Vec::new();
    for (detector, kind) in [("webrtc", DetectorKind::WebRtc), ("earshot", DetectorKind::Earshot)] {
        for (sound, samples, with_speech) in &sounds {
            let (f1, false_percent) = judge(kind, samples, with_speech.then_some(truth.as_slice()));
            rows.push(Row { detector, sound: sound.clone(), f1, false_percent });
        }
    }
    rows
}

fn judge(kind: DetectorKind, samples: &[f32], truth: Option<&[bool]>) -> (Option<f64>, f64) {
    let mut detector = Detector::of(kind);
    let frames = samples.chunks_exact(FRAME_SAMPLES).filter_map(|frame| <&[f32; FRAME_SAMPLES]>::try_from(frame).ok());
    let (mut hit, mut missed, mut wrong, mut silent) = (0.0, 0.0, 0.0, 0.0);
    for (n, frame) in frames.enumerate() {
        let voiced = detector.push(frame).voiced;
        match (truth.and_then(|truth| truth.get(n)).copied().unwrap_or(false), voiced) {
            (true, true) => hit += 1.0,
            (true, false) => missed += 1.0,
            (false, heard) => {
                silent += 1.0;
                wrong += f64::from(u8::from(heard));
            }
        }
    }
    (truth.map(|_| 2.0 * hit / (2.0 * hit + missed + wrong)), 100.0 * wrong / f64::max(silent, 1.0))
}

pub(crate) fn print(rows: &[Row]) {
    println!("| speech detection, frames of 20 ms | webrtc F1 | false | earshot F1 | false |\n|---|---|---|---|---|");
    let f1 = |row: &Row| row.f1.map_or_else(|| "-".into(), |f1| format!("{f1:.3}"));
    let (first, second) = rows.split_at(rows.len() / 2);
    for (a, b) in first.iter().zip(second) {
        println!("| {} | {} | {:.1} % | {} | {:.1} % |", a.sound, f1(a), a.false_percent, f1(b), b.false_percent);
    }
    println!();
}
