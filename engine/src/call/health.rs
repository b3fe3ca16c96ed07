//! Why nothing is heard, here or at the far end: what an administrator needs to know of a call with audio one way.
//!
//! Nothing here is done on the way of good packets: each kind of bad one leaves the time when it last came, and only when
//! the call is silent is it asked which of them have come since something good did.

use std::net::SocketAddr;
use std::time::Duration;

use super::{MediaCall, MediaEvent};
use crate::clock::Time;

/// How often is looked, and so how late a fault is told at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The far end was unreachable as long as the last ICMP error is not older: systems send one a second, or fewer.
const UNREACHABLE_FOR: Duration = Duration::from_secs(4);
/// Comfort noise and never a word for so long.
const ONLY_NOISE_AFTER: Duration = Duration::from_secs(3);
/// Packets that we must have sent since the last report for a report to mean that they were not heard: a second of them.
const PACKETS_BETWEEN_REPORTS: u64 = 50;
/// Reports in a row without a sign of our packets: the first one may have crossed them.
const DEAF_REPORTS: u8 = 2;

/// What is wrong with the media of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MediaFault {
    /// Nothing comes at all: a firewall or NAT between, or a far end that does not send.
    NoPackets,
    /// What we send comes back as undeliverable (ICMP): nobody listens at the far end's address.
    Unreachable,
    /// RTP comes, but from a host that the session description does not name.
    OtherSource(SocketAddr),
    /// RTP comes with a payload type that was not agreed on.
    UnknownPayload(u8),
    /// SRTP was agreed, and what comes is not encrypted with the agreed key.
    NotAuthenticated,
    /// Comfort noise comes and never a word.
    OnlyComfortNoise,
    /// The far end's reports show that it receives nothing of what we send.
    FarEndHearsNothing,
}

impl MediaFault {
    /// Its name in the control protocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoPackets => "no_packets",
            Self::Unreachable => "unreachable",
            Self::OtherSource(_) => "other_source",
            Self::UnknownPayload(_) => "unknown_payload",
            Self::NotAuthenticated => "not_authenticated",
            Self::OnlyComfortNoise => "only_comfort_noise",
            Self::FarEndHearsNothing => "far_end_hears_nothing",
        }
    }

    /// How much it tells: something surer takes the place of what was told before.
    const fn rank(self) -> u8 {
        match self {
            Self::NoPackets => 0,
            Self::OnlyComfortNoise => 1,
            Self::FarEndHearsNothing => 2,
            Self::Unreachable => 3,
            Self::OtherSource(_) => 4,
            Self::UnknownPayload(_) => 5,
            Self::NotAuthenticated => 6,
        }
    }
}

/// What was seen of a call's troubles. In this order, because every tick asks whether it is time to look.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Health {
    next_look: Time,
    lost: Option<MediaFault>,
    one_way: Option<MediaFault>,

    foreign: Option<(Time, SocketAddr)>,
    unknown: Option<(Time, u8)>,
    unauthentic: Option<Time>,
    refused: Option<Time>,
    noise_since: Option<Time>,
    pub(super) audio_came: bool,

    deaf_reports: u8,
    highest: Option<u32>,
    sent: u64,
}

impl Health {
    pub(super) fn note_foreign(&mut self, now: Time, source: SocketAddr) {
        self.foreign = Some((now, source));
    }

    pub(super) fn note_unknown_payload(&mut self, now: Time, payload_type: u8) {
        self.unknown = Some((now, payload_type));
    }

    pub(super) fn note_unauthentic(&mut self, now: Time) {
        self.unauthentic = Some(now);
    }

    pub(super) fn note_noise(&mut self, now: Time) {
        self.noise_since.get_or_insert(now);
    }

    /// A report of the far end's, with the highest sequence number that it has of ours, if it has any.
    pub(super) fn on_report(&mut self, highest: Option<u32>, sent: u64) {
        if sent.saturating_sub(self.sent) < PACKETS_BETWEEN_REPORTS {
            return;
        }
        self.sent = sent;
        let deaf = highest.is_none() || highest == self.highest;
        self.highest = highest;
        self.deaf_reports = if deaf { self.deaf_reports.saturating_add(1) } else { 0 };
    }

    /// We stop sending, or begin to: what was reported so far says nothing.
    pub(super) fn sending_changes(&mut self, sent: u64) {
        (self.deaf_reports, self.highest, self.sent, self.refused) = (0, None, sent, None);
    }

    /// Why nothing has been heard since then: the surest of what has come instead.
    fn why_lost(&self, heard_at: Time) -> MediaFault {
        let since = |time: Time| time > heard_at;
        if self.unauthentic.is_some_and(since) {
            return MediaFault::NotAuthenticated;
        }
        if let Some((_, payload_type)) = self.unknown.filter(|(time, _)| since(*time)) {
            return MediaFault::UnknownPayload(payload_type);
        }
        if let Some((_, source)) = self.foreign.filter(|(time, _)| since(*time)) {
            return MediaFault::OtherSource(source);
        }
        if self.refused.is_some_and(since) { MediaFault::Unreachable } else { MediaFault::NoPackets }
    }

    /// What is wrong although packets come.
    fn why_one_way(&self, now: Time) -> Option<MediaFault> {
        if self.refused.is_some_and(|at| now.since(at) < UNREACHABLE_FOR) {
            return Some(MediaFault::Unreachable);
        }
        if self.deaf_reports >= DEAF_REPORTS {
            return Some(MediaFault::FarEndHearsNothing);
        }
        let only_noise = !self.audio_came && self.noise_since.is_some_and(|since| now.since(since) >= ONLY_NOISE_AFTER);
        only_noise.then_some(MediaFault::OnlyComfortNoise)
    }
}

impl MediaCall {
    /// What was sent came back as undeliverable.
    pub fn note_unreachable(&mut self, now: Time) {
        if self.params.send {
            self.health.refused = Some(now);
        }
    }

    /// Looks every quarter of a second whether media is lost, found, or one-way, and tells what is news.
    pub(super) fn look_at_health(&mut self, now: Time) {
        if now < self.health.next_look {
            return;
        }
        let lost_at = self.heard_at + self.media_lost_after;
        self.health.next_look = now + LOOK_INTERVAL;
        if lost_at > now {
            self.health.next_look = self.health.next_look.min(lost_at);
        }
        if !self.params.receive {
            if self.health.lost.take().is_some() {
                self.say(MediaEvent::MediaFound);
            }
            return;
        }
        if now.since(self.heard_at) >= self.media_lost_after {
            let fault = self.health.why_lost(self.heard_at);
            self.health.one_way = None;
            if self.health.lost.is_none_or(|told| fault.rank() > told.rank()) {
                self.health.lost = Some(fault);
                self.say(MediaEvent::MediaLost { fault });
            }
            return;
        }
        if self.health.lost.take().is_some() {
            self.say(MediaEvent::MediaFound);
        }
        let fault = self.health.why_one_way(now);
        let before = self.health.one_way;
        self.health.one_way = fault;
        match (before, fault) {
            (before, Some(fault)) if before != Some(fault) => self.say(MediaEvent::OneWay { fault }),
            (Some(_), None) => self.say(MediaEvent::MediaFound),
            _ => {}
        }
    }
}
