//! Being sent to somebody else: REFER to us, the call that it makes, and the NOTIFYs that tell of it (RFC 3515).
//!
//! Off unless the configuration says otherwise, and then the application decides about each one (case 16). What must hold:
//! every REFER that was taken is told a last word, with `terminated`, whatever became of the call; one NOTIFY is under way at
//! a time, and of what happens meanwhile only the newest is told.

use std::time::Instant;

use super::{ReferPolicy, UserAgent, limits, outgoing::Owner, replaces, requests::Ask, transfer};
use crate::{
    call::{Referral, Referred, ServerKey},
    dialog::Dialog,
    error::SignalingError,
    event::{CallId, Dial, EndCause, Event},
    message::{Meta, Method, NameAddr, Request, reason_phrase},
};

impl UserAgent {
    /// A REFER within the dialog.
    pub(super) fn on_refer(&mut self, now: Instant, id: CallId, request: Request, meta: &Meta, key: ServerKey) {
        let mut values = request.headers.list("Refer-To");
        let target = values.next().and_then(NameAddr::read).map(|to| to.uri);
        let alone = values.next().is_none();
        drop(values);
        let target = target.filter(|uri| alone && uri.params.get("method").is_none_or(|m| m == "INVITE"));
        let up = self.calls.get(&id).is_some_and(|c| c.is_up());
        let refusal = match (&target, self.config.refer) {
            (_, ReferPolicy::Refuse) => Some(request.response(603)),
            (None, _) => Some(request.response(400)),
            _ if !up => Some(self.not_now(&request)),
            (Some(uri), _) if !uri.is_sip() && uri.scheme != "tel" => Some(request.response(416)),
            _ if self.calls.get(&id).is_some_and(|c| c.referred.is_some()) => Some(self.not_now(&request)),
            _ => None,
        };
        if let Some(response) = refusal {
            return self.respond(now, &key, response);
        }
        let Some(mut uri) = target else { return };
        let replaces = uri.headers.take().as_deref().and_then(replaces::of_uri_headers);
        let to = uri.to_string();
        let referred_by = request.headers.get("Referred-By").filter(|v| v.len() <= 1024).map(str::to_owned);
        let Some(call) = self.calls.get_mut(&id) else { return };
        let deadline = now + limits::REOFFER;
        self.events.push_back(Event::TransferRequested {
            call: id,
            to: to.clone(),
            replaces: replaces.is_some(),
            referred_by: referred_by.as_deref().and_then(NameAddr::read).map(|by| by.uri.to_string()),
        });
        call.referred = Some(Referred { key, request, cseq: meta.cseq, to, replaces, referred_by, deadline });
        self.refresh_call(id);
    }

    pub(super) fn do_accept_transfer(&mut self, now: Instant, id: CallId, sdp: String) -> Result<(), SignalingError> {
        let referred = self.take_referred(id)?;
        let account = self.calls.get(&id).and_then(|c| c.account);
        let name = account.and_then(|a| self.accounts.get(a)).map(|a| a.config.name.clone());
        let dial = Dial { account: name, to: referred.to.clone(), sdp, ..Dial::default() };
        let mut more = Vec::new();
        if let Some(replaces) = &referred.replaces {
            more.push(("Replaces", replaces.clone()));
            more.push(("Require", "replaces".to_owned()));
        }
        if let Some(by) = &referred.referred_by {
            more.push(("Referred-By", by.clone()));
        }
        let quiet = transfer::wants_no_news(&referred.request);
        // the new call may fail at once; that is then told as its end is
        let new_call = match self.prepare_call(now, &dial, &more) {
            Ok(prepared) => prepared,
            Err(e) => {
                let response = self.call_response(id, &referred.request, 603, &referred.key);
                self.respond(now, &referred.key, response);
                return Err(e);
            }
        };
        let mut response = self.call_response(id, &referred.request, 202, &referred.key);
        if quiet {
            response.headers.push("Refer-Sub", "false");
        }
        self.respond(now, &referred.key, response);
        let number = new_call.id;
        if let Some(call) = self.calls.get_mut(&id).filter(|_| !quiet) {
            call.refers += 1;
            let event_id = (call.refers > 1).then_some(referred.cseq);
            let referral = Referral { from: id, dialog: None, account, id: event_id, busy: false, next: None };
            self.referrals.insert(number, referral);
        }
        self.tell(Event::Transferring { call: id, new_call: number });
        self.report(now, number, 100, "Trying", false);
        self.start_call(now, new_call);
        Ok(())
    }

    pub(super) fn do_reject_transfer(&mut self, now: Instant, id: CallId, status: u16) -> Result<(), SignalingError> {
        if !(300..=699).contains(&status) {
            return Err(SignalingError::BadStatus(status));
        }
        let referred = self.take_referred(id)?;
        let response = self.call_response(id, &referred.request, status, &referred.key);
        self.respond(now, &referred.key, response);
        Ok(())
    }

    fn take_referred(&mut self, id: CallId) -> Result<Referred, SignalingError> {
        self.live_call(id)?;
        let referred = self.calls.get_mut(&id).and_then(|c| c.referred.take());
        self.refresh_call(id);
        referred.ok_or(SignalingError::WrongState { call: id, action: "transferred as it was asked" })
    }

    /// The application has not decided, or the call is over.
    pub(super) fn refuse_referred(&mut self, now: Instant, id: CallId) {
        if let Some(referred) = self.calls.get_mut(&id).and_then(|c| c.referred.take()) {
            self.respond(now, &referred.key, referred.request.response(603));
            self.refresh_call(id);
        }
    }

    /// News of a call, for whoever has sent us to make it. `last`: there will be no more.
    pub(super) fn report(&mut self, now: Instant, new_call: CallId, status: u16, reason: &str, last: bool) {
        let Some(referral) = self.referrals.get_mut(&new_call) else { return };
        if referral.next.as_ref().is_some_and(|(_, _, last)| *last) {
            return;
        }
        referral.next = Some((status, reason.to_owned(), last));
        self.send_notify(now, new_call);
    }

    /// The call is over without having been answered; why, as a status.
    pub(super) fn report_end(&mut self, now: Instant, new_call: CallId, cause: EndCause, status: Option<u16>) {
        let status = status.unwrap_or(match cause {
            EndCause::Timeout | EndCause::NoAnswer => 408,
            EndCause::LocalHangup | EndCause::Cancelled => 487,
            _ => 503,
        });
        self.report(now, new_call, status.max(300), &reason_phrase(status), true);
    }

    fn send_notify(&mut self, now: Instant, new_call: CallId) {
        let expires = self.config.ring_limit.as_secs();
        let Some(referral) = self.referrals.get_mut(&new_call).filter(|r| !r.busy) else { return };
        let Some((status, reason, last)) = referral.next.take() else { return };
        let dialog = self.calls.get_mut(&referral.from).and_then(|c| c.dialog.as_mut());
        let Some(dialog) = dialog.or(referral.dialog.as_mut()) else {
            self.referrals.remove(&new_call);
            return;
        };
        let mut request = dialog.request(Method::Notify);
        let route = dialog.clone();
        let event = referral.id.map_or("refer".to_owned(), |id| format!("refer;id={id}"));
        request.headers.push("Event", event);
        let state = if last { "terminated;reason=noresource".to_owned() } else { format!("active;expires={expires}") };
        request.headers.push("Subscription-State", state);
        request.headers.push("Content-Type", "message/sipfrag;version=2.0");
        request.body = format!("SIP/2.0 {status} {reason}\r\n").into_bytes();
        let account = referral.account;
        let owner = if last { Owner::Nobody } else { Owner::InDialog(new_call, Ask::Notify) };
        referral.busy = true;
        if last {
            self.referrals.remove(&new_call);
        }
        self.send_routed(now, &route, request, owner, account);
    }

    pub(super) fn on_notify_response(&mut self, now: Instant, new_call: CallId, status: u16) {
        let Some(referral) = self.referrals.get_mut(&new_call) else { return };
        referral.busy = false;
        if status == 481 {
            // the subscription is gone; the call itself is another matter (RFC 5057)
            self.referrals.remove(&new_call);
            return;
        }
        self.send_notify(now, new_call);
    }

    /// A call is over, but what was asked in its dialog goes on to be told there.
    pub(super) fn keep_for_referrals(&mut self, id: CallId, dialog: &Dialog) {
        for referral in self.referrals.values_mut().filter(|r| r.from == id) {
            referral.dialog = Some(dialog.clone());
        }
    }
}
