//! Streams to messages: where one message ends and the next begins on TCP and TLS (RFC 3261 sections 7.5 and 18.3).
//!
//! A stream whose next message cannot be found any more is lost for good: every [`FrameError`] means that the connection is to be
//! closed, and a [`Framer`] that has given one gives nothing else.
//!
//! What must hold: whatever the split into reads, the same messages come out; the work is linear in the bytes that came, even if
//! they come one by one; and a framer whose frames are taken after each push holds less than one longest message and one push.

use std::mem;

use super::{
    headers::full_name,
    limits::{MAX_BODY, MAX_HEAD},
    read::{HeadLines, read_length},
};

/// The longest value of a Content-Length that is looked at, unfolded: leading zeros and blanks are allowed, but not for ever.
const MAX_LENGTH_TEXT: usize = 64;
/// An empty buffer larger than this is given back, so that one long message does not hold its memory for as long as the
/// connection is up.
const KEEP_CAPACITY: usize = 16 * 1024;

/// What stands on a stream. Whatever comes is a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The bytes of one whole message, for [`super::read`].
    Message(Vec<u8>),
    /// CRLF CRLF between messages, to be answered with one CRLF (RFC 5626 section 4.4.1).
    Ping,
    /// One CRLF between messages: the answer to a ping of ours, or a line end too many after a body.
    ///
    /// A ping that comes in two reads is told as a pong and then, with its second half, as a ping.
    Pong,
}

/// Why a stream cannot be followed any further: it is to be closed (case 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The headers do not end within [`MAX_HEAD`] bytes.
    #[error("a message's headers are longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// Section 20.14: on a stream every message has a Content-Length.
    #[error("a message on a stream has no Content-Length")]
    NoLength,
    /// It is negative, no number at all, or stands twice with two values.
    #[error("a message's Content-Length cannot be read")]
    BadLength,
    /// The body would be longer than [`MAX_BODY`].
    #[error("a message's body is longer than {MAX_BODY} bytes")]
    BodyTooLong,
}

/// Finds messages in a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    /// What came and was not given out yet, from `begin`.
    buffer: Vec<u8>,
    /// Where the message being collected begins; at most the buffer's length.
    begin: usize,
    /// Looked at for the end of the head up to here. In `begin..=buffer.len()`.
    seen: usize,
    /// Where the line begins that `seen` is in. In `begin..=seen`.
    line: usize,
    /// Where the message ends, once its head is whole.
    end: Option<usize>,
    /// The last thing that came was a single CRLF: with another one it is a ping.
    half_ping: bool,
    failed: Option<FrameError>,
}

impl Framer {
    /// At the beginning of a stream.
    pub(crate) fn new() -> Framer {
        Framer::default()
    }

    /// Takes in what was read, however little. Take the frames with [`Framer::next`] after each push: only that bounds the memory.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.compact();
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next frame that is whole; `None` until more bytes come.
    ///
    /// # Errors
    /// The stream cannot be followed; from then on always the same error.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        match self.failed.map_or_else(|| self.find(), Err) {
            Ok(frame) => Ok(frame),
            Err(error) => {
                (self.buffer, self.begin, self.seen, self.line) = (Vec::new(), 0, 0, 0);
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// Bytes that wait for the rest of their message.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len() - self.begin
    }

    /// The beginning of a message has come and its end has not: whoever sent it has to go on soon (case 18).
    pub(crate) fn is_mid_message(&self) -> bool {
        self.buffered() > 0
    }

    fn find(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.seen == self.begin
            && let Some(keep_alive) = self.skip_line_ends()
        {
            return Ok(Some(keep_alive));
        }
        if self.end.is_none() {
            self.end = self.find_end()?;
        }
        let Some(end) = self.end.filter(|end| *end <= self.buffer.len()) else { return Ok(None) };
        let message = self.buffer.get(self.begin..end).unwrap_or_default().to_vec();
        self.begin_at(end);
        self.half_ping = false;
        Ok(Some(Frame::Message(message)))
    }

    /// Takes line ends in front of a message. Only pairs of CR and LF are keep-alives; a lone LF is nothing.
    fn skip_line_ends(&mut self) -> Option<Frame> {
        loop {
            let (frame, length) = match self.buffer.get(self.begin..)? {
                [b'\r', b'\n', b'\r', b'\n', ..] if !self.half_ping => (Some(Frame::Ping), 4),
                [b'\r', b'\n', ..] if self.half_ping => (Some(Frame::Ping), 2),
                // perhaps half a ping, and the next byte tells; without one nobody can know whether more will come
                [b'\r', b'\n', b'\r'] => return None,
                [b'\r', b'\n', ..] => (Some(Frame::Pong), 2),
                [b'\n', ..] => (None, 1),
                _ => return None,
            };
            self.begin_at(self.begin + length);
            if frame.is_some() {
                self.half_ping = frame == Some(Frame::Pong);
                return frame;
            }
        }
    }

    /// Looks for the empty line, from where the last search stopped, and then for the length that the head names.
    fn find_end(&mut self) -> Result<Option<usize>, FrameError> {
        // a CR or CRLF CR that may become a keep-alive is looked at again from its beginning
        if matches!(self.buffer.get(self.begin..), Some([] | [b'\r'] | [b'\r', b'\n', b'\r'])) {
            return Ok(None);
        }
        while let Some(length) = self.buffer.get(self.seen..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
            let end = self.seen + length;
            let empty = matches!(self.buffer.get(self.line..end), Some([] | [b'\r']));
            (self.seen, self.line) = (end + 1, end + 1);
            if self.seen - self.begin > MAX_HEAD {
                return Err(FrameError::HeadTooLong);
            }
            if empty {
                let head = self.buffer.get(self.begin..self.seen).unwrap_or_default();
                return Ok(Some(self.seen + content_length(head)?));
            }
        }
        self.seen = self.buffer.len();
        if self.buffered() > MAX_HEAD { Err(FrameError::HeadTooLong) } else { Ok(None) }
    }

    fn begin_at(&mut self, place: usize) {
        (self.begin, self.seen, self.line, self.end) = (place, place, place, None);
        if self.begin == self.buffer.len() {
            (self.begin, self.seen, self.line) = (0, 0, 0);
            if self.buffer.capacity() > KEEP_CAPACITY { drop(mem::take(&mut self.buffer)) } else { self.buffer.clear() }
        }
    }

    /// Drops what was given out, once it is the greater part: so each byte is moved at most once on average.
    fn compact(&mut self) {
        if self.begin * 2 > self.buffer.len() {
            self.buffer.drain(..self.begin);
            self.seen -= self.begin;
            self.line -= self.begin;
            self.end = self.end.map(|end| end - self.begin);
            self.begin = 0;
        }
    }
}

/// The length that a head names, however it is folded, shortened or repeated.
fn content_length(head: &[u8]) -> Result<usize, FrameError> {
    let mut found = None;
    // the unfolded value of the header that the line belongs to, if that is the length
    let mut value: Option<Vec<u8>> = None;
    for line in HeadLines::new(head).skip(1) {
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            if let Some(value) = &mut value {
                append(value, line)?;
            }
            continue;
        }
        take_length(value.take(), &mut found)?;
        let mut parts = line.splitn(2, |b| *b == b':');
        let (Some(name), Some(first)) = (parts.next(), parts.next()) else { continue };
        let name = std::str::from_utf8(name.trim_ascii_end()).unwrap_or_default();
        if full_name(name).eq_ignore_ascii_case("Content-Length") {
            let mut text = Vec::new();
            append(&mut text, first)?;
            value = Some(text);
        }
    }
    take_length(value, &mut found)?;
    let length = found.ok_or(FrameError::NoLength)?;
    if length > MAX_BODY { Err(FrameError::BodyTooLong) } else { Ok(length) }
}

fn append(value: &mut Vec<u8>, line: &[u8]) -> Result<(), FrameError> {
    let line = line.trim_ascii();
    if value.len() + line.len() >= MAX_LENGTH_TEXT {
        return Err(FrameError::BadLength);
    }
    if !value.is_empty() && !line.is_empty() {
        value.push(b' ');
    }
    value.extend_from_slice(line);
    Ok(())
}

fn take_length(value: Option<Vec<u8>>, found: &mut Option<usize>) -> Result<(), FrameError> {
    let Some(value) = value else { return Ok(()) };
    let text = std::str::from_utf8(&value).map_err(|_| FrameError::BadLength)?;
    let length = read_length(text).ok_or(FrameError::BadLength)?;
    if found.is_some_and(|f| f != length) {
        return Err(FrameError::BadLength);
    }
    *found = Some(length);
    Ok(())
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
