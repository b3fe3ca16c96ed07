//! Ports, their aliases, what is connected by rule, and clients of calls' own, at real JACK servers.

#[path = "support/jackd.rs"]
#[allow(dead_code, reason = "not every test does everything to its server")]
mod jackd;
#[path = "support/jack_line.rs"]
mod line;

use std::time::{Duration, Instant};

use jackd::Jackd;
use line::{Media, config, silence, tone, wait_for_event};
use mr_sip_engine::jack::{ConnectRule, JackBridge, JackClients, JackConfig, JackError, JackEvent, JackState, Route};

/// What a port is connected to, as `jack_lsp` shows it.
fn connections(server: &Jackd, port: &str) -> Vec<String> {
    let listed = server.tool("jack_lsp", &["-c"]).1;
    let after = listed.lines().skip_while(|line| *line != port).skip(1);
    after.take_while(|line| line.starts_with("   ")).map(|line| line.trim().to_owned()).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn rule(from: &str, to: &str) -> ConnectRule {
    ConnectRule::new(from, to).unwrap()
}

fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |a, b| a.max(b.abs()))
}

#[test]
fn ports_have_aliases_with_the_far_ends_name_and_two_calls_of_one_far_end_differ() {
    let server = Jackd::start("alias", 48_000, 256);
    let bridge = JackBridge::start(config(server.name())).unwrap();
    let far_end = "\"Bob\" <sip:+49301234@example.com:5070;user=phone>";
    let mut first = Media::new(bridge.add_call_with("c1", far_end).unwrap());
    first.until(Route::Jack);
    let mut second = Media::new(bridge.add_call_with("c2", far_end).unwrap());
    second.until(Route::Jack);
    let listed = server.tool("jack_lsp", &["-A", "mr-sip"]).1;
    for name in ["mr-sip:+49301234:caller", "mr-sip:+49301234:agent", "mr-sip:+49301234-c2:to_phone"] {
        assert!(listed.lines().any(|line| line.trim() == name), "{name} is missing in:\n{listed}");
    }
    // other programs may say either name
    assert!(server.tool("jack_disconnect", &["mr-sip:c1:agent", "mr-sip:c1:to_phone"]).0);
    assert!(server.tool("jack_connect", &["mr-sip:+49301234:caller", "mr-sip:+49301234:to_phone"]).0);
    first.next = Instant::now();
    first.run(Duration::from_secs(2), tone, silence);
    assert!(peak(&first.heard[first.heard.len() - 4_000..]) > 0.4, "the caller hears itself");
}

#[test]
fn rules_connect_what_appears_once_and_never_what_was_taken_away() {
    let server = Jackd::start("rules", 48_000, 256);
    let rules = vec![
        rule(r"^mr-sip:.*:caller$", "system:playback_1"),
        rule(r"mr-sip:\+49.*:caller", "jack_delay:in"),
        rule("jack_delay:out", r"mr-sip:c\d:to_phone"),
        rule("nobody:.*", "nothing:.*"),
    ];
    let bridge = JackBridge::start(JackConfig { connect: rules, patch_agent: false, ..config(server.name()) }).unwrap();
    let mut first = Media::new(bridge.add_call_with("c1", "sip:+49301234@example.com").unwrap());
    first.until(Route::Jack);
    until("a call's port is connected as it comes", || {
        connections(&server, "mr-sip:c1:caller") == ["system:playback_1"]
    });
    assert!(
        connections(&server, "mr-sip:c1:agent").is_empty(),
        "the agent is not patched: rules may say where it goes"
    );

    // another program comes: an input by the call's alias, and an output
    let guest = server.client("jack_iodelay", &[]);
    until("another program's ports are connected as they come", || {
        connections(&server, "mr-sip:c1:caller").iter().any(|port| port == "jack_delay:in")
            && connections(&server, "mr-sip:c1:to_phone") == ["jack_delay:out"]
    });

    // what somebody took away stays away, whatever comes then
    assert!(server.tool("jack_disconnect", &["mr-sip:c1:caller", "system:playback_1"]).0);
    let mut second = Media::new(bridge.add_call_with("c2", "sip:200@example.com").unwrap());
    second.until(Route::Jack);
    until("the next call's ports are connected", || {
        connections(&server, "mr-sip:c2:caller") == ["system:playback_1"]
            && connections(&server, "mr-sip:c2:to_phone") == ["jack_delay:out"]
    });
    assert_eq!(connections(&server, "mr-sip:c1:caller"), ["jack_delay:in"]);
    drop(guest);
    until("the guest is gone", || connections(&server, "mr-sip:c1:caller").is_empty());
}

#[test]
fn a_pattern_that_is_none_is_refused_before_anything_is_started() {
    let error = ConnectRule::new("mr-sip:(", "system:playback_1").unwrap_err();
    assert!(matches!(&error, JackError::Pattern { pattern, .. } if pattern == "mr-sip:("), "{error:?}");
    assert!(error.to_string().contains('\\'), "{error}");
}

#[test]
fn each_call_may_have_a_client_of_its_own_and_beyond_the_limit_they_share_one() {
    let mut server = Jackd::start("own", 48_000, 256);
    let own = JackConfig { clients: JackClients::PerCall, max_clients: 2, ..config(server.name()) };
    let mut bridge = JackBridge::start(own).unwrap();
    let mut calls: Vec<Media> = ["c1", "c2", "c3", "c4"]
        .into_iter()
        .map(|label| {
            let mut call = Media::new(bridge.add_call_with(label, "sip:100@example.com").unwrap());
            call.until(Route::Jack);
            call
        })
        .collect();
    let ports = server.tool("jack_lsp", &["-A"]).1;
    for name in ["mr-sip-c1:caller", "mr-sip-c2:agent", "mr-sip:c3:to_phone", "mr-sip:c4:caller", "mr-sip:100:agent"] {
        assert!(ports.lines().any(|line| line.trim() == name), "{name} is missing in:\n{ports}");
    }
    assert!(matches!(bridge.state(), JackState::Running { own_clients: 2, .. }));
    let refused: Vec<JackEvent> = std::iter::from_fn(|| bridge.poll_event()).collect();
    assert!(
        matches!(&refused[..], [JackEvent::ClientRefused { label, .. }] if label == "c3"),
        "said once: {refused:?}"
    );

    // through a client of its own as through the shared one
    for call in [0, 3] {
        let media = &mut calls[call];
        media.next = Instant::now();
        media.run(Duration::from_secs(2), silence, tone);
        assert!((0.4..0.6).contains(&peak(&media.heard[media.heard.len() - 4_000..])), "call {call}");
    }

    // a call that ends makes room
    drop(calls.remove(0));
    until("its client is gone", || !server.tool("jack_lsp", &[]).1.contains("mr-sip-c1"));
    let mut fifth = Media::new(bridge.add_call("c5").unwrap());
    fifth.until(Route::Jack);
    assert!(server.tool("jack_lsp", &[]).1.contains("mr-sip-c5:caller"));
    calls.push(fifth);

    // another server at another rate: all have their places again
    server.end();
    wait_for_event(
        &mut bridge,
        |e| matches!(e, JackEvent::Lost { .. }),
        || std::thread::sleep(Duration::from_millis(5)),
    );
    server.start_again(44_100, 512);
    wait_for_event(
        &mut bridge,
        |e| matches!(e, JackEvent::Back { rate_hz: 44_100, .. }),
        || {
            std::thread::sleep(Duration::from_millis(5));
        },
    );
    for media in &mut calls {
        media.next = Instant::now();
        media.until(Route::Jack);
    }
    assert!(matches!(bridge.state(), JackState::Running { own_clients: 2, .. }));
    drop(calls);
    drop(bridge);
    assert!(!server.tool("jack_lsp", &[]).1.contains("mr-sip"), "clients stayed after the bridge");
}
