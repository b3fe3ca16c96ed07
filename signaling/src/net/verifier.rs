//! Whether a server's certificate is for whom we wanted to reach (RFC 5922 section 7).
//!
//! Three things are other than on the web:
//!
//! - A certificate may name the domain by a URI, `sip:example.com`, instead of a DNS name (section 7.1). One with a user in it
//!   is a person's, and one of another scheme is for something else; neither counts.
//! - A wildcard counts for nothing (section 7.2), unless it is configured that it does: there are providers that have no other
//!   certificates.
//! - `openssl req -x509` makes a certificate that is its own authority, and such a one may not be a server's by the rules
//!   (RFC 5280). Most small PBXes have just that. Where the user has named exactly this certificate as trusted, and that is
//!   the only thing against it, it counts.
//!
//! Everything else is rustls's own check: chain, dates, use.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use webpki::EndEntityCert;

/// Checks servers' certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    /// What the user has named.
    trusted: Vec<CertificateDer<'static>>,
    wildcards: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(
        roots: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        wildcards: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, String> {
        let roots = Arc::new(roots);
        let inner = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let inner = inner.map_err(|e| format!("cannot be used: {e}"))?;
        Ok(Verifier { inner, roots, trusted, wildcards, provider })
    }

    /// The certificate, whose chain and dates are good, names the server.
    fn check_name(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
        let names = Names::of(certificate)?;
        if names.has_uri(name) {
            return Ok(());
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        match names.wildcard_for(name).filter(|_| !self.wildcards) {
            Some(wildcard) => {
                let why = Wildcard(wildcard.to_owned());
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why)))))
            }
            None => Ok(()),
        }
    }
}

/// The names in a certificate.
struct Names<'a> {
    dns: Vec<&'a str>,
    uris: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn of(certificate: &'a CertificateDer<'a>) -> Result<Names<'a>, Error> {
        let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let certificate = EndEntityCert::try_from(certificate).map_err(bad)?;
        Ok(Names { dns: certificate.valid_dns_names().collect(), uris: certificate.valid_uri_names().collect() })
    }

    /// `sip:` and the server's name, without a user. What else a URI may have (a port, parameters) says nothing of who it is.
    fn has_uri(&self, name: &ServerName<'_>) -> bool {
        let ServerName::DnsName(name) = name else { return false };
        self.uris.iter().any(|uri| {
            let domain = uri.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("sip")).map(|(_, d)| d);
            let host = domain.filter(|d| !d.contains('@')).and_then(|d| d.split([':', ';', '?']).next());
            host.is_some_and(|host| host.eq_ignore_ascii_case(name.as_ref()))
        })
    }

    /// A wildcard, if nothing but wildcards can have fitted the name.
    fn wildcard_for(&self, name: &ServerName<'_>) -> Option<&'a str> {
        let ServerName::DnsName(name) = name else { return None };
        match self.dns.iter().any(|dns| dns.eq_ignore_ascii_case(name.as_ref())) {
            true => None,
            false => self.dns.iter().copied().find(|dns| dns.starts_with("*.")),
        }
    }
}

/// Only this fits, and it does not count.
#[derive(Debug)]
struct Wildcard(String);

impl fmt::Display for Wildcard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "made out for {}, a wildcard", self.0)
    }
}

impl std::error::Error for Wildcard {}

/// The wildcard that did not count.
pub(super) fn wildcard(why: &OtherError) -> Option<&str> {
    why.0.downcast_ref::<Wildcard>().map(|wildcard| wildcard.0.as_str())
}

/// The certificate is an authority's, which is checked after its dates.
pub(super) fn is_authority(why: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(inner)) = why else { return false };
    inner.to_string().contains("CaUsedAsEndEntity")
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let named = |why: &CertificateError| {
            matches!(why, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
        };
        match checked {
            Err(Error::InvalidCertificate(why)) if is_authority(&why) && self.trusted.contains(end_entity) => {}
            // it may be named by a URI; everything else is checked once more, whatever order the library has
            Err(Error::InvalidCertificate(why)) if named(&why) => {
                if !Names::of(end_entity)?.has_uri(server_name) {
                    return Err(Error::InvalidCertificate(why));
                }
                let certificate = ParsedCertificate::try_from(end_entity)?;
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
            }
            Err(other) => return Err(other),
            Ok(_) => {}
        }
        self.check_name(end_entity, server_name).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
