//! The state of one call, between the dialog below and the events above.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    dialog::Dialog,
    event::CallId,
    message::{Meta, Method, Request, Uri},
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

/// What we want the far end to agree to: a new description, or just the session's going on.
#[derive(Debug, Default)]
pub(crate) struct Offering {
    /// What the application wants to offer, under way or waiting for its turn.
    pub(crate) wish: Option<String>,
    /// The session timer wants to be wound up.
    pub(crate) refresh: bool,
    /// Not before this time.
    pub(crate) retry_at: Option<Instant>,
    /// How often it was put off.
    pub(crate) tries: u8,
    pub(crate) sent: Option<Sent>,
}

impl Offering {
    /// There is something to be sent, and nothing under way.
    pub(crate) fn is_waiting(&self) -> bool {
        self.sent.is_none() && (self.wish.is_some() || self.refresh)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let limit = self.sent.as_ref().map(|sent| sent.limit);
        limit.or(self.retry_at.filter(|_| self.is_waiting()))
    }
}

/// A re-INVITE or UPDATE of ours under way.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Its transaction; `None` while the next hop is being looked up.
    pub(crate) key: Option<ClientKey>,
    pub(crate) method: Method,
    /// The application's wish, not just a refresh.
    pub(crate) wish: bool,
    /// Given up at this time.
    pub(crate) limit: Instant,
}

/// A session timer (RFC 4028).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionTimer {
    pub(crate) interval: Duration,
    /// We refresh; else the far end does.
    pub(crate) ours: bool,
    pub(crate) refresh_at: Option<Instant>,
    /// Without a refresh until then the call is ended.
    pub(crate) end_at: Instant,
}

/// What the far end has said that it can do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FarEnd {
    /// Its Allow names UPDATE.
    pub(crate) update: bool,
}

/// An early dialog of a call that we make: one for each fork that has answered provisionally (section 12.1).
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) dialog: Dialog,
    /// The last reliable provisional response that was taken (RFC 3262).
    pub(crate) rseq: Option<u32>,
    /// The answer that came provisionally; counts when the 200 has none.
    pub(crate) answer: Option<String>,
    /// It came reliably, and so is binding.
    pub(crate) settled: bool,
}

/// The provisional responses of ours that the caller acknowledges (RFC 3262).
#[derive(Debug, Default)]
pub(crate) struct Reliable {
    /// The number of the last one; 0: there was none.
    pub(crate) rseq: u32,
    pub(crate) pending: Option<Unacknowledged>,
    /// Those that wait until it is acknowledged.
    pub(crate) queue: VecDeque<(u16, Option<String>)>,
    /// The description that an acknowledged one brought, as the application gave it: offer and answer are through.
    pub(crate) settled: Option<String>,
    /// The answer that PRACK brought, if the offer was ours.
    pub(crate) answer: Option<String>,
    /// The answer to the call, which must wait for the PRACK of a description.
    pub(crate) held: Option<String>,
}

/// A reliable provisional response without its PRACK.
#[derive(Debug)]
pub(crate) struct Unacknowledged {
    pub(crate) bytes: Vec<u8>,
    pub(crate) resend: Resend,
    pub(crate) deadline: Instant,
    pub(crate) sdp: Option<String>,
}

/// A REFER of ours and the subscription that comes with it (RFC 3515).
#[derive(Debug)]
pub(crate) struct Transfer {
    /// The call whose far end it is sent to.
    pub(crate) other: Option<CallId>,
    /// The numbers of the REFER: the first, and the last that was sent for a challenge. NOTIFYs name one of them.
    pub(crate) cseqs: (u32, u32),
    pub(crate) accepted: bool,
    /// When nothing more is expected.
    pub(crate) deadline: Instant,
    pub(crate) last: Option<(u16, String)>,
}

/// A REFER to us that waits for the application.
#[derive(Debug)]
pub(crate) struct Referred {
    pub(crate) key: ServerKey,
    pub(crate) request: Request,
    pub(crate) cseq: u32,
    pub(crate) to: String,
    /// The Replaces header that the new call is to bear.
    pub(crate) replaces: Option<String>,
    pub(crate) referred_by: Option<String>,
    pub(crate) deadline: Instant,
}

/// Whom to tell how a call gets on that was made for a REFER.
#[derive(Debug)]
pub(crate) struct Referral {
    pub(crate) from: CallId,
    /// The dialog of that call, when the call itself is over.
    pub(crate) dialog: Option<Dialog>,
    pub(crate) account: Option<usize>,
    /// What names the subscription, from the second REFER of a dialog on.
    pub(crate) id: Option<u32>,
    /// A NOTIFY is under way.
    pub(crate) busy: bool,
    /// What is to be told next; the last word if true.
    pub(crate) next: Option<(u16, String, bool)>,
}

/// Where a redirected call may go (section 8.1.3.4).
#[derive(Debug, Default)]
pub(crate) struct Redirect {
    pub(crate) targets: VecDeque<Uri>,
    /// Every URI that was tried or is among the targets.
    pub(crate) seen: Vec<String>,
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
    /// Our description in force, as the application gave it.
    pub(crate) agreed: Option<String>,
    pub(crate) early: Vec<Early>,
    pub(crate) reliable: Reliable,
    pub(crate) ok: Option<PendingOk>,
    pub(crate) reoffer: Option<Reoffer>,
    /// Where the far end, and the proxies on the way to it, are known to be.
    pub(crate) addresses: Vec<std::net::IpAddr>,
    pub(crate) offering: Offering,
    pub(crate) far: FarEnd,
    pub(crate) timer: Option<SessionTimer>,
    /// INFOs that wait for their turn, content type and body; the first is under way if `info_sent`.
    pub(crate) infos: VecDeque<(String, String)>,
    pub(crate) info_sent: bool,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) referred: Option<Referred>,
    /// REFERs that were taken in this dialog.
    pub(crate) refers: u32,
    /// The call that ends when this one is answered.
    pub(crate) replaces: Option<CallId>,
    pub(crate) redirect: Redirect,
    /// It is ours, and the outgoing guard knows of it.
    pub(crate) outgoing: bool,
    /// How long it may last once it is up.
    pub(crate) longest: Option<std::time::Duration>,
    /// When ringing, or cancelling, has taken too long; when a call that is up has.
    pub(crate) limit: Option<Instant>,
}

impl Call {
    pub(crate) fn new(id: CallId, account: Option<usize>, call_id: String, tag: String, state: State) -> Call {
        Call {
            id,
            account,
            state,
            call_id,
            local_tag: tag,
            dialog: None,
            session: LocalSession::new(0),
            agreed: None,
            early: Vec::new(),
            reliable: Reliable::default(),
            ok: None,
            reoffer: None,
            offering: Offering::default(),
            far: FarEnd::default(),
            timer: None,
            infos: VecDeque::new(),
            info_sent: false,
            transfer: None,
            referred: None,
            refers: 0,
            replaces: None,
            redirect: Redirect::default(),
            addresses: Vec::new(),
            outgoing: false,
            longest: None,
            limit: None,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let ok = self.ok.as_ref().map(|ok| ok.resend.at.min(ok.deadline));
        let reliable = self.reliable.pending.as_ref().map(|p| p.resend.at.min(p.deadline));
        let reoffer = self.reoffer.as_ref().map(|r| r.deadline);
        let refresh = self.timer.and_then(|t| t.refresh_at);
        let session = self.timer.map(|t| t.end_at);
        let transfer = self.transfer.as_ref().map(|t| t.deadline);
        let referred = self.referred.as_ref().map(|r| r.deadline);
        let offering = self.offering.poll_timeout();
        let all = [ok, reliable, reoffer, offering, refresh, session, transfer, referred, self.limit];
        all.into_iter().flatten().min()
    }

    /// The application has not been told of its end yet.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, State::Cancelling(_) | State::Closing)
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// The dialog with the far end that has this tag: the established one, or before that one of the early ones.
    pub(crate) fn dialog_with(&self, tag: &str) -> Option<&Dialog> {
        match &self.dialog {
            Some(dialog) => Some(dialog).filter(|d| d.remote_tag() == tag),
            None if self.is_live() => self.early.iter().map(|e| &e.dialog).find(|d| d.remote_tag() == tag),
            None => None,
        }
    }

    pub(crate) fn dialog_with_mut(&mut self, tag: &str) -> Option<&mut Dialog> {
        if self.dialog.is_some() {
            return self.dialog.as_mut().filter(|d| d.remote_tag() == tag);
        }
        if !self.is_live() {
            return None;
        }
        self.early_with(tag).map(|e| &mut e.dialog)
    }

    pub(crate) fn early_with(&mut self, tag: &str) -> Option<&mut Early> {
        self.early.iter_mut().find(|e| e.dialog.remote_tag() == tag)
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
