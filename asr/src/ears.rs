//! The facade: one `Ears` a daemon.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender};

use crate::{
    AsrError, EarsEvent, StreamId, TurnPolicy,
    listener::{Input, Listener},
    recognizer::Recognizers,
    transcriber::Transcriber,
    vad::FRAME,
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
    /// When a caller counts as speaking, pausing and done.
    pub turns: TurnPolicy,
    /// Language of multilingual models, as Whisper names it (`en`, `de`, ... or `auto`). English-only models ignore it.
    pub language: String,
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
            turns: TurnPolicy::default(),
            language: "en".into(),
            stuck_after: Duration::from_secs(60),
            test_panics: 0,
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
        let turns = &mut self.turns;
        turns.eager_after = turns.eager_after.min(turns.end_after);
        let allowed = TurnPolicy::SHORTEST_UTTERANCE..=TurnPolicy::LONGEST_UTTERANCE;
        let wrong = if !allowed.contains(&turns.max_utterance) {
            Some("max_utterance must be from 2 to 28 s")
        } else if turns.eager_after < FRAME {
            Some("end_after and eager_after must be at least 20 ms")
        } else if turns.pre_roll > Duration::from_secs(1) {
            Some("pre_roll must be at most 1 s")
        } else if self.workers > MOST_WORKERS {
            Some("workers must be at most 256")
        } else {
            None
        };
        wrong.map_or(Ok(self), |wrong| Err(AsrError::Config(format!("speech recognition: {wrong}"))))
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
        let name = String::from("listener");
        let listener = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || Listener::new(config, inputs, transcriber, sender, Box::new(on_event)).run())
            .map_err(|source| AsrError::Thread { name, source })?;
        Ok(Self { inbox, events: Some(events), listener: Some(listener) })
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
