//! Signal processing that changes clocks: [`Resampler`] at the edges, [`crossing`] between two running clocks.

pub mod crossing;
mod resampler;

pub use resampler::{Resampler, ResamplerError};
