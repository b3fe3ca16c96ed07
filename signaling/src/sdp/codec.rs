//! The codecs we speak, as session descriptions name them (RFC 3551, RFC 7587), and the digits beside them (RFC 4733).

use std::fmt::Write as _;

/// The range of a=fmtp's maxaveragebitrate (RFC 7587 section 6.1).
const OPUS_BITRATES_BPS: std::ops::RangeInclusive<u32> = 6_000..=510_000;
/// And of maxplaybackrate.
const OPUS_RATES_HZ: std::ops::RangeInclusive<u32> = 8_000..=48_000;

/// A codec that the media engine speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AudioCodec {
    /// Opus, with a payload type that each end chooses.
    Opus,
    /// G.722, payload type 9. It samples at 16 kHz; its RTP clock is 8000 all the same (RFC 3551 section 4.5.2).
    G722,
    /// G.711 mu-law, payload type 0.
    Pcmu,
    /// G.711 A-law, payload type 8.
    Pcma,
}

impl AudioCodec {
    /// All of them, in the order in which they are offered when there is no other wish: the best sound first.
    pub const ALL: [AudioCodec; 4] = [AudioCodec::Opus, AudioCodec::G722, AudioCodec::Pcmu, AudioCodec::Pcma];

    /// The name in an rtpmap.
    pub fn name(self) -> &'static str {
        match self {
            AudioCodec::Opus => "opus",
            AudioCodec::G722 => "G722",
            AudioCodec::Pcmu => "PCMU",
            AudioCodec::Pcma => "PCMA",
        }
    }

    /// The clock of its RTP timestamps, which is not always the rate of its samples.
    pub fn rtp_clock_hz(self) -> u32 {
        match self {
            AudioCodec::Opus => 48_000,
            AudioCodec::G722 | AudioCodec::Pcmu | AudioCodec::Pcma => 8_000,
        }
    }

    /// The payload type that RFC 3551 gives it for good, if it does.
    pub fn static_payload_type(self) -> Option<u8> {
        match self {
            AudioCodec::Opus => None,
            AudioCodec::G722 => Some(9),
            AudioCodec::Pcmu => Some(0),
            AudioCodec::Pcma => Some(8),
        }
    }
}

/// What one end wants of the Opus that it receives: the parameters of an a=fmtp line (RFC 7587 section 6.1). In
/// [`LocalMedia`](super::LocalMedia) it is ours, in a [`MediaPlan`](super::MediaPlan) the far end's, for our encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OpusFormat {
    /// `useinbandfec`: the receiver can use forward error correction.
    pub in_band_fec: bool,
    /// `usedtx`: nothing need be sent while nobody speaks.
    pub dtx: bool,
    /// `cbr`: every packet of the same size.
    pub constant_bitrate: bool,
    /// `maxaveragebitrate`, 6,000 to 510,000 bit/s.
    pub max_average_bitrate_bps: Option<u32>,
    /// `maxplaybackrate`: more bandwidth than half of this is not played, 8,000 to 48,000 Hz.
    pub max_playback_rate_hz: Option<u32>,
}

impl OpusFormat {
    /// Reads the parameters of an fmtp line; what is unknown, out of range or garbled is as if it were not there.
    pub(super) fn read(parameters: &str) -> OpusFormat {
        let mut format = OpusFormat::default();
        for (name, value) in parameters.split(';').filter_map(|p| p.split_once('=')) {
            let (name, value) = (name.trim(), value.trim());
            let number = |range: std::ops::RangeInclusive<u32>| value.parse().ok().filter(|n| range.contains(n));
            match name.to_ascii_lowercase().as_str() {
                "useinbandfec" => format.in_band_fec = value == "1",
                "usedtx" => format.dtx = value == "1",
                "cbr" => format.constant_bitrate = value == "1",
                "maxaveragebitrate" => format.max_average_bitrate_bps = number(OPUS_BITRATES_BPS),
                "maxplaybackrate" => format.max_playback_rate_hz = number(OPUS_RATES_HZ),
                _ => {}
            }
        }
        format
    }

    /// The parameters as they are written.
    pub(super) fn parameters(&self) -> String {
        let mut out = String::from("minptime=10");
        for (name, on) in [("useinbandfec", self.in_band_fec), ("usedtx", self.dtx), ("cbr", self.constant_bitrate)] {
            if on {
                let _ = write!(out, ";{name}=1");
            }
        }
        if let Some(bps) = self.max_average_bitrate_bps.filter(|bps| OPUS_BITRATES_BPS.contains(bps)) {
            let _ = write!(out, ";maxaveragebitrate={bps}");
        }
        if let Some(hz) = self.max_playback_rate_hz.filter(|hz| OPUS_RATES_HZ.contains(hz)) {
            let _ = write!(out, ";maxplaybackrate={hz}");
        }
        out
    }
}

/// What a payload type of an m-line stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A codec of ours.
    Audio(AudioCodec),
    /// Digits, with this clock.
    Digits(u32),
    /// Comfort noise at 8 kHz (RFC 3389).
    Noise,
    /// Something that we do not speak.
    Other,
    /// A dynamic number without an rtpmap.
    Unmapped,
}

impl Format {
    /// By RFC 3551's table, for want of an rtpmap.
    pub(super) fn of_static(payload: u8) -> Format {
        let known = AudioCodec::ALL.into_iter().find(|c| c.static_payload_type() == Some(payload));
        match known {
            Some(codec) => Format::Audio(codec),
            None if payload == NOISE_PAYLOAD_TYPE => Format::Noise,
            None if payload >= FIRST_DYNAMIC => Format::Unmapped,
            None => Format::Other,
        }
    }

    /// By the encoding that an rtpmap gives: `name/clock/channels`.
    pub(super) fn of_encoding(encoding: &str) -> Format {
        let mut parts = encoding.split('/').map(str::trim);
        let (name, clock, channels) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
        let clock: u32 = clock.parse().unwrap_or(0);
        if name.eq_ignore_ascii_case("telephone-event") {
            return if DIGIT_CLOCKS_HZ.contains(&clock) { Format::Digits(clock) } else { Format::Other };
        }
        if name.eq_ignore_ascii_case("CN") && clock == NOISE_CLOCK_HZ && matches!(channels, None | Some("1")) {
            return Format::Noise;
        }
        let known = AudioCodec::ALL.into_iter().find(|c| name.eq_ignore_ascii_case(c.name()));
        match known {
            // always two by RFC 7587, also where one is sent; not everybody read it
            Some(AudioCodec::Opus) if clock == 48_000 && matches!(channels, None | Some("1" | "2")) => {
                Format::Audio(AudioCodec::Opus)
            }
            Some(codec) if clock == codec.rtp_clock_hz() && matches!(channels, None | Some("1")) => {
                Format::Audio(codec)
            }
            _ => Format::Other,
        }
    }

    /// Whether it is a codec with the clock of comfort noise; Opus has a silence of its own.
    pub(super) fn goes_with_noise(self) -> bool {
        matches!(self, Format::Audio(codec) if codec.rtp_clock_hz() == NOISE_CLOCK_HZ)
    }

    /// The encoding for an rtpmap.
    pub(super) fn encoding(self) -> Option<String> {
        match self {
            Format::Audio(AudioCodec::Opus) => Some("opus/48000/2".into()),
            Format::Audio(codec) => Some(format!("{}/{}", codec.name(), codec.rtp_clock_hz())),
            Format::Digits(clock) => Some(format!("telephone-event/{clock}")),
            Format::Noise => Some(format!("CN/{NOISE_CLOCK_HZ}")),
            Format::Other | Format::Unmapped => None,
        }
    }

    /// The number we offer it under when nothing was agreed on before: the custom of the trade.
    pub(super) fn usual_payload_type(self) -> u8 {
        match self {
            Format::Audio(codec) => codec.static_payload_type().unwrap_or(111),
            Format::Digits(48_000) => 110,
            Format::Digits(_) => 101,
            Format::Noise => NOISE_PAYLOAD_TYPE,
            Format::Other | Format::Unmapped => FIRST_DYNAMIC,
        }
    }
}

/// Comfort noise has a number of its own (RFC 3551 section 6), and one clock with which it goes with G.711 and G.722.
const NOISE_PAYLOAD_TYPE: u8 = 13;
const NOISE_CLOCK_HZ: u32 = 8_000;
/// From here on numbers mean what an rtpmap says.
pub(super) const FIRST_DYNAMIC: u8 = 96;
/// RTP has seven bits for a payload type.
pub(super) const LARGEST_PAYLOAD_TYPE: u8 = 127;
/// The clocks with which digits are understood: those of our codecs (RFC 4733 section 2.1).
pub(super) const DIGIT_CLOCKS_HZ: [u32; 2] = [8_000, 48_000];
/// The clock that every telephone has for digits.
pub(super) const USUAL_DIGIT_CLOCK_HZ: u32 = 8_000;
