//! Everything once more over IPv6: brackets where addresses stand in URIs and Via, none in `received`, `IN IP6` in descriptions.

mod common;
mod net;
#[path = "net/zone.rs"]
mod zone;

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use common::{Link, MINUTE, Net, Seen, dial, header};
use mr_sip_signaling::{
    Account, CallId, EndCause, Event, Password, ReferPolicy, Target, Transport, UserAgentConfig,
    guard::Strangers,
    net::{Command, DnsConfig, EndpointConfig},
    sdp::{self, LocalMedia},
};
use zone::Zone;

fn at(n: u8) -> SocketAddr {
    format!("[2001:db8::{n}]:5060").parse().unwrap()
}

fn config(n: u8) -> UserAgentConfig {
    let mut config = UserAgentConfig::new(at(n));
    config.refer = ReferPolicy::Ask;
    config.guard.strangers = Strangers::Answer;
    config.guard.trusted = vec!["::/0".parse().unwrap()];
    config
}

fn agents(count: u8) -> Net {
    Net::new((1..=count).map(config).collect(), Link::GOOD, 6)
}

fn sdp_at(n: u8, port: u16) -> String {
    sdp::offer(&LocalMedia::new(SocketAddr::new(at(n).ip(), port)))
}

/// Agent 0 calls agent 1.
fn call_up(net: &mut Net, to: &str) -> (CallId, CallId) {
    let call = mr_sip_signaling::Dial { sdp: sdp_at(1, 4000), ..dial(to) };
    let ours = net.agents[0].dial(net.now, call).unwrap();
    let (theirs, offer) = net.wait(1, MINUTE, |e| match e {
        Event::Incoming { call, offer, .. } => Some((*call, offer.clone())),
        _ => None,
    });
    let (answer, plan) = sdp::answer(&offer.unwrap(), &LocalMedia::new(SocketAddr::new(at(2).ip(), 5000))).unwrap();
    assert_eq!(plan.remote, "[2001:db8::1]:4000".parse().unwrap());
    net.agents[1].answer(net.now, theirs, answer).unwrap();
    let (_, answer) = net.answered(0);
    let answer = answer.unwrap();
    assert!(answer.contains("c=IN IP6 2001:db8::2\r\n"), "{answer}");
    assert!(answer.lines().any(|line| line.starts_with("o=") && line.ends_with(" IN IP6 2001:db8::2")), "{answer}");
    net.answered(1);
    (ours, theirs)
}

fn sent<'a>(net: &'a Net, kind: &str) -> &'a Seen {
    net.seen.iter().rev().find(|s| s.kind() == kind).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn a_call_has_brackets_where_they_belong_and_both_ends_may_hang_up() {
    for (parameter, transport, contact) in [("", "UDP", ""), (";transport=tcp", "TCP", ";transport=tcp")] {
        let mut net = agents(2);
        let (ours, _) = call_up(&mut net, &format!("sip:bob@[2001:db8::2]{parameter}"));
        let invite = &sent(&net, "INVITE").text;
        assert!(invite.starts_with(&format!("INVITE sip:bob@[2001:db8::2]{parameter} SIP/2.0\r\n")), "{invite}");
        let via = header(invite, "Via").unwrap();
        assert!(via.starts_with(&format!("SIP/2.0/{transport} [2001:db8::1]:5060;")), "{via}");
        let expected = format!("<sip:mr-sip@[2001:db8::1]:5060{contact}>");
        assert_eq!(header(invite, "Contact"), Some(expected.as_str()));
        let via = header(&sent(&net, "200 INVITE").text, "Via").unwrap().to_owned();
        let received = via.split(';').find_map(|p| p.strip_prefix("received="));
        assert_eq!(received, Some("2001:db8::1"), "{via}");
        assert!(via.contains("rport=5060"), "{via}");
        net.agents[0].hangup(net.now, ours).unwrap();
        assert_eq!((net.ended(0).1, net.ended(1).1), (EndCause::LocalHangup, EndCause::RemoteHangup));

        let (_, theirs) = call_up(&mut net, &format!("sip:bob@[2001:db8::2]:5060{parameter}"));
        net.agents[1].hangup(net.now, theirs).unwrap();
        assert_eq!((net.ended(0).1, net.ended(1).1), (EndCause::RemoteHangup, EndCause::LocalHangup));
    }
}

#[test]
fn a_transfer_leads_to_an_address() {
    let mut net = agents(3);
    let (ours, theirs) = call_up(&mut net, "sip:bob@[2001:db8::2]");
    net.agents[0].transfer(net.now, ours, "sip:carol@[2001:db8::3]").unwrap();
    let to = net.wait(1, MINUTE, |e| match e {
        Event::TransferRequested { to, .. } => Some(to.clone()),
        _ => None,
    });
    assert_eq!(to, "sip:carol@[2001:db8::3]");
    net.agents[1].accept_transfer(net.now, theirs, sdp_at(2, 5002)).unwrap();
    let incoming = net.incoming(2);
    net.agents[2].answer(net.now, incoming, sdp_at(3, 6000)).unwrap();
    net.answered(1);
    assert_eq!(net.ended(0).1, EndCause::Transferred);
}

/// The registrar, played at an address that is no agent's.
const REGISTRAR: &str = "[2001:db8::50]:5060";

fn answer(net: &mut Net, kind: &str, status: &str, headers: &str) {
    let request = net.outside.iter().rev().find(|s| s.kind() == kind).unwrap_or_else(|| panic!("no {kind}")).clone();
    let (from, to) = (REGISTRAR.parse().unwrap(), net.addresses[0]);
    net.deliver(from, to, &common::peer::response(&request, status, "registrar", headers, ""));
    net.run(Duration::from_millis(1));
}

#[test]
fn an_account_registers_behind_a_nat_of_ipv6_and_is_called() {
    let mut config = config(1);
    let account = Account::new("pbx", "[2001:db8::50]", "alice", Password::new("wonderland"));
    config.accounts = vec![Account { realm: Some("home".into()), ..account }];
    let mut net = Net::new(vec![config], Link::GOOD, 7);
    net.agents[0].handle_timeout(net.now);
    net.run(Duration::from_millis(1));
    let register = sent(&net, "REGISTER").clone();
    assert!(register.text.starts_with("REGISTER sip:[2001:db8::50] SIP/2.0\r\n"), "{}", register.text);
    assert_eq!(header(&register.text, "To"), Some("<sip:alice@[2001:db8::50]>"));
    answer(&mut net, "REGISTER", "401 Unauthorized", "WWW-Authenticate: Digest realm=\"home\", nonce=\"n\"\r\n");
    let again = sent(&net, "REGISTER").clone();
    let credentials = header(&again.text, "Authorization").unwrap();
    assert!(credentials.contains("uri=\"sip:[2001:db8::50]\""), "{credentials}");
    // the registrar sees another address, with and without brackets (RFC 5118 section 4.5)
    for seen in ["2001:db8::99", "[2001:db8::99]"] {
        let contact = format!("Contact: {};expires=600\r\n", header(&again.text, "Contact").unwrap());
        let mut request = net.outside.last().unwrap().clone();
        request.text = request.text.replacen(";rport;", &format!(";rport=61000;received={seen};"), 1);
        assert!(request.text.contains("received=") || request.text.contains("rport"), "{}", request.text);
        let response = common::peer::response(&request, "200 OK", "registrar", &contact, "");
        let (from, to) = (REGISTRAR.parse().unwrap(), net.addresses[0]);
        net.deliver(from, to, &response);
        net.run(Duration::from_millis(1));
    }
    net.wait(0, MINUTE, |e| matches!(e, Event::Registered { .. }).then_some(()));

    let invite = "INVITE sip:alice@[2001:db8::1]:5060 SIP/2.0\r\nVia: SIP/2.0/UDP [2001:db8::50];branch=z9hG4bKi\r\n\
                  Max-Forwards: 70\r\nFrom: <sip:bob@[2001:db8::50]>;tag=b\r\nTo: <sip:alice@[2001:db8::50]>\r\n\
                  Call-ID: v6\r\nCSeq: 1 INVITE\r\nContact: <sip:bob@[2001:db8::50]>\r\nContent-Length: 0\r\n\r\n";
    let (from, to) = (REGISTRAR.parse().unwrap(), net.addresses[0]);
    net.deliver(from, to, invite.as_bytes());
    let account = net.wait(0, MINUTE, |e| match e {
        Event::Incoming { account, .. } => Some(account.clone()),
        _ => None,
    });
    assert_eq!(account.as_deref(), Some("pbx"));
    assert_eq!(net.outside.last().unwrap().to, from, "the answer goes to Via's address in brackets");
}

#[test]
fn of_a_names_addresses_the_one_of_our_family_is_called() {
    let mut net = agents(1);
    net.agents[0].dial(net.now, dial("sip:bob@example.com")).unwrap();
    let question = net.agents[0].poll_resolve().unwrap();
    let target = |address: &str| Target { transport: Transport::Udp, address: address.parse().unwrap() };
    let targets = [target("192.0.2.1:5060"), target("[2001:db8::77]:5070")];
    net.agents[0].handle_resolved(net.now, question.id, &targets, MINUTE);
    net.run(Duration::from_millis(1));
    assert_eq!(sent(&net, "INVITE").to, "[2001:db8::77]:5070".parse().unwrap());
}

/// False on a machine without IPv6, where there is nothing to be tested.
fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

fn endpoint(dns: DnsConfig) -> mr_sip_signaling::net::Endpoint {
    let bind = "[::1]:0".parse().unwrap();
    net::start_with(EndpointConfig { dns, ..EndpointConfig::new(bind, UserAgentConfig::new(bind)) })
}

#[test]
fn names_lead_to_real_sockets_of_ipv6_by_udp_and_tcp() {
    if !has_ipv6() {
        return;
    }
    let b = endpoint(DnsConfig::default());
    let server = Zone::default()
        .srv("_sip._tcp.example.test", 300, (1, 1, b.tcp_addr().unwrap().port()), "pbx.example.test")
        .aaaa("pbx.example.test", 300, "::1")
        .serve_at("[::1]:0");
    let a = endpoint(DnsConfig { servers: vec![server.address] });
    let by_udp = format!("sip:b@pbx.example.test:{};transport=udp", b.local_addr().port());
    for to in ["sip:b@example.test", by_udp.as_str()] {
        let (ours, _) = net::call_up(&a, &b, to.to_owned());
        a.command(Command::Hangup(ours)).unwrap();
        assert_eq!(net::ended(&a).0, EndCause::LocalHangup);
        assert_eq!(net::ended(&b).0, EndCause::RemoteHangup);
    }
    assert_eq!((a.stats().streams.made, a.stats().send_errors), (1, 0));
}
