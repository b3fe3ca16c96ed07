//! Latency, load, quality and speech benches.
