//! Signal processing that changes clocks: [`Resampler`] at the edges, [`crossing`] between two running clocks,
//! [`halfband`] between a call and a codec of twice its rate. And one thing that changes levels: the [`limiter`].

pub mod crossing;
pub mod halfband;
pub mod limiter;
mod resampler;
mod steering;

pub use resampler::{Resampler, ResamplerError};
