//! G.711 (both laws) a frame at a time: what every call does for every sample, so the loops are written to become vector
//! instructions.
//!
//! Encoding needs no search for the segment: a law's segment is a power of two and its step within it the four bits behind
//! the leading one, and those are what a floating-point number has as exponent and mantissa. The values are whole numbers
//! below 2^24, so they are exact. The tests hold all of them to the reference tables of the `audio-codec-algorithms` crate.

use audio_codec_algorithms::{decode_alaw, decode_ulaw};

use super::FULL_SCALE;

/// Added to a mu-law magnitude (of 13 bits), so that segments begin at powers of two; and the largest that then fits.
const BIAS: i32 = 33;
const CLIP: i32 = 8_191;
/// The exponent and the upper four bits of the mantissa of a number are its bits from here on.
const STEP_BITS: u32 = 19;
/// What these are where a law's segment 0 begins: at 2^5 (mu), and at 2^4, where that of A-law would begin if it were not
/// twice as long.
const MU_ORIGIN: i32 = (127 + 5) << 4;
const A_ORIGIN: i32 = (127 + 4) << 4;
/// A-law magnitudes (of 12 bits) below this are in the first, linear segment.
const A_LINEAR: i32 = 32;
/// Even bits of an A-law code are inverted on the line, and so is the sign.
const A_INVERTED: i32 = 0xD5;

/// Decodes as many samples as fit; returns how many.
pub(super) fn decode_mu(bytes: &[u8], samples: &mut [f32]) -> usize {
    decode_each(bytes, samples, decode_ulaw)
}

/// See [`decode_mu`].
pub(super) fn decode_a(bytes: &[u8], samples: &mut [f32]) -> usize {
    decode_each(bytes, samples, decode_alaw)
}

/// Encodes as many samples as fit; returns how many. What is out of range is clamped, and what is no number is silence.
pub(super) fn encode_mu(samples: &[f32], bytes: &mut [u8]) -> usize {
    encode_each(samples, bytes, |linear| {
        let magnitude = (magnitude(linear, 2) + BIAS).min(CLIP);
        let code = steps(magnitude) - MU_ORIGIN;
        !(code | sign(linear))
    })
}

/// See [`encode_mu`].
pub(super) fn encode_a(samples: &[f32], bytes: &mut [u8]) -> usize {
    encode_each(samples, bytes, |linear| {
        let magnitude = magnitude(linear, 3);
        let code = if magnitude < A_LINEAR { magnitude >> 1 } else { steps(magnitude) - A_ORIGIN };
        (code | sign(linear)) ^ A_INVERTED
    })
}

/// Negative values count from -1, so that there are as many of them as of the others.
fn magnitude(linear: i32, dropped_bits: u32) -> i32 {
    (linear >> dropped_bits) ^ (linear >> 31)
}

/// The segment and the step in it, counted from where the number 1 is.
fn steps(magnitude: i32) -> i32 {
    ((magnitude as f32).to_bits() >> STEP_BITS).cast_signed()
}

fn sign(linear: i32) -> i32 {
    (linear >> 31) & 0x80
}

fn decode_each(bytes: &[u8], samples: &mut [f32], decode_one: impl Fn(u8) -> i16) -> usize {
    for (sample, &byte) in samples.iter_mut().zip(bytes) {
        *sample = f32::from(decode_one(byte)) / FULL_SCALE;
    }
    bytes.len().min(samples.len())
}

fn encode_each(samples: &[f32], bytes: &mut [u8], encode_one: impl Fn(i32) -> i32) -> usize {
    for (byte, &sample) in bytes.iter_mut().zip(samples) {
        *byte = (encode_one(to_whole(sample)) & 0xFF) as u8;
    }
    samples.len().min(bytes.len())
}

/// As [`to_i16`](super::to_i16) does it. The conversion that cannot fail (`as`) is no vector instruction and makes encoding
/// three times as dear, so what it would have to look for is put right before.
fn to_whole(sample: f32) -> i32 {
    let scaled = if sample.is_nan() { 0.0 } else { sample * FULL_SCALE };
    let rounded = (scaled + 0.5_f32.copysign(scaled)).clamp(-FULL_SCALE, FULL_SCALE - 1.0);
    // SAFETY: `scaled` is not NaN (a number times a power of two may be infinite, but not NaN), so that `rounded` lies in
    // -32768 ..= 32767, which an i32 holds.
    unsafe { rounded.to_int_unchecked() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audio_codec_algorithms::{encode_alaw, encode_ulaw};

    #[test]
    fn every_value_of_16_bits_is_encoded_as_the_reference_does() {
        for value in i16::MIN..=i16::MAX {
            let sample = [f32::from(value) / FULL_SCALE];
            let (mut mu, mut a) = ([0], [0]);
            encode_mu(&sample, &mut mu);
            encode_a(&sample, &mut a);
            assert_eq!((mu[0], a[0]), (encode_ulaw(value), encode_alaw(value)), "{value}");
        }
    }

    #[test]
    fn values_between_and_beyond_those_of_16_bits_are_rounded_and_clamped_as_elsewhere() {
        let mut random = fastrand::Rng::with_seed(1);
        for n in 0..200_000 {
            let sample = match n {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2 => f32::NEG_INFINITY,
                3 => -0.0,
                _ => (random.f32() - 0.5) * [2.1, 0.01, 1e-5][n % 3],
            };
            let value = super::super::to_i16(sample);
            let (mut mu, mut a) = ([0], [0]);
            encode_mu(&[sample], &mut mu);
            encode_a(&[sample], &mut a);
            assert_eq!((mu[0], a[0]), (encode_ulaw(value), encode_alaw(value)), "{sample}");
        }
    }
}
