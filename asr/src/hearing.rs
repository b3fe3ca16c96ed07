//! One call's hearing: samples in; events out, and jobs to the workers.
//!
//! What holds:
//!
//! - `position` counts every sample of the stream, heard or lost; all times come from it;
//! - `audio` holds what an open utterance needs, or the pre-roll of the next one, and no more than a second beyond;
//! - an utterance that was opened ends in `awaited`, and leaves it as one `Final`, in order.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    EarsEvent, MAX_FINALS_PER_STREAM, STREAM_RATE_HZ, StreamId, TurnPolicy,
    queue::{Job, JobKind, Promotion},
    text,
    transcriber::{Outcome, Transcriber},
    turn::{TurnEvent, TurnMachine, Utterance},
    vad::{Detector, FRAME, FRAME_SAMPLES, Sensitivity, VadFrame},
};

/// A gap longer than this is not filled with silence: the utterance ends and the clock jumps.
const LONGEST_FILLED_GAP: u64 = 2 * STREAM_RATE_HZ as u64;
/// When nothing comes for so long, by the wall clock, an open utterance ends: a held call has no sample clock.
const STALLED_AFTER: Duration = Duration::from_millis(1_500);
/// Audio that is not needed is dropped in pieces of a second, not at each frame.
const TRIM_SAMPLES: usize = STREAM_RATE_HZ as usize;
/// Under load partials come up to so many times less often.
const MOST_STRETCH: u32 = 4;
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
    /// The newest speculation: its audio's end, and its text once it is there.
    eager: Option<(Duration, Option<String>)>,
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
}

pub(crate) struct Hearing {
    id: StreamId,
    ring: rtrb::Consumer<f32>,
    lost: Arc<AtomicU64>,
    lost_seen: u64,
    policy: TurnPolicy,
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
        policy: &TurnPolicy,
        now: Instant,
    ) -> Self {
        Self {
            id,
            ring,
            lost,
            lost_seen: 0,
            policy: policy.clone(),
            detector: Detector::new(Sensitivity::Normal),
            turn: TurnMachine::new(policy.clone()),
            frame: [0.0; FRAME_SAMPLES],
            filled: 0,
            position: 0,
            audio: Vec::new(),
            audio_start: 0,
            spoken_for: 0,
            utterances: 0,
            open: None,
            awaited: VecDeque::new(),
            last_heard: now,
            closing: None,
            finished: false,
        }
    }

    /// Hears what the ring holds. Stops while too many finals wait: then the ring fills, and its producer counts the
    /// loss where every loss of hearing is counted.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
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
        if kind == JobKind::Eager
            && let Some(eager) = open.eager.as_mut().filter(|e| e.0 == end)
        {
            match &text {
                Some(text) => eager.1 = Some(text.clone()),
                None => open.eager = None,
            }
        }
        let Some(text) = text.filter(|t| !t.is_empty()) else { return };
        if end >= open.told_to && text != open.told {
            open.told_to = end;
            open.told.clone_from(&text);
            let start = open.start;
            cx.events.push_back(EarsEvent::Partial { stream: self.id, utterance, text, start, end });
        }
    }

    /// Takes the full frame.
    fn hear(&mut self, heard: VadFrame, cx: &mut Context<'_>) {
        let at = duration(self.position);
        self.audio.extend_from_slice(&self.frame);
        self.position += FRAME_SAMPLES as u64;
        self.filled = 0;
        self.turn.push(at, FRAME, heard);
        self.follow_turn(cx);
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
                TurnEvent::SpeechStart { at } => cx.events.push_back(EarsEvent::SpeechStart { stream, at }),
                TurnEvent::SpeechStop { at } => {
                    cx.events.push_back(EarsEvent::SpeechStop { stream, at });
                    self.speculate(at, cx);
                }
                TurnEvent::UtteranceEnd { utterance, .. } => self.end_utterance(utterance, cx),
            }
        }
    }

    fn open_utterance(&mut self, at: Duration, cx: &Context<'_>) {
        self.utterances += 1;
        let pre_roll = samples(self.policy.pre_roll);
        let audio_from = samples(at).saturating_sub(pre_roll).max(self.spoken_for).max(self.audio_start);
        self.open = Some(Open {
            number: self.utterances,
            start: at,
            audio_from,
            next_partial: at + cx.partial_interval,
            told: String::new(),
            told_to: at,
            eager: None,
        });
    }

    /// A pause: decode what there is, for it may be all.
    fn speculate(&mut self, end: Duration, cx: &Context<'_>) {
        let Some(utterance) = self.turn.utterance() else { return };
        if utterance.voiced < text::LEAST_VOICED {
            return;
        }
        if let Some(job) = self.job(JobKind::Eager, utterance) {
            cx.transcriber.submit(job);
            if let Some(open) = &mut self.open {
                open.eager = Some((end, None));
            }
        }
    }

    fn end_utterance(&mut self, utterance: Utterance, cx: &mut Context<'_>) {
        let job = self.job(JobKind::Final, utterance);
        let Some(open) = self.open.take() else { return };
        let Utterance { start, end, voiced, .. } = utterance;
        self.spoken_for = samples(end);
        let text = match open.eager.filter(|(of, _)| *of == end) {
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
        });
        self.give_out(cx);
    }

    fn partial_if_due(&mut self, cx: &Context<'_>) {
        if cx.partial_interval.is_zero() || !self.turn.is_speaking() {
            return;
        }
        let (Some(open), Some(utterance)) = (&self.open, self.turn.utterance()) else { return };
        let now = duration(self.position);
        if now < open.next_partial || utterance.voiced < text::LEAST_VOICED {
            return;
        }
        let stretch = u32::try_from(cx.transcriber.backlog()).unwrap_or(MOST_STRETCH).clamp(1, MOST_STRETCH);
        let next = now + (cx.partial_interval * stretch).max((now - open.start) / PARTIAL_SHARE);
        if let Some(job) = self.job(JobKind::Partial, utterance) {
            cx.transcriber.submit(job);
        }
        if let Some(open) = &mut self.open {
            open.next_partial = next;
        }
    }

    /// The open utterance as a job: all that was heard for a partial; else up to `eager_after` behind its end, so that
    /// the audio of an eager and of the final that may follow is the same.
    fn job(&self, kind: JobKind, utterance: Utterance) -> Option<Job> {
        let open = self.open.as_ref()?;
        let until = match kind {
            JobKind::Partial => self.position,
            JobKind::Eager | JobKind::Final => {
                self.position.min(samples(utterance.end) + samples(self.policy.eager_after))
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
            deaths: 0,
        })
    }

    /// Gives the finals out that are there, in order.
    fn give_out(&mut self, cx: &mut Context<'_>) {
        while let Some(text) = self.awaited.front_mut().and_then(|a| a.text.take()) {
            let Some(Awaited { number, start, end, waited, decided, .. }) = self.awaited.pop_front() else { return };
            let latency = waited + cx.now.saturating_duration_since(decided);
            cx.events.push_back(EarsEvent::Final { stream: self.id, utterance: number, text, start, end, latency });
        }
    }

    fn trim(&mut self) {
        let needed = match &self.open {
            Some(open) => open.audio_from,
            None => {
                self.turn.needed_from().map_or(self.position, samples).saturating_sub(samples(self.policy.pre_roll))
            }
        };
        let spare = needed.saturating_sub(self.audio_start) as usize;
        if spare >= TRIM_SAMPLES {
            self.audio.drain(..spare);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AsrError,
        listener::Input,
        recognizer::{Hypothesis, RecognizeError, Recognizer, Recognizers},
    };
    use crossbeam_channel::Receiver;
    use std::sync::atomic::AtomicBool;

    /// Hears "hello" in everything.
    struct Hello;

    impl Recognizers for Hello {
        fn create(&self) -> Result<Box<dyn Recognizer + '_>, AsrError> {
            Ok(Box::new(Hello))
        }
    }

    impl Recognizer for Hello {
        fn recognize(&mut self, _: &[f32], _: &AtomicBool) -> Result<Hypothesis, RecognizeError> {
            let text = String::from("hello");
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
    }

    impl Call {
        fn new() -> Self {
            let (reports, inbox) = crossbeam_channel::unbounded();
            let transcriber = Transcriber::start(Arc::new(Hello), 1, Duration::from_secs(60), 0, reports).unwrap();
            let (ring, samples) = rtrb::RingBuffer::new(4_000);
            let lost = Arc::new(AtomicU64::new(0));
            let now = Instant::now();
            let hearing = Hearing::new(StreamId(1), samples, Arc::clone(&lost), &TurnPolicy::default(), now);
            Self { hearing, ring, lost, transcriber, inbox, now, events: VecDeque::new(), phase: 0.0 }
        }

        fn with(&mut self, act: impl FnOnce(&mut Hearing, &mut Context<'_>)) {
            let mut cx = Context {
                now: self.now,
                transcriber: &self.transcriber,
                partial_interval: Duration::ZERO,
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
            let input = self.inbox.recv_timeout(Duration::from_secs(60)).unwrap();
            if let Input::Outcome(outcome) = input {
                self.with(|hearing, cx| hearing.on_outcome(outcome, cx));
            }
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
}
