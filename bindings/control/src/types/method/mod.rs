//! Requests: what a client may ask, with its bounds, and what it gets.

#[macro_use]
mod macros;
mod bridge;
mod calls;
mod daemon;
mod play;
mod recording;
mod sound;
mod transfer;
mod turns;
mod voice;

use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::bridge::{BridgeMode, CallBridge, CallUnbridge};
pub use self::calls::{
    CallAnswer, CallDial, CallDtmf, CallGet, CallHangup, CallList, CallListReply, CallReject, DialReply, MAX_LIST,
};
pub use self::daemon::{DaemonShutdown, DaemonStatus, SipBan, SipBans, SipBansReply, SipUnban};
pub use self::play::{PlayFile, PlayMode, PlayReply, PlayStop, PlayTone, ToneName, ToneRegion};
pub use self::recording::{RecordPause, RecordResume, RecordStart, RecordStartReply, RecordStop};
pub use self::sound::{AudioClean, AudioEffects, CleanReply, Effect, Voice};
pub use self::transfer::{
    CallHold, CallProgress, CallResume, CallTrace, CallTransfer, CallTransferAccept, CallTransferReject, TraceFormat,
    TraceMessage, TraceReply,
};
pub use self::turns::{RecognizedBy, TranscriptPush, TurnPolicy, TurnPolicyReply, TurnStyle};
pub use self::voice::{
    AudioClear, AudioDuck, AudioHalt, AudioPosition, AudioResume, MediaSubscribe, MediaUnsubscribe, Position,
    ResponseEnd, ResponseEndReply, ResponseStart, ResponseStartReply, SubscribeReply,
};
use super::call::{Call, CallId};
use super::error::{ApiError, ErrorCode};
use super::status::Status;

/// The version of the protocol that is spoken here.
pub const PROTOCOL: u32 = 1;

/// Longest destination or account name, in bytes.
const MAX_NAME: usize = 512;

/// One kind of request: its name and what comes back.
pub trait Request: Serialize + DeserializeOwned + JsonSchema {
    /// The method's name on the wire.
    const NAME: &'static str;
    /// The shape of its result.
    type Reply: Serialize + DeserializeOwned + JsonSchema;

    /// Whether every field is within its bounds.
    ///
    /// # Errors
    /// The field at fault and what is allowed.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// `Method` and the table of names from one list, so that none can be forgotten.
macro_rules! methods {
    ($($name:literal $kind:ident => $reply:ty),* $(,)?) => {
        /// A request that was read and found to be within bounds.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Method {
            $(#[doc = concat!("`", $name, "`")] $kind($kind),)*
        }

        impl Method {
            /// Every method's name.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Reads a request.
            ///
            /// # Errors
            /// -32601 for a name that is not known, -32602 for parameters that do not fit: the message names the field and
            /// what is allowed.
            pub fn parse(name: &str, params: Value) -> Result<Self, ApiError> {
                match name {
                    $($name => read::<$kind>(params).map(Self::$kind),)*
                    other => Err(ApiError::new(
                        ErrorCode::MethodNotFound,
                        format!("there is no method {:?}", shorten(other)),
                    )),
                }
            }

            /// Every method's name with the schemas of its parameters and its result.
            pub(crate) fn schemas(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema, Schema)> {
                vec![$(($name, generator.subschema_for::<$kind>(), generator.subschema_for::<$reply>())),*]
            }

            /// The name on the wire.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }
        }

        $(impl From<$kind> for Method {
            fn from(request: $kind) -> Self {
                Self::$kind(request)
            }
        })*
    };
}

methods! {
    "hello" Hello => HelloReply,
    "call.dial" CallDial => DialReply,
    "call.answer" CallAnswer => Done,
    "call.reject" CallReject => Done,
    "call.hangup" CallHangup => Done,
    "call.dtmf" CallDtmf => Done,
    "call.progress" CallProgress => Done,
    "call.hold" CallHold => Done,
    "call.resume" CallResume => Done,
    "call.transfer" CallTransfer => Done,
    "call.transfer_accept" CallTransferAccept => Done,
    "call.transfer_reject" CallTransferReject => Done,
    "call.bridge" CallBridge => Done,
    "call.unbridge" CallUnbridge => Done,
    "call.trace" CallTrace => TraceReply,
    "call.list" CallList => CallListReply,
    "call.get" CallGet => Call,
    "response.start" ResponseStart => ResponseStartReply,
    "response.end" ResponseEnd => ResponseEndReply,
    "audio.halt" AudioHalt => Position,
    "audio.resume" AudioResume => Position,
    "audio.clear" AudioClear => Position,
    "audio.position" AudioPosition => Position,
    "audio.duck" AudioDuck => Position,
    "play.file" PlayFile => PlayReply,
    "play.tone" PlayTone => PlayReply,
    "play.stop" PlayStop => Done,
    "audio.clean" AudioClean => CleanReply,
    "audio.effects" AudioEffects => Done,
    "media.subscribe" MediaSubscribe => SubscribeReply,
    "media.unsubscribe" MediaUnsubscribe => Done,
    "turn.policy" TurnPolicy => TurnPolicyReply,
    "transcript.push" TranscriptPush => Done,
    "record.start" RecordStart => RecordStartReply,
    "record.pause" RecordPause => Done,
    "record.resume" RecordResume => Done,
    "record.stop" RecordStop => Done,
    "sip.bans" SipBans => SipBansReply,
    "sip.unban" SipUnban => Done,
    "daemon.status" DaemonStatus => Status,
    "daemon.shutdown" DaemonShutdown => Done,
}

fn read<R: Request>(params: Value) -> Result<R, ApiError> {
    let params = match params {
        Value::Null => Value::Object(Map::new()),
        Value::Object(mut fields) => {
            // absent and null are the same
            fields.retain(|_, value| !value.is_null());
            Value::Object(fields)
        }
        _ => {
            return Err(ApiError::invalid_params(format!("{}: params must be an object", R::NAME)));
        }
    };
    let request: R = serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        let what = error.into_inner();
        ApiError::invalid_params(match path.as_str() {
            "." => format!("{}: {what}", R::NAME),
            field => format!("{}: `{field}`: {what}", R::NAME),
        })
    })?;
    request.check().map_err(|what| ApiError::invalid_params(format!("{}: {what}", R::NAME)))?;
    Ok(request)
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

fn within<T: PartialOrd + std::fmt::Display>(field: &str, value: T, range: &RangeInclusive<T>) -> Result<(), String> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(format!("`{field}`: {value}: from {} to {}", range.start(), range.end()))
    }
}

/// Names go into SIP headers and logs: no control characters (CR and LF above all), not empty, not endless.
fn name(field: &str, value: &str) -> Result<(), String> {
    if value.trim().is_empty() {
        Err(format!("`{field}`: must not be empty"))
    } else if value.len() > MAX_NAME {
        Err(format!("`{field}`: {} bytes: at most {MAX_NAME}", value.len()))
    } else if value.chars().any(char::is_control) {
        Err(format!("`{field}`: must not hold control characters"))
    } else {
        Ok(())
    }
}

/// The result of what has nothing to tell: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {}

/// Which calls' events a client gets. Those of accounts, JACK and the daemon itself come with `own` and `all`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventFilter {
    /// Of its own calls, and of those nobody owns yet.
    #[default]
    Own,
    /// Of all calls.
    All,
    /// None.
    None,
}

/// `hello`: the first request of a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// The client's name, for logs and `owner`.
    pub client: String,
    /// The version it speaks: [`PROTOCOL`].
    pub protocol: u32,
    /// Features it would use; what is not known is ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Which events it wants.
    #[serde(default)]
    pub events: EventFilter,
    /// The token of a lost connection, to take over its calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Request for Hello {
    const NAME: &'static str = "hello";
    type Reply = HelloReply;

    fn check(&self) -> Result<(), String> {
        name("client", &self.client)
    }
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HelloReply {
    /// `mr-sip`.
    pub server: String,
    /// The daemon's version.
    pub version: String,
    /// The version of the protocol.
    pub protocol: u32,
    /// What the daemon can do beyond version 1.
    #[serde(default)]
    pub features: Vec<String>,
    /// The session's number, which stays the same when it is resumed.
    pub session: u64,
    /// What resumes this session after a lost connection. Secret.
    pub token: String,
    /// The calls that this client owned and owns again.
    #[serde(default)]
    pub resumed: Vec<CallId>,
}
