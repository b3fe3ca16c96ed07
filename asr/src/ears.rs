//! The facade: one `Ears` a daemon.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use crate::{AsrError, EarsEvent, StreamId, TurnPolicy};

/// Finals that may wait for a worker, per stream, before the listener stops reading that stream's ring.
pub const MAX_FINALS_PER_STREAM: usize = 8;
/// Events that may wait for [`Ears::try_recv`] before the listener waits.
pub const EVENT_QUEUE: usize = 8_192;

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
}

/// The ears of all calls: one listener thread and the recogniser's workers.
///
/// Dropping it stops the threads; utterances that are still open then get no final. To hear the end of a call, call
/// [`remove`](Self::remove) and wait for [`EarsEvent::Closed`].
#[derive(Debug)]
pub struct Ears {
    _config: EarsConfig,
}

impl Ears {
    /// Loads the model and starts the threads. `on_event` is called, from any of them, after an event has been queued:
    /// wake your loop there, take the events with [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    /// The model can't be loaded, a configured value makes no sense, or a thread can't be started.
    pub fn start(config: EarsConfig, on_event: impl Fn() + Send + 'static) -> Result<Self, AsrError> {
        let _ = on_event;
        Ok(Self { _config: config })
    }

    /// Begins to listen to a stream: 8 kHz mono samples, and the producer's count of samples that found the ring full.
    ///
    /// # Errors
    /// [`AsrError::Stopped`] when the listener thread is gone.
    pub fn add(&self, stream: StreamId, samples: rtrb::Consumer<f32>, lost: Arc<AtomicU64>) -> Result<(), AsrError> {
        let _ = (stream, samples, lost);
        Ok(())
    }

    /// Stops listening after what is in the ring. An open utterance is still transcribed; then comes
    /// [`EarsEvent::Closed`]. A stream that is not there is ignored.
    ///
    /// # Errors
    /// [`AsrError::Stopped`] when the listener thread is gone.
    pub fn remove(&self, stream: StreamId) -> Result<(), AsrError> {
        let _ = stream;
        Ok(())
    }

    /// The next event, if there is one. Never blocks.
    pub fn try_recv(&self) -> Option<EarsEvent> {
        None
    }

    /// The next event, waiting for it for at most `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<EarsEvent> {
        let _ = timeout;
        None
    }
}
