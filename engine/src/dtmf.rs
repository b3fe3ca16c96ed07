//! Telephone keys as RFC 4733 events, in and out.
//!
//! In: all packets of one event carry the timestamp of its start, so the timestamp is the event: any one of its packets
//! is enough to know it, and no number of repetitions makes two of it.
//!
//! Out: while a key is held, every 20 ms packet is an event packet with the same timestamp and a growing duration; the
//! last one is sent three times (section 2.5.1.4). The caller of [`Sender`] keeps counting the audio timestamp.

use std::time::Duration;

use heapless::Deque;

use crate::clock::Time;
use crate::error::EngineError;

/// Samples of one packet.
const PACKET_SAMPLES: u16 = 160;
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

/// A key in the queue, in units of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedDigit {
    event: u8,
    packets: u16,
    gap_packets: u16,
}

impl QueuedDigit {
    /// A key with its timing, rounded to packets. Durations below what switches must recognise (ITU-T Q.24: 40 ms) are
    /// raised to it; 8 s is what the duration field holds.
    ///
    /// # Errors
    /// [`EngineError::BadDigit`] if no telephone has such a key.
    pub fn new(key: char, timing: DigitTiming) -> Result<Self, EngineError> {
        let upper = key.to_ascii_uppercase();
        let event = KEYS.iter().position(|&k| k == upper).ok_or(EngineError::BadDigit(key))?;
        let packets = |time: Duration| u16::try_from(time.as_millis().div_ceil(20).clamp(2, 400)).unwrap_or(2);
        Ok(Self {
            event: u8::try_from(event).unwrap_or_default(),
            packets: packets(timing.duration),
            gap_packets: packets(timing.gap),
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
    duration: u16,
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
    pub fn on_packet(&mut self, now: Time, timestamp: u32, payload: &[u8]) -> Option<Heard> {
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
                self.held = Some(Held { timestamp, event, duration, last_packet: now });
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
            duration: Duration::from_micros(u64::from(held.duration) * 125),
        })
    }
}

/// What to send in a 20 ms slot.
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
    Holding { digit: QueuedDigit, timestamp: u32, sent: u16 },
    Ending { digit: QueuedDigit, timestamp: u32, left: u8 },
    Gap { left: u16 },
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

    /// Decides about the 20 ms slot whose audio timestamp this is.
    pub fn slot(&mut self, timestamp: u32) -> Slot {
        loop {
            match self.phase {
                Phase::Idle => {
                    let Some(digit) = self.queue.pop_front() else { return Slot::Audio };
                    self.phase = Phase::Holding { digit, timestamp, sent: 0 };
                }
                Phase::Holding { digit, timestamp: start, sent } if sent < digit.packets => {
                    self.phase = Phase::Holding { digit, timestamp: start, sent: sent + 1 };
                    return event(digit, start, sent == 0, false, (sent + 1) * PACKET_SAMPLES);
                }
                Phase::Holding { digit, timestamp, .. } => {
                    self.phase = Phase::Ending { digit, timestamp, left: END_PACKETS };
                }
                Phase::Ending { digit, timestamp, left } => {
                    self.phase = if left > 1 {
                        Phase::Ending { digit, timestamp, left: left - 1 }
                    } else {
                        // the repeated end packets were sent within the gap
                        Phase::Gap { left: digit.gap_packets.saturating_sub(u16::from(END_PACKETS)) }
                    };
                    let duration = digit.packets * PACKET_SAMPLES;
                    let mut slot = event(digit, timestamp, false, true, duration);
                    if let Slot::Event { ends, .. } = &mut slot {
                        *ends = left == END_PACKETS;
                    }
                    return slot;
                }
                Phase::Gap { left: 0 } => self.phase = Phase::Idle,
                Phase::Gap { left } => {
                    self.phase = Phase::Gap { left: left - 1 };
                    return Slot::Audio;
                }
            }
        }
    }
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
            if let Slot::Event { timestamp, payload, .. } = sender.slot(u32::MAX - 1000_u32.wrapping_sub(slot * 160)) {
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
            keys.extend(receiver.on_packet(at(ms), timestamp, &payload).map(|h| h.digit));
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
        assert_eq!(receiver.on_packet(at(0), 1, &[16, 0x80, 0, 1]), None);
        assert_eq!(receiver.on_packet(at(0), 1, &[255, 0x80, 0, 1]), None);
        assert_eq!(receiver.on_packet(at(0), 1, &[1, 0x80, 0]), None);
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
            let Slot::Event { marker, timestamp, payload, .. } = sender.slot(1000 + 160 * n as u32) else {
                panic!("slot {n} is audio");
            };
            assert_eq!((marker, timestamp, payload), expected);
        }
        assert_eq!(sender.slot(9000), Slot::Audio);
    }

    #[test]
    fn only_keys_of_a_telephone_are_taken_and_timing_is_kept_within_what_switches_hear() {
        assert!(matches!(QueuedDigit::new('x', DigitTiming::default()), Err(EngineError::BadDigit('x'))));
        assert!(QueuedDigit::new('a', DigitTiming::default()).is_ok());
        let short = DigitTiming { duration: Duration::ZERO, gap: Duration::from_secs(900) };
        let digit = QueuedDigit::new('1', short).unwrap();
        assert_eq!((digit.packets, digit.gap_packets), (2, 400));
    }
}
