//! How calls sound: cleaning and effects.

use control::ClientId;
use control::types::{ApiError, AudioClean, AudioEffects, CleanReply, Done, Voice};
use engine::effects::{Direction, EffectChain};
use engine::{CallHandle, CleanConfig};

use super::call::Media;
use super::requests::{Outcome, no_audio, no_media};
use super::switchboard::Switchboard;
use crate::config;

impl Switchboard {
    pub(super) fn clean(&mut self, client: ClientId, request: &AudioClean) -> Outcome<CleanReply> {
        let handle = self.handle(client, request.call)?;
        let now = handle.cleaning();
        let wanted = CleanConfig {
            dc: request.dc.unwrap_or(now.dc),
            agc: request.agc.unwrap_or(now.agc),
            noise: request.noise.unwrap_or(now.noise),
            echo: request.echo.unwrap_or(now.echo),
        };
        handle.clean(wanted).map_err(|error| no_media(&error))?;
        Ok(CleanReply { dc: wanted.dc, agc: wanted.agc, noise: wanted.noise, echo: wanted.echo })
    }

    pub(super) fn set_effects(&mut self, client: ClientId, request: &AudioEffects) -> Outcome<Done> {
        let handle = self.handle(client, request.call)?;
        let named = request.chain.iter().map(|effect| {
            let parameters = effect.parameters.iter().map(|(name, value)| (name.as_str(), *value));
            (effect.name.as_str(), parameters)
        });
        let chain = EffectChain::new(named)
            .map_err(|error| ApiError::invalid_params(format!("audio.effects: `chain`: {error}")))?;
        let direction = match request.direction {
            Voice::Caller => Direction::Caller,
            Voice::Agent => Direction::Agent,
        };
        handle.set_effects(direction, chain).map_err(|error| no_media(&error))?;
        Ok(Done {})
    }

    /// The media of a call that is the client's or nobody's.
    fn handle(&mut self, client: ClientId, call: control::types::CallId) -> Outcome<&mut CallHandle> {
        self.server.check_owner(client, call)?;
        let record = self.calls.get_mut(&call.0).ok_or_else(|| ApiError::no_such_call(call))?;
        if !matches!(record.media, Media::Up(_)) {
            return Err(no_audio(record));
        }
        record.up().map(|up| &mut up.handle).ok_or_else(|| ApiError::no_such_call(call))
    }
}

/// What a call begins with.
pub(super) fn configured(clean: config::Clean) -> CleanConfig {
    CleanConfig { dc: clean.dc, agc: clean.agc, noise: clean.noise, echo: clean.echo }
}
