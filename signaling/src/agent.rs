//! The user agent: SIP without sockets, clocks or threads.
//!
//! Bytes and the time go in, bytes, deadlines and events come out; see the crate's page for the loop around it.
//!
//! | file | what it is for |
//! |---|---|
//! | `config` | what the agent is made with |
//! | `outgoing` | our requests: next hop, way, transaction |
//! | `responses` | the answers to them, or their absence: credentials, the next server |
//! | `incoming` | their requests: matched, checked, answered or handed on |
//! | `caller`, `callee` | calls we make; calls we are given, and what is asked for within any call |
//! | `ended` | dialogs that are over, for what comes too late |
//! | `early`, `reliable` | what comes before the answer, to our calls and to theirs |
//! | `requests` | our requests within a call: numbers, order, answers |
//! | `reoffers`, `sessions` | other media in a call; the sign that its other end is still there |
//! | `transfer`, `referral`, `replaces` | sending the far end elsewhere, being sent, taking another call's place |
//! | `redirects` | calls that others send on |
//! | `accounts` | registration |
//! | `door` | the guard at work: strangers, floods, bans |
//! | `traces` | what went over the wire, for those who ask |
//! | `names` | looking up hosts |
//! | `stun` | our address outside the NAT |
//! | `limits` | the bounds on everything that others can make us keep |

mod accounts;
mod callee;
mod caller;
mod config;
mod door;
mod early;
mod ended;
mod incoming;
mod limits;
mod names;
mod outgoing;
mod redirects;
mod referral;
mod reliable;
mod reoffers;
mod replaces;
mod requests;
mod responses;
mod sessions;
mod stun;
mod traces;
mod transfer;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

pub use config::{
    Counters, DEFAULT_SESSION_EXPIRES, LocalIp, ReferPolicy, Resolve, ResolveId, Seed, Target, Transmit,
    UserAgentConfig,
};

use accounts::AccountState;
use ended::Ended;
use names::Names;
use outgoing::Client;
use stun::Stun;

use crate::{
    call::{Call, ClientKey, Referral, Server, ServerKey},
    dialog::Dialog,
    error::SignalingError,
    event::{CallId, Dial, Event},
    guard::{Guard, GuardCounters},
    message::{Message, read},
    timer::Timers,
    toll::TollGuard,
    trace::{Flow, Trace},
    transaction::ClientState,
    transport::{ConnectionId, Peer, Transport},
};

/// What a deadline is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum TimerKey {
    Client(ClientKey),
    Server(ServerKey),
    Call(CallId),
    Account(usize),
    /// The look at our own address.
    Network,
    /// Vouching for those that we deal with.
    Vouch,
    Stun(usize),
}

/// SIP without sockets, clocks or threads.
pub struct UserAgent {
    config: UserAgentConfig,
    rng: StdRng,
    /// For tags of answers that nothing is kept of.
    secret: [u8; 32],
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    names: Names,
    timers: Timers<TimerKey>,
    clients: HashMap<ClientKey, Client>,
    servers: HashMap<ServerKey, Server>,
    /// Of the server transactions outside dialogs: what another copy of the same request is known by.
    merged: HashSet<String>,
    calls: HashMap<CallId, Call>,
    /// Call-ID and our tag, of every call.
    dialogs: HashMap<(String, String), CallId>,
    ended: Ended,
    /// By the call that was made for each: whom to tell how it gets on.
    referrals: HashMap<CallId, Referral>,
    accounts: Vec<AccountState>,
    toll: Option<TollGuard>,
    trace: Trace,
    /// The Call-IDs of the calls that traces may be kept of.
    traced: VecDeque<(CallId, String)>,
    /// The last time that was told.
    now: Option<Instant>,
    stun: Stun,
    guard: Guard,
    /// Its timer runs.
    vouching: bool,
    last_call: u32,
    started: bool,
    /// Shutting down: nothing new is begun.
    closed: bool,
    counters: Counters,
}

impl UserAgent {
    /// A user agent; accounts that register do so at the first [`UserAgent::handle_timeout`].
    ///
    /// # Errors
    /// [`SignalingError::BadConfig`]: a configured value cannot stand in a SIP message.
    pub fn new(config: UserAgentConfig, seed: Seed) -> Result<UserAgent, SignalingError> {
        let texts = [("user", &config.user), ("software", &config.software)];
        if let Some((field, _)) = texts.iter().find(|(_, t)| t.is_empty() || t.chars().any(char::is_control)) {
            let why = "must not be empty or contain control characters";
            return Err(SignalingError::BadConfig { field: (*field).to_owned(), why });
        }
        let mut config = config;
        config.ring_limit = config.ring_limit.min(limits::LONGEST_RINGING);
        config.session_expires = config.session_expires.map(|e| e.clamp(sessions::MIN_SE, limits::LONGEST_SESSION));
        let mut rng = StdRng::from_seed(seed);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let trunks = config.accounts.iter().flat_map(|account| account.peers.iter().copied());
        config.guard.trusted.extend(trunks);
        let mut guard_seed = Seed::default();
        rng.fill_bytes(&mut guard_seed);
        let guard = Guard::new(config.guard.clone(), guard_seed)?;
        let toll = config.toll.clone().map(TollGuard::new).transpose()?;
        let stun = Stun::new(&config.stun_servers)?;
        let mut agent = UserAgent {
            stun,
            toll,
            trace: Trace::new(config.trace),
            traced: VecDeque::new(),
            now: None,
            guard,
            vouching: false,
            rng,
            secret,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            names: Names::default(),
            timers: Timers::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            merged: HashSet::new(),
            calls: HashMap::new(),
            dialogs: HashMap::new(),
            ended: Ended::default(),
            referrals: HashMap::new(),
            accounts: Vec::new(),
            last_call: 0,
            started: false,
            closed: false,
            counters: Counters::default(),
            config,
        };
        for account in agent.config.accounts.clone() {
            let call_id = agent.random_token();
            agent.trace.begin(&call_id);
            agent.accounts.push(AccountState::new(account, call_id)?);
        }
        Ok(agent)
    }

    /// Takes a datagram in.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.now = Some(now);
        self.handle_message(now, &Peer::udp(from), bytes);
    }

    /// Takes a message in: a datagram, or one whole message out of a stream, from a peer whose `connection` is set.
    pub fn handle_message(&mut self, now: Instant, from: &Peer, bytes: &[u8]) {
        self.now = Some(now);
        self.counters.received += 1;
        if from.transport == Transport::Udp && crate::stun::is_stun(bytes) {
            return self.on_stun(now, from.address, bytes);
        }
        if !self.admits(now, from) {
            return;
        }
        let message = read(bytes);
        if let Ok((_, meta)) = &message
            && self.guard.serves(now, from.address.ip())
        {
            self.record(now, Flow::Received, from, &meta.call_id, bytes);
        }
        match message {
            Ok((Message::Request(request), meta)) => self.on_request(now, from, request, meta),
            Ok((Message::Response(response), meta)) => self.on_response(now, response, meta),
            Err(bad) => self.on_bad_message(now, from, bad),
        }
    }

    /// The system said that nothing listens there (an ICMP error), or that there is no way. Requests that have had no answer
    /// are given up when it says so twice.
    pub fn handle_unreachable(&mut self, now: Instant, to: SocketAddr) {
        self.now = Some(now);
        self.on_unreachable(now, to);
        self.on_stun_unreachable(now, to);
    }

    /// A connection broke (`peer.connection` says which), or could not be made (it is `None`). `reason` is one sentence for
    /// people. Requests that wait for an answer from there go to the next server, or are given up.
    pub fn handle_closed(&mut self, now: Instant, peer: &Peer, reason: &str) {
        self.now = Some(now);
        self.on_closed(now, peer, reason);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = Some(now);
        self.start_accounts(now);
        self.ended.forget(now);
        while let Some(key) = self.timers.pop_due(now) {
            match key {
                TimerKey::Client(key) => self.on_client_timer(now, &key),
                TimerKey::Server(key) => self.on_server_timer(now, &key),
                TimerKey::Call(id) => self.on_call_timer(now, id),
                TimerKey::Account(index) => self.on_account_timer(now, index),
                TimerKey::Network => self.on_network_timer(now),
                TimerKey::Vouch => self.on_vouch_timer(now),
                TimerKey::Stun(index) => self.on_stun_timer(now, index),
            }
        }
    }

    /// When [`UserAgent::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next datagram to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next name to be looked up.
    pub fn poll_resolve(&mut self) -> Option<Resolve> {
        self.names.poll_question()
    }

    /// Answers [`UserAgent::poll_resolve`]: servers in order of preference, and how long that may be remembered. No server at
    /// all: the name was not found.
    pub fn handle_resolved(&mut self, now: Instant, id: ResolveId, targets: &[Target], life: Duration) {
        self.now = Some(now);
        // a socket of one family cannot send to the other
        let local = self.config.local;
        // except one that listens on every address of a machine with both
        let both = local.is_ipv6() && local.ip().is_unspecified();
        let fits = |t: &&Target| both || t.address.is_ipv4() == local.is_ipv4();
        let targets: Vec<_> = targets.iter().filter(fits).take(limits::TARGETS).copied().collect();
        let found = !targets.is_empty();
        self.on_stun_resolved(now, id, &targets);
        for outgoing in self.names.resolved(now, id, targets.clone(), life) {
            if let Some(account) = outgoing.account.and_then(|a| self.accounts.get_mut(a))
                && account.hops.contains(&outgoing.hop)
            {
                targets.iter().for_each(|target| account.note_address(target.address.ip()));
            }
            if found {
                self.send(now, outgoing);
            } else {
                self.send_by(now, outgoing, VecDeque::new());
            }
        }
    }

    /// Calls somebody.
    ///
    /// # Errors
    /// Nothing was sent: no such account, an address that cannot be dialled, or too many calls.
    pub fn dial(&mut self, now: Instant, dial: Dial) -> Result<CallId, SignalingError> {
        self.now = Some(now);
        self.do_dial(now, &dial)
    }

    /// As [`UserAgent::dial`], answered by an event in the order of all others.
    pub(crate) fn dial_tagged(&mut self, now: Instant, tag: u64, dial: Dial) {
        let before = self.events.len();
        let event = match self.dial(now, dial) {
            Ok(call) => Event::Dialing { tag, call },
            Err(e) => Event::DialFailed { tag, error: e.to_string() },
        };
        // a call that fails at once has ended already, but nobody knows its number before this
        self.events.insert(before, event);
    }

    /// Gives an incoming call early media: 183 with our answer (or offer, if the INVITE had none). Where the caller can, it is
    /// acknowledged (RFC 3262); an answer to the call waits for that by itself, and cannot describe anything else.
    ///
    /// # Errors
    /// No such call, it is not waiting for an answer, or too many of these wait for their acknowledgement.
    pub fn progress(&mut self, now: Instant, call: CallId, sdp: String) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.send_progress(now, call, 183, Some(sdp))
    }

    /// Offers other media in a call that is up: hold, resume, other codecs, another address. One at a time; what collides with
    /// an offer of the far end's is tried again by itself. Ends with [`Event::ReofferAnswered`] or [`Event::ReofferRefused`].
    ///
    /// # Errors
    /// No such call, it is not up, or the offer before is not answered.
    pub fn reoffer(&mut self, now: Instant, call: CallId, sdp: String) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_reoffer(now, call, sdp)
    }

    /// Sends INFO in a call that is up, such as digits. They go out one after the other.
    ///
    /// # Errors
    /// No such call, it is not up, too many wait, or the content type cannot stand in a header.
    pub fn info(
        &mut self,
        now: Instant,
        call: CallId,
        content_type: String,
        body: String,
    ) -> Result<(), SignalingError> {
        self.do_info(now, call, content_type, body)
    }

    /// Sends the far end to somebody else (REFER); `to` is as in [`Dial`]. Ends with [`Event::TransferEnded`].
    ///
    /// # Errors
    /// No such call, it is not up, a transfer is under way, or an address that cannot be called.
    pub fn transfer(&mut self, now: Instant, call: CallId, to: &str) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_transfer(now, call, to)
    }

    /// Connects the far ends of two calls with one another (REFER with Replaces). When that is done both calls end.
    ///
    /// # Errors
    /// One of the calls is not there or not up, they are the same, or a transfer is under way.
    pub fn transfer_to(&mut self, now: Instant, call: CallId, other: CallId) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_transfer_to(now, call, other)
    }

    /// Does what [`Event::TransferRequested`] asks for: calls that address, with this offer. The call that it came in stays up
    /// until one side ends it.
    ///
    /// # Errors
    /// No such call, nothing was asked, or an address that cannot be called (the far end is then refused).
    pub fn accept_transfer(&mut self, now: Instant, call: CallId, sdp: String) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_accept_transfer(now, call, sdp)
    }

    /// Refuses what [`Event::TransferRequested`] asks for.
    ///
    /// # Errors
    /// No such call, nothing was asked, or the status is none that refuses.
    pub fn reject_transfer(&mut self, now: Instant, call: CallId, status: u16) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_reject_transfer(now, call, status)
    }

    /// Sends 180 for an incoming call.
    ///
    /// # Errors
    /// No such call, or it is not waiting for an answer.
    pub fn ring(&mut self, now: Instant, call: CallId) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.send_progress(now, call, 180, None)
    }

    /// Answers an incoming call with 200.
    ///
    /// # Errors
    /// No such call, or it is not waiting for an answer.
    pub fn answer(&mut self, now: Instant, call: CallId, sdp: String) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_answer(now, call, &sdp)
    }

    /// Refuses an incoming call with a status of 300 to 699; ends with [`Event::Ended`].
    ///
    /// # Errors
    /// No such call, it is not waiting for an answer, or the status is none that refuses.
    pub fn reject(&mut self, now: Instant, call: CallId, status: u16) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_reject(now, call, status)
    }

    /// Ends a call in whatever state: BYE, CANCEL, or 603. [`Event::Ended`] comes at once; what is left of the protocol is
    /// done behind it.
    ///
    /// # Errors
    /// No such call.
    pub fn hangup(&mut self, now: Instant, call: CallId) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_hangup(now, call)
    }

    /// Answers [`Event::Reoffer`]: with an answer, or with an offer if it had no description.
    ///
    /// # Errors
    /// No such call, or nothing was offered.
    pub fn answer_reoffer(&mut self, now: Instant, call: CallId, sdp: String) -> Result<(), SignalingError> {
        self.now = Some(now);
        self.do_answer_reoffer(now, call, &sdp)
    }

    /// Refuses [`Event::Reoffer`], usually with 488; the call goes on as it was.
    ///
    /// # Errors
    /// No such call, nothing was offered, or the status is none that refuses.
    pub fn reject_reoffer(&mut self, now: Instant, call: CallId, status: u16) -> Result<(), SignalingError> {
        self.now = Some(now);
        if !(300..=699).contains(&status) {
            return Err(SignalingError::BadStatus(status));
        }
        self.live_call(call)?;
        match self.decline_reoffer(now, call, status) {
            true => Ok(()),
            false => Err(SignalingError::WrongState { call, action: "refused other media" }),
        }
    }

    /// Ends all calls, removes all bindings and takes nothing new. Go on until [`UserAgent::is_idle`].
    pub fn shutdown(&mut self, now: Instant) {
        self.now = Some(now);
        self.closed = true;
        // what is left takes less time than those that we deal with are known for
        for timer in [TimerKey::Vouch, TimerKey::Network] {
            self.timers.set(timer, None);
        }
        self.stop_stun();
        let live: Vec<_> = self.calls.values().filter(|c| c.is_live()).map(|c| c.id).collect();
        for id in live {
            // it is live, so hanging up cannot fail
            let _ = self.do_hangup(now, id);
        }
        for index in 0..self.accounts.len() {
            if self.accounts.get_mut(index).is_some_and(|a| a.registration.leave()) {
                self.send_register(now, index);
            }
            self.refresh_account(index);
        }
    }

    /// Nothing is under way: no call, no transaction.
    pub fn is_idle(&self) -> bool {
        let waits = |c: &Client| matches!(c.machine.state(), ClientState::Calling | ClientState::Proceeding);
        self.transmits.is_empty() && self.calls.is_empty() && self.names.is_idle() && !self.clients.values().any(waits)
    }

    /// A call would miss this connection: it came in by it, or (of one that we `made`) there is any call at all, for what the
    /// far end sends within a call may come by the connection that the call was made by.
    pub fn needs_connection(&self, id: ConnectionId, made: bool) -> bool {
        let flows = |call: &Call| call.dialog.as_ref().and_then(|d| d.flow.as_ref()).and_then(|flow| flow.connection);
        self.calls.values().any(|call| call.is_live() && (made || flows(call) == Some(id)))
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What the guard counted: whom it let in, and why it dropped the others.
    pub fn guard_counters(&self) -> GuardCounters {
        self.guard.counters()
    }

    /// Registers what is to be registered, the first time that the time is known.
    fn start_accounts(&mut self, now: Instant) {
        if self.started || self.closed {
            return;
        }
        self.started = true;
        for index in 0..self.accounts.len() {
            self.start_account(now, index);
        }
        self.on_vouch_timer(now);
        self.start_stun(now);
    }

    fn new_call_id(&mut self) -> CallId {
        self.last_call = self.last_call.wrapping_add(1);
        CallId(self.last_call)
    }

    /// A session id that fits a signed 64-bit number with room to count up from: not every reader takes more.
    fn session_number(&mut self) -> u64 {
        u64::from(self.rng.next_u32())
    }

    fn live_call(&self, id: CallId) -> Result<&Call, SignalingError> {
        self.calls.get(&id).filter(|c| c.is_live()).ok_or(SignalingError::NoSuchCall(id))
    }

    fn refresh_call(&mut self, id: CallId) {
        let at = self.calls.get(&id).and_then(Call::poll_timeout);
        self.timers.set(TimerKey::Call(id), at);
    }

    /// What still comes of this dialog comes too late, and is no offence.
    fn entomb(&mut self, dialog: &Dialog) {
        let Some(now) = self.now else { return };
        self.ended.add(now, dialog.call_id(), dialog.local_tag(), dialog.remote_tag());
    }

    fn remove_call(&mut self, id: CallId) {
        if let Some(call) = self.calls.remove(&id) {
            self.trace.end(&call.call_id);
            if let Some(dialog) = &call.dialog {
                self.keep_for_referrals(id, dialog);
                self.entomb(dialog);
            }
            self.dialogs.remove(&(call.call_id, call.local_tag));
        }
        self.refresh_call(id);
    }
}

/// Numbers only: what is said in its calls has keys and credentials in it (case 46).
impl fmt::Debug for UserAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserAgent")
            .field("local", &self.config.local)
            .field("accounts", &self.accounts.len())
            .field("calls", &self.calls.len())
            .field("clients", &self.clients.len())
            .field("servers", &self.servers.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
