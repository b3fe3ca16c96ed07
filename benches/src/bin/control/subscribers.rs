//! Clients that want every event: many that read, all on one thread, and perhaps one that never does.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use control::frame::{Decoder, Frame, write_json};
use control::types::{EventFilter, Hello, Id, PROTOCOL, Request, request_message};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use super::mute::{Mute, MuteTold};
use super::strangers::Batch;

/// How often the thread looks whether it is to end, at least.
const LOOK: Duration = Duration::from_millis(50);

/// What the subscribers got.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// How long they read.
    pub(crate) lasted: Duration,
    /// Events, over all subscribers.
    pub(crate) events: u64,
    /// Bytes, over all subscribers.
    pub(crate) bytes: u64,
    /// Of the one that got the fewest events.
    pub(crate) fewest: u64,
    /// Of the one that got the most.
    pub(crate) most: u64,
    /// Subscribers that the daemon disconnected though they read.
    pub(crate) lost: usize,
    /// What became of the one that never reads, if there was one.
    pub(crate) mute: Option<MuteTold>,
    /// What the first of them got, and when.
    pub(crate) trace: Vec<Batch>,
}

/// Subscribers, and the thread that reads for them.
pub(crate) struct Subscribers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Told>>,
}

struct Subscriber {
    stream: UnixStream,
    decoder: Decoder,
    /// Frames that came; the first is the answer to hello.
    frames: u64,
    bytes: u64,
    gone: bool,
}

impl Subscribers {
    /// Connects so many that read, and perhaps one that does not.
    pub(crate) fn start(socket: &Path, count: usize, mute: bool) -> Result<Self> {
        let subscribers = (0..count)
            .map(|_| {
                let stream = subscribe(socket, "subscriber")?;
                Ok(Subscriber { stream, decoder: Decoder::framed(), frames: 0, bytes: 0, gone: false })
            })
            .collect::<Result<Vec<_>>>()?;
        let mute = mute.then(|| Mute::start(socket)).transpose()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread =
            thread::Builder::new().name("subscribers".into()).spawn(move || read_all(subscribers, mute, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Disconnects all, and says what they got.
    pub(crate) fn stop(self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the subscribers' thread panicked"))?
    }
}

/// A connection that has said hello and read nothing yet. Not the client of `control`, which parses what it reads: the
/// subscribers are to cost this process little.
pub(crate) fn subscribe(socket: &Path, name: &str) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    let hello = Hello { client: name.into(), protocol: PROTOCOL, events: EventFilter::All, ..Hello::default() };
    let mut frame = Vec::new();
    write_json(&mut frame, &request_message(&Id::Number(1), Hello::NAME, &hello)?)?;
    stream.write_all(&frame)?;
    Ok(stream)
}

fn read_all(mut subscribers: Vec<Subscriber>, mut mute: Option<Mute>, stopped: &AtomicBool) -> Result<Told> {
    let began = Instant::now();
    let mut trace = Vec::new();
    while !stopped.load(Ordering::Relaxed) && subscribers.iter().all(|s| !s.gone) {
        let ready = wait(&subscribers, mute.as_ref())?;
        for (index, subscriber) in subscribers.iter_mut().enumerate() {
            if ready.get(index).copied().unwrap_or_default() {
                let messages = subscriber.read()?;
                if index == 0 && !messages.is_empty() {
                    trace.push(Batch { at: began.elapsed(), messages });
                }
            }
        }
        if let Some(mute) = &mut mute {
            if ready.get(subscribers.len()).copied().unwrap_or_default() {
                mute.cut_off()?;
            }
            mute.ask(Instant::now())?;
        }
    }
    let events = || subscribers.iter().map(|s| s.frames.saturating_sub(1));
    Ok(Told {
        lasted: began.elapsed(),
        events: events().sum(),
        bytes: subscribers.iter().map(|s| s.bytes).sum(),
        fewest: events().min().unwrap_or_default(),
        most: events().max().unwrap_or_default(),
        lost: subscribers.iter().filter(|s| s.gone).count(),
        mute: mute.map(Mute::told),
        trace,
    })
}

/// Who has something to read; behind them all, whether the mute one was hung up on.
fn wait(subscribers: &[Subscriber], mute: Option<&Mute>) -> Result<Vec<bool>> {
    let reading = subscribers.iter().map(|s| PollFd::new(s.stream.as_fd(), PollFlags::POLLIN));
    // no events asked for: only that it was hung up is told
    let hung_up = mute.map(|mute| PollFd::new(mute.as_fd(), PollFlags::empty()));
    let mut all: Vec<PollFd<'_>> = reading.chain(hung_up).collect();
    let until = mute.map_or(LOOK, |mute| LOOK.min(mute.due().saturating_duration_since(Instant::now())));
    match poll(&mut all, PollTimeout::try_from(until).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(all.iter().map(|fd| fd.any().unwrap_or_default()).collect())
}

impl Subscriber {
    /// Takes what is there; the lengths of the messages in it.
    fn read(&mut self) -> Result<Vec<usize>> {
        match recv(self.stream.as_fd().as_raw_fd(), self.decoder.space(), MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(Errno::ECONNRESET) => self.gone = true,
            Ok(count) => {
                self.decoder.filled(count);
                self.bytes += count as u64;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut messages = Vec::new();
        while let Some(frame) = self.decoder.next_frame()? {
            self.frames += 1;
            if let Frame::Json(text) = frame {
                messages.push(text.len());
            }
        }
        Ok(messages)
    }
}
