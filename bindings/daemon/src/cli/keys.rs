//! `mr-sip hangup`, `dtmf`, `hold`, `resume`, `transfer`, `bridge` and `unbridge`: what a person at the terminal does to any call, whoever owns it.

use std::path::Path;
use std::time::{Duration, Instant};

use control::client::Message;
use control::types::{
    BridgeMode, CallBridge, CallDtmf, CallGet, CallHangup, CallHold, CallResume, CallState, CallTransfer, CallUnbridge,
    Event, EventFilter, Hold, TransferState,
};
use serde_json::json;

use super::console::{Console, Interrupts};
use super::describe;
use super::failure::Failure;
use super::{BridgeArgs, DtmfArgs, HangupArgs, TransferArgs, WhichArgs, connect};
use crate::exit::Exit;

/// 64*T1, after which signaling gives an offer up, and a little.
const ANSWER_PATIENCE: Duration = Duration::from_secs(40);
/// How often the keyboard is looked at.
const LOOK: Duration = Duration::from_millis(100);

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

/// `on`: hold, else resume. Waits for what the far end says to it.
pub(super) fn hold(args: &WhichArgs, socket: &Path, console: &mut Console<'_>, on: bool) -> Result<Exit, Failure> {
    let mut client = connect(socket, EventFilter::All)?;
    let call = args.call;
    if on {
        client.request(&CallHold { call, force: true })?;
    } else {
        client.request(&CallResume { call, force: true })?;
    }
    let ours = |hold: Option<Hold>| matches!(hold, Some(Hold::Us | Hold::Both));
    let mut hold = client.request(&CallGet { call })?.hold;
    let deadline = Instant::now() + ANSWER_PATIENCE;
    while ours(hold) != on {
        match client.next_message(deadline)? {
            Some(Message::Event(told)) => match told.event {
                Event::CallHeld { call: held, hold: now } if held == call => hold = now,
                Event::CallReoffer { call: changed, ours: true, accepted: false, reason, .. } if changed == call => {
                    let reason = reason.unwrap_or_default();
                    return Err(Failure::new(Exit::Declined, format!("the far end did not take it: {reason}")));
                }
                Event::CallState { call: ended, state: CallState::Ended, .. } if ended == call => {
                    return Err(Failure::new(Exit::Declined, format!("{call} has ended")));
                }
                _ => {}
            },
            Some(_) => {}
            None => return Err(Failure::new(Exit::NoAnswer, "the far end did not answer to it")),
        }
    }
    let text = if on { format!("{call} is on hold") } else { format!("{call} is not held by us any more") };
    done(console, json!({ "call": call, "hold": hold }), &text)
}

/// Blind to a destination, attended to another call; waits for how it ends.
pub(super) fn transfer(
    args: &TransferArgs,
    socket: &Path,
    console: &mut Console<'_>,
    interrupts: &Interrupts,
) -> Result<Exit, Failure> {
    let mut client = connect(socket, EventFilter::All)?;
    // c7 is a call; a number that is dialled never begins with a letter and goes on in digits
    let other_call = args.to.starts_with('c').then(|| args.to.parse().ok()).flatten();
    let to = other_call.is_none().then(|| args.to.clone());
    client.request(&CallTransfer { call: args.call, to, other_call, force: true })?;
    while !interrupts.take() {
        let Some(Message::Event(told)) = client.next_message(Instant::now() + LOOK)? else { continue };
        match told.event {
            Event::CallTransfer { call, state: TransferState::Accepted, .. } if call == args.call => {
                return done(console, json!({ "call": call, "to": args.to }), &format!("{call} is transferred"));
            }
            Event::CallTransfer { call, state: TransferState::Failed, reason, .. } if call == args.call => {
                let reason = reason.unwrap_or_default();
                return Err(Failure::new(Exit::Declined, format!("the transfer failed: {reason}")));
            }
            Event::CallState { call, state: CallState::Ended, cause, .. } if call == args.call => {
                let cause = cause.map_or("ended", |cause| cause.as_str());
                return match cause {
                    "transferred" => {
                        done(console, json!({ "call": call, "to": args.to }), &format!("{call} is transferred"))
                    }
                    other => Err(Failure::new(Exit::Declined, format!("{call} ended: {other}"))),
                };
            }
            ref event @ Event::CallTransfer { call, .. } if call == args.call => {
                if let Some(line) = describe::event(event).line(console.err_look()) {
                    console.note(&line)?;
                }
            }
            _ => {}
        }
    }
    // the transfer goes on without us
    Ok(Exit::Ok)
}

/// Who hears whom is said by the flags.
pub(super) fn bridge(args: &BridgeArgs, socket: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let (call, other_call) = (args.call, args.other_call);
    let (mode, text) = match (args.listen, args.whisper) {
        (true, _) => (BridgeMode::Listen, format!("{other_call} listens to {call}")),
        (_, true) => (BridgeMode::Whisper, format!("{other_call} listens to {call} and whispers to its far end")),
        _ => (BridgeMode::Talk, format!("{call} and {other_call} hear each other")),
    };
    connect(socket, EventFilter::None)?.request(&CallBridge { call, other_call, mode, force: true })?;
    done(console, json!({ "call": call, "other_call": other_call, "mode": mode }), &text)
}

/// All bridges of the call.
pub(super) fn unbridge(args: &WhichArgs, socket: &Path, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let call = args.call;
    connect(socket, EventFilter::None)?.request(&CallUnbridge { call, other_call: None, force: true })?;
    done(console, json!({ "call": call }), &format!("{call} hears no other call any more"))
}

fn done(console: &mut Console<'_>, result: serde_json::Value, text: &str) -> Result<Exit, Failure> {
    if console.json() {
        console.json_line(&result)?;
    } else {
        console.note(text)?;
    }
    Ok(Exit::Ok)
}
