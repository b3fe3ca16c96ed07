//! Configuration: one commented TOML file, overridden by the environment names that users already have.
//!
//! What must hold: an unknown key, a wrong type or an impossible value is refused with the file, the line, the key and
//! what is allowed; a password is never printed, logged or passed on a command line.

mod account;
mod check;
mod dialing;
mod places;
pub mod presets;
mod rooms;
mod secret;
mod sip;
#[cfg(test)]
mod tests;

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::account::ENVIRONMENT_ACCOUNT;
pub use self::account::{Account, Transport};
pub use self::dialing::{Dialing, Emergency};
pub use self::rooms::{
    Asr, Clean, CodecName, Control, Detect, DigitsWithoutEvents, InbandDigits, Jack, JackClients, JackConnect,
    JackMode, Media, Packets, Recording, SpeechDetector, Srtp, TurnStyle, Turns, Voice,
};
pub use self::secret::Secret;
pub use self::sip::{IncomingPolicy, ReferPolicy, Sip, Strangers};

/// The commented file that `mr-sip config init` writes. A test keeps it equal to [`Config::default`].
pub const EXAMPLE: &str = include_str!("../config.example.toml");

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
    Value { place: String, key: &'static str, value: String, allowed: String },
}

/// The whole configuration; every field has the default that `config.example.toml` shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub sip: Sip,
    #[serde(rename = "account")]
    pub accounts: Vec<Account>,
    pub dialing: Dialing,
    pub media: Media,
    pub clean: Clean,
    pub jack: Jack,
    pub asr: Asr,
    pub turns: Turns,
    pub detect: Detect,
    pub voice: Voice,
    pub recording: Recording,
    pub control: Control,
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
        let in_file = config.accounts.len();
        config.apply_environment(environment)?;
        let first_is_environment = config.accounts.len() > in_file;
        check::Checker { path: path.as_deref(), text: &text, first_is_environment }.check(&config)?;
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
        let known = self.accounts.iter_mut().find(|a| a.name == ENVIRONMENT_ACCOUNT);
        match (known, gateway, user) {
            (Some(account), gateway, user) => {
                account.registrar = gateway.unwrap_or_else(|| account.registrar.clone());
                account.user = user.unwrap_or_else(|| account.user.clone());
                if let Some(password) = password {
                    account.password = password.into();
                }
            }
            (None, Some(registrar), Some(user)) => {
                self.accounts.insert(0, Account::of_environment(registrar, user, password.unwrap_or_default().into()));
            }
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
        if let Some(key) = environment("MR_SIP_ASR_KEY") {
            self.asr.url_key = key.into();
        }
        if let Some(folder) = environment("AUDIO_DIR") {
            self.recording.folder = Some(folder.into());
        }
        if let Some(socket) = environment("MR_SIP_SOCKET") {
            self.control.socket = Some(socket.into());
        }
        Ok(())
    }

    /// The account of this name.
    pub fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == name)
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

fn environment_value(key: &'static str, value: String, allowed: &str) -> ConfigError {
    ConfigError::Value { place: "environment".into(), key, value, allowed: allowed.into() }
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
