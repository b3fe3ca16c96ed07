//! What the two ends of a crossing know of each other: stamps of position and time, the margin, and what was counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::super::steering::Steering;
use super::WIRE_HZ;

/// The growth is taken back by a sample (1/8 ms) every 2 s, a step within a minute: slower than it can be heard, and a
/// machine that stalls for as long again is heard once a minute at most.
const FORGET_S: f64 = 2.0;
/// What a dry spell adds to the margin: 4 ms.
const MARGIN_STEP: u32 = 32;
/// The margin grows no further than this: 24 ms. A machine that stalls longer needs help that buffers cannot give.
const MARGIN_MAX: u32 = 192;
/// A larger margin than 100 ms is not a telephone any more.
pub(super) const MARGIN_GIVEN_MAX: u32 = 800;

/// What happened on a crossing since it began, and how it stands. Cheap to read from any thread.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CrossingStats {
    /// Times the reader found too little and faded out.
    pub dry: u64,
    /// Samples of 8 kHz that found the ring full, or were crossfaded away as surplus.
    pub discarded: u64,
    /// Samples of 8 kHz that were silence because the other side had stalled.
    pub missing: u64,
    /// Fill aimed at, in samples of 8 kHz.
    pub set_point: f32,
    /// Fill as measured and smoothed, in samples of 8 kHz.
    pub fill: f32,
    /// Ratio in force, as parts per million off nominal.
    pub ppm: f32,
}

/// What the two ends of a crossing know of each other.
#[derive(Debug)]
pub(super) struct Meter {
    /// The wire side's stamp: low half, samples moved (wrapping); high half, when, in microseconds (wrapping).
    pub(super) wire: AtomicU64,
    /// Likewise the port side's, used when a [`WireReader`] starts.
    pub(super) port: AtomicU64,
    /// Whether the wire side reads, so that the port side may steer by its stamp.
    pub(super) reading: AtomicBool,
    pub(super) block: AtomicU32,
    /// The margin asked for, and what dry spells have added to it.
    pub(super) margin: u32,
    pub(super) grown: AtomicU32,
    pub(super) set_point: AtomicU32,
    pub(super) fill_bits: AtomicU32,
    pub(super) ppm_bits: AtomicU32,
    pub(super) dry: AtomicU64,
    pub(super) discarded: AtomicU64,
    pub(super) missing: AtomicU64,
}

impl Meter {
    pub(super) fn new(margin: u32) -> Arc<Self> {
        Arc::new(Self {
            wire: AtomicU64::new(0),
            port: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            block: AtomicU32::new(0),
            margin: margin.min(MARGIN_GIVEN_MAX),
            grown: AtomicU32::new(0),
            set_point: AtomicU32::new(0),
            fill_bits: AtomicU32::new(0),
            ppm_bits: AtomicU32::new(0),
            dry: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            missing: AtomicU64::new(0),
        })
    }

    pub(super) fn stats(&self) -> CrossingStats {
        CrossingStats {
            dry: self.dry.load(Ordering::Relaxed),
            discarded: self.discarded.load(Ordering::Relaxed),
            missing: self.missing.load(Ordering::Relaxed),
            set_point: self.set_point.load(Ordering::Relaxed) as f32,
            fill: f32::from_bits(self.fill_bits.load(Ordering::Relaxed)),
            ppm: f32::from_bits(self.ppm_bits.load(Ordering::Relaxed)),
        }
    }

    pub(super) fn ran_dry(&self) {
        self.dry.fetch_add(1, Ordering::Relaxed);
        let most = MARGIN_MAX.saturating_sub(self.margin);
        let _ = self
            .grown
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |grown| Some((grown + MARGIN_STEP).min(most)));
    }

    /// Takes back a sample of the growth.
    pub(super) fn forget(&self) {
        let _ = self.grown.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |grown| grown.checked_sub(1));
    }

    pub(super) fn margin(&self) -> u32 {
        self.margin + self.grown.load(Ordering::Relaxed)
    }

    pub(super) fn discard(&self, samples: usize) {
        self.discarded.fetch_add(samples as u64, Ordering::Relaxed);
    }

    /// Silence is given out. It is missing only after a stall: before the crossing has begun nobody waits for anything.
    pub(super) fn miss(&self, samples: f64) {
        if self.dry.load(Ordering::Relaxed) > 0 {
            self.missing.fetch_add(samples as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn publish(&self, steering: &Steering, set_point: f64) {
        self.fill_bits.store(((set_point + steering.error()) as f32).to_bits(), Ordering::Relaxed);
        self.ppm_bits.store((steering.deviation() as f32 * 1e6).to_bits(), Ordering::Relaxed);
    }
}

/// Lets the margin shrink with the time that passes.
pub(super) fn forget(meter: &Meter, calm_s: &mut f64, seconds: f64) {
    *calm_s += seconds;
    if *calm_s >= FORGET_S {
        *calm_s = 0.0;
        meter.forget();
    }
}

pub(super) fn stamp(count: u32, now_us: u64) -> u64 {
    u64::from(count) | (now_us << 32)
}

/// Samples of 8 kHz between a stamp's time and now, no more than `limit`: past that the other side is late, and its
/// position does not move.
pub(super) fn since_stamp(stamp: u64, now_us: u64, limit: f64) -> f64 {
    let elapsed_us = (now_us as u32).wrapping_sub((stamp >> 32) as u32) as i32;
    (f64::from(elapsed_us) * f64::from(WIRE_HZ) / 1e6).clamp(-limit, limit)
}

/// `a - b` of two wrapping counters that are close to each other.
pub(super) fn distance(a: u32, b: u32) -> f64 {
    f64::from(a.wrapping_sub(b) as i32)
}
