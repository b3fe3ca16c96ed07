//! Calls set up and torn down per second: the SIP endpoint on one core, with sipp as everybody who calls.
//!
//! sipp (Debian's `sip-tester`) makes `--rate` calls a second for `--seconds`; each is rung, answered, acknowledged, and hung
//! up by the caller half a second later. A call counts as failed if any of its messages did not come, or came wrong. The
//! endpoint's thread and sipp each have a core. In the same run sipp calls its own built-in answerer at the same rate: what
//! that one costs is what the endpoint is held against.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use mr_sip_benches::cpu;
use mr_sip_benches::sipp::{self, Counted, Load};
use serde_json::json;
use signaling::net::{Command, Endpoint, EndpointConfig};
use signaling::sdp::{self, LocalMedia};
use signaling::{CallId, EndCause, Event, UserAgentConfig};

/// The core of whoever answers; sipp has the other ones.
const CORE: usize = 0;
/// How long the last calls may take to end, and sipp to notice.
const GRACE: Duration = Duration::from_secs(60);

/// Calls set up and torn down per second through sipp.
#[derive(Debug, Parser)]
struct Options {
    /// New calls a second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// For how long
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What one answerer needed.
#[derive(Debug, Clone, Default)]
struct Figures {
    calls: u64,
    failed: u64,
    retransmitted: u64,
    cores: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let folder = std::env::temp_dir().join(format!("mr-sip-call-rate-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = measure(&options, &folder);
    let _ = fs::remove_dir_all(&folder);
    let (ours, sipp) = outcome?;
    println!("{} calls a second for {} s", options.rate, options.seconds);
    println!("{:<24} {:>12} {:>12}", "", "mr_sip", "sipp's uas");
    println!("{:<24} {:>12} {:>12}", "calls", ours.calls, sipp.calls);
    println!("{:<24} {:>12} {:>12}", "failed", ours.failed, sipp.failed);
    println!("{:<24} {:>12} {:>12}", "messages sent again", ours.retransmitted, sipp.retransmitted);
    println!("{:<24} {:>12.3} {:>12.3}", "cores", ours.cores, sipp.cores);
    if let Some(path) = &options.json {
        let figures = |f: &Figures| json!({ "calls": f.calls, "failed": f.failed, "sent_again": f.retransmitted, "cores": f.cores });
        let all = json!({ "rate": options.rate, "seconds": options.seconds, "mr_sip": figures(&ours), "sipp": figures(&sipp) });
        fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    ensure!(ours.failed == 0, "{} calls failed", ours.failed);
    Ok(())
}

fn measure(options: &Options, folder: &Path) -> Result<(Figures, Figures)> {
    Ok((endpoint(options, folder)?, sipp_itself(options, folder)?))
}

/// sipp against the endpoint.
fn endpoint(options: &Options, folder: &Path) -> Result<Figures> {
    let bind: SocketAddr = "127.0.0.1:0".parse()?;
    let mut agent = UserAgentConfig::new(bind);
    agent.max_calls = 100_000;
    // the endpoint's threads inherit the core of the thread that starts them
    cpu::pin_to(&[CORE])?;
    let endpoint = Endpoint::start(EndpointConfig::new(bind, agent), || {})?;
    cpu::pin_to(&cpu::all_but(CORE))?;
    let mut sipp = caller(options, folder, "ours", endpoint.local_addr())?;
    let media = LocalMedia::new("127.0.0.1:6002".parse()?);
    let began = cpu::thread_time("sip")?;
    let start = Instant::now();
    let (mut up, mut ended, mut lost) = (0_u64, 0_u64, 0_u64);
    let mut told = Instant::now();
    let answer = |call: CallId, offer: Option<&str>| -> Result<()> {
        let (sdp, _) = sdp::answer(offer.context("an INVITE without an offer")?, &media)?;
        endpoint.command(Command::Ring(call))?;
        endpoint.command(Command::Answer { call, sdp })?;
        Ok(())
    };
    while sipp.try_wait()?.is_none() {
        ensure!(start.elapsed() < Duration::from_secs(options.seconds.into()) + GRACE, "sipp did not end");
        match endpoint.recv_timeout(Duration::from_millis(100)) {
            Some(Event::Incoming { call, offer, .. }) => answer(call, offer.as_deref())?,
            Some(Event::Answered { .. }) => up += 1,
            Some(Event::Ended { cause: EndCause::RemoteHangup, .. }) => ended += 1,
            Some(Event::Ended { cause, reason, .. }) => {
                eprintln!("a call ended with {cause}: {reason}");
                lost += 1;
            }
            _ => {}
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            eprintln!("{:>3} s: {up} calls answered, {ended} ended", start.elapsed().as_secs());
        }
    }
    let cores = (cpu::thread_time("sip")? - began).as_secs_f64() / start.elapsed().as_secs_f64();
    let Counted { calls, failed, retransmitted, .. } = sipp::counted(folder, "ours")?;
    Ok(Figures { calls, failed: failed.max(lost), retransmitted, cores })
}

/// sipp against its own answerer.
fn sipp_itself(options: &Options, folder: &Path) -> Result<Figures> {
    let port = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    cpu::pin_to(&[CORE])?;
    let mut uas = Process::new("sipp")
        .args(["-sn", "uas", "-i", "127.0.0.1", "-p", &port.to_string(), "-nostdin"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("sipp cannot be started: apt install sip-tester")?;
    cpu::pin_to(&cpu::all_but(CORE))?;
    let start = Instant::now();
    let mut sipp = caller(options, folder, "theirs", SocketAddr::from(([127, 0, 0, 1], port)))?;
    let limit = Duration::from_secs(options.seconds.into()) + GRACE;
    while sipp.try_wait()?.is_none() && start.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(100));
    }
    let used = cpu::process_time(uas.id());
    let cores = used.map(|used| used.as_secs_f64() / start.elapsed().as_secs_f64());
    let _ = (uas.kill(), uas.wait());
    let Counted { calls, failed, retransmitted, .. } = sipp::counted(folder, "theirs")?;
    Ok(Figures { calls, failed, retransmitted, cores: cores? })
}

/// sipp as everybody who calls.
fn caller(options: &Options, folder: &Path, name: &str, to: SocketAddr) -> Result<Child> {
    let calls = u64::from(options.rate) * u64::from(options.seconds);
    sipp::start(Load { rate: options.rate, calls, at_once: 50_000 }, folder, name, to)
}
