//! RFC 3263 against a name server in the test.

use std::collections::HashMap;

use super::*;
use crate::agent::ResolveId;

#[path = "../../tests/net/zone.rs"]
mod zone;

use zone::{Server, Zone};

fn question(host: &str) -> Resolve {
    Resolve { id: ResolveId(1), host: host.into(), port: None, transport: None, secure: false }
}

fn dns(server: &Server) -> Dns {
    Dns::new(DnsConfig { servers: vec![server.address] })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn ask(dns: &Dns, question: &Resolve) -> Answer {
    run(dns.look_up(question))
}

/// `UDP 192.0.2.1:5060` and so on.
fn targets(answer: &Answer) -> Vec<String> {
    answer.targets.iter().map(|t| format!("{} {}", t.transport, t.address)).collect()
}

#[test]
fn naptr_names_the_services_in_its_order() {
    let server = Zone::default()
        .naptr("example.test", 300, (20, 10), "SIP+D2U", "_sip._udp.elsewhere.test")
        .naptr("example.test", 300, (10, 20), "sip+d2t", "_sip._tcp.elsewhere.test")
        .naptr("example.test", 300, (10, 10), "SIPS+D2T", "_sips._tcp.elsewhere.test")
        .naptr("example.test", 300, (1, 1), "SIP+D2S", "_sip._sctp.elsewhere.test")
        .naptr("example.test", 300, (1, 1), "E2U+sip", "_sip._udp.elsewhere.test")
        .srv("_sip._udp.elsewhere.test", 200, (1, 1, 5062), "one.elsewhere.test")
        .srv("_sip._tcp.elsewhere.test", 200, (1, 1, 5063), "one.elsewhere.test")
        .srv("_sips._tcp.elsewhere.test", 100, (1, 1, 5064), "one.elsewhere.test")
        // what NAPTR does not name is not asked of
        .srv("_sip._udp.example.test", 200, (1, 1, 9), "one.elsewhere.test")
        .a("one.elsewhere.test", 120, "192.0.2.1")
        .serve();
    let answer = ask(&dns(&server), &question("example.test"));
    assert_eq!(targets(&answer), ["TLS 192.0.2.1:5064", "TCP 192.0.2.1:5063", "UDP 192.0.2.1:5062"]);
    assert_eq!(answer.life, Duration::from_secs(100), "the least on the way");
}

#[test]
fn without_naptr_the_transports_services_follow_one_another() {
    let server = Zone::default()
        .srv("_sips._tcp.example.test", 300, (1, 1, 5061), "a.example.test")
        .srv("_sip._tcp.example.test", 300, (1, 1, 5060), "a.example.test")
        .srv("_sip._udp.example.test", 300, (2, 1, 5060), "b.example.test")
        .srv("_sip._udp.example.test", 300, (1, 1, 5070), "a.example.test")
        .a("a.example.test", 300, "192.0.2.1")
        .a("b.example.test", 300, "192.0.2.2")
        .a("b.example.test", 300, "192.0.2.3")
        .serve();
    let dns = dns(&server);
    let udp = ["UDP 192.0.2.1:5070", "UDP 192.0.2.2:5060", "UDP 192.0.2.3:5060"];
    let all: Vec<_> = udp.into_iter().chain(["TCP 192.0.2.1:5060", "TLS 192.0.2.1:5061"]).collect();
    assert_eq!(targets(&ask(&dns, &question("example.test"))), all);
    let of = |transport| Resolve { transport: Some(transport), ..question("example.test") };
    assert_eq!(targets(&ask(&dns, &of(Transport::Tcp))), ["TCP 192.0.2.1:5060"]);
    assert_eq!(targets(&ask(&dns, &of(Transport::Tls))), ["TLS 192.0.2.1:5061"]);
    let secure = Resolve { secure: true, ..question("example.test") };
    assert_eq!(targets(&ask(&dns, &secure)), ["TLS 192.0.2.1:5061"], "sips goes by nothing else");
    let with_port = Resolve { port: Some(5099), ..question("a.example.test") };
    server.asked.lock().unwrap().clear();
    assert_eq!(targets(&ask(&dns, &with_port)), ["UDP 192.0.2.1:5099"]);
    let kinds: Vec<_> = server.asked.lock().unwrap().iter().map(|(_, kind)| *kind).collect();
    assert!(kinds.iter().all(|k| matches!(k, RecordType::A | RecordType::AAAA)), "{kinds:?}");
}

#[test]
fn without_services_the_hosts_addresses_count_by_cnames_too() {
    let server = Zone::default()
        .cname("pbx.example.test", 60, "real.example.test")
        .a("real.example.test", 3600, "192.0.2.5")
        .aaaa("real.example.test", 3600, "2001:db8::5")
        .serve();
    let dns = dns(&server);
    let mut found = targets(&ask(&dns, &question("pbx.example.test")));
    found.sort();
    assert_eq!(found, ["UDP 192.0.2.5:5060", "UDP [2001:db8::5]:5060"]);
    let secure = Resolve { secure: true, ..question("pbx.example.test") };
    let answer = ask(&dns, &secure);
    assert!(targets(&answer).contains(&"TLS 192.0.2.5:5061".to_owned()), "{answer:?}");
    assert_eq!(answer.life, Duration::from_secs(60));
}

#[test]
fn case_36_lives_have_bounds() {
    let server =
        Zone::default().a("brief.example.test", 0, "192.0.2.1").a("long.example.test", 9_999_999, "192.0.2.2").serve();
    let dns = dns(&server);
    assert_eq!(ask(&dns, &question("brief.example.test")).life, Duration::from_secs(5));
    assert_eq!(ask(&dns, &question("long.example.test")).life, Duration::from_secs(24 * 3600));
    let none = ask(&dns, &question("none.example.test"));
    assert_eq!((none.targets.len(), none.life), (0, Duration::from_secs(30)));
}

#[test]
fn a_service_that_is_said_not_to_be_there_is_not_looked_for_elsewhere() {
    let server = Zone::default()
        .srv("_sip._udp.example.test", 300, (0, 0, 0), ".")
        .a("example.test", 300, "192.0.2.1")
        .srv("_sip._udp.half.test", 300, (0, 0, 0), ".")
        .srv("_sip._tcp.half.test", 300, (0, 0, 5060), "example.test")
        .serve();
    let dns = dns(&server);
    assert!(ask(&dns, &question("example.test")).targets.is_empty());
    assert_eq!(targets(&ask(&dns, &question("half.test"))), ["TCP 192.0.2.1:5060"]);
}

#[test]
fn a_name_server_that_swallows_naptr_questions_costs_no_call() {
    let server = Zone::default()
        .silent("example.test", Some(RecordType::NAPTR))
        .srv("_sip._udp.example.test", 300, (1, 1, 5062), "a.example.test")
        .a("a.example.test", 300, "192.0.2.1")
        .serve();
    let mut dns = dns(&server);
    dns.limits.naptr = Duration::from_millis(30);
    assert_eq!(targets(&ask(&dns, &question("example.test"))), ["UDP 192.0.2.1:5062"]);
}

#[test]
fn one_family_that_is_not_answered_for_does_not_hold_up_the_other() {
    let server =
        Zone::default().silent("pbx.test.test", Some(RecordType::AAAA)).a("pbx.test.test", 9, "192.0.2.1").serve();
    let asked = Resolve { port: Some(5060), ..question("pbx.test.test") };
    assert_eq!(targets(&ask(&dns(&server), &asked)), ["UDP 192.0.2.1:5060"]);
}

#[test]
fn a_dead_name_is_given_up_in_time_and_others_do_not_wait_for_it() {
    let server = Zone::default().silent("dead.test.test", None).a("good.test.test", 300, "192.0.2.1").serve();
    let mut dns = dns(&server);
    let of = |host| Resolve { port: Some(5060), ..question(host) };
    let (dead, good) = (of("dead.test.test"), of("good.test.test"));
    run(async {
        tokio::select! {
            biased;
            answer = dns.look_up(&dead) => panic!("{answer:?}"),
            answer = dns.look_up(&good) => assert_eq!(targets(&answer), ["UDP 192.0.2.1:5060"]),
        }
    });
    dns.limits.whole = Duration::from_millis(50);
    assert_eq!(ask(&dns, &dead), Answer::nothing());
}

#[test]
fn the_machines_own_name_is_never_asked_for() {
    let server = Zone::default().a("localhost", 300, "192.0.2.66").serve();
    let answer = ask(&dns(&server), &question("localhost"));
    assert!(answer.targets.iter().all(|t| t.address.ip().is_loopback()) && !answer.targets.is_empty(), "{answer:?}");
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn names_that_are_none_are_not_found() {
    let server = Zone::default().serve();
    let dns = dns(&server);
    for host in ["", ".", "..", "a..b.test", &"x".repeat(70), &"long.".repeat(60), "\u{0}.test", "bü.test"] {
        assert_eq!(ask(&dns, &question(host)), Answer::nothing(), "{host:?}");
    }
}

#[test]
fn records_of_one_priority_come_by_their_weight() {
    let record = |priority, weight, port| SRV::new(priority, weight, port, Name::root());
    let records = vec![record(2, 0, 9), record(1, 0, 1), record(1, 10, 2), record(1, 90, 3)];
    let mut generator = fastrand::Rng::with_seed(7);
    let mut first = HashMap::new();
    for _ in 0..10_000 {
        let ordered = in_order(records.clone(), &mut || generator.u32(..));
        assert_eq!((ordered.len(), ordered[3].port), (4, 9), "a higher priority number comes last");
        *first.entry(ordered[0].port).or_insert(0) += 1;
    }
    let share = |port: u16| f64::from(first.get(&port).copied().unwrap_or(0)) / 10_000.0;
    assert!((0.87..0.92).contains(&share(3)), "{first:?}");
    assert!((0.08..0.12).contains(&share(2)), "{first:?}");
    assert!((0.001..0.03).contains(&share(1)), "{first:?}");
}
