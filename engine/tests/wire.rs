//! Two engines on loopback, with real sockets and threads: what the agent says at one end is heard at the other.

#[path = "support/engines.rs"]
mod engines;

use std::net::{Ipv4Addr, SocketAddr};

use engines::{connect, connect_with, correlation, speech, start, wait_for};
use mr_sip_engine::{
    CallId, CallSetup, Codec, DigitTiming, MasterKey, MediaEvent, MediaParams, RecordingState, SrtpParams, SrtpSuite,
    WriteResult,
};

#[test]
fn a_reply_is_heard_at_the_far_end_as_it_was_said() {
    for (codec, ports_a, ports_b) in [
        (Codec::Pcmu, 23_100..=23_119, 23_120..=23_139),
        (Codec::Pcma, 23_140..=23_159, 23_160..=23_179),
        (Codec::G722, 23_240..=23_259, 23_260..=23_279),
    ] {
        let (mut a, mut b) = (start(ports_a, None), start(ports_b, None));
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
            Some((CallId(1), MediaEvent::Recording(news))) => (news.state == RecordingState::Finished).then_some(()),
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
    let (mut a, mut b) = (start(23_180..=23_189, None), start(23_190..=23_199, None));
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
fn an_encrypted_opus_call_is_heard_in_long_packets_and_its_reports_go_beside_the_audio() {
    let (mut a, mut b) = (start(23_220..=23_229, None), start(23_230..=23_239, None));
    let (mut at_a, mut at_b) = connect_with(&mut a, &mut b, Codec::Opus, None, |end, params| MediaParams {
        ptime_ms: 40,
        rtcp_mux: true,
        srtp: Some(SrtpParams {
            suite: SrtpSuite::AesCm128HmacSha1_80,
            local: MasterKey::new([end as u8 + 1; 30]),
            remote: MasterKey::new([2 - end as u8; 30]),
        }),
        ..params
    });
    let mut ears = at_b.take_ears().unwrap();
    let said = speech(16_000);
    let generation = at_a.voice().start_response();
    assert_eq!(at_a.voice().write(generation, &said), WriteResult::Accepted(said.len()));
    at_a.voice().end_response(generation);
    let (mut energy, mut count) = (0.0, 0);
    wait_for("the samples", || {
        while let Ok(sample) = ears.samples.pop() {
            energy += sample * sample;
            count += 1;
        }
        (count >= said.len() + 4_000).then_some(())
    });
    let share = energy / said.iter().map(|s| s * s).sum::<f32>();
    assert!((0.4..1.5).contains(&share), "{share}, {:?}", at_b.stats());
    at_a.send_digits("42", DigitTiming::default()).unwrap();
    let mut keys = String::new();
    wait_for("two keys", || {
        if let Some((CallId(2), MediaEvent::Digit { digit, .. })) = b.poll_event() {
            keys.push(digit);
        }
        (keys.len() == 2).then_some(())
    });
    assert_eq!(keys, "42");
    // the first report comes within 6 s, and tells of the round trip once there were two
    wait_for("a round trip", || (at_a.stats().round_trip_ms > 0.0 || at_b.stats().round_trip_ms > 0.0).then_some(()));
    let stats = at_b.stats();
    assert_eq!((stats.bad_packets, stats.foreign_packets, stats.srtp_unauthentic), (0, 0, 0), "{stats:?}");
}

#[test]
fn a_dropped_call_gives_its_ports_and_its_place_back() {
    let mut a = start(23_200..=23_203, None);
    let params = MediaParams::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)), Codec::Pcmu, 0);
    for round in 0..3 {
        // ports rest for 2 s after a call (case 38), so each pair comes back in its turn
        let port = wait_for("a free port", || a.reserve_port().ok());
        let setup = CallSetup {
            id: CallId(round),
            label: "c".into(),
            far_end: String::new(),
            port,
            media: params.clone(),
            record_to: None,
        };
        let handle = a.add_call(setup).unwrap();
        wait_for("packets", || (handle.stats().sent > 2).then_some(()));
        drop(handle);
        wait_for("the end of the call", || {
            while a.poll_event().is_some() {}
            (a.stats().calls == 0).then_some(())
        });
    }
}
