//! Requests of ours: to whom, by which way, and under which transaction.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use rand::Rng;

use super::{UserAgent, config::Transmit, limits, names::Hop, requests::Ask};
use crate::{
    call::{ClientKey, State},
    dialog::Dialog,
    event::CallId,
    message::{MAGIC_COOKIE, Method, NameAddr, Request, Response, Uri, Via},
    transaction::{ClientState, ClientTransaction},
    transport::{Peer, Transport},
};

/// What this software answers to in any case, as the Allow header says.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, NOTIFY";

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The INVITE of a call we make.
    Invite(CallId),
    /// The REGISTER of an account.
    Register(usize),
    /// The OPTIONS that asks whether an account's trunk is there.
    Options(usize),
    /// A request within the dialog of a call, and what it is for.
    InDialog(CallId, Ask),
    /// The ACK of a 2xx to the INVITE of this transaction, for the fork with this tag.
    Ack { invite: ClientKey, tag: String },
    /// Nobody waits for the answer: BYE, CANCEL, the last NOTIFY.
    Nobody,
}

/// A request on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Without Via, and without Contact unless it is to be one of its own: the way decides both.
    pub(super) request: Request,
    pub(super) owner: Owner,
    /// Whose credentials it may be given.
    pub(super) account: Option<usize>,
    pub(super) hop: Hop,
    /// Other proxies of the account, for when this one fails.
    pub(super) backups: VecDeque<Hop>,
    /// The server that it goes to first, before those that the hop's name gives.
    pub(super) to: Option<Peer>,
    /// Challenges that have been answered for it.
    pub(super) tries: u8,
    /// How often it was sent anew because a later one had overtaken it.
    pub(super) reordered: u8,
    /// TCP was tried because of its size, and did not work.
    pub(super) large_by_udp: bool,
}

impl Outgoing {
    pub(super) fn new(request: Request, owner: Owner, account: Option<usize>, hop: Hop) -> Outgoing {
        let backups = VecDeque::new();
        Outgoing { request, owner, account, hop, backups, to: None, tries: 0, reordered: 0, large_by_udp: false }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) machine: ClientTransaction,
    /// As sent, with its Via.
    pub(super) request: Request,
    pub(super) bytes: Vec<u8>,
    pub(super) to: Peer,
    pub(super) owner: Owner,
    pub(super) account: Option<usize>,
    pub(super) hop: Hop,
    /// Where else it can go.
    pub(super) rest: VecDeque<Peer>,
    pub(super) backups: VecDeque<Hop>,
    /// When the next server is tried beside this one, which may still answer.
    pub(super) fail_over_at: Option<Instant>,
    pub(super) tries: u8,
    pub(super) reordered: u8,
    pub(super) large_by_udp: bool,
    /// The 2xx answers so far, each with its ACK once that was sent.
    pub(super) forks: Vec<Fork>,
    /// The system has said once that nobody is there, or the connection broke once.
    pub(super) refused: bool,
    /// CANCEL was sent for it.
    pub(super) cancelled: bool,
}

impl Client {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout().into_iter().chain(self.fail_over_at).min()
    }

    /// There is another server to try.
    pub(super) fn has_alternative(&self) -> bool {
        !self.rest.is_empty() || !self.backups.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Fork {
    pub(super) tag: String,
    pub(super) ack: Option<(Peer, Vec<u8>)>,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// The name was not found, or there is no way there; the sentence for people.
    Network(String),
    /// Nobody answered.
    Timeout,
}

impl Lost {
    pub(super) fn not_found(hop: &Hop) -> Lost {
        Lost::Network(format!("no address was found for {}", hop.host))
    }

    /// For people; `silence` if nobody answered.
    pub(super) fn sentence(self, silence: &str) -> String {
        match self {
            Lost::Network(reason) => reason,
            Lost::Timeout => silence.to_owned(),
        }
    }
}

impl UserAgent {
    /// Sends a request, as soon as its next hop is known.
    pub(super) fn send(&mut self, now: Instant, mut outgoing: Outgoing) {
        let known = self.names.look_up(now, &outgoing.hop);
        match (outgoing.to.take(), known) {
            (Some(first), known) => {
                let others = known.into_iter().flatten().filter(|p| !p.is_same_place(&first));
                let ways = std::iter::once(first.clone()).chain(others).collect();
                self.send_by(now, outgoing, ways);
            }
            (None, Some(ways)) => self.send_by(now, outgoing, ways),
            (None, None) => {
                if let Err(outgoing) = self.names.wait(outgoing) {
                    let why = Lost::not_found(&outgoing.hop);
                    self.lost(now, outgoing.owner, why);
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
        match Hop::of_uri(dialog.next_hop()) {
            Some(hop) => {
                let to = dialog.flow.clone();
                self.send(now, Outgoing { to, ..Outgoing::new(request, owner, account, hop) });
            }
            None => self.lost(now, owner, Lost::Network("the far end's address cannot be used".into())),
        }
    }

    /// Sends a request by the first of these ways; the others are kept for when it fails.
    pub(super) fn send_by(&mut self, now: Instant, mut outgoing: Outgoing, mut ways: VecDeque<Peer>) {
        if let Owner::Invite(id) = outgoing.owner
            && !matches!(self.calls.get(&id).map(|c| &c.state), Some(State::Calling(_)))
        {
            // hung up while the name was being looked up
            return;
        }
        let Some(mut to) = ways.pop_front() else { return self.send_by_backup(now, outgoing) };
        self.note_host(now, &outgoing, &to);
        let branch = format!("{MAGIC_COOKIE}{}", self.random_token());
        let (mut request, mut bytes) = self.written(&outgoing, &to, &branch);
        if to.transport == Transport::Udp && bytes.len() > limits::LARGEST_UDP_REQUEST && !outgoing.large_by_udp {
            outgoing.large_by_udp = true;
            let stream = Peer { transport: Transport::Tcp, ..to.clone() };
            if !self.names.is_down(now, &stream) {
                ways.push_front(std::mem::replace(&mut to, stream));
                (request, bytes) = self.written(&outgoing, &to, &branch);
            }
        }
        self.transmit(to.clone(), bytes.clone());
        let Outgoing { owner, account, hop, backups, tries, reordered, large_by_udp, .. } = outgoing;
        if let Owner::Ack { invite, tag } = owner {
            // an ACK is no transaction: it is sent again when the 2xx comes again
            if let Some(fork) = self.clients.get_mut(&invite).and_then(|c| c.forks.iter_mut().find(|f| f.tag == tag)) {
                fork.ack = Some((to, bytes));
            }
            return;
        }
        let key = ClientKey { branch, cancel: false };
        match &owner {
            Owner::Invite(id) => {
                if let Some(call) = self.calls.get_mut(id) {
                    call.state = State::Calling(Some(key.clone()));
                    // the dialogs of the try before are not this one's
                    call.early.clear();
                }
            }
            Owner::InDialog(id, Ask::Offer) => {
                if let Some(sent) = self.calls.get_mut(id).and_then(|c| c.offering.sent.as_mut()) {
                    sent.key = Some(key.clone());
                }
            }
            _ => {}
        }
        let invite = request.method == Method::Invite;
        let mut client = Client {
            machine: ClientTransaction::new(now, invite, to.transport.is_reliable()),
            request,
            bytes,
            to,
            owner,
            account,
            hop,
            rest: ways,
            backups,
            fail_over_at: None,
            tries,
            reordered,
            large_by_udp,
            forks: Vec::new(),
            refused: false,
            cancelled: false,
        };
        client.fail_over_at = client.has_alternative().then(|| now + limits::FAILOVER);
        self.clients.insert(key.clone(), client);
        self.refresh_client(&key);
    }

    /// No server of the hop is left: the account's next proxy has its turn.
    fn send_by_backup(&mut self, now: Instant, mut outgoing: Outgoing) {
        let Some(hop) = outgoing.backups.pop_front() else {
            let why = Lost::not_found(&outgoing.hop);
            return self.lost(now, outgoing.owner, why);
        };
        if outgoing.request.headers.get("Route").is_some() {
            outgoing.request.headers.replace_first("Route", super::accounts::route_through(&hop));
        }
        outgoing.hop = hop;
        self.send(now, outgoing);
    }

    /// Whoever is sent a request is no stranger: an answer is expected from there, and within a call more than that.
    fn note_host(&mut self, now: Instant, outgoing: &Outgoing, to: &Peer) {
        let ip = to.address.ip();
        if let Some(account) = outgoing.account.and_then(|a| self.accounts.get_mut(a))
            && account.hops.contains(&outgoing.hop)
        {
            account.note_address(ip);
        }
        let call = match &outgoing.owner {
            Owner::Invite(id) => Some(*id),
            Owner::Ack { invite, .. } => match self.clients.get(invite).map(|c| &c.owner) {
                Some(Owner::Invite(id)) => Some(*id),
                _ => None,
            },
            _ => None,
        };
        match call {
            Some(id) => self.know(now, id, ip),
            None => {
                self.guard.vouch(now, ip, now + limits::KNOWN);
            }
        }
    }

    /// The request as it goes this way: with our Via and Contact as the far end can use them.
    fn written(&self, outgoing: &Outgoing, to: &Peer, branch: &str) -> (Request, Vec<u8>) {
        let mut request = outgoing.request.clone();
        let mut via = Via::new(to.transport, self.local_towards(to));
        via.params.set("rport", None);
        via.params.set("branch", Some(branch.to_owned()));
        request.headers.push_front("Via", via.to_string());
        if request.headers.get("Contact").is_none() {
            let contact = NameAddr::new(self.contact(outgoing.account, to)).to_string();
            match (&outgoing.owner, outgoing.account.and_then(|a| self.accounts.get(a))) {
                (Owner::Register(_), Some(account)) => {
                    for value in account.registration.contacts(&contact) {
                        request.headers.push("Contact", value);
                    }
                }
                _ if request.method.is_target_refresh() => request.headers.push("Contact", contact),
                _ => {}
            }
        }
        if request.headers.get("User-Agent").is_none() {
            request.headers.push("User-Agent", self.config.software.clone());
        }
        let bytes = request.to_bytes();
        (request, bytes)
    }

    /// Our address for others: what an account's registrar saw, else what a STUN server saw, else what the route to them gives.
    pub(super) fn contact(&self, account: Option<usize>, to: &Peer) -> Uri {
        let account = account.and_then(|a| self.accounts.get(a));
        let user = account.map_or(self.config.user.as_str(), |a| a.config.user.as_str());
        let seen = account
            .filter(|a| a.addresses.contains(&to.address.ip()))
            .and_then(|a| a.registration.seen_by(to.transport));
        let address = match self.config.advertised {
            Some(_) => self.local_towards(to),
            None => {
                let found = || self.stun.address_for(to.address.ip()).filter(|_| to.transport == Transport::Udp);
                seen.or_else(found).unwrap_or_else(|| self.local_towards(to))
            }
        };
        let user = crate::message::escape_user(user);
        let mut uri = Uri::sip(Some(&user), &address.ip().to_string(), Some(address.port()));
        if to.transport != Transport::Udp {
            uri.params.set("transport", Some(to.transport.as_param().to_owned()));
        }
        uri
    }

    /// Our address on the way to a peer: by configuration, else by routing, with the port where its transport is taken.
    pub(super) fn local_towards(&self, to: &Peer) -> SocketAddr {
        let udp = self.config.advertised.unwrap_or(self.config.local).port();
        let port = match to.transport {
            Transport::Udp => udp,
            Transport::Tcp => self.config.tcp_port.unwrap_or(udp),
            // whoever has reached us by TLS, or we by TLS, goes on by that connection
            Transport::Tls => self.config.tls_port.unwrap_or(udp),
        };
        SocketAddr::new(self.local_ip_towards(to.address), port)
    }

    pub(super) fn local_ip_towards(&self, to: SocketAddr) -> IpAddr {
        use super::config::LocalIp;
        match (&self.config.advertised, &self.config.local_ip) {
            (Some(advertised), _) => advertised.ip(),
            (None, LocalIp::Fixed(ip)) => *ip,
            (None, LocalIp::Route(route)) => route(to),
        }
    }

    /// 128 bits that nobody can guess, in hex.
    pub(super) fn random_token(&mut self) -> String {
        format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    pub(super) fn transmit(&mut self, to: Peer, bytes: Vec<u8>) {
        self.counters.sent += 1;
        self.record_sent(&to, &bytes);
        self.transmits.push_back(Transmit { to, bytes });
    }

    pub(super) fn transmit_again(&mut self, to: Peer, bytes: Vec<u8>) {
        self.counters.retransmitted += 1;
        self.transmit(to, bytes);
    }

    /// Cancels an INVITE of ours that has been answered provisionally; once.
    pub(super) fn send_cancel(&mut self, now: Instant, invite: &ClientKey) {
        let Some(client) = self.clients.get_mut(invite).filter(|c| !c.cancelled) else { return };
        client.cancelled = true;
        client.machine.cancelled(now);
        let mut request = hop_by_hop(&client.request, Method::Cancel);
        for name in ["From", "To"] {
            if let Some(value) = client.request.headers.get(name) {
                request.headers.push(name, value);
            }
        }
        let bytes = request.to_bytes();
        let (to, account, hop) = (client.to.clone(), client.account, client.hop.clone());
        self.transmit(to.clone(), bytes.clone());
        let key = ClientKey { branch: invite.branch.clone(), cancel: true };
        let client = Client {
            machine: ClientTransaction::new(now, false, to.transport.is_reliable()),
            request,
            bytes,
            to,
            owner: Owner::Nobody,
            account,
            hop,
            rest: VecDeque::new(),
            backups: VecDeque::new(),
            fail_over_at: None,
            tries: 0,
            reordered: 0,
            large_by_udp: false,
            forks: Vec::new(),
            refused: false,
            cancelled: false,
        };
        self.clients.insert(key.clone(), client);
        self.refresh_client(&key);
        self.refresh_client(invite);
    }

    pub(super) fn lost(&mut self, now: Instant, owner: Owner, why: Lost) {
        match owner {
            Owner::Invite(id) => self.on_invite_lost(now, id, why),
            Owner::InDialog(id, ask) => self.on_dialog_lost(now, id, &ask, why),
            Owner::Register(account) => self.on_register_lost(now, account, why),
            Owner::Options(account) => self.on_options_lost(account, why),
            Owner::Ack { .. } | Owner::Nobody => {}
        }
    }

    pub(super) fn refresh_client(&mut self, key: &ClientKey) {
        let Some(client) = self.clients.get(key) else { return };
        let (state, at) = (client.machine.state(), client.poll_timeout());
        let over = state == ClientState::Terminated;
        if over {
            self.clients.remove(key);
        }
        self.timers.set(super::TimerKey::Client(key.clone()), at.filter(|_| !over));
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
pub(super) fn refusal_ack(invite: &Request, response: &Response) -> Request {
    let mut ack = hop_by_hop(invite, Method::Ack);
    if let Some(from) = invite.headers.get("From") {
        ack.headers.push("From", from);
    }
    if let Some(to) = response.headers.get("To") {
        ack.headers.push("To", to);
    }
    ack
}
