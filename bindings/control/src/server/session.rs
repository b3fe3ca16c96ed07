//! Who the clients are, across lost connections, and which calls are whose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use crate::types::{CallId, EventFilter};

/// One client: its session, which stays the same when it comes back with its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub(super) u64);

impl ClientId {
    /// The session's number on the wire.
    pub fn session(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.0)
    }
}

pub(super) struct Session {
    pub(super) name: String,
    pub(super) filter: EventFilter,
    pub(super) token: String,
    /// The connection's slot, while there is one.
    pub(super) slot: Option<usize>,
    /// When a session without a connection ends.
    pub(super) expires: Option<Instant>,
    /// Events that it missed while it was away, as JSON texts; those of all who are away are the same ones.
    pub(super) missed: Vec<Arc<[u8]>>,
    pub(super) missed_bytes: usize,
    pub(super) audio_dropped: u64,
    channels: BTreeSet<u16>,
    last_channel: u16,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // not the token: it is a secret
        f.debug_struct("Session").field("name", &self.name).field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Session {
    /// A channel number that this client does not use; not soon one it has used.
    pub(super) fn open_channel(&mut self) -> Option<u16> {
        if self.channels.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last_channel = self.last_channel.wrapping_add(1);
            // 0 is for control
            if self.last_channel != 0 && self.channels.insert(self.last_channel) {
                return Some(self.last_channel);
            }
        }
    }

    pub(super) fn close_channel(&mut self, channel: u16) {
        self.channels.remove(&channel);
    }
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: BTreeMap<ClientId, Session>,
    owners: BTreeMap<CallId, ClientId>,
    last: u64,
}

impl Sessions {
    pub(super) fn begin(&mut self, name: String, filter: EventFilter, slot: usize) -> io::Result<ClientId> {
        let mut random = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let token = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.last += 1;
        let client = ClientId(self.last);
        let session = Session {
            name,
            filter,
            token,
            slot: Some(slot),
            expires: None,
            missed: Vec::new(),
            missed_bytes: 0,
            audio_dropped: 0,
            channels: BTreeSet::new(),
            last_channel: 0,
        };
        self.all.insert(client, session);
        Ok(client)
    }

    pub(super) fn end(&mut self, client: ClientId) -> Option<Session> {
        self.all.remove(&client)
    }

    pub(super) fn get(&self, client: ClientId) -> Option<&Session> {
        self.all.get(&client)
    }

    pub(super) fn get_mut(&mut self, client: ClientId) -> Option<&mut Session> {
        self.all.get_mut(&client)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ClientId, &Session)> {
        self.all.iter().map(|(client, session)| (*client, session))
    }

    pub(super) fn by_token(&self, token: &str) -> Option<ClientId> {
        self.iter().find(|(_, session)| session.token == token).map(|(client, _)| client)
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.all.values().filter_map(|session| session.expires).min()
    }

    pub(super) fn expired(&self, now: Instant) -> Vec<ClientId> {
        self.iter()
            .filter(|(_, session)| session.expires.is_some_and(|at| at <= now))
            .map(|(client, _)| client)
            .collect()
    }

    pub(super) fn owner(&self, call: CallId) -> Option<ClientId> {
        self.owners.get(&call).copied()
    }

    pub(super) fn set_owner(&mut self, call: CallId, owner: Option<ClientId>) {
        match owner {
            Some(client) => self.owners.insert(call, client),
            None => self.owners.remove(&call),
        };
    }

    pub(super) fn calls_of(&self, client: ClientId) -> Vec<CallId> {
        self.owners.iter().filter(|(_, owner)| **owner == client).map(|(call, _)| *call).collect()
    }

    /// Whether an event about `call` is for `client`.
    pub(super) fn wants(&self, client: ClientId, filter: EventFilter, call: Option<CallId>) -> bool {
        match (filter, call.and_then(|call| self.owner(call))) {
            (EventFilter::None, _) => false,
            (EventFilter::All, _) | (EventFilter::Own, None) => true,
            (EventFilter::Own, Some(owner)) => owner == client,
        }
    }
}
