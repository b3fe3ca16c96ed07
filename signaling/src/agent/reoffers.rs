//! Other media in a call that is up: re-INVITE and UPDATE, ours and theirs, and what happens when they meet (RFC 3261
//! section 14, RFC 3311).
//!
//! What must hold: at most one offer of ours is under way, and none while one of theirs is; a wish of ours that met one of
//! theirs comes again by itself, a few times; whatever becomes of it the application is told once.

use std::time::{Duration, Instant};

use super::{
    UserAgent,
    callee::put_sdp,
    limits,
    outgoing::{Fork, Owner},
    requests::{Ask, has_option, seconds, words},
    sessions,
};
use crate::{
    call::{ClientKey, PendingOk, Reoffer, Sent, ServerKey, State},
    error::SignalingError,
    event::{CallId, Event},
    message::{Meta, Method, Request, Response, body_text},
};

const SDP: &str = "application/sdp";

/// What becomes of a re-INVITE or UPDATE of theirs.
enum Verdict {
    /// Handed to the application, or just answered 200 if it offers nothing.
    Take,
    /// An offer of ours is under way: 491.
    Glare,
    /// The one before is not answered yet: 500.
    TooEarly,
}

impl UserAgent {
    pub(super) fn do_reoffer(&mut self, now: Instant, id: CallId, sdp: String) -> Result<(), SignalingError> {
        let up = self.live_call(id)?.is_up();
        let call = self.calls.get_mut(&id).filter(|c| up && c.offering.wish.is_none());
        let Some(call) = call else {
            return Err(SignalingError::WrongState { call: id, action: "offered other media" });
        };
        call.offering.wish = Some(sdp);
        call.offering.tries = 0;
        self.go_on(now, id);
        Ok(())
    }

    /// Sends what waits, if nothing stands against it: neither an INVITE of theirs nor a 200 of ours that is not
    /// acknowledged (section 14.1).
    pub(super) fn go_on(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let offering = &mut call.offering;
        offering.retry_at.take_if(|at| now >= *at);
        let due = offering.is_waiting() && offering.retry_at.is_none();
        if due && matches!(call.state, State::Up) && call.reoffer.is_none() && call.ok.is_none() {
            self.send_offer(now, id);
        }
        self.refresh_call(id);
    }

    fn send_offer(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let wish = call.offering.wish.clone();
        let (is_wish, method) = match wish.is_none() && call.far.update {
            true => (false, Method::Update),
            false => (wish.is_some(), Method::Invite),
        };
        let Some(dialog) = &mut call.dialog else { return };
        let mut request = dialog.request(method.clone());
        if method == Method::Invite {
            let Some(description) = wish.or_else(|| call.agreed.clone()) else { return };
            request.headers.push("Content-Type", SDP);
            request.body = call.session.stamp(&description).into_bytes();
        }
        sessions::ask(call.timer, &mut request.headers);
        call.offering.sent = Some(Sent { key: None, method, wish: is_wish, limit: now + limits::OUR_REOFFER });
        self.add_abilities(&mut request.headers);
        self.ask(now, id, Ask::Offer, request);
    }

    pub(super) fn on_offer_response(
        &mut self,
        now: Instant,
        id: CallId,
        key: &ClientKey,
        response: Response,
        meta: Meta,
        refused: Option<String>,
    ) {
        let current = self.is_dialog_request_wanted(id, &Ask::Offer, key);
        let invite = meta.method == Method::Invite;
        match response.status {
            100..=199 if invite && !current => return self.send_cancel(now, key),
            100..=199 => return,
            200..=299 if invite => self.acknowledge(now, id, key, &response, &meta),
            _ => {}
        }
        let sent = self.calls.get_mut(&id).filter(|_| current).and_then(|c| c.offering.sent.take());
        let Some(sent) = sent else { return };
        if response.status < 300 {
            self.on_offer_taken(now, id, sent, &response);
        } else {
            let reason = refused.unwrap_or_else(|| words(&response));
            self.on_offer_refused(now, id, sent, &response, &reason);
        }
        self.go_on(now, id);
    }

    /// The ACK to a 2xx, sent again whenever that comes again (section 13.2.2.4).
    fn acknowledge(&mut self, now: Instant, id: CallId, key: &ClientKey, response: &Response, meta: &Meta) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if let Some(fork) = client.forks.first() {
            if let Some((to, bytes)) = fork.ack.clone() {
                self.transmit_again(to, bytes);
            }
            return;
        }
        let tag = meta.to_tag().to_owned();
        client.forks.push(Fork { tag: tag.clone(), ack: None });
        let account = client.account;
        // the call may be over; what its request says is then enough to go by
        let last_word = crate::dialog::Dialog::of_caller(&client.request, response, meta);
        let call = self.calls.get_mut(&id).and_then(|c| c.dialog.as_mut());
        let dialog = match call {
            Some(dialog) => {
                dialog.refresh_target(&response.headers);
                dialog.clone()
            }
            None => last_word,
        };
        let ack = dialog.ack(meta.cseq);
        self.send_routed(now, &dialog, ack, Owner::Ack { invite: key.clone(), tag }, account);
    }

    fn on_offer_taken(&mut self, now: Instant, id: CallId, sent: Sent, response: &Response) {
        let answer = body_text(&response.headers, &response.body, SDP);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(dialog) = &mut call.dialog {
            dialog.refresh_target(&response.headers);
        }
        call.offering.tries = 0;
        call.offering.refresh = false;
        let wish = call.offering.wish.take_if(|_| sent.wish);
        self.on_session_answered(now, id, response);
        let Some(wish) = wish else { return };
        match answer {
            Some(sdp) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.agreed = Some(wish);
                }
                self.tell(Event::ReofferAnswered { call: id, sdp });
            }
            None => {
                let reason = "the answer has no description".to_owned();
                self.tell(Event::ReofferRefused { call: id, status: Some(response.status), reason });
            }
        }
    }

    fn on_offer_refused(&mut self, now: Instant, id: CallId, sent: Sent, response: &Response, reason: &str) {
        let status = response.status;
        let retry_after = seconds(&response.headers, "Retry-After").map(Duration::from_secs);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let owner = call.dialog.as_ref().is_some_and(crate::dialog::Dialog::owns_call_id);
        let update = sent.method == Method::Update;
        let longer = status == 422 && self.longer_session(id, response);
        let pause = match status {
            // section 14.1: the owner of the Call-ID waits 2.1 to 4 s, the other 0 to 2 s
            491 if owner => Some(self.random_pause(210..=400)),
            491 => Some(self.random_pause(0..=200)),
            500 => retry_after.filter(|pause| *pause <= limits::LONGEST_RETRY_AFTER),
            422 if longer => Some(Duration::ZERO),
            405 | 501 if update => Some(Duration::ZERO),
            _ => None,
        };
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.far.update &= !matches!(status, 405 | 501);
        if let Some(pause) = pause.filter(|_| call.offering.tries < limits::OFFER_TRIES) {
            call.offering.tries += 1;
            call.offering.retry_at = Some(now + pause);
            return;
        }
        self.offer_failed(now, id, &sent, Some(status), reason);
        if matches!(status, 408 | 481) {
            self.far_end_lost(now, id, Some(status), reason);
        }
    }

    /// No answer will come.
    pub(super) fn on_offer_lost(&mut self, now: Instant, id: CallId, reason: &str) {
        let Some(sent) = self.calls.get_mut(&id).and_then(|c| c.offering.sent.take()) else { return };
        self.offer_failed(now, id, &sent, None, reason);
        self.go_on(now, id);
    }

    fn offer_failed(&mut self, now: Instant, id: CallId, sent: &Sent, status: Option<u16>, reason: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.offering.tries = 0;
        if sent.wish {
            call.offering.wish = None;
            self.tell(Event::ReofferRefused { call: id, status, reason: reason.to_owned() });
        } else {
            call.offering.refresh = false;
            if let Some(timer) = &mut call.timer {
                timer.try_later(now);
            }
        }
    }

    /// Provisional answers without end: given up.
    pub(super) fn on_offer_limit(&mut self, now: Instant, id: CallId) {
        let key = self.calls.get(&id).and_then(|c| c.offering.sent.as_ref()?.key.clone());
        self.on_offer_lost(now, id, "the other side has not decided about other media");
        if let Some(key) = key {
            self.send_cancel(now, &key);
        }
    }

    /// A re-INVITE or UPDATE of theirs.
    pub(super) fn on_reoffer(&mut self, now: Instant, id: CallId, request: Request, meta: Meta, key: ServerKey) {
        let offer = body_text(&request.headers, &request.body, SDP);
        let refusal = match self.verdict(id, &request, &meta, offer.is_some()) {
            Verdict::Glare => Some(request.response(491)),
            Verdict::TooEarly => Some(self.not_now(&request)),
            Verdict::Take if !request.body.is_empty() && offer.is_none() => {
                let mut response = request.response(415);
                response.headers.push("Accept", SDP);
                Some(response)
            }
            Verdict::Take => sessions::too_short(&request),
        };
        if let Some(response) = refusal {
            return self.respond(now, &key, response);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        if has_option(&request.headers, "Allow", "UPDATE") {
            call.far.update = true;
        }
        if let Some(dialog) = call.dialog_with_mut(meta.caller_tag()) {
            dialog.refresh_target(&request.headers);
        }
        let up = call.is_up();
        if offer.is_none() && request.method == Method::Update {
            // only the target, or the session timer
            let mut response = self.call_response(id, &request, 200, &key);
            if up {
                self.answer_session(now, id, &request, &mut response);
            }
            return self.respond(now, &key, response);
        }
        let invite = request.method == Method::Invite;
        let trying = request.response(100);
        let deadline = now + limits::REOFFER;
        call.reoffer = Some(Reoffer { key: key.clone(), request, meta, has_offer: offer.is_some(), deadline });
        if invite {
            self.respond(now, &key, trying);
        }
        self.tell(Event::Reoffer { call: id, sdp: offer });
        self.refresh_call(id);
    }

    /// Section 14.2 and RFC 3311 section 5.2.
    fn verdict(&mut self, id: CallId, request: &Request, meta: &Meta, offers: bool) -> Verdict {
        let Some(call) = self.calls.get_mut(&id) else { return Verdict::TooEarly };
        let invite = request.method == Method::Invite;
        if !invite && !offers {
            return Verdict::Take;
        }
        if call.reoffer.is_some() {
            return Verdict::TooEarly;
        }
        match &call.state {
            State::Up => {
                let ours = call.offering.sent.as_ref().is_some_and(|sent| sent.method == Method::Invite);
                let unacknowledged = call.ok.as_ref().is_some_and(|ok| invite || ok.wants_answer);
                if ours || unacknowledged { Verdict::Glare } else { Verdict::Take }
            }
            // the first INVITE is not answered yet, but reliable early media may have settled the offer
            State::Incoming(first) if !invite => match (&call.reliable.settled, &call.reliable.pending) {
                (Some(_), None) => Verdict::Take,
                _ if first.has_offer => Verdict::TooEarly,
                _ => Verdict::Glare,
            },
            State::Calling(_) => match call.early_with(meta.caller_tag()) {
                Some(early) if early.settled && !invite => Verdict::Take,
                _ => Verdict::Glare,
            },
            _ => Verdict::TooEarly,
        }
    }

    pub(super) fn do_answer_reoffer(&mut self, now: Instant, id: CallId, sdp: &str) -> Result<(), SignalingError> {
        let wrong = SignalingError::WrongState { call: id, action: "given other media" };
        self.live_call(id)?;
        let Some(reoffer) = self.calls.get_mut(&id).and_then(|c| c.reoffer.take()) else { return Err(wrong) };
        let mut response = self.call_response(id, &reoffer.request, 200, &reoffer.key);
        if let Some(call) = self.calls.get_mut(&id) {
            put_sdp(&mut response, &call.session.stamp(sdp));
            call.agreed = Some(sdp.to_owned());
            if reoffer.is_invite() {
                let wants_answer = !reoffer.has_offer;
                call.ok = Some(PendingOk::new(now, reoffer.key.clone(), reoffer.meta.cseq, false, wants_answer));
            }
        }
        if reoffer.meta.method != Method::Prack && self.calls.get(&id).is_some_and(crate::call::Call::is_up) {
            self.answer_session(now, id, &reoffer.request, &mut response);
        }
        self.respond(now, &reoffer.key, response);
        self.release_answer(now, id);
        self.go_on(now, id);
        Ok(())
    }

    /// Refuses what the far end offered last, because the call ends; false if it offered nothing.
    pub(super) fn refuse_reoffer(&mut self, now: Instant, id: CallId, status: u16) -> bool {
        let Some(reoffer) = self.calls.get_mut(&id).and_then(|c| c.reoffer.take()) else { return false };
        let mut response = self.call_response(id, &reoffer.request, status, &reoffer.key);
        if status == 488 {
            response.headers.push("Accept", SDP);
        }
        self.respond(now, &reoffer.key, response);
        self.refresh_call(id);
        true
    }

    /// Refuses what the far end offered last, and does what has waited for that; false if it offered nothing.
    pub(super) fn decline_reoffer(&mut self, now: Instant, id: CallId, status: u16) -> bool {
        let refused = self.refuse_reoffer(now, id, status);
        self.release_answer(now, id);
        self.go_on(now, id);
        refused
    }
}
