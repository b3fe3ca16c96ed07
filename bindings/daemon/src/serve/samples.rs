//! Samples as the control socket carries them <-> `f32` in [-1, 1].

use control::types::Encoding;
use engine::codec::{Codec, from_i16, to_i16};

/// Reads whole samples; what is left over of a cut one is dropped.
pub(crate) fn decode(encoding: Encoding, bytes: &[u8]) -> Vec<f32> {
    match encoding {
        Encoding::S16 => bytes.chunks_exact(2).map(|b| from_i16(i16::from_le_bytes([b[0], b[1]]))).collect(),
        Encoding::F32 => bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            // NaN and infinity would live on in every filter behind this
            .map(|sample| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 })
            .collect(),
        Encoding::Ulaw => g711(Codec::Pcmu, bytes),
        Encoding::Alaw => g711(Codec::Pcma, bytes),
    }
}

fn g711(codec: Codec, bytes: &[u8]) -> Vec<f32> {
    let mut samples = vec![0.0; bytes.len()];
    codec.decode(bytes, &mut samples);
    samples
}

/// Writes samples.
pub(crate) fn encode(encoding: Encoding, samples: &[f32], out: &mut Vec<u8>) {
    out.clear();
    match encoding {
        Encoding::S16 => {
            out.extend(samples.iter().flat_map(|&s| to_i16(s).to_le_bytes()));
        }
        Encoding::F32 => out.extend(samples.iter().flat_map(|s| s.to_le_bytes())),
        Encoding::Ulaw | Encoding::Alaw => {
            let codec = if encoding == Encoding::Ulaw { Codec::Pcmu } else { Codec::Pcma };
            out.resize(samples.len(), 0);
            codec.encode(samples, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let samples = [0.0_f32, 0.25, -0.5, 0.99];
        for (encoding, tolerance) in
            [(Encoding::F32, 0.0), (Encoding::S16, 1e-4), (Encoding::Ulaw, 0.03), (Encoding::Alaw, 0.03)]
        {
            let mut bytes = Vec::new();
            encode(encoding, &samples, &mut bytes);
            for (before, after) in samples.iter().zip(decode(encoding, &bytes)) {
                assert!((before - after).abs() <= tolerance, "{encoding:?}: {before} became {after}");
            }
        }
    }

    #[test]
    fn floats_that_are_no_numbers_become_silence() {
        let bytes: Vec<u8> = [f32::NAN, f32::INFINITY, 7.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        assert_eq!(decode(Encoding::F32, &bytes), [0.0, 0.0, 1.0]);
    }
}
