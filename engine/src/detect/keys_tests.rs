//! Each parameter of the table with margins, at every key, wherever the ticks fall, through both laws.

use super::*;
use crate::Codec;
use crate::noise::Noise;

#[derive(Debug, Clone, Copy)]
struct Press {
    low: f32,
    high: f32,
    on_ms: f32,
    off_ms: f32,
    /// Of the stronger tone, in dBm0.
    level_dbm0: f32,
    /// Low above high, in dB.
    twist_db: f32,
    /// Noise below the key, in dB.
    noise_db: f32,
    /// Samples before the first key.
    lead: usize,
    count: usize,
}

impl Press {
    fn new(key: char) -> Self {
        let at = KEY_PAD.iter().flatten().position(|k| *k == key).unwrap();
        Self {
            low: LOW_HZ[at / 4],
            high: HIGH_HZ[at % 4],
            on_ms: 40.0,
            off_ms: 50.0,
            level_dbm0: -10.0,
            twist_db: 0.0,
            noise_db: 60.0,
            lead: 400,
            count: 5,
        }
    }

    fn samples(&self) -> Vec<f32> {
        let (on, off) = ((self.on_ms * 8.0) as usize, (self.off_ms * 8.0) as usize);
        let full = full_scale_amplitude(self.level_dbm0);
        let weak = full * 10_f32.powf(-self.twist_db.abs() / 20.0);
        let (a, b) = if self.twist_db >= 0.0 { (full, weak) } else { (weak, full) };
        let noise = ((a * a + b * b) / 2.0).sqrt() * 10_f32.powf(-self.noise_db / 20.0);
        let mut random = Noise::new(self.lead as u32 + 7);
        let mut all: Vec<f32> = Vec::new();
        let total = self.lead + self.count * (on + off) + 1_200;
        for n in 0..total {
            let within = n.checked_sub(self.lead).map(|n| (n / (on + off), n % (on + off)));
            let sounds = within.is_some_and(|(number, at)| number < self.count && at < on);
            let seconds = n as f32 / 8_000.0;
            let key = a * (TAU * self.low * seconds).sin() + b * (TAU * self.high * seconds + 1.0).sin();
            all.push(random.sample_at(noise) + if sounds { key } else { 0.0 });
        }
        all
    }

    fn heard(&self) -> String {
        heard(&self.samples())
    }
}

fn through(codec: Codec, samples: &[f32]) -> Vec<f32> {
    let mut codes = vec![0; samples.len()];
    let mut back = vec![0.0; samples.len()];
    codec.encode(samples, &mut codes);
    codec.decode(&codes, &mut back);
    back
}

fn heard(samples: &[f32]) -> String {
    let mut detector = KeyDetector::default();
    let samples = through(Codec::Pcmu, samples);
    samples.as_chunks().0.iter().filter_map(|tick| detector.push(tick)).map(|heard| heard.digit).collect()
}

const KEYS: &str = "1234567890*#ABCD";

/// Every key, at offsets that are no multiples of a tick.
fn each(change: impl Fn(Press) -> Press, expected: impl Fn(char) -> String) {
    for key in KEYS.chars() {
        for lead in [400, 409, 421, 433] {
            let press = change(Press { lead, ..Press::new(key) });
            assert_eq!(press.heard(), expected(key), "{key}: {press:?}");
        }
    }
}

fn five(key: char) -> String {
    key.to_string().repeat(5)
}

fn none(_: char) -> String {
    String::new()
}

#[test]
fn keys_of_40_ms_with_50_ms_between_are_heard_one_by_one() {
    each(|press| press, five);
    each(|press| Press { off_ms: 40.0, ..press }, five);
    each(|press| Press { on_ms: 500.0, count: 5, ..press }, five);
}

#[test]
fn bursts_below_20_ms_are_no_keys() {
    each(|press| Press { on_ms: 20.0, ..press }, none);
    each(|press| Press { on_ms: 12.0, off_ms: 12.0, count: 20, ..press }, none);
}

#[test]
fn a_gap_of_10_ms_makes_no_second_key() {
    each(|press| Press { on_ms: 60.0, off_ms: 10.0, count: 2, ..press }, |key| key.to_string());
}

#[test]
fn frequencies_within_one_and_a_half_percent_are_taken_and_beyond_three_and_a_half_are_not() {
    for (a, b) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
        let off = |press: Press, share: f32, hz: f32| Press {
            low: press.low * (1.0 + a * share) + a * hz,
            high: press.high * (1.0 + b * share) + b * hz,
            ..press
        };
        each(|press| off(press, 0.015, 2.0), five);
        each(|press| off(press, 0.015, 0.0), five);
        each(|press| off(press, 0.035, 0.0), none);
    }
    // one tone alone beyond the limit is enough
    for share in [-0.035, 0.035] {
        each(|press| Press { low: press.low * (1.0 + share), ..press }, none);
        each(|press| Press { high: press.high * (1.0 + share), ..press }, none);
    }
}

#[test]
fn frequency_limits_hold_in_noise() {
    for side in [-1.0, 1.0] {
        let off = |press: Press, share: f32| Press {
            low: press.low * (1.0 + side * share),
            high: press.high * (1.0 - side * share),
            noise_db: 20.0,
            ..press
        };
        each(|press| off(press, 0.015), five);
        each(|press| off(press, 0.035), none);
    }
}

#[test]
fn twist_of_8_and_4_db_is_taken_and_far_more_is_not() {
    each(|press| Press { twist_db: 8.0, ..press }, five);
    each(|press| Press { twist_db: -4.0, ..press }, five);
    each(|press| Press { twist_db: 14.0, ..press }, none);
    each(|press| Press { twist_db: -10.0, ..press }, none);
}

#[test]
fn noise_15_db_below_does_not_hide_a_key_and_does_not_make_one() {
    each(|press| Press { noise_db: 15.0, ..press }, five);
    each(|press| Press { noise_db: 15.0, twist_db: 8.0, ..press }, five);
    each(|press| Press { noise_db: 15.0, twist_db: -4.0, ..press }, five);
    each(|press| Press { noise_db: 3.0, ..press }, none);
    let mut random = Noise::new(1);
    let noise: Vec<f32> = (0..8_000 * 60).map(|_| random.sample_at(0.2)).collect();
    assert_eq!(heard(&noise), "");
}

#[test]
fn levels_from_the_faintest_to_the_loudest_are_heard() {
    for level_dbm0 in [-36.0, -30.0, -20.0, -10.0, -5.0, -3.0, 0.0] {
        each(|press| Press { level_dbm0, ..press }, five);
    }
    each(|press| Press { level_dbm0: -48.0, ..press }, none);
}

#[test]
fn both_laws_and_their_worst_level_pass_keys() {
    let press = Press { level_dbm0: -36.0, twist_db: 4.0, ..Press::new('5') };
    let mut detector = KeyDetector::default();
    let keys: String = through(Codec::Pcma, &press.samples())
        .as_chunks()
        .0
        .iter()
        .filter_map(|t| detector.push(t))
        .map(|h| h.digit)
        .collect();
    assert_eq!(keys, "55555");
}

#[test]
fn the_duration_is_told_within_10_ms() {
    for on_ms in [40.0, 80.0, 200.0, 1_000.0] {
        let press = Press { on_ms, off_ms: 100.0, count: 1, ..Press::new('#') };
        let mut detector = KeyDetector::default();
        let heard = press.samples().as_chunks().0.iter().find_map(|tick| detector.push(tick)).unwrap();
        assert!((heard.duration.as_secs_f32() * 1_000.0 - on_ms).abs() <= 10.0, "{on_ms}: {:?}", heard.duration);
    }
}

#[test]
fn one_key_right_after_another_makes_two() {
    let mut samples = Press { count: 1, on_ms: 100.0, off_ms: 0.0, ..Press::new('1') }.samples();
    samples.truncate(400 + 800);
    samples.extend(&Press { count: 1, on_ms: 100.0, lead: 0, ..Press::new('9') }.samples());
    assert_eq!(heard(&samples), "19");
}

#[test]
fn single_tones_and_the_networks_own_are_no_keys() {
    let tones: [&[f32]; 9] = [
        &[425.0],
        &[350.0, 440.0],
        &[440.0, 480.0],
        &[480.0, 620.0],
        &[400.0, 450.0],
        &[950.0],
        &[1_400.0],
        &[2_100.0],
        &[697.0],
    ];
    for tone in tones {
        let samples: Vec<f32> =
            (0..16_000).map(|n| tone.iter().map(|hz| 0.2 * (TAU * hz * n as f32 / 8_000.0).sin()).sum()).collect();
        assert_eq!(heard(&samples), "", "{tone:?}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_that_comes_makes_it_panic(samples in proptest::collection::vec(proptest::num::f32::ANY, 0..2_000)) {
        let mut detector = KeyDetector::default();
        for tick in samples.as_chunks().0 {
            let _ = detector.push(tick);
        }
    }
}
