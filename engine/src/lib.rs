//! Real-time media for telephone calls: RTP, playout, the agent's voice, JACK. No SIP, no text.
//!
//! ```text
//! caller --RTP--> socket -> decrypt, latch -> playout (reorder, adapt, decode, conceal) -> [effects] -+
//!                                 +-------------------------------------------------------------------+
//!                                 +-> ring -> JACK port cN:caller
//!                                 +-> ring -> recorder (left)
//!                                 +-> [cleaning] -+-> ring -> ears (speech recognition)
//!                                        ^        +-> rings -> subscribers
//!                                        | what is sent, for the echo control
//!
//! agent --> Voice --> voice ring (8 s) -> VoiceReader -+- direct -------------------------------------------+
//!                                                      +-> JACK port cN:agent -(patchable)-> cN:to_phone ---+
//! caller <--RTP-- socket <- encrypt <- encode <- limit <- [effects] <- + players, bridged calls <------------+
//!                                        +-> ring -> recorder (right)
//! ```
//!
//! [`Engine`] is the whole of it: it owns the media threads, hands out RTP ports ([`ReservedPort`]), and makes a
//! [`CallHandle`] of each [`CallSetup`]. [`call::MediaCall`] is one call without threads, sockets or clocks, for tests and
//! benches.
//!
//! # Invariants
//! - Samples are `f32` mono in [-1, 1] at 8 kHz inside a call, whatever the codec samples at. Every conversion happens
//!   once, at the edge.
//! - A media thread never allocates, frees, locks, logs, panics, or waits for anything but its clock. What it needs is
//!   built elsewhere and moved in by a ring; what it is done with moves out by a ring. [`realtime::GuardedAllocator`]
//!   counts what breaks this.
//! - Time is [`clock::Time`] and comes in as a parameter, everywhere below the media thread.
//! - A call never depends on what listens to it: ears, recorder, subscribers, JACK and the control threads may stall or die.
//!
//! # Queues
//! | from -> to | carries | holds | when full |
//! |---|---|---|---|
//! | engine -> media thread | new calls | one a call | `EngineError::Busy` |
//! | handle -> call | updates, keys, subscribers | 80 | `EngineError::Busy` |
//! | media thread -> engine | events | 32 a call | stay in the call (32 more), then lost and counted |
//! | media thread -> engine | ended calls, taps, replaced parts | two a call | tried again at the next tick |
//! | voice -> call | samples, and marks of responses | 8 s, 512 | `WriteResult::Accepted` says how much was taken |
//! | player thread -> call | samples of a file | 2 s a player, 2 players | the thread comes back in 50 ms |
//! | call -> ears, subscribers | caller's samples | 2 s | newest lost, counted |
//! | call -> recorder | frames of both directions | 5 s | silence in the file, counted |
//! | call <-> JACK | samples | 200 ms | see [`jack`] |
#![deny(missing_docs)]

use std::time::Duration;

mod bridge;
pub mod call;
pub mod clean;
pub mod clock;
pub mod codec;
pub mod detect;
pub mod dsp;
pub mod dtmf;
pub mod effects;
mod engine;
mod error;
mod event;
mod icmp;
pub mod jack;
pub mod large_blocks;
mod media_thread;
mod net;
mod noise;
pub mod play;
pub mod playout;
mod ports;
pub mod realtime;
pub mod record;
pub mod rtp;
pub mod stats;
pub mod tap;
mod voice;

pub use bridge::{Link, Source};
pub use call::{MediaFault, MediaParams};
pub use clean::CleanConfig;
pub use codec::Codec;
pub use detect::{CallTone, DetectConfig, Party};
pub use dtmf::{DigitTiming, TelephoneEvent};
pub use effects::EffectChain;
pub use engine::{CallHandle, CallSetup, CallSummary, Engine, EngineConfig};
pub use error::EngineError;
pub use event::{CallId, KeysBy, MediaEvent, RecordingNews, RecordingState};
pub use jack::{JackConfig, JackEvent, JackState};
pub use net::NetIo;
pub use play::{NamedTone, PlayEnd, PlayError, PlayId, PlayMode, PlayOptions, Region, Segment, Tone};
pub use ports::ReservedPort;
pub use realtime::{Grant, Report};
pub use rtp::srtp::{MasterKey, SrtpParams, SrtpSuite};
pub use stats::{CallStats, EngineStats, ThreadStats};
pub use tap::EarTap;
pub use voice::{BargeIn, FADE_SAMPLES, Generation, Position, VOICE_SAMPLES, Voice, VoiceReader, WriteResult, voice};

/// The clock of the media threads.
pub const TICK: Duration = Duration::from_millis(5);

/// Samples a call moves on every tick of the media thread: 5 ms at 8 kHz.
pub const TICK_SAMPLES: usize = 40;

/// Samples of a packet of 20 ms, what every telephone expects and what is sent unless another length was agreed on.
pub const PACKET_SAMPLES: usize = 160;
