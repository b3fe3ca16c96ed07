//! Calls that go out by a client's `call.dial`, and calls that ring for too long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use control::types::{ApiError, CallDial, CallState, Cause, Direction, ErrorCode};
use control::{ClientId, RequestId};
use signaling::Dial;
use signaling::net::Command;

use super::call::{CallRecord, Media};
use super::requests::{Outcome, no_media};
use super::switchboard::{PendingDial, Switchboard};

impl Switchboard {
    /// Dials; answered when signaling has given the call a number.
    pub(super) fn dial(
        &mut self,
        client: ClientId,
        id: RequestId,
        request: CallDial,
    ) -> Result<(), (RequestId, ApiError)> {
        match self.offer_call(&request) {
            Ok((record, dial)) => {
                self.last_tag += 1;
                let tag = self.last_tag;
                if let Err(error) = self.endpoint.command(Command::Dial { tag, dial }) {
                    return Err((id, ApiError::new(ErrorCode::NoCapacity, error.to_string())));
                }
                let ring_limit = request
                    .timeout_ms
                    .map_or(Duration::from_secs(self.config.sip.ring_timeout_s), Duration::from_millis);
                self.dials.insert(tag, PendingDial { client, request: id, record, ring_limit });
                Ok(())
            }
            Err(error) => Err((id, error)),
        }
    }

    fn offer_call(&mut self, request: &CallDial) -> Outcome<(CallRecord, Dial)> {
        if self.shutting_down {
            return Err(ApiError::wrong_state("the daemon is shutting down"));
        }
        if self.live_calls() >= self.config.sip.max_calls {
            let text = format!("{} calls are up, which is sip.max_calls", self.config.sip.max_calls);
            return Err(ApiError::new(ErrorCode::NoCapacity, text));
        }
        if self.ears_are_full() {
            let text = "speech recognition is behind with the calls that are up (daemon.status, ears)";
            return Err(ApiError::new(ErrorCode::NoCapacity, text));
        }
        let account = self.account_for(request)?.map(str::to_owned);
        let account = account.as_deref();
        let limit = self.may_call(&request.to, account)?;
        let first_hop = account
            .and_then(|name| self.config.account(name))
            .and_then(|account| literal_address(account.proxy.first().unwrap_or(&account.registrar)));
        let peer = first_hop.or_else(|| literal_address(request.to.rsplit('@').next()?));
        let (port, local) = self.local_media(peer, account).map_err(|error| no_media(&error))?;
        let from = self.own_address(account);
        let mut record = CallRecord::new(0, Direction::Out, from, request.to.clone());
        record.account = account.map(str::to_owned);
        record.metadata = request.metadata.clone();
        record.record = request.record;
        record.limit = limit;
        record.listening.asked = request.detect.unwrap_or_default();
        record.media = Media::Offered(port, local);
        let dial = Dial {
            account: record.account.clone(),
            to: request.to.clone(),
            sdp: record.next_offer(None).unwrap_or_default(),
            display_name: request.display_name.clone(),
            headers: request.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            privacy: request.privacy,
        };
        Ok((record, dial))
    }

    /// The account that was asked for; else the first, unless the destination names a host that is not its registrar:
    /// such a call goes straight there.
    fn account_for(&self, request: &CallDial) -> Outcome<Option<&str>> {
        let accounts = &self.config.accounts;
        if let Some(name) = &request.account {
            return match accounts.iter().find(|account| account.name == *name) {
                Some(account) => Ok(Some(&account.name)),
                None => {
                    let known: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
                    let text = format!("there is no account {name:?}; configured: {}", known.join(", "));
                    Err(ApiError::new(ErrorCode::NoSuchAccount, text))
                }
            };
        }
        let bare = |text: &str| text.split([':', ';', '>']).next().unwrap_or_default().to_ascii_lowercase();
        let host = request.to.rsplit_once('@').map(|(_, host)| bare(host));
        Ok(accounts
            .iter()
            .find(|account| host.as_ref().is_none_or(|host| *host == bare(&account.registrar)))
            .map(|account| account.name.as_str()))
    }

    /// Gives up calls that ring for too long.
    pub(super) fn end_overdue_rings(&mut self, now: Instant) {
        let ringing =
            |state| matches!(state, CallState::Incoming | CallState::Dialing | CallState::Ringing | CallState::Early);
        let overdue: Vec<(u32, Direction)> = self
            .calls
            .values()
            .filter(|call| ringing(call.state) && call.ring_until.is_some_and(|until| now >= until))
            .map(|call| (call.id.0, call.direction))
            .collect();
        for (number, direction) in overdue {
            if let Some(call) = self.calls.get_mut(&number) {
                call.ring_until = None;
                call.hung_up_for = Some((Cause::NoAnswer, "nobody answered in time".into()));
            }
            let call = signaling::CallId(number);
            self.command(match direction {
                Direction::In => Command::Reject { call, status: 480 },
                Direction::Out => Command::Hangup(call),
            });
        }
    }
}

/// `host`, `host:port` when the host is an address; names are looked up elsewhere.
fn literal_address(host: &str) -> Option<SocketAddr> {
    let host = host.trim_start_matches('<').trim_start_matches("sip:").split([';', '>', '?']).next()?;
    host.parse().ok().or_else(|| Some(SocketAddr::new(host.trim_matches(['[', ']']).parse().ok()?, 5060)))
}
