//! One question to a STUN server (RFC 8489), for `doctor`; the daemon's own are asked by signaling, from the SIP socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use signaling::stun::{Answer, DEFAULT_PORT, read, request};

/// One try; RFC 8489 section 6.2.1 begins with 500 ms.
const PATIENCE: Duration = Duration::from_millis(700);
const TRIES: usize = 3;

/// Asks once; blocks for two seconds at most, and for as long as the name takes.
pub(crate) fn ask(server: &str) -> Result<SocketAddr, String> {
    let with_port = if server.parse::<IpAddr>().is_ok() || !server.contains(':') || server.ends_with(']') {
        format!(
            "{}:{DEFAULT_PORT}",
            if server.parse::<Ipv6Addr>().is_ok() { format!("[{server}]") } else { server.into() }
        )
    } else {
        server.to_owned()
    };
    let to = with_port
        .to_socket_addrs()
        .map_err(|error| format!("the name is not found: {error}"))?
        .next()
        .ok_or("the name has no address")?;
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let failed = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind((any, 0)).map_err(failed)?;
    socket.connect(to).map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut id = [0; 12];
    SysRng.try_fill_bytes(&mut id).map_err(|error| error.to_string())?;
    let mut buffer = [0; 1500];
    for _ in 0..TRIES {
        socket.send(&request(&id)).map_err(failed)?;
        match socket.recv(&mut buffer) {
            Ok(length) => match buffer.get(..length).and_then(read).filter(|(of, _)| *of == id) {
                Some((_, Answer::Mapped(address))) => return Ok(address),
                Some((_, Answer::Refused(code, reason))) => return Err(format!("it refuses: {code} {reason}")),
                Some((_, Answer::Useless(why))) => return Err(why.to_owned()),
                None => {}
            },
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("it does not answer".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_answers_tells_our_address() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().to_string();
        let asked = std::thread::spawn(move || ask(&to));
        let mut bytes = [0; 100];
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        assert_eq!(length, 20);
        let SocketAddr::V4(v4) = from else { panic!() };
        let mut answer = vec![1, 1, 0, 12];
        answer.extend(&bytes[4..20]);
        answer.extend([0, 1, 0, 8, 0, 1]);
        answer.extend(v4.port().to_be_bytes());
        answer.extend(v4.ip().octets());
        server.send_to(&answer, from).unwrap();
        assert_eq!(asked.join().unwrap(), Ok(from));
    }
}
