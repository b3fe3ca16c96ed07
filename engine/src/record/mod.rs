//! Recording: a stereo WAV file a call, the caller left and the agent right, written by one thread of its own.
//!
//! The media thread pushes frames of 20 ms into a ring a call and never waits for the disk. Every frame carries its
//! number, so that what found the ring full is silence of the right length in the file. The header is brought up to date
//! every second, so that the file can be played whatever happens to the process. A disk that fails ends the recording,
//! not the call (case 41).
//!
//! A pause leaves its time out of the file. A file holds 16 hours, 1.8 GB: then the next is begun (`call-2.wav`), without
//! a sample between them lost. So the size, which WAV counts in 32 bits and some programs in 31, never wraps; RF64, which
//! would lift that limit, is read by fewer programs than there are recordings of 16 hours.

mod file;
mod tap;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rtrb::RingBuffer;

use self::file::{Recording, Wrote, in_words};
pub use self::tap::RecordTap;
use crate::event::{CallId, MediaEvent, RecordingNews, RecordingState};

/// Frames of 20 ms that can wait for the disk: 5 s.
const RING_FRAMES: usize = 250;
/// How often the rings are emptied: a tenth of what they hold.
const INTERVAL: Duration = Duration::from_millis(500);
/// Most frames of a file: 16 hours.
const FILE_FRAMES: u64 = 16 * 3_600 * 50;

/// The recorder thread.
#[derive(Debug)]
pub struct Recorder {
    jobs: Option<Sender<Recording>>,
    thread: Option<JoinHandle<()>>,
    file_frames: u64,
}

impl Recorder {
    /// Starts the thread. What it has to say comes out of the receiver.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start() -> std::io::Result<(Self, Receiver<(CallId, MediaEvent)>)> {
        Self::start_with(FILE_FRAMES)
    }

    fn start_with(file_frames: u64) -> std::io::Result<(Self, Receiver<(CallId, MediaEvent)>)> {
        let (jobs, new_jobs) = channel();
        let (events, events_out) = channel();
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(move || run(&new_jobs, &events))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread), file_frames }, events_out))
    }

    /// Starts a recording. The file is made by the recorder thread, and must not be there yet; an event says how that went.
    #[must_use]
    pub fn record(&self, call: CallId, path: PathBuf) -> Box<RecordTap> {
        let (input, output) = RingBuffer::new(RING_FRAMES);
        if let Some(jobs) = &self.jobs {
            // a recorder that is gone takes nothing: the tap finds its ring full
            let _ = jobs.send(Recording::new(call, path, output, self.file_frames));
        }
        Box::new(RecordTap::new(input))
    }
}

impl Drop for Recorder {
    /// Finishes all files.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Events = Sender<(CallId, MediaEvent)>;

fn run(new_jobs: &Receiver<Recording>, events: &Events) {
    let mut recordings: Vec<Recording> = Vec::new();
    let mut open = true;
    let mut due = Instant::now() + INTERVAL;
    while open || !recordings.is_empty() {
        // new recordings are begun at once, and do not keep the others waiting
        while open {
            match new_jobs.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(mut job) => {
                    match job.create() {
                        Ok(()) => tell(&job, events, RecordingState::Started),
                        Err(error) => fail(&mut job, &error, events),
                    }
                    recordings.push(job);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        }
        due = Instant::now() + INTERVAL;
        recordings.retain_mut(|recording| {
            // in this order: what was pushed before the end is still seen
            let ended = recording.is_over() || !open;
            match recording.write() {
                Ok(Wrote::Samples) => {}
                Ok(Wrote::NextFile(_)) => tell(recording, events, RecordingState::Continued),
                Err(error) => fail(recording, &error, events),
            }
            if ended && !recording.has_failed() {
                match recording.end() {
                    Ok(()) => tell(recording, events, RecordingState::Finished),
                    Err(error) => fail(recording, &error, events),
                }
            }
            !ended
        });
    }
}

fn tell(recording: &Recording, events: &Events, state: RecordingState) {
    let news = RecordingNews { path: recording.file(), state, length: recording.length() };
    let _ = events.send((recording.call, MediaEvent::Recording(Box::new(news))));
}

fn fail(recording: &mut Recording, error: &hound::Error, events: &Events) {
    recording.give_up();
    let text = in_words(&recording.file(), error);
    log::warn!("{}: recording stopped: {text}", recording.call);
    tell(recording, events, RecordingState::Failed(text));
}
