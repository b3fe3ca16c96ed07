//! Requests from outside: matched to what is under way, checked, answered by rule or handed to a call.
//!
//! Requests that make no call are answered without keeping anything (section 8.2.7): the To tag of such an answer is computed
//! from the request and a secret, so that it comes out the same when the request comes again. A flood of them costs no memory.

use std::{net::SocketAddr, time::Instant};

use sha2::{Digest, Sha256};

use super::{TimerKey, UserAgent, limits, replaces::unsupported};
use crate::{
    call::{Server, ServerKey, State},
    event::CallId,
    guard::Offence,
    message::{BadMessage, Meta, Method, Problem, Request, Response, Via, is_type},
    transaction::{OnTimeout, ServerState, ServerTransaction},
    transport::Peer,
};

impl UserAgent {
    pub(super) fn on_bad_message(&mut self, now: Instant, from: &Peer, bad: BadMessage) {
        if bad.problem == Problem::KeepAlive {
            return;
        }
        self.counters.malformed += 1;
        let ip = from.address.ip();
        self.offend(now, ip, if bad.problem == Problem::NotSip { Offence::NotSip } else { Offence::Malformed });
        if !self.guard.answers(now, ip) {
            return;
        }
        let (status, why) = match bad.problem {
            Problem::Bad(why) => (400, Some(why)),
            Problem::Version => (505, None),
            Problem::UriTooLong => (414, None),
            Problem::TooLarge => (513, None),
            Problem::KeepAlive | Problem::NotSip => return,
        };
        let Some((mut request, via)) = bad.answerable else { return };
        let to = mark_source(&mut request, &via, from);
        let mut response = request.response(status);
        if let Some(why) = why {
            response.reason = format!("Bad Request: {why}");
        }
        self.reply(&request, response, to);
    }

    /// A good request came.
    pub(super) fn on_request(&mut self, now: Instant, from: &Peer, mut request: Request, meta: Meta) {
        let to = mark_source(&mut request, &meta.via, from);
        match request.method {
            Method::Ack => return self.on_ack(now, &request, &meta),
            Method::Cancel => return self.on_cancel(now, from, request, &meta, to),
            _ => {}
        }
        let key = server_key(&request, &meta, &request.method);
        if let Some(server) = self.servers.get(&key) {
            if server.machine.on_repeated() && !server.response.is_empty() {
                let (to, bytes) = (server.to.clone(), server.response.clone());
                self.transmit_again(to, bytes);
            }
            return;
        }
        if meta.to_tag().is_empty() && !self.receives(now, from, &request, &to) {
            return;
        }
        if let Some(response) = self.objection(&request, &meta) {
            self.counters.refused += 1;
            return self.reply(&request, response, to);
        }
        if meta.to_tag().is_empty() {
            self.on_stranger(now, from, request, meta, key, to);
        } else {
            self.on_dialog_request(now, from, request, meta, key, to);
        }
    }

    /// What speaks against a request whatever it is about (section 8.2).
    fn objection(&self, request: &Request, meta: &Meta) -> Option<Response> {
        let with = |status, name: &str, value: &str| {
            let mut response = request.response(status);
            if !name.is_empty() {
                response.headers.push(name, value);
            }
            Some(response)
        };
        match request.method {
            Method::Other(_) => return with(501, "Allow", &self.allow()),
            Method::Register | Method::Subscribe | Method::Publish | Method::Message => {
                return with(405, "Allow", &self.allow());
            }
            _ => {}
        }
        if !request.uri.is_sip() && request.uri.scheme != "tel" {
            return with(416, "", "");
        }
        if meta.to_tag().is_empty() && self.merged.contains(&merge_key(meta)) {
            return with(482, "", "");
        }
        let unsupported = unsupported(&request.headers);
        if !unsupported.is_empty() {
            return with(420, "Unsupported", &unsupported.join(", "));
        }
        if request.headers.get("Content-Encoding").is_some_and(|e| !e.eq_ignore_ascii_case("identity")) {
            return with(415, "Accept-Encoding", "identity");
        }
        // an answer to an INVITE has a description, and the caller does not want one (RFC 4475 section 3.3.15)
        let wants = |t: &str| ["application/sdp", "application/*", "*/*"].iter().any(|ours| is_type(t, ours));
        if request.method == Method::Invite
            && request.headers.get("Accept").is_some()
            && !request.headers.list("Accept").any(wants)
        {
            return with(406, "Accept", "application/sdp");
        }
        None
    }

    /// A request outside any dialog.
    fn on_stranger(&mut self, now: Instant, from: &Peer, request: Request, meta: Meta, key: ServerKey, to: Peer) {
        if request.method == Method::Invite {
            return self.on_invite(now, from, request, meta, key, to);
        }
        let mut response = match request.method {
            Method::Options if self.closed => request.response(503),
            Method::Options => request.response(200),
            // whoever is called by REFER from a stranger pays for it (case 16)
            Method::Refer => request.response(603),
            // unasked news about a mailbox, as some registrars send them
            Method::Notify if is_about_mailbox(&request) => request.response(200),
            // BYE, INFO, UPDATE, PRACK, NOTIFY: to no dialog of ours
            _ => request.response(481),
        };
        if response.status == 200 {
            self.add_abilities(&mut response.headers);
            response.headers.push("Accept", "application/sdp");
        } else {
            self.counters.refused += 1;
        }
        self.reply(&request, response, to);
    }

    /// The request belongs to a dialog, or pretends to: without both tags right it is refused (case 13).
    fn on_dialog_request(&mut self, now: Instant, from: &Peer, request: Request, meta: Meta, key: ServerKey, to: Peer) {
        let acquainted = self.is_acquainted(now, from);
        let Some(id) = self.find_dialog(&meta).filter(|_| acquainted) else {
            if acquainted && self.ended.knows(now, &meta) {
                // both have hung up at once, or this is late: ended is what it wanted (section 15.1.2 gives 481 for the rest)
                let status = if request.method == Method::Bye { 200 } else { 481 };
                let response = request.response(status);
                return self.reply(&request, response, to);
            }
            self.offend(now, from.address.ip(), Offence::UnknownDialog);
            if !self.guard.answers(now, from.address.ip()) {
                self.counters.ignored += 1;
                return;
            }
            self.counters.refused += 1;
            let response = request.response(481);
            return self.reply(&request, response, to);
        };
        self.open_server(&key, id, &request, &meta, from, to);
        let dialog = self.calls.get_mut(&id).and_then(|c| c.dialog_with_mut(meta.caller_tag()));
        let in_order = dialog.is_some_and(|dialog| dialog.take_cseq(meta.cseq));
        if !in_order {
            let response = self.not_now(&request);
            return self.respond(now, &key, response);
        }
        self.in_dialog(now, id, request, meta, key);
    }

    /// The call whose dialog these tags name.
    pub(super) fn find_dialog(&self, meta: &Meta) -> Option<CallId> {
        let id = *self.dialogs.get(&(meta.call_id.clone(), meta.to_tag().to_owned()))?;
        self.calls.get(&id)?.dialog_with(meta.caller_tag()).map(|_| id)
    }

    fn on_ack(&mut self, now: Instant, request: &Request, meta: &Meta) {
        let key = server_key(request, meta, &Method::Invite);
        if let Some(server) = self.servers.get_mut(&key)
            && server.machine.state() != ServerState::Accepted
        {
            server.machine.on_ack(now);
            return self.refresh_server(&key);
        }
        if let Some(id) = self.find_dialog(meta) {
            self.on_ok_acknowledged(now, id, request, meta);
        }
    }

    fn on_cancel(&mut self, now: Instant, from: &Peer, request: Request, meta: &Meta, to: Peer) {
        let key = server_key(&request, meta, &Method::Invite);
        // a CANCEL takes the way of its INVITE; one from elsewhere is forged (case 13)
        let found = self.servers.get(&key).filter(|s| s.source.address.ip() == from.address.ip()).map(|s| s.call);
        let Some(id) = found else {
            if self.is_acquainted(now, from) && self.ended.knows(now, meta) {
                let response = request.response(200);
                return self.reply(&request, response, to);
            }
            if !self.receives(now, from, &request, &to) {
                return;
            }
            self.counters.refused += 1;
            let response = request.response(481);
            return self.reply(&request, response, to);
        };
        let mut response = request.response(200);
        if let Some(call) = self.calls.get(&id) {
            tag_response(&mut response, &call.local_tag);
        }
        self.reply(&request, response, to);
        self.on_cancelled(now, id, &key);
    }

    /// Keeps a request until it is answered and beyond.
    pub(super) fn open_server(
        &mut self,
        key: &ServerKey,
        call: CallId,
        request: &Request,
        meta: &Meta,
        source: &Peer,
        to: Peer,
    ) {
        let machine = ServerTransaction::new(request.method == Method::Invite, source.transport.is_reliable());
        let merge_key = meta.to_tag().is_empty().then(|| merge_key(meta));
        if let Some(merge) = &merge_key {
            self.merged.insert(merge.clone());
        }
        self.servers
            .insert(key.clone(), Server { machine, response: Vec::new(), to, source: source.clone(), call, merge_key });
    }

    /// Answers a request that was kept.
    pub(super) fn respond(&mut self, now: Instant, key: &ServerKey, mut response: Response) {
        response.headers.push("Server", self.config.software.clone());
        let Some(server) = self.servers.get_mut(key) else { return };
        if !server.machine.on_answer(now, response.status) {
            return;
        }
        server.response = response.to_bytes();
        let (to, bytes) = (server.to.clone(), server.response.clone());
        self.transmit(to, bytes);
        self.refresh_server(key);
    }

    /// Answers a request without keeping anything.
    pub(super) fn reply(&mut self, request: &Request, mut response: Response, to: Peer) {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        for name in ["Via", "Call-ID", "From"] {
            hash.update(request.headers.get(name).unwrap_or("").as_bytes());
        }
        let tag: String = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        tag_response(&mut response, &tag);
        if response.status == 503 {
            response.headers.push("Retry-After", limits::RETRY_AFTER_SECONDS);
        }
        response.headers.push("Server", self.config.software.clone());
        self.transmit(to, response.to_bytes());
    }

    pub(super) fn on_server_timer(&mut self, now: Instant, key: &ServerKey) {
        let Some(server) = self.servers.get_mut(key) else { return };
        match server.machine.on_timeout(now) {
            OnTimeout::Resend => {
                let (to, bytes) = (server.to.clone(), server.response.clone());
                self.transmit_again(to, bytes);
            }
            // a refusal that was never acknowledged: the caller is gone, and so is the call
            OnTimeout::TimedOut | OnTimeout::Nothing => {}
        }
        self.refresh_server(key);
    }

    pub(super) fn refresh_server(&mut self, key: &ServerKey) {
        let Some(server) = self.servers.get(key) else { return };
        let (state, at) = (server.machine.state(), server.machine.poll_timeout());
        if state == ServerState::Terminated
            && let Some(server) = self.servers.remove(key)
            && let Some(merge) = server.merge_key
        {
            self.merged.remove(&merge);
        }
        self.timers.set(TimerKey::Server(key.clone()), at);
    }

    /// A response of ours within a call: our tag, and for what makes or refreshes a dialog our Contact and the route.
    pub(super) fn call_response(&self, id: CallId, request: &Request, status: u16, key: &ServerKey) -> Response {
        let mut response = request.response(status);
        let Some(call) = self.calls.get(&id) else { return response };
        tag_response(&mut response, &call.local_tag);
        let refreshes = matches!(request.method, Method::Invite | Method::Update | Method::Refer);
        if refreshes && (101..300).contains(&status) {
            for route in request.headers.values("Record-Route") {
                response.headers.push("Record-Route", route);
            }
            if let Some(server) = self.servers.get(key) {
                let contact = self.contact(call.account, &server.source);
                response.headers.push("Contact", format!("<{contact}>"));
            }
            self.add_abilities(&mut response.headers);
        }
        response
    }

    /// Whether there is room for another call.
    pub(super) fn is_full(&self) -> bool {
        self.closed || self.calls.len() >= self.config.max_calls || self.events.len() >= limits::EVENTS
    }

    pub(super) fn is_waiting_for_answer(&self, id: CallId) -> bool {
        matches!(self.calls.get(&id).map(|c| &c.state), Some(State::Incoming(_)))
    }
}

fn is_about_mailbox(request: &Request) -> bool {
    let event = request.headers.get("Event").and_then(|e| e.split(';').next());
    event.is_some_and(|e| e.trim().eq_ignore_ascii_case("message-summary"))
}

/// Puts our tag into a response's To, if it has none.
pub(super) fn tag_response(response: &mut Response, tag: &str) {
    let Some(to) = response.headers.get("To").and_then(crate::message::NameAddr::read) else { return };
    if response.status > 100 && !to.params.has("tag") {
        response.headers.set("To", to.with_tag(tag).to_string());
    }
}

/// Notes the source in the top Via, and says where responses go: back by the connection (section 18.2.2), or to the source.
fn mark_source(request: &mut Request, via: &Via, from: &Peer) -> Peer {
    let mut marked = via.clone();
    marked.mark_source(from.address);
    let rest: Vec<_> =
        request.headers.get("Via").map(crate::message::split_list).into_iter().flatten().skip(1).collect();
    let value = std::iter::once(marked.to_string()).chain(rest.into_iter().map(str::to_owned)).collect::<Vec<_>>();
    request.headers.replace_first("Via", value.join(", "));
    let address = match from.connection {
        // when the connection is gone, a new one to where the far end says that it listens
        Some(_) => SocketAddr::new(from.address.ip(), via.port.unwrap_or_else(|| via.default_port())),
        None => via.response_address(from.address),
    };
    Peer { address, ..from.clone() }
}

/// Section 17.2.3. Without RFC 3261's cookie the branch means nothing, and what else a transaction has in common is taken.
fn server_key(request: &Request, meta: &Meta, method: &Method) -> ServerKey {
    let via = &meta.via;
    let port = via.port.unwrap_or(0);
    ServerKey(if via.has_cookie() {
        format!("{}|{}|{port}|{method}", via.branch(), via.host)
    } else {
        let (from, call_id, cseq) = (meta.caller_tag(), &meta.call_id, meta.cseq);
        format!("{}|{port}|{}|{from}|{call_id}|{cseq}|{method}|{}", via.host, via.branch(), request.uri)
    })
}

/// Section 8.2.2.2: the same request, whatever way it came.
fn merge_key(meta: &Meta) -> String {
    format!("{}|{}|{}|{}", meta.caller_tag(), meta.call_id, meta.cseq, meta.method)
}
