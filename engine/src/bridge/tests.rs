//! Linked calls on a virtual clock: what goes in as RTP at one comes out as RTP at the other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::*;
use crate::call::{CallControls, MediaCall, MediaCallConfig};
use crate::clock::Time;
use crate::codec::Codec;
use crate::media_thread::RunningCall;
use crate::ports::PortPool;
use crate::rtp::packet::Packet;
use crate::voice::WriteResult;
use crate::{MediaParams, TICK};

/// What counts as not heard: -36 dB under a whistle, as the law's steps make sounds of their own.
const SILENT: f32 = 0.003;

/// The far ends' addresses.
fn far_end(index: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 4_000 + 2 * index as u16))
}

/// Calls of one media thread, and what each far end and each pair of ears heard.
struct World {
    now: Time,
    links: Links,
    calls: Vec<Option<Box<RunningCall>>>,
    controls: Vec<CallControls>,
    /// Frequency that each far end whistles, Hz; 0: nothing.
    whistles: Vec<f32>,
    packets: u32,
    sent: Vec<Vec<f32>>,
    heard: Vec<Vec<f32>>,
}

impl World {
    /// Calls whose far ends whistle, with packets of `ptime_ms` from us, each at another phase of its packet.
    fn new(whistles: &[f32], ptime_ms: u16) -> Self {
        let pool = PortPool::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 22_000..=22_199).unwrap();
        let now = Time::ZERO + Duration::from_secs(1);
        let (mut calls, mut controls) = (Vec::new(), Vec::new());
        for index in 0..whistles.len() {
            let (media, control) = MediaCall::new(MediaCallConfig {
                id: CallId(index as u32),
                params: MediaParams { ptime_ms, ..MediaParams::new(far_end(index), Codec::Pcmu, 0) },
                media_lost_after: Duration::from_secs(2),
                start: now,
                start_instant: Instant::now(),
                seed: 7 + index as u64,
                phase: index as u8,
                jack: None,
                record: None,
            });
            calls.push(Some(Box::new(RunningCall { media, port: pool.reserve().unwrap() })));
            controls.push(control);
        }
        let count = calls.len();
        Self {
            now,
            links: Links::new(count),
            calls,
            controls,
            whistles: whistles.to_vec(),
            packets: 0,
            sent: vec![Vec::new(); count],
            heard: vec![Vec::new(); count],
        }
    }

    fn set(&mut self, from: u32, source: Source, to: u32, gain: f32) {
        let link = Link { from: CallId(from), source, to: CallId(to), gain };
        self.links.change(LinkCommand::Set(link), &mut self.calls);
    }

    fn talk(&mut self, a: u32, b: u32) {
        self.set(a, Source::Caller, b, 1.0);
        self.set(b, Source::Caller, a, 1.0);
    }

    fn remove(&mut self, from: u32, source: Source, to: u32) {
        let link = Link { from: CallId(from), source, to: CallId(to), gain: 0.0 };
        self.links.change(LinkCommand::Remove(link), &mut self.calls);
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += TICK;
            self.tick();
        }
    }

    fn tick(&mut self) {
        let since_start = self.now.since(Time::ZERO).as_millis() as u64 - 1_000;
        while u64::from(self.packets) * 20 < since_start {
            self.packets += 1;
            for index in 0..self.calls.len() {
                self.whistle(index);
            }
        }
        self.links.tick(&mut self.calls, self.now);
        for (index, call) in self.calls.iter_mut().enumerate() {
            let Some(call) = call else { continue };
            call.media.tick(self.now);
            while let Some(transmit) = call.media.poll_transmit() {
                if transmit.rtcp {
                    continue;
                }
                let packet = Packet::parse(transmit.bytes).unwrap();
                let mut samples = [0.0; 480];
                let count = Codec::Pcmu.decode(packet.payload, &mut samples);
                self.sent[index].extend(&samples[..count]);
            }
            while let Ok(sample) = self.controls[index].ears.samples.pop() {
                self.heard[index].push(sample);
            }
        }
    }

    fn whistle(&mut self, index: usize) {
        let first = self.packets * 160;
        let tone = |n: u32| {
            let phase = f64::from(first + n) * f64::from(self.whistles[index]) / 8_000.0 * std::f64::consts::TAU;
            0.2 * phase.sin() as f32
        };
        let samples: Vec<f32> = (0..160).map(tone).collect();
        let mut bytes = [0; 172];
        let count = Codec::Pcmu.encode(&samples, &mut bytes[12..]);
        let header = Packet {
            payload_type: 0,
            marker: false,
            sequence: self.packets as u16,
            timestamp: first,
            ssrc: 1 + index as u32,
            payload: &[],
        };
        header.write(&mut bytes);
        if let Some(call) = &mut self.calls[index] {
            call.media.on_packet(self.now, far_end(index), &mut bytes[..12 + count]);
        }
    }

    fn say(&mut self, call: usize, frequency: f32, samples: usize) {
        let voice = &mut self.controls[call].voice;
        let generation = voice.start_response();
        let said: Vec<f32> =
            (0..samples).map(|n| 0.2 * (n as f32 * frequency / 8_000.0 * std::f32::consts::TAU).sin()).collect();
        assert_eq!(voice.write(generation, &said), WriteResult::Accepted(samples));
    }

    /// How loud a tone is in what a far end was sent, in the last second; 0.2 is how loud it is whistled.
    fn level(&self, call: usize, frequency: f32) -> f32 {
        let last = &self.sent[call][self.sent[call].len() - 8_000..];
        let turn = |n: usize| n as f32 * frequency / 8_000.0 * std::f32::consts::TAU;
        let (re, im) = last
            .iter()
            .enumerate()
            .fold((0.0, 0.0), |(re, im), (n, sample)| (re + sample * turn(n).cos(), im + sample * turn(n).sin()));
        2.0 / 8_000.0 * f32::hypot(re, im)
    }
}

#[test]
fn two_callers_hear_each_other_and_not_themselves() {
    for ptime_ms in [10, 20, 60] {
        let mut world = World::new(&[500.0, 900.0], ptime_ms);
        world.talk(0, 1);
        world.run(3_000);
        for (call, own, other) in [(0, 500.0, 900.0), (1, 900.0, 500.0)] {
            assert!((world.level(call, other) - 0.2).abs() < 0.01, "{ptime_ms}: {}", world.level(call, other));
            assert!(world.level(call, own) < SILENT, "{ptime_ms}: {}", world.level(call, own));
        }
    }
}

/// What the one is heard to say in a tick is in the very same place of what the other is sent.
#[test]
fn a_bridge_adds_no_delay() {
    let mut world = World::new(&[500.0, 0.0], 20);
    world.talk(0, 1);
    world.run(2_000);
    // the second call began a tick within its packet
    let lead = 40;
    let (heard, sent) = (&world.heard[0][4_000..12_000], &world.sent[1][4_000 + lead..12_000 + lead]);
    let worst = heard.iter().zip(sent).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.01, "{worst}: no more than the law's steps"); // 1/32 of 0.2, rounded
}

#[test]
fn the_agent_is_heard_by_its_caller_and_by_who_listens() {
    // 0 is the customer, whose agent speaks at 700 Hz; 1 is the supervisor
    let mut world = World::new(&[500.0, 900.0], 20);
    world.set(0, Source::Caller, 1, 1.0);
    world.set(0, Source::Agent, 1, 1.0);
    world.say(0, 700.0, 40_000);
    world.run(3_000);
    assert!(
        (world.level(0, 700.0) - 0.2).abs() < 0.01 && world.level(0, 900.0) < SILENT,
        "the customer hears the agent"
    );
    assert!((world.level(1, 700.0) - 0.2).abs() < 0.01, "the supervisor hears the agent");
    assert!((world.level(1, 500.0) - 0.2).abs() < 0.01, "and the customer");

    // a whisper: the supervisor is heard by call 0's far end too, at half the loudness
    world.set(1, Source::Caller, 0, 0.5);
    world.run(2_000);
    assert!((world.level(0, 900.0) - 0.1).abs() < 0.01, "{}", world.level(0, 900.0));
}

#[test]
fn three_hear_each_other_and_one_leaves() {
    let mut world = World::new(&[500.0, 900.0, 1_300.0], 20);
    world.talk(0, 1);
    world.talk(0, 2);
    world.talk(1, 2);
    world.run(3_000);
    for (call, own) in [500.0, 900.0, 1_300.0].into_iter().enumerate() {
        for tone in [500.0, 900.0, 1_300.0] {
            let wanted = if tone == own { 0.0 } else { 0.2 };
            assert!((world.level(call, tone) - wanted).abs() < 0.01, "{call} at {tone}: {}", world.level(call, tone));
        }
    }
    world.links.forget(2, &mut world.calls);
    world.calls[2] = None;
    world.run(2_000);
    assert!(world.level(0, 1_300.0) < SILENT && (world.level(0, 900.0) - 0.2).abs() < 0.01);
    assert!(world.level(1, 1_300.0) < SILENT && (world.level(1, 500.0) - 0.2).abs() < 0.01);
}

#[test]
fn a_link_begins_and_ends_without_a_click() {
    let mut world = World::new(&[300.0, 0.0], 20);
    for _ in 0..10 {
        world.run(135);
        world.set(0, Source::Caller, 1, 1.0);
        world.run(135);
        world.remove(0, Source::Caller, 1);
    }
    world.run(100);
    // a whistle of 300 Hz at 0.2 has steps of 0.047; what a click would have is its height
    let worst = world.sent[1].windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
    assert!(worst < 0.06, "{worst}");
    assert!(world.links.running.is_empty() && world.links.members.is_empty(), "nothing is left of them");
}

#[test]
fn a_stall_leaves_the_calls_together() {
    let mut world = World::new(&[500.0, 900.0], 20);
    world.talk(0, 1);
    world.run(1_000);
    for stall in [7, 50, 190, 1_000, 20] {
        world.now += Duration::from_millis(stall);
        world.run(300);
    }
    world.run(2_000);
    assert!((world.level(0, 900.0) - 0.2).abs() < 0.01 && (world.level(1, 500.0) - 0.2).abs() < 0.01);
}

/// Packets of other lengths leave out other numbers of ticks: nothing is said twice, or into a packet that is over.
#[test]
fn a_stall_with_packets_of_two_lengths_says_nothing_twice() {
    let mut world = World::new(&[500.0, 0.0], 20);
    let params = MediaParams { ptime_ms: 60, ..MediaParams::new(far_end(1), Codec::Pcmu, 0) };
    assert!(world.controls[1].commands.push(crate::call::CallCommand::update(params)).is_ok());
    world.talk(0, 1);
    world.run(1_000);
    for stall in [250, 333, 700] {
        world.now += Duration::from_millis(stall);
        world.run(1_000);
        // two pieces on one another would be twice as loud as a whistle is
        let last = &world.sent[1][world.sent[1].len() - 8_000..];
        let loudest = last.iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
        assert!(loudest < 0.22, "{stall}: {loudest}");
    }
}

#[test]
fn no_link_to_nowhere_and_none_too_many() {
    let mut world = World::new(&[0.0, 0.0], 20);
    world.set(0, Source::Caller, 9, 1.0);
    world.set(0, Source::Caller, 0, 1.0);
    world.remove(0, Source::Agent, 1);
    assert!(world.links.running.is_empty());
    for _ in 0..20 {
        for source in [Source::Caller, Source::Agent] {
            world.set(0, source, 1, 1.0);
            world.set(1, source, 0, 0.5);
        }
    }
    assert_eq!(world.links.running.len(), 4, "the same link stands once");
    assert_eq!(world.links.running.capacity(), 2 * LINKS_PER_CALL, "no more memory was taken");
}
