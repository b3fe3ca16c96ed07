//! Encrypted calls, and what else comes to a media port: two ends on a virtual clock.

#[path = "support/pair.rs"]
mod pair;

use std::net::SocketAddr;

use mr_sip_engine::{MasterKey, MediaEvent, MediaFault, MediaParams, SrtpParams, SrtpSuite};
use pair::{Link, Pair, keys, voice};

const SUITES: [SrtpSuite; 2] = [SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AesCm128HmacSha1_32];

/// Keys for each end, by a number for each direction.
fn encrypted(suite: SrtpSuite, of: [u8; 2]) -> impl Fn(usize, MediaParams) -> MediaParams {
    move |end, params| {
        let key = |n: usize| MasterKey::new([of[n]; 30]);
        MediaParams { srtp: Some(SrtpParams { suite, local: key(end), remote: key(1 - end) }), ..params }
    }
}

/// How much of a second of voice from one end the other heard: 1 is all of it, and nothing else.
fn heard_share(pair: &mut Pair) -> f32 {
    let from = pair.ends[1].heard.len();
    pair.say(0, &(0..8_000).map(voice).collect::<Vec<f32>>());
    pair.run(1_300);
    let energy = |samples: &[f32]| samples.iter().map(|s| s * s).sum::<f32>();
    energy(&pair.ends[1].heard[from..]) / energy(&(0..8_000).map(voice).collect::<Vec<f32>>())
}

#[test]
fn an_encrypted_call_carries_voice_keys_and_reports_over_a_bad_line() {
    for suite in SUITES {
        let link = Link { delay_ms: 30, jitter_ms: 25, loss_percent: 5, doubled_percent: 5, ..Link::default() };
        let mut pair = Pair::with(link, 1, encrypted(suite, [1, 2]));
        pair.run(2_000);
        assert!((0.8..1.1).contains(&heard_share(&mut pair)), "{suite:?}");
        pair.press(0, "159#");
        pair.run(10_000);
        assert_eq!(keys(&pair.ends[1].events), "159#");
        let stats = pair.stats(1);
        assert_eq!((stats.srtp_unauthentic, stats.bad_packets, stats.foreign_packets), (0, 0, 0));
        assert!(stats.srtp_replayed > 10, "what the link doubled: {}", stats.srtp_replayed);
        assert!(stats.far_jitter_ms > 1.0, "reports were understood");
        // nothing of the voice can be read on the wire
        let packet = &pair.ends[0].sent.iter().rfind(|(_, bytes)| bytes[1] & 0x7F == 0).unwrap().1;
        assert!(packet[12..172].iter().filter(|&&byte| byte == 0xFF).count() < 12, "silence is not recognised");
    }
}

#[test]
fn case_24_ten_thousand_bad_tags_do_not_end_a_call() {
    let mut pair = Pair::with(Link::default(), 24, encrypted(SUITES[0], [1, 2]));
    pair.run(1_000);
    let from = pair.ends[0].address;
    let template = pair.ends[0].sent.last().unwrap().1.clone();
    let mut random = fastrand::Rng::with_seed(24);
    for _ in 0..100 {
        for _ in 0..100 {
            let mut forged = template.clone();
            let number = u16::from_be_bytes([forged[2], forged[3]]).wrapping_add(random.u16(1..500));
            forged[2..4].copy_from_slice(&number.to_be_bytes());
            let at = random.usize(12..forged.len());
            forged[at] ^= random.u8(1..);
            pair.ends[1].media.on_packet(pair.now, from, &mut forged);
        }
        pair.run(20);
    }
    let stats = pair.stats(1);
    assert!(stats.srtp_unauthentic > 8_500, "{}", stats.srtp_unauthentic);
    assert_eq!(stats.srtp_unauthentic + stats.srtp_replayed, 10_000);
    assert_eq!(
        (stats.lost, stats.resyncs, stats.concealed_samples),
        (0, 0, 0),
        "not one packet of the call was missed"
    );
    assert!((0.9..1.1).contains(&heard_share(&mut pair)));
    assert!(pair.ends[1].events.is_empty());
}

#[test]
fn plain_packets_are_not_taken_on_an_encrypted_call_and_do_not_latch() {
    let mut pair = Pair::with(Link { loss_percent: 100, ..Link::default() }, 3, encrypted(SUITES[0], [1, 2]));
    // the same host as in the SDP, another port: it would fit
    let near: SocketAddr = "198.51.100.1:9999".parse().unwrap();
    for n in 0..100_u16 {
        let mut plain = vec![0x80, 0];
        plain.extend(n.to_be_bytes());
        plain.extend((u32::from(n) * 160).to_be_bytes());
        plain.extend([9, 9, 9, 9]);
        plain.extend([0; 160]); // as loud as can be
        pair.ends[1].media.on_packet(pair.now, near, &mut plain);
        pair.ends[1].media.on_packet(pair.now, near, &mut [0x80, 200, 0, 1, 9, 9, 9, 9]);
        pair.run(20);
    }
    let stats = pair.stats(1);
    assert_eq!((stats.srtp_unauthentic, stats.received), (100, 0));
    assert!(pair.ends[1].heard.iter().all(|s| s.abs() < 0.01));
    assert!(
        pair.ends[1].events.contains(&MediaEvent::MediaLost { fault: MediaFault::NotAuthenticated }),
        "they are no sign of life either"
    );
    pair.link.loss_percent = 0;
    pair.run(1_000);
    let stats = pair.stats(1);
    assert_eq!((stats.relatches, stats.foreign_packets), (0, 0), "the far end was the first one to be believed");
    assert!(stats.received > 45);
}

#[test]
fn case_22_a_copied_packet_from_elsewhere_does_not_use_up_the_genuine_one() {
    let mut pair = Pair::with(Link { delay_ms: 40, ..Link::default() }, 4, encrypted(SUITES[0], [1, 2]));
    pair.run(1_000);
    let stranger: SocketAddr = "203.0.113.5:4444".parse().unwrap();
    let mut copied = 0;
    for _ in 0..100 {
        pair.run(20);
        // it is faster than the link
        let mut copy = pair.ends[0].sent.last().unwrap().1.clone();
        pair.ends[1].media.on_packet(pair.now, stranger, &mut copy);
        copied += 1;
    }
    let stats = pair.stats(1);
    assert_eq!((stats.foreign_packets, stats.srtp_replayed, stats.lost), (copied, 0, 0));
}

#[test]
fn a_re_invite_with_new_keys_goes_on_without_a_gap_and_with_the_same_keys_keeps_the_counters() {
    let mut pair = Pair::with(Link { delay_ms: 30, ..Link::default() }, 5, encrypted(SUITES[0], [1, 2]));
    pair.run(2_000);
    // the same again, as a hold and its end are
    pair.update(|end, params| MediaParams { send: false, receive: false, ..encrypted(SUITES[0], [1, 2])(end, params) });
    pair.run(500);
    pair.update(encrypted(SUITES[0], [1, 2]));
    pair.run(1_000);
    assert_eq!(pair.stats(1).srtp_unauthentic, 0);
    let replay = pair.ends[0].sent[20].1.clone();
    let from = pair.ends[0].address;
    let before = pair.stats(1).srtp_replayed;
    pair.ends[1].media.on_packet(pair.now, from, &mut replay.clone());
    assert_eq!(pair.stats(1).srtp_replayed, before + 1, "what was before the hold is still known");

    let before = pair.stats(1);
    pair.update(encrypted(SUITES[1], [7, 8]));
    pair.run(1_000);
    let stats = pair.stats(1);
    assert_eq!((stats.srtp_unauthentic, stats.lost), (0, before.lost), "the old key was taken for what was on its way");
    assert_eq!(stats.concealed_samples, before.concealed_samples);
    assert!((0.9..1.1).contains(&heard_share(&mut pair)));
    pair.ends[1].media.on_packet(pair.now, from, &mut replay.clone());
    let after = pair.stats(1);
    assert_eq!(after.received, stats.received + 65, "and is worth nothing afterwards");
    assert_eq!(after.srtp_unauthentic + after.srtp_replayed, stats.srtp_replayed + 1);
}

#[test]
fn reports_go_the_way_of_the_audio_when_that_is_agreed() {
    for srtp in [None, Some(SUITES[0])] {
        let mut pair = Pair::with(Link { delay_ms: 20, jitter_ms: 10, ..Link::default() }, 6, |end, params| {
            let params = MediaParams { rtcp_mux: true, ..params };
            srtp.map_or(params.clone(), |suite| encrypted(suite, [1, 2])(end, params))
        });
        pair.run(15_000);
        let reports = pair.ends[0].sent.iter().filter(|(_, bytes)| (192..=223).contains(&bytes[1])).count();
        assert!((2..=4).contains(&reports), "{reports} reports in 15 s");
        let stats = pair.stats(0);
        assert!(stats.far_jitter_ms > 0.5 && stats.bad_packets == 0, "{stats:?}");
        assert_eq!(stats.lost, 0);
    }
}

#[test]
fn case_26_and_27_stun_and_dtls_are_counted_and_not_answered() {
    let mut pair = Pair::new(Link::default(), 7);
    pair.run(1_000);
    let hello = [&[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100][..], &[1; 100]].concat();
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[5; 12]].concat();
    let broken = [&[0, 1, 0xFF, 0xFC, 0x21, 0x12, 0xA4, 0x42][..], &[5; 12]].concat();
    let stranger: SocketAddr = "203.0.113.5:4444".parse().unwrap();
    let sent = pair.ends[0].sent.len();
    for _ in 0..50 {
        for from in [pair.ends[1].address, stranger] {
            for datagram in [&hello, &binding, &broken] {
                pair.ends[0].media.on_packet(pair.now, from, &mut datagram.clone());
            }
        }
        pair.run(20);
    }
    let stats = pair.stats(0);
    assert_eq!((stats.dtls_packets, stats.stun_packets, stats.bad_packets), (100, 100, 100));
    assert_eq!((stats.foreign_packets, stats.lost, stats.concealed_samples), (0, 0, 0));
    assert_eq!(pair.ends[0].sent.len() - sent, 50, "audio, and nothing but it");
    // they are no media: the far end is missed all the same
    pair.link.loss_percent = 100;
    for _ in 0..150 {
        let from = pair.ends[1].address;
        pair.ends[0].media.on_packet(pair.now, from, &mut binding.clone());
        pair.run(20);
    }
    assert!(pair.ends[0].events.contains(&MediaEvent::MediaLost { fault: MediaFault::NoPackets }));
}
