//! Calls over TLS with an authority made here, and everything that a certificate can have wrong with it (case 19).

mod net;
#[path = "net/zone.rs"]
mod zone;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};

use mr_sip_signaling::{
    EndCause,
    net::{Command, DnsConfig, Endpoint, EndpointConfig, StreamLimits, TlsConfig},
};
use net::{call_up, config, dial, ended, offer, start_with, until};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use tempfile::TempDir;

/// An authority, and a directory for what it signs.
struct House {
    authority: CertifiedIssuer<'static, KeyPair>,
    files: TempDir,
}

/// What a certificate is for and how long it is good.
struct Wanted<'a> {
    names: &'a [&'a str],
    from: i32,
    until: i32,
}

const GOOD: Wanted<'static> = Wanted { names: &["localhost", "127.0.0.1"], from: 2020, until: 2090 };

impl Wanted<'_> {
    fn params(&self) -> CertificateParams {
        let mut params =
            CertificateParams::new(self.names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        for name in &mut params.subject_alt_names {
            if let SanType::DnsName(text) = name
                && text.as_str().contains(':')
            {
                *name = SanType::URI(text.clone());
            }
        }
        params.not_before = date_time_ymd(self.from, 1, 1);
        params.not_after = date_time_ymd(self.until, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    }
}

impl House {
    fn new() -> House {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "An authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let house = House { authority, files: tempfile::tempdir().unwrap() };
        house.write("ca.pem", &house.authority.pem());
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// So many days from now: a file system's clock may not tell two quick changes apart.
    fn dated(&self, name: &str, days: u64) {
        let file = fs::File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(days * 24 * 3600)).unwrap();
    }

    /// A certificate of the authority and its key, as files.
    fn signed(&self, wanted: &Wanted) -> TlsConfig {
        let key = KeyPair::generate().unwrap();
        let certificate = wanted.params().signed_by(&key, &self.authority).unwrap();
        self.files_of(&certificate.pem(), &key)
    }

    /// The same, signed by itself.
    fn self_signed(&self, wanted: &Wanted, is_authority: bool) -> TlsConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = wanted.params();
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let certificate = params.self_signed(&key).unwrap();
        self.files_of(&certificate.pem(), &key)
    }

    fn files_of(&self, certificate: &str, key: &KeyPair) -> TlsConfig {
        let certificate = Some(self.write("cert.pem", certificate));
        let key = Some(self.write("key.pem", &key.serialize_pem()));
        TlsConfig { ca_file: Some(self.path("ca.pem")), certificate, key, wildcards: false }
    }

    /// An endpoint that trusts the authority.
    fn caller(&self) -> Endpoint {
        let tls_files = TlsConfig { ca_file: Some(self.path("ca.pem")), ..TlsConfig::default() };
        start_with(EndpointConfig { tls_files, ..config() })
    }
}

fn server(tls_files: TlsConfig) -> Endpoint {
    start_with(EndpointConfig { tls: Some("127.0.0.1:0".parse().unwrap()), tls_files, ..config() })
}

fn over_tls(host: &str, to: &Endpoint) -> String {
    format!("sip:b@{host}:{};transport=tls", to.tls_addr().expect("TLS is on").port())
}

/// Why a call to this server fails.
#[track_caller]
fn refused(caller: &Endpoint, host: &str, server: &Endpoint) -> String {
    let reason = refused_after(caller, host, server, 0);
    assert_eq!(server.stats().streams.received, 0, "nothing was sent");
    reason
}

/// The same, when so many connections were made before.
#[track_caller]
fn refused_after(caller: &Endpoint, host: &str, server: &Endpoint, made: u64) -> String {
    dial(caller, over_tls(host, server), offer());
    let (cause, reason) = ended(caller);
    assert_eq!(cause, EndCause::Network, "{reason}");
    assert_eq!(caller.stats().streams.made, made, "fails closed");
    until("counted", || server.stats().streams.handshake_failures > 0);
    reason
}

#[track_caller]
fn says(reason: &str, words: &[&str]) {
    for word in words {
        assert!(reason.contains(word), "no {word:?} in {reason:?}");
    }
}

#[test]
fn a_call_goes_over_tls_by_one_connection() {
    let house = House::new();
    let (a, b) = (house.caller(), server(house.signed(&GOOD)));
    let (call, _) = call_up(&a, &b, over_tls("localhost", &b));
    a.command(Command::Hangup(call)).unwrap();
    assert_eq!((ended(&a).0, ended(&b).0), (EndCause::LocalHangup, EndCause::RemoteHangup));
    let (_, theirs) = call_up(&a, &b, over_tls("localhost", &b));
    b.command(Command::Hangup(theirs)).unwrap();
    assert_eq!(ended(&a).0, EndCause::RemoteHangup);
    let (ours, theirs) = (a.stats(), b.stats());
    assert_eq!((ours.streams.made, theirs.streams.accepted), (1, 1));
    assert_eq!((ours.sent, theirs.sent), (0, 0), "nothing by UDP");
    assert_eq!((ours.streams.handshake_failures, theirs.streams.handshake_failures), (0, 0));
}

#[test]
fn a_certificate_for_an_address_serves_it() {
    let house = House::new();
    let (a, b) = (house.caller(), server(house.signed(&Wanted { names: &["127.0.0.1"], ..GOOD })));
    call_up(&a, &b, over_tls("127.0.0.1", &b));
    says(&refused_after(&a, "localhost", &b, 1), &["not made out for localhost", "127.0.0.1"]);
}

#[test]
fn a_contact_by_address_is_reached_by_the_connection_that_was_checked_for_the_name() {
    let house = House::new();
    let (a, b) = (house.caller(), server(house.signed(&Wanted { names: &["localhost"], ..GOOD })));
    // the answer's Contact has the address, and the ACK and the BYE go there
    let (call, _) = call_up(&a, &b, over_tls("localhost", &b));
    a.command(Command::Hangup(call)).unwrap();
    assert_eq!(ended(&b).0, EndCause::RemoteHangup);
    assert_eq!(a.stats().streams.made, 1);
}

#[test]
fn a_sips_address_goes_over_tls() {
    let house = House::new();
    let (a, b) = (house.caller(), server(house.signed(&GOOD)));
    call_up(&a, &b, format!("sips:b@localhost:{}", b.tls_addr().unwrap().port()));
    assert_eq!(a.stats().streams.made, 1);
}

#[test]
fn case_19_an_expired_certificate() {
    let house = House::new();
    let b = server(house.signed(&Wanted { until: 2024, ..GOOD }));
    says(&refused(&house.caller(), "localhost", &b), &["localhost", "expired", "2024-01-01"]);
}

#[test]
fn case_19_a_certificate_of_the_future() {
    let house = House::new();
    let b = server(house.signed(&Wanted { from: 2089, ..GOOD }));
    says(&refused(&house.caller(), "localhost", &b), &["localhost", "2089-01-01", "clock"]);
}

#[test]
fn case_19_a_certificate_for_somebody_else() {
    let house = House::new();
    let b = server(house.signed(&Wanted { names: &["sip.example.com", "192.0.2.7"], ..GOOD }));
    says(&refused(&house.caller(), "localhost", &b), &["not made out for localhost", "sip.example.com", "192.0.2.7"]);
}

#[test]
fn case_19_a_certificate_may_name_the_domain_by_a_sip_uri() {
    let house = House::new();
    for uri in ["sip:localhost", "SIP:LocalHost", "sip:localhost:5061;transport=tls"] {
        let b = server(house.signed(&Wanted { names: &[uri, "sip.example.com"], ..GOOD }));
        call_up(&house.caller(), &b, over_tls("localhost", &b));
    }
    // of a person, of another scheme, of another domain
    for uri in ["sip:alice@localhost", "https://localhost", "sips:localhost", "sip:localhost.example.com", "sip:"] {
        let b = server(house.signed(&Wanted { names: &[uri], ..GOOD }));
        says(&refused(&house.caller(), "localhost", &b), &["not made out for localhost"]);
    }
    // and nothing else of it is forgiven
    let b = server(house.signed(&Wanted { names: &["sip:localhost"], until: 2024, ..GOOD }));
    says(&refused(&house.caller(), "localhost", &b), &["expired"]);
    let b = server(house.self_signed(&Wanted { names: &["sip:localhost"], ..GOOD }, false));
    says(&refused(&house.caller(), "localhost", &b), &["self-signed"]);
    let files = house.self_signed(&Wanted { names: &["sip:localhost"], ..GOOD }, true);
    let named = TlsConfig { ca_file: files.certificate.clone(), ..TlsConfig::default() };
    let b = server(files);
    call_up(&start_with(EndpointConfig { tls_files: named, ..config() }), &b, over_tls("localhost", &b));
}

#[test]
fn case_19_a_wildcard_counts_only_where_that_is_switched_on() {
    let house = House::new();
    let zone = zone::Zone::default().a("pbx.example.test", 300, "127.0.0.1").serve();
    let caller = |wildcards| {
        let tls_files = TlsConfig { ca_file: Some(house.path("ca.pem")), wildcards, ..TlsConfig::default() };
        let dns = DnsConfig { servers: vec![zone.address] };
        start_with(EndpointConfig { tls_files, dns, ..config() })
    };
    let b = server(house.signed(&Wanted { names: &["*.example.test"], ..GOOD }));
    says(&refused(&caller(false), "pbx.example.test", &b), &["*.example.test", "wildcard", "tls_wildcards"]);
    call_up(&caller(true), &b, over_tls("pbx.example.test", &b));
    // one beside the name itself does no harm
    let b = server(house.signed(&Wanted { names: &["*.example.test", "pbx.example.test"], ..GOOD }));
    call_up(&caller(false), &b, over_tls("pbx.example.test", &b));
}

#[test]
fn case_19_a_self_signed_certificate_counts_only_if_it_is_named() {
    let house = House::new();
    for is_authority in [false, true] {
        let files = house.self_signed(&GOOD, is_authority);
        let b = server(files.clone());
        says(&refused(&house.caller(), "localhost", &b), &["localhost", "self-signed", "ca_file"]);
        let named = TlsConfig { ca_file: files.certificate, ..TlsConfig::default() };
        let a = start_with(EndpointConfig { tls_files: named, ..config() });
        call_up(&a, &b, over_tls("localhost", &b));
    }
}

#[test]
fn case_19_a_named_self_signed_certificate_is_checked_all_the_same() {
    let house = House::new();
    for is_authority in [false, true] {
        let named = |files: &TlsConfig| {
            let tls_files = TlsConfig { ca_file: files.certificate.clone(), ..TlsConfig::default() };
            start_with(EndpointConfig { tls_files, ..config() })
        };
        let files = house.self_signed(&Wanted { until: 2024, ..GOOD }, is_authority);
        says(&refused(&named(&files), "localhost", &server(files.clone())), &["expired"]);
        let files = house.self_signed(&Wanted { names: &["sip.example.com"], ..GOOD }, is_authority);
        says(&refused(&named(&files), "localhost", &server(files.clone())), &["sip.example.com"]);
        // one that was not named does not pass because another was
        let files = house.self_signed(&GOOD, is_authority);
        let a = named(&files);
        says(&refused(&a, "localhost", &server(house.self_signed(&GOOD, is_authority))), &["self-signed"]);
    }
}

#[test]
fn case_19_the_systems_authorities_do_not_know_ours() {
    let house = House::new();
    let b = server(house.signed(&GOOD));
    says(&refused(&start_with(config()), "localhost", &b), &["issuer is not trusted", "ca_file"]);
}

#[test]
fn case_19_garbage_instead_of_tls_ends_the_call_with_the_reason() {
    let house = House::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let played = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"SIP/2.0 400 What was that\r\n\r\n").unwrap();
        // until it is closed
        let _ = socket.read_to_end(&mut Vec::new());
        listener
    });
    let a = house.caller();
    dial(&a, format!("sip:b@localhost:{port};transport=tls"), offer());
    let (cause, reason) = ended(&a);
    assert_eq!(cause, EndCause::Network);
    says(&reason, &["localhost", "does not speak TLS"]);
    // nothing at all
    let listener = played.join().unwrap();
    let played = thread::spawn(move || drop(listener.accept().unwrap()));
    dial(&a, format!("sip:b@localhost:{port};transport=tls"), offer());
    let (cause, reason) = ended(&a);
    assert_eq!(cause, EndCause::Network);
    says(&reason, &["localhost", "TLS"]);
    played.join().unwrap();
}

#[test]
fn case_19_a_server_that_says_nothing_ends_the_call_after_the_deadline() {
    let house = House::new();
    // the kernel takes the connection in, and nobody ever answers
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut streams = StreamLimits::default();
    streams.handshake = Duration::from_millis(50);
    let tls_files = TlsConfig { ca_file: Some(house.path("ca.pem")), ..TlsConfig::default() };
    let a = start_with(EndpointConfig { streams, tls_files, ..config() });
    dial(&a, format!("sip:b@localhost:{};transport=tls", listener.local_addr().unwrap().port()), offer());
    let (cause, reason) = ended(&a);
    assert_eq!(cause, EndCause::Network);
    says(&reason, &["localhost", "TLS handshake within 0.05 s"]);
}

#[test]
fn case_18_and_19_garbage_and_silence_at_our_tls_port_are_counted_and_shown_out() {
    let house = House::new();
    let mut streams = StreamLimits::default();
    streams.handshake = Duration::from_millis(50);
    let tls_files = house.signed(&GOOD);
    let b = start_with(EndpointConfig { streams, tls: Some("127.0.0.1:0".parse().unwrap()), tls_files, ..config() });
    let mut noisy = TcpStream::connect(b.tls_addr().unwrap()).unwrap();
    noisy.write_all(b"REGISTER sip:x SIP/2.0\r\n\r\n").unwrap();
    let mut silent = TcpStream::connect(b.tls_addr().unwrap()).unwrap();
    for socket in [&mut noisy, &mut silent] {
        socket.set_read_timeout(Some(net::LIMIT)).unwrap();
        // an alert perhaps, and then the end
        let end = socket.read_to_end(&mut Vec::new());
        assert!(end.is_ok_and(|length| length < 100));
    }
    until("counted", || b.stats().streams.handshake_failures == 2 && b.stats().streams.open == 0);
    // and it goes on
    let a = house.caller();
    call_up(&a, &b, over_tls("localhost", &b));
}

#[test]
fn a_renewed_certificate_is_taken_up_without_a_restart_and_a_bad_one_is_not() {
    let house = House::new();
    let b = server(house.signed(&Wanted { until: 2024, ..GOOD }));
    says(&refused(&house.caller(), "localhost", &b), &["expired"]);
    house.signed(&GOOD);
    house.dated("cert.pem", 1);
    call_up(&house.caller(), &b, over_tls("localhost", &b));
    house.write("cert.pem", "half a certif");
    house.dated("cert.pem", 2);
    call_up(&house.caller(), &b, over_tls("localhost", &b));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let house = House::new();
    let good = house.signed(&GOOD);
    let junk = house.write("junk.pem", "nothing in here");
    let other_key = house.write("other.pem", &KeyPair::generate().unwrap().serialize_pem());
    let missing = house.path("missing.pem");
    let bad = [
        (TlsConfig { ca_file: Some(missing.clone()), ..good.clone() }, "missing.pem"),
        (TlsConfig { ca_file: Some(junk.clone()), ..good.clone() }, "junk.pem"),
        (TlsConfig { certificate: Some(missing.clone()), ..good.clone() }, "missing.pem"),
        (TlsConfig { certificate: Some(junk.clone()), ..good.clone() }, "junk.pem"),
        (TlsConfig { key: Some(junk), ..good.clone() }, "junk.pem"),
        (TlsConfig { key: Some(other_key), ..good.clone() }, "other.pem"),
        (TlsConfig { key: None, ..good.clone() }, "cert.pem"),
        (TlsConfig { certificate: None, key: None, ..good }, "needs a certificate"),
    ];
    for (tls_files, word) in bad {
        let config = EndpointConfig { tls: Some("127.0.0.1:0".parse().unwrap()), tls_files, ..config() };
        let error = Endpoint::start(config, || {}).unwrap_err().to_string();
        assert!(error.contains(word), "no {word:?} in {error:?}");
    }
}
