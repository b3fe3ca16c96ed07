//! Requests about how a call sounds: cleaning and effects.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, Request, name};
use crate::types::call::CallId;

/// Most effects of a chain.
const MAX_EFFECTS: usize = 8;
/// Most parameters that are looked at; no effect has as many.
const MAX_PARAMETERS: usize = 16;

/// `audio.clean`: switches what is done to the caller's audio before it is recognised. What is not named stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AudioClean {
    /// Which call.
    pub call: CallId,
    /// Whether a constant offset is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dc: Option<bool>,
    /// Whether speech is brought to one level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agc: Option<bool>,
    /// Whether noise is suppressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<bool>,
    /// Whether the echo of the agent's voice is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
}

impl Request for AudioClean {
    const NAME: &'static str = "audio.clean";
    type Reply = CleanReply;
}

/// The answer to [`AudioClean`]: what is done now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CleanReply {
    /// Whether a constant offset is taken away.
    pub dc: bool,
    /// Whether speech is brought to one level.
    pub agc: bool,
    /// Whether noise is suppressed.
    pub noise: bool,
    /// Whether the echo of the agent's voice is taken away.
    pub echo: bool,
}

/// Whose voice effects change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Voice {
    /// What the caller says: in JACK, recordings, and what is recognised.
    Caller,
    /// What the agent says.
    Agent,
}

/// An effect by its name, with its parameters beside the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Effect {
    /// Which effect.
    pub name: String,
    /// What it is told; what is not said has its default.
    #[serde(flatten)]
    pub parameters: BTreeMap<String, f64>,
}

/// `audio.effects`: the effects on one of the voices, in place of those before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AudioEffects {
    /// Which call.
    pub call: CallId,
    /// Whose voice.
    pub direction: Voice,
    /// The effects in their order; none: the voice as it is.
    #[serde(default)]
    pub chain: Vec<Effect>,
}

impl Request for AudioEffects {
    const NAME: &'static str = "audio.effects";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        if self.chain.len() > MAX_EFFECTS {
            return Err(format!("`chain`: {} effects: at most {MAX_EFFECTS}", self.chain.len()));
        }
        for (nth, effect) in self.chain.iter().enumerate() {
            name(&format!("chain[{nth}].name"), &effect.name)?;
            if effect.parameters.len() > MAX_PARAMETERS {
                return Err(format!("`chain[{nth}]`: {} parameters: too many", effect.parameters.len()));
            }
        }
        Ok(())
    }
}
