//! Configuration: one commented TOML file, overridden by the environment names that users already have.
//!
//! What must hold: an unknown key, a wrong type or an impossible value is refused with the file, the line, the key and
//! what is allowed; a password is never printed, logged or passed on a command line.

use std::env;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The commented file that `mr-sip config init` writes. A test keeps it equal to [`Config::default`].
pub const EXAMPLE: &str = include_str!("config.example.toml");

/// Name of the account that `SIP_GATEWAY`, `SIP_USER` and `SIP_PASSWORD` describe.
const ENVIRONMENT_ACCOUNT: &str = "default";

/// What is wrong with the configuration, in words that name the place and the fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    /// The file is not TOML, or has a key or a type that mr-sip does not know.
    #[error("{path}: {detail}")]
    Syntax { path: PathBuf, detail: String },
    /// A value is of the right type but cannot be used.
    #[error("{place}: {key} = {value}: {allowed}")]
    Value { place: String, key: &'static str, value: String, allowed: &'static str },
}

/// A password or token. It has no `Display`; `Debug` and serialisation show stars.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that must compute with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// The whole configuration; every field has the default that `config.example.toml` shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub sip: Sip,
    #[serde(rename = "account")]
    pub accounts: Vec<Account>,
    pub media: Media,
    pub jack: Jack,
    pub asr: Asr,
    pub turns: Turns,
    pub recording: Recording,
    pub control: Control,
}

/// What happens to a call that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncomingPolicy {
    /// It rings until a client answers or rejects it.
    Ask,
    /// It is answered at once.
    Auto,
    /// It is refused with 480.
    Reject,
}

/// The SIP side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sip {
    pub bind: SocketAddr,
    pub public_address: Option<IpAddr>,
    pub incoming: IncomingPolicy,
    pub ring_timeout_s: u64,
    pub max_calls: usize,
}

impl Default for Sip {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([0, 0, 0, 0], 5060)),
            public_address: None,
            incoming: IncomingPolicy::Ask,
            ring_timeout_s: 60,
            max_calls: 200,
        }
    }
}

/// One account at a provider, or a trunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    #[serde(default = "Account::default_name")]
    pub name: String,
    pub registrar: String,
    pub user: String,
    pub auth_user: Option<String>,
    #[serde(default)]
    pub password: Secret,
    pub password_file: Option<PathBuf>,
    pub realm: Option<String>,
    pub proxy: Option<String>,
    #[serde(default = "yes")]
    pub register: bool,
    #[serde(default = "Account::default_expires")]
    pub expires_s: u32,
}

fn yes() -> bool {
    true
}

impl Account {
    fn default_name() -> String {
        ENVIRONMENT_ACCOUNT.to_owned()
    }

    /// Five minutes: short enough to keep most NAT bindings and to notice a lost registration.
    fn default_expires() -> u32 {
        300
    }
}

/// RTP and the media thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    pub bind_ip: IpAddr,
    #[serde(with = "port_range")]
    pub rtp_ports: RangeInclusive<u16>,
    pub codecs: Vec<CodecName>,
    pub cores: Vec<usize>,
    pub realtime: bool,
    pub lost_after_s: u64,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            bind_ip: IpAddr::from([0, 0, 0, 0]),
            rtp_ports: 20000..=29999,
            codecs: vec![CodecName::Pcmu, CodecName::Pcma],
            cores: Vec::new(),
            realtime: true,
            lost_after_s: 30,
        }
    }
}

/// A codec as SDP names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CodecName {
    Pcmu,
    Pcma,
}

/// `"20000-29999"` in the file, a range in the program.
mod port_range {
    use std::ops::RangeInclusive;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(range: &RangeInclusive<u16>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{}-{}", range.start(), range.end()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<RangeInclusive<u16>, D::Error> {
        let text = String::deserialize(d)?;
        text.split_once('-')
            .and_then(|(low, high)| Some(low.trim().parse().ok()?..=high.trim().parse().ok()?))
            .filter(|range: &RangeInclusive<u16>| *range.start() >= 1024 && range.end() > range.start())
            .ok_or_else(|| {
                D::Error::custom(format!(
                    "`{text}` is not a port range; write \"LOW-HIGH\" with 1024 <= LOW < HIGH <= 65535"
                ))
            })
    }
}

/// Whether calls appear as ports of a JACK server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JackMode {
    /// Use a server that runs when the daemon starts.
    Auto,
    /// Use a server whenever one is there.
    On,
    /// Never.
    Off,
}

/// The JACK side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jack {
    pub mode: JackMode,
    pub server: String,
    pub client: String,
}

impl Default for Jack {
    fn default() -> Self {
        Self { mode: JackMode::Auto, server: String::new(), client: "mr-sip".to_owned() }
    }
}

/// The ears.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asr {
    pub model: String,
    pub models_folder: Option<PathBuf>,
    pub workers: usize,
    pub partial_interval_ms: u64,
}

impl Default for Asr {
    fn default() -> Self {
        Self { model: "telephone-en".to_owned(), models_folder: None, workers: 0, partial_interval_ms: 500 }
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turns {
    pub end_of_turn_ms: u64,
    pub barge_in: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Self { end_of_turn_ms: 500, barge_in: true }
    }
}

/// Recordings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recording {
    pub enabled: bool,
    pub folder: Option<PathBuf>,
}

impl Default for Recording {
    fn default() -> Self {
        Self { enabled: true, folder: None }
    }
}

/// The control socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    pub socket: Option<PathBuf>,
    pub grace_s: u64,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: None, grace_s: 5 }
    }
}

/// Reads one environment variable; an empty one counts as unset.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
pub fn process_environment(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl Config {
    /// Finds, reads and checks the configuration. `named` is what `--config` gave.
    ///
    /// # Errors
    /// [`ConfigError`], with the file, the line, the key and what is allowed.
    pub fn load(named: Option<&Path>, environment: Environment<'_>) -> Result<(Self, Option<PathBuf>), ConfigError> {
        let path = find(named, environment);
        let mut text = String::new();
        let mut config = match &path {
            Some(path) => {
                text =
                    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                Self::parse(&text, path)?
            }
            None => Self::default(),
        };
        config.read_password_files(path.as_deref())?;
        config.apply_environment(environment)?;
        config.check(path.as_deref(), &text)?;
        Ok((config, path))
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            detail: error.to_string().trim_end().to_owned(),
        })
    }

    fn read_password_files(&mut self, path: Option<&Path>) -> Result<(), ConfigError> {
        for account in &mut self.accounts {
            if let Some(file) = &account.password_file {
                let text =
                    std::fs::read_to_string(file).map_err(|source| ConfigError::Read { path: file.clone(), source })?;
                account.password = text.trim_end_matches(['\r', '\n']).to_owned().into();
            } else if let (false, Some(path)) = (account.password.reveal().is_empty(), path)
                && readable_by_others(path)
            {
                log::warn!("{} holds a password and others can read it: chmod 600 {}", path.display(), path.display());
            }
        }
        Ok(())
    }

    fn apply_environment(&mut self, environment: Environment<'_>) -> Result<(), ConfigError> {
        let gateway = environment("SIP_GATEWAY");
        let user = environment("SIP_USER");
        let password = environment("SIP_PASSWORD");
        let known = self.accounts.iter().position(|a| a.name == ENVIRONMENT_ACCOUNT);
        match (known, gateway, user) {
            (Some(index), gateway, user) => {
                let account = &mut self.accounts[index];
                account.registrar = gateway.unwrap_or_else(|| account.registrar.clone());
                account.user = user.unwrap_or_else(|| account.user.clone());
                if let Some(password) = password {
                    account.password = password.into();
                }
            }
            (None, Some(registrar), Some(user)) => self.accounts.insert(
                0,
                Account {
                    name: ENVIRONMENT_ACCOUNT.to_owned(),
                    registrar,
                    user,
                    auth_user: None,
                    password: password.unwrap_or_default().into(),
                    password_file: None,
                    realm: None,
                    proxy: None,
                    register: true,
                    expires_s: Account::default_expires(),
                },
            ),
            (None, Some(value), None) => {
                return Err(environment_value("SIP_GATEWAY", value, "SIP_USER must be set beside it"));
            }
            (None, None, Some(value)) => {
                return Err(environment_value("SIP_USER", value, "SIP_GATEWAY must be set beside it"));
            }
            (None, None, None) => {}
        }
        if let Some(model) = environment("WHISPER_MODEL") {
            self.asr.model = model;
        }
        if let Some(folder) = environment("AUDIO_DIR") {
            self.recording.folder = Some(folder.into());
        }
        if let Some(socket) = environment("MR_SIP_SOCKET") {
            self.control.socket = Some(socket.into());
        }
        Ok(())
    }

    /// Refuses what is of the right type and cannot be used. `text` is the file's, to name the line.
    fn check(&self, path: Option<&Path>, text: &str) -> Result<(), ConfigError> {
        let value = |key, value: String, allowed| {
            let place = match (path, line_of(text, key)) {
                (Some(path), Some(line)) => format!("{}, line {line}", path.display()),
                _ => "environment".to_owned(),
            };
            Err(ConfigError::Value { place, key, value, allowed })
        };
        if self.media.codecs.is_empty() {
            return value("media.codecs", "[]".into(), "name at least one of \"PCMU\", \"PCMA\"");
        }
        if self.sip.max_calls == 0 || self.sip.max_calls > 4000 {
            return value("sip.max_calls", self.sip.max_calls.to_string(), "from 1 to 4000");
        }
        if !(5..=3600).contains(&self.sip.ring_timeout_s) {
            return value("sip.ring_timeout_s", self.sip.ring_timeout_s.to_string(), "from 5 to 3600 seconds");
        }
        if self.control.grace_s > 3600 {
            return value("control.grace_s", self.control.grace_s.to_string(), "at most 3600 seconds");
        }
        if self.media.lost_after_s > 86_400 {
            return value("media.lost_after_s", self.media.lost_after_s.to_string(), "at most 86400 seconds; 0: never");
        }
        if !(200..=5000).contains(&self.turns.end_of_turn_ms) {
            return value(
                "turns.end_of_turn_ms",
                self.turns.end_of_turn_ms.to_string(),
                "from 200 to 5000 milliseconds",
            );
        }
        for (index, account) in self.accounts.iter().enumerate() {
            if self.accounts[..index].iter().any(|other| other.name == account.name) {
                return value("account.name", account.name.clone(), "every account needs a name of its own");
            }
            for (key, text) in [
                ("account.name", &account.name),
                ("account.user", &account.user),
                ("account.registrar", &account.registrar),
            ] {
                if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
                    return value(key, format!("{text:?}"), "must not be empty or hold spaces or line breaks");
                }
            }
        }
        Ok(())
    }

    /// Where recordings go: `recording.folder`, `AUDIO_DIR`, or the user's data folder.
    pub fn recordings_folder(&self) -> PathBuf {
        self.recording.folder.as_deref().map_or_else(|| data_folder().join("calls"), expand_home)
    }

    /// Where Whisper models are looked for.
    pub fn models_folder(&self) -> PathBuf {
        self.asr.models_folder.as_deref().map_or_else(|| data_folder().join("models"), expand_home)
    }

    /// No packet for this long ends a call; `None` switches the rule off.
    pub fn media_lost_after(&self) -> Option<Duration> {
        (self.media.lost_after_s > 0).then(|| Duration::from_secs(self.media.lost_after_s))
    }
}

/// The first line, from 1, that sets `table.key`.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let (wanted_table, wanted_key) = path.split_once('.')?;
    let mut table = "";
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']', ' ']);
        } else if table == wanted_table && line.split('=').next().is_some_and(|key| key.trim() == wanted_key) {
            return Some(number + 1);
        }
    }
    None
}

fn environment_value(key: &'static str, value: String, allowed: &'static str) -> ConfigError {
    ConfigError::Value { place: "environment".into(), key, value, allowed }
}

/// The file to read: the named one, whether it exists or not; else the first that exists.
pub fn find(named: Option<&Path>, environment: Environment<'_>) -> Option<PathBuf> {
    if let Some(path) = named {
        return Some(path.to_owned());
    }
    if let Some(path) = environment("MR_SIP_CONFIG") {
        return Some(path.into());
    }
    [user_path(environment), Some("/etc/mr-sip/config.toml".into())].into_iter().flatten().find(|path| path.is_file())
}

/// The user's own configuration file: where `mr-sip config init` writes.
pub fn user_path(environment: Environment<'_>) -> Option<PathBuf> {
    environment("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| Path::new(&home).join(".config")))
        .map(|folder| folder.join("mr-sip/config.toml"))
}

fn data_folder() -> PathBuf {
    process_environment("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| process_environment("HOME").map(|home| Path::new(&home).join(".local/share")))
        .unwrap_or_else(|| "/var/lib".into())
        .join("mr-sip")
}

fn expand_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), process_environment("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

fn readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o044 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_environment(_: &str) -> Option<String> {
        None
    }

    fn error_of(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), &no_environment).unwrap_err().to_string()
    }

    #[test]
    fn the_example_file_says_the_defaults() {
        let example = Config::parse(EXAMPLE, Path::new("example")).unwrap();
        assert_eq!(example, Config::default());
    }

    #[test]
    fn every_commented_key_of_the_example_is_known() {
        let uncommented: String = EXAMPLE
            .lines()
            .map(|line| {
                let inner = line.trim_start_matches("# ");
                let is_key = inner
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
                if line.starts_with("# ") && (is_key || inner.starts_with("[[")) { inner } else { line }
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let config = Config::parse(&uncommented, Path::new("example")).unwrap();
        assert_eq!(config.accounts[0].user, "1000");
    }

    #[test]
    fn an_unknown_key_is_named_with_file_line_and_what_is_allowed() {
        let error = error_of("[sip]\nbind = \"127.0.0.1:5060\"\nincomming = \"auto\"\n");
        for part in ["config.toml", "line 3", "incomming", "incoming"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[test]
    fn a_wrong_choice_lists_the_choices() {
        let error = error_of("[jack]\nmode = \"maybe\"\n");
        for part in ["line 2", "auto", "on", "off"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[test]
    fn a_bad_port_range_says_how_to_write_one() {
        let error = error_of("[media]\nrtp_ports = \"9\"\n");
        assert!(error.contains("LOW-HIGH") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_value_that_cannot_be_used_is_named_with_its_line() {
        let error = error_of("[sip]\nmax_calls = 10\n\n[turns]\n# too short\nend_of_turn_ms = 20\n");
        for part in ["line 6", "turns.end_of_turn_ms = 20", "200 to 5000"] {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }

    #[test]
    fn the_environment_makes_the_default_account_and_its_password_never_shows() {
        let environment = |name: &str| {
            Some(match name {
                "SIP_GATEWAY" => "sip.example.com".to_owned(),
                "SIP_USER" => "1000".to_owned(),
                "SIP_PASSWORD" => "hunter2".to_owned(),
                "WHISPER_MODEL" => "tiny.en".to_owned(),
                "AUDIO_DIR" => "/srv/calls".to_owned(),
                _ => return None,
            })
        };
        let mut config = Config::default();
        config.apply_environment(&environment).unwrap();
        assert_eq!(config.accounts[0].password.reveal(), "hunter2");
        assert_eq!(config.asr.model, "tiny.en");
        assert_eq!(config.recordings_folder(), Path::new("/srv/calls"));
        let shown = format!("{config:?}{}", toml::to_string(&config).unwrap());
        assert!(!shown.contains("hunter2"), "case 46: a secret was shown: {shown}");
    }

    #[test]
    fn a_user_with_a_line_break_is_refused() {
        let error = error_of("[[account]]\nregistrar = \"a\"\nuser = \"x\\r\\nEvil: 1\"\n");
        assert!(error.contains("account.user") && error.contains("line 3"), "{error}");
    }
}
