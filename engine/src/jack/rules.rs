//! Connections that are made by rule: which outputs go to which inputs, by regular expressions on the ports' names.
//!
//! A rule is looked at when a port appears that may be one of its ends: a call's, or any other program's. So it connects
//! each pair once; a connection that somebody takes away stays away. One of the two ends is always a call's: what other
//! programs do among themselves is not ours. This runs on the manager's thread, never on a real-time thread.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::JackError;

/// Longest pattern, in bytes: names have at most 320.
const PATTERN_MAX: usize = 512;
/// Memory that one compiled pattern may take: 256 kB. A pattern that would take more is refused, as it could be slow.
const COMPILED_MAX: usize = 256 * 1024;

/// Connects outputs to inputs whose names (or aliases) match: see the module.
///
/// Patterns match a whole name, so that a plain name means that port and no other: `system:playback_1` is not
/// `system:playback_10`.
///
/// ```
/// use mr_sip_engine::jack::ConnectRule;
/// let rule = ConnectRule::new("mr-sip:.*:caller", "system:playback_1").unwrap();
/// assert!(rule.connects(["mr-sip:c17:caller"], ["system:playback_1"]));
/// assert!(!rule.connects(["mr-sip:c17:caller"], ["system:playback_10"]));
/// assert!(ConnectRule::new("mr-sip:(", "system:playback_1").is_err());
/// ```
#[derive(Clone)]
pub struct ConnectRule {
    from: Pattern,
    to: Pattern,
}

impl ConnectRule {
    /// A rule from outputs to inputs.
    ///
    /// # Errors
    /// [`JackError::Pattern`], with what is wrong and the fix.
    pub fn new(from: &str, to: &str) -> Result<Self, JackError> {
        Ok(Self { from: Pattern::new(from)?, to: Pattern::new(to)? })
    }

    /// Whether an output with these names is to be connected to an input with those.
    pub fn connects<'a>(&self, from: impl IntoIterator<Item = &'a str>, to: impl IntoIterator<Item = &'a str>) -> bool {
        self.takes_from(from) && self.takes_to(to)
    }

    pub(super) fn takes_from<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        names.into_iter().any(|name| self.from.regex.is_match(name))
    }

    pub(super) fn takes_to<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        names.into_iter().any(|name| self.to.regex.is_match(name))
    }
}

impl fmt::Debug for ConnectRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} -> {:?}", self.from.text, self.to.text)
    }
}

impl PartialEq for ConnectRule {
    fn eq(&self, other: &Self) -> bool {
        self.from.text == other.from.text && self.to.text == other.to.text
    }
}

impl Eq for ConnectRule {}

/// One side of a rule.
#[derive(Clone)]
struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    fn new(text: &str) -> Result<Self, JackError> {
        let refuse = |why: String| JackError::Pattern { pattern: text.chars().take(80).collect(), why };
        if text.is_empty() || text.len() > PATTERN_MAX {
            return Err(refuse(format!("1 to {PATTERN_MAX} bytes; write \".*\" for every port")));
        }
        // on its own first, so that "a)(b" does not become good by what is put around it
        let compile = |text: &str| RegexBuilder::new(text).size_limit(COMPILED_MAX).build();
        compile(text).map_err(|error| {
            refuse(match error {
                regex::Error::CompiledTooBig(_) => "it is too large; write a shorter one".to_owned(),
                other => format!("{}; to mean a character itself, put \\ before it", last_line(&other.to_string())),
            })
        })?;
        let regex = compile(&format!("^(?:{text})$")).map_err(|error| refuse(last_line(&error.to_string())))?;
        Ok(Self { text: text.to_owned(), regex })
    }
}

/// The words of a regular expression's error without the drawing above them.
fn last_line(error: &str) -> String {
    error.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_whole_names_with_or_without_anchors() {
        let plain = ConnectRule::new(r"mr-sip:c\d+:caller", "rec:in_[12]").unwrap();
        let anchored = ConnectRule::new(r"^mr-sip:c\d+:caller$", "^rec:in_[12]$").unwrap();
        for rule in [plain, anchored] {
            assert!(rule.connects(["x", "mr-sip:c7:caller"], ["rec:in_2"]), "any of a port's names will do");
            assert!(!rule.connects(["mr-sip:c7:caller2"], ["rec:in_2"]));
            assert!(!rule.connects(["a mr-sip:c7:caller"], ["rec:in_2"]));
            assert!(!rule.connects(["mr-sip:c7:caller"], ["rec:in_3"]));
        }
        let either = ConnectRule::new("a|b", "c|d").unwrap();
        assert!(either.connects(["a"], ["d"]) && !either.connects(["ac"], ["d"]), "alternatives are whole names too");
    }

    #[test]
    fn what_is_no_regular_expression_is_refused_with_the_fix() {
        for bad in ["mr-sip:(", "[", "a{1", "*x", "a)(b", "", r"\", r"\p{Foo}", "(?P<", "(a{1000}){1000}{1000}"] {
            let error = ConnectRule::new(bad, "x").unwrap_err();
            let JackError::Pattern { why, .. } = &error else { panic!("{error:?}") };
            assert!(why.contains("write") || why.contains('\\'), "{bad:?}: {error}");
        }
        assert!(ConnectRule::new("x", &"x".repeat(PATTERN_MAX + 1)).is_err());
    }
}
