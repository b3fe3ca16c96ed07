//! Taps: rings through which the caller's samples leave the media thread, to the ears and to subscribers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::stats::Counters;

/// What a tap holds: 2 s at 8 kHz. A listener that is further behind than that loses the newest samples, counted;
/// hearing must not stop the phone.
pub const TAP_SAMPLES: usize = 2 * 8_000;

/// The reading end of a tap: what the caller says, 8 kHz mono, without gaps (silence while nothing is received).
#[derive(Debug)]
pub struct EarTap {
    /// The samples; 20 ms are 160 of them.
    pub samples: Consumer<f32>,
    /// Samples that found the ring full and were lost.
    pub lost: Arc<AtomicU64>,
}

/// The writing end, on the media thread.
#[derive(Debug)]
pub struct TapSource {
    samples: Producer<f32>,
    lost: Arc<AtomicU64>,
}

/// Makes a tap.
#[must_use]
pub fn tap() -> (TapSource, EarTap) {
    let (input, output) = RingBuffer::new(TAP_SAMPLES);
    let lost = Arc::new(AtomicU64::new(0));
    (TapSource { samples: input, lost: lost.clone() }, EarTap { samples: output, lost })
}

impl TapSource {
    /// Passes samples on, as many as fit.
    pub fn push(&mut self, samples: &[f32], counters: &Counters) {
        let (_, rest) = self.samples.push_partial_slice(samples);
        self.note_lost(rest.len() as u64, counters);
    }

    /// Says that so many samples never were: the clock of the call ran on without them.
    pub fn note_lost(&self, samples: u64, counters: &Counters) {
        if samples > 0 {
            self.lost.fetch_add(samples, Ordering::Relaxed);
            counters.tap_lost_samples.add(samples);
        }
    }

    /// Whether the reading end is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.samples.is_abandoned()
    }
}
