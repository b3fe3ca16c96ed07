//! Playout on a virtual clock: a sender, a link with faults, a listener.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const PCMU: Codec = Codec::Pcmu;

/// A packet on its way.
#[derive(Clone)]
struct InFlight {
    arrival_ms: f64,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    payload: Vec<u8>,
}

/// 140 Hz with harmonics, and a slow swell: what a voice is to a jitter buffer.
fn voice(n: usize) -> f32 {
    let phase = n as f64 * 140.0 * std::f64::consts::TAU / 8_000.0;
    ((0.3 * phase.sin() + 0.1 * (3.0 * phase).sin()) * (0.7 + 0.3 * (n as f64 / 3_000.0).sin())) as f32
}

/// A stream of `ms` milliseconds from the given numbers on, arriving 100 ms after it was spoken.
fn stream(ms: usize, ptime: usize, ssrc: u32, sequence: u16, timestamp: u32) -> Vec<InFlight> {
    let length = ptime * 8;
    (0..ms / ptime)
        .map(|n| {
            let spoken: Vec<f32> = (n * length..(n + 1) * length).map(voice).collect();
            let mut payload = vec![0; length];
            PCMU.encode(&spoken, &mut payload);
            InFlight {
                arrival_ms: 100.0 + (n * ptime) as f64,
                ssrc,
                sequence: sequence.wrapping_add(n as u16),
                timestamp: timestamp.wrapping_add((n * length) as u32),
                payload,
            }
        })
        .collect()
}

fn at(ms: f64) -> Time {
    Time::from_nanos((ms * 1e6) as u64)
}

struct Listener {
    playout: Playout,
    counters: Counters,
    heard: Vec<f32>,
    verdicts: Vec<Inserted>,
    /// The delay at each tick.
    delays: Vec<f32>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            playout: Playout::new(Decoder::new(PCMU)),
            counters: Counters::default(),
            heard: Vec::new(),
            verdicts: Vec::new(),
            delays: Vec::new(),
        }
    }
}

impl Listener {
    fn listen(&mut self, mut packets: Vec<InFlight>, until_ms: u64) {
        packets.sort_by(|a, b| a.arrival_ms.total_cmp(&b.arrival_ms));
        let mut packets = packets.into_iter().peekable();
        while (self.heard.len() as u64) < until_ms * 8 {
            let now_ms = self.heard.len() as f64 / 8.0;
            while let Some(p) = packets.next_if(|p| p.arrival_ms <= now_ms) {
                let InFlight { ssrc, sequence, timestamp, payload, .. } = &p;
                let packet =
                    AudioPacket { ssrc: *ssrc, sequence: *sequence, timestamp: *timestamp, codec: PCMU, payload };
                self.verdicts.push(self.playout.insert(at(p.arrival_ms), &packet));
            }
            let mut tick = [f32::NAN; TICK_SAMPLES];
            self.playout.pull(at(now_ms), &mut tick, &self.counters);
            self.heard.extend(tick);
            self.delays.push(self.counters.delay_ms.get());
        }
    }

    fn count(&self, verdict: Inserted) -> usize {
        self.verdicts.iter().filter(|&&v| v == verdict).count()
    }

    fn delay_at(&self, ms: usize) -> f32 {
        self.delays[ms / 5]
    }

    /// The steepest step between two samples that were heard.
    fn steepest(&self) -> f32 {
        self.heard.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
    }

    fn loudest(&self, from_ms: usize, to_ms: usize) -> f32 {
        self.heard[from_ms * 8..to_ms * 8].iter().map(|s| s.abs()).fold(0.0, f32::max)
    }
}

/// The steepest step in the voice itself, with the coarse steps of its codec.
fn steepest_of_voice() -> f32 {
    (0..80_000).map(|n| (voice(n + 1) - voice(n)).abs()).fold(0.0, f32::max) + 0.02
}

fn heard_after(packets: Vec<InFlight>, ms: u64) -> Listener {
    let mut listener = Listener::default();
    listener.listen(packets, ms);
    listener
}

/// Where the voice begins in what was heard, and how many of its samples from there on are exact.
fn exact_run(heard: &[f32], from: usize) -> usize {
    let mut decoded = [0.0];
    let begin = heard.iter().position(|s| s.abs() > 1e-4).unwrap_or(heard.len());
    // the first sample of the voice is zero
    heard[begin..]
        .iter()
        .enumerate()
        .take_while(|(n, s)| {
            let mut code = [0];
            PCMU.encode(&[voice(from + n + 1)], &mut code);
            PCMU.decode(&code, &mut decoded);
            *n < MERGE || **s == decoded[0]
        })
        .count()
}

#[test]
fn a_steady_stream_of_any_packet_size_is_heard_sample_by_sample() {
    for ptime in [5, 10, 20, 30, 40, 60, 80, 120] {
        // the delay finds its size in the silence before the voice
        let mut packets = stream(4_800, ptime, 1, 65_500, u32::MAX - 30_000);
        packets.iter_mut().take(3_600 / ptime).for_each(|p| p.payload.fill(0xFF));
        let listener = heard_after(packets, 4_800);
        let run = exact_run(&listener.heard, 3_600 * 8);
        assert!(run > 1_000 * 8, "{ptime} ms: {run} samples, case 28's wraps included");
        assert_eq!(listener.counters.snapshot().concealed_samples, 0, "{ptime} ms");
    }
}

#[test]
fn a_steady_stream_is_delayed_by_10_ms_once_that_is_known() {
    let listener = heard_after(stream(5_000, 20, 1, 0, 0), 5_000);
    assert!(listener.delay_at(200) >= 25.0, "careful at first: {}", listener.delay_at(200));
    assert!(listener.delay_at(4_900) <= 25.0, "{}", listener.delay_at(4_900));
    assert!(listener.steepest() < steepest_of_voice(), "and no click on the way");
}

/// While somebody speaks 15 ms more are not worth a cut; the first pause takes them away, and what is said next is whole.
#[test]
fn a_pause_brings_the_delay_within_5_ms_of_what_is_wanted() {
    let mut packets = stream(6_000, 20, 1, 0, 0);
    packets[150..200].iter_mut().for_each(|p| p.payload.fill(0xFF));
    let listener = heard_after(packets, 6_000);
    assert!(listener.delay_at(4_300) <= 15.1, "{}", listener.delay_at(4_300));
    assert_eq!(listener.delay_at(5_900), listener.delay_at(4_300));
    let run = exact_run(&listener.heard[4_050 * 8..], 4_000 * 8);
    assert!(run > 1_000 * 8, "{run}");
}

#[test]
fn reordered_and_duplicated_packets_are_put_right() {
    let mut packets = stream(3_000, 20, 1, 0, 0);
    for n in (3..packets.len() - 3).step_by(7) {
        packets[n].arrival_ms += 25.0; // overtaken by its successor
    }
    let mut doubles: Vec<_> = packets.iter().step_by(5).cloned().collect();
    doubles.iter_mut().for_each(|p| p.arrival_ms += 7.0);
    let number = doubles.len();
    packets.extend(doubles);
    let listener = heard_after(packets, 3_200);
    assert_eq!(listener.count(Inserted::Duplicate), number);
    assert_eq!(listener.count(Inserted::Late), 0);
    assert!(listener.steepest() < steepest_of_voice());
}

#[test]
fn losses_from_1_to_30_percent_are_concealed_without_clicks() {
    // case 30
    for percent in [1, 5, 10, 20, 30] {
        let mut random = fastrand::Rng::with_seed(percent);
        let mut packets = stream(10_000, 20, 1, 0, 0);
        packets.retain(|_| random.u64(0..100) >= percent);
        let lost = 500 - packets.len();
        let listener = heard_after(packets, 9_900);
        let stats = listener.counters.snapshot();
        let concealed_packets = stats.concealed_samples as f64 / 160.0;
        assert!(
            (concealed_packets - lost as f64).abs() < 8.0 + lost as f64 * 0.1,
            "{percent} %: {concealed_packets} of {lost}"
        );
        assert!(listener.steepest() < 2.0 * steepest_of_voice(), "{percent} %: {}", listener.steepest());
        assert!(
            listener.delay_at(9_800) < 45.0,
            "{percent} %: losses are no reason to wait: {}",
            listener.delay_at(9_800)
        );
    }
}

#[test]
fn a_burst_that_was_held_up_for_200_ms_is_heard_and_the_delay_comes_back() {
    // case 30
    let mut packets = stream(14_000, 20, 1, 0, 0);
    for packet in &mut packets[150..160] {
        packet.arrival_ms = 100.0 + 160.0 * 20.0;
    }
    let listener = heard_after(packets, 14_000);
    assert_eq!(listener.count(Inserted::Late), 0, "nothing is thrown away");
    assert!(listener.delay_at(3_400) > 150.0);
    assert!(listener.delay_at(13_200) <= 25.0, "{}", listener.delay_at(13_200));
    assert!(listener.steepest() < 2.0 * steepest_of_voice());
}

#[test]
fn jitter_of_300_ms_is_ridden_out_and_forgotten() {
    // case 30
    let mut random = fastrand::Rng::with_seed(7);
    let mut packets = stream(24_000, 20, 1, 0, 0);
    for packet in &mut packets[100..600] {
        packet.arrival_ms += random.f64() * 300.0;
    }
    let listener = heard_after(packets, 24_000);
    assert!(listener.delay_at(11_000) > 250.0, "{}", listener.delay_at(11_000));
    assert!(listener.delay_at(22_500) <= 30.0, "{}", listener.delay_at(22_500));
    assert!(listener.count(Inserted::Late) < 25, "{}", listener.count(Inserted::Late));
    assert!(listener.steepest() < 2.0 * steepest_of_voice(), "{}", listener.steepest());
}

#[test]
fn a_change_of_source_or_a_jump_of_its_numbers_costs_one_packet_and_makes_no_noise() {
    // case 28
    let second: [(&str, u32, u16, u32); 4] = [
        ("another SSRC", 2, 9, 77),
        ("a timestamp jump ahead", 1, 100, 100 * 160 + 800_000),
        ("a timestamp jump back", 1, 100, 4_000_000_000),
        ("a sequence jump", 1, 30_000, 16_000),
    ];
    for (what, ssrc, sequence, timestamp) in second {
        let mut packets = stream(2_000, 20, 1, 0, 0);
        packets.extend(stream(2_000, 20, ssrc, sequence, timestamp).into_iter().map(|mut p| {
            p.arrival_ms += 2_000.0;
            p
        }));
        let listener = heard_after(packets, 4_000);
        assert_eq!(listener.count(Inserted::Suspicious), 1, "{what}");
        assert_eq!(listener.count(Inserted::Restarted), 1, "{what}");
        assert!(listener.steepest() < 2.0 * steepest_of_voice(), "{what}: {}", listener.steepest());
        assert!(listener.loudest(0, 4_000) < 0.5, "{what}");
        assert!(listener.loudest(2_250, 2_400) > 0.2, "{what}: heard again");
    }
}

#[test]
fn single_strays_do_not_disturb() {
    let mut packets = stream(2_000, 20, 1, 0, 0);
    for n in (10..90).step_by(10) {
        let mut stray = packets[n].clone();
        (stray.ssrc, stray.sequence, stray.arrival_ms) = (99, n as u16, stray.arrival_ms + 1.0);
        packets.push(stray);
        let mut stray = packets[n].clone();
        (stray.timestamp, stray.sequence, stray.arrival_ms) = (1 << 30, 40_000 + n as u16, stray.arrival_ms + 2.0);
        packets.push(stray);
    }
    let listener = heard_after(packets, 2_000);
    assert_eq!(listener.count(Inserted::Suspicious), 16);
    assert_eq!(listener.counters.snapshot().concealed_samples, 0);
    assert!(listener.steepest() < steepest_of_voice());
}

#[test]
fn a_pause_of_the_sender_is_not_a_loss_and_keeps_its_length() {
    let mut packets = stream(6_000, 20, 1, 0, 0);
    packets.drain(100..200);
    for packet in &mut packets[100..] {
        packet.sequence -= 100; // silence suppression: the numbers go on, the time does too
    }
    let mut listener = Listener::default();
    listener.listen(packets, 6_000);
    assert!(listener.loudest(2_400, 3_900) < 0.01, "{}", listener.loudest(2_400, 3_900));
    assert!(listener.loudest(4_200, 4_400) > 0.1, "{}", listener.loudest(4_200, 4_400));
    assert!(listener.delay_at(5_900) <= 40.0, "{}", listener.delay_at(5_900));
    assert!(listener.steepest() < 2.0 * steepest_of_voice());
}

#[test]
fn comfort_noise_is_quiet_whatever_level_it_names() {
    // case 29
    for level in [0, 20, 60, 127] {
        let mut listener = Listener::default();
        listener.listen(stream(1_000, 20, 1, 0, 0), 1_060);
        listener.playout.comfort_noise(1, 50, level);
        listener.listen(Vec::new(), 2_000);
        assert!(listener.loudest(1_200, 2_000) < 0.01, "{level}");
        assert!(listener.counters.snapshot().concealed_samples <= 480, "the far end fell silent, nothing was lost");
    }
}

#[test]
fn clocks_that_differ_by_200_ppm_are_followed_without_clicks() {
    // case 47, ten minutes of it
    for ppm in [-200.0, 200.0] {
        let mut packets = stream(600_000, 20, 1, 0, 0);
        for packet in &mut packets {
            packet.arrival_ms *= 1.0 + ppm * 1e-6;
        }
        let listener = heard_after(packets, 599_000);
        let stats = listener.counters.snapshot();
        assert!(listener.delays[400..].iter().all(|&d| d < 45.0), "{ppm} ppm");
        assert!(stats.concealed_samples < 160, "{ppm} ppm: {}", stats.concealed_samples);
        assert!(listener.steepest() < 1.2 * steepest_of_voice(), "{ppm} ppm: {}", listener.steepest());
    }
}

#[test]
fn what_was_never_sent_is_silence() {
    let listener = heard_after(Vec::new(), 500);
    assert!(listener.heard.iter().all(|&s| s == 0.0));
    assert_eq!(listener.counters.snapshot().concealed_samples, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Cases 2 and 29: whatever arrives, every tick is filled with finite samples in range.
    #[test]
    fn no_sequence_of_packets_breaks_it(
        packets in prop::collection::vec(
            (0..3_000_u64, 0..3_u32, prop_oneof![0..60_u16, any::<u16>()], prop_oneof![0..60_u32, any::<u32>()], 0..700_usize),
            0..300,
        ),
    ) {
        let mut listener = Listener::default();
        let in_flight = packets.into_iter().map(|(ms, ssrc, sequence, timestamp, length)| InFlight {
            arrival_ms: ms as f64,
            ssrc,
            sequence,
            timestamp: timestamp.wrapping_mul(160),
            payload: (0..length).map(|n| n as u8).collect(),
        });
        listener.listen(in_flight.collect(), 3_500);
        prop_assert!(listener.heard.iter().all(|s| s.is_finite() && s.abs() <= 1.2));
    }

    /// Case 30: loss, jitter, reordering and duplicates at once.
    #[test]
    fn any_mixture_of_faults_leaves_the_voice_and_bounds_the_delay(
        seed: u64, loss in 0..30_u32, jitter in 0.0..120.0_f64, doubled in 0..20_u32,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut packets = Vec::new();
        for mut packet in stream(6_000, 20, 1, 60_000, u32::MAX - 9_000) {
            packet.arrival_ms += random.f64() * jitter;
            if random.u32(0..100) >= loss {
                if random.u32(0..100) < doubled {
                    packets.push(packet.clone());
                }
                packets.push(packet);
            }
        }
        let listener = heard_after(packets, 6_000);
        prop_assert!(listener.delays.iter().all(|&d| f64::from(d) < 2.5 * jitter + 160.0));
        prop_assert!(listener.loudest(0, 6_000) < 0.6);
        let energy: f32 = listener.heard[8_000..40_000].iter().map(|s| s * s).sum::<f32>() / 32_000.0;
        prop_assert!(energy > 0.005, "{energy}");
    }
}

#[test]
fn weeks_of_uptime_do_not_cost_precision() {
    // timestamps and times far from zero keep their precision
    let mut listener = Listener::default();
    let start = Time::ZERO + Duration::from_secs(40 * 86_400);
    for n in 0..500_u64 {
        let arrival = start + Duration::from_millis(n * 20);
        let payload = [0x80 | (n % 128) as u8; 160];
        let packet =
            AudioPacket { ssrc: 1, sequence: n as u16, timestamp: (n * 160) as u32, codec: PCMU, payload: &payload };
        assert_eq!(listener.playout.insert(arrival, &packet), Inserted::Accepted);
        for tick in 0..4 {
            let mut out = [0.0; TICK_SAMPLES];
            listener.playout.pull(arrival + Duration::from_millis(tick * 5), &mut out, &listener.counters);
        }
    }
    assert!(listener.counters.delay_ms.get() <= 30.0, "{}", listener.counters.delay_ms.get());
}
