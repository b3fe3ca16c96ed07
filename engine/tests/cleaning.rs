//! What the ears hear, made better: each part by its figures, all of them under abuse, and the echo of a whole call.

#[path = "support/speech.rs"]
mod speech;

use mr_sip_engine::Codec;
use mr_sip_engine::clean::{CleanConfig, Cleaner};
use proptest::prelude::*;
use speech::{echo_of, echo_path, level_db, noise, power, speech};

const ECHO: CleanConfig = CleanConfig { echo: true, ..CleanConfig::OFF };
const AGC: CleanConfig = CleanConfig { agc: true, ..CleanConfig::OFF };
const NOISE: CleanConfig = CleanConfig { noise: true, ..CleanConfig::OFF };
const ALL: CleanConfig = CleanConfig { dc: true, agc: true, noise: true, echo: true };
const SECOND: usize = 8_000;

/// Cleans a call: what is sent goes out in packets of 20 ms, what is heard comes in ticks of 5.
fn clean(cleaner: &mut Cleaner, heard: &[f32], sent: &[f32]) -> Vec<f32> {
    let mut cleaned = Vec::with_capacity(heard.len());
    for (packet, heard) in heard.chunks(160).enumerate() {
        for tick in heard.chunks(40) {
            cleaner.process(tick, |block| cleaned.extend_from_slice(block));
        }
        cleaner.sent(sent.get(packet * 160..packet * 160 + 160).unwrap_or(&[0.0; 160]));
    }
    cleaned
}

/// What a line makes of samples: G.711.
fn through_g711(samples: &[f32]) -> Vec<f32> {
    let (mut bytes, mut heard) = (vec![0; samples.len()], vec![0.0; samples.len()]);
    Codec::Pcmu.encode(samples, &mut bytes);
    Codec::Pcmu.decode(&bytes, &mut heard);
    heard
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

#[test]
fn a_constant_offset_is_gone_within_a_fifth_of_a_second_and_speech_is_not() {
    let mut cleaner = Cleaner::new(CleanConfig { dc: true, ..CleanConfig::OFF });
    let said = speech(4.0, -26.0, 110.0, 1);
    let heard: Vec<f32> = said.iter().map(|sample| sample + 0.1).collect();
    let cleaned = clean(&mut cleaner, &heard, &[]);
    let offset = cleaned[1_600..].iter().sum::<f32>() / (cleaned.len() - 1_600) as f32;
    assert!(offset.abs() < 1e-3, "{offset}");
    assert!((level_db(&cleaned[1_600..]) - level_db(&said[1_600..])).abs() < 0.5);
}

#[test]
fn speech_of_any_level_comes_out_at_the_same_and_the_noise_of_the_line_is_not_raised() {
    for level in [-45.0, -36.0, -23.0, -10.0] {
        let said = speech(12.0, level, 120.0, 2);
        let heard = sum(&said, &noise(said.len(), -70.0, 3));
        let cleaned = clean(&mut Cleaner::new(AGC), &heard, &[]);
        let spoken = level_db(&cleaned[6 * SECOND..]);
        assert!((-27.0..-19.0).contains(&spoken), "{level} became {spoken}");
        assert!(cleaned.iter().all(|sample| sample.abs() <= 0.89));
    }
    // a line with nothing but noise, before and after somebody has spoken quietly
    for level in [-70.0, -55.0, -40.0] {
        let line = noise(10 * SECOND, level, 4);
        let cleaned = clean(&mut Cleaner::new(AGC), &line, &[]);
        assert!((level_db(&cleaned) - level).abs() < 1.0, "noise at {level} became {}", level_db(&cleaned));
    }
    let mut cleaner = Cleaner::new(AGC);
    let _ = clean(&mut cleaner, &sum(&speech(6.0, -42.0, 120.0, 5), &noise(6 * SECOND, -65.0, 6)), &[]);
    let after = clean(&mut cleaner, &noise(20 * SECOND, -65.0, 7), &[]);
    let (soon, late) = (level_db(&after[..SECOND]), level_db(&after[19 * SECOND..]));
    assert!(soon < -49.0 && (soon - late).abs() < 1.0, "the gain holds still in pauses: {soon} {late}");
}

#[test]
fn noise_is_suppressed_and_speech_stays() {
    let said = speech(16.0, -26.0, 120.0, 8);
    for (snr, most_change) in [(0.0, 6.0), (10.0, 3.0), (20.0, 1.5)] {
        let hiss = noise(said.len(), -26.0 - snr, 9);
        let heard = sum(&said, &hiss);
        let cleaned = clean(&mut Cleaner::new(NOISE), &heard, &[]);
        // 96 samples of overlap and a block of waiting
        let aligned = &cleaned[176..];
        let from = 8 * SECOND;
        let quiet: Vec<usize> =
            (from..aligned.len() - 800).step_by(80).filter(|&n| power(&said[n - 800..n + 880]) == 0.0).collect();
        let left: f32 = quiet.iter().map(|&n| power(&aligned[n..n + 80])).sum::<f32>() / quiet.len() as f32;
        let reduction = level_db(&hiss) - 10.0 * left.log10();
        assert!(reduction > 12.0, "{snr} dB: noise in pauses is {reduction:.1} dB less");
        let spoken = level_db(&aligned[from..]) - level_db(&said[from..aligned.len()]);
        assert!(spoken.abs() < most_change, "{snr} dB: speech is {spoken:.1} dB louder");
    }
}

/// ERLE in dB of each second.
fn erle(heard: &[f32], cleaned: &[f32]) -> Vec<f32> {
    heard.chunks(SECOND).zip(cleaned.chunks(SECOND)).map(|(before, after)| level_db(before) - level_db(after)).collect()
}

#[test]
fn echoes_of_hybrids_and_rooms_are_taken_away_by_more_than_20_db() {
    let sent = speech(10.0, -22.0, 110.0, 10);
    for (delay_ms, tail_ms, gain_db) in [
        (40.0, 16.0, -10.0),
        (100.0, 24.0, -10.0),
        (300.0, 32.0, -6.0),
        (300.0, 24.0, -20.0),
        (80.0, 64.0, -10.0),
        (120.0, 256.0, -12.0),
    ] {
        let echo = echo_of(&sent, &echo_path(delay_ms, tail_ms, gain_db, 11));
        let heard = through_g711(&echo);
        let cleaned = clean(&mut Cleaner::new(ECHO), &heard, &sent);
        let erle = erle(&heard, &cleaned);
        let worst = erle[3..].iter().copied().fold(f32::INFINITY, f32::min);
        assert!(worst > 20.0, "{delay_ms} ms, {tail_ms} ms long, {gain_db} dB: {erle:.0?}");
    }
}

#[test]
fn what_a_caller_says_while_the_agent_speaks_survives() {
    let sent = speech(16.0, -22.0, 110.0, 12);
    let echo = echo_of(&sent, &echo_path(100.0, 24.0, -10.0, 13));
    let mut said = vec![0.0; 6 * SECOND];
    said.extend(speech(10.0, -26.0, 210.0, 14));
    let cleaned = clean(&mut Cleaner::new(ECHO), &through_g711(&sum(&echo, &said)), &sent);
    let segmental_snr = |cleaned: &[f32]| {
        let segments: Vec<f32> = (7 * SECOND..15 * SECOND)
            .step_by(160)
            .filter(|&n| level_db(&said[n..n + 160]) > -45.0)
            .map(|n| {
                let wrong: Vec<f32> = (n..n + 160).map(|n| cleaned[n] - said[n]).collect();
                (level_db(&said[n..n + 160]) - level_db(&wrong)).clamp(-10.0, 35.0)
            })
            .collect();
        segments.iter().sum::<f32>() / segments.len() as f32
    };
    let (before, after) = (segmental_snr(&sum(&echo, &said)), segmental_snr(&cleaned));
    assert!(after > before + 6.0 && after > 12.0, "segmental SNR {before:.1} dB became {after:.1}");
}

#[test]
fn a_path_that_jumps_is_learnt_anew() {
    let sent = speech(18.0, -22.0, 110.0, 15);
    let paths = [100.0, 107.5, 140.0].map(|ms| echo_of(&sent, &echo_path(ms, 24.0, -10.0, 16)));
    let echo: Vec<f32> = (0..sent.len()).map(|n| paths[n / (6 * SECOND)][n]).collect();
    let heard = through_g711(&echo);
    let erle = erle(&heard, &clean(&mut Cleaner::new(ECHO), &heard, &sent));
    assert!([4, 5, 9, 10, 11, 15, 16, 17].iter().all(|&second| erle[second] > 20.0), "{erle:.0?}");
}

#[test]
fn a_caller_without_an_echo_is_left_alone() {
    let (sent, said) = (speech(12.0, -20.0, 110.0, 17), speech(12.0, -30.0, 210.0, 18));
    let heard = through_g711(&said);
    let cleaned = clean(&mut Cleaner::new(ECHO), &heard, &sent);
    let late = 5 * SECOND..cleaned.len();
    let wrong: Vec<f32> = late.clone().map(|n| cleaned[n] - heard[n]).collect();
    let snr = level_db(&heard[late]) - level_db(&wrong);
    assert!(snr > 20.0, "{snr:.1} dB");
}

#[test]
fn switching_parts_in_mid_call_loses_no_sample_and_nothing_that_was_learnt() {
    let sent = speech(8.0, -22.0, 110.0, 19);
    let heard = through_g711(&echo_of(&sent, &echo_path(100.0, 24.0, -10.0, 20)));
    let mut cleaner = Cleaner::new(ECHO);
    let half = 4 * SECOND;
    let mut cleaned = clean(&mut cleaner, &heard[..half], &sent);
    let mut next = Cleaner::new(CleanConfig { dc: true, ..ECHO });
    next.take_over(&mut cleaner);
    cleaned.extend(clean(&mut next, &heard[half..], &sent[half..]));
    assert_eq!(cleaned.len(), heard.len());
    let erle = erle(&heard, &cleaned);
    assert!(erle[4..].iter().all(|&db| db > 20.0), "{erle:.0?}");
    let mut taken = 0;
    next.process(&[0.1; 70], |block| taken += block.len());
    assert_eq!((taken, next.rest().len(), next.rest().len()), (0, 70, 0));
}

/// What can come of either side.
fn any_signal() -> impl Strategy<Value = (u8, u64)> {
    (0..7_u8, any::<u64>())
}

fn signal(kind: u8, seed: u64, count: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count)
        .map(|n| match kind {
            0 => 0.0,
            1 => random.f32() * 2.0 - 1.0,
            2 => (n as f32 * 0.3).sin(),
            3 => f32::from_bits(random.u32(..)),
            4 => 1.0 - 2.0 * ((n / 100) % 2) as f32,
            5 => 1e-38 * random.f32(),
            _ => 0.01 * (random.f32() - 0.5),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    /// Whatever is heard and sent, and however the two go together: what comes out is finite, bounded, and as long.
    #[test]
    fn nothing_diverges(parts in prop::collection::vec((any_signal(), any_signal(), 0..700_usize), 1..8)) {
        let mut cleaner = Cleaner::new(ALL);
        let (mut put_in, mut came_out) = (0, 0);
        for ((heard, seed), (sent, other), delay) in parts {
            let sent = signal(sent, other, SECOND);
            let mut heard = signal(heard, seed, SECOND);
            for n in delay..SECOND {
                heard[n] += 0.5 * sent[n - delay]; // an echo, too
            }
            put_in += heard.len();
            let cleaned = clean(&mut cleaner, &heard, &sent);
            prop_assert!(cleaned.iter().all(|sample| sample.is_finite() && sample.abs() <= 1.0));
            came_out += cleaned.len();
        }
        prop_assert_eq!(came_out + cleaner.rest().len(), put_in);
    }
}
