//! What cleaning does to what the ears hear, and what it costs: echo taken away (ERLE) over time on several paths against a
//! plain NLMS filter without a search for the delay, noise suppressed, levels brought together, nanoseconds a tick.
//!
//! All signals are made here, of numbers, with fixed seeds: the figures but for the times are the same on every run.

#[path = "../../../engine/tests/support/speech.rs"]
mod speech;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use engine::clean::{CleanConfig, Cleaner};
use engine::{Codec, TICK_SAMPLES};
use plotters::prelude::*;
use serde_json::json;
use speech::{echo_of, echo_path, level_db, noise, power, speech};

const SECOND: usize = 8_000;
const SECONDS: usize = 16;
/// The rival's length: what covers every delay and tail here would be 5,000; this is 256 ms, as is usual.
const NLMS_TAPS: usize = 2_048;
const NLMS_STEP: f32 = 0.5;

#[derive(Debug, Parser)]
#[command(about = "What cleaning does to what the ears hear, and what it costs")]
struct Arguments {
    /// Write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw ERLE over time into this file
    #[arg(long)]
    svg: Option<PathBuf>,
}

struct Path {
    name: &'static str,
    delay_ms: f32,
    tail_ms: f32,
    gain_db: f32,
}

const PATHS: [Path; 5] = [
    Path { name: "hybrid, 40 ms, -10 dB", delay_ms: 40.0, tail_ms: 16.0, gain_db: -10.0 },
    Path { name: "hybrid, 100 ms, -10 dB", delay_ms: 100.0, tail_ms: 24.0, gain_db: -10.0 },
    Path { name: "hybrid, 300 ms, -20 dB", delay_ms: 300.0, tail_ms: 32.0, gain_db: -20.0 },
    Path { name: "room of 128 ms, 200 ms, -6 dB", delay_ms: 200.0, tail_ms: 128.0, gain_db: -6.0 },
    Path { name: "room of 256 ms, 120 ms, -10 dB", delay_ms: 120.0, tail_ms: 256.0, gain_db: -10.0 },
];

const ECHO: CleanConfig = CleanConfig { echo: true, ..CleanConfig::OFF };
const NOISE: CleanConfig = CleanConfig { noise: true, ..CleanConfig::OFF };
const AGC: CleanConfig = CleanConfig { agc: true, ..CleanConfig::OFF };
const DC: CleanConfig = CleanConfig { dc: true, ..CleanConfig::OFF };
const ALL: CleanConfig = CleanConfig { dc: true, agc: true, noise: true, echo: true };

/// Cleans a call whose packets are 20 ms long; and how long a tick took on the average, in ns.
fn clean(config: CleanConfig, heard: &[f32], sent: &[f32]) -> (Vec<f32>, u64) {
    let mut cleaner = Cleaner::new(config);
    let mut cleaned = Vec::with_capacity(heard.len());
    let begun = Instant::now();
    for (heard, sent) in heard.chunks(160).zip(sent.chunks(160)) {
        for tick in heard.chunks(TICK_SAMPLES) {
            cleaner.process(tick, |block| cleaned.extend_from_slice(block));
        }
        cleaner.sent(sent);
    }
    let ticks = heard.len() / TICK_SAMPLES;
    (cleaned, begun.elapsed().as_nanos() as u64 / ticks.max(1) as u64)
}

/// The rival: normalised least mean squares in the time domain, from the time of sending on, always adapting.
fn nlms(heard: &[f32], sent: &[f32]) -> (Vec<f32>, u64) {
    let mut weights = vec![0.0; NLMS_TAPS];
    let mut padded = vec![0.0; NLMS_TAPS];
    padded.extend_from_slice(sent);
    let mut left = Vec::with_capacity(heard.len());
    let begun = Instant::now();
    let mut energy = 0.0_f32;
    for (n, &heard) in heard.iter().enumerate() {
        let line = &padded[n + 1..n + 1 + NLMS_TAPS];
        energy = (energy + line[NLMS_TAPS - 1].powi(2) - padded[n].powi(2)).max(0.0);
        let echo: f32 = weights.iter().zip(line).map(|(w, x)| w * x).sum();
        let error = heard - echo;
        let step = NLMS_STEP * error / (energy + 0.01);
        weights.iter_mut().zip(line).for_each(|(w, x)| *w += step * x);
        left.push(error);
    }
    let ticks = heard.len() / TICK_SAMPLES;
    (left, begun.elapsed().as_nanos() as u64 / ticks.max(1) as u64)
}

fn through_g711(samples: &[f32]) -> Vec<f32> {
    let (mut bytes, mut heard) = (vec![0; samples.len()], vec![0.0; samples.len()]);
    Codec::Pcmu.encode(samples, &mut bytes);
    Codec::Pcmu.decode(&bytes, &mut heard);
    heard
}

/// ERLE of each half second, in dB; `NAN` where nothing was to be taken away.
fn erle(heard: &[f32], cleaned: &[f32]) -> Vec<f64> {
    let gain = |(before, after): (&[f32], &[f32])| match level_db(before) {
        before if before < -55.0 => f64::NAN,
        before => f64::from(before - level_db(after)),
    };
    heard.chunks(SECOND / 2).zip(cleaned.chunks(SECOND / 2)).map(gain).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Mean over segments of 20 ms in which somebody speaks, each limited to -10 to 35 dB.
fn segmental_snr(said: &[f32], heard: &[f32], from: usize) -> f64 {
    let segment = |(said, heard): (&[f32], &[f32])| {
        let wrong: Vec<f32> = said.iter().zip(heard).map(|(said, heard)| heard - said).collect();
        if level_db(said) > -45.0 {
            f64::from((level_db(said) - level_db(&wrong)).clamp(-10.0, 35.0))
        } else {
            f64::NAN
        }
    };
    mean(said[from..].chunks_exact(160).zip(heard[from..].chunks_exact(160)).map(segment))
}

struct Echo {
    name: &'static str,
    ours: Vec<f64>,
    rival: Vec<f64>,
}

fn echoes() -> Vec<Echo> {
    let sent = speech(SECONDS as f32, -22.0, 110.0, 1);
    println!("echo taken away, dB (mean of 0-1, 1-2, 2-4, 4-8, 8-16 s of the agent's speech)");
    let table = |erle: &[f64]| {
        let spans = [0..2, 2..4, 4..8, 8..16, 16..2 * SECONDS];
        spans.map(|span| format!("{:>6.1}", mean(erle[span].iter().copied()))).join("")
    };
    let measure = |path: &Path| {
        let heard = through_g711(&echo_of(&sent, &echo_path(path.delay_ms, path.tail_ms, path.gain_db, 2)));
        let (ours, rival) = (erle(&heard, &clean(ECHO, &heard, &sent).0), erle(&heard, &nlms(&heard, &sent).0));
        println!("  {:32} ours {}   plain NLMS {}", path.name, table(&ours), table(&rival));
        Echo { name: path.name, ours, rival }
    };
    PATHS.iter().map(measure).collect()
}

fn double_talk() -> serde_json::Value {
    let sent = speech(SECONDS as f32, -22.0, 110.0, 3);
    let echo = echo_of(&sent, &echo_path(100.0, 24.0, -10.0, 4));
    let from = 6 * SECOND;
    let mut said = vec![0.0; from];
    said.extend(speech((SECONDS - 6) as f32, -26.0, 210.0, 5));
    let heard: Vec<f32> = through_g711(&echo.iter().zip(&said).map(|(a, b)| a + b).collect::<Vec<_>>());
    // the rival gets the delay of the path within its length, as a favour: it has 156 ms of room here
    let figures = [
        ("nothing", segmental_snr(&said, &heard, from)),
        ("plain NLMS", segmental_snr(&said, &nlms(&heard, &sent).0, from)),
        ("ours", segmental_snr(&said, &clean(ECHO, &heard, &sent).0, from)),
    ];
    println!(
        "a caller over the agent, segmental SNR, dB: {}",
        figures.map(|(n, db)| format!("{n} {db:.1}")).join(", ")
    );
    json!(figures.map(|(name, db)| json!({"name": name, "segmental_snr_db": db})))
}

fn noises() -> serde_json::Value {
    println!("noise suppression: SNR in -> noise less in pauses, SNR gained while speaking, speech level changed, dB");
    let said = speech(SECONDS as f32, -26.0, 120.0, 6);
    let rows = [0.0, 10.0, 20.0].map(|snr| {
        let hiss = noise(said.len(), -26.0 - snr, 7);
        let heard: Vec<f32> = said.iter().zip(&hiss).map(|(a, b)| a + b).collect();
        let cleaned = clean(NOISE, &heard, &vec![0.0; heard.len()]).0;
        let aligned = &cleaned[176..]; // 12 ms of overlap and a block of waiting
        let blocks = (5 * SECOND..aligned.len() - 800).step_by(80);
        let pauses: Vec<usize> = blocks.filter(|&n| power(&said[n - 800..n + 880]) == 0.0).collect();
        let left = pauses.iter().map(|&n| power(&aligned[n..n + 80])).sum::<f32>() / pauses.len().max(1) as f32;
        let less = f64::from(level_db(&hiss) - 10.0 * (left + 1e-12).log10());
        let from = 5 * SECOND;
        let gained = segmental_snr(&said[..aligned.len()], aligned, from) - segmental_snr(&said, &heard, from);
        let level = f64::from(level_db(&aligned[from..]) - level_db(&said[from..aligned.len()]));
        println!("  {snr:>4} -> {less:.1}, {gained:+.1}, {level:+.1}");
        json!({"snr_db": snr, "noise_less_db": less, "segmental_snr_gain_db": gained, "level_change_db": level})
    });
    json!(rows)
}

fn gains() -> serde_json::Value {
    let rows = [-45.0, -36.0, -26.0, -16.0, -10.0].map(|level| {
        let said = speech(12.0, level, 120.0, 8);
        let heard: Vec<f32> = said.iter().zip(noise(said.len(), -70.0, 9)).map(|(a, b)| a + b).collect();
        let cleaned = clean(AGC, &heard, &vec![0.0; heard.len()]).0;
        (level, level_db(&cleaned[6 * SECOND..]))
    });
    let text = rows.map(|(before, after)| format!("{before} -> {after:.1}")).join(", ");
    println!("automatic gain, dBFS (pauses included): {text}");
    json!(rows.map(|(before, after)| json!({"in_dbfs": before, "out_dbfs": after})))
}

/// The best of five runs: a busy machine only ever makes it slower.
fn costs() -> serde_json::Value {
    let sent = speech(8.0, -22.0, 110.0, 10);
    let heard = through_g711(&echo_of(&sent, &echo_path(100.0, 24.0, -10.0, 11)));
    let best = |run: &dyn Fn() -> u64| (0..5).map(|_| run()).min().unwrap_or(0);
    let parts = [("dc", DC), ("agc", AGC), ("noise", NOISE), ("echo", ECHO), ("all", ALL)];
    let mut rows: Vec<(&str, u64)> =
        parts.iter().map(|(name, config)| (*name, best(&|| clean(*config, &heard, &sent).1))).collect();
    rows.push(("plain NLMS", best(&|| nlms(&heard, &sent).1)));
    println!("cost, ns a tick of 5 ms (share of a core)");
    for (name, ns) in &rows {
        println!("  {name:12} {ns:>6} ({:.2} %)", *ns as f64 / 50_000.0);
    }
    json!(rows.iter().map(|(name, ns)| json!({"name": name, "ns_a_tick": ns})).collect::<Vec<_>>())
}

fn draw(file: &std::path::Path, echoes: &[Echo]) -> anyhow::Result<()> {
    let root = SVGBackend::new(file, (900, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("echo taken away (thin: plain NLMS of 256 ms)", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..SECONDS as f64, -10.0..75.0)?;
    chart.configure_mesh().x_desc("seconds of the agent's speech").y_desc("ERLE, dB").draw()?;
    for (nth, echo) in echoes.iter().enumerate() {
        let color = Palette99::pick(nth).to_rgba();
        let points = |erle: &[f64]| -> Vec<(f64, f64)> {
            let timed = erle.iter().enumerate().map(|(half, &db)| (half as f64 / 2.0 + 0.25, db));
            timed.filter(|(_, db)| db.is_finite()).map(|(at, db)| (at, db.clamp(-10.0, 75.0))).collect()
        };
        chart
            .draw_series(LineSeries::new(points(&echo.ours), color.stroke_width(3)))?
            .label(echo.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(3)));
        chart.draw_series(LineSeries::new(points(&echo.rival), color.stroke_width(1)))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let echoes = echoes();
    let (double_talk, noise, agc, costs) = (double_talk(), noises(), gains(), costs());
    if let Some(file) = &arguments.svg {
        draw(file, &echoes).with_context(|| format!("cannot draw {}", file.display()))?;
    }
    if let Some(file) = &arguments.json {
        let finite = |erle: &[f64]| erle.iter().map(|db| db.is_finite().then_some(*db)).collect::<Vec<_>>();
        let echo = |e: &Echo| json!({"path": e.name, "ours_db": finite(&e.ours), "plain_nlms_db": finite(&e.rival)});
        let echo: Vec<_> = echoes.iter().map(echo).collect();
        let all =
            json!({"erle_by_half_second": echo, "double_talk": double_talk, "noise": noise, "agc": agc, "cost": costs});
        std::fs::write(file, serde_json::to_vec_pretty(&all)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
