//! The reading end of the voice, in the call on the media thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtrb::Consumer;

use super::{
    Barge, Duck, Generation, Mark, MarkKind, PLAYED_BITS, RAMP_SAMPLES, Shared, TAIL_DECAY, UNDERRUN_NOISE_RMS,
};
use crate::codec::from_i16;
use crate::event::MediaEvent;
use crate::noise::Noise;
use crate::stats::Counters;

#[derive(Debug, Clone, Copy)]
struct Playing {
    generation: u64,
    played: u64,
    announced: bool,
}

#[derive(Debug, Clone, Copy)]
struct Fade {
    left: u32,
    length: u32,
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
    duck: Duck,
    last_sample: f32,
    /// Samples since the last one of the voice.
    quiet: u32,
    dry: bool,
    /// Something else was heard in its place.
    waited: bool,
    ramp: u32,
    noise: Noise,
}

impl VoiceReader {
    pub(super) fn new(samples: Consumer<i16>, marks: Consumer<Mark>, shared: Arc<Shared>) -> Self {
        Self {
            samples,
            marks,
            shared,
            place: 0,
            playing: None,
            last_generation: 0,
            last_played: 0,
            fade: None,
            duck: Duck::default(),
            last_sample: 0.0,
            quiet: 0,
            dry: false,
            waited: false,
            ramp: 0,
            noise: Noise::new(0x5EED),
        }
    }

    /// Fills `out` with the voice, silence where there is none. `emit` takes the events.
    pub fn pull(&mut self, out: &mut [f32], counters: &Counters, emit: &mut impl FnMut(MediaEvent)) {
        let mut filled = 0;
        let mut voiced = 0;
        let barge = self.barge();
        while filled < out.len() {
            self.begin_or_finish_flush(barge.fade_samples, emit);
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
            self.play(run, &mut out[filled..filled + run], &barge);
            filled += run;
            voiced += run;
        }
        self.duck.skip(out.len() - filled, &barge);
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

    /// The voice waits while something else plays in its place: no samples are taken, and what was being said does not end
    /// with a click nor begin again with one.
    pub fn wait(&mut self, out: &mut [f32], emit: &mut impl FnMut(MediaEvent)) {
        let last = self.last_sample;
        self.idle(emit);
        self.duck.skip(out.len(), &self.barge());
        let mut tail = last;
        for slot in out {
            tail *= TAIL_DECAY;
            *slot = tail;
        }
        self.last_sample = if tail.abs() < 1e-6 { 0.0 } else { tail };
        self.waited = true;
    }

    /// How the voice gives way now.
    #[must_use]
    pub(crate) fn barge(&self) -> Barge {
        self.shared.barge_in.look()
    }

    /// Says how many of the samples that were pulled have not reached the wire yet (JACK).
    pub fn set_in_flight(&mut self, samples: u32) {
        self.shared.in_flight.store(samples.saturating_sub(self.quiet), Ordering::Release);
    }

    fn begin_or_finish_flush(&mut self, fade_samples: u32, emit: &mut impl FnMut(MediaEvent)) {
        let flush_to = self.shared.flush_to.load(Ordering::Acquire);
        match self.fade {
            Some(fade) if fade.left == 0 || self.place >= fade.limit => self.cut(emit),
            None if self.place < flush_to => {
                let audible = self.playing.is_some_and(|p| p.announced) && !self.dry;
                if audible {
                    self.fade = Some(Fade { left: fade_samples, length: fade_samples, limit: flush_to });
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

    fn play(&mut self, count: usize, out: &mut [f32], barge: &Barge) {
        self.quiet = 0;
        if self.dry || self.waited {
            (self.dry, self.waited) = (false, false);
            self.ramp = RAMP_SAMPLES;
        }
        let Ok(chunk) = self.samples.read_chunk(count) else { return };
        let (first, second) = chunk.as_slices();
        if let (Some(gain), 0, None) = (self.duck.steady(barge), self.ramp, self.fade) {
            // nearly always; two plain loops, because the compiler makes vectors of them
            let (head, tail) = out.split_at_mut(first.len().min(out.len()));
            for (part, samples) in [(head, first), (tail, second)] {
                for (slot, &sample) in part.iter_mut().zip(samples) {
                    *slot = from_i16(sample) * gain;
                }
            }
        } else {
            for (slot, &sample) in out.iter_mut().zip(first.iter().chain(second)) {
                let mut gain = self.duck.next(barge);
                if self.ramp > 0 {
                    self.ramp -= 1;
                    gain *= (RAMP_SAMPLES - self.ramp) as f32 / RAMP_SAMPLES as f32;
                }
                if let Some(fade) = self.fade.as_mut() {
                    fade.left = fade.left.saturating_sub(1);
                    gain *= fade.left as f32 / fade.length as f32;
                }
                *slot = from_i16(sample) * gain;
            }
        }
        self.last_sample = out.last().copied().unwrap_or(self.last_sample);
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
        if self.last_sample == 0.0 && !self.dry {
            rest.fill(0.0); // nobody speaks
            return;
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
