//! The bounds on what others can make us keep. Calls are bounded by the configuration; everything here is beside them.

use std::time::Duration;

/// Events that the application has not taken; beyond it no new calls are let in.
pub(super) const EVENTS: usize = 4096;
/// Different answers to one INVITE that are acknowledged and ended; further forks are left to time out.
pub(super) const FORKS: usize = 16;
/// Dialogs that are over and still known, for 32 s at most; about 300 bytes each.
pub(super) const ENDED_DIALOGS: usize = 8192;
/// Looked-up names that are kept.
pub(super) const NAMES: usize = 1024;
/// How long a looked-up name counts at most, whatever the record's own time.
pub(super) const NAME_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long a server that did not answer comes after those that do.
pub(super) const DOWN: Duration = Duration::from_secs(60);
/// How long a server may be silent before the next one is tried, where there is a next one. Far less than timer B: a
/// person waits for this call.
pub(super) const FAILOVER: Duration = Duration::from_secs(4);
/// A request that is larger goes by TCP (RFC 3261 section 18.1.1), for UDP would cut it into fragments, and those get lost.
pub(super) const LARGEST_UDP_REQUEST: usize = 1300;
/// How long somebody that we deal with is known after the last we saw of it; more than 64 * T1, within which messages are
/// sent again.
pub(super) const KNOWN: Duration = Duration::from_secs(90);
/// How often those that we deal with are vouched for again.
pub(super) const VOUCH: Duration = Duration::from_secs(30);
/// Addresses that the far end of one call is known by: proxies on the way, and itself.
pub(super) const CALL_ADDRESSES: usize = 4;
/// Servers of one name that are tried.
pub(super) const TARGETS: usize = 16;
/// STUN servers, all of which are asked in every round.
pub(super) const STUN_SERVERS: usize = 8;
/// Addresses of one STUN server that are tried in turn. Each may take 40 s.
pub(super) const STUN_ADDRESSES: usize = 3;
/// How often STUN servers are asked: the shortest UDP timeouts of NATs in use are 30 s.
pub(super) const STUN_ROUND: Duration = Duration::from_secs(25);
/// Requests that wait for names at once.
pub(super) const WAITING: usize = 1024;
/// Addresses that an account's hosts were found at.
pub(super) const ACCOUNT_ADDRESSES: usize = 16;
/// How long the application may think about a re-INVITE before it is refused: the far end's timer B is 32 s.
pub(super) const REOFFER: Duration = Duration::from_secs(10);
/// How long a re-INVITE of ours may be thought about at the other end, provisional responses or not.
pub(super) const OUR_REOFFER: Duration = Duration::from_secs(60);
/// How often an offer of ours, or the first INVITE for its session timer, is sent again because the far end was not ready.
pub(super) const OFFER_TRIES: u8 = 8;
/// The longest Retry-After that an offer of ours is put off for.
pub(super) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How often a request within a dialog is sent again because a later one had overtaken it.
pub(super) const ORDER_TRIES: u8 = 3;
/// INFOs of a call that wait for their turn: a whole card number may.
pub(super) const INFOS: usize = 32;
/// Provisional answers of a call that wait for the PRACK of the one before.
pub(super) const PROVISIONALS: usize = 4;
/// How long the far end may try to reach whom it was sent to, and at least is given: it rings there.
pub(super) const TRANSFER: Duration = Duration::from_secs(240);
pub(super) const SHORTEST_TRANSFER: Duration = Duration::from_secs(32);
/// The longest session interval that counts; a longer one is as good as none.
pub(super) const LONGEST_SESSION: Duration = Duration::from_secs(24 * 3600);
/// Places that a redirected call is sent to at most.
pub(super) const REDIRECTS: usize = 5;
/// Headers of the application's own in an INVITE, and the bytes of one.
pub(super) const OWN_HEADERS: usize = 16;
pub(super) const OWN_HEADER_BYTES: usize = 1024;
/// How long a digit by INFO was pressed, when it does not say.
pub(super) const DIGIT_DEFAULT: Duration = Duration::from_millis(160);
/// What a full house asks callers to wait.
pub(super) const RETRY_AFTER_SECONDS: &str = "10";
/// A longer limit than this on ringing is taken for none; it keeps times within what a clock can count.
pub(super) const LONGEST_RINGING: Duration = Duration::from_secs(24 * 3600);
