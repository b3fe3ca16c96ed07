//! Recordings as files, and what is said of them.

use std::fs::OpenOptions;

use super::*;
use crate::PACKET_SAMPLES;

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

/// The next thing that is said.
fn news(events: &Receiver<(CallId, MediaEvent)>) -> RecordingNews {
    let (_, event) = events.recv_timeout(Duration::from_secs(30)).expect("nothing was said");
    let MediaEvent::Recording(news) = event else { panic!("{event:?}") };
    *news
}

fn left(path: &std::path::Path) -> Vec<i16> {
    hound::WavReader::open(path).unwrap().samples().step_by(2).map(Result::unwrap).collect()
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
    assert_eq!(news(&events).state, RecordingState::Started);
    let length = Duration::from_millis(80);
    assert_eq!(news(&events), RecordingNews { path: path.clone(), state: RecordingState::Finished, length });
    let mut wav = hound::WavReader::open(path).unwrap();
    assert_eq!((wav.spec().channels, wav.spec().sample_rate, wav.duration()), (2, 8_000, 4 * 160));
    let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
    assert!(samples[..320].chunks(2).all(|s| s == [8_192, -16_384]), "left the caller, right the agent");
    assert!(samples[320..960].iter().all(|&s| s == 0));
    assert!(samples[960..].chunks(2).all(|s| s == [16_384, 4_096]));
}

#[test]
fn a_pause_is_not_in_the_file_and_neither_is_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.wav");
    let (recorder, events) = Recorder::start().unwrap();
    let mut tap = recorder.record(CallId(1), path.clone());
    // in the middle of a frame, as packets of 10 ms make it
    tap.push(&[0.25; 80], &[0.0; 80]);
    tap.pause(true);
    for _ in 0..1_000 {
        assert_eq!(tap.push(&frame(0.9), &frame(0.9)), 0);
        assert_eq!(tap.leave_out(8_000), 0);
    }
    tap.pause(false);
    tap.push(&[0.5; 240], &[0.0; 240]);
    drop(tap);
    assert_eq!(news(&events).state, RecordingState::Started);
    assert_eq!(news(&events).length, Duration::from_millis(40));
    let samples = left(&path);
    assert_eq!((samples[..80].to_vec(), samples[80..].to_vec()), (vec![8_192; 80], vec![16_384; 240]));
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
    let mut job = Recording::new(CallId(1), path.clone(), output, FILE_FRAMES);
    job.create().unwrap();
    job.write().unwrap();
    assert_eq!(tap.push(&frame(0.25), &frame(0.25)), 0);
    job.write().unwrap();
    job.end().unwrap();
    assert_eq!(hound::WavReader::open(path).unwrap().duration(), 301 * 160);
}

#[test]
fn a_file_that_is_full_is_followed_by_another_without_a_sample_between() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.wav");
    let (recorder, events) = Recorder::start_with(10).unwrap();
    let mut tap = recorder.record(CallId(1), path.clone());
    for number in 0..25_u16 {
        tap.push(&frame(f32::from(number) / 32_768.0), &frame(0.0));
    }
    drop(tap);
    let part = |number: u32| folder.path().join(format!("call-{number}.wav"));
    let mut said: Vec<RecordingNews> = (0..2).map(|_| news(&events)).collect();
    while said.last().is_some_and(|last| last.state != RecordingState::Finished) {
        said.push(news(&events));
    }
    assert!(said.iter().any(|news| news.state == RecordingState::Continued && news.path == part(3)), "{said:?}");
    assert_eq!(said.last().unwrap().path, part(3));
    assert_eq!(said.last().unwrap().length, Duration::from_millis(500));
    let samples: Vec<i16> = [path, part(2), part(3)].iter().flat_map(|path| left(path)).collect();
    assert_eq!(samples, (0..25).flat_map(|number| [number; 160]).collect::<Vec<i16>>());
}

#[test]
fn a_disk_that_is_full_is_an_error_that_says_what_to_do_and_the_tap_goes_on() {
    // case 41
    let (input, output) = RingBuffer::new(RING_FRAMES);
    let mut tap = RecordTap::new(input);
    let mut job = Recording::new(CallId(7), PathBuf::from("/dev/full"), output, FILE_FRAMES);
    let error = job.write_to(OpenOptions::new().write(true).open("/dev/full").unwrap()).unwrap_err();
    let text = in_words(&job.file(), &error);
    assert!(text.contains("/dev/full") && text.contains("room"), "{text}");
    job.give_up();
    for _ in 0..RING_FRAMES * 2 {
        let _ = tap.push(&frame(0.5), &frame(0.5)); // lost: never an obstacle
    }
    assert_eq!(job.write().unwrap(), Wrote::Samples);
    assert_eq!(tap.push(&frame(0.5), &frame(0.5)), 0, "taken and thrown away");
}

#[test]
fn a_folder_that_is_not_there_and_a_file_that_is_there_are_told() {
    let (recorder, events) = Recorder::start().unwrap();
    let _tap = recorder.record(CallId(7), PathBuf::from("/nonexistent/call.wav"));
    assert!(matches!(news(&events).state, RecordingState::Failed(why) if why.contains("/nonexistent/call.wav")));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("call.wav");
    std::fs::write(&path, "somebody else's").unwrap();
    let _tap = recorder.record(CallId(7), path.clone());
    assert!(matches!(news(&events).state, RecordingState::Failed(why) if why.contains("never replace")));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "somebody else's");
}

#[test]
fn recordings_that_begin_all_the_time_do_not_keep_the_others_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let path = |number: u32| folder.path().join(format!("{number}.wav"));
    let (recorder, _events) = Recorder::start().unwrap();
    let mut tap = recorder.record(CallId(0), path(0));
    let mut number = 0;
    let mut others = Vec::new();
    // more often than the rings are emptied
    wait_for("the first one's samples", || {
        number += 1;
        others.push(recorder.record(CallId(number), path(number)));
        let _ = tap.push(&frame(0.5), &frame(0.5));
        hound::WavReader::open(path(0)).ok().map(|wav| wav.duration()).filter(|&length| length > 0)
    });
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
