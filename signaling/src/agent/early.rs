//! Provisional answers to an INVITE of ours: one early dialog for each fork, PRACK for what comes reliably (RFC 3262), early
//! media.

use std::time::Instant;

use super::{
    UserAgent, limits,
    outgoing::Owner,
    requests::{Ask, has_option},
};
use crate::{
    call::{ClientKey, Early},
    dialog::Dialog,
    event::{CallId, Event},
    message::{Meta, Method, Request, Response, body_text},
};

const SDP: &str = "application/sdp";

impl UserAgent {
    /// 101 to 199, for a call that still wants an answer.
    pub(super) fn on_progress(&mut self, now: Instant, id: CallId, key: &ClientKey, response: &Response, meta: &Meta) {
        let sdp = body_text(&response.headers, &response.body, SDP);
        let reliable = has_option(&response.headers, "Require", "100rel");
        let rseq = response.headers.get("RSeq").and_then(|r| r.trim().parse::<u32>().ok()).filter(|_| reliable);
        let Some(invite) = self.clients.get(key).map(|c| &c.request) else { return };
        let Some(call) = self.calls.get_mut(&id) else { return };
        let tag = meta.to_tag();
        if call.early_with(tag).is_none() && call.early.len() < limits::FORKS {
            let dialog = Dialog::of_caller(invite, response, meta);
            call.early.push(Early { dialog, rseq: None, answer: None, settled: false });
        }
        if let Some(early) = call.early_with(tag) {
            if let Some(rseq) = rseq {
                // what is not the next one comes again, after the one that is missing (section 4)
                if early.rseq.is_some_and(|last| rseq != last.wrapping_add(1)) {
                    return;
                }
                early.rseq = Some(rseq);
            }
            if let Some(sdp) = &sdp
                && !early.settled
            {
                early.answer = Some(sdp.clone());
                early.settled = rseq.is_some();
            }
            early.dialog.refresh_target(&response.headers);
            if let Some(rseq) = rseq {
                self.send_prack(now, id, tag, rseq, meta);
            }
        }
        let words = super::requests::words(response);
        self.report(now, id, response.status, &words, false);
        self.tell(Event::Progress { call: id, status: response.status, sdp });
    }

    fn send_prack(&mut self, now: Instant, id: CallId, tag: &str, rseq: u32, meta: &Meta) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let account = call.account;
        let Some(early) = call.early_with(tag) else { return };
        let mut prack = early.dialog.request(Method::Prack);
        prack.headers.push("RAck", format!("{rseq} {} {}", meta.cseq, meta.method));
        let dialog = early.dialog.clone();
        self.send_routed(now, &dialog, prack, Owner::InDialog(id, Ask::Prack(tag.to_owned())), account);
    }

    /// The dialog of a 2xx, and the answer that its fork has given before: the early one goes on, or there was none.
    pub(super) fn confirmed(
        &mut self,
        id: CallId,
        invite: &Request,
        response: &Response,
        meta: &Meta,
    ) -> (Dialog, Option<String>) {
        let fresh = Dialog::of_caller(invite, response, meta);
        let Some(call) = self.calls.get_mut(&id) else { return (fresh, None) };
        // a tag of a response before RFC 3261 may be missing
        let place = |tag: &str| call.early.iter().position(|e| e.dialog.remote_tag() == tag);
        match place(meta.to_tag()) {
            Some(i) => {
                let mut early = call.early.swap_remove(i);
                early.dialog.confirm(response);
                (early.dialog, early.answer)
            }
            None => {
                let answer = place("").map(|i| call.early.swap_remove(i)).and_then(|e| e.answer);
                (fresh, answer)
            }
        }
    }
}
