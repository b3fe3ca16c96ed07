//! The codecs of the wire behind one enum: a telephone call knows at most a handful, so a `match` in the sample path
//! beats a trait object.
//!
//! G.711 has no state: every byte is a sample, so packets can be decoded in any order and from any offset. The others have
//! one: their packets are decoded whole and in the order of playing, by the playout. States are made and dropped off the
//! real-time threads; what is done with them there does not allocate.
//!
//! Inside, a call has one rate, 8 kHz. A codec that samples at another rate converts at its own edge, so that everything
//! behind it is the same for all of them; a call that is wider inside would change this room and `dsp` alone.

mod g711;
mod g722;
mod opus;

use g722::{G722Decoder, G722Encoder};
use opus::{OpusDecoder, OpusEncoder};

/// RTP payload type of G.711 mu-law, fixed by RFC 3551.
pub const PCMU_PAYLOAD_TYPE: u8 = 0;
/// RTP payload type of G.711 A-law, fixed by RFC 3551.
pub const PCMA_PAYLOAD_TYPE: u8 = 8;
/// RTP payload type of G.722, fixed by RFC 3551.
pub const G722_PAYLOAD_TYPE: u8 = 9;
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
    /// G.722, 16 kHz, 64 kbit/s (RFC 3551 `G722`).
    G722,
    /// Opus (RFC 7587 `opus`), sent as mono narrowband speech at 24 kbit/s.
    Opus,
}

impl Codec {
    /// The codec without a state that a static payload type of RFC 3551 names: of the two laws there is never a doubt.
    #[must_use]
    pub const fn of_static_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            PCMU_PAYLOAD_TYPE => Some(Self::Pcmu),
            PCMA_PAYLOAD_TYPE => Some(Self::Pcma),
            _ => None,
        }
    }

    /// The RTP clock of the codec, in Hz. G.722's is 8 kHz although it samples at 16 (RFC 3551 section 4.5.2).
    #[must_use]
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::Opus => 48_000,
        }
    }

    /// The name that SDP uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "opus",
        }
    }

    /// Whether a packet of so many milliseconds can be sent.
    pub(crate) const fn can_send_ms(self, ms: u16) -> bool {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => true,
            Self::Opus => matches!(ms, 10 | 20 | 40 | 60),
        }
    }

    /// The length of a payload in samples of 8 kHz; `None` if it cannot be one of this codec.
    #[must_use]
    pub fn samples(self, payload: &[u8]) -> Option<usize> {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 if payload.is_empty() => None,
            Self::Pcmu | Self::Pcma | Self::G722 => Some(payload.len()),
            Self::Opus => opus::samples(payload),
        }
    }

    /// Whether a payload says no more than that nobody speaks, so that the next ones may be left out (RFC 7587 section 3.1.3).
    #[must_use]
    pub const fn is_pause(self, payload: &[u8]) -> bool {
        matches!(self, Self::Opus) && matches!(payload.len(), 1 | 2)
    }

    /// Decodes G.711: as many bytes as both slices hold; returns the number of samples written. Codecs with a state write
    /// none: they need a [`Decoder`].
    pub fn decode(self, bytes: &[u8], samples: &mut [f32]) -> usize {
        match self {
            Self::Pcmu => g711::decode_mu(bytes, samples),
            Self::Pcma => g711::decode_a(bytes, samples),
            Self::G722 | Self::Opus => 0,
        }
    }

    /// Encodes G.711: as many samples as both slices hold, clamped to [-1, 1]; returns the number of bytes written. What is
    /// not a number becomes silence. Codecs with a state write nothing: they need an [`Encoder`].
    pub fn encode(self, samples: &[f32], bytes: &mut [u8]) -> usize {
        match self {
            Self::Pcmu => g711::encode_mu(samples, bytes),
            Self::Pcma => g711::encode_a(samples, bytes),
            Self::G722 | Self::Opus => 0,
        }
    }
}

/// Writes the samples of a call as its codec does. Made off the real-time threads.
#[derive(Debug)]
pub struct Encoder(EncoderState);

#[derive(Debug)]
enum EncoderState {
    G711(Codec),
    G722(Box<G722Encoder>),
    Opus(OpusEncoder),
    /// There was no memory for a state: nothing is sent.
    Mute,
}

impl Encoder {
    /// An encoder at the beginning of a stream. Allocates.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self(match codec {
            Codec::Pcmu | Codec::Pcma => EncoderState::G711(codec),
            Codec::G722 => EncoderState::G722(Box::default()),
            Codec::Opus => OpusEncoder::new().map_or_else(
                || {
                    log::error!("no memory for an Opus encoder: a call is mute");
                    EncoderState::Mute
                },
                EncoderState::Opus,
            ),
        })
    }

    /// With `dtx` a pause becomes packets by which only [`Codec::is_pause`] (Opus; the others know no such thing).
    #[must_use]
    pub fn with_dtx(mut self, dtx: bool) -> Self {
        if let EncoderState::Opus(encoder) = &mut self.0 {
            encoder.set_dtx(dtx);
        }
        self
    }

    /// Encodes a packet of samples at 8 kHz; returns the number of bytes written, 0 if there is nothing to send.
    pub fn encode(&mut self, samples: &[f32], bytes: &mut [u8]) -> usize {
        match &mut self.0 {
            EncoderState::G711(law) => law.encode(samples, bytes),
            EncoderState::G722(encoder) => encoder.encode(samples, bytes),
            EncoderState::Opus(encoder) => encoder.encode(samples, bytes),
            EncoderState::Mute => 0,
        }
    }

    /// The far end loses this share of the packets, 0 to 1.
    pub fn expect_loss(&mut self, share: f32) {
        if let EncoderState::Opus(encoder) = &mut self.0 {
            encoder.expect_loss(share);
        }
    }
}

/// Reads what a far end sends in the codec that was agreed, and in G.711 besides. Made off the real-time threads.
#[derive(Debug)]
pub struct Decoder(DecoderState);

#[derive(Debug)]
enum DecoderState {
    /// G.711 alone, or no memory for another one.
    Stateless,
    G722(Box<G722Decoder>),
    Opus(OpusDecoder),
}

impl Decoder {
    /// A decoder at the beginning of a stream. Allocates.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self(match codec {
            Codec::Pcmu | Codec::Pcma => DecoderState::Stateless,
            Codec::G722 => DecoderState::G722(Box::default()),
            Codec::Opus => OpusDecoder::new().map_or_else(
                || {
                    log::error!("no memory for an Opus decoder: a call is deaf");
                    DecoderState::Stateless
                },
                DecoderState::Opus,
            ),
        })
    }

    /// Decodes a payload, the next one to be played, without its first `skip` samples; returns how many were written. None
    /// are written if the payload is broken, or of a codec that is not agreed any more.
    pub fn decode(&mut self, codec: Codec, payload: &[u8], skip: usize, samples: &mut [f32]) -> usize {
        let count = match (codec, &mut self.0) {
            (Codec::Pcmu | Codec::Pcma, _) => return codec.decode(payload.get(skip..).unwrap_or(&[]), samples),
            (Codec::G722, DecoderState::G722(decoder)) => decoder.decode(payload, samples),
            (Codec::Opus, DecoderState::Opus(decoder)) => decoder.decode(payload, samples),
            _ => return 0,
        };
        leave_first_out(samples, count, skip)
    }

    /// The number of samples before this payload's that it carries a copy of.
    #[must_use]
    pub fn copied_samples(&self, codec: Codec, payload: &[u8]) -> Option<usize> {
        match (codec, &self.0) {
            (Codec::Opus, DecoderState::Opus(_)) => opus::copied_samples(payload),
            _ => None,
        }
    }

    /// Decodes the copy of `copied` samples that a payload carries of the one before it, without its first `skip` ones, in
    /// place of that one; returns how many were written.
    pub fn decode_copy(&mut self, payload: &[u8], copied: usize, skip: usize, samples: &mut [f32]) -> usize {
        let DecoderState::Opus(decoder) = &mut self.0 else { return 0 };
        let Some(room) = samples.get_mut(..copied) else { return 0 };
        let count = decoder.decode_copy(payload, room);
        leave_first_out(room, count, skip)
    }

    /// So many samples before the next payload are lost for good. The scratch space is written to.
    pub fn lose(&mut self, scratch: &mut [f32]) {
        if let DecoderState::Opus(decoder) = &mut self.0 {
            decoder.lose(scratch);
        }
    }

    /// Whether the codec wants to be told of losses.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        matches!(self.0, DecoderState::Opus(_))
    }
}

/// Moves what comes after the first `skip` of `count` samples to the beginning; returns how many these are.
fn leave_first_out(samples: &mut [f32], count: usize, skip: usize) -> usize {
    let (count, skip) = (count.min(samples.len()), skip.min(count));
    if skip > 0 {
        samples.copy_within(skip..count, 0);
    }
    count.saturating_sub(skip)
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

    /// By the decision values of ITU-T G.711 tables 1 and 2, negative samples as one's complements as ITU-T G.191 has them.
    #[test]
    fn all_65536_samples_become_the_codes_of_the_standard() {
        for sample in i16::MIN..=i16::MAX {
            let (sign, magnitude) = (if sample < 0 { 0 } else { 0x80_u16 }, (sample ^ (sample >> 15)).cast_unsigned());
            let biased = ((magnitude >> 2) + 33).min(0x1FFF);
            let segment = 11 - (biased.leading_zeros() as u16).min(10);
            let mu = sign | ((8 - segment) << 4) | (0xF - ((biased >> segment) & 0xF));
            let level = magnitude >> 4;
            let chord = 12_u16.saturating_sub(level.leading_zeros() as u16);
            let a = if chord == 0 { level } else { (chord << 4) | ((level >> (chord - 1)) & 0xF) };
            let mut bytes = [0; 2];
            Codec::Pcmu.encode(&[from_i16(sample)], &mut bytes[..1]);
            Codec::Pcma.encode(&[from_i16(sample)], &mut bytes[1..]);
            assert_eq!(bytes.map(u16::from), [mu, (a | sign) ^ 0x55], "{sample}");
        }
    }

    #[test]
    fn samples_out_of_range_are_clamped_and_nan_is_silence() {
        let mut bytes = [0; 4];
        assert_eq!(Codec::Pcmu.encode(&[7.0, -7.0, f32::NAN, f32::INFINITY], &mut bytes), 4);
        assert_eq!(bytes, [0x80, 0x00, 0xFF, 0x80]);
    }
}
