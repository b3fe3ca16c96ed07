//! The SIP messages of every call, kept in memory: what is asked for when a call went wrong.
//!
//! ```text
//!   record(bytes) --> by Call-ID: first messages | ... dropped ... | last messages --> get: a copy, redacted
//!                                                                        ladder: for people      pcap: for Wireshark
//! ```
//!
//! What must hold:
//! - Recording is one look-up and one copy of the bytes; nothing is read in them.
//! - Memory is bounded: by messages and bytes of a call, by calls and bytes of all. Of a long call the first messages are kept,
//!   for they set it up, and the last; what falls out in between is counted.
//! - When room is needed, first what never became a call or a registration goes (a flood must not push out calls), then what
//!   has ended, then what is up; of each the one that was silent for longest.
//! - Secrets stay inside: the only ways out, [`Trace::get`] and [`Trace::list`], redact ([`redact`]), and `Debug` prints no
//!   bytes (case 46).

mod ladder;
mod pcap;
mod redact;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use crate::transport::Transport;

pub use ladder::{Arrows, ladder};
pub use pcap::pcap;
pub use redact::redact;

/// Of each call so many messages from its beginning are kept: challenge, INVITE, answers and ACK are about ten.
const FIRST: usize = 20;
/// A longer message is cut; no datagram is longer.
const LONGEST_MESSAGE: usize = 65_507;
/// A longer Call-ID is not kept.
const LONGEST_CALL_ID: usize = 1024;
/// What a message takes beside its bytes, about.
const MESSAGE_OVERHEAD: usize = size_of::<TracedMessage>() + 16;
/// What a call takes beside its messages, about; its Call-ID apart.
const CALL_OVERHEAD: usize = size_of::<Entry>() + 128;

/// How much is kept. The names of the fields are the keys below `trace` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceConfig {
    /// Calls and registrations. Default 1,000; 0 keeps nothing at all.
    pub calls: usize,
    /// Bytes of all together. Default 32 MiB.
    pub bytes: usize,
    /// Messages of one call. Default 200.
    pub messages_per_call: usize,
    /// Bytes of one call. Default 256 KiB.
    pub bytes_per_call: usize,
}

impl Default for TraceConfig {
    fn default() -> TraceConfig {
        TraceConfig { calls: 1000, bytes: 32 << 20, messages_per_call: 200, bytes_per_call: 256 << 10 }
    }
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// From us.
    Sent,
    /// To us.
    Received,
}

/// How a message travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Which way.
    pub flow: Flow,
    /// Our address.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
    /// Over what.
    pub transport: Transport,
}

/// A message as it went over the wire, but for its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct TracedMessage {
    /// When.
    pub at: Instant,
    /// How.
    pub path: Path,
    /// What.
    pub bytes: Box<[u8]>,
    /// So many bytes were cut off its end.
    pub cut: usize,
}

impl fmt::Debug for TracedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.bytes.len();
        f.debug_struct("TracedMessage")
            .field("at", &self.at)
            .field("path", &self.path)
            .field("length", &length)
            .finish()
    }
}

/// Where a call stands. The order is that in which they make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Messages that belong to no call or registration (yet).
    Passing,
    /// Over.
    Ended,
    /// Up, or being set up; a registration.
    Live,
}

/// The messages of one Call-ID, redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallTrace {
    /// The Call-ID.
    pub call_id: String,
    /// Where it stands.
    pub stage: Stage,
    /// In the order in which they went.
    pub messages: Vec<TracedMessage>,
    /// So many were dropped for want of room ...
    pub dropped: u64,
    /// ... after this many of `messages`.
    pub dropped_after: usize,
}

/// One line about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSummary {
    /// The Call-ID.
    pub call_id: String,
    /// Where it stands.
    pub stage: Stage,
    /// The first message that is kept, in few words: `INVITE`, `REGISTER`.
    pub first: String,
    /// Messages, those that were dropped too.
    pub messages: u64,
    /// When the first went.
    pub begun: Option<Instant>,
    /// When the last went.
    pub last: Option<Instant>,
}

/// How much is kept, and how much is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceCounters {
    /// Calls that are kept.
    pub calls: usize,
    /// Bytes that are kept, with what they are kept in.
    pub bytes: usize,
    /// Messages that were dropped from the middle of calls.
    pub dropped_messages: u64,
    /// Calls that were dropped to make room for others.
    pub dropped_calls: u64,
}

struct Entry {
    stage: Stage,
    /// Its place among those of the same stage.
    turn: u64,
    first: Vec<TracedMessage>,
    last: VecDeque<TracedMessage>,
    bytes: usize,
    dropped: u64,
}

/// The messages of all calls; see the module's page.
pub struct Trace {
    config: TraceConfig,
    calls: HashMap<Arc<str>, Entry>,
    /// In the order in which they make room.
    order: BTreeMap<(Stage, u64), Arc<str>>,
    turn: u64,
    bytes: usize,
    dropped_messages: u64,
    dropped_calls: u64,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("config", &self.config).field("counters", &self.counters()).finish()
    }
}

impl Trace {
    /// Nothing yet.
    pub fn new(config: TraceConfig) -> Trace {
        Trace {
            config,
            calls: HashMap::new(),
            order: BTreeMap::new(),
            turn: 0,
            bytes: 0,
            dropped_messages: 0,
            dropped_calls: 0,
        }
    }

    /// Keeps a message. One whose Call-ID was not heard before is [`Stage::Passing`] until [`Trace::begin`].
    pub fn record(&mut self, now: Instant, call_id: &str, path: Path, bytes: &[u8]) {
        if self.config.calls == 0 || call_id.len() > LONGEST_CALL_ID {
            return;
        }
        let kept = bytes.get(..LONGEST_MESSAGE).unwrap_or(bytes);
        let message = TracedMessage { at: now, path, bytes: kept.into(), cut: bytes.len() - kept.len() };
        let stage = self.calls.get(call_id).map_or(Stage::Passing, |entry| entry.stage);
        self.touch(call_id, stage);
        if let Some(entry) = self.calls.get_mut(call_id) {
            let (bytes, dropped) = (entry.bytes, entry.dropped);
            entry.push(message, &self.config);
            self.bytes = self.bytes - bytes + entry.bytes;
            self.dropped_messages += entry.dropped - dropped;
        }
        self.make_room();
    }

    /// There is a call of this Call-ID now, or a registration: it is kept before all that is neither.
    pub fn begin(&mut self, call_id: &str) {
        self.change(call_id, Stage::Live);
    }

    /// The call is over, the registration given up. Messages that come late are kept with it.
    pub fn end(&mut self, call_id: &str) {
        self.change(call_id, Stage::Ended);
    }

    /// The messages of a call, redacted. `None`: not kept, or not any more.
    pub fn get(&self, call_id: &str) -> Option<CallTrace> {
        let entry = self.calls.get(call_id)?;
        let mut messages: Vec<TracedMessage> = entry.first.iter().chain(&entry.last).cloned().collect();
        for message in &mut messages {
            redact(&mut message.bytes);
        }
        Some(CallTrace {
            call_id: call_id.to_owned(),
            stage: entry.stage,
            messages,
            dropped: entry.dropped,
            dropped_after: entry.first.len(),
        })
    }

    /// Everything that is kept, a line each, in the order in which they were last heard of.
    pub fn list(&self) -> Vec<TraceSummary> {
        let mut list: Vec<TraceSummary> = self.calls.iter().map(|(id, entry)| entry.summary(id)).collect();
        list.sort_by(|a, b| (a.last, &a.call_id).cmp(&(b.last, &b.call_id)));
        list
    }

    /// How much is kept.
    pub fn counters(&self) -> TraceCounters {
        TraceCounters {
            calls: self.calls.len(),
            bytes: self.bytes,
            dropped_messages: self.dropped_messages,
            dropped_calls: self.dropped_calls,
        }
    }

    fn change(&mut self, call_id: &str, stage: Stage) {
        if self.config.calls > 0 && call_id.len() <= LONGEST_CALL_ID {
            self.touch(call_id, stage);
            self.make_room();
        }
    }

    /// Puts a call at the end of those of a stage; makes it, if there is none.
    fn touch(&mut self, call_id: &str, stage: Stage) {
        self.turn += 1;
        let turn = self.turn;
        if let Some(entry) = self.calls.get_mut(call_id) {
            if let Some(id) = self.order.remove(&(entry.stage, entry.turn)) {
                self.order.insert((stage, turn), id);
            }
            (entry.stage, entry.turn) = (stage, turn);
            return;
        }
        let id: Arc<str> = call_id.into();
        let bytes = CALL_OVERHEAD + id.len();
        let entry = Entry { stage, turn, first: Vec::new(), last: VecDeque::new(), bytes, dropped: 0 };
        self.bytes += bytes;
        self.order.insert((stage, turn), id.clone());
        self.calls.insert(id, entry);
    }

    fn make_room(&mut self) {
        while self.calls.len() > self.config.calls || self.bytes > self.config.bytes {
            let Some((_, id)) = self.order.pop_first() else { return };
            if let Some(entry) = self.calls.remove(&id) {
                self.bytes -= entry.bytes;
                self.dropped_calls += 1;
            }
        }
    }
}

impl Entry {
    fn push(&mut self, message: TracedMessage, config: &TraceConfig) {
        let size = MESSAGE_OVERHEAD + message.bytes.len();
        self.bytes += size;
        // a beginning that took all the room would leave none for the end
        let fits = self.bytes <= config.bytes_per_call / 2 && self.first.len() < config.messages_per_call / 2;
        if self.last.is_empty() && self.dropped == 0 && self.first.len() < FIRST && fits {
            self.first.push(message);
            return;
        }
        self.last.push_back(message);
        while self.first.len() + self.last.len() > config.messages_per_call || self.bytes > config.bytes_per_call {
            let Some(oldest) = self.last.pop_front() else { return };
            self.bytes -= MESSAGE_OVERHEAD + oldest.bytes.len();
            self.dropped += 1;
        }
    }

    fn summary(&self, call_id: &str) -> TraceSummary {
        let first = self.first.first().or(self.last.front());
        let last = self.last.back().or(self.first.last());
        let kept = self.first.len() + self.last.len();
        TraceSummary {
            call_id: call_id.to_owned(),
            stage: self.stage,
            first: first.map(|m| summary::Summary::of(&m.bytes).what).unwrap_or_default(),
            messages: self.dropped + kept as u64,
            begun: first.map(|m| m.at),
            last: last.map(|m| m.at),
        }
    }
}
