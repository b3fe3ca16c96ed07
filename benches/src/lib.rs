//! Latency, load, quality and speech benches: what they share.
#[cfg(feature = "speech")]
pub mod agent;
pub mod callers;
pub mod cpu;
pub mod flood;
pub mod histogram;
pub mod process;
pub mod sipp;
pub mod timeline;
