//! Whom to believe: which source address a call's packets may come from, and where ours go.
//!
//! Anybody can send to a port. A spray over the port range must neither be heard nor turn our audio to the sprayer
//! ("RTP bleed", case 21), yet the far end behind a NAT sends from an address that its SDP could not know, and the NAT
//! may change that address in mid-call (case 23). The rules:
//!
//! 1. Nothing counts but datagrams that are RTP with a payload type of the call, and authentic if the call is encrypted.
//! 2. Before the lock, a source must *fit* the SDP: the exact address, or the same host, or, if the SDP names an address
//!    that cannot be reached from outside (private, carrier-grade NAT, unspecified), anybody. The first one that fits is
//!    locked; while the lock is young, a better fit takes it over.
//! 3. After the lock everything else is foreign, and dropped (case 22).
//! 4. Only when the locked source has been silent may another take its place, and only by several packets in a row with
//!    the SSRC that the call had: a sprayer does not know it, a NAT does not change it. Not more often than once in a
//!    while.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::clock::Time;

/// How long a better fit may still take over the lock: early packets of a media server or a sprayer come before the
/// first packet of the real source only at the start.
const YOUNG: Duration = Duration::from_secs(2);
/// The locked source is silent: 25 packets of 20 ms missing in a row.
const SILENCE: Duration = Duration::from_millis(500);
/// Packets in a row that the new address must show.
const CONSECUTIVE: u32 = 5;
/// At most one change of address in this time.
const RELATCH_INTERVAL: Duration = Duration::from_secs(5);

/// How well a source fits the SDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The SDP named no reachable address, so anybody may be the far end.
    Unreachable,
    Host,
    Exact,
}

#[derive(Debug, Clone, Copy)]
struct Lock {
    source: SocketAddr,
    fit: Fit,
    since: Time,
    last_packet: Time,
    ssrc: u32,
}

impl Lock {
    /// While the lock is young, a better fit takes it over.
    fn gives_way(&self, fit: Fit, now: Time) -> bool {
        fit > self.fit && now.since(self.since) < YOUNG
    }
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    source: SocketAddr,
    sequence: u16,
    count: u32,
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the far end's.
    Accept,
    /// It is the far end's, which has just moved to this address.
    Moved,
    /// It is a stranger's.
    Foreign,
}

/// The choice of one call.
#[derive(Debug, Clone)]
pub struct SourceLatch {
    expected: SocketAddr,
    lock: Option<Lock>,
    candidate: Option<Candidate>,
    last_move: Option<Time>,
}

impl SourceLatch {
    /// A latch for the address of the SDP.
    #[must_use]
    pub fn new(expected: SocketAddr) -> Self {
        Self { expected, lock: None, candidate: None, last_move: None }
    }

    /// Where to send: to the source that was locked, before that to the address of the SDP.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.lock.map_or(self.expected, |lock| lock.source)
    }

    /// The SDP names another address now (re-INVITE); the same address leaves the lock alone.
    pub fn expect(&mut self, expected: SocketAddr) {
        if expected != self.expected {
            *self = Self::new(expected);
        }
    }

    /// Judges a valid RTP packet of the call by its source.
    pub fn judge(&mut self, now: Time, source: SocketAddr, ssrc: u32, sequence: u16) -> Verdict {
        let fit = self.fit(source);
        let Some(lock) = &mut self.lock else {
            return match fit {
                Some(fit) => {
                    self.lock = Some(Lock { source, fit, since: now, last_packet: now, ssrc });
                    Verdict::Accept
                }
                None => Verdict::Foreign,
            };
        };
        if lock.source == source {
            lock.last_packet = lock.last_packet.max(now);
            lock.ssrc = ssrc;
            self.candidate = None;
            return Verdict::Accept;
        }
        let lock = *lock;
        if let Some(better) = fit.filter(|&fit| lock.gives_way(fit, now)) {
            self.lock = Some(Lock { source, fit: better, since: lock.since, last_packet: now, ssrc });
            return Verdict::Moved;
        }
        if !self.may_move(&lock, now, ssrc) {
            return Verdict::Foreign;
        }
        let count = match self.candidate {
            Some(c) if c.source == source && sequence == c.sequence.wrapping_add(1) => c.count + 1,
            _ => 1,
        };
        self.candidate = Some(Candidate { source, sequence, count });
        if count < CONSECUTIVE {
            return Verdict::Foreign;
        }
        let fit = fit.unwrap_or(Fit::Unreachable);
        self.lock = Some(Lock { source, fit, since: now, last_packet: now, ssrc });
        self.candidate = None;
        self.last_move = Some(now);
        Verdict::Moved
    }

    /// Whether [`judge`](Self::judge) may do anything else with such a packet than call it foreign. An encrypted call asks
    /// this first: what a stranger sends shall cost no decryption, and not use up the number of a packet that it copied.
    #[must_use]
    pub fn may_accept(&self, now: Time, source: SocketAddr, ssrc: u32) -> bool {
        let fit = self.fit(source);
        self.lock.as_ref().map_or(fit.is_some(), |lock| {
            lock.source == source || fit.is_some_and(|fit| lock.gives_way(fit, now)) || self.may_move(lock, now, ssrc)
        })
    }

    fn may_move(&self, lock: &Lock, now: Time, ssrc: u32) -> bool {
        let silent = now.since(lock.last_packet) >= SILENCE;
        let rested = self.last_move.is_none_or(|moved| now.since(moved) >= RELATCH_INTERVAL);
        silent && rested && ssrc == lock.ssrc
    }

    /// Whether a datagram without a name of its own (RTCP) may be the far end's: it comes from the host that was locked.
    #[must_use]
    pub fn is_far_host(&self, source: SocketAddr) -> bool {
        source.ip() == self.destination().ip()
    }

    fn fit(&self, source: SocketAddr) -> Option<Fit> {
        if source == self.expected {
            Some(Fit::Exact)
        } else if source.ip() == self.expected.ip() {
            Some(Fit::Host)
        } else if cannot_be_reached(self.expected.ip()) {
            Some(Fit::Unreachable)
        } else {
            None
        }
    }
}

/// Whether an SDP address means nothing outside the far end's own network: RFC 1918, RFC 6598 (carrier-grade NAT), link
/// local, unspecified; for IPv6 unique local (RFC 4193).
fn cannot_be_reached(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || v4.is_unspecified() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    const FAR: &str = "198.51.100.7:4000";
    const STRANGER: &str = "203.0.113.9:4000";

    #[test]
    fn a_spray_over_the_ports_is_never_heard_or_answered() {
        // case 21
        let mut latch = SourceLatch::new(addr(FAR));
        assert_eq!(latch.judge(at(0), addr(STRANGER), 1, 1), Verdict::Foreign);
        assert_eq!(latch.destination(), addr(FAR));
        assert_eq!(latch.judge(at(1), addr(FAR), 2, 1), Verdict::Accept);
    }

    #[test]
    fn packets_of_strangers_are_dropped_once_locked_even_with_the_right_ssrc() {
        // case 22
        let mut latch = SourceLatch::new(addr(FAR));
        for n in 0..1000_u16 {
            let now = at(u64::from(n) * 20);
            assert_eq!(latch.judge(now, addr(FAR), 7, n), Verdict::Accept);
            assert_eq!(latch.judge(now, addr(STRANGER), 7, n), Verdict::Foreign);
        }
        assert_eq!(latch.destination(), addr(FAR));
    }

    #[test]
    fn a_source_behind_nat_is_taken_when_the_sdp_names_a_private_address() {
        let mut latch = SourceLatch::new(addr("192.168.1.20:4000"));
        assert_eq!(latch.judge(at(0), addr(STRANGER), 1, 1), Verdict::Accept);
        assert_eq!(latch.judge(at(20), addr(FAR), 2, 1), Verdict::Foreign);
        assert_eq!(latch.destination(), addr(STRANGER));
    }

    #[test]
    fn the_exact_address_takes_the_lock_over_from_another_port_of_its_host_at_the_start_only() {
        let other_port = addr("198.51.100.7:9");
        let mut latch = SourceLatch::new(addr(FAR));
        assert_eq!(latch.judge(at(0), other_port, 1, 1), Verdict::Accept);
        assert_eq!(latch.judge(at(100), addr(FAR), 2, 1), Verdict::Moved);
        assert_eq!(latch.judge(at(120), other_port, 1, 2), Verdict::Foreign);

        let mut latch = SourceLatch::new(addr(FAR));
        for n in 0..200 {
            latch.judge(at(u64::from(n) * 20), other_port, 1, n);
        }
        assert_eq!(latch.judge(at(4000), addr(FAR), 2, 1), Verdict::Foreign);
    }

    #[test]
    fn a_true_rebind_is_followed_after_silence_and_packets_in_a_row_and_not_at_once_again() {
        // case 23
        let mut latch = SourceLatch::new(addr(FAR));
        latch.judge(at(0), addr(FAR), 7, 1);
        let rebound = addr("198.51.100.7:61000");
        let mut verdicts = Vec::new();
        for n in 0..40_u16 {
            let now = at(20 + u64::from(n) * 20);
            let may = latch.may_accept(now, rebound, 7);
            verdicts.push(latch.judge(now, rebound, 7, 2 + n));
            assert!(may || verdicts.last() == Some(&Verdict::Foreign));
            assert_eq!(may, now >= at(500), "what is sure to be foreign is known before it is looked at");
        }
        let moved = verdicts.iter().position(|&v| v == Verdict::Moved).unwrap();
        assert!((28..=30).contains(&moved), "after 500 ms and five packets: {moved}");
        assert!(verdicts[moved + 1..].iter().all(|&v| v == Verdict::Accept));
        assert_eq!(latch.destination(), rebound);
        // a second move within 5 s is refused, whoever it is
        assert!((0..100).all(|n| latch.judge(at(1500 + n * 20), addr(STRANGER), 7, n as u16) == Verdict::Foreign));
    }

    #[test]
    fn silence_does_not_let_in_a_stranger_who_does_not_know_the_ssrc_or_skips_about() {
        let mut latch = SourceLatch::new(addr(FAR));
        latch.judge(at(0), addr(FAR), 7, 1);
        for n in 0..100_u16 {
            let now = at(10_000 + u64::from(n) * 20);
            assert_eq!(latch.judge(now, addr(STRANGER), 8, n), Verdict::Foreign);
            assert_eq!(latch.judge(now, addr(STRANGER), 7, n * 3), Verdict::Foreign);
        }
    }

    #[test]
    fn a_new_address_in_the_sdp_unlocks_and_the_same_does_not() {
        let mut latch = SourceLatch::new(addr(FAR));
        latch.judge(at(0), addr("198.51.100.7:9"), 1, 1);
        latch.expect(addr(FAR));
        assert_eq!(latch.destination(), addr("198.51.100.7:9"));
        latch.expect(addr(STRANGER));
        assert_eq!(latch.destination(), addr(STRANGER));
    }
}
