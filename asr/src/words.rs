//! Words of an utterance: which of them are sure while it goes on, and when each was said.

use std::time::Duration;

use crate::text::plain;

/// Partials by local agreement: a word is confirmed when two hypotheses in a row have it at its place, and is never taken
/// back. What comes behind the confirmed words is the newest hypothesis's.
#[derive(Debug, Default)]
pub struct Agreement {
    confirmed: Vec<String>,
    /// What the last hypothesis had behind the confirmed words.
    tail: Vec<String>,
}

impl Agreement {
    /// Takes the next hypothesis; gives the text to show and how many of its words are confirmed.
    pub fn push(&mut self, hypothesis: &str) -> (String, usize) {
        let fresh: Vec<&str> = hypothesis.split_whitespace().skip(self.confirmed.len()).collect();
        let agreed = self.tail.iter().zip(&fresh).take_while(|(old, new)| plain(old) == plain(new)).count();
        self.confirmed.extend(fresh.iter().take(agreed).map(ToString::to_string));
        self.tail = fresh.iter().skip(agreed).map(ToString::to_string).collect();
        let words: Vec<&str> = self.confirmed.iter().chain(&self.tail).map(String::as_str).collect();
        (words.join(" "), self.confirmed.len())
    }
}

/// A word and when it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word as it stands in the text.
    pub word: String,
    /// Where it begins, on the stream's clock.
    pub start: Duration,
    /// Where it ends.
    pub end: Duration,
}

/// More stretches of voice are not kept: blips in a long silence.
const MOST_STRETCHES: usize = 4_096;

/// Stretches of voice on the stream's clock, in order.
#[derive(Debug, Default)]
pub(crate) struct Voiced(Vec<(Duration, Duration)>);

impl Voiced {
    /// A voiced frame.
    pub(crate) fn push(&mut self, start: Duration, end: Duration) {
        if self.0.len() >= MOST_STRETCHES {
            self.0.drain(..MOST_STRETCHES / 2);
        }
        match self.0.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.0.push((start, end)),
        }
    }

    /// What lies before this is not needed any more.
    pub(crate) fn forget_before(&mut self, at: Duration) {
        self.0.retain(|(_, end)| *end > at);
    }

    /// When each word of a text was said: the voiced time between `start` and `end` is shared out by the words' lengths.
    /// An estimate, off by a syllable or two; pauses are where they were.
    pub(crate) fn words(&self, text: &str, start: Duration, end: Duration) -> Vec<Word> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut spans: Vec<_> = self.0.iter().map(|(a, b)| ((*a).max(start), (*b).min(end))).collect();
        spans.retain(|(a, b)| a < b);
        if spans.is_empty() {
            spans.push((start, end.max(start)));
        }
        let voiced: Duration = spans.iter().map(|(a, b)| *b - *a).sum();
        // a short word is not as short as its letters
        let weight = |word: &str| word.chars().count() as f64 + 1.0;
        let whole: f64 = words.iter().map(|word| weight(word)).sum();
        let mut passed = 0.0;
        let mut next = |word: &str| {
            let from = passed;
            passed += weight(word) / whole;
            (voiced.mul_f64(from), voiced.mul_f64(passed.min(1.0)))
        };
        let timed = |word: &&str| {
            let (from, to) = next(word);
            Word { word: (*word).to_owned(), start: place(&spans, from, false), end: place(&spans, to, true) }
        };
        words.iter().map(timed).collect()
    }
}

/// Where so much voiced time has passed; at a border between two spans the end of the first, or the start of the second.
fn place(spans: &[(Duration, Duration)], mut voiced: Duration, as_end: bool) -> Duration {
    for (start, end) in spans {
        let length = *end - *start;
        if voiced < length || as_end && voiced == length {
            return *start + voiced;
        }
        voiced -= length;
    }
    spans.last().map_or(Duration::ZERO, |(_, end)| *end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_word_is_confirmed_when_it_comes_twice_at_its_place() {
        let mut words = Agreement::default();
        assert_eq!(words.push("for"), ("for".into(), 0));
        assert_eq!(words.push("four two"), ("four two".into(), 0));
        assert_eq!(words.push("Four, two seven"), ("Four, two seven".into(), 2));
        assert_eq!(words.push("four too seven one"), ("Four, two seven one".into(), 3), "what is confirmed stays");
        assert_eq!(words.push("four"), ("Four, two seven".into(), 3));
        assert_eq!(words.push(""), ("Four, two seven".into(), 3));
    }

    #[test]
    fn confirmed_words_never_change_whatever_comes() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut agreement = Agreement::default();
        let mut before: Vec<String> = Vec::new();
        for _ in 0..500 {
            let count = random.usize(0..12);
            let text: Vec<_> = (0..count).map(|_| ["a", "b", "c"][random.usize(0..3)]).collect();
            let (shown, confirmed) = agreement.push(&text.join(" "));
            let now: Vec<String> = shown.split_whitespace().take(confirmed).map(str::to_owned).collect();
            assert!(now.starts_with(&before), "{now:?} after {before:?}");
            before = now;
        }
    }

    #[test]
    fn words_lie_in_the_voiced_time_and_pauses_between_them() {
        let mut voiced = Voiced::default();
        for (from, to) in [(1_000, 1_500), (2_000, 2_500)] {
            for at in (from..to).step_by(20) {
                voiced.push(ms(at), ms(at + 20));
            }
        }
        let words = voiced.words("four nine", ms(1_000), ms(2_500));
        let times: Vec<_> = words.iter().map(|w| (w.word.as_str(), w.start, w.end)).collect();
        assert_eq!(times, [("four", ms(1_000), ms(1_500)), ("nine", ms(2_000), ms(2_500))]);
    }

    #[test]
    fn words_without_voice_or_time_are_somewhere_and_do_no_harm() {
        let mut voiced = Voiced::default();
        assert_eq!(voiced.words("", ms(0), ms(500)), []);
        assert_eq!(voiced.words("well", ms(300), ms(300))[0].start, ms(300));
        voiced.push(ms(0), ms(20));
        voiced.forget_before(ms(20));
        assert_eq!(voiced.words("a b", ms(100), ms(200))[1].end, ms(200));
    }
}
