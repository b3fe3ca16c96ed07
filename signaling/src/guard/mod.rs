//! The door: who may talk to us, and how much, decided before a byte is read.
//!
//! ```text
//!   datagram from ip --> trusted?  --> pass, always
//!                        known?    --> pass, up to peer_rate                  (the agent vouches: registrar, far end of a call)
//!                        banned?   --> drop
//!                        stranger  --> own bucket, then the strangers' bucket  --> pass
//!                        newcomer  --> the newcomers' bucket, then remembered  --> pass
//! ```
//!
//! What must hold:
//! - Strangers cannot touch the others: trusted and known addresses are looked up first, in places of their own that no
//!   stranger's datagram ever writes to (cases 2 and 17).
//! - [`Guard::admit`] does the same small work for every datagram: a search in the trusted ranges, one look into the map of
//!   peers, at most two into one set of the table. It never allocates.
//! - Memory is fixed when the guard is made. A flood of forged addresses is let in, and remembered, at the newcomers' rate
//!   only; that is how fast it can make us forget others, and never those who are banned. Nor can it get so many banned that
//!   no room is left for the rest: a quarter of the table is theirs. A stranger that was heard before does not compete
//!   with the flood; a new one does, and mostly loses: whoever is to be reached in a flood is vouched for or trusted.
//! - A trusted address is never banned, and a known one not while it is vouched for: whoever forges the registrar's address
//!   must not cut us off from it. For strangers that cannot be had; their first ban is short for that reason.
//!
//! Bans are by IPv4 address or IPv6 network of 64 bits; what the agent vouches for is the one address.

mod bucket;
mod config;
mod hash;
mod table;
#[cfg(test)]
mod tests;
mod trusted;

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

pub use bucket::Rate;
pub(crate) use bucket::{Bucket, Limit};
pub use config::{
    Ban, BanRules, DropReason, GuardConfig, GuardCounters, Offence, SCANNERS, Standing, Strangers, Verdict,
};

use crate::{agent::Seed, error::SignalingError};
use hash::Secret;
use table::{Key, Table};
use trusted::Trusted;

/// A User-Agent is looked at up to here.
const LOOKED_AT: usize = 256;
/// Peers that are over are swept out at most this often, when there is no room for a new one.
const SWEEP: Duration = Duration::from_secs(1);

/// An address that the agent vouches for.
#[derive(Debug)]
struct Peer {
    until: Instant,
    bucket: Bucket,
}

/// The configured rates, checked.
#[derive(Debug)]
struct Limits {
    stranger: Limit,
    strangers: Limit,
    newcomers: Limit,
    peer: Option<Limit>,
}

/// The door; see the module's page.
#[derive(Debug)]
pub struct Guard {
    config: GuardConfig,
    limits: Limits,
    /// Where its clock begins: the first time that it was told of.
    epoch: Option<Instant>,
    trusted: Trusted,
    peers: HashMap<Key, Peer, Secret>,
    swept: Option<Instant>,
    table: Table,
    strangers: Bucket,
    newcomers: Bucket,
    /// Open connections of those who are not trusted.
    connections: HashMap<Key, usize, Secret>,
    strangers_connections: usize,
    counters: GuardCounters,
}

/// A connection that was let in, to be given back to [`Guard::leave`] when it closes.
#[derive(Debug)]
#[must_use = "a seat that is not given back stays taken"]
pub struct Seat {
    /// `None`: of a trusted address, not counted.
    key: Option<Key>,
    stranger: bool,
}

impl Guard {
    /// A guard that has seen nobody. `seed`: of it, who falls together with whom in the table is made.
    ///
    /// # Errors
    /// [`SignalingError::BadConfig`]: a rate is none, or a ban takes no offence or no time.
    pub fn new(config: GuardConfig, seed: Seed) -> Result<Guard, SignalingError> {
        let bad = |field: &str, why| Err(SignalingError::BadConfig { field: field.to_owned(), why });
        if config.ban.offences == 0 {
            return bad("guard.ban.offences", "must be at least 1");
        }
        if config.ban.first.is_zero() || config.ban.longest < config.ban.first {
            return bad("guard.ban.first", "must be more than nothing and not more than guard.ban.longest");
        }
        let limits = Limits {
            stranger: config.stranger_rate.limit("guard.stranger_rate")?,
            strangers: config.strangers_rate.limit("guard.strangers_rate")?,
            newcomers: config.newcomer_rate.limit("guard.newcomer_rate")?,
            peer: config.peer_rate.map(|rate| rate.limit("guard.peer_rate")).transpose()?,
        };
        let secret = Secret::of(&seed);
        Ok(Guard {
            limits,
            epoch: None,
            trusted: Trusted::new(&config.trusted),
            peers: HashMap::with_capacity_and_hasher(config.peers.min(65_536), secret),
            swept: None,
            table: Table::new(config.remembered, secret),
            strangers: Bucket::default(),
            newcomers: Bucket::default(),
            connections: HashMap::with_hasher(secret),
            strangers_connections: 0,
            counters: GuardCounters::default(),
            config,
        })
    }

    /// Decides about a datagram, before it is read. To be called once for each.
    pub fn admit(&mut self, now: Instant, ip: IpAddr) -> Verdict {
        let ip = ip.to_canonical();
        self.epoch.get_or_insert(now);
        if self.trusted.contains(ip) {
            self.counters.trusted += 1;
            return Verdict::Pass;
        }
        let time = self.time(now);
        let peer = self.peers.get_mut(&Key::exact(ip)).filter(|peer| now < peer.until);
        let verdict = match peer {
            Some(peer) => match self.limits.peer {
                Some(limit) if !peer.bucket.take(time, limit) => Err(DropReason::Rate),
                _ => Ok(&mut self.counters.known),
            },
            None => self.admit_stranger(time, Key::of(ip)).map(|()| &mut self.counters.strangers),
        };
        match verdict {
            Ok(counter) => {
                *counter += 1;
                Verdict::Pass
            }
            Err(reason) => {
                self.counters.count_drop(reason);
                Verdict::Drop(reason)
            }
        }
    }

    fn admit_stranger(&mut self, time: u64, key: Key) -> Result<(), DropReason> {
        if let Some(slot) = self.table.get_mut(key) {
            if slot.is_banned(time) {
                return Err(DropReason::Banned);
            }
            slot.seen = time;
            if !slot.bucket.take(time, self.limits.stranger) {
                return Err(DropReason::Rate);
            }
            return match self.strangers.take(time, self.limits.strangers) {
                true => Ok(()),
                false => Err(DropReason::Strangers),
            };
        }
        if !self.newcomers.take(time, self.limits.newcomers) {
            return Err(DropReason::Newcomers);
        }
        if let Some(slot) = self.table.enter(time, key) {
            slot.bucket.take(time, self.limits.stranger);
        }
        Ok(())
    }

    /// Who an address is.
    pub fn standing(&self, now: Instant, ip: IpAddr) -> Standing {
        let ip = ip.to_canonical();
        if self.trusted.contains(ip) {
            return Standing::Trusted;
        }
        if self.peers.get(&Key::exact(ip)).is_some_and(|peer| now < peer.until) {
            return Standing::Known;
        }
        match self.table.get(Key::of(ip)) {
            Some(slot) if slot.is_banned(self.time(now)) => Standing::Banned,
            _ => Standing::Stranger,
        }
    }

    /// Whether a request from there gets an answer at all. With [`Strangers::Refuse`] a stranger's is 403, see
    /// [`Guard::serves`].
    pub fn answers(&self, now: Instant, ip: IpAddr) -> bool {
        match self.standing(now, ip) {
            Standing::Trusted | Standing::Known => true,
            Standing::Stranger => self.config.strangers != Strangers::Ignore,
            Standing::Banned => false,
        }
    }

    /// Whether a request from there is done what it asks for: whether it may become a call.
    pub fn serves(&self, now: Instant, ip: IpAddr) -> bool {
        match self.standing(now, ip) {
            Standing::Trusted | Standing::Known => true,
            Standing::Stranger => self.config.strangers == Strangers::Answer,
            Standing::Banned => false,
        }
    }

    /// The agent knows who is there, until then: we registered there, or there is the far end of a call. A later time than
    /// the one that was given before counts, an earlier one does not. It is heard even if it was banned.
    ///
    /// False: there is no room for more peers, and it stays a stranger; trusted addresses need none.
    pub fn vouch(&mut self, now: Instant, ip: IpAddr, until: Instant) -> bool {
        let ip = ip.to_canonical();
        if self.trusted.contains(ip) {
            return true;
        }
        if let Some(peer) = self.peers.get_mut(&Key::exact(ip)) {
            peer.until = peer.until.max(until);
            return true;
        }
        // sweeping takes time in the number of peers: not for each of many that find no room
        let rested = self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP);
        if self.peers.len() >= self.config.peers && rested {
            self.swept = Some(now);
            self.peers.retain(|_, peer| now < peer.until);
        }
        if self.peers.len() >= self.config.peers {
            self.counters.refused_peers += 1;
            return false;
        }
        self.peers.insert(Key::exact(ip), Peer { until, bucket: Bucket::default() });
        true
    }

    /// The agent knows nobody there any more.
    pub fn disown(&mut self, ip: IpAddr) {
        self.peers.remove(&Key::exact(ip));
    }

    /// Somebody has done what friends do not. `Some`: that was one too many, here is the ban, for one line in the log.
    pub fn offend(&mut self, now: Instant, ip: IpAddr, offence: Offence) -> Option<Ban> {
        self.counters.offences += 1;
        self.epoch.get_or_insert(now);
        if self.standing(now, ip) != Standing::Stranger {
            return None;
        }
        let time = self.time(now);
        let rules = self.config.ban;
        let key = Key::of(ip);
        let crowded = self.table.is_crowded(time, key);
        let slot = self.table.enter(time, key)?;
        if slot.offences == 0 || time.saturating_sub(slot.window) > nanos(rules.window) {
            (slot.window, slot.offences) = (time, 0);
        }
        slot.offences = slot.offences.saturating_add(offence.weight());
        if slot.offences < rules.offences {
            return None;
        }
        if crowded {
            self.counters.refused_bans += 1;
            return None;
        }
        if time.saturating_sub(slot.banned_until) > nanos(rules.forget) {
            slot.bans = 0;
        }
        let length = rules.first.saturating_mul(1 << slot.bans.min(31)).min(rules.longest);
        slot.bans = slot.bans.saturating_add(1);
        slot.banned_until = time.saturating_add(nanos(length));
        slot.offence = Some(offence);
        slot.offences = 0;
        self.counters.bans += 1;
        Some(Ban { address: key.address(), left: length, count: slot.bans, offence })
    }

    /// Whether this is what a scanner calls itself, or has it within: a User-Agent, a display name.
    pub fn is_scanner(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let text = text.get(..LOOKED_AT).unwrap_or(text);
        let mut names = self.config.scanners.iter().map(String::as_bytes).filter(|name| !name.is_empty());
        names.any(|name| text.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name)))
    }

    /// Who is banned, the longest first.
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        let time = self.time(now);
        let banned = self.table.iter().filter(|(_, slot)| slot.is_banned(time));
        let mut bans: Vec<Ban> = banned
            .filter_map(|(key, slot)| {
                let left = Duration::from_nanos(slot.banned_until - time);
                Some(Ban { address: key.address(), left, count: slot.bans, offence: slot.offence? })
            })
            .collect();
        bans.sort_by_key(|ban| (std::cmp::Reverse(ban.left), ban.address));
        bans
    }

    /// Ends a ban, by hand, and forgets what led to it. False: there was none.
    pub fn pardon(&mut self, now: Instant, ip: IpAddr) -> bool {
        let time = self.time(now);
        let slot = self.table.get_mut(Key::of(ip)).filter(|slot| slot.is_banned(time));
        slot.map(|slot| *slot = table::Slot { seen: time, window: time, ..Default::default() }).is_some()
    }

    /// Decides about a connection that somebody has opened, before a byte is read from it; what comes over it is still to be
    /// asked for by [`Guard::admit`].
    ///
    /// # Errors
    /// Why it is to be closed at once.
    pub fn admit_connection(&mut self, now: Instant, ip: IpAddr) -> Result<Seat, DropReason> {
        let standing = self.standing(now, ip);
        if standing == Standing::Trusted {
            return Ok(Seat { key: None, stranger: false });
        }
        if let Verdict::Drop(reason) = self.admit(now, ip) {
            return Err(reason);
        }
        let stranger = standing == Standing::Stranger;
        let key = Key::of(ip);
        let open = self.connections.get(&key).copied().unwrap_or(0);
        let full = stranger && self.strangers_connections >= self.config.connections;
        if full || open >= self.config.connections_per_address {
            self.counters.count_drop(DropReason::Connections);
            return Err(DropReason::Connections);
        }
        self.connections.insert(key, open + 1);
        self.strangers_connections += usize::from(stranger);
        Ok(Seat { key: Some(key), stranger })
    }

    /// A connection has closed.
    pub fn leave(&mut self, seat: Seat) {
        let Some(key) = seat.key else { return };
        self.strangers_connections = self.strangers_connections.saturating_sub(seat.stranger.into());
        if let Some(open) = self.connections.get_mut(&key) {
            *open -= 1;
            if *open == 0 {
                self.connections.remove(&key);
            }
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> GuardCounters {
        self.counters
    }

    /// What it was made with.
    pub fn config(&self) -> &GuardConfig {
        &self.config
    }

    /// Nanoseconds on the guard's clock. It begins at 1, so that nothing is before it, and lasts for centuries.
    fn time(&self, now: Instant) -> u64 {
        let since = self.epoch.map_or(Duration::ZERO, |epoch| now.saturating_duration_since(epoch));
        nanos(since).saturating_add(1)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
