//! The links of one media thread, as they run.

use super::{LINKS_PER_CALL, Link, LinkCommand};
use crate::TICK_SAMPLES;
use crate::clock::Time;
use crate::media_thread::RunningCall;

/// A link as it runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    link: Link,
    from: usize,
    to: usize,
    /// The gain at the end of the last tick.
    gain: f32,
    /// It ends as soon as it is silent.
    ends: bool,
}

/// The links of one media thread. `from` and `to` are places in its table of calls.
#[derive(Debug)]
pub(crate) struct Links {
    pub(super) running: Vec<Running>,
    /// The calls that are linked.
    pub(super) members: Vec<usize>,
    /// The ticks that each call has to make now, by its place. After a stall calls may differ in what they leave out.
    due: Box<[u64]>,
}

impl Links {
    /// Room for the links of so many calls.
    pub(crate) fn new(max_calls: usize) -> Self {
        Self {
            running: Vec::with_capacity(max_calls * LINKS_PER_CALL),
            members: Vec::with_capacity(max_calls),
            due: vec![0; max_calls].into_boxed_slice(),
        }
    }

    /// Changes a link. What cannot be (a call that is gone, no room) is left out; the engine has counted before.
    pub(crate) fn change(&mut self, command: LinkCommand, calls: &mut [Option<Box<RunningCall>>]) {
        match command {
            LinkCommand::Set(link) => {
                if let Some(running) = self.running.iter_mut().find(|r| r.link.is_like(&link)) {
                    (running.link.gain, running.ends) = (link.gain, false);
                    return;
                }
                let place = |id| calls.iter().position(|call| call.as_ref().is_some_and(|c| c.media.id() == id));
                let (Some(from), Some(to)) = (place(link.from), place(link.to)) else { return };
                if from == to || self.running.len() == self.running.capacity() {
                    return;
                }
                for index in [from, to] {
                    self.join(index, calls);
                }
                self.running.push(Running { link, from, to, gain: 0.0, ends: false });
            }
            LinkCommand::Remove(link) => {
                if let Some(running) = self.running.iter_mut().find(|r| r.link.is_like(&link)) {
                    running.ends = true;
                }
            }
        }
    }

    /// A call goes, and its links with it.
    pub(crate) fn forget(&mut self, index: usize, calls: &mut [Option<Box<RunningCall>>]) {
        let mut at = 0;
        while let Some(&Running { from, to, .. }) = self.running.get(at) {
            if from == index || to == index {
                self.remove(at, calls);
            } else {
                at += 1;
            }
        }
    }

    /// Lets the linked calls make their ticks together.
    pub(crate) fn tick(&mut self, calls: &mut [Option<Box<RunningCall>>], now: Time) {
        if self.running.is_empty() {
            return;
        }
        let mut rounds = 0;
        for &index in &self.members {
            self.due[index] = calls[index].as_mut().map_or(0, |call| call.media.begin(now));
            rounds = rounds.max(self.due[index]);
        }
        for round in 0..rounds {
            self.each_due(round, calls, |call| call.media.hear());
            self.pass_on(round, calls);
            self.each_due(round, calls, |call| call.media.speak());
        }
        self.each_due(0, calls, |call| call.media.watch(now));
        let mut at = 0;
        while let Some(running) = self.running.get(at) {
            if running.ends && running.gain == 0.0 {
                self.remove(at, calls);
            } else {
                at += 1;
            }
        }
    }

    fn each_due(&self, round: u64, calls: &mut [Option<Box<RunningCall>>], act: impl Fn(&mut RunningCall)) {
        for &index in &self.members {
            if self.due[index] > round
                && let Some(call) = &mut calls[index]
            {
                act(call);
            }
        }
    }

    fn pass_on(&mut self, round: u64, calls: &mut [Option<Box<RunningCall>>]) {
        for running in &mut self.running {
            // who makes no tick now has nothing new to say, and no place to put it
            if self.due[running.from] <= round || self.due[running.to] <= round {
                continue;
            }
            let wanted = if running.ends { 0.0 } else { running.link.gain };
            let step = (wanted - running.gain) / TICK_SAMPLES as f32;
            let piece = calls[running.from].as_ref().and_then(|call| call.media.piece(running.link.source));
            if let (Some(mut piece), Some(to)) = (piece, &mut calls[running.to]) {
                for sample in &mut piece {
                    running.gain += step;
                    *sample *= running.gain;
                }
                to.media.add_piece(&piece);
            }
            running.gain = wanted;
        }
    }

    fn join(&mut self, index: usize, calls: &mut [Option<Box<RunningCall>>]) {
        if !self.members.contains(&index) {
            self.members.push(index); // there are no more members than calls
        }
        if let Some(call) = &mut calls[index] {
            call.media.join_bridge();
        }
    }

    fn remove(&mut self, at: usize, calls: &mut [Option<Box<RunningCall>>]) {
        let Running { from, to, .. } = self.running.swap_remove(at);
        for index in [from, to] {
            if let Some(call) = &mut calls[index] {
                call.media.leave_bridge();
            }
            let still = self.running.iter().any(|r| r.from == index || r.to == index);
            if !still {
                self.members.retain(|&member| member != index);
            }
        }
    }
}
