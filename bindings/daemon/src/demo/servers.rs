//! The processes around a call: a dummy jackd and the daemon itself, each started under a name of its own and ended
//! when dropped. For the demo and the system tests.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use control::types::{EventFilter, Hello};
use control::{Client, ControlError};

use super::far_end::free_port;

/// Loading the model and opening JACK take well under a second each; a loaded machine gets its time.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Why jackd is not there.
#[derive(Debug, thiserror::Error)]
pub enum JackdError {
    /// There is no jackd on this machine.
    #[error("jackd is not installed; the fix: apt-get install jackd2")]
    NotInstalled,
    /// It ended, or did not come up in time.
    #[error("jackd did not start: {said} (all of it: {})", log.display())]
    Failed {
        /// The last thing it said that sounds like a reason.
        said: String,
        /// All that it said.
        log: PathBuf,
    },
    /// Its log could not be written.
    #[error("cannot start jackd: {0}")]
    Io(#[from] io::Error),
}

impl JackdError {
    fn failed(log: PathBuf) -> Self {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let said = if text.contains("Too many servers") {
            "this machine's list of eight JACK servers is full of dead ones; when no jackd runs, the fix is: \
             rm /dev/shm/jack-shm-registry"
                .to_owned()
        } else {
            let reasons = ["Failed", "failed", "error", "Cannot", "already"];
            let line = text.lines().rev().find(|line| reasons.iter().any(|reason| line.contains(reason)));
            line.or(text.lines().last()).unwrap_or("it said nothing").trim().to_owned()
        };
        Self::Failed { said, log }
    }
}

/// A jackd on the dummy driver.
#[derive(Debug)]
pub struct Jackd {
    process: Child,
    name: String,
}

impl Jackd {
    /// Starts a server called `name` and waits until it takes clients.
    ///
    /// # Errors
    /// [`JackdError`].
    pub fn start(name: &str, rate: u32, period: u32, folder: &Path) -> Result<Self, JackdError> {
        let left_behind = jack_socket(name);
        let path = folder.join("jackd.log");
        let log = File::create(&path)?;
        let process = Command::new("jackd")
            // few ports: the server's shared memory grows with them
            .args(["-n", name, "-p", "512", "-d", "dummy", "-r", &rate.to_string(), "-p", &period.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => JackdError::NotInstalled,
                _ => JackdError::Io(error),
            })?;
        let mut jackd = Self { process, name: name.to_owned() };
        let began = Instant::now();
        // the server's socket appears when it takes clients; one that was killed has left its own behind
        while jack_socket(name).is_none_or(|socket| Some(socket) == left_behind) {
            if began.elapsed() > START_LIMIT || !matches!(jackd.process.try_wait(), Ok(None)) {
                return Err(JackdError::failed(path));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(jackd)
    }

    /// The server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process, for tests that kill it.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

/// Which socket a server of this name listens on, by its inode: `/dev/shm/jack_NAME_UID_0` (jackd2).
fn jack_socket(name: &str) -> Option<u64> {
    let prefix = format!("jack_{name}_");
    std::fs::read_dir("/dev/shm")
        .ok()?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.ino())
}

impl Drop for Jackd {
    fn drop(&mut self) {
        terminate(&mut self.process);
    }
}

/// A daemon of this very program, with a configuration, sockets and recordings of its own.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    socket: PathBuf,
    sip: SocketAddr,
    folder: PathBuf,
}

/// How a daemon is to be started; the default is what the demo wants.
#[derive(Debug, Clone)]
pub struct DaemonSetup<'a> {
    /// The program; `None`: this very one.
    pub program: Option<&'a Path>,
    /// The address of this machine that it uses for SIP and media.
    pub address: IpAddr,
    /// The JACK server to use; `None`: direct audio.
    pub jack_server: Option<&'a str>,
    /// `sip.incoming`.
    pub incoming: &'a str,
    /// `sip.max_calls`.
    pub max_calls: usize,
    /// Pairs of ports in `media.rtp_ports`.
    pub rtp_pairs: u32,
    /// `recording.enabled`.
    pub record: bool,
    /// `turns.barge_in`.
    pub barge_in: bool,
    /// More keys of `[sip]`.
    pub sip: &'a str,
    /// More keys of `[media]`.
    pub media: &'a str,
    /// More tables for the configuration file.
    pub more: &'a str,
    /// More environment.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Default for DaemonSetup<'_> {
    fn default() -> Self {
        Self {
            program: None,
            address: Ipv4Addr::LOCALHOST.into(),
            jack_server: None,
            incoming: "ask",
            max_calls: 200,
            rtp_pairs: 3_000,
            record: true,
            barge_in: true,
            sip: "",
            media: "",
            more: "",
            environment: &[],
        }
    }
}

impl Daemon {
    /// Starts `mr-sip serve` in `folder`, on the loopback, and waits until its control socket is there.
    ///
    /// # Errors
    /// The program cannot be run, or ends at once; what it said is in the error.
    pub fn start(folder: &Path, setup: &DaemonSetup<'_>) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let sip = SocketAddr::new(setup.address, free_port()?);
        let socket = folder.join("control/control.sock");
        // a range of its own for each daemon; what is taken in it is passed over
        let rtp = 20000 + u32::from(free_port()?) % 4500 * 2;
        let jack = match setup.jack_server {
            Some(name) => format!("mode = \"on\"\nserver = {name:?}"),
            None => "mode = \"off\"".to_owned(),
        };
        let config = folder.join("mr-sip.toml");
        std::fs::write(
            &config,
            format!(
                "[sip]\nbind = \"{sip}\"\nincoming = {:?}\nmax_calls = {}\n{}\n\n\
                 [media]\nbind_ip = \"{}\"\nrtp_ports = \"{rtp}-{}\"\n{}\n\n\
                 [jack]\n{jack}\n\n\
                 [turns]\nbarge_in = {}\n\n\
                 [recording]\nenabled = {}\nfolder = {:?}\n\n\
                 [control]\nsocket = {socket:?}\n\n{}\n",
                setup.incoming,
                setup.max_calls,
                setup.sip,
                setup.address,
                rtp + setup.rtp_pairs * 2 - 1,
                setup.media,
                setup.barge_in,
                setup.record,
                folder.join("calls"),
                setup.more,
            ),
        )?;
        let log_path = folder.join("daemon.log");
        let log = File::create(&log_path)?;
        let program = match setup.program {
            Some(path) => path.to_owned(),
            None => std::env::current_exe()?,
        };
        let process = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            // a demo or a test is not to be steered by the user's own settings
            .env_remove("SIP_GATEWAY")
            .env_remove("SIP_USER")
            .env_remove("SIP_PASSWORD")
            .env_remove("AUDIO_DIR")
            .env_remove("MR_SIP_SOCKET")
            .envs(setup.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut daemon = Self { process, socket, sip, folder: folder.to_owned() };
        let began = Instant::now();
        while Client::connect(
            &daemon.socket,
            Hello { client: "start".into(), events: EventFilter::None, ..Hello::default() },
        )
        .is_err()
        {
            if began.elapsed() > START_LIMIT || !matches!(daemon.process.try_wait(), Ok(None)) {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                return Err(io::Error::other(format!("the daemon did not start; it said: {}", log.trim())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Connects a client.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn connect(&self, name: &str, events: EventFilter) -> Result<Client, ControlError> {
        Client::connect(&self.socket, Hello { client: name.to_owned(), events, ..Hello::default() })
    }

    /// Where it listens for SIP.
    pub fn sip_address(&self) -> SocketAddr {
        self.sip
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process, for tests that kill it.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        terminate(&mut self.process);
    }
}

/// SIGTERM, and SIGKILL to what is still there after three seconds.
fn terminate(process: &mut Child) {
    if let Ok(pid) = i32::try_from(process.id()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    for _ in 0..150 {
        if !matches!(process.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = process.kill();
    let _ = process.wait();
}
