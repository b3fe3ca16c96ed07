//! The endpoint and Kamailio (Debian's `kamailio`), a registrar and proxy that many providers run, with digest.

mod processes;

use std::{
    fs,
    path::Path,
    process::Command as Process,
    time::{Duration, Instant},
};

use mr_sip_signaling::{
    Account, Dial, EndCause, Event, Password, Transport, UserAgentConfig,
    net::{Command, Endpoint, EndpointConfig},
    sdp::{self, LocalMedia},
};
use processes::{Running, free_port};

const LIMIT: Duration = Duration::from_secs(30);
/// Case 36: back within this time after the registrar is.
const BACK: Duration = Duration::from_secs(5);

struct Kamailio {
    process: Option<Running>,
    folder: tempfile::TempDir,
    port: u16,
    tls_port: u16,
    algorithm: &'static str,
}

impl Kamailio {
    fn start(algorithm: &'static str) -> Kamailio {
        let folder = tempfile::tempdir().expect("a folder");
        certificate(folder.path());
        let (port, tls_port) = (free_port(), free_port());
        let mut kamailio = Kamailio { process: None, folder, port, tls_port, algorithm };
        kamailio.run();
        kamailio
    }

    fn run(&mut self) {
        let folder = self.folder.path();
        for file in ["kamailio.cfg", "tls.cfg"] {
            let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kamailio").join(file);
            let text = fs::read_to_string(template)
                .expect("the configuration")
                .replace("@PORT@", &self.port.to_string())
                .replace("@TLS_PORT@", &self.tls_port.to_string())
                .replace("@FOLDER@", &folder.display().to_string())
                .replace("@ALGORITHM@", self.algorithm);
            fs::write(folder.join(file), text).expect("the configuration");
        }
        let mut command = Process::new("kamailio");
        command.args(["-DD", "-E", "-m", "32", "-M", "4", "-f"]).arg(folder.join("kamailio.cfg"));
        command.arg("-P").arg(folder.join("pid")).arg("-Y").arg(folder).arg("-w").arg(folder);
        let mut process = Running::start(command, "kamailio", "kamailio kamailio-tls-modules");
        process.listens(self.port);
        self.process = Some(process);
    }

    fn stop(&mut self) {
        self.process = None;
    }

    fn account(&self, user: &str, password: &str, transport: Transport) -> Account {
        let port = if transport == Transport::Tls { self.tls_port } else { self.port };
        let mut account = Account::new("pbx", "pbx.test", user, Password::new(password));
        account.proxies = vec![format!("127.0.0.1:{port}")];
        account.transport = Some(transport);
        account.realm = Some("pbx.test".into());
        account
    }
}

/// A certificate of its own making for 127.0.0.1.
fn certificate(folder: &Path) {
    let made = Process::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .output()
        .expect("openssl: apt install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn endpoint(kamailio: &Kamailio, account: Account) -> Endpoint {
    let bind = "127.0.0.1:0".parse().unwrap();
    let mut agent = UserAgentConfig::new(bind);
    agent.accounts = vec![account];
    let mut config = EndpointConfig::new(bind, agent);
    config.tls_files.ca_file = Some(kamailio.folder.path().join("cert.pem"));
    Endpoint::start(config, || {}).expect("the endpoint starts")
}

fn media(port: u16) -> LocalMedia {
    LocalMedia::new(format!("127.0.0.1:{port}").parse().unwrap())
}

#[track_caller]
fn wait<T>(endpoint: &Endpoint, limit: Duration, mut take: impl FnMut(&Event) -> Option<T>) -> T {
    let until = Instant::now() + limit;
    let mut passed = Vec::new();
    while Instant::now() < until {
        let Some(event) = endpoint.recv_timeout(Duration::from_millis(50)) else { continue };
        if let Some(found) = take(&event) {
            return found;
        }
        passed.push(event);
    }
    panic!("nothing that fits within {limit:?}, only {passed:#?}");
}

#[track_caller]
fn registered(endpoint: &Endpoint, limit: Duration) {
    wait(endpoint, limit, |e| matches!(e, Event::Registered { .. }).then_some(()));
}

/// Alice calls bob through the proxy; `alice_hangs_up`, or bob does.
fn call(alice: &Endpoint, bob: &Endpoint, alice_hangs_up: bool) {
    let dial = Dial { account: Some("pbx".into()), to: "bob".into(), sdp: sdp::offer(&media(4000)), ..Dial::default() };
    alice.command(Command::Dial { tag: 1, dial }).unwrap();
    let (theirs, offer) = wait(bob, LIMIT, |e| match e {
        Event::Incoming { call, offer, from, account, .. } => {
            assert_eq!((from.as_str(), account.as_deref()), ("sip:alice@pbx.test", Some("pbx")));
            Some((*call, offer.clone().expect("an offer")))
        }
        _ => None,
    });
    bob.command(Command::Ring(theirs)).unwrap();
    wait(alice, LIMIT, |e| matches!(e, Event::Progress { status: 180, .. }).then_some(()));
    let (answer, _) = sdp::answer(&offer, &media(4002)).unwrap();
    bob.command(Command::Answer { call: theirs, sdp: answer }).unwrap();
    let ours = wait(alice, LIMIT, |e| match e {
        Event::Answered { call, .. } => Some(*call),
        _ => None,
    });
    wait(bob, LIMIT, |e| matches!(e, Event::Answered { .. }).then_some(()));
    let (first, second, call) = if alice_hangs_up { (alice, bob, ours) } else { (bob, alice, theirs) };
    first.command(Command::Hangup(call)).unwrap();
    let ended = |e: &Event| match e {
        Event::Ended { cause, .. } => Some(*cause),
        _ => None,
    };
    assert_eq!(wait(first, LIMIT, ended), EndCause::LocalHangup);
    assert_eq!(wait(second, LIMIT, ended), EndCause::RemoteHangup);
}

#[test]
fn calls_go_through_a_real_proxy_with_digest_both_ways_over_udp_tcp_and_tls() {
    let kamailio = Kamailio::start("MD5");
    for transports in [
        (Transport::Udp, Transport::Udp),
        (Transport::Tcp, Transport::Udp),
        (Transport::Tcp, Transport::Tcp),
        (Transport::Tls, Transport::Udp),
        (Transport::Tls, Transport::Tls),
    ] {
        let alice = endpoint(&kamailio, kamailio.account("alice", "wonderland", transports.0));
        let bob = endpoint(&kamailio, kamailio.account("bob", "wonderland", transports.1));
        registered(&alice, LIMIT);
        registered(&bob, LIMIT);
        call(&alice, &bob, true);
        call(&alice, &bob, false);
    }
}

#[test]
fn a_real_registrar_takes_sha_256() {
    let kamailio = Kamailio::start("SHA-256");
    registered(&endpoint(&kamailio, kamailio.account("alice", "wonderland", Transport::Udp)), LIMIT);
}

#[test]
fn a_wrong_password_is_one_clear_error() {
    let kamailio = Kamailio::start("MD5");
    let alice = endpoint(&kamailio, kamailio.account("alice", "looking glass", Transport::Udp));
    let (status, reason, retry_in) = wait(&alice, LIMIT, |e| match e {
        Event::RegistrationFailed { status, reason, retry_in, .. } => Some((*status, reason.clone(), *retry_in)),
        _ => None,
    });
    assert_eq!(status, Some(401));
    assert!(reason.contains("user name or password"), "{reason}");
    assert!(retry_in > Duration::from_secs(60), "a registrar is not hammered: {retry_in:?}");
}

#[test]
fn case_36_registered_again_within_five_seconds_after_the_registrar_is_back() {
    let mut kamailio = Kamailio::start("MD5");
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut account = kamailio.account("alice", "wonderland", transport);
        // refreshed within seconds, so that its absence is noticed
        account.expires = Duration::from_secs(60);
        kamailio.stop();
        let alice = endpoint(&kamailio, account);
        wait(&alice, LIMIT, |e| matches!(e, Event::RegistrationFailed { .. }).then_some(()));
        kamailio.run();
        registered(&alice, BACK);
    }
}
