//! The recogniser's workers: threads that take jobs from the [`JobQueue`] and report to the listener.
//!
//! What holds:
//!
//! - every final and every eager job is answered by one [`Outcome`], unless a newer job made an eager superfluous;
//!   partials may vanish;
//! - a worker that panics gets a new recogniser and the job once more; a second death gives the job up (empty text);
//! - a worker that does not come back is abandoned and replaced; it blocked one stream, not the others;
//! - a running partial is aborted when a final waits and no worker is free, or when its own stream has better to do;
//! - of several workers one never takes partials, and under load ([`LoadLevel`]) none does.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;

use crate::{
    AsrError, EarsLoad, LoadLevel, RestartCause, StreamId,
    listener::Input,
    load::LoadMeter,
    queue::{Job, JobKind, JobQueue, Promotion},
    recognizer::{Hypothesis, RecognizeError, Recognizer, Recognizers},
    resample::Upsampler,
    text::{self, Evidence},
};

/// Environment variable: so many jobs panic on purpose.
const PANIC_VARIABLE: &str = "MR_SIP_TEST_WHISPER_PANIC";
/// A job is given up when so many workers have died over it.
const MOST_DEATHS: u32 = 2;
/// How long [`Transcriber::stop`] waits for the workers; whisper.cpp looks at the abort flag between tokens.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Niceness of the workers: the phone and the listener go first, three to one, and other programs do not starve them.
const WORKER_NICENESS: i32 = 5;

/// A job's end.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stream: StreamId,
    pub(crate) utterance: u32,
    pub(crate) kind: JobKind,
    /// The job's own `end`, which names its audio.
    pub(crate) end: Duration,
    /// The believed text, empty if there is none; `Err` if the job was given up.
    pub(crate) text: Result<String, GivenUp>,
}

/// The job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GivenUp;

/// The threads and their queue.
pub(crate) struct Transcriber {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// A job has come, or it is time to stop.
    work: Condvar,
    /// A worker has gone.
    gone: Condvar,
    recognizers: Arc<dyn Recognizers>,
    /// Never full for long: it holds no more than the jobs that the listener itself has handed in.
    reports: Sender<Input>,
    /// Jobs that shall panic, for tests.
    panics: AtomicU32,
    stuck_after: Duration,
}

struct State {
    queue: JobQueue,
    workers: Vec<Worker>,
    alive: usize,
    stopping: bool,
    meter: LoadMeter,
    level: LoadLevel,
    /// Finals, eagers and partials done, and partials aborted, since the start.
    done: [u64; 3],
    aborted: u64,
}

/// A worker's place; the thread in it may be replaced.
#[derive(Default)]
struct Worker {
    /// Raised when the thread is abandoned: what it brings back later is not wanted.
    epoch: u64,
    running: Option<Running>,
    thread: Option<JoinHandle<()>>,
}

struct Running {
    job: Job,
    since: Instant,
    abort: Arc<AtomicBool>,
}

impl std::fmt::Debug for Transcriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transcriber").finish_non_exhaustive()
    }
}

impl Transcriber {
    /// Starts `workers` threads (at least one).
    pub(crate) fn start(
        recognizers: Arc<dyn Recognizers>,
        workers: usize,
        stuck_after: Duration,
        test_panics: u32,
        reports: Sender<Input>,
    ) -> Result<Self, AsrError> {
        let panics = std::env::var(PANIC_VARIABLE).ok().and_then(|v| v.trim().parse().ok()).unwrap_or(test_panics);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: JobQueue::new(),
                workers: Vec::new(),
                alive: 0,
                stopping: false,
                meter: LoadMeter::new(workers.max(1), Instant::now()),
                level: LoadLevel::Free,
                done: [0; 3],
                aborted: 0,
            }),
            work: Condvar::new(),
            gone: Condvar::new(),
            recognizers,
            reports,
            panics: AtomicU32::new(panics),
            stuck_after,
        });
        let transcriber = Self { shared };
        for slot in 0..workers.max(1) {
            transcriber.shared.lock().workers.push(Worker::default());
            if let Err(error) = spawn(&transcriber.shared, slot, 0) {
                transcriber.stop();
                return Err(error);
            }
        }
        Ok(transcriber)
    }

    /// Hands a job in, and aborts partials that are in its way.
    pub(crate) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        let (stream, utterance, kind) = (job.stream, job.utterance, job.kind);
        state.queue.push(job);
        state.make_way(stream, utterance, kind);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Makes the eager job of this audio, if it waits or runs, the final.
    pub(crate) fn promote(&self, stream: StreamId, utterance: u32, end: Duration) -> Promotion {
        let mut state = self.shared.lock();
        let promotion = state.queue.promote(stream, utterance, end);
        if promotion == Promotion::Promoted {
            state.make_way(stream, utterance, JobKind::Final);
        }
        promotion
    }

    /// Waiting jobs a worker: how far behind the workers are.
    pub(crate) fn backlog(&self) -> usize {
        let state = self.shared.lock();
        state.queue.waiting() / state.workers.len().max(1)
    }

    /// Whether partials are worth asking for.
    pub(crate) fn takes_partials(&self) -> bool {
        self.shared.lock().level == LoadLevel::Free
    }

    /// How far behind the workers are, and what they can still take. Call it often: it is what drops partials.
    pub(crate) fn measure(&self, now: Instant) -> EarsLoad {
        let mut state = self.shared.lock();
        let longest_wait = state.queue.waiting_since().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let level = state.meter.level(now, longest_wait);
        if level != state.level {
            log::info!("speech recognition: {level} (was {})", state.level);
            state.level = level;
        }
        if level > LoadLevel::Free {
            state.queue.drop_partials();
        }
        EarsLoad {
            level,
            workers: state.workers.len(),
            busy: state.meter.busy(),
            waiting: state.queue.waiting(),
            longest_wait,
            done: state.done,
            dropped: state.aborted + state.queue.dropped_partials(),
        }
    }

    /// Replaces workers that have not come back.
    pub(crate) fn check_stuck(&self, now: Instant) {
        let mut state = self.shared.lock();
        for slot in 0..state.workers.len() {
            let worker = &mut state.workers[slot];
            let overdue = worker.running.take_if(|r| now.saturating_duration_since(r.since) >= self.shared.stuck_after);
            let Some(running) = overdue else { continue };
            worker.epoch += 1;
            let epoch = worker.epoch;
            running.abort.store(true, Ordering::Relaxed);
            log::warn!("speech worker {slot} has not come back from {}; replaced", running.job.stream);
            state.alive -= 1;
            let stream = running.job.stream;
            if !running.job.kind.is_partial() {
                state.meter.end(now);
            }
            state.bury(running.job, &self.shared.reports);
            let _ = self.shared.reports.send(Input::Restarted { worker: slot, stream, cause: RestartCause::Stuck });
            drop(state);
            if let Err(error) = spawn(&self.shared, slot, epoch) {
                log::error!("{error}");
            }
            state = self.shared.lock();
        }
    }

    /// Aborts what runs and waits, within reason, for the workers to go.
    pub(crate) fn stop(&self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        for running in state.workers.iter().filter_map(|w| w.running.as_ref()) {
            running.abort.store(true, Ordering::Relaxed);
        }
        self.shared.work.notify_all();
        let (mut state, _) = self
            .shared
            .gone
            .wait_timeout_while(state, STOP_PATIENCE, |s| s.alive > 0)
            .unwrap_or_else(PoisonError::into_inner);
        if state.alive > 0 {
            log::warn!("{} speech workers did not stop in time", state.alive);
            return;
        }
        let threads: Vec<_> = state.workers.iter_mut().filter_map(|w| w.thread.take()).collect();
        drop(state);
        for thread in threads {
            // at its last instruction; it has told of its panics itself
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The state is consistent between statements, and the panics that matter happen outside the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Aborts running jobs that keep the new one waiting for nothing.
    fn make_way(&mut self, stream: StreamId, utterance: u32, kind: JobKind) {
        // its own stream's: a partial, or the eager of an audio that has gone on since
        for running in self.workers.iter().filter_map(|w| w.running.as_ref()).filter(|r| r.job.stream == stream) {
            let superseded = match self.queue.running(stream) {
                // the words so far are wanted, and come; an end says more
                Some((JobKind::Partial | JobKind::Confirm, _)) => kind > JobKind::Confirm,
                Some((JobKind::Eager, of)) => kind >= JobKind::Eager && of == utterance,
                Some((JobKind::Final, _)) | None => false,
            };
            if superseded {
                running.abort.store(true, Ordering::Relaxed);
            }
        }
        // another stream's partial, the longest running, when a final finds no free worker
        let free = self.workers.iter().any(|w| w.running.is_none());
        if kind == JobKind::Final && !free && self.queue.is_ready(JobKind::Final) {
            let partial = self
                .workers
                .iter()
                .filter_map(|w| w.running.as_ref())
                .filter(|r| r.job.kind.is_partial() && !r.abort.load(Ordering::Relaxed))
                .min_by_key(|r| r.since);
            if let Some(running) = partial {
                running.abort.store(true, Ordering::Relaxed);
            }
        }
    }

    /// A job's end, for the load.
    fn count(&mut self, kind: JobKind, aborted: bool) {
        let place = match kind {
            JobKind::Final => 0,
            JobKind::Eager => 1,
            JobKind::Confirm | JobKind::Partial => 2,
        };
        if place < 2 {
            self.meter.end(Instant::now());
        }
        if !aborted {
            self.done[place] += 1;
        } else if place == 2 {
            self.aborted += 1;
        }
    }

    /// The least kind of job that a worker may take now: one of several is kept free of partials.
    fn least_kind(&self) -> JobKind {
        let partials =
            self.workers.iter().filter_map(|w| w.running.as_ref()).filter(|r| r.job.kind.is_partial()).count();
        let crowded = self.workers.len() > 1 && partials + 1 >= self.workers.len();
        match self.level {
            _ if crowded => JobKind::Eager,
            LoadLevel::Free => JobKind::Partial,
            _ => JobKind::Confirm,
        }
    }

    /// A worker has died over this job: once more, or never again.
    fn bury(&mut self, mut job: Job, reports: &Sender<Input>) {
        job.kind = self.queue.finish(job.stream).unwrap_or(job.kind);
        job.deaths += 1;
        match job.kind {
            // the next one is on its way
            JobKind::Partial | JobKind::Confirm => {}
            _ if job.deaths < MOST_DEATHS => self.queue.push_again(job),
            _ => {
                let _ = reports.send(Input::Outcome(job.outcome(Err(GivenUp))));
            }
        }
    }
}

impl Job {
    fn outcome(&self, text: Result<String, GivenUp>) -> Outcome {
        Outcome { stream: self.stream, utterance: self.utterance, kind: self.kind, end: self.end, text }
    }
}

fn spawn(shared: &Arc<Shared>, slot: usize, epoch: u64) -> Result<(), AsrError> {
    let name = format!("whisper-{slot}");
    shared.lock().alive += 1;
    let theirs = Arc::clone(shared);
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
        work(&theirs, slot, epoch);
        let mut state = theirs.lock();
        if state.workers[slot].epoch == epoch {
            state.alive -= 1;
            theirs.gone.notify_all();
        }
    });
    let mut state = shared.lock();
    match spawned {
        Ok(thread) => {
            state.workers[slot].thread = Some(thread);
            Ok(())
        }
        Err(source) => {
            state.alive -= 1;
            Err(AsrError::Thread { name, source })
        }
    }
}

/// A worker's life.
fn work(shared: &Shared, slot: usize, epoch: u64) {
    lower_priority();
    let mut bench = Bench::default();
    // made before the first job, so that it does not wait for it
    bench.ready(&*shared.recognizers);
    while let Some((job, abort)) = next_job(shared, slot, epoch) {
        let inject = shared.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        let done = catch_unwind(AssertUnwindSafe(|| {
            assert!(!inject, "injected for a test");
            bench.run(&*shared.recognizers, &job, &abort, &shared.reports)
        }));

        let mut state = shared.lock();
        if state.workers[slot].epoch != epoch {
            return;
        }
        state.workers[slot].running = None;
        state.count(job.kind, matches!(done, Ok(None)));
        match done {
            Ok(text) => {
                // the report is on its way before the queue forgets the job: who finds it gone finds the report
                let kind = state.queue.running(job.stream).map_or(job.kind, |(kind, _)| kind);
                if let Some(text) = text {
                    let _ = shared.reports.send(Input::Outcome(Outcome { kind, ..job.outcome(text) }));
                }
                state.queue.finish(job.stream);
            }
            Err(panic) => {
                let message = panic_message(&*panic);
                log::error!("speech worker {slot} panicked over {}: {message}", job.stream);
                bench = Bench::default();
                let stream = job.stream;
                state.bury(job, &shared.reports);
                let cause = RestartCause::Panicked(message);
                let _ = shared.reports.send(Input::Restarted { worker: slot, stream, cause });
            }
        }
        drop(state);
        // the stream that was busy may have more, and this worker is not the only one that could take it
        shared.work.notify_one();
    }
}

/// Waits for a job and marks it as running; `None` when it is time to go.
fn next_job(shared: &Shared, slot: usize, epoch: u64) -> Option<(Job, Arc<AtomicBool>)> {
    let mut state = shared.lock();
    loop {
        if state.stopping || state.workers[slot].epoch != epoch {
            return None;
        }
        let least = state.least_kind();
        if let Some(job) = state.queue.pop(least) {
            if !job.kind.is_partial() {
                state.meter.begin(Instant::now());
            }
            let abort = Arc::new(AtomicBool::new(false));
            state.workers[slot].running =
                Some(Running { job: job.clone(), since: Instant::now(), abort: Arc::clone(&abort) });
            return Some((job, abort));
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What a worker works with.
#[derive(Default)]
struct Bench<'a> {
    recognizer: Option<Box<dyn Recognizer + 'a>>,
    upsampler: Option<Upsampler>,
    samples: Vec<f32>,
}

impl<'a> Bench<'a> {
    fn ready(&mut self, recognizers: &'a dyn Recognizers) -> Option<&mut (dyn Recognizer + 'a)> {
        if self.recognizer.is_none() {
            match recognizers.create() {
                Ok(recognizer) => self.recognizer = Some(recognizer),
                Err(error) => log::error!("{error}"),
            }
        }
        if self.upsampler.is_none() {
            match Upsampler::new() {
                Ok(upsampler) => self.upsampler = Some(upsampler),
                Err(error) => log::error!("{error}"),
            }
        }
        self.recognizer.as_deref_mut()
    }

    /// The job's text; `None` when it was aborted.
    fn run(
        &mut self,
        recognizers: &'a dyn Recognizers,
        job: &Job,
        abort: &AtomicBool,
        reports: &Sender<Input>,
    ) -> Option<Result<String, GivenUp>> {
        if self.ready(recognizers).is_none() {
            return Some(Err(GivenUp));
        }
        let (Some(recognizer), Some(upsampler)) = (&mut self.recognizer, &mut self.upsampler) else {
            return Some(Err(GivenUp));
        };
        upsampler.process(&job.samples, &mut self.samples);
        match recognizer.recognize(&self.samples, &job.hints, abort) {
            Ok(hypothesis) => Some(Ok(believed(job, &hypothesis))),
            Err(RecognizeError::Aborted) => None,
            Err(RecognizeError::Failed(reason)) => {
                log::warn!("recogniser failed on {} utterance {}: {reason}", job.stream, job.utterance);
                // partials may vanish
                if !job.kind.is_partial() {
                    let _ = reports.send(Input::Failed { stream: job.stream, reason });
                }
                Some(Err(GivenUp))
            }
        }
    }
}

/// The text if it is believed, else none.
fn believed(job: &Job, hypothesis: &Hypothesis) -> String {
    text::judge(hypothesis, Evidence { voiced: job.voiced, peak_db: job.peak_db }).unwrap_or_else(|doubt| {
        log::debug!("{} utterance {}: {doubt:?}: {hypothesis:?}", job.stream, job.utterance);
        String::new()
    })
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

fn lower_priority() {
    // SAFETY: a plain system call without pointers; on Linux `who` 0 is the calling thread. That it may fail is fine.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, WORKER_NICENESS) };
}
