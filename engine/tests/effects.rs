//! Chains of effects: what each does to tones, that none can be made unstable, and that a change is not heard as a click.

use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mr_sip_engine::call::{CallCommand, MediaCall, MediaCallConfig, MediaParams, Retired};
use mr_sip_engine::clock::Time;
use mr_sip_engine::effects::{Direction, EFFECTS, EffectChain, EffectError, MAX_EFFECTS};
use mr_sip_engine::{CallId, Codec, TICK};
use proptest::prelude::*;

fn chain(name: &str, parameters: &[(&'static str, f64)]) -> EffectChain {
    EffectChain::new([(name, parameters.iter().copied())]).unwrap()
}

fn tone(hz: f64, count: usize, peak: f64) -> Vec<f32> {
    (0..count).map(|n| (peak * (n as f64 * hz * TAU / 8_000.0).sin()) as f32).collect()
}

fn level_db(samples: &[f32]) -> f32 {
    10.0 * (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32 + 1e-20).log10()
}

/// What a chain does to a tone, in dB.
fn gain_db(chain: &mut EffectChain, hz: f64) -> f32 {
    let (before, mut after) = (tone(hz, 8_000, 0.05), tone(hz, 8_000, 0.05));
    after.chunks_mut(40).for_each(|piece| chain.process(piece));
    level_db(&after[4_000..]) - level_db(&before[4_000..])
}

#[test]
fn a_gain_is_a_gain() {
    assert!((gain_db(&mut chain("gain", &[("gain_db", -12.0)]), 1_000.0) + 12.0).abs() < 0.01);
    assert!((gain_db(&mut chain("gain", &[("gain_db", 20.0)]), 300.0) - 20.0).abs() < 0.01);
}

#[test]
fn the_equaliser_raises_and_lowers_what_it_is_told_to() {
    let mut low = chain("equaliser", &[("low_hz", 400.0), ("low_db", 10.0)]);
    assert!((gain_db(&mut low, 60.0) - 10.0).abs() < 0.5);
    assert!(gain_db(&mut low, 3_000.0).abs() < 0.3);
    let mut mid = chain("equaliser", &[("mid_hz", 1_200.0), ("mid_q", 2.0), ("mid_db", -9.0)]);
    assert!((gain_db(&mut mid, 1_200.0) + 9.0).abs() < 0.1);
    assert!(gain_db(&mut mid, 100.0).abs() < 0.3);
    let mut high = chain("equaliser", &[("high_hz", 2_000.0), ("high_db", 6.0)]);
    assert!((gain_db(&mut high, 3_800.0) - 6.0).abs() < 0.3);
    assert!(gain_db(&mut high, 200.0).abs() < 0.3);
}

#[test]
fn band_passes_pass_their_band() {
    let mut band = chain("band_pass", &[("low_hz", 500.0), ("high_hz", 2_000.0)]);
    assert!(gain_db(&mut band, 1_000.0).abs() < 0.5);
    assert!((gain_db(&mut band, 500.0) + 3.0).abs() < 0.3, "the edge is at -3 dB");
    assert!(gain_db(&mut band, 125.0) < -40.0);
    assert!(gain_db(&mut band, 3_800.0) < -40.0);
}

#[test]
fn the_phone_sounds_like_one_and_bends_what_is_loud() {
    let mut phone = chain("phone", &[]);
    assert!(gain_db(&mut phone, 1_000.0).abs() < 0.5);
    assert!(gain_db(&mut phone, 100.0) < -30.0);
    let mut loud = tone(1_000.0, 8_000, 1.0);
    loud.chunks_mut(40).for_each(|piece| phone.process(piece));
    let peak = loud[4_000..].iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
    assert!((0.4..0.52).contains(&peak), "{peak}");
}

#[test]
fn what_cannot_be_is_refused_with_what_is_allowed() {
    let refused = |name: &str, parameters: &[(&'static str, f64)]| {
        EffectChain::new([(name, parameters.iter().copied())]).unwrap_err().to_string()
    };
    assert_eq!(refused("reverb", &[]), "there is no effect \"reverb\"; there are gain, equaliser, band_pass, phone");
    assert_eq!(refused("gain", &[("db", 1.0)]), "`gain` has no parameter \"db\"; it has gain_db");
    assert_eq!(refused("gain", &[("gain_db", 30.0)]), "`gain`: `gain_db`: 30: from -60 to 24");
    assert_eq!(refused("gain", &[("gain_db", f64::NAN)]), "`gain`: `gain_db`: NaN: from -60 to 24");
    assert_eq!(
        refused("band_pass", &[("low_hz", 2_000.0), ("high_hz", 1_000.0)]),
        "`band_pass`: `low_hz` 2000 must be below `high_hz` 1000"
    );
    let nine = std::iter::repeat_n(("phone", [("drive_db", 0.0)]), MAX_EFFECTS + 1);
    assert_eq!(EffectChain::new(nine).unwrap_err(), EffectError::TooMany { count: 9 });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    /// Whatever is accepted is stable: full-scale noise goes in, and after it silence comes out.
    #[test]
    fn every_chain_that_can_be_built_is_stable(
        picks in prop::collection::vec((0..EFFECTS.len(), prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), 0.0..=1.0], 7)), 1..=MAX_EFFECTS),
        seed: u64,
    ) {
        let named = picks.iter().map(|(index, shares)| {
            let kind = &EFFECTS[*index];
            let values = kind.parameters.iter().zip(shares).map(|(parameter, share)| {
                let (low, high) = (*parameter.range.start(), *parameter.range.end());
                (parameter.name, low + share * (high - low))
            });
            (kind.name, values.collect::<Vec<_>>())
        });
        match EffectChain::new(named) {
            Err(EffectError::Contradiction { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok(mut chain) => {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut samples: Vec<f32> = (0..8_000).map(|_| if random.bool() { 1.0 } else { -1.0 }).collect();
                samples.resize(88_000, 0.0);
                samples.chunks_mut(40).for_each(|piece| chain.process(piece));
                prop_assert!(samples.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
                prop_assert!(samples[80_000..].iter().all(|s| s.abs() < 1e-3), "it rings on");
            }
        }
    }
}

#[test]
fn changing_a_chain_on_either_side_of_a_call_does_not_click_and_gives_the_old_one_back() {
    let remote: SocketAddr = "198.51.100.1:4000".parse().unwrap();
    let (mut call, mut controls) = MediaCall::new(MediaCallConfig {
        id: CallId(1),
        params: MediaParams::new(remote, Codec::Pcmu, 0),
        media_lost_after: Duration::from_secs(30),
        start: Time::ZERO,
        start_instant: Instant::now(),
        seed: 1,
        phase: 0,
        jack: None,
        record: None,
    });
    let generation = controls.voice.start_response();
    let said = tone(200.0, 32_000, 0.3);
    let _ = controls.voice.write(generation, &said);
    let (mut heard, mut sent, mut replaced) = (Vec::new(), Vec::new(), 0);
    for tick in 0..800_u32 {
        let now = Time::ZERO + TICK * tick;
        if tick % 4 == 0 {
            let number = (tick / 4) as u16;
            let at = usize::from(number) * 160;
            let mut packet =
                [&[0x80, 0][..], &number.to_be_bytes(), &(at as u32).to_be_bytes(), &[0, 0, 0, 9]].concat();
            packet.resize(172, 0);
            Codec::Pcmu.encode(&said[at..at + 160], &mut packet[12..]);
            call.on_packet(now, remote, &mut packet);
        }
        // every half second other gains, then none
        let gains = [0.0, -12.0, 0.0, -20.0];
        if tick % 100 == 50 {
            for direction in [Direction::Caller, Direction::Agent] {
                let gain = gains[(tick / 100) as usize % 4];
                let chain = (gain != 0.0).then(|| Box::new(chain("gain", &[("gain_db", gain)])));
                assert!(controls.commands.push(CallCommand::Effects(direction, chain)).is_ok());
            }
        }
        call.tick(now);
        while let Some(packet) = call.poll_transmit() {
            if !packet.rtcp {
                sent.extend(packet.bytes[12..].iter().map(|&byte| decoded(byte)));
            }
        }
        while let Some(retired) = call.poll_retired() {
            replaced += u32::from(matches!(retired, Retired::Effects(_)));
        }
        while let Ok(sample) = controls.ears.samples.pop() {
            heard.push(sample);
        }
    }
    assert_eq!(replaced, 6, "three changes had something before them, on both sides");
    // the steepest step of the tone itself is 0.047; its quantised steps add up to 0.016
    for (name, side) in [("heard", &heard), ("sent", &sent)] {
        let jump = side[2_000..].windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0_f32, f32::max);
        assert!(jump < 0.07, "{name}: {jump}");
        let levels: Vec<f32> = (0..7).map(|half| level_db(&side[half * 4_000 + 2_600..half * 4_000 + 5_800])).collect();
        let quietest = levels.iter().copied().fold(f32::INFINITY, f32::min);
        let loudest = levels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!((loudest + 13.5).abs() < 1.0 && (quietest + 33.5).abs() < 1.0, "{name}: {levels:?}");
    }
}

fn decoded(byte: u8) -> f32 {
    let mut samples = [0.0];
    Codec::Pcmu.decode(&[byte], &mut samples);
    samples[0]
}
