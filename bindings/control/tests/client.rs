//! The blocking client against a server in a thread.

mod common;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE};
use mr_sip_control::client::Message;
use mr_sip_control::types::*;
use mr_sip_control::{ApiError, Client, ControlError, Encoding, Input, Server};

/// Runs a daemon in a thread until it is dropped.
struct Running {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(mut answer: impl FnMut(&mut Server, Input) + Send + 'static) -> Self {
        let mut daemon = Daemon::start();
        let path = daemon.path.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(input) = daemon.step(Instant::now(), Duration::from_millis(5)) {
                    answer(&mut daemon.server, input);
                }
            }
        });
        Self { path, stop, thread: Some(thread) }
    }

    fn connect(&self) -> Client {
        Client::connect(&self.path, Hello { client: "test".into(), ..Hello::default() }).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn patience() -> Instant {
    Instant::now() + PATIENCE
}

#[test]
fn asks_and_hears_events_that_came_before_the_answer() {
    let daemon = Running::start(|server, input| {
        if let Input::Request { client, id, method } = input {
            assert!(matches!(method, Method::CallDial(_)));
            server.set_owner(CallId(4), Some(client));
            server.notify(&Event::SpeechStart { call: CallId(4), at_ms: 5 }, Some(6));
            server.respond(&id, Ok(DialReply { call: CallId(4) }));
        }
    });
    let mut client = daemon.connect();
    assert_eq!(client.hello().server, "mr-sip");
    let reply = client.request(&CallDial { to: "sip:a@b".into(), ..CallDial::default() }).unwrap();
    assert_eq!(reply.call, CallId(4));
    let event = Event::SpeechStart { call: CallId(4), at_ms: 5 };
    assert_eq!(
        client.next_message(patience()).unwrap(),
        Some(Message::Event(Notification { time_ms: Some(6), event }))
    );
    assert_eq!(client.next_message(Instant::now()).unwrap(), None);
}

#[test]
fn a_refusal_is_the_daemons_own_sentence() {
    let daemon = Running::start(|server, input| {
        if let Input::Request { id, .. } = input {
            server.respond::<Done>(&id, Err(ApiError::no_such_call(CallId(4))));
        }
    });
    let mut client = daemon.connect();
    let error = client.request(&CallHangup::new(CallId(4))).unwrap_err();
    assert_eq!(error.to_string(), "there is no call c4");
    let error = client.request(&CallDtmf::new(CallId(4), "x")).unwrap_err();
    assert_eq!(error.to_string(), "call.dtmf: `digits`: 'x': allowed are 0-9 * # A-D");
    assert!(matches!(error, ControlError::Api(error) if error.code() == Some(ErrorCode::InvalidParams)));
}

#[test]
fn sends_and_receives_audio() {
    let (told, heard) = mpsc::channel();
    let daemon = Running::start(move |server, input| {
        if let Input::Audio { client, channel, encoding, generation, monotonic_ns, samples } = input {
            server.send_audio(client, channel, encoding, generation, monotonic_ns, &samples).unwrap();
            told.send(generation).unwrap();
        }
    });
    let mut client = daemon.connect();
    client.send_audio(3, Encoding::Alaw, 8, 99, &[1, 2, 3]).unwrap();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(8));
    let audio = Message::Audio { channel: 3, encoding: Encoding::Alaw, monotonic_ns: 99, samples: vec![1, 2, 3] };
    assert_eq!(client.next_message(patience()).unwrap(), Some(audio));
}

#[test]
fn resumes_by_its_token() {
    let daemon = Running::start(|server, input| {
        if let Input::Request { client, id, .. } = input {
            server.set_owner(CallId(9), Some(client));
            server.respond(&id, Ok(Done {}));
        }
    });
    let mut client = daemon.connect();
    client.request(&CallAnswer { call: CallId(9) }).unwrap();
    let (session, token) = (client.hello().session, client.hello().token.clone());
    client.close();
    let hello = Hello { client: "test".into(), token: Some(token), ..Hello::default() };
    let client = Client::connect(&daemon.path, hello).unwrap();
    assert_eq!(client.hello().session, session);
    assert_eq!(client.hello().resumed, [CallId(9)]);
}

#[test]
fn says_that_the_daemon_is_not_running() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let expected = format!("the daemon is not running on {}; start it with: mr-sip serve", path.display());
    let connect = || Client::connect(&path, Hello { client: "test".into(), ..Hello::default() });
    assert_eq!(connect().unwrap_err().to_string(), expected);
    // what kill -9 leaves: a socket that nobody listens on
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(connect().unwrap_err().to_string(), expected);
}

#[test]
fn says_that_the_daemon_went_away() {
    let daemon = Running::start(|_, _| {});
    let mut client = daemon.connect();
    drop(daemon);
    assert!(matches!(client.next_message(patience()), Err(ControlError::Closed)));
    assert!(matches!(client.request(&CallList::default()), Err(ControlError::Closed)));
}

/// More calls than a frame could hold are listed page by page, each once, though one of them is large.
#[test]
fn lists_however_many_calls_there_are() {
    const CALLS: u32 = 6_000;
    let call = |number: u32| {
        let padding = "x".repeat(if number == 5 { 600_000 } else { 1_200 });
        serde_json::from_value::<Call>(serde_json::json!({
            "call": number, "direction": "in", "state": "answered", "from": "sip:a@b", "to": "sip:c@d",
            "started_unix_ms": 1, "duration_ms": 2, "jack": false, "metadata": {"padding": padding},
        }))
        .unwrap()
    };
    let pages = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = pages.clone();
    let daemon = Running::start(move |server, input| {
        if let Input::Request { id, method: Method::CallList(request), .. } = input {
            counted.fetch_add(1, Ordering::Relaxed);
            let first = request.after.map_or(1, |call| call.0 + 1);
            server.respond(&id, Ok(CallListReply::page((first..=CALLS).map(call), &request)));
        }
    });
    let mut client = daemon.connect();
    let listed: Vec<u32> = client.calls().unwrap().iter().map(|call| call.call.0).collect();
    assert_eq!(listed, (1..=CALLS).collect::<Vec<_>>());
    assert!(pages.load(Ordering::Relaxed) > CALLS.div_ceil(MAX_LIST), "bytes are a limit too");
    let few = client.request(&CallList { after: Some(CallId(10)), limit: Some(3) }).unwrap();
    assert_eq!((few.calls.len(), few.calls[0].call, few.more), (3, CallId(11), true));
    let last = client.request(&CallList { after: Some(CallId(CALLS - 3)), limit: Some(3) }).unwrap();
    assert_eq!((last.calls.len(), last.more), (3, false));
    assert!(client.request(&CallList { after: None, limit: Some(0) }).is_err());
}
