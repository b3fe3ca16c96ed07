//! The outgoing guard: which calls may be made, asked before each (case 15), and before a transfer is followed (case 16).
//!
//! Whoever steals access to the control socket, or talks an agent into it, must not be able to run up a bill. So every
//! destination is brought into its plain form and into all the forms a switch could take it for (`number`), and then:
//!
//! 1. an emergency number is refused (or always allowed, see [`Emergency`]);
//! 2. what a `deny` pattern fits, in any form, is refused, whatever else allows it;
//! 3. what no `allow` pattern fits is refused, unless there are none;
//! 4. so is what would be one call too many: at once, by the second, or by a [`Quota`];
//! 5. and the call that is made ends after `max_duration`.
//!
//! What must hold: [`TollGuard::ask`] is given the Request-URI that will be sent, in memory bounded by the configuration and
//! time bounded by the lengths of the patterns; only a call that is permitted is counted. A refusal says which rule it was
//! and which key to change.
//!
//! A list of what is denied is a net, and nets have holes: carrier codes, call-by-call prefixes, a digit for an outside line.
//! Whoever knows where the agent has to call should write that into `allow`; that is a wall.

mod number;
mod pattern;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

pub use number::Home;
pub use pattern::Pattern;

use crate::{
    error::SignalingError,
    guard::{Bucket, Limit, Rate},
};
use number::Destination;

/// Most calls of a quota, for each is remembered.
const LARGEST_QUOTA: usize = 100_000;
/// Most patterns in a list, quotas, and prefixes: a bound on the time that a question takes.
const MOST_PATTERNS: usize = 1000;
const MOST_QUOTAS: usize = 100;
const MOST_PREFIXES: usize = 8;

/// How the outgoing guard is set up. The names of the fields are the keys below `toll` in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct TollConfig {
    /// What may be called; empty: everything that is not denied. The default.
    pub allow: Vec<Pattern>,
    /// What may not be called, even if it is allowed. By default [`PREMIUM`].
    pub deny: Vec<Pattern>,
    /// What happens to emergency numbers.
    pub emergency: Emergency,
    /// Which numbers these are. By default [`EMERGENCY_NUMBERS`].
    pub emergency_numbers: Vec<String>,
    /// What is dialled before a country's number, instead of the plus. By default `00` and `011`.
    pub international: Vec<String>,
    /// Where one is at home. Without it, `+49...` also counts as `0049...` for patterns, in Germany too; and `0900...` is not
    /// known to be `+49900...`.
    pub home: Option<Home>,
    /// Calls per second. By default 5, and 20 at once. `None`: any.
    pub rate: Option<Rate>,
    /// Calls at once. `None`, the default: as many as the agent can.
    pub concurrent: Option<usize>,
    /// Calls by hour, day and so on to some destinations or all. None by default.
    pub quotas: Vec<Quota>,
    /// How long a call may last. By default [`MAX_DURATION`]. `None`: as long as it likes.
    pub max_duration: Option<Duration>,
}

/// At most so many calls to some destinations within any stretch of time of this length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// To where.
    pub to: Pattern,
    /// How many; up to 100,000.
    pub calls: usize,
    /// Within which time.
    pub within: Duration,
}

/// What happens to emergency numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emergency {
    /// They are not called: an agent has no place there, and the network knows nothing of where its caller is.
    #[default]
    Refuse,
    /// They are called whatever the other rules say.
    Allow,
    /// They are numbers as any others.
    Ignore,
}

/// Emergency numbers around the world that are not customary as extensions. A number is compared as a whole.
pub const EMERGENCY_NUMBERS: [&str; 22] = [
    "000", "110", "111", "112", "113", "115", "117", "118", "119", "120", "122", "15", "17", "18", "190", "192", "193",
    "911", "995", "997", "998", "999",
];

/// Well-known numbers at a premium: of North America, of the ITU (979, and satellites' 87x and 88x), of Britain, Germany,
/// Austria, Switzerland, France and Italy.
pub const PREMIUM: [&str; 16] = [
    "+1900*",
    "+1976*",
    "1900NXXXXXX",
    "+979*",
    "+870*",
    "+881*",
    "+882*",
    "+883*",
    "+4487*",
    "+449*",
    "+49900*",
    "+49137*",
    "+439*",
    "+4190*",
    "+3389*",
    "+3989*",
];

/// How long a call may last when the configuration does not say.
pub const MAX_DURATION: Duration = Duration::from_secs(4 * 3600);

impl Default for TollConfig {
    fn default() -> TollConfig {
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<String>>();
        TollConfig {
            allow: Vec::new(),
            deny: PREMIUM.iter().filter_map(|text| Pattern::read(text).ok()).collect(),
            emergency: Emergency::Refuse,
            emergency_numbers: strings(&EMERGENCY_NUMBERS),
            international: strings(&["00", "011"]),
            home: None,
            rate: Some(Rate::new(5.0, 20)),
            concurrent: None,
            quotas: Vec::new(),
            max_duration: Some(MAX_DURATION),
        }
    }
}

/// A call that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a permit has been counted"]
pub struct Permit {
    /// The call is to be ended after this, see [`TollConfig::max_duration`].
    pub max_duration: Option<Duration>,
    /// It is a call to an emergency number.
    pub emergency: bool,
}

/// A call that may not be made. Its `Display` names the rule and the configuration's key.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The destination cannot be read, or could be read in more than one way.
    #[error("{to:?} is not called: {why}")]
    Unreadable {
        /// What was to be called.
        to: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An emergency number.
    #[error(
        "{number} is an emergency number, which an agent does not call; set toll.emergency to \"allow\", or take it out of \
         toll.emergency_numbers if it is none here"
    )]
    Emergency {
        /// Which.
        number: String,
    },
    /// A pattern denies it.
    #[error("{to:?} is denied by {pattern} in toll.deny{}", Reading(to, reading))]
    Denied {
        /// What was to be called.
        to: String,
        /// The pattern.
        pattern: Pattern,
        /// What the pattern fits.
        reading: String,
    },
    /// No pattern allows it.
    #[error("{to:?} is fitted by no pattern in toll.allow")]
    NotAllowed {
        /// What was to be called.
        to: String,
    },
    /// Too many calls are up.
    #[error("{running} calls are up, and toll.concurrent is {most}")]
    TooMany {
        /// So many are.
        running: usize,
        /// So many may be.
        most: usize,
    },
    /// Too many calls are made at once.
    #[error("more calls are made than toll.rate allows: {} per second, {} at once", .0.per_second, .0.burst)]
    TooFast(
        /// The rate that is set.
        Rate,
    ),
    /// A quota is used up.
    #[error("{} calls to {} were made within {} s, which is all that toll.quotas allows; the next in {} s", .quota.calls,
        .quota.to, .quota.within.as_secs(), .again.as_secs() + 1)]
    Quota {
        /// The quota.
        quota: Quota,
        /// When there is room again.
        again: Duration,
    },
}

/// Says what a destination was read as, if that is not what it looks like.
struct Reading<'a>(&'a str, &'a str);

impl fmt::Display for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading(to, reading) = *self;
        if to.contains(reading) { Ok(()) } else { write!(f, ", read as {reading}") }
    }
}

/// The outgoing guard; see the module's page.
#[derive(Debug)]
pub struct TollGuard {
    config: TollConfig,
    limit: Option<Limit>,
    /// Where its clock begins: the first time that it was asked.
    epoch: Option<Instant>,
    bucket: Bucket,
    /// When the calls of each quota were made, the oldest first.
    made: Vec<VecDeque<Instant>>,
}

impl TollGuard {
    /// An outgoing guard that has permitted nothing yet.
    ///
    /// # Errors
    /// [`SignalingError::BadConfig`]: a rate or a quota is none, a list is too long, a country's number is not of digits.
    pub fn new(config: TollConfig) -> Result<TollGuard, SignalingError> {
        let check = |good: bool, field: &str, why| match good {
            true => Ok(()),
            false => Err(SignalingError::BadConfig { field: field.to_owned(), why }),
        };
        let digits = |text: &str| text.len() <= 8 && text.bytes().all(|b| b.is_ascii_digit());
        let patterns = config.allow.len().max(config.deny.len());
        check(patterns <= MOST_PATTERNS, "toll.allow or toll.deny", "has more than 1,000 patterns")?;
        check(
            config.emergency_numbers.len() <= MOST_PATTERNS,
            "toll.emergency_numbers",
            "has more than 1,000 numbers",
        )?;
        let prefixes = config.international.len() <= MOST_PREFIXES && config.international.iter().all(|p| digits(p));
        check(prefixes, "toll.international", "must be up to 8 prefixes of up to 8 digits")?;
        if let Some(home) = &config.home {
            let good = !home.country.is_empty() && digits(&home.country) && digits(&home.trunk);
            check(good, "toll.home", "must be of digits: country = \"49\", trunk = \"0\"")?;
        }
        check(config.quotas.len() <= MOST_QUOTAS, "toll.quotas", "has more than 100 quotas")?;
        let quotas = config.quotas.iter().all(|q| q.calls <= LARGEST_QUOTA && !q.within.is_zero());
        check(quotas, "toll.quotas", "must be of up to 100,000 calls within more than no time")?;
        let limit = config.rate.map(|rate| rate.limit("toll.rate")).transpose()?;
        let made = config.quotas.iter().map(|_| VecDeque::new()).collect();
        Ok(TollGuard { limit, epoch: None, bucket: Bucket::default(), made, config })
    }

    /// Asks whether a call may be made, and counts it if so, whatever becomes of it. `destination`: the Request-URI as it will
    /// be sent; the host of anything less is not known, and patterns with hosts do not fit it. `running`: calls that are up,
    /// or being set up, now.
    ///
    /// # Errors
    /// Why not.
    pub fn ask(&mut self, now: Instant, destination: &str, running: usize) -> Result<Permit, Refusal> {
        if self.is_emergency_service(destination) {
            return self.emergency(destination.trim());
        }
        let to = Destination::read(destination, self.config.home.as_ref(), &self.config.international)
            .map_err(|why| Refusal::Unreadable { to: destination.to_owned(), why })?;
        if let Some(number) = self.emergency_number(&to) {
            return self.emergency(&number);
        }
        self.check_patterns(destination, &to)?;
        if let Some(most) = self.config.concurrent
            && running >= most
        {
            return Err(Refusal::TooMany { running, most });
        }
        let quotas = self.check_quotas(now, &to)?;
        self.take_token(now)?;
        for i in quotas {
            if let Some(made) = self.made.get_mut(i) {
                made.push_back(now);
            }
        }
        Ok(Permit { max_duration: self.config.max_duration, emergency: false })
    }

    /// How long a call may last.
    pub fn max_duration(&self) -> Option<Duration> {
        self.config.max_duration
    }

    /// What it was made with.
    pub fn config(&self) -> &TollConfig {
        &self.config
    }

    /// `urn:service:sos` and what is below it (RFC 5031).
    fn is_emergency_service(&self, destination: &str) -> bool {
        let start = destination.trim().get(..15);
        self.config.emergency != Emergency::Ignore && start.is_some_and(|s| s.eq_ignore_ascii_case("urn:service:sos"))
    }

    fn emergency_number(&self, to: &Destination) -> Option<String> {
        if self.config.emergency == Emergency::Ignore {
            return None;
        }
        let listed = |reading: &&str| self.config.emergency_numbers.iter().any(|n| n == *reading);
        match self.config.emergency {
            // nothing gets past the other rules by looking like one
            Emergency::Allow => Some(to.user.as_str()).filter(|user| listed(user)),
            _ => to.readings().find(listed),
        }
        .map(str::to_owned)
    }

    fn emergency(&self, number: &str) -> Result<Permit, Refusal> {
        match self.config.emergency {
            Emergency::Allow => Ok(Permit { max_duration: None, emergency: true }),
            _ => Err(Refusal::Emergency { number: number.to_owned() }),
        }
    }

    fn check_patterns(&self, text: &str, to: &Destination) -> Result<(), Refusal> {
        let host = to.host.as_deref();
        for pattern in &self.config.deny {
            if let Some(reading) = to.readings().find(|reading| pattern.fits(reading, host)) {
                let (pattern, reading) = (pattern.clone(), reading.to_owned());
                return Err(Refusal::Denied { to: text.to_owned(), pattern, reading });
            }
        }
        let mut allow = self.config.allow.iter();
        match self.config.allow.is_empty() || allow.any(|pattern| pattern.fits(&to.user, host)) {
            true => Ok(()),
            false => Err(Refusal::NotAllowed { to: text.to_owned() }),
        }
    }

    /// The quotas that the call counts for, by their places; none is used up.
    fn check_quotas(&mut self, now: Instant, to: &Destination) -> Result<Vec<usize>, Refusal> {
        let mut counts = Vec::new();
        for (i, (quota, made)) in self.config.quotas.iter().zip(&mut self.made).enumerate() {
            if !to.readings().any(|reading| quota.to.fits(reading, to.host.as_deref())) {
                continue;
            }
            while made.front().is_some_and(|at| now.saturating_duration_since(*at) >= quota.within) {
                made.pop_front();
            }
            if made.len() >= quota.calls {
                let oldest = made.front().map_or(Duration::ZERO, |at| now.saturating_duration_since(*at));
                let again = quota.within.saturating_sub(oldest);
                return Err(Refusal::Quota { quota: quota.clone(), again });
            }
            counts.push(i);
        }
        Ok(counts)
    }

    fn take_token(&mut self, now: Instant) -> Result<(), Refusal> {
        let time = now.saturating_duration_since(*self.epoch.get_or_insert(now)).as_nanos();
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        match (self.limit, self.config.rate) {
            (Some(limit), Some(rate)) if !self.bucket.take(time, limit) => Err(Refusal::TooFast(rate)),
            _ => Ok(()),
        }
    }
}
