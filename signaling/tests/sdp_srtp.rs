//! SRTP by a=crypto lines (RFC 4568): what is offered, what is taken, what is refused, and that no key shows.

use mr_sip_signaling::sdp::{
    self, AudioCodec, CryptoKey, Direction, LocalMedia, Negotiation, SdpError, SrtpPolicy, SrtpSuite, without_keys,
};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n";
/// Thirty times the byte 0x11, and 0x22.
const ONES: &str = "ERERERERERERERERERERERERERERERERERERERER";
const TWOS: &str = "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIi";
/// Thirty bytes 0xa0 and 0xb0: ours.
const OURS: &str = "oKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCg";
const OURS_32: &str = "sLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCw";

fn key(byte: u8) -> CryptoKey {
    CryptoKey::new([byte; CryptoKey::LEN])
}

fn with(media: &str) -> String {
    format!("{HEAD}{}", media.replace('\n', "\r\n"))
}

fn local(srtp: SrtpPolicy) -> LocalMedia {
    let addr = "192.0.2.1:4000".parse().unwrap();
    LocalMedia { srtp, keys: vec![key(0xa0), key(0xb0)], codecs: vec![AudioCodec::Pcmu], ..LocalMedia::new(addr) }
}

fn line<'a>(sdp: &'a str, start: &str) -> Vec<&'a str> {
    sdp.lines().filter(|l| l.starts_with(start)).collect()
}

// ---- what is offered

#[test]
fn off_offers_no_keys() {
    let offer = sdp::offer(&local(SrtpPolicy::Off));
    assert!(offer.contains("RTP/AVP 0") && !offer.contains("crypto"), "{offer}");
}

#[test]
fn optional_offers_plain_rtp_with_keys_beside_it() {
    let offer = sdp::offer(&local(SrtpPolicy::Optional));
    assert_eq!(line(&offer, "m="), ["m=audio 4000 RTP/AVP 0 101"]);
    assert_eq!(
        line(&offer, "a=crypto"),
        [
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{OURS}"),
            format!("a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:{OURS_32}"),
        ]
    );
}

#[test]
fn required_offers_nothing_but_srtp() {
    let offer = sdp::offer(&local(SrtpPolicy::Required));
    assert_eq!(line(&offer, "m="), ["m=audio 4000 RTP/SAVP 0 101"]);
    assert_eq!(line(&offer, "a=crypto").len(), 2);
}

#[test]
fn one_key_is_offered_in_one_line() {
    for keys in [vec![key(1)], vec![key(1), key(1)]] {
        let offer = sdp::offer(&LocalMedia { keys, ..local(SrtpPolicy::Optional) });
        assert_eq!(line(&offer, "a=crypto").len(), 1, "{offer}");
    }
}

#[test]
fn without_a_key_required_stays_unanswerable_and_optional_stays_plain() {
    let keyless = |srtp| LocalMedia { keys: Vec::new(), ..local(srtp) };
    let plain = with("m=audio 7000 RTP/AVP 0\n");
    assert_eq!(sdp::accept(&plain, &keyless(SrtpPolicy::Required)), Err(SdpError::NoKey));
    assert_eq!(sdp::accept(&plain, &keyless(SrtpPolicy::Optional)).map(|p| p.srtp), Ok(None));
    let secure = with(&format!("m=audio 7000 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{ONES}\n"));
    assert_eq!(sdp::answer(&secure, &keyless(SrtpPolicy::Required)), Err(SdpError::NoKey));
    assert_eq!(sdp::answer(&secure, &keyless(SrtpPolicy::Optional)), Err(SdpError::NoKey));
    let either = secure.replace("SAVP", "AVP");
    assert_eq!(sdp::answer(&either, &keyless(SrtpPolicy::Optional)).map(|(_, p)| p.srtp), Ok(None));
}

// ---- what is answered

#[test]
fn the_answer_keeps_transport_suite_and_tag_of_the_line_it_takes() {
    for proto in ["RTP/SAVP", "RTP/SAVPF", "RTP/AVP", "RTP/AVPF"] {
        for policy in [SrtpPolicy::Optional, SrtpPolicy::Required] {
            let offer = with(&format!(
                "m=audio 7000 {proto} 0\na=crypto:7 AES_CM_256_HMAC_SHA1_80 inline:{ONES}\n\
                 a=crypto:9 AES_CM_128_HMAC_SHA1_32 inline:{TWOS}\na=crypto:10 AES_CM_128_HMAC_SHA1_80 inline:{ONES}\n"
            ));
            let (answer, plan) = sdp::answer(&offer, &local(policy)).unwrap();
            assert_eq!(line(&answer, "m="), [format!("m=audio 4000 {proto} 0")]);
            let ours = format!("a=crypto:9 AES_CM_128_HMAC_SHA1_32 inline:{OURS_32}");
            assert_eq!(line(&answer, "a=crypto"), [ours]);
            let srtp = plan.srtp.expect("keys");
            assert_eq!((srtp.suite, srtp.local, srtp.remote), (SrtpSuite::AesCm128HmacSha1_32, key(0xb0), key(0x22)));
        }
    }
}

#[test]
fn off_refuses_srtp_alone_and_reads_over_keys_beside_plain_rtp() {
    let crypto = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{ONES}\n");
    for proto in ["RTP/SAVP", "RTP/SAVPF"] {
        let offer = with(&format!("m=audio 7000 {proto} 0\n{crypto}"));
        assert_eq!(sdp::answer(&offer, &local(SrtpPolicy::Off)), Err(SdpError::SrtpOff));
    }
    let either = with(&format!("m=audio 7000 RTP/AVP 0\n{crypto}"));
    let (answer, plan) = sdp::answer(&either, &local(SrtpPolicy::Off)).unwrap();
    assert!(plan.srtp.is_none() && !answer.contains("crypto"), "{answer}");
}

#[test]
fn required_refuses_plain_rtp() {
    let local = local(SrtpPolicy::Required);
    assert_eq!(sdp::answer(&with("m=audio 7000 RTP/AVP 0\n"), &local), Err(SdpError::SrtpRequired));
    let unknown = with(&format!("m=audio 7000 RTP/AVP 0\na=crypto:1 AEAD_AES_128_GCM inline:{ONES}\n"));
    assert_eq!(sdp::answer(&unknown, &local), Err(SdpError::NoCommonCrypto));
}

#[test]
fn srtp_without_a_usable_line_is_refused_and_beside_plain_rtp_is_plain() {
    let crypto = format!("a=crypto:1 AEAD_AES_128_GCM inline:{ONES}\n");
    let local = local(SrtpPolicy::Optional);
    for lines in [crypto.as_str(), ""] {
        let secure = with(&format!("m=audio 7000 RTP/SAVP 0\n{lines}"));
        assert_eq!(sdp::answer(&secure, &local), Err(SdpError::NoCommonCrypto));
    }
    let either = with(&format!("m=audio 7000 RTP/AVP 0\n{crypto}"));
    assert_eq!(sdp::answer(&either, &local).map(|(_, plan)| plan.srtp), Ok(None));
}

#[test]
fn of_a_plain_and_an_encrypted_line_the_encrypted_one_is_taken_if_it_may() {
    let offer = with(&format!(
        "m=audio 7000 RTP/AVP 0\nm=audio 7002 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{ONES}\n"
    ));
    for (policy, port, encrypted) in
        [(SrtpPolicy::Off, 7000, false), (SrtpPolicy::Optional, 7002, true), (SrtpPolicy::Required, 7002, true)]
    {
        let (answer, plan) = sdp::answer(&offer, &local(policy)).unwrap();
        assert_eq!((plan.remote.port(), plan.srtp.is_some()), (port, encrypted), "{policy:?}");
        assert_eq!(line(&answer, "m=audio 0 ").len(), 1, "the other is refused: {answer}");
    }
}

#[test]
fn keys_by_dtls_are_refused_in_clear_words() {
    let fingerprint = "a=setup:actpass\na=fingerprint:sha-256 AA:BB\n";
    for policy in [SrtpPolicy::Off, SrtpPolicy::Optional, SrtpPolicy::Required] {
        for proto in ["UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF"] {
            let offer = with(&format!("m=audio 7000 {proto} 0\n{fingerprint}"));
            let error = sdp::answer(&offer, &local(policy)).unwrap_err();
            assert_eq!(error, SdpError::Dtls);
            assert!(error.to_string().contains("DTLS"));
        }
    }
    let either = with(&format!("m=audio 7000 RTP/AVP 0\n{fingerprint}"));
    assert!(sdp::answer(&either, &local(SrtpPolicy::Off)).is_ok(), "it is no more than a wish there");
}

// ---- what a line may say

/// Whether an offer with this line alone is encrypted.
fn is_taken(crypto: &str) -> bool {
    let offer = with(&format!("m=audio 7000 RTP/SAVP 0\na=crypto:{crypto}\n"));
    sdp::answer(&offer, &local(SrtpPolicy::Optional)).is_ok_and(|(_, plan)| plan.srtp.is_some())
}

#[test]
fn lifetimes_and_harmless_parameters_are_read_over() {
    for rest in [
        "",
        "|2^20",
        "|2^31",
        "|2^48",
        "|1048576",
        " WSH=64",
        " WSH=1024",
        " KDR=0",
        " -x",
        " -x=y",
        "|2^31 WSH=128 KDR=0",
    ] {
        assert!(is_taken(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{ONES}{rest}")), "{rest}");
    }
    assert!(is_taken(&format!("999999999   aes_cm_128_hmac_sha1_80   INLINE:{ONES}")));
}

#[test]
fn lines_that_cannot_be_honoured_are_skipped() {
    for rest in [
        "|2^20|1:4",
        "|1:4",
        "|2^49",
        "|0",
        "|2^",
        "|",
        "||",
        "|2^99999999999",
        " UNENCRYPTED_SRTP",
        " UNENCRYPTED_SRTCP",
        " UNAUTHENTICATED_SRTP",
        " KDR=1",
        " KDR=24",
        " WSH=63",
        " WSH=x",
        " FEC_ORDER=FEC_SRTP",
        " FEC_KEY=inline:x",
        " something=new",
        ";inline:ERERERERERERERERERERERERERERERERERERERER|2^20|2:4",
    ] {
        assert!(!is_taken(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{ONES}{rest}")), "{rest}");
    }
    for line in [
        "",
        "1",
        "1 AES_CM_128_HMAC_SHA1_80",
        "1 AES_CM_128_HMAC_SHA1_80 inline:",
        "1 AES_CM_128_HMAC_SHA1_80 inline:ERER",
        "1 AES_CM_128_HMAC_SHA1_80 inline:!!!!ERERERERERERERERERERERERERERERERERER",
        "1 AES_CM_128_HMAC_SHA1_80 uri:ERERERERERERERERERERERERERERERERERERERER",
        "x AES_CM_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERER",
        "-1 AES_CM_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERER",
        "1000000000 AES_CM_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERER",
        "1 F8_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERER",
        "1 AES_CM_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERERERER",
    ] {
        assert!(!is_taken(line), "{line}");
    }
}

#[test]
fn case_5_a_flood_of_keys_is_read_in_part() {
    let flood = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\n".repeat(200);
    let good = format!("a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:{ONES}\n");
    let offer = with(&format!("m=audio 7000 RTP/SAVP 0\n{flood}{good}"));
    assert_eq!(sdp::answer(&offer, &local(SrtpPolicy::Optional)), Err(SdpError::NoCommonCrypto));
}

// ---- what answers are taken

#[test]
fn both_ways_to_answer_an_optional_offer_are_taken() {
    let local = local(SrtpPolicy::Optional);
    assert_eq!(sdp::accept(&with("m=audio 7000 RTP/AVP 0\n"), &local).map(|plan| plan.srtp), Ok(None));
    for proto in ["RTP/AVP", "RTP/SAVP", "RTP/SAVPF"] {
        let answer = format!("m=audio 7000 {proto} 0\na=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:{TWOS}\n");
        let srtp = sdp::accept(&with(&answer), &local).unwrap().srtp.expect("keys");
        assert_eq!((srtp.suite, srtp.local, srtp.remote), (SrtpSuite::AesCm128HmacSha1_32, key(0xb0), key(0x22)));
    }
}

#[test]
fn required_takes_encrypted_answers_alone() {
    let local = local(SrtpPolicy::Required);
    assert_eq!(sdp::accept(&with("m=audio 7000 RTP/AVP 0\n"), &local), Err(SdpError::SrtpRequired));
    let answer = format!("m=audio 7000 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{TWOS}\n");
    assert!(sdp::accept(&with(&answer), &local).unwrap().srtp.is_some());
}

#[test]
fn an_answer_that_encrypts_in_a_way_that_was_not_offered_is_an_error_and_never_plain() {
    for crypto in [
        format!("3 AES_CM_128_HMAC_SHA1_80 inline:{TWOS}"),
        format!("2 AES_CM_128_HMAC_SHA1_80 inline:{TWOS}"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{TWOS} UNENCRYPTED_SRTP"),
        format!("1 AES_CM_128_HMAC_SHA1_80 inline:{TWOS}|2^20|1:4"),
        "1 AES_CM_128_HMAC_SHA1_80 inline:short".into(),
    ] {
        for proto in ["RTP/AVP", "RTP/SAVP"] {
            let answer = with(&format!("m=audio 7000 {proto} 0\na=crypto:{crypto}\n"));
            for policy in [SrtpPolicy::Optional, SrtpPolicy::Required] {
                assert!(matches!(sdp::accept(&answer, &local(policy)), Err(SdpError::BadAnswer(_))), "{crypto}");
            }
        }
    }
    let keyless = with("m=audio 7000 RTP/SAVP 0\n");
    assert!(matches!(sdp::accept(&keyless, &local(SrtpPolicy::Optional)), Err(SdpError::BadAnswer(_))));
    assert_eq!(sdp::accept(&keyless, &local(SrtpPolicy::Off)), Err(SdpError::SrtpOff));
}

// ---- what follows in a call

#[test]
fn the_next_offer_keeps_keys_tags_and_transport() {
    let mut ours = Negotiation::new();
    let offer = with(&format!("m=audio 7000 RTP/SAVP 0\na=crypto:9 AES_CM_128_HMAC_SHA1_32 inline:{TWOS}\n"));
    let local = local(SrtpPolicy::Optional);
    ours.answer(&offer, &local).unwrap();
    let hold = ours.offer(&LocalMedia { direction: Direction::SendOnly, ..local });
    assert_eq!(line(&hold, "m="), ["m=audio 4000 RTP/SAVP 0 101"]);
    assert_eq!(
        line(&hold, "a=crypto"),
        [
            format!("a=crypto:9 AES_CM_128_HMAC_SHA1_32 inline:{OURS_32}"),
            format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{OURS}"),
        ]
    );
}

#[test]
fn a_new_key_is_offered_where_one_is_given() {
    let (mut ours, mut theirs) = (Negotiation::new(), Negotiation::new());
    let mut local = local(SrtpPolicy::Required);
    let remote = LocalMedia { keys: vec![key(5)], ..local.clone() };
    let (answer, _) = theirs.answer(&ours.offer(&local), &remote).unwrap();
    ours.accept(&answer).unwrap();
    local.keys = vec![key(6), key(7)];
    let (answer, at_theirs) = theirs.answer(&ours.offer(&local), &remote).unwrap();
    assert_eq!(ours.accept(&answer).unwrap().srtp.unwrap().local, key(6));
    assert_eq!(at_theirs.srtp.unwrap().remote, key(6));
}

#[test]
fn a_call_agreed_to_be_plain_stays_plain_unless_srtp_is_required() {
    let mut ours = Negotiation::new();
    let optional = local(SrtpPolicy::Optional);
    ours.offer(&optional);
    ours.accept(&with("m=audio 7000 RTP/AVP 0\n")).unwrap();
    assert!(!ours.offer(&optional).contains("crypto"));
    let required = ours.offer(&local(SrtpPolicy::Required));
    assert!(required.contains("RTP/SAVP") && required.contains("a=crypto:1 "), "{required}");
}

// ---- keys do not show

#[test]
fn case_46_keys_are_in_no_debug_and_no_error() {
    let local = local(SrtpPolicy::Required);
    let offer = with(&format!("m=audio 7000 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{ONES}\n"));
    let mut ours = Negotiation::new();
    let (_, plan) = ours.answer(&offer, &local).unwrap();
    ours.offer(&local);
    let shown = format!("{local:?} {plan:?} {ours:?} {:#?}", ours.agreed());
    for secret in [ONES, OURS, OURS_32, "17, 17", "160, 160", "176, 176"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("CryptoKey(redacted)"));
    let broken = with(&format!("m=audio 7000 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{ONES}|1:4\n"));
    let error = sdp::answer(&broken, &local).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("ERER"));
}

#[test]
fn case_46_a_description_can_be_shown_without_its_keys() {
    let text = format!(
        "v=0\r\nk=base64:{ONES}\r\nm=audio 1 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{ONES}|2^20\r\n  \
         A=Crypto:2inline:{ONES}\na=crypto :3 X inline:{ONES}\r\na=x:inline:{ONES}\r\na=key-mgmt:mikey {ONES}\r\na=ptime:20"
    );
    let shown = without_keys(&text);
    assert!(!shown.contains("ERER"), "{shown}");
    assert!(shown.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 redacted\r\n") && shown.ends_with("\r\na=ptime:20"));
    assert_eq!(shown.lines().count(), text.lines().count());
    assert_eq!(without_keys("v=0\r\ns=-\r\n"), "v=0\r\ns=-\r\n");
}

#[test]
fn a_key_is_sixteen_bytes_and_its_salt_fourteen() {
    let key = CryptoKey::new(std::array::from_fn(|i| i as u8));
    assert_eq!((key.master_key().len(), key.master_salt().len()), (16, 14));
    assert_eq!((key.master_key()[15], key.master_salt()[0], key.as_bytes()[29]), (15, 16, 29));
}
