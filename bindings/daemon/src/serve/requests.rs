//! What clients ask for.

use std::time::Duration;

use control::types::{
    ApiError, CallDtmf, CallId, CallListReply, CallReject, CallState, Cause, DigitsVia, Done, ErrorCode, Method, Status,
};
use control::{ClientId, Input, RequestId};
use engine::{DigitTiming, EngineError};
use serde_json::{Map, Value, json};
use signaling::net::Command;

use super::call::{CallRecord, Media};
use super::switchboard::{Channel, Switchboard};
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
            Method::CallList(request) => {
                let first = request.after.map_or(0, |call| call.0.saturating_add(1));
                let calls = self.calls.range(first..).map(|(_, call)| call).filter(|call| !call.is_over());
                let page = CallListReply::page(calls.map(|call| call.describe(false)), &request);
                self.server.respond(&id, Ok(page));
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
            Method::AudioDuck(request) => {
                let outcome = self.duck(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::PlayFile(request) => {
                let outcome = self.play_file(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::PlayTone(request) => {
                let outcome = self.play_tone(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::PlayStop(request) => {
                let outcome = self.stop_play(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::AudioClean(request) => {
                let outcome = self.clean(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::AudioEffects(request) => {
                let outcome = self.set_effects(client, &request);
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
            Method::TurnPolicy(request) => {
                let outcome = self.turn_policy(client, &request);
                self.server.respond(&id, outcome);
            }
            Method::TranscriptPush(request) => {
                let outcome = self.push_transcript(client, request);
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
            self.stop_plays(number);
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
            ears: object(super::turns::report(&self.ears.load())),
            engine: object(super::report::engine(&engine, &report)),
            media_threads: super::report::media_threads(&self.engine.thread_stats()),
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
        | EngineError::TooManySubscribers { .. }
        | EngineError::TooManyPlayers { .. } => ErrorCode::NoCapacity,
        EngineError::BadDigit(_) | EngineError::TooManyDigits { .. } => ErrorCode::InvalidParams,
        _ => ErrorCode::Media,
    };
    ApiError::new(code, error.to_string())
}

pub(super) fn no_audio(call: &CallRecord) -> ApiError {
    ApiError::wrong_state(format!("{} is {} and has no audio", call.id, call.state))
}

fn no_such_channel(channel: u16) -> ApiError {
    ApiError::new(ErrorCode::NoSuchResponse, format!("there is no subscription on channel {channel}"))
}
