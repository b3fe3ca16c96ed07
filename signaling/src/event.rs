//! What the user agent tells its application, and what it is told to dial.

use std::{fmt, net::SocketAddr, time::Duration};

use crate::{
    guard::Ban,
    secrets::{shown, shown_headers, shown_if},
    trace::CallTrace,
    transport::Transport,
};

/// Names a call for as long as the process runs; numbers are never used twice. Shown as `c17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u32);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// A call to be made. Its `Debug` shows no secrets (case 46).
#[derive(derive_more::Debug, Clone, PartialEq, Eq, Default)]
pub struct Dial {
    /// The account to call from: gives the caller's address, the proxy and the credentials. Without one the call goes
    /// straight to the host in `to`, and is never authenticated.
    pub account: Option<String>,
    /// `sip:user@host[:port]`, `user@host`, `tel:+4930...`, or (with an account) a bare number or user name.
    #[debug("{:?}", shown(to))]
    pub to: String,
    /// The offer, as [`crate::sdp::offer`] writes it.
    #[debug("{:?}", shown(sdp))]
    pub sdp: String,
    /// Our name as the called see it.
    #[debug("{:?}", shown_if(display_name))]
    pub display_name: Option<String>,
    /// Further headers of the INVITE: `X-...`, `P-Asserted-Identity` and their like. What the user agent itself writes
    /// cannot be overwritten.
    #[debug("{:?}", shown_headers(headers))]
    pub headers: Vec<(String, String)>,
    /// Keep who we are from the called (RFC 3323, RFC 3325): an anonymous From, and our address only for the provider.
    pub privacy: bool,
}

/// What happens in the user agent.
///
/// For each call exactly one [`Event::Ended`] comes, and nothing after it. Their `Debug` shows no secrets (case 46).
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A registrar has taken us in, or has refreshed its binding.
    Registered {
        /// The account's name.
        account: String,
        /// How long the binding lasts; it is refreshed well before.
        expires: Duration,
        /// Our address as the registrar sees it, when that is not the one we gave: there is a NAT in between.
        seen_as: Option<SocketAddr>,
    },
    /// The binding was removed at our request.
    Unregistered {
        /// The account's name.
        account: String,
    },
    /// A registration failed; it will be tried again by itself.
    RegistrationFailed {
        /// The account's name.
        account: String,
        /// One sentence, without secrets.
        reason: String,
        /// The registrar's answer, if there was one.
        status: Option<u16>,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// A trunk that does not register has answered, for the first time or again.
    Reachable {
        /// The account's name.
        account: String,
    },
    /// A trunk that does not register answers no more. It is asked again by itself.
    Unreachable {
        /// The account's name.
        account: String,
        /// One sentence.
        reason: String,
    },
    /// Our address outside the NAT, as STUN servers see it: when it is first known, when it changes, and when it is known
    /// again after [`Event::StunFailed`].
    PublicAddress {
        /// Of the socket that SIP uses.
        address: SocketAddr,
        /// Servers see us at different addresses: the NAT has one for each destination, so that this one is only good for
        /// the server, and others reach us only where we have sent to.
        symmetric: bool,
    },
    /// No STUN server answers. They are asked again by themselves, and the last address is kept; told once until one answers.
    StunFailed {
        /// One sentence.
        reason: String,
    },
    /// An address has offended once too often, and is not heard for a while.
    Banned {
        /// Who, for how long, and why.
        ban: Ban,
    },
    /// Somebody calls. 100 has been sent; answer with `ring`, `answer` or `reject`.
    Incoming {
        /// The new call.
        call: CallId,
        /// The caller's URI, from the From header.
        #[debug("{:?}", shown(from))]
        from: String,
        /// The called URI, from the To header.
        #[debug("{:?}", shown(to))]
        to: String,
        /// The caller's display name, without quotes; control characters are removed.
        #[debug("{:?}", shown_if(display_name))]
        display_name: Option<String>,
        /// Where the INVITE came from.
        source: SocketAddr,
        /// How it came.
        transport: Transport,
        /// The account whose registrar or contact address the call came to, if that is known.
        account: Option<String>,
        /// The caller's offer; `None`: the offer is ours to make, in the answer.
        #[debug("{:?}", shown_if(offer))]
        offer: Option<String>,
        /// The call that this one is to take the place of (RFC 3891). When this one is answered that one ends by itself, with
        /// [`EndCause::Replaced`].
        replaces: Option<CallId>,
    },
    /// 101 to 199 came for a call we make.
    Progress {
        /// The call.
        call: CallId,
        /// 180 ringing, 183 session progress, ...
        status: u16,
        /// Early media's answer, if the response carried one.
        #[debug("{:?}", shown_if(sdp))]
        sdp: Option<String>,
    },
    /// The call is up. Outgoing: 200 came. Incoming: the ACK to our 200 came.
    Answered {
        /// The call.
        call: CallId,
        /// The far end's answer. For incoming calls only there if we had to make the offer.
        #[debug("{:?}", shown_if(sdp))]
        sdp: Option<String>,
    },
    /// The far end wants other media (hold, resume, a new address). Answer with `answer_reoffer` or `reject_reoffer`. Comes
    /// before [`Event::Answered`] too, when early media is changed.
    Reoffer {
        /// The call.
        call: CallId,
        /// Its offer; `None`: the offer is ours to make.
        #[debug("{:?}", shown_if(sdp))]
        sdp: Option<String>,
    },
    /// The far end's answer to an offer of ours: by `reoffer`, by `answer_reoffer` when the `Reoffer` had no description, or
    /// by `progress` when the INVITE had none.
    ReofferAnswered {
        /// The call.
        call: CallId,
        /// The answer.
        #[debug("{:?}", shown(sdp))]
        sdp: String,
    },
    /// The far end did not take our `reoffer`. The call goes on as it was; if it cannot, [`Event::Ended`] follows.
    ReofferRefused {
        /// The call.
        call: CallId,
        /// Its answer; `None`: there was none.
        status: Option<u16>,
        /// Why, in one sentence.
        reason: String,
    },
    /// How the far end gets on with the call that `transfer` or `transfer_to` has sent it to make.
    TransferProgress {
        /// The call.
        call: CallId,
        /// What that call was answered: 100, 180, 200, ...
        status: u16,
        /// The words that came with it.
        reason: String,
    },
    /// A transfer of ours is over. When it was accepted the call ends by itself, with [`EndCause::Transferred`].
    TransferEnded {
        /// The call.
        call: CallId,
        /// The far end is connected to the other party now, as far as it has told.
        accepted: bool,
        /// The last status, of the far end itself or of the party that it called.
        status: Option<u16>,
        /// Why, in one sentence.
        reason: String,
    },
    /// The far end wants us to call somebody else instead. Answer with `accept_transfer` or `reject_transfer`; only with
    /// [`crate::ReferPolicy::Ask`].
    TransferRequested {
        /// The call.
        call: CallId,
        /// Whom to call.
        #[debug("{:?}", shown(to))]
        to: String,
        /// The new call is to take the place of one that is up there.
        replaces: bool,
        /// Who says that he wants it; not proven.
        #[debug("{:?}", shown_if(referred_by))]
        referred_by: Option<String>,
    },
    /// Answers `accept_transfer`: the new call that it made.
    Transferring {
        /// The call that is transferred.
        call: CallId,
        /// The call to whom it is transferred.
        new_call: CallId,
    },
    /// A digit came by INFO (`application/dtmf-relay` or `application/dtmf`).
    Digit {
        /// The call.
        call: CallId,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was pressed; 160 ms if the message does not say.
        duration: Duration,
    },
    /// The call is over.
    Ended {
        /// The call.
        call: CallId,
        /// Why, in one word.
        cause: EndCause,
        /// The SIP status that ended it, if one did.
        status: Option<u16>,
        /// Why, in one sentence.
        reason: String,
    },
    /// Answers [`crate::net::Command::Trace`].
    Trace {
        /// The tag given with the command.
        tag: u64,
        /// What went over the wire; `None`: nothing is kept of it (any more).
        trace: Option<Box<CallTrace>>,
    },
    /// Answers [`crate::net::Command::Bans`].
    Bans {
        /// The tag given with the command.
        tag: u64,
        /// Who is banned, the longest first.
        bans: Vec<Ban>,
    },
    /// Answers [`crate::net::Command::Dial`]: the call has this number now.
    Dialing {
        /// The tag given with the command.
        tag: u64,
        /// The call.
        call: CallId,
    },
    /// Answers [`crate::net::Command::Dial`]: nothing was sent.
    DialFailed {
        /// The tag given with the command.
        tag: u64,
        /// Why.
        error: String,
    },
}

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// We hung up (or cancelled, or rejected).
    LocalHangup,
    /// The call has lasted as long as a call may (`toll.max_duration`).
    TooLong,
    /// The far end hung up an answered call.
    RemoteHangup,
    /// The caller gave up before we answered.
    Cancelled,
    /// 486, 600.
    Busy,
    /// 408, 480, 487 from the far end, or nobody answered within the limit.
    NoAnswer,
    /// 603, or 403 without a challenge before it.
    Declined,
    /// 404, 410, 484, 604.
    NotFound,
    /// 401, 407 that we can not or may not answer, 403 after credentials.
    Auth,
    /// 415, 488, 606, or a session description that cannot be used.
    Media,
    /// Nothing reachable at that address: name not found, socket refused.
    Network,
    /// Sent again and again without any answer; or our answer was never acknowledged.
    Timeout,
    /// Any other refusal, 3xx (redirects are not followed, unless that is switched on) and 4xx to 6xx.
    Rejected,
    /// The protocol was broken.
    Error,
    /// Another call has taken its place.
    Replaced,
    /// We have sent the far end to somebody else.
    Transferred,
}

impl EndCause {
    /// The word of the control protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            EndCause::LocalHangup => "hangup",
            EndCause::TooLong => "too_long",
            EndCause::RemoteHangup => "remote_hangup",
            EndCause::Cancelled => "cancelled",
            EndCause::Busy => "busy",
            EndCause::NoAnswer => "no_answer",
            EndCause::Declined => "declined",
            EndCause::NotFound => "not_found",
            EndCause::Auth => "auth",
            EndCause::Media => "media",
            EndCause::Network => "network",
            EndCause::Timeout => "timeout",
            EndCause::Rejected => "rejected",
            EndCause::Error => "error",
            EndCause::Replaced => "replaced",
            EndCause::Transferred => "transferred",
        }
    }

    /// What a final refusal means. `challenged`: credentials had been sent before it came.
    pub(crate) fn of_status(status: u16, challenged: bool) -> EndCause {
        match status {
            486 | 600 => EndCause::Busy,
            408 | 480 | 487 => EndCause::NoAnswer,
            403 if challenged => EndCause::Auth,
            403 | 603 => EndCause::Declined,
            404 | 410 | 484 | 604 => EndCause::NotFound,
            401 | 407 => EndCause::Auth,
            415 | 488 | 606 => EndCause::Media,
            _ => EndCause::Rejected,
        }
    }
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
