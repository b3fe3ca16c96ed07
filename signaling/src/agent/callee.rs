//! Calls from outside, and what the far end asks for during any call.

use std::time::{Duration, Instant};

use super::{UserAgent, limits, requests::has_option, sessions};
use crate::{
    call::{Call, FarEnd, IncomingInvite, PendingOk, ServerKey, State},
    dialog::Dialog,
    error::SignalingError,
    event::{CallId, EndCause, Event},
    message::{Meta, Method, Request, Response, body_text},
    sdp::LocalSession,
    toll::TollGuard,
    transaction::TIMEOUT,
    transport::Peer,
};

const SDP: &str = "application/sdp";

impl UserAgent {
    /// An INVITE that belongs to nothing yet.
    pub(super) fn on_invite(
        &mut self,
        now: Instant,
        from: &Peer,
        request: Request,
        meta: Meta,
        key: ServerKey,
        to: Peer,
    ) {
        let offer = body_text(&request.headers, &request.body, SDP);
        let local_tag = self.random_token();
        let dialog = Dialog::of_callee(&request, &meta, &local_tag, from);
        let (replaces, mismatch) = match self.replaced_by(&request) {
            Ok(replaces) => (replaces, None),
            Err(response) => (None, Some(response)),
        };
        let refusal = if self.is_full() {
            Some(request.response(503))
        } else if !request.body.is_empty() && offer.is_none() {
            let mut response = request.response(415);
            response.headers.push("Accept", SDP);
            Some(response)
        } else if dialog.is_none() {
            let mut response = request.response(400);
            response.reason = "Bad Request: no usable Contact".into();
            Some(response)
        } else {
            mismatch.or_else(|| sessions::too_short(&request))
        };
        if let Some(response) = refusal {
            self.counters.refused += 1;
            return self.reply(&request, response, to);
        }

        let id = self.new_call_id();
        let account = self.account_of(from, &request);
        self.open_server(&key, id, &request, &meta, from, to);
        let trying = request.response(100);
        self.respond(now, &key, trying);
        self.dialogs.insert((meta.call_id.clone(), local_tag.clone()), id);
        self.events.push_back(Event::Incoming {
            call: id,
            from: meta.from.uri.to_string(),
            to: meta.to.uri.to_string(),
            display_name: meta.from.display.as_deref().map(printable),
            source: from.address,
            transport: from.transport,
            account: account.and_then(|a| self.accounts.get(a)).map(|a| a.config.name.clone()),
            offer: offer.clone(),
            replaces,
        });
        let far = FarEnd { update: has_option(&request.headers, "Allow", "UPDATE") };
        let (call_id, has_offer) = (meta.call_id.clone(), offer.is_some());
        let state = State::Incoming(Box::new(IncomingInvite { key, request, meta, has_offer }));
        let call = Call {
            dialog,
            session: LocalSession::new(self.session_number()),
            far,
            replaces,
            limit: Some(now + self.config.ring_limit),
            ..Call::new(id, account, call_id, local_tag, state)
        };
        self.keep(id, call);
        self.know(now, id, from.address.ip());
        self.refresh_call(id);
    }

    /// The account that a call from there is for: one of its hosts sent it, or its user is called.
    fn account_of(&self, from: &Peer, request: &Request) -> Option<usize> {
        let user = request.uri.user.as_deref().unwrap_or("");
        let from_host = |i: &usize| self.accounts[*i].is_from(from.address.ip());
        let candidates = || (0..self.accounts.len()).filter(from_host);
        candidates().find(|i| self.accounts[*i].config.user == user).or_else(|| candidates().next())
    }

    pub(super) fn do_answer(&mut self, now: Instant, id: CallId, sdp: &str) -> Result<(), SignalingError> {
        let (key, request) = self.incoming(id, "answered")?;
        let hold = self.must_hold_answer(id);
        let Some(call) = self.calls.get_mut(&id) else { return Err(SignalingError::NoSuchCall(id)) };
        if call.reliable.held.is_some() {
            return Err(SignalingError::WrongState { call: id, action: "answered" });
        }
        if hold {
            call.reliable.held = Some(sdp.to_owned());
            return Ok(());
        }
        let mut response = self.call_response(id, &request, 200, &key);
        let Some(call) = self.calls.get_mut(&id) else { return Err(SignalingError::NoSuchCall(id)) };
        let State::Incoming(invite) = std::mem::replace(&mut call.state, State::Up) else { return Ok(()) };
        // 200 is the last word: reliable responses that were not acknowledged are of no interest any more
        call.reliable.pending = None;
        let settled = call.reliable.settled.is_some();
        match &call.reliable.settled {
            None => {
                put_sdp(&mut response, &call.session.stamp(sdp));
                call.agreed = Some(sdp.to_owned());
            }
            // what early media has settled is not described again, and something else has to be offered anew
            Some(settled) if settled != sdp && call.agreed.as_deref() != Some(sdp) => {
                call.offering.wish = Some(sdp.to_owned());
            }
            Some(_) => {}
        }
        call.ok = Some(PendingOk::new(now, key.clone(), invite.meta.cseq, true, !invite.has_offer && !settled));
        call.longest = self.toll.as_ref().and_then(TollGuard::max_duration);
        call.limit = call.longest.map(|longest| now + longest);
        let replaced = call.replaces.take();
        self.answer_session(now, id, &request, &mut response);
        self.respond(now, &key, response);
        self.refresh_call(id);
        if let Some(old) = replaced.filter(|old| self.live_call(*old).is_ok()) {
            self.give_up(now, old, 603, EndCause::Replaced, None, "another call has taken its place");
        }
        Ok(())
    }

    pub(super) fn do_reject(&mut self, now: Instant, id: CallId, status: u16) -> Result<(), SignalingError> {
        if !(300..=699).contains(&status) {
            return Err(SignalingError::BadStatus(status));
        }
        let (key, request) = self.incoming(id, "rejected")?;
        let mut response = self.call_response(id, &request, status, &key);
        if status == 503 {
            // the application has no port or no room left (case 44)
            response.headers.push("Retry-After", limits::RETRY_AFTER_SECONDS);
        }
        self.respond(now, &key, response);
        self.end(now, id, EndCause::LocalHangup, Some(status), "we refused the call");
        Ok(())
    }

    pub(super) fn incoming(&self, id: CallId, action: &'static str) -> Result<(ServerKey, Request), SignalingError> {
        match self.live_call(id)?.state {
            State::Incoming(ref invite) => Ok((invite.key.clone(), invite.request.clone())),
            _ => Err(SignalingError::WrongState { call: id, action }),
        }
    }

    /// The caller gave up. Too late if we have answered.
    pub(super) fn on_cancelled(&mut self, now: Instant, id: CallId, key: &ServerKey) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.reoffer.as_ref().is_some_and(|r| r.key == *key) {
            self.decline_reoffer(now, id, 487);
            return;
        }
        let request = match &call.state {
            State::Incoming(invite) if invite.key == *key => invite.request.clone(),
            _ => return,
        };
        let response = self.call_response(id, &request, 487, key);
        self.respond(now, key, response);
        self.refuse_reoffer(now, id, 487);
        self.end(now, id, EndCause::Cancelled, None, "the caller gave up");
    }

    /// A request of the far end that is in order.
    pub(super) fn in_dialog(&mut self, now: Instant, id: CallId, request: Request, meta: Meta, key: ServerKey) {
        let plain = |status| request.response(status);
        match request.method {
            Method::Bye => {
                self.respond(now, &key, plain(200));
                self.on_bye(now, id, &meta);
            }
            Method::Options => {
                let mut response = self.call_response(id, &request, 200, &key);
                self.add_abilities(&mut response.headers);
                response.headers.push("Accept", SDP);
                self.respond(now, &key, response);
            }
            Method::Info => self.on_info(now, id, &request, &key),
            Method::Invite | Method::Update => self.on_reoffer(now, id, request, meta, key),
            Method::Prack => self.on_prack(now, id, request, meta, key),
            Method::Refer => self.on_refer(now, id, request, &meta, key),
            Method::Notify => self.on_notify(now, id, &request, &key),
            _ => {
                let mut response = plain(405);
                response.headers.push("Allow", self.allow());
                self.respond(now, &key, response);
            }
        }
    }

    fn on_bye(&mut self, now: Instant, id: CallId, meta: &Meta) {
        if self.is_waiting_for_answer(id)
            && let Ok((key, request)) = self.incoming(id, "ended")
        {
            self.refuse_reoffer(now, id, 487);
            let response = self.call_response(id, &request, 487, &key);
            self.respond(now, &key, response);
            return self.end(now, id, EndCause::Cancelled, None, "the caller gave up");
        }
        if let Some(call) = self.calls.get_mut(&id).filter(|c| matches!(c.state, State::Calling(_))) {
            // nobody may end the early dialog of an INVITE so (section 15), but this fork will not be heard of again
            call.early.retain(|e| e.dialog.remote_tag() != meta.caller_tag());
            return;
        }
        self.refuse_reoffer(now, id, 487);
        self.refuse_referred(now, id);
        let reason = "the other side hung up";
        let moved = self.close_transfer(id, reason) || self.is_transfer_target(id);
        let cause = if moved { EndCause::Transferred } else { EndCause::RemoteHangup };
        self.end(now, id, cause, None, reason);
    }

    fn on_info(&mut self, now: Instant, id: CallId, request: &Request, key: &ServerKey) {
        if request.body.is_empty() {
            return self.respond(now, key, request.response(200));
        }
        let relay = body_text(&request.headers, &request.body, "application/dtmf-relay");
        let plain = body_text(&request.headers, &request.body, "application/dtmf");
        let Some(text) = relay.or(plain) else {
            let mut response = request.response(415);
            response.headers.push("Accept", "application/dtmf-relay, application/dtmf");
            return self.respond(now, key, response);
        };
        let Some((digit, duration)) = read_digit(&text) else {
            return self.respond(now, key, request.response(400));
        };
        self.respond(now, key, request.response(200));
        self.events.push_back(Event::Digit { call: id, digit, duration });
    }

    /// An ACK came within a dialog.
    pub(super) fn on_ok_acknowledged(&mut self, now: Instant, id: CallId, request: &Request, meta: &Meta) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(ok) = call.ok.take_if(|ok| ok.cseq == meta.cseq) else { return };
        let answer = body_text(&request.headers, &request.body, SDP).filter(|_| ok.wants_answer);
        if matches!(call.state, State::Closing) {
            return self.hang_up_dialog(now, id);
        }
        if ok.initial {
            let answer = answer.or(call.reliable.answer.take());
            self.events.push_back(Event::Answered { call: id, sdp: answer });
        } else if let Some(sdp) = answer {
            self.events.push_back(Event::ReofferAnswered { call: id, sdp });
        }
        self.go_on(now, id);
    }

    pub(super) fn on_call_timer(&mut self, now: Instant, id: CallId) {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.limit.take_if(|l| now >= *l).is_some() {
            self.on_limit(now, id);
        }
        if due(self.calls.get(&id).and_then(|c| Some(c.reoffer.as_ref()?.deadline))) {
            self.decline_reoffer(now, id, 488);
        }
        if due(self.calls.get(&id).and_then(|c| Some(c.offering.sent.as_ref()?.limit))) {
            self.on_offer_limit(now, id);
        }
        if due(self.calls.get(&id).and_then(|c| Some(c.referred.as_ref()?.deadline))) {
            self.refuse_referred(now, id);
        }
        if due(self.calls.get(&id).and_then(|c| Some(c.transfer.as_ref()?.deadline))) {
            self.end_transfer(now, id, false, None, "the other side does not say any more how it gets on");
        }
        self.on_reliable_timer(now, id);
        self.on_session_timer(now, id);
        self.on_ok_timer(now, id);
        self.go_on(now, id);
    }

    /// The 200 goes out again, or is given up and the call with it (case 33).
    fn on_ok_timer(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(ok) = &mut call.ok else { return };
        if now >= ok.deadline {
            call.ok = None;
            let reason = format!("our answer was not acknowledged within {} s", TIMEOUT.as_secs());
            self.hang_up_with(now, id, EndCause::Timeout, None, &reason);
        } else if now >= ok.resend.at {
            ok.resend.again(now);
            let again = self.servers.get(&ok.key).map(|s| (s.to.clone(), s.response.clone()));
            if let Some((to, bytes)) = again {
                self.transmit_again(to, bytes);
            }
        }
    }
}

pub(super) fn put_sdp(response: &mut Response, sdp: &str) {
    response.headers.set("Content-Type", SDP);
    response.body = sdp.as_bytes().to_vec();
}

/// Without what could confuse a terminal or a web page's reader (case 45): control characters and direction marks.
fn printable(name: &str) -> String {
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    name.chars().filter(|c| !hidden(*c)).collect()
}

/// `Signal=5` and `Duration=160` of dtmf-relay, or a lone digit.
fn read_digit(text: &str) -> Option<(char, Duration)> {
    let field = |name: &str| {
        text.lines()
            .filter_map(|l| l.split_once('='))
            .find(|(n, _)| n.trim().eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
    };
    let signal = field("Signal").unwrap_or_else(|| text.trim());
    // some write 10 and 11 for star and hash, as RFC 4733 numbers them
    let digit = match signal {
        "10" => '*',
        "11" => '#',
        _ => {
            let mut chars = signal.chars();
            let digit = chars.next()?.to_ascii_uppercase();
            chars.next().is_none().then_some(digit)?
        }
    };
    let ms = field("Duration").and_then(|d| d.parse::<u16>().ok());
    let duration = ms.map_or(limits::DIGIT_DEFAULT, |ms| Duration::from_millis(ms.into()));
    matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D').then_some((digit, duration))
}
