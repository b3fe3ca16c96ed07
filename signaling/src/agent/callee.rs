//! Calls from outside, and what the far end asks for during any call.

use std::time::{Duration, Instant};

use super::{UserAgent, limits};
use crate::{
    call::{Call, IncomingInvite, PendingOk, Reoffer, ServerKey, State},
    dialog::Dialog,
    error::SignalingError,
    event::{CallId, EndCause, Event},
    message::{Meta, Method, Request, Response, body_text},
    sdp::LocalSession,
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
            None
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
        });
        let session = LocalSession::new(self.session_number());
        let call = Call {
            id,
            account,
            call_id: meta.call_id.clone(),
            local_tag,
            dialog,
            session,
            early_answer: None,
            ok: None,
            reoffer: None,
            addresses: Vec::new(),
            limit: Some(now + self.config.ring_limit),
            state: State::Incoming(Box::new(IncomingInvite { key, request, meta, has_offer: offer.is_some() })),
        };
        self.calls.insert(id, call);
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

    pub(super) fn do_ring(&mut self, now: Instant, id: CallId) -> Result<(), SignalingError> {
        let (key, request) = self.incoming(id, "ringing")?;
        let response = self.call_response(id, &request, 180, &key);
        self.respond(now, &key, response);
        Ok(())
    }

    pub(super) fn do_answer(&mut self, now: Instant, id: CallId, sdp: &str) -> Result<(), SignalingError> {
        let (key, request) = self.incoming(id, "answered")?;
        let mut response = self.call_response(id, &request, 200, &key);
        let Some(call) = self.calls.get_mut(&id) else { return Err(SignalingError::NoSuchCall(id)) };
        let State::Incoming(invite) = std::mem::replace(&mut call.state, State::Up) else { return Ok(()) };
        put_sdp(&mut response, &call.session.stamp(sdp));
        call.ok = Some(PendingOk::new(now, key.clone(), invite.meta.cseq, true, !invite.has_offer));
        call.limit = None;
        self.respond(now, &key, response);
        self.refresh_call(id);
        Ok(())
    }

    pub(super) fn do_reject(&mut self, now: Instant, id: CallId, status: u16) -> Result<(), SignalingError> {
        if !(300..=699).contains(&status) {
            return Err(SignalingError::BadStatus(status));
        }
        let (key, request) = self.incoming(id, "rejected")?;
        let response = self.call_response(id, &request, status, &key);
        self.respond(now, &key, response);
        self.end(id, EndCause::LocalHangup, Some(status), "we refused the call");
        Ok(())
    }

    fn incoming(&self, id: CallId, action: &'static str) -> Result<(ServerKey, Request), SignalingError> {
        match self.live_call(id)?.state {
            State::Incoming(ref invite) => Ok((invite.key.clone(), invite.request.clone())),
            _ => Err(SignalingError::WrongState { call: id, action }),
        }
    }

    /// The caller gave up. Too late if we have answered.
    pub(super) fn on_cancelled(&mut self, now: Instant, id: CallId, key: &ServerKey) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.reoffer.as_ref().is_some_and(|r| r.key == *key) {
            self.refuse_reoffer(now, id, 487);
            return;
        }
        let request = match &call.state {
            State::Incoming(invite) if invite.key == *key => invite.request.clone(),
            _ => return,
        };
        let response = self.call_response(id, &request, 487, key);
        self.respond(now, key, response);
        self.end(id, EndCause::Cancelled, None, "the caller gave up");
    }

    /// A request of the far end that is in order.
    pub(super) fn in_dialog(&mut self, now: Instant, id: CallId, request: Request, meta: Meta, key: ServerKey) {
        let plain = |status| request.response(status);
        match request.method {
            Method::Bye => {
                self.respond(now, &key, plain(200));
                self.on_bye(now, id);
            }
            Method::Options => {
                let mut response = self.call_response(id, &request, 200, &key);
                response.headers.push("Allow", super::outgoing::ALLOW);
                response.headers.push("Accept", SDP);
                self.respond(now, &key, response);
            }
            Method::Info => self.on_info(now, id, &request, &key),
            Method::Invite | Method::Update => self.on_reoffer(now, id, request, meta, key),
            _ => {
                let mut response = plain(405);
                response.headers.push("Allow", super::outgoing::ALLOW);
                self.respond(now, &key, response);
            }
        }
    }

    fn on_bye(&mut self, now: Instant, id: CallId) {
        if self.is_waiting_for_answer(id)
            && let Ok((key, request)) = self.incoming(id, "ended")
        {
            let response = self.call_response(id, &request, 487, &key);
            self.respond(now, &key, response);
            return self.end(id, EndCause::Cancelled, None, "the caller gave up");
        }
        self.refuse_reoffer(now, id, 487);
        self.end(id, EndCause::RemoteHangup, None, "the other side hung up");
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

    /// A re-INVITE or UPDATE.
    fn on_reoffer(&mut self, now: Instant, id: CallId, request: Request, meta: Meta, key: ServerKey) {
        let offer = body_text(&request.headers, &request.body, SDP);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let busy = call.reoffer.is_some() || (call.ok.is_some() && request.method == Method::Invite);
        let up = matches!(call.state, State::Up);
        if busy || !up {
            let mut response = request.response(if up { 491 } else { 500 });
            response.headers.push("Retry-After", "2");
            return self.respond(now, &key, response);
        }
        if !request.body.is_empty() && offer.is_none() {
            let mut response = request.response(415);
            response.headers.push("Accept", SDP);
            return self.respond(now, &key, response);
        }
        if let Some(dialog) = &mut call.dialog {
            dialog.refresh_target(&request);
        }
        if offer.is_none() && request.method == Method::Update {
            // only the target, or a session timer
            let response = self.call_response(id, &request, 200, &key);
            return self.respond(now, &key, response);
        }
        let trying = request.response(100);
        let invite = request.method == Method::Invite;
        call.reoffer = Some(Reoffer {
            key: key.clone(),
            request,
            meta,
            has_offer: offer.is_some(),
            deadline: now + limits::REOFFER,
        });
        if invite {
            self.respond(now, &key, trying);
        }
        self.events.push_back(Event::Reoffer { call: id, sdp: offer });
        self.refresh_call(id);
    }

    pub(super) fn do_answer_reoffer(&mut self, now: Instant, id: CallId, sdp: &str) -> Result<(), SignalingError> {
        let wrong = SignalingError::WrongState { call: id, action: "given other media" };
        self.live_call(id)?;
        let Some(reoffer) = self.calls.get_mut(&id).and_then(|c| c.reoffer.take()) else { return Err(wrong) };
        let mut response = self.call_response(id, &reoffer.request, 200, &reoffer.key);
        if let Some(call) = self.calls.get_mut(&id) {
            put_sdp(&mut response, &call.session.stamp(sdp));
            if reoffer.is_invite() {
                let wants_answer = !reoffer.has_offer;
                call.ok = Some(PendingOk::new(now, reoffer.key.clone(), reoffer.meta.cseq, false, wants_answer));
            }
        }
        self.respond(now, &reoffer.key, response);
        self.refresh_call(id);
        Ok(())
    }

    /// Refuses what the far end offered last; false if it offered nothing.
    pub(super) fn refuse_reoffer(&mut self, now: Instant, id: CallId, status: u16) -> bool {
        let Some(reoffer) = self.calls.get_mut(&id).and_then(|c| c.reoffer.take()) else { return false };
        let response = self.call_response(id, &reoffer.request, status, &reoffer.key);
        self.respond(now, &reoffer.key, response);
        self.refresh_call(id);
        true
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
            self.events.push_back(Event::Answered { call: id, sdp: answer });
        } else if let Some(sdp) = answer {
            self.events.push_back(Event::ReofferAnswered { call: id, sdp });
        }
        self.refresh_call(id);
    }

    pub(super) fn on_call_timer(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.limit.is_some_and(|l| now >= l) {
            call.limit = None;
            self.on_limit(now, id);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        if call.reoffer.as_ref().is_some_and(|r| now >= r.deadline) {
            self.refuse_reoffer(now, id, 488);
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(ok) = &mut call.ok {
            if now >= ok.deadline {
                // case 33
                call.ok = None;
                let live = call.is_live();
                self.hang_up_dialog(now, id);
                if live {
                    let waited = TIMEOUT.as_secs();
                    let reason = format!("our answer was not acknowledged within {waited} s");
                    self.events.push_back(Event::Ended { call: id, cause: EndCause::Timeout, status: None, reason });
                }
            } else if now >= ok.resend.at {
                ok.resend.again(now);
                let again = self.servers.get(&ok.key).map(|s| (s.to.clone(), s.response.clone()));
                if let Some((to, bytes)) = again {
                    self.transmit_again(to, bytes);
                }
            }
        }
        self.refresh_call(id);
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
