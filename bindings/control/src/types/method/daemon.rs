//! Requests about the daemon itself and its SIP side.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Done, Request};
use crate::types::status::Status;

/// `daemon.status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {}

impl Request for DaemonStatus {
    const NAME: &'static str = "daemon.status";
    type Reply = Status;
}

/// `daemon.shutdown`: hangs up all calls and ends the daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonShutdown {}

impl Request for DaemonShutdown {
    const NAME: &'static str = "daemon.shutdown";
    type Reply = Done;
}

/// `sip.bans`: who is not heard for a while, for having offended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SipBans {}

impl Request for SipBans {
    const NAME: &'static str = "sip.bans";
    type Reply = SipBansReply;
}

/// The answer to [`SipBans`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SipBansReply {
    /// Those that end last come first.
    pub bans: Vec<SipBan>,
}

/// Somebody who is not heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SipBan {
    /// An IPv4 address, or the first of an IPv6 network of 64 bits.
    pub address: IpAddr,
    /// How much longer.
    pub left_s: u64,
    /// The how-manieth ban in a row this is.
    pub count: u32,
    /// The offence that was one too many.
    pub reason: String,
}

/// `sip.unban`: hears somebody again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SipUnban {
    /// Whom.
    pub address: IpAddr,
}

impl Request for SipUnban {
    const NAME: &'static str = "sip.unban";
    type Reply = Done;
}
