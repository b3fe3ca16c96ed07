//! Automatic gain for the recogniser: speech comes out at about -23 dBFS, whatever the line does; noise is not raised.
//!
//! The gain follows the level of speech and of nothing else. What stands out of the background is taken for speech, the
//! background being the quietest that was heard in the last seconds; in pauses the gain stays where it is.

use super::power;
use super::spectrum::BLOCK;

/// Level that speech is brought to: -23 dBFS, in the middle of what recognisers were trained on.
const TARGET_DB: f32 = -23.0;
/// No speech is raised by more than this, or turned down by more than this.
const MOST_DB: f32 = 24.0;
const LEAST_DB: f32 = -12.0;
/// The background is not raised above this.
const LOUDEST_BACKGROUND_DB: f32 = -50.0;
/// Speech stands out of the background by this, and is never quieter than this.
const ABOVE_BACKGROUND_DB: f32 = 10.0;
const QUIETEST_SPEECH_DB: f32 = -58.0;
/// What is this much below the level of speech is not counted in it: consonants and the ends of words.
const BELOW_SPEECH_DB: f32 = 15.0;
/// The level of speech follows by this, a block of speech: half of the way in 0.6 s.
const LEVEL_SHARE: f32 = 0.012;
/// The first second counts more, so that the first sentence is right.
const FIRST_SHARE: f32 = 0.06;
const FIRST_BLOCKS: u32 = 60;
/// The gain moves by at most this, a block: 10 dB a second up, 40 down.
const UP_DB: f32 = 0.1;
const DOWN_DB: f32 = 0.4;
/// Parts of the window in which the background is looked for, and blocks of a part: 2 s in all.
const PARTS: usize = 10;
const PART_BLOCKS: u32 = 20;
/// Digital silence has no logarithm.
const SILENCE_DB: f32 = -100.0;
/// Nothing leaves louder than this: -1 dBFS, bent towards it from -6 on.
const KNEE: f32 = 0.5;
const CEILING: f32 = 0.89;

/// The gain control.
#[derive(Debug)]
pub(super) struct GainControl {
    speech_db: f32,
    gain_db: f32,
    gain: f32,
    spoken: u32,
    background: [f32; PARTS],
    part: usize,
    blocks_of_part: u32,
}

impl GainControl {
    pub(super) const fn new() -> Self {
        Self {
            speech_db: TARGET_DB,
            gain_db: 0.0,
            gain: 1.0,
            spoken: 0,
            background: [0.0; PARTS],
            part: 0,
            blocks_of_part: 0,
        }
    }

    pub(super) fn process(&mut self, block: &mut [f32; BLOCK]) {
        let level_db = decibels(power(block));
        let background_db = self.background(level_db);
        let threshold = QUIETEST_SPEECH_DB.max(background_db + ABOVE_BACKGROUND_DB);
        let room = (LOUDEST_BACKGROUND_DB - background_db).max(0.0);
        let counts = self.spoken == 0 || level_db > self.speech_db - BELOW_SPEECH_DB;
        if level_db > threshold && counts {
            let share = if self.spoken < FIRST_BLOCKS { FIRST_SHARE } else { LEVEL_SHARE };
            if self.spoken == 0 {
                self.speech_db = level_db;
            }
            self.speech_db += share * (level_db - self.speech_db);
            self.spoken = self.spoken.saturating_add(1);
            let wanted = (TARGET_DB - self.speech_db).clamp(LEAST_DB, MOST_DB.min(room));
            self.gain_db += (wanted - self.gain_db).clamp(-DOWN_DB, UP_DB);
        } else if level_db > threshold {
            // speech that became much quieter: come down to it slowly
            self.speech_db -= UP_DB;
        } else if self.gain_db > room {
            // what was taken for speech was noise that had just begun
            self.gain_db = (self.gain_db - UP_DB).max(room);
        }
        let end = 10_f32.powf(self.gain_db / 20.0);
        let step = (end - self.gain) / BLOCK as f32;
        for sample in block {
            self.gain += step;
            *sample = bend(*sample * self.gain);
        }
        self.gain = end;
    }

    /// The quietest block of the last seconds.
    fn background(&mut self, level_db: f32) -> f32 {
        if self.blocks_of_part == 0 {
            self.background[self.part] = level_db;
        }
        self.background[self.part] = self.background[self.part].min(level_db);
        self.blocks_of_part += 1;
        if self.blocks_of_part == PART_BLOCKS {
            (self.part, self.blocks_of_part) = ((self.part + 1) % PARTS, 0);
        }
        self.background.iter().fold(0.0_f32, |quietest, &part| quietest.min(part))
    }
}

/// Full scale is approached, never passed.
fn bend(sample: f32) -> f32 {
    let size = sample.abs();
    if size <= KNEE {
        return sample;
    }
    let room = CEILING - KNEE;
    (KNEE + room * (1.0 - (-(size - KNEE) / room).exp())).copysign(sample)
}

fn decibels(power: f32) -> f32 {
    (10.0 * power.max(1e-10).log10()).max(SILENCE_DB)
}
