//! Recording: a stereo WAV file a call, the caller left and the agent right, written by one thread of its own.
//!
//! The media thread pushes frames of 20 ms into a ring a call and never waits for the disk. Every frame carries its
//! number, so that what found the ring full is silence of the right length in the file. The header is brought up to date
//! every second, so that the file can be played whatever happens to the process. A disk that fails ends the recording,
//! not the call (case 41).

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavSpec, WavWriter};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::PACKET_SAMPLES;
use crate::codec::to_i16;
use crate::event::{CallId, MediaEvent};

/// Frames of 20 ms that can wait for the disk: 5 s.
const RING_FRAMES: usize = 250;
/// How often the rings are emptied: a tenth of what they hold.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often the header of the file is brought up to date.
const HEADER_INTERVAL: Duration = Duration::from_secs(1);
/// Most silence that is written for frames that were left out: an hour; a longer one is a fault of ours.
const MAX_GAP_FRAMES: u64 = 180_000;

/// 20 ms of both directions.
#[derive(Debug)]
struct Frame {
    number: u64,
    samples: [[i16; 2]; PACKET_SAMPLES],
}

/// What became of a pushed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It will be written.
    Queued,
    /// The ring was full; it will be silence.
    Lost,
}

/// The media thread's end of a recording.
#[derive(Debug)]
pub struct RecordTap {
    frames: Producer<Frame>,
    number: u64,
}

impl RecordTap {
    /// Records 20 ms.
    pub fn push(&mut self, caller: &[f32; PACKET_SAMPLES], agent: &[f32; PACKET_SAMPLES]) -> Recorded {
        let number = self.number;
        self.number += 1;
        if self.frames.is_full() {
            return Recorded::Lost;
        }
        let mut samples = [[0; 2]; PACKET_SAMPLES];
        for ((slot, &left), &right) in samples.iter_mut().zip(caller).zip(agent) {
            *slot = [to_i16(left), to_i16(right)];
        }
        match self.frames.push(Frame { number, samples }) {
            Ok(()) => Recorded::Queued,
            Err(_) => Recorded::Lost,
        }
    }

    /// So many frames never were.
    pub fn leave_out(&mut self, frames: u64) {
        self.number += frames;
    }
}

struct Recording {
    call: CallId,
    path: PathBuf,
    frames: Consumer<Frame>,
    /// `None` once it failed; what still comes is thrown away.
    writer: Option<WavWriter<BufWriter<File>>>,
    written: u64,
    header_written: Instant,
}

/// The recorder thread.
#[derive(Debug)]
pub struct Recorder {
    jobs: Option<Sender<Recording>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the thread. What it has to say comes out of the receiver.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start() -> std::io::Result<(Self, Receiver<(CallId, MediaEvent)>)> {
        let (jobs, new_jobs) = channel();
        let (events, events_out) = channel();
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(move || run(&new_jobs, &events))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, events_out))
    }

    /// Starts a recording. The file is made by the recorder thread; if that fails, an event says so.
    #[must_use]
    pub fn record(&self, call: CallId, path: PathBuf) -> RecordTap {
        let (input, output) = RingBuffer::new(RING_FRAMES);
        let now = Instant::now();
        let job = Recording { call, path, frames: output, writer: None, written: 0, header_written: now };
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job); // a recorder that is gone takes nothing: the tap finds its ring full
        }
        RecordTap { frames: input, number: 0 }
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

fn run(new_jobs: &Receiver<Recording>, events: &Sender<(CallId, MediaEvent)>) {
    let mut recordings: Vec<Recording> = Vec::new();
    let mut open = true;
    while open || !recordings.is_empty() {
        if open {
            match new_jobs.recv_timeout(INTERVAL) {
                Ok(mut job) => {
                    if let Err(error) = job.create() {
                        job.fail(&error, events);
                    }
                    recordings.push(job);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        }
        recordings.retain_mut(|recording| {
            // in this order: what was pushed before the end is still seen
            let ended = recording.frames.is_abandoned() || !open;
            if let Err(error) = recording.write() {
                recording.fail(&error, events);
            }
            if ended {
                recording.finish(events);
            }
            !ended
        });
    }
}

impl Recording {
    fn create(&mut self) -> hound::Result<()> {
        let spec = WavSpec { channels: 2, sample_rate: 8_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut writer = WavWriter::create(&self.path, spec)?;
        writer.flush()?;
        self.writer = Some(writer);
        Ok(())
    }

    fn write(&mut self) -> hound::Result<()> {
        while let Ok(frame) = self.frames.pop() {
            let Some(writer) = &mut self.writer else { continue };
            let gap = frame.number.saturating_sub(self.written).min(MAX_GAP_FRAMES);
            for _ in 0..gap * PACKET_SAMPLES as u64 * 2 {
                writer.write_sample(0_i16)?;
            }
            for sample in frame.samples.as_flattened() {
                writer.write_sample(*sample)?;
            }
            self.written = frame.number + 1;
        }
        if let Some(writer) = &mut self.writer
            && self.header_written.elapsed() >= HEADER_INTERVAL
        {
            writer.flush()?;
            self.header_written = Instant::now();
        }
        Ok(())
    }

    fn finish(&mut self, events: &Sender<(CallId, MediaEvent)>) {
        let Some(writer) = self.writer.take() else { return };
        match writer.finalize() {
            Ok(()) => {
                let _ = events.send((self.call, MediaEvent::RecordingFinished));
            }
            Err(error) => self.fail(&error, events),
        }
    }

    fn fail(&mut self, error: &hound::Error, events: &Sender<(CallId, MediaEvent)>) {
        // the writer tries once more to bring its header up to date as it is dropped; what it says is known already
        self.writer = None;
        let text = format!("{}: {error}", self.path.display());
        log::warn!("{}: recording stopped: {text}", self.call);
        let _ = events.send((self.call, MediaEvent::RecordingFailed(text)));
    }
}
