//! A daemon and its client, as the tests of two daemons want them.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::Path;
use std::time::{Duration, Instant};

use control::client::Message;
use control::types::{
    ApiError, Call, CallDial, CallId, CallState, Encoding, Event, EventFilter, Hold, MediaSubscribe, MediaUnsubscribe,
    ResponseEnd, ResponseStart,
};
use control::{Client, ControlError};
use mr_sip::demo::servers::{Daemon, DaemonSetup};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Site {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
    _folder: tempfile::TempDir,
}

impl Site {
    /// A daemon that answers calls by itself.
    pub(crate) fn answering() -> Self {
        Self::new(&DaemonSetup { incoming: "auto", ..DaemonSetup::default() })
    }

    /// A daemon that asks us.
    pub(crate) fn asking() -> Self {
        Self::new(&DaemonSetup::default())
    }

    pub(crate) fn new(setup: &DaemonSetup<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Some(Path::new(env!("CARGO_BIN_EXE_mr-sip")));
        let setup = DaemonSetup { program, record: false, ..setup.clone() };
        let daemon = Daemon::start(folder.path(), &setup).unwrap();
        let client = daemon.connect("test", EventFilter::All).unwrap();
        Self { daemon, client, _folder: folder }
    }

    pub(crate) fn uri(&self) -> String {
        format!("sip:agent@{}", self.daemon.sip_address())
    }

    /// Waits for the first event that `wanted` makes something of.
    pub(crate) fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        loop {
            match self.client.next_message(deadline).unwrap() {
                Some(Message::Event(notification)) => {
                    if let Some(found) = wanted(&notification.event) {
                        return found;
                    }
                    seen.push(notification.event);
                }
                Some(_) => {}
                None => panic!("{what} did not come; instead came {seen:#?}\n{}", self.daemon.log()),
            }
        }
    }

    pub(crate) fn state(&mut self, wanted: CallState) -> CallId {
        self.wait(&format!("the state {wanted}"), |event| match event {
            Event::CallState { call, state, .. } if *state == wanted => Some(*call),
            _ => None,
        })
    }

    pub(crate) fn hold(&mut self) -> Option<Hold> {
        self.wait("a hold", |event| match event {
            Event::CallHeld { hold, .. } => Some(*hold),
            _ => None,
        })
    }

    pub(crate) fn ended(&mut self) -> Call {
        self.wait("the summary", |event| match event {
            Event::CallSummary(call) => Some((**call).clone()),
            _ => None,
        })
    }

    pub(crate) fn dial(&mut self, to: &str) -> CallId {
        self.client.request(&CallDial { to: to.to_owned(), ..CallDial::default() }).unwrap().call
    }

    pub(crate) fn refused(&mut self, to: &str) -> ApiError {
        match self.client.request(&CallDial { to: to.to_owned(), ..CallDial::default() }) {
            Err(ControlError::Api(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    /// Says a second of noise on one call; whether it is heard on each of the others in the second and a half that follows.
    pub(crate) fn hear(&mut self, speaker: CallId, others: &[CallId]) -> Vec<bool> {
        let channels: Vec<u16> = others
            .iter()
            .map(|&call| {
                let request = MediaSubscribe { call, rate: 8_000, encoding: Encoding::S16 };
                self.client.request(&request).unwrap().channel
            })
            .collect();
        self.start_speaking(speaker);
        let mut left = vec![12_000_usize; channels.len()];
        let mut loud = vec![0; channels.len()];
        let deadline = Instant::now() + LIMIT;
        while left.iter().any(|&left| left > 0) {
            let message = self.client.next_message(deadline).unwrap().expect("audio");
            let Message::Audio { channel, samples, .. } = message else { continue };
            let Some(index) = channels.iter().position(|&other| other == channel) else { continue };
            let pcm = samples.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
            loud[index] += pcm.filter(|sample| sample.unsigned_abs() > 1_000).count();
            left[index] = left[index].saturating_sub(samples.len() / 2);
        }
        for channel in channels {
            self.client.request(&MediaUnsubscribe { channel }).unwrap();
        }
        loud.iter().map(|&loud| loud > 800).collect()
    }

    /// What comes of a call in so much time, from now on.
    pub(crate) fn listen(&mut self, call: CallId, ms: usize) -> Vec<i16> {
        let request = MediaSubscribe { call, rate: 8_000, encoding: Encoding::S16 };
        let ears = self.client.request(&request).unwrap().channel;
        let (mut heard, deadline) = (Vec::new(), Instant::now() + LIMIT);
        while heard.len() < ms * 8 {
            let message = self.client.next_message(deadline).unwrap().expect("audio");
            let Message::Audio { channel, samples, .. } = message else { continue };
            if channel == ears {
                heard.extend(samples.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
            }
        }
        self.client.request(&MediaUnsubscribe { channel: ears }).unwrap();
        heard
    }

    /// Says a second of noise and waits until it was sent.
    pub(crate) fn speak(&mut self, call: CallId) {
        let started = self.start_speaking(call);
        self.wait("the end of a response", |event| {
            matches!(event, Event::ResponseFinished { response, .. } if *response == started).then_some(())
        });
    }

    /// Says a second of noise; the response that it is.
    pub(crate) fn start_speaking(&mut self, call: CallId) -> u64 {
        let reply = self.client.request(&ResponseStart::new(call)).unwrap();
        let samples: Vec<u8> =
            (0..8000_i32).flat_map(|n| ((n.wrapping_mul(7919) % 6000) as i16).to_le_bytes()).collect();
        self.client.send_audio(reply.channel, Encoding::S16, reply.generation, 0, &samples).unwrap();
        self.client.request(&ResponseEnd { call, response: reply.response }).unwrap();
        reply.response
    }
}

/// A call that `ours` makes and `theirs` answers by itself; its number at either end.
pub(crate) fn connect(ours: &mut Site, theirs: &mut Site) -> (CallId, CallId) {
    let call = ours.dial(&theirs.uri());
    ours.state(CallState::Answered);
    (call, theirs.state(CallState::Answered))
}
