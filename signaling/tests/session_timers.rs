//! Session timers (RFC 4028): who refreshes, how, and what happens when nobody does.

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net, address, header,
    peer::{Asking, CONTACT, CONTACT_SDP, INVITE},
    sdp,
};
use mr_sip_signaling::{EndCause, Event, UserAgentConfig};

const TIMER: &str = "Supported: timer\r\n";

fn one() -> Net {
    Net::of(1, Link::GOOD, 4028)
}

fn agents(session_expires: &[Option<u64>], link: Link, seed: u64) -> Net {
    let configs = session_expires.iter().enumerate().map(|(i, seconds)| {
        let mut config = UserAgentConfig::new(address(i as u8 + 1));
        config.session_expires = seconds.map(Duration::from_secs);
        config
    });
    Net::new(configs.collect(), link, seed)
}

/// When datagrams of a kind went to the peer since `begin`, in seconds, repetitions left out.
fn seconds(net: &Net, begin: Duration, kind: &str) -> Vec<u64> {
    let mut branches = Vec::new();
    let mut at = Vec::new();
    for seen in net.seen.iter().filter(|s| s.kind() == kind && s.at >= begin) {
        let branch = header(&seen.text, "CSeq").unwrap().to_owned();
        if !branches.contains(&branch) {
            branches.push(branch);
            at.push((seen.at - begin + Duration::from_millis(10)).as_secs());
        }
    }
    at
}

#[test]
fn we_ask_for_the_configured_interval() {
    let mut net = one();
    let invite = net.dial_peer().invite.unwrap().text;
    assert_eq!(header(&invite, "Session-Expires"), Some("1800"));
    assert_eq!(header(&invite, "Min-SE"), Some("90"));
    assert!(header(&invite, "Supported").unwrap().contains("timer"));

    let mut net = agents(&[None], Link::GOOD, 1);
    let invite = net.dial_peer().invite.unwrap().text;
    assert_eq!(header(&invite, "Session-Expires"), None);
    let mut net = agents(&[Some(5)], Link::GOOD, 1);
    let invite = net.dial_peer().invite.unwrap().text;
    assert_eq!(header(&invite, "Session-Expires"), Some("90"), "less than the least is the least");
}

#[test]
fn as_caller_we_refresh_at_half_the_interval_by_update_where_that_is_allowed() {
    let mut net = one();
    let far = net.answered_by_peer("Session-Expires: 600;refresher=uac\r\nRequire: timer\r\nAllow: INVITE, UPDATE\r\n");
    let begin = net.now - net.start;
    for _ in 0..3 {
        net.run(Duration::from_secs(300));
        let update = net.to_peer("UPDATE");
        assert_eq!(header(&update.text, "Session-Expires"), Some("600;refresher=uac"));
        assert!(update.text.ends_with("\r\n\r\n"), "it describes nothing");
        net.peer_answers("UPDATE", "200 OK", &format!("{CONTACT}Session-Expires: 600;refresher=uac\r\n"), "");
    }
    assert_eq!(seconds(&net, begin, "UPDATE"), [300, 600, 900]);
    assert!(net.events[0].is_empty(), "the application need not know");
    net.agents[0].hangup(net.now, far.call).unwrap();
}

#[test]
fn without_update_we_refresh_by_reinvite_and_the_description_keeps_its_version() {
    let mut net = one();
    let far = net.answered_by_peer("Session-Expires: 600;refresher=uac\r\n");
    net.run(Duration::from_secs(300));
    let invite = net.to_peer("INVITE");
    let line = |text: &str| text.lines().find(|l| l.starts_with("o=")).unwrap().to_owned();
    assert_eq!(line(&invite.text), line(&far.invite.unwrap().text));
    net.peer_answers("INVITE", "200 OK", &format!("{CONTACT_SDP}Session-Expires: 600;refresher=uac\r\n"), &sdp(7000));
    assert_eq!(net.to_peer("ACK").text.lines().next(), Some("ACK sip:peer@10.0.0.50 SIP/2.0"));
    assert!(net.events[0].is_empty());
    net.run(Duration::from_secs(299));
    assert_eq!(net.count(0, "INVITE"), 2);
    net.run(Duration::from_millis(1200));
    assert_eq!(net.count(0, "INVITE"), 3);
}

#[test]
fn a_far_end_that_cannot_update_after_all_gets_a_reinvite() {
    let mut net = one();
    net.answered_by_peer("Session-Expires: 600;refresher=uac\r\nAllow: UPDATE\r\n");
    net.run(Duration::from_secs(300));
    net.peer_answers("UPDATE", "405 Method Not Allowed", "", "");
    assert_eq!(net.take_kinds_to_peer(), ["UPDATE", "INVITE"]);
}

#[test]
fn the_called_decides_and_the_caller_refreshes_where_nobody_says_otherwise() {
    for (headers, answer) in [
        ("Session-Expires: 600\r\n", Some("600;refresher=uac")),
        ("Session-Expires: 600;refresher=uas\r\n", Some("600;refresher=uas")),
        ("x: 600; refresher = uac\r\n", Some("600;refresher=uac")),
        ("Session-Expires: 7200\r\n", Some("1800;refresher=uac")),
        ("Session-Expires: 7200\r\nMin-SE: 3600\r\n", Some("3600;refresher=uac")),
        ("", Some("1800;refresher=uas")),
    ] {
        let mut net = one();
        net.called_by_peer(&format!("{TIMER}{headers}"));
        let ok = net.seen.iter().find(|s| s.kind() == "200 INVITE").unwrap();
        assert_eq!(header(&ok.text, "Session-Expires"), answer, "{headers}");
        let by_caller = answer.is_some_and(|a| a.ends_with("uac"));
        assert_eq!(header(&ok.text, "Require"), by_caller.then_some("timer"), "{headers}");
    }
    let mut net = one();
    net.called_by_peer("");
    let ok = net.seen.iter().find(|s| s.kind() == "200 INVITE").unwrap();
    assert_eq!(header(&ok.text, "Session-Expires"), None, "a caller that knows no timers is not bothered");
    let mut net = one();
    net.called_by_peer("Session-Expires: 600\r\n");
    let ok = net.seen.iter().find(|s| s.kind() == "200 INVITE").unwrap();
    assert_eq!(header(&ok.text, "Session-Expires"), Some("600;refresher=uas"), "a proxy wants it: we do it alone");
}

#[test]
fn as_called_we_refresh_when_that_was_agreed() {
    let mut net = one();
    net.called_by_peer(&format!("{TIMER}Session-Expires: 200;refresher=uas\r\nAllow: UPDATE\r\n"));
    net.run(Duration::from_secs(101));
    assert_eq!(header(&net.to_peer("UPDATE").text, "Session-Expires"), Some("200;refresher=uac"));
}

#[test]
fn a_far_end_that_never_refreshes_is_hung_up_on_before_the_session_ends() {
    for (interval, margin) in [(90, 30), (600, 32)] {
        let mut net = one();
        let far = net.called_by_peer(&format!("{TIMER}Session-Expires: {interval};refresher=uac\r\n"));
        let begin = net.now;
        let (call, cause, status) = {
            net.run(Duration::from_secs(interval));
            net.ended(0)
        };
        assert_eq!((call, cause, status), (far.call, EndCause::Timeout, None));
        let bye = net.to_peer("BYE");
        let at = net.seen.iter().find(|s| s.kind() == "BYE").unwrap().at;
        assert_eq!((at - (begin - net.start)).as_secs() + 1, interval - margin, "min(32 s, a third) before");
        assert_eq!(header(&bye.text, "CSeq"), Some("1 BYE"));
    }
}

#[test]
fn a_refresh_of_theirs_winds_the_timer_up() {
    let mut net = one();
    let far = net.called_by_peer(&format!("{TIMER}Session-Expires: 90;refresher=uac\r\n"));
    for i in 0..20 {
        net.run(Duration::from_secs(45));
        let branch = format!("u{i}");
        let headers = format!("{TIMER}Session-Expires: 90;refresher=uac\r\n");
        net.peer_says(&Asking { headers: &headers, ..far.asks("UPDATE", 2 + i, &branch) }.bytes());
        net.soon();
        assert_eq!(header(&net.to_peer("200 UPDATE").text, "Session-Expires"), Some("90;refresher=uac"));
    }
    assert!(net.events[0].is_empty(), "fifteen minutes later the call is up");
    // one without Session-Expires turns it over to us, since the far end still knows timers
    net.peer_says(&Asking { headers: "", ..far.asks("UPDATE", 50, "last") }.bytes());
    net.run(MINUTE * 10);
    assert!(net.events[0].is_empty(), "a refresh without a word ends the timer");
}

#[test]
fn a_refresh_that_is_not_answered_ends_the_call() {
    let mut net = one();
    let far = net.answered_by_peer("Session-Expires: 90;refresher=uac\r\nAllow: UPDATE\r\n");
    let begin = net.now;
    assert_eq!(net.ended(0), (far.call, EndCause::Timeout, None));
    assert_eq!((net.now - begin).as_secs(), 60 - 1, "before timer F of the refresh at 45 s");
    net.run(MINUTE * 2);
    assert!(net.is_quiet());

    let mut net = one();
    let far = net.answered_by_peer("Session-Expires: 600;refresher=uac\r\nAllow: UPDATE\r\n");
    assert_eq!(
        {
            net.run(Duration::from_secs(340));
            net.ended(0)
        },
        (far.call, EndCause::Timeout, None)
    );
}

#[test]
fn a_refresh_that_fails_otherwise_is_tried_again_until_the_end() {
    let mut net = one();
    let far = net.answered_by_peer("Session-Expires: 600;refresher=uac\r\nAllow: UPDATE\r\n");
    net.run(Duration::from_secs(301));
    let mut tries = 0;
    while !net.told(0, |e| matches!(e, Event::Ended { .. })) {
        for update in std::mem::take(&mut net.outside) {
            if update.kind() == "UPDATE" {
                tries += 1;
                net.peer_says(&common::peer::response(&update, "503 Service Unavailable", "far", "", ""));
            }
        }
        net.run(Duration::from_secs(1));
    }
    assert!((3..=30).contains(&tries), "{tries}");
    assert_eq!(net.ended(0), (far.call, EndCause::Timeout, None));
}

#[test]
fn too_short_is_422_for_those_who_understand_it() {
    let mut net = one();
    let offer = sdp(7000);
    let headers = format!("{TIMER}Session-Expires: 30\r\n");
    net.peer_says(&Asking { headers: &headers, body: &offer, ..INVITE }.bytes());
    net.soon();
    assert_eq!(header(&net.to_peer("422 INVITE").text, "Min-SE"), Some("90"));
    assert!(net.events[0].is_empty());
    let far = net.called_by_peer(TIMER);
    net.peer_says(&Asking { headers: &headers, ..far.asks("UPDATE", 2, "u") }.bytes());
    net.soon();
    assert_eq!(header(&net.to_peer("422 UPDATE").text, "Min-SE"), Some("90"));
}

#[test]
fn a_422_to_our_invite_makes_us_ask_for_longer() {
    let mut net = one();
    let far = net.dial_peer();
    let first = far.invite.unwrap();
    net.peer_answers("INVITE", "422 Session Interval Too Small", "Min-SE: 3600\r\n", "");
    let second = net.to_peer("INVITE");
    assert_eq!(header(&second.text, "Session-Expires"), Some("3600"));
    assert_eq!(header(&second.text, "Min-SE"), Some("3600"));
    assert_eq!(header(&second.text, "CSeq"), Some("2 INVITE"));
    for name in ["Call-ID", "From", "To"] {
        assert_eq!(header(&second.text, name), header(&first.text, name));
    }
    net.peer_answers("INVITE", "200 OK", &format!("{CONTACT_SDP}Session-Expires: 3600;refresher=uac\r\n"), &sdp(7000));
    net.answered(0);
}

#[test]
fn a_422_that_wants_nothing_sensible_or_comes_again_and_again_ends_the_call() {
    for least in ["", "Min-SE: 10\r\n", "Min-SE: 99999999999\r\n"] {
        let mut net = one();
        net.dial_peer();
        net.peer_answers("INVITE", "422 Session Interval Too Small", least, "");
        assert_eq!(net.ended(0).2, Some(422), "{least}");
    }
    let mut net = one();
    net.dial_peer();
    for i in 0..20 {
        if net.told(0, |e| matches!(e, Event::Ended { .. })) {
            assert!(i < 12);
            break;
        }
        net.peer_answers("INVITE", "422 Session Interval Too Small", &format!("Min-SE: {}\r\n", 2000 + i), "");
    }
    assert_eq!(net.ended(0).2, Some(422));
}

#[test]
fn a_422_to_our_refresh_makes_the_next_one_longer() {
    let mut net = one();
    net.answered_by_peer("Session-Expires: 90;refresher=uac\r\nAllow: UPDATE\r\n");
    net.run(Duration::from_secs(46));
    net.peer_answers("UPDATE", "422 Session Interval Too Small", "Min-SE: 120\r\n", "");
    assert_eq!(header(&net.to_peer("UPDATE").text, "Session-Expires"), Some("120;refresher=uac"));
}

#[test]
fn nobody_makes_us_refresh_in_floods() {
    let mut net = one();
    net.answered_by_peer("Session-Expires: 0;refresher=uac\r\nAllow: UPDATE\r\n");
    net.run(Duration::from_secs(44));
    assert!(net.take_kinds_to_peer().is_empty());
    for value in ["18446744073709551615;refresher=uac", "99999999999999999999", "-1", "", ";;;", "x"] {
        let mut net = one();
        net.answered_by_peer(&format!("Session-Expires: {value}\r\n"));
        net.run(MINUTE);
        assert!(net.events[0].is_empty(), "{value}");
    }
}

#[test]
fn a_call_between_two_agents_lives_for_a_day_and_dies_with_one_of_them() {
    for (seed, link) in [(1, Link::GOOD), (2, Link::AWFUL), (3, Link::AWFUL)] {
        let mut net = agents(&[Some(300), Some(1800)], link, seed);
        let (ours, theirs) = net.call_up();
        net.run(MINUTE * 60 * 24);
        assert!(!net.events.iter().flatten().any(|e| matches!(e, Event::Ended { .. })), "seed {seed}");
        let refreshes = net.count(0, "UPDATE");
        assert!(refreshes >= 24 * 60 / 5, "{refreshes}");
        // the caller vanishes
        net.lose = Box::new(|s| s.from == address(1));
        net.run(MINUTE * 10);
        assert_eq!(net.ended(1), (theirs, EndCause::Timeout, None));
        assert_eq!(net.ended(0).0, ours);
    }
}
