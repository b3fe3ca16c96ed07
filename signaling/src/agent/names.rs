//! Names on their way to addresses: what is known, what has been asked, which requests wait for it, and which of several
//! servers did not answer lately (RFC 3263 section 4.3).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    config::{Resolve, ResolveId, Target},
    limits,
    outgoing::Outgoing,
};
use crate::{
    message::{Uri, literal, read_host_port},
    transport::{Peer, Transport},
};

/// The next hop of a request, before its name is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) transport: Option<Transport>,
    /// `sips`: TLS on every hop, so on this one.
    pub(super) secure: bool,
}

impl Hop {
    /// From `host[:port]`, as configurations have it.
    pub(super) fn read(text: &str, transport: Option<Transport>) -> Option<Hop> {
        let (host, port) = read_host_port(text)?;
        Some(Hop { host, port, transport, secure: false })
    }

    /// Where a request to this URI goes; `None` if it is not a SIP URI, or wants a transport that is not spoken here.
    pub(super) fn of_uri(uri: &Uri) -> Option<Hop> {
        let host = uri.params.get("maddr").filter(|m| !m.is_empty()).unwrap_or(&uri.host);
        if !uri.is_sip() || host.is_empty() {
            return None;
        }
        let transport = match uri.params.get("transport") {
            Some(word) => Some(Transport::read(word)?),
            None => None,
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        Some(Hop { host, port: uri.port, transport, secure: uri.scheme == "sips" })
    }

    /// The transport where no lookup decides it (section 4.1).
    pub(super) fn plain_transport(&self) -> Transport {
        match self.transport {
            _ if self.secure => Transport::Tls,
            Some(transport) => transport,
            None => Transport::Udp,
        }
    }

    fn peer(&self, target: Target) -> Peer {
        let name = (target.transport == Transport::Tls).then(|| Arc::from(self.host.as_str()));
        Peer { transport: target.transport, address: target.address, connection: None, name }
    }
}

/// What was found for a name.
#[derive(Debug)]
struct Found {
    targets: Vec<Target>,
    until: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    cache: HashMap<Hop, Found>,
    /// Did not answer lately, until when that counts.
    down: HashMap<Target, Instant>,
    waiting: HashMap<ResolveId, (Hop, Vec<Outgoing>)>,
    questions: VecDeque<Resolve>,
    asked: u64,
    held: usize,
}

impl Names {
    /// The servers of a hop, best first; `None`: to be looked up.
    pub(super) fn look_up(&self, now: Instant, hop: &Hop) -> Option<VecDeque<Peer>> {
        if let Some(ip) = literal(&hop.host) {
            let transport = hop.plain_transport();
            let address = (ip, hop.port.unwrap_or(transport.default_port())).into();
            return Some([hop.peer(Target { transport, address })].into());
        }
        let found = self.cache.get(hop).filter(|found| now < found.until)?;
        let is_down = |t: &Target| self.down.get(t).is_some_and(|until| now < *until);
        let (down, up): (Vec<_>, Vec<_>) = found.targets.iter().copied().partition(is_down);
        Some(up.into_iter().chain(down).map(|target| hop.peer(target)).collect())
    }

    /// Keeps a request until its hop is known; hands it back if too many wait.
    pub(super) fn wait(&mut self, outgoing: Outgoing) -> Result<(), Box<Outgoing>> {
        if self.held >= limits::WAITING {
            return Err(Box::new(outgoing));
        }
        self.held += 1;
        if let Some((_, list)) = self.waiting.values_mut().find(|(hop, _)| *hop == outgoing.hop) {
            list.push(outgoing);
            return Ok(());
        }
        self.question(outgoing.hop.clone(), vec![outgoing]);
        Ok(())
    }

    /// Asks for a hop without a request that waits for it.
    pub(super) fn ask(&mut self, hop: &Hop) -> ResolveId {
        match self.waiting.iter().find(|(_, (asked, _))| asked == hop) {
            Some((id, _)) => *id,
            None => self.question(hop.clone(), Vec::new()),
        }
    }

    fn question(&mut self, hop: Hop, waiting: Vec<Outgoing>) -> ResolveId {
        self.asked += 1;
        let id = ResolveId(self.asked);
        let Hop { host, port, transport, secure } = hop.clone();
        self.questions.push_back(Resolve { id, host, port, transport, secure });
        self.waiting.insert(id, (hop, waiting));
        id
    }

    pub(super) fn poll_question(&mut self) -> Option<Resolve> {
        self.questions.pop_front()
    }

    /// The requests that waited for this answer.
    pub(super) fn resolved(
        &mut self,
        now: Instant,
        id: ResolveId,
        targets: Vec<Target>,
        life: Duration,
    ) -> Vec<Outgoing> {
        let Some((hop, list)) = self.waiting.remove(&id) else { return Vec::new() };
        self.held -= list.len();
        if self.cache.len() >= limits::NAMES {
            self.cache.retain(|_, found| now < found.until);
        }
        if self.cache.len() >= limits::NAMES {
            self.cache.clear();
        }
        if !targets.is_empty() {
            self.cache.insert(hop, Found { targets, until: now + life.min(limits::NAME_LIFE) });
        }
        list
    }

    /// A server did not answer: others come first for a while, and a name that has no other is looked up afresh.
    pub(super) fn failed(&mut self, now: Instant, peer: &Peer) {
        if self.down.len() >= limits::NAMES {
            self.down.retain(|_, until| now < *until);
        }
        if self.down.len() < limits::NAMES {
            let target = Target { transport: peer.transport, address: peer.address };
            self.down.insert(target, now + limits::DOWN);
        }
        let down = &self.down;
        self.cache.retain(|_, found| found.targets.iter().any(|t| down.get(t).is_none_or(|until| now >= *until)));
    }

    pub(super) fn is_down(&self, now: Instant, peer: &Peer) -> bool {
        let target = Target { transport: peer.transport, address: peer.address };
        self.down.get(&target).is_some_and(|until| now < *until)
    }

    /// A server answered.
    pub(super) fn answered(&mut self, peer: &Peer) {
        if !self.down.is_empty() {
            self.down.remove(&Target { transport: peer.transport, address: peer.address });
        }
    }

    /// No request waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.values().all(|(_, list)| list.is_empty())
    }
}
