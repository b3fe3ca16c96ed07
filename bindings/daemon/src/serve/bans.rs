//! Who is not heard for a while: told to people, listed, and ended on request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use control::types::{ApiError, Done, ErrorCode, Event, SipBan, SipBansReply};
use signaling::guard::Ban;
use signaling::net::Command;

use super::switchboard::Switchboard;

/// No more bans than this are listed; the guard itself remembers more.
const LISTED: usize = 4096;
/// So many bans are told one by one in a minute; under a flood a count is enough.
const TOLD_A_MINUTE: u32 = 10;

/// What is known of bans: the guard tells each, and they end by themselves.
#[derive(Debug, Default)]
pub(super) struct Bans {
    until: BTreeMap<IpAddr, (Instant, SipBan)>,
    minute: Option<Instant>,
    told: u32,
}

impl Bans {
    fn forget_ended(&mut self, now: Instant) {
        self.until.retain(|_, (until, _)| *until > now);
    }

    /// Takes a ban in. Whether a person should be told of this one.
    fn add(&mut self, now: Instant, ban: &Ban) -> bool {
        self.forget_ended(now);
        if self.until.len() < LISTED || self.until.contains_key(&ban.address) {
            let listed = SipBan {
                address: ban.address,
                left_s: ban.left.as_secs(),
                count: ban.count.into(),
                reason: ban.offence.to_string(),
            };
            self.until.insert(ban.address, (now + ban.left, listed));
        }
        if self.minute.is_none_or(|since| now.duration_since(since).as_secs() >= 60) {
            (self.minute, self.told) = (Some(now), 0);
        }
        self.told += 1;
        self.told <= TOLD_A_MINUTE
    }

    fn list(&mut self, now: Instant) -> Vec<SipBan> {
        self.forget_ended(now);
        let left = |until: &Instant| until.saturating_duration_since(now).as_secs();
        let mut bans: Vec<SipBan> =
            self.until.values().map(|(until, ban)| SipBan { left_s: left(until), ..ban.clone() }).collect();
        bans.sort_by_key(|ban| (std::cmp::Reverse(ban.left_s), ban.address));
        bans
    }
}

impl Switchboard {
    pub(super) fn on_banned(&mut self, ban: &Ban) {
        if self.bans.add(Instant::now(), ban) {
            log::warn!("{ban}");
            self.server.notify(
                &Event::DaemonWarning { text: format!("{ban}; mr-sip unban {} hears it again", ban.address) },
                None,
            );
        }
    }

    pub(super) fn list_bans(&mut self) -> SipBansReply {
        SipBansReply { bans: self.bans.list(Instant::now()) }
    }

    pub(super) fn unban(&mut self, address: IpAddr) -> Result<Done, ApiError> {
        // an IPv6 network is banned by its first address
        let network = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        };
        if self.bans.until.remove(&network).is_none() {
            return Err(ApiError::new(
                ErrorCode::InvalidParams,
                format!("sip.unban: `address`: {address} is not banned"),
            ));
        }
        self.command(Command::Pardon(address));
        Ok(Done {})
    }
}
