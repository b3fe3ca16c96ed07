//! Requests about a call that is up: hold, resume, send its far end to somebody else, see its messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Done, Request, name, within};
use crate::types::call::CallId;

/// A request about one call that a person at the terminal may also make for a call of another client.
macro_rules! forced {
    ($($(#[$doc:meta])* $name:literal $kind:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct $kind {
            /// Which call.
            pub call: CallId,
            /// Also when another client owns it.
            #[serde(default)]
            pub force: bool,
        }

        impl $kind {
            /// For a call of this client's.
            pub fn new(call: CallId) -> Self {
                Self { call, force: false }
            }
        }

        impl Request for $kind {
            const NAME: &'static str = $name;
            type Reply = Done;
        }
    )*};
}

forced! {
    /// `call.hold`: puts the far end on hold. It is not listened to; what the agent says is still sent, be it music.
    "call.hold" CallHold,
    /// `call.resume`: ends a hold of ours.
    "call.resume" CallResume,
}

about_call! {
    /// `call.progress`: lets the agent be heard before an incoming call is answered (183, early media).
    "call.progress" CallProgress => Done,
    /// `call.transfer_accept`: does what the far end asked for by `call.transfer` `requested`: calls somebody else instead.
    "call.transfer_accept" CallTransferAccept => Done,
}

/// `call.transfer`: sends the far end to somebody else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallTransfer {
    /// Which call's far end.
    pub call: CallId,
    /// To this number or SIP URI (blind), ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// ... or to the far end of this other call of ours (attended).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_call: Option<CallId>,
    /// Also when another client owns the call.
    #[serde(default)]
    pub force: bool,
}

impl Request for CallTransfer {
    const NAME: &'static str = "call.transfer";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        match (&self.to, self.other_call) {
            (Some(to), None) => name("to", to),
            (None, Some(other)) if other == self.call => {
                Err(format!("`other_call`: {other}: another call than `call`"))
            }
            (None, Some(_)) => Ok(()),
            _ => Err("either `to` or `other_call` is needed".into()),
        }
    }
}

/// `call.transfer_reject`: does not do what the far end asked for by `call.transfer` `requested`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallTransferReject {
    /// Which call.
    pub call: CallId,
    /// The SIP status, 400 to 699.
    #[serde(default = "decline")]
    pub status: u16,
}

fn decline() -> u16 {
    603
}

impl Request for CallTransferReject {
    const NAME: &'static str = "call.transfer_reject";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        within("status", self.status, &(400..=699))
    }
}

/// How a trace is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TraceFormat {
    /// Arrows, for people.
    #[default]
    Ladder,
    /// A capture file for Wireshark, in base64.
    Pcap,
    /// The messages themselves.
    Json,
}

/// `call.trace`: the SIP messages of a call that is up or has ended not long ago, without secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallTrace {
    /// Which call.
    pub call: CallId,
    /// How they are written.
    #[serde(default)]
    pub format: TraceFormat,
}

impl Request for CallTrace {
    const NAME: &'static str = "call.trace";
    type Reply = TraceReply;
}

/// The answer to [`CallTrace`]: one of `ladder`, `pcap` and `messages`, by the format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceReply {
    /// Which call.
    pub call: CallId,
    /// Its Call-ID.
    pub call_id: String,
    /// Messages that are not kept, for want of room.
    #[serde(default)]
    pub dropped: u64,
    /// Lines of at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<String>,
    /// A file in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcap: Option<String>,
    /// In the order in which they went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<TraceMessage>>,
}

/// One SIP message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceMessage {
    /// Since the first one.
    pub at_ms: u64,
    /// Whether we sent it.
    pub sent: bool,
    /// Our address.
    pub local: String,
    /// Theirs.
    pub remote: String,
    /// `udp`, `tcp` or `tls`.
    pub transport: String,
    /// What it says; what is not UTF-8 in it is replaced.
    pub text: String,
    /// Figures that are newer than this crate.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}
