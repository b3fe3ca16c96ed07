//! `[dialing]`: what may be called, how much of it, and for how long. Asked before every call that goes out (case 15).

use serde::{Deserialize, Serialize};

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

/// Emergency numbers around the world that are not customary as extensions. A number is compared as a whole.
const EMERGENCY_NUMBERS: [&str; 22] = [
    "000", "110", "111", "112", "113", "115", "117", "118", "119", "120", "122", "15", "17", "18", "190", "192", "193",
    "911", "995", "997", "998", "999",
];

/// Well-known numbers at a premium.
const PREMIUM: [&str; 16] = [
    "+1900*",
    "+1976*",
    "1900NXXXXXX",
    "+979*",
    "+870*",
    "+881*",
    "+882*",
    "+883*",
    "+4487*",
    "+449*",
    "+49900*",
    "+49137*",
    "+439*",
    "+4190*",
    "+3389*",
    "+3989*",
];

impl Default for Dialing {
    fn default() -> Self {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Self {
            allow: Vec::new(),
            deny: strings(&PREMIUM),
            emergency: Emergency::Refuse,
            emergency_numbers: strings(&EMERGENCY_NUMBERS),
            country: None,
            trunk_prefix: "0".into(),
            calls_per_second: 5.0,
            max_concurrent: 0,
            max_call_s: 4 * 3600,
        }
    }
}
