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
//! is held longer goes on in another segment (section 2.5.1.3), whose timestamp is `SEGMENT` later and which is the same key.
//!
//! A far end that knows no events gets the [`tones`] themselves, from the same queue.

use std::time::Duration;

use heapless::Deque;
use tones::KeyTone;

use crate::clock::Time;
use crate::error::EngineError;

pub mod tones;

/// Times that the last packet of an event is sent, RFC 4733 section 2.5.1.4.
const END_PACKETS: u8 = 3;
/// -10 dBm0, the middle of what networks expect of a key (RFC 4733 section 2.3.4 counts from 0 downwards).
const VOLUME: u8 = 10;
/// An event whose end was lost is over when nothing more came for this long: three missing packets and their jitter.
const SILENT_END: Duration = Duration::from_millis(120);
/// The longest duration that the field holds: where an event goes on in another segment, RFC 4733 section 2.5.1.3.
const SEGMENT: u32 = 0xFFFF;
/// Digits that can wait in a call.
pub const QUEUE_DIGITS: usize = 64;
/// The payload of an event.
pub const EVENT_BYTES: usize = 4;

/// The frequencies of the rows and of the columns, in Hz (ITU-T Q.23).
pub const LOW_HZ: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
/// See [`LOW_HZ`].
pub const HIGH_HZ: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
/// The keys by row and column.
pub const KEY_PAD: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

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
    in_band: bool,
}

impl QueuedDigit {
    /// A key with its timing, which is rounded to packets as it is sent. Durations below what switches must recognise
    /// (ITU-T Q.24: 40 ms) are raised to it; more than 8 s nobody holds a key.
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
            in_band: false,
        })
    }

    /// The same key as tones in the audio.
    #[must_use]
    pub const fn in_band(self) -> Self {
        Self { in_band: true, ..self }
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
    /// Of the newest segment.
    timestamp: u32,
    event: u8,
    /// Units of the clock in the segments before it.
    before: u32,
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
                let before = self.segments_before(timestamp, event);
                if before == 0 {
                    done = self.release();
                }
                self.newest = Some(timestamp);
                self.held = Some(Held { timestamp, event, before, duration, clock_rate_hz, last_packet: now });
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

    /// What the key that is held has behind it, if this is its next segment (or a later one: those between were lost).
    fn segments_before(&self, timestamp: u32, event: u8) -> u32 {
        let Some(held) = self.held.filter(|held| held.event == event) else { return 0 };
        let later = timestamp.wrapping_sub(held.timestamp);
        let next = later > 0 && later.is_multiple_of(SEGMENT) && later / SEGMENT <= 2;
        if next { held.before.saturating_add(later) } else { 0 }
    }

    fn release(&mut self) -> Option<Heard> {
        let held = self.held.take()?;
        let units = u64::from(held.before) + u64::from(held.duration);
        Some(Heard {
            digit: KEYS[usize::from(held.event)],
            duration: Duration::from_micros(units * 1_000_000 / u64::from(held.clock_rate_hz.max(1))),
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
    /// Audio that [`Sender::sound`] writes.
    Tone {
        /// Whether this ends a key.
        ends: bool,
    },
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Idle,
    Holding { digit: QueuedDigit, timestamp: u32, held_ms: u16 },
    Ending { digit: QueuedDigit, timestamp: u32, held_ms: u16, left: u8 },
    Sounding { digit: QueuedDigit, tone: KeyTone },
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
                    self.phase = match digit.in_band {
                        true => Phase::Sounding { digit, tone: KeyTone::new(digit.event, digit.duration_ms) },
                        false => Phase::Holding { digit, timestamp, held_ms: 0 },
                    };
                }
                Phase::Holding { digit, timestamp: start, held_ms } if held_ms < digit.duration_ms => {
                    let longer = held_ms.saturating_add(ptime_ms);
                    self.phase = Phase::Holding { digit, timestamp: start, held_ms: longer };
                    let before = units(held_ms, clock_rate_hz) / SEGMENT;
                    let (segment, duration) = match units(longer, clock_rate_hz) {
                        // the last word about a segment is its whole length
                        all if all / SEGMENT > before => (before, SEGMENT),
                        all => (before, all % SEGMENT),
                    };
                    return event(digit, start, segment, held_ms == 0, false, duration);
                }
                Phase::Holding { digit, timestamp, held_ms } => {
                    self.phase = Phase::Ending { digit, timestamp, held_ms, left: END_PACKETS };
                }
                Phase::Ending { digit, timestamp, held_ms, left } => {
                    self.phase = if left > 1 {
                        Phase::Ending { digit, timestamp, held_ms, left: left - 1 }
                    } else {
                        // the repeated end packets were sent within the gap
                        Phase::Gap { left_ms: digit.gap_ms.saturating_sub(u16::from(END_PACKETS) * ptime_ms) }
                    };
                    let all = units(held_ms, clock_rate_hz);
                    let mut slot = event(digit, timestamp, all / SEGMENT, false, true, all % SEGMENT);
                    if let Slot::Event { ends, .. } = &mut slot {
                        *ends = left == END_PACKETS;
                    }
                    return slot;
                }
                Phase::Sounding { tone, .. } if tone.left_ms() > 0 => {
                    return Slot::Tone { ends: tone.left_ms() <= ptime_ms };
                }
                Phase::Sounding { digit, tone } => {
                    self.phase = Phase::Gap { left_ms: digit.gap_ms.saturating_sub(tone.silent_ms()) };
                }
                Phase::Gap { left_ms: 0 } => self.phase = Phase::Idle,
                Phase::Gap { left_ms } => {
                    self.phase = Phase::Gap { left_ms: left_ms.saturating_sub(ptime_ms) };
                    return Slot::Audio;
                }
            }
        }
    }

    /// Writes the audio of a packet for which [`slot`](Self::slot) said [`Slot::Tone`]; silence if it did not.
    pub fn sound(&mut self, audio: &mut [f32]) {
        match &mut self.phase {
            Phase::Sounding { tone, .. } => tone.fill(audio),
            _ => audio.fill(0.0),
        }
    }
}

/// Milliseconds in units of the clock.
fn units(ms: u16, clock_rate_hz: u32) -> u32 {
    u32::try_from(u64::from(ms) * u64::from(clock_rate_hz) / 1_000).unwrap_or(u32::MAX)
}

/// A packet about so much of the segment with this number.
fn event(digit: QueuedDigit, start: u32, segment: u32, marker: bool, end: bool, duration: u32) -> Slot {
    let [_, _, high, low] = duration.min(SEGMENT).to_be_bytes();
    let flags = if end { 0x80 | VOLUME } else { VOLUME };
    let timestamp = start.wrapping_add(segment.wrapping_mul(SEGMENT));
    Slot::Event { marker, timestamp, payload: [digit.event, flags, high, low], ends: false }
}

#[cfg(test)]
mod tests;
