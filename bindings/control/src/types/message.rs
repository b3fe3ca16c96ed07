//! JSON-RPC 2.0 around the types: one object in, one object out. Batches are not part of version 1.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::{ApiError, ErrorCode};
use super::event::{Event, Notification};

/// A request's `id`: the client's own, given back in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// A whole number.
    Number(i64),
    /// A string.
    Text(String),
}

/// A JSON text that came in, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// Something is asked. Without an `id` no answer is wanted.
    Request {
        /// The client's number for it.
        id: Option<Id>,
        /// The method's name.
        method: String,
        /// Its parameters, `null` when there were none.
        params: Value,
    },
    /// An answer to what we asked.
    Answer {
        /// Our number for it; absent when the far end could not read our request.
        id: Option<Id>,
        /// Result or error.
        outcome: Result<Value, ApiError>,
    },
}

impl Incoming {
    /// Takes one JSON text apart.
    ///
    /// # Errors
    /// -32700 when it is not JSON, -32600 when it is not JSON-RPC 2.0, each with the `id` as far as it could be read.
    pub fn parse(text: &[u8]) -> Result<Self, (Option<Id>, ApiError)> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| (None, ApiError::new(ErrorCode::Parse, format!("not JSON: {error}"))))?;
        let invalid = |id: Option<Id>, what: &str| Err((id, ApiError::new(ErrorCode::InvalidRequest, what)));
        let mut object = match value {
            Value::Object(object) => object,
            Value::Array(_) => {
                return invalid(None, "batches are not supported: send one object at a time");
            }
            _ => return invalid(None, "a message must be a JSON object"),
        };
        let id = match object.remove("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(Id::Text(text)),
            Some(Value::Number(number)) => match number.as_i64() {
                Some(number) => Some(Id::Number(number)),
                None => return invalid(None, "`id`: must be a whole number or a string"),
            },
            Some(_) => return invalid(None, "`id`: must be a whole number or a string"),
        };
        if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return invalid(id, "`jsonrpc`: must be \"2.0\"");
        }
        match (object.remove("method"), object.remove("result"), object.remove("error")) {
            (Some(Value::String(method)), None, None) => {
                let params = object.remove("params").unwrap_or(Value::Null);
                Ok(Self::Request { id, method, params })
            }
            (Some(_), None, None) => invalid(id, "`method`: must be a string"),
            (None, Some(result), None) => Ok(Self::Answer { id, outcome: Ok(result) }),
            (None, None, Some(error)) => match serde_json::from_value(error) {
                Ok(error) => Ok(Self::Answer { id, outcome: Err(error) }),
                Err(error) => invalid(id, &format!("`error`: {error}")),
            },
            _ => invalid(id, "wanted one of `method`, `result` and `error`"),
        }
    }
}

/// A request as JSON text.
pub fn request_message(id: &Id, method: &str, params: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Message<'a, P> {
        jsonrpc: &'static str,
        id: &'a Id,
        method: &'a str,
        params: &'a P,
    }
    serde_json::to_vec(&Message { jsonrpc: "2.0", id, method, params })
}

/// An answer with a result as JSON text.
pub fn result_message(id: &Id, result: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Message<'a, R> {
        jsonrpc: &'static str,
        id: &'a Id,
        result: &'a R,
    }
    serde_json::to_vec(&Message { jsonrpc: "2.0", id, result })
}

/// An answer with an error as JSON text; the `id` is `null` when the request's could not be read.
pub fn error_message(id: Option<&Id>, error: &ApiError) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string().into_bytes()
}

/// An event as JSON text: `time_ms` stands among its parameters.
pub fn notification_message(event: &Event, time_ms: Option<u64>) -> Result<Vec<u8>, serde_json::Error> {
    let mut message = serde_json::to_value(event)?;
    if let Some(object) = message.as_object_mut() {
        object.insert("jsonrpc".into(), "2.0".into());
        if let Some(params) = object.get_mut("params").and_then(Value::as_object_mut) {
            params.insert("time_ms".into(), time_ms.into());
        }
    }
    serde_json::to_vec(&message)
}

impl Notification {
    /// Reads an event; `None` for one that is newer than this crate, which is to be ignored.
    ///
    /// # Errors
    /// A known event of another shape than documented.
    pub fn parse(method: &str, params: Value) -> Result<Option<Self>, String> {
        if !Event::NAMES.contains(&method) {
            return Ok(None);
        }
        let time_ms = params.get("time_ms").and_then(Value::as_u64);
        let mut message = Map::new();
        message.insert("method".into(), method.into());
        message.insert("params".into(), params);
        let event = serde_json::from_value(Value::Object(message)).map_err(|error| format!("{method}: {error}"))?;
        Ok(Some(Self { time_ms, event }))
    }
}
