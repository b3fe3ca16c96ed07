//! Descriptions, as they come: what an m-line of audio says, without judging whether it suits us.
//!
//! Only the lines that matter here reach the parser, so that a broken bandwidth or time line of somebody's telephone
//! does not cost the call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sdp_types::{Connection, Media, Session};

use super::{
    Direction, MAX_ATTRIBUTES, MAX_CRYPTO_LINES, MAX_DESCRIPTION, MAX_FORMATS, MAX_MEDIA_LINES, OpusFormat, SdpError,
    codec::{Format, LARGEST_PAYLOAD_TYPE},
    crypto::CryptoLine,
    media::{PTIME_STEP_MS, PTIMES_MS},
};

/// Reads a description within its bounds (case 5).
pub(super) fn read(text: &str) -> Result<Session, SdpError> {
    if text.len() > MAX_DESCRIPTION {
        return Err(SdpError::TooLong(text.len()));
    }
    let begins = |with: &str| text.lines().filter(|l| l.trim_start().starts_with(with)).count();
    let (medias, attributes) = (begins("m="), begins("a="));
    if medias > MAX_MEDIA_LINES {
        return Err(SdpError::TooManyMedia(medias));
    }
    if attributes > MAX_ATTRIBUTES {
        return Err(SdpError::TooManyAttributes(attributes));
    }
    let mut kept = String::with_capacity(text.len());
    let mut has_connection = false;
    for line in text.lines().map(str::trim) {
        match line.get(..2) {
            Some("m=") => {
                let words: Vec<_> = line.split_whitespace().collect();
                kept.push_str(&words.join(" "));
                // formats left out where there is nothing to say, as in a refused line
                if words.len() == 3 {
                    kept.push_str(" *");
                }
                has_connection = false;
            }
            // the first one counts
            Some("c=") if !has_connection => {
                kept.push_str(line);
                has_connection = true;
            }
            Some("v=" | "a=") => kept.push_str(line),
            _ => continue,
        }
        kept.push_str("\r\n");
    }
    Session::parse(kept.as_bytes()).map_err(|e| SdpError::Unreadable(e.to_string()))
}

/// The transport of an audio line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    Avp,
    Avpf,
    Savp,
    Savpf,
    /// SRTP, with keys by DTLS.
    Dtls,
}

impl Profile {
    /// The audio transports that are understood, if only to say why they are refused.
    pub(super) fn read(proto: &str) -> Option<Profile> {
        let known = [Profile::Avp, Profile::Avpf, Profile::Savp, Profile::Savpf];
        let dtls = ["UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"].iter().any(|p| p.eq_ignore_ascii_case(proto));
        known.into_iter().find(|p| p.as_str().eq_ignore_ascii_case(proto)).or(dtls.then_some(Profile::Dtls))
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Profile::Avp => "RTP/AVP",
            Profile::Avpf => "RTP/AVPF",
            Profile::Savp => "RTP/SAVP",
            Profile::Savpf => "RTP/SAVPF",
            Profile::Dtls => "UDP/TLS/RTP/SAVPF",
        }
    }

    /// Nothing but SRTP.
    pub(super) fn is_secure(self) -> bool {
        matches!(self, Profile::Savp | Profile::Savpf | Profile::Dtls)
    }

    /// The same without SRTP.
    pub(super) fn plain(self) -> Profile {
        match self {
            Profile::Savp => Profile::Avp,
            Profile::Savpf => Profile::Avpf,
            other => other,
        }
    }

    /// The same with SRTP.
    pub(super) fn secured(self) -> Profile {
        match self {
            Profile::Avp => Profile::Savp,
            Profile::Avpf => Profile::Savpf,
            other => other,
        }
    }
}

/// An audio line and what the attributes under it say.
#[derive(Debug, Clone)]
pub(super) struct AudioLine {
    pub(super) profile: Profile,
    pub(super) addr: SocketAddr,
    /// By a=rtcp: a port, and perhaps an address of its own.
    rtcp: Option<(u16, Option<IpAddr>)>,
    pub(super) rtcp_mux: bool,
    pub(super) formats: Vec<(u8, Format)>,
    /// The formats as they were written, for people.
    pub(super) formats_text: String,
    opus: Vec<(u8, OpusFormat)>,
    pub(super) direction: Direction,
    ptime_ms: Option<u8>,
    max_ptime_ms: Option<u8>,
    /// Those that can be honoured, the preferred first.
    pub(super) crypto: Vec<CryptoLine>,
    /// There are a=crypto lines, whether or not they can be honoured.
    pub(super) has_crypto: bool,
    /// There is an a=fingerprint: keys by DTLS.
    pub(super) has_fingerprint: bool,
}

impl AudioLine {
    /// Whether this m-line is a live RTP audio stream, and by which profile.
    pub(super) fn profile_of(media: &Media) -> Option<Profile> {
        let live = media.media.eq_ignore_ascii_case("audio") && media.port != 0;
        live.then(|| Profile::read(&media.proto)).flatten()
    }

    /// Reads the m-line.
    ///
    /// # Errors
    /// It is none of [`AudioLine::profile_of`], or has no address.
    pub(super) fn read(session: &Session, media: &Media) -> Result<AudioLine, SdpError> {
        let profile = AudioLine::profile_of(media).ok_or(SdpError::NoAudio)?;
        let ip = address(session, media)?;
        let formats = formats(media);
        let opus = values(media, "fmtp")
            .filter_map(|value| {
                let (payload, parameters) = value.split_once(char::is_whitespace)?;
                Some((payload.parse().ok()?, OpusFormat::read(parameters)))
            })
            .take(MAX_FORMATS)
            .collect();
        let has = |name| media.attributes.iter().any(|a| a.attribute.eq_ignore_ascii_case(name));
        let direction = media
            .attributes
            .iter()
            .chain(&session.attributes)
            .find_map(|a| Direction::read(a.attribute.trim()))
            .unwrap_or_default();
        Ok(AudioLine {
            profile,
            addr: SocketAddr::new(ip, media.port),
            rtcp: values(media, "rtcp").find_map(rtcp),
            rtcp_mux: has("rtcp-mux"),
            formats,
            formats_text: media.fmt.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(80).collect(),
            opus,
            direction,
            ptime_ms: values(media, "ptime").find_map(packet_time),
            max_ptime_ms: values(media, "maxptime").find_map(longest_packet_time),
            crypto: values(media, "crypto").take(MAX_CRYPTO_LINES).filter_map(CryptoLine::read).collect(),
            has_crypto: has("crypto"),
            has_fingerprint: has("fingerprint")
                || session.attributes.iter().any(|a| a.attribute.eq_ignore_ascii_case("fingerprint")),
        })
    }

    /// What the fmtp line of a payload type says about Opus.
    pub(super) fn opus(&self, payload: u8) -> OpusFormat {
        self.opus.iter().find(|(p, _)| *p == payload).map(|(_, format)| *format).unwrap_or_default()
    }

    /// The packet time to send with: what is wanted here, else `ours`, and never more than the most wanted.
    pub(super) fn ptime_ms(&self, ours: u8) -> u8 {
        let wanted = self.ptime_ms.unwrap_or(ours);
        self.max_ptime_ms.map_or(wanted, |most| wanted.min(most))
    }

    /// Where RTCP goes if it is not multiplexed.
    pub(super) fn rtcp_addr(&self) -> SocketAddr {
        match self.rtcp {
            Some((port, ip)) => SocketAddr::new(ip.unwrap_or(self.addr.ip()), port),
            None => SocketAddr::new(self.addr.ip(), self.addr.port().saturating_add(1)),
        }
    }
}

fn values<'a>(media: &'a Media, name: &'static str) -> impl Iterator<Item = &'a str> {
    let named = media.attributes.iter().filter(move |a| a.attribute.trim().eq_ignore_ascii_case(name));
    named.filter_map(|a| a.value.as_deref()).map(str::trim)
}

/// The payload types of an m-line and what they stand for: by their rtpmap, else by RFC 3551's table.
fn formats(media: &Media) -> Vec<(u8, Format)> {
    let mut maps = [None; LARGEST_PAYLOAD_TYPE as usize + 1];
    for value in values(media, "rtpmap") {
        let Some((payload, encoding)) = value.split_once(char::is_whitespace) else { continue };
        if let Some(map) = payload.parse().ok().and_then(|p: usize| maps.get_mut(p)) {
            // the first one counts
            map.get_or_insert(Format::of_encoding(encoding.trim()));
        }
    }
    media
        .fmt
        .split_whitespace()
        .filter_map(|f| f.parse::<u8>().ok())
        .filter_map(|payload| {
            let map = maps.get(usize::from(payload))?;
            Some((payload, map.unwrap_or_else(|| Format::of_static(payload))))
        })
        .take(MAX_FORMATS)
        .collect()
}

/// `a=ptime`, rounded to the steps that we send in. Out of range is as if nothing was said.
fn packet_time(value: &str) -> Option<u8> {
    let range = f32::from(*PTIMES_MS.start())..=f32::from(*PTIMES_MS.end());
    let ms = value.parse::<f32>().ok().filter(|ms| range.contains(ms))?;
    // within the range, so the casts keep the value
    let steps = (ms / f32::from(PTIME_STEP_MS)).round() as u8;
    Some(steps * PTIME_STEP_MS)
}

/// `a=maxptime`, rounded down: it is a limit. Less than the shortest packet there is cannot be had.
fn longest_packet_time(value: &str) -> Option<u8> {
    let ms = value.parse::<f32>().ok().filter(|ms| *ms >= f32::from(*PTIMES_MS.start()))?;
    let ms = ms.min(f32::from(*PTIMES_MS.end())) as u8;
    Some(ms / PTIME_STEP_MS * PTIME_STEP_MS)
}

/// `a=rtcp:port [IN IP4 address]` (RFC 3605).
fn rtcp(value: &str) -> Option<(u16, Option<IpAddr>)> {
    let mut words = value.split_whitespace();
    let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
    let ip = words.nth(2).and_then(|text| text.parse::<IpAddr>().ok());
    Some((port, ip.filter(|ip| !ip.is_multicast() && !ip.is_unspecified())))
}

/// The m-line's own connection line, else the session's. A name instead of an address is refused: looking it up would let
/// any caller choose names for us to resolve.
fn address(session: &Session, media: &Media) -> Result<IpAddr, SdpError> {
    let connection: &Connection =
        media.connections.first().or(session.connection.as_ref()).ok_or(SdpError::NoAddress)?;
    let text = connection.connection_address.split('/').next().unwrap_or("");
    let ip = text
        .parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::V6))
        .map_err(|_| SdpError::NoAddress)?;
    if ip.is_multicast() { Err(SdpError::NoAddress) } else { Ok(ip) }
}
