//! `--call NUMBER`: a real call through the running daemon, on which a tone is sent and what comes back is measured.

use std::f32::consts::TAU;
use std::time::{Duration, Instant};

use control::client::Message;
use control::types::{
    Call, CallDial, CallHangup, CallId, CallState, Encoding, Event, EventFilter, Hello, ResponseEnd, ResponseStart,
};
use control::{Client, ControlError};

use super::{Health, Report};
use crate::config::Config;

/// A person may have to pick up.
const ANSWER_LIMIT: Duration = Duration::from_secs(45);
/// How long the tone is sent, and how long the call lasts.
const TONE_S: usize = 4;
const CALL: Duration = Duration::from_secs(6);
const RATE: usize = 8000;
/// ITU-T's test frequency, off the round 1 kHz so that it falls on no code's boundary.
const TONE_HZ: f32 = 1004.0;
/// Packets of 20 ms that should come in so long a call, less a good part.
const ENOUGH: u64 = 100;

/// Calls, and tells what came back.
pub(super) fn call(config: &Config, running: bool, number: &str, account: Option<&str>, report: &mut Report) {
    if !running {
        return report.add("echo call", Health::Bad, "needs the daemon: start it with mr-sip serve, then try again");
    }
    match measured(config, number, account) {
        Ok(call) => {
            let (health, text) = judge(&call);
            report.add("echo call", health, format!("{number}: {text}"));
        }
        Err(error) => report.add("echo call", Health::Bad, format!("{number}: {error}")),
    }
}

/// Dials, speaks, hangs up, and gives the call's summary.
fn measured(config: &Config, number: &str, account: Option<&str>) -> Result<Call, ControlError> {
    let socket = config.control.socket.clone().unwrap_or_else(control::socket::default_path);
    let hello = Hello { client: "doctor".into(), events: EventFilter::Own, ..Hello::default() };
    let mut client = Client::connect(&socket, hello)?;
    let dial = CallDial {
        to: number.to_owned(),
        account: account.map(str::to_owned),
        timeout_ms: Some(ANSWER_LIMIT.as_millis() as u64),
        record: Some(false),
        ..CallDial::default()
    };
    let call = client.request(&dial)?.call;
    let mut hang_up_at = None;
    let mut give_up_at = Instant::now() + ANSWER_LIMIT + CALL + CALL;
    loop {
        let now = Instant::now();
        if hang_up_at.is_some_and(|at| now >= at) {
            hang_up_at = None;
            client.request(&CallHangup::new(call))?;
            give_up_at = now + ANSWER_LIMIT;
        }
        match client.next_message(hang_up_at.unwrap_or(give_up_at))? {
            Some(Message::Event(told)) => match told.event {
                Event::CallState { call: of, state: CallState::Answered, .. } if of == call => {
                    speak(&mut client, call)?;
                    hang_up_at = Some(Instant::now() + CALL);
                }
                Event::CallSummary(summary) if summary.call == call => return Ok(*summary),
                _ => {}
            },
            Some(_) => {}
            None if now >= give_up_at => return Err(ControlError::Closed),
            None => {}
        }
    }
}

fn speak(client: &mut Client, call: CallId) -> Result<(), ControlError> {
    let reply = client.request(&ResponseStart::new(call))?;
    let sample = |n: usize| ((n as f32 * TONE_HZ * TAU / RATE as f32).sin() * 8000.0) as i16;
    let samples: Vec<u8> = (0..TONE_S * RATE).flat_map(|n| sample(n).to_le_bytes()).collect();
    client.send_audio(reply.channel, Encoding::S16, reply.generation, 0, &samples)?;
    client.request(&ResponseEnd { call, response: reply.response })?;
    Ok(())
}

/// What the packets of a call tell.
fn judge(call: &Call) -> (Health, String) {
    let Some(stats) = call.stats.as_ref().filter(|_| call.answered_unix_ms.is_some()) else {
        let cause = call.cause.map_or("ended", |cause| cause.as_str());
        let reason = call.reason.as_deref().unwrap_or_default();
        return (Health::Bad, format!("was not answered: {cause} {reason}"));
    };
    let counted = format!(
        "{} packets came, {} went, {} lost, jitter {:.1} ms",
        stats.received, stats.sent, stats.lost, stats.jitter_ms
    );
    if stats.received == 0 && stats.foreign_packets > 0 {
        return (Health::Bad, format!("audio comes from an address that the far end did not name ({counted})"));
    }
    if stats.received == 0 {
        let fix = "the far end sends to an address that is not ours, or a firewall stops it: set sip.public_address or \
                   sip.stun_server, and let UDP media.rtp_ports through";
        return (Health::Bad, format!("no audio came back ({counted}); {fix}"));
    }
    if stats.received < ENOUGH {
        return (Health::Weak, format!("audio came back for a part of the call only ({counted})"));
    }
    let loss = stats.lost as f64 / (stats.received + stats.lost) as f64;
    if loss > 0.02 {
        return (Health::Weak, format!("audio comes and goes, with losses of {:.1} % ({counted})", loss * 100.0));
    }
    (Health::Good, format!("audio comes and goes ({counted})"))
}
