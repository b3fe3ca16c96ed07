//! `mr-sip call` and `mr-sip answer`.

use std::path::Path;
use std::time::{Duration, Instant};

use control::Client;
use control::client::Message;
use control::types::{CallAnswer, CallDial, CallId, CallState, Event, EventFilter};

use super::console::{Console, Interrupts};
use super::failure::Failure;
use super::live::{follow, prepare};
use super::{AnswerArgs, CallArgs, connect};
use crate::exit::Exit;

pub(super) fn call(
    args: &CallArgs,
    socket: &Path,
    console: &mut Console<'_>,
    interrupts: &Interrupts,
) -> Result<Exit, Failure> {
    let clip = prepare(&args.talk)?;
    let mut client = connect(socket, EventFilter::Own)?;
    let dialled = client.request(&CallDial {
        to: args.dest.clone(),
        account: args.account.clone(),
        timeout_ms: args.ring.map(|seconds| seconds * 1000),
        record: args.record.then_some(true),
        display_name: args.display_name.clone(),
        headers: args.headers.iter().cloned().collect(),
        privacy: args.privacy,
        ..CallDial::default()
    })?;
    follow(&mut client, console, interrupts, dialled.call, &args.talk, clip)
}

pub(super) fn answer(
    args: &AnswerArgs,
    socket: &Path,
    console: &mut Console<'_>,
    interrupts: &Interrupts,
) -> Result<Exit, Failure> {
    let clip = prepare(&args.talk)?;
    let mut client = connect(socket, EventFilter::Own)?;
    let call = match args.call {
        Some(call) => call,
        None => match ringing(&mut client, console, interrupts)? {
            Some(call) => call,
            None => return Ok(Exit::NoAnswer),
        },
    };
    client.request(&CallAnswer { call })?;
    follow(&mut client, console, interrupts, call, &args.talk, clip)
}

/// The call that has been ringing for longest, else the next one; `None` when the user does not want to wait any more.
fn ringing(client: &mut Client, console: &mut Console<'_>, interrupts: &Interrupts) -> Result<Option<CallId>, Failure> {
    let calls = client.calls()?;
    let waiting = calls.iter().filter(|call| call.state == CallState::Incoming).min_by_key(|call| call.started_unix_ms);
    if let Some(call) = waiting {
        return Ok(Some(call.call));
    }
    console.note("nobody calls yet; waiting")?;
    while !interrupts.take() {
        let message = client.next_message(Instant::now() + Duration::from_millis(100))?;
        if let Some(Message::Event(notification)) = message
            && let Event::CallIncoming { call, .. } = notification.event
        {
            return Ok(Some(call));
        }
    }
    Ok(None)
}
