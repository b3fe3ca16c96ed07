//! The agent does not interrupt itself: its echo comes back over a real call's media, on a virtual clock, and the ears' own
//! speech detection decides whether somebody has begun to speak.

#[path = "../../../engine/tests/support/speech.rs"]
mod speech;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use asr::TurnPolicy;
use asr::turn::{TurnEvent, TurnMachine};
use asr::vad::{Detector, FRAME, FRAME_SAMPLES, Sensitivity};
use engine::call::{CallCommand, MediaCall, MediaCallConfig, MediaParams};
use engine::clean::Cleaner;
use engine::clock::Time;
use engine::{CallId, CleanConfig, Codec, TICK, WriteResult};
use speech::{echo_path, speech};

const SECONDS: usize = 12;
const PACKET: usize = 160;
/// When the caller of some tests begins to speak.
const INTERRUPTION: Duration = Duration::from_secs(7);

/// When the ears say `speech.start`: in a call in which the agent speaks from the first second on, its echo comes back
/// 100 ms later at -10 dB, and the caller says what he says.
fn speech_starts(clean: CleanConfig, caller: &[f32], jitter_ms: u64, seed: u64) -> Vec<Duration> {
    let far: SocketAddr = "198.51.100.1:4000".parse().unwrap();
    let (mut call, mut controls) = MediaCall::new(MediaCallConfig {
        id: CallId(1),
        params: MediaParams::new(far, Codec::Pcmu, 0),
        media_lost_after: Duration::from_secs(30),
        start: Time::ZERO,
        start_instant: Instant::now(),
        seed: 1,
        phase: 0,
        jack: None,
        record: None,
    });
    if !clean.is_off() {
        let cleaner = Some(Box::new(Cleaner::new(clean)));
        assert!(controls.commands.push(CallCommand::Clean(cleaner)).is_ok());
    }
    let mut agent = vec![0.0; 8_000];
    agent.extend(speech(10.0, -23.0, 115.0, seed));
    let generation = controls.voice.start_response();

    // the far end: what it hears comes back by a path of 100 ms, together with what the caller says
    let response = echo_path(100.0, 24.0, -10.0, seed + 1);
    let mut says: Vec<f32> = caller.to_vec();
    says.resize((SECONDS + 2) * 8_000, 0.0);
    let (mut arrived, mut spoken) = (0, 0);
    let mut random = 7_u64;
    let mut way: VecDeque<(Time, Vec<u8>)> = VecDeque::new();
    let (mut detector, mut turns) = (Detector::new(Sensitivity::Normal), TurnMachine::new(TurnPolicy::default()));
    let (mut frame, mut at, mut starts) = (Vec::new(), Duration::ZERO, Vec::new());
    for tick in 0..(SECONDS * 200) as u32 {
        let now = Time::ZERO + TICK * tick;
        while way.front().is_some_and(|(arrival, _)| *arrival <= now) {
            let Some((arrival, mut packet)) = way.pop_front() else { break };
            call.on_packet(arrival, far, &mut packet);
        }
        if let WriteResult::Accepted(taken) = controls.voice.write(generation, &agent) {
            agent.drain(..taken); // as much as there is room for
        }
        call.tick(now);
        while let Some(packet) = call.poll_transmit() {
            if packet.rtcp {
                continue;
            }
            let mut heard = [0.0; PACKET];
            Codec::Pcmu.decode(&packet.bytes[12..], &mut heard);
            for (n, &x) in heard.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                for (place, &h) in says.iter_mut().skip(arrived + n).zip(&response) {
                    *place += x * h;
                }
            }
            arrived += PACKET;
        }
        if tick % 4 == 3 {
            let number = (spoken / PACKET) as u16;
            let mut packet =
                [&[0x80, 0][..], &number.to_be_bytes(), &(spoken as u32).to_be_bytes(), &[0, 0, 0, 9]].concat();
            packet.resize(12 + PACKET, 0);
            Codec::Pcmu.encode(&says[spoken..spoken + PACKET], &mut packet[12..]);
            spoken += PACKET;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let late = Duration::from_millis((random >> 33) % (jitter_ms + 1));
            let before = way.back().map_or(now, |(arrival, _)| *arrival);
            way.push_back(((now + Duration::from_millis(20) + late).max(before), packet));
        }
        while call.poll_retired().is_some() {}
        while call.poll_event().is_some() {}
        while let Ok(sample) = controls.ears.samples.pop() {
            frame.push(sample);
            let Ok(full) = <&[f32; FRAME_SAMPLES]>::try_from(frame.as_slice()) else { continue };
            turns.push(at, FRAME, detector.push(full));
            at += FRAME;
            frame.clear();
            while let Some(event) = turns.poll_event() {
                if let TurnEvent::SpeechStart { at } = event {
                    starts.push(at);
                }
            }
        }
    }
    starts
}

const ECHO: CleanConfig = CleanConfig { echo: true, ..CleanConfig::OFF };
const ALL: CleanConfig = CleanConfig { dc: true, agc: true, noise: true, echo: true };

fn interruption() -> Vec<f32> {
    let mut caller = vec![0.0; INTERRUPTION.as_secs() as usize * 8_000];
    caller.extend(speech(3.0, -26.0, 210.0, 33));
    caller
}

#[test]
fn without_echo_control_the_agent_hears_itself() {
    assert!(!speech_starts(CleanConfig::OFF, &[], 0, 31).is_empty());
}

#[test]
fn ten_seconds_of_the_agents_own_echo_are_no_speech() {
    for (clean, jitter_ms) in [(ECHO, 0), (ALL, 0), (ECHO, 5), (ECHO, 30)] {
        for seed in [31, 41, 51, 61] {
            let starts = speech_starts(clean, &[], jitter_ms, seed);
            assert!(starts.is_empty(), "{clean:?}, jitter {jitter_ms} ms, seed {seed}: {starts:?}");
        }
    }
}

#[test]
fn a_caller_who_speaks_over_the_agent_is_heard_at_once() {
    for clean in [ECHO, ALL] {
        for seed in [31, 41, 51, 61] {
            let starts = speech_starts(clean, &interruption(), 0, seed);
            let first = starts.first().copied().unwrap_or_default();
            // 20 ms of network, what the jitter buffer holds, and the first consonant
            let soon = INTERRUPTION..INTERRUPTION + Duration::from_millis(600);
            assert!(soon.contains(&first), "{clean:?}, seed {seed}: {starts:?}");
        }
    }
}
