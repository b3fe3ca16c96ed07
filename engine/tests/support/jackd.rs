//! A JACK server of our own on the dummy driver: real `jackd`, a name nobody else uses, ended when dropped.
//!
//! libjack knows one server a process, so servers are taken one at a time ([`Jackd::start`] waits for the last one's
//! end). Names are fixed per use, not random: jackd has eight slots a machine, a killed server keeps its slot until one
//! of the same name reclaims it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Longest wait for a server to come up or go away on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub(crate) struct Jackd {
    name: String,
    child: Child,
    /// What it printed, shown if a test fails.
    said: File,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Jackd {
    /// Starts `jackd -n mrj_PURPOSE_... -d dummy -r rate -p period` and waits until it answers.
    pub(crate) fn start(purpose: &str, rate_hz: u32, period: u32) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("mrj_{purpose}");
        let said = tempfile::tempfile().expect("no room for what jackd says");
        let child = spawn(&name, rate_hz, period, &said);
        let server = Self { name, child, said, _turn: Some(turn) };
        server.wait_until_up();
        server
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `kill -9`, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("jackd could not be killed");
        self.child.wait().expect("jackd could not be waited for");
    }

    /// Ends it in good order, as its owner would.
    #[allow(dead_code, reason = "not every user of this file does")]
    pub(crate) fn end(&mut self) {
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("jackd could not be waited for").is_none() {
            assert!(Instant::now() < deadline, "jackd -n {} did not end within {PATIENCE:?}", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts another program as a client of this server; it is ended when the returned value is dropped.
    #[allow(dead_code, reason = "not every user of this file does")]
    pub(crate) fn client(&self, program: &str, arguments: &[&str]) -> Guest {
        let child = Command::new(program)
            .args(arguments)
            .env("JACK_DEFAULT_SERVER", &self.name)
            .env("JACK_NO_START_SERVER", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be run ({error}): install the Debian package jackd2"));
        Guest(child)
    }

    /// Starts it anew under the same name, perhaps with another rate and period.
    #[allow(dead_code, reason = "not every user of this file does")]
    pub(crate) fn start_again(&mut self, rate_hz: u32, period: u32) {
        self.child = spawn(&self.name, rate_hz, period, &self.said);
        self.wait_until_up();
    }

    /// Runs one of jackd2's own tools against this server and returns what it printed. One that the server keeps waiting
    /// is ended by coreutils' `timeout`, so that a server that hangs fails a test and does not hang it.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("timeout")
            .args(["--kill-after=1", &PATIENCE.as_secs().to_string(), program])
            .args(arguments)
            .env("JACK_DEFAULT_SERVER", &self.name)
            .env("JACK_NO_START_SERVER", "1")
            .stdin(Stdio::null())
            .output()
            .expect("coreutils' timeout");
        assert_ne!(output.status.code(), Some(127), "{program} is not there: install the Debian package jackd2");
        assert_ne!(output.status.code(), Some(124), "{program} got no answer from {} in {PATIENCE:?}", self.name);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sends the server a signal (SIGSTOP: it hangs).
    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: a signal to a child of ours that has not been waited for yet, so the number is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.tool("jack_lsp", &[]).0 {
            assert!(Instant::now() < deadline, "jackd -n {} did not come up within {PATIENCE:?}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Jackd {
    fn drop(&mut self) {
        // An orderly end first, so that the server's slot and shared memory are given back.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(libc::SIGCONT);
            self.signal(libc::SIGTERM);
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::thread::panicking() {
            let mut said = String::new();
            let read = self.said.rewind().and_then(|()| self.said.read_to_string(&mut said));
            eprintln!("jackd -n {} said ({read:?} bytes), at the end:", self.name);
            let lines: Vec<&str> = said.lines().collect();
            lines[lines.len().saturating_sub(20)..].iter().for_each(|line| eprintln!("    {line}"));
        }
    }
}

/// Another program at a server.
pub(crate) struct Guest(Child);

impl Guest {
    /// Types something into it.
    #[allow(dead_code, reason = "not every user of this file does")]
    pub(crate) fn type_in(&mut self, text: &str) {
        self.0.stdin.as_mut().expect("its standard input").write_all(text.as_bytes()).expect("it ended");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // An orderly end first: a client that is killed can leave its place in the server taken.
        // SAFETY: a signal to a child of ours that has not been waited for yet, so the number is still its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        let deadline = Instant::now() + Duration::from_secs(3);
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.0.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The server writes its words to the end of `said`.
fn spawn(name: &str, rate_hz: u32, period: u32, said: &File) -> Child {
    let said = || said.try_clone().expect("no descriptor left");
    Command::new("jackd")
        // 256 ports are enough for tests and keep the server's memory small.
        .args(["-n", name, "-p", "256", "-d", "dummy", "-r", &rate_hz.to_string(), "-p", &period.to_string()])
        .env("JACK_NO_AUDIO_RESERVATION", "1")
        .stdin(Stdio::null())
        .stdout(said())
        .stderr(said())
        .spawn()
        .unwrap_or_else(|error| panic!("jackd cannot be run ({error}): install the Debian package jackd2"))
}
