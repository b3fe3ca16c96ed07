//! The samples of RFC 5769, what servers of other times say, and bytes that no server says.

use std::time::{Duration, Instant};

use proptest::{collection::vec, prelude::*};

use super::{message::*, *};

/// RFC 5769 section 2.2, an answer with an IPv4 address.
const SAMPLE_IPV4: &str = "0101003c 2112a442 b7e7a701bc34d686fa87dfae
    8022000b 7465737420766563746f7220 00200008 0001a147e112a643
    00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96";
/// Section 2.3, one with an IPv6 address.
const SAMPLE_IPV6: &str = "01010048 2112a442 b7e7a701bc34d686fa87dfae
    8022000b 7465737420766563746f7220 00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9
    00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c";
/// Section 2.1, a request.
const SAMPLE_REQUEST: &str = "00010058 2112a442 b7e7a701bc34d686fa87dfae
    80220010 5354554e207465737420636c69656e74 00240004 6e0001ff 80290008 932ff9b151263b36
    00060009 6576746a3a68367659202020 00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004 e57a3bcf";

const ID: TransactionId = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// An answer of this kind with these attributes.
fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute, value) in attributes {
        body.extend(attribute.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut all = kind.to_be_bytes().to_vec();
    all.extend((body.len() as u16).to_be_bytes());
    all.extend(bytes("2112a442"));
    all.extend(ID);
    all.extend(body);
    all
}

const SUCCESS: u16 = 0x0101;
const MAPPED: &[u8] = &[0, 1, 0x13, 0xC4, 203, 0, 113, 7];
/// The same address, masked.
const XOR_MAPPED: &[u8] = &[0, 1, 0x13 ^ 0x21, 0xC4 ^ 0x12, 203 ^ 0x21, 0x12, 113 ^ 0xA4, 7 ^ 0x42];

fn answer(attributes: &[(u16, &[u8])]) -> Option<Answer> {
    read(&message(SUCCESS, attributes)).map(|(_, answer)| answer)
}

fn mapped(address: &str) -> Answer {
    Answer::Mapped(address.parse().unwrap())
}

#[test]
fn the_samples_of_rfc_5769_are_read() {
    assert_eq!(read(&bytes(SAMPLE_IPV4)), Some((ID, mapped("192.0.2.1:32853"))));
    assert_eq!(read(&bytes(SAMPLE_IPV6)), Some((ID, mapped("[2001:db8:1234:5678:11:2233:4455:6677]:32853"))));
    assert_eq!(read(&bytes(SAMPLE_REQUEST)), None, "requests of others are not ours to answer");
}

#[test]
fn no_changed_bit_of_a_sample_makes_another_address_or_transaction_of_it() {
    let sample = bytes(SAMPLE_IPV4);
    let right = read(&sample);
    for bit in 0..sample.len() * 8 {
        let mut changed = sample.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        // a change that hides the fingerprint, in its own type or in the length before it, leaves the rest as it was
        let read = read(&changed);
        let harmless = read.is_none() || read == right || matches!(read, Some((ID, Answer::Useless(_))));
        assert!(harmless, "bit {bit}: {read:?}");
    }
    let mut forged = sample;
    forged[47] ^= 1;
    assert_eq!(read(&forged), None, "another address under the same fingerprint");
}

#[test]
fn a_request_is_twenty_bytes_with_the_id_in_them() {
    assert_eq!(request(&ID), bytes("00010000 2112a442 b7e7a701bc34d686fa87dfae"));
    assert!(is_stun(&request(&ID)) && !is_stun(b"OPTIONS sip:a@b SIP/2.0") && !is_stun(b"\r\n\r\n") && !is_stun(b""));
}

#[test]
fn the_masked_address_counts_before_the_plain_one_and_the_first_before_a_second() {
    let other: &[u8] = &[0, 1, 0, 9, 198, 51, 100, 1];
    assert_eq!(answer(&[(1, other), (0x20, XOR_MAPPED)]), Some(mapped("203.0.113.7:5060")));
    assert_eq!(answer(&[(1, MAPPED), (1, other)]), Some(mapped("203.0.113.7:5060")));
    // a server of RFC 3489: SOURCE-ADDRESS and CHANGED-ADDRESS beside it
    assert_eq!(answer(&[(1, MAPPED), (4, other), (5, other)]), Some(mapped("203.0.113.7:5060")));
}

#[test]
fn what_follows_the_integrity_check_does_not_count() {
    let answer = answer(&[(8, &[0; 20]), (0x20, XOR_MAPPED)]);
    assert!(matches!(answer, Some(Answer::Useless(_))), "{answer:?}");
}

#[test]
fn answers_without_a_usable_address_are_told_from_broken_ones() {
    for useless in [
        answer(&[]),
        answer(&[(1, &[0, 1, 0, 0, 203, 0, 113, 7])]),
        answer(&[(1, &[0, 1, 0, 9, 0, 0, 0, 0])]),
        answer(&[(1, &[0, 1, 0, 9, 239, 0, 0, 1])]),
        answer(&[(1, MAPPED), (0x7777, &[])]),
    ] {
        assert!(matches!(useless, Some(Answer::Useless(_))), "{useless:?}");
    }
    assert_eq!(answer(&[(1, MAPPED), (0xF777, &[1])]), Some(mapped("203.0.113.7:5060")), "optional, and unknown");
    for broken in [
        answer(&[(1, &[0, 3, 0, 9, 1, 2, 3, 4])]),
        answer(&[(1, &[0, 2, 0, 9, 1, 2, 3, 4])]),
        answer(&[(1, &[0, 1, 0])]),
        answer(&[(1, MAPPED), (0x8028, &[0; 4])]),
        answer(&[(1, MAPPED), (0x8028, &[0; 4]), (1, MAPPED)]),
    ] {
        assert_eq!(broken, None);
    }
}

#[test]
fn errors_are_told_in_short_and_printable_words() {
    let error = |value: &[u8]| read(&message(0x0111, &[(9, value)])).map(|(_, answer)| answer);
    assert_eq!(error(b"\0\0\x04\x14Un\nknown\x1b"), Some(Answer::Refused(420, "Unknown".into())));
    assert_eq!(error(b"\0\0\x02\x14"), None);
    assert_eq!(error(b"\0\0\x04\x64"), None);
    assert_eq!(error(b"\0\0"), None);
    let long = [b"\0\0\x05\0".as_slice(), &[b'x'; 700]].concat();
    assert!(matches!(error(&long), Some(Answer::Refused(500, words)) if words.len() == 120));
    assert_eq!(read(&message(0x0111, &[])), None, "an error without a code");
}

#[test]
fn an_answer_longer_than_a_datagram_of_any_path_is_dropped() {
    let long = vec![0; 1600];
    assert_eq!(answer(&[(1, MAPPED), (0x8022, &long)]), None);
}

#[test]
fn a_request_is_sent_seven_times_in_thirty_two_seconds_and_given_up_eight_later() {
    let start = Instant::now();
    let mut exchange = Exchange::new(start, ID, "192.0.2.1:3478".parse().unwrap());
    let mut times = vec![0];
    let end = loop {
        let due = exchange.poll_timeout();
        assert_eq!(exchange.handle_timeout(due - Duration::from_millis(1)), Step::Wait);
        let at = (due - start).as_millis();
        match exchange.handle_timeout(due) {
            Step::Send => times.push(at),
            Step::GiveUp => break at,
            Step::Wait => panic!("it was due"),
        }
    };
    // the RFC's own example
    assert_eq!((times.as_slice(), end), ([0, 500, 1500, 3500, 7500, 15_500, 31_500].as_slice(), 39_500));
}

proptest! {
    #[test]
    fn case_27_no_bytes_make_the_reader_panic(data in vec(any::<u8>(), 0..2000)) {
        let _ = read(&data);
    }

    #[test]
    fn case_27_no_attributes_make_the_reader_panic(
        kind in prop_oneof![Just(0x0101_u16), Just(0x0111)],
        attributes in vec((prop_oneof![0_u16..0x30, Just(0x8028), any::<u16>()], vec(any::<u8>(), 0..40)), 0..12),
        cut in any::<prop::sample::Index>(),
        lie in any::<(prop::sample::Index, u8)>(),
    ) {
        let parts: Vec<_> = attributes.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
        let mut whole = message(kind, &parts);
        let _ = read(&whole);
        let _ = read(&whole[..cut.index(whole.len())]);
        let at = lie.0.index(whole.len());
        whole[at] = lie.1;
        let _ = read(&whole);
    }
}
