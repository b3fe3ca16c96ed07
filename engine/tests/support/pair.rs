//! Two calls, each the other's far end, on a virtual clock, over a link with faults.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mr_sip_engine::call::{CallCommand, CallControls, MediaCall, MediaCallConfig, MediaParams};
use mr_sip_engine::clock::Time;
use mr_sip_engine::dtmf::QueuedDigit;
use mr_sip_engine::{CallId, CallStats, Codec, DigitTiming, MediaEvent, TICK, TelephoneEvent, WriteResult};

/// What the way between two ends does to packets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    pub(crate) delay_ms: u64,
    pub(crate) jitter_ms: u64,
    pub(crate) loss_percent: u32,
    pub(crate) doubled_percent: u32,
    pub(crate) garbled_percent: u32,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InFlight {
    pub(crate) arrival: std::cmp::Reverse<Time>,
    pub(crate) to: usize,
    pub(crate) rtcp: bool,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct End {
    pub(crate) media: MediaCall,
    pub(crate) controls: CallControls,
    pub(crate) address: SocketAddr,
    pub(crate) heard: Vec<f32>,
    pub(crate) events: Vec<MediaEvent>,
    /// What came out of the socket: when, and what.
    pub(crate) sent: Vec<(Time, Vec<u8>)>,
}

/// Two calls, each the other's far end.
pub(crate) struct Pair {
    pub(crate) now: Time,
    pub(crate) ends: [End; 2],
    pub(crate) link: Link,
    pub(crate) random: fastrand::Rng,
    pub(crate) way: BinaryHeap<InFlight>,
}

pub(crate) const MEDIA_LOST_AFTER: Duration = Duration::from_secs(2);

pub(crate) fn params(remote: SocketAddr) -> MediaParams {
    let telephone_event = Some(TelephoneEvent::new(101, 8_000));
    MediaParams { telephone_event, ..MediaParams::new(remote, Codec::Pcmu, 0) }
}

impl Pair {
    /// Two ends that speak G.711.
    pub(crate) fn new(link: Link, seed: u64) -> Self {
        Self::with(link, seed, |_, params| params)
    }

    /// Two ends whose parameters are made of the usual ones.
    pub(crate) fn with(link: Link, seed: u64, agree: impl Fn(usize, MediaParams) -> MediaParams) -> Self {
        let addresses = ["198.51.100.1:4000", "198.51.100.2:6000"].map(|text| text.parse::<SocketAddr>().unwrap());
        let now = Time::ZERO + Duration::from_secs(1);
        let end = |index: usize| {
            let (media, controls) = MediaCall::new(MediaCallConfig {
                id: CallId(index as u32),
                params: agree(index, params(addresses[1 - index])),
                media_lost_after: MEDIA_LOST_AFTER,
                start: now,
                start_instant: Instant::now(),
                seed: seed ^ (u64::MAX / (index as u64 + 2)),
                phase: index as u8,
                jack: None,
                record: None,
            });
            End { media, controls, address: addresses[index], heard: Vec::new(), events: Vec::new(), sent: Vec::new() }
        };
        Self { now, ends: [end(0), end(1)], link, random: fastrand::Rng::with_seed(seed), way: BinaryHeap::new() }
    }

    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += TICK;
            self.tick();
        }
    }

    pub(crate) fn tick(&mut self) {
        while self.way.peek().is_some_and(|p| p.arrival.0 <= self.now) {
            let Some(mut packet) = self.way.pop() else { break };
            let from = self.ends[1 - packet.to].address;
            let end = &mut self.ends[packet.to].media;
            if packet.rtcp {
                end.on_rtcp(packet.arrival.0, from, &mut packet.bytes);
            } else {
                end.on_packet(packet.arrival.0, from, &mut packet.bytes);
            }
        }
        for (index, end) in self.ends.iter_mut().enumerate() {
            end.media.tick(self.now);
            while let Some(transmit) = end.media.poll_transmit() {
                let (rtcp, mut bytes) = (transmit.rtcp, transmit.bytes.to_vec());
                if !rtcp {
                    end.sent.push((self.now, bytes.clone()));
                }
                if self.random.u32(0..100) < self.link.loss_percent {
                    continue;
                }
                if self.random.u32(0..100) < self.link.garbled_percent {
                    let at = self.random.usize(0..bytes.len());
                    bytes[at] ^= self.random.u8(1..);
                }
                let copies = 1 + u32::from(self.random.u32(0..100) < self.link.doubled_percent);
                for _ in 0..copies {
                    let delay = self.link.delay_ms * 1_000 + self.random.u64(0..=self.link.jitter_ms * 1_000);
                    let arrival = std::cmp::Reverse(self.now + Duration::from_micros(delay));
                    self.way.push(InFlight { arrival, to: 1 - index, rtcp, bytes: bytes.clone() });
                }
            }
            while end.media.poll_retired().is_some() {}
            while let Some(event) = end.media.poll_event() {
                end.events.push(event);
            }
            while let Ok(sample) = end.controls.ears.samples.pop() {
                end.heard.push(sample);
            }
        }
    }

    /// A re-INVITE: both ends get other parameters.
    pub(crate) fn update(&mut self, agree: impl Fn(usize, MediaParams) -> MediaParams) {
        for index in 0..2 {
            let params = agree(index, params(self.ends[1 - index].address));
            assert!(self.ends[index].controls.commands.push(CallCommand::update(params)).is_ok());
        }
    }

    /// One end says something, as one response.
    pub(crate) fn say(&mut self, end: usize, samples: &[f32]) {
        let voice = &mut self.ends[end].controls.voice;
        let generation = voice.start_response();
        assert_eq!(voice.write(generation, samples), WriteResult::Accepted(samples.len()));
        voice.end_response(generation);
    }

    /// One end presses keys.
    pub(crate) fn press(&mut self, end: usize, keys: &str) {
        for key in keys.chars() {
            let digit = QueuedDigit::new(key, DigitTiming::default()).unwrap();
            assert!(self.ends[end].controls.commands.push(CallCommand::Digit(digit)).is_ok());
        }
    }

    pub(crate) fn stats(&self, end: usize) -> CallStats {
        self.ends[end].controls.counters.snapshot()
    }
}

pub(crate) fn voice(n: usize) -> f32 {
    let phase = n as f64 * 170.0 * std::f64::consts::TAU / 8_000.0;
    (0.3 * phase.sin() + 0.1 * (2.0 * phase).sin()) as f32
}

pub(crate) fn keys(events: &[MediaEvent]) -> String {
    events.iter().filter_map(|e| if let MediaEvent::Digit { digit, .. } = e { Some(*digit) } else { None }).collect()
}

pub(crate) fn header(packet: &[u8]) -> (u8, bool, u16, u32) {
    let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    (packet[1] & 0x7F, packet[1] & 0x80 != 0, u16::from_be_bytes([packet[2], packet[3]]), word(4))
}
