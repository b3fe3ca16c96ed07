#![doc = include_str!("../PROTOCOL.md")]
//!
//! # This crate
//!
//! | room | for |
//! |---|---|
//! | [`frame`] | bytes of the stream <-> frames; checked views, no sockets |
//! | [`types`] | every method, result, event and error as a Rust type |
//! | [`server`] | the daemon's end: many clients on one `mio` registry, never blocks |
//! | [`client`] | the other end: a blocking client for command lines and tests |
//! | [`socket`] | where the socket is, and who may own it |
#![deny(missing_docs, missing_debug_implementations)]

pub mod client;
pub mod frame;
pub mod server;
pub mod socket;
pub mod types;

mod error;

pub use client::Client;
pub use error::ControlError;
pub use server::{ClientId, Input, RequestId, Server, ServerConfig};
pub use types::{ApiError, Call, CallId, Encoding, ErrorCode, Event, Method, Request};
