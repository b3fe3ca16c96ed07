//! Many calls at once: the real daemon, with sipp as everybody who calls.
//!
//! sipp (Debian's `sip-tester`) makes `--calls` calls and sends each one's audio; an agent speaks on all of them all
//! the time. At the end the daemon's own figures say whether a packet slot was missed, a call was lost, or a real-time
//! thread allocated. The CPU a call is held against the cheapest thing that could be done in its place: a bare loop in
//! this process that receives and sends the same number of packets on as many sockets, measured in the same run.
//!
//! `--flood` is another bench on the same daemon: see `under_flood`.

mod under_flood;

use std::fs;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use control::Client;
use control::types::{Call, CallHangup, CallId, DaemonStatus, EventFilter};
use mr_sip::demo::servers::{Daemon, DaemonSetup};
use mr_sip::demo::voice::{Cue, Voice, write_script};
use mr_sip_benches::agent::{Agent, telephone_bytes};
use mr_sip_benches::cpu;
use mr_sip_benches::process::Footprint;
use serde_json::json;

/// Packets a second and direction of one call.
const PACKETS_A_SECOND: u32 = 50;
/// How long the bare loop is measured.
const BARE: Duration = Duration::from_secs(5);
/// What a call is meant to need of memory at most, in KiB; shown beside what it needs, not judged.
const MEMORY_GOAL_KIB: f64 = 400.0;
/// How long one call may take to be made and heard.
const FIRST_CALL: Duration = Duration::from_secs(60);
/// New calls a second while the load builds up.
const RATE: u32 = 20;

/// Many calls at once through sipp, compared with a bare socket loop.
#[derive(Debug, Parser)]
struct Options {
    /// Calls at once
    #[arg(long, default_value_t = 100, default_value_if("flood", clap::builder::ArgPredicate::IsPresent, "50"))]
    calls: u32,
    /// Seconds with all calls up
    #[arg(long, default_value_t = 60, default_value_if("flood", clap::builder::ArgPredicate::IsPresent, "30"))]
    seconds: u32,
    /// Calls without and then with a flood of so many junk datagrams a second at the SIP and RTP ports
    #[arg(long, num_args = 0..=1, default_missing_value = "50000")]
    flood: Option<u32>,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// The daemon to measure; default: `mr-sip` beside this program
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// Record every call
    #[arg(long)]
    record: bool,
    /// Seconds of silence after each sentence of a caller; the sentences keep the ears busy
    #[arg(long, default_value_t = 60.0)]
    pause: f64,
}

/// What one run showed.
#[derive(Debug)]
struct Figures {
    calls: usize,
    lost_calls: usize,
    finals: usize,
    received: u64,
    sent: u64,
    lost: u64,
    concealed: u64,
    underruns: u64,
    skipped: u64,
    daemon_cores: f64,
    media_cores: f64,
    bare_cores: f64,
    /// Resident memory more than after one call that was heard and ended, and what of it is calls' large blocks, KiB a call.
    memory_kib: f64,
    large_kib: f64,
    status: serde_json::Map<String, serde_json::Value>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let folder = std::env::temp_dir().join(format!("mr-sip-load-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    if let Some(rate) = options.flood {
        let outcome = under_flood::run(&options, rate, &folder);
        let _ = fs::remove_dir_all(&folder);
        return outcome;
    }
    let outcome = measure(&options, &folder);
    let _ = fs::remove_dir_all(&folder);
    let figures = outcome?;
    print_table(&options, &figures);
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&figures.to_json())?)?;
    }
    figures.judge(&options)
}

/// The daemon to measure.
fn program(options: &Options) -> Result<PathBuf> {
    let program = match &options.daemon {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("mr-sip"),
    };
    ensure!(program.is_file(), "{} is not there; build it: cargo build --release -p mr-sip", program.display());
    Ok(program)
}

fn measure(options: &Options, folder: &Path) -> Result<Figures> {
    eprintln!("bare loop: {} sockets for {} s", options.calls, BARE.as_secs());
    let bare_cores = bare_loop(options.calls)?;

    let program = program(options)?;
    let setup = DaemonSetup {
        program: Some(&program),
        incoming: "auto",
        max_calls: options.calls as usize + 10,
        record: options.record,
        // the agent is to speak all the time, whatever the callers say
        barge_in: false,
        ..DaemonSetup::default()
    };
    let daemon = Daemon::start(folder, &setup)?;
    let mut client = daemon.connect("load", EventFilter::All)?;
    let mut agent = Agent::new(folder)?;
    let target = daemon.sip_address().to_string();
    // one call is made first, so that what a daemon with any call needs (the recogniser above all) is not counted as a call's
    first_call(options, folder, &target, &mut agent, &mut client)?;
    let resident_before = Footprint::of(daemon.pid())?.rss_kib as f64;
    let large_kib = |engine: &serde_json::Map<String, serde_json::Value>| {
        engine.get("memory").and_then(|memory| memory.get("large_kib")?.as_f64()).unwrap_or_default()
    };
    let large_before = large_kib(&client.request(&DaemonStatus {})?.engine);
    let mut sipp = Sipp::start(options, folder, &target, options.calls)?;

    let build_up = Duration::from_secs(u64::from(options.calls / RATE) + 20);
    let began = Instant::now();
    while agent.up.len() < options.calls as usize {
        agent.attend(&mut client, Duration::from_millis(200))?;
        sipp.is_well(folder)?;
        ensure!(
            began.elapsed() < build_up,
            "only {} of {} calls came up in {} s",
            agent.up.len(),
            options.calls,
            build_up.as_secs()
        );
        eprint!("\r{} calls up ", agent.up.len());
    }
    eprintln!();
    let cpu_before = cpu::process_time(daemon.pid())?.as_secs_f64();
    let media_before = client.request(&DaemonStatus {})?.engine;
    let measured = Instant::now();
    while measured.elapsed() < Duration::from_secs(options.seconds.into()) {
        agent.attend(&mut client, Duration::from_millis(500))?;
        eprint!(
            "\r{:3} of {} s, {} calls up, {} finals ",
            measured.elapsed().as_secs(),
            options.seconds,
            agent.up.len(),
            agent.finals
        );
        let _ = std::io::stderr().flush();
    }
    eprintln!();
    let seconds = measured.elapsed().as_secs_f64();
    let daemon_cores = (cpu::process_time(daemon.pid())?.as_secs_f64() - cpu_before) / seconds;
    let status = client.request(&DaemonStatus {})?.engine;
    let busy = |status: &serde_json::Map<String, serde_json::Value>| status["busy_ms"].as_f64().unwrap_or_default();
    let media_cores = (busy(&status) - busy(&media_before)) / 1000.0 / seconds;
    let resident = Footprint::of(daemon.pid())?.rss_kib as f64;
    let lost_calls = options.calls as usize - agent.up.len();
    let calls: Vec<Call> = client.calls()?;
    sipp.stop();

    let sum = |figure: &dyn Fn(&control::types::MediaStats) -> u64| {
        calls.iter().filter_map(|call| call.stats.as_ref()).map(figure).sum()
    };
    Ok(Figures {
        calls: calls.len(),
        lost_calls,
        finals: agent.finals,
        received: sum(&|s| s.received),
        sent: sum(&|s| s.sent),
        lost: sum(&|s| s.lost + s.late),
        concealed: sum(&|s| s.concealed),
        underruns: sum(&|s| s.underruns),
        skipped: sum(&|s| s.more.get("skipped").and_then(serde_json::Value::as_u64).unwrap_or_default()),
        daemon_cores,
        media_cores,
        bare_cores,
        memory_kib: (resident - resident_before) / f64::from(options.calls),
        large_kib: (large_kib(&status) - large_before) / f64::from(options.calls),
        status,
    })
}

/// Makes one call, waits until its first sentence was understood, and ends it.
fn first_call(options: &Options, folder: &Path, target: &str, agent: &mut Agent, client: &mut Client) -> Result<()> {
    let mut sipp = Sipp::start(options, folder, target, 1)?;
    let began = Instant::now();
    while agent.finals == 0 {
        agent.attend(client, Duration::from_millis(200))?;
        sipp.is_well(folder)?;
        ensure!(began.elapsed() < FIRST_CALL, "the first call was not heard within {} s", FIRST_CALL.as_secs());
    }
    sipp.stop();
    for &call in &agent.up.clone() {
        client.request(&CallHangup::new(CallId(call)))?;
    }
    while !agent.up.is_empty() {
        agent.attend(client, Duration::from_millis(200))?;
        ensure!(began.elapsed() < FIRST_CALL, "the first call did not end");
    }
    agent.finals = 0;
    Ok(())
}

/// Everybody who calls.
struct Sipp(Child);

impl Sipp {
    fn start(options: &Options, folder: &Path, target: &str, calls: u32) -> Result<Self> {
        let wav = folder.join("caller.wav");
        let voice = Voice { name: "en-us", rate: 150 };
        let cue = Cue { pause: 1.0, speech: voice.say("four two seven one", folder)? };
        write_script(&wav, &[cue], options.pause)?;
        let samples = mr_sip::demo::far_end::read_wav(&wav)?;
        let raw = folder.join("caller.ulaw");
        fs::write(&raw, telephone_bytes(&samples))?;
        let scenario = folder.join("caller.xml");
        let hold_ms = (u64::from(options.seconds) + 60) * 1000;
        fs::write(
            &scenario,
            SCENARIO.replace("@AUDIO@", &raw.display().to_string()).replace("@HOLD@", &hold_ms.to_string()),
        )?;
        let log = fs::File::create(folder.join("sipp.log"))?;
        let calls = calls.to_string();
        let child = Command::new("sipp")
            .args([target, "-i", "127.0.0.1", "-mi", "127.0.0.1", "-sf"])
            .arg(&scenario)
            .args(["-m", &calls, "-l", &calls, "-r", &RATE.to_string(), "-nostdin"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("sipp cannot be run; the fix: apt-get install sip-tester")?;
        Ok(Self(child))
    }

    /// Nobody calls any more when sipp has given up.
    fn is_well(&mut self, folder: &Path) -> Result<()> {
        if self.0.try_wait()?.is_some() {
            let log = fs::read_to_string(folder.join("sipp.log")).unwrap_or_default();
            let said = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
            bail!("sipp ended; it said: {said}");
        }
        Ok(())
    }

    fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        self.stop();
    }
}

const SCENARIO: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<scenario name="a caller with audio">
  <send retrans="500"><![CDATA[
INVITE sip:agent@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:load@[local_ip]:[local_port]>;tag=[pid]T[call_number]
To: <sip:agent@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:load@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=load 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=ptime:20
  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="200" rtd="true" rrs="true"/>
  <send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:load@[local_ip]:[local_port]>;tag=[pid]T[call_number]
To: <sip:agent@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

  ]]></send>
  <nop><action><exec rtp_stream="@AUDIO@,-1,0"/></action></nop>
  <pause milliseconds="@HOLD@"/>
  <send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:load@[local_ip]:[local_port]>;tag=[pid]T[call_number]
To: <sip:agent@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

  ]]></send>
  <recv response="200"/>
</scenario>
"#;

/// Cores that this process needs to receive and send every call's packets on plain sockets, and nothing else.
fn bare_loop(calls: u32) -> Result<f64> {
    let here = (0..calls).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    let there = (0..calls).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    for (a, b) in here.iter().zip(&there) {
        a.connect(b.local_addr()?)?;
        b.connect(a.local_addr()?)?;
        a.set_nonblocking(true)?;
    }
    let packet = [0_u8; 172];
    let mut buffer = [0_u8; 2048];
    let mut spent = Duration::ZERO;
    let began = Instant::now();
    let interval = Duration::from_secs(1) / PACKETS_A_SECOND;
    let mut next = began;
    while began.elapsed() < BARE {
        for socket in &there {
            socket.send(&packet)?;
        }
        let before = Instant::now();
        for socket in &here {
            while socket.recv(&mut buffer).is_ok() {}
            socket.send(&packet)?;
        }
        spent += before.elapsed();
        next += interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(spent.as_secs_f64() / began.elapsed().as_secs_f64())
}

impl Figures {
    fn to_json(&self) -> serde_json::Value {
        json!({
            "calls": self.calls, "lost_calls": self.lost_calls, "finals": self.finals,
            "received": self.received, "sent": self.sent, "lost": self.lost, "concealed": self.concealed,
            "underruns": self.underruns, "skipped": self.skipped,
            "daemon_cores": self.daemon_cores, "media_cores": self.media_cores, "bare_loop_cores": self.bare_cores,
            "memory_kib_a_call": self.memory_kib, "large_kib_a_call": self.large_kib,
            "engine": self.status,
        })
    }

    fn judge(&self, options: &Options) -> Result<()> {
        ensure!(self.lost_calls == 0, "{} calls were lost", self.lost_calls);
        ensure!(self.calls >= options.calls as usize, "only {} calls were up at the end", self.calls);
        ensure!(self.underruns == 0, "{} underruns inside responses", self.underruns);
        let violations = self.status["allocation_violations"].as_u64().unwrap_or(u64::MAX);
        ensure!(violations == 0, "{violations} allocations on real-time threads");
        Ok(())
    }
}

fn print_table(options: &Options, figures: &Figures) {
    let status = |name: &str| figures.status.get(name).map(ToString::to_string).unwrap_or_default();
    let per_call = |cores: f64| 100.0 * cores / f64::from(options.calls);
    println!("{} calls for {} s, PCMU, 20 ms, both directions", figures.calls, options.seconds);
    println!("  calls lost                     {:>10}", figures.lost_calls);
    println!("  packets received               {:>10}", figures.received);
    println!("  packets sent                   {:>10}", figures.sent);
    println!("  lost or late                   {:>10}", figures.lost);
    println!("  frames concealed               {:>10}", figures.concealed);
    println!("  underruns in responses         {:>10}", figures.underruns);
    println!("  packet slots skipped           {:>10}", figures.skipped);
    println!("  final transcripts              {:>10}", figures.finals);
    println!("  allocations, real-time threads {:>10}", status("allocation_violations"));
    println!("  tick lateness p50, us          {:>10}", status("tick_lateness_p50_us"));
    println!("  tick lateness p99, us          {:>10}", status("tick_lateness_p99_us"));
    println!("  tick lateness max, us          {:>10}", status("tick_lateness_max_us"));
    println!("  media thread, % of a core/call {:>10.3}", per_call(figures.media_cores));
    println!("  whole daemon, % of a core/call {:>10.3}", per_call(figures.daemon_cores));
    println!("  bare socket loop, same packets {:>10.3}", per_call(figures.bare_cores));
    println!("  resident memory, KiB a call    {:>10.0}   (goal: {MEMORY_GOAL_KIB:.0})", figures.memory_kib);
    println!("  of that room in large blocks   {:>10.0}", figures.large_kib);
}
