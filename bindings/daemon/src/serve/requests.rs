//! What clients ask for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use control::types::{
    ApiError, CallDial, CallDtmf, CallId, CallListReply, CallReject, CallState, Cause, DigitsVia, Direction, Done,
    Encoding, ErrorCode, Event, MediaSubscribe, Method, Position, ResponseEnd, ResponseEndReply, ResponseStart,
    ResponseStartReply, Status, SubscribeReply,
};
use control::{ClientId, Input, RequestId};
use engine::{DigitTiming, EngineError};
use serde_json::{Map, Value, json};
use signaling::Dial;
use signaling::net::Command;

use super::call::{CallRecord, Media};
use super::speech::WINDOW_MS;
use super::subscriptions::Subscription;
use super::switchboard::{Channel, PendingDial, Switchboard};
use crate::config::DigitsWithoutEvents;

pub(super) type Outcome<T> = Result<T, ApiError>;

impl Switchboard {
    /// Everything a client can do.
    pub(super) fn on_input(&mut self, input: Input) {
        match input {
            Input::Connected { client, name } => log::info!("{client} is {name}"),
            Input::Request { client, id, method } => self.on_request(client, id, method),
            Input::Audio { client, channel, encoding, generation, samples, .. } => {
                self.on_audio(client, channel, encoding, generation, &samples);
            }
            Input::Gone { client } => self.on_gone(client),
            Input::Resumed { client } => log::info!("{client} is back"),
            Input::Expired { client, calls } => {
                if !calls.is_empty() {
                    log::info!("{client} did not come back; its calls end");
                }
                self.close_channels(client);
                for call in calls {
                    self.hang_up_for(call.0, Cause::ClientGone, "the client that owned the call went away");
                }
            }
            _ => {}
        }
    }

    fn on_request(&mut self, client: ClientId, id: RequestId, method: Method) {
        match method {
            // answered when signaling has given it a number
            Method::CallDial(request) => {
                if let Err((id, error)) = self.dial(client, id, request) {
                    self.server.respond::<Done>(&id, Err(error));
                }
            }
            Method::CallAnswer(request) => {
                let outcome = self.answer(client, request.call);
                self.server.respond(&id, outcome);
            }
            Method::CallReject(request) => {
                let outcome = self.reject(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::CallHangup(request) => {
                let outcome = self.hang_up(client, request.call, request.force);
                self.server.respond(&id, outcome);
            }
            Method::CallDtmf(request) => {
                let outcome = self.press(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::CallProgress(request) => {
                let outcome = self.progress(client, request.call);
                self.server.respond(&id, outcome);
            }
            Method::CallHold(request) => {
                let outcome = self.hold(client, request.call, request.force, true);
                self.server.respond(&id, outcome);
            }
            Method::CallResume(request) => {
                let outcome = self.hold(client, request.call, request.force, false);
                self.server.respond(&id, outcome);
            }
            Method::CallTransfer(request) => {
                let outcome = self.transfer(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::CallTransferAccept(request) => {
                let outcome = self.accept_transfer(client, request.call);
                self.server.respond(&id, outcome);
            }
            Method::CallTransferReject(request) => {
                let outcome = self.reject_transfer(client, request.call, request.status);
                self.server.respond(&id, outcome);
            }
            Method::CallBridge(request) => {
                let outcome = self.bridge(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::CallUnbridge(request) => {
                let outcome = self.unbridge(client, &request);
                self.server.respond(&id, outcome);
            }
            // answered when signaling has
            Method::CallTrace(request) => self.ask_trace(id, &request),
            Method::SipBans(_) => {
                let bans = self.list_bans();
                self.server.respond(&id, Ok(bans));
            }
            Method::SipUnban(request) => {
                let outcome = self.unban(request.address);
                self.server.respond(&id, outcome);
            }
            Method::CallList(_) => {
                let calls =
                    self.calls.values().filter(|call| !call.is_over()).map(|call| call.describe(false)).collect();
                self.server.respond(&id, Ok(CallListReply { calls }));
            }
            Method::CallGet(request) => {
                let call = self.calls.get(&request.call.0).map(|call| call.describe(true));
                self.server.respond(&id, call.ok_or_else(|| ApiError::no_such_call(request.call)));
            }
            Method::ResponseStart(request) => {
                let outcome = self.start_response(client, request);
                self.server.respond(&id, outcome);
            }
            Method::ResponseEnd(request) => {
                let outcome = self.end_response(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::AudioHalt(request) => {
                let outcome = self.stop_voice(client, request.call, true);
                self.server.respond(&id, outcome);
            }
            Method::AudioClear(request) => {
                let outcome = self.stop_voice(client, request.call, false);
                self.server.respond(&id, outcome);
            }
            Method::AudioResume(request) => {
                let outcome = self.voice(client, request.call).map(|call| {
                    if let Media::Up(up) = &mut call.media {
                        call.speech.resume(up.handle.voice());
                    }
                });
                let outcome = outcome.and_then(|()| self.position(client, request.call));
                self.server.respond(&id, outcome);
            }
            Method::AudioPosition(request) => {
                let outcome = self.position(client, request.call);
                self.server.respond(&id, outcome);
            }
            Method::MediaSubscribe(request) => {
                let outcome = self.subscribe(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::MediaUnsubscribe(request) => {
                let outcome = match self.channels.remove(&(client, request.channel)) {
                    Some(Channel::Ears(_)) => {
                        self.server.close_channel(client, request.channel);
                        Ok(Done {})
                    }
                    other => {
                        other.and_then(|voice| self.channels.insert((client, request.channel), voice));
                        Err(no_such_channel(request.channel))
                    }
                };
                self.server.respond(&id, outcome);
            }
            Method::RecordStart(request) => {
                let outcome = self.start_recording(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::RecordPause(request) => {
                let outcome = self.pause_recording(client, request.call, true);
                self.server.respond(&id, outcome);
            }
            Method::RecordResume(request) => {
                let outcome = self.pause_recording(client, request.call, false);
                self.server.respond(&id, outcome);
            }
            Method::RecordStop(request) => {
                let outcome = self.stop_recording(client, request.call);
                self.server.respond(&id, outcome);
            }
            Method::DaemonStatus(_) => {
                let status = self.status();
                self.server.respond(&id, Ok(status));
            }
            Method::DaemonShutdown(_) => {
                self.shutting_down = true;
                self.server.respond(&id, Ok(Done {}));
            }
            other => {
                self.server.respond::<Done>(&id, Err(ApiError::internal(format!("{} is not served", other.name()))))
            }
        }
    }

    fn dial(&mut self, client: ClientId, id: RequestId, request: CallDial) -> Result<(), (RequestId, ApiError)> {
        match self.offer_call(&request) {
            Ok((record, dial)) => {
                self.last_tag += 1;
                let tag = self.last_tag;
                if let Err(error) = self.endpoint.command(Command::Dial { tag, dial }) {
                    return Err((id, ApiError::new(ErrorCode::NoCapacity, error.to_string())));
                }
                let ring_limit = request
                    .timeout_ms
                    .map_or(Duration::from_secs(self.config.sip.ring_timeout_s), Duration::from_millis);
                self.dials.insert(tag, PendingDial { client, request: id, record, ring_limit });
                Ok(())
            }
            Err(error) => Err((id, error)),
        }
    }

    fn offer_call(&mut self, request: &CallDial) -> Outcome<(CallRecord, Dial)> {
        if self.shutting_down {
            return Err(ApiError::wrong_state("the daemon is shutting down"));
        }
        if self.live_calls() >= self.config.sip.max_calls {
            let text = format!("{} calls are up, which is sip.max_calls", self.config.sip.max_calls);
            return Err(ApiError::new(ErrorCode::NoCapacity, text));
        }
        let account = self.account_for(request)?.map(str::to_owned);
        let account = account.as_deref();
        let limit = self.may_call(&request.to, account)?;
        let first_hop = account
            .and_then(|name| self.config.account(name))
            .and_then(|account| literal_address(account.proxy.first().unwrap_or(&account.registrar)));
        let peer = first_hop.or_else(|| literal_address(request.to.rsplit('@').next()?));
        let (port, local) = self.local_media(peer, account).map_err(|error| no_media(&error))?;
        let from = self.own_address(account);
        let mut record = CallRecord::new(0, Direction::Out, from, request.to.clone());
        record.account = account.map(str::to_owned);
        record.metadata = request.metadata.clone();
        record.record = request.record;
        record.limit = limit;
        record.listening.asked = request.detect.unwrap_or_default();
        record.media = Media::Offered(port, local);
        let dial = Dial {
            account: record.account.clone(),
            to: request.to.clone(),
            sdp: record.next_offer(None).unwrap_or_default(),
            display_name: request.display_name.clone(),
            headers: request.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            privacy: request.privacy,
        };
        Ok((record, dial))
    }

    /// The account that was asked for; else the first, unless the destination names a host that is not its registrar:
    /// such a call goes straight there.
    fn account_for(&self, request: &CallDial) -> Outcome<Option<&str>> {
        let accounts = &self.config.accounts;
        if let Some(name) = &request.account {
            return match accounts.iter().find(|account| account.name == *name) {
                Some(account) => Ok(Some(&account.name)),
                None => {
                    let known: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
                    let text = format!("there is no account {name:?}; configured: {}", known.join(", "));
                    Err(ApiError::new(ErrorCode::NoSuchAccount, text))
                }
            };
        }
        let bare = |text: &str| text.split([':', ';', '>']).next().unwrap_or_default().to_ascii_lowercase();
        let host = request.to.rsplit_once('@').map(|(_, host)| bare(host));
        Ok(accounts
            .iter()
            .find(|account| host.as_ref().is_none_or(|host| *host == bare(&account.registrar)))
            .map(|account| account.name.as_str()))
    }

    fn answer(&mut self, client: ClientId, call: CallId) -> Outcome<Done> {
        self.server.check_owner(client, call)?;
        let record = self.calls.get(&call.0).ok_or_else(|| ApiError::no_such_call(call))?;
        if record.state != CallState::Incoming || record.answering {
            return Err(ApiError::wrong_state(format!("{call} is {}, not waiting for an answer", record.state)));
        }
        self.own(client, call);
        self.accept_incoming(call.0).map_err(|error| no_media(&error))?;
        Ok(Done {})
    }

    /// Makes a client the owner of a call.
    pub(super) fn own(&mut self, client: ClientId, call: CallId) {
        self.server.set_owner(call, Some(client));
        let name = self.server.name(client).map(str::to_owned);
        if let Some(record) = self.calls.get_mut(&call.0) {
            record.owner = Some(client);
            record.owner_name = name;
        }
    }

    fn reject(&mut self, client: ClientId, request: &CallReject) -> Outcome<Done> {
        self.server.check_owner(client, request.call)?;
        let record = self.calls.get(&request.call.0).ok_or_else(|| ApiError::no_such_call(request.call))?;
        if record.state != CallState::Incoming {
            return Err(ApiError::wrong_state(format!("{} is {}, not incoming", request.call, record.state)));
        }
        let call = signaling::CallId(request.call.0);
        // a 200 that is on its way cannot be taken back, only the call that it makes
        self.command(if record.answering {
            Command::Hangup(call)
        } else {
            Command::Reject { call, status: request.status }
        });
        Ok(Done {})
    }

    fn hang_up(&mut self, client: ClientId, call: CallId, force: bool) -> Outcome<Done> {
        if !force {
            self.server.check_owner(client, call)?;
        }
        match self.calls.get(&call.0) {
            None => Err(ApiError::no_such_call(call)),
            // it may have ended while the request was on its way
            Some(record) if record.is_over() => Ok(Done {}),
            Some(_) => {
                self.command(Command::Hangup(signaling::CallId(call.0)));
                Ok(Done {})
            }
        }
    }

    fn press(&mut self, client: ClientId, request: &CallDtmf) -> Outcome<Done> {
        if !request.force {
            self.server.check_owner(client, request.call)?;
        }
        let call = self.calls.get_mut(&request.call.0).ok_or_else(|| ApiError::no_such_call(request.call))?;
        let Media::Up(up) = &mut call.media else { return Err(no_audio(call)) };
        let timing = DigitTiming {
            duration: Duration::from_millis(request.duration_ms.into()),
            gap: Duration::from_millis(request.gap_ms.into()),
        };
        let digits = request.digits.to_ascii_uppercase();
        let otherwise = match self.config.media.digits_without_events {
            DigitsWithoutEvents::Info => DigitsVia::Info,
            DigitsWithoutEvents::Inband => DigitsVia::Inband,
        };
        let best = if call.takes_digits { DigitsVia::Rfc4733 } else { otherwise };
        let via = request.via.unwrap_or(best);
        if via == DigitsVia::Inband {
            return up.handle.send_tones(&digits, timing).map(|()| Done {}).map_err(|error| no_media(&error));
        }
        if via == DigitsVia::Info {
            return match call.info_digits.push(&digits, timing.duration, timing.gap) {
                true => Ok(Done {}),
                false => Err(ApiError::new(ErrorCode::NoCapacity, "too many digits wait already")),
            };
        }
        up.handle.send_digits(&digits, timing).map_err(|error| no_media(&error))?;
        Ok(Done {})
    }

    /// A call whose media is up and which is the client's or nobody's.
    pub(super) fn voice(&mut self, client: ClientId, call: CallId) -> Outcome<&mut CallRecord> {
        self.server.check_owner(client, call)?;
        let record = self.calls.get_mut(&call.0).ok_or_else(|| ApiError::no_such_call(call))?;
        match record.media {
            Media::Up(_) => Ok(record),
            _ => Err(no_audio(record)),
        }
    }

    fn start_response(&mut self, client: ClientId, request: ResponseStart) -> Outcome<ResponseStartReply> {
        self.voice(client, request.call)?;
        if self.server.owner(request.call).is_none() {
            // who speaks on a call nobody owns takes it
            self.own(client, request.call);
        }
        let channel = self
            .server
            .open_channel(client)
            .ok_or_else(|| ApiError::new(ErrorCode::NoCapacity, "all channels of this connection are in use"))?;
        let started = self.voice(client, request.call).and_then(|call| {
            call.speech
                .start(request.rate, channel, request.text)
                .map_err(|error| ApiError::invalid_params(format!("`rate`: {error}")))
        });
        match started {
            Ok((response, generation)) => {
                self.channels.insert((client, channel), Channel::Voice(request.call.0));
                Ok(ResponseStartReply { response, generation, channel, window_ms: WINDOW_MS })
            }
            Err(error) => {
                self.server.close_channel(client, channel);
                Err(error)
            }
        }
    }

    fn end_response(&mut self, client: ClientId, request: &ResponseEnd) -> Outcome<ResponseEndReply> {
        let call = self.voice(client, request.call)?;
        let Media::Up(up) = &mut call.media else { return Err(ApiError::no_such_call(request.call)) };
        let (_, queued_ms) = call.speech.end(request.response, up.handle.voice()).ok_or_else(|| {
            ApiError::new(ErrorCode::NoSuchResponse, format!("there is no response {} any more", request.response))
        })?;
        call.speech.pump(up.handle.voice());
        Ok(ResponseEndReply { queued_ms })
    }

    fn stop_voice(&mut self, client: ClientId, call: CallId, latch: bool) -> Outcome<Position> {
        self.voice(client, call)?;
        self.flush_voice(call.0, latch);
        self.position(client, call)
    }

    /// Stops the agent's voice and tells which responses will never play.
    pub(super) fn flush_voice(&mut self, number: u32, latch: bool) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Media::Up(up) = &mut call.media else { return };
        for finished in call.speech.flush(up.handle.voice(), latch) {
            self.response_over(number, finished);
        }
    }

    fn position(&mut self, client: ClientId, call: CallId) -> Outcome<Position> {
        let record = self.voice(client, call)?;
        let Media::Up(up) = &mut record.media else { return Err(ApiError::no_such_call(call)) };
        Ok(record.speech.position(up.handle.voice()))
    }

    fn subscribe(&mut self, client: ClientId, request: &MediaSubscribe) -> Outcome<SubscribeReply> {
        let call = self.calls.get_mut(&request.call.0).ok_or_else(|| ApiError::no_such_call(request.call))?;
        let Media::Up(up) = &mut call.media else { return Err(no_audio(call)) };
        let tap = up.handle.subscribe().map_err(|error| no_media(&error))?;
        let subscription = Subscription::new(request.call.0, tap, request.rate, request.encoding)
            .map_err(|error| ApiError::invalid_params(format!("`rate`: {error}")))?;
        let channel = self
            .server
            .open_channel(client)
            .ok_or_else(|| ApiError::new(ErrorCode::NoCapacity, "all channels of this connection are in use"))?;
        self.channels.insert((client, channel), Channel::Ears(Box::new(subscription)));
        Ok(SubscribeReply { channel })
    }

    fn on_audio(&mut self, client: ClientId, channel: u16, encoding: Encoding, generation: u64, samples: &[u8]) {
        let Some(Channel::Voice(number)) = self.channels.get(&(client, channel)) else { return };
        let number = *number;
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Media::Up(up) = &mut call.media else { return };
        let Some((response, taken)) = call.speech.push(channel, generation, encoding, samples) else { return };
        call.speech.pump(up.handle.voice());
        if taken.refused > 0 {
            self.notify(&Event::AudioRefused {
                call: CallId(number),
                response,
                accepted: taken.accepted as u64,
                refused: taken.refused as u64,
            });
        }
    }

    /// The connection is lost: the voice falls silent, the calls wait for the client to come back.
    fn on_gone(&mut self, client: ClientId) {
        let theirs: Vec<u32> = self
            .calls
            .values()
            .filter(|call| call.owner == Some(client) && !call.is_over())
            .map(|call| call.id.0)
            .collect();
        for number in theirs {
            self.flush_voice(number, false);
        }
        self.close_channels(client);
    }

    fn close_channels(&mut self, client: ClientId) {
        let channels: Vec<u16> =
            self.channels.keys().filter(|(owner, _)| *owner == client).map(|(_, channel)| *channel).collect();
        for channel in channels {
            self.channels.remove(&(client, channel));
            self.server.close_channel(client, channel);
        }
    }

    fn status(&self) -> Status {
        let engine = self.engine.stats();
        let report = self.engine.report();
        let sip = self.endpoint.stats();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: self.began.elapsed().as_millis() as u64,
            sip: object(json!({
                "address": self.endpoint.local_addr().to_string(),
                "received": sip.received,
                "sent": sip.sent,
                "malformed": sip.malformed,
                "send_errors": sip.send_errors,
                "receive_errors": sip.receive_errors,
                "receive_buffer_kib": sip.receive_buffer / 1024,
                "dropped": {
                    "banned": sip.guard.dropped_banned,
                    "rate": sip.guard.dropped_rate,
                    "strangers": sip.guard.dropped_strangers,
                    "newcomers": sip.guard.dropped_newcomers,
                },
                "strangers_heard": sip.guard.strangers,
                "bans": sip.guard.bans,
            })),
            accounts: self.accounts.values().cloned().collect(),
            jack: object(super::report::jack(&self.engine.jack_state())),
            model: Some(self.model.display().to_string()),
            engine: object(super::report::engine(&engine, &report)),
        }
    }

    /// Gives up calls that ring for too long.
    pub(super) fn end_overdue_rings(&mut self, now: Instant) {
        let ringing =
            |state| matches!(state, CallState::Incoming | CallState::Dialing | CallState::Ringing | CallState::Early);
        let overdue: Vec<(u32, Direction)> = self
            .calls
            .values()
            .filter(|call| ringing(call.state) && call.ring_until.is_some_and(|until| now >= until))
            .map(|call| (call.id.0, call.direction))
            .collect();
        for (number, direction) in overdue {
            if let Some(call) = self.calls.get_mut(&number) {
                call.ring_until = None;
                call.hung_up_for = Some((Cause::NoAnswer, "nobody answered in time".into()));
            }
            let call = signaling::CallId(number);
            self.command(match direction {
                Direction::In => Command::Reject { call, status: 480 },
                Direction::Out => Command::Hangup(call),
            });
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

pub(super) fn no_media(error: &EngineError) -> ApiError {
    let code = match error {
        EngineError::NoPort { .. }
        | EngineError::Descriptors(_)
        | EngineError::Full { .. }
        | EngineError::TooManySubscribers { .. } => ErrorCode::NoCapacity,
        EngineError::BadDigit(_) | EngineError::TooManyDigits { .. } => ErrorCode::InvalidParams,
        _ => ErrorCode::Media,
    };
    ApiError::new(code, error.to_string())
}

fn no_audio(call: &CallRecord) -> ApiError {
    ApiError::wrong_state(format!("{} is {} and has no audio", call.id, call.state))
}

fn no_such_channel(channel: u16) -> ApiError {
    ApiError::new(ErrorCode::NoSuchResponse, format!("there is no subscription on channel {channel}"))
}

/// `host`, `host:port` when the host is an address; names are looked up elsewhere.
fn literal_address(host: &str) -> Option<SocketAddr> {
    let host = host.trim_start_matches('<').trim_start_matches("sip:").split([';', '>', '?']).next()?;
    host.parse().ok().or_else(|| Some(SocketAddr::new(host.trim_matches(['[', ']']).parse().ok()?, 5060)))
}
