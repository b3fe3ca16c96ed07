//! What is understood and when: sentences at once and streamed, by one caller and by many.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use asr::phrase::{Style, ending};
use asr::recognizer::{Hints, Recognizer};
use asr::resample::Upsampler;
use asr::whisper::WhisperModel;
use asr::{TurnPolicy, text};
use control::Client;
use control::client::Message;
use control::types::{CallState, DaemonStatus, Event, EventFilter};
use engine::Codec;
use mr_sip::demo::score::word_errors;
use mr_sip::demo::servers::Daemon;
use mr_sip_benches::{cpu, process};
use serde::Serialize;

use super::lines::Lines;
use super::material::{Clip, Tape};

/// After the last sentence its text is waited for so long.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// A text belongs to the sentence whose end is no further from its own.
const SAME: Duration = Duration::from_millis(1_200);
/// `turns.end_of_turn_ms` of the daemon that is measured.
const END_OF_TURN: Duration = Duration::from_millis(500);

/// Word errors of one way.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Errors {
    words: usize,
    errors: usize,
    /// What was said and understood, where that differs.
    wrong: Vec<(String, String)>,
}

impl Errors {
    fn add(&mut self, said: &str, heard: &str) {
        self.words += said.split_whitespace().count();
        let errors = word_errors(said, heard);
        self.errors += errors;
        if errors > 0 {
            self.wrong.push((said.to_owned(), heard.to_owned()));
        }
    }

    fn percent(&self) -> f64 {
        100.0 * self.errors as f64 / self.words.max(1) as f64
    }
}

/// Every sentence into the model at once, through the same codec.
pub(crate) fn offline(name: &str, clips: &[Clip]) -> Result<Errors> {
    let path = asr::model::find(name, Path::new(""))?;
    let model = WhisperModel::load(&path, "en")?;
    let mut recognizer = model.recognizer()?;
    let mut upsampler = Upsampler::new()?;
    let mut errors = Errors::default();
    for clip in clips {
        let mut bytes = vec![0; clip.samples.len()];
        Codec::Pcmu.encode(&clip.samples, &mut bytes);
        let mut samples = vec![0.0; bytes.len()];
        Codec::Pcmu.decode(&bytes, &mut samples);
        let mut wide = Vec::new();
        upsampler.process(&samples, &mut wide);
        let heard = recognizer.recognize(&wide, &Hints::default(), &AtomicBool::new(false))?;
        errors.add(&clip.said, &text::plain(&heard.text));
    }
    Ok(errors)
}

/// Quantiles of times, in milliseconds.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Times {
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
}

impl Times {
    pub(crate) fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| ms.get((share * ms.len().saturating_sub(1) as f64).round() as usize).copied();
        Self { count: ms.len(), p50_ms: at(0.5).unwrap_or(f64::NAN), p95_ms: at(0.95).unwrap_or(f64::NAN) }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} / {:.0}", self.p50_ms, self.p95_ms)
    }
}

/// How sentences came out that were said on calls.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Streamed {
    errors: Errors,
    /// Sentences without any final.
    lost: usize,
    /// From the end of speech to the final.
    finals: Times,
    /// What of it is more than the silence that was waited for.
    beyond_silence: Times,
    /// From the end of speech to the eager text.
    eagers: Times,
    /// Finals that said the same as the eager before.
    as_eager: usize,
}

/// A text as it came.
#[derive(Debug)]
struct Heard {
    at: Instant,
    /// When its speech ended, by the daemon's clock.
    end: Instant,
    text: String,
    is_final: bool,
    as_eager: bool,
}

/// Everything that is said on these tapes, streamed. The calls must be the daemon's first.
fn run(daemon: &Daemon, client: &mut Client, tapes: Vec<Tape>, clips: &[Clip]) -> Result<Streamed> {
    let marks: Vec<_> = tapes.iter().map(|tape| tape.marks.clone()).collect();
    let lines = Lines::call(daemon.sip_address(), tapes.into_iter().map(|tape| (tape, 0.0)).collect())?;
    let mut order = Vec::new();
    let mut heard: BTreeMap<u32, Vec<Heard>> = BTreeMap::new();
    let mut until = None;
    loop {
        let now = Instant::now();
        if lines.are_over() && now >= *until.get_or_insert(now + LAST_WORDS) {
            break;
        }
        let Some(Message::Event(notification)) = client.next_message(now + Duration::from_millis(100))? else {
            continue;
        };
        let at = Instant::now();
        let time = notification.time_ms.unwrap_or_default();
        let ended = |end_ms: u64| at.checked_sub(Duration::from_millis(time.saturating_sub(end_ms)));
        let (call, end, text, is_final, as_eager) = match notification.event {
            Event::CallState { call, state: CallState::Answered, .. } => {
                order.push(call.0);
                continue;
            }
            Event::TranscriptFinal { call, text, end_ms, as_eager, .. } => (call, ended(end_ms), text, true, as_eager),
            Event::TranscriptEager { call, text, end_ms, .. } => (call, ended(end_ms), text, false, false),
            _ => continue,
        };
        if let Some(end) = end {
            heard.entry(call.0).or_default().push(Heard { at, end, text, is_final, as_eager });
        }
    }
    let mut streamed = Streamed::default();
    let (mut finals, mut beyond, mut eagers) = (Vec::new(), Vec::new(), Vec::new());
    let policy = TurnPolicy::default().with_style(Style::Open, END_OF_TURN);
    for (index, (call, marks)) in order.iter().zip(&marks).enumerate() {
        let texts = heard.remove(call).unwrap_or_default();
        for (clip, from, to) in marks {
            let line = lines.line(index);
            let (Some(start), Some(end)) = (line.sent_at(*from), line.sent_at(*to)) else { continue };
            let own = texts.iter().filter(|heard| heard.end + SAME > start && heard.end < end + SAME);
            let own: Vec<&Heard> = own.collect();
            let said: Vec<&str> = own.iter().filter(|h| h.is_final).map(|h| h.text.as_str()).collect();
            streamed.errors.add(&clips[*clip].said, &text::plain(&said.join(" ")));
            let ms = |at: Instant| at.saturating_duration_since(end).as_secs_f64() * 1_000.0;
            if let Some(eager) = own.iter().rev().find(|h| !h.is_final) {
                eagers.push(ms(eager.at));
            }
            match own.iter().rev().find(|h| h.is_final) {
                Some(last) => {
                    let silence = policy.silence_for(ending(&last.text, Style::Open, None));
                    finals.push(ms(last.at));
                    beyond.push(ms(last.at) - silence.as_secs_f64() * 1_000.0);
                    streamed.as_eager += usize::from(last.as_eager);
                }
                None => streamed.lost += 1,
            }
        }
    }
    lines.hang_up()?;
    (streamed.finals, streamed.beyond_silence, streamed.eagers) =
        (Times::of(finals), Times::of(beyond), Times::of(eagers));
    Ok(streamed)
}

/// All sentences by one caller.
pub(crate) fn streaming(daemon: &Daemon, clips: &[Clip]) -> Result<Streamed> {
    let mut client = daemon.connect("speech", EventFilter::All)?;
    run(daemon, &mut client, vec![Tape::of(clips, 0, 0)], clips)
}

pub(crate) fn print(offline: &Errors, streamed: &Streamed) {
    println!("| one caller | |\n|---|---|");
    println!("| words, offline: wrong | {:.1} % of {} |", offline.percent(), offline.words);
    println!("| words, streamed: wrong | {:.1} % of {} |", streamed.errors.percent(), streamed.errors.words);
    println!("| end of speech -> eager text, ms, p50 / p95 | {} |", streamed.eagers);
    println!("| end of speech -> final text | {} |", streamed.finals);
    println!("| of that beyond the silence that was waited for | {} |", streamed.beyond_silence);
    println!("| finals that said the same as their eager | {} of {} |\n", streamed.as_eager, streamed.finals.count);
    for (said, heard) in &streamed.errors.wrong {
        println!("said \"{said}\", heard \"{heard}\"");
    }
    println!();
}

/// So many callers who talk at once.
#[derive(Debug, Serialize)]
pub(crate) struct Scale {
    calls: usize,
    streamed: Streamed,
    /// Processor time of recogniser and listener, seconds a minute of speech.
    ears_cpu: f64,
    /// Of the whole daemon.
    daemon_cpu: f64,
    /// Share of a caller's time that is speech.
    talking: f64,
    level: String,
    partials: u64,
    dropped: u64,
}

pub(crate) fn scale(daemon: &Daemon, clips: &[Clip], calls: usize, seconds: usize) -> Result<Scale> {
    let mut client = daemon.connect("speech", EventFilter::All)?;
    let tapes: Vec<Tape> = (0..calls).map(|call| Tape::of(clips, 5 * call, seconds)).collect();
    let talked: f64 = tapes.iter().map(Tape::talked).sum::<f64>() / 60.0;
    let all: usize = tapes.iter().map(|tape| tape.samples.len()).sum();
    let talking = talked * 60.0 * super::material::RATE as f64 / all as f64;
    let ears = || -> Result<f64> {
        let times = process::thread_times(daemon.pid())?;
        let own = times.iter().filter(|(name, _)| name.starts_with("whisper") || name.as_str() == "listener");
        Ok(own.map(|(_, time)| time.as_secs_f64()).sum())
    };
    let whole = || -> Result<f64> { Ok(cpu::process_time(daemon.pid())?.as_secs_f64()) };
    let (ears_before, whole_before) = (ears()?, whole()?);
    let streamed = run(daemon, &mut client, tapes, clips)?;
    let (ears_cpu, daemon_cpu) = ((ears()? - ears_before) / talked, (whole()? - whole_before) / talked);
    let status = client.request(&DaemonStatus {})?.ears;
    let number = |name: &str| status.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let level = status.get("level").and_then(|level| level.as_str()).context("a status without a level")?.to_owned();
    let (partials, dropped) = (number("partials"), number("dropped_partials"));
    Ok(Scale { calls, streamed, ears_cpu, daemon_cpu, talking, level, partials, dropped })
}

pub(crate) fn print_scale_head() {
    println!(
        "| talking calls | final, ms, p50 / p95 | beyond the silence | eager | words wrong | sentences lost | partials (dropped) | \
         ears: CPU s a talked minute | whole daemon |\n|---|---|---|---|---|---|---|---|---|"
    );
}

impl Scale {
    pub(crate) fn print(&self) {
        let s = &self.streamed;
        println!(
            "| {} ({:.0} % of the time speech) | {} | {} | {} | {:.1} % of {} | {} | {} ({}) | {:.2} | {:.2} |",
            self.calls,
            100.0 * self.talking,
            s.finals,
            s.beyond_silence,
            s.eagers,
            s.errors.percent(),
            s.errors.words,
            s.lost,
            self.partials,
            self.dropped,
            self.ears_cpu,
            self.daemon_cpu
        );
    }
}
