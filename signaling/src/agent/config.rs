//! What a user agent is made with, and what it hands out.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

#[allow(unused_imports, reason = "for the links in the docs")]
use super::UserAgent;
use crate::{
    account::Account,
    guard::GuardConfig,
    toll::TollConfig,
    trace::TraceConfig,
    transport::{Peer, Transport},
};

/// What the random part of tags, branches and Call-IDs grows from. In production from the system's generator: whoever
/// knows it can guess dialogs. In tests fixed, so that runs repeat.
pub type Seed = [u8; 32];

/// A message to be sent. Its `Debug` shows no secrets (case 46).
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to, and how.
    pub to: Peer,
    /// One whole message, a keep-alive of nothing but line ends, or a question to a STUN server.
    #[debug("{:?}", crate::secrets::shown_bytes(bytes))]
    pub bytes: Vec<u8>,
}

/// Numbers a question of [`UserAgent::poll_resolve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResolveId(pub(crate) u64);

/// A name to be looked up, by RFC 3263 section 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// Goes with the answer.
    pub id: ResolveId,
    /// The host name; never an IP address.
    pub host: String,
    /// The port, if one was given: then the host's addresses are wanted, without NAPTR and SRV.
    pub port: Option<u16>,
    /// The transport, if one was given: then NAPTR is not asked.
    pub transport: Option<Transport>,
    /// `sips`: nothing but TLS will do.
    pub secure: bool,
}

/// One place where a name's server was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// How it is reached.
    pub transport: Transport,
    /// Where it is.
    pub address: SocketAddr,
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

/// What becomes of a REFER to us within a call (case 16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReferPolicy {
    /// It is refused with 603.
    #[default]
    Refuse,
    /// The application is asked, by [`crate::Event::TransferRequested`].
    Ask,
}

/// How a user agent is set up.
#[derive(Debug, Clone)]
pub struct UserAgentConfig {
    /// The address the UDP socket is bound to; [`crate::net::Endpoint`] fills it in.
    pub local: SocketAddr,
    /// The port where TCP connections are taken, if they are; [`crate::net::Endpoint`] fills it in. Connections of our own
    /// are made all the same.
    pub tcp_port: Option<u16>,
    /// The same for TLS.
    pub tls_port: Option<u16>,
    /// How to find our address when `local` is unspecified; [`crate::net::Endpoint`] fills it in.
    pub local_ip: LocalIp,
    /// The address to give in Via and Contact whatever the routes say (a known port forwarding, a 1:1 NAT).
    pub advertised: Option<SocketAddr>,
    /// Servers that are asked for our public address (STUN, RFC 8489), by UDP from the socket that SIP uses, each `host[:port]`;
    /// at most 8. It stands in the Contact where `advertised` is not set and the account's registrar has not told better.
    pub stun_servers: Vec<String>,
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
    /// Who may talk to us, and how much.
    pub guard: GuardConfig,
    /// Whom we may call, how often and how long; `None`: anybody.
    pub toll: Option<TollConfig>,
    /// How much of what was said is kept.
    pub trace: TraceConfig,
    /// How long a call may last without a sign from its other end (RFC 4028), 90 s at least; `None`: we do not ask for that,
    /// but do as others ask.
    pub session_expires: Option<Duration>,
    /// What becomes of a REFER to us.
    pub refer: ReferPolicy,
    /// Whether a call of ours goes on to where a 3xx says (case 14). Credentials go to the account's hosts all the same.
    pub redirects: bool,
}

/// How long a session lasts when the configuration does not say: RFC 4028 section 4's recommendation.
pub const DEFAULT_SESSION_EXPIRES: Duration = Duration::from_secs(1800);

impl UserAgentConfig {
    /// An agent without accounts, reachable at `local`.
    pub fn new(local: SocketAddr) -> UserAgentConfig {
        UserAgentConfig {
            local,
            tcp_port: None,
            tls_port: None,
            local_ip: LocalIp::Fixed(local.ip()),
            advertised: None,
            stun_servers: Vec::new(),
            accounts: Vec::new(),
            user: "mr-sip".into(),
            software: concat!("mr_sip/", env!("CARGO_PKG_VERSION")).into(),
            max_calls: 1000,
            ring_limit: Duration::from_secs(180),
            guard: GuardConfig::default(),
            toll: None,
            trace: TraceConfig::default(),
            session_expires: Some(DEFAULT_SESSION_EXPIRES),
            refer: ReferPolicy::Refuse,
            redirects: false,
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
    /// Messages that were thrown away unread: of who is banned, and of floods.
    pub dropped: u64,
    /// Requests of strangers that got no answer.
    pub ignored: u64,
    /// STUN that was no answer to anything we asked.
    pub stun_dropped: u64,
}
