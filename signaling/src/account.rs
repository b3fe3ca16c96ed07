//! An account at a provider or PBX: who we are there, and where "there" is.

use std::time::Duration;

use ipnet::IpNet;

use crate::{auth::Password, error::SignalingError, transport::Transport};

/// How long a binding is asked for when the configuration does not say: RFC 3261 section 10.2's default.
pub const DEFAULT_EXPIRES: Duration = Duration::from_secs(3600);

/// One account. Credentials go only to its registrar and proxy, and if `realm` is set only to that realm.
#[derive(Debug, Clone)]
pub struct Account {
    /// What the application calls it.
    pub name: String,
    /// The registrar, `host[:port]`; also the domain of our own address.
    pub registrar: String,
    /// The user part of our own address.
    pub user: String,
    /// The user name for digest authentication; `None`: the same as `user`.
    pub auth_user: Option<String>,
    /// The password.
    pub password: Password,
    /// The only realm that is given credentials; `None`: any realm that the registrar or proxy names.
    pub realm: Option<String>,
    /// Where requests are sent first, `host[:port]`, in order of preference; the next one is tried when one does not answer
    /// or says that it cannot. Empty: to the registrar.
    pub proxies: Vec<String>,
    /// How the registrar or proxy is reached; `None`: as DNS says, else by UDP.
    pub transport: Option<Transport>,
    /// Register, so that calls come in. Without it this is a trunk between two addresses that know one another.
    pub register: bool,
    /// How long a binding is asked for.
    pub expires: Duration,
    /// How often a trunk that does not register is asked by OPTIONS whether it is there; `None`: never. The first question is
    /// also how its addresses become known, from which calls are taken.
    pub options: Option<Duration>,
    /// Networks that the far end's calls come from, beside the addresses of registrar and proxies.
    pub peers: Vec<IpNet>,
}

/// How often a trunk is asked whether it is there, when the configuration does not say.
pub const DEFAULT_OPTIONS: Duration = Duration::from_secs(60);

impl Account {
    /// An account that registers, with the defaults for everything else.
    pub fn new(
        name: impl Into<String>,
        registrar: impl Into<String>,
        user: impl Into<String>,
        password: Password,
    ) -> Account {
        Account {
            name: name.into(),
            registrar: registrar.into(),
            user: user.into(),
            auth_user: None,
            password,
            realm: None,
            proxies: Vec::new(),
            transport: None,
            register: true,
            expires: DEFAULT_EXPIRES,
            options: Some(DEFAULT_OPTIONS),
            peers: Vec::new(),
        }
    }

    /// The name that goes with the password.
    pub(crate) fn auth_user(&self) -> &str {
        self.auth_user.as_deref().unwrap_or(&self.user)
    }

    /// Refuses what would break out of a header (case 45) or leave an address without a part.
    pub(crate) fn check(&self) -> Result<(), SignalingError> {
        let own = [("registrar", self.registrar.as_str()), ("user", self.user.as_str())];
        for (field, value) in own.into_iter().chain(self.proxies.iter().map(|p| ("proxy", p.as_str()))) {
            let why = if value.is_empty() {
                "must not be empty"
            } else if value.chars().any(|c| c.is_control() || c.is_whitespace() || "<>\"".contains(c)) {
                "must not contain spaces, control characters, quotes or angle brackets"
            } else {
                continue;
            };
            return Err(SignalingError::BadConfig { field: format!("account {:?}: {field}", self.name), why });
        }
        let quoted = [Some(self.auth_user()), self.realm.as_deref()];
        if quoted.into_iter().flatten().any(|v| v.chars().any(char::is_control)) {
            return Err(SignalingError::BadConfig {
                field: format!("account {:?}: auth_user or realm", self.name),
                why: "must not contain control characters",
            });
        }
        Ok(())
    }
}
