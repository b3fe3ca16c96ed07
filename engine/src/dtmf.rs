//! Telephone keys as RFC 4733 events, in and out.
//!
//! In: all packets of one event carry the timestamp of its start, so the timestamp is the event: any one of its packets
//! is enough to know it, and no number of repetitions makes two of it.
//!
//! Out: while a key is held, every packet is an event packet with the same timestamp and a growing duration; the last one
//! is sent three times (section 2.5.1.4). The caller of [`Sender`] keeps counting the audio timestamp.
//!
//! Durations are in units of the clock that was agreed for the events, which is that of the audio: 8 kHz, or 48 kHz beside
//! Opus (RFC 4733 section 2.1, RFC 7587 section 4.1). Their field has 16 bits: 8.2 s at 8 kHz, 1.4 s at 48 kHz. A key that
//! is to be held longer is let go then.

use std::time::Duration;

use heapless::Deque;

use crate::clock::Time;
use crate::error::EngineError;

/// Times that the last packet of an event is sent, RFC 4733 section 2.5.1.4.
const END_PACKETS: u8 = 3;
/// -10 dBm0, the middle of what networks expect of a key (RFC 4733 section 2.3.4 counts from 0 downwards).
const VOLUME: u8 = 10;
/// An event whose end was lost is over when nothing more came for this long: three missing packets and their jitter.
const SILENT_END: Duration = Duration::from_millis(120);
/// Digits that can wait in a call.
pub const QUEUE_DIGITS: usize = 64;
/// The payload of an event.
pub const EVENT_BYTES: usize = 4;

const KEYS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];

/// How long keys are held and how long the pause between them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigitTiming {
    /// Held; 40 ms to 8 s.
    pub duration: Duration,
    /// Pause after it; at least 40 ms.
    pub gap: Duration,
}

impl Default for DigitTiming {
    fn default() -> Self {
        Self { duration: Duration::from_millis(120), gap: Duration::from_millis(60) }
    }
}

/// What was agreed about telephone events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// The payload type that stands for them.
    pub payload_type: u8,
    /// The one in what we receive.
    pub receive_payload_type: u8,
    /// Their clock: that of the audio codec.
    pub clock_rate_hz: u32,
}

impl TelephoneEvent {
    /// Events that have one number in both directions.
    #[must_use]
    pub const fn new(payload_type: u8, clock_rate_hz: u32) -> Self {
        Self { payload_type, receive_payload_type: payload_type, clock_rate_hz }
    }
}

/// A key in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedDigit {
    event: u8,
    duration_ms: u16,
    gap_ms: u16,
}

impl QueuedDigit {
    /// A key with its timing, which is rounded to packets as it is sent. Durations below what switches must recognise
    /// (ITU-T Q.24: 40 ms) are raised to it; 8 s is what the duration field holds at 8 kHz.
    ///
    /// # Errors
    /// [`EngineError::BadDigit`] if no telephone has such a key.
    pub fn new(key: char, timing: DigitTiming) -> Result<Self, EngineError> {
        let upper = key.to_ascii_uppercase();
        let event = KEYS.iter().position(|&k| k == upper).ok_or(EngineError::BadDigit(key))?;
        let ms = |time: Duration| u16::try_from(time.as_millis().clamp(40, 8_000)).unwrap_or(40);
        Ok(Self {
            event: u8::try_from(event).unwrap_or_default(),
            duration_ms: ms(timing.duration),
            gap_ms: ms(timing.gap),
        })
    }
}

/// A key that was pressed at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Which key.
    pub digit: char,
    /// How long, as far as it was heard.
    pub duration: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    timestamp: u32,
    event: u8,
    /// In units of the clock.
    duration: u16,
    clock_rate_hz: u32,
    last_packet: Time,
}

/// Makes one key out of the packets of each event.
#[derive(Debug, Default)]
pub struct Receiver {
    held: Option<Held>,
    newest: Option<u32>,
}

impl Receiver {
    /// Takes the payload of an event packet. A key is returned when it is released, or when the next one is already
    /// being held. Payloads that are too short, and events that are no keys, are ignored.
    pub fn on_packet(&mut self, now: Time, timestamp: u32, clock_rate_hz: u32, payload: &[u8]) -> Option<Heard> {
        let [event, flags, high, low, ..] = *payload else { return None };
        if usize::from(event) >= KEYS.len() {
            return None;
        }
        let ended = flags & 0x80 != 0;
        let duration = u16::from_be_bytes([high, low]);
        let mut done = None;
        match &mut self.held {
            Some(held) if held.timestamp == timestamp => {
                held.duration = held.duration.max(duration);
                held.last_packet = now;
            }
            _ => {
                if self.newest.is_some_and(|newest| timestamp.wrapping_sub(newest).cast_signed() <= 0) {
                    return None; // an event that was told already, or one that was overtaken
                }
                done = self.release();
                self.newest = Some(timestamp);
                self.held = Some(Held { timestamp, event, duration, clock_rate_hz, last_packet: now });
            }
        }
        if ended && done.is_none() {
            return self.release();
        }
        if ended {
            // two keys at once can only be told one after the other: the second one at the next tick
            if let Some(held) = &mut self.held {
                held.last_packet = now - SILENT_END;
            }
        }
        done
    }

    /// A key whose end was lost is told after a while. Call it on every tick.
    pub fn on_tick(&mut self, now: Time) -> Option<Heard> {
        if self.held.is_some_and(|held| now.since(held.last_packet) >= SILENT_END) { self.release() } else { None }
    }

    /// The far end started a new stream: its timestamps say nothing about the old ones.
    pub fn reset(&mut self) -> Option<Heard> {
        self.newest = None;
        self.release()
    }

    fn release(&mut self) -> Option<Heard> {
        let held = self.held.take()?;
        Some(Heard {
            digit: KEYS[usize::from(held.event)],
            duration: Duration::from_micros(
                u64::from(held.duration) * 1_000_000 / u64::from(held.clock_rate_hz.max(1)),
            ),
        })
    }
}

/// What to send in the place of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// No key is being sent: send audio.
    Audio,
    /// An event packet.
    Event {
        /// The marker bit: first packet of the event.
        marker: bool,
        /// The timestamp of the event's start.
        timestamp: u32,
        /// The payload.
        payload: [u8; EVENT_BYTES],
        /// Whether this ends a key: the first of its end packets.
        ends: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Idle,
    Holding { digit: QueuedDigit, timestamp: u32, held_ms: u16 },
    Ending { digit: QueuedDigit, timestamp: u32, held_ms: u16, left: u8 },
    Gap { left_ms: u16 },
}

/// Sends the keys of a queue.
#[derive(Debug)]
pub struct Sender {
    queue: Deque<QueuedDigit, QUEUE_DIGITS>,
    phase: Phase,
}

impl Default for Sender {
    fn default() -> Self {
        Self { queue: Deque::new(), phase: Phase::Idle }
    }
}

impl Sender {
    /// Queues a key; `false` if the queue is full.
    pub fn push(&mut self, digit: QueuedDigit) -> bool {
        self.queue.push_back(digit).is_ok()
    }

    /// Forgets all keys that wait, and the one being sent.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.phase = Phase::Idle;
    }

    /// Decides about the packet of `ptime_ms` whose audio timestamp this is.
    pub fn slot(&mut self, timestamp: u32, ptime_ms: u16, clock_rate_hz: u32) -> Slot {
        let ptime_ms = ptime_ms.max(1);
        loop {
            match self.phase {
                Phase::Idle => {
                    let Some(digit) = self.queue.pop_front() else { return Slot::Audio };
                    self.phase = Phase::Holding { digit, timestamp, held_ms: 0 };
                }
                Phase::Holding { digit, timestamp: start, held_ms } => {
                    let longer = held_ms.saturating_add(ptime_ms);
                    match units(longer, clock_rate_hz) {
                        Some(duration) if held_ms < digit.duration_ms => {
                            self.phase = Phase::Holding { digit, timestamp: start, held_ms: longer };
                            return event(digit, start, held_ms == 0, false, duration);
                        }
                        _ => self.phase = Phase::Ending { digit, timestamp: start, held_ms, left: END_PACKETS },
                    }
                }
                Phase::Ending { digit, timestamp, held_ms, left } => {
                    self.phase = if left > 1 {
                        Phase::Ending { digit, timestamp, held_ms, left: left - 1 }
                    } else {
                        // the repeated end packets were sent within the gap
                        Phase::Gap { left_ms: digit.gap_ms.saturating_sub(u16::from(END_PACKETS) * ptime_ms) }
                    };
                    let mut slot =
                        event(digit, timestamp, false, true, units(held_ms, clock_rate_hz).unwrap_or(u16::MAX));
                    if let Slot::Event { ends, .. } = &mut slot {
                        *ends = left == END_PACKETS;
                    }
                    return slot;
                }
                Phase::Gap { left_ms: 0 } => self.phase = Phase::Idle,
                Phase::Gap { left_ms } => {
                    self.phase = Phase::Gap { left_ms: left_ms.saturating_sub(ptime_ms) };
                    return Slot::Audio;
                }
            }
        }
    }
}

/// Milliseconds as the duration field says them; `None` if it cannot.
fn units(ms: u16, clock_rate_hz: u32) -> Option<u16> {
    u16::try_from(u64::from(ms) * u64::from(clock_rate_hz) / 1_000).ok()
}

fn event(digit: QueuedDigit, timestamp: u32, marker: bool, end: bool, duration: u16) -> Slot {
    let [high, low] = duration.to_be_bytes();
    let flags = if end { 0x80 | VOLUME } else { VOLUME };
    Slot::Event { marker, timestamp, payload: [digit.event, flags, high, low], ends: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// All packets of some keys: (slot's time in ms, timestamp, payload).
    fn packets(keys: &str) -> Vec<(u64, u32, [u8; 4])> {
        let mut sender = Sender::default();
        for key in keys.chars() {
            assert!(sender.push(QueuedDigit::new(key, DigitTiming::default()).unwrap()));
        }
        let mut all = Vec::new();
        for slot in 0..200_u32 {
            if let Slot::Event { timestamp, payload, .. } =
                sender.slot(u32::MAX - 1000_u32.wrapping_sub(slot * 160), 20, 8_000)
            {
                all.push((u64::from(slot) * 20, timestamp, payload));
            }
        }
        all
    }

    fn heard(packets: impl IntoIterator<Item = (u64, u32, [u8; 4])>) -> String {
        let mut receiver = Receiver::default();
        let mut keys = String::new();
        let mut last = 0;
        for (ms, timestamp, payload) in packets {
            while last < ms {
                last += 5;
                keys.extend(receiver.on_tick(at(last)).map(|h| h.digit));
            }
            keys.extend(receiver.on_packet(at(ms), timestamp, 8_000, &payload).map(|h| h.digit));
        }
        for ms in last..last + 500 {
            keys.extend(receiver.on_tick(at(ms)).map(|h| h.digit));
        }
        keys
    }

    #[test]
    fn all_keys_arrive_once_each_across_the_timestamp_wrap() {
        assert_eq!(heard(packets("0123456789*#ABCD")), "0123456789*#ABCD");
        assert_eq!(heard(packets("1111")), "1111");
    }

    #[test]
    fn a_key_survives_the_loss_of_all_but_any_one_packet() {
        let all = packets("7");
        assert_eq!(all.len(), 9, "six packets of 120 ms, and three ends");
        for keep in &all {
            assert_eq!(heard([*keep]), "7");
        }
    }

    #[test]
    fn duplicates_and_reordering_do_not_make_keys() {
        let all = packets("12");
        assert_eq!(heard(all.iter().flat_map(|p| [*p; 3])), "12");
        let mut late = all.clone();
        let straggler = late.remove(5);
        late.push((straggler.0 + 900, straggler.1, straggler.2));
        late.sort_by_key(|p| p.0);
        assert_eq!(heard(late), "12");
    }

    #[test]
    fn events_that_are_no_keys_and_short_payloads_are_ignored() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.on_packet(at(0), 1, 8_000, &[16, 0x80, 0, 1]), None);
        assert_eq!(receiver.on_packet(at(0), 1, 8_000, &[255, 0x80, 0, 1]), None);
        assert_eq!(receiver.on_packet(at(0), 1, 8_000, &[1, 0x80, 0]), None);
        assert_eq!(receiver.on_tick(at(1000)), None);
    }

    #[test]
    fn what_is_sent_follows_rfc_4733() {
        let mut sender = Sender::default();
        sender.push(QueuedDigit::new('5', DigitTiming::default()).unwrap());
        let mut expected = Vec::new();
        for n in 1..=6_u16 {
            let [high, low] = (n * 160).to_be_bytes();
            expected.push((n == 1, 1000, [5, 10, high, low]));
        }
        let [high, low] = 960_u16.to_be_bytes();
        expected.extend([(false, 1000, [5, 0x8A, high, low]); 3]);
        for (n, expected) in expected.into_iter().enumerate() {
            let Slot::Event { marker, timestamp, payload, .. } = sender.slot(1000 + 160 * n as u32, 20, 8_000) else {
                panic!("slot {n} is audio");
            };
            assert_eq!((marker, timestamp, payload), expected);
        }
        assert_eq!(sender.slot(9000, 20, 8_000), Slot::Audio);
    }

    #[test]
    fn only_keys_of_a_telephone_are_taken_and_timing_is_kept_within_what_switches_hear() {
        assert!(matches!(QueuedDigit::new('x', DigitTiming::default()), Err(EngineError::BadDigit('x'))));
        assert!(QueuedDigit::new('a', DigitTiming::default()).is_ok());
        let short = DigitTiming { duration: Duration::ZERO, gap: Duration::from_secs(900) };
        let digit = QueuedDigit::new('1', short).unwrap();
        assert_eq!((digit.duration_ms, digit.gap_ms), (40, 8_000));
    }

    #[test]
    fn packets_of_any_length_at_any_clock_tell_the_same_duration() {
        for (ptime_ms, clock_rate_hz) in [(10, 8_000), (20, 48_000), (30, 8_000), (40, 48_000), (60, 48_000)] {
            let mut sender = Sender::default();
            sender.push(QueuedDigit::new('5', DigitTiming::default()).unwrap());
            let mut receiver = Receiver::default();
            let (mut heard, mut events) = (None, 0);
            for n in 0..100_u32 {
                let timestamp = n * u32::from(ptime_ms) * clock_rate_hz / 1_000;
                if let Slot::Event { timestamp, payload, .. } = sender.slot(timestamp, ptime_ms, clock_rate_hz) {
                    events += 1;
                    heard = heard.or(receiver.on_packet(at(0), timestamp, clock_rate_hz, &payload));
                }
            }
            assert_eq!(events, 120 / u32::from(ptime_ms) + 3);
            assert_eq!(heard, Some(Heard { digit: '5', duration: Duration::from_millis(120) }), "{ptime_ms} ms");
        }
    }

    #[test]
    fn a_key_is_let_go_when_the_duration_field_is_full() {
        let mut sender = Sender::default();
        let long = DigitTiming { duration: Duration::from_secs(8), gap: Duration::ZERO };
        sender.push(QueuedDigit::new('5', long).unwrap());
        let mut last = 0;
        while let Slot::Event { payload: [_, _, high, low], .. } = sender.slot(0, 20, 48_000) {
            let duration = u16::from_be_bytes([high, low]);
            assert!(duration >= last);
            last = duration;
        }
        assert_eq!(last, 1_360 * 48);
    }
}
