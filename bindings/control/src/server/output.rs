//! What waits to be written to one client: control messages, which are never lost, and audio, of which the oldest gives way.
//!
//! What must hold: frames are never torn, however little the client reads; memory is bounded by [`CONTROL_LIMIT`] plus one message
//! plus [`AUDIO_LIMIT`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

/// A client with this many bytes of control messages unread is disconnected.
pub(super) const CONTROL_LIMIT: usize = 1 << 20;
/// Audio beyond this many bytes unread drops the oldest: 16 s at 8000 Hz, s16.
pub(super) const AUDIO_LIMIT: usize = 256 * 1024;

/// The client reads too slowly; more than [`CONTROL_LIMIT`] bytes wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

#[derive(Debug, Default)]
pub(super) struct Output {
    // being written: whole frames, of which [written..] are still to go
    current: Vec<u8>,
    written: usize,
    // how much of `current` is control (all or nothing)
    current_is_control: bool,
    // whole frames that come next
    control: Vec<u8>,
    audio: VecDeque<Vec<u8>>,
    audio_bytes: usize,
}

impl Output {
    /// Where the next control message is to be appended, as a whole frame or line.
    pub(super) fn control(&mut self) -> Result<&mut Vec<u8>, TooSlow> {
        let waiting = self.control.len() + if self.current_is_control { self.current.len() - self.written } else { 0 };
        if waiting > CONTROL_LIMIT { Err(TooSlow) } else { Ok(&mut self.control) }
    }

    /// Queues an audio frame and says how many frames gave way.
    pub(super) fn push_audio(&mut self, frame: Vec<u8>) -> u64 {
        self.audio_bytes += frame.len();
        self.audio.push_back(frame);
        let mut dropped = 0;
        while self.audio_bytes > AUDIO_LIMIT && self.audio.len() > 1 {
            if let Some(oldest) = self.audio.pop_front() {
                self.audio_bytes -= oldest.len();
                dropped += 1;
            }
        }
        dropped
    }

    /// Bytes of control messages that no write was tried for yet.
    pub(super) fn queued(&self) -> usize {
        self.control.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.current.len() && self.control.is_empty() && self.audio.is_empty()
    }

    /// Writes until all is gone or the socket takes no more.
    pub(super) fn flush(&mut self, to: &mut impl Write) -> io::Result<()> {
        loop {
            if self.written == self.current.len() && !self.next() {
                return Ok(());
            }
            match to.write(&self.current[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(full) if full.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(again) if again.kind() == ErrorKind::Interrupted => {}
                Err(broken) => return Err(broken),
            }
        }
    }

    fn next(&mut self) -> bool {
        self.written = 0;
        self.current.clear();
        self.current_is_control = !self.control.is_empty();
        if self.current_is_control {
            std::mem::swap(&mut self.current, &mut self.control);
        } else if let Some(frame) = self.audio.pop_front() {
            self.audio_bytes -= frame.len();
            self.current = frame;
        }
        !self.current.is_empty()
    }
}
