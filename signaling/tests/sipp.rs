//! The endpoint against SIPp (Debian's `sip-tester`), both ways, on real sockets.
//!
//! The scenarios are in `tests/sipp/`; SIPp's exit status says whether every call went as its scenario wants.

mod processes;

use std::{
    net::SocketAddr,
    path::Path,
    process::Command as Process,
    time::{Duration, Instant},
};

use mr_sip_signaling::{
    Account, Dial, EndCause, Event, Password, UserAgentConfig,
    net::{Command, Endpoint, EndpointConfig},
    sdp::{self, LocalMedia},
};
use processes::{Running, free_port};

const LIMIT: Duration = Duration::from_secs(30);

fn media() -> LocalMedia {
    LocalMedia::new("127.0.0.1:4000".parse().unwrap())
}

fn endpoint(accounts: Vec<Account>) -> Endpoint {
    let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut agent = UserAgentConfig::new(bind);
    agent.accounts = accounts;
    Endpoint::start(EndpointConfig::new(bind, agent), || {}).expect("the endpoint starts")
}

fn sipp(scenario: &str, args: &[&str]) -> Running {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sipp").join(scenario);
    let mut command = Process::new("sipp");
    command
        .arg("-sf")
        .arg(file)
        .args(["-i", "127.0.0.1", "-nostdin", "-timeout", "25s", "-timeout_error", "-recv_timeout", "20000"])
        .args(args);
    Running::start(command, "sipp", "sip-tester")
}

fn account(port: u16, password: &str, register: bool) -> Account {
    let mut account = Account::new("pbx", format!("127.0.0.1:{port}"), "alice", Password::new(password));
    account.register = register;
    account.options = None;
    account.realm = Some("pbx.test".into());
    account
}

/// Takes events until one is what is wanted; what comes before goes to `on_other`.
fn wait<T>(endpoint: &Endpoint, mut take: impl FnMut(&Event) -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    let mut passed = Vec::new();
    while Instant::now() < until {
        let Some(event) = endpoint.recv_timeout(Duration::from_millis(100)) else { continue };
        if let Some(found) = take(&event) {
            return found;
        }
        passed.push(event);
    }
    panic!("nothing that fits within {LIMIT:?}, only {passed:#?}");
}

#[test]
fn sipp_calls_a_hundred_times_with_a_digit_and_a_hold_each() {
    let endpoint = endpoint(Vec::new());
    let target = endpoint.local_addr().to_string();
    let mut sipp = sipp("uac.xml", &[&target, "-s", "agent", "-m", "100", "-r", "100"]);
    let (mut digits, mut holds, mut ended) = (0, 0, 0);
    wait(&endpoint, |event| {
        match event {
            Event::Incoming { call, offer, display_name, .. } => {
                assert!(display_name.as_deref().unwrap_or("").starts_with("Caller "));
                endpoint.command(Command::Ring(*call)).unwrap();
                let (sdp, plan) = sdp::answer(offer.as_deref().expect("an offer"), &media()).expect("PCMA");
                assert_eq!((plan.payload_type, plan.telephone_event), (8, Some(97)));
                endpoint.command(Command::Answer { call: *call, sdp }).unwrap();
            }
            Event::Digit { digit: '5', duration, .. } if duration.as_millis() == 200 => digits += 1,
            Event::Reoffer { call, sdp } => {
                let (sdp, plan) = sdp::answer(sdp.as_deref().expect("an offer"), &media()).expect("PCMA");
                assert!(!plan.send && plan.receive, "on hold");
                holds += 1;
                endpoint.command(Command::AnswerReoffer { call: *call, sdp }).unwrap();
            }
            Event::Ended { cause, .. } => {
                assert_eq!(*cause, EndCause::RemoteHangup);
                ended += 1;
            }
            _ => {}
        }
        (ended == 100).then_some(())
    });
    assert_eq!((digits, holds), (100, 100));
    sipp.succeeds(LIMIT);
    assert_eq!(endpoint.stats().malformed, 0);
}

#[test]
fn sipp_gives_up_while_it_rings() {
    let endpoint = endpoint(Vec::new());
    let target = endpoint.local_addr().to_string();
    let mut sipp = sipp("uac_cancel.xml", &[&target, "-s", "agent", "-m", "5", "-r", "20"]);
    let mut cancelled = 0;
    wait(&endpoint, |event| {
        match event {
            Event::Incoming { call, .. } => endpoint.command(Command::Ring(*call)).unwrap(),
            Event::Ended { cause, .. } => {
                assert_eq!(*cause, EndCause::Cancelled);
                cancelled += 1;
            }
            _ => {}
        }
        (cancelled == 5).then_some(())
    });
    sipp.succeeds(LIMIT);
}

#[test]
fn sipp_is_called_through_a_route_and_hung_up() {
    let endpoint = endpoint(Vec::new());
    let port = free_port();
    let mut sipp = sipp("uas.xml", &["-p", &port.to_string(), "-m", "20"]);
    sipp.listens(port);
    for tag in 0..20 {
        let dial = Dial { account: None, to: format!("sip:callee@127.0.0.1:{port}"), sdp: sdp::offer(&media()) };
        endpoint.command(Command::Dial { tag, dial }).unwrap();
    }
    let (mut rang, mut ended) = (0, 0);
    wait(&endpoint, |event| {
        match event {
            Event::Progress { status: 180, .. } => rang += 1,
            Event::Answered { call, sdp } => {
                let plan = sdp::accept(sdp.as_deref().expect("an answer"), &media()).expect("PCMA");
                assert_eq!((plan.remote.port(), plan.payload_type), (6002, 8));
                endpoint.command(Command::Hangup(*call)).unwrap();
            }
            Event::Ended { cause, .. } => {
                assert_eq!(*cause, EndCause::LocalHangup);
                ended += 1;
            }
            _ => {}
        }
        (ended == 20).then_some(())
    });
    assert_eq!(rang, 20);
    sipp.succeeds(LIMIT);
}

#[test]
fn a_call_that_sipp_challenges_as_callee_is_authenticated() {
    authenticated_call("uas_auth.xml");
}

#[test]
fn a_call_that_sipp_challenges_as_proxy_is_authenticated() {
    authenticated_call("uas_proxy_auth.xml");
}

fn authenticated_call(scenario: &str) {
    let port = free_port();
    let endpoint = endpoint(vec![account(port, "wonderland", false)]);
    let mut sipp = sipp(scenario, &["-p", &port.to_string(), "-m", "1"]);
    sipp.listens(port);
    let dial = Dial { account: Some("pbx".into()), to: "100".into(), sdp: sdp::offer(&media()) };
    endpoint.command(Command::Dial { tag: 7, dial }).unwrap();
    let call = wait(&endpoint, |e| match e {
        Event::Answered { call, .. } => Some(*call),
        Event::Ended { .. } => panic!("{e:?}"),
        _ => None,
    });
    endpoint.command(Command::Hangup(call)).unwrap();
    sipp.succeeds(LIMIT);
}

#[test]
fn a_call_with_a_wrong_password_ends_with_auth() {
    let port = free_port();
    let endpoint = endpoint(vec![account(port, "looking-glass", false)]);
    let mut sipp = sipp("uas_auth.xml", &["-p", &port.to_string(), "-m", "1"]);
    sipp.listens(port);
    let dial = Dial { account: Some("pbx".into()), to: "100".into(), sdp: sdp::offer(&media()) };
    endpoint.command(Command::Dial { tag: 7, dial }).unwrap();
    let ended = wait(&endpoint, |e| match e {
        Event::Ended { cause, status, .. } => Some((*cause, *status)),
        _ => None,
    });
    assert_eq!(ended, (EndCause::Auth, Some(403)));
    sipp.succeeds(LIMIT);
}

#[test]
fn an_account_registers_at_sipp_and_leaves() {
    let port = free_port();
    let mut sipp = sipp("registrar.xml", &["-p", &port.to_string(), "-m", "1"]);
    sipp.listens(port);
    let mut endpoint = endpoint(vec![account(port, "wonderland", true)]);
    let expires = wait(&endpoint, |e| match e {
        Event::Registered { account, expires, .. } if account == "pbx" => Some(*expires),
        Event::RegistrationFailed { .. } => panic!("{e:?}"),
        _ => None,
    });
    assert_eq!(expires, Duration::from_secs(120));
    endpoint.close();
    wait(&endpoint, |e| matches!(e, Event::Unregistered { .. }).then_some(()));
    sipp.succeeds(LIMIT);
}

#[test]
fn a_wrong_password_is_told_once_and_not_hammered() {
    let port = free_port();
    let mut sipp = sipp("registrar.xml", &["-p", &port.to_string(), "-m", "1"]);
    sipp.listens(port);
    let endpoint = endpoint(vec![account(port, "looking-glass", true)]);
    let (status, retry_in) = wait(&endpoint, |e| match e {
        Event::RegistrationFailed { status, retry_in, .. } => Some((*status, *retry_in)),
        _ => None,
    });
    assert_eq!(status, Some(403));
    assert!(retry_in > Duration::from_secs(120), "{retry_in:?}");
    sipp.succeeds(LIMIT);
}
