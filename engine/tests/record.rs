//! Recordings of whole calls: begun, paused and ended in the middle of a call, a disk that is full, a process that dies.
//!
//! The limit on file sizes that stands for the full disk holds for the whole process, so what needs it runs in processes
//! of their own: this program, started again with a word in its environment.

#[path = "support/engines.rs"]
mod engines;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use engines::{connect, start, wait_for};
use mr_sip_engine::{CallId, Codec, Engine, MediaEvent, RecordingNews, RecordingState};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Names the part that a process of its own plays, and the file that it records to.
const PART: &str = "MR_SIP_TEST_PART";
const FILE: &str = "MR_SIP_TEST_FILE";

fn news(engine: &mut Engine) -> RecordingNews {
    wait_for("news of the recording", || match engine.poll_event() {
        Some((CallId(1), MediaEvent::Recording(news))) => Some(*news),
        _ => None,
    })
}

/// Runs a test of this program again, in a process of its own.
fn again(test: &str, file: &Path) -> std::process::ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(PART, test)
        .env(FILE, file)
        .status()
        .unwrap()
}

fn file_of_part(test: &str) -> Option<PathBuf> {
    (std::env::var(PART).as_deref() == Ok(test)).then(|| std::env::var_os(FILE).map(PathBuf::from))?
}

#[test]
fn a_recording_begins_pauses_and_ends_in_the_middle_of_a_call_and_another_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (mut a, mut b) = (start(23_910..=23_919, None), start(23_920..=23_929, None));
    let (mut at_a, _at_b) = connect(&mut a, &mut b, Codec::Pcmu, None);
    assert!(at_a.pause_recording(true).is_ok() && at_a.stop_recording().is_ok(), "nothing to pause, and no harm done");

    let begun = Instant::now();
    a.record(&mut at_a, path("first.wav")).unwrap();
    assert_eq!(news(&mut a).state, RecordingState::Started);
    std::thread::sleep(Duration::from_millis(600));
    at_a.pause_recording(true).unwrap();
    std::thread::sleep(Duration::from_millis(2_000));
    at_a.pause_recording(false).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    at_a.stop_recording().unwrap();
    let whole = begun.elapsed();
    let finished = news(&mut a);
    assert_eq!((&finished.state, &finished.path), (&RecordingState::Finished, &path("first.wav")));
    let length = hound::WavReader::open(path("first.wav")).unwrap().duration();
    assert_eq!(finished.length, Duration::from_millis(u64::from(length) / 8));
    // a second of three; a machine that stalls makes what is not the pause longer
    assert!(finished.length >= Duration::from_millis(800), "{:?}", finished.length);
    assert!(finished.length + Duration::from_millis(1_900) <= whole, "{:?} of {whole:?}", finished.length);

    a.record(&mut at_a, path("second.wav")).unwrap();
    assert_eq!(news(&mut a).path, path("second.wav"));
    // one that begins ends the one before
    a.record(&mut at_a, path("third.wav")).unwrap();
    let both = [news(&mut a), news(&mut a)];
    assert!(both.iter().any(|n| n.path == path("third.wav") && n.state == RecordingState::Started), "{both:?}");
    assert!(both.iter().any(|n| n.path == path("second.wav") && n.state == RecordingState::Finished), "{both:?}");
    drop(at_a);
    assert_eq!(news(&mut a).path, path("third.wav"));
}

/// Case 41.
#[test]
fn a_disk_that_fills_up_ends_the_recording_and_not_the_call() {
    const THIS: &str = "a_disk_that_fills_up_ends_the_recording_and_not_the_call";
    let Some(file) = file_of_part(THIS) else {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("call.wav");
        assert!(again(THIS, &file).success());
        // what was written before can be played
        let length = hound::WavReader::open(file).unwrap().duration();
        assert!(length > 0 && length <= 64 * 1_024 / 4, "{length} samples");
        return;
    };
    // SAFETY: no handler is installed, the signal is ignored: a write beyond the limit then fails as on a full disk.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 64 * 1_024, hard).unwrap();
    let (mut a, mut b) = (start(23_930..=23_939, None), start(23_940..=23_949, None));
    let (at_a, at_b) = connect(&mut a, &mut b, Codec::Pcmu, Some(file.clone()));
    assert_eq!(news(&mut a).state, RecordingState::Started);
    let failed = news(&mut a);
    assert!(matches!(&failed.state, RecordingState::Failed(why) if why.contains("call.wav")), "{failed:?}");
    let (sent, heard) = (at_a.stats().sent, at_b.stats().received);
    wait_for("a second of the call after it", || {
        (at_a.stats().sent > sent + 50 && at_b.stats().received > heard + 45).then_some(())
    });
    assert_eq!(at_a.stats().record_lost_samples, 0, "what comes is taken and thrown away");
    drop(at_a);
    while let Some((_, event)) = a.poll_event() {
        assert!(!matches!(event, MediaEvent::Recording(_)), "one failure is told once: {event:?}");
    }
}

/// Case 42.
#[test]
fn a_process_that_dies_leaves_a_recording_that_can_be_played() {
    const THIS: &str = "a_process_that_dies_leaves_a_recording_that_can_be_played";
    let Some(file) = file_of_part(THIS) else {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("call.wav");
        assert!(!again(THIS, &file).success(), "it was to die");
        let length = hound::WavReader::open(file).unwrap().duration();
        assert!(length >= 8_000, "{length} samples of 3 s");
        return;
    };
    let (mut a, mut b) = (start(23_950..=23_959, None), start(23_960..=23_969, None));
    let (at_a, _at_b) = connect(&mut a, &mut b, Codec::Pcmu, Some(file));
    wait_for("three seconds", || (at_a.stats().sent > 150).then_some(()));
    std::process::abort();
}
