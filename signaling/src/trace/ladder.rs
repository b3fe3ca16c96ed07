//! A call as a ladder of arrows, for people.
//!
//! What must hold: no line is longer than [`WIDTH`] characters, all of them printable, whatever the messages hold (case 45).

use std::{collections::HashSet, fmt::Write, net::SocketAddr};

use super::{
    CallTrace, Flow, Stage, TracedMessage,
    summary::{Summary, printable},
};

/// The longest line.
const WIDTH: usize = 100;
/// Where our own column stands, after the time.
const US: usize = 11;
/// The distance of two columns is no more than this; less when there are many.
const WIDEST: usize = 64;
/// Further far ends share the last column, and are named at their arrows.
const MOST_COLUMNS: usize = 4;

/// What arrows are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrows {
    /// `|--->|`
    #[default]
    Ascii,
    /// `│───→│`
    Unicode,
}

impl Arrows {
    /// Column, shaft, head to the right, head to the left.
    fn signs(self) -> [char; 4] {
        match self {
            Arrows::Ascii => ['|', '-', '>', '<'],
            Arrows::Unicode => ['│', '─', '→', '←'],
        }
    }
}

/// Draws a call: a column for us and one for each far address, an arrow for each message with its method or status and its
/// session description in short, seconds since the first message before it. What was sent again is marked.
pub fn ladder(call: &CallTrace, arrows: Arrows) -> String {
    let mut far: Vec<SocketAddr> = Vec::new();
    let mut seen = HashSet::new();
    for message in &call.messages {
        if seen.insert(message.path.remote) {
            far.push(message.path.remote);
        }
    }
    let columns = far.len().clamp(1, MOST_COLUMNS);
    let spacing = ((WIDTH - 2 - US) / columns).min(WIDEST);
    let drawing = Drawing { arrows, far, columns: (0..=columns).map(|i| US + i * spacing).collect() };
    let mut out = String::new();
    drawing.head(call, &mut out);
    drawing.rungs(call, &mut out);
    out
}

struct Drawing {
    arrows: Arrows,
    far: Vec<SocketAddr>,
    /// Where each column stands; the first is ours.
    columns: Vec<usize>,
}

impl Drawing {
    fn head(&self, call: &CallTrace, out: &mut String) {
        let stage = match call.stage {
            Stage::Passing => "no call",
            Stage::Ended => "ended",
            Stage::Live => "live",
        };
        push_line(out, &format!("Call-ID {} ({stage}, {} messages)", printable(call.call_id.as_bytes()), call.count()));
        let mut named = HashSet::new();
        for path in call.messages.iter().map(|m| m.path) {
            if named.insert((path.local, path.transport)) {
                push_line(out, &format!("  us  {} {}", path.local, path.transport.as_param()));
            }
        }
        for (i, far) in self.far.iter().enumerate() {
            push_line(out, &format!("  {:<2}  {far}", name(i)));
        }
        let mut line = [' '; WIDTH];
        put(&mut line, US - 1, "us");
        for (i, at) in self.columns.iter().skip(1).enumerate() {
            let shared = i + 1 == MOST_COLUMNS && self.far.len() > MOST_COLUMNS;
            put(&mut line, *at, &if shared { format!("{}+", name(i)) } else { name(i) });
        }
        push_line(out, &line.iter().collect::<String>());
    }

    fn rungs(&self, call: &CallTrace, out: &mut String) {
        let mut before = HashSet::new();
        let begun = call.messages.first().map(|m| m.at);
        for (i, message) in call.messages.iter().enumerate() {
            if i == call.dropped_after {
                dropped(call, out);
            }
            let again = !before.insert((message.path.flow, message.path.remote, &message.bytes));
            let seconds = begun.map_or(0.0, |at| message.at.saturating_duration_since(at).as_secs_f64());
            self.rung(message, seconds, again, out);
        }
        if call.dropped_after >= call.messages.len() {
            dropped(call, out);
        }
    }

    fn rung(&self, message: &TracedMessage, seconds: f64, again: bool, out: &mut String) {
        let far = self.far.iter().position(|a| *a == message.path.remote).unwrap_or(0);
        let to = self.columns.get((far + 1).min(MOST_COLUMNS)).copied().unwrap_or(US + 1);
        let summary = Summary::of(&message.bytes);
        let who =
            if far + 1 >= MOST_COLUMNS && self.far.len() > MOST_COLUMNS { name(far) + ": " } else { String::new() };
        let mark = if again { " (again)" } else { "" };
        let full = format!("{who}{}{mark}", summary.label());
        let labels = [full.clone(), format!("{who}{}{mark}", summary.what), format!("{who}{}{mark}", summary.short)];
        let room = to - US - 1;
        // an arrow shows at least two dashes on either side of its words
        let fits = |label: &&String| label.chars().count() + 6 <= room;
        let label = labels.iter().find(fits).or(labels.last()).map_or("", String::as_str);

        let mut line = self.bars();
        let time = format!("{seconds:>9.3}");
        put(&mut line, 0, &if time.len() > 9 { format!("{seconds:>9.0}") } else { time });
        let [_, shaft, right, left] = self.arrows.signs();
        for place in line.iter_mut().take(to).skip(US + 1) {
            *place = shaft;
        }
        match message.path.flow {
            Flow::Sent => line[to - 1] = right,
            Flow::Received => line[US + 1] = left,
        }
        let label: String = label.chars().take(room.saturating_sub(6)).collect();
        put(&mut line, US + 3, &format!(" {label} "));
        push_line(out, &line.iter().collect::<String>());
        if label != full {
            let mut line = self.bars();
            put(&mut line, US + 4, &full);
            push_line(out, &line.iter().collect::<String>());
        }
    }

    fn bars(&self) -> [char; WIDTH] {
        let mut line = [' '; WIDTH];
        for at in &self.columns {
            if let Some(place) = line.get_mut(*at) {
                *place = self.arrows.signs()[0];
            }
        }
        line
    }
}

impl CallTrace {
    /// Messages, those that were dropped too.
    fn count(&self) -> u64 {
        self.dropped + self.messages.len() as u64
    }
}

fn dropped(call: &CallTrace, out: &mut String) {
    if call.dropped > 0 {
        push_line(out, &format!("{:US$}... {} messages were dropped for want of room ...", "", call.dropped));
    }
}

/// What the far end of this number is called.
fn name(far: usize) -> String {
    match u8::try_from(far) {
        Ok(far @ 0..=25) => char::from(b'A' + far).to_string(),
        _ => (far + 1).to_string(),
    }
}

fn put(line: &mut [char; WIDTH], at: usize, text: &str) {
    for (place, c) in line.iter_mut().skip(at).zip(text.chars()) {
        *place = c;
    }
}

fn push_line(out: &mut String, line: &str) {
    let line: String = line.chars().take(WIDTH).collect();
    // writing to a string cannot fail
    let _ = writeln!(out, "{}", line.trim_end());
}
