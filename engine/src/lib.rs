//! Real-time media for telephone calls.
#![deny(missing_docs)]

pub mod dsp;
pub mod jack;

/// Samples a call moves on every tick of the media thread: 5 ms at 8 kHz.
pub const TICK_SAMPLES: usize = 40;
