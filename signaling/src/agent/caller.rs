//! Calls of ours until they are answered, and the end of calls of either kind.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    UserAgent, limits,
    names::Hop,
    outgoing::{Fork, Lost, Outgoing, Owner},
    requests::words,
};
use crate::{
    call::{Call, ClientKey, State},
    dialog::MAX_FORWARDS,
    error::SignalingError,
    event::{CallId, Dial, EndCause, Event},
    message::{Meta, Method, NameAddr, Request, Response, Uri, body_text, escape_user},
    sdp::LocalSession,
    transaction::{ClientState, TIMEOUT},
};

const SDP: &str = "application/sdp";

/// Whose calls show nobody's name (RFC 3323 section 4.1.1.3).
const ANONYMOUS_HOST: &str = "anonymous.invalid";

/// What the application may not write: it is the user agent's, and two of it would confuse.
const RESERVED: [&str; 31] = [
    "Via",
    "From",
    "To",
    "Call-ID",
    "CSeq",
    "Contact",
    "Max-Forwards",
    "Route",
    "Record-Route",
    "Content-Type",
    "Content-Length",
    "Content-Encoding",
    "Allow",
    "Supported",
    "Require",
    "Proxy-Require",
    "Session-Expires",
    "Min-SE",
    "Authorization",
    "Proxy-Authorization",
    "User-Agent",
    "Replaces",
    "Refer-To",
    "Referred-By",
    "RSeq",
    "RAck",
    "Event",
    "Expires",
    "Unsupported",
    "Subscription-State",
    "Privacy",
];

/// A call of ours before its INVITE is sent.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) id: CallId,
    invite: Outgoing,
}

/// The application's headers, if they can stand in an INVITE (case 45).
fn checked_headers(headers: &[(String, String)]) -> Result<impl Iterator<Item = (&str, &str)>, SignalingError> {
    let bad = |name: &str, why| SignalingError::BadConfig { field: format!("header {name:?}"), why };
    if headers.len() > limits::OWN_HEADERS {
        return Err(bad("", "stands beside too many others"));
    }
    for (name, value) in headers {
        let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let full = crate::message::full_name(name);
        if !token || name.len() + value.len() > limits::OWN_HEADER_BYTES {
            return Err(bad(name, "is no name of a header, or too long"));
        }
        if RESERVED.iter().any(|r| r.eq_ignore_ascii_case(full)) {
            return Err(bad(name, "is written by the user agent itself"));
        }
        if value.chars().any(char::is_control) {
            return Err(bad(name, "contains control characters"));
        }
    }
    Ok(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// The address names a transport that is not spoken here.
fn bad_transport(to: &str) -> SignalingError {
    SignalingError::BadDestination { to: to.to_owned(), why: "its transport is none of udp, tcp and tls" }
}

impl UserAgent {
    pub(super) fn do_dial(&mut self, now: Instant, dial: &Dial) -> Result<CallId, SignalingError> {
        let prepared = self.prepare_call(now, dial, &[])?;
        let id = prepared.id;
        self.start_call(now, prepared);
        Ok(id)
    }

    pub(super) fn start_call(&mut self, now: Instant, prepared: Prepared) {
        self.send(now, prepared.invite);
    }

    /// Makes a call, up to the INVITE that is to be sent; `more` are headers of the user agent's own.
    pub(super) fn prepare_call(
        &mut self,
        now: Instant,
        dial: &Dial,
        more: &[(&str, String)],
    ) -> Result<Prepared, SignalingError> {
        if self.is_full() {
            return Err(SignalingError::TooManyCalls(self.calls.len()));
        }
        let account = match &dial.account {
            None => None,
            Some(name) => Some(
                self.accounts
                    .iter()
                    .position(|a| a.config.name == *name)
                    .ok_or_else(|| SignalingError::NoSuchAccount(name.clone()))?,
            ),
        };
        let uri = self.destination(&dial.to, account)?;
        let proxied = account.and_then(|a| self.accounts.get(a)).filter(|a| !a.config.proxies.is_empty());
        let (hop, backups) = match proxied {
            Some(account) => account.ways(),
            None => {
                let mut hop = Hop::of_uri(&uri).ok_or(bad_transport(&dial.to))?;
                // the account's own host is reached as the account is
                let own = account.and_then(|a| self.accounts.get(a)).filter(|a| a.domain.host == hop.host);
                hop.transport = hop.transport.or(own.and_then(|a| a.domain.transport));
                (hop, VecDeque::new())
            }
        };

        let own_headers = checked_headers(&dial.headers)?;
        let longest = self.permit(now, &uri)?;
        let id = self.new_call_id();
        let (call_id, local_tag) = (self.random_token(), self.random_token());
        let mut session = LocalSession::new(self.session_number());
        let mut request = Request::new(Method::Invite, uri.clone());
        if let Some(route) = account.and_then(|a| self.accounts.get(a)?.preloaded_route()) {
            request.headers.push("Route", route);
        }
        request.headers.push("Max-Forwards", MAX_FORWARDS);
        let own = self.own_address(account, &hop);
        let mut from =
            if dial.privacy { NameAddr::new(Uri::sip(Some("anonymous"), ANONYMOUS_HOST, None)) } else { own.clone() };
        from.display = if dial.privacy { Some("Anonymous".into()) } else { dial.display_name.clone() };
        request.headers.push("From", from.with_tag(&local_tag).to_string());
        request.headers.push("To", NameAddr::new(uri).to_string());
        request.headers.push("Call-ID", call_id.clone());
        request.headers.push("CSeq", "1 INVITE");
        self.add_abilities(&mut request.headers);
        self.ask_session(&mut request.headers);
        if dial.privacy {
            request.headers.push("Privacy", "id");
            request.headers.push("P-Preferred-Identity", own.to_string());
        }
        for (name, value) in more.iter().map(|(n, v)| (*n, v.as_str())).chain(own_headers) {
            request.headers.push(name, value);
        }
        request.headers.push("Content-Type", SDP);
        request.body = session.stamp(&dial.sdp).into_bytes();

        self.dialogs.insert((call_id.clone(), local_tag.clone()), id);
        let call = Call {
            session,
            agreed: Some(dial.sdp.clone()),
            outgoing: true,
            longest,
            limit: Some(now + self.config.ring_limit),
            ..Call::new(id, account, call_id, local_tag, State::Calling(None))
        };
        self.keep(id, call);
        self.refresh_call(id);
        let invite = Outgoing { backups, ..Outgoing::new(request, Owner::Invite(id), account, hop) };
        Ok(Prepared { id, invite })
    }

    /// Asks the outgoing guard (case 15); how long the call may last.
    pub(super) fn permit(&mut self, now: Instant, uri: &Uri) -> Result<Option<Duration>, SignalingError> {
        let Some(toll) = &mut self.toll else { return Ok(None) };
        let running = self.calls.values().filter(|call| call.outgoing && call.is_live()).count();
        Ok(toll.ask(now, &uri.to_string(), running)?.max_duration)
    }

    /// What is to be dialled, as the URI of a request.
    pub(super) fn destination(&self, to: &str, account: Option<usize>) -> Result<Uri, SignalingError> {
        let bad = |why| SignalingError::BadDestination { to: to.to_owned(), why };
        let text = to.trim();
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        // case 45
        if text.chars().any(|c| c.is_control() || "<>\"".contains(c)) {
            return Err(bad("it contains control characters, quotes or angle brackets"));
        }
        let lower = text.to_ascii_lowercase();
        let mut uri = if lower.starts_with("sip:") || lower.starts_with("sips:") {
            Uri::read(text).ok_or(bad("it is not a SIP URI"))?
        } else if text.contains('@') {
            Uri::read(&format!("sip:{text}")).ok_or(bad("it is not user@host"))?
        } else {
            let number = if lower.starts_with("tel:") { &text[4..] } else { text };
            let number = number.split(';').next().unwrap_or("");
            let account = account.and_then(|a| self.accounts.get(a)).ok_or(bad("a number needs an account"))?;
            let dialled: String = match number.chars().all(|c| c.is_ascii_digit() || "+*# -()./".contains(c)) {
                true => number.chars().filter(|c| !" -()./".contains(*c)).collect(),
                false => number.to_owned(),
            };
            if dialled.is_empty() || dialled.contains(char::is_whitespace) {
                return Err(bad("it is neither a number nor a name"));
            }
            Uri::sip(Some(&escape_user(&dialled)), &account.domain.host, account.domain.port)
        };
        if uri.host.is_empty() || Hop::of_uri(&uri).is_none() {
            return Err(bad_transport(to));
        }
        // headers and method in a URI would become parts of the request
        uri.headers = None;
        if let Some(account) = account.and_then(|a| self.accounts.get(a))
            && uri.port.is_none()
            && uri.host.eq_ignore_ascii_case(&account.domain.host)
        {
            uri.port = account.domain.port;
        }
        Ok(uri)
    }

    /// An answer to an INVITE of ours. `refused`: why its challenge, if it is one, was not answered.
    pub(super) fn on_invite_response(
        &mut self,
        now: Instant,
        id: CallId,
        key: &ClientKey,
        response: Response,
        meta: Meta,
        refused: Option<String>,
    ) {
        match response.status {
            100 => self.on_provisional(now, id, key),
            101..=199 => {
                self.on_provisional(now, id, key);
                if self.is_current_invite(id, key) {
                    self.on_progress(now, id, key, &response, &meta);
                }
            }
            200..=299 => self.on_ok(now, id, key, &response, &meta),
            status => {
                if self.is_cancelling(id, key) {
                    return self.remove_call(id);
                }
                // another try has taken its place
                if !self.is_current_invite(id, key) {
                    return;
                }
                if status == 422 && self.lengthen_session(now, id, key, &response)
                    || self.redirect(now, id, key, &response)
                {
                    return;
                }
                let challenged = self.clients.get(key).is_some_and(|c| c.tries > 0);
                let cause = EndCause::of_status(status, challenged);
                let reason = refused.unwrap_or_else(|| words(&response));
                self.end(now, id, cause, Some(status), &reason);
            }
        }
    }

    /// An INVITE that was given up, or that another try has replaced, is cancelled as soon as that may be done (section 9.1).
    fn on_provisional(&mut self, now: Instant, id: CallId, key: &ClientKey) {
        if !self.is_current_invite(id, key) {
            self.send_cancel(now, key);
        }
    }

    /// A 2xx: of the call, of another fork of it, of one we have given up, or one that came before (case 34).
    fn on_ok(&mut self, now: Instant, id: CallId, key: &ClientKey, response: &Response, meta: &Meta) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let tag = meta.to_tag().to_owned();
        if let Some(fork) = client.forks.iter().find(|f| f.tag == tag) {
            if let Some((to, bytes)) = fork.ack.clone() {
                self.transmit_again(to, bytes);
            }
            return;
        }
        if client.forks.len() >= limits::FORKS {
            return;
        }
        client.forks.push(Fork { tag: tag.clone(), ack: None });
        let account = client.account;
        let invite = client.request.clone();
        let (mut dialog, early_answer) = self.confirmed(id, &invite, response, meta);
        let ack = dialog.ack(meta.cseq);
        let owner = Owner::Ack { invite: key.clone(), tag };
        self.send_routed(now, &dialog, ack, owner, account);

        let current = self.is_current_invite(id, key);
        if let Some(call) = self.calls.get_mut(&id).filter(|_| current) {
            let sdp = body_text(&response.headers, &response.body, SDP).or(early_answer);
            call.state = State::Up;
            call.dialog = Some(dialog);
            call.limit = call.longest.map(|longest| now + longest);
            call.offering.tries = 0;
            self.on_session_answered(now, id, response);
            self.report(now, id, response.status, &words(response), true);
            self.tell(Event::Answered { call: id, sdp });
            return self.refresh_call(id);
        }
        let bye = dialog.request(Method::Bye);
        self.entomb(&dialog);
        self.send_routed(now, &dialog, bye, Owner::Nobody, account);
        if self.is_cancelling(id, key) {
            self.remove_call(id);
        }
    }

    pub(super) fn on_invite_lost(&mut self, now: Instant, id: CallId, why: Lost) {
        let Some(call) = self.calls.get(&id) else { return };
        match (&call.state, why) {
            (State::Calling(_), Lost::Network(reason)) => self.end(now, id, EndCause::Network, None, &reason),
            (State::Calling(_), Lost::Timeout) => {
                self.end(now, id, EndCause::Timeout, None, "nobody answered at that address");
            }
            (State::Cancelling(_), _) => self.remove_call(id),
            _ => {}
        }
    }

    pub(super) fn do_hangup(&mut self, now: Instant, id: CallId) -> Result<(), SignalingError> {
        self.live_call(id)?;
        self.give_up(now, id, 603, EndCause::LocalHangup, None, "we hung up");
        Ok(())
    }

    /// Ringing has taken too long, or the call itself.
    pub(super) fn on_limit(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        if matches!(call.state, State::Up) {
            let longest = call.longest.unwrap_or_default().as_secs();
            let reason = format!("the call has lasted for {longest} s, as long as a call may");
            self.give_up(now, id, 480, EndCause::TooLong, None, &reason);
        } else if call.is_live() {
            self.give_up(now, id, 480, EndCause::NoAnswer, None, "nobody answered in time");
        } else {
            self.remove_call(id);
        }
    }

    /// Ends a call from our side, whatever its state; `refusal` is what an unanswered caller is told.
    pub(super) fn give_up(
        &mut self,
        now: Instant,
        id: CallId,
        refusal: u16,
        cause: EndCause,
        status: Option<u16>,
        reason: &str,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match &call.state {
            State::Calling(None) => {}
            State::Calling(Some(key)) => {
                let key = key.clone();
                let proceeding = self.clients.get(&key).is_some_and(|c| c.machine.state() == ClientState::Proceeding);
                call.state = State::Cancelling(key.clone());
                // longer than the INVITE's own end, which comes first
                call.limit = Some(now + TIMEOUT * 2);
                if proceeding {
                    self.send_cancel(now, &key);
                }
                self.refuse_reoffer(now, id, 487);
                self.tell_ended(now, id, cause, status, reason);
                return self.refresh_call(id);
            }
            State::Incoming(invite) => {
                let (key, request) = (invite.key.clone(), invite.request.clone());
                let response = self.call_response(id, &request, refusal, &key);
                self.respond(now, &key, response);
                self.refuse_reoffer(now, id, 487);
            }
            State::Up => {
                let acknowledged = call.ok.as_ref().is_none_or(|ok| !ok.initial);
                if acknowledged {
                    return self.hang_up_with(now, id, cause, status, reason);
                }
                call.state = State::Closing;
                self.refuse_reoffer(now, id, 487);
                self.refuse_referred(now, id);
                self.tell_ended(now, id, cause, status, reason);
                return;
            }
            State::Cancelling(_) | State::Closing => return,
        }
        self.end(now, id, cause, status, reason);
    }

    /// Sends BYE and lets the call go, without a word to the application.
    pub(super) fn hang_up_dialog(&mut self, now: Instant, id: CallId) {
        self.refuse_referred(now, id);
        self.drop_offer(now, id);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let account = call.account;
        let dialog = call.dialog.clone();
        self.remove_call(id);
        if let Some(mut dialog) = dialog {
            let bye = dialog.request(Method::Bye);
            self.keep_for_referrals(id, &dialog);
            self.send_routed(now, &dialog, bye, Owner::Nobody, account);
        }
    }

    /// The call is over, and an INVITE of ours within it with it: one that was answered provisionally is cancelled.
    fn drop_offer(&mut self, now: Instant, id: CallId) {
        let sent = self.calls.get_mut(&id).and_then(|c| c.offering.sent.take());
        let Some(key) = sent.filter(|s| s.method == Method::Invite).and_then(|s| s.key) else { return };
        if self.clients.get(&key).is_some_and(|c| c.machine.state() == ClientState::Proceeding) {
            self.send_cancel(now, &key);
        }
    }

    /// Tells the application that a call is over, and lets it go.
    pub(super) fn end(&mut self, now: Instant, id: CallId, cause: EndCause, status: Option<u16>, reason: &str) {
        self.drop_offer(now, id);
        let live = self.calls.get(&id).is_some_and(Call::is_live);
        self.remove_call(id);
        if live {
            self.tell_ended(now, id, cause, status, reason);
        }
    }

    pub(super) fn tell_ended(&mut self, now: Instant, id: CallId, cause: EndCause, status: Option<u16>, reason: &str) {
        self.report_end(now, id, cause, status);
        self.events.push_back(Event::Ended { call: id, cause, status, reason: reason.to_owned() });
    }
}
