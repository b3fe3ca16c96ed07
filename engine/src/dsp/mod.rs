//! Signal processing that changes clocks: [`Resampler`] at the edges, [`crossing`] between two running clocks.

pub mod crossing;
mod resampler;
mod steering;

pub use resampler::{Resampler, ResamplerError};
