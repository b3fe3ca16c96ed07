//! Both ways do the same.

use super::*;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

fn bound(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    nix::sys::socket::setsockopt(&socket.as_fd(), nix::sys::socket::sockopt::ReceiveTimestampns, &true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Each way that works here.
fn ways(calls: usize) -> Vec<Net> {
    let mut ways = vec![Net::open(NetIo::Plain, calls).unwrap().0];
    let (net, grant) = Net::open(NetIo::Auto, calls).unwrap();
    if grant.is_granted() {
        ways.push(net);
    }
    ways
}

/// Receives until `done`, as ticks would.
fn receive_until(net: &mut Net, mut take: impl FnMut(Token, Received<'_>) -> bool) {
    let (begun, mut done) = (Instant::now(), false);
    while !done {
        net.receive(&mut |token, received| done |= take(token, received));
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing came");
    }
}

#[test]
fn datagrams_come_with_their_bytes_sources_and_arrival_times() {
    for mut net in ways(4) {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(sender) = UdpSocket::bind(local) else { continue }; // no IPv6 here
            let (receiver, token) = (bound(local), Token::new(3, true));
            net.add(token, &receiver);
            assert_eq!(net.receive(&mut |_, _| panic!("nothing was sent")), 0);
            let before = Time::now();
            for n in 0..20_u8 {
                sender.send_to(&[n; 33], receiver.local_addr().unwrap()).unwrap();
            }
            sender.send_to(&[0; 4000], receiver.local_addr().unwrap()).unwrap();
            let after = Time::now();
            let mut seen = 0;
            receive_until(&mut net, |from, received| {
                assert_eq!((from, from.slot(), from.is_rtcp()), (token, 3, true));
                let Received::Datagram(datagram) = received else {
                    assert_eq!(seen, 20, "only the oversized one is dropped");
                    return true;
                };
                assert_eq!(datagram.bytes, [seen; 33]);
                assert_eq!(datagram.source, sender.local_addr().unwrap());
                let slack = Duration::from_millis(1); // two clocks read one after the other
                assert!(datagram.arrival + slack >= before && datagram.arrival <= after + slack);
                seen += 1;
                false
            });
            net.remove(token, &receiver);
        }
    }
}

#[test]
fn packets_are_sent_and_those_that_cannot_be_are_told() {
    for mut net in ways(100) {
        let (here, there) = (bound("127.0.0.1:0"), bound("127.0.0.1:0"));
        let (token, to) = (Token::new(1, false), there.local_addr().unwrap());
        net.add(token, &here);
        for n in 0..100_u8 {
            net.send(token, &here, &[n; 172], to);
        }
        // port 0 is nobody, and a datagram has at most 65,507 bytes
        net.send(token, &here, &[1; 172], SocketAddr::from(([127, 0, 0, 1], 0)));
        net.send(token, &here, &[1; 70_000], to);
        net.flush();
        let mut bytes = [0; 2048];
        for n in 0..100_u8 {
            let (length, from) = there.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..length], from), (&[n; 172][..], here.local_addr().unwrap()), "in order");
        }
        net.receive(&mut |_, _| {});
        let failed: Vec<Token> = std::iter::from_fn(|| net.poll_failed()).collect();
        assert_eq!(failed, [token; 2]);
    }
}

#[test]
fn case_17_a_flood_on_one_socket_leaves_the_others_their_turn() {
    for mut net in ways(8) {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets: Vec<UdpSocket> = (0..16).map(|_| bound("127.0.0.1:0")).collect();
        for (n, socket) in sockets.iter().enumerate() {
            net.add(Token::new(n / 2, n % 2 == 1), socket);
        }
        net.receive(&mut |_, _| {});
        // the kernel keeps as many as its buffer holds
        for _ in 0..5_000 {
            let _ = sender.send_to(&[0; 172], sockets[0].local_addr().unwrap());
        }
        for socket in &sockets[1..] {
            sender.send_to(&[1; 172], socket.local_addr().unwrap()).unwrap();
        }
        let mut heard = [0_usize; 16];
        let mut ticks = 0;
        while heard[1..].contains(&0) {
            let before: usize = heard.iter().sum();
            net.receive(&mut |token, received| {
                assert!(matches!(received, Received::Datagram(_)));
                heard[token.slot() * 2 + usize::from(token.is_rtcp())] += 1;
            });
            assert!(heard.iter().sum::<usize>() - before <= 2 * TICK_SHARE, "a tick's share is bounded");
            ticks += 1;
            assert!(ticks < 5, "{heard:?}");
        }
        assert_eq!(heard[1..], [1; 15]);
    }
}

#[test]
fn case_38_a_socket_that_is_gone_says_nothing_to_the_next_one_in_its_place() {
    for mut net in ways(2) {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let token = Token::new(0, false);
        for round in 0..50_u8 {
            let socket = bound("127.0.0.1:0");
            net.add(token, &socket);
            let mut heard = None;
            net.receive(&mut |_, _| {});
            sender.send_to(&[round; 9], socket.local_addr().unwrap()).unwrap();
            receive_until(&mut net, |_, received| {
                if let Received::Datagram(datagram) = received {
                    heard = Some(datagram.bytes.to_vec());
                }
                true
            });
            assert_eq!(heard.as_deref(), Some(&[round; 9][..]));
            // what comes while it is being taken away
            sender.send_to(&[99; 9], socket.local_addr().unwrap()).unwrap();
            net.remove(token, &socket);
        }
    }
}

#[test]
fn a_port_is_free_again_once_its_socket_was_removed_and_a_tick_has_passed() {
    for mut net in ways(2) {
        let socket = bound("127.0.0.1:0");
        let (address, token) = (socket.local_addr().unwrap(), Token::new(0, false));
        net.add(token, &socket);
        net.receive(&mut |_, _| {});
        net.remove(token, &socket);
        drop(socket);
        net.receive(&mut |_, _| {});
        let again = UdpSocket::bind(address).unwrap();
        net.add(token, &again);
        net.receive(&mut |_, _| {});
        drop((again, net));
        assert!(UdpSocket::bind(address).is_ok(), "and when all of it ends");
    }
}

#[test]
fn what_cannot_be_delivered_is_told_and_the_socket_goes_on() {
    for mut net in ways(2) {
        let here = bound("127.0.0.1:0");
        let ask = crate::icmp::option(&here.local_addr().unwrap());
        let (there, token) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Token::new(1, false));
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the value is an int of the length that is stated.
        let set = unsafe {
            libc::setsockopt(
                here.as_raw_fd(),
                ask.0,
                ask.1,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        assert_eq!(set, 0);
        net.add(token, &here);
        for round in 0..20_u8 {
            net.send(token, &here, b"to nobody", nobody);
            net.flush();
            receive_until(&mut net, |from, received| {
                assert_eq!(from, token);
                matches!(received, Received::Error) && crate::icmp::take_unreachable(&here)
            });
            net.send(token, &here, &[round; 9], there.local_addr().unwrap());
            net.flush();
            let mut bytes = [0; 64];
            assert_eq!(there.recv(&mut bytes).unwrap(), 9, "the next packet is sent");
            there.send_to(&[round; 7], here.local_addr().unwrap()).unwrap();
            receive_until(&mut net, |_, received| matches!(received, Received::Datagram(d) if d.bytes == [round; 7]));
            assert_eq!(net.poll_failed(), None);
        }
    }
}

#[test]
fn addresses_are_written_as_they_are_read() {
    for text in ["192.0.2.7:4000", "[2001:db8::7]:65535", "[fe80::1%3]:9"] {
        let address: SocketAddr = text.parse().unwrap();
        let (bytes, length) = sockaddr(address);
        assert_eq!(source(&bytes[..length]), Some(address));
        for cut in 0..length.min(8) {
            assert_eq!(source(&bytes[..cut]), None);
        }
    }
    let (mapped, _) = sockaddr("[::ffff:192.0.2.7]:4000".parse().unwrap());
    assert_eq!(source(&mapped), Some("192.0.2.7:4000".parse().unwrap()));
    assert_eq!((source(&[0; 28]), timestamp(&[]), timestamp(&[0; 32])), (None, None, None));
}
