//! Every timer of RFC 3261 section 17, and RFC 6026's two, as the other side of a user agent sees them over UDP.

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net,
    peer::{Asking, CONTACT_SDP, INVITE, response},
    sdp,
};
use mr_sip_signaling::{EndCause, Event};

fn one() -> Net {
    Net::of(1, Link::GOOD, 17)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn timer_a_repeats_an_invite_at_doubling_pauses_until_something_comes() {
    let mut net = one();
    net.dial_peer();
    net.run(MINUTE);
    assert_eq!(net.times(0, "INVITE"), [0, 500, 1500, 3500, 7500, 15500, 31500]);
    let mut net = one();
    net.dial_peer();
    net.run(ms(600));
    net.peer_answers("INVITE", "100 Trying", "", "");
    net.run(MINUTE);
    assert_eq!(net.times(0, "INVITE"), [0, 500]);
}

#[test]
fn timer_b_gives_an_invite_up_after_32_s() {
    let mut net = one();
    let begin = net.now;
    let far = net.dial_peer();
    net.run(ms(31_998));
    assert!(net.events[0].is_empty());
    assert_eq!(net.ended(0), (far.call, EndCause::Timeout, None));
    assert_eq!((net.now - begin).as_millis(), 32_000);
}

#[test]
fn timer_c_is_the_ringing_limit_and_ends_in_a_cancel() {
    let mut net = one();
    let begin = net.now;
    net.dial_peer();
    net.peer_answers("INVITE", "180 Ringing", "", "");
    assert_eq!(net.ended(0).1, EndCause::NoAnswer);
    assert_eq!((net.now - begin).as_secs(), 180);
    assert!(net.kinds_to_peer().contains(&"CANCEL".to_owned()));
}

#[test]
fn timer_d_acknowledges_repeated_refusals_for_32_s() {
    let mut net = one();
    net.dial_peer();
    let invite = net.to_peer("INVITE");
    let refusal = response(&invite, "486 Busy Here", "far", "", "");
    net.peer_says(&refusal);
    for wait in [500, 10_000, 21_400] {
        net.run(ms(wait));
        net.peer_says(&refusal);
    }
    assert_eq!((net.count(0, "ACK"), net.agents[0].counters().stray_responses), (4, 0));
    net.run(ms(200));
    net.peer_says(&refusal);
    assert_eq!((net.count(0, "ACK"), net.agents[0].counters().stray_responses), (4, 1));
}

#[test]
fn timer_e_repeats_other_requests_at_doubling_pauses_of_4_s_at_most() {
    let mut net = one();
    let far = net.called_by_peer("");
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.run(MINUTE);
    assert_eq!(net.times(0, "BYE"), [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
    // once something provisional came, every 4 s
    let mut net = one();
    let far = net.called_by_peer("");
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    net.peer_answers("BYE", "100 Trying", "", "");
    net.run(ms(13_000));
    assert_eq!(net.times(0, "BYE"), [0, 500, 4500, 8500, 12_500]);
}

#[test]
fn timer_f_gives_other_requests_up_after_32_s() {
    let mut net = one();
    let far = net.answered_by_peer("");
    net.agents[0].info(net.now, far.call, "application/dtmf".into(), "1".into()).unwrap();
    let begin = net.now;
    assert_eq!(net.ended(0), (far.call, EndCause::Timeout, None));
    assert_eq!((net.now - begin).as_millis(), 32_000);
}

#[test]
fn timers_g_and_h_repeat_a_refusal_until_it_is_acknowledged_or_32_s_are_over() {
    let mut net = one();
    net.peer_says(&INVITE.bytes());
    let call = net.incoming(0);
    net.agents[0].reject(net.now, call, 486).unwrap();
    net.run(MINUTE);
    let all = [0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    assert_eq!(net.times(0, "486 INVITE"), all);
    assert!(net.is_quiet());

    let mut net = one();
    net.peer_says(&INVITE.bytes());
    let call = net.incoming(0);
    net.agents[0].reject(net.now, call, 486).unwrap();
    net.run(ms(1600));
    net.peer_says(&Asking { method: "ACK", ..INVITE }.bytes());
    net.run(MINUTE);
    assert_eq!(net.times(0, "486 INVITE"), [0, 500, 1500]);
}

#[test]
fn timer_i_absorbs_what_comes_after_the_ack_for_5_s() {
    let mut net = one();
    net.peer_says(&INVITE.bytes());
    let call = net.incoming(0);
    net.agents[0].reject(net.now, call, 486).unwrap();
    net.soon();
    net.peer_says(&Asking { method: "ACK", ..INVITE }.bytes());
    net.outside.clear();
    net.run(ms(4_998));
    net.peer_says(&INVITE.bytes());
    net.peer_says(&Asking { method: "ACK", ..INVITE }.bytes());
    assert!(net.take_kinds_to_peer().is_empty() && net.agents[0].poll_timeout().is_some());
    net.run(ms(3));
    assert!(net.is_quiet(), "nothing is left of it");
}

#[test]
fn timer_j_repeats_the_answer_to_other_requests_for_32_s() {
    let mut net = one();
    let far = net.called_by_peer("");
    let bye = far.asks("BYE", 2, "b").bytes();
    net.peer_says(&bye);
    net.run(ms(31_999));
    net.peer_says(&bye);
    assert_eq!(net.take_kinds_to_peer(), ["200 BYE", "200 BYE"]);
    net.run(ms(2));
    net.peer_says(&bye);
    assert_eq!(net.take_kinds_to_peer(), ["481 BYE"]);
}

#[test]
fn timer_k_absorbs_repeated_answers_to_other_requests_for_5_s() {
    let mut net = one();
    let far = net.called_by_peer("");
    net.agents[0].hangup(net.now, far.call).unwrap();
    net.soon();
    let ok = response(&net.to_peer("BYE"), "200 OK", "peer", "", "");
    net.peer_says(&ok);
    net.run(ms(4_999));
    net.peer_says(&ok);
    assert_eq!(net.agents[0].counters().stray_responses, 0);
    net.run(ms(2));
    net.peer_says(&ok);
    assert_eq!(net.agents[0].counters().stray_responses, 1);
}

#[test]
fn timer_l_absorbs_repeated_invites_for_32_s_after_the_200() {
    let mut net = one();
    let offer = sdp(7000);
    let invite = Asking { body: &offer, ..INVITE }.bytes();
    net.peer_says(&invite);
    let call = net.incoming(0);
    net.agents[0].answer(net.now, call, sdp(5000)).unwrap();
    net.soon();
    let tag = common::peer::tag_of(&net.to_peer("200 INVITE"), "To");
    net.peer_says(&Asking { method: "ACK", branch: "a", to_tag: &tag, ..INVITE }.bytes());
    net.outside.clear();
    net.run(ms(31_990));
    net.peer_says(&invite);
    assert!(net.take_kinds_to_peer().is_empty());
    net.run(ms(20));
    net.peer_says(&invite);
    assert_eq!(net.take_kinds_to_peer(), ["100 INVITE"], "nobody remembers it");
}

#[test]
fn timer_m_acknowledges_repeated_and_forked_200s_for_32_s() {
    let mut net = one();
    net.dial_peer();
    let invite = net.to_peer("INVITE");
    let ok = |tag| response(&invite, "200 OK", tag, CONTACT_SDP, &sdp(7000));
    net.peer_says(&ok("far"));
    net.run(ms(31_999));
    net.peer_says(&ok("far"));
    net.peer_says(&ok("fork"));
    net.soon();
    assert_eq!((net.count(0, "ACK"), net.count(0, "BYE")), (3, 1));
    net.run(ms(2));
    net.peer_says(&ok("far"));
    net.soon();
    assert_eq!((net.count(0, "ACK"), net.agents[0].counters().stray_responses), (3, 1));
    assert!(!net.told(0, |e| matches!(e, Event::Ended { .. })));
}

#[test]
fn case_33_our_200_to_a_reinvite_is_repeated_and_then_the_call_is_ended() {
    let mut net = one();
    let far = net.called_by_peer("");
    let offer = sdp(7000);
    net.peer_says(&Asking { body: &offer, ..far.asks("INVITE", 2, "r") }.bytes());
    net.offered(0);
    net.agents[0].answer_reoffer(net.now, far.call, sdp(5000)).unwrap();
    assert_eq!(net.ended(0), (far.call, EndCause::Timeout, None));
    let all: Vec<_> = net.seen.iter().filter(|s| s.kind() == "200 INVITE").map(|s| s.at).collect();
    let again: Vec<_> = all.iter().skip(1).map(|at| (*at - all[1]).as_millis()).collect();
    assert_eq!(again[..6], [0, 500, 1500, 3500, 7500, 11_500]);
    assert_eq!(net.kinds_to_peer().last().map(String::as_str), Some("BYE"));
}

#[test]
fn a_lost_ack_to_a_reinvite_is_made_up_for() {
    for seed in 0..10 {
        let mut net = Net::of(2, Link::GOOD, seed);
        let (ours, _) = net.call_up();
        let mut lost = 0;
        net.lose = Box::new(move |s| {
            lost += u64::from(s.kind() == "ACK");
            s.kind() == "ACK" && lost <= seed % 4
        });
        net.agents[0].reoffer(net.now, ours, sdp(4002)).unwrap();
        let (theirs, _) = net.offered(1);
        net.agents[1].answer_reoffer(net.now, theirs, sdp(5002)).unwrap();
        net.reoffered(0).unwrap();
        net.run(MINUTE);
        assert_eq!(net.count(0, "ACK") as u64, 2 + seed % 4);
        assert!(net.live(0, ours) && net.live(1, theirs));
    }
}
