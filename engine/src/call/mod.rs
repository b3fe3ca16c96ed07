//! One call's media, without sockets, threads or clocks.
//!
//! Packets and the time go in: [`MediaCall::on_packet`], [`MediaCall::tick`]. Packets and events come out:
//! [`MediaCall::poll_transmit`], [`MediaCall::poll_event`]. Samples go out by rings (ears, recorder) and come in by the
//! voice ring. So a test, a bench and the media thread drive the same thing.
//!
//! What must hold:
//! - Nothing here allocates, frees, locks, waits or panics, whatever the packets are. Taps that are done with are handed
//!   back by [`MediaCall::poll_retired`], and so are parts that were replaced.
//! - `tick` is due every 5 ms of the given clock and keeps its own count: late ticks are made up for on the receiving side
//!   (up to [`CATCH_UP_TICKS`]), and on the sending side only the newest packet is sent, so a stall makes no burst
//!   (case 43). The RTP timestamp is the clock of what is sent and counts on through skipped packets.
//! - An answered call always sends: voice, or silence, or telephone events, one packet every packet time; where comfort noise
//!   was agreed, a pause is told twice a second instead.

mod bridged;
mod health;
mod listening;
mod params;
mod receive;
mod send;
mod silence;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heapless::{Deque, Vec as FixedVec};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::TICK;
use crate::clean::Cleaner;
use crate::clock::Time;
use crate::codec::Encoder;
use crate::detect::Detectors;
use crate::dsp::limiter::Limiter;
use crate::dtmf::{self, QueuedDigit, Slot};
use crate::effects::{Direction, EffectChain, EffectSlot};
use crate::event::{CallId, MediaEvent};
use crate::jack::JackCall;
use crate::play::{PlayId, Player, Players};
use crate::playout::Playout;
use crate::record::RecordTap;
use crate::rtp::packet::HEADER_BYTES;
use crate::rtp::reception::Reception;
use crate::rtp::rtcp;
use crate::rtp::source::SourceLatch;
use crate::rtp::srtp::{MAX_TRAILER_BYTES, SrtpSession};
use crate::stats::Counters;
use crate::tap::{EarTap, TapSource, tap};
use crate::voice::{Voice, VoiceReader, voice};
use bridged::Bridged;
use health::Health;
pub use health::MediaFault;
use params::MAX_SENT_SAMPLES;
pub use params::{MediaParams, MediaParts};
use silence::Silence;

/// Ticks that are made up for after a stall: 200 ms of received audio, what the kernel's socket buffer and the playout
/// hold anyway. What is beyond is left out, and counted at the taps.
pub const CATCH_UP_TICKS: u64 = 40;

/// Taps of a call: the ears and a few subscribers.
pub const MAX_TAPS: usize = 5;

/// Ticks from one [look around](MediaCall::looks_around) to the next.
const LOOK_AROUND_TICKS: u64 = 8;

/// Commands that can wait between two ticks.
const COMMANDS: usize = dtmf::QUEUE_DIGITS + 16;
/// Events that can wait between two ticks; more are lost, counted.
const EVENTS: usize = 32;
/// RTCP goes out every 5 s (RFC 3550 section 6.2), less or more by a fifth so that calls do not fall into step.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

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
    /// How many ticks of the first packet time are over at the start: spreads the calls of a thread over their ticks.
    pub phase: u8,
    /// The call's JACK ports, if it has any.
    pub jack: Option<JackCall>,
    /// Where both directions are recorded, if they are.
    pub record: Option<Box<RecordTap>>,
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
    /// Other parameters (re-INVITE, hold), with all that they need.
    Update(Box<MediaParts>),
    /// A key to be sent.
    Digit(QueuedDigit),
    /// A subscriber.
    Tap(TapSource),
    /// A recording that begins, in the place of one that may run; `None`: it ends.
    Record(Option<Box<RecordTap>>),
    /// The recording pauses, or goes on.
    PauseRecording(bool),
    /// Other detectors, or none.
    Detect(Option<Box<Detectors>>),
    /// Something to be played.
    Play(Box<Player>),
    /// What is not to be played any more.
    StopPlay(PlayId),
    /// How the ears' audio is cleaned from now on. What the cleaner before had learnt goes on in this one.
    Clean(Option<Box<Cleaner>>),
    /// Effects on one of the voices, in place of those before.
    Effects(Direction, Option<Box<EffectChain>>),
}

impl CallCommand {
    /// Other parameters (re-INVITE, hold). Builds what they need: not for a real-time thread.
    #[must_use]
    pub fn update(params: MediaParams) -> Self {
        Self::Update(Box::new(MediaParts::new(params)))
    }
}

/// What a call is done with, to be dropped on another thread.
#[derive(Debug)]
pub enum Retired {
    /// A subscriber that is gone.
    Tap(TapSource),
    /// What an update replaced.
    Parts(Box<MediaParts>),
    /// A recording that is over.
    Record(Box<RecordTap>),
    /// Detectors that are done.
    Detectors(Box<Detectors>),
    /// A player that is over.
    Player(Box<Player>),
    /// A cleaner that was replaced.
    Cleaner(Box<Cleaner>),
    /// Effects that were replaced.
    Effects(Box<EffectChain>),
}

/// A packet to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// Whether it goes out of the RTCP socket: a report, unless it goes the way of RTP.
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
///
/// The order of the fields is that of their use: a thread with hundreds of calls finds none of them in its caches, and a
/// tick costs as much time for the lines that it fetches as for what it reckons (`tick_cost --cold` counts them). So what
/// every tick looks at lies together, before what a packet needs, and what is seldom needed comes last.
#[derive(Debug)]
#[repr(C)]
pub struct MediaCall {
    // the clock
    tick_due: Time,
    /// Ticks since packets have the length that they have.
    ticks: u64,
    packet_ticks: u64,
    /// Of the packets that are due, those before this tick are not sent.
    sends_from: u64,

    // what every tick asks
    commands: Consumer<CallCommand>,
    retired: Option<Retired>,
    caller_effects: EffectSlot,
    agent_effects: EffectSlot,
    detectors: Option<Box<Detectors>>,
    cleaner: Option<Box<Cleaner>>,
    record: Option<Box<RecordTap>>,
    jack: Option<Box<JackCall>>,
    on_jack: bool,
    outbox: Outbox,
    report_length: usize,
    /// What bridged calls add to it.
    bridged: Bridged,
    players: Players,
    keys_in: dtmf::Receiver,
    counters: Arc<Counters>,
    report_due: Time,
    heard_at: Time,
    health: Health,
    taps: FixedVec<TapSource, MAX_TAPS>,
    events: EventQueue,
    playout: Playout,

    // what a packet that comes or goes needs
    params: MediaParams,
    latch: SourceLatch,
    reception: Reception,
    media_lost_after: Duration,
    id: CallId,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    mark_next: bool,
    collected: usize,
    /// What the packet that is being collected will carry; decided as it begins.
    slot: Slot,
    voice: VoiceReader,
    encoder: Encoder,
    limiter: Limiter,
    silence: Silence,
    rtp_out: [u8; HEADER_BYTES + MAX_SENT_SAMPLES + MAX_TRAILER_BYTES],
    keys_out: dtmf::Sender,

    // what only some calls need
    /// What was heard while the packet to be sent is collected, where it is recorded or bridged.
    caller: [f32; MAX_SENT_SAMPLES],
    /// What the packet will carry, as far as it is collected tick by tick.
    outgoing: [f32; MAX_SENT_SAMPLES],
    srtp: Option<SrtpSession>,

    // RTCP
    reports: u64,
    report_out: [u8; rtcp::MAX_REPORT_BYTES + MAX_TRAILER_BYTES],
    last_sender_report: Option<(u32, Time)>,
    start: Time,
    start_instant: Instant,
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
        let MediaParts { params, srtp, encoder, decoder } = MediaParts::new(config.params);
        let packet_ticks = params.packet_ticks();
        let call = Self {
            id: config.id,
            srtp,
            counters: counters.clone(),
            commands: commands_out,
            events: EventQueue::default(),
            taps,
            retired: None,
            record: config.record,
            latch: SourceLatch::new(params.remote),
            reception: Reception::default(),
            playout: Playout::new(decoder),
            keys_in: dtmf::Receiver::default(),
            heard_at: config.start,
            media_lost_after: config.media_lost_after,
            health: Health::default(),
            detectors: None,
            cleaner: None,
            caller_effects: EffectSlot::default(),
            caller: [0.0; MAX_SENT_SAMPLES],
            encoder,
            voice: reader,
            players: Players::default(),
            agent_effects: EffectSlot::default(),
            limiter: Limiter::default(),
            silence: Silence::default(),
            keys_out: dtmf::Sender::default(),
            slot: Slot::Audio,
            ssrc: u32::from_le_bytes([a, b, c, d]),
            // in the lower half, so that the first packets may be lost without a doubt about the rollovers (RFC 3711 3.3.1)
            sequence: u16::from_le_bytes([e, f]) & 0x7FFF,
            timestamp: u32::from_le_bytes([g, h, a, b]),
            mark_next: true,
            outgoing: [0.0; MAX_SENT_SAMPLES],
            collected: 0,
            bridged: Bridged::default(),
            rtp_out: [0; HEADER_BYTES + MAX_SENT_SAMPLES + MAX_TRAILER_BYTES],
            outbox: Outbox::Empty,
            report_due: config.start + report_interval(config.seed),
            reports: 0,
            report_out: [0; rtcp::MAX_REPORT_BYTES + MAX_TRAILER_BYTES],
            report_length: 0,
            last_sender_report: None,
            tick_due: config.start,
            ticks: u64::from(config.phase) % packet_ticks,
            packet_ticks,
            sends_from: 0,
            params,
            start: config.start,
            start_instant: config.start_instant,
            jack: config.jack.map(Box::new),
            on_jack: false,
        };
        (call, CallControls { voice: writer, commands: commands_in, counters, ears })
    }

    /// The call's number.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.id
    }

    /// Whether it is time to see who is gone: every 40 ms, because whether another thread still holds its end of a ring
    /// stands where that thread writes.
    #[must_use]
    pub fn looks_around(&self) -> bool {
        self.ticks.is_multiple_of(LOOK_AROUND_TICKS)
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

    /// Does what is due by `now`: takes commands, plays out, sends.
    pub fn tick(&mut self, now: Time) {
        let due = self.begin(now);
        for _ in 0..due {
            self.hear();
            self.speak();
        }
        if due > 0 {
            self.watch(now);
        }
    }

    /// Takes commands, and says how many ticks are due by `now`. Each is [`hear`](Self::hear), then
    /// [`speak`](Self::speak); [`watch`](Self::watch) follows the last.
    pub(crate) fn begin(&mut self, now: Time) -> u64 {
        self.take_commands();
        if now < self.tick_due {
            return 0;
        }
        let due = now.ticks_since(self.tick_due) + 1;
        let packets_left_out = due.saturating_sub(CATCH_UP_TICKS).div_ceil(self.packet_ticks);
        let left_out = packets_left_out * self.packet_ticks;
        if left_out > 0 {
            self.leave_out(packets_left_out);
            self.tick_due += TICK * u32::try_from(left_out).unwrap_or(u32::MAX);
        }
        // of the packets that are due only the last one is sent
        let due = due.saturating_sub(left_out);
        self.sends_from = (self.ticks + due) / self.packet_ticks * self.packet_ticks;
        due
    }

    /// The next packet to send, if there is one.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        if self.outbox == Outbox::Empty && self.report_length == 0 {
            return None;
        }
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
            let rtcp = !self.params.rtcp_mux;
            let port = to.port().checked_add(u16::from(rtcp))?;
            return Some(Transmit { to: SocketAddr::new(to.ip(), port), rtcp, bytes: &self.report_out[..length] });
        }
        None
    }

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.events.pop()
    }

    /// Something that is done with, to be dropped on another thread. Commands wait until it was fetched.
    pub fn poll_retired(&mut self) -> Option<Retired> {
        if self.looks_around()
            && let Some(index) = self.taps.iter().position(TapSource::is_abandoned)
        {
            return Some(Retired::Tap(self.taps.swap_remove(index)));
        }
        if let Some(player) = self.players.take_finished() {
            return Some(Retired::Player(player));
        }
        self.retired.take().or_else(|| {
            let replaced = self.caller_effects.take_replaced().or_else(|| self.agent_effects.take_replaced());
            replaced.map(Retired::Effects)
        })
    }

    fn take_commands(&mut self) {
        while self.retired.is_none() && !self.caller_effects.is_changing() && !self.agent_effects.is_changing() {
            let Ok(command) = self.commands.pop() else { return };
            match command {
                CallCommand::Update(parts) => self.update(parts),
                CallCommand::Digit(digit) => {
                    if !self.keys_out.push(digit) {
                        self.counters.lost_events.add(1);
                    }
                }
                CallCommand::Detect(next) => self.swap_detectors(next),
                CallCommand::Play(player) => {
                    let (events, counters) = (&mut self.events, &self.counters);
                    let refused = self.players.add(player, &mut |event| enqueue(events, counters, event)).err();
                    self.retired = refused.map(Retired::Player);
                }
                CallCommand::StopPlay(play) => self.players.stop(play, self.voice.barge()),
                CallCommand::Tap(source) => self.retired = self.taps.push(source).err().map(Retired::Tap),
                CallCommand::Record(next) => {
                    if self.record.is_none() && !self.bridged.is_on() {
                        self.caller.fill(0.0); // the beginning of this packet was not kept
                    }
                    self.retired = std::mem::replace(&mut self.record, next).map(Retired::Record);
                }
                CallCommand::PauseRecording(paused) => {
                    if let Some(tap) = &mut self.record {
                        tap.pause(paused);
                    }
                }
                CallCommand::Clean(cleaner) => self.clean_by(cleaner),
                CallCommand::Effects(Direction::Caller, chain) => self.caller_effects.change(chain),
                CallCommand::Effects(Direction::Agent, chain) => self.agent_effects.change(chain),
            }
        }
    }

    /// Puts new parts in the place of the old ones, which are left in `parts` to be dropped elsewhere.
    fn update(&mut self, mut parts: Box<MediaParts>) {
        let next = &parts.params;
        self.latch.expect(next.remote);
        if next.receive && !self.params.receive {
            self.heard_at = self.tick_due; // a hold is no silence (case 32)
        }
        if next.send != self.params.send || next.remote != self.params.remote {
            self.health.sending_changes(self.counters.sent.get());
        }
        if next.send && !self.params.send {
            self.mark_next = true;
        }
        if (next.telephone_event.is_none() && self.params.telephone_event.is_some()) || !next.send {
            self.keys_out.clear();
            self.slot = Slot::Audio;
        }
        let other_codec = next.codec != self.params.codec;
        if other_codec || next.packet_ticks() != self.packet_ticks {
            self.begin_packet_anew();
            self.packet_ticks = next.packet_ticks();
        }
        if other_codec {
            // a state is as old as its stream, so that of a codec that stays goes on
            std::mem::swap(&mut self.encoder, &mut parts.encoder);
            self.playout.swap_decoder(&mut parts.decoder);
        }
        if let (Some(next), Some(before)) = (&mut parts.srtp, &self.srtp) {
            next.follow(self.tick_due, before);
        }
        std::mem::swap(&mut self.srtp, &mut parts.srtp);
        std::mem::swap(&mut self.params, &mut parts.params);
        self.retired = Some(Retired::Parts(parts));
    }

    /// Lost media and reports.
    pub(crate) fn watch(&mut self, now: Time) {
        self.look_at_health(now);
        if now >= self.report_due {
            self.report(now);
        }
    }

    fn say(&mut self, event: MediaEvent) {
        enqueue(&mut self.events, &self.counters, event);
    }
}

/// Events that wait; whether there are any is known without a look at their places.
#[derive(Debug, Default)]
#[repr(C)]
struct EventQueue {
    any: bool,
    waiting: Deque<MediaEvent, EVENTS>,
}

impl EventQueue {
    fn pop(&mut self) -> Option<MediaEvent> {
        if !self.any {
            return None;
        }
        let event = self.waiting.pop_front();
        self.any = event.is_some();
        event
    }
}

fn enqueue(events: &mut EventQueue, counters: &Counters, event: MediaEvent) {
    events.any = true;
    if events.waiting.push_back(event).is_err() {
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
