//! `--call NUMBER`: a real call through the running daemon, on which a tone is sent and what comes back is measured.

use std::f32::consts::TAU;
use std::time::{Duration, Instant};

use control::client::Message;
use control::types::{
    Call, CallDial, CallHangup, CallId, CallState, Encoding, Event, EventFilter, Hello, MediaSubscribe, ResponseEnd,
    ResponseStart,
};
use control::{Client, ControlError};

use super::{Health, Report};
use crate::config::Config;

/// A person may have to pick up.
const ANSWER_LIMIT: Duration = Duration::from_secs(45);
/// How long the tone is sent, and how long the call lasts.
const TONE_S: usize = 4;
const CALL: Duration = Duration::from_secs(6);
const RATE: u32 = 8000;
/// ITU-T's test frequency, off the round 1 kHz so that it falls on no code's boundary.
const TONE_HZ: f32 = 1004.0;
/// The tone is looked for in pieces of 100 ms, and is there if it is most of the sound in three of them: speech or
/// music with a little of that frequency is none.
const PIECE: usize = RATE as usize / 10;
const MOST_OF_IT: f32 = 0.5;
const PIECES: usize = 3;
/// Below this (of full scale) there is only noise.
const SILENCE: f32 = 0.003;
/// Packets of 20 ms that should come in so long a call, less a good part.
const ENOUGH: u64 = 100;

/// Calls, and tells what came back.
pub(super) fn call(config: &Config, running: bool, number: &str, account: Option<&str>, report: &mut Report) {
    if !running {
        return report.add("echo call", Health::Bad, "needs the daemon: start it with mr-sip serve, then try again");
    }
    match measured(config, number, account) {
        Ok((call, heard)) => {
            let (health, text) = judge(&call, &heard);
            report.add("echo call", health, format!("{number}: {text}"));
        }
        Err(error) => report.add("echo call", Health::Bad, format!("{number}: {error}")),
    }
}

/// Dials, speaks, hangs up, and gives the call's summary and what was heard.
fn measured(config: &Config, number: &str, account: Option<&str>) -> Result<(Call, Heard), ControlError> {
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
    let mut heard = Heard::default();
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
                    client.request(&MediaSubscribe { call, rate: RATE, encoding: Encoding::S16 })?;
                    speak(&mut client, call)?;
                    hang_up_at = Some(Instant::now() + CALL);
                }
                // the daemon takes the echo for a caller who interrupts, and falls silent: the tone begins anew
                Event::ResponseFinished { call: of, interrupted: true, .. } if of == call && hang_up_at.is_some() => {
                    speak(&mut client, call)?;
                }
                Event::CallSummary(summary) if summary.call == call => return Ok((*summary, heard)),
                _ => {}
            },
            Some(Message::Audio { samples, .. }) => heard.listen(&samples),
            Some(_) => {}
            None if now >= give_up_at => return Err(ControlError::Closed),
            None => {}
        }
    }
}

fn speak(client: &mut Client, call: CallId) -> Result<(), ControlError> {
    let reply = client.request(&ResponseStart::new(call))?;
    let sample = |n: usize| ((n as f32 * TONE_HZ * TAU / RATE as f32).sin() * 8000.0) as i16;
    let samples: Vec<u8> = (0..TONE_S * RATE as usize).flat_map(|n| sample(n).to_le_bytes()).collect();
    client.send_audio(reply.channel, Encoding::S16, reply.generation, 0, &samples)?;
    client.request(&ResponseEnd { call, response: reply.response })?;
    Ok(())
}

/// What came back, piece by piece.
#[derive(Debug, Default)]
struct Heard {
    piece: Vec<f32>,
    /// Pieces with any sound in them.
    loud: usize,
    /// Pieces that are our tone.
    tone: usize,
}

impl Heard {
    /// Takes in samples of 16 bits.
    fn listen(&mut self, samples: &[u8]) {
        for sample in samples.chunks_exact(2).filter_map(|pair| pair.first_chunk::<2>()) {
            self.piece.push(f32::from(i16::from_le_bytes(*sample)) / 32768.0);
            if self.piece.len() == PIECE {
                self.judge_piece();
                self.piece.clear();
            }
        }
    }

    fn judge_piece(&mut self) {
        let power = self.piece.iter().map(|x| x * x).sum::<f32>() / PIECE as f32;
        if power.sqrt() < SILENCE {
            return;
        }
        self.loud += 1;
        // the piece against a sine and a cosine of the tone; a pure tone gives all its power
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (n, x) in self.piece.iter().enumerate() {
            let angle = n as f32 * TONE_HZ * TAU / RATE as f32;
            sine += x * angle.sin();
            cosine += x * angle.cos();
        }
        let ours = 2.0 * (sine * sine + cosine * cosine) / (PIECE * PIECE) as f32;
        self.tone += usize::from(ours > MOST_OF_IT * power);
    }

    /// In words, for audio that came in.
    fn say(&self) -> (Health, &'static str) {
        if self.tone >= PIECES {
            return (Health::Good, "our tone came back: audio goes both ways");
        }
        let text = if self.loud == 0 {
            "audio came, but only silence: the far end does not echo, or does not hear us; call a number that echoes to know"
        } else {
            "audio came, but not our tone: the far end does not echo, or does not hear us; call a number that echoes to know"
        };
        (Health::Weak, text)
    }
}

/// What the packets of a call tell, and what was heard in them.
fn judge(call: &Call, heard: &Heard) -> (Health, String) {
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
        let (_, text) = heard.say();
        return (Health::Weak, format!("{text}, with losses of {:.1} % ({counted})", loss * 100.0));
    }
    let (health, text) = heard.say();
    (health, format!("{text} ({counted})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(sample: impl Fn(usize) -> f32) -> Heard {
        let mut heard = Heard::default();
        let bytes: Vec<u8> = (0..16_000).flat_map(|n| ((sample(n) * 32767.0) as i16).to_le_bytes()).collect();
        heard.listen(&bytes);
        heard
    }

    #[test]
    fn our_tone_is_told_from_silence_from_other_tones_and_from_noise() {
        let tone = |hz: f32, level: f32| move |n: usize| (n as f32 * hz * TAU / RATE as f32 + 0.7).sin() * level;
        assert_eq!(heard(tone(TONE_HZ, 0.02)).tone, 20);
        assert_eq!(heard(tone(TONE_HZ, 0.02)).say().0, Health::Good);
        let silence = heard(|_| 0.001);
        assert_eq!((silence.loud, silence.tone), (0, 0));
        assert!(silence.say().1.contains("only silence"));
        for hz in [425.0, 440.0, 950.0, 1050.0] {
            let other = heard(tone(hz, 0.5));
            assert_eq!((other.loud, other.tone), (20, 0), "{hz} Hz");
            assert_eq!(other.say().0, Health::Weak);
        }
        let noise = heard(|n| ((n.wrapping_mul(2_654_435_761) >> 7) % 2000) as f32 / 2000.0 - 0.5);
        assert_eq!(noise.tone, 0);
    }
}
