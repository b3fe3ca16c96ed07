//! `"Display name" <uri>;parameters`, as in From, To, Contact, Route.

use std::fmt;

use super::{headers::find_outside, limits::MAX_PARAMS, uri::Uri};

/// Parameters, in their order. Values are kept as they were written, quotes included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// From what stands after (or at) the first semicolon; `None` if there are too many.
    pub(crate) fn read(text: &str) -> Option<Params> {
        let mut params = Vec::new();
        let mut rest = text;
        loop {
            let end = find_outside(rest, b';');
            let part = rest[..end.unwrap_or(rest.len())].trim();
            if !part.is_empty() {
                if params.len() == MAX_PARAMS {
                    return None;
                }
                params.push(match part.split_once('=') {
                    Some((name, value)) => (name.trim().to_owned(), Some(value.trim().to_owned())),
                    None => (part.to_owned(), None),
                });
            }
            match end {
                Some(end) => rest = &rest[end + 1..],
                None => return Some(Params(params)),
            }
        }
    }

    /// The value of a parameter; a parameter without one gives the empty string.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_deref().unwrap_or(""))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn set(&mut self, name: &str, value: Option<String>) {
        match self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, v)) => *v = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            match value {
                Some(value) => write!(f, ";{name}={value}")?,
                None => write!(f, ";{name}")?,
            }
        }
        Ok(())
    }
}

/// An address with a name and parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameAddr {
    /// Without quotes.
    pub(crate) display: Option<String>,
    pub(crate) uri: Uri,
    /// The header's parameters, not the URI's.
    pub(crate) params: Params,
}

impl NameAddr {
    pub(crate) fn new(uri: Uri) -> NameAddr {
        NameAddr { display: None, uri, params: Params::default() }
    }

    pub(crate) fn read(text: &str) -> Option<NameAddr> {
        let text = text.trim();
        // a '<' in a quoted display name does not count
        let after_name = if text.starts_with('"') { end_of_quoted(text)? } else { 0 };
        let Some(open) = text[after_name..].find('<').map(|i| i + after_name) else {
            // without brackets, what looks like URI parameters belongs to the header (section 20.10)
            let (uri, params) = text.split_once(';').unwrap_or((text, ""));
            return Some(NameAddr { display: None, uri: Uri::read(uri.trim_end())?, params: Params::read(params)? });
        };
        let close = text[open..].find('>').map(|i| i + open)?;
        let name = unquote(text[..open].trim());
        Some(NameAddr {
            display: (!name.is_empty()).then_some(name),
            uri: Uri::read(text[open + 1..close].trim())?,
            params: Params::read(&text[close + 1..])?,
        })
    }

    pub(crate) fn with_tag(mut self, tag: &str) -> NameAddr {
        self.params.set("tag", Some(tag.to_owned()));
        self
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.display {
            f.write_str("\"")?;
            for c in name.chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    c if c.is_control() => {}
                    c => write!(f, "{c}")?,
                }
            }
            f.write_str("\" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// The place after the closing quote of a text that begins with a quote.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// Takes quotes and backslashes off; a text without quotes is returned as it is.
pub(crate) fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else { return text.to_owned() };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}
