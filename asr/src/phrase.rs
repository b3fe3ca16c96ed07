//! What a text says about the turn: is the caller done, will more come, or was it only a sign of listening?
//!
//! Pure functions over recognised text. The words are English; what ends in punctuation is judged in any language, and
//! text in other languages tells nothing else, so that silence alone decides there.

use crate::text::plain;

/// How a call's caller is expected to talk: what a pause means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Free talk: sentences, with pauses for thought.
    #[default]
    Open,
    /// Answers to a question: a word or a short phrase, and the agent's turn at once.
    Quick,
    /// A number is being dictated, in groups with pauses between.
    Digits,
}

/// What the end of a text tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is missing: a whole phrase, a question, a number of the length that is expected.
    Complete,
    /// It can be either.
    Unknown,
    /// More will come: "and", "my number is", digits still coming.
    Incomplete,
}

/// After these words a sentence goes on.
const LEADING_ON: [&str; 58] = [
    "and", "but", "or", "so", "because", "cause", "if", "when", "while", "that", "which", "who", "the", "a", "an",
    "my", "your", "his", "her", "our", "their", "its", "of", "to", "for", "with", "from", "by", "at", "in", "on",
    "into", "about", "is", "are", "was", "were", "am", "im", "id", "ive", "ill", "i", "we", "they", "would", "could",
    "like", "want", "need", "um", "uh", "uhm", "er", "erm", "hmm", "then", "plus",
];
/// After these two words it goes on, too, though it need not after the last alone.
const LEADING_ON_PAIRS: [[&str; 2]; 6] =
    [["let", "me"], ["give", "me"], ["tell", "me"], ["do", "you"], ["can", "you"], ["could", "you"]];
/// What is an answer as a whole.
const ANSWERS: [&str; 34] = [
    "yes",
    "no",
    "yeah",
    "yep",
    "nope",
    "yes please",
    "no thanks",
    "no thank you",
    "thank you",
    "thanks",
    "okay",
    "ok",
    "sure",
    "correct",
    "wrong",
    "right",
    "thats right",
    "thats correct",
    "thats all",
    "thats it",
    "that is all",
    "that is correct",
    "thats wrong",
    "stop",
    "wait",
    "hold on",
    "help",
    "operator",
    "agent",
    "bye",
    "goodbye",
    "bye bye",
    "thank you goodbye",
    "thank you bye",
];
/// What a number's end is told with.
const CLOSING: [&str; 6] = ["thats it", "thats all", "that is it", "that is all", "thats the number", "thank you"];
/// What listeners say to show that they listen.
const BACKCHANNELS: [&str; 30] = [
    "uhhuh", "uh", "huh", "mhm", "mmhm", "mmhmm", "mm", "mmm", "hm", "hmm", "hum", "okay", "ok", "yeah", "yes", "yep",
    "yup", "right", "sure", "alright", "all", "ah", "aha", "oh", "um", "good", "great", "fine", "i", "see",
];
/// More words than this are no backchannel, whatever they are.
const MOST_BACKCHANNEL_WORDS: usize = 3;
/// Words that are signs of listening only beside another one: "all right", "I see".
const NOT_ALONE: [&str; 3] = ["all", "i", "see"];
/// So many words are held against the agent's, of which so many are looked at: more tell no more, and take time.
const MOST_ECHO_WORDS: usize = 12;
const MOST_AGENT_WORDS: usize = 2_000;
/// So many digits in a row are a number that is being dictated.
const DICTATED: usize = 3;
/// From so many on it is one of a full telephone number's length.
const WHOLE_NUMBER: usize = 10;
/// A sentence with a full stop has at least so many words; models end any fragment with one.
const SENTENCE_WORDS: usize = 4;

/// What the end of `text` tells about the turn. `digits`: how long a number is expected, if that is known.
pub fn ending(text: &str, style: Style, digits: Option<usize>) -> Ending {
    let words = plain(text);
    let list: Vec<&str> = words.split_whitespace().collect();
    let Some(last) = list.last() else { return Ending::Unknown };
    if text.trim_end().ends_with(['?', '？']) {
        return Ending::Complete;
    }
    let said = spoken_digits(&list);
    if style == Style::Digits {
        return match digits {
            _ if CLOSING.iter().any(|closing| words.ends_with(closing)) => Ending::Complete,
            Some(expected) if said.in_all >= expected => Ending::Complete,
            _ if ANSWERS.contains(&words.as_str()) => Ending::Unknown,
            _ if said.in_all > 0 || LEADING_ON.contains(last) => Ending::Incomplete,
            _ => Ending::Unknown,
        };
    }
    if text.trim_end().ends_with([',', '-', '–', '—', '…', ':', ';']) || text.trim_end().ends_with("...") {
        return Ending::Incomplete;
    }
    if ANSWERS.contains(&words.as_str()) {
        return Ending::Complete;
    }
    let pair = list.len().checked_sub(2).and_then(|from| list.get(from..));
    if LEADING_ON.contains(last) || pair.is_some_and(|pair| LEADING_ON_PAIRS.iter().any(|other| pair == other)) {
        return Ending::Incomplete;
    }
    if let Some(expected) = digits.filter(|_| said.at_end > 0) {
        return if said.at_end >= expected { Ending::Complete } else { Ending::Incomplete };
    }
    if style == Style::Quick {
        return Ending::Complete;
    }
    if (DICTATED..WHOLE_NUMBER).contains(&said.at_end) {
        return Ending::Incomplete;
    }
    let closed = text.trim_end().ends_with(['.', '!', '。', '！']);
    if closed && list.len() >= SENTENCE_WORDS { Ending::Complete } else { Ending::Unknown }
}

/// Whether this only shows that the caller listens: "uh-huh", "okay", "I see".
pub fn is_backchannel(text: &str) -> bool {
    let words = plain(text);
    let list: Vec<&str> = words.split_whitespace().collect();
    match list[..] {
        [] => false,
        [alone] => BACKCHANNELS.contains(&alone) && !NOT_ALONE.contains(&alone),
        _ => list.len() <= MOST_BACKCHANNEL_WORDS && list.iter().all(|word| BACKCHANNELS.contains(word)),
    }
}

/// How likely it is that words are the agent's own, come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// They are the caller's.
    No,
    /// One word that the agent says, too: it proves nothing.
    Perhaps,
    /// Most of the words stand in the agent's text, in that order and close together.
    Yes,
}

/// Whether `heard` is what the agent itself is saying. What comes back is distorted, and so is what is understood of it:
/// of three words one may be wrong.
pub fn echo(heard: &str, agent: &str) -> Echo {
    let (heard, agent) = (plain(heard), plain(agent));
    let heard: Vec<&str> = heard.split_whitespace().take(MOST_ECHO_WORDS).collect();
    let agent: Vec<&str> = agent.split_whitespace().take(MOST_AGENT_WORDS).collect();
    if let [word] = heard[..] {
        return if agent.contains(&word) { Echo::Perhaps } else { Echo::No };
    }
    // a window as long as what was heard, and a little longer, for words that were missed
    let length = (heard.len() + heard.len() / 2 + 1).min(agent.len());
    let most = agent.windows(length.max(1)).map(|part| in_common(&heard, part)).max().unwrap_or(0);
    if most >= 2 && 3 * most >= 2 * heard.len() { Echo::Yes } else { Echo::No }
}

/// Words that two lists have in common in the same order.
fn in_common(a: &[&str], b: &[&str]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if word == other { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// Digits in a list of words.
#[derive(Debug, Default)]
struct SpokenDigits {
    in_all: usize,
    at_end: usize,
}

/// Counts digits, spoken ("double five" are two) or written ("4271" are four).
fn spoken_digits(words: &[&str]) -> SpokenDigits {
    let mut count = SpokenDigits::default();
    let mut times = 1;
    for word in words {
        let here = match *word {
            "double" | "triple" => {
                times = if *word == "double" { 2 } else { 3 };
                continue;
            }
            "zero" | "oh" | "one" | "two" | "three" | "four" | "five" | "six" | "seven" | "eight" | "nine" => 1,
            written if written.bytes().all(|byte| byte.is_ascii_digit()) => written.len(),
            _ => 0,
        };
        let here = here * std::mem::replace(&mut times, 1);
        count.in_all += here;
        count.at_end = if here > 0 { count.at_end + here } else { 0 };
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Ending {
        ending(text, Style::Open, None)
    }

    #[test]
    fn whole_answers_questions_and_sentences_are_complete() {
        for text in ["yes", "No.", "yes please", "That's all", "what are your hours?", "I would like to pay my bill."] {
            assert_eq!(open(text), Ending::Complete, "{text}");
        }
    }

    #[test]
    fn a_trailing_and_or_a_comma_wants_more() {
        for text in [
            "I would like to",
            "milk and",
            "Milk and.",
            "my number is",
            "well,",
            "so I thought...",
            "um",
            "give me",
            "I need a",
        ] {
            assert_eq!(open(text), Ending::Incomplete, "{text}");
        }
    }

    #[test]
    fn silence_alone_decides_about_text_that_tells_nothing() {
        for text in ["", "...", "book an appointment for friday", "Zwei Bier.", "hello"] {
            assert_eq!(open(text), Ending::Unknown, "{text}");
        }
    }

    #[test]
    fn digits_are_still_coming_until_there_are_enough() {
        assert_eq!(open("four two seven"), Ending::Incomplete);
        assert_eq!(open("4 2 7"), Ending::Incomplete);
        assert_eq!(open("seven"), Ending::Unknown, "an answer as it stands");
        assert_ne!(open("two zero three three two two four five three eight"), Ending::Incomplete);
        let digits = |text, expected| ending(text, Style::Digits, expected);
        assert_eq!(digits("four two seven one", None), Ending::Incomplete);
        assert_eq!(digits("four two seven one", Some(4)), Ending::Complete);
        assert_eq!(digits("four two double one", Some(4)), Ending::Complete);
        assert_eq!(digits("4271", Some(4)), Ending::Complete);
        assert_eq!(digits("four two", Some(4)), Ending::Incomplete);
        assert_eq!(digits("four two that's it", None), Ending::Complete);
        assert_eq!(digits("hold on", None), Ending::Unknown);
    }

    #[test]
    fn where_quick_answers_are_expected_any_phrase_is_one() {
        assert_eq!(ending("friday", Style::Quick, None), Ending::Complete);
        assert_eq!(ending("friday or", Style::Quick, None), Ending::Incomplete);
    }

    #[test]
    fn signs_of_listening_are_told_from_words_that_mean_something() {
        for text in ["Uh-huh.", "okay", "Mm-hmm", "yeah, yeah", "I see.", "All right.", "mhm okay"] {
            assert!(is_backchannel(text), "{text}");
        }
        for text in ["", "wait", "no", "stop", "okay but wait", "I", "see", "yes I want that", "okay okay okay okay"] {
            assert!(!is_backchannel(text), "{text}");
        }
    }

    #[test]
    fn the_agents_own_words_are_known_when_they_come_back() {
        let agent = "Hello, you have reached the hotline. How can I help you?";
        assert_eq!(echo("reached the hotline", agent), Echo::Yes);
        assert_eq!(echo("the hot line how can I help", agent), Echo::Yes, "misheard in part");
        assert_eq!(echo("help", agent), Echo::Perhaps, "one word is no proof");
        assert_eq!(echo("the hotline is wrong", agent), Echo::No);
        assert_eq!(echo("you help hello", agent), Echo::No, "in another order");
        for (heard, agent) in [("hello", ""), ("", "hello"), ("hello you", "hello"), ("", "")] {
            assert_eq!(echo(heard, agent), Echo::No, "{heard} {agent}");
        }
    }
}
