//! Following redirections (section 8.1.3.4): off by default (case 14), a few places at most, none twice.

use std::time::Instant;

use super::{UserAgent, limits, names::Hop, outgoing::Outgoing, sessions};
use crate::{
    call::ClientKey,
    event::CallId,
    message::{NameAddr, Response, Uri},
};

impl UserAgent {
    /// The INVITE goes on to where a 3xx says, or to the next of the places that one said before; false if it does not.
    pub(super) fn redirect(&mut self, now: Instant, id: CallId, key: &ClientKey, response: &Response) -> bool {
        if !self.config.redirects {
            return false;
        }
        let Some(client) = self.clients.get(key) else { return false };
        let Some(call) = self.calls.get_mut(&id) else { return false };
        let redirect = &mut call.redirect;
        if (300..400).contains(&response.status) {
            let here = client.request.uri.to_string();
            if !redirect.seen.contains(&here) {
                redirect.seen.push(here);
            }
            for uri in contacts(response) {
                let text = uri.to_string();
                if redirect.seen.len() <= limits::REDIRECTS && !redirect.seen.contains(&text) {
                    redirect.seen.push(text);
                    redirect.targets.push_back(uri);
                }
            }
        } else if redirect.seen.is_empty() || response.status >= 600 {
            // not redirected at all, or one has answered for all
            return false;
        }
        while let Some(target) = self.calls.get_mut(&id).and_then(|c| c.redirect.targets.pop_front()) {
            if self.redirect_to(now, key, &target) {
                return true;
            }
        }
        false
    }

    fn redirect_to(&mut self, now: Instant, key: &ClientKey, target: &Uri) -> bool {
        let Some(client) = self.clients.get(key) else { return false };
        let Ok(uri) = self.destination(&target.to_string(), client.account) else { return false };
        // whoever redirects must not have us call what we may not call (case 14)
        if self.permit(now, &uri).is_err() {
            return false;
        }
        let Some(client) = self.clients.get(key) else { return false };
        let mut again = self.once_more(client);
        // a configured proxy stays in between; else the call goes where the URI says
        let proxied = client.account.and_then(|a| self.accounts.get(a)).is_some_and(|a| !a.config.proxies.is_empty());
        if !proxied {
            let Some(hop) = Hop::of_uri(&uri) else { return false };
            again.hop = hop;
            again.backups.clear();
        }
        again.request.uri = uri;
        self.send_afresh(now, again);
        true
    }

    /// 422: the INVITE again, for a session as long as the far end wants it (RFC 4028 section 7.4).
    pub(super) fn lengthen_session(&mut self, now: Instant, id: CallId, key: &ClientKey, response: &Response) -> bool {
        let Some(client) = self.clients.get(key) else { return false };
        let mut again = Outgoing { to: Some(client.to.clone()), ..self.once_more(client) };
        let wanted = sessions::lengthen(&mut again.request, response).is_some();
        let call = self.calls.get_mut(&id).filter(|c| wanted && c.offering.tries < limits::OFFER_TRIES);
        let Some(call) = call else { return false };
        call.offering.tries += 1;
        self.send_afresh(now, again);
        true
    }

    /// Sends a request that is a new one for whoever gets it: unasked, without credentials.
    fn send_afresh(&mut self, now: Instant, mut again: Outgoing) {
        again.tries = 0;
        for name in ["Authorization", "Proxy-Authorization"] {
            again.request.headers.remove(name);
        }
        self.renumber(&mut again);
        self.send(now, again);
    }
}

/// The Contacts of a redirection that can be called, best first.
fn contacts(response: &Response) -> Vec<Uri> {
    let q = |c: &NameAddr| c.params.get("q").and_then(|q| q.parse::<f32>().ok()).filter(|q| *q >= 0.0).unwrap_or(1.0);
    let mut contacts: Vec<_> = response
        .headers
        .list("Contact")
        .filter_map(NameAddr::read)
        .filter(|c| c.uri.is_sip() || c.uri.scheme == "tel")
        .map(|c| (q(&c), Uri { headers: None, ..c.uri }))
        .collect();
    // stable: those of the same worth stay in their order
    contacts.sort_by(|a, b| b.0.total_cmp(&a.0));
    contacts.into_iter().map(|(_, uri)| uri).collect()
}
