//! Requests that let calls hear one another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, Request};
use crate::types::call::CallId;

/// How two calls are bridged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BridgeMode {
    /// The far ends hear each other.
    #[default]
    Talk,
    /// The far end of `other_call` hears what `call` hears and says; nobody hears it.
    Listen,
    /// As `listen`, and the far end of `call` hears it; others that are bridged to `call` do not.
    Whisper,
}

/// `call.bridge`: lets two calls hear each other. The agent of each goes on as before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallBridge {
    /// Which call.
    pub call: CallId,
    /// With which other one.
    pub other_call: CallId,
    /// Who hears whom.
    #[serde(default)]
    pub mode: BridgeMode,
    /// Also when another client owns one of them.
    #[serde(default)]
    pub force: bool,
}

impl Request for CallBridge {
    const NAME: &'static str = "call.bridge";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        another("other_call", self.call, Some(self.other_call))
    }
}

/// `call.unbridge`: lets two calls hear each other no longer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallUnbridge {
    /// Which call.
    pub call: CallId,
    /// From which other one; absent: from all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_call: Option<CallId>,
    /// Also when another client owns it.
    #[serde(default)]
    pub force: bool,
}

impl Request for CallUnbridge {
    const NAME: &'static str = "call.unbridge";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        another("other_call", self.call, self.other_call)
    }
}

fn another(field: &str, call: CallId, other: Option<CallId>) -> Result<(), String> {
    if other == Some(call) { Err(format!("`{field}`: {call}: another call than `call`")) } else { Ok(()) }
}
