//! Messages to bytes.

use std::fmt::Write as _;

use super::{Request, Response, read::BREAKS};
use crate::message::headers::Headers;

impl Request {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(512 + self.body.len());
        let mut line = String::new();
        // writing to a String cannot fail
        let _ = write!(line, "{} {} SIP/2.0", self.method, self.uri);
        push_line(&mut text, &line);
        finish(text, &self.headers, &self.body)
    }
}

impl Response {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::with_capacity(512 + self.body.len());
        push_line(&mut text, &format!("SIP/2.0 {} {}", self.status, self.reason));
        finish(text, &self.headers, &self.body)
    }
}

fn finish(mut text: String, headers: &Headers, body: &[u8]) -> Vec<u8> {
    for (name, value) in headers.iter() {
        if !name.eq_ignore_ascii_case("Content-Length") {
            push_line(&mut text, &format!("{name}: {value}"));
        }
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// One line, whatever is in it: line breaks and NUL would let a value write headers of its own (case 45).
fn push_line(text: &mut String, line: &str) {
    text.extend(line.chars().map(|c| if BREAKS.contains(&c) { ' ' } else { c }));
    text.push_str("\r\n");
}

/// The Call-ID of a message that was written here, found without reading all of it.
pub(crate) fn call_id_of(bytes: &[u8]) -> Option<&str> {
    const NAME: &[u8] = b"\r\nCall-ID: ";
    let start = bytes.windows(NAME.len()).position(|part| part == NAME)? + NAME.len();
    let rest = bytes.get(start..)?;
    std::str::from_utf8(rest.get(..rest.iter().position(|b| *b == b'\r')?)?).ok()
}
