//! What the engine and the ears tell, and what has to be moved along every few milliseconds.

use std::time::{Duration, Instant};

use asr::EarsEvent;
use asr::announcement::announcement;
use control::types::{Announcement, CallId, Cause, Direction, Event, MediaState, Speaker, Word};
use engine::{JackEvent, MediaEvent};

use super::call::Media;
use super::switchboard::{Channel, Switchboard};

/// How often a playing response's progress is told.
const PROGRESS: Duration = Duration::from_millis(200);

/// When a response's progress is told first: at another time for each call, so that many calls in which the agent began at once
/// do not tell it in one burst, for whose end other requests would have to wait.
fn first_progress(number: u32) -> Duration {
    let step = PROGRESS / 20;
    step * (1 + number % 20)
}

impl Switchboard {
    /// Everything the media of a call can tell.
    pub(super) fn on_media(&mut self, number: u32, event: MediaEvent) {
        let call = CallId(number);
        let Some(record) = self.calls.get_mut(&number) else { return };
        match event {
            MediaEvent::Digit { digit, duration, by } => self.on_key(number, digit, duration, by),
            MediaEvent::Tone { tone, confidence } => self.on_tone(number, tone, confidence),
            MediaEvent::Music { playing, confidence } => self.on_music(number, playing, confidence),
            MediaEvent::AnsweredBy { party, confidence, after } => self.on_party(number, party, confidence, after),
            MediaEvent::MediaLost { fault } => self.on_fault(number, MediaState::Lost, fault),
            MediaEvent::OneWay { fault } => self.on_fault(number, MediaState::OneWay, fault),
            MediaEvent::MediaFound => {
                if let Some(up) = record.up() {
                    up.lost_since = None;
                }
                record.listening.why_lost = None;
                self.notify(&Event::CallMedia { call, state: MediaState::Found, reason: None, detail: None });
            }
            MediaEvent::ResponseStarted { .. } => {
                record.response_began = record.media_time();
                record.next_progress = Some(Instant::now() + first_progress(number));
                if let Some((response, generation)) = record.speech.playing() {
                    self.notify(&Event::ResponseStarted { call, response, generation });
                }
            }
            MediaEvent::ResponseFinished { generation, played, interrupted } => {
                if let Some(finished) = record.speech.finished(generation, played, interrupted) {
                    self.response_over(number, finished);
                    self.pump_voice(number);
                }
            }
            MediaEvent::PlayFinished { play, played, reason } => self.play_over(number, play, played, reason),
            MediaEvent::JackLost => record.jack = false,
            MediaEvent::JackBack => record.jack = true,
            MediaEvent::Recording(news) => self.on_recording(number, *news),
            _ => {}
        }
    }

    /// What JACK has to tell; that it is lost or back is seen by its state.
    pub(super) fn on_jack(&mut self, event: JackEvent) {
        log::warn!("JACK: {event:?}");
        match event {
            JackEvent::Xruns { count, total } => self.server.notify(&Event::JackXruns { count, total }, None),
            JackEvent::ClientRefused { label, reason } => {
                let text = format!(
                    "{label} has no JACK client of its own, its ports are at the shared one, as those of calls after it: {reason}"
                );
                self.server.notify(&Event::DaemonWarning { text }, None);
            }
            _ => {}
        }
    }

    /// Everything the ears can tell.
    pub(super) fn on_ears(&mut self, event: EarsEvent) {
        let number = event.stream().0;
        let call = CallId(number);
        let ms = |time: Duration| time.as_millis() as u64;
        match event {
            EarsEvent::SpeechStart { at, .. } => {
                self.notify(&Event::SpeechStart { call, at_ms: ms(at) });
            }
            EarsEvent::BargeIn { .. } => {
                self.flush_voice(number, false);
                self.notify(&Event::TurnBargeIn { call });
            }
            EarsEvent::Onset { .. } => self.duck_voice(number, true),
            EarsEvent::OnsetOver { .. } => self.duck_voice(number, false),
            EarsEvent::SpeechStop { at, .. } => {
                self.duck_voice(number, false);
                self.notify(&Event::SpeechStop { call, at_ms: ms(at) });
            }
            EarsEvent::Partial { utterance, text, confirmed, start, end, .. } => {
                let (start_ms, end_ms, latency_ms) = (ms(start), ms(end), self.since_ms(number, end));
                self.notify(&Event::TranscriptPartial {
                    call,
                    utterance,
                    text,
                    confirmed,
                    start_ms,
                    end_ms,
                    latency_ms,
                });
            }
            EarsEvent::Eager { utterance, text, start, end, .. } => {
                let (start_ms, end_ms, latency_ms) = (ms(start), ms(end), self.since_ms(number, end));
                self.notify(&Event::TranscriptEager { call, utterance, text, start_ms, end_ms, latency_ms });
            }
            EarsEvent::Resumed { utterance, at, .. } => {
                self.notify(&Event::TurnResumed { call, utterance, at_ms: ms(at) });
            }
            EarsEvent::Final { utterance, text, as_eager, backchannel, words, start, end, latency, .. } => {
                if let Some(record) = self.calls.get_mut(&number) {
                    if !backchannel {
                        record.speech.caller_turn_ended();
                    }
                    if !text.is_empty() {
                        record.add_line(Speaker::Caller, Some(text.clone()), start, end, Some(utterance));
                    }
                }
                self.tell_announcement(number, utterance, &text);
                let (start_ms, end_ms, latency_ms) = (ms(start), ms(end), ms(latency));
                let words = words
                    .into_iter()
                    .map(|word| Word { word: word.word, start_ms: ms(word.start), end_ms: ms(word.end) })
                    .collect();
                self.notify(&Event::TranscriptFinal {
                    call,
                    utterance,
                    text,
                    as_eager,
                    backchannel,
                    start_ms,
                    end_ms,
                    latency_ms,
                    words,
                });
            }
            EarsEvent::Closed { .. } => {
                let over = self.calls.get_mut(&number).is_some_and(|record| {
                    record.heard = false;
                    record.is_over()
                });
                if over {
                    self.summarise(number);
                }
            }
            EarsEvent::RecognizerFailed { reason, .. } => {
                if let Some(others) = self.recognizer_failures.turn(Instant::now()) {
                    let text = format!("{call}: words were lost: {reason} ({others} others since this was last said)");
                    self.notify(&Event::DaemonWarning { text });
                }
            }
            EarsEvent::WorkerRestarted { worker, cause, .. } => {
                let text = format!("speech recogniser {worker} {cause}; it was started again");
                log::error!("{text}");
                self.notify(&Event::DaemonWarning { text });
            }
            _ => {}
        }
    }

    /// What the far end says on a call that goes out may be a machine's announcement.
    fn tell_announcement(&mut self, number: u32, utterance: u32, text: &str) {
        let goes_out = self.calls.get(&number).is_some_and(|call| call.direction == Direction::Out);
        let Some((kind, confidence)) = announcement(text).filter(|_| goes_out && self.config.detect.answered_by) else {
            return;
        };
        let kind = match kind {
            asr::announcement::Announcement::Voicemail => Announcement::Voicemail,
            asr::announcement::Announcement::Hold => Announcement::Hold,
        };
        // two digits say enough
        let confidence = f64::from((confidence * 100.0).round()) / 100.0;
        self.notify(&Event::CallAnnouncement { call: CallId(number), kind, confidence, utterance });
    }

    /// How long ago this moment of a call's media was.
    fn since_ms(&self, number: u32, at: Duration) -> u64 {
        let now = self.calls.get(&number).and_then(super::call::CallRecord::media_time);
        now.map_or(0, |now| now.saturating_sub(at).as_millis() as u64)
    }

    /// Moves everything along: the agent's voices, subscriptions, progress, calls whose media is gone, JACK's state.
    pub(super) fn pump(&mut self, now: Instant) {
        let busy: Vec<u32> =
            self.calls.values().filter(|call| matches!(call.media, Media::Up(_))).map(|call| call.id.0).collect();
        for number in busy {
            self.pump_voice(number);
            self.tell_of_agent(number);
            self.tell_progress(number, now);
            self.end_if_media_is_gone(number, now);
            self.end_if_time_is_up(number, now);
            self.press_by_info(number, now);
        }
        let began = self.began;
        for ((client, channel), used) in &mut self.channels {
            if let Channel::Ears(subscription) = used {
                subscription.pump(*client, *channel, began, &mut self.server);
            }
        }
        let jack = super::report::jack_state(&self.engine.jack_state());
        if jack != self.jack {
            self.jack = jack;
            self.server.notify(&Event::JackState { state: jack }, None);
        }
        self.end_overdue_rings(now);
    }

    fn pump_voice(&mut self, number: u32) {
        if let Some(call) = self.calls.get_mut(&number)
            && let Media::Up(up) = &mut call.media
        {
            call.speech.pump(up.handle.voice());
        }
    }

    fn tell_progress(&mut self, number: u32, now: Instant) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Some(due) = call.next_progress.filter(|due| now >= *due) else { return };
        let Media::Up(up) = &mut call.media else { return };
        let Some((response, generation)) = call.speech.playing() else { return };
        let position = call.speech.position(up.handle.voice());
        call.next_progress = Some(due + PROGRESS);
        let id = call.id;
        let (played_ms, queued_ms) = (position.played_ms, position.queued_ms);
        self.notify(&Event::ResponseProgress { call: id, response, generation, played_ms, queued_ms });
    }

    fn end_if_media_is_gone(&mut self, number: u32, now: Instant) {
        let Some(limit) = self.config.media_lost_after() else { return };
        // before the answer silence is no fault: a gateway may announce early media and send none
        let lost_since = self.calls.get_mut(&number).and_then(|call| {
            let answered = call.answered?.at;
            Some(call.up()?.lost_since?.max(answered))
        });
        let gone = lost_since.is_some_and(|since| now.saturating_duration_since(since) + super::MEDIA_LOST >= limit);
        if gone {
            let why = self.calls.get(&number).and_then(|call| call.listening.why_lost.clone());
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            let reason = format!("no audio came from the far end for {} s{why}", limit.as_secs());
            self.hang_up_for(number, Cause::Media, &reason);
        }
    }

    /// No call may cost more than was meant, whatever a client forgets (case 15).
    fn end_if_time_is_up(&mut self, number: u32, now: Instant) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        if call.until.take_if(|until| now >= *until).is_none() {
            return;
        }
        let (limit, key) = match call.direction {
            Direction::Out => (self.config.dialing.max_call_s, "dialing.max_call_s"),
            Direction::In => (self.config.sip.max_incoming_call_s, "sip.max_incoming_call_s"),
        };
        self.hang_up_for(number, Cause::TimeLimit, &format!("a call may last {limit} s ({key})"));
    }
}
