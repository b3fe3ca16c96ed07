//! RTP packets: a checked view of received bytes, and writing into a given buffer. Nothing here allocates or panics,
//! whatever the bytes are.

use rtp_types::{RtpPacket, RtpPacketBuilder};

/// Length of the fixed header, which is all that we ever write.
pub const HEADER_BYTES: usize = 12;

/// What a received packet says. Made by [`Packet::parse`], which has checked every length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Seven bits.
    pub payload_type: u8,
    /// The marker bit: for audio, the start of a talkspurt; for telephone events, of an event.
    pub marker: bool,
    /// Counts packets.
    pub sequence: u16,
    /// Counts samples.
    pub timestamp: u32,
    /// The sender's choice of its own name.
    pub ssrc: u32,
    /// Behind header, contributing sources and extension, before the padding.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a datagram; `None` if it is not RTP version 2 with lengths that fit.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let view = RtpPacket::parse(bytes).ok()?;
        let payload = bytes.get(view.payload_offset()..)?.get(..view.payload_len())?;
        Some(Self {
            payload_type: view.payload_type(),
            marker: view.marker_bit(),
            sequence: view.sequence_number(),
            timestamp: view.timestamp(),
            ssrc: view.ssrc(),
            payload,
        })
    }

    /// Writes the packet into a buffer and returns its length; 0 if it does not fit.
    pub fn write(&self, buffer: &mut [u8]) -> usize {
        RtpPacketBuilder::<&[u8], &[u8]>::new()
            .payload_type(self.payload_type)
            .marker_bit(self.marker)
            .sequence_number(self.sequence)
            .timestamp(self.timestamp)
            .ssrc(self.ssrc)
            .payload(self.payload)
            .write_into(buffer)
            .unwrap_or(0)
    }
}

/// Payload type and SSRC of a packet whose payload may still be encrypted, so that not even its padding can be checked;
/// `None` if it is too short for a header.
#[must_use]
pub fn peek(bytes: &[u8]) -> Option<(u8, u32)> {
    match *bytes {
        [first, kind, _, _, _, _, _, _, a, b, c, d, ..] if first >> 6 == 2 => {
            Some((kind & 0x7F, u32::from_be_bytes([a, b, c, d])))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(payload_type in 0..128_u8, marker: bool, sequence: u16, timestamp: u32, ssrc: u32,
                                   payload in prop::collection::vec(any::<u8>(), 0..480)) {
            let packet = Packet { payload_type, marker, sequence, timestamp, ssrc, payload: &payload };
            let mut buffer = [0; 512];
            let length = packet.write(&mut buffer);
            prop_assert_eq!(length, HEADER_BYTES + payload.len());
            prop_assert_eq!(Packet::parse(&buffer[..length]), Some(packet));
        }

        /// Case 2.
        #[test]
        fn no_datagram_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), first in 0x80..0xC0_u8) {
            let _ = Packet::parse(&bytes);
            let mut with_version = bytes;
            if let Some(byte) = with_version.first_mut() {
                *byte = first;
            }
            for length in 0..with_version.len() {
                if let Some(packet) = Packet::parse(&with_version[..length]) {
                    prop_assert!(packet.payload.len() + HEADER_BYTES <= length);
                }
                let peeked = peek(&with_version[..length]);
                if let Some(packet) = Packet::parse(&with_version[..length]) {
                    prop_assert_eq!(peeked, Some((packet.payload_type, packet.ssrc)));
                }
            }
        }
    }

    #[test]
    fn padding_csrcs_and_extension_are_not_payload() {
        let mut bytes = vec![0b1011_0001, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend([0, 0, 0, 9]); // one CSRC
        bytes.extend([0xBE, 0xDE, 0, 1, 1, 2, 3, 4]); // extension of one word
        bytes.extend([7, 7, 0, 2]); // payload, two bytes of padding
        assert_eq!(Packet::parse(&bytes).unwrap().payload, [7, 7]);
        *bytes.last_mut().unwrap() = 200; // padding longer than the packet
        assert_eq!(Packet::parse(&bytes), None);
    }
}
