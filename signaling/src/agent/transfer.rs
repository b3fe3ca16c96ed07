//! Sending the far end to somebody else: REFER, and what its NOTIFYs tell (RFC 3515, RFC 5589).
//!
//! What must hold: every transfer ends with one [`Event::TransferEnded`], by the far end's last word, its refusal, the end of
//! the call, or a limit; a NOTIFY that belongs to no REFER of ours changes nothing.

use std::time::{Duration, Instant};

use super::{
    UserAgent, limits, replaces,
    requests::{Ask, has_option},
};
use crate::{
    call::{ServerKey, Transfer},
    error::SignalingError,
    event::{CallId, EndCause, Event},
    message::{Method, NameAddr, Request, Response, Uri, body_text},
};

const SIPFRAG: &str = "message/sipfrag";

impl UserAgent {
    /// A blind transfer, or with `other` one to the far end of that call, whose place the new call takes.
    pub(super) fn do_transfer(&mut self, now: Instant, id: CallId, to: &str) -> Result<(), SignalingError> {
        let account = self.transferable(id)?;
        let uri = self.destination(to, account)?;
        self.send_refer(now, id, uri, None);
        Ok(())
    }

    pub(super) fn do_transfer_to(&mut self, now: Instant, id: CallId, other: CallId) -> Result<(), SignalingError> {
        self.transferable(id)?;
        let wrong = SignalingError::WrongState { call: other, action: "transferred to" };
        let call = self.live_call(other)?;
        let Some(dialog) = call.dialog.as_ref().filter(|_| call.is_up() && id != other) else { return Err(wrong) };
        // whoever is behind a provider is reached there; without one, the far end itself is all there is
        let mut uri = match call.account {
            Some(_) => dialog.remote_uri().clone(),
            None => dialog.target().clone(),
        };
        uri.headers = Some(format!("Replaces={}", replaces::escape(&dialog.replaces())));
        self.send_refer(now, id, uri, Some(other));
        Ok(())
    }

    /// The call's account, if it can be transferred now.
    fn transferable(&self, id: CallId) -> Result<Option<usize>, SignalingError> {
        let call = self.live_call(id)?;
        match call.is_up() && call.transfer.is_none() && call.ok.as_ref().is_none_or(|ok| !ok.initial) {
            true => Ok(call.account),
            false => Err(SignalingError::WrongState { call: id, action: "transferred" }),
        }
    }

    fn send_refer(&mut self, now: Instant, id: CallId, to: Uri, other: Option<CallId>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(dialog) = &mut call.dialog else { return };
        let mut request = dialog.request(Method::Refer);
        let cseq = dialog.last_cseq();
        request.headers.push("Refer-To", NameAddr::new(to).to_string());
        request.headers.push("Referred-By", NameAddr::new(dialog.local_uri().clone()).to_string());
        let deadline = now + limits::TRANSFER;
        call.transfer = Some(Transfer { other, cseqs: (cseq, cseq), accepted: false, deadline, last: None });
        self.add_abilities(&mut request.headers);
        self.ask(now, id, Ask::Refer, request);
        self.refresh_call(id);
    }

    pub(super) fn on_refer_response(&mut self, now: Instant, id: CallId, response: &Response, reason: &str) {
        let Some(transfer) = self.calls.get_mut(&id).and_then(|c| c.transfer.as_mut()) else { return };
        if response.status >= 300 {
            return self.end_transfer(now, id, false, Some(response.status), reason);
        }
        transfer.accepted = true;
        // RFC 4488: nothing more will be heard of it
        if response.headers.get("Refer-Sub").is_some_and(|v| v.trim().eq_ignore_ascii_case("false")) {
            self.end_transfer(now, id, true, Some(response.status), reason);
        }
    }

    /// A NOTIFY within the dialog.
    pub(super) fn on_notify(&mut self, now: Instant, id: CallId, request: &Request, key: &ServerKey) {
        let event = request.headers.get("Event").unwrap_or("");
        let (package, params) = event.split_once(';').unwrap_or((event, ""));
        let number = params.split(';').find_map(|p| p.trim().strip_prefix("id=")).map(str::parse::<u32>);
        let refer = package.trim().eq_ignore_ascii_case("refer");
        let known = self.calls.get(&id).filter(|_| refer).and_then(|c| c.transfer.as_ref()).is_some_and(|t| {
            let (first, last) = t.cseqs;
            match &number {
                None => true,
                Some(Ok(number)) => (first..=last).contains(number),
                Some(Err(_)) => false,
            }
        });
        if !known {
            let status = if refer { 481 } else { 489 };
            let mut response = request.response(status);
            if status == 489 {
                response.headers.push("Allow-Events", "refer");
            }
            return self.respond(now, key, response);
        }
        self.respond(now, key, request.response(200));
        self.on_transfer_news(now, id, request);
    }

    fn on_transfer_news(&mut self, now: Instant, id: CallId, request: &Request) {
        let state = request.headers.get("Subscription-State").unwrap_or("");
        let over = state.trim_start().get(..10).is_some_and(|s| s.eq_ignore_ascii_case("terminated"));
        let expires = state.split(';').find_map(|p| p.trim().strip_prefix("expires=")?.parse::<u64>().ok());
        let news = body_text(&request.headers, &request.body, SIPFRAG).and_then(|text| read_sipfrag(&text));
        let Some(transfer) = self.calls.get_mut(&id).and_then(|c| c.transfer.as_mut()) else { return };
        if let Some(expires) = expires {
            transfer.deadline = now + Duration::from_secs(expires).clamp(limits::SHORTEST_TRANSFER, limits::TRANSFER);
        }
        if let Some((status, reason)) = &news {
            transfer.last = Some((*status, reason.clone()));
            self.tell(Event::TransferProgress { call: id, status: *status, reason: reason.clone() });
        }
        match news {
            Some((status, reason)) if status >= 200 => {
                self.end_transfer(now, id, status < 300, Some(status), &reason);
            }
            _ if over => {
                let last = self.calls.get(&id).and_then(|c| c.transfer.as_ref()?.last.clone());
                let status = last.map(|(status, _)| status);
                self.end_transfer(now, id, false, status, "the other side does not say what became of it");
            }
            _ => self.refresh_call(id),
        }
    }

    /// The far end has had its last word about a transfer.
    pub(super) fn end_transfer(&mut self, now: Instant, id: CallId, accepted: bool, status: Option<u16>, reason: &str) {
        let Some(transfer) = self.calls.get_mut(&id).and_then(|c| c.transfer.take()) else { return };
        self.tell(Event::TransferEnded { call: id, accepted, status, reason: reason.to_owned() });
        self.refresh_call(id);
        if !accepted {
            return;
        }
        for gone in [Some(id), transfer.other].into_iter().flatten() {
            if self.live_call(gone).is_ok() {
                self.give_up(now, gone, 603, EndCause::Transferred, status, "transferred");
            }
        }
    }

    /// The call is over, and nothing more will be heard of its transfer. A far end that hung up after it had taken the
    /// REFER has gone where it was sent.
    pub(super) fn close_transfer(&mut self, id: CallId, reason: &str) -> bool {
        let Some(transfer) = self.calls.get_mut(&id).and_then(|c| c.transfer.take()) else { return false };
        let status = transfer.last.map(|(status, _)| status);
        let accepted = transfer.accepted;
        self.tell(Event::TransferEnded { call: id, accepted, status, reason: reason.to_owned() });
        accepted
    }

    /// A call of ours that somebody transfers to: it ends because its far end has the new call in its place.
    pub(super) fn is_transfer_target(&self, id: CallId) -> bool {
        self.calls.values().any(|c| c.transfer.as_ref().is_some_and(|t| t.accepted && t.other == Some(id)))
    }
}

/// The status line of a message fragment (RFC 3420).
fn read_sipfrag(text: &str) -> Option<(u16, String)> {
    let line = text.lines().find(|l| !l.trim().is_empty())?;
    let mut words = line.trim().splitn(3, ' ');
    let version = words.next()?;
    let status = words.next()?.parse().ok().filter(|s| (100..=699).contains(s))?;
    let reason: String = words.next().unwrap_or("").chars().filter(|c| !c.is_control()).take(128).collect();
    version.get(..4).is_some_and(|v| v.eq_ignore_ascii_case("SIP/")).then_some((status, reason))
}

/// The REFER wants no subscription (RFC 4488).
pub(super) fn wants_no_news(request: &Request) -> bool {
    request.headers.get("Refer-Sub").is_some_and(|v| v.trim().eq_ignore_ascii_case("false"))
        && (has_option(&request.headers, "Supported", "norefersub")
            || has_option(&request.headers, "Require", "norefersub"))
}
