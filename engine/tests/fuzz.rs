//! Mangled RTP, RTCP, SRTP, STUN and DTLS (cases 2, 22, 24 to 30): one call's media under a storm of it, whatever its codec
//! and its encryption, neither panics nor stops sending, and what it lets the ears hear is sound.
//!
//! Each test runs against the clock: half a second, or `MR_SIP_FUZZ_SECONDS`. What fails prints its round, and the same
//! round goes wrong in the same way again: the randomness has a fixed seed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mr_sip_engine::call::{MediaCall, MediaCallConfig, MediaParams};
use mr_sip_engine::clock::Time;
use mr_sip_engine::codec::{Codec, Encoder, PCMU_PAYLOAD_TYPE};
use mr_sip_engine::rtp::demux::Datagram;
use mr_sip_engine::rtp::srtp::SrtpSession;
use mr_sip_engine::{CallId, MasterKey, PACKET_SAMPLES, SrtpParams, SrtpSuite, TICK, TelephoneEvent};

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

/// What the call of a round agrees on: each codec plain, and with each suite; packets of 20 ms.
fn agreed(round: u64, far_end: SocketAddr) -> MediaParams {
    let (codec, payload_type) =
        [(Codec::Pcmu, PCMU_PAYLOAD_TYPE), (Codec::G722, 9), (Codec::Opus, 111), (Codec::Pcma, 8)][round as usize % 4];
    let suite =
        [None, Some(SrtpSuite::AesCm128HmacSha1_80), Some(SrtpSuite::AesCm128HmacSha1_32)][round as usize / 4 % 3];
    let key = |of: u8| MasterKey::new([of; 30]);
    MediaParams {
        telephone_event: Some(TelephoneEvent::new(TELEPHONE_EVENT, codec.clock_rate_hz())),
        rtcp_mux: round.is_multiple_of(2),
        srtp: suite.map(|suite| SrtpParams { suite, local: key(1), remote: key(2) }),
        ..MediaParams::new(far_end, codec, payload_type)
    }
}

/// A far end that is well-behaved until its packets are mangled.
struct FarEnd {
    params: MediaParams,
    encoder: Encoder,
    srtp: Option<SrtpSession>,
}

impl FarEnd {
    fn new(params: MediaParams) -> Self {
        let srtp = params.srtp.as_ref().map(|theirs| {
            let ours = SrtpParams { local: theirs.remote.clone(), remote: theirs.local.clone(), ..theirs.clone() };
            SrtpSession::new(&ours)
        });
        Self { encoder: Encoder::new(params.codec), params, srtp }
    }

    /// Audio, or now and then a key, or a packet whose payload is noise.
    fn packet(&mut self, random: &mut Rng, number: u32) -> Vec<u8> {
        let key = random.u8(0..8) == 0;
        let mut bytes = vec![0x80, if key { TELEPHONE_EVENT } else { self.params.payload_type }];
        bytes.extend((number as u16).to_be_bytes());
        bytes.extend((number * (self.params.codec.clock_rate_hz() / 50)).to_be_bytes());
        bytes.extend(77_u32.to_be_bytes());
        if key {
            bytes.extend([random.u8(0..20), random.u8(..), random.u8(..), random.u8(..)]);
        } else if random.u8(0..3) == 0 {
            bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(PACKET_SAMPLES));
        } else {
            let samples: Vec<f32> = (0..PACKET_SAMPLES).map(|_| random.f32() * 0.6 - 0.3).collect();
            let mut payload = [0; 480];
            let length = self.encoder.encode(&samples, &mut payload);
            bytes.extend(&payload[..length]);
        }
        bytes
    }

    /// Encrypts what was agreed to be encrypted, except for now and then a packet.
    fn seal(&mut self, random: &mut Rng, bytes: &mut Vec<u8>, report: bool) {
        let Some(srtp) = self.srtp.as_mut().filter(|_| random.u8(0..20) > 0) else { return };
        let length = bytes.len();
        bytes.resize(length + 14, 0);
        let sealed = if report { srtp.protect_rtcp(bytes, length) } else { srtp.protect_rtp(bytes, length) };
        bytes.truncate(sealed);
    }
}

/// What is no media at all: STUN, DTLS, or the beginning of either.
fn other(random: &mut Rng) -> Vec<u8> {
    let mut bytes = if random.bool() {
        vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]
    } else {
        vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100]
    };
    let length = random.usize(0..60);
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
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
        _ if bytes.is_empty() => {}
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
        let params = agreed(rounds, far_end);
        let mut sender = FarEnd::new(params.clone());
        let (mut call, mut controls) = MediaCall::new(MediaCallConfig {
            id: CallId(1),
            params: params.clone(),
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
                let is_report = random.u8(0..10) == 0;
                let mut bytes = if is_report { report(&mut random) } else { sender.packet(&mut random, number) };
                sender.seal(&mut random, &mut bytes, is_report);
                if random.u8(0..20) == 0 {
                    bytes = other(&mut random);
                }
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

#[test]
fn fuzz_nothing_mangled_is_ever_taken_for_authentic() {
    let end = Instant::now() + budget();
    let mut rounds = 0;
    while Instant::now() < end {
        let told = Told(rounds);
        let mut random = Rng::with_seed(rounds);
        let params = agreed(4 + rounds % 8, SocketAddr::from((Ipv4Addr::LOCALHOST, 4_000)));
        let Some(keys) = &params.srtp else { panic!("these rounds are encrypted") };
        let mut receiver = SrtpSession::new(keys);
        let mut sender = FarEnd::new(params.clone());
        for number in 0..PACKETS {
            let is_report = random.u8(0..4) == 0;
            let plain = if is_report { report(&mut random) } else { sender.packet(&mut random, number) };
            let mut sealed = plain.clone();
            let Some(srtp) = &mut sender.srtp else { panic!("the far end encrypts") };
            let length = sealed.len();
            sealed.resize(length + 14, 0);
            let total =
                if is_report { srtp.protect_rtcp(&mut sealed, length) } else { srtp.protect_rtp(&mut sealed, length) };
            sealed.truncate(total);
            let mut open = |bytes: &mut [u8]| {
                if is_report {
                    receiver.unprotect_rtcp(Time::ZERO, bytes)
                } else {
                    receiver.unprotect_rtp(Time::ZERO, bytes)
                }
            };
            let mut mangled = sealed.clone();
            mangle(&mut random, &mut mangled);
            if mangled != sealed {
                let before = mangled.clone();
                assert!(open(&mut mangled).is_err(), "packet {number}");
                assert_eq!(mangled, before, "what is refused is not touched");
            }
            let mut genuine = sealed.clone();
            assert_eq!(open(&mut genuine), Ok(length), "packet {number}");
            assert_eq!(genuine[..length], plain);
            assert!(open(&mut sealed.clone()).is_err(), "packet {number} came twice");
        }
        std::mem::forget(told);
        rounds += 1;
    }
    println!("{rounds} rounds");
}

#[test]
fn fuzz_every_datagram_is_of_one_kind() {
    let end = Instant::now() + budget();
    let mut random = Rng::with_seed(5_764);
    let (mut count, mut kinds) = (0_u64, [0_u64; 5]);
    while Instant::now() < end {
        let mut bytes = match random.u8(0..4) {
            0 => report(&mut random),
            1 => other(&mut random),
            _ => (0..random.usize(0..80)).map(|_| random.u8(..)).collect(),
        };
        mangle(&mut random, &mut bytes);
        let kind = Datagram::classify(&bytes);
        let media = bytes.first().is_some_and(|first| first >> 6 == 2);
        assert_eq!(matches!(kind, Datagram::Rtp | Datagram::Rtcp), media, "{bytes:?}");
        let index = [Datagram::Rtp, Datagram::Rtcp, Datagram::Stun, Datagram::Dtls, Datagram::Unknown]
            .iter()
            .position(|&other| other == kind);
        kinds[index.expect("these are all")] += 1;
        count += 1;
    }
    assert!(kinds.iter().all(|&n| n > 0), "{kinds:?} of {count}");
}
