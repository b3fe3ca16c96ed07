//! ICMP's news: which of the addresses that were sent to has nobody listening.
//!
//! Without it a call to a dead port is noticed only after timer B's 32 s; RFC 3261 section 18.4 wants it told. Linux
//! keeps such errors in a queue of their own, with the address that the datagram had been sent to.

use std::{
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd,
};

use mio::net::UdpSocket;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

/// Errors taken per turn of the loop; the kernel bounds the queue by the socket's buffer.
const ERRORS_A_TURN: usize = 64;

/// Has the kernel keep errors.
pub(super) fn watch(socket: &UdpSocket, v4: bool) -> nix::Result<()> {
    if v4 { setsockopt(socket, sockopt::Ipv4RecvErr, &true) } else { setsockopt(socket, sockopt::Ipv6RecvErr, &true) }
}

/// The addresses that errors have come from since the last time.
pub(super) fn take(socket: &UdpSocket) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for _ in 0..ERRORS_A_TURN {
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        // neither the datagram's beginning nor the error's details are wanted, so there is room for neither
        let Ok(message) = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut [], None, flags) else { break };
        let Some(address) = message.address else { continue };
        let v4 = address.as_sockaddr_in().map(|a| SocketAddrV4::from(*a).into());
        if let Some(address) = v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into())) {
            found.push(address);
        }
    }
    found
}
