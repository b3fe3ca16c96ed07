//! Calls between two user agents: made, refused, cancelled, ended, over links good and bad.

mod common;

use std::time::Duration;

use common::{Link, MINUTE, Net, address, dial, sdp};
use mr_sip_signaling::{EndCause, Event, SignalingError, UserAgentConfig};

#[test]
fn a_call_is_made_answered_and_hung_up_by_the_caller() {
    let mut net = Net::of(2, Link::GOOD, 1);
    let (ours, theirs) = net.call_up();
    net.agents[0].hangup(net.now, ours).unwrap();
    assert_eq!(net.ended(0), (ours, EndCause::LocalHangup, None));
    assert_eq!(net.ended(1), (theirs, EndCause::RemoteHangup, None));
    net.run(MINUTE);
    assert!(net.agents.iter().all(|a| a.is_idle()));
    assert!(net.agents.iter().all(|a| a.poll_timeout().is_none()), "nothing is left over");
}

#[test]
fn the_callee_may_hang_up_too() {
    let mut net = Net::of(2, Link::GOOD, 2);
    let (ours, theirs) = net.call_up();
    net.agents[1].hangup(net.now, theirs).unwrap();
    assert_eq!(net.ended(0), (ours, EndCause::RemoteHangup, None));
    assert_eq!(net.ended(1), (theirs, EndCause::LocalHangup, None));
}

#[test]
fn offer_and_answer_arrive_and_ringing_is_told() {
    let mut net = Net::of(2, Link::GOOD, 3);
    let ours = net.agents[0].dial(net.now, dial(format!("bob@{}", address(2)))).unwrap();
    let (theirs, offer, from) = net.wait(1, MINUTE, |e| match e {
        Event::Incoming { call, offer, from, .. } => Some((*call, offer.clone(), from.clone())),
        _ => None,
    });
    assert!(offer.unwrap().contains("m=audio 4000 RTP/AVP 111 9 0 8 101 110"));
    assert_eq!(from, "sip:mr-sip@10.0.0.1:5060");
    net.agents[1].ring(net.now, theirs).unwrap();
    let status = net.wait(0, MINUTE, |e| match e {
        Event::Progress { call, status, .. } if *call == ours => Some(*status),
        _ => None,
    });
    assert_eq!(status, 180);
    net.agents[1].answer(net.now, theirs, sdp(5000)).unwrap();
    assert!(net.answered(0).1.unwrap().contains("m=audio 5000"));
    assert_eq!(net.answered(1).1, None, "the ACK brings nothing when the INVITE had the offer");
}

#[test]
fn refusals_have_their_causes() {
    for (status, cause) in [
        (486, EndCause::Busy),
        (603, EndCause::Declined),
        (404, EndCause::NotFound),
        (488, EndCause::Media),
        (480, EndCause::NoAnswer),
        (500, EndCause::Rejected),
    ] {
        let mut net = Net::of(2, Link::GOOD, 4);
        let ours = net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).unwrap();
        let theirs = net.incoming(1);
        net.agents[1].reject(net.now, theirs, status).unwrap();
        assert_eq!(net.ended(0), (ours, cause, Some(status)));
        assert_eq!(net.ended(1), (theirs, EndCause::LocalHangup, Some(status)));
        net.run(MINUTE);
        assert_eq!(net.count(0, "ACK"), 1);
        assert!(net.agents.iter().all(|a| a.poll_timeout().is_none()));
    }
}

#[test]
fn a_ringing_call_is_cancelled() {
    let mut net = Net::of(2, Link::GOOD, 5);
    let ours = net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).unwrap();
    let theirs = net.incoming(1);
    net.agents[1].ring(net.now, theirs).unwrap();
    net.run(Duration::from_secs(1));
    net.agents[0].hangup(net.now, ours).unwrap();
    assert_eq!(net.ended(0), (ours, EndCause::LocalHangup, None));
    assert_eq!(net.ended(1), (theirs, EndCause::Cancelled, None));
    net.run(MINUTE);
    assert_eq!((net.count(1, "487 INVITE"), net.count(0, "ACK"), net.count(0, "BYE")), (1, 1, 0));
    assert!(net.agents.iter().all(|a| a.is_idle() && a.poll_timeout().is_none()));
}

#[test]
fn case_34_cancel_waits_for_a_provisional_response() {
    let mut net = Net::of(2, Link::GOOD, 6);
    let ours = net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).unwrap();
    net.agents[0].hangup(net.now, ours).unwrap();
    assert_eq!(net.ended(0).1, EndCause::LocalHangup);
    assert_eq!(net.count(0, "CANCEL"), 0);
    net.run(MINUTE);
    assert_eq!(net.count(0, "CANCEL"), 1, "sent when 100 had come");
    assert_eq!(net.ended(1).1, EndCause::Cancelled);
}

#[test]
fn case_34_when_cancel_and_200_cross_the_call_is_acknowledged_and_ended() {
    let mut net = Net::of(2, Link::GOOD, 7);
    let ours = net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).unwrap();
    let theirs = net.incoming(1);
    net.run(Duration::from_secs(1));
    net.agents[1].answer(net.now, theirs, sdp(5000)).unwrap();
    net.agents[0].hangup(net.now, ours).unwrap();
    assert_eq!(net.ended(0), (ours, EndCause::LocalHangup, None));
    assert_eq!(net.ended(1), (theirs, EndCause::RemoteHangup, None));
    net.run(MINUTE);
    assert_eq!(net.count(0, "CANCEL"), 1);
    assert_eq!(net.count(0, "BYE"), 1);
    assert!(net.count(0, "ACK") >= 1);
    assert!(!net.events[0].iter().any(|e| matches!(e, Event::Answered { .. })), "it had ended for us");
    assert!(net.agents.iter().all(|a| a.is_idle() && a.poll_timeout().is_none()));
}

#[test]
fn case_33_a_200_that_nobody_acknowledges_is_repeated_and_then_the_call_is_ended() {
    let mut net = Net::of(2, Link::GOOD, 8);
    net.lose = Box::new(|s| s.kind() == "ACK");
    net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).unwrap();
    let theirs = net.incoming(1);
    net.agents[1].answer(net.now, theirs, sdp(5000)).unwrap();
    assert_eq!(net.ended(1), (theirs, EndCause::Timeout, None));
    let times = net.times(1, "200 INVITE");
    assert_eq!(times[..5], [0, 500, 1500, 3500, 7500], "T1, doubling up to T2 (section 13.3.1.4)");
    net.run(Duration::from_secs(5));
    assert_eq!(net.count(1, "BYE"), 1);
    assert_eq!(net.count(0, "ACK"), times.len(), "every repetition was acknowledged again");
    assert_eq!(net.ended(0).1, EndCause::RemoteHangup);
}

#[test]
fn a_callee_that_hangs_up_before_the_ack_sends_bye_after_it() {
    let mut net = Net::of(2, Link::GOOD, 9);
    net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).unwrap();
    let theirs = net.incoming(1);
    net.agents[1].answer(net.now, theirs, sdp(5000)).unwrap();
    net.agents[1].hangup(net.now, theirs).unwrap();
    assert_eq!(net.ended(1), (theirs, EndCause::LocalHangup, None));
    assert_eq!(net.ended(0).1, EndCause::RemoteHangup);
    let order: Vec<_> = net.seen.iter().map(|s| s.kind()).filter(|k| k == "ACK" || k == "BYE").collect();
    assert_eq!(order, ["ACK", "BYE"]);
}

#[test]
fn nobody_at_the_address() {
    let mut net = Net::of(1, Link::GOOD, 10);
    let ours = net.agents[0].dial(net.now, dial("sip:bob@10.0.0.77")).unwrap();
    let begin = net.now;
    assert_eq!(net.ended(0), (ours, EndCause::Timeout, None));
    assert_eq!((net.now - begin).as_secs(), 32, "timer B");
    assert_eq!(net.times(0, "INVITE"), [0, 500, 1500, 3500, 7500, 15500, 31500], "timer A");
}

#[test]
fn a_call_that_rings_too_long_is_given_up_on_both_sides() {
    let mut net = Net::of(2, Link::GOOD, 11);
    net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).unwrap();
    let theirs = net.incoming(1);
    net.agents[1].ring(net.now, theirs).unwrap();
    assert_eq!(net.ended(0).1, EndCause::NoAnswer);
    assert!((net.now - net.start).as_secs() >= 180);
    net.ended(1);
    net.run(MINUTE);
    assert!(net.agents.iter().all(|a| a.is_idle()));
}

#[test]
fn what_cannot_be_dialled_is_refused() {
    let mut net = Net::of(1, Link::GOOD, 12);
    for to in [
        "",
        "  ",
        "bob",
        "tel:123",
        "sip:",
        "sip:bob@ho st",
        "sip:a@b;transport=carrier-pigeon",
        "sip:bob@10.0.0.2\r\nEvil: yes",
        "\"x\" <sip:bob@10.0.0.2>",
    ] {
        let error = net.agents[0].dial(net.now, dial(to)).unwrap_err();
        assert!(matches!(error, SignalingError::BadDestination { .. }), "{to:?}: {error}");
    }
    assert!(net.seen.is_empty());
    let mut unknown = dial("123");
    unknown.account = Some("nobody".into());
    assert!(matches!(net.agents[0].dial(net.now, unknown), Err(SignalingError::NoSuchAccount(_))));
}

#[test]
fn commands_that_do_not_fit_the_state_are_refused() {
    let mut net = Net::of(2, Link::GOOD, 13);
    let (ours, theirs) = net.call_up();
    for (agent, call) in [(0, ours), (1, theirs)] {
        let now = net.now;
        assert!(matches!(net.agents[agent].ring(now, call), Err(SignalingError::WrongState { .. })));
        assert!(matches!(net.agents[agent].answer(now, call, sdp(1)), Err(SignalingError::WrongState { .. })));
        assert!(matches!(net.agents[agent].reject(now, call, 486), Err(SignalingError::WrongState { .. })));
        assert!(matches!(net.agents[agent].answer_reoffer(now, call, sdp(1)), Err(SignalingError::WrongState { .. })));
        assert!(matches!(net.agents[agent].reject(now, call, 200), Err(SignalingError::BadStatus(200))));
        net.agents[agent].hangup(now, call).unwrap();
        assert!(matches!(net.agents[agent].hangup(now, call), Err(SignalingError::NoSuchCall(_))));
    }
}

#[test]
fn two_hundred_calls_at_once_over_an_awful_link() {
    let mut net = Net::of(2, Link::AWFUL, 14);
    let calls: Vec<_> =
        (0..200).map(|i| net.agents[0].dial(net.now, dial(format!("sip:bob{i}@10.0.0.2"))).unwrap()).collect();
    let mut theirs = Vec::new();
    for _ in &calls {
        let (call, to) = net.wait(1, MINUTE, |e| match e {
            Event::Incoming { call, to, .. } => Some((*call, to.clone())),
            _ => None,
        });
        net.agents[1].ring(net.now, call).unwrap();
        net.agents[1].answer(net.now, call, sdp(5000)).unwrap();
        let number: usize = to.trim_start_matches("sip:bob").split('@').next().unwrap().parse().unwrap();
        theirs.push((number, call));
    }
    theirs.sort_unstable();
    for _ in &calls {
        net.answered(0);
        net.answered(1);
    }
    net.run(MINUTE);
    assert!(!net.events.iter().flatten().any(|e| matches!(e, Event::Ended { .. })), "all are up");
    for (ours, (i, theirs)) in calls.iter().zip(&theirs) {
        let (agent, call) = if i % 2 == 0 { (0, *ours) } else { (1, *theirs) };
        net.agents[agent].hangup(net.now, call).unwrap();
    }
    for _ in &calls {
        net.ended(0);
        net.ended(1);
    }
    net.run(MINUTE * 2);
    assert!(net.agents.iter().all(|a| a.is_idle() && a.poll_timeout().is_none()), "nothing is left over");
}

#[test]
fn every_link_and_seed_brings_a_call_up_and_down() {
    for seed in 0..60 {
        let mut net = Net::of(2, Link::AWFUL, 1000 + seed);
        let (ours, theirs) = net.call_up();
        let (agent, call) = if seed % 2 == 0 { (0, ours) } else { (1, theirs) };
        net.agents[agent].hangup(net.now, call).unwrap();
        net.ended(0);
        net.ended(1);
        net.run(MINUTE * 2);
        assert!(net.agents.iter().all(|a| a.is_idle() && a.poll_timeout().is_none()), "seed {seed}");
        assert!(net.events.iter().flatten().all(|e| matches!(e, Event::Progress { .. })), "seed {seed}");
    }
}

#[test]
fn shutting_down_ends_every_call_and_takes_no_new_one() {
    let mut net = Net::of(2, Link::GOOD, 15);
    net.call_up();
    net.agents[0].dial(net.now, dial("sip:carol@10.0.0.2")).unwrap();
    net.incoming(1);
    let now = net.now;
    net.agents[0].shutdown(now);
    net.ended(0);
    net.ended(0);
    net.ended(1);
    net.ended(1);
    assert!(net.agents[0].dial(net.now, dial("sip:bob@10.0.0.2")).is_err());
    let call = net.agents[1].dial(net.now, dial("sip:alice@10.0.0.1")).unwrap();
    assert_eq!(net.ended(1), (call, EndCause::Rejected, Some(503)));
    net.run(MINUTE);
    assert!(net.agents[0].is_idle());
}

#[test]
fn case_48_thousands_of_calls_in_a_row_leave_nothing_behind() {
    let mut configs = [1, 2].map(|n| UserAgentConfig::new(address(n)));
    // traces of the last calls are meant to be left behind, and have bounds of their own
    configs.iter_mut().for_each(|config| config.trace.calls = 0);
    let mut net = Net::new(configs.into(), Link::GOOD, 48);
    let size = |net: &Net| net.agents.iter().map(|a| format!("{a:?}").len()).max();
    let call = |net: &mut Net, i| {
        let (ours, theirs) = net.call_up();
        let (agent, call) = if i % 2 == 0 { (0, ours) } else { (1, theirs) };
        net.agents[agent].hangup(net.now, call).unwrap();
        net.ended(0);
        net.ended(1);
        net.events.iter_mut().for_each(Vec::clear);
        net.seen.clear();
    };
    // after a first call the agents know what time it is
    call(&mut net, 0);
    net.run(MINUTE);
    let before = size(&net).unwrap();
    for i in 0..2_000 {
        call(&mut net, i);
    }
    net.run(MINUTE);
    assert!(net.agents.iter().all(|a| a.is_idle() && a.poll_timeout().is_none()));
    // but for counters that have more digits now
    let after = size(&net).unwrap();
    assert!(after < before + 100, "an agent has grown from {before} to {after} characters");
}
