//! SRTP keys in session descriptions (RFC 4568): the a=crypto line, what it may say and what we make of it.
//!
//! A line that cannot be honoured to the letter is skipped, as if it were not there: one that wants the stream in the
//! clear or without authentication, a key derivation rate, a master key identifier, or several keys. A key's lifetime binds
//! the end that sends with it and is read over. Keys never show in [`std::fmt::Debug`] (case 46).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The longest tag (RFC 4568 section 9.1: nine digits).
const LARGEST_TAG: u32 = 999_999_999;
/// The longest lifetime of a key of these suites, in packets (RFC 3711 section 9.2).
const LONGEST_LIFETIME: u64 = 1 << 48;
/// The smallest window that the WSH parameter may hint at (RFC 4568 section 6.3.7).
const SMALLEST_WINDOW: u32 = 64;

/// Whether media is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SrtpPolicy {
    /// Never; an offer of nothing but SRTP is refused.
    #[default]
    Off,
    /// Where the far end can: offered as RTP/AVP with a=crypto lines, which a far end that cannot reads over. One that
    /// takes nothing but RTP/SAVP refuses the offer with 488; it can be called again under [`SrtpPolicy::Required`].
    Optional,
    /// Always; only RTP/SAVP is offered, and what is not encrypted is refused.
    Required,
}

/// A crypto suite of RFC 4568 section 6.2. Both have a key of 16 and a salt of 14 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SrtpSuite {
    /// With an authentication tag of 10 bytes.
    AesCm128HmacSha1_80,
    /// With a tag of 4 bytes for RTP; RTCP has 10 all the same.
    AesCm128HmacSha1_32,
}

impl SrtpSuite {
    /// All of them, in the order in which they are offered. Key number *n* of [`LocalMedia`](super::LocalMedia) is
    /// for suite number *n*.
    pub const ALL: [SrtpSuite; 2] = [SrtpSuite::AesCm128HmacSha1_80, SrtpSuite::AesCm128HmacSha1_32];

    /// The name in an a=crypto line.
    pub fn name(self) -> &'static str {
        match self {
            SrtpSuite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            SrtpSuite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }
}

/// A master key and its salt: what one end encrypts with and the other decrypts with.
#[derive(Clone, PartialEq, Eq)]
pub struct CryptoKey([u8; CryptoKey::LEN]);

impl CryptoKey {
    /// Bytes in the key and the salt together.
    pub const LEN: usize = 30;
    const KEY_LEN: usize = 16;

    /// From bytes that a cryptographic generator made, new ones for each call.
    pub fn new(bytes: [u8; CryptoKey::LEN]) -> CryptoKey {
        CryptoKey(bytes)
    }

    /// Key and salt, as they follow one another.
    pub fn as_bytes(&self) -> &[u8; CryptoKey::LEN] {
        &self.0
    }

    /// The master key, 16 bytes.
    pub fn master_key(&self) -> &[u8] {
        self.0.split_at(CryptoKey::KEY_LEN).0
    }

    /// The master salt, 14 bytes.
    pub fn master_salt(&self) -> &[u8] {
        self.0.split_at(CryptoKey::KEY_LEN).1
    }

    fn read(base64: &str) -> Option<CryptoKey> {
        STANDARD.decode(base64).ok()?.try_into().ok().map(CryptoKey)
    }
}

impl fmt::Debug for CryptoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CryptoKey(redacted)")
    }
}

/// How media is encrypted, once both ends agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpPlan {
    /// The suite of both directions.
    pub suite: SrtpSuite,
    /// What we encrypt with.
    pub local: CryptoKey,
    /// What the far end encrypts with.
    pub remote: CryptoKey,
}

/// An a=crypto line that can be honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CryptoLine {
    pub(super) tag: u32,
    pub(super) suite: SrtpSuite,
    pub(super) key: CryptoKey,
}

impl CryptoLine {
    /// Reads an attribute's value: `tag suite inline:key|lifetime|mki parameters`. None if it is to be skipped.
    pub(super) fn read(value: &str) -> Option<CryptoLine> {
        let mut words = value.split_whitespace();
        let tag = words.next().filter(|t| digits(t))?.parse().ok().filter(|t| *t <= LARGEST_TAG)?;
        let suite = words.next()?;
        let suite = SrtpSuite::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(suite))?;
        let (method, info) = words.next()?.split_once(':')?;
        if !method.eq_ignore_ascii_case("inline") {
            return None;
        }
        // several keys, divided by `;`, are not base64 and fall through here
        let mut parts = info.split('|');
        let key = CryptoKey::read(parts.next()?)?;
        if let Some(lifetime) = parts.next() {
            lifetime_is_sound(lifetime).then_some(())?;
        }
        // a master key identifier would be in every packet
        if parts.next().is_some() || !words.all(harmless) {
            return None;
        }
        Some(CryptoLine { tag, suite, key })
    }

    /// The attribute's value.
    pub(super) fn value(&self) -> String {
        format!("{} {} inline:{}", self.tag, self.suite.name(), STANDARD.encode(self.key.0))
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `2^20` or `1048576`; the identifier `1:4` in its place is not one.
fn lifetime_is_sound(text: &str) -> bool {
    let packets = match text.strip_prefix("2^") {
        Some(exponent) => exponent.parse().ok().and_then(|e| 1u64.checked_shl(e)),
        None if digits(text) => text.parse().ok(),
        None => None,
    };
    packets.is_some_and(|p| (1..=LONGEST_LIFETIME).contains(&p))
}

/// Whether a session parameter (RFC 4568 section 6.3) changes nothing that we do. One that begins with `-` may be read over.
fn harmless(parameter: &str) -> bool {
    match parameter.split_once('=') {
        _ if parameter.starts_with('-') => true,
        Some((name, value)) if name.eq_ignore_ascii_case("WSH") => {
            digits(value) && value.parse::<u32>().is_ok_and(|n| n >= SMALLEST_WINDOW)
        }
        Some((name, value)) if name.eq_ignore_ascii_case("KDR") => value == "0",
        _ => false,
    }
}

/// A description as it may be logged or shown: without the keys of its a=crypto, a=key-mgmt and k= lines (case 46).
pub fn without_keys(description: &str) -> String {
    let mut out = String::with_capacity(description.len());
    for line in description.split_inclusive('\n') {
        let text = line.trim_end_matches(['\r', '\n']);
        let line_end = line.get(text.len()..).unwrap_or("\n");
        let lower = text.trim_start().to_ascii_lowercase();
        if lower.starts_with("a=crypto") || lower.contains("inline:") {
            let read = text.trim().split_once(':').and_then(|(_, value)| CryptoLine::read(value));
            match read {
                Some(line) => out.push_str(&format!("a=crypto:{} {} redacted", line.tag, line.suite.name())),
                None => out.push_str("a=crypto:redacted"),
            }
        } else if lower.starts_with("a=key-mgmt") {
            out.push_str("a=key-mgmt:redacted");
        } else if lower.starts_with("k=") {
            out.push_str("k=redacted");
        } else {
            out.push_str(text);
        }
        out.push_str(line_end);
    }
    out
}
