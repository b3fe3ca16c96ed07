//! Case 46: nothing that can be printed of a value of this crate's shows a key or a password.

use std::{fmt::Debug, time::Instant};

use mr_sip_signaling::{
    Account, CallId, Dial, Event, Password, Transport, UserAgent, UserAgentConfig,
    net::{Command, EndpointConfig},
    sdp::{self, CryptoKey, LocalMedia, Negotiation, SrtpPolicy},
};

/// 30 bytes of `*`, in base64.
const KEY: &str = "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioq";
const SECRETS: [&str; 3] = [KEY, "wonderland", "inline:Kio"];

fn media() -> LocalMedia {
    let mut media = LocalMedia::new("127.0.0.1:4000".parse().unwrap());
    media.srtp = SrtpPolicy::Required;
    media.keys = vec![CryptoKey::new([b'*'; 30]); 2];
    media
}

#[track_caller]
fn shows_no_secret(what: &impl Debug) {
    for text in [format!("{what:?}"), format!("{what:#?}")] {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert!(!text.contains("42, 42, 42"), "a key's bytes in {text}");
    }
}

#[test]
fn case_46_descriptions_and_media_show_no_key() {
    let media = media();
    let offer = sdp::offer(&media);
    assert!(offer.contains(KEY), "there is something to be seen");
    shows_no_secret(&media);
    let mut theirs = Negotiation::new();
    let (_, plan) = theirs.answer(&offer, &media).unwrap();
    assert!(plan.srtp.is_some());
    shows_no_secret(&plan);
    shows_no_secret(&theirs);
}

#[test]
fn case_46_events_show_no_key() {
    let sdp = sdp::offer(&media());
    let call = CallId(7);
    let uri = || "sip:alice:wonderland@example.com".to_owned();
    let incoming = Event::Incoming {
        call,
        from: uri(),
        to: uri(),
        display_name: Some("Alice".into()),
        source: "192.0.2.1:5060".parse().unwrap(),
        transport: Transport::Udp,
        account: None,
        offer: Some(sdp.clone()),
        replaces: None,
    };
    shows_no_secret(&incoming);
    let shown = format!("{incoming:?}");
    for open in ["Alice", "192.0.2.1:5060", "example.com", "a=crypto", "m=audio 4000", "c7"] {
        assert!(shown.contains(open) || open == "c7", "{open} is no secret: {shown}");
    }
    shows_no_secret(&Event::Progress { call, status: 183, sdp: Some(sdp.clone()) });
    shows_no_secret(&Event::Answered { call, sdp: Some(sdp.clone()) });
    shows_no_secret(&Event::Reoffer { call, sdp: Some(sdp.clone()) });
    shows_no_secret(&Event::ReofferAnswered { call, sdp });
    shows_no_secret(&Event::TransferRequested { call, to: uri(), replaces: false, referred_by: Some(uri()) });
}

#[test]
fn case_46_commands_show_no_key_and_no_digit() {
    let sdp = sdp::offer(&media());
    let call = CallId(7);
    let dial = Dial {
        to: "sip:alice:wonderland@example.com".into(),
        sdp: sdp.clone(),
        headers: vec![("X-Api-Token".into(), "wonderland".into()), ("X-Tenant".into(), "acme".into())],
        ..Dial::default()
    };
    shows_no_secret(&dial);
    assert!(format!("{dial:?}").contains("acme"));
    shows_no_secret(&Command::Dial { tag: 1, dial });
    shows_no_secret(&Command::Progress { call, sdp: sdp.clone() });
    shows_no_secret(&Command::Answer { call, sdp: sdp.clone() });
    shows_no_secret(&Command::AnswerReoffer { call, sdp: sdp.clone() });
    shows_no_secret(&Command::Reoffer { call, sdp: sdp.clone() });
    shows_no_secret(&Command::AcceptTransfer { call, sdp });
    shows_no_secret(&Command::Transfer { call, to: "sip:alice:wonderland@example.com".into() });
    let info = Command::Info {
        call,
        content_type: "application/dtmf-relay".into(),
        body: "Signal=5\r\nDuration=160\r\n".into(),
    };
    assert!(!format!("{info:?}").contains("Signal"), "{info:?}");
}

#[test]
fn case_46_an_agent_at_work_and_what_it_sends_show_no_secret() {
    let local = "127.0.0.1:5060".parse().unwrap();
    let mut config = UserAgentConfig::new(local);
    config.accounts = vec![Account::new("pbx", "127.0.0.1:5070", "alice", Password::new("wonderland"))];
    shows_no_secret(&config);
    shows_no_secret(&EndpointConfig::new(local, config.clone()));
    let mut agent = UserAgent::new(config, [1; 32]).unwrap();
    let now = Instant::now();
    agent.handle_timeout(now);
    let dial = Dial { to: "sip:bob@127.0.0.1:5071".into(), sdp: sdp::offer(&media()), ..Dial::default() };
    agent.dial(now, dial).unwrap();
    shows_no_secret(&agent);
    let mut sent = 0;
    while let Some(transmit) = agent.poll_transmit() {
        sent += 1;
        shows_no_secret(&transmit);
        assert!(format!("{transmit:?}").contains("SIP/2.0"), "and yet it can be read");
    }
    assert_eq!(sent, 2, "REGISTER and INVITE");
}
