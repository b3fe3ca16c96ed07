//! The agent's side: from samples that are written to the packet that carries them, and from a halt to the last packet in
//! which anything is heard.
//!
//! Both begin at any point of the packet clock, so they hold up to one packet of waiting that nothing can take away: its
//! times alone would be spread evenly from 0 to 20 ms.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use engine::codec::{Codec, PCMU_PAYLOAD_TYPE};
use engine::rtp::packet::Packet;
use engine::{CallHandle, PACKET_SAMPLES};
use mr_sip_benches::cpu::become_real_time;
use mr_sip_benches::histogram::Summary;
use serde::Serialize;

use super::{FAR_END_PRIORITY, FAR_END_TIMEOUT, Running, SAMPLE_MS, Way};

/// The beginning of what is said, and what counts as its arrival: half of what the limiter lets through.
const LOUD: f32 = 0.6;
const FOUND: f32 = 0.3;
/// Where speech ends and the noise of a line begins: -50 dBFS, some steps of PCMU's finest.
const AUDIBLE: f32 = 0.003_2;
/// Longer than anything that is measured.
const WINDOW: Duration = Duration::from_millis(150);

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) way: String,
    pub(super) written: usize,
    /// From writing a sample to its place in the stream that the far end gets.
    pub(super) to_wire: Option<Summary>,
    pub(super) halts: usize,
    /// From the halt to the arrival of the last packet that is not silence.
    pub(super) halted: Option<Summary>,
}

/// A packet as the far end got it: the first loud sample, and whether anything was in it.
struct Heard {
    at: Instant,
    loud: Option<usize>,
    audible: bool,
}

pub(super) fn measure(way: Way, time: Duration) -> Result<Figures> {
    let Running { far_end, mut call, engine: _engine, server: _server, .. } = Running::start(way)?;
    let stop = AtomicBool::new(false);
    let (heard, written, halts) = std::thread::scope(|threads| {
        let listener = threads.spawn(|| listen(&far_end, &stop));
        become_real_time(FAR_END_PRIORITY);
        let mut random = fastrand::Rng::with_seed(2);
        let written = speak(&mut call, &mut random, time / 2);
        let halts = interrupt(&mut call, &mut random, time / 2);
        stop.store(true, Ordering::Relaxed);
        let heard = listener.join().map_err(|_| anyhow!("a thread of the bench panicked"))?;
        anyhow::Ok((heard?, written, halts))
    })?;

    let within = |from: Instant| heard.iter().filter(move |h| h.at >= from && h.at < from + WINDOW);
    let arrived = |at: Instant| {
        let first = within(at).find_map(|h| Some((h.at, h.loud?)))?;
        Some((first.0 - at).as_secs_f64() * 1e3 + first.1 as f64 * SAMPLE_MS)
    };
    let to_wire: Vec<f64> = written.iter().filter_map(|&at| arrived(at)).collect();
    let last = |at: Instant| within(at).rfind(|h| h.audible).map_or(0.0, |h| (h.at - at).as_secs_f64() * 1e3);
    let halted: Vec<f64> = halts.iter().map(|&at| last(at)).collect();
    Ok(Figures {
        way: way.name(),
        written: to_wire.len(),
        to_wire: Summary::of(&to_wire),
        halts: halted.len(),
        halted: Summary::of(&halted),
    })
}

/// Says something short now and then; when.
fn speak(call: &mut CallHandle, random: &mut fastrand::Rng, time: Duration) -> Vec<Instant> {
    let (begun, mut written) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        std::thread::sleep(WINDOW + Duration::from_micros(random.u64(..40_000)));
        let generation = call.voice().start_response();
        written.push(Instant::now());
        let _ = call.voice().write(generation, &[LOUD; PACKET_SAMPLES / 4]);
        call.voice().end_response(generation);
    }
    written
}

/// Speaks, and stops in the middle of it; when.
fn interrupt(call: &mut CallHandle, random: &mut fastrand::Rng, time: Duration) -> Vec<Instant> {
    let speech: Vec<f32> = (0..8_000).map(|n| 0.5 * (n as f32 * 0.35).sin()).collect();
    let (begun, mut halts) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let generation = call.voice().start_response();
        let _ = call.voice().write(generation, &speech);
        std::thread::sleep(WINDOW + Duration::from_micros(random.u64(..40_000)));
        halts.push(Instant::now());
        call.voice().halt();
        std::thread::sleep(2 * WINDOW);
        call.voice().resume();
    }
    halts
}

fn listen(socket: &UdpSocket, stop: &AtomicBool) -> Result<Vec<Heard>> {
    become_real_time(FAR_END_PRIORITY);
    socket.set_read_timeout(Some(FAR_END_TIMEOUT))?;
    let (mut heard, mut bytes) = (Vec::new(), [0; 2_048]);
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut bytes) else { continue }; // nothing for a while: the loop ends by `stop`
        let at = Instant::now();
        let Some(packet) = Packet::parse(&bytes[..length]).filter(|p| p.payload_type == PCMU_PAYLOAD_TYPE) else {
            continue; // RTCP
        };
        let mut samples = [0.0_f32; PACKET_SAMPLES];
        let count = Codec::Pcmu.decode(packet.payload, &mut samples);
        let samples = &samples[..count];
        heard.push(Heard {
            at,
            loud: samples.iter().position(|s| s.abs() > FOUND),
            audible: samples.iter().any(|s| s.abs() > AUDIBLE),
        });
    }
    Ok(heard)
}
