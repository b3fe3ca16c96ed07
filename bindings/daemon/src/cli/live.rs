//! A call of ours from beginning to end: shown as it goes, spoken on, hung up by Ctrl-C, and told of at its end.

use std::time::{Duration, Instant};

use control::Client;
use control::client::Message;
use control::types::{Call, CallGet, CallHangup, CallId, CallState, Event};

use super::TalkArgs;
use super::clip::{Clip, Finished, Speaking};
use super::console::{Console, Interrupts};
use super::describe::{self, Shown};
use super::failure::Failure;
use crate::exit::Exit;

/// How often the keyboard is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// After a call's end its last words may still be written; then what is known is told.
const SUMMARY_PATIENCE: Duration = Duration::from_secs(20);
/// How long the far end may take to let us hang up.
const HANGUP_PATIENCE: Duration = Duration::from_secs(40);

struct Live<'a, 'c> {
    client: &'a mut Client,
    console: &'a mut Console<'c>,
    call: CallId,
    began: Instant,
    clip: Option<Clip>,
    speaking: Option<Speaking>,
    then_hangup: bool,
    limit: Option<Duration>,
    /// When to hang up.
    until: Option<Instant>,
    hanging_up: bool,
    /// When to wait no more.
    give_up: Option<Instant>,
}

/// Reads what is to be spoken, before anybody is called.
pub(super) fn prepare(talk: &TalkArgs) -> Result<Option<Clip>, Failure> {
    let clip = talk.wav.as_deref().map(Clip::read).transpose();
    clip.map_err(|text| Failure::new(Exit::Usage, text))
}

/// Stays with a call that is this client's until it is over.
pub(super) fn follow(
    client: &mut Client,
    console: &mut Console<'_>,
    interrupts: &Interrupts,
    call: CallId,
    talk: &TalkArgs,
    clip: Option<Clip>,
) -> Result<Exit, Failure> {
    let mut live = Live {
        client,
        console,
        call,
        began: Instant::now(),
        clip,
        speaking: None,
        then_hangup: talk.then_hangup,
        limit: talk.limit.map(Duration::from_secs),
        until: None,
        hanging_up: false,
        give_up: None,
    };
    let summary = loop {
        if let Some(summary) = live.step()? {
            break Some(summary);
        }
        if interrupts.take() {
            if live.hanging_up {
                break None;
            }
            live.hang_up("hanging up; Ctrl-C once more does not wait for it")?;
        }
        if live.give_up.is_some_and(|at| Instant::now() >= at) {
            break None;
        }
    };
    // without a summary: what is known
    let call = match summary {
        Some(call) => call,
        None => live.client.request(&CallGet { call })?,
    };
    tell(live.console, &call)?;
    Ok(call.cause.map_or(Exit::Error, |cause| Exit::from_cause(cause.as_str())))
}

/// The result: the call.
fn tell(console: &mut Console<'_>, call: &Call) -> Result<(), Failure> {
    if console.json() {
        return Ok(console.json_line(call)?);
    }
    for line in describe::summary(call, console.out_look()) {
        console.line(&line)?;
    }
    Ok(())
}

impl Live<'_, '_> {
    /// Waits a moment for what happens; gives the summary when it comes.
    fn step(&mut self) -> Result<Option<Call>, Failure> {
        if let Some(Message::Event(notification)) = self.client.next_message(Instant::now() + LOOK)? {
            let event = notification.event;
            if event.call().is_none_or(|call| call == self.call) {
                self.show(&event)?;
            }
            if event.call() == Some(self.call) {
                if let Event::CallSummary(call) = event {
                    return Ok(Some(*call));
                }
                self.act(&event)?;
            }
        }
        if let Some(speaking) = &mut self.speaking
            && self.give_up.is_none()
        {
            speaking.pump(self.client)?;
            if let (Some(finished), true) = (speaking.finished(), self.then_hangup) {
                self.hang_up(match finished {
                    Finished::Whole => "all is said, hanging up",
                    Finished::Interrupted => "the caller cut in, hanging up",
                })?;
            }
        }
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.hang_up("the time is up, hanging up")?;
        }
        Ok(None)
    }

    fn act(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::CallState { state: CallState::Answered, .. } => {
                self.until = self.limit.map(|limit| Instant::now() + limit);
                if let Some(clip) = self.clip.take() {
                    self.note(&format!("◀── speaking for {}", describe::seconds(clip.duration_ms())))?;
                    self.speaking = Some(Speaking::start(self.client, self.call, clip)?);
                }
            }
            Event::CallState { state: CallState::Ended, .. } => {
                self.until = None;
                self.give_up = Some(Instant::now() + SUMMARY_PATIENCE);
            }
            other => {
                if let Some(speaking) = &mut self.speaking {
                    speaking.on_event(other);
                }
            }
        }
        Ok(())
    }

    fn hang_up(&mut self, why: &str) -> Result<(), Failure> {
        self.until = None;
        if self.hanging_up || self.give_up.is_some() {
            return Ok(());
        }
        self.hanging_up = true;
        self.note(why)?;
        self.client.request(&CallHangup::new(self.call))?;
        self.give_up = Some(Instant::now() + HANGUP_PATIENCE);
        Ok(())
    }

    fn show(&mut self, event: &Event) -> Result<(), Failure> {
        match describe::event(event) {
            Shown::Passing(text) => {
                let time = self.time();
                self.console.passing(&format!("{time}      {text}"))?;
            }
            line => {
                if let Some(line) = line.line(self.console.err_look()) {
                    self.note(&line)?;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, text: &str) -> Result<(), Failure> {
        let time = self.time();
        Ok(self.console.note(&format!("{time}  {text}"))?)
    }

    fn time(&self) -> String {
        format!("{:8.2}", self.began.elapsed().as_secs_f64())
    }
}
