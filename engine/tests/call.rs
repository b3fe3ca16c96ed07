//! Calls between two ends on a virtual clock, over a link with faults.

#[path = "support/pair.rs"]
mod pair;

use std::net::SocketAddr;
use std::time::Duration;

use mr_sip_engine::call::{CallCommand, MediaParams};
use mr_sip_engine::detect::Detectors;
use mr_sip_engine::dtmf::QueuedDigit;
use mr_sip_engine::{Codec, DetectConfig, DigitTiming, KeysBy, MediaEvent, MediaFault, TICK, WriteResult};
use pair::{Link, Pair, header, keys, params, voice};
use proptest::prelude::*;

#[test]
fn a_packet_leaves_every_20_ms_whether_there_is_something_to_say_or_not() {
    let mut pair = Pair::new(Link::default(), 1);
    pair.run(1_000);
    let generation = pair.ends[0].controls.voice.start_response();
    let _ = pair.ends[0].controls.voice.write(generation, &[0.3; 4_000]);
    pair.ends[0].controls.voice.end_response(generation);
    pair.run(1_000);
    let sent = &pair.ends[0].sent;
    assert!((99..=101).contains(&sent.len()), "{}", sent.len());
    for pair in sent.windows(2) {
        let ((at, before), (then, after)) = (&pair[0], &pair[1]);
        let ((_, _, sequence, timestamp), (kind, marker, next, later)) = (header(before), header(after));
        assert_eq!(then.since(*at), Duration::from_millis(20));
        assert_eq!((next, later), (sequence.wrapping_add(1), timestamp.wrapping_add(160)));
        assert_eq!((kind, marker, after.len()), (0, false, 172));
    }
    assert!(header(&sent[0].1).1, "the first packet has the marker");
}

#[test]
fn what_one_end_says_the_other_hears_exactly_on_a_clean_line() {
    let mut pair = Pair::new(Link { delay_ms: 40, ..Link::default() }, 2);
    pair.run(2_000);
    let said: Vec<f32> = (0..8_000).map(voice).collect();
    let generation = pair.ends[0].controls.voice.start_response();
    assert_eq!(pair.ends[0].controls.voice.write(generation, &said), WriteResult::Accepted(8_000));
    pair.ends[0].controls.voice.end_response(generation);
    pair.run(1_500);
    let heard = &pair.ends[1].heard;
    let begin = heard.iter().position(|s| s.abs() > 1e-3).unwrap();
    let mut codes = vec![0; 8_000];
    let mut expected = vec![0.0; 8_000];
    Codec::Pcmu.encode(&said, &mut codes);
    Codec::Pcmu.decode(&codes, &mut expected);
    let lead = expected.iter().position(|s| s.abs() > 1e-3).unwrap();
    assert_eq!(heard[begin..begin + 7_000], expected[lead..lead + 7_000]);
    assert!(pair.ends[0].events.contains(&MediaEvent::ResponseFinished {
        generation,
        played: 8_000,
        interrupted: false
    }));
    assert_eq!(pair.stats(1).lost + pair.stats(1).late, 0);
}

/// RFC 3389: a pause is two packets a second, what is said after it is whole, and the far end counts nothing as lost.
#[test]
fn where_comfort_noise_was_agreed_a_pause_is_not_sent() {
    let quiet = |_, params| MediaParams { comfort_noise: Some(13), ..params };
    let mut pair = Pair::with(Link { delay_ms: 40, ..Link::default() }, 2, quiet);
    pair.run(5_000);
    // the delay finds its size while something is said
    pair.say(0, &(0..16_000).map(voice).collect::<Vec<_>>());
    pair.run(6_000);
    let begun = pair.ends[1].heard.len();
    let said: Vec<f32> = (0..8_000).map(|n| 0.5 * voice(n)).collect();
    pair.say(0, &said);
    pair.run(4_000);
    let sent = &pair.ends[0].sent;
    let noise: Vec<_> = sent.iter().filter(|(_, bytes)| header(bytes).0 == 13).collect();
    assert!(noise.iter().all(|(_, bytes)| bytes[12..] == [70]), "a level and no spectrum");
    assert!((22..27).contains(&noise.len()), "12 s of pauses are {} packets", noise.len());
    let audio: Vec<_> = sent.iter().filter(|(_, bytes)| header(bytes).0 == 0).collect();
    assert!((180..184).contains(&audio.len()), "{}: each silence begins with 200 ms of audio", audio.len());
    let marked = audio.iter().filter(|(_, bytes)| header(bytes).1).count();
    assert_eq!(marked, 3, "what begins and what is said after a pause has the marker");
    for pair in sent.windows(2) {
        let [(_, _, before, earlier), (_, _, after, later)] = [header(&pair[0].1), header(&pair[1].1)];
        assert_eq!(after, before.wrapping_add(1), "no number is left out");
        let apart = pair[1].0.since(pair[0].0).as_millis() as u32;
        assert_eq!(later.wrapping_sub(earlier), 8 * apart, "the timestamp goes on in a pause");
    }
    let mut codes = vec![0; 8_000];
    let mut expected = vec![0.0; 8_000];
    Codec::Pcmu.encode(&said, &mut codes);
    Codec::Pcmu.decode(&codes, &mut expected);
    // its first 5 ms lead over from the noise
    let whole = pair.ends[1].heard[begun..].windows(7_000).any(|part| part == &expected[40..7_040]);
    assert!(whole, "what was said is heard sample by sample");
    let stats = pair.stats(1);
    assert_eq!((stats.lost, stats.late, stats.concealed_samples), (0, 0, 0));
}

/// RFC 7587 section 3.1.3: of a pause five packets a second are sent, and the far end counts nothing as lost.
#[test]
fn where_both_want_it_opus_leaves_pauses_out() {
    let opus = |opus_dtx, ptime_ms| {
        move |_, params: MediaParams| MediaParams {
            opus_dtx,
            ptime_ms,
            ..MediaParams::new(params.remote, Codec::Opus, 111)
        }
    };
    for ptime_ms in [10, 20, 40, 60] {
        let mut pair = Pair::with(Link { delay_ms: 40, ..Link::default() }, 3, opus(true, ptime_ms));
        pair.run(2_000);
        pair.say(0, &(0..16_000).map(voice).collect::<Vec<_>>());
        pair.run(3_000);
        let from = pair.ends[0].sent.len();
        pair.run(10_000);
        let pause = &pair.ends[0].sent[from..];
        assert!((30..=70).contains(&pause.len()), "{ptime_ms} ms: {} packets in 10 s", pause.len());
        let apart = pause.windows(2).map(|two| two[1].0.since(two[0].0)).max().unwrap();
        assert!(apart <= Duration::from_millis(450), "{ptime_ms} ms: nothing for {apart:?}");
        let quiet = pair.ends[1].heard.iter().rev().take(72_000).all(|s| s.abs() < 0.01);
        assert!(quiet, "{ptime_ms} ms");
        pair.say(0, &(0..16_000).map(voice).collect::<Vec<_>>());
        pair.run(3_000);
        for pair in pair.ends[0].sent.windows(2) {
            let [(_, _, before, earlier), (_, marker, after, later)] = [header(&pair[0].1), header(&pair[1].1)];
            assert_eq!(after, before.wrapping_add(1), "no number is left out");
            let apart = pair[1].0.since(pair[0].0).as_millis() as u32;
            assert_eq!(later.wrapping_sub(earlier), 48 * apart, "the timestamp goes on in a pause");
            assert!(marker || apart == u32::from(ptime_ms), "what comes after a pause has the marker");
        }
        let stats = pair.stats(1);
        assert_eq!((stats.lost, stats.late, stats.concealed_samples), (0, 0, 0), "{ptime_ms} ms");
        let loud = pair.ends[1].heard.iter().filter(|s| s.abs() > 0.05).count();
        let mut all = Pair::with(Link { delay_ms: 40, ..Link::default() }, 3, opus(false, ptime_ms));
        for ms in [2_000, 13_000] {
            all.run(ms);
            all.say(0, &(0..16_000).map(voice).collect::<Vec<_>>());
        }
        all.run(3_000);
        let loud_of_all = all.ends[1].heard.iter().filter(|s| s.abs() > 0.05).count();
        assert!(loud.abs_diff(loud_of_all) * 50 < loud_of_all, "{ptime_ms} ms: {loud} of {loud_of_all} are heard");
    }
}

#[test]
fn a_halt_is_heard_within_the_packet_and_its_fade() {
    let mut pair = Pair::new(Link::default(), 3);
    let generation = pair.ends[0].controls.voice.start_response();
    let _ = pair.ends[0].controls.voice.write(generation, &[0.4; 80_000]);
    pair.run(1_000);
    let halted_at = pair.now;
    pair.ends[0].controls.voice.halt();
    pair.run(1_000);
    let silent = [0xFF; 160];
    let last_loud = pair.ends[0].sent.iter().rfind(|(_, bytes)| bytes[12..] != silent).unwrap().0;
    assert!(last_loud.since(halted_at) <= Duration::from_millis(40), "{:?}", last_loud.since(halted_at));
    let played = pair.ends[0].controls.voice.position().played;
    assert!(pair.ends[0].events.contains(&MediaEvent::ResponseFinished { generation, played, interrupted: true }));
    let loud: usize = pair.ends[0].sent.iter().map(|(_, b)| b[12..].iter().filter(|&&c| c != 0xFF).count()).sum();
    assert!((played as i64 - loud as i64).abs() <= 2, "the position is what was sent: {played}, {loud} on the wire");
}

#[test]
fn keys_cross_a_bad_line_in_order_while_the_voice_waits() {
    let link = Link { delay_ms: 30, jitter_ms: 15, loss_percent: 20, doubled_percent: 10, ..Link::default() };
    let mut pair = Pair::new(link, 4);
    let generation = pair.ends[0].controls.voice.start_response();
    let _ = pair.ends[0].controls.voice.write(generation, &[0.3; 8_000]);
    for key in "0123456789*#ABCD".chars() {
        let digit = QueuedDigit::new(key, DigitTiming::default()).unwrap();
        assert!(pair.ends[0].controls.commands.push(CallCommand::Digit(digit)).is_ok());
    }
    pair.ends[0].controls.voice.end_response(generation);
    pair.run(6_000);
    assert_eq!(keys(&pair.ends[1].events), "0123456789*#ABCD");
    assert!(pair.ends[0].events.contains(&MediaEvent::ResponseFinished {
        generation,
        played: 8_000,
        interrupted: false
    }));
    // the audio timestamp goes on through the keys
    let audio: Vec<_> = pair.ends[0].sent.iter().filter(|(_, b)| b[1] & 0x7F == 0).collect();
    for (at, bytes) in &audio {
        let elapsed = at.since(audio[0].0).as_millis() as u32 * 8;
        assert_eq!(header(bytes).3.wrapping_sub(header(&audio[0].1).3), elapsed);
    }
}

#[test]
fn keys_that_were_not_agreed_on_are_neither_heard_nor_noise() {
    // case 29
    let mut pair = Pair::new(Link::default(), 5);
    let without = MediaParams { telephone_event: None, ..params(pair.ends[0].address) };
    assert!(pair.ends[1].controls.commands.push(CallCommand::update(without)).is_ok());
    pair.run(500);
    let digit = QueuedDigit::new('5', DigitTiming::default()).unwrap();
    assert!(pair.ends[0].controls.commands.push(CallCommand::Digit(digit)).is_ok());
    pair.run(1_000);
    assert_eq!(keys(&pair.ends[1].events), "");
    assert_eq!(pair.stats(1).bad_packets, 9);
    assert!(pair.ends[1].heard.iter().all(|s| s.abs() < 0.01));
}

#[test]
fn lost_media_is_told_once_and_so_is_its_return_and_a_hold_is_no_loss() {
    // cases 31 and 32
    let mut pair = Pair::new(Link::default(), 6);
    pair.run(1_000);
    pair.link.loss_percent = 100;
    pair.run(3_000);
    let lost = MediaEvent::MediaLost { fault: MediaFault::NoPackets };
    assert_eq!(pair.ends[0].events, std::slice::from_ref(&lost));
    pair.link.loss_percent = 0;
    pair.run(1_000);
    assert_eq!(pair.ends[0].events, [lost, MediaEvent::MediaFound]);

    let held = MediaParams { send: false, receive: false, ..params(pair.ends[1].address) };
    assert!(pair.ends[0].controls.commands.push(CallCommand::update(held)).is_ok());
    pair.link.loss_percent = 100;
    pair.run(5_000);
    let sent = pair.ends[0].sent.len();
    pair.run(1_000);
    assert_eq!(pair.ends[0].sent.len(), sent, "nothing is sent to a far end that holds us");
    assert_eq!(pair.ends[0].events.len(), 2);
    assert!(pair.ends[0].controls.commands.push(CallCommand::update(params(pair.ends[1].address))).is_ok());
    pair.link.loss_percent = 0;
    pair.run(1_000);
    assert_eq!(pair.ends[0].events.len(), 2, "and its end is none either");
}

#[test]
fn a_stall_makes_no_burst_and_is_counted() {
    // case 43
    for stall_ms in [10, 100, 1_000] {
        let mut pair = Pair::new(Link::default(), 7);
        pair.run(1_000);
        let before = pair.ends[0].sent.len();
        let (last_at, last) = pair.ends[0].sent.last().unwrap().clone();
        pair.now += Duration::from_millis(stall_ms);
        pair.run(500);
        let after = &pair.ends[0].sent[before..];
        assert!(after.windows(2).all(|w| w[1].0.since(w[0].0) >= Duration::from_millis(5)), "{stall_ms}: one a tick");
        assert!(after.len() <= 27, "{stall_ms}: {} packets in half a second", after.len());
        let skipped = pair.stats(0).skipped;
        let slots = (pair.now.since(last_at).as_millis() / 20) as u64;
        assert!(
            (after.len() as u64 + skipped).abs_diff(slots) <= 1,
            "{stall_ms}: {} + {skipped} of {slots}",
            after.len()
        );
        // sequence numbers have no gap, timestamps tell the time
        let (_, _, sequence, timestamp) = header(&last);
        let (_, _, last_sequence, last_timestamp) = header(&after.last().unwrap().1);
        assert_eq!(last_sequence.wrapping_sub(sequence) as usize, after.len());
        let elapsed = after.last().unwrap().0.since(last_at).as_millis() as u32 * 8;
        assert!(last_timestamp.wrapping_sub(timestamp).abs_diff(elapsed) <= 160, "{stall_ms}");
        // the ears' clock is whole: what they did not get is counted
        let ears = pair.ends[0].heard.len() as u64
            + pair.ends[0].controls.ears.lost.load(std::sync::atomic::Ordering::Relaxed);
        assert!(ears.abs_diff((1_500 + stall_ms) * 8) <= 160, "{stall_ms}: {ears}");
    }
}

#[test]
fn strangers_are_not_heard_and_not_answered() {
    // cases 21, 22 and 27
    let mut pair = Pair::new(Link::default(), 8);
    let stranger: SocketAddr = "203.0.113.5:4444".parse().unwrap();
    for n in 0..200_u16 {
        pair.run(20);
        let mut packet = vec![0x80, 0];
        packet.extend(n.to_be_bytes());
        packet.extend(u32::from(n).wrapping_mul(160).to_be_bytes());
        packet.extend([9, 9, 9, 9]);
        packet.extend([0x00; 160]); // as loud as can be
        pair.ends[0].media.on_packet(pair.now, stranger, &mut packet);
        pair.ends[0].media.on_rtcp(pair.now, stranger, &mut [0x81, 203, 0, 1, 9, 9, 9, 9]);
    }
    assert_eq!(pair.stats(0).foreign_packets, 400);
    assert!(pair.ends[0].heard.iter().all(|s| s.abs() < 0.01));
    pair.ends[0].media.tick(pair.now + TICK * 4);
    assert_eq!(pair.ends[0].media.poll_transmit().unwrap().to, pair.ends[1].address);
}

#[test]
fn reports_cross_and_tell_loss_and_round_trip() {
    let mut pair = Pair::new(Link { loss_percent: 10, ..Link::default() }, 9);
    pair.run(30_000);
    let stats = pair.stats(0);
    assert!((0.03..0.2).contains(&stats.far_loss), "{}", stats.far_loss);
    let lost = pair.stats(1).lost as f64 / 1_500.0;
    assert!((0.07..0.13).contains(&lost), "{lost}");
    assert!(stats.mos > 2.0 && stats.mos < 4.2, "{}", stats.mos);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Cases 28 to 30.
    #[test]
    fn over_any_link_the_call_goes_on_and_its_figures_agree(
        seed: u64, delay_ms in 0..200_u64, jitter_ms in 0..150_u64, loss_percent in 0..30_u32, doubled_percent in 0..20_u32,
        garbled_percent in 0..5_u32,
    ) {
        let link = Link { delay_ms, jitter_ms, loss_percent, doubled_percent, garbled_percent };
        let mut pair = Pair::new(link, seed);
        let said: Vec<f32> = (0..32_000).map(voice).collect();
        let generation = pair.ends[0].controls.voice.start_response();
        prop_assert_eq!(pair.ends[0].controls.voice.write(generation, &said), WriteResult::Accepted(32_000));
        pair.ends[0].controls.voice.end_response(generation);
        pair.run(5_000);
        let finished = MediaEvent::ResponseFinished { generation, played: 32_000, interrupted: false };
        prop_assert!(pair.ends[0].events.contains(&finished), "what the line does is no business of the voice");
        let heard = &pair.ends[1].heard;
        prop_assert_eq!(heard.len(), 5_005 * 8, "every tick was filled");
        prop_assert!(heard.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
        let energy = heard.iter().map(|s| s * s).sum::<f32>() / (0.05 * 32_000.0);
        prop_assert!((0.4..1.5).contains(&energy), "{}", energy);
        let stats = pair.stats(1);
        let sent = pair.ends[0].sent.len() as u64;
        prop_assert!(stats.received <= sent + sent * u64::from(doubled_percent) / 50 + 40);
        prop_assert!(stats.lost + stats.duplicates <= sent);
    }

    /// Case 2: datagrams of any kind, from the far end's own address.
    #[test]
    fn no_datagram_breaks_a_call(datagrams in prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            // one that looks like RTP of the call, cut somewhere
            (any::<[u8; 10]>(), prop_oneof![Just(0_u8), Just(8), Just(13), Just(101), Just(200), any::<u8>()],
             prop::collection::vec(any::<u8>(), 0..400)).prop_map(|(head, kind, body)| {
                [&[0x80, kind][..], &head, &body].concat()
            }),
        ], 0..200)) {
        let mut pair = Pair::new(Link::default(), 1);
        let from = pair.ends[1].address;
        let number = datagrams.len() as u64;
        for datagram in &datagrams {
            pair.ends[0].media.on_packet(pair.now, from, &mut datagram.clone());
            pair.ends[0].media.on_rtcp(pair.now, from, &mut datagram.clone());
            pair.run(5);
        }
        pair.run(200);
        let heard = &pair.ends[0].heard;
        prop_assert!(heard.iter().all(|s| s.is_finite() && s.abs() <= 1.2));
        // each one may be bad on both ports, and look enough like a new stream to make one genuine packet look odd
        prop_assert!(pair.stats(0).bad_packets <= 3 * number + 1, "{} of {}", pair.stats(0).bad_packets, number);
        prop_assert!(pair.stats(0).sent as usize >= heard.len() / 160 - 1);
    }
}

#[test]
fn keys_as_tones_are_heard_at_the_far_end_and_never_twice_beside_events() {
    let listening = DetectConfig { keys: true, ..DetectConfig::default() };
    for events in [false, true] {
        let agree = move |_, params: MediaParams| MediaParams {
            telephone_event: params.telephone_event.filter(|_| events),
            ..params
        };
        let mut pair = Pair::with(Link { delay_ms: 30, jitter_ms: 10, ..Link::default() }, 12, agree);
        let detectors = Some(Box::new(Detectors::new(&listening)));
        assert!(pair.ends[1].controls.commands.push(CallCommand::Detect(detectors)).is_ok());
        pair.run(500);
        let all = "0123456789*#ABCD";
        for key in all.chars() {
            let digit = QueuedDigit::new(key, DigitTiming::default()).unwrap();
            let digit = if events { digit } else { digit.in_band() };
            assert!(pair.ends[0].controls.commands.push(CallCommand::Digit(digit)).is_ok());
        }
        pair.run(5_000);
        assert_eq!(keys(&pair.ends[1].events), all, "events: {events}");
        let by = if events { KeysBy::Event } else { KeysBy::Sound };
        let same = |event: &MediaEvent| matches!(event, MediaEvent::Digit { by: way, .. } if *way == by);
        assert!(pair.ends[1].events.iter().all(same));
        assert_eq!(pair.stats(0).digits_sent, 16);
    }
}
