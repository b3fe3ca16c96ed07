//! `mr-sip trace`: the SIP messages of a call, as arrows, whole, or as a file for Wireshark.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::types::{CallTrace, EventFilter, TraceFormat, TraceReply};
use serde_json::json;

use super::console::{Console, clean};
use super::failure::Failure;
use super::{TraceArgs, connect};
use crate::exit::Exit;

pub(super) fn run(args: &TraceArgs, socket: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let format = match (&args.pcap, args.messages || (console.json() && !args.ladder)) {
        (Some(_), _) => TraceFormat::Pcap,
        (None, true) => TraceFormat::Json,
        (None, false) => TraceFormat::Ladder,
    };
    let reply = connect(socket, EventFilter::None)?.request(&CallTrace { call: args.call, format })?;
    match &args.pcap {
        Some(path) => save(&reply, path, console)?,
        None if console.json() => console.json_line(&reply)?,
        None => {
            // a line is cleaned as whatever comes from the network, and stays a line
            for line in reply.ladder.iter().flat_map(|ladder| ladder.lines()) {
                console.line(&clean(line))?;
            }
            for message in reply.messages.iter().flatten() {
                let (way, seconds) = (if message.sent { "to" } else { "from" }, message.at_ms as f64 / 1000.0);
                console.line(&format!(
                    "{seconds:.3}  {way} {} ({})",
                    clean(&message.remote),
                    clean(&message.transport)
                ))?;
                for line in message.text.lines() {
                    console.line(&format!("    {}", clean(line)))?;
                }
            }
        }
    }
    Ok(Exit::Ok)
}

fn save(reply: &TraceReply, path: &Path, console: &mut Console<'_>) -> Result<(), Failure> {
    let text = reply.pcap.as_deref().unwrap_or_default();
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| Failure::new(Exit::Error, format!("the daemon's capture file cannot be read: {error}")))?;
    if path == Path::new("-") {
        return Ok(std::io::stdout().write_all(&bytes)?);
    }
    std::fs::write(path, &bytes)
        .map_err(|error| Failure::new(Exit::Error, format!("cannot write {}: {error}", path.display())))?;
    if console.json() {
        console.json_line(&json!({ "call": reply.call, "pcap": path }))?;
    } else {
        console.note(&format!("{} ({} bytes)", path.display(), bytes.len()))?;
    }
    Ok(())
}
