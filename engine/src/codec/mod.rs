//! The codecs of the wire behind one enum: a telephone call knows at most a handful, so a `match` in the sample path
//! beats a trait object.
//!
//! G.711 has no state: every byte is a sample, so packets can be decoded in any order and from any offset.

use audio_codec_algorithms::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};

/// RTP payload type of G.711 mu-law, fixed by RFC 3551.
pub const PCMU_PAYLOAD_TYPE: u8 = 0;
/// RTP payload type of G.711 A-law, fixed by RFC 3551.
pub const PCMA_PAYLOAD_TYPE: u8 = 8;
/// RTP payload type of comfort noise at 8 kHz, fixed by RFC 3389.
pub const COMFORT_NOISE_PAYLOAD_TYPE: u8 = 13;

/// Full scale of 16-bit samples; `f32` samples are these divided by it, so that every G.711 code survives the way
/// there and back exactly.
const FULL_SCALE: f32 = 32_768.0;

/// How samples are written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// G.711 mu-law, 8 kHz, 64 kbit/s (North America, Japan; RFC 3551 `PCMU`).
    Pcmu,
    /// G.711 A-law, 8 kHz, 64 kbit/s (elsewhere; RFC 3551 `PCMA`).
    Pcma,
}

impl Codec {
    /// The codec that a static payload type of RFC 3551 names.
    #[must_use]
    pub const fn of_static_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            PCMU_PAYLOAD_TYPE => Some(Self::Pcmu),
            PCMA_PAYLOAD_TYPE => Some(Self::Pcma),
            _ => None,
        }
    }

    /// The RTP clock of the codec, in Hz.
    #[must_use]
    pub const fn clock_rate_hz(self) -> u32 {
        8_000
    }

    /// The name that SDP uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Whether a packet of so many milliseconds can be sent.
    #[must_use]
    pub(crate) const fn can_send_ms(self, ms: u16) -> bool {
        ms.is_multiple_of(10)
    }

    /// Decodes as many bytes as both slices hold; returns the number of samples written.
    pub fn decode(self, bytes: &[u8], samples: &mut [f32]) -> usize {
        // a loop for each law, so that its function is known where it is called
        match self {
            Self::Pcmu => decode_each(bytes, samples, decode_ulaw),
            Self::Pcma => decode_each(bytes, samples, decode_alaw),
        }
    }

    /// Encodes as many samples as both slices hold, clamped to [-1, 1]; returns the number of bytes written.
    /// What is not a number becomes silence.
    pub fn encode(self, samples: &[f32], bytes: &mut [u8]) -> usize {
        match self {
            Self::Pcmu => encode_each(samples, bytes, encode_ulaw),
            Self::Pcma => encode_each(samples, bytes, encode_alaw),
        }
    }
}

fn decode_each(bytes: &[u8], samples: &mut [f32], decode_one: impl Fn(u8) -> i16) -> usize {
    for (sample, &byte) in samples.iter_mut().zip(bytes) {
        *sample = f32::from(decode_one(byte)) / FULL_SCALE;
    }
    bytes.len().min(samples.len())
}

fn encode_each(samples: &[f32], bytes: &mut [u8], encode_one: impl Fn(i16) -> u8) -> usize {
    for (byte, &sample) in bytes.iter_mut().zip(samples) {
        *byte = encode_one(to_i16(sample));
    }
    samples.len().min(bytes.len())
}

/// Writes the samples of a call as its codec does. Made off the real-time threads.
#[derive(Debug)]
pub struct Encoder(Codec);

impl Encoder {
    /// An encoder at the beginning of a stream.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self(codec)
    }

    /// Encodes a packet of samples at 8 kHz; returns the number of bytes written.
    pub fn encode(&mut self, samples: &[f32], bytes: &mut [u8]) -> usize {
        self.0.encode(samples, bytes)
    }
}

/// Reads what a far end sends. Made off the real-time threads.
#[derive(Debug)]
pub struct Decoder;

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new(_codec: Codec) -> Self {
        Self
    }
}

/// A sample as 16 bits: rounded, clamped at full scale; NaN is silence.
#[must_use]
pub fn to_i16(sample: f32) -> i16 {
    let scaled = sample * FULL_SCALE;
    // half and cut instead of `round`, which is a library call on processors without SSE 4.1; `as` saturates, and makes
    // NaN zero
    (scaled + 0.5_f32.copysign(scaled)) as i16
}

/// A 16-bit sample as `f32` in [-1, 1).
#[must_use]
pub fn from_i16(sample: i16) -> f32 {
    f32::from(sample) / FULL_SCALE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_g711_code_survives_decoding_and_encoding() {
        for codec in [Codec::Pcmu, Codec::Pcma] {
            for code in 0..=255_u8 {
                let mut sample = [0.0];
                let mut back = [0];
                codec.decode(&[code], &mut sample);
                codec.encode(&sample, &mut back);
                // mu-law has two codes for zero; the negative one comes back as the positive one
                let expected = if codec == Codec::Pcmu && code == 0x7F { 0xFF } else { code };
                assert_eq!(back[0], expected, "{codec:?} code {code:#x}");
            }
        }
    }

    /// ITU-T G.711's own tables, by their construction: exponent in bits 4-6, mantissa in bits 0-3.
    #[test]
    fn all_codes_decode_to_the_values_of_the_standard() {
        for code in 0..=255_u8 {
            let u = !code;
            let magnitude = (((i32::from(u & 0x0F) << 3) + 0x84) << ((u >> 4) & 7)) - 0x84;
            let mu = if u & 0x80 != 0 { -magnitude } else { magnitude };
            let a = code ^ 0x55;
            let (exponent, mantissa) = ((a >> 4) & 7, i32::from(a & 0x0F));
            let magnitude =
                if exponent == 0 { (mantissa << 4) + 8 } else { ((mantissa << 4) + 0x108) << (exponent - 1) };
            let alaw = if a & 0x80 != 0 { magnitude } else { -magnitude };
            let mut sample = [0.0];
            Codec::Pcmu.decode(&[code], &mut sample);
            assert_eq!(i32::from(to_i16(sample[0])), mu, "mu-law {code:#x}");
            Codec::Pcma.decode(&[code], &mut sample);
            assert_eq!(i32::from(to_i16(sample[0])), alaw, "A-law {code:#x}");
        }
    }

    #[test]
    fn samples_out_of_range_are_clamped_and_nan_is_silence() {
        let mut bytes = [0; 4];
        assert_eq!(Codec::Pcmu.encode(&[7.0, -7.0, f32::NAN, f32::INFINITY], &mut bytes), 4);
        assert_eq!(bytes, [0x80, 0x00, 0xFF, 0x80]);
    }
}
