//! Playout over hours, and beside plain repetition: on a virtual clock, through the public surface.

use std::time::Duration;

use mr_sip_engine::clock::Time;
use mr_sip_engine::codec::{Codec, Decoder};
use mr_sip_engine::playout::{AudioPacket, Inserted, Playout};
use mr_sip_engine::stats::Counters;
use mr_sip_engine::{PACKET_SAMPLES, TICK, TICK_SAMPLES};

/// Periods of 8 s of packets, made once: hours of encoding would cost more than hours of playing.
const PERIOD_PACKETS: usize = 400;

/// A voice with syllables and pauses whose end goes over into its beginning.
fn voice(n: usize) -> f32 {
    let t = n as f32 / 8_000.0;
    let phase =
        std::f32::consts::TAU * (140.0 * t - 8.0 / std::f32::consts::TAU * (std::f32::consts::TAU * t / 4.0).cos());
    let envelope = (std::f32::consts::TAU * t * 2.0).sin().max(0.0);
    0.25 * envelope * (1..12).map(|h| (phase * h as f32).sin() / h as f32).sum::<f32>()
}

fn payloads() -> Vec<[u8; PACKET_SAMPLES]> {
    (0..PERIOD_PACKETS)
        .map(|n| {
            let said: Vec<f32> = (n * PACKET_SAMPLES..(n + 1) * PACKET_SAMPLES).map(voice).collect();
            let mut payload = [0; PACKET_SAMPLES];
            Codec::Pcmu.encode(&said, &mut payload);
            payload
        })
        .collect()
}

fn steepest(samples: impl Iterator<Item = f32>) -> f32 {
    let mut last = 0.0;
    samples.fold(0.0_f32, |most, sample| {
        let step = (sample - last).abs();
        last = sample;
        most.max(step)
    })
}

#[test]
fn case_47_three_hours_of_clocks_that_differ_by_200_ppm_make_no_click_and_no_delay() {
    let payloads = payloads();
    let decoded = payloads.iter().flat_map(|payload| {
        let mut samples = [0.0; PACKET_SAMPLES];
        Codec::Pcmu.decode(payload, &mut samples);
        samples
    });
    let material = steepest(decoded);
    for ppm in [-200_i64, 200] {
        let mut playout = Playout::new(Decoder::new(Codec::Pcmu));
        let counters = Counters::default();
        // both the 16-bit and the 32-bit numbers wrap on the way
        let (first, start) = (65_000_u16, u32::MAX - 1_000_000);
        let interval_ns = (20_000_000 + 20 * ppm) as u64;
        let (mut now, mut sent) = (Time::ZERO + Duration::from_secs(1), 0_u64);
        let (mut last, mut click, mut longest) = (0.0_f32, 0.0_f32, 0.0_f32);
        for tick in 0..3 * 3_600 * 200 {
            loop {
                // up to 3 ms of jitter, the same in every run
                let arrival = Time::from_nanos(1_000_000_000 + sent * interval_ns + sent * 7_919 % 3_000_000);
                if arrival > now {
                    break;
                }
                let packet = AudioPacket {
                    ssrc: 1,
                    sequence: first.wrapping_add(sent as u16),
                    timestamp: start.wrapping_add(sent as u32 * PACKET_SAMPLES as u32),
                    codec: Codec::Pcmu,
                    payload: &payloads[sent as usize % PERIOD_PACKETS],
                };
                assert_eq!(playout.insert(arrival, &packet), Inserted::Accepted);
                sent += 1;
            }
            let mut out = [0.0; TICK_SAMPLES];
            playout.pull(now, &mut out, &counters);
            for sample in out {
                click = click.max((sample - last).abs());
                last = sample;
            }
            if tick > 1_000 {
                longest = longest.max(counters.delay_ms.get());
            }
            now += TICK;
        }
        let stats = counters.snapshot();
        // a cross-fade of two like pieces may be a little steeper than either
        assert!(click <= 1.02 * material, "{ppm} ppm: a step of {click}, the material's steepest is {material}");
        assert!(longest < 45.0, "{ppm} ppm: {longest} ms");
        assert!(stats.concealed_samples < 800, "{ppm} ppm: {} samples invented", stats.concealed_samples);
        // 200 ppm of three hours are 17,280 samples
        let (moved, still) = if ppm < 0 {
            (stats.shrunk_samples, stats.grown_samples)
        } else {
            (stats.grown_samples, stats.shrunk_samples)
        };
        assert!((15_000..20_000).contains(&(moved - still.min(moved))), "{ppm} ppm: {moved}, {still}");
    }
}
