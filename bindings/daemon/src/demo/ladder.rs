//! The demo's view of a call: one line an event, caller on the left, agent on the right, time since the call began.
//!
//! On a terminal a partial caption is redrawn in place and colours help; elsewhere only finished lines are printed.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use control::types::{CallState, Event, MediaState};

/// Column where the agent's side begins.
const RIGHT: usize = 44;

/// Draws events as they come.
#[derive(Debug)]
pub struct Ladder<W> {
    out: W,
    began: Instant,
    terminal: bool,
    partial_shown: bool,
    turns: Vec<Turn>,
    asked: Option<Asked>,
}

/// A caller's turn that has not been answered yet.
#[derive(Debug, Clone, Copy)]
struct Asked {
    recognised: Duration,
    text_at: Instant,
}

/// How long one turn took, from the end of the caller's speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Until the text was there: the silence waited for and the recogniser.
    pub to_text: Duration,
    /// Until the first sample of the answer was on the wire.
    pub to_voice: Duration,
}

impl Ladder<std::io::Stderr> {
    /// A ladder on stderr.
    pub fn on_stderr() -> Self {
        let colours = std::env::var_os("NO_COLOR").is_none();
        Self::new(std::io::stderr(), colours && std::io::stderr().is_terminal())
    }
}

impl<W: Write> Ladder<W> {
    /// A ladder on `out`; `terminal`: with colours and redrawn captions.
    pub fn new(out: W, terminal: bool) -> Self {
        Self { out, began: Instant::now(), terminal, partial_shown: false, turns: Vec::new(), asked: None }
    }

    /// The turns so far.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// A line about the demo itself.
    pub fn note(&mut self, text: &str) {
        self.line("36", text);
    }

    /// What the agent is about to say.
    pub fn agent_says(&mut self, text: &str) {
        let text = format!("{:RIGHT$}◀── \"{text}\"", "");
        self.line("32", &text);
    }

    /// Draws one event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::CallIncoming { from, .. } => self.arrow_right(&format!("INVITE from {from}")),
            Event::CallState { state, cause, reason, .. } => match state {
                CallState::Answered => self.arrow_left("200 OK, ACK: answered"),
                CallState::Ended => {
                    let cause = cause.map_or("", |cause| cause.as_str());
                    self.arrow_right(&format!("BYE: {cause} {}", reason.as_deref().unwrap_or_default()));
                }
                other => self.note(other.as_str()),
            },
            Event::SpeechStart { .. } => self.partial("…"),
            Event::TranscriptPartial { text, .. } | Event::TranscriptEager { text, .. } => self.partial(text),
            Event::TranscriptFinal { text, latency_ms, .. } => {
                let recognised = Duration::from_millis(*latency_ms);
                self.asked = Some(Asked { recognised, text_at: Instant::now() });
                self.line("33", &format!("\"{text}\" ──▶   (text {latency_ms} ms after the last word)"));
            }
            Event::ResponseStarted { .. } => {
                if let Some(asked) = self.asked.take() {
                    let to_voice = asked.recognised + asked.text_at.elapsed();
                    self.turns.push(Turn { to_text: asked.recognised, to_voice });
                    let text =
                        format!("{:RIGHT$}    (voice {} ms after the caller's last word)", "", to_voice.as_millis());
                    self.line("2", &text);
                }
            }
            Event::ResponseFinished { played_ms, interrupted: true, .. } => {
                self.note(&format!("the caller cut in after {played_ms} ms"));
            }
            Event::CallDtmf { digit, .. } => self.arrow_right(&format!("key {digit}")),
            Event::CallMedia { state, .. } => self.note(match state {
                MediaState::Lost => "no packets come from the caller",
                MediaState::Found => "packets come again",
                MediaState::OneWay => "audio goes one way only",
            }),
            Event::JackState { state } => self.note(&format!("JACK: {state:?}")),
            Event::DaemonWarning { text } => self.line("31", &format!("warning: {text}")),
            _ => {}
        }
    }

    fn arrow_right(&mut self, text: &str) {
        self.line("34", &format!("──{text}──▶"));
    }

    fn arrow_left(&mut self, text: &str) {
        self.line("34", &format!("◀──{text}──"));
    }

    fn partial(&mut self, text: &str) {
        if self.terminal {
            let time = self.time();
            // shown only as far as one terminal line goes, so that it can be overwritten
            let text: String = text.chars().take(60).collect();
            let _ = write!(self.out, "\r\x1b[K\x1b[2m{time}  {text}\x1b[0m");
            let _ = self.out.flush();
            self.partial_shown = true;
        }
    }

    fn line(&mut self, colour: &str, text: &str) {
        let time = self.time();
        if std::mem::take(&mut self.partial_shown) {
            let _ = write!(self.out, "\r\x1b[K");
        }
        let _ = if self.terminal {
            writeln!(self.out, "{time}  \x1b[{colour}m{text}\x1b[0m")
        } else {
            writeln!(self.out, "{time}  {text}")
        };
    }

    fn time(&self) -> String {
        format!("{:7.2}", self.began.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use control::types::CallId;

    use super::*;

    fn drawn(terminal: bool) -> String {
        let mut ladder = Ladder::new(Vec::new(), terminal);
        let call = CallId(1);
        let text = || "hello".to_owned();
        ladder.event(&Event::TranscriptPartial {
            call,
            utterance: 1,
            text: text(),
            confirmed: 0,
            start_ms: 0,
            end_ms: 1,
            latency_ms: 1,
        });
        ladder.event(&Event::TranscriptFinal {
            call,
            utterance: 1,
            text: text(),
            as_eager: false,
            backchannel: false,
            start_ms: 0,
            end_ms: 1,
            latency_ms: 600,
            words: Vec::new(),
        });
        ladder.event(&Event::ResponseStarted { call, response: 1, generation: 1 });
        assert_eq!(ladder.turns().len(), 1);
        assert!(ladder.turns()[0].to_voice >= Duration::from_millis(600));
        String::from_utf8(ladder.out).unwrap()
    }

    #[test]
    fn a_pipe_gets_whole_lines_and_no_escapes() {
        let text = drawn(false);
        assert!(!text.contains('\x1b') && !text.contains('\r'));
        assert_eq!(text.matches("hello").count(), 1, "partials are not for pipes: {text}");
    }

    #[test]
    fn a_terminal_gets_captions_as_they_come() {
        assert_eq!(drawn(true).matches("hello").count(), 2);
    }
}
