//! The demo's verdict: what was said and understood, what was answered and heard, and how the line was.

use std::fmt;
use std::path::{Path, PathBuf};

use control::types::{Call, Speaker};
use serde_json::json;

use super::far_end::read_wav;
use super::ladder::Turn;
use super::score::{find, word_errors, words};
use super::{HEARD, Said, UNDERSTOOD};

/// One sentence of the caller.
#[derive(Debug)]
struct Understood {
    said: String,
    text: String,
    /// Share of the words that were right, 0 to 1.
    share: f64,
}

/// One answer of the agent.
#[derive(Debug)]
struct Heard {
    text: String,
    correlation: f64,
}

/// How the call went.
#[derive(Debug)]
pub(super) struct Verdict {
    call: Call,
    understood: Vec<Understood>,
    heard: Vec<Heard>,
    turns: Vec<Turn>,
    kept: Option<PathBuf>,
}

/// Judges a call by its summary, by what was said, and by the caller's own recording.
pub(super) fn judge(
    call: &Call,
    sentences: &[&str],
    said: &[Said],
    recording: Option<&Path>,
    turns: &[Turn],
    kept: Option<&Path>,
) -> Verdict {
    let lines: Vec<&str> = call
        .transcript
        .iter()
        .flatten()
        .filter(|line| line.who == Speaker::Caller)
        .filter_map(|line| line.text.as_deref())
        .collect();
    let understood = sentences
        .iter()
        .map(|sentence| {
            let best = lines.iter().min_by_key(|line| word_errors(sentence, line));
            let text = best.copied().unwrap_or_default().to_owned();
            let count = words(sentence).len();
            let right = count.saturating_sub(word_errors(sentence, &text));
            Understood { said: (*sentence).to_owned(), text, share: right as f64 / count as f64 }
        })
        .collect();
    let mut samples = recording.and_then(|path| read_wav(path).ok()).unwrap_or_default();
    // a recording that stops with the last word still holds it, without the synthesizer's silence behind it
    samples.resize(samples.len() + 4000, 0.0);
    let heard = said
        .iter()
        .map(|said| {
            let reference = said.speech.at_telephone_rate().unwrap_or_default();
            let correlation = find(&reference, &samples).map_or(0.0, |found| found.correlation);
            Heard { text: said.text.clone(), correlation }
        })
        .collect();
    Verdict { call: call.clone(), understood, heard, turns: turns.to_vec(), kept: kept.map(Path::to_owned) }
}

impl Verdict {
    /// Every sentence was understood and every answer was heard.
    pub(super) fn good(&self) -> bool {
        !self.heard.is_empty()
            && self.understood.iter().all(|sentence| sentence.share >= UNDERSTOOD)
            && self.heard.iter().all(|answer| answer.correlation >= HEARD)
    }

    /// For programs.
    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({
            "ok": self.good(),
            "understood": self.understood.iter().map(|s| json!({ "said": s.said, "text": s.text, "share": s.share })).collect::<Vec<_>>(),
            "heard": self.heard.iter().map(|h| json!({ "text": h.text, "correlation": h.correlation })).collect::<Vec<_>>(),
            "turns": self.turns.iter().map(|t| json!({ "to_text_ms": t.to_text.as_millis() as u64, "to_voice_ms": t.to_voice.as_millis() as u64 })).collect::<Vec<_>>(),
            "call": self.call,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |good: bool| if good { "ok  " } else { "FAIL" };
        writeln!(f, "\nThe caller said                                               words right")?;
        for sentence in &self.understood {
            writeln!(
                f,
                "  {} {:<55} {:>4.0} %",
                mark(sentence.share >= UNDERSTOOD),
                sentence.said,
                sentence.share * 100.0
            )?;
            if words(&sentence.said) != words(&sentence.text) {
                writeln!(f, "       understood as: {}", sentence.text)?;
            }
        }
        writeln!(
            f,
            "The agent answered                                            correlation in the caller's recording"
        )?;
        for answer in &self.heard {
            writeln!(f, "  {} {:<55} {:>6.3}", mark(answer.correlation >= HEARD), answer.text, answer.correlation)?;
        }
        writeln!(f, "Latency from the caller's last word: to the text, to the agent's voice on the wire")?;
        for (number, turn) in self.turns.iter().enumerate() {
            writeln!(
                f,
                "  turn {}: {:>5} ms {:>5} ms",
                number + 1,
                turn.to_text.as_millis(),
                turn.to_voice.as_millis()
            )?;
        }
        writeln!(f, "Transcript")?;
        for line in self.call.transcript.iter().flatten() {
            let who = match line.who {
                Speaker::Caller => "caller",
                Speaker::Agent => "agent",
            };
            let text = line.text.as_deref().unwrap_or("(audio)");
            writeln!(f, "  {:>6.2} s  {who:<6}  {text}", line.start_ms as f64 / 1000.0)?;
        }
        if let Some(stats) = &self.call.stats {
            writeln!(
                f,
                "Line: {} packets in, {} out, {} lost, {} late, {} concealed, jitter {:.1} ms, playout delay {:.0} ms, {} underruns",
                stats.received,
                stats.sent,
                stats.lost,
                stats.late,
                stats.concealed,
                stats.jitter_ms,
                stats.target_delay_ms,
                stats.underruns
            )?;
        }
        let audio = if self.call.jack { "through JACK" } else { "direct" };
        writeln!(
            f,
            "Call: {} {}, {audio}, {:.1} s",
            self.call.call,
            self.call.codec.as_deref().unwrap_or("-"),
            self.call.duration_ms as f64 / 1000.0
        )?;
        match (&self.kept, &self.call.recording) {
            (Some(_), Some(path)) => writeln!(f, "Recording: {path}")?,
            (None, Some(_)) => writeln!(f, "Recording: not kept; `mr-sip demo --keep FOLDER` keeps it")?,
            (_, None) => {}
        }
        writeln!(f, "{}", if self.good() { "The demo succeeded: understood and heard." } else { "The demo FAILED." })
    }
}
