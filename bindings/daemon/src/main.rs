//! `mr-sip`: an AI agent's telephone.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mr_sip::config::{Config, process_environment};
use mr_sip::config_command::ConfigCommand;
use mr_sip::exit::Exit;
use mr_sip::{cli, config_command, demo, doctor, models_command, serve};

/// Counts what a real-time thread must never do; see `daemon.status`.
#[global_allocator]
static ALLOCATOR: engine::realtime::GuardedAllocator = engine::realtime::GuardedAllocator;

/// An AI agent's telephone: SIP, real-time audio, Whisper ears, driven over a Unix socket.
#[derive(Debug, Parser)]
#[command(name = "mr-sip", version, after_help = EXIT_CODES)]
struct Arguments {
    /// Configuration file; else $MR_SIP_CONFIG, ~/.config/mr-sip/config.toml, /etc/mr-sip/config.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Results as JSON on stdout
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 error, 2 usage, 3 configuration, 10 busy, 11 no answer, 12 credentials \
refused, 13 media, 14 network, 15 declined or not found, 20 the daemon is not running.\n\nLogging: RUST_LOG=info (or \
debug, or mr_sip_signaling=debug).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve,
    /// A whole call on this machine: jackd, the daemon, a caller; judged at its end
    Demo(demo::DemoArgs),
    /// Check this machine and the configuration; every finding comes with its fix
    Doctor(doctor::DoctorArgs),
    /// Show, check or create the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the control protocol as JSON Schema: every method, event and error
    Api,
    /// List the speech models that are there: which can be used, and which one is
    Models,
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let default_level = if matches!(arguments.command, Command::Serve) { "info" } else { "warn" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default_level)).init();
    let exit = match &arguments.command {
        Command::Config(command) => config_command::run(command, arguments.config.as_deref(), arguments.json),
        Command::Demo(options) => demo::run(options, arguments.json),
        Command::Doctor(options) => doctor::run(options, arguments.config.as_deref(), arguments.json),
        Command::Serve => with_config(&arguments, |config| match serve::run(config) {
            Ok(()) => Exit::Ok,
            Err(error) => {
                eprintln!("mr-sip: {error}");
                error.exit()
            }
        }),
        Command::Api => api(),
        Command::Models => with_config(&arguments, |config| models_command::run(&config, arguments.json)),
        Command::Client(command) => {
            with_config(&arguments, |config| cli::run(command, config.control.socket.as_deref(), arguments.json))
        }
    };
    exit.into()
}

/// Needs neither a configuration nor a daemon.
fn api() -> Exit {
    let mut schema = control::types::protocol_schema();
    schema["version"] = env!("CARGO_PKG_VERSION").into();
    // a pipe that is closed early (`mr-sip api | head`) is no error
    match writeln!(std::io::stdout().lock(), "{schema:#}") {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => {
            eprintln!("mr-sip: {error}");
            Exit::Error
        }
    }
}

fn with_config(arguments: &Arguments, run: impl FnOnce(Config) -> Exit) -> Exit {
    match Config::load(arguments.config.as_deref(), &process_environment) {
        Ok((config, _)) => run(config),
        Err(error) => {
            eprintln!("mr-sip: {error}");
            Exit::Config
        }
    }
}
