//! What the two ends may agree on: codecs, packet lengths, the clock of telephone events. Two ends on a virtual clock.

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use mr_sip_engine::{Codec, MasterKey, MediaEvent, MediaParams, SrtpParams, SrtpSuite, TelephoneEvent};
use pair::{Link, Pair, header, keys, voice};

fn with_ptime(ptime_ms: u16) -> impl Fn(usize, MediaParams) -> MediaParams {
    move |_, params| MediaParams { ptime_ms, ..params }
}

#[test]
fn packets_of_every_length_leave_on_time_and_are_heard_exactly() {
    for ptime_ms in [10, 20, 30, 40, 60] {
        let mut pair = Pair::with(Link { delay_ms: 40, ..Link::default() }, 1, with_ptime(ptime_ms));
        pair.run(3_000);
        let said: Vec<f32> = (0..8_000).map(voice).collect();
        pair.say(0, &said);
        pair.run(1_800);
        let samples = usize::from(ptime_ms) * 8;
        for two in pair.ends[0].sent.windows(2) {
            let ((at, before), (then, after)) = (&two[0], &two[1]);
            assert_eq!(then.since(*at), Duration::from_millis(ptime_ms.into()));
            assert_eq!(after.len(), 12 + samples);
            assert_eq!(header(after).3.wrapping_sub(header(before).3) as usize, samples);
        }
        let mut codes = vec![0; 8_000];
        let mut expected = vec![0.0; 8_000];
        Codec::Pcmu.encode(&said, &mut codes);
        Codec::Pcmu.decode(&codes, &mut expected);
        let begin = |samples: &[f32]| samples.iter().position(|s| s.abs() > 1e-3).unwrap();
        let (heard, from) = (&pair.ends[1].heard, begin(&expected));
        let at = begin(heard);
        assert_eq!(heard[at..at + 7_500], expected[from..from + 7_500], "{ptime_ms} ms");
        assert_eq!(pair.stats(1).lost + pair.stats(1).concealed_samples, 0);
    }
}

#[test]
fn a_change_of_the_packet_length_in_mid_call_is_not_heard() {
    let mut pair = Pair::with(Link { delay_ms: 30, ..Link::default() }, 2, with_ptime(20));
    pair.run(2_000);
    pair.say(0, &(0..40_000).map(voice).collect::<Vec<f32>>());
    for ptime_ms in [60, 10, 30, 40, 20] {
        pair.update(with_ptime(ptime_ms));
        pair.run(805);
    }
    pair.run(2_000);
    for two in pair.ends[0].sent.windows(2) {
        let ((at, before), (then, after)) = (&two[0], &two[1]);
        let elapsed = then.since(*at).as_millis() as u32 * 8;
        let samples = (after.len() - 12) as u32;
        // the timestamp is that of a packet's first sample
        let stepped = header(after).3.wrapping_sub(header(before).3);
        assert_eq!(stepped + samples, elapsed + (before.len() - 12) as u32, "the timestamp tells the time");
        assert!(elapsed <= 120 * 8);
    }
    let stats = pair.stats(1);
    assert_eq!((stats.lost, stats.resyncs, stats.bad_packets), (0, 0, 0));
    assert!(pair.ends[0].events.iter().any(|e| matches!(e, MediaEvent::ResponseFinished { played: 40_000, .. })));
    let steepest = pair.ends[1].heard.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
    assert!(steepest < 0.15, "no click: {steepest}");
}

#[test]
fn stalls_make_no_burst_with_packets_of_any_length() {
    // case 43
    for ptime_ms in [10, 30, 60] {
        for stall_ms in [35, 100, 1_000] {
            let mut pair = Pair::with(Link::default(), 3, with_ptime(ptime_ms));
            pair.run(1_000);
            let before = pair.ends[0].sent.len();
            let (last_at, last) = pair.ends[0].sent.last().unwrap().clone();
            pair.now += Duration::from_millis(stall_ms);
            pair.run(600);
            let after = &pair.ends[0].sent[before..];
            assert!(after.windows(2).all(|w| w[1].0.since(w[0].0) >= Duration::from_millis(5)), "one a tick");
            let due = pair.now.since(last_at).as_millis() as u64 / u64::from(ptime_ms);
            assert!((after.len() as u64 + pair.stats(0).skipped).abs_diff(due) <= 1, "{ptime_ms}, {stall_ms}");
            let elapsed = after.last().unwrap().0.since(last_at).as_millis() as u32 * 8;
            let told = header(&after.last().unwrap().1).3.wrapping_sub(header(&last).3);
            assert!(told.abs_diff(elapsed) <= u32::from(ptime_ms) * 8, "{ptime_ms}, {stall_ms}: {told} of {elapsed}");
        }
    }
}

#[test]
fn keys_cross_at_either_clock_in_packets_of_any_length() {
    for (ptime_ms, clock_rate_hz) in [(10, 8_000), (30, 8_000), (20, 48_000), (60, 48_000)] {
        let link = Link { delay_ms: 30, jitter_ms: 15, loss_percent: 10, ..Link::default() };
        let mut pair = Pair::with(link, 4, |_, params| MediaParams {
            ptime_ms,
            telephone_event: Some(TelephoneEvent::new(96, clock_rate_hz)),
            ..params
        });
        pair.press(0, "0123456789*#ABCD");
        pair.run(9_000);
        assert_eq!(keys(&pair.ends[1].events), "0123456789*#ABCD", "{ptime_ms} ms, {clock_rate_hz} Hz");
        for event in &pair.ends[1].events {
            let MediaEvent::Digit { duration, .. } = event else { continue };
            assert!((30..=120).contains(&duration.as_millis()), "{ptime_ms} ms, {clock_rate_hz} Hz: {duration:?}");
        }
    }
}

const RATE: usize = 8_000;

/// Harmonics of a gliding pitch under syllables, with nothing below the telephone band.
fn speech(n: usize) -> f32 {
    let t = n as f32 / RATE as f32;
    let phase = std::f32::consts::TAU * (220.0 * t - 6.0 * (t * 2.1).cos());
    let envelope = (t * 22.0).sin().max(0.0);
    0.25 * envelope * (2..12).map(|h| (phase * h as f32).sin() / h as f32).sum::<f32>()
}

/// How like the two are at the best delay in a window of 60 ms, piece by piece: the middle piece of all.
fn likeness(said: &[f32], heard: &[f32]) -> f32 {
    const PIECE: usize = 1_600;
    let mut all: Vec<f32> = (0..said.len() / PIECE)
        .map(|n| {
            let piece = &said[n * PIECE..(n + 1) * PIECE];
            let energy: f32 = piece.iter().map(|s| s * s).sum();
            (0..3_000)
                .filter_map(|delay| heard.get(n * PIECE + delay..(n + 1) * PIECE + delay))
                .map(|other| {
                    let dot: f32 = piece.iter().zip(other).map(|(a, b)| a * b).sum();
                    dot / (energy * other.iter().map(|s| s * s).sum::<f32>()).sqrt().max(1e-9)
                })
                .fold(0.0, f32::max)
        })
        .collect();
    all.sort_by(f32::total_cmp);
    all[all.len() / 2]
}

fn agreed(codec: Codec, suite: Option<SrtpSuite>) -> impl Fn(usize, MediaParams) -> MediaParams {
    move |end, params| {
        // where numbers are free, each end has its own
        let numbers = match codec {
            Codec::Pcma => [8, 8],
            Codec::G722 => [9, 9],
            Codec::Opus => [111, 96],
            _ => [0, 0],
        };
        let key_numbers = [101, 97];
        let key = |n: usize| MasterKey::new([n as u8 + 1; 30]);
        MediaParams {
            rtcp_mux: suite.is_some(),
            srtp: suite.map(|suite| SrtpParams { suite, local: key(end), remote: key(1 - end) }),
            telephone_event: Some(TelephoneEvent {
                payload_type: key_numbers[1 - end],
                receive_payload_type: key_numbers[end],
                clock_rate_hz: codec.clock_rate_hz(),
            }),
            receive_payload_type: numbers[end],
            ..MediaParams::new(params.remote, codec, numbers[1 - end])
        }
    }
}

const CODECS: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];

#[test]
fn every_codec_carries_speech_and_keys_plain_and_encrypted_with_and_without_loss() {
    for codec in CODECS {
        for suite in [None, Some(SrtpSuite::AesCm128HmacSha1_80), Some(SrtpSuite::AesCm128HmacSha1_32)] {
            for loss_percent in [0, 10] {
                let link = Link { delay_ms: 30, jitter_ms: 10, loss_percent, ..Link::default() };
                let mut pair = Pair::with(link, 7, agreed(codec, suite));
                pair.run(3_000);
                let from = pair.ends[1].heard.len();
                let said: Vec<f32> = (0..4 * RATE).map(speech).collect();
                pair.say(0, &said);
                pair.run(4_500);
                let like = likeness(&said, &pair.ends[1].heard[from..]);
                let expected = match (codec, loss_percent) {
                    (Codec::Opus, 0) => 0.9,
                    (_, 0) => 0.98,
                    (Codec::Opus, _) => 0.85,
                    _ => 0.9,
                };
                assert!(like > expected, "{codec:?} {suite:?} {loss_percent} %: {like}");
                pair.press(0, "12#");
                pair.run(1_500);
                assert_eq!(keys(&pair.ends[1].events), "12#", "{codec:?} {suite:?} {loss_percent} %");
                let stats = pair.stats(1);
                assert_eq!((stats.bad_packets, stats.srtp_unauthentic, stats.resyncs), (0, 0, 0));
                assert!(pair.ends[1].heard.iter().all(|s| s.abs() <= 1.0));
                if codec == Codec::Opus && loss_percent > 0 {
                    assert!(stats.recovered_samples > 160, "{}", stats.recovered_samples);
                }
            }
        }
    }
}

#[test]
fn opus_and_g722_are_sent_in_packets_of_every_length_that_they_have() {
    for (codec, ptimes) in [(Codec::G722, &[10, 20, 30, 40, 60][..]), (Codec::Opus, &[10, 20, 40, 60])] {
        for &ptime_ms in ptimes {
            let link = Link { delay_ms: 30, jitter_ms: 10, loss_percent: 3, ..Link::default() };
            let agree = agreed(codec, None);
            let mut pair = Pair::with(link, 8, |end, params| MediaParams { ptime_ms, ..agree(end, params) });
            pair.run(2_000);
            let from = pair.ends[1].heard.len();
            let said: Vec<f32> = (0..2 * RATE).map(speech).collect();
            pair.say(0, &said);
            pair.run(2_500);
            let like = likeness(&said, &pair.ends[1].heard[from..]);
            assert!(like > 0.9, "{codec:?} {ptime_ms} ms: {like}");
            let step = u32::from(ptime_ms) * codec.clock_rate_hz() / 1_000;
            for two in pair.ends[0].sent.windows(2) {
                assert_eq!(two[1].0.since(two[0].0), Duration::from_millis(ptime_ms.into()));
                assert_eq!(header(&two[1].1).3.wrapping_sub(header(&two[0].1).3), step);
            }
            let jitter = pair.stats(1).jitter_ms;
            assert!((0.5..8.0).contains(&jitter), "{codec:?} {ptime_ms} ms: {jitter} ms, whatever the clock is");
        }
    }
}

#[test]
fn case_29_comfort_noise_and_flips_to_g711_make_no_noise_beside_any_codec() {
    for codec in [Codec::G722, Codec::Opus] {
        let mut pair = Pair::with(Link { delay_ms: 20, ..Link::default() }, 9, agreed(codec, None));
        pair.run(1_000);
        let from = pair.ends[0].address;
        let ssrc: [u8; 4] = pair.ends[0].sent[0].1[8..12].try_into().unwrap();
        let clock = codec.clock_rate_hz() / 1_000;
        let (_, _, sequence, timestamp) = header(&pair.ends[0].sent.last().unwrap().1);
        // the far end now sends what this test makes
        pair.link.loss_percent = 100;
        for n in 1..=100_u16 {
            let (kind, payload) = match n {
                1..30 => (13, vec![60]),
                30..60 => (0, vec![0xFF; 160]),
                60..80 => (8, vec![0xD5; 160]),
                // of the agreed codec, and broken
                _ => (pair.ends[0].sent[0].1[1] & 0x7F, (0..90).map(|i| (i * 37 + n) as u8).collect()),
            };
            let mut packet = vec![0x80, kind];
            packet.extend(sequence.wrapping_add(n).to_be_bytes());
            packet.extend(timestamp.wrapping_add(u32::from(n) * 20 * clock).to_be_bytes());
            packet.extend(ssrc);
            packet.extend(payload);
            pair.ends[1].media.on_packet(pair.now, from, &mut packet);
            pair.run(20);
        }
        let until = pair.ends[1].heard.len() - 20 * 160;
        assert!(pair.ends[1].heard[..until].iter().all(|s| s.abs() < 0.05), "{codec:?}");
        assert!(pair.ends[1].heard.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
    }
}

#[test]
fn a_re_invite_changes_the_codec_in_mid_call() {
    let mut pair = Pair::with(Link { delay_ms: 30, ..Link::default() }, 10, agreed(Codec::Pcmu, None));
    pair.run(1_000);
    for codec in [Codec::Opus, Codec::G722, Codec::Opus, Codec::Pcma, Codec::G722, Codec::Pcmu] {
        pair.update(agreed(codec, None));
        pair.run(1_000);
        let from = pair.ends[1].heard.len();
        let said: Vec<f32> = (0..RATE).map(speech).collect();
        pair.say(0, &said);
        pair.run(1_500);
        let like = likeness(&said, &pair.ends[1].heard[from..]);
        assert!(like > 0.85, "{codec:?}: {like}");
    }
    let steepest = pair.ends[1].heard.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
    assert!(steepest < 0.7, "no click: {steepest}");
}
