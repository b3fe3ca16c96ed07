//! SIP, SIPS and tel URIs; every other scheme is kept as text.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{limits::MAX_URI, name_addr::Params};

/// A URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uri {
    /// In lower case.
    pub(crate) scheme: String,
    /// As written, a password included. For `tel`, the number; for unknown schemes, everything after the colon.
    pub(crate) user: Option<String>,
    /// Without the brackets of an IPv6 address. Empty for schemes without a host.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) params: Params,
    /// What stands after `?`.
    pub(crate) headers: Option<String>,
}

impl Uri {
    pub(crate) fn sip(user: Option<&str>, host: &str, port: Option<u16>) -> Uri {
        Uri {
            scheme: "sip".into(),
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            params: Params::default(),
            headers: None,
        }
    }

    pub(crate) fn is_sip(&self) -> bool {
        self.scheme == "sip" || self.scheme == "sips"
    }

    pub(crate) fn read(text: &str) -> Option<Uri> {
        let (scheme, rest) = text.split_once(':')?;
        let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !good || rest.is_empty() || text.len() > MAX_URI || text.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "sip" | "sips" => Uri::read_sip(scheme, rest),
            "tel" => {
                let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
                let user = Some(number.to_owned()).filter(|n| !n.is_empty())?;
                let params = Params::read(params)?;
                Some(Uri { scheme, user: Some(user), host: String::new(), port: None, params, headers: None })
            }
            _ => Some(Uri {
                scheme,
                user: Some(rest.to_owned()),
                host: String::new(),
                port: None,
                params: Params::default(),
                headers: None,
            }),
        }
    }

    fn read_sip(scheme: String, rest: &str) -> Option<Uri> {
        // the user part may contain ';' and '?', so the '@' decides first
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers.to_owned())),
            None => (rest, None),
        };
        let (host_port, params) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = read_host_port(host_port)?;
        Some(Uri { scheme, user, host, port, params: Params::read(params)?, headers })
    }
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port`.
pub(crate) fn read_host_port(text: &str) -> Option<(String, Option<u16>)> {
    let text = text.trim();
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let host = well_formed_v6(host)?;
        let rest = rest.trim();
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        (host, port)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Cow::Borrowed(host.trim()), Some(port)),
            None => (Cow::Borrowed(text), None),
        }
    };
    let port = match port {
        Some(port) => Some(port.trim().parse::<u16>().ok()?),
        None => None,
    };
    let good = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    (good && !host.is_empty()).then(|| (host.into_owned(), port))
}

/// An IPv6 address, if it is one. RFC 3261's grammar puts a third colon in front of an IPv4 address at the end, which everybody
/// must tolerate (RFC 5118 section 4.10).
fn well_formed_v6(host: &str) -> Option<Cow<'_, str>> {
    let host = match host.split_once(":::") {
        Some((front, tail)) if tail.parse::<Ipv4Addr>().is_ok() => Cow::Owned(format!("{front}::{tail}")),
        _ => Cow::Borrowed(host),
    };
    host.parse::<Ipv6Addr>().is_ok().then_some(host)
}

/// Writes a host with its brackets, if it needs them.
pub(crate) struct Host<'a>(pub(crate) &'a str);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if self.is_sip() {
                f.write_str("@")?;
            }
        }
        write!(f, "{}", Host(&self.host))?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)?;
        if let Some(headers) = &self.headers {
            write!(f, "?{headers}")?;
        }
        Ok(())
    }
}

/// A host that is an address already.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

/// Writes a user part so that it can stand in a URI (RFC 3261 section 25.1, `user`).
pub(crate) fn escape_user(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for b in user.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            for digit in [b >> 4, b & 15] {
                out.push(char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    out
}
