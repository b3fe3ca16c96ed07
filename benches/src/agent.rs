//! The brain of all calls.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use control::client::Message;
use control::types::{CallId, CallState, Encoding, Event, ResponseStart};
use control::{Client, ControlError};
use mr_sip::demo::voice::Voice;

/// The brain of all calls: speaks on each, all the time.
#[derive(Debug, Default)]
pub struct Agent {
    /// Calls that are up.
    pub up: BTreeSet<u32>,
    /// Turns of callers that were understood.
    pub finals: usize,
    /// What it says, PCMU.
    speech: Vec<u8>,
}

impl Agent {
    /// One that is ready to speak; the voice is made in this folder.
    ///
    /// # Errors
    /// There is no espeak-ng, or the folder cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        let voice = Voice { name: "en-gb", rate: 165 };
        let speech = voice
            .say("this agent speaks without a pause so that every call has a voice to play all the time", folder)?;
        Ok(Self { speech: telephone_bytes(&speech.at_telephone_rate()?), ..Self::default() })
    }

    /// Serves events for so long.
    ///
    /// # Errors
    /// The daemon is gone.
    pub fn attend(&mut self, client: &mut Client, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let Some(message) = client.next_message(until)? {
            let Message::Event(notification) = message else { continue };
            match notification.event {
                Event::CallState { call, state: CallState::Answered, .. } => {
                    self.up.insert(call.0);
                    self.speak(client, call)?;
                }
                Event::CallState { call, state: CallState::Ended, .. } => {
                    self.up.remove(&call.0);
                }
                Event::ResponseFinished { call, .. } if self.up.contains(&call.0) => self.speak(client, call)?,
                Event::TranscriptFinal { .. } => self.finals += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Serves events on a thread of its own for as long as the work takes; what the work gave.
    ///
    /// # Errors
    /// The daemon is gone, or the work's own.
    pub fn attend_during<T>(&mut self, client: &mut Client, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let attending = scope.spawn(|| -> Result<()> {
                while !over.load(Ordering::Relaxed) {
                    self.attend(client, Duration::from_millis(200))?;
                }
                Ok(())
            });
            let outcome = work();
            over.store(true, Ordering::Relaxed);
            attending.join().map_err(|_| anyhow!("the agent panicked"))??;
            outcome
        })
    }

    fn speak(&self, client: &mut Client, call: CallId) -> Result<()> {
        match self.try_speak(client, call) {
            // it has ended meanwhile; who counts calls will hear of it
            Err(ControlError::Api(_)) => Ok(()),
            other => Ok(other?),
        }
    }

    fn try_speak(&self, client: &mut Client, call: CallId) -> Result<(), ControlError> {
        let reply = client.request(&ResponseStart { encoding: Encoding::Ulaw, ..ResponseStart::new(call) })?;
        client.send_audio(reply.channel, Encoding::Ulaw, reply.generation, 0, &self.speech)?;
        client.request(&control::types::ResponseEnd { call, response: reply.response })?;
        Ok(())
    }
}

/// Samples at 8 kHz as PCMU.
#[must_use]
pub fn telephone_bytes(samples: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; samples.len()];
    engine::Codec::Pcmu.encode(samples, &mut bytes);
    bytes
}
