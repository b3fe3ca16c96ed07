//! The listener: one thread that hears all calls and tells what was said.
//!
//! Every [`POLL`] it hears what the streams' rings hold. What the workers report is handled as it comes. It alone gives
//! out events, so a stream's events are in order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::{
    EarsConfig, EarsEvent, EarsLoad, RestartCause, StreamId,
    hearing::{Context, Hearing},
    policy::CallSettings,
    pushed::PushedText,
    transcriber::{Outcome, Transcriber},
};

/// How often the rings are looked at: half a frame, so that a frame waits 5 ms on average.
const POLL: Duration = Duration::from_millis(10);
/// How often the workers are looked at, and how long the thread sleeps without streams.
const CHECK: Duration = Duration::from_millis(500);

/// What the listener is told.
#[derive(Debug)]
pub(crate) enum Input {
    Add { stream: StreamId, samples: rtrb::Consumer<f32>, lost: Arc<AtomicU64> },
    Remove(StreamId),
    Set(StreamId, Box<CallSettings>),
    Agent(StreamId, Option<Arc<str>>),
    Push(StreamId, PushedText),
    Outcome(Outcome),
    Failed { stream: StreamId, reason: String },
    Restarted { worker: usize, stream: StreamId, cause: RestartCause },
    Stop,
}

/// The listener thread's state.
pub(crate) struct Listener {
    config: EarsConfig,
    inbox: Receiver<Input>,
    transcriber: Transcriber,
    events: Sender<EarsEvent>,
    load: Arc<Mutex<EarsLoad>>,
    wake: Box<dyn Fn() + Send>,
    streams: BTreeMap<StreamId, Hearing>,
    /// Events that are about to be given out.
    ready: VecDeque<EarsEvent>,
}

/// Why the loop ends.
struct Ended;

impl Listener {
    pub(crate) fn new(
        config: EarsConfig,
        inbox: Receiver<Input>,
        transcriber: Transcriber,
        events: Sender<EarsEvent>,
        load: Arc<Mutex<EarsLoad>>,
        wake: Box<dyn Fn() + Send>,
    ) -> Self {
        Self { config, inbox, transcriber, events, load, wake, streams: BTreeMap::new(), ready: VecDeque::new() }
    }

    /// Runs until it is told to stop or nobody takes its events any more.
    pub(crate) fn run(mut self) {
        while self.turn().is_ok() {}
        self.transcriber.stop();
    }

    /// Takes messages until the rings are due, then hears.
    fn turn(&mut self) -> Result<(), Ended> {
        let due = Instant::now() + if self.streams.is_empty() { CHECK } else { POLL };
        loop {
            let had_streams = !self.streams.is_empty();
            match self.inbox.recv_deadline(due) {
                Ok(input) => self.take(input)?,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(Ended),
            }
            self.give_out()?;
            // messages that keep coming must not keep the rings waiting
            if Instant::now() >= due {
                break;
            }
            if had_streams == self.streams.is_empty() {
                return Ok(());
            }
        }
        self.hear();
        self.give_out()
    }

    fn take(&mut self, input: Input) -> Result<(), Ended> {
        match input {
            Input::Add { stream, samples, lost } => {
                let (settings, detector) = (self.config.call_settings(), self.config.detector);
                let hearing = Hearing::new(stream, samples, lost, settings, detector, Instant::now());
                if self.streams.insert(stream, hearing).is_some() {
                    log::warn!("{stream} was added twice; the older one is forgotten");
                }
            }
            Input::Remove(stream) => {
                if let Some(hearing) = self.streams.get_mut(&stream) {
                    hearing.close();
                }
            }
            Input::Set(stream, settings) => {
                if let Some(hearing) = self.streams.get_mut(&stream) {
                    hearing.set(*settings);
                }
            }
            Input::Agent(stream, text) => {
                if let Some(hearing) = self.streams.get_mut(&stream) {
                    hearing.agent(text);
                }
            }
            Input::Push(stream, text) => self.with(stream, |hearing, cx| hearing.push_text(&text, cx)),
            Input::Outcome(outcome) => {
                let id = outcome.stream;
                self.with(id, |hearing, cx| hearing.on_outcome(outcome, cx));
            }
            Input::Failed { stream, reason } => {
                self.ready.push_back(EarsEvent::RecognizerFailed { stream, reason });
            }
            Input::Restarted { worker, stream, cause } => {
                self.ready.push_back(EarsEvent::WorkerRestarted { worker, stream, cause });
            }
            Input::Stop => return Err(Ended),
        }
        Ok(())
    }

    fn hear(&mut self) {
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            self.with(id, Hearing::poll);
        }
        let now = Instant::now();
        self.transcriber.check_stuck(now);
        let load = self.transcriber.measure(now);
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    /// Does something with a stream, and takes it away if that was its last.
    fn with(&mut self, id: StreamId, act: impl FnOnce(&mut Hearing, &mut Context<'_>)) {
        let Some(hearing) = self.streams.get_mut(&id) else { return };
        let mut cx = Context {
            now: Instant::now(),
            transcriber: &self.transcriber,
            partial_interval: self.config.partial_interval,
            events: &mut self.ready,
        };
        act(hearing, &mut cx);
        if hearing.is_closed() {
            self.streams.remove(&id);
            self.ready.push_back(EarsEvent::Closed { stream: id });
        }
    }

    fn give_out(&mut self) -> Result<(), Ended> {
        if self.ready.is_empty() {
            return Ok(());
        }
        for event in self.ready.drain(..) {
            // waits when the daemon is behind: the rings take the loss, and count it
            self.events.send(event).map_err(|_| Ended)?;
        }
        (self.wake)();
        Ok(())
    }
}
