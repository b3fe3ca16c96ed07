//! The control experiment: as many sockets, events and bytes as the daemon's subscribers have, and no daemon behind them.
//!
//! What subscribers cost the media thread may be the daemon's doing, or that of a machine whose cores and caches are
//! shared with whoever writes and reads that much. A child process tells: it replays to sockets of its own what a
//! subscriber was seen to get, at the times it got it, by the daemon's sort of writes (non-blocking, one for each socket,
//! a poll after every eight, woken by readers as the daemon is). It knows nothing of calls and of the daemon.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use control::frame::write_json;
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

/// Sockets that the daemon writes to before it looks for requests again.
const WRITES: usize = 8;

/// What one subscriber got at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// After the first of all.
    pub(crate) at: Duration,
    /// Lengths of the messages.
    pub(crate) messages: Vec<usize>,
}

/// The child process, which ends with this.
#[derive(Debug)]
pub(crate) struct Feeder {
    child: Child,
    socket: PathBuf,
}

impl Feeder {
    /// Starts one that feeds so many connections, once they are there, what this trace says.
    pub(crate) fn start(folder: &Path, count: usize, trace: &[Batch]) -> Result<Self> {
        ensure!(!trace.is_empty(), "no subscriber was told anything that strangers could be told");
        let (socket, file) = (folder.join("strangers.sock"), folder.join("strangers.json"));
        fs::write(&file, serde_json::to_vec(trace)?)?;
        let _ = fs::remove_file(&socket);
        // it is bound here, so that nobody has to wait for it
        let listener = UnixListener::bind(&socket)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--subscribers", &count.to_string(), "--feed"])
            .arg(&file)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .context("cannot start the process that feeds strangers")?;
        Ok(Self { child, socket })
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection, and what waits to be written to it.
struct Stranger {
    stream: UnixStream,
    output: Vec<u8>,
}

/// What the child process does, until a reader hangs up. The listener is its standard input.
pub(crate) fn feed(trace: &Path, count: usize) -> Result<()> {
    let trace: Vec<Batch> = serde_json::from_reader(File::open(trace)?)?;
    let mut poll = Poll::new()?;
    let mut strangers = accept(count, &poll)?;
    let mut events = Events::with_capacity(256);
    let lasts = trace.last().context("an empty trace")?.at + Duration::from_millis(10);
    let (batches, began) = (frames(&trace)?, Instant::now());
    for lap in 0.. {
        for (at, bytes) in &batches {
            let due = began + lasts * lap + *at;
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                wait(&mut poll, &mut events, left)?;
            }
            strangers.iter_mut().for_each(|stranger| stranger.output.extend_from_slice(bytes));
            for few in strangers.chunks_mut(WRITES) {
                for stranger in few {
                    if !stranger.flush()? {
                        return Ok(());
                    }
                }
                wait(&mut poll, &mut events, Duration::ZERO)?;
            }
        }
    }
    Ok(())
}

fn accept(count: usize, poll: &Poll) -> Result<Vec<Stranger>> {
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut first = Vec::new();
    write_json(&mut first, b"{}")?;
    (0..count)
        .map(|index| {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            let mut stranger = Stranger { stream: UnixStream::from_std(stream), output: first.clone() };
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stranger.stream, Token(index), interest)?;
            stranger.flush()?;
            Ok(stranger)
        })
        .collect()
}

/// Each batch as it goes over the socket.
fn frames(trace: &[Batch]) -> Result<Vec<(Duration, Vec<u8>)>> {
    let of = |batch: &Batch| -> Result<_> {
        let mut bytes = Vec::new();
        for length in &batch.messages {
            write_json(&mut bytes, &vec![b' '; *length])?;
        }
        Ok((batch.at, bytes))
    };
    trace.iter().map(of).collect()
}

fn wait(poll: &mut Poll, events: &mut Events, limit: Duration) -> Result<()> {
    match poll.poll(events, Some(limit)) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error.into()),
        _ => Ok(()),
    }
}

impl Stranger {
    /// Writes what the socket takes; false when nobody reads any more.
    fn flush(&mut self) -> Result<bool> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(full) if full.kind() == ErrorKind::WouldBlock => break,
                Err(again) if again.kind() == ErrorKind::Interrupted => {}
                Err(gone) if matches!(gone.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
