//! What is known about the stream that is received: how many packets should have come, how many did, and how unevenly
//! (RFC 3550 appendix A.1, A.3, A.8).

use crate::clock::Time;
use crate::rtp::{extend_sequence, extend_timestamp};

/// Gain of the jitter estimate, RFC 3550 section 6.4.1.
const JITTER_GAIN: f64 = 1.0 / 16.0;

/// The figures of a receiver report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportFigures {
    /// Whose packets these are.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since the beginning, clamped to 24 signed bits.
    pub cumulative_lost: i32,
    /// Highest sequence number with its cycles.
    pub highest_sequence: u32,
    /// In units of the RTP clock.
    pub jitter: u32,
}

/// Counts the packets of one synchronization source after another.
#[derive(Debug, Clone, Default)]
pub struct Reception {
    stream: Option<Stream>,
    lost_before: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    base: i64,
    highest: i64,
    received: u64,
    last_timestamp: i64,
    last_transit: Option<f64>,
    clock_rate_hz: u32,
    jitter: f64,
    reported_expected: i64,
    reported_received: u64,
}

impl Reception {
    /// Counts a packet; returns whether it came after one with a higher number.
    pub fn count(&mut self, ssrc: u32, sequence: u16) -> bool {
        let Some(stream) = self.stream.as_mut().filter(|s| s.ssrc == ssrc) else {
            self.start(ssrc, sequence);
            return self.count(ssrc, sequence);
        };
        let extended = extend_sequence(stream.highest, sequence);
        stream.received += 1;
        let reordered = extended < stream.highest;
        stream.highest = stream.highest.max(extended);
        stream.base = stream.base.min(extended).max(stream.highest - i64::from(u32::MAX));
        reordered
    }

    /// Takes the arrival of an audio packet into the jitter. Packets of other kinds (telephone events repeat their
    /// timestamp) would make noise of it.
    pub fn measure(&mut self, arrival: Time, timestamp: u32, clock_rate_hz: u32) {
        let Some(stream) = &mut self.stream else { return };
        if stream.clock_rate_hz != clock_rate_hz {
            stream.clock_rate_hz = clock_rate_hz;
            (stream.last_transit, stream.jitter) = (None, 0.0); // nothing of another clock can be compared
        }
        let extended = extend_timestamp(stream.last_timestamp, timestamp);
        stream.last_timestamp = extended;
        let transit = arrival.as_samples_8k() * f64::from(clock_rate_hz / 8_000) - extended as f64;
        if let Some(last) = stream.last_transit {
            let difference = (transit - last).abs();
            // a jump of the sender's clock is not jitter
            if difference < f64::from(clock_rate_hz) {
                stream.jitter += (difference - stream.jitter) * JITTER_GAIN;
            }
        }
        stream.last_transit = Some(transit);
    }

    /// Starts to count anew: the sender jumped.
    pub fn restart(&mut self, ssrc: u32, sequence: u16) {
        self.start(ssrc, sequence);
    }

    fn start(&mut self, ssrc: u32, sequence: u16) {
        self.lost_before = self.lost();
        let first = i64::from(sequence);
        self.stream = Some(Stream {
            ssrc,
            base: first,
            highest: first,
            received: 0,
            last_timestamp: 0,
            last_transit: None,
            clock_rate_hz: self.stream.map_or(8_000, |s| s.clock_rate_hz),
            jitter: self.stream.map_or(0.0, |s| s.jitter),
            reported_expected: 0,
            reported_received: 0,
        });
    }

    /// Packets lost since the beginning, over all sources. Duplicates can hide losses, as in RFC 3550.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let now = self.stream.map_or(0, |s| {
            let expected = u64::try_from(s.highest - s.base + 1).unwrap_or(0);
            expected.saturating_sub(s.received)
        });
        self.lost_before + now
    }

    /// Interarrival jitter in milliseconds.
    #[must_use]
    pub fn jitter_ms(&self) -> f64 {
        self.stream.map_or(0.0, |s| s.jitter * 1_000.0 / f64::from(s.clock_rate_hz.max(1)))
    }

    /// The figures for a report; the next fraction starts here.
    pub fn report(&mut self) -> Option<ReportFigures> {
        let stream = self.stream.as_mut()?;
        let expected = stream.highest - stream.base + 1;
        let expected_since = expected - stream.reported_expected;
        let received_since = stream.received - stream.reported_received;
        stream.reported_expected = expected;
        stream.reported_received = stream.received;
        let lost_since = (expected_since - received_since.cast_signed()).max(0);
        let fraction_lost = if expected_since > 0 { (lost_since * 256 / expected_since).min(255) } else { 0 };
        let lost = (expected - stream.received.cast_signed()).clamp(-0x80_0000, 0x7F_FFFF);
        Some(ReportFigures {
            ssrc: stream.ssrc,
            fraction_lost: u8::try_from(fraction_lost).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(lost).unwrap_or(0),
            highest_sequence: (stream.highest & 0xFFFF_FFFF) as u32,
            jitter: stream.jitter as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(samples: u64) -> Time {
        Time::from_nanos(samples * 125_000)
    }

    #[test]
    fn losses_are_counted_across_the_wrap_and_not_for_reordering() {
        let mut reception = Reception::default();
        for n in 0..100_u16 {
            let sequence = 65_500_u16.wrapping_add(n);
            if n % 10 != 3 {
                reception.count(5, sequence);
            }
        }
        assert_eq!(reception.lost(), 10);
        let late = 65_503_u16;
        assert!(reception.count(5, late));
        assert_eq!(reception.lost(), 9);
        let report = reception.report().unwrap();
        assert_eq!((report.cumulative_lost, report.fraction_lost), (9, 23));
        assert_eq!(reception.report().unwrap().fraction_lost, 0);
    }

    #[test]
    fn a_steady_stream_has_no_jitter_and_an_alternating_one_has_its_swing() {
        let mut reception = Reception::default();
        for n in 0..500_u32 {
            reception.count(1, n as u16);
            reception.measure(at(u64::from(n) * 160 + 1000), n * 160, 8_000);
        }
        assert!(reception.jitter_ms() < 0.01);
        for n in 500..1500_u32 {
            reception.count(1, n as u16);
            reception.measure(at(u64::from(n) * 160 + 1000 + u64::from(n % 2) * 80), n * 160, 8_000);
        }
        assert!((reception.jitter_ms() - 10.0).abs() < 0.1, "{}", reception.jitter_ms());
        // the same at a clock of 48 kHz; the report is in its units
        for n in 1500..2500_u32 {
            reception.count(1, n as u16);
            reception.measure(at(u64::from(n) * 160 + 1000 + u64::from(n % 2) * 80), n * 960, 48_000);
        }
        assert!((reception.jitter_ms() - 10.0).abs() < 0.1, "{}", reception.jitter_ms());
        assert!((476..=484).contains(&reception.report().unwrap().jitter));
    }

    #[test]
    fn another_source_starts_anew_and_keeps_what_was_lost() {
        let mut reception = Reception::default();
        reception.count(1, 10);
        reception.count(1, 12);
        reception.count(2, 60_000);
        assert_eq!(reception.lost(), 1);
        assert_eq!(reception.report().unwrap().ssrc, 2);
    }
}
