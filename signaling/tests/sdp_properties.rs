//! What holds for every pair of offers and answers, and for every text.

use mr_sip_signaling::sdp::{
    self, AudioCodec, CryptoKey, Direction, LocalMedia, MediaPlan, Negotiation, SrtpPolicy, without_keys,
};
use proptest::{collection::vec, option, prelude::*, sample::Index};

fn directions() -> impl Strategy<Value = Direction> {
    (any::<bool>(), any::<bool>()).prop_map(|(send, receive)| Direction::new(send, receive))
}

prop_compose! {
    /// Anything that can be configured, at an address of its own, with keys of its own.
    fn local(host: u8)(
        codecs in Just(AudioCodec::ALL.to_vec()).prop_shuffle(),
        how_many in 1..=AudioCodec::ALL.len(),
        (telephone_event, direction, rtcp_mux) in (any::<bool>(), directions(), any::<bool>()),
        ptime_ms in (1u8..=6).prop_map(|steps| steps * 10),
        srtp in prop_oneof![Just(SrtpPolicy::Off), Just(SrtpPolicy::Optional), Just(SrtpPolicy::Required)],
        keys in 1..=2u8,
    ) -> LocalMedia {
        LocalMedia {
            codecs: codecs.into_iter().take(how_many).collect(),
            telephone_event,
            direction,
            rtcp_mux,
            ptime_ms,
            srtp,
            keys: (0..keys).map(|n| CryptoKey::new([host * 10 + n; CryptoKey::LEN])).collect(),
            ..LocalMedia::new(format!("192.0.2.{host}:{}", 4000 + u16::from(host)).parse().unwrap())
        }
    }
}

/// The two ends of one stream see the same from their two sides.
fn mirrored(ours: &MediaPlan, theirs: &MediaPlan) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.codec, theirs.codec);
    prop_assert_eq!(ours.payload_type, theirs.receive_payload_type);
    prop_assert_eq!(ours.receive_payload_type, theirs.payload_type);
    prop_assert_eq!((ours.send, ours.receive), (theirs.receive, theirs.send));
    prop_assert_eq!(ours.rtcp_mux, theirs.rtcp_mux);
    let digits = |plan: &MediaPlan| plan.telephone_event.map(|d| (d.payload_type, d.receive_payload_type, d.clock_hz));
    prop_assert_eq!(digits(ours), digits(theirs).map(|(send, receive, clock)| (receive, send, clock)));
    match (&ours.srtp, &theirs.srtp) {
        (Some(ours), Some(theirs)) => {
            prop_assert_eq!(ours.suite, theirs.suite);
            prop_assert_eq!(&ours.local, &theirs.remote);
            prop_assert_eq!(&ours.remote, &theirs.local);
        }
        (ours, theirs) => prop_assert_eq!(ours, theirs),
    }
    Ok(())
}

/// By these and no other rules do two of us part without an agreement.
fn can_agree(offerer: &LocalMedia, answerer: &LocalMedia) -> bool {
    let codecs = offerer.codecs.iter().any(|codec| answerer.codecs.contains(codec));
    let srtp = !matches!(
        (offerer.srtp, answerer.srtp),
        (SrtpPolicy::Off, SrtpPolicy::Required) | (SrtpPolicy::Required, SrtpPolicy::Off)
    );
    codecs && srtp
}

/// Damage to a text, by its lines: taken away, doubled, swapped, or one of its characters changed.
#[derive(Debug, Clone)]
enum Damage {
    Drop(Index),
    Double(Index),
    Swap(Index, Index),
    Change(Index, Index, char),
    Cut(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::Drop),
        any::<Index>().prop_map(Damage::Double),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::Swap(a, b)),
        (any::<Index>(), any::<Index>(), prop_oneof![prop::char::range(' ', '~'), any::<char>()])
            .prop_map(|(line, at, to)| Damage::Change(line, at, to)),
        any::<Index>().prop_map(Damage::Cut),
    ]
}

fn damaged(text: &str, damages: &[Damage]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for damage in damages {
        if lines.is_empty() {
            break;
        }
        let count = lines.len();
        match damage {
            Damage::Drop(i) => drop(lines.remove(i.index(count))),
            Damage::Double(i) => {
                let line = lines[i.index(count)].clone();
                lines.insert(i.index(count), line);
            }
            Damage::Swap(a, b) => lines.swap(a.index(count), b.index(count)),
            Damage::Change(i, at, to) => {
                let mut chars: Vec<char> = lines[i.index(count)].chars().collect();
                if !chars.is_empty() {
                    let at = at.index(chars.len());
                    chars[at] = *to;
                }
                lines[i.index(count)] = chars.into_iter().collect();
            }
            Damage::Cut(i) => {
                let line = &mut lines[i.index(count)];
                let half: String = line.chars().take(line.chars().count() / 2).collect();
                *line = half;
            }
        }
    }
    lines.join("\r\n") + "\r\n"
}

/// As full as descriptions get.
const FULL: &str = "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\na=sendrecv\r\n\
    a=group:BUNDLE 0 1\r\nm=audio 54400 RTP/SAVPF 109 9 0 8 101 102\r\nc=IN IP6 2001:db8::1\r\na=rtcp:54401 IN IP4 203.0.113.2\r\n\
    a=rtpmap:109 opus/48000/2\r\na=fmtp:109 useinbandfec=1;maxaveragebitrate=20000\r\na=rtpmap:101 telephone-event/8000\r\n\
    a=rtpmap:102 telephone-event/48000\r\na=ptime:20\r\na=maxptime:60\r\na=rtcp-mux\r\n\
    a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERER|2^31 WSH=64\r\n\
    a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIi\r\na=sendonly\r\n\
    m=video 55400 RTP/SAVPF 97\r\na=rtpmap:97 H264/90000\r\nm=image 6000 udptl t38\r\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn two_of_us_agree_on_mirrored_plans(a in local(1), b in local(2)) {
        let (mut ours, mut theirs) = (Negotiation::new(), Negotiation::new());
        let answered = theirs.answer(&ours.offer(&a), &b);
        prop_assert_eq!(answered.is_ok(), can_agree(&a, &b), "{:?}", answered);
        if let Ok((answer, at_theirs)) = answered {
            let at_ours = ours.accept(&answer).map_err(|e| TestCaseError::fail(e.to_string()))?;
            mirrored(&at_ours, &at_theirs)?;
            prop_assert_eq!(at_ours.remote, b.addr);
            prop_assert_eq!(at_theirs.remote, a.addr);
            prop_assert!(at_ours.srtp.is_some() || a.srtp != SrtpPolicy::Required);
        }
    }

    #[test]
    fn and_go_on_agreeing_whoever_offers_next(
        a in local(1),
        b in local(2),
        turns in vec((any::<bool>(), directions(), option::of(local(3))), 1..6),
    ) {
        prop_assume!(can_agree(&a, &b));
        let (mut ends, mut wishes) = ([Negotiation::new(), Negotiation::new()], [a, b]);
        let mut lines = 0;
        for (second, direction, moved) in turns {
            let (offerer, answerer) = if second { (1, 0) } else { (0, 1) };
            wishes[offerer].direction = direction;
            if let Some(moved) = moved {
                // another address and other codecs; the keys stay
                wishes[offerer].addr = moved.addr;
                wishes[offerer].codecs = moved.codecs;
            }
            let offer = ends[offerer].offer(&wishes[offerer]);
            let Ok((answer, at_answerer)) = ends[answerer].answer(&offer, &wishes[answerer]) else {
                continue;
            };
            let at_offerer = ends[offerer].accept(&answer).map_err(|e| TestCaseError::fail(format!("{e}: {offer} {answer}")))?;
            mirrored(&at_offerer, &at_answerer)?;
            let count = answer.lines().filter(|l| l.starts_with("m=")).count();
            prop_assert!(count >= lines, "m-lines never become fewer");
            lines = count;
        }
    }

    #[test]
    fn mangled_descriptions_are_read_or_refused(
        damages in vec(damage(), 0..12),
        local in local(1),
        full in any::<bool>(),
    ) {
        let base = if full { FULL.to_owned() } else { sdp::offer(&local) };
        let text = damaged(&base, &damages);
        let mut call = Negotiation::new();
        if let Ok((answer, plan)) = call.answer(&text, &local) {
            prop_assert!((10..=60).contains(&plan.ptime_ms) && plan.ptime_ms % 10 == 0);
            prop_assert!(plan.payload_type < 128 && plan.receive_payload_type < 128);
            prop_assert!(answer.len() < 4096 && answer.is_ascii());
            prop_assert_eq!(answer.matches("\nm=").count(), text.lines().filter(|l| l.trim().starts_with("m=")).count());
            prop_assert!(plan.srtp.is_some() || local.srtp != SrtpPolicy::Required);
            // and there is a next offer, of the same lines
            prop_assert_eq!(call.offer(&local).matches("\nm=").count(), answer.matches("\nm=").count());
        }
        if let Ok(plan) = sdp::accept(&text, &local) {
            prop_assert!(plan.srtp.is_some() || local.srtp != SrtpPolicy::Required);
        }
        let _ = call.accept(&text);
        let _ = without_keys(&text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*", lines in vec("[vocmakt]=[ -~]{0,40}", 0..40)) {
        let local = LocalMedia::new("192.0.2.1:4000".parse().unwrap());
        for text in [text, format!("v=0\r\n{}", lines.join("\r\n"))] {
            let _ = sdp::answer(&text, &local);
            let _ = sdp::accept(&text, &local);
            let _ = without_keys(&text);
        }
    }
}
