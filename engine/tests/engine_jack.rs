//! A call of the whole engine through a real JACK server, which dies in the middle of it and comes back.

#[path = "support/engines.rs"]
mod engines;
#[path = "support/jackd.rs"]
mod jackd;

use std::time::Duration;

use engines::{connect, correlation, speech, start, wait_for};
use jackd::Jackd;
use mr_sip_engine::{CallHandle, Codec, EarTap, Engine, JackConfig, JackState, MediaEvent, WriteResult};

/// A busy test machine stalls threads for longer than the 4 ms that a telephone should need.
const MARGIN: Duration = Duration::from_millis(80);

fn wait_for_event(engine: &mut Engine, wanted: &MediaEvent) {
    wait_for(&format!("{wanted:?}"), || engine.poll_event().filter(|(_, event)| event == wanted));
}

/// Says two seconds at one end and judges what the other end hears, piece by piece.
fn is_heard(engine: &mut Engine, speaker: &mut CallHandle, ears: &mut EarTap) -> Vec<f32> {
    while ears.samples.pop().is_ok() {}
    let said = speech(16_000);
    let generation = speaker.voice().start_response();
    assert_eq!(speaker.voice().write(generation, &said), WriteResult::Accepted(said.len()));
    speaker.voice().end_response(generation);
    wait_for_event(engine, &MediaEvent::ResponseFinished { generation, played: 16_000, interrupted: false });
    let mut heard = Vec::new();
    wait_for("the samples", || {
        while let Ok(sample) = ears.samples.pop() {
            heard.push(sample);
        }
        (heard.len() >= said.len() + 6_000).then_some(())
    });
    let mut pieces: Vec<f32> = said.chunks(4_000).map(|piece| correlation(piece, &heard)).collect();
    pieces.sort_by(f32::total_cmp);
    pieces
}

#[test]
fn a_call_speaks_through_jack_survives_its_death_and_returns_to_it() {
    let mut server = Jackd::start("engine", 48_000, 256);
    let jack = JackConfig {
        server_name: Some(server.name().to_owned()),
        client_name: "mr-sip-engine-test".to_owned(),
        max_calls: 4,
        margin: MARGIN,
        ..JackConfig::default()
    };
    let (mut a, mut b) = (start(23_210..=23_219, Some(jack)), start(23_220..=23_229, None));
    assert!(matches!(a.jack_state(), JackState::Running { .. }));
    let (mut at_a, mut at_b) = connect(&mut a, &mut b, Codec::Pcmu, None);
    let mut ears = at_b.take_ears().unwrap();

    wait_for_event(&mut a, &MediaEvent::JackBack);
    let ports = server.tool("jack_lsp", &[]).1;
    assert!(["c1:caller", "c1:agent", "c1:to_phone"].iter().all(|port| ports.contains(port)), "{ports}");
    let pieces = is_heard(&mut a, &mut at_a, &mut ears);
    assert!(pieces[1] > 0.95, "through JACK: {pieces:?}");

    server.kill();
    wait_for_event(&mut a, &MediaEvent::JackLost);
    let pieces = is_heard(&mut a, &mut at_a, &mut ears);
    assert!(pieces[1] > 0.95, "without it: {pieces:?}");

    server.start_again(8_000, 160);
    wait_for_event(&mut a, &MediaEvent::JackBack);
    let pieces = is_heard(&mut a, &mut at_a, &mut ears);
    assert!(pieces[1] > 0.95, "through another server: {pieces:?}");
}
