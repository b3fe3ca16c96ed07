//! `mr-sip watch`: everything that happens, on all calls. On a terminal a table of the calls with what is being said, over the last
//! events; elsewhere a line an event; with `--json` the protocol's own events, a line each.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use control::Client;
use control::client::Message;
use control::types::{Call, CallGet, CallId, CallState, Direction, Event, EventFilter, notification_message};

use super::connect;
use super::console::{Console, Interrupts, Look, clean, fit, fit_end};
use super::describe::{self, Shown};
use super::failure::Failure;
use crate::exit::Exit;

/// How often the table is drawn at most; also how soon Ctrl-C is seen.
const REDRAW: Duration = Duration::from_millis(100);
/// Call times go on without events.
const TICK: Duration = Duration::from_secs(1);
/// Calls that are over stay in the table for this long.
const LINGER: Duration = Duration::from_secs(5);
/// What was told before Ctrl-C may take this long to be shown.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Of the last events, as many are shown as have room, and no more than this.
const LOG_LINES: usize = 200;

pub(super) fn run(socket: &Path, console: &mut Console<'_>, interrupts: &Interrupts) -> Result<Exit, Failure> {
    let mut client = connect(socket, EventFilter::All)?;
    let calls = client.calls()?;
    let json = console.json();
    let table = console.out_look().terminal.filter(|_| !json);
    let mut board = Board::default();
    for call in calls {
        if !json && table.is_none() {
            console.line(&format!("{} {} {}", call.call, call.state, describe::far_end(&call)))?;
        }
        board.calls.insert(call.call, Row::new(call));
    }
    let mut drawn = Drawn::default();
    // None: go on; else what was told before the user stopped is shown still, but not for ever
    let mut stop: Option<Instant> = None;
    loop {
        if stop.is_none() && interrupts.take() {
            stop = Some(Instant::now() + LAST_WORDS);
        }
        let now = Instant::now();
        let message = match stop {
            None => client.next_message(now + REDRAW)?,
            Some(until) if now < until => client.next_message(now)?,
            Some(_) => None,
        };
        match &message {
            Some(Message::Event(told)) if json => {
                let text = notification_message(&told.event, told.time_ms).map_err(std::io::Error::other)?;
                console.line(&String::from_utf8_lossy(&text))?;
            }
            Some(Message::Event(told)) => {
                let line = board.take(&mut client, &told.event, console.out_look())?;
                drawn.dirty = true;
                if let (Some(line), None) = (line, table) {
                    console.line(&line)?;
                }
            }
            Some(_) | None => {}
        }
        let over = stop.is_some() && message.is_none();
        if let (Some(size), true) = (table, over || drawn.is_due()) {
            board.forget_ended();
            console.print(&drawn.frame(&board.lines(size, console.out_look())))?;
        }
        if over {
            return Ok(Exit::Ok);
        }
    }
}

/// The calls and what happened last.
#[derive(Debug, Default)]
struct Board {
    calls: BTreeMap<CallId, Row>,
    // colour and text
    log: VecDeque<(&'static str, String)>,
}

#[derive(Debug)]
struct Row {
    call: Call,
    caption: String,
    /// When we learnt of it, and how long it had been answered then.
    seen: Instant,
    ended: Option<Instant>,
}

impl Row {
    fn new(call: Call) -> Self {
        Self { call, caption: String::new(), seen: Instant::now(), ended: None }
    }

    fn duration_ms(&self) -> u64 {
        match self.call.state {
            CallState::Answered => self.call.duration_ms + self.seen.elapsed().as_millis() as u64,
            _ => self.call.duration_ms,
        }
    }
}

impl Board {
    /// Takes in one event; the line it is told by, if any.
    fn take(&mut self, client: &mut Client, event: &Event, look: Look) -> Result<Option<String>, Failure> {
        let caption = match (event, describe::event(event)) {
            (Event::TranscriptFinal { text, .. }, _) => Some(clean(text)),
            (_, Shown::Passing(text)) => Some(text),
            _ => None,
        };
        if let Some(number) = event.call() {
            if !self.calls.contains_key(&number) && !matches!(event, Event::CallSummary(_)) {
                // it may be forgotten already
                if let Ok(call) = client.request(&CallGet { call: number }) {
                    self.calls.insert(number, Row::new(call));
                }
            }
            if let Some(row) = self.calls.get_mut(&number) {
                row.caption = caption.unwrap_or(std::mem::take(&mut row.caption));
                match event {
                    Event::CallState { state, cause, .. } => {
                        if *state == CallState::Answered && row.call.state != CallState::Answered {
                            row.seen = Instant::now();
                            row.call.duration_ms = 0;
                        } else if *state == CallState::Ended {
                            row.call.duration_ms = row.duration_ms();
                            row.ended.get_or_insert_with(Instant::now);
                        }
                        row.call.state = *state;
                        row.call.cause = *cause;
                    }
                    Event::CallSummary(call) => {
                        row.call = (**call).clone();
                        row.ended.get_or_insert_with(Instant::now);
                    }
                    _ => {}
                }
            }
        }
        let Shown::Line(colour, text) = describe::event(event) else { return Ok(None) };
        let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
        let call = event.call().map_or_else(String::new, |call| call.to_string());
        let line = format!("{now}  {call:<4} {text}");
        self.log.push_back((colour, line.clone()));
        if self.log.len() > LOG_LINES {
            self.log.pop_front();
        }
        Ok(Some(look.paint(colour, &line)))
    }

    fn forget_ended(&mut self) {
        self.calls.retain(|_, row| row.ended.is_none_or(|ended| ended.elapsed() < LINGER));
    }

    /// As many lines as fit, each no wider than the terminal.
    fn lines(&self, (columns, rows): (usize, usize), look: Look) -> Vec<String> {
        // the last column and the last row stay free, or the terminal would scroll
        let columns = columns.saturating_sub(1);
        let rows = rows.saturating_sub(1);
        let live = self.calls.values().filter(|row| row.ended.is_none()).count();
        let mut lines = vec![look.paint("1", &fit(&format!("{live} calls  (Ctrl-C ends the view)"), columns))];
        let most = rows.saturating_sub(4).max(1);
        // on narrow terminals the caption matters more
        let who = (columns / 3).clamp(8, 28);
        for row in self.calls.values().take(most) {
            let way = if row.call.direction == Direction::In { "◀" } else { "▶" };
            let state = match (row.call.state, row.call.cause) {
                (CallState::Ended, Some(cause)) => cause.as_str(),
                (state, _) => state.as_str(),
            };
            let head = format!(
                "{:<5} {:<13} {way} {:<who$} {:>7}  ",
                row.call.call.to_string(),
                state,
                fit(&describe::far_end(&row.call), who),
                describe::clock(row.duration_ms())
            );
            let head = fit(&head, columns);
            let caption = fit_end(&row.caption, columns.saturating_sub(head.chars().count()));
            lines.push(format!(
                "{}{}",
                look.paint(if row.ended.is_some() { "2" } else { "" }, &head),
                look.paint("33", &caption)
            ));
        }
        if self.calls.len() > most {
            lines.push(fit(&format!("and {} more", self.calls.len() - most), columns));
        }
        lines.push(String::new());
        let room = rows.saturating_sub(lines.len());
        let skipped = self.log.len().saturating_sub(room);
        lines.extend(self.log.iter().skip(skipped).map(|(colour, line)| look.paint(colour, &fit(line, columns))));
        lines.truncate(rows);
        lines
    }
}

/// What stands on the terminal.
#[derive(Debug, Default)]
struct Drawn {
    lines: usize,
    at: Option<Instant>,
    /// Something has changed since.
    dirty: bool,
}

impl Drawn {
    fn is_due(&self) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= if self.dirty { REDRAW } else { TICK })
    }

    /// What to write so that `lines` stand where the last ones did.
    fn frame(&mut self, lines: &[String]) -> String {
        let mut frame = String::new();
        if self.lines > 0 {
            frame.push_str(&format!("\x1b[{}A", self.lines));
        }
        for line in lines {
            frame.push_str(&format!("\r{line}\x1b[K\n"));
        }
        // what was below, if there was more
        frame.push_str("\x1b[J");
        *self = Self { lines: lines.len(), at: Some(Instant::now()), dirty: false };
        frame
    }
}
