//! Packets that wait for their turn, in fixed slots by sequence number; their payloads lie in one ring of bytes, for packets of
//! 10 ms and of 120 ms have the same number of them in a second.

use crate::codec::Codec;
use crate::playout::MAX_PAYLOAD;

/// Packets that can wait: 1.28 s of 20 ms packets, 640 ms of 10 ms packets; more than the largest playout delay.
pub(super) const SLOTS: usize = 64;
/// Payloads that can wait: 2.5 s at 64 kbit/s, of which 64 packets of 40 ms are what the slots can name.
const ROOM: usize = 20_480;

/// What is known of a packet in its slot. Numbers are extended, they do not wrap; timestamps are in samples of 8 kHz.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) sequence: i64,
    pub(super) timestamp: i64,
    pub(super) codec: Codec,
    /// In samples of 8 kHz.
    pub(super) samples: usize,
    /// Where the payload lies, in bytes.
    begin: usize,
    length: usize,
}

impl Waiting {
    /// The timestamp behind its last sample.
    pub(super) fn end(&self) -> i64 {
        self.timestamp + samples(self.samples)
    }
}

#[derive(Debug)]
#[repr(C)] // what is always needed lies before what one packet needs
pub(super) struct Slots {
    /// Bit n: the packet in slot n waits; the others were played, and only their numbers are known.
    waiting: u64,
    payloads: Box<[u8; ROOM]>,
    /// Where the next payload goes to.
    head: usize,
    packets: [Option<Waiting>; SLOTS],
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { packets: [None; SLOTS], waiting: 0, payloads: Box::new([0; ROOM]), head: 0 }
    }

    /// Whether the packet with this number came already, as far back as the slots remember.
    pub(super) fn has_seen(&self, sequence: i64) -> bool {
        self.packets[index(sequence)].is_some_and(|p| p.sequence == sequence)
    }

    /// Puts a packet into its slot, in place of the one that had the slot before it. The payload fits; it makes so many
    /// samples. Packets that still wait where it comes to lie are given up: they are older than any delay.
    pub(super) fn insert(&mut self, sequence: i64, timestamp: i64, codec: Codec, samples: usize, payload: &[u8]) {
        let slot = index(sequence);
        let length = payload.len().min(MAX_PAYLOAD);
        let begin = if self.head + length > ROOM { 0 } else { self.head };
        self.waiting &= !(1 << slot);
        self.give_up(begin, length);
        self.payloads[begin..begin + length].copy_from_slice(&payload[..length]);
        self.head = begin + length;
        self.packets[slot] = Some(Waiting { sequence, timestamp, codec, samples, begin, length });
        self.waiting |= 1 << slot;
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
        &self.payloads[packet.begin..packet.begin + packet.length]
    }

    /// Takes a packet's payload; its number stays known.
    pub(super) fn take(&mut self, packet: &Waiting) -> &[u8] {
        self.waiting &= !(1 << index(packet.sequence));
        self.payload(packet)
    }

    pub(super) fn clear(&mut self) {
        self.packets = [None; SLOTS];
        self.waiting = 0;
    }

    fn give_up(&mut self, begin: usize, length: usize) {
        let lies_there = |p: &&Waiting| p.begin < begin + length && begin < p.begin + p.length;
        let gone = self.waiting().filter(lies_there).fold(0, |gone, p| gone | 1 << index(p.sequence));
        self.waiting &= !gone;
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        let mut left = self.waiting;
        std::iter::from_fn(move || {
            let slot = left.trailing_zeros() as usize; // 64, which there is not, when none is left
            left &= left.wrapping_sub(1);
            self.packets.get(slot)?.as_ref()
        })
    }
}

fn index(sequence: i64) -> usize {
    usize::try_from(sequence.rem_euclid(SLOTS as i64)).unwrap_or(0)
}

pub(super) fn samples(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PCMU: Codec = Codec::Pcmu;

    #[test]
    fn payloads_of_any_lengths_stay_as_they_are_until_the_ring_comes_round() {
        let mut slots = Slots::new();
        let mut random = fastrand::Rng::with_seed(9);
        let payload = |sequence: i64| {
            let length = fastrand::Rng::with_seed(sequence as u64).usize(..=MAX_PAYLOAD);
            vec![sequence as u8; length]
        };
        for sequence in 0..5_000 {
            let bytes = payload(sequence);
            slots.insert(sequence, sequence * 160, PCMU, 160, &bytes);
            let waiting: Vec<Waiting> = slots.waiting().copied().collect();
            assert!(waiting.iter().any(|p| p.sequence == sequence));
            for packet in &waiting {
                assert_eq!(slots.payload(packet), payload(packet.sequence));
            }
            if random.bool() {
                let first = slots.first().unwrap();
                assert_eq!(slots.take(&first).to_vec(), payload(first.sequence));
                assert!(slots.has_seen(first.sequence));
            }
        }
    }

    #[test]
    fn sixty_four_packets_of_20_ms_and_a_second_of_120_ms_can_wait() {
        for (samples, packets) in [(160, SLOTS), (480, 40), (960, 20)] {
            let mut slots = Slots::new();
            for sequence in 0..100 {
                slots.insert(sequence, sequence * 160, PCMU, samples, &vec![1; samples]);
            }
            assert!(slots.waiting().count() >= packets, "{samples}: {}", slots.waiting().count());
        }
    }
}
