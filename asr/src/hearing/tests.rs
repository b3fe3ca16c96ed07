//! One call's hearing on a virtual clock, with real worker threads that are waited for.

use super::*;
use crate::{
    AsrError, BargeIn, PushedText, TurnPolicy,
    listener::Input,
    phrase::Style,
    recognizer::{Hypothesis, RecognizeError, Recognizer, Recognizers},
};
use crossbeam_channel::Receiver;
use std::sync::{Mutex, atomic::AtomicBool};

/// Hears the same in everything, and notes what it was told.
#[derive(Clone)]
struct Hears {
    text: Arc<Mutex<String>>,
    prompts: Arc<Mutex<Vec<String>>>,
}

impl Recognizers for Hears {
    fn create(&self) -> Result<Box<dyn Recognizer + '_>, AsrError> {
        Ok(Box::new(self.clone()))
    }
}

impl Recognizer for Hears {
    fn recognize(&mut self, _: &[f32], hints: &Hints, _: &AtomicBool) -> Result<Hypothesis, RecognizeError> {
        self.prompts.lock().unwrap().push(hints.prompt.clone());
        let text = self.text.lock().unwrap().clone();
        Ok(Hypothesis { text, tokens: 1, mean_log_prob: 0.0, no_speech: 0.0, cut_off: false })
    }
}

/// One call on a virtual clock; the workers are real threads, waited for.
struct Call {
    hearing: Hearing,
    ring: rtrb::Producer<f32>,
    lost: Arc<AtomicU64>,
    transcriber: Transcriber,
    inbox: Receiver<Input>,
    now: Instant,
    events: VecDeque<EarsEvent>,
    phase: f32,
    partial_interval: Duration,
    recognizer: Hears,
}

impl Call {
    fn new() -> Self {
        Self::of("hello", CallSettings::default())
    }

    fn of(text: &str, settings: CallSettings) -> Self {
        let recognizer = Hears { text: Arc::new(Mutex::new(text.into())), prompts: Arc::default() };
        let (reports, inbox) = crossbeam_channel::unbounded();
        let transcriber =
            Transcriber::start(Arc::new(recognizer.clone()), 1, Duration::from_secs(60), 0, reports).unwrap();
        let (ring, samples) = rtrb::RingBuffer::new(4_000);
        let lost = Arc::new(AtomicU64::new(0));
        let now = Instant::now();
        let hearing = Hearing::new(StreamId(1), samples, Arc::clone(&lost), settings, DetectorKind::default(), now);
        Self {
            hearing,
            ring,
            lost,
            transcriber,
            inbox,
            now,
            events: VecDeque::new(),
            phase: 0.0,
            partial_interval: Duration::ZERO,
            recognizer,
        }
    }

    /// From now on it hears this.
    fn says(&mut self, text: &str) {
        text.clone_into(&mut self.recognizer.text.lock().unwrap());
    }

    fn push(&mut self, text: &str, settled: bool, end_of_turn: bool) {
        let piece = PushedText { text: text.into(), settled, end_of_turn };
        self.with(|hearing, cx| hearing.push_text(&piece, cx));
    }

    /// What has happened since this was last asked, in short; onsets left out.
    fn news(&mut self) -> Vec<String> {
        let short = |event: EarsEvent| match event {
            EarsEvent::Onset { .. } | EarsEvent::OnsetOver { .. } => None,
            EarsEvent::SpeechStart { .. } => Some("start".into()),
            EarsEvent::SpeechStop { .. } => Some("stop".into()),
            EarsEvent::Partial { text, confirmed, .. } => Some(format!("partial {text}/{confirmed}")),
            EarsEvent::Eager { text, .. } => Some(format!("eager {text}")),
            EarsEvent::Resumed { .. } => Some("resumed".into()),
            EarsEvent::BargeIn { .. } => Some("barge-in".into()),
            EarsEvent::Final { text, as_eager, backchannel, .. } => {
                let signs = [(as_eager, " as eager"), (backchannel, " backchannel")];
                let signs = signs.iter().filter(|(is, _)| *is).map(|(_, sign)| *sign);
                Some(format!("final {text}{}", signs.collect::<String>()))
            }
            other => Some(format!("{other:?}")),
        };
        self.events.drain(..).filter_map(short).collect()
    }

    fn with(&mut self, act: impl FnOnce(&mut Hearing, &mut Context<'_>)) {
        let mut cx = Context {
            now: self.now,
            transcriber: &self.transcriber,
            partial_interval: self.partial_interval,
            events: &mut self.events,
        };
        act(&mut self.hearing, &mut cx);
    }

    fn poll(&mut self) {
        self.with(Hearing::poll);
    }

    /// 20 ms at a time, in real time by the virtual clock.
    fn hear(&mut self, ms: u64, level: f32) {
        for _ in 0..ms / 20 {
            for _ in 0..FRAME_SAMPLES {
                // a buzz at 100 Hz, of all harmonics: voiced to the detector
                self.phase = (self.phase + 100.0 / 8_000.0).fract();
                let _ = self.ring.push(level * (1.0 - 2.0 * self.phase));
            }
            self.now += FRAME;
            self.poll();
        }
    }

    fn speak(&mut self, ms: u64) {
        // with syllables, else it would be taken for the background
        for syllable in 0..ms / 100 {
            self.hear(100, if syllable % 2 == 0 { 0.3 } else { 0.1 });
        }
    }

    /// Waits for the workers' next report.
    fn settle(&mut self) {
        let input = self
            .inbox
            .recv_timeout(Duration::from_secs(10))
            .unwrap_or_else(|_| panic!("nothing after {:#?}", self.events));
        if let Input::Outcome(outcome) = input {
            self.with(|hearing, cx| hearing.on_outcome(outcome, cx));
        }
    }

    /// Waits for the workers' reports until one of them leads to such an event.
    fn settle_until(&mut self, wanted: impl Fn(&EarsEvent) -> bool) {
        let seen = self.events.len();
        while !self.events.iter().skip(seen).any(&wanted) {
            self.settle();
        }
    }

    /// Speaks, and pauses for so long that the eager text is there.
    fn speak_and_pause(&mut self, ms: u64) {
        self.speak(ms);
        self.hear(300, 0.0);
        self.settle_until(|event| matches!(event, EarsEvent::Eager { .. }));
    }

    fn final_end(&self) -> Option<(Duration, Duration)> {
        self.events.iter().find_map(|e| match e {
            EarsEvent::Final { start, end, .. } => Some((*start, *end)),
            _ => None,
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.transcriber.stop();
    }
}

fn near(at: Duration, ms: u64) -> bool {
    at.abs_diff(Duration::from_millis(ms)) <= Duration::from_millis(150)
}

#[test]
fn lost_samples_are_time_that_passed() {
    for (lost_ms, seconds) in [(300, "a short loss is silence"), (20_000, "a long one is a jump")] {
        let mut call = Call::new();
        call.hear(500, 0.0);
        call.lost.fetch_add(lost_ms * 8 + 7, Ordering::Release);
        call.poll();
        call.speak(600);
        call.hear(800, 0.0);
        call.settle();
        let (start, end) = call.final_end().unwrap();
        assert!(near(start, 500 + lost_ms) && near(end, 1_100 + lost_ms), "{seconds}: {start:?} {end:?}");
    }
}

#[test]
fn words_before_a_long_loss_are_not_lost_with_it() {
    let mut call = Call::new();
    call.speak(600);
    call.lost.fetch_add(60 * 8_000, Ordering::Release);
    call.poll();
    call.settle();
    let (start, end) = call.final_end().unwrap();
    assert!(near(start, 0) && near(end, 600), "{start:?} {end:?}");
}

#[test]
fn a_stream_that_stalls_inside_a_word_still_gets_its_final() {
    let mut call = Call::new();
    call.speak(600);
    call.now += STALLED_AFTER - Duration::from_millis(1);
    call.poll();
    assert!(call.hearing.open.is_some());
    call.now += Duration::from_millis(2);
    call.poll();
    call.settle();
    assert!(near(call.final_end().unwrap().1, 600));
}

#[test]
fn latency_is_the_silence_waited_for_when_the_text_was_ready_before() {
    let mut call = Call::new();
    call.speak(600);
    call.hear(400, 0.0);
    call.settle();
    call.hear(400, 0.0);
    let Some(EarsEvent::Final { latency, .. }) = call.events.back() else { panic!("{:?}", call.events) };
    // the recogniser had its text at the pause
    assert_eq!(*latency, TurnPolicy::default().end_after.div_duration_f32(FRAME).ceil() as u32 * FRAME);
}

#[test]
fn a_call_keeps_no_more_audio_than_it_needs() {
    let mut call = Call::new();
    let slack = TRIM_SAMPLES + samples(TurnPolicy::default().pre_roll) as usize + FRAME_SAMPLES;
    for _ in 0..30 {
        call.hear(1_000, 0.0);
        assert!(call.hearing.audio.len() <= slack, "{} samples in silence", call.hearing.audio.len());
    }
    let most = samples(TurnPolicy::default().max_utterance) as usize + 2 * slack;
    for _ in 0..90 {
        call.speak(1_000);
        assert!(call.hearing.audio.len() <= most, "{} samples in speech", call.hearing.audio.len());
        while let Ok(Input::Outcome(outcome)) = call.inbox.try_recv() {
            call.with(|hearing, cx| hearing.on_outcome(outcome, cx));
        }
    }
}

#[test]
fn with_too_many_finals_waiting_the_ring_is_left_full() {
    let mut call = Call::new();
    for _ in 0..MAX_FINALS_PER_STREAM + 3 {
        // the reports are not taken: to the call it is as if nobody recognised anything
        call.speak(400);
        call.hear(700, 0.0);
    }
    assert_eq!(call.hearing.awaited.len(), MAX_FINALS_PER_STREAM);
    assert_eq!(call.ring.slots(), 0);
    for _ in 0..MAX_FINALS_PER_STREAM {
        call.settle();
    }
    call.poll();
    assert!(call.ring.slots() > 0, "and read again when they are done");
}

fn settings(turns: TurnPolicy) -> CallSettings {
    CallSettings { turns, ..CallSettings::default() }
}

#[test]
fn an_eager_text_is_told_at_the_pause_and_the_final_says_that_it_is_the_same() {
    let mut call = Call::new();
    call.speak_and_pause(600);
    assert_eq!(call.news(), ["start", "stop", "eager hello"]);
    call.hear(600, 0.0);
    assert_eq!(call.news(), ["final hello as eager"]);
}

#[test]
fn an_eager_text_is_taken_back_when_the_caller_goes_on() {
    let mut call = Call::new();
    call.speak_and_pause(600);
    call.says("hello there");
    call.speak_and_pause(400);
    assert_eq!(call.news(), ["start", "stop", "eager hello", "start", "resumed", "stop", "eager hello there"]);
    call.hear(600, 0.0);
    assert_eq!(call.news(), ["final hello there as eager"]);
    assert_eq!(call.recognizer.prompts.lock().unwrap().len(), 2, "the final was not computed again");
}

#[test]
fn nothing_is_taken_back_that_was_not_told() {
    let mut call = Call::new();
    call.speak(600);
    call.hear(300, 0.0);
    call.speak(400);
    assert_eq!(call.news(), ["start", "stop", "start"]);
}

#[test]
fn a_text_that_wants_more_keeps_the_turn_and_a_whole_phrase_ends_it() {
    for (text, ends_after) in [("I would like to", 1_320), ("yes please", 385), ("hello", 550)] {
        let mut call = Call::of(text, CallSettings::default());
        call.speak_and_pause(600);
        let Some(EarsEvent::Eager { end, .. }) = call.events.back().cloned() else { panic!("{:?}", call.events) };
        call.hear(1_400, 0.0);
        let Some(EarsEvent::Final { latency, .. }) = call.events.back() else { panic!("{:?}", call.events) };
        let frames = Duration::from_millis(ends_after).div_duration_f32(FRAME).ceil() as u32;
        assert_eq!(*latency, frames * FRAME, "{text} {end:?}");
    }
}

#[test]
fn a_calls_policy_changes_while_it_runs() {
    let mut call = Call::of("four two", CallSettings::default());
    call.hearing.set(settings(TurnPolicy {
        digits: Some(4),
        ..TurnPolicy::default().with_style(Style::Digits, Duration::from_millis(500))
    }));
    call.speak_and_pause(600);
    call.hear(1_000, 0.0);
    assert_eq!(call.news(), ["start", "stop", "eager four two"], "two digits are missing");
    call.says("four two seven one");
    call.speak_and_pause(600);
    call.hear(260, 0.0);
    let news = call.news();
    assert_eq!(news.last().unwrap(), "final four two seven one as eager", "the number is whole: {news:?}");
    call.says("friday");
    call.hearing.set(settings(TurnPolicy::default().with_style(Style::Quick, Duration::from_millis(500))));
    call.speak_and_pause(600);
    call.hear(60, 0.0);
    assert_eq!(call.news().last().unwrap(), "final friday as eager");
}

#[test]
fn partials_show_which_words_will_not_change() {
    let mut call = Call::new();
    call.partial_interval = Duration::from_millis(500);
    call.says("for");
    call.speak(700);
    call.settle();
    call.says("four two");
    call.speak(500);
    call.settle();
    call.says("four two seven");
    call.speak(500);
    call.settle();
    assert_eq!(call.news(), ["start", "partial for/0", "partial four two/0", "partial four two seven/2"]);
}

#[test]
fn the_voice_interrupts_the_agent_at_once_where_no_words_are_asked_for() {
    let mut call = Call::new();
    call.hear(500, 0.0);
    call.speak(600);
    assert_eq!(call.news(), ["start"], "nobody to interrupt");
    call.hear(700, 0.0);
    call.hearing.agent(Some("".into()));
    call.speak(600);
    let news = call.news();
    assert_eq!(news.iter().filter(|n| *n == "barge-in").count(), 1, "{news:?}");
}

#[test]
fn a_sign_of_listening_does_not_interrupt_and_its_final_says_so() {
    let mut call = Call::of(
        "Uh-huh.",
        settings(TurnPolicy { barge_in: BargeIn { min_words: 1, ..BargeIn::default() }, ..TurnPolicy::default() }),
    );
    call.hearing.agent(Some("let me read you all of it".into()));
    call.speak(300);
    call.settle();
    call.hear(300, 0.0);
    call.settle_until(|event| matches!(event, EarsEvent::Eager { .. }));
    call.hear(600, 0.0);
    let news = call.news();
    assert!(!news.contains(&"barge-in".into()), "{news:?}");
    assert_eq!(news.last().unwrap(), "final Uh-huh. as eager backchannel");
    call.says("wait");
    call.speak(200);
    call.settle_until(|event| matches!(event, EarsEvent::Partial { .. }));
    assert_eq!(call.news(), ["start", "partial wait/0"]);
    call.speak(200);
    call.settle_until(|event| matches!(event, EarsEvent::BargeIn { .. }));
    assert_eq!(call.news(), ["barge-in"], "heard twice");
    call.hearing.agent(None);
    call.says("okay");
    call.hear(300, 0.0);
    call.settle_until(|event| matches!(event, EarsEvent::Eager { .. }));
    call.hear(600, 0.0);
    assert_eq!(call.news().last().unwrap(), "final okay as eager", "who interrupts takes the turn");
}

#[test]
fn words_that_were_cut_off_are_told_to_the_recogniser_with_the_next_ones() {
    let mut call = Call::of(
        "one two three",
        settings(TurnPolicy { max_utterance: TurnPolicy::SHORTEST_UTTERANCE, ..TurnPolicy::default() }),
    );
    call.hearing.set(CallSettings {
        hints: Hints { prompt: "Marvin".into(), language: None },
        ..call.hearing.settings.clone()
    });
    call.speak(2_400);
    call.settle();
    call.speak_and_pause(400);
    call.hear(1_200, 0.0);
    call.speak_and_pause(400);
    let prompts = call.recognizer.prompts.lock().unwrap().clone();
    assert_eq!(prompts, ["Marvin", "Marvin one two three", "Marvin"]);
}

#[test]
fn a_client_may_be_the_recogniser_of_a_call() {
    let pushed = CallSettings { recognition: Recognition::Pushed, ..CallSettings::default() };
    let mut call = Call::of("never asked", pushed);
    call.speak(600);
    call.push("four", false, false);
    call.push("four two", true, false);
    call.hear(300, 0.0);
    assert_eq!(call.news(), ["start", "partial four/0", "partial four two/2", "stop", "eager four two"]);
    call.hear(400, 0.0);
    assert_eq!(call.news(), ["final four two as eager"]);
    assert!(call.recognizer.prompts.lock().unwrap().is_empty());
}

#[test]
fn pushed_text_that_comes_after_the_turns_end_is_waited_for_and_not_for_ever() {
    let pushed = CallSettings { recognition: Recognition::Pushed, ..CallSettings::default() };
    let mut call = Call::of("", pushed);
    call.speak(600);
    call.hear(700, 0.0);
    assert_eq!(call.news(), ["start", "stop"]);
    call.push("yes", true, false);
    assert_eq!(call.news(), ["final yes"]);
    call.speak(600);
    call.push("n", false, false);
    call.hear(2_480, 0.0);
    assert_eq!(call.news(), ["start", "partial n/0", "stop"]);
    call.hear(200, 0.0);
    assert_eq!(call.news(), ["final n"], "what is there is taken");
}

#[test]
fn a_client_may_say_when_the_turn_is_over_and_what_we_have_not_heard() {
    let pushed = CallSettings { recognition: Recognition::Pushed, ..CallSettings::default() };
    let mut call = Call::of("", pushed);
    call.speak(600);
    call.push("that is all", true, true);
    assert_eq!(call.news(), ["start", "partial that is all/3", "stop", "final that is all"]);
    call.hear(600, 0.0);
    call.push("whispered", true, false);
    assert_eq!(call.news(), ["final whispered"]);
    call.push("", true, true);
    call.push("half", false, false);
    assert!(call.news().is_empty());
    let mut own = Call::new();
    own.push("not asked for", true, false);
    assert!(own.news().is_empty());
}

#[test]
fn words_of_a_final_lie_within_it() {
    let mut call = Call::of("one two three", CallSettings::default());
    call.hear(400, 0.0);
    call.speak_and_pause(900);
    call.hear(1_400, 0.0);
    let Some(EarsEvent::Final { words, start, end, .. }) = call.events.back() else { panic!("{:?}", call.events) };
    assert_eq!(words.iter().map(|w| w.word.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert!(words[0].start == *start && words[2].end == *end, "{words:?} in {start:?} {end:?}");
    assert!(words.windows(2).all(|pair| pair[0].start < pair[0].end && pair[0].end <= pair[1].start), "{words:?}");
}
