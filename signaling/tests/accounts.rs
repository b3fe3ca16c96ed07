//! Registration and digest authentication against a registrar played by the test.

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net, Seen, address, dial, header,
    peer::{peer, response},
    sdp,
};
use mr_sip_signaling::{Account, EndCause, Event, Password, UserAgentConfig};

const HOUR: Duration = Duration::from_secs(3600);

fn account() -> Account {
    Account::new("pbx", "10.0.0.50", "alice", Password::new("wonderland"))
}

fn net(account: Account) -> Net {
    let mut config = UserAgentConfig::new(address(1));
    config.accounts = vec![account];
    let mut net = Net::new(vec![config], Link::GOOD, 9);
    let now = net.now;
    net.agents[0].handle_timeout(now);
    net.soon();
    net
}

fn calling_account() -> Account {
    Account { register: false, options: None, ..account() }
}

fn challenge(algorithm: &str, nonce: &str, more: &str) -> String {
    format!("WWW-Authenticate: Digest realm=\"home\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{more}\r\n")
}

/// Waits for the next REGISTER (or other request) to the registrar.
#[track_caller]
fn next(net: &mut Net, kind: &str, limit: Duration) -> Seen {
    let until = net.now + limit;
    while net.now < until {
        if let Some(i) = net.outside.iter().position(|s| s.kind() == kind) {
            return net.outside.drain(..=i).next_back().unwrap();
        }
        net.run(Duration::from_millis(100));
    }
    panic!("no {kind} within {limit:?}");
}

fn contact_of(seen: &Seen) -> String {
    format!("Contact: {};expires=1200\r\n", header(&seen.text, "Contact").unwrap())
}

#[track_caller]
fn registered(net: &mut Net) -> Duration {
    net.wait(0, MINUTE, |e| match e {
        Event::Registered { expires, .. } => Some(*expires),
        _ => None,
    })
}

#[track_caller]
fn failed(net: &mut Net) -> (Option<u16>, String, Duration) {
    net.wait(0, MINUTE, |e| match e {
        Event::RegistrationFailed { status, reason, retry_in, .. } => Some((*status, reason.clone(), *retry_in)),
        _ => None,
    })
}

#[test]
fn a_binding_is_refreshed_for_a_day_with_one_challenge() {
    let mut net = net(account());
    let first = next(&mut net, "REGISTER", MINUTE);
    assert!(first.text.starts_with("REGISTER sip:10.0.0.50 SIP/2.0\r\n"));
    assert_eq!(header(&first.text, "Contact"), Some("<sip:alice@10.0.0.1:5060>"));
    assert_eq!(header(&first.text, "Expires"), Some("3600"));
    assert_eq!(header(&first.text, "Authorization"), None);
    net.peer_says(&response(&first, "401 Unauthorized", "r", &challenge("SHA-256", "n1", ""), ""));
    let mut last = next(&mut net, "REGISTER", MINUTE);
    let begin = net.now;
    let mut refreshes = 0;
    while net.now - begin < HOUR * 24 {
        let authorization = header(&last.text, "Authorization").expect("credentials").to_owned();
        assert!(authorization.contains(&format!("nc={:08x}", refreshes + 1)), "{authorization}");
        assert_eq!(header(&last.text, "Call-ID"), header(&first.text, "Call-ID"));
        assert_eq!(header(&last.text, "CSeq"), Some(format!("{} REGISTER", refreshes + 2).as_str()));
        net.peer_says(&response(&last, "200 OK", "r", &contact_of(&last), ""));
        assert_eq!(registered(&mut net), Duration::from_secs(1200));
        let granted = net.now;
        last = next(&mut net, "REGISTER", HOUR);
        let share = (net.now - granted).as_secs_f64() / 1200.0;
        assert!((0.79..0.91).contains(&share), "refreshed at {share} of the time");
        refreshes += 1;
    }
    assert!((75..95).contains(&refreshes), "{refreshes}");
}

#[test]
fn a_stale_nonce_is_answered_once_more() {
    let mut net = net(account());
    let first = next(&mut net, "REGISTER", MINUTE);
    net.peer_says(&response(&first, "401 Unauthorized", "r", &challenge("MD5", "n1", ""), ""));
    let second = next(&mut net, "REGISTER", MINUTE);
    net.peer_says(&response(&second, "401 Unauthorized", "r", &challenge("MD5", "n2", ", stale=true"), ""));
    let third = next(&mut net, "REGISTER", MINUTE);
    assert!(header(&third.text, "Authorization").unwrap().contains("nonce=\"n2\""));
    net.peer_says(&response(&third, "200 OK", "r", &contact_of(&third), ""));
    registered(&mut net);
}

#[test]
fn case_12_challenges_without_end_are_one_error_and_a_long_pause() {
    let mut net = net(account());
    let mut tries = 0;
    let begin = net.now;
    while net.now - begin < HOUR {
        let Some(asked) = net.outside.pop() else {
            net.run(Duration::from_millis(500));
            continue;
        };
        tries += 1;
        let nonce = format!("n{tries}");
        net.peer_says(&response(&asked, "401 Unauthorized", "r", &challenge("MD5", &nonce, ""), ""));
    }
    let (status, reason, pause) = failed(&mut net);
    assert_eq!(status, Some(401));
    assert!(reason.contains("password is wrong"), "{reason}");
    assert!(pause > Duration::from_secs(200));
    assert!(tries <= 12, "{tries} REGISTERs in an hour");
    assert!(
        !format!("{:?}", net.events).contains("wonderland") && !net.seen.iter().any(|s| s.text.contains("wonderland"))
    );
}

#[test]
fn case_11_a_weaker_algorithm_is_refused_once_a_stronger_was_answered() {
    let mut net = net(account());
    let first = next(&mut net, "REGISTER", MINUTE);
    let both = format!("{}{}", challenge("MD5", "weak", ""), challenge("SHA-256", "strong", ""));
    net.peer_says(&response(&first, "401 Unauthorized", "r", &both, ""));
    let second = next(&mut net, "REGISTER", MINUTE);
    assert!(header(&second.text, "Authorization").unwrap().contains("nonce=\"strong\""));
    net.peer_says(&response(&second, "200 OK", "r", &contact_of(&second), ""));
    registered(&mut net);
    let third = next(&mut net, "REGISTER", HOUR);
    net.peer_says(&response(&third, "401 Unauthorized", "r", &challenge("MD5", "weak", ", stale=true"), ""));
    let (_, reason, _) = failed(&mut net);
    assert!(reason.contains("weaker"), "{reason}");
}

#[test]
fn case_11_a_realm_that_is_not_ours_is_refused() {
    let mut net = net(Account { realm: Some("elsewhere".into()), ..account() });
    let first = next(&mut net, "REGISTER", MINUTE);
    net.peer_says(&response(&first, "401 Unauthorized", "r", &challenge("MD5", "n", ""), ""));
    let (status, reason, _) = failed(&mut net);
    assert_eq!(status, Some(401));
    assert!(reason.contains("realm \"home\""), "{reason}");
    net.run(MINUTE);
    assert!(net.seen.iter().all(|s| header(&s.text, "Authorization").is_none()));
}

#[test]
fn case_10_only_the_accounts_own_hosts_are_given_credentials() {
    // a call to another domain, which asks for a password
    let mut net = net(calling_account());
    let mut call = dial("sip:victim@10.0.0.66");
    call.account = Some("pbx".into());
    net.agents[0].dial(net.now, call).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    let to = net.addresses[0];
    net.deliver(invite.to, to, &response(&invite, "401 Unauthorized", "x", &challenge("MD5", "n", ""), ""));
    assert_eq!(net.ended(0).1, EndCause::Auth);
    assert!(net.seen.iter().all(|s| !s.text.contains("response=")));
}

#[test]
fn case_10_a_challenge_to_the_bye_of_an_incoming_call_gets_nothing() {
    let mut net = net(calling_account());
    let stranger = "10.0.0.66:5060".parse().unwrap();
    let to = net.addresses[0];
    let offer = sdp(7000);
    let ask = common::peer::Asking { body: &offer, ..common::peer::INVITE };
    let text = String::from_utf8(ask.bytes()).unwrap().replace("10.0.0.50", "10.0.0.66");
    net.deliver(stranger, to, text.as_bytes());
    let call = net.incoming(0);
    net.agents[0].answer(net.now, call, sdp(5000)).unwrap();
    net.soon();
    let ok = net.to_peer("200 INVITE");
    let tag = header(&ok.text, "To").unwrap().rsplit_once("tag=").unwrap().1.to_owned();
    let ack = common::peer::Asking { method: "ACK", branch: "a", to_tag: &tag, ..common::peer::INVITE }.bytes();
    net.deliver(stranger, to, &ack);
    net.answered(0);
    net.agents[0].hangup(net.now, call).unwrap();
    net.soon();
    let bye = net.to_peer("BYE");
    for (status, name) in [("401 Unauthorized", "WWW"), ("407 Proxy Authentication Required", "Proxy")] {
        let challenge = challenge("MD5", "n", "").replace("WWW", name);
        net.deliver(stranger, to, &response(&bye, status, "x", &challenge, ""));
    }
    net.run(MINUTE);
    assert!(net.seen.iter().all(|s| !s.text.contains("response=")));
    assert_eq!(net.ended(0).1, EndCause::LocalHangup);
}

#[test]
fn a_call_through_the_account_is_authenticated_and_so_is_its_bye() {
    let mut net = net(calling_account());
    let mut call = dial("+49 30 123-456");
    call.account = Some("pbx".into());
    let call = net.agents[0].dial(net.now, call).unwrap();
    net.soon();
    let first = net.to_peer("INVITE");
    assert!(first.text.starts_with("INVITE sip:+4930123456@10.0.0.50 SIP/2.0\r\n"), "{}", first.text);
    assert!(header(&first.text, "From").unwrap().starts_with("<sip:alice@10.0.0.50>;tag="));
    let proxy = challenge("SHA-256", "n1", ", opaque=\"o\"").replace("WWW", "Proxy");
    net.peer_says(&response(&first, "407 Proxy Authentication Required", "x", &proxy, ""));
    net.soon();
    assert_eq!(net.kinds_to_peer(), ["INVITE", "ACK", "INVITE"]);
    let second = net.to_peer("INVITE");
    assert!(header(&second.text, "Proxy-Authorization").unwrap().contains("opaque=\"o\""));
    assert_eq!(header(&second.text, "CSeq"), Some("2 INVITE"));
    assert_ne!(header(&second.text, "Via"), header(&first.text, "Via"));
    assert_eq!(header(&second.text, "From"), header(&first.text, "From"));
    let content = "Contact: <sip:far@10.0.0.50>\r\nContent-Type: application/sdp\r\n";
    net.peer_says(&response(&second, "200 OK", "y", content, &sdp(7000)));
    net.answered(0);
    net.agents[0].hangup(net.now, call).unwrap();
    net.soon();
    let bye = net.to_peer("BYE");
    assert_eq!(header(&bye.text, "CSeq"), Some("3 BYE"));
    net.peer_says(&response(&bye, "407 Proxy Authentication Required", "", &proxy, ""));
    net.soon();
    assert!(header(&net.to_peer("BYE").text, "Proxy-Authorization").is_some());
}

#[test]
fn a_configured_proxy_is_the_first_hop_of_everything() {
    let mut config = account();
    config.registrar = "example.com:5070".into();
    config.proxies = vec!["10.0.0.50:5080".into()];
    let mut net = net(config);
    let register = next(&mut net, "REGISTER", MINUTE);
    assert_eq!(register.to, "10.0.0.50:5080".parse().unwrap());
    assert!(register.text.starts_with("REGISTER sip:example.com:5070 SIP/2.0\r\n"));
    assert_eq!(header(&register.text, "Route"), Some("<sip:10.0.0.50:5080;lr>"));
    let mut call = dial("100");
    call.account = Some("pbx".into());
    net.agents[0].dial(net.now, call).unwrap();
    net.soon();
    let invite = net.to_peer("INVITE");
    assert_eq!(invite.to, "10.0.0.50:5080".parse().unwrap());
    assert!(invite.text.starts_with("INVITE sip:100@example.com:5070 SIP/2.0\r\n"));
}

#[test]
fn a_longer_time_is_asked_for_when_the_registrar_wants_it() {
    let mut net = net(Account { expires: MINUTE, ..account() });
    let first = next(&mut net, "REGISTER", MINUTE);
    assert_eq!(header(&first.text, "Expires"), Some("60"));
    net.peer_says(&response(&first, "423 Interval Too Brief", "r", "Min-Expires: 1800\r\n", ""));
    let second = next(&mut net, "REGISTER", MINUTE);
    assert_eq!(header(&second.text, "Expires"), Some("1800"));
    net.peer_says(&response(&second, "200 OK", "r", "Expires: 1800\r\n", ""));
    assert_eq!(registered(&mut net), Duration::from_secs(1800));
}

#[test]
fn case_36_a_registrar_that_was_down_for_an_hour_is_found_again_within_seconds() {
    let mut net = net(account());
    net.run(HOUR);
    let sent = net.outside.len();
    assert!((500..1500).contains(&sent), "{sent} small datagrams in an hour of silence");
    assert_eq!(failed(&mut net).0, None);
    net.outside.clear();
    let back = net.now;
    let asked = next(&mut net, "REGISTER", MINUTE);
    net.peer_says(&response(&asked, "200 OK", "r", &contact_of(&asked), ""));
    registered(&mut net);
    assert!(net.now - back <= Duration::from_secs(5), "{:?}", net.now - back);
}

#[test]
fn case_36_whenever_the_registrar_returns_all_are_back_within_five_seconds_and_not_at_once() {
    let mut waits = Vec::new();
    for seed in 0..40 {
        let mut config = UserAgentConfig::new(address(1));
        config.accounts = vec![account()];
        let mut net = Net::new(vec![config], Link::GOOD, 3600 + seed);
        net.agents[0].handle_timeout(net.now);
        // it was there, then goes for a while, a different one each time
        let asked = next(&mut net, "REGISTER", MINUTE);
        net.peer_says(&response(&asked, "200 OK", "r", &contact_of(&asked), ""));
        registered(&mut net);
        net.run(HOUR + Duration::from_millis(777 * seed));
        net.outside.clear();
        let back = net.now;
        let asked = next(&mut net, "REGISTER", MINUTE);
        net.peer_says(&response(&asked, "200 OK", "r", &contact_of(&asked), ""));
        registered(&mut net);
        waits.push((net.now - back).as_millis());
    }
    assert!(waits.iter().all(|wait| *wait <= 5000), "{waits:?}");
    // a thousand telephones must not all knock in the same moment
    let spread = waits.iter().max().unwrap() - waits.iter().min().unwrap();
    assert!(spread > 1000, "{waits:?}");
}

#[test]
fn errors_of_the_registrar_are_met_with_growing_pauses() {
    let mut net = net(account());
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let asked = next(&mut net, "REGISTER", HOUR);
        net.peer_says(&response(&asked, "503 Service Unavailable", "r", "", ""));
        pauses.push(failed(&mut net).2.as_secs());
    }
    assert!(pauses[0] >= 22 && pauses[0] <= 38, "{pauses:?}");
    assert!(pauses[6] >= 450 && pauses[6] <= 750, "{pauses:?}");
    let asked = next(&mut net, "REGISTER", HOUR);
    net.peer_says(&response(&asked, "503 Service Unavailable", "r", "Retry-After: 3000\r\n", ""));
    assert_eq!(failed(&mut net).2.as_secs(), 3000);
}

#[test]
fn behind_a_nat_the_address_that_the_registrar_sees_is_registered() {
    let mut net = net(account());
    let first = next(&mut net, "REGISTER", MINUTE);
    let seen = |request: &Seen, contact: &str| {
        let text = response(request, "200 OK", "r", contact, "");
        let text = String::from_utf8(text).unwrap().replace(";rport;", ";rport=41000;received=198.51.100.7;");
        text.into_bytes()
    };
    net.peer_says(&seen(&first, &contact_of(&first)));
    registered(&mut net);
    let second = next(&mut net, "REGISTER", Duration::from_secs(2));
    let contacts: Vec<_> = second.text.lines().filter_map(|l| l.strip_prefix("Contact: ")).collect();
    assert_eq!(contacts, ["<sip:alice@198.51.100.7:41000>", "<sip:alice@10.0.0.1:5060>;expires=0"]);
    net.peer_says(&seen(&second, "Contact: <sip:alice@198.51.100.7:41000>;expires=600\r\n"));
    assert_eq!(registered(&mut net), Duration::from_secs(600));
    net.outside.clear();
    net.run(MINUTE);
    let pings = net.outside.iter().filter(|s| s.text == "\r\n\r\n" && s.to == peer()).count();
    assert_eq!(pings, 2, "the NAT's door is kept open");
    let mut call = dial("100");
    call.account = Some("pbx".into());
    net.agents[0].dial(net.now, call).unwrap();
    net.soon();
    assert_eq!(header(&net.to_peer("INVITE").text, "Contact"), Some("<sip:alice@198.51.100.7:41000>"));
}

#[test]
fn shutting_down_removes_the_binding() {
    let mut net = net(account());
    let first = next(&mut net, "REGISTER", MINUTE);
    net.peer_says(&response(&first, "200 OK", "r", &contact_of(&first), ""));
    registered(&mut net);
    let now = net.now;
    net.agents[0].shutdown(now);
    let last = next(&mut net, "REGISTER", MINUTE);
    assert_eq!(header(&last.text, "Expires"), Some("0"));
    assert_eq!(header(&last.text, "Contact"), Some("<sip:alice@10.0.0.1:5060>;expires=0"));
    assert!(!net.agents[0].is_idle());
    net.peer_says(&response(&last, "200 OK", "r", "", ""));
    net.wait(0, MINUTE, |e| matches!(e, Event::Unregistered { .. }).then_some(()));
    assert!(net.agents[0].is_idle());
    net.run(HOUR);
    assert!(net.agents[0].poll_timeout().is_none());
}

#[test]
fn case_45_a_configuration_that_would_break_out_of_a_header_is_refused() {
    for bad in [
        Account { user: "alice\r\nEvil: yes".into(), ..account() },
        Account { user: String::new(), ..account() },
        Account { registrar: "exa mple.com".into(), ..account() },
        Account { registrar: "example.com:port".into(), ..account() },
        Account { proxies: vec!["<proxy>".into()], ..account() },
        Account { auth_user: Some("a\nb".into()), ..account() },
    ] {
        let mut config = UserAgentConfig::new(address(1));
        config.accounts = vec![bad];
        let error = mr_sip_signaling::UserAgent::new(config, [0; 32]).unwrap_err().to_string();
        assert!(error.contains("pbx"), "{error}");
        assert!(!error.contains("wonderland"));
    }
}
