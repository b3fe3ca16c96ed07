//! Accounts at work: their addresses, REGISTER and what comes back.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    TimerKey, UserAgent, limits,
    names::Hop,
    outgoing::{Lost, Outgoing, Owner},
};
use crate::{
    account::Account,
    auth::Algorithm,
    call::ClientKey,
    dialog::MAX_FORWARDS,
    error::SignalingError,
    event::Event,
    message::{Meta, Method, NameAddr, Request, Response, Uri, escape_user, literal},
    registration::{Failure, Registration},
    transport::Peer,
};

/// An account and what has become of it.
#[derive(Debug)]
pub(super) struct AccountState {
    pub(super) config: Account,
    /// Where its requests go first, in order of preference; never empty.
    pub(super) hops: Vec<Hop>,
    pub(super) domain: Hop,
    pub(super) registration: Registration,
    /// Where its registrar or proxy was found: only these are given credentials (case 10).
    pub(super) addresses: Vec<IpAddr>,
    /// The strongest algorithm answered so far (case 11).
    pub(super) floor: Option<Algorithm>,
    /// When the application was last told that the registrar is silent; that is tried every few seconds.
    silence_told: Option<Instant>,
    /// When a trunk is asked by OPTIONS next.
    ask_at: Option<Instant>,
    /// What the application was told last of a trunk that does not register.
    reachable: Option<bool>,
    /// Our address at the last look, on the way to this account.
    own_ip: Option<IpAddr>,
}

/// A keep-alive: RFC 5626's ping on a stream, a packet without meaning on UDP.
const KEEP_ALIVE: &[u8] = b"\r\n\r\n";
/// How often the way to the accounts is looked at; a move to another network is noticed within this time (case 36).
const NETWORK_LOOK: Duration = Duration::from_secs(5);
/// A route does not depend on the port; this one is nobody's.
const DISCARD_PORT: u16 = 9;
/// How often a silent registrar is told of.
const SILENCE_REMINDER: Duration = Duration::from_secs(300);

impl AccountState {
    pub(super) fn new(config: Account, call_id: String) -> Result<AccountState, SignalingError> {
        config.check()?;
        let read = |field: &str, text: &str| {
            Hop::read(text, config.transport).ok_or_else(|| SignalingError::BadConfig {
                field: format!("account {:?}: {field} {text:?}", config.name),
                why: "is not host[:port]",
            })
        };
        let domain = read("registrar", &config.registrar)?;
        let mut hops = config.proxies.iter().map(|p| read("proxy", p)).collect::<Result<Vec<_>, _>>()?;
        if hops.is_empty() {
            hops.push(domain.clone());
        }
        let registration = Registration::new(call_id, config.expires);
        // an address needs no looking up to be known as the account's
        let addresses = hops.iter().filter_map(|hop| literal(&hop.host)).collect();
        Ok(AccountState {
            config,
            hops,
            domain,
            registration,
            addresses,
            floor: None,
            silence_told: None,
            ask_at: None,
            reachable: None,
            own_ip: None,
        })
    }

    /// `sip:user@domain`
    fn address_of_record(&self) -> Uri {
        Uri::sip(Some(&escape_user(&self.config.user)), &self.domain.host, self.domain.port)
    }

    /// `sip:domain`
    fn domain_uri(&self) -> Uri {
        Uri::sip(None, &self.domain.host, self.domain.port)
    }

    /// Where its requests go first, and where when that fails.
    pub(super) fn ways(&self) -> (Hop, VecDeque<Hop>) {
        let mut hops: VecDeque<_> = self.hops.iter().cloned().collect();
        (hops.pop_front().unwrap_or_else(|| self.domain.clone()), hops)
    }

    /// Calls that come from there come through this account.
    pub(super) fn is_from(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip) || self.config.peers.iter().any(|net| net.contains(&ip))
    }

    /// Takes note of an address of the account's hosts: it may be given the credentials (case 10), and sends us calls.
    pub(super) fn note_address(&mut self, ip: IpAddr) {
        if !self.addresses.contains(&ip) {
            self.addresses.truncate(limits::ACCOUNT_ADDRESSES - 1);
            self.addresses.insert(0, ip);
        }
    }

    /// The Route that leads through a configured proxy.
    pub(super) fn preloaded_route(&self) -> Option<String> {
        (!self.config.proxies.is_empty()).then(|| self.hops.first().map(route_through)).flatten()
    }
}

/// The Route value of a proxy.
pub(super) fn route_through(hop: &Hop) -> String {
    let mut uri = Uri::sip(None, &hop.host, hop.port);
    if let Some(transport) = hop.transport {
        uri.params.set("transport", Some(transport.as_param().to_owned()));
    }
    uri.params.set("lr", None);
    format!("<{uri}>")
}

impl UserAgent {
    /// Who we say we are: the account's address, else our name at our own address.
    pub(super) fn own_address(&self, account: Option<usize>, hop: &Hop) -> NameAddr {
        NameAddr::new(match account.and_then(|a| self.accounts.get(a)) {
            Some(account) => account.address_of_record(),
            None => {
                // a name is not looked up yet; the default route's address is then as good as any
                let ip = literal(&hop.host).unwrap_or(IpAddr::from([192, 0, 2, 1]));
                let transport = hop.plain_transport();
                let address = SocketAddr::new(ip, hop.port.unwrap_or(transport.default_port()));
                let local = self.local_towards(&Peer { transport, ..Peer::udp(address) });
                Uri::sip(Some(&escape_user(&self.config.user)), &local.ip().to_string(), Some(local.port()))
            }
        })
    }

    pub(super) fn on_account_timer(&mut self, now: Instant, index: usize) {
        let Some(account) = self.accounts.get_mut(index) else { return };
        if let Some(to) = account.registration.keep_alive(now) {
            // RFC 5626 section 3.5.1's ping; over UDP just a packet that keeps the NAT's door open
            self.transmit(to, KEEP_ALIVE.to_vec());
        }
        if self.accounts.get(index).is_some_and(|a| a.registration.is_due(now)) {
            self.send_register(now, index);
        }
        if self.accounts.get(index).is_some_and(|a| a.ask_at.is_some_and(|at| now >= at)) {
            self.send_options(now, index);
        }
        self.refresh_account(index);
    }

    /// What an account does first.
    pub(super) fn start_account(&mut self, now: Instant, index: usize) {
        if let Some(account) = self.accounts.get_mut(index) {
            if account.config.register {
                account.registration.start(now);
            } else {
                account.ask_at = account.config.options.map(|_| now);
            }
        }
        self.refresh_account(index);
    }

    /// Asks a trunk whether it is there.
    fn send_options(&mut self, now: Instant, index: usize) {
        let (from_tag, call_id) = (self.random_token(), self.random_token());
        let Some(account) = self.accounts.get_mut(index) else { return };
        account.ask_at = account.config.options.map(|every| now + every);
        let mut request = Request::new(Method::Options, account.domain_uri());
        if let Some(route) = account.preloaded_route() {
            request.headers.push("Route", route);
        }
        request.headers.push("Max-Forwards", MAX_FORWARDS);
        request.headers.push("From", NameAddr::new(account.address_of_record()).with_tag(&from_tag).to_string());
        request.headers.push("To", NameAddr::new(account.domain_uri()).to_string());
        request.headers.push("Call-ID", call_id);
        request.headers.push("CSeq", "1 OPTIONS");
        request.headers.push("Accept", "application/sdp");
        let (hop, backups) = account.ways();
        self.send(now, Outgoing { backups, ..Outgoing::new(request, Owner::Options(index), Some(index), hop) });
    }

    /// Any answer will do: a trunk that refuses OPTIONS is there all the same.
    pub(super) fn on_options_answered(&mut self, index: usize) {
        let Some(account) = self.accounts.get_mut(index) else { return };
        if account.reachable.replace(true) != Some(true) {
            self.events.push_back(Event::Reachable { account: account.config.name.clone() });
        }
    }

    pub(super) fn on_options_lost(&mut self, index: usize, why: Lost) {
        let Some(account) = self.accounts.get_mut(index) else { return };
        if account.reachable.replace(false) != Some(false) {
            let reason = why.sentence("the trunk does not answer");
            self.events.push_back(Event::Unreachable { account: account.config.name.clone(), reason });
        }
    }

    /// Looks whether this machine has moved to another network, and registers anew where it has.
    pub(super) fn on_network_timer(&mut self, now: Instant) {
        let mut moved = false;
        for index in 0..self.accounts.len() {
            let Some(account) = self.accounts.get(index).filter(|a| a.registration.is_registered()) else { continue };
            let Some(towards) = account.addresses.first().copied() else { continue };
            let own_ip = self.local_ip_towards(SocketAddr::new(towards, DISCARD_PORT));
            // without any way there is nothing to register from
            if own_ip.is_unspecified() {
                continue;
            }
            let Some(account) = self.accounts.get_mut(index) else { continue };
            if account.own_ip.replace(own_ip).is_some_and(|before| before != own_ip) {
                account.registration.address_changed(now);
                self.refresh_account(index);
                moved = true;
            }
        }
        if moved {
            self.on_moved(now);
        }
        self.plan_network_look(now);
    }

    /// The route is looked at as long as any account is registered.
    fn plan_network_look(&mut self, now: Instant) {
        use super::config::LocalIp;
        let can_change = self.config.advertised.is_none() && matches!(self.config.local_ip, LocalIp::Route(_));
        let registers = self.accounts.iter().any(|a| a.config.register);
        let at = (can_change && registers && !self.closed).then(|| now + NETWORK_LOOK);
        self.timers.set(TimerKey::Network, at);
    }

    pub(super) fn send_register(&mut self, now: Instant, index: usize) {
        let (from_tag, allow) = (self.random_token(), self.allow());
        let Some(account) = self.accounts.get_mut(index) else { return };
        let uri = account.domain_uri();
        let own = NameAddr::new(account.address_of_record());
        let mut request = Request::new(Method::Register, uri);
        if let Some(route) = account.preloaded_route() {
            request.headers.push("Route", route);
        }
        let cseq = account.registration.ask();
        let expires = if account.registration.is_leaving() { 0 } else { account.registration.expires.as_secs() };
        request.headers.push("Max-Forwards", MAX_FORWARDS);
        request.headers.push("From", own.clone().with_tag(&from_tag).to_string());
        request.headers.push("To", own.to_string());
        request.headers.push("Call-ID", account.registration.call_id.clone());
        request.headers.push("CSeq", format!("{cseq} REGISTER"));
        request.headers.push("Expires", expires.to_string());
        let (hop, backups) = account.ways();
        request.headers.push("Allow", allow);
        let known = account.registration.next_credentials();
        if let Some((challenge, count)) = known {
            self.add_credentials(&mut request, index, &challenge, count);
        }
        self.send(now, Outgoing { backups, ..Outgoing::new(request, Owner::Register(index), Some(index), hop) });
    }

    pub(super) fn on_register_response(
        &mut self,
        now: Instant,
        index: usize,
        key: &ClientKey,
        response: &Response,
        meta: &Meta,
        refused: Option<String>,
    ) {
        let Some(client) = self.clients.get(key) else { return };
        let contact = client.request.headers.list("Contact").next().and_then(NameAddr::read).map(|c| c.uri);
        let from = client.to.clone();
        let Some(account) = self.accounts.get(index) else { return };
        if !account.registration.is_current(meta.cseq) {
            return;
        }
        match response.status {
            100..=199 => {}
            200..=299 => {
                if let Some(contact) = contact {
                    self.on_registered(now, index, response, meta, contact, from);
                }
            }
            status => {
                let reason = refused.unwrap_or_else(|| format!("{status} {}", response.reason));
                let seconds = |name: &str| {
                    let value = response.headers.get(name)?;
                    let digits = value.split(|c: char| !c.is_ascii_digit()).next()?;
                    digits.parse().ok().map(Duration::from_secs)
                };
                if status == 423
                    && let Some(least) = seconds("Min-Expires")
                    && let Some(account) = self.accounts.get_mut(index)
                    && account.registration.wants_longer(least)
                {
                    return self.send_register(now, index);
                }
                let failure = match status {
                    401 | 407 => Failure::Refused,
                    403 | 404 => Failure::Refused,
                    408 => Failure::Silence,
                    _ => Failure::Error(seconds("Retry-After")),
                };
                self.registration_failed(now, index, failure, Some(status), reason);
            }
        }
    }

    fn on_registered(
        &mut self,
        now: Instant,
        index: usize,
        response: &Response,
        meta: &Meta,
        contact: Uri,
        from: Peer,
    ) {
        let Some(account) = self.accounts.get_mut(index) else { return };
        let registration = &mut account.registration;
        let name = account.config.name.clone();
        account.silence_told = None;
        if registration.is_leaving() {
            registration.succeeded(now, Duration::ZERO, None, &mut self.rng);
            self.events.push_back(Event::Unregistered { account: name });
            return self.refresh_account(index);
        }
        let asked = registration.expires;
        let expires = granted(response, &contact).unwrap_or(asked).min(asked.max(Duration::from_secs(60)));
        // what the registrar saw, when it is not what we wrote, and nobody has told us to write that
        let seen = meta.via.seen_address().filter(|_| self.config.advertised.is_none());
        let wrote = literal(&meta.via.host)
            .map(|ip| SocketAddr::new(ip, meta.via.port.unwrap_or_else(|| meta.via.default_port())));
        let behind_nat = seen.is_some() && seen != wrote;
        registration.bound = Some(format!("<{contact}>"));
        let transport = from.transport;
        let keep_open = behind_nat || transport.is_reliable();
        registration.succeeded(now, expires, keep_open.then(|| from.clone()), &mut self.rng);
        let seen_as = seen.filter(|_| behind_nat);
        registration.seen(now, transport, seen_as);
        self.events.push_back(Event::Registered { account: name, expires, seen_as });
        self.check_contact(now, index, &from, &contact);
        self.refresh_account(index);
        self.on_network_timer(now);
    }

    pub(super) fn on_register_lost(&mut self, now: Instant, index: usize, why: Lost) {
        let reason = why.sentence("the registrar does not answer");
        self.registration_failed(now, index, Failure::Silence, None, reason);
    }

    fn registration_failed(
        &mut self,
        now: Instant,
        index: usize,
        failure: Failure,
        status: Option<u16>,
        reason: String,
    ) {
        let Some(account) = self.accounts.get_mut(index) else { return };
        let name = account.config.name.clone();
        let told = account.silence_told.filter(|at| failure == Failure::Silence && now < *at + SILENCE_REMINDER);
        account.silence_told = told.or((failure == Failure::Silence).then_some(now));
        match account.registration.failed(now, failure, &mut self.rng) {
            Some(_) if told.is_some() => {}
            Some(retry_in) => {
                self.events.push_back(Event::RegistrationFailed { account: name, reason, status, retry_in });
            }
            None => self.events.push_back(Event::Unregistered { account: name }),
        }
        self.refresh_account(index);
    }

    pub(super) fn refresh_account(&mut self, index: usize) {
        let at = self
            .accounts
            .get(index)
            .and_then(|a| [a.registration.poll_timeout(), a.ask_at].into_iter().flatten().min());
        self.timers.set(TimerKey::Account(index), at);
    }
}

/// How long our binding lasts: its Contact's parameter, else the Expires header (section 10.2.4).
fn granted(response: &Response, ours: &Uri) -> Option<Duration> {
    let contacts: Vec<_> = response.headers.list("Contact").filter_map(NameAddr::read).collect();
    let is_ours = |c: &&NameAddr| c.uri.user == ours.user && c.uri.host == ours.host && c.uri.port == ours.port;
    // registrars behind proxies rewrite the address; a lone binding can only be ours
    let mine = contacts.iter().find(is_ours).or(contacts.first().filter(|_| contacts.len() == 1));
    let of_contact = mine.and_then(|c| c.params.get("expires")?.parse().ok());
    let of_header = || response.headers.get("Expires")?.parse().ok();
    of_contact.or_else(of_header).map(Duration::from_secs)
}
