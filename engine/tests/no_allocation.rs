//! The real-time rule, counted: a hundred busy calls, and not one allocation or free on the media thread.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mr_sip_engine::codec::Encoder;
use mr_sip_engine::effects::{Direction, EFFECTS, EffectChain};
use mr_sip_engine::realtime::{self, GuardedAllocator};
use mr_sip_engine::rtp::srtp::SrtpSession;
use mr_sip_engine::{
    BargeIn, CallHandle, CallId, CallSetup, CallStats, CleanConfig, Codec, DetectConfig, DigitTiming, EarTap, Engine,
    EngineConfig, Link, MasterKey, MediaEvent, MediaParams, NamedTone, NetIo, PlayId, PlayMode, PlayOptions,
    RecordingState, Region, Source, SrtpParams, SrtpSuite, TelephoneEvent, Tone,
};

#[global_allocator]
static ALLOCATOR: GuardedAllocator = GuardedAllocator;

const CALLS: u32 = 100;
const ROUNDS: u32 = 250;

/// What the calls agree on, one after the other: every codec, plain and encrypted, RTCP on its own port or not.
fn agreed(number: u32, remote: SocketAddr) -> MediaParams {
    let (codec, payload_type) =
        [(Codec::Pcmu, 0), (Codec::Pcma, 8), (Codec::G722, 9), (Codec::Opus, 111)][number as usize % 4];
    let suite = match number / 4 % 3 {
        0 => None,
        1 => Some(SrtpSuite::AesCm128HmacSha1_80),
        _ => Some(SrtpSuite::AesCm128HmacSha1_32),
    };
    MediaParams {
        telephone_event: Some(TelephoneEvent::new(101, codec.clock_rate_hz())),
        comfort_noise: (number.is_multiple_of(7) && codec != Codec::Opus).then_some(13),
        opus_dtx: number.is_multiple_of(3),
        ptime_ms: [20, 10, 40, 60, 30][number as usize % 5],
        rtcp_mux: number.is_multiple_of(3),
        srtp: suite.map(|suite| SrtpParams { suite, local: key(number), remote: key(number + 1) }),
        ..MediaParams::new(remote, codec, payload_type)
    }
}

/// What is listened for besides words: each on some calls, some for a second only, some for nothing any more.
fn listening(number: u32) -> DetectConfig {
    DetectConfig {
        keys: number & 2 != 0,
        progress: number & 4 != 0,
        answered_by: number & 8 != 0,
        music: number & 32 != 0,
        tones_for: (number & 16 != 0).then_some(Duration::from_secs(1)),
    }
}

/// What calls had to say, counted.
#[derive(Default)]
struct Heard {
    events: u32,
    keys: u32,
    finished: u32,
    played_out: u32,
    recorded: u32,
}

impl Heard {
    fn take(&mut self, event: &MediaEvent) {
        self.events += 1;
        match event {
            MediaEvent::Digit { .. } => self.keys += 1,
            MediaEvent::PlayFinished { .. } => self.played_out += 1,
            MediaEvent::ResponseFinished { .. } => self.finished += 1,
            MediaEvent::Recording(news) if news.state == RecordingState::Finished => self.recorded += 1,
            _ => {}
        }
    }
}

fn key(number: u32) -> MasterKey {
    MasterKey::new([(number % 251) as u8; 30])
}

/// A far end that sends as bad networks do: lost, swapped, doubled, garbled, from elsewhere, keys, comfort noise, reports.
struct FarEnd {
    socket: UdpSocket,
    to: SocketAddr,
    params: MediaParams,
    encoder: Encoder,
    srtp: Option<SrtpSession>,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    held_back: Option<Vec<u8>>,
}

impl FarEnd {
    fn new(socket: UdpSocket, to: SocketAddr, params: MediaParams, ssrc: u32) -> Self {
        let encoder = Encoder::new(params.codec);
        let mut far_end =
            Self { socket, to, params, encoder, srtp: None, sequence: 0, timestamp: 0, ssrc, held_back: None };
        far_end.take_keys();
        far_end
    }

    /// Encrypts from now on as the call expects it.
    fn take_keys(&mut self) {
        self.srtp = self.params.srtp.as_ref().map(|theirs| {
            let ours = SrtpParams { local: theirs.remote.clone(), remote: theirs.local.clone(), ..theirs.clone() };
            SrtpSession::new(&ours)
        });
    }

    fn change(&mut self, params: MediaParams) {
        if params.codec != self.params.codec {
            self.encoder = Encoder::new(params.codec);
        }
        self.params = params;
        self.take_keys();
    }

    fn audio(&mut self, random: &mut fastrand::Rng) -> (u8, Vec<u8>) {
        let samples: Vec<f32> = (0..160).map(|n| (n as f32 * random.f32()).sin() * 0.3).collect();
        let mut payload = vec![0; 480];
        let length = self.encoder.encode(&samples, &mut payload);
        payload.truncate(length);
        (self.params.payload_type, payload)
    }

    fn send(&mut self, random: &mut fastrand::Rng, stranger: &UdpSocket) {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.params.codec.clock_rate_hz() / 50);
        if random.u32(0..500) == 0 {
            self.ssrc = random.u32(..); // a new stream
        }
        let (payload_type, payload) = match random.u32(0..50) {
            0 => (101, vec![5, 0x8A, 3, 0x20]),
            1 => (13, vec![60]),
            2 => (96, vec![1; 160]),
            3 => (8, vec![0xD5; 160]),
            4 => (self.params.payload_type, (0..random.usize(1..300)).map(|_| random.u8(..)).collect()),
            _ => self.audio(random),
        };
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        let length = packet.len();
        let report = random.u32(0..40) == 0;
        if report {
            packet = [&[0x80, 200, 0, 6][..], &self.ssrc.to_be_bytes(), &[7; 20]].concat();
        }
        if let Some(srtp) = &mut self.srtp {
            packet.resize(packet.len() + 14, 0);
            let sealed =
                if report { srtp.protect_rtcp(&mut packet, 28) } else { srtp.protect_rtp(&mut packet, length) };
            packet.truncate(sealed);
        }
        match random.u32(0..24) {
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
            5 => packet.truncate(random.usize(0..=packet.len())),
            6 => packet = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[5; 12]].concat(),
            7 => packet = [&[22, 0xFE, 0xFD][..], &[0; 60]].concat(),
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
    for net_io in [NetIo::Auto, NetIo::Plain] {
        a_hundred_busy_calls(net_io);
    }
    // the guard itself counts
    realtime::mark_thread();
    drop(std::hint::black_box(Box::new(7)));
    realtime::unmark_thread();
    assert_eq!(realtime::violations(), 2);
}

fn a_hundred_busy_calls(net_io: NetIo) {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(EngineConfig {
        bind_ip: Ipv4Addr::LOCALHOST.into(),
        rtp_ports: 23_300..=23_799,
        lock_memory: false,
        net_io,
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
        let media = agreed(number, socket.local_addr().unwrap());
        let record_to = number.is_multiple_of(10).then(|| folder.path().join(format!("{number}.wav")));
        let far_end = FarEnd::new(socket, to, media.clone(), number);
        let setup = CallSetup {
            id: CallId(number),
            label: format!("c{number}"),
            far_end: String::new(),
            port,
            media,
            record_to,
        };
        let mut handle = engine.add_call(setup).unwrap();
        if number.is_multiple_of(2) {
            handle.detect(&listening(number)).unwrap();
        }
        (handle, far_end)
    };
    let mut calls: Vec<_> = (0..CALLS).map(|number| add(&mut engine, number)).collect();
    for (handle, _) in calls.iter_mut().step_by(2) {
        handle.clean(CleanConfig { dc: true, agc: true, noise: true, echo: true }).unwrap();
    }
    let mut subscribers: Vec<EarTap> = Vec::new();
    let (mut heard, mut linked) = (Heard::default(), 0);

    // begun, and finished, in the middle of calls
    let mut recordings = 0;
    let mut plays = 0;
    let sound = folder.path().join("sound.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(&sound, spec).unwrap();
    (0..44_100).for_each(|n| wav.write_sample((n % 200) as i16 * 100).unwrap());
    wav.finalize().unwrap();

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
                43..48 => {
                    // players beside the voice and instead of it, and more than the limiter lets through
                    let mode = if random.bool() { PlayMode::Mix } else { PlayMode::Instead };
                    let options = PlayOptions { mode, bargeable: random.bool(), gain_db: 20.0 };
                    let tone = Tone::named(NamedTone::Congestion, Region::NorthAmerica, Some(random.u32(20..600)));
                    let played =
                        if random.bool() { handle.play_tone(tone, options) } else { handle.play_file(&sound, options) };
                    plays += u32::from(played.is_ok());
                }
                48..50 => {
                    let _ = handle.stop_play(PlayId(random.u64(1..4)));
                    handle.voice().set_barge_in(&BargeIn { fade_ms: random.u32(0..40), ..BargeIn::default() });
                }
                36..38 => {
                    let _ = handle.send_digits("19#", DigitTiming::default());
                    let _ = handle.send_tones("5", DigitTiming::default());
                }
                50..53 => {
                    let _ = handle.detect(&listening(random.u32(..)));
                }
                38..40 => subscribers.extend(handle.subscribe()),
                40..42 => {
                    let held = MediaParams { send: random.bool(), receive: random.bool(), ..handle.params().clone() };
                    let _ = handle.update(held);
                }
                53 => {
                    recordings += 1;
                    let _ = engine.record(handle, folder.path().join(format!("again-{recordings}.wav")));
                }
                54 => {
                    let _ = handle.pause_recording(true);
                }
                55 => {
                    let _ = handle.pause_recording(false);
                }
                56 => {
                    let _ = handle.stop_recording();
                }
                42 => {
                    // a re-INVITE: another codec, other keys
                    let next = agreed(random.u32(..1_000), handle.params().remote);
                    if handle.update(next.clone()).is_ok() {
                        far_end.change(next);
                    }
                }
                57..61 => {
                    // how it sounds: parts come and go
                    let _ = handle.clean(CleanConfig {
                        dc: random.bool(),
                        agc: random.bool(),
                        noise: random.bool(),
                        echo: random.u32(0..4) > 0,
                    });
                }
                61..64 => {
                    let direction = if random.bool() { Direction::Caller } else { Direction::Agent };
                    let names = (0..random.usize(0..8)).map(|_| EFFECTS[random.usize(0..EFFECTS.len())].name);
                    let chain = EffectChain::new(names.map(|name| (name, []))).unwrap();
                    let _ = handle.set_effects(direction, chain);
                }
                _ => {}
            }
        }
        for _ in 0..4 {
            // somebody hears somebody else, or no longer
            let [from, to] = [(); 2].map(|()| calls[random.usize(0..calls.len())].0.id());
            let source = if random.bool() { Source::Caller } else { Source::Agent };
            let link = Link { from, source, to, gain: random.f32() };
            linked +=
                u32::from(if random.u32(0..4) > 0 { engine.link(link).is_ok() } else { engine.unlink(link).is_ok() });
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
            heard.take(&event);
        }
        let due = begun + Duration::from_millis(20) * (round + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }

    // files are finished and calls begun by other threads, which a busy machine may keep from it
    let end = Instant::now() + Duration::from_secs(30);
    while (heard.recorded <= 50 || engine.stats().calls != CALLS as usize) && Instant::now() < end {
        engine.poll_event().inspect(|(_, event)| heard.take(event));
    }
    let Heard { events, keys, finished, played_out, recorded } = heard;

    let stats = engine.stats();
    let sum = |figure: fn(&CallStats) -> u64| calls.iter().map(|(handle, _)| figure(&handle.stats())).sum::<u64>();
    let (sent, received) = (sum(|s| s.sent), sum(|s| s.received));
    assert!(sum(|s| s.srtp_unauthentic) > 100 && sum(|s| s.srtp_replayed) > 50, "some were encrypted, and attacked");
    assert!(sum(|s| s.recovered_samples) > 100 && sum(|s| s.stun_packets) > 50 && sum(|s| s.dtls_packets) > 50);
    assert!(sent > 1_000 && received > 1_000, "the calls were busy: {sent} sent, {received} received");
    assert!(events > 100 && keys > 10 && finished > 100, "{events} events, {keys} keys, {finished} responses");
    assert!(linked > 500, "{linked} links made and ended");
    assert!(recordings > 100 && recorded > 50, "{recordings} recordings were begun, {recorded} ended");
    assert!(plays > 100 && played_out > 50, "{plays} players, {played_out} of them over");
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
}
