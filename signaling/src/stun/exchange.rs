//! One Binding request under way: RFC 8489 section 6.2.1's timers.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::message::TransactionId;

/// When a request is first sent again; the pause doubles from one to the next.
const RTO: Duration = Duration::from_millis(500);
/// Rc: how often it is sent in all.
const SENDS: u32 = 7;
/// Rm: how long the last one is waited for, in RTOs.
const LAST_WAIT: u32 = 16;

/// What a deadline of an exchange asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was not yet time.
    Wait,
    /// The request is to be sent again.
    Send,
    /// Nobody has answered, and nobody will.
    GiveUp,
}

/// A request under way.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    id: TransactionId,
    to: SocketAddr,
    sent: u32,
    due: Instant,
    /// The system has said once that nobody is there.
    refused: bool,
}

impl Exchange {
    /// Of a request that is sent now.
    pub(crate) fn new(now: Instant, id: TransactionId, to: SocketAddr) -> Exchange {
        Exchange { id, to, sent: 1, due: now + RTO, refused: false }
    }

    pub(crate) fn id(&self) -> &TransactionId {
        &self.id
    }

    pub(crate) fn to(&self) -> SocketAddr {
        self.to
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.due
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Step {
        if now < self.due {
            return Step::Wait;
        }
        if self.sent >= SENDS {
            return Step::GiveUp;
        }
        let pause = if self.sent + 1 == SENDS { RTO * LAST_WAIT } else { RTO * (1 << self.sent) };
        self.sent += 1;
        // from now on, not from when it was due: a stalled thread must not send a burst
        self.due = now + pause;
        Step::Send
    }

    /// An answer with this transaction id, from there, is the answer to this request.
    pub(crate) fn is_answered_by(&self, from: SocketAddr, id: &TransactionId) -> bool {
        self.is_with(from) && self.id == *id
    }

    /// The request went there.
    pub(crate) fn is_with(&self, address: SocketAddr) -> bool {
        // the rest of an IPv6 address, its scope, is not on the wire
        (self.to.ip(), self.to.port()) == (address.ip(), address.port())
    }

    /// The system says that nobody is there. True: it has said so before. One such word may be forged, or of the past.
    pub(crate) fn refuse(&mut self) -> bool {
        std::mem::replace(&mut self.refused, true)
    }
}
