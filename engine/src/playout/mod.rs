//! From packets to an even stream of samples: reordering, an adaptive delay, concealment.
//!
//! Packets wait in fixed slots (`slots`). [`Playout::pull`] asks for the samples of a tick; what is needed is decoded, or
//! invented where a packet is missing (`conceal`), and the delay is steered to what the arrivals ask for (`delay`) by
//! taking pitch periods out or putting them in (`stretch`).
//!
//! Codecs with a state see their packets in the order of playing, each once and whole. Of a packet that is missing they are
//! told, and if the one after it carries a copy (Opus), that is decoded in its place; else what is heard is invented here
//! and not by the codec, because it must be possible to go on with the missing packet after all, in mid-sound.
//!
//! Time is in samples of 8 kHz here, whatever the codec's RTP clock is. The playing goes by timestamps and not by sequence numbers: packets of 10 to 80 ms, packets that overlap, and pauses of
//! the sender are all the same to it. What must hold: `play_at` is the timestamp of the first sample that has not yet been
//! put into the line, and only grows within a stream; nothing allocates; whatever arrives, `pull` fills its slice.
//!
//! When the slots are empty at the time a packet should be played, it is not known whether the packet is lost or late.
//! Then samples are invented without moving `play_at`, and counted as `ahead`: if a later packet comes, they have filled
//! the gap; if the missing one comes, it is played, the delay has grown by them, and is shortened again unheard. So
//! nothing that arrives within reason is thrown away.

mod conceal;
mod delay;
mod repair;
mod slots;
mod stretch;

use crate::TICK_SAMPLES;
use crate::clock::Time;
use crate::codec::{Codec, Decoder};
use crate::rtp::{extend_sequence, extend_timestamp};
use crate::stats::Counters;
use conceal::{Concealer, HISTORY};
use delay::DelayEstimator;
use repair::Repair;
use slots::{SLOTS, Slots, Waiting, samples};

/// Longest audio payload: 120 ms of G.711; what a codec makes of one is not longer either. Sixty are the longest in use.
pub const MAX_PAYLOAD: usize = 960;
/// What a codec with a state is told of a loss at most: 60 ms. It fades within that.
const MAX_TOLD: i64 = 480;

/// A packet this much faster than any before it (300 ms), or this much slower (1.5 s), is not jitter: the sender's
/// timestamps have jumped.
const JUMP_AHEAD: f64 = 2_400.0;
const JUMP_BACK: f64 = 12_000.0;
/// The next packet after a jump has a sequence number at most this much higher (RFC 3550 appendix A.1 wants one; one may
/// be lost).
const JUMP_CONFIRMATION: u16 = 3;
/// A gap between packets that are both there is filled up to this length, 240 ms; a longer one is a jump of the sender.
const MAX_GAP: i64 = 1_920;
/// Delay is taken away when it is this much too long (15 ms: a piece that was put in does not have to come out again), and
/// added when it is this much too short (0.5 ms).
const TOO_LONG: f64 = 120.0;
/// In a pause nobody hears it, so there it is taken away when it is this much too long: the tick, 5 ms.
const TOO_LONG_IN_A_PAUSE: f64 = 40.0;
const TOO_SHORT: f64 = -delay::SLACK;
/// Between two changes of the delay: 60 ms, so that speech is not heard to run. If there are 100 ms to gain: 20 ms.
const CALM: usize = 480;
const HURRY: usize = 160;
/// A few ms are taken away in a pause only on an even network, whose packets want the least delay there is (10 ms): on others
/// they are needed again soon, and every change moves the echo that the cleaning has learnt.
const EVEN: f64 = 80.0;
const URGENT: f64 = 800.0;
/// No place to cut was found for so long (300 ms): take what there is.
const PATIENCE: usize = 2_400;
/// Beyond this the rest is left out at once: half a second.
const HOPELESS: f64 = 4_000.0;
/// Cross-fade from what was invented to what is real: 5 ms.
const MERGE: usize = 40;
/// Invented samples are counted as such for the first second; then it is not a loss, but an outage.
const COUNTED: i64 = 8_000;

/// Played samples that are remembered, samples that wait to be played, and room to move: a packet to be played, one ahead
/// to find a cut in, and pieces to put in.
const LINE: usize = HISTORY + 4 * MAX_PAYLOAD;

/// The most that one step adds: a packet, the one after it, and a piece put in; and what was pending before.
const STEP_ROOM: usize = 2 * MAX_PAYLOAD + stretch::MAX_PIECE + 2 * TICK_SAMPLES;

/// An audio packet with what playout needs to know of it.
#[derive(Debug, Clone, Copy)]
pub struct AudioPacket<'a> {
    /// Whose it is.
    pub ssrc: u32,
    /// Counts packets.
    pub sequence: u16,
    /// Counts at the codec's RTP clock.
    pub timestamp: u32,
    /// How the payload is written.
    pub codec: Codec,
    /// What it carries.
    pub payload: &'a [u8],
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It waits for its turn.
    Accepted,
    /// The stream was started anew with it.
    Restarted,
    /// It came before.
    Duplicate,
    /// Its turn is over.
    Late,
    /// It does not belong to the stream so far; if the next one goes with it, the stream starts anew.
    Suspicious,
    /// It is empty, too long, or no packet of its codec.
    Unusable,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    /// Highest sequence number, extended.
    sequence: i64,
    /// Its timestamp, extended, at the RTP clock.
    timestamp: i64,
    clock_rate_hz: u32,
    /// Highest sequence number of a packet without audio (keys, comfort noise), or after which none need come (Opus).
    other: i64,
    /// Sequence number that was played last.
    played: i64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing to play yet; the first packet came at this time.
    Waiting(Option<Time>),
    Playing,
}

/// The playout of one call. The fields are in the order of their use, as those of the call are.
#[derive(Debug)]
#[repr(C)]
pub struct Playout {
    /// `line[..read]` was heard, `line[read..end]` will be.
    line: Box<[f32; LINE]>,
    read: usize,
    end: usize,
    since_change: usize,
    play_at: i64,
    ahead: i64,
    noise_floor: f32,
    state: State,
    stream: Option<Stream>,
    decoder: Decoder,
    suspect: Option<(u32, u16)>,
    repair: Repair,
    delay: DelayEstimator,
    slots: Slots,
    concealer: Concealer,
}

impl Playout {
    /// A playout before its first packet.
    #[must_use]
    pub fn new(decoder: Decoder) -> Self {
        Self {
            slots: Slots::new(),
            decoder,
            delay: DelayEstimator::new(),
            repair: Repair::default(),
            concealer: Concealer::new(),
            stream: None,
            suspect: None,
            state: State::Waiting(None),
            play_at: 0,
            ahead: 0,
            line: Box::new([0.0; LINE]),
            read: HISTORY,
            end: HISTORY,
            since_change: 0,
            noise_floor: MAX_NOISE_FLOOR,
        }
    }
}

/// The floor of the line's noise starts here and is never taken to be louder: -50 dBFS.
const MAX_NOISE_FLOOR: f32 = 0.003_16;
/// How fast the floor rises towards what is heard, a packet: doubles in 1.4 s.
const NOISE_RISE: f32 = 1.01;

impl Playout {
    /// Another codec is agreed: what still waits of the one before it is not understood any more.
    pub fn swap_decoder(&mut self, decoder: &mut Decoder) {
        std::mem::swap(&mut self.decoder, decoder);
    }

    /// Takes an audio packet.
    pub fn insert(&mut self, arrival: Time, packet: &AudioPacket<'_>) -> Inserted {
        let length = packet.codec.samples(packet.payload).filter(|&length| length <= MAX_PAYLOAD);
        let Some(length) = length.filter(|_| packet.payload.len() <= MAX_PAYLOAD) else {
            return Inserted::Unusable;
        };
        let Some(stream) = self.stream else {
            self.start(arrival, packet, length);
            return Inserted::Accepted;
        };
        let sequence = extend_sequence(stream.sequence, packet.sequence);
        let rtp_timestamp = extend_timestamp(stream.timestamp, packet.timestamp);
        let timestamp = at_8k(rtp_timestamp, stream.clock_rate_hz);
        if self.is_jump(arrival, packet, &stream, sequence, timestamp) {
            return self.suspect(arrival, packet, length);
        }
        self.suspect = None;
        if self.slots.has_seen(sequence) {
            return Inserted::Duplicate;
        }
        self.delay.update(arrival, timestamp, length);
        if let Some(stream) = self.stream.as_mut().filter(|s| sequence > s.sequence) {
            (stream.sequence, stream.timestamp) = (sequence, rtp_timestamp);
        }
        if matches!(self.state, State::Playing) && timestamp + samples(length) <= self.play_at {
            return Inserted::Late;
        }
        self.slots.insert(sequence, timestamp, packet.codec, length, packet.payload);
        if let State::Waiting(first @ None) = &mut self.state {
            *first = Some(arrival);
        }
        Inserted::Accepted
    }

    /// A packet of the stream that carries no audio took this sequence number, or one that says that nobody speaks: what is
    /// missing around it is not lost.
    pub fn note_other(&mut self, ssrc: u32, sequence: u16) {
        if let Some(stream) = self.stream.as_mut().filter(|s| s.ssrc == ssrc) {
            stream.other = stream.other.max(extend_sequence(stream.sequence, sequence));
        }
    }

    /// The far end is silent and sends only how loud its silence is, in -dBov (RFC 3389 section 3).
    pub fn comfort_noise(&mut self, ssrc: u32, sequence: u16, level: u8) {
        self.note_other(ssrc, sequence);
        let rms = 10_f32.powf(-f32::from(level.min(127)) / 20.0);
        // a comfort that is louder than any line's noise is not one
        self.noise_floor = rms.min(MAX_NOISE_FLOOR);
        self.concealer.set_noise(self.noise_floor);
    }

    /// Fills `out` with what is to be heard from `now` on.
    pub fn pull(&mut self, now: Time, out: &mut [f32], counters: &Counters) {
        for piece in out.chunks_mut(TICK_SAMPLES) {
            // each step adds at least one sample, or moves `play_at` to a packet that does
            let mut steps = 0;
            while self.pending() < piece.len() && steps < 2 * SLOTS {
                self.step(now, counters);
                steps += 1;
            }
            let count = piece.len().min(self.pending());
            let (ready, rest) = piece.split_at_mut(count);
            ready.copy_from_slice(&self.line[self.read..self.read + count]);
            rest.fill(0.0);
            self.read += count;
            self.since_change = self.since_change.saturating_add(count);
            self.make_room();
        }
    }

    fn pending(&self) -> usize {
        self.end - self.read
    }

    /// The playout delay as it is: from the arrival of the fastest packet to the hearing of its samples.
    fn current_delay(&self, now: Time) -> f64 {
        now.as_samples_8k() + self.pending() as f64 - self.play_at as f64 - self.delay.base()
    }

    /// The playout delay as it should be.
    fn wanted_delay(&self) -> f64 {
        self.delay.target() + self.repair.delay()
    }

    fn start(&mut self, arrival: Time, packet: &AudioPacket<'_>, length: usize) {
        let (sequence, rtp_timestamp) = (i64::from(packet.sequence), i64::from(packet.timestamp));
        let clock_rate_hz = packet.codec.clock_rate_hz();
        let timestamp = at_8k(rtp_timestamp, clock_rate_hz);
        let before = sequence - 1;
        self.stream = Some(Stream {
            ssrc: packet.ssrc,
            sequence,
            timestamp: rtp_timestamp,
            clock_rate_hz,
            other: before,
            played: before,
        });
        self.suspect = None;
        self.slots.clear();
        self.delay.restart();
        self.repair.restart();
        self.delay.update(arrival, timestamp, length);
        self.slots.insert(sequence, timestamp, packet.codec, length, packet.payload);
        self.state = State::Waiting(Some(arrival));
        self.ahead = 0;
    }

    fn is_jump(&self, arrival: Time, packet: &AudioPacket<'_>, stream: &Stream, sequence: i64, timestamp: i64) -> bool {
        let off = arrival.as_samples_8k() - timestamp as f64 - self.delay.base();
        packet.ssrc != stream.ssrc
            || packet.codec.clock_rate_hz() != stream.clock_rate_hz
            || (sequence - stream.sequence).unsigned_abs() > 8 * SLOTS as u64
            || !(-JUMP_AHEAD..JUMP_BACK).contains(&off)
    }

    /// One packet may be a stray or an attack; two that go together are the stream.
    fn suspect(&mut self, arrival: Time, packet: &AudioPacket<'_>, length: usize) -> Inserted {
        let confirmed = self.suspect.is_some_and(|(ssrc, sequence)| {
            ssrc == packet.ssrc && (1..=JUMP_CONFIRMATION).contains(&packet.sequence.wrapping_sub(sequence))
        });
        if confirmed {
            self.start(arrival, packet, length);
            return Inserted::Restarted;
        }
        self.suspect = Some((packet.ssrc, packet.sequence));
        Inserted::Suspicious
    }

    /// Adds samples to the line.
    fn step(&mut self, now: Time, counters: &Counters) {
        if let State::Waiting(first) = self.state {
            let waited = first.map(|first| now.as_samples_8k() - first.as_samples_8k());
            match self.slots.first() {
                Some(packet) if waited.is_some_and(|waited| waited >= self.wanted_delay()) => {
                    self.state = State::Playing;
                    self.play_at = packet.timestamp;
                }
                _ => {
                    self.invent(TICK_SAMPLES, true, counters);
                    return;
                }
            }
        }
        match self.slots.next(self.play_at) {
            Some(packet) if packet.timestamp <= self.play_at => {
                self.play(&packet);
                self.steer(now, counters);
                // only what plays has a delay: while nothing comes this would count the silence
                counters.delay_ms.set(self.current_delay(now) as f32 / 8.0);
            }
            Some(packet) => self.bridge_gap(&packet, now, counters),
            None => {
                // what fills a pause of the sender is not counted as lost, but `ahead` all the same
                let quiet = self.stream.is_none_or(|s| s.other >= s.played);
                self.invent(TICK_SAMPLES, quiet || self.ahead > COUNTED, counters);
                self.ahead += samples(TICK_SAMPLES);
            }
        }
        if self.delay.base().is_finite() {
            counters.target_delay_ms.set(self.wanted_delay() as f32 / 8.0);
        }
    }

    /// There is a packet, but not the one that should be played now.
    fn bridge_gap(&mut self, next: &Waiting, now: Time, counters: &Counters) {
        let gap = next.timestamp - self.play_at;
        let silence = self.stream.is_some_and(|s| {
            // nothing is missing between the two by their numbers, or it was no audio
            next.sequence == s.played + 1 || (s.played + 1..next.sequence).contains(&s.other)
        });
        // what the next packet carries of the one before it begins here at the earliest
        let copied = if silence { None } else { self.decoder.copied_samples(next.codec, self.slots.payload(next)) };
        if let Some(copied) = copied.filter(|&copied| self.ahead == 0 && gap <= samples(copied)) {
            self.play_copy(next, copied, counters);
            return;
        }
        if self.current_delay(now) - self.wanted_delay() < TOO_SHORT {
            // it is more likely late than lost: wait for it, which the delay needs anyway
            self.invent(TICK_SAMPLES, silence, counters);
            self.ahead += samples(TICK_SAMPLES);
            return;
        }
        if self.ahead > 0 {
            self.play_at += gap.min(self.ahead);
            self.ahead = 0;
            return;
        }
        if gap > MAX_GAP {
            self.play_at = next.timestamp;
            return;
        }
        let until_copy = gap - copied.map_or(0, samples);
        let count = until_copy.min(samples(TICK_SAMPLES));
        self.invent(usize::try_from(count).unwrap_or(TICK_SAMPLES), silence, counters);
        self.play_at += count;
    }

    fn play(&mut self, packet: &Waiting) {
        self.ahead = 0;
        self.tell_of_loss(packet);
        let skip = usize::try_from(self.play_at - packet.timestamp).unwrap_or(0);
        let payload = self.slots.take(packet);
        let count = self.decoder.decode(packet.codec, payload, skip, &mut self.line[self.end..]);
        self.lead_over(count);
        self.play_at = self.play_at.max(packet.timestamp) + samples(count);
        if let Some(stream) = &mut self.stream {
            stream.played = packet.sequence;
        }
    }

    /// Plays what the next packet carries of the one before it, which is missing.
    fn play_copy(&mut self, next: &Waiting, copied: usize, counters: &Counters) {
        let skip = copied.saturating_sub(usize::try_from(next.timestamp - self.play_at).unwrap_or(0));
        self.repair.note(1, Some(copied));
        let payload = self.slots.payload(next);
        let count = self.decoder.decode_copy(payload, copied, skip, &mut self.line[self.end..]);
        self.lead_over(count);
        counters.recovered_samples.add(count as u64);
        self.play_at = next.timestamp;
        if let Some(stream) = &mut self.stream {
            stream.played = next.sequence - 1;
        }
    }

    /// A codec with a memory goes on from what it played last; if packets are missing between, it must know.
    fn tell_of_loss(&mut self, packet: &Waiting) {
        if !self.decoder.has_memory() {
            return;
        }
        let missing = self.stream.map_or(0, |stream| packet.sequence - stream.played - 1);
        self.repair.note(missing, self.decoder.copied_samples(packet.codec, self.slots.payload(packet)));
        if missing <= 0 {
            return;
        }
        let lost = missing.saturating_mul(samples(packet.samples)).min(MAX_TOLD);
        // the space that will be written to next
        let free = &mut self.line[self.end..];
        let lost = free.len().min(usize::try_from(lost).unwrap_or(0));
        self.decoder.lose(&mut free[..lost]);
    }

    /// Puts decoded samples behind the line, led over to from what was invented before them.
    fn lead_over(&mut self, count: usize) {
        let fresh = &mut self.line[self.end..self.end + count];
        if count == 0 {
            return;
        }
        if self.concealer.is_active() {
            for (n, sample) in fresh.iter_mut().take(MERGE).enumerate() {
                let share = (n + 1) as f32 / (MERGE + 1) as f32;
                let invented = self.concealer.sample();
                *sample = invented + share * (*sample - invented);
            }
            self.concealer.end();
        }
        let rms = (energy(fresh) / count as f32).sqrt();
        self.noise_floor = rms.min(self.noise_floor * NOISE_RISE).clamp(0.0, MAX_NOISE_FLOOR).max(1e-6);
        self.concealer.set_noise(self.noise_floor);
        self.end += count;
    }

    /// Adds samples for which there is no packet. `quiet`: none is missed.
    fn invent(&mut self, count: usize, quiet: bool, counters: &Counters) {
        if !self.concealer.is_active() {
            let mut history = [0.0; HISTORY];
            history.copy_from_slice(&self.line[self.end - HISTORY..self.end]);
            if quiet {
                self.concealer.begin_quiet(&history);
            } else {
                self.concealer.begin(&history);
                counters.concealments.add(1);
            }
        }
        if self.stream.is_none() {
            self.concealer.set_noise(0.0); // before the first packet the line is silent
        }
        let count = count.min(LINE - self.end);
        for slot in &mut self.line[self.end..self.end + count] {
            *slot = self.concealer.sample();
        }
        self.end += count;
        if !quiet {
            counters.concealed_samples.add(count as u64);
        }
    }

    /// Brings the delay nearer to the one asked for, where that can be done unheard.
    fn steer(&mut self, now: Time, counters: &Counters) {
        let excess = self.current_delay(now) - self.wanted_delay();
        if excess > HOPELESS {
            self.play_at += excess as i64;
            self.invent(1, false, counters); // the concealer leads over
            return;
        }
        let only_in_a_pause = (0.0..=TOO_LONG).contains(&excess);
        if only_in_a_pause && self.wanted_delay() > EVEN {
            return;
        }
        let calm = if excess > URGENT { HURRY } else { CALM };
        if (TOO_SHORT..=TOO_LONG_IN_A_PAUSE).contains(&excess) || self.since_change < calm {
            return;
        }
        if only_in_a_pause && !stretch::is_quiet(&self.line[self.read..self.end]) {
            return;
        }
        if excess > 0.0 && self.pending() < stretch::WANTED {
            // too much delay means that the next packet is here as well
            if let Some(packet) = self.slots.next(self.play_at).filter(|p| p.timestamp <= self.play_at) {
                self.play(&packet);
            }
        }
        let reluctance = if self.since_change > PATIENCE || excess > URGENT { 0.3 } else { 1.0 };
        let pending = &mut self.line[self.read..self.end];
        let found = if only_in_a_pause {
            // any length will do there, if the packet that came in just now is quiet too
            stretch::find_pause(pending).map(|piece| piece.min(excess as usize))
        } else {
            stretch::find_piece(pending, reluctance)
        };
        let Some(piece) = found else { return };
        if excess > 0.0 {
            stretch::shrink(pending, piece);
            self.read += piece;
            counters.shrunk_samples.add(piece as u64);
        } else {
            let mut put_in = [0.0; stretch::MAX_PIECE];
            stretch::grow(pending, piece, &mut put_in);
            let at = self.read + piece;
            if self.end + piece > LINE {
                return;
            }
            self.line.copy_within(at..self.end, at + piece);
            self.line[at..at + piece].copy_from_slice(&put_in[..piece]);
            self.end += piece;
            counters.grown_samples.add(piece as u64);
        }
        self.since_change = 0;
    }

    /// Forgets what was heard long ago, whenever the line has no more room for what one step can add.
    fn make_room(&mut self) {
        let keep_from = self.read - HISTORY;
        if keep_from > 0 && self.end > LINE - STEP_ROOM {
            self.line.copy_within(keep_from..self.end, 0);
            self.read = HISTORY;
            self.end -= keep_from;
        }
    }
}

/// The sum of squares. Four sums side by side, because a compiler may not reorder the additions of one.
fn energy(samples: &[f32]) -> f32 {
    let (fours, rest) = samples.as_chunks::<4>();
    let sums = fours.iter().fold([0.0; 4], |sums: [f32; 4], four| std::array::from_fn(|n| sums[n] + four[n] * four[n]));
    sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
}

/// A timestamp of any RTP clock in samples of 8 kHz.
fn at_8k(timestamp: i64, clock_rate_hz: u32) -> i64 {
    // nearly all clocks are 8 kHz, and a division is dear
    if clock_rate_hz == 8_000 { timestamp } else { timestamp.div_euclid(i64::from(clock_rate_hz / 8_000)) }
}

#[cfg(test)]
mod tests;
