//! Requests about calls: dial, answer, end, press keys, look.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Done, Request, name, within};
use crate::types::call::{Call, CallId};
use crate::types::sound::{Detect, DigitsVia};

/// Most headers of one `call.dial`.
const MAX_HEADERS: usize = 20;
/// Most digits of one `call.dtmf`.
const MAX_DIGITS: usize = 64;
/// The far end needs 40 ms to recognise a digit (ITU-T Q.24); RFC 4733's duration field ends at 8191 ms at 8 kHz.
const DIGIT_MS: RangeInclusive<u32> = 40..=8000;
const GAP_MS: RangeInclusive<u32> = 30..=8000;
/// From one second to the longest that networks let a phone ring.
const DIAL_TIMEOUT_MS: RangeInclusive<u64> = 1_000..=600_000;

/// `call.dial`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallDial {
    /// A SIP URI, or what an account's dialling rules make one of.
    pub to: String,
    /// The account to call through; the first one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// How long it may ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether to record it; as configured when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<bool>,
    /// Our name as the called see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Further headers of the INVITE, `X-...` and the like, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Keep our number from the called (RFC 3323).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privacy: bool,
    /// What is listened for besides words; as configured when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect: Option<Detect>,
    /// Anything; comes back in [`Call`].
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl Request for CallDial {
    const NAME: &'static str = "call.dial";
    type Reply = DialReply;

    fn check(&self) -> Result<(), String> {
        name("to", &self.to)?;
        self.account.as_deref().map_or(Ok(()), |account| name("account", account))?;
        self.display_name.as_deref().map_or(Ok(()), |shown| name("display_name", shown))?;
        headers(&self.headers)?;
        self.timeout_ms.map_or(Ok(()), |timeout| within("timeout_ms", timeout, &DIAL_TIMEOUT_MS))
    }
}

/// A header's name is a token (RFC 3261 section 25.1), and its value ends no line (case 45).
fn headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    if headers.len() > MAX_HEADERS {
        return Err(format!("`headers`: {} of them: at most {MAX_HEADERS}", headers.len()));
    }
    for (header, value) in headers {
        let token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
        if header.is_empty() || header.len() > 64 || !header.chars().all(token) {
            return Err(format!("`headers`: {header:?}: is no header's name"));
        }
        name("headers", value).map_err(|what| format!("{what} ({header})"))?;
    }
    Ok(())
}

/// The answer to [`CallDial`]: the call exists, all else comes as events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DialReply {
    /// The new call.
    pub call: CallId,
}

about_call! {
    /// `call.answer`: answers an incoming call and makes the client its owner.
    "call.answer" CallAnswer => Done,
    /// `call.get`: one call with its transcript; ended calls are kept for a while.
    "call.get" CallGet => Call,
}

/// `call.hangup`: ends a call in whatever state it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallHangup {
    /// Which call.
    pub call: CallId,
    /// Also when another client owns it.
    #[serde(default)]
    pub force: bool,
}

impl CallHangup {
    /// Ends a call of this client's.
    pub fn new(call: CallId) -> Self {
        Self { call, force: false }
    }
}

impl Request for CallHangup {
    const NAME: &'static str = "call.hangup";
    type Reply = Done;
}

/// `call.reject`: refuses an incoming call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallReject {
    /// Which call.
    pub call: CallId,
    /// The SIP status, 400 to 699.
    #[serde(default = "busy_here")]
    pub status: u16,
}

fn busy_here() -> u16 {
    486
}

impl Request for CallReject {
    const NAME: &'static str = "call.reject";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        within("status", self.status, &(400..=699))
    }
}

/// `call.dtmf`: presses keys, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallDtmf {
    /// Which call.
    pub call: CallId,
    /// `0`-`9`, `*`, `#`, `A`-`D`; small letters become capitals.
    pub digits: String,
    /// How long each is held.
    #[serde(default = "digit_ms")]
    pub duration_ms: u32,
    /// The pause after each.
    #[serde(default = "gap_ms")]
    pub gap_ms: u32,
    /// The way they go; the best one that the far end knows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<DigitsVia>,
    /// Also when another client owns the call.
    #[serde(default)]
    pub force: bool,
}

fn digit_ms() -> u32 {
    120
}

fn gap_ms() -> u32 {
    60
}

impl CallDtmf {
    /// The digits with the usual timing.
    pub fn new(call: CallId, digits: impl Into<String>) -> Self {
        Self { call, digits: digits.into(), duration_ms: digit_ms(), gap_ms: gap_ms(), via: None, force: false }
    }
}

impl Request for CallDtmf {
    const NAME: &'static str = "call.dtmf";
    type Reply = Done;

    fn check(&self) -> Result<(), String> {
        let known = |digit: char| matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d');
        if let Some(other) = self.digits.chars().find(|digit| !known(*digit)) {
            return Err(format!("`digits`: {other:?}: allowed are 0-9 * # A-D"));
        }
        if self.digits.is_empty() || self.digits.len() > MAX_DIGITS {
            return Err(format!("`digits`: {} of them: from 1 to {MAX_DIGITS}", self.digits.len()));
        }
        within("duration_ms", self.duration_ms, &DIGIT_MS)?;
        within("gap_ms", self.gap_ms, &GAP_MS)
    }
}

/// `call.list`: the first page of the calls, or the page after a call. [`crate::Client::calls`] reads all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallList {
    /// Only calls whose number is above this one's; it need not exist any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<CallId>,
    /// At most so many, 1 to [`MAX_LIST`]; as many as there may be when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Most calls that one answer to [`CallList`] has.
pub const MAX_LIST: u32 = 500;

impl Request for CallList {
    const NAME: &'static str = "call.list";
    type Reply = CallListReply;

    fn check(&self) -> Result<(), String> {
        self.limit.map_or(Ok(()), |limit| within("limit", limit, &(1..=MAX_LIST)))
    }
}

/// The answer to [`CallList`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallListReply {
    /// Calls that have not ended, without transcripts, by their numbers.
    pub calls: Vec<Call>,
    /// Whether there are more, to be asked for by [`CallList::after`] the last of these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// What the calls of one answer may take as JSON, in bytes: well below a frame, whatever their metadata.
const LIST_BYTES: usize = 512 * 1024;

impl CallListReply {
    /// The first of these calls, as many as one answer can have, and one at least.
    pub fn page(calls: impl IntoIterator<Item = Call>, request: &CallList) -> Self {
        let limit = request.limit.unwrap_or(MAX_LIST).min(MAX_LIST) as usize;
        let (mut page, mut bytes) = (Self::default(), 0);
        for call in calls {
            bytes += serde_json::to_string(&call).map_or(0, |text| text.len());
            if page.calls.len() == limit || (bytes > LIST_BYTES && !page.calls.is_empty()) {
                page.more = true;
                break;
            }
            page.calls.push(call);
        }
        page
    }
}
