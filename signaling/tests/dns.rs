//! Calls to names: from the name server to the far end's bell.

mod net;
#[path = "net/zone.rs"]
mod zone;

use std::net::TcpListener;

use mr_sip_signaling::{
    EndCause,
    net::{Command, DnsConfig, Endpoint, EndpointConfig},
};
use net::{call_up, config, dial, ended, incoming, offer, start, start_with, until};
use zone::{Server, Zone};

fn caller(server: &Server) -> Endpoint {
    start_with(EndpointConfig { dns: DnsConfig { servers: vec![server.address] }, ..config() })
}

#[test]
fn a_domain_with_a_service_record_is_called_by_its_transport() {
    let b = start();
    let server = Zone::default()
        .srv("_sip._tcp.example.test", 300, (1, 1, b.tcp_addr().unwrap().port()), "pbx.example.test")
        .a("pbx.example.test", 300, "127.0.0.1")
        .serve();
    let a = caller(&server);
    let (call, _) = call_up(&a, &b, "sip:b@example.test".into());
    a.command(Command::Hangup(call)).unwrap();
    assert_eq!(ended(&b).0, EndCause::RemoteHangup);
    assert_eq!(a.stats().streams.made, 1);
}

#[test]
fn case_37_the_next_server_of_a_name_is_tried_when_the_first_cannot_be_reached() {
    let b = start();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Zone::default()
        .srv("_sip._tcp.example.test", 300, (1, 1, dead.port()), "pbx.example.test")
        .srv("_sip._tcp.example.test", 300, (2, 1, b.tcp_addr().unwrap().port()), "pbx.example.test")
        .a("pbx.example.test", 300, "127.0.0.1")
        .serve();
    let a = caller(&server);
    dial(&a, "sip:b@example.test;transport=tcp".into(), offer());
    incoming(&b);
    until("counted", || (a.stats().streams.not_made, a.stats().streams.made) == (1, 1));
}

#[test]
fn a_name_that_nobody_answers_for_does_not_hold_up_other_calls() {
    let b = start();
    let server = Zone::default().silent("dead.example.test", None).a("pbx.example.test", 300, "127.0.0.1").serve();
    let a = caller(&server);
    for _ in 0..10 {
        dial(&a, "sip:x@dead.example.test".into(), offer());
    }
    dial(&a, format!("sip:b@pbx.example.test:{}", b.local_addr().port()), offer());
    incoming(&b);
}

#[test]
fn a_name_that_does_not_exist_ends_the_call_with_its_name() {
    let server = Zone::default().serve();
    let a = caller(&server);
    dial(&a, "sip:b@nowhere.example.test".into(), offer());
    let (cause, reason) = ended(&a);
    assert_eq!(cause, EndCause::Network);
    assert!(reason.contains("nowhere.example.test"), "{reason}");
}
