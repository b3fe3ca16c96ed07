//! Frames: how JSON and audio share one stream of bytes. No sockets here.
//!
//! ```text
//! u32le payload length | u8 kind | u8 flags | u16le channel | payload
//! kind 1: payload is one JSON-RPC 2.0 object; flags and channel are 0
//! kind 2: payload is u64le generation, u64le monotonic_ns, samples; flags bits 0-3: encoding
//! ```
//!
//! What must hold:
//! - [`AudioFrame::new_checked`] and [`Header::parse`] are the only ways in; behind them nothing can panic.
//! - A [`Decoder`] never holds more than one longest frame and a read's worth more, whatever arrives, and waits for the rest of half a
//!   frame for as long as it takes.
//! - Bytes are read into the decoder's own buffer, and frames are views of it: no copy on the way in.

use crate::error::ControlError;
use crate::types::Encoding;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 8;
/// The longest payload of a frame, and the longest line of the JSON-lines mode: 1 MiB.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Bytes in front of the samples of an audio frame: generation and monotonic time.
pub const AUDIO_HEADER_LEN: usize = 16;
/// The most bytes of samples that one audio frame carries.
pub const MAX_SAMPLE_BYTES: usize = MAX_PAYLOAD - AUDIO_HEADER_LEN;

/// Least room that a read gets; small frames are many, and one system call should take a lot of them.
const READ_ROOM: usize = 16 * 1024;
/// An empty buffer larger than this is given back, so that one long frame does not hold its memory for ever.
const KEEP_CAPACITY: usize = 64 * 1024;
const ENCODING_MASK: u8 = 0x0f;

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One JSON-RPC 2.0 object in UTF-8.
    Json = 1,
    /// Samples with their generation and time.
    Audio = 2,
}

/// A frame's first eight bytes, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    flags: u8,
    channel: u16,
    // at most MAX_PAYLOAD
    len: u32,
}

impl Header {
    /// A header for a payload of `len` bytes.
    ///
    /// # Errors
    /// [`ControlError::FrameTooLong`] above [`MAX_PAYLOAD`].
    pub fn new(kind: Kind, flags: u8, channel: u16, len: usize) -> Result<Self, ControlError> {
        match u32::try_from(len) {
            Ok(short) if len <= MAX_PAYLOAD => Ok(Self { kind, flags, channel, len: short }),
            _ => Err(ControlError::FrameTooLong(len)),
        }
    }

    /// Reads the header at the beginning of a frame.
    ///
    /// # Errors
    /// A payload too long, an unknown kind, or reserved bits set: the stream can't be followed any further.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, ControlError> {
        let [l0, l1, l2, l3, kind, flags, c0, c1] = *bytes;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let channel = u16::from_le_bytes([c0, c1]);
        let kind = match kind {
            1 => Kind::Json,
            2 => Kind::Audio,
            other => return Err(ControlError::UnknownKind(other)),
        };
        if len as usize > MAX_PAYLOAD {
            return Err(ControlError::FrameTooLong(len as usize));
        }
        if kind == Kind::Json && (flags != 0 || channel != 0) {
            return Err(ControlError::ReservedBits { flags, channel });
        }
        Ok(Self { kind, flags, channel, len })
    }

    /// The header as it stands on the wire.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [l0, l1, l2, l3] = self.len.to_le_bytes();
        let [c0, c1] = self.channel.to_le_bytes();
        [l0, l1, l2, l3, self.kind as u8, self.flags, c0, c1]
    }

    /// What the payload is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of the payload that follows.
    pub fn payload_len(&self) -> usize {
        self.len as usize
    }
}

/// A checked view of an audio frame's payload. Whole samples of a known encoding, which may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioFrame<'a> {
    channel: u16,
    encoding: Encoding,
    generation: u64,
    monotonic_ns: u64,
    samples: &'a [u8],
}

impl<'a> AudioFrame<'a> {
    /// Checks an audio frame's payload.
    ///
    /// # Errors
    /// [`ControlError::BadAudio`] when it is shorter than [`AUDIO_HEADER_LEN`] or ends within a sample;
    /// [`ControlError::UnknownEncoding`].
    pub fn new_checked(channel: u16, flags: u8, payload: &'a [u8]) -> Result<Self, ControlError> {
        let bits = flags & ENCODING_MASK;
        let encoding = Encoding::from_bits(bits).ok_or(ControlError::UnknownEncoding(bits))?;
        let bad = || ControlError::BadAudio(payload.len());
        let (generation, rest) = payload.split_first_chunk::<8>().ok_or_else(bad)?;
        let (monotonic_ns, samples) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
        if !samples.len().is_multiple_of(encoding.sample_bytes()) {
            return Err(bad());
        }
        Ok(Self {
            channel,
            encoding,
            generation: u64::from_le_bytes(*generation),
            monotonic_ns: u64::from_le_bytes(*monotonic_ns),
            samples,
        })
    }

    /// The channel, as given by `response.start` or `media.subscribe`.
    pub fn channel(&self) -> u16 {
        self.channel
    }

    /// How the samples are written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The response's generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the first sample was heard or made, on the sender's monotonic clock.
    pub fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    /// The samples' bytes: a whole number of samples.
    pub fn samples(&self) -> &'a [u8] {
        self.samples
    }
}

/// Appends one JSON frame to `out`.
///
/// # Errors
/// [`ControlError::FrameTooLong`]; `out` is unchanged.
pub fn write_json(out: &mut Vec<u8>, json: &[u8]) -> Result<(), ControlError> {
    let header = Header::new(Kind::Json, 0, 0, json.len())?;
    out.reserve(HEADER_LEN + json.len());
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(json);
    Ok(())
}

/// Appends one audio frame to `out`. `samples` holds whole samples of `encoding`, at most [`MAX_SAMPLE_BYTES`].
///
/// # Errors
/// [`ControlError::FrameTooLong`] or [`ControlError::BadAudio`]; `out` is unchanged.
pub fn write_audio(
    out: &mut Vec<u8>,
    channel: u16,
    encoding: Encoding,
    generation: u64,
    monotonic_ns: u64,
    samples: &[u8],
) -> Result<(), ControlError> {
    let len = AUDIO_HEADER_LEN + samples.len();
    if !samples.len().is_multiple_of(encoding.sample_bytes()) {
        return Err(ControlError::BadAudio(len));
    }
    let header = Header::new(Kind::Audio, encoding.bits(), channel, len)?;
    out.reserve(HEADER_LEN + len);
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&monotonic_ns.to_le_bytes());
    out.extend_from_slice(samples);
    Ok(())
}

/// One message out of the stream: a view into the [`Decoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The bytes of one JSON text, not looked at yet.
    Json(&'a [u8]),
    /// Audio.
    Audio(AudioFrame<'a>),
}

/// How a connection speaks. Its first bytes decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Frames.
    Framed,
    /// One JSON text a line, control only: for `socat` and shell scripts.
    Lines,
}

/// Cuts a stream of bytes into frames, or into lines when it begins as JSON.
///
/// ```
/// use mr_sip_control::frame::{Decoder, Frame, write_json};
///
/// let mut bytes = Vec::new();
/// write_json(&mut bytes, b"{}").unwrap();
///
/// let mut decoder = Decoder::new();
/// for byte in bytes {
///     decoder.space()[0] = byte; // however it arrives
///     decoder.filled(1);
/// }
/// assert_eq!(decoder.next_frame().unwrap(), Some(Frame::Json(b"{}")));
/// assert_eq!(decoder.next_frame().unwrap(), None);
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    // start <= scanned <= end <= buf.len(); [start, end) is received and not yet given out, and in lines mode
    // [start, scanned) holds no newline
    buf: Vec<u8>,
    start: usize,
    scanned: usize,
    end: usize,
    mode: Option<Mode>,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder that expects frames, whatever the first byte is: the client's.
    pub fn framed() -> Self {
        Self { mode: Some(Mode::Framed), ..Self::default() }
    }

    /// How the stream speaks, once known.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// Received bytes that are not given out yet.
    pub fn pending(&self) -> usize {
        self.end - self.start
    }

    /// Where the next bytes are to be read into; never empty. Tell [`Self::filled`] how many came.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.scanned = 0;
            self.end = 0;
            if self.buf.len() > KEEP_CAPACITY {
                self.buf = Vec::new();
            }
        }
        if self.buf.len() - self.end < READ_ROOM {
            if self.start > 0 {
                self.buf.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.scanned -= self.start;
                self.start = 0;
            }
            if self.buf.len() - self.end < READ_ROOM {
                // doubling by what has come, not by what a header announces: half a frame costs what it sent
                let len = (self.buf.len() * 2).clamp(READ_ROOM, HEADER_LEN + MAX_PAYLOAD + READ_ROOM);
                self.buf.resize(len.max(self.end + READ_ROOM), 0);
            }
        }
        &mut self.buf[self.end..]
    }

    /// `count` bytes were put at the beginning of what [`Self::space`] gave.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buf.len());
    }

    /// The next whole frame, `None` while there is none. Call until `None` before asking for more [`Self::space`].
    ///
    /// # Errors
    /// The stream is broken and must be closed; what comes after is undefined but harmless.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ControlError> {
        let mode = match self.mode {
            Some(mode) => mode,
            None => match detect(&self.buf[self.start..self.end]) {
                Some(mode) => *self.mode.insert(mode),
                None => return Ok(None),
            },
        };
        match mode {
            Mode::Framed => self.next_framed(),
            Mode::Lines => self.next_line(),
        }
    }

    fn next_framed(&mut self) -> Result<Option<Frame<'_>>, ControlError> {
        let received = &self.buf[self.start..self.end];
        let Some((header, rest)) = received.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::parse(header)?;
        let len = header.payload_len();
        if rest.len() < len {
            return Ok(None);
        }
        let from = self.start + HEADER_LEN;
        self.start = from + len;
        self.scanned = self.start;
        let payload = &self.buf[from..from + len];
        Ok(Some(match header.kind {
            Kind::Json => Frame::Json(payload),
            Kind::Audio => Frame::Audio(AudioFrame::new_checked(header.channel, header.flags, payload)?),
        }))
    }

    fn next_line(&mut self) -> Result<Option<Frame<'_>>, ControlError> {
        loop {
            let Some(at) = self.buf[self.scanned..self.end].iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.end;
                return if self.pending() > MAX_PAYLOAD { Err(ControlError::LineTooLong) } else { Ok(None) };
            };
            let from = self.start;
            let to = self.scanned + at;
            self.start = to + 1;
            self.scanned = self.start;
            if to - from > MAX_PAYLOAD {
                return Err(ControlError::LineTooLong);
            }
            if !self.buf[from..to].trim_ascii().is_empty() {
                return Ok(Some(Frame::Json(self.buf[from..to].trim_ascii())));
            }
        }
    }
}

/// `{` opens JSON lines. It is also the low byte of the length of a frame of 123, 379, ... bytes; then the length's high byte, the
/// fourth, is 0 (a payload is at most 1 MiB), which no JSON text holds. So four bytes tell the two apart for certain.
fn detect(first: &[u8]) -> Option<Mode> {
    match first {
        [] => None,
        [b'{', _, _, high, ..] => Some(if *high == 0 { Mode::Framed } else { Mode::Lines }),
        [b'{', ..] => None,
        _ => Some(Mode::Framed),
    }
}
