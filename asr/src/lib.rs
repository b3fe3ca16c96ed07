//! Ears for telephone calls: speech detection, turns, Whisper.
//!
//! Caller samples (8 kHz mono `f32`) come in through one `rtrb` ring a call; what was said comes out as
//! [`EarsEvent`]s. This crate knows nothing of RTP or SIP.
//!
//! ```text
//! ring ─> listener thread: [vad] ─> [turn] ─> jobs ─> [queue] ─> N workers: [resample] ─> [whisper] ─> [text]
//!          (one for all calls)                                   (one state each)             │
//!              └──────────────────────────── EarsEvent <─────────────────────────────────────┘
//! ```
//!
//! What holds everywhere in here:
//!
//! - **Time is the stream's own sample clock**: 0 is the first sample of the call's media, lost samples are
//!   counted in, and no wall clock decides what was said. Feeding faster than real time gives the same words.
//! - **Every queue is bounded** and hearing never stops the phone:
//!
//!   | queue | bound | when full |
//!   |---|---|---|
//!   | caller's ring | the producer's | producer drops and counts; the listener keeps the clock right |
//!   | audio kept a call | pre-roll, or one utterance ([`TurnPolicy::max_utterance`]) | the utterance is cut |
//!   | jobs a call | 1 partial, 1 eager, [`MAX_FINALS_PER_STREAM`] finals | newest partial wins; for finals the listener stops reading that call's ring, so the loss is counted there |
//!   | events | [`EVENT_QUEUE`] | the listener waits (the rings take the loss) |
//!
//! - **Each utterance gets exactly one [`EarsEvent::Final`]**, in order, even when nothing was understood (then its
//!   text is empty) and even when a worker died over it.
//! - **Nothing is invented**: silence, noise and tones give no text ([`text`] holds the guards).
//! - **Under load partials go first**, then new calls are unwanted ([`Ears::load`]); finals never go.
//!
//! At a short pause an utterance is decoded on speculation ([`EarsEvent::Eager`]); what its text says decides how long the
//! silence may last ([`phrase`], [`TurnPolicy`]), and whether the agent is interrupted ([`BargeIn`]). A call's recogniser
//! may be another one: a server ([`http`]), or a client that pushes text ([`Ears::push_text`]).
//!
//! ```no_run
//! use mr_sip_asr::{Ears, EarsConfig, EarsEvent, StreamId, model};
//! use std::{path::Path, sync::Arc};
//!
//! let model = model::find("telephone-en", Path::new("/var/lib/mr-sip/models"))?;
//! let ears = Ears::start(EarsConfig::new(model), || { /* wake the loop that calls try_recv */ })?;
//! let (mut phone, samples) = rtrb::RingBuffer::new(8_000);
//! ears.add(StreamId(1), samples, Arc::default())?;
//! phone.push_entire_slice(&[0.0; 160]).ok(); // every 20 ms, from the media thread
//! ears.remove(StreamId(1))?;
//! loop {
//!     match ears.try_recv() {
//!         Some(EarsEvent::Final { text, start, .. }) => println!("{start:?} {text}"),
//!         Some(EarsEvent::Closed { .. }) => break,
//!         _ => {}
//!     }
//! }
//! # Ok::<(), mr_sip_asr::AsrError>(())
//! ```
//!
//! [`vad`], [`turn`], [`phrase`], [`words`], [`queue`] and [`text`] are pure and can be used and tested alone.

#![deny(missing_docs)]

pub mod announcement;
mod ears;
mod error;
mod event;
mod hearing;
pub mod http;
mod interruption;
mod listener;
mod load;
pub mod model;
pub mod phrase;
mod policy;
mod pushed;
pub mod queue;
pub mod recognizer;
pub mod resample;
pub mod text;
mod transcriber;
pub mod turn;
pub mod vad;
pub mod whisper;
pub mod words;

pub use ears::{EVENT_QUEUE, Ears, EarsConfig, MAX_FINALS_PER_STREAM};
pub use error::AsrError;
pub use event::{EarsEvent, RestartCause, StreamId};
pub use load::{EarsLoad, LoadLevel};
pub use policy::{BargeIn, CallSettings, Recognition, TurnPolicy};
pub use pushed::PushedText;
pub use whisper::transcribe_offline;

/// Samples a second of everything that enters this crate by a ring.
pub const STREAM_RATE_HZ: u32 = 8_000;
/// Samples a second that Whisper wants.
pub const WHISPER_RATE_HZ: u32 = 16_000;
