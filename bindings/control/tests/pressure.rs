//! The server with real sockets and the test's own time: what clients can't do to others, and to the daemon's memory.

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::{C1, Daemon, Frames, Owned, digit, frame, hello, join, warning};
use mr_sip_control::frame::{MAX_PAYLOAD, write_audio};
use mr_sip_control::server::{GRACE, MAX_CONNECTIONS};
use mr_sip_control::types::*;
use mr_sip_control::{Encoding, Input};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::json;

/// With many subscribers a request does not wait for the writes to all of them, and no event is lost or late for that.
#[test]
fn many_subscribers_are_told_a_few_at_a_time() {
    let mut daemon = Daemon::start();
    let mut all: Vec<_> = (0..60).map(|_| join(&mut daemon, json!({})).0).collect();
    daemon.server.notify(&warning(), None);
    daemon.server.notify(&digit(C1), None);
    let now = Instant::now();
    assert_eq!(daemon.server.poll_timeout(now), Some(now), "the rest is not left for the next event");
    while daemon.server.poll_timeout(now).is_some() {
        daemon.settle(now);
    }
    for frames in &mut all {
        assert_eq!(frames.json()["method"], "daemon.warning");
        assert_eq!(frames.json()["method"], "call.dtmf");
    }
    // the last words of a daemon that ends
    daemon.server.notify(&warning(), None);
    drop(daemon);
    for frames in &mut all {
        assert_eq!(frames.json()["method"], "daemon.warning");
        assert_eq!(frames.next(), None);
    }
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

/// Case 40: the requests of a client that reads no answers are read on, and it is disconnected for what it asked for.
#[test]
fn a_client_that_asks_and_does_not_read_the_answers_is_disconnected() {
    let mut daemon = Daemon::start();
    let now = Instant::now();
    let (mut greedy, client, _) = join(&mut daemon, json!({"events": "none"}));
    let (mut other, _, _) = join(&mut daemon, json!({}));
    let long = "x".repeat(10_000);
    let ask = frame(&json!({"jsonrpc": "2.0", "id": 1, "method": "call.list"}));
    let mut asked = 0;
    while daemon.server.is_connected(client) {
        asked += 1;
        assert!(asked < 1000, "bounded");
        greedy.stream.write_all(&ask).unwrap();
        match daemon.input(now) {
            Input::Request { id, .. } => daemon.server.respond(&id, Ok(&long)),
            input => assert_eq!(input, Input::Gone { client }),
        }
    }
    assert!(asked > 100, "a MiB is allowed: {asked}");
    daemon.server.notify(&warning(), None);
    assert_eq!(other.json()["method"], "daemon.warning");
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
