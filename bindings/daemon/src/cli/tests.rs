//! The command line against a daemon that plays a part: what is written where, and the exit codes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Parser;
use control::types::*;
use control::{Input, Server, ServerConfig};
use serde_json::{Value, json};

use super::{Command, Console, Interrupts, Look, run_on};
use crate::exit::Exit;

mod watch;

const C7: CallId = CallId(7);

#[derive(Parser)]
struct Arguments {
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// A daemon in a thread, until it is dropped.
struct Daemon {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start(mut play: impl FnMut(&mut Server, Input) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let mut poll = mio::Poll::new().unwrap();
        let mut server = Server::bind(&socket, poll.registry(), mio::Token(0), ServerConfig::default()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut events = mio::Events::with_capacity(64);
            while !stopped.load(Ordering::Relaxed) {
                poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
                for event in &events {
                    server.handle(event);
                }
                while let Some(input) = server.next_input(Instant::now()) {
                    play(&mut server, input);
                }
            }
        });
        Self { socket, stop, thread: Some(thread), _folder: folder }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

#[derive(Debug)]
struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

fn run_with(socket: &Path, look: Look, interrupts: &Interrupts, line: &str) -> Ran {
    let arguments = Arguments::try_parse_from(["mr-sip"].into_iter().chain(line.split_whitespace())).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console::new(&mut out, &mut err, look, arguments.json);
    let exit = run_on(&arguments.command, socket, &mut console, interrupts);
    drop(console);
    Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

fn run(socket: &Path, line: &str) -> Ran {
    run_with(socket, Look::default(), &Interrupts::none(), line)
}

fn call(state: CallState) -> Call {
    Call {
        call: C7,
        direction: Direction::Out,
        state,
        from: "sip:agent@example.org".into(),
        to: "sip:100@example.org".into(),
        account: None,
        started_unix_ms: 1_767_225_600_000,
        answered_unix_ms: None,
        ended_unix_ms: None,
        duration_ms: 61_000,
        cause: None,
        status: None,
        reason: None,
        owner: Some("mr-sip".into()),
        codec: Some("PCMU".into()),
        srtp: None,
        hold: None,
        jack: false,
        recording: None,
        recordings: Vec::new(),
        metadata: serde_json::Map::new(),
        stats: None,
        transcript: None,
    }
}

fn state(state: CallState, cause: Option<Cause>) -> Event {
    Event::CallState {
        call: C7,
        state,
        direction: Direction::Out,
        from: "sip:agent@example.org".into(),
        to: "sip:100@example.org".into(),
        status: None,
        cause,
        reason: None,
    }
}

/// Tells the end of the call as a daemon does.
fn end(server: &mut Server, cause: Cause) {
    server.notify(&state(CallState::Ended, Some(cause)), None);
    let line =
        Line { who: Speaker::Caller, text: Some("one two".into()), start_ms: 1500, end_ms: 2500, utterance: Some(1) };
    let stats = MediaStats { received: 50, jitter_ms: 1.5, ..MediaStats::default() };
    let over = Call {
        cause: Some(cause),
        transcript: Some(vec![line]),
        stats: Some(stats),
        recording: Some("/calls/c7.wav".into()),
        ..call(CallState::Ended)
    };
    server.notify(&Event::CallSummary(Box::new(over)), None);
    server.set_owner(C7, None);
}

/// Lets a call be dialled; gives who dialled and what, for what comes then.
fn dialled(server: &mut Server, input: &Input) -> Option<CallDial> {
    if let Input::Request { client, id, method: Method::CallDial(dial) } = input {
        server.set_owner(C7, Some(*client));
        server.respond(id, Ok(DialReply { call: C7 }));
        server.notify(&state(CallState::Dialing, None), None);
        return Some(dial.clone());
    }
    None
}

#[test]
fn without_a_daemon_every_command_says_how_to_start_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    let text = format!("the daemon is not running on {}; start it with: mr-sip serve", socket.display());
    for line in ["call 100", "answer", "answer c1", "ps", "watch", "hangup c1", "dtmf c1 5"] {
        let ran = run(&socket, line);
        assert_eq!((ran.exit, ran.err), (Exit::NoDaemon, format!("mr-sip: {text}\n")), "{line}");
        assert_eq!(ran.out, "");
        let ran = run(&socket, &format!("--json {line}"));
        let result: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(result, json!({"error": {"code": null, "message": text}}));
    }
}

#[test]
fn a_call_is_shown_as_it_goes_and_told_of_at_its_end() {
    let daemon = Daemon::start(|server, input| {
        if let Some(dial) = dialled(server, &input) {
            assert_eq!((dial.timeout_ms, dial.record), (Some(20_000), Some(true)));
            server.notify(&state(CallState::Ringing, None), None);
            server.notify(&state(CallState::Answered, None), None);
            let (call, utterance) = (C7, 1);
            let text = || "one two".to_owned();
            server.notify(
                &Event::TranscriptPartial {
                    call,
                    utterance,
                    text: text(),
                    confirmed: 0,
                    start_ms: 1500,
                    end_ms: 2000,
                    latency_ms: 90,
                },
                Some(2100),
            );
            server.notify(
                &Event::TranscriptFinal {
                    call,
                    utterance,
                    text: text(),
                    as_eager: false,
                    backchannel: false,
                    start_ms: 1500,
                    end_ms: 2500,
                    latency_ms: 400,
                    words: Vec::new(),
                },
                Some(2900),
            );
            end(server, Cause::RemoteHangup);
        }
    });
    let ran = run(&daemon.socket, "call sip:100@example.org --ring 20 --record");
    assert_eq!(ran.exit, Exit::Ok);
    let expected = "c7 with sip:100@example.org: remote hangup, 61.0 s\n    \
                    1.50  caller  one two\n\
                    PCMU: 50 packets, 0 lost, 0 late, 0 concealed, jitter 1.5 ms\n\
                    recording: /calls/c7.wav\n";
    assert_eq!(ran.out, expected);
    for text in ["calling sip:100@example.org", "it rings", "answered", "\"one two\"  (400 ms)", "remote hangup"] {
        assert!(ran.err.contains(text), "{text} is missing in {}", ran.err);
    }
    assert!(!ran.err.contains(['\x1b', '\r']), "no escapes without a terminal");

    let look = Look { terminal: Some((80, 24)), colours: true };
    let ran = run_with(&daemon.socket, look, &Interrupts::none(), "call 100 --ring 20 --record --json");
    assert!(
        ran.err.contains("\x1b[2m") && ran.err.contains("\r\x1b[K"),
        "captions pass by on a terminal: {:?}",
        ran.err
    );
    let result: Call = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((result.call, result.cause), (C7, Some(Cause::RemoteHangup)));
    assert_eq!(ran.out.lines().count(), 1);
}

#[test]
fn the_exit_code_tells_why_a_call_failed() {
    for (cause, exit) in [
        (Cause::Busy, 10),
        (Cause::NoAnswer, 11),
        (Cause::Auth, 12),
        (Cause::Media, 13),
        (Cause::Network, 14),
        (Cause::Timeout, 14),
        (Cause::Declined, 15),
        (Cause::NotFound, 15),
        (Cause::Error, 1),
    ] {
        let daemon = Daemon::start(move |server, input| {
            if dialled(server, &input).is_some() {
                end(server, cause);
            }
        });
        assert_eq!(run(&daemon.socket, "call 100").exit as u8, exit, "{cause}");
    }
}

#[test]
fn a_refused_destination_is_the_daemons_sentence() {
    let daemon = Daemon::start(|server, input| {
        if let Input::Request { id, .. } = input {
            server.respond::<Done>(&id, Err(ApiError::new(ErrorCode::DestinationRefused, "911 may not be called")));
        }
    });
    let ran = run(&daemon.socket, "call 911 --json");
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Declined, "mr-sip: 911 may not be called\n"));
    assert_eq!(ran.out, "{\"error\":{\"code\":1004,\"message\":\"911 may not be called\"}}\n");
}

#[test]
fn a_daemon_that_dies_ends_the_command() {
    let gone = Arc::new(AtomicBool::new(false));
    let dialled_now = gone.clone();
    let daemon = Daemon::start(move |server, input| {
        if dialled(server, &input).is_some() {
            dialled_now.store(true, Ordering::Relaxed);
        }
    });
    let socket = daemon.socket.clone();
    thread::scope(|scope| {
        let command = scope.spawn(|| run(&socket, "call 100"));
        while !gone.load(Ordering::Relaxed) && !command.is_finished() {
            thread::yield_now();
        }
        drop(daemon);
        let ran = command.join().unwrap();
        assert_eq!(ran.exit, Exit::NoDaemon);
        assert!(ran.err.ends_with("mr-sip: the daemon closed the connection\n"), "{}", ran.err);
    });
}

/// Ten seconds of silence through a window of two: never more is under way than the window.
#[test]
fn a_wav_file_is_spoken_within_the_window_and_the_call_hung_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hello.wav");
    let spec =
        hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    (0..80_000).for_each(|n| writer.write_sample((n % 1000) as i16).unwrap());
    writer.finalize().unwrap();

    let mut heard: Vec<u8> = Vec::new();
    let mut played_ms = 0;
    let daemon = Daemon::start(move |server, input| {
        let heard_ms = |heard: &Vec<u8>| heard.len() as u64 / 16;
        let (response, generation) = (3, 9);
        if dialled(server, &input).is_some() {
            server.notify(&state(CallState::Answered, None), None);
            return;
        }
        match input {
            Input::Request { id, method: Method::ResponseStart(start), .. } => {
                assert_eq!((start.rate, start.encoding), (8000, Encoding::S16));
                server.respond(&id, Ok(ResponseStartReply { response, generation, channel: 5, window_ms: 2000 }));
            }
            Input::Audio { channel, generation: of, samples, .. } => {
                assert_eq!((channel, of), (5, generation));
                heard.extend(samples);
                assert!(heard_ms(&heard) - played_ms <= 2000, "the window is kept");
                // plays all at once when the client has nothing more to send
                if heard_ms(&heard) - played_ms >= 1000 {
                    played_ms = heard_ms(&heard);
                    let event = Event::ResponseProgress { call: C7, response, generation, played_ms, queued_ms: 0 };
                    server.notify(&event, None);
                }
            }
            Input::Request { id, method: Method::ResponseEnd(_), .. } => {
                let expected: Vec<u8> = (0..80_000).flat_map(|n| ((n % 1000) as i16).to_le_bytes()).collect();
                assert!(heard == expected, "all samples in order: {} bytes", heard.len());
                server.respond(&id, Ok(ResponseEndReply { queued_ms: 0 }));
                let event =
                    Event::ResponseFinished { call: C7, response, generation, played_ms: 10_000, interrupted: false };
                server.notify(&event, None);
            }
            Input::Request { id, method: Method::CallHangup(hangup), .. } => {
                assert_eq!(hangup, CallHangup::new(C7));
                server.respond(&id, Ok(Done {}));
                end(server, Cause::Hangup);
            }
            _ => {}
        }
    });
    let ran = run(&daemon.socket, &format!("call 100 --then-hangup --wav {}", path.display()));
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    assert!(ran.err.contains("speaking for 10.0 s") && ran.err.contains("all is said, hanging up"), "{}", ran.err);
}

#[test]
fn a_wav_file_that_cannot_be_read_calls_nobody() {
    let ran = run(Path::new("/nonexistent/control.sock"), "call 100 --wav /nonexistent/hello.wav");
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.starts_with("mr-sip: /nonexistent/hello.wav: "), "{}", ran.err);
}

#[test]
fn an_interrupt_hangs_up_and_waits_for_the_end() {
    let interrupts = Arc::new(Interrupts::none());
    let user = interrupts.clone();
    let daemon = Daemon::start(move |server, input| {
        if dialled(server, &input).is_some() {
            user.raise();
        } else if let Input::Request { id, method: Method::CallHangup(_), .. } = input {
            server.respond(&id, Ok(Done {}));
            end(server, Cause::Hangup);
        }
    });
    let ran = run_with(&daemon.socket, Look::default(), &interrupts, "call 100");
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.err.contains("hanging up; Ctrl-C once more"), "{}", ran.err);
}

#[test]
fn answer_waits_for_the_next_call() {
    let daemon = Daemon::start(|server, input| match input {
        Input::Request { id, method: Method::CallList(_), .. } => {
            server.respond(&id, Ok(CallListReply::default()));
            let (from, to) = ("sip:bob@example.net".into(), "sip:agent@example.org".into());
            server.notify(&Event::CallIncoming { call: C7, from, to, display_name: None, replaces: None }, None);
        }
        Input::Request { client, id, method: Method::CallAnswer(answer) } => {
            assert_eq!(answer.call, C7);
            server.set_owner(C7, Some(client));
            server.respond(&id, Ok(Done {}));
            server.notify(&state(CallState::Answered, None), None);
            end(server, Cause::RemoteHangup);
        }
        _ => {}
    });
    let ran = run(&daemon.socket, "answer");
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    assert!(ran.err.starts_with("nobody calls yet; waiting\n"), "{}", ran.err);
    assert!(ran.out.contains("remote hangup"));
}

#[test]
fn ps_is_a_table_or_the_protocols_own_object() {
    let daemon = Daemon::start(|server, input| {
        if let Input::Request { id, .. } = input {
            let evil =
                Call { direction: Direction::In, from: "Bob\x1b[2J".into(), owner: None, ..call(CallState::Incoming) };
            server.respond(&id, Ok(CallListReply { calls: vec![call(CallState::Answered), evil], more: false }));
        }
    });
    let ran = run(&daemon.socket, "ps");
    let expected = "CALL  STATE     WAY  WITH                 TIME  CODEC  OWNER\n\
                    c7    answered  out  sip:100@example.org  1:01  PCMU   mr-sip\n\
                    c7    incoming  in   Bob\u{fffd}[2J              1:01  PCMU   -\n";
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, expected));
    let ran = run(&daemon.socket, "ps --json");
    assert_eq!(serde_json::from_str::<CallListReply>(&ran.out).unwrap().calls.len(), 2);
}

#[test]
fn ps_shows_who_holds_a_call_and_that_it_is_encrypted() {
    let daemon = Daemon::start(|server, input| {
        if let Input::Request { id, .. } = input {
            let srtp = Some("AES_CM_128_HMAC_SHA1_80".into());
            let held = Call { hold: Some(Hold::FarEnd), srtp, ..call(CallState::Answered) };
            server.respond(&id, Ok(CallListReply { calls: vec![held], more: false }));
        }
    });
    let ran = run(&daemon.socket, "ps");
    assert!(ran.out.contains("held:far_end") && ran.out.contains("PCMU+srtp"), "{}", ran.out);
}

#[test]
fn hold_waits_until_it_is_so_and_tells_a_refusal() {
    for refused in [false, true] {
        let daemon = Daemon::start(move |server, input| match input {
            Input::Request { id, method: Method::CallHold(hold), .. } => {
                assert!(hold.force);
                server.respond(&id, Ok(Done {}));
                let event = if refused {
                    let (status, reason) = (Some(488), Some("Not Acceptable Here".into()));
                    Event::CallReoffer { call: C7, ours: true, accepted: false, codec: None, status, reason }
                } else {
                    Event::CallHeld { call: C7, hold: Some(Hold::Us) }
                };
                server.notify(&event, None);
            }
            Input::Request { id, .. } => server.respond(&id, Ok(call(CallState::Answered))),
            _ => {}
        });
        let ran = run(&daemon.socket, "hold c7 --json");
        if refused {
            assert_eq!(ran.exit, Exit::Declined);
            assert!(ran.err.contains("Not Acceptable Here"), "{}", ran.err);
        } else {
            assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "{\"call\":\"c7\",\"hold\":\"us\"}\n"));
        }
    }
}

#[test]
fn a_transfer_to_a_call_is_attended_and_to_anything_else_blind() {
    for (to, attended) in [("c8", true), ("+4930123456", false), ("carol", false)] {
        let daemon = Daemon::start(move |server, input| {
            if let Input::Request { id, method: Method::CallTransfer(transfer), .. } = input {
                assert_eq!((transfer.other_call.is_some(), transfer.to.is_some()), (attended, !attended));
                server.respond(&id, Ok(Done {}));
                server.notify(&state(CallState::Ended, Some(Cause::Transferred)), None);
            }
        });
        let ran = run(&daemon.socket, &format!("transfer c7 {to}"));
        assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
        assert!(ran.err.contains("c7 is transferred"), "{}", ran.err);
    }
}

/// Case 45: a trace shows what the network said, and steers no terminal.
#[test]
fn case_45_a_trace_is_cleaned_line_by_line_and_saved_as_it_is() {
    let daemon = Daemon::start(|server, input| {
        if let Input::Request { id, method: Method::CallTrace(trace), .. } = input {
            let reply = TraceReply {
                call: C7,
                call_id: "x".into(),
                dropped: 0,
                ladder: (trace.format == TraceFormat::Ladder).then(|| "INVITE\x1b[2J\nACK\n".into()),
                pcap: (trace.format == TraceFormat::Pcap).then(|| "AAEC".into()),
                messages: None,
            };
            server.respond(&id, Ok(reply));
        }
    });
    assert_eq!(run(&daemon.socket, "trace c7").out, "INVITE\u{fffd}[2J\nACK\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c7.pcap");
    assert_eq!(run(&daemon.socket, &format!("trace c7 --pcap {}", path.display())).exit, Exit::Ok);
    assert_eq!(std::fs::read(path).unwrap(), [0, 1, 2]);
}

#[test]
fn bans_are_a_table_and_are_ended_by_address() {
    let daemon = Daemon::start(|server, input| match input {
        Input::Request { id, method: Method::SipBans(_), .. } => {
            let address = "198.51.100.7".parse().unwrap();
            let ban = SipBan { address, left_s: 540, count: 2, reason: "a scanner's name".into() };
            server.respond(&id, Ok(SipBansReply { bans: vec![ban] }));
        }
        Input::Request { id, method: Method::SipUnban(unban), .. } => {
            assert_eq!(unban.address.to_string(), "198.51.100.7");
            server.respond(&id, Ok(Done {}));
        }
        _ => {}
    });
    let ran = run(&daemon.socket, "bans");
    assert!(ran.out.contains("198.51.100.7") && ran.out.contains("9:00") && ran.out.contains("a scanner's name"));
    assert_eq!(run(&daemon.socket, "unban 198.51.100.7").exit, Exit::Ok);
}

#[test]
fn ps_without_calls_writes_no_result() {
    let daemon = Daemon::start(|server, input| {
        if let Input::Request { id, .. } = input {
            server.respond(&id, Ok(CallListReply::default()));
        }
    });
    let ran = run(&daemon.socket, "ps");
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (Exit::Ok, "", "no calls\n"));
    assert_eq!(run(&daemon.socket, "ps --json").out, "{\"calls\":[]}\n");
}

#[test]
fn hangup_and_dtmf_work_on_calls_of_others() {
    let daemon = Daemon::start(|server, input| {
        if let Input::Request { id, method, .. } = input {
            let known = match method {
                Method::CallHangup(request) => request.force && request.call == C7,
                Method::CallDtmf(request) => request.force && request.call == C7 && request.digits == "12#",
                _ => false,
            };
            server.respond(&id, if known { Ok(Done {}) } else { Err(ApiError::no_such_call("c9")) });
        }
    });
    assert_eq!(run(&daemon.socket, "hangup c7 --json").out, "{\"call\":\"c7\"}\n");
    assert_eq!(run(&daemon.socket, "hangup 7").err, "c7 is being hung up\n");
    assert_eq!(run(&daemon.socket, "dtmf c7 12#").exit, Exit::Ok);
    let ran = run(&daemon.socket, "hangup c9");
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Error, "mr-sip: there is no call c9\n"));
    let ran = run(&daemon.socket, "dtmf c7 12x");
    assert_eq!(ran.exit, Exit::Usage);
    assert_eq!(ran.err, "mr-sip: call.dtmf: `digits`: 'x': allowed are 0-9 * # A-D\n");
}

#[test]
fn calls_are_checked_where_they_are_typed() {
    for line in ["hangup", "hangup seventeen", "dtmf c1", "call", "call 1 --then-hangup", "call 1 --ring 0"] {
        let arguments = Arguments::try_parse_from(["mr-sip"].into_iter().chain(line.split_whitespace()));
        assert_eq!(arguments.err().map(|error| error.exit_code()), Some(2), "{line}");
    }
}
