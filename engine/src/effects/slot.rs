//! The place of a chain in a call, where it can be changed without a click.

use super::EffectChain;
use crate::TICK_SAMPLES;

/// A change takes 10 ms.
const FADE_SAMPLES: usize = 80;

/// A chain, or none; and while it changes, the one before it.
#[derive(Debug, Default)]
pub(crate) struct EffectSlot {
    chain: Option<Box<EffectChain>>,
    change: Option<Change>,
}

#[derive(Debug)]
struct Change {
    before: Option<Box<EffectChain>>,
    /// Samples of the fade that are over.
    faded: usize,
}

impl EffectSlot {
    /// Whether a change is under way, or its remains have not been fetched: no other can begin.
    pub(crate) fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    /// Begins to change to another chain, or none. Not while it [is changing](Self::is_changing).
    pub(crate) fn change(&mut self, to: Option<Box<EffectChain>>) {
        let before = std::mem::replace(&mut self.chain, to);
        self.change = Some(Change { before, faded: 0 });
    }

    /// Nothing is heard: a change need not be faded.
    pub(crate) fn finish(&mut self) {
        if let Some(change) = &mut self.change {
            change.faded = FADE_SAMPLES;
        }
    }

    /// The chain that was replaced, when it is done with.
    pub(crate) fn take_replaced(&mut self) -> Option<Box<EffectChain>> {
        self.change.take_if(|change| change.faded >= FADE_SAMPLES)?.before
    }

    /// Changes samples in their place.
    pub(crate) fn process(&mut self, samples: &mut [f32]) {
        if self.chain.is_none() && self.change.is_none() {
            return;
        }
        for piece in samples.chunks_mut(TICK_SAMPLES) {
            self.process_piece(piece);
        }
    }

    fn process_piece(&mut self, piece: &mut [f32]) {
        let mut old = [0.0; TICK_SAMPLES];
        let old = &mut old[..piece.len()];
        let change = self.change.as_mut().filter(|change| change.faded < FADE_SAMPLES);
        if change.is_some() {
            old.copy_from_slice(piece);
        }
        if let Some(chain) = &mut self.chain {
            chain.process(piece);
        }
        if let Some(change) = change {
            if let Some(before) = &mut change.before {
                before.process(old);
            }
            for (new, old) in piece.iter_mut().zip(old) {
                change.faded += 1;
                let share = (change.faded as f32 / FADE_SAMPLES as f32).min(1.0);
                *new = share * *new + (1.0 - share) * *old;
            }
        }
    }
}
