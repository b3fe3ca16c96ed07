//! User agents on a virtual clock, with a link between them that loses, reorders and repeats datagrams.
//!
//! Nothing sleeps: time jumps to whatever is due next, so hours of refreshing run in milliseconds, and a seed makes every
//! run the same.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the harness")]

pub mod peer;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mr_sip_signaling::{
    CallId, ConnectionId, Dial, EndCause, Event, Peer, Target, Transport, UserAgent, UserAgentConfig,
    guard::{GuardConfig, Strangers},
};

/// How the link treats datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub latency: Duration,
    /// Added at random, so that datagrams overtake one another.
    pub jitter: Duration,
    /// Of 1.
    pub loss: f64,
    pub duplicates: f64,
}

impl Link {
    pub const GOOD: Link =
        Link { latency: Duration::from_millis(10), jitter: Duration::ZERO, loss: 0.0, duplicates: 0.0 };
    pub const AWFUL: Link =
        Link { latency: Duration::from_millis(30), jitter: Duration::from_millis(120), loss: 0.25, duplicates: 0.15 };
}

/// A datagram as the link saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Since the start.
    pub at: Duration,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub transport: Transport,
    pub text: String,
}

impl Seen {
    /// "INVITE", or "200 INVITE" for a response.
    pub fn kind(&self) -> String {
        let first = self.text.lines().next().unwrap_or("");
        let mut words = first.split(' ');
        match (words.next(), words.next()) {
            (Some("SIP/2.0"), Some(status)) => {
                let method = header(&self.text, "CSeq").and_then(|c| c.split(' ').nth(1)).unwrap_or("?");
                format!("{status} {method}")
            }
            (Some(method), _) => method.to_owned(),
            _ => String::new(),
        }
    }
}

/// The first header of this name in a message.
pub fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

/// A server that was found by name, reached by UDP.
pub fn udp(address: &str) -> Target {
    Target { transport: Transport::Udp, address: address.parse().expect("an address") }
}

/// Who a message comes from, as its receiver sees it. Every agent listens where it sends from, over streams too; there is one
/// connection between two addresses.
fn source(from: SocketAddr, to: &Peer) -> Peer {
    let number = u64::from(from.port()) << 16 | u64::from(to.address.port());
    let connection = to.transport.is_reliable().then_some(ConnectionId(number));
    Peer { transport: to.transport, address: from, connection, name: None }
}

type Filter = Box<dyn FnMut(&Seen) -> bool>;

pub struct Net {
    pub start: Instant,
    pub now: Instant,
    pub agents: Vec<UserAgent>,
    pub addresses: Vec<SocketAddr>,
    /// What each agent has told and nobody has taken.
    pub events: Vec<Vec<Event>>,
    /// Everything that was sent, lost or not.
    pub seen: Vec<Seen>,
    /// What went to an address that is no agent's: a test plays that peer.
    pub outside: Vec<Seen>,
    pub link: Link,
    /// Datagrams that it says `true` to are lost.
    pub lose: Filter,
    /// No name is ever found; else names wait for the test to answer.
    pub nameless: bool,
    flying: BTreeMap<(Instant, u64), (Peer, SocketAddr, Vec<u8>)>,
    sequence: u64,
    chance: fastrand::Rng,
}

pub fn address(n: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)), 5060)
}

pub fn sdp(port: u16) -> String {
    let media = mr_sip_signaling::sdp::LocalMedia::new(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), port));
    mr_sip_signaling::sdp::offer(&media)
}

pub fn dial(to: impl Into<String>) -> Dial {
    Dial { account: None, to: to.into(), sdp: sdp(4000), ..Dial::default() }
}

impl Net {
    /// Agents at 10.0.0.1, 10.0.0.2, ... without accounts.
    pub fn of(count: u8, link: Link, seed: u64) -> Net {
        let configs = (1..=count).map(|n| UserAgentConfig::new(address(n))).collect();
        Net::new(configs, link, seed)
    }

    pub fn new(configs: Vec<UserAgentConfig>, link: Link, seed: u64) -> Net {
        let now = Instant::now();
        let addresses: Vec<_> = configs.iter().map(|c| c.local).collect();
        let agents: Vec<_> = configs
            .into_iter()
            .enumerate()
            .map(|(i, mut config)| {
                // whoever has not said how strangers are to be treated is not about that
                if config.guard == GuardConfig::default() {
                    config.guard.strangers = Strangers::Answer;
                    config.guard.trusted = vec!["0.0.0.0/0".parse().expect("a network")];
                }
                let mut bytes = [i as u8 + 1; 32];
                bytes[..8].copy_from_slice(&seed.to_le_bytes());
                UserAgent::new(config, bytes).expect("a good configuration")
            })
            .collect();
        Net {
            start: now,
            now,
            events: vec![Vec::new(); agents.len()],
            agents,
            addresses,
            seen: Vec::new(),
            outside: Vec::new(),
            link,
            lose: Box::new(|_| false),
            nameless: false,
            flying: BTreeMap::new(),
            sequence: 0,
            chance: fastrand::Rng::with_seed(seed),
        }
    }

    /// Hands a datagram to whoever has the address, past the link.
    pub fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        if let Some(i) = self.addresses.iter().position(|a| *a == to) {
            self.agents[i].handle_datagram(now, from, bytes);
        }
        self.collect();
    }

    fn collect(&mut self) {
        for i in 0..self.agents.len() {
            while let Some(question) = self.nameless.then(|| self.agents[i].poll_resolve()).flatten() {
                self.agents[i].handle_resolved(self.now, question.id, &[], Duration::ZERO);
            }
            while let Some(transmit) = self.agents[i].poll_transmit() {
                let from = self.addresses[i];
                let seen = Seen {
                    at: self.now - self.start,
                    from,
                    to: transmit.to.address,
                    transport: transmit.to.transport,
                    text: String::from_utf8_lossy(&transmit.bytes).into_owned(),
                };
                // a stream loses, repeats and reorders nothing
                let stream = transmit.to.transport.is_reliable();
                let lost = (self.lose)(&seen) || !stream && self.chance.f64() < self.link.loss;
                self.seen.push(seen.clone());
                if !self.addresses.contains(&transmit.to.address) {
                    self.outside.push(seen);
                    continue;
                }
                if lost {
                    continue;
                }
                let source = source(from, &transmit.to);
                let copies = if !stream && self.chance.f64() < self.link.duplicates { 2 } else { 1 };
                for _ in 0..copies {
                    let jitter = if stream { Duration::ZERO } else { self.link.jitter };
                    let late = jitter.mul_f64(self.chance.f64());
                    self.sequence += 1;
                    let at = self.now + self.link.latency + late;
                    let datagram = (source.clone(), transmit.to.address, transmit.bytes.clone());
                    self.flying.insert((at, self.sequence), datagram);
                }
            }
            while let Some(event) = self.agents[i].poll_event() {
                self.events[i].push(event);
            }
        }
    }

    /// The next thing that happens anywhere, if it does before `until`; false if nothing does.
    fn step(&mut self, until: Instant) -> bool {
        self.collect();
        let timers = self.agents.iter().filter_map(|a| a.poll_timeout());
        let flying = self.flying.keys().next().map(|(at, _)| *at);
        let Some(next) = timers.chain(flying).min().filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= now) {
            let (from, to, bytes) = entry.remove();
            if let Some(i) = self.addresses.iter().position(|a| *a == to) {
                self.agents[i].handle_message(now, &from, &bytes);
            }
        }
        for agent in &mut self.agents {
            if agent.poll_timeout().is_some_and(|at| at <= now) {
                agent.handle_timeout(now);
            }
        }
        self.collect();
        true
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Lets time pass until an agent has told something that fits, and takes it.
    #[track_caller]
    pub fn wait<T>(&mut self, agent: usize, limit: Duration, fits: impl Fn(&Event) -> Option<T>) -> T {
        let until = self.now + limit;
        loop {
            self.collect();
            if let Some((i, found)) =
                self.events[agent].iter().enumerate().find_map(|(i, e)| fits(e).map(|found| (i, found)))
            {
                self.events[agent].remove(i);
                return found;
            }
            if !self.step(until) {
                panic!(
                    "agent {agent} told nothing that fits in {limit:?}, only {:#?}\nsent: {:#?}",
                    self.events[agent],
                    self.seen.iter().map(|s| (s.at, s.to, s.kind())).collect::<Vec<_>>()
                );
            }
        }
    }

    #[track_caller]
    pub fn incoming(&mut self, agent: usize) -> CallId {
        self.wait(agent, MINUTE, |e| match e {
            Event::Incoming { call, .. } => Some(*call),
            _ => None,
        })
    }

    #[track_caller]
    pub fn answered(&mut self, agent: usize) -> (CallId, Option<String>) {
        self.wait(agent, MINUTE, |e| match e {
            Event::Answered { call, sdp } => Some((*call, sdp.clone())),
            _ => None,
        })
    }

    #[track_caller]
    pub fn ended(&mut self, agent: usize) -> (CallId, EndCause, Option<u16>) {
        self.wait(agent, MINUTE * 5, |e| match e {
            Event::Ended { call, cause, status, .. } => Some((*call, *cause, *status)),
            _ => None,
        })
    }

    /// What became of an offer of an agent's: the answer, or the refusal.
    #[track_caller]
    pub fn reoffered(&mut self, agent: usize) -> Result<String, Option<u16>> {
        self.wait(agent, MINUTE * 2, |e| match e {
            Event::ReofferAnswered { sdp, .. } => Some(Ok(sdp.clone())),
            Event::ReofferRefused { status, .. } => Some(Err(*status)),
            _ => None,
        })
    }

    /// An offer of the far end's, waited for.
    #[track_caller]
    pub fn offered(&mut self, agent: usize) -> (CallId, Option<String>) {
        self.wait(agent, MINUTE, |e| match e {
            Event::Reoffer { call, sdp } => Some((*call, sdp.clone())),
            _ => None,
        })
    }

    /// Whether an agent has told something that fits, and not been asked for it.
    pub fn told(&self, agent: usize, fits: impl Fn(&Event) -> bool) -> bool {
        self.events[agent].iter().any(fits)
    }

    /// The call has not ended, as far as its application knows.
    pub fn live(&mut self, agent: usize, call: CallId) -> bool {
        let now = self.now;
        // nothing was offered, but first of all there must be a call
        let error = self.agents[agent].reject_reoffer(now, call, 488);
        matches!(error, Err(mr_sip_signaling::SignalingError::WrongState { .. }))
    }

    /// Nothing is left of any call.
    pub fn is_quiet(&self) -> bool {
        self.agents.iter().all(|a| a.is_idle() && a.poll_timeout().is_none())
    }

    /// A call from agent 0 to agent 1, answered.
    #[track_caller]
    pub fn call_up(&mut self) -> (CallId, CallId) {
        let to = format!("sip:bob@{}", self.addresses[1]);
        let ours = self.agents[0].dial(self.now, dial(to)).expect("dials");
        let theirs = self.incoming(1);
        self.agents[1].ring(self.now, theirs).expect("rings");
        self.agents[1].answer(self.now, theirs, sdp(5000)).expect("answers");
        assert_eq!(self.answered(0).0, ours);
        assert_eq!(self.answered(1).0, theirs);
        (ours, theirs)
    }

    /// How many datagrams of a kind were sent by an agent.
    pub fn count(&self, from: usize, kind: &str) -> usize {
        self.seen.iter().filter(|s| s.from == self.addresses[from] && s.kind() == kind).count()
    }

    /// When an agent sent datagrams of a kind, since the first of them, in milliseconds.
    pub fn times(&self, from: usize, kind: &str) -> Vec<u128> {
        let at: Vec<_> =
            self.seen.iter().filter(|s| s.from == self.addresses[from] && s.kind() == kind).map(|s| s.at).collect();
        at.iter().map(|t| (*t - at[0]).as_millis()).collect()
    }
}

pub const MINUTE: Duration = Duration::from_secs(60);
