//! The limiter on what is sent: no peak above -3 dBFS, not between the samples either, and nothing touched below -4.8 dBFS.
//!
//! A packet is limited as a whole just before it is encoded. So the limiter can look ahead as far as the packet goes and
//! still delays nothing: gain comes down over up to ten samples (1.25 ms) before a peak. What lies beyond the packet it
//! cannot know, and what was sent before it cannot change. So every packet is limited as if silence followed it, and where
//! the next one, which is not silence, would raise a point between two samples that are already sent, its first samples
//! are faded in (1 ms). The 1.8 dB between -4.8 dBFS, at which gain works, and -3 dBFS is there for the seams: what is cut
//! off at a packet's end overshoots by up to 9 % (Gibbs), and a steady tone must not be bent for that.
//!
//! What must hold:
//! - What stays below -4.8 dBFS is not changed by a single bit. Where it is quiet (half of that and less), it costs one pass
//!   that looks for its largest sample; where it is loud, mostly one more, that bounds its points.
//! - Gain is held for longer than the period of any voice before it comes back, so that a loud tone is turned down and not
//!   bent.
//! - Peaks are estimated at four times the rate, as ITU-R BS.1770 annex 2 does, by a filter of 16 taps a phase; and by the
//!   meter of that annex nothing passes -3 dBFS, whatever comes. A longer filter would still find more than that in what
//!   no telephone carries: steps and noise up to the edge at 4 kHz, for less than a millisecond.
//! - Nothing allocates. What is no number becomes silence.

/// The ceiling, as a share of full scale: -3 dBFS.
pub const CEILING: f32 = 0.707_945_8;

/// What gain brings peaks down to: -4.8 dBFS.
const TARGET: f32 = 0.575_439_9;
/// What is left to peaks at the seam between two packets: the ceiling, but for what the filter does not see.
const AT_SEAM: f32 = 0.93 * CEILING;
/// Longest block: a packet of 60 ms.
const MOST: usize = 480;
/// Samples on either side of a point that its estimate is made of.
const REACH: usize = 8;
/// Samples that an estimate is made of, and that are kept of what was given out.
const PAST: usize = 2 * REACH;
/// Points between two samples.
const POINTS: usize = 3;
/// Places between samples that are looked at together.
const CHUNK: usize = 16;
/// Samples that they are made of, and one on either side.
const AROUND: usize = CHUNK + PAST + 1;
/// Most that gain comes down from one sample to the next within a packet: from full to a tenth takes 9 samples.
const ATTACK: f32 = 0.1;
/// Samples for which gain stays where it is: 30 ms, a period of 33 Hz.
const HOLD: u32 = 240;
/// A peak as near as this, 0.5 dB, to what is too high keeps gain from rising.
const NEAR: f32 = 0.944;
/// How much of the way back to one gain goes in a sample: with a time constant of 150 ms.
const RELEASE: f32 = 1.0 / 1_200.0;
/// Gain that is one but for this is one.
const NEARLY_ONE: f32 = 0.9995;
/// Gain is a little lower than the peaks ask for, because it moves under the filter: 0.02 dB.
const MARGIN: f32 = 0.998;
/// How often gains are looked over; what a moving gain leaves above the target gets less every time.
const PASSES: usize = 4;

/// A windowed sinc for each of the points between two samples.
type Filter = [[f32; PAST]; POINTS];

fn filter() -> Filter {
    use std::f64::consts::PI;
    std::array::from_fn(|point| {
        let between = (point + 1) as f64 / (POINTS + 1) as f64;
        let taps: [f64; PAST] = std::array::from_fn(|tap| {
            let at = between + (REACH - 1) as f64 - tap as f64;
            let window = (PI * at / (2.0 * REACH as f64)).cos();
            (PI * at).sin() / (PI * at) * window
        });
        let sum: f64 = taps.iter().sum();
        taps.map(|tap| (tap / sum) as f32)
    })
}

/// What points between samples can be at most.
///
/// A point is the sum of its samples' shares. Split into what is smooth, (1, 2, 1)/4 of neighbours, and the rest, the smooth
/// part comes with taps that are smoothed themselves and so hardly add up to more than one: loud speech, which has little
/// else, can be told to be harmless without a single point of it.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// The largest sum of a phase's taps, as magnitudes.
    rough: f32,
    /// The same of smoothed taps.
    smooth: f32,
}

impl Bound {
    fn new(filter: &Filter) -> Self {
        let rough = |taps: &[f32; PAST]| taps.iter().map(|tap| tap.abs()).sum::<f32>();
        let smooth = |taps: &[f32; PAST]| {
            let tap = |n: usize| n.checked_sub(2).and_then(|n| taps.get(n)).copied().unwrap_or(0.0);
            (1..PAST + 3).map(|n| ((tap(n - 1) + 2.0 * tap(n) + tap(n + 1)) / 4.0).abs()).sum::<f32>()
        };
        // the samples themselves count as well
        let largest = |sums: [f32; POINTS]| sums.into_iter().fold(1.0, f32::max);
        Self { rough: largest(filter.each_ref().map(rough)), smooth: largest(filter.each_ref().map(smooth)) }
    }

    /// Of samples below this no point reaches the target.
    fn quiet(self) -> f32 {
        TARGET / self.rough
    }

    /// Of points that are made of all but the first and the last of these.
    fn of(self, samples: &[f32]) -> f32 {
        let beside = samples.iter().zip(&samples[2..]);
        let rest = beside.zip(&samples[1..]).map(|((before, after), at)| (2.0 * at - before - after) / 4.0);
        self.smooth * peak(samples) + self.rough * largest(rest)
    }
}

/// Limits one stream, packet by packet.
#[derive(Debug, Clone)]
pub struct Limiter {
    /// What was given out last.
    past: [f32; PAST],
    gain: f32,
    /// Samples left of the hold.
    hold: u32,
    filter: Filter,
    bound: Bound,
}

impl Default for Limiter {
    fn default() -> Self {
        let filter = filter();
        Self { past: [0.0; PAST], gain: 1.0, hold: 0, filter, bound: Bound::new(&filter) }
    }
}

impl Limiter {
    /// Limits a packet. Returns whether anything had to be changed.
    pub fn process(&mut self, samples: &mut [f32]) -> bool {
        let mut changed = false;
        for block in samples.chunks_mut(MOST) {
            let quiet = self.bound.quiet();
            if self.gain >= 1.0 && peak(block) < quiet && peak(&self.past) < quiet {
                self.remember(block);
            } else {
                changed |= self.limit(block);
            }
        }
        changed
    }

    /// The gain of the last sample: one while nothing is limited.
    #[must_use]
    pub fn gain(&self) -> f32 {
        self.gain
    }

    fn remember(&mut self, block: &[f32]) {
        let kept = block.len().min(self.past.len());
        self.past.copy_within(kept.., 0);
        let at = self.past.len() - kept;
        self.past[at..].copy_from_slice(&block[block.len() - kept..]);
    }

    /// Whether nothing in a line with so many new samples needs to be touched.
    fn is_harmless(&self, line: &[f32], new: usize) -> bool {
        // what the silence behind the last samples cuts off is another matter
        let end = &line[new..new + AROUND];
        let is_cut_well = || {
            self.bound.of(end) < AT_SEAM
                || points(&self.filter, &end[1..AROUND - 1]).into_iter().all(|point| point < AT_SEAM)
        };
        self.bound.of(&line[..PAST + new]) < TARGET && is_cut_well()
    }

    fn limit(&mut self, block: &mut [f32]) -> bool {
        // what was given out, what is to be, and silence
        let mut line = [0.0; PAST + MOST + REACH + AROUND];
        let line = &mut line[..PAST + block.len() + REACH + AROUND];
        line[..PAST].copy_from_slice(&self.past);
        line[PAST..PAST + block.len()].copy_from_slice(block);
        if self.gain >= 1.0 && self.is_harmless(line, block.len()) {
            self.remember(block);
            return false;
        }
        for (slot, sample) in line[PAST..].iter_mut().zip(&mut *block) {
            if !sample.is_finite() {
                (*slot, *sample) = (0.0, 0.0);
            }
        }
        let mut plan = [Plan::default(); MOST];
        let plan = &mut plan[..block.len()];
        let mut end = (self.gain, self.hold);
        if self.gain < 1.0 {
            end = self.follow(plan);
            apply(plan, 1.0, block, line);
        }
        let (mut margin, mut fade) = (1.0, 1.0);
        for pass in 0..PASSES {
            margin *= MARGIN;
            let share = look_at_seam(&self.filter, line);
            if share < 1.0 {
                fade *= margin * share;
            }
            let loud = look(&self.filter, self.bound, line, plan, margin);
            if !loud && share >= 1.0 && (pass > 0 || self.gain >= 1.0) {
                break;
            }
            end = self.follow(plan);
            apply(plan, fade, block, line);
        }
        (self.gain, self.hold) = end;
        let changed = fade < 1.0 || plan.iter().any(|plan| plan.gain < 1.0);
        block.copy_from_slice(&line[PAST..PAST + block.len()]);
        self.past.copy_from_slice(&line[block.len()..PAST + block.len()]);
        changed
    }

    /// Gain for every sample: down in time for what is wanted, held, and slowly back. Returns the last one, and how long it
    /// is still to be held.
    fn follow(&self, plan: &mut [Plan]) -> (f32, u32) {
        let mut next = 1.0_f32;
        for plan in plan.iter_mut().rev() {
            next = plan.most.min(next + ATTACK);
            plan.most = next;
        }
        let (mut gain, mut hold) = (self.gain, self.hold);
        for plan in plan {
            if plan.near {
                hold = HOLD;
            } else if hold > 0 {
                hold -= 1;
            } else if gain < 1.0 {
                gain += (1.0 - gain) * RELEASE;
                if gain > NEARLY_ONE {
                    gain = 1.0;
                }
            }
            gain = gain.min(plan.most);
            plan.gain = gain;
        }
        (gain, hold)
    }
}

impl Plan {
    /// Plans for a peak at this sample as it is now; whether it is too high.
    fn meet(&mut self, level: f32, most: f32, margin: f32) -> bool {
        self.near |= level > NEAR * most;
        let high = level > most;
        if high {
            self.most = self.most.min(self.gain * margin * most / level);
        }
        high
    }
}

/// What is planned for a sample.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// The most gain that it may have.
    most: f32,
    /// The gain that it has.
    gain: f32,
    /// It comes near to what is too high: gain is not to rise.
    near: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { most: 1.0, gain: 1.0, near: false }
    }
}

/// Writes the block as planned behind what was given out, its first samples faded in from a share.
fn apply(plan: &[Plan], fade: f32, block: &[f32], line: &mut [f32]) {
    for ((slot, sample), plan) in line[PAST..].iter_mut().zip(block).zip(plan) {
        *slot = sample * plan.gain;
    }
    if fade < 1.0 {
        for (at, slot) in line[PAST..].iter_mut().take(block.len().min(REACH)).enumerate() {
            *slot *= fade + (1.0 - fade) * at as f32 / REACH as f32;
        }
    }
}

/// The largest magnitude; what is no number counts as larger than all.
fn largest(samples: impl Iterator<Item = f32>) -> f32 {
    // magnitudes of floats are in the order of their bits, and whole numbers are compared many at a time
    let largest = samples.map(|sample| (sample.to_bits() & 0x7FFF_FFFF).cast_signed()).fold(0, i32::max);
    let largest = f32::from_bits(largest.cast_unsigned());
    if largest.is_nan() { f32::INFINITY } else { largest }
}

fn peak(samples: &[f32]) -> f32 {
    largest(samples.iter().copied())
}

/// The point between samples at this phase of the filter.
fn point(taps: &[f32], samples: &[f32]) -> f32 {
    taps.iter().zip(samples).map(|(tap, sample)| tap * sample).sum()
}

/// The largest magnitude of the points in each of so many places, the first of which is between the samples in the middle.
fn points(filter: &Filter, samples: &[f32]) -> [f32; CHUNK] {
    let mut largest = [0.0_f32; CHUNK];
    for taps in filter {
        // place by place for a tap, and not tap by tap for a place: the compiler does several places at a time
        let mut sums = [0.0; CHUNK];
        for (tap, samples) in taps.iter().zip(samples.windows(CHUNK)) {
            for (sum, sample) in sums.iter_mut().zip(samples) {
                *sum += tap * sample;
            }
        }
        for (largest, sum) in largest.iter_mut().zip(sums) {
            *largest = largest.max(sum.abs());
        }
    }
    largest
}

/// Looks for peaks in a line of what was given out, what is to be, and silence, and plans for them. Returns whether there
/// were any.
fn look(filter: &Filter, bound: Bound, line: &[f32], plan: &mut [Plan], margin: f32) -> bool {
    let mut loud = false;
    for (sample, plan) in line[PAST..].iter().zip(&mut *plan) {
        loud |= plan.meet(sample.abs(), TARGET, margin);
    }
    // from the place after the last sample that was given out to the one after the last that is to be
    let last = plan.len() - 1;
    for first in (0..=last + 1).step_by(CHUNK) {
        let samples = &line[first + PAST - REACH..];
        if bound.of(&line[first + PAST - REACH - 1..][..AROUND]) < NEAR * TARGET {
            continue;
        }
        for (at, largest) in points(filter, &samples[..AROUND - 2]).into_iter().enumerate() {
            // the sample after the place; what is cut off by the silence behind the last overshoots
            let after = first + at;
            let most = if after + REACH > plan.len() { AT_SEAM } else { TARGET };
            if largest > NEAR * most && after <= last + 1 {
                for plan in &mut plan[after.saturating_sub(1)..=after.min(last)] {
                    loud |= plan.meet(largest, most, margin);
                }
            }
        }
    }
    loud
}

/// The share of the first new samples at which no point between samples that were given out passes the ceiling; one where
/// none does.
fn look_at_seam(filter: &Filter, line: &[f32]) -> f32 {
    let mut share = 1.0_f32;
    for (start, samples) in line[..PAST + REACH].windows(PAST).enumerate().skip(1) {
        let (given, new) = samples.split_at(PAST - start);
        for taps in filter {
            let (given, new) = (point(taps, given), point(&taps[PAST - start..], new));
            if (given + new).abs() > AT_SEAM && new != 0.0 {
                let room = AT_SEAM - given * new.signum();
                share = share.min((room / new.abs()).clamp(0.0, 1.0));
            }
        }
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::{PI, TAU};

    /// The far side of the ear: what the limiter's own short filter cannot see would show here.
    const REFERENCE_REACH: isize = 48;

    fn tone(amplitude: f64, hz: f64, count: usize) -> Vec<f32> {
        (0..count).map(|n| (amplitude * (TAU * hz * n as f64 / 8_000.0 + 0.3).sin()) as f32).collect()
    }

    fn limited(samples: &[f32], packet: usize) -> Vec<f32> {
        let mut limiter = Limiter::default();
        let mut out = samples.to_vec();
        for packet in out.chunks_mut(packet) {
            limiter.process(packet);
        }
        out
    }

    /// The highest point of the line through the samples, at eight times the rate, in dB of full scale.
    fn true_peak_db(samples: &[f32]) -> f64 {
        let mut highest: f64 = 0.0;
        for at in REFERENCE_REACH..samples.len() as isize - REFERENCE_REACH {
            for eighth in 0..8 {
                let between = f64::from(eighth) / 8.0;
                let value: f64 = (1 - REFERENCE_REACH..=REFERENCE_REACH)
                    .map(|k| {
                        let t = between - k as f64;
                        let sinc = if t == 0.0 { 1.0 } else { (PI * t).sin() / (PI * t) };
                        let window = (PI * t / (2.0 * REFERENCE_REACH as f64)).cos().powi(2);
                        sinc * window * f64::from(samples[(at + k) as usize])
                    })
                    .sum();
                highest = highest.max(value.abs());
            }
        }
        20.0 * highest.log10()
    }

    /// All that is not the tone, in dB below the tone.
    fn distortion_db(samples: &[f32], hz: f64) -> f64 {
        let phase = |n: usize| TAU * hz * n as f64 / 8_000.0;
        let (mut re, mut im) = (0.0, 0.0);
        for (n, &s) in samples.iter().enumerate() {
            re += f64::from(s) * phase(n).cos() * 2.0 / samples.len() as f64;
            im += f64::from(s) * phase(n).sin() * 2.0 / samples.len() as f64;
        }
        let rest: f64 = samples
            .iter()
            .enumerate()
            .map(|(n, &s)| (f64::from(s) - re * phase(n).cos() - im * phase(n).sin()).powi(2))
            .sum();
        10.0 * (2.0 * rest / samples.len() as f64 / (re * re + im * im)).max(1e-30).log10()
    }

    #[test]
    fn what_stays_below_the_ceiling_is_not_changed_by_a_bit() {
        for hz in [100.0, 300.0, 1_000.0, 2_000.0, 3_000.0, 3_300.0] {
            for packet in [80, 160, 480] {
                // -5.2 dBFS, and 5 ms to begin in: a tone that begins in its middle has higher peaks than its own
                let rise = (0..4_800).map(|n| (n as f32 / 40.0).min(1.0));
                let loud: Vec<f32> = tone(0.55, hz, 4_800).iter().zip(rise).map(|(s, gain)| s * gain).collect();
                assert!(limited(&loud, packet) == loud, "{hz} Hz in packets of {packet}");
            }
        }
    }

    #[test]
    fn twelve_db_too_much_is_turned_down_and_not_bent() {
        // +12 dB above full scale: a gain of -15 dB
        for hz in [100.0, 200.0, 230.0, 250.0, 440.0, 1_000.0, 2_000.0, 2_900.0, 3_400.0] {
            for packet in [80, 160, 480] {
                let out = limited(&tone(4.0, hz, 9_600), packet);
                let peak = true_peak_db(&out[..1_600]).max(true_peak_db(&out[8_000..]));
                assert!(peak <= -4.7 && peak > -5.3, "{hz} Hz in packets of {packet}: {peak:.2} dB");
                let distortion = distortion_db(&out[1_600..], hz);
                // 230 Hz in packets of 480 samples: one more step of gain falls into what is judged
                let bound = if hz == 230.0 { -80.0 } else { -100.0 };
                assert!(distortion < bound, "{hz} Hz in packets of {packet}: {distortion:.0} dB");
            }
        }
    }

    /// The highest point at four times the rate, by the filter in table 2 of annex 2 of ITU-R BS.1770, in dB of full scale.
    fn bs_1770_db(samples: &[f32]) -> f64 {
        #[rustfmt::skip]
        const PHASES: [[f64; 12]; 2] = [
            [0.001_708_984_375, 0.010_986_328_125, -0.019_653_320_312_5, 0.033_203_125, -0.059_448_242_187_5,
             0.137_329_101_562_5, 0.972_167_968_75, -0.102_294_921_875, 0.047_607_421_875, -0.026_611_328_125,
             0.014_892_578_125, -0.008_300_781_25],
            [-0.029_174_804_687_5, 0.029_296_875, -0.051_757_812_5, 0.089_111_328_125, -0.166_503_906_25,
             0.465_087_890_625, 0.779_785_156_25, -0.200_317_382_812_5, 0.101_562_5, -0.058_227_539_062_5,
             0.033_081_054_687_5, -0.018_920_898_437_5],
        ];
        let mut highest: f64 = 0.0;
        for window in samples.windows(12) {
            for taps in PHASES {
                // the other two phases are these, the other way round
                let one: f64 = taps.iter().zip(window).map(|(t, s)| t * f64::from(*s)).sum();
                let other: f64 = taps.iter().rev().zip(window).map(|(t, s)| t * f64::from(*s)).sum();
                highest = highest.max(one.abs()).max(other.abs());
            }
        }
        20.0 * highest.log10()
    }

    /// Eight packets of pieces that have nothing to do with one another, from -12 dBFS to 16 dB too loud, with seams at
    /// the packets' own or elsewhere.
    fn pieces(random: &mut fastrand::Rng, packet: usize, tones_only: bool) -> Vec<f32> {
        let lengths = random.usize(0..3);
        let mut samples: Vec<f32> = Vec::new();
        while samples.len() < 8 * packet {
            let count = match lengths {
                0 => packet,
                1 => packet - 1,
                _ => random.usize(1..packet),
            };
            let level = 10f64.powf(random.f64() * 1.4 - 0.6);
            let kind = if tones_only { random.usize(0..2) } else { random.usize(0..5) };
            let period = random.usize(1..40);
            let (hz, phase) = (100.0 + if tones_only { 3_300.0 } else { 3_800.0 } * random.f64(), TAU * random.f64());
            samples.extend((0..count).map(|n| {
                let shape = match kind {
                    0 => 0.0,
                    1 => (TAU * hz * n as f64 / 8_000.0 + phase).sin(),
                    2 => random.f64() * 2.0 - 1.0,
                    3 => f64::from(u8::from((n / period).is_multiple_of(2))) * 2.0 - 1.0,
                    _ => f64::from(u8::from(random.bool())) * 2.0 - 1.0,
                };
                (level * shape) as f32
            }));
        }
        samples.truncate(8 * packet);
        samples
    }

    #[test]
    fn tones_that_begin_and_end_anywhere_have_no_peak_above_the_ceiling_to_the_sharpest_ear() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..100 {
            let packet = [80, 160][round % 2];
            let out = limited(&pieces(&mut random, packet, true), packet);
            let peak = true_peak_db(&out);
            assert!(peak <= -3.0, "{round}: {peak:.2} dB");
        }
    }

    #[test]
    fn whatever_comes_has_no_peak_above_the_ceiling_by_the_standard_meter() {
        let mut random = fastrand::Rng::with_seed(11);
        for round in 0..1_000 {
            let packet = [80, 160][round % 2];
            let out = limited(&pieces(&mut random, packet, false), packet);
            assert!(out.iter().all(|s| s.abs() <= CEILING), "no sample");
            let peak = bs_1770_db(&out);
            assert!(peak <= -3.0, "{round}: {peak:.2} dB");
        }
    }

    #[test]
    fn gain_comes_back_slowly_and_then_nothing_is_touched_any_more() {
        let mut limiter = Limiter::default();
        let mut loud = [2.0; 160];
        assert!(limiter.process(&mut loud));
        assert!(limiter.gain() < 0.36);
        let quiet = tone(0.3, 440.0, 160);
        let mut gain = limiter.gain();
        for _ in 0..75 {
            let mut packet = quiet.clone();
            limiter.process(&mut packet);
            assert!(limiter.gain() >= gain);
            gain = limiter.gain();
        }
        let mut packet = quiet.clone();
        assert!(!limiter.process(&mut packet) && packet == quiet);
    }

    #[test]
    fn what_is_no_number_becomes_silence() {
        let mut limiter = Limiter::default();
        let mut packet = [0.1; 160];
        (packet[3], packet[50], packet[159]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        limiter.process(&mut packet);
        assert!(packet.iter().all(|s| s.is_finite()) && packet[3] == 0.0 && packet[4] == 0.1);
        let mut long = vec![3.0; 2_000];
        limiter.process(&mut long);
        assert!(long.iter().all(|s| s.abs() <= CEILING), "longer than a packet can be");
    }
}
