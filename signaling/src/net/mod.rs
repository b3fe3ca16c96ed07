//! The thin loop around the user agent: one thread, one UDP socket, stream connections, timers, and bounded queues both ways.
//!
//! | file | what it is for |
//! |---|---|
//! | `endpoint` | the thread, its loop, and the handle to it |
//! | `command` | what it can be told |
//! | `config` | how it is set up, and its sockets |
//! | `streams`, `connection` | TCP and TLS connections, made and accepted, with their bounds and deadlines |
//! | `tls`, `verifier` | whom we trust, who we are, and what went wrong in words |
//! | `resolver`, `dns` | names to servers by RFC 3263, on a thread of its own |
//! | `unreachable` | ICMP's news about datagrams |
//!
//! | queue | length | when full |
//! |---|---|---|
//! | commands in | [`COMMAND_QUEUE`] | [`Endpoint::command`] says so and hands the command back undone |
//! | events out | [`EVENT_QUEUE`] | events wait inside, in order; none is lost; new incoming calls are refused while they do |
//! | names to look up | 256 | the lookup fails, as if the name were not found |
//! | datagrams out | the socket's buffer | dropped and counted: SIP sends again |
//! | bytes out on a connection | [`StreamLimits::queue`] | the connection is closed: its far end does not read |

mod command;
mod config;
mod connection;
mod dns;
mod endpoint;
mod resolver;
mod streams;
mod tls;
mod unreachable;
mod verifier;

pub use command::{Command, Traced};
pub use config::{EndpointConfig, TcpListen};
pub use dns::DnsConfig;
pub use endpoint::{COMMAND_QUEUE, EVENT_QUEUE, Endpoint, EndpointStats};
pub use streams::{StreamLimits, StreamStats};
pub use tls::TlsConfig;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Our address on the way to `destination`, as the routing table has it; the unspecified address if there is no way.
///
/// A connected UDP socket sends nothing, but the kernel chooses its source address.
pub fn local_ip_towards(destination: SocketAddr) -> IpAddr {
    let any: IpAddr = if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let asked = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(destination)?;
        Ok(socket.local_addr()?.ip())
    };
    asked().unwrap_or(any)
}

/// The first line of a message, for the log: enough to follow a call by, and without anything secret.
fn start_line(bytes: &[u8]) -> String {
    if crate::stun::is_stun(bytes) {
        return "STUN".into();
    }
    let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    line.iter().take(120).map(|b| char::from(*b)).filter(|c| !c.is_control()).collect()
}
