//! `[dialing]`: what may be called, how much of it, and for how long. Asked before every call that goes out (case 15).

use serde::{Deserialize, Serialize};
use signaling::toll::{EMERGENCY_NUMBERS, MAX_DURATION, PREMIUM, TollConfig};

/// What happens to emergency numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emergency {
    /// They are not called: an agent has no place there, and the network does not know where its caller is.
    Refuse,
    /// They are called whatever the other rules say.
    Allow,
}

/// The rules for calls that go out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dialing {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub emergency: Emergency,
    pub emergency_numbers: Vec<String>,
    pub country: Option<String>,
    pub trunk_prefix: String,
    pub calls_per_second: f64,
    pub max_concurrent: usize,
    pub max_call_s: u64,
}

impl Default for Dialing {
    fn default() -> Self {
        let toll = TollConfig::default();
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Self {
            allow: Vec::new(),
            deny: strings(&PREMIUM),
            emergency: Emergency::Refuse,
            emergency_numbers: strings(&EMERGENCY_NUMBERS),
            country: None,
            trunk_prefix: "0".into(),
            calls_per_second: toll.rate.map_or(0.0, |rate| rate.per_second),
            max_concurrent: 0,
            max_call_s: MAX_DURATION.as_secs(),
        }
    }
}
