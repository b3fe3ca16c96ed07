//! The writing end of the voice, on the control thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::Producer;

use super::{BargeIn, Generation, Mark, MarkKind, PLAYED_BITS, Position, Shared, VOICE_SAMPLES, WriteResult};
use crate::codec::to_i16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    None,
    /// Started, nothing written yet.
    Fresh,
    /// Its start mark is in the ring.
    Open,
}

/// The writing end of the agent's voice. `Send`; lives on the control thread.
#[derive(Debug)]
pub struct Voice {
    samples: Producer<i16>,
    marks: Producer<Mark>,
    shared: Arc<Shared>,
    place: u64,
    generation: u64,
    response: Response,
    halted: bool,
    written_since_flush: usize,
    turn_began_at: u64,
}

impl Voice {
    pub(super) fn new(samples: Producer<i16>, marks: Producer<Mark>, shared: Arc<Shared>) -> Self {
        Self {
            samples,
            marks,
            shared,
            place: 0,
            generation: 0,
            response: Response::None,
            halted: false,
            written_since_flush: 0,
            turn_began_at: 0,
        }
    }

    /// Starts a response and makes it the current one. A response that is still open ends as by
    /// [`end_response`](Self::end_response): what it has queued is said first.
    ///
    /// While the voice is halted the response exists, but takes no samples before [`resume`](Self::resume).
    pub fn start_response(&mut self) -> Generation {
        self.end_current();
        self.generation += 1;
        self.response = Response::Fresh;
        Generation(self.generation)
    }

    /// Queues samples (8 kHz, mono, [-1, 1]) of the current response. Never blocks; what is not accepted stays the
    /// caller's.
    pub fn write(&mut self, generation: Generation, samples: &[f32]) -> WriteResult {
        if self.halted {
            return WriteResult::Halted;
        }
        if generation.0 != self.generation || self.response == Response::None {
            return WriteResult::Stale;
        }
        if samples.is_empty() || self.samples.is_full() {
            return WriteResult::Accepted(0);
        }
        if self.response == Response::Fresh {
            if self.marks.slots() < 2 {
                return WriteResult::Accepted(0); // room for the end as well, always
            }
            self.mark(MarkKind::Start);
            self.response = Response::Open;
        }
        let wanted = samples.len().min(self.samples.slots());
        let Ok(chunk) = self.samples.write_chunk_uninit(wanted) else {
            return WriteResult::Accepted(0); // cannot be: the slots were just counted, and only we fill them
        };
        let accepted = chunk.fill_from_iter(samples.iter().map(|&sample| to_i16(sample)));
        self.place += accepted as u64;
        self.written_since_flush += accepted;
        WriteResult::Accepted(accepted)
    }

    /// Says that the response is complete. What is queued is still said; then `ResponseFinished` follows.
    pub fn end_response(&mut self, generation: Generation) {
        if generation.0 == self.generation {
            self.end_current();
        }
    }

    /// Stops the voice within one packet, fading over 20 ms, and discards what is queued. Nothing is taken or said
    /// before [`resume`](Self::resume).
    pub fn halt(&mut self) {
        self.halted = true;
        self.flush();
    }

    /// Ends a halt, and begins a new turn for [`Position::played_turn`]. The response that was cut does not come back.
    pub fn resume(&mut self) {
        self.halted = false;
        self.turn_began_at = self.shared.sent.load(Ordering::Acquire);
    }

    /// Stops what is being said as [`halt`](Self::halt) does, but takes the next response at once.
    pub fn clear(&mut self) {
        self.flush();
    }

    /// Lowers the voice (the caller may be speaking), or brings it back: by default 18 dB within 10 ms, and 30 ms back.
    pub fn duck(&mut self, ducked: bool) {
        self.shared.barge_in.duck(ducked);
    }

    /// How the voice is to give way from now on, a ramp or fade that is under way included.
    pub fn set_barge_in(&mut self, settings: &BargeIn) {
        self.shared.barge_in.set(settings);
    }

    /// Halts and clears so far: what a player that is made now is not meant by.
    #[must_use]
    pub fn flushes(&self) -> u32 {
        self.shared.barge_in.flushes()
    }

    /// Where the voice is now.
    #[must_use]
    pub fn position(&self) -> Position {
        let playing = self.shared.playing.load(Ordering::Acquire);
        let low_bits = playing >> PLAYED_BITS;
        let span = 1_u64 << (64 - PLAYED_BITS);
        // the generation that is playing is the newest one up to ours that has these low bits
        let behind = self.generation.wrapping_sub(low_bits) % span;
        let sent = self.shared.sent.load(Ordering::Acquire);
        let in_flight = u64::from(self.shared.in_flight.load(Ordering::Acquire));
        Position {
            generation: Generation(self.generation.saturating_sub(behind)),
            played: (playing & ((1 << PLAYED_BITS) - 1)).saturating_sub(in_flight),
            played_turn: sent.saturating_sub(self.turn_began_at).saturating_sub(in_flight),
            queued: self.queued(),
            halted: self.halted,
        }
    }

    /// Samples that wait to be said.
    #[must_use]
    pub fn queued(&self) -> usize {
        let in_ring = VOICE_SAMPLES.saturating_sub(self.samples.slots());
        in_ring.min(self.written_since_flush) // what the reader has yet to throw away does not count
    }

    fn end_current(&mut self) {
        match self.response {
            Response::Open => self.mark(MarkKind::End),
            // an empty response still has a start and an end to be told about, if there is room to tell
            Response::Fresh if !self.halted && self.marks.slots() >= 2 => {
                self.mark(MarkKind::Start);
                self.mark(MarkKind::End);
            }
            Response::Fresh | Response::None => {}
        }
        self.response = Response::None;
    }

    fn flush(&mut self) {
        self.response = Response::None;
        self.generation += 1;
        self.written_since_flush = 0;
        self.shared.flush_to.store(self.place, Ordering::Release);
        self.shared.barge_in.note_flush();
    }

    fn mark(&mut self, kind: MarkKind) {
        let mark = Mark { place: self.place, generation: self.generation, kind };
        if self.marks.push(mark).is_ok() {
            self.place += 1;
        }
    }
}
