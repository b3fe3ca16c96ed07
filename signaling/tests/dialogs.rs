//! What the far end does within, beside and against a call.

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net, dial, header,
    peer::{Asking, INVITE, peer, response},
    sdp, udp,
};
use mr_sip_signaling::{CallId, EndCause, Event};

/// Agent 0 alone, called by the played peer and up; its call and our tag.
fn up(net: &mut Net) -> (CallId, String) {
    let offer = sdp(7000);
    net.peer_says(&Asking { body: &offer, ..INVITE }.bytes());
    let call = net.incoming(0);
    net.agents[0].answer(net.now, call, sdp(5000)).unwrap();
    net.soon();
    let ok = net.to_peer("200 INVITE");
    let tag = header(&ok.text, "To").unwrap().rsplit_once("tag=").unwrap().1.to_owned();
    net.peer_says(&Asking { method: "ACK", branch: "a1", to_tag: &tag, ..INVITE }.bytes());
    net.answered(0);
    net.outside.clear();
    (call, tag)
}

fn one() -> Net {
    Net::of(1, Link::GOOD, 77)
}

#[test]
fn a_reoffer_is_answered_with_a_risen_version() {
    let mut net = one();
    let (call, tag) = up(&mut net);
    let first = net.seen.iter().rev().find(|s| s.kind() == "200 INVITE").unwrap().text.clone();
    let origin = |text: &str| {
        let line = text.lines().find(|l| l.starts_with("o=")).unwrap();
        let mut fields = line.split(' ').skip(1).map(|f| f.parse::<u64>().unwrap());
        (fields.next().unwrap(), fields.next().unwrap())
    };
    let hold = sdp(7000).replace("sendrecv", "sendonly");
    let ask = Asking { branch: "r1", to_tag: &tag, cseq: 2, body: &hold, ..INVITE };
    net.peer_says(&ask.bytes());
    let told = net.wait(0, MINUTE, |e| match e {
        Event::Reoffer { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(told.as_deref(), Some(hold.as_str()));
    net.agents[0].answer_reoffer(net.now, call, sdp(5000).replace("sendrecv", "recvonly")).unwrap();
    net.soon();
    let second = net.to_peer("200 INVITE").text;
    assert_eq!(origin(&second), (origin(&first).0, origin(&first).1 + 1));

    net.peer_says(&Asking { method: "ACK", branch: "a2", cseq: 2, to_tag: &tag, ..INVITE }.bytes());
    net.peer_says(&Asking { branch: "r2", cseq: 3, ..ask }.bytes());
    net.agents[0].answer_reoffer(net.now, call, sdp(5000).replace("sendrecv", "recvonly")).unwrap();
    net.soon();
    assert_eq!(origin(&net.to_peer("200 INVITE").text), origin(&second), "the same description, the same version");
}

#[test]
fn a_reoffer_without_description_makes_us_offer() {
    let mut net = one();
    let (call, tag) = up(&mut net);
    net.peer_says(&Asking { branch: "r1", to_tag: &tag, cseq: 2, ..INVITE }.bytes());
    net.wait(0, MINUTE, |e| matches!(e, Event::Reoffer { sdp: None, .. }).then_some(()));
    net.agents[0].answer_reoffer(net.now, call, sdp(5000)).unwrap();
    let answer = sdp(7000);
    net.peer_says(&Asking { method: "ACK", branch: "a2", cseq: 2, to_tag: &tag, body: &answer, ..INVITE }.bytes());
    let told = net.wait(0, MINUTE, |e| match e {
        Event::ReofferAnswered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(told, answer);
}

#[test]
fn a_call_without_offer_is_offered_by_us_and_answered_in_the_ack() {
    let mut net = one();
    net.peer_says(&INVITE.bytes());
    let call = net.wait(0, MINUTE, |e| match e {
        Event::Incoming { call, offer: None, .. } => Some(*call),
        _ => None,
    });
    net.agents[0].answer(net.now, call, sdp(5000)).unwrap();
    net.soon();
    let ok = net.to_peer("200 INVITE");
    let tag = header(&ok.text, "To").unwrap().rsplit_once("tag=").unwrap().1.to_owned();
    let answer = sdp(7000);
    net.peer_says(&Asking { method: "ACK", branch: "a1", to_tag: &tag, body: &answer, ..INVITE }.bytes());
    assert_eq!(net.answered(0), (call, Some(answer)));
}

#[test]
fn a_reoffer_that_the_application_refuses_or_forgets_is_488_and_the_call_goes_on() {
    let mut net = one();
    let (call, tag) = up(&mut net);
    let offer = sdp(7000);
    let ask = Asking { branch: "r1", to_tag: &tag, cseq: 2, body: &offer, ..INVITE };
    net.peer_says(&ask.bytes());
    net.agents[0].reject_reoffer(net.now, call, 488).unwrap();
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["100 INVITE", "488 INVITE"]);
    net.peer_says(&Asking { method: "ACK", branch: "r1", cseq: 2, ..ask }.bytes());
    net.peer_says(&Asking { branch: "r2", cseq: 3, ..ask }.bytes());
    net.run(Duration::from_secs(11));
    assert_eq!(net.take_kinds_to_peer()[..2], ["100 INVITE", "488 INVITE"]);
    assert!(net.agents[0].reject_reoffer(net.now, call, 488).is_err());
    net.agents[0].hangup(net.now, call).unwrap();
}

#[test]
fn update_is_answered_and_moves_the_target() {
    let mut net = one();
    let (call, tag) = up(&mut net);
    let moved = Asking { method: "UPDATE", branch: "u1", to_tag: &tag, cseq: 2, ..INVITE }.bytes();
    let moved =
        String::from_utf8(moved).unwrap().replace("Contact: <sip:peer@10.0.0.50>", "Contact: <sip:new@10.0.0.51:5070>");
    net.peer_says(moved.as_bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["200 UPDATE"]);
    net.agents[0].hangup(net.now, call).unwrap();
    net.soon();
    let bye = net.to_peer("BYE");
    assert_eq!(bye.to, "10.0.0.51:5070".parse().unwrap());
    assert!(bye.text.starts_with("BYE sip:new@10.0.0.51:5070 SIP/2.0"));
}

#[test]
fn requests_within_a_call_have_their_answers() {
    let mut net = one();
    let (_, tag) = up(&mut net);
    let mut cseq = 1;
    for (method, headers, body, answer) in [
        ("OPTIONS", "", "", "200"),
        ("INFO", "", "", "200"),
        ("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=*\r\nDuration=90\r\n", "200"),
        ("INFO", "Content-Type: application/dtmf\r\n", "7", "200"),
        ("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=hello\r\n", "400"),
        ("INFO", "Content-Type: text/plain\r\n", "hello", "415"),
        ("MESSAGE", "Content-Type: text/plain\r\n", "hello", "405"),
        ("REFER", "Refer-To: <sip:premium@example.com>\r\n", "", "603"),
        ("NOTIFY", "", "", "489"),
        ("NOTIFY", "Event: refer\r\nSubscription-State: active\r\n", "", "481"),
        ("SUBSCRIBE", "Event: refer\r\n", "", "405"),
        ("PRACK", "RAck: 1 1 INVITE\r\n", "", "481"),
        ("FROB", "", "", "501"),
        ("BYE", "Require: teleportation\r\n", "", "420"),
    ] {
        cseq += 1;
        let branch = format!("m{cseq}");
        net.peer_says(&Asking { method, branch: &branch, to_tag: &tag, cseq, headers, body, ..INVITE }.bytes());
        net.soon();
        assert_eq!(net.take_kinds_to_peer(), [format!("{answer} {method}")], "{method} {headers}");
    }
    let digits: Vec<_> = net.events[0]
        .iter()
        .filter_map(|e| match e {
            Event::Digit { digit, duration, .. } => Some((*digit, duration.as_millis())),
            _ => None,
        })
        .collect();
    assert_eq!(digits, [('*', 90), ('7', 160)]);
}

#[test]
fn requests_outside_a_call_have_their_answers() {
    let mut net = one();
    for (method, answer) in [
        ("OPTIONS", "200"),
        ("REGISTER", "405"),
        ("SUBSCRIBE", "405"),
        ("MESSAGE", "405"),
        ("PUBLISH", "405"),
        ("REFER", "603"),
        ("PRACK", "481"),
        ("BYE", "481"),
        ("UPDATE", "481"),
        ("INFO", "481"),
        ("NOTIFY", "481"),
        ("FROB", "501"),
        ("CANCEL", "481"),
    ] {
        net.peer_says(&Asking { method, ..INVITE }.bytes());
        net.peer_says(&Asking { method, ..INVITE }.bytes());
        net.soon();
        let twice = format!("{answer} {method}");
        assert_eq!(net.kinds_to_peer(), [twice.clone(), twice], "{method}");
        assert_eq!(net.outside[0].text, net.outside[1].text, "the same answer, with the same tag");
        if matches!(answer, "405" | "501") {
            assert!(header(&net.outside[0].text, "Allow").unwrap().contains("INVITE"), "{method}");
        }
        net.outside.clear();
    }
    net.peer_says(&Asking { method: "ACK", ..INVITE }.bytes());
    assert!(net.kinds_to_peer().is_empty());
    assert!(
        net.agents[0].poll_timeout().is_none() && net.agents[0].is_idle(),
        "case 9: nothing is kept of any of them"
    );
}

#[test]
fn an_invite_that_cannot_become_a_call_is_refused() {
    let mut net = one();
    let offer = sdp(7000);
    for (headers, body, drop, answer) in [
        ("Require: teleportation\r\n", offer.as_str(), "", "420"),
        ("Content-Encoding: gzip\r\n", offer.as_str(), "", "415"),
        ("Content-Type: text/html\r\n", "<b>hello</b>", "", "415"),
        ("", offer.as_str(), "Contact: <sip:peer@10.0.0.50>\r\n", "400"),
        ("", offer.as_str(), "Call-ID: call-1\r\n", "400"),
    ] {
        let text = String::from_utf8(Asking { headers, body, ..INVITE }.bytes()).unwrap().replace(drop, "");
        net.peer_says(text.as_bytes());
        net.soon();
        assert_eq!(net.take_kinds_to_peer(), [format!("{answer} INVITE")], "{headers}");
    }
    let other = String::from_utf8(INVITE.bytes()).unwrap();
    net.peer_says(other.replace("sip:agent@10.0.0.1 SIP", "urn:service:sos SIP").as_bytes());
    net.peer_says(other.replace("sip:agent@10.0.0.1 SIP/2.0", "sip:agent@10.0.0.1 SIP/7.0").as_bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["416 INVITE", "505 INVITE"]);
    assert!(net.events[0].is_empty());
}

#[test]
fn a_full_house_answers_503() {
    let mut config = mr_sip_signaling::UserAgentConfig::new(common::address(1));
    config.max_calls = 1;
    let mut net = Net::new(vec![config], Link::GOOD, 5);
    up(&mut net);
    net.peer_says(&Asking { branch: "i2", call_id: "call-2", ..INVITE }.bytes());
    net.soon();
    assert!(net.to_peer("503 INVITE").text.contains("Retry-After: 10"));
    assert!(net.agents[0].dial(net.now, dial("sip:x@10.0.0.9")).is_err());
}

#[test]
fn case_44_a_503_says_when_to_come_again_and_so_does_the_500_of_a_request_out_of_order() {
    let mut net = Net::of(1, Link::GOOD, 78);
    for (status, expected) in [(503, Some("10")), (486, None), (480, None)] {
        let call_id = format!("refused-{status}");
        net.peer_says(&Asking { branch: &call_id, call_id: &call_id, ..INVITE }.bytes());
        let call = net.incoming(0);
        net.agents[0].reject(net.now, call, status).unwrap();
        net.soon();
        let answer = net.to_peer(&format!("{status} INVITE"));
        assert_eq!(header(&answer.text, "Retry-After"), expected, "{status}");
    }
    let (_, tag) = up(&mut net);
    for (i, cseq) in (2..30).rev().enumerate() {
        let branch = format!("o{i}");
        net.peer_says(&Asking { method: "OPTIONS", branch: &branch, to_tag: &tag, cseq, ..INVITE }.bytes());
        net.soon();
        if i > 0 {
            let seconds: u32 = header(&net.to_peer("500 OPTIONS").text, "Retry-After").unwrap().parse().unwrap();
            assert!(seconds <= 10, "RFC 3261 section 14.2: {seconds}");
        }
    }
    // one that shuts down says so too
    net.agents[0].shutdown(net.now);
    net.peer_says(&Asking { method: "OPTIONS", branch: "closed", call_id: "closed", ..INVITE }.bytes());
    net.soon();
    assert_eq!(header(&net.to_peer("503 OPTIONS").text, "Retry-After"), Some("10"));
}

#[test]
fn the_same_invite_by_another_way_is_482() {
    let mut net = one();
    net.peer_says(&INVITE.bytes());
    net.peer_says(&INVITE.bytes());
    net.peer_says(&Asking { branch: "other-way", ..INVITE }.bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["100 INVITE", "100 INVITE", "482 INVITE"]);
    net.incoming(0);
    assert!(net.events[0].is_empty(), "one call");
}

#[test]
fn case_13_guessed_and_forged_requests_change_nothing() {
    let mut net = one();
    let (call, tag) = up(&mut net);
    let offer = sdp(6666);
    for (i, (method, from_tag, to_tag, call_id, cseq)) in [
        ("BYE", "peer", "guessed", "call-1", 5),
        ("BYE", "guessed", tag.as_str(), "call-1", 5),
        ("BYE", "peer", tag.as_str(), "call-2", 5),
        ("INVITE", "guessed", tag.as_str(), "call-1", 5),
    ]
    .into_iter()
    .enumerate()
    {
        let branch = format!("g{i}");
        let body = if method == "INVITE" { offer.as_str() } else { "" };
        net.peer_says(&Asking { method, branch: &branch, from_tag, to_tag, call_id, cseq, headers: "", body }.bytes());
        net.soon();
        assert_eq!(net.take_kinds_to_peer(), [format!("481 {method}")]);
    }
    net.peer_says(&Asking { method: "BYE", branch: "old", to_tag: &tag, cseq: 1, ..INVITE }.bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["500 BYE"], "out of order");
    assert!(net.events[0].is_empty());
    net.agents[0].hangup(net.now, call).unwrap();
}

#[test]
fn case_13_a_cancel_from_elsewhere_is_481() {
    let mut net = one();
    net.peer_says(&INVITE.bytes());
    net.incoming(0);
    let to = net.addresses[0];
    net.deliver("10.0.0.66:5060".parse().unwrap(), to, &Asking { method: "CANCEL", ..INVITE }.bytes());
    assert_eq!(net.outside.pop().unwrap().kind(), "481 CANCEL");
    net.peer_says(&Asking { method: "CANCEL", ..INVITE }.bytes());
    assert_eq!(net.ended(0).1, EndCause::Cancelled);
    assert_eq!(net.take_kinds_to_peer()[1..], ["200 CANCEL", "487 INVITE"]);
}

#[test]
fn case_14_forged_answers_are_not_ours() {
    let mut net = one();
    net.agents[0].dial(net.now, dial("sip:peer@10.0.0.50")).unwrap();
    net.soon();
    let mut invite = net.to_peer("INVITE");
    let good = invite.text.clone();
    invite.text = good.replace("branch=z9hG4bK", "branch=z9hG4bK0");
    net.peer_says(&response(&invite, "200 OK", "x", "Contact: <sip:evil@10.0.0.66>\r\n", &sdp(1)));
    invite.text = good.replace("Call-ID: ", "Call-ID: 0");
    net.peer_says(&response(&invite, "200 OK", "x", "Contact: <sip:evil@10.0.0.66>\r\n", &sdp(1)));
    assert!(net.events[0].is_empty());
    assert_eq!(net.agents[0].counters().stray_responses, 2);
    invite.text = good;
    net.peer_says(&response(&invite, "302 Moved Temporarily", "x", "Contact: <sip:evil@10.0.0.66>\r\n", ""));
    assert_eq!(net.ended(0).1, EndCause::Rejected, "redirects are not followed");
}

#[test]
fn case_34_forked_answers_are_acknowledged_and_all_but_the_first_ended() {
    let mut net = one();
    let call = net.agents[0].dial(net.now, dial("sip:peer@10.0.0.50")).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    for (tag, port) in [("one", 7001), ("two", 7002), ("three", 7003), ("one", 7001)] {
        let contact = format!("Contact: <sip:{tag}@10.0.0.50>\r\nContent-Type: application/sdp\r\n");
        net.peer_says(&response(&invite, "200 OK", tag, &contact, &sdp(port)));
    }
    net.soon();
    let (answered, answer) = net.answered(0);
    assert_eq!(answered, call);
    assert!(answer.unwrap().contains("m=audio 7001"));
    let told: Vec<_> =
        net.outside.iter().skip(1).map(|s| (s.kind(), s.text.split(' ').nth(1).unwrap().to_owned())).collect();
    let uri = |tag| format!("sip:{tag}@10.0.0.50");
    assert_eq!(
        told,
        [
            ("ACK".into(), uri("one")),
            ("ACK".into(), uri("two")),
            ("BYE".into(), uri("two")),
            ("ACK".into(), uri("three")),
            ("BYE".into(), uri("three")),
            ("ACK".into(), uri("one")),
        ]
    );
    assert!(net.events[0].is_empty(), "the call is up");
}

#[test]
fn requests_follow_the_route_set() {
    let mut net = one();
    let call = net.agents[0].dial(net.now, dial("sip:peer@10.0.0.50")).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    let headers = "Contact: <sip:far@192.168.1.1>\r\nContent-Type: application/sdp\r\n\
        Record-Route: <sip:10.0.0.61;lr>, <sip:10.0.0.60:5080;lr>\r\n";
    net.peer_says(&response(&invite, "200 OK", "x", headers, &sdp(7000)));
    net.agents[0].hangup(net.now, call).unwrap();
    net.soon();
    for kind in ["ACK", "BYE"] {
        let sent = net.to_peer(kind);
        assert_eq!(sent.to, "10.0.0.60:5080".parse().unwrap());
        assert!(sent.text.starts_with(&format!("{kind} sip:far@192.168.1.1 SIP/2.0\r\n")));
        let routes: Vec<_> = sent.text.lines().filter(|l| l.starts_with("Route: ")).collect();
        assert_eq!(routes, ["Route: <sip:10.0.0.60:5080;lr>", "Route: <sip:10.0.0.61;lr>"]);
    }
}

#[test]
fn a_strict_router_gets_what_it_wants() {
    let mut net = one();
    net.agents[0].dial(net.now, dial("sip:peer@10.0.0.50")).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    let headers = "Contact: <sip:far@192.168.1.1>\r\nRecord-Route: <sip:10.0.0.61;lr>, <sip:10.0.0.60>\r\n";
    net.peer_says(&response(&invite, "200 OK", "x", headers, ""));
    net.soon();
    let ack = net.to_peer("ACK");
    assert!(ack.text.starts_with("ACK sip:10.0.0.60 SIP/2.0\r\n"), "{}", ack.text);
    assert_eq!(ack.to, "10.0.0.60:5060".parse().unwrap());
    let routes: Vec<_> = ack.text.lines().filter(|l| l.starts_with("Route: ")).collect();
    assert_eq!(routes, ["Route: <sip:10.0.0.61;lr>", "Route: <sip:far@192.168.1.1>"]);
}

#[test]
fn case_35_early_media_counts_when_the_200_has_none() {
    let mut net = one();
    net.agents[0].dial(net.now, dial("sip:peer@10.0.0.50")).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    let content = "Contact: <sip:far@10.0.0.50>\r\nContent-Type: application/sdp\r\n";
    net.peer_says(&response(&invite, "183 Session Progress", "x", content, &sdp(7000)));
    net.wait(0, MINUTE, |e| matches!(e, Event::Progress { status: 183, sdp: Some(_), .. }).then_some(()));
    net.peer_says(&response(&invite, "200 OK", "x", "Contact: <sip:far@10.0.0.50>\r\n", ""));
    assert!(net.answered(0).1.unwrap().contains("m=audio 7000"));
}

#[test]
fn responses_go_where_rfc_3581_says() {
    let mut net = one();
    let to = net.addresses[0];
    let behind_nat = "203.0.113.9:40000".parse().unwrap();
    let options = Asking { method: "OPTIONS", ..INVITE }.bytes();
    net.deliver(behind_nat, to, &options);
    let answer = net.outside.pop().unwrap();
    assert_eq!(answer.to, behind_nat);
    assert!(header(&answer.text, "Via").unwrap().ends_with("rport=40000;branch=z9hG4bKi1;received=203.0.113.9"));
    let without = String::from_utf8(options).unwrap().replace("rport;", "");
    net.deliver(behind_nat, to, without.as_bytes());
    let answer = net.outside.pop().unwrap();
    assert_eq!(answer.to, "203.0.113.9:5060".parse().unwrap(), "the source's address, the Via's port");
}

#[test]
fn a_bye_before_the_answer_ends_the_call() {
    let mut net = one();
    net.peer_says(&INVITE.bytes());
    let call = net.incoming(0);
    net.agents[0].ring(net.now, call).unwrap();
    net.soon();
    let ringing = net.to_peer("180 INVITE");
    let tag = header(&ringing.text, "To").unwrap().rsplit_once("tag=").unwrap().1.to_owned();
    net.outside.clear();
    net.peer_says(&Asking { method: "BYE", branch: "b", to_tag: &tag, cseq: 2, ..INVITE }.bytes());
    assert_eq!(net.ended(0), (call, EndCause::Cancelled, None));
    assert_eq!(net.take_kinds_to_peer(), ["200 BYE", "487 INVITE"]);
}

#[test]
fn names_are_asked_for_and_waited_for() {
    let mut net = one();
    let call = net.agents[0].dial(net.now, dial("sip:peer@sip.example.com:5070")).unwrap();
    net.soon();
    assert!(net.outside.is_empty());
    let question = net.agents[0].poll_resolve().unwrap();
    assert_eq!((question.host.as_str(), question.port), ("sip.example.com", Some(5070)));
    assert!(net.agents[0].poll_resolve().is_none());
    let now = net.now;
    net.agents[0].handle_resolved(now, question.id, &[udp("[2001:db8::1]:5070"), udp("10.0.0.50:5060")], MINUTE);
    net.soon();
    assert_eq!(net.to_peer("INVITE").to, peer(), "an IPv4 socket takes the IPv4 address");
    net.agents[0].hangup(now, call).unwrap();

    let call = net.agents[0].dial(now, dial("sip:peer@nowhere.example.com")).unwrap();
    let question = net.agents[0].poll_resolve().unwrap();
    net.agents[0].handle_resolved(now, question.id, &[], MINUTE);
    net.wait(0, MINUTE, |e| {
        matches!(e, Event::Ended { call: c, cause: EndCause::Network, .. } if *c == call).then_some(())
    });

    let call = net.agents[0].dial(now, dial("sip:peer@slow.example.com")).unwrap();
    net.agents[0].hangup(now, call).unwrap();
    let question = net.agents[0].poll_resolve().unwrap();
    net.outside.clear();
    net.agents[0].handle_resolved(now, question.id, &[udp("10.0.0.50:5060")], MINUTE);
    net.soon();
    assert!(net.take_kinds_to_peer().is_empty(), "hung up before the name was found");
}

#[test]
fn an_unreachable_address_is_given_up_when_that_is_said_twice() {
    let mut net = one();
    let call = net.agents[0].dial(net.now, dial("sip:peer@10.0.0.50")).unwrap();
    let now = net.now;
    net.agents[0].handle_unreachable(now, peer());
    net.run(Duration::from_secs(1));
    assert!(net.events[0].is_empty(), "once may be old news");
    assert_eq!(net.take_kinds_to_peer(), ["INVITE", "INVITE"]);
    let now = net.now;
    net.agents[0].handle_unreachable(now, peer());
    assert_eq!(net.ended(0), (call, EndCause::Network, None));
    net.run(MINUTE);
    assert!(net.take_kinds_to_peer().is_empty() && net.agents[0].is_idle());
}
