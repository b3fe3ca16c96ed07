//! Recognition over TLS, by real handshakes with a server made for the test.

mod common;

use std::{
    fs,
    io::{BufReader, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{assert_failed_because, next_request, of_one_utterance};
use mr_sip_asr::{
    AsrError,
    http::{HttpConfig, HttpRecognizers},
    recognizer::{Hints, RecognizeError, Recognizers},
};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server that writes the same text for everybody whom its certificate does not put off.
struct Server {
    port: u16,
    /// Connections, and requests that came over them.
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// Good for `name` until the year `until`.
fn params(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    params
}

impl Server {
    /// With a certificate for `name` that the authority has signed.
    fn start(authority: &Authority, name: &str, until: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, until).signed_by(&key, authority).unwrap();
        Self::with(&certificate, &key)
    }

    fn with(certificate: &Certificate, key: &KeyPair) -> Self {
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counted = (Arc::clone(&connections), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.0.fetch_add(1, SeqCst);
                let (tls, requests) = (Arc::clone(&tls), Arc::clone(&counted.1));
                std::thread::spawn(move || {
                    let connection = ServerConnection::new(tls).unwrap();
                    serve(StreamOwned::new(connection, stream), &requests)
                });
            }
        });
        Self { port, connections, requests }
    }

    fn seen(&self) -> (usize, usize) {
        (self.connections.load(SeqCst), self.requests.load(SeqCst))
    }
}

/// Takes requests of one connection until it is closed, or never was one.
fn serve(stream: StreamOwned<ServerConnection, TcpStream>, requests: &AtomicUsize) {
    let mut stream = BufReader::new(stream);
    while next_request(&mut stream).is_some() {
        requests.fetch_add(1, SeqCst);
        let text = r#"{"text":"hello in confidence"}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Recognisers that trust the authorities of this file.
fn recognizers(host: &str, port: u16, ca: Option<PathBuf>) -> Result<HttpRecognizers, AsrError> {
    HttpRecognizers::new(HttpConfig {
        url: format!("https://{host}:{port}/v1"),
        key: Some("sesame".into()),
        model: "whisper-1".into(),
        language: "en".into(),
        timeout: Duration::from_secs(60),
        ca,
    })
}

fn ask(recognizers: &HttpRecognizers) -> Result<String, RecognizeError> {
    let mut recognizer = recognizers.create().unwrap();
    recognizer.recognize(&[0.1; 16_000], &Hints::default(), &AtomicBool::new(false)).map(|heard| heard.text)
}

/// A folder with a file that holds this.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn a_server_of_ones_own_authority_is_trusted_by_its_name_and_by_its_address() {
    let ours = authority();
    // with others before it, as such files have them
    let (_folder, ca) = file(&format!("our own:\n{}{}", authority().pem(), ours.pem()));
    for host in ["localhost", "127.0.0.1"] {
        let server = Server::start(&ours, host, 2090);
        let recognizers = recognizers(host, server.port, Some(ca.clone())).unwrap();
        assert_eq!(ask(&recognizers), Ok("hello in confidence".into()), "{host}");
        assert_eq!(ask(&recognizers), Ok("hello in confidence".into()), "{host}");
        assert_eq!(server.seen().1, 2, "{host}");
    }
}

#[test]
fn a_server_whose_certificate_is_not_good_gets_nothing_and_it_is_said_why() {
    let (ours, theirs) = (authority(), authority());
    let (_folder, ca) = file(&ours.pem());
    for (signed_by, name, until, trusted, words) in [
        // of nobody's authority, and of another's; what the system knows counts for nothing beside url_ca
        (&theirs, "localhost", 2090, None, ["issuer is not trusted", "authority's certificate as url_ca"]),
        (&theirs, "localhost", 2090, Some(&ca), ["issuer is not trusted", "authority's certificate as url_ca"]),
        (&ours, "asr.example.com", 2090, Some(&ca), ["not valid for name", "asr.example.com"]),
        (&ours, "localhost", 2024, Some(&ca), ["cannot be used", "expired"]),
    ] {
        let server = Server::start(signed_by, name, until);
        let recognizers = recognizers("localhost", server.port, trusted.cloned()).unwrap();
        let Err(RecognizeError::Failed(reason)) = ask(&recognizers) else { panic!("{name} {until} is trusted") };
        for word in words {
            assert!(reason.contains(word), "{word} in: {reason}");
        }
        assert!(!reason.contains("sesame"), "{reason}");
        assert_eq!(server.seen(), (1, 0), "neither audio nor key went there, and it is not tried again");
    }
}

/// Its own certificate is named as the authority; one that calls itself an authority is none of a server.
#[test]
fn a_self_signed_server_is_trusted_if_its_certificate_is_a_servers() {
    for (is_ca, text) in [
        (IsCa::ExplicitNoCa, Ok("hello in confidence")),
        (IsCa::Ca(BasicConstraints::Unconstrained), Err("make it one with CA:FALSE")),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = params("localhost", 2090);
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        let (_folder, ca) = file(&certificate.pem());
        let server = Server::with(&certificate, &key);
        match (ask(&recognizers("localhost", server.port, Some(ca)).unwrap()), text) {
            (Ok(heard), Ok(text)) => assert_eq!(heard, text),
            (Err(RecognizeError::Failed(reason)), Err(words)) => assert!(reason.contains(words), "{reason}"),
            (outcome, wanted) => panic!("{outcome:?} is not {wanted:?}"),
        }
    }
}

#[test]
fn a_call_whose_recogniser_is_not_trusted_goes_on_without_words_and_with_a_reason() {
    let server = Server::start(&authority(), "localhost", 2090);
    let recognizers = recognizers("localhost", server.port, None).unwrap();
    assert_failed_because(&of_one_utterance(Arc::new(recognizers)), "url_ca");
}

#[test]
fn a_file_that_holds_no_authority_is_refused_at_the_start() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let torn = authority().pem().replace("-----END", "----");
    let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, words) in [
        ("", "holds no certificate"),
        (&key, "holds no certificate"),
        (&torn, "is no PEM file"),
        (none, "holds a certificate that cannot be read"),
    ] {
        let (_folder, ca) = file(text);
        let error = recognizers("localhost", 1, Some(ca.clone())).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(&ca.display().to_string()), "{error}");
    }
    let error = recognizers("localhost", 1, Some("/nonexistent/ca.pem".into())).unwrap_err().to_string();
    assert!(error.contains("url_ca /nonexistent/ca.pem: "), "{error}");
}
