//! A call's part in a bridge: what others hear of it within a tick, and what they add to what it sends.

use super::MediaCall;
use super::params::MAX_SENT_SAMPLES;
use crate::TICK_SAMPLES;
use crate::bridge::Source;

/// What bridged calls add to the packet that is being collected.
#[derive(Debug)]
pub(super) struct Bridged {
    /// Links that begin or end at this call.
    links: u32,
    /// Whether there is something in `added`.
    used: bool,
    added: Box<[f32; MAX_SENT_SAMPLES]>,
}

impl Default for Bridged {
    fn default() -> Self {
        Self { links: 0, used: false, added: Box::new([0.0; MAX_SENT_SAMPLES]) }
    }
}

impl Bridged {
    /// Whether the voice is to be collected tick by tick.
    pub(super) fn is_on(&self) -> bool {
        self.links > 0
    }

    /// Adds what was collected to a packet's samples, and begins anew.
    pub(super) fn add_to(&mut self, outgoing: &mut [f32]) {
        if !std::mem::take(&mut self.used) {
            return;
        }
        for (sample, added) in outgoing.iter_mut().zip(&*self.added) {
            *sample += added;
        }
        self.added.fill(0.0);
    }

    /// Forgets what was collected for a packet that is not sent.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.used) {
            self.added.fill(0.0);
        }
    }
}

impl MediaCall {
    /// One more link begins or ends here.
    pub(crate) fn join_bridge(&mut self) {
        self.bridged.links += 1;
    }

    /// A link is gone.
    pub(crate) fn leave_bridge(&mut self) {
        self.bridged.links = self.bridged.links.saturating_sub(1);
    }

    /// The 5 ms between [`hear`](Self::hear) and [`speak`](Self::speak): what the far end said, or what is said to it by
    /// the agent. `None` if nothing is said, as the packet will not be sent.
    pub(crate) fn piece(&self, source: Source) -> Option<[f32; TICK_SAMPLES]> {
        let at = self.at();
        let samples = match source {
            Source::Caller => &self.caller,
            Source::Agent if self.collected == at + TICK_SAMPLES => &self.outgoing,
            Source::Agent => return None,
        };
        samples.get(at..at + TICK_SAMPLES)?.try_into().ok()
    }

    /// Adds 5 ms to what is sent, in the same place.
    pub(crate) fn add_piece(&mut self, piece: &[f32; TICK_SAMPLES]) {
        let at = self.at();
        self.bridged.used = true;
        for (sample, added) in self.bridged.added[at..at + TICK_SAMPLES].iter_mut().zip(piece) {
            *sample += added;
        }
    }
}
