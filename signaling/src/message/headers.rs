//! The headers of a message, in their order.

use super::limits::MAX_ELEMENTS;

/// A list of headers. Names are kept as RFC 3261 writes them, whatever case or short form they came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers(Vec<(String, String)>);

/// Short form and full name (RFC 3261 section 7.3.3 and the registry's later ones).
const COMPACT: [(&str, &str); 16] = [
    ("a", "Accept-Contact"),
    ("b", "Referred-By"),
    ("c", "Content-Type"),
    ("d", "Request-Disposition"),
    ("e", "Content-Encoding"),
    ("f", "From"),
    ("i", "Call-ID"),
    ("k", "Supported"),
    ("l", "Content-Length"),
    ("m", "Contact"),
    ("o", "Event"),
    ("r", "Refer-To"),
    ("s", "Subject"),
    ("t", "To"),
    ("v", "Via"),
    ("x", "Session-Expires"),
];

/// The full name of a header: short forms expanded, everything else as it is.
pub(crate) fn full_name(name: &str) -> &str {
    COMPACT.iter().find(|(short, _)| short.eq_ignore_ascii_case(name)).map_or(name, |(_, full)| full)
}

impl Headers {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The first header of this name, whole.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Every header of this name, whole.
    pub(crate) fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The elements of a header that is a comma-separated list, over all headers of the name; at most [`MAX_ELEMENTS`].
    pub(crate) fn list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.values(name).flat_map(split_list).take(MAX_ELEMENTS)
    }

    pub(crate) fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    pub(crate) fn push_front(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(0, (name.to_owned(), value.into()));
    }

    /// Puts a header in place of the first of its name (or at the end), and drops all others of the name.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        let mut value = Some(value.into());
        self.0.retain_mut(|(n, v)| {
            if !n.eq_ignore_ascii_case(name) {
                return true;
            }
            match value.take() {
                Some(new) => {
                    *v = new;
                    true
                }
                None => false,
            }
        });
        if let Some(value) = value {
            self.push(name, value);
        }
    }

    /// Replaces the first header of a name only; later ones stay.
    pub(crate) fn replace_first(&mut self, name: &str, value: String) {
        if let Some((_, v)) = self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            *v = value;
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }
}

/// Splits at commas that are neither in quotes nor in angle brackets; empty elements are left out.
pub(crate) fn split_list(value: &str) -> impl Iterator<Item = &str> {
    split_strictly(value).filter(|element| !element.is_empty())
}

/// The same with empty elements.
pub(super) fn split_strictly(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = find_outside(text, b',');
        rest = end.map(|e| &text[e + 1..]);
        Some(text[..end.unwrap_or(text.len())].trim())
    })
}

/// Where a byte first stands outside quotes and angle brackets. The byte must be ASCII, so that the place is a char boundary.
pub(super) fn find_outside(text: &str, wanted: u8) -> Option<usize> {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (i, b) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted {
            match b {
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
        } else if b == wanted && !angle {
            return Some(i);
        } else {
            match b {
                b'"' => quoted = true,
                b'<' => angle = true,
                b'>' => angle = false,
                _ => {}
            }
        }
    }
    None
}
