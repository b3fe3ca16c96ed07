//! Patterns on what is dialled.
//!
//! | pattern | fits |
//! |---|---|
//! | `+1900*` | every number that begins so |
//! | `0900XXXXXX` | `X` is one digit 0-9, `Z` 1-9, `N` 2-9 |
//! | `\*67*` | what begins with a star: `\*` is the key, `*` is anything |
//! | `alice` | this user, wherever |
//! | `sip:*@example.com`, `*@example.com` | everybody there |
//! | `+49*@*.example.com` | numbers at hosts below it |
//! | `*` | everything |
//!
//! A part before the `@` that holds nothing but digits, `X`, `Z`, `N`, `+`, `#`, `*` and separators is a number's; separators in
//! it do not count. Any other is a name's, in which only `*` stands for something. Case never matters in names and hosts.

use std::fmt;

use crate::error::SignalingError;

/// A longer pattern is a mistake.
const LONGEST: usize = 256;

/// One element of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Any run of characters, the empty one too.
    Any,
    /// A digit from this one up.
    Digit(u8),
    /// This character, in lower case.
    Char(char),
}

impl Piece {
    fn fits(self, c: char) -> bool {
        match self {
            Piece::Any => false,
            Piece::Digit(from) => c.is_ascii_digit() && u32::from(c) >= u32::from(from),
            Piece::Char(own) => own == c,
        }
    }
}

/// A pattern; see the file's head. Made by [`Pattern::read`].
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    user: Vec<Piece>,
    /// `None`: any.
    host: Option<Vec<Piece>>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`SignalingError::BadConfig`]: it is none, or it could fit nothing.
    pub fn read(text: &str) -> Result<Pattern, SignalingError> {
        let bad = |why| SignalingError::BadConfig { field: format!("the pattern {text:?}"), why };
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.len() > LONGEST {
            return Err(bad("is empty or longer than 256 bytes"));
        }
        if trimmed.chars().any(|c| c.is_control() || "<>\"%;?".contains(c)) {
            return Err(bad("holds a character that no normalised address has: a control, <, >, \", %, ; or ?"));
        }
        let rest = without_scheme(trimmed);
        let (user, host) = match rest.rsplit_once('@') {
            Some((user, host)) => (user, Some(host)),
            None => (rest, None),
        };
        let user = if is_number(user) { number(user) } else { name(user) };
        let user = user.filter(|pieces| !pieces.is_empty()).ok_or(bad("names nobody, or ends in a backslash"))?;
        let host = match host.map(str::trim) {
            None | Some("*") => None,
            Some(host) => {
                let host = host.trim_matches(['[', ']']).trim_end_matches('.');
                let pieces = name(host).filter(|pieces| !pieces.is_empty());
                Some(pieces.ok_or(bad("has nothing after its @"))?)
            }
        };
        Ok(Pattern { text: trimmed.to_owned(), user, host })
    }

    /// Whether it fits. `host`: `None` if none is known, which fits patterns without a host only. Both normalised.
    pub(super) fn fits(&self, user: &str, host: Option<&str>) -> bool {
        let host_fits = match (&self.host, host) {
            (None, _) => true,
            (Some(pattern), Some(host)) => fits(pattern, host),
            (Some(_), None) => false,
        };
        host_fits && fits(&self.user, user)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Pattern {
    type Err = SignalingError;

    fn from_str(text: &str) -> Result<Pattern, SignalingError> {
        Pattern::read(text)
    }
}

/// Without `sip:`, `sips:` or `tel:`.
fn without_scheme(text: &str) -> &str {
    let scheme = ["sip:", "sips:", "tel:"].into_iter().find(|scheme| {
        let start = text.get(..scheme.len());
        start.is_some_and(|s| s.eq_ignore_ascii_case(scheme))
    });
    scheme.and_then(|s| text.get(s.len()..)).unwrap_or(text)
}

fn is_number(user: &str) -> bool {
    user.chars().all(|c| c.is_ascii_digit() || "XZNxzn+#*\\ -()./".contains(c))
}

fn number(user: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut chars = user.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '\\' => Piece::Char(chars.next()?),
            '*' => Piece::Any,
            'X' | 'x' => Piece::Digit(b'0'),
            'Z' | 'z' => Piece::Digit(b'1'),
            'N' | 'n' => Piece::Digit(b'2'),
            c if super::number::is_separator(c) => continue,
            c => Piece::Char(c),
        });
    }
    Some(pieces)
}

fn name(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut chars = text.trim().chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => pieces.push(Piece::Char(chars.next()?)),
            '*' => pieces.push(Piece::Any),
            c => pieces.extend(c.to_lowercase().map(Piece::Char)),
        }
    }
    Some(pieces)
}

/// Whether a text fits as a whole. A star that was tried too short is tried one longer; only the last star needs that, so
/// the time is bounded by the product of the lengths.
fn fits(pattern: &[Piece], text: &str) -> bool {
    let (mut pieces, mut rest) = (pattern, text.chars());
    let mut star: Option<(&[Piece], std::str::Chars<'_>)> = None;
    loop {
        if let Some((Piece::Any, after)) = pieces.split_first() {
            star = Some((after, rest.clone()));
            pieces = after;
            continue;
        }
        let mut ahead = rest.clone();
        match (pieces.split_first(), ahead.next()) {
            (None, None) => return true,
            (Some((piece, after)), Some(c)) if piece.fits(c) => (pieces, rest) = (after, ahead),
            _ => {
                let Some((after, from)) = &mut star else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pieces, rest) = (after, from.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, user: &str, host: Option<&str>) -> bool {
        Pattern::read(pattern).unwrap().fits(user, host)
    }

    #[test]
    fn each_kind_of_pattern_fits_what_it_says() {
        for (pattern, user, yes) in [
            ("+1900*", "+19005551234", true),
            ("+1900*", "+1900", true),
            ("+1900*", "+1800900", false),
            ("+1 (900) *", "+19005551234", true),
            ("0900XXXX", "09001234", true),
            ("0900XXXX", "0900123", false),
            ("0900XXXX", "090012345", false),
            ("ZNX", "123", true),
            ("ZNX", "023", false),
            ("ZNX", "113", false),
            ("*99", "1999", true),
            ("*1*2*", "00100200", true),
            ("*1*2*", "00200100", false),
            ("\\*67*", "*671", true),
            ("\\*67*", "671", false),
            ("alice", "alice", true),
            ("Alice", "alice", true),
            ("ali*", "alice", true),
            ("alice", "alicia", false),
            ("*", "anything", true),
            ("tel:+49*", "+4930", true),
        ] {
            assert_eq!(fits(pattern, user, None), yes, "{pattern} on {user}");
        }
        for (pattern, host, yes) in [
            ("sip:*@example.com", "example.com", true),
            ("*@EXAMPLE.com.", "example.com", true),
            ("*@example.com", "an.example.com", false),
            ("*@*.example.com", "an.example.com", true),
            ("*@10.*", "10.1.2.3", true),
            ("*@[2001:db8::1]", "2001:db8::1", true),
            ("*@*", "example.com", true),
        ] {
            assert_eq!(fits(pattern, "bob", Some(host)), yes, "{pattern} on {host}");
        }
        assert!(!fits("*@example.com", "bob", None) && fits("*@*", "bob", None));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", " ", "sip:", "@example.com", "+1900%2A", "a\r\nb", "1\\", "bob@", &"1".repeat(300)] {
            assert!(Pattern::read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_the_product_of_the_lengths() {
        // exponential matching would not end
        assert!(!fits(&"*1".repeat(100), &"1".repeat(99), None));
        assert!(!fits(&"*11".repeat(80), &("1".repeat(500) + "2"), None));
    }
}
