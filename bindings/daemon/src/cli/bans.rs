//! `mr-sip bans` and `mr-sip unban`: who is not heard for a while.

use std::path::Path;

use control::types::{EventFilter, SipBans, SipUnban};
use serde_json::json;

use super::console::{Console, clean};
use super::describe::clock;
use super::failure::Failure;
use super::{UnbanArgs, connect};
use crate::exit::Exit;

pub(super) fn list(socket: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let reply = connect(socket, EventFilter::None)?.request(&SipBans {})?;
    if console.json() {
        console.json_line(&reply)?;
    } else if reply.bans.is_empty() {
        console.note("nobody is banned")?;
    } else {
        console.line(&format!("{:<39}  {:>8}  {:>5}  WHY", "ADDRESS", "LEFT", "TIMES"))?;
        for ban in &reply.bans {
            let left = clock(ban.left_s.saturating_mul(1000));
            console.line(&format!(
                "{:<39}  {left:>8}  {:>5}  {}",
                ban.address.to_string(),
                ban.count,
                clean(&ban.reason)
            ))?;
        }
    }
    Ok(Exit::Ok)
}

pub(super) fn unban(args: &UnbanArgs, socket: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    connect(socket, EventFilter::None)?.request(&SipUnban { address: args.address })?;
    if console.json() {
        console.json_line(&json!({ "address": args.address }))?;
    } else {
        console.note(&format!("{} is heard again", args.address))?;
    }
    Ok(Exit::Ok)
}
