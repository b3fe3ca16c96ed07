//! How an endpoint is set up, and the sockets that come of it.

use std::{mem, net::SocketAddr};

use mio::net::{TcpListener, UdpSocket};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::{DnsConfig, StreamLimits, TlsConfig};
use crate::{agent::UserAgentConfig, error::SignalingError};

/// How often a port is looked for that is free for both UDP and TCP.
const PORT_TRIES: usize = 16;
/// Room for datagrams that wait in the system, in bytes, as it is asked for. Linux counts about a kilobyte for a small
/// datagram, so its usual 208 KiB are full after some 200 of them: 4 ms of a flood of 50,000 a second, less than the thread
/// may have to wait for a core. What has no room is lost whoever sent it, before the guard can look at the sender. This
/// much holds some thousands.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// How an endpoint is set up.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Where to listen; port 0 takes any free one, an unspecified address all interfaces.
    pub bind: SocketAddr,
    /// Whether TCP connections are accepted, and where.
    pub tcp: TcpListen,
    /// Where TLS connections are accepted, if they are: needs a certificate. Port 0 takes any free one.
    pub tls: Option<SocketAddr>,
    /// Whom we trust and who we are.
    pub tls_files: TlsConfig,
    /// Bounds and deadlines of stream connections.
    pub streams: StreamLimits,
    /// Who answers for names.
    pub dns: DnsConfig,
    /// The user agent; its `local`, `local_ip` and ports are filled in.
    pub agent: UserAgentConfig,
}

impl EndpointConfig {
    /// UDP and TCP at one address; connections of our own by TCP and TLS, with the system's authorities and name servers.
    pub fn new(bind: SocketAddr, agent: UserAgentConfig) -> EndpointConfig {
        EndpointConfig {
            bind,
            tcp: TcpListen::default(),
            tls: None,
            tls_files: TlsConfig::default(),
            streams: StreamLimits::default(),
            dns: DnsConfig::default(),
            agent,
        }
    }
}

/// Where TCP connections are accepted. Connections of our own are made all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TcpListen {
    /// At the address and port of UDP; if somebody else has that port, nowhere, and the log says so.
    #[default]
    LikeUdp,
    /// Here, or the endpoint does not start.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// The sockets that listen.
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: Option<TcpListener>,
    pub(super) tls: Option<TcpListener>,
}

impl Sockets {
    pub(super) fn open(config: &EndpointConfig) -> Result<Sockets, SignalingError> {
        let listen = |addr| TcpListener::bind(addr).map_err(|source| SignalingError::Socket { addr, source });
        let bound = |addr| UdpSocket::bind(addr).map_err(|source| SignalingError::Socket { addr, source });
        let tls = config.tls.map(listen).transpose()?;
        let mut udp = bound(config.bind)?;
        let tcp = match config.tcp {
            TcpListen::Off => None,
            TcpListen::At(addr) => Some(listen(addr)?),
            TcpListen::LikeUdp => {
                // ports that are no good are kept until a good one is found, so that none comes twice
                let mut tried = Vec::new();
                loop {
                    let at = udp.local_addr().map_err(|source| SignalingError::Socket { addr: config.bind, source })?;
                    match TcpListener::bind(at) {
                        Ok(listener) => break Some(listener),
                        Err(_) if config.bind.port() == 0 && tried.len() < PORT_TRIES => {
                            tried.push(mem::replace(&mut udp, bound(config.bind)?));
                        }
                        Err(e) => {
                            log::warn!("no TCP connections are accepted: cannot listen on {at}: {e}");
                            break None;
                        }
                    }
                }
            }
        };
        Ok(Sockets { udp, tcp, tls })
    }
}

/// Asks for [`RECEIVE_BUFFER`], and returns how many bytes were granted. Without the privilege (`CAP_NET_ADMIN`) that is at
/// most `net.core.rmem_max`.
pub(super) fn widen(udp: &UdpSocket) -> usize {
    #[cfg(target_os = "linux")]
    let forced = setsockopt(udp, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_ok();
    #[cfg(not(target_os = "linux"))]
    let forced = false;
    if !forced {
        // a refusal leaves what there was, which is told below
        let _ = setsockopt(udp, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    let has = getsockopt(udp, sockopt::RcvBuf).unwrap_or(0);
    // Linux tells twice what was asked for: half of it is its own room beside each datagram (socket(7))
    let granted = if cfg!(target_os = "linux") { has / 2 } else { has };
    if granted < RECEIVE_BUFFER {
        log::info!(
            "the SIP socket's receive buffer has {} KiB, not {}: under a flood datagrams are lost in the system; \
             the fix: sysctl net.core.rmem_max={RECEIVE_BUFFER}",
            granted / 1024,
            RECEIVE_BUFFER / 1024
        );
    }
    granted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_udp_socket_is_given_more_room_than_it_had() {
        let udp = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let before = getsockopt(&udp, sockopt::RcvBuf).unwrap();
        let granted = widen(&udp);
        let after = getsockopt(&udp, sockopt::RcvBuf).unwrap();
        assert!(after >= before, "never less than before: {before}, {after}");
        assert!((1..=RECEIVE_BUFFER).contains(&granted), "{granted} bytes");
    }
}
