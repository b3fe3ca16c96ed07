//! What comes after a call's end: both ends hang up at once, and what is late.

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net, dial,
    peer::{Asking, Far, INVITE},
    sdp,
};
use mr_sip_signaling::EndCause;

/// Both hang up before either has heard of the other's doing so.
fn both_hang_up(to: &str, link: Link, seed: u64) -> Net {
    let mut net = Net::of(2, link, seed);
    let ours = net.agents[0].dial(net.now, dial(to)).unwrap();
    let theirs = net.incoming(1);
    net.agents[1].answer(net.now, theirs, sdp(5000)).unwrap();
    net.answered(0);
    net.answered(1);
    net.agents[0].hangup(net.now, ours).unwrap();
    net.agents[1].hangup(net.now, theirs).unwrap();
    assert_eq!((net.ended(0).1, net.ended(1).1), (EndCause::LocalHangup, EndCause::LocalHangup));
    net.run(MINUTE * 2);
    assert!(net.is_quiet());
    net
}

#[test]
fn case_34_two_byes_that_cross_are_both_answered_with_200() {
    for to in ["sip:bob@10.0.0.2", "sip:bob@10.0.0.2;transport=tcp"] {
        let net = both_hang_up(to, Link::GOOD, 1);
        for agent in [0, 1] {
            assert_eq!((net.count(agent, "BYE"), net.count(agent, "200 BYE")), (1, 1), "{to}");
            assert_eq!(net.count(agent, "481 BYE"), 0, "{to}");
        }
    }
    for seed in 0..20 {
        let net = both_hang_up("sip:bob@10.0.0.2", Link::AWFUL, seed);
        assert_eq!(net.count(0, "481 BYE") + net.count(1, "481 BYE"), 0, "seed {seed}");
    }
}

/// What a late request of a call of the peer's with agent 0 is answered.
fn late(net: &mut Net, ask: Asking) -> Vec<String> {
    net.outside.clear();
    net.peer_says(&ask.bytes());
    net.soon();
    net.take_kinds_to_peer()
}

fn ended_call() -> (Net, Far) {
    let mut net = Net::of(1, Link::GOOD, 3);
    let far = net.called_by_peer("");
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    net.peer_answers("BYE", "200 OK", "", "");
    (net, far)
}

#[test]
fn case_34_a_late_bye_is_answered_with_200_for_32_s_and_no_longer() {
    let (mut net, far) = ended_call();
    assert_eq!(late(&mut net, far.asks("BYE", 2, "late-1")), ["200 BYE"]);
    net.run(Duration::from_secs(31));
    assert_eq!(late(&mut net, far.asks("BYE", 2, "late-2")), ["200 BYE"]);
    assert_eq!(late(&mut net, far.asks("BYE", 3, "late-3")), ["200 BYE"]);
    net.run(Duration::from_secs(1));
    assert_eq!(late(&mut net, far.asks("BYE", 4, "late-4")), ["481 BYE"]);
    assert!(net.is_quiet());
}

#[test]
fn case_34_a_bye_that_comes_again_by_another_branch_is_answered_with_200() {
    let mut net = Net::of(1, Link::GOOD, 4);
    let far = net.answered_by_peer("");
    assert_eq!(late(&mut net, far.asks("BYE", 2, "b1")), ["200 BYE"]);
    assert_eq!(net.ended(0).1, EndCause::RemoteHangup);
    assert_eq!(late(&mut net, far.asks("BYE", 2, "b2")), ["200 BYE"]);
}

#[test]
fn case_34_what_else_is_late_has_the_answer_of_a_call_that_is_over() {
    let (mut net, far) = ended_call();
    assert_eq!(late(&mut net, far.asks("ACK", 1, "late-a")), Vec::<String>::new());
    let cancel = Asking { method: "CANCEL", branch: "late-c", ..INVITE };
    assert_eq!(late(&mut net, cancel), ["200 CANCEL"]);
    // what wants something of a call that is over does not get it (section 15.1.2)
    assert_eq!(late(&mut net, far.asks("INFO", 5, "late-i")), ["481 INFO"]);
    let offer = sdp(7000);
    assert_eq!(late(&mut net, Asking { body: &offer, ..far.asks("INVITE", 6, "late-r") }), ["481 INVITE"]);
    assert!(net.events[0].iter().all(|e| !matches!(e, mr_sip_signaling::Event::Incoming { .. })));
}

#[test]
fn case_13_a_guess_at_a_call_that_is_over_is_481() {
    let (mut net, far) = ended_call();
    for (i, (from_tag, to_tag, call_id)) in [
        ("guessed", far.tags.1.as_str(), "call-1"),
        ("peer", "guessed", "call-1"),
        ("peer", "", "call-1"),
        ("peer", far.tags.1.as_str(), "call-2"),
    ]
    .into_iter()
    .enumerate()
    {
        let branch = format!("g{i}");
        let ask = Asking { method: "BYE", branch: &branch, from_tag, to_tag, call_id, cseq: 2, ..INVITE };
        assert_eq!(late(&mut net, ask), ["481 BYE"]);
    }
}

#[test]
fn case_34_a_cancel_that_comes_again_late_is_answered_with_200() {
    let mut net = Net::of(1, Link::GOOD, 5);
    let offer = sdp(7000);
    net.peer_says(&Asking { body: &offer, ..INVITE }.bytes());
    net.incoming(0);
    assert_eq!(late(&mut net, Asking { method: "CANCEL", ..INVITE })[0], "200 CANCEL");
    assert_eq!(net.ended(0).1, EndCause::Cancelled);
    let tag = common::peer::tag_of(net.seen.iter().find(|s| s.kind() == "487 INVITE").unwrap(), "To");
    net.peer_says(&Asking { method: "ACK", to_tag: &tag, ..INVITE }.bytes());
    // timer I is over, and with it the transaction of the INVITE
    net.run(Duration::from_secs(10));
    assert_eq!(late(&mut net, Asking { method: "CANCEL", ..INVITE }), ["200 CANCEL"]);
}

#[test]
fn case_34_a_fork_that_lost_and_hangs_up_too_is_answered_with_200() {
    let mut net = Net::of(1, Link::GOOD, 6);
    let far = net.dial_peer();
    let invite = far.invite.clone().unwrap();
    for tag in ["far", "fork"] {
        let ok = common::peer::response(&invite, "200 OK", tag, common::peer::CONTACT_SDP, &sdp(7000));
        net.peer_says(&ok);
        net.soon();
    }
    net.answered(0);
    assert_eq!(late(&mut net, Asking { from_tag: "fork", ..far.asks("BYE", 1, "f1") }), ["200 BYE"]);
    assert!(net.live(0, far.call), "the one that won goes on");
}
