//! A blocking client: for the command line, for tests and for small programs.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use mr_sip_control::client::Message;
//! use mr_sip_control::types::{CallDial, Hello};
//! use mr_sip_control::{Client, socket};
//!
//! let hello = Hello { client: "example".into(), ..Hello::default() };
//! let mut client = Client::connect(&socket::default_path(), hello)?;
//! let dialled = client.request(&CallDial { to: "sip:100@example.org".into(), ..CallDial::default() })?;
//! let deadline = Instant::now() + Duration::from_secs(60);
//! while let Some(message) = client.next_message(deadline)? {
//!     if let Message::Event(notification) = message {
//!         println!("{}: {:?}", dialled.call, notification.event);
//!     }
//! }
//! # Ok::<(), mr_sip_control::ControlError>(())
//! ```

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::ControlError;
use crate::frame::{self, Decoder, Frame};
use crate::types::{
    ApiError, Call, CallList, Encoding, Hello, HelloReply, Id, Incoming, Notification, PROTOCOL, Request,
    request_message,
};

/// How long an answer may take. The daemon answers at once; this is for one that hangs.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the daemon sends without being asked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// An event.
    Event(Notification),
    /// A subscription's audio.
    Audio {
        /// The channel that `media.subscribe` gave.
        channel: u16,
        /// How the samples are written.
        encoding: Encoding,
        /// The daemon's monotonic clock at the first sample.
        monotonic_ns: u64,
        /// Whole samples.
        samples: Vec<u8>,
    },
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: Decoder,
    /// Messages that came while an answer was waited for.
    waiting: VecDeque<Message>,
    next_id: i64,
    hello: HelloReply,
    scratch: Vec<u8>,
}

/// What one frame from the daemon is.
enum Received {
    Message(Message),
    Answer(Option<Id>, Result<Value, ApiError>),
    Ignored,
}

impl Client {
    /// Connects and says hello; the protocol's version is filled in.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`] when nobody listens, [`ControlError::NotAllowed`], and what [`Self::request`] returns.
    pub fn connect(path: &Path, hello: Hello) -> Result<Self, ControlError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::NotRunning(path.to_owned()),
            ErrorKind::PermissionDenied => ControlError::NotAllowed(path.to_owned()),
            ErrorKind::InvalidInput => ControlError::PathTooLong(path.to_owned()),
            _ => ControlError::Io(error),
        })?;
        let mut client = Self {
            stream,
            decoder: Decoder::framed(),
            waiting: VecDeque::new(),
            next_id: 0,
            hello: HelloReply {
                server: String::new(),
                version: String::new(),
                protocol: PROTOCOL,
                features: Vec::new(),
                session: 0,
                token: String::new(),
                resumed: Vec::new(),
            },
            scratch: Vec::new(),
        };
        client.hello = client.request(&Hello { protocol: PROTOCOL, ..hello })?;
        Ok(client)
    }

    /// What the daemon answered to hello: versions, session, token.
    pub fn hello(&self) -> &HelloReply {
        &self.hello
    }

    /// Asks and waits for the answer, at most [`ANSWER_TIMEOUT`]. Events that come meanwhile wait for [`Self::next_message`].
    ///
    /// # Errors
    /// [`ControlError::Api`] with what the daemon answered, [`ControlError::TimedOut`], [`ControlError::Closed`].
    pub fn request<R: Request>(&mut self, request: &R) -> Result<R::Reply, ControlError> {
        self.next_id += 1;
        let id = Id::Number(self.next_id);
        let text =
            request_message(&id, R::NAME, request).map_err(|error| ControlError::Unexpected(error.to_string()))?;
        self.scratch.clear();
        frame::write_json(&mut self.scratch, &text)?;
        self.write_scratch()?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.receive(deadline)? {
                Some(Received::Message(message)) => self.waiting.push_back(message),
                Some(Received::Answer(Some(answered), outcome)) if answered == id => {
                    let wrong = |error| ControlError::Unexpected(format!("the answer to {}: {error}", R::NAME));
                    return serde_json::from_value(outcome?).map_err(wrong);
                }
                // the daemon could not read what we sent
                Some(Received::Answer(None, Err(error))) => return Err(error.into()),
                Some(Received::Answer(..) | Received::Ignored) => {}
                None => {
                    let seconds = ANSWER_TIMEOUT.as_secs();
                    return Err(ControlError::TimedOut { method: R::NAME.into(), seconds });
                }
            }
        }
    }

    /// All calls that have not ended, page by page. Those that come and go meanwhile are in it or not.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn calls(&mut self) -> Result<Vec<Call>, ControlError> {
        let mut calls: Vec<Call> = Vec::new();
        loop {
            let after = calls.last().map(|call| call.call);
            let page = self.request(&CallList { after, limit: None })?;
            let done = !page.more || page.calls.is_empty();
            calls.extend(page.calls);
            if done {
                return Ok(calls);
            }
        }
    }

    /// Sends one frame of audio on a channel of `response.start`: whole samples, at most [`frame::MAX_SAMPLE_BYTES`].
    ///
    /// # Errors
    /// [`ControlError::FrameTooLong`], [`ControlError::BadAudio`], [`ControlError::Closed`].
    pub fn send_audio(
        &mut self,
        channel: u16,
        encoding: Encoding,
        generation: u64,
        monotonic_ns: u64,
        samples: &[u8],
    ) -> Result<(), ControlError> {
        self.scratch.clear();
        frame::write_audio(&mut self.scratch, channel, encoding, generation, monotonic_ns, samples)?;
        self.write_scratch()
    }

    /// The next event or audio; `None` when there is none until `deadline`.
    ///
    /// # Errors
    /// [`ControlError::Closed`], [`ControlError::Unexpected`].
    pub fn next_message(&mut self, deadline: Instant) -> Result<Option<Message>, ControlError> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(Some(message));
        }
        loop {
            match self.receive(deadline)? {
                Some(Received::Message(message)) => return Ok(Some(message)),
                Some(Received::Answer(None, Err(error))) => return Err(error.into()),
                Some(Received::Answer(..) | Received::Ignored) => {}
                None => return Ok(None),
            }
        }
    }

    /// Ends the connection without waiting for anything; the session can be resumed by its token.
    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn write_scratch(&mut self) -> Result<(), ControlError> {
        self.stream.write_all(&self.scratch).map_err(closed_or_io)
    }

    /// One frame, `None` when there is none until `deadline`.
    fn receive(&mut self, deadline: Instant) -> Result<Option<Received>, ControlError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return read_frame(frame).map(Some);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // a timeout of zero would mean to wait for ever; and a millisecond lets what is there already be read
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.stream.read(self.decoder.space()) {
                Ok(0) => return Err(ControlError::Closed),
                Ok(count) => self.decoder.filled(count),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if Instant::now() >= deadline => {
                        return Ok(None);
                    }
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(closed_or_io(error)),
                },
            }
        }
    }
}

/// For polling together with other descriptors. Call [`Client::next_message`] with a deadline of now until `None` first: messages may
/// have been read already.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn closed_or_io(error: std::io::Error) -> ControlError {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => ControlError::Closed,
        _ => ControlError::Io(error),
    }
}

fn read_frame(frame: Frame<'_>) -> Result<Received, ControlError> {
    let text = match frame {
        Frame::Json(text) => text,
        Frame::Audio(audio) => {
            return Ok(Received::Message(Message::Audio {
                channel: audio.channel(),
                encoding: audio.encoding(),
                monotonic_ns: audio.monotonic_ns(),
                samples: audio.samples().to_vec(),
            }));
        }
    };
    match Incoming::parse(text) {
        Ok(Incoming::Answer { id, outcome }) => Ok(Received::Answer(id, outcome)),
        Ok(Incoming::Request { method, params, .. }) => {
            match Notification::parse(&method, params) {
                Ok(Some(notification)) => Ok(Received::Message(Message::Event(notification))),
                // newer than we are
                Ok(None) => Ok(Received::Ignored),
                Err(error) => Err(ControlError::Unexpected(error)),
            }
        }
        Err((_, error)) => Err(ControlError::Unexpected(error.message)),
    }
}
