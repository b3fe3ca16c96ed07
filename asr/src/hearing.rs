//! One call's hearing: samples in; events out, and jobs to the workers.
//!
//! What holds:
//!
//! - `position` counts every sample of the stream, heard or lost; all times come from it;
//! - `audio` holds what an open utterance needs, or the pre-roll of the next one, and no more than a second beyond;
//! - an utterance that was opened ends in `awaited`, and leaves it as one `Final`, in order.

mod push;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    EarsEvent, MAX_FINALS_PER_STREAM, STREAM_RATE_HZ, StreamId,
    interruption::{Interruption, Step},
    phrase,
    policy::{CallSettings, Recognition},
    pushed::Assembly,
    queue::{Job, JobKind, Promotion},
    recognizer::Hints,
    text,
    transcriber::{Outcome, Transcriber},
    turn::{EndReason, TurnEvent, TurnMachine, Utterance},
    vad::{Detector, DetectorKind, FRAME, FRAME_SAMPLES, VadFrame},
    words::{Agreement, Voiced},
};

/// A gap longer than this is not filled with silence: the utterance ends and the clock jumps.
const LONGEST_FILLED_GAP: u64 = 2 * STREAM_RATE_HZ as u64;
/// When nothing comes for so long, by the wall clock, an open utterance ends: a held call has no sample clock.
const STALLED_AFTER: Duration = Duration::from_millis(1_500);
/// Audio that is not needed is dropped in pieces of a second, not at each frame.
const TRIM_SAMPLES: usize = STREAM_RATE_HZ as usize;
/// Room for audio that a stream keeps between utterances: 2 s.
const KEPT_SAMPLES: usize = 2 * TRIM_SAMPLES;
/// Under load partials come up to so many times less often.
const MOST_STRETCH: u32 = 4;
/// So many words of an utterance that was cut are told to the recogniser with the next one.
const CARRIED_WORDS: usize = 12;
/// The next partial of a long utterance waits for this share of its length: each decodes all of it.
const PARTIAL_SHARE: u32 = 8;

/// What a frame that was lost looks like.
const NOTHING_HEARD: VadFrame = VadFrame { voiced: false, level_db: -100.0 };

/// What a [`Hearing`] works with.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) transcriber: &'a Transcriber,
    pub(crate) partial_interval: Duration,
    pub(crate) events: &'a mut VecDeque<EarsEvent>,
}

/// An utterance that goes on.
#[derive(Debug)]
struct Open {
    number: u32,
    start: Duration,
    /// Position of its first sample, pre-roll included.
    audio_from: u64,
    next_partial: Duration,
    /// The newest text that was given out, and up to where it was heard.
    told: String,
    told_to: Duration,
    agreement: Agreement,
    /// The newest speculation: its audio's end, and its text once it is there.
    eager: Option<(Duration, Option<String>)>,
    /// The text that was told as eager and not taken back.
    eager_told: Option<String>,
    /// What the client's recogniser says.
    pushed: Assembly,
}

/// An utterance that is over, and its text once it is there.
#[derive(Debug)]
struct Awaited {
    number: u32,
    start: Duration,
    end: Duration,
    text: Option<String>,
    /// The silence that was waited for, by the stream's clock, and when that was over.
    waited: Duration,
    decided: Instant,
    /// It was too long, and goes on in the next one.
    cut: bool,
    eager_told: Option<String>,
    /// Said while the agent spoke, without interrupting it.
    beside_the_agent: bool,
    pushed: Assembly,
    /// When what is there of a client's text is taken for all.
    settle_by: Option<Instant>,
}

pub(crate) struct Hearing {
    id: StreamId,
    ring: rtrb::Consumer<f32>,
    lost: Arc<AtomicU64>,
    lost_seen: u64,
    settings: CallSettings,
    hints: Arc<Hints>,
    detector: Detector,
    turn: TurnMachine,
    frame: [f32; FRAME_SAMPLES],
    filled: usize,
    /// Samples of the stream before `frame`.
    position: u64,
    audio: Vec<f32>,
    /// Position of `audio[0]`.
    audio_start: u64,
    /// Up to this position the audio belongs to earlier utterances.
    spoken_for: u64,
    utterances: u32,
    open: Option<Open>,
    interruption: Interruption,
    voiced: Voiced,
    awaited: VecDeque<Awaited>,
    last_heard: Instant,
    /// Samples still to be heard before the end, once the stream is being closed.
    closing: Option<usize>,
    finished: bool,
}

impl std::fmt::Debug for Hearing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hearing").field("id", &self.id).field("position", &self.position).finish_non_exhaustive()
    }
}

impl Hearing {
    pub(crate) fn new(
        id: StreamId,
        ring: rtrb::Consumer<f32>,
        lost: Arc<AtomicU64>,
        settings: CallSettings,
        detector: DetectorKind,
        now: Instant,
    ) -> Self {
        Self {
            id,
            ring,
            lost,
            lost_seen: 0,
            detector: Detector::of(detector),
            turn: TurnMachine::new(settings.turns.clone()),
            hints: Arc::new(settings.hints.clone()),
            settings,
            frame: [0.0; FRAME_SAMPLES],
            filled: 0,
            position: 0,
            audio: Vec::new(),
            audio_start: 0,
            spoken_for: 0,
            utterances: 0,
            open: None,
            interruption: Interruption::default(),
            voiced: Voiced::default(),
            awaited: VecDeque::new(),
            last_heard: now,
            closing: None,
            finished: false,
        }
    }

    /// Hears what the ring holds. Stops while too many finals wait: then the ring fills, and its producer counts the
    /// loss where every loss of hearing is counted.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        self.settle_overdue(cx);
        if self.finished {
            return;
        }
        if self.closing.is_none() && self.ring.is_abandoned() {
            self.close();
        }
        // What is in the ring came before what found it full; a ring that was full is full until it is read here.
        let present = self.ring.slots();
        let lost = self.lost.load(Ordering::Acquire);
        let mut left = self.closing.unwrap_or(present).min(present);
        if left > 0 {
            self.last_heard = cx.now;
        }
        while left > 0 {
            if self.awaited.len() >= MAX_FINALS_PER_STREAM {
                return;
            }
            let room = left.min(FRAME_SAMPLES - self.filled);
            let (taken, _) = self.ring.pop_partial_slice(&mut self.frame[self.filled..self.filled + room]);
            let taken = taken.len();
            left -= taken;
            if let Some(closing) = &mut self.closing {
                *closing -= taken;
            }
            self.filled += taken;
            if self.filled == FRAME_SAMPLES {
                let heard = self.detector.push(&self.frame);
                self.hear(heard, cx);
            }
        }
        let gap = lost.saturating_sub(self.lost_seen);
        if gap > 0 {
            self.lost_seen = lost;
            self.skip(gap, cx);
        }
        if self.closing == Some(0) {
            self.finished = true;
            self.finish_turn(cx);
        } else if cx.now.saturating_duration_since(self.last_heard) >= STALLED_AFTER && self.open.is_some() {
            self.finish_turn(cx);
        }
    }

    /// What is in the ring now is the last of the stream.
    pub(crate) fn close(&mut self) {
        self.closing.get_or_insert(self.ring.slots());
    }

    /// Goes on by other settings, from the next frame on.
    pub(crate) fn set(&mut self, settings: CallSettings) {
        self.turn.set_policy(settings.turns.clone());
        self.hints = Arc::new(settings.hints.clone());
        self.settings = settings;
    }

    /// The agent speaks (this text, as far as it is known), or is silent.
    pub(crate) fn agent(&mut self, text: Option<Arc<str>>) {
        self.interruption.agent(text, self.turn.spell());
    }

    /// Whether everything has been heard and given out.
    pub(crate) fn is_closed(&self) -> bool {
        self.finished && self.awaited.is_empty()
    }

    /// Takes a worker's report.
    pub(crate) fn on_outcome(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        let Outcome { utterance, kind, end, text, .. } = outcome;
        if kind != JobKind::Partial
            && let Some(awaited) = self.awaited.iter_mut().find(|a| a.number == utterance && a.end == end)
        {
            // a job that was given up has been tried twice; the caller's words are lost, the call goes on
            awaited.text.get_or_insert(text.unwrap_or_default());
            self.give_out(cx);
            return;
        }
        let Some(open) = self.open.as_mut().filter(|o| o.number == utterance) else { return };
        let text = text.ok();
        let mut is_eager = false;
        if kind == JobKind::Eager
            && let Some(eager) = open.eager.as_mut().filter(|e| e.0 == end)
        {
            is_eager = text.is_some();
            match &text {
                Some(text) => eager.1 = Some(text.clone()),
                None => open.eager = None,
            }
        }
        let Some(text) = text.filter(|t| !t.is_empty()) else { return };
        if is_eager {
            self.tell_eager(text, end, cx);
        } else if end >= open.told_to {
            let (shown, confirmed) = open.agreement.push(&text);
            self.tell_partial(shown, confirmed, end, cx);
        }
    }

    /// What is understood at a pause: perhaps all.
    fn tell_eager(&mut self, text: String, end: Duration, cx: &mut Context<'_>) {
        self.look_for_words(&text, true, cx);
        let turns = &self.settings.turns;
        self.turn.set_ending(phrase::ending(&text, turns.style, turns.digits));
        let Some(open) = &mut self.open else { return };
        if open.eager_told.as_ref() == Some(&text) {
            return;
        }
        open.told_to = end;
        open.told.clone_from(&text);
        open.eager_told = Some(text.clone());
        let (utterance, start) = (open.number, open.start);
        cx.events.push_back(EarsEvent::Eager { stream: self.id, utterance, text, start, end });
    }

    fn tell_partial(&mut self, text: String, confirmed: usize, end: Duration, cx: &mut Context<'_>) {
        self.look_for_words(&text, false, cx);
        let Some(open) = self.open.as_mut().filter(|open| open.told != text) else { return };
        open.told_to = end;
        open.told.clone_from(&text);
        let (utterance, start) = (open.number, open.start);
        cx.events.push_back(EarsEvent::Partial { stream: self.id, utterance, text, confirmed, start, end });
    }

    /// Words may interrupt the agent; `sure` are those of a pause.
    fn look_for_words(&mut self, text: &str, sure: bool, cx: &mut Context<'_>) {
        if self.interruption.on_text(self.settings.turns.barge_in, text, sure) == Step::Interrupt {
            cx.events.push_back(EarsEvent::BargeIn { stream: self.id });
        }
    }

    /// Takes the full frame.
    fn hear(&mut self, heard: VadFrame, cx: &mut Context<'_>) {
        let at = duration(self.position);
        self.audio.extend_from_slice(&self.frame);
        self.position += FRAME_SAMPLES as u64;
        self.filled = 0;
        if heard.voiced {
            self.voiced.push(at, at + FRAME);
        }
        self.turn.push(at, FRAME, heard);
        self.follow_turn(cx);
        match self.interruption.on_frame(self.settings.turns.barge_in, self.turn.spell()) {
            Step::Nothing => {}
            Step::Ask => self.ask_for_words(cx),
            Step::Interrupt => cx.events.push_back(EarsEvent::BargeIn { stream: self.id }),
        }
        self.partial_if_due(cx);
        self.trim();
    }

    /// Lost samples: silence that takes its time, or a jump when it is long.
    fn skip(&mut self, gap: u64, cx: &mut Context<'_>) {
        log::debug!("{}: {gap} samples were lost", self.id);
        let mut left = gap.min(LONGEST_FILLED_GAP);
        let jump = gap - left;
        while left > 0 {
            let room = (FRAME_SAMPLES - self.filled).min(left as usize);
            self.frame[self.filled..self.filled + room].fill(0.0);
            self.filled += room;
            left -= room as u64;
            if self.filled == FRAME_SAMPLES {
                // not shown to the detector: it would take the silence for the line's background
                self.hear(NOTHING_HEARD, cx);
            }
        }
        if jump > 0 {
            self.finish_turn(cx);
            self.position += jump;
            self.audio.clear();
            self.audio_start = self.position;
        }
    }

    fn finish_turn(&mut self, cx: &mut Context<'_>) {
        self.turn.finish();
        self.follow_turn(cx);
    }

    fn follow_turn(&mut self, cx: &mut Context<'_>) {
        let stream = self.id;
        while let Some(event) = self.turn.poll_event() {
            match event {
                TurnEvent::UtteranceStart { at } => self.open_utterance(at, cx),
                TurnEvent::Onset { at } => cx.events.push_back(EarsEvent::Onset { stream, at }),
                TurnEvent::OnsetOver => cx.events.push_back(EarsEvent::OnsetOver { stream }),
                TurnEvent::SpeechStart { at } => self.on_speech_start(at, cx),
                TurnEvent::SpeechStop { at } => {
                    cx.events.push_back(EarsEvent::SpeechStop { stream, at });
                    self.speculate(at, cx);
                }
                TurnEvent::UtteranceEnd { utterance, reason } => {
                    let cut = matches!(reason, EndReason::LongEnough | EndReason::Limit);
                    self.end_utterance(utterance, cut, cx);
                }
            }
        }
    }

    fn on_speech_start(&mut self, at: Duration, cx: &mut Context<'_>) {
        let stream = self.id;
        cx.events.push_back(EarsEvent::SpeechStart { stream, at });
        let Some(open) = &mut self.open else { return };
        self.interruption.on_speech_start(at == open.start);
        if open.eager_told.take().is_some() {
            cx.events.push_back(EarsEvent::Resumed { stream, utterance: open.number, at });
        }
    }

    fn open_utterance(&mut self, at: Duration, cx: &Context<'_>) {
        self.utterances += 1;
        self.voiced.forget_before(self.awaited.front().map_or(at, |awaited| awaited.start.min(at)));
        let pre_roll = samples(self.settings.turns.pre_roll);
        let audio_from = samples(at).saturating_sub(pre_roll).max(self.spoken_for).max(self.audio_start);
        self.open = Some(Open {
            number: self.utterances,
            start: at,
            audio_from,
            next_partial: at + cx.partial_interval,
            told: String::new(),
            told_to: at,
            agreement: Agreement::default(),
            eager: None,
            eager_told: None,
            pushed: Assembly::default(),
        });
    }

    /// A pause: decode what there is, for it may be all.
    fn speculate(&mut self, end: Duration, cx: &mut Context<'_>) {
        let Some(utterance) = self.turn.utterance() else { return };
        if self.settings.recognition == Recognition::Pushed {
            if let Some(open) = self.open.as_ref().filter(|open| open.pushed.is_settled()) {
                self.tell_eager(open.pushed.text(), end, cx);
            }
            return;
        }
        if utterance.voiced < text::LEAST_VOICED {
            return;
        }
        if let Some(job) = self.job(JobKind::Eager, utterance, cx.now) {
            cx.transcriber.submit(job);
            if let Some(open) = &mut self.open {
                open.eager = Some((end, None));
            }
        }
    }

    fn end_utterance(&mut self, utterance: Utterance, cut: bool, cx: &mut Context<'_>) {
        let job = self.job(JobKind::Final, utterance, cx.now);
        let Some(open) = self.open.take() else { return };
        let Utterance { start, end, voiced, .. } = utterance;
        self.spoken_for = samples(end);
        let pushed = self.settings.recognition == Recognition::Pushed;
        let text = match open.eager.filter(|(of, _)| *of == end) {
            _ if pushed => open.pushed.is_settled().then(|| open.pushed.text()),
            _ if voiced < text::LEAST_VOICED => Some(String::new()),
            Some((_, text @ Some(_))) => text,
            // it waits, runs, or its report is on the way here
            Some((_, None)) => {
                let _: Promotion = cx.transcriber.promote(self.id, open.number, end);
                None
            }
            None => match job {
                Some(job) => {
                    cx.transcriber.submit(job);
                    None
                }
                None => Some(String::new()),
            },
        };
        self.awaited.push_back(Awaited {
            number: open.number,
            start,
            end,
            text,
            waited: duration(self.position).saturating_sub(end),
            decided: cx.now,
            cut,
            eager_told: open.eager_told,
            beside_the_agent: self.interruption.beside_the_agent(),
            pushed: open.pushed,
            settle_by: pushed.then(|| cx.now + push::PATIENCE),
        });
        if !cut {
            // what was carried over belongs to the utterance that is over
            self.hints = Arc::new(self.settings.hints.clone());
        }
        self.give_out(cx);
    }

    /// The words so far, at once: it depends on them whether the agent is interrupted.
    fn ask_for_words(&mut self, cx: &Context<'_>) {
        let built_in = self.settings.recognition == Recognition::BuiltIn;
        let Some(utterance) = self.turn.utterance().filter(|_| built_in) else { return };
        if let Some(job) = self.job(JobKind::Confirm, utterance, cx.now) {
            cx.transcriber.submit(job);
        }
    }

    fn partial_if_due(&mut self, cx: &Context<'_>) {
        let wanted = !cx.partial_interval.is_zero() && self.settings.recognition == Recognition::BuiltIn;
        if !wanted || !self.turn.is_speaking() {
            return;
        }
        let (Some(open), Some(utterance)) = (&self.open, self.turn.utterance()) else { return };
        let now = duration(self.position);
        if now < open.next_partial || utterance.voiced < text::LEAST_VOICED || !cx.transcriber.takes_partials() {
            return;
        }
        let stretch = u32::try_from(cx.transcriber.backlog()).unwrap_or(MOST_STRETCH).clamp(1, MOST_STRETCH);
        let next = now + (cx.partial_interval * stretch).max((now - open.start) / PARTIAL_SHARE);
        if let Some(job) = self.job(JobKind::Partial, utterance, cx.now) {
            cx.transcriber.submit(job);
        }
        if let Some(open) = &mut self.open {
            open.next_partial = next;
        }
    }

    /// The open utterance as a job: all that was heard for a partial; else up to `eager_after` behind its end, so that
    /// the audio of an eager and of the final that may follow is the same.
    fn job(&self, kind: JobKind, utterance: Utterance, now: Instant) -> Option<Job> {
        let open = self.open.as_ref()?;
        let until = match kind {
            JobKind::Partial | JobKind::Confirm => self.position,
            JobKind::Eager | JobKind::Final => {
                self.position.min(samples(utterance.end) + samples(self.settings.turns.eager_after))
            }
        };
        let from = (open.audio_from - self.audio_start) as usize;
        let audio = self.audio.get(from..(until.checked_sub(self.audio_start)?) as usize)?;
        Some(Job {
            stream: self.id,
            utterance: open.number,
            kind,
            samples: Arc::from(audio),
            end: utterance.end,
            voiced: utterance.voiced,
            peak_db: utterance.peak_db,
            hints: Arc::clone(&self.hints),
            asked: now,
            deaths: 0,
        })
    }

    /// Gives the finals out that are there, in order.
    fn give_out(&mut self, cx: &mut Context<'_>) {
        while let Some(text) = self.awaited.front_mut().and_then(|a| a.text.take()) {
            let Some(over) = self.awaited.pop_front() else { return };
            let Awaited { number: utterance, start, end, .. } = over;
            if over.cut && self.open.as_ref().is_some_and(|open| open.number == utterance + 1) {
                self.carry_over(&text);
            }
            cx.events.push_back(EarsEvent::Final {
                stream: self.id,
                utterance,
                as_eager: over.eager_told.as_ref() == Some(&text),
                backchannel: over.beside_the_agent && phrase::is_backchannel(&text),
                words: self.voiced.words(&text, start, end),
                text,
                start,
                end,
                latency: over.waited + cx.now.saturating_duration_since(over.decided),
            });
        }
    }

    /// Tells the recogniser of the next utterance how the one ended that it goes on from.
    fn carry_over(&mut self, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let last = words.get(words.len().saturating_sub(CARRIED_WORDS)..).unwrap_or_default().join(" ");
        let mut hints = self.settings.hints.clone();
        hints.prompt = format!("{} {last}", hints.prompt).trim().to_owned();
        self.hints = Arc::new(hints);
    }

    fn trim(&mut self) {
        let needed = match &self.open {
            Some(open) => open.audio_from,
            None => self
                .turn
                .needed_from()
                .map_or(self.position, samples)
                .saturating_sub(samples(self.settings.turns.pre_roll)),
        };
        let spare = needed.saturating_sub(self.audio_start) as usize;
        if spare >= TRIM_SAMPLES {
            self.audio.drain(..spare);
            self.audio.shrink_to(KEPT_SAMPLES); // what a long utterance took
            self.audio_start += spare as u64;
        }
    }
}

/// Where a sample lies on the stream's clock.
fn duration(position: u64) -> Duration {
    Duration::from_micros(position * (1_000_000 / u64::from(STREAM_RATE_HZ)))
}

/// The sample that lies there.
fn samples(at: Duration) -> u64 {
    at.as_micros() as u64 / (1_000_000 / u64::from(STREAM_RATE_HZ))
}
