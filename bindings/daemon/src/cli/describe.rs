//! Events in words: a ladder with the far end on the left and us on the right.

use control::types::{
    Account, AccountState, Announcement, AnsweredBy, BridgeMode, Call, CallState, Direction, Event, Hold, JackState,
    MediaState, Speaker, Tone, TransferState,
};

use super::console::{Look, clean};

/// What one event looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// A line of its own, in a colour (SGR).
    Line(&'static str, String),
    /// What is being said, until the next one.
    Passing(String),
    /// Nothing: bookkeeping.
    Nothing,
}

impl Shown {
    /// The line, painted, if it is one.
    pub(super) fn line(self, look: Look) -> Option<String> {
        match self {
            Self::Line(colour, text) => Some(look.paint(colour, &text)),
            Self::Passing(_) | Self::Nothing => None,
        }
    }
}

const STATE: &str = "36";
const CALLER: &str = "33";
const AGENT: &str = "32";
const KEY: &str = "34";
const ALARM: &str = "31";
const PLAIN: &str = "";

fn tone_words(tone: Tone) -> &'static str {
    match tone {
        Tone::Ringback => "it rings",
        Tone::Busy => "busy tone",
        Tone::Congestion => "no way through (congestion tone)",
        Tone::Sit => "the number cannot be reached (three rising tones)",
        Tone::Dial => "dial tone",
        Tone::Fax => "a fax",
        Tone::Beep => "the beep of an answering machine",
        Tone::Other => "a tone",
    }
}

pub(super) fn event(event: &Event) -> Shown {
    match event {
        Event::CallIncoming { from, to, display_name, .. } => {
            let name = display_name.as_deref().map_or_else(String::new, |name| format!("\"{}\" ", clean(name)));
            Shown::Line(STATE, format!("──▶ {name}{} calls {}", clean(from), clean(to)))
        }
        Event::CallState { state, direction, from, to, status, cause, reason, .. } => {
            // a good one says nothing about an end
            let status = status.filter(|status| *status >= 300 || *state != CallState::Ended);
            let status = status.map_or_else(String::new, |status| format!(" {status}"));
            match (state, direction) {
                (CallState::Dialing, _) => Shown::Line(STATE, format!("◀── calling {}", clean(to))),
                (CallState::Ringing, Direction::Out) => Shown::Line(STATE, format!("──▶ it rings{status}")),
                (CallState::Ringing | CallState::Incoming, _) => {
                    Shown::Line(STATE, format!("──▶ {} rings", clean(from)))
                }
                (CallState::Early, _) => Shown::Line(STATE, format!("──▶ early media{status}")),
                (CallState::Answered, Direction::Out) => Shown::Line(STATE, "──▶ answered".into()),
                (CallState::Answered, Direction::In) => Shown::Line(STATE, "◀── answered".into()),
                (CallState::Ended, _) => {
                    let cause = cause.map_or("ended", |cause| cause.as_str());
                    let reason = reason.as_deref().filter(|reason| !reason.is_empty());
                    let reason = reason.map_or_else(String::new, |reason| format!(": {}", clean(reason)));
                    Shown::Line(STATE, format!("─── {}{status}{reason}", cause.replace('_', " ")))
                }
            }
        }
        Event::CallDtmf { digit, duration_ms, .. } => Shown::Line(KEY, format!("──▶ key {digit} ({duration_ms} ms)")),
        Event::CallMedia { state: MediaState::Lost, detail, .. } => {
            Shown::Line(ALARM, detail.as_deref().map_or_else(|| "no audio arrives".into(), clean))
        }
        Event::CallMedia { state: MediaState::OneWay, detail, .. } => {
            Shown::Line(ALARM, detail.as_deref().map_or_else(|| "audio goes one way only".into(), clean))
        }
        Event::CallTone { tone, confidence, .. } => {
            Shown::Line(STATE, format!("──▶ {} ({:.0} % sure)", tone_words(*tone), confidence * 100.0))
        }
        Event::CallAnsweredBy { by, confidence, after_ms, .. } => {
            let who = match by {
                AnsweredBy::Person => "a person answered",
                AnsweredBy::Machine => "a machine answered",
                AnsweredBy::Unknown => "nobody says a word",
            };
            Shown::Line(STATE, format!("──▶ {who} ({:.0} % sure, after {})", confidence * 100.0, seconds(*after_ms)))
        }
        Event::CallMusic { playing, confidence, .. } => {
            let what = if *playing { "music plays" } else { "the music is over" };
            Shown::Line(STATE, format!("──▶ {what} ({:.0} % sure)", confidence * 100.0))
        }
        Event::CallAnnouncement { kind, confidence, .. } => {
            let what = match kind {
                Announcement::Voicemail => "a voicemail's greeting",
                Announcement::Hold => "a queue, or \"please hold\"",
            };
            Shown::Line(STATE, format!("──▶ {what} ({:.0} % sure)", confidence * 100.0))
        }
        Event::CallMedia { state: MediaState::Found, .. } => Shown::Line(STATE, "audio arrives again".into()),
        Event::SpeechStart { .. } => Shown::Passing("…".into()),
        Event::TranscriptPartial { text, .. } | Event::TranscriptEager { text, .. } => Shown::Passing(clean(text)),
        // a noise that was taken for speech, and in which nothing was understood
        Event::TranscriptFinal { text, .. } if text.is_empty() => Shown::Nothing,
        Event::TranscriptFinal { text, latency_ms, .. } => {
            Shown::Line(CALLER, format!("──▶ \"{}\"  ({latency_ms} ms)", clean(text)))
        }
        Event::ResponseFinished { played_ms, interrupted, .. } => {
            let how = if *interrupted { "was cut short" } else { "spoke" };
            Shown::Line(AGENT, format!("◀── the agent {how} ({})", seconds(*played_ms)))
        }
        Event::CallHeld { hold, .. } => Shown::Line(
            STATE,
            match hold {
                Some(Hold::Us) => "◀── on hold".into(),
                Some(Hold::FarEnd) => "──▶ we are on hold".into(),
                Some(Hold::Both) => "─── on hold from both ends".into(),
                None => "─── not on hold any more".into(),
            },
        ),
        Event::CallReoffer { accepted: false, ours: true, status, reason, .. } => {
            let status = status.map_or_else(String::new, |status| format!(" {status}"));
            let reason = reason.as_deref().map_or_else(String::new, |reason| format!(": {}", clean(reason)));
            Shown::Line(ALARM, format!("──▶ the change was refused{status}{reason}"))
        }
        Event::CallTransfer { state, to, referred_by, new_call, status, reason, .. } => {
            let to = to.as_deref().map_or_else(|| "somebody else".to_owned(), clean);
            let why = reason.as_deref().map_or_else(String::new, |reason| format!(": {}", clean(reason)));
            let status = status.map_or_else(String::new, |status| format!(" {status}"));
            match state {
                TransferState::Requested => {
                    let by = referred_by.as_deref().map_or_else(String::new, |by| format!(", by {}", clean(by)));
                    Shown::Line(STATE, format!("──▶ asks us to call {to} instead{by}"))
                }
                TransferState::Calling => {
                    let by = new_call.map_or_else(String::new, |call| format!(" by {call}"));
                    Shown::Line(STATE, format!("◀── we call {to} instead{by}"))
                }
                TransferState::Progress => Shown::Line(STATE, format!("──▶ transfer{status}{why}")),
                TransferState::Accepted => Shown::Line(STATE, "──▶ transferred".into()),
                TransferState::Failed => Shown::Line(ALARM, format!("──▶ the transfer failed{status}{why}")),
            }
        }
        Event::CallBridged { other_call, mode, .. } => Shown::Line(
            STATE,
            match mode {
                Some(BridgeMode::Talk) => format!("◀─▶ bridged with {other_call}"),
                Some(BridgeMode::Listen) => format!("──▶ {other_call} listens"),
                Some(BridgeMode::Whisper) => format!("◀── {other_call} listens and whispers"),
                None => format!("─── not bridged with {other_call} any more"),
            },
        ),
        Event::AccountState { account, state, reason, expires_s, retry_s, seen_as } => account_line(&Account {
            reason: reason.clone(),
            expires_s: *expires_s,
            retry_s: *retry_s,
            seen_as: seen_as.clone(),
            ..Account::new(account, *state)
        }),
        Event::JackState { state: JackState::Lost } => {
            Shown::Line(ALARM, "JACK: the server is gone, calls run direct".into())
        }
        Event::JackState { state: JackState::Running } => Shown::Line(STATE, "JACK: running".into()),
        Event::JackState { state: JackState::Off } => Shown::Line(STATE, "JACK: off".into()),
        Event::JackXruns { count, total } => {
            Shown::Line(ALARM, format!("JACK: {count} periods were missed, {total} in all"))
        }
        Event::DaemonWarning { text } => Shown::Line(ALARM, format!("warning: {}", clean(text))),
        // the summary is for those who ask for it; the rest is bookkeeping or newer than this program
        _ => Shown::Nothing,
    }
}

fn account_line(account: &Account) -> Shown {
    let name = clean(&account.account);
    let reason = account.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", clean(reason)));
    match account.state {
        AccountState::Registered => {
            let seen = account.seen_as.as_deref().map_or_else(String::new, |seen| format!(", seen as {}", clean(seen)));
            Shown::Line(STATE, format!("account {name}: registered{seen}"))
        }
        AccountState::Unregistered => Shown::Line(STATE, format!("account {name}: not registered")),
        AccountState::Reachable => Shown::Line(STATE, format!("account {name}: reachable")),
        AccountState::Unreachable => Shown::Line(ALARM, format!("account {name}: does not answer{reason}")),
        AccountState::Failed => {
            let retry = account.retry_s.map_or_else(String::new, |retry| format!("; next try in {retry} s"));
            Shown::Line(ALARM, format!("account {name}: registration failed{reason}{retry}"))
        }
    }
}

/// Who is at the other end.
pub(super) fn far_end(call: &Call) -> String {
    clean(if call.direction == Direction::In { &call.from } else { &call.to })
}

/// What its audio is, in one word: `PCMU`, `OPUS+srtp`.
pub(super) fn codec(call: &Call) -> String {
    let codec = call.codec.as_deref().map_or_else(|| "audio".to_owned(), clean);
    if call.srtp.is_some() { codec + "+srtp" } else { codec }
}

/// A call that is over: how, how long, what was said, what its audio went through.
pub(super) fn summary(call: &Call, look: Look) -> Vec<String> {
    let cause = call.cause.map_or("ended", |cause| cause.as_str()).replace('_', " ");
    let reason = call.reason.as_deref().filter(|reason| !reason.is_empty());
    let reason = reason.map_or_else(String::new, |reason| format!(" ({})", clean(reason)));
    let mut lines =
        vec![format!("{} with {}: {cause}{reason}, {}", call.call, far_end(call), seconds(call.duration_ms))];
    for line in call.transcript.iter().flatten() {
        let (who, colour) = match line.who {
            Speaker::Caller => ("caller", CALLER),
            Speaker::Agent => ("agent ", AGENT),
        };
        let text = line.text.as_deref().map_or_else(|| "(audio)".to_owned(), clean);
        lines.push(look.paint(colour, &format!("{:>8.2}  {who}  {text}", line.start_ms as f64 / 1000.0)));
    }
    if let Some(stats) = &call.stats {
        let codec = codec(call);
        lines.push(look.paint(
            PLAIN,
            &format!(
                "{}: {} packets, {} lost, {} late, {} concealed, jitter {:.1} ms",
                codec, stats.received, stats.lost, stats.late, stats.concealed, stats.jitter_ms
            ),
        ));
    }
    if let Some(recording) = &call.recording {
        lines.push(format!("recording: {}", clean(recording)));
    }
    lines
}

pub(super) fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

/// `m:ss` or `h:mm:ss`.
pub(super) fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use control::types::{CallId, Cause};

    use super::*;

    #[test]
    fn an_end_tells_status_cause_and_reason() {
        let ended = Event::CallState {
            call: CallId(1),
            state: CallState::Ended,
            direction: Direction::Out,
            from: "a".into(),
            to: "b".into(),
            status: Some(486),
            cause: Some(Cause::Busy),
            reason: Some("Busy\x1b[2J".into()),
        };
        assert_eq!(event(&ended), Shown::Line(STATE, "─── busy 486: Busy\u{fffd}[2J".into()));
    }

    #[test]
    fn clocks_are_read_at_a_glance() {
        assert_eq!(clock(0), "0:00");
        assert_eq!(clock(61_999), "1:01");
        assert_eq!(clock(3_661_000), "1:01:01");
    }
}
