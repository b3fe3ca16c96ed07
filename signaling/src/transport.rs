//! Where messages come from and go to: a transport, an address, and for streams the connection.

use std::{fmt, net::SocketAddr, sync::Arc};

/// How messages are carried (RFC 3261 section 18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Transport {
    /// Datagrams; messages are sent again by timers.
    Udp,
    /// A stream.
    Tcp,
    /// A stream within TLS.
    Tls,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// The word of a Via header.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// The word of a URI's `transport` parameter.
    pub fn as_param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    /// From a Via header or a URI parameter.
    pub fn read(word: &str) -> Option<Transport> {
        Transport::ALL.into_iter().find(|t| t.as_str().eq_ignore_ascii_case(word.trim()))
    }

    /// The port that is meant where none is given (section 19.1.2).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
        }
    }

    /// A message that was sent arrives, or the connection breaks: nothing is sent again by timers (section 17).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names a stream connection for as long as the process runs; numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The far end of one hop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// How it is reached.
    pub transport: Transport,
    /// Where it is.
    pub address: SocketAddr,
    /// The connection to use while it lasts: the one that a request came in on (section 18.2.2). When it is gone, or with
    /// `None`, one that is open to `address` serves, or a new one is made.
    pub connection: Option<ConnectionId>,
    /// TLS: the name that the far end's certificate must be made out for, which is the host that was configured or dialled,
    /// before any lookup (RFC 5922). No connection is made to a peer without it; `None` for whoever came to us.
    pub name: Option<Arc<str>>,
}

impl Peer {
    /// A peer that datagrams are exchanged with.
    pub fn udp(address: SocketAddr) -> Peer {
        Peer { transport: Transport::Udp, address, connection: None, name: None }
    }

    /// The same transport, address and name, whatever the connection.
    pub fn is_same_place(&self, other: &Peer) -> bool {
        self.transport == other.transport && self.address == other.address && self.name == other.name
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport, self.address)
    }
}
