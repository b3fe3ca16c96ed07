//! `mr-sip hangup` and `mr-sip dtmf`: what a person at the terminal does to any call, whoever owns it.

use std::path::Path;

use control::types::{CallDtmf, CallHangup, EventFilter};
use serde_json::json;

use super::console::Console;
use super::failure::Failure;
use super::{DtmfArgs, HangupArgs, connect};
use crate::exit::Exit;

pub(super) fn hangup(args: &HangupArgs, socket: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    connect(socket, EventFilter::None)?.request(&CallHangup { call: args.call, force: true })?;
    done(console, json!({ "call": args.call }), &format!("{} is being hung up", args.call))
}

pub(super) fn dtmf(args: &DtmfArgs, socket: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let request = CallDtmf { force: true, ..CallDtmf::new(args.call, args.digits.clone()) };
    connect(socket, EventFilter::None)?.request(&request)?;
    done(
        console,
        json!({ "call": args.call, "digits": args.digits }),
        &format!("{} is sent {}", args.call, args.digits),
    )
}

fn done(console: &mut Console<'_>, result: serde_json::Value, text: &str) -> Result<Exit, Failure> {
    if console.json() {
        console.json_line(&result)?;
    } else {
        console.note(text)?;
    }
    Ok(Exit::Ok)
}
