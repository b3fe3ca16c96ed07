//! sipp (Debian's `sip-tester`) as everybody who calls for a moment: started at a rate, and what it counted.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// How sipp is to call.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// New calls a second.
    pub rate: u32,
    /// Calls in all.
    pub calls: u64,
    /// Calls at once, at most.
    pub at_once: u32,
}

/// What sipp counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Calls that were begun.
    pub calls: u64,
    /// Of those, the ones of which a message did not come, or came wrong.
    pub failed: u64,
    /// Of the failed ones, those that were answered otherwise than wished: refused, as a rule.
    pub refused: u64,
    /// Messages that it sent again.
    pub retransmitted: u64,
}

/// Starts sipp: each call is answered, acknowledged, and hung up half a second later. What it counts goes into
/// `NAME.csv` in the folder, once a second.
///
/// # Errors
/// It is not installed.
pub fn start(load: Load, folder: &Path, name: &str, to: SocketAddr) -> Result<Child> {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("sipp/uac.xml");
    Command::new("sipp")
        .arg("-sf")
        .arg(scenario)
        .args(["-i", "127.0.0.1", "-nostdin", "-trace_stat", "-fd", "1", "-stf"])
        .arg(folder.join(format!("{name}.csv")))
        .args(["-r", &load.rate.to_string(), "-m", &load.calls.to_string(), "-l", &load.at_once.to_string()])
        .args(["-recv_timeout", "30000", "-buff_size", "4194304"])
        .arg(to.to_string())
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("sipp cannot be started: apt install sip-tester")
}

/// What sipp has counted so far.
///
/// # Errors
/// It has written nothing yet.
pub fn counted(folder: &Path, name: &str) -> Result<Counted> {
    let text = fs::read_to_string(folder.join(format!("{name}.csv"))).context("sipp left no statistics")?;
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().context("sipp's statistics are empty")?.split(';').collect();
    // the last line may be half written
    let last = lines.rfind(|line| line.split(';').count() >= names.len()).context("sipp counted nothing")?;
    let last: Vec<_> = last.split(';').collect();
    let field = |name: &str| -> Result<u64> {
        let index = names.iter().position(|n| *n == name).with_context(|| format!("sipp counts no {name}"))?;
        Ok(last.get(index).context("a short line")?.parse()?)
    };
    Ok(Counted {
        calls: field("TotalCallCreated")?,
        failed: field("FailedCall(C)")?,
        refused: field("FailedUnexpectedMessage(C)")?,
        retransmitted: field("Retransmissions(C)")?,
    })
}
