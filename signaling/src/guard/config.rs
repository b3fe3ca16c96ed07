//! What the guard is made with, and what it says.

use std::{fmt, net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::Rate;

/// How the guard is set up. The names of the fields are the keys below `guard` in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardConfig {
    /// Networks that are never limited and never banned: our own proxies, load balancers, test machines. Loopback by default.
    pub trusted: Vec<IpNet>,
    /// What happens to requests of those who are neither trusted nor known.
    pub strangers: Strangers,
    /// What one stranger's address may send. Default 20/s, 40 at once: a caller needs about ten messages for a call.
    pub stranger_rate: Rate,
    /// What all strangers that have been heard before may send together. Default 1,000/s, 2,000 at once.
    pub strangers_rate: Rate,
    /// How many strangers may be heard for the first time. Under a flood from forged addresses nearly every datagram is such
    /// a first one, so this is what the flood costs us. Default 200/s, 400 at once.
    pub newcomer_rate: Rate,
    /// What one known peer may send (a registrar, a trunk, the far end of a call); a guard against floods in its name rather
    /// than against itself. `None`: anything. Default 2,000/s, 4,000 at once.
    pub peer_rate: Option<Rate>,
    /// How many addresses of known peers are kept. Default 4,096.
    pub peers: usize,
    /// When an address is banned.
    pub ban: BanRules,
    /// How many addresses of strangers are remembered, in about 56 bytes each; rounded up to a power of two. Default 16,384.
    pub remembered: usize,
    /// Connections (TCP, TLS) that one address may hold. Default 8 (case 18).
    pub connections_per_address: usize,
    /// Connections that all strangers may hold together. Default 256 (case 18).
    pub connections: usize,
    /// What a scanner calls itself: parts of a User-Agent, in any case. [`SCANNERS`] by default.
    pub scanners: Vec<String>,
}

impl Default for GuardConfig {
    fn default() -> GuardConfig {
        let loopback = ["127.0.0.0/8", "::1/128"];
        GuardConfig {
            trusted: loopback.iter().filter_map(|net| net.parse().ok()).collect(),
            strangers: Strangers::Ignore,
            stranger_rate: Rate::new(20.0, 40),
            strangers_rate: Rate::new(1000.0, 2000),
            newcomer_rate: Rate::new(200.0, 400),
            peer_rate: Some(Rate::new(2000.0, 4000)),
            peers: 4096,
            ban: BanRules::default(),
            remembered: 16_384,
            connections_per_address: 8,
            connections: 256,
            scanners: SCANNERS.iter().map(|s| (*s).to_owned()).collect(),
        }
    }
}

/// What widespread scanners call themselves in their User-Agent, or in their From.
pub const SCANNERS: [&str; 14] = [
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sip-scan",
    "sipscan",
    "sipcli",
    "siparmyknife",
    "sundayddr",
    "vaxsipuseragent",
    "vaxasip",
    "pplsip",
    "sivus",
    "iwar",
    "smap",
];

/// What happens to requests of those who are neither trusted nor known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Strangers {
    /// Nothing at all: no answer, no call. Whoever scans for telephones finds none (case 6).
    #[default]
    Ignore,
    /// 403 to every request, whomever it is for, so that nobody learns who lives here (case 7).
    Refuse,
    /// They are let in as anybody else: for those who want to be called by SIP address.
    Answer,
}

/// When an address is banned, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanRules {
    /// So many offences (see [`Offence::weight`]) ...
    pub offences: u16,
    /// ... within such a time get an address banned.
    pub window: Duration,
    /// How long the first ban lasts; each further one lasts twice as long ...
    pub first: Duration,
    /// ... up to this.
    pub longest: Duration,
    /// An address that stays good for so long after a ban begins anew with the first.
    pub forget: Duration,
}

impl Default for BanRules {
    /// 10 offences within a minute; 10 minutes to a day; forgotten after a day.
    fn default() -> BanRules {
        let day = Duration::from_secs(86_400);
        BanRules {
            offences: 10,
            window: Duration::from_secs(60),
            first: Duration::from_secs(600),
            longest: day,
            forget: day,
        }
    }
}

/// What may be done with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Read it.
    Pass,
    /// Throw it away unread.
    Drop(DropReason),
}

/// Why a datagram is thrown away, or a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The address is banned.
    Banned,
    /// The address sends more than one may.
    Rate,
    /// All strangers together send more than they may.
    Strangers,
    /// More strangers come for the first time than may.
    Newcomers,
    /// The address, or all strangers together, hold as many connections as they may.
    Connections,
}

/// Who an address is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// In one of the trusted networks.
    Trusted,
    /// The agent vouches for it.
    Known,
    /// Anybody.
    Stranger,
    /// A stranger that is banned.
    Banned,
}

/// What somebody did that friends do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Offence {
    /// Bytes that are not SIP at all.
    NotSip,
    /// SIP that cannot be read.
    Malformed,
    /// A request within a dialog that is not ours, or a response to nothing (case 13).
    UnknownDialog,
    /// A request of a stranger, where strangers are not served (cases 6 and 9).
    StrangersRequest,
    /// Credentials that are wrong (case 8).
    FailedDigest,
    /// The User-Agent of a scanner, see [`super::Guard::is_scanner`].
    Scanner,
    /// A connection that was opened and not used, or used too slowly (case 18).
    SlowConnection,
}

impl Offence {
    /// How much it counts. One wrong password may be a mistake; a scanner's name is not.
    pub fn weight(self) -> u16 {
        match self {
            Offence::NotSip
            | Offence::Malformed
            | Offence::UnknownDialog
            | Offence::StrangersRequest
            | Offence::SlowConnection => 1,
            Offence::FailedDigest => 2,
            Offence::Scanner => u16::MAX,
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Offence::NotSip => "bytes that are not SIP",
            Offence::Malformed => "malformed messages",
            Offence::UnknownDialog => "messages of dialogs that do not exist",
            Offence::StrangersRequest => "requests of a stranger",
            Offence::FailedDigest => "wrong credentials",
            Offence::Scanner => "a scanner's name",
            Offence::SlowConnection => "connections that say nothing",
        })
    }
}

/// A ban. Its `Display` is the line for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// What is banned: an IPv4 address, or an IPv6 network of 64 bits, by its first address.
    pub address: IpAddr,
    /// How long it lasts from now.
    pub left: Duration,
    /// The how-manieth it is in a row; 1 is the first.
    pub count: u8,
    /// The offence that was one too many.
    pub offence: Offence,
}

impl fmt::Display for Ban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = if self.address.is_ipv6() { "/64" } else { "" };
        write!(f, "{}{network} is banned for {} s: {}", self.address, self.left.as_secs(), self.offence)
    }
}

/// What the guard has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuardCounters {
    /// Datagrams of trusted addresses.
    pub trusted: u64,
    /// Datagrams of known peers that passed.
    pub known: u64,
    /// Datagrams of strangers that passed.
    pub strangers: u64,
    /// Dropped: [`DropReason::Banned`].
    pub dropped_banned: u64,
    /// Dropped: [`DropReason::Rate`].
    pub dropped_rate: u64,
    /// Dropped: [`DropReason::Strangers`].
    pub dropped_strangers: u64,
    /// Dropped: [`DropReason::Newcomers`].
    pub dropped_newcomers: u64,
    /// Connections not taken: [`DropReason::Connections`].
    pub refused_connections: u64,
    /// Offences, of whomever.
    pub offences: u64,
    /// Bans.
    pub bans: u64,
    /// Bans that were earned but not given, because three quarters of the places near this one hold bans already; the
    /// address stays under its rate.
    pub refused_bans: u64,
    /// Peers that were vouched for, but for whom there was no room.
    pub refused_peers: u64,
}

impl GuardCounters {
    /// Everything that was dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped_banned + self.dropped_rate + self.dropped_strangers + self.dropped_newcomers
    }

    pub(super) fn count_drop(&mut self, reason: DropReason) {
        *match reason {
            DropReason::Banned => &mut self.dropped_banned,
            DropReason::Rate => &mut self.dropped_rate,
            DropReason::Strangers => &mut self.dropped_strangers,
            DropReason::Newcomers => &mut self.dropped_newcomers,
            DropReason::Connections => &mut self.refused_connections,
        } += 1;
    }
}
