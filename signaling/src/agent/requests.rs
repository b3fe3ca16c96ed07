//! Requests of ours within a dialog: numbered, sent, and what their answers mean for the call.

use std::time::{Duration, Instant};

use super::{
    UserAgent, limits,
    outgoing::{ALLOW, Lost, Outgoing, Owner},
};
use crate::{
    call::{Call, ClientKey},
    dialog::Dialog,
    error::SignalingError,
    event::{CallId, EndCause, Event},
    message::{Headers, Meta, Method, Request, Response, reason_phrase},
};

/// The extensions that are spoken here (RFC 3262, 4028, 3891, 4488), as the Supported header says.
pub(super) const SUPPORTED: &str = "100rel, timer, replaces, norefersub";

/// What a request of ours within a dialog is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// A re-INVITE or UPDATE.
    Offer,
    /// INFO.
    Info,
    /// REFER.
    Refer,
    /// The PRACK in the early dialog with this tag.
    Prack(String),
    /// A NOTIFY about the call that was made for a REFER. It bears that call's number, not the one of the call it goes to.
    Notify,
}

/// The header lists this option tag.
pub(super) fn has_option(headers: &Headers, name: &str, tag: &str) -> bool {
    headers.list(name).any(|t| t.eq_ignore_ascii_case(tag))
}

/// The header's number of seconds.
pub(super) fn seconds(headers: &Headers, name: &str) -> Option<u64> {
    let value = headers.get(name)?.trim_start();
    value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

impl UserAgent {
    /// What this agent answers to.
    pub(super) fn allow(&self) -> String {
        match self.config.refer {
            super::ReferPolicy::Refuse => ALLOW.to_owned(),
            super::ReferPolicy::Ask => format!("{ALLOW}, REFER"),
        }
    }

    /// Puts in what we can do.
    pub(super) fn add_abilities(&self, headers: &mut Headers) {
        headers.push("Allow", self.allow());
        headers.push("Supported", SUPPORTED);
    }

    /// Sends a request of a call's established dialog.
    pub(super) fn ask(&mut self, now: Instant, id: CallId, ask: Ask, request: Request) {
        let Some(call) = self.calls.get(&id) else { return };
        let (account, dialog) = (call.account, call.dialog.clone());
        if let Some(dialog) = dialog {
            self.send_routed(now, &dialog, request, Owner::InDialog(id, ask), account);
        }
    }

    /// The dialog that a request belongs to; NOTIFYs find it by the call that they tell of.
    fn dialog_of(&mut self, id: CallId, ask: &Ask) -> Option<&mut Dialog> {
        match ask {
            Ask::Notify => {
                let referral = self.referrals.get_mut(&id)?;
                let call = self.calls.get_mut(&referral.from).and_then(|c| c.dialog.as_mut());
                call.or(referral.dialog.as_mut())
            }
            Ask::Prack(tag) => self.calls.get_mut(&id)?.dialog_with_mut(tag),
            _ => self.calls.get_mut(&id)?.dialog.as_mut(),
        }
    }

    /// The number for a request that is sent once more: in a dialog the next of the dialog, which other requests may have
    /// passed in the meantime.
    pub(super) fn next_cseq(&mut self, owner: &Owner, old: u32) -> u32 {
        let next = match owner {
            Owner::InDialog(id, ask) => self.dialog_of(*id, ask).map(Dialog::next_cseq),
            // early dialogs may have had PRACKs of their own
            Owner::Invite(id) => {
                let early = self.calls.get_mut(id).map(|c| c.early.iter_mut().map(|e| e.dialog.next_cseq()));
                early.and_then(Iterator::max)
            }
            _ => None,
        };
        let next = next.unwrap_or(0).max(old.saturating_add(1));
        if let Owner::InDialog(id, Ask::Refer) = owner
            && let Some(transfer) = self.calls.get_mut(id).and_then(|c| c.transfer.as_mut())
        {
            transfer.cseqs.1 = next;
        }
        next
    }

    /// Somebody waits for the answer to this request.
    pub(super) fn is_dialog_request_wanted(&self, id: CallId, ask: &Ask, key: &ClientKey) -> bool {
        let call = self.calls.get(&id).filter(|c| c.is_live());
        match ask {
            Ask::Notify => self.referrals.contains_key(&id),
            Ask::Offer => {
                call.and_then(|c| c.offering.sent.as_ref()).is_some_and(|sent| sent.key.as_ref() == Some(key))
            }
            _ => call.is_some(),
        }
    }

    pub(super) fn on_dialog_response(
        &mut self,
        now: Instant,
        (id, ask): (CallId, Ask),
        key: &ClientKey,
        response: Response,
        meta: Meta,
        refused: Option<String>,
    ) {
        let status = response.status;
        if ask == Ask::Offer {
            return self.on_offer_response(now, id, key, response, meta, refused);
        }
        // overtaken by a later request of ours, and so out of order
        if status < 200 || status == 500 && response.headers.get("Retry-After").is_some() && self.ask_again(now, key) {
            return;
        }
        let reason = refused.unwrap_or_else(|| words(&response));
        match ask {
            Ask::Info => self.on_info_response(now, id, status, &reason),
            Ask::Refer => self.on_refer_response(now, id, &response, &reason),
            Ask::Notify => self.on_notify_response(now, id, status),
            Ask::Prack(_) | Ask::Offer => {}
        }
        if matches!(status, 408 | 481) && matches!(ask, Ask::Info | Ask::Refer) {
            self.far_end_lost(now, id, Some(status), &reason);
        }
    }

    pub(super) fn on_dialog_lost(&mut self, now: Instant, id: CallId, ask: &Ask, why: Lost) {
        let timeout = why == Lost::Timeout;
        let reason = why.sentence("the other side does not answer any more");
        match ask {
            Ask::Offer => self.on_offer_lost(now, id, &reason),
            Ask::Info => self.on_info_response(now, id, 408, &reason),
            Ask::Refer => self.end_transfer(now, id, false, None, &reason),
            Ask::Notify => self.on_notify_response(now, id, 408),
            // the far end refuses its INVITE when no PRACK comes
            Ask::Prack(_) => {}
        }
        if timeout && matches!(ask, Ask::Offer | Ask::Info | Ask::Refer) {
            self.far_end_lost(now, id, None, &reason);
        }
    }

    /// The far end does not know the call any more, or does not answer: the dialog is over (RFC 5057 section 5.1, RFC 3261
    /// section 12.2.1.2).
    pub(super) fn far_end_lost(&mut self, now: Instant, id: CallId, status: Option<u16>, reason: &str) {
        if !self.calls.get(&id).is_some_and(Call::is_up) {
            return;
        }
        let cause = if status == Some(481) { EndCause::RemoteHangup } else { EndCause::Timeout };
        self.hang_up_with(now, id, cause, status, reason);
    }

    /// The same request with a new number; false if that was done often enough.
    fn ask_again(&mut self, now: Instant, key: &ClientKey) -> bool {
        let Some(client) = self.clients.get(key).filter(|c| c.reordered < limits::ORDER_TRIES) else { return false };
        let (owner, to) = (client.owner.clone(), client.to.clone());
        if !matches!(&owner, Owner::InDialog(id, ask) if self.is_dialog_request_wanted(*id, ask, key)) {
            return false;
        }
        let Some(client) = self.clients.get(key) else { return false };
        let mut again = Outgoing { to: Some(to), ..self.once_more(client) };
        again.reordered += 1;
        self.renumber(&mut again);
        self.send(now, again);
        true
    }

    /// Gives a request that is sent once more its new number.
    pub(super) fn renumber(&mut self, again: &mut Outgoing) {
        let old = again.request.headers.get("CSeq").and_then(|c| c.split(' ').next()?.parse::<u32>().ok()).unwrap_or(0);
        let cseq = self.next_cseq(&again.owner, old);
        again.request.headers.set("CSeq", format!("{cseq} {}", again.request.method));
    }

    /// Queues an INFO: one at a time, so that digits arrive in their order.
    pub(super) fn do_info(
        &mut self,
        now: Instant,
        id: CallId,
        content_type: String,
        body: String,
    ) -> Result<(), SignalingError> {
        let wrong = SignalingError::WrongState { call: id, action: "sent INFO" };
        let up = self.live_call(id)?.is_up();
        if content_type.is_empty() || content_type.chars().any(char::is_control) {
            let field = "the content type of an INFO".to_owned();
            return Err(SignalingError::BadConfig { field, why: "must not be empty or contain control characters" });
        }
        let Some(call) = self.calls.get_mut(&id).filter(|c| up && c.infos.len() < limits::INFOS) else {
            return Err(wrong);
        };
        call.infos.push_back((content_type, body));
        self.send_info(now, id);
        Ok(())
    }

    fn send_info(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_up() && !c.info_sent) else { return };
        let (Some((content_type, body)), Some(dialog)) = (call.infos.front().cloned(), call.dialog.as_mut()) else {
            return;
        };
        call.info_sent = true;
        let mut request = dialog.request(Method::Info);
        request.headers.push("Content-Type", content_type);
        request.body = body.into_bytes();
        self.ask(now, id, Ask::Info, request);
    }

    fn on_info_response(&mut self, now: Instant, id: CallId, status: u16, reason: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if std::mem::take(&mut call.info_sent) {
            call.infos.pop_front();
        }
        if status >= 300 {
            log::debug!("{id}: INFO was refused with {status} {reason}");
        }
        self.send_info(now, id);
    }

    /// Sends BYE and tells the application why.
    pub(super) fn hang_up_with(
        &mut self,
        now: Instant,
        id: CallId,
        cause: EndCause,
        status: Option<u16>,
        reason: &str,
    ) {
        let live = self.calls.get(&id).is_some_and(Call::is_live);
        self.refuse_reoffer(now, id, 487);
        self.close_transfer(id, reason);
        self.hang_up_dialog(now, id);
        if live {
            self.tell_ended(now, id, cause, status, reason);
        }
    }

    /// Pauses that two ends choose at random, so that they do not collide again.
    pub(super) fn random_pause(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        use rand::RngExt;
        // section 14.1 counts in units of 10 ms
        Duration::from_millis(self.rng.random_range(range) * 10)
    }

    /// 500 with the random Retry-After that RFC 3261 section 14.2 and RFC 3311 section 5.2 want.
    pub(super) fn not_now(&mut self, request: &Request) -> Response {
        let pause = self.random_pause(0..=1000).as_secs();
        let mut response = request.response(500);
        response.headers.push("Retry-After", pause.to_string());
        response
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

/// A response's own words, or the customary ones.
pub(super) fn words(response: &Response) -> String {
    match response.reason.trim() {
        "" => reason_phrase(response.status),
        reason => reason.to_owned(),
    }
}
