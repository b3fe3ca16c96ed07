//! What went over the wire, call by call; see [`crate::trace`].

use std::time::Instant;

use super::UserAgent;
use crate::{
    call::Call,
    event::{CallId, Event},
    message::call_id_of,
    net::Traced,
    trace::{CallTrace, Flow, Path},
    transport::Peer,
};

impl UserAgent {
    /// The SIP messages of a call that is up or has ended lately; `None`: nothing is kept of it.
    pub fn trace(&self, call: CallId) -> Option<CallTrace> {
        let (_, call_id) = self.traced.iter().find(|(id, _)| *id == call)?;
        self.with_addresses(self.trace.get(call_id)?)
    }

    /// The same of an account's registration.
    pub fn trace_account(&self, name: &str) -> Option<CallTrace> {
        let account = self.accounts.iter().find(|a| a.config.name == name)?;
        self.with_addresses(self.trace.get(&account.registration.call_id)?)
    }

    pub(crate) fn tell_trace(&mut self, tag: u64, of: &Traced) {
        let trace = match of {
            Traced::Call(call) => self.trace(*call),
            Traced::Account(name) => self.trace_account(name),
        };
        self.tell(Event::Trace { tag, trace: trace.map(Box::new) });
    }

    /// A socket that listens on every address has none; the one that messages go by is a question to the routes.
    fn with_addresses(&self, mut trace: CallTrace) -> Option<CallTrace> {
        for path in trace.messages.iter_mut().map(|m| &mut m.path).filter(|path| path.local.ip().is_unspecified()) {
            path.local.set_ip(self.local_ip_towards(path.remote));
        }
        Some(trace)
    }

    /// Keeps what was said.
    pub(super) fn record(&mut self, now: Instant, flow: Flow, peer: &Peer, call_id: &str, bytes: &[u8]) {
        let local = self.config.advertised.unwrap_or(self.config.local);
        let path = Path { flow, local, remote: peer.address, transport: peer.transport };
        self.trace.record(now, call_id, path, bytes);
    }

    /// Keeps what we say.
    pub(super) fn record_sent(&mut self, to: &Peer, bytes: &[u8]) {
        if let Some(now) = self.now
            && let Some(call_id) = call_id_of(bytes)
        {
            self.record(now, Flow::Sent, to, call_id, bytes);
        }
    }

    /// A new call.
    pub(super) fn keep(&mut self, id: CallId, call: Call) {
        self.trace.begin(&call.call_id);
        if self.traced.len() >= self.config.trace.calls {
            self.traced.pop_front();
        }
        if self.config.trace.calls > 0 {
            self.traced.push_back((id, call.call_id.clone()));
        }
        self.calls.insert(id, call);
    }
}
