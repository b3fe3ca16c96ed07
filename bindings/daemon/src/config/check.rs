//! Values of the right type that cannot be used: each is refused with its line and what is allowed.

use std::ops::RangeInclusive;
use std::path::Path;

use engine::jack::{ConnectRule, JackError};
use signaling::SignalingError;
use signaling::toll::Pattern;

use super::places::line_of;

use super::{Account, Config, ConfigError, Jack, Media, Sip};

/// What is checked stands in this file and text; a value that stands nowhere in it came from the environment.
pub(super) struct Checker<'a> {
    pub(super) path: Option<&'a Path>,
    pub(super) text: &'a str,
    /// The first account is the environment's and stands in no file.
    pub(super) first_is_environment: bool,
}

type Checked = Result<(), ConfigError>;

impl Checker<'_> {
    /// All of it; the first that is wrong.
    pub(super) fn check(&self, config: &Config) -> Checked {
        self.sip(&config.sip)?;
        self.dialing(config)?;
        self.media(&config.media)?;
        self.jack(&config.jack)?;
        let within = |key, value, range, unit| self.within(key, value, &range, unit);
        within("control.grace_s", config.control.grace_s, 0..=3600, "seconds")?;
        within("turns.end_of_turn_ms", config.turns.end_of_turn_ms, 200..=5000, "milliseconds")?;
        within("turns.barge_in_ms", config.turns.barge_in_ms, 40..=5000, "milliseconds")?;
        within("turns.barge_in_sure_ms", config.turns.barge_in_sure_ms, 40..=5000, "milliseconds")?;
        within("turns.barge_in_words", config.turns.barge_in_words as u64, 0..=10, "; 0: the voice alone")?;
        if let Err(error) = asr::whisper::check_language(&config.asr.language) {
            return self.refuse("asr.language", format!("{:?}", config.asr.language), &error.to_string());
        }
        within("asr.url_timeout_s", config.asr.url_timeout_s, 1..=60, "seconds")?;
        if let Some(path) = &config.asr.url_ca
            && let Err(error) = std::fs::File::open(path)
        {
            return self.refuse("asr.url_ca", path.display().to_string(), &format!("cannot be read: {error}"));
        }
        if let Some(Err(error)) = crate::serve::http_recognizers(config) {
            return self.refuse("asr.url", format!("{:?}", config.asr.url), &error.to_string());
        }
        let voice = &config.voice;
        within("voice.duck_db", voice.duck_db.into(), 0..=60, "dB")?;
        within("voice.duck_ms", voice.duck_ms.into(), 0..=1000, "milliseconds")?;
        within("voice.restore_ms", voice.restore_ms.into(), 0..=1000, "milliseconds")?;
        within("voice.fade_ms", voice.fade_ms.into(), 0..=1000, "milliseconds")?;
        for (nth, account) in config.accounts.iter().enumerate() {
            if config.accounts[..nth].iter().any(|other| other.name == account.name) {
                return self.refuse_in(
                    nth,
                    "account.name",
                    account.name.clone(),
                    "every account needs a name of its own",
                );
            }
            self.account(nth, account)?;
        }
        Ok(())
    }

    fn sip(&self, sip: &Sip) -> Checked {
        let within = |key, value, range, unit| self.within(key, value, &range, unit);
        within("sip.max_calls", sip.max_calls as u64, 1..=4000, "")?;
        within("sip.ring_timeout_s", sip.ring_timeout_s, 5..=3600, "seconds")?;
        within("sip.stranger_rate", sip.stranger_rate.into(), 1..=100_000, "messages a second")?;
        within("sip.strangers_rate", sip.strangers_rate.into(), 1..=1_000_000, "messages a second")?;
        within("sip.peer_rate", sip.peer_rate.into(), 0..=1_000_000, "messages a second; 0: any")?;
        within("sip.connections_per_address", sip.connections_per_address as u64, 1..=1000, "")?;
        within("sip.ban_offences", sip.ban_offences.into(), 0..=10_000, "; 0: only scanners are banned")?;
        within("sip.ban_s", sip.ban_s, 1..=604_800, "seconds")?;
        within("sip.ban_longest_s", sip.ban_longest_s, sip.ban_s..=2_592_000, "seconds, and no less than sip.ban_s")?;
        within("sip.trace_calls", sip.trace_calls as u64, 0..=100_000, "; 0: none is kept")?;
        if sip.max_incoming_call_s > 0 {
            within("sip.max_incoming_call_s", sip.max_incoming_call_s, 1..=604_800, "seconds; 0: no limit")?;
        }
        if sip.session_expires_s > 0 {
            // RFC 4028 section 4: the smallest interval
            within("sip.session_expires_s", sip.session_expires_s, 90..=86_400, "seconds; 0: no session timers")?;
        }
        let (certificate, key) = (&sip.tls_certificate, &sip.tls_key);
        if certificate.is_some() != key.is_some() || (sip.tls_bind.is_some() && certificate.is_none()) {
            let (name, allowed) = match (certificate, key) {
                (Some(_), None) => ("sip.tls_certificate", "tls_key must be set beside it"),
                (None, Some(_)) => ("sip.tls_key", "tls_certificate must be set beside it"),
                _ => (
                    "sip.tls_bind",
                    "needs tls_certificate and tls_key, in PEM; only to call out over TLS, leave it out",
                ),
            };
            let shown = [certificate, key].into_iter().flatten().next().map(|path| path.display().to_string());
            return self.refuse(name, shown.or(sip.tls_bind.map(|bind| bind.to_string())).unwrap_or_default(), allowed);
        }
        for (name, file) in [("sip.tls_certificate", certificate), ("sip.tls_key", key), ("sip.tls_ca", &sip.tls_ca)] {
            if let Some(path) = file
                && let Err(error) = std::fs::File::open(path)
            {
                return self.refuse(name, path.display().to_string(), &format!("cannot be read: {error}"));
            }
        }
        match &sip.stun_server {
            Some(server) if !is_host(server) => self.refuse("sip.stun_server", format!("{server:?}"), HOST),
            _ => Ok(()),
        }
    }

    fn dialing(&self, config: &Config) -> Checked {
        let dialing = &config.dialing;
        if !(0.0..=1000.0).contains(&dialing.calls_per_second) {
            let allowed = "from 0.01 to 1000; 0: any number";
            return self.refuse("dialing.calls_per_second", dialing.calls_per_second.to_string(), allowed);
        }
        self.within(
            "dialing.max_concurrent",
            dialing.max_concurrent as u64,
            &(0..=4000),
            "; 0: as many as sip.max_calls",
        )?;
        if dialing.max_call_s > 0 {
            self.within("dialing.max_call_s", dialing.max_call_s, &(1..=604_800), "seconds; 0: no limit")?;
        }
        self.patterns(None, "dialing.allow", &dialing.allow)?;
        self.patterns(None, "dialing.deny", &dialing.deny)?;
        let digits = |text: &str, length| text.len() <= length && text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(country) = dialing.country.as_ref().filter(|country| country.is_empty() || !digits(country, 3)) {
            return self.refuse(
                "dialing.country",
                format!("{country:?}"),
                "the country's calling code without plus, \"49\"",
            );
        }
        if !digits(&dialing.trunk_prefix, 4) {
            let allowed = "what is dialled before a number within the country, \"0\"; \"\" where there is nothing";
            return self.refuse("dialing.trunk_prefix", format!("{:?}", dialing.trunk_prefix), allowed);
        }
        if let Some(bad) = dialing.emergency_numbers.iter().find(|number| number.is_empty() || !digits(number, 15)) {
            return self.refuse("dialing.emergency_numbers", format!("{bad:?}"), "numbers of up to 15 digits");
        }
        Ok(())
    }

    fn media(&self, media: &Media) -> Checked {
        if media.codecs.is_empty() {
            return self.refuse("media.codecs", "[]".into(), CODECS);
        }
        if !PTIMES_MS.contains(&media.ptime_ms) {
            return self.refuse("media.ptime_ms", media.ptime_ms.to_string(), "10, 20, 30, 40 or 60 milliseconds");
        }
        self.within("media.lost_after_s", media.lost_after_s, &(0..=86_400), "seconds; 0: never")
    }

    fn jack(&self, jack: &Jack) -> Checked {
        self.within("jack.max_clients", jack.max_clients as u64, &(0..=250), "; a server has 64 or 254 in all")?;
        if jack.connect.len() > JACK_RULES {
            return self.refuse("jack.connect", format!("{} rules", jack.connect.len()), "at most 100");
        }
        for (nth, rule) in jack.connect.iter().enumerate() {
            for (key, pattern) in [("jack.connect.from", &rule.from), ("jack.connect.to", &rule.to)] {
                if let Err(error) = ConnectRule::new(pattern, pattern) {
                    let why = match error {
                        JackError::Pattern { why, .. } => why,
                        other => other.to_string(),
                    };
                    let allowed = format!("must be a regular expression for whole port names: {why}");
                    let line = line_of(self.text, key, Some(nth));
                    return self.refuse_at(line, key, format!("{pattern:?}"), &allowed);
                }
            }
        }
        Ok(())
    }

    fn account(&self, nth: usize, account: &Account) -> Checked {
        let refuse = |key, value, allowed: &str| self.refuse_in(nth, key, value, allowed);
        if let Some(facts) = account.preset.map(super::presets::Preset::facts)
            && let Some((key, what)) = facts.needs.iter().find(|(key, _)| match *key {
                "registrar" => account.registrar.is_empty(),
                "user" => account.user.is_empty(),
                _ => false,
            })
        {
            let key = if *key == "user" { "account.user" } else { "account.registrar" };
            return refuse(key, "\"\"".into(), &format!("the preset {} needs {what}", facts.name));
        }
        for (key, text) in [("account.name", &account.name), ("account.user", &account.user)] {
            if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return refuse(key, format!("{text:?}"), "must not be empty or hold spaces or line breaks");
            }
        }
        let hosts = std::iter::once(("account.registrar", &account.registrar))
            .chain(account.proxy.iter().map(|proxy| ("account.proxy", proxy)));
        for (key, text) in hosts {
            if !is_host(text) {
                return refuse(key, format!("{text:?}"), HOST);
            }
        }
        for (key, text) in [("account.realm", &account.realm), ("account.auth_user", &account.auth_user)] {
            if let Some(text) = text.as_ref().filter(|text| text.is_empty() || text.chars().any(char::is_control)) {
                return refuse(key, format!("{text:?}"), "must not be empty or hold control characters");
            }
        }
        if !(20..=86_400).contains(&account.expires_s) {
            return refuse("account.expires_s", account.expires_s.to_string(), "from 20 to 86400 seconds");
        }
        if account.options_s != 0 && !(5..=3600).contains(&account.options_s) {
            return refuse("account.options_s", account.options_s.to_string(), "from 5 to 3600 seconds; 0: never");
        }
        self.patterns(Some(nth), "account.allow_dial", account.allow_dial.as_deref().unwrap_or_default())?;
        if account.codecs.as_ref().is_some_and(Vec::is_empty) {
            return refuse("account.codecs", "[]".into(), CODECS);
        }
        Ok(())
    }

    fn patterns(&self, nth: Option<usize>, key: &'static str, patterns: &[String]) -> Checked {
        let Some((bad, error)) = patterns.iter().find_map(|text| Pattern::read(text).err().map(|error| (text, error)))
        else {
            return Ok(());
        };
        let why = match error {
            SignalingError::BadConfig { why, .. } => why.to_owned(),
            other => other.to_string(),
        };
        let (value, allowed) = (format!("{bad:?}"), format!("{why}; write \"+49*\", \"1XXX\", \"*@example.com\""));
        match nth {
            Some(nth) => self.refuse_in(nth, key, value, &allowed),
            None => self.refuse(key, value, &allowed),
        }
    }

    fn within(&self, key: &'static str, value: u64, range: &RangeInclusive<u64>, unit: &str) -> Checked {
        if range.contains(&value) {
            return Ok(());
        }
        let space = if unit.is_empty() || unit.starts_with(';') { "" } else { " " };
        self.refuse(key, value.to_string(), &format!("from {} to {}{space}{unit}", range.start(), range.end()))
    }

    fn refuse(&self, key: &'static str, value: String, allowed: &str) -> Checked {
        self.refuse_at(line_of(self.text, key, None), key, value, allowed)
    }

    fn refuse_in(&self, nth: usize, key: &'static str, value: String, allowed: &str) -> Checked {
        let nth = nth.checked_sub(self.first_is_environment.into());
        self.refuse_at(nth.and_then(|nth| line_of(self.text, key, Some(nth))), key, value, allowed)
    }

    fn refuse_at(&self, line: Option<usize>, key: &'static str, value: String, allowed: &str) -> Checked {
        let place = match (self.path, line) {
            (Some(path), Some(line)) => format!("{}, line {line}", path.display()),
            _ => "environment".to_owned(),
        };
        Err(ConfigError::Value { place, key, value, allowed: allowed.to_owned() })
    }
}

/// Rules of `[[jack.connect]]`: more are a mistake, and each port that appears is held against all.
const JACK_RULES: usize = 100;
const PTIMES_MS: [u8; 5] = [10, 20, 30, 40, 60];
const CODECS: &str = "name at least one of \"OPUS\", \"G722\", \"PCMU\", \"PCMA\"";
const HOST: &str = "must be a host or host:port, without spaces, \"sip:\" or brackets of names";

/// `host`, `host:port`, `[2001:db8::1]:port`; not what would break out of a header (case 45).
fn is_host(text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c) || !c.is_ascii();
    let scheme =
        ["sip:", "sips:", "http:", "https:"].iter().any(|scheme| text.to_ascii_lowercase().starts_with(scheme));
    !text.is_empty() && !scheme && text.chars().all(|c| name(c) && !c.is_control() && !c.is_whitespace())
}
