//! Who is speaking until when: a pure state machine over (time, voiced?, level).
//!
//! ```text
//!          confirm_after voiced                 eager_after silent                end_after silent
//!  Idle ───────────────────────> Speaking ──────────────────────────> Paused ──────────────────────> Idle
//!          UtteranceStart,            ^         SpeechStop               │       UtteranceEnd
//!          SpeechStart                └──────────────────────────────────┘
//!                                        voiced again: SpeechStart
//! ```
//!
//! What holds: `SpeechStart` and `SpeechStop` alternate; so do `UtteranceStart` and `UtteranceEnd`; speech happens only
//! inside utterances; times never go backwards. No clock is read: time is what the frames say it is.

use std::{collections::VecDeque, time::Duration};

use crate::{phrase::Ending, policy::TurnPolicy, vad::VadFrame};

/// An onset that is silent for this long was no onset. Stops inside words last up to 60 ms.
const ONSET_GAP: Duration = Duration::from_millis(80);
/// Voiced time that may become speech: the moment to listen more closely. Two frames; one is a click.
const ONSET_AFTER: Duration = Duration::from_millis(40);
/// Voiced time that takes a pause back: less than an onset needs, for the caller was just speaking.
const RESUME_AFTER: Duration = Duration::from_millis(60);

/// Why an utterance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The caller was silent for [`TurnPolicy::end_after`].
    Silence,
    /// It was long and there was a pause ([`TurnPolicy::cut_at_pause_after`]).
    LongEnough,
    /// It reached [`TurnPolicy::max_utterance`].
    Limit,
    /// The stream ended or stalled ([`TurnMachine::finish`]).
    StreamEnd,
}

/// A finished utterance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Utterance {
    /// Where its first voiced frame began.
    pub start: Duration,
    /// Where its last voiced frame ended.
    pub end: Duration,
    /// Voiced time in it.
    pub voiced: Duration,
    /// The loudest voiced frame, in dB of full scale.
    pub peak_db: f32,
}

/// What the machine found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TurnEvent {
    /// An utterance begins; its first voiced frame began `at`.
    UtteranceStart {
        /// When.
        at: Duration,
    },
    /// The caller may be speaking, since `at`: [`TurnEvent::SpeechStart`] or [`TurnEvent::OnsetOver`] follows.
    Onset {
        /// When.
        at: Duration,
    },
    /// The caller was not speaking: it was a cough or a click.
    OnsetOver,
    /// The caller speaks, since `at`.
    SpeechStart {
        /// When.
        at: Duration,
    },
    /// The caller pauses, since `at`: the moment to decode on speculation.
    SpeechStop {
        /// When.
        at: Duration,
    },
    /// The utterance is over.
    UtteranceEnd {
        /// What it was.
        utterance: Utterance,
        /// Why it is over.
        reason: EndReason,
    },
}

/// Voiced frames that may become speech.
#[derive(Debug, Clone, Copy)]
struct Onset {
    told: bool,
    start: Duration,
    end: Duration,
    voiced: Duration,
    peak_db: f32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    Speaking(Utterance),
    Paused(Utterance),
}

/// The turn machine of one stream.
#[derive(Debug)]
pub struct TurnMachine {
    policy: TurnPolicy,
    state: State,
    onset: Option<Onset>,
    /// The silence that ends this pause, once the text has been looked at.
    patience: Option<Duration>,
    /// Voiced time since the last `SpeechStart`.
    spell: Duration,
    events: VecDeque<TurnEvent>,
}

impl TurnMachine {
    /// A machine that waits for the first word.
    pub fn new(policy: TurnPolicy) -> Self {
        let events = VecDeque::with_capacity(4);
        Self { policy, state: State::Idle, onset: None, patience: None, spell: Duration::ZERO, events }
    }

    /// Goes on by another policy. It holds from the next frame, for a pause that has begun, too.
    pub fn set_policy(&mut self, policy: TurnPolicy) {
        self.policy = policy;
        self.patience = None;
    }

    /// The text up to this pause ends like this: how long the silence may last follows from it. Without effect while the
    /// caller speaks.
    pub fn set_ending(&mut self, ending: Ending) {
        if matches!(self.state, State::Paused(_)) {
            self.patience = Some(self.policy.silence_for(ending));
        }
    }

    /// Voiced time since the last [`TurnEvent::SpeechStart`]; zero when the caller does not speak.
    pub fn spell(&self) -> Duration {
        if self.is_speaking() { self.spell } else { Duration::ZERO }
    }

    /// Takes the frame that began `at` and lasted `length`. A jump of `at` is time without voice.
    pub fn push(&mut self, at: Duration, length: Duration, frame: VadFrame) {
        let now = at + length;
        match self.state {
            State::Idle => self.idle(at, now, frame),
            State::Speaking(utterance) => self.speaking(utterance, at, now, frame),
            State::Paused(utterance) => self.paused(utterance, at, now, frame),
        }
    }

    /// Ends what is open: the stream is over or has stalled.
    pub fn finish(&mut self) {
        self.end_onset();
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Speaking(utterance) => {
                self.events.push_back(TurnEvent::SpeechStop { at: utterance.end });
                self.end(utterance, EndReason::StreamEnd);
            }
            State::Paused(utterance) => self.end(utterance, EndReason::StreamEnd),
        }
    }

    /// The next thing found. Call until `None` after each [`push`](Self::push).
    pub fn poll_event(&mut self) -> Option<TurnEvent> {
        self.events.pop_front()
    }

    /// The utterance so far, if one is open.
    pub fn utterance(&self) -> Option<Utterance> {
        match self.state {
            State::Idle => None,
            State::Speaking(utterance) | State::Paused(utterance) => Some(utterance),
        }
    }

    /// Whether the caller is speaking now (and not pausing).
    pub fn is_speaking(&self) -> bool {
        matches!(self.state, State::Speaking(_))
    }

    /// Where the speech began that is open or may be about to open: audio from before that (and the pre-roll) is
    /// not needed any more.
    pub fn needed_from(&self) -> Option<Duration> {
        match self.state {
            State::Idle => self.onset.map(|o| o.start),
            State::Speaking(utterance) | State::Paused(utterance) => Some(utterance.start),
        }
    }

    fn idle(&mut self, at: Duration, now: Duration, frame: VadFrame) {
        if let Some(onset) = self.grow_onset(at, now, frame, self.policy.confirm_after) {
            let utterance =
                Utterance { start: onset.start, end: onset.end, voiced: onset.voiced, peak_db: onset.peak_db };
            self.events.push_back(TurnEvent::UtteranceStart { at: onset.start });
            self.events.push_back(TurnEvent::SpeechStart { at: onset.start });
            self.spell = onset.voiced;
            self.state = State::Speaking(utterance);
        }
    }

    fn speaking(&mut self, mut utterance: Utterance, at: Duration, now: Duration, frame: VadFrame) {
        if frame.voiced {
            utterance.end = now;
            utterance.voiced += now - at;
            self.spell += now - at;
            utterance.peak_db = utterance.peak_db.max(frame.level_db);
        }
        self.state = State::Speaking(utterance);
        if now.saturating_sub(utterance.end) >= self.policy.eager_after {
            self.events.push_back(TurnEvent::SpeechStop { at: utterance.end });
            self.state = State::Paused(utterance);
            self.patience = None;
            self.end_if_due(utterance, now);
        } else if now.saturating_sub(utterance.start) >= self.policy.max_utterance {
            self.end(utterance, EndReason::Limit);
            // still inside a word: the next utterance begins where this one was cut
            self.events.push_back(TurnEvent::UtteranceStart { at: now });
            self.state =
                State::Speaking(Utterance { start: now, end: now, voiced: Duration::ZERO, peak_db: frame.level_db });
        }
    }

    fn paused(&mut self, mut utterance: Utterance, at: Duration, now: Duration, frame: VadFrame) {
        if let Some(onset) = self.grow_onset(at, now, frame, RESUME_AFTER) {
            utterance.end = onset.end;
            utterance.voiced += onset.voiced;
            utterance.peak_db = utterance.peak_db.max(onset.peak_db);
            self.events.push_back(TurnEvent::SpeechStart { at: onset.start });
            self.spell = onset.voiced;
            self.state = State::Speaking(utterance);
            return;
        }
        self.end_if_due(utterance, now);
    }

    /// Ends a paused utterance whose time has come, unless a new word may be beginning right now.
    fn end_if_due(&mut self, utterance: Utterance, now: Duration) {
        if self.onset.is_some() {
            return;
        }
        if now.saturating_sub(utterance.end) >= self.patience.unwrap_or(self.policy.end_after) {
            self.state = State::Idle;
            self.end(utterance, EndReason::Silence);
        } else if now.saturating_sub(utterance.start) >= self.policy.cut_at_pause_after {
            self.state = State::Idle;
            self.end(utterance, EndReason::LongEnough);
        }
    }

    fn end(&mut self, utterance: Utterance, reason: EndReason) {
        self.events.push_back(TurnEvent::UtteranceEnd { utterance, reason });
    }

    /// Collects voiced frames; gives the onset out once it has enough of them.
    fn grow_onset(&mut self, at: Duration, now: Duration, frame: VadFrame, enough: Duration) -> Option<Onset> {
        if let Some(onset) = self.onset
            && now.saturating_sub(onset.end) > ONSET_GAP
        {
            self.end_onset();
        }
        if !frame.voiced {
            return None;
        }
        let onset = self.onset.get_or_insert(Onset {
            told: false,
            start: at,
            end: at,
            voiced: Duration::ZERO,
            peak_db: frame.level_db,
        });
        onset.end = now;
        onset.voiced += now - at;
        onset.peak_db = onset.peak_db.max(frame.level_db);
        if !onset.told && onset.voiced >= ONSET_AFTER {
            onset.told = true;
            self.events.push_back(TurnEvent::Onset { at: onset.start });
        }
        if onset.voiced < enough { None } else { self.onset.take() }
    }

    fn end_onset(&mut self) {
        if self.onset.take().is_some_and(|onset| onset.told) {
            self.events.push_back(TurnEvent::OnsetOver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phrase::Style;

    const FRAME: Duration = Duration::from_millis(20);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Plays a sentence of `(voiced?, milliseconds)` on a virtual clock.
    struct Player {
        machine: TurnMachine,
        now: Duration,
        events: Vec<TurnEvent>,
        onsets: Vec<TurnEvent>,
    }

    impl Player {
        fn new() -> Self {
            Self {
                machine: TurnMachine::new(TurnPolicy::default()),
                now: Duration::ZERO,
                events: Vec::new(),
                onsets: Vec::new(),
            }
        }

        fn play(&mut self, voiced: bool, length_ms: u64) -> &mut Self {
            let until = self.now + ms(length_ms);
            while self.now < until {
                let level_db = if voiced { -20.0 } else { -70.0 };
                self.machine.push(self.now, FRAME, VadFrame { voiced, level_db });
                self.now += FRAME;
                self.drain();
            }
            self
        }

        fn drain(&mut self) {
            while let Some(event) = self.machine.poll_event() {
                match event {
                    TurnEvent::Onset { .. } | TurnEvent::OnsetOver => self.onsets.push(event),
                    event => self.events.push(event),
                }
            }
        }

        fn ends(&self) -> Vec<(Utterance, EndReason)> {
            self.events
                .iter()
                .filter_map(|e| match *e {
                    TurnEvent::UtteranceEnd { utterance, reason } => Some((utterance, reason)),
                    _ => None,
                })
                .collect()
        }
    }

    #[test]
    fn a_cough_is_an_onset_that_is_over_and_speech_one_that_is_not() {
        let mut player = Player::new();
        player.play(false, 1_000).play(true, 20).play(false, 200);
        assert_eq!(player.onsets, [], "a click is not even that");
        player.play(true, 80).play(false, 200);
        assert_eq!(player.onsets, [TurnEvent::Onset { at: ms(1_220) }, TurnEvent::OnsetOver]);
        assert_eq!(player.events, []);
        player.play(true, 400);
        assert_eq!(player.onsets[2..], [TurnEvent::Onset { at: ms(1_500) }]);
        assert_eq!(player.events[1], TurnEvent::SpeechStart { at: ms(1_500) });
    }

    #[test]
    fn a_word_starts_stops_and_ends_at_its_own_times() {
        let mut player = Player::new();
        player.play(false, 1_000).play(true, 400).play(false, 1_000);
        let [start, speech, stop, end] = player.events[..] else { panic!("{:?}", player.events) };
        assert_eq!(start, TurnEvent::UtteranceStart { at: ms(1_000) });
        assert_eq!(speech, TurnEvent::SpeechStart { at: ms(1_000) });
        assert_eq!(stop, TurnEvent::SpeechStop { at: ms(1_400) });
        let utterance = Utterance { start: ms(1_000), end: ms(1_400), voiced: ms(400), peak_db: -20.0 };
        assert_eq!(end, TurnEvent::UtteranceEnd { utterance, reason: EndReason::Silence });
    }

    #[test]
    fn speech_is_told_as_soon_as_it_is_confirmed() {
        let mut player = Player::new();
        player.play(true, 100);
        assert!(player.events.is_empty());
        player.play(true, 20);
        assert_eq!(player.events.len(), 2);
    }

    #[test]
    fn a_pause_is_told_after_eager_silence_and_the_end_after_end_silence() {
        let mut player = Player::new();
        player.play(true, 400).play(false, 200);
        assert_eq!(player.events.len(), 2);
        player.play(false, 20);
        assert_eq!(player.events.last(), Some(&TurnEvent::SpeechStop { at: ms(400) }));
        player.play(false, 320);
        assert_eq!(player.events.len(), 3);
        player.play(false, 20);
        assert_eq!(player.ends().len(), 1);
    }

    #[test]
    fn blips_and_clicks_are_no_speech() {
        let mut player = Player::new();
        for _ in 0..20 {
            player.play(true, 20).play(false, 200);
        }
        player.play(true, 100).play(false, 500);
        assert!(player.events.is_empty(), "{:?}", player.events);
    }

    #[test]
    fn a_stop_inside_a_word_does_not_undo_the_onset() {
        let mut player = Player::new();
        player.play(true, 60).play(false, 60).play(true, 60);
        assert_eq!(player.events.first(), Some(&TurnEvent::UtteranceStart { at: Duration::ZERO }));
    }

    #[test]
    fn speech_after_a_short_pause_goes_on_in_the_same_utterance() {
        let mut player = Player::new();
        player.play(true, 400).play(false, 300).play(true, 400).play(false, 1_000);
        let ends = player.ends();
        assert_eq!(ends.len(), 1);
        assert_eq!((ends[0].0.start, ends[0].0.end), (ms(0), ms(1_100)));
        assert_eq!(ends[0].0.voiced, ms(800));
        let starts = player.events.iter().filter(|e| matches!(e, TurnEvent::SpeechStart { .. })).count();
        assert_eq!(starts, 2, "the pause was taken back");
    }

    #[test]
    fn a_whole_phrase_ends_the_turn_sooner_and_one_that_wants_more_later() {
        let policy = TurnPolicy::default();
        for (ending, silence) in [
            (Ending::Complete, policy.complete_after),
            (Ending::Unknown, policy.end_after),
            (Ending::Incomplete, policy.incomplete_after),
        ] {
            let mut player = Player::new();
            player.play(true, 400).play(false, 220);
            player.machine.set_ending(ending);
            // whole frames
            let due = 20 * u64::try_from(silence.as_millis()).unwrap().div_ceil(20);
            player.play(false, due - 220 - 20);
            assert!(player.ends().is_empty(), "{ending:?} ended too soon");
            player.play(false, 20);
            assert_eq!(player.ends().len(), 1, "{ending:?}");
        }
    }

    #[test]
    fn what_the_text_told_is_forgotten_when_the_caller_goes_on() {
        let mut player = Player::new();
        player.play(true, 400).play(false, 220);
        player.machine.set_ending(Ending::Incomplete);
        player.play(true, 400).play(false, 560);
        assert_eq!(player.ends().len(), 1, "the silence is the usual one again");
        player.machine.set_ending(Ending::Complete);
        player.play(true, 400).play(false, 540);
        assert_eq!(player.ends().len(), 1, "an ending that comes late means nothing");
    }

    #[test]
    fn another_policy_holds_from_the_next_frame() {
        let mut player = Player::new();
        player.play(true, 400).play(false, 600);
        let quick = TurnPolicy::default().with_style(Style::Quick, ms(500));
        assert_eq!((quick.complete_after, quick.end_after, quick.incomplete_after), (ms(300), ms(400), ms(900)));
        player.machine.set_policy(quick.clone());
        player.play(true, 400).play(false, 400);
        assert_eq!(player.ends().len(), 2);
        player.play(true, 400).play(false, 380);
        player.machine.set_policy(quick.with_style(Style::Digits, ms(500)));
        player.play(false, 400);
        assert_eq!(player.ends().len(), 2, "a pause that has begun lasts as the new policy says");
        player.play(false, 300);
        assert_eq!(player.ends().len(), 3);
    }

    #[test]
    fn a_spell_of_speech_is_counted_from_its_own_start() {
        let mut player = Player::new();
        player.play(true, 400);
        assert_eq!(player.machine.spell(), ms(400));
        player.play(false, 300);
        assert_eq!(player.machine.spell(), Duration::ZERO);
        player.play(true, 100);
        assert_eq!(player.machine.spell(), ms(100));
    }

    #[test]
    fn a_click_in_the_pause_neither_resumes_nor_prolongs_it() {
        let mut player = Player::new();
        player.play(true, 400).play(false, 260).play(true, 20).play(false, 1_000);
        assert_eq!(player.ends().len(), 1);
        assert_eq!(player.ends()[0].0.end, ms(400));
    }

    #[test]
    fn a_word_that_begins_as_the_turn_would_end_is_not_cut_off() {
        let mut player = Player::new();
        player.play(true, 400).play(false, 520).play(true, 400).play(false, 1_000);
        assert_eq!(player.ends().len(), 1);
        assert_eq!(player.ends()[0].0.end, ms(1_320));
    }

    #[test]
    fn a_long_utterance_ends_at_its_next_pause() {
        let mut player = Player::new();
        player.play(true, 16_000).play(false, 240).play(true, 500);
        assert_eq!(player.ends().len(), 1);
        assert_eq!(player.ends()[0].1, EndReason::LongEnough);
        assert_eq!(player.ends()[0].0.end, ms(16_000));
    }

    #[test]
    fn speech_without_a_pause_is_cut_at_the_limit_and_goes_on_in_the_next_utterance() {
        let mut player = Player::new();
        player.play(true, 45_000).play(false, 1_000);
        let ends = player.ends();
        let spans: Vec<_> = ends.iter().map(|(u, r)| (u.start, u.end, *r)).collect();
        assert_eq!(
            spans,
            [
                (ms(0), ms(20_000), EndReason::Limit),
                (ms(20_000), ms(40_000), EndReason::Limit),
                (ms(40_000), ms(45_000), EndReason::Silence),
            ]
        );
        let starts = player.events.iter().filter(|e| matches!(e, TurnEvent::SpeechStart { .. })).count();
        assert_eq!(starts, 1, "the caller never stopped");
    }

    #[test]
    fn the_end_of_the_stream_ends_what_is_open() {
        let mut player = Player::new();
        player.play(true, 400);
        player.machine.finish();
        player.drain();
        assert_eq!(player.ends()[0].1, EndReason::StreamEnd);
        assert!(matches!(player.events[2], TurnEvent::SpeechStop { .. }));
        player.machine.finish();
        player.drain();
        assert_eq!(player.ends().len(), 1, "nothing is ended twice");
    }

    #[test]
    fn a_jump_of_the_clock_ends_the_turn() {
        let mut player = Player::new();
        player.play(true, 400);
        player.now += ms(5_000);
        player.play(false, 20);
        assert_eq!(player.ends().len(), 1);
        assert_eq!(player.ends()[0].0.end, ms(400));
    }

    #[test]
    fn starts_and_ends_alternate_whatever_comes() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut player = Player::new();
        for _ in 0..3_000 {
            let length = 20 * random.u64(1..60);
            player.play(random.bool(), length);
            if random.u8(..) == 0 {
                player.machine.finish();
                player.drain();
            }
        }
        player.machine.finish();
        player.drain();
        let (mut speaking, mut open, mut last) = (false, false, Duration::ZERO);
        for event in &player.events {
            let at = match *event {
                TurnEvent::UtteranceStart { at } => {
                    assert!(!std::mem::replace(&mut open, true));
                    at
                }
                TurnEvent::SpeechStart { at } => {
                    assert!(open && !std::mem::replace(&mut speaking, true));
                    at
                }
                TurnEvent::SpeechStop { at } => {
                    assert!(open && std::mem::replace(&mut speaking, false));
                    at
                }
                TurnEvent::UtteranceEnd { utterance, .. } => {
                    assert!(std::mem::replace(&mut open, false));
                    assert!(utterance.end >= utterance.start);
                    utterance.end
                }
                TurnEvent::Onset { .. } | TurnEvent::OnsetOver => continue,
            };
            assert!(at >= last, "{event:?} after {last:?}");
            last = at;
        }
        assert!(!open && !speaking);
    }
}
