//! The ends of the crossings on the media thread, at 8 kHz.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::{Consumer, Producer};

use super::meter::{CrossingStats, Meter, since_stamp, stamp};
use super::{EXCESS_SAMPLES, FADE_SAMPLES, FILTER_DELAY, Flow, fade_in, take};

/// The wire's end of a crossing to a port: the media thread writes into it.
#[derive(Debug)]
pub struct WireWriter {
    pub(super) ring: Producer<f32>,
    pub(super) meter: Arc<Meter>,
    pub(super) written: u32,
}

impl WireWriter {
    /// Hands over samples (at most `WIRE_BLOCK_MAX` at a time). Returns how many fitted; the rest is dropped and counted:
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

/// The wire's end of a crossing from a port: the media thread reads from it.
#[derive(Debug)]
pub struct WireReader {
    pub(super) ring: Consumer<f32>,
    pub(super) meter: Arc<Meter>,
    pub(super) taken: u32,
    pub(super) flow: Flow,
    pub(super) last: f32,
}

impl WireReader {
    /// Fills `block` (at most `WIRE_BLOCK_MAX` samples). `false`: the crossing does not run yet (or ran dry before this
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
                self.meter.miss(block.len() as f64);
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
        self.meter.miss((block.len() - count) as f64);
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
