//! `mr-sip call | answer | ps | watch | hangup | dtmf | hold | resume | transfer | trace | bans | unban`: the command line as a client of the control socket, and of nothing else.
//!
//! Results go to stdout, progress to stderr. `--json`: results are the control protocol's own objects, one a line; a
//! failure is `{"error":{"code":...,"message":...}}`. What comes from the network is cleaned of control characters before it is shown.
//! Colours and redrawing are for terminals only (and not with `NO_COLOR`).

mod bans;
mod clip;
mod console;
mod describe;
mod failure;
mod keys;
mod live;
mod ps;
mod start;
#[cfg(test)]
mod tests;
mod trace;
mod watch;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use control::Client;
use control::types::{CallId, EventFilter, Hello};

pub use self::console::{Console, Interrupts, Look};
use self::failure::Failure;
use crate::exit::Exit;

/// What the daemon is asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Call somebody, and show the call as it goes; Ctrl-C hangs up
    Call(CallArgs),
    /// Answer a call that rings (or the next one), and show it as it goes; Ctrl-C hangs up
    Answer(AnswerArgs),
    /// List the calls
    Ps,
    /// Show everything that happens, on all calls
    Watch,
    /// End a call
    Hangup(HangupArgs),
    /// Press keys on a call
    Dtmf(DtmfArgs),
    /// Put the far end of a call on hold
    Hold(WhichArgs),
    /// Take a call off hold
    Resume(WhichArgs),
    /// Send the far end of a call to somebody else, and wait for how that ends
    Transfer(TransferArgs),
    /// Let two calls hear each other
    Bridge(BridgeArgs),
    /// Let a call hear no other any more
    Unbridge(WhichArgs),
    /// Show the SIP messages of a call that is up or has ended lately
    Trace(TraceArgs),
    /// List the addresses that are not heard for a while, for having offended
    Bans,
    /// Hear an address again
    Unban(UnbanArgs),
}

/// `mr-sip call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// A number, or a SIP URI such as sip:alice@example.com
    pub dest: String,
    /// The account to call through, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// Give up when nobody has answered after this long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub ring: Option<u64>,
    /// Our name as the called see it
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// A further header, such as "X-Ticket: 4711"; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Keep our number from the called
    #[arg(long)]
    pub privacy: bool,
    /// Record the call, also when the configuration says otherwise; the summary says where
    #[arg(long)]
    pub record: bool,
    /// What to do once it is answered.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// `mr-sip answer`.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// Which call; else the one that rings, or the next that does
    pub call: Option<CallId>,
    /// What to do once it is answered.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// What to do on a call.
#[derive(Debug, Default, Args)]
pub struct TalkArgs {
    /// Speak this WAV file once the call is answered (8 to 48 kHz, any number of channels)
    #[arg(long, value_name = "FILE")]
    pub wav: Option<PathBuf>,
    /// Hang up when the WAV file has been spoken
    #[arg(long, requires = "wav")]
    pub then_hangup: bool,
    /// Hang up this long after the answer
    #[arg(long = "for", value_name = "SECONDS")]
    pub limit: Option<u64>,
}

/// `mr-sip hangup`.
#[derive(Debug, Args)]
pub struct HangupArgs {
    /// Which call, as `mr-sip ps` shows it
    pub call: CallId,
}

/// `mr-sip dtmf`.
#[derive(Debug, Args)]
pub struct DtmfArgs {
    /// Which call, as `mr-sip ps` shows it
    pub call: CallId,
    /// The keys: 0-9 * # A-D
    pub digits: String,
}

/// `mr-sip hold` and `mr-sip resume`.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// Which call, as `mr-sip ps` shows it
    pub call: CallId,
}

/// `mr-sip transfer`.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// Whose far end is sent away, as `mr-sip ps` shows the call
    pub call: CallId,
    /// To whom: a number, a SIP URI, or another call (c7), whose far end it is then connected to
    pub to: String,
}

/// `mr-sip bridge`.
#[derive(Debug, Args)]
pub struct BridgeArgs {
    /// Which call, as `mr-sip ps` shows it
    pub call: CallId,
    /// With which other one
    pub other_call: CallId,
    /// The other one only listens: to this call and its agent
    #[arg(long)]
    pub listen: bool,
    /// The other one listens, and is heard by the far end of this call alone
    #[arg(long, conflicts_with = "listen")]
    pub whisper: bool,
}

/// `mr-sip trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Which call, as `mr-sip ps` shows it
    pub call: CallId,
    /// As a ladder of arrows (the default)
    #[arg(long)]
    pub ladder: bool,
    /// As a capture file for Wireshark; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ladder", "messages"])]
    pub pcap: Option<PathBuf>,
    /// The messages whole, one after the other
    #[arg(long, conflicts_with = "ladder")]
    pub messages: bool,
}

/// `mr-sip unban`.
#[derive(Debug, Args)]
pub struct UnbanArgs {
    /// Whom, as `mr-sip bans` shows it
    pub address: std::net::IpAddr,
}

/// `Name: value`.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as \"NAME: VALUE\"")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Does what the command line says with the daemon on `socket` (its usual place by default).
pub fn run(command: &Command, socket: Option<&Path>, json: bool) -> Exit {
    let socket = socket.map_or_else(control::socket::default_path, Path::to_owned);
    // before anything can be interrupted
    let interrupts = Interrupts::of_process();
    run_on(command, &socket, &mut Console::of_process(json), &interrupts)
}

/// The same on a console of the caller's choice.
pub fn run_on(command: &Command, socket: &Path, console: &mut Console<'_>, interrupts: &Interrupts) -> Exit {
    let outcome = match command {
        Command::Call(args) => start::call(args, socket, console, interrupts),
        Command::Answer(args) => start::answer(args, socket, console, interrupts),
        Command::Ps => ps::run(socket, console),
        Command::Watch => watch::run(socket, console, interrupts),
        Command::Hangup(args) => keys::hangup(args, socket, console),
        Command::Dtmf(args) => keys::dtmf(args, socket, console),
        Command::Hold(args) => keys::hold(args, socket, console, true),
        Command::Resume(args) => keys::hold(args, socket, console, false),
        Command::Transfer(args) => keys::transfer(args, socket, console, interrupts),
        Command::Bridge(args) => keys::bridge(args, socket, console),
        Command::Unbridge(args) => keys::unbridge(args, socket, console),
        Command::Trace(args) => trace::run(args, socket, console),
        Command::Bans => bans::list(socket, console),
        Command::Unban(args) => bans::unban(args, socket, console),
    };
    outcome.unwrap_or_else(|failure| failure.tell(console))
}

fn connect(socket: &Path, events: EventFilter) -> Result<Client, Failure> {
    let hello = Hello { client: "mr-sip".into(), events, ..Hello::default() };
    Ok(Client::connect(socket, hello)?)
}
