//! What comes before the answer: early media, reliable provisional responses (RFC 3262), forks, early UPDATE (case 35).

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net, dial, header,
    peer::{Asking, CONTACT, CONTACT_SDP, Far, INVITE, response, tag_of},
    sdp,
};
use mr_sip_signaling::{CallId, EndCause, Event, SignalingError};

const RELIABLE: &str = "Supported: 100rel\r\n";

fn one() -> Net {
    Net::of(1, Link::GOOD, 3262)
}

fn early(rseq: u32, contact: &str) -> String {
    format!(
        "Contact: <sip:{contact}@10.0.0.50>\r\nRequire: 100rel\r\nRSeq: {rseq}\r\nContent-Type: application/sdp\r\n"
    )
}

/// The early media that agent 0 was told of.
fn told_early(net: &Net) -> Vec<String> {
    let port = |sdp: &String| sdp.split("m=audio ").nth(1).unwrap()[..4].to_owned();
    let fits = |e: &Event| match e {
        Event::Progress { sdp: Some(sdp), .. } => Some(port(sdp)),
        _ => None,
    };
    net.events[0].iter().filter_map(fits).collect()
}

/// Agent 0 is called by the peer, with an offer, and gives it early media; the call, our tag and RSeq.
fn early_media(net: &mut Net, headers: &str, offer: &str) -> (Far, u32) {
    net.peer_says(&Asking { headers, body: offer, ..INVITE }.bytes());
    let call = net.incoming(0);
    net.agents[0].progress(net.now, call, sdp(5000)).unwrap();
    net.soon();
    let progress = net.to_peer("183 INVITE");
    let rseq = header(&progress.text, "RSeq").and_then(|r| r.parse().ok()).unwrap_or(0);
    let far = Far { call, tags: ("peer", tag_of(&progress, "To")), call_id: "call-1".into(), invite: None };
    (far, rseq)
}

fn prack<'a>(far: &'a Far, rack: &'a str, cseq: u32, branch: &'a str, body: &'a str) -> Asking<'a> {
    Asking { headers: rack, body, ..far.asks("PRACK", cseq, branch) }
}

#[test]
fn case_35_early_media_is_told_and_acknowledged_where_that_is_asked() {
    let mut net = one();
    let far = net.dial_peer();
    assert!(header(&far.invite.as_ref().unwrap().text, "Supported").unwrap().contains("100rel"));
    net.peer_answers("INVITE", "183 Session Progress", &early(17, "far"), &sdp(7000));
    let prack = net.to_peer("PRACK");
    assert_eq!(header(&prack.text, "RAck"), Some("17 1 INVITE"));
    assert_eq!(header(&prack.text, "CSeq"), Some("2 PRACK"));
    assert!(prack.text.starts_with("PRACK sip:far@10.0.0.50 SIP/2.0\r\n"));
    assert_eq!(tag_of(&prack, "To"), "far");
    // it comes again, and one comes before its turn
    let sent = net.count(0, "PRACK");
    net.peer_answers("INVITE", "183 Session Progress", &early(17, "far"), &sdp(7000));
    net.peer_answers("INVITE", "183 Session Progress", &early(19, "far"), &sdp(7000));
    assert_eq!(net.count(0, "PRACK"), sent);
    net.peer_answers("PRACK", "200 OK", "", "");
    net.peer_answers("INVITE", "180 Ringing", "Require: 100rel\r\nRSeq: 18\r\n", "");
    assert_eq!(header(&net.to_peer("PRACK").text, "RAck"), Some("18 1 INVITE"));
    assert_eq!(told_early(&net), ["7000"]);
    net.peer_answers("INVITE", "200 OK", CONTACT, "");
    assert!(net.answered(0).1.unwrap().contains("m=audio 7000"), "it counts when the 200 has none");
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    assert_eq!(header(&net.to_peer("BYE").text, "CSeq"), Some("4 BYE"), "after the numbers of the PRACKs");
}

#[test]
fn three_provisional_answers_are_each_acknowledged_in_order() {
    let mut net = one();
    net.dial_peer();
    let invite = net.to_peer("INVITE");
    for rseq in 1..=3 {
        net.peer_says(&response(&invite, "183 Session Progress", "far", &early(rseq, "far"), &sdp(7000)));
    }
    net.soon();
    let racks: Vec<_> = net.outside.iter().filter_map(|s| header(&s.text, "RAck")).collect();
    assert_eq!(racks, ["1 1 INVITE", "2 1 INVITE", "3 1 INVITE"]);
}

#[test]
fn case_34_forks_with_early_media_keep_their_pracks_and_numbers_apart() {
    let mut net = one();
    let far = net.dial_peer();
    let invite = far.invite.clone().unwrap();
    for (i, tag) in ["one", "two", "three"].into_iter().enumerate() {
        let headers = early(100 * (i as u32 + 1), tag);
        net.peer_says(&response(&invite, "183 Session Progress", tag, &headers, &sdp(7001 + i as u16)));
    }
    net.peer_says(&response(&invite, "183 Session Progress", "two", &early(201, "two"), &sdp(7002)));
    net.soon();
    let pracks: Vec<_> = net
        .outside
        .iter()
        .filter(|s| s.kind() == "PRACK")
        .map(|s| (tag_of(s, "To"), header(&s.text, "RAck").unwrap(), header(&s.text, "CSeq").unwrap()))
        .collect();
    let expected = [
        ("one", "100 1 INVITE", "2 PRACK"),
        ("two", "200 1 INVITE", "2 PRACK"),
        ("three", "300 1 INVITE", "2 PRACK"),
        ("two", "201 1 INVITE", "3 PRACK"),
    ];
    assert_eq!(pracks, expected.map(|(tag, rack, cseq)| (tag.to_owned(), rack, cseq)));
    // an UPDATE in the dialog of one of them is answered there, and only for tags that exist
    let update = Far { tags: ("three", far.tags.1.clone()), ..far.clone() };
    net.outside.clear();
    net.peer_says(&update.asks("UPDATE", 1, "u1").bytes());
    let stranger = Far { tags: ("four", far.tags.1.clone()), ..far.clone() };
    net.peer_says(&stranger.asks("UPDATE", 1, "u2").bytes());
    assert_eq!(net.take_kinds_to_peer(), ["200 UPDATE", "481 UPDATE"]);
    // all three answer; the second is first and has no description of its own
    for tag in ["two", "one", "three"] {
        let contact = format!("Contact: <sip:{tag}@10.0.0.50>\r\n");
        net.peer_says(&response(&invite, "200 OK", tag, &contact, ""));
    }
    net.soon();
    let (call, answer) = net.answered(0);
    assert_eq!(call, far.call);
    assert!(answer.unwrap().contains("m=audio 7002"), "the early answer of the same fork");
    let told: Vec<_> =
        net.outside.iter().map(|s| (s.kind(), tag_of(s, "To"), header(&s.text, "CSeq").unwrap().to_owned())).collect();
    let expected = [
        ("ACK", "two", "1 ACK"),
        ("ACK", "one", "1 ACK"),
        ("BYE", "one", "3 BYE"),
        ("ACK", "three", "1 ACK"),
        ("BYE", "three", "3 BYE"),
    ];
    assert_eq!(told, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    net.agents[0].hangup(net.now, call).unwrap();
    net.soon();
    let bye = net.to_peer("BYE");
    assert_eq!((tag_of(&bye, "To"), header(&bye.text, "CSeq")), ("two".into(), Some("4 BYE")));
}

#[test]
fn forks_without_end_are_bounded() {
    let mut net = one();
    net.dial_peer();
    let invite = net.to_peer("INVITE");
    for i in 0..200 {
        net.peer_says(&response(&invite, "183 Progress", &format!("t{i}"), &early(1, "x"), &sdp(7000)));
    }
    net.soon();
    assert_eq!(net.outside.iter().filter(|s| s.kind() == "PRACK").count(), 16);
}

#[test]
fn nobody_ends_a_call_of_ours_by_a_bye_in_one_of_its_early_dialogs() {
    let mut net = one();
    let far = net.dial_peer();
    net.peer_answers("INVITE", "183 Session Progress", &early(1, "far"), &sdp(7000));
    net.peer_says(&far.asks("BYE", 1, "b").bytes());
    assert!(!net.told(0, |e| matches!(e, Event::Ended { .. })));
    net.peer_answers("INVITE", "200 OK", CONTACT_SDP, &sdp(7001));
    net.answered(0);
}

#[test]
fn case_35_early_media_of_ours_is_reliable_where_the_caller_can() {
    let offer = sdp(7000);
    let mut net = one();
    let (far, rseq) = early_media(&mut net, RELIABLE, &offer);
    let progress = net.to_peer("183 INVITE");
    assert_eq!(header(&progress.text, "Require"), Some("100rel"));
    assert!(progress.text.contains("m=audio 5000") && rseq > 0);
    // answering has to wait for the PRACK
    net.agents[0].answer(net.now, far.call, sdp(5000)).unwrap();
    assert!(net.agents[0].answer(net.now, far.call, sdp(5000)).is_err(), "once");
    net.run(Duration::from_millis(1600));
    assert_eq!(net.times(0, "183 INVITE"), [0, 500, 1500], "T1, doubling");
    assert_eq!(net.count(0, "200 INVITE"), 0);
    net.outside.clear();
    let rack = format!("RAck: {rseq} 1 INVITE\r\n");
    net.peer_says(&prack(&far, &rack, 2, "p1", "").bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["200 PRACK", "200 INVITE"]);
    let ok = net.seen.iter().find(|s| s.kind() == "200 INVITE").unwrap();
    assert!(ok.text.ends_with("\r\n\r\n"), "what was acknowledged is not described again");
    net.peer_says(&far.asks("ACK", 1, "a").bytes());
    assert_eq!(net.answered(0), (far.call, None));
    net.run(MINUTE);
    assert_eq!(net.count(0, "183 INVITE"), 3);
}

#[test]
fn an_answer_that_differs_from_the_early_one_is_offered_anew() {
    let offer = sdp(7000);
    let mut net = one();
    let (far, rseq) = early_media(&mut net, RELIABLE, &offer);
    let rack = format!("RAck: {rseq} 1 INVITE\r\n");
    net.peer_says(&prack(&far, &rack, 2, "p1", "").bytes());
    net.agents[0].answer(net.now, far.call, sdp(5002)).unwrap();
    net.soon();
    net.outside.clear();
    net.peer_says(&far.asks("ACK", 1, "a").bytes());
    net.answered(0);
    assert!(net.to_peer("INVITE").text.contains("m=audio 5002"));
    net.peer_answers("INVITE", "200 OK", CONTACT_SDP, &sdp(7002));
    assert!(net.reoffered(0).is_ok());
}

#[test]
fn without_100rel_early_media_is_sent_once_and_the_answer_repeats_it() {
    let offer = sdp(7000);
    let mut net = one();
    let (far, rseq) = early_media(&mut net, "", &offer);
    assert_eq!(rseq, 0);
    net.agents[0].answer(net.now, far.call, sdp(5000)).unwrap();
    net.run(Duration::from_secs(2));
    assert_eq!(net.count(0, "183 INVITE"), 1);
    assert!(net.to_peer("200 INVITE").text.contains("m=audio 5000"));
}

#[test]
fn a_prack_that_never_comes_ends_the_call_after_64_t1() {
    let offer = sdp(7000);
    let mut net = one();
    let (far, _) = early_media(&mut net, RELIABLE, &offer);
    let begin = net.now;
    assert_eq!(net.ended(0), (far.call, EndCause::Timeout, None));
    assert_eq!((net.now - begin).as_secs(), 31, "64 * T1, and it began a little before");
    assert_eq!(net.times(0, "183 INVITE"), [0, 500, 1500, 3500, 7500, 15500, 31500]);
    assert!(net.kinds_to_peer().contains(&"504 INVITE".to_owned()));
}

#[test]
fn a_prack_for_something_else_is_481_and_changes_nothing() {
    let offer = sdp(7000);
    let mut net = one();
    let (far, rseq) = early_media(&mut net, RELIABLE, &offer);
    net.outside.clear();
    for (i, rack) in [
        format!("RAck: {} 1 INVITE\r\n", rseq + 1),
        format!("RAck: {rseq} 2 INVITE\r\n"),
        format!("RAck: {rseq} 1 UPDATE\r\n"),
        format!("RAck: {rseq} 1\r\n"),
        String::new(),
    ]
    .iter()
    .enumerate()
    {
        let branch = format!("w{i}");
        net.peer_says(&prack(&far, rack, 2 + i as u32, &branch, "").bytes());
        assert_eq!(net.take_kinds_to_peer(), ["481 PRACK"], "{rack}");
    }
    let rack = format!("RAck: {rseq} 1 INVITE\r\n");
    net.peer_says(&prack(&far, &rack, 20, "good", "").bytes());
    net.peer_says(&prack(&far, &rack, 21, "again", "").bytes());
    assert_eq!(net.take_kinds_to_peer(), ["200 PRACK", "481 PRACK"]);
}

#[test]
fn what_requires_100rel_gets_everything_reliably_and_one_at_a_time() {
    let offer = sdp(7000);
    let mut net = one();
    net.peer_says(&Asking { headers: "Require: 100rel\r\n", body: &offer, ..INVITE }.bytes());
    let call = net.incoming(0);
    net.agents[0].ring(net.now, call).unwrap();
    net.agents[0].progress(net.now, call, sdp(5000)).unwrap();
    net.soon();
    assert_eq!(net.kinds_to_peer(), ["100 INVITE", "180 INVITE"]);
    let ringing = net.to_peer("180 INVITE");
    let rseq: u32 = header(&ringing.text, "RSeq").unwrap().parse().unwrap();
    let far = Far { call, tags: ("peer", tag_of(&ringing, "To")), call_id: "call-1".into(), invite: None };
    let mut taken = 0;
    while net.agents[0].ring(net.now, call).is_ok() {
        taken += 1;
        assert!(taken < 10, "what waits is bounded");
    }
    net.outside.clear();
    let rack = format!("RAck: {rseq} 1 INVITE\r\n");
    net.peer_says(&prack(&far, &rack, 2, "p1", "").bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["200 PRACK", "183 INVITE"]);
    let progress = net.seen.iter().rev().find(|s| s.kind() == "183 INVITE").unwrap();
    assert_eq!(header(&progress.text, "RSeq"), Some((rseq + 1).to_string().as_str()));
}

#[test]
fn an_early_offer_of_ours_is_answered_in_the_prack() {
    let mut net = one();
    let (far, rseq) = early_media(&mut net, RELIABLE, "");
    assert!(net.to_peer("183 INVITE").text.contains("m=audio 5000"));
    let (rack, answer) = (format!("RAck: {rseq} 1 INVITE\r\n"), sdp(7000));
    net.peer_says(&prack(&far, &rack, 2, "p1", &answer).bytes());
    assert_eq!(net.reoffered(0), Ok(answer.clone()));
    net.agents[0].answer(net.now, far.call, sdp(5000)).unwrap();
    net.soon();
    net.peer_says(&far.asks("ACK", 1, "a").bytes());
    assert_eq!(net.answered(0), (far.call, Some(answer)));
    // and a caller that cannot acknowledge gets no offer before the answer
    let mut net = one();
    early_media(&mut net, "", "");
    assert!(net.to_peer("183 INVITE").text.ends_with("\r\n\r\n"));
}

#[test]
fn an_offer_in_a_prack_is_answered_in_its_200_and_the_call_only_after_that() {
    let offer = sdp(7000);
    let mut net = one();
    let (far, rseq) = early_media(&mut net, RELIABLE, &offer);
    net.outside.clear();
    let (rack, more) = (format!("RAck: {rseq} 1 INVITE\r\n"), sdp(7002));
    net.peer_says(&prack(&far, &rack, 2, "p1", &more).bytes());
    assert_eq!(net.offered(0), (far.call, Some(more)));
    net.agents[0].answer(net.now, far.call, sdp(5002)).unwrap();
    net.soon();
    assert!(net.take_kinds_to_peer().is_empty());
    net.agents[0].answer_reoffer(net.now, far.call, sdp(5002)).unwrap();
    net.soon();
    assert!(net.to_peer("200 PRACK").text.contains("m=audio 5002"));
    assert_eq!(net.take_kinds_to_peer(), ["200 PRACK", "200 INVITE"]);
}

#[test]
fn update_before_the_answer_is_taken_once_the_first_offer_is_through() {
    let offer = sdp(7000);
    let mut net = one();
    let (far, rseq) = early_media(&mut net, RELIABLE, &offer);
    net.outside.clear();
    let update = Asking { body: &offer, ..far.asks("UPDATE", 2, "u1") };
    net.peer_says(&update.bytes());
    assert_eq!(net.take_kinds_to_peer(), ["500 UPDATE"], "our early answer is not acknowledged");
    let rack = format!("RAck: {rseq} 1 INVITE\r\n");
    net.peer_says(&prack(&far, &rack, 3, "p1", "").bytes());
    net.peer_says(&Asking { cseq: 4, branch: "u2", ..update.clone() }.bytes());
    net.offered(0);
    net.agents[0].answer_reoffer(net.now, far.call, sdp(5000)).unwrap();
    net.peer_says(&Asking { cseq: 5, branch: "i2", method: "INVITE", ..update }.bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["200 PRACK", "200 UPDATE", "500 INVITE"]);

    // the same from the other end: their UPDATE to our INVITE
    let mut net = one();
    let far = net.dial_peer();
    net.peer_answers("INVITE", "183 Session Progress", CONTACT_SDP, &sdp(7000));
    net.outside.retain(|s| s.kind() == "INVITE");
    let update = Asking { body: &offer, ..far.asks("UPDATE", 1, "u1") };
    net.peer_says(&update.bytes());
    assert_eq!(net.kinds_to_peer(), ["INVITE", "491 UPDATE"], "an unreliable answer settles nothing");
    net.peer_answers("INVITE", "183 Session Progress", &early(1, "far"), &sdp(7000));
    net.peer_says(&Asking { cseq: 2, branch: "u2", ..update }.bytes());
    net.offered(0);
    net.agents[0].answer_reoffer(net.now, far.call, sdp(4000)).unwrap();
    net.soon();
    assert!(net.kinds_to_peer().contains(&"200 UPDATE".to_owned()));
}

#[test]
fn cancel_and_bye_end_a_call_with_early_media_that_waits() {
    let offer = sdp(7000);
    for method in ["CANCEL", "BYE"] {
        let mut net = one();
        let (far, _) = early_media(&mut net, RELIABLE, &offer);
        net.agents[0].answer(net.now, far.call, sdp(5000)).unwrap();
        let ask = if method == "CANCEL" { Asking { method, ..INVITE } } else { far.asks("BYE", 2, "b") };
        net.peer_says(&ask.bytes());
        assert_eq!(net.ended(0), (far.call, EndCause::Cancelled, None));
        net.peer_says(&Asking { method: "ACK", to_tag: &far.tags.1, ..INVITE }.bytes());
        net.run(MINUTE * 2);
        assert_eq!((net.count(0, "487 INVITE"), net.count(0, "200 INVITE"), net.count(0, "183 INVITE")), (1, 0, 1));
        assert!(net.is_quiet());
    }
}

/// Early media, a PRACK, an answer, between two agents.
fn whole_call(net: &mut Net) -> (CallId, CallId) {
    let ours = net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).unwrap();
    let theirs = net.incoming(1);
    net.agents[1].ring(net.now, theirs).unwrap();
    net.agents[1].progress(net.now, theirs, sdp(5000)).unwrap();
    let status = |e: &Event| matches!(e, Event::Progress { status: 183, sdp: Some(_), .. }).then_some(());
    net.wait(0, MINUTE, status);
    net.agents[1].answer(net.now, theirs, sdp(5000)).unwrap();
    let (call, answer) = net.answered(0);
    assert_eq!(call, ours);
    assert!(answer.unwrap().contains("m=audio 5000"));
    net.answered(1);
    (ours, theirs)
}

#[test]
fn early_media_gets_through_an_awful_link() {
    for seed in 0..60 {
        let mut net = Net::of(2, if seed == 0 { Link::GOOD } else { Link::AWFUL }, 9000 + seed);
        let (ours, theirs) = whole_call(&mut net);
        assert!(net.count(0, "PRACK") >= 1, "seed {seed}");
        let (agent, call) = if seed % 2 == 0 { (0, ours) } else { (1, theirs) };
        net.agents[agent].reoffer(net.now, call, sdp(4004)).unwrap();
        let (there, _) = net.offered(1 - agent);
        net.agents[1 - agent].answer_reoffer(net.now, there, sdp(5004)).unwrap();
        net.reoffered(agent).unwrap();
        net.agents[agent].hangup(net.now, call).unwrap();
        net.ended(0);
        net.ended(1);
        net.run(MINUTE * 2);
        assert!(net.is_quiet(), "seed {seed}");
    }
}

#[test]
fn progress_fits_only_a_call_that_waits() {
    let mut net = Net::of(2, Link::GOOD, 3);
    let (ours, theirs) = net.call_up();
    for (agent, call) in [(0, ours), (1, theirs)] {
        let error = net.agents[agent].progress(net.now, call, sdp(1)).unwrap_err();
        assert!(matches!(error, SignalingError::WrongState { .. }));
    }
}
