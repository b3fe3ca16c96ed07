//! `mr-sip config`: show, check, find and create the configuration.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::config::presets::{Facts, Preset};
use crate::config::{self, Config, process_environment};
use crate::exit::Exit;

/// What `mr-sip config` can do.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration in force: file and environment together, secrets as stars
    Show,
    /// Check the configuration and say what is wrong
    Check,
    /// Print which file is read
    Path,
    /// List the providers and PBXs that are known, what each preset sets and which keys it still needs
    Presets,
    /// Write the commented example file
    Init {
        /// Where to; default: the user's own configuration file
        file: Option<PathBuf>,
    },
}

/// Runs it. Results go to stdout, `json` makes them machine-readable.
pub fn run(command: &ConfigCommand, named: Option<&Path>, json: bool) -> Exit {
    match command {
        ConfigCommand::Init { file } => init(file.as_deref().or(named), json),
        ConfigCommand::Presets => presets(json),
        ConfigCommand::Path => {
            let path = config::find(named, &process_environment);
            if json {
                println!("{}", json!({ "path": path }));
            } else {
                match path {
                    Some(path) => println!("{}", path.display()),
                    None => eprintln!("no configuration file; the defaults apply. `mr-sip config init` writes one"),
                }
            }
            Exit::Ok
        }
        ConfigCommand::Check | ConfigCommand::Show => match Config::load(named, &process_environment) {
            Ok((config, path)) => {
                let shown = matches!(command, ConfigCommand::Show);
                match (shown, json) {
                    (true, true) => println!("{}", json!({ "path": path, "config": config })),
                    (true, false) => match toml::to_string_pretty(&config) {
                        Ok(text) => print!("{text}"),
                        Err(error) => {
                            eprintln!("mr-sip: the configuration cannot be shown as TOML: {error}");
                            return Exit::Error;
                        }
                    },
                    (false, true) => println!("{}", json!({ "path": path, "ok": true })),
                    (false, false) => println!(
                        "{}: good",
                        path.map_or_else(|| "defaults and environment".into(), |path| path.display().to_string())
                    ),
                }
                Exit::Ok
            }
            Err(error) => {
                if json {
                    println!("{}", json!({ "ok": false, "error": error.to_string() }));
                }
                eprintln!("mr-sip: {error}");
                Exit::Config
            }
        },
    }
}

fn presets(json: bool) -> Exit {
    let text = |facts| if json { format!("{}\n", facts_json(facts)) } else { facts_text(facts) };
    let all: String = Preset::ALL.map(Preset::facts).into_iter().map(text).collect();
    match std::io::stdout().write_all(all.as_bytes()) {
        // `mr-sip config presets | head` is no failure
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("mr-sip: cannot write: {error}");
            Exit::Error
        }
        _ => Exit::Ok,
    }
}

fn facts_json(facts: &Facts) -> Value {
    let needs: Map<String, Value> =
        facts.needs.iter().map(|(key, what)| ((*key).to_owned(), Value::from(*what))).collect();
    json!({
        "preset": facts.name,
        "for": facts.title,
        "sets": facts.sets(),
        "needs": needs,
        "notes": facts.notes,
    })
}

fn facts_text(facts: &Facts) -> String {
    let mut text = format!("{}: {}\n", facts.name, facts.title);
    let sets: Vec<String> = facts.sets().iter().map(|(key, value)| format!("{key} = {value}")).collect();
    text += &format!("  sets   {}\n", sets.join(", ").replace("\",\"", "\", \""));
    for (key, what) in facts.needs {
        text += &format!("  needs  {key}: {what}\n");
    }
    for note in facts.notes {
        text += &format!("  note   {note}\n");
    }
    text + "\n"
}

fn init(file: Option<&Path>, json: bool) -> Exit {
    let Some(path) = file.map(Path::to_owned).or_else(|| config::user_path(&process_environment)) else {
        eprintln!("mr-sip: HOME is not set; name the file: mr-sip config init FILE");
        return Exit::Usage;
    };
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        // 0600 from the start: the file is made to hold a password
        .and_then(|()| std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path))
        .and_then(|mut file| file.write_all(config::EXAMPLE.as_bytes()));
    match written {
        Ok(()) => {
            if json {
                println!("{}", json!({ "path": path }));
            } else {
                println!("{}", path.display());
            }
            Exit::Ok
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            eprintln!("mr-sip: {} is there already and was left as it is", path.display());
            Exit::Config
        }
        Err(error) => {
            eprintln!("mr-sip: cannot write {}: {error}", path.display());
            Exit::Config
        }
    }
}
