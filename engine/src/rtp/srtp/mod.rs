//! SRTP and SRTCP (RFC 3711) with keys from the session description (SDES, RFC 4568): `AES_CM_128_HMAC_SHA1_80` and `_32`.
//!
//! ```text
//! MasterKey --derive--> SessionKeys (cipher, salt, HMAC) --+-- protect:   encrypt, then tag
//!                                                          +-- unprotect: number, replay, tag, then decrypt
//! ```
//!
//! What must hold:
//! - Packets are worked on where they lie. Nothing here allocates, and nothing panics, whatever the bytes are.
//! - No state changes before the tag was found right: forged packets cost time and a count, never the call (case 24).
//! - Tags are compared in constant time. SRTCP's are 80 bits in both suites (RFC 4568 section 6.2.2).
//!
//! Not done, as SDES makes it optional and nobody offers it: master key identifiers, key derivation rates, unencrypted or
//! unauthenticated streams. Signaling must not agree on them.
//!
//! A new master key starts rollover counters at zero; a far end that counts on through the new key is understood too. For
//! a while after the change the key before it is still taken, for the packets on their way.

mod index;
mod keys;

use std::time::Duration;

use crate::clock::Time;
use index::Sources;
pub use keys::MasterKey;
use keys::{SessionKeys, Use};

/// The most that protecting adds to a packet: the tag, and for RTCP the index before it.
pub const MAX_TRAILER_BYTES: usize = RTCP_TAG_BYTES + RTCP_INDEX_BYTES;

const RTCP_TAG_BYTES: usize = 10;
const RTCP_INDEX_BYTES: usize = 4;
/// What of RTCP stays readable: the first header and the sender's SSRC (section 3.4).
const RTCP_CLEAR_BYTES: usize = 8;
const RTP_HEADER_BYTES: usize = 12;
/// The bit before the SRTCP index: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// How long the key before the last is still taken: longer than packets are on their way.
const OLD_KEY_LIFETIME: Duration = Duration::from_secs(2);
/// A stream that begins below this may have passed the wrap before its first packet came through: within 5 s.
const JUST_WRAPPED: u16 = 256;

/// The suites of RFC 4568 section 6.2 that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SrtpSuite {
    /// `AES_CM_128_HMAC_SHA1_80`: tags of 80 bits.
    AesCm128HmacSha1_80,
    /// `AES_CM_128_HMAC_SHA1_32`: tags of 32 bits on RTP.
    AesCm128HmacSha1_32,
}

impl SrtpSuite {
    /// The suite of a name in a session description.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::AesCm128HmacSha1_80, Self::AesCm128HmacSha1_32].into_iter().find(|suite| suite.name() == name)
    }

    /// The name in a session description.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// Bytes of the tag of an RTP packet.
    const fn tag_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
        }
    }
}

/// What was agreed about the encryption of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpParams {
    /// How, both ways.
    pub suite: SrtpSuite,
    /// The key that we named: what we send is encrypted with it.
    pub local: MasterKey,
    /// The key that the far end named.
    pub remote: MasterKey,
}

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is too short for its header and its tag.
    Malformed,
    /// It came before, or its turn is long over (case 25).
    Replayed,
    /// Its tag is wrong: damaged, forged, plain, or of another key (case 24).
    Unauthentic,
}

/// The encryption of one call, both ways.
#[derive(Debug)]
pub struct SrtpSession {
    params: SrtpParams,
    sender: Sender,
    receiver: Receiver,
    /// The key before, and until when it is taken.
    before: Option<(Receiver, Time)>,
}

impl SrtpSession {
    /// Derives all keys. Nothing here allocates, but it takes some microseconds.
    #[must_use]
    pub fn new(params: &SrtpParams) -> Self {
        Self {
            sender: Sender::new(params.suite, &params.local),
            receiver: Receiver::new(params.suite, &params.remote),
            before: None,
            params: params.clone(),
        }
    }

    /// Takes over what goes on from the session before: the counters of a key that stayed the same, and for a while the far
    /// end's key before this one.
    pub fn follow(&mut self, now: Time, before: &Self) {
        let other_suite = self.params.suite != before.params.suite;
        if self.params.local == before.params.local {
            self.sender = Sender { tag_bytes: self.sender.tag_bytes, ..before.sender.clone() };
        }
        let other_key = self.params.remote != before.params.remote;
        if !other_key {
            self.receiver = Receiver { tag_bytes: self.receiver.tag_bytes, ..before.receiver.clone() };
        }
        self.before = if other_key || other_suite {
            Some((before.receiver.clone(), now + OLD_KEY_LIFETIME))
        } else {
            before.before.clone()
        };
    }

    /// Encrypts and tags the RTP packet of `length` bytes at the beginning of `buffer`; returns the new length, 0 if there
    /// is no room or no packet.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], length: usize) -> usize {
        self.sender.protect_rtp(buffer, length).unwrap_or(0)
    }

    /// The same for a compound RTCP packet.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> usize {
        self.sender.protect_rtcp(buffer, length).unwrap_or(0)
    }

    /// Checks and decrypts an RTP packet; returns its length without the tag.
    ///
    /// # Errors
    /// See [`Refusal`]; the bytes are then as they were.
    pub fn unprotect_rtp(&mut self, now: Time, bytes: &mut [u8]) -> Result<usize, Refusal> {
        let carried = self.before.as_ref().map(|(before, _)| before);
        match self.receiver.unprotect_rtp(bytes, carried) {
            Err(Refusal::Unauthentic) => self.with_key_before(now, |before| before.unprotect_rtp(bytes, None)),
            other => other,
        }
    }

    /// Checks and decrypts a compound RTCP packet; returns its length without index and tag.
    ///
    /// # Errors
    /// See [`Refusal`]; the bytes are then as they were.
    pub fn unprotect_rtcp(&mut self, now: Time, bytes: &mut [u8]) -> Result<usize, Refusal> {
        match self.receiver.unprotect_rtcp(bytes) {
            Err(Refusal::Unauthentic) => self.with_key_before(now, |before| before.unprotect_rtcp(bytes)),
            other => other,
        }
    }

    fn with_key_before(
        &mut self,
        now: Time,
        unprotect: impl FnOnce(&mut Receiver) -> Result<usize, Refusal>,
    ) -> Result<usize, Refusal> {
        let Some((before, until)) = &mut self.before else { return Err(Refusal::Unauthentic) };
        if now >= *until {
            self.before = None;
            return Err(Refusal::Unauthentic);
        }
        unprotect(before)
    }
}

#[derive(Debug, Clone)]
struct Sender {
    tag_bytes: usize,
    rtp: SessionKeys,
    rtcp: SessionKeys,
    /// Whose packets were sent last, and the index of the last one.
    last: Option<(u32, i64)>,
    rtcp_index: u32,
}

impl Sender {
    fn new(suite: SrtpSuite, master: &MasterKey) -> Self {
        Self {
            tag_bytes: suite.tag_bytes(),
            rtp: SessionKeys::derive(master, Use::Rtp),
            rtcp: SessionKeys::derive(master, Use::Rtcp),
            last: None,
            rtcp_index: 0,
        }
    }

    fn protect_rtp(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        let (packet, behind) = buffer.split_at_mut_checked(length)?;
        let tag = behind.get_mut(..self.tag_bytes)?;
        let (ssrc, sequence, header) = rtp_header(packet)?;
        let index = match self.last {
            Some((of, last)) if of == ssrc => crate::rtp::extend_sequence(last, sequence).max(0),
            _ => i64::from(sequence),
        };
        self.last = Some((ssrc, index));
        self.rtp.apply(ssrc, index.cast_unsigned(), packet.get_mut(header..)?);
        let full = self.rtp.tag(packet, &rollovers(index));
        tag.copy_from_slice(&full[..self.tag_bytes]);
        Some(length + self.tag_bytes)
    }

    fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        let end = length + RTCP_INDEX_BYTES;
        let tag_end = end + RTCP_TAG_BYTES;
        if buffer.len() < tag_end {
            return None;
        }
        let ssrc = rtcp_ssrc(&buffer[..length])?;
        let index = self.rtcp_index;
        self.rtcp_index = (index + 1) % ENCRYPTED;
        self.rtcp.apply(ssrc, u64::from(index), &mut buffer[RTCP_CLEAR_BYTES..length]);
        buffer[length..end].copy_from_slice(&(ENCRYPTED | index).to_be_bytes());
        let tag = self.rtcp.tag(&buffer[..end], &[]);
        buffer[end..tag_end].copy_from_slice(&tag[..RTCP_TAG_BYTES]);
        Some(tag_end)
    }
}

#[derive(Debug, Clone)]
struct Receiver {
    tag_bytes: usize,
    rtp: SessionKeys,
    rtcp: SessionKeys,
    rtp_sources: Sources,
    rtcp_sources: Sources,
}

impl Receiver {
    fn new(suite: SrtpSuite, master: &MasterKey) -> Self {
        Self {
            tag_bytes: suite.tag_bytes(),
            rtp: SessionKeys::derive(master, Use::Rtp),
            rtcp: SessionKeys::derive(master, Use::Rtcp),
            rtp_sources: Sources::default(),
            rtcp_sources: Sources::default(),
        }
    }

    /// `carried`: what was received with the key before, whose rollover counter the far end may have kept.
    fn unprotect_rtp(&mut self, bytes: &mut [u8], carried: Option<&Self>) -> Result<usize, Refusal> {
        let length = bytes.len().checked_sub(self.tag_bytes).ok_or(Refusal::Malformed)?;
        let (packet, tag) = bytes.split_at_mut(length);
        let (ssrc, sequence, header) = rtp_header(packet).ok_or(Refusal::Malformed)?;
        let index = match self.rtp_sources.guess(ssrc, sequence) {
            Some(index) if !self.rtp_sources.is_new(ssrc, index) => return Err(Refusal::Replayed),
            Some(index) => self.authentic(packet, tag, index),
            None => {
                // the first packet that is heard of a source, under this key
                let carried =
                    carried.and_then(|before| before.rtp_sources.guess(ssrc, sequence)).filter(|&i| i > 0xFFFF);
                let wrapped = (sequence < JUST_WRAPPED).then_some(0x1_0000 | i64::from(sequence));
                let guesses = [Some(i64::from(sequence)), carried, wrapped];
                guesses.into_iter().flatten().find_map(|index| self.authentic(packet, tag, index))
            }
        };
        let index = index.ok_or(Refusal::Unauthentic)?;
        self.rtp_sources.take(ssrc, index);
        let payload = packet.get_mut(header..).ok_or(Refusal::Malformed)?;
        self.rtp.apply(ssrc, index.cast_unsigned(), payload);
        Ok(length)
    }

    fn unprotect_rtcp(&mut self, bytes: &mut [u8]) -> Result<usize, Refusal> {
        let end = bytes.len().checked_sub(RTCP_TAG_BYTES).ok_or(Refusal::Malformed)?;
        let length = end.checked_sub(RTCP_INDEX_BYTES).ok_or(Refusal::Malformed)?;
        let ssrc = rtcp_ssrc(&bytes[..length]).ok_or(Refusal::Malformed)?;
        let (packet, tag) = bytes.split_at_mut(end);
        let word = packet[length..].try_into().map(u32::from_be_bytes).map_err(|_| Refusal::Malformed)?;
        let index = word & !ENCRYPTED;
        if !self.rtcp_sources.is_new(ssrc, i64::from(index)) {
            return Err(Refusal::Replayed);
        }
        if !self.rtcp.verifies(packet, &[], tag) {
            return Err(Refusal::Unauthentic);
        }
        self.rtcp_sources.take(ssrc, i64::from(index));
        if word & ENCRYPTED != 0 {
            self.rtcp.apply(ssrc, u64::from(index), &mut packet[RTCP_CLEAR_BYTES..length]);
        }
        Ok(length)
    }

    /// The index, if the tag is right with its rollover counter.
    fn authentic(&self, packet: &[u8], tag: &[u8], index: i64) -> Option<i64> {
        self.rtp.verifies(packet, &rollovers(index), tag).then_some(index)
    }
}

/// The rollover counter of an index, as it is authenticated.
fn rollovers(index: i64) -> [u8; 4] {
    let [_, _, counter @ .., _, _] = index.to_be_bytes();
    counter
}

/// SSRC, sequence number, and where the payload begins (behind contributing sources and extension, which stay readable).
fn rtp_header(packet: &[u8]) -> Option<(u32, u16, usize)> {
    let header = packet.get(..RTP_HEADER_BYTES)?;
    if header[0] >> 6 != 2 {
        return None;
    }
    let mut end = RTP_HEADER_BYTES + 4 * usize::from(header[0] & 0x0F);
    if header[0] & 0x10 != 0 {
        let [_, _, high, low] = *packet.get(end..end + 4)? else { return None };
        end += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    }
    let ssrc = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    (end <= packet.len()).then_some((ssrc, u16::from_be_bytes([header[2], header[3]]), end))
}

/// The sender of a compound RTCP packet.
fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    match *packet {
        [first, _, _, _, a, b, c, d, ..] if first >> 6 == 2 => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
