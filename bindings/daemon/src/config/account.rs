//! `[[account]]`: one provider, PBX or trunk. What a preset knows is filled in where the file says nothing.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::presets::Preset;
use super::rooms::{CodecName, Srtp};
use super::secret::Secret;
use super::sip::networks;

/// Name of the account that `SIP_GATEWAY`, `SIP_USER` and `SIP_PASSWORD` describe.
pub(super) const ENVIRONMENT_ACCOUNT: &str = "default";
/// Five minutes: short enough to keep most NAT bindings and to notice a lost registration.
const EXPIRES_S: u32 = 300;
/// How often a trunk that does not register is asked by OPTIONS whether it is there.
const OPTIONS_S: u64 = 60;

/// How messages go to the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// One account, complete. An empty `registrar` or `user` is refused by the check that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "AccountFile")]
pub struct Account {
    pub name: String,
    pub preset: Option<Preset>,
    pub registrar: String,
    pub user: String,
    pub auth_user: Option<String>,
    pub password: Secret,
    pub password_file: Option<PathBuf>,
    pub realm: Option<String>,
    /// In order of preference; empty: the registrar.
    pub proxy: Vec<String>,
    /// `None`: as DNS says, else UDP.
    pub transport: Option<Transport>,
    pub register: bool,
    pub expires_s: u32,
    /// 0: never.
    pub options_s: u64,
    #[serde(serialize_with = "networks::serialize")]
    pub peers: Vec<IpNet>,
    /// `None`: those of `[media]`.
    pub codecs: Option<Vec<CodecName>>,
    /// `None`: as `[media]` says.
    pub srtp: Option<Srtp>,
    /// What may be called through it, beside the rules of `[dialing]`; `None`: everything, `[]`: nothing.
    pub allow_dial: Option<Vec<String>>,
}

impl Account {
    /// An account that registers, as the three environment names describe it.
    pub(super) fn of_environment(registrar: String, user: String, password: Secret) -> Self {
        Self {
            password,
            ..AccountFile { registrar: Some(registrar), user: Some(user), ..AccountFile::default() }.into()
        }
    }
}

/// What stands in the file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[serde(rename = "account")]
struct AccountFile {
    name: Option<String>,
    preset: Option<Preset>,
    registrar: Option<String>,
    user: Option<String>,
    auth_user: Option<String>,
    password: Secret,
    password_file: Option<PathBuf>,
    realm: Option<String>,
    #[serde(deserialize_with = "one_or_many")]
    proxy: Vec<String>,
    transport: Option<Transport>,
    register: Option<bool>,
    expires_s: Option<u32>,
    options_s: Option<u64>,
    #[serde(with = "networks")]
    peers: Vec<IpNet>,
    codecs: Option<Vec<CodecName>>,
    srtp: Option<Srtp>,
    allow_dial: Option<Vec<String>>,
}

impl From<AccountFile> for Account {
    fn from(file: AccountFile) -> Self {
        let preset = file.preset.map(Preset::facts);
        let register = file.register.or(preset.map(|p| p.register)).unwrap_or(true);
        Self {
            name: file.name.unwrap_or_else(|| ENVIRONMENT_ACCOUNT.to_owned()),
            preset: file.preset,
            registrar: file.registrar.or(preset.and_then(|p| p.registrar).map(str::to_owned)).unwrap_or_default(),
            user: file.user.unwrap_or_default(),
            auth_user: file.auth_user,
            password: file.password,
            password_file: file.password_file,
            realm: file.realm,
            proxy: file.proxy,
            transport: file.transport.or(preset.and_then(|p| p.transport)),
            register,
            expires_s: file.expires_s.or(preset.and_then(|p| p.expires_s)).unwrap_or(EXPIRES_S),
            options_s: file.options_s.or(preset.map(|p| p.options_s)).unwrap_or(if register { 0 } else { OPTIONS_S }),
            peers: file.peers,
            codecs: file.codecs.or(preset.and_then(|p| p.codecs).map(<[CodecName]>::to_vec)),
            srtp: file.srtp.or(preset.and_then(|p| p.srtp)),
            allow_dial: file.allow_dial,
        }
    }
}

/// `proxy = "a"` and `proxy = ["a", "b"]`.
fn one_or_many<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    struct Read;
    impl<'de> serde::de::Visitor<'de> for Read {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("\"host\", \"host:port\" or a list of them")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))
        }
    }
    d.deserialize_any(Read)
}
