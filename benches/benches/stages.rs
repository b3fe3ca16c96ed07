//! Every stage of a call's audio by itself, on one packet of 20 ms: where the time of a call goes, and what a change to one of
//! them costs. `cargo bench -p mr-sip-benches --no-default-features` prints them, compares each with the run before, and leaves
//! plots in `target/criterion`. The gate against getting dearer is `tick_cost`, which counts instructions.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::clean::Cleaner;
use engine::clock::Time;
use engine::codec::{Codec, Decoder, Encoder};
use engine::detect::Detectors;
use engine::dsp::Resampler;
use engine::dsp::limiter::Limiter;
use engine::effects::EffectChain;
use engine::playout::{AudioPacket, Playout};
use engine::rtp::packet::Packet;
use engine::rtp::srtp::SrtpSession;
use engine::stats::Counters;
use engine::{
    CleanConfig, DetectConfig, MasterKey, PACKET_SAMPLES, SrtpParams, SrtpSuite, TICK_SAMPLES, VOICE_SAMPLES, voice,
};

const PTIME: Duration = Duration::from_millis(20);
const CODECS: [(&str, Codec); 4] =
    [("pcmu", Codec::Pcmu), ("pcma", Codec::Pcma), ("g722", Codec::G722), ("opus", Codec::Opus)];

/// Two partials of a voice and some noise.
fn speech(samples: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..samples)
        .map(|n| {
            let seconds = n as f32 / 8_000.0;
            0.2 * (seconds * 1_250.0).sin() + 0.1 * (seconds * 4_400.0).sin() + 0.01 * (random.f32() - 0.5)
        })
        .collect()
}

fn encoded(codec: Codec) -> Vec<u8> {
    let mut bytes = [0; 1_500];
    let length = Encoder::new(codec).encode(&speech(PACKET_SAMPLES), &mut bytes);
    bytes[..length].to_vec()
}

fn codecs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(PACKET_SAMPLES as u64));
    for (name, codec) in CODECS {
        let (said, payload) = (speech(PACKET_SAMPLES), encoded(codec));
        let (mut encoder, mut decoder) = (Encoder::new(codec), Decoder::new(codec));
        let mut bytes = [0; 1_500];
        group.bench_function(format!("{name} encode"), |b| b.iter(|| encoder.encode(black_box(&said), &mut bytes)));
        let mut samples = [0.0; 2 * PACKET_SAMPLES];
        group.bench_function(format!("{name} decode"), |b| {
            b.iter(|| decoder.decode(codec, black_box(&payload), 0, &mut samples));
        });
    }
}

/// A packet in and four ticks out, on a line that is clear or loses every tenth packet.
fn playout(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("playout");
    let payload = encoded(Codec::Pcmu);
    for (name, lost) in [("clear", u16::MAX), ("one in ten lost", 10)] {
        let counters = Counters::default();
        let mut playout = Playout::new(Decoder::new(Codec::Pcmu));
        let (mut sequence, mut now) = (0_u16, Time::ZERO);
        let mut heard = [0.0; PACKET_SAMPLES];
        group.bench_function(name, |b| {
            b.iter(|| {
                sequence = sequence.wrapping_add(1);
                if !sequence.is_multiple_of(lost) {
                    let timestamp = (now.as_samples_8k() as u64) as u32;
                    let packet = AudioPacket { ssrc: 1, sequence, timestamp, codec: Codec::Pcmu, payload: &payload };
                    let _ = playout.insert(now, &packet);
                }
                playout.pull(now, black_box(&mut heard), &counters);
                now += PTIME;
            });
        });
    }
}

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let payload = encoded(Codec::Pcmu);
    let mut bytes = [0; 1_500];
    let packet =
        |sequence| Packet { payload_type: 0, marker: false, sequence, timestamp: 0, ssrc: 7, payload: &payload };
    let length = packet(1).write(&mut bytes);
    group.bench_function("rtp write", |b| b.iter(|| packet(black_box(1)).write(&mut bytes)));
    group.bench_function("rtp parse", |b| b.iter(|| Packet::parse(black_box(&bytes[..length])).is_some()));
    let key = MasterKey::new([7; MasterKey::BYTES]);
    let params = SrtpParams { suite: SrtpSuite::AesCm128HmacSha1_80, local: key.clone(), remote: key };
    let mut sender = SrtpSession::new(&params);
    let mut sequence = 0;
    group.bench_function("srtp protect", |b| {
        b.iter(|| {
            sequence += 1;
            let length = packet(sequence as u16).write(&mut bytes);
            sender.protect_rtp(&mut bytes, length)
        });
    });
    let (mut sender, mut receiver) = (SrtpSession::new(&params), SrtpSession::new(&params));
    let mut sequence = 0_u32;
    group.bench_function("srtp unprotect", |b| {
        b.iter_batched(
            || {
                sequence += 1;
                let length = packet(sequence as u16).write(&mut bytes);
                let length = sender.protect_rtp(&mut bytes, length);
                bytes[..length].to_vec()
            },
            |mut packet| receiver.unprotect_rtp(Time::ZERO, &mut packet).is_ok(),
            BatchSize::SmallInput,
        );
    });
}

/// What may be done to a packet of samples on its way.
fn sound(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sound");
    let said = speech(PACKET_SAMPLES);
    let mut limiter = Limiter::default();
    for (name, gain) in [("limiter, below", 1.0_f32), ("limiter, above", 5.0)] {
        let loud: Vec<f32> = said.iter().map(|s| s * gain).collect();
        group.bench_function(name, |b| {
            b.iter_batched_ref(|| loud.clone(), |samples| limiter.process(samples), BatchSize::SmallInput);
        });
    }
    for effect in engine::effects::EFFECTS {
        let mut chain = EffectChain::new([(effect.name, [])]).expect("an effect with its defaults");
        group.bench_function(format!("effect {}", effect.name), |b| {
            b.iter_batched_ref(|| said.clone(), |samples| chain.process(samples), BatchSize::SmallInput);
        });
    }
    let off = CleanConfig::OFF;
    for (name, config) in [
        ("dc", CleanConfig { dc: true, ..off }),
        ("agc", CleanConfig { agc: true, ..off }),
        ("noise", CleanConfig { noise: true, ..off }),
        ("echo", CleanConfig { echo: true, ..off }),
    ] {
        let mut cleaner = Cleaner::new(config);
        group.bench_function(format!("clean {name}"), |b| {
            b.iter(|| {
                for tick in said.chunks_exact(TICK_SAMPLES) {
                    cleaner.process(black_box(tick), |samples| {
                        black_box(samples);
                    });
                }
                cleaner.sent(&said);
            });
        });
    }
    let mut detectors =
        Detectors::new(&DetectConfig { keys: true, progress: true, answered_by: true, music: true, tones_for: None });
    let music = DetectConfig { music: true, tones_for: Some(Duration::ZERO), ..DetectConfig::default() };
    let mut music = Detectors::new(&music);
    for (name, detectors) in [("detectors, all", &mut detectors), ("detectors, music", &mut music)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                for tick in said.as_chunks().0 {
                    detectors.push(black_box(tick), |finding| {
                        black_box(finding);
                    });
                }
            });
        });
    }
    for (from, to) in [(8_000, 16_000), (24_000, 8_000), (48_000, 8_000)] {
        let mut resampler = Resampler::new(from, to).expect("a usual rate");
        let packet = speech(from as usize / 50);
        group.bench_function(format!("resampler {from} to {to}"), |b| {
            b.iter(|| {
                resampler.process(black_box(&packet), |samples| {
                    black_box(samples);
                });
            });
        });
    }
}

/// The agent's voice: what the writer hands over, and what a packet takes.
fn agent(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("voice");
    let (mut writer, mut reader) = voice();
    let counters = Counters::default();
    let generation = writer.start_response();
    let said = speech(PACKET_SAMPLES);
    let _ = writer.write(generation, &speech(VOICE_SAMPLES / 2));
    let mut packet = [0.0; PACKET_SAMPLES];
    group.bench_function("write and read", |b| {
        b.iter(|| {
            let taken = writer.write(generation, black_box(&said));
            reader.pull(&mut packet, &counters, &mut |event| drop(event));
            taken
        });
    });
}

criterion_group! {
    name = stages;
    config = Criterion::default().measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(300));
    targets = codecs, playout, wire, sound, agent
}
criterion_main!(stages);
