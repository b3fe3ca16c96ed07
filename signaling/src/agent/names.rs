//! Names on their way to addresses: what is known, what has been asked, and which requests wait for it.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use super::{
    config::{Resolve, ResolveId},
    limits,
    outgoing::{Hop, Outgoing},
};
use crate::message::literal;

/// What is known of a hop.
pub(super) enum Known {
    Address(SocketAddr),
    /// Being looked up, or to be looked up.
    NotYet,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    cache: HashMap<Hop, (SocketAddr, Instant)>,
    waiting: HashMap<ResolveId, (Hop, Vec<Outgoing>)>,
    questions: VecDeque<Resolve>,
    asked: u64,
    held: usize,
}

impl Names {
    pub(super) fn look_up(&self, now: Instant, hop: &Hop) -> Known {
        if let Some(ip) = literal(&hop.host) {
            return Known::Address(SocketAddr::new(ip, hop.port));
        }
        match self.cache.get(hop) {
            Some((address, until)) if now < *until => Known::Address(*address),
            _ => Known::NotYet,
        }
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
        self.asked += 1;
        let id = ResolveId(self.asked);
        let hop = outgoing.hop.clone();
        self.questions.push_back(Resolve { id, host: hop.host.clone(), port: hop.port });
        self.waiting.insert(id, (hop, vec![outgoing]));
        Ok(())
    }

    pub(super) fn poll_question(&mut self) -> Option<Resolve> {
        self.questions.pop_front()
    }

    /// The requests that waited for this answer.
    pub(super) fn resolved(&mut self, now: Instant, id: ResolveId, address: Option<SocketAddr>) -> Vec<Outgoing> {
        let Some((hop, list)) = self.waiting.remove(&id) else { return Vec::new() };
        self.held -= list.len();
        if let Some(address) = address {
            if self.cache.len() >= limits::NAMES {
                self.cache.clear();
            }
            self.cache.insert(hop, (address, now + limits::NAME_LIFE));
        }
        list
    }

    /// Nobody answered there: the name is looked up afresh next time.
    pub(super) fn forget(&mut self, address: SocketAddr) {
        self.cache.retain(|_, (a, _)| *a != address);
    }

    /// Nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}
