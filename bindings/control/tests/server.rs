//! The server with real sockets and the test's own time: hello, requests and their answers, frames and lines.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::{C1, Daemon, Frames, frame, hello, join, warning};
use mr_sip_control::frame::{write_audio, write_json};
use mr_sip_control::types::*;
use mr_sip_control::{ApiError, Encoding, Input, RequestId};
use serde_json::{Value, json};

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
