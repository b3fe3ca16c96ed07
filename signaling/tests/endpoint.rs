//! The endpoint on real sockets: its errors, its addresses, its end.

mod processes;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use mr_sip_signaling::{
    Dial, EndCause, Event, SignalingError, UserAgentConfig,
    net::{Command, Endpoint, EndpointConfig, local_ip_towards},
    sdp::{self, LocalMedia},
};

const LIMIT: Duration = Duration::from_secs(20);

fn start(bind: &str) -> Endpoint {
    let bind: SocketAddr = bind.parse().unwrap();
    Endpoint::start(EndpointConfig::new(bind, UserAgentConfig::new(bind)), || {}).expect("the endpoint starts")
}

fn offer() -> String {
    sdp::offer(&LocalMedia::new("127.0.0.1:4000".parse().unwrap()))
}

#[track_caller]
fn wait<T>(endpoint: &Endpoint, fits: impl Fn(&Event) -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    let mut passed = Vec::new();
    while Instant::now() < until {
        let Some(event) = endpoint.recv_timeout(Duration::from_millis(100)) else { continue };
        if let Some(found) = fits(&event) {
            return found;
        }
        passed.push(event);
    }
    panic!("nothing that fits within {LIMIT:?}, only {passed:#?}");
}

#[test]
fn two_endpoints_call_each_other_by_name() {
    let (a, b) = (start("127.0.0.1:0"), start("127.0.0.1:0"));
    let to = format!("sip:b@localhost:{}", b.local_addr().port());
    a.command(Command::Dial { tag: 42, dial: Dial { account: None, to, sdp: offer(), ..Dial::default() } }).unwrap();
    let call = wait(&a, |e| match e {
        Event::Dialing { tag: 42, call } => Some(*call),
        _ => None,
    });
    let theirs = wait(&b, |e| match e {
        Event::Incoming { call, .. } => Some(*call),
        _ => None,
    });
    b.command(Command::Answer { call: theirs, sdp: offer() }).unwrap();
    wait(&a, |e| matches!(e, Event::Answered { .. }).then_some(()));
    wait(&b, |e| matches!(e, Event::Answered { .. }).then_some(()));
    a.command(Command::Hangup(call)).unwrap();
    wait(&b, |e| matches!(e, Event::Ended { cause: EndCause::RemoteHangup, .. }).then_some(()));
}

#[test]
fn an_endpoint_on_every_address_of_both_families_calls_one_on_ipv4() {
    if UdpSocket::bind("[::1]:0").is_err() {
        // a machine without IPv6 has no such endpoint
        return;
    }
    let (a, b) = (start("[::]:0"), start("127.0.0.1:0"));
    let to = format!("sip:b@{}", b.local_addr());
    a.command(Command::Dial { tag: 1, dial: Dial { account: None, to, sdp: offer(), ..Dial::default() } }).unwrap();
    let (call, source) = wait(&b, |e| match e {
        Event::Incoming { call, source, .. } => Some((*call, *source)),
        _ => None,
    });
    assert_eq!(source, SocketAddr::new("127.0.0.1".parse().unwrap(), a.local_addr().port()));
    b.command(Command::Answer { call, sdp: offer() }).unwrap();
    wait(&a, |e| matches!(e, Event::Answered { .. }).then_some(()));
    b.command(Command::Hangup(call)).unwrap();
    wait(&a, |e| matches!(e, Event::Ended { cause: EndCause::RemoteHangup, .. }).then_some(()));
}

#[test]
fn closing_ends_calls_and_keeps_their_events() {
    let (mut a, b) = (start("127.0.0.1:0"), start("127.0.0.1:0"));
    let to = format!("sip:b@{}", b.local_addr());
    a.command(Command::Dial { tag: 1, dial: Dial { account: None, to, sdp: offer(), ..Dial::default() } }).unwrap();
    let theirs = wait(&b, |e| match e {
        Event::Incoming { call, .. } => Some(*call),
        _ => None,
    });
    b.command(Command::Answer { call: theirs, sdp: offer() }).unwrap();
    wait(&a, |e| matches!(e, Event::Answered { .. }).then_some(()));
    a.close();
    wait(&a, |e| matches!(e, Event::Ended { cause: EndCause::LocalHangup, .. }).then_some(()));
    wait(&b, |e| matches!(e, Event::Ended { cause: EndCause::RemoteHangup, .. }).then_some(()));
    let again = a.command(Command::Hangup(theirs));
    assert!(matches!(again, Err(SignalingError::Queue(_))), "{again:?}");
}

#[test]
fn a_port_in_use_is_one_sentence_with_the_address() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap();
    let config = EndpointConfig::new(bind, UserAgentConfig::new(bind));
    let error = Endpoint::start(config, || {}).unwrap_err().to_string();
    assert!(error.contains(&bind.to_string()), "{error}");
}

#[test]
fn what_cannot_be_dialled_is_told_with_its_tag() {
    let endpoint = start("127.0.0.1:0");
    let dial = Dial { account: None, to: "nonsense".into(), sdp: offer(), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 9, dial }).unwrap();
    wait(&endpoint, |e| matches!(e, Event::DialFailed { tag: 9, .. }).then_some(()));
    let dial = Dial { account: None, to: "sip:x@name.invalid".into(), sdp: offer(), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 10, dial }).unwrap();
    wait(&endpoint, |e| matches!(e, Event::Ended { cause: EndCause::Network, .. }).then_some(()));
}

#[test]
fn a_dead_port_is_noticed_long_before_timer_b() {
    let endpoint = start("127.0.0.1:0");
    let dead = processes::free_port();
    let begin = Instant::now();
    let dial = Dial { account: None, to: format!("sip:x@127.0.0.1:{dead}"), sdp: offer(), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 1, dial }).unwrap();
    wait(&endpoint, |e| matches!(e, Event::Ended { cause: EndCause::Network, .. }).then_some(()));
    assert!(begin.elapsed() < Duration::from_secs(10), "timer B is 32 s, this took {:?}", begin.elapsed());
}

#[test]
fn bound_to_every_address_it_names_the_one_on_the_way() {
    assert_eq!(local_ip_towards("127.0.0.1:5060".parse().unwrap()), "127.0.0.1".parse::<std::net::IpAddr>().unwrap());
    let endpoint = start("0.0.0.0:0");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    let dial =
        Dial { account: None, to: format!("sip:x@{}", peer.local_addr().unwrap()), sdp: offer(), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 1, dial }).unwrap();
    let mut buffer = [0; 4096];
    let (length, from) = peer.recv_from(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let port = endpoint.local_addr().port();
    assert_eq!(from.port(), port);
    assert!(text.contains(&format!("Via: SIP/2.0/UDP 127.0.0.1:{port};rport;")), "{text}");
    assert!(text.contains(&format!("Contact: <sip:mr-sip@127.0.0.1:{port}>")), "{text}");
    assert!(!text.contains("0.0.0.0"), "{text}");
}

#[test]
fn the_callback_comes_with_every_event_and_noise_does_not_stop_the_loop() {
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = EndpointConfig::new(bind, UserAgentConfig::new(bind));
    let endpoint = Endpoint::start(config, move || {
        counted.fetch_add(1, Relaxed);
    })
    .unwrap();
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    for i in 0..500_usize {
        noise.send_to(&vec![i as u8; i * 7 % 1400], endpoint.local_addr()).unwrap();
    }
    let dial = Dial { account: None, to: "nonsense".into(), sdp: offer(), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 1, dial }).unwrap();
    wait(&endpoint, |e| matches!(e, Event::DialFailed { .. }).then_some(()));
    let until = Instant::now() + LIMIT;
    // the callback comes after the event was queued, so the event may be seen first
    while (endpoint.stats().malformed < 100 || told.load(Relaxed) == 0) && Instant::now() < until {
        std::thread::yield_now();
    }
    assert!(told.load(Relaxed) >= 1);
    assert!(endpoint.stats().malformed >= 100, "{:?}", endpoint.stats());
}
