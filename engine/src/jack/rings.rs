//! The rings between one call on the media thread and its ports on the JACK client.
//!
//! Three single-producer single-consumer rings a call, all of 8 kHz `f32` mono, and one flag that says
//! whether JACK is serving the call. The media thread holds [`MediaRings`], the JACK room holds [`JackRings`];
//! neither ever waits for the other.
//!
//! The media thread moves [`TICK_SAMPLES`] samples each way on every 5 ms tick while `live` is set. When `live` is
//! cleared (server gone, ports not yet registered), it takes the agent's voice directly within that tick, and
//! pushes and pops nothing; what is left in the rings is stale then, and the JACK room empties its consumers and
//! starts anew at its set point before it sets `live` again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::TICK_SAMPLES;

/// Capacity of each ring: 200 ms of 8 kHz samples, enough for a JACK period of 4096 at 48 kHz (85 ms) plus
/// the crossing's set point.
pub const RING_SAMPLES: usize = 40 * TICK_SAMPLES;

/// The media thread's ends for one call.
#[derive(Debug)]
pub struct MediaRings {
    /// What the caller says goes in here.
    pub from_call: Producer<f32>,
    /// What the agent says goes in here.
    pub agent: Producer<f32>,
    /// What is to be sent to the caller comes out here.
    pub to_phone: Consumer<f32>,
    /// Set by the JACK room while it moves samples for this call.
    pub live: LiveFlag,
}

/// The JACK room's ends for one call.
#[derive(Debug)]
pub struct JackRings {
    /// The caller's samples, for the port `cN:caller`.
    pub from_call: Consumer<f32>,
    /// The agent's samples, for the port `cN:agent`.
    pub agent: Consumer<f32>,
    /// Takes what arrives on the port `cN:to_phone`.
    pub to_phone: Producer<f32>,
    /// To be set while samples are moved for this call, and cleared when the server is lost.
    pub live: LiveFlag,
}

/// Whether JACK serves a call at the moment: written by the JACK room, read by the media thread.
#[derive(Debug, Clone, Default)]
pub struct LiveFlag(Arc<AtomicBool>);

impl LiveFlag {
    /// Says whether JACK serves the call.
    pub fn set(&self, live: bool) {
        self.0.store(live, Ordering::Release);
    }

    /// Whether JACK serves the call.
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Makes the rings of one call, not yet live.
#[must_use]
pub fn call_rings() -> (MediaRings, JackRings) {
    let (from_call_in, from_call_out) = RingBuffer::new(RING_SAMPLES);
    let (agent_in, agent_out) = RingBuffer::new(RING_SAMPLES);
    let (to_phone_in, to_phone_out) = RingBuffer::new(RING_SAMPLES);
    let live = LiveFlag::default();
    (
        MediaRings { from_call: from_call_in, agent: agent_in, to_phone: to_phone_out, live: live.clone() },
        JackRings { from_call: from_call_out, agent: agent_out, to_phone: to_phone_in, live },
    )
}
