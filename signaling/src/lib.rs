//! SIP signaling: a sans-IO user agent and a thin mio loop around it.
//!
//! ```text
//!            net::Endpoint (one thread: UDP socket, TCP and TLS connections, timers, command and event queues)
//!                 |  datagrams, now                    ^ datagrams, deadline, events
//!                 v                                    |
//!   UserAgent  -- message --> transaction --> dialog/call, registration --> Event
//! ```
//!
//! The one invariant: [`UserAgent`] never reads a clock, opens a socket or looks up a name. Time comes in as a
//! parameter, bytes go in by [`UserAgent::handle_datagram`] and out by [`UserAgent::poll_transmit`], names are asked for by
//! [`UserAgent::poll_resolve`] and answered by [`UserAgent::handle_resolved`]. After any of its methods was called, drain
//! `poll_transmit`, `poll_event` and `poll_resolve`, then sleep until `poll_timeout` or the next datagram.
//!
//! What bytes from outside can do: be answered, be counted and dropped. Never panic, never allocate without a bound
//! (`agent::limits` lists the bounds).
//!
//! This room never touches an audio sample; session descriptions are text made and read by [`sdp`].
#![deny(missing_docs)]

mod account;
mod agent;
mod auth;
mod call;
mod dialog;
mod error;
mod event;
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
mod message;
pub mod net;
mod registration;
pub mod sdp;
mod secrets;
pub mod stun;
mod timer;
pub mod toll;
pub mod trace;
mod transaction;
mod transport;

pub use account::{Account, DEFAULT_EXPIRES, DEFAULT_OPTIONS};
pub use agent::{
    Counters, DEFAULT_SESSION_EXPIRES, LocalIp, ReferPolicy, Resolve, ResolveId, Seed, Target, Transmit, UserAgent,
    UserAgentConfig,
};
pub use auth::Password;
pub use error::SignalingError;
pub use event::{CallId, Dial, EndCause, Event};
pub use transport::{ConnectionId, Peer, Transport};
