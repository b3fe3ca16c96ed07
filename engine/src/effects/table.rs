//! The effects that there are: the one place where a new one is entered.

use std::ops::RangeInclusive;

use super::biquad::Biquad;
use super::{Effect, EffectError};

/// What an effect can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name, with its unit.
    pub name: &'static str,
    /// What is allowed.
    pub range: RangeInclusive<f64>,
    /// What it is if nothing is said.
    pub default: f64,
}

/// An effect by its name.
#[derive(Debug, Clone)]
pub struct EffectKind {
    /// What it is called.
    pub name: &'static str,
    /// What it can be told, in the order in which `build` gets it.
    pub parameters: &'static [Parameter],
    /// Makes one of values that are within their ranges.
    pub(super) build: fn(&[f64]) -> Result<Effect, EffectError>,
}

const fn parameter(name: &'static str, range: RangeInclusive<f64>, default: f64) -> Parameter {
    Parameter { name, range, default }
}

/// All effects.
pub static EFFECTS: &[EffectKind] = &[
    EffectKind { name: "gain", parameters: &[parameter("gain_db", -60.0..=24.0, 0.0)], build: gain },
    EffectKind {
        name: "equaliser",
        parameters: &[
            parameter("low_hz", 20.0..=1_000.0, 200.0),
            parameter("low_db", -24.0..=24.0, 0.0),
            parameter("mid_hz", 50.0..=3_800.0, 1_000.0),
            parameter("mid_q", 0.1..=10.0, 1.0),
            parameter("mid_db", -24.0..=24.0, 0.0),
            parameter("high_hz", 500.0..=3_800.0, 2_500.0),
            parameter("high_db", -24.0..=24.0, 0.0),
        ],
        build: equaliser,
    },
    EffectKind {
        name: "band_pass",
        parameters: &[parameter("low_hz", 20.0..=3_500.0, 300.0), parameter("high_hz", 50.0..=3_900.0, 3_400.0)],
        build: band_pass,
    },
    EffectKind { name: "phone", parameters: &[parameter("drive_db", 0.0..=24.0, 6.0)], build: phone },
];

/// Qualities of the two halves of a Butterworth filter of the fourth order.
const BUTTERWORTH: [f64; 2] = [0.541_196, 1.306_563];

fn gain(values: &[f64]) -> Result<Effect, EffectError> {
    let [db] = take(values);
    Ok(Effect::Gain(10_f64.powf(db / 20.0) as f32))
}

fn equaliser(values: &[f64]) -> Result<Effect, EffectError> {
    let [low_hz, low_db, mid_hz, mid_q, mid_db, high_hz, high_db] = take(values);
    let filters =
        [Biquad::low_shelf(low_hz, low_db), Biquad::peak(mid_hz, mid_q, mid_db), Biquad::high_shelf(high_hz, high_db)];
    Ok(Effect::Filters(filters.into()))
}

fn band_pass(values: &[f64]) -> Result<Effect, EffectError> {
    let [low_hz, high_hz] = take(values);
    if low_hz >= high_hz {
        let why = format!("`low_hz` {low_hz} must be below `high_hz` {high_hz}");
        return Err(EffectError::Contradiction { effect: "band_pass", why });
    }
    Ok(Effect::Filters(band(low_hz, high_hz)))
}

fn phone(values: &[f64]) -> Result<Effect, EffectError> {
    let [drive_db] = take(values);
    Ok(Effect::Phone { band: band(300.0, 3_400.0), drive: 10_f64.powf(drive_db / 20.0) as f32 })
}

fn band(low_hz: f64, high_hz: f64) -> Box<[Biquad]> {
    let high_passes = BUTTERWORTH.map(|q| Biquad::high_pass(low_hz, q));
    let low_passes = BUTTERWORTH.map(|q| Biquad::low_pass(high_hz, q));
    high_passes.into_iter().chain(low_passes).collect()
}

/// The values of as many parameters as the table names.
fn take<const N: usize>(values: &[f64]) -> [f64; N] {
    std::array::from_fn(|index| values.get(index).copied().unwrap_or(0.0))
}
