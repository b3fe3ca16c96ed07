//! `call.trace`: signaling keeps the messages, without secrets; here they get the form that the client wants.

use std::time::{Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::RequestId;
use control::types::{ApiError, CallId, CallTrace, ErrorCode, TraceFormat, TraceMessage, TraceReply};
use serde_json::Map;
use signaling::net::{Command, Traced};
use signaling::trace::{self, Arrows, Flow};

use super::switchboard::Switchboard;

/// A trace that signaling was asked for.
#[derive(Debug)]
pub(super) struct PendingTrace {
    request: RequestId,
    call: CallId,
    format: TraceFormat,
}

impl Switchboard {
    pub(super) fn ask_trace(&mut self, request: RequestId, asked: &CallTrace) {
        self.last_tag += 1;
        let tag = self.last_tag;
        let of = Traced::Call(signaling::CallId(asked.call.0));
        if let Err(error) = self.endpoint.command(Command::Trace { tag, of }) {
            let full = ApiError::new(ErrorCode::NoCapacity, error.to_string());
            self.server.respond::<TraceReply>(&request, Err(full));
            return;
        }
        self.traces.insert(tag, PendingTrace { request, call: asked.call, format: asked.format });
    }

    pub(super) fn on_trace(&mut self, tag: u64, trace: Option<&trace::CallTrace>) {
        let Some(PendingTrace { request, call, format }) = self.traces.remove(&tag) else { return };
        let known = self.calls.contains_key(&call.0);
        let reply = match trace {
            Some(trace) => Ok(reply(call, trace, format)),
            None if !known => Err(ApiError::no_such_call(call)),
            None => Err(ApiError::new(ErrorCode::NoTrace, format!("the messages of {call} are not kept (any more)"))),
        };
        self.server.respond(&request, reply);
    }
}

fn reply(call: CallId, trace: &trace::CallTrace, format: TraceFormat) -> TraceReply {
    let mut reply = TraceReply {
        call,
        call_id: trace.call_id.clone(),
        dropped: trace.dropped,
        ladder: None,
        pcap: None,
        messages: None,
    };
    match format {
        TraceFormat::Ladder => reply.ladder = Some(trace::ladder(trace, Arrows::Unicode)),
        TraceFormat::Pcap => {
            reply.pcap = Some(STANDARD.encode(trace::pcap(trace, Instant::now(), SystemTime::now())));
        }
        TraceFormat::Json => reply.messages = Some(messages(trace)),
    }
    reply
}

fn messages(trace: &trace::CallTrace) -> Vec<TraceMessage> {
    let begun = trace.messages.first().map(|message| message.at);
    let message = |message: &trace::TracedMessage| TraceMessage {
        at_ms: begun.map_or(0, |begun| message.at.saturating_duration_since(begun).as_millis() as u64),
        sent: message.path.flow == Flow::Sent,
        local: message.path.local.to_string(),
        remote: message.path.remote.to_string(),
        transport: message.path.transport.as_param().to_owned(),
        text: String::from_utf8_lossy(&message.bytes).into_owned(),
        more: Map::new(),
    };
    trace.messages.iter().map(message).collect()
}
