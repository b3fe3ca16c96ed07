//! RTCP (RFC 3550 section 6): sender and receiver reports with a canonical name out; report blocks about us in.
//! Anything else that comes is walked over. Nothing here allocates or panics, whatever the bytes are (case 27).

use crate::clock::Time;
use crate::rtp::reception::ReportFigures;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const REPORT_BLOCK_BYTES: usize = 24;
/// Seconds between 1900 (NTP) and 1970 (Unix).
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// The longest compound packet that [`write_report`] makes.
pub const MAX_REPORT_BYTES: usize = 28 + REPORT_BLOCK_BYTES + 32;

/// What the far end tells about itself and about what it hears of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// Whether there is a sender or receiver report in it at all.
    pub is_report: bool,
    /// The middle 32 bits of the NTP time of its sender report, to be echoed.
    pub sender_report: Option<u32>,
    /// The block about our stream.
    pub about_us: Option<AboutUs>,
}

/// A report block about our stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AboutUs {
    /// Lost since its last report, in 256ths.
    pub fraction_lost: u8,
    /// The highest sequence number that it has, with its cycles.
    pub highest_sequence: u32,
    /// In units of the RTP clock.
    pub jitter: u32,
    /// Echo of our sender report's time, 0 if it has none.
    pub last_sender_report: u32,
    /// How long it kept that echo, in 65536ths of a second.
    pub delay_since: u32,
}

impl AboutUs {
    /// The round trip by this report, if it echoes one of ours (RFC 3550 section 6.4.1).
    #[must_use]
    pub fn round_trip_ms(&self, now_ntp: u32) -> Option<f32> {
        if self.last_sender_report == 0 {
            return None;
        }
        let round_trip = now_ntp.wrapping_sub(self.last_sender_report).wrapping_sub(self.delay_since);
        // clocks of 1/65536 s may make a short way look negative; minutes are nonsense
        let ms = round_trip.cast_signed() as f32 / 65.536;
        (-10.0..60_000.0).contains(&ms).then_some(ms.max(0.0))
    }
}

/// Reads a compound packet; `None` if it is not one whose lengths fit.
#[must_use]
pub fn parse(bytes: &[u8], our_ssrc: u32) -> Option<Received> {
    let mut received = Received::default();
    let mut rest = bytes;
    if rest.is_empty() {
        return None;
    }
    while let [first, kind, high, low, ..] = *rest {
        let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        if first >> 6 != 2 || length > rest.len() {
            return None;
        }
        let (packet, after) = rest.split_at(length);
        let blocks = match kind {
            SENDER_REPORT => {
                received.sender_report = Some(word(packet, 10)?);
                packet.get(28..)?
            }
            RECEIVER_REPORT => packet.get(8..)?,
            _ => &[],
        };
        received.is_report |= matches!(kind, SENDER_REPORT | RECEIVER_REPORT);
        let about_us = blocks
            .chunks_exact(REPORT_BLOCK_BYTES)
            .take(usize::from(first & 0x1F))
            .find(|block| word(block, 0) == Some(our_ssrc));
        if let Some(block) = about_us {
            received.about_us = Some(AboutUs {
                fraction_lost: block[4],
                highest_sequence: word(block, 8)?,
                jitter: word(block, 12)?,
                last_sender_report: word(block, 16)?,
                delay_since: word(block, 20)?,
            });
        }
        rest = after;
    }
    rest.is_empty().then_some(received)
}

/// What goes into our report.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Our own source.
    pub ssrc: u32,
    /// The time, NTP format, seconds above and their fraction below.
    pub ntp: u64,
    /// The RTP timestamp at that time.
    pub timestamp: u32,
    /// RTP packets sent.
    pub packets: u32,
    /// Their payload bytes.
    pub bytes: u32,
    /// What we hear, if we hear anything.
    pub heard: Option<ReportFigures>,
    /// Time of the far end's last sender report, and when it came.
    pub last_sender_report: Option<(u32, Time)>,
}

/// Writes a sender report and a canonical name (RFC 3550 section 6.1 wants both) and returns the length. What finds no room is
/// left out: give it [`MAX_REPORT_BYTES`].
#[must_use]
pub fn write_report(report: &Report, now: Time, buffer: &mut [u8]) -> usize {
    let mut writer = Writer { buffer, length: 0 };
    let blocks = u8::from(report.heard.is_some());
    writer.put(&[0x80 | blocks, SENDER_REPORT, 0, 6 + 6 * blocks]);
    writer.put(&report.ssrc.to_be_bytes());
    writer.put(&report.ntp.to_be_bytes());
    writer.put(&report.timestamp.to_be_bytes());
    writer.put(&report.packets.to_be_bytes());
    writer.put(&report.bytes.to_be_bytes());
    if let Some(heard) = &report.heard {
        let (echo, delay) = report
            .last_sender_report
            .map_or((0, 0), |(echo, came)| (echo, (now.since(came).as_secs_f64() * 65_536.0) as u32));
        writer.put(&heard.ssrc.to_be_bytes());
        let [_, lost @ ..] = heard.cumulative_lost.to_be_bytes();
        writer.put(&[heard.fraction_lost]);
        writer.put(&lost);
        writer.put(&heard.highest_sequence.to_be_bytes());
        writer.put(&heard.jitter.to_be_bytes());
        writer.put(&echo.to_be_bytes());
        writer.put(&delay.to_be_bytes());
    }
    // source description: one chunk, the item CNAME (1) of eight hex digits, closed by two zeros on a word's end;
    // a random name that says nothing about the machine (RFC 7022)
    writer.put(&[0x81, SOURCE_DESCRIPTION, 0, 4]);
    writer.put(&report.ssrc.to_be_bytes());
    writer.put(&[1, 8]);
    for nibble in (0..8).rev() {
        let value = ((report.ssrc.rotate_left(13) >> (4 * nibble)) & 0xF) as u8;
        writer.put(&[if value < 10 { b'0' + value } else { b'a' + value - 10 }]);
    }
    writer.put(&[0, 0]);
    writer.length
}

/// The time of day in NTP's 64-bit format, from nanoseconds since 1970.
#[must_use]
pub fn ntp_time(unix_nanos: u64) -> u64 {
    let seconds = unix_nanos / 1_000_000_000 + NTP_UNIX_OFFSET;
    let fraction = ((unix_nanos % 1_000_000_000) << 32) / 1_000_000_000;
    (seconds << 32) | fraction
}

/// The middle 32 bits, which reports echo.
#[must_use]
pub fn middle(ntp: u64) -> u32 {
    ((ntp >> 16) & 0xFFFF_FFFF) as u32
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(slot) = self.buffer.get_mut(self.length..self.length + bytes.len()) {
            slot.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_report_is_read_as_it_was_written_and_gives_the_round_trip() {
        let start = Time::ZERO;
        let ours = Report { ssrc: 11, ntp: ntp_time(1_700_000_000_000_000_000), ..Report::default() };
        let mut buffer = [0; MAX_REPORT_BYTES];
        let length = write_report(&ours, start, &mut buffer);
        assert_eq!(length % 4, 0);
        let seen = parse(&buffer[..length], 99).unwrap();
        let echo = seen.sender_report.unwrap();
        assert_eq!(echo, middle(ours.ntp));

        // the far end kept it for 2 s and the way took 80 ms
        let heard = ReportFigures { ssrc: 11, fraction_lost: 64, cumulative_lost: -3, highest_sequence: 5, jitter: 40 };
        let theirs =
            Report { ssrc: 22, heard: Some(heard), last_sender_report: Some((echo, start)), ..Report::default() };
        let length = write_report(&theirs, start + Duration::from_secs(2), &mut buffer);
        let about_us = parse(&buffer[..length], 11).unwrap().about_us.unwrap();
        assert_eq!((about_us.fraction_lost, about_us.jitter), (64, 40));
        let now = middle(ntp_time(1_700_000_002_080_000_000));
        assert!((about_us.round_trip_ms(now).unwrap() - 80.0).abs() < 0.1);
        assert_eq!(parse(&buffer[..length], 12).unwrap().about_us, None);
    }

    proptest! {
        /// Case 27.
        #[test]
        fn no_datagram_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 198..208_u8) {
            let _ = parse(&bytes, 1);
            if bytes.len() > 3 {
                bytes[0] = 0x80 | (bytes[0] & 0x1F);
                bytes[1] = kind;
                bytes[2] = 0;
                for words in 0..32 {
                    bytes[3] = words;
                    let _ = parse(&bytes, 1);
                }
            }
        }
    }
}
