//! How long a control command takes while calls go on, and what subscribers do to the media thread: nothing, it is hoped.
//!
//! The real daemon has `--calls` calls with audio in both directions; an agent speaks on all of them, and every half
//! second one more call is made, answered and ended, so there is always something to tell. In turns nobody subscribes;
//! `--subscribers` clients want every event; as many strangers get as much from a process that has nothing to do with
//! the daemon; and clients want every event while one more asks for much and never reads. In each turn a small command
//! is asked at a steady rate, between echoes of the same size over a bare Unix socket; and the calls' packets are timed
//! at the far end by the kernel, whose times show a media thread that was held up, whatever the daemon believes.

mod mute;
mod pings;
mod report;
mod strangers;
mod subscribers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use control::Client;
use control::types::{DaemonStatus, EventFilter};
use mr_sip::demo::servers::{Daemon, DaemonSetup};
use mr_sip_benches::agent::Agent;
use mr_sip_benches::callers::{Callers, Steadiness};
use mr_sip_benches::cpu;
use mr_sip_benches::process::Scheduling;

use self::pings::Pings;
use self::report::{Figures, Kind};
use self::strangers::{Batch, Feeder};
use self::subscribers::Subscribers;

/// At the beginning of each turn, so that connecting is not measured.
const SETTLE: Duration = Duration::from_secs(1);
/// At the end of each turn, so that the next one's subscribers find the last one's gone.
const PARTING: Duration = Duration::from_millis(300);
/// How long the calls may take to come up.
const BUILD_UP: Duration = Duration::from_secs(60);
/// Before the first turn: the daemon's first words with each call are not its steady state.
const WARM_UP: Duration = Duration::from_secs(3);

/// Control commands and subscribers under load, compared with a bare socket and with nobody subscribed.
#[derive(Debug, Parser)]
struct Options {
    /// Calls at once
    #[arg(long, default_value_t = 50)]
    calls: u32,
    /// Clients that want every event
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=240))]
    subscribers: u32,
    /// Seconds of each turn
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    /// Turns of each kind, one kind after the other
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// The daemon to measure; default: `mr-sip` beside this program
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// Be the process that feeds strangers what this file says
    #[arg(long, hide = true)]
    feed: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(trace) = &options.feed {
        return strangers::feed(trace, options.subscribers as usize);
    }
    let program = match &options.daemon {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("mr-sip"),
    };
    ensure!(program.is_file(), "{} is not there; build it: cargo build --release -p mr-sip", program.display());
    let folder = std::env::temp_dir().join(format!("mr-sip-control-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = measure(&options, &program, &folder);
    let _ = fs::remove_dir_all(&folder);
    let kinds = outcome?;
    report::print(&options, &kinds);
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&report::to_json(&options, &kinds))?)?;
    }
    report::judge(&kinds)
}

fn measure(options: &Options, program: &Path, folder: &Path) -> Result<[Figures; Kind::COUNT]> {
    let setup = DaemonSetup {
        program: Some(program),
        incoming: "auto",
        max_calls: options.calls as usize + 50,
        record: false,
        // the agent is to speak all the time, whatever the callers say
        barge_in: false,
        sip: "trusted = [\"127.0.0.1/32\"]",
        environment: &[("RUST_LOG", "warn")],
        ..DaemonSetup::default()
    };
    let daemon = Daemon::start(folder, &setup)?;
    let mut agent = Agent::new(folder)?;
    let mut brain = daemon.connect("agent", EventFilter::Own)?;
    agent.attend_during(&mut brain, || {
        let client = daemon.connect("figures", EventFilter::None)?;
        let mut callers = Callers::start(daemon.sip_address(), options.calls as usize, BUILD_UP)?;
        callers.talk(WARM_UP, true)?;
        Bench { options, folder, daemon: &daemon, client, callers, trace: Vec::new() }.turns()
    })
}

/// What the daemon and the system had counted at one moment.
struct Counted {
    at: Instant,
    engine: serde_json::Map<String, serde_json::Value>,
    control: Scheduling,
    media: Scheduling,
    /// Processor time of whoever feeds strangers.
    feeder: Duration,
}

impl Counted {
    fn figure(&self, name: &str) -> f64 {
        self.engine.get(name).and_then(serde_json::Value::as_f64).unwrap_or_default()
    }
}

/// The daemon, its calls, and what the turns need of one another.
struct Bench<'a> {
    options: &'a Options,
    folder: &'a Path,
    daemon: &'a Daemon,
    client: Client,
    callers: Callers,
    /// What a subscriber was last seen to get: what strangers are told.
    trace: Vec<Batch>,
}

impl Bench<'_> {
    fn turns(&mut self) -> Result<[Figures; Kind::COUNT]> {
        let mut kinds = Kind::ALL.map(Figures::new);
        let Options { rounds, seconds, .. } = self.options;
        for round in 1..=*rounds {
            for figures in &mut kinds {
                eprintln!("round {round} of {rounds}, {seconds} s: {}", figures.kind.name());
                self.turn(figures)?;
            }
        }
        Ok(kinds)
    }

    fn turn(&mut self, figures: &mut Figures) -> Result<()> {
        let count = self.options.subscribers as usize;
        let lost_before = self.callers.lost();
        let feeder = match figures.kind {
            Kind::Strangers => Some(Feeder::start(self.folder, count, &self.trace)?),
            _ => None,
        };
        let socket = feeder.as_ref().map_or(self.daemon.socket(), Feeder::socket);
        let subscribers = match figures.kind {
            Kind::Nobody => None,
            kind => Some(Subscribers::start(socket, count, kind == Kind::AndOneMute)?),
        };
        self.callers.talk(SETTLE, true)?;
        self.callers.take();
        let before = self.counted(feeder.as_ref())?;
        let pings = Pings::start(self.daemon)?;
        self.callers.talk(Duration::from_secs(self.options.seconds.into()), true)?;
        let trips = pings.stop()?;
        let after = self.counted(feeder.as_ref())?;
        let (heard, extra) = self.callers.take();
        let told = subscribers.map(Subscribers::stop).transpose()?.unwrap_or_default();
        drop(feeder);
        // until the daemon has seen them go: it closes connections beyond 256
        self.callers.talk(PARTING, true)?;

        let mut steady = Steadiness::default();
        heard.iter().for_each(|call| steady.add(call));
        figures.add_trips(trips);
        figures.add_packets(&steady);
        figures.add_told(&told);
        figures.add_extra(&extra, self.callers.lost() - lost_before);
        figures.add_counted(&before, &after);
        if figures.kind == Kind::Readers {
            self.trace = told.trace;
        }
        Ok(())
    }

    fn counted(&mut self, feeder: Option<&Feeder>) -> Result<Counted> {
        let pid = self.daemon.pid();
        let engine = self.client.request(&DaemonStatus {})?.engine;
        // the main thread, which bears the program's name, is the one that serves clients
        let main = fs::read_to_string(format!("/proc/{pid}/comm"))?;
        Ok(Counted {
            at: Instant::now(),
            engine,
            control: Scheduling::of_threads(pid, |name| name == main.trim())?,
            media: Scheduling::of_threads(pid, |name| name.starts_with("media-"))?,
            feeder: feeder.map(|feeder| cpu::process_time(feeder.pid())).transpose()?.unwrap_or_default(),
        })
    }
}
