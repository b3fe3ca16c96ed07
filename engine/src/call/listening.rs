//! The detectors' place in a call: what they get, and what becomes of what they find.

use super::{MediaCall, MediaEvent, Retired, enqueue};
use crate::TICK_SAMPLES;
use crate::detect::{Detectors, Finding};
use crate::event::KeysBy;

impl MediaCall {
    /// Other detectors, or none. What was there is handed back.
    pub(super) fn swap_detectors(&mut self, mut next: Option<Box<Detectors>>) {
        if let (Some(next), Some(before)) = (&mut next, &mut self.detectors) {
            next.follow(before);
        }
        let before = std::mem::replace(&mut self.detectors, next);
        self.retired = before.map(Retired::Detectors);
    }

    /// Lets them listen to what was heard in a tick.
    pub(super) fn detect(&mut self, tick: &[f32; TICK_SAMPLES]) {
        let Some(detectors) = &mut self.detectors else { return };
        let (events, counters) = (&mut self.events, &self.counters);
        detectors.push(tick, |finding| {
            let event = match finding {
                Finding::Key(heard) => {
                    counters.digits_received.add(1);
                    MediaEvent::Digit { digit: heard.digit, duration: heard.duration, by: KeysBy::Sound }
                }
                Finding::Tone(tone, confidence) => MediaEvent::Tone { tone, confidence },
                Finding::AnsweredBy(party, confidence, after) => MediaEvent::AnsweredBy { party, confidence, after },
                Finding::Music(playing, confidence) => MediaEvent::Music { playing, confidence },
            };
            enqueue(events, counters, event);
        });
        if detectors.is_done() && self.retired.is_none() {
            self.retired = self.detectors.take().map(Retired::Detectors);
        }
    }
}
