//! Two real daemons that call one another: what holds, transfers, encryption, limits and bans are to a client.
//!
//! Nothing is waited for by the clock alone: each test waits for an event, within a limit that only a broken daemon reaches.

mod site;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use control::ControlError;
use control::types::{
    BridgeMode, CallAnswer, CallBridge, CallDtmf, CallGet, CallHangup, CallHold, CallId, CallProgress, CallResume,
    CallState, CallTrace, CallTransfer, CallTransferAccept, CallUnbridge, Cause, Done, ErrorCode, Event, Hold,
    RecordPause, RecordResume, RecordStart, RecordStop, RecordingState, SipBans, SipUnban, TraceFormat, TransferState,
};
use mr_sip::demo::servers::DaemonSetup;
use site::{Site, connect};

#[test]
fn a_call_is_held_and_resumed_and_both_ends_know() {
    let (mut ours, mut theirs) = (Site::asking(), Site::answering());
    let (call, at_theirs) = connect(&mut ours, &mut theirs);
    ours.client.request(&CallHold::new(call)).unwrap();
    assert_eq!(ours.hold(), Some(Hold::Us));
    assert_eq!(theirs.hold(), Some(Hold::FarEnd));
    theirs.client.request(&CallHold::new(at_theirs)).unwrap();
    assert_eq!(theirs.hold(), Some(Hold::Both));
    assert_eq!(ours.hold(), Some(Hold::Both));
    assert_eq!(theirs.client.request(&CallGet { call: at_theirs }).unwrap().hold, Some(Hold::Both));
    theirs.client.request(&CallResume::new(at_theirs)).unwrap();
    assert_eq!(ours.hold(), Some(Hold::Us));
    ours.client.request(&CallResume::new(call)).unwrap();
    assert_eq!(ours.hold(), None);
    assert_eq!((theirs.hold(), theirs.hold()), (Some(Hold::FarEnd), None));
    ours.speak(call);
    ours.client.request(&CallHangup::new(call)).unwrap();
    assert_eq!(ours.ended().cause, Some(Cause::Hangup));
    let summary = theirs.ended();
    assert_eq!((summary.cause, summary.hold), (Some(Cause::RemoteHangup), None));
}

#[test]
fn a_call_is_encrypted_with_the_codec_that_is_configured() {
    for codec in ["OPUS", "G722", "PCMA"] {
        let media = format!("codecs = [\"{codec}\"]\nsrtp = \"required\"\nptime_ms = 40");
        let mut ours = Site::new(&DaemonSetup { media: &media, ..DaemonSetup::default() });
        let mut theirs = Site::new(&DaemonSetup { media: &media, incoming: "auto", ..DaemonSetup::default() });
        let (call, at_theirs) = connect(&mut ours, &mut theirs);
        ours.speak(call);
        let heard = theirs.client.request(&CallGet { call: at_theirs }).unwrap();
        assert_eq!(heard.codec.as_deref(), Some(codec));
        assert_eq!(heard.srtp.as_deref(), Some("AES_CM_128_HMAC_SHA1_80"));
        let stats = heard.stats.unwrap();
        assert!(stats.received >= 20 && stats.bad_packets == 0, "{codec}: {stats:?}");
        ours.client.request(&CallHangup::new(call)).unwrap();
        ours.ended();
    }
}

/// Case 35's other half: a far end that wants encryption meets one that has none.
#[test]
fn who_must_encrypt_does_not_talk_in_the_clear() {
    let mut ours = Site::new(&DaemonSetup { media: "srtp = \"required\"", ..DaemonSetup::default() });
    let theirs = Site::answering();
    ours.dial(&theirs.uri());
    let summary = ours.ended();
    assert_eq!((summary.cause, summary.status), (Some(Cause::Media), Some(488)));
}

#[test]
fn the_agent_is_heard_before_the_answer() {
    let (mut ours, mut theirs) = (Site::asking(), Site::asking());
    ours.dial(&theirs.uri());
    let at_theirs = theirs.state(CallState::Incoming);
    theirs.client.request(&CallProgress { call: at_theirs }).unwrap();
    let call = ours.state(CallState::Early);
    theirs.speak(at_theirs);
    let stats = ours.client.request(&CallGet { call }).unwrap().stats.unwrap();
    assert!(stats.received >= 40, "{stats:?}");
    theirs.client.request(&CallAnswer { call: at_theirs }).unwrap();
    ours.state(CallState::Answered);
    theirs.state(CallState::Answered);
    theirs.speak(at_theirs);
    ours.client.request(&CallHangup::new(call)).unwrap();
    assert_eq!(theirs.ended().cause, Some(Cause::RemoteHangup));
}

/// Case 16: the far end's wish goes to the client, and under the rules of `[dialing]`.
#[test]
fn case_16_a_transfer_is_asked_of_the_client_and_then_made() {
    let mut ours = Site::new(&DaemonSetup { sip: "incoming_refer = \"ask\"", ..DaemonSetup::default() });
    let (mut theirs, mut third) = (Site::answering(), Site::answering());
    let (call, at_theirs) = connect(&mut ours, &mut theirs);

    let transfer = |to: String| CallTransfer { call: at_theirs, to: Some(to), other_call: None, force: true };
    theirs.client.request(&transfer("sip:+19005551234@127.0.0.1".into())).unwrap_err();
    theirs.client.request(&transfer(third.uri())).unwrap();
    let to = ours.wait("the wish", |event| match event {
        Event::CallTransfer { state: TransferState::Requested, to, .. } => to.clone(),
        _ => None,
    });
    assert_eq!(to, third.uri());
    ours.client.request(&CallTransferAccept { call }).unwrap();
    let new_call = ours.wait("the new call", |event| match event {
        Event::CallTransfer { state: TransferState::Calling, new_call, .. } => *new_call,
        _ => None,
    });
    third.state(CallState::Answered);
    theirs.wait("the end of the transfer", |event| {
        matches!(event, Event::CallTransfer { state: TransferState::Accepted, .. }).then_some(())
    });
    assert_eq!(theirs.ended().cause, Some(Cause::Transferred));
    let owner = ours.client.request(&CallGet { call: new_call }).unwrap().owner;
    assert_eq!(owner.as_deref(), Some("test"));
    ours.client.request(&CallHangup::new(new_call)).unwrap();
    assert_eq!(third.ended().cause, Some(Cause::RemoteHangup));
}

#[test]
fn two_calls_are_connected_with_one_another() {
    let setup = DaemonSetup { sip: "incoming_refer = \"ask\"", ..DaemonSetup::default() };
    let (mut ours, mut first, mut second) = (Site::asking(), Site::new(&setup), Site::answering());
    let call = ours.dial(&first.uri());
    let at_first = first.state(CallState::Incoming);
    first.client.request(&CallAnswer { call: at_first }).unwrap();
    ours.state(CallState::Answered);
    let (other, at_second) = connect(&mut ours, &mut second);

    ours.client.request(&CallTransfer { call, to: None, other_call: Some(other), force: false }).unwrap();
    first.wait("the wish", |event| {
        matches!(event, Event::CallTransfer { state: TransferState::Requested, .. }).then_some(())
    });
    first.client.request(&CallTransferAccept { call: at_first }).unwrap();
    let replaced = second.wait("the call that takes the place", |event| match event {
        Event::CallIncoming { replaces, .. } => *replaces,
        _ => None,
    });
    assert_eq!(replaced, at_second);
    assert_eq!(second.ended().cause, Some(Cause::Replaced));
    let causes = [ours.ended().cause, ours.ended().cause];
    assert!(causes.contains(&Some(Cause::Transferred)), "{causes:?}");
}

/// Case 15: whoever has the socket is held to the rules.
#[test]
fn case_15_the_rules_of_dialing_hold_for_every_client() {
    let more = "[dialing]\nallow = [\"agent@127.0.0.1\", \"100@127.0.0.1\"]\nmax_concurrent = 1\nmax_call_s = 1\n";
    let mut ours = Site::new(&DaemonSetup { more, ..DaemonSetup::default() });
    let mut theirs = Site::answering();
    let refused = ours.refused("sip:+15551234567@127.0.0.1");
    assert_eq!(refused.code(), Some(ErrorCode::DestinationRefused));
    assert!(refused.message.contains("dialing.allow"), "{refused}");
    assert_eq!(ours.refused("sip:911@127.0.0.1").code(), Some(ErrorCode::DestinationRefused));
    ours.dial(&theirs.uri());
    assert_eq!(ours.refused("sip:100@127.0.0.1").code(), Some(ErrorCode::DialingLimit));
    let summary = ours.ended();
    assert_eq!(summary.cause, Some(Cause::TimeLimit));
    assert!(summary.reason.unwrap().contains("dialing.max_call_s"));
    assert_eq!(theirs.ended().cause, Some(Cause::RemoteHangup));
}

/// An incoming call has a limit of its own, and the caller's does not count for it.
#[test]
fn a_call_that_came_in_is_ended_by_the_limit_for_those() {
    let mut theirs =
        Site::new(&DaemonSetup { incoming: "auto", sip: "max_incoming_call_s = 1", ..DaemonSetup::default() });
    let mut ours = Site::asking();
    ours.dial(&theirs.uri());
    let summary = theirs.ended();
    assert_eq!(summary.cause, Some(Cause::TimeLimit));
    assert!(summary.reason.unwrap().contains("sip.max_incoming_call_s"));
    assert_eq!(ours.ended().cause, Some(Cause::RemoteHangup));
}

/// A whole call over IPv6: signaling, audio both ways, and digits.
#[test]
fn two_daemons_talk_over_ipv6() {
    let address = std::net::Ipv6Addr::LOCALHOST.into();
    if UdpSocket::bind((address, 0)).is_err() {
        // a machine without IPv6 has nothing to be tested
        return;
    }
    let mut ours = Site::new(&DaemonSetup { address, ..DaemonSetup::default() });
    let mut theirs = Site::new(&DaemonSetup { address, incoming: "auto", ..DaemonSetup::default() });
    assert!(theirs.uri().contains("@[::1]:"));
    let (call, at_theirs) = connect(&mut ours, &mut theirs);
    ours.speak(call);
    theirs.speak(at_theirs);
    ours.client.request(&CallDtmf::new(call, "5")).unwrap();
    let digit = theirs.wait("a digit", |event| match event {
        Event::CallDtmf { digit, .. } => Some(*digit),
        _ => None,
    });
    assert_eq!(digit, '5');
    ours.client.request(&CallHangup::new(call)).unwrap();
    let (ours, theirs) = (ours.ended(), theirs.ended());
    for summary in [&ours, &theirs] {
        let stats = summary.stats.as_ref().unwrap();
        assert!(stats.received >= 40 && stats.foreign_packets == 0, "{stats:?}");
    }
    assert_eq!((ours.cause, theirs.cause), (Some(Cause::Hangup), Some(Cause::RemoteHangup)));
}

/// Case 6: a scanner is banned, a person is told, and can forgive.
#[test]
fn case_06_a_ban_is_told_listed_and_ended() {
    let mut ours = Site::new(&DaemonSetup { sip: "trusted = []", ..DaemonSetup::default() });
    let scanner = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = scanner.local_addr().unwrap();
    let options = format!(
        "OPTIONS sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
         To: <sip:100@127.0.0.1>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nUser-Agent: friendly-scanner\r\nMax-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    );
    scanner.send_to(options.as_bytes(), ours.daemon.sip_address()).unwrap();
    let text = ours.wait("the warning", |event| match event {
        Event::DaemonWarning { text } => Some(text.clone()),
        _ => None,
    });
    assert!(text.contains("127.0.0.1 is banned") && text.contains("mr-sip unban"), "{text}");
    let bans = ours.client.request(&SipBans {}).unwrap().bans;
    assert_eq!((bans.len(), bans[0].address, bans[0].count), (1, from.ip(), 1));
    ours.client.request(&SipUnban { address: from.ip() }).unwrap();
    assert!(ours.client.request(&SipBans {}).unwrap().bans.is_empty());
    ours.client.request(&SipUnban { address: from.ip() }).unwrap_err();
}

/// Case 44: no port is left: the caller is told to come again, and the next call goes when one is free.
#[test]
fn case_44_without_a_port_a_caller_is_told_to_come_again() {
    let mut ours = Site::asking();
    let mut theirs = Site::new(&DaemonSetup { incoming: "auto", max_calls: 1, ..DaemonSetup::default() });
    let (call, _) = connect(&mut ours, &mut theirs);
    ours.dial(&theirs.uri());
    let refused = ours.ended();
    assert_eq!((refused.status, refused.cause), (Some(503), Some(Cause::Rejected)));
    ours.client.request(&CallHangup::new(call)).unwrap();
    theirs.ended();
    connect(&mut ours, &mut theirs);
}

/// Case 44 again: calls are allowed, and the ports are used up. On an address of its own, where nobody else takes ports.
#[test]
fn case_44_when_rtp_ports_are_used_up_a_caller_is_told_to_come_again() {
    let more = "[dialing]\ncalls_per_second = 0";
    let mut ours = Site::new(&DaemonSetup { more, ..DaemonSetup::default() });
    let address = Ipv4Addr::new(127, 0, 44, 1).into();
    let mut theirs = Site::new(&DaemonSetup { incoming: "auto", rtp_pairs: 2, address, ..DaemonSetup::default() });
    let (call, _) = connect(&mut ours, &mut theirs);
    connect(&mut ours, &mut theirs);
    for _ in 0..5 {
        ours.dial(&theirs.uri());
        let refused = ours.ended();
        assert_eq!((refused.status, refused.cause), (Some(503), Some(Cause::Rejected)));
    }
    ours.client.request(&CallHangup::new(call)).unwrap();
    theirs.ended();
    // the ports rest for a while after their call (case 38)
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let next = ours.dial(&theirs.uri());
        let answered = ours.wait("an answer or a refusal", |event| match event {
            Event::CallState { call, state: CallState::Answered, .. } if *call == next => Some(true),
            Event::CallState { call, state: CallState::Ended, .. } if *call == next => Some(false),
            _ => None,
        });
        if answered {
            break;
        }
        assert!(Instant::now() < deadline, "the ports come back");
        // every call that is refused uses a pair of ours, which rests too
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn digits_arrive_whatever_codec_carries_them() {
    let media = "codecs = [\"OPUS\"]";
    let mut ours = Site::new(&DaemonSetup { media, ..DaemonSetup::default() });
    let mut theirs = Site::new(&DaemonSetup { incoming: "auto", media, ..DaemonSetup::default() });
    let (call, _) = connect(&mut ours, &mut theirs);
    ours.client.request(&CallDtmf::new(call, "1#")).unwrap();
    for wanted in ['1', '#'] {
        let digit = theirs.wait("a digit", |event| match event {
            Event::CallDtmf { digit, .. } => Some(*digit),
            _ => None,
        });
        assert_eq!(digit, wanted);
    }
}

/// A recording that is begun in the middle of a call leaves out what is said in its pause, and tells where.
#[test]
fn a_call_is_recorded_as_long_as_a_client_wants_it_to_be() {
    let (mut ours, mut theirs) = (Site::asking(), Site::answering());
    let (call, _) = connect(&mut ours, &mut theirs);
    let wrong = |outcome: Result<Done, ControlError>| match outcome {
        Err(ControlError::Api(error)) => assert_eq!(error.code(), Some(ErrorCode::WrongState), "{error}"),
        other => panic!("{other:?}"),
    };
    wrong(ours.client.request(&RecordPause { call }));
    let start = RecordStart { call, path: Some("desk/one.wav".into()) };
    let path = ours.client.request(&start).unwrap().path;
    assert!(path.ends_with("desk/one.wav"), "{path}");
    let state = |site: &mut Site, wanted: RecordingState| {
        site.wait(&format!("a recording that is {wanted:?}"), |event| match event {
            Event::CallRecording { state, path, .. } if *state == wanted => Some(path.clone()),
            _ => None,
        })
    };
    assert_eq!(state(&mut ours, RecordingState::Recording), path);
    assert!(ours.client.request(&RecordStart { call, path: None }).is_err(), "one at a time");
    ours.speak(call);
    ours.client.request(&RecordPause { call }).unwrap();
    state(&mut ours, RecordingState::Paused);
    ours.speak(call);
    ours.client.request(&RecordResume { call }).unwrap();
    state(&mut ours, RecordingState::Recording);
    ours.client.request(&RecordStop { call }).unwrap();
    assert_eq!(state(&mut ours, RecordingState::Finished), path);
    wrong(ours.client.request(&RecordStop { call }));

    // nothing is replaced
    let again = ours.client.request(&start).unwrap_err();
    assert!(again.to_string().contains("is there already"), "{again}");
    let own = ours.client.request(&RecordStart { call, path: None }).unwrap().path;
    assert_eq!(state(&mut ours, RecordingState::Recording), own);
    ours.client.request(&CallHangup::new(call)).unwrap();
    let summary = ours.ended();
    assert_eq!(summary.recording, Some(own));
    let [first, second] = &summary.recordings[..] else { panic!("{:?}", summary.recordings) };
    assert!(first.state == RecordingState::Finished && second.state == RecordingState::Finished);
    let [pause] = first.pauses[..] else { panic!("{first:?}") };
    // a second was said in it
    assert!(pause.for_ms >= 1_000 && pause.at_ms >= first.start_ms + 1_000, "{first:?}");
    let wav = hound::WavReader::open(&path).unwrap();
    let said =
        wav.into_samples::<i16>().skip(1).step_by(2).filter(|sample| sample.as_ref().unwrap().abs() > 100).count();
    assert!((7_000..9_500).contains(&said), "{said} samples of a second that was said twice, once in the pause");
}

/// Case 46: a trace of an encrypted call with a password in it has neither key nor response.
#[test]
fn case_46_a_call_is_traced_while_it_is_up_and_after_without_its_keys() {
    let media = "srtp = \"required\"";
    let mut ours = Site::new(&DaemonSetup { media, ..DaemonSetup::default() });
    let mut theirs = Site::new(&DaemonSetup { media, incoming: "auto", ..DaemonSetup::default() });
    let (call, _) = connect(&mut ours, &mut theirs);
    let trace = |format| CallTrace { call, format };
    let ladder = ours.client.request(&trace(TraceFormat::Ladder)).unwrap().ladder.unwrap();
    for part in ["INVITE", "200", "ACK", &ours.daemon.sip_address().to_string()] {
        assert!(ladder.contains(part), "{part} is missing in:\n{ladder}");
    }
    ours.client.request(&CallHangup::new(call)).unwrap();
    ours.ended();
    let reply = ours.client.request(&trace(TraceFormat::Json)).unwrap();
    let messages = reply.messages.unwrap();
    assert!(messages[0].sent && messages[0].text.starts_with("INVITE "));
    assert!(messages.iter().any(|message| message.text.starts_with("BYE ")));
    // what a key is made of has the length of one, and says nothing
    let keys: Vec<&str> = messages
        .iter()
        .flat_map(|message| message.text.split("inline:").skip(1))
        .map(|key| key.split(['|', '\r']).next().unwrap())
        .collect();
    assert!(keys.len() >= 2 && keys.iter().all(|key| key.bytes().all(|byte| byte == b'x')), "{keys:?}");
    let pcap = ours.client.request(&trace(TraceFormat::Pcap)).unwrap().pcap.unwrap();
    assert!(pcap.starts_with("TTyyo"), "not a capture file of nanoseconds: {pcap}");
    let error = ours.client.request(&CallTrace { call: CallId(999), format: TraceFormat::Ladder }).unwrap_err();
    assert!(matches!(error, ControlError::Api(error) if error.code() == Some(ErrorCode::NoSuchCall)));
}

/// Of three calls between the daemons, two are bridged at ours and the third listens: what the far end of one says is heard
/// by the far ends of the others, and only there.
#[test]
fn bridged_calls_hear_each_other_until_one_ends() {
    let (mut ours, mut theirs) = (Site::asking(), Site::answering());
    let calls: Vec<_> = (0..3).map(|_| connect(&mut ours, &mut theirs)).collect();
    let [(a, far_a), (b, far_b), (listener, far_listener)] = calls[..] else { panic!() };
    let bridge = |call, other_call, mode| CallBridge { call, other_call, mode, force: false };
    ours.client.request(&bridge(a, b, BridgeMode::Talk)).unwrap();
    ours.client.request(&bridge(a, listener, BridgeMode::Listen)).unwrap();
    let mode = ours.wait("a bridge", |event| match event {
        Event::CallBridged { other_call, mode, .. } if *other_call == listener => Some(*mode),
        _ => None,
    });
    assert_eq!(mode, Some(BridgeMode::Listen));
    let refused = ours.client.request(&bridge(a, CallId(99), BridgeMode::Talk)).unwrap_err();
    assert!(matches!(refused, ControlError::Api(error) if error.code() == Some(ErrorCode::NoSuchCall)));

    assert_eq!(theirs.hear(far_a, &[far_b, far_listener]), [true, true], "both hear a's far end");
    assert_eq!(theirs.hear(far_b, &[far_a, far_listener]), [true, true], "both hear b's far end");
    assert_eq!(theirs.hear(far_listener, &[far_a, far_b]), [false, false], "nobody hears who listens");

    ours.client.request(&CallHangup::new(b)).unwrap();
    let over = ours.wait("the end of a bridge", |event| match event {
        Event::CallBridged { call, other_call, mode: None } => Some((*call, *other_call)),
        _ => None,
    });
    assert_eq!(over, (a, b));
    assert_eq!(theirs.hear(far_a, &[far_listener]), [true], "the other bridge is still there");
    ours.client.request(&CallUnbridge { call: a, other_call: None, force: false }).unwrap();
    assert_eq!(theirs.hear(far_a, &[far_listener]), [false]);
}
