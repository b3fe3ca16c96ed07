//! The state of one call, between the dialog below and the events above.

use std::time::Instant;

use crate::{
    dialog::Dialog,
    event::CallId,
    message::{Meta, Method, Request},
    sdp::LocalSession,
    transaction::{Resend, ServerTransaction, T2, TIMEOUT},
    transport::Peer,
};

/// Names a server transaction: branch, sent-by and method of its request (section 17.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ServerKey(pub(crate) String);

/// Names a client transaction: the branch, and whether it is the CANCEL to the INVITE of the same branch (section 17.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientKey {
    pub(crate) branch: String,
    pub(crate) cancel: bool,
}

/// Where a call stands.
#[derive(Debug)]
pub(crate) enum State {
    /// Our INVITE is under way; `None` while its first hop is still being looked up.
    Calling(Option<ClientKey>),
    /// We gave up an INVITE that was not finally answered. The application has been told; this is what is left.
    /// CANCEL is sent after a provisional response, and not before (section 9.1).
    Cancelling(ClientKey),
    /// Their INVITE waits for our answer.
    Incoming(Box<IncomingInvite>),
    /// Answered. If `ok` is still there, our 200 is not acknowledged yet.
    Up,
    /// Ended by us before our 200 was acknowledged: BYE waits for the ACK (section 15). The application has been told.
    Closing,
}

/// An INVITE that is not finally answered.
#[derive(Debug)]
pub(crate) struct IncomingInvite {
    pub(crate) key: ServerKey,
    pub(crate) request: Request,
    pub(crate) meta: Meta,
    pub(crate) has_offer: bool,
}

/// Our 2xx to an INVITE, repeated until the ACK comes (section 13.3.1.4).
#[derive(Debug)]
pub(crate) struct PendingOk {
    pub(crate) key: ServerKey,
    pub(crate) cseq: u32,
    pub(crate) resend: Resend,
    pub(crate) deadline: Instant,
    /// The first one of the call: the ACK completes the answering.
    pub(crate) initial: bool,
    /// The ACK must bring an answer, since the offer was ours.
    pub(crate) wants_answer: bool,
}

impl PendingOk {
    pub(crate) fn new(now: Instant, key: ServerKey, cseq: u32, initial: bool, wants_answer: bool) -> PendingOk {
        let resend = Resend::start(now, T2);
        PendingOk { key, cseq, resend, deadline: now + TIMEOUT, initial, wants_answer }
    }
}

/// A re-INVITE or UPDATE with an offer, waiting for the application.
#[derive(Debug)]
pub(crate) struct Reoffer {
    pub(crate) key: ServerKey,
    pub(crate) request: Request,
    pub(crate) meta: Meta,
    pub(crate) has_offer: bool,
    /// Refused by itself at this time.
    pub(crate) deadline: Instant,
}

impl Reoffer {
    pub(crate) fn is_invite(&self) -> bool {
        self.meta.method == Method::Invite
    }
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) account: Option<usize>,
    pub(crate) state: State,
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    /// Outgoing: from the first 2xx on. Incoming: from the start.
    pub(crate) dialog: Option<Dialog>,
    pub(crate) session: LocalSession,
    /// The answer that came with a provisional response; counts when the 200 has none.
    pub(crate) early_answer: Option<String>,
    pub(crate) ok: Option<PendingOk>,
    pub(crate) reoffer: Option<Reoffer>,
    /// Where the far end, and the proxies on the way to it, are known to be.
    pub(crate) addresses: Vec<std::net::IpAddr>,
    /// When ringing, or cancelling, has taken too long.
    pub(crate) limit: Option<Instant>,
}

impl Call {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let ok = self.ok.as_ref().map(|ok| ok.resend.at.min(ok.deadline));
        let reoffer = self.reoffer.as_ref().map(|r| r.deadline);
        [ok, reoffer, self.limit].into_iter().flatten().min()
    }

    /// The application has not been told of its end yet.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, State::Cancelling(_) | State::Closing)
    }
}

/// A server transaction with what it answers.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) machine: ServerTransaction,
    /// The last response, to be sent again.
    pub(crate) response: Vec<u8>,
    pub(crate) to: Peer,
    pub(crate) source: Peer,
    pub(crate) call: CallId,
    /// How another copy of the same request, that came another way, is known (section 8.2.2.2); for requests outside dialogs.
    pub(crate) merge_key: Option<String>,
}
