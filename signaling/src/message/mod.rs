//! Reading and writing SIP messages (RFC 3261 sections 7, 19, 20 and 25). The only room that names the parser crate.
//!
//! The crate, `rsip` 0.4, refuses much that is valid and common (compact names, folded lines, IPv6 in Via, `tel:` URIs, unknown
//! methods, display names that are not UTF-8, leading CRLF), so the reading is done here; what serves of it is its table of
//! statuses, and in the tests its parser, as a second opinion on everything written here.
//!
//! What must hold: whatever bytes come, [`read`] returns in time linear in their number; what it returns has a top Via, From,
//! To, Call-ID and CSeq that can be used without looking again ([`Meta`]); and nothing that is written can contain a line
//! break that was not put there by [`write`] (case 45).

mod frame;
mod headers;
mod limits;
mod name_addr;
mod read;
mod uri;
mod via;
mod write;

pub(crate) use frame::{Frame, FrameError, Framer};
pub(crate) use headers::{Headers, full_name, split_list};
pub(crate) use name_addr::{NameAddr, unquote};
pub(crate) use read::{BadMessage, Problem, body_text, is_type, read};
pub(crate) use uri::{Uri, escape_user, literal, read_host_port};
pub(crate) use via::{MAGIC_COOKIE, Via};
pub(crate) use write::call_id_of;

use std::fmt;

/// A SIP message.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Request(Request),
    Response(Response),
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// The parts of a message that every layer needs, read once.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) via: Via,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
    /// CSeq's method: of a response, the method of the request it answers.
    pub(crate) method: Method,
}

impl Meta {
    /// The From tag.
    pub(crate) fn caller_tag(&self) -> &str {
        self.from.params.get("tag").unwrap_or("")
    }

    /// Empty: none.
    pub(crate) fn to_tag(&self) -> &str {
        self.to.params.get("tag").unwrap_or("")
    }
}

impl Request {
    pub(crate) fn new(method: Method, uri: Uri) -> Request {
        Request { method, uri, headers: Headers::default(), body: Vec::new() }
    }

    /// A response with the headers that RFC 3261 section 8.2.6.2 copies.
    pub(crate) fn response(&self, status: u16) -> Response {
        let mut headers = Headers::default();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in self.headers.values(name) {
                headers.push(name, value);
            }
        }
        Response { status, reason: reason_phrase(status), headers, body: Vec::new() }
    }
}

/// A request's method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Register,
    Info,
    Update,
    Message,
    Prack,
    Subscribe,
    Notify,
    Refer,
    Publish,
    /// A token that no RFC we know gives a meaning to.
    Other(String),
}

impl Method {
    const KNOWN: [Method; 14] = [
        Method::Invite,
        Method::Ack,
        Method::Bye,
        Method::Cancel,
        Method::Options,
        Method::Register,
        Method::Info,
        Method::Update,
        Method::Message,
        Method::Prack,
        Method::Subscribe,
        Method::Notify,
        Method::Refer,
        Method::Publish,
    ];

    /// Methods are case-sensitive.
    pub(crate) fn of(token: &str) -> Method {
        Method::KNOWN.into_iter().find(|m| m.as_str() == token).unwrap_or_else(|| Method::Other(token.to_owned()))
    }

    /// Its Contact says where the rest of the dialog goes (RFC 3261 section 12.2, RFC 3311, RFC 6665).
    pub(crate) fn is_target_refresh(&self) -> bool {
        matches!(self, Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer)
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Register => "REGISTER",
            Method::Info => "INFO",
            Method::Update => "UPDATE",
            Method::Message => "MESSAGE",
            Method::Prack => "PRACK",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Refer => "REFER",
            Method::Publish => "PUBLISH",
            Method::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The customary words for a status: the parser crate's name for it, taken apart at its capitals.
pub(crate) fn reason_phrase(status: u16) -> String {
    let rsip = rsip::StatusCode::from(status);
    if let rsip::StatusCode::Other(..) = rsip {
        return "Unknown".to_owned();
    }
    let name = rsip.to_string();
    let name = name.split_once(' ').map_or(name.as_str(), |(_, name)| name);
    let mut words = String::with_capacity(name.len() + 4);
    let mut lower_before = false;
    for c in name.chars() {
        if c.is_uppercase() && lower_before {
            words.push(' ');
        }
        lower_before = c.is_lowercase();
        words.push(c);
    }
    words
}

#[cfg(test)]
mod tests;
