//! STUN, as far as a client needs it that wants to know its own address behind a NAT (RFC 8489, the Binding method).
//!
//! | file | what it is for |
//! |---|---|
//! | `message` | requests written, answers read |
//! | `exchange` | one request: its transaction id, its timers |
//!
//! Nothing here knows of sockets, clocks or names. Which servers are asked, and when, is the user agent's: `agent::stun`.
//! Whoever wants to ask one question by a socket of its own has [`request`] and [`read`].

mod exchange;
mod message;

pub(crate) use exchange::{Exchange, Step};
pub(crate) use message::is_stun;
pub use message::{Answer, DEFAULT_PORT, TransactionId, read, request};

#[cfg(test)]
mod tests;
