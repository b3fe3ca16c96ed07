//! Every example of PROTOCOL.md through the types, and every request among them through the server.

mod common;

use std::collections::BTreeSet;
use std::time::Instant;

use common::Daemon;
use mr_sip_control::frame::write_json;
use mr_sip_control::types::*;
use mr_sip_control::{ApiError, Input};
use serde_json::{Value, json};

fn examples() -> Vec<Value> {
    let mut examples = Vec::new();
    let mut inside = false;
    for line in include_str!("../PROTOCOL.md").lines() {
        match line {
            "```json" => inside = true,
            "```" => inside = false,
            text if inside => examples.push(serde_json::from_str(text).unwrap()),
            _ => {}
        }
    }
    examples
}

/// Reads a result as the reply of its method and writes it again.
fn reread_reply(method: &str, result: Value) -> Value {
    fn reread<R: Request>(result: Value) -> Value {
        serde_json::to_value(serde_json::from_value::<R::Reply>(result).unwrap()).unwrap()
    }
    macro_rules! by_name {
        ($($request:ty),* $(,)?) => {
            match method {
                $(<$request>::NAME => reread::<$request>(result),)*
                other => panic!("no method {other}"),
            }
        };
    }
    by_name!(
        Hello,
        CallDial,
        CallAnswer,
        CallReject,
        CallHangup,
        CallDtmf,
        CallProgress,
        CallHold,
        CallResume,
        CallTransfer,
        CallTransferAccept,
        CallTransferReject,
        CallBridge,
        CallUnbridge,
        CallTrace,
        CallList,
        CallGet,
        ResponseStart,
        ResponseEnd,
        AudioHalt,
        AudioResume,
        AudioClear,
        AudioPosition,
        AudioClean,
        AudioDuck,
        AudioEffects,
        PlayFile,
        PlayStop,
        PlayTone,
        MediaSubscribe,
        MediaUnsubscribe,
        RecordStart,
        RecordPause,
        RecordResume,
        RecordStop,
        TurnPolicy,
        TranscriptPush,
        SipBans,
        SipUnban,
        DaemonStatus,
        DaemonShutdown
    )
}

/// Everything that `small` holds, `large` holds too: what was written again may only add defaults.
fn assert_within(small: &Value, large: &Value) {
    match (small, large) {
        (Value::Object(small), Value::Object(large)) => {
            for (key, value) in small {
                assert_within(value, large.get(key).unwrap_or_else(|| panic!("{key} is missing in {large:?}")));
            }
        }
        (Value::Array(small), Value::Array(large)) => {
            assert_eq!(small.len(), large.len());
            small.iter().zip(large).for_each(|(small, large)| assert_within(small, large));
        }
        (small, large) => assert_eq!(small, large),
    }
}

#[test]
fn every_method_has_one_example_and_its_result() {
    let mut asked = BTreeSet::new();
    let mut pending = None;
    for example in examples() {
        match Incoming::parse(example.to_string().as_bytes()).unwrap() {
            Incoming::Request { id: Some(_), method, params } => {
                let parsed = Method::parse(&method, params).unwrap();
                assert_eq!(parsed.name(), method);
                assert!(asked.insert(method.clone()), "{method} has two examples");
                pending = Some(method);
            }
            Incoming::Answer { outcome: Ok(result), .. } => {
                let method = pending.take().expect("a result follows its request");
                assert_within(&result, &reread_reply(&method, result.clone()));
            }
            Incoming::Answer { outcome: Err(error), .. } => assert!(error.code().is_some()),
            Incoming::Request { id: None, .. } => {}
        }
    }
    assert_eq!(asked, Method::NAMES.iter().map(|name| name.to_string()).collect());
}

#[test]
fn every_event_has_one_example_that_is_written_as_it_is_read() {
    let mut told = BTreeSet::new();
    for example in examples() {
        if let Incoming::Request { id: None, method, params } = Incoming::parse(example.to_string().as_bytes()).unwrap()
        {
            let notification = Notification::parse(&method, params).unwrap().expect("a known event");
            let text = notification_message(&notification.event, notification.time_ms).unwrap();
            assert_within(&example, &serde_json::from_slice(&text).unwrap());
            assert!(told.insert(method), "two examples of {example}");
        }
    }
    assert_eq!(told, Event::NAMES.iter().map(|name| name.to_string()).collect());
}

#[test]
fn every_error_code_is_in_the_table() {
    for code in ErrorCode::ALL {
        assert!(include_str!("../PROTOCOL.md").contains(&format!("| {} |", *code as i32)), "{code:?}");
    }
}

#[test]
fn the_server_takes_every_example_request_as_it_stands() {
    let mut daemon = Daemon::start();
    let mut raw = daemon.connect_raw();
    let mut expected = Vec::new();
    for example in examples() {
        if let Incoming::Request { id: Some(_), method, params } =
            Incoming::parse(example.to_string().as_bytes()).unwrap()
        {
            let mut frame = Vec::new();
            write_json(&mut frame, example.to_string().as_bytes()).unwrap();
            std::io::Write::write_all(&mut raw, &frame).unwrap();
            if method != "hello" {
                expected.push(Method::parse(&method, params).unwrap());
            }
        }
    }
    let mut got = Vec::new();
    while got.len() < expected.len() {
        match daemon.input(Instant::now()) {
            Input::Request { id, method, .. } => {
                daemon.server.respond::<()>(&id, Err(ApiError::internal("only a test")));
                got.push(method);
            }
            Input::Connected { name, .. } => assert_eq!(name, "example"),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(got, expected);
}

fn refused(method: &str, params: Value) -> String {
    let error = Method::parse(method, params).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidParams), "{error:?}");
    error.message
}

#[test]
fn a_wrong_parameter_is_named_with_what_is_allowed() {
    assert_eq!(refused("call.dial", json!({})), "call.dial: missing field `to`");
    assert_eq!(refused("call.dial", json!({"to": " "})), "call.dial: `to`: must not be empty");
    assert_eq!(refused("call.dial", json!({"to": 5})), "call.dial: `to`: invalid type: integer `5`, expected a string");
    assert_eq!(refused("call.dial", json!([])), "call.dial: params must be an object");
    assert_eq!(
        refused("call.dial", json!({"to": "x", "timeout_ms": 1})),
        "call.dial: `timeout_ms`: 1: from 1000 to 600000"
    );
    assert_eq!(
        refused("call.dtmf", json!({"call": "c1", "digits": "12x"})),
        "call.dtmf: `digits`: 'x': allowed are 0-9 * # A-D"
    );
    assert_eq!(
        refused("call.dtmf", json!({"call": "c1", "digits": ""})),
        "call.dtmf: `digits`: 0 of them: from 1 to 64"
    );
    assert_eq!(
        refused("call.hangup", json!({"call": "seventeen"})),
        "call.hangup: `call`: \"seventeen\" is not a call: wanted c1, c2, ..."
    );
    assert_eq!(
        refused("call.reject", json!({"call": 1, "status": 200})),
        "call.reject: `status`: 200: from 400 to 699"
    );
    assert_eq!(
        refused("response.start", json!({"call": "c1", "encoding": "mp3"})),
        "response.start: `encoding`: unknown variant `mp3`, expected one of `s16`, `f32`, `ulaw`, `alaw`"
    );
    assert_eq!(
        refused("media.subscribe", json!({"call": "c1", "rate": 44100})),
        "media.subscribe: `rate`: 44100: 8000 or 16000"
    );
    assert_eq!(
        refused("hello", json!({"client": "x", "protocol": 1, "events": "some"})),
        "hello: `events`: unknown variant `some`, expected one of `own`, `all`, `none`"
    );
}

/// Case 45: what would become a header line is refused at the door.
#[test]
fn control_characters_in_names_are_refused() {
    for to in ["sip:a@b\r\nVia: x", "sip:a\0@b", "a\u{7f}"] {
        assert_eq!(refused("call.dial", json!({ "to": to })), "call.dial: `to`: must not hold control characters");
    }
    assert!(refused("call.dial", json!({"to": "x".repeat(513)})).contains("at most 512"));
}

/// Case 45: a header that the client adds cannot add another one, nor be none.
#[test]
fn headers_of_a_dial_are_checked() {
    let dial = |headers: Value| refused("call.dial", json!({"to": "x", "headers": headers}));
    assert_eq!(dial(json!({"X-A": "b\r\nVia: c"})), "call.dial: `headers`: must not hold control characters (X-A)");
    assert_eq!(dial(json!({"X A": "b"})), "call.dial: `headers`: \"X A\": is no header's name");
    let many: serde_json::Map<String, Value> = (0..21).map(|n| (format!("X-{n}"), json!("y"))).collect();
    assert_eq!(dial(json!(many)), "call.dial: `headers`: 21 of them: at most 20");
}

/// Case 45: a recording goes where recordings are, or where its path says in full.
#[test]
fn a_recordings_path_is_checked() {
    let record = |path: &str| refused("record.start", json!({"call": "c1", "path": path}));
    assert_eq!(record("../../etc/x.wav"), "record.start: `path`: must not hold `..`");
    assert_eq!(record("/srv/../etc/x.wav"), "record.start: `path`: must not hold `..`");
    assert_eq!(record("x.mp3"), "record.start: `path`: must end in .wav");
    assert_eq!(record("/etc/passwd"), "record.start: `path`: must end in .wav");
    assert_eq!(record("a\nb.wav"), "record.start: `path`: must not hold control characters");
    assert_eq!(record(""), "record.start: `path`: must not be empty");
    assert!(Method::parse("record.start", json!({"call": "c1", "path": "desk/7.WAV"})).is_ok());
}

#[test]
fn a_transfer_goes_to_one_place() {
    let transfer = |params: Value| refused("call.transfer", params);
    let either = "call.transfer: either `to` or `other_call` is needed";
    assert_eq!(transfer(json!({"call": "c1"})), either);
    assert_eq!(transfer(json!({"call": "c1", "to": "x", "other_call": "c2"})), either);
    assert_eq!(
        transfer(json!({"call": "c1", "other_call": "c1"})),
        "call.transfer: `other_call`: c1: another call than `call`"
    );
}

#[test]
fn what_is_to_be_played_is_checked() {
    let tone = |params: Value| refused("play.tone", params);
    let either = "play.tone: either `tone` or `frequencies_hz` is needed";
    assert_eq!(tone(json!({"call": 1})), either);
    assert_eq!(tone(json!({"call": 1, "tone": "busy", "frequencies_hz": [440]})), either);
    assert_eq!(
        tone(json!({"call": 1, "frequencies_hz": [5000]})),
        "play.tone: `frequencies_hz`: 5000: from 20 to 3900"
    );
    assert_eq!(
        tone(json!({"call": 1, "frequencies_hz": [440, 440, 440, 440, 440]})),
        "play.tone: `frequencies_hz`: 5 of them: at most 4"
    );
    let file = |params: Value| refused("play.file", params);
    assert_eq!(file(json!({"call": 1, "path": "/a", "gain_db": 21})), "play.file: `gain_db`: 21: from -60 to 20");
    assert_eq!(file(json!({"call": 1, "path": ""})), "play.file: `path`: 0 bytes: from 1 to 4096");
    assert_eq!(file(json!({"call": 1, "path": "/a\0"})), "play.file: `path`: must not hold control characters");
    assert_eq!(
        refused("audio.duck", json!({"call": 1, "ducked": true, "down_ms": 1001})),
        "audio.duck: `down_ms`: 1001: from 0 to 1000"
    );
}

#[test]
fn what_is_said_of_turns_is_checked() {
    let policy = |params: Value| refused("turn.policy", params);
    assert_eq!(
        policy(json!({"call": 1, "end_of_turn_ms": 50})),
        "turn.policy: `end_of_turn_ms`: 50: from 100 to 10000"
    );
    assert_eq!(policy(json!({"call": 1, "barge_in_words": 11})), "turn.policy: `barge_in_words`: 11: from 0 to 10");
    assert_eq!(policy(json!({"call": 1, "digits": 65})), "turn.policy: `digits`: 65: from 0 to 64");
    let many = vec!["a"; 101];
    assert_eq!(policy(json!({"call": 1, "vocabulary": many})), "turn.policy: `vocabulary`: 101 words: at most 100");
    let long = vec!["a".repeat(500); 3];
    assert_eq!(policy(json!({"call": 1, "vocabulary": long})), "turn.policy: `vocabulary`: 1500 bytes: at most 1000");
    let nul = policy(json!({"call": 1, "vocabulary": ["a\0"]}));
    assert_eq!(nul, "turn.policy: `vocabulary[0]`: must not hold control characters");
    assert!(policy(json!({"call": 1, "style": "fast"})).contains("`style`"));
    let push = |text: &str| refused("transcript.push", json!({"call": 1, "text": text}));
    assert_eq!(push("a\0"), "transcript.push: `text`: must not hold control characters");
    assert_eq!(push(&"a".repeat(16_385)), "transcript.push: `text`: 16385 bytes: at most 16384");
}

#[test]
fn a_null_field_is_an_absent_one_and_unknown_fields_are_ignored() {
    let params = json!({"to": "sip:a@b", "account": null, "timeout_ms": null, "colour": "green"});
    assert_eq!(
        Method::parse("call.dial", params).unwrap(),
        CallDial { to: "sip:a@b".into(), ..CallDial::default() }.into()
    );
    let params = json!({"call": "c3", "digits": "1", "duration_ms": null, "gap_ms": null});
    assert_eq!(Method::parse("call.dtmf", params).unwrap(), CallDtmf::new(CallId(3), "1").into());
    assert_eq!(Method::parse("call.list", Value::Null).unwrap(), CallList::default().into());
}

#[test]
fn unknown_methods_and_events() {
    assert_eq!(Method::parse("call.fly", Value::Null).unwrap_err().code, -32601);
    assert_eq!(Notification::parse("call.flies", json!({})), Ok(None));
}

#[test]
fn a_call_is_read_in_three_ways_and_written_in_one() {
    for text in ["\"c17\"", "\"17\"", "17"] {
        let call: CallId = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&call).unwrap(), "\"c17\"");
    }
    for text in ["\"\"", "\"c\"", "\"+1\"", "\"c-1\"", "-1", "4294967296", "\"c4294967296\"", "1.5", "null"] {
        assert!(serde_json::from_str::<CallId>(text).is_err(), "{text}");
    }
}
