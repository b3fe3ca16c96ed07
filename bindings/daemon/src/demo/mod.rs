//! `mr-sip demo`: a whole telephone call on this machine, judged at its end.
//!
//! It starts jackd on the dummy driver under a name of its own (or goes without), the daemon, and baresip as a caller
//! that speaks prepared sentences. The agent understands them, answers with espeak-ng's voice, and hangs up. The demo
//! succeeds only if the words were understood and the caller's own recording holds the answers, whole, or with gaps that
//! the machine's own delays explain.

pub mod brain;
pub mod far_end;
pub mod ladder;
pub mod score;
pub mod servers;
mod strain;
mod summary;
pub mod voice;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use control::client::Message;
use control::types::{
    Call, CallAnswer, CallHangup, CallId, CallState, DaemonStatus, Encoding, Event, EventFilter, ResponseEnd,
    ResponseStart,
};
use control::{Client, ControlError};

use self::far_end::{FarEnd, Role};
use self::ladder::Ladder;
use self::servers::{Daemon, DaemonSetup, Jackd, JackdError};
use self::strain::Watch;
use self::voice::{Cue, Speech, Voice, VoiceError};
use crate::exit::Exit;

/// The demo's JACK server. One fixed name: a machine lists eight servers, and one that was killed frees its place only
/// to the next of its name.
const JACK_SERVER: &str = "mr_sip_demo";
/// What the caller says, in the words that the shipped model knows.
const CALLER_SAYS: [&str; 3] = [
    "hello i would like to book an appointment for friday morning",
    "my account number is four two seven one",
    "thank you goodbye",
];
/// Share of words that must be understood in every sentence.
const UNDERSTOOD: f64 = 0.8;
/// Correlation between what the agent said and what the caller recorded; G.711 alone costs about 0.001.
const HEARD: f64 = 0.95;
/// Below this it is not the same sentence with pieces missing: strangers to each other stay under 0.5 (see [`score`]).
const RECOGNISED: f64 = 0.6;
/// The caller waits this long after an answer should be over: half a second of endpoint, the recogniser, and a breath.
const CALLER_PATIENCE: f64 = 2.2;
/// How long an event is waited for before the clock is looked at.
const POLL: Duration = Duration::from_millis(100);
/// What telephones hold back before they play it: baresip up to 120 ms, many others up to 200 ms.
const CALLER_BUFFER_SECONDS: f64 = 0.25;
/// A call that is not over by then has gone wrong.
const LIMIT: Duration = Duration::from_secs(90);

/// Options of `mr-sip demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Do without JACK even if jackd is installed
    #[arg(long)]
    no_jack: bool,
    /// Sample rate of the dummy jackd, in Hz
    #[arg(long, default_value_t = 48000)]
    jack_rate: u32,
    /// Period of the dummy jackd, in frames
    #[arg(long, default_value_t = 256)]
    jack_period: u32,
    /// Keep everything the demo makes (recordings, logs) in this folder
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What stopped the demo before it could be judged.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file or process failed.
    #[error("{what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    /// A voice could not be made.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// The control connection failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// jackd did not start.
    #[error(transparent)]
    Jackd(#[from] JackdError),
    /// The call did not come to its end in time.
    #[error("the call was not over after {} s; the logs are in {}", LIMIT.as_secs(), .0.display())]
    TooLong(PathBuf),
}

/// One thing the agent said.
#[derive(Debug)]
struct Said {
    text: String,
    speech: Speech,
}

/// Runs the demo.
pub fn run(args: &DemoArgs, json: bool) -> Exit {
    match Demo::prepare(args).and_then(|demo| demo.play(args)) {
        Ok(verdict) => {
            if json {
                println!("{}", verdict.to_json());
            } else {
                print!("{verdict}");
            }
            if verdict.good() { Exit::Ok } else { Exit::Error }
        }
        Err(error) => {
            eprintln!("mr-sip demo: {error}");
            Exit::Error
        }
    }
}

struct Demo {
    folder: PathBuf,
    /// Removes the folder at the end, unless it is to be kept.
    _temporary: Option<TemporaryFolder>,
    script: PathBuf,
    ladder: Ladder<std::io::Stderr>,
}

impl Demo {
    fn prepare(args: &DemoArgs) -> Result<Self, DemoError> {
        let mut ladder = Ladder::on_stderr();
        let (folder, temporary) = match &args.keep {
            Some(folder) => (folder.clone(), None),
            None => {
                let folder = std::env::temp_dir().join(format!("mr-sip-demo-{}", std::process::id()));
                (folder.clone(), Some(TemporaryFolder(folder)))
            }
        };
        std::fs::create_dir_all(&folder)
            .map_err(|source| DemoError::Io { what: "cannot make the demo's folder", source })?;
        let folder =
            folder.canonicalize().map_err(|source| DemoError::Io { what: "cannot find the demo's folder", source })?;
        ladder.note("espeak-ng speaks the caller's sentences");
        let script = folder.join("caller.wav");
        write_caller_script(&script, &folder)?;
        Ok(Self { folder, _temporary: temporary, script, ladder })
    }

    fn play(mut self, args: &DemoArgs) -> Result<summary::Verdict, DemoError> {
        let jackd = if args.no_jack {
            None
        } else {
            match Jackd::start(JACK_SERVER, args.jack_rate, args.jack_period, &self.folder) {
                Ok(jackd) => {
                    self.ladder.note(&format!(
                        "jackd runs on its dummy driver, {} Hz, {} frames",
                        args.jack_rate, args.jack_period
                    ));
                    Some(jackd)
                }
                Err(JackdError::NotInstalled) => {
                    self.ladder.note("jackd is not installed: direct audio");
                    None
                }
                Err(error) => return Err(error.into()),
            }
        };
        let setup = DaemonSetup { jack_server: jackd.as_ref().map(Jackd::name), ..DaemonSetup::default() };
        let daemon = Daemon::start(&self.folder, &setup)
            .map_err(|source| DemoError::Io { what: "cannot start the daemon", source })?;
        let mut client = daemon.connect("demo", EventFilter::All)?;
        self.ladder.note(&format!("mr-sip serves on {}", daemon.sip_address()));
        let mut caller = FarEnd::start(
            &self.folder.join("caller"),
            &self.script,
            Role::Calls(&format!("sip:agent@{}", daemon.sip_address())),
        )
        .map_err(|source| DemoError::Io { what: "cannot start the caller", source })?;
        let watch = Watch::start().map_err(|source| DemoError::Io { what: "cannot start a thread", source })?;
        let (call, said) = self.converse(&mut client)?;
        let strain = watch.stop(client.request(&DaemonStatus {}).ok().as_ref());
        caller.stop();
        let heard = caller.heard();
        let kept = args.keep.as_deref();
        Ok(summary::judge(&call, &CALLER_SAYS, &said, heard.as_deref(), self.ladder.turns(), strain, kept))
    }

    /// The agent's side of the call. Returns when the call is over.
    fn converse(&mut self, client: &mut Client) -> Result<(Call, Vec<Said>), DemoError> {
        let began = Instant::now();
        let mut said = Vec::new();
        let mut hang_up_after = None;
        while began.elapsed() < LIMIT {
            let Some(Message::Event(notification)) = client.next_message(Instant::now() + POLL)? else { continue };
            let event = notification.event;
            self.ladder.event(&event);
            match event {
                Event::CallIncoming { call, .. } => {
                    client.request(&CallAnswer { call })?;
                }
                Event::CallState { call, state: CallState::Answered, .. } => {
                    self.speak(client, call, brain::GREETING, &mut said)?;
                }
                Event::TranscriptFinal { call, text, .. } if !text.is_empty() => {
                    let reply = brain::reply(&text);
                    let response = self.speak(client, call, &reply.text, &mut said)?;
                    if reply.then_hang_up {
                        hang_up_after = Some(response);
                    }
                }
                Event::ResponseFinished { call, response, .. } if hang_up_after == Some(response) => {
                    client.request(&CallHangup::new(call))?;
                }
                Event::CallSummary(call) => return Ok((*call, said)),
                _ => {}
            }
        }
        Err(DemoError::TooLong(self.folder.clone()))
    }

    fn speak(&mut self, client: &mut Client, call: CallId, text: &str, said: &mut Vec<Said>) -> Result<u64, DemoError> {
        self.ladder.agent_says(text);
        let speech = AGENT.say(text, &self.folder)?;
        let start = ResponseStart { call, rate: speech.rate, encoding: Encoding::S16, text: Some(text.to_owned()) };
        let reply = client.request(&start)?;
        let audio = speech.clone().then_silence(CALLER_BUFFER_SECONDS).bytes();
        client.send_audio(reply.channel, Encoding::S16, reply.generation, 0, &audio)?;
        client.request(&ResponseEnd { call, response: reply.response })?;
        said.push(Said { text: text.to_owned(), speech });
        Ok(reply.response)
    }
}

const AGENT: Voice = Voice { name: "en-gb", rate: 165 };
const CALLER: Voice = Voice { name: "en-us", rate: 150 };

/// The caller cannot hear; it leaves room for the answers that its sentences should get.
fn write_caller_script(path: &Path, scratch: &Path) -> Result<(), VoiceError> {
    let mut answer = AGENT.say(brain::GREETING, scratch)?;
    let mut cues = Vec::new();
    for sentence in CALLER_SAYS {
        cues.push(Cue { pause: answer.seconds() + CALLER_PATIENCE, speech: CALLER.say(sentence, scratch)? });
        answer = AGENT.say(&brain::reply(sentence).text, scratch)?;
    }
    voice::write_script(path, &cues, answer.seconds() + 2.0 * CALLER_PATIENCE)
}

/// A folder that goes when it is dropped.
struct TemporaryFolder(PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
