//! Endpoints on real sockets, and waiting for what they tell.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the harness")]

use std::time::{Duration, Instant};

use mr_sip_signaling::{
    CallId, Dial, EndCause, Event, UserAgentConfig,
    net::{Command, Endpoint, EndpointConfig},
    sdp::{self, LocalMedia},
};

/// Only a test that fails waits so long.
pub const LIMIT: Duration = Duration::from_secs(20);

pub fn config() -> EndpointConfig {
    let bind = "127.0.0.1:0".parse().unwrap();
    EndpointConfig::new(bind, UserAgentConfig::new(bind))
}

pub fn start() -> Endpoint {
    start_with(config())
}

pub fn start_with(config: EndpointConfig) -> Endpoint {
    Endpoint::start(config, || {}).expect("the endpoint starts")
}

pub fn offer() -> String {
    sdp::offer(&LocalMedia::new("127.0.0.1:4000".parse().unwrap()))
}

pub fn dial(endpoint: &Endpoint, to: String, sdp: String) {
    endpoint.command(Command::Dial { tag: 1, dial: Dial { to, sdp, ..Dial::default() } }).unwrap();
}

#[track_caller]
pub fn wait<T>(endpoint: &Endpoint, fits: impl Fn(&Event) -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    let mut passed = Vec::new();
    while Instant::now() < until {
        let Some(event) = endpoint.recv_timeout(Duration::from_millis(100)) else { continue };
        if let Some(found) = fits(&event) {
            return found;
        }
        passed.push(event);
    }
    panic!("nothing that fits within {LIMIT:?}, only {passed:#?}; {:?}", endpoint.stats());
}

#[track_caller]
pub fn incoming(endpoint: &Endpoint) -> CallId {
    wait(endpoint, |e| match e {
        Event::Incoming { call, .. } => Some(*call),
        _ => None,
    })
}

#[track_caller]
pub fn ended(endpoint: &Endpoint) -> (EndCause, String) {
    wait(endpoint, |e| match e {
        Event::Ended { cause, reason, .. } => Some((*cause, reason.clone())),
        _ => None,
    })
}

/// A call from one to the other, answered: its number here and there.
#[track_caller]
pub fn call_up(from: &Endpoint, at: &Endpoint, to: String) -> (CallId, CallId) {
    dial(from, to, offer());
    let theirs = incoming(at);
    at.command(Command::Answer { call: theirs, sdp: offer() }).unwrap();
    let ours = wait(from, |e| match e {
        Event::Answered { call, .. } => Some(*call),
        _ => None,
    });
    wait(at, |e| matches!(e, Event::Answered { call, .. } if *call == theirs).then_some(()));
    (ours, theirs)
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, is: impl Fn() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < limit, "never {what}");
        std::thread::yield_now();
    }
}
