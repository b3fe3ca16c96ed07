//! The JACK room against real servers: `jackd` on the dummy driver.

#[path = "support/jackd.rs"]
#[allow(dead_code, reason = "not every test does everything to its server")]
mod jackd;
#[path = "support/jack_line.rs"]
mod line;

use std::time::{Duration, Instant};

use jackd::Jackd;
use line::{Media, SMOOTHEST, config, roughness, silence, tone, wait_for_event};
use mr_sip_engine::jack::{JackBridge, JackConfig, JackError, JackEvent, JackState, Route};

/// What came back in three seconds in which the machine kept its times: no period missed by the server, no thread later
/// than the margin. On a machine that never does, the last window is taken as it is.
fn clean_window(
    bridge: &JackBridge,
    media: &mut Media,
    caller: impl Fn(u64) -> f32 + Copy,
    agent: impl Fn(u64) -> f32 + Copy,
) -> Vec<f32> {
    let troubles = |media: &Media| {
        let JackState::Running { xruns, .. } = bridge.state() else { panic!("the server is gone") };
        let stats = media.call.stats();
        let counts = [stats.caller, stats.agent, stats.to_phone].map(|s| s.dry + s.discarded);
        (xruns, counts)
    };
    for _ in 0..20 {
        media.run(Duration::from_secs(2), caller, agent);
        let before = troubles(media);
        media.heard.clear();
        media.run(Duration::from_secs(3), caller, agent);
        if troubles(media) == before {
            break;
        }
        eprintln!("the machine stalled: {before:?} -> {:?}", troubles(media));
    }
    std::mem::take(&mut media.heard)
}

#[test]
fn a_tone_through_caller_and_to_phone_comes_back_whole_at_both_rates() {
    for (purpose, rate, period) in [("tone8", 8_000, 160), ("tone48", 48_000, 256)] {
        let server = Jackd::start(purpose, rate, period);
        let bridge = JackBridge::start(config(server.name())).unwrap();
        let mut media = Media::new(bridge.add_call("c1").unwrap());
        media.until(Route::Jack);
        assert!(server.tool("jack_disconnect", &["mr-sip:c1:agent", "mr-sip:c1:to_phone"]).0);
        assert!(server.tool("jack_connect", &["mr-sip:c1:caller", "mr-sip:c1:to_phone"]).0);
        // For scripts/test_jack.sh, which shows them.
        for line in server.tool("jack_lsp", &["-c", "mr-sip"]).1.lines() {
            println!("port: {line}");
        }
        media.next = Instant::now();
        media.run(Duration::from_secs(1), silence, silence);
        media.heard.clear();
        let settled = clean_window(&bridge, &mut media, tone, silence);
        assert!(roughness(&settled) < SMOOTHEST, "{rate}/{period}: {} {:?}", roughness(&settled), media.call.stats());
        for cycle in settled.chunks_exact(40) {
            let peak = cycle.iter().fold(0.0f32, |a, b| a.max(b.abs()));
            assert!((0.45..0.52).contains(&peak), "{rate}/{period}: peak {peak}");
        }
        assert!(matches!(bridge.state(), JackState::Running { rate_hz, .. } if rate_hz == rate));
    }
}

#[test]
fn the_agents_delay_is_told_to_a_millisecond() {
    for (purpose, rate, period) in [("delay8", 8_000, 80), ("delay48", 48_000, 128)] {
        let server = Jackd::start(purpose, rate, period);
        let bridge = JackBridge::start(config(server.name())).unwrap();
        let mut media = Media::new(bridge.add_call("c1").unwrap());
        media.until(Route::Jack);
        media.run(Duration::from_secs(1), silence, silence);
        let told = media.call.in_flight();
        let at = media.sent + 8;
        let begin = media.heard.len();
        media.run(Duration::from_secs(1), silence, |n| if n == at { 1.0 } else { 0.0 });
        let peak = (begin..media.heard.len()).max_by(|a, b| media.heard[*a].total_cmp(&media.heard[*b])).unwrap();
        let measured = peak as i64 - begin as i64 - 8;
        // The port's phase moves by up to one period between the telling and the measuring.
        let slack = 8 + i64::from(period * 8_000 / rate);
        assert!((measured - i64::from(told)).abs() <= slack, "{rate}/{period}: told {told}, measured {measured}");
    }
}

#[test]
fn killing_jackd_mid_word_loses_no_sample_and_its_return_brings_the_ports_back() {
    let mut server = Jackd::start("kill", 48_000, 256);
    let mut bridge = JackBridge::start(config(server.name())).unwrap();
    let mut media = Media::new(bridge.add_call("c7").unwrap());
    media.until(Route::Jack);
    let from = media.sent;
    let heard_from = media.heard.len();
    let agent = |n: u64| tone(n - from);
    media.run(Duration::from_secs(2), silence, agent);
    let ticks = media.routes.len();
    server.kill();
    media.run(Duration::from_secs(2), silence, agent);
    let gone =
        media.routes[ticks..].iter().position(|r| *r == Route::Bridged).expect("the call stayed on a dead server");
    assert!(gone <= 16, "{gone} ticks until the call left JACK");
    // Every sample of the tone, in order: nothing was lost with the server but the time until it was noticed.
    let begin = media.heard[heard_from..].iter().position(|s| s.abs() > 0.1).unwrap() + heard_from;
    let voiced = media.heard[begin..].iter().filter(|s| s.abs() > 1e-3).count();
    assert!(voiced > 4 * 8_000 - 200 * 8, "{voiced} samples of a 4 s tone");
    wait_for_event(
        &mut bridge,
        |e| matches!(e, JackEvent::Lost { .. }),
        || {
            media.tick(silence, silence);
        },
    );
    media.until(Route::Direct);
    assert_eq!(media.call.in_flight(), 0);
    assert!(matches!(bridge.state(), JackState::Lost { .. }));

    // A new server of the same name, at another rate.
    server.start_again(44_100, 512);
    wait_for_event(
        &mut bridge,
        |e| matches!(e, JackEvent::Back { rate_hz: 44_100, .. }),
        || {
            media.tick(silence, silence);
        },
    );
    media.until(Route::Jack);
    assert!(server.tool("jack_lsp", &["-c"]).1.contains("mr-sip:c7:to_phone"));
    media.heard.clear();
    media.run(Duration::from_secs(2), silence, tone);
    let level = media.heard[8_000..].iter().fold(0.0f32, |a, b| a.max(b.abs()));
    assert!((0.45..0.52).contains(&level), "the agent is heard through the new server: {level}");
}

#[test]
fn a_server_that_hangs_is_left_and_taken_up_again() {
    let server = Jackd::start("hang", 48_000, 256);
    let bridge = JackBridge::start(config(server.name())).unwrap();
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    media.until(Route::Jack);
    server.signal(libc::SIGSTOP);
    media.until(Route::Direct);
    server.signal(libc::SIGCONT);
    media.until(Route::Jack);
    drop(media);
    drop(bridge);
}

#[test]
fn ports_come_with_a_call_and_go_with_it_and_another_calls_stay() {
    let server = Jackd::start("ports", 48_000, 256);
    let bridge = JackBridge::start(config(server.name())).unwrap();
    let mut first = Media::new(bridge.add_call("c1").unwrap());
    first.until(Route::Jack);
    for round in 0..20 {
        let mut second = Media::new(bridge.add_call(&format!("c{}", round + 2)).unwrap());
        second.until(Route::Jack);
        drop(second);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (_, ports) = server.tool("jack_lsp", &[]);
        let ours: Vec<&str> = ports.lines().filter(|port| port.starts_with("mr-sip:")).collect();
        if ours == ["mr-sip:c1:caller", "mr-sip:c1:agent", "mr-sip:c1:to_phone"] {
            break;
        }
        assert!(Instant::now() < deadline, "ports left over: {ours:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(bridge);
    assert!(!server.tool("jack_lsp", &[]).1.contains("mr-sip"), "the client stayed after the bridge");
}

#[test]
fn a_call_beyond_the_ports_goes_direct_and_says_so() {
    let server = Jackd::start("full", 48_000, 256);
    let mut bridge = JackBridge::start(JackConfig { max_calls: 2, ..config(server.name()) }).unwrap();
    let _first = bridge.add_call("c1").unwrap();
    let _second = bridge.add_call("c2").unwrap();
    let mut third = Media::new(bridge.add_call("c3").unwrap());
    wait_for_event(
        &mut bridge,
        |e| matches!(e, JackEvent::PortsRefused { label, .. } if label == "c3"),
        || {
            third.tick(silence, tone);
        },
    );
    assert_eq!(third.tick(silence, |_| 0.25), Route::Direct);
    assert_eq!(third.heard[third.heard.len() - 1], 0.25);
}

#[test]
fn a_period_changed_by_another_program_is_followed() {
    let server = Jackd::start("period", 48_000, 128);
    let bridge = JackBridge::start(config(server.name())).unwrap();
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    media.until(Route::Jack);
    assert!(server.tool("jack_bufsize", &["1024"]).0);
    media.next = Instant::now();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !matches!(bridge.state(), JackState::Running { period: 1_024, .. }) {
        assert!(Instant::now() < deadline, "the period did not change: {:?}", bridge.state());
        media.tick(silence, silence);
    }
    media.until(Route::Jack);
    media.run(Duration::from_secs(3), silence, silence);
    let settled = clean_window(&bridge, &mut media, silence, tone);
    assert!(roughness(&settled) < SMOOTHEST);
}

#[test]
fn without_a_server_the_error_names_it_and_the_fix_and_waiting_goes_direct() {
    let error = JackBridge::start(config("mrj_nobody")).unwrap_err();
    assert_eq!(error, JackError::NoServer { server: "mrj_nobody".to_owned() });
    assert!(error.to_string().contains("jackd -n mrj_nobody"), "{error}");
    let bridge = JackBridge::start(JackConfig { wait_for_server: true, ..config("mrj_nobody") }).unwrap();
    assert!(matches!(bridge.state(), JackState::Lost { .. }));
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    media.run(Duration::from_millis(500), tone, |n| n as f32 * 1e-5);
    assert!(media.routes.iter().all(|route| *route == Route::Direct));
    assert!(
        media.heard.iter().enumerate().all(|(n, s)| *s == n as f32 * 1e-5),
        "direct is the agent's voice, bit for bit"
    );
}

#[test]
fn a_server_that_hangs_before_we_come_is_told_and_taken_up_when_it_answers() {
    let server = Jackd::start("stopped", 48_000, 256);
    server.signal(libc::SIGSTOP);
    let error = JackBridge::start(config(server.name())).unwrap_err();
    assert_eq!(error, JackError::NoAnswer { server: server.name().to_owned() });
    assert!(error.to_string().contains("pgrep -a jackd"), "{error}");
    let mut bridge = JackBridge::start(JackConfig { wait_for_server: true, ..config(server.name()) }).unwrap();
    assert!(matches!(bridge.state(), JackState::Lost { .. }));
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    media.until(Route::Direct);
    server.signal(libc::SIGCONT);
    let back = |e: &JackEvent| *e == JackEvent::Back { rate_hz: 48_000, period: 256 };
    wait_for_event(&mut bridge, back, || {
        media.tick(silence, silence);
    });
    media.until(Route::Jack);
}

#[test]
fn names_that_jack_cannot_carry_are_refused() {
    let bad = ["", "a b", "a:b", "a/b", "c\0", ".*(", "überlang", "x234567890123456789012345678901234567890"];
    for name in bad {
        assert!(matches!(JackBridge::start(config(name)), Err(JackError::Name { .. })), "{name:?}");
    }
}
