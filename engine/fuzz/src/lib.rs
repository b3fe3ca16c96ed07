//! What must hold whatever packets the media room is given: no panic, no stall, and what each function here asserts.
//!
//! Each function is a fuzz target; its corpus is `corpus/NAME`, one input a file. An input that once broke something stays there
//! under a name that says what it was. A codec that reads packets from outside gets a target of its own: a function here, three
//! lines in `fuzz_targets`, an entry in `Cargo.toml`, a test in `tests/corpus.rs` and at least one file in its corpus.
#![deny(missing_docs)]

mod call;

use engine::{
    MasterKey, SrtpParams, SrtpSuite,
    clock::Time,
    rtp::{demux::Datagram, packet::Packet, rtcp, srtp::SrtpSession},
};

pub use call::call;

/// Room for what encryption adds to a packet.
pub(crate) const SRTP_ROOM: usize = 16;

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

/// Packets that the far end has not made are refused and left as they were; what it has made comes out as it went in.
///
/// The first byte chooses: bit 0 the suite, bit 1 RTCP.
pub fn srtp(data: &[u8]) {
    let Some((choice, packet)) = data.split_first() else { return };
    let suite = if choice & 1 == 0 { SrtpSuite::AesCm128HmacSha1_80 } else { SrtpSuite::AesCm128HmacSha1_32 };
    let (mut ours, mut theirs) = sessions(suite);
    let rtcp = choice & 2 != 0;
    let mut unprotect = |bytes: &mut [u8]| {
        if rtcp { ours.unprotect_rtcp(Time::ZERO, bytes) } else { ours.unprotect_rtp(Time::ZERO, bytes) }
    };
    let mut forged = packet.to_vec();
    assert!(unprotect(&mut forged).is_err());
    assert_eq!(forged, packet);
    let mut sealed = packet.to_vec();
    sealed.resize(packet.len() + SRTP_ROOM, 0);
    let length = if rtcp {
        theirs.protect_rtcp(&mut sealed, packet.len())
    } else {
        theirs.protect_rtp(&mut sealed, packet.len())
    };
    if length > 0 {
        let opened = unprotect(&mut sealed[..length]).expect("the far end's own packet");
        assert_eq!(&sealed[..opened], packet);
    }
}

/// Both ends of an encrypted call.
pub(crate) fn sessions(suite: SrtpSuite) -> (SrtpSession, SrtpSession) {
    let ours = params(suite);
    let theirs = SrtpParams { suite, local: ours.remote.clone(), remote: ours.local.clone() };
    (SrtpSession::new(&ours), SrtpSession::new(&theirs))
}

pub(crate) fn params(suite: SrtpSuite) -> SrtpParams {
    SrtpParams { suite, local: MasterKey::new([1; 30]), remote: MasterKey::new([2; 30]) }
}
