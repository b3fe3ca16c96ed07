//! Calls that take the place of others (RFC 3891).

use super::UserAgent;
use crate::{
    call::State,
    event::CallId,
    message::{Headers, Request, Response},
};

/// A Replaces header.
#[derive(Debug, PartialEq, Eq)]
struct Replaces<'a> {
    call_id: &'a str,
    to_tag: &'a str,
    from_tag: &'a str,
    early_only: bool,
}

fn read(value: &str) -> Option<Replaces<'_>> {
    let mut parts = value.split(';').map(str::trim);
    let call_id = parts.next().filter(|c| !c.is_empty())?;
    let mut replaces = Replaces { call_id, to_tag: "", from_tag: "", early_only: false };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "to-tag" => replaces.to_tag = value.trim(),
            "from-tag" => replaces.from_tag = value.trim(),
            "early-only" => replaces.early_only = true,
            _ => {}
        }
    }
    (!replaces.to_tag.is_empty() && !replaces.from_tag.is_empty()).then_some(replaces)
}

impl UserAgent {
    /// The call that this INVITE is to replace; or the answer that refuses it (section 3).
    pub(super) fn replaced_by(&self, request: &Request) -> Result<Option<CallId>, Response> {
        let mut values = request.headers.values("Replaces");
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() || value.contains(',') {
            return Err(request.response(400));
        }
        let replaces = read(value).ok_or_else(|| request.response(400))?;
        let unknown = || request.response(481);
        let place = (replaces.call_id.to_owned(), replaces.to_tag.to_owned());
        let call = self.dialogs.get(&place).and_then(|id| self.calls.get(id)).ok_or_else(unknown)?;
        call.dialog_with(replaces.from_tag).ok_or_else(unknown)?;
        match call.state {
            State::Up if replaces.early_only => Err(request.response(486)),
            // only an early dialog that we began may be taken over
            State::Up | State::Calling(_) => Ok(Some(call.id)),
            _ => Err(unknown()),
        }
    }
}

/// The Replaces header that stands in a URI's header part, as in Refer-To.
pub(super) fn of_uri_headers(headers: &str) -> Option<String> {
    let field = headers.split('&').find_map(|field| {
        let (name, value) = field.split_once('=')?;
        name.eq_ignore_ascii_case("Replaces").then_some(value)
    })?;
    let value = unescape(field)?;
    // case 45, and nothing that is not what it says
    let good = !value.chars().any(char::is_control) && value.len() <= 512 && read(&value).is_some();
    good.then_some(value)
}

/// Writes a value so that it can stand in a URI's header part (RFC 3261 section 25.1, `hvalue`).
pub(super) fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// Whether the request wants what only a known extension can give.
pub(super) fn unsupported(headers: &Headers) -> Vec<String> {
    let known = |tag: &&str| super::requests::SUPPORTED.split(", ").any(|s| s.eq_ignore_ascii_case(tag));
    headers.list("Require").filter(|tag| !known(tag)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaces_value_is_read_whatever_the_order() {
        let value = "a@b;from-tag=f;early-only;to-tag=t";
        assert_eq!(read(value), Some(Replaces { call_id: "a@b", to_tag: "t", from_tag: "f", early_only: true }));
        for bad in ["", "a@b", "a@b;to-tag=t", ";to-tag=t;from-tag=f"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_escaped_into_a_uri_comes_out_again_and_line_breaks_do_not() {
        let value = "12\"x y@host;to-tag=a;from-tag=b";
        let headers = format!("Subject=x&Replaces={}", escape(value));
        assert_eq!(of_uri_headers(&headers).as_deref(), Some(value));
        for bad in ["Replaces=a%0d%0ab%3Bto-tag%3Dx%3Bfrom-tag%3Dy", "Replaces=%4", "Replaces=%ff%3Bto-tag%3Dx", ""] {
            assert_eq!(of_uri_headers(bad), None, "{bad}");
        }
    }
}
