//! What `daemon.status` tells, and the states of the things around the calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Whether an account can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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

/// One media thread in [`Status`], since the daemon was started. A tick comes every 5 ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MediaThread {
    /// Its name, as in `top -H`.
    pub thread: String,
    /// Calls that it has.
    pub calls: u64,
    /// Ticks that it made.
    pub ticks: u64,
    /// Those that began more than 1 ms (1.024 ms) after they were due.
    pub late_starts: u64,
    /// The latest beginning of all.
    pub latest_start_us: u64,
    /// Ticks whose last packet left more than 2 ms after they were due.
    pub late_ticks: u64,
    /// Ticks that were left out after a stall.
    pub skipped_ticks: u64,
    /// Ticks that were still busy when the next was due.
    pub overruns: u64,
    /// Time spent on ticks.
    pub busy_ms: u64,
    /// The share of all time that this is, 0 to 1.
    pub busy: f64,
}

/// The answer to `daemon.status`. What is in `sip`, `jack`, `ears` and `engine` may grow at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// What the recogniser can still take, and what it has done.
    #[serde(default)]
    pub ears: Map<String, Value>,
    /// Ticks, lateness, privileges, calls: of all media threads together.
    #[serde(default)]
    pub engine: Map<String, Value>,
    /// Each media thread by itself.
    #[serde(default)]
    pub media_threads: Vec<MediaThread>,
}
