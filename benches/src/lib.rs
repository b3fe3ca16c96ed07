//! Latency, load, quality and speech benches: what they share.
pub mod histogram;
