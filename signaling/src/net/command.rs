//! What the user agent can be told from other threads.

use std::net::IpAddr;

#[cfg(doc)]
use crate::{agent::UserAgent, event::Event};
use crate::{
    event::{CallId, Dial},
    secrets::shown,
};

/// What the user agent can be told, across the thread. Its `Debug` shows no secrets (case 46).
#[derive(derive_more::Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Call somebody; [`Event::Dialing`] or [`Event::DialFailed`] answers with the same tag.
    Dial {
        /// Chosen by the caller.
        tag: u64,
        /// The call.
        dial: Dial,
    },
    /// See [`UserAgent::ring`].
    Ring(CallId),
    /// See [`UserAgent::progress`].
    Progress {
        /// The call.
        call: CallId,
        /// Our answer (or offer, if the INVITE had none).
        #[debug("{:?}", shown(sdp))]
        sdp: String,
    },
    /// See [`UserAgent::answer`].
    Answer {
        /// The call.
        call: CallId,
        /// Our answer (or offer, if the INVITE had none).
        #[debug("{:?}", shown(sdp))]
        sdp: String,
    },
    /// See [`UserAgent::reject`].
    Reject {
        /// The call.
        call: CallId,
        /// 300 to 699.
        status: u16,
    },
    /// See [`UserAgent::hangup`].
    Hangup(CallId),
    /// See [`UserAgent::answer_reoffer`].
    AnswerReoffer {
        /// The call.
        call: CallId,
        /// Our answer (or offer).
        #[debug("{:?}", shown(sdp))]
        sdp: String,
    },
    /// See [`UserAgent::reject_reoffer`].
    RejectReoffer {
        /// The call.
        call: CallId,
        /// 300 to 699, usually 488.
        status: u16,
    },
    /// See [`UserAgent::reoffer`].
    Reoffer {
        /// The call.
        call: CallId,
        /// Our offer.
        #[debug("{:?}", shown(sdp))]
        sdp: String,
    },
    /// See [`UserAgent::info`].
    Info {
        /// The call.
        call: CallId,
        /// Such as `application/dtmf-relay`.
        content_type: String,
        /// What it says; a digit of a PIN, perhaps, so that only its length is shown.
        #[debug("{} bytes", body.len())]
        body: String,
    },
    /// See [`UserAgent::transfer`].
    Transfer {
        /// The call.
        call: CallId,
        /// As in [`Dial`].
        #[debug("{:?}", shown(to))]
        to: String,
    },
    /// See [`UserAgent::transfer_to`].
    TransferTo {
        /// The call whose far end is sent away.
        call: CallId,
        /// The call to whose far end it is sent.
        other: CallId,
    },
    /// See [`UserAgent::accept_transfer`].
    AcceptTransfer {
        /// The call.
        call: CallId,
        /// The offer of the new call.
        #[debug("{:?}", shown(sdp))]
        sdp: String,
    },
    /// See [`UserAgent::reject_transfer`].
    RejectTransfer {
        /// The call.
        call: CallId,
        /// 300 to 699, usually 603.
        status: u16,
    },
    /// What went over the wire; [`Event::Trace`] answers with the same tag.
    Trace {
        /// Chosen by the caller.
        tag: u64,
        /// Of what.
        of: Traced,
    },
    /// Who is banned; [`Event::Bans`] answers with the same tag.
    Bans {
        /// Chosen by the caller.
        tag: u64,
    },
    /// Ends a ban.
    Pardon(IpAddr),
}

/// What messages are kept of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// A call that is up or has ended lately.
    Call(CallId),
    /// An account's registration, by the account's name.
    Account(String),
}
