//! Who listens: our call, and rivals with a fixed buffer.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use engine::call::{MediaCall, MediaCallConfig};
use engine::clock::Time;
use engine::codec::{Decoder, Encoder};
use engine::rtp::packet::{HEADER_BYTES, Packet as Rtp};
use engine::{CallId, Codec, MediaParams, PACKET_SAMPLES, TICK, TICK_SAMPLES};

use crate::network::{PTIME_MS, Packet};

/// Listened to after the last sample, so that all of it is heard.
const LINGER: usize = 8_000;
/// The longest payload that is sent.
const MAX_PAYLOAD: usize = 480;

/// What was said, in packets of 20 ms.
pub(crate) fn packets(said: &[f32], codec: Codec) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec);
    said.chunks_exact(PACKET_SAMPLES)
        .map(|samples| {
            let mut payload = vec![0; MAX_PAYLOAD];
            let length = encoder.encode(samples, &mut payload);
            payload.truncate(length);
            payload
        })
        .collect()
}

/// What a rival plays in place of what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Nothing.
    Zeros,
    /// The last pitch period, fading, after the manner of G.711 appendix I.
    Repetition,
    /// What the codec itself makes up (Opus).
    Codec,
    /// The copy in the next packet, else what the codec makes up (Opus).
    Copies,
}

/// Somebody who hears a stream of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The engine.
    Ours,
    /// A buffer of always so many milliseconds.
    Fixed(u32, Missing),
}

impl Listener {
    /// All that are compared.
    pub(crate) fn all(codec: Codec) -> Vec<Self> {
        let mut all = vec![
            Self::Ours,
            Self::Fixed(60, Missing::Zeros),
            Self::Fixed(60, Missing::Repetition),
            Self::Fixed(200, Missing::Zeros),
            Self::Fixed(200, Missing::Repetition),
        ];
        if codec == Codec::Opus {
            all.truncate(3);
            all.extend([Self::Fixed(60, Missing::Codec), Self::Fixed(60, Missing::Copies)]);
        }
        all
    }

    /// Its name in the table.
    pub(crate) fn name(self) -> String {
        let Self::Fixed(ms, missing) = self else { return "ours".into() };
        let missing = match missing {
            Missing::Zeros => "zeros",
            Missing::Repetition => "repeat",
            Missing::Codec => "codec's",
            Missing::Copies => "copies",
        };
        format!("{ms} ms, {missing}")
    }

    /// Hears packets that arrive in this order, on a clock that begins as the first sample is said.
    pub(crate) fn listen(self, packets: &[Packet], codec: Codec, length: usize) -> Vec<f32> {
        match self {
            Self::Ours => engine_hears(packets, codec, length + LINGER),
            Self::Fixed(ms, missing) => FixedBuffer::new(ms, missing, codec).hears(packets, length + LINGER),
        }
    }
}

fn engine_hears(packets: &[Packet], codec: Codec, length: usize) -> Vec<f32> {
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000));
    let payload_type = match codec {
        Codec::G722 => 9,
        Codec::Opus => 111,
        _ => 0,
    };
    let (mut call, mut controls) = MediaCall::new(MediaCallConfig {
        id: CallId(1),
        params: MediaParams::new(source, codec, payload_type),
        media_lost_after: Duration::from_secs(30),
        start: Time::ZERO,
        start_instant: Instant::now(),
        seed: 7,
        phase: 0,
        jack: None,
        record: None,
    });
    let mut heard = Vec::with_capacity(length + TICK_SAMPLES);
    let mut packets = packets.iter().peekable();
    let mut now = Time::ZERO;
    while heard.len() < length {
        while let Some(packet) = packets.next_if(|p| p.arrival_ms <= now.as_nanos() as f64 / 1e6) {
            let mut datagram = [0; HEADER_BYTES + MAX_PAYLOAD];
            let number = packet.number as u32;
            let rtp = Rtp {
                payload_type,
                marker: number == 0,
                sequence: number as u16,
                timestamp: number.wrapping_mul(20 * codec.clock_rate_hz() / 1_000),
                ssrc: 7,
                payload: &packet.payload,
            };
            let bytes = rtp.write(&mut datagram);
            call.on_packet(Time::from_nanos((packet.arrival_ms * 1e6) as u64), source, &mut datagram[..bytes]);
        }
        call.tick(now);
        while call.poll_transmit().is_some() {}
        while call.poll_event().is_some() {}
        while let Ok(sample) = controls.ears.samples.pop() {
            heard.push(sample);
        }
        now += TICK;
    }
    heard
}

/// Of so many packets in a row that were late, a fixed buffer learns that its clock is wrong, and fills anew.
const LATE_IN_A_ROW: u32 = 25;

/// Plays every packet a fixed time after the first one's arrival; what comes later is not played.
struct FixedBuffer {
    delay_ms: f64,
    missing: Missing,
    codec: Codec,
    decoder: Decoder,
    opus: Option<opus::Decoder>,
    repetition: Repetition,
    waiting: BTreeMap<usize, (f64, Vec<u8>)>,
    /// The next to be played; `None` while it fills.
    next: Option<usize>,
    late: u32,
}

impl FixedBuffer {
    fn new(delay_ms: u32, missing: Missing, codec: Codec) -> Self {
        Self {
            delay_ms: f64::from(delay_ms),
            missing,
            codec,
            decoder: Decoder::new(codec),
            opus: opus::Decoder::new(8_000, opus::Channels::Mono).ok(),
            repetition: Repetition::default(),
            waiting: BTreeMap::new(),
            next: None,
            late: 0,
        }
    }

    fn hears(mut self, packets: &[Packet], length: usize) -> Vec<f32> {
        let mut heard = Vec::with_capacity(length + PACKET_SAMPLES);
        let mut packets = packets.iter().peekable();
        while heard.len() < length {
            let now_ms = heard.len() as f64 / 8.0;
            while let Some(packet) = packets.next_if(|p| p.arrival_ms <= now_ms) {
                if self.next.is_some_and(|next| packet.number < next) {
                    self.late += 1;
                    continue;
                }
                self.late = 0;
                self.waiting.insert(packet.number, (packet.arrival_ms, packet.payload.clone()));
            }
            if self.late >= LATE_IN_A_ROW {
                (self.next, self.late) = (None, 0);
            }
            let full = self.waiting.first_key_value().filter(|(_, first)| now_ms >= first.0 + self.delay_ms);
            if let (None, Some((&number, _))) = (self.next, full) {
                self.next = Some(number);
            }
            let Some(next) = self.next else {
                // before the first packet, and while it fills anew: tick by tick, so that it begins on time
                heard.extend([0.0; TICK_SAMPLES]);
                continue;
            };
            let too_many = self.waiting.len() as f64 * PTIME_MS > 2.0 * self.delay_ms + 2.0 * PTIME_MS;
            let next = if too_many { next + (self.delay_ms / PTIME_MS) as usize } else { next };
            self.waiting = self.waiting.split_off(&next);
            heard.extend(self.frame(next));
            self.next = Some(next + 1);
        }
        heard
    }

    /// The 20 ms of one packet.
    fn frame(&mut self, number: usize) -> [f32; PACKET_SAMPLES] {
        let mut frame = [0.0; PACKET_SAMPLES];
        let payload = self.waiting.remove(&number).map(|(_, payload)| payload);
        if let (Missing::Codec | Missing::Copies, Some(opus)) = (self.missing, &mut self.opus) {
            let next = self.waiting.get(&(number + 1)).filter(|_| self.missing == Missing::Copies);
            let _ = match (&payload, next) {
                (Some(payload), _) => opus.decode_float(payload, &mut frame, false),
                (None, Some((_, next))) => opus.decode_float(next, &mut frame, true),
                (None, None) => opus.decode_float(&[], &mut frame, false),
            };
            return frame;
        }
        if let Some(payload) = &payload {
            let mut room = [0.0; 6 * PACKET_SAMPLES];
            self.decoder.decode(self.codec, payload, 0, &mut room);
            frame.copy_from_slice(&room[..PACKET_SAMPLES]);
        }
        match (self.missing, payload) {
            (Missing::Repetition, Some(_)) => self.repetition.received(&mut frame),
            (Missing::Repetition, None) => self.repetition.fill(&mut frame),
            _ => {}
        }
        frame
    }
}

/// Repetition of the pitch period as ITU-T G.711 appendix I does it, from its description: one period in the first 10 ms, two
/// in the next, three from then on; 20 % quieter every 10 ms after the first; silent after 60 ms; overlap at the seams. It
/// does without the 3.75 ms of delay that the appendix spends on the first seam.
#[derive(Debug, Default)]
struct Repetition {
    history: VecDeque<f32>,
    /// Made so far in this gap.
    made: usize,
    pitch: usize,
    /// The history as the gap found it, and what of it is repeated.
    before: Vec<f32>,
    periods: Vec<f32>,
    at: usize,
}

impl Repetition {
    const HISTORY: usize = 390;
    const LONGEST: usize = 120;
    const SHORTEST: usize = 40;
    const WINDOW: usize = 160;
    const PART: usize = 80;

    fn received(&mut self, frame: &mut [f32; PACKET_SAMPLES]) {
        if self.made > 0 {
            // 4 ms of overlap, and 4 more for every further 10 ms, up to 10 ms
            let overlap = (32 + 32 * (self.made / Self::PART).saturating_sub(1)).min(Self::PART);
            for (n, sample) in frame.iter_mut().take(overlap).enumerate() {
                let share = (n + 1) as f32 / (overlap + 1) as f32;
                *sample = share * *sample + (1.0 - share) * self.sample();
            }
            self.made = 0;
        }
        self.remember(frame);
    }

    fn fill(&mut self, frame: &mut [f32; PACKET_SAMPLES]) {
        if self.made == 0 {
            self.before = vec![0.0; Self::HISTORY - self.history.len()];
            self.before.extend(&self.history);
            self.pitch = self.find_pitch();
        }
        for sample in frame.iter_mut() {
            *sample = self.sample();
        }
        self.remember(frame);
    }

    fn remember(&mut self, frame: &[f32]) {
        self.history.extend(frame);
        self.history.drain(..self.history.len().saturating_sub(Self::HISTORY));
    }

    fn sample(&mut self) -> f32 {
        let part = self.made / Self::PART;
        if self.made.is_multiple_of(Self::PART) && part < 3 {
            self.take_periods(part + 1);
        }
        let fading = 0.2 * (self.made as f32 / Self::PART as f32 - 1.0).max(0.0);
        let gain = if self.made >= 6 * Self::PART { 0.0 } else { 1.0 - fading };
        let sample = self.periods[self.at] * gain.max(0.0);
        self.at = (self.at + 1) % self.periods.len();
        self.made += 1;
        sample
    }

    /// Repeats so many periods from now on, going on at the same place of the period.
    fn take_periods(&mut self, count: usize) {
        if count == 1 {
            self.at = 0;
        }
        let whole = &self.before;
        let length = (count * self.pitch).min(whole.len());
        let mut periods = whole[whole.len() - length..].to_vec();
        let seam = self.pitch / 4;
        let before = whole.len() - length;
        for n in 0..seam.min(before) {
            let share = (n + 1) as f32 / (seam + 1) as f32;
            let at = length - seam + n;
            periods[at] = (1.0 - share) * periods[at] + share * whole[before - seam.min(before) + n];
        }
        self.at %= self.pitch.max(1);
        self.periods = periods;
    }

    fn find_pitch(&self) -> usize {
        let history = &self.before;
        let recent = &history[Self::HISTORY - Self::WINDOW..];
        let score = |lag: usize| {
            let earlier = &history[Self::HISTORY - Self::WINDOW - lag..Self::HISTORY - lag];
            let dot: f32 = recent.iter().zip(earlier).map(|(a, b)| a * b).sum();
            dot / earlier.iter().map(|s| s * s).sum::<f32>().max(1e-6).sqrt()
        };
        (Self::SHORTEST..=Self::LONGEST).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(Self::SHORTEST)
    }
}
