//! Files and tones that clients have played to a call's far end.

use std::path::{Component, Path, PathBuf};

use control::ClientId;
use control::types::{
    ApiError, AudioDuck, CallId, Done, ErrorCode, Event, PlayFile, PlayMode, PlayReason, PlayReply, PlayStop, PlayTone,
    Position, ToneName, ToneRegion,
};
use engine::{BargeIn, EngineError, NamedTone, PlayEnd, PlayId, PlayOptions, Region, Segment, Tone};

use super::call::{CallRecord, Media};
use super::requests::{Outcome, no_audio, no_media};
use super::switchboard::Switchboard;
use crate::config::Voice;

/// Samples of 8 kHz in a millisecond.
const SAMPLES_PER_MS: u64 = 8;

impl Switchboard {
    pub(super) fn play_file(&mut self, client: ClientId, request: &PlayFile) -> Outcome<PlayReply> {
        let path = place_of(&request.path, self.config.voice.folder.as_deref()).map_err(ApiError::invalid_params)?;
        let options = options(request.mode, request.bargeable, request.gain_db);
        self.play(client, request.call, |up| up.play_file(&path, options))
    }

    pub(super) fn play_tone(&mut self, client: ClientId, request: &PlayTone) -> Outcome<PlayReply> {
        let tone = match request.tone {
            Some(name) => Tone::named(named(name), region(request.region), request.for_ms),
            None => Tone::new(&[Segment::new(&request.frequencies_hz, request.on_ms, request.off_ms)], request.for_ms),
        };
        let options = options(request.mode, request.bargeable, request.gain_db);
        self.play(client, request.call, |up| up.play_tone(tone, options))
    }

    fn play(
        &mut self,
        client: ClientId,
        call: CallId,
        play: impl FnOnce(&mut engine::CallHandle) -> Result<PlayId, EngineError>,
    ) -> Outcome<PlayReply> {
        let record = self.voice(client, call)?;
        let Media::Up(up) = &mut record.media else { return Err(no_audio(record)) };
        let PlayId(play) = play(&mut up.handle).map_err(|error| match error {
            EngineError::Play(error) => ApiError::invalid_params(format!("`path`: {error}")),
            other => no_media(&other),
        })?;
        record.plays.insert(play);
        Ok(PlayReply { play })
    }

    pub(super) fn stop_play(&mut self, client: ClientId, request: &PlayStop) -> Outcome<Done> {
        let record = self.voice(client, request.call)?;
        if !record.plays.contains(&request.play) {
            let text = format!("there is no player {} any more", request.play);
            return Err(ApiError::new(ErrorCode::NoSuchResponse, text));
        }
        let Media::Up(up) = &mut record.media else { return Err(no_audio(record)) };
        up.handle.stop_play(PlayId(request.play)).map_err(|error| no_media(&error))?;
        Ok(Done {})
    }

    /// The engine says that a player is over.
    pub(super) fn play_over(&mut self, number: u32, PlayId(play): PlayId, played: u64, end: PlayEnd) {
        if let Some(record) = self.calls.get_mut(&number) {
            record.plays.remove(&play);
        }
        let reason = match end {
            PlayEnd::End => PlayReason::End,
            PlayEnd::Stopped => PlayReason::Stopped,
            PlayEnd::BargeIn => PlayReason::BargeIn,
            PlayEnd::Failed => PlayReason::Failed,
        };
        self.notify(&Event::PlayFinished { call: CallId(number), play, played_ms: played / SAMPLES_PER_MS, reason });
    }

    pub(super) fn duck(&mut self, client: ClientId, request: &AudioDuck) -> Outcome<Position> {
        let usual = barge_in(&self.config.voice);
        let record = self.voice(client, request.call)?;
        let Media::Up(up) = &mut record.media else { return Err(no_audio(record)) };
        let voice = up.handle.voice();
        voice.set_barge_in(&BargeIn {
            duck_db: request.depth_db.unwrap_or(usual.duck_db),
            duck_ms: request.down_ms.unwrap_or(usual.duck_ms),
            restore_ms: request.up_ms.unwrap_or(usual.restore_ms),
            ..usual
        });
        voice.duck(request.ducked);
        Ok(record.speech.position(voice))
    }

    /// The caller may be speaking, or was not: the first of the two steps of a barge-in.
    pub(super) fn duck_voice(&mut self, number: u32, ducked: bool) {
        if self.may_interrupt(number)
            && let Some(CallRecord { media: Media::Up(up), .. }) = self.calls.get_mut(&number)
        {
            up.handle.voice().duck(ducked);
        }
    }

    /// Stops everything that plays on a call, bargeable or not: whom it was for is gone.
    pub(super) fn stop_plays(&mut self, number: u32) {
        let Some(record) = self.calls.get_mut(&number) else { return };
        let Media::Up(up) = &mut record.media else { return };
        for play in &record.plays {
            if let Err(error) = up.handle.stop_play(PlayId(*play)) {
                log::warn!("{}: player {play} goes on: {error}", record.id);
            }
        }
    }
}

/// The barge-in that is configured.
pub(super) fn barge_in(voice: &Voice) -> BargeIn {
    BargeIn {
        duck_db: voice.duck_db as f32,
        duck_ms: voice.duck_ms,
        restore_ms: voice.restore_ms,
        fade_ms: voice.fade_ms,
    }
}

fn options(mode: PlayMode, bargeable: bool, gain_db: f32) -> PlayOptions {
    let mode = match mode {
        PlayMode::Mix => engine::PlayMode::Mix,
        PlayMode::Instead => engine::PlayMode::Instead,
    };
    PlayOptions { mode, bargeable, gain_db }
}

fn named(name: ToneName) -> NamedTone {
    match name {
        ToneName::Dial => NamedTone::Dial,
        ToneName::Ringback => NamedTone::Ringback,
        ToneName::Busy => NamedTone::Busy,
        ToneName::Congestion => NamedTone::Congestion,
        ToneName::Sit => NamedTone::Sit,
        ToneName::Beep => NamedTone::Beep,
    }
}

fn region(region: ToneRegion) -> Region {
    match region {
        ToneRegion::Eu => Region::Europe,
        ToneRegion::Us => Region::NorthAmerica,
    }
}

/// Where a file is: an absolute path as it stands, any other under the configured folder and never outside of it.
fn place_of(path: &str, folder: Option<&Path>) -> Result<PathBuf, String> {
    let given = Path::new(path);
    if given.is_absolute() {
        return Ok(given.to_owned());
    }
    let Some(folder) = folder else {
        return Err(format!("`path`: {path:?}: must be absolute, as no folder is configured (voice.folder)"));
    };
    if given.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("`path`: {path:?}: leads out of {}", folder.display()));
    }
    Ok(folder.join(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_or_stays_in_the_folder() {
        let folder = Path::new("/sounds");
        assert_eq!(place_of("/tmp/a.wav", Some(folder)), Ok("/tmp/a.wav".into()));
        assert_eq!(place_of("en/a.wav", Some(folder)), Ok("/sounds/en/a.wav".into()));
        assert!(place_of("../etc/a.wav", Some(folder)).unwrap_err().contains("leads out of /sounds"));
        assert!(place_of("en/../../a.wav", Some(folder)).unwrap_err().contains("leads out of"));
        assert!(place_of("a.wav", None).unwrap_err().contains("must be absolute"));
    }
}
