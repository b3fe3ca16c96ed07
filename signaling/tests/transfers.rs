//! Calls that are sent elsewhere: REFER out and in, Replaces, redirections (RFC 3515, 3891, 5589; cases 14 and 16).

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net, address, dial, header,
    peer::{Asking, CONTACT_SDP, Far, INVITE, response, tag_of},
    sdp,
};
use mr_sip_signaling::{CallId, EndCause, Event, ReferPolicy, SignalingError, UserAgentConfig};

const FRAG: &str = "Content-Type: message/sipfrag;version=2.0\r\n";

fn one() -> Net {
    Net::of(1, Link::GOOD, 3515)
}

/// Agents that ask their application about REFERs.
fn asking(count: u8, link: Link, seed: u64) -> Net {
    let configs = (1..=count).map(|n| {
        let mut config = UserAgentConfig::new(address(n));
        config.refer = ReferPolicy::Ask;
        config
    });
    Net::new(configs.collect(), link, seed)
}

fn notify(far: &Far, cseq: u32, more: &str, state: &str, body: &str) -> Vec<u8> {
    let headers = format!("Event: refer{more}\r\nSubscription-State: {state}\r\n{FRAG}");
    let branch = format!("n{cseq}");
    Asking { headers: &headers, body, ..far.asks("NOTIFY", cseq, &branch) }.bytes()
}

#[track_caller]
fn transferred(net: &mut Net, agent: usize) -> (CallId, bool, Option<u16>) {
    net.wait(agent, MINUTE * 5, |e| match e {
        Event::TransferEnded { call, accepted, status, .. } => Some((*call, *accepted, *status)),
        _ => None,
    })
}

#[track_caller]
fn requested(net: &mut Net, agent: usize) -> (CallId, String, bool, Option<String>) {
    net.wait(agent, MINUTE, |e| match e {
        Event::TransferRequested { call, to, replaces, referred_by } => {
            Some((*call, to.clone(), *replaces, referred_by.clone()))
        }
        _ => None,
    })
}

#[track_caller]
fn transferring(net: &mut Net, agent: usize) -> (CallId, CallId) {
    net.wait(agent, MINUTE, |e| match e {
        Event::Transferring { call, new_call } => Some((*call, *new_call)),
        _ => None,
    })
}

fn progress(net: &Net, agent: usize) -> Vec<u16> {
    let status = |e: &Event| match e {
        Event::TransferProgress { status, .. } => Some(*status),
        _ => None,
    };
    net.events[agent].iter().filter_map(status).collect()
}

#[test]
fn a_blind_transfer_is_told_step_by_step_and_then_we_hang_up() {
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    assert!(net.agents[0].transfer(net.now, far.call, "sip:x@10.0.0.60").is_err(), "one at a time");
    net.soon();
    let refer = net.to_peer("REFER");
    assert_eq!(header(&refer.text, "Refer-To"), Some("<sip:carol@10.0.0.60>"));
    assert_eq!(header(&refer.text, "Referred-By"), Some("<sip:mr-sip@10.0.0.1:5060>"));
    assert!(header(&refer.text, "Contact").is_some());
    // the first NOTIFY may overtake the 202
    net.peer_says(&notify(&far, 2, "", "active;expires=60", "SIP/2.0 100 Trying\r\n"));
    net.peer_answers("REFER", "202 Accepted", "", "");
    net.peer_says(&notify(&far, 3, ";id=2", "active", "SIP/2.0 180 Ringing\r\n"));
    assert!(!net.told(0, |e| matches!(e, Event::Ended { .. })));
    net.peer_says(&notify(&far, 4, "", "terminated;reason=noresource", "SIP/2.0 200 OK\r\n"));
    net.soon();
    assert_eq!(progress(&net, 0), [100, 180, 200]);
    assert_eq!(transferred(&mut net, 0), (far.call, true, Some(200)));
    assert_eq!(net.ended(0), (far.call, EndCause::Transferred, Some(200)));
    let kinds = net.take_kinds_to_peer();
    assert_eq!(kinds, ["REFER", "200 NOTIFY", "200 NOTIFY", "200 NOTIFY", "BYE"]);
}

#[test]
fn a_transfer_that_comes_to_nothing_leaves_the_call_up() {
    // refused by the far end
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.soon();
    net.peer_answers("REFER", "603 Decline", "", "");
    assert_eq!(transferred(&mut net, 0), (far.call, false, Some(603)));
    // by whom it was sent to
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.soon();
    net.peer_answers("REFER", "202 Accepted", "", "");
    net.peer_says(&notify(&far, 2, ";id=3", "terminated", "SIP/2.0 486 Busy Here\r\n"));
    assert_eq!(transferred(&mut net, 0), (far.call, false, Some(486)));
    // ended without a word
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.soon();
    net.peer_answers("REFER", "202 Accepted", "", "");
    net.peer_says(&notify(&far, 3, "", "terminated;reason=timeout", ""));
    assert_eq!(transferred(&mut net, 0), (far.call, false, None));
    // never heard of again
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.soon();
    net.peer_answers("REFER", "202 Accepted", "", "");
    assert_eq!(transferred(&mut net, 0), (far.call, false, None));
    assert!(net.live(0, far.call));
    net.outside.clear();
    net.peer_says(&notify(&far, 4, "", "terminated", "SIP/2.0 200 OK\r\n"));
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["481 NOTIFY"], "too late");
    // the far end is gone
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.soon();
    net.peer_answers("REFER", "481 Gone", "", "");
    assert_eq!(transferred(&mut net, 0), (far.call, false, Some(481)));
    assert_eq!(net.ended(0).1, EndCause::RemoteHangup);
}

#[test]
fn a_far_end_that_takes_the_refer_and_hangs_up_has_gone_there() {
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.soon();
    net.peer_answers("REFER", "202 Accepted", "", "");
    net.peer_says(&far.asks("BYE", 2, "b").bytes());
    assert_eq!(transferred(&mut net, 0), (far.call, true, None));
    assert_eq!(net.ended(0).1, EndCause::Transferred);
    // and one that hangs up without having answered it has not
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.peer_says(&far.asks("BYE", 2, "b").bytes());
    assert_eq!(transferred(&mut net, 0), (far.call, false, None));
    assert_eq!(net.ended(0).1, EndCause::RemoteHangup);
}

#[test]
fn a_transfer_without_news_is_tolerated() {
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.soon();
    net.peer_answers("REFER", "202 Accepted", "Refer-Sub: false\r\n", "");
    assert_eq!(transferred(&mut net, 0), (far.call, true, Some(202)));
    assert_eq!(net.ended(0).1, EndCause::Transferred);
}

#[test]
fn case_13_notifies_that_belong_to_nothing_change_nothing() {
    let mut net = one();
    let far = net.answered_by_peer("");
    net.peer_says(&notify(&far, 2, "", "terminated", "SIP/2.0 200 OK\r\n"));
    net.agents[0].transfer(net.now, far.call, "sip:carol@10.0.0.60").unwrap();
    net.peer_says(&notify(&far, 3, ";id=77", "terminated", "SIP/2.0 200 OK\r\n"));
    net.peer_says(&notify(&far, 4, ";id=x", "terminated", "SIP/2.0 200 OK\r\n"));
    let other = String::from_utf8(notify(&far, 5, "", "active", "SIP/2.0 200 OK\r\n")).unwrap();
    net.peer_says(other.replace("Event: refer", "Event: presence").as_bytes());
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["481 NOTIFY", "REFER", "481 NOTIFY", "481 NOTIFY", "489 NOTIFY"]);
    for body in ["", "garbage", "SIP/2.0", "SIP/2.0 x y", "SIP/2.0 99999 no", "HTTP/1.1 200 OK"] {
        net.peer_says(&notify(&far, 6 + body.len() as u32, "", "active", body));
    }
    assert!(net.events[0].is_empty());
}

#[test]
fn an_unasked_word_about_a_mailbox_is_answered_politely() {
    let mut net = one();
    for (event, answer) in [("message-summary", "200 NOTIFY"), ("refer", "481 NOTIFY"), ("presence", "481 NOTIFY")] {
        let headers = format!("Event: {event}\r\nSubscription-State: terminated\r\n");
        net.peer_says(&Asking { method: "NOTIFY", headers: &headers, branch: event, ..INVITE }.bytes());
        assert_eq!(net.take_kinds_to_peer(), [answer], "{event}");
    }
}

#[test]
fn case_16_a_refer_is_refused_unless_the_configuration_says_otherwise() {
    let refer_to = "Refer-To: <sip:premium@10.0.0.60>\r\n";
    let mut net = one();
    let far = net.called_by_peer("");
    net.peer_says(&Asking { headers: refer_to, ..far.asks("REFER", 2, "r") }.bytes());
    net.peer_says(&Asking { method: "REFER", headers: refer_to, branch: "s", ..INVITE }.bytes());
    assert_eq!(net.take_kinds_to_peer(), ["603 REFER", "603 REFER"]);
    let allow = |net: &Net| {
        header(&net.seen.iter().find(|s| s.kind() == "200 INVITE").unwrap().text, "Allow").unwrap().to_owned()
    };
    assert!(!allow(&net).contains("REFER"));

    let mut net = asking(1, Link::GOOD, 16);
    let far = net.called_by_peer("");
    assert!(allow(&net).contains("REFER"));
    net.peer_says(&Asking { method: "REFER", headers: refer_to, branch: "s", ..INVITE }.bytes());
    let forged = Asking { from_tag: "forged", headers: refer_to, ..far.asks("REFER", 9, "f") };
    net.peer_says(&forged.bytes());
    net.peer_says(&Asking { to_tag: "forged", ..forged }.bytes());
    assert_eq!(net.take_kinds_to_peer(), ["603 REFER", "481 REFER", "481 REFER"]);
    let mut cseq = 10;
    for (headers, answer) in [
        ("", "400"),
        ("Refer-To: <sip:a@10.0.0.60>, <sip:b@10.0.0.60>\r\n", "400"),
        ("Refer-To: <sip:a@10.0.0.60;method=BYE>\r\n", "400"),
        ("Refer-To: <https://example.com>\r\n", "416"),
        ("Refer-To: nonsense\r\n", "400"),
    ] {
        cseq += 1;
        let branch = format!("x{cseq}");
        net.peer_says(&Asking { headers, ..far.asks("REFER", cseq, &branch) }.bytes());
        assert_eq!(net.take_kinds_to_peer(), [format!("{answer} REFER")], "{headers}");
    }
    assert!(net.events[0].is_empty());
    // asked, a second one waits, and nobody decides
    net.peer_says(&Asking { headers: refer_to, ..far.asks("REFER", 30, "r1") }.bytes());
    net.peer_says(&Asking { headers: refer_to, ..far.asks("REFER", 31, "r2") }.bytes());
    assert_eq!(requested(&mut net, 0), (far.call, "sip:premium@10.0.0.60".into(), false, None));
    net.run(Duration::from_secs(11));
    assert_eq!(net.take_kinds_to_peer(), ["500 REFER", "603 REFER"]);
    assert!(net.agents[0].accept_transfer(net.now, far.call, sdp(4000)).is_err());
    net.peer_says(&Asking { headers: refer_to, ..far.asks("REFER", 32, "r3") }.bytes());
    net.agents[0].reject_transfer(net.now, far.call, 486).unwrap();
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["486 REFER"]);
}

#[test]
fn a_refer_that_nobody_has_decided_about_when_we_hang_up_is_refused() {
    // before the ACK, when our BYE has to wait
    let mut net = asking(1, Link::GOOD, 22);
    net.peer_says(&INVITE.bytes());
    let call = net.incoming(0);
    net.agents[0].answer(net.now, call, sdp(5000)).unwrap();
    net.soon();
    let tag = tag_of(&net.to_peer("200 INVITE"), "To");
    let headers = "Refer-To: <sip:carol@10.0.0.50>\r\n";
    let refer = Asking { method: "REFER", headers, branch: "r", to_tag: &tag, cseq: 2, ..INVITE };
    net.peer_says(&refer.bytes());
    requested(&mut net, 0);
    net.agents[0].hangup(net.now, call).unwrap();
    net.run(MINUTE * 2);
    assert!(net.kinds_to_peer().contains(&"603 REFER".to_owned()));
    assert!(net.is_quiet());
}

#[test]
fn a_refer_that_is_taken_dials_and_tells_how_that_goes() {
    for (answer, last) in [("200 OK", "SIP/2.0 200 OK"), ("486 Busy Here", "SIP/2.0 486 Busy Here")] {
        let mut net = asking(1, Link::GOOD, 17);
        let far = net.called_by_peer("");
        let headers = "Refer-To: <sip:carol@10.0.0.50?Replaces=abc%3Bto-tag%3Dt1%3Bfrom-tag%3Df1>\r\n\
            Referred-By: <sip:boss@10.0.0.50>\r\n";
        net.peer_says(&Asking { headers, ..far.asks("REFER", 2, "r") }.bytes());
        let asked = requested(&mut net, 0);
        assert_eq!(asked, (far.call, "sip:carol@10.0.0.50".into(), true, Some("sip:boss@10.0.0.50".into())));
        net.agents[0].accept_transfer(net.now, far.call, sdp(4002)).unwrap();
        let (call, new_call) = transferring(&mut net, 0);
        assert_eq!(call, far.call);
        net.soon();
        let invite = net.to_peer("INVITE");
        assert_eq!(header(&invite.text, "Replaces"), Some("abc;to-tag=t1;from-tag=f1"));
        assert_eq!(header(&invite.text, "Referred-By"), Some("<sip:boss@10.0.0.50>"));
        assert_eq!(header(&invite.text, "Require"), Some("replaces"));
        let first = net.to_peer("NOTIFY");
        assert!(first.text.ends_with("SIP/2.0 100 Trying\r\n"));
        assert_eq!(header(&first.text, "Event"), Some("refer"));
        assert!(header(&first.text, "Subscription-State").unwrap().starts_with("active;expires="));
        assert_eq!(net.take_kinds_to_peer(), ["202 REFER", "NOTIFY", "INVITE"]);
        // while that NOTIFY is not answered, only the newest of what follows is told
        net.peer_says(&response(&invite, "180 Ringing", "c", "", ""));
        net.peer_says(&response(&invite, answer, "c", CONTACT_SDP, &sdp(7000)));
        net.soon();
        assert!(!net.kinds_to_peer().contains(&"NOTIFY".to_owned()));
        net.peer_says(&response(&first, "200 OK", "", "", ""));
        net.soon();
        let second = net.to_peer("NOTIFY");
        assert!(second.text.ends_with(&format!("{last}\r\n")), "{}", second.text);
        assert_eq!(header(&second.text, "Subscription-State"), Some("terminated;reason=noresource"));
        net.peer_says(&response(&second, "200 OK", "", "", ""));
        if answer.starts_with("200") {
            assert_eq!(net.answered(0).0, new_call);
            net.agents[0].hangup(net.now, new_call).unwrap();
        }
        net.agents[0].hangup(net.now, far.call).unwrap();
        net.run(MINUTE);
        assert_eq!(net.outside.iter().filter(|s| s.kind() == "NOTIFY").count(), 1, "the last word was the last");
    }
}

#[test]
fn news_go_on_when_the_referrer_has_hung_up_and_stop_when_it_does_not_want_them() {
    let mut net = asking(1, Link::GOOD, 18);
    let far = net.called_by_peer("");
    let headers = "Refer-To: <sip:carol@10.0.0.50>\r\n";
    net.peer_says(&Asking { headers, ..far.asks("REFER", 2, "r") }.bytes());
    net.agents[0].accept_transfer(net.now, far.call, sdp(4002)).unwrap();
    net.soon();
    let (invite, first) = (net.to_peer("INVITE"), net.to_peer("NOTIFY"));
    net.peer_says(&response(&first, "200 OK", "", "", ""));
    net.peer_says(&far.asks("BYE", 3, "b").bytes());
    net.ended(0);
    net.outside.clear();
    net.peer_says(&response(&invite, "180 Ringing", "c", "", ""));
    net.soon();
    let second = net.to_peer("NOTIFY");
    assert_eq!(header(&second.text, "CSeq"), Some("2 NOTIFY"), "in the same dialog");
    net.peer_says(&response(&second, "481 Gone", "", "", ""));
    net.peer_says(&response(&invite, "200 OK", "c", CONTACT_SDP, &sdp(7000)));
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["NOTIFY", "ACK"], "nobody wants to know");
}

#[test]
fn a_refer_that_wants_no_news_gets_none() {
    let mut net = asking(1, Link::GOOD, 19);
    let far = net.called_by_peer("");
    let headers = "Refer-To: <sip:carol@10.0.0.50>\r\nRefer-Sub: false\r\nRequire: norefersub\r\n";
    net.peer_says(&Asking { headers, ..far.asks("REFER", 2, "r") }.bytes());
    net.agents[0].accept_transfer(net.now, far.call, sdp(4002)).unwrap();
    net.soon();
    assert_eq!(header(&net.to_peer("202 REFER").text, "Refer-Sub"), Some("false"));
    assert_eq!(net.take_kinds_to_peer(), ["202 REFER", "INVITE"]);
}

#[test]
fn an_address_that_cannot_be_called_refuses_the_refer() {
    let mut net = asking(1, Link::GOOD, 20);
    let far = net.called_by_peer("");
    let headers = "Refer-To: <tel:+4930123456>\r\n";
    net.peer_says(&Asking { headers, ..far.asks("REFER", 2, "r") }.bytes());
    let error = net.agents[0].accept_transfer(net.now, far.call, sdp(4002)).unwrap_err();
    assert!(matches!(error, SignalingError::BadDestination { .. }), "a number needs an account");
    net.soon();
    assert_eq!(net.take_kinds_to_peer(), ["603 REFER"]);
}

/// Agent 0 talks with 1 and with 2, and connects them.
fn attended(net: &mut Net) {
    let (to_bob, bobs) = net.call_up();
    let to_carol = net.agents[0].dial(net.now, dial("sip:carol@10.0.0.3")).unwrap();
    let carols = net.incoming(2);
    net.agents[2].answer(net.now, carols, sdp(6000)).unwrap();
    net.answered(0);
    net.answered(2);
    net.agents[0].transfer_to(net.now, to_bob, to_carol).unwrap();
    let (call, _, replaces, _) = requested(net, 1);
    assert_eq!((call, replaces), (bobs, true));
    net.agents[1].accept_transfer(net.now, bobs, sdp(5002)).unwrap();
    let (_, new_call) = transferring(net, 1);
    let (incoming, replaced) = net.wait(2, MINUTE, |e| match e {
        Event::Incoming { call, replaces, .. } => Some((*call, *replaces)),
        _ => None,
    });
    assert_eq!(replaced, Some(carols));
    net.agents[2].answer(net.now, incoming, sdp(6002)).unwrap();
    assert_eq!(net.answered(1).0, new_call);
    assert_eq!(net.ended(2), (carols, EndCause::Replaced, None));
    assert!(transferred(net, 0).1);
    let mut ends = [net.ended(0), net.ended(0)].map(|(call, cause, _)| (call, cause));
    ends.sort_by_key(|(call, _)| *call);
    assert_eq!(ends.map(|(call, _)| call), [to_bob, to_carol]);
    assert!(ends.iter().all(|(_, cause)| matches!(cause, EndCause::Transferred | EndCause::RemoteHangup)), "{ends:?}");
    assert_eq!(net.ended(1).0, bobs);
    assert!(net.live(1, new_call) && net.live(2, incoming), "the two talk");
    net.agents[1].hangup(net.now, new_call).unwrap();
    net.ended(2);
    net.run(MINUTE * 2);
    assert!(net.is_quiet());
}

#[test]
fn an_attended_transfer_connects_the_two_and_ends_everything_else() {
    attended(&mut asking(3, Link::GOOD, 21));
}

#[test]
fn an_attended_transfer_gets_through_an_awful_link() {
    for seed in 0..40 {
        attended(&mut asking(3, Link::AWFUL, 2100 + seed));
    }
}

#[test]
fn a_call_cannot_be_transferred_to_itself_or_to_one_that_rings() {
    let mut net = one();
    let far = net.answered_by_peer("");
    assert!(net.agents[0].transfer_to(net.now, far.call, far.call).is_err());
    let ringing = net.agents[0].dial(net.now, dial("sip:peer@10.0.0.50")).unwrap();
    assert!(net.agents[0].transfer_to(net.now, far.call, ringing).is_err());
    assert!(net.agents[0].transfer_to(net.now, ringing, far.call).is_err());
    assert!(net.agents[0].transfer(net.now, far.call, "sip:x@y\r\nEvil: yes").is_err(), "case 45");
}

#[test]
fn case_13_replaces_with_wrong_tags_replaces_nothing() {
    let mut net = one();
    let far = net.answered_by_peer("");
    let (ours, theirs, id) = (far.tags.1.as_str(), "far", far.call_id.as_str());
    for (i, (value, answer)) in [
        (format!("{id};to-tag={ours};from-tag=guessed"), "481"),
        (format!("{id};to-tag=guessed;from-tag={theirs}"), "481"),
        (format!("{id};to-tag={theirs};from-tag={ours}"), "481"),
        (format!("other;to-tag={ours};from-tag={theirs}"), "481"),
        (format!("{id};to-tag={ours};from-tag={theirs};early-only"), "486"),
        (format!("{id};to-tag={ours}"), "400"),
        (format!("{id};to-tag={ours};from-tag={theirs}\r\nReplaces: {id};to-tag=a;from-tag=b"), "400"),
    ]
    .iter()
    .enumerate()
    {
        let (headers, call_id, branch) = (format!("Replaces: {value}\r\n"), format!("r{i}"), format!("r{i}"));
        net.peer_says(&Asking { headers: &headers, call_id: &call_id, branch: &branch, ..INVITE }.bytes());
        assert_eq!(net.take_kinds_to_peer(), [format!("{answer} INVITE")], "{value}");
    }
    assert!(net.events[0].is_empty());
    // a call that somebody makes to us and that still rings cannot be taken away
    net.peer_says(&Asking { call_id: "ring", branch: "ring", ..INVITE }.bytes());
    let ringing = net.incoming(0);
    net.agents[0].ring(net.now, ringing).unwrap();
    net.soon();
    let tag = tag_of(&net.to_peer("180 INVITE"), "To");
    net.outside.clear();
    let headers = format!("Replaces: ring;to-tag={tag};from-tag=peer\r\n");
    net.peer_says(&Asking { headers: &headers, call_id: "r9", branch: "r9", ..INVITE }.bytes());
    assert_eq!(net.take_kinds_to_peer(), ["481 INVITE"]);
}

#[test]
fn one_of_our_calls_that_still_rings_can_be_taken_over() {
    let mut net = one();
    let far = net.dial_peer();
    net.peer_answers("INVITE", "180 Ringing", "", "");
    net.outside.clear();
    let headers =
        format!("Replaces: {};to-tag={};from-tag=far;early-only\r\nRequire: replaces\r\n", far.call_id, far.tags.1);
    net.peer_says(&Asking { headers: &headers, ..INVITE }.bytes());
    let call = net.incoming(0);
    net.agents[0].answer(net.now, call, sdp(5000)).unwrap();
    net.soon();
    assert_eq!(net.ended(0), (far.call, EndCause::Replaced, None));
    assert_eq!(net.take_kinds_to_peer(), ["100 INVITE", "200 INVITE", "CANCEL"]);
}

fn redirecting() -> Net {
    let mut config = UserAgentConfig::new(address(1));
    config.redirects = true;
    Net::new(vec![config], Link::GOOD, 302)
}

#[test]
fn case_14_redirections_are_followed_only_when_that_is_switched_on() {
    let mut net = one();
    net.dial_peer();
    net.peer_answers("INVITE", "302 Moved Temporarily", "Contact: <sip:new@10.0.0.50>\r\n", "");
    assert_eq!(net.ended(0).1, EndCause::Rejected);

    let mut net = redirecting();
    let far = net.dial_peer();
    let contacts = "Contact: <mailto:x@y>, <sip:second@10.0.0.50>;q=0.3, <sip:first@10.0.0.50?Evil=yes>;q=0.9\r\n";
    net.peer_answers("INVITE", "302 Moved Temporarily", contacts, "");
    let first = net.to_peer("INVITE");
    assert!(first.text.starts_with("INVITE sip:first@10.0.0.50 SIP/2.0\r\n"), "{}", first.text);
    assert_eq!(header(&first.text, "CSeq"), Some("2 INVITE"));
    assert_eq!(header(&first.text, "To"), Some("<sip:peer@10.0.0.50>"), "who was called stays who was called");
    net.peer_answers("INVITE", "480 Temporarily Unavailable", "", "");
    assert!(net.to_peer("INVITE").text.starts_with("INVITE sip:second@10.0.0.50 SIP/2.0\r\n"));
    net.peer_answers("INVITE", "200 OK", CONTACT_SDP, &sdp(7000));
    assert_eq!(net.answered(0).0, far.call);
}

#[test]
fn case_14_redirections_end_after_a_few_and_never_go_in_circles() {
    let mut net = redirecting();
    net.dial_peer();
    net.peer_answers("INVITE", "302 Moved", "Contact: <sip:peer@10.0.0.50>\r\n", "");
    assert_eq!(net.ended(0).2, Some(302), "back to itself");

    let mut net = redirecting();
    net.dial_peer();
    let mut places = 0;
    while !net.told(0, |e| matches!(e, Event::Ended { .. })) {
        places += 1;
        assert!(places < 20);
        net.peer_answers("INVITE", "302 Moved", &format!("Contact: <sip:p{places}@10.0.0.50>\r\n"), "");
    }
    assert_eq!((places, net.ended(0).2), (6, Some(302)), "five places after the first");

    let mut net = redirecting();
    net.dial_peer();
    net.peer_answers("INVITE", "302 Moved", "Contact: <sip:a@10.0.0.50>, <sip:b@10.0.0.50>\r\n", "");
    net.peer_answers("INVITE", "603 Decline", "", "");
    assert_eq!(net.ended(0).2, Some(603), "one has answered for all");
}
