//! TLS: whom we trust, who we are, and what went wrong in words.
//!
//! Checks cannot be switched off. A connection of ours is only used if the far end's certificate is made out for the host
//! that was configured or dialled (RFC 5922 section 7, see `verifier`), has not expired, and was issued by somebody who is
//! trusted: an authority of the system's list, or one of the configured file and then nobody else.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, InvalidMessage, RootCertStore,
    ServerConfig, ServerConnection,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::verifier::{self, Verifier};
use crate::error::SignalingError;

/// Files for TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// Certificates of the authorities that may vouch for servers that we connect to, in place of the system's list: for
    /// servers with certificates of one's own. A self-signed server's own certificate may stand here, too.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, and those of its issuers up to the root; needed to accept TLS connections.
    pub certificate: Option<PathBuf>,
    /// The key that belongs to it.
    pub key: Option<PathBuf>,
    /// Take certificates for `*.example.com`, too, which do not count for SIP (RFC 5922 section 7.2): there are providers
    /// that have no others.
    pub wildcards: bool,
}

/// Makes the TLS part of connections.
#[derive(Debug)]
pub(super) struct Tls {
    client: Arc<ClientConfig>,
    server: Option<Server>,
}

/// Who we are. Certificates live for weeks and the process for months, so the files are read again when they change.
#[derive(Debug)]
struct Server {
    certificate: PathBuf,
    key: PathBuf,
    changed: [Option<SystemTime>; 2],
    config: Arc<ServerConfig>,
}

impl Server {
    fn new(certificate: &Path, key: &Path) -> Result<Server, SignalingError> {
        let changed = changed(certificate, key);
        let config = Arc::new(server_config(&Arc::new(ring::default_provider()), certificate, key)?);
        Ok(Server { certificate: certificate.to_owned(), key: key.to_owned(), changed, config })
    }

    /// Takes new files, if they are any good; else those that were good go on, and the log says so once.
    fn refresh(&mut self) {
        let changed = changed(&self.certificate, &self.key);
        if changed == self.changed {
            return;
        }
        self.changed = changed;
        match Server::new(&self.certificate, &self.key) {
            Ok(new) => {
                log::info!("the certificate {} is new", self.certificate.display());
                *self = new;
            }
            Err(e) => log::error!("the certificate of before is used further: {e}"),
        }
    }
}

fn changed(certificate: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|file| file.metadata().and_then(|m| m.modified()).ok())
}

impl Tls {
    /// Reads the files. Without a certificate none is accepted.
    pub(super) fn new(config: &TlsConfig) -> Result<Tls, SignalingError> {
        let provider = Arc::new(ring::default_provider());
        let client = client_config(&provider, config)?;
        let server = match (&config.certificate, &config.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Server::new(certificate, key)?),
            (Some(file), None) => return Err(bad(file, "has no key beside it: both are needed")),
            (None, Some(file)) => return Err(bad(file, "has no certificate beside it: both are needed")),
        };
        Ok(Tls { client: Arc::new(client), server })
    }

    /// Connections can be accepted.
    pub(super) fn is_server(&self) -> bool {
        self.server.is_some()
    }

    /// For a connection to this host, as it was configured or dialled.
    pub(super) fn client(&self, host: &str) -> Result<rustls::Connection, String> {
        let bare = host.trim_matches(['[', ']']).trim_end_matches('.');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| format!("{host} is not a name that a certificate can be made out for"))?;
        match ClientConnection::new(self.client.clone(), name) {
            Ok(connection) => Ok(connection.into()),
            Err(e) => Err(format!("no TLS connection to {host}: {e}")),
        }
    }

    /// For a connection that was accepted.
    pub(super) fn server(&mut self) -> Option<rustls::Connection> {
        let server = self.server.as_mut()?;
        server.refresh();
        let connection = ServerConnection::new(server.config.clone());
        connection.map(Into::into).map_err(|e| log::warn!("no TLS connection accepted: {e}")).ok()
    }
}

fn client_config(provider: &Arc<CryptoProvider>, config: &TlsConfig) -> Result<ClientConfig, SignalingError> {
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| SignalingError::Start(std::io::Error::other(e)))?;
    let mut roots = RootCertStore::empty();
    let trusted = config.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
    if let Some(file) = &config.ca_file {
        for certificate in &trusted {
            roots
                .add(certificate.clone())
                .map_err(|e| bad(file, &format!("has a certificate that cannot be used: {e}")))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            log::info!("the system has no list of certificate authorities; the one built in is used");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    let verifier =
        Verifier::new(roots, trusted, config.wildcards, provider.clone()).map_err(|e| match &config.ca_file {
            Some(file) => bad(file, &e),
            None => SignalingError::Start(std::io::Error::other(e)),
        })?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certificate: &Path,
    key: &Path,
) -> Result<ServerConfig, SignalingError> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, &format!("cannot be read as a key: {e}")))?;
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| SignalingError::Start(std::io::Error::other(e)))?;
    let verifier = WebPkiClientVerifier::no_client_auth();
    builder.with_client_cert_verifier(verifier).with_single_cert(chain, private).map_err(|e| match e {
        Error::InconsistentKeys(_) => {
            bad(key, &format!("is not the key of the certificate in {}", certificate.display()))
        }
        e => bad(certificate, &format!("cannot be used with the key in {}: {e}", key.display())),
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, SignalingError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|e| bad(file, &format!("cannot be read as certificates: {e}")))?;
    if read.is_empty() { Err(bad(file, "has no certificate in it (PEM is wanted)")) } else { Ok(read) }
}

fn bad(file: &Path, why: &str) -> SignalingError {
    SignalingError::TlsFile { file: file.to_owned(), why: why.to_owned() }
}

/// What went wrong in a TLS connection and what helps, in one sentence. `host`: the far end. `made`: we connected to it.
pub(super) fn explain(error: &Error, host: &str, made: bool) -> String {
    match error {
        Error::InvalidCertificate(why) => explain_certificate(why, host),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) if made => {
            format!("{host} does not speak TLS at that port: is it the port for plain TCP?")
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            format!("{host} does not speak TLS")
        }
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate) if !made => {
            format!("{host} does not trust our certificate")
        }
        Error::AlertReceived(alert) => format!("{host} broke the TLS connection off: {alert:?}"),
        Error::PeerIncompatible(why) => format!("{host} has no kind of TLS in common with us (1.2 or 1.3): {why:?}"),
        e => format!("TLS with {host} failed: {e}"),
    }
}

fn explain_certificate(why: &CertificateError, host: &str) -> String {
    let of = format!("the certificate of {host}");
    match why {
        CertificateError::ExpiredContext { not_after, .. } => format!("{of} has expired ({})", day(*not_after)),
        CertificateError::Expired => format!("{of} has expired"),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("{of} is valid only from {} on: is the clock of this machine right?", day(*not_before))
        }
        CertificateError::NotValidYet => format!("{of} is not valid yet: is the clock of this machine right?"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("{of} is not made out for {host} but for {}", names(presented))
        }
        CertificateError::NotValidForName => format!("{of} is not made out for {host}"),
        // a bad signature: somebody else's certificate has the issuer's name
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "{of} is self-signed, or its issuer is not trusted here: if it is your own server, give its authority's \
             certificate as ca_file"
        ),
        CertificateError::Revoked => format!("{of} has been revoked"),
        CertificateError::Other(other) if verifier::wildcard(other).is_some() => format!(
            "{of} is made out for {}, and a wildcard does not count for SIP (RFC 5922): if that is how the provider does \
             it, set tls_wildcards = true",
            verifier::wildcard(other).unwrap_or_default()
        ),
        CertificateError::Other(_) if verifier::is_authority(why) => format!(
            "{of} is self-signed or an authority's own, and not trusted here: if it is your own server, give this \
             certificate as ca_file"
        ),
        CertificateError::BadEncoding => format!("{of} cannot be read"),
        e => format!("{of} cannot be used: {e}"),
    }
}

/// The names of a certificate, as far as they are fit to be read.
fn names(presented: &[String]) -> String {
    const SHOWN: usize = 5;
    let bare = |name: &String| {
        // the library's way: DnsName("example.com"), IpAddress(192.0.2.1)
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        let inner = inner.unwrap_or(name).trim_matches('"');
        inner.chars().filter(|c| !c.is_control()).take(100).collect::<String>()
    };
    match presented.len() {
        0 => "nobody".into(),
        n if n > SHOWN => format!("{} and more", presented.iter().take(SHOWN).map(bare).collect::<Vec<_>>().join(", ")),
        _ => presented.iter().map(bare).collect::<Vec<_>>().join(", "),
    }
}

fn day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(at) => at.strftime("%Y-%m-%d").to_string(),
        Err(_) => "a time beyond all calendars".into(),
    }
}
