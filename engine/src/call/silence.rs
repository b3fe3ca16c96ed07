//! Nothing is sent while nobody speaks (discontinuous transmission), where the far end agreed to comfort noise (RFC 3389), or
//! wants it of Opus (RFC 7587 section 3.1.3), which tells by itself when nobody does.

use crate::codec::Codec;

/// Silence that is still sent as audio: 200 ms, so that no end of a word and no short pause is cut.
const HANGOVER: usize = 1_600;
/// Comfort noise is sent again so often: half a second. It keeps NAT bindings open and tells the far end that we live.
const AGAIN: usize = 4_000;
/// Samples below this are silence: less than the finest step of G.711.
const SILENCE: f32 = 1.0 / 16_384.0;
/// The level of our noise, in -dBov: what a quiet line has, so that a pause is not taken for a dead one.
pub(super) const NOISE_LEVEL: u8 = 70;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transmit {
    /// It is sent. `first`: after a pause.
    Audio {
        first: bool,
    },
    /// Comfort noise is sent in its place.
    Noise,
    Nothing,
}

/// How long nobody has spoken.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// In samples.
    silent: usize,
    since_noise: usize,
    /// The last packet of Opus told of a pause.
    opus_paused: bool,
}

impl Silence {
    /// Decides about the next packet.
    pub(super) fn next(&mut self, samples: &[f32]) -> Transmit {
        let speaks = samples.iter().fold(0.0_f32, |loudest, s| loudest.max(s.abs())) >= SILENCE;
        let paused = self.silent > HANGOVER;
        if speaks {
            self.silent = 0;
            return Transmit::Audio { first: paused };
        }
        self.silent = self.silent.saturating_add(samples.len());
        if self.silent <= HANGOVER {
            return Transmit::Audio { first: false };
        }
        self.since_noise += samples.len();
        if paused && self.since_noise < AGAIN {
            return Transmit::Nothing;
        }
        self.since_noise = 0;
        Transmit::Noise
    }

    /// Decides about the next packet of Opus, by its payload: the first of those that say nothing is sent, so that the far
    /// end misses none of the others.
    pub(super) fn next_opus(&mut self, payload: &[u8]) -> Transmit {
        let paused = std::mem::replace(&mut self.opus_paused, Codec::Opus.is_pause(payload));
        match (paused, self.opus_paused) {
            (true, true) => Transmit::Nothing,
            (first, _) => Transmit::Audio { first },
        }
    }

    /// Something else is sent now, or nothing may be.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_sent_for_200_ms_and_then_told_twice_a_second() {
        let mut silence = Silence::default();
        assert_eq!(silence.next(&[0.1; 160]), Transmit::Audio { first: false });
        let pause: Vec<Transmit> = (0..100).map(|_| silence.next(&[0.0; 160])).collect();
        assert!(pause[..10].iter().all(|&t| t == Transmit::Audio { first: false }));
        let told: Vec<usize> = (0..100).filter(|&n| pause[n] == Transmit::Noise).collect();
        assert_eq!(told, [10, 35, 60, 85]);
        assert_eq!(pause.iter().filter(|&&t| t == Transmit::Nothing).count(), 100 - 10 - 4);
        assert_eq!(silence.next(&[0.001; 160]), Transmit::Audio { first: true });
        assert_eq!(silence.next(&[0.0; 160]), Transmit::Audio { first: false });
    }
}
