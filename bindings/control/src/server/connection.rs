//! One connection: its socket, what has come of the next frame, and what waits to be written.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use super::output::{Output, TooSlow};
use super::session::ClientId;
use crate::error::ControlError;
use crate::frame::{self, Decoder, MAX_PAYLOAD, Mode};
use crate::types::Encoding;

/// This much is queued before it is written.
const QUEUE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    registry: Arc<Registry>,
    token: Token,
    /// The socket took not all: it is watched for room. Else it is not, for every read of the client would make some.
    full: bool,
    pub(super) decoder: Decoder,
    pub(super) output: Output,
    /// Counts connections, so that an answer does not reach whoever got the slot next.
    pub(super) serial: u64,
    pub(super) client: Option<ClientId>,
    /// The socket may hold more: told by the poll, taken back by `WouldBlock`.
    pub(super) readable: bool,
    /// Requests that the daemon has not answered yet.
    pub(super) unanswered: usize,
    /// The client has said all it will say, but may still read (JSON lines only: `echo ... | socat`).
    pub(super) half_closed: bool,
    /// Events wait to be written, and the connection stands in the server's list of those.
    pub(super) unsent: bool,
    /// To be removed: why.
    pub(super) dead: Option<String>,
}

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes,
    Nothing,
    End,
}

impl Connection {
    /// A connection that is watched for what comes.
    pub(super) fn new(stream: UnixStream, registry: Arc<Registry>, token: Token, serial: u64) -> Self {
        Self {
            stream,
            registry,
            token,
            full: false,
            decoder: Decoder::new(),
            output: Output::default(),
            serial,
            client: None,
            readable: true,
            unanswered: 0,
            half_closed: false,
            unsent: false,
            dead: None,
        }
    }

    /// One read into the decoder.
    pub(super) fn read(&mut self) -> io::Result<Got> {
        loop {
            match self.stream.read(self.decoder.space()) {
                Ok(0) => return Ok(Got::End),
                Ok(count) => {
                    self.decoder.filled(count);
                    return Ok(Got::Bytes);
                }
                Err(none) if none.kind() == ErrorKind::WouldBlock => return Ok(Got::Nothing),
                Err(again) if again.kind() == ErrorKind::Interrupted => {}
                Err(broken) => return Err(broken),
            }
        }
    }

    /// Queues one JSON text and writes what the socket takes.
    pub(super) fn send_json(&mut self, mode: Option<Mode>, text: &[u8]) -> Result<(), ControlError> {
        self.queue_json(mode, text)?;
        self.flush();
        Ok(())
    }

    /// Queues one JSON text, to be written with others like it. More than [`QUEUE`] bytes are written at once, so that a
    /// client that reads is never taken for one that does not.
    pub(super) fn queue_json(&mut self, mode: Option<Mode>, text: &[u8]) -> Result<(), ControlError> {
        if text.len() > MAX_PAYLOAD {
            return Err(ControlError::MessageTooLong(text.len()));
        }
        match self.output.control() {
            Ok(out) if mode == Some(Mode::Lines) => {
                // serde_json writes no newline inside a text
                out.extend_from_slice(text);
                out.push(b'\n');
            }
            Ok(out) => frame::write_json(out, text)?,
            Err(TooSlow) => self.die("it does not read what it is sent"),
        }
        if self.output.queued() > QUEUE {
            self.flush();
        }
        Ok(())
    }

    /// Queues one audio frame and writes what the socket takes; says how many older ones gave way.
    pub(super) fn send_audio(
        &mut self,
        channel: u16,
        encoding: Encoding,
        generation: u64,
        monotonic_ns: u64,
        samples: &[u8],
    ) -> Result<u64, ControlError> {
        let mut bytes = Vec::new();
        frame::write_audio(&mut bytes, channel, encoding, generation, monotonic_ns, samples)?;
        let dropped = self.output.push_audio(bytes);
        self.flush();
        Ok(dropped)
    }

    pub(super) fn flush(&mut self) {
        if self.dead.is_some() {
            return;
        }
        if let Err(broken) = self.output.flush(&mut self.stream) {
            self.die(&broken.to_string());
            return;
        }
        let full = !self.output.is_empty();
        if full == self.full {
            return;
        }
        self.full = full;
        let interest = if full { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        // tells again of what is there already
        if let Err(error) = self.registry.reregister(&mut self.stream, self.token, interest) {
            self.die(&format!("it cannot be watched: {error}"));
        }
    }

    /// Marks the connection for removal; the first reason counts. What it was told before still goes out, if the socket takes it.
    pub(super) fn die(&mut self, why: &str) {
        if self.dead.is_none() {
            let _ = self.output.flush(&mut self.stream);
        }
        self.dead.get_or_insert_with(|| why.to_owned());
    }

    /// Whether it is to be removed now.
    pub(super) fn is_over(&self) -> bool {
        self.dead.is_some() || (self.half_closed && self.unanswered == 0 && self.output.is_empty())
    }
}
