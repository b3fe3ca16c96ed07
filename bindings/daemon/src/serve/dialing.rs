//! The rules of `[dialing]` before a call goes out: may it be called, and for how long (cases 15 and 16).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use control::types::{ApiError, Direction, ErrorCode};
use signaling::SignalingError;
use signaling::guard::Rate;
use signaling::toll::{Emergency, Home, Pattern, Refusal, TollConfig, TollGuard};

use super::switchboard::Switchboard;
use crate::config::{self, Account, Config};

/// How many calls may be dialled at once beyond the rate.
const BURST: u32 = 20;

/// The guard for all calls, and one for each account that has patterns of its own.
#[derive(Debug)]
pub(super) struct DialRules {
    guard: TollGuard,
    /// `None`: nothing may be called through the account.
    accounts: HashMap<String, Option<TollGuard>>,
}

impl DialRules {
    /// # Errors
    /// A pattern that is none.
    pub(super) fn new(config: &Config) -> Result<Self, SignalingError> {
        let own = |account: &Account| {
            let allow = account.allow_dial.as_ref()?;
            let guard = match allow.is_empty() {
                true => Ok(None),
                false => account_rules(&config.dialing, allow).and_then(TollGuard::new).map(Some),
            };
            Some(guard.map(|guard| (account.name.clone(), guard)))
        };
        Ok(Self {
            guard: TollGuard::new(rules(&config.dialing)?)?,
            accounts: config.accounts.iter().filter_map(own).collect::<Result<_, _>>()?,
        })
    }

    /// Whether `uri` may be called, and how long such a call may last. A call that may is counted.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        uri: &str,
        account: Option<&str>,
        running: usize,
    ) -> Result<Option<Duration>, ApiError> {
        if let Some((name, guard)) = account.and_then(|name| self.accounts.get_mut(name).map(|guard| (name, guard))) {
            let allowed = match guard {
                Some(guard) => guard.ask(now, uri, 0).map(|_| ()).map_err(|refusal| match refusal {
                    Refusal::NotAllowed { to } => {
                        format!("{to:?} is fitted by no pattern in allow_dial of account {name:?}")
                    }
                    other => words(&other),
                }),
                None => Err(format!("nothing may be called through account {name:?}: its allow_dial is empty")),
            };
            allowed.map_err(|text| ApiError::new(ErrorCode::DestinationRefused, text))?;
        }
        match self.guard.ask(now, uri, running) {
            Ok(permit) => Ok(permit.max_duration),
            Err(refusal) => {
                let code = match refusal {
                    Refusal::TooMany { .. } | Refusal::TooFast(_) | Refusal::Quota { .. } => ErrorCode::DialingLimit,
                    _ => ErrorCode::DestinationRefused,
                };
                Err(ApiError::new(code, words(&refusal)))
            }
        }
    }
}

/// The refusal with the keys of our own configuration.
fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Unreadable { to, why } => format!("{to:?} is not called: {why}"),
        Refusal::Emergency { number } => format!(
            "{number} is an emergency number, which an agent does not call; set dialing.emergency to \"allow\", or take it \
             out of dialing.emergency_numbers if it is none here"
        ),
        Refusal::Denied { to, pattern, reading } if to.contains(reading.as_str()) => {
            format!("{to:?} is denied by {pattern} in dialing.deny")
        }
        Refusal::Denied { to, pattern, reading } => {
            format!("{to:?} is denied by {pattern} in dialing.deny, read as {reading}")
        }
        Refusal::NotAllowed { to } => format!("{to:?} is fitted by no pattern in dialing.allow"),
        Refusal::TooMany { running, most } => format!("{running} calls are up, and dialing.max_concurrent is {most}"),
        Refusal::TooFast(rate) => {
            format!("more calls are made than dialing.calls_per_second allows: {} a second", rate.per_second)
        }
        other => other.to_string(),
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, SignalingError> {
    texts.iter().map(|text| Pattern::read(text)).collect()
}

/// The rules as signaling wants them.
fn rules(dialing: &config::Dialing) -> Result<TollConfig, SignalingError> {
    Ok(TollConfig {
        allow: patterns(&dialing.allow)?,
        deny: patterns(&dialing.deny)?,
        emergency: match dialing.emergency {
            config::Emergency::Refuse => Emergency::Refuse,
            config::Emergency::Allow => Emergency::Allow,
        },
        emergency_numbers: dialing.emergency_numbers.clone(),
        home: home(dialing),
        rate: (dialing.calls_per_second > 0.0).then(|| Rate::new(dialing.calls_per_second, BURST)),
        concurrent: (dialing.max_concurrent > 0).then_some(dialing.max_concurrent),
        max_duration: (dialing.max_call_s > 0).then(|| Duration::from_secs(dialing.max_call_s)),
        ..TollConfig::default()
    })
}

/// What the user agent asks once more, of redirections above all: where a call may go. Rates and lengths are ours.
///
/// # Errors
/// A pattern that is none.
pub(super) fn patterns_only(dialing: &config::Dialing) -> Result<TollConfig, SignalingError> {
    Ok(TollConfig { rate: None, concurrent: None, max_duration: None, ..rules(dialing)? })
}

/// An account's own patterns; everything else is asked of the rules for all.
fn account_rules(dialing: &config::Dialing, allow: &[String]) -> Result<TollConfig, SignalingError> {
    Ok(TollConfig {
        allow: patterns(allow)?,
        deny: Vec::new(),
        emergency: Emergency::Ignore,
        home: home(dialing),
        rate: None,
        max_duration: None,
        ..TollConfig::default()
    })
}

fn home(dialing: &config::Dialing) -> Option<Home> {
    dialing.country.as_ref().map(|country| Home { country: country.clone(), trunk: dialing.trunk_prefix.clone() })
}

impl Switchboard {
    /// Asks the rules about a destination as a client or a far end names it.
    ///
    /// # Errors
    /// 1004 with the rule, 1010 with the limit.
    pub(super) fn may_call(&mut self, to: &str, account: Option<&str>) -> Result<Option<Duration>, ApiError> {
        let running = self.calls.values().filter(|call| call.direction == Direction::Out && !call.is_over()).count()
            + self.dials.len()
            + self.transfers.len();
        let uri = self.request_uri(to, account);
        self.rules.ask(Instant::now(), &uri, account, running)
    }

    /// What a destination becomes when it is called: a bare number or name is the account's.
    fn request_uri(&self, to: &str, account: Option<&str>) -> String {
        let to = to.trim();
        let scheme = ["sip:", "sips:", "tel:", "urn:"]
            .iter()
            .any(|scheme| to.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        match account.and_then(|name| self.config.account(name)) {
            Some(account) if !scheme && !to.contains('@') => format!("sip:{to}@{}", account.registrar),
            _ => to.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(toml: &str, uri: &str, account: Option<&str>) -> Result<Option<Duration>, ApiError> {
        let config: Config = toml::from_str(toml).unwrap();
        let now = Instant::now();
        DialRules::new(&config).unwrap().ask(now, uri, account, 0)
    }

    /// Case 15: numbers at a premium and emergency numbers are refused as the daemon comes, with the rule in the message.
    #[test]
    fn case_15_the_rule_that_refuses_is_named() {
        let premium = asked("", "sip:+19005551234@example.com", None).unwrap_err();
        assert_eq!(premium.code(), Some(ErrorCode::DestinationRefused));
        assert!(premium.message.contains("+1900*") && premium.message.contains("dialing.deny"), "{premium}");
        let emergency = asked("", "sip:911@example.com", None).unwrap_err();
        assert!(emergency.message.contains("dialing.emergency"), "{emergency}");
        let other = asked("[dialing]\nallow = [\"+49*\"]", "sip:+15551234567@example.com", None).unwrap_err();
        assert!(other.message.contains("dialing.allow"), "{other}");
    }

    #[test]
    fn an_account_has_patterns_of_its_own() {
        let toml = "[[account]]\nname = \"a\"\nuser = \"u\"\nregistrar = \"r\"\nallow_dial = [\"+49*\"]\n\
                    [[account]]\nname = \"b\"\nuser = \"u\"\nregistrar = \"r\"\nallow_dial = []\n";
        assert!(asked(toml, "sip:+4930123456@r", Some("a")).is_ok());
        let refused = asked(toml, "sip:+15551234567@r", Some("a")).unwrap_err();
        assert!(refused.message.contains("allow_dial of account \"a\""), "{refused}");
        let refused = asked(toml, "sip:+4930123456@r", Some("b")).unwrap_err();
        assert!(refused.message.contains("allow_dial is empty"), "{refused}");
        assert!(asked(toml, "sip:911@r", Some("a")).is_err());
    }

    #[test]
    fn limits_have_a_code_of_their_own() {
        let config: Config = toml::from_str("[dialing]\nmax_concurrent = 1\nmax_call_s = 60").unwrap();
        let now = Instant::now();
        let mut rules = DialRules::new(&config).unwrap();
        assert_eq!(rules.ask(now, "sip:100@example.com", None, 0), Ok(Some(Duration::from_secs(60))));
        let refused = rules.ask(now, "sip:100@example.com", None, 1).unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::DialingLimit));
        assert!(refused.message.contains("dialing.max_concurrent is 1"), "{refused}");
    }
}
