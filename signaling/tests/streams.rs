//! Calls over TCP between endpoints, and endpoints against far ends that misbehave.

mod net;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use mr_sip_signaling::{
    Dial, EndCause, Event,
    net::{Command, Endpoint, EndpointConfig, TcpListen},
};
use net::{call_up, config, dial, ended, incoming, offer, start, start_with, until, wait};

fn over_tcp(to: &Endpoint) -> String {
    format!("sip:b@{};transport=tcp", to.tcp_addr().expect("TCP is on"))
}

#[test]
fn a_call_goes_over_tcp_both_ways_by_one_connection() {
    let (a, b) = (start(), start());
    assert_eq!(a.local_addr(), a.tcp_addr().unwrap(), "one port for UDP and TCP");
    let (call, _) = call_up(&a, &b, over_tcp(&b));
    a.command(Command::Hangup(call)).unwrap();
    assert_eq!((ended(&a).0, ended(&b).0), (EndCause::LocalHangup, EndCause::RemoteHangup));
    // and by the same one when the far end hangs up
    let (_, theirs) = call_up(&a, &b, over_tcp(&b));
    b.command(Command::Hangup(theirs)).unwrap();
    assert_eq!(ended(&a).0, EndCause::RemoteHangup);
    assert_eq!((a.stats().streams.made, b.stats().streams.accepted), (1, 1));
    assert_eq!((a.stats().sent, b.stats().sent), (0, 0), "nothing by UDP");
    let (call, _) = call_up(&b, &a, over_tcp(&a));
    b.command(Command::Hangup(call)).unwrap();
    assert_eq!(ended(&a).0, EndCause::RemoteHangup);
}

#[test]
fn many_calls_share_one_connection() {
    let (a, b) = (start(), start());
    for _ in 0..20 {
        let (call, _) = call_up(&a, &b, over_tcp(&b));
        a.command(Command::Hangup(call)).unwrap();
        ended(&a);
        ended(&b);
    }
    assert_eq!((a.stats().streams.made, b.stats().streams.accepted), (1, 1));
}

#[test]
fn an_invite_too_large_for_udp_goes_by_tcp() {
    let (a, b) = (start(), start());
    let mut sdp = offer();
    for i in 0..200 {
        sdp.push_str(&format!("a=x-filler:{i}\r\n"));
    }
    dial(&a, format!("sip:b@{}", b.local_addr()), sdp);
    let call = incoming(&b);
    b.command(Command::Answer { call, sdp: offer() }).unwrap();
    wait(&a, |e| matches!(e, Event::Answered { .. }).then_some(()));
    assert_eq!(a.stats().streams.made, 1);
}

#[test]
fn nobody_there_ends_the_call_at_once_with_the_reason() {
    let a = start();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    dial(&a, format!("sip:b@{dead};transport=tcp"), offer());
    let (cause, reason) = ended(&a);
    assert_eq!(cause, EndCause::Network);
    assert!(reason.contains("Connection refused") && reason.contains(&dead.to_string()), "{reason}");
}

/// A server that the test plays.
struct Played {
    socket: TcpStream,
    heard: String,
}

impl Played {
    fn accept(listener: &TcpListener) -> Played {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(net::LIMIT)).unwrap();
        Played { socket, heard: String::new() }
    }

    /// The next whole message.
    #[track_caller]
    fn next(&mut self) -> String {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.heard.find("\r\n\r\n") {
                let (head, rest) = self.heard.split_at(end + 4);
                let length: usize = field(head, "Content-Length").parse().unwrap();
                if rest.len() >= length {
                    let whole = self.heard[..end + 4 + length].to_owned();
                    self.heard.drain(..whole.len());
                    return whole;
                }
            }
            let length = self.socket.read(&mut buffer).expect("a message");
            assert!(length > 0, "closed after {:?}", self.heard);
            self.heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
    }

    fn answer(&mut self, request: &str, status: &str) {
        let text = response(request, status);
        self.socket.write_all(text.as_bytes()).unwrap();
    }
}

fn field<'a>(message: &'a str, name: &str) -> &'a str {
    let line = message.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {message}"))
}

fn response(request: &str, status: &str) -> String {
    let of = |name| field(request, name);
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=far\r\nCall-ID: {}\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
        of("Via"),
        of("From"),
        of("To"),
        of("Call-ID"),
        of("CSeq")
    )
}

#[test]
fn a_connection_that_the_server_closes_under_a_request_is_made_anew_and_the_request_arrives() {
    let a = start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("sip:b@{};transport=tcp", listener.local_addr().unwrap());
    dial(&a, to.clone(), offer());
    let mut far = Played::accept(&listener);
    let invite = far.next();
    assert!(invite.starts_with("INVITE"));
    far.answer(&invite, "486 Busy Here");
    assert_eq!(ended(&a).0, EndCause::Busy);
    assert!(far.next().starts_with("ACK"));
    // the next request is on its way by the idle connection when the server closes it
    dial(&a, to, offer());
    let lost = far.next();
    assert!(lost.starts_with("INVITE"));
    drop(far);
    let mut far = Played::accept(&listener);
    let again = far.next();
    assert_eq!(field(&again, "Call-ID"), field(&lost, "Call-ID"));
    far.answer(&again, "486 Busy Here");
    assert_eq!(ended(&a).0, EndCause::Busy);
    assert_eq!(a.stats().streams.made, 2);
}

const OPTIONS: &str = "OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKNUMBER\r\n\
    From: <sip:x@127.0.0.1>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: NUMBER\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\
    Content-Length: 0\r\n\r\n";

#[test]
fn responses_come_by_the_connection_of_their_request_however_it_is_cut() {
    let a = start();
    let socket = TcpStream::connect(a.tcp_addr().unwrap()).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(net::LIMIT)).unwrap();
    let mut far = Played { socket, heard: String::new() };
    for byte in OPTIONS.replace("NUMBER", "one").bytes() {
        far.socket.write_all(&[byte]).unwrap();
    }
    assert_eq!(field(&far.next(), "Call-ID"), "one");
    let both = OPTIONS.replace("NUMBER", "two") + &OPTIONS.replace("NUMBER", "three");
    let (begin, end) = both.split_at(both.len() - 10);
    far.socket.write_all(begin.as_bytes()).unwrap();
    assert_eq!(field(&far.next(), "Call-ID"), "two");
    far.socket.write_all(end.as_bytes()).unwrap();
    assert_eq!(field(&far.next(), "Call-ID"), "three");
}

#[test]
fn case_17_a_flood_of_datagrams_does_not_starve_connections_and_commands() {
    let (a, b) = (start(), start());
    let stop = Arc::new(AtomicBool::new(false));
    let target = b.local_addr();
    let flood = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let noise = OPTIONS.replace("NUMBER", "flood").replace("TCP", "UDP");
            while !stop.load(Relaxed) {
                // a full buffer is what is wanted
                let _ = socket.send_to(noise.as_bytes(), target);
            }
        })
    };
    until("flooded", || b.stats().received > 10_000);
    for _ in 0..3 {
        let (call, _) = call_up(&a, &b, over_tcp(&b));
        a.command(Command::Hangup(call)).unwrap();
        ended(&a);
        ended(&b);
    }
    stop.store(true, Relaxed);
    flood.join().unwrap();
}

#[test]
fn tcp_can_be_off_or_elsewhere_and_a_taken_port_is_told() {
    let off = start_with(EndpointConfig { tcp: TcpListen::Off, ..config() });
    assert_eq!(off.tcp_addr(), None);
    let elsewhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let at = start_with(EndpointConfig { tcp: TcpListen::At(elsewhere), ..config() });
    let taken = at.tcp_addr().unwrap();
    let failed = Endpoint::start(EndpointConfig { tcp: TcpListen::At(taken), ..config() }, || {});
    assert!(failed.unwrap_err().to_string().contains(&taken.to_string()));
    // with a fixed port UDP alone will do
    let udp_alone = start_with(EndpointConfig { bind: taken, ..config() });
    assert_eq!((udp_alone.local_addr(), udp_alone.tcp_addr()), (taken, None));
    let dial = Dial { to: over_tcp(&at), sdp: offer(), ..Dial::default() };
    off.command(Command::Dial { tag: 1, dial }).unwrap();
    incoming(&at);
}
