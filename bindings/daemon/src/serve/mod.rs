//! `mr-sip serve`: opens the rooms, lets the switchboard run, closes them in order.
//!
//! ```text
//!   clients <── control socket ──> ┌─────────────┐ <── queues + waker ──> signaling thread (SIP)
//!                                  │ switchboard │ <── queues + waker ──> ears (Whisper)
//!        signals ─────────────────>└─────────────┘ <── rings, looked at every 10 ms ──> media thread (RTP, JACK)
//! ```

mod bans;
mod bridges;
mod call;
mod detect;
mod dialing;
mod digits;
mod media;
mod offers;
mod outgoing;
mod plays;
mod recording;
pub(crate) mod report;
mod requests;
mod responses;
mod samples;
mod seldom;
mod setup;
mod sip;
mod sound;
mod speech;
pub(crate) mod stun;
mod subscriptions;
mod switchboard;
mod traces;
mod transfers;
mod turns;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asr::Ears;
use control::{ControlError, Server, ServerConfig};
use engine::{Engine, EngineConfig, EngineError};
use mio::{Events, Poll, Token, Waker};
use signal_hook_mio::v1_0::Signals;
use signaling::SignalingError;
use signaling::net::Endpoint;

pub(crate) use self::offers::is_private;
pub(crate) use self::setup::{accounts, client_endpoint, engine_config, http_recognizers};
use self::setup::{ears_config, endpoint_config};
use self::switchboard::Switchboard;
use crate::config::{Config, JackMode};
use crate::exit::Exit;

/// When the engine says that media is lost; the configuration's limit for ending the call counts from the last packet.
const MEDIA_LOST: Duration = Duration::from_secs(3);
/// While calls have media the rings are looked at this often: half a packet.
const TICK: Duration = Duration::from_millis(10);
/// Calls are looked at this often at least while there is always something else to do.
const PUMPED_WITHIN: Duration = Duration::from_millis(1);
/// Without calls there is nothing to look at but JACK's state and overdue rings.
const IDLE_TICK: Duration = Duration::from_millis(250);
/// A shutdown waits this long for far ends to answer BYE and for last words.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(4);
/// What one wake-up takes from one queue, so that no room is starved by another.
const BATCH: usize = 256;

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const CONTROL: Token = Token(2);

/// Why the daemon could not start. Each is one sentence with the fix.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The SIP socket or the accounts.
    #[error("{0}{hint}", hint = sip_hint(.0))]
    Signaling(#[from] SignalingError),
    /// The media engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The speech model.
    #[error(transparent)]
    Ears(#[from] asr::AsrError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The recordings' folder cannot be made.
    #[error("cannot make the folder for recordings {path}: {source}; set recording.folder or AUDIO_DIR")]
    Recordings { path: PathBuf, source: io::Error },
    /// The system refused what every program needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl ServeError {
    /// The exit code that tells it apart.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Signaling(SignalingError::BadConfig { .. }) | Self::Ears(_) | Self::Recordings { .. } => Exit::Config,
            Self::Signaling(_) => Exit::Network,
            Self::Engine(_) => Exit::Media,
            Self::Control(_) | Self::System(_) => Exit::Error,
        }
    }
}

fn sip_hint(error: &SignalingError) -> &'static str {
    match error {
        SignalingError::Socket { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            "; another SIP program listens there: stop it, or set another port in sip.bind"
        }
        SignalingError::Socket { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
            "; that address is not one of this machine's: set sip.bind"
        }
        _ => "",
    }
}

/// Serves until SIGTERM, SIGINT or `daemon.shutdown`; then hangs up, unregisters and returns.
///
/// # Errors
/// [`ServeError`]: nothing was left behind.
pub fn run(config: Config) -> Result<(), ServeError> {
    let mut poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let mut signals = Signals::new([libc::SIGTERM, libc::SIGINT])?;
    poll.registry().register(&mut signals, SIGNALS, mio::Interest::READABLE)?;
    let mut board = open(config, &poll, &waker)?;
    log::info!("SIP on {}, control socket {}", board.endpoint.local_addr(), board.server.path().display());

    let mut events = Events::with_capacity(BATCH);
    let mut stop_by = None;
    loop {
        let timeout = board.timeout(Instant::now());
        if let Err(error) = poll.poll(&mut events, Some(timeout))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &events {
            match event.token() {
                SIGNALS if signals.pending().count() > 0 => board.shutting_down = true,
                SIGNALS | WAKER => {}
                _ => {
                    board.server.handle(event);
                }
            }
        }
        let now = Instant::now();
        board.turn(now);
        if board.shutting_down {
            let limit = *stop_by.get_or_insert_with(|| {
                log::info!("shutting down: calls are ended");
                board.hang_up_all();
                now + SHUTDOWN_LIMIT
            });
            if now >= limit || board.is_quiet() {
                break;
            }
        }
    }
    // unregisters, and waits at most two seconds for the answers
    board.endpoint.close();
    Ok(())
}

/// Opens every room. What is quick to check comes first, and the SIP socket last: nobody's call meets half a daemon.
fn open(config: Config, poll: &Poll, waker: &Arc<Waker>) -> Result<Switchboard, ServeError> {
    let wake = |waker: &Arc<Waker>| {
        let waker = waker.clone();
        move || {
            let _ = waker.wake();
        }
    };
    let server_of_text = http_recognizers(&config).transpose()?;
    let model = match &server_of_text {
        Some(_) => PathBuf::from(&config.asr.url),
        None => asr::model::find(&config.asr.model, &config.models_folder())?,
    };
    if config.recording.enabled {
        let path = config.recordings_folder();
        std::fs::create_dir_all(&path).map_err(|source| ServeError::Recordings { path, source })?;
    }
    let socket = config.control.socket.clone().unwrap_or_else(control::socket::default_path);
    let server_config = ServerConfig { grace: Duration::from_secs(config.control.grace_s), ..ServerConfig::default() };
    let server = Server::bind(&socket, poll.registry(), CONTROL, server_config)?;
    let engine = start_engine(&config)?;
    let ears = match server_of_text {
        Some(recognizers) => Ears::start_with(ears_config(&config, model.clone()), Arc::new(recognizers), wake(waker))?,
        None => Ears::start(ears_config(&config, model.clone()), wake(waker))?,
    };
    let endpoint = Endpoint::start(endpoint_config(&config), wake(waker))?;
    Ok(Switchboard::new(config, model, engine, endpoint, ears, server)?)
}

fn start_engine(config: &Config) -> Result<Engine, EngineError> {
    let engine_config = engine_config(config);
    match Engine::start(engine_config.clone()) {
        // "auto" means: if there is a server
        Err(EngineError::Jack(reason)) if config.jack.mode == JackMode::Auto => {
            log::info!("direct audio: {reason}");
            Engine::start(EngineConfig { jack: None, ..engine_config })
        }
        other => other,
    }
}

impl Switchboard {
    /// Takes what every room has to tell, a bounded amount of each, and moves everything along.
    fn turn(&mut self, now: Instant) {
        for _ in 0..BATCH {
            let Some(input) = self.server.next_input(now) else { break };
            self.on_input(input);
        }
        // media before signaling: what a call has played is told before its end
        for _ in 0..BATCH {
            let Some((call, event)) = self.engine.poll_event() else { break };
            self.on_media(call.0, event);
        }
        while let Some(event) = self.engine.poll_jack_event() {
            self.on_jack(event);
        }
        for _ in 0..BATCH {
            let Some(event) = self.endpoint.try_recv() else { break };
            self.on_signaling(event);
        }
        for _ in 0..BATCH {
            let Some(event) = self.ears.try_recv() else { break };
            self.on_ears(event);
        }
        // while events are written to hundreds of subscribers, one turn follows the other: not each need look at all calls
        if !self.server.is_writing() || now.duration_since(self.pumped) >= PUMPED_WITHIN {
            self.pumped = now;
            self.pump(now);
        }
        self.server.handle_timeout(now);
    }

    /// How long the thread may sleep.
    fn timeout(&self, now: Instant) -> Duration {
        let busy = self.shutting_down || self.calls.values().any(|call| matches!(call.media, call::Media::Up(_)));
        let tick = if busy { TICK } else { IDLE_TICK };
        let server = self.server.poll_timeout(now).map(|at| at.saturating_duration_since(now));
        server.map_or(tick, |wait| wait.min(tick))
    }

    fn hang_up_all(&mut self) {
        let live: Vec<u32> = self.calls.values().filter(|call| !call.is_over()).map(|call| call.id.0).collect();
        for number in live {
            self.command(signaling::net::Command::Hangup(signaling::CallId(number)));
        }
    }

    /// No call is up and all last words are told.
    fn is_quiet(&self) -> bool {
        self.dials.is_empty() && self.calls.values().all(|call| call.is_over() && !call.heard)
    }
}
