//! Two ends with each other's keys.

use super::*;
use proptest::prelude::*;

const SUITES: [SrtpSuite; 2] = [SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AesCm128HmacSha1_32];

fn params(suite: SrtpSuite, local: u8, remote: u8) -> SrtpParams {
    SrtpParams { suite, local: MasterKey::new([local; 30]), remote: MasterKey::new([remote; 30]) }
}

fn pair(suite: SrtpSuite) -> (SrtpSession, SrtpSession) {
    (SrtpSession::new(&params(suite, 1, 2)), SrtpSession::new(&params(suite, 2, 1)))
}

fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(u32::from(sequence).wrapping_mul(160).to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend((0..160).map(|n| (n as u16).wrapping_mul(sequence | 1) as u8));
    bytes
}

fn protected(session: &mut SrtpSession, plain: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 1024];
    buffer[..plain.len()].copy_from_slice(plain);
    let length = session.protect_rtp(&mut buffer, plain.len());
    assert!(length > plain.len());
    buffer[..length].to_vec()
}

fn opened(session: &mut SrtpSession, sealed: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut bytes = sealed.to_vec();
    session.unprotect_rtp(Time::ZERO, &mut bytes).map(|length| bytes[..length].to_vec())
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
}

/// What libsrtp makes of these packets: one before the wrap, one behind it, and a report.
#[test]
fn packets_are_sealed_and_opened_as_others_do_it() {
    let head = "0012D6875EED1234BEDE000109090909";
    let first = "DCC1821CFF0A77070B8EFDD56E38D0F57EF81C9BCEBB25C5317662";
    let second = "6F39D1165D8641EB85C1272AD394449CDDB077463949A9F79D17CE";
    let report = hex("80C900015EED1234019A91CD422D2418AE512FCF80000001018E0EB97CC7B2DD61DA");
    for (suite, tags) in
        SUITES.into_iter().zip([["2DEC8392C79E8A05D386C7", "C21FF64DD895DF9DBD20C0"], ["2DEC8392C7", "C21FF64DD8"]])
    {
        let master: [u8; 30] = std::array::from_fn(|n| n as u8 + 1);
        let both = SrtpParams { suite, local: MasterKey::new(master), remote: MasterKey::new(master) };
        let mut session = SrtpSession::new(&both);
        for (sequence, body, tag) in [("FFFF", first, tags[0]), ("0000", second, tags[1])] {
            let sealed = hex(&format!("9080{sequence}{head}{body}{tag}"));
            let mut plain = hex(&format!("9080{sequence}{head}"));
            plain.extend(b"a call is sealed on the wire");
            assert_eq!(protected(&mut session, &plain), sealed);
            assert_eq!(opened(&mut session, &sealed), Ok(plain));
        }
        let plain = hex("80C900015EED123481CA00025EED123401016100");
        let mut bytes = report.clone();
        assert_eq!(session.unprotect_rtcp(Time::ZERO, &mut bytes), Ok(plain.len()));
        assert_eq!(bytes[..plain.len()], plain);
        bytes[plain.len()..].fill(0);
        session.sender.rtcp_index = 1;
        assert_eq!(session.protect_rtcp(&mut bytes, plain.len()), report.len());
        assert_eq!(bytes, report);
    }
}

#[test]
fn what_is_sealed_is_unreadable_and_opens_at_the_other_end_only() {
    for suite in SUITES {
        let (mut a, mut b) = pair(suite);
        let plain = packet(5, 100);
        let sealed = protected(&mut a, &plain);
        assert_eq!(sealed.len(), plain.len() + suite.tag_bytes());
        assert_eq!(sealed[..12], plain[..12]);
        assert!(sealed[12..172].iter().zip(&plain[12..]).filter(|(a, b)| a == b).count() < 16);
        assert_eq!(opened(&mut a, &sealed), Err(Refusal::Unauthentic), "not with our own key");
        assert_eq!(opened(&mut b, &sealed), Ok(plain.clone()));
        assert_eq!(opened(&mut b, &packet(5, 101)), Err(Refusal::Unauthentic), "plain RTP is not taken");
    }
}

#[test]
fn case_24_ten_thousand_bad_tags_change_nothing() {
    for suite in SUITES {
        let (mut a, mut b) = pair(suite);
        let mut random = fastrand::Rng::with_seed(24);
        assert!(opened(&mut b, &protected(&mut a, &packet(5, 100))).is_ok());
        for _ in 0..10_000 {
            // a guessed sequence number may be one that came already; the bytes stay as they were in any case
            let mut forged = packet(random.u32(4..6), random.u16(..));
            forged.extend(std::iter::repeat_with(|| random.u8(..)).take(suite.tag_bytes()));
            let before = forged.clone();
            assert!(b.unprotect_rtp(Time::ZERO, &mut forged).is_err());
            assert_eq!(forged, before);
        }
        let plain = packet(5, 101);
        assert_eq!(opened(&mut b, &protected(&mut a, &plain)), Ok(plain));
    }
}

#[test]
fn case_25_replays_are_dropped() {
    let (mut a, mut b) = pair(SUITES[0]);
    let sealed: Vec<_> = (0..300).map(|n| protected(&mut a, &packet(5, n))).collect();
    for one in &sealed {
        assert!(opened(&mut b, one).is_ok());
    }
    for one in &sealed {
        assert_eq!(opened(&mut b, one), Err(Refusal::Replayed));
    }
}

#[test]
fn case_25_the_wrap_is_survived_with_loss_and_reordering_across_it() {
    for suite in SUITES {
        let (mut a, mut b) = pair(suite);
        let mut random = fastrand::Rng::with_seed(25);
        let mut waiting: Vec<(u32, Vec<u8>, Vec<u8>)> = Vec::new();
        let mut lost = 0;
        // three times around, a third lost, the others up to 40 packets late
        for n in 0..200_000_u32 {
            let plain = packet(5, (n + 60_000) as u16);
            let sealed = protected(&mut a, &plain);
            if random.u32(0..3) == 0 && n > 0 {
                lost += 1;
                continue;
            }
            waiting.push((n + random.u32(0..40), plain, sealed));
            waiting.sort_by_key(|(due, ..)| *due);
            while waiting.first().is_some_and(|(due, ..)| *due <= n) {
                let (_, plain, sealed) = waiting.remove(0);
                assert_eq!(opened(&mut b, &sealed), Ok(plain), "packet {n}");
                assert_eq!(opened(&mut b, &sealed), Err(Refusal::Replayed));
            }
        }
        assert!(lost > 60_000);
        assert_eq!(b.receiver.rtp_sources.rollovers(5), Some(3));
    }
}

#[test]
fn a_loss_of_a_half_of_the_numbers_across_the_wrap_is_survived() {
    let (mut a, mut b) = pair(SUITES[0]);
    for n in (0..3_000_000_u32).step_by(30_000) {
        // the sender counts through all of them
        for lost in n.saturating_sub(29_999)..n {
            a.sender.last = Some((5, i64::from(lost)));
        }
        assert!(opened(&mut b, &protected(&mut a, &packet(5, n as u16))).is_ok(), "{n}");
    }
}

#[test]
fn a_stream_whose_first_packets_were_lost_before_its_wrap_is_understood() {
    let (mut a, mut b) = pair(SUITES[0]);
    let sealed: Vec<_> = (0..40_u16).map(|n| protected(&mut a, &packet(5, 65_530_u16.wrapping_add(n)))).collect();
    for one in &sealed[10..] {
        assert!(opened(&mut b, one).is_ok());
    }
}

#[test]
fn a_new_key_is_taken_at_once_and_the_old_one_for_what_is_on_its_way() {
    let (mut a, mut b) = pair(SUITES[0]);
    assert!(opened(&mut b, &protected(&mut a, &packet(5, 100))).is_ok());
    let on_its_way = protected(&mut a, &packet(5, 101));
    let too_old = protected(&mut a, &packet(5, 102));
    let mut b = {
        let mut next = SrtpSession::new(&params(SUITES[0], 2, 9));
        next.follow(Time::ZERO, &b);
        next
    };
    let mut a = {
        let mut next = SrtpSession::new(&params(SUITES[0], 9, 2));
        next.follow(Time::ZERO, &a);
        next
    };
    assert!(opened(&mut b, &protected(&mut a, &packet(5, 103))).is_ok());
    assert!(opened(&mut b, &on_its_way).is_ok());
    assert_eq!(opened(&mut b, &on_its_way), Err(Refusal::Replayed));
    let later = Time::ZERO + OLD_KEY_LIFETIME;
    assert_eq!(b.unprotect_rtp(later, &mut too_old.clone()), Err(Refusal::Unauthentic));
    // and the way back, whose key stayed the same, has kept its numbers
    let sealed = protected(&mut b, &packet(6, 7));
    assert!(opened(&mut a, &sealed).is_ok());
    assert_eq!(opened(&mut a, &sealed), Err(Refusal::Replayed));
}

#[test]
fn the_same_keys_again_keep_the_rollover_counter_and_the_window() {
    let (mut a, mut b) = pair(SUITES[0]);
    let mut last = Vec::new();
    for n in 0..70_000_u32 {
        last = protected(&mut a, &packet(5, n as u16));
        assert!(opened(&mut b, &last).is_ok());
    }
    let mut again = SrtpSession::new(&params(SUITES[0], 2, 1));
    again.follow(Time::ZERO, &b);
    assert_eq!(opened(&mut again, &last), Err(Refusal::Replayed));
    assert!(opened(&mut again, &protected(&mut a, &packet(5, 70_000_u32 as u16))).is_ok());
}

#[test]
fn a_far_end_that_keeps_its_rollover_counter_through_a_new_key_is_understood() {
    let (mut a, mut b) = pair(SUITES[0]);
    for n in 0..70_000_u32 {
        let sealed = protected(&mut a, &packet(5, n as u16));
        assert!(opened(&mut b, &sealed).is_ok());
    }
    let mut next_b = SrtpSession::new(&params(SUITES[0], 2, 9));
    next_b.follow(Time::ZERO, &b);
    let mut next_a = SrtpSession::new(&params(SUITES[0], 9, 2));
    next_a.sender.last = a.sender.last;
    for n in 70_000..70_100_u32 {
        assert!(opened(&mut next_b, &protected(&mut next_a, &packet(5, n as u16))).is_ok());
    }
}

#[test]
fn another_suite_with_the_same_keys_goes_on_counting() {
    let (mut a, mut b) = pair(SUITES[0]);
    for n in 0..66_000_u32 {
        let sealed = protected(&mut a, &packet(5, n as u16));
        assert!(opened(&mut b, &sealed).is_ok());
    }
    let on_its_way = protected(&mut a, &packet(5, 66_000_u32 as u16));
    let (mut next_a, mut next_b) = pair(SUITES[1]);
    next_a.follow(Time::ZERO, &a);
    next_b.follow(Time::ZERO, &b);
    assert_eq!(next_a.sender.last, Some((5, 66_000)));
    assert!(opened(&mut next_b, &protected(&mut next_a, &packet(5, 66_001_u32 as u16))).is_ok());
    assert!(opened(&mut next_b, &on_its_way).is_ok());
}

#[test]
fn reports_are_sealed_with_80_bits_in_both_suites_and_taken_once() {
    for suite in SUITES {
        let (mut a, mut b) = pair(suite);
        let plain: Vec<u8> = [0x80, 200, 0, 6].into_iter().chain(10..34).collect();
        for _ in 0..300 {
            let mut buffer = [0; 64];
            buffer[..28].copy_from_slice(&plain);
            assert_eq!(a.protect_rtcp(&mut buffer, 28), 42);
            assert_eq!(buffer[..8], plain[..8]);
            assert_ne!(buffer[8..28], plain[8..28]);
            let mut again = buffer;
            let mut forged = buffer;
            forged[9] ^= 1;
            assert_eq!(b.unprotect_rtcp(Time::ZERO, &mut forged[..42]), Err(Refusal::Unauthentic));
            assert_eq!(b.unprotect_rtcp(Time::ZERO, &mut buffer[..42]), Ok(28));
            assert_eq!(buffer[..28], plain);
            assert_eq!(b.unprotect_rtcp(Time::ZERO, &mut again[..42]), Err(Refusal::Replayed));
            assert_eq!(b.unprotect_rtcp(Time::ZERO, &mut plain.clone()), Err(Refusal::Unauthentic));
        }
    }
}

#[test]
fn a_buffer_without_room_for_the_tag_gives_no_packet() {
    let (mut a, _) = pair(SUITES[0]);
    let mut buffer = packet(5, 1);
    let length = buffer.len();
    assert_eq!(a.protect_rtp(&mut buffer, length), 0);
    assert_eq!(a.protect_rtp(&mut buffer, length + 1), 0);
    assert_eq!(a.protect_rtp(&mut buffer, 11), 0);
    assert_eq!(a.protect_rtcp(&mut buffer, length), 0);
    assert_eq!(a.protect_rtcp(&mut buffer, 7), 0);
}

#[test]
fn suites_have_the_names_of_rfc_4568() {
    for suite in SUITES {
        assert_eq!(SrtpSuite::from_name(suite.name()), Some(suite));
    }
    assert_eq!(SrtpSuite::from_name("F8_128_HMAC_SHA1_80"), None);
}

proptest! {
    /// Case 2.
    #[test]
    fn no_datagram_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), first: u8) {
        let (mut a, mut b) = pair(SUITES[1]);
        for session in [&mut a, &mut b] {
            let _ = session.unprotect_rtp(Time::ZERO, &mut bytes);
            let _ = session.unprotect_rtcp(Time::ZERO, &mut bytes);
            if let Some(byte) = bytes.first_mut() {
                *byte = 0x80 | (first & 0x3F);
            }
            let length = bytes.len();
            let _ = session.protect_rtp(&mut bytes, length.saturating_sub(20));
            let _ = session.protect_rtcp(&mut bytes, length.saturating_sub(20));
        }
    }

    #[test]
    fn headers_of_any_shape_stay_readable_and_the_rest_comes_back(csrcs in 0..16_u8, words in prop::option::of(0..20_u8),
                                                                  payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut plain = packet(5, 9)[..12].to_vec();
        plain[0] |= csrcs | if words.is_some() { 0x10 } else { 0 };
        plain.extend(std::iter::repeat_n(7, 4 * usize::from(csrcs)));
        if let Some(words) = words {
            plain.extend([0xBE, 0xDE, 0, words]);
            plain.extend(std::iter::repeat_n(8, 4 * usize::from(words)));
        }
        let header = plain.len();
        plain.extend(&payload);
        let (mut a, mut b) = pair(SUITES[0]);
        let sealed = protected(&mut a, &plain);
        prop_assert_eq!(&sealed[..header], &plain[..header]);
        prop_assert_eq!(opened(&mut b, &sealed), Ok(plain));
    }
}
