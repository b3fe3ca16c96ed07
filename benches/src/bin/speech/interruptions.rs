//! Who interrupts the agent: how soon a caller does, and how often a sound does that is none.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use control::Client;
use control::client::Message;
use control::types::{CallId, CallState, Encoding, Event, EventFilter, ResponseEnd, ResponseStart, TurnPolicy};
use engine::Codec;
use mr_sip::demo::servers::Daemon;
use mr_sip::demo::voice::Voice;
use serde::Serialize;

use super::lines::Lines;
use super::material::{Clip, RATE, Tape, bursts, hiss, music};
use super::turns::Times;

/// Interruptions that are timed, for each rule.
const TRIALS: usize = 10;
/// From one to the next.
const EVERY: usize = 6 * RATE;
/// After it was interrupted the agent is silent for so long.
const REST: Duration = Duration::from_millis(2_500);
/// The agent's tone, for what is timed: its level, and how far below it is ducked, and silent.
const TONE_DB: f32 = -15.0;
const DUCKED_DB: f32 = -21.0;
const SILENT_DB: f32 = -50.0;
/// What the agent says while it is not to be interrupted: words that the shipped model knows.
const SPEECH: &str = "hello good morning thank you for your call we are open on monday tuesday and friday from nine to five \
    please hold a moment i can help you with your account your bill or your appointment";

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Interruptions {
    timed: Vec<Timed>,
    sounds: Vec<Sound>,
}

/// How soon a caller interrupts, with so many words asked for.
#[derive(Debug, Serialize)]
struct Timed {
    words: u64,
    /// From the first voiced sample's packet to the agent being heard more softly, and not at all.
    duck: Times,
    halt: Times,
    /// To the event.
    told: Times,
    missed: usize,
}

/// How often a sound interrupts.
#[derive(Debug, Serialize)]
struct Sound {
    name: String,
    words: u64,
    seconds: usize,
    count: usize,
}

/// An agent that speaks on all calls.
struct Agent {
    speech: Vec<u8>,
    text: Option<String>,
    /// When it speaks again.
    again: BTreeMap<u32, Instant>,
    calls: Vec<CallId>,
    interrupted: BTreeMap<u32, Vec<Instant>>,
}

impl Agent {
    fn new(samples: &[f32], text: Option<&str>) -> Self {
        let mut speech = vec![0; samples.len()];
        Codec::Pcmu.encode(samples, &mut speech);
        let text = text.map(str::to_owned);
        Self { speech, text, again: BTreeMap::new(), calls: Vec::new(), interrupted: BTreeMap::new() }
    }

    fn attend(&mut self, client: &mut Client) -> Result<()> {
        let now = Instant::now();
        let due: Vec<u32> = self.again.iter().filter(|(_, at)| **at <= now).map(|(call, _)| *call).collect();
        for call in due {
            self.again.remove(&call);
            self.speak(client, CallId(call))?;
        }
        let Some(Message::Event(news)) = client.next_message(now + Duration::from_millis(20))? else { return Ok(()) };
        match news.event {
            Event::CallState { call, state: CallState::Answered, .. } => {
                self.calls.push(call);
                self.again.insert(call.0, now);
            }
            Event::CallState { call, state: CallState::Ended, .. } => {
                self.again.remove(&call.0);
                self.calls.retain(|other| *other != call);
            }
            Event::ResponseFinished { call, interrupted, .. } if self.calls.contains(&call) => {
                self.again.insert(call.0, now + if interrupted { REST } else { Duration::ZERO });
            }
            Event::TurnBargeIn { call } => self.interrupted.entry(call.0).or_default().push(Instant::now()),
            _ => {}
        }
        Ok(())
    }

    fn speak(&self, client: &mut Client, call: CallId) -> Result<()> {
        let start = ResponseStart { encoding: Encoding::Ulaw, text: self.text.clone(), ..ResponseStart::new(call) };
        let reply = client.request(&start)?;
        client.send_audio(reply.channel, Encoding::Ulaw, reply.generation, 0, &self.speech)?;
        client.request(&ResponseEnd { call, response: reply.response })?;
        Ok(())
    }
}

pub(crate) fn measure(daemon: &Daemon, folder: &Path, seconds: usize) -> Result<Interruptions> {
    let voice = Voice { name: "en-us", rate: 150 };
    let timed = [0, 1].map(|words| time(daemon, &Clip::say(voice, "stop please", folder)?, words));
    let [first, second] = timed;
    Ok(Interruptions { timed: vec![first?, second?], sounds: sounds(daemon, folder, seconds)? })
}

fn policy(client: &mut Client, call: CallId, words: u64) -> Result<()> {
    client.request(&TurnPolicy { barge_in_words: Some(words), ..TurnPolicy::new(call) })?;
    Ok(())
}

fn time(daemon: &Daemon, clip: &Clip, words: u64) -> Result<Timed> {
    let mut tape = vec![0.0; 2 * RATE];
    let mut onsets = Vec::new();
    for _ in 0..TRIALS {
        onsets.push(tape.len() + clip.voiced.0);
        tape.extend_from_slice(&clip.samples);
        tape.resize(tape.len().next_multiple_of(EVERY) + RATE / 7, 0.0);
    }
    let amplitude = 10f32.powf(TONE_DB / 20.0) * 2f32.sqrt();
    let tone: Vec<f32> =
        (0..12 * RATE).map(|n| amplitude * (std::f32::consts::TAU * 440.0 * n as f32 / RATE as f32).sin()).collect();
    let mut client = daemon.connect("interruptions", EventFilter::All)?;
    let mut agent = Agent::new(&tone, None);
    let lines = Lines::call(daemon.sip_address(), vec![(Tape::sound(tape), 0.0)])?;
    while agent.calls.is_empty() {
        agent.attend(&mut client)?;
    }
    let call = agent.calls[0];
    policy(&mut client, call, words)?;
    while !lines.are_over() {
        agent.attend(&mut client)?;
    }
    let line = lines.line(0);
    let told_at = agent.interrupted.remove(&call.0).unwrap_or_default();
    let (mut duck, mut halt, mut told, mut missed) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for onset in onsets {
        let onset = line.sent_at(onset).context("the tape was not played")?;
        let within = |at: &Instant| *at > onset && *at < onset + Duration::from_secs(3);
        let ms = |at: Instant| at.saturating_duration_since(onset).as_secs_f64() * 1_000.0;
        let softer = |db: f32| line.heard.iter().find(|(at, level)| within(at) && *level < db).map(|(at, _)| ms(*at));
        duck.extend(softer(DUCKED_DB));
        halt.extend(softer(SILENT_DB));
        match told_at.iter().find(|at| within(at)) {
            Some(at) => told.push(ms(*at)),
            None => missed += 1,
        }
    }
    drop(line);
    lines.hang_up()?;
    Ok(Timed { words, duck: Times::of(duck), halt: Times::of(halt), told: Times::of(told), missed })
}

fn sounds(daemon: &Daemon, folder: &Path, seconds: usize) -> Result<Vec<Sound>> {
    let samples = seconds * RATE;
    let mut listening = Vec::new();
    let listener = Voice { name: "en-gb", rate: 160 };
    let words = ["okay", "yeah", "uh huh", "right", "yes", "mm hmm"].map(|word| Clip::say(listener, word, folder));
    let words = words.into_iter().collect::<Result<Vec<_>>>()?;
    for word in words.iter().cycle() {
        listening.extend(std::iter::repeat_n(0.0, 3 * RATE));
        listening.extend_from_slice(&word.samples);
        if listening.len() >= samples {
            break;
        }
    }
    let kinds: [(&str, Vec<f32>, f32); 6] = [
        ("a hissing line, -45 dBFS", hiss(samples, 0.01, 1), 0.0),
        ("coughs and knocks", bursts(samples, 2), 0.0),
        ("music", music(samples), 0.0),
        ("okay, yeah, uh huh, ... every 3.5 s", listening, 0.0),
        ("echo of the agent, -20 dB, not cleaned", vec![0.0; samples], 0.1),
        ("echo of the agent, -35 dB, not cleaned", vec![0.0; samples], 0.018),
    ];
    let agent_speech = Clip::say(Voice { name: "en-us", rate: 150 }, SPEECH, folder)?;
    let mut agent = Agent::new(&agent_speech.samples, Some(SPEECH));
    let mut client = daemon.connect("interruptions", EventFilter::All)?;
    let rules = [0, 1];
    let tapes = rules.iter().flat_map(|_| kinds.iter().map(|(_, sound, echo)| (Tape::sound(sound.clone()), *echo)));
    let lines = Lines::call(daemon.sip_address(), tapes.collect())?;
    while agent.calls.len() < rules.len() * kinds.len() {
        agent.attend(&mut client)?;
    }
    let calls = agent.calls.clone();
    let every = || rules.iter().flat_map(|words| kinds.iter().map(move |(name, ..)| (*words, *name)));
    for (call, (words, _)) in calls.iter().zip(every()) {
        policy(&mut client, *call, words)?;
    }
    while !lines.are_over() {
        agent.attend(&mut client)?;
    }
    lines.hang_up()?;
    let count = |call: &CallId| agent.interrupted.get(&call.0).map_or(0, Vec::len);
    let sound = |(call, (words, name)): (&CallId, (u64, &str))| Sound {
        name: name.to_owned(),
        words,
        seconds,
        count: count(call),
    };
    Ok(calls.iter().zip(every()).map(sound).collect())
}

pub(crate) fn print(figures: &Interruptions) {
    println!("| a caller interrupts, ms, p50 / p95 | voice alone | one word |\n|---|---|---|");
    let [voice, word] = &figures.timed[..] else { return };
    println!("| onset -> the agent is heard more softly | {} | {} |", voice.duck, word.duck);
    println!("| onset -> `turn.barge_in` | {} | {} |", voice.told, word.told);
    println!("| onset -> the agent is not heard any more | {} | {} |", voice.halt, word.halt);
    println!("| missed, of {TRIALS} | {} | {} |\n", voice.missed, word.missed);
    println!("| false interruptions an hour | voice alone | one word |\n|---|---|---|");
    let (voice, word) = figures.sounds.split_at(figures.sounds.len() / 2);
    let an_hour = |sound: &Sound| sound.count as f64 * 3_600.0 / sound.seconds as f64;
    for (a, b) in voice.iter().zip(word) {
        println!("| {} | {:.0} | {:.0} |", a.name, an_hour(a), an_hour(b));
    }
    println!();
}
