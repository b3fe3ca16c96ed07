//! What a daemon does whose recogniser cannot keep up: partials go first, then new calls, and finals never; and all comes back.
//!
//! The recogniser is a server of the test's own, that holds its answers back until it is told to go on. How far behind the
//! ears are is what `daemon.status` says; nothing is waited for by the clock alone.

mod site;

use std::f32::consts::TAU;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use control::types::{
    CallHangup, CallId, CallTrace, Cause, DaemonStatus, ErrorCode, Event, PlayFile, PlayMode, PlayStop, TraceFormat,
};
use mr_sip::demo::servers::DaemonSetup;
use serde_json::Value;
use site::{LIMIT, Site, connect};

/// What the recogniser hears in everything.
const WORDS: &str = "seven four two";

/// Speaks OpenAI's transcription API.
struct Recogniser {
    url: String,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    held: bool,
    /// Requests that have come.
    asked: usize,
}

impl Recogniser {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let gate = Arc::<Gate>::default();
        let shared = Arc::clone(&gate);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let gate = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream, &gate));
            }
        });
        Self { url, gate }
    }

    /// Answers nothing from now on, until [`go_on`](Self::go_on); how many requests have come.
    fn hold(&self) -> usize {
        let mut state = self.gate.state.lock().unwrap();
        state.held = true;
        state.asked
    }

    fn go_on(&self) {
        self.gate.state.lock().unwrap().held = false;
        self.gate.changed.notify_all();
    }

    fn wait_until_asked(&self, times: usize) {
        let state = self.gate.state.lock().unwrap();
        let (state, _) = self.gate.changed.wait_timeout_while(state, LIMIT, |state| state.asked < times).unwrap();
        assert!(state.asked >= times, "{} requests", state.asked);
    }
}

/// One connection's requests, until the other end closes it.
fn answer(mut stream: TcpStream, gate: &Gate) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if reader.read_exact(&mut vec![0; length.unwrap_or(0)]).is_err() {
            return;
        }
        let mut state = gate.state.lock().unwrap();
        state.asked += 1;
        gate.changed.notify_all();
        drop(gate.changed.wait_while(state, |state| state.held).unwrap());
        let text = format!("{{\"text\":\"{WORDS}\"}}");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A vowel-like buzz with syllables, which is speech to the detector.
fn voice(folder: &Path, ms: u32) -> PathBuf {
    let path = folder.join(format!("{ms}.wav"));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(&path, spec).unwrap();
    for n in 0..ms * 8 {
        let t = n as f32 / 8_000.0;
        let formant = |hz: f32, at: f32, width: f32| (-((hz - at) / width).powi(2)).exp();
        let harmonics = (1..25).map(|h| 120.0 * h as f32);
        let carrier: f32 = harmonics
            .map(|hz| (formant(hz, 600.0, 200.0) + 0.5 * formant(hz, 1_500.0, 300.0)) * (TAU * hz * t).sin())
            .sum();
        let syllables = (TAU * 4.0 * t + 0.4).sin().abs().sqrt();
        wav.write_sample((3_000.0 * carrier * syllables) as i16).unwrap();
    }
    wav.finalize().unwrap();
    path
}

/// Begins to say this on a call.
fn say(site: &mut Site, call: CallId, path: &Path) -> u64 {
    let file =
        PlayFile { call, path: path.display().to_string(), mode: PlayMode::Instead, bargeable: false, gain_db: 0.0 };
    site.client.request(&file).unwrap().play
}

/// Waits until the ears are as wanted; what they said of themselves then.
fn ears(site: &mut Site, what: &str, wanted: impl Fn(&str, &Ears) -> bool) -> Ears {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = site.client.request(&DaemonStatus {}).unwrap().ears;
        let number = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("{name}: {said:?}"));
        let [waiting, partials, dropped] = ["waiting", "partials", "dropped_partials"].map(number);
        let now = Ears { waiting, partials, dropped };
        if wanted(said["level"].as_str().unwrap(), &now) {
            return now;
        }
        assert!(Instant::now() < deadline, "the ears are not {what}: {said:?}\n{}", site.daemon.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[derive(Debug)]
struct Ears {
    waiting: u64,
    partials: u64,
    dropped: u64,
}

fn partial(site: &mut Site, of: CallId) {
    site.wait("a partial", |event| {
        matches!(event, Event::TranscriptPartial { call, text, .. } if *call == of && text == WORDS).then_some(())
    });
}

/// One final of each of these calls.
fn finals(site: &mut Site, of: &[CallId]) {
    let mut left = of.to_vec();
    site.wait("the finals", |event| {
        if let Event::TranscriptFinal { call, text, .. } = event {
            assert_eq!(text, WORDS, "of {call}");
            left.retain(|waited| waited != call);
        }
        left.is_empty().then_some(())
    });
}

#[test]
fn when_recognition_is_behind_partials_go_first_then_new_calls_and_finals_never() {
    let recogniser = Recogniser::start();
    let folder = tempfile::tempdir().unwrap();
    // a word is over before its first partial is due
    let (word, speech) = (voice(folder.path(), 300), voice(folder.path(), 14_000));
    let more = format!(
        "[asr]\nurl = {:?}\nworkers = 1\npartial_interval_ms = 1000\nurl_timeout_s = 60\n\n\
         [dialing]\ncalls_per_second = 0\n",
        recogniser.url
    );
    let mut theirs = Site::new(&DaemonSetup { incoming: "auto", more: &more, ..DaemonSetup::default() });
    let more = "[dialing]\ncalls_per_second = 0\n";
    let mut ours = Site::new(&DaemonSetup { more, ..DaemonSetup::default() });
    let (first, first_there) = connect(&mut ours, &mut theirs);
    let (second, second_there) = connect(&mut ours, &mut theirs);

    // all is well: one who speaks is written down while he does
    let play = say(&mut ours, second, &speech);
    partial(&mut theirs, second_there);
    ours.client.request(&PlayStop { call: second, play }).unwrap();
    finals(&mut theirs, &[second_there]);
    let before = ears(&mut theirs, "free", |level, ears| level == "free" && ears.waiting == 0);
    assert!(before.partials > 0);

    // one caller's words take all of the recogniser's time, another speaks on: its partials are given up, and that is all
    let asked = recogniser.hold();
    say(&mut ours, first, &word);
    recogniser.wait_until_asked(asked + 1);
    let play = say(&mut ours, second, &speech);
    let without = ears(&mut theirs, "without partials", |level, _| level == "no_partials");
    assert_eq!((without.waiting, without.partials), (0, before.partials));
    assert!(without.dropped > before.dropped, "{without:?} after {before:?}");
    let (third, third_there) = connect(&mut ours, &mut theirs);
    ours.client.request(&CallHangup::new(third)).unwrap();
    assert_eq!((ours.ended().call, theirs.ended().call), (third, third_there));

    // the words of the other wait too: now nobody else is let in, and nobody called
    ours.client.request(&PlayStop { call: second, play }).unwrap();
    ears(&mut theirs, "full", |level, ears| level == "full" && ears.waiting == 1);
    let call = ours.dial(&theirs.uri());
    let refused = ours.ended();
    assert_eq!((refused.call, refused.status, refused.cause), (call, Some(503), Some(Cause::Rejected)));
    let trace = ours.client.request(&CallTrace { call, format: TraceFormat::Json }).unwrap().messages.unwrap();
    let answer = trace.iter().find(|message| message.text.starts_with("SIP/2.0 503 ")).unwrap();
    assert!(answer.text.contains("\r\nRetry-After: "), "{}", answer.text);
    let error = theirs.refused(&ours.uri());
    assert_eq!(error.code(), Some(ErrorCode::NoCapacity));
    assert!(error.message.contains("speech recognition is behind"), "{error}");

    // what was said by those who are in is written down, however late
    recogniser.go_on();
    finals(&mut theirs, &[first_there, second_there]);
    ears(&mut theirs, "better", |level, ears| level != "full" && ears.waiting == 0);
    connect(&mut ours, &mut theirs);
    ears(&mut theirs, "free", |level, _| level == "free");
    say(&mut ours, second, &speech);
    partial(&mut theirs, second_there);
}
