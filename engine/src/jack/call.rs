//! The media thread's end of one call's JACK ports.

use std::time::Instant;

/// Which way the samples went that [`JackCall::exchange`] gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Straight from the agent's voice: no server, no ports yet, or JACK is warming up.
    Direct,
    /// Through the JACK ports.
    Jack,
    /// JACK was lost: the agent's voice at the delay the JACK path had, until the first silence.
    Bridged,
}

/// One call's audio on the media thread. It never allocates, locks or waits.
///
/// Dropping it takes the call's ports away; that takes a lock, so it is dropped off the real-time threads.
#[derive(Debug)]
pub struct JackCall {
    in_flight: u32,
}

impl JackCall {
    pub(super) fn new() -> Self {
        Self { in_flight: 0 }
    }

    /// Moves one piece of the call each way, at 8 kHz: hands `caller` and `agent` to their ports and fills `to_phone`
    /// with what is to be sent to the caller. The three have the same length: 40 samples on every 5 ms tick (at most
    /// 160). Call it for every tick of the call, in silence too; `now` is the time the tick was due or began.
    pub fn exchange(&mut self, now: Instant, caller: &[f32], agent: &[f32], to_phone: &mut [f32]) -> Route {
        let _ = (now, caller);
        to_phone.copy_from_slice(agent);
        Route::Direct
    }

    /// How many samples of the agent's voice were handed to [`exchange`](Self::exchange) and have not yet come out:
    /// the delay of the agent's path in 8 kHz samples. 0 in direct mode.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }
}
