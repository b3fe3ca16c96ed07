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
        .args([
            "-i",
            "127.0.0.1",
            "-nostdin",
            "-trace_err",
            "-error_file",
            "/dev/stderr",
            "-timeout",
            "25s",
            "-timeout_error",
            "-recv_timeout",
            "20000",
        ])
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
                assert_eq!((plan.payload_type, plan.telephone_event.map(|d| d.payload_type)), (8, Some(97)));
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
        let dial = Dial {
            account: None,
            to: format!("sip:callee@127.0.0.1:{port}"),
            sdp: sdp::offer(&media()),
            ..Dial::default()
        };
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
    let dial = Dial { account: Some("pbx".into()), to: "100".into(), sdp: sdp::offer(&media()), ..Dial::default() };
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
    let dial = Dial { account: Some("pbx".into()), to: "100".into(), sdp: sdp::offer(&media()), ..Dial::default() };
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

/// Answers everything that is offered, and hands on what else is told.
fn accept_all(endpoint: &Endpoint, event: &Event) {
    match event {
        Event::Incoming { call, offer, .. } => {
            let (sdp, _) = sdp::answer(offer.as_deref().expect("an offer"), &media()).expect("PCMA");
            endpoint.command(Command::Answer { call: *call, sdp }).unwrap();
        }
        Event::Reoffer { call, sdp } => {
            let (sdp, _) = sdp::answer(sdp.as_deref().expect("an offer"), &media()).expect("PCMA");
            endpoint.command(Command::AnswerReoffer { call: *call, sdp }).unwrap();
        }
        _ => {}
    }
}

fn ended(event: &Event) -> Option<EndCause> {
    match event {
        Event::Ended { cause, .. } => Some(*cause),
        _ => None,
    }
}

#[test]
fn case_33_a_caller_that_never_acknowledges_is_hung_up_after_64_t1() {
    let endpoint = endpoint(Vec::new());
    let target = endpoint.local_addr().to_string();
    let mut sipp = sipp("uac_no_ack.xml", &[&target, "-m", "1", "-timeout", "60s", "-recv_timeout", "45000"]);
    let began = Instant::now();
    let cause = loop {
        assert!(began.elapsed() < LIMIT * 2, "the call goes on");
        let Some(event) = endpoint.recv_timeout(Duration::from_millis(100)) else { continue };
        accept_all(&endpoint, &event);
        if let Some(cause) = ended(&event) {
            break cause;
        }
    };
    assert_eq!(cause, EndCause::Timeout);
    sipp.succeeds(LIMIT);
}

#[test]
fn case_34_a_200_that_crosses_our_cancel_is_acknowledged_and_ended() {
    let endpoint = endpoint(Vec::new());
    let port = free_port();
    let mut sipp = sipp("uas_late_200.xml", &["-p", &port.to_string(), "-m", "1"]);
    sipp.listens(port);
    let dial = Dial { to: format!("sip:odd@127.0.0.1:{port}"), sdp: sdp::offer(&media()), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 1, dial }).unwrap();
    let cause = wait(&endpoint, |event| {
        if let Event::Progress { call, status: 180, .. } = event {
            endpoint.command(Command::Hangup(*call)).unwrap();
        }
        ended(event)
    });
    assert_eq!(cause, EndCause::LocalHangup);
    sipp.succeeds(LIMIT);
}

#[test]
fn provisional_answers_of_every_kind_come_before_the_answer() {
    let endpoint = endpoint(Vec::new());
    let port = free_port();
    let mut sipp = sipp("uas_provisionals.xml", &["-p", &port.to_string(), "-m", "1"]);
    sipp.listens(port);
    let dial = Dial { to: format!("sip:odd@127.0.0.1:{port}"), sdp: sdp::offer(&media()), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 1, dial }).unwrap();
    let mut progress = Vec::new();
    let call = wait(&endpoint, |event| match event {
        Event::Progress { status, sdp, .. } => {
            progress.push((*status, sdp.is_some()));
            None
        }
        Event::Answered { call, .. } => Some(*call),
        _ => None,
    });
    assert_eq!(progress, [(180, false), (183, true), (180, false), (182, false)]);
    endpoint.command(Command::Hangup(call)).unwrap();
    sipp.succeeds(LIMIT);
}

#[test]
fn case_34_a_storm_of_reinvites_is_ridden_out() {
    let endpoint = endpoint(Vec::new());
    let target = endpoint.local_addr().to_string();
    let mut sipp = sipp("uac_reinvite_storm.xml", &[&target, "-m", "1"]);
    let (mut reoffers, mut last) = (0, None);
    let cause = wait(&endpoint, |event| {
        match event {
            Event::Reoffer { .. } => {
                reoffers += 1;
                // the last one waits until the one after it has been refused
                if reoffers == 11 {
                    last = Some(event.clone());
                } else {
                    accept_all(&endpoint, event);
                }
            }
            Event::Digit { .. } => accept_all(&endpoint, &last.take().expect("a reoffer that waits")),
            event => accept_all(&endpoint, event),
        }
        ended(event)
    });
    assert_eq!((reoffers, cause), (11, EndCause::RemoteHangup));
    sipp.succeeds(LIMIT);
}

#[test]
fn two_byes_that_cross_end_the_call_on_both_sides() {
    let endpoint = endpoint(Vec::new());
    let target = endpoint.local_addr().to_string();
    let mut sipp = sipp("uac_bye_crossing.xml", &[&target, "-m", "1"]);
    let cause = wait(&endpoint, |event| {
        accept_all(&endpoint, event);
        if let Event::Answered { call, .. } = event {
            endpoint.command(Command::Hangup(*call)).unwrap();
        }
        ended(event)
    });
    assert_eq!(cause, EndCause::LocalHangup);
    sipp.succeeds(LIMIT);
}
