//! JACK: each call's audio as ports of one client, so that any JACK program can listen, record or be patched in.
//!
//! ```text
//!  media thread (8 kHz, 5 ms)                         JACK process callback (any rate, any period)
//!  JackCall::exchange  -- caller ---> ring --> crossing --> port  c17:caller
//!                      -- agent ----> ring --> crossing --> port  c17:agent --(patchable)--> c17:to_phone
//!                      <- to_phone -- ring <-- crossing <-----------------------------------------'
//! ```
//!
//! Ports are named after the call, and have aliases named after the far end (`mr-sip:+4930123456:caller`). Connections are
//! made by rule ([`ConnectRule`]) as ports appear. By configuration, each call has a client of its own ([`JackClients`]).
//!
//! [`JackBridge`] owns the client and a manager thread. The manager does everything that may block or allocate:
//! connecting, registering ports, building crossings, reconnecting. The media thread sees only [`JackCall`], whose
//! [`exchange`](JackCall::exchange) neither allocates, locks nor waits. The process callback sees only boxes that the
//! manager moved in by a ring and that it moves out by a ring.
//!
//! What must hold:
//! - A call never waits for JACK and never depends on it. A [`JackCall`] is usable the moment
//!   [`JackBridge::add_call`] returns; while it has no ports yet, or no server, the agent's samples go straight through.
//! - The samples in flight are never lost. When the server dies, [`JackCall`] plays on from what it had handed to JACK,
//!   at the delay the JACK path had, and drops that delay in the first silence.
//! - A server that runs as fast as it can instead of in real time (freewheel) is no clock that a call could follow: calls
//!   go direct until it is done. Its transport is not looked at: a call does not stop because a tape does.
//! - This library never starts and never ends a JACK server.
//! - libjack is loaded at run time; a machine without it gets [`JackError::NoLibrary`] and direct mode.
//!
//! # Where the agent's voice is
//! In JACK mode a sample of the agent's voice is on the wire [`JackCall::in_flight`] samples after it was handed to
//! `exchange`. Whoever counts what was really said subtracts it: `on_the_wire = handed_over - in_flight()`.

mod bridge;
mod call;
mod client;
mod config;
mod connection;
mod manager;
mod names;
mod patchbay;
mod process;
mod rules;

pub use bridge::JackBridge;
pub use call::{JackCall, JackCallStats, Route};
pub use client::JackError;
pub use config::{JackClients, JackConfig, JackEvent, JackState};
pub use rules::ConnectRule;
