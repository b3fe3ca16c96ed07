//! Real sockets on loopback, time as it is told: a deadline passes in no time.

use std::{
    io::{Read, Write},
    net::TcpStream as Socket,
};

use mio::{Events, Poll};

use super::*;
use crate::{
    guard::{Guard, GuardConfig},
    net::TlsConfig,
};

/// How long a test waits for the kernel, which is never long; only a test that fails waits.
const PATIENCE: Duration = Duration::from_secs(10);

struct House {
    poll: Poll,
    streams: Streams,
    /// Virtual; the kernel does not know it.
    now: Instant,
    address: SocketAddr,
    guard: Guard,
    needed: bool,
    seen: Vec<StreamEvent>,
}

impl House {
    fn new(limits: StreamLimits) -> House {
        House::guarded(limits, GuardConfig::default())
    }

    fn guarded(limits: StreamLimits, guard: GuardConfig) -> House {
        let guard = Guard::new(guard, [7; 32]).unwrap();
        let poll = Poll::new().unwrap();
        let tls = Tls::new(&TlsConfig::default()).unwrap();
        let local = IpAddr::from([127, 0, 0, 1]);
        let mut streams = Streams::new(poll.registry().try_clone().unwrap(), limits, tls, local);
        let listener = TcpListener::bind(SocketAddr::new(local, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        streams.listen(listener, Transport::Tcp).unwrap();
        House { poll, streams, now: Instant::now(), address, guard, needed: false, seen: Vec::new() }
    }

    fn turn(&mut self) {
        let mut ready = Events::with_capacity(64);
        self.poll.poll(&mut ready, Some(Duration::from_millis(1))).unwrap();
        for event in &ready {
            self.streams.handle_readiness(self.now, event);
        }
        let needed = self.needed;
        self.streams.handle_timeout(self.now, &|_, _| needed);
        let (now, guard) = (self.now, &mut self.guard);
        self.streams.turn(now, &mut |ip| guard.admit_connection(now, ip));
        while let Some(event) = self.streams.poll() {
            match event {
                StreamEvent::Left { seat } => self.guard.leave(seat),
                event => self.seen.push(event),
            }
        }
    }

    /// Turns until it is so.
    #[track_caller]
    fn until(&mut self, what: &str, is: impl Fn(&House) -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !is(self) {
            assert!(Instant::now() < limit, "never {what}: {:?}, {:?}", self.streams.stats(), self.seen);
            self.turn();
        }
    }

    fn visitor(&mut self) -> Visitor {
        let before = self.streams.stats();
        let socket = Socket::connect(self.address).unwrap();
        self.until("taken in", |h| {
            h.streams.stats().accepted + h.streams.stats().refused > before.accepted + before.refused
        });
        Visitor(socket)
    }

    fn messages(&self) -> Vec<String> {
        let text = |e: &StreamEvent| match e {
            StreamEvent::Message { bytes, .. } => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        };
        self.seen.iter().filter_map(text).collect()
    }

    fn closed(&self) -> Vec<(Option<ConnectionId>, String)> {
        let gone = |e: &StreamEvent| match e {
            StreamEvent::Closed { peer, reason } => Some((peer.connection, reason.clone())),
            _ => None,
        };
        self.seen.iter().filter_map(gone).collect()
    }

    fn offences(&self) -> Vec<Offence> {
        let offence = |e: &StreamEvent| match e {
            StreamEvent::Offended { offence, .. } => Some(*offence),
            _ => None,
        };
        self.seen.iter().filter_map(offence).collect()
    }

    /// Who sent the first message.
    fn sender(&self) -> Peer {
        let from = |e: &StreamEvent| match e {
            StreamEvent::Message { from, .. } => Some(from.clone()),
            _ => None,
        };
        self.seen.iter().find_map(from).expect("a message")
    }

    #[track_caller]
    fn received(&mut self, count: usize) -> Vec<String> {
        self.until("received", |h| h.messages().len() >= count);
        self.messages()
    }
}

struct Visitor(Socket);

impl Visitor {
    fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// The house has closed it.
    fn is_out(&mut self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        match self.0.read(&mut [0; 64]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

fn message(number: u32, body: &str) -> String {
    format!("OPTIONS sip:x@y SIP/2.0\r\nCSeq: {number} OPTIONS\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn tcp(address: SocketAddr) -> Peer {
    Peer { transport: Transport::Tcp, address, connection: None, name: None }
}

#[test]
fn messages_come_whole_however_they_are_cut() {
    let mut house = House::new(StreamLimits::default());
    let mut visitor = house.visitor();
    let (one, two) = (message(1, "body"), message(2, ""));
    visitor.say(&format!("{one}{two}"));
    assert_eq!(house.received(2), [one.clone(), two.clone()]);
    visitor.0.set_nodelay(true).unwrap();
    for byte in one.bytes() {
        visitor.0.write_all(&[byte]).unwrap();
        house.turn();
    }
    assert_eq!(house.received(3)[2], one);
    let (begin, end) = two.split_at(40);
    visitor.say(begin);
    house.turn();
    visitor.say(end);
    assert_eq!(house.received(4)[3], two);
}

#[test]
fn a_ping_is_answered_with_a_pong() {
    let mut house = House::new(StreamLimits::default());
    let mut visitor = house.visitor();
    visitor.say("\r\n\r\n");
    visitor.say(&message(1, ""));
    house.received(1);
    let mut answer = [0; 2];
    visitor.0.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\r\n");
}

#[test]
fn case_18_a_message_that_is_begun_must_end_in_time() {
    let mut house = House::new(StreamLimits::default());
    let mut visitor = house.visitor();
    visitor.say(&message(1, ""));
    house.received(1);
    visitor.say("INVITE sip:x@y SIP/2.0\r\n");
    house.until("begun", |h| {
        h.streams.connections.values().any(|c| c.deadline() <= Some(h.now + Duration::from_secs(10)))
    });
    // a header now and then does not help
    house.now += Duration::from_secs(6);
    visitor.say("Subject: slowly\r\n");
    house.turn();
    assert!(house.closed().is_empty());
    house.now += Duration::from_secs(5);
    house.until("closed", |h| !h.closed().is_empty());
    assert!(house.closed()[0].1.contains("began a message"), "{:?}", house.closed());
    assert!(visitor.is_out());
    assert_eq!(house.offences(), [Offence::SlowConnection]);
}

#[test]
fn case_18_who_says_nothing_is_shown_out_and_nobody_is_told() {
    let mut house = House::new(StreamLimits::default());
    let mut visitor = house.visitor();
    house.now += Duration::from_secs(29);
    // keep-alives are no message
    visitor.say("\r\n\r\n");
    house.turn();
    assert_eq!(house.streams.stats().open, 1);
    house.now += Duration::from_secs(2);
    house.until("closed", |h| h.streams.stats().open == 0);
    house.turn();
    assert!(house.closed().is_empty(), "{:?}", house.seen);
    assert_eq!(house.offences(), [Offence::SlowConnection]);
    assert_eq!(house.streams.accepted, 0);
    assert!(house.streams.places.is_empty());
}

#[test]
fn case_18_who_the_guard_does_not_let_in_is_closed_at_once_and_seats_come_back() {
    let strict = GuardConfig { trusted: Vec::new(), connections_per_address: 3, ..GuardConfig::default() };
    let mut house = House::guarded(StreamLimits::default(), strict);
    let inside: Vec<_> = (0..3).map(|_| house.visitor()).collect();
    let mut outside = house.visitor();
    assert_eq!(house.streams.stats().refused, 1);
    assert!(outside.is_out());
    drop(inside);
    house.until("empty", |h| h.streams.stats().open == 0);
    house.turn();
    house.visitor();
    assert_eq!((house.streams.stats().open, house.streams.stats().refused), (1, 1));
}

#[test]
fn there_are_so_many_connections_even_for_the_trusted() {
    let mut house = House::new(StreamLimits { accepted: 5, ..StreamLimits::default() });
    let _inside: Vec<_> = (0..5).map(|_| house.visitor()).collect();
    house.visitor();
    assert_eq!((house.streams.stats().open, house.streams.stats().refused), (5, 1));
}

#[test]
fn an_idle_connection_goes_unless_a_call_needs_it() {
    let mut house = House::new(StreamLimits::default());
    let mut visitor = house.visitor();
    visitor.say(&message(1, ""));
    house.received(1);
    house.needed = true;
    for _ in 0..3 {
        house.now += Duration::from_secs(601);
        house.turn();
    }
    assert_eq!(house.streams.stats().open, 1);
    // keep-alives keep it, too
    house.needed = false;
    house.now += Duration::from_secs(599);
    visitor.say("\r\n\r\n");
    house.until("pinged", |h| h.streams.connections.values().all(|c| c.last_used() == h.now));
    house.now += Duration::from_secs(599);
    house.turn();
    assert_eq!(house.streams.stats().open, 1);
    house.now += Duration::from_secs(2);
    house.until("closed", |h| h.closed().len() == 1);
    assert!(house.closed()[0].0.is_some());
}

#[test]
fn case_4_a_stream_that_cannot_be_followed_is_closed() {
    let lies = [
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 4000000000\r\n",
        "Content-Length: x\r\n",
        "",
    ];
    for (i, lie) in lies.iter().enumerate() {
        let mut house = House::new(StreamLimits::default());
        let mut visitor = house.visitor();
        visitor.say(&format!("{}OPTIONS sip:x@y SIP/2.0\r\n{lie}\r\n", message(1, "")));
        house.until("closed", |h| h.streams.stats().open == 0);
        assert_eq!(house.messages().len(), 1, "what came before is heard, {i}");
        house.turn();
        assert_eq!(house.offences(), [Offence::NotSip]);
    }
}

#[test]
fn a_far_end_that_does_not_read_is_given_up() {
    let mut house = House::new(StreamLimits::default());
    let mut visitor = house.visitor();
    visitor.say(&message(1, ""));
    house.received(1);
    let from = house.sender();
    let body = "x".repeat(60_000);
    for n in 0..1000 {
        house.streams.send(house.now, &from, message(n, &body).into_bytes());
        if house.streams.connections.is_empty() {
            break;
        }
    }
    house.turn();
    assert!(house.closed()[0].1.contains("does not take"), "{:?}", house.closed());
}

#[test]
fn a_far_end_that_stops_reading_is_given_up_after_a_while() {
    let mut house = House::new(StreamLimits { queue: usize::MAX, ..StreamLimits::default() });
    let mut visitor = house.visitor();
    visitor.say(&message(1, ""));
    house.received(1);
    let from = house.sender();
    house.streams.send(house.now, &from, vec![b'x'; 32 << 20]);
    assert!(!house.streams.is_flushed());
    house.now += Duration::from_secs(21);
    house.until("closed", |h| !h.closed().is_empty());
    assert!(house.closed()[0].1.contains("does not take"), "{:?}", house.closed());
}

#[test]
fn one_connection_serves_all_requests_to_a_place_and_a_new_one_is_made_when_it_is_gone() {
    let mut house = House::new(StreamLimits::default());
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = tcp(server.local_addr().unwrap());
    house.streams.send(house.now, &place, message(1, "").into_bytes());
    house.streams.send(house.now, &place, message(2, "").into_bytes());
    house.until("made", |h| h.streams.stats().made == 1 && h.streams.is_flushed());
    let (mut far, _) = server.accept().unwrap();
    let mut heard = vec![0; message(1, "").len() * 2];
    far.read_exact(&mut heard).unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), message(1, "") + &message(2, ""));
    drop(far);
    house.until("closed", |h| h.closed().len() == 1);
    let gone = house.closed()[0].0;
    assert!(gone.is_some());
    // by its number, too
    house.streams.send(house.now, &Peer { connection: gone, ..place }, message(3, "").into_bytes());
    house.until("made", |h| h.streams.stats().made == 2);
}

#[test]
fn what_cannot_be_connected_to_is_told_with_address_and_reason() {
    let mut house = House::new(StreamLimits::default());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    house.streams.send(house.now, &tcp(dead), message(1, "").into_bytes());
    house.until("told", |h| h.closed().len() == 1);
    assert_eq!(house.closed(), [(None, format!("cannot connect to {dead}: Connection refused"))]);
    assert_eq!(house.streams.stats().not_made, 1);
}

#[test]
fn a_far_end_that_answered_pings_and_stops_is_gone() {
    let mut house = House::new(StreamLimits::default());
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = tcp(server.local_addr().unwrap());
    house.streams.send(house.now, &place, message(1, "").into_bytes());
    house.until("made", |h| h.streams.stats().made == 1);
    let (mut far, _) = server.accept().unwrap();
    // one that never answers may do so
    house.streams.send(house.now, &place, PING.to_vec());
    house.now += Duration::from_secs(60);
    house.turn();
    assert_eq!(house.streams.stats().open, 1);
    far.write_all(b"\r\n").unwrap();
    house.until("ponged", |h| h.streams.connections.values().all(|c| c.last_used() == h.now));
    house.streams.send(house.now, &place, PING.to_vec());
    house.now += Duration::from_secs(11);
    house.until("closed", |h| h.closed().len() == 1);
    assert!(house.closed()[0].1.contains("keep-alives"), "{:?}", house.closed());
}

#[test]
fn the_longest_unused_connection_of_ours_makes_room() {
    let mut house = House::new(StreamLimits { made: 2, ..StreamLimits::default() });
    let servers: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    for (i, server) in servers.iter().enumerate() {
        house.now += Duration::from_secs(1);
        house.streams.send(house.now, &tcp(server.local_addr().unwrap()), message(1, "").into_bytes());
        house.until("made", |h| h.streams.stats().made == i as u64 + 1);
    }
    assert_eq!(house.streams.stats().open, 2);
    let place = tcp(servers[1].local_addr().unwrap());
    house.streams.send(house.now, &place, message(2, "").into_bytes());
    house.turn();
    assert_eq!(house.streams.stats().made, 3, "the second one is still there");
}
