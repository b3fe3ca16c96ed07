//! A dialog (RFC 3261 section 12): who talks with whom, along which route, and which numbers come next.

use crate::{
    message::{Headers, Meta, Method, NameAddr, Request, Response, Uri},
    transport::Peer,
};

/// Every request starts with this many hops left (section 8.1.1.6).
pub(crate) const MAX_FORWARDS: &str = "70";

/// One dialog, seen from our side.
#[derive(Debug, Clone)]
pub(crate) struct Dialog {
    call_id: String,
    /// With our tag.
    local: NameAddr,
    /// With the far end's tag.
    remote: NameAddr,
    local_cseq: u32,
    /// Of the last request from the far end; `None` until there was one.
    remote_cseq: Option<u32>,
    /// Where its requests are addressed to: the far end's Contact.
    target: Uri,
    /// The proxies in between that want to stay, nearest first.
    routes: Vec<NameAddr>,
    /// We made the call, and so the Call-ID: in a glare the other side gives way first (section 14.1).
    owns_call_id: bool,
    /// The connection that the far end made to us. While it lasts its requests go back by it: whoever is behind a NAT can be
    /// reached in no other way (RFC 5626 section 5.3).
    pub(crate) flow: Option<Peer>,
}

impl Dialog {
    /// The dialog that a response to our INVITE makes.
    pub(crate) fn of_caller(invite: &Request, response: &Response, meta: &Meta) -> Dialog {
        Dialog {
            call_id: meta.call_id.clone(),
            local: meta.from.clone(),
            remote: meta.to.clone(),
            local_cseq: meta.cseq,
            remote_cseq: None,
            // a 2xx without Contact breaks section 12.1.1; the address that was called is the best guess left
            target: contact_of(&response.headers).unwrap_or_else(|| invite.uri.clone()),
            routes: route_back(response),
            owns_call_id: true,
            flow: None,
        }
    }

    /// The 2xx to our INVITE has come by the fork that this early dialog is with: the route is now as it says, and the numbers
    /// go on (section 13.2.2.4).
    pub(crate) fn confirm(&mut self, response: &Response) {
        self.routes = route_back(response);
        if let Some(target) = contact_of(&response.headers) {
            self.target = target;
        }
    }

    /// The dialog that our answer to an INVITE makes; `None` if it has no Contact to send requests to.
    pub(crate) fn of_callee(invite: &Request, meta: &Meta, local_tag: &str, from: &Peer) -> Option<Dialog> {
        // RFC 2543 let an INVITE go without a Contact; requests go to the caller's address then
        let old = !meta.via.has_cookie() && invite.headers.get("Contact").is_none() && meta.from.uri.is_sip();
        let target = if old { Some(meta.from.uri.clone()) } else { contact_of(&invite.headers) };
        Some(Dialog {
            call_id: meta.call_id.clone(),
            local: meta.to.clone().with_tag(local_tag),
            remote: meta.from.clone(),
            local_cseq: 0,
            remote_cseq: Some(meta.cseq),
            target: target?,
            routes: invite.headers.list("Record-Route").filter_map(NameAddr::read).collect(),
            owns_call_id: false,
            flow: Some(from.clone()).filter(|peer| peer.connection.is_some()),
        })
    }

    pub(crate) fn call_id(&self) -> &str {
        &self.call_id
    }

    pub(crate) fn local_tag(&self) -> &str {
        self.local.params.get("tag").unwrap_or("")
    }

    pub(crate) fn remote_tag(&self) -> &str {
        self.remote.params.get("tag").unwrap_or("")
    }

    pub(crate) fn owns_call_id(&self) -> bool {
        self.owns_call_id
    }

    /// Where the far end is reached directly.
    pub(crate) fn target(&self) -> &Uri {
        &self.target
    }

    /// Who the far end says it is, in From or To.
    pub(crate) fn remote_uri(&self) -> &Uri {
        &self.remote.uri
    }

    /// Who we say we are.
    pub(crate) fn local_uri(&self) -> &Uri {
        &self.local.uri
    }

    /// The Replaces value that names this dialog to its far end (RFC 3891 section 3): `to-tag` is the reader's own.
    pub(crate) fn replaces(&self) -> String {
        format!("{};to-tag={};from-tag={}", self.call_id, self.remote_tag(), self.local_tag())
    }

    /// Whether a request from the far end comes in order; if so its number is taken note of (section 12.2.2).
    pub(crate) fn take_cseq(&mut self, cseq: u32) -> bool {
        if self.remote_cseq.is_some_and(|last| cseq <= last) {
            return false;
        }
        self.remote_cseq = Some(cseq);
        true
    }

    /// A re-INVITE or UPDATE, or the 2xx to one, may move the far end's address.
    pub(crate) fn refresh_target(&mut self, headers: &Headers) {
        if let Some(target) = contact_of(headers) {
            self.target = target;
        }
    }

    /// A new request of ours.
    pub(crate) fn request(&mut self, method: Method) -> Request {
        let cseq = self.next_cseq();
        self.request_numbered(method, cseq)
    }

    /// The number of the next request of ours; one that is sent again with credentials needs a new one too.
    pub(crate) fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// The number of our last request.
    pub(crate) fn last_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// The ACK for the 2xx to our INVITE of this number.
    pub(crate) fn ack(&self, cseq: u32) -> Request {
        self.request_numbered(Method::Ack, cseq)
    }

    /// Where its requests go first: the nearest proxy that wanted to stay, else the far end (section 8.1.2; a strict router
    /// comes first too, only by way of the Request-URI).
    pub(crate) fn next_hop(&self) -> &Uri {
        self.routes.first().map_or(&self.target, |route| &route.uri)
    }

    fn request_numbered(&self, method: Method, cseq: u32) -> Request {
        let loose = self.routes.first().is_none_or(|r| r.uri.params.has("lr"));
        let mut request = Request::new(method.clone(), self.target.clone());
        request.uri.headers = None;
        let mut routes = self.routes.clone();
        if !loose {
            // a strict router (RFC 2543) wants itself in the Request-URI and the target at the end (section 12.2.1.1)
            request.uri = routes.remove(0).uri;
            routes.push(NameAddr::new(self.target.clone()));
        }
        for route in &routes {
            request.headers.push("Route", route.to_string());
        }
        request.headers.push("Max-Forwards", MAX_FORWARDS);
        request.headers.push("From", self.local.to_string());
        request.headers.push("To", self.remote.to_string());
        request.headers.push("Call-ID", self.call_id.clone());
        request.headers.push("CSeq", format!("{cseq} {method}"));
        request
    }
}

/// Who wants to stay in between, as the 2xx to our INVITE says it: nearest first.
fn route_back(response: &Response) -> Vec<NameAddr> {
    let mut routes: Vec<_> = response.headers.list("Record-Route").filter_map(NameAddr::read).collect();
    routes.reverse();
    routes
}

fn contact_of(headers: &Headers) -> Option<Uri> {
    headers.list("Contact").filter_map(NameAddr::read).map(|c| c.uri).find(Uri::is_sip)
}
