//! Audio that goes one way or none, and the reason that is told: packets on a virtual clock, and ICMP on loopback.

#[path = "support/engines.rs"]
mod engines;
#[path = "support/pair.rs"]
mod pair;

use std::net::{SocketAddr, UdpSocket};

use engines::{start, wait_for};
use mr_sip_engine::call::{CallCommand, MediaParams};
use mr_sip_engine::{CallId, CallSetup, Codec, MasterKey, MediaEvent, MediaFault, SrtpParams, SrtpSuite};
use pair::{Link, MEDIA_LOST_AFTER, Pair, params};

const STRANGER: &str = "203.0.113.5:4444";

/// A pair whose way is cut: what end 0 gets is what the test gives it.
fn cut() -> Pair {
    Pair::new(Link { loss_percent: 100, ..Link::default() }, 1)
}

fn rtp(payload_type: u8, n: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(n.to_be_bytes());
    packet.extend((u32::from(n) * 160).to_be_bytes());
    packet.extend([9, 9, 9, 9]);
    packet.extend(payload);
    packet
}

/// So many packets of one kind, 20 ms apart, from an address.
fn feed(pair: &mut Pair, count: u16, from: SocketAddr, payload_type: u8, payload: &[u8]) {
    for n in 0..count {
        pair.ends[0].media.on_packet(pair.now, from, &mut rtp(payload_type, n, payload));
        pair.run(20);
    }
}

fn faults(pair: &Pair) -> Vec<MediaFault> {
    let fault = |event: &MediaEvent| match event {
        MediaEvent::MediaLost { fault } | MediaEvent::OneWay { fault } => Some(*fault),
        _ => None,
    };
    pair.ends[0].events.iter().filter_map(fault).collect()
}

#[test]
fn nothing_at_all_is_told_as_that_within_the_time_and_found_again() {
    let mut pair = cut();
    pair.run(MEDIA_LOST_AFTER.as_millis() as u64 + 5);
    assert_eq!(pair.ends[0].events, [MediaEvent::MediaLost { fault: MediaFault::NoPackets }]);
    pair.link.loss_percent = 0;
    pair.run(500);
    assert_eq!(pair.ends[0].events.last(), Some(&MediaEvent::MediaFound), "within half a second");
    assert_eq!(pair.ends[0].events.len(), 2);
}

#[test]
fn packets_from_another_host_are_told_with_its_address() {
    let mut pair = cut();
    let stranger: SocketAddr = STRANGER.parse().unwrap();
    feed(&mut pair, 150, stranger, 0, &[0xFF; 160]);
    assert_eq!(faults(&pair), [MediaFault::OtherSource(stranger)]);
}

#[test]
fn more_is_told_as_more_is_known_and_not_again_and_again() {
    let mut pair = cut();
    pair.run(3_000);
    let stranger: SocketAddr = STRANGER.parse().unwrap();
    for _ in 0..20 {
        feed(&mut pair, 50, stranger, 0, &[0xFF; 160]);
        pair.run(1_000);
    }
    assert_eq!(faults(&pair), [MediaFault::NoPackets, MediaFault::OtherSource(stranger)]);
}

#[test]
fn a_payload_type_that_was_not_agreed_is_told_with_its_number_and_only_of_the_far_end() {
    let mut pair = cut();
    let far = pair.ends[1].address;
    feed(&mut pair, 150, far, 97, &[1; 33]);
    assert_eq!(faults(&pair), [MediaFault::UnknownPayload(97)]);

    let mut pair = cut();
    feed(&mut pair, 150, STRANGER.parse().unwrap(), 97, &[1; 33]);
    assert_eq!(faults(&pair), [MediaFault::NoPackets], "what a stranger sends explains nothing");
}

#[test]
fn wrong_keys_are_told_and_so_is_a_far_end_that_does_not_encrypt() {
    let suite = SrtpSuite::AesCm128HmacSha1_80;
    let key = |n: u8| MasterKey::new([n; 30]);
    let mut pair = Pair::with(Link::default(), 1, |end, params| {
        let ours = SrtpParams { suite, local: key(1), remote: key(2) };
        let theirs = SrtpParams { suite, local: key(3), remote: key(1) };
        MediaParams { srtp: Some(if end == 0 { ours } else { theirs }), ..params }
    });
    pair.run(3_000);
    assert_eq!(faults(&pair), [MediaFault::NotAuthenticated]);

    let mut pair = Pair::with(Link::default(), 1, |end, params| {
        let srtp = (end == 0).then(|| SrtpParams { suite, local: key(1), remote: key(2) });
        MediaParams { srtp, ..params }
    });
    pair.run(3_000);
    assert_eq!(faults(&pair), [MediaFault::NotAuthenticated]);
}

#[test]
fn comfort_noise_and_never_a_word_is_told_and_a_word_makes_it_good() {
    let mut pair = cut();
    let far = pair.ends[1].address;
    feed(&mut pair, 250, far, 13, &[60]);
    assert_eq!(pair.ends[0].events, [MediaEvent::OneWay { fault: MediaFault::OnlyComfortNoise }]);
    pair.link.loss_percent = 0;
    pair.run(1_000);
    assert_eq!(pair.ends[0].events.last(), Some(&MediaEvent::MediaFound));
    // from then on silence may be long
    pair.link.loss_percent = 100;
    feed(&mut pair, 500, far, 13, &[60]);
    assert_eq!(pair.ends[0].events.len(), 2);
}

/// A receiver report of the far end's, with a block about us or without.
fn report(ours: u32, highest: Option<u32>) -> Vec<u8> {
    let blocks = u8::from(highest.is_some());
    let mut packet = vec![0x80 | blocks, 201, 0, 1 + 6 * blocks];
    packet.extend([9, 9, 9, 9]);
    if let Some(highest) = highest {
        packet.extend(ours.to_be_bytes());
        packet.extend([255, 0, 0, 0]);
        packet.extend(highest.to_be_bytes());
        packet.extend([0; 12]);
    }
    packet
}

#[test]
fn a_far_end_that_reports_hearing_nothing_is_told_and_believed_when_it_hears_again() {
    for block in [false, true] {
        let mut pair = Pair::new(Link::default(), 1);
        pair.run(2_000);
        let far = pair.ends[1].address;
        let sent = &pair.ends[0].sent[0].1;
        let ours = u32::from_be_bytes([sent[8], sent[9], sent[10], sent[11]]);
        // its own reports come too, and say the truth; they are left out of this
        pair.link.garbled_percent = 0;
        for _ in 0..3 {
            pair.ends[0].media.on_rtcp(pair.now, far, &mut report(ours, block.then_some(7)));
            pair.run(1_500);
        }
        assert_eq!(faults(&pair), [MediaFault::FarEndHearsNothing], "block: {block}");
        for n in 0..2 {
            pair.ends[0].media.on_rtcp(pair.now, far, &mut report(ours, Some(1_000 + n)));
            pair.run(1_500);
        }
        assert_eq!(pair.ends[0].events.last(), Some(&MediaEvent::MediaFound), "block: {block}");
        assert_eq!(pair.stats(0).bad_packets, 0);
    }
}

#[test]
fn a_far_end_that_hears_us_gives_no_such_alarm_in_a_long_call_and_none_on_hold() {
    let mut pair = Pair::new(Link { loss_percent: 10, jitter_ms: 30, ..Link::default() }, 5);
    pair.run(120_000);
    assert_eq!(pair.ends[0].events, []);
    let held = MediaParams { send: false, ..params(pair.ends[1].address) };
    assert!(pair.ends[0].controls.commands.push(CallCommand::update(held)).is_ok());
    pair.run(60_000);
    assert_eq!(pair.ends[0].events, [], "who is sent nothing hears nothing");
}

#[test]
fn a_closed_port_at_the_far_end_is_told_by_what_comes_back_from_it() {
    let mut engine = start(23_400..=23_409, None);
    // a port of this machine that nobody listens to: bound a moment ago and closed
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = engine.reserve_port().unwrap();
    let media = MediaParams::new(closed, Codec::Pcmu, 0);
    let setup =
        CallSetup { id: CallId(1), label: "c1".to_owned(), far_end: String::new(), port, media, record_to: None };
    let call = engine.add_call(setup).unwrap();
    let lost = wait_for("the loss", || match engine.poll_event() {
        Some((CallId(1), MediaEvent::MediaLost { fault })) => Some(fault),
        Some((CallId(1), MediaEvent::OneWay { fault })) => {
            assert_eq!(fault, MediaFault::Unreachable, "told before the silence is long enough");
            None
        }
        _ => None,
    });
    assert_eq!(lost, MediaFault::Unreachable);
    let stats = call.stats();
    assert!(stats.sent > 50 && stats.send_failures < stats.sent / 2, "{stats:?}");
}
