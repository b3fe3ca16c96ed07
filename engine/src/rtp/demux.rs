//! What kind of datagram came to a media port, by its first bytes (RFC 7983 section 7, RFC 5761 section 4). Nothing here
//! allocates or panics, whatever the bytes are.

/// Length of the STUN header (RFC 8489 section 5).
const STUN_HEADER_BYTES: usize = 20;
/// What stands in every STUN header behind type and length.
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// The first byte of the version of every DTLS record: 1.0 is 0xFEFF, 1.2 is 0xFEFD.
const DTLS_VERSION_MAJOR: u8 = 0xFE;
/// Type, version, epoch, sequence number and length of a DTLS record.
const DTLS_HEADER_BYTES: usize = 13;

/// A kind of datagram on a media port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram {
    /// RTP, or SRTP.
    Rtp,
    /// RTCP, or SRTCP.
    Rtcp,
    /// A STUN message with lengths that fit: a far end that keeps a NAT open, or tries ICE.
    Stun,
    /// A DTLS record: a far end that tries DTLS-SRTP.
    Dtls,
    /// Anything else: ZRTP, TURN channels, noise.
    Unknown,
}

impl Datagram {
    /// Tells what it is.
    #[must_use]
    pub fn classify(bytes: &[u8]) -> Self {
        match *bytes {
            // packet types 192-223 stand where RTP has marker and payload type
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, ..] => Self::Rtp,
            [0..=3, ..] if is_stun(bytes) => Self::Stun,
            [20..=63, DTLS_VERSION_MAJOR, ..] if bytes.len() >= DTLS_HEADER_BYTES => Self::Dtls,
            _ => Self::Unknown,
        }
    }
}

fn is_stun(bytes: &[u8]) -> bool {
    let [_, _, high, low, a, b, c, d, ..] = *bytes else { return false };
    let length = usize::from(u16::from_be_bytes([high, low]));
    [a, b, c, d] == STUN_COOKIE && length.is_multiple_of(4) && bytes.len() == STUN_HEADER_BYTES + length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((attributes.len() as u16).to_be_bytes());
        bytes.extend(STUN_COOKIE);
        bytes.extend([7; 12]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn every_kind_is_told_by_its_first_bytes() {
        assert_eq!(Datagram::classify(&stun(1, &[])), Datagram::Stun);
        assert_eq!(Datagram::classify(&stun(0x0101, &[0; 8])), Datagram::Stun);
        let hello = [&[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100][..], &[1; 100]].concat();
        assert_eq!(Datagram::classify(&hello), Datagram::Dtls);
        assert_eq!(Datagram::classify(&[0x80, 0, 0, 1]), Datagram::Rtp);
        assert_eq!(Datagram::classify(&[0x80, 0x80 | 101, 0, 1]), Datagram::Rtp);
        assert_eq!(Datagram::classify(&[0x81, 200, 0, 6]), Datagram::Rtcp);
    }

    #[test]
    fn case_27_what_only_looks_like_it_is_unknown() {
        let whole = stun(1, &[0; 8]);
        for length in 0..whole.len() {
            assert_eq!(Datagram::classify(&whole[..length]), Datagram::Unknown, "cut to {length}");
        }
        let mut no_cookie = whole.clone();
        no_cookie[4] ^= 1;
        assert_eq!(Datagram::classify(&no_cookie), Datagram::Unknown);
        assert_eq!(Datagram::classify(&[&whole[..], &[0]].concat()), Datagram::Unknown);
        for first in [4, 16, 20, 63, 64, 79, 127, 192, 255] {
            assert_eq!(Datagram::classify(&[first; 40]), Datagram::Unknown, "{first}");
        }
    }
}
