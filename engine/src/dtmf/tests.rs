//! Events in and out, at both clocks, over links that lose, double and overtake.

use super::*;

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

/// All packets of some keys: (slot's time in ms, timestamp, payload).
fn packets(keys: &str) -> Vec<(u64, u32, [u8; 4])> {
    let mut sender = Sender::default();
    for key in keys.chars() {
        assert!(sender.push(QueuedDigit::new(key, DigitTiming::default()).unwrap()));
    }
    let mut all = Vec::new();
    for slot in 0..200_u32 {
        if let Slot::Event { timestamp, payload, .. } =
            sender.slot(u32::MAX - 1000_u32.wrapping_sub(slot * 160), 20, 8_000)
        {
            all.push((u64::from(slot) * 20, timestamp, payload));
        }
    }
    all
}

fn heard(packets: impl IntoIterator<Item = (u64, u32, [u8; 4])>) -> String {
    let mut receiver = Receiver::default();
    let mut keys = String::new();
    let mut last = 0;
    for (ms, timestamp, payload) in packets {
        while last < ms {
            last += 5;
            keys.extend(receiver.on_tick(at(last)).map(|h| h.digit));
        }
        keys.extend(receiver.on_packet(at(ms), timestamp, 8_000, &payload).map(|h| h.digit));
    }
    for ms in last..last + 500 {
        keys.extend(receiver.on_tick(at(ms)).map(|h| h.digit));
    }
    keys
}

#[test]
fn all_keys_arrive_once_each_across_the_timestamp_wrap() {
    assert_eq!(heard(packets("0123456789*#ABCD")), "0123456789*#ABCD");
    assert_eq!(heard(packets("1111")), "1111");
}

#[test]
fn a_key_survives_the_loss_of_all_but_any_one_packet() {
    let all = packets("7");
    assert_eq!(all.len(), 9, "six packets of 120 ms, and three ends");
    for keep in &all {
        assert_eq!(heard([*keep]), "7");
    }
}

#[test]
fn duplicates_and_reordering_do_not_make_keys() {
    let all = packets("12");
    assert_eq!(heard(all.iter().flat_map(|p| [*p; 3])), "12");
    let mut late = all.clone();
    let straggler = late.remove(5);
    late.push((straggler.0 + 900, straggler.1, straggler.2));
    late.sort_by_key(|p| p.0);
    assert_eq!(heard(late), "12");
}

#[test]
fn events_that_are_no_keys_and_short_payloads_are_ignored() {
    let mut receiver = Receiver::default();
    assert_eq!(receiver.on_packet(at(0), 1, 8_000, &[16, 0x80, 0, 1]), None);
    assert_eq!(receiver.on_packet(at(0), 1, 8_000, &[255, 0x80, 0, 1]), None);
    assert_eq!(receiver.on_packet(at(0), 1, 8_000, &[1, 0x80, 0]), None);
    assert_eq!(receiver.on_tick(at(1000)), None);
}

#[test]
fn what_is_sent_follows_rfc_4733() {
    let mut sender = Sender::default();
    sender.push(QueuedDigit::new('5', DigitTiming::default()).unwrap());
    let mut expected = Vec::new();
    for n in 1..=6_u16 {
        let [high, low] = (n * 160).to_be_bytes();
        expected.push((n == 1, 1000, [5, 10, high, low]));
    }
    let [high, low] = 960_u16.to_be_bytes();
    expected.extend([(false, 1000, [5, 0x8A, high, low]); 3]);
    for (n, expected) in expected.into_iter().enumerate() {
        let Slot::Event { marker, timestamp, payload, .. } = sender.slot(1000 + 160 * n as u32, 20, 8_000) else {
            panic!("slot {n} is audio");
        };
        assert_eq!((marker, timestamp, payload), expected);
    }
    assert_eq!(sender.slot(9000, 20, 8_000), Slot::Audio);
}

#[test]
fn only_keys_of_a_telephone_are_taken_and_timing_is_kept_within_what_switches_hear() {
    assert!(matches!(QueuedDigit::new('x', DigitTiming::default()), Err(EngineError::BadDigit('x'))));
    assert!(QueuedDigit::new('a', DigitTiming::default()).is_ok());
    let short = DigitTiming { duration: Duration::ZERO, gap: Duration::from_secs(900) };
    let digit = QueuedDigit::new('1', short).unwrap();
    assert_eq!((digit.duration_ms, digit.gap_ms), (40, 8_000));
}

#[test]
fn packets_of_any_length_at_any_clock_tell_the_same_duration() {
    for (ptime_ms, clock_rate_hz) in [(10, 8_000), (20, 48_000), (30, 8_000), (40, 48_000), (60, 48_000)] {
        let mut sender = Sender::default();
        sender.push(QueuedDigit::new('5', DigitTiming::default()).unwrap());
        let mut receiver = Receiver::default();
        let (mut heard, mut events) = (None, 0);
        for n in 0..100_u32 {
            let timestamp = n * u32::from(ptime_ms) * clock_rate_hz / 1_000;
            if let Slot::Event { timestamp, payload, .. } = sender.slot(timestamp, ptime_ms, clock_rate_hz) {
                events += 1;
                heard = heard.or(receiver.on_packet(at(0), timestamp, clock_rate_hz, &payload));
            }
        }
        assert_eq!(events, 120 / u32::from(ptime_ms) + 3);
        assert_eq!(heard, Some(Heard { digit: '5', duration: Duration::from_millis(120) }), "{ptime_ms} ms");
    }
}

#[test]
fn a_key_that_outlasts_the_duration_field_goes_on_in_segments_and_is_one_key() {
    // RFC 4733 section 2.5.1.3; at 8 kHz nothing that may be sent is that long
    let mut sender = Sender::default();
    let long = DigitTiming { duration: Duration::from_secs(8), gap: Duration::ZERO };
    sender.push(QueuedDigit::new('5', long).unwrap());
    let start = u32::MAX - 100_000; // the timestamp wraps within
    let mut packets = Vec::new();
    while let Slot::Event { marker, timestamp, payload, .. } = sender.slot(start, 20, 48_000) {
        packets.push((marker, timestamp, payload));
    }
    assert_eq!(packets.len(), 403);
    assert!(packets[0].0 && packets[1..].iter().all(|p| !p.0), "one marker, however many segments");
    let mut segments: Vec<u32> = packets.iter().map(|p| p.1.wrapping_sub(start)).collect();
    segments.dedup();
    assert_eq!(segments, [0, 65_535, 131_070, 196_605, 262_140, 327_675]);
    assert_eq!(packets.iter().filter(|p| p.2[2..] == [0xFF, 0xFF]).count(), 5, "each full segment says so");

    let told = |packets: &mut dyn Iterator<Item = &(bool, u32, [u8; 4])>| {
        let mut receiver = Receiver::default();
        let mut told: Vec<Heard> = Vec::new();
        for (n, (_, timestamp, payload)) in packets.enumerate() {
            told.extend(receiver.on_packet(at(n as u64 * 20), *timestamp, 48_000, payload));
        }
        told.extend(receiver.on_tick(at(20_000)));
        told
    };
    let whole = Heard { digit: '5', duration: Duration::from_secs(8) };
    assert_eq!(told(&mut packets.iter()), [whole]);
    assert_eq!(told(&mut packets.iter().step_by(7)).len(), 1, "most are lost: one key");
    let without_ends = told(&mut packets.iter().filter(|p| p.2[1] & 0x80 == 0));
    assert_eq!(without_ends.len(), 1);
    assert!(without_ends[0].duration > Duration::from_millis(7_900));
    let without_a_segment = told(&mut packets.iter().filter(|p| p.1 != start.wrapping_add(131_070)));
    assert_eq!(without_a_segment, [whole], "a whole segment is lost");
    assert_eq!(told(&mut packets.iter().flat_map(|p| [p; 3])), [whole], "everything comes three times");
}

#[test]
fn the_same_key_pressed_twice_is_no_segment() {
    let mut receiver = Receiver::default();
    assert_eq!(receiver.on_packet(at(0), 0, 8_000, &[5, 10, 0xFF, 0xFF]), None);
    let first = receiver.on_packet(at(20), 65_536, 8_000, &[5, 10, 0, 160]);
    assert_eq!(first.map(|heard| heard.digit), Some('5'));
    assert!(receiver.on_tick(at(500)).is_some());
}

#[test]
fn any_loss_any_order_and_doubles_tell_each_key_once_at_both_clocks() {
    for clock_rate_hz in [8_000, 48_000] {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..300 {
            let mut sender = Sender::default();
            let keys: String = (0..4).map(|_| KEYS[random.usize(0..16)]).collect();
            for key in keys.chars() {
                sender.push(QueuedDigit::new(key, DigitTiming::default()).unwrap());
            }
            let mut receiver = Receiver::default();
            let mut way: Vec<(u64, u32, [u8; 4])> = Vec::new();
            let mut sent: Vec<Vec<(u64, u32, [u8; 4])>> = Vec::new();
            for n in 0..60_u32 {
                let now = n.wrapping_mul(clock_rate_hz / 50).wrapping_sub(20_000);
                let Slot::Event { timestamp, payload, .. } = sender.slot(now, 20, clock_rate_hz) else { continue };
                let packet = (u64::from(n) * 20, timestamp, payload);
                match sent.last_mut() {
                    Some(event) if event[0].1 == timestamp => event.push(packet),
                    _ => sent.push(vec![packet]),
                }
            }
            for event in &sent {
                // at least one packet of each key arrives; it may be doubled, and up to 40 ms late
                let keep = random.usize(0..event.len());
                for (n, packet) in event.iter().enumerate() {
                    if n == keep || random.bool() {
                        for _ in 0..random.usize(1..3) {
                            way.push((packet.0 + random.u64(0..40), packet.1, packet.2));
                        }
                    }
                }
            }
            way.sort_by_key(|packet| packet.0);
            let mut heard = String::new();
            for ms in 0..2_000 {
                for packet in way.iter().filter(|packet| packet.0 == ms) {
                    heard.extend(receiver.on_packet(at(ms), packet.1, clock_rate_hz, &packet.2).map(|h| h.digit));
                }
                heard.extend(receiver.on_tick(at(ms)).map(|h| h.digit));
            }
            assert_eq!(heard, keys);
        }
    }
}

#[test]
fn keys_in_band_take_their_turn_in_the_same_queue() {
    let mut sender = Sender::default();
    let digit = QueuedDigit::new('5', DigitTiming::default()).unwrap();
    assert!(sender.push(digit.in_band()) && sender.push(digit));
    let mut slots = Vec::new();
    let mut audio = [0.0; 160];
    for n in 0..20 {
        slots.push(sender.slot(n * 160, 20, 8_000));
        if matches!(slots.last(), Some(Slot::Tone { .. })) {
            sender.sound(&mut audio);
            assert!(audio.iter().any(|s| s.abs() > 0.3));
        }
    }
    assert!(slots[..5].iter().all(|slot| *slot == Slot::Tone { ends: false }));
    assert_eq!(slots[5], Slot::Tone { ends: true });
    assert_eq!(slots[6..9], [Slot::Audio; 3]);
    assert!(matches!(slots[9], Slot::Event { marker: true, .. }));
}
