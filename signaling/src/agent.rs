//! The user agent: SIP without sockets, clocks or threads.
//!
//! Bytes and the time go in, bytes, deadlines and events come out; see the crate's page for the loop around it.

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    account::Account,
    error::SignalingError,
    event::{CallId, Dial, Event},
};

/// What the random part of tags, branches and Call-IDs grows from. In production from the system's generator: whoever
/// knows it can guess dialogs. In tests fixed, so that runs repeat.
pub type Seed = [u8; 32];

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// Numbers a question of [`UserAgent::poll_resolve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResolveId(pub(crate) u64);

/// A name to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// Goes with the answer.
    pub id: ResolveId,
    /// The host name; never an IP address.
    pub host: String,
    /// The port to go with the addresses.
    pub port: u16,
}

/// Which of our addresses a destination sees us by.
#[derive(Clone)]
pub enum LocalIp {
    /// Always this one.
    Fixed(IpAddr),
    /// By routing: asked for each message, so that a machine that moves to another network is noticed.
    Route(Arc<dyn Fn(SocketAddr) -> IpAddr + Send + Sync>),
}

impl fmt::Debug for LocalIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalIp::Fixed(ip) => write!(f, "Fixed({ip})"),
            LocalIp::Route(_) => f.write_str("Route(..)"),
        }
    }
}

/// How a user agent is set up.
#[derive(Debug, Clone)]
pub struct UserAgentConfig {
    /// The address the SIP socket is bound to; [`crate::net::Endpoint`] fills it in.
    pub local: SocketAddr,
    /// How to find our address when `local` is unspecified; [`crate::net::Endpoint`] fills it in.
    pub local_ip: LocalIp,
    /// The address to give in Via and Contact whatever the routes say (a known port forwarding, a 1:1 NAT).
    pub advertised: Option<SocketAddr>,
    /// Who we are at which provider.
    pub accounts: Vec<Account>,
    /// The user part of our address where no account gives one.
    pub user: String,
    /// The User-Agent and Server header.
    pub software: String,
    /// The most calls at once; further ones are answered 503.
    pub max_calls: usize,
    /// How long a call may ring, either way, before it is given up.
    pub ring_limit: Duration,
}

impl UserAgentConfig {
    /// An agent without accounts, reachable at `local`.
    pub fn new(local: SocketAddr) -> UserAgentConfig {
        UserAgentConfig {
            local,
            local_ip: LocalIp::Fixed(local.ip()),
            advertised: None,
            accounts: Vec::new(),
            user: "mr-sip".into(),
            software: concat!("mr_sip/", env!("CARGO_PKG_VERSION")).into(),
            max_calls: 1000,
            ring_limit: Duration::from_secs(180),
        }
    }
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams handed in.
    pub received: u64,
    /// Datagrams handed out.
    pub sent: u64,
    /// Of those, sent again by a timer or for a request that came again.
    pub retransmitted: u64,
    /// Datagrams that are no SIP message, and were dropped or answered with an error.
    pub malformed: u64,
    /// Responses that belong to nothing we asked.
    pub stray_responses: u64,
    /// Requests from outside that were refused without a call.
    pub refused: u64,
}

/// SIP without sockets, clocks or threads.
#[derive(Debug)]
pub struct UserAgent {
    config: UserAgentConfig,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl UserAgent {
    /// A user agent; accounts that register do so at the first [`UserAgent::handle_timeout`].
    ///
    /// # Errors
    /// [`SignalingError::BadConfig`]: an account's value cannot stand in a SIP message.
    pub fn new(config: UserAgentConfig, seed: Seed) -> Result<UserAgent, SignalingError> {
        for account in &config.accounts {
            account.check()?;
        }
        let _ = seed;
        Ok(UserAgent { config, transmits: VecDeque::new(), events: VecDeque::new(), counters: Counters::default() })
    }

    /// Takes a datagram in.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let _ = (now, from, bytes);
        self.counters.received += 1;
    }

    /// The system said that nothing listens there (an ICMP error).
    pub fn handle_unreachable(&mut self, now: Instant, to: SocketAddr) {
        let _ = (now, to);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`UserAgent::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next datagram to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next name to be looked up.
    pub fn poll_resolve(&mut self) -> Option<Resolve> {
        None
    }

    /// Answers [`UserAgent::poll_resolve`]; no address at all: the name was not found.
    pub fn handle_resolved(&mut self, now: Instant, id: ResolveId, addresses: &[SocketAddr]) {
        let _ = (now, id, addresses);
    }

    /// Calls somebody.
    ///
    /// # Errors
    /// Nothing was sent: no such account, an address that cannot be dialled, or too many calls.
    pub fn dial(&mut self, now: Instant, dial: Dial) -> Result<CallId, SignalingError> {
        let _ = (now, dial);
        Err(SignalingError::TooManyCalls(self.config.max_calls))
    }

    /// As [`UserAgent::dial`], answered by an event in the order of all others.
    pub(crate) fn dial_tagged(&mut self, now: Instant, tag: u64, dial: Dial) {
        let event = match self.dial(now, dial) {
            Ok(call) => Event::Dialing { tag, call },
            Err(e) => Event::DialFailed { tag, error: e.to_string() },
        };
        self.events.push_back(event);
    }

    /// Sends 180 for an incoming call.
    ///
    /// # Errors
    /// No such call, or it is not waiting for an answer.
    pub fn ring(&mut self, now: Instant, call: CallId) -> Result<(), SignalingError> {
        let _ = now;
        Err(SignalingError::NoSuchCall(call))
    }

    /// Answers an incoming call with 200.
    ///
    /// # Errors
    /// No such call, or it is not waiting for an answer.
    pub fn answer(&mut self, now: Instant, call: CallId, sdp: String) -> Result<(), SignalingError> {
        let _ = (now, sdp);
        Err(SignalingError::NoSuchCall(call))
    }

    /// Refuses an incoming call with a status of 300 to 699; ends with [`Event::Ended`].
    ///
    /// # Errors
    /// No such call, it is not waiting for an answer, or the status is none that refuses.
    pub fn reject(&mut self, now: Instant, call: CallId, status: u16) -> Result<(), SignalingError> {
        let _ = (now, status);
        Err(SignalingError::NoSuchCall(call))
    }

    /// Ends a call in whatever state: BYE, CANCEL, or 603. [`Event::Ended`] comes at once; what is left of the protocol is
    /// done behind it.
    ///
    /// # Errors
    /// No such call.
    pub fn hangup(&mut self, now: Instant, call: CallId) -> Result<(), SignalingError> {
        let _ = now;
        Err(SignalingError::NoSuchCall(call))
    }

    /// Answers [`Event::Reoffer`]: with an answer, or with an offer if it had no description.
    ///
    /// # Errors
    /// No such call, or nothing was offered.
    pub fn answer_reoffer(&mut self, now: Instant, call: CallId, sdp: String) -> Result<(), SignalingError> {
        let _ = (now, sdp);
        Err(SignalingError::NoSuchCall(call))
    }

    /// Refuses [`Event::Reoffer`], usually with 488; the call goes on as it was.
    ///
    /// # Errors
    /// No such call, nothing was offered, or the status is none that refuses.
    pub fn reject_reoffer(&mut self, now: Instant, call: CallId, status: u16) -> Result<(), SignalingError> {
        let _ = (now, status);
        Err(SignalingError::NoSuchCall(call))
    }

    /// Ends all calls, removes all bindings and takes nothing new. Go on until [`UserAgent::is_idle`].
    pub fn shutdown(&mut self, now: Instant) {
        let _ = now;
    }

    /// Nothing is under way: no call, no transaction.
    pub fn is_idle(&self) -> bool {
        self.transmits.is_empty()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
