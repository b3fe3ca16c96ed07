//! The command whose round trip is measured, and its floor: an echo of as many bytes over a bare Unix socket.
//!
//! Both are asked for in turn by one thread, so that they meet the same machine; it and the one that echoes have real-time priority
//! where that is allowed, for how long the bench's own threads wait for each other is not the daemon's.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use control::Client;
use control::frame::HEADER_LEN;
use control::types::{CallList, EventFilter, Id, Request, request_message, result_message};
use mr_sip::demo::servers::Daemon;
use mr_sip_benches::cpu::become_real_time;

/// A command and an echo take turns, one of them each beat. No multiple of the daemon's own 10 ms, whose every moment is to be met.
const BEAT: Duration = Duration::from_micros(3_500);
/// Of the thread that asks, and of the one that echoes, which it starts: below the daemon's media thread.
const PRIORITY: u8 = 10;
/// After this without an echo the bench fails.
const ECHO_LIMIT: Duration = Duration::from_secs(10);

/// The command: small, and with an answer that does not grow while calls go on.
const COMMAND: CallList = CallList { after: None, limit: Some(1) };

/// Round trips, milliseconds.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    pub(crate) command_ms: Vec<f64>,
    pub(crate) echo_ms: Vec<f64>,
    /// Bytes of the command and of its answer, framing included.
    pub(crate) sizes: (usize, usize),
}

/// A thread that asks at a steady rate until it is stopped.
pub(crate) struct Pings {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<RoundTrips>>,
}

impl Pings {
    /// Begins to ask.
    pub(crate) fn start(daemon: &Daemon) -> Result<Self> {
        let client = daemon.connect("pings", EventFilter::None)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("pings".into()).spawn(move || ask(client, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Ends, and says what was measured.
    pub(crate) fn stop(self) -> Result<RoundTrips> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the measuring thread panicked"))?
    }
}

fn ask(mut client: Client, stopped: &AtomicBool) -> Result<RoundTrips> {
    let reply = client.request(&COMMAND)?;
    // what goes over the socket, but for the digits of the id
    let asked = HEADER_LEN + request_message(&Id::Number(1), CallList::NAME, &COMMAND)?.len();
    let answered = HEADER_LEN + result_message(&Id::Number(1), &reply)?.len();
    become_real_time(PRIORITY);
    let mut trips = RoundTrips { sizes: (asked, answered), ..RoundTrips::default() };
    let mut echo = echo(asked, answered)?;
    let (question, mut answer) = (vec![b' '; asked], vec![0; answered]);
    let mut due = Instant::now();
    for beat in 0_u64.. {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        due += BEAT;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        if beat % 2 == 0 {
            client.request(&COMMAND)?;
            trips.command_ms.push(began.elapsed().as_secs_f64() * 1e3);
        } else {
            echo.write_all(&question)?;
            echo.read_exact(&mut answer)?;
            trips.echo_ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        // after a stall the next is asked a beat later; those that were missed are not made up for
        due = due.max(Instant::now());
    }
    client.close();
    Ok(trips)
}

/// A socket behind which a thread answers so many bytes with so many, until it is closed.
fn echo(asked: usize, answered: usize) -> Result<UnixStream> {
    let (ours, mut theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(ECHO_LIMIT))?;
    thread::Builder::new().name("echo".into()).spawn(move || {
        let (mut question, answer) = (vec![0; asked], vec![b' '; answered]);
        while theirs.read_exact(&mut question).is_ok() && theirs.write_all(&answer).is_ok() {}
    })?;
    Ok(ours)
}
