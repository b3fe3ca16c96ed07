//! Our public address, asked of STUN servers that the test plays.

mod common;
mod net;

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use common::{
    Link, MINUTE, Net, Seen, address, dial, header,
    peer::{peer, response},
    udp,
};
use mr_sip_signaling::{Account, Event, Password, SignalingError, UserAgent, UserAgentConfig, guard::Strangers};
use proptest::{collection::vec, prelude::*};

const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

const ONE: &str = "198.51.100.1:3478";
const TWO: &str = "198.51.100.2:3479";
const PUBLIC: &str = "203.0.113.7:40001";
const OTHER: &str = "203.0.113.7:40002";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A STUN message with one attribute.
fn message(kind: u16, id: &[u8], attribute: u16, value: &[u8]) -> Vec<u8> {
    let padded = value.len().next_multiple_of(4);
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((padded as u16 + 4).to_be_bytes());
    bytes.extend([0x21, 0x12, 0xA4, 0x42]);
    bytes.extend(id);
    bytes.extend(attribute.to_be_bytes());
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes.resize(24 + padded, 0);
    bytes
}

/// The answer to a request: it came from this (IPv4) address.
fn mapped(id: &[u8], address: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(address) = address else { panic!("of IPv4") };
    let mut value = vec![0, 1];
    value.extend((address.port() ^ 0x2112).to_be_bytes());
    value.extend((address.ip().to_bits() ^ 0x2112_A442).to_be_bytes());
    message(SUCCESS, id, 0x0020, &value)
}

/// The transaction id of a Binding request.
fn id_of(request: &[u8]) -> Option<[u8; 12]> {
    let (header, id) = request.split_at_checked(8)?;
    (header == [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]).then(|| id.try_into().ok())?
}

/// One agent, driven to the next thing that it does; what goes to no server of STUN is kept.
struct World {
    agent: UserAgent,
    now: std::time::Instant,
    start: std::time::Instant,
    /// Servers and what each answers; others are silent.
    servers: Vec<(SocketAddr, SocketAddr)>,
    /// When, to whom and with which id requests went.
    asked: Vec<(Duration, SocketAddr, [u8; 12])>,
    events: Vec<Event>,
    /// SIP that was sent.
    sip: Vec<Seen>,
}

impl World {
    fn new(servers: &[&str], change: impl FnOnce(&mut UserAgentConfig)) -> World {
        let mut config = UserAgentConfig::new(address(1));
        config.stun_servers = servers.iter().map(|s| (*s).to_owned()).collect();
        config.guard.strangers = Strangers::Answer;
        change(&mut config);
        let now = std::time::Instant::now();
        let agent = UserAgent::new(config, [7; 32]).expect("a good configuration");
        World { agent, now, start: now, servers: Vec::new(), asked: Vec::new(), events: Vec::new(), sip: Vec::new() }
    }

    fn answering(mut self, server: &str, address: &str) -> World {
        self.answers(server, Some(address));
        self
    }

    fn answers(&mut self, server: &str, address: Option<&str>) {
        self.servers.retain(|(s, _)| *s != at(server));
        self.servers.extend(address.map(|address| (at(server), at(address))));
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.agent.poll_transmit() {
            let to = transmit.to.address;
            let sent = self.now - self.start;
            let Some(id) = id_of(&transmit.bytes) else {
                let text = String::from_utf8_lossy(&transmit.bytes).into_owned();
                let transport = transmit.to.transport;
                self.sip.push(Seen { at: sent, from: address(1), to, transport, text });
                continue;
            };
            self.asked.push((sent, to, id));
            if let Some((_, address)) = self.servers.iter().find(|(server, _)| *server == to) {
                let bytes = mapped(&id, *address);
                self.agent.handle_datagram(self.now, to, &bytes);
            }
        }
        while let Some(event) = self.agent.poll_event() {
            self.events.push(event);
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        if self.asked.is_empty() {
            self.agent.handle_timeout(self.now);
        }
        self.collect();
        while let Some(next) = self.agent.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(next);
            self.agent.handle_timeout(self.now);
            self.collect();
        }
        self.now = until;
    }

    fn says(&mut self, from: &str, bytes: &[u8]) {
        self.agent.handle_datagram(self.now, at(from), bytes);
        self.collect();
    }

    /// Addresses that were told, and failures, since the last time this was asked.
    fn told(&mut self) -> Vec<String> {
        let tell = |event: Event| match event {
            Event::PublicAddress { address, symmetric: false } => Some(address.to_string()),
            Event::PublicAddress { address, symmetric: true } => Some(format!("{address} symmetric")),
            Event::StunFailed { reason } => Some(reason),
            _ => None,
        };
        std::mem::take(&mut self.events).into_iter().filter_map(tell).collect()
    }

    /// The seconds at which a server was asked.
    fn times(&self, server: &str) -> Vec<f64> {
        self.asked.iter().filter(|(_, to, _)| *to == at(server)).map(|(at, ..)| at.as_secs_f64()).collect()
    }

    fn last_id(&self) -> [u8; 12] {
        self.asked.last().expect("a request").2
    }

    /// The registrar answers the last REGISTER, which it saw come from there. Its Contact.
    fn register(&mut self, seen: Option<SocketAddr>) -> String {
        let mut request = self.sip.iter().rfind(|s| s.kind() == "REGISTER").expect("a REGISTER").clone();
        self.sip.clear();
        let contact = header(&request.text, "Contact").unwrap().to_owned();
        if let Some(seen) = seen {
            let marked = format!(";received={};rport={};branch", seen.ip(), seen.port());
            request.text = request.text.replace(";rport;branch", &marked);
        }
        let ok = response(&request, "200 OK", "r", &format!("Contact: {contact};expires=3600\r\n"), "");
        self.agent.handle_datagram(self.now, request.to, &ok);
        self.collect();
        contact
    }

    /// REGISTERs that were sent and not answered.
    fn registers(&self) -> usize {
        self.sip.iter().filter(|s| s.kind() == "REGISTER").count()
    }
}

const REGISTRAR: &str = "198.51.100.50";

fn with_account(config: &mut UserAgentConfig) {
    config.accounts = vec![Account::new("pbx", REGISTRAR, "alice", Password::new("wonderland"))];
}

#[test]
fn the_address_is_told_once_and_asked_for_every_25_seconds_with_a_new_id_each_time() {
    let mut world = World::new(&[ONE], |_| {}).answering(ONE, PUBLIC);
    world.run(MINUTE);
    assert_eq!(world.told(), [PUBLIC]);
    assert_eq!(world.agent.public_address(), Some(at(PUBLIC)));
    assert_eq!(world.times(ONE), [0.0, 25.0, 50.0]);
    let mut ids: Vec<_> = world.asked.iter().map(|(_, _, id)| *id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    world.answers(ONE, Some(OTHER));
    world.run(MINUTE);
    assert_eq!(world.told(), [OTHER]);
}

#[test]
fn a_silent_server_is_asked_by_the_rfc_s_timers_and_told_of_once_until_it_answers() {
    let mut world = World::new(&[ONE], |_| {});
    world.run(SECOND * 39);
    assert_eq!(world.times(ONE), [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]);
    assert!(world.told().is_empty());
    world.run(HOUR);
    assert_eq!(world.told(), ["STUN server 198.51.100.1 does not answer"]);
    assert_eq!(world.agent.public_address(), None);
    world.answers(ONE, Some(PUBLIC));
    world.run(MINUTE);
    assert_eq!(world.told(), [PUBLIC]);
    world.answers(ONE, None);
    world.run(HOUR);
    assert_eq!(world.told().len(), 1);
    assert_eq!(world.agent.public_address(), Some(at(PUBLIC)), "the last one is more likely right than none");
    world.answers(ONE, Some(PUBLIC));
    world.run(MINUTE);
    assert_eq!(world.told(), [PUBLIC], "the same address, but it is known again");
}

#[test]
fn the_next_server_is_believed_when_the_first_does_not_answer() {
    let mut world = World::new(&[ONE, TWO], |_| {}).answering(TWO, PUBLIC);
    world.run(SECOND);
    assert_eq!(world.told(), [PUBLIC]);
    world.run(HOUR);
    assert!(world.told().is_empty(), "one that answers is enough");
    // and back, when the one that was believed fails
    world.answers(ONE, Some(PUBLIC));
    world.run(MINUTE);
    world.answers(TWO, None);
    world.answers(ONE, Some(OTHER));
    world.run(MINUTE * 2);
    assert_eq!(world.told().last().map(String::as_str), Some(OTHER));
}

#[test]
fn a_nat_with_an_address_for_each_destination_is_told_of() {
    let mut world = World::new(&[ONE, TWO], |_| {}).answering(ONE, PUBLIC).answering(TWO, OTHER);
    world.run(HOUR);
    assert_eq!(world.told(), [PUBLIC.to_owned(), format!("{PUBLIC} symmetric")]);
    world.answers(TWO, Some(PUBLIC));
    world.run(MINUTE);
    assert_eq!(world.told(), [PUBLIC]);
}

#[test]
fn a_nat_that_moves_is_not_taken_for_a_symmetric_one() {
    let mut world = World::new(&[ONE, TWO], |_| {}).answering(ONE, PUBLIC).answering(TWO, PUBLIC);
    world.run(MINUTE);
    world.answers(ONE, Some(OTHER));
    world.answers(TWO, Some(OTHER));
    world.run(MINUTE);
    assert_eq!(world.told(), [PUBLIC, OTHER]);
}

#[test]
fn a_server_s_error_is_told_in_its_words() {
    let mut world = World::new(&[ONE], |_| {});
    world.run(Duration::ZERO);
    let id = world.last_id();
    world.says(ONE, &message(ERROR, &id, 9, b"\0\0\x04\x01Unauthorized"));
    assert_eq!(world.told(), ["STUN server 198.51.100.1 answers 401 Unauthorized"]);
    world.run(SECOND * 24);
    assert_eq!(world.asked.len(), 1, "not before the next round");
}

#[test]
fn a_server_that_is_not_there_is_given_up_when_the_system_says_so_twice() {
    let mut world = World::new(&[ONE], |_| {});
    world.run(Duration::ZERO);
    world.agent.handle_unreachable(world.now, at(TWO));
    world.agent.handle_unreachable(world.now, at(TWO));
    world.agent.handle_unreachable(world.now, at(ONE));
    world.run(SECOND);
    assert!(world.told().is_empty());
    world.agent.handle_unreachable(world.now, at(ONE));
    world.run(SECOND);
    assert_eq!(world.told(), ["STUN server 198.51.100.1 is not there, or there is no way there"]);
}

#[test]
fn case_27_only_the_asked_server_s_answer_with_the_request_s_id_is_believed() {
    let mut world = World::new(&[ONE], |_| {});
    world.run(Duration::ZERO);
    let id = world.last_id();
    let mut wrong = id;
    wrong[11] ^= 1;
    world.says("198.51.100.9:3478", &mapped(&id, at(OTHER)));
    world.says("198.51.100.1:3479", &mapped(&id, at(OTHER)));
    world.says(ONE, &mapped(&wrong, at(OTHER)));
    world.says(ONE, &mapped(&id, at(OTHER))[..30]);
    assert!(world.told().is_empty());
    assert_eq!(world.agent.counters().stun_dropped, 4);
    world.says(ONE, &mapped(&id, at(PUBLIC)));
    assert_eq!(world.told(), [PUBLIC]);
    // the answer to a request that is answered is one to none
    world.says(ONE, &mapped(&id, at(OTHER)));
    assert!(world.told().is_empty());
    assert_eq!(world.agent.counters().stun_dropped, 5);
}

#[test]
fn case_27_requests_of_strangers_are_not_answered_and_ban_nobody() {
    let mut world = World::new(&[], |config| config.guard.strangers = Strangers::Refuse);
    let request = [b"\0\x01\0\0\x21\x12\xA4\x42".as_slice(), &[9; 12]].concat();
    for n in 0..1000 {
        world.says("198.51.100.77:5060", &request[..20 - n % 20]);
    }
    assert!(world.asked.is_empty() && world.sip.is_empty() && world.events.is_empty());
    let counted = world.agent.counters();
    assert_eq!((counted.stun_dropped, counted.malformed), (1000, 0));
    assert!(world.agent.bans(world.now).is_empty());
    assert_eq!(world.agent.poll_timeout(), None, "nothing is kept of it");
}

#[test]
fn a_name_is_looked_up_by_its_address_records_and_each_address_tried() {
    let mut world = World::new(&["stun.example.com"], |_| {}).answering(TWO, PUBLIC);
    world.run(SECOND);
    let question = world.agent.poll_resolve().expect("a question");
    assert_eq!((question.host.as_str(), question.port), ("stun.example.com", Some(3478)));
    assert!(world.agent.is_idle(), "nobody's call waits for it");
    world.agent.handle_resolved(world.now, question.id, &[udp(ONE), udp(TWO)], HOUR);
    world.run(MINUTE);
    assert_eq!(world.told(), [PUBLIC]);
    // the one that did not answer comes last from now on
    let asked_first = world.times(ONE).len();
    world.run(SECOND * 50);
    assert_eq!(world.times(ONE).len(), asked_first);
}

#[test]
fn a_name_that_is_not_found_is_told_of_and_looked_up_again() {
    let mut world = World::new(&["nowhere.example.com"], |_| {}).answering(ONE, PUBLIC);
    world.run(SECOND);
    let question = world.agent.poll_resolve().expect("a question");
    world.agent.handle_resolved(world.now, question.id, &[], HOUR);
    world.run(SECOND);
    assert_eq!(world.told(), ["STUN server nowhere.example.com was not found"]);
    world.run(SECOND * 25);
    let question = world.agent.poll_resolve().expect("another question");
    world.agent.handle_resolved(world.now, question.id, &[udp(ONE)], HOUR);
    world.run(SECOND);
    assert_eq!(world.told(), [PUBLIC]);
}

#[test]
fn the_address_stands_in_the_contact_of_calls_but_not_in_via() {
    let mut world = World::new(&[ONE], |_| {}).answering(ONE, PUBLIC);
    world.run(SECOND);
    world.agent.dial(world.now, dial("sip:bob@198.51.100.60")).unwrap();
    world.run(Duration::ZERO);
    let invite = world.sip.remove(0);
    assert_eq!(header(&invite.text, "Contact"), Some("<sip:mr-sip@203.0.113.7:40001>"));
    assert!(header(&invite.text, "Via").unwrap().starts_with("SIP/2.0/UDP 10.0.0.1:5060;"));
    // somebody on our side of the NAT reaches us as we are
    world.agent.dial(world.now, dial("sip:bob@10.0.0.50")).unwrap();
    world.run(Duration::ZERO);
    let invite = world.sip.iter().find(|s| s.to == peer()).expect("an INVITE");
    assert_eq!(header(&invite.text, "Contact"), Some("<sip:mr-sip@10.0.0.1:5060>"));
}

#[test]
fn a_configured_address_goes_before_one_that_was_found() {
    let advertised = "192.0.2.99:5070";
    let mut world = World::new(&[ONE], |config| {
        config.advertised = Some(at(advertised));
        with_account(config);
    })
    .answering(ONE, PUBLIC);
    world.run(SECOND);
    assert_eq!(world.register(None), format!("<sip:alice@{advertised}>"));
    world.answers(ONE, Some(OTHER));
    world.run(MINUTE);
    assert_eq!(world.registers(), 0);
    assert_eq!(world.told(), [PUBLIC, OTHER], "the application is told all the same");
}

#[test]
fn accounts_register_anew_when_the_address_is_found_and_when_it_changes() {
    let mut world = World::new(&[ONE], with_account);
    world.run(Duration::ZERO);
    assert_eq!(world.register(None), "<sip:alice@10.0.0.1:5060>");
    world.answers(ONE, Some(PUBLIC));
    world.run(SECOND);
    assert_eq!(world.register(None), format!("<sip:alice@{PUBLIC}>"));
    world.run(MINUTE * 2);
    assert_eq!(world.registers(), 0);
    world.answers(ONE, Some(OTHER));
    world.run(SECOND * 26);
    assert_eq!(world.register(None), format!("<sip:alice@{OTHER}>"));
}

#[test]
fn an_address_found_while_the_first_register_is_under_way_is_made_up_for() {
    let mut world = World::new(&[ONE], with_account);
    world.run(Duration::ZERO);
    let id = world.last_id();
    world.says(ONE, &mapped(&id, at(PUBLIC)));
    assert_eq!(world.register(None), "<sip:alice@10.0.0.1:5060>");
    world.run(Duration::ZERO);
    assert_eq!(world.register(None), format!("<sip:alice@{PUBLIC}>"));
    world.run(MINUTE * 5);
    assert_eq!(world.registers(), 0);
}

#[test]
fn what_the_registrar_saw_goes_first_until_the_nat_has_moved() {
    let mut world = World::new(&[ONE], with_account).answering(ONE, PUBLIC);
    world.run(Duration::ZERO);
    let seen = at("203.0.113.7:50000");
    world.register(Some(seen));
    world.run(Duration::ZERO);
    assert_eq!(world.register(Some(seen)), format!("<sip:alice@{seen}>"));
    world.run(MINUTE * 2);
    assert_eq!(world.registers(), 0);
    world.answers(ONE, Some("203.0.113.8:40001"));
    world.run(SECOND * 26);
    let moved = at("203.0.113.8:50000");
    assert_eq!(world.register(Some(moved)), "<sip:alice@203.0.113.8:40001>");
    world.run(MINUTE);
    assert_eq!(world.register(Some(moved)), format!("<sip:alice@{moved}>"));
    world.run(MINUTE * 5);
    assert_eq!(world.registers(), 0);
}

#[test]
fn a_nat_that_changes_its_mind_all_the_time_makes_one_register_a_minute() {
    let mut world = World::new(&[ONE], with_account).answering(ONE, PUBLIC);
    world.run(SECOND);
    let mut registers = 0;
    for n in 0..HOUR.as_secs() / 5 {
        world.answers(ONE, Some(&format!("203.0.113.7:{}", 20_000 + n)));
        world.run(SECOND * 5);
        if world.registers() > 0 {
            registers += 1;
            world.register(None);
        }
    }
    assert!((50..=62).contains(&registers), "{registers} in an hour");
}

#[test]
fn servers_that_cannot_be_asked_are_errors_of_the_configuration() {
    let made = |servers: Vec<String>| {
        let mut config = UserAgentConfig::new(address(1));
        config.stun_servers = servers;
        UserAgent::new(config, [0; 32])
    };
    for bad in ["", "stun server", "stun.example.com:port", "stun.example.com:0"] {
        let error = made(vec![bad.into()]).unwrap_err();
        assert!(matches!(&error, SignalingError::BadConfig { field, .. } if field.contains("stun_servers")), "{error}");
    }
    assert!(made(vec!["stun.example.com".into(); 9]).is_err());
    assert!(made(vec!["stun.example.com".into(), "[2001:db8::1]:3479".into()]).is_ok());
}

#[test]
fn nothing_is_asked_after_the_shutdown() {
    let mut world = World::new(&[ONE, "stun.example.com"], |_| {});
    world.run(SECOND);
    let question = world.agent.poll_resolve().expect("a question");
    world.agent.shutdown(world.now);
    world.agent.handle_resolved(world.now, question.id, &[udp(TWO)], HOUR);
    let asked = world.asked.len();
    world.run(HOUR);
    assert_eq!(world.asked.len(), asked);
    assert!(world.agent.is_idle() && world.agent.poll_timeout().is_none());
}

#[test]
fn calls_go_on_while_servers_are_asked() {
    let configs =
        (1..=2).map(|n| UserAgentConfig { stun_servers: vec![ONE.into()], ..UserAgentConfig::new(address(n)) });
    let mut net = Net::new(configs.collect(), Link::AWFUL, 3);
    for agent in &mut net.agents {
        agent.handle_timeout(net.now);
    }
    let (ours, theirs) = net.call_up();
    net.run(MINUTE * 3);
    assert!(net.live(0, ours) && net.live(1, theirs));
}

proptest! {
    #[test]
    fn case_27_no_datagram_from_the_asked_server_does_more_than_end_the_round(
        datagrams in vec((0_u8..4, vec(any::<u8>(), 0..60), any::<bool>()), 1..20),
    ) {
        let mut world = World::new(&[ONE], |_| {});
        world.run(Duration::ZERO);
        let id = world.last_id();
        for (first, rest, with_id) in datagrams {
            let mut bytes = vec![first];
            bytes.extend(rest);
            if with_id && bytes.len() >= 20 {
                bytes[1] |= 1;
                let length = (bytes.len() as u16 - 20).to_be_bytes();
                bytes[2..4].copy_from_slice(&length);
                bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
                bytes[8..20].copy_from_slice(&id);
            }
            world.says(ONE, &bytes);
        }
        world.run(MINUTE);
        world.answers(ONE, Some(PUBLIC));
        world.run(MINUTE);
        prop_assert_eq!(world.agent.public_address(), Some(at(PUBLIC)));
    }
}

#[test]
fn an_endpoint_asks_a_server_by_name_from_its_sip_socket_and_tells_its_address() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(net::LIMIT)).unwrap();
    let mut config = net::config();
    config.agent.stun_servers = vec![format!("localhost:{}", server.local_addr().unwrap().port())];
    let endpoint = net::start_with(config);
    let mut buffer = [0; 100];
    let (length, from) = server.recv_from(&mut buffer).expect("a request");
    let id = id_of(&buffer[..length]).expect("a Binding request");
    assert_eq!(from, endpoint.local_addr());
    // somebody else answers first
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&mapped(&id, at(OTHER)), from).unwrap();
    net::until("dropped", || endpoint.stats().stun_dropped == 1);
    server.send_to(&mapped(&id, from), from).unwrap();
    let told = net::wait(&endpoint, |event| match event {
        Event::PublicAddress { address, symmetric } => Some((*address, *symmetric)),
        _ => None,
    });
    assert_eq!(told, (from, false));
}
