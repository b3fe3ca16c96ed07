//! How JACK is to be used, what it is doing, and what it has to say.

use std::time::{Duration, Instant};

use super::rules::ConnectRule;

/// Whose client a call's ports belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JackClients {
    /// One client has the ports of all calls: `mr-sip:c17:caller`. Cheap, and never short of clients.
    #[default]
    One,
    /// Each call has a client of its own: `mr-sip-c17:caller`. It shows as a box of its own in patch bays, and costs 10 to
    /// 25 times the processor time, tens of milliseconds to open, and one of the server's 64 or 254 clients. A call for
    /// which there is none has its ports at the shared client.
    PerCall,
}

/// How to use JACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JackConfig {
    /// The server's name (`jackd -n NAME`); `None`: `$JACK_DEFAULT_SERVER`, else `default`.
    pub server_name: Option<String>,
    /// Our client's name, the first half of every port name.
    pub client_name: String,
    /// Whose client a call's ports belong to.
    pub clients: JackClients,
    /// Most clients that calls may have of their own ([`JackClients::PerCall`]); the server may allow fewer.
    pub max_clients: usize,
    /// Most calls with ports at once; further calls go direct.
    pub max_calls: usize,
    /// Whether a call's `agent` is connected to its `to_phone`. Without it the agent is heard only through what somebody
    /// connects: a rule, or a patch bay.
    pub patch_agent: bool,
    /// What else is connected, as ports appear.
    pub connect: Vec<ConnectRule>,
    /// `true`: [`JackBridge::start`](super::JackBridge::start) succeeds without a server, calls go direct, and it is
    /// looked for until it is there. `false`: no server at the start is an error.
    pub wait_for_server: bool,
    /// How far the crossing keeps each ring from running dry: the longest stall of either thread that is not heard.
    /// Each crossing adds it to the delay. It grows by itself on a machine that stalls for longer, and shrinks back within minutes.
    pub margin: Duration,
}

impl Default for JackConfig {
    fn default() -> Self {
        Self {
            server_name: None,
            client_name: "mr-sip".to_owned(),
            clients: JackClients::One,
            max_clients: 200,
            max_calls: 256,
            patch_agent: true,
            connect: Vec::new(),
            wait_for_server: false,
            margin: Duration::from_millis(4),
        }
    }
}

/// What JACK is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum JackState {
    /// Not configured, or stopped.
    #[default]
    Off,
    /// Connected to a server.
    Running {
        /// The server's name.
        server: String,
        /// Its sample rate in Hz.
        rate_hz: u32,
        /// Its period in frames of that rate.
        period: u32,
        /// Periods the server says it missed since we connected.
        xruns: u64,
        /// Whether it runs as fast as it can instead of in real time (`jack_freewheel`); calls go direct.
        freewheeling: bool,
        /// Calls that have a client of their own.
        own_clients: usize,
    },
    /// No server; it is being looked for. Calls go direct.
    Lost {
        /// Since when.
        since: Instant,
    },
}

/// Something a user should know about JACK. See [`JackBridge::poll_event`](super::JackBridge::poll_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JackEvent {
    /// The server is gone; calls went direct.
    Lost {
        /// What libjack said.
        reason: String,
    },
    /// A server is there (again); calls get their ports.
    Back {
        /// Its sample rate in Hz.
        rate_hz: u32,
        /// Its period in frames of that rate.
        period: u32,
    },
    /// A call got no ports and goes direct.
    PortsRefused {
        /// The call's label.
        label: String,
        /// Why.
        reason: String,
    },
    /// A call got no client of its own and has its ports at the shared one, and so will others. Said once, until a call
    /// gets a client of its own again.
    ClientRefused {
        /// The call's label.
        label: String,
        /// Why.
        reason: String,
    },
    /// The server missed periods: what was to be heard in them was not. Said at most every 10 s.
    Xruns {
        /// Since this was last said.
        count: u64,
        /// Since we connected.
        total: u64,
    },
    /// The server began to run as fast as it can instead of in real time, or ended that. Calls go direct meanwhile.
    Freewheel {
        /// Whether it does now.
        on: bool,
    },
    /// The server's period was changed; the crossings follow.
    Period {
        /// In frames.
        frames: u32,
    },
}
