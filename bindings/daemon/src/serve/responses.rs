//! What clients ask of an agent's voice and of a caller's audio: responses, their audio, and subscriptions.

use control::ClientId;
use control::types::{
    ApiError, CallId, Encoding, ErrorCode, Event, MediaSubscribe, Position, ResponseEnd, ResponseEndReply,
    ResponseStart, ResponseStartReply, SubscribeReply,
};

use super::call::{CallRecord, Media};
use super::requests::{Outcome, no_audio, no_media};
use super::speech::WINDOW_MS;
use super::subscriptions::Subscription;
use super::switchboard::{Channel, Switchboard};

impl Switchboard {
    /// A call whose media is up and which is the client's or nobody's.
    pub(super) fn voice(&mut self, client: ClientId, call: CallId) -> Outcome<&mut CallRecord> {
        self.server.check_owner(client, call)?;
        let record = self.calls.get_mut(&call.0).ok_or_else(|| ApiError::no_such_call(call))?;
        match record.media {
            Media::Up(_) => Ok(record),
            _ => Err(no_audio(record)),
        }
    }

    pub(super) fn start_response(&mut self, client: ClientId, request: ResponseStart) -> Outcome<ResponseStartReply> {
        self.voice(client, request.call)?;
        if self.server.owner(request.call).is_none() {
            // who speaks on a call nobody owns takes it
            self.own(client, request.call);
        }
        let channel = self
            .server
            .open_channel(client)
            .ok_or_else(|| ApiError::new(ErrorCode::NoCapacity, "all channels of this connection are in use"))?;
        let started = self.voice(client, request.call).and_then(|call| {
            call.speech
                .start(request.rate, channel, request.text)
                .map_err(|error| ApiError::invalid_params(format!("`rate`: {error}")))
        });
        match started {
            Ok((response, generation)) => {
                self.channels.insert((client, channel), Channel::Voice(request.call.0));
                Ok(ResponseStartReply { response, generation, channel, window_ms: WINDOW_MS })
            }
            Err(error) => {
                self.server.close_channel(client, channel);
                Err(error)
            }
        }
    }

    pub(super) fn end_response(&mut self, client: ClientId, request: &ResponseEnd) -> Outcome<ResponseEndReply> {
        let call = self.voice(client, request.call)?;
        let Media::Up(up) = &mut call.media else { return Err(ApiError::no_such_call(request.call)) };
        let (_, queued_ms) = call.speech.end(request.response, up.handle.voice()).ok_or_else(|| {
            ApiError::new(ErrorCode::NoSuchResponse, format!("there is no response {} any more", request.response))
        })?;
        call.speech.pump(up.handle.voice());
        Ok(ResponseEndReply { queued_ms })
    }

    pub(super) fn stop_voice(&mut self, client: ClientId, call: CallId, latch: bool) -> Outcome<Position> {
        self.voice(client, call)?;
        self.flush_voice(call.0, latch);
        self.position(client, call)
    }

    /// Stops the agent's voice and tells which responses will never play.
    pub(super) fn flush_voice(&mut self, number: u32, latch: bool) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Media::Up(up) = &mut call.media else { return };
        for finished in call.speech.flush(up.handle.voice(), latch) {
            self.response_over(number, finished);
        }
    }

    pub(super) fn position(&mut self, client: ClientId, call: CallId) -> Outcome<Position> {
        let record = self.voice(client, call)?;
        let Media::Up(up) = &mut record.media else { return Err(ApiError::no_such_call(call)) };
        Ok(record.speech.position(up.handle.voice()))
    }

    pub(super) fn subscribe(&mut self, client: ClientId, request: &MediaSubscribe) -> Outcome<SubscribeReply> {
        let call = self.calls.get_mut(&request.call.0).ok_or_else(|| ApiError::no_such_call(request.call))?;
        let Media::Up(up) = &mut call.media else { return Err(no_audio(call)) };
        let tap = up.handle.subscribe().map_err(|error| no_media(&error))?;
        let subscription = Subscription::new(request.call.0, tap, request.rate, request.encoding)
            .map_err(|error| ApiError::invalid_params(format!("`rate`: {error}")))?;
        let channel = self
            .server
            .open_channel(client)
            .ok_or_else(|| ApiError::new(ErrorCode::NoCapacity, "all channels of this connection are in use"))?;
        self.channels.insert((client, channel), Channel::Ears(Box::new(subscription)));
        Ok(SubscribeReply { channel })
    }

    pub(super) fn on_audio(
        &mut self,
        client: ClientId,
        channel: u16,
        encoding: Encoding,
        generation: u64,
        samples: &[u8],
    ) {
        let Some(Channel::Voice(number)) = self.channels.get(&(client, channel)) else { return };
        let number = *number;
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Media::Up(up) = &mut call.media else { return };
        let Some((response, taken)) = call.speech.push(channel, generation, encoding, samples) else { return };
        call.speech.pump(up.handle.voice());
        if taken.refused > 0 {
            self.notify(&Event::AudioRefused {
                call: CallId(number),
                response,
                accepted: taken.accepted as u64,
                refused: taken.refused as u64,
            });
        }
    }
}
