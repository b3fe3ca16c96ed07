//! A call whose recogniser is the client's: its text is taken as ours would be, and waited for at the end of a turn.

use std::time::Duration;

use super::{Awaited, Context, Hearing, duration};
use crate::{policy::Recognition, pushed::PushedText, turn::Utterance};

/// After the end of a turn the client's recogniser has so long to settle the text; then what is there counts.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
impl Hearing {
    /// Takes text of the client's recogniser.
    pub(crate) fn push_text(&mut self, piece: &PushedText, cx: &mut Context<'_>) {
        if self.settings.recognition != Recognition::Pushed {
            return;
        }
        // recognisers settle in order: what is settled first belongs to the utterance that has been waiting longest
        if let Some(awaited) = self.awaited.iter_mut().find(|a| a.text.is_none()) {
            awaited.pushed.push(piece);
            if piece.settled {
                awaited.text = Some(awaited.pushed.text());
                self.give_out(cx);
            }
            return;
        }
        let end = duration(self.position);
        let paused = !self.turn.is_speaking();
        let Some(open) = &mut self.open else {
            // it has heard what our detector has not
            if piece.settled && !piece.text.trim().is_empty() {
                self.open_utterance(end, cx);
                self.open.iter_mut().for_each(|open| open.pushed.push(piece));
                self.end_utterance(Utterance { start: end, end, voiced: Duration::ZERO, peak_db: 0.0 }, false, cx);
            }
            return;
        };
        open.pushed.push(piece);
        let (text, confirmed) = (open.pushed.text(), open.pushed.settled_words());
        if open.pushed.is_settled() && paused {
            self.tell_eager(text, self.turn.utterance().map_or(end, |utterance| utterance.end), cx);
        } else if !text.is_empty() {
            self.tell_partial(text, confirmed, end, cx);
        }
        if piece.end_of_turn {
            self.finish_turn(cx);
        }
    }

    /// Text that a client's recogniser did not settle in time is taken as it is.
    pub(super) fn settle_overdue(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let overdue = |awaited: &Awaited| awaited.text.is_none() && awaited.settle_by.is_some_and(|by| now >= by);
        let mut any = false;
        for awaited in self.awaited.iter_mut().filter(|awaited| overdue(awaited)) {
            awaited.text = Some(awaited.pushed.text());
            any = true;
        }
        if any {
            self.give_out(cx);
        }
    }
}
