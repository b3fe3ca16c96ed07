//! The agent's voice: what will be said, and the truth about what was said.
//!
//! [`Voice`] is the writing end, on the control thread; [`VoiceReader`] is the reading end, in the call on the media
//! thread. Between them are a ring of samples, a small ring of marks (a response starts, a response ends) and three
//! atomic numbers. Neither end waits for the other.
//!
//! # How old audio is kept from speaking
//!
//! Every sample and every mark ever written has a number, its *place*; places count up by one and are never used
//! again. The place is the generation tag: halting or clearing publishes one number, `flush_to`, the place that will be
//! written next, and the reader discards everything before it. A sample that was written before the halt has a smaller
//! place and one written after it has a larger one, whatever the interleaving, so nothing else has to travel with the
//! samples and there is no moment in which a torn pair of values could let old audio through. The writer refuses
//! samples for a response that is not the current one, so that a chunk still in flight outside the engine ends there.
//!
//! Invariants: `flush_to` and the reader's place only grow; a mark is pushed before the samples that follow it, and the
//! reader looks at the samples first, so it never runs past a mark; an open response always has a free slot for its
//! end mark.
//!
//! Samples lie in the ring as 16 bits, which is more than any telephone codec carries and half the memory of `f32`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::codec::{from_i16, to_i16};
use crate::event::MediaEvent;
use crate::noise::Noise;
use crate::stats::Counters;

/// How much can wait to be said: 20 s at 8 kHz. More is refused, which is the back-pressure that the client feels.
pub const VOICE_SAMPLES: usize = 20 * 8_000;

/// Starts and ends of responses that can wait; a response that finds no room is refused like samples are.
const MARKS: usize = 512;

/// Fade-out at halt and clear: 20 ms at 8 kHz, short enough to feel instant and long enough not to click.
pub const FADE_SAMPLES: u32 = 160;

/// Ramp-in after an underrun: 2.5 ms, so that the voice does not start again with a click.
const RAMP_SAMPLES: u32 = 20;

/// What is left of the last sample at each next one when the voice stops within a word: silent after 5 ms.
const TAIL_DECAY: f32 = 0.9;

/// Comfort noise under a response that has run dry: -60 dBFS, the order of a quiet line.
const UNDERRUN_NOISE_RMS: f32 = 0.001;

/// Ducked voice: -18 dB.
const DUCK_GAIN: f32 = 0.125_892_5;
/// Change of gain a sample when ducking: full depth in 10 ms.
const DUCK_STEP: f32 = (1.0 - DUCK_GAIN) / 80.0;
/// Change of gain a sample when coming back: full height in 30 ms.
const UNDUCK_STEP: f32 = (1.0 - DUCK_GAIN) / 240.0;

/// Bits of `Shared::playing` that count samples; the others hold the low bits of the generation.
const PLAYED_BITS: u32 = 40;

/// The number of a response within a call. Only grows; halting and clearing raise it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

/// What became of written samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what was not accepted is still the caller's"]
pub enum WriteResult {
    /// So many of the samples, from the first, were taken; the ring has no room for the others now.
    Accepted(usize),
    /// The generation is not the current one: it was cleared, halted, ended, or another has started since.
    Stale,
    /// The voice is halted; nothing is taken until [`Voice::resume`].
    Halted,
}

/// How far the voice has got. Samples are of 8 kHz and were really sent: put into a packet. In JACK mode what is on its
/// way through the ports is subtracted, so that the last few milliseconds of a response count only while they last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The response that is being sent, or was sent last.
    pub generation: Generation,
    /// Samples of that response that were sent.
    pub played: u64,
    /// Samples of all responses that were sent since the last [`Voice::resume`], or since the call began.
    pub played_turn: u64,
    /// Samples that wait to be sent.
    pub queued: usize,
    /// Whether the voice is halted.
    pub halted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    place: u64,
    generation: u64,
    kind: MarkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarkKind {
    Start,
    End,
}

#[derive(Debug, Default)]
struct Shared {
    /// Everything before this place is to be discarded. Written by `Voice`.
    flush_to: AtomicU64,
    /// Written by `Voice`.
    ducked: AtomicBool,
    /// Generation (low 24 bits) above, samples sent of it below; one number, so that they are never torn apart.
    playing: AtomicU64,
    /// Samples sent since the call began. Written by `VoiceReader`.
    sent: AtomicU64,
    /// Of these, samples that are still on their way through JACK. Written by `VoiceReader`.
    in_flight: AtomicU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    None,
    /// Started, nothing written yet.
    Fresh,
    /// Its start mark is in the ring.
    Open,
}

/// The writing end of the agent's voice. `Send`; lives on the control thread.
#[derive(Debug)]
pub struct Voice {
    samples: Producer<i16>,
    marks: Producer<Mark>,
    shared: Arc<Shared>,
    place: u64,
    generation: u64,
    response: Response,
    halted: bool,
    written_since_flush: usize,
    turn_began_at: u64,
}

/// Makes the two ends of one call's voice.
#[must_use]
pub fn voice() -> (Voice, VoiceReader) {
    let (samples_in, samples_out) = RingBuffer::new(VOICE_SAMPLES);
    let (marks_in, marks_out) = RingBuffer::new(MARKS);
    let shared = Arc::new(Shared::default());
    let writer = Voice {
        samples: samples_in,
        marks: marks_in,
        shared: shared.clone(),
        place: 0,
        generation: 0,
        response: Response::None,
        halted: false,
        written_since_flush: 0,
        turn_began_at: 0,
    };
    (writer, VoiceReader::new(samples_out, marks_out, shared))
}

impl Voice {
    /// Starts a response and makes it the current one. A response that is still open ends as by
    /// [`end_response`](Self::end_response): what it has queued is said first.
    ///
    /// While the voice is halted the response exists, but takes no samples before [`resume`](Self::resume).
    pub fn start_response(&mut self) -> Generation {
        self.end_current();
        self.generation += 1;
        self.response = Response::Fresh;
        Generation(self.generation)
    }

    /// Queues samples (8 kHz, mono, [-1, 1]) of the current response. Never blocks; what is not accepted stays the
    /// caller's.
    pub fn write(&mut self, generation: Generation, samples: &[f32]) -> WriteResult {
        if self.halted {
            return WriteResult::Halted;
        }
        if generation.0 != self.generation || self.response == Response::None {
            return WriteResult::Stale;
        }
        if samples.is_empty() || self.samples.is_full() {
            return WriteResult::Accepted(0);
        }
        if self.response == Response::Fresh {
            if self.marks.slots() < 2 {
                return WriteResult::Accepted(0); // room for the end as well, always
            }
            self.mark(MarkKind::Start);
            self.response = Response::Open;
        }
        let wanted = samples.len().min(self.samples.slots());
        let Ok(chunk) = self.samples.write_chunk_uninit(wanted) else {
            return WriteResult::Accepted(0); // cannot be: the slots were just counted, and only we fill them
        };
        let accepted = chunk.fill_from_iter(samples.iter().map(|&sample| to_i16(sample)));
        self.place += accepted as u64;
        self.written_since_flush += accepted;
        WriteResult::Accepted(accepted)
    }

    /// Says that the response is complete. What is queued is still said; then `ResponseFinished` follows.
    pub fn end_response(&mut self, generation: Generation) {
        if generation.0 == self.generation {
            self.end_current();
        }
    }

    /// Stops the voice within one packet, fading over 20 ms, and discards what is queued. Nothing is taken or said
    /// before [`resume`](Self::resume).
    pub fn halt(&mut self) {
        self.halted = true;
        self.flush();
    }

    /// Ends a halt, and begins a new turn for [`Position::played_turn`]. The response that was cut does not come back.
    pub fn resume(&mut self) {
        self.halted = false;
        self.turn_began_at = self.shared.sent.load(Ordering::Acquire);
    }

    /// Stops what is being said as [`halt`](Self::halt) does, but takes the next response at once.
    pub fn clear(&mut self) {
        self.flush();
    }

    /// Lowers the voice by 18 dB within 10 ms (the caller may be speaking), or brings it back within 30 ms.
    pub fn duck(&mut self, ducked: bool) {
        self.shared.ducked.store(ducked, Ordering::Release);
    }

    /// Where the voice is now.
    #[must_use]
    pub fn position(&self) -> Position {
        let playing = self.shared.playing.load(Ordering::Acquire);
        let low_bits = playing >> PLAYED_BITS;
        let span = 1_u64 << (64 - PLAYED_BITS);
        // the generation that is playing is the newest one up to ours that has these low bits
        let behind = self.generation.wrapping_sub(low_bits) % span;
        let sent = self.shared.sent.load(Ordering::Acquire);
        let in_flight = u64::from(self.shared.in_flight.load(Ordering::Acquire));
        Position {
            generation: Generation(self.generation.saturating_sub(behind)),
            played: (playing & ((1 << PLAYED_BITS) - 1)).saturating_sub(in_flight),
            played_turn: sent.saturating_sub(self.turn_began_at).saturating_sub(in_flight),
            queued: self.queued(),
            halted: self.halted,
        }
    }

    /// Samples that wait to be said.
    #[must_use]
    pub fn queued(&self) -> usize {
        let in_ring = VOICE_SAMPLES.saturating_sub(self.samples.slots());
        in_ring.min(self.written_since_flush) // what the reader has yet to throw away does not count
    }

    fn end_current(&mut self) {
        match self.response {
            Response::Open => self.mark(MarkKind::End),
            // an empty response still has a start and an end to be told about, if there is room to tell
            Response::Fresh if !self.halted && self.marks.slots() >= 2 => {
                self.mark(MarkKind::Start);
                self.mark(MarkKind::End);
            }
            Response::Fresh | Response::None => {}
        }
        self.response = Response::None;
    }

    fn flush(&mut self) {
        self.response = Response::None;
        self.generation += 1;
        self.written_since_flush = 0;
        self.shared.flush_to.store(self.place, Ordering::Release);
    }

    fn mark(&mut self, kind: MarkKind) {
        let mark = Mark { place: self.place, generation: self.generation, kind };
        if self.marks.push(mark).is_ok() {
            self.place += 1;
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Playing {
    generation: u64,
    played: u64,
    announced: bool,
}

#[derive(Debug, Clone, Copy)]
struct Fade {
    left: u32,
    limit: u64,
}

/// The reading end of the agent's voice, owned by the call on the media thread.
#[derive(Debug)]
pub struct VoiceReader {
    samples: Consumer<i16>,
    marks: Consumer<Mark>,
    shared: Arc<Shared>,
    place: u64,
    playing: Option<Playing>,
    last_generation: u64,
    last_played: u64,
    fade: Option<Fade>,
    gain: f32,
    last_sample: f32,
    /// Samples since the last one of the voice.
    quiet: u32,
    dry: bool,
    ramp: u32,
    noise: Noise,
}

impl VoiceReader {
    fn new(samples: Consumer<i16>, marks: Consumer<Mark>, shared: Arc<Shared>) -> Self {
        Self {
            samples,
            marks,
            shared,
            place: 0,
            playing: None,
            last_generation: 0,
            last_played: 0,
            fade: None,
            gain: 1.0,
            last_sample: 0.0,
            quiet: 0,
            dry: false,
            ramp: 0,
            noise: Noise::new(0x5EED),
        }
    }

    /// Fills `out` with the voice, silence where there is none. `emit` takes the events.
    pub fn pull(&mut self, out: &mut [f32], counters: &Counters, emit: &mut impl FnMut(MediaEvent)) {
        let mut filled = 0;
        let mut voiced = 0;
        while filled < out.len() {
            self.begin_or_finish_flush(emit);
            // samples first, marks second: a mark precedes its samples, so this order never overruns one
            let queued = self.samples.slots();
            let mut run = queued.min(out.len() - filled);
            if let Ok(&mark) = self.marks.peek() {
                if mark.place <= self.place {
                    if self.fade.is_some() {
                        self.cut(emit); // the fade reached the end of its response
                        continue;
                    }
                    self.take_mark(emit);
                    continue;
                }
                run = run.min(to_count(mark.place - self.place));
            }
            if let Some(fade) = self.fade {
                run = run.min(fade.left as usize).min(to_count(fade.limit - self.place));
            }
            if run == 0 {
                if self.fade.is_some() {
                    self.cut(emit);
                    continue;
                }
                break;
            }
            if let Some(playing) = self.playing.as_mut().filter(|p| !p.announced) {
                playing.announced = true;
                emit(MediaEvent::ResponseStarted { generation: Generation(playing.generation) });
            }
            self.play(run, &mut out[filled..filled + run]);
            filled += run;
            voiced += run;
        }
        self.fill_rest(&mut out[filled..], counters, emit);
        self.publish(voiced);
    }

    /// Applies halts and clears while nothing is being sent (the far end holds): no fade, no samples taken.
    pub fn idle(&mut self, emit: &mut impl FnMut(MediaEvent)) {
        if self.place < self.shared.flush_to.load(Ordering::Acquire) {
            self.cut(emit);
        }
        self.last_sample = 0.0;
        self.publish(0);
    }

    /// Says how many of the samples that were pulled have not reached the wire yet (JACK).
    pub fn set_in_flight(&mut self, samples: u32) {
        self.shared.in_flight.store(samples.saturating_sub(self.quiet), Ordering::Release);
    }

    fn begin_or_finish_flush(&mut self, emit: &mut impl FnMut(MediaEvent)) {
        let flush_to = self.shared.flush_to.load(Ordering::Acquire);
        match self.fade {
            Some(fade) if fade.left == 0 || self.place >= fade.limit => self.cut(emit),
            None if self.place < flush_to => {
                let audible = self.playing.is_some_and(|p| p.announced) && !self.dry;
                if audible {
                    self.fade = Some(Fade { left: FADE_SAMPLES, limit: flush_to });
                } else {
                    self.cut(emit);
                }
            }
            _ => {}
        }
    }

    /// Discards everything before the flush point, and says which responses that ends.
    fn cut(&mut self, emit: &mut impl FnMut(MediaEvent)) {
        self.fade = None;
        let flush_to = self.shared.flush_to.load(Ordering::Acquire);
        while let Ok(&mark) = self.marks.peek() {
            if mark.place >= flush_to {
                break;
            }
            let skipped = self.skip_to(mark.place);
            match mark.kind {
                MarkKind::End if !skipped => self.finish(false, emit),
                _ => self.finish(true, emit),
            }
            if mark.kind == MarkKind::Start {
                self.playing = Some(Playing { generation: mark.generation, played: 0, announced: false });
            }
            let _ = self.marks.pop();
            self.place += 1;
        }
        self.skip_to(flush_to);
        self.finish(true, emit);
    }

    /// Throws samples away up to a place; returns whether there were any.
    fn skip_to(&mut self, place: u64) -> bool {
        let count = to_count(place.saturating_sub(self.place)).min(self.samples.slots());
        if let Ok(chunk) = self.samples.read_chunk(count) {
            chunk.commit_all();
        }
        self.place += count as u64;
        count > 0
    }

    fn take_mark(&mut self, emit: &mut impl FnMut(MediaEvent)) {
        let Ok(mark) = self.marks.pop() else { return };
        self.place += 1;
        match mark.kind {
            MarkKind::Start => {
                self.playing = Some(Playing { generation: mark.generation, played: 0, announced: false });
            }
            MarkKind::End => self.finish(false, emit),
        }
    }

    fn finish(&mut self, interrupted: bool, emit: &mut impl FnMut(MediaEvent)) {
        if let Some(Playing { generation, played, .. }) = self.playing.take() {
            self.last_generation = generation;
            self.last_played = played;
            self.dry = false;
            emit(MediaEvent::ResponseFinished { generation: Generation(generation), played, interrupted });
        }
    }

    fn play(&mut self, count: usize, out: &mut [f32]) {
        let target = if self.shared.ducked.load(Ordering::Acquire) { DUCK_GAIN } else { 1.0 };
        self.quiet = 0;
        if self.dry {
            self.dry = false;
            self.ramp = RAMP_SAMPLES;
        }
        let Ok(chunk) = self.samples.read_chunk(count) else { return };
        let (first, second) = chunk.as_slices();
        for (slot, &sample) in out.iter_mut().zip(first.iter().chain(second)) {
            if self.gain > target {
                self.gain = (self.gain - DUCK_STEP).max(target);
            } else if self.gain < target {
                self.gain = (self.gain + UNDUCK_STEP).min(target);
            }
            let mut gain = self.gain;
            if self.ramp > 0 {
                self.ramp -= 1;
                gain *= (RAMP_SAMPLES - self.ramp) as f32 / RAMP_SAMPLES as f32;
            }
            if let Some(fade) = self.fade.as_mut() {
                fade.left = fade.left.saturating_sub(1);
                gain *= fade.left as f32 / FADE_SAMPLES as f32;
            }
            self.last_sample = from_i16(sample) * gain;
            *slot = self.last_sample;
        }
        chunk.commit_all();
        self.place += count as u64;
        if let Some(playing) = self.playing.as_mut() {
            playing.played += count as u64;
        }
    }

    /// What follows the voice: its last value decaying, and noise if more of the response is to come.
    fn fill_rest(&mut self, rest: &mut [f32], counters: &Counters, emit: &mut impl FnMut(MediaEvent)) {
        if rest.is_empty() {
            return;
        }
        self.quiet = self.quiet.saturating_add(u32::try_from(rest.len()).unwrap_or(u32::MAX));
        if let Some(Playing { generation, played, announced: true }) = self.playing {
            if !self.dry {
                self.dry = true;
                counters.underruns.add(1);
                emit(MediaEvent::Underrun { generation: Generation(generation), played });
            }
            counters.underrun_samples.add(rest.len() as u64);
        }
        for slot in rest {
            self.last_sample *= TAIL_DECAY;
            *slot = self.last_sample;
            if self.dry {
                *slot += self.noise.sample_at(UNDERRUN_NOISE_RMS);
            }
        }
        if self.last_sample.abs() < 1e-6 {
            self.last_sample = 0.0; // no denormals
        }
    }

    fn publish(&mut self, voiced: usize) {
        let (generation, played) =
            self.playing.map_or((self.last_generation, self.last_played), |p| (p.generation, p.played));
        let packed = (generation << PLAYED_BITS) | (played & ((1 << PLAYED_BITS) - 1));
        self.shared.playing.store(packed, Ordering::Release);
        if voiced > 0 {
            self.shared.sent.fetch_add(voiced as u64, Ordering::AcqRel);
        }
    }
}

fn to_count(places: u64) -> usize {
    usize::try_from(places).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The two ends with what came out of them.
    struct Pair {
        voice: Voice,
        reader: VoiceReader,
        counters: Counters,
        events: Vec<MediaEvent>,
    }

    impl Pair {
        fn new() -> Self {
            let (voice, reader) = voice();
            Self { voice, reader, counters: Counters::default(), events: Vec::new() }
        }

        fn pull(&mut self, count: usize) -> Vec<f32> {
            let mut out = vec![f32::NAN; count];
            self.reader.pull(&mut out, &self.counters, &mut |event| self.events.push(event));
            out
        }

        fn say(&mut self, level: f32, count: usize) -> Generation {
            let generation = self.voice.start_response();
            assert_eq!(self.voice.write(generation, &vec![level; count]), WriteResult::Accepted(count));
            generation
        }
    }

    fn finished(generation: Generation, played: u64, interrupted: bool) -> MediaEvent {
        MediaEvent::ResponseFinished { generation, played, interrupted }
    }

    #[test]
    fn a_response_is_said_to_its_end_and_told_about() {
        let mut pair = Pair::new();
        let generation = pair.say(0.25, 400);
        pair.voice.end_response(generation);
        let out = [pair.pull(160), pair.pull(160), pair.pull(160)].concat();
        assert!(out[..400].iter().all(|&s| s == 0.25));
        assert!(out[410..].iter().all(|&s| s.abs() < 0.1), "and ends without a cliff");
        assert_eq!(pair.events, [MediaEvent::ResponseStarted { generation }, finished(generation, 400, false)]);
        let position = pair.voice.position();
        assert_eq!(
            (position.generation, position.played, position.played_turn, position.queued),
            (generation, 400, 400, 0)
        );
        assert_eq!(pair.counters.underruns.get(), 0);
    }

    #[test]
    fn a_halt_fades_within_20_ms_flushes_and_latches() {
        let mut pair = Pair::new();
        let generation = pair.say(0.5, 8_000);
        pair.pull(160);
        pair.voice.halt();
        assert_eq!(pair.voice.position().queued, 0);
        let out = pair.pull(320);
        assert!(out.windows(2).all(|w| w[1] <= w[0]), "a fade");
        assert!(out[0] > 0.49 && out[80] < 0.26 && out[160..].iter().all(|&s| s == 0.0));
        assert_eq!(pair.events.last(), Some(&finished(generation, 320, true)));
        assert_eq!(pair.voice.write(generation, &[0.5; 10]), WriteResult::Halted);
        let next = pair.voice.start_response();
        assert_eq!(pair.voice.write(next, &[0.5; 10]), WriteResult::Halted);
        assert!(pair.pull(160).iter().all(|&s| s == 0.0));
        pair.voice.resume();
        assert_eq!(pair.voice.write(generation, &[0.5; 10]), WriteResult::Stale, "what was cut does not come back");
        assert_eq!(pair.voice.write(next, &[0.5; 10]), WriteResult::Accepted(10));
        assert_eq!(pair.pull(10), [0.5; 10]);
        assert_eq!(pair.voice.position().played_turn, 10, "a new turn");
    }

    #[test]
    fn clear_does_not_latch_and_the_next_response_follows_the_fade() {
        let mut pair = Pair::new();
        pair.say(0.5, 8_000);
        pair.pull(160);
        pair.voice.clear();
        let next = pair.say(0.125, 1_000);
        let out = pair.pull(480);
        assert!(out[..160].windows(2).all(|w| w[1] <= w[0]));
        assert!(out[160..].iter().all(|&s| s == 0.125), "not one sample of the old response after its fade");
        assert_eq!(pair.voice.position().generation, next);
        assert_eq!(pair.voice.position().played, 320);
    }

    #[test]
    fn a_chunk_in_flight_cannot_speak_after_a_halt() {
        let mut pair = Pair::new();
        let old = pair.say(0.5, 1_000);
        pair.voice.halt();
        pair.voice.resume();
        assert_eq!(pair.voice.write(old, &[0.5; 160]), WriteResult::Stale);
        assert!(pair.pull(1_600).iter().all(|&s| s == 0.0), "nothing was said before the halt, so nothing fades");
        assert_eq!(pair.events, [finished(old, 0, true)]);
    }

    #[test]
    fn a_second_response_follows_the_first_and_both_are_told_about_when_cut() {
        let mut pair = Pair::new();
        let first = pair.say(0.25, 200);
        let second = pair.say(0.5, 200);
        assert_eq!(pair.voice.write(first, &[0.0; 1]), WriteResult::Stale);
        let out = pair.pull(300);
        assert!(out[..200].iter().all(|&s| s == 0.25) && out[200..].iter().all(|&s| s == 0.5));
        let third = pair.say(0.25, 100);
        pair.voice.halt();
        pair.pull(160);
        assert_eq!(
            pair.events,
            [
                MediaEvent::ResponseStarted { generation: first },
                finished(first, 200, false),
                MediaEvent::ResponseStarted { generation: second },
                // the fade ends where the response does: all of it was said after all
                finished(second, 200, false),
                finished(third, 0, true),
            ]
        );
    }

    #[test]
    fn an_underrun_is_one_event_and_comfort_noise_until_more_comes() {
        // case 39
        let mut pair = Pair::new();
        let generation = pair.say(0.25, 100);
        let out = [pair.pull(160), pair.pull(160)].concat();
        assert!(out[200..].iter().any(|&s| s != 0.0) && out[200..].iter().all(|&s| s.abs() < 0.01), "noise, quiet");
        assert_eq!(pair.events.last(), Some(&MediaEvent::Underrun { generation, played: 100 }));
        assert_eq!((pair.counters.underruns.get(), pair.counters.underrun_samples.get()), (1, 220));
        assert_eq!(pair.voice.write(generation, &[0.25; 100]), WriteResult::Accepted(100));
        pair.voice.end_response(generation);
        pair.pull(160);
        assert_eq!(pair.events.last(), Some(&finished(generation, 200, false)));
        assert_eq!(pair.voice.position().played, 200, "noise does not count");
    }

    #[test]
    fn ducking_lowers_by_18_db_in_10_ms_and_comes_back_in_30() {
        let mut pair = Pair::new();
        pair.say(0.5, 8_000);
        pair.pull(160);
        pair.voice.duck(true);
        let down = pair.pull(160);
        assert!((down[85] / 0.5 - DUCK_GAIN).abs() < 1e-3 && down[40] > 0.2);
        pair.voice.duck(false);
        let up = pair.pull(320);
        assert!(up[120] < 0.4 && up[245] == 0.5);
    }

    #[test]
    fn what_does_not_fit_stays_the_writers() {
        let mut pair = Pair::new();
        let generation = pair.voice.start_response();
        assert_eq!(pair.voice.write(generation, &vec![0.1; VOICE_SAMPLES + 5]), WriteResult::Accepted(VOICE_SAMPLES));
        assert_eq!(pair.voice.write(generation, &[0.1; 5]), WriteResult::Accepted(0));
        pair.pull(160);
        assert_eq!(pair.voice.write(generation, &[0.1; 500]), WriteResult::Accepted(160));
        assert_eq!(pair.voice.position().queued, VOICE_SAMPLES);
    }

    #[test]
    fn an_empty_response_starts_nothing_and_ends() {
        let mut pair = Pair::new();
        let generation = pair.voice.start_response();
        pair.voice.end_response(generation);
        pair.pull(160);
        assert_eq!(pair.events, [finished(generation, 0, false)]);
        for _ in 0..10_000 {
            let generation = pair.voice.start_response();
            pair.voice.end_response(generation); // no queue grows beyond its bound
        }
        pair.pull(160);
        pair.say(0.5, 160);
        assert_eq!(pair.pull(160), [0.5; 160]);
    }

    #[test]
    fn nothing_is_said_while_idle_and_a_halt_still_counts() {
        let mut pair = Pair::new();
        let generation = pair.say(0.5, 1_000);
        pair.pull(160);
        pair.reader.idle(&mut |event| pair.events.push(event));
        assert_eq!(pair.voice.position().played, 160);
        pair.voice.halt();
        pair.reader.idle(&mut |event| pair.events.push(event));
        assert_eq!(pair.events.last(), Some(&finished(generation, 160, true)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Start,
        Write(usize),
        End,
        Halt,
        Resume,
        Clear,
        Pull(usize),
        Idle,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Start),
            (1..3_000_usize).prop_map(Step::Write),
            Just(Step::End),
            Just(Step::Halt),
            Just(Step::Resume),
            Just(Step::Clear),
            (1..400_usize).prop_map(Step::Pull),
            (1..400_usize).prop_map(Step::Pull),
            Just(Step::Idle),
        ]
    }

    proptest! {
        /// Each generation is written as a constant of its own, so that every sample that comes out tells its response.
        #[test]
        fn whatever_is_asked_for_old_audio_never_speaks_and_the_count_is_exact(steps in prop::collection::vec(step(), 1..120)) {
            let mut pair = Pair::new();
            let mut generation = Generation(0);
            let level = |g: Generation| 0.01 * (g.0 % 64 + 2) as f32;
            let (mut fading, mut flushed_at) = (0_usize, Generation(0));
            let mut said = 0_u64;
            for step in steps {
                match step {
                    Step::Start => generation = pair.voice.start_response(),
                    Step::Write(count) => { let _ = pair.voice.write(generation, &vec![level(generation); count]); }
                    Step::End => pair.voice.end_response(generation),
                    Step::Halt | Step::Clear => {
                        if matches!(step, Step::Halt) { pair.voice.halt() } else { pair.voice.clear() }
                        fading = FADE_SAMPLES as usize;
                        flushed_at = generation;
                    }
                    Step::Resume => pair.voice.resume(),
                    Step::Idle => {
                        pair.reader.idle(&mut |event| pair.events.push(event));
                        fading = 0;
                    }
                    Step::Pull(count) => {
                        let before = pair.voice.position();
                        let out = pair.pull(count);
                        let after = pair.voice.position();
                        said += out.len() as u64;
                        prop_assert!(after.played_turn.max(before.played_turn) <= said);
                        // samples of a dead response count only while they fade
                        let lively = after.generation > flushed_at || fading > 0 || after.played_turn == before.played_turn;
                        prop_assert!(lively, "{:?} said after the flush of {:?}", after.generation, flushed_at);
                        fading = fading.saturating_sub(count);
                    }
                }
            }
            // every response that started has at most one end, and no end says more than was said
            let mut ends: Vec<u64> = Vec::new();
            for event in &pair.events {
                if let MediaEvent::ResponseFinished { generation, played, .. } = event {
                    prop_assert!(!ends.contains(&generation.0));
                    prop_assert!(*played <= said);
                    ends.push(generation.0);
                }
            }
        }
    }
}
