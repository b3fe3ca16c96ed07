//! The client that reads nothing, and asks for much.
//!
//! Events alone do not fill its queue within a turn. So it asks for the list of all calls at a steady rate: the server
//! goes on reading the requests of a client whose output is full, and every answer waits with the events, up to the limit
//! of PROTOCOL.md. Once cut off, it comes back at once and goes on.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use control::frame::write_json;
use control::types::{CallList, Id, Request, request_message};

use super::subscribers::subscribe;

/// How often it asks. An answer about 50 calls has some 37 kB.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What became of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MuteTold {
    /// How long after each of its connections it was cut off.
    pub(crate) gone_after: Vec<Duration>,
    /// Requests that it could write.
    pub(crate) asked: u64,
}

/// The client.
#[derive(Debug)]
pub(crate) struct Mute {
    socket: PathBuf,
    stream: UnixStream,
    request: Vec<u8>,
    since: Instant,
    due: Instant,
    told: MuteTold,
}

impl Mute {
    /// Connects it.
    pub(crate) fn start(socket: &Path) -> Result<Self> {
        let everything = CallList { after: None, limit: None };
        let mut request = Vec::new();
        write_json(&mut request, &request_message(&Id::Number(2), CallList::NAME, &everything)?)?;
        let now = Instant::now();
        let (socket, stream) = (socket.to_owned(), connect(socket)?);
        Ok(Self { socket, stream, request, since: now, due: now, told: MuteTold::default() })
    }

    /// Where it is told that the server hung up.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// When it asks next.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Asks if it is time.
    pub(crate) fn ask(&mut self, now: Instant) -> Result<()> {
        if now < self.due {
            return Ok(());
        }
        self.due = now + ASK_EVERY;
        match self.stream.write(&self.request) {
            Ok(written) => {
                ensure!(written == self.request.len(), "a request was cut in two");
                self.told.asked += 1;
            }
            // hung up, which the poll tells
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            // the server has not read the last ones yet
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// It was cut off: notes it, and comes back.
    pub(crate) fn cut_off(&mut self) -> Result<()> {
        self.told.gone_after.push(self.since.elapsed());
        self.stream = connect(&self.socket)?;
        self.since = Instant::now();
        Ok(())
    }

    /// What became of it.
    pub(crate) fn told(self) -> MuteTold {
        self.told
    }
}

fn connect(socket: &Path) -> Result<UnixStream> {
    let stream = subscribe(socket, "never reads")?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
