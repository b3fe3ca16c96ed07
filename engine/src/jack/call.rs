//! The media thread's end of one call's JACK ports, and the delay line that stands in when JACK goes away.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use rtrb::{Consumer, Producer};

use super::manager::Command;
use super::process::Server;
use crate::dsp::crossing::{CrossingStats, WIRE_BLOCK_MAX, WireReader, WireWriter};

/// How far back the agent's voice is remembered, in samples: a second, longer than any path through JACK that a
/// conversation could bear.
const HISTORY: usize = 8_192;
/// Below this (-80 dB) a sample counts as silence.
const SILENCE: f32 = 1e-4;
/// Samples over which a change of route is smoothed: 4 ms.
const SMOOTH: usize = 32;
/// A call whose agent never pauses changes to JACK after this many samples all the same: 10 s.
const PATIENCE: u32 = 80_000;

/// Which way the samples went that [`JackCall::exchange`] gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Straight from the agent's voice: no server, no ports yet, or JACK is warming up.
    Direct,
    /// Through the JACK ports.
    Jack,
    /// JACK was lost: the agent's voice at the delay the JACK path had, until the first silence.
    Bridged,
}

/// The wire ends of one call's crossings on one connection to a server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: Arc<Server>,
    pub(super) caller: WireWriter,
    pub(super) agent: WireWriter,
    pub(super) to_phone: WireReader,
}

/// How a call's three crossings stand. See [`JackCall::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct JackCallStats {
    /// To the port `caller`.
    pub caller: CrossingStats,
    /// To the port `agent`.
    pub agent: CrossingStats,
    /// From the port `to_phone`.
    pub to_phone: CrossingStats,
}

impl JackCallStats {
    fn all(&self) -> [&CrossingStats; 3] {
        [&self.caller, &self.agent, &self.to_phone]
    }

    /// How far the fill of that crossing is from its set point which is furthest off, in samples of 8 kHz.
    #[must_use]
    pub fn error(&self) -> f32 {
        let errors = self.all().into_iter().filter(|s| s.fill != 0.0).map(|s| s.fill - s.set_point);
        errors.fold(0.0, |worst, error| if error.abs() > worst.abs() { error } else { worst })
    }
}

/// One call's audio on the media thread. It never allocates, locks or waits.
///
/// Dropping it takes the call's ports away; that takes a lock, so it is dropped off the real-time threads.
#[derive(Debug)]
pub struct JackCall {
    id: u64,
    epoch: Instant,
    commands: Sender<Command>,
    /// New links from the manager, and old ones back to it to be dropped there.
    links: Consumer<Box<Link>>,
    retired: Producer<Box<Link>>,
    link: Option<Box<Link>>,
    route: Route,
    /// Delay of the agent's voice in samples, as [`in_flight`](Self::in_flight) tells it.
    delay: u32,
    /// The agent's last samples; `head` is where the next one goes.
    history: Box<[f32]>,
    head: usize,
    /// What links that are gone had given up and missed.
    gone: [u64; 2],
    /// Samples since JACK was ready to take over, while the agent spoke.
    waited: u32,
    last: f32,
}

impl JackCall {
    pub(super) fn new(
        id: u64,
        epoch: Instant,
        commands: Sender<Command>,
        links: Consumer<Box<Link>>,
        retired: Producer<Box<Link>>,
    ) -> Self {
        Self {
            id,
            epoch,
            commands,
            links,
            retired,
            link: None,
            route: Route::Direct,
            delay: 0,
            history: vec![0.0; HISTORY].into_boxed_slice(),
            head: 0,
            gone: [0; 2],
            waited: 0,
            last: 0.0,
        }
    }

    /// Moves one piece of the call each way, at 8 kHz: hands `caller` and `agent` to their ports and fills `to_phone`
    /// with what is to be sent to the caller. The three have the same length, at most 160 samples: 40 on every 5 ms tick.
    /// Call it for every tick of the call, in silence too; `now` is the time the tick began.
    ///
    /// A slice that is longer than the others is used as far as the shortest reaches; the rest of `to_phone` is silence.
    pub fn exchange(&mut self, now: Instant, caller: &[f32], agent: &[f32], to_phone: &mut [f32]) -> Route {
        let count = caller.len().min(agent.len()).min(to_phone.len()).min(WIRE_BLOCK_MAX);
        let (out, rest) = to_phone.split_at_mut(count);
        rest.fill(0.0);
        if count == 0 {
            return self.route;
        }
        let now_us = now.saturating_duration_since(self.epoch).as_micros() as u64;
        let before = self.route;
        self.remember(&agent[..count]);
        self.renew_link();
        self.move_samples(now_us, &caller[..count], &agent[..count], out);
        if self.route != before {
            smooth(self.last, out);
        }
        self.last = out[count - 1];
        self.route
    }

    /// How many samples of the agent's voice were handed to [`exchange`](Self::exchange) and have not yet come out:
    /// the delay of the agent's path in 8 kHz samples, exact to a millisecond while agent is patched to to_phone directly
    /// (what another program patched in between adds is not known here). 0 in direct mode.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.delay
    }

    /// The route that the last samples took.
    #[must_use]
    pub fn route(&self) -> Route {
        self.route
    }

    /// How the crossings stand; all zero without ports.
    #[must_use]
    pub fn stats(&self) -> JackCallStats {
        self.link.as_ref().map_or_else(JackCallStats::default, |link| JackCallStats {
            caller: link.caller.stats(),
            agent: link.agent.stats(),
            to_phone: link.to_phone.stats(),
        })
    }

    /// Samples of 8 kHz that were given up on the crossings, and that were not there in time, since the call began.
    #[must_use]
    pub fn totals(&self) -> [u64; 2] {
        let stats = self.stats();
        let sum = |figure: fn(&CrossingStats) -> u64| stats.all().into_iter().map(figure).sum::<u64>();
        [self.gone[0] + sum(|s| s.discarded), self.gone[1] + sum(|s| s.missing)]
    }

    /// Sends a dead link back and takes a new one if there is one.
    fn renew_link(&mut self) {
        if self.link.as_ref().is_some_and(|link| !link.server.alive()) {
            let totals = self.totals();
            if let Some(dead) = self.link.take() {
                match self.retired.push(dead) {
                    Ok(()) => self.gone = totals,
                    Err(rtrb::PushError::Full(dead)) => self.link = Some(dead),
                }
            }
        }
        if self.link.is_none() {
            self.link = self.links.pop().ok();
        }
    }

    fn move_samples(&mut self, now_us: u64, caller: &[f32], agent: &[f32], out: &mut [f32]) {
        let Some(mut link) = self.link.take() else {
            self.leave_jack();
            self.play_direct(out);
            return;
        };
        if link.server.serving(now_us) {
            self.move_linked(&mut link, now_us, caller, agent, out);
        } else {
            link.to_phone.rest();
            self.leave_jack();
            self.play_direct(out);
        }
        self.link = Some(link);
    }

    fn move_linked(&mut self, link: &mut Link, now_us: u64, caller: &[f32], agent: &[f32], out: &mut [f32]) {
        link.caller.write(now_us, caller);
        if self.route == Route::Jack {
            link.agent.write(now_us, agent);
            link.to_phone.read(now_us, out);
        } else {
            // Warm up with silence, and change over in silence: what is said through JACK comes later by its delay.
            link.agent.write(now_us, &[0.0; WIRE_BLOCK_MAX][..agent.len()]);
            let ready = link.to_phone.read(now_us, out);
            self.waited = if ready { self.waited.saturating_add(out.len() as u32) } else { 0 };
            if !(ready && (self.quiet(agent.len()) || self.waited > PATIENCE)) {
                self.play_direct(out);
                return;
            }
            self.route = Route::Jack;
        }
        self.delay = link.agent.delay() + link.to_phone.delay();
    }

    /// JACK is gone: if it had samples, play on from the history at the delay it had.
    fn leave_jack(&mut self) {
        self.waited = 0;
        if self.route == Route::Jack {
            self.route = Route::Bridged;
            self.delay = self.delay.min((HISTORY - WIRE_BLOCK_MAX) as u32);
        }
    }

    fn play_direct(&mut self, out: &mut [f32]) {
        if self.route == Route::Bridged && self.quiet(out.len()) {
            self.route = Route::Direct;
            self.delay = 0;
        }
        let back = self.delay as usize + out.len();
        for (n, sample) in out.iter_mut().enumerate() {
            *sample = self.past(back - n);
        }
    }

    fn remember(&mut self, agent: &[f32]) {
        for sample in agent {
            self.history[self.head] = *sample;
            self.head = (self.head + 1) % HISTORY;
        }
    }

    /// The agent's sample that was handed over `back` samples ago (1: the newest).
    fn past(&self, back: usize) -> f32 {
        self.history[(self.head + HISTORY - back) % HISTORY]
    }

    /// Whether nothing is being said: neither in the newest `count` samples nor in those in flight.
    fn quiet(&self, count: usize) -> bool {
        (1..=self.delay as usize + count).all(|back| self.past(back).abs() < SILENCE)
    }
}

impl Drop for JackCall {
    fn drop(&mut self) {
        // The manager is gone when the bridge is: its client took the ports with it.
        let _ = self.commands.send(Command::Remove(self.id));
    }
}

/// Leads from the last sample given out into `out` without a step.
fn smooth(last: f32, out: &mut [f32]) {
    let Some(first) = out.first() else { return };
    let step = last - first;
    for (n, sample) in out.iter_mut().take(SMOOTH).enumerate() {
        *sample += step * (1.0 - (n as f32 + 0.5) / SMOOTH as f32);
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
