//! What signaling tells: registrations, and calls from their first INVITE to their end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use asr::StreamId;
use control::types::{
    Account, AccountState, ApiError, CallId, CallState, Cause, DialReply, Direction, ErrorCode, Event, TransferState,
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
            SipEvent::Registered { account, expires, seen_as } => {
                log::info!("account {account}: registered for {} s", expires.as_secs());
                match seen_as {
                    Some(address) => self.seen_as.insert(account.clone(), address),
                    None => self.seen_as.remove(&account),
                };
                let (expires_s, seen_as) = (Some(expires.as_secs()), seen_as.map(|address| address.to_string()));
                self.account_is(Account { expires_s, seen_as, ..Account::new(&account, AccountState::Registered) });
            }
            SipEvent::Unregistered { account } => {
                self.account_is(Account::new(&account, AccountState::Unregistered));
            }
            SipEvent::RegistrationFailed { account, reason, retry_in, .. } => {
                log::warn!("account {account}: {reason}; next try in {} s", retry_in.as_secs());
                let (reason, retry_s) = (Some(reason), Some(retry_in.as_secs()));
                self.account_is(Account { reason, retry_s, ..Account::new(&account, AccountState::Failed) });
            }
            SipEvent::Reachable { account } => {
                log::info!("account {account}: reachable");
                self.account_is(Account::new(&account, AccountState::Reachable));
            }
            SipEvent::Unreachable { account, reason } => {
                log::warn!("account {account}: {reason}");
                let reason = Some(reason);
                self.account_is(Account { reason, ..Account::new(&account, AccountState::Unreachable) });
            }
            SipEvent::Trace { tag, trace } => self.on_trace(tag, trace.as_deref()),
            SipEvent::Banned { ban } => self.on_banned(&ban),
            SipEvent::PublicAddress { address, symmetric } => {
                log::info!("the world sees us as {address} (STUN)");
                if symmetric {
                    log::warn!(
                        "the NAT gives every destination a port of its own: set [sip] public_address if calls do not come in"
                    );
                }
                self.public_address = Some(address.ip());
            }
            // what was known before is more likely right than nothing
            SipEvent::StunFailed { reason } => log::warn!("STUN: {reason}"),
            SipEvent::Dialing { tag, call } => self.on_dialing(tag, call.0),
            SipEvent::DialFailed { tag, error } => {
                if let Some(dial) = self.dials.remove(&tag) {
                    self.server
                        .respond::<DialReply>(&dial.request, Err(ApiError::new(ErrorCode::DestinationRefused, error)));
                }
            }
            SipEvent::Incoming { call, from, to, display_name, source, account, offer, replaces, .. } => {
                let mut record = CallRecord::new(call.0, Direction::In, from, to);
                record.account = account;
                record.offer = offer;
                record.source = Some(source);
                let longest = self.config.sip.max_incoming_call_s;
                record.limit = (longest > 0).then(|| Duration::from_secs(longest));
                self.on_incoming(record, display_name, replaces.map(|call| CallId(call.0)), source);
            }
            SipEvent::Progress { call, status, sdp } => self.on_progress(call.0, status, sdp),
            SipEvent::Answered { call, sdp } => self.on_answered(call.0, sdp),
            SipEvent::Reoffer { call, sdp } => self.on_reoffer(call.0, sdp),
            SipEvent::ReofferAnswered { call, sdp } => self.on_reoffer_answered(call.0, &sdp),
            SipEvent::ReofferRefused { call, status, reason } => self.on_reoffer_refused(call.0, None, status, reason),
            SipEvent::TransferRequested { call, to, referred_by, .. } => {
                self.on_transfer_requested(call.0, to, referred_by);
            }
            SipEvent::Transferring { call, new_call } => self.on_transferring(call.0, new_call.0),
            SipEvent::TransferProgress { call, status, reason } => {
                self.on_transfer_news(call.0, TransferState::Progress, Some(status), reason);
            }
            SipEvent::TransferEnded { call, accepted, status, reason } => {
                let state = if accepted { TransferState::Accepted } else { TransferState::Failed };
                self.on_transfer_news(call.0, state, status, reason);
            }
            SipEvent::Digit { call, digit, duration } => {
                self.on_info_key(call.0, digit, duration);
            }
            SipEvent::Ended { call, cause, status, reason } => self.on_ended(call.0, cause, status, reason),
            _ => {}
        }
    }

    fn account_is(&mut self, now: Account) {
        let before = self.accounts.insert(now.account.clone(), now.clone());
        // a refresh is no news
        let told = |account: &Account| (account.state, account.reason.clone(), account.seen_as.clone());
        if before.is_none_or(|before| told(&before) != told(&now)) {
            let Account { account, state, reason, expires_s, retry_s, seen_as } = now;
            self.server.notify(&Event::AccountState { account, state, reason, expires_s, retry_s, seen_as }, None);
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

    fn on_incoming(
        &mut self,
        mut record: CallRecord,
        display_name: Option<String>,
        replaces: Option<CallId>,
        source: SocketAddr,
    ) {
        let number = record.id.0;
        let call = signaling::CallId(number);
        let refusal = if self.shutting_down || self.live_calls() >= self.config.sip.max_calls {
            Some(SERVICE_UNAVAILABLE)
        } else if self.ears_are_full() {
            if let Some(others) = self.without_ears.turn(Instant::now()) {
                log::warn!(
                    "{call} is refused: speech recognition is behind ({others} others since this was last said)"
                );
            }
            Some(SERVICE_UNAVAILABLE)
        } else if self.config.sip.incoming == IncomingPolicy::Reject {
            Some(UNAVAILABLE)
        } else {
            // the offer is judged before anybody's telephone rings
            match self.local_media(Some(source), record.account.as_deref()) {
                Err(error) => {
                    if let Some(others) = self.without_media.turn(Instant::now()) {
                        log::error!("{call} is refused: {error} ({others} others since this was last said)");
                    }
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
        self.notify(&Event::CallIncoming { call: CallId(number), from, to, display_name, replaces });
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
        if !matches!(record.media, Media::Offered(..)) && record.early.is_none() {
            return Ok(());
        }
        let call = signaling::CallId(number);
        // from here on signaling's own limit counts: 64*T1 for the ACK
        record.ring_until = None;
        record.answering = true;
        // what an early answer has said stands
        if let Some(sdp) = record.early.clone() {
            self.command(Command::Answer { call, sdp });
            return Ok(());
        }
        match record.offer.take() {
            None => {
                if let Some(sdp) = record.next_offer(None) {
                    self.command(Command::Answer { call, sdp });
                }
            }
            Some(offer) => match record.answer_offer(&offer) {
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

    fn on_progress(&mut self, number: u32, status: u16, description: Option<String>) {
        let accepted = description.and_then(|text| Some(self.calls.get_mut(&number)?.accept(&text)));
        let state = if let Some(accepted) = accepted {
            match accepted {
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
        let accepted = description.and_then(|text| Some(self.calls.get_mut(&number)?.accept(&text)));
        if let Some(accepted) = accepted {
            let problem = match accepted {
                Ok(plan) => self.apply_plan(number, &plan).err().map(|error| error.to_string()),
                Err(error) => Some(error),
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
        call.until = call.limit.map(|limit| Instant::now() + limit);
        call.ring_until = None;
        call.status = Some(200);
        self.attach_ears(number);
        self.listen_for(number);
        self.set_state(number, CallState::Answered);
    }

    fn on_reoffer(&mut self, number: u32, offer: Option<String>) {
        let call = signaling::CallId(number);
        let Some(record) = self.calls.get_mut(&number) else { return };
        let answer = match offer {
            None => record.next_offer(None).ok_or_else(|| "the call has no media".to_owned()),
            Some(offer) => match record.answer_offer(&offer) {
                Ok((answer, plan)) => {
                    self.apply_plan(number, &plan).map(|()| answer).map_err(|error| error.to_string())
                }
                Err(error) => Err(error),
            },
        };
        match answer {
            Ok(sdp) => {
                self.command(Command::AnswerReoffer { call, sdp });
                self.tell_reoffer(number, false, true, None, None);
            }
            Err(error) => {
                log::info!("{call}: the new offer cannot be accepted: {error}");
                self.command(Command::RejectReoffer { call, status: NOT_ACCEPTABLE_HERE });
                self.tell_reoffer(number, false, false, Some(NOT_ACCEPTABLE_HERE), Some(error));
            }
        }
    }

    fn on_ended(&mut self, number: u32, cause: EndCause, status: Option<u16>, reason: String) {
        self.leave_bridges(number);
        self.transfers.remove(&number);
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
            Media::Up(up) => {
                call.end_recordings();
                Media::Over(media_stats(&up.handle.close().stats))
            }
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
        EndCause::Replaced => Cause::Replaced,
        EndCause::Transferred => Cause::Transferred,
        _ => Cause::Error,
    }
}
