//! Other media in a call that is up: hold, resume, another address, and offers that meet (RFC 3261 section 14, RFC 3311).

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net, address, header,
    peer::{CONTACT, CONTACT_SDP, response},
    sdp,
};
use mr_sip_signaling::{Account, EndCause, Event, Password, SignalingError, UserAgentConfig};

fn one() -> Net {
    Net::of(1, Link::GOOD, 31)
}

fn hold() -> String {
    sdp(4000).replace("sendrecv", "sendonly")
}

fn held() -> String {
    sdp(5000).replace("sendrecv", "recvonly")
}

fn origin(text: &str) -> (u64, u64) {
    let line = text.lines().find(|l| l.starts_with("o=")).expect("a description");
    let mut fields = line.split(' ').skip(1).map(|f| f.parse::<u64>().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

/// Runs until both ends of a call between agents 0 and 1 have had their offers answered: each answers the other's.
fn settle(net: &mut Net, offers: &[usize]) -> Vec<Result<String, Option<u16>>> {
    let until = net.now + MINUTE;
    let mut results = vec![None; offers.len()];
    while net.now < until && results.iter().any(Option::is_none) {
        for agent in 0..2 {
            while let Some(i) = net.events[agent].iter().position(|e| matches!(e, Event::Reoffer { .. })) {
                let Event::Reoffer { call, .. } = net.events[agent].remove(i) else { unreachable!() };
                let _ = net.agents[agent].answer_reoffer(net.now, call, sdp(5500));
            }
        }
        for (i, agent) in offers.iter().enumerate() {
            let found = net.events[*agent]
                .iter()
                .position(|e| matches!(e, Event::ReofferAnswered { .. } | Event::ReofferRefused { .. }));
            if let Some(found) = found {
                results[i] = Some(match net.events[*agent].remove(found) {
                    Event::ReofferAnswered { sdp, .. } => Ok(sdp),
                    Event::ReofferRefused { status, .. } => Err(status),
                    _ => unreachable!(),
                });
            }
        }
        net.run(Duration::from_millis(10));
    }
    results.into_iter().map(|r| r.expect("every offer has its answer")).collect()
}

#[test]
fn hold_and_resume_go_both_ways() {
    let mut net = Net::of(2, Link::GOOD, 1);
    let (ours, theirs) = net.call_up();
    for (agent, call, other) in [(0, ours, 1), (1, theirs, 0)] {
        for (offer, answer) in [(hold(), held()), (sdp(4000), sdp(5000))] {
            net.agents[agent].reoffer(net.now, call, offer.clone()).unwrap();
            let (there, told) = net.offered(other);
            assert!(told.unwrap().lines().skip(2).eq(offer.lines().skip(2)));
            net.agents[other].answer_reoffer(net.now, there, answer.clone()).unwrap();
            assert!(net.reoffered(agent).unwrap().lines().skip(2).eq(answer.lines().skip(2)));
        }
    }
    net.agents[0].hangup(net.now, ours).unwrap();
    net.ended(1);
    net.run(MINUTE * 2);
    assert!(net.is_quiet());
}

#[test]
fn our_offer_has_a_risen_version_and_the_next_number_and_is_acknowledged() {
    let mut net = one();
    let far = net.answered_by_peer("");
    let first = far.invite.as_ref().unwrap().text.clone();
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.soon();
    let second = net.to_peer("INVITE");
    assert_eq!(origin(&second.text), (origin(&first).0, origin(&first).1 + 1));
    assert_eq!(header(&second.text, "CSeq"), Some("2 INVITE"));
    assert!(header(&second.text, "To").unwrap().contains("tag=far"));
    let moved = CONTACT_SDP.replace("10.0.0.50", "10.0.0.51");
    net.peer_answers("INVITE", "200 OK", &moved, &sdp(7001));
    assert!(net.reoffered(0).unwrap().contains("m=audio 7001"));
    let ack = net.to_peer("ACK");
    assert_eq!(header(&ack.text, "CSeq"), Some("2 ACK"));
    assert!(ack.text.starts_with("ACK sip:peer@10.0.0.51 "), "the 200 has moved the target");
    net.outside.clear();
    net.peer_says(&response(&second, "200 OK", "far", &moved, &sdp(7001)));
    assert_eq!(net.take_kinds_to_peer(), ["ACK"], "a 200 that comes again is acknowledged again");
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    let bye = net.to_peer("BYE");
    assert_eq!((header(&bye.text, "CSeq"), bye.to), (Some("3 BYE"), "10.0.0.51:5060".parse().unwrap()));
}

#[test]
fn one_offer_at_a_time() {
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    let again = net.agents[0].reoffer(net.now, far.call, hold());
    assert!(matches!(again, Err(SignalingError::WrongState { .. })));
    let ringing = net.agents[0].dial(net.now, common::dial("sip:peer@10.0.0.50")).unwrap();
    assert!(net.agents[0].reoffer(net.now, ringing, hold()).is_err(), "nothing is up yet");
}

#[test]
fn a_refused_offer_leaves_the_call_as_it_was() {
    let mut net = one();
    let far = net.answered_by_peer("");
    for status in ["488 Not Acceptable Here", "603 Decline", "500 Oops"] {
        net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
        net.soon();
        net.peer_answers("INVITE", status, "", "");
        assert_eq!(net.reoffered(0), Err(status[..3].parse().ok()));
    }
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.soon();
    net.peer_answers("INVITE", "200 OK", CONTACT, "");
    assert_eq!(net.reoffered(0), Err(Some(200)), "an answer without a description is none");
    net.run(MINUTE);
    assert!(net.events[0].is_empty(), "the call is up");
    net.agents[0].hangup(net.now, far.call).unwrap();
}

#[test]
fn case_34_a_call_that_the_far_end_does_not_know_any_more_ends() {
    for status in ["481 Call/Transaction Does Not Exist", "408 Request Timeout"] {
        let mut net = one();
        let far = net.answered_by_peer("");
        net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
        net.soon();
        net.peer_answers("INVITE", status, "", "");
        assert_eq!(net.reoffered(0), Err(status[..3].parse().ok()));
        let cause = if status.starts_with("481") { EndCause::RemoteHangup } else { EndCause::Timeout };
        assert_eq!(net.ended(0), (far.call, cause, status[..3].parse().ok()));
        assert!(net.kinds_to_peer().contains(&"BYE".to_owned()));
    }
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    let begin = net.now;
    assert_eq!(net.ended(0), (far.call, EndCause::Timeout, None));
    assert_eq!((net.now - begin).as_millis(), 32_000, "timer B");
    assert!(net.told(0, |e| matches!(e, Event::ReofferRefused { status: None, .. })));
}

#[test]
fn case_34_glare_is_491_and_each_side_comes_again_in_its_own_time() {
    for (owner, range) in [(true, 2100..=4000), (false, 0..=2000)] {
        for seed in 0..20 {
            let mut net = Net::of(1, Link::GOOD, seed);
            let far = if owner { net.answered_by_peer("") } else { net.called_by_peer("") };
            net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
            net.soon();
            let offer = sdp(7000);
            net.peer_says(&common::peer::Asking { body: &offer, ..far.asks("INVITE", 2, "g1") }.bytes());
            net.soon();
            assert_eq!(net.take_kinds_to_peer(), ["INVITE", "491 INVITE"]);
            net.peer_says(&far.asks("ACK", 2, "g1").bytes());
            let first = net.seen.iter().rev().find(|s| s.kind() == "INVITE").unwrap().clone();
            net.peer_says(&response(&first, "491 Request Pending", "far", "", ""));
            let begin = net.now;
            net.soon();
            assert_eq!(net.take_kinds_to_peer(), ["ACK"]);
            while net.outside.is_empty() {
                net.run(Duration::from_millis(1));
            }
            let waited = (net.now - begin).as_millis();
            assert!(range.contains(&(waited - 1)) || range.contains(&waited), "{waited} ms, owner: {owner}");
            net.peer_answers("INVITE", "200 OK", CONTACT_SDP, &sdp(7002));
            assert!(net.reoffered(0).is_ok());
        }
    }
}

#[test]
fn case_34_a_far_end_that_is_never_ready_is_given_up_after_a_few_tries() {
    let mut net = one();
    let far = net.called_by_peer("");
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    let mut tries = 0;
    while !net.told(0, |e| matches!(e, Event::ReofferRefused { .. })) {
        net.run(Duration::from_millis(100));
        let invites: Vec<_> = net.outside.drain(..).filter(|s| s.kind() == "INVITE").collect();
        for invite in invites {
            tries += 1;
            net.peer_says(&response(&invite, "491 Request Pending", "peer", "", ""));
        }
        assert!(tries < 20);
    }
    assert_eq!((tries, net.reoffered(0)), (9, Err(Some(491))));
}

#[test]
fn case_34_two_agents_that_offer_at_the_same_moment_both_get_through() {
    for (seed, link) in (0..40).map(|s| (s, if s % 2 == 0 { Link::GOOD } else { Link::AWFUL })) {
        let mut net = Net::of(2, link, 300 + seed);
        let (ours, theirs) = net.call_up();
        net.agents[0].reoffer(net.now, ours, hold()).unwrap();
        net.agents[1].reoffer(net.now, theirs, sdp(6000)).unwrap();
        let results = settle(&mut net, &[0, 1]);
        assert!(results.iter().all(Result::is_ok), "seed {seed}: {results:?}");
        assert!(!net.told(0, |e| matches!(e, Event::Ended { .. })), "seed {seed}");
        net.agents[0].hangup(net.now, ours).unwrap();
        net.ended(0);
        net.ended(1);
        net.run(MINUTE * 2);
        assert!(net.is_quiet(), "seed {seed}");
    }
}

#[test]
fn offers_get_through_an_awful_link_whoever_makes_them() {
    for seed in 0..60 {
        let mut net = Net::of(2, Link::AWFUL, 4000 + seed);
        let (ours, theirs) = net.call_up();
        for round in 0..4 {
            let (agent, call) = if (seed + round) % 2 == 0 { (0, ours) } else { (1, theirs) };
            net.agents[agent].reoffer(net.now, call, if round % 2 == 0 { hold() } else { sdp(4000) }).unwrap();
            let results = settle(&mut net, &[agent]);
            assert!(results[0].is_ok(), "seed {seed}, round {round}: {results:?}");
        }
        net.agents[0].hangup(net.now, ours).unwrap();
        net.ended(0);
        net.ended(1);
        net.run(MINUTE * 2);
        assert!(net.is_quiet(), "seed {seed}");
    }
}

#[test]
fn update_glare_is_491_and_a_second_offer_before_the_first_is_answered_500() {
    let mut net = one();
    let far = net.answered_by_peer("");
    let offer = sdp(7000);
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.soon();
    net.outside.clear();
    net.peer_says(&common::peer::Asking { body: &offer, ..far.asks("UPDATE", 2, "u1") }.bytes());
    net.peer_says(&far.asks("UPDATE", 3, "u2").bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["491 UPDATE", "200 UPDATE"], "one that offers nothing is no matter");
    let invite = net.seen.iter().rev().find(|s| s.kind() == "INVITE").unwrap().clone();
    net.peer_says(&response(&invite, "200 OK", "far", CONTACT_SDP, &sdp(7001)));
    net.reoffered(0).unwrap();
    net.outside.clear();
    for (method, first) in [("UPDATE", 4), ("INVITE", 7)] {
        let branches = [format!("{method}1"), format!("{method}2"), format!("{method}3")];
        net.peer_says(&common::peer::Asking { body: &offer, ..far.asks(method, first, &branches[0]) }.bytes());
        net.peer_says(&common::peer::Asking { body: &offer, ..far.asks("UPDATE", first + 1, &branches[1]) }.bytes());
        net.peer_says(&common::peer::Asking { body: &offer, ..far.asks("INVITE", first + 2, &branches[2]) }.bytes());
        net.soon();
        let kinds: Vec<_> = net.take_kinds_to_peer().into_iter().filter(|k| !k.starts_with("100")).collect();
        assert_eq!(kinds, ["500 UPDATE", "500 INVITE"]);
        let late = net.seen.iter().rev().find(|s| s.kind() == "500 UPDATE").unwrap();
        let seconds: u32 = header(&late.text, "Retry-After").unwrap().parse().unwrap();
        assert!(seconds <= 10);
        net.peer_says(&far.asks("ACK", first + 2, &branches[2]).bytes());
        net.offered(0);
        net.agents[0].answer_reoffer(net.now, far.call, sdp(5000)).unwrap();
        net.soon();
        assert_eq!(net.take_kinds_to_peer(), [format!("200 {method}")]);
        if method == "INVITE" {
            net.peer_says(&far.asks("ACK", first, "ack").bytes());
        }
    }
}

#[test]
fn our_offer_waits_for_theirs_and_for_the_ack_to_its_answer() {
    let mut net = one();
    let far = net.answered_by_peer("");
    let offer = sdp(7000);
    net.peer_says(&common::peer::Asking { body: &offer, ..far.asks("INVITE", 2, "r1") }.bytes());
    net.offered(0);
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.run(Duration::from_secs(1));
    assert_eq!(net.take_kinds_to_peer(), ["100 INVITE"]);
    net.agents[0].answer_reoffer(net.now, far.call, sdp(5000)).unwrap();
    net.run(Duration::from_millis(600));
    assert_eq!(net.take_kinds_to_peer(), ["200 INVITE", "200 INVITE"]);
    net.peer_says(&far.asks("ACK", 2, "a2").bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["INVITE"], "now it is our turn");
}

#[test]
fn a_storm_of_reinvites_keeps_one_question_open() {
    let mut net = one();
    let far = net.answered_by_peer("");
    let offer = sdp(7000);
    for i in 0..500 {
        let branch = format!("s{i}");
        net.peer_says(&common::peer::Asking { body: &offer, ..far.asks("INVITE", 2 + i, &branch) }.bytes());
        net.peer_says(&far.asks("ACK", 2 + i, &branch).bytes());
    }
    net.soon();
    assert_eq!(net.events[0].iter().filter(|e| matches!(e, Event::Reoffer { .. })).count(), 1);
    assert_eq!(net.count(0, "500 INVITE"), 499);
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    net.peer_says(&far.asks("ACK", 2, "s0").bytes());
    net.peer_answers("BYE", "200 OK", "", "");
    net.run(MINUTE * 2);
    assert!(net.is_quiet(), "nothing is left of them");
}

#[test]
fn case_34_bye_crosses_reinvite_and_bye() {
    // ours under way, their BYE comes
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    net.peer_says(&far.asks("BYE", 2, "b1").bytes());
    assert_eq!(net.ended(0).1, EndCause::RemoteHangup);
    // the 200 that was under way is acknowledged all the same
    net.peer_says(&response(&invite, "200 OK", "far", CONTACT_SDP, &sdp(7001)));
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["INVITE", "200 BYE", "ACK"]);
    net.run(MINUTE * 2);
    assert!(net.is_quiet());

    // a provisional response after the end has it cancelled
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    net.peer_answers("BYE", "200 OK", "", "");
    net.peer_says(&response(&invite, "100 Trying", "", "", ""));
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["INVITE", "BYE", "CANCEL"]);
    net.run(MINUTE * 2);
    assert!(net.is_quiet(), "an INVITE that is never answered is not waited for without end");

    // theirs under way, our BYE goes
    let mut net = one();
    let far = net.answered_by_peer("");
    let offer = sdp(7000);
    net.peer_says(&common::peer::Asking { body: &offer, ..far.asks("INVITE", 2, "r1") }.bytes());
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["100 INVITE", "487 INVITE", "BYE"]);

    // both hang up
    for (seed, link) in [(1, Link::GOOD), (2, Link::AWFUL), (3, Link::AWFUL), (4, Link::AWFUL)] {
        let mut net = Net::of(2, link, seed);
        let (ours, theirs) = net.call_up();
        net.agents[0].hangup(net.now, ours).unwrap();
        net.agents[1].hangup(net.now, theirs).unwrap();
        assert_eq!((net.ended(0).1, net.ended(1).1), (EndCause::LocalHangup, EndCause::LocalHangup));
        net.run(MINUTE * 2);
        assert!(net.is_quiet());
    }
}

#[test]
fn provisional_answers_without_end_to_our_offer_are_given_up() {
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    for _ in 0..70 {
        net.peer_says(&response(&invite, "180 Ringing", "far", CONTACT, ""));
        net.run(Duration::from_secs(1));
    }
    assert_eq!(net.reoffered(0), Err(None));
    assert!(net.kinds_to_peer().contains(&"CANCEL".to_owned()));
    assert!(!net.told(0, |e| matches!(e, Event::Ended { .. })));
}

fn account() -> Account {
    Account { register: false, options: None, ..Account::new("pbx", "10.0.0.50", "alice", Password::new("wonderland")) }
}

const CHALLENGE: &str = "Proxy-Authenticate: Digest realm=\"home\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"\r\n";

#[test]
fn case_10_requests_in_a_call_are_challenged_and_the_numbers_stay_in_order() {
    let mut config = UserAgentConfig::new(address(1));
    config.accounts = vec![account()];
    let mut net = Net::new(vec![config], Link::GOOD, 10);
    let dial = mr_sip_signaling::Dial { account: Some("pbx".into()), ..common::dial("100") };
    let call = net.agents[0].dial(net.now, dial).unwrap();
    net.soon();
    let far = net.dialled(call);
    net.peer_answers("INVITE", "200 OK", CONTACT_SDP, &sdp(7000));
    net.answered(0);

    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.soon();
    net.peer_answers("INVITE", "407 Proxy Authentication Required", CHALLENGE, "");
    let again = net.to_peer("INVITE");
    assert_eq!(header(&again.text, "CSeq"), Some("3 INVITE"));
    assert!(header(&again.text, "Proxy-Authorization").is_some());
    net.peer_answers("INVITE", "200 OK", CONTACT_SDP, &sdp(7001));
    net.reoffered(0).unwrap();

    // a request that went out while the challenge was on its way is not passed
    net.agents[0].info(net.now, far.call, "application/dtmf".into(), "1".into()).unwrap();
    net.agents[0].reoffer(net.now, far.call, sdp(4000)).unwrap();
    net.soon();
    assert_eq!(header(&net.to_peer("INFO").text, "CSeq"), Some("4 INFO"));
    assert_eq!(header(&net.to_peer("INVITE").text, "CSeq"), Some("5 INVITE"));
    net.peer_answers("INFO", "407 Proxy Authentication Required", CHALLENGE, "");
    assert_eq!(header(&net.to_peer("INFO").text, "CSeq"), Some("6 INFO"));
    net.peer_answers("INFO", "200 OK", "", "");
    net.peer_answers("INVITE", "200 OK", CONTACT_SDP, &sdp(7001));
    net.reoffered(0).unwrap();

    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    assert_eq!(header(&net.to_peer("BYE").text, "CSeq"), Some("7 BYE"));
    net.peer_answers("BYE", "407 Proxy Authentication Required", CHALLENGE, "");
    assert_eq!(header(&net.to_peer("BYE").text, "CSeq"), Some("8 BYE"));
    assert!(header(&net.to_peer("BYE").text, "Proxy-Authorization").is_some());
}

#[test]
fn case_10_a_stranger_that_challenges_our_reinvite_gets_no_credentials() {
    let mut config = UserAgentConfig::new(address(1));
    config.accounts = vec![Account::new("pbx", "10.0.0.60", "alice", Password::new("wonderland"))];
    let mut net = Net::new(vec![config], Link::GOOD, 11);
    let far = net.called_by_peer("");
    net.agents[0].reoffer(net.now, far.call, hold()).unwrap();
    net.soon();
    net.peer_answers("INVITE", "407 Proxy Authentication Required", CHALLENGE, "");
    assert_eq!(net.reoffered(0), Err(Some(407)));
    assert!(net.seen.iter().all(|s| header(&s.text, "Proxy-Authorization").is_none()));
}

#[test]
fn digits_by_info_keep_their_order_over_an_awful_link() {
    for seed in 0..20 {
        let mut net = Net::of(2, Link::AWFUL, 7000 + seed);
        let (ours, _) = net.call_up();
        for digit in "0123456789".chars() {
            let body = format!("Signal={digit}\r\nDuration=100\r\n");
            net.agents[0].info(net.now, ours, "application/dtmf-relay".into(), body).unwrap();
        }
        net.run(MINUTE * 3);
        let digits: String = net.events[1]
            .iter()
            .filter_map(|e| match e {
                Event::Digit { digit, .. } => Some(*digit),
                _ => None,
            })
            .collect();
        assert_eq!(digits, "0123456789", "seed {seed}");
    }
}

#[test]
fn info_is_bounded_and_checked_and_its_481_ends_the_call() {
    let mut net = one();
    let far = net.answered_by_peer("");
    let evil = net.agents[0].info(net.now, far.call, "text/plain\r\nEvil: yes".into(), String::new());
    assert!(matches!(evil, Err(SignalingError::BadConfig { .. })), "case 45");
    let mut taken = 0;
    while net.agents[0].info(net.now, far.call, "application/dtmf".into(), "1".into()).is_ok() {
        taken += 1;
        assert!(taken < 100);
    }
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["INFO"], "one is under way");
    net.outside.push(net.seen.last().unwrap().clone());
    net.peer_answers("INFO", "481 Gone", "", "");
    assert_eq!(net.ended(0), (far.call, EndCause::RemoteHangup, Some(481)));
}
