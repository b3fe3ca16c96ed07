//! Media agreed on with baresip: each codec, and SRTP in each of its ways, whoever calls.

mod processes;

use std::{
    fs,
    net::SocketAddr,
    process::Command as Process,
    time::{Duration, Instant},
};

use mr_sip_signaling::{
    Dial, Event, UserAgentConfig,
    net::{Command, Endpoint, EndpointConfig},
    sdp::{self, AudioCodec, CryptoKey, LocalMedia, MediaPlan, SrtpPolicy},
};
use processes::{Running, free_port};

const LIMIT: Duration = Duration::from_secs(30);

fn endpoint() -> Endpoint {
    let bind: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Endpoint::start(EndpointConfig::new(bind, UserAgentConfig::new(bind)), || {}).expect("the endpoint starts")
}

/// With all codecs of ours; `account` are parameters of its account, `command` is typed into it.
fn baresip(port: u16, account: &str, command: Option<&str>) -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let modules = ["/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules"];
    let modules = modules.iter().find(|m| fs::metadata(m).is_ok()).unwrap_or(&modules[0]);
    let config = format!(
        "poll_method epoll\nsip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\n\
         audio_player aubridge,nowhere\naudio_source aubridge,nowhere\naudio_alert aubridge,nowhere\n\
         module_path {modules}\nmodule opus.so\nmodule g722.so\nmodule g711.so\nmodule aubridge.so\nmodule srtp.so\n\
         module_tmp account.so\nmodule_app menu.so\n"
    );
    let account = format!("<sip:bob@127.0.0.1:{port};transport=udp>;regint=0;answermode=auto{account}\n");
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

#[track_caller]
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

fn media(codecs: &[AudioCodec], srtp: SrtpPolicy) -> LocalMedia {
    let keys = vec![CryptoKey::new([1; CryptoKey::LEN]), CryptoKey::new([2; CryptoKey::LEN])];
    let addr = "127.0.0.1:4000".parse().unwrap();
    LocalMedia { codecs: codecs.to_vec(), srtp, keys, ..LocalMedia::new(addr) }
}

/// What comes of our call to a baresip with these account parameters; `None` if it refuses.
fn called(account: &str, local: &LocalMedia) -> Option<MediaPlan> {
    let (endpoint, port) = (endpoint(), free_port());
    let (mut baresip, _folder) = baresip(port, account, None);
    baresip.listens(port);
    let dial = Dial { to: format!("sip:bob@127.0.0.1:{port}"), sdp: sdp::offer(local), ..Dial::default() };
    endpoint.command(Command::Dial { tag: 1, dial }).unwrap();
    let answer = wait(&endpoint, |e| match e {
        Event::Answered { sdp, .. } => Some(Some(sdp.clone().expect("an answer"))),
        Event::Ended { .. } => Some(None),
        _ => None,
    })?;
    Some(sdp::accept(&answer, local).unwrap_or_else(|e| panic!("{e}: {answer}")))
}

/// What comes of its call to us.
fn calls(account: &str, local: &LocalMedia) -> MediaPlan {
    let (endpoint, port) = (endpoint(), free_port());
    let dial = format!("/dial sip:agent@{}", endpoint.local_addr());
    let (_baresip, _folder) = baresip(port, account, Some(&dial));
    let (call, offer) = wait(&endpoint, |e| match e {
        Event::Incoming { call, offer, .. } => Some((*call, offer.clone().expect("an offer"))),
        _ => None,
    });
    let (answer, plan) = sdp::answer(&offer, local).unwrap_or_else(|e| panic!("{e}: {offer}"));
    endpoint.command(Command::Answer { call, sdp: answer }).unwrap();
    wait(&endpoint, |e| match e {
        Event::Answered { .. } => Some(()),
        Event::Ended { .. } => panic!("{e:?} after {offer}"),
        _ => None,
    });
    plan
}

#[test]
fn baresip_takes_each_codec_whoever_calls() {
    for codec in AudioCodec::ALL {
        let local = media(&[codec], SrtpPolicy::Off);
        let plan = called("", &local).expect("it answers");
        assert_eq!(plan.codec, codec);
        assert_eq!(calls("", &local).codec, codec);
        assert_eq!(plan.telephone_event.map(|d| d.receive_payload_type), Some(101), "{codec:?}");
    }
}

#[test]
fn baresip_agrees_on_srtp_wherever_both_have_it() {
    for (mediaenc, policy, called_encrypted, calls_encrypted) in [
        ("srtp", SrtpPolicy::Optional, Some(true), true),
        ("srtp", SrtpPolicy::Required, Some(true), true),
        ("srtp", SrtpPolicy::Off, Some(false), false),
        // it wants RTP/SAVP in an offer and refuses anything else
        ("srtp-mand", SrtpPolicy::Optional, None, true),
        ("srtp-mand", SrtpPolicy::Required, Some(true), true),
    ] {
        let local = media(&AudioCodec::ALL, policy);
        let account = format!(";mediaenc={mediaenc}");
        let encrypted = |plan: MediaPlan| plan.srtp.is_some();
        assert_eq!(called(&account, &local).map(encrypted), called_encrypted, "called: {mediaenc} {policy:?}");
        assert_eq!(encrypted(calls(&account, &local)), calls_encrypted, "calls: {mediaenc} {policy:?}");
    }
}

#[test]
fn a_baresip_without_srtp_takes_our_optional_offer_as_plain() {
    let plan = called("", &media(&AudioCodec::ALL, SrtpPolicy::Optional)).expect("it answers");
    assert_eq!(plan.srtp, None);
}
