//! Two engines on loopback, something to say, and a measure of how well it was heard.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mr_sip_engine::{
    CallHandle, CallId, CallSetup, Codec, Engine, EngineConfig, JackConfig, MediaParams, NetIo, TelephoneEvent,
};

static STARTED: AtomicUsize = AtomicUsize::new(0);

/// An engine on loopback. Every second one reads and writes its sockets the plain way, so that a call between two has both.
pub(crate) fn start(ports: RangeInclusive<u16>, jack: Option<JackConfig>) -> Engine {
    let net_io = [NetIo::Auto, NetIo::Plain][STARTED.fetch_add(1, Ordering::Relaxed) % 2];
    Engine::start(EngineConfig {
        net_io,
        bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_ports: ports,
        lock_memory: false,
        max_calls: 8,
        jack,
        ..EngineConfig::default()
    })
    .unwrap()
}

/// A call between two engines.
pub(crate) fn connect(
    a: &mut Engine,
    b: &mut Engine,
    codec: Codec,
    record_to: Option<std::path::PathBuf>,
) -> (CallHandle, CallHandle) {
    connect_with(a, b, codec, record_to, |_, params| params)
}

/// A call between two engines that agree on more than the usual: each end's parameters are made of the usual ones.
pub(crate) fn connect_with(
    a: &mut Engine,
    b: &mut Engine,
    codec: Codec,
    record_to: Option<std::path::PathBuf>,
    agree: impl Fn(usize, MediaParams) -> MediaParams,
) -> (CallHandle, CallHandle) {
    let (port_a, port_b) = (a.reserve_port().unwrap(), b.reserve_port().unwrap());
    let payload_type = match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        _ => 111,
    };
    let params = |end: usize, port: u16| {
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let keys = TelephoneEvent::new(101, codec.clock_rate_hz());
        agree(end, MediaParams { telephone_event: Some(keys), ..MediaParams::new(remote, codec, payload_type) })
    };
    let (at_a, at_b) = (params(0, port_b.port()), params(1, port_a.port()));
    let setup = |id, port, media, record_to| CallSetup {
        id: CallId(id),
        label: format!("c{id}"),
        far_end: format!("sip:{id}00@example.com"),
        port,
        media,
        record_to,
    };
    (a.add_call(setup(1, port_a, at_a, record_to)).unwrap(), b.add_call(setup(2, port_b, at_b, None)).unwrap())
}

/// Something like speech: harmonics of a gliding pitch under a syllable envelope, with pauses.
pub(crate) fn speech(samples: usize) -> Vec<f32> {
    let mut phase = 0.0_f32;
    (0..samples)
        .map(|n| {
            let t = n as f32 / 8_000.0;
            let pitch = 120.0 + 30.0 * (t * 2.1).sin();
            phase += std::f32::consts::TAU * pitch / 8_000.0;
            let voice: f32 = (1..20).map(|h| (phase * h as f32).sin() / h as f32).sum();
            let envelope = (t * 9.0).sin().max(0.0) * if t % 2.0 < 1.6 { 1.0 } else { 0.0 };
            0.2 * voice * envelope
        })
        .collect()
}

/// The best normalized correlation of a reference within what was heard, over all delays.
pub(crate) fn correlation(reference: &[f32], heard: &[f32]) -> f32 {
    let energy: f32 = reference.iter().map(|s| s * s).sum();
    let mut part_energy: f64 = heard[..reference.len()].iter().map(|&s| f64::from(s * s)).sum();
    let mut best = 0.0_f32;
    for at in 0..heard.len() - reference.len() {
        let dot: f32 = heard[at..].iter().zip(reference).map(|(a, b)| a * b).sum();
        best = best.max(dot / (part_energy as f32 * energy).sqrt().max(1e-9));
        part_energy += f64::from(heard[at + reference.len()].powi(2) - heard[at].powi(2));
    }
    best
}

pub(crate) fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
