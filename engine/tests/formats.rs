//! What the two ends may agree on: packet lengths, and the clock of telephone events. Two ends on a virtual clock.

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use mr_sip_engine::{Codec, MediaEvent, MediaParams, TelephoneEvent};
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
            telephone_event: Some(TelephoneEvent { payload_type: 96, clock_rate_hz }),
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
