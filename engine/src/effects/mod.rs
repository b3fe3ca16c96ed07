//! Effects: a chain of named ones on what the caller says, on what the agent says, or on both.
//!
//! [`EFFECTS`] is the table of what there is. A chain is built of names and numbers on another thread
//! ([`EffectChain::new`]) and moved into the call by a command; what it replaces is moved out when the change is done, which
//! takes 10 ms of cross-fade, so that it is not heard as a click.
//!
//! What must hold: every chain that could be built is stable, and what leaves it is within [-1, 1]; a direction
//! without a chain costs one test.

mod biquad;
mod slot;
mod table;

use self::biquad::Biquad;
pub(crate) use self::slot::EffectSlot;
pub use self::table::{EFFECTS, EffectKind, Parameter};

/// Most effects of a chain.
pub const MAX_EFFECTS: usize = 8;

/// Whose voice a chain changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// What the caller says, before anybody but the detectors hears it.
    Caller,
    /// What the agent says, before it is sent.
    Agent,
}

/// Why a chain cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EffectError {
    /// No effect has this name.
    #[error("there is no effect {name:?}; there are {}", EFFECTS.iter().map(|e| e.name).collect::<Vec<_>>().join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The effect has no such parameter.
    #[error("`{effect}` has no parameter {name:?}; it has {}", parameters_of(effect))]
    UnknownParameter {
        /// Which effect.
        effect: &'static str,
        /// What was given.
        name: String,
    },
    /// A parameter is beyond its range.
    #[error("`{effect}`: `{name}`: {value}: from {} to {}", range.start(), range.end())]
    Range {
        /// Which effect.
        effect: &'static str,
        /// Which parameter.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed.
        range: std::ops::RangeInclusive<f64>,
    },
    /// Parameters that cannot go together.
    #[error("`{effect}`: {why}")]
    Contradiction {
        /// Which effect.
        effect: &'static str,
        /// What is wrong with them.
        why: String,
    },
    /// The chain is too long.
    #[error("{count} effects: at most {MAX_EFFECTS}")]
    TooMany {
        /// How many were asked for.
        count: usize,
    },
}

fn parameters_of(effect: &str) -> String {
    let parameters = EFFECTS.iter().filter(|kind| kind.name == effect).flat_map(|kind| kind.parameters);
    parameters.map(|parameter| parameter.name).collect::<Vec<_>>().join(", ")
}

/// An effect with its state.
#[derive(Debug)]
enum Effect {
    Gain(f32),
    Filters(Box<[Biquad]>),
    Phone { band: Box<[Biquad]>, drive: f32 },
}

impl Effect {
    fn process(&mut self, samples: &mut [f32]) {
        match self {
            Self::Gain(gain) => samples.iter_mut().for_each(|sample| *sample *= *gain),
            Self::Filters(filters) => filters.iter_mut().for_each(|filter| filter.process(samples)),
            Self::Phone { band, drive } => {
                band.iter_mut().for_each(|filter| filter.process(samples));
                // what is quiet stays as it is, what is loud is bent
                samples.iter_mut().for_each(|sample| *sample = (*sample * *drive).tanh() / *drive);
            }
        }
    }
}

/// Effects, one after the other.
///
/// ```
/// use mr_sip_engine::effects::EffectChain;
///
/// let mut chain = EffectChain::new([("gain", [("gain_db", -6.02)])]).unwrap();
/// let mut samples = [0.5; 40];
/// chain.process(&mut samples);
/// assert!((samples[39] - 0.25).abs() < 0.001);
///
/// let error = EffectChain::new([("gain", [("gain_db", 40.0)])]).unwrap_err();
/// assert_eq!(error.to_string(), "`gain`: `gain_db`: 40: from -60 to 24");
/// ```
#[derive(Debug)]
pub struct EffectChain {
    effects: Vec<Effect>,
}

impl EffectChain {
    /// Builds a chain of names and parameters; what is not said has its default.
    ///
    /// # Errors
    /// [`EffectError`], with what is allowed.
    pub fn new<'a, P>(chain: impl IntoIterator<Item = (&'a str, P)>) -> Result<Self, EffectError>
    where
        P: IntoIterator<Item = (&'a str, f64)>,
    {
        let effects = chain.into_iter().map(|(name, given)| build(name, given)).collect::<Result<Vec<_>, _>>()?;
        match effects.len() {
            count if count > MAX_EFFECTS => Err(EffectError::TooMany { count }),
            _ => Ok(Self { effects }),
        }
    }

    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// Changes samples in their place.
    pub fn process(&mut self, samples: &mut [f32]) {
        for effect in &mut self.effects {
            effect.process(samples);
        }
        for sample in samples {
            *sample = sample.clamp(-1.0, 1.0);
        }
    }
}

fn build<'a>(name: &str, given: impl IntoIterator<Item = (&'a str, f64)>) -> Result<Effect, EffectError> {
    let kind = EFFECTS.iter().find(|kind| kind.name == name);
    let kind = kind.ok_or_else(|| EffectError::Unknown { name: shorten(name) })?;
    let mut values: Vec<f64> = kind.parameters.iter().map(|parameter| parameter.default).collect();
    for (name, value) in given {
        let known = kind.parameters.iter().zip(&mut values).find(|(parameter, _)| parameter.name == name);
        let Some((parameter, place)) = known else {
            return Err(EffectError::UnknownParameter { effect: kind.name, name: shorten(name) });
        };
        if !parameter.range.contains(&value) {
            let range = parameter.range.clone();
            return Err(EffectError::Range { effect: kind.name, name: parameter.name, value, range });
        }
        *place = value;
    }
    (kind.build)(&values)
}

/// Names come from outside and go into messages.
fn shorten(name: &str) -> String {
    name.chars().take(32).collect()
}
