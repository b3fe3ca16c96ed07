//! One call on virtual time, with a server that is a crossing patched onto itself.

use std::f64::consts::TAU;
use std::sync::mpsc;
use std::time::Duration;

use rtrb::RingBuffer;

use super::*;
use crate::dsp::crossing::{self, PortReader, PortWriter};

const BLOCK: usize = 40;
const RATE_HZ: u32 = 48_000;
const PERIOD: usize = 240;

/// The call, and a server of 5 ms periods that calls back half a tick after the media thread.
struct Rig {
    call: JackCall,
    epoch: Instant,
    ticks: u64,
    links: Producer<Box<Link>>,
    retired: Consumer<Box<Link>>,
    server: Option<(Arc<Server>, PortReader, PortReader, PortWriter)>,
    heard: Vec<f32>,
    _commands: mpsc::Receiver<Command>,
}

impl Rig {
    fn new() -> Self {
        let epoch = Instant::now();
        let (commands, commands_in) = mpsc::channel();
        let (links, links_in) = RingBuffer::new(4);
        let (retired_out, retired) = RingBuffer::new(4);
        let call = JackCall::new(1, epoch, commands, links_in, retired_out);
        Self { call, epoch, ticks: 0, links, retired, server: None, heard: Vec::new(), _commands: commands_in }
    }

    fn connect(&mut self) {
        let server = Server::new(RATE_HZ, PERIOD as u32);
        let (caller, caller_port) = crossing::to_port(RATE_HZ, 32).unwrap();
        let (agent, agent_port) = crossing::to_port(RATE_HZ, 32).unwrap();
        let (to_phone_port, to_phone) = crossing::from_port(RATE_HZ, 32).unwrap();
        self.links.push(Box::new(Link { server: Arc::clone(&server), caller, agent, to_phone })).unwrap();
        self.server = Some((server, caller_port, agent_port, to_phone_port));
    }

    fn tick(&mut self, agent: impl Fn(u64) -> f32) -> Route {
        let at = Duration::from_millis(1_000 + 5 * self.ticks);
        let agent: [f32; BLOCK] = std::array::from_fn(|n| agent(self.ticks * BLOCK as u64 + n as u64));
        let mut out = [0.0; BLOCK];
        let route = self.call.exchange(self.epoch + at, &[0.1; BLOCK], &agent, &mut out);
        self.heard.extend_from_slice(&out);
        if let Some((server, caller, agent, to_phone)) = &mut self.server {
            let now_us = at.as_micros() as u64 + 2_500;
            let mut period = [0.0; PERIOD];
            caller.read(now_us, &mut period);
            agent.read(now_us, &mut period);
            to_phone.write(now_us, &period);
            server.beat(now_us);
        }
        self.ticks += 1;
        route
    }

    /// Ticks in silence until the route is `wanted`; returns how many it took.
    fn until(&mut self, wanted: Route) -> usize {
        (0..1_000).position(|_| self.tick(|_| 0.0) == wanted).unwrap_or_else(|| panic!("never {wanted:?}"))
    }

    fn run(&mut self, ticks: usize, agent: impl Fn(u64) -> f32) {
        for _ in 0..ticks {
            self.tick(&agent);
        }
    }
}

fn tone(n: u64) -> f32 {
    (0.5 * (TAU * 200.0 * n as f64 / 8_000.0).sin()) as f32
}

#[test]
fn without_a_link_the_agent_goes_straight_through() {
    let mut rig = Rig::new();
    rig.run(100, tone);
    assert!(rig.heard.iter().enumerate().all(|(n, s)| *s == tone(n as u64)));
    assert_eq!((rig.call.route(), rig.call.in_flight()), (Route::Direct, 0));
}

#[test]
fn jack_takes_over_in_silence_only() {
    let mut rig = Rig::new();
    rig.connect();
    rig.run(400, tone);
    assert_eq!(rig.call.route(), Route::Direct, "the agent speaks, and half a sentence must not be torn");
    assert!(rig.heard.iter().enumerate().all(|(n, s)| *s == tone(n as u64)));
    rig.run(1, |_| 0.0);
    assert_eq!(rig.call.route(), Route::Jack);
}

#[test]
fn a_lost_server_costs_no_sample_and_its_delay_goes_in_the_first_silence() {
    let mut rig = Rig::new();
    rig.connect();
    rig.until(Route::Jack);
    rig.run(200, |_| 0.0);
    let begin = rig.ticks * BLOCK as u64;
    rig.run(200, tone);
    let delay = rig.call.in_flight() as usize;
    assert!(delay > 80, "{delay}");
    let (server, ..) = rig.server.take().unwrap();
    server.end();
    let lost_at = rig.heard.len();
    assert_eq!(rig.tick(tone), Route::Bridged, "within one tick");
    rig.run(200, tone);
    // From the loss on (and a smoothing) it is the agent's voice, delayed as before, to the sample.
    for n in lost_at + SMOOTH..rig.heard.len() {
        assert_eq!(rig.heard[n], tone((n - delay) as u64), "sample {n}");
    }
    // And across the loss there is no click: JACK's own delay is known to a millisecond, so a phase step of at most that.
    let steps = rig.heard[begin as usize + 400..].windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
    assert!(steps < 0.5 * 0.157 * 1.6, "a step of {steps}");
    assert_eq!(rig.until(Route::Direct), delay.div_ceil(BLOCK));
    assert_eq!(rig.call.in_flight(), 0);
    assert!(rig.retired.pop().is_ok(), "the dead link went back to be dropped");
}

#[test]
fn a_server_that_stops_calling_is_left_and_taken_up_again() {
    let mut rig = Rig::new();
    rig.connect();
    rig.until(Route::Jack);
    let hung = rig.server.take();
    let ticks = rig.until(Route::Direct);
    assert!((10..=16).contains(&ticks), "{ticks} ticks");
    rig.run(200, |_| 0.0);
    rig.server = hung;
    assert!(rig.until(Route::Jack) < 40);
}

#[test]
fn another_server_gets_the_call_with_a_new_link() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.connect();
        rig.until(Route::Jack);
        rig.server.as_ref().unwrap().0.end();
        rig.until(Route::Direct);
        assert!(rig.retired.pop().is_ok());
    }
}

#[test]
fn slices_of_odd_lengths_do_no_harm() {
    let mut rig = Rig::new();
    let now = rig.epoch + Duration::from_secs(1);
    let mut out = [9.0; 50];
    rig.call.exchange(now, &[], &[0.5; 40], &mut out);
    assert!(out.iter().all(|s| *s == 0.0));
    rig.call.exchange(now, &[0.0; 400], &[0.5; 400], &mut out);
    assert!(out[40..].iter().all(|s| *s == 0.5));
    rig.call.exchange(now, &[0.0; 40], &[0.5; 40], &mut []);
}
