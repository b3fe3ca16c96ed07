//! Provisional answers of ours: 180, and 183 with early media, reliable where the caller can have it (RFC 3262).
//!
//! What must hold: one reliable response is without its PRACK at a time, and further ones wait; a call is not answered while
//! one that brought a description is; what a caller acknowledged is not described differently in the 200.

use std::time::Instant;

use super::{UserAgent, callee::put_sdp, limits, requests::has_option};
use crate::{
    call::{Call, Reoffer, ServerKey, State, Unacknowledged},
    error::SignalingError,
    event::{CallId, EndCause, Event},
    message::{Meta, Request, body_text},
    transaction::{Resend, TIMEOUT},
};

const SDP: &str = "application/sdp";

impl UserAgent {
    /// 180 or 183.
    pub(super) fn send_progress(
        &mut self,
        now: Instant,
        id: CallId,
        status: u16,
        sdp: Option<String>,
    ) -> Result<(), SignalingError> {
        let action = if status == 180 { "ringing" } else { "given early media" };
        let (key, request) = self.incoming(id, action)?;
        let requires = has_option(&request.headers, "Require", "100rel");
        let supports = requires || has_option(&request.headers, "Supported", "100rel");
        let has_offer = !request.body.is_empty();
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        if call.reliable.held.is_some() {
            return Err(SignalingError::WrongState { call: id, action });
        }
        // an offer must be reliable; and what is settled stays as it is
        let sdp = sdp.filter(|_| (has_offer || supports) && call.reliable.settled.is_none());
        let reliable = requires || supports && sdp.is_some();
        if reliable && call.reliable.pending.is_some() {
            if call.reliable.queue.len() >= limits::PROVISIONALS {
                return Err(SignalingError::WrongState { call: id, action });
            }
            call.reliable.queue.push_back((status, sdp));
            return Ok(());
        }
        let mut response = self.call_response(id, &request, status, &key);
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        if let Some(sdp) = &sdp {
            put_sdp(&mut response, &call.session.stamp(sdp));
        }
        if reliable {
            if call.reliable.rseq == 0 {
                // section 3: anywhere in the lower half, so that it can count up
                use rand::RngExt;
                call.reliable.rseq = self.rng.random_range(1..1 << 30);
            } else {
                call.reliable.rseq += 1;
            }
            response.headers.push("Require", "100rel");
            response.headers.push("RSeq", call.reliable.rseq.to_string());
        }
        self.respond(now, &key, response);
        let bytes = self.servers.get(&key).map(|s| s.response.clone()).unwrap_or_default();
        if let Some(call) = self.calls.get_mut(&id).filter(|_| reliable) {
            // unlike the 200, without a longest pause (section 3)
            let resend = Resend::start(now, TIMEOUT);
            call.reliable.pending = Some(Unacknowledged { bytes, resend, deadline: now + TIMEOUT, sdp });
        }
        self.refresh_call(id);
        Ok(())
    }

    /// PRACK: of the response that waits for one, or 481.
    pub(super) fn on_prack(&mut self, now: Instant, id: CallId, request: Request, meta: Meta, key: ServerKey) {
        let numbers = request.headers.get("RAck").and_then(read_rack);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let State::Incoming(invite) = &call.state else {
            return self.respond(now, &key, request.response(481));
        };
        let wanted = (call.reliable.rseq, invite.meta.cseq, "INVITE".to_owned());
        let has_offer = invite.has_offer;
        if call.reliable.pending.is_none() || numbers.as_ref() != Some(&wanted) {
            return self.respond(now, &key, request.response(481));
        }
        let body = body_text(&request.headers, &request.body, SDP);
        if !request.body.is_empty() && body.is_none() {
            let mut response = request.response(415);
            response.headers.push("Accept", SDP);
            return self.respond(now, &key, response);
        }
        let settled = call.reliable.pending.take().and_then(|p| p.sdp);
        let was_settled = settled.is_some();
        if was_settled {
            call.reliable.settled = settled.clone();
            call.agreed = settled;
        }
        match body {
            Some(answer) if was_settled && !has_offer => {
                call.reliable.answer = Some(answer.clone());
                self.respond(now, &key, request.response(200));
                self.tell(Event::ReofferAnswered { call: id, sdp: answer });
            }
            // a new offer, once the first is through (section 5); answered in the 200 to the PRACK
            Some(offer) if call.reliable.settled.is_some() && call.reoffer.is_none() => {
                let deadline = now + limits::REOFFER;
                call.reoffer = Some(Reoffer { key, request, meta, has_offer: true, deadline });
                self.tell(Event::Reoffer { call: id, sdp: Some(offer) });
            }
            Some(_) => self.respond(now, &key, request.response(488)),
            None => self.respond(now, &key, request.response(200)),
        }
        self.next_progress(now, id);
        self.release_answer(now, id);
        self.refresh_call(id);
    }

    fn next_progress(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        // the answer itself comes now, and what leads up to it is of no interest
        if call.reliable.held.is_some() {
            call.reliable.queue.clear();
        }
        if let Some((status, sdp)) = call.reliable.queue.pop_front() {
            // it was in order when it was queued
            let _ = self.send_progress(now, id, status, sdp);
        }
    }

    /// The answer to the call has to wait: for the PRACK of a description, or for an offer in early media to be answered.
    pub(super) fn must_hold_answer(&self, id: CallId) -> bool {
        let waits = |call: &Call| {
            call.reoffer.is_some() || call.reliable.pending.as_ref().is_some_and(|pending| pending.sdp.is_some())
        };
        self.calls.get(&id).is_some_and(waits)
    }

    /// Answers the call, if it was to be answered and nothing stands against it any more.
    pub(super) fn release_answer(&mut self, now: Instant, id: CallId) {
        if self.must_hold_answer(id) || !self.is_waiting_for_answer(id) {
            return;
        }
        if let Some(sdp) = self.calls.get_mut(&id).and_then(|c| c.reliable.held.take()) {
            // it waits for an answer, so answering cannot fail
            let _ = self.do_answer(now, id, &sdp);
        }
    }

    /// A reliable response goes out again, or is given up and the call with it (section 3).
    pub(super) fn on_reliable_timer(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let State::Incoming(invite) = &call.state else {
            call.reliable.pending = None;
            return;
        };
        let key = invite.key.clone();
        let Some(pending) = &mut call.reliable.pending else { return };
        if now >= pending.deadline {
            call.reliable.pending = None;
            let reason = "the caller has not acknowledged our early media";
            return self.give_up(now, id, 504, EndCause::Timeout, None, reason);
        }
        if now >= pending.resend.at {
            pending.resend.again(now);
            let bytes = pending.bytes.clone();
            if let Some(to) = self.servers.get(&key).map(|s| s.to.clone()) {
                self.transmit_again(to, bytes);
            }
        }
    }
}

/// RAck: the response's number, and number and method of what it answered.
fn read_rack(value: &str) -> Option<(u32, u32, String)> {
    let mut words = value.split_whitespace();
    let rack = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.to_owned());
    words.next().is_none().then_some(rack)
}
