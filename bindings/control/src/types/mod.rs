//! Every request, result, event and error of the protocol as a Rust type.
//!
//! Fields that are not known are ignored when reading and absent ones are left out when writing, so that either end may be newer.
//! Durations and times are whole milliseconds (`_ms`), wall-clock times milliseconds since 1970 (`_unix_ms`).

mod call;
mod error;
mod event;
mod message;
mod method;
mod schema;
mod sound;
mod status;

pub use call::{
    Call, CallId, CallState, Cause, Direction, Encoding, Hold, Line, MediaStats, Pause, Recording, RecordingState,
    Speaker,
};
pub use error::{ApiError, ErrorCode};
pub use event::{Announcement, Event, MediaState, Notification, PlayReason, TransferState, Word};
pub use message::{Id, Incoming, error_message, notification_message, request_message, result_message};
pub use method::{
    AudioClean, AudioClear, AudioDuck, AudioEffects, AudioHalt, AudioPosition, AudioResume, BridgeMode, CallAnswer,
    CallBridge, CallDial, CallDtmf, CallGet, CallHangup, CallHold, CallList, CallListReply, CallProgress, CallReject,
    CallResume, CallTrace, CallTransfer, CallTransferAccept, CallTransferReject, CallUnbridge, CleanReply,
    DaemonShutdown, DaemonStatus, DialReply, Done, Effect, EventFilter, Hello, HelloReply, MAX_LIST, MediaSubscribe,
    MediaUnsubscribe, Method, PROTOCOL, PlayFile, PlayMode, PlayReply, PlayStop, PlayTone, Position, RecognizedBy,
    RecordPause, RecordResume, RecordStart, RecordStartReply, RecordStop, Request, ResponseEnd, ResponseEndReply,
    ResponseStart, ResponseStartReply, SipBan, SipBans, SipBansReply, SipUnban, SubscribeReply, ToneName, ToneRegion,
    TraceFormat, TraceMessage, TraceReply, TranscriptPush, TurnPolicy, TurnPolicyReply, TurnStyle, Voice,
};
pub use schema::protocol_schema;
pub use sound::{AnsweredBy, Detect, DigitsVia, MediaReason, Tone};
pub use status::{Account, AccountState, JackState, MediaThread, Status};
