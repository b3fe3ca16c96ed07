//! Two virtual clocks, a media thread that ticks every 5 ms and a sound server with a period of its own.

use super::*;
use rubato::PolynomialDegree;
use std::f64::consts::TAU;

const BLOCK: usize = 40;
const MARGIN: u32 = 32;
/// For [`Line::jitter_us`]: see [`Line::lateness`].
const REALISTIC: u64 = u64::MAX;

/// Both directions of a call, the ports patched into each other, on virtual time.
struct Line {
    rate_hz: u32,
    period: usize,
    /// How much faster than nominal the port's clock runs.
    drift: f64,
    to_port: (WireWriter, PortReader),
    from_port: (PortWriter, WireReader),
    blocks: u64,
    periods: u64,
    /// Wake-up jitter of both threads, in microseconds.
    jitter_us: u64,
    random: fastrand::Rng,
    port: Vec<f32>,
    sent: u64,
    heard: Vec<f32>,
    /// `None`: what is heard is kept in `heard`. Else only counted, with the range that it is in after the first second.
    counted: Option<(u64, [f32; 2])>,
    running_since: Option<u64>,
}

impl Line {
    fn new(rate_hz: u32, period: usize, drift_ppm: f64) -> Self {
        Self {
            rate_hz,
            period,
            drift: 1.0 + drift_ppm / 1e6,
            to_port: to_port(rate_hz, MARGIN).unwrap(),
            from_port: from_port(rate_hz, MARGIN).unwrap(),
            blocks: 0,
            periods: 0,
            jitter_us: 0,
            random: fastrand::Rng::with_seed(7),
            port: vec![0.0; period],
            sent: 0,
            heard: Vec::new(),
            counted: None,
            running_since: None,
        }
    }

    /// For hours: what is heard is not kept, and the filters are the cheapest there are. Which samples are taken and given
    /// depends on the ratio alone, so for that they are as good as the real ones.
    fn for_hours(rate_hz: u32, period: usize, drift_ppm: f64) -> Self {
        let cheap =
            |ratio, fixed| Async::new_poly(ratio, RATIO_RANGE, PolynomialDegree::Nearest, PIECE, 1, fixed).unwrap();
        let mut line = Self::new(rate_hz, period, drift_ppm);
        let ratio = f64::from(rate_hz) / f64::from(WIRE_HZ);
        line.to_port.1.filter = cheap(ratio, FixedAsync::Output);
        line.from_port.0.filter = cheap(1.0 / ratio, FixedAsync::Input);
        line.counted = Some((0, [f32::MAX, f32::MIN]));
        line
    }

    /// How late a thread wakes up, in microseconds: a few hundredths of a millisecond mostly, a few tenths in one of a hundred
    /// times, and in one of ten thousand a stall of up to 3 ms, as on the machines that this was measured on.
    fn lateness(&mut self) -> u64 {
        match (self.jitter_us, self.random.u32(0..10_000)) {
            (0, _) => 0,
            (REALISTIC, 0) => self.random.u64(0..3_000),
            (REALISTIC, 1..100) => self.random.u64(60..350),
            (REALISTIC, _) => self.random.u64(7..60),
            (limit, _) => self.random.u64(0..limit),
        }
    }

    fn hear(&mut self, block: &[f32]) {
        let Some((count, [least, most])) = &mut self.counted else { return self.heard.extend_from_slice(block) };
        *count += block.len() as u64;
        if *count > 8_000 {
            *least = block.iter().copied().fold(*least, f32::min);
            *most = block.iter().copied().fold(*most, f32::max);
        }
    }

    fn next_block_us(&self) -> u64 {
        1_000_000 + self.blocks * 5_000
    }

    fn next_period_us(&self) -> u64 {
        let frames = self.periods as f64 * self.period as f64;
        1_003_300 + (frames / (f64::from(self.rate_hz) * self.drift) * 1e6) as u64
    }

    /// Runs until `seconds` of virtual time have passed; `signal` makes the sample with the given number.
    fn run(&mut self, seconds: f64, signal: impl Fn(u64) -> f32, mut look: impl FnMut(&Self)) {
        let end = self.next_block_us() + (seconds * 1e6) as u64;
        while self.next_block_us() < end {
            let late = self.lateness();
            if self.next_block_us() <= self.next_period_us() {
                let now = self.next_block_us() + late;
                let block: [f32; BLOCK] = std::array::from_fn(|n| signal(self.sent + n as u64));
                assert_eq!(self.to_port.0.write(now, &block), BLOCK);
                self.sent += BLOCK as u64;
                let mut out = [0.0; BLOCK];
                if self.from_port.1.read(now, &mut out) {
                    self.running_since.get_or_insert(self.blocks);
                    self.hear(&out);
                }
                self.blocks += 1;
            } else {
                let now = self.next_period_us() + late;
                let mut period = std::mem::take(&mut self.port);
                self.to_port.1.read(now, &mut period);
                self.from_port.0.write(now, &period);
                self.port = period;
                self.periods += 1;
                look(self);
            }
        }
    }

    fn stats(&self) -> [CrossingStats; 2] {
        [self.to_port.0.stats(), self.from_port.1.stats()]
    }
}

const PORTS: [(u32, usize); 8] = [
    (8_000, 80),
    (8_000, 160),
    (16_000, 128),
    (44_100, 256),
    (48_000, 64),
    (48_000, 256),
    (48_000, 1_024),
    (96_000, 512),
];

fn tone(n: u64) -> f32 {
    (0.5 * (TAU * 440.0 * n as f64 / 8_000.0).sin()) as f32
}

/// Largest second difference that a 440 Hz tone of amplitude 0.5 can have at 8 kHz, with a tenth to spare.
const SMOOTHEST: f32 = 0.5 * 0.1194 * 1.1;

fn roughness(samples: &[f32]) -> f32 {
    samples.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max)
}

#[test]
fn ten_minutes_of_drift_leave_the_fill_at_its_set_point_and_lose_nothing() {
    for (rate, period, ppm) in [(8_000, 160, 200.0), (48_000, 128, -200.0), (44_100, 1_024, 200.0)] {
        let mut line = Line::new(rate, period, ppm);
        line.jitter_us = 500;
        let mut worst = 0.0f32;
        line.run(
            600.0,
            |_| 0.25,
            |line| {
                for stats in line.stats() {
                    if stats.fill != 0.0 {
                        worst = worst.max((stats.fill - stats.set_point).abs());
                    }
                }
            },
        );
        assert!(worst < 40.0, "{rate}/{period} {ppm} ppm: {:.1} ms off the set point", worst / 8.0);
        for stats in line.stats() {
            assert_eq!((stats.dry, stats.discarded), (0, 0), "{rate}/{period} {ppm} ppm: {stats:?}");
        }
        // A port that runs fast empties the ring: the crossing must feed it with less than nominal.
        let [steered, _] = line.stats();
        assert!((f64::from(steered.ppm) + ppm).abs() < 120.0, "{rate}/{period} {ppm} ppm: {steered:?}");
        let settled = &line.heard[800..];
        assert!(settled.iter().all(|s| (s - 0.25).abs() < 0.005), "{rate}/{period}: a gap or a jump");
    }
}

#[test]
fn three_hours_of_any_drift_leave_the_fill_within_5_ms_of_its_set_point_and_lose_no_sample() {
    const HOURS: f64 = 3.0;
    for (rate, period, ppm) in [
        (48_000, 256, 100.0),
        (48_000, 128, -100.0),
        (44_100, 1_024, 300.0),
        (48_000, 64, -300.0),
        (8_000, 80, 300.0),
        (96_000, 512, -300.0),
    ] {
        let mut line = Line::for_hours(rate, period, ppm);
        line.jitter_us = REALISTIC;
        let mut worst = 0.0f32;
        line.run(
            HOURS * 3_600.0,
            |_| 0.25,
            |line| {
                for stats in line.stats() {
                    if stats.fill != 0.0 {
                        worst = worst.max((stats.fill - stats.set_point).abs());
                    }
                }
            },
        );
        println!("{rate}/{period} {ppm:+} ppm: at most {:.2} ms off the set point, {:?}", worst / 8.0, line.stats());
        assert!(worst < 5.0 * 8.0, "{rate}/{period} {ppm} ppm: {:.2} ms off the set point", worst / 8.0);
        for stats in line.stats() {
            assert_eq!((stats.dry, stats.discarded, stats.missing), (0, 0, 0), "{rate}/{period} {ppm} ppm: {stats:?}");
        }
        let (heard, [least, most]) = line.counted.unwrap();
        assert!(least > 0.249 && most < 0.251, "{rate}/{period} {ppm} ppm: a gap or a jump: {least} to {most}");
        // what went in came out, but for what is on its way and the silence before the crossings had begun
        let on_its_way = line.to_port.0.delay() + line.from_port.1.delay();
        let missing = line.sent - heard;
        assert!(
            missing < u64::from(on_its_way) + 800,
            "{rate}/{period} {ppm} ppm: {missing}, {on_its_way} on their way"
        );
    }
}

#[test]
fn a_tone_goes_through_any_rate_and_period_without_a_gap_or_a_click() {
    for (rate, period) in PORTS {
        for ppm in [-200.0, 0.0, 200.0] {
            let mut line = Line::new(rate, period, ppm);
            line.jitter_us = 1_000;
            line.run(20.0, tone, |_| ());
            let settled = &line.heard[2_000..];
            assert!(settled.len() > 150_000, "{rate}/{period}: {} samples heard", settled.len());
            let rough = roughness(settled);
            assert!(rough < SMOOTHEST, "{rate}/{period} {ppm} ppm: second difference {rough}");
            for cycle in settled.chunks(40) {
                let peak = cycle.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                assert!(peak > 0.45 && peak < 0.52, "{rate}/{period} {ppm} ppm: peak {peak}");
            }
        }
    }
}

#[test]
fn the_delay_is_known_to_a_millisecond_and_is_small() {
    for (rate, period) in PORTS {
        let mut line = Line::new(rate, period, 0.0);
        line.run(3.0, |_| 0.0, |_| ());
        let said = line.to_port.0.delay() + line.from_port.1.delay();
        let (at, heard_before) = (line.sent + 8, line.heard.len());
        line.run(1.0, |n| if n == at { 1.0 } else { 0.0 }, |_| ());
        let peak = (heard_before..line.heard.len()).max_by(|a, b| line.heard[*a].total_cmp(&line.heard[*b])).unwrap();
        let measured = (peak - heard_before) as f64 - 8.0;
        let need = period as f64 * 8_000.0 / f64::from(rate);
        println!("{rate}/{period}: {:.1} ms, said {:.1} ms", measured / 8.0, f64::from(said) / 8.0);
        assert!((measured - f64::from(said)).abs() < 8.0 + need, "{rate}/{period}: measured {measured}, said {said}");
        assert!(measured < 2.0 * (need + 32.0 + 24.0) + 40.0, "{rate}/{period}: {measured} samples");
    }
}

#[test]
fn the_telephone_band_is_flat_and_what_is_above_does_not_fold_back() {
    let level = |hz: f64, rate: u32| {
        let (mut writer, mut reader) = from_port(rate, MARGIN).unwrap();
        let mut heard = Vec::new();
        for period in 0..1_000u64 {
            let now = 1_000_000 + period * 10_000;
            let frames = rate as usize / 100;
            let block: Vec<f32> = (0..frames)
                .map(|n| (TAU * hz * (period as usize * frames + n) as f64 / f64::from(rate)).sin() as f32)
                .collect();
            writer.write(now, &block);
            for half in 0..2 {
                let mut out = [0.0; BLOCK];
                if reader.read(now + half * 5_000, &mut out) {
                    heard.extend_from_slice(&out);
                }
            }
        }
        let settled = &heard[4_000..heard.len() - 400];
        let power = settled.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / settled.len() as f64;
        10.0 * (2.0 * power).max(1e-30).log10()
    };
    for rate in [44_100, 48_000] {
        for hz in [100.0, 1_000.0, 2_000.0, 3_000.0, 3_400.0] {
            let db = level(hz, rate);
            assert!(db.abs() < 1.0, "{rate}: {hz} Hz at {db:.2} dB");
        }
        for hz in [4_800.0, 5_500.0, 7_000.0, 11_000.0, 15_900.0] {
            let db = level(hz, rate);
            assert!(db < -55.0, "{rate}: {hz} Hz folds back at {db:.1} dB");
        }
    }
}

#[test]
fn a_stall_is_heard_once_and_the_margin_grows_for_the_next() {
    let mut line = Line::new(48_000, 256, 0.0);
    line.run(2.0, tone, |_| ());
    line.blocks += 6; // the media thread sleeps for 30 ms
    while line.next_period_us() < line.next_block_us() {
        let now = line.next_period_us();
        let mut period = std::mem::take(&mut line.port);
        line.to_port.1.read(now, &mut period);
        line.from_port.0.write(now, &period);
        line.port = period;
        line.periods += 1;
    }
    let before = line.to_port.0.stats();
    assert_eq!(before.dry, 1, "the port side ran dry once");
    line.heard.clear();
    line.run(20.0, tone, |_| ());
    let after = line.to_port.0.stats();
    assert_eq!(after.dry, 1);
    // A step more than at first, less the ten samples that twenty seconds take back.
    assert!((after.set_point - (40.0 + 32.0 + 43.0 + 32.0 - 10.0)).abs() <= 2.0, "{before:?} {after:?}");
    line.run(60.0, tone, |_| ());
    assert_eq!(line.to_port.0.stats().set_point, 40.0 + 32.0 + 43.0, "forgotten after a minute");
    assert!(roughness(&line.heard[4_000..]) < SMOOTHEST);
}

#[test]
fn a_surplus_after_a_stalled_server_is_crossfaded_away() {
    let mut line = Line::new(48_000, 256, 0.0);
    line.run(2.0, tone, |_| ());
    line.periods += 20; // the server misses 107 ms, so the wire runs dry and the port has a surplus
    line.run(0.3, tone, |_| ());
    line.heard.clear();
    line.run(20.0, tone, |_| ());
    let [out, back] = line.stats();
    assert!(out.discarded > 500, "{out:?}");
    assert_eq!(back.dry, 1, "{back:?}");
    assert!((out.fill - out.set_point).abs() < 40.0, "{out:?}");
    assert!(roughness(&line.heard[8_000..]) < SMOOTHEST);
}

#[test]
fn a_period_that_changes_while_running_moves_the_set_point() {
    let mut line = Line::new(48_000, 128, 0.0);
    line.run(2.0, tone, |_| ());
    let small = line.to_port.0.stats().set_point;
    line.periods /= 8;
    line.period = 1_024;
    line.port = vec![0.0; 1_024];
    line.run(20.0, tone, |_| ());
    let [out, back] = line.stats();
    assert!(out.set_point > small + 100.0);
    assert!((out.fill - out.set_point).abs() < 40.0 && (back.fill - back.set_point).abs() < 40.0, "{out:?} {back:?}");
    assert!(roughness(&line.heard[line.heard.len() - 40_000..]) < SMOOTHEST);
}

#[test]
fn rates_that_no_server_has_are_refused() {
    assert!(to_port(0, 32).is_err());
    assert!(from_port(7_999, 32).is_err());
    assert!(to_port(1_000_000, 32).is_err());
}
