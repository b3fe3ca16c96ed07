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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable, Async, FixedAsync, Resampler, Resizable, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};

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
/// The growth is taken back by a sample (1/8 ms) every 2 s, a step within a minute: slower than it can be heard, and a
/// machine that stalls for as long again is heard once a minute at most.
const FORGET_S: f64 = 2.0;
/// What a dry spell adds to the margin: 4 ms.
const MARGIN_STEP: u32 = 32;
/// The margin grows no further than this: 24 ms. A machine that stalls longer needs help that buffers cannot give.
const MARGIN_MAX: u32 = 192;
/// A larger margin than 100 ms is not a telephone any more.
const MARGIN_GIVEN_MAX: u32 = 800;
/// Delay of the filter between ring and port, in samples of 8 kHz.
const FILTER_DELAY: u32 = (FILTER_SAMPLES / 2) as u32;

/// What happened on a crossing since it began, and how it stands. Cheap to read from any thread.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CrossingStats {
    /// Times the reader found too little and faded out.
    pub dry: u64,
    /// Samples of 8 kHz that found the ring full, or were crossfaded away as surplus.
    pub discarded: u64,
    /// Fill aimed at, in samples of 8 kHz.
    pub set_point: f32,
    /// Fill as measured and smoothed, in samples of 8 kHz.
    pub fill: f32,
    /// Ratio in force, as parts per million off nominal.
    pub ppm: f32,
}

/// What the two ends of a crossing know of each other.
#[derive(Debug)]
struct Meter {
    /// The wire side's stamp: low half, samples moved (wrapping); high half, when, in microseconds (wrapping).
    wire: AtomicU64,
    /// Likewise the port side's, used when a [`WireReader`] starts.
    port: AtomicU64,
    /// Whether the wire side reads, so that the port side may steer by its stamp.
    reading: AtomicBool,
    block: AtomicU32,
    /// The margin asked for, and what dry spells have added to it.
    margin: u32,
    grown: AtomicU32,
    set_point: AtomicU32,
    fill_bits: AtomicU32,
    ppm_bits: AtomicU32,
    dry: AtomicU64,
    discarded: AtomicU64,
}

impl Meter {
    fn new(margin: u32) -> Arc<Self> {
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
        })
    }

    fn stats(&self) -> CrossingStats {
        CrossingStats {
            dry: self.dry.load(Ordering::Relaxed),
            discarded: self.discarded.load(Ordering::Relaxed),
            set_point: self.set_point.load(Ordering::Relaxed) as f32,
            fill: f32::from_bits(self.fill_bits.load(Ordering::Relaxed)),
            ppm: f32::from_bits(self.ppm_bits.load(Ordering::Relaxed)),
        }
    }

    fn ran_dry(&self) {
        self.dry.fetch_add(1, Ordering::Relaxed);
        let most = MARGIN_MAX.saturating_sub(self.margin);
        let _ = self
            .grown
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |grown| Some((grown + MARGIN_STEP).min(most)));
    }

    /// Takes back a sample of the growth.
    fn forget(&self) {
        let _ = self.grown.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |grown| grown.checked_sub(1));
    }

    fn margin(&self) -> u32 {
        self.margin + self.grown.load(Ordering::Relaxed)
    }

    fn discard(&self, samples: usize) {
        self.discarded.fetch_add(samples as u64, Ordering::Relaxed);
    }

    fn publish(&self, steering: &Steering, set_point: f64) {
        self.fill_bits.store(((set_point + steering.error()) as f32).to_bits(), Ordering::Relaxed);
        self.ppm_bits.store((steering.deviation() as f32 * 1e6).to_bits(), Ordering::Relaxed);
    }
}

/// Lets the margin shrink with the time that passes.
fn forget(meter: &Meter, calm_s: &mut f64, seconds: f64) {
    *calm_s += seconds;
    if *calm_s >= FORGET_S {
        *calm_s = 0.0;
        meter.forget();
    }
}

fn stamp(count: u32, now_us: u64) -> u64 {
    u64::from(count) | (now_us << 32)
}

/// Samples of 8 kHz between a stamp's time and now, no more than `limit`: past that the other side is late, and its
/// position does not move.
fn since_stamp(stamp: u64, now_us: u64, limit: f64) -> f64 {
    let elapsed_us = (now_us as u32).wrapping_sub((stamp >> 32) as u32) as i32;
    (f64::from(elapsed_us) * f64::from(WIRE_HZ) / 1e6).clamp(-limit, limit)
}

/// `a - b` of two wrapping counters that are close to each other.
fn distance(a: u32, b: u32) -> f64 {
    f64::from(a.wrapping_sub(b) as i32)
}

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

/// The wire's end of a crossing to a port: the media thread writes into it.
#[derive(Debug)]
pub struct WireWriter {
    ring: Producer<f32>,
    meter: Arc<Meter>,
    written: u32,
}

impl WireWriter {
    /// Hands over samples (at most [`WIRE_BLOCK_MAX`] at a time). Returns how many fitted; the rest is dropped and counted:
    /// the port side stands still then.
    pub fn write(&mut self, now_us: u64, samples: &[f32]) -> usize {
        let (pushed, refused) = self.ring.push_partial_slice(samples);
        let pushed = pushed.len();
        if !refused.is_empty() {
            self.meter.discard(refused.len());
        }
        self.written = self.written.wrapping_add(pushed as u32);
        self.meter.block.store(samples.len() as u32, Ordering::Relaxed);
        self.meter.wire.store(stamp(self.written, now_us), Ordering::Release);
        pushed
    }

    /// Samples of 8 kHz between the end of the last write and the port: what waits in the ring, and the filter's delay.
    #[must_use]
    pub fn delay(&self) -> u32 {
        (self.ring.buffer().capacity() - self.ring.slots()) as u32 + FILTER_DELAY
    }

    /// How the crossing stands.
    #[must_use]
    pub fn stats(&self) -> CrossingStats {
        self.meter.stats()
    }
}

/// The port's end of a crossing to a port: the sound server's callback fills its buffer from it.
pub struct PortReader {
    ring: Consumer<f32>,
    meter: Arc<Meter>,
    filter: Async<f32>,
    input: Vec<f32>,
    rate_hz: u32,
    taken: u32,
    flow: Flow,
    last: f32,
    steering: Steering,
    /// Since the margin last changed by itself.
    calm_s: f64,
}

impl std::fmt::Debug for PortReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PortReader").field("rate_hz", &self.rate_hz).field("flow", &self.flow).finish_non_exhaustive()
    }
}

impl PortReader {
    /// Fills one period. `now_us` is when the callback began.
    pub fn read(&mut self, now_us: u64, period: &mut [f32]) {
        let need = period.len() as f64 * f64::from(WIRE_HZ) / f64::from(self.rate_hz);
        let block = self.meter.block.load(Ordering::Relaxed);
        let set_point = f64::from(block + self.meter.margin()) + need.ceil();
        self.meter.set_point.store(set_point as u32, Ordering::Relaxed);
        let wire = self.meter.wire.load(Ordering::Acquire);
        let position = since_stamp(wire, now_us, 2.0 * f64::from(block));
        let fill = distance(wire as u32, self.taken) + position;
        let mut error = fill - set_point;
        if self.flow == Flow::Waiting {
            if block == 0 || error < 0.0 || self.ring.slots() < (need.ceil() as usize) + 2 {
                period.fill(0.0);
                return;
            }
            self.start(error);
            error = error.fract();
        }
        let mut surplus = 0;
        if error > EXCESS_SAMPLES {
            surplus = error as usize;
            error = 0.0;
            self.steering.restart(error);
        }
        let seconds = period.len() as f64 / f64::from(self.rate_hz);
        let ratio = self.steering.steer(error, seconds);
        forget(&self.meter, &mut self.calm_s, seconds);
        self.meter.publish(&self.steering, set_point);
        // In range by construction: steering is limited to a fraction of RATIO_RANGE.
        let _ = self.filter.set_resample_ratio_relative(ratio, true);
        for piece in period.chunks_mut(PIECE) {
            self.fill_piece(piece, &mut surplus);
        }
    }

    /// Begins at the set point exactly: what came before it is not yet anybody's.
    fn start(&mut self, error: f64) {
        let early = (error as usize).min(self.ring.slots());
        if let Ok(chunk) = self.ring.read_chunk(early) {
            chunk.commit_all();
            self.taken = self.taken.wrapping_add(early as u32);
        }
        self.filter.reset();
        self.steering.restart(error.fract());
        self.flow = Flow::Running(0);
    }

    fn fill_piece(&mut self, piece: &mut [f32], surplus: &mut usize) {
        if self.flow == Flow::Waiting || self.filter.set_chunk_size(piece.len()).is_err() {
            piece.fill(0.0);
            return;
        }
        let count = self.filter.input_frames_next().min(self.input.len());
        self.take_input(count, surplus);
        let frames = piece.len();
        let done = match (
            InterleavedSlice::new(&self.input[..count], 1, count),
            InterleavedSlice::new_mut(&mut *piece, 1, frames),
        ) {
            (Ok(input), Ok(mut output)) => self.filter.process_into_buffer(&input, &mut output, None).is_ok(),
            _ => false,
        };
        if !done {
            piece.fill(0.0);
        }
    }

    /// Puts the next `count` samples of 8 kHz into `self.input`: from the ring, or the fade of a ring that ran dry.
    fn take_input(&mut self, count: usize, surplus: &mut usize) {
        if let Flow::Running(age) = self.flow {
            let waiting = self.ring.slots();
            if waiting >= count {
                let skip = (*surplus).min(waiting - count);
                *surplus = 0;
                take(&mut self.ring, skip, &mut self.input[..count]);
                self.meter.discard(skip);
                self.taken = self.taken.wrapping_add((count + skip) as u32);
                if age < FADE_SAMPLES {
                    for (n, sample) in self.input[..count].iter_mut().enumerate() {
                        *sample *= fade_in(age + n);
                    }
                    self.flow = Flow::Running(age + count);
                }
                if count > 0 {
                    self.last = self.input[count - 1];
                }
                return;
            }
            self.meter.ran_dry();
            self.flow = Flow::Draining(FADE_SAMPLES + FILTER_SAMPLES);
        }
        if let Flow::Draining(left) = self.flow {
            let gone = FADE_SAMPLES + FILTER_SAMPLES - left;
            for (n, sample) in self.input[..count].iter_mut().enumerate() {
                *sample = self.last * (1.0 - fade_in(gone + n));
            }
            self.flow = if left > count { Flow::Draining(left - count) } else { Flow::Waiting };
        }
    }

    /// How the crossing stands.
    #[must_use]
    pub fn stats(&self) -> CrossingStats {
        self.meter.stats()
    }
}

/// The port's end of a crossing from a port: the sound server's callback writes its buffer into it.
pub struct PortWriter {
    ring: Producer<f32>,
    meter: Arc<Meter>,
    filter: Async<f32>,
    output: Vec<f32>,
    rate_hz: u32,
    written: u32,
    steering: Steering,
    /// Since the margin last changed by itself.
    calm_s: f64,
}

impl std::fmt::Debug for PortWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PortWriter").field("rate_hz", &self.rate_hz).finish_non_exhaustive()
    }
}

impl PortWriter {
    /// Takes one period. `now_us` is when the callback began.
    pub fn write(&mut self, now_us: u64, period: &[f32]) {
        let need = period.len() as f64 * f64::from(WIRE_HZ) / f64::from(self.rate_hz);
        let set_point = f64::from(self.meter.margin()) + need.ceil();
        self.meter.set_point.store(set_point as u32, Ordering::Relaxed);
        if self.meter.reading.load(Ordering::Acquire) {
            let wire = self.meter.wire.load(Ordering::Acquire);
            let block = f64::from(self.meter.block.load(Ordering::Relaxed));
            let fill = distance(self.written, wire as u32) + need - since_stamp(wire, now_us, 2.0 * block);
            let seconds = period.len() as f64 / f64::from(self.rate_hz);
            let ratio = self.steering.steer(fill - set_point, seconds);
            forget(&self.meter, &mut self.calm_s, seconds);
            self.meter.publish(&self.steering, set_point);
            let _ = self.filter.set_resample_ratio_relative(ratio, true);
        } else {
            self.steering.restart(0.0);
        }
        for piece in period.chunks(PIECE) {
            self.convert(piece);
        }
        self.meter.port.store(stamp(self.written, now_us), Ordering::Release);
    }

    fn convert(&mut self, piece: &[f32]) {
        if self.filter.set_chunk_size(piece.len()).is_err() {
            return;
        }
        let count = self.filter.output_frames_next().min(self.output.len());
        let done = match (
            InterleavedSlice::new(piece, 1, piece.len()),
            InterleavedSlice::new_mut(&mut self.output[..count], 1, count),
        ) {
            (Ok(input), Ok(mut output)) => self.filter.process_into_buffer(&input, &mut output, None).is_ok(),
            _ => false,
        };
        if done {
            let (pushed, refused) = self.ring.push_partial_slice(&self.output[..count]);
            self.written = self.written.wrapping_add(pushed.len() as u32);
            // While nobody reads, a full ring is the normal state and no loss.
            if !refused.is_empty() && self.meter.reading.load(Ordering::Relaxed) {
                self.meter.discard(refused.len());
            }
        }
    }

    /// How the crossing stands.
    #[must_use]
    pub fn stats(&self) -> CrossingStats {
        self.meter.stats()
    }
}

/// The wire's end of a crossing from a port: the media thread reads from it.
#[derive(Debug)]
pub struct WireReader {
    ring: Consumer<f32>,
    meter: Arc<Meter>,
    taken: u32,
    flow: Flow,
    last: f32,
}

impl WireReader {
    /// Fills `block` (at most [`WIRE_BLOCK_MAX`] samples). `false`: the crossing does not run yet (or ran dry before this
    /// block) and the block is silence.
    pub fn read(&mut self, now_us: u64, block: &mut [f32]) -> bool {
        let set_point = self.meter.set_point.load(Ordering::Relaxed) as f64;
        self.meter.block.store(block.len() as u32, Ordering::Relaxed);
        let waiting = self.ring.slots();
        let mut surplus = 0;
        if self.flow == Flow::Waiting {
            // Where the ring would stand at the port's last write if this block were gone already.
            let port = self.meter.port.load(Ordering::Acquire);
            let error = waiting as f64 - block.len() as f64 + since_stamp(port, now_us, set_point) - set_point;
            if set_point == 0.0 || error < 0.0 || waiting < block.len() {
                block.fill(0.0);
                return false;
            }
            self.drop_early((error as usize).min(waiting - block.len()));
            self.flow = Flow::Running(0);
        } else if waiting as f64 - block.len() as f64 > set_point + EXCESS_SAMPLES {
            surplus = waiting - block.len() - set_point as usize;
        }
        let running = self.take_block(surplus, block);
        self.meter.wire.store(stamp(self.taken, now_us), Ordering::Release);
        self.meter.reading.store(running, Ordering::Release);
        running
    }

    /// Stops reading: the next [`read`](Self::read) starts anew at the set point.
    pub fn rest(&mut self) {
        self.meter.reading.store(false, Ordering::Release);
        self.drop_early(self.ring.slots());
        self.flow = Flow::Waiting;
    }

    fn drop_early(&mut self, count: usize) {
        if let Ok(chunk) = self.ring.read_chunk(count) {
            chunk.commit_all();
            self.taken = self.taken.wrapping_add(count as u32);
        }
    }

    fn take_block(&mut self, surplus: usize, block: &mut [f32]) -> bool {
        let count = self.ring.slots().min(block.len());
        let skip = if count == block.len() { surplus.min(self.ring.slots() - count) } else { 0 };
        take(&mut self.ring, skip, &mut block[..count]);
        self.meter.discard(skip);
        self.taken = self.taken.wrapping_add((count + skip) as u32);
        if let Flow::Running(age) = self.flow
            && age < FADE_SAMPLES
        {
            for (n, sample) in block[..count].iter_mut().enumerate() {
                *sample *= fade_in(age + n);
            }
            self.flow = Flow::Running(age + count);
        }
        if count > 0 {
            self.last = block[count - 1];
        }
        if count == block.len() {
            return true;
        }
        for (n, sample) in block[count..].iter_mut().enumerate() {
            *sample = self.last * (1.0 - fade_in(n));
        }
        self.meter.ran_dry();
        self.flow = Flow::Waiting;
        false
    }

    /// Samples of 8 kHz between a port's newest sample and the next block read: the filter's delay and what waits.
    #[must_use]
    pub fn delay(&self) -> u32 {
        self.ring.slots() as u32 + FILTER_DELAY
    }

    /// How the crossing stands.
    #[must_use]
    pub fn stats(&self) -> CrossingStats {
        self.meter.stats()
    }
}

#[cfg(test)]
#[path = "crossing_tests.rs"]
mod tests;
