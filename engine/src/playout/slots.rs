//! Packets that wait for their turn, in fixed slots by sequence number.

use crate::codec::Codec;
use crate::playout::MAX_PAYLOAD;

/// Packets that can wait: 1.28 s of 20 ms packets, 640 ms of 10 ms packets; more than the largest playout delay.
pub(super) const SLOTS: usize = 64;

/// What is known of a packet in its slot. Numbers are extended, they do not wrap; timestamps are in samples of 8 kHz.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) sequence: i64,
    pub(super) timestamp: i64,
    pub(super) codec: Codec,
    /// In samples of 8 kHz.
    pub(super) samples: usize,
    /// In bytes.
    length: usize,
    waiting: bool,
}

impl Waiting {
    /// The timestamp behind its last sample.
    pub(super) fn end(&self) -> i64 {
        self.timestamp + samples(self.samples)
    }
}

#[derive(Debug)]
pub(super) struct Slots {
    packets: [Option<Waiting>; SLOTS],
    payloads: Box<[[u8; MAX_PAYLOAD]; SLOTS]>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { packets: [None; SLOTS], payloads: Box::new([[0; MAX_PAYLOAD]; SLOTS]) }
    }

    /// Whether the packet with this number came already, as far back as the slots remember.
    pub(super) fn has_seen(&self, sequence: i64) -> bool {
        self.packets[index(sequence)].is_some_and(|p| p.sequence == sequence)
    }

    /// Puts a packet into its slot, in place of the one that had the slot before it. The payload fits; it makes so many
    /// samples.
    pub(super) fn insert(&mut self, sequence: i64, timestamp: i64, codec: Codec, samples: usize, payload: &[u8]) {
        let slot = index(sequence);
        let length = payload.len().min(MAX_PAYLOAD);
        self.payloads[slot][..length].copy_from_slice(&payload[..length]);
        self.packets[slot] = Some(Waiting { sequence, timestamp, codec, samples, length, waiting: true });
    }

    /// The earliest waiting packet with something to say at or after a timestamp.
    pub(super) fn next(&self, timestamp: i64) -> Option<Waiting> {
        self.waiting().filter(|p| p.end() > timestamp).min_by_key(|p| p.timestamp).copied()
    }

    /// The earliest waiting packet of all.
    pub(super) fn first(&self) -> Option<Waiting> {
        self.waiting().min_by_key(|p| p.timestamp).copied()
    }

    /// A packet's payload, which still waits.
    pub(super) fn payload(&self, packet: &Waiting) -> &[u8] {
        &self.payloads[index(packet.sequence)][..packet.length]
    }

    /// Takes a packet's payload; its number stays known.
    pub(super) fn take(&mut self, packet: &Waiting) -> &[u8] {
        let slot = index(packet.sequence);
        if let Some(waiting) = &mut self.packets[slot] {
            waiting.waiting = false;
        }
        &self.payloads[slot][..packet.length]
    }

    pub(super) fn clear(&mut self) {
        self.packets = [None; SLOTS];
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.packets.iter().flatten().filter(|p| p.waiting)
    }
}

fn index(sequence: i64) -> usize {
    usize::try_from(sequence.rem_euclid(SLOTS as i64)).unwrap_or(0)
}

pub(super) fn samples(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
