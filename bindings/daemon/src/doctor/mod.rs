//! `mr-sip doctor`: looks at this machine and the configuration as the daemon would, and names the fix for what is
//! missing. It changes nothing and disturbs no running daemon: accounts that one has registered are only asked by OPTIONS.

mod accounts;
mod audio;
mod echo;
mod names;
mod nat;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use control::types::{DaemonStatus, EventFilter, Hello, Status};
use control::{Client, ControlError};
use engine::jack::{JackBridge, JackConfig, JackState};
use engine::realtime::Grant;
use engine::{Engine, EngineConfig};
use serde_json::json;

use crate::config::{Config, JackMode, process_environment};
use crate::exit::Exit;
use crate::serve;

/// Recordings need about 2 MB a minute; below this little is left of a working day.
const LOW_DISK: u64 = 1 << 30;

/// Options of `mr-sip doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Do not contact registrars
    #[arg(long)]
    offline: bool,
    /// Also call this number, best one that echoes what it hears, and measure what comes back (needs the running daemon)
    #[arg(long, value_name = "NUMBER", conflicts_with = "offline")]
    call: Option<String>,
    /// The account to call through
    #[arg(long, value_name = "NAME", requires = "call")]
    account: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    /// Works, but not as well as it could.
    Weak,
    /// The daemon cannot do its work.
    Bad,
}

#[derive(Debug)]
struct Finding {
    what: &'static str,
    health: Health,
    text: String,
}

/// Prints findings as they are made.
struct Report {
    findings: Vec<Finding>,
    json: bool,
    colours: bool,
}

impl Report {
    fn add(&mut self, what: &'static str, health: Health, text: impl Into<String>) {
        let finding = Finding { what, health, text: text.into() };
        if !self.json {
            let (mark, colour) = match health {
                Health::Good => ("ok  ", "32"),
                Health::Weak => ("weak", "33"),
                Health::Bad => ("BAD ", "31"),
            };
            let mark = if self.colours { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() };
            println!("{mark}  {:<12} {}", finding.what, finding.text);
            let _ = std::io::stdout().flush();
        }
        self.findings.push(finding);
    }
}

/// Runs it. Exit code 0 when nothing is bad.
pub fn run(args: &DoctorArgs, named: Option<&Path>, as_json: bool) -> Exit {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut report = Report { findings: Vec::new(), json: as_json, colours };
    match Config::load(named, &process_environment) {
        Err(error) => report.add("config", Health::Bad, error.to_string()),
        Ok((config, path)) => {
            let text =
                path.map_or_else(|| "no file; defaults and environment".into(), |path| path.display().to_string());
            report.add("config", Health::Good, text);
            let running = daemon(&config, &mut report);
            sip(&config, running.as_ref(), args.offline, &mut report);
            audio::ports(&config, running.is_some(), &mut report);
            real_time(&config, &mut report);
            jack(&config, &mut report);
            model(&config, &mut report);
            recordings(&config.recordings_folder(), config.recording.enabled, &mut report);
            programs(&mut report);
            if let Some(number) = &args.call {
                echo::call(&config, running.is_some(), number, args.account.as_deref(), &mut report);
            }
        }
    }
    let good = report.findings.iter().all(|finding| finding.health != Health::Bad);
    if as_json {
        let findings: Vec<_> = report
            .findings
            .iter()
            .map(|f| {
                let health = match f.health {
                    Health::Good => "ok",
                    Health::Weak => "weak",
                    Health::Bad => "bad",
                };
                json!({ "what": f.what, "health": health, "text": f.text })
            })
            .collect();
        println!("{}", json!({ "ok": good, "findings": findings }));
    }
    if good { Exit::Ok } else { Exit::Error }
}

/// Whether a daemon runs, and what it says of itself.
fn daemon(config: &Config, report: &mut Report) -> Option<Status> {
    let socket = config.control.socket.clone().unwrap_or_else(control::socket::default_path);
    let hello = Hello { client: "doctor".into(), events: EventFilter::None, ..Hello::default() };
    match Client::connect(&socket, hello).and_then(|mut client| client.request(&DaemonStatus {})) {
        Ok(status) => {
            report.add("daemon", Health::Good, format!("runs as process {} on {}", status.pid, socket.display()));
            Some(status)
        }
        Err(ControlError::NotRunning(_)) => {
            report.add("daemon", Health::Weak, "is not running; start it with: mr-sip serve");
            None
        }
        Err(error) => {
            report.add("daemon", Health::Bad, error.to_string());
            None
        }
    }
}

fn sip(config: &Config, running: Option<&Status>, offline: bool, report: &mut Report) {
    if running.is_none() {
        match std::net::UdpSocket::bind(config.sip.bind) {
            Ok(_) => report.add("SIP port", Health::Good, format!("{} is free", config.sip.bind)),
            Err(error) => {
                let text = format!("{}: {error}; set another address or port in sip.bind", config.sip.bind);
                report.add("SIP port", Health::Bad, text);
            }
        }
    }
    if config.accounts.is_empty() {
        let text = "none: calls go only to and from addresses; set SIP_GATEWAY, SIP_USER and SIP_PASSWORD, or see mr-sip config init";
        report.add("account", Health::Weak, text);
    } else if !offline {
        accounts::check(config, running, report);
    } else if let Some(status) = running {
        accounts::as_the_daemon_says(status, report);
    }
}

fn real_time(config: &Config, report: &mut Report) {
    // a free port of the loopback, whatever the daemon uses
    let engine_config = EngineConfig { jack: None, ..serve::engine_config(config) };
    match Engine::start(engine_config) {
        Err(error) => report.add("engine", Health::Bad, error.to_string()),
        Ok(engine) => {
            let granted = engine.report();
            for (what, grant) in [
                ("core", &granted.pinned),
                ("SCHED_FIFO", &granted.realtime),
                ("memory lock", &granted.memory_locked),
                ("io_uring", &granted.net_io),
            ] {
                let health = if matches!(grant, Grant::Refused { .. }) { Health::Weak } else { Health::Good };
                report.add(what, health, grant.to_string());
            }
        }
    }
}

fn jack(config: &Config, report: &mut Report) {
    if config.jack.mode == JackMode::Off {
        return report.add("JACK", Health::Good, "off: direct audio");
    }
    let probe = JackConfig {
        server_name: (!config.jack.server.is_empty()).then(|| config.jack.server.clone()),
        client_name: format!("{}-doctor", config.jack.client),
        max_calls: 1,
        wait_for_server: false,
        ..JackConfig::default()
    };
    match JackBridge::start(probe).map(|bridge| bridge.state()) {
        Ok(JackState::Running { server, rate_hz, period, .. }) => {
            report.add("JACK", Health::Good, format!("server {server:?} at {rate_hz} Hz, {period} frames a period"));
        }
        Ok(_) => report.add("JACK", Health::Weak, "no server answers; calls will go direct"),
        Err(error) => {
            let health = if config.jack.mode == JackMode::On { Health::Bad } else { Health::Weak };
            report.add("JACK", health, format!("{error}; without it audio goes direct"));
        }
    }
}

fn model(config: &Config, report: &mut Report) {
    if !config.asr.url.is_empty() {
        return report.add("model", Health::Good, format!("none here: {} recognises", config.asr.url));
    }
    match asr::model::find(&config.asr.model, &config.models_folder()) {
        Ok(path) => report.add("model", Health::Good, path.display().to_string()),
        Err(error) => report.add("model", Health::Bad, error.to_string()),
    }
}

fn recordings(folder: &Path, enabled: bool, report: &mut Report) {
    if !enabled {
        return report.add("recordings", Health::Good, "are switched off");
    }
    // the nearest folder that exists is the one whose disk counts
    let existing: PathBuf = folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned();
    match nix::sys::statvfs::statvfs(&existing) {
        Ok(disk) => {
            let free = disk.blocks_available() * disk.fragment_size();
            let health = if free < LOW_DISK { Health::Weak } else { Health::Good };
            report.add("recordings", health, format!("{}, {:.1} GB free", folder.display(), free as f64 / 1e9));
        }
        Err(error) => report.add("recordings", Health::Bad, format!("{}: {error}", folder.display())),
    }
}

/// What the demo and the tests need beside the daemon.
fn programs(report: &mut Report) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<&str> = [("jackd", "jackd2"), ("espeak-ng", "espeak-ng"), ("baresip", "baresip-core")]
        .into_iter()
        .filter(|(program, _)| !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        report.add("demo", Health::Good, "jackd, espeak-ng and baresip are there");
    } else {
        report.add("demo", Health::Weak, format!("for `mr-sip demo`: apt-get install {}", missing.join(" ")));
    }
}
