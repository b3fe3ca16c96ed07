//! The real-time rule in JACK mode, counted: no allocation and no free in the process callback, nor on the media thread's
//! side of it, while calls come and go.

#[path = "support/jackd.rs"]
#[allow(dead_code, reason = "not every test does everything to its server")]
mod jackd;

use std::time::{Duration, Instant};

use jackd::Jackd;
use mr_sip_engine::jack::{JackBridge, JackCall, JackConfig, Route};
use mr_sip_engine::realtime::{self, GuardedAllocator};

#[global_allocator]
static ALLOCATOR: GuardedAllocator = GuardedAllocator;

const CALLS: usize = 40;

/// One 5 ms tick of all calls, as a real-time thread would do it. Returns how many go through JACK.
fn tick(calls: &mut [JackCall], now: Instant) -> usize {
    realtime::mark_thread();
    let (agent, caller) = ([0.0; 40], [0.25; 40]);
    let mut out = [0.0; 40];
    let on_jack = calls
        .iter_mut()
        .filter_map(|call| (call.exchange(now, &caller, &agent, &mut out) == Route::Jack).then_some(()))
        .count();
    realtime::unmark_thread();
    on_jack
}

#[test]
fn nothing_is_allocated_or_freed_while_forty_calls_come_and_go_and_the_server_dies() {
    let mut server = Jackd::start("guard", 48_000, 128);
    let bridge = JackBridge::start(JackConfig {
        server_name: Some(server.name().to_owned()),
        max_calls: CALLS + 8,
        ..JackConfig::default()
    })
    .unwrap();
    let mut calls: Vec<JackCall> = (0..CALLS).map(|n| bridge.add_call(&format!("c{n}")).unwrap()).collect();
    let mut due = Instant::now();
    let mut step = |calls: &mut [JackCall]| {
        due += Duration::from_millis(5);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        tick(calls, due)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while step(&mut calls) < CALLS {
        assert!(Instant::now() < deadline, "not all calls reached JACK");
    }
    for number in 0..400 {
        step(&mut calls);
        if number % 40 == 0 {
            calls.remove(0); // its ports go while the callback runs, and another's come
            calls.push(bridge.add_call(&format!("c{}", CALLS + number)).unwrap());
        }
    }
    server.kill();
    for _ in 0..200 {
        step(&mut calls);
    }
    assert_eq!(realtime::violations(), 0);
}
