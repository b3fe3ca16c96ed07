//! Text of a recogniser that is not ours, as a client pushes it: pieces that are settled, and one that still changes.

/// A piece of text for a call whose recogniser is the client's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushedText {
    /// The words.
    pub text: String,
    /// They will not change any more; without it the next piece replaces these words.
    pub settled: bool,
    /// The recogniser says that the caller's turn is over.
    pub end_of_turn: bool,
}

/// The text of one utterance, as far as it was pushed.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    settled: String,
    changing: String,
}

/// No utterance has more: 28 s are some 150 words.
const MOST_BYTES: usize = 16 * 1024;

impl Assembly {
    pub(crate) fn push(&mut self, piece: &PushedText) {
        let text = piece.text.trim();
        if !piece.settled {
            text.clone_into(&mut self.changing);
            return;
        }
        self.changing.clear();
        if self.settled.len() + text.len() < MOST_BYTES {
            if !self.settled.is_empty() && !text.is_empty() {
                self.settled.push(' ');
            }
            self.settled.push_str(text);
        }
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        match (self.settled.is_empty(), self.changing.is_empty()) {
            (_, true) => self.settled.clone(),
            (true, false) => self.changing.clone(),
            (false, false) => format!("{} {}", self.settled, self.changing),
        }
    }

    /// Words that will not change.
    pub(crate) fn settled_words(&self) -> usize {
        self.settled.split_whitespace().count()
    }

    /// There is text, and nothing of it will change.
    pub(crate) fn is_settled(&self) -> bool {
        !self.settled.is_empty() && self.changing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, settled: bool) -> PushedText {
        PushedText { text: text.into(), settled, end_of_turn: false }
    }

    #[test]
    fn settled_pieces_are_joined_and_what_changes_is_replaced() {
        let mut text = Assembly::default();
        assert!(!text.is_settled());
        text.push(&piece("four", false));
        text.push(&piece("four two", false));
        assert_eq!((text.text(), text.is_settled()), ("four two".into(), false));
        text.push(&piece("four two.", true));
        text.push(&piece(" seven", false));
        assert_eq!((text.text(), text.settled_words()), ("four two. seven".into(), 2));
        text.push(&piece("seven one", true));
        assert_eq!((text.text(), text.is_settled()), ("four two. seven one".into(), true));
    }

    #[test]
    fn it_grows_only_so_far() {
        let mut text = Assembly::default();
        for _ in 0..10_000 {
            text.push(&piece("word", true));
        }
        assert!(text.text().len() <= MOST_BYTES);
    }
}
