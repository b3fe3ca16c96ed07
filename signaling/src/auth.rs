//! Digest authentication (RFC 7616, RFC 8760), the answering side.
//!
//! What must hold: a password is used only to make a response for a realm that the account allows, with an algorithm not weaker
//! than one that this account has been asked for before (case 11); it is never printed (case 46). Who may ask at all — only
//! the account's own hosts — is decided where the request was sent, in the agent.

use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

use crate::message::{split_list, unquote};

/// A secret. Its `Debug` does not print it, and nothing in this crate logs it (case 46).
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes the secret in.
    pub fn new(secret: impl Into<String>) -> Password {
        Password(secret.into())
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// A digest algorithm, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Algorithm {
    Md5,
    Sha256,
    Sha512_256,
}

/// A challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) realm: String,
    pub(crate) nonce: String,
    opaque: Option<String>,
    pub(crate) algorithm: Algorithm,
    /// `algorithm=...-sess`
    session: bool,
    /// As the server spelled it, to be given back; `None`: it named none, which means MD5.
    algorithm_token: Option<String>,
    /// `qop=auth` was offered; else the response is made the way of RFC 2069.
    qop_auth: bool,
    pub(crate) stale: bool,
    /// Proxy-Authenticate, to be answered by Proxy-Authorization.
    pub(crate) proxy: bool,
}

/// Why no challenge of a response can be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the server asked for a password without a challenge that we understand")]
    NoChallenge,
    #[error("the server asked for realm {0:?}, which this account is not configured for")]
    WrongRealm(String),
    #[error("the server offered only a weaker algorithm than it did before")]
    Weaker,
}

impl Challenge {
    /// Reads one WWW-Authenticate or Proxy-Authenticate; `None` if it is of a kind that we do not answer.
    pub(crate) fn read(value: &str, proxy: bool) -> Option<Challenge> {
        let (scheme, rest) = value.trim().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let (mut realm, mut nonce, mut opaque, mut algorithm_token) = (None, None, None, None);
        let (mut qop, mut stale) = (None, false);
        for part in split_list(rest) {
            let Some((name, value)) = part.split_once('=') else { continue };
            let value = unquote(value.trim());
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "nonce" => nonce = Some(value),
                "opaque" => opaque = Some(value),
                "algorithm" => algorithm_token = Some(value),
                "qop" => qop = Some(value),
                "stale" => stale = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        let token = algorithm_token.as_deref().unwrap_or("MD5").to_ascii_uppercase();
        let (name, session) = match token.strip_suffix("-SESS") {
            Some(name) => (name, true),
            None => (token.as_str(), false),
        };
        let algorithm = match name {
            "MD5" => Algorithm::Md5,
            "SHA-256" => Algorithm::Sha256,
            "SHA-512-256" => Algorithm::Sha512_256,
            _ => return None,
        };
        let qop_auth = match &qop {
            None => false,
            // auth-int alone is not answered: proxies that change the body would break it
            Some(qop) => qop.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth")).then_some(true)?,
        };
        Some(Challenge {
            realm: realm?,
            nonce: nonce?,
            opaque,
            algorithm,
            session,
            algorithm_token,
            qop_auth,
            stale,
            proxy,
        })
    }

    /// The value of the (Proxy-)Authorization header.
    ///
    /// `uri` is the Request-URI as it stands in the request; `cnonce` must not repeat, `count` counts the requests answered with
    /// this nonce from 1.
    pub(crate) fn authorization(
        &self,
        user: &str,
        password: &Password,
        method: &str,
        uri: &str,
        cnonce: &str,
        count: u32,
    ) -> String {
        let hash = |text: &str| match self.algorithm {
            Algorithm::Md5 => hex(&Md5::digest(text.as_bytes())),
            Algorithm::Sha256 => hex(&Sha256::digest(text.as_bytes())),
            Algorithm::Sha512_256 => hex(&Sha512_256::digest(text.as_bytes())),
        };
        let mut a1 = hash(&format!("{user}:{}:{}", self.realm, password.expose()));
        if self.session {
            a1 = hash(&format!("{a1}:{}:{cnonce}", self.nonce));
        }
        let a2 = hash(&format!("{method}:{uri}"));
        let response = if self.qop_auth {
            hash(&format!("{a1}:{}:{count:08x}:{cnonce}:auth:{a2}", self.nonce))
        } else {
            hash(&format!("{a1}:{}:{a2}", self.nonce))
        };
        let mut value = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quote(user),
            quote(&self.realm),
            quote(&self.nonce),
            quote(uri),
        );
        if let Some(token) = &self.algorithm_token {
            value.push_str(&format!(", algorithm={token}"));
        }
        if self.qop_auth {
            value.push_str(&format!(", qop=auth, nc={count:08x}"));
        }
        if self.qop_auth || self.session {
            value.push_str(&format!(", cnonce={}", quote(cnonce)));
        }
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque={}", quote(opaque)));
        }
        value
    }
}

/// Chooses the challenge to answer: the strongest of those whose realm is allowed.
///
/// `floor` is the strongest algorithm this account has answered before.
pub(crate) fn choose(
    challenges: impl IntoIterator<Item = Challenge>,
    realm: Option<&str>,
    floor: Option<Algorithm>,
) -> Result<Challenge, Refused> {
    let mut best: Option<Challenge> = None;
    let mut refused = Refused::NoChallenge;
    for challenge in challenges {
        if realm.is_some_and(|r| r != challenge.realm) {
            refused = Refused::WrongRealm(challenge.realm);
        } else if floor.is_some_and(|f| challenge.algorithm < f) {
            refused = Refused::Weaker;
        } else if best.as_ref().is_none_or(|b| challenge.algorithm > b.algorithm) {
            best = Some(challenge);
        }
    }
    best.ok_or(refused)
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC7616_NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const RFC7616_CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    fn rfc7616(algorithm: &str) -> String {
        let value = format!(
            r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm},
               nonce="{RFC7616_NONCE}", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
        );
        let challenge = Challenge::read(&value, false).unwrap();
        let password = Password::new("Circle of Life");
        challenge.authorization("Mufasa", &password, "GET", "/dir/index.html", RFC7616_CNONCE, 1)
    }

    #[test]
    fn md5_as_in_rfc_7616_section_3_9_1() {
        let value = rfc7616("MD5");
        assert!(value.contains(r#"response="8ca523f5e9506fed4657c9700eebdbec""#), "{value}");
        assert!(value.contains("qop=auth, nc=00000001"), "{value}");
        assert!(value.contains(r#"opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#), "{value}");
    }

    #[test]
    fn sha_256_as_in_rfc_7616_section_3_9_1() {
        let value = rfc7616("SHA-256");
        assert!(
            value.contains(r#"response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1""#),
            "{value}"
        );
        assert!(value.contains("algorithm=SHA-256"), "{value}");
    }

    /// The hash is held to FIPS 180-4's example, and the response to its formula.
    #[test]
    fn sha_512_256_by_the_formula_of_rfc_7616() {
        let hash = |text: &str| hex(&Sha512_256::digest(text.as_bytes()));
        assert_eq!(hash("abc"), "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23");
        let value = rfc7616("SHA-512-256");
        let a1 = hash("Mufasa:http-auth@example.org:Circle of Life");
        let a2 = hash("GET:/dir/index.html");
        let response = hash(&format!("{a1}:{RFC7616_NONCE}:00000001:{RFC7616_CNONCE}:auth:{a2}"));
        assert!(value.contains(&format!("response=\"{response}\"")), "{value}");
        assert!(value.contains("algorithm=SHA-512-256"), "{value}");
    }

    #[test]
    fn md5_as_in_rfc_2617_section_3_5() {
        let value =
            r#"Digest realm="testrealm@host.com",qop="auth,auth-int",nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093""#;
        let challenge = Challenge::read(value, true).unwrap();
        let password = Password::new("Circle Of Life");
        let answer = challenge.authorization("Mufasa", &password, "GET", "/dir/index.html", "0a4f113b", 1);
        assert!(answer.contains(r#"response="6629fae49393a05397450978507c4ef1""#), "{answer}");
        assert!(!answer.contains("algorithm="), "an algorithm that was not named is not named back: {answer}");
    }

    #[test]
    fn the_strongest_algorithm_offered_is_answered() {
        let read =
            |a: &str| Challenge::read(&format!(r#"Digest realm="r", nonce="n", algorithm={a}, qop="auth""#), false);
        let offered = ["MD5", "SHA-1", "SHA-256", "SHA-256"].into_iter().filter_map(read);
        assert_eq!(choose(offered, None, None).unwrap().algorithm, Algorithm::Sha256);
        let offered = ["MD5", "SHA-512-256", "SHA-256"].into_iter().filter_map(read);
        assert_eq!(choose(offered, None, None).unwrap().algorithm, Algorithm::Sha512_256);
    }

    #[test]
    fn case_11_neither_another_realm_nor_a_weaker_algorithm_is_answered() {
        let md5 = || Challenge::read(r#"Digest realm="home", nonce="n""#, false);
        assert_eq!(choose(md5(), Some("other"), None), Err(Refused::WrongRealm("home".into())));
        assert_eq!(choose(md5(), Some("home"), Some(Algorithm::Sha256)), Err(Refused::Weaker));
        assert!(choose(md5(), Some("home"), Some(Algorithm::Md5)).is_ok());
        assert_eq!(choose(None, None, None), Err(Refused::NoChallenge));
    }

    #[test]
    fn quotes_in_names_are_escaped_and_commas_in_quotes_do_not_split() {
        let challenge = Challenge::read(r#"digest Realm="a, \"b\"", NONCE="x,y=z", qop=auth"#, false).unwrap();
        assert_eq!(challenge.realm, r#"a, "b""#);
        assert_eq!(challenge.nonce, "x,y=z");
        let answer = challenge.authorization(r#"u"x"#, &Password::new("p"), "REGISTER", "sip:h", "c", 1);
        assert!(answer.contains(r#"username="u\"x", realm="a, \"b\"""#), "{answer}");
    }

    #[test]
    fn case_46_a_password_does_not_show() {
        assert_eq!(format!("{:?}", Password::new("swordfish")), "Password(redacted)");
    }

    #[test]
    fn what_is_not_a_digest_challenge_is_not_read() {
        for value in [
            "",
            "Digest",
            "Basic realm=\"x\"",
            "Digest nonce=\"x\"",
            "Digest realm=\"a\", nonce=\"b\", qop=\"auth-int\"",
        ] {
            assert_eq!(Challenge::read(value, false), None, "{value}");
        }
    }
}
