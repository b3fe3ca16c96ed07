//! `mr-sip watch`: lines, the protocol's events, and a table that fits the terminal.

use super::*;

/// A daemon with one call of somebody else's, on which something is said; then the user has seen enough.
fn watched(interrupts: &Arc<Interrupts>) -> Daemon {
    let user = interrupts.clone();
    Daemon::start(move |server, input| match input {
        Input::Request { id, method: Method::CallList(_), .. } => {
            server.respond(&id, Ok(CallListReply { calls: vec![call(CallState::Answered)], more: false }));
            let (call, utterance, text) = (C7, 1, "one two".to_owned());
            server.notify(&Event::CallDtmf { call, digit: '5', duration_ms: 100, via: DigitsVia::Rfc4733 }, Some(900));
            server.notify(
                &Event::TranscriptFinal {
                    call,
                    utterance,
                    text,
                    as_eager: false,
                    backchannel: false,
                    start_ms: 1500,
                    end_ms: 2500,
                    latency_ms: 400,
                    words: Vec::new(),
                },
                Some(2900),
            );
            // a call that the view has not heard of
            let (call, from, to) = (CallId(8), "sip:eve\x1b]0;@example.net".into(), "sip:agent@example.org".into());
            server.notify(&Event::CallIncoming { call, from, to, display_name: None, replaces: None }, None);
            server.notify(&Event::DaemonWarning { text: "enough".into() }, None);
        }
        Input::Request { id, method: Method::CallGet(get), .. } => {
            let from = "sip:eve@example.net".into();
            server
                .respond(&id, Ok(Call { call: get.call, direction: Direction::In, from, ..call(CallState::Incoming) }));
            user.raise();
        }
        _ => {}
    })
}

#[test]
fn watch_writes_a_line_an_event_where_there_is_no_terminal() {
    let interrupts = Arc::new(Interrupts::none());
    let daemon = watched(&interrupts);
    let ran = run_with(&daemon.socket, Look::default(), &interrupts, "watch");
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "c7 answered sip:100@example.org");
    assert!(lines[1].ends_with("c7   ──▶ key 5 (100 ms)"), "{}", ran.out);
    assert!(lines[2].ends_with("c7   ──▶ \"one two\"  (400 ms)"), "{}", ran.out);
    assert!(lines[3].ends_with("c8   ──▶ sip:eve\u{fffd}]0;@example.net calls sip:agent@example.org"), "{}", ran.out);
    assert!(!ran.out.contains(['\x1b', '\r']));
}

#[test]
fn watch_writes_the_protocols_events_as_json() {
    // nothing is asked but the list: the interrupt must come otherwise
    let interrupts = Arc::new(Interrupts::none());
    let user = interrupts.clone();
    let daemon = Daemon::start(move |server, input| {
        if let Input::Request { id, .. } = input {
            server.respond(&id, Ok(CallListReply::default()));
            server.notify(
                &Event::CallDtmf { call: C7, digit: '5', duration_ms: 100, via: DigitsVia::Rfc4733 },
                Some(900),
            );
            user.raise();
        }
    });
    let ran = run_with(&daemon.socket, Look { terminal: Some((80, 24)), colours: true }, &interrupts, "watch --json");
    assert_eq!(ran.exit, Exit::Ok);
    let expected = json!({"jsonrpc": "2.0", "method": "call.dtmf",
        "params": {"call": "c7", "digit": "5", "duration_ms": 100, "via": "rfc4733", "time_ms": 900}});
    assert_eq!(serde_json::from_str::<Value>(ran.out.lines().next().unwrap_or("null")).unwrap(), expected);
}

#[test]
fn watch_draws_a_table_that_fits_the_terminal() {
    let interrupts = Arc::new(Interrupts::none());
    let daemon = watched(&interrupts);
    let look = Look { terminal: Some((60, 10)), colours: false };
    let ran = run_with(&daemon.socket, look, &interrupts, "watch");
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let last = ran.out.rsplit("\x1b[J").find(|frame| !frame.is_empty()).unwrap();
    let lines: Vec<String> = last.lines().map(|line| line.trim_start_matches('\r').replace("\x1b[K", "")).collect();
    assert!(lines.len() < 10, "{lines:?}");
    assert!(lines.iter().all(|line| line.trim_start_matches("\x1b[9A").chars().count() < 60), "{lines:?}");
    assert!(ran.out.contains("c7    answered      ▶ sip:100@example.org"), "{}", ran.out);
    assert!(ran.out.contains("one two"));
}
