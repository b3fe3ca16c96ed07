//! Far ends that are not ours, and odd: without telephone events, silent, echoing, with certificates that are no good.
//!
//! They need Debian's sip-tester and baresip-core, which `scripts/install.sh` installs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control::client::Message;
use control::types::{CallDial, CallDtmf, CallHangup, CallState, Event, EventFilter};
use mr_sip::demo::far_end::free_port;
use mr_sip::demo::servers::{Daemon, DaemonSetup};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use signaling::UserAgentConfig;
use signaling::net::{Endpoint, EndpointConfig, TlsConfig};

const LIMIT: Duration = Duration::from_secs(60);
const PROGRAM: &str = env!("CARGO_BIN_EXE_mr-sip");

/// A program that is ended when it is dropped.
struct Running(Child);

impl Running {
    /// Starts it, and waits until it listens on the UDP port of the loopback.
    fn start(command: &mut Command, package: &str, port: u16) -> Running {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut running = Running(child.unwrap_or_else(|e| panic!("{e}; the fix: apt-get install {package}")));
        let until = Instant::now() + LIMIT;
        while UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            assert!(Instant::now() < until && matches!(running.0.try_wait(), Ok(None)), "it does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn succeeds(mut self) {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return assert!(status.success(), "{status}");
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sipp(scenario: &str) -> (Running, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sipp").join(scenario);
    let (port, media) = (free_port().unwrap(), free_port().unwrap() & !1);
    let mut command = Command::new("sipp");
    command.arg("-sf").arg(file).args(["-i", "127.0.0.1", "-p", &port.to_string(), "-mp", &media.to_string()]);
    command.args([
        "-m",
        "1",
        "-nostdin",
        "-timeout",
        "50s",
        "-timeout_error",
        "-trace_err",
        "-error_file",
        "/dev/stderr",
    ]);
    (Running::start(&mut command, "sip-tester", port), format!("sip:odd@127.0.0.1:{port}"))
}

fn daemon(folder: &Path) -> Daemon {
    let setup = DaemonSetup { program: Some(Path::new(PROGRAM)), record: false, ..DaemonSetup::default() };
    Daemon::start(folder, &setup).unwrap()
}

#[test]
fn digits_go_by_info_one_by_one_to_a_far_end_without_telephone_events_and_come_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let mut client = daemon.connect("test", EventFilter::All).unwrap();
    let (far, uri) = sipp("uas_info.xml");
    let call = client.request(&CallDial { to: uri, ..CallDial::default() }).unwrap().call;
    let until = Instant::now() + LIMIT;
    let (mut pressed, mut heard) = (None, Vec::new());
    while heard.len() < 2 {
        let Some(Message::Event(told)) = client.next_message(until).unwrap() else {
            panic!("no digits came: {heard:?}\n{}", daemon.log());
        };
        match told.event {
            Event::CallState { state: CallState::Answered, .. } => {
                pressed = Some(Instant::now());
                client.request(&CallDtmf { duration_ms: 120, gap_ms: 180, ..CallDtmf::new(call, "1*9") }).unwrap();
            }
            Event::CallDtmf { digit, duration_ms, .. } => {
                // three were pressed, one when the last was released, before the far end pressed any
                let elapsed = pressed.unwrap().elapsed();
                assert!(elapsed >= Duration::from_millis(2 * (120 + 180)), "too fast: {elapsed:?}");
                heard.push((digit, duration_ms));
            }
            Event::CallSummary(summary) => panic!("{summary:?}"),
            _ => {}
        }
    }
    assert_eq!(heard, [('7', 90), ('#', 160)]);
    client.request(&CallHangup::new(call)).unwrap();
    far.succeeds();
}

/// `mr-sip doctor` with these options and the daemon's configuration: what it found, by name.
fn doctor(config: &Path, options: &[&str]) -> Vec<(String, String, String)> {
    let mut command = Command::new(PROGRAM);
    command.args(["--json", "doctor", "--config"]).arg(config).args(options);
    for name in ["SIP_GATEWAY", "SIP_USER", "SIP_PASSWORD", "MR_SIP_SOCKET"] {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let all: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&output.stderr)));
    let of = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = all["findings"].as_array().unwrap().iter();
    findings.map(|f| (of(f, "what"), of(f, "health"), of(f, "text"))).collect()
}

/// What `doctor --call` says of a number.
fn called(uri: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let _daemon = daemon(folder.path());
    let found = doctor(&folder.path().join("mr-sip.toml"), &["--call", uri]);
    let call = found.iter().find(|(what, _, _)| what == "echo call");
    let (_, health, text) = call.unwrap_or_else(|| panic!("{found:?}")).clone();
    (health, text)
}

#[test]
fn doctor_hears_its_own_tone_from_a_telephone_that_echoes() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let rtp = free_port().unwrap() & !1;
    fs::write(
        folder.path().join("config"),
        format!(
            "poll_method epoll\nsip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\n\
             module_path /usr/lib/baresip/modules\nmodule g711.so\nmodule aubridge.so\nmodule_tmp account.so\n\
             module_app menu.so\naudio_player aubridge,echo\naudio_source aubridge,echo\n\
             ausrc_srate 8000\nauplay_srate 8000\nrtp_ports {rtp}-{}\n",
            rtp.saturating_add(8)
        ),
    )
    .unwrap();
    let account = format!("<sip:echo@127.0.0.1:{port};transport=udp>;regint=0;answermode=auto\n");
    fs::write(folder.path().join("accounts"), account).unwrap();
    fs::write(folder.path().join("contacts"), "").unwrap();
    let _far = Running::start(Command::new("baresip").arg("-f").arg(folder.path()), "baresip-core", port);
    let (health, text) = called(&format!("sip:echo@127.0.0.1:{port}"));
    assert_eq!(health, "ok", "{text}");
    assert!(text.contains("our tone came back"), "{text}");
}

#[test]
fn doctor_knows_a_call_on_which_nothing_comes_back() {
    let (far, uri) = sipp("uas_silent.xml");
    let (health, text) = called(&uri);
    assert_eq!(health, "bad", "{text}");
    assert!(text.contains("no audio came back (0 packets came") && text.contains("sip.public_address"), "{text}");
    far.succeeds();
}

#[test]
fn doctor_tells_audio_without_its_tone_from_an_echo() {
    let folder = tempfile::tempdir().unwrap();
    let program = Some(Path::new(PROGRAM));
    let setup = DaemonSetup { program, record: false, incoming: "auto", ..DaemonSetup::default() };
    let far = Daemon::start(folder.path(), &setup).unwrap();
    let (health, text) = called(&format!("sip:agent@{}", far.sip_address()));
    assert_eq!(health, "weak", "{text}");
    assert!(text.contains("does not echo"), "{text}");
}

/// A TLS server with a certificate like this, and the file of its authority.
fn tls_server(folder: &Path, names: &[&str], until: i32, signed: bool) -> (Endpoint, PathBuf) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
    let certificate = if signed { params.signed_by(&key, &authority) } else { params.self_signed(&key) }.unwrap();
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let tls_files = TlsConfig {
        certificate: Some(write("cert.pem", &certificate.pem())),
        key: Some(write("key.pem", &key.serialize_pem())),
        ..TlsConfig::default()
    };
    let ca = write("ca.pem", &authority.pem());
    let bind = (IpAddr::from(Ipv4Addr::LOCALHOST), 0).into();
    let config = EndpointConfig { tls: Some(bind), tls_files, ..EndpointConfig::new(bind, UserAgentConfig::new(bind)) };
    (Endpoint::start(config, || {}).unwrap(), ca)
}

#[test]
fn case_19_doctor_says_what_is_wrong_with_a_certificate_and_what_helps() {
    for (names, until, signed, health, words) in [
        (["localhost"], 2090, true, "ok", vec!["answers OPTIONS over TLS"]),
        (["localhost"], 2024, true, "bad", vec!["has expired (2024-01-01)", "must renew it"]),
        (["localhost"], 2090, false, "bad", vec!["self-signed", "sip.tls_ca"]),
        (["sip.example.com"], 2090, true, "bad", vec!["not made out for localhost", "sip.example.com", "registrar"]),
        (["*.localhost"], 2090, true, "bad", vec!["not made out for localhost"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (server, ca) = tls_server(folder.path(), &names, until, signed);
        let config = folder.path().join("mr-sip.toml");
        fs::write(
            &config,
            format!(
                "[sip]\nbind = \"127.0.0.1:{}\"\ntls_ca = {ca:?}\n[control]\nsocket = {:?}\n\
                 [[account]]\nname = \"pbx\"\nregistrar = \"localhost:{}\"\nuser = \"100\"\nregister = false\n\
                 transport = \"tls\"\npeers = [\"127.0.0.1\"]\n",
                free_port().unwrap(),
                folder.path().join("no.sock"),
                server.tls_addr().unwrap().port()
            ),
        )
        .unwrap();
        let found = doctor(&config, &[]);
        let (_, judged, text) =
            found.iter().find(|(what, _, _)| what == "reachable").unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!(judged, health, "{text}");
        for word in words {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
}
