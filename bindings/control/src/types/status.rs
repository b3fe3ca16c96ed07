//! What `daemon.status` tells, and the states of the things around the calls.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Whether an account can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccountState {
    /// Its registrar knows where we are.
    Registered,
    /// Registering failed; `reason` says why.
    Failed,
    /// Not registered, and not meant to be, or not yet.
    Unregistered,
    /// A trunk that does not register, and answers.
    Reachable,
    /// A trunk that does not register, and does not answer; `reason` says more.
    Unreachable,
}

/// Whether calls run through JACK ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JackState {
    /// Not configured, or no server found.
    Off,
    /// Connected to a server.
    Running,
    /// The server went away; calls run direct until it is back.
    Lost,
}

/// One account in [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Its name in the configuration.
    pub account: String,
    /// Whether it can be called.
    pub state: AccountState,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long the registration holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// When registering is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_s: Option<u64>,
    /// Our address as the registrar sees it, when it is not the one we gave: there is a NAT in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<String>,
}

impl Account {
    /// An account of which nothing more is known.
    pub fn new(account: impl Into<String>, state: AccountState) -> Self {
        Self { account: account.into(), state, reason: None, expires_s: None, retry_s: None, seen_as: None }
    }

    /// Whether its registrar knows where we are.
    pub fn is_registered(&self) -> bool {
        self.state == AccountState::Registered
    }
}

/// The answer to `daemon.status`. What is in `sip`, `jack` and `engine` may grow at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// How long it has been running.
    pub uptime_ms: u64,
    /// Addresses and counters of the SIP side.
    #[serde(default)]
    pub sip: Map<String, Value>,
    /// Every configured account.
    #[serde(default)]
    pub accounts: Vec<Account>,
    /// `state` (see [`JackState`]), `server`, `rate`, `period`, `xruns`, `freewheeling`, `own_clients`.
    #[serde(default)]
    pub jack: Map<String, Value>,
    /// Path of the speech model; absent when there are no ears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Ticks, lateness, privileges, calls.
    #[serde(default)]
    pub engine: Map<String, Value>,
}
