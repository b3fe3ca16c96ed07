//! Errors as clients see them: JSON-RPC's own codes and ours.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The `error` of a JSON-RPC answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// See [`ErrorCode`]; a number that is not known is kept.
    pub code: i32,
    /// One sentence for a person.
    pub message: String,
    /// More for a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

impl ApiError {
    /// An error with its sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into(), data: None }
    }

    /// The code, when it is one of ours.
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|code| *code as i32 == self.code)
    }

    /// 1001 for a call that does not exist.
    pub fn no_such_call(call: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NoSuchCall, format!("there is no call {call}"))
    }

    /// 1002 for a call that another client owns.
    pub fn not_owner(call: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotOwner, format!("call {call} belongs to another client"))
    }

    /// 1003: `what` cannot be done with the call as it stands.
    pub fn wrong_state(what: impl Into<String>) -> Self {
        Self::new(ErrorCode::WrongState, what)
    }

    /// -32602 with the field at fault and what is allowed.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParams, message)
    }

    /// -32603: our fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }
}

/// The codes of [`ApiError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum ErrorCode {
    /// Not JSON.
    Parse = -32700,
    /// JSON, but not a JSON-RPC 2.0 request.
    InvalidRequest = -32600,
    /// No such method.
    MethodNotFound = -32601,
    /// A parameter is missing or out of bounds; the message names it and what is allowed.
    InvalidParams = -32602,
    /// Something that is not the client's fault.
    Internal = -32603,
    /// No such call.
    NoSuchCall = 1001,
    /// The call belongs to another client.
    NotOwner = 1002,
    /// Not possible in the call's state.
    WrongState = 1003,
    /// The destination may not be called.
    DestinationRefused = 1004,
    /// No room for one more: calls, ports, subscriptions.
    NoCapacity = 1005,
    /// No such account.
    NoSuchAccount = 1006,
    /// No such response or channel.
    NoSuchResponse = 1007,
    /// `hello` must come first, and once; or its version is not spoken here.
    HelloFirst = 1008,
    /// Media could not be set up or changed.
    Media = 1009,
    /// A limit of `[dialing]` is reached: calls a second, calls at once.
    DialingLimit = 1010,
    /// The messages of the call are not kept, or not any more.
    NoTrace = 1011,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: &'static [Self] = &[
        Self::Parse,
        Self::InvalidRequest,
        Self::MethodNotFound,
        Self::InvalidParams,
        Self::Internal,
        Self::NoSuchCall,
        Self::NotOwner,
        Self::WrongState,
        Self::DestinationRefused,
        Self::NoCapacity,
        Self::NoSuchAccount,
        Self::NoSuchResponse,
        Self::HelloFirst,
        Self::Media,
        Self::DialingLimit,
        Self::NoTrace,
    ];

    /// What it stands for, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Parse => "not JSON",
            Self::InvalidRequest => "not a JSON-RPC 2.0 request, or a broken frame",
            Self::MethodNotFound => "no such method",
            Self::InvalidParams => "a parameter is missing or out of bounds",
            Self::Internal => "not the client's fault",
            Self::NoSuchCall => "no such call",
            Self::NotOwner => "the call belongs to another client",
            Self::WrongState => "not possible in the call's state",
            Self::DestinationRefused => "the destination may not be called",
            Self::NoCapacity => "no room for one more",
            Self::NoSuchAccount => "no such account",
            Self::NoSuchResponse => "no such response or channel",
            Self::HelloFirst => "`hello` must come first, and once; or its protocol is not spoken here",
            Self::Media => "media could not be set up",
            Self::DialingLimit => "a limit of `[dialing]` is reached",
            Self::NoTrace => "the messages of the call are not kept any more",
        }
    }
}
