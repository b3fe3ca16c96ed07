//! What recording costs: calls that are recorded against the same calls that are not.
//!
//! Two figures. The processor time of the whole process (media thread, recorder thread, disk) with `--calls` calls, in
//! turns with and without recording, so that a machine that changes its mind changes both; the far end's own thread is
//! taken off. It fails if recording takes more than a fifth more of it. And, where valgrind is there, the machine instructions
//! of a call's tick with its share of the recorder's work, the same on every run: without the system calls for packets,
//! which are most of what a call costs, so that the share of recording is larger there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use engine::call::{CallCommand, CallControls, MediaCall, MediaCallConfig, MediaParams};
use engine::clock::Time;
use engine::codec::{Codec, PCMU_PAYLOAD_TYPE};
use engine::record::Recorder;
use engine::rtp::packet::Packet;
use engine::{CallHandle, CallId, CallSetup, Engine, EngineConfig, MediaEvent, PACKET_SAMPLES, RecordingState, TICK};
use mr_sip_benches::cpu::{process_time, thread_time};
use serde::Serialize;

const PTIME: Duration = Duration::from_millis(20);
/// Until the jitter buffers have found their depth.
const WARM_UP: Duration = Duration::from_secs(3);
/// What recording may cost, as a share of the call without.
const LIMIT: f64 = 0.2;
/// Calls and virtual time of the count.
const COUNTED_CALLS: u32 = 10;
const COUNTED_TIME: Duration = Duration::from_secs(8);
/// How callgrind is told of the functions that are counted.
const COUNTED: [&str; 2] = ["*counted_pass*", "*record*Recording*write*"];

#[derive(Debug, Parser)]
#[command(about = "What recording a call costs")]
struct Arguments {
    /// Calls at once
    #[arg(long, default_value_t = 50)]
    calls: u32,
    /// Turns, half of them with recording
    #[arg(long, default_value_t = 6)]
    turns: u32,
    /// Seconds of each turn
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Write the figures here, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Run the counted part alone: what valgrind is given
    #[arg(long, hide = true)]
    counted: Option<Counted>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Counted {
    Plain,
    Recorded,
}

#[derive(Debug, Serialize)]
struct Figures {
    calls: u32,
    /// Processor time of a call in microseconds a second, without and with recording; a figure a turn.
    plain_us: Vec<f64>,
    recorded_us: Vec<f64>,
    /// Middle of the turns: how much more recording takes.
    more_time: f64,
    bytes_recorded: u64,
    samples_lost: u64,
    /// Instructions of a call and tick, without and with recording; `None` without valgrind.
    instructions: Option<[u64; 2]>,
    more_instructions: Option<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(which) = arguments.counted {
        return count_here(matches!(which, Counted::Recorded));
    }
    let folder = std::env::temp_dir().join(format!("mr-sip-recording-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(&arguments, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    let mut figures = measured?;
    match (count("plain"), count("recorded")) {
        (Ok(plain), Ok(recorded)) => {
            figures.instructions = Some([plain, recorded]);
            figures.more_instructions = Some(recorded as f64 / plain as f64 - 1.0);
        }
        (Err(error), _) | (_, Err(error)) => eprintln!("instructions were not counted: {error:#}"),
    }
    println!("{} calls, PCMU, {} turns of {} s", arguments.calls, arguments.turns, arguments.seconds);
    println!("{:<44}{:>12}{:>12}{:>9}", "", "plain", "recorded", "more");
    println!(
        "{:<44}{:>12.0}{:>12.0}{:>8.1}%",
        "processor time, us a call and second",
        middle(&figures.plain_us),
        middle(&figures.recorded_us),
        figures.more_time * 100.0
    );
    if let (Some([plain, recorded]), Some(more)) = (figures.instructions, figures.more_instructions) {
        println!("{:<44}{plain:>12}{recorded:>12}{:>8.1}%", "instructions, a call and tick of 5 ms", more * 100.0);
    }
    println!("{} bytes recorded, {} samples lost to a full ring", figures.bytes_recorded, figures.samples_lost);
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")
            .with_context(|| file.display().to_string())?;
    }
    ensure!(figures.samples_lost == 0, "the recorder did not keep up");
    let more = figures.more_time;
    ensure!(more <= LIMIT, "recording costs {:.1} % more, over {:.0} %", more * 100.0, LIMIT * 100.0);
    Ok(())
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Real calls in this process, recorded in every other turn.
fn measure(arguments: &Arguments, folder: &Path) -> Result<Figures> {
    let mut engine = Engine::start(EngineConfig {
        bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_ports: 32_000..=33_999,
        max_calls: arguments.calls as usize + 8,
        ..EngineConfig::default()
    })?;
    let far_end = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    far_end.set_nonblocking(true)?;
    let mut remotes = Vec::new();
    let mut calls = Vec::new();
    for number in 0..arguments.calls {
        let port = engine.reserve_port()?;
        remotes.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port.port())));
        calls.push(engine.add_call(CallSetup {
            id: CallId(number),
            label: format!("c{number}"),
            far_end: String::new(),
            port,
            media: MediaParams::new(far_end.local_addr()?, Codec::Pcmu, PCMU_PAYLOAD_TYPE),
            record_to: None,
        })?);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let far = std::thread::Builder::new().name("far-end".to_owned());
        far.spawn_scoped(threads, || send(&far_end, &remotes, &stop))?;
        let figures = take_turns(arguments, folder, &mut engine, &mut calls);
        stop.store(true, Ordering::Relaxed);
        figures
    })
}

fn take_turns(arguments: &Arguments, folder: &Path, engine: &mut Engine, calls: &mut [CallHandle]) -> Result<Figures> {
    run(engine, calls, WARM_UP);
    let (mut plain_us, mut recorded_us) = (Vec::new(), Vec::new());
    for turn in 0..arguments.turns {
        let record = turn % 2 == 1;
        if record {
            for (number, call) in calls.iter_mut().enumerate() {
                engine.record(call, folder.join(format!("{turn}-{number}.wav")))?;
            }
            run(engine, calls, Duration::from_secs(1));
        }
        let (begun, before) = (Instant::now(), own_time()?);
        run(engine, calls, Duration::from_secs(arguments.seconds));
        let used = own_time()?.saturating_sub(before).as_secs_f64() * 1e6;
        let each = used / begun.elapsed().as_secs_f64() / f64::from(arguments.calls);
        if record {
            recorded_us.push(each)
        } else {
            plain_us.push(each)
        }
        if record {
            calls.iter_mut().try_for_each(CallHandle::stop_recording)?;
            let mut left = calls.len();
            let deadline = Instant::now() + Duration::from_secs(20);
            while left > 0 && Instant::now() < deadline {
                while let Some((_, event)) = engine.poll_event() {
                    left -=
                        usize::from(matches!(event, MediaEvent::Recording(n) if n.state == RecordingState::Finished));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            ensure!(left == 0, "{left} recordings were not finished");
        }
    }
    let bytes = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum::<Result<u64>>()?;
    Ok(Figures {
        calls: arguments.calls,
        more_time: middle(&recorded_us) / middle(&plain_us).max(1e-9) - 1.0,
        plain_us,
        recorded_us,
        bytes_recorded: bytes,
        samples_lost: calls.iter().map(|call| call.stats().record_lost_samples).sum(),
        instructions: None,
        more_instructions: None,
    })
}

/// The process's time without the far end's.
fn own_time() -> Result<Duration> {
    Ok(process_time(std::process::id())?.saturating_sub(thread_time("far-end")?))
}

/// Lets time pass as the daemon would: events and ears are emptied.
fn run(engine: &mut Engine, calls: &mut [CallHandle], time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        while engine.poll_event().is_some() {}
        for call in calls.iter_mut() {
            if let Some(ears) = call.take_ears() {
                drop(ears);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn packet(number: u32, samples: &[f32; PACKET_SAMPLES], bytes: &mut [u8; 12 + PACKET_SAMPLES]) -> usize {
    let mut payload = [0; PACKET_SAMPLES];
    Codec::Pcmu.encode(samples, &mut payload);
    Packet {
        payload_type: PCMU_PAYLOAD_TYPE,
        marker: number == 0,
        sequence: number as u16,
        timestamp: number.wrapping_mul(PACKET_SAMPLES as u32),
        ssrc: 0x0EC0_0001,
        payload: &payload,
    }
    .write(bytes)
}

fn speech(number: u32) -> [f32; PACKET_SAMPLES] {
    std::array::from_fn(|n| 0.3 * ((number as usize * PACKET_SAMPLES + n) as f32 * 0.15).sin())
}

/// The far ends of all calls.
fn send(socket: &UdpSocket, remotes: &[SocketAddr], stop: &AtomicBool) {
    let begin = Instant::now();
    let mut sink = [0; 2_048];
    let mut bytes = [0; 12 + PACKET_SAMPLES];
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep((begin + PTIME * number).saturating_duration_since(Instant::now()));
        let length = packet(number, &speech(number), &mut bytes);
        for remote in remotes {
            let _ = socket.send_to(&bytes[..length], remote);
        }
        while socket.recv(&mut sink).is_ok() {}
    }
}

/// One pass of the media thread. Not inlined: callgrind counts from its entry to its return.
#[inline(never)]
fn counted_pass(
    calls: &mut [(MediaCall, CallControls)],
    now: Time,
    packets: &mut [Vec<u8>],
    source: SocketAddr,
) -> usize {
    let mut sent = 0;
    for ((call, _), packet) in calls.iter_mut().zip(packets) {
        if !packet.is_empty() {
            call.on_packet(now, source, packet);
            packet.clear();
        }
        call.tick(now);
        while let Some(packet) = call.poll_transmit() {
            sent += packet.bytes.len();
        }
        while call.poll_event().is_some() {}
    }
    sent
}

/// Calls on virtual time, at the pace that the recorder keeps up with: it writes on its own thread, which is counted too.
fn count_here(record: bool) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("mr-sip-recording-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (recorder, events) = Recorder::start()?;
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 4_000));
    let mut calls: Vec<(MediaCall, CallControls)> = (0..COUNTED_CALLS)
        .map(|number| {
            MediaCall::new(MediaCallConfig {
                id: CallId(number),
                params: MediaParams::new(source, Codec::Pcmu, PCMU_PAYLOAD_TYPE),
                media_lost_after: Duration::from_secs(30),
                start: Time::ZERO,
                start_instant: Instant::now(),
                seed: u64::from(number) + 1,
                phase: 0,
                jack: None,
                record: None,
            })
        })
        .collect();
    if record {
        for (number, (_, controls)) in calls.iter_mut().enumerate() {
            let tap = recorder.record(CallId(number as u32), folder.join(format!("{number}.wav")));
            ensure!(controls.commands.push(CallCommand::Record(Some(tap))).is_ok(), "the call takes no command");
        }
    }
    let ticks = (COUNTED_TIME.as_millis() / TICK.as_millis()) as u32;
    let mut packets = vec![Vec::new(); calls.len()];
    for tick in 0..ticks {
        if tick % 4 == 0 {
            let mut bytes = [0; 12 + PACKET_SAMPLES];
            let length = packet(tick / 4, &speech(tick / 4), &mut bytes);
            packets.iter_mut().for_each(|packet| packet.extend_from_slice(&bytes[..length]));
        }
        counted_pass(&mut calls, Time::ZERO + TICK * tick, &mut packets, source);
        for (_, controls) in &mut calls {
            let heard = controls.ears.samples.slots();
            if let Ok(chunk) = controls.ears.samples.read_chunk(heard) {
                chunk.commit_all();
            }
        }
        if record && tick % 400 == 399 {
            // two seconds of the call: a moment for the recorder to take them
            std::thread::sleep(Duration::from_millis(1_500));
        }
    }
    let lost: u64 = calls.iter().map(|(call, _)| call.counters().record_lost_samples.get()).sum();
    drop(calls);
    drop(recorder);
    let finished =
        events.try_iter().filter(|(_, e)| matches!(e, MediaEvent::Recording(n) if n.state == RecordingState::Finished));
    let finished = finished.count();
    let _ = std::fs::remove_dir_all(&folder);
    ensure!(lost == 0, "{lost} samples were lost: the recorder did not keep up");
    ensure!(!record || finished == COUNTED_CALLS as usize, "{finished} recordings were finished");
    Ok(())
}

/// Instructions of a call and tick, by callgrind.
fn count(which: &str) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .args(COUNTED.map(|name| format!("--toggle-collect={name}")))
        .arg(std::env::current_exe()?)
        .args(["--counted", which])
        .output()
        .context("valgrind cannot be run; the fix: apt-get install valgrind")?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed:\n{report}");
    let collected: u64 = report
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.trim().parse().ok())
        .with_context(|| format!("valgrind reported no count:\n{report}"))?;
    let ticks = (COUNTED_TIME.as_millis() / TICK.as_millis()) as u64 * u64::from(COUNTED_CALLS);
    Ok(collected / ticks)
}
