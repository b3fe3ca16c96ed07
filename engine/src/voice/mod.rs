//! The agent's voice: what will be said, and the truth about what was said.
//!
//! [`Voice`] is the writing end, on the control thread; [`VoiceReader`] is the reading end, in the call on the media
//! thread. Between them are a ring of samples, a small ring of marks (a response starts, a response ends) and three
//! atomic numbers. Neither end waits for the other.
//!
//! # How old audio is kept from speaking
//!
//! Every sample and every mark ever written has a number, its *place*; places count up by one and are never used
//! again. The place is the generation tag: halting or clearing publishes one number, `flush_to`, the place that will be
//! written next, and the reader discards everything before it. A sample that was written before the halt has a smaller
//! place and one written after it has a larger one, whatever the interleaving, so nothing else has to travel with the
//! samples and there is no moment in which a torn pair of values could let old audio through. The writer refuses
//! samples for a response that is not the current one, so that a chunk still in flight outside the engine ends there.
//!
//! Invariants: `flush_to` and the reader's place only grow; a mark is pushed before the samples that follow it, and the
//! reader looks at the samples first, so it never runs past a mark; an open response always has a free slot for its
//! end mark.
//!
//! Samples lie in the ring as 16 bits, which is more than any telephone codec carries and half the memory of `f32`.

mod duck;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rtrb::RingBuffer;

pub use duck::BargeIn;
use duck::SharedBargeIn;
pub(crate) use duck::{Barge, Duck};
pub use reader::VoiceReader;
pub use writer::Voice;

/// How much can wait to be said: 8 s at 8 kHz. More is refused, which is the back-pressure that the writer feels. It is
/// memory that every call holds (128 kB), so what waits longer does so elsewhere, while there is any.
pub const VOICE_SAMPLES: usize = 8 * 8_000;

/// Starts and ends of responses that can wait; a response that finds no room is refused like samples are.
const MARKS: usize = 512;

/// Fade-out at halt and clear as it is by default: 20 ms at 8 kHz.
pub const FADE_SAMPLES: u32 = 160;

/// Ramp-in after an underrun: 2.5 ms, so that the voice does not start again with a click.
const RAMP_SAMPLES: u32 = 20;

/// What is left of the last sample at each next one when the voice stops within a word: silent after 5 ms.
const TAIL_DECAY: f32 = 0.9;

/// Comfort noise under a response that has run dry: -60 dBFS, the order of a quiet line.
const UNDERRUN_NOISE_RMS: f32 = 0.001;

/// Bits of `Shared::playing` that count samples; the others hold the low bits of the generation.
const PLAYED_BITS: u32 = 40;

/// The number of a response within a call. Only grows; halting and clearing raise it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// What became of written samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what was not accepted is still the caller's"]
pub enum WriteResult {
    /// So many of the samples, from the first, were taken; the ring has no room for the others now.
    Accepted(usize),
    /// The generation is not the current one: it was cleared, halted, ended, or another has started since.
    Stale,
    /// The voice is halted; nothing is taken until [`Voice::resume`].
    Halted,
}

/// How far the voice has got. Samples are of 8 kHz and were really sent: put into a packet. In JACK mode what is on its
/// way through the ports is subtracted, so that the last few milliseconds of a response count only while they last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The response that is being sent, or was sent last.
    pub generation: Generation,
    /// Samples of that response that were sent.
    pub played: u64,
    /// Samples of all responses that were sent since the last [`Voice::resume`], or since the call began.
    pub played_turn: u64,
    /// Samples that wait to be sent.
    pub queued: usize,
    /// Whether the voice is halted.
    pub halted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    place: u64,
    generation: u64,
    kind: MarkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarkKind {
    Start,
    End,
}

#[derive(Debug, Default)]
struct Shared {
    /// Everything before this place is to be discarded. Written by `Voice`.
    flush_to: AtomicU64,
    /// Written by `Voice`.
    barge_in: SharedBargeIn,
    /// Generation (low 24 bits) above, samples sent of it below; one number, so that they are never torn apart.
    playing: AtomicU64,
    /// Samples sent since the call began. Written by `VoiceReader`.
    sent: AtomicU64,
    /// Of these, samples that are still on their way through JACK. Written by `VoiceReader`.
    in_flight: AtomicU32,
}

/// Makes the two ends of one call's voice.
#[must_use]
pub fn voice() -> (Voice, VoiceReader) {
    let (samples_in, samples_out) = RingBuffer::new(VOICE_SAMPLES);
    let (marks_in, marks_out) = RingBuffer::new(MARKS);
    let shared = Arc::new(Shared::default());
    (Voice::new(samples_in, marks_in, shared.clone()), VoiceReader::new(samples_out, marks_out, shared))
}
