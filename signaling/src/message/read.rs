//! Bytes to messages: lenient in form, strict in what everything else relies on.

use std::borrow::Cow;

use super::{
    Message, Meta, Method, Request, Response,
    headers::{Headers, full_name, split_strictly},
    limits::{MAX_BODY, MAX_BOUNDARY, MAX_CSEQ, MAX_HEAD, MAX_HEADER, MAX_HEADERS, MAX_PARTS, MAX_URI},
    name_addr::{NameAddr, Params, unquote},
    uri::Uri,
    via::Via,
};

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Nothing but line ends: a keep-alive.
    KeepAlive,
    /// Not SIP at all, or a response that cannot be used. Dropped.
    NotSip,
    /// A request, but not a good one: 400.
    Bad(&'static str),
    /// Another version: 505.
    Version,
    /// The Request-URI is too long: 414.
    UriTooLong,
    /// Too long a header, or too many: 513.
    TooLarge,
}

/// Bytes that are not a message.
#[derive(Debug)]
pub(crate) struct BadMessage {
    pub(crate) problem: Problem,
    /// The request, as far as it goes, if enough of it could be read to answer it: it has a top Via. Never an ACK.
    pub(crate) answerable: Option<(Box<Request>, Via)>,
}

impl From<Problem> for BadMessage {
    fn from(problem: Problem) -> BadMessage {
        BadMessage { problem, answerable: None }
    }
}

/// What could end a line, or a text, for whoever reads on.
pub(super) const BREAKS: [char; 3] = ['\r', '\n', '\0'];

enum StartLine {
    Request(Method, Uri),
    Response(u16, String),
}

/// Reads one datagram, or one message of a stream.
pub(crate) fn read(bytes: &[u8]) -> Result<(Message, Meta), BadMessage> {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n' | b'\0' | b' '));
    let bytes = start.and_then(|s| bytes.get(s..)).ok_or(Problem::KeepAlive)?;
    let (head, body, ended) = split_head(bytes);
    if head.len() > MAX_HEAD || body.len() > MAX_BODY {
        return Err(Problem::TooLarge.into());
    }
    let mut lines = HeadLines::new(head);
    let first = text_of(lines.next().unwrap_or_default()).into_owned();
    let start_line = read_start_line(&first);
    if let Err(Problem::NotSip) = start_line {
        return Err(Problem::NotSip.into());
    }
    let (headers, header_problem) = read_headers(lines);

    let problem = match (&start_line, header_problem) {
        (Err(problem), _) => Some(*problem),
        (_, Some(problem)) => Some(problem),
        _ if !ended => Some(Problem::Bad("no empty line after the headers")),
        _ => None,
    };
    let body = match problem {
        Some(problem) => Err(problem),
        None => cut_body(&headers, body),
    };
    let meta = body.and_then(|body| {
        let response = matches!(start_line, Ok(StartLine::Response(..)));
        let meta = read_meta(&headers, response)?;
        match &start_line {
            // one that nobody knows is answered 501, whatever CSeq says (RFC 4475 section 3.1.2.18)
            Ok(StartLine::Request(Method::Other(_), _)) => Ok((meta, body.to_vec())),
            Ok(StartLine::Request(method, _)) if *method != meta.method => {
                Err(Problem::Bad("CSeq names another method"))
            }
            _ => Ok((meta, body.to_vec())),
        }
    });
    match (start_line, meta) {
        (Ok(StartLine::Request(method, uri)), Ok((meta, body))) => {
            Ok((Message::Request(Request { method, uri, headers, body }), meta))
        }
        (Ok(StartLine::Response(status, reason)), Ok((meta, body))) => {
            Ok((Message::Response(Response { status, reason, headers, body }), meta))
        }
        (Ok(StartLine::Response(..)), Err(_)) => Err(Problem::NotSip.into()),
        (Ok(StartLine::Request(method, uri)), Err(problem)) => Err(bad_request(problem, method, uri, headers)),
        (Err(problem), _) => {
            let method = Method::of(first.split_whitespace().next().unwrap_or(""));
            Err(bad_request(problem, method, Uri::sip(None, "invalid", None), headers))
        }
    }
}

fn bad_request(problem: Problem, method: Method, uri: Uri, headers: Headers) -> BadMessage {
    let via = headers.list("Via").next().and_then(Via::read_any_version).filter(|_| method != Method::Ack);
    let answerable = via.map(|via| (Box::new(Request { method, uri, headers, body: Vec::new() }), via));
    BadMessage { problem, answerable }
}

/// Head and body; false if there is no empty line between them.
fn split_head(bytes: &[u8]) -> (&[u8], &[u8], bool) {
    let mut line = 0;
    while let Some(length) = bytes[line..].iter().position(|b| *b == b'\n') {
        let end = line + length;
        let content = &bytes[line..end];
        if content.is_empty() || content == b"\r" {
            return (&bytes[..line], &bytes[end + 1..], true);
        }
        line = end + 1;
    }
    (bytes, &[], false)
}

/// Lines without their ends.
pub(super) struct HeadLines<'a> {
    rest: &'a [u8],
}

impl<'a> HeadLines<'a> {
    pub(super) fn new(head: &'a [u8]) -> HeadLines<'a> {
        HeadLines { rest: head }
    }
}

impl<'a> Iterator for HeadLines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|b| *b == b'\n');
        let line = &self.rest[..end.unwrap_or(self.rest.len())];
        self.rest = end.map_or(&[], |e| &self.rest[e + 1..]);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn read_start_line(line: &str) -> Result<StartLine, Problem> {
    let line = line.trim_end();
    if line.get(..4).is_some_and(|s| s.eq_ignore_ascii_case("SIP/")) {
        let mut parts = line.splitn(3, ' ');
        let (version, status) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let status = Some(status).filter(|s| s.len() == 3).and_then(|s| s.parse::<u16>().ok());
        return match status {
            Some(status @ 100..=699) if version.eq_ignore_ascii_case("SIP/2.0") => {
                Ok(StartLine::Response(status, parts.next().unwrap_or("").to_owned()))
            }
            _ => Err(Problem::NotSip),
        };
    }
    let (method, rest) = line.split_once(' ').ok_or(Problem::NotSip)?;
    let (uri, version) = rest.trim().rsplit_once(' ').ok_or(Problem::NotSip)?;
    if !is_token(method) || !version.get(..4).is_some_and(|s| s.eq_ignore_ascii_case("SIP/")) {
        return Err(Problem::NotSip);
    }
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(Problem::Version);
    }
    let uri = uri.trim();
    if uri.len() > MAX_URI {
        return Err(Problem::UriTooLong);
    }
    // some send the Request-URI in brackets; RFC 4475 (3.1.2.7) lets us answer 400
    let uri = Uri::read(uri).ok_or(Problem::Bad("the Request-URI cannot be read"))?;
    Ok(StartLine::Request(Method::of(method), uri))
}

/// Unfolds and reads header lines.
///
/// What is too long or too much is left out, but the reading goes on: whoever sent it is told, and for that the headers are
/// needed that every answer repeats.
fn read_headers(lines: HeadLines<'_>) -> (Headers, Option<Problem>) {
    let mut headers = Headers::default();
    let mut problem = None;
    let mut unfolded: Vec<u8> = Vec::new();
    for line in lines {
        if line.first().is_some_and(|b| *b == b' ' || *b == b'\t') {
            // one byte beyond the limit is enough to be over it
            let room = (MAX_HEADER + 1).saturating_sub(unfolded.len());
            unfolded.extend(b" ".iter().chain(line.trim_ascii()).take(room));
        } else {
            read_header(&unfolded, &mut headers, &mut problem);
            unfolded.clear();
            unfolded.extend(line.iter().take(MAX_HEADER + 1));
        }
    }
    read_header(&unfolded, &mut headers, &mut problem);
    (headers, problem)
}

/// A line as text. Bytes that are not UTF-8 can only stand in names for people to read: they may be replaced. NUL and CR
/// become blanks here and not only when they are written, so that what is read is what will be written.
fn text_of(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if text.contains(BREAKS) { Cow::Owned(text.replace(BREAKS, " ")) } else { text }
}

/// Reads one header, unfolded.
fn read_header(line: &[u8], headers: &mut Headers, problem: &mut Option<Problem>) {
    if line.is_empty() {
        return;
    }
    if line.len() > MAX_HEADER {
        *problem = Some(Problem::TooLarge);
        return;
    }
    let text = text_of(line);
    let named = text.split_once(':').map(|(name, value)| (name.trim_end(), value.trim()));
    let Some((name, value)) = named.filter(|(name, _)| is_token(name)) else {
        *problem = problem.or(Some(Problem::Bad("a header line without a name")));
        return;
    };
    let name = full_name(name);
    if headers.len() < MAX_HEADERS {
        headers.push(name, value);
        return;
    }
    *problem = Some(Problem::TooLarge);
    let repeated = ["Via", "From", "To", "Call-ID", "CSeq"];
    if repeated.iter().any(|n| n.eq_ignore_ascii_case(name)) && headers.get(name).is_none() {
        headers.push(name, value);
    }
}

/// The body by Content-Length: cut if the datagram is longer (section 18.3), refused if it is shorter (case 4).
fn cut_body<'a>(headers: &Headers, body: &'a [u8]) -> Result<&'a [u8], Problem> {
    let mut length = None;
    for value in headers.values("Content-Length") {
        let value = read_length(value).ok_or(Problem::Bad("Content-Length is no number"))?;
        if length.is_some_and(|l| l != value) {
            return Err(Problem::Bad("two different Content-Lengths"));
        }
        length = Some(value);
    }
    match length {
        None => Ok(body),
        Some(length) => body.get(..length).ok_or(Problem::Bad("the body is shorter than Content-Length")),
    }
}

/// A Content-Length: digits only, and few enough of them.
pub(super) fn read_length(value: &str) -> Option<usize> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    value.parse().ok().filter(|_| digits)
}

fn read_meta(headers: &Headers, response: bool) -> Result<Meta, Problem> {
    let one = |name, missing| headers.get(name).filter(|v| !v.is_empty()).ok_or(Problem::Bad(missing));
    let via = headers.list("Via").next().and_then(Via::read).ok_or(Problem::Bad("no usable Via"))?;
    // what stands beside the top one is repeated in every answer: not if it is rubbish (RFC 4475 section 3.1.2.1)
    let mut beside = headers.get("Via").into_iter().flat_map(split_strictly);
    if !response && beside.any(|via| Via::read(via).is_none()) {
        return Err(Problem::Bad("a Via that cannot be read"));
    }
    let from = NameAddr::read(one("From", "no From")?).ok_or(Problem::Bad("From cannot be read"))?;
    let to = NameAddr::read(one("To", "no To")?).ok_or(Problem::Bad("To cannot be read"))?;
    let call_id = one("Call-ID", "no Call-ID")?.to_owned();
    // with two of them, nothing tells which one counts
    for name in ["From", "To", "Call-ID", "CSeq"] {
        if headers.values(name).nth(1).is_some() && !response {
            return Err(Problem::Bad("From, To, Call-ID or CSeq stands twice"));
        }
    }
    let cseq = one("CSeq", "no CSeq")?;
    let (number, method) = cseq.split_once(char::is_whitespace).ok_or(Problem::Bad("CSeq cannot be read"))?;
    let number = number.parse().ok().filter(|n| *n <= MAX_CSEQ).ok_or(Problem::Bad("CSeq is no number below 2^31"))?;
    let method = Some(method.trim()).filter(|m| is_token(m)).ok_or(Problem::Bad("CSeq has no method"))?;
    Ok(Meta { via, from, to, call_id, cseq: number, method: Method::of(method) })
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

/// The part of a body that has this content type, as text: the body itself, or the first fitting part of a multipart body.
/// Parts in parts are not looked into (case 5).
pub(crate) fn body_text(headers: &Headers, body: &[u8], wanted: &str) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    let content_type = headers.get("Content-Type")?;
    if is_type(content_type, wanted) {
        return Some(String::from_utf8_lossy(body).into_owned());
    }
    if !content_type.get(..10).is_some_and(|t| t.eq_ignore_ascii_case("multipart/")) {
        return None;
    }
    let (_, params) = content_type.split_once(';')?;
    let params = Params::read(params)?;
    let boundary = unquote(params.get("boundary")?);
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
        return None;
    }
    let boundary = format!("--{boundary}");
    let text = String::from_utf8_lossy(body);
    for part in text.split(boundary.as_str()).skip(1).take(MAX_PARTS) {
        let part = part.trim_start_matches("\r\n").trim_start_matches('\n');
        let (head, content, ended) = split_head(part.as_bytes());
        let (headers, _) = read_headers(HeadLines::new(head));
        if ended && headers.get("Content-Type").is_some_and(|t| is_type(t, wanted)) {
            return Some(String::from_utf8_lossy(content).trim_end().to_owned() + "\r\n");
        }
    }
    None
}

/// Whether this is the content type, whatever its parameters.
pub(crate) fn is_type(content_type: &str, wanted: &str) -> bool {
    content_type.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(wanted)
}
