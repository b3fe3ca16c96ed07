//! Digits by SIP INFO, for far ends that have no telephone events: one after the other, as long as a finger would take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use signaling::net::Command;

use super::switchboard::Switchboard;

/// What two common forms say; this one carries the duration.
const CONTENT_TYPE: &str = "application/dtmf-relay";
/// Digits that may wait; what a client can ask for at once, a few times.
const MOST: usize = 256;

/// The digits of one call that wait.
#[derive(Debug, Default)]
pub(crate) struct InfoDigits {
    waiting: VecDeque<(char, Duration, Duration)>,
    next: Option<Instant>,
}

impl InfoDigits {
    /// Puts digits at the end; false: there is no room for them.
    pub(super) fn push(&mut self, digits: &str, duration: Duration, gap: Duration) -> bool {
        let room = self.waiting.len() + digits.len() <= MOST;
        if room {
            self.waiting.extend(digits.chars().map(|digit| (digit, duration, gap)));
        }
        room
    }

    /// The digit whose turn it is, and how long it is pressed.
    fn take(&mut self, now: Instant) -> Option<(char, Duration)> {
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        let (digit, duration, gap) = self.waiting.pop_front()?;
        self.next = Some(now + duration + gap);
        Some((digit, duration))
    }
}

impl Switchboard {
    /// Sends the digits whose time has come.
    pub(super) fn press_by_info(&mut self, number: u32, now: Instant) {
        let Some((digit, duration)) = self.calls.get_mut(&number).and_then(|call| call.info_digits.take(now)) else {
            return;
        };
        self.command(Command::Info {
            call: signaling::CallId(number),
            content_type: CONTENT_TYPE.into(),
            body: format!("Signal={digit}\r\nDuration={}\r\n", duration.as_millis()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digit_goes_when_the_last_was_released() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut digits = InfoDigits::default();
        assert!(digits.push("1#", ms(120), ms(60)));
        assert_eq!(digits.take(now), Some(('1', ms(120))));
        assert_eq!(digits.take(now + ms(179)), None);
        assert_eq!(digits.take(now + ms(180)), Some(('#', ms(120))));
        assert_eq!(digits.take(now + ms(999)), None);
        assert!(!digits.push(&"1".repeat(257), ms(120), ms(60)));
    }
}
