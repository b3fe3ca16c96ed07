//! Signal processing that changes clocks: [`Resampler`] at the edges, [`crossing`] between two running clocks,
//! [`halfband`] between a call and a codec of twice its rate.

pub mod crossing;
pub mod halfband;
mod resampler;
mod steering;

pub use resampler::{Resampler, ResamplerError};
