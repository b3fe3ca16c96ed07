//! Opus (RFC 6716, RTP by RFC 7587): libopus, mono, for voice, with the loss of one packet repaired by the next one.
//!
//! libopus takes and gives samples at several rates, 8 kHz among them, which is the rate inside a call: its own filters do
//! the conversion. So what is sent is narrowband until a call is wider inside, and what is received may be anything, stereo
//! too, and is heard in mono at 8 kHz. The RTP clock is 48 kHz always.
//!
//! Making a state allocates; encoding and decoding do not: libopus takes what it needs from the stack.

use opus::packet::{get_nb_samples, get_samples_per_frame};
use opus::{Application, Bitrate, Channels, Signal};

use super::to_i16;

const RATE_HZ: u32 = 8_000;
/// Longest packet that is sent: 60 ms.
const MAX_SAMPLES: usize = 480;
/// Enough for narrowband speech without an audible difference (RFC 7587 section 3.1.1 names 8 to 12 kbit/s), and for the
/// copy of the packet before.
const BITRATE: i32 = 24_000;
/// How hard the encoder looks, 0 to 10. From 5 on nothing is gained for narrowband speech that could be heard, and each
/// packet costs more.
const COMPLEXITY: i32 = 5;
/// The loss that is provided for before reports tell of one, in percent: mobile networks have it.
const USUAL_LOSS: i32 = 10;
/// Bounds of what is provided for: below there is no copy, above the copies take too much of the rate.
const LOSS_RANGE: (i32, i32) = (5, 30);

/// Writes 8 kHz samples as Opus.
#[derive(Debug)]
pub(super) struct OpusEncoder(opus::Encoder);

impl OpusEncoder {
    /// `None` if there is no memory.
    pub(super) fn new() -> Option<Self> {
        let mut encoder = opus::Encoder::new(RATE_HZ, Channels::Mono, Application::Voip).ok()?;
        encoder.set_bitrate(Bitrate::Bits(BITRATE)).ok()?;
        encoder.set_complexity(COMPLEXITY).ok()?;
        encoder.set_signal(Signal::Voice).ok()?;
        encoder.set_inband_fec(true).ok()?;
        encoder.set_packet_loss_perc(USUAL_LOSS).ok()?;
        Some(Self(encoder))
    }

    /// Whether nobody's speaking is told by packets of a byte or two, from the tenth of 20 ms on; every 400 ms one is whole.
    pub(super) fn set_dtx(&mut self, dtx: bool) {
        let _ = self.0.set_dtx(dtx); // refuses nothing
    }

    /// Encodes a packet of 10, 20, 40 or 60 ms; 0 if it has another length.
    pub(super) fn encode(&mut self, samples: &[f32], bytes: &mut [u8]) -> usize {
        let mut whole = [0; MAX_SAMPLES];
        let Some(whole) = whole.get_mut(..samples.len()) else { return 0 };
        for (slot, &sample) in whole.iter_mut().zip(samples) {
            *slot = to_i16(sample);
        }
        self.0.encode(whole, bytes).unwrap_or(0)
    }

    /// Provides for the loss that the far end reports.
    pub(super) fn expect_loss(&mut self, share: f32) {
        let percent = ((share * 100.0) as i32).clamp(LOSS_RANGE.0, LOSS_RANGE.1);
        let _ = self.0.set_packet_loss_perc(percent);
    }
}

/// Reads Opus as 8 kHz samples.
#[derive(Debug)]
pub(super) struct OpusDecoder(opus::Decoder);

impl OpusDecoder {
    /// `None` if there is no memory.
    pub(super) fn new() -> Option<Self> {
        opus::Decoder::new(RATE_HZ, Channels::Mono).ok().map(Self)
    }

    /// Decodes a packet; 0 if it is none.
    pub(super) fn decode(&mut self, payload: &[u8], samples: &mut [f32]) -> usize {
        if payload.is_empty() {
            return 0; // libopus would invent something
        }
        self.0.decode_float(payload, samples, false).unwrap_or(0)
    }

    /// Decodes the copy of the packet before that this one carries into `samples`, which has its length.
    pub(super) fn decode_copy(&mut self, payload: &[u8], samples: &mut [f32]) -> usize {
        self.0.decode_float(payload, samples, true).unwrap_or(0)
    }

    /// Lets the state know that so many samples were lost. What libopus invents for them is not heard.
    pub(super) fn lose(&mut self, scratch: &mut [f32]) {
        let whole = scratch.len() / 20 * 20; // 2.5 ms
        if whole > 0 {
            let _ = self.0.decode_float(&[], &mut scratch[..whole], false);
        }
    }
}

/// The samples of a packet at 8 kHz; `None` if it is no Opus.
pub(super) fn samples(payload: &[u8]) -> Option<usize> {
    get_nb_samples(payload, RATE_HZ).ok().filter(|&n| n > 0)
}

/// The length at 8 kHz of what this packet carries of the packet before it, if it carries anything (RFC 6716 section
/// 2.1.7): the first bits of a SILK frame tell (sections 3.1 and 4.2.3).
pub(super) fn copied_samples(payload: &[u8]) -> Option<usize> {
    let [toc, first, ..] = *payload else { return None };
    let (config, one_frame) = (toc >> 3, toc & 3 == 0);
    // CELT carries no copies, and packets of several frames are rare on telephones
    if config >= 16 || !one_frame {
        return None;
    }
    let samples = get_samples_per_frame(payload, RATE_HZ).ok()?;
    // a bit of voice activity for each 20 ms, then the one that tells of a copy
    let activity_bits = samples.div_ceil(160);
    (first >> (7 - activity_bits.min(7)) & 1 == 1).then_some(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(n: usize) -> f32 {
        let t = n as f32 / 8_000.0;
        let phase = std::f32::consts::TAU * (120.0 * t - 4.0 * (t * 2.1).cos());
        // syllables, which is what tells a voice from noise
        let envelope = (t * 25.0).sin().max(0.0);
        0.3 * envelope * (1..16).map(|h| (phase * h as f32).sin() / h as f32).sum::<f32>()
    }

    fn packets(samples_each: usize, count: usize) -> Vec<Vec<u8>> {
        let mut encoder = OpusEncoder::new().unwrap();
        (0..count)
            .map(|n| {
                let said: Vec<f32> = (n * samples_each..(n + 1) * samples_each).map(voice).collect();
                let mut bytes = [0; 480];
                let length = encoder.encode(&said, &mut bytes);
                assert!(length > 0);
                bytes[..length].to_vec()
            })
            .collect()
    }

    /// The best likeness of the two over some delays, 0 to 1; the lowest tones, which the encoder takes out, count little.
    fn likeness(said: &[f32], heard: &[f32]) -> f32 {
        let sharp = |samples: &[f32]| samples.windows(2).map(|w| w[1] - 0.9 * w[0]).collect::<Vec<f32>>();
        let (said, heard) = (sharp(said), sharp(heard));
        (0..200)
            .map(|delay| {
                let pairs = || said.iter().zip(&heard[delay..]);
                let dot: f32 = pairs().map(|(a, b)| a * b).sum();
                let energies = pairs().fold((1e-9, 1e-9), |(x, y), (a, b)| (x + a * a, y + b * b));
                dot / f32::sqrt(energies.0 * energies.1)
            })
            .fold(0.0, f32::max)
    }

    #[test]
    fn a_voice_comes_through_in_packets_of_every_length() {
        for samples_each in [80, 160, 320, 480] {
            let mut decoder = OpusDecoder::new().unwrap();
            let mut heard = Vec::new();
            for packet in packets(samples_each, 16_000 / samples_each) {
                assert_eq!(samples(&packet), Some(samples_each));
                let mut out = [0.0; 960];
                assert_eq!(decoder.decode(&packet, &mut out), samples_each);
                heard.extend(&out[..samples_each]);
            }
            let said: Vec<f32> = (0..15_000).map(voice).collect();
            let like = likeness(&said, &heard);
            assert!(like > 0.92, "{samples_each}: {like}");
        }
    }

    #[test]
    fn a_lost_packet_comes_with_the_next_one() {
        let packets = packets(160, 100);
        let with_copy = packets[5..].iter().filter(|p| copied_samples(p) == Some(160)).count();
        assert!(with_copy > 30, "every packet after a loud one: {with_copy} of 95");
        let play = |repair: bool| {
            let mut decoder = OpusDecoder::new().unwrap();
            let mut heard = vec![0.0; 16_000];
            for (n, packet) in packets.iter().enumerate() {
                let (before, now) = heard.split_at_mut(n * 160);
                if n % 5 == 4 {
                    continue;
                }
                if n % 5 == 0 && n > 0 && repair {
                    let at = before.len() - 160;
                    assert_eq!(decoder.decode_copy(packet, &mut before[at..]), 160);
                }
                decoder.decode(packet, &mut now[..960.min(16_000 - n * 160)]);
            }
            likeness(&(0..15_000).map(voice).collect::<Vec<f32>>(), &heard)
        };
        let (repaired, holes) = (play(true), play(false));
        assert!(repaired > 0.9 && holes < 0.8, "{repaired} against {holes}");
    }

    #[test]
    fn what_is_no_opus_is_refused() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut decoder = OpusDecoder::new().unwrap();
        let mut out = [0.0; 960];
        assert_eq!((samples(&[]), copied_samples(&[]), decoder.decode(&[], &mut out)), (None, None, 0));
        for _ in 0..20_000 {
            let length = random.usize(0..120);
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            let told = samples(&bytes);
            let decoded = decoder.decode(&bytes, &mut out);
            assert!(decoded == 0 || Some(decoded) == told);
            assert!(out.iter().all(|s| s.is_finite()));
            let _ = copied_samples(&bytes);
        }
    }
}
