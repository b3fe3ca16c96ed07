//! A server on a socket of its own, driven step by step from the test. Only readiness is real; time is the test's.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mr_sip_control::frame::{Decoder, Frame, write_json};
use mr_sip_control::types::{CallId, DigitsVia, Event};
use mr_sip_control::{ClientId, Input, Server, ServerConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What is sure to come is waited for at most this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const C1: CallId = CallId(1);
pub(crate) const C2: CallId = CallId(2);

pub(crate) struct Daemon {
    pub(crate) server: Server,
    pub(crate) path: PathBuf,
    poll: mio::Poll,
    _folder: TempDir,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let poll = mio::Poll::new().unwrap();
        let server = Server::bind(&path, poll.registry(), mio::Token(7), ServerConfig::default()).unwrap();
        Self { server, path, poll, _folder: folder }
    }

    pub(crate) fn connect_raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits at most `wait` for readiness, handles it, and gives the next input if there is one.
    pub(crate) fn step(&mut self, now: Instant, wait: Duration) -> Option<Input> {
        if let Some(input) = self.server.next_input(now) {
            return Some(input);
        }
        let mut events = mio::Events::with_capacity(64);
        self.poll.poll(&mut events, Some(wait)).unwrap();
        for event in &events {
            assert!(self.server.handle(event));
        }
        self.server.next_input(now)
    }

    /// The next input, which is sure to come. `now` is what the server is told.
    pub(crate) fn input(&mut self, now: Instant) -> Input {
        let patience = Instant::now() + PATIENCE;
        loop {
            if let Some(input) = self.step(now, Duration::from_millis(100)) {
                return input;
            }
            assert!(Instant::now() < patience, "no input came");
        }
    }

    /// Handles what is ready; no input is expected.
    pub(crate) fn settle(&mut self, now: Instant) {
        if let Some(input) = self.step(now, Duration::ZERO) {
            panic!("unexpected {input:?}");
        }
    }
}

/// The client's end of a raw connection in frames.
pub(crate) struct Frames {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
}

/// One frame, copied out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Owned {
    Json(Value),
    Audio { channel: u16, generation: u64, samples: Vec<u8> },
}

impl Frames {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::framed() }
    }

    /// The next frame; `None` at the connection's end.
    pub(crate) fn next(&mut self) -> Option<Owned> {
        loop {
            match self.decoder.next_frame().unwrap() {
                Some(Frame::Json(text)) => return Some(Owned::Json(serde_json::from_slice(text).unwrap())),
                Some(Frame::Audio(audio)) => {
                    return Some(Owned::Audio {
                        channel: audio.channel(),
                        generation: audio.generation(),
                        samples: audio.samples().to_vec(),
                    });
                }
                None => {}
            }
            match self.stream.read(self.decoder.space()) {
                Ok(0) => return None,
                Ok(count) => self.decoder.filled(count),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn json(&mut self) -> Value {
        match self.next() {
            Some(Owned::Json(value)) => value,
            other => panic!("wanted JSON, got {other:?}"),
        }
    }
}

/// A JSON frame.
pub(crate) fn frame(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_json(&mut out, value.to_string().as_bytes()).unwrap();
    out
}

/// A request for a session, with these parameters besides.
pub(crate) fn hello(params: Value) -> Value {
    let mut all = json!({"client": "test", "protocol": 1});
    all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
    json!({"jsonrpc": "2.0", "id": "hello", "method": "hello", "params": all})
}

/// Connects and says hello; gives the client's end, who it is to the server, and its token.
pub(crate) fn join(daemon: &mut Daemon, params: Value) -> (Frames, ClientId, String) {
    let mut frames = Frames::new(daemon.connect_raw());
    frames.stream.write_all(&frame(&hello(params))).unwrap();
    let Input::Connected { client, .. } = daemon.input(Instant::now()) else { panic!("no hello") };
    let answer = frames.json();
    (frames, client, answer["result"]["token"].as_str().unwrap().to_owned())
}

/// An event of a call.
pub(crate) fn digit(call: CallId) -> Event {
    Event::CallDtmf { call, digit: '5', duration_ms: 100, via: DigitsVia::Rfc4733 }
}

/// An event of no call.
pub(crate) fn warning() -> Event {
    Event::DaemonWarning { text: "look out".into() }
}
