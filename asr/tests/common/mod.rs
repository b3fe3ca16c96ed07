//! A call for the ears: a ring that is fed with 20 ms pieces as fast as it takes them, and what comes out.
#![allow(dead_code, unreachable_pub)] // each test program uses a part of it

use std::{
    io::BufRead,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mr_sip_asr::{
    AsrError, Ears, EarsConfig, EarsEvent, StreamId,
    recognizer::{Hints, Hypothesis, RecognizeError, Recognizer, Recognizers},
};

/// Nothing here takes this long, even on a busy machine; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const RATE: f32 = 8_000.0;

/// One call's phone end.
pub struct Phone {
    pub stream: StreamId,
    pub ring: rtrb::Producer<f32>,
    pub lost: Arc<AtomicU64>,
}

impl Phone {
    pub fn dial(ears: &Ears, stream: u32) -> Self {
        let (ring, samples) = rtrb::RingBuffer::new(16_000);
        let lost = Arc::new(AtomicU64::new(0));
        let stream = StreamId(stream);
        ears.add(stream, samples, Arc::clone(&lost)).unwrap();
        Self { stream, ring, lost }
    }

    /// Says something, in pieces of 20 ms, as fast as the ears listen.
    pub fn say(&mut self, samples: &[f32]) {
        let begun = Instant::now();
        for piece in samples.chunks(160) {
            while self.ring.push_entire_slice(piece).is_err() {
                assert!(begun.elapsed() < PATIENCE, "the ears do not listen");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// What comes of a call that says one thing and ends.
pub fn of_one_utterance(recognizers: Arc<dyn Recognizers>) -> Vec<EarsEvent> {
    let ears = Ears::start_with(config(), recognizers, || {}).unwrap();
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&voice(800));
    phone.say(&silence(900));
    ears.remove(phone.stream).unwrap();
    events_until_closed(&ears, phone.stream)
}

/// That call has no words, and it is told why, with this in the reason.
pub fn assert_failed_because(events: &[EarsEvent], why: &str) {
    assert_eq!(finals(events), [""]);
    let told = events.iter().any(|e| matches!(e, EarsEvent::RecognizerFailed { reason, .. } if reason.contains(why)));
    assert!(told, "{events:#?}");
}

/// Head and body of the next HTTP request; `None` when there is none any more.
pub fn next_request(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// Waits for events until one of them is the last.
pub fn events_until(ears: &Ears, mut last: impl FnMut(&EarsEvent) -> bool) -> Vec<EarsEvent> {
    let begun = Instant::now();
    let mut events = Vec::new();
    loop {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let Some(event) = ears.recv_timeout(left) else { panic!("nothing more came after {events:#?}") };
        let done = last(&event);
        events.push(event);
        if done {
            return events;
        }
    }
}

/// All that comes until the stream is closed.
pub fn events_until_closed(ears: &Ears, stream: StreamId) -> Vec<EarsEvent> {
    events_until(ears, |e| *e == EarsEvent::Closed { stream })
}

pub fn finals(events: &[EarsEvent]) -> Vec<String> {
    events
        .iter()
        .filter_map(|e| match e {
            EarsEvent::Final { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect()
}

pub fn partials(events: &[EarsEvent]) -> Vec<String> {
    events
        .iter()
        .filter_map(|e| match e {
            EarsEvent::Partial { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect()
}

pub fn silence(ms: usize) -> Vec<f32> {
    vec![0.0; ms * 8]
}

/// A vowel-like buzz with syllables: speech to the detector.
pub fn voice(ms: usize) -> Vec<f32> {
    (0..ms * 8)
        .map(|i| {
            let t = i as f32 / RATE;
            let carrier: f32 = (1..25)
                .map(|h| {
                    let hz = 120.0 * h as f32;
                    let formants =
                        (-((hz - 600.0) / 200.0).powi(2)).exp() + 0.5 * (-((hz - 1_500.0) / 300.0).powi(2)).exp();
                    formants * (std::f32::consts::TAU * hz * t).sin()
                })
                .sum();
            let syllable = (std::f32::consts::TAU * 4.0 * t + 0.4).sin().abs().sqrt();
            0.1 * carrier * syllable
        })
        .collect()
}

pub fn noise(ms: usize, level: f32, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..ms * 8).map(|_| level * (2.0 * random.f32() - 1.0)).collect()
}

pub fn tone(ms: usize, hz: f32, level: f32) -> Vec<f32> {
    (0..ms * 8).map(|i| level * (std::f32::consts::TAU * hz * i as f32 / RATE).sin()).collect()
}

/// What a fake recogniser does with the n-th job that it or a sibling gets (from 0).
pub type Script = dyn Fn(usize, &[f32], &AtomicBool) -> Result<Hypothesis, RecognizeError> + Send + Sync;

/// A recogniser that does as it is told.
pub struct Fake {
    pub script: Arc<Script>,
    pub jobs: Arc<Mutex<usize>>,
    pub made: Arc<Mutex<usize>>,
}

impl Fake {
    pub fn new(
        script: impl Fn(usize, &[f32], &AtomicBool) -> Result<Hypothesis, RecognizeError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { script: Arc::new(script), jobs: Arc::default(), made: Arc::default() })
    }

    /// Writes how many tenths of a second it was given.
    pub fn counting() -> Arc<Self> {
        Self::new(|_, samples, _| Ok(said(&format!("{} tenths", samples.len() / 1_600))))
    }

    pub fn jobs(&self) -> usize {
        *self.jobs.lock().unwrap()
    }
}

impl Recognizers for Fake {
    fn create(&self) -> Result<Box<dyn Recognizer + '_>, AsrError> {
        *self.made.lock().unwrap() += 1;
        Ok(Box::new(FakeWorker(self)))
    }
}

struct FakeWorker<'a>(&'a Fake);

impl Recognizer for FakeWorker<'_> {
    fn recognize(&mut self, samples: &[f32], _: &Hints, abort: &AtomicBool) -> Result<Hypothesis, RecognizeError> {
        let mut jobs = self.0.jobs.lock().unwrap();
        let number = *jobs;
        *jobs += 1;
        drop(jobs);
        (self.0.script)(number, samples, abort)
    }
}

pub fn said(text: &str) -> Hypothesis {
    Hypothesis { text: text.into(), tokens: 2, mean_log_prob: -0.1, no_speech: 0.01, cut_off: false }
}

/// Works until it is aborted.
pub fn until_aborted(abort: &AtomicBool) -> Result<Hypothesis, RecognizeError> {
    let begun = Instant::now();
    while !abort.load(Ordering::Relaxed) {
        assert!(begun.elapsed() < PATIENCE, "was never aborted");
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(RecognizeError::Aborted)
}

/// A configuration for fakes: one worker, no partials.
pub fn config() -> EarsConfig {
    let mut config = EarsConfig::new("unused".into());
    config.workers = 1;
    config.partial_interval = Duration::ZERO;
    config
}

pub fn start(config: EarsConfig, fake: &Arc<Fake>) -> Ears {
    Ears::start_with(config, Arc::clone(fake) as _, || {}).unwrap()
}
