//! Which utterance is recognised next: the jobs of all streams by priority. Pure; the workers' lock is around it.
//!
//! What holds:
//!
//! - final before eager before the words of a barge-in before partial; within a class the stream that was served longest ago comes first, so one
//!   talkative call can't hold up the others;
//! - a stream has at most one job running, so its results come in order;
//! - a stream has at most one partial and one eager waiting (the newest), and its finals are never dropped.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{StreamId, recognizer::Hints};

/// How much a job matters. Ordered: greater is sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// The text of an utterance that goes on.
    Partial,
    /// The same, on which it depends whether the agent is interrupted.
    Confirm,
    /// The text at a short pause; the final if nothing follows.
    Eager,
    /// The text of a finished utterance.
    Final,
}

impl JobKind {
    /// Whether it is of an utterance that goes on: such jobs may be dropped.
    pub fn is_partial(self) -> bool {
        self <= Self::Confirm
    }
}

/// An utterance, or what there is of it, to be recognised.
#[derive(Debug, Clone)]
pub struct Job {
    /// Whose.
    pub stream: StreamId,
    /// Which utterance of the stream.
    pub utterance: u32,
    /// What for.
    pub kind: JobKind,
    /// 8 kHz samples, with pre-roll.
    pub samples: Arc<[f32]>,
    /// Up to where speech was heard. Together with `utterance` this names the audio.
    pub end: Duration,
    /// Voiced time in it.
    pub voiced: Duration,
    /// The loudest voiced frame, in dB of full scale.
    pub peak_db: f32,
    /// What the recogniser is told of the call.
    pub hints: Arc<Hints>,
    /// When it was asked for.
    pub asked: Instant,
    /// Workers that have died over it.
    pub deaths: u32,
}

/// What is running for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    kind: JobKind,
    utterance: u32,
    end: Duration,
}

#[derive(Debug, Default)]
struct StreamJobs {
    finals: VecDeque<Job>,
    eager: Option<Job>,
    partial: Option<Job>,
    running: Option<Running>,
    /// When it was last served, on the queue's own count.
    served: u64,
}

impl StreamJobs {
    fn best(&self) -> Option<JobKind> {
        if self.running.is_some() {
            None
        } else if !self.finals.is_empty() {
            Some(JobKind::Final)
        } else if self.eager.is_some() {
            Some(JobKind::Eager)
        } else {
            self.partial.as_ref().map(|p| p.kind)
        }
    }

    fn waiting(&self) -> usize {
        self.finals.len() + usize::from(self.eager.is_some()) + usize::from(self.partial.is_some())
    }

    fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.running.is_none()
    }
}

/// What became of the job that [`JobQueue::promote`] looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// It waits or runs, now as a final.
    Promoted,
    /// There is no such job: it is done, or was dropped.
    NotThere,
}

/// The jobs of all streams.
#[derive(Debug, Default)]
pub struct JobQueue {
    streams: BTreeMap<StreamId, StreamJobs>,
    clock: u64,
    dropped_partials: u64,
}

impl JobQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job; what it makes superfluous is dropped.
    pub fn push(&mut self, mut job: Job) {
        let utterance = job.utterance;
        let stream = self.stream(job.stream);
        let dropped = match job.kind {
            JobKind::Partial | JobKind::Confirm => {
                // the newer audio, and whatever the older one was wanted for
                let older = stream.partial.take();
                job.kind = older.as_ref().map_or(job.kind, |older| older.kind.max(job.kind));
                stream.partial = Some(job);
                usize::from(older.is_some())
            }
            JobKind::Eager => {
                stream.eager = Some(job);
                usize::from(stream.partial.take().is_some())
            }
            JobKind::Final => {
                let dropped = stream.drop_speculation(utterance);
                stream.finals.push_back(job);
                dropped
            }
        };
        self.dropped_partials += dropped as u64;
    }

    /// Drops the partials that wait; the words of a barge-in stay.
    pub fn drop_partials(&mut self) {
        for stream in self.streams.values_mut() {
            self.dropped_partials += u64::from(stream.partial.take_if(|p| p.kind == JobKind::Partial).is_some());
        }
        self.streams.retain(|_, stream| !stream.is_empty());
    }

    /// Partials that were dropped since the start because something newer made them superfluous.
    pub fn dropped_partials(&self) -> u64 {
        self.dropped_partials
    }

    /// When the final or eager that has been waiting longest was asked for.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.streams.values().flat_map(|s| s.finals.iter().chain(&s.eager)).map(|job| job.asked).min()
    }

    /// Puts a job back whose worker died: it comes first again, unless something newer has replaced it.
    pub fn push_again(&mut self, job: Job) {
        let stream = self.stream(job.stream);
        match job.kind {
            JobKind::Partial | JobKind::Confirm => {}
            JobKind::Eager => {
                stream.eager.get_or_insert(job);
            }
            JobKind::Final => stream.finals.push_front(job),
        }
    }

    /// Takes the job that comes next and is of at least this kind. Its stream gives no other until
    /// [`finish`](Self::finish).
    pub fn pop(&mut self, least: JobKind) -> Option<Job> {
        let (_, _, id) = self
            .streams
            .iter()
            .filter_map(|(id, s)| Some((s.best()?, std::cmp::Reverse(s.served), *id)))
            .filter(|(kind, ..)| *kind >= least)
            .max_by_key(|&(kind, served, id)| (kind, served, std::cmp::Reverse(id)))?;
        let stream = self.streams.get_mut(&id)?;
        let job = stream.finals.pop_front().or_else(|| stream.eager.take()).or_else(|| stream.partial.take())?;
        self.clock += 1;
        stream.served = self.clock;
        stream.running = Some(Running { kind: job.kind, utterance: job.utterance, end: job.end });
        Some(job)
    }

    /// A stream's job is over; gives the kind that it had become.
    pub fn finish(&mut self, id: StreamId) -> Option<JobKind> {
        let stream = self.streams.get_mut(&id)?;
        let kind = stream.running.take().map(|r| r.kind);
        if stream.is_empty() {
            // keeps the map from growing call by call
            self.streams.remove(&id);
        }
        kind
    }

    /// Makes the eager job of this audio a final.
    pub fn promote(&mut self, id: StreamId, utterance: u32, end: Duration) -> Promotion {
        let Some(stream) = self.streams.get_mut(&id) else { return Promotion::NotThere };
        if let Some(running) = &mut stream.running
            && (running.kind, running.utterance, running.end) == (JobKind::Eager, utterance, end)
        {
            running.kind = JobKind::Final;
            stream.drop_speculation(utterance);
            return Promotion::Promoted;
        }
        match stream.eager.take_if(|e| e.utterance == utterance && e.end == end) {
            Some(mut job) => {
                job.kind = JobKind::Final;
                stream.drop_speculation(utterance);
                stream.finals.push_back(job);
                Promotion::Promoted
            }
            None => Promotion::NotThere,
        }
    }

    /// What a stream's running job is, as far as it is known here.
    pub fn running(&self, id: StreamId) -> Option<(JobKind, u32)> {
        self.streams.get(&id)?.running.map(|r| (r.kind, r.utterance))
    }

    /// Whether a job of this kind could be taken now.
    pub fn is_ready(&self, kind: JobKind) -> bool {
        self.streams.values().any(|s| s.best() == Some(kind))
    }

    /// The stream's jobs. A stream that had none queues up behind all that have: were it as if never served, one that
    /// asks again and again would always be first.
    fn stream(&mut self, id: StreamId) -> &mut StreamJobs {
        self.streams.entry(id).or_insert_with(|| {
            self.clock += 1;
            StreamJobs { served: self.clock, ..StreamJobs::default() }
        })
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.streams.values().map(StreamJobs::waiting).sum()
    }
}

impl StreamJobs {
    /// Drops what waits for utterances that are over; says how many of it were partials.
    fn drop_speculation(&mut self, finished: u32) -> usize {
        self.eager.take_if(|e| e.utterance <= finished);
        usize::from(self.partial.take_if(|p| p.utterance <= finished).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(stream: u32, utterance: u32, kind: JobKind, end_ms: u64) -> Job {
        Job {
            stream: StreamId(stream),
            utterance,
            kind,
            samples: Arc::from([]),
            end: Duration::from_millis(end_ms),
            voiced: Duration::ZERO,
            peak_db: 0.0,
            hints: Arc::default(),
            asked: Instant::now(),
            deaths: 0,
        }
    }

    fn served(queue: &mut JobQueue) -> Vec<(u32, u32, JobKind)> {
        let mut order = Vec::new();
        while let Some(job) = queue.pop(Partial) {
            queue.finish(job.stream);
            order.push((job.stream.0, job.utterance, job.kind));
        }
        order
    }

    use JobKind::{Confirm, Eager, Final, Partial};

    #[test]
    fn the_words_of_a_barge_in_come_before_other_calls_partials_and_after_eagers() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Partial, 1));
        queue.push(job(2, 1, Confirm, 1));
        queue.push(job(2, 1, Partial, 2));
        queue.push(job(3, 1, Eager, 1));
        assert_eq!(served(&mut queue), [(3, 1, Eager), (2, 1, Confirm), (1, 1, Partial)]);
        assert_eq!(queue.dropped_partials(), 1, "the older one, whose wish the newer one has taken over");
    }

    #[test]
    fn under_load_the_partials_that_wait_are_dropped_and_nothing_else() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Partial, 1));
        queue.push(job(2, 1, Confirm, 1));
        queue.push(job(3, 1, Final, 1));
        queue.drop_partials();
        assert_eq!(served(&mut queue), [(3, 1, Final), (2, 1, Confirm)]);
        assert_eq!(queue.dropped_partials(), 1);
    }

    #[test]
    fn a_worker_that_is_kept_for_finals_takes_no_partial() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Partial, 1));
        assert!(queue.pop(Eager).is_none());
        queue.push(job(2, 1, Eager, 1));
        assert_eq!(queue.pop(Eager).unwrap().stream, StreamId(2));
    }

    #[test]
    fn finals_come_before_eagers_before_partials() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Partial, 1));
        queue.push(job(2, 1, Eager, 1));
        queue.push(job(3, 1, Final, 1));
        assert_eq!(served(&mut queue), [(3, 1, Final), (2, 1, Eager), (1, 1, Partial)]);
    }

    #[test]
    fn a_streams_newest_partial_is_the_only_one() {
        let mut queue = JobQueue::new();
        for end in 0..100 {
            queue.push(job(1, 1, Partial, end));
        }
        assert_eq!(queue.waiting(), 1);
        assert_eq!(queue.pop(Partial).unwrap().end, Duration::from_millis(99));
    }

    #[test]
    fn a_final_drops_what_waits_for_its_utterance_but_not_for_the_next() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Eager, 1));
        queue.push(job(1, 2, Partial, 1));
        queue.push(job(1, 1, Final, 2));
        assert_eq!(served(&mut queue), [(1, 1, Final), (1, 2, Partial)]);
    }

    #[test]
    fn finals_are_never_dropped_and_stay_in_order() {
        let mut queue = JobQueue::new();
        for utterance in 0..500 {
            queue.push(job(1, utterance, Final, 1));
            queue.push(job(1, utterance + 1, Partial, 1));
        }
        let finals: Vec<_> = served(&mut queue).into_iter().filter(|j| j.2 == Final).map(|j| j.1).collect();
        assert_eq!(finals, (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn a_talkative_stream_does_not_hold_up_the_others() {
        let mut queue = JobQueue::new();
        for utterance in 0..10 {
            queue.push(job(1, utterance, Final, 1));
        }
        queue.push(job(2, 0, Final, 1));
        queue.push(job(3, 0, Final, 1));
        let order: Vec<_> = served(&mut queue).into_iter().map(|j| j.0).collect();
        assert_eq!(order[..4], [1, 2, 3, 1]);
    }

    #[test]
    fn a_stream_that_asks_again_and_again_does_not_starve_the_others() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Partial, 1));
        queue.push(job(2, 1, Partial, 1));
        let mut order = Vec::new();
        for end in 2..6 {
            let next = queue.pop(Partial).unwrap();
            queue.finish(next.stream);
            order.push(next.stream.0);
            queue.push(job(next.stream.0, 1, Partial, end));
        }
        assert_eq!(order, [1, 2, 1, 2]);
    }

    #[test]
    fn a_stream_has_one_job_running_at_a_time() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Final, 1));
        queue.push(job(1, 2, Final, 1));
        assert!(queue.pop(Partial).is_some());
        assert!(queue.pop(Partial).is_none());
        queue.finish(StreamId(1));
        assert_eq!(queue.pop(Partial).unwrap().utterance, 2);
    }

    #[test]
    fn an_eager_becomes_the_final_whether_it_waits_or_runs() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Eager, 400));
        queue.push(job(2, 1, Final, 1));
        assert_eq!(queue.promote(StreamId(1), 1, Duration::from_millis(400)), Promotion::Promoted);
        assert!(served(&mut queue).contains(&(1, 1, Final)));

        queue.push(job(1, 2, Eager, 900));
        queue.pop(Partial).unwrap();
        assert_eq!(queue.promote(StreamId(1), 2, Duration::from_millis(900)), Promotion::Promoted);
        assert_eq!(queue.finish(StreamId(1)), Some(Final));
    }

    #[test]
    fn an_eager_of_other_audio_is_not_the_final() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Eager, 400));
        assert_eq!(queue.promote(StreamId(1), 1, Duration::from_millis(800)), Promotion::NotThere);
        assert_eq!(queue.promote(StreamId(2), 1, Duration::from_millis(400)), Promotion::NotThere);
    }

    #[test]
    fn a_job_whose_worker_died_comes_first_again() {
        let mut queue = JobQueue::new();
        queue.push(job(1, 1, Final, 1));
        queue.push(job(1, 2, Final, 1));
        let first = queue.pop(Partial).unwrap();
        queue.finish(first.stream);
        queue.push_again(first);
        let order: Vec<_> = served(&mut queue).into_iter().map(|j| j.1).collect();
        assert_eq!(order, [1, 2]);
    }

    #[test]
    fn streams_that_are_done_leave_nothing_behind() {
        let mut queue = JobQueue::new();
        for stream in 0..1_000 {
            queue.push(job(stream, 1, Final, 1));
        }
        served(&mut queue);
        assert!(queue.streams.is_empty());
    }
}
