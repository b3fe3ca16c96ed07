//! The agent's side of one call: responses in the order they were started, on their way to the engine's voice ring.
//!
//! Clients may hand over a long answer faster than it can be spoken. The engine's ring holds 8 s; what comes earlier
//! waits here, up to [`MAX_PENDING_MS`], and what exceeds that is refused and counted, never silently lost. Responses
//! play one after the other: the next is started in the engine when the one before it has drained.
//!
//! What must hold: audio of a response that was halted or cleared never plays, whatever is still on its way.

use std::collections::VecDeque;

use control::types::{Encoding, Position};
use engine::codec::{from_i16, to_i16};
use engine::dsp::{Resampler, ResamplerError};
use engine::{Generation, VOICE_SAMPLES, Voice, WriteResult};

use super::samples;

/// Sample rate of everything behind the resampler, in Hz.
pub(crate) const RATE: u64 = 8000;
/// What a client may have outstanding (sent and not yet played); told to it in the answer to `response.start`. As much as
/// the engine's ring holds, so that a client that keeps to it costs no memory here.
pub(crate) const WINDOW_MS: u64 = VOICE_SAMPLES as u64 * 1_000 / RATE;
/// What is really kept before refusing: clients measure the window with old news, and some do not measure at all.
const MAX_PENDING_MS: u64 = 50_000;
/// Samples that are handed to the engine at once.
const PUMPED: usize = 800;
/// Room for so many samples is kept for what comes next.
const KEPT: usize = 4_096;

/// One thing the agent says.
#[derive(Debug)]
struct Response {
    number: u64,
    /// The client's generation: audio frames carry it, and stale ones are recognised by it.
    generation: u64,
    channel: u16,
    text: Option<String>,
    /// From the client's rate to ours; `None` once the input has ended.
    resampler: Option<Resampler>,
    rate: u32,
    pending: VecDeque<i16>,
    ended: bool,
    /// Set once the engine plays it.
    playing: Option<Generation>,
    /// The engine has taken something of it, and will tell its end.
    taken: bool,
    engine_ended: bool,
    /// The turn it belongs to.
    turn: u64,
}

/// A response that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) response: u64,
    pub(crate) generation: u64,
    pub(crate) channel: u16,
    pub(crate) text: Option<String>,
    pub(crate) played: u64,
    pub(crate) interrupted: bool,
}

/// What became of one audio frame, in samples at the client's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) accepted: usize,
    pub(crate) refused: usize,
}

/// All that the agent is saying and going to say on one call.
#[derive(Debug, Default)]
pub(crate) struct AgentSpeech {
    responses: VecDeque<Response>,
    last_number: u64,
    generation: u64,
    halted: bool,
    /// Samples sent by responses of this turn that are over.
    turn_played: u64,
    /// Counts turns, so that what a cut response had played is not added to the next one.
    turn: u64,
    turn_over: bool,
}

impl AgentSpeech {
    /// Begins a response whose audio will come on `channel` at `rate` Hz. Returns its number and generation.
    ///
    /// # Errors
    /// There is no conversion from this rate.
    pub(crate) fn start(
        &mut self,
        rate: u32,
        channel: u16,
        text: Option<String>,
    ) -> Result<(u64, u64), ResamplerError> {
        let resampler = Some(Resampler::new(rate, RATE as u32)?);
        if std::mem::take(&mut self.turn_over) {
            self.begin_turn();
        }
        self.last_number += 1;
        self.generation += 1;
        let (number, generation) = (self.last_number, self.generation);
        self.responses.push_back(Response {
            number,
            generation,
            channel,
            text,
            resampler,
            rate,
            pending: VecDeque::new(),
            ended: false,
            playing: None,
            taken: false,
            engine_ended: false,
            turn: self.turn,
        });
        Ok((number, generation))
    }

    /// Takes one audio frame. `None`: nothing current has this channel and generation; the frame is discarded.
    pub(crate) fn push(
        &mut self,
        channel: u16,
        generation: u64,
        encoding: Encoding,
        payload: &[u8],
    ) -> Option<(u64, Taken)> {
        let waiting = self.responses.iter().map(|r| r.pending.len()).sum();
        let response =
            self.responses.iter_mut().find(|r| r.channel == channel && r.generation == generation && !r.ended)?;
        let samples = samples::decode(encoding, payload);
        let room = ((MAX_PENDING_MS * RATE / 1000) as usize).saturating_sub(waiting);
        // what is accepted is a prefix of what was sent, so that the client knows where to go on
        let accepted = samples.len().min((room as u64 * u64::from(response.rate) / RATE) as usize);
        let (resampler, pending) = (&mut response.resampler, &mut response.pending);
        if let Some(resampler) = resampler {
            resampler.process(&samples[..accepted], |block| pending.extend(block.iter().map(|&sample| to_i16(sample))));
        }
        Some((response.number, Taken { accepted, refused: samples.len() - accepted }))
    }

    /// No more audio will come for this response. Returns its channel and what is still to be played up to its end, in
    /// ms; `None` if it is not known (any more).
    pub(crate) fn end(&mut self, response: u64, voice: &Voice) -> Option<(u16, u64)> {
        let index = self.responses.iter().position(|r| r.number == response)?;
        self.responses[index].finish_input();
        let ahead: usize = self.responses.iter().take(index + 1).map(|r| r.pending.len()).sum();
        let queued = ahead as u64 + voice.queued() as u64;
        Some((self.responses[index].channel, queued * 1000 / RATE))
    }

    /// Moves audio towards the wire. Call it at least every 10 ms while [`Self::is_busy`].
    pub(crate) fn pump(&mut self, voice: &mut Voice) {
        let Some(front) = self.responses.front_mut().filter(|_| !self.halted) else { return };
        // the engine tells the end only of what it was told the beginning of
        if front.playing.is_none() && front.pending.is_empty() && !front.ended {
            return;
        }
        let generation = *front.playing.get_or_insert_with(|| voice.start_response());
        while !front.pending.is_empty() {
            let (head, _) = front.pending.as_slices();
            let mut block = [0.0; PUMPED];
            let count = head.len().min(PUMPED);
            block.iter_mut().zip(head).for_each(|(to, &from)| *to = from_i16(from));
            match voice.write(generation, &block[..count]) {
                WriteResult::Accepted(0) | WriteResult::Stale | WriteResult::Halted => break,
                WriteResult::Accepted(taken) => {
                    front.taken = true;
                    drop(front.pending.drain(..taken));
                }
            }
        }
        if front.pending.is_empty() && front.pending.capacity() > KEPT {
            front.pending = VecDeque::new(); // it came in one piece, and the engine has room for all of it
        }
        if front.ended && front.pending.is_empty() && !front.engine_ended {
            front.engine_ended = true;
            front.taken = true;
            voice.end_response(generation);
        }
    }

    /// The engine says that a response is over. `None` if it was dropped before.
    pub(crate) fn finished(
        &mut self,
        engine_generation: Generation,
        played: u64,
        interrupted: bool,
    ) -> Option<Finished> {
        let index = self.responses.iter().position(|r| r.playing == Some(engine_generation))?;
        let response = self.responses.remove(index)?;
        if response.turn == self.turn {
            self.turn_played += played;
        }
        Some(response.into_finished(played, interrupted))
    }

    /// Stops at once (the engine fades 20 ms) and forgets what was queued. With `latch`, nothing plays until
    /// [`Self::resume`]. Returns the responses that had not begun; the one that played is told by the engine.
    pub(crate) fn flush(&mut self, voice: &mut Voice, latch: bool) -> Vec<Finished> {
        self.generation += 1;
        if latch {
            self.halted = true;
            voice.halt();
        } else {
            voice.clear();
        }
        let mut dropped = Vec::new();
        for mut response in std::mem::take(&mut self.responses) {
            if response.taken {
                // it stays only to be told as finished; nothing more is taken or played
                response.ended = true;
                response.engine_ended = true;
                response.pending.clear();
                response.resampler = None;
                self.responses.push_back(response);
            } else {
                dropped.push(response.into_finished(0, true));
            }
        }
        dropped
    }

    /// Ends the latch of a halt and begins a new turn.
    pub(crate) fn resume(&mut self, voice: &mut Voice) {
        self.halted = false;
        self.turn_over = false;
        self.begin_turn();
        voice.resume();
    }

    /// The caller has finished a turn: the next response counts from zero.
    pub(crate) fn caller_turn_ended(&mut self) {
        self.turn_over = true;
    }

    fn begin_turn(&mut self) {
        self.turn += 1;
        self.turn_played = 0;
    }

    /// True while there is audio to move.
    pub(crate) fn is_busy(&self) -> bool {
        !self.responses.is_empty()
    }

    /// The response that the engine knows by this generation, or what plays now: its number and generation.
    pub(crate) fn playing(&self) -> Option<(u64, u64)> {
        let front = self.responses.front()?;
        front.playing.map(|_| (front.number, front.generation))
    }

    /// The response that plays or is to play next: its number and text.
    pub(crate) fn front(&self) -> Option<(u64, Option<&str>)> {
        let front = self.responses.front()?;
        Some((front.number, front.text.as_deref()))
    }

    /// Where the voice stands, exact to the sample as of the last packet sent.
    pub(crate) fn position(&self, voice: &Voice) -> Position {
        let engine = voice.position();
        let playing = self.responses.front().filter(|r| r.playing.is_some() && r.turn == self.turn);
        let played = match playing {
            Some(response) if response.playing == Some(engine.generation) => engine.played,
            _ => 0,
        };
        let pending: usize = self.responses.iter().map(|r| r.pending.len()).sum();
        Position {
            halted: self.halted,
            generation: playing.map_or(self.generation, |r| r.generation),
            response: playing.map(|r| r.number),
            played_ms: played * 1000 / RATE,
            turn_ms: (self.turn_played + played) * 1000 / RATE,
            queued_ms: (pending as u64 + engine.queued as u64) * 1000 / RATE,
        }
    }

    /// The call is over: everything that was not told as finished.
    pub(crate) fn abandon(&mut self, voice: &Voice) -> Vec<Finished> {
        let position = voice.position();
        std::mem::take(&mut self.responses)
            .into_iter()
            .map(|response| {
                let played = if response.playing == Some(position.generation) { position.played } else { 0 };
                response.into_finished(played, true)
            })
            .collect()
    }
}

impl Response {
    fn finish_input(&mut self) {
        if let Some(mut resampler) = self.resampler.take() {
            let pending = &mut self.pending;
            resampler.flush(|block| pending.extend(block.iter().map(|&sample| to_i16(sample))));
        }
        self.ended = true;
    }

    fn into_finished(self, played: u64, interrupted: bool) -> Finished {
        Finished {
            response: self.number,
            generation: self.generation,
            channel: self.channel,
            text: self.text,
            played,
            interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::stats::Counters;
    use engine::{MediaEvent, VoiceReader, voice};

    use super::*;

    const CHANNEL: u16 = 1;

    /// An agent's speech, the engine's voice, and a telephone line that takes 20 ms at a time.
    struct Line {
        speech: AgentSpeech,
        voice: Voice,
        reader: VoiceReader,
        finished: Vec<Finished>,
    }

    impl Line {
        fn new() -> Self {
            let (voice, reader) = voice();
            Self { speech: AgentSpeech::default(), voice, reader, finished: Vec::new() }
        }

        fn start(&mut self) -> (u64, u64) {
            self.speech.start(8000, CHANNEL, None).unwrap()
        }

        fn send_ms(&mut self, generation: u64, ms: usize) {
            let bytes = vec![0xff; ms * 8];
            self.speech.push(CHANNEL, generation, Encoding::Ulaw, &bytes).unwrap();
        }

        /// What the switchboard does every 10 ms, for so long.
        fn run_ms(&mut self, ms: usize) {
            for _ in 0..ms / 20 {
                self.speech.pump(&mut self.voice);
                let mut events = Vec::new();
                self.reader.pull(&mut [0.0; 160], &Counters::default(), &mut |event| events.push(event));
                for event in events {
                    if let MediaEvent::ResponseFinished { generation, played, interrupted } = event {
                        self.finished.extend(self.speech.finished(generation, played, interrupted));
                    }
                }
            }
        }

        fn flush(&mut self, latch: bool) {
            let dropped = self.speech.flush(&mut self.voice, latch);
            self.finished.extend(dropped);
        }

        fn ends(&self) -> Vec<(u64, u64, bool)> {
            self.finished.iter().map(|f| (f.response, f.played / 8, f.interrupted)).collect()
        }
    }

    #[test]
    fn responses_play_one_after_the_other_and_drain_to_their_ends() {
        let mut line = Line::new();
        let (first, generation) = line.start();
        line.send_ms(generation, 100);
        line.speech.end(first, &line.voice).unwrap();
        let (second, generation) = line.start();
        line.send_ms(generation, 60);
        line.speech.end(second, &line.voice).unwrap();
        line.run_ms(400);
        assert_eq!(line.ends(), [(first, 100, false), (second, 60, false)]);
        assert_eq!(line.speech.position(&line.voice).turn_ms, 160);
        assert!(!line.speech.is_busy());
    }

    #[test]
    fn a_response_flushed_before_its_first_audio_does_not_block_the_next() {
        for latch in [false, true] {
            let mut line = Line::new();
            let (empty, generation) = line.start();
            line.run_ms(100);
            line.flush(latch);
            assert_eq!(line.ends(), [(empty, 0, true)]);
            assert!(line.speech.push(CHANNEL, generation, Encoding::Ulaw, &[0xff; 160]).is_none(), "it is stale");
            line.speech.resume(&mut line.voice);
            let (next, generation) = line.start();
            line.send_ms(generation, 60);
            line.speech.end(next, &line.voice).unwrap();
            line.run_ms(200);
            assert_eq!(line.ends().last(), Some(&(next, 60, false)));
        }
    }

    #[test]
    fn what_a_cut_response_played_is_not_counted_in_the_turn_after_the_resume() {
        let mut line = Line::new();
        let (first, generation) = line.start();
        line.send_ms(generation, 1000);
        line.run_ms(200);
        line.flush(true);
        line.speech.resume(&mut line.voice);
        assert_eq!(line.speech.position(&line.voice).turn_ms, 0);
        line.run_ms(100);
        let (response, played, interrupted) = line.ends()[0];
        assert!(response == first && interrupted && (180..=240).contains(&played), "{:?}", line.ends());
        assert_eq!(line.speech.position(&line.voice).turn_ms, 0);
    }

    #[test]
    fn more_than_the_window_is_refused_and_counted_over_all_responses() {
        let mut line = Line::new();
        let (_, first) = line.start();
        line.send_ms(first, 30_000);
        let (_, second) = line.start();
        let bytes = vec![0xff; 30_000 * 8];
        let (_, taken) = line.speech.push(CHANNEL, second, Encoding::Ulaw, &bytes).unwrap();
        assert_eq!(taken.accepted + taken.refused, bytes.len());
        assert_eq!(taken.accepted, (MAX_PENDING_MS as usize - 30_000) * 8);
    }
}
