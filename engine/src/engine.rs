//! The engine as the daemon sees it: ports, calls, events, figures.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rtrb::Producer;

use crate::bridge::{Board, Link};
use crate::call::{CallCommand, CallControls, MAX_TAPS, MediaCall, MediaCallConfig, MediaParams};
use crate::clean::{CleanConfig, Cleaner};
use crate::clock::Time;
use crate::detect::{DetectConfig, Detectors};
use crate::dtmf::{DigitTiming, QUEUE_DIGITS, QueuedDigit};
use crate::effects::{Direction, EffectChain};
use crate::error::EngineError;
use crate::event::{CallId, MediaEvent};
use crate::jack::{JackBridge, JackConfig, JackEvent, JackState};
use crate::media_thread::{MediaThread, Retired, RunningCall, ThreadConfig};
use crate::net::NetIo;
use crate::play::{Feeder, FeederJobs, MAX_PLAYERS, PlayId, PlayOptions, Player, Tone, WavSource};
use crate::ports::{PortPool, ReservedPort};
use crate::realtime::{self, Grant, Report};
use crate::record::Recorder;
use crate::stats::{CallStats, Counters, EngineStats, LatenessHistogram, ThreadStats};
use crate::tap::{EarTap, tap};
use crate::voice::Voice;

/// How the engine is to run.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The address that RTP is received on.
    pub bind_ip: IpAddr,
    /// Ports for RTP (even) and RTCP (odd, one above).
    pub rtp_ports: RangeInclusive<u16>,
    /// The cores that media threads are pinned to, one thread each. Empty: one thread, on a core that the engine chooses,
    /// or on none if there is only one.
    pub cores: Vec<usize>,
    /// The `SCHED_FIFO` priority to ask for; `None`: do not ask. Below jackd's (usually 10 for its own threads, 5 for
    /// clients, times the distribution's settings) it makes no difference which runs first, as the rings ride it out.
    pub realtime_priority: Option<u8>,
    /// Whether to keep the process's memory from being paged out.
    pub lock_memory: bool,
    /// How media threads read and write their sockets.
    pub net_io: NetIo,
    /// Most calls at once.
    pub max_calls: usize,
    /// Silence on the wire after which a call's media counts as lost.
    pub media_lost_after: Duration,
    /// How to use JACK; `None`: the agent's voice goes to the wire directly.
    pub jack: Option<JackConfig>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            bind_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            rtp_ports: 20_000..=29_999,
            cores: Vec::new(),
            realtime_priority: Some(60),
            lock_memory: true,
            net_io: NetIo::Auto,
            max_calls: 1_000,
            media_lost_after: Duration::from_secs(10),
            jack: None,
        }
    }
}

/// What a call needs to begin.
#[derive(Debug)]
pub struct CallSetup {
    /// The call's number.
    pub id: CallId,
    /// Its name, for JACK ports: `c17`.
    pub label: String,
    /// The far end's address or number, for aliases of JACK ports; empty: they have none.
    pub far_end: String,
    /// Its sockets.
    pub port: ReservedPort,
    /// What was agreed with the far end.
    pub media: MediaParams,
    /// The WAV file to record to, if it is to be recorded.
    pub record_to: Option<PathBuf>,
}

/// The engine. Dropping it ends all calls.
#[derive(Debug)]
pub struct Engine {
    threads: Vec<MediaThread>,
    board: Board,
    next_thread_polled: usize,
    ports: PortPool,
    report: Report,
    max_calls: usize,
    media_lost_after: Duration,
    phase: u8,
    // after the threads: their calls hold recordings and ports that these serve
    recorder: Recorder,
    recorder_events: Receiver<(CallId, MediaEvent)>,
    jack: Option<JackBridge>,
    feeder: Feeder,
    random: RandomState,
    calls_added: u64,
}

impl Engine {
    /// Starts the media threads and the recorder, and the JACK client if one is configured.
    ///
    /// # Errors
    /// A configuration that contradicts itself, a JACK server that is required and not there, and a system without
    /// threads or descriptors. What the system refuses of real-time scheduling is in [`report`](Self::report) instead.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        if config.max_calls == 0 {
            return Err(EngineError::Config("the largest number of calls is 0".to_owned()));
        }
        let ports = PortPool::new(config.bind_ip, config.rtp_ports)?;
        let jack = match config.jack {
            Some(jack) => Some(JackBridge::start(jack).map_err(|e| EngineError::Jack(e.to_string()))?),
            None => None,
        };
        let (recorder, recorder_events) = Recorder::start().map_err(EngineError::Thread)?;
        let feeder = Feeder::start().map_err(EngineError::Thread)?;
        let memory_locked = realtime::lock_memory(config.lock_memory);
        let cores = if config.cores.is_empty() { realtime::choose_cores() } else { config.cores };
        let cores: Vec<Option<usize>> =
            if cores.is_empty() { vec![None] } else { cores.into_iter().map(Some).collect() };
        let threads = cores
            .iter()
            .enumerate()
            .map(|(index, &core)| {
                let (max_calls, priority, net_io) = (config.max_calls, config.realtime_priority, config.net_io);
                MediaThread::start(index, &ThreadConfig { max_calls, core, priority, net_io })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(EngineError::Thread)?;
        let first_refused = |grant: fn(&MediaThread) -> &Grant| {
            let refused = threads.iter().map(grant).find(|g| !g.is_granted());
            refused.or_else(|| threads.first().map(grant)).cloned()
        };
        let report = Report {
            pinned: first_refused(|t| &t.pinned).unwrap_or_else(|| Grant::NotAsked("no thread".to_owned())),
            realtime: first_refused(|t| &t.realtime).unwrap_or_else(|| Grant::NotAsked("no thread".to_owned())),
            memory_locked,
            net_io: first_refused(|t| &t.net_io).unwrap_or_else(|| Grant::NotAsked("no thread".to_owned())),
            media_threads: threads.len(),
        };
        log::info!(
            "media threads: {}; own core: {}; real-time: {}; memory locked: {}; packets in batches: {}",
            report.media_threads,
            report.pinned,
            report.realtime,
            report.memory_locked,
            report.net_io
        );
        Ok(Self {
            threads,
            board: Board::default(),
            next_thread_polled: 0,
            ports,
            report,
            max_calls: config.max_calls,
            media_lost_after: config.media_lost_after,
            phase: 0,
            recorder,
            recorder_events,
            jack,
            feeder,
            random: RandomState::new(),
            calls_added: 0,
        })
    }

    /// What the system granted the media threads.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// Binds a port pair for a call that is being set up. Dropping it gives the ports back.
    ///
    /// # Errors
    /// See [`EngineError::NoPort`], [`EngineError::Bind`] and [`EngineError::Descriptors`].
    pub fn reserve_port(&self) -> Result<ReservedPort, EngineError> {
        self.ports.reserve()
    }

    /// Starts a call's media. From here on it sends (silence, until the voice says something) and listens.
    ///
    /// # Errors
    /// [`EngineError::Full`] at the configured number of calls, [`EngineError::Busy`] if the media thread is behind.
    pub fn add_call(&mut self, setup: CallSetup) -> Result<CallHandle, EngineError> {
        self.drop_retired();
        let calls = |t: &MediaThread| {
            t.figures.calls.load(Ordering::Relaxed) + t.new_calls.buffer().capacity() - t.new_calls.slots()
        };
        if self.threads.iter().map(calls).sum::<usize>() >= self.max_calls {
            return Err(EngineError::Full { max: self.max_calls });
        }
        let threads = self.threads.iter_mut().enumerate().filter(|(_, t)| !t.is_gone());
        let Some((index, thread)) = threads.min_by_key(|(_, t)| calls(t)) else {
            return Err(EngineError::Ended);
        };
        if thread.new_calls.is_full() {
            return Err(EngineError::Busy);
        }
        let CallSetup { id, label, far_end, port, media: params, record_to } = setup;
        let jack = self.jack.as_ref().and_then(|bridge| match bridge.add_call_with(&label, &far_end) {
            Ok(call) => Some(call),
            Err(error) => {
                log::warn!("{id}: no JACK ports: {error}");
                None
            }
        });
        self.phase = self.phase.wrapping_add(1);
        self.calls_added += 1;
        let (media, controls) = MediaCall::new(MediaCallConfig {
            id,
            params: params.clone(),
            media_lost_after: self.media_lost_after,
            start: Time::now(),
            start_instant: Instant::now(),
            seed: self.random.hash_one(self.calls_added),
            phase: self.phase,
            jack,
            record: record_to.map(|path| self.recorder.record(id, path)),
        });
        let CallControls { voice, commands, counters, ears } = controls;
        thread.new_calls.push(Box::new(RunningCall { media, port })).map_err(|_| EngineError::Busy)?;
        self.board.add(id, index);
        Ok(CallHandle {
            id,
            voice,
            commands,
            counters,
            ears: Some(ears),
            params,
            clean: CleanConfig::OFF,
            subscribers: Vec::new(),
            feeder: self.feeder.jobs(),
            players: Vec::new(),
            last_play: 0,
        })
    }

    /// Lets one call hear another, from the next tick on; for a link that there is, sets its gain. Links end with
    /// either call.
    ///
    /// # Errors
    /// [`EngineError::Ended`] if either call is unknown, [`EngineError::BridgedToItself`], [`EngineError::BridgedApart`],
    /// [`EngineError::TooManyLinks`], [`EngineError::Busy`].
    pub fn link(&mut self, link: Link) -> Result<(), EngineError> {
        self.drop_retired();
        self.board.link(&mut self.threads, link)
    }

    /// Ends a link, whatever its gain. Nothing happens if there is none.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if the media thread is behind.
    pub fn unlink(&mut self, link: Link) -> Result<(), EngineError> {
        self.drop_retired();
        self.board.unlink(&mut self.threads, link)
    }

    /// Records a call from now on into this file, which must not be there yet; a recording that runs ends. How it goes is
    /// told by [`MediaEvent::Recording`].
    ///
    /// # Errors
    /// [`EngineError::Busy`] if the media thread is behind, [`EngineError::Ended`] if it is gone: nothing is recorded.
    pub fn record(&self, call: &mut CallHandle, path: PathBuf) -> Result<(), EngineError> {
        call.check_command()?;
        call.command(CallCommand::Record(Some(self.recorder.record(call.id, path))))
    }

    /// The next thing that a call's media has to say. To be drained every 10 ms or so; that is also when what the media
    /// threads are done with is dropped.
    pub fn poll_event(&mut self) -> Option<(CallId, MediaEvent)> {
        self.drop_retired();
        for _ in 0..self.threads.len() {
            self.next_thread_polled = (self.next_thread_polled + 1) % self.threads.len();
            if let Ok(event) = self.threads[self.next_thread_polled].events.pop() {
                return Some(event);
            }
        }
        self.recorder_events.try_recv().ok()
    }

    /// The next thing that JACK has to say.
    pub fn poll_jack_event(&mut self) -> Option<JackEvent> {
        self.jack.as_mut().and_then(JackBridge::poll_event)
    }

    /// What JACK is doing.
    #[must_use]
    pub fn jack_state(&self) -> JackState {
        self.jack.as_ref().map_or(JackState::Off, JackBridge::state)
    }

    /// The engine's figures.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let figures = || self.threads.iter().map(|t| &t.figures);
        let worst =
            |f: &dyn Fn(&LatenessHistogram) -> Duration| figures().map(|t| f(&t.lateness)).max().unwrap_or_default();
        EngineStats {
            ticks: figures().map(|t| t.lateness.count()).sum(),
            tick_lateness_p50: worst(&|l| l.quantile(0.5)),
            tick_lateness_p99: worst(&|l| l.quantile(0.99)),
            tick_lateness_max: worst(&LatenessHistogram::max),
            overruns: figures().map(|t| t.overruns.get()).sum(),
            late_ticks: figures().map(|t| t.late_ticks.get()).sum(),
            skipped_ticks: figures().map(|t| t.skipped_ticks.get()).sum(),
            busy: Duration::from_nanos(figures().map(|t| t.busy_ns.get()).sum()),
            calls: figures().map(|t| t.calls.load(Ordering::Relaxed)).sum(),
            deferred_drains: figures().map(|t| t.deferred_drains.get()).sum(),
            lost_events: figures().map(|t| t.lost_events.get()).sum(),
            allocation_violations: realtime::violations(),
        }
    }

    /// The figures of each media thread, in the order of their numbers.
    #[must_use]
    pub fn thread_stats(&self) -> Vec<ThreadStats> {
        self.threads.iter().map(|thread| thread.figures.snapshot()).collect()
    }

    fn drop_retired(&mut self) {
        for index in 0..self.threads.len() {
            while let Ok(retired) = self.threads[index].retired.pop() {
                let ended = match retired {
                    Retired::Call(call) => Some(call),
                    Retired::Given(call) => self.board.given(&mut self.threads, call),
                    Retired::Part(part) => {
                        drop(part);
                        None
                    }
                };
                if let Some(call) = ended {
                    self.board.remove(call.media.id());
                }
            }
        }
    }
}

/// What is left to say of a call's media when it is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallSummary {
    /// The last figures.
    pub stats: CallStats,
    /// Samples of the agent's voice that were sent in its last turn.
    pub played_turn: u64,
}

/// A call's media in the hands of the daemon. `Send`. Dropping it ends the media.
#[derive(Debug)]
pub struct CallHandle {
    id: CallId,
    voice: Voice,
    commands: Producer<CallCommand>,
    counters: Arc<Counters>,
    ears: Option<EarTap>,
    params: MediaParams,
    clean: CleanConfig,
    /// The loss counters of subscribers' taps, which live as long as the taps do.
    subscribers: Vec<Weak<AtomicU64>>,
    feeder: Option<FeederJobs>,
    /// What lives as long as players do.
    players: Vec<Weak<()>>,
    last_play: u64,
}

impl CallHandle {
    /// The call's number.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.id
    }

    /// The agent's voice.
    pub fn voice(&mut self) -> &mut Voice {
        &mut self.voice
    }

    /// What the caller says, for speech recognition; once.
    pub fn take_ears(&mut self) -> Option<EarTap> {
        self.ears.take()
    }

    /// What the caller says from now on, for one more listener. Dropping the tap ends it.
    ///
    /// # Errors
    /// [`EngineError::TooManySubscribers`]; [`EngineError::Busy`] if the media thread is behind.
    pub fn subscribe(&mut self) -> Result<EarTap, EngineError> {
        self.subscribers.retain(|lost| lost.strong_count() > 0);
        let max = MAX_TAPS - 1; // one is for the ears
        if self.subscribers.len() >= max {
            return Err(EngineError::TooManySubscribers { max });
        }
        let (source, ears) = tap();
        self.command(CallCommand::Tap(source))?;
        self.subscribers.push(Arc::downgrade(&ears.lost));
        Ok(ears)
    }

    /// Other parameters: a re-INVITE, a hold and its end.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if the media thread is behind, [`EngineError::Ended`] if it is gone.
    pub fn update(&mut self, params: MediaParams) -> Result<(), EngineError> {
        self.command(CallCommand::update(params.clone()))?;
        self.params = params;
        Ok(())
    }

    /// What was agreed last.
    #[must_use]
    pub fn params(&self) -> &MediaParams {
        &self.params
    }

    /// Queues telephone keys: all of them, or none.
    ///
    /// # Errors
    /// [`EngineError::NoTelephoneEvents`] without an agreed payload type, [`EngineError::BadDigit`],
    /// [`EngineError::TooManyDigits`], [`EngineError::Busy`].
    pub fn send_digits(&mut self, digits: &str, timing: DigitTiming) -> Result<(), EngineError> {
        if self.params.telephone_event.is_none() {
            return Err(EngineError::NoTelephoneEvents);
        }
        self.queue_digits(digits, |key| QueuedDigit::new(key, timing))
    }

    /// Queues telephone keys to be sent as their tones, for far ends that know nothing else: all of them, or none.
    ///
    /// # Errors
    /// [`EngineError::BadDigit`], [`EngineError::TooManyDigits`], [`EngineError::Busy`].
    pub fn send_tones(&mut self, digits: &str, timing: DigitTiming) -> Result<(), EngineError> {
        self.queue_digits(digits, |key| QueuedDigit::new(key, timing).map(QueuedDigit::in_band))
    }

    /// What is listened for in the sound from now on. Asked anew as the call is answered, and whenever else it changes; what
    /// goes on goes on where it was.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if the media thread is behind, [`EngineError::Ended`] if it is gone.
    pub fn detect(&mut self, config: &DetectConfig) -> Result<(), EngineError> {
        let detectors = (!config.is_off()).then(|| Box::new(Detectors::new(config)));
        self.command(CallCommand::Detect(detectors))
    }

    fn queue_digits(
        &mut self,
        digits: &str,
        queued: impl Fn(char) -> Result<QueuedDigit, EngineError>,
    ) -> Result<(), EngineError> {
        let queued = digits.chars().map(queued).collect::<Result<Vec<_>, _>>()?;
        if queued.len() > QUEUE_DIGITS {
            return Err(EngineError::TooManyDigits { max: QUEUE_DIGITS });
        }
        if self.commands.slots() < queued.len() {
            return Err(EngineError::Busy);
        }
        queued.into_iter().try_for_each(|digit| self.command(CallCommand::Digit(digit)))
    }

    /// Pauses the recording, or lets it go on. A pause leaves its time out of the file. Nothing happens without a recording.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if the media thread is behind, [`EngineError::Ended`] if it is gone.
    pub fn pause_recording(&mut self, paused: bool) -> Result<(), EngineError> {
        self.command(CallCommand::PauseRecording(paused))
    }

    /// Ends the recording, if there is one; [`MediaEvent::Recording`] tells when all of it is on disk.
    ///
    /// # Errors
    /// As [`pause_recording`](Self::pause_recording).
    pub fn stop_recording(&mut self) -> Result<(), EngineError> {
        self.command(CallCommand::Record(None))
    }

    /// Plays a WAV file of any rate. Reads its header now; the rest is read by another thread.
    ///
    /// # Errors
    /// [`EngineError::Play`] says what is wrong with the file; [`EngineError::TooManyPlayers`]; [`EngineError::Busy`].
    pub fn play_file(&mut self, path: &Path, options: PlayOptions) -> Result<PlayId, EngineError> {
        self.room_for_player()?;
        let source = WavSource::open(path)?;
        let feeder = self.feeder.clone().ok_or(EngineError::Ended)?;
        let (player, alive, filler) = Player::file(PlayId(self.last_play + 1), options, self.voice.flushes());
        let play = self.play(player, &alive)?;
        feeder.feed(source, filler);
        Ok(play)
    }

    /// Plays a tone.
    ///
    /// # Errors
    /// [`EngineError::TooManyPlayers`]; [`EngineError::Busy`] if the media thread is behind.
    pub fn play_tone(&mut self, tone: Tone, options: PlayOptions) -> Result<PlayId, EngineError> {
        self.room_for_player()?;
        let (player, alive) = Player::tone(PlayId(self.last_play + 1), tone, options, self.voice.flushes());
        self.play(player, &alive)
    }

    /// Fades a player out; [`MediaEvent::PlayFinished`] follows, unless it was over already.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if the media thread is behind, [`EngineError::Ended`] if it is gone.
    pub fn stop_play(&mut self, play: PlayId) -> Result<(), EngineError> {
        self.command(CallCommand::StopPlay(play))
    }

    fn room_for_player(&mut self) -> Result<(), EngineError> {
        self.players.retain(|player| player.strong_count() > 0);
        if self.players.len() >= MAX_PLAYERS {
            return Err(EngineError::TooManyPlayers { max: MAX_PLAYERS });
        }
        Ok(())
    }

    fn play(&mut self, player: Box<Player>, alive: &Arc<()>) -> Result<PlayId, EngineError> {
        self.command(CallCommand::Play(player))?;
        self.last_play += 1;
        self.players.push(Arc::downgrade(alive));
        Ok(PlayId(self.last_play))
    }

    /// How what the ears and the subscribers hear is cleaned from now on.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if the media thread is behind, [`EngineError::Ended`] if it is gone.
    pub fn clean(&mut self, config: CleanConfig) -> Result<(), EngineError> {
        if config == self.clean {
            return Ok(());
        }
        let cleaner = (!config.is_off()).then(|| Box::new(Cleaner::new(config)));
        self.command(CallCommand::Clean(cleaner))?;
        self.clean = config;
        Ok(())
    }

    /// How it is cleaned now.
    #[must_use]
    pub fn cleaning(&self) -> CleanConfig {
        self.clean
    }

    /// Effects on one of the voices, in place of those before; an empty chain ends them.
    ///
    /// # Errors
    /// [`EngineError::Busy`] if the media thread is behind, [`EngineError::Ended`] if it is gone.
    pub fn set_effects(&mut self, direction: Direction, chain: EffectChain) -> Result<(), EngineError> {
        let chain = (!chain.is_empty()).then(|| Box::new(chain));
        self.command(CallCommand::Effects(direction, chain))
    }

    /// The call's figures now.
    #[must_use]
    pub fn stats(&self) -> CallStats {
        self.counters.snapshot()
    }

    /// Ends the media and tells what there is to tell.
    #[must_use]
    pub fn close(self) -> CallSummary {
        CallSummary { stats: self.stats(), played_turn: self.voice.position().played_turn }
    }

    /// Whether the call takes a command now.
    fn check_command(&self) -> Result<(), EngineError> {
        if self.commands.is_abandoned() {
            return Err(EngineError::Ended);
        }
        if self.commands.is_full() { Err(EngineError::Busy) } else { Ok(()) }
    }

    fn command(&mut self, command: CallCommand) -> Result<(), EngineError> {
        self.check_command()?;
        self.commands.push(command).map_err(|_| EngineError::Busy)
    }
}
