//! Players: files and tones that a call's far end hears, mixed with the agent's voice or instead of it.
//!
//! A [`Player`] is built on a control thread and moved into its call, which pulls it for every packet and moves it out
//! again when it is over. A tone is computed where it is pulled. A file is read, decoded and resampled by one ordinary
//! thread for all calls, the [`Feeder`], into a ring of 2 s; a disk that is too slow leaves silence, counted, and the file
//! goes on where it was.
//!
//! What must hold:
//! - Pulling never allocates, locks or waits.
//! - What was played is counted in samples that went into packets; its end is told exactly once.
//! - A halt or clear of the voice fades a bargeable player out and ends it; ducking lowers it with the voice. A player that
//!   is not bargeable is touched by neither. One that was started after the halt is not meant by it.
//! - While a player plays instead of the voice, the voice waits and loses nothing.

mod feeder;
mod file;
mod tone;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use heapless::Vec as FixedVec;
use rtrb::{Consumer, Producer, RingBuffer};

pub use feeder::{Feeder, FeederJobs};
pub use file::{PlayError, WavSource};
pub use tone::{MAX_FREQUENCIES, NamedTone, Region, Segment, Tone};

use crate::codec::from_i16;
use crate::event::MediaEvent;
use crate::stats::Counters;
use crate::voice::{Barge, Duck};

/// Players of a call at the same time.
pub const MAX_PLAYERS: usize = 2;
/// What waits of a decoded file: 2 s at 8 kHz.
const RING_SAMPLES: usize = 16_000;

/// The number of a player within a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlayId(pub u64);

/// Beside the voice or in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlayMode {
    /// Added to the agent's voice.
    #[default]
    Mix,
    /// In its place: the voice waits until the player is over.
    Instead,
}

/// How something is to be played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlayOptions {
    /// Beside the voice or in its place.
    pub mode: PlayMode,
    /// Whether a halt or clear of the voice ends it, and ducking lowers it.
    pub bargeable: bool,
    /// How much louder it is than it came, in dB: -60 to 20; what is beyond is brought there.
    pub gain_db: f32,
}

impl Default for PlayOptions {
    fn default() -> Self {
        Self { mode: PlayMode::Mix, bargeable: true, gain_db: 0.0 }
    }
}

/// Why a player is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlayEnd {
    /// All of it was played.
    End,
    /// It was asked to stop.
    Stopped,
    /// A halt or clear ended it.
    BargeIn,
    /// The file could not be read any further, or there was no room for it.
    Failed,
}

/// What the feeder tells the player.
#[derive(Debug, Default)]
struct Feed(AtomicU8);

impl Feed {
    const ENDED: u8 = 1;
    const FAILED: u8 = 2;

    fn end(&self, failed: bool) {
        self.0.store(if failed { Self::FAILED } else { Self::ENDED }, Ordering::Release);
    }

    fn ended(&self) -> Option<PlayEnd> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            Self::FAILED => Some(PlayEnd::Failed),
            _ => Some(PlayEnd::End),
        }
    }
}

/// Where a player's samples come from.
#[derive(Debug)]
enum Source {
    File { samples: Consumer<i16>, feed: Arc<Feed> },
    Tone(Tone),
}

/// One player, as the call has it.
#[derive(Debug)]
pub struct Player {
    id: PlayId,
    source: Source,
    options: PlayOptions,
    gain: f32,
    /// Flushes of the voice when it was made.
    flushes: u32,
    duck: Duck,
    played: u64,
    /// Why it is being faded out, the samples left of the fade, and its length.
    fade: Option<(PlayEnd, u32, u32)>,
    dry: bool,
    over: bool,
    /// Alive as long as this is: how the control thread knows.
    _alive: Arc<()>,
}

/// What the feeder fills for a player.
#[derive(Debug)]
pub struct Filler {
    samples: Producer<i16>,
    feed: Arc<Feed>,
}

impl Player {
    /// A player of a tone. `flushes`: [`Voice::flushes`](crate::Voice::flushes) now.
    #[must_use]
    pub fn tone(id: PlayId, tone: Tone, options: PlayOptions, flushes: u32) -> (Box<Self>, Arc<()>) {
        Self::new(id, Source::Tone(tone), options, flushes)
    }

    /// A player of what will be filled in.
    #[must_use]
    pub fn file(id: PlayId, options: PlayOptions, flushes: u32) -> (Box<Self>, Arc<()>, Filler) {
        let (input, output) = RingBuffer::new(RING_SAMPLES);
        let feed = Arc::new(Feed::default());
        let (player, alive) = Self::new(id, Source::File { samples: output, feed: feed.clone() }, options, flushes);
        (player, alive, Filler { samples: input, feed })
    }

    fn new(id: PlayId, source: Source, options: PlayOptions, flushes: u32) -> (Box<Self>, Arc<()>) {
        let gain_db = if options.gain_db.is_finite() { options.gain_db.clamp(-60.0, 20.0) } else { 0.0 };
        let alive = Arc::new(());
        let player = Self {
            id,
            source,
            options,
            gain: 10.0_f32.powf(gain_db / 20.0),
            flushes,
            duck: Duck::default(),
            played: 0,
            fade: None,
            dry: false,
            over: false,
            _alive: alive.clone(),
        };
        (Box::new(player), alive)
    }

    /// Adds what it has to say to `out`.
    fn pull(&mut self, out: &mut [f32], barge: Barge, counters: &Counters, emit: &mut impl FnMut(MediaEvent)) {
        if self.over {
            return;
        }
        if self.options.bargeable && barge.flushes != self.flushes {
            self.stop(PlayEnd::BargeIn, barge.fade_samples);
        }
        let wanted = self.fade.map_or(out.len(), |(_, left, _)| out.len().min(left as usize));
        // looked at before the ring: what was pushed before the end is still seen
        let ended = match &self.source {
            Source::File { feed, .. } => feed.ended(),
            Source::Tone(_) => Some(PlayEnd::End),
        };
        let given = self.fill(&mut out[..wanted], barge);
        self.played += given as u64;
        if let Some((reason, left, _)) = self.fade
            && (left == 0 || given < wanted)
        {
            self.finish(reason, emit);
        } else if given < wanted {
            match ended {
                Some(end) => self.finish(end, emit),
                None if self.played > 0 => {
                    if !self.dry {
                        counters.play_underruns.add(1);
                    }
                    self.dry = true;
                    counters.play_underrun_samples.add((wanted - given) as u64);
                }
                None => {} // the first samples are still on their way from the disk
            }
        }
    }

    /// Adds samples, as many as there are; returns how many.
    fn fill(&mut self, out: &mut [f32], barge: Barge) -> usize {
        let (gain, bargeable) = (self.gain, self.options.bargeable);
        let (duck, fade) = (&mut self.duck, &mut self.fade);
        let mut put = |slot: &mut f32, sample: f32| {
            let mut sample = sample * gain;
            if bargeable {
                sample *= duck.next(&barge);
            }
            if let Some((_, left, length)) = fade {
                *left = left.saturating_sub(1);
                sample *= *left as f32 / (*length).max(1) as f32;
            }
            *slot += sample;
        };
        match &mut self.source {
            Source::Tone(tone) => {
                let mut given = 0;
                for slot in out {
                    let Some(sample) = tone.next() else { break };
                    put(slot, sample);
                    given += 1;
                }
                given
            }
            Source::File { samples, .. } => {
                let count = samples.slots().min(out.len());
                let Ok(chunk) = samples.read_chunk(count) else { return 0 };
                let (first, second) = chunk.as_slices();
                for (slot, &sample) in out.iter_mut().zip(first.iter().chain(second)) {
                    put(slot, from_i16(sample));
                }
                chunk.commit_all();
                if count > 0 {
                    self.dry = false;
                }
                count
            }
        }
    }

    fn stop(&mut self, reason: PlayEnd, fade_samples: u32) {
        if self.fade.is_none() {
            self.fade = Some((reason, fade_samples, fade_samples));
        }
    }

    fn finish(&mut self, reason: PlayEnd, emit: &mut impl FnMut(MediaEvent)) {
        self.over = true;
        emit(MediaEvent::PlayFinished { play: self.id, played: self.played, reason });
    }
}

/// The players of a call.
#[derive(Debug, Default)]
pub(crate) struct Players {
    list: FixedVec<Box<Player>, MAX_PLAYERS>,
}

impl Players {
    /// One more.
    ///
    /// # Errors
    /// There is no room; the player is over before it began, which was told, and comes back.
    pub(crate) fn add(&mut self, player: Box<Player>, emit: &mut impl FnMut(MediaEvent)) -> Result<(), Box<Player>> {
        self.list.push(player).map_err(|mut player| {
            player.finish(PlayEnd::Failed, emit);
            player
        })
    }

    /// Fades one out.
    pub(crate) fn stop(&mut self, id: PlayId, barge: Barge) {
        if let Some(player) = self.list.iter_mut().find(|player| player.id == id) {
            player.stop(PlayEnd::Stopped, barge.fade_samples);
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one plays instead of the voice.
    pub(crate) fn replace_voice(&self) -> bool {
        self.list.iter().any(|player| !player.over && player.options.mode == PlayMode::Instead)
    }

    /// Adds what they play to `out`.
    pub(crate) fn pull(
        &mut self,
        out: &mut [f32],
        barge: Barge,
        counters: &Counters,
        emit: &mut impl FnMut(MediaEvent),
    ) {
        for player in &mut self.list {
            player.pull(out, barge, counters, emit);
        }
    }

    /// Nothing is being sent: they wait, but one that is to stop is over at once.
    pub(crate) fn wait(&mut self, barge: Barge, emit: &mut impl FnMut(MediaEvent)) {
        for player in self.list.iter_mut().filter(|player| !player.over) {
            if player.options.bargeable && barge.flushes != player.flushes {
                player.stop(PlayEnd::BargeIn, 0);
            }
            if let Some((reason, ..)) = player.fade {
                player.finish(reason, emit);
            }
        }
    }

    /// One that is over, to be dropped elsewhere.
    pub(crate) fn take_finished(&mut self) -> Option<Box<Player>> {
        let index = self.list.iter().position(|player| player.over)?;
        Some(self.list.swap_remove(index))
    }
}
