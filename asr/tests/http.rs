//! Recognition by HTTP, against a server made for the test.

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    Phone, assert_failed_because, config, events_until_closed, finals, next_request, of_one_utterance, silence, voice,
};
use mr_sip_asr::{
    CallSettings, Ears,
    http::{HttpConfig, HttpRecognizers, MOST_LEFT_ALONE},
    recognizer::{Hints, RecognizeError, Recognizers},
};

/// A request as it came: its head and its body.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A server that gives each request the next answer, and the last one again and again.
struct Server {
    url: String,
    seen: Seen,
}

impl Server {
    fn answering(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Seen::default();
        let answers: Vec<(u16, String)> = answers.iter().map(|(status, text)| (*status, (*text).into())).collect();
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (noted, answers) = (Arc::clone(&noted), answers.clone());
                std::thread::spawn(move || serve(stream, &noted, &answers));
            }
        });
        Self { url, seen }
    }

    fn recognizers(&self, timeout: Duration) -> HttpRecognizers {
        HttpRecognizers::new(HttpConfig {
            url: self.url.clone(),
            key: Some("sesame".into()),
            model: "whisper-1".into(),
            language: "en".into(),
            timeout,
            ca: None,
        })
        .unwrap()
    }

    fn seen(&self) -> Vec<(String, Vec<u8>)> {
        self.seen.lock().unwrap().clone()
    }
}

/// Takes requests of one connection; status 0 is no answer at all.
fn serve(mut stream: TcpStream, seen: &Seen, answers: &[(u16, String)]) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some((head, body)) = next_request(&mut reader) {
        let (status, text) = {
            let mut seen = seen.lock().unwrap();
            seen.push((head, body));
            answers[(seen.len() - 1).min(answers.len() - 1)].clone()
        };
        if status == 0 {
            // silent until the other end has had enough
            let _ = reader.read_line(&mut String::new());
            return;
        }
        let moved = if status == 307 { "location: http://127.0.0.1:1/elsewhere\r\n" } else { "" };
        let answer = format!("HTTP/1.1 {status} X\r\n{moved}content-length: {}\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

fn ask(server: &Server, timeout: Duration, hints: &Hints) -> Result<String, RecognizeError> {
    let recognizers = server.recognizers(timeout);
    let mut recognizer = recognizers.create().unwrap();
    recognizer.recognize(&[0.1; 16_000], hints, &AtomicBool::new(false)).map(|heard| heard.text)
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_call_is_recognised_by_the_server_as_by_our_own() {
    let server = Server::answering(&[(200, r#"{"text":"hello from the server"}"#)]);
    let ears = Ears::start_with(config(), Arc::new(server.recognizers(LONG)), || {}).unwrap();
    let mut phone = Phone::dial(&ears, 1);
    let hints = Hints { prompt: "Marvin".into(), language: Some("de".into()) };
    ears.set(phone.stream, CallSettings { hints, ..CallSettings::default() }).unwrap();
    phone.say(&voice(800));
    phone.say(&silence(900));
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    assert_eq!(finals(&events), ["hello from the server"]);
    let seen = server.seen();
    let (head, body) = &seen[0];
    assert!(head.starts_with("POST /v1/audio/transcriptions HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("authorization: bearer sesame\r\n"), "{head}");
    let text = String::from_utf8_lossy(body);
    for part in
        ["name=\"model\"\r\n\r\nwhisper-1", "name=\"language\"\r\n\r\nde", "name=\"prompt\"\r\n\r\nMarvin", "RIFF"]
    {
        assert!(text.contains(part), "{part} is missing");
    }
    let at = body.windows(4).position(|bytes| bytes == b"RIFF").unwrap();
    let mut wav = hound::WavReader::new(&body[at..]).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.spec().channels), (16_000, 1));
    // the first words and what led to them: pre-roll and 0.8 s
    assert!(wav.samples::<i16>().filter(|sample| sample.as_ref().is_ok_and(|s| s.abs() > 300)).count() > 6_000);
}

#[test]
fn a_server_that_doubts_is_doubted() {
    let server = Server::answering(&[(
        200,
        r#"{"text":"Thank you for watching.","segments":[{"avg_logprob":-0.9,"no_speech_prob":0.8}]}"#,
    )]);
    let ears = Ears::start_with(config(), Arc::new(server.recognizers(LONG)), || {}).unwrap();
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&voice(800));
    phone.say(&silence(900));
    ears.remove(phone.stream).unwrap();
    assert_eq!(finals(&events_until_closed(&ears, phone.stream)), [""]);
}

#[test]
fn what_may_pass_is_tried_once_more() {
    for status in [500, 503, 429] {
        let server = Server::answering(&[(status, "busy"), (200, r#"{"text":"hello"}"#)]);
        assert_eq!(ask(&server, LONG, &Hints::default()), Ok("hello".into()), "{status}");
    }
    let server = Server::answering(&[(503, "busy")]);
    let Err(RecognizeError::Failed(reason)) = ask(&server, LONG, &Hints::default()) else { panic!("no error") };
    assert!(reason.contains("503") && reason.contains("busy") && server.seen().len() == 2, "{reason}");
}

#[test]
fn what_does_not_pass_is_told_without_the_key_and_not_tried_again() {
    for (status, text) in [(401, "wrong key"), (404, "no such model"), (307, "over there"), (200, "<html>")] {
        let server = Server::answering(&[(status, text)]);
        let Err(RecognizeError::Failed(reason)) = ask(&server, LONG, &Hints::default()) else { panic!("{status}") };
        assert!(!reason.contains("sesame"), "{reason}");
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

#[test]
fn a_server_that_never_answers_costs_no_more_than_the_time_that_it_is_given() {
    let server = Server::answering(&[(0, "")]);
    let began = Instant::now();
    let outcome = ask(&server, Duration::from_millis(200), &Hints::default());
    assert!(matches!(outcome, Err(RecognizeError::Failed(_))), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn an_answer_that_is_not_wanted_any_more_is_not_waited_for() {
    let never = (0, "");
    let answers = [never, never, never, never, (200, r#"{"text":"hello"}"#)];
    let server = Server::answering(&answers);
    let recognizers = server.recognizers(LONG);
    let mut recognizer = recognizers.create().unwrap();
    for partial in 1..=MOST_LEFT_ALONE {
        let abort = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                while server.seen().len() < partial {
                    std::thread::yield_now();
                }
                abort.store(true, Ordering::Relaxed);
            });
            recognizer.recognize(&[0.1; 16_000], &Hints::default(), &abort)
        });
        assert_eq!(outcome.unwrap_err(), RecognizeError::Aborted);
    }
    // none of them was answered, and the next one is all the same
    let heard = recognizer.recognize(&[0.1; 16_000], &Hints::default(), &AtomicBool::new(false)).unwrap();
    assert_eq!(heard.text, "hello");
}

#[test]
fn a_server_that_is_gone_leaves_the_call_with_an_empty_final_and_a_reason() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server { url: format!("http://{gone}/v1"), seen: Seen::default() };
    assert_failed_because(&of_one_utterance(Arc::new(server.recognizers(LONG))), "127.0.0.1");
}
