//! Where a command writes, and how it looks there.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::Serialize;

/// How a stream looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// A terminal of this many columns and rows, where lines can be redrawn.
    pub terminal: Option<(usize, usize)>,
    /// Whether colours are wanted.
    pub colours: bool,
}

impl Look {
    fn of(stream: &impl IsTerminal) -> Self {
        let terminal = stream.is_terminal().then(terminal_size);
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal, colours: terminal.is_some() && wanted }
    }

    /// `text` in an SGR colour, where colours are wanted.
    pub(super) fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours && !colour.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The two streams of a command.
pub struct Console<'a> {
    out: Box<dyn Write + 'a>,
    err: Box<dyn Write + 'a>,
    out_look: Look,
    err_look: Look,
    json: bool,
    // a line on stderr stands there without a newline
    passing: bool,
}

impl std::fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("out", &self.out_look).field("err", &self.err_look).finish_non_exhaustive()
    }
}

impl Console<'static> {
    /// The process's own.
    pub fn of_process(json: bool) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (out_look, err_look) = (Look::of(&out), Look::of(&err));
        Self { out: Box::new(out), err: Box::new(err), out_look, err_look, json, passing: false }
    }
}

impl<'a> Console<'a> {
    /// Any two streams that both look like `look`.
    pub fn new(out: impl Write + 'a, err: impl Write + 'a, look: Look, json: bool) -> Self {
        Self { out: Box::new(out), err: Box::new(err), out_look: look, err_look: look, json, passing: false }
    }

    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn out_look(&self) -> Look {
        self.out_look
    }

    pub(super) fn err_look(&self) -> Look {
        self.err_look
    }

    /// A part of the result, as it is.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        self.finish_passing()?;
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// A line of the result.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.print(&format!("{text}\n"))
    }

    /// A line of the result in JSON.
    pub(super) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        self.line(&text)
    }

    /// A line of progress.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        self.finish_passing()?;
        writeln!(self.err, "{text}")?;
        self.err.flush()
    }

    /// A line of progress that the next one replaces. Only on a terminal.
    pub(super) fn passing(&mut self, text: &str) -> io::Result<()> {
        let Some((columns, _)) = self.err_look.terminal else { return Ok(()) };
        let text = self.err_look.paint("2", &fit(text, columns.saturating_sub(1)));
        write!(self.err, "\r\x1b[K{text}")?;
        self.passing = true;
        self.err.flush()
    }

    fn finish_passing(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.passing) {
            write!(self.err, "\r\x1b[K")?;
            self.err.flush()?;
        }
        Ok(())
    }
}

/// What the network says, fit to be shown: no control characters, which could move the cursor or worse, nor characters that turn the
/// direction of writing (case 45).
pub(super) fn clean(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

/// The beginning of `text`, in as many columns at most; `…` shows that there was more.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    if columns > 0 {
        short.push('…');
    }
    short
}

/// Like [`fit`], but the end of `text`: of a caption that grows, the newest words matter.
pub(super) fn fit_end(text: &str, columns: usize) -> String {
    let count = text.chars().count();
    if count <= columns {
        return text.to_owned();
    }
    let mut short = String::from(if columns > 0 { "…" } else { "" });
    short.extend(text.chars().skip(count - columns.saturating_sub(1).min(count)));
    short
}

/// Columns and rows; 80 x 24 when the terminal does not say.
fn terminal_size() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    let is_terminal = [libc::STDOUT_FILENO, libc::STDERR_FILENO].into_iter().any(|fd| {
        // SAFETY: TIOCGWINSZ writes one winsize to the pointer, which is valid for that; a wrong descriptor is an error.
        unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) == 0 }
    });
    match (is_terminal, size.ws_col, size.ws_row) {
        (true, columns, rows) if columns > 0 && rows > 0 => (columns.into(), rows.into()),
        _ => (80, 24),
    }
}

/// Whether the user wants to stop: SIGINT and SIGTERM, read as events instead of ending the process.
#[derive(Debug)]
pub struct Interrupts {
    signals: Option<SignalFd>,
    asked: AtomicBool,
}

impl Interrupts {
    /// Those of the process. To be made before other threads are.
    pub fn of_process() -> Self {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        // without it Ctrl-C ends the process, and the daemon hangs up when the grace time is over: worse, not wrong
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = set.thread_block().and_then(|()| SignalFd::with_flags(&set, flags)).ok();
        Self { signals, asked: AtomicBool::new(false) }
    }

    /// None, for programs that ask to stop otherwise; see [`Self::raise`].
    pub fn none() -> Self {
        Self { signals: None, asked: AtomicBool::new(false) }
    }

    /// As if the user had asked.
    pub fn raise(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether the user has asked to stop since this was asked last.
    pub(super) fn take(&self) -> bool {
        let signalled = self.signals.as_ref().is_some_and(|signals| matches!(signals.read_signal(), Ok(Some(_))));
        self.asked.swap(false, Ordering::Relaxed) || signalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case 45: what could steer a terminal does not reach it.
    #[test]
    fn control_characters_from_the_network_are_not_shown() {
        assert_eq!(clean("Bob\x1b[2J\r\n\u{202e}x\u{9b}"), "Bob\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}x\u{fffd}");
        assert_eq!(clean("Zoë Groß"), "Zoë Groß");
    }

    #[test]
    fn text_is_cut_to_columns() {
        assert_eq!(fit("hello", 5), "hello");
        assert_eq!(fit("hello", 4), "hel…");
        assert_eq!(fit("hello", 0), "");
        assert_eq!(fit_end("hello", 5), "hello");
        assert_eq!(fit_end("hello", 4), "…llo");
        assert_eq!(fit_end("hello", 1), "…");
        assert_eq!(fit_end("hello", 0), "");
    }

    #[test]
    fn colours_are_only_painted_where_they_are_wanted() {
        assert_eq!(Look::default().paint("31", "x"), "x");
        assert_eq!(Look { terminal: None, colours: true }.paint("31", "x"), "\x1b[31mx\x1b[0m");
    }
}
