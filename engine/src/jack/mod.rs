//! The JACK room: one client, three ports a call.

pub mod rings;
