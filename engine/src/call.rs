//! One call's media, without sockets, threads or clocks.
//!
//! Packets and the time go in: [`MediaCall::on_packet`], [`MediaCall::tick`]. Packets and events come out:
//! [`MediaCall::poll_transmit`], [`MediaCall::poll_event`]. Samples go out by rings (ears, recorder) and come in by the
//! voice ring. So a test, a bench and the media thread drive the same thing.
//!
//! What must hold:
//! - Nothing here allocates, frees, locks, waits or panics, whatever the packets are. Taps that are done with are handed
//!   back by [`MediaCall::poll_retired`].
//! - `tick` is due every 5 ms of the given clock and keeps its own count: late ticks are made up for on the receiving side
//!   (up to [`CATCH_UP_TICKS`]), and on the sending side only the newest packet is sent, so a stall makes no burst
//!   (case 43). The RTP timestamp is the clock of what is sent and counts on through skipped packets.
//! - An answered call always sends: voice, or comfort silence, or telephone events, one packet every 20 ms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heapless::{Deque, Vec as FixedVec};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::clock::{Time, read_clock};
use crate::codec::{COMFORT_NOISE_PAYLOAD_TYPE, Codec};
use crate::dtmf::{self, QueuedDigit, Slot};
use crate::event::{CallId, MediaEvent};
use crate::jack::{JackCall, Route};
use crate::playout::{AudioPacket, Inserted, Playout};
use crate::record::{RecordTap, Recorded};
use crate::rtp::packet::{HEADER_BYTES, Packet, is_rtcp};
use crate::rtp::reception::Reception;
use crate::rtp::rtcp;
use crate::rtp::source::{SourceLatch, Verdict};
use crate::stats::Counters;
use crate::tap::{EarTap, TapSource, tap};
use crate::voice::{Voice, VoiceReader, voice};
use crate::{PACKET_SAMPLES, TICK, TICK_SAMPLES, TICKS_PER_PACKET};

/// Ticks that are made up for after a stall: 200 ms of received audio, what the kernel's socket buffer and the playout
/// hold anyway. What is beyond is left out, and counted at the taps.
pub const CATCH_UP_TICKS: u64 = 40;

/// Taps of a call: the ears and a few subscribers.
pub const MAX_TAPS: usize = 5;

/// Commands that can wait between two ticks.
const COMMANDS: usize = dtmf::QUEUE_DIGITS + 16;
/// Events that can wait between two ticks; more are lost, counted.
const EVENTS: usize = 32;
/// RTCP goes out every 5 s (RFC 3550 section 6.2), less or more by a fifth so that calls do not fall into step.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What was agreed about a call's media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaParams {
    /// Where the far end's SDP says that it receives RTP.
    pub remote: SocketAddr,
    /// How audio is written, both ways.
    pub codec: Codec,
    /// The payload type that stands for it.
    pub payload_type: u8,
    /// The payload type of telephone events (RFC 4733) at 8 kHz, if agreed.
    pub telephone_event: Option<u8>,
    /// Whether we send (not while the far end holds us).
    pub send: bool,
    /// Whether the far end sends (not while it is held, or inactive).
    pub receive: bool,
}

/// What a call's media is made of.
#[derive(Debug)]
pub struct MediaCallConfig {
    /// The call's number.
    pub id: CallId,
    /// What was agreed.
    pub params: MediaParams,
    /// Silence on the wire after which the media counts as lost.
    pub media_lost_after: Duration,
    /// When the first tick is due.
    pub start: Time,
    /// The same moment on the standard library's clock, which JACK's side uses.
    pub start_instant: Instant,
    /// Randomness for SSRC, sequence number and timestamp (RFC 3550 section 5.1).
    pub seed: u64,
    /// Which of the four ticks of a packet time sends, 0 to 3; spreads the calls of a thread.
    pub phase: u8,
    /// The call's JACK ports, if it has any.
    pub jack: Option<JackCall>,
    /// Where both directions are recorded, if they are.
    pub record: Option<RecordTap>,
}

/// The other end of a call's media: what the control threads hold.
#[derive(Debug)]
pub struct CallControls {
    /// What the agent says.
    pub voice: Voice,
    /// What is to change.
    pub commands: Producer<CallCommand>,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// What the caller says.
    pub ears: EarTap,
}

/// A change to a call, made by the media thread at its next tick.
#[derive(Debug)]
pub enum CallCommand {
    /// Other parameters (re-INVITE, hold).
    Update(MediaParams),
    /// A key to be sent.
    Digit(QueuedDigit),
    /// A subscriber.
    Tap(TapSource),
}

/// A packet to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// Whether it goes out of the RTCP socket.
    pub rtcp: bool,
    /// The datagram.
    pub bytes: &'a [u8],
}

/// What of a call is waiting for [`MediaCall::poll_transmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outbox {
    Empty,
    Rtp(usize),
}

/// One call's media.
#[derive(Debug)]
pub struct MediaCall {
    id: CallId,
    params: MediaParams,
    counters: Arc<Counters>,
    commands: Consumer<CallCommand>,
    events: Deque<MediaEvent, EVENTS>,
    taps: FixedVec<TapSource, MAX_TAPS>,
    retired: Option<TapSource>,
    record: Option<RecordTap>,

    // receiving
    latch: SourceLatch,
    reception: Reception,
    playout: Playout,
    keys_in: dtmf::Receiver,
    heard_at: Time,
    media_lost_after: Duration,
    media_lost: bool,
    caller: [f32; PACKET_SAMPLES],

    // sending
    voice: VoiceReader,
    keys_out: dtmf::Sender,
    /// What the packet that is being collected will carry; decided as it begins.
    slot: Slot,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    mark_next: bool,
    outgoing: [f32; PACKET_SAMPLES],
    collected: usize,
    rtp_out: [u8; HEADER_BYTES + PACKET_SAMPLES],
    outbox: Outbox,

    // RTCP
    report_due: Time,
    report_out: [u8; rtcp::MAX_REPORT_BYTES],
    report_length: usize,
    last_sender_report: Option<(u32, Time)>,

    // the clock
    tick_due: Time,
    ticks: u64,
    start: Time,
    start_instant: Instant,

    jack: Option<JackCall>,
    on_jack: bool,
}

impl MediaCall {
    /// A call's media and its controls.
    #[must_use]
    pub fn new(config: MediaCallConfig) -> (Self, CallControls) {
        let (writer, reader) = voice();
        let (commands_in, commands_out) = RingBuffer::new(COMMANDS);
        let (ear_source, ears) = tap();
        let counters = Arc::new(Counters::default());
        let mut taps = FixedVec::new();
        let _ = taps.push(ear_source);
        let [a, b, c, d, e, f, g, h] = config.seed.to_le_bytes();
        let call = Self {
            id: config.id,
            params: config.params,
            counters: counters.clone(),
            commands: commands_out,
            events: Deque::new(),
            taps,
            retired: None,
            record: config.record,
            latch: SourceLatch::new(config.params.remote),
            reception: Reception::default(),
            playout: Playout::default(),
            keys_in: dtmf::Receiver::default(),
            heard_at: config.start,
            media_lost_after: config.media_lost_after,
            media_lost: false,
            caller: [0.0; PACKET_SAMPLES],
            voice: reader,
            keys_out: dtmf::Sender::default(),
            slot: Slot::Audio,
            ssrc: u32::from_le_bytes([a, b, c, d]),
            sequence: u16::from_le_bytes([e, f]),
            timestamp: u32::from_le_bytes([g, h, a, b]),
            mark_next: true,
            outgoing: [0.0; PACKET_SAMPLES],
            collected: 0,
            rtp_out: [0; HEADER_BYTES + PACKET_SAMPLES],
            outbox: Outbox::Empty,
            report_due: config.start + report_interval(config.seed),
            report_out: [0; rtcp::MAX_REPORT_BYTES],
            report_length: 0,
            last_sender_report: None,
            tick_due: config.start,
            ticks: u64::from(config.phase % TICKS_PER_PACKET as u8),
            start: config.start,
            start_instant: config.start_instant,
            jack: config.jack,
            on_jack: false,
        };
        (call, CallControls { voice: writer, commands: commands_in, counters, ears })
    }

    /// The call's number.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Whether the controls are gone, and with them the reason to go on.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.commands.is_abandoned()
    }

    /// The call's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a datagram of the RTP port. `arrival` is when the kernel received it.
    pub fn on_packet(&mut self, arrival: Time, source: SocketAddr, bytes: &[u8]) {
        if is_rtcp(bytes) {
            self.on_rtcp(arrival, source, bytes);
            return;
        }
        let Some(packet) = Packet::parse(bytes).filter(|p| self.kind(p.payload_type).is_some()) else {
            self.counters.bad_packets.add(1);
            return;
        };
        match self.latch.judge(arrival, source, packet.ssrc, packet.sequence) {
            Verdict::Accept => {}
            Verdict::Moved => self.counters.relatches.add(1),
            Verdict::Foreign => {
                self.counters.foreign_packets.add(1);
                return;
            }
        }
        self.heard_at = self.heard_at.max(arrival);
        if !self.params.receive {
            return;
        }
        self.counters.received.add(1);
        self.counters.received_bytes.add(packet.payload.len() as u64);
        match self.kind(packet.payload_type) {
            Some(Kind::Audio(codec)) => self.on_audio(arrival, codec, &packet),
            Some(Kind::Keys) => {
                self.count(&packet);
                self.playout.note_other(packet.ssrc, packet.sequence);
                if let Some(heard) = self.keys_in.on_packet(arrival, packet.timestamp, packet.payload) {
                    self.on_key(heard);
                }
            }
            Some(Kind::Noise) => {
                self.count(&packet);
                if let Some(&level) = packet.payload.first() {
                    self.playout.comfort_noise(packet.ssrc, packet.sequence, level & 0x7F);
                }
            }
            None => {}
        }
    }

    /// Takes a datagram of the RTCP port.
    pub fn on_rtcp(&mut self, arrival: Time, source: SocketAddr, bytes: &[u8]) {
        if !self.latch.is_far_host(source) {
            self.counters.foreign_packets.add(1);
            return;
        }
        let Some(report) = rtcp::parse(bytes, self.ssrc) else {
            self.counters.bad_packets.add(1);
            return;
        };
        if let Some(echo) = report.sender_report {
            self.last_sender_report = Some((echo, arrival));
        }
        if let Some(about_us) = report.about_us {
            self.counters.far_loss.set(f32::from(about_us.fraction_lost) / 256.0);
            self.counters.far_jitter_ms.set(about_us.jitter as f32 / 8.0);
            let now = rtcp::middle(rtcp::ntp_time(read_clock(libc::CLOCK_REALTIME)));
            if let Some(ms) = about_us.round_trip_ms(now) {
                self.counters.round_trip_ms.set(ms);
            }
        }
    }

    /// Does what is due by `now`: takes commands, plays out, sends.
    pub fn tick(&mut self, now: Time) {
        self.take_commands();
        if now < self.tick_due {
            return;
        }
        let elapsed = now.since(self.tick_due).as_nanos() / TICK.as_nanos();
        let due = u64::try_from(elapsed).unwrap_or(0) + 1;
        let left_out = due.saturating_sub(CATCH_UP_TICKS);
        if left_out > 0 {
            self.leave_out(left_out);
        }
        // of the packets that are due only the last one is sent
        let last = self.ticks + (due - left_out);
        let last_send = last / TICKS_PER_PACKET * TICKS_PER_PACKET;
        while self.ticks < last {
            self.ticks += 1;
            let skipped = self.ticks + TICKS_PER_PACKET <= last_send;
            self.one_tick(skipped);
            self.tick_due += TICK;
        }
        self.watch(now);
    }

    /// The next packet to send, if there is one.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        let to = self.latch.destination();
        if to.ip().is_unspecified() || to.port() == 0 {
            // an SDP of old times says hold like this; the kernel would take it for this machine
            self.outbox = Outbox::Empty;
            self.report_length = 0;
            return None;
        }
        if let Outbox::Rtp(length) = self.outbox {
            self.outbox = Outbox::Empty;
            return Some(Transmit { to, rtcp: false, bytes: &self.rtp_out[..length] });
        }
        if self.report_length > 0 {
            let length = std::mem::take(&mut self.report_length);
            let port = to.port().checked_add(1)?;
            return Some(Transmit {
                to: SocketAddr::new(to.ip(), port),
                rtcp: true,
                bytes: &self.report_out[..length],
            });
        }
        None
    }

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.events.pop_front()
    }

    /// A tap that is done with, to be dropped on another thread.
    pub fn poll_retired(&mut self) -> Option<TapSource> {
        if let Some(index) = self.taps.iter().position(TapSource::is_abandoned) {
            return Some(self.taps.swap_remove(index));
        }
        self.retired.take()
    }

    fn kind(&self, payload_type: u8) -> Option<Kind> {
        if payload_type == self.params.payload_type {
            Some(Kind::Audio(self.params.codec))
        } else if Some(payload_type) == self.params.telephone_event {
            Some(Kind::Keys)
        } else if payload_type == COMFORT_NOISE_PAYLOAD_TYPE {
            Some(Kind::Noise)
        } else {
            // some gateways flip between the two laws in mid-call; their numbers are fixed, so there is no doubt
            Codec::of_static_payload_type(payload_type).map(Kind::Audio)
        }
    }

    fn on_audio(&mut self, arrival: Time, codec: Codec, packet: &Packet<'_>) {
        let audio = AudioPacket {
            ssrc: packet.ssrc,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            codec,
            payload: packet.payload,
        };
        match self.playout.insert(arrival, &audio) {
            Inserted::Accepted => self.count(packet),
            Inserted::Late => {
                self.count(packet);
                self.counters.late.add(1);
            }
            Inserted::Restarted => {
                self.counters.resyncs.add(1);
                self.reception.restart(packet.ssrc, packet.sequence);
                self.count(packet);
                if let Some(heard) = self.keys_in.reset() {
                    self.on_key(heard);
                }
            }
            Inserted::Duplicate => {
                self.counters.duplicates.add(1);
                return;
            }
            Inserted::Suspicious | Inserted::Unusable => {
                self.counters.bad_packets.add(1);
                return;
            }
        }
        self.reception.measure(arrival, packet.timestamp);
        self.counters.jitter_ms.set(self.reception.jitter() as f32 / 8.0);
    }

    fn count(&mut self, packet: &Packet<'_>) {
        if self.reception.count(packet.ssrc, packet.sequence) {
            self.counters.reordered.add(1);
        }
        self.counters.lost.set(self.reception.lost());
    }

    fn on_key(&mut self, heard: dtmf::Heard) {
        self.counters.digits_received.add(1);
        self.say(MediaEvent::Digit { digit: heard.digit, duration: heard.duration });
    }

    fn take_commands(&mut self) {
        while self.retired.is_none() {
            let Ok(command) = self.commands.pop() else { return };
            match command {
                CallCommand::Update(params) => self.update(params),
                CallCommand::Digit(digit) => {
                    if !self.keys_out.push(digit) {
                        self.counters.lost_events.add(1);
                    }
                }
                CallCommand::Tap(source) => self.retired = self.taps.push(source).err(),
            }
        }
    }

    fn update(&mut self, params: MediaParams) {
        self.latch.expect(params.remote);
        if params.receive && !self.params.receive {
            self.heard_at = self.tick_due; // a hold is no silence (case 32)
        }
        if params.send && !self.params.send {
            self.mark_next = true;
        }
        if params.telephone_event.is_none() || !params.send {
            self.keys_out.clear();
            self.slot = Slot::Audio;
        }
        self.params = params;
    }

    /// One tick of the call's clock: 5 ms in, 5 ms out. `skipped`: its packet will not be sent.
    fn one_tick(&mut self, skipped: bool) {
        let now = self.tick_due;
        let slot = (self.ticks - 1) % TICKS_PER_PACKET;
        let at = to_index(slot) * TICK_SAMPLES;
        let caller = &mut self.caller[at..at + TICK_SAMPLES];
        self.playout.pull(now, caller, &self.counters);
        for sample in &mut *caller {
            // cross-fades of loud, unrelated pieces add up to more than full scale, which nobody behind this expects
            *sample = sample.clamp(-1.0, 1.0);
        }
        for tap in &mut self.taps {
            tap.push(caller, &self.counters);
        }
        if let Some(heard) = self.keys_in.on_tick(now) {
            self.on_key(heard);
        }
        if at == 0 && self.params.send && self.params.telephone_event.is_some() {
            self.slot = self.keys_out.slot(self.timestamp);
        }
        if !skipped {
            self.exchange_with_jack(now, at);
        }
        if slot + 1 == TICKS_PER_PACKET {
            if skipped {
                self.skip_packet();
            } else {
                self.send_packet();
            }
            self.timestamp = self.timestamp.wrapping_add(PACKET_SAMPLES as u32);
        }
    }

    fn exchange_with_jack(&mut self, now: Time, at: usize) {
        let Some(jack) = &mut self.jack else { return };
        let mut agent = [0.0; TICK_SAMPLES];
        let (events, counters) = (&mut self.events, &self.counters);
        let mut emit = |event| enqueue(events, counters, event);
        if self.params.send && self.slot == Slot::Audio {
            self.voice.pull(&mut agent, counters, &mut emit);
        } else {
            self.voice.idle(&mut emit); // the voice waits while a key sounds or the far end holds us
        }
        let instant = self.start_instant + now.since(self.start);
        let to_phone = &mut self.outgoing[at..at + TICK_SAMPLES];
        let route = jack.exchange(instant, &self.caller[at..at + TICK_SAMPLES], &agent, to_phone);
        self.voice.set_in_flight(jack.in_flight());
        self.collected = at + TICK_SAMPLES;
        let on_jack = route == Route::Jack;
        if on_jack != self.on_jack {
            self.on_jack = on_jack;
            self.say(if on_jack { MediaEvent::JackBack } else { MediaEvent::JackLost });
        }
    }

    fn send_packet(&mut self) {
        let collected = std::mem::take(&mut self.collected);
        let (events, counters) = (&mut self.events, &self.counters);
        let mut emit = |event| enqueue(events, counters, event);
        if !self.params.send {
            self.voice.idle(&mut emit);
            self.outgoing.fill(0.0);
            self.record();
            return;
        }
        let (payload_type, marker, timestamp);
        let mut payload = [0; PACKET_SAMPLES];
        let key = self.params.telephone_event.zip(match self.slot {
            Slot::Event { marker, timestamp, payload, ends } => Some((marker, timestamp, payload, ends)),
            Slot::Audio => None,
        });
        let length = if let Some((event_type, (first, start, event, ends))) = key {
            self.outgoing.fill(0.0);
            self.voice.idle(&mut emit);
            (payload_type, marker, timestamp) = (event_type, first, start);
            if ends {
                self.counters.digits_sent.add(1);
            }
            payload[..dtmf::EVENT_BYTES].copy_from_slice(&event);
            dtmf::EVENT_BYTES
        } else {
            if collected < PACKET_SAMPLES {
                self.voice.pull(&mut self.outgoing[collected..], counters, &mut emit);
            }
            (payload_type, marker, timestamp) = (self.params.payload_type, self.mark_next, self.timestamp);
            self.mark_next = false;
            self.params.codec.encode(&self.outgoing, &mut payload)
        };
        let packet = Packet {
            payload_type,
            marker,
            sequence: self.sequence,
            timestamp,
            ssrc: self.ssrc,
            payload: &payload[..length],
        };
        let written = packet.write(&mut self.rtp_out);
        if written > 0 {
            self.outbox = Outbox::Rtp(written);
            self.sequence = self.sequence.wrapping_add(1);
            self.counters.sent.add(1);
            self.counters.sent_bytes.add(length as u64);
        }
        self.record();
    }

    fn skip_packet(&mut self) {
        self.counters.skipped.add(1);
        self.collected = 0;
        self.outgoing.fill(0.0);
        self.record();
    }

    fn record(&mut self) {
        let Some(tap) = &mut self.record else { return };
        if let Recorded::Lost = tap.push(&self.caller, &self.outgoing) {
            self.counters.record_lost_samples.add(PACKET_SAMPLES as u64);
        }
    }

    /// The thread stood still for so long that this much of the call is given up.
    fn leave_out(&mut self, ticks: u64) {
        // whole packets, so that the phase stays
        let packets = ticks.div_ceil(TICKS_PER_PACKET);
        self.tick_due += TICK * u32::try_from(packets * TICKS_PER_PACKET).unwrap_or(u32::MAX);
        let samples = packets * PACKET_SAMPLES as u64;
        for tap in &self.taps {
            tap.note_lost(samples, &self.counters);
        }
        if let Some(tap) = &mut self.record {
            tap.leave_out(packets);
            self.counters.record_lost_samples.add(samples);
        }
        self.counters.skipped.add(packets);
        self.timestamp = self.timestamp.wrapping_add((samples & 0xFFFF_FFFF) as u32);
    }

    /// Lost media and reports.
    fn watch(&mut self, now: Time) {
        let silent = self.params.receive && now.since(self.heard_at) >= self.media_lost_after;
        if silent != self.media_lost {
            self.media_lost = silent;
            self.say(if silent { MediaEvent::MediaLost } else { MediaEvent::MediaFound });
        }
        if now >= self.report_due {
            self.report_due = now + report_interval(u64::from(self.ssrc) ^ self.ticks);
            let report = rtcp::Report {
                ssrc: self.ssrc,
                ntp: rtcp::ntp_time(read_clock(libc::CLOCK_REALTIME)),
                timestamp: self.timestamp,
                packets: low32(self.counters.sent.get()),
                bytes: low32(self.counters.sent_bytes.get()),
                heard: self.reception.report(),
                last_sender_report: self.last_sender_report,
            };
            self.report_length = rtcp::write_report(&report, now, &mut self.report_out);
        }
    }

    fn say(&mut self, event: MediaEvent) {
        enqueue(&mut self.events, &self.counters, event);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audio(Codec),
    Keys,
    Noise,
}

fn enqueue(events: &mut Deque<MediaEvent, EVENTS>, counters: &Counters, event: MediaEvent) {
    if events.push_back(event).is_err() {
        counters.lost_events.add(1);
    }
}

/// 4 to 6 s, by some bits.
fn report_interval(bits: u64) -> Duration {
    let spread = u32::try_from((bits ^ (bits >> 17)) % 400).unwrap_or(0);
    REPORT_INTERVAL * (800 + spread) / 1000
}

fn low32(value: u64) -> u32 {
    (value & 0xFFFF_FFFF) as u32
}

fn to_index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(0)
}
