//! What a JACK server does by itself while calls run: another rate, another period, freewheel, transport, missed periods.

#[path = "support/jackd.rs"]
#[allow(dead_code, reason = "not every test does everything to its server")]
mod jackd;
#[path = "support/jack_line.rs"]
mod line;

use std::time::{Duration, Instant};

use jackd::Jackd;
use line::{Media, config, roughness, silence, tone, wait_for_event};
use mr_sip_engine::jack::{JackBridge, JackEvent, JackState, Route};

fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |a, b| a.max(b.abs()))
}

/// The agent is heard through JACK, now.
fn assert_heard(media: &mut Media) {
    media.next = Instant::now();
    media.until(Route::Jack);
    media.run(Duration::from_secs(1), silence, tone);
    let level = peak(&media.heard[media.heard.len() - 4_000..]);
    assert!((0.4..0.6).contains(&level), "the agent is heard at {level}");
    media.run(Duration::from_millis(500), silence, silence);
}

/// Waits until all three rings are within 10 ms of their set points. A server that changes something stands still meanwhile
/// and may hurry afterwards, and what that moves the rings by is steered away at 0.5 %: 40 samples a second, heard by nobody.
fn settle(media: &mut Media) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let off = |media: &Media| {
        let stats = media.call.stats();
        [stats.caller, stats.agent, stats.to_phone].map(|s| (s.fill - s.set_point).abs() >= 80.0)
    };
    while off(media).contains(&true) {
        assert!(Instant::now() < deadline, "the rings do not come back: {:?}", media.call.stats());
        media.tick(silence, silence);
    }
}

#[test]
fn a_server_that_comes_back_at_another_rate_is_followed_again_and_again() {
    let mut server = Jackd::start("rates", 48_000, 256);
    let mut bridge = JackBridge::start(config(server.name())).unwrap();
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    assert_heard(&mut media);
    for (rate, period) in [(44_100, 512), (8_000, 80), (96_000, 1_024), (48_000, 64)] {
        server.end();
        let tick = |media: &mut Media| {
            media.tick(silence, silence);
        };
        wait_for_event(&mut bridge, |e| matches!(e, JackEvent::Lost { .. }), || tick(&mut media));
        server.start_again(rate, period);
        let back = |e: &JackEvent| *e == JackEvent::Back { rate_hz: rate, period };
        wait_for_event(&mut bridge, back, || tick(&mut media));
        assert_heard(&mut media);
    }
}

#[test]
fn periods_changed_in_the_middle_of_a_word_are_told_and_lose_no_call() {
    let server = Jackd::start("bufsize", 48_000, 256);
    let mut bridge = JackBridge::start(config(server.name())).unwrap();
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    assert_heard(&mut media);
    for period in ["2048", "64", "512"] {
        assert!(server.tool("jack_bufsize", &[period]).0);
        // the tool takes longer than any media thread may stall
        media.next = Instant::now();
        let frames: u32 = period.parse().unwrap();
        wait_for_event(
            &mut bridge,
            |e| *e == JackEvent::Period { frames },
            || {
                media.tick(silence, tone);
            },
        );
        assert_heard(&mut media);
        settle(&mut media);
    }
}

#[test]
fn a_freewheeling_server_is_left_and_taken_up_again_and_its_rings_do_not_run_away() {
    let server = Jackd::start("wheel", 48_000, 256);
    let mut bridge = JackBridge::start(config(server.name())).unwrap();
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    assert_heard(&mut media);
    let before = media.call.stats();
    assert!(server.tool("jack_freewheel", &["y"]).0);
    wait_for_event(
        &mut bridge,
        |e| *e == JackEvent::Freewheel { on: true },
        || {
            media.tick(silence, silence);
        },
    );
    media.until(Route::Direct);
    assert!(matches!(bridge.state(), JackState::Running { freewheeling: true, .. }), "{:?}", bridge.state());
    media.heard.clear();
    media.next = Instant::now();
    media.run(Duration::from_secs(2), tone, tone);
    assert!(media.heard.iter().enumerate().all(|(n, s)| *s == tone(media.sent - media.heard.len() as u64 + n as u64)));

    assert!(server.tool("jack_freewheel", &["n"]).0);
    wait_for_event(
        &mut bridge,
        |e| *e == JackEvent::Freewheel { on: false },
        || {
            media.tick(silence, silence);
        },
    );
    assert_heard(&mut media);
    settle(&mut media);
    let after = media.call.stats();
    for (before, after) in [(before.caller, after.caller), (before.agent, after.agent)] {
        assert!(after.dry <= before.dry + 1, "the rings ran dry while time meant nothing: {before:?} {after:?}");
    }
}

#[test]
fn the_servers_transport_is_not_looked_at() {
    let server = Jackd::start("tape", 48_000, 256);
    let bridge = JackBridge::start(config(server.name())).unwrap();
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    assert_heard(&mut media);
    let mut tape = server.client("jack_transport", &[]);
    let from = media.heard.len();
    for command in ["play\n", "locate 480000\n", "stop\n", "locate 0\n", "play\n"] {
        tape.type_in(command);
        media.run(Duration::from_millis(400), silence, tone);
    }
    let heard = &media.heard[from + 2_000..];
    assert!(heard.chunks_exact(400).filter(|piece| peak(piece) > 0.4).count() * 400 > heard.len() - 2_000);
    assert!(media.routes[media.routes.len() - 100..].iter().all(|route| *route == Route::Jack));
    assert!(roughness(&heard[heard.len() - 2_000..]) < 0.2);
}

#[test]
fn missed_periods_are_counted_and_told_but_not_each_by_itself() {
    let server = Jackd::start("xruns", 48_000, 128);
    let mut bridge = JackBridge::start(config(server.name())).unwrap();
    let mut media = Media::new(bridge.add_call("c1").unwrap());
    media.until(Route::Jack);
    let xruns = |bridge: &JackBridge| match bridge.state() {
        JackState::Running { xruns, .. } => xruns,
        other => panic!("{other:?}"),
    };
    let began = Instant::now();
    let mut told = Vec::new();
    while xruns(&bridge) < 5 || began.elapsed() < Duration::from_secs(3) {
        assert!(began.elapsed() < Duration::from_secs(30), "{} missed periods were seen", xruns(&bridge));
        server.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(40));
        server.signal(libc::SIGCONT);
        std::thread::sleep(Duration::from_millis(60));
        told.extend(std::iter::from_fn(|| bridge.poll_event()).filter(|e| matches!(e, JackEvent::Xruns { .. })));
    }
    let most = began.elapsed().as_secs() / 10 + 1;
    assert!(!told.is_empty() && told.len() as u64 <= most, "{told:?} in {:?}", began.elapsed());
    assert!(told.iter().all(|e| matches!(e, JackEvent::Xruns { count, total } if count > &0 && total >= count)));
    media.next = Instant::now();
    media.until(Route::Jack);
}
