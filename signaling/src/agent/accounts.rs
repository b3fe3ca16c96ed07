//! Accounts at work: their addresses, REGISTER and what comes back.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    TimerKey, UserAgent,
    outgoing::{Hop, Lost, Outgoing, Owner},
};
use crate::{
    account::Account,
    auth::Algorithm,
    call::ClientKey,
    dialog::MAX_FORWARDS,
    error::SignalingError,
    event::Event,
    message::{DEFAULT_PORT, Meta, Method, NameAddr, Request, Response, Uri, escape_user, literal, read_host_port},
    registration::{Failure, Registration},
};

/// An account and what has become of it.
#[derive(Debug)]
pub(super) struct AccountState {
    pub(super) config: Account,
    /// Where its requests go first.
    pub(super) hop: Hop,
    pub(super) domain: Hop,
    /// The domain's port as it was configured; none is written where none was given.
    pub(super) domain_port: Option<u16>,
    pub(super) registration: Registration,
    /// Where its registrar or proxy was found: only these are given credentials (case 10).
    pub(super) addresses: Vec<IpAddr>,
    /// The strongest algorithm answered so far (case 11).
    pub(super) floor: Option<Algorithm>,
    /// When the application was last told that the registrar is silent; that is tried every few seconds.
    silence_told: Option<Instant>,
}

/// How often a silent registrar is told of.
const SILENCE_REMINDER: Duration = Duration::from_secs(300);

impl AccountState {
    pub(super) fn new(config: Account, call_id: String) -> Result<AccountState, SignalingError> {
        config.check()?;
        let read = |field: &str, text: &str| {
            read_host_port(text).ok_or_else(|| SignalingError::BadConfig {
                field: format!("account {:?}: {field} {text:?}", config.name),
                why: "is not host[:port]",
            })
        };
        let (host, domain_port) = read("registrar", &config.registrar)?;
        let domain = Hop { host, port: domain_port.unwrap_or(DEFAULT_PORT) };
        let hop = match &config.proxy {
            Some(proxy) => {
                let (host, port) = read("proxy", proxy)?;
                Hop { host, port: port.unwrap_or(DEFAULT_PORT) }
            }
            None => domain.clone(),
        };
        let registration = Registration::new(call_id, config.expires);
        // an address needs no looking up to be known as the account's
        let addresses = literal(&hop.host).into_iter().collect();
        Ok(AccountState { config, hop, domain, domain_port, registration, addresses, floor: None, silence_told: None })
    }

    /// `sip:user@domain`
    fn address_of_record(&self) -> Uri {
        Uri::sip(Some(&escape_user(&self.config.user)), &self.domain.host, self.domain_port)
    }

    /// The Route that leads through a configured proxy.
    pub(super) fn preloaded_route(&self) -> Option<String> {
        self.config.proxy.as_ref()?;
        let port = Some(self.hop.port).filter(|p| *p != DEFAULT_PORT);
        let mut uri = Uri::sip(None, &self.hop.host, port);
        uri.params.set("lr", None);
        Some(format!("<{uri}>"))
    }
}

impl UserAgent {
    /// Who we say we are: the account's address, else our name at our own address.
    pub(super) fn own_address(&self, account: Option<usize>, hop: &Hop) -> NameAddr {
        NameAddr::new(match account.and_then(|a| self.accounts.get(a)) {
            Some(account) => account.address_of_record(),
            None => {
                // a name is not looked up yet; the default route's address is then as good as any
                let ip = literal(&hop.host).unwrap_or(IpAddr::from([192, 0, 2, 1]));
                let local = self.local_towards(SocketAddr::new(ip, hop.port));
                Uri::sip(Some(&escape_user(&self.config.user)), &local.ip().to_string(), Some(local.port()))
            }
        })
    }

    pub(super) fn on_account_timer(&mut self, now: Instant, index: usize) {
        let Some(account) = self.accounts.get_mut(index) else { return };
        if let Some(to) = account.registration.keep_alive(now) {
            // RFC 5626 section 3.5.1's ping; over UDP just a packet that keeps the NAT's door open
            self.transmit(to, b"\r\n\r\n".to_vec());
        }
        if self.accounts.get(index).is_some_and(|a| a.registration.is_due(now)) {
            self.send_register(now, index);
        }
        self.refresh_account(index);
    }

    pub(super) fn send_register(&mut self, now: Instant, index: usize) {
        let from_tag = self.random_token();
        let Some(account) = self.accounts.get_mut(index) else { return };
        let uri = Uri::sip(None, &account.domain.host, account.domain_port);
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
        request.headers.push("Allow", super::outgoing::ALLOW);
        let hop = account.hop.clone();
        let known = account.registration.next_credentials();
        if let Some((challenge, count)) = known {
            self.add_credentials(&mut request, index, &challenge, count);
        }
        self.send(now, Outgoing { request, owner: Owner::Register(index), account: Some(index), hop, tries: 0 });
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
        let from = client.to;
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
        from: SocketAddr,
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
        let wrote = literal(&meta.via.host).map(|ip| SocketAddr::new(ip, meta.via.port.unwrap_or(DEFAULT_PORT)));
        let behind_nat = seen.is_some() && seen != wrote;
        registration.bound = Some(format!("<{contact}>"));
        registration.succeeded(now, expires, behind_nat.then_some(from), &mut self.rng);
        registration.seen(now, seen.filter(|_| behind_nat));
        self.events.push_back(Event::Registered { account: name, expires });
        self.refresh_account(index);
    }

    pub(super) fn on_register_lost(&mut self, now: Instant, index: usize, why: Lost) {
        let reason = match why {
            Lost::Network => "the registrar's address could not be found or reached",
            Lost::Timeout => "the registrar does not answer",
        };
        self.registration_failed(now, index, Failure::Silence, None, reason.to_owned());
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
        let at = self.accounts.get(index).and_then(|a| a.registration.poll_timeout());
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
