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

/// The media thread's end of a recording.
#[derive(Debug)]
pub struct RecordTap {
    frames: Producer<Frame>,
    number: u64,
    /// The frame that is being filled: packets are not always of 20 ms.
    samples: [[i16; 2]; PACKET_SAMPLES],
    filled: usize,
}

impl RecordTap {
    fn new(frames: Producer<Frame>) -> Self {
        Self { frames, number: 0, samples: [[0; 2]; PACKET_SAMPLES], filled: 0 }
    }

    /// Records both directions of the same time; returns how many samples a full ring lost: they will be silence.
    pub fn push(&mut self, mut caller: &[f32], mut agent: &[f32]) -> usize {
        let mut lost = 0;
        while !caller.is_empty() && !agent.is_empty() {
            let room = &mut self.samples[self.filled..];
            let count = room.len().min(caller.len()).min(agent.len());
            for ((slot, &left), &right) in room.iter_mut().zip(caller).zip(agent) {
                *slot = [to_i16(left), to_i16(right)];
            }
            (caller, agent) = (&caller[count..], &agent[count..]);
            lost += self.advance(count);
        }
        lost
    }

    /// So many samples never were: silence in their place. Returns how many a full ring lost besides.
    pub fn leave_out(&mut self, samples: u64) -> usize {
        let room = PACKET_SAMPLES - self.filled;
        let into_frame = usize::try_from(samples).unwrap_or(usize::MAX).min(if self.filled > 0 { room } else { 0 });
        self.samples[self.filled..self.filled + into_frame].fill([0; 2]);
        let lost = self.advance(into_frame);
        let left = samples - into_frame as u64;
        self.number += left / PACKET_SAMPLES as u64;
        if self.filled == 0 {
            self.filled = usize::try_from(left % PACKET_SAMPLES as u64).unwrap_or(0);
            self.samples[..self.filled].fill([0; 2]);
        }
        lost
    }

    fn advance(&mut self, count: usize) -> usize {
        self.filled += count;
        if self.filled < PACKET_SAMPLES {
            return 0;
        }
        self.filled = 0;
        let frame = Frame { number: self.number, samples: self.samples };
        self.number += 1;
        if self.frames.push(frame).is_ok() { 0 } else { PACKET_SAMPLES }
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
        RecordTap::new(input)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = poll() {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn frame(level: f32) -> [f32; PACKET_SAMPLES] {
        [level; PACKET_SAMPLES]
    }

    #[test]
    fn both_directions_are_in_the_file_and_what_was_left_out_is_silence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        let (recorder, events) = Recorder::start().unwrap();
        let mut tap = recorder.record(CallId(1), path.clone());
        assert_eq!(tap.push(&frame(0.25), &frame(-0.5)), 0);
        assert_eq!(tap.leave_out(320), 0);
        assert_eq!(tap.push(&frame(0.5), &frame(0.125)), 0);
        drop(tap);
        assert_eq!(events.recv().unwrap(), (CallId(1), MediaEvent::RecordingFinished));
        let mut wav = hound::WavReader::open(path).unwrap();
        assert_eq!((wav.spec().channels, wav.spec().sample_rate, wav.duration()), (2, 8_000, 4 * 160));
        let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
        assert!(samples[..320].chunks(2).all(|s| s == [8_192, -16_384]), "left the caller, right the agent");
        assert!(samples[320..960].iter().all(|&s| s == 0));
        assert!(samples[960..].chunks(2).all(|s| s == [16_384, 4_096]));
    }

    #[test]
    fn pieces_of_any_length_and_what_was_left_out_between_them_stand_where_they_belong() {
        let (input, mut output) = RingBuffer::new(RING_FRAMES);
        let mut tap = RecordTap::new(input);
        let mut expected: Vec<i16> = Vec::new();
        for (n, samples) in [240, 80, 480, 240, 7, 320, 160, 240].into_iter().enumerate() {
            if n % 3 == 1 {
                tap.leave_out(samples as u64);
                expected.extend(std::iter::repeat_n(0, samples));
            } else {
                assert_eq!(tap.push(&vec![0.5; samples], &vec![0.25; samples]), 0);
                expected.extend(std::iter::repeat_n(16_384, samples));
            }
        }
        let mut recorded = vec![0; expected.len() / 160 * 160];
        while let Ok(frame) = output.pop() {
            for (slot, sample) in recorded[frame.number as usize * 160..].iter_mut().zip(frame.samples) {
                *slot = sample[0];
            }
        }
        assert_eq!(recorded, expected[..recorded.len()]);
    }

    #[test]
    fn a_ring_that_is_full_costs_frames_and_not_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        // the ring as the recorder sees it, before it has looked at it for the first time
        let (input, output) = RingBuffer::new(RING_FRAMES);
        let mut tap = RecordTap::new(input);
        let lost = (0..300).filter(|_| tap.push(&frame(0.5), &frame(0.5)) == 160).count();
        assert_eq!(lost, 300 - RING_FRAMES);
        let (call, now) = (CallId(1), Instant::now());
        let mut job =
            Recording { call, path: path.clone(), frames: output, writer: None, written: 0, header_written: now };
        job.create().unwrap();
        job.write().unwrap();
        assert_eq!(tap.push(&frame(0.25), &frame(0.25)), 0);
        job.write().unwrap();
        let (events, _said) = channel();
        job.finish(&events);
        assert_eq!(hound::WavReader::open(path).unwrap().duration(), 301 * 160);
    }

    #[test]
    fn a_disk_that_is_full_stops_the_recording_with_one_event_and_not_the_tap() {
        // case 41
        let (recorder, events) = Recorder::start().unwrap();
        let mut tap = recorder.record(CallId(7), PathBuf::from("/dev/full"));
        let (call, MediaEvent::RecordingFailed(text)) = events.recv_timeout(Duration::from_secs(30)).unwrap() else {
            panic!("something else was said");
        };
        assert!(call == CallId(7) && text.contains("/dev/full"), "{text}");
        for _ in 0..RING_FRAMES * 2 {
            let _ = tap.push(&frame(0.5), &frame(0.5)); // taken and thrown away, or lost: never an obstacle
        }
        drop(tap);
        drop(recorder);
        assert!(events.recv().is_err(), "nothing more is said");
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let (recorder, events) = Recorder::start().unwrap();
        let _tap = recorder.record(CallId(7), PathBuf::from("/nonexistent/call.wav"));
        let (_, event) = events.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(event, MediaEvent::RecordingFailed(_)));
    }

    #[test]
    fn the_file_can_be_played_before_it_is_finished() {
        // case 42: whatever happens to the process, this much is there
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        let (recorder, _events) = Recorder::start().unwrap();
        let mut tap = recorder.record(CallId(1), path.clone());
        let duration = wait_for("a file with a header that is up to date", || {
            let _ = tap.push(&frame(0.5), &frame(0.5));
            hound::WavReader::open(&path).ok().map(|wav| wav.duration()).filter(|&d| d >= 1_600)
        });
        assert!(duration.is_multiple_of(160));
        drop(tap);
    }
}
