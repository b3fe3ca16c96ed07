//! The guard at work: who is vouched for, who has offended, and who gets no answer.

use std::{net::IpAddr, time::Instant};

use super::{TimerKey, UserAgent, limits};
use crate::{
    event::{CallId, Event},
    guard::{Ban, DropReason, Offence, Seat, Standing, Verdict},
    message::Request,
    transport::Peer,
};

impl UserAgent {
    /// Whether a message from there is read at all.
    pub(super) fn admits(&mut self, now: Instant, from: &Peer) -> bool {
        let admitted = self.guard.admit(now, from.address.ip()) == Verdict::Pass;
        if !admitted {
            self.counters.dropped += 1;
        }
        admitted
    }

    /// Decides about a connection that somebody has opened, before a byte is read from it. Give the seat back to
    /// [`UserAgent::leave_connection`] when it closes.
    ///
    /// # Errors
    /// Why it is to be closed at once.
    pub fn admit_connection(&mut self, now: Instant, from: IpAddr) -> Result<Seat, DropReason> {
        self.guard.admit_connection(now, from)
    }

    /// A connection that was admitted has closed.
    pub fn leave_connection(&mut self, seat: Seat) {
        self.guard.leave(seat);
    }

    /// A connection was opened and not used, or not as SIP is spoken.
    pub fn offend(&mut self, now: Instant, from: IpAddr, offence: Offence) {
        if let Some(ban) = self.guard.offend(now, from, offence) {
            self.tell(Event::Banned { ban });
        }
    }

    /// Who is banned, the longest first.
    pub fn bans(&self, now: Instant) -> Vec<Ban> {
        self.guard.bans(now)
    }

    pub(crate) fn tell_bans(&mut self, now: Instant, tag: u64) {
        let bans = self.bans(now);
        self.tell(Event::Bans { tag, bans });
    }

    /// Ends a ban. False: there was none.
    pub fn pardon(&mut self, now: Instant, address: IpAddr) -> bool {
        self.guard.pardon(now, address)
    }

    /// Whether a request outside of any dialog is to be looked at. A stranger's is not, unless strangers are let in: it is
    /// counted against the stranger, and gets no answer, or one that is the same whatever was asked for (cases 6 and 7).
    pub(super) fn receives(&mut self, now: Instant, from: &Peer, request: &Request, to: &Peer) -> bool {
        let ip = from.address.ip();
        let standing = self.guard.standing(now, ip);
        if matches!(standing, Standing::Trusted | Standing::Known) {
            return true;
        }
        let names = ["User-Agent", "From"].into_iter().filter_map(|name| request.headers.get(name));
        if names.into_iter().any(|name| self.guard.is_scanner(name)) {
            self.offend(now, ip, Offence::Scanner);
            self.counters.ignored += 1;
            return false;
        }
        if self.guard.serves(now, ip) {
            return true;
        }
        self.offend(now, ip, Offence::StrangersRequest);
        if self.guard.answers(now, ip) && request.method != crate::message::Method::Ack {
            self.counters.refused += 1;
            self.reply(request, request.response(403), to.clone());
        } else {
            self.counters.ignored += 1;
        }
        false
    }

    /// Whether a request that names a dialog of ours comes from somebody who may: one that the call has been dealt with, or
    /// that is known or trusted anyway (case 13).
    pub(super) fn is_acquainted(&self, now: Instant, from: &Peer) -> bool {
        matches!(self.guard.standing(now, from.address.ip()), Standing::Trusted | Standing::Known)
    }

    /// The far end of a call is there, or a proxy on the way to it.
    pub(super) fn know(&mut self, now: Instant, id: CallId, ip: IpAddr) {
        self.guard.vouch(now, ip, now + limits::KNOWN);
        let Some(call) = self.calls.get_mut(&id) else { return };
        if !call.addresses.contains(&ip) {
            if call.addresses.len() >= limits::CALL_ADDRESSES {
                call.addresses.remove(0);
            }
            call.addresses.push(ip);
        }
        if !self.vouching && !self.closed {
            self.vouching = true;
            self.timers.set(TimerKey::Vouch, Some(now + limits::VOUCH));
        }
    }

    /// Vouches again for everybody that we deal with.
    pub(super) fn on_vouch_timer(&mut self, now: Instant) {
        let until = now + limits::KNOWN;
        let of_calls = self.calls.values().flat_map(|call| call.addresses.iter());
        let of_accounts = self.accounts.iter().flat_map(|account| account.addresses.iter());
        for ip in of_calls.chain(of_accounts) {
            self.guard.vouch(now, *ip, until);
        }
        self.vouching = !self.calls.is_empty() || !self.accounts.is_empty();
        self.timers.set(TimerKey::Vouch, self.vouching.then(|| now + limits::VOUCH));
    }
}
