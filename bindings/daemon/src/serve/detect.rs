//! What is listened for besides words, and what is said of it: keys, tones, who has answered, why nothing is heard.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use control::types::{AnsweredBy, CallId, Detect, DigitsVia, Direction, Event, MediaReason, MediaState, Tone};
use engine::{DetectConfig, KeysBy, MediaFault, Party};

use super::call::CallRecord;
use super::switchboard::Switchboard;
use crate::config::{self, InbandDigits};

/// A key that came by INFO is the one that was heard in the sound if no more than this lies between.
const SAME_KEY: Duration = Duration::from_secs(1);

/// What one call is listened to for, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    /// What the client that dialled asked for.
    pub(crate) asked: Detect,
    /// What the engine was told last.
    told: Option<DetectConfig>,
    /// The far end sends keys by INFO: what is in the sound is the same ones.
    info_comes: bool,
    last_by_sound: Option<(char, Instant)>,
    /// Why nothing is heard, while nothing is.
    pub(crate) why_lost: Option<String>,
}

/// What to listen for in a call as it stands.
fn wanted(call: &CallRecord, config: &config::Detect) -> DetectConfig {
    let asked = &call.listening.asked;
    let out = call.direction == Direction::Out;
    let digits = match config.digits {
        InbandDigits::Off => false,
        InbandDigits::On => true,
        InbandDigits::Auto => !call.takes_digits,
    };
    let answered = call.answered.is_some();
    DetectConfig {
        keys: asked.digits.unwrap_or(digits) && !call.listening.info_comes,
        progress: asked.progress.unwrap_or(config.progress && out),
        answered_by: answered && asked.answered_by.unwrap_or(config.answered_by && out),
        music: answered && asked.music.unwrap_or(config.music && out),
        tones_for: answered.then(|| Duration::from_secs(config.after_answer_s)),
    }
}

impl Switchboard {
    /// Tells the engine what to listen for, if that has changed: as media begins, changes, and is answered.
    pub(super) fn listen_for(&mut self, number: u32) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let next = wanted(call, &self.config.detect);
        let nothing = call.listening.told.is_none() && next.is_off();
        if nothing || call.listening.told == Some(next) {
            return;
        }
        let Some(up) = call.up() else { return };
        match up.handle.detect(&next) {
            Ok(()) => call.listening.told = Some(next),
            Err(error) => log::warn!("{}: tones are not listened for: {error}", call.id),
        }
    }

    pub(super) fn on_key(&mut self, number: u32, digit: char, duration: Duration, by: KeysBy) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let via = if by == KeysBy::Sound { DigitsVia::Inband } else { DigitsVia::Rfc4733 };
        if via == DigitsVia::Inband {
            if call.listening.info_comes {
                return;
            }
            call.listening.last_by_sound = Some((digit, Instant::now()));
        }
        let duration_ms = duration.as_millis() as u64;
        self.notify(&Event::CallDtmf { call: CallId(number), digit, duration_ms, via });
    }

    pub(super) fn on_info_key(&mut self, number: u32, digit: char, duration: Duration) {
        if let Some(call) = self.calls.get_mut(&number) {
            call.listening.info_comes = true;
            let told = call.listening.last_by_sound.take();
            self.listen_for(number);
            if told.is_some_and(|(told, at)| told == digit && at.elapsed() < SAME_KEY) {
                return;
            }
        }
        let duration_ms = duration.as_millis() as u64;
        self.notify(&Event::CallDtmf { call: CallId(number), digit, duration_ms, via: DigitsVia::Info });
    }

    pub(super) fn on_tone(&mut self, number: u32, tone: engine::CallTone, confidence: u8) {
        let tone = match tone {
            engine::CallTone::Ringback => Tone::Ringback,
            engine::CallTone::Busy => Tone::Busy,
            engine::CallTone::Congestion => Tone::Congestion,
            engine::CallTone::SpecialInformation => Tone::Sit,
            engine::CallTone::Dial => Tone::Dial,
            engine::CallTone::Fax => Tone::Fax,
            engine::CallTone::Beep => Tone::Beep,
            _ => Tone::Other,
        };
        self.notify(&Event::CallTone { call: CallId(number), tone, confidence: share(confidence) });
    }

    pub(super) fn on_party(&mut self, number: u32, party: Party, confidence: u8, after: Duration) {
        let by = match party {
            Party::Person => AnsweredBy::Person,
            Party::Machine => AnsweredBy::Machine,
            _ => AnsweredBy::Unknown,
        };
        let after_ms = after.as_millis() as u64;
        self.notify(&Event::CallAnsweredBy { call: CallId(number), by, confidence: share(confidence), after_ms });
    }

    pub(super) fn on_music(&mut self, number: u32, playing: bool, confidence: u8) {
        self.notify(&Event::CallMusic { call: CallId(number), playing, confidence: share(confidence) });
    }

    /// Media is lost, or goes one way only.
    pub(super) fn on_fault(&mut self, number: u32, state: MediaState, fault: MediaFault) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Some(up) = call.up() else { return };
        let detail = explain(fault, up.handle.params().remote, up.local.addr);
        if state == MediaState::Lost {
            up.lost_since.get_or_insert_with(Instant::now);
            call.listening.why_lost = Some(detail.clone());
        }
        log::warn!("c{number}: {detail}");
        let (reason, detail) = (Some(reason(fault)), Some(detail));
        self.notify(&Event::CallMedia { call: CallId(number), state, reason, detail });
    }
}

fn share(percent: u8) -> f64 {
    f64::from(percent) / 100.0
}

fn reason(fault: MediaFault) -> MediaReason {
    match fault {
        MediaFault::NoPackets => MediaReason::NoPackets,
        MediaFault::Unreachable => MediaReason::Unreachable,
        MediaFault::OtherSource(_) => MediaReason::OtherSource,
        MediaFault::UnknownPayload(_) => MediaReason::UnknownPayload,
        MediaFault::NotAuthenticated => MediaReason::NotAuthenticated,
        MediaFault::OnlyComfortNoise => MediaReason::OnlyComfortNoise,
        MediaFault::FarEndHearsNothing => MediaReason::FarEndHearsNothing,
        _ => MediaReason::Other,
    }
}

/// A fault as one says it to who looks after the network. `far`: where the far end said that it is; `own`: what we told it.
fn explain(fault: MediaFault, far: SocketAddr, own: SocketAddr) -> String {
    match fault {
        MediaFault::NoPackets => format!(
            "no audio packet comes: we told the far end {own} (UDP), and expect it from {far}; if that address of ours cannot be \
             reached from there, a firewall or NAT is between (sip.public_address, sip.stun_server, media.rtp_ports)"
        ),
        MediaFault::Unreachable => format!(
            "nobody takes our audio: what we send to {far} comes back as unreachable (ICMP); the far end's description names \
             a port that it does not listen on, or a firewall refuses it"
        ),
        MediaFault::OtherSource(source) => format!(
            "audio comes from {source}, and the far end named {far}: packets of a host that it did not name are not taken; a \
             NAT or media relay on its side sends from another address than it tells"
        ),
        MediaFault::UnknownPayload(number) => format!(
            "audio packets come from {far}, but with payload type {number}, which was not agreed on: the far end sends another \
             codec than the one it chose"
        ),
        MediaFault::NotAuthenticated => format!(
            "packets come from {far}, but they are not encrypted with the agreed key (SRTP): the far end sends plain RTP, or a \
             relay between changed or mixed up the keys (media.srtp)"
        ),
        MediaFault::OnlyComfortNoise => {
            format!(
                "only comfort noise comes from {far} and never a word: its microphone or its side of the call is silent"
            )
        }
        MediaFault::FarEndHearsNothing => format!(
            "the far end reports (RTCP) that it receives nothing of what we send to {far}: a firewall or NAT on the way there, \
             or it told a wrong address"
        ),
        _ => "the audio does not go both ways".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(direction: Direction, takes_digits: bool) -> CallRecord {
        CallRecord { takes_digits, ..CallRecord::new(1, direction, String::new(), String::new()) }
    }

    #[test]
    fn keys_are_listened_for_in_the_sound_only_where_no_events_were_agreed_or_where_it_is_asked_for() {
        let auto = config::Detect::default();
        assert!(wanted(&call(Direction::In, true), &auto).is_off(), "the usual incoming call costs nothing");
        assert!(wanted(&call(Direction::In, false), &auto).keys);
        let on = config::Detect { digits: InbandDigits::On, ..auto.clone() };
        assert!(wanted(&call(Direction::In, true), &on).keys);
        let mut asked = call(Direction::In, false);
        asked.listening.asked.digits = Some(false);
        assert!(!wanted(&asked, &on).keys);
        asked.listening.asked.digits = Some(true);
        asked.listening.info_comes = true;
        assert!(!wanted(&asked, &on).keys, "INFO is the way that it has taken");
    }

    #[test]
    fn tones_are_listened_for_on_outgoing_calls_and_for_a_while_after_the_answer_and_music_from_then_on() {
        let config = config::Detect::default();
        let mut out = call(Direction::Out, true);
        let early = wanted(&out, &config);
        assert!(early.progress && !early.answered_by && !early.music && early.tones_for.is_none());
        out.answered = Some(super::super::call::Moment::now());
        let answered = wanted(&out, &config);
        assert!(answered.progress && answered.answered_by && answered.music);
        assert_eq!(answered.tones_for, Some(Duration::from_secs(30)));
    }

    #[test]
    fn an_administrator_reads_addresses_and_what_to_look_at() {
        let (far, own) = ("198.51.100.7:4000".parse().unwrap(), "192.168.1.2:20000".parse().unwrap());
        let stranger = "203.0.113.9:5000".parse().unwrap();
        for (fault, words) in [
            (MediaFault::NoPackets, ["192.168.1.2:20000", "198.51.100.7:4000", "sip.public_address"]),
            (MediaFault::Unreachable, ["198.51.100.7:4000", "ICMP", "firewall"]),
            (MediaFault::OtherSource(stranger), ["203.0.113.9:5000", "198.51.100.7:4000", "NAT"]),
            (MediaFault::UnknownPayload(97), ["97", "codec", "198.51.100.7:4000"]),
            (MediaFault::NotAuthenticated, ["SRTP", "key", "media.srtp"]),
            (MediaFault::OnlyComfortNoise, ["comfort noise", "198.51.100.7:4000", "silent"]),
            (MediaFault::FarEndHearsNothing, ["RTCP", "198.51.100.7:4000", "firewall"]),
        ] {
            let text = explain(fault, far, own);
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}
