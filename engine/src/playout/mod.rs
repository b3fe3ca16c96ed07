//! From packets to an even stream of samples.

use crate::clock::Time;
use crate::codec::Codec;
use crate::stats::Counters;
use heapless::Deque;

/// Longest audio payload: 80 ms of G.711.
pub const MAX_PAYLOAD: usize = 640;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It waits for its turn.
    Accepted,
    /// The stream was started anew with it.
    Restarted,
    /// It came before.
    Duplicate,
    /// Its turn is over.
    Late,
    /// It does not belong to the stream so far; if the next one goes with it, the stream starts anew.
    Suspicious,
    /// It is empty or too long.
    Unusable,
}

/// The playout of one call.
#[derive(Debug, Default)]
pub struct Playout {
    samples: Deque<f32, 4096>,
}

impl Playout {
    /// Takes an audio packet.
    pub fn insert(&mut self, _arrival: Time, packet: &AudioPacket<'_>) -> Inserted {
        let mut decoded = [0.0; MAX_PAYLOAD];
        let count = packet.codec.decode(packet.payload, &mut decoded);
        for &sample in &decoded[..count] {
            let _ = self.samples.push_back(sample);
        }
        Inserted::Accepted
    }

    /// A packet that carries no audio took this sequence number.
    pub fn note_other(&mut self, _ssrc: u32, _sequence: u16) {}

    /// The far end is silent and sends only how loud its silence is, in -dBov (RFC 3389).
    pub fn comfort_noise(&mut self, _ssrc: u32, _sequence: u16, _level: u8) {}

    /// Fills `out` with what is to be heard now.
    pub fn pull(&mut self, _now: Time, out: &mut [f32], _counters: &Counters) {
        for slot in out {
            *slot = self.samples.pop_front().unwrap_or(0.0);
        }
    }
}

/// An audio packet with what playout needs to know of it.
#[derive(Debug, Clone, Copy)]
pub struct AudioPacket<'a> {
    /// Whose it is.
    pub ssrc: u32,
    /// Counts packets.
    pub sequence: u16,
    /// Counts samples.
    pub timestamp: u32,
    /// How the payload is written.
    pub codec: Codec,
    /// One byte a sample.
    pub payload: &'a [u8],
}
