//! Calls with baresip (Debian's `baresip-core`) over TCP and TLS, both ways.

mod net;
mod processes;

use std::{
    fs,
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command as Process,
};

use mr_sip_signaling::{
    EndCause, Event,
    net::{Command, Endpoint, EndpointConfig, TlsConfig},
    sdp::{self, LocalMedia},
};
use net::{config, dial, ended, offer, start_with, until, wait};
use processes::Running;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

/// A directory with one certificate for this machine, which both sides have and trust.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    fs::write(folder.path().join("both.pem"), key.serialize_pem() + &certificate.pem()).unwrap();
    folder
}

fn endpoint(folder: &TempDir) -> Endpoint {
    let file = |name: &str| Some(folder.path().join(name));
    let tls_files = TlsConfig {
        ca_file: file("cert.pem"),
        certificate: file("cert.pem"),
        key: file("key.pem"),
        ..TlsConfig::default()
    };
    start_with(EndpointConfig { tls: Some("127.0.0.1:0".parse().unwrap()), tls_files, ..config() })
}

/// A port that is free, and the one after it. Below those that the system hands out by itself, so that no socket that is
/// opened meanwhile takes one.
fn free_pair() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        let free =
            |port| UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 1) {
            return port;
        }
    }
}

/// A baresip that answers every call: by UDP and TCP at this port, by TLS at the next.
fn baresip(folder: &TempDir, port: u16, transport: &str, command: Option<&str>) -> Running {
    let modules = ["/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules"];
    let modules = modules.iter().find(|m| fs::metadata(m).is_ok()).unwrap_or(&modules[0]);
    let both = folder.path().join("both.pem");
    let config = format!(
        "poll_method epoll\nsip_listen 127.0.0.1:{port}\nsip_certificate {}\nnet_interface 127.0.0.1\n\
         audio_player aubridge,nowhere\naudio_source aubridge,nowhere\naudio_alert aubridge,nowhere\n\
         module_path {modules}\nmodule g711.so\nmodule aubridge.so\nmodule_tmp account.so\nmodule_app menu.so\n",
        both.display()
    );
    let account = format!("<sip:bob@127.0.0.1:{port};transport={transport}>;regint=0;answermode=auto\n");
    for (name, text) in [("config", config.as_str()), ("accounts", &account), ("contacts", "")] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let mut process = Process::new("baresip");
    process.arg("-f").arg(folder.path());
    if let Some(command) = command {
        process.arg("-e").arg(command);
    }
    Running::start(process, "baresip", "baresip-core")
}

fn is_called_over(transport: &str, offset: u16) {
    let folder = folder();
    let (a, port) = (endpoint(&folder), free_pair());
    let _baresip = baresip(&folder, port, transport, None);
    until("listening", || TcpStream::connect(("127.0.0.1", port + offset)).is_ok());
    dial(&a, format!("sip:bob@127.0.0.1:{};transport={transport}", port + offset), offer());
    let call = wait(&a, |e| match e {
        Event::Answered { call, .. } => Some(*call),
        Event::Ended { .. } => panic!("{e:?}"),
        _ => None,
    });
    a.command(Command::Hangup(call)).unwrap();
    assert_eq!(ended(&a).0, EndCause::LocalHangup);
    assert_eq!(a.stats().sent, 0, "nothing by UDP");
}

fn calls_over(transport: &str, at: impl Fn(&Endpoint) -> u16) {
    let folder = folder();
    let a = endpoint(&folder);
    let command = format!("/dial sip:agent@127.0.0.1:{};transport={transport}", at(&a));
    let baresip = baresip(&folder, free_pair(), transport, Some(&command));
    let (call, offer) = wait(&a, |e| match e {
        Event::Incoming { call, offer, .. } => Some((*call, offer.clone())),
        _ => None,
    });
    let media = LocalMedia::new("127.0.0.1:4000".parse().unwrap());
    let (answer, _) = sdp::answer(&offer.expect("an offer"), &media).expect("a common codec");
    a.command(Command::Answer { call, sdp: answer }).unwrap();
    wait(&a, |e| matches!(e, Event::Answered { .. }).then_some(()));
    baresip.terminate();
    assert_eq!(ended(&a).0, EndCause::RemoteHangup);
    assert_eq!(a.stats().sent, 0, "nothing by UDP");
}

#[test]
fn baresip_is_called_over_tcp() {
    is_called_over("tcp", 0);
}

#[test]
fn baresip_is_called_over_tls() {
    is_called_over("tls", 1);
}

#[test]
fn baresip_calls_over_tcp() {
    calls_over("tcp", |a| a.tcp_addr().unwrap().port());
}

#[test]
fn baresip_calls_over_tls() {
    calls_over("tls", |a| a.tls_addr().unwrap().port());
}
