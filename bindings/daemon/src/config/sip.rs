//! `[sip]`: where the phone listens, who may talk to it, and what it does with calls that come in.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use signaling::toll::MAX_DURATION;

/// What happens to a call that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncomingPolicy {
    /// It rings until a client answers or rejects it.
    Ask,
    /// It is answered at once.
    Auto,
    /// It is refused with 480.
    Reject,
}

/// What requests get that come from nobody we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strangers {
    /// No answer at all: who scans for telephones finds none.
    Ignore,
    /// 403, whatever they ask.
    Refuse,
    /// What anybody gets: for those who want to be called by SIP address.
    Answer,
}

/// What happens when the far end wants us to call somebody else (REFER).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferPolicy {
    /// 603.
    Refuse,
    /// The client decides, and the rules of `[dialing]` hold.
    Ask,
}

/// The SIP side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sip {
    pub bind: SocketAddr,
    pub tcp: bool,
    pub tls_bind: Option<SocketAddr>,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_ca: Option<PathBuf>,
    pub tls_wildcards: bool,
    #[serde(with = "name_servers")]
    pub dns_servers: Vec<SocketAddr>,
    pub public_address: Option<IpAddr>,
    pub stun_server: Option<String>,
    pub incoming: IncomingPolicy,
    pub ring_timeout_s: u64,
    pub max_calls: usize,
    pub max_incoming_call_s: u64,
    pub session_expires_s: u64,
    pub incoming_refer: ReferPolicy,
    pub redirects: bool,
    pub strangers: Strangers,
    #[serde(with = "networks")]
    pub trusted: Vec<IpNet>,
    pub stranger_rate: u32,
    pub strangers_rate: u32,
    pub peer_rate: u32,
    pub connections_per_address: usize,
    pub ban_offences: u16,
    pub ban_s: u64,
    pub ban_longest_s: u64,
    pub trace_calls: usize,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([0, 0, 0, 0], 5060)),
            tcp: true,
            tls_bind: None,
            tls_certificate: None,
            tls_key: None,
            tls_ca: None,
            tls_wildcards: false,
            dns_servers: Vec::new(),
            public_address: None,
            stun_server: None,
            incoming: IncomingPolicy::Ask,
            ring_timeout_s: 60,
            max_calls: 200,
            max_incoming_call_s: MAX_DURATION.as_secs(),
            session_expires_s: 1800,
            incoming_refer: ReferPolicy::Refuse,
            redirects: false,
            strangers: Strangers::Ignore,
            trusted: ["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse().ok()).collect(),
            stranger_rate: 20,
            strangers_rate: 1000,
            peer_rate: 2000,
            connections_per_address: 8,
            ban_offences: 10,
            ban_s: 600,
            ban_longest_s: 86_400,
            trace_calls: 1000,
        }
    }
}

/// `"10.0.0.0/8"` or a bare address in the file, networks in the program.
pub(super) mod networks {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(networks: &[IpNet], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(networks.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<IpNet>, D::Error> {
        let read = |text: String| {
            text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                D::Error::custom(format!(
                    "`{text}` is no network; write \"10.0.0.0/8\", \"2001:db8::/32\" or an address"
                ))
            })
        };
        Vec::<String>::deserialize(d)?.into_iter().map(read).collect()
    }
}

/// `"9.9.9.9"` or `"9.9.9.9:53"` in the file.
mod name_servers {
    use std::net::{IpAddr, SocketAddr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// RFC 1035 section 4.2.
    const DNS_PORT: u16 = 53;

    pub(super) fn serialize<S: Serializer>(servers: &[SocketAddr], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(servers)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<SocketAddr>, D::Error> {
        let read = |text: String| {
            text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT))).map_err(|_| {
                D::Error::custom(format!("`{text}` is no name server; write \"9.9.9.9\" or \"[2620:fe::fe]:53\""))
            })
        };
        Vec::<String>::deserialize(d)?.into_iter().map(read).collect()
    }
}
