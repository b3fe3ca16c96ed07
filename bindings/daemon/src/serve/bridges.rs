//! Calls that hear one another: which are bridged how, and which of the engine's links that makes.

use std::collections::HashSet;

use control::ClientId;
use control::types::{ApiError, BridgeMode, CallBridge, CallId, CallState, CallUnbridge, Done, Event};
use engine::{Link, Source};

use super::call::Media;
use super::switchboard::Switchboard;

/// Two calls that are bridged. `listen` and `whisper` have a direction: `other` is who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    call: u32,
    other: u32,
    mode: BridgeMode,
}

impl Pair {
    fn is_between(&self, a: u32, b: u32) -> bool {
        (self.call, self.other) == (a, b) || (self.call, self.other) == (b, a)
    }

    fn has(&self, number: u32) -> bool {
        self.call == number || self.other == number
    }
}

/// One way of the engine's, without its loudness.
type Way = (u32, Source, u32);

/// All bridges.
#[derive(Debug, Default)]
pub(super) struct Bridges {
    pairs: Vec<Pair>,
    /// What the engine was told.
    ways: HashSet<Way>,
}

impl Bridges {
    /// What the engine has to do for the pairs there are.
    fn wanted(&self) -> HashSet<Way> {
        let mut ways = HashSet::new();
        for pair in &self.pairs {
            let (call, other) = (pair.call, pair.other);
            if pair.mode != BridgeMode::Listen {
                ways.insert((other, Source::Caller, call));
            }
            ways.insert((call, Source::Caller, other));
            if pair.mode != BridgeMode::Talk {
                ways.insert((call, Source::Agent, other));
                // and whoever else is heard on that call
                let talks = self.pairs.iter().filter(|p| p.mode == BridgeMode::Talk && p.has(call));
                let with = talks.map(|p| if p.call == call { p.other } else { p.call });
                ways.extend(with.filter(|&third| third != other).map(|third| (third, Source::Caller, other)));
            }
        }
        ways
    }
}

fn link((from, source, to): Way) -> Link {
    Link { from: engine::CallId(from), source, to: engine::CallId(to), gain: 1.0 }
}

impl Switchboard {
    /// `call.bridge`.
    pub(super) fn bridge(&mut self, client: ClientId, request: &CallBridge) -> Result<Done, ApiError> {
        for call in [request.call, request.other_call] {
            if !request.force {
                self.server.check_owner(client, call)?;
            }
            let record = self.calls.get(&call.0).ok_or_else(|| ApiError::no_such_call(call))?;
            if record.state != CallState::Answered || !matches!(record.media, Media::Up(_)) {
                return Err(ApiError::wrong_state(format!("{call} is {}, not answered", record.state)));
            }
        }
        let pair = Pair { call: request.call.0, other: request.other_call.0, mode: request.mode };
        let before = self.bridges.pairs.clone();
        self.bridges.pairs.retain(|other| !other.is_between(pair.call, pair.other));
        self.bridges.pairs.push(pair);
        if let Err(error) = self.lay_links() {
            self.bridges.pairs = before;
            let _ = self.lay_links();
            return Err(ApiError::wrong_state(error.to_string()));
        }
        if !before.contains(&pair) {
            self.tell_bridge(pair, Some(pair.mode));
        }
        Ok(Done {})
    }

    /// `call.unbridge`.
    pub(super) fn unbridge(&mut self, client: ClientId, request: &CallUnbridge) -> Result<Done, ApiError> {
        if !request.force {
            self.server.check_owner(client, request.call)?;
        }
        let number = request.call.0;
        self.calls.get(&number).ok_or_else(|| ApiError::no_such_call(request.call))?;
        let is_meant = |pair: &Pair| request.other_call.map_or(pair.has(number), |o| pair.is_between(number, o.0));
        let ended: Vec<Pair> = self.bridges.pairs.iter().copied().filter(is_meant).collect();
        if ended.is_empty() {
            return Err(ApiError::wrong_state(match request.other_call {
                Some(other) => format!("{} and {other} are not bridged", request.call),
                None => format!("{} is not bridged", request.call),
            }));
        }
        self.part(&ended);
        Ok(Done {})
    }

    /// A call is over: nobody is bridged to it any more.
    pub(super) fn leave_bridges(&mut self, number: u32) {
        let ended: Vec<Pair> = self.bridges.pairs.iter().copied().filter(|pair| pair.has(number)).collect();
        self.part(&ended);
        // the engine's links end with the call
        self.bridges.ways.retain(|&(from, _, to)| from != number && to != number);
    }

    fn part(&mut self, ended: &[Pair]) {
        if ended.is_empty() {
            return;
        }
        self.bridges.pairs.retain(|pair| !ended.contains(pair));
        if let Err(error) = self.lay_links() {
            log::error!("a bridge does not end: {error}");
        }
        for &pair in ended {
            self.tell_bridge(pair, None);
        }
    }

    /// Brings the engine's links in line with the pairs there are. Those that are left out by an error are tried again
    /// with the next change.
    fn lay_links(&mut self) -> Result<(), engine::EngineError> {
        let wanted = self.bridges.wanted();
        for &way in self.bridges.ways.difference(&wanted) {
            self.engine.unlink(link(way))?;
        }
        self.bridges.ways.retain(|way| wanted.contains(way));
        for way in wanted {
            if !self.bridges.ways.contains(&way) {
                self.engine.link(link(way))?;
                self.bridges.ways.insert(way);
            }
        }
        Ok(())
    }

    fn tell_bridge(&mut self, pair: Pair, mode: Option<BridgeMode>) {
        let (call, other_call) = (CallId(pair.call), CallId(pair.other));
        match mode {
            Some(mode) => log::info!("{call} and {other_call} are bridged: {mode:?}"),
            None => log::info!("{call} and {other_call} are bridged no more"),
        }
        self.notify(&Event::CallBridged { call, other_call, mode });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pairs: &[(u32, u32, BridgeMode)]) -> HashSet<Way> {
        let pairs = pairs.iter().map(|&(call, other, mode)| Pair { call, other, mode }).collect();
        Bridges { pairs, ways: HashSet::new() }.wanted()
    }

    #[test]
    fn who_hears_whom() {
        use BridgeMode::{Listen, Talk, Whisper};
        use Source::{Agent, Caller};
        assert_eq!(wanted(&[(1, 2, Talk)]), HashSet::from([(1, Caller, 2), (2, Caller, 1)]));
        assert_eq!(wanted(&[(1, 9, Listen)]), HashSet::from([(1, Caller, 9), (1, Agent, 9)]));
        // 1 is an agent of flesh and blood who talks with 2, and 9 whispers to 1: 2 does not hear it
        let whisper = wanted(&[(1, 2, Talk), (1, 9, Whisper)]);
        assert_eq!(
            whisper,
            HashSet::from([
                (1, Caller, 2),
                (2, Caller, 1),
                (9, Caller, 1),
                (1, Caller, 9),
                (1, Agent, 9),
                (2, Caller, 9)
            ])
        );
    }
}
