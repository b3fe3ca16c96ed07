//! Recordings of calls: begun by configuration or by `record.start`, paused, ended; and what is told of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use control::ClientId;
use control::types::{CallId, Done, Event, Pause, RecordStart, RecordStartReply, Recording, RecordingState as State};
use control::{ApiError, ErrorCode};
use engine::{RecordingNews, RecordingState};

use super::call::CallRecord;
use super::requests::{Outcome, no_media};
use super::switchboard::Switchboard;

/// Pauses of a recording that are told one by one; a client that pauses more often sees the last one grow.
const PAUSES: usize = 1_000;
/// Recordings of one call.
const RECORDINGS: usize = 100;
/// Names that are tried for a file of ours.
const NAMES: usize = 1_000;

/// One recording of a call.
#[derive(Debug)]
pub(crate) struct Recorded {
    path: PathBuf,
    state: State,
    /// On the call's clock, as are the pauses: where they begin, and how long they are.
    start: Duration,
    pauses: Vec<(Duration, Duration)>,
    paused_since: Option<Instant>,
    reason: Option<String>,
}

impl Recorded {
    /// One that begins so long after the call's media.
    pub(crate) fn new(path: PathBuf, start: Duration) -> Self {
        Self { path, state: State::Recording, start, pauses: Vec::new(), paused_since: None, reason: None }
    }

    fn runs(&self) -> bool {
        matches!(self.state, State::Recording | State::Paused)
    }

    fn pause(&mut self, at: Duration) {
        self.state = State::Paused;
        self.paused_since = Some(Instant::now());
        if self.pauses.len() < PAUSES {
            self.pauses.push((at, Duration::ZERO));
        }
    }

    /// Ends a pause, if there is one.
    fn go_on(&mut self) {
        if let (Some(since), Some((_, length))) = (self.paused_since.take(), self.pauses.last_mut()) {
            *length += since.elapsed();
            self.state = State::Recording;
        }
    }

    fn end(&mut self, state: State) {
        if self.runs() {
            self.go_on();
            self.state = state;
        }
    }

    /// As clients see it.
    fn describe(&self, call_is_over: bool) -> Recording {
        let ms = |time: Duration| time.as_millis() as u64;
        let now = self.paused_since.map_or(Duration::ZERO, |since| since.elapsed());
        let last = self.pauses.len();
        let pause = |(n, (at, length)): (usize, &(Duration, Duration))| Pause {
            at_ms: ms(*at),
            for_ms: ms(*length + if n + 1 == last { now } else { Duration::ZERO }),
        };
        Recording {
            path: self.path.display().to_string(),
            state: if call_is_over && self.runs() { State::Finished } else { self.state },
            start_ms: ms(self.start),
            pauses: self.pauses.iter().enumerate().map(pause).collect(),
            reason: self.reason.clone(),
        }
    }
}

impl CallRecord {
    /// The path of the recording that was begun last.
    pub(super) fn last_recording(&self) -> Option<String> {
        self.recordings.last().map(|recorded| recorded.path.display().to_string())
    }

    /// All recordings, as clients see them.
    pub(super) fn describe_recordings(&self) -> Vec<Recording> {
        self.recordings.iter().map(|recorded| recorded.describe(self.is_over())).collect()
    }

    /// The media is over, and with it what was being recorded.
    pub(super) fn end_recordings(&mut self) {
        self.recordings.iter_mut().for_each(|recorded| recorded.end(State::Finished));
    }

    /// The recording that runs.
    fn recorded(&mut self) -> Outcome<&mut Recorded> {
        let id = self.id;
        let running = self.recordings.iter_mut().find(|recorded| recorded.runs());
        running.ok_or_else(|| ApiError::wrong_state(format!("{id} is not being recorded")))
    }
}

impl Switchboard {
    pub(super) fn start_recording(&mut self, client: ClientId, request: &RecordStart) -> Outcome<RecordStartReply> {
        let number = request.call.0;
        let call = self.voice(client, request.call)?;
        if call.recordings.iter().any(Recorded::runs) {
            return Err(ApiError::wrong_state(format!("{} is being recorded already", request.call)));
        }
        if call.recordings.len() >= RECORDINGS {
            let text = format!("a call has at most {RECORDINGS} recordings");
            return Err(ApiError::new(ErrorCode::NoCapacity, text));
        }
        let folder = self.config.recordings_folder();
        let path = match &request.path {
            Some(path) => folder.join(path), // one that begins with / stays as it is
            None => self.recording_path(number),
        };
        if path.symlink_metadata().is_ok() {
            let text = format!("record.start: `path`: {} is there already, and is not replaced", path.display());
            return Err(ApiError::invalid_params(text));
        }
        make_folder(&folder, &path);
        let Some(call) = self.calls.get_mut(&number) else { return Err(ApiError::no_such_call(request.call)) };
        let start = call.media_time().unwrap_or_default();
        let Some(up) = call.up() else { return Err(ApiError::no_such_call(request.call)) };
        self.engine.record(&mut up.handle, path.clone()).map_err(|error| no_media(&error))?;
        let reply = RecordStartReply { path: path.display().to_string() };
        call.recordings.push(Recorded::new(path, start));
        Ok(reply)
    }

    pub(super) fn pause_recording(&mut self, client: ClientId, call: CallId, pause: bool) -> Outcome<Done> {
        let record = self.voice(client, call)?;
        let now = record.media_time().unwrap_or_default();
        let paused = record.recorded()?.state == State::Paused;
        if paused == pause {
            return Ok(Done {});
        }
        let Some(up) = record.up() else { return Err(ApiError::no_such_call(call)) };
        up.handle.pause_recording(pause).map_err(|error| no_media(&error))?;
        let recorded = record.recorded()?;
        if pause {
            recorded.pause(now)
        } else {
            recorded.go_on()
        }
        let (state, path) = (recorded.state, recorded.path.display().to_string());
        self.notify(&Event::CallRecording { call, state, path, reason: None });
        Ok(Done {})
    }

    pub(super) fn stop_recording(&mut self, client: ClientId, call: CallId) -> Outcome<Done> {
        let record = self.voice(client, call)?;
        record.recorded()?;
        let Some(up) = record.up() else { return Err(ApiError::no_such_call(call)) };
        up.handle.stop_recording().map_err(|error| no_media(&error))?;
        // that it is finished is told when all of it is on disk
        record.recorded()?.end(State::Finished);
        Ok(Done {})
    }

    /// What the recorder tells.
    pub(super) fn on_recording(&mut self, number: u32, news: RecordingNews) {
        let call = CallId(number);
        let Some(record) = self.calls.get_mut(&number) else { return };
        // parts of one recording have names that begin alike; the one that runs is the one that goes on
        let place = match news.state {
            RecordingState::Continued => record.recordings.iter().rposition(Recorded::runs),
            _ => record.recordings.iter().rposition(|recorded| recorded.path == news.path),
        };
        let Some(recorded) = place.and_then(|place| record.recordings.get_mut(place)) else { return };
        let mut reason = None;
        let state = match news.state {
            RecordingState::Started => State::Recording,
            RecordingState::Continued => {
                recorded.path = news.path.clone();
                recorded.state
            }
            RecordingState::Finished => State::Finished,
            RecordingState::Failed(why) => {
                recorded.end(State::Failed);
                recorded.reason = Some(why.clone());
                // what would be pushed would be thrown away
                if let Some(up) = record.up() {
                    let _ = up.handle.stop_recording();
                }
                log::error!("{call}: the recording stopped: {why}");
                let text = format!("{call}: the recording stopped, the call goes on: {why}");
                self.server.notify(&Event::DaemonWarning { text }, None);
                reason = Some(why);
                State::Failed
            }
        };
        // after the call's last word nothing more is told of it
        if self.calls.get(&number).is_some_and(|record| !record.is_over()) {
            self.notify(&Event::CallRecording { call, state, path: news.path.display().to_string(), reason });
        }
    }

    /// A file's name that nobody has.
    pub(super) fn recording_path(&self, number: u32) -> PathBuf {
        let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        let folder = self.config.recordings_folder();
        // the process's number keeps two daemons apart that share a folder
        let stem = format!("{now}-{}-c{number}", std::process::id());
        let names = std::iter::once(format!("{stem}.wav")).chain((2..NAMES).map(|n| format!("{stem}_{n}.wav")));
        let free = names.map(|name| folder.join(name)).find(|path| path.symlink_metadata().is_err());
        free.unwrap_or_else(|| folder.join(format!("{stem}.wav")))
    }
}

/// Makes the folder that a recording of ours is to be in. One that cannot be made is told by the recorder, as any other
/// failure of the disk; folders elsewhere are their owners' to make.
pub(super) fn make_folder(recordings: &Path, path: &Path) {
    if let Some(folder) = path.parent().filter(|folder| folder.starts_with(recordings)) {
        let _ = std::fs::create_dir_all(folder);
    }
}
