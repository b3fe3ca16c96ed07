//! Real speech through the whole ears: G.711 samples in 20 ms pieces in, words out, with the model that ships.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{Phone, events_until, events_until_closed, finals, noise, partials, silence, tone, voice};
use mr_sip_asr::{
    Ears, EarsConfig, EarsEvent, model, recognizer::Hypothesis, text::plain, transcribe_offline, vad::DetectorKind,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("model")
}

fn built_in() -> PathBuf {
    model::find(model::BUILT_IN, &folder()).unwrap()
}

fn ears() -> Ears {
    let mut config = EarsConfig::new(built_in());
    config.workers = 1;
    Ears::start(config, || {}).unwrap()
}

struct Clip {
    name: String,
    said: String,
    samples: Vec<f32>,
}

fn clips() -> Vec<Clip> {
    let folder = folder().join("clips");
    let table = fs::read_to_string(folder.join("clips.tsv")).unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| {
            let (name, said) = line.split_once('\t').unwrap();
            let mut wav = hound::WavReader::open(folder.join(name)).unwrap();
            assert_eq!((wav.spec().sample_rate, wav.spec().channels), (8_000, 1), "{name}");
            let samples = wav.samples::<i16>().map(|s| through_ulaw(s.unwrap())).collect();
            Clip { name: name.into(), said: said.trim().into(), samples }
        })
        .collect()
}

/// What G.711 u-law leaves of a sample (ITU-T G.711, table 2a).
fn through_ulaw(sample: i16) -> f32 {
    let magnitude = (i32::from(sample).abs() >> 2).min(8_158) + 33;
    let exponent = (magnitude >> 5).ilog2();
    let step = 1 << (exponent + 1);
    let quantised = magnitude / step * step + step / 2 - 33;
    (4 * quantised * i32::from(sample).signum()) as f32 / 32_768.0
}

/// The line's own hiss before and behind the words, as a call has it.
fn call(words: &[f32]) -> Vec<f32> {
    [&noise(500, 0.000_5, 1)[..], words, &noise(900, 0.000_5, 2)[..]].concat()
}

/// All that is heard of one call.
fn hear(ears: &Ears, stream: u32, sound: &[f32]) -> Vec<EarsEvent> {
    let mut phone = Phone::dial(ears, stream);
    phone.say(sound);
    ears.remove(phone.stream).unwrap();
    events_until_closed(ears, phone.stream)
}

fn text(events: &[EarsEvent]) -> String {
    plain(&finals(events).join(" "))
}

/// Words to change, add or drop to get from one to the other (Levenshtein).
fn word_errors(said: &str, heard: &str) -> usize {
    let heard: Vec<&str> = heard.split_whitespace().collect();
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, word) in said.split_whitespace().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in heard.iter().enumerate() {
            let changed = diagonal + usize::from(word != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[heard.len()]
}

/// The model is small: a word in twenty may be wrong over all clips. What
/// says nothing must give nothing.
#[test]
fn the_clips_come_out_as_they_were_said() {
    let ears = ears();
    let (mut words, mut errors, mut wrong) = (0, 0, Vec::new());
    for (number, clip) in clips().iter().enumerate() {
        let events = hear(&ears, number as u32, &call(&clip.samples));
        let heard = text(&events);
        if clip.said.is_empty() {
            assert!(heard.is_empty() && partials(&events).is_empty(), "{}: {events:?}", clip.name);
            continue;
        }
        words += clip.said.split_whitespace().count();
        let wrong_words = word_errors(&clip.said, &heard);
        errors += wrong_words;
        if wrong_words > 0 {
            wrong.push(format!("{}: said {:?}, heard {heard:?}", clip.name, clip.said));
        }
    }
    assert!(words > 30, "there are clips");
    assert!(20 * errors <= words, "{errors} of {words} words wrong: {}", wrong.join("; "));
}

#[test]
fn silence_noise_tones_music_and_clicks_give_no_text() {
    let ears = ears();
    let chord: Vec<f32> = (0..8_000 * 6)
        .map(|i| {
            let t = i as f32 / 8_000.0;
            let note = [262.0, 330.0, 392.0, 523.0][(t * 2.0) as usize % 4];
            let decay = (-3.0 * (t * 2.0).fract()).exp();
            0.2 * decay * (std::f32::consts::TAU * note * t).sin()
        })
        .collect();
    let ring_tone = [tone(1_000, 425.0, 0.3), silence(4_000)].concat().repeat(3);
    let digit: Vec<f32> = tone(120, 770.0, 0.2).iter().zip(tone(120, 1_336.0, 0.2)).map(|(a, b)| a + b).collect();
    let sounds = [
        ("silence", silence(6_000)),
        ("quiet hiss", noise(6_000, 0.002, 3)),
        ("hiss", noise(6_000, 0.05, 4)),
        ("loud hiss", noise(6_000, 0.5, 5)),
        ("ring tone", ring_tone),
        ("melody", chord),
        ("a pressed key", [silence(500), digit, silence(1_500)].concat()),
        ("one frame", [silence(500), voice(20), silence(1_500)].concat()),
        ("knocks", [noise(30, 0.8, 6), silence(400)].concat().repeat(8)),
        ("bursts of noise", [silence(700), noise(400, 0.3, 7)].concat().repeat(5)),
        ("direct current", vec![0.4; 8_000 * 5]),
        ("no numbers", [vec![f32::NAN; 8_000], vec![f32::INFINITY; 8_000], silence(1_500)].concat()),
        ("an overdriven line", [silence(500), noise(2_500, 30.0, 8), silence(1_500)].concat()),
        ("nothing at all", Vec::new()),
        ("one sample", vec![0.7]),
        ("a fax", [tone(500, 1_100.0, 0.3), silence(3_000)].concat().repeat(3)),
        ("the network's three tones", three_tones()),
        ("a hoover", sweep(200.0, 900.0)),
    ];
    let mut invented = Vec::new();
    for (number, (name, sound)) in sounds.iter().enumerate() {
        let events = hear(&ears, number as u32, sound);
        let texts: Vec<_> = finals(&events).into_iter().chain(partials(&events)).filter(|t| !t.is_empty()).collect();
        if !texts.is_empty() {
            invented.push(format!("{name}: {texts:?}"));
        }
    }
    assert!(invented.is_empty(), "{}", invented.join("\n"));
}

/// What precedes "the number you have dialled" (ITU-T E.180: 950, 1400 and 1800 Hz).
fn three_tones() -> Vec<f32> {
    let tones = [950.0, 1_400.0, 1_800.0].map(|hz| tone(330, hz, 0.3)).concat();
    [silence(500), tones, silence(1_000)].concat().repeat(3)
}

/// A tone that rises, in noise.
fn sweep(from: f32, to: f32) -> Vec<f32> {
    let mut phase = 0.0f32;
    let rising = (0..8_000 * 4).zip(noise(4_000, 0.05, 11)).map(|(n, noise)| {
        phase += (from + (to - from) * n as f32 / 32_000.0) / 8_000.0;
        0.2 * (std::f32::consts::TAU * phase).sin() + noise
    });
    [rising.collect(), silence(1_000)].concat()
}

/// The guards beside the model's own "no speech", each held against a recogniser that invents on every sound.
#[test]
fn a_model_that_invents_is_not_believed_by_any_of_the_guards() {
    use mr_sip_asr::text::{Doubt, Evidence, judge};
    let heard = |text: &str| common::said(text);
    let spoken = Evidence { voiced: Duration::from_millis(900), peak_db: -20.0 };
    let click = Evidence { voiced: Duration::from_millis(40), peak_db: -6.0 };
    let faint = Evidence { voiced: Duration::from_millis(900), peak_db: -55.0 };
    let cases = [
        (Doubt::TooShort, heard("hello"), click),
        (Doubt::NoSpeech, Hypothesis { no_speech: 0.95, ..heard("hello") }, spoken),
        (Doubt::Unsure, Hypothesis { mean_log_prob: -2.0, ..heard("hello") }, spoken),
        (Doubt::TooFast, Hypothesis { tokens: 60, ..heard("so much text for so short a sound") }, spoken),
        (Doubt::Loop, heard(&"no ".repeat(12)), Evidence { voiced: Duration::from_secs(9), ..spoken }),
        (Doubt::StockPhrase, heard("Thank you."), faint),
        (Doubt::Empty, heard("[MUSIC]"), spoken),
    ];
    for (doubt, hypothesis, evidence) in cases {
        assert_eq!(judge(&hypothesis, evidence), Err(doubt), "{hypothesis:?}");
    }
}

#[test]
fn calls_at_the_same_time_hear_what_each_hears_alone() {
    let ears = ears();
    let calls: Vec<_> = clips().iter().filter(|c| c.name.starts_with("digits")).map(|c| call(&c.samples)).collect();
    assert!(calls.len() >= 3);
    let alone: Vec<_> = calls.iter().map(|call| text(&hear(&ears, 99, call))).collect();

    let mut phones: Vec<_> = (0..calls.len()).map(|n| Phone::dial(&ears, n as u32)).collect();
    let longest = calls.iter().map(Vec::len).max().unwrap();
    for at in (0..longest).step_by(160) {
        for (phone, call) in phones.iter_mut().zip(&calls) {
            phone.say(&call[at.min(call.len())..(at + 160).min(call.len())]);
        }
    }
    for phone in &phones {
        ears.remove(phone.stream).unwrap();
    }
    let mut open = phones.len();
    let events = events_until(&ears, |e| {
        open -= usize::from(matches!(e, EarsEvent::Closed { .. }));
        open == 0
    });
    for (phone, alone) in phones.iter().zip(&alone) {
        let own: Vec<_> = events.iter().filter(|e| e.stream() == phone.stream).cloned().collect();
        assert_eq!(text(&own), *alone, "{}", phone.stream);
    }
}

/// Case 39, with the real recogniser.
#[test]
fn whisper_dies_and_the_words_still_come() {
    let clips = clips();
    let clip = clips.iter().find(|c| c.name == "yes-please.wav").unwrap();
    let mut config = EarsConfig::new(built_in());
    config.workers = 1;
    config.test_panics = 1;
    config.partial_interval = Duration::ZERO;
    let ears = Ears::start(config, || {}).unwrap();
    let events = hear(&ears, 1, &call(&clip.samples));
    assert!(events.iter().any(|e| matches!(e, EarsEvent::WorkerRestarted { .. })));
    assert_eq!(text(&events), clip.said);
}

#[test]
fn a_file_can_be_transcribed_at_once() {
    let clips = clips();
    let clip = clips.iter().find(|c| c.name == "yes-please.wav").unwrap();
    let mut wide = Vec::new();
    mr_sip_asr::resample::Upsampler::new().unwrap().process(&clip.samples, &mut wide);
    let heard = transcribe_offline(&built_in(), &wide).unwrap();
    assert_eq!(plain(&heard.text), clip.said);
    assert!(heard.hypothesis.no_speech < 0.5, "{heard:?}");
    // less than whisper.cpp's own least length, down to nothing, is padded
    for samples in [0, 1, 200, 1_600] {
        assert!(transcribe_offline(&built_in(), &wide[..samples]).is_ok());
    }
}

#[test]
fn no_speech_is_told_from_speech() {
    let model = built_in();
    let (mut wide, mut upsampler) = (Vec::new(), mr_sip_asr::resample::Upsampler::new().unwrap());
    for clip in clips() {
        upsampler.process(&clip.samples, &mut wide);
        let no_speech = transcribe_offline(&model, &wide).unwrap().hypothesis.no_speech;
        assert_eq!(no_speech > 0.5, clip.said.is_empty(), "{}: {no_speech}", clip.name);
    }
}

/// The other detector, through the same ears: what was said comes out, and noise stays noise.
#[test]
fn the_neural_detector_hears_the_same_words() {
    let mut config = EarsConfig::new(built_in());
    config.workers = 1;
    config.detector = DetectorKind::Earshot;
    let ears = Ears::start(config, || {}).unwrap();
    let (mut words, mut errors) = (0, 0);
    for (number, clip) in clips().iter().enumerate() {
        let heard = text(&hear(&ears, number as u32, &call(&clip.samples)));
        words += clip.said.split_whitespace().count();
        errors += word_errors(&clip.said, &heard);
    }
    assert!(10 * errors <= words, "{errors} of {words} words wrong");
    let events = hear(&ears, 99, &[noise(6_000, 0.05, 4), tone(6_000, 425.0, 0.3)].concat());
    assert!(finals(&events).iter().all(String::is_empty), "{events:?}");
}
