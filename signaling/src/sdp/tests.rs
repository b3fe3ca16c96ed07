use super::*;

fn local() -> LocalMedia {
    LocalMedia::new("192.0.2.1:4000".parse().unwrap())
}

fn digits(plan: &MediaPlan) -> Option<(u8, u8, u32)> {
    plan.telephone_event.map(|d| (d.payload_type, d.receive_payload_type, d.clock_hz))
}

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n";

fn with(media: &str) -> String {
    format!("{HEAD}{}", media.replace('\n', "\r\n"))
}

#[test]
fn an_offer_is_answered_and_the_answer_accepted() {
    let offered = offer(&local());
    let mut theirs = local();
    theirs.addr = "198.51.100.7:6000".parse().unwrap();
    let (answered, plan) = answer(&offered, &theirs).unwrap();
    assert_eq!(plan.remote, local().addr);
    assert_eq!((plan.codec, plan.payload_type, digits(&plan)), (AudioCodec::Opus, 111, Some((110, 110, 48_000))));
    assert_eq!((plan.ptime_ms, plan.send, plan.receive), (20, true, true));
    let plan = accept(&answered, &local()).unwrap();
    assert_eq!(plan.remote, theirs.addr);
    assert_eq!((plan.payload_type, digits(&plan)), (111, Some((110, 110, 48_000))));
}

#[test]
fn the_offerers_order_and_payload_types_count() {
    let mut local = local();
    local.codecs = vec![AudioCodec::Pcmu, AudioCodec::Pcma];
    let text = with(
        "m=audio 7000 RTP/AVP 111 9 118 96\na=rtpmap:111 opus/48000/2\na=rtpmap:118 pcma/8000/1\n\
         a=rtpmap:96 telephone-event/8000\na=fmtp:96 0-16\na=ptime:30\n",
    );
    let (answered, plan) = answer(&text, &local).unwrap();
    assert_eq!((plan.codec, plan.payload_type, digits(&plan)), (AudioCodec::Pcma, 118, Some((96, 96, 8000))));
    assert_eq!(plan.ptime_ms, 30);
    assert!(answered.contains("m=audio 4000 RTP/AVP 118 96\r\n"), "{answered}");
    assert!(answered.contains("a=rtpmap:118 PCMA/8000\r\n"));
    assert!(answered.contains("a=rtpmap:96 telephone-event/8000\r\n"));
}

#[test]
fn static_payload_types_need_no_map_but_a_map_overrules_them() {
    let (_, plan) = answer(&with("m=audio 7000 RTP/AVP 8\n"), &local()).unwrap();
    assert_eq!(plan.codec, AudioCodec::Pcma);
    let renamed = with("m=audio 7000 RTP/AVP 8\na=rtpmap:8 PCMU/8000\n");
    assert_eq!(answer(&renamed, &local()).unwrap().1.codec, AudioCodec::Pcmu);
    let other_clock = with("m=audio 7000 RTP/AVP 8\na=rtpmap:8 PCMA/16000\n");
    assert!(matches!(answer(&other_clock, &local()), Err(SdpError::NoCommonCodec { .. })));
}

#[test]
fn video_and_the_unknown_are_refused_and_audio_kept() {
    let text = with(
        "m=video 5000 RTP/AVP 96 97\na=rtpmap:96 H264/90000\nm=audio 7000 RTP/AVP 0\nm=application 9 UDP/BFCP *\n\
         m=audio 7002 RTP/AVP 0\n",
    );
    let (answered, plan) = answer(&text, &local()).unwrap();
    let lines: Vec<_> = answered.lines().filter(|l| l.starts_with("m=")).collect();
    assert_eq!(
        lines,
        ["m=video 0 RTP/AVP 96", "m=audio 4000 RTP/AVP 0", "m=application 0 UDP/BFCP *", "m=audio 0 RTP/AVP 0"]
    );
    assert_eq!(plan.remote.port(), 7000);
}

#[test]
fn directions_mirror() {
    for (offered, answered, send, receive) in [
        ("sendrecv", "sendrecv", true, true),
        ("sendonly", "recvonly", false, true),
        ("recvonly", "sendonly", true, false),
        ("inactive", "inactive", false, false),
    ] {
        let text = with(&format!("m=audio 7000 RTP/AVP 0\na={offered}\n"));
        let (answer, plan) = answer(&text, &local()).unwrap();
        assert!(answer.contains(&format!("a={answered}\r\n")), "{answer}");
        assert_eq!((plan.send, plan.receive), (send, receive), "{offered}");
        let at_session =
            text.replace(&format!("a={offered}\r\n"), "").replace("t=0 0\r\n", &format!("t=0 0\r\na={offered}\r\n"));
        assert_eq!(super::answer(&at_session, &local()).unwrap().1, plan, "an attribute of the session counts too");
    }
    let mut holding = local();
    holding.direction = Direction::SendOnly;
    let plan = answer(&with("m=audio 7000 RTP/AVP 0\n"), &holding).unwrap().1;
    assert_eq!((plan.send, plan.receive), (true, false));
}

#[test]
fn case_32_hold_by_an_unspecified_address() {
    let text = with("m=audio 7000 RTP/AVP 0\nc=IN IP4 0.0.0.0\n");
    let plan = answer(&text, &local()).unwrap().1;
    assert!(!plan.send && plan.receive);
}

#[test]
fn ipv6_and_the_lines_own_address() {
    let text = with("m=audio 7000 RTP/AVP 0\nc=IN IP6 2001:db8::5\n");
    assert_eq!(answer(&text, &local()).unwrap().1.remote, "[2001:db8::5]:7000".parse().unwrap());
    let mut ours = local();
    ours.addr = "[2001:db8::1]:4000".parse().unwrap();
    assert!(offer(&ours).contains("c=IN IP6 2001:db8::1\r\n"));
}

#[test]
fn what_has_nothing_for_us_is_refused() {
    for (media, expected) in [
        ("", SdpError::NoAudio),
        ("m=video 5000 RTP/AVP 96\n", SdpError::NoAudio),
        ("m=audio 0 RTP/AVP 0\n", SdpError::NoAudio),
        ("m=audio 7000 RTP/SAVP 0\n", SdpError::SrtpOff),
        ("m=audio 7000 TCP/RTP/AVP 0\n", SdpError::NoAudio),
        ("m=audio 7000 RTP/AVP 0\nc=IN IP4 host.example.com\n", SdpError::NoAddress),
        ("m=audio 7000 RTP/AVP 0\nc=IN IP4 224.2.1.1/127\n", SdpError::NoAddress),
        (
            "m=audio 7000 RTP/AVP 3 18\n",
            SdpError::NoCommonCodec { ours: "opus, G722, PCMU, PCMA".into(), theirs: "3 18".into() },
        ),
    ] {
        assert_eq!(answer(&with(media), &local()), Err(expected), "{media}");
    }
    let no_address = with("m=audio 7000 RTP/AVP 0\n").replace("c=IN IP4 192.0.2.9\r\n", "");
    assert_eq!(answer(&no_address, &local()), Err(SdpError::NoAddress));
    for text in ["", "hello", "v=1\r\n", "v=0\r\no=x\r\n"] {
        assert!(answer(text, &local()).is_err(), "{text}");
    }
}

#[test]
fn case_5_a_thousand_lines_are_refused() {
    let many = with(&"m=audio 7000 RTP/AVP 0\n".repeat(1000));
    assert!(matches!(answer(&many, &local()), Err(SdpError::TooLong(_) | SdpError::TooManyMedia(1000))));
    let some = with(&"m=audio 7000 RTP/AVP 0\n".repeat(17));
    assert_eq!(answer(&some, &local()), Err(SdpError::TooManyMedia(17)));
    let long = with(&format!("m=audio 7000 RTP/AVP 0\na=x:{}\n", "y".repeat(MAX_DESCRIPTION)));
    assert!(matches!(answer(&long, &local()), Err(SdpError::TooLong(_))));
}

#[test]
fn an_answer_that_refuses_audio_is_an_error() {
    assert_eq!(accept(&with("m=audio 0 RTP/AVP 0\n"), &local()), Err(SdpError::Refused));
    assert!(matches!(accept(&with("m=video 5000 RTP/AVP 0\n"), &local()), Err(SdpError::BadAnswer(_))));
}

#[test]
fn odd_packet_times_become_the_default() {
    for ptime in ["0", "-5", "1000", "NaN", "hello", ""] {
        let text = with(&format!("m=audio 7000 RTP/AVP 0\na=ptime:{ptime}\n"));
        assert_eq!(answer(&text, &local()).unwrap().1.ptime_ms, DEFAULT_PTIME_MS, "{ptime}");
    }
}

#[test]
fn the_version_rises_only_when_the_description_changes() {
    let mut session = LocalSession::new(7);
    let first = session.stamp(&offer(&local()));
    assert!(first.contains("o=- 7 7 IN IP4 192.0.2.1\r\n"), "{first}");
    assert_eq!(session.stamp(&offer(&local())), first);
    let mut held = local();
    held.direction = Direction::Inactive;
    assert!(session.stamp(&offer(&held)).contains("o=- 7 8 IN"));
    assert!(session.stamp(&offer(&local())).contains("o=- 7 9 IN"));
}
