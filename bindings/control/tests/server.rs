//! The server with real sockets and the test's own time: who gets what, who owns what, and what a bad client can't do.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::{Daemon, Frames, Owned};
use mr_sip_control::frame::{MAX_PAYLOAD, write_audio, write_json};
use mr_sip_control::server::{GRACE, MAX_CONNECTIONS};
use mr_sip_control::types::*;
use mr_sip_control::{ApiError, ClientId, ControlError, Encoding, Input, RequestId, Server, ServerConfig};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const C1: CallId = CallId(1);
const C2: CallId = CallId(2);

fn frame(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_json(&mut out, value.to_string().as_bytes()).unwrap();
    out
}

fn hello(params: Value) -> Value {
    let mut all = json!({"client": "test", "protocol": 1});
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    json!({"jsonrpc": "2.0", "id": "hello", "method": "hello", "params": all})
}

/// Connects and says hello; gives the client's end, who it is to the server, and its token.
fn join(daemon: &mut Daemon, params: Value) -> (Frames, ClientId, String) {
    let mut frames = Frames::new(daemon.connect_raw());
    frames.stream.write_all(&frame(&hello(params))).unwrap();
    let Input::Connected { client, .. } = daemon.input(Instant::now()) else { panic!("no hello") };
    let answer = frames.json();
    (frames, client, answer["result"]["token"].as_str().unwrap().to_owned())
}

fn digit(call: CallId) -> Event {
    Event::CallDtmf { call, digit: '5', duration_ms: 100, via: DigitsVia::Rfc4733 }
}

fn warning() -> Event {
    Event::DaemonWarning { text: "look out".into() }
}

#[test]
fn a_request_is_handed_out_and_its_answer_comes_back() {
    let mut daemon = Daemon::start();
    let (mut frames, client, _) = join(&mut daemon, json!({}));
    for id in [json!(5), json!("five")] {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "call.dial", "params": {"to": "sip:a@b"}});
        frames.stream.write_all(&frame(&request)).unwrap();
        let Input::Request { client: asking, id: request, method } = daemon.input(Instant::now()) else { panic!() };
        assert_eq!(asking, client);
        assert_eq!(method, CallDial { to: "sip:a@b".into(), ..CallDial::default() }.into());
        daemon.server.respond(&request, Ok(DialReply { call: C1 }));
        assert_eq!(frames.json(), json!({"jsonrpc": "2.0", "id": id, "result": {"call": "c1"}}));
    }
}

#[test]
fn answers_may_come_in_another_order() {
    let mut daemon = Daemon::start();
    let (mut frames, _, _) = join(&mut daemon, json!({}));
    let mut ids: Vec<RequestId> = Vec::new();
    for id in 1..=2 {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "daemon.shutdown"});
        frames.stream.write_all(&frame(&request)).unwrap();
        let Input::Request { id, .. } = daemon.input(Instant::now()) else { panic!() };
        ids.push(id);
    }
    daemon.server.respond(&ids[1], Ok(Done {}));
    daemon.server.respond::<Done>(&ids[0], Err(ApiError::no_such_call(C1)));
    assert_eq!(frames.json()["id"], 2);
    let refused = frames.json();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(1), &json!(1001)));
    assert_eq!(refused["error"]["message"], "there is no call c1");
}

#[test]
fn hello_comes_first_and_once_and_in_version_1() {
    let mut daemon = Daemon::start();
    let mut frames = Frames::new(daemon.connect_raw());
    let mut ask = |daemon: &mut Daemon, request: Value| {
        frames.stream.write_all(&frame(&request)).unwrap();
        while let Some(input) = daemon.step(Instant::now(), Duration::from_millis(1)) {
            assert!(matches!(input, Input::Connected { .. }));
        }
        // the bytes were in the socket before the poll
        frames.json()
    };
    let status = json!({"jsonrpc": "2.0", "id": 1, "method": "daemon.status"});
    assert_eq!(ask(&mut daemon, status)["error"]["code"], 1008);
    let unknown = json!({"jsonrpc": "2.0", "id": 1, "method": "x"});
    assert_eq!(ask(&mut daemon, unknown)["error"]["code"], 1008);
    let newer = ask(&mut daemon, hello(json!({"protocol": 2})));
    assert_eq!(newer["error"]["message"], "protocol 2 is not spoken here: only 1");
    assert_eq!(ask(&mut daemon, hello(json!({"events": 7})))["error"]["code"], -32602);
    let welcome = ask(&mut daemon, hello(json!({})));
    assert_eq!(welcome["result"]["server"], "mr-sip");
    assert_eq!(welcome["result"]["protocol"], 1);
    assert_eq!(ask(&mut daemon, hello(json!({})))["error"]["code"], 1008);
    let unknown = ask(&mut daemon, json!({"jsonrpc": "2.0", "id": 9, "method": "call.fly"}));
    assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!(9), &json!(-32601)));
}

#[test]
fn what_is_not_a_request_gets_its_error_and_the_connection_stays() {
    let mut daemon = Daemon::start();
    let (mut frames, _, _) = join(&mut daemon, json!({}));
    for (text, code, id) in [
        ("{", -32700, Value::Null),
        ("\u{1}", -32700, Value::Null),
        ("[]", -32600, Value::Null),
        ("7", -32600, Value::Null),
        (r#"{"jsonrpc":"1.0","id":4,"method":"call.list"}"#, -32600, json!(4)),
        (r#"{"jsonrpc":"2.0","id":4,"method":5}"#, -32600, json!(4)),
        (r#"{"jsonrpc":"2.0","id":4.5,"method":"call.list"}"#, -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":4}"#, -32600, json!(4)),
        (r#"{"jsonrpc":"2.0","id":4,"method":"call.get","params":[1]}"#, -32602, json!(4)),
    ] {
        let mut bytes = Vec::new();
        write_json(&mut bytes, text.as_bytes()).unwrap();
        frames.stream.write_all(&bytes).unwrap();
        daemon.settle(Instant::now());
        let answer = frames.json();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{text}");
    }
    // nesting that would overflow the stack of a careless reader
    let mut bytes = Vec::new();
    write_json(&mut bytes, "[".repeat(100_000).as_bytes()).unwrap();
    frames.stream.write_all(&bytes).unwrap();
    daemon.settle(Instant::now());
    assert_eq!(frames.json()["error"]["code"], -32700);
}

#[test]
fn a_request_without_id_is_carried_out_and_not_answered() {
    let mut daemon = Daemon::start();
    let (mut frames, _, _) = join(&mut daemon, json!({}));
    frames.stream.write_all(&frame(&json!({"jsonrpc": "2.0", "method": "daemon.status"}))).unwrap();
    let Input::Request { id, .. } = daemon.input(Instant::now()) else { panic!() };
    daemon.server.respond(&id, Ok(Done {}));
    daemon.server.notify(&warning(), None);
    assert_eq!(frames.json()["method"], "daemon.warning");
}

#[test]
fn a_broken_frame_is_told_of_and_ends_the_connection() {
    let mut daemon = Daemon::start();
    let (mut frames, client, _) = join(&mut daemon, json!({}));
    frames.stream.write_all(&[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]).unwrap();
    assert_eq!(daemon.input(Instant::now()), Input::Gone { client });
    assert_eq!(frames.json()["error"]["message"], "frame of 4294967295 bytes: at most 1048576 are allowed");
    assert_eq!(frames.next(), None);
}

#[test]
fn audio_is_handed_out_as_it_came_and_not_before_hello() {
    let mut daemon = Daemon::start();
    let mut early = Frames::new(daemon.connect_raw());
    let mut bytes = Vec::new();
    write_audio(&mut bytes, 9, Encoding::Ulaw, 6, 77, &[1, 2, 3]).unwrap();
    early.stream.write_all(&bytes).unwrap();
    daemon.settle(Instant::now());
    assert_eq!(early.next(), None);

    let (mut frames, client, _) = join(&mut daemon, json!({}));
    frames.stream.write_all(&bytes).unwrap();
    let audio = Input::Audio {
        client,
        channel: 9,
        encoding: Encoding::Ulaw,
        generation: 6,
        monotonic_ns: 77,
        samples: vec![1, 2, 3],
    };
    assert_eq!(daemon.input(Instant::now()), audio);
}

#[test]
fn events_of_a_call_go_to_its_owner_and_to_those_who_want_all() {
    let mut daemon = Daemon::start();
    let (mut one, first, _) = join(&mut daemon, json!({}));
    let (mut two, second, _) = join(&mut daemon, json!({"events": "own"}));
    let (mut all, _, _) = join(&mut daemon, json!({"events": "all"}));
    let (mut none, silent, _) = join(&mut daemon, json!({"events": "none"}));
    daemon.server.set_owner(C1, Some(first));
    daemon.server.set_owner(C2, Some(second));
    assert_eq!(daemon.server.check_owner(first, C1), Ok(()));
    assert_eq!(daemon.server.check_owner(second, C1).unwrap_err().code(), Some(ErrorCode::NotOwner));
    assert_eq!(daemon.server.check_owner(second, CallId(3)), Ok(()));

    daemon.server.notify(&digit(C1), Some(10));
    daemon.server.notify(&digit(C2), Some(20));
    daemon.server.notify(&digit(CallId(3)), Some(30)); // nobody's
    daemon.server.notify(&warning(), None);
    daemon.server.set_owner(C1, Some(silent));
    daemon.server.notify(&digit(C1), Some(50));

    let mut times = |frames: &mut Frames, count| -> Vec<Value> {
        daemon.settle(Instant::now());
        (0..count).map(|_| frames.json()["params"]["time_ms"].clone()).collect()
    };
    assert_eq!(times(&mut one, 3), [json!(10), json!(30), Value::Null]);
    assert_eq!(times(&mut two, 3), [json!(20), json!(30), Value::Null]);
    assert_eq!(times(&mut all, 5), [json!(10), json!(20), json!(30), Value::Null, json!(50)]);
    drop(daemon);
    // and nothing besides
    for frames in [&mut one, &mut two, &mut all, &mut none] {
        assert_eq!(frames.next(), None);
    }
}

#[test]
fn a_client_that_returns_in_time_owns_its_calls_again_and_has_missed_nothing() {
    let mut daemon = Daemon::start();
    let start = Instant::now();
    let (frames, client, token) = join(&mut daemon, json!({}));
    daemon.server.set_owner(C1, Some(client));
    drop(frames);
    assert_eq!(daemon.input(start), Input::Gone { client });
    assert!(!daemon.server.is_connected(client));
    assert_eq!(daemon.server.poll_timeout(start), Some(start + GRACE));
    daemon.server.notify(&digit(C1), Some(40));
    daemon.server.handle_timeout(start + GRACE - Duration::from_millis(1));
    daemon.settle(start);

    let mut back = Frames::new(daemon.connect_raw());
    back.stream.write_all(&frame(&hello(json!({"token": token, "client": "again"})))).unwrap();
    assert_eq!(daemon.input(start), Input::Resumed { client });
    let answer = back.json();
    assert_eq!(answer["result"]["resumed"], json!(["c1"]));
    assert_eq!(answer["result"]["session"], client.session());
    assert_eq!(answer["result"]["token"], token);
    assert_eq!(back.json()["method"], "call.dtmf");
    assert_eq!(daemon.server.owner(C1), Some(client));
    assert_eq!(daemon.server.name(client), Some("again"));
    daemon.server.handle_timeout(start + 2 * GRACE);
    daemon.settle(start);
    assert_eq!(daemon.server.poll_timeout(start), None);
}

#[test]
fn a_client_that_stays_away_loses_its_calls() {
    let mut daemon = Daemon::start();
    let start = Instant::now();
    let (frames, client, token) = join(&mut daemon, json!({}));
    daemon.server.set_owner(C2, Some(client));
    daemon.server.set_owner(C1, Some(client));
    drop(frames);
    assert_eq!(daemon.input(start), Input::Gone { client });
    daemon.server.handle_timeout(start + GRACE);
    assert_eq!(daemon.input(start), Input::Expired { client, calls: vec![C1, C2] });
    assert_eq!(daemon.server.owner(C1), None);
    // whoever is gone can't be made an owner by what was on its way
    daemon.server.set_owner(C1, Some(client));
    assert_eq!(daemon.server.owner(C1), None);

    let mut late = Frames::new(daemon.connect_raw());
    late.stream.write_all(&frame(&hello(json!({"token": token})))).unwrap();
    assert!(matches!(daemon.input(start), Input::Connected { client: other, .. } if other != client));
    assert_eq!(late.json()["result"]["resumed"], json!([]));
}

#[test]
fn a_token_takes_over_from_a_connection_that_only_seems_alive() {
    let mut daemon = Daemon::start();
    let (mut old, client, token) = join(&mut daemon, json!({}));
    daemon.server.set_owner(C1, Some(client));
    let mut new = Frames::new(daemon.connect_raw());
    new.stream.write_all(&frame(&hello(json!({"token": token})))).unwrap();
    assert_eq!(daemon.input(Instant::now()), Input::Gone { client });
    assert_eq!(daemon.input(Instant::now()), Input::Resumed { client });
    daemon.settle(Instant::now());
    assert_eq!(old.next(), None);
    assert_eq!(new.json()["result"]["resumed"], json!(["c1"]));
    daemon.server.notify(&digit(C1), None);
    assert_eq!(new.json()["method"], "call.dtmf");
    assert_eq!(daemon.server.poll_timeout(Instant::now()), None);
}

#[test]
fn an_answer_for_a_connection_that_is_gone_reaches_nobody_else() {
    let mut daemon = Daemon::start();
    let (mut frames, client, token) = join(&mut daemon, json!({}));
    frames.stream.write_all(&frame(&json!({"jsonrpc": "2.0", "id": 1, "method": "daemon.status"}))).unwrap();
    let Input::Request { id, .. } = daemon.input(Instant::now()) else { panic!() };
    drop(frames);
    assert_eq!(daemon.input(Instant::now()), Input::Gone { client });
    let mut next = Frames::new(daemon.connect_raw());
    next.stream.write_all(&frame(&hello(json!({"token": token})))).unwrap();
    assert_eq!(daemon.input(Instant::now()), Input::Resumed { client });
    daemon.server.respond(&id, Ok(Done {}));
    daemon.server.notify(&warning(), None);
    assert_eq!(next.json()["id"], "hello");
    assert_eq!(next.json()["method"], "daemon.warning");
}

/// Case 40: events never are dropped; who does not read them is disconnected, and nobody else notices.
#[test]
fn a_client_that_does_not_read_its_events_is_disconnected() {
    let mut daemon = Daemon::start();
    let (mut slow, client, _) = join(&mut daemon, json!({}));
    let (mut quick, _, _) = join(&mut daemon, json!({"events": "none"}));
    let long = Event::DaemonWarning { text: "x".repeat(10_000) };
    let mut sent = 0;
    while daemon.server.is_connected(client) {
        daemon.server.notify(&long, None);
        sent += 1;
        assert!(sent < 1000, "bounded");
        if let Some(input) = daemon.step(Instant::now(), Duration::ZERO) {
            assert_eq!(input, Input::Gone { client });
        }
    }
    assert!(sent > 100, "a MiB is allowed: {sent}");
    quick.stream.write_all(&frame(&json!({"jsonrpc": "2.0", "id": 1, "method": "daemon.status"}))).unwrap();
    let Input::Request { id, .. } = daemon.input(Instant::now()) else { panic!() };
    daemon.server.respond(&id, Ok(Done {}));
    assert_eq!(quick.json()["id"], 1);
    // what it can still read is whole frames
    let mut buffered = Vec::new();
    let _ = slow.stream.read_to_end(&mut buffered);
    assert!(
        buffered.starts_with(&frame(&serde_json::from_slice(&notification_message(&long, None).unwrap()).unwrap()))
    );
}

/// Case 40: of audio that is not read the oldest gives way, counted, and control messages pass it.
#[test]
fn a_slow_subscriber_loses_its_oldest_audio_and_nothing_else() {
    let mut daemon = Daemon::start();
    let (mut frames, client, _) = join(&mut daemon, json!({}));
    let channel = daemon.server.open_channel(client).unwrap();
    let total = 5000;
    for number in 0..total {
        daemon.server.send_audio(client, channel, Encoding::S16, number, 0, &[0; 320]).unwrap();
    }
    let dropped = daemon.server.audio_dropped(client);
    assert!(dropped > 0 && dropped < total);
    daemon.server.notify(&warning(), None);
    frames.stream.set_nonblocking(false).unwrap();
    let mut numbers = Vec::new();
    let mut audio_after_warning = 0;
    let mut warned = false;
    while numbers.last() != Some(&(total - 1)) {
        // what is read makes room for more
        daemon.settle(Instant::now());
        match frames.next().unwrap() {
            Owned::Audio { channel: on, generation, samples } => {
                assert_eq!((on, samples.len()), (channel, 320));
                audio_after_warning += u64::from(warned);
                numbers.push(generation);
            }
            Owned::Json(event) => {
                assert_eq!(event["method"], "daemon.warning");
                warned = true;
            }
        }
    }
    assert_eq!(numbers.len() as u64 + dropped, total);
    assert!(numbers.is_sorted());
    assert!(audio_after_warning > 500, "the warning did not wait for what was queued");
}

#[test]
fn channels_are_not_given_twice() {
    let mut daemon = Daemon::start();
    let (_frames, client, _) = join(&mut daemon, json!({}));
    let first = daemon.server.open_channel(client).unwrap();
    let second = daemon.server.open_channel(client).unwrap();
    assert_ne!(first, second);
    daemon.server.close_channel(client, first);
    for _ in 0..u32::from(u16::MAX) - 1 {
        let next = daemon.server.open_channel(client).unwrap();
        assert!(next != 0 && next != second);
    }
    assert_eq!(daemon.server.open_channel(client), None);
}

/// Case 40: half a frame is waited for without limit; others go on meanwhile.
#[test]
fn half_a_frame_may_stay_for_ever() {
    let mut daemon = Daemon::start();
    let (mut half, client, _) = join(&mut daemon, json!({}));
    let bytes = frame(&json!({"jsonrpc": "2.0", "id": 1, "method": "daemon.status"}));
    half.stream.write_all(&bytes[..20]).unwrap();
    let start = Instant::now();
    daemon.settle(start);
    let later = start + Duration::from_secs(3600 * 24 * 365);
    daemon.server.handle_timeout(later);
    daemon.settle(later);
    assert_eq!(daemon.server.poll_timeout(later), None);
    let (_other, _, _) = join(&mut daemon, json!({}));
    half.stream.write_all(&bytes[20..]).unwrap();
    assert!(matches!(daemon.input(later), Input::Request { client: asking, .. } if asking == client));
}

#[test]
fn megabytes_at_once_come_through_and_others_get_their_turn() {
    let mut daemon = Daemon::start();
    let (mut loud, loud_client, _) = join(&mut daemon, json!({}));
    let (mut calm, calm_client, _) = join(&mut daemon, json!({}));
    let mut bytes = Vec::new();
    for generation in 0..20 {
        write_audio(&mut bytes, 1, Encoding::S16, generation, 0, &[7; MAX_PAYLOAD / 2]).unwrap();
    }
    let writer = std::thread::spawn(move || loud.stream.write_all(&bytes).map(|()| loud));
    let mut generations = Vec::new();
    let mut turns = 0;
    while generations.len() < 20 {
        if generations.len() > turns {
            turns += 1;
            calm.stream.write_all(&frame(&json!({"jsonrpc": "2.0", "id": 1, "method": "call.list"}))).unwrap();
        }
        match daemon.input(Instant::now()) {
            Input::Audio { client, generation, samples, .. } => {
                assert_eq!((client, samples.len()), (loud_client, MAX_PAYLOAD / 2));
                generations.push(generation);
            }
            Input::Request { client, .. } => assert_eq!(client, calm_client),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(generations, (0..20).collect::<Vec<_>>());
    writer.join().unwrap().unwrap();
}

#[test]
fn a_shell_speaks_json_lines_and_gets_its_answers_after_closing_its_end() {
    let mut daemon = Daemon::start();
    let mut shell = daemon.connect_raw();
    let lines = format!("{}\n{{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"call.list\"}}", hello(json!({})));
    // no newline at the end: it never gets there, so write one more line
    shell.write_all(lines.as_bytes()).unwrap();
    shell.write_all(b"\n").unwrap();
    shell.shutdown(Shutdown::Write).unwrap();
    let now = Instant::now();
    let Input::Connected { client, .. } = daemon.input(now) else { panic!() };
    let Input::Request { id, .. } = daemon.input(now) else { panic!() };
    daemon.settle(now);
    // audio is not for lines
    daemon.server.send_audio(client, 1, Encoding::S16, 0, 0, &[0; 2]).unwrap();
    daemon.server.notify(&warning(), None);
    daemon.server.respond(&id, Ok(CallListReply::default()));
    assert_eq!(daemon.input(now), Input::Gone { client });
    let mut text = String::new();
    shell.read_to_string(&mut text).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["result"]["protocol"], 1);
    assert_eq!(lines[1]["method"], "daemon.warning");
    assert_eq!(lines[2], json!({"jsonrpc": "2.0", "id": 2, "result": {"calls": []}}));
}

#[test]
fn clients_that_vanish_at_any_moment_leave_nothing_behind() {
    let mut daemon = Daemon::start();
    let now = Instant::now();
    let whole = [frame(&hello(json!({}))), frame(&json!({"jsonrpc": "2.0", "id": 1, "method": "call.list"}))].concat();
    for cut in 0..=whole.len() {
        let mut raw = daemon.connect_raw();
        raw.write_all(&whole[..cut]).unwrap();
        drop(raw);
        while let Some(input) = daemon.step(now, Duration::ZERO) {
            if let Input::Request { id, .. } = input {
                daemon.server.respond(&id, Ok(CallListReply::default()));
            }
        }
    }
    daemon.server.handle_timeout(now + GRACE);
    while daemon.step(now, Duration::ZERO).is_some() {}
    assert_eq!(daemon.server.poll_timeout(now), None);
}

#[test]
fn connections_are_bounded() {
    let mut daemon = Daemon::start();
    let now = Instant::now();
    let mut all: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| {
            let raw = daemon.connect_raw();
            daemon.settle(now);
            raw
        })
        .collect();
    let mut refused = Frames::new(daemon.connect_raw());
    daemon.settle(now);
    assert_eq!(refused.next(), None);
    all.pop();
    daemon.settle(now);
    join(&mut daemon, json!({}));
}

#[test]
fn sessions_in_their_grace_time_are_bounded() {
    let mut daemon = Daemon::start();
    let start = Instant::now();
    let mut expired = Vec::new();
    for number in 0..=MAX_CONNECTIONS {
        let now = start + Duration::from_millis(number as u64);
        let mut raw = daemon.connect_raw();
        raw.write_all(&frame(&hello(json!({})))).unwrap();
        drop(raw);
        loop {
            match daemon.input(now) {
                Input::Gone { .. } => break,
                Input::Expired { client, .. } => expired.push(client),
                _ => {}
            }
        }
        while let Some(input) = daemon.step(now, Duration::ZERO) {
            if let Input::Expired { client, .. } = input {
                expired.push(client);
            }
        }
    }
    assert_eq!(expired.iter().map(|client| client.session()).collect::<Vec<_>>(), [1]);
}

fn bind(path: &std::path::Path) -> Result<Server, ControlError> {
    let poll = mio::Poll::new().unwrap();
    Server::bind(path, poll.registry(), mio::Token(0), ServerConfig::default())
}

#[test]
fn the_socket_and_its_folder_are_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/mr-sip/control.sock");
    let server = bind(&path).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path.with_extension("lock")), 0o600);
    drop(server);
    assert!(!path.exists());

    // a folder of ours by name is tightened, another one that others may write to is refused
    std::fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(0o777)).unwrap();
    drop(bind(&path).unwrap());
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let error = bind(&folder.path().join("a.sock")).unwrap_err().to_string();
    assert!(error.contains("others may write to it (mode 777); run: chmod go-w"), "{error}");
}

#[test]
fn a_second_daemon_is_told_of_the_first_and_a_stale_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let first = bind(&path).unwrap();
    let error = bind(&path).unwrap_err().to_string();
    let pid = std::process::id();
    assert_eq!(error, format!("another mr-sip is running (pid {pid}) on {}", path.display()));
    drop(first);
    // what kill -9 leaves
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(bind(&path).unwrap());
}

#[test]
fn bad_places_for_a_socket_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(120));
    assert!(matches!(bind(&long), Err(ControlError::PathTooLong(_))));
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = bind(&folder.path().join("file/control.sock")).unwrap_err().to_string();
    assert!(error.contains("is not a folder"), "{error}");
    // a folder in the way of the socket
    std::fs::create_dir(folder.path().join("dir.sock")).unwrap();
    let error = bind(&folder.path().join("dir.sock")).unwrap_err().to_string();
    assert!(error.starts_with("cannot replace "), "{error}");
    // a lock that is a link to somebody's file
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.lock")).unwrap();
    let error = bind(&folder.path().join("link.sock")).unwrap_err().to_string();
    assert!(error.starts_with("cannot open the lock "), "{error}");
}

/// Case 2: whatever clients send, in whatever pieces, the server goes on and serves the one that behaves.
#[test]
fn noise_from_some_clients_does_not_reach_others() {
    let seeds = proptest::collection::vec(proptest::num::u8::ANY, 1..400);
    let mut daemon = Daemon::start();
    let (mut calm, calm_client, _) = join(&mut daemon, json!({"events": "none"}));
    let mut runner = TestRunner::deterministic();
    let mut asked = 0;
    for round in 0..300 {
        let noise = seeds.new_tree(&mut runner).unwrap().current();
        let mut raw = daemon.connect_raw();
        // some say hello first, some speak lines, some are nearly right
        let before = match round % 4 {
            0 => frame(&hello(json!({}))),
            1 => b"{\"jsonrpc\":".to_vec(),
            2 => vec![noise.len() as u8 / 2, 0, 0, 0, 1 + noise[0] % 2, 0, 0, 0],
            _ => Vec::new(),
        };
        for piece in [before, noise].concat().chunks(1 + round % 97) {
            // it may have been shown the door
            let _ = raw.write_all(piece);
            while let Some(input) = daemon.step(Instant::now(), Duration::ZERO) {
                if let Input::Request { id, .. } = input {
                    daemon.server.respond(&id, Ok(Done {}));
                }
            }
        }
        if round % 10 == 0 {
            asked += 1;
            calm.stream.write_all(&frame(&json!({"jsonrpc": "2.0", "id": asked, "method": "call.list"}))).unwrap();
            loop {
                if let Input::Request { client, id, .. } = daemon.input(Instant::now()) {
                    daemon.server.respond(&id, Ok(CallListReply::default()));
                    if client == calm_client {
                        break;
                    }
                }
            }
            assert_eq!(calm.json()["id"], asked);
        }
    }
}
