//! What the ears understand, how fast, of how many at once, and whom they let interrupt the agent.
//!
//! Callers are RTP on loopback into the real daemon; sentences are espeak-ng's and within the shipped model's words.
//! Offline the same sentences, through the same codec, go into the same model at once. All times are the caller's: from when
//! the packet with the last voiced sample left to when the text was there at the control socket.

mod detectors;
mod interruptions;
mod lines;
mod material;
mod turns;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use mr_sip::demo::servers::{Daemon, DaemonSetup};
use serde_json::{Map, Value, json};

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The speech detectors on the same sounds.
    Detectors,
    /// One caller's sentences: words and times.
    Turns,
    /// Who interrupts the agent.
    Interruptions,
    /// Many callers at once.
    Scale,
}

/// Word errors, latencies, false barge-ins and cost of the ears.
#[derive(Debug, Parser)]
struct Options {
    /// Talking calls at once, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64")]
    calls: Vec<usize>,
    /// Seconds of each of these
    #[arg(long, default_value_t = 45)]
    seconds: usize,
    /// Seconds of each sound that must not interrupt the agent
    #[arg(long, default_value_t = 60)]
    sounds: usize,
    /// Only these parts; all when absent
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// The daemon to measure; default: `mr-sip` beside this program
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// The model, as `[asr] model` names it
    #[arg(long, default_value = "telephone-en")]
    model: String,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let folder = std::env::temp_dir().join(format!("mr-sip-speech-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = measure(&options, &folder);
    let _ = fs::remove_dir_all(&folder);
    let figures = outcome?;
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

fn measure(options: &Options, folder: &Path) -> Result<Value> {
    let program = match &options.daemon {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("mr-sip"),
    };
    ensure!(program.is_file(), "{} is not there; build it: cargo build --release -p mr-sip", program.display());
    let start = |name: &str| -> Result<Daemon> {
        // partials and finals as they are configured; callers who come after each other within a second are welcome
        let more = format!("[asr]\nmodel = {:?}\n", options.model);
        let setup = DaemonSetup {
            program: Some(&program),
            incoming: "auto",
            record: false,
            max_calls: 300,
            more: &more,
            ..DaemonSetup::default()
        };
        Ok(Daemon::start(&folder.join(name), &setup)?)
    };
    let clips = material::sentences(folder)?;
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let mut figures = Map::new();
    if wanted(Part::Detectors) {
        let detectors = detectors::measure(&clips);
        detectors::print(&detectors);
        figures.insert("detectors".into(), json!(detectors));
    }
    if wanted(Part::Turns) {
        let offline = turns::offline(&options.model, &clips)?;
        let streaming = turns::streaming(&start("turns")?, &clips)?;
        turns::print(&offline, &streaming);
        figures.insert("offline".into(), json!(offline));
        figures.insert("streaming".into(), json!(streaming));
    }
    if wanted(Part::Interruptions) {
        let interruptions = interruptions::measure(&start("interruptions")?, folder, options.sounds)?;
        interruptions::print(&interruptions);
        figures.insert("interruptions".into(), json!(interruptions));
    }
    if wanted(Part::Scale) {
        let mut scale = Vec::new();
        turns::print_scale_head();
        for calls in &options.calls {
            // a daemon for each, so that no load is left of the one before
            let daemon = start(&format!("scale-{calls}"))?;
            let row = turns::scale(&daemon, &clips, *calls, options.seconds)?;
            row.print();
            scale.push(row);
        }
        figures.insert("scale".into(), json!(scale));
    }
    Ok(Value::Object(figures))
}
