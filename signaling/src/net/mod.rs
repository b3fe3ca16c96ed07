//! The thin loop around the user agent: one thread, one UDP socket, timers, and bounded queues both ways.
//!
//! | queue | length | when full |
//! |---|---|---|
//! | commands in | [`COMMAND_QUEUE`] | [`Endpoint::command`] says so and hands the command back undone |
//! | events out | [`EVENT_QUEUE`] | events wait inside, in order; none is lost; new incoming calls are refused while they do |
//! | names to look up | 256 | the lookup fails, as if the name were not found |
//! | datagrams out | the socket's buffer | dropped and counted: SIP sends again |

mod endpoint;
mod resolver;
mod unreachable;

pub use endpoint::{COMMAND_QUEUE, Command, EVENT_QUEUE, Endpoint, EndpointConfig, EndpointStats};

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
