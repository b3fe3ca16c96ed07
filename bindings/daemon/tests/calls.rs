//! Whole calls with the real daemon, a telephone that is not ours (baresip), and a real JACK server.
//!
//! Nothing is waited for by the clock alone: each test waits for an event, within a limit that only a broken daemon
//! reaches. They need Debian's baresip-core, espeak-ng and jackd2, which `scripts/test.sh` installs.

use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use control::client::Message;
use control::types::{
    AudioPosition, Call, CallAnswer, CallDial, CallDtmf, CallGet, CallHangup, CallId, CallState, Cause, DaemonStatus,
    Encoding, ErrorCode, Event, EventFilter, JackState, RecognizedBy, ResponseEnd, ResponseStart, Speaker,
    TranscriptPush, TurnPolicy, TurnStyle,
};
use control::{Client, ControlError};
use mr_sip::demo::far_end::{FarEnd, Role, read_wav};
use mr_sip::demo::score::{find, word_errors};
use mr_sip::demo::servers::{Daemon, DaemonSetup, Jackd};
use mr_sip::demo::voice::{Cue, Speech, Voice, write_script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CALLER: Voice = Voice { name: "en-us", rate: 150 };
const AGENT: Voice = Voice { name: "en-gb", rate: 165 };
/// Silence behind what is said, for who hangs up after it: more than baresip's jitter buffer and JACK hold back.
const FAR_END_BUFFER_SECONDS: f64 = 0.4;
/// A whole call takes about ten seconds; a machine that compiles beside it takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// A JACK server of a test. The name is fixed: a server that is killed leaves its name in the machine's list of eight,
/// where only a server of the same name takes its place.
#[derive(Clone, Copy)]
struct Jack {
    name: &'static str,
    rate: u32,
    period: u32,
}

/// A daemon, perhaps a JACK server, and a folder for both.
struct Site {
    daemon: Daemon,
    jackd: Option<Jackd>,
    folder: tempfile::TempDir,
}

impl Site {
    fn new(jack: Option<Jack>, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // two runs of the tests on one machine do not meet in one server
        let name = |jack: &Jack| format!("{}_{}", jack.name, std::process::id());
        let jackd = jack.map(|jack| Jackd::start(&name(&jack), jack.rate, jack.period, folder.path()).unwrap());
        let setup = DaemonSetup {
            program: Some(Path::new(env!("CARGO_BIN_EXE_mr-sip"))),
            jack_server: jackd.as_ref().map(Jackd::name),
            environment,
            ..DaemonSetup::default()
        };
        let daemon = Daemon::start(folder.path(), &setup).unwrap();
        Self { daemon, jackd, folder }
    }

    fn client(&self) -> Client {
        self.daemon.connect("test", EventFilter::All).unwrap()
    }

    /// A WAV that says each text after so many seconds of silence, and ends with silence.
    fn script(&self, cues: &[(f64, &str)], tail: f64) -> std::path::PathBuf {
        let path = self.folder.path().join("script.wav");
        let cues: Vec<Cue> = cues
            .iter()
            .map(|(pause, text)| Cue { pause: *pause, speech: CALLER.say(text, self.folder.path()).unwrap() })
            .collect();
        write_script(&path, &cues, tail).unwrap();
        path
    }

    fn caller(&self, script: &Path) -> FarEnd {
        let uri = format!("sip:agent@{}", self.daemon.sip_address());
        FarEnd::start(&self.folder.path().join("caller"), script, Role::Calls(&uri)).unwrap()
    }

    fn say(&self, text: &str) -> Speech {
        AGENT.say(text, self.folder.path()).unwrap()
    }
}

/// Waits for the first event that `wanted` makes something of.
fn wait_for<T>(client: &mut Client, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    let mut seen = Vec::new();
    loop {
        match client.next_message(deadline).unwrap() {
            Some(Message::Event(notification)) => {
                if let Some(found) = wanted(&notification.event) {
                    return found;
                }
                seen.push(notification.event);
            }
            Some(_) => {}
            None => panic!("{what} did not come; instead came {seen:#?}"),
        }
    }
}

fn incoming(client: &mut Client) -> CallId {
    let call = wait_for(client, "an incoming call", |event| match event {
        Event::CallIncoming { call, .. } => Some(*call),
        _ => None,
    });
    client.request(&CallAnswer { call }).unwrap();
    answered(client, call);
    call
}

fn answered(client: &mut Client, wanted: CallId) {
    wait_for(client, "the answer", |event| match event {
        Event::CallState { call, state: CallState::Answered, .. } if *call == wanted => Some(()),
        _ => None,
    });
}

fn final_text(client: &mut Client) -> String {
    wait_for(client, "a final transcript", |event| match event {
        Event::TranscriptFinal { text, .. } if !text.is_empty() => Some(text.clone()),
        _ => None,
    })
}

fn summary(client: &mut Client) -> Call {
    wait_for(client, "the summary", |event| match event {
        Event::CallSummary(call) => Some((**call).clone()),
        _ => None,
    })
}

fn speak(client: &mut Client, call: CallId, speech: &Speech, text: &str) -> u64 {
    let start = ResponseStart { call, rate: speech.rate, encoding: Encoding::S16, text: Some(text.to_owned()) };
    let reply = client.request(&start).unwrap();
    let audio = speech.clone().then_silence(FAR_END_BUFFER_SECONDS).bytes();
    client.send_audio(reply.channel, Encoding::S16, reply.generation, 0, &audio).unwrap();
    client.request(&ResponseEnd { call, response: reply.response }).unwrap();
    reply.response
}

fn finished(client: &mut Client, wanted: u64) -> (u64, bool) {
    wait_for(client, "the end of the response", |event| match event {
        Event::ResponseFinished { response, played_ms, interrupted, .. } if *response == wanted => {
            Some((*played_ms, *interrupted))
        }
        _ => None,
    })
}

fn correlation_at(far_end: &mut FarEnd, speech: &Speech) -> f64 {
    far_end.stop();
    let recording = read_wav(&far_end.heard().expect("the far end recorded nothing")).unwrap();
    find(&speech.at_telephone_rate().unwrap(), &recording).map_or(0.0, |found| found.correlation)
}

fn digits_in_reply_out(jack: Option<Jack>) {
    let site = Site::new(jack, &[]);
    let mut client = site.client();
    let script = site.script(&[(1.5, "four two seven one")], 9.0);
    let mut caller = site.caller(&script);
    let call = incoming(&mut client);
    let text = final_text(&mut client);
    let reply_text = "thank you for calling, one moment please";
    let reply = site.say(reply_text);
    let response = speak(&mut client, call, &reply, reply_text);
    let (played_ms, interrupted) = finished(&mut client, response);
    client.request(&CallHangup::new(call)).unwrap();
    let summary = summary(&mut client);

    assert_eq!(word_errors("four two seven one", &text), 0, "understood: {text}");
    let length_ms = ((reply.seconds() + FAR_END_BUFFER_SECONDS) * 1000.0) as u64;
    assert!(played_ms.abs_diff(length_ms) <= 20 && !interrupted, "{played_ms} of {length_ms} ms");
    let heard = correlation_at(&mut caller, &reply);
    assert!(heard > 0.95, "the far end heard the reply with correlation {heard:.3}");
    let lines: Vec<_> =
        summary.transcript.unwrap().iter().map(|line| (line.who, line.text.clone().unwrap_or_default())).collect();
    assert_eq!(lines, [(Speaker::Caller, text), (Speaker::Agent, reply_text.to_owned())]);
    assert_eq!(summary.cause, Some(Cause::Hangup));
    assert_eq!(summary.jack, jack.is_some());
    assert!(summary.stats.unwrap().received > 300);
    let recording = summary.recording.expect("a recording");
    let reader = hound::WavReader::open(recording).unwrap();
    assert_eq!(reader.spec().channels, 2);
    assert!(reader.duration() > 8000 * 4, "the recording holds {} samples", reader.duration());
}

#[test]
fn spoken_digits_come_in_and_a_reply_goes_out_directly() {
    digits_in_reply_out(None);
}

#[test]
fn spoken_digits_come_in_and_a_reply_goes_out_through_jack_at_8000_hz() {
    digits_in_reply_out(Some(Jack { name: "mr_sip_test_8000", rate: 8000, period: 160 }));
}

#[test]
fn spoken_digits_come_in_and_a_reply_goes_out_through_jack_at_48000_hz() {
    digits_in_reply_out(Some(Jack { name: "mr_sip_test_48000", rate: 48000, period: 256 }));
}

#[test]
fn we_dial_and_are_heard_and_press_keys() {
    let site = Site::new(None, &[]);
    let mut client = site.client();
    let script = site.script(&[(1.0, "hello")], 12.0);
    let mut callee = FarEnd::start(&site.folder.path().join("callee"), &script, Role::Answers).unwrap();
    assert!(callee.wait_for_log(LIMIT, |log| log.contains("baresip is ready")));
    let call = client.request(&CallDial { to: callee.uri(), ..CallDial::default() }).unwrap().call;
    answered(&mut client, call);
    let text = final_text(&mut client);
    assert_eq!(word_errors("hello", &text), 0, "understood: {text}");
    client.request(&CallDtmf::new(call, "42#")).unwrap();
    assert!(
        callee.wait_for_log(LIMIT, |log| ["4", "2", "#"]
            .iter()
            .all(|key| log.contains(&format!("received event: '{key}'")) || log.contains(&format!("'{key}'")))),
        "the far end did not report the keys"
    );
    let reply = site.say("goodbye and thank you");
    let response = speak(&mut client, call, &reply, "goodbye and thank you");
    finished(&mut client, response);
    client.request(&CallHangup::new(call)).unwrap();
    assert_eq!(summary(&mut client).cause, Some(Cause::Hangup));
    let heard = correlation_at(&mut callee, &reply);
    assert!(heard > 0.95, "the far end heard the reply with correlation {heard:.3}");
}

#[test]
fn a_call_survives_the_violent_death_of_jackd() {
    let site = Site::new(Some(Jack { name: "mr_sip_test_kill", rate: 48000, period: 256 }), &[]);
    let mut client = site.client();
    let script = site.script(&[(3.0, "my account number is four two seven one")], 14.0);
    let mut caller = site.caller(&script);
    let call = incoming(&mut client);
    // the ports of a call come a moment after its media
    let deadline = Instant::now() + LIMIT;
    while !client.request(&CallGet { call }).unwrap().jack {
        assert!(Instant::now() < deadline, "the call never got its JACK ports");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = site.jackd.as_ref().unwrap().pid();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    wait_for(&mut client, "the loss of JACK", |event| {
        matches!(event, Event::JackState { state: JackState::Lost }).then_some(())
    });
    let text = final_text(&mut client);
    assert!(text.contains("four two seven one"), "understood without JACK: {text}");
    let reply = site.say("thank you for calling, one moment please");
    let response = speak(&mut client, call, &reply, "thank you");
    finished(&mut client, response);
    client.request(&CallHangup::new(call)).unwrap();
    summary(&mut client);
    let heard = correlation_at(&mut caller, &reply);
    assert!(heard > 0.95, "the far end heard the reply with correlation {heard:.3}");
}

#[test]
fn a_client_that_vanishes_leaves_its_call_for_the_grace_time_and_no_longer() {
    let site = Site::new(None, &[]);
    let mut owner = site.client();
    let mut watcher = site.daemon.connect("watcher", EventFilter::All).unwrap();
    let script = site.script(&[(1.0, "hello")], 30.0);
    let _caller = site.caller(&script);
    incoming(&mut owner);
    let gone = Instant::now();
    drop(owner);
    let call = summary(&mut watcher);
    assert_eq!(call.cause, Some(Cause::ClientGone));
    assert!(gone.elapsed() >= Duration::from_secs(4), "the call ended after {:?}", gone.elapsed());
}

#[test]
fn a_panic_in_a_whisper_worker_costs_neither_the_call_nor_the_words() {
    let site = Site::new(None, &[("MR_SIP_TEST_WHISPER_PANIC", "1")]);
    let mut client = site.client();
    let script = site.script(&[(1.0, "hello"), (3.0, "four two seven one")], 6.0);
    let _caller = site.caller(&script);
    let call = incoming(&mut client);
    wait_for(&mut client, "the warning", |event| match event {
        Event::DaemonWarning { text } if text.contains("recogniser") => Some(()),
        _ => None,
    });
    let text = wait_for(&mut client, "the digits", |event| match event {
        Event::TranscriptFinal { text, .. } if text.contains("four") => Some(text.clone()),
        _ => None,
    });
    assert_eq!(word_errors("four two seven one", &text), 0, "understood: {text}");
    client.request(&CallHangup::new(call)).unwrap();
    assert_eq!(summary(&mut client).cause, Some(Cause::Hangup));
}

#[test]
fn a_client_recognises_a_call_in_the_daemons_place_and_sets_whose_turn_it_is() {
    let site = Site::new(None, &[]);
    let mut client = site.client();
    let script = site.script(&[(2.0, "four two seven one")], 8.0);
    let _caller = site.caller(&script);
    let call = incoming(&mut client);
    let push = TranscriptPush { call, text: "I hear it thus".into(), settled: true, end_of_turn: false };
    let Err(ControlError::Api(error)) = client.request(&push) else { panic!("not its recogniser yet") };
    assert_eq!(error.code(), Some(ErrorCode::WrongState), "{error:?}");
    let wrong = TurnPolicy { language: Some("klingon".into()), ..TurnPolicy::new(call) };
    let Err(ControlError::Api(error)) = client.request(&wrong) else { panic!("no such language") };
    assert!(error.message.contains("klingon"), "{error:?}");
    let policy = TurnPolicy {
        style: Some(TurnStyle::Quick),
        recognizer: Some(RecognizedBy::Client),
        barge_in_words: Some(2),
        ..TurnPolicy::new(call)
    };
    let reply = client.request(&policy).unwrap();
    assert_eq!((reply.end_of_turn_ms, reply.barge_in_words, reply.recognizer), (400, 2, RecognizedBy::Client));
    assert_eq!(client.request(&TurnPolicy::new(call)).unwrap(), reply, "and so it stays");
    wait_for(&mut client, "the end of the caller's words", |event| {
        matches!(event, Event::SpeechStop { .. }).then_some(())
    });
    client.request(&push).unwrap();
    assert_eq!(final_text(&mut client), "I hear it thus");
    client.request(&CallHangup::new(call)).unwrap();
    let lines = summary(&mut client).transcript.unwrap();
    assert_eq!(lines[0].text.as_deref(), Some("I hear it thus"));
}

#[test]
fn a_sign_of_listening_does_not_stop_the_agent_where_words_are_asked_for_and_a_word_does() {
    let site = Site::new(None, &[]);
    let mut client = site.client();
    let script = site.script(&[(3.0, "okay"), (3.0, "stop please")], 8.0);
    let _caller = site.caller(&script);
    let call = incoming(&mut client);
    client.request(&TurnPolicy { barge_in_words: Some(1), ..TurnPolicy::new(call) }).unwrap();
    let long = site.say(
        "this is a very long answer, which goes on and on, and nobody wants to hear all of it, because it never comes to \
         its point, and it still does not, although it has been speaking for so long already, and there is more of it",
    );
    let response = speak(&mut client, call, &long, "a long answer");
    let (text, backchannel) = wait_for(&mut client, "the first word", |event| match event {
        Event::TurnBargeIn { .. } => panic!("a sign of listening stopped the agent"),
        Event::TranscriptFinal { text, backchannel, .. } if !text.is_empty() => Some((text.clone(), *backchannel)),
        _ => None,
    });
    assert!(text == "okay" && backchannel, "{text}");
    wait_for(&mut client, "the barge-in", |event| matches!(event, Event::TurnBargeIn { .. }).then_some(()));
    let (played_ms, interrupted) = finished(&mut client, response);
    assert!(interrupted && played_ms > 3_000, "{played_ms} ms were played");
}

#[test]
fn the_agents_voice_stops_when_the_caller_speaks_and_the_position_is_what_was_heard() {
    let site = Site::new(None, &[]);
    let mut client = site.client();
    let script = site.script(&[(3.0, "stop please")], 8.0);
    let mut caller = site.caller(&script);
    let call = incoming(&mut client);
    let long = site.say(
        "this is a very long answer, which goes on and on, and nobody wants to hear all of it, because it never comes to \
         its point, and it still does not, although it has been speaking for so long already",
    );
    let response = speak(&mut client, call, &long, "a long answer");
    let (played_ms, interrupted) = finished(&mut client, response);
    assert!(interrupted, "the answer was not interrupted");
    let position = client.request(&AudioPosition { call }).unwrap();
    assert_eq!(position.turn_ms, played_ms, "{position:?}");
    // so long the far end's recording goes on
    final_text(&mut client);
    client.request(&CallHangup::new(call)).unwrap();
    summary(&mut client);
    // what was played is in the caller's ear, and what was not is not
    let samples = (played_ms as usize - 40) * 8;
    let reference = long.at_telephone_rate().unwrap();
    caller.stop();
    let recording = read_wav(&caller.heard().unwrap()).unwrap();
    let heard = find(&reference[..samples], &recording).unwrap();
    assert!(heard.correlation > 0.95, "{heard:?}");
    let after = heard.offset + samples + 40 * 8;
    let energy = |part: &[f32]| part.iter().map(|s| s * s).sum::<f32>() / part.len() as f32;
    let rest = &recording[after..after + 4000];
    assert!(energy(rest) < energy(&reference) / 100.0, "the voice went on after it was stopped");
}

/// Case 2: random and truncated datagrams on the SIP port while a call is up.
#[test]
fn garbage_on_the_sip_port_leaves_a_call_alone() {
    let site = Site::new(None, &[]);
    let mut client = site.client();
    let script = site.script(&[(2.5, "four two seven one")], 6.0);
    let _caller = site.caller(&script);
    let call = incoming(&mut client);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut datagram = Vec::new();
    for seed in 0..20_000_u32 {
        datagram.clear();
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let length = state % 600;
        if seed % 3 == 0 {
            datagram
                .write_all(b"INVITE sip:agent@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK")
                .unwrap();
        }
        for _ in 0..length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            datagram.push((state >> 24) as u8);
        }
        let _ = socket.send_to(&datagram, site.daemon.sip_address());
    }
    let text = final_text(&mut client);
    assert_eq!(word_errors("four two seven one", &text), 0, "understood: {text}");
    let status = client.request(&DaemonStatus {}).unwrap();
    assert_eq!(status.engine["allocation_violations"], 0);
    let threads = &status.media_threads;
    assert_eq!(threads.iter().map(|thread| thread.calls).sum::<u64>(), 1);
    assert!(threads.iter().all(|thread| thread.ticks > 0 && (0.0..1.0).contains(&thread.busy)), "{threads:?}");
    client.request(&CallHangup::new(call)).unwrap();
    assert_eq!(summary(&mut client).cause, Some(Cause::Hangup));
}

#[test]
fn a_second_daemon_on_the_same_socket_says_who_is_there() {
    let site = Site::new(None, &[]);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mr-sip"))
        .args(["serve", "--config"])
        .arg(site.folder.path().join("mr-sip.toml"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains(&format!("another mr-sip is running (pid {})", site.daemon.pid())), "{text}");
}

#[test]
fn sigterm_ends_calls_politely_and_removes_the_socket() {
    let site = Site::new(None, &[]);
    let mut client = site.client();
    let script = site.script(&[(1.0, "hello")], 30.0);
    let caller = site.caller(&script);
    incoming(&mut client);
    kill(Pid::from_raw(site.daemon.pid() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(summary(&mut client).cause, Some(Cause::Hangup));
    assert!(caller.wait_for_log(LIMIT, |log| log.contains("terminated") || log.contains("session closed")));
    let deadline = Instant::now() + LIMIT;
    loop {
        match client.next_message(deadline) {
            Ok(Some(_)) => {}
            Err(ControlError::Closed | ControlError::Io(_)) => break,
            other => panic!("the daemon did not close the connection: {other:?}"),
        }
    }
    assert!(!site.daemon.socket().exists());
}
