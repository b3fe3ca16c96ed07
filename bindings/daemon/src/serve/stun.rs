//! One question to a STUN server (RFC 8489), for `doctor`; the daemon's own are asked by signaling, from the SIP socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;

/// RFC 8489 section 5.
const MAGIC: u32 = 0x2112_a442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const HEADER: usize = 20;
/// RFC 8489 section 18.6.
const STUN_PORT: u16 = 3478;
/// One try; RFC 8489 section 6.2.1 begins with 500 ms.
const PATIENCE: Duration = Duration::from_millis(700);
const TRIES: usize = 3;

/// Asks once; blocks for two seconds at most, and for as long as the name takes.
pub(crate) fn ask(server: &str) -> Result<SocketAddr, String> {
    let with_port = if server.parse::<IpAddr>().is_ok() || !server.contains(':') || server.ends_with(']') {
        format!(
            "{}:{STUN_PORT}",
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
        socket.send(&request(id)).map_err(failed)?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                if let Some(address) = buffer.get(..length).and_then(|bytes| read(bytes, id)) {
                    return Ok(address);
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("it does not answer".into())
}

fn request(id: [u8; 12]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend(BINDING_REQUEST.to_be_bytes());
    bytes.extend(0_u16.to_be_bytes());
    bytes.extend(MAGIC.to_be_bytes());
    bytes.extend(id);
    bytes
}

/// The mapped address of a success that answers `id`.
fn read(bytes: &[u8], id: [u8; 12]) -> Option<SocketAddr> {
    let (header, mut rest) = bytes.split_at_checked(HEADER)?;
    let number = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    if number(0)? != BINDING_SUCCESS || header.get(4..8)? != MAGIC.to_be_bytes() || header.get(8..)? != id {
        return None;
    }
    rest = rest.get(..usize::from(number(2)?))?;
    let mut plain = None;
    while let Some((head, tail)) = rest.split_at_checked(4) {
        let (kind, length) =
            (u16::from_be_bytes([head[0], head[1]]), usize::from(u16::from_be_bytes([head[2], head[3]])));
        let value = tail.get(..length)?;
        match kind {
            XOR_MAPPED_ADDRESS => return address(value, Some(id)),
            MAPPED_ADDRESS => plain = address(value, None),
            _ => {}
        }
        // attributes are padded to four bytes; the last one's padding may be missing
        rest = tail.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    plain
}

fn address(value: &[u8], xor: Option<[u8; 12]>) -> Option<SocketAddr> {
    let mut mask = [0_u8; 16];
    if let Some(id) = xor {
        mask[..4].copy_from_slice(&MAGIC.to_be_bytes());
        mask[4..].copy_from_slice(&id);
    }
    let unmask = |bytes: &[u8]| -> Vec<u8> { bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect() };
    let port = u16::from_be_bytes(unmask(value.get(2..4)?).try_into().ok()?);
    let ip: IpAddr = match value.get(1)? {
        1 => <[u8; 4]>::try_from(unmask(value.get(4..8)?)).ok()?.into(),
        2 => <[u8; 16]>::try_from(unmask(value.get(4..20)?)).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 section 2.2 and 2.3, without what comes after the address.
    #[test]
    fn the_answers_of_rfc_5769_are_read() {
        let id = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let answer = |attribute: &[u8]| {
            let mut bytes = vec![1, 1, 0, attribute.len() as u8, 0x21, 0x12, 0xa4, 0x42];
            bytes.extend(id);
            bytes.extend(attribute);
            bytes
        };
        let v4 = answer(b"\x80\x22\x00\x03abc \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43");
        assert_eq!(read(&v4, id), Some("192.0.2.1:32853".parse().unwrap()));
        let v6 =
            answer(b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9");
        assert_eq!(read(&v6, id), Some("[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()));
        assert_eq!(read(&v4, [0; 12]), None, "an answer to another question");
        for length in 0..v4.len() {
            read(&v4[..length], id);
        }
    }

    #[test]
    fn a_server_that_answers_tells_our_address() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap().to_string();
        let asked = std::thread::spawn(move || ask(&to));
        let mut bytes = [0; 100];
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        assert_eq!(length, HEADER);
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
