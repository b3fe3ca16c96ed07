//! Models of the usual shape, multilingual ones too: the way through whisper.cpp that `tiny`, `base`, ... take.
//!
//! No such model can be downloaded in a test, so these have their shape and random weights: what they say is nonsense,
//! but nothing may break, nothing may be left over from call to call, and nothing of it may be believed.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mr_sip_asr::{
    AsrError,
    recognizer::{Hints, RecognizeError, Recognizer},
    text::{Evidence, judge},
    whisper::WhisperModel,
};
use tempfile::TempDir;

const WIDTH: usize = 64;
const CONTEXT: usize = 1_500;
const TEXT_CONTEXT: usize = 448;
const MELS: usize = 80;
const ENGLISH: usize = 51_864;
const MULTILINGUAL: usize = 51_865;

/// A model file of one layer each, matrices f16.
struct Writer {
    file: BufWriter<File>,
    random: fastrand::Rng,
}

impl Writer {
    fn numbers(&mut self, numbers: &[usize]) {
        for n in numbers {
            self.file.write_all(&(*n as i32).to_le_bytes()).unwrap();
        }
    }

    fn floats(&mut self, count: usize, mut value: impl FnMut(&mut fastrand::Rng) -> f32) {
        for _ in 0..count {
            let value = value(&mut self.random);
            self.file.write_all(&value.to_le_bytes()).unwrap();
        }
    }

    /// `shape` slowest first; the file wants it the other way round. `kind` 0 is f32, 1 is f16.
    fn tensor(&mut self, name: &str, shape: &[usize], kind: usize) {
        let mut dims = shape.to_vec();
        dims.reverse();
        self.numbers(&[dims.len(), name.len(), kind]);
        self.numbers(&dims);
        self.file.write_all(name.as_bytes()).unwrap();
    }

    fn matrix(&mut self, name: &str, shape: &[usize]) {
        self.tensor(name, shape, 1);
        for _ in 0..shape.iter().product() {
            let value = half(0.3 * (self.random.f32() - 0.5));
            self.file.write_all(&value.to_le_bytes()).unwrap();
        }
    }

    fn bias(&mut self, name: &str, shape: &[usize]) {
        self.tensor(name, shape, 0);
        self.floats(shape.iter().product(), |r| 0.3 * (r.f32() - 0.5));
    }

    fn norm(&mut self, name: &str) {
        self.tensor(&format!("{name}.weight"), &[WIDTH], 0);
        self.floats(WIDTH, |_| 1.0);
        self.tensor(&format!("{name}.bias"), &[WIDTH], 0);
        self.floats(WIDTH, |_| 0.0);
    }

    fn attention(&mut self, name: &str) {
        self.norm(&format!("{name}_ln"));
        for part in ["query", "key", "value", "out"] {
            self.matrix(&format!("{name}.{part}.weight"), &[WIDTH, WIDTH]);
            if part != "key" {
                self.bias(&format!("{name}.{part}.bias"), &[WIDTH]);
            }
        }
    }

    fn feed_forward(&mut self, block: &str) {
        self.norm(&format!("{block}.mlp_ln"));
        self.matrix(&format!("{block}.mlp.0.weight"), &[4 * WIDTH, WIDTH]);
        self.bias(&format!("{block}.mlp.0.bias"), &[4 * WIDTH]);
        self.matrix(&format!("{block}.mlp.2.weight"), &[WIDTH, 4 * WIDTH]);
        self.bias(&format!("{block}.mlp.2.bias"), &[WIDTH]);
    }
}

/// The f16 nearest to zero from a number below 1; what is too small for it is 0.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
    if exponent <= 0 { sign } else { sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16 }
}

fn model(folder: &TempDir, vocabulary: usize) -> PathBuf {
    let path = folder.path().join(format!("ggml-random-{vocabulary}.bin"));
    let mut w = Writer { file: BufWriter::new(File::create(&path).unwrap()), random: fastrand::Rng::with_seed(1) };
    w.numbers(&[0x6767_6d6c, vocabulary, CONTEXT, WIDTH, 1, 1, TEXT_CONTEXT, WIDTH, 1, 1, MELS, 1]);
    w.numbers(&[MELS, 201]);
    w.floats(MELS * 201, |r| 0.01 * r.f32());
    // the first is the blank, which whisper.cpp looks up by its text; those that are not there it names itself
    w.numbers(&[1_000]);
    for token in 0..1_000 {
        let text = if token == 0 { " ".into() } else { format!(" w{token}") };
        w.numbers(&[text.len()]);
        w.file.write_all(text.as_bytes()).unwrap();
    }
    w.bias("encoder.positional_embedding", &[CONTEXT, WIDTH]);
    w.matrix("encoder.conv1.weight", &[WIDTH, MELS, 3]);
    w.bias("encoder.conv1.bias", &[WIDTH, 1]);
    w.matrix("encoder.conv2.weight", &[WIDTH, WIDTH, 3]);
    w.bias("encoder.conv2.bias", &[WIDTH, 1]);
    w.attention("encoder.blocks.0.attn");
    w.feed_forward("encoder.blocks.0");
    w.norm("encoder.ln_post");
    w.bias("decoder.positional_embedding", &[TEXT_CONTEXT, WIDTH]);
    w.matrix("decoder.token_embedding.weight", &[vocabulary, WIDTH]);
    w.attention("decoder.blocks.0.attn");
    w.attention("decoder.blocks.0.cross_attn");
    w.feed_forward("decoder.blocks.0");
    w.norm("decoder.ln");
    w.file.flush().unwrap();
    path
}

fn sound(seconds: f32, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut level = 0.0;
    (0..(seconds * 16_000.0) as usize)
        .map(|i| {
            if i % 1_600 == 0 {
                level = 0.5 * random.f32();
            }
            level * (2.0 * random.f32() - 1.0)
        })
        .collect()
}

#[test]
fn any_length_gives_a_bounded_hypothesis_that_is_not_believed() {
    let folder = TempDir::new().unwrap();
    for (vocabulary, lengths) in [(ENGLISH, &[0.0, 0.01, 0.5, 45.0][..]), (MULTILINGUAL, &[3.0])] {
        let model = WhisperModel::load(&model(&folder, vocabulary), "en").unwrap();
        let mut recognizer = model.recognizer().unwrap();
        for &seconds in lengths {
            let heard = recognizer.recognize(&sound(seconds, 3), &Hints::default(), &AtomicBool::new(false)).unwrap();
            assert!(heard.tokens <= 8 * seconds.min(30.0).ceil() as usize + 9, "{seconds} s: {} tokens", heard.tokens);
            assert!((0.0..=1.0).contains(&heard.no_speech) && heard.mean_log_prob <= 0.0, "{heard:?}");
            let evidence = Evidence { voiced: Duration::from_secs(3), peak_db: -20.0 };
            assert!(judge(&heard, evidence).is_err(), "{heard:?}");
        }
    }
}

/// The trap: a state keeps the encoder's last output, and a cut context may read on into it.
#[test]
fn an_utterance_is_heard_alike_whatever_came_before_it() {
    let folder = TempDir::new().unwrap();
    let model = WhisperModel::load(&model(&folder, ENGLISH), "en").unwrap();
    let abort = AtomicBool::new(false);
    for seconds in [0.7, 3.3] {
        let wanted = sound(seconds, 5);
        let fresh = model.recognizer().unwrap().recognize(&wanted, &Hints::default(), &abort).unwrap();
        let mut used = model.recognizer().unwrap();
        for (seconds, seed) in [(12.0, 6), (1.1, 7)] {
            used.recognize(&sound(seconds, seed), &Hints::default(), &abort).unwrap();
            assert_eq!(used.recognize(&wanted, &Hints::default(), &abort).unwrap(), fresh, "{seconds} s before");
        }
    }
}

#[test]
fn an_aborted_job_says_so_and_harms_no_later_one() {
    let folder = TempDir::new().unwrap();
    let model = WhisperModel::load(&model(&folder, ENGLISH), "en").unwrap();
    let mut recognizer = model.recognizer().unwrap();
    let (wanted, long) = (sound(1.0, 9), sound(10.0, 10));
    let first = recognizer.recognize(&wanted, &Hints::default(), &AtomicBool::new(false)).unwrap();
    assert_eq!(recognizer.recognize(&wanted, &Hints::default(), &AtomicBool::new(true)), Err(RecognizeError::Aborted));
    for delay_ms in [0, 10, 40] {
        let abort = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(delay_ms));
                abort.store(true, Ordering::Relaxed);
            });
            // it may be done before
            match recognizer.recognize(&long, &Hints::default(), &abort) {
                Ok(_) | Err(RecognizeError::Aborted) => {}
                Err(other) => panic!("{other}"),
            }
        });
        assert_eq!(recognizer.recognize(&wanted, &Hints::default(), &AtomicBool::new(false)), Ok(first.clone()));
    }
}

#[test]
fn languages_are_whispers_or_refused() {
    let folder = TempDir::new().unwrap();
    let path = model(&folder, MULTILINGUAL);
    for language in ["en", "de", "auto"] {
        let model = WhisperModel::load(&path, language).unwrap();
        let heard = model.recognizer().unwrap().recognize(&sound(1.0, 4), &Hints::default(), &AtomicBool::new(false));
        assert!(heard.is_ok(), "{language}: {heard:?}");
    }
    for language in ["klingon", "", "e\0n"] {
        assert!(matches!(WhisperModel::load(&path, language), Err(AsrError::Config(_))), "{language:?}");
    }
}
