//! The endpoint against baresip (Debian's `baresip-core`), both ways, on real sockets.

mod processes;

use std::{
    fs,
    net::SocketAddr,
    process::Command as Process,
    time::{Duration, Instant},
};

use mr_sip_signaling::{
    CallId, Dial, EndCause, Event, UserAgentConfig,
    net::{Command, Endpoint, EndpointConfig},
    sdp::{self, LocalMedia},
};
use processes::{Running, free_port};

const LIMIT: Duration = Duration::from_secs(30);

fn media() -> LocalMedia {
    LocalMedia::new("127.0.0.1:4000".parse().unwrap())
}

fn endpoint() -> Endpoint {
    let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Endpoint::start(EndpointConfig::new(bind, UserAgentConfig::new(bind)), || {}).expect("the endpoint starts")
}

/// A baresip at this port that answers every call, with sound from nowhere to nowhere; `command` is typed into it.
fn baresip(port: u16, command: Option<&str>) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let modules = ["/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules"];
    let modules = modules.iter().find(|m| fs::metadata(m).is_ok()).unwrap_or(&modules[0]);
    let config = format!(
        "poll_method epoll\nsip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\n\
         audio_player aubridge,nowhere\naudio_source aubridge,nowhere\naudio_alert aubridge,nowhere\n\
         module_path {modules}\nmodule g711.so\nmodule aubridge.so\nmodule_tmp account.so\nmodule_app menu.so\n"
    );
    let account = format!("<sip:bob@127.0.0.1:{port};transport=udp>;regint=0;answermode=auto\n");
    for (name, text) in [("config", config.as_str()), ("accounts", &account), ("contacts", "")] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let mut process = Process::new("baresip");
    process.arg("-f").arg(folder.path());
    if let Some(command) = command {
        process.arg("-e").arg(command);
    }
    (Running::start(process, "baresip", "baresip-core"), folder)
}

fn wait<T>(endpoint: &Endpoint, mut take: impl FnMut(&Event) -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    let mut passed = Vec::new();
    while Instant::now() < until {
        let Some(event) = endpoint.recv_timeout(Duration::from_millis(100)) else { continue };
        if let Some(found) = take(&event) {
            return found;
        }
        passed.push(event);
    }
    panic!("nothing that fits within {LIMIT:?}, only {passed:#?}");
}

fn ended(endpoint: &Endpoint) -> (CallId, EndCause) {
    wait(endpoint, |e| match e {
        Event::Ended { call, cause, .. } => Some((*call, *cause)),
        _ => None,
    })
}

#[test]
fn baresip_is_called_answers_and_is_hung_up() {
    let (endpoint, port) = (endpoint(), free_port());
    let (mut baresip, _folder) = baresip(port, None);
    baresip.listens(port);
    let dial =
        Dial { account: None, to: format!("sip:bob@127.0.0.1:{port}"), sdp: sdp::offer(&media()), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 1, dial }).unwrap();
    let (call, answer) = wait(&endpoint, |e| match e {
        Event::Answered { call, sdp } => Some((*call, sdp.clone())),
        Event::Ended { .. } => panic!("{e:?}"),
        _ => None,
    });
    let plan = sdp::accept(&answer.expect("an answer"), &media()).expect("a common codec");
    assert!(plan.send && plan.receive);
    endpoint.command(Command::Hangup(call)).unwrap();
    assert_eq!(ended(&endpoint), (call, EndCause::LocalHangup));
}

#[test]
fn baresip_is_called_and_hangs_up_when_it_quits() {
    let (endpoint, port) = (endpoint(), free_port());
    let (mut baresip, _folder) = baresip(port, None);
    baresip.listens(port);
    let dial =
        Dial { account: None, to: format!("sip:bob@127.0.0.1:{port}"), sdp: sdp::offer(&media()), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 1, dial }).unwrap();
    let call = wait(&endpoint, |e| match e {
        Event::Answered { call, .. } => Some(*call),
        _ => None,
    });
    baresip.terminate();
    assert_eq!(ended(&endpoint), (call, EndCause::RemoteHangup));
}

#[test]
fn baresip_calls_and_is_answered_and_hung_up() {
    let (endpoint, port) = (endpoint(), free_port());
    let dial = format!("/dial sip:agent@{}", endpoint.local_addr());
    let (_baresip, _folder) = baresip(port, Some(&dial));
    let (call, offer) = wait(&endpoint, |e| match e {
        Event::Incoming { call, offer, .. } => Some((*call, offer.clone())),
        _ => None,
    });
    endpoint.command(Command::Ring(call)).unwrap();
    let (answer, plan) = sdp::answer(&offer.expect("an offer"), &media()).expect("a common codec");
    assert!(plan.send && plan.receive);
    endpoint.command(Command::Answer { call, sdp: answer }).unwrap();
    wait(&endpoint, |e| matches!(e, Event::Answered { .. }).then_some(()));
    endpoint.command(Command::Hangup(call)).unwrap();
    assert_eq!(ended(&endpoint), (call, EndCause::LocalHangup));
}
