//! What we have to offer, and what was agreed on.

use std::net::SocketAddr;

use super::{AudioCodec, CryptoKey, DEFAULT_PTIME_MS, OpusFormat, SrtpPlan, SrtpPolicy, SrtpSuite};

/// The packet times that are sent and asked for, in steps of [`PTIME_STEP_MS`].
pub(super) const PTIMES_MS: std::ops::RangeInclusive<u8> = 10..=60;
/// The length that every codec of ours can cut its packets by.
pub(super) const PTIME_STEP_MS: u8 = 10;

/// Which ways media flows, seen from whoever writes the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// Only from the writer.
    SendOnly,
    /// Only to the writer.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From its two halves.
    pub fn new(send: bool, receive: bool) -> Direction {
        match (send, receive) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// The writer sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// The writer receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    pub(super) fn read(name: &str) -> Option<Direction> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|d| d.as_str().eq_ignore_ascii_case(name))
    }
}

/// What we have to offer for one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMedia {
    /// Where we receive RTP, as the far end can reach it.
    pub addr: SocketAddr,
    /// What we speak, best first, at least one. The order counts in our offers; in an answer the offerer's does.
    pub codecs: Vec<AudioCodec>,
    /// Offer and accept digits by RFC 4733.
    pub telephone_event: bool,
    /// Offer and accept comfort noise (RFC 3389): either end then sends nothing while nobody speaks there.
    pub comfort_noise: bool,
    /// What we want; [`Direction::SendOnly`] puts the far end on hold.
    pub direction: Direction,
    /// How much audio we want in a packet, and send in one if the far end has no wish: 10 to 60, in steps of 10.
    pub ptime_ms: u8,
    /// What we want of the Opus that we receive.
    pub opus: OpusFormat,
    /// Whether media is encrypted. Other than [`SrtpPolicy::Off`] it needs at least one key.
    pub srtp: SrtpPolicy,
    /// Our keys, random and made for this call: one for each suite of [`SrtpSuite::ALL`] that is to be offered, in that
    /// order. They stay the same for the whole call, or every description changes the key.
    pub keys: Vec<CryptoKey>,
    /// Offer RTP and RTCP on one port (RFC 5761). Where the far end offers it, it is accepted in any case.
    pub rtcp_mux: bool,
}

impl LocalMedia {
    /// Every codec and digits, both ways, packets of 20 ms, not encrypted.
    pub fn new(addr: SocketAddr) -> LocalMedia {
        LocalMedia {
            addr,
            codecs: AudioCodec::ALL.to_vec(),
            telephone_event: true,
            comfort_noise: false,
            direction: Direction::SendRecv,
            ptime_ms: DEFAULT_PTIME_MS,
            opus: OpusFormat { in_band_fec: true, ..OpusFormat::default() },
            srtp: SrtpPolicy::Off,
            keys: Vec::new(),
            rtcp_mux: false,
        }
    }

    /// Its own, else the first.
    pub(super) fn key(&self, suite: SrtpSuite) -> Option<&CryptoKey> {
        let own = SrtpSuite::ALL.into_iter().zip(&self.keys).find(|(s, _)| *s == suite).map(|(_, key)| key);
        own.or(self.keys.first())
    }

    pub(super) fn ptime(&self) -> u8 {
        self.ptime_ms.clamp(*PTIMES_MS.start(), *PTIMES_MS.end()) / PTIME_STEP_MS * PTIME_STEP_MS
    }
}

/// How digits are sent and received (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TelephoneEvent {
    /// The payload type to send them with.
    pub payload_type: u8,
    /// The one with which the far end sends them.
    pub receive_payload_type: u8,
    /// The unit of their durations. The codec's clock, or 8000 where the far end has no other.
    pub clock_hz: u32,
}

/// What was agreed on: how to send, and what to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlan {
    /// Where RTP goes. Unspecified (`0.0.0.0`) when the far end put us on hold the old way; `send` is false then.
    pub remote: SocketAddr,
    /// Where RTCP goes: `remote` if multiplexed, else where a=rtcp says (RFC 3605), else the port above.
    pub remote_rtcp: SocketAddr,
    /// RTP and RTCP share one port, theirs and ours.
    pub rtcp_mux: bool,
    /// The codec of both directions.
    pub codec: AudioCodec,
    /// Its payload type in what we send: the number that the far end gave it.
    pub payload_type: u8,
    /// Its payload type in what we receive: the number that we gave it. The two differ where both ends offered once.
    pub receive_payload_type: u8,
    /// Digits, if both ends have them.
    pub telephone_event: Option<TelephoneEvent>,
    /// The payload type to send comfort noise with, if both ends have it and the codec's clock is 8 kHz. The far end sends
    /// it with this number too, or with 13.
    pub comfort_noise: Option<u8>,
    /// What the far end wants of the Opus that we send, if that is the codec.
    pub opus: Option<OpusFormat>,
    /// Pauses are left out of the Opus that either end sends (RFC 7587 section 3.1.3): both want that, and so say `usedtx`.
    pub opus_dtx: bool,
    /// How much audio to put in a packet: what the far end wants, else what we want; 10 to 60, in steps of 10.
    pub ptime_ms: u8,
    /// We may send.
    pub send: bool,
    /// The far end may send.
    pub receive: bool,
    /// Keys, if media is encrypted.
    pub srtp: Option<SrtpPlan>,
}
