//! Who gets in, who gets an answer, and what strangers learn.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{
    Link, MINUTE, Net, address, header,
    peer::{Asking, INVITE, response},
    sdp,
};
use mr_sip_signaling::{
    Account, EndCause, Event, Password, UserAgentConfig,
    guard::{GuardConfig, Offence, Strangers},
    toll::TollConfig,
    trace::{Arrows, ladder},
};

const STRANGER: &str = "203.0.113.9:5060";

/// An agent whose only friend is the registrar at the peer's address.
fn guarded(strangers: Strangers) -> Net {
    let mut config = UserAgentConfig::new(address(1));
    let mut account = Account::new("pbx", "10.0.0.50", "alice", Password::new("x"));
    account.register = false;
    account.options = None;
    config.accounts = vec![account];
    config.guard = GuardConfig { trusted: Vec::new(), strangers, ..GuardConfig::default() };
    let mut net = Net::new(vec![config], Link::GOOD, 4);
    let now = net.now;
    net.agents[0].handle_timeout(now);
    net
}

fn says(net: &mut Net, from: &str, bytes: &[u8]) {
    let to = net.addresses[0];
    net.deliver(from.parse().unwrap(), to, bytes);
}

fn to_stranger(net: &Net) -> Vec<String> {
    let stranger: SocketAddr = STRANGER.parse().unwrap();
    net.outside.iter().filter(|s| s.to == stranger).map(common::Seen::kind).collect()
}

fn request<'a>(method: &'a str, branch: &'a str, user: &str) -> Vec<u8> {
    let text =
        String::from_utf8(Asking { method, branch, call_id: branch, body: &sdp(7000), ..INVITE }.bytes()).unwrap();
    text.replace("sip:agent@", &format!("sip:{user}@")).into_bytes()
}

#[test]
fn case_6_a_scanner_meets_silence_and_a_ban_and_makes_no_call() {
    let mut net = guarded(Strangers::Ignore);
    for (i, method) in ["OPTIONS", "INVITE", "REGISTER", "SUBSCRIBE", "FROB", "BYE", "CANCEL"].into_iter().enumerate() {
        says(&mut net, STRANGER, &request(method, &format!("b{i}"), "100"));
    }
    says(&mut net, STRANGER, b"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\r\n");
    says(&mut net, STRANGER, b"\xff\xfe nonsense");
    net.run(MINUTE);
    assert!(net.outside.is_empty(), "{:?}", net.kinds_to_peer());
    assert!(net.agents[0].is_idle());
    for i in 0..20 {
        says(&mut net, STRANGER, &request("OPTIONS", &format!("again{i}"), "100"));
    }
    let bans: Vec<_> = net.events[0].drain(..).collect();
    assert!(matches!(&bans[..], [Event::Banned { ban }] if ban.offence == Offence::StrangersRequest), "{bans:?}");
    let now = net.now;
    assert_eq!(net.agents[0].bans(now).len(), 1);
    assert!(net.agents[0].pardon(now, "203.0.113.9".parse().unwrap()));
    assert!(net.agents[0].bans(now).is_empty());
}

#[test]
fn case_6_a_scanners_name_is_enough_for_a_ban() {
    let mut net = guarded(Strangers::Answer);
    let text = String::from_utf8(request("OPTIONS", "b1", "100")).unwrap();
    let text = text.replace("Max-Forwards", "User-Agent: friendly-scanner\r\nMax-Forwards");
    says(&mut net, STRANGER, text.as_bytes());
    assert!(matches!(&net.events[0][..], [Event::Banned { ban }] if ban.offence == Offence::Scanner));
    says(&mut net, STRANGER, &request("INVITE", "b2", "100"));
    assert!(net.outside.is_empty() && net.agents[0].is_idle());
}

#[test]
fn case_7_existing_and_missing_users_are_answered_alike() {
    for strangers in [Strangers::Refuse, Strangers::Answer] {
        let answers = |user: &str| {
            let mut net = guarded(strangers);
            for (i, method) in ["OPTIONS", "REGISTER", "SUBSCRIBE", "MESSAGE", "INVITE"].into_iter().enumerate() {
                says(&mut net, STRANGER, &request(method, &format!("b{i}"), user));
            }
            net.run(Duration::from_secs(1));
            let texts: Vec<_> = net.outside.iter().map(|s| (s.at, s.text.replace(user, "USER"))).collect();
            let mut lines: Vec<_> = texts;
            // what a secret and the user make together may differ, and says nothing
            for (_, text) in &mut lines {
                *text = text.lines().filter(|l| !l.starts_with("To:") && !l.starts_with("From:")).collect();
            }
            lines
        };
        assert_eq!(answers("alice"), answers("nobody"), "{strangers:?}");
    }
    let mut net = guarded(Strangers::Refuse);
    says(&mut net, STRANGER, &request("INVITE", "b1", "alice"));
    assert_eq!(to_stranger(&net), ["403 INVITE"]);
    assert!(net.agents[0].is_idle(), "nothing is kept of it");
}

#[test]
fn case_9_a_register_to_us_is_refused_to_friends_and_ignored_from_strangers() {
    let mut net = guarded(Strangers::Ignore);
    net.peer_says(&request("REGISTER", "b1", "alice"));
    assert_eq!(net.take_kinds_to_peer(), ["405 REGISTER"]);
    says(&mut net, STRANGER, &request("REGISTER", "b2", "alice"));
    assert!(net.outside.is_empty());
}

#[test]
fn case_13_a_request_within_a_call_counts_only_from_where_the_call_is() {
    let mut net = guarded(Strangers::Ignore);
    let offer = sdp(7000);
    net.peer_says(&Asking { body: &offer, ..INVITE }.bytes());
    let call = net.incoming(0);
    net.agents[0].answer(net.now, call, sdp(5000)).unwrap();
    net.soon();
    let tag = header(&net.to_peer("200 INVITE").text, "To").unwrap().rsplit_once("tag=").unwrap().1.to_owned();
    net.peer_says(&Asking { method: "ACK", branch: "a1", to_tag: &tag, ..INVITE }.bytes());
    net.answered(0);
    net.outside.clear();
    // hours later the far end is still known
    net.run(MINUTE * 200);
    net.outside.clear();
    let bye = Asking { method: "BYE", branch: "x1", to_tag: &tag, cseq: 9, ..INVITE };
    says(&mut net, STRANGER, &bye.bytes());
    says(&mut net, STRANGER, &Asking { method: "INVITE", branch: "x2", body: &offer, ..bye.clone() }.bytes());
    says(&mut net, STRANGER, &Asking { method: "CANCEL", branch: "i1", cseq: 1, ..INVITE }.bytes());
    assert!(net.outside.is_empty(), "{:?}", net.outside);
    assert!(!net.events[0].iter().any(|e| matches!(e, Event::Ended { .. } | Event::Reoffer { .. })));
    net.peer_says(&bye.bytes());
    assert_eq!(net.ended(0), (call, EndCause::RemoteHangup, None));
    assert_eq!(net.take_kinds_to_peer(), ["200 BYE"]);
}

#[test]
fn a_trunks_networks_are_let_in() {
    let mut config = UserAgentConfig::new(address(1));
    let mut account = Account::new("trunk", "sip.example.com", "alice", Password::new("x"));
    account.register = false;
    account.options = None;
    account.peers = vec!["203.0.113.0/29".parse().unwrap()];
    config.accounts = vec![account];
    config.guard = GuardConfig { trusted: Vec::new(), ..GuardConfig::default() };
    let mut net = Net::new(vec![config], Link::GOOD, 4);
    says(&mut net, "203.0.113.8:5060", &request("INVITE", "b1", "alice"));
    assert!(net.events[0].is_empty());
    says(&mut net, "203.0.113.7:5060", &request("INVITE", "b2", "alice"));
    let account = net.wait(0, MINUTE, |e| match e {
        Event::Incoming { account, .. } => Some(account.clone()),
        _ => None,
    });
    assert_eq!(account.as_deref(), Some("trunk"));
}

#[test]
fn case_17_a_flood_from_everywhere_leaves_friends_alone_and_costs_no_memory() {
    let mut net = guarded(Strangers::Ignore);
    let offer = sdp(7000);
    let methods = ["INVITE", "REGISTER", "OPTIONS", "BYE", "CANCEL", "SUBSCRIBE", "NOTIFY"];
    let mut friends = 0;
    for i in 0..50_000_u32 {
        let from = SocketAddr::from(((i.wrapping_mul(2_654_435_761)).to_be_bytes(), 5060));
        let method = methods[i as usize % methods.len()];
        let text =
            Asking { method, branch: &format!("f{i}"), call_id: &format!("f{i}"), body: &offer, ..INVITE }.bytes();
        let now = net.now;
        net.agents[0].handle_datagram(now, from, &text);
        // 50,000 a second
        net.now += Duration::from_micros(20);
        if i % 1000 == 0 {
            let (branch, id) = (format!("ours{i}"), format!("ours{i}"));
            net.peer_says(&Asking { branch: &branch, call_id: &id, body: &offer, ..INVITE }.bytes());
            friends += 1;
            let call = net.incoming(0);
            net.agents[0].reject(net.now, call, 486).unwrap();
        }
    }
    net.soon();
    let refused = net.outside.iter().filter(|s| s.kind() == "486 INVITE");
    let refused: std::collections::HashSet<_> = refused.map(|s| header(&s.text, "Call-ID").unwrap()).collect();
    assert_eq!(refused.len(), friends, "every friend's call was heard");
    let counters = net.agents[0].counters();
    assert!(counters.dropped > 48_000, "{counters:?}");
    assert_eq!(counters.dropped + counters.ignored + friends as u64, 50_000 + friends as u64, "{counters:?}");
    net.run(MINUTE);
    assert!(net.agents[0].is_idle());
}

#[test]
fn an_answer_to_what_we_asked_is_heard_wherever_it_comes_from() {
    let mut net = guarded(Strangers::Ignore);
    let now = net.now;
    let call = net.agents[0].dial(now, common::dial("sip:bob@203.0.113.9")).unwrap();
    net.soon();
    let invite = net.outside.iter().find(|s| s.kind() == "INVITE").unwrap().clone();
    let ok = response(
        &invite,
        "200 OK",
        "b",
        "Contact: <sip:bob@203.0.113.10>\r\nContent-Type: application/sdp\r\n",
        &sdp(7000),
    );
    says(&mut net, STRANGER, &ok);
    assert_eq!(net.answered(0).0, call);
    net.soon();
    // whoever the 200 names as the far end may hang up
    let ack = net.outside.iter().find(|s| s.kind() == "ACK").unwrap();
    let get = |name| header(&ack.text, name).unwrap();
    let bye = format!(
        "BYE sip:mr-sip@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.10;branch=z9hG4bKq\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
        get("To"),
        get("From"),
        get("Call-ID"),
    );
    says(&mut net, "203.0.113.10:5060", bye.as_bytes());
    assert_eq!(net.ended(0).1, EndCause::RemoteHangup);
}

/// An agent that may call what the configuration says.
fn dialling(configure: impl FnOnce(&mut TollConfig)) -> Net {
    let mut config = UserAgentConfig::new(address(1));
    let mut toll = TollConfig::default();
    configure(&mut toll);
    config.toll = Some(toll);
    Net::new(vec![config], Link::GOOD, 4)
}

#[test]
fn case_15_what_is_denied_is_not_called_and_the_error_names_the_rule() {
    let mut net = dialling(|toll| toll.concurrent = Some(2));
    let now = net.now;
    for to in ["sip:+19005551234@10.0.0.50", "sip:%2B1900555@10.0.0.50", "sip:112@10.0.0.50"] {
        let error = net.agents[0].dial(now, common::dial(to)).unwrap_err().to_string();
        assert!(error.contains("toll."), "{to}: {error}");
    }
    assert!(net.seen.is_empty());
    for i in 0..2 {
        net.agents[0].dial(now, common::dial(format!("sip:10{i}@10.0.0.50"))).unwrap();
    }
    let error = net.agents[0].dial(now, common::dial("sip:103@10.0.0.50")).unwrap_err().to_string();
    assert!(error.contains("toll.concurrent"), "{error}");
    for _ in 0..2 {
        net.soon();
    }
    assert_eq!(net.kinds_to_peer(), ["INVITE", "INVITE"]);
}

#[test]
fn case_15_a_call_ends_when_it_has_lasted_as_long_as_it_may() {
    let mut net = dialling(|toll| toll.max_duration = Some(MINUTE * 2));
    let now = net.now;
    let call = net.agents[0].dial(now, common::dial("sip:bob@10.0.0.50")).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    let headers = "Contact: <sip:bob@10.0.0.50>\r\nContent-Type: application/sdp\r\n";
    net.peer_says(&response(&invite, "200 OK", "b", headers, &sdp(7000)));
    net.answered(0);
    net.run(MINUTE * 2 - Duration::from_secs(1));
    assert!(net.events[0].is_empty());
    assert_eq!(net.ended(0), (call, EndCause::TooLong, None));
    net.soon();
    net.to_peer("BYE");
}

#[test]
fn case_46_a_trace_shows_the_call_and_no_secret() {
    let mut net = guarded(Strangers::Ignore);
    let mut dial = common::dial("+49301234");
    dial.account = Some("pbx".into());
    dial.sdp.push_str("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\r\n");
    let now = net.now;
    let call = net.agents[0].dial(now, dial).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    let challenge = "WWW-Authenticate: Digest realm=\"home\", nonce=\"n1\", qop=\"auth\"\r\n";
    net.peer_says(&response(&invite, "401 Unauthorized", "a", challenge, ""));
    net.soon();
    let again = net.to_peer("INVITE");
    assert!(again.text.contains("response=\""));
    net.peer_says(&response(&again, "486 Busy Here", "b", "", ""));
    net.ended(0);
    let trace = net.agents[0].trace(call).expect("a trace");
    let kinds: Vec<_> = ladder(&trace, Arrows::Ascii).lines().map(str::to_owned).collect();
    let text = kinds.join("\n");
    for part in ["INVITE", "401 Unauthorized", "ACK", "486 Busy Here"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    for message in &trace.messages {
        let text = String::from_utf8_lossy(&message.bytes);
        assert!(
            !text.contains("c2VjcmV0") && !text.contains(&again.text[again.text.find("response=").unwrap()..][..20]),
            "{text}"
        );
    }
    assert_eq!(net.agents[0].trace(mr_sip_signaling::CallId(99)), None);
}
