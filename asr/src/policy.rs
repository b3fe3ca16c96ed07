//! When it is whose turn: the settings of one call, which may change while it runs.

use std::time::Duration;

use crate::{
    AsrError,
    phrase::{Ending, Style},
    recognizer::Hints,
    vad::FRAME,
    whisper::check_language,
};

/// Who turns a call's audio into text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recognition {
    /// The recogniser of these ears.
    #[default]
    BuiltIn,
    /// A client, that pushes what it has recognised ([`Ears::push_text`](crate::Ears::push_text)).
    Pushed,
}

/// How one call is heard.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallSettings {
    /// Whose turn it is when.
    pub turns: TurnPolicy,
    /// What the recogniser is told.
    pub hints: Hints,
    /// Who the recogniser is.
    pub recognition: Recognition,
}

impl CallSettings {
    /// As they would be taken.
    ///
    /// # Errors
    /// [`AsrError::Config`] when they make no sense.
    pub fn checked(self) -> Result<Self, AsrError> {
        if let Some(language) = &self.hints.language {
            check_language(language)?;
        }
        Ok(Self { turns: self.turns.checked()?, ..self })
    }
}

/// When a caller counts as speaking, pausing and done. All times are of the stream's sample clock.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnPolicy {
    /// Voiced time that makes a `SpeechStart`: shorter sounds are coughs and clicks. 120 ms.
    pub confirm_after: Duration,
    /// Silence after which speech counts as paused and the utterance so far is decoded on speculation. 220 ms.
    pub eager_after: Duration,
    /// Silence that ends the turn when the text tells nothing, or is not there yet. 550 ms.
    pub end_after: Duration,
    /// Silence that ends the turn when the text is a whole phrase. 385 ms.
    pub complete_after: Duration,
    /// Silence that ends the turn even when the text wants more. 1320 ms.
    pub incomplete_after: Duration,
    /// How the caller is expected to talk: what counts as a whole phrase.
    pub style: Style,
    /// How many digits the number has that is expected, if that is known.
    pub digits: Option<usize>,
    /// From this length on, the first pause of `eager_after` ends the utterance. 15 s.
    pub cut_at_pause_after: Duration,
    /// At this length the utterance is cut even inside a word; the next one begins there. 20 s; at most
    /// [`TurnPolicy::LONGEST_UTTERANCE`].
    pub max_utterance: Duration,
    /// Audio kept from before the first voiced frame, so that first consonants are whole. 300 ms.
    pub pre_roll: Duration,
    /// When speech interrupts the agent.
    pub barge_in: BargeIn,
}

/// When a caller's speech interrupts the agent that is speaking. All that is asked for must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BargeIn {
    /// Whether it does at all.
    pub enabled: bool,
    /// Voiced time that there must be. 120 ms.
    pub min_voiced: Duration,
    /// Words that there must be; signs of listening ("uh-huh", "okay") and the agent's own words are none. 0: the voice
    /// alone interrupts, and no text is waited for.
    pub min_words: usize,
    /// Voiced time that does it without words, where words are asked for: the recogniser may be late, and no sign of listening
    /// lasts so long. 1.2 s.
    pub sure_voiced: Duration,
}

impl Default for BargeIn {
    fn default() -> Self {
        Self {
            enabled: true,
            min_voiced: Duration::from_millis(120),
            min_words: 0,
            sure_voiced: Duration::from_millis(1_200),
        }
    }
}

impl TurnPolicy {
    /// Shorter limits would cut sentences as a rule.
    pub const SHORTEST_UTTERANCE: Duration = Duration::from_secs(2);
    /// Whisper hears 30 s at a time; the rest is room for pre-roll and the silence at the end.
    pub const LONGEST_UTTERANCE: Duration = Duration::from_secs(28);
    /// A turn ends after this silence whatever its text wants.
    pub const LONGEST_SILENCE: Duration = Duration::from_secs(10);

    /// As it would be taken: the pause no longer than the end of the turn.
    ///
    /// # Errors
    /// [`AsrError::Config`] when it makes no sense.
    pub fn checked(mut self) -> Result<Self, AsrError> {
        let silences = [self.complete_after, self.end_after, self.incomplete_after];
        self.eager_after = silences.iter().copied().fold(self.eager_after, Duration::min);
        let allowed = TurnPolicy::SHORTEST_UTTERANCE..=TurnPolicy::LONGEST_UTTERANCE;
        let wrong = if !allowed.contains(&self.max_utterance) {
            "max_utterance must be from 2 to 28 s"
        } else if self.eager_after < FRAME {
            "complete_after, end_after, incomplete_after and eager_after must be at least 20 ms"
        } else if silences.iter().any(|silence| *silence > TurnPolicy::LONGEST_SILENCE) {
            "complete_after, end_after and incomplete_after must be at most 10 s"
        } else if self.pre_roll > Duration::from_secs(1) {
            "pre_roll must be at most 1 s"
        } else {
            return Ok(self);
        };
        Err(AsrError::Config(format!("speech recognition: {wrong}")))
    }

    /// Sets the style, and the silences that go with it: `end_of_turn` is what ends a turn of [`Style::Open`] when its text
    /// tells nothing.
    #[must_use]
    pub fn with_style(self, style: Style, end_of_turn: Duration) -> Self {
        // in percent of it, for a whole phrase, for what tells nothing, and for what wants more
        let [complete, unknown, incomplete] = match style {
            Style::Open => [70, 100, 240],
            Style::Quick => [60, 80, 180],
            // the pauses between groups of digits last up to a second
            Style::Digits => [100, 200, 300],
        };
        let share = |percent: u32| (end_of_turn * percent / 100).min(Self::LONGEST_SILENCE);
        Self {
            style,
            complete_after: share(complete).max(self.eager_after),
            end_after: share(unknown),
            incomplete_after: share(incomplete),
            ..self
        }
    }

    /// The silence that ends a turn whose text ends like this.
    pub fn silence_for(&self, ending: Ending) -> Duration {
        match ending {
            Ending::Complete => self.complete_after,
            Ending::Unknown => self.end_after,
            Ending::Incomplete => self.incomplete_after,
        }
    }
}

impl Default for TurnPolicy {
    fn default() -> Self {
        Self {
            confirm_after: Duration::from_millis(120),
            eager_after: Duration::from_millis(220),
            end_after: Duration::from_millis(550),
            complete_after: Duration::from_millis(385),
            incomplete_after: Duration::from_millis(1_320),
            style: Style::Open,
            digits: None,
            cut_at_pause_after: Duration::from_secs(15),
            max_utterance: Duration::from_secs(20),
            pre_roll: Duration::from_millis(300),
            barge_in: BargeIn::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silences(style: Style, ms: u64) -> [u64; 3] {
        let policy = TurnPolicy::default().with_style(style, Duration::from_millis(ms));
        [Ending::Complete, Ending::Unknown, Ending::Incomplete].map(|e| policy.silence_for(e).as_millis() as u64)
    }

    #[test]
    fn each_style_has_its_silences() {
        assert_eq!(silences(Style::Open, 500), [350, 500, 1_200]);
        assert_eq!(silences(Style::Quick, 500), [300, 400, 900]);
        assert_eq!(silences(Style::Digits, 500), [500, 1_000, 1_500]);
    }

    #[test]
    fn no_turn_ends_before_its_eager_text_is_asked_for_nor_lasts_for_ever() {
        assert_eq!(silences(Style::Quick, 200)[0], TurnPolicy::default().eager_after.as_millis() as u64);
        assert_eq!(silences(Style::Digits, 5_000)[2], 10_000);
    }
}
