//! Mangled RTP and RTCP (cases 2, 22, 27 to 30): one call's media under a storm of it neither panics nor stops sending,
//! and what it lets the ears hear is sound.
//!
//! Each test runs against the clock: half a second, or `MR_SIP_FUZZ_SECONDS`. What fails prints its round, and the same
//! round goes wrong in the same way again: the randomness has a fixed seed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mr_sip_engine::call::{MediaCall, MediaCallConfig, MediaParams};
use mr_sip_engine::clock::Time;
use mr_sip_engine::codec::{Codec, PCMU_PAYLOAD_TYPE};
use mr_sip_engine::{CallId, PACKET_SAMPLES, TICK, TelephoneEvent};

const TELEPHONE_EVENT: u8 = 101;
/// Packets that the far end sends in a round, one every 20 ms.
const PACKETS: u32 = 200;

/// How long a test goes on.
fn budget() -> Duration {
    let seconds = std::env::var("MR_SIP_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.5))
}

/// Says which round it was, if that panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("this was round {}", self.0);
    }
}

/// Audio, or now and then a key, as a well-behaved far end sends it.
fn packet(random: &mut Rng, number: u32) -> Vec<u8> {
    let key = random.u8(0..8) == 0;
    let mut bytes = vec![0x80, if key { TELEPHONE_EVENT } else { PCMU_PAYLOAD_TYPE }];
    bytes.extend((number as u16).to_be_bytes());
    bytes.extend((number * PACKET_SAMPLES as u32).to_be_bytes());
    bytes.extend(77_u32.to_be_bytes());
    if key {
        bytes.extend([random.u8(0..20), random.u8(..), random.u8(..), random.u8(..)]);
    } else {
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(PACKET_SAMPLES));
    }
    bytes
}

/// A sender report with one block about a stranger.
fn report(random: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0x81, 200, 0, 12];
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(48));
    bytes
}

/// Header bits flipped, cut short, filled up, or nothing but noise.
fn mangle(random: &mut Rng, bytes: &mut Vec<u8>) {
    match random.u8(0..6) {
        0 => bytes.truncate(random.usize(0..=bytes.len())),
        1 => bytes.extend(std::iter::repeat_n(0xFF, random.usize(0..1_400))),
        2 => {
            let length = random.usize(0..200);
            *bytes = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        }
        _ => {
            for _ in 0..random.usize(1..6) {
                let at = random.usize(0..bytes.len().min(16));
                bytes[at] ^= 1 << random.u8(0..8);
            }
        }
    }
}

#[test]
fn fuzz_a_call_lives_through_mangled_packets() {
    let end = Instant::now() + budget();
    let far_end = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9), 4_000));
    let stranger = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 4_000));
    let mut rounds = 0;
    while Instant::now() < end {
        let told = Told(rounds);
        let mut random = Rng::with_seed(rounds);
        let (mut call, mut controls) = MediaCall::new(MediaCallConfig {
            id: CallId(1),
            params: MediaParams {
                telephone_event: Some(TelephoneEvent { payload_type: TELEPHONE_EVENT, clock_rate_hz: 8_000 }),
                ..MediaParams::new(far_end, Codec::Pcmu, PCMU_PAYLOAD_TYPE)
            },
            media_lost_after: Duration::from_secs(30),
            start: Time::ZERO,
            start_instant: Instant::now(),
            seed: rounds,
            phase: 0,
            jack: None,
            record: None,
        });
        let (mut now, mut sent, mut heard) = (Time::ZERO, 0, 0);
        for number in 0..PACKETS {
            for _ in 0..random.u8(0..4) {
                let mut bytes = if random.u8(0..10) == 0 { report(&mut random) } else { packet(&mut random, number) };
                if random.u8(0..3) == 0 {
                    mangle(&mut random, &mut bytes);
                }
                let source = if random.u8(0..10) == 0 { stranger } else { far_end };
                if random.u8(0..10) == 0 {
                    call.on_rtcp(now, source, &mut bytes);
                } else {
                    call.on_packet(now, source, &mut bytes);
                }
            }
            for _ in 0..4 {
                // a stall now and then, up to ten ticks
                now += if random.u8(0..50) == 0 { TICK * random.u32(1..10) } else { TICK };
                call.tick(now);
                while let Some(packet) = call.poll_transmit() {
                    sent += usize::from(!packet.rtcp);
                }
                while call.poll_event().is_some() {}
                while let Ok(sample) = controls.ears.samples.pop() {
                    assert!(sample.abs() <= 1.0, "a sample of {sample}");
                    heard += 1;
                }
            }
        }
        let packets = PACKETS as usize;
        assert!(sent * 10 >= packets * 9, "only {sent} packets were sent in the time of {packets}");
        assert!(heard >= packets * PACKET_SAMPLES * 9 / 10, "the ears heard only {heard} samples");
        std::mem::forget(told);
        rounds += 1;
    }
    println!("{rounds} rounds");
}
