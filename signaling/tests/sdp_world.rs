//! Descriptions in the manner of what is out there: exchanges, softphones, providers, gateways, browsers.
//!
//! None is a recording; each was written to have the habits of its kind.

use mr_sip_signaling::sdp::{
    self, AudioCodec, CryptoKey, LocalMedia, MediaPlan, Negotiation, SdpError, SrtpPolicy, SrtpSuite,
};

fn local(srtp: SrtpPolicy) -> LocalMedia {
    let keys = vec![CryptoKey::new([1; CryptoKey::LEN]), CryptoKey::new([2; CryptoKey::LEN])];
    LocalMedia { srtp, keys, ..LocalMedia::new("192.0.2.1:4000".parse().unwrap()) }
}

/// The lines of a text, with the line ends of the standard.
fn text(lines: &str) -> String {
    lines.trim().lines().map(|line| format!("{}\r\n", line.trim())).collect()
}

#[track_caller]
fn answered(offer: &str, srtp: SrtpPolicy) -> (String, MediaPlan) {
    sdp::answer(&text(offer), &local(srtp)).expect("it is answered")
}

fn m_lines(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|l| l.starts_with("m=")).collect()
}

fn digits(plan: &MediaPlan) -> Option<(u8, u32)> {
    plan.telephone_event.map(|d| (d.payload_type, d.clock_hz))
}

#[test]
fn an_exchange_with_digits_up_to_flash_and_maxptime() {
    // Asterisk
    let (_, plan) = answered(
        "v=0
        o=- 1466158921 1466158921 IN IP4 203.0.113.20
        s=Asterisk
        c=IN IP4 203.0.113.20
        t=0 0
        m=audio 11766 RTP/AVP 107 9 0 8 101 102
        a=rtpmap:107 opus/48000/2
        a=fmtp:107 useinbandfec=1
        a=rtpmap:9 G722/8000
        a=rtpmap:0 PCMU/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:101 telephone-event/8000
        a=fmtp:101 0-16
        a=rtpmap:102 telephone-event/48000
        a=fmtp:102 0-16
        a=ptime:20
        a=maxptime:60
        a=sendrecv",
        SrtpPolicy::Off,
    );
    assert_eq!((plan.codec, plan.payload_type, plan.ptime_ms), (AudioCodec::Opus, 107, 20));
    assert_eq!(digits(&plan), Some((102, 48_000)));
    assert!(plan.opus.expect("what it wants").in_band_fec);
}

#[test]
fn an_exchange_that_offers_srtp_and_rtp_in_two_lines() {
    // FreeSWITCH with rtp_secure_media=optional: the same port twice
    let offer = "v=0
        o=FreeSWITCH 1700000000 1700000001 IN IP4 203.0.113.21
        s=FreeSWITCH
        c=IN IP4 203.0.113.21
        t=0 0
        m=audio 27652 RTP/SAVP 102 9 8 0 103 101
        a=rtpmap:102 opus/48000/2
        a=fmtp:102 useinbandfec=1; maxaveragebitrate=30000; maxplaybackrate=48000; ptime=20; minptime=10; maxptime=40
        a=rtpmap:9 G722/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:0 PCMU/8000
        a=rtpmap:103 telephone-event/48000
        a=fmtp:103 0-16
        a=rtpmap:101 telephone-event/8000
        a=fmtp:101 0-16
        a=crypto:1 AEAD_AES_256_GCM_8 inline:IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI
        a=crypto:5 AES_CM_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERER
        a=crypto:11 AES_CM_128_HMAC_SHA1_32 inline:IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIi
        a=ptime:20
        m=audio 27652 RTP/AVP 102 9 8 0 103 101
        a=rtpmap:102 opus/48000/2
        a=rtpmap:103 telephone-event/48000
        a=rtpmap:101 telephone-event/8000
        a=ptime:20";
    let (answer, plan) = answered(offer, SrtpPolicy::Optional);
    assert_eq!(m_lines(&answer), ["m=audio 4000 RTP/SAVP 102 103", "m=audio 0 RTP/AVP 102"]);
    assert!(answer.contains("a=crypto:5 AES_CM_128_HMAC_SHA1_80 inline:"));
    assert_eq!(plan.srtp.expect("keys").suite, SrtpSuite::AesCm128HmacSha1_80);
    assert_eq!(plan.opus.expect("its wishes").max_average_bitrate_bps, Some(30_000));
    let (answer, plan) = answered(offer, SrtpPolicy::Off);
    assert_eq!(m_lines(&answer), ["m=audio 0 RTP/SAVP 102", "m=audio 4000 RTP/AVP 102 103"]);
    assert!(plan.srtp.is_none());
}

#[test]
fn a_softphone_with_keys_beside_plain_rtp_and_stereo_opus() {
    // baresip with mediaenc=srtp
    let (answer, plan) = answered(
        "v=0
        o=- 2340034212 1286132413 IN IP4 203.0.113.22
        s=-
        c=IN IP4 203.0.113.22
        t=0 0
        a=tool:baresip 1.0.0
        m=audio 20482 RTP/AVP 96 9 0 8 101
        b=AS:125
        a=rtpmap:96 opus/48000/2
        a=fmtp:96 stereo=1;sprop-stereo=1
        a=rtpmap:9 G722/8000
        a=rtpmap:0 PCMU/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:101 telephone-event/8000
        a=fmtp:101 0-15
        a=rtcp:20483
        a=rtcp-mux
        a=sendrecv
        a=label:1
        a=ssrc:4022463712 cname:sip:a@example.com
        a=ptime:20
        a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:ERERERERERERERERERERERERERERERERERERERER
        a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIi",
        SrtpPolicy::Optional,
    );
    assert_eq!(m_lines(&answer), ["m=audio 4000 RTP/AVP 96 101"]);
    assert_eq!(digits(&plan), Some((101, 8_000)), "it has no others");
    assert!(plan.rtcp_mux && plan.remote_rtcp == plan.remote);
    assert_eq!(plan.srtp.expect("keys").suite, SrtpSuite::AesCm128HmacSha1_32, "its first");
}

#[test]
fn a_softphone_with_feedback_video_and_no_map_for_what_everybody_knows() {
    // Linphone
    let (answer, plan) = answered(
        "v=0
        o=alice 3747 3747 IN IP4 203.0.113.23
        s=Talk
        c=IN IP4 203.0.113.23
        t=0 0
        a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics
        a=record:off
        m=audio 7078 RTP/AVPF 96 97 98 0 8 18 101 99 100
        a=rtpmap:96 opus/48000/2
        a=fmtp:96 useinbandfec=1
        a=rtpmap:97 speex/16000
        a=fmtp:97 vbr=on
        a=rtpmap:98 speex/8000
        a=fmtp:98 vbr=on
        a=fmtp:18 annexb=yes
        a=rtpmap:101 telephone-event/48000
        a=rtpmap:99 telephone-event/16000
        a=rtpmap:100 telephone-event/8000
        a=rtcp-fb:* trr-int 1000
        a=rtcp-fb:* ccm tmmbr
        m=video 9078 RTP/AVPF 96
        a=rtpmap:96 VP8/90000
        a=rtcp-fb:* nack pli",
        SrtpPolicy::Off,
    );
    assert_eq!(m_lines(&answer), ["m=audio 4000 RTP/AVPF 96 101", "m=video 0 RTP/AVPF 96"]);
    assert_eq!((plan.codec, digits(&plan)), (AudioCodec::Opus, Some((101, 48_000))));
}

#[test]
fn a_softphone_with_foreign_codecs_first() {
    // Zoiper
    let (answer, plan) = answered(
        "v=0
        o=Z 0 147563 IN IP4 203.0.113.24
        s=Z
        c=IN IP4 203.0.113.24
        t=0 0
        m=audio 8000 RTP/AVP 3 110 97 8 0 98
        a=rtpmap:110 speex/8000
        a=rtpmap:97 iLBC/8000
        a=fmtp:97 mode=20
        a=rtpmap:98 telephone-event/8000
        a=fmtp:98 0-16
        a=sendrecv",
        SrtpPolicy::Off,
    );
    assert_eq!((plan.codec, digits(&plan)), (AudioCodec::Pcma, Some((98, 8_000))));
    assert_eq!(m_lines(&answer), ["m=audio 4000 RTP/AVP 8 98"]);
}

#[test]
fn a_provider_with_mu_law_and_a_public_address() {
    // Twilio
    let (_, plan) = answered(
        "v=0
        o=root 1846223212 1846223212 IN IP4 203.0.113.25
        s=Twilio Media Gateway
        c=IN IP4 203.0.113.25
        t=0 0
        m=audio 14532 RTP/AVP 0 101
        a=rtpmap:0 PCMU/8000
        a=rtpmap:101 telephone-event/8000
        a=fmtp:101 0-16
        a=ptime:20
        a=maxptime:150
        a=sendrecv",
        SrtpPolicy::Optional,
    );
    assert_eq!((plan.codec, plan.ptime_ms, plan.srtp), (AudioCodec::Pcmu, 20, None));
}

#[test]
fn a_secure_trunk_of_a_provider() {
    let (answer, plan) = answered(
        "v=0
        o=root 1 1 IN IP4 203.0.113.26
        s=-
        c=IN IP4 203.0.113.26
        t=0 0
        m=audio 14532 RTP/SAVP 0 8 101
        a=rtpmap:0 PCMU/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:101 telephone-event/8000
        a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERER|2^31
        a=ptime:20",
        SrtpPolicy::Required,
    );
    assert_eq!(m_lines(&answer), ["m=audio 4000 RTP/SAVP 0 101"]);
    assert!(plan.srtp.is_some());
}

#[test]
fn a_gateway_whose_address_is_in_the_media_and_whose_numbers_are_odd() {
    // Cisco: its own attributes, cisco-rtp-dtmf beside the standard's digits, connection in the m-section
    let (answer, plan) = answered(
        "v=0
        o=CiscoSystemsSIP-GW-UserAgent 8932 3762 IN IP4 203.0.113.27
        s=SIP Call
        c=IN IP4 203.0.113.27
        t=0 0
        m=audio 16384 RTP/AVP 18 0 127 121
        c=IN IP4 203.0.113.28
        a=rtpmap:18 G729/8000
        a=fmtp:18 annexb=no
        a=rtpmap:0 PCMU/8000
        a=rtpmap:127 telephone-event/8000
        a=fmtp:127 0-16
        a=rtpmap:121 cisco-rtp-dtmf/8000
        a=X-sqn:0
        a=X-cap: 1 image udptl t38
        m=image 16386 udptl t38
        c=IN IP4 203.0.113.28
        a=T38FaxVersion:0
        a=T38MaxBitRate:14400",
        SrtpPolicy::Off,
    );
    assert_eq!((plan.codec, digits(&plan)), (AudioCodec::Pcmu, Some((127, 8_000))));
    assert_eq!(plan.remote, "203.0.113.28:16384".parse().unwrap());
    assert_eq!(m_lines(&answer), ["m=audio 4000 RTP/AVP 0 127", "m=image 0 udptl t38"]);
}

#[test]
fn a_border_controller_with_candidates_keys_with_mki_and_separate_rtcp() {
    // Teams direct routing: the first key carries an MKI and is of no use, the second does not
    let offer = "v=0
        o=- 0 0 IN IP4 203.0.113.29
        s=session
        b=CT:10000000
        t=0 0
        m=audio 50018 RTP/SAVP 104 9 103 111 18 0 8 97 101 13 118
        c=IN IP4 203.0.113.29
        a=rtcp:50019
        a=ice-ufrag:xuFr
        a=ice-pwd:abcdefghijklmnopqrstuvwx
        a=rtcp-mux
        a=candidate:1 1 UDP 2130706431 203.0.113.29 50018 typ host
        a=candidate:1 2 UDP 2130705918 203.0.113.29 50019 typ host
        a=label:main-audio
        a=mid:1
        a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:ERERERERERERERERERERERERERERERERERERERER|2^31|1:1
        a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIi|2^31
        a=sendrecv
        a=rtpmap:104 SILK/16000
        a=rtpmap:9 G722/8000
        a=rtpmap:103 SILK/8000
        a=rtpmap:111 SIREN/16000
        a=fmtp:111 bitrate=16000
        a=rtpmap:18 G729/8000
        a=fmtp:18 annexb=no
        a=rtpmap:0 PCMU/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:97 RED/8000
        a=rtpmap:101 telephone-event/8000
        a=fmtp:101 0-16
        a=rtpmap:13 CN/8000
        a=rtpmap:118 CN/16000
        a=ptime:20";
    let (answer, plan) = answered(offer, SrtpPolicy::Required);
    assert_eq!((plan.codec, digits(&plan)), (AudioCodec::G722, Some((101, 8_000))));
    assert!(answer.contains("a=crypto:3 ") && !answer.contains("candidate"), "{answer}");
    assert_eq!(sdp::answer(&text(offer), &local(SrtpPolicy::Off)), Err(SdpError::SrtpOff));
}

#[test]
fn a_browser_is_refused_in_clear_words() {
    // Chrome
    let offer = text(
        "v=0
        o=- 4611731400430051336 2 IN IP4 127.0.0.1
        s=-
        t=0 0
        a=group:BUNDLE 0
        a=extmap-allow-mixed
        a=msid-semantic: WMS stream
        m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
        c=IN IP4 0.0.0.0
        a=rtcp:9 IN IP4 0.0.0.0
        a=ice-ufrag:abcd
        a=ice-pwd:abcdefghijklmnopqrstuvwx
        a=ice-options:trickle
        a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF
        a=setup:actpass
        a=mid:0
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
        a=sendrecv
        a=rtcp-mux
        a=rtpmap:111 opus/48000/2
        a=rtcp-fb:111 transport-cc
        a=fmtp:111 minptime=10;useinbandfec=1
        a=rtpmap:63 red/48000/2
        a=fmtp:63 111/111
        a=rtpmap:9 G722/8000
        a=rtpmap:0 PCMU/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:13 CN/8000
        a=rtpmap:110 telephone-event/48000
        a=rtpmap:126 telephone-event/8000",
    );
    for policy in [SrtpPolicy::Off, SrtpPolicy::Optional, SrtpPolicy::Required] {
        assert_eq!(sdp::answer(&offer, &local(policy)), Err(SdpError::Dtls));
    }
}

#[test]
fn a_desk_telephone_that_holds_the_old_way_and_comes_back() {
    let with = |address: &str, version: u8| {
        text(&format!(
            "v=0
            o=100 8000 800{version} IN IP4 203.0.113.31
            s=SIP Call
            c=IN IP4 {address}
            t=0 0
            m=audio 5004 RTP/AVP 8 0 101
            a=rtpmap:8 PCMA/8000
            a=rtpmap:0 PCMU/8000
            a=rtpmap:101 telephone-event/8000
            a=fmtp:101 0-15
            a=ptime:20"
        ))
    };
    let mut call = Negotiation::new();
    let local = local(SrtpPolicy::Off);
    let ways = ["203.0.113.31", "0.0.0.0", "203.0.113.31"].map(|address| {
        let (_, plan) = call.answer(&with(address, 0), &local).unwrap();
        assert_eq!(plan.codec, AudioCodec::Pcma);
        plan.send
    });
    assert_eq!(ways, [true, false, true]);
}

#[test]
fn an_adapter_that_knows_neither_time_nor_name_nor_line_ends() {
    // bare line feeds, no t= and no s= line, shouting
    let offer = "v=0\no=- 1 1 IN IP4 203.0.113.32\nc=IN IP4 203.0.113.32\nm=AUDIO 5004 rtp/avp 0 96\n\
                 a=RTPMAP:96 TELEPHONE-EVENT/8000\na=SENDRECV\na=PTIME:30\n";
    let (answer, plan) = sdp::answer(offer, &local(SrtpPolicy::Off)).unwrap();
    assert_eq!((plan.codec, digits(&plan), plan.ptime_ms), (AudioCodec::Pcmu, Some((96, 8_000)), 30));
    assert!(answer.contains("m=audio 4000 RTP/AVP 0 96\r\n"), "{answer}");
}

#[test]
fn a_network_with_ipv6_alone() {
    let (_, plan) = answered(
        "v=0
        o=- 1 1 IN IP6 2001:db8::33
        s=-
        c=IN IP6 2001:db8::33
        t=0 0
        m=audio 5004 RTP/AVP 8
        a=rtcp:5009 IN IP6 2001:db8::34",
        SrtpPolicy::Off,
    );
    assert_eq!(plan.remote, "[2001:db8::33]:5004".parse().unwrap());
    assert_eq!(plan.remote_rtcp, "[2001:db8::34]:5009".parse().unwrap());
}

#[test]
fn an_answer_that_ends_in_several_codecs_and_an_annex() {
    // an exchange that lists all that it could, in its own order and under its own numbers
    let answer = text(
        "v=0
        o=- 7 8 IN IP4 203.0.113.34
        s=-
        c=IN IP4 203.0.113.34
        t=0 0
        m=audio 18000 RTP/AVP 9 8 0 96 100
        a=rtpmap:9 G722/8000
        a=rtpmap:96 opus/48000/2
        a=rtpmap:100 telephone-event/8000
        a=ptime:30
        a=maxptime:20",
    );
    let plan = sdp::accept(&answer, &local(SrtpPolicy::Optional)).unwrap();
    assert_eq!((plan.codec, plan.ptime_ms), (AudioCodec::G722, 20));
    let both = plan.telephone_event.map(|d| (d.payload_type, d.receive_payload_type, d.clock_hz));
    assert_eq!(both, Some((100, 101, 8_000)));
}
