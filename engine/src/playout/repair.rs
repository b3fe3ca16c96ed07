//! Whether to wait for the packet behind a missing one, because it carries a copy of it (Opus).
//!
//! On a clean line the buffer is as short as it can be, and when a packet is missed the next one is not there yet: its copy
//! comes too late. Where packets are lost that is worth a packet's length of delay: measured by P.862, 20 ms more give half a
//! point at 10 % loss (bench `quality`).

/// What one packet says of the share of the lost: 200 packets are remembered.
const GAIN: f32 = 0.005;
/// Shares of lost packets from which on the delay is longer, and under which it is not any more.
const BEGIN: f32 = 0.015;
const END: f32 = 0.005;
/// One gap counts as so many lost packets at most: an outage says nothing of the line.
const MAX_GAP: i64 = 5;

#[derive(Debug, Default)]
pub(super) struct Repair {
    lost: f32,
    /// Samples of the copies that packets carry; 0: they carry none.
    copied: usize,
    waiting: bool,
}

impl Repair {
    /// Another stream, perhaps another codec: nothing is known of its copies.
    pub(super) fn restart(&mut self) {
        self.copied = 0;
    }

    /// A packet is played, so many before it are missing, and it carries a copy of so many samples or none.
    pub(super) fn note(&mut self, missing: i64, copied: Option<usize>) {
        for _ in 0..missing.clamp(0, MAX_GAP) {
            self.lost += (1.0 - self.lost) * GAIN;
        }
        self.lost -= self.lost * GAIN;
        // in a pause nothing is copied
        self.copied = copied.unwrap_or(self.copied);
        self.waiting = self.lost > if self.waiting { END } else { BEGIN };
    }

    /// Samples by which the delay should be longer.
    pub(super) fn delay(&self) -> f64 {
        if self.waiting { self.copied as f64 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_waited_for_while_packets_are_lost() {
        let mut repair = Repair::default();
        let mut run = |packets: u32, lost_every: u32, copied| {
            (0..packets).for_each(|n| repair.note(i64::from(n % lost_every == 0), copied));
            repair.delay()
        };
        assert_eq!(run(1_000, u32::MAX, Some(160)), 0.0);
        assert_eq!(run(1_000, 20, Some(160)), 160.0);
        assert_eq!(run(100, 20, None), 160.0, "a pause");
        assert_eq!(run(2_000, u32::MAX, Some(160)), 0.0);
        repair.restart();
        let mut run = |packets| (0..packets).for_each(|_| repair.note(1, None));
        run(1_000);
        assert_eq!(repair.delay(), 0.0, "nothing to wait for");
        repair.note(i64::MAX, Some(160));
        assert_eq!(repair.delay(), 160.0);
    }
}
