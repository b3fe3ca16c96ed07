//! What signaling tells: registrations, and calls from their first INVITE to their end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use asr::StreamId;
use control::types::{
    Account, AccountState, ApiError, CallId, CallState, Cause, DialReply, Direction, ErrorCode, Event,
};
use signaling::net::Command;
use signaling::{EndCause, Event as SipEvent, sdp};

use super::call::{CallRecord, Media, Moment, media_stats};
use super::switchboard::Switchboard;
use crate::config::IncomingPolicy;

/// Not acceptable here: no codec in common, or no usable description (RFC 3261 section 21.4.26).
const NOT_ACCEPTABLE_HERE: u16 = 488;
/// Temporarily unavailable (section 21.4.18).
const UNAVAILABLE: u16 = 480;
/// No port or no room: the caller may try again (section 21.5.4).
const SERVICE_UNAVAILABLE: u16 = 503;

impl Switchboard {
    /// Everything signaling can tell.
    pub(super) fn on_signaling(&mut self, event: SipEvent) {
        match event {
            SipEvent::Registered { account, expires, .. } => {
                log::info!("account {account}: registered for {} s", expires.as_secs());
                self.account_is(account, AccountState::Registered, None, Some(expires), None);
            }
            SipEvent::Unregistered { account } => {
                self.account_is(account, AccountState::Unregistered, None, None, None)
            }
            SipEvent::RegistrationFailed { account, reason, retry_in, .. } => {
                log::warn!("account {account}: {reason}; next try in {} s", retry_in.as_secs());
                self.account_is(account, AccountState::Failed, Some(reason), None, Some(retry_in));
            }
            SipEvent::Dialing { tag, call } => self.on_dialing(tag, call.0),
            SipEvent::DialFailed { tag, error } => {
                if let Some(dial) = self.dials.remove(&tag) {
                    self.server
                        .respond::<DialReply>(&dial.request, Err(ApiError::new(ErrorCode::DestinationRefused, error)));
                }
            }
            SipEvent::Incoming { call, from, to, display_name, source, account, offer, .. } => {
                let mut record = CallRecord::new(call.0, Direction::In, from, to);
                record.account = account;
                record.offer = offer;
                record.source = Some(source);
                self.on_incoming(record, display_name, source);
            }
            SipEvent::Progress { call, status, sdp } => self.on_progress(call.0, status, sdp),
            SipEvent::Answered { call, sdp } => self.on_answered(call.0, sdp),
            SipEvent::Reoffer { call, sdp } => self.on_reoffer(call.0, sdp),
            SipEvent::ReofferAnswered { call, sdp } => {
                let plan = self.local(call.0).map(|local| sdp::accept(&sdp, &local));
                if let Some(Ok(plan)) = plan
                    && let Err(error) = self.apply_plan(call.0, &plan)
                {
                    log::warn!("{call}: {error}");
                }
            }
            SipEvent::Digit { call, digit, duration } => {
                self.notify(&Event::CallDtmf { call: CallId(call.0), digit, duration_ms: duration.as_millis() as u64 });
            }
            SipEvent::Ended { call, cause, status, reason } => self.on_ended(call.0, cause, status, reason),
            _ => {}
        }
    }

    fn account_is(
        &mut self,
        account: String,
        state: AccountState,
        reason: Option<String>,
        expires: Option<Duration>,
        retry: Option<Duration>,
    ) {
        let (expires_s, retry_s) = (expires.map(|d| d.as_secs()), retry.map(|d| d.as_secs()));
        let now = Account { account: account.clone(), state, reason: reason.clone(), expires_s, retry_s };
        let before = self.accounts.insert(account.clone(), now);
        // a refresh is no news
        if before.is_none_or(|before| before.state != state || before.reason != reason) {
            self.server.notify(&Event::AccountState { account, state, reason, expires_s, retry_s }, None);
        }
    }

    fn on_dialing(&mut self, tag: u64, number: u32) {
        let Some(dial) = self.dials.remove(&tag) else { return };
        let mut record = dial.record;
        record.id = CallId(number);
        record.ring_until = Some(Instant::now() + dial.ring_limit);
        self.calls.insert(number, record);
        self.own(dial.client, CallId(number));
        self.server.respond(&dial.request, Ok(DialReply { call: CallId(number) }));
        self.set_state(number, CallState::Dialing);
        if self.server.name(dial.client).is_none() {
            self.hang_up_for(number, Cause::ClientGone, "the client that dialled went away");
        } else if self.shutting_down {
            self.command(Command::Hangup(signaling::CallId(number)));
        }
    }

    fn on_incoming(&mut self, mut record: CallRecord, display_name: Option<String>, source: SocketAddr) {
        let number = record.id.0;
        let call = signaling::CallId(number);
        let refusal = if self.shutting_down || self.live_calls() >= self.config.sip.max_calls {
            Some(SERVICE_UNAVAILABLE)
        } else if self.config.sip.incoming == IncomingPolicy::Reject {
            Some(UNAVAILABLE)
        } else {
            // the offer is judged before anybody's telephone rings
            match self.local_media(Some(source)) {
                Err(error) => {
                    log::error!("{call}: {error}");
                    Some(SERVICE_UNAVAILABLE)
                }
                Ok((port, local)) => {
                    let refused = record.offer.as_deref().and_then(|offer| sdp::answer(offer, &local).err());
                    record.media = Media::Offered(port, local);
                    refused.map(|error| {
                        log::info!("{call}: its offer cannot be accepted: {error}");
                        NOT_ACCEPTABLE_HERE
                    })
                }
            }
        };
        record.ring_until = Some(Instant::now() + Duration::from_secs(self.config.sip.ring_timeout_s));
        let (from, to) = (record.from.clone(), record.to.clone());
        self.calls.insert(number, record);
        if let Some(status) = refusal {
            self.command(Command::Reject { call, status });
            return;
        }
        self.notify(&Event::CallIncoming { call: CallId(number), from, to, display_name });
        self.set_state(number, CallState::Incoming);
        match self.config.sip.incoming {
            IncomingPolicy::Auto => {
                if let Err(error) = self.accept_incoming(number) {
                    log::error!("{call}: {error}");
                }
            }
            IncomingPolicy::Ask | IncomingPolicy::Reject => self.command(Command::Ring(call)),
        }
    }

    /// Answers an incoming call: media first, so that not a packet is lost, then 200.
    ///
    /// # Errors
    /// The media could not be set up; the call is refused with 503.
    pub(super) fn accept_incoming(&mut self, number: u32) -> Result<(), engine::EngineError> {
        let outcome = self.try_accept(number);
        if let Err(error) = &outcome {
            if let Some(record) = self.calls.get_mut(&number) {
                record.hung_up_for = Some((Cause::Media, error.to_string()));
            }
            self.command(Command::Reject { call: signaling::CallId(number), status: SERVICE_UNAVAILABLE });
        }
        outcome
    }

    fn try_accept(&mut self, number: u32) -> Result<(), engine::EngineError> {
        let Some(record) = self.calls.get_mut(&number) else { return Ok(()) };
        let Media::Offered(_, local) = &record.media else { return Ok(()) };
        let call = signaling::CallId(number);
        // from here on signaling's own limit counts: 64*T1 for the ACK
        record.ring_until = None;
        record.answering = true;
        match record.offer.take() {
            None => {
                let sdp = sdp::offer(local);
                self.command(Command::Answer { call, sdp });
            }
            Some(offer) => match sdp::answer(&offer, local) {
                Ok((sdp, plan)) => {
                    self.apply_plan(number, &plan)?;
                    self.command(Command::Answer { call, sdp });
                }
                // it was judged when the call came in
                Err(_) => self.command(Command::Reject { call, status: NOT_ACCEPTABLE_HERE }),
            },
        }
        Ok(())
    }

    /// What we told the far end about our media.
    fn local(&self, number: u32) -> Option<sdp::LocalMedia> {
        match &self.calls.get(&number)?.media {
            Media::Offered(_, local) => Some(local.clone()),
            Media::Up(up) => Some(up.local.clone()),
            Media::None | Media::Over(_) => None,
        }
    }

    fn on_progress(&mut self, number: u32, status: u16, description: Option<String>) {
        let state = if let (Some(text), Some(local)) = (description, self.local(number)) {
            match sdp::accept(&text, &local) {
                Ok(plan) => {
                    if let Err(error) = self.apply_plan(number, &plan) {
                        log::warn!("c{number}: no early media: {error}");
                    }
                    CallState::Early
                }
                // the answer proper is still to come (case 35)
                Err(error) => {
                    log::info!("c{number}: no early media: {error}");
                    CallState::Ringing
                }
            }
        } else if status == 180 {
            CallState::Ringing
        } else {
            return;
        };
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.status = Some(status);
        // 180 after 183 does not take the early media back
        if call.state == CallState::Dialing || (call.state == CallState::Ringing && state == CallState::Early) {
            self.set_state(number, state);
        }
    }

    fn on_answered(&mut self, number: u32, description: Option<String>) {
        if let (Some(text), Some(local)) = (description, self.local(number)) {
            let problem = match sdp::accept(&text, &local) {
                Ok(plan) => self.apply_plan(number, &plan).err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem {
                self.hang_up_for(number, Cause::Media, &problem);
                return;
            }
        }
        let Some(call) = self.calls.get_mut(&number) else { return };
        if call.up().is_none() {
            self.hang_up_for(number, Cause::Media, "the far end answered without a session description");
            return;
        }
        call.answered = Some(Moment::now());
        call.ring_until = None;
        call.status = Some(200);
        self.attach_ears(number);
        self.set_state(number, CallState::Answered);
    }

    fn on_reoffer(&mut self, number: u32, offer: Option<String>) {
        let call = signaling::CallId(number);
        let Some(local) = self.local(number) else { return };
        let answer = match offer {
            None => Ok(sdp::offer(&local)),
            Some(offer) => match sdp::answer(&offer, &local) {
                Ok((answer, plan)) => {
                    self.apply_plan(number, &plan).map(|()| answer).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            },
        };
        match answer {
            Ok(sdp) => self.command(Command::AnswerReoffer { call, sdp }),
            Err(error) => {
                log::info!("{call}: the new offer cannot be accepted: {error}");
                self.command(Command::RejectReoffer { call, status: NOT_ACCEPTABLE_HERE });
            }
        }
    }

    fn on_ended(&mut self, number: u32, cause: EndCause, status: Option<u16>, reason: String) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let (cause, reason) = match call.hung_up_for.take() {
            Some(ours) => ours,
            None => (as_cause(cause), reason),
        };
        let unfinished = match &mut call.media {
            Media::Up(up) => call.speech.abandon(up.handle.voice()),
            _ => Vec::new(),
        };
        for finished in unfinished {
            self.response_over(number, finished);
        }
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.ended = Some(Moment::now());
        call.cause = Some(cause);
        call.status = status.or(call.status);
        call.reason = Some(reason);
        // the event is told with the media's time, so it comes before the media goes
        self.set_state(number, CallState::Ended);
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.media = match std::mem::replace(&mut call.media, Media::None) {
            Media::Up(up) => Media::Over(media_stats(&up.handle.close().stats)),
            Media::Offered(..) | Media::None => Media::None,
            over => over,
        };
        let heard = call.heard;
        let over: Vec<_> =
            self.channels.iter().filter(|(_, channel)| channel.is_of(number)).map(|(place, _)| *place).collect();
        for (client, channel) in over {
            self.channels.remove(&(client, channel));
            self.server.close_channel(client, channel);
        }
        if !heard || self.ears.remove(StreamId(number)).is_err() {
            self.summarise(number);
        }
    }
}

fn as_cause(cause: EndCause) -> Cause {
    match cause {
        EndCause::LocalHangup => Cause::Hangup,
        EndCause::RemoteHangup => Cause::RemoteHangup,
        EndCause::Cancelled => Cause::Cancelled,
        EndCause::Busy => Cause::Busy,
        EndCause::NoAnswer => Cause::NoAnswer,
        EndCause::Declined => Cause::Declined,
        EndCause::NotFound => Cause::NotFound,
        EndCause::Auth => Cause::Auth,
        EndCause::Media => Cause::Media,
        EndCause::Network => Cause::Network,
        EndCause::Timeout => Cause::Timeout,
        EndCause::Rejected => Cause::Rejected,
        _ => Cause::Error,
    }
}
