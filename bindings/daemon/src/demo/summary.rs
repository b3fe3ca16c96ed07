//! The demo's verdict: what was said and understood, what was answered and heard, and how the line was.

use std::fmt;
use std::path::{Path, PathBuf};

use control::types::{Call, Speaker};
use serde_json::json;

use super::far_end::read_wav;
use super::ladder::Turn;
use super::score::{find, word_errors, words};
use super::strain::Strain;
use super::{HEARD, RECOGNISED, Said, UNDERSTOOD};

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
    strain: Strain,
    kept: Option<PathBuf>,
}

/// How an answer was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    /// Whole.
    Whole,
    /// With pieces missing.
    Gaps,
    /// Not at all, or something else.
    Lost,
}

impl Heard {
    fn grade(&self) -> Grade {
        match self.correlation {
            whole if whole >= HEARD => Grade::Whole,
            gaps if gaps >= RECOGNISED => Grade::Gaps,
            _ => Grade::Lost,
        }
    }
}

/// Judges a call by its summary, by what was said, and by the caller's own recording.
pub(super) fn judge(
    call: &Call,
    sentences: &[&str],
    said: &[Said],
    recording: Option<&Path>,
    turns: &[Turn],
    strain: Strain,
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
    Verdict { call: call.clone(), understood, heard, turns: turns.to_vec(), strain, kept: kept.map(Path::to_owned) }
}

impl Verdict {
    /// Every sentence was understood and every answer was heard: whole, or else with gaps that this machine explains.
    pub(super) fn good(&self) -> bool {
        !self.heard.is_empty()
            && self.understood.iter().all(|sentence| sentence.share >= UNDERSTOOD)
            && self.heard.iter().all(|answer| self.passes(answer))
    }

    fn passes(&self, answer: &Heard) -> bool {
        match answer.grade() {
            Grade::Whole => true,
            Grade::Gaps => self.strain.costs_audio(),
            Grade::Lost => false,
        }
    }

    /// How many answers were heard with gaps.
    fn gaps(&self) -> usize {
        self.heard.iter().filter(|answer| answer.grade() == Grade::Gaps).count()
    }

    /// For programs.
    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({
            "ok": self.good(),
            "understood": self.understood.iter().map(|s| json!({ "said": s.said, "text": s.text, "share": s.share })).collect::<Vec<_>>(),
            "heard": self.heard.iter().map(|h| json!({ "text": h.text, "correlation": h.correlation })).collect::<Vec<_>>(),
            "gaps": self.gaps(),
            "machine": {
                "woken_late_ms": self.strain.woken_late.as_millis() as u64,
                "tick_late_ms": self.strain.tick_late.as_millis() as u64,
                "jack_xruns": self.strain.jack_xruns,
            },
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
            let mark = match answer.grade() {
                Grade::Gaps if self.strain.costs_audio() => "gaps",
                _ => mark(self.passes(answer)),
            };
            writeln!(f, "  {mark} {:<55} {:>6.3}", answer.text, answer.correlation)?;
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
        writeln!(f, "Machine: {}", self.strain)?;
        match (self.good(), self.gaps()) {
            (true, 0) => writeln!(f, "The demo succeeded: understood and heard."),
            (true, gaps) => writeln!(
                f,
                "The demo succeeded, but this machine did not keep time: {gaps} of {} answers were heard with gaps.\n\
                 Telephone calls will sound like that here. What helps: less beside it, or real-time priority\n\
                 (`mr-sip doctor` says whether it is granted).",
                self.heard.len()
            ),
            (false, _) => writeln!(f, "The demo FAILED."),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn verdict(correlations: &[f64], strain: Strain) -> Verdict {
        Verdict {
            call: serde_json::from_value(json!({
                "call": "c1", "direction": "in", "state": "ended", "from": "caller", "to": "agent", "started_unix_ms": 0,
            }))
            .unwrap(),
            understood: vec![Understood { said: "hello".to_owned(), text: "hello".to_owned(), share: 1.0 }],
            heard: correlations.iter().map(|&correlation| Heard { text: "Hello.".to_owned(), correlation }).collect(),
            turns: Vec::new(),
            strain,
            kept: None,
        }
    }

    #[test]
    fn gaps_pass_only_where_the_machine_explains_them() {
        let (quiet, busy) = (Strain::default(), Strain { woken_late: Duration::from_millis(90), ..Strain::default() });
        assert!(verdict(&[0.999, 0.97], quiet).good());
        assert!(!verdict(&[0.999, 0.75], quiet).good());
        let gaps = verdict(&[0.999, 0.75], busy);
        assert!(gaps.good() && gaps.to_string().contains("1 of 2 answers were heard with gaps"), "{gaps}");
        let lost = verdict(&[0.999, 0.3], busy);
        assert!(!lost.good() && lost.to_string().ends_with("The demo FAILED.\n"), "{lost}");
        assert!(!verdict(&[], busy).good());
    }
}
