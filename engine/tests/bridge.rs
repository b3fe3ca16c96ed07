//! Bridges between calls of real engines: on one media thread, and on two, between which a call has to move.

#[path = "support/engines.rs"]
mod engines;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use engines::{correlation, speech, start, wait_for};
use mr_sip_engine::{
    CallHandle, CallId, CallSetup, Codec, EarTap, Engine, EngineConfig, EngineError, Link, MediaParams, Source,
};

/// A call at the middle engine and the far end's, at another engine.
fn connect(middle: &mut Engine, outer: &mut Engine, id: u32) -> (CallHandle, CallHandle) {
    let (port, far) = (middle.reserve_port().unwrap(), outer.reserve_port().unwrap());
    let params = |to: u16| MediaParams::new(SocketAddr::from((Ipv4Addr::LOCALHOST, to)), Codec::Pcmu, 0);
    let (here, there) = (params(far.port()), params(port.port()));
    let setup = |port, media| CallSetup {
        id: CallId(id),
        label: format!("c{id}"),
        far_end: String::new(),
        port,
        media,
        record_to: None,
    };
    (middle.add_call(setup(port, here)).unwrap(), outer.add_call(setup(far, there)).unwrap())
}

fn link(from: u32, source: Source, to: u32) -> Link {
    Link { from: CallId(from), source, to: CallId(to), gain: 1.0 }
}

/// What one far end says is heard by the other.
fn is_heard(said_by: &mut CallHandle, ears: &mut EarTap) {
    let said = speech(8_000);
    while ears.samples.pop().is_ok() {}
    let generation = said_by.voice().start_response();
    let _ = said_by.voice().write(generation, &said);
    said_by.voice().end_response(generation);
    let mut heard: Vec<f32> = Vec::new();
    wait_for("the samples", || {
        while let Ok(sample) = ears.samples.pop() {
            heard.push(sample);
        }
        (heard.len() >= 16_000).then_some(())
    });
    // a loaded machine may stall a thread, so that a piece is missing
    let best = said.chunks(2_000).map(|piece| correlation(piece, &heard)).fold(0.0, f32::max);
    assert!(best > 0.95, "{best}");
}

fn two_far_ends_talk(mut middle: Engine, ports: [RangeInclusive<u16>; 2]) {
    let [a, b] = ports;
    let (mut outer_a, mut outer_b) = (start(a, None), start(b, None));
    let (first, mut far_a) = connect(&mut middle, &mut outer_a, 1);
    let (_second, mut far_b) = connect(&mut middle, &mut outer_b, 2);
    let mut ears_a = far_a.take_ears().unwrap();
    let mut ears_b = far_b.take_ears().unwrap();

    assert!(matches!(middle.link(link(1, Source::Caller, 1)), Err(EngineError::BridgedToItself)));
    assert!(matches!(middle.link(link(1, Source::Caller, 9)), Err(EngineError::Ended)));
    middle.link(link(1, Source::Caller, 2)).unwrap();
    middle.link(link(2, Source::Caller, 1)).unwrap();
    wait_for("the move", || {
        let _ = middle.poll_event();
        (middle.stats().calls == 2).then_some(())
    });
    is_heard(&mut far_a, &mut ears_b);
    is_heard(&mut far_b, &mut ears_a);

    // one goes; the other's call goes on, and can be linked no more
    drop(first);
    wait_for("the end of a call", || {
        let _ = middle.poll_event();
        (middle.stats().calls == 1).then_some(())
    });
    wait_for("its links' end", || middle.link(link(1, Source::Caller, 2)).is_err().then_some(()));
    middle.unlink(link(2, Source::Caller, 1)).unwrap();
}

#[test]
fn two_far_ends_talk_through_a_bridge() {
    two_far_ends_talk(start(21_000..=21_019, None), [21_020..=21_039, 21_040..=21_059]);
}

#[test]
fn calls_of_two_media_threads_come_together() {
    let middle = Engine::start(EngineConfig {
        bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_ports: 21_060..=21_079,
        lock_memory: false,
        max_calls: 8,
        cores: vec![0, 0],
        ..EngineConfig::default()
    })
    .unwrap();
    assert_eq!(middle.report().media_threads, 2);
    two_far_ends_talk(middle, [21_080..=21_099, 21_100..=21_119]);
}
