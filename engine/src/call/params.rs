//! What was agreed about a call's media, and what is built for it before the media thread gets it.

use std::net::SocketAddr;

use crate::TICK;
use crate::codec::{Codec, Decoder, Encoder};
use crate::dtmf::TelephoneEvent;
use crate::rtp::srtp::{SrtpParams, SrtpSession};

/// Packets that are sent are of these lengths, in ms.
const PTIMES_MS: [u16; 5] = [10, 20, 30, 40, 60];
/// What every telephone expects (RFC 3551 section 4.2).
const DEFAULT_PTIME_MS: u16 = 20;
/// Samples of the longest packet that is sent.
pub(super) const MAX_SENT_SAMPLES: usize = 60 * 8;

/// What was agreed about a call's media.
///
/// ```
/// use mr_sip_engine::{Codec, MediaParams};
/// let remote = "198.51.100.7:4000".parse().unwrap();
/// let params = MediaParams { ptime_ms: 30, ..MediaParams::new(remote, Codec::Pcma, 8) };
/// assert!(params.send && params.receive && params.srtp.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaParams {
    /// Where the far end's SDP says that it receives RTP.
    pub remote: SocketAddr,
    /// How audio is written, both ways.
    pub codec: Codec,
    /// The payload type that stands for it in what we send: the far end's number for it.
    pub payload_type: u8,
    /// The payload type that stands for it in what we receive: our number for it. Most far ends keep to one for both.
    pub receive_payload_type: u8,
    /// Telephone events (RFC 4733), if agreed.
    pub telephone_event: Option<TelephoneEvent>,
    /// The payload type of comfort noise (RFC 3389), if agreed: then nothing is sent while nobody speaks. Comfort noise that
    /// comes is always understood.
    pub comfort_noise: Option<u8>,
    /// Whether pauses are left out of the Opus that we send (RFC 7587 section 3.1.3, `usedtx`). Those that the far
    /// end leaves out are always understood from the packet of a byte or two that begins them.
    pub opus_dtx: bool,
    /// How long the packets are that we send: 10, 20, 30, 40 or 60 ms (Opus: not 30). Anything else becomes the next
    /// shorter one. What the far end sends may have any length from 5 to 120 ms.
    pub ptime_ms: u16,
    /// Whether RTCP goes to the RTP port (RFC 5761). It is taken there in any case.
    pub rtcp_mux: bool,
    /// Encryption, if agreed: then nothing else is taken.
    pub srtp: Option<SrtpParams>,
    /// Whether we send (not while the far end holds us).
    pub send: bool,
    /// Whether the far end sends (not while it is held, or inactive).
    pub receive: bool,
}

impl MediaParams {
    /// Audio both ways in packets of 20 ms, and nothing else.
    #[must_use]
    pub fn new(remote: SocketAddr, codec: Codec, payload_type: u8) -> Self {
        Self {
            remote,
            codec,
            payload_type,
            receive_payload_type: payload_type,
            telephone_event: None,
            comfort_noise: None,
            opus_dtx: false,
            ptime_ms: DEFAULT_PTIME_MS,
            rtcp_mux: false,
            srtp: None,
            send: true,
            receive: true,
        }
    }

    /// How long the packets really are that are sent, in ms.
    #[must_use]
    pub fn sent_ptime_ms(&self) -> u16 {
        let fits = |ms: &&u16| **ms <= self.ptime_ms && self.codec.can_send_ms(**ms);
        match self.ptime_ms {
            0 => DEFAULT_PTIME_MS,
            _ => PTIMES_MS.iter().rev().find(fits).copied().unwrap_or(PTIMES_MS[0]),
        }
    }

    /// Ticks from one sent packet to the next.
    pub(super) fn packet_ticks(&self) -> u64 {
        u64::from(self.sent_ptime_ms()) / (TICK.as_millis() as u64)
    }

    /// So many samples of 8 kHz in units of the codec's RTP clock.
    pub(super) fn timestamp_step(&self, samples: usize) -> u32 {
        u32::try_from(samples).unwrap_or(0).wrapping_mul(self.codec.clock_rate_hz() / 8_000)
    }
}

/// All that parameters need to work: keys and the codec's states. Building it allocates and takes its time, so it is done
/// elsewhere and moved in; the media thread puts what it had into its place and moves it out again, to be dropped.
#[derive(Debug)]
pub struct MediaParts {
    pub(super) params: MediaParams,
    pub(super) srtp: Option<SrtpSession>,
    pub(super) encoder: Encoder,
    pub(super) decoder: Decoder,
}

impl MediaParts {
    /// Builds them.
    #[must_use]
    pub fn new(params: MediaParams) -> Self {
        Self {
            srtp: params.srtp.as_ref().map(SrtpSession::new),
            encoder: Encoder::new(params.codec).with_dtx(params.opus_dtx),
            decoder: Decoder::new(params.codec),
            params,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_get_the_next_shorter_length_that_there_is() {
        let params = |codec, ptime_ms| MediaParams {
            ptime_ms,
            ..MediaParams::new(SocketAddr::from(([192, 0, 2, 1], 4000)), codec, 0)
        };
        for (asked, sent) in [(0, 20), (3, 10), (10, 10), (20, 20), (25, 20), (30, 30), (50, 40), (60, 60), (900, 60)] {
            assert_eq!(params(Codec::Pcmu, asked).sent_ptime_ms(), sent, "{asked} ms");
            let opus = if sent == 30 { 20 } else { sent };
            assert_eq!(params(Codec::Opus, asked).sent_ptime_ms(), opus, "{asked} ms");
        }
    }
}
