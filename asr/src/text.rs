//! Guards against invented text, and tidy text.
//!
//! Whisper was trained on subtitles: given noise it writes subtitles. The guards stand in this order, from what is
//! certain to what is a guess: too little voice; no-speech probability; mean log-probability; more tokens than a mouth
//! can make; loops; and at last the stock phrases, which are also things people say, so they go only on a second sign.

use std::time::Duration;

use crate::recognizer::Hypothesis;

/// Less voiced time than this holds no word. "Oh" and "two" on the telephone have 150 ms and more.
pub const LEAST_VOICED: Duration = Duration::from_millis(140);
/// Above this no-speech probability text needs good tokens to stay. OpenAI's own threshold.
const NO_SPEECH: f32 = 0.6;
/// Above this there is no speech, whatever the tokens.
const SURELY_NO_SPEECH: f32 = 0.9;
/// With [`NO_SPEECH`], worse tokens than this are no text. OpenAI's is -1 alone; greedy single decodes are surer.
const DOUBTFUL_LOG_PROB: f32 = -0.7;
/// With some doubt that there was speech at all (clear speech has 0.01), tokens worse than this are no text either:
/// music makes models rhyme.
const SOME_NO_SPEECH: f32 = 0.15;
const BAD_LOG_PROB: f32 = -1.0;
/// Worse than this is never text: an even choice among five at each token.
const WORST_LOG_PROB: f32 = -1.6;
/// Tokens a second of voice: fast speech has about 6 words, 9 tokens.
const MOST_TOKENS_A_SECOND: f32 = 14.0;
/// The same word, or group of words, more often than this in a row is a loop. Telephone numbers repeat a digit four
/// times at most; groups repeat less.
const MOST_SAME_WORDS: usize = 7;
const MOST_SAME_GROUPS: usize = 3;
/// The longest group that is looked for.
const LONGEST_GROUP: usize = 8;
/// Quieter than this, a stock phrase is more likely the model's than the caller's.
const QUIET_DB: f32 = -48.0;
/// With this no-speech probability a stock phrase is not believed.
const STOCK_NO_SPEECH: f32 = 0.3;
/// With tokens worse than this a stock phrase is not believed.
const STOCK_LOG_PROB: f32 = -0.6;

/// What Whisper models write when there is nothing to hear, in [`plain`] form.
const STOCK_PHRASES: [&str; 22] = [
    "you",
    "bye",
    "bye bye",
    "so",
    "oh",
    "the end",
    "thank you",
    "thank you very much",
    "thank you so much",
    "thanks",
    "thanks for watching",
    "thank you for watching",
    "thank you for listening",
    "thank you so much for watching",
    "please subscribe",
    "please subscribe to my channel",
    "like and subscribe",
    "subscribe",
    "see you next time",
    "see you in the next video",
    "well be right back",
    "ill see you in the next video",
];
/// Parts that only subtitles have.
const SUBTITLE_PARTS: [&str; 6] =
    ["amaraorg", "subtitles by", "subtitled by", "transcription by", "captions by", "wwwyoutubecom"];

/// What was known of the sound before it was recognised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Voiced time.
    pub voiced: Duration,
    /// The loudest voiced frame, in dB of full scale.
    pub peak_db: f32,
}

/// Why a text was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The model wrote nothing, or only notes such as `[BLANK_AUDIO]`.
    Empty,
    /// Less than [`LEAST_VOICED`] of voice.
    TooShort,
    /// The model says that there was no speech.
    NoSpeech,
    /// The model was guessing.
    Unsure,
    /// More tokens than can be spoken in that time.
    TooFast,
    /// The same over and over.
    Loop,
    /// A phrase that models invent, with a second sign against it.
    StockPhrase,
}

/// Judges what a recogniser wrote: the tidied text, or why it is not believed.
///
/// # Errors
/// The first [`Doubt`] that holds.
pub fn judge(hypothesis: &Hypothesis, evidence: Evidence) -> Result<String, Doubt> {
    let text = tidy(&hypothesis.text);
    let words = plain(&text);
    if words.is_empty() {
        return Err(Doubt::Empty);
    }
    if evidence.voiced < LEAST_VOICED {
        return Err(Doubt::TooShort);
    }
    if hypothesis.no_speech > SURELY_NO_SPEECH
        || hypothesis.no_speech > NO_SPEECH && hypothesis.mean_log_prob < DOUBTFUL_LOG_PROB
        || hypothesis.no_speech > SOME_NO_SPEECH && hypothesis.mean_log_prob < BAD_LOG_PROB
    {
        return Err(Doubt::NoSpeech);
    }
    if hypothesis.mean_log_prob < WORST_LOG_PROB {
        return Err(Doubt::Unsure);
    }
    // half a second is granted: voice detection misses the edges of short words
    if hypothesis.tokens as f32 > MOST_TOKENS_A_SECOND * (evidence.voiced.as_secs_f32() + 0.5) {
        return Err(Doubt::TooFast);
    }
    if is_loop(&words) {
        return Err(Doubt::Loop);
    }
    let second_sign = evidence.peak_db < QUIET_DB
        || hypothesis.no_speech > STOCK_NO_SPEECH
        || hypothesis.mean_log_prob < STOCK_LOG_PROB;
    if SUBTITLE_PARTS.iter().any(|part| words.contains(part)) || second_sign && STOCK_PHRASES.contains(&words.as_str())
    {
        return Err(Doubt::StockPhrase);
    }
    Ok(text)
}

/// Whether a hypothesis looks like the failure of a cut audio context, so that decoding with the whole one is worth it.
pub fn wants_whole_context(hypothesis: &Hypothesis) -> bool {
    hypothesis.cut_off || hypothesis.mean_log_prob < -1.0 || is_loop(&plain(&hypothesis.text))
}

/// The text without the model's notes (`[BLANK_AUDIO]`, `(music)`, `*coughs*`, notes of music), single-spaced.
/// Upper and lower case and punctuation stay as the model wrote them.
pub fn tidy(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut closing: Option<char> = None;
    for c in text.chars() {
        match (closing, c) {
            (Some(end), c) if c == end => closing = None,
            (Some(_), _) => {}
            (None, '[') => closing = Some(']'),
            (None, '(') => closing = Some(')'),
            (None, '*') => closing = Some('*'),
            (None, '♪' | '♫' | '\u{fffd}' | '\0') => {}
            (None, c) => kept.push(c),
        }
    }
    let mut tidied = String::with_capacity(kept.len());
    for word in kept.split_whitespace() {
        if !tidied.is_empty() {
            tidied.push(' ');
        }
        tidied.push_str(word);
    }
    tidied
}

/// The words alone: lower case, no punctuation, single-spaced. What texts are compared by.
pub fn plain(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c == '-') {
        let start = words.len();
        words.extend(word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase));
        if words.len() > start && start > 0 {
            words.insert(start, ' ');
        }
    }
    words
}

/// Whether some group of words follows itself too often. `words` in [`plain`] form.
fn is_loop(words: &str) -> bool {
    let words: Vec<&str> = words.split(' ').collect();
    (1..=LONGEST_GROUP).any(|length| {
        let most = if length == 1 { MOST_SAME_WORDS } else { MOST_SAME_GROUPS };
        // a word equal to the one a group before it, often enough in a row, is a group repeated
        let mut same = 0;
        (length..words.len()).any(|i| {
            same = if words[i] == words[i - length] { same + 1 } else { 0 };
            same >= length * most
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOKEN: Evidence = Evidence { voiced: Duration::from_millis(1_500), peak_db: -18.0 };

    fn hypothesis(text: &str) -> Hypothesis {
        Hypothesis {
            text: text.into(),
            tokens: text.split_whitespace().count(),
            mean_log_prob: -0.1,
            no_speech: 0.01,
            cut_off: false,
        }
    }

    #[test]
    fn plain_speech_passes_as_it_was_written() {
        assert_eq!(judge(&hypothesis(" Hello,  world. "), SPOKEN), Ok("Hello, world.".into()));
    }

    #[test]
    fn notes_of_the_model_are_no_text() {
        for note in ["", "  ", "[BLANK_AUDIO]", " (upbeat music) ", "*coughs*", "♪ ♪", "[unclosed", "...", "- -"] {
            assert_eq!(judge(&hypothesis(note), SPOKEN), Err(Doubt::Empty), "{note:?}");
        }
        assert_eq!(judge(&hypothesis("yes [laughs] please"), SPOKEN), Ok("yes please".into()));
    }

    #[test]
    fn a_blip_has_no_text_whatever_the_model_says() {
        let blip = Evidence { voiced: Duration::from_millis(120), peak_db: -10.0 };
        assert_eq!(judge(&hypothesis("hello"), blip), Err(Doubt::TooShort));
    }

    #[test]
    fn no_speech_needs_good_tokens_against_it() {
        let mut heard = hypothesis("nine one one");
        heard.no_speech = 0.7;
        assert!(judge(&heard, SPOKEN).is_ok());
        heard.mean_log_prob = -0.9;
        assert_eq!(judge(&heard, SPOKEN), Err(Doubt::NoSpeech));
        heard.no_speech = 0.2;
        assert!(judge(&heard, SPOKEN).is_ok());
        heard.mean_log_prob = -1.2;
        assert_eq!(judge(&heard, SPOKEN), Err(Doubt::NoSpeech));
        heard.mean_log_prob = -0.1;
        heard.no_speech = 0.95;
        assert_eq!(judge(&heard, SPOKEN), Err(Doubt::NoSpeech));
    }

    #[test]
    fn guesses_are_not_believed() {
        let mut heard = hypothesis("we are going");
        heard.mean_log_prob = -2.0;
        assert_eq!(judge(&heard, SPOKEN), Err(Doubt::Unsure));
    }

    #[test]
    fn more_tokens_than_a_mouth_can_make_are_not_believed() {
        let mut heard = hypothesis("a b c");
        heard.tokens = 60;
        assert_eq!(judge(&heard, SPOKEN), Err(Doubt::TooFast));
    }

    #[test]
    fn loops_are_not_believed_but_telephone_numbers_are() {
        let long = Evidence { voiced: Duration::from_secs(20), peak_db: -18.0 };
        assert_eq!(judge(&hypothesis(&"no ".repeat(9)), long), Err(Doubt::Loop));
        assert_eq!(judge(&hypothesis(&"I don't know. ".repeat(5)), long), Err(Doubt::Loop));
        assert_eq!(judge(&hypothesis(&format!("well {}", "it is fine and ".repeat(5))), long), Err(Doubt::Loop));
        for number in ["five five five five", "oh oh oh one one one", "one two one two one two", "no no no no"] {
            assert!(judge(&hypothesis(number), long).is_ok(), "{number}");
        }
    }

    #[test]
    fn stock_phrases_go_only_on_a_second_sign() {
        let mut heard = hypothesis("Thank you.");
        assert!(judge(&heard, SPOKEN).is_ok(), "people do say thank you");
        heard.no_speech = 0.4;
        assert_eq!(judge(&heard, SPOKEN), Err(Doubt::StockPhrase));
        heard.no_speech = 0.01;
        let quiet = Evidence { peak_db: -52.0, ..SPOKEN };
        assert_eq!(judge(&heard, quiet), Err(Doubt::StockPhrase));
        assert_eq!(judge(&hypothesis("Subtitles by the Amara.org community"), SPOKEN), Err(Doubt::StockPhrase));
    }

    #[test]
    fn words_are_compared_without_case_and_punctuation() {
        assert_eq!(plain("  Twenty-One, O'Clock! "), "twenty one oclock");
        assert_eq!(plain("Grüße"), "grüße");
        assert_eq!(plain(" - "), "");
    }
}
