//! A far end played by the test, message by message, for what a well-behaved user agent would never do.

use std::{net::SocketAddr, time::Duration};

use super::{Net, Seen, header};

/// The address of the played peer; no agent has it.
pub fn peer() -> SocketAddr {
    "10.0.0.50:5060".parse().unwrap()
}

/// A response to a request that was seen, with more headers (each with its line end) and a body.
pub fn response(request: &Seen, status: &str, to_tag: &str, headers: &str, body: &str) -> Vec<u8> {
    let get = |name| header(&request.text, name).unwrap_or_default();
    let to = if to_tag.is_empty() || get("To").contains(";tag=") {
        get("To").to_owned()
    } else {
        format!("{};tag={to_tag}", get("To"))
    };
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        get("Via"),
        get("From"),
        get("Call-ID"),
        get("CSeq"),
        body.len()
    )
    .into_bytes()
}

/// A request of the peer's own. `branch` must be new for a new transaction.
#[derive(Clone)]
pub struct Asking<'a> {
    pub method: &'a str,
    pub branch: &'a str,
    pub from_tag: &'a str,
    pub to_tag: &'a str,
    pub call_id: &'a str,
    pub cseq: u32,
    pub headers: &'a str,
    pub body: &'a str,
}

impl Asking<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let Asking { method, branch, from_tag, to_tag, call_id, cseq, headers, body } = self;
        let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let content = if headers.contains("Content-Type") { "" } else { content };
        format!(
            "{method} sip:agent@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.50;rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:peer@10.0.0.50>;tag={from_tag}\r\nTo: <sip:agent@10.0.0.1>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:peer@10.0.0.50>\r\n{headers}{content}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

pub const INVITE: Asking<'static> = Asking {
    method: "INVITE",
    branch: "i1",
    from_tag: "peer",
    to_tag: "",
    call_id: "call-1",
    cseq: 1,
    headers: "",
    body: "",
};

impl Net {
    /// The peer sends to agent 0.
    pub fn peer_says(&mut self, bytes: &[u8]) {
        let to = self.addresses[0];
        self.deliver(peer(), to, bytes);
    }

    /// The last datagram of a kind that went to the peer.
    #[track_caller]
    pub fn to_peer(&self, kind: &str) -> Seen {
        let found = self.outside.iter().rev().find(|s| s.kind() == kind);
        found.unwrap_or_else(|| panic!("no {kind} among {:?}", self.kinds_to_peer())).clone()
    }

    pub fn kinds_to_peer(&self) -> Vec<String> {
        self.outside.iter().map(Seen::kind).collect()
    }

    /// What the peer was told since the last time this was asked.
    pub fn take_kinds_to_peer(&mut self) -> Vec<String> {
        let kinds = self.kinds_to_peer();
        self.outside.clear();
        kinds
    }

    pub fn soon(&mut self) {
        self.run(Duration::from_millis(1));
    }
}

/// What the played peer's dialog with agent 0 is made of.
#[derive(Debug, Clone)]
pub struct Far {
    /// The agent's call.
    pub call: mr_sip_signaling::CallId,
    /// The peer's tag and the agent's.
    pub tags: (&'static str, String),
    pub call_id: String,
    /// The last INVITE of the agent, if it made the call.
    pub invite: Option<Seen>,
}

impl Far {
    /// A request of the peer in this dialog.
    pub fn asks<'a>(&'a self, method: &'a str, cseq: u32, branch: &'a str) -> Asking<'a> {
        let (from_tag, to_tag) = (self.tags.0, self.tags.1.as_str());
        Asking { method, branch, from_tag, to_tag, call_id: &self.call_id, cseq, headers: "", body: "" }
    }
}

/// The tag in a From or To header.
pub fn tag_of(seen: &Seen, name: &str) -> String {
    let value = header(&seen.text, name).unwrap_or_default();
    value.rsplit_once("tag=").map(|(_, tag)| tag.to_owned()).unwrap_or_default()
}

pub const CONTACT: &str = "Contact: <sip:peer@10.0.0.50>\r\n";
pub const CONTACT_SDP: &str = "Contact: <sip:peer@10.0.0.50>\r\nContent-Type: application/sdp\r\n";

impl Net {
    /// The peer calls agent 0, with more headers, and is answered; what is sent about it is forgotten.
    #[track_caller]
    pub fn called_by_peer(&mut self, headers: &str) -> Far {
        let offer = super::sdp(7000);
        self.peer_says(&Asking { headers, body: &offer, ..INVITE }.bytes());
        let call = self.incoming(0);
        self.agents[0].answer(self.now, call, super::sdp(5000)).unwrap();
        self.soon();
        let tag = tag_of(&self.to_peer("200 INVITE"), "To");
        self.peer_says(&Asking { method: "ACK", branch: "a1", to_tag: &tag, ..INVITE }.bytes());
        self.answered(0);
        self.outside.clear();
        Far { call, tags: ("peer", tag), call_id: "call-1".into(), invite: None }
    }

    /// Agent 0 dials the peer.
    #[track_caller]
    pub fn dial_peer(&mut self) -> Far {
        let call = self.agents[0].dial(self.now, super::dial("sip:peer@10.0.0.50")).unwrap();
        self.soon();
        self.dialled(call)
    }

    /// The INVITE of a call to the peer that was just dialled.
    #[track_caller]
    pub fn dialled(&mut self, call: mr_sip_signaling::CallId) -> Far {
        let invite = self.to_peer("INVITE");
        let tag = tag_of(&invite, "From");
        let call_id = header(&invite.text, "Call-ID").unwrap().to_owned();
        Far { call, tags: ("far", tag), call_id, invite: Some(invite) }
    }

    /// Agent 0 calls the peer, which answers with more headers; what is sent about it is forgotten.
    #[track_caller]
    pub fn answered_by_peer(&mut self, headers: &str) -> Far {
        let far = self.dial_peer();
        let headers = format!("{CONTACT_SDP}{headers}");
        self.peer_says(&response(far.invite.as_ref().unwrap(), "200 OK", "far", &headers, &super::sdp(7000)));
        self.soon();
        self.answered(0);
        self.outside.clear();
        far
    }

    /// The peer answers the last request of a kind.
    #[track_caller]
    pub fn peer_answers(&mut self, kind: &str, status: &str, headers: &str, body: &str) {
        let request = self.to_peer(kind);
        self.peer_says(&response(&request, status, "far", headers, body));
        self.soon();
    }
}
