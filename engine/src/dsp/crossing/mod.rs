//! The crossing between the 8 kHz clock of a call (the *wire*) and the clock of a sound server (the *port*), at any rate
//! and period.
//!
//! ```text
//!   to_port():    WireWriter ==8 kHz ring==> resampler --> PortReader     caller and agent, towards JACK
//!   from_port():  PortWriter --> resampler ==8 kHz ring==> WireReader     from JACK, towards the caller
//! ```
//!
//! The two clocks differ by up to a few hundred ppm and their threads wake at different times. What must hold once a
//! crossing runs: every sample that goes in comes out, in order, and the ring's fill stays at its set point by a ratio
//! that is steered slowly (`steering.rs`): nothing is inserted, repeated or thrown away. All four ends are real-time safe:
//! memory is taken at construction only, no locks, no system calls. Times come in as microseconds of one monotonic clock.
//!
//! # The fill
//! Both sides move blocks, so the number of samples in the ring is a saw-tooth whose beat between the two periods is as
//! large as a block. It is useless for steering. The wire side therefore leaves a stamp (samples moved so far, when), and
//! the port side measures against the wire's *continuous* position at its own moment: what remains is drift and jitter.
//!
//! # The set point
//! Just enough that neither side finds the ring dry: one wire block, one port period, and a margin for late threads.
//! A reader that does run dry (a stall longer than the margin) fades out, waits for the set point, fades in, and makes
//! the margin larger for a minute: this machine stalls that long. More than 40 ms too much (the other side stalled and
//! caught up) is crossfaded away. Both are counted; neither happens while threads keep to their times.

mod meter;
mod port;
mod wire;

use std::sync::Arc;

use rtrb::{Consumer, RingBuffer};
use rubato::{Async, FixedAsync, Resampler, SincInterpolationParameters, SincInterpolationType, WindowFunction};

pub use self::meter::CrossingStats;
use self::meter::{MARGIN_GIVEN_MAX, Meter};
pub use self::port::{PortReader, PortWriter};
pub use self::wire::{WireReader, WireWriter};
use super::steering::Steering;

/// The wire's sample rate.
pub const WIRE_HZ: u32 = 8_000;
/// Largest block the wire side may move at once: 20 ms.
pub const WIRE_BLOCK_MAX: usize = 160;
/// Largest period a port may have, in frames: jackd2's own limit.
pub const PERIOD_MAX: usize = 8_192;

/// Port frames converted at a time; a period is cut into such pieces, so that any period fits buffers of one size.
const PIECE: usize = 128;
/// Length of the interpolation filter in samples of 8 kHz: half of it is its delay (2.5 ms). With a Blackman window it is
/// within 1 dB up to 3.4 kHz and below -55 dB from 4.8 kHz (tests).
const FILTER_SAMPLES: usize = 40;
/// Filter edge relative to 4 kHz, so that 3.4 kHz is kept and what folds back lands above the telephone band.
const FILTER_EDGE: f32 = 0.97;
/// Filter phases; linear interpolation between them is then 90 dB down at 3.4 kHz.
const FILTER_PHASES: usize = 128;
/// Room that the ratio has to move in, as a factor. Steering uses a hundredth of it.
const RATIO_RANGE: f64 = 1.05;
/// Above the set point by more than this (40 ms), the surplus is crossfaded away instead of steered away: at the steepest
/// ratio it would be heard as delay for 8 s and more.
const EXCESS_SAMPLES: f64 = 320.0;
/// Fades at the ends of a dry spell: 4 ms, long enough for no click, shorter than a phoneme.
const FADE_SAMPLES: usize = 32;
/// Delay of the filter between ring and port, in samples of 8 kHz.
const FILTER_DELAY: u32 = (FILTER_SAMPLES / 2) as u32;

/// Room in a ring for a port of this rate: two of its longest periods, and a quarter of a second for stalls.
fn ring_capacity(rate_hz: u32) -> usize {
    2 * (PERIOD_MAX * WIRE_HZ as usize).div_ceil(rate_hz as usize) + WIRE_HZ as usize / 4 + MARGIN_GIVEN_MAX as usize
}

/// A filter between 8 kHz and `rate_hz` whose ratio can be steered.
fn filter(rate_hz: u32, fixed: FixedAsync) -> Result<Async<f32>, rubato::ResamplerConstructionError> {
    let (ratio, length) = match fixed {
        FixedAsync::Output => (f64::from(rate_hz) / f64::from(WIRE_HZ), port_filter_length(WIRE_HZ, rate_hz)),
        FixedAsync::Input => (f64::from(WIRE_HZ) / f64::from(rate_hz), port_filter_length(rate_hz, WIRE_HZ)),
    };
    let parameters = SincInterpolationParameters::new(length, WindowFunction::Blackman)
        .f_cutoff(FILTER_EDGE)
        .oversampling_factor(FILTER_PHASES)
        .interpolation(SincInterpolationType::Linear);
    Async::new_sinc(ratio, RATIO_RANGE, &parameters, PIECE, 1, fixed)
}

/// The filter counts in samples of its input: when it goes down in rate it must be that much longer.
fn port_filter_length(from_hz: u32, to_hz: u32) -> usize {
    if from_hz <= to_hz { FILTER_SAMPLES } else { FILTER_SAMPLES * from_hz as usize / to_hz as usize }
}

/// Why a crossing could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no crossing between 8000 Hz and {rate_hz} Hz: {reason}")]
pub struct CrossingError {
    /// The port's rate in Hz.
    pub rate_hz: u32,
    /// The library's words.
    pub reason: String,
}

/// A crossing from the wire to a port of `rate_hz`. `margin` is in samples of 8 kHz.
///
/// # Errors
/// [`CrossingError`] when no filter can be built for the rate (below 8 kHz or absurdly high).
pub fn to_port(rate_hz: u32, margin: u32) -> Result<(WireWriter, PortReader), CrossingError> {
    let filter = checked(rate_hz, FixedAsync::Output)?;
    let (producer, consumer) = RingBuffer::new(ring_capacity(rate_hz));
    let meter = Meter::new(margin);
    let input = vec![0.0; filter.input_frames_max() + FADE_SAMPLES];
    Ok((
        WireWriter { ring: producer, meter: Arc::clone(&meter), written: 0 },
        PortReader {
            ring: consumer,
            meter,
            filter,
            input,
            rate_hz,
            taken: 0,
            flow: Flow::Waiting,
            last: 0.0,
            steering: Steering::new(),
            calm_s: 0.0,
        },
    ))
}

/// A crossing from a port of `rate_hz` to the wire. `margin` is in samples of 8 kHz.
///
/// # Errors
/// As [`to_port`].
pub fn from_port(rate_hz: u32, margin: u32) -> Result<(PortWriter, WireReader), CrossingError> {
    let filter = checked(rate_hz, FixedAsync::Input)?;
    let (producer, consumer) = RingBuffer::new(ring_capacity(rate_hz));
    let meter = Meter::new(margin);
    let output = vec![0.0; filter.output_frames_max() + FADE_SAMPLES];
    Ok((
        PortWriter {
            ring: producer,
            meter: Arc::clone(&meter),
            filter,
            output,
            rate_hz,
            written: 0,
            steering: Steering::new(),
            calm_s: 0.0,
        },
        WireReader { ring: consumer, meter, taken: 0, flow: Flow::Waiting, last: 0.0 },
    ))
}

fn checked(rate_hz: u32, fixed: FixedAsync) -> Result<Async<f32>, CrossingError> {
    if !(WIRE_HZ..=768_000).contains(&rate_hz) {
        return Err(CrossingError { rate_hz, reason: "rates from 8000 to 768000 Hz are supported".to_owned() });
    }
    filter(rate_hz, fixed).map_err(|error| CrossingError { rate_hz, reason: error.to_string() })
}

/// How a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Silent until the ring has reached its set point.
    Waiting,
    /// Running; so many samples have come since it began (counted only as far as the fade-in reaches).
    Running(usize),
    /// Ran dry: so many samples of fade and filter tail are still to be given out.
    Draining(usize),
}

/// Gain of the sample that is `n`th after a start.
fn fade_in(n: usize) -> f32 {
    if n >= FADE_SAMPLES { 1.0 } else { (n as f32 + 0.5) / FADE_SAMPLES as f32 }
}

/// Takes exactly `into.len()` samples, crossfading over `surplus` more that are dropped. The ring holds at least
/// `into.len() + surplus`.
fn take(ring: &mut Consumer<f32>, surplus: usize, into: &mut [f32]) {
    let count = into.len();
    let Ok(chunk) = ring.read_chunk(count + surplus) else {
        into.fill(0.0);
        return;
    };
    let (first, second) = chunk.as_slices();
    let at = |n: usize| if n < first.len() { first[n] } else { second[n - first.len()] };
    if surplus == 0 {
        let cut = first.len().min(count);
        into[..cut].copy_from_slice(&first[..cut]);
        into[cut..].copy_from_slice(&second[..count - cut]);
    } else {
        for (n, sample) in into.iter_mut().enumerate() {
            let new = (n as f32 + 0.5) / count as f32;
            *sample = at(n) * (1.0 - new) + at(n + surplus) * new;
        }
    }
    chunk.commit_all();
}

#[cfg(test)]
mod tests;
