//! The numbers of received packets: which of them a 16-bit sequence number means, and which came already (RFC 3711
//! sections 3.3.1 and 3.3.2).

use crate::rtp::extend_sequence;

/// Packets that the replay window remembers: 2.5 s of 20 ms packets, more than a jitter buffer would still play. The RFC
/// asks for 64 at least.
pub(super) const WINDOW: u32 = 128;
/// Sources that are remembered under one key. A call has one; a far end that bridges or transfers has a few.
const SOURCES: usize = 8;

/// What is known of one source.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    /// The highest index that was authenticated: 2^16 times the rollover counter, and the sequence number.
    highest: i64,
    /// Bit n: the packet n before the highest one came.
    seen: u128,
    /// When it was heard last, counted in packets.
    used: u64,
}

/// The sources of one direction of RTP or RTCP.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    known: heapless::Vec<Source, SOURCES>,
    packets: u64,
}

impl Sources {
    /// The index that a sequence number of this source most likely means; `None` if the source is not known.
    pub(super) fn guess(&self, ssrc: u32, sequence: u16) -> Option<i64> {
        self.find(ssrc).map(|source| extend_sequence(source.highest, sequence))
    }

    /// Whether the packet of this index may be taken: not before, and not too long after its time.
    pub(super) fn is_new(&self, ssrc: u32, index: i64) -> bool {
        let Some(source) = self.find(ssrc) else { return index >= 0 };
        match source.highest.checked_sub(index) {
            Some(behind @ 0..) => {
                index >= 0 && behind < i64::from(WINDOW) && source.seen >> u32::try_from(behind).unwrap_or(0) & 1 == 0
            }
            Some(_) => true,
            None => false,
        }
    }

    /// The packet of this index is authentic and was taken.
    pub(super) fn take(&mut self, ssrc: u32, index: i64) {
        self.packets += 1;
        let used = self.packets;
        if let Some(source) = self.known.iter_mut().find(|s| s.ssrc == ssrc) {
            source.used = used;
            let ahead = index - source.highest;
            if ahead > 0 {
                let shift = u32::try_from(ahead).unwrap_or(WINDOW);
                source.seen = source.seen.checked_shl(shift).unwrap_or(0) | 1;
                source.highest = index;
            } else if let Ok(behind @ 0..WINDOW) = u32::try_from(-ahead) {
                source.seen |= 1 << behind;
            }
            return;
        }
        if self.known.is_full()
            && let Some(oldest) = (0..self.known.len()).min_by_key(|&n| self.known[n].used)
        {
            self.known.swap_remove(oldest);
        }
        let _ = self.known.push(Source { ssrc, highest: index, seen: 1, used });
    }

    /// The rollover counter of a source, if it is known.
    #[cfg(test)]
    pub(super) fn rollovers(&self, ssrc: u32) -> Option<i64> {
        self.find(ssrc).map(|source| source.highest >> 16)
    }

    fn find(&self, ssrc: u32) -> Option<&Source> {
        self.known.iter().find(|source| source.ssrc == ssrc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(sources: &mut Sources, index: i64) -> bool {
        let new = sources.is_new(1, index);
        if new {
            sources.take(1, index);
        }
        new
    }

    #[test]
    fn each_packet_is_taken_once_and_old_ones_are_not() {
        let mut sources = Sources::default();
        assert!(offer(&mut sources, 500) && !offer(&mut sources, 500));
        assert!(offer(&mut sources, 503) && offer(&mut sources, 501) && !offer(&mut sources, 501));
        assert!(offer(&mut sources, 503 - 127) && !offer(&mut sources, 503 - 128));
        assert!(offer(&mut sources, 10_000) && !offer(&mut sources, 503) && offer(&mut sources, 9_999));
        assert!(!offer(&mut sources, -1));
        assert!(!Sources::default().is_new(1, -1));
    }

    #[test]
    fn the_source_that_was_silent_longest_makes_room() {
        let mut sources = Sources::default();
        for ssrc in 0..8 {
            sources.take(ssrc, 7);
        }
        sources.take(0, 8);
        sources.take(99, 1);
        assert_eq!(sources.rollovers(1), None);
        assert!(!sources.is_new(0, 8) && sources.is_new(99, 2));
    }

    proptest! {
        /// Against a list of all that was ever taken.
        #[test]
        fn the_window_agrees_with_a_list(steps in prop::collection::vec(-150_i64..150, 1..200)) {
            let (mut sources, mut taken, mut highest) = (Sources::default(), Vec::new(), 70_000_i64);
            offer(&mut sources, highest);
            taken.push(highest);
            for step in steps {
                let index = highest + step;
                let expected = !taken.contains(&index) && index > highest - i64::from(WINDOW);
                prop_assert_eq!(offer(&mut sources, index), expected);
                if expected {
                    taken.push(index);
                    highest = highest.max(index);
                }
                prop_assert_eq!(sources.guess(1, (highest & 0xFFFF) as u16), Some(highest));
            }
        }
    }
}
