//! A call as a capture file, for Wireshark.
//!
//! Classic pcap with nanoseconds, link type 101 (raw IP): a packet begins with its IP header. Every message is written as one
//! UDP datagram, **also what went over TCP or TLS** — whole and in clear, under the addresses and ports of its connection — so
//! that Wireshark shows the SIP in it without having to put streams together, and without keys. Its secrets are redacted as
//! everywhere.
//!
//! What must hold: all lengths and checksums are right, whatever the messages hold; a message too long for a datagram is cut.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{CallTrace, Flow};

/// Little-endian, nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const LINKTYPE_RAW: u32 = 101;
const SNAPLEN: u32 = 262_144;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const HOPS: u8 = 64;
/// What fits into a datagram of either family.
const LONGEST: usize = u16::MAX as usize - IPV4_HEADER - UDP_HEADER;

/// Writes a call as a capture file. `wall`: what the clock on the wall showed at `now`, whenever that is.
pub fn pcap(call: &CallTrace, now: Instant, wall: SystemTime) -> Vec<u8> {
    let mut out = Vec::new();
    for field in [MAGIC, u32::from_le_bytes([2, 0, 4, 0]), 0, 0, SNAPLEN, LINKTYPE_RAW] {
        out.extend(field.to_le_bytes());
    }
    for (i, message) in call.messages.iter().enumerate() {
        let (from, to) = match message.path.flow {
            Flow::Sent => (message.path.local, message.path.remote),
            Flow::Received => (message.path.remote, message.path.local),
        };
        let payload = message.bytes.get(..LONGEST).unwrap_or(&message.bytes);
        // a number of its own for each, by which fragments would be told apart
        let packet = ip_packet(from, to, payload, (i & 0xffff) as u16);
        let (seconds, nanos) = wall_time(message.at, now, wall);
        let length = packet.len() as u32;
        for field in [seconds, nanos, length, length] {
            out.extend(field.to_le_bytes());
        }
        out.extend(packet);
    }
    out
}

/// Seconds and nanoseconds since 1970; 0 for what was before.
fn wall_time(at: Instant, now: Instant, wall: SystemTime) -> (u32, u32) {
    let time = match at.checked_duration_since(now) {
        Some(after) => wall.checked_add(after),
        None => wall.checked_sub(now.saturating_duration_since(at)),
    };
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    (u32::try_from(since.as_secs()).unwrap_or(u32::MAX), since.subsec_nanos())
}

fn ip_packet(from: SocketAddr, to: SocketAddr, payload: &[u8], id: u16) -> Vec<u8> {
    match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let (source, target) = (source.octets(), target.octets());
            let datagram = udp_datagram(from, to, payload, &source, &target);
            let total = (IPV4_HEADER + datagram.len()) as u16;
            // version and length of the header; type of service; total length; id; don't fragment; hops; protocol; checksum
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend(id.to_be_bytes());
            header.extend([0x40, 0, HOPS, UDP, 0, 0]);
            header.extend(source.iter().chain(&target));
            let sum = checksum(&[&header]);
            for (place, byte) in header.iter_mut().skip(10).zip(sum.to_be_bytes()) {
                *place = byte;
            }
            header.extend(datagram);
            header
        }
        (source, target) => {
            // one of each family: an unspecified address of ours; then both are written as IPv6
            let octets = |ip| match ip {
                IpAddr::V4(ip) => std::net::Ipv4Addr::to_ipv6_mapped(&ip).octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            let (source, target) = (octets(source), octets(target));
            let datagram = udp_datagram(from, to, payload, &source, &target);
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((datagram.len() as u16).to_be_bytes());
            packet.extend([UDP, HOPS]);
            packet.extend(source.iter().chain(&target));
            packet.extend(datagram);
            packet
        }
    }
}

/// RFC 768, with the checksum over the pseudo header of either family; that of IPv6 (RFC 8200 section 8.1) sums up to the
/// same for lengths below 65,536.
fn udp_datagram(from: SocketAddr, to: SocketAddr, payload: &[u8], source: &[u8], target: &[u8]) -> Vec<u8> {
    let length = ((UDP_HEADER + payload.len()) as u16).to_be_bytes();
    let mut datagram = Vec::with_capacity(UDP_HEADER + payload.len());
    datagram.extend(from.port().to_be_bytes());
    datagram.extend(to.port().to_be_bytes());
    datagram.extend(length);
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = match checksum(&[source, target, &[0, UDP], &length, &datagram]) {
        // 0 would mean that there is none
        0 => u16::MAX,
        sum => sum,
    };
    for (place, byte) in datagram.iter_mut().skip(6).zip(sum.to_be_bytes()) {
        *place = byte;
    }
    datagram
}

/// RFC 1071. All parts but the last are of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words.map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |b| u64::from(*b))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
