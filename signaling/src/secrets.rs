//! Texts as they may be shown: every `Debug` in this crate that comes upon a description, an address or a header goes through
//! here, so that what is logged of a value holds no key and no password (case 46). See `trace::redact` for what goes.

#![allow(dead_code, reason = "what derived `Debug`s use does not count as used")]

use crate::trace::redact;

/// Without its secrets.
pub(crate) fn shown(text: &str) -> String {
    shown_bytes(text.as_bytes())
}

/// Without their secrets, if it is there.
pub(crate) fn shown_if(text: &Option<String>) -> Option<String> {
    text.as_deref().map(shown)
}

/// A message or a part of one, as text.
pub(crate) fn shown_bytes(bytes: &[u8]) -> String {
    let mut bytes = bytes.to_vec();
    redact(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Each as a line, for a header's name says whether its value is secret.
pub(crate) fn shown_headers(headers: &[(String, String)]) -> Vec<String> {
    headers.iter().map(|(name, value)| shown(&format!("{name}: {value}"))).collect()
}
