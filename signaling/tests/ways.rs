//! By which way a request goes, and by which when that fails: transports, several servers of one name (RFC 3263 section 4.3),
//! several proxies of one account, connections that break, addresses that change.

mod common;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use common::{
    Link, MINUTE, Net, Seen, address, dial, header,
    peer::{peer, response},
    sdp,
};
use mr_sip_signaling::{
    Account, CallId, ConnectionId, EndCause, Event, LocalIp, Password, Peer, Target, Transport, UserAgentConfig,
};

const A: &str = "10.0.0.51:5060";
const B: &str = "10.0.0.52:5060";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn target(transport: Transport, address: &str) -> Target {
    Target { transport, address: at(address) }
}

fn one() -> Net {
    Net::of(1, Link::GOOD, 5)
}

/// A call to a name that has two servers.
fn call_to_two(net: &mut Net) -> CallId {
    let now = net.now;
    let call = net.agents[0].dial(now, dial("sip:bob@example.com")).unwrap();
    let question = net.agents[0].poll_resolve().expect("a question");
    assert_eq!((question.port, question.transport, question.secure), (None, None, false));
    let two = [target(Transport::Udp, A), target(Transport::Udp, B)];
    net.agents[0].handle_resolved(now, question.id, &two, MINUTE);
    net.soon();
    call
}

/// What went to an address, by kind.
fn sent_to(net: &Net, to: &str) -> Vec<String> {
    net.outside.iter().filter(|s| s.to == at(to)).map(Seen::kind).collect()
}

#[track_caller]
fn last_to(net: &Net, to: &str, kind: &str) -> Seen {
    net.outside.iter().rev().find(|s| s.to == at(to) && s.kind() == kind).expect(kind).clone()
}

fn answer(net: &mut Net, request: &Seen, status: &str, tag: &str, body: &str) {
    let to = net.addresses[0];
    let headers = format!("Contact: <sip:bob@{}>\r\nContent-Type: application/sdp\r\n", request.to);
    net.deliver(request.to, to, &response(request, status, tag, &headers, body));
}

#[test]
fn a_silent_server_is_passed_over_after_four_seconds() {
    let mut net = one();
    let call = call_to_two(&mut net);
    assert!(sent_to(&net, B).is_empty());
    net.run(Duration::from_secs(5));
    assert_eq!(sent_to(&net, B)[0], "INVITE");
    let (first, second) = (last_to(&net, A, "INVITE"), last_to(&net, B, "INVITE"));
    for same in ["Call-ID", "From", "CSeq"] {
        assert_eq!(header(&first.text, same), header(&second.text, same));
    }
    assert_ne!(header(&first.text, "Via"), header(&second.text, "Via"));
    answer(&mut net, &second, "200 OK", "b", &sdp(7000));
    assert_eq!(net.answered(0).0, call);
    assert_eq!(last_to(&net, B, "ACK").to, at(B));

    // the next call does not wait for the dead one first
    let now = net.now;
    net.agents[0].dial(now, dial("sip:carol@example.com")).unwrap();
    net.outside.clear();
    net.soon();
    assert_eq!(sent_to(&net, B), ["INVITE"]);
    assert!(sent_to(&net, A).is_empty());
}

#[test]
fn the_late_answer_of_a_server_that_was_passed_over_is_acknowledged_and_ended() {
    let mut net = one();
    let call = call_to_two(&mut net);
    net.run(Duration::from_secs(5));
    let (first, second) = (last_to(&net, A, "INVITE"), last_to(&net, B, "INVITE"));
    answer(&mut net, &first, "180 Ringing", "a", "");
    assert_eq!(sent_to(&net, A).last().map(String::as_str), Some("CANCEL"));
    answer(&mut net, &first, "200 OK", "a", &sdp(7000));
    net.soon();
    assert!(sent_to(&net, A).ends_with(&["ACK".to_owned(), "BYE".to_owned()]), "{:?}", sent_to(&net, A));
    answer(&mut net, &second, "200 OK", "b", &sdp(7002));
    assert_eq!(net.answered(0).0, call);
    assert!(!sent_to(&net, B).contains(&"BYE".to_owned()));
}

#[test]
fn case_37_a_server_that_cannot_is_replaced_and_one_that_says_no_is_not() {
    for status in ["503 Service Unavailable", "500 Server Error", "504 Timeout"] {
        let mut net = one();
        call_to_two(&mut net);
        let first = last_to(&net, A, "INVITE");
        answer(&mut net, &first, status, "a", "");
        net.soon();
        assert_eq!(sent_to(&net, A).last().map(String::as_str), Some("ACK"));
        assert_eq!(sent_to(&net, B), ["INVITE"], "{status}");
        let second = last_to(&net, B, "INVITE");
        answer(&mut net, &second, status, "b", "");
        assert_eq!(net.ended(0).1, EndCause::Rejected, "both have been asked");
    }
    for (status, cause) in [("486 Busy Here", EndCause::Busy), ("603 Decline", EndCause::Declined)] {
        let mut net = one();
        call_to_two(&mut net);
        let first = last_to(&net, A, "INVITE");
        answer(&mut net, &first, status, "a", "");
        assert_eq!(net.ended(0).1, cause);
        net.run(MINUTE);
        assert!(sent_to(&net, B).is_empty());
    }
}

#[test]
fn a_call_that_is_given_up_while_a_second_server_is_tried_leaves_nothing_behind() {
    let mut net = one();
    let call = call_to_two(&mut net);
    net.run(Duration::from_secs(5));
    let (first, second) = (last_to(&net, A, "INVITE"), last_to(&net, B, "INVITE"));
    answer(&mut net, &second, "180 Ringing", "b", "");
    let now = net.now;
    net.agents[0].hangup(now, call).unwrap();
    net.soon();
    let cancel = last_to(&net, B, "CANCEL");
    answer(&mut net, &cancel, "200 OK", "b", "");
    answer(&mut net, &second, "487 Request Terminated", "b", "");
    answer(&mut net, &first, "180 Ringing", "a", "");
    let cancel = last_to(&net, A, "CANCEL");
    answer(&mut net, &cancel, "200 OK", "a", "");
    answer(&mut net, &first, "487 Request Terminated", "a", "");
    net.run(MINUTE * 2);
    assert!(net.agents[0].is_idle());
}

#[test]
fn an_accounts_second_proxy_takes_over() {
    let mut account = Account::new("trunk", "example.com", "alice", Password::new("x"));
    account.register = false;
    account.options = None;
    account.proxies = vec![A.into(), B.into()];
    let mut config = UserAgentConfig::new(address(1));
    config.accounts = vec![account];
    let mut net = Net::new(vec![config], Link::GOOD, 6);
    let mut to = dial("+4930123");
    to.account = Some("trunk".into());
    let now = net.now;
    net.agents[0].dial(now, to).unwrap();
    net.soon();
    let first = last_to(&net, A, "INVITE");
    assert_eq!(header(&first.text, "Route"), Some("<sip:10.0.0.51:5060;lr>"));
    answer(&mut net, &first, "503 Service Unavailable", "a", "");
    net.soon();
    let second = last_to(&net, B, "INVITE");
    assert_eq!(header(&second.text, "Route"), Some("<sip:10.0.0.52:5060;lr>"));
    assert!(second.text.starts_with("INVITE sip:+4930123@example.com SIP/2.0"));
}

#[test]
fn a_call_by_tcp_sends_nothing_twice_and_says_tcp_everywhere() {
    let mut net = Net::of(2, Link::AWFUL, 8);
    let now = net.now;
    let ours = net.agents[0].dial(now, dial("sip:bob@10.0.0.2;transport=tcp")).unwrap();
    let theirs = net.incoming(1);
    let now = net.now;
    net.agents[1].ring(now, theirs).unwrap();
    net.agents[1].answer(now, theirs, sdp(5000)).unwrap();
    assert_eq!(net.answered(0).0, ours);
    net.answered(1);
    net.agents[1].hangup(net.now, theirs).unwrap();
    assert_eq!(net.ended(0).1, EndCause::RemoteHangup);
    net.run(MINUTE);
    assert!(net.seen.iter().all(|s| s.transport == Transport::Tcp), "{:?}", net.seen);
    for kind in ["INVITE", "180 INVITE", "200 INVITE", "ACK"] {
        assert_eq!(net.count(0, kind) + net.count(1, kind), 1, "{kind}");
    }
    let invite = &net.seen[0].text;
    assert!(header(invite, "Via").unwrap().starts_with("SIP/2.0/TCP 10.0.0.1:5060;"), "{invite}");
    assert_eq!(header(invite, "Contact"), Some("<sip:mr-sip@10.0.0.1:5060;transport=tcp>"));
    assert!(net.agents.iter().all(|a| a.is_idle()));
}

#[test]
fn tls_is_asked_for_by_name_and_sips_takes_nothing_else() {
    let mut net = one();
    let now = net.now;
    net.agents[0].dial(now, dial("sips:bob@example.com")).unwrap();
    let question = net.agents[0].poll_resolve().unwrap();
    assert!(question.secure);
    net.agents[0].handle_resolved(now, question.id, &[target(Transport::Tls, "10.0.0.51:5061")], MINUTE);
    let transmit = net.agents[0].poll_transmit().unwrap();
    assert_eq!(transmit.to.transport, Transport::Tls);
    assert_eq!(transmit.to.name.as_deref(), Some("example.com"), "the certificate must be for what was dialled");
    net.agents[0].handle_closed(now, &transmit.to, "the certificate of example.com has expired");
    let reason = net.wait(0, MINUTE, |e| match e {
        Event::Ended { cause: EndCause::Network, reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "the certificate of example.com has expired");
}

#[test]
fn a_request_too_large_for_udp_goes_by_tcp_and_by_udp_when_nobody_takes_tcp() {
    let mut net = one();
    let mut large = dial("sip:bob@10.0.0.51");
    large.sdp.extend(std::iter::repeat_n("a=x-padding:0123456789\r\n", 60));
    let now = net.now;
    net.agents[0].dial(now, large.clone()).unwrap();
    net.soon();
    let first = last_to(&net, A, "INVITE");
    assert_eq!(first.transport, Transport::Tcp);
    assert!(header(&first.text, "Via").unwrap().starts_with("SIP/2.0/TCP"));
    let closed = Peer { transport: Transport::Tcp, ..Peer::udp(at(A)) };
    net.agents[0].handle_closed(now, &closed, "refused");
    net.soon();
    let second = last_to(&net, A, "INVITE");
    assert_eq!(second.transport, Transport::Udp);
    assert!(header(&second.text, "Contact").unwrap().ends_with(":5060>"), "{}", second.text);

    // TCP is known not to work there for a while
    net.outside.clear();
    net.agents[0].dial(now, large).unwrap();
    net.soon();
    assert_eq!(last_to(&net, A, "INVITE").transport, Transport::Udp);
}

#[test]
fn a_request_on_a_connection_that_breaks_is_sent_again_once() {
    let mut net = one();
    let now = net.now;
    let call = net.agents[0].dial(now, dial("sip:bob@10.0.0.51;transport=tcp")).unwrap();
    net.soon();
    let open = |n| Peer { transport: Transport::Tcp, connection: Some(ConnectionId(n)), ..Peer::udp(at(A)) };
    net.agents[0].handle_closed(now, &open(1), "the connection was closed");
    net.soon();
    assert_eq!(sent_to(&net, A), ["INVITE", "INVITE"]);
    net.agents[0].handle_closed(now, &open(2), "the connection was closed");
    assert_eq!(net.ended(0), (call, EndCause::Network, None));
}

#[test]
fn requests_go_back_by_the_connection_that_the_caller_made() {
    let mut net = one();
    let caller =
        Peer { transport: Transport::Tcp, connection: Some(ConnectionId(77)), ..Peer::udp(at("198.51.100.7:40000")) };
    let ask = common::peer::Asking { ..common::peer::INVITE };
    let text = String::from_utf8(ask.bytes()).unwrap().replace("/UDP", "/TCP").replace(";rport", "");
    let text = text.replace("Contact: <sip:peer@10.0.0.50>", "Contact: <sip:peer@192.168.1.2:5070;transport=tcp>");
    let now = net.now;
    net.agents[0].handle_message(now, &caller, text.as_bytes());
    let call = net.incoming(0);
    let ok = |net: &mut Net| {
        net.agents[0].answer(now, call, sdp(5000)).unwrap();
        let mut last = net.agents[0].poll_transmit().unwrap();
        while let Some(next) = net.agents[0].poll_transmit() {
            last = next;
        }
        last
    };
    let answer = ok(&mut net);
    assert_eq!(answer.to.connection, Some(ConnectionId(77)));
    let tag =
        header(std::str::from_utf8(&answer.bytes).unwrap(), "To").unwrap().split_once("tag=").unwrap().1.to_owned();
    let ack = common::peer::Asking { method: "ACK", branch: "a", to_tag: &tag, ..ask };
    net.agents[0].handle_message(now, &caller, &ack.bytes());
    net.answered(0);
    net.agents[0].hangup(now, call).unwrap();
    let bye = net.agents[0].poll_transmit().unwrap();
    assert!(bye.bytes.starts_with(b"BYE sip:peer@192.168.1.2:5070;transport=tcp "));
    assert_eq!(bye.to, caller, "the private address behind the NAT could not be reached");
}

#[test]
fn a_trunk_that_does_not_register_is_asked_whether_it_is_there() {
    let mut account = Account::new("trunk", "10.0.0.50", "alice", Password::new(""));
    account.register = false;
    let mut config = UserAgentConfig::new(address(1));
    config.accounts = vec![account];
    let mut net = Net::new(vec![config], Link::GOOD, 6);
    let now = net.now;
    net.agents[0].handle_timeout(now);
    net.soon();
    let options = net.to_peer("OPTIONS");
    assert!(options.text.starts_with("OPTIONS sip:10.0.0.50 SIP/2.0"));
    net.peer_says(&response(&options, "404 Not Found", "t", "", ""));
    net.wait(0, MINUTE, |e| matches!(e, Event::Reachable { account } if account == "trunk").then_some(()));
    // silence, told once however long it lasts
    net.run(MINUTE * 10);
    let lost = net.events[0].iter().filter(|e| matches!(e, Event::Unreachable { .. })).count();
    assert_eq!(lost, 1);
    let options = net.to_peer("OPTIONS");
    net.peer_says(&response(&options, "200 OK", "t", "", ""));
    net.wait(0, MINUTE, |e| matches!(e, Event::Reachable { .. }).then_some(()));
}

fn registered(net: &mut Net) {
    let register = net.to_peer("REGISTER");
    let contact = header(&register.text, "Contact").unwrap().to_owned();
    net.peer_says(&response(&register, "200 OK", "r", &format!("Contact: {contact};expires=3600\r\n"), ""));
    net.wait(0, MINUTE, |e| matches!(e, Event::Registered { .. }).then_some(()));
    net.outside.clear();
}

#[test]
fn case_36_a_machine_that_moves_to_another_network_registers_anew_within_five_seconds() {
    let host = Arc::new(AtomicU8::new(1));
    let mut config = UserAgentConfig::new(address(1));
    let now_at = host.clone();
    config.local_ip = LocalIp::Route(Arc::new(move |_| IpAddr::from([10, 0, 0, now_at.load(Relaxed)])));
    config.accounts = vec![Account::new("pbx", "10.0.0.50", "alice", Password::new("x"))];
    let mut net = Net::new(vec![config], Link::GOOD, 9);
    let now = net.now;
    net.agents[0].handle_timeout(now);
    net.soon();
    registered(&mut net);
    net.run(MINUTE);
    assert!(net.take_kinds_to_peer().is_empty());
    host.store(7, Relaxed);
    net.run(Duration::from_millis(5100));
    let again = net.to_peer("REGISTER");
    assert!(again.text.contains("Contact: <sip:alice@10.0.0.7:5060>\r\n"), "{}", again.text);
    assert!(again.text.contains("Contact: <sip:alice@10.0.0.1:5060>;expires=0\r\n"), "the old one is taken back");
}

#[test]
fn case_36_a_broken_connection_to_the_registrar_is_made_again_at_once() {
    let mut account = Account::new("pbx", "10.0.0.50", "alice", Password::new("x"));
    account.transport = Some(Transport::Tcp);
    let mut config = UserAgentConfig::new(address(1));
    config.accounts = vec![account];
    let mut net = Net::new(vec![config], Link::GOOD, 9);
    let now = net.now;
    net.agents[0].handle_timeout(now);
    net.soon();
    registered(&mut net);
    let pings =
        |net: &Net| net.outside.iter().filter(|s| s.text == "\r\n\r\n" && s.transport == Transport::Tcp).count();
    net.run(MINUTE * 2);
    assert_eq!(pings(&net), 5, "a connection is kept open");
    net.outside.clear();
    let open = Peer { transport: Transport::Tcp, connection: Some(ConnectionId(1)), ..Peer::udp(peer()) };
    let now = net.now;
    net.agents[0].handle_closed(now, &open, "the connection was closed");
    net.run(Duration::from_secs(2));
    assert_eq!(net.take_kinds_to_peer(), ["REGISTER"]);
}
