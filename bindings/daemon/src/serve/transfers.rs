//! Calls that are up and change: hold, resume, early media, and sending or being sent to somebody else.

use std::time::{Duration, Instant};

use control::ClientId;
use control::types::{ApiError, CallId, CallState, CallTransfer, Direction, Done, Event, TransferState};
use signaling::net::Command;
use signaling::sdp::Direction as MediaDirection;

use super::call::{CallRecord, Media};
use super::requests::no_media;
use super::switchboard::{PendingTransfer, Switchboard};

type Outcome<T> = Result<T, ApiError>;

/// 603: the far end's wish was understood and is not done.
const DECLINE: u16 = 603;

impl Switchboard {
    /// A call that is up and that the client may change.
    fn up_for(&mut self, client: ClientId, call: CallId, force: bool) -> Outcome<&mut CallRecord> {
        if !force {
            self.server.check_owner(client, call)?;
        }
        let record = self.calls.get_mut(&call.0).ok_or_else(|| ApiError::no_such_call(call))?;
        if record.state != CallState::Answered {
            return Err(ApiError::wrong_state(format!("{call} is {}, not answered", record.state)));
        }
        Ok(record)
    }

    /// `call.hold` and `call.resume`: a new offer. The outcome is told by events.
    pub(super) fn hold(&mut self, client: ClientId, call: CallId, force: bool, on: bool) -> Outcome<Done> {
        let record = self.up_for(client, call, force)?;
        let held = record.local().is_some_and(|local| !local.direction.receives());
        if record.reoffering.is_some() {
            return Err(ApiError::wrong_state(format!("{call} is being changed already")));
        }
        if held == on {
            return Ok(Done {});
        }
        let before = record.local().map_or(MediaDirection::SendRecv, |local| local.direction);
        // on hold the agent may still be heard, for music or a word; RFC 3264 section 8.4
        let direction = if on { MediaDirection::SendOnly } else { MediaDirection::SendRecv };
        let sdp =
            record.next_offer(Some(direction)).ok_or_else(|| ApiError::wrong_state(format!("{call} has no audio")))?;
        record.reoffering = Some(before);
        self.command(Command::Reoffer { call: signaling::CallId(call.0), sdp });
        Ok(Done {})
    }

    /// `call.progress`: our answer in a 183, so that the agent is heard before the call is answered.
    pub(super) fn progress(&mut self, client: ClientId, call: CallId) -> Outcome<Done> {
        self.server.check_owner(client, call)?;
        let record = self.calls.get(&call.0).ok_or_else(|| ApiError::no_such_call(call))?;
        if record.state != CallState::Incoming || record.answering || record.early.is_some() {
            return Err(ApiError::wrong_state(format!("{call} is {} and cannot have early media", record.state)));
        }
        self.own(client, call);
        let sdp = self.describe_answer(call.0)?;
        if let Some(record) = self.calls.get_mut(&call.0) {
            record.early = Some(sdp.clone());
        }
        self.command(Command::Progress { call: signaling::CallId(call.0), sdp });
        Ok(Done {})
    }

    /// What we answer (or offer, if the INVITE had no offer) to an incoming call; media that is agreed on flows from here on.
    fn describe_answer(&mut self, number: u32) -> Outcome<String> {
        let Some(record) = self.calls.get_mut(&number) else { return Err(ApiError::no_such_call(CallId(number))) };
        let Some(offer) = record.offer.take() else {
            return record.next_offer(None).ok_or_else(|| ApiError::internal("the call has no media"));
        };
        let (sdp, plan) = record.answer_offer(&offer).map_err(ApiError::internal)?;
        self.apply_plan(number, &plan).map_err(|error| no_media(&error))?;
        Ok(sdp)
    }

    /// `call.transfer`.
    pub(super) fn transfer(&mut self, client: ClientId, request: &CallTransfer) -> Outcome<Done> {
        let record = self.up_for(client, request.call, request.force)?;
        let account = record.account.clone();
        let call = signaling::CallId(request.call.0);
        if let Some(other) = request.other_call {
            self.up_for(client, other, request.force)?;
            self.command(Command::TransferTo { call, other: signaling::CallId(other.0) });
        } else if let Some(to) = &request.to {
            // whom the far end calls for us may cost us as much as whom we call (case 15)
            self.may_call(to, account.as_deref())?;
            self.command(Command::Transfer { call, to: to.clone() });
        }
        Ok(Done {})
    }

    /// `call.transfer_accept`: the rules of `[dialing]` are asked, then the core calls (case 16).
    pub(super) fn accept_transfer(&mut self, client: ClientId, call: CallId) -> Outcome<Done> {
        let record = self.up_for(client, call, false)?;
        let (account, source) = (record.account.clone(), record.source);
        let to = record
            .transfer_to
            .clone()
            .ok_or_else(|| ApiError::wrong_state(format!("the far end of {call} has asked for no transfer")))?;
        let limit = self.may_call(&to, account.as_deref())?;
        let (port, local) = self.local_media(source, account.as_deref()).map_err(|error| no_media(&error))?;
        let from = self.own_address(account.as_deref());
        let mut record = CallRecord::new(0, Direction::Out, from, to);
        record.account = account;
        record.media = Media::Offered(port, local);
        record.limit = limit;
        let sdp = record.next_offer(None).unwrap_or_default();
        if let Some(record) = self.calls.get_mut(&call.0) {
            record.transfer_to = None;
        }
        self.transfers.insert(call.0, PendingTransfer { client, record });
        self.command(Command::AcceptTransfer { call: signaling::CallId(call.0), sdp });
        Ok(Done {})
    }

    /// `call.transfer_reject`.
    pub(super) fn reject_transfer(&mut self, client: ClientId, call: CallId, status: u16) -> Outcome<Done> {
        let record = self.up_for(client, call, false)?;
        if record.transfer_to.take().is_none() {
            return Err(ApiError::wrong_state(format!("the far end of {call} has asked for no transfer")));
        }
        self.command(Command::RejectTransfer { call: signaling::CallId(call.0), status });
        Ok(Done {})
    }

    /// The far end wants us to call somebody else: whoever owns the call decides.
    pub(super) fn on_transfer_requested(&mut self, number: u32, to: String, referred_by: Option<String>) {
        let Some(record) = self.calls.get_mut(&number) else { return };
        if record.owner.is_none() {
            self.command(Command::RejectTransfer { call: signaling::CallId(number), status: DECLINE });
            return;
        }
        record.transfer_to = Some(to.clone());
        self.tell_transfer(number, TransferState::Requested, |told| {
            told.to = Some(to);
            told.referred_by = referred_by;
        });
    }

    /// The call that was made because the far end wanted it.
    pub(super) fn on_transferring(&mut self, number: u32, new: u32) {
        let Some(PendingTransfer { client, mut record }) = self.transfers.remove(&number) else { return };
        record.id = CallId(new);
        record.ring_until = Some(Instant::now() + Duration::from_secs(self.config.sip.ring_timeout_s));
        let to = record.to.clone();
        self.calls.insert(new, record);
        self.own(client, CallId(new));
        self.tell_transfer(number, TransferState::Calling, |told| {
            told.to = Some(to);
            told.new_call = Some(CallId(new));
        });
        self.set_state(new, CallState::Dialing);
    }

    /// How a transfer of ours gets on, and how it ended.
    pub(super) fn on_transfer_news(&mut self, number: u32, state: TransferState, status: Option<u16>, reason: String) {
        self.tell_transfer(number, state, |told| {
            told.status = status;
            told.reason = Some(reason).filter(|reason| !reason.is_empty());
        });
    }

    fn tell_transfer(&mut self, number: u32, state: TransferState, fill: impl FnOnce(&mut Told)) {
        let mut told = Told::default();
        fill(&mut told);
        self.notify(&Event::CallTransfer {
            call: CallId(number),
            state,
            to: told.to,
            referred_by: told.referred_by,
            new_call: told.new_call,
            status: told.status,
            reason: told.reason,
        });
    }

    /// The far end's answer to an offer of ours that changes a call, or to one in an early answer of ours.
    pub(super) fn on_reoffer_answered(&mut self, number: u32, answer: &str) {
        let Some(record) = self.calls.get_mut(&number) else { return };
        let before = record.reoffering.take();
        let outcome = record.accept(answer);
        let outcome = match outcome {
            Ok(plan) => self.apply_plan(number, &plan).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => self.tell_reoffer(number, true, true, None, None),
            Err(error) => self.on_reoffer_refused(number, before, None, error),
        }
    }

    /// The far end did not take our offer: everything is as before.
    pub(super) fn on_reoffer_refused(
        &mut self,
        number: u32,
        before: Option<MediaDirection>,
        status: Option<u16>,
        reason: String,
    ) {
        let Some(record) = self.calls.get_mut(&number) else { return };
        if let (Some(before), Some(up)) = (before.or(record.reoffering.take()), record.up()) {
            up.local.direction = before;
        }
        log::info!("c{number}: the far end does not take our offer: {reason}");
        self.tell_reoffer(number, true, false, status, Some(reason));
    }

    /// Tells what became of a new offer.
    pub(super) fn tell_reoffer(
        &mut self,
        number: u32,
        ours: bool,
        accepted: bool,
        status: Option<u16>,
        reason: Option<String>,
    ) {
        let Some(record) = self.calls.get(&number).filter(|record| record.answered.is_some()) else { return };
        let codec = record.codec.filter(|_| accepted).map(str::to_owned);
        self.notify(&Event::CallReoffer { call: CallId(number), ours, accepted, codec, status, reason });
    }

    /// Who we are to the called, over an account.
    pub(super) fn own_address(&self, account: Option<&str>) -> String {
        let account = account.and_then(|name| self.config.account(name));
        account.map_or_else(|| "mr-sip".to_owned(), |account| format!("sip:{}@{}", account.user, account.registrar))
    }
}

/// The optional parts of `call.transfer`.
#[derive(Default)]
struct Told {
    to: Option<String>,
    referred_by: Option<String>,
    new_call: Option<CallId>,
    status: Option<u16>,
    reason: Option<String>,
}
