//! `media.subscribe`: the caller's voice for a client, in frames of 20 ms.
//!
//! The engine never waits for it: what a slow client leaves in the ring is lost there and counted, and what it does not
//! read from its socket is dropped there, oldest first.

use std::time::Instant;

use control::types::Encoding;
use control::{ClientId, Server};
use engine::EarTap;
use engine::dsp::{Resampler, ResamplerError};

use super::samples;

/// 20 ms at the telephone's 8 kHz.
const FRAME: usize = 160;

/// One client's ear on one call.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) call: u32,
    tap: EarTap,
    resampler: Resampler,
    encoding: Encoding,
    bytes: Vec<u8>,
}

impl Subscription {
    pub(super) fn new(call: u32, tap: EarTap, rate: u32, encoding: Encoding) -> Result<Self, ResamplerError> {
        Ok(Self { call, tap, resampler: Resampler::new(8000, rate)?, encoding, bytes: Vec::new() })
    }

    /// Sends what has come since the last time.
    pub(super) fn pump(&mut self, client: ClientId, channel: u16, began: Instant, server: &mut Server) {
        while self.tap.samples.slots() >= FRAME {
            let Ok(chunk) = self.tap.samples.read_chunk(FRAME) else { return };
            let mut out = Vec::with_capacity(4 * FRAME);
            let (first, second) = chunk.as_slices();
            self.resampler.process(first, |block| out.extend_from_slice(block));
            self.resampler.process(second, |block| out.extend_from_slice(block));
            chunk.commit_all();
            samples::encode(self.encoding, &out, &mut self.bytes);
            let now_ns = began.elapsed().as_nanos() as u64;
            if let Err(error) = server.send_audio(client, channel, self.encoding, 0, now_ns, &self.bytes) {
                log::error!("a subscriber's audio cannot be sent: {error}");
            }
        }
    }
}
