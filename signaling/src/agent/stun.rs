//! Our address as the world outside the NAT sees it, asked of STUN servers from the socket that SIP uses.
//!
//! Each configured server is asked at the start and then once in a round of 25 s, which also keeps the NAT's binding. All are
//! asked in the same round, so that one that fails costs no time, and so that a NAT shows itself that has another address for
//! each destination. The address of the first server that answered counts for as long as that server answers.
//!
//! What must hold: only the answer to a request that is under way, from the address that it went to, is believed. Everything
//! else that looks like STUN is counted and dropped (case 27); requests of others are never answered.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use rand::Rng;

use super::{
    TimerKey, UserAgent,
    config::{ResolveId, Target},
    limits,
    names::Hop,
};
use crate::{
    error::SignalingError,
    event::Event,
    message::Uri,
    stun::{Answer, DEFAULT_PORT, Exchange, Step, TransactionId, read, request},
    transport::{Peer, Transport},
};

/// What is known of our public address.
#[derive(Debug)]
pub(super) struct Stun {
    servers: Vec<Server>,
    /// When the first round began.
    epoch: Option<Instant>,
    /// Whose word counts.
    chosen: Option<usize>,
    found: Option<Found>,
    /// What the application was told last.
    told: Option<Found>,
    /// The application knows that no server answers.
    failure_told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    address: SocketAddr,
    /// Servers see us at different addresses.
    symmetric: bool,
}

#[derive(Debug)]
struct Server {
    hop: Hop,
    state: State,
    /// Where its name leads to beside the address that is being asked.
    rest: VecDeque<SocketAddr>,
    /// Its last answer, and the round of the request.
    mapped: Option<(u64, SocketAddr)>,
    /// Why its last request came to nothing.
    failure: Option<String>,
}

#[derive(Debug)]
enum State {
    /// Until the next round.
    Waiting(Option<Instant>),
    Resolving(ResolveId),
    /// In this round.
    Asking(u64, Exchange),
}

impl Stun {
    /// For these servers, each `host[:port]`.
    pub(super) fn new(servers: &[String]) -> Result<Stun, SignalingError> {
        let bad = |field: String, why| SignalingError::BadConfig { field, why };
        if servers.len() > limits::STUN_SERVERS {
            return Err(bad("stun_servers".into(), "has more than 8 entries"));
        }
        let read = |text: &String| {
            let hop = Hop::read(text, Some(Transport::Udp)).filter(|hop| hop.port != Some(0));
            let hop = hop.ok_or_else(|| bad(format!("stun_servers {text:?}"), "is not host[:port]"))?;
            // with a port, the host's addresses are asked for; SRV records of SIP are not meant here
            let hop = Hop { port: hop.port.or(Some(DEFAULT_PORT)), ..hop };
            Ok(Server { hop, state: State::Waiting(None), rest: VecDeque::new(), mapped: None, failure: None })
        };
        let servers = servers.iter().map(read).collect::<Result<_, SignalingError>>()?;
        Ok(Stun { servers, epoch: None, chosen: None, found: None, told: None, failure_told: false })
    }

    /// Rounds since the start.
    fn round(&self, now: Instant) -> u64 {
        let since = self.epoch.map_or(0, |epoch| now.saturating_duration_since(epoch).as_millis());
        u64::try_from(since / limits::STUN_ROUND.as_millis()).unwrap_or(u64::MAX)
    }

    fn next_round(&self, now: Instant) -> Instant {
        let next = u32::try_from(self.round(now) + 1).ok();
        let at = next.and_then(|next| self.epoch?.checked_add(limits::STUN_ROUND.checked_mul(next)?));
        at.unwrap_or(now + limits::STUN_ROUND)
    }

    /// Where others can reach the peer of this address reach us too, if it is known.
    pub(super) fn address_for(&self, peer: IpAddr) -> Option<SocketAddr> {
        let address = self.found?.address;
        // whoever is on our side of the NAT reaches us as we are
        let inside = is_local(peer) && !is_local(address.ip());
        (address.is_ipv4() == peer.is_ipv4() && !inside).then_some(address)
    }

    /// The server that has a request under way to there.
    fn asking(&self, fits: impl Fn(&Exchange) -> bool) -> Option<usize> {
        self.servers.iter().position(|server| matches!(&server.state, State::Asking(_, exchange) if fits(exchange)))
    }

    /// Takes a server's word: the first one's, until it has none.
    fn mapped(&mut self, index: usize, round: u64, address: SocketAddr) {
        let Some(server) = self.servers.get_mut(index) else { return };
        server.mapped = Some((round, address));
        server.failure = None;
        let answers = |i: usize| self.servers.get(i).is_some_and(|s| s.failure.is_none() && s.mapped.is_some());
        let chosen = self.chosen.filter(|i| answers(*i)).unwrap_or(index);
        self.choose(chosen);
        self.compare(round, address.is_ipv4());
    }

    fn choose(&mut self, index: usize) {
        let Some((_, address)) = self.servers.get(index).and_then(|s| s.mapped) else { return };
        self.chosen = Some(index);
        let symmetric = self.found.is_some_and(|found| found.symmetric);
        self.found = Some(Found { address, symmetric });
    }

    /// Answers of one round say whether the NAT has one address for all; those of different rounds may have a move between them.
    fn compare(&mut self, round: u64, ipv4: bool) {
        let of_round = self.servers.iter().filter_map(|s| s.mapped).filter(|(r, a)| *r == round && a.is_ipv4() == ipv4);
        let addresses: Vec<_> = of_round.map(|(_, address)| address).collect();
        if let (Some(found), [first, others @ ..]) = (&mut self.found, addresses.as_slice())
            && !others.is_empty()
        {
            found.symmetric = others.iter().any(|other| other != first);
        }
    }

    /// A server does not answer: the word of another one counts, if there is one. Without any the last address is kept; it
    /// is more likely still ours than one behind the NAT is of use.
    fn failed(&mut self, index: usize, reason: String) {
        let Some(server) = self.servers.get_mut(index) else { return };
        server.failure = Some(reason);
        if self.chosen == Some(index)
            && let Some(other) = self.servers.iter().position(|s| s.failure.is_none() && s.mapped.is_some())
        {
            self.choose(other);
        }
    }

    /// Why no server answers, if none does.
    fn failure(&self) -> Option<String> {
        let reasons: Option<Vec<_>> = self.servers.iter().map(|s| s.failure.as_deref()).collect();
        reasons.filter(|reasons| !reasons.is_empty()).map(|reasons| reasons.join("; "))
    }
}

/// Behind a NAT, or on this machine: RFC 1918, 6598, 4193, loopback and link-local.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let carriers = matches!(ip.octets(), [100, 64..=127, ..]);
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || carriers
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

impl UserAgent {
    /// Our address as STUN servers see it; `None`: none is configured, or none has answered yet.
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.stun.found.map(|found| found.address)
    }

    /// Begins the first round, if there are servers.
    pub(super) fn start_stun(&mut self, now: Instant) {
        if !self.stun.servers.is_empty() {
            self.stun.epoch = Some(now);
            self.ask_stun_anew(now);
        }
    }

    /// This machine has moved to another network: what was found does not count there.
    pub(super) fn on_moved(&mut self, now: Instant) {
        self.stun.found = None;
        self.stun.servers.iter_mut().for_each(|server| server.mapped = None);
        self.ask_stun_anew(now);
    }

    fn ask_stun_anew(&mut self, now: Instant) {
        for index in 0..self.stun.servers.len() {
            self.ask_stun(now, index);
        }
    }

    /// Nothing more is asked.
    pub(super) fn stop_stun(&mut self) {
        for index in 0..self.stun.servers.len() {
            self.set_stun(index, State::Waiting(None));
        }
    }

    pub(super) fn on_stun_timer(&mut self, now: Instant, index: usize) {
        let Some(server) = self.stun.servers.get_mut(index) else { return };
        let State::Asking(_, exchange) = &mut server.state else { return self.ask_stun(now, index) };
        let (step, to, bytes) = (exchange.handle_timeout(now), exchange.to(), request(exchange.id()));
        match step {
            Step::Wait => {}
            Step::Send => self.transmit_again(Peer::udp(to), bytes),
            Step::GiveUp => return self.give_up_stun(now, index, "does not answer"),
        }
        self.refresh_stun(index);
    }

    /// Asks a server, as soon as its address is known.
    fn ask_stun(&mut self, now: Instant, index: usize) {
        let Some(server) = self.stun.servers.get(index).filter(|_| !self.closed) else { return };
        match self.names.look_up(now, &server.hop) {
            Some(ways) => self.ask_stun_at(now, index, ways.into_iter().map(|peer| peer.address).collect()),
            None => {
                let id = self.names.ask(&server.hop);
                self.set_stun(index, State::Resolving(id));
            }
        }
    }

    fn ask_stun_at(&mut self, now: Instant, index: usize, addresses: VecDeque<SocketAddr>) {
        let round = self.stun.round(now);
        let Some(server) = self.stun.servers.get_mut(index) else { return };
        server.rest = addresses;
        server.rest.truncate(limits::STUN_ADDRESSES);
        let Some(to) = server.rest.pop_front() else { return self.fail_stun(now, index, "was not found") };
        let mut id = TransactionId::default();
        self.rng.fill_bytes(&mut id);
        self.transmit(Peer::udp(to), request(&id));
        self.set_stun(index, State::Asking(round, Exchange::new(now, id, to)));
    }

    /// A name was looked up; it may be a server's.
    pub(super) fn on_stun_resolved(&mut self, now: Instant, id: ResolveId, targets: &[Target]) {
        let waits = |server: &Server| matches!(server.state, State::Resolving(of) if of == id);
        let waiting: Vec<_> = (0..).zip(&self.stun.servers).filter(|(_, s)| waits(s)).map(|(index, _)| index).collect();
        for index in waiting {
            let addresses = targets.iter().filter(|t| t.transport == Transport::Udp).map(|t| t.address);
            self.ask_stun_at(now, index, addresses.collect());
        }
    }

    /// A datagram came that can only be STUN.
    pub(super) fn on_stun(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let answered = read(bytes).and_then(|(id, answer)| {
            let index = self.stun.asking(|exchange| exchange.is_answered_by(from, &id))?;
            Some((index, answer))
        });
        match answered {
            Some((index, answer)) => self.on_stun_answer(now, index, answer),
            None => self.counters.stun_dropped += 1,
        }
    }

    fn on_stun_answer(&mut self, now: Instant, index: usize, answer: Answer) {
        let Some(Server { state: State::Asking(round, exchange), .. }) = self.stun.servers.get(index) else { return };
        let (round, to) = (*round, exchange.to());
        match answer {
            Answer::Mapped(address) => {
                self.names.answered(&Peer::udp(to));
                self.stun.mapped(index, round, address);
                self.set_stun(index, State::Waiting(Some(self.stun.next_round(now))));
                self.stun_changed(now);
            }
            Answer::Refused(code, reason) => self.give_up_stun(now, index, &format!("answers {code} {reason}")),
            Answer::Useless(why) => self.give_up_stun(now, index, &format!("is of no use: {why}")),
        }
    }

    /// The system said that nothing listens there.
    pub(super) fn on_stun_unreachable(&mut self, now: Instant, to: SocketAddr) {
        let Some(index) = self.stun.asking(|exchange| exchange.is_with(to)) else { return };
        let Some(Server { state: State::Asking(_, exchange), .. }) = self.stun.servers.get_mut(index) else { return };
        if exchange.refuse() {
            self.give_up_stun(now, index, "is not there, or there is no way there");
        }
    }

    /// An address is of no use: the server's next one has its turn.
    fn give_up_stun(&mut self, now: Instant, index: usize, why: &str) {
        let Some(server) = self.stun.servers.get_mut(index) else { return };
        if let State::Asking(_, exchange) = &server.state {
            self.names.failed(now, &Peer::udp(exchange.to()));
        }
        let rest = std::mem::take(&mut server.rest);
        if rest.is_empty() {
            self.fail_stun(now, index, why);
        } else {
            self.ask_stun_at(now, index, rest);
        }
    }

    /// A server is of no use in this round.
    fn fail_stun(&mut self, now: Instant, index: usize, why: &str) {
        let Some(server) = self.stun.servers.get(index) else { return };
        let reason = format!("STUN server {} {why}", server.hop.host);
        log::debug!("{reason}");
        self.stun.failed(index, reason);
        self.set_stun(index, State::Waiting(Some(self.stun.next_round(now))));
        self.stun_changed(now);
    }

    fn set_stun(&mut self, index: usize, state: State) {
        if let Some(server) = self.stun.servers.get_mut(index) {
            server.state = state;
        }
        self.refresh_stun(index);
    }

    fn refresh_stun(&mut self, index: usize) {
        let at = self.stun.servers.get(index).and_then(|server| match &server.state {
            State::Waiting(at) => *at,
            State::Resolving(_) => None,
            State::Asking(_, exchange) => Some(exchange.poll_timeout()),
        });
        self.timers.set(TimerKey::Stun(index), at);
    }

    /// Tells the application and the registrars what they do not know yet.
    fn stun_changed(&mut self, now: Instant) {
        if let Some(reason) = self.stun.failure() {
            if !std::mem::replace(&mut self.stun.failure_told, true) {
                self.events.push_back(Event::StunFailed { reason });
            }
            return;
        }
        let Some(found) = self.stun.found else { return };
        let before = self.stun.told.replace(found);
        let recovered = std::mem::take(&mut self.stun.failure_told);
        if recovered || before != Some(found) {
            let Found { address, symmetric } = found;
            self.events.push_back(Event::PublicAddress { address, symmetric });
        }
        if before.map(|b| b.address) != Some(found.address) {
            self.register_at_public_address(now, before.is_some());
        }
    }

    /// Bindings that are of the address before are made anew. What a registrar saw is of the address before too, if there was
    /// one.
    fn register_at_public_address(&mut self, now: Instant, moved: bool) {
        if self.config.advertised.is_some() {
            return;
        }
        for index in 0..self.accounts.len() {
            let Some(account) = self.accounts.get_mut(index).filter(|a| a.registration.is_registered()) else {
                continue;
            };
            let reached = account.addresses.first().and_then(|ip| self.stun.address_for(*ip)).is_some();
            let seen = account.registration.seen_by(Transport::Udp).is_some();
            if reached && (moved || !seen) {
                account.registration.mapping_changed(now);
                self.refresh_account(index);
            }
        }
    }

    /// A registrar has taken in a Contact of ours. If a STUN server has told better meanwhile, or the registrar itself has and
    /// it was too early to register again, that is made up for.
    pub(super) fn check_contact(&mut self, now: Instant, index: usize, registrar: &Peer, bound: &Uri) {
        let right = self.contact(Some(index), registrar);
        if self.stun.found.is_some()
            && (&right.host, right.port) != (&bound.host, bound.port)
            && let Some(account) = self.accounts.get_mut(index)
        {
            account.registration.contact_changed(now);
        }
    }
}
