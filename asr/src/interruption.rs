//! Does the caller interrupt the agent? One call's decision, over voiced time and words.
//!
//! The voice alone is quick and is fooled by "uh-huh"; words are sure and come later. [`BargeIn`] says which of the two
//! counts. Pure: it is told of every frame and every text, and says what is to be done.

use std::{sync::Arc, time::Duration};

use crate::{
    phrase::{Echo, echo, is_backchannel},
    policy::BargeIn,
    text::{LEAST_VOICED, plain},
};

/// How much more voice makes it worth asking for the words once more.
const ASK_AGAIN: Duration = Duration::from_millis(140);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Nothing,
    /// The words so far are wanted.
    Ask,
    /// The caller interrupts the agent. Told once a spell of speech.
    Interrupt,
}

/// One call's decision.
#[derive(Debug, Default)]
pub(crate) struct Interruption {
    /// What the agent is saying; `None` while it is silent.
    agent: Option<Arc<str>>,
    /// Voiced time of this spell of speech before the agent began.
    before: Duration,
    /// Voiced time of this spell since then.
    voiced: Duration,
    asked_at: Duration,
    told: bool,
    /// The agent spoke during this utterance and was not interrupted.
    beside: bool,
    echo: bool,
    /// The last text counted, and was not sure.
    once: bool,
}

impl Interruption {
    /// The agent speaks (this text, as far as it is known), or is silent.
    pub(crate) fn agent(&mut self, text: Option<Arc<str>>, spell: Duration) {
        if text.is_some() && self.agent.is_none() {
            *self = Self { before: spell, ..Self::default() };
        }
        self.agent = text;
    }

    /// A new spell of speech begins; `utterance`: in a new utterance, too.
    pub(crate) fn on_speech_start(&mut self, utterance: bool) {
        let beside = self.beside && !utterance;
        *self = Self { agent: self.agent.take(), beside, ..Self::default() };
    }

    /// A frame has passed; `spell` is the voiced time of this spell of speech.
    pub(crate) fn on_frame(&mut self, rule: BargeIn, spell: Duration) -> Step {
        if self.agent.is_none() || self.told || spell.is_zero() {
            return Step::Nothing;
        }
        self.beside = true;
        self.voiced = spell.saturating_sub(self.before);
        if !rule.enabled || self.voiced < rule.min_voiced {
            return Step::Nothing;
        }
        if rule.min_words == 0 || self.voiced >= rule.sure_voiced && !self.echo {
            return self.interrupt();
        }
        // less holds no word
        if self.voiced < LEAST_VOICED {
            return Step::Nothing;
        }
        if self.asked_at.is_zero() || self.voiced >= self.asked_at + ASK_AGAIN {
            self.asked_at = self.voiced;
            return Step::Ask;
        }
        Step::Nothing
    }

    /// The newest text of the utterance. Words that were cut off in the middle look like others ("okay" like "oh" or "go"),
    /// so it takes two texts in a row that count, or one that is `sure`: at a pause.
    pub(crate) fn on_text(&mut self, rule: BargeIn, text: &str, sure: bool) -> Step {
        let Some(agent) = &self.agent else { return Step::Nothing };
        if text.is_empty() {
            return Step::Nothing;
        }
        let echo = echo(text, agent);
        self.echo = echo == Echo::Yes;
        let words = plain(text).split(' ').count();
        let counts = echo == Echo::No && !is_backchannel(text) && words >= rule.min_words;
        let twice = std::mem::replace(&mut self.once, counts);
        let counts = counts && (sure || twice);
        if rule.enabled && counts && !self.told && self.voiced >= rule.min_voiced {
            self.interrupt()
        } else {
            Step::Nothing
        }
    }

    /// Whether the utterance was said while the agent spoke, and did not interrupt it.
    pub(crate) fn beside_the_agent(&self) -> bool {
        self.beside && !self.told
    }

    fn interrupt(&mut self) -> Step {
        self.told = true;
        Step::Interrupt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn rule(min_words: usize) -> BargeIn {
        BargeIn { min_words, ..BargeIn::default() }
    }

    fn speaking_agent(text: &str) -> Interruption {
        let mut call = Interruption::default();
        call.agent(Some(text.into()), Duration::ZERO);
        call.on_speech_start(true);
        call
    }

    /// Voice from `from` to `to`; what happened when.
    fn voice(call: &mut Interruption, rule: BargeIn, from: u64, to: u64) -> Vec<(u64, Step)> {
        let steps = (from / 20 + 1..=to / 20).map(|frame| (frame * 20, call.on_frame(rule, FRAME * frame as u32)));
        steps.filter(|(_, step)| *step != Step::Nothing).collect()
    }

    #[test]
    fn where_the_voice_alone_counts_it_interrupts_after_its_least_time_and_once() {
        let mut call = speaking_agent("");
        assert_eq!(voice(&mut call, rule(0), 0, 3_000), [(120, Step::Interrupt)]);
        call.on_speech_start(false);
        let patient = BargeIn { min_voiced: ms(400), ..rule(0) };
        assert_eq!(voice(&mut call, patient, 0, 3_000), [(400, Step::Interrupt)]);
    }

    #[test]
    fn nobody_is_interrupted_who_does_not_speak_or_may_not_be() {
        let mut call = Interruption::default();
        call.on_speech_start(true);
        assert_eq!(voice(&mut call, rule(0), 0, 3_000), []);
        let mut call = speaking_agent("");
        assert_eq!(voice(&mut call, BargeIn { enabled: false, ..rule(0) }, 0, 3_000), []);
        assert_eq!(call.on_text(BargeIn { enabled: false, ..rule(0) }, "wait", true), Step::Nothing);
    }

    #[test]
    fn where_words_count_they_are_asked_for_and_the_first_that_means_something_interrupts() {
        let mut call = speaking_agent("");
        assert_eq!(voice(&mut call, rule(1), 0, 400), [(140, Step::Ask), (280, Step::Ask)]);
        assert_eq!(call.on_text(rule(1), "uh-huh", true), Step::Nothing);
        assert_eq!(call.on_text(rule(1), "okay wait", true), Step::Interrupt);
        assert_eq!(call.on_text(rule(1), "okay wait a minute", true), Step::Nothing, "it is told once");
        assert!(!call.beside_the_agent());
    }

    #[test]
    fn a_sign_of_listening_leaves_the_agent_alone_and_is_known_as_one() {
        let mut call = speaking_agent("");
        voice(&mut call, rule(1), 0, 400);
        assert_eq!(call.on_text(rule(1), "Okay.", true), Step::Nothing);
        assert!(call.beside_the_agent());
        call.on_speech_start(true);
        call.agent(None, Duration::ZERO);
        voice(&mut call, rule(1), 0, 400);
        assert!(!call.beside_the_agent(), "the next utterance is a turn");
    }

    #[test]
    fn a_word_that_is_heard_once_in_the_middle_of_speech_is_not_believed_yet() {
        let mut call = speaking_agent("");
        voice(&mut call, rule(1), 0, 300);
        assert_eq!(call.on_text(rule(1), "go", false), Step::Nothing);
        assert_eq!(call.on_text(rule(1), "okay", false), Step::Nothing, "it was the beginning of that");
        assert_eq!(call.on_text(rule(1), "okay wait", false), Step::Nothing);
        assert_eq!(call.on_text(rule(1), "okay wait a", false), Step::Interrupt);
    }

    #[test]
    fn the_least_number_of_words_is_kept() {
        let mut call = speaking_agent("");
        voice(&mut call, rule(3), 0, 400);
        assert_eq!(call.on_text(rule(3), "no wait", true), Step::Nothing);
        assert_eq!(call.on_text(rule(3), "no wait please", true), Step::Interrupt);
    }

    #[test]
    fn who_speaks_on_and_on_interrupts_whether_the_words_are_known_or_not() {
        let mut call = speaking_agent("");
        let steps = voice(&mut call, rule(1), 0, 3_000);
        assert_eq!(steps.last(), Some(&(1_200, Step::Interrupt)));
    }

    #[test]
    fn how_long_that_takes_is_part_of_the_rule() {
        let mut call = speaking_agent("thank you for calling");
        let rule = BargeIn { sure_voiced: ms(700), ..rule(1) };
        let steps = voice(&mut call, rule, 0, 2_000);
        let interrupted: Vec<u64> = steps.iter().filter(|step| step.1 == Step::Interrupt).map(|step| step.0).collect();
        assert_eq!(interrupted, [700]);
    }

    #[test]
    fn the_agents_own_voice_that_comes_back_never_interrupts_it() {
        let mut call = speaking_agent("Your balance is forty two dollars and ten cents.");
        voice(&mut call, rule(1), 0, 600);
        assert_eq!(call.on_text(rule(1), "balance is forty two", true), Step::Nothing);
        assert!(voice(&mut call, rule(1), 600, 4_000).iter().all(|(_, step)| *step == Step::Ask));
        assert_eq!(call.on_text(rule(1), "no that balance is wrong", true), Step::Interrupt);
    }

    #[test]
    fn one_word_that_the_agent_says_too_waits_for_more() {
        let mut call = speaking_agent("There is no charge.");
        voice(&mut call, rule(1), 0, 300);
        assert_eq!(call.on_text(rule(1), "no", true), Step::Nothing);
        assert_eq!(call.on_text(rule(1), "no wait", true), Step::Interrupt);
        call.on_speech_start(true);
        let steps = voice(&mut call, rule(1), 0, 1_400);
        assert_eq!(steps.last(), Some(&(1_200, Step::Interrupt)), "or for a voice that goes on");
    }

    #[test]
    fn a_caller_over_whom_the_agent_begins_to_speak_interrupts_by_going_on() {
        let mut call = Interruption::default();
        call.on_speech_start(true);
        assert_eq!(voice(&mut call, rule(0), 0, 1_000), []);
        call.agent(Some("".into()), ms(1_000));
        assert_eq!(voice(&mut call, rule(0), 1_000, 2_000), [(1_120, Step::Interrupt)]);
    }
}
