//! What an INVITE of ours says beside whom it calls: a name, headers of the application's, nothing about who calls.

mod common;

use common::{Link, Net, dial, header};
use mr_sip_signaling::{Dial, SignalingError};

fn one() -> Net {
    Net::of(1, Link::GOOD, 5)
}

fn invite(net: &mut Net, dial: Dial) -> String {
    net.agents[0].dial(net.now, dial).unwrap();
    net.soon();
    net.to_peer("INVITE").text
}

fn to_peer() -> Dial {
    dial("sip:peer@10.0.0.50")
}

#[test]
fn the_called_see_the_name_and_the_headers() {
    let headers = vec![("X-Ticket".into(), "42; a=b".into()), ("P-Asserted-Identity".into(), "<tel:+4930>".into())];
    let name = Some("Ann \"the\" \\ <agent>".into());
    let text = invite(&mut one(), Dial { display_name: name, headers, ..to_peer() });
    assert!(header(&text, "From").unwrap().starts_with(r#""Ann \"the\" \\ <agent>" <sip:mr-sip@10.0.0.1:5060>;tag="#));
    assert_eq!(header(&text, "X-Ticket"), Some("42; a=b"));
    assert_eq!(header(&text, "P-Asserted-Identity"), Some("<tel:+4930>"));
}

#[test]
fn whoever_wants_privacy_has_it() {
    let text = invite(&mut one(), Dial { privacy: true, display_name: Some("Ann".into()), ..to_peer() });
    assert!(header(&text, "From").unwrap().starts_with("\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag="));
    assert_eq!(header(&text, "Privacy"), Some("id"));
    assert_eq!(header(&text, "P-Preferred-Identity"), Some("<sip:mr-sip@10.0.0.1:5060>"));
    assert!(!text.contains("Ann "));
}

#[test]
fn case_45_headers_that_would_break_out_or_overwrite_are_refused() {
    let long = "x".repeat(2000);
    for (name, value) in [
        ("X-Evil", "a\r\nVia: SIP/2.0/UDP evil"),
        ("X-Evil", "a\0b"),
        ("X Evil", "a"),
        ("X-Evil:", "a"),
        ("", "a"),
        ("Via", "a"),
        ("v", "a"),
        ("from", "<sip:boss@example.com>"),
        ("Content-Length", "7"),
        ("l", "7"),
        ("Replaces", "a;to-tag=b;from-tag=c"),
        ("X-Long", long.as_str()),
    ] {
        let mut net = one();
        let bad = Dial { headers: vec![(name.into(), value.into())], ..to_peer() };
        let error = net.agents[0].dial(net.now, bad).unwrap_err();
        assert!(matches!(error, SignalingError::BadConfig { .. }), "{name}: {error}");
        assert!(net.agents[0].is_idle());
    }
    let many = vec![("X-A".to_owned(), "1".to_owned()); 17];
    assert!(one().agents[0].dial(std::time::Instant::now(), Dial { headers: many, ..to_peer() }).is_err());
    let text = invite(&mut one(), Dial { display_name: Some("a\r\nEvil: yes".into()), ..to_peer() });
    assert_eq!(header(&text, "Evil"), None);
}

#[test]
fn what_we_can_do_is_said_truly() {
    let text = invite(&mut one(), to_peer());
    assert_eq!(header(&text, "Supported"), Some("100rel, timer, replaces, norefersub"));
    assert_eq!(header(&text, "Allow"), Some("INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY"));
}
