//! What may happen a thousand times a second is said now and then.

use std::time::{Duration, Instant};

/// Once it was said, it is not said again for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether something that happens again is to be said again.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It happened: `Some`, with how often it did since it was last said, if it is to be said now.
    pub(super) fn turn(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < PAUSE) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_said_and_the_others_are_counted_until_the_next() {
        let (mut seldom, begun) = (Seldom::default(), Instant::now());
        let turns: Vec<_> = (0..25_001).step_by(100).map(|ms| seldom.turn(begun + Duration::from_millis(ms))).collect();
        let said: Vec<_> = turns.into_iter().flatten().collect();
        assert_eq!(said, [0, 99, 99]);
    }
}
