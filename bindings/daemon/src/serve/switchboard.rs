//! The switchboard: where signaling, engine, ears and clients meet.
//!
//! One thread owns it. Everything comes in by the rooms' bounded queues and goes out by them; nothing here touches a
//! sample on its way in real time, and nothing here waits. The methods are spread over the files that feed it:
//! [`super::requests`] (clients), [`super::sip`] (signaling), [`super::transfers`] (both, of calls that change),
//! [`super::offers`] (what media is agreed on), [`super::media`] (engine and ears).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use asr::{Ears, StreamId};
use control::types::{Account, AccountState, CallId, CallState, Event, JackState};
use control::{ClientId, RequestId, Server};
use engine::Engine;
use signaling::SignalingError;
use signaling::net::{Command, Endpoint};

use super::bans::Bans;
use super::bridges::Bridges;
use super::call::CallRecord;
use super::dialing::DialRules;
use super::seldom::Seldom;
use super::speech::Finished;
use super::subscriptions::Subscription;
use super::traces::PendingTrace;
use crate::config::Config;

/// Ended calls that `call.get` still knows.
const REMEMBERED: usize = 200;

/// A call that was handed to signaling and has no number yet.
#[derive(Debug)]
pub(super) struct PendingDial {
    pub(super) client: ClientId,
    pub(super) request: RequestId,
    pub(super) record: CallRecord,
    pub(super) ring_limit: Duration,
}

/// A call that signaling was told to make because a far end wanted it, and that has no number yet.
#[derive(Debug)]
pub(super) struct PendingTransfer {
    pub(super) client: ClientId,
    pub(super) record: CallRecord,
}

/// What a client's channel carries.
#[derive(Debug)]
pub(super) enum Channel {
    /// The agent's voice, to this call.
    Voice(u32),
    /// The caller's voice, to the client.
    Ears(Box<Subscription>),
}

impl Channel {
    /// Whether it belongs to this call.
    pub(super) fn is_of(&self, number: u32) -> bool {
        match self {
            Self::Voice(call) => *call == number,
            Self::Ears(subscription) => subscription.call == number,
        }
    }
}

/// The daemon's whole state.
#[derive(Debug)]
pub(super) struct Switchboard {
    pub(super) config: Config,
    pub(super) model: PathBuf,
    pub(super) engine: Engine,
    pub(super) endpoint: Endpoint,
    pub(super) ears: Ears,
    pub(super) server: Server,
    pub(super) calls: BTreeMap<u32, CallRecord>,
    pub(super) remembered: VecDeque<u32>,
    pub(super) dials: HashMap<u64, PendingDial>,
    pub(super) last_tag: u64,
    pub(super) channels: HashMap<(ClientId, u16), Channel>,
    pub(super) accounts: BTreeMap<String, Account>,
    /// Our address as each account's registrar sees it, where a NAT is in between.
    pub(super) seen_as: HashMap<String, SocketAddr>,
    /// Our address as a STUN server sees it.
    pub(super) public_address: Option<std::net::IpAddr>,
    pub(super) rules: DialRules,
    pub(super) bans: Bans,
    pub(super) bridges: Bridges,
    /// Callers that were refused because there was no port for their audio.
    pub(super) without_media: Seldom,
    /// Callers that were refused because the recogniser is behind.
    pub(super) without_ears: Seldom,
    /// Words that were lost because the recogniser failed.
    pub(super) recognizer_failures: Seldom,
    /// Traces that signaling was asked for, by tag.
    pub(super) traces: HashMap<u64, PendingTrace>,
    /// By the number of the call whose far end wanted it.
    pub(super) transfers: HashMap<u32, PendingTransfer>,
    pub(super) jack: JackState,
    pub(super) began: Instant,
    pub(super) shutting_down: bool,
    /// When the calls were looked at last.
    pub(super) pumped: Instant,
}

impl Switchboard {
    pub(super) fn new(
        config: Config,
        model: PathBuf,
        engine: Engine,
        endpoint: Endpoint,
        ears: Ears,
        server: Server,
    ) -> Result<Self, SignalingError> {
        let accounts = config
            .accounts
            .iter()
            .map(|account| {
                let state = AccountState::Unregistered;
                (account.name.clone(), Account::new(&account.name, state))
            })
            .collect();
        let began = Instant::now();
        let rules = DialRules::new(&config)?;
        Ok(Self {
            config,
            model,
            engine,
            endpoint,
            ears,
            server,
            calls: BTreeMap::new(),
            remembered: VecDeque::new(),
            dials: HashMap::new(),
            last_tag: 0,
            channels: HashMap::new(),
            accounts,
            seen_as: HashMap::new(),
            public_address: None,
            rules,
            bans: Bans::default(),
            bridges: Bridges::default(),
            without_media: Seldom::default(),
            without_ears: Seldom::default(),
            recognizer_failures: Seldom::default(),
            traces: HashMap::new(),
            transfers: HashMap::new(),
            jack: JackState::Off,
            began,
            shutting_down: false,
            pumped: Instant::now(),
        })
    }

    /// Calls that have not ended.
    pub(super) fn live_calls(&self) -> usize {
        self.calls.values().filter(|call| !call.is_over()).count() + self.dials.len()
    }

    /// Tells an event with the call's own time.
    pub(super) fn notify(&mut self, event: &Event) {
        let time = event.call().and_then(|call| self.calls.get(&call.0)).and_then(CallRecord::media_time);
        self.server.notify(event, time.map(|time| time.as_millis() as u64));
    }

    /// Changes a call's state and tells it.
    pub(super) fn set_state(&mut self, number: u32, state: CallState) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.state = state;
        let event = call.state_event();
        log::info!("{}: {state}", call.id);
        self.notify(&event);
    }

    /// Hands a command to signaling. Its queue is far longer than the calls there can be; when it is full the daemon is
    /// in trouble, and says so.
    pub(super) fn command(&mut self, command: Command) {
        if let Err(error) = self.endpoint.command(command) {
            log::error!("{error}");
            self.server.notify(&Event::DaemonWarning { text: error.to_string() }, None);
        }
    }

    /// Lets the ears listen to a call whose media is up.
    pub(super) fn attach_ears(&mut self, number: u32) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Some(mut tap) = call.up().and_then(|up| up.handle.take_ears()) else { return };
        // what came before the answer (early media) was not the caller speaking to us; the ears' clock counts it
        let early = tap.samples.slots();
        if let Ok(chunk) = tap.samples.read_chunk(early) {
            chunk.commit_all();
            tap.lost.fetch_add(early as u64, std::sync::atomic::Ordering::AcqRel);
        }
        let added = self.ears.add(StreamId(number), tap.samples, tap.lost);
        let settings = self.settings_of(number);
        let set = added.and_then(|()| self.ears.set(StreamId(number), settings));
        match set {
            Ok(()) => {
                if let Some(call) = self.calls.get_mut(&number) {
                    call.heard = true;
                }
            }
            Err(error) => {
                let text = format!("c{number}: the caller is not heard: {error}");
                log::error!("{text}");
                self.notify(&Event::DaemonWarning { text });
            }
        }
    }

    /// Tells that a response is over, and writes it into the transcript.
    pub(super) fn response_over(&mut self, number: u32, finished: Finished) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let played = Duration::from_millis(finished.played * 1000 / super::speech::RATE);
        // what never played leaves the one that plays alone
        if finished.played > 0 {
            if let Some(began) = call.response_began.take() {
                call.add_line(control::types::Speaker::Agent, finished.text, began, began + played, None);
            }
            call.next_progress = None;
        }
        if let Some(owner) = call.owner {
            self.channels.remove(&(owner, finished.channel));
            self.server.close_channel(owner, finished.channel);
        }
        self.notify(&Event::ResponseFinished {
            call: CallId(number),
            response: finished.response,
            generation: finished.generation,
            played_ms: played.as_millis() as u64,
            interrupted: finished.interrupted,
        });
    }

    /// Ends a call for a reason of our own; its `call.state` will carry this cause.
    pub(super) fn hang_up_for(&mut self, number: u32, cause: control::types::Cause, reason: &str) {
        if let Some(call) = self.calls.get_mut(&number)
            && !call.is_over()
            && call.hung_up_for.is_none()
        {
            call.hung_up_for = Some((cause, reason.to_owned()));
            self.command(Command::Hangup(signaling::CallId(number)));
        }
    }

    /// A call is over and its last words are known: tells all of it, and forgets who owned it.
    pub(super) fn summarise(&mut self, number: u32) {
        let Some(call) = self.calls.get(&number) else { return };
        let summary = call.describe(true);
        self.server.notify(&Event::CallSummary(Box::new(summary)), None);
        self.server.set_owner(CallId(number), None);
        self.remembered.push_back(number);
        while self.remembered.len() > REMEMBERED {
            if let Some(oldest) = self.remembered.pop_front() {
                self.calls.remove(&oldest);
            }
        }
    }
}
