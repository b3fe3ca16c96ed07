//! ITU-T G.722 at 64 kbit/s: 16 kHz in two bands, one byte for two samples. Its RTP clock is 8 kHz by an old mistake
//! (RFC 3551 section 4.5.2), so that a byte is one step of the timestamp, as with G.711.
//!
//! A call is sampled at 8 kHz inside, so the edge converts: what is sent has nothing above 4 kHz in it, and of what is
//! received that is left out. With the filters of the standard and of the conversion a sample takes 5.3 ms from the one end
//! to the other.
//!
//! The decoder's state follows the encoder's by the codes alone. After lost packets the two differ, and agree again within
//! some tens of milliseconds, as all of the state leaks; what is heard meanwhile is led over to by the playout.

mod adpcm;

use adpcm::{LowerBand, UpperBand};

use super::{from_i16, to_i16};
use crate::dsp::halfband::{Doubler, Halver};

/// The impulse response of the quadrature mirror filters, every second coefficient; the others are the same in reverse
/// (table 4).
const MIRROR: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// The last 24 values of a mirror filter, in pairs, the oldest first.
#[derive(Debug, Clone, Default)]
struct Mirror([[i32; 2]; 12]);

impl Mirror {
    /// Takes two values in and gives both halves of the filter's sum.
    fn push(&mut self, pair: [i32; 2]) -> [i32; 2] {
        self.0.rotate_left(1);
        self.0[11] = pair;
        let mut sums = [0; 2];
        for (n, [first, second]) in self.0.iter().enumerate() {
            sums[0] += first * MIRROR[n];
            sums[1] += second * MIRROR[11 - n];
        }
        sums
    }
}

/// Writes 8 kHz samples as G.722.
#[derive(Debug, Clone, Default)]
pub(super) struct G722Encoder {
    doubler: Doubler,
    mirror: Mirror,
    lower: LowerBand,
    upper: UpperBand,
}

impl G722Encoder {
    pub(super) fn encode(&mut self, samples: &[f32], bytes: &mut [u8]) -> usize {
        for (byte, &sample) in bytes.iter_mut().zip(samples) {
            // a sample that is none would stay in the filter
            let sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
            let pair = self.doubler.push(sample);
            *byte = self.wide(pair.map(to_i16));
        }
        samples.len().min(bytes.len())
    }

    /// Two samples of 16 kHz.
    fn wide(&mut self, pair: [i16; 2]) -> u8 {
        let [odd, even] = self.mirror.push(pair.map(i32::from));
        let lower = self.lower.encode((even + odd) >> 14);
        let upper = self.upper.encode((even - odd) >> 14);
        upper << 6 | lower
    }
}

/// Reads G.722 as 8 kHz samples.
#[derive(Debug, Clone, Default)]
pub(super) struct G722Decoder {
    halver: Halver,
    mirror: Mirror,
    lower: LowerBand,
    upper: UpperBand,
}

impl G722Decoder {
    pub(super) fn decode(&mut self, bytes: &[u8], samples: &mut [f32]) -> usize {
        for (sample, &byte) in samples.iter_mut().zip(bytes) {
            let pair = self.wide(byte).map(from_i16);
            *sample = self.halver.push(pair);
        }
        bytes.len().min(samples.len())
    }

    /// Two samples of 16 kHz.
    fn wide(&mut self, byte: u8) -> [i16; 2] {
        let (lower, upper) = (self.lower.decode(byte), self.upper.decode(byte >> 6));
        let [even, odd] = self.mirror.push([lower + upper, lower - upper]);
        let narrow = |sum: i32| (sum >> 11).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
        [narrow(odd), narrow(even)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(n: usize) -> f32 {
        let t = n as f32 / 8_000.0;
        let phase = std::f32::consts::TAU * 140.0 * t;
        let swell = 0.6 + 0.4 * (t * 20.0).sin();
        0.25 * swell * (1..20).map(|h| (phase * h as f32).sin() / h as f32).sum::<f32>()
    }

    /// Of what was said, after the delay: signal to noise, in dB.
    fn snr(said: &[f32], heard: &[f32]) -> f32 {
        (35..50)
            .map(|delay| {
                let pairs = || said.iter().zip(&heard[delay..]);
                let noise: f32 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
                10.0 * (said.iter().map(|s| s * s).sum::<f32>() / noise.max(1e-12)).log10()
            })
            .fold(f32::NEG_INFINITY, f32::max)
    }

    fn through(said: &[f32]) -> Vec<f32> {
        let (mut encoder, mut decoder) = (G722Encoder::default(), G722Decoder::default());
        let (mut bytes, mut heard) = (vec![0; said.len()], vec![0.0; said.len()]);
        assert_eq!(encoder.encode(said, &mut bytes), said.len());
        assert_eq!(decoder.decode(&bytes, &mut heard), said.len());
        heard
    }

    #[test]
    fn a_voice_comes_through() {
        let said: Vec<f32> = (0..16_000).map(voice).collect();
        let heard = through(&said);
        let snr = snr(&said[..15_900], &heard);
        assert!(snr > 20.0, "{snr} dB");
    }

    /// A sum over bytes that no two different streams are likely to share (FNV-1a).
    fn sum(bytes: impl Iterator<Item = u8>) -> u64 {
        bytes.fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
    }

    #[test]
    fn a_second_of_noise_and_tones_gives_the_bytes_and_samples_that_ffmpeg_gives() {
        let mut seed = 1_u32;
        let wide: Vec<i16> = (0..16_000_i32)
            .map(|n| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (seed >> 16).cast_signed() - 32_768;
                let saw = n * (200 + n / 40) % 65_536 - 32_768;
                ((noise.div_euclid(8) + saw.div_euclid(2)) >> (n / 500 % 9)) as i16
            })
            .collect();
        let mut encoder = G722Encoder::default();
        let bytes: Vec<u8> = wide.chunks(2).map(|two| encoder.wide([two[0], two[1]])).collect();
        assert_eq!(sum(bytes.iter().copied()), 0x509F_2DB0_0EE1_D4E4);
        let mut decoder = G722Decoder::default();
        let samples = bytes.iter().flat_map(|&byte| decoder.wide(byte)).flat_map(i16::to_le_bytes);
        assert_eq!(sum(samples), 0xE58C_B3B4_71F5_2E21);
    }

    #[test]
    fn silence_stays_silence_and_what_is_too_loud_stays_in_range() {
        assert!(through(&[0.0; 1_600]).iter().all(|s| s.abs() < 1e-3));
        let loud: Vec<f32> = (0..1_600).map(|n| if n / 8 % 2 == 0 { 9.0 } else { -9.0 }).collect();
        assert!(through(&loud).iter().all(|s| s.abs() <= 1.5));
        let mut broken = vec![0.1; 800];
        (broken[100], broken[300]) = (f32::NAN, f32::INFINITY);
        assert!(through(&broken).iter().all(|s| s.is_finite()));
    }

    #[test]
    fn a_decoder_that_missed_a_part_finds_back() {
        let said: Vec<f32> = (0..16_000).map(voice).collect();
        let mut bytes = vec![0; said.len()];
        G722Encoder::default().encode(&said, &mut bytes);
        let mut decoder = G722Decoder::default();
        let mut heard = vec![0.0; said.len()];
        decoder.decode(&bytes[..8_000], &mut heard);
        decoder.decode(&bytes[8_800..], &mut heard[8_800..]);
        let snr = snr(&said[9_600..15_900], &heard[9_600..]);
        assert!(snr > 18.0, "{snr} dB, 100 ms after 100 ms were lost");
    }

    #[test]
    fn random_bytes_decode_to_something_finite() {
        let mut random = fastrand::Rng::with_seed(22);
        let mut decoder = G722Decoder::default();
        for _ in 0..200 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(160).collect();
            let mut samples = [0.0; 160];
            decoder.decode(&bytes, &mut samples);
            assert!(samples.iter().all(|s| s.abs() < 2.0));
        }
    }
}
