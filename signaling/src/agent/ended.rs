//! Dialogs that are over. When both ends hang up at once, the far end's BYE is on its way while ours is, and finds no call any
//! more; over UDP a BYE or CANCEL may also come late, by another branch, or by another way. All of that is no offence and no
//! mistake: for 64 * T1, as long as anything may still be sent again, such a request is answered as if the call had just ended.
//!
//! Of a dialog no more is kept than the names that tell it from a guess. The table is bounded, and the oldest goes first; nothing
//! here has a timer, so that a table at rest costs nothing.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use super::limits;
use crate::{
    message::{Meta, Method},
    transaction::TIMEOUT,
};

/// Call-ID and the far end's tag.
type Name = (String, String);

/// The dialogs that have ended of late.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Our tag, and when the dialog is forgotten.
    dialogs: HashMap<Name, (String, Instant)>,
    /// Their names, the oldest first; every name that is in `dialogs` is here, with the same time.
    order: VecDeque<(Instant, Name)>,
}

impl Ended {
    /// A dialog has ended.
    pub(super) fn add(&mut self, now: Instant, call_id: &str, local_tag: &str, remote_tag: &str) {
        self.forget(now);
        let name = (call_id.to_owned(), remote_tag.to_owned());
        if self.dialogs.contains_key(&name) {
            return;
        }
        while self.order.len() >= limits::ENDED_DIALOGS {
            self.forget_oldest();
        }
        let until = now + TIMEOUT;
        self.dialogs.insert(name.clone(), (local_tag.to_owned(), until));
        self.order.push_back((until, name));
    }

    /// Lets those go whose time is over.
    pub(super) fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
        if self.order.is_empty() && self.order.capacity() > 0 {
            // memory goes back to where it was before the load
            *self = Ended::default();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, name)) = self.order.pop_front() {
            self.dialogs.remove(&name);
        }
    }

    /// The request comes too late for a dialog that it knows: by both tags, or (a CANCEL is sent as its INVITE was) by the far
    /// end's alone.
    pub(super) fn knows(&self, now: Instant, meta: &Meta) -> bool {
        let name = (meta.call_id.clone(), meta.caller_tag().to_owned());
        self.dialogs.get(&name).is_some_and(|(ours, until)| {
            now < *until && (ours == meta.to_tag() || meta.to_tag().is_empty() && meta.method == Method::Cancel)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table_is_bounded_and_empties_itself() {
        let start = Instant::now();
        let mut ended = Ended::default();
        for i in 0..limits::ENDED_DIALOGS * 3 {
            ended.add(start + Duration::from_millis(i as u64 / 1000), &format!("call-{i}"), "ours", "theirs");
            assert!(ended.order.len() <= limits::ENDED_DIALOGS);
            assert_eq!(ended.order.len(), ended.dialogs.len());
        }
        // the same once more is the same
        ended.add(start, &format!("call-{}", limits::ENDED_DIALOGS * 3 - 1), "ours", "theirs");
        assert_eq!((ended.order.len(), ended.dialogs.len()), (limits::ENDED_DIALOGS, limits::ENDED_DIALOGS));
        ended.forget(start + TIMEOUT * 2);
        assert_eq!((ended.order.capacity(), ended.dialogs.capacity()), (0, 0));
    }
}
