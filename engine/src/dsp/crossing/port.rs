//! The ends of the crossings in the sound server's callback, at its rate and period. Here is where the ratio is steered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::{Consumer, Producer};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Adjustable, Async, Resampler, Resizable};

use super::super::steering::Steering;
use super::meter::{CrossingStats, Meter, distance, forget, since_stamp, stamp};
use super::{EXCESS_SAMPLES, FADE_SAMPLES, FILTER_SAMPLES, Flow, PIECE, WIRE_HZ, fade_in, take};

/// The port's end of a crossing to a port: the sound server's callback fills its buffer from it.
pub struct PortReader {
    pub(super) ring: Consumer<f32>,
    pub(super) meter: Arc<Meter>,
    pub(super) filter: Async<f32>,
    pub(super) input: Vec<f32>,
    pub(super) rate_hz: u32,
    pub(super) taken: u32,
    pub(super) flow: Flow,
    pub(super) last: f32,
    pub(super) steering: Steering,
    /// Since the margin last changed by itself.
    pub(super) calm_s: f64,
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
                self.meter.miss(need);
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

    /// Stops reading (the server does not run in real time): what waits is thrown away unheard and uncounted, and the next
    /// [`read`](Self::read) starts anew at the set point.
    pub fn rest(&mut self) {
        self.drop_early(self.ring.slots());
        self.flow = Flow::Waiting;
    }

    fn drop_early(&mut self, count: usize) {
        if let Ok(chunk) = self.ring.read_chunk(count) {
            chunk.commit_all();
            self.taken = self.taken.wrapping_add(count as u32);
        }
    }

    /// Begins at the set point exactly: what came before it is not yet anybody's.
    fn start(&mut self, error: f64) {
        self.drop_early((error as usize).min(self.ring.slots()));
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
    pub(super) ring: Producer<f32>,
    pub(super) meter: Arc<Meter>,
    pub(super) filter: Async<f32>,
    pub(super) output: Vec<f32>,
    pub(super) rate_hz: u32,
    pub(super) written: u32,
    pub(super) steering: Steering,
    /// Since the margin last changed by itself.
    pub(super) calm_s: f64,
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
