//! The thread that reads files for all players.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Filler, WavSource};
use crate::codec::to_i16;

/// How often rings are filled up: a fortieth of what they hold.
const INTERVAL: Duration = Duration::from_millis(50);

/// A file and the player that it is for.
#[derive(Debug)]
struct Job {
    source: WavSource,
    filler: Filler,
    /// What was decoded and found no room.
    pending: Vec<i16>,
    /// How much of it was pushed.
    pushed: usize,
}

/// Where files are handed over to the feeder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FeederJobs(Sender<Job>);

impl FeederJobs {
    /// Feeds a player from a file until either is over.
    pub fn feed(&self, source: WavSource, filler: Filler) {
        let feed = filler.feed.clone();
        let job = Job { source, filler, pending: Vec::new(), pushed: 0 };
        if self.0.send(job).is_err() {
            feed.end(true); // the engine is going down
        }
    }
}

/// The thread.
#[derive(Debug)]
pub struct Feeder {
    jobs: Option<FeederJobs>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start() -> io::Result<Self> {
        let (jobs, new_jobs) = channel();
        let thread = thread::Builder::new().name("player".to_owned()).spawn(move || run(&new_jobs))?;
        Ok(Self { jobs: Some(FeederJobs(jobs)), thread: Some(thread) })
    }

    /// Where files are handed over.
    #[must_use]
    pub fn jobs(&self) -> Option<FeederJobs> {
        self.jobs.clone()
    }
}

impl Drop for Feeder {
    /// Lets the thread end when the last of [`FeederJobs`] is gone; it is not waited for, for a disk may be stuck.
    fn drop(&mut self) {
        self.jobs = None;
        drop(self.thread.take());
    }
}

fn run(new_jobs: &Receiver<Job>) {
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        let job = if jobs.is_empty() {
            new_jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            new_jobs.recv_timeout(INTERVAL)
        };
        match job {
            Ok(job) => jobs.push(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                jobs.iter().for_each(|job| job.filler.feed.end(true));
                return;
            }
        }
        jobs.retain_mut(Job::fill);
    }
}

impl Job {
    /// Fills the ring up; false: there is nothing more to do.
    fn fill(&mut self) -> bool {
        let Self { source, filler, pending, pushed } = self;
        if filler.samples.is_abandoned() {
            return false;
        }
        loop {
            let (_, rest) = filler.samples.push_partial_slice(&pending[*pushed..]);
            *pushed = pending.len() - rest.len();
            if *pushed < pending.len() {
                return true;
            }
            pending.clear();
            *pushed = 0;
            match source.read(|samples| pending.extend(samples.iter().map(|&sample| to_i16(sample)))) {
                Ok(true) => {}
                Ok(false) => {
                    filler.feed.end(false);
                    return false;
                }
                Err(error) => {
                    log::warn!("a file that was being played cannot be read any further: {error}");
                    filler.feed.end(true);
                    return false;
                }
            }
        }
    }
}
