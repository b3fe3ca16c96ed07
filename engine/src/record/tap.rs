//! The media thread's end of a recording.

use rtrb::Producer;

use crate::PACKET_SAMPLES;
use crate::codec::to_i16;

/// 20 ms of both directions.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) samples: [[i16; 2]; PACKET_SAMPLES],
}

/// The media thread's end of a recording. Dropping it ends the recording, and may free memory: not for that thread.
#[derive(Debug)]
pub struct RecordTap {
    frames: Producer<Frame>,
    number: u64,
    /// The frame that is being filled: packets are not always of 20 ms.
    samples: [[i16; 2]; PACKET_SAMPLES],
    filled: usize,
    paused: bool,
}

impl RecordTap {
    pub(super) fn new(frames: Producer<Frame>) -> Self {
        Self { frames, number: 0, samples: [[0; 2]; PACKET_SAMPLES], filled: 0, paused: false }
    }

    /// Pauses, or goes on. What happens in a pause is not in the file, and neither is its time: after it the file goes on
    /// where it was.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Records both directions of the same time; returns how many samples a full ring lost: they will be silence.
    pub fn push(&mut self, mut caller: &[f32], mut agent: &[f32]) -> usize {
        if self.paused {
            return 0;
        }
        let mut lost = 0;
        while !caller.is_empty() && !agent.is_empty() {
            let room = &mut self.samples[self.filled..];
            let count = room.len().min(caller.len()).min(agent.len());
            for ((slot, &left), &right) in room.iter_mut().zip(caller).zip(agent) {
                *slot = [to_i16(left), to_i16(right)];
            }
            (caller, agent) = (&caller[count..], &agent[count..]);
            lost += self.advance(count);
        }
        lost
    }

    /// So many samples never were: silence in their place. Returns how many a full ring lost besides.
    pub fn leave_out(&mut self, samples: u64) -> usize {
        if self.paused {
            return 0;
        }
        let room = PACKET_SAMPLES - self.filled;
        let into_frame = usize::try_from(samples).unwrap_or(usize::MAX).min(if self.filled > 0 { room } else { 0 });
        self.samples[self.filled..self.filled + into_frame].fill([0; 2]);
        let lost = self.advance(into_frame);
        let left = samples - into_frame as u64;
        self.number += left / PACKET_SAMPLES as u64;
        if self.filled == 0 {
            self.filled = usize::try_from(left % PACKET_SAMPLES as u64).unwrap_or(0);
            self.samples[..self.filled].fill([0; 2]);
        }
        lost
    }

    fn advance(&mut self, count: usize) -> usize {
        self.filled += count;
        if self.filled < PACKET_SAMPLES {
            return 0;
        }
        self.filled = 0;
        let frame = Frame { number: self.number, samples: self.samples };
        self.number += 1;
        if self.frames.push(frame).is_ok() { 0 } else { PACKET_SAMPLES }
    }
}
