//! Offer and answer: codecs, digits, packet times, and the descriptions that follow the first in a call.

use mr_sip_signaling::sdp::{
    self, AudioCodec, Direction, LocalMedia, MAX_ATTRIBUTES, MediaPlan, Negotiation, OpusFormat, SdpError,
};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n";

fn with(media: &str) -> String {
    format!("{HEAD}{}", media.replace('\n', "\r\n"))
}

fn local() -> LocalMedia {
    LocalMedia::new("192.0.2.1:4000".parse().unwrap())
}

fn of(codecs: &[AudioCodec]) -> LocalMedia {
    LocalMedia { codecs: codecs.to_vec(), ..local() }
}

fn digits(plan: &MediaPlan) -> Option<(u8, u8, u32)> {
    plan.telephone_event.map(|d| (d.payload_type, d.receive_payload_type, d.clock_hz))
}

fn m_lines(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|l| l.starts_with("m=")).collect()
}

// ---- codecs and digits

#[test]
fn an_offer_lists_our_codecs_in_our_order_and_digits_for_both_clocks() {
    let offer = sdp::offer(&of(&[AudioCodec::Pcma, AudioCodec::Opus, AudioCodec::G722]));
    assert_eq!(m_lines(&offer), ["m=audio 4000 RTP/AVP 8 111 9 101 110"]);
    for line in [
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=rtpmap:110 telephone-event/48000",
        "a=fmtp:110 0-15",
        "a=ptime:20",
        "a=sendrecv",
    ] {
        assert!(offer.contains(&format!("{line}\r\n")), "{line} in {offer}");
    }
}

#[test]
fn digits_at_48000_are_offered_only_beside_opus() {
    assert_eq!(m_lines(&sdp::offer(&of(&[AudioCodec::Pcmu]))), ["m=audio 4000 RTP/AVP 0 101"]);
    let mute = LocalMedia { telephone_event: false, ..local() };
    assert_eq!(m_lines(&sdp::offer(&mute)), ["m=audio 4000 RTP/AVP 111 9 0 8"]);
}

#[test]
fn comfort_noise_is_agreed_where_both_want_it_and_the_codec_has_its_clock() {
    let quiet = |codecs: &[AudioCodec]| LocalMedia { comfort_noise: true, ..of(codecs) };
    let offer = sdp::offer(&quiet(&[AudioCodec::Pcmu, AudioCodec::Opus]));
    assert_eq!(m_lines(&offer), ["m=audio 4000 RTP/AVP 0 111 101 110 13"]);
    assert!(offer.contains("a=rtpmap:13 CN/8000\r\n"), "{offer}");
    let (answer, plan) = sdp::answer(&offer, &quiet(&[AudioCodec::Pcmu])).unwrap();
    assert_eq!((m_lines(&answer), plan.comfort_noise), (vec!["m=audio 4000 RTP/AVP 0 101 13"], Some(13)));
    let plan = sdp::accept(&answer, &quiet(&[AudioCodec::Pcmu, AudioCodec::Opus])).unwrap();
    assert_eq!(plan.comfort_noise, Some(13));
    // who does not want it does not get it
    let (answer, plan) = sdp::answer(&offer, &of(&[AudioCodec::Pcmu])).unwrap();
    assert_eq!((m_lines(&answer), plan.comfort_noise), (vec!["m=audio 4000 RTP/AVP 0 101"], None));
    assert_eq!(sdp::accept(&answer, &quiet(&[AudioCodec::Pcmu, AudioCodec::Opus])).unwrap().comfort_noise, None);
    assert_eq!(m_lines(&sdp::offer(&quiet(&[AudioCodec::Opus]))), ["m=audio 4000 RTP/AVP 111 101 110"]);
    // a number without an rtpmap, and one of the far end's own
    for (formats, number) in [("0 13", 13), ("0 96\na=rtpmap:96 cn/8000", 96)] {
        let offer = with(&format!("m=audio 5000 RTP/AVP {formats}\n"));
        assert_eq!(sdp::answer(&offer, &quiet(&[AudioCodec::Pcmu])).unwrap().1.comfort_noise, Some(number));
    }
    let opus = with("m=audio 5000 RTP/AVP 111 13\na=rtpmap:111 opus/48000/2\n");
    assert_eq!(sdp::answer(&opus, &quiet(&[AudioCodec::Opus])).unwrap().1.comfort_noise, None);
}

#[test]
fn opus_leaves_pauses_out_where_both_want_it() {
    let opus = |dtx| {
        let local = of(&[AudioCodec::Opus, AudioCodec::Pcmu]);
        LocalMedia { opus: OpusFormat { dtx, ..local.opus }, ..local }
    };
    for (theirs, ours) in [(true, true), (true, false), (false, true), (false, false)] {
        let offer = sdp::offer(&opus(theirs));
        assert_eq!(offer.contains("usedtx=1"), theirs, "{offer}");
        let (answer, plan) = sdp::answer(&offer, &opus(ours)).unwrap();
        assert_eq!(plan.opus_dtx, theirs && ours, "{offer}");
        assert_eq!(sdp::accept(&answer, &opus(theirs)).unwrap().opus_dtx, theirs && ours, "{answer}");
    }
    let pcmu = sdp::answer(&sdp::offer(&of(&[AudioCodec::Pcmu])), &opus(true)).unwrap().1;
    assert!(!pcmu.opus_dtx);
}

#[test]
fn a_codec_named_twice_is_offered_once() {
    let offer = sdp::offer(&of(&[AudioCodec::Pcmu, AudioCodec::Pcma, AudioCodec::Pcmu]));
    assert_eq!(m_lines(&offer), ["m=audio 4000 RTP/AVP 0 8 101"]);
}

#[test]
fn the_answer_takes_the_offers_first_and_lists_nothing_else() {
    let offer = with(
        "m=audio 7000 RTP/AVP 18 9 96 0 101 102\na=rtpmap:18 G729/8000\na=rtpmap:96 opus/48000/2\n\
         a=rtpmap:101 telephone-event/8000\na=rtpmap:102 telephone-event/48000\n",
    );
    let (answer, plan) = sdp::answer(&offer, &of(&[AudioCodec::Pcmu, AudioCodec::Opus, AudioCodec::G722])).unwrap();
    assert_eq!((plan.codec, plan.payload_type), (AudioCodec::G722, 9));
    assert_eq!(m_lines(&answer), ["m=audio 4000 RTP/AVP 9 101"]);
}

#[test]
fn digits_take_the_clock_of_the_codec_and_else_8000() {
    for (formats, expected) in [
        ("96 101 102", Some((102, 102, 48_000))),
        ("96 101", Some((101, 101, 8_000))),
        ("0 102 101", Some((101, 101, 8_000))),
        ("0 102", None),
        ("96", None),
    ] {
        let offer = with(&format!(
            "m=audio 7000 RTP/AVP {formats}\na=rtpmap:96 opus/48000/2\na=rtpmap:101 telephone-event/8000\n\
             a=rtpmap:102 telephone-event/48000\n"
        ));
        assert_eq!(digits(&sdp::answer(&offer, &local()).unwrap().1), expected, "{formats}");
    }
}

#[test]
fn numbers_of_both_ends_may_differ() {
    let answer = with(
        "m=audio 7000 RTP/AVP 96 97\na=rtpmap:96 opus/48000/2\na=fmtp:96 useinbandfec=1\n\
         a=rtpmap:97 telephone-event/48000\n",
    );
    let plan = sdp::accept(&answer, &local()).unwrap();
    assert_eq!((plan.payload_type, plan.receive_payload_type), (96, 111));
    assert_eq!(digits(&plan), Some((97, 110, 48_000)));
}

#[test]
fn an_answer_without_maps_means_the_numbers_of_the_offer() {
    let plan = sdp::accept(&with("m=audio 7000 RTP/AVP 111 101\n"), &local()).unwrap();
    assert_eq!((plan.codec, plan.payload_type, digits(&plan)), (AudioCodec::Opus, 111, Some((101, 101, 8_000))));
}

#[test]
fn of_several_codecs_in_an_answer_the_first_counts() {
    let answer = with("m=audio 7000 RTP/AVP 18 8 0 101\na=rtpmap:101 telephone-event/8000\n");
    assert_eq!(sdp::accept(&answer, &local()).unwrap().codec, AudioCodec::Pcma);
}

#[test]
fn an_answer_with_a_codec_that_was_not_offered_is_an_error() {
    let error = sdp::accept(&with("m=audio 7000 RTP/AVP 9\n"), &of(&[AudioCodec::Pcma])).unwrap_err();
    assert_eq!(error, SdpError::NoCommonCodec { ours: "PCMA".into(), theirs: "9".into() });
}

#[test]
fn opus_is_known_by_its_name_and_clock_and_not_by_its_case() {
    for (map, known) in [
        ("OPUS/48000/2", true),
        ("opus/48000", true),
        ("opus/48000/1", true),
        ("opus/16000/2", false),
        ("opus/48000/6", false),
        ("opus", false),
    ] {
        let offer = with(&format!("m=audio 7000 RTP/AVP 100\na=rtpmap:100 {map}\n"));
        match sdp::answer(&offer, &local()) {
            Ok((answer, _)) => assert!(known && answer.contains("a=rtpmap:100 opus/48000/2\r\n"), "{map}"),
            Err(_) => assert!(!known, "{map}"),
        }
    }
}

#[test]
fn g722_has_a_clock_of_8000_though_it_samples_at_16000() {
    assert_eq!((AudioCodec::G722.rtp_clock_hz(), AudioCodec::G722.static_payload_type()), (8_000, Some(9)));
    let wrong = with("m=audio 7000 RTP/AVP 9\na=rtpmap:9 G722/16000\n");
    assert!(matches!(sdp::answer(&wrong, &local()), Err(SdpError::NoCommonCodec { .. })));
}

#[test]
fn what_the_far_end_wants_of_opus_is_in_the_plan() {
    for (fmtp, expected) in [
        ("minptime=10;useinbandfec=1", OpusFormat { in_band_fec: true, ..OpusFormat::default() }),
        (
            "maxplaybackrate=16000; sprop-maxcapturerate=16000; maxaveragebitrate=20000; stereo=0; usedtx=1 ; cbr=1",
            OpusFormat {
                dtx: true,
                constant_bitrate: true,
                max_average_bitrate_bps: Some(20_000),
                max_playback_rate_hz: Some(16_000),
                ..OpusFormat::default()
            },
        ),
        ("useinbandfec=yes;maxaveragebitrate=0;maxplaybackrate=96000;;=;x", OpusFormat::default()),
    ] {
        let offer = with(&format!("m=audio 7000 RTP/AVP 96\na=rtpmap:96 opus/48000/2\na=fmtp:96 {fmtp}\n"));
        assert_eq!(sdp::answer(&offer, &local()).unwrap().1.opus, Some(expected), "{fmtp}");
    }
    let plain = with("m=audio 7000 RTP/AVP 0\n");
    assert_eq!(sdp::answer(&plain, &local()).unwrap().1.opus, None);
}

#[test]
fn what_we_want_of_opus_is_in_our_descriptions() {
    let opus = OpusFormat { max_average_bitrate_bps: Some(24_000), ..OpusFormat::default() };
    let offer = sdp::offer(&LocalMedia { opus, ..local() });
    assert!(offer.contains("a=fmtp:111 minptime=10;maxaveragebitrate=24000\r\n"), "{offer}");
}

#[test]
fn formats_that_are_no_payload_type_are_read_over() {
    let plan = sdp::answer(&with("m=audio 7000 RTP/AVP 128 255 -1 x 99999 8\n"), &local()).unwrap().1;
    assert_eq!(plan.payload_type, 8);
}

#[test]
fn case_5_ten_thousand_attributes_are_refused_and_a_line_of_formats_is_read_in_part() {
    let many = with(&format!("m=audio 7000 RTP/AVP 0\n{}", "a=x\n".repeat(MAX_ATTRIBUTES + 1)));
    assert_eq!(sdp::answer(&many, &local()), Err(SdpError::TooManyAttributes(MAX_ATTRIBUTES + 1)));
    let wide = with(&format!("m=audio 7000 RTP/AVP{} 0\n", " 3".repeat(5_000)));
    assert!(matches!(sdp::answer(&wide, &local()), Err(SdpError::NoCommonCodec { .. })));
}

// ---- packet times and RTCP

#[test]
fn packets_are_as_long_as_the_far_end_wants_in_steps_of_ten_and_no_longer_than_it_can() {
    for (lines, expected) in [
        ("", 20),
        ("a=ptime:30\n", 30),
        ("a=ptime:10\n", 10),
        ("a=ptime:60\n", 60),
        ("a=ptime:24\n", 20),
        ("a=ptime:25\n", 30),
        ("a=ptime:25\na=maxptime:25\n", 20),
        ("a=ptime:40\na=maxptime:30\n", 30),
        ("a=maxptime:10\n", 10),
        ("a=maxptime:150\n", 20),
        ("a=ptime:60\na=maxptime:240\n", 60),
        ("a=ptime:120\n", 20),
        ("a=ptime:20.0\n", 20),
        ("a=maxptime:0\n", 20),
        ("a=maxptime:5\n", 20),
    ] {
        let offer = with(&format!("m=audio 7000 RTP/AVP 0\n{lines}"));
        assert_eq!(sdp::answer(&offer, &local()).unwrap().1.ptime_ms, expected, "{lines}");
    }
}

#[test]
fn our_packet_time_is_ours_and_sent_where_nothing_is_wanted() {
    let ours = LocalMedia { ptime_ms: 40, ..local() };
    let (answer, plan) = sdp::answer(&with("m=audio 7000 RTP/AVP 0\na=ptime:10\n"), &ours).unwrap();
    assert!(answer.contains("a=ptime:40\r\n") && plan.ptime_ms == 10, "{answer}");
    assert_eq!(sdp::answer(&with("m=audio 7000 RTP/AVP 0\n"), &ours).unwrap().1.ptime_ms, 40);
    assert_eq!(sdp::accept(&with("m=audio 7000 RTP/AVP 0\n"), &ours).unwrap().ptime_ms, 40);
    for (odd, sane) in [(0, 10), (255, 60), (25, 20)] {
        let offer = sdp::offer(&LocalMedia { ptime_ms: odd, ..local() });
        assert!(offer.contains(&format!("a=ptime:{sane}\r\n")), "{odd}: {offer}");
    }
}

#[test]
fn rtcp_goes_to_the_next_port_or_where_it_is_said_or_to_the_same() {
    for (lines, expected) in [
        ("", "192.0.2.9:7001"),
        ("a=rtcp:7005\n", "192.0.2.9:7005"),
        ("a=rtcp:7005 IN IP4 192.0.2.77\n", "192.0.2.77:7005"),
        ("a=rtcp:7005 IN IP4 host.example.com\n", "192.0.2.9:7005"),
        ("a=rtcp:7005 IN IP4 224.0.0.1\n", "192.0.2.9:7005"),
        ("a=rtcp:0\n", "192.0.2.9:7001"),
        ("a=rtcp:hello\n", "192.0.2.9:7001"),
        ("a=rtcp:7005\na=rtcp-mux\n", "192.0.2.9:7000"),
    ] {
        let offer = with(&format!("m=audio 7000 RTP/AVP 0\n{lines}"));
        let plan = sdp::answer(&offer, &local()).unwrap().1;
        assert_eq!(plan.remote_rtcp, expected.parse().unwrap(), "{lines}");
    }
    let last = with("m=audio 65535 RTP/AVP 0\n");
    assert_eq!(sdp::answer(&last, &local()).unwrap().1.remote_rtcp.port(), 65_535);
}

#[test]
fn rtcp_mux_is_accepted_where_offered_and_offered_where_wished() {
    let (answer, plan) = sdp::answer(&with("m=audio 7000 RTP/AVP 0\na=rtcp-mux\n"), &local()).unwrap();
    assert!(plan.rtcp_mux && answer.contains("a=rtcp-mux\r\n"), "{answer}");
    let (answer, plan) = sdp::answer(&with("m=audio 7000 RTP/AVP 0\n"), &local()).unwrap();
    assert!(!plan.rtcp_mux && !answer.contains("rtcp-mux"), "{answer}");
    let wishing = LocalMedia { rtcp_mux: true, ..local() };
    assert!(sdp::offer(&wishing).contains("a=rtcp-mux\r\n"));
    let answer = with("m=audio 7000 RTP/AVP 0\na=rtcp-mux\n");
    assert!(sdp::accept(&answer, &wishing).unwrap().rtcp_mux);
    assert!(!sdp::accept(&answer, &local()).unwrap().rtcp_mux, "it was not offered");
}

// ---- answers that do not fit

#[test]
fn an_answer_has_the_media_lines_of_its_offer() {
    for (media, answered) in [("", 0), ("m=audio 7000 RTP/AVP 0\nm=video 0 RTP/AVP 96\n", 2)] {
        let error = sdp::accept(&with(media), &local()).unwrap_err();
        assert_eq!(error, SdpError::MediaLines { offered: 1, answered });
        assert_eq!(
            error.to_string(),
            format!("the answer does not fit the offer: {answered} media lines for 1"),
            "it says so"
        );
    }
}

#[test]
fn nothing_can_be_accepted_that_was_not_offered() {
    let answer = with("m=audio 7000 RTP/AVP 0\n");
    assert!(matches!(Negotiation::new().accept(&answer), Err(SdpError::BadAnswer(_))));
}

#[test]
fn a_forked_call_may_have_several_answers() {
    let mut ours = Negotiation::new();
    ours.offer(&local());
    assert_eq!(ours.accept(&with("m=audio 7000 RTP/AVP 0\n")).unwrap().remote.port(), 7000);
    assert_eq!(ours.accept(&with("m=audio 7100 RTP/AVP 8\n")).unwrap().remote.port(), 7100);
    assert_eq!(ours.agreed().map(|plan| plan.codec), Some(AudioCodec::Pcma));
}

// ---- what follows in a call

/// A call that they offered, with video and digits under odd numbers.
fn their_call() -> Negotiation {
    let mut ours = Negotiation::new();
    let offer = with(
        "m=video 5000 RTP/AVP 99\na=rtpmap:99 H264/90000\nm=audio 7000 RTP/AVP 107 8 100\n\
         a=rtpmap:107 opus/48000/2\na=rtpmap:100 telephone-event/8000\nm=application 9 UDP/BFCP *\n",
    );
    ours.answer(&offer, &local()).unwrap();
    ours
}

#[test]
fn the_next_offer_keeps_the_lines_and_numbers_of_the_call() {
    let hold = LocalMedia { direction: Direction::SendOnly, ..local() };
    let offer = their_call().offer(&hold);
    let expected = [
        "m=video 0 RTP/AVP 99",
        // opus and digits by their numbers, not by those that we would choose
        "m=audio 4000 RTP/AVP 107 9 0 8 100 110",
        "m=application 0 UDP/BFCP *",
    ];
    assert_eq!(m_lines(&offer), expected, "{offer}");
    assert!(offer.contains("a=rtpmap:107 opus/48000/2\r\n") && offer.contains("a=sendonly\r\n"), "{offer}");
    assert!(offer.contains("a=rtpmap:100 telephone-event/8000\r\n"), "{offer}");
}

#[test]
fn the_agreed_codec_comes_first_in_the_next_offer() {
    let mut ours = Negotiation::new();
    ours.offer(&local());
    ours.accept(&with("m=audio 7000 RTP/AVP 8\n")).unwrap();
    assert_eq!(m_lines(&ours.offer(&local())), ["m=audio 4000 RTP/AVP 8 111 9 0 101 110"]);
    assert_eq!(m_lines(&ours.offer(&of(&[AudioCodec::G722]))), ["m=audio 4000 RTP/AVP 9 101"], "another codec");
}

#[test]
fn a_number_keeps_its_meaning_for_the_whole_call() {
    let mut ours = Negotiation::new();
    // what we call opus, they call digits
    let offer = with("m=audio 7000 RTP/AVP 0 111\na=rtpmap:111 telephone-event/8000\n");
    ours.answer(&offer, &local()).unwrap();
    let offer = ours.offer(&local());
    assert_eq!(m_lines(&offer), ["m=audio 4000 RTP/AVP 0 96 9 8 111 110"], "{offer}");
    assert!(offer.contains("a=rtpmap:96 opus/48000/2\r\n"), "{offer}");
    // and after a description without it
    ours.answer(&with("m=audio 7000 RTP/AVP 8\n"), &local()).unwrap();
    assert!(ours.offer(&local()).contains("a=rtpmap:111 telephone-event/8000\r\n"));
}

#[test]
fn a_static_number_that_was_taken_is_not_given_again() {
    let mut ours = Negotiation::new();
    ours.answer(&with("m=audio 7000 RTP/AVP 8\na=rtpmap:8 PCMU/8000\n"), &local()).unwrap();
    let offer = ours.offer(&of(&[AudioCodec::Pcmu, AudioCodec::Pcma]));
    assert!(offer.contains("a=rtpmap:8 PCMU/8000\r\na=rtpmap:96 PCMA/8000\r\n"), "{offer}");
}

#[test]
fn hold_and_resume_by_us() {
    let (mut ours, mut theirs) = (Negotiation::new(), Negotiation::new());
    let remote = LocalMedia::new("192.0.2.2:4000".parse().unwrap());
    for (direction, our_way, their_way) in [
        (Direction::SendRecv, (true, true), (true, true)),
        (Direction::SendOnly, (true, false), (false, true)),
        (Direction::Inactive, (false, false), (false, false)),
        (Direction::SendRecv, (true, true), (true, true)),
    ] {
        let offer = ours.offer(&LocalMedia { direction, ..local() });
        let (answer, at_theirs) = theirs.answer(&offer, &remote).unwrap();
        let at_ours = ours.accept(&answer).unwrap();
        assert_eq!((at_ours.send, at_ours.receive), our_way);
        assert_eq!((at_theirs.send, at_theirs.receive), their_way);
    }
}

#[test]
fn case_32_hold_and_resume_by_them_old_and_new() {
    let mut ours = Negotiation::new();
    for (lines, expected, answered) in [
        ("", (true, true), "a=sendrecv"),
        ("a=sendonly\n", (false, true), "a=recvonly"),
        ("a=inactive\n", (false, false), "a=inactive"),
        ("c=IN IP4 0.0.0.0\n", (false, true), "a=recvonly"),
        ("c=IN IP4 0.0.0.0\na=inactive\n", (false, false), "a=inactive"),
        ("", (true, true), "a=sendrecv"),
    ] {
        let (answer, plan) = ours.answer(&with(&format!("m=audio 7000 RTP/AVP 0\n{lines}")), &local()).unwrap();
        assert_eq!((plan.send, plan.receive), expected, "{lines}");
        assert!(answer.contains(answered), "{answer}");
    }
    ours.offer(&local());
    let plan = ours.accept(&with("m=audio 7000 RTP/AVP 0\nc=IN IP4 0.0.0.0\n")).unwrap();
    assert!(!plan.send, "an answer can hold, too");
}

#[test]
fn the_codec_and_the_address_may_change_in_a_call() {
    let mut ours = their_call();
    let offer = with("m=video 0 RTP/AVP 99\nm=audio 9000 RTP/AVP 8\nc=IN IP4 192.0.2.10\nm=application 0 UDP/BFCP *\n");
    let (answer, plan) = ours.answer(&offer, &local()).unwrap();
    assert_eq!((plan.codec, plan.remote), (AudioCodec::Pcma, "192.0.2.10:9000".parse().unwrap()));
    assert_eq!(m_lines(&answer).len(), 3);
    let moved = LocalMedia { addr: "198.51.100.1:6000".parse().unwrap(), ..local() };
    let offer = ours.offer(&moved);
    assert!(offer.contains("c=IN IP4 198.51.100.1\r\n") && offer.contains("m=audio 6000 "), "{offer}");
}

#[test]
fn an_offer_that_was_refused_leaves_the_call_as_it_was() {
    let mut ours = Negotiation::new();
    ours.offer(&local());
    ours.accept(&with("m=audio 7000 RTP/AVP 0\n")).unwrap();
    let before = ours.agreed().cloned();
    ours.offer(&of(&[AudioCodec::G722]));
    assert!(ours.accept(&with("m=audio 0 RTP/AVP 9\n")).is_err());
    assert_eq!(ours.agreed().cloned(), before);
    assert!(ours.answer(&with("m=audio 7000 RTP/AVP 18\n"), &local()).is_err());
    assert_eq!(ours.agreed().cloned(), before);
}

#[test]
fn the_same_wish_makes_the_same_text() {
    let mut ours = their_call();
    let first = ours.offer(&local());
    assert_eq!(ours.offer(&local()), first, "so that its version stays");
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    let mut ours = Negotiation::new();
    let in_the_200 = ours.offer(&local());
    let (in_the_ack, theirs) = sdp::answer(&in_the_200, &of(&[AudioCodec::Pcma])).unwrap();
    let plan = ours.accept(&in_the_ack).unwrap();
    assert_eq!((plan.codec, theirs.codec), (AudioCodec::Pcma, AudioCodec::Pcma));
}

#[test]
fn the_first_usable_of_several_audio_lines_is_taken() {
    let offer = with(
        "m=audio 7000 RTP/AVP 18\nm=audio 0 RTP/AVP 0\nm=audio 7004 UDP/TLS/RTP/SAVPF 0\nm=audio 7006 RTP/AVPF 0\n\
         m=audio 7008 RTP/AVP 0\n",
    );
    let (answer, plan) = sdp::answer(&offer, &local()).unwrap();
    assert_eq!(plan.remote.port(), 7006);
    let ports: Vec<_> = m_lines(&answer).iter().map(|l| l.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(ports, ["0", "0", "0", "4000", "0"]);
}

#[test]
fn fax_and_messages_are_refused_in_their_own_words() {
    let offer = with(
        "m=audio 7000 RTP/AVP 0\nm=image 7002 udptl t38\na=T38FaxVersion:0\nm=message 7394 TCP/MSRP *\nm=text 0 RTP/AVP\n",
    );
    let (answer, _) = sdp::answer(&offer, &local()).unwrap();
    assert_eq!(
        m_lines(&answer),
        ["m=audio 4000 RTP/AVP 0", "m=image 0 udptl t38", "m=message 0 TCP/MSRP *", "m=text 0 RTP/AVP *"]
    );
    let fax_alone = with("m=image 7002 udptl t38\n");
    assert_eq!(sdp::answer(&fax_alone, &local()), Err(SdpError::NoAudio));
}

#[test]
fn broken_lines_that_do_not_matter_cost_nothing() {
    let text = "v=0\no=some body 1 99999999999999999999999 IN IP4 pbx\nb=AS:lots\nt=now\nr=x\n\nc=IN IP4 192.0.2.9 \n\
                c=IN IP4 192.0.2.10\nz=?\nm=audio  7000  RTP/AVP  0 8 \nk=clear\nb=:\nhello\na=ptime: 30\n";
    let plan = sdp::answer(text, &local()).unwrap().1;
    assert_eq!((plan.remote, plan.ptime_ms), ("192.0.2.9:7000".parse().unwrap(), 30));
}
