//! STUN messages on the wire (RFC 8489 sections 5, 14): Binding requests written, their answers read.

use std::net::{IpAddr, SocketAddr};

/// Where a server listens when no port is given (section 18.6).
pub const DEFAULT_PORT: u16 = 3478;

const MAGIC_COOKIE: u32 = 0x2112_A442;
const HEADER: usize = 20;
/// An answer that is longer came in fragments, or is none.
const LONGEST: usize = 1500;
/// The most of an error's reason that is told, in characters.
const LONGEST_REASON: usize = 120;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
/// Types from here on may be passed over by whoever does not know them (section 14).
const OPTIONAL: u16 = 0x8000;
/// Known, and of no use to us: USERNAME, UNKNOWN-ATTRIBUTES, REALM, NONCE, and what servers of RFC 3489 put beside the mapped
/// address: RESPONSE-ADDRESS, CHANGE-REQUEST, SOURCE-ADDRESS, CHANGED-ADDRESS, PASSWORD, REFLECTED-FROM.
const PASSED_OVER: [u16; 10] = [0x0002, 0x0003, 0x0004, 0x0005, 0x0006, 0x0007, 0x000A, 0x000B, 0x0014, 0x0015];

/// The checksum is made different from other uses of CRC-32 by this (section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// What a request and its answer have in common: 96 bits that nobody can guess.
pub type TransactionId = [u8; 12];

/// What the answer to a Binding request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The server saw the request come from there.
    Mapped(SocketAddr),
    /// The server does not answer this: code (300 to 699) and reason, which is printable and short.
    Refused(u16, String),
    /// It is an answer, and nothing can be done with it, for this reason.
    Useless(&'static str),
}

/// Whether a datagram on a socket of SIP is STUN: told by its first byte (RFC 7983), that no SIP message begins with.
pub(crate) fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first <= 3)
}

/// A Binding request without attributes; every server takes that. `id` must be random, so that nobody can guess an answer.
pub fn request(id: &TransactionId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend(BINDING_REQUEST.to_be_bytes());
    bytes.extend(0_u16.to_be_bytes());
    bytes.extend(MAGIC_COOKIE.to_be_bytes());
    bytes.extend(id);
    bytes
}

/// Reads a datagram. `None`: it is no answer to a Binding request, or is broken.
pub fn read(bytes: &[u8]) -> Option<(TransactionId, Answer)> {
    let (header, body) = bytes.split_at_checked(HEADER).filter(|_| bytes.len() <= LONGEST)?;
    let kind = number16(header, 0)?;
    let whole = usize::from(number16(header, 2)?) == body.len() && body.len().is_multiple_of(4);
    if !whole || number32(header, 4)? != MAGIC_COOKIE || !matches!(kind, BINDING_SUCCESS | BINDING_ERROR) {
        return None;
    }
    let id: TransactionId = header.get(8..)?.try_into().ok()?;
    let found = Attributes::read(bytes, body, &id)?;
    let answer = if found.unknown {
        // section 6.3.3: such an answer counts for nothing
        Answer::Useless("the server's answer has an attribute that is not known here")
    } else if kind == BINDING_ERROR {
        let (code, reason) = found.error?;
        Answer::Refused(code, reason)
    } else {
        match found.xor_mapped.or(found.mapped) {
            Some(address) if is_usable(address) => Answer::Mapped(address),
            Some(_) => Answer::Useless("the address in the server's answer is nobody's"),
            None => Answer::Useless("there is no address in the server's answer"),
        }
    };
    Some((id, answer))
}

/// The attributes that matter. The first of each kind counts (section 14).
#[derive(Default)]
struct Attributes {
    xor_mapped: Option<SocketAddr>,
    mapped: Option<SocketAddr>,
    error: Option<(u16, String)>,
    /// One is there that must be understood, and is not.
    unknown: bool,
}

impl Attributes {
    /// `None`: one of them is broken, or the fingerprint is wrong.
    fn read(bytes: &[u8], body: &[u8], id: &TransactionId) -> Option<Attributes> {
        let mut found = Attributes::default();
        let mut rest = body;
        // what follows the integrity check is not covered by it and does not count
        let mut covered = true;
        while !rest.is_empty() {
            let (kind, length) = (number16(rest, 0)?, usize::from(number16(rest, 2)?));
            let value = rest.get(4..)?.get(..length)?;
            let at = bytes.len() - rest.len();
            // values are filled up to four bytes
            rest = rest.get(4 + length.next_multiple_of(4)..)?;
            match kind {
                FINGERPRINT => {
                    let right = checksum(bytes.get(..at)?) ^ FINGERPRINT_XOR;
                    return (length == 4 && rest.is_empty() && number32(value, 0)? == right).then_some(found);
                }
                MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => covered = false,
                _ if !covered => {}
                XOR_MAPPED_ADDRESS => {
                    let address = unmask(read_address(value)?, id);
                    found.xor_mapped.get_or_insert(address);
                }
                MAPPED_ADDRESS => {
                    let address = read_address(value)?;
                    found.mapped.get_or_insert(address);
                }
                ERROR_CODE => {
                    let error = read_error(value)?;
                    found.error.get_or_insert(error);
                }
                _ => found.unknown |= kind < OPTIONAL && !PASSED_OVER.contains(&kind),
            }
        }
        Some(found)
    }
}

/// Section 14.1: a byte that is ignored, the family, the port, the address.
fn read_address(value: &[u8]) -> Option<SocketAddr> {
    let (port, address) = (number16(value, 2)?, value.get(4..)?);
    let ip: IpAddr = match value.get(1)? {
        1 => <[u8; 4]>::try_from(address).ok()?.into(),
        2 => <[u8; 16]>::try_from(address).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Section 14.2: port and address are masked, so that NATs that rewrite addresses wherever they see them leave these alone.
fn unmask(masked: SocketAddr, id: &TransactionId) -> SocketAddr {
    let ip: IpAddr = match masked.ip() {
        IpAddr::V4(ip) => (ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes().into(),
        IpAddr::V6(ip) => {
            let low = id.iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
            (ip.to_bits() ^ (u128::from(MAGIC_COOKIE) << 96 | low)).to_be_bytes().into()
        }
    };
    // the mask of the port is the cookie's upper half
    SocketAddr::new(ip, masked.port() ^ (MAGIC_COOKIE >> 16) as u16)
}

/// Section 14.8: the hundreds, the rest, and words for people.
fn read_error(value: &[u8]) -> Option<(u16, String)> {
    let (hundreds, rest) = (value.get(2)? & 7, *value.get(3)?);
    if !(3..=6).contains(&hundreds) || rest > 99 {
        return None;
    }
    let words = String::from_utf8_lossy(value.get(4..)?);
    let reason = words.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
    Some((u16::from(hundreds) * 100 + u16::from(rest), reason))
}

/// Somebody could be reached there.
fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]);
    address.port() != 0 && !nobody
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// CRC-32 of ITU-T V.42, bit by bit: messages are short and few.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
