//! When to register, refresh, retry and leave: the clock of one account, without its messages.
//!
//! What must hold: at most one REGISTER is under way; a wrong password is tried again only after minutes; a network that
//! was gone is noticed within seconds of its return, because a REGISTER without an answer is itself repeated every 4 s (timer E)
//! and the pause before the next one is about as short (case 36).

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};

use crate::{
    auth::Challenge,
    transaction::{T1, T2},
    transport::{Peer, Transport},
};

/// A registrar that grants less is asked again this soon anyway.
const SHORTEST_REFRESH: Duration = Duration::from_secs(5);
/// First and longest pause after an error of the registrar (5xx, 4xx that are not about the password); doubles in between.
const ERROR_PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// First and longest pause after refused credentials. Faster would look like guessing and get the address banned.
const REFUSED_PAUSE: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(3600));
/// The longest pause after silence; see the file's head.
const SILENCE_PAUSE: (Duration, Duration) = (T1, T2);
/// How often a NAT's binding towards the registrar is kept open: the shortest UDP timeouts in use are 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(24);
/// See [`Registration::seen`].
const SHORTEST_MOVE: Duration = Duration::from_secs(60);
/// A registrar's wish is followed up to a day.
const LONGEST_EXPIRES: Duration = Duration::from_secs(86_400);

/// Why a registration did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No answer, no name, no route.
    Silence,
    /// The registrar is not able to; it may have said how long.
    Error(Option<Duration>),
    /// The registrar does not want us.
    Refused,
}

/// Where the account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing under way; the next REGISTER is due at this time, or never.
    Waiting(Option<Instant>),
    /// A REGISTER is under way.
    Asking,
    /// The last REGISTER, with expires 0, is under way.
    Leaving,
}

/// The registration of one account.
#[derive(Debug)]
pub(crate) struct Registration {
    state: State,
    /// All REGISTERs of an account have one Call-ID and rising numbers (section 10.2).
    pub(crate) call_id: String,
    cseq: u32,
    pub(crate) expires: Duration,
    registered: bool,
    failures: u32,
    /// Our address as the registrar saw it, when that is not the one we know, and over which transport it saw it.
    seen_as: Option<(Transport, SocketAddr)>,
    /// The Contact of the last REGISTER that was accepted.
    pub(crate) bound: Option<String>,
    /// The last challenge that was answered well, and how often: refreshes need not be asked again.
    pub(crate) challenge: Option<(Challenge, u32)>,
    keep_alive: Option<(Instant, Peer)>,
    /// The connection that the binding leads back by, if it is one.
    flow: Option<Peer>,
    /// When `seen_as` last made us register again.
    moved: Option<Instant>,
}

impl Registration {
    pub(crate) fn new(call_id: String, expires: Duration) -> Registration {
        Registration {
            state: State::Waiting(None),
            call_id,
            cseq: 0,
            expires: expires.clamp(SHORTEST_REFRESH, LONGEST_EXPIRES),
            registered: false,
            failures: 0,
            seen_as: None,
            bound: None,
            challenge: None,
            keep_alive: None,
            flow: None,
            moved: None,
        }
    }

    /// The first REGISTER is due.
    pub(crate) fn start(&mut self, now: Instant) {
        self.state = State::Waiting(Some(now));
    }

    /// The challenge that the next REGISTER may answer unasked, and how often it will then have been answered.
    pub(crate) fn next_credentials(&mut self) -> Option<(Challenge, u32)> {
        let (_, count) = self.challenge.as_mut()?;
        *count += 1;
        self.challenge.clone()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = match self.state {
            State::Waiting(at) => at,
            State::Asking | State::Leaving => None,
        };
        due.into_iter().chain(self.keep_alive.as_ref().map(|(at, _)| *at)).min()
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Waiting(Some(at)) if now >= at)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.state == State::Leaving
    }

    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state, State::Asking | State::Leaving)
    }

    /// A REGISTER is about to be sent: its number.
    pub(crate) fn ask(&mut self) -> u32 {
        if self.state != State::Leaving {
            self.state = State::Asking;
        }
        self.cseq += 1;
        self.cseq
    }

    /// The answer is to the last REGISTER that was sent, not to one that it overtook.
    pub(crate) fn is_current(&self, cseq: u32) -> bool {
        self.is_busy() && cseq == self.cseq
    }

    /// The Contacts of the next REGISTER: ours, and the one it replaces; or the one that is given up.
    pub(crate) fn contacts(&self, ours: &str) -> Vec<String> {
        let old = self.bound.as_deref().filter(|b| *b != ours);
        match (self.state, old) {
            (State::Leaving, old) => vec![format!("{};expires=0", old.unwrap_or(ours))],
            (_, Some(old)) => vec![ours.to_owned(), format!("{old};expires=0")],
            (_, None) => vec![ours.to_owned()],
        }
    }

    /// Ends the account. True: there is a binding to be removed, by a REGISTER that has to be sent now.
    pub(crate) fn leave(&mut self) -> bool {
        self.keep_alive = None;
        let bound = self.registered || self.state == State::Asking;
        self.state = if bound { State::Leaving } else { State::Waiting(None) };
        bound
    }

    /// The registrar has said yes. `keep_open`: there is a connection, or a NAT in between, that is kept open.
    pub(crate) fn succeeded(&mut self, now: Instant, granted: Duration, keep_open: Option<Peer>, rng: &mut StdRng) {
        self.failures = 0;
        if self.state == State::Leaving {
            self.registered = false;
            self.bound = None;
            self.state = State::Waiting(None);
            return;
        }
        self.registered = true;
        let refresh = granted.mul_f64(rng.random_range(0.80..0.90)).max(SHORTEST_REFRESH);
        self.state = State::Waiting(Some(now + refresh));
        self.flow = keep_open.clone().filter(|peer| peer.transport.is_reliable());
        self.keep_alive = keep_open.map(|to| (now + KEEP_ALIVE, to));
    }

    /// A connection broke. If it was the way back to us, calls come in no more until a new binding is made.
    pub(crate) fn connection_lost(&mut self, now: Instant, peer: &Peer, rng: &mut StdRng) {
        if self.flow.take_if(|flow| flow.is_same_place(peer)).is_some()
            && let State::Waiting(Some(_)) = self.state
        {
            // not at once: a registrar that restarts has closed the connections of all its phones
            self.state = State::Waiting(Some(now + T1.mul_f64(rng.random_range(0.2..2.0))));
        }
    }

    /// Our address has changed: the binding leads nowhere.
    pub(crate) fn address_changed(&mut self, now: Instant) {
        if let State::Waiting(Some(_)) = self.state {
            self.state = State::Waiting(Some(now));
        }
    }

    /// The NAT has given us another address, which a STUN server saw: what the registrar saw before does not count any more.
    pub(crate) fn mapping_changed(&mut self, now: Instant) {
        self.seen_as = None;
        self.contact_changed(now);
    }

    /// The binding is of an address that is not the best we know. As with [`Registration::seen`], we register anew for that
    /// not more than once a minute.
    pub(crate) fn contact_changed(&mut self, now: Instant) {
        if let State::Waiting(Some(at)) = self.state
            && now < at
        {
            let rested = self.moved.map_or(now, |moved| now.max(moved + SHORTEST_MOVE));
            if rested < at {
                self.moved = Some(rested);
                self.state = State::Waiting(Some(rested));
            }
        }
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registered
    }

    /// Our address as the registrar sees it.
    pub(crate) fn seen_by(&self, transport: Transport) -> Option<SocketAddr> {
        self.seen_as.filter(|(t, _)| *t == transport).map(|(_, address)| address)
    }

    /// The registrar saw us at this address (`None`: at the one we gave). If that is new we register again at once — but
    /// not more than once a minute, for there are NATs that change their mind with every packet.
    pub(crate) fn seen(&mut self, now: Instant, transport: Transport, address: Option<SocketAddr>) {
        let seen_as = address.map(|address| (transport, address));
        let changed = address.is_some() && seen_as != self.seen_as;
        self.seen_as = seen_as;
        let rested = self.moved.is_none_or(|at| now >= at + SHORTEST_MOVE);
        if changed && rested && matches!(self.state, State::Waiting(Some(_))) {
            self.moved = Some(now);
            self.state = State::Waiting(Some(now));
        }
    }

    /// 423: the registrar wants a longer time. False: it asks for nothing sensible.
    pub(crate) fn wants_longer(&mut self, at_least: Duration) -> bool {
        let good = at_least > self.expires && at_least <= LONGEST_EXPIRES;
        if good {
            self.expires = at_least;
        }
        good
    }

    /// It did not work: how long until it is tried again; `None`: it is not, we were leaving.
    pub(crate) fn failed(&mut self, now: Instant, failure: Failure, rng: &mut StdRng) -> Option<Duration> {
        self.keep_alive = None;
        self.flow = None;
        self.registered = false;
        self.challenge = None;
        if self.state == State::Leaving {
            self.state = State::Waiting(None);
            return None;
        }
        let ((first, longest), at_least) = match failure {
            Failure::Silence => (SILENCE_PAUSE, None),
            Failure::Error(retry_after) => (ERROR_PAUSE, retry_after),
            Failure::Refused => (REFUSED_PAUSE, None),
        };
        let doubled = first.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures += 1;
        // a quarter either way is left to chance, so that many phones do not come back in step
        let pause = doubled.mul_f64(rng.random_range(0.75..1.25));
        let pause = pause.max(at_least.unwrap_or_default().min(LONGEST_EXPIRES));
        self.state = State::Waiting(Some(now + pause));
        Some(pause)
    }

    /// Where a keep-alive is due to.
    pub(crate) fn keep_alive(&mut self, now: Instant) -> Option<Peer> {
        let (at, to) = self.keep_alive.as_mut().filter(|(at, _)| now >= *at)?;
        *at = now + KEEP_ALIVE;
        Some(to.clone())
    }
}
