//! The server with real sockets and the test's own time: who a client is across lost connections, and whose the calls are.

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::{C1, C2, Daemon, Frames, digit, frame, hello, join, warning};
use mr_sip_control::Input;
use mr_sip_control::server::{GRACE, MAX_CONNECTIONS};
use mr_sip_control::types::*;
use serde_json::{Value, json};

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
