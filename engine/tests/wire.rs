//! Two engines on loopback, with real sockets and threads: what the agent says at one end is heard at the other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use mr_sip_engine::{
    CallHandle, CallId, CallSetup, Codec, DigitTiming, Engine, EngineConfig, MediaEvent, MediaParams, WriteResult,
};

fn start(ports: RangeInclusive<u16>) -> Engine {
    Engine::start(EngineConfig {
        bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_ports: ports,
        lock_memory: false,
        max_calls: 8,
        ..EngineConfig::default()
    })
    .unwrap()
}

/// A call between two engines.
fn connect(
    a: &mut Engine,
    b: &mut Engine,
    codec: Codec,
    record_to: Option<std::path::PathBuf>,
) -> (CallHandle, CallHandle) {
    let (port_a, port_b) = (a.reserve_port().unwrap(), b.reserve_port().unwrap());
    let params = |port: u16| MediaParams {
        remote: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        codec,
        payload_type: if codec == Codec::Pcmu { 0 } else { 8 },
        telephone_event: Some(101),
        send: true,
        receive: true,
    };
    let (to_a, to_b) = (params(port_a.port()), params(port_b.port()));
    let setup =
        |id, port, media, record_to| CallSetup { id: CallId(id), label: format!("c{id}"), port, media, record_to };
    (a.add_call(setup(1, port_a, to_b, record_to)).unwrap(), b.add_call(setup(2, port_b, to_a, None)).unwrap())
}

/// Something like speech: harmonics of a gliding pitch under a syllable envelope, with pauses.
fn speech(samples: usize) -> Vec<f32> {
    let mut phase = 0.0_f32;
    (0..samples)
        .map(|n| {
            let t = n as f32 / 8_000.0;
            let pitch = 120.0 + 30.0 * (t * 2.1).sin();
            phase += std::f32::consts::TAU * pitch / 8_000.0;
            let voice: f32 = (1..20).map(|h| (phase * h as f32).sin() / h as f32).sum();
            let envelope = (t * 9.0).sin().max(0.0) * if t % 2.0 < 1.6 { 1.0 } else { 0.0 };
            0.2 * voice * envelope
        })
        .collect()
}

/// The best normalized correlation of a reference within what was heard, over all delays.
fn correlation(reference: &[f32], heard: &[f32]) -> f32 {
    let energy: f32 = reference.iter().map(|s| s * s).sum();
    let mut part_energy: f64 = heard[..reference.len()].iter().map(|&s| f64::from(s * s)).sum();
    let mut best = 0.0_f32;
    for at in 0..heard.len() - reference.len() {
        let dot: f32 = heard[at..].iter().zip(reference).map(|(a, b)| a * b).sum();
        best = best.max(dot / (part_energy as f32 * energy).sqrt().max(1e-9));
        part_energy += f64::from(heard[at + reference.len()].powi(2) - heard[at].powi(2));
    }
    best
}

fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_reply_is_heard_at_the_far_end_as_it_was_said() {
    for (codec, ports_a, ports_b) in
        [(Codec::Pcmu, 23_100..=23_119, 23_120..=23_139), (Codec::Pcma, 23_140..=23_159, 23_160..=23_179)]
    {
        let (mut a, mut b) = (start(ports_a), start(ports_b));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        let (mut at_a, mut at_b) = connect(&mut a, &mut b, codec, Some(path.clone()));
        let mut ears = at_b.take_ears().unwrap();

        let said = speech(16_000);
        let generation = at_a.voice().start_response();
        assert_eq!(at_a.voice().write(generation, &said), WriteResult::Accepted(said.len()));
        at_a.voice().end_response(generation);
        let event = wait_for("the end of the response", || match a.poll_event() {
            Some((CallId(1), event @ MediaEvent::ResponseFinished { .. })) => Some(event),
            _ => None,
        });
        assert_eq!(event, MediaEvent::ResponseFinished { generation, played: 16_000, interrupted: false });
        assert_eq!(at_a.voice().position().played_turn, 16_000);

        let mut heard: Vec<f32> = Vec::new();
        let enough = said.len() + 4_000;
        wait_for("the samples", || {
            while let Ok(sample) = ears.samples.pop() {
                heard.push(sample);
            }
            (heard.len() >= enough).then_some(())
        });
        // a loaded machine may stall a thread, so that a piece is missing; the pieces between are judged one by one
        let mut pieces: Vec<f32> = said.chunks(4_000).map(|piece| correlation(piece, &heard)).collect();
        pieces.sort_by(f32::total_cmp);
        assert!(pieces[1] > 0.95, "{codec:?}: {pieces:?}, {:?}", at_b.stats());

        drop(at_a);
        wait_for("the recording", || match a.poll_event() {
            Some((CallId(1), MediaEvent::RecordingFinished)) => Some(()),
            _ => None,
        });
        let mut wav = hound::WavReader::open(path).unwrap();
        let right: Vec<f32> =
            wav.samples::<i16>().skip(1).step_by(2).map(|s| f32::from(s.unwrap()) / 32_768.0).collect();
        assert!(correlation(&said[..4_000], &right) > 0.99, "the recording's right channel is the agent");
    }
}

#[test]
fn telephone_keys_cross_the_wire_once_each() {
    let (mut a, mut b) = (start(23_180..=23_189), start(23_190..=23_199));
    let (mut at_a, _at_b) = connect(&mut a, &mut b, Codec::Pcmu, None);
    at_a.send_digits("123#", DigitTiming::default()).unwrap();
    let mut keys = String::new();
    wait_for("four keys", || {
        if let Some((CallId(2), MediaEvent::Digit { digit, .. })) = b.poll_event() {
            keys.push(digit);
        }
        (keys.len() == 4).then_some(())
    });
    assert_eq!(keys, "123#");
}

#[test]
fn a_dropped_call_gives_its_ports_and_its_place_back() {
    let mut a = start(23_200..=23_203);
    let params = MediaParams {
        remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
        codec: Codec::Pcmu,
        payload_type: 0,
        telephone_event: None,
        send: true,
        receive: true,
    };
    for round in 0..3 {
        // ports rest for 2 s after a call (case 38), so each pair comes back in its turn
        let port = wait_for("a free port", || a.reserve_port().ok());
        let setup = CallSetup { id: CallId(round), label: "c".into(), port, media: params, record_to: None };
        let handle = a.add_call(setup).unwrap();
        wait_for("packets", || (handle.stats().sent > 2).then_some(()));
        drop(handle);
        wait_for("the end of the call", || {
            while a.poll_event().is_some() {}
            (a.stats().calls == 0).then_some(())
        });
    }
}
