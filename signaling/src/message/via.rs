//! One element of a Via header.

use std::{fmt, net::SocketAddr};

use super::{
    name_addr::Params,
    uri::{Host, literal, read_host_port},
};
use crate::transport::Transport;

/// The beginning of every branch since RFC 3261; one without it does not name a transaction.
pub(crate) const MAGIC_COOKIE: &str = "z9hG4bK";

/// Where a request was sent from, and with which branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Via {
    /// `UDP`, `TCP`, ...
    pub(crate) transport: String,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) params: Params,
}

impl Via {
    /// Ours.
    pub(crate) fn new(transport: Transport, local: SocketAddr) -> Via {
        let (host, port) = (local.ip().to_string(), Some(local.port()));
        Via { transport: transport.as_str().into(), host, port, params: Params::default() }
    }

    pub(crate) fn read(text: &str) -> Option<Via> {
        let version = text.split('/').nth(1)?.trim();
        if version == "2.0" { Via::read_any_version(text) } else { None }
    }

    /// Of whatever version of SIP: only to say that we do not speak it.
    pub(super) fn read_any_version(text: &str) -> Option<Via> {
        // sent-protocol may have spaces around its slashes
        let mut parts = text.splitn(3, '/');
        let (name, _, rest) = (parts.next()?.trim(), parts.next()?, parts.next()?.trim());
        if !name.eq_ignore_ascii_case("SIP") {
            return None;
        }
        let (transport, rest) = rest.split_once(char::is_whitespace)?;
        let (sent_by, params) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = read_host_port(sent_by)?;
        Some(Via { transport: transport.to_ascii_uppercase(), host, port, params: Params::read(params)? })
    }

    /// Empty if there is none.
    pub(crate) fn branch(&self) -> &str {
        self.params.get("branch").unwrap_or("")
    }

    /// The branch names a transaction by itself.
    pub(crate) fn has_cookie(&self) -> bool {
        let branch = self.branch();
        branch.len() > MAGIC_COOKIE.len()
            && branch.get(..MAGIC_COOKIE.len()).is_some_and(|b| b.eq_ignore_ascii_case(MAGIC_COOKIE))
    }

    /// Notes where the request really came from (section 18.2.1, RFC 3581).
    pub(crate) fn mark_source(&mut self, source: SocketAddr) {
        if self.params.get("rport").is_some() {
            self.params.set("rport", Some(source.port().to_string()));
            self.params.set("received", Some(source.ip().to_string()));
        } else if literal(&self.host) != Some(source.ip()) {
            self.params.set("received", Some(source.ip().to_string()));
        }
    }

    /// Where a response goes: back to the source, at its port if it asked for that (RFC 3581), else at the port it named.
    pub(crate) fn response_address(&self, source: SocketAddr) -> SocketAddr {
        if self.params.has("rport") {
            return source;
        }
        SocketAddr::new(source.ip(), self.port.unwrap_or_else(|| self.default_port()))
    }

    /// The port that is meant where none is written.
    pub(crate) fn default_port(&self) -> u16 {
        Transport::read(&self.transport).unwrap_or(Transport::Udp).default_port()
    }

    /// Our own address as the other side saw it: `received` and `rport` of the Via that came back.
    pub(crate) fn seen_address(&self) -> Option<SocketAddr> {
        let ip = self.params.get("received").and_then(|ip| literal(ip.trim_matches(['[', ']'])));
        let ip = ip.or_else(|| literal(&self.host))?;
        let port = self.params.get("rport").and_then(|p| p.parse().ok()).or(self.port);
        let port = port.unwrap_or_else(|| self.default_port());
        Some(SocketAddr::new(ip, port))
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, Host(&self.host))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}
