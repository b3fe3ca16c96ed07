//! What the engine knows of its calls' bridges: which media thread has which call, and which links there are.

use std::collections::HashMap;

use super::{Link, LinkCommand};
use crate::error::EngineError;
use crate::event::CallId;
use crate::media_thread::{MediaThread, Order, RunningCall};

/// Where calls are and how they are linked.
#[derive(Debug, Default)]
pub(crate) struct Board {
    threads: HashMap<CallId, Place>,
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    On(usize),
    /// Asked for, to be put on that thread.
    MovingTo(usize),
}

impl Place {
    /// The thread that has it, or will.
    fn thread(self) -> usize {
        let (Self::On(thread) | Self::MovingTo(thread)) = self;
        thread
    }
}

impl Board {
    /// A new call is on that thread.
    pub(crate) fn add(&mut self, call: CallId, thread: usize) {
        self.threads.insert(call, Place::On(thread));
    }

    /// A call is over.
    pub(crate) fn remove(&mut self, call: CallId) {
        self.threads.remove(&call);
        self.links.retain(|link| link.from != call && link.to != call);
    }

    /// Makes a link, or gives one another gain. A call on another thread is moved first, which takes a few ticks.
    pub(crate) fn link(&mut self, threads: &mut [MediaThread], link: Link) -> Result<(), EngineError> {
        if link.from == link.to {
            return Err(EngineError::BridgedToItself);
        }
        let place = |call| self.threads.get(&call).copied().ok_or(EngineError::Ended);
        let (from, to) = (place(link.from)?, place(link.to)?);
        let max = threads.first().map_or(0, |thread| thread.orders.buffer().capacity());
        let known = self.links.iter().position(|other| other.is_like(&link));
        if known.is_none() && self.links.len() >= max {
            return Err(EngineError::TooManyLinks { max });
        }
        if from.thread() != to.thread() {
            self.bring_together(threads, (link.from, from), (link.to, to))?;
        }
        let ready = [link.from, link.to].iter().all(|call| matches!(self.threads.get(call), Some(Place::On(_))));
        if ready {
            order(threads, to.thread(), Order::Link(LinkCommand::Set(link)))?;
        }
        match known {
            Some(index) => self.links[index] = link,
            None => self.links.push(link),
        }
        Ok(())
    }

    /// Ends a link, if there is one.
    pub(crate) fn unlink(&mut self, threads: &mut [MediaThread], link: Link) -> Result<(), EngineError> {
        let Some(index) = self.links.iter().position(|other| other.is_like(&link)) else { return Ok(()) };
        if let Some(Place::On(thread)) = self.threads.get(&link.to) {
            order(threads, *thread, Order::Link(LinkCommand::Remove(link)))?;
        }
        self.links.swap_remove(index);
        Ok(())
    }

    /// A call that was asked for is here: on to the other thread, and its links with it. A call that cannot go on is
    /// given back, to be dropped.
    pub(crate) fn given(&mut self, threads: &mut [MediaThread], call: Box<RunningCall>) -> Option<Box<RunningCall>> {
        let id = call.media.id();
        let Some(Place::MovingTo(thread)) = self.threads.get(&id).copied() else { return Some(call) };
        if let Err(rtrb::PushError::Full(call)) = threads.get_mut(thread)?.new_calls.push(call) {
            return Some(call);
        }
        self.threads.insert(id, Place::On(thread));
        for link in self.links.iter().filter(|link| link.from == id || link.to == id) {
            let other = if link.from == id { link.to } else { link.from };
            if matches!(self.threads.get(&other), Some(Place::On(_))) {
                let _ = order(threads, thread, Order::Link(LinkCommand::Set(*link)));
            }
        }
        None
    }

    fn bring_together(
        &mut self,
        threads: &mut [MediaThread],
        (a, a_place): (CallId, Place),
        (b, b_place): (CallId, Place),
    ) -> Result<(), EngineError> {
        let is_free = |call, place| {
            matches!(place, Place::On(_)) && !self.links.iter().any(|link| link.from == call || link.to == call)
        };
        let (mover, from, to) = match (is_free(a, a_place), is_free(b, b_place)) {
            (true, _) => (a, a_place.thread(), b_place.thread()),
            (_, true) => (b, b_place.thread(), a_place.thread()),
            _ => return Err(EngineError::BridgedApart),
        };
        order(threads, from, Order::Give(mover))?;
        self.threads.insert(mover, Place::MovingTo(to));
        Ok(())
    }
}

fn order(threads: &mut [MediaThread], thread: usize, order: Order) -> Result<(), EngineError> {
    let thread = threads.get_mut(thread).ok_or(EngineError::Ended)?;
    thread.orders.push(order).map_err(|_| EngineError::Busy)
}
