//! What must hold whatever packets the media room is given: no panic, no stall, and what each function here asserts.
//!
//! Each function is a fuzz target; its corpus is `corpus/NAME`, one input a file. An input that once broke something stays there
//! under a name that says what it was. A codec that reads packets from outside gets a target of its own: a function here, three
//! lines in `fuzz_targets`, an entry in `Cargo.toml`, a test in `tests/corpus.rs` and at least one file in its corpus.
#![deny(missing_docs)]

mod call;

use engine::rtp::{demux::Datagram, packet::Packet, rtcp};

pub use call::call;

/// What is read of a packet is written so that it is read again as the same.
pub fn rtp(data: &[u8]) {
    let _ = Datagram::classify(data);
    let Some(packet) = Packet::parse(data) else { return };
    assert!(packet.payload.len() < data.len());
    let mut buffer = vec![0; data.len()];
    let length = packet.write(&mut buffer);
    assert_eq!(Packet::parse(&buffer[..length]), Some(packet));
}

/// What a report says about us is believed only within reason.
pub fn rtcp(data: &[u8]) {
    let Some((ssrc, packet)) = data.split_first_chunk::<4>() else { return };
    let Some(received) = rtcp::parse(packet, u32::from_be_bytes(*ssrc)) else { return };
    if let Some(ms) = received.about_us.and_then(|about| about.round_trip_ms(0)) {
        assert!((0.0..60_000.0).contains(&ms));
    }
}
