//! What comes in on a connection: bytes to frames, frames to requests and audio, and `hello` to sessions.

use super::connection::{Connection, Got};
use super::{ClientId, Input, RequestId, Server};
use crate::frame::{Frame, Mode};
use crate::types::{
    ApiError, ErrorCode, EventFilter, Hello, HelloReply, Id, Incoming, Method, PROTOCOL, Request, error_message,
    result_message,
};

impl Server {
    /// One read of one connection, and everything whole that has come.
    pub(super) fn read(&mut self, slot: usize) {
        let Some(mut connection) = self.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        match connection.read() {
            Ok(Got::Bytes) => {}
            Ok(Got::Nothing) => connection.readable = false,
            Ok(Got::End) => {
                connection.readable = false;
                if connection.decoder.mode() == Some(Mode::Lines) {
                    connection.half_closed = true;
                } else {
                    connection.die("it closed the connection");
                }
            }
            Err(error) => {
                connection.readable = false;
                connection.die(&error.to_string());
            }
        }
        // the frames are views of the decoder, and what they cause needs the rest of the connection
        let mut decoder = std::mem::take(&mut connection.decoder);
        while connection.dead.is_none() {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Json(text))) => {
                    let incoming = Incoming::parse(text);
                    self.take_json(slot, &mut connection, decoder.mode(), incoming);
                }
                Ok(Some(Frame::Audio(audio))) => match connection.client {
                    Some(client) => self.inputs.push_back(Input::Audio {
                        client,
                        channel: audio.channel(),
                        encoding: audio.encoding(),
                        generation: audio.generation(),
                        monotonic_ns: audio.monotonic_ns(),
                        samples: audio.samples().to_vec(),
                    }),
                    None => connection.die("audio before hello"),
                },
                Err(error) => {
                    let told = ApiError::new(ErrorCode::InvalidRequest, error.to_string());
                    let _ = connection.send_json(decoder.mode(), &error_message(None, &told));
                    connection.die(&error.to_string());
                }
            }
        }
        connection.decoder = decoder;
        self.slots[slot] = Some(connection);
    }

    fn take_json(
        &mut self,
        slot: usize,
        connection: &mut Connection,
        mode: Option<Mode>,
        incoming: Result<Incoming, (Option<Id>, ApiError)>,
    ) {
        let (id, name, params) = match incoming {
            Ok(Incoming::Request { id, method, params }) => (id, method, params),
            // we ask clients nothing
            Ok(Incoming::Answer { .. }) => return,
            Err((id, error)) => {
                let _ = connection.send_json(mode, &error_message(id.as_ref(), &error));
                return;
            }
        };
        let outcome = match (connection.client, Method::parse(&name, params)) {
            (None, Ok(Method::Hello(hello))) => self.hello(slot, connection, mode, id.as_ref(), hello),
            (None, Err(error)) if name == Hello::NAME => Err(error),
            (None, _) => Err(ApiError::new(ErrorCode::HelloFirst, "the first request must be hello")),
            (Some(_), Ok(Method::Hello(_))) => {
                Err(ApiError::new(ErrorCode::HelloFirst, "hello was said already on this connection"))
            }
            (Some(client), Ok(method)) => {
                connection.unanswered += 1;
                let id = RequestId { slot, serial: connection.serial, id: id.clone() };
                self.inputs.push_back(Input::Request { client, id, method });
                Ok(())
            }
            (Some(_), Err(error)) => Err(error),
        };
        if let (Err(error), Some(_)) = (&outcome, &id) {
            let _ = connection.send_json(mode, &error_message(id.as_ref(), error));
        }
    }

    fn hello(
        &mut self,
        slot: usize,
        connection: &mut Connection,
        mode: Option<Mode>,
        id: Option<&Id>,
        hello: Hello,
    ) -> Result<(), ApiError> {
        if hello.protocol != PROTOCOL {
            return Err(ApiError::new(
                ErrorCode::HelloFirst,
                format!("protocol {} is not spoken here: only {PROTOCOL}", hello.protocol),
            ));
        }
        let known = hello.token.as_deref().and_then(|token| self.sessions.by_token(token));
        let client = match known {
            Some(client) => {
                self.resume(client, slot, hello.client, hello.events);
                client
            }
            None => {
                let client = self
                    .sessions
                    .begin(hello.client.clone(), hello.events, slot)
                    .map_err(|error| ApiError::internal(format!("no random numbers for the token: {error}")))?;
                self.inputs.push_back(Input::Connected { client, name: hello.client });
                client
            }
        };
        connection.client = Some(client);
        let resumed = if known.is_some() { self.sessions.calls_of(client) } else { Vec::new() };
        let Some(session) = self.sessions.get_mut(client) else {
            return Ok(());
        };
        let reply = HelloReply {
            server: "mr-sip".into(),
            version: self.config.version.clone(),
            protocol: PROTOCOL,
            features: self.config.features.clone(),
            session: client.session(),
            token: session.token.clone(),
            resumed,
        };
        session.missed_bytes = 0;
        let missed = std::mem::take(&mut session.missed);
        let answer = id.and_then(|id| result_message(id, &reply).ok());
        for text in answer.iter().map(Vec::as_slice).chain(missed.iter().map(AsRef::as_ref)) {
            let _ = connection.send_json(mode, text);
        }
        Ok(())
    }

    /// Moves a session to a new connection; an old one that seems alive still is closed.
    fn resume(&mut self, client: ClientId, slot: usize, name: String, filter: EventFilter) {
        let Some(session) = self.sessions.get_mut(client) else {
            return;
        };
        let old = session.slot.replace(slot);
        session.expires = None;
        session.name = name;
        session.filter = filter;
        if let Some(old) = old {
            self.inputs.push_back(Input::Gone { client });
            if let Some(Some(connection)) = self.slots.get_mut(old) {
                connection.die("its session was resumed by another connection");
            }
        }
        self.inputs.push_back(Input::Resumed { client });
    }
}
