//! Requests of ours: to whom, under which transaction, and whose answer it is.

use std::{net::SocketAddr, time::Instant};

use rand::Rng;

use super::{TimerKey, UserAgent, config::Transmit, limits, names::Known};
use crate::{
    auth::{self, Challenge},
    call::{ClientKey, State},
    dialog::Dialog,
    event::CallId,
    message::{MAGIC_COOKIE, Meta, Method, NameAddr, Request, Response, Uri, Via},
    transaction::{ClientState, ClientTransaction, OnTimeout},
};

/// What this software answers to, as the Allow header says.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE";

/// The next hop of a request, before its name is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The INVITE of a call we make.
    Invite(CallId),
    /// The REGISTER of an account.
    Register(usize),
    /// The ACK of a 2xx to the INVITE of this transaction, for the fork with this tag.
    Ack { invite: ClientKey, tag: String },
    /// Nobody waits for the answer: BYE, CANCEL.
    Nobody,
}

/// A request on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) request: Request,
    pub(super) owner: Owner,
    /// Whose credentials it may be given.
    pub(super) account: Option<usize>,
    pub(super) hop: Hop,
    /// Challenges that have been answered for it.
    pub(super) tries: u8,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) machine: ClientTransaction,
    /// As sent, with its Via.
    pub(super) request: Request,
    bytes: Vec<u8>,
    pub(super) to: SocketAddr,
    pub(super) owner: Owner,
    pub(super) account: Option<usize>,
    hop: Hop,
    pub(super) tries: u8,
    /// The 2xx answers so far, each with its ACK once that was sent.
    pub(super) forks: Vec<Fork>,
    /// The system has said once that nobody is there.
    refused: bool,
}

#[derive(Debug)]
pub(super) struct Fork {
    pub(super) tag: String,
    pub(super) ack: Option<(SocketAddr, Vec<u8>)>,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The name was not found, or the system has no way there.
    Network,
    /// Nobody answered.
    Timeout,
}

impl UserAgent {
    /// Sends a request, as soon as its next hop is known.
    pub(super) fn send(&mut self, now: Instant, outgoing: Outgoing) {
        match self.names.look_up(now, &outgoing.hop) {
            Known::Address(to) => self.send_to(now, outgoing, to),
            Known::NotYet => {
                if let Err(outgoing) = self.names.wait(outgoing) {
                    self.lost(now, outgoing.owner, Lost::Network);
                }
            }
        }
    }

    /// Sends an in-dialog request along its route. One that has no route is given up.
    pub(super) fn send_routed(
        &mut self,
        now: Instant,
        dialog: &Dialog,
        request: Request,
        owner: Owner,
        account: Option<usize>,
    ) {
        match dialog.next_hop() {
            Some((host, port)) => {
                self.send(now, Outgoing { request, owner, account, hop: Hop { host, port }, tries: 0 });
            }
            None => self.lost(now, owner, Lost::Network),
        }
    }

    pub(super) fn on_resolved(&mut self, now: Instant, outgoing: Outgoing, address: Option<SocketAddr>) {
        match address {
            Some(to) => self.send_to(now, outgoing, to),
            None => self.lost(now, outgoing.owner, Lost::Network),
        }
    }

    fn send_to(&mut self, now: Instant, outgoing: Outgoing, to: SocketAddr) {
        let Outgoing { mut request, owner, account, hop, tries } = outgoing;
        if let Owner::Invite(id) = owner
            && !matches!(self.calls.get(&id).map(|c| &c.state), Some(State::Calling(_)))
        {
            // hung up while the name was being looked up
            return;
        }
        if let Some(account) = account.and_then(|a| self.accounts.get_mut(a))
            && account.hop == hop
            && !account.addresses.contains(&to.ip())
        {
            account.addresses.truncate(limits::ACCOUNT_ADDRESSES - 1);
            account.addresses.insert(0, to.ip());
        }
        let branch = format!("{MAGIC_COOKIE}{}", self.random_token());
        let local = self.local_towards(to);
        let mut via = Via::udp(local);
        via.params.set("rport", None);
        via.params.set("branch", Some(branch.clone()));
        request.headers.push_front("Via", via.to_string());
        self.complete(&mut request, &owner, account, to);
        let bytes = request.to_bytes();
        self.transmit(to, bytes.clone());
        if let Owner::Ack { invite, tag } = owner {
            // an ACK is no transaction: it is sent again when the 2xx comes again
            if let Some(fork) = self.clients.get_mut(&invite).and_then(|c| c.forks.iter_mut().find(|f| f.tag == tag)) {
                fork.ack = Some((to, bytes));
            }
            return;
        }
        let key = ClientKey { branch, cancel: false };
        if let Owner::Invite(id) = owner
            && let Some(call) = self.calls.get_mut(&id)
        {
            call.state = State::Calling(Some(key.clone()));
        }
        let machine = ClientTransaction::new(now, request.method == Method::Invite);
        let client =
            Client { machine, request, bytes, to, owner, account, hop, tries, forks: Vec::new(), refused: false };
        self.clients.insert(key.clone(), client);
        self.refresh_client(&key);
    }

    /// What only the destination can tell: our Contact as it reaches us.
    fn complete(&mut self, request: &mut Request, owner: &Owner, account: Option<usize>, to: SocketAddr) {
        if request.headers.get("Contact").is_none() {
            let contact = NameAddr::new(self.contact(account, to)).to_string();
            match (owner, account.and_then(|a| self.accounts.get(a))) {
                (Owner::Register(_), Some(account)) => {
                    for value in account.registration.contacts(&contact) {
                        request.headers.push("Contact", value);
                    }
                }
                _ if request.method == Method::Invite => request.headers.push("Contact", contact),
                _ => {}
            }
        }
        if request.headers.get("User-Agent").is_none() {
            request.headers.push("User-Agent", self.config.software.clone());
        }
    }

    /// Our address for others: what an account's registrar saw, else what the route to them gives.
    pub(super) fn contact(&self, account: Option<usize>, to: SocketAddr) -> Uri {
        let account = account.and_then(|a| self.accounts.get(a));
        let user = account.map_or(self.config.user.as_str(), |a| a.config.user.as_str());
        let seen = account.filter(|a| a.addresses.contains(&to.ip())).and_then(|a| a.registration.seen_as);
        let address = match self.config.advertised {
            Some(address) => address,
            None => seen.unwrap_or_else(|| self.local_towards(to)),
        };
        let user = crate::message::escape_user(user);
        Uri::sip(Some(&user), &address.ip().to_string(), Some(address.port()))
    }

    pub(super) fn local_towards(&self, to: SocketAddr) -> SocketAddr {
        use super::config::LocalIp;
        if let Some(advertised) = self.config.advertised {
            return advertised;
        }
        let ip = match &self.config.local_ip {
            LocalIp::Fixed(ip) => *ip,
            LocalIp::Route(route) => route(to),
        };
        SocketAddr::new(ip, self.config.local.port())
    }

    /// 128 bits that nobody can guess, in hex.
    pub(super) fn random_token(&mut self) -> String {
        format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    pub(super) fn transmit(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.counters.sent += 1;
        self.transmits.push_back(Transmit { to, bytes });
    }

    pub(super) fn transmit_again(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.counters.retransmitted += 1;
        self.transmit(to, bytes);
    }

    /// A response came.
    pub(super) fn on_response(&mut self, now: Instant, response: Response, meta: Meta) {
        let key = ClientKey { branch: meta.via.branch().to_owned(), cancel: meta.method == Method::Cancel };
        let Some(client) = self.clients.get_mut(&key) else {
            self.counters.stray_responses += 1;
            return;
        };
        // the branch alone is unguessable; the rest tells a confused server from ours
        let ours = client.request.method == meta.method
            && client.request.headers.get("Call-ID") == Some(meta.call_id.as_str());
        if !ours {
            self.counters.stray_responses += 1;
            return;
        }
        let step = client.machine.on_response(now, response.status);
        if step.acknowledge {
            let ack = refusal_ack(&client.request, &response);
            let to = client.to;
            self.transmit(to, ack.to_bytes());
        }
        self.refresh_client(&key);
        if step.deliver {
            self.deliver(now, &key, response, meta);
        }
    }

    fn deliver(&mut self, now: Instant, key: &ClientKey, response: Response, meta: Meta) {
        let Some(client) = self.clients.get(key) else { return };
        let owner = client.owner.clone();
        let mut refused = None;
        let wanted = match &owner {
            Owner::Invite(id) => matches!(self.calls.get(id).map(|c| &c.state), Some(State::Calling(_))),
            _ => true,
        };
        if matches!(response.status, 401 | 407) && wanted {
            match self.authenticate(key, &response) {
                Ok(again) => return self.send(now, again),
                Err(why) => refused = Some(why),
            }
        }
        match owner {
            Owner::Invite(id) => self.on_invite_response(now, id, key, response, meta, refused),
            Owner::Register(account) => self.on_register_response(now, account, key, &response, &meta, refused),
            Owner::Ack { .. } | Owner::Nobody => {}
        }
    }

    /// The same request again, with credentials; or why they are not given (cases 10 to 12).
    fn authenticate(&mut self, key: &ClientKey, response: &Response) -> Result<Outgoing, String> {
        let client = self.clients.get(key).ok_or("the request is gone")?;
        let Some((index, account)) = client.account.and_then(|i| Some((i, self.accounts.get(i)?))) else {
            return Err("the other side asks for a password, and the call belongs to no account".into());
        };
        if !account.addresses.contains(&client.to.ip()) {
            return Err(format!("{} asks for a password, but is no host of this account", client.to.ip()));
        }
        let proxy = response.status == 407;
        let name = if proxy { "Proxy-Authenticate" } else { "WWW-Authenticate" };
        let offered = response.headers.values(name).filter_map(|v| Challenge::read(v, proxy));
        let challenge =
            auth::choose(offered, account.config.realm.as_deref(), account.floor).map_err(|e| e.to_string())?;
        // once per request, and once more only if the server says that just the nonce was too old
        if client.tries > 0 && !(challenge.stale && client.tries < 2) {
            return Err("the user name or password is wrong".into());
        }
        let (mut request, owner) = (client.request.clone(), client.owner.clone());
        let (hop, tries) = (client.hop.clone(), client.tries + 1);
        let old = request.headers.get("CSeq").and_then(|c| c.split(' ').next()?.parse::<u32>().ok()).unwrap_or(0);
        let Some(account) = self.accounts.get_mut(index) else { return Err("the account is gone".into()) };
        account.floor = account.floor.max(Some(challenge.algorithm));
        let cseq = if let Owner::Register(_) = owner {
            account.registration.challenge = Some((challenge.clone(), 0));
            account.registration.ask()
        } else {
            old + 1
        };
        request.headers.remove("Via");
        request.headers.remove("Authorization");
        request.headers.remove("Proxy-Authorization");
        request.headers.set("CSeq", format!("{cseq} {}", request.method));
        self.add_credentials(&mut request, index, &challenge, 1);
        if let Owner::Register(_) = owner
            && let Some(account) = self.accounts.get_mut(index)
        {
            account.registration.challenge = Some((challenge, 1));
        }
        Ok(Outgoing { request, owner, account: Some(index), hop, tries })
    }

    pub(super) fn add_credentials(&mut self, request: &mut Request, index: usize, challenge: &Challenge, count: u32) {
        let cnonce = self.random_token();
        let Some(account) = self.accounts.get(index) else { return };
        let (user, password) = (account.config.auth_user(), &account.config.password);
        let uri = request.uri.to_string();
        let value = challenge.authorization(user, password, request.method.as_str(), &uri, &cnonce, count);
        let name = if challenge.proxy { "Proxy-Authorization" } else { "Authorization" };
        request.headers.push(name, value);
    }

    /// Cancels an INVITE of ours that has been answered provisionally.
    pub(super) fn send_cancel(&mut self, now: Instant, invite: &ClientKey) {
        let Some(client) = self.clients.get_mut(invite) else { return };
        client.machine.cancelled(now);
        let mut request = hop_by_hop(&client.request, Method::Cancel);
        for name in ["From", "To"] {
            if let Some(value) = client.request.headers.get(name) {
                request.headers.push(name, value);
            }
        }
        let bytes = request.to_bytes();
        let (to, account, hop) = (client.to, client.account, client.hop.clone());
        self.transmit(to, bytes.clone());
        let key = ClientKey { branch: invite.branch.clone(), cancel: true };
        let machine = ClientTransaction::new(now, false);
        let owner = Owner::Nobody;
        let client =
            Client { machine, request, bytes, to, owner, account, hop, tries: 0, forks: Vec::new(), refused: false };
        self.clients.insert(key.clone(), client);
        self.refresh_client(&key);
        self.refresh_client(invite);
    }

    pub(super) fn on_client_timer(&mut self, now: Instant, key: &ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match client.machine.on_timeout(now) {
            OnTimeout::Nothing => {}
            OnTimeout::Resend => {
                let (to, bytes) = (client.to, client.bytes.clone());
                self.transmit_again(to, bytes);
            }
            OnTimeout::TimedOut => {
                let (owner, to) = (client.owner.clone(), client.to);
                self.names.forget(to);
                self.lost(now, owner, Lost::Timeout);
            }
        }
        self.refresh_client(key);
    }

    /// The system says that nobody is there. Once may be old news, of a datagram to somebody who was there before; what is
    /// still not answered the second time, after it was sent again, will not be.
    pub(super) fn on_unreachable(&mut self, now: Instant, to: SocketAddr) {
        let unanswered = |c: &Client| c.to == to && c.machine.state() == ClientState::Calling;
        let mut given_up = Vec::new();
        for (key, client) in self.clients.iter_mut().filter(|(_, c)| unanswered(c)) {
            if std::mem::replace(&mut client.refused, true) {
                client.machine.terminate();
                given_up.push((key.clone(), client.owner.clone()));
            }
        }
        for (key, owner) in given_up {
            self.names.forget(to);
            self.refresh_client(&key);
            self.lost(now, owner, Lost::Network);
        }
    }

    fn lost(&mut self, now: Instant, owner: Owner, why: Lost) {
        match owner {
            Owner::Invite(id) => self.on_invite_lost(now, id, why),
            Owner::Register(account) => self.on_register_lost(now, account, why),
            Owner::Ack { .. } | Owner::Nobody => {}
        }
    }

    pub(super) fn refresh_client(&mut self, key: &ClientKey) {
        let Some(client) = self.clients.get(key) else { return };
        let (state, at) = (client.machine.state(), client.machine.poll_timeout());
        if state == ClientState::Terminated {
            self.clients.remove(key);
        }
        self.timers.set(TimerKey::Client(key.clone()), at);
    }
}

/// A request that belongs to an earlier one hop by hop: same Via, Route, Request-URI, From, Call-ID and number.
fn hop_by_hop(invite: &Request, method: Method) -> Request {
    let mut request = Request::new(method.clone(), invite.uri.clone());
    if let Some(via) = invite.headers.get("Via") {
        request.headers.push("Via", via);
    }
    for route in invite.headers.values("Route") {
        request.headers.push("Route", route);
    }
    request.headers.push("Max-Forwards", crate::dialog::MAX_FORWARDS);
    if let Some(call_id) = invite.headers.get("Call-ID") {
        request.headers.push("Call-ID", call_id);
    }
    let cseq = invite.headers.get("CSeq").and_then(|c| c.split(' ').next()).unwrap_or("1");
    request.headers.push("CSeq", format!("{cseq} {method}"));
    request
}

/// The ACK of a refusal (section 17.1.1.3): To is the response's, with its tag.
fn refusal_ack(invite: &Request, response: &Response) -> Request {
    let mut ack = hop_by_hop(invite, Method::Ack);
    if let Some(from) = invite.headers.get("From") {
        ack.headers.push("From", from);
    }
    if let Some(to) = response.headers.get("To") {
        ack.headers.push("To", to);
    }
    ack
}
