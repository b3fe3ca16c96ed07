//! Latency, load, quality and speech benches: what they share.
pub mod cpu;
pub mod histogram;
pub mod timeline;
