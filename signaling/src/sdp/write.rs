//! Descriptions, as we write them.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use sdp_types::Media;

use super::{AudioCodec, Direction, OpusFormat, codec::Format, crypto::CryptoLine, read::Profile};

/// Everything above the first m-line.
pub(super) fn head(ip: IpAddr) -> String {
    let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
    format!("v=0\r\no=- 0 0 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n")
}

/// An audio line of ours.
#[derive(Debug)]
pub(super) struct AudioOut<'a> {
    pub(super) addr: SocketAddr,
    pub(super) profile: Profile,
    pub(super) formats: &'a [(u8, Format)],
    pub(super) opus: OpusFormat,
    pub(super) ptime_ms: u8,
    pub(super) direction: Direction,
    pub(super) crypto: &'a [CryptoLine],
    pub(super) rtcp_mux: bool,
}

impl AudioOut<'_> {
    pub(super) fn write(&self, sdp: &mut String) {
        // writing to a String cannot fail
        let _ = write!(sdp, "m=audio {} {}", self.addr.port(), self.profile.as_str());
        for (payload, _) in self.formats {
            let _ = write!(sdp, " {payload}");
        }
        sdp.push_str("\r\n");
        for (payload, format) in self.formats {
            if let Some(encoding) = format.encoding() {
                let _ = write!(sdp, "a=rtpmap:{payload} {encoding}\r\n");
            }
            match format {
                Format::Audio(AudioCodec::Opus) => {
                    let _ = write!(sdp, "a=fmtp:{payload} {}\r\n", self.opus.parameters());
                }
                Format::Digits(_) => {
                    let _ = write!(sdp, "a=fmtp:{payload} 0-15\r\n");
                }
                _ => {}
            }
        }
        for line in self.crypto {
            let _ = write!(sdp, "a=crypto:{}\r\n", line.value());
        }
        if self.rtcp_mux {
            sdp.push_str("a=rtcp-mux\r\n");
        }
        let _ = write!(sdp, "a=ptime:{}\r\na={}\r\n", self.ptime_ms, self.direction.as_str());
    }
}

/// Port 0, with kind, transport and first format as they were (RFC 3264 section 6) — if they are plain tokens.
pub(super) fn refused_line(sdp: &mut String, line: &Media) {
    let token = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic());
    let or = |s: &str, other: &str| {
        if token(s) { s.to_owned() } else { other.to_owned() }
    };
    let format = line.fmt.split_whitespace().next().unwrap_or("0");
    let _ = write!(sdp, "m={} 0 {} {}\r\n", or(&line.media, "audio"), or(&line.proto, "RTP/AVP"), or(format, "0"));
}
