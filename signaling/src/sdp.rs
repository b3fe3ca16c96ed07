//! Session descriptions (RFC 8866) and offer/answer (RFC 3264) for one audio stream.
//!
//! Text in, text out, and a [`MediaPlan`] that says what the media engine is to do. What must hold:
//! an answer has as many m-lines as its offer, in the same order, and everything but one audio line is refused with
//! port 0; a payload type in the plan is one that the *far end* expects; nothing an offer contains is copied into an answer
//! unless it was recognised.
//!
//! The `o=` line written here has session id and version 0; the user agent stamps the call's own numbers on it when it
//! sends the description, so that a description that changed has a new version and one that did not has the
//! old (RFC 3264 section 8).

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use sdp_types::{Connection, Media, Session};

/// The longest description that is read. Real ones with video, ICE and SRTP stay below 8 kB.
pub const MAX_DESCRIPTION: usize = 16 * 1024;
/// The most m-lines that are answered (case 5); an offer with more is refused as a whole.
pub const MAX_MEDIA_LINES: usize = 16;
/// The most payload types of an m-line that are looked at; all that RTP has bits for are 128.
const MAX_FORMATS: usize = 128;
/// Packet time used when nothing, or nothing usable, is asked for.
pub const DEFAULT_PTIME_MS: u8 = 20;
/// The dynamic payload type we offer for digits; what RFC 4733 implementations use by custom.
const TELEPHONE_EVENT_PAYLOAD: u8 = 101;
/// RTP has seven bits for it.
const LARGEST_PAYLOAD_TYPE: u8 = 127;
const CLOCK_HZ: u32 = 8000;

/// A codec that the media engine speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AudioCodec {
    /// G.711 mu-law, payload type 0.
    Pcmu,
    /// G.711 A-law, payload type 8.
    Pcma,
}

impl AudioCodec {
    /// All of them, in the order in which they are offered when there is no other wish.
    pub const ALL: [AudioCodec; 2] = [AudioCodec::Pcmu, AudioCodec::Pcma];

    /// The name in an rtpmap.
    pub fn name(self) -> &'static str {
        match self {
            AudioCodec::Pcmu => "PCMU",
            AudioCodec::Pcma => "PCMA",
        }
    }

    /// The static payload type of RFC 3551.
    pub fn payload_type(self) -> u8 {
        match self {
            AudioCodec::Pcmu => 0,
            AudioCodec::Pcma => 8,
        }
    }
}

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

    fn read(name: &str) -> Option<Direction> {
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
    /// What we speak, best first.
    pub codecs: Vec<AudioCodec>,
    /// Offer and accept digits by RFC 4733.
    pub telephone_event: bool,
    /// What we want; [`Direction::SendOnly`] puts the far end on hold.
    pub direction: Direction,
}

impl LocalMedia {
    /// Everything we can, both ways.
    pub fn new(addr: SocketAddr) -> LocalMedia {
        LocalMedia { addr, codecs: AudioCodec::ALL.to_vec(), telephone_event: true, direction: Direction::SendRecv }
    }
}

/// What was agreed on: how to send, and what to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlan {
    /// Where RTP goes. Unspecified (`0.0.0.0`) when the far end put us on hold the old way; `send` is false then.
    pub remote: SocketAddr,
    /// The codec of both directions.
    pub codec: AudioCodec,
    /// Its payload type as the far end wants it.
    pub payload_type: u8,
    /// The payload type for digits, if both ends have them.
    pub telephone_event: Option<u8>,
    /// How much audio the far end wants in a packet, 10 to 60.
    pub ptime_ms: u8,
    /// We may send.
    pub send: bool,
    /// The far end may send.
    pub receive: bool,
}

/// Why a description cannot be used. For an offer each of them means 488.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Longer than [`MAX_DESCRIPTION`].
    #[error("the session description has {0} bytes, more than {MAX_DESCRIPTION}")]
    TooLong(usize),
    /// More m-lines than [`MAX_MEDIA_LINES`].
    #[error("the session description has {0} media lines, more than {MAX_MEDIA_LINES}")]
    TooManyMedia(usize),
    /// Not a session description.
    #[error("the session description cannot be read: {0}")]
    Unreadable(String),
    /// No plain RTP audio line, or all of them are switched off.
    #[error("the session description has no plain RTP audio stream")]
    NoAudio,
    /// No codec that we speak.
    #[error("no codec in common; we speak {ours}, the other side {theirs}")]
    NoCommonCodec {
        /// Our codecs.
        ours: String,
        /// The other side's formats.
        theirs: String,
    },
    /// No connection address, or one that is not an IP address.
    #[error("the session description has no usable connection address")]
    NoAddress,
    /// An answer that does not fit its offer.
    #[error("the answer does not fit the offer: {0}")]
    BadAnswer(&'static str),
}

/// Writes an offer.
pub fn offer(local: &LocalMedia) -> String {
    let codecs: Vec<_> = local.codecs.iter().map(|c| (c.payload_type(), c.name())).collect();
    let mut sdp = head(local.addr.ip());
    let digits = local.telephone_event.then_some(TELEPHONE_EVENT_PAYLOAD);
    audio_line(&mut sdp, "RTP/AVP", local.addr.port(), &codecs, digits, local.direction, DEFAULT_PTIME_MS);
    sdp
}

/// Answers an offer: the answer to send, and what was agreed on.
///
/// # Errors
/// The offer has nothing for us; refuse the call with 488.
pub fn answer(offer: &str, local: &LocalMedia) -> Result<(String, MediaPlan), SdpError> {
    let session = read(offer)?;
    let (index, media) = usable_audio(&session).ok_or(SdpError::NoAudio)?;
    let plan = plan(&session, media, local)?;
    let mut sdp = head(local.addr.ip());
    for (i, line) in session.medias.iter().enumerate() {
        if i == index {
            let direction = Direction::new(plan.send, plan.receive);
            let codec = [(plan.payload_type, plan.codec.name())];
            audio_line(
                &mut sdp,
                &media.proto,
                local.addr.port(),
                &codec,
                plan.telephone_event,
                direction,
                // what we want to receive and what we send; theirs is a wish for what they receive (RFC 8866)
                DEFAULT_PTIME_MS,
            );
        } else {
            refused_line(&mut sdp, line);
        }
    }
    Ok((sdp, plan))
}

/// Takes the answer to our [`offer`].
///
/// # Errors
/// The far end refused our audio line, or answered with something we did not offer; end the call.
pub fn accept(answer: &str, local: &LocalMedia) -> Result<MediaPlan, SdpError> {
    let session = read(answer)?;
    let first = session.medias.first().ok_or(SdpError::BadAnswer("it has no media line"))?;
    if !first.media.eq_ignore_ascii_case("audio") {
        return Err(SdpError::BadAnswer("its first media line is not audio"));
    }
    if first.port == 0 {
        return Err(SdpError::NoAudio);
    }
    plan(&session, first, local)
}

/// The session id and version of one call's `o=` line.
#[derive(Debug)]
pub(crate) struct LocalSession {
    id: u64,
    version: u64,
    last: String,
}

impl LocalSession {
    pub(crate) fn new(id: u64) -> LocalSession {
        LocalSession { id, version: id, last: String::new() }
    }

    /// Puts the call's id and version into the description's `o=` line; the version rises when the rest changed.
    pub(crate) fn stamp(&mut self, sdp: &str) -> String {
        if sdp != self.last {
            if !self.last.is_empty() {
                self.version += 1;
            }
            self.last = sdp.to_owned();
        }
        let mut out = String::with_capacity(sdp.len() + 32);
        for line in sdp.split_inclusive('\n') {
            match line.strip_prefix("o=").map(|rest| rest.split_whitespace().collect::<Vec<_>>()) {
                Some(fields) if fields.len() == 6 => {
                    let [user, _, _, nettype, addrtype, addr] = fields[..] else {
                        continue;
                    };
                    let _ = write!(out, "o={user} {} {} {nettype} {addrtype} {addr}\r\n", self.id, self.version);
                }
                _ => out.push_str(line),
            }
        }
        out
    }
}

fn head(ip: IpAddr) -> String {
    let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
    format!("v=0\r\no=- 0 0 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n")
}

fn audio_line(
    sdp: &mut String,
    proto: &str,
    port: u16,
    codecs: &[(u8, &str)],
    digits: Option<u8>,
    direction: Direction,
    ptime_ms: u8,
) {
    // writing to a String cannot fail
    let _ = write!(sdp, "m=audio {port} {proto}");
    for payload in codecs.iter().map(|(payload, _)| *payload).chain(digits) {
        let _ = write!(sdp, " {payload}");
    }
    sdp.push_str("\r\n");
    for (payload, name) in codecs {
        let _ = write!(sdp, "a=rtpmap:{payload} {name}/{CLOCK_HZ}\r\n");
    }
    if let Some(payload) = digits {
        let _ = write!(sdp, "a=rtpmap:{payload} telephone-event/{CLOCK_HZ}\r\na=fmtp:{payload} 0-15\r\n");
    }
    let _ = write!(sdp, "a=ptime:{ptime_ms}\r\na={}\r\n", direction.as_str());
}

/// Port 0, with kind, transport and first format as offered (RFC 3264 section 6) — if they are plain tokens.
fn refused_line(sdp: &mut String, line: &Media) {
    let token = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic());
    let or = |s: &str, other: &str| {
        if token(s) { s.to_owned() } else { other.to_owned() }
    };
    let format = line.fmt.split_whitespace().next().unwrap_or("0");
    let _ = write!(sdp, "m={} 0 {} {}\r\n", or(&line.media, "audio"), or(&line.proto, "RTP/AVP"), or(format, "0"));
}

fn read(text: &str) -> Result<Session, SdpError> {
    if text.len() > MAX_DESCRIPTION {
        return Err(SdpError::TooLong(text.len()));
    }
    let lines = text.lines().filter(|l| l.starts_with("m=")).count();
    if lines > MAX_MEDIA_LINES {
        return Err(SdpError::TooManyMedia(lines));
    }
    Session::parse(text.as_bytes()).map_err(|e| SdpError::Unreadable(e.to_string()))
}

fn usable_audio(session: &Session) -> Option<(usize, &Media)> {
    session.medias.iter().enumerate().find(|(_, m)| {
        let plain = m.proto.eq_ignore_ascii_case("RTP/AVP") || m.proto.eq_ignore_ascii_case("RTP/AVPF");
        m.media.eq_ignore_ascii_case("audio") && m.port != 0 && plain
    })
}

fn plan(session: &Session, media: &Media, local: &LocalMedia) -> Result<MediaPlan, SdpError> {
    let ip = address(session, media)?;
    let formats: Vec<(u8, Format)> = media
        .fmt
        .split_whitespace()
        .take(MAX_FORMATS)
        .filter_map(|f| f.parse().ok().filter(|pt| *pt <= LARGEST_PAYLOAD_TYPE))
        .map(|pt| (pt, format_of(media, pt)))
        .collect();
    let chosen = formats.iter().find_map(|(pt, format)| match format {
        Format::Audio(codec) if local.codecs.contains(codec) => Some((*pt, *codec)),
        _ => None,
    });
    let Some((payload_type, codec)) = chosen else {
        let ours: Vec<_> = local.codecs.iter().map(|c| c.name()).collect();
        let theirs: String = media.fmt.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(80).collect();
        return Err(SdpError::NoCommonCodec { ours: ours.join(", "), theirs });
    };
    let digits = formats.iter().find(|(_, f)| matches!(f, Format::Digits)).map(|(pt, _)| *pt);
    let theirs = media
        .attributes
        .iter()
        .chain(&session.attributes)
        .find_map(|a| Direction::read(&a.attribute))
        .unwrap_or_default();
    // 0.0.0.0 is RFC 2543's way to say "hold": they can hear nothing
    let reachable = !ip.is_unspecified();
    Ok(MediaPlan {
        remote: SocketAddr::new(ip, media.port),
        codec,
        payload_type,
        telephone_event: digits.filter(|_| local.telephone_event),
        ptime_ms: ptime(media),
        send: theirs.receives() && reachable && local.direction.sends(),
        receive: theirs.sends() && local.direction.receives(),
    })
}

enum Format {
    Audio(AudioCodec),
    Digits,
    Other,
}

/// What a payload type of this m-line stands for: by its rtpmap, else by RFC 3551's table.
fn format_of(media: &Media, payload: u8) -> Format {
    let map = media.attributes.iter().filter(|a| a.attribute.eq_ignore_ascii_case("rtpmap")).find_map(|a| {
        let (pt, encoding) = a.value.as_deref()?.trim().split_once(char::is_whitespace)?;
        (pt.parse::<u8>() == Ok(payload)).then_some(encoding.trim())
    });
    let Some(encoding) = map else {
        return AudioCodec::ALL.into_iter().find(|c| c.payload_type() == payload).map_or(Format::Other, Format::Audio);
    };
    let mut parts = encoding.split('/');
    let (name, clock, channels) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or("1"));
    if clock.parse() != Ok(CLOCK_HZ) || channels != "1" {
        return Format::Other;
    }
    if name.eq_ignore_ascii_case("telephone-event") {
        return Format::Digits;
    }
    AudioCodec::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name)).map_or(Format::Other, Format::Audio)
}

fn ptime(media: &Media) -> u8 {
    media
        .attributes
        .iter()
        .filter(|a| a.attribute.eq_ignore_ascii_case("ptime"))
        .find_map(|a| a.value.as_deref()?.trim().parse::<f32>().ok())
        .filter(|ms| (10.0..=60.0).contains(ms))
        .map_or(DEFAULT_PTIME_MS, |ms| ms as u8)
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

#[cfg(test)]
mod tests;
