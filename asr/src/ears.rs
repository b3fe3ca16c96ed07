//! The facade: one `Ears` a daemon.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender};

use crate::{
    AsrError, EarsEvent, EarsLoad, StreamId, TurnPolicy,
    listener::{Input, Listener},
    policy::{CallSettings, Recognition},
    pushed::PushedText,
    recognizer::{Hints, Recognizers},
    transcriber::Transcriber,
    vad::DetectorKind,
    whisper::WhisperModel,
};

/// Finals that may wait for a worker, per stream, before the listener stops reading that stream's ring.
pub const MAX_FINALS_PER_STREAM: usize = 8;
/// Events that may wait for [`Ears::try_recv`] before the listener waits.
pub const EVENT_QUEUE: usize = 8_192;

const MOST_WORKERS: usize = 256;

/// How the ears are set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EarsConfig {
    /// The model file, as [`model::find`](crate::model::find) gives it.
    pub model: PathBuf,
    /// Recogniser threads; 0 means one less than the machine's cores, at least one.
    pub workers: usize,
    /// Shortest time between two partials of an utterance (stretched up to four times under load); zero: no partials.
    pub partial_interval: Duration,
    /// What tells speech from other sounds.
    pub detector: DetectorKind,
    /// When a caller counts as speaking, pausing and done.
    pub turns: TurnPolicy,
    /// Language of multilingual models, as Whisper names it (`en`, `de`, ... or `auto`). English-only models ignore it.
    pub language: String,
    /// Words that may come, on every call (see [`Hints::prompt`]).
    pub prompt: String,
    /// A job that runs longer than this is taken from its worker, which is replaced.
    pub stuck_after: Duration,
    /// So many jobs panic on purpose, for tests of what happens then. The environment variable
    /// `MR_SIP_TEST_WHISPER_PANIC` sets it too.
    #[doc(hidden)]
    pub test_panics: u32,
}

impl EarsConfig {
    /// The defaults, with this model file.
    pub fn new(model: PathBuf) -> Self {
        Self {
            model,
            workers: 0,
            partial_interval: Duration::from_millis(500),
            detector: DetectorKind::default(),
            turns: TurnPolicy::default(),
            language: "en".into(),
            prompt: String::new(),
            stuck_after: Duration::from_secs(60),
            test_panics: 0,
        }
    }

    /// How a call is heard of which nobody has said more.
    pub fn call_settings(&self) -> CallSettings {
        CallSettings {
            turns: self.turns.clone(),
            hints: Hints { prompt: self.prompt.clone(), language: None },
            recognition: Recognition::BuiltIn,
        }
    }

    fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1)),
            given => given,
        }
    }

    /// Refuses what makes no sense, and makes the pause no longer than the end of the turn.
    fn checked(mut self) -> Result<Self, AsrError> {
        self.turns = self.turns.checked()?;
        if self.workers > MOST_WORKERS {
            return Err(AsrError::Config("speech recognition: workers must be at most 256".into()));
        }
        Ok(self)
    }
}

/// The ears of all calls: one listener thread and the recogniser's workers.
///
/// Dropping it stops the threads; utterances that are still open then get no final. To hear the end of a call, call
/// [`remove`](Self::remove) and wait for [`EarsEvent::Closed`].
#[derive(Debug)]
pub struct Ears {
    inbox: Sender<Input>,
    /// Taken first when dropped, so that a listener that waits for room comes free.
    events: Option<Receiver<EarsEvent>>,
    load: Arc<Mutex<EarsLoad>>,
    listener: Option<JoinHandle<()>>,
}

impl Ears {
    /// Loads the model and starts the threads. `on_event` is called, from the listener's thread, after events have been
    /// queued: wake your loop there, take the events with [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    /// The model can't be loaded, a configured value makes no sense, or a thread can't be started.
    pub fn start(config: EarsConfig, on_event: impl Fn() + Send + 'static) -> Result<Self, AsrError> {
        let config = config.checked()?;
        let model = WhisperModel::load(&config.model, &config.language)?;
        Self::start_with(config, Arc::new(model), on_event)
    }

    /// As [`start`](Self::start), with another recogniser than Whisper; `config.model` is not looked at.
    ///
    /// # Errors
    /// A configured value makes no sense, or a thread can't be started.
    pub fn start_with(
        config: EarsConfig,
        recognizers: Arc<dyn Recognizers>,
        on_event: impl Fn() + Send + 'static,
    ) -> Result<Self, AsrError> {
        let config = config.checked()?;
        // Not bounded by itself, but by what feeds it: two messages a call, and reports of jobs that the listener
        // handed in (and those are bounded in the queue).
        let (inbox, inputs) = crossbeam_channel::unbounded();
        let (sender, events) = crossbeam_channel::bounded(EVENT_QUEUE);
        let transcriber = Transcriber::start(
            recognizers,
            config.worker_count(),
            config.stuck_after,
            config.test_panics,
            inbox.clone(),
        )?;
        let load = Arc::new(Mutex::new(EarsLoad { workers: config.worker_count(), ..EarsLoad::default() }));
        let shared_load = Arc::clone(&load);
        let name = String::from("listener");
        let listener = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || Listener::new(config, inputs, transcriber, sender, shared_load, Box::new(on_event)).run())
            .map_err(|source| AsrError::Thread { name, source })?;
        Ok(Self { inbox, events: Some(events), load, listener: Some(listener) })
    }

    /// Begins to listen to a stream: 8 kHz mono samples, and the producer's count of samples that found the ring full.
    ///
    /// # Errors
    /// [`AsrError::Stopped`] when the listener thread is gone.
    pub fn add(&self, stream: StreamId, samples: rtrb::Consumer<f32>, lost: Arc<AtomicU64>) -> Result<(), AsrError> {
        self.tell(Input::Add { stream, samples, lost })
    }

    /// Stops listening after what is in the ring. An open utterance is still transcribed; then comes
    /// [`EarsEvent::Closed`]. A stream that is not there is ignored; one whose producer was dropped ends by itself.
    ///
    /// # Errors
    /// [`AsrError::Stopped`] when the listener thread is gone.
    pub fn remove(&self, stream: StreamId) -> Result<(), AsrError> {
        self.tell(Input::Remove(stream))
    }

    /// Hears a call by other settings from now on.
    ///
    /// # Errors
    /// [`AsrError::Config`] when they make no sense, [`AsrError::Stopped`] when the listener thread is gone.
    pub fn set(&self, stream: StreamId, settings: CallSettings) -> Result<(), AsrError> {
        self.tell(Input::Set(stream, Box::new(settings.checked()?)))
    }

    /// The agent speaks on this call (this text, as far as it is known, or an empty one), or is silent from now on: only
    /// who speaks can be interrupted ([`EarsEvent::BargeIn`]).
    ///
    /// # Errors
    /// [`AsrError::Stopped`] when the listener thread is gone.
    pub fn agent_speaks(&self, stream: StreamId, text: Option<&str>) -> Result<(), AsrError> {
        self.tell(Input::Agent(stream, text.map(Arc::from)))
    }

    /// Takes text of another recogniser, for a call that is set to [`Recognition::Pushed`]; on others it is ignored.
    ///
    /// # Errors
    /// [`AsrError::Stopped`] when the listener thread is gone.
    pub fn push_text(&self, stream: StreamId, text: PushedText) -> Result<(), AsrError> {
        self.tell(Input::Push(stream, text))
    }

    /// How far behind the recogniser is, as of at most half a second ago.
    pub fn load(&self) -> EarsLoad {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event, if there is one. Never blocks.
    pub fn try_recv(&self) -> Option<EarsEvent> {
        self.events.as_ref()?.try_recv().ok()
    }

    /// The next event, waiting for it for at most `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<EarsEvent> {
        self.events.as_ref()?.recv_timeout(timeout).ok()
    }

    fn tell(&self, input: Input) -> Result<(), AsrError> {
        if self.listener.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(AsrError::Stopped);
        }
        self.inbox.send(input).map_err(|_| AsrError::Stopped)
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        drop(self.events.take());
        let _ = self.inbox.send(Input::Stop);
        if let Some(listener) = self.listener.take()
            && listener.join().is_err()
        {
            log::error!("the listener thread had panicked");
        }
    }
}
