//! Bridges: what one call hears is said to another, within the tick and without a buffer.
//!
//! A bridge is made of [`Link`]s. Each takes 5 ms of one call (its far end, or what its agent says to it) and adds them
//! to what another call sends: two make a conversation, and one-way ones let a supervisor listen or whisper. The media
//! thread lets all linked calls hear first, then passes on what the links carry, then lets them speak, so a bridge adds
//! nothing to the delay but the wait for the packet that is being collected.
//!
//! Linked calls must be on one media thread; the engine moves one of them if they are not.
//!
//! What must hold: nothing here allocates after `Links::new`, whatever is asked. A link begins and ends with a ramp of
//! one tick, so that neither is heard as a click.

mod board;
mod links;

use crate::event::CallId;
pub(crate) use board::Board;
pub(crate) use links::Links;

/// Links that a media thread can have, for each call that it can have.
pub(crate) const LINKS_PER_CALL: usize = 4;

/// What of a call goes over a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// What its far end says.
    Caller,
    /// What its agent says to its far end: the voice, or what JACK makes of it. Not what other calls add.
    Agent,
}

/// One way of a bridge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Who is heard.
    pub from: CallId,
    /// What of it.
    pub source: Source,
    /// Who hears it.
    pub to: CallId,
    /// How loud, as a factor.
    pub gain: f32,
}

impl Link {
    /// Whether both lead the same way.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.from, self.source, self.to) == (other.from, other.source, other.to)
    }
}

/// A change to a media thread's links.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkCommand {
    /// A new link, or another gain for one that there is.
    Set(Link),
    /// No such link any more; its gain means nothing.
    Remove(Link),
}

#[cfg(test)]
mod tests;
