//! One band of G.722: adaptive quantization of what a predictor of two poles and six zeros leaves over (ITU-T G.722
//! sections 3 and 6). Encoder and decoder run the same band, fed with the same quantized differences, so that their
//! predictors agree.
//!
//! All of it is the standard's 16-bit arithmetic, with its block names beside; the tables are the standard's.

/// Decision levels of the 6-bit quantizer of the lower band (table 6).
const LEVELS: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219, 1339,
    1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// The code of each interval between the levels, for differences below zero and for the others.
const NEGATIVE_CODES: [u8; 30] =
    [63, 62, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4];
const POSITIVE_CODES: [u8; 30] = [
    61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39, 38, 37, 36, 35, 34, 33,
    32,
];
/// What a 6-bit code stands for, in units of the step.
const OUTPUT_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360, -8576,
    -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688, -1360, -1040,
    -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856, 7192, 6576, 6000, 5456,
    4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136, -432, -136,
];
/// The same for its upper four bits, which the predictor works with.
const OUTPUT_4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// How the logarithm of the step moves with a 4-bit code.
const MOVES_4: [i32; 16] = [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// What a 2-bit code of the upper band stands for, and how it moves the logarithm of the step.
const OUTPUT_2: [i32; 4] = [-7408, -1616, 7408, 1616];
const MOVES_2: [i32; 4] = [798, -214, 798, -214];
/// The decision level of the upper band.
const LEVEL_2: i32 = 564;
/// Powers of two between 2^11 and 2^12, in 32 steps.
const POWERS: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896, 2960, 3025,
    3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// Limits of what a band is reconstructed to: 15 bits.
const BAND_RANGE: (i32, i32) = (-16_384, 16_383);

fn saturate(value: i32) -> i32 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

/// A product of two numbers of which one is a fraction of 2^15.
fn scale(a: i32, b: i32) -> i32 {
    (a * b) >> 15
}

fn same_sign(a: i32, b: i32) -> bool {
    (a < 0) == (b < 0)
}

/// The predictor of a band (block 4).
#[derive(Debug, Clone, Default)]
struct Predictor {
    /// Coefficients of the poles and of the zeros.
    poles: [i32; 2],
    zeros: [i32; 6],
    /// The last quantized differences, reconstructed samples, and those without the poles' part; the newest first.
    differences: [i32; 6],
    reconstructed: [i32; 2],
    partial: [i32; 2],
    /// What is predicted, and the zeros' part of it.
    prediction: i32,
    from_zeros: i32,
}

impl Predictor {
    fn update(&mut self, difference: i32) {
        let reconstructed = saturate(self.prediction + difference); // RECONS
        let partial = saturate(self.from_zeros + difference); // PARREC
        let [pole_1, pole_2] = self.poles;
        // UPPOL2
        let pull = saturate(pole_1 << 2);
        let pull = if same_sign(partial, self.partial[0]) { (-pull).min(32_767) } else { pull };
        let push = if same_sign(partial, self.partial[1]) { 128 } else { -128 };
        let next_2 = ((pull >> 7) + push + scale(pole_2, 32_512)).clamp(-12_288, 12_288);
        // UPPOL1
        let push = if same_sign(partial, self.partial[0]) { 192 } else { -192 };
        let limit = saturate(15_360 - next_2);
        let next_1 = saturate(push + scale(pole_1, 32_640)).clamp(-limit, limit);
        // UPZERO
        for (zero, &before) in self.zeros.iter_mut().zip(&self.differences) {
            let push = match difference {
                0 => 0,
                _ if same_sign(difference, before) => 128,
                _ => -128,
            };
            *zero = saturate(push + scale(*zero, 32_640));
        }
        // DELAYA
        self.differences.rotate_right(1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];
        self.poles = [next_1, next_2];
        // FILTEP, FILTEZ, PREDIC
        let doubled = |value: i32| saturate(2 * value);
        let from_poles = self.poles.iter().zip(self.reconstructed).map(|(&c, r)| scale(c, doubled(r))).sum();
        let from_zeros = self.zeros.iter().zip(self.differences).map(|(&c, d)| scale(c, doubled(d))).sum();
        self.from_zeros = saturate(from_zeros);
        self.prediction = saturate(saturate(from_poles) + self.from_zeros);
    }
}

/// The size of the quantizer's step, which follows the loudness.
#[derive(Debug, Clone)]
struct Step {
    logarithm: i32,
    size: i32,
    /// The lower band's steps are four times as fine.
    shift: i32,
    limit: i32,
}

impl Step {
    /// LOGSCL and SCALEL, or LOGSCH and SCALEH.
    fn update(&mut self, moved: i32) {
        self.logarithm = (((self.logarithm * 127) >> 7) + moved).clamp(0, self.limit);
        let power = POWERS[((self.logarithm >> 6) & 31) as usize];
        let shift = self.shift - (self.logarithm >> 11);
        self.size = if shift < 0 { power << -shift } else { power >> shift } << 2;
    }
}

/// The lower band: 0 to 4 kHz, 6 bits a sample.
#[derive(Debug, Clone)]
pub(super) struct LowerBand {
    predictor: Predictor,
    step: Step,
}

impl Default for LowerBand {
    fn default() -> Self {
        Self { predictor: Predictor::default(), step: Step { logarithm: 0, size: 32, shift: 8, limit: 18_432 } }
    }
}

impl LowerBand {
    pub(super) fn encode(&mut self, sample: i32) -> u8 {
        let difference = saturate(sample - self.predictor.prediction);
        let magnitude = if difference < 0 { -(difference + 1) } else { difference };
        let above = |level: &&i32| magnitude >= (**level * self.step.size) >> 12;
        let interval = LEVELS.iter().take_while(above).count();
        let code = if difference < 0 { NEGATIVE_CODES[interval] } else { POSITIVE_CODES[interval] };
        self.update(code);
        code
    }

    pub(super) fn decode(&mut self, code: u8) -> i32 {
        let code = code & 0x3F;
        let sample = self.predictor.prediction + scale(self.step.size, OUTPUT_6[usize::from(code)]);
        self.update(code);
        sample.clamp(BAND_RANGE.0, BAND_RANGE.1)
    }

    fn update(&mut self, code: u8) {
        let upper = usize::from(code >> 2);
        let difference = scale(self.step.size, OUTPUT_4[upper]);
        self.step.update(MOVES_4[upper]);
        self.predictor.update(difference);
    }
}

/// The upper band: 4 to 8 kHz, 2 bits a sample.
#[derive(Debug, Clone)]
pub(super) struct UpperBand {
    predictor: Predictor,
    step: Step,
}

impl Default for UpperBand {
    fn default() -> Self {
        Self { predictor: Predictor::default(), step: Step { logarithm: 0, size: 8, shift: 10, limit: 22_528 } }
    }
}

impl UpperBand {
    pub(super) fn encode(&mut self, sample: i32) -> u8 {
        let difference = saturate(sample - self.predictor.prediction);
        let magnitude = if difference < 0 { -(difference + 1) } else { difference };
        let large = magnitude >= (LEVEL_2 * self.step.size) >> 12;
        let code = u8::from(!large) | if difference < 0 { 0 } else { 2 };
        self.update(code);
        code
    }

    pub(super) fn decode(&mut self, code: u8) -> i32 {
        let code = code & 3;
        let sample = self.predictor.prediction + scale(self.step.size, OUTPUT_2[usize::from(code)]);
        self.update(code);
        sample.clamp(BAND_RANGE.0, BAND_RANGE.1)
    }

    fn update(&mut self, code: u8) {
        let difference = scale(self.step.size, OUTPUT_2[usize::from(code)]);
        self.step.update(MOVES_2[usize::from(code)]);
        self.predictor.update(difference);
    }
}
