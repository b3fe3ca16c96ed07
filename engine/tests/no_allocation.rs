//! The real-time rule, counted: a hundred busy calls, and not one allocation or free on the media thread.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mr_sip_engine::realtime::{self, GuardedAllocator};
use mr_sip_engine::{
    CallHandle, CallId, CallSetup, Codec, DigitTiming, EarTap, Engine, EngineConfig, MediaEvent, MediaParams,
    TelephoneEvent,
};

#[global_allocator]
static ALLOCATOR: GuardedAllocator = GuardedAllocator;

const CALLS: u32 = 100;
const ROUNDS: u32 = 250;

/// A far end that sends as bad networks do: lost, swapped, doubled, garbled, from elsewhere, keys, comfort noise.
struct FarEnd {
    socket: UdpSocket,
    to: SocketAddr,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    held_back: Option<Vec<u8>>,
}

impl FarEnd {
    fn send(&mut self, random: &mut fastrand::Rng, stranger: &UdpSocket) {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        if random.u32(0..500) == 0 {
            self.ssrc = random.u32(..); // a new stream
        }
        let (payload_type, payload) = match random.u32(0..50) {
            0 => (101, vec![5, 0x8A, 3, 0x20]),
            1 => (13, vec![60]),
            2 => (96, vec![1; 160]),
            3 => (8, vec![0xD5; 160]),
            _ => (0, (0..160).map(|n| (n * 7 + self.sequence) as u8).collect()),
        };
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        match random.u32(0..20) {
            0 => return,
            1 => {
                let before = self.held_back.replace(packet);
                packet = before.unwrap_or_default();
            }
            2 => {
                let _ = self.socket.send_to(&packet, self.to);
            }
            3 => packet.iter_mut().for_each(|byte| *byte ^= random.u8(..)),
            4 => {
                let _ = stranger.send_to(&packet, self.to);
            }
            5 => packet.truncate(random.usize(0..packet.len())),
            _ => {}
        }
        let _ = self.socket.send_to(&packet, self.to);
        let mut sink = [0; 2048];
        while self.socket.recv(&mut sink).is_ok() {}
    }
}

fn local_socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

#[test]
fn a_hundred_busy_calls_allocate_and_free_nothing_on_the_media_thread() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(EngineConfig {
        bind_ip: Ipv4Addr::LOCALHOST.into(),
        rtp_ports: 23_300..=23_799,
        lock_memory: false,
        max_calls: 200,
        media_lost_after: Duration::from_millis(300),
        ..EngineConfig::default()
    })
    .unwrap();
    let stranger = local_socket();
    let mut random = fastrand::Rng::with_seed(1);

    let add = |engine: &mut Engine, number: u32| -> (CallHandle, FarEnd) {
        let (port, socket) = (engine.reserve_port().unwrap(), local_socket());
        let to = port.local_addr();
        let media = MediaParams {
            telephone_event: Some(TelephoneEvent { payload_type: 101, clock_rate_hz: 8_000 }),
            ..if number.is_multiple_of(2) {
                MediaParams::new(socket.local_addr().unwrap(), Codec::Pcmu, 0)
            } else {
                MediaParams::new(socket.local_addr().unwrap(), Codec::Pcma, 8)
            }
        };
        let record_to = number.is_multiple_of(10).then(|| folder.path().join(format!("{number}.wav")));
        let setup = CallSetup { id: CallId(number), label: format!("c{number}"), port, media, record_to };
        let handle = engine.add_call(setup).unwrap();
        (handle, FarEnd { socket, to, sequence: 0, timestamp: 0, ssrc: number, held_back: None })
    };
    let mut calls: Vec<_> = (0..CALLS).map(|number| add(&mut engine, number)).collect();
    let mut subscribers: Vec<EarTap> = Vec::new();
    let (mut events, mut keys, mut finished) = (0, 0, 0);

    let begun = Instant::now();
    for round in 0..ROUNDS {
        for (handle, far_end) in &mut calls {
            far_end.send(&mut random, &stranger);
            match random.u32(0..100) {
                0..20 => {
                    let generation = handle.voice().start_response();
                    let _ = handle.voice().write(generation, &[0.2; 1_600]);
                    if random.bool() {
                        handle.voice().end_response(generation);
                    }
                }
                20..24 => handle.voice().halt(),
                24..30 => handle.voice().resume(),
                30..33 => handle.voice().clear(),
                33..36 => handle.voice().duck(random.bool()),
                36..38 => {
                    let _ = handle.send_digits("19#", DigitTiming::default());
                }
                38..40 => subscribers.extend(handle.subscribe()),
                40..42 => {
                    let held = MediaParams { send: random.bool(), receive: random.bool(), ..handle.params().clone() };
                    let _ = handle.update(held);
                }
                _ => {}
            }
        }
        if subscribers.len() > 40 {
            subscribers.drain(..20);
        }
        if round % 10 == 9 {
            // one call ends, another begins
            let index = random.usize(0..calls.len());
            let _ = calls.swap_remove(index).0.close();
            calls.push(add(&mut engine, CALLS + round));
        }
        while let Some((_, event)) = engine.poll_event() {
            events += 1;
            keys += u32::from(matches!(event, MediaEvent::Digit { .. }));
            finished += u32::from(matches!(event, MediaEvent::ResponseFinished { .. }));
        }
        let due = begun + Duration::from_millis(20) * (round + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }

    let stats = engine.stats();
    let sent: u64 = calls.iter().map(|(handle, _)| handle.stats().sent).sum();
    let received: u64 = calls.iter().map(|(handle, _)| handle.stats().received).sum();
    assert!(sent > 1_000 && received > 1_000, "the calls were busy: {sent} sent, {received} received");
    assert!(events > 100 && keys > 10 && finished > 100, "{events} events, {keys} keys, {finished} responses");
    assert_eq!(stats.calls, CALLS as usize);
    drop(calls);
    let end = Instant::now() + Duration::from_secs(20);
    while engine.stats().calls > 0 && Instant::now() < end {
        while engine.poll_event().is_some() {}
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(engine.stats().calls, 0);
    drop(engine);
    assert_eq!(realtime::violations(), 0, "{stats:?}");
    println!("{stats:?}");

    // the guard itself counts
    realtime::mark_thread();
    drop(std::hint::black_box(Box::new(7)));
    realtime::unmark_thread();
    assert_eq!(realtime::violations(), 2);
}
