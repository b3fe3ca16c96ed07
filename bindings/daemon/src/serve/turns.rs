//! Whose turn it is: the settings of each call's ears, what clients push as text, and what the ears are told of the agent.

use std::time::Duration;

use asr::phrase::Style;
use asr::{BargeIn, CallSettings, EarsLoad, LoadLevel, PushedText, Recognition, StreamId, TurnPolicy};
use control::ClientId;
use control::types::{
    ApiError, Done, RecognizedBy, TranscriptPush, TurnPolicy as TurnPolicyRequest, TurnPolicyReply, TurnStyle,
};
use serde_json::{Value, json};

use super::requests::Outcome;
use super::switchboard::Switchboard;
use crate::config;

/// What one call's ears are set to, and were told.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// As configured until somebody says otherwise.
    settings: Option<CallSettings>,
    vocabulary: Option<Vec<String>>,
    /// The response that the ears know to be spoken; 0 for something without text.
    agent: Option<u64>,
}

impl Switchboard {
    pub(super) fn turn_policy(&mut self, client: ClientId, request: &TurnPolicyRequest) -> Outcome<TurnPolicyReply> {
        self.server.check_owner(client, request.call)?;
        let call = self.calls.get(&request.call.0).ok_or_else(|| ApiError::no_such_call(request.call))?;
        let mut settings = self.settings_of(request.call.0);
        apply(&mut settings, request, Duration::from_millis(self.config.turns.end_of_turn_ms));
        let vocabulary = request.vocabulary.clone().or_else(|| call.turns.vocabulary.clone());
        let vocabulary = vocabulary.unwrap_or_else(|| self.config.asr.vocabulary.clone());
        settings.hints.prompt = prompt(&vocabulary);
        let language = settings.hints.language.clone().unwrap_or_else(|| self.config.asr.language.clone());
        let invalid = |error: asr::AsrError| ApiError::invalid_params(format!("turn.policy: {error}"));
        // a call that is not up yet is refused what makes no sense, too
        let settings = settings.checked().map_err(invalid)?;
        let reply = describe(&settings, language, vocabulary.clone());
        if call.heard {
            self.ears.set(StreamId(request.call.0), settings.clone()).map_err(invalid)?;
        }
        if let Some(call) = self.calls.get_mut(&request.call.0) {
            call.turns.settings = Some(settings);
            call.turns.vocabulary = Some(vocabulary);
        }
        Ok(reply)
    }

    pub(super) fn push_transcript(&mut self, client: ClientId, request: TranscriptPush) -> Outcome<Done> {
        self.server.check_owner(client, request.call)?;
        let call = self.calls.get(&request.call.0).ok_or_else(|| ApiError::no_such_call(request.call))?;
        if self.settings_of(request.call.0).recognition != Recognition::Pushed {
            let text =
                format!("{}: the daemon recognises this call itself; turn.policy `recognizer` changes it", call.id);
            return Err(ApiError::wrong_state(text));
        }
        if !call.heard {
            return Err(ApiError::wrong_state(format!("{} is {} and nobody listens to it", call.id, call.state)));
        }
        let TranscriptPush { text, settled, end_of_turn, .. } = request;
        let piece = PushedText { text, settled, end_of_turn };
        self.ears
            .push_text(StreamId(request.call.0), piece)
            .map_err(|error| ApiError::internal(format!("transcript.push: {error}")))?;
        Ok(Done {})
    }

    /// How a call is heard.
    pub(super) fn settings_of(&self, number: u32) -> CallSettings {
        let own = self.calls.get(&number).and_then(|call| call.turns.settings.clone());
        own.unwrap_or_else(|| configured(&self.config))
    }

    /// Whether the caller's speech may stop the agent's voice on this call.
    pub(super) fn may_interrupt(&self, number: u32) -> bool {
        let own = self.calls.get(&number).and_then(|call| call.turns.settings.as_ref());
        own.map_or(self.config.turns.barge_in, |settings| settings.turns.barge_in.enabled)
    }

    /// Tells the ears of a call whether the agent speaks on it, when that has changed.
    pub(super) fn tell_of_agent(&mut self, number: u32) {
        let Some(call) = self.calls.get_mut(&number).filter(|call| call.heard) else { return };
        let speaking = call.speech.is_busy() || !call.plays.is_empty();
        let now = speaking.then(|| call.speech.front().map_or(0, |(response, _)| response));
        if call.turns.agent == now {
            return;
        }
        call.turns.agent = now;
        let text = now.map(|_| call.speech.front().and_then(|(_, text)| text).unwrap_or_default());
        if let Err(error) = self.ears.agent_speaks(StreamId(number), text) {
            log::error!("c{number}: {error}");
        }
    }

    /// Whether the recogniser is so far behind that no further call is wanted.
    pub(super) fn ears_are_full(&self) -> bool {
        self.config.asr.refuse_when_full && self.ears.load().level == LoadLevel::Full
    }
}

/// How a call is heard of which nobody has said more.
pub(super) fn configured(config: &config::Config) -> CallSettings {
    let end_of_turn = Duration::from_millis(config.turns.end_of_turn_ms);
    let style = match config.turns.style {
        config::TurnStyle::Open => Style::Open,
        config::TurnStyle::Quick => Style::Quick,
        config::TurnStyle::Digits => Style::Digits,
    };
    let barge_in = BargeIn {
        enabled: config.turns.barge_in,
        min_voiced: Duration::from_millis(config.turns.barge_in_ms),
        min_words: config.turns.barge_in_words,
        sure_voiced: Duration::from_millis(config.turns.barge_in_sure_ms),
    };
    let turns = TurnPolicy { barge_in, ..TurnPolicy::default().with_style(style, end_of_turn) };
    let hints = asr::recognizer::Hints { prompt: prompt(&config.asr.vocabulary), language: None };
    CallSettings { turns, hints, ..CallSettings::default() }
}

/// Words as the recogniser is told them.
fn prompt(vocabulary: &[String]) -> String {
    vocabulary.join(", ")
}

fn apply(settings: &mut CallSettings, request: &TurnPolicyRequest, end_of_turn: Duration) {
    let turns = &mut settings.turns;
    if let Some(style) = request.style {
        let style = match style {
            TurnStyle::Open => Style::Open,
            TurnStyle::Quick => Style::Quick,
            TurnStyle::Digits => Style::Digits,
        };
        *turns = TurnPolicy { digits: None, ..turns.clone() }.with_style(style, end_of_turn);
    }
    let set = |place: &mut Duration, ms: Option<u64>| {
        if let Some(ms) = ms {
            *place = Duration::from_millis(ms);
        }
    };
    set(&mut turns.complete_after, request.complete_ms);
    set(&mut turns.end_after, request.end_of_turn_ms);
    set(&mut turns.incomplete_after, request.incomplete_ms);
    set(&mut turns.barge_in.min_voiced, request.barge_in_ms);
    set(&mut turns.barge_in.sure_voiced, request.barge_in_sure_ms);
    if let Some(digits) = request.digits {
        turns.digits = (digits > 0).then_some(digits as usize);
    }
    if let Some(enabled) = request.barge_in {
        turns.barge_in.enabled = enabled;
    }
    if let Some(words) = request.barge_in_words {
        turns.barge_in.min_words = words as usize;
    }
    if let Some(language) = &request.language {
        settings.hints.language = Some(language.clone());
    }
    if let Some(recognizer) = request.recognizer {
        settings.recognition = match recognizer {
            RecognizedBy::BuiltIn => Recognition::BuiltIn,
            RecognizedBy::Client => Recognition::Pushed,
        };
    }
}

fn describe(settings: &CallSettings, language: String, vocabulary: Vec<String>) -> TurnPolicyReply {
    let ms = |time: Duration| time.as_millis() as u64;
    let turns = &settings.turns;
    TurnPolicyReply {
        style: match turns.style {
            Style::Open => TurnStyle::Open,
            Style::Quick => TurnStyle::Quick,
            Style::Digits => TurnStyle::Digits,
        },
        complete_ms: ms(turns.complete_after),
        end_of_turn_ms: ms(turns.end_after),
        incomplete_ms: ms(turns.incomplete_after),
        digits: turns.digits.unwrap_or(0) as u64,
        barge_in: turns.barge_in.enabled,
        barge_in_ms: ms(turns.barge_in.min_voiced),
        barge_in_words: turns.barge_in.min_words as u64,
        barge_in_sure_ms: ms(turns.barge_in.sure_voiced),
        language,
        vocabulary,
        recognizer: match settings.recognition {
            Recognition::BuiltIn => RecognizedBy::BuiltIn,
            Recognition::Pushed => RecognizedBy::Client,
        },
    }
}

/// For `daemon.status`.
pub(super) fn report(load: &EarsLoad) -> Value {
    let [finals, eagers, partials] = load.done;
    json!({
        "level": load.level.to_string(),
        "workers": load.workers,
        "busy": (load.busy * 100.0).round() / 100.0,
        "waiting": load.waiting,
        "longest_wait_ms": load.longest_wait.as_millis() as u64,
        "finals": finals,
        "eagers": eagers,
        "partials": partials,
        "dropped_partials": load.dropped,
    })
}

#[cfg(test)]
mod tests {
    use control::types::CallId;

    use super::*;

    fn after(request: TurnPolicyRequest) -> TurnPolicyReply {
        let mut settings = configured(&config::Config::default());
        apply(&mut settings, &request, Duration::from_millis(500));
        describe(&settings, "en".into(), Vec::new())
    }

    #[test]
    fn what_is_not_named_stays_as_it_is_configured() {
        let reply = after(TurnPolicyRequest::new(CallId(1)));
        assert_eq!((reply.complete_ms, reply.end_of_turn_ms, reply.incomplete_ms), (350, 500, 1_200));
        assert_eq!((reply.barge_in, reply.barge_in_ms, reply.barge_in_words), (true, 120, 0));
        let words = TurnPolicyRequest {
            barge_in_words: Some(2),
            barge_in_sure_ms: Some(700),
            ..TurnPolicyRequest::new(CallId(1))
        };
        let reply = after(words);
        assert_eq!((reply.barge_in_words, reply.barge_in_sure_ms, reply.end_of_turn_ms), (2, 700, 500));
    }

    #[test]
    fn a_style_sets_its_silences_and_single_ones_go_before_it() {
        let style = Some(TurnStyle::Digits);
        let reply = after(TurnPolicyRequest { style, digits: Some(4), ..TurnPolicyRequest::new(CallId(1)) });
        assert_eq!(
            (reply.complete_ms, reply.end_of_turn_ms, reply.incomplete_ms, reply.digits),
            (500, 1_000, 1_500, 4)
        );
        let reply = after(TurnPolicyRequest { style, incomplete_ms: Some(3_000), ..TurnPolicyRequest::new(CallId(1)) });
        assert_eq!((reply.end_of_turn_ms, reply.incomplete_ms), (1_000, 3_000));
    }
}
