//! A media thread for one call on JACK ports, something for it to say, and a measure of how whole it came back.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mr_sip_engine::jack::{JackBridge, JackCall, JackConfig, JackEvent, Route};

pub(crate) const BLOCK: usize = 40;
pub(crate) const TICK: Duration = Duration::from_millis(5);
/// A busy test machine stalls threads for longer than the 4 ms that a telephone should need.
pub(crate) const TEST_MARGIN: Duration = Duration::from_millis(80);

pub(crate) fn config(server: &str) -> JackConfig {
    JackConfig {
        server_name: Some(server.to_owned()),
        client_name: "mr-sip".to_owned(),
        max_calls: 16,
        margin: TEST_MARGIN,
        ..JackConfig::default()
    }
}

/// A media thread for one call: ticks on an absolute clock, catches up after a stall.
pub(crate) struct Media {
    pub(crate) call: JackCall,
    pub(crate) next: Instant,
    pub(crate) sent: u64,
    /// What would have gone to the caller, with the route of each block.
    pub(crate) heard: Vec<f32>,
    pub(crate) routes: Vec<Route>,
}

impl Media {
    pub(crate) fn new(call: JackCall) -> Self {
        Self { call, next: Instant::now(), sent: 0, heard: Vec::new(), routes: Vec::new() }
    }

    /// One tick; `caller` and `agent` make the sample with the given number.
    pub(crate) fn tick(&mut self, caller: impl Fn(u64) -> f32, agent: impl Fn(u64) -> f32) -> Route {
        let now = Instant::now();
        if self.next > now {
            std::thread::sleep(self.next - now);
        }
        let caller: [f32; BLOCK] = std::array::from_fn(|n| caller(self.sent + n as u64));
        let agent: [f32; BLOCK] = std::array::from_fn(|n| agent(self.sent + n as u64));
        let mut out = [0.0; BLOCK];
        let route = self.call.exchange(self.next, &caller, &agent, &mut out);
        self.next += TICK;
        self.sent += BLOCK as u64;
        self.heard.extend_from_slice(&out);
        self.routes.push(route);
        route
    }

    pub(crate) fn run(
        &mut self,
        time: Duration,
        caller: impl Fn(u64) -> f32 + Copy,
        agent: impl Fn(u64) -> f32 + Copy,
    ) {
        for _ in 0..time.as_millis() / 5 {
            self.tick(caller, agent);
        }
    }

    /// Ticks in silence until the route is `wanted`.
    pub(crate) fn until(&mut self, wanted: Route) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.tick(silence, silence) != wanted {
            assert!(Instant::now() < deadline, "the call did not become {wanted:?}");
        }
    }
}

pub(crate) fn silence(_: u64) -> f32 {
    0.0
}

pub(crate) fn tone(n: u64) -> f32 {
    (0.5 * (std::f64::consts::TAU * 440.0 * n as f64 / 8_000.0).sin()) as f32
}

/// Largest second difference that the tone can have at 8 kHz, with a tenth to spare.
pub(crate) const SMOOTHEST: f32 = 0.5 * 0.1194 * 1.1;

pub(crate) fn roughness(samples: &[f32]) -> f32 {
    samples.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
}

pub(crate) fn wait_for_event(
    bridge: &mut JackBridge,
    wanted: impl Fn(&JackEvent) -> bool,
    mut meanwhile: impl FnMut(),
) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut seen = VecDeque::new();
    while Instant::now() < deadline {
        while let Some(event) = bridge.poll_event() {
            if wanted(&event) {
                return;
            }
            seen.push_back(event);
        }
        meanwhile();
    }
    panic!("the event did not come in the state {:?}; seen: {seen:?}", bridge.state());
}
