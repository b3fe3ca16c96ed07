//! The switchboard: where signaling, engine, ears and clients meet.
//!
//! One thread owns it. Everything comes in by the rooms' bounded queues and goes out by them; nothing here touches a
//! sample on its way in real time, and nothing here waits. The methods are spread over the files that feed it:
//! [`super::requests`] (clients), [`super::sip`] (signaling), [`super::media`] (engine and ears).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use asr::{Ears, StreamId};
use control::types::{Account, AccountState, CallId, CallState, Event, JackState};
use control::{ClientId, RequestId, Server};
use engine::{CallSetup, Codec, Engine, MediaParams, ReservedPort};
use signaling::net::{Command, Endpoint, local_ip_towards};
use signaling::sdp::{AudioCodec, LocalMedia, MediaPlan};

use super::call::{CallRecord, Media, MediaUp};
use super::speech::Finished;
use super::subscriptions::Subscription;
use crate::config::{CodecName, Config};

/// Ended calls that `call.get` still knows.
const REMEMBERED: usize = 200;
/// Where nothing is sent: the address whose route tells our own address on the way out (RFC 5737).
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9);

/// A call that was handed to signaling and has no number yet.
#[derive(Debug)]
pub(super) struct PendingDial {
    pub(super) client: ClientId,
    pub(super) request: RequestId,
    pub(super) record: CallRecord,
    pub(super) ring_limit: Duration,
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
    pub(super) jack: JackState,
    pub(super) began: Instant,
    pub(super) shutting_down: bool,
}

impl Switchboard {
    pub(super) fn new(
        config: Config,
        model: PathBuf,
        engine: Engine,
        endpoint: Endpoint,
        ears: Ears,
        server: Server,
    ) -> Self {
        let accounts = config
            .accounts
            .iter()
            .map(|account| {
                let state = AccountState::Unregistered;
                let known =
                    Account { account: account.name.clone(), state, reason: None, expires_s: None, retry_s: None };
                (account.name.clone(), known)
            })
            .collect();
        Self {
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
            jack: JackState::Off,
            began: Instant::now(),
            shutting_down: false,
        }
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

    /// Binds a port and says what we can, for a call to or from `peer`.
    pub(super) fn local_media(
        &self,
        peer: Option<SocketAddr>,
    ) -> Result<(ReservedPort, LocalMedia), engine::EngineError> {
        let port = self.engine.reserve_port()?;
        let ip = match (self.config.sip.public_address, self.config.media.bind_ip) {
            (Some(ip), _) => ip,
            (None, ip) if !ip.is_unspecified() => ip,
            // media goes where signaling goes
            _ if !self.endpoint.local_addr().ip().is_unspecified() => self.endpoint.local_addr().ip(),
            _ => local_ip_towards(peer.unwrap_or(ELSEWHERE)),
        };
        let local = LocalMedia {
            codecs: self
                .config
                .media
                .codecs
                .iter()
                .filter_map(|codec| match codec {
                    CodecName::Pcmu => Some(AudioCodec::Pcmu),
                    CodecName::Pcma => Some(AudioCodec::Pcma),
                    CodecName::Opus | CodecName::G722 => None,
                })
                .collect(),
            ..LocalMedia::new(SocketAddr::new(ip, port.port()))
        };
        Ok((port, local))
    }

    /// Lets packets flow as agreed; a call whose media is up is changed.
    pub(super) fn apply_plan(&mut self, number: u32, plan: &MediaPlan) -> Result<(), engine::EngineError> {
        let path = self.recording_path(number);
        let record_all = self.config.recording.enabled;
        let Some(call) = self.calls.get_mut(&number) else { return Ok(()) };
        let mut params = media_params(plan);
        // an IPv6 address offered over IPv4 (linphone does that) cannot be sent to; where the INVITE came from can be
        if let Some(source) = call.source.filter(|source| source.is_ipv4() != params.remote.is_ipv4()) {
            params.remote.set_ip(source.ip());
        }
        call.codec = Some(plan.codec.name());
        match std::mem::replace(&mut call.media, Media::None) {
            Media::Up(mut up) => {
                let changed = up.handle.update(params);
                call.media = Media::Up(up);
                changed
            }
            Media::Offered(port, local) => {
                let recording = call.record.unwrap_or(record_all).then_some(path);
                // a folder that cannot be made is told by the recorder, as any other failure of the disk
                if let Some(folder) = recording.as_deref().and_then(std::path::Path::parent) {
                    let _ = std::fs::create_dir_all(folder);
                }
                let setup = CallSetup {
                    id: engine::CallId(number),
                    label: call.id.to_string(),
                    port,
                    media: params,
                    record_to: recording.clone(),
                };
                let handle = self.engine.add_call(setup)?;
                call.recording = recording;
                call.media = Media::Up(Box::new(MediaUp { handle, local, since: Instant::now(), lost_since: None }));
                Ok(())
            }
            other => {
                call.media = other;
                Ok(())
            }
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
        match self.ears.add(StreamId(number), tap.samples, tap.lost) {
            Ok(()) => call.heard = true,
            Err(error) => {
                let text = format!("c{number}: the caller is not heard: {error}");
                log::error!("{text}");
                self.notify(&Event::DaemonWarning { text });
            }
        }
    }

    fn recording_path(&self, number: u32) -> PathBuf {
        let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        // the process's number keeps two daemons apart that share a folder
        self.config.recordings_folder().join(format!("{now}-{}-c{number}.wav", std::process::id()))
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
            call.last_progress = None;
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

fn media_params(plan: &MediaPlan) -> MediaParams {
    MediaParams {
        remote: plan.remote,
        codec: match plan.codec {
            AudioCodec::Pcma => Codec::Pcma,
            // the only other one that we offer
            _ => Codec::Pcmu,
        },
        payload_type: plan.payload_type,
        telephone_event: plan.telephone_event.map(|digits| digits.payload_type),
        send: plan.send,
        receive: plan.receive,
    }
}
