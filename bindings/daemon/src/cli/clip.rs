//! A WAV file that is spoken on a call: read, mixed to mono, and sent no faster than the daemon takes it.

use std::path::Path;

use control::types::{CallId, Encoding, Event, ResponseEnd, ResponseStart, ResponseStartReply};
use control::{Client, ControlError};
use hound::{SampleFormat, WavReader};

/// What the protocol takes; the daemon converts.
const RATES: std::ops::RangeInclusive<u32> = 8_000..=48_000;
/// One frame; small enough to fill the window evenly, large enough not to be many.
const FRAME_MS: u64 = 100;
/// Kept free of the window: what is played is told every 200 ms, and a refused frame would have to be sent again.
const WINDOW_MARGIN_MS: u64 = 1_000;

/// Mono samples.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clip {
    rate: u32,
    samples: Vec<i16>,
}

impl Clip {
    /// Reads a WAV file: 8 to 32 bit or float, any number of channels.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: hound::Error| format!("{}: {error}", path.display());
        let mut reader = WavReader::open(path).map_err(failed)?;
        let spec = reader.spec();
        if !RATES.contains(&spec.sample_rate) {
            let (low, high) = (RATES.start(), RATES.end());
            return Err(format!("{}: {} Hz: from {low} to {high} can be spoken", path.display(), spec.sample_rate));
        }
        let interleaved: Vec<f32> = match spec.sample_format {
            SampleFormat::Float => reader.samples::<f32>().collect::<Result<_, _>>(),
            SampleFormat::Int => {
                let full = (1_i64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
                reader.samples::<i32>().map(|sample| sample.map(|sample| sample as f32 / full)).collect()
            }
        }
        .map_err(failed)?;
        let channels = usize::from(spec.channels.max(1));
        let mono = |frame: &[f32]| frame.iter().sum::<f32>() / channels as f32;
        // a float that is not a number becomes 0
        let samples: Vec<i16> = interleaved
            .chunks_exact(channels)
            .map(|frame| (mono(frame).clamp(-1.0, 1.0) * 32767.0).round() as i16)
            .collect();
        if samples.is_empty() {
            return Err(format!("{}: there is no sound in it", path.display()));
        }
        Ok(Self { rate: spec.sample_rate, samples })
    }

    pub(super) fn duration_ms(&self) -> u64 {
        self.samples.len() as u64 * 1000 / u64::from(self.rate)
    }
}

/// A clip on its way to a call's voice.
#[derive(Debug)]
pub(super) struct Speaking {
    clip: Clip,
    call: CallId,
    response: ResponseStartReply,
    // samples
    sent: usize,
    played_ms: u64,
    ended: bool,
    finished: Option<Finished>,
}

/// How a clip ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    /// All of it was heard.
    Whole,
    /// A halt or the caller's voice cut it short.
    Interrupted,
}

impl Speaking {
    /// Opens a response for the clip.
    pub(super) fn start(client: &mut Client, call: CallId, clip: Clip) -> Result<Self, ControlError> {
        let request = ResponseStart { rate: clip.rate, encoding: Encoding::S16, ..ResponseStart::new(call) };
        let response = client.request(&request)?;
        Ok(Self { clip, call, response, sent: 0, played_ms: 0, ended: false, finished: None })
    }

    /// Sends what the window has room for, and the end after the last sample.
    pub(super) fn pump(&mut self, client: &mut Client) -> Result<(), ControlError> {
        if self.finished.is_some() {
            return Ok(());
        }
        let room_ms = self.response.window_ms.saturating_sub(WINDOW_MARGIN_MS).max(FRAME_MS);
        let frame = (u64::from(self.clip.rate) * FRAME_MS / 1000) as usize;
        while self.sent < self.clip.samples.len() && self.sent_ms() + FRAME_MS <= self.played_ms + room_ms {
            let end = (self.sent + frame).min(self.clip.samples.len());
            let bytes: Vec<u8> =
                self.clip.samples[self.sent..end].iter().flat_map(|sample| sample.to_le_bytes()).collect();
            client.send_audio(self.response.channel, Encoding::S16, self.response.generation, 0, &bytes)?;
            self.sent = end;
        }
        if self.sent == self.clip.samples.len() && !self.ended {
            self.ended = true;
            client.request(&ResponseEnd { call: self.call, response: self.response.response })?;
        }
        Ok(())
    }

    /// Learns how far it has come.
    pub(super) fn on_event(&mut self, event: &Event) {
        match event {
            Event::ResponseProgress { response, played_ms, .. } if *response == self.response.response => {
                self.played_ms = *played_ms;
            }
            // only when the daemon has less room than it said; then what it did not take is sent again
            Event::AudioRefused { response, refused, .. } if *response == self.response.response && !self.ended => {
                self.sent = self.sent.saturating_sub(usize::try_from(*refused).unwrap_or(usize::MAX));
            }
            Event::ResponseFinished { response, played_ms, interrupted, .. } if *response == self.response.response => {
                self.played_ms = *played_ms;
                self.finished = Some(if *interrupted { Finished::Interrupted } else { Finished::Whole });
            }
            _ => {}
        }
    }

    pub(super) fn finished(&self) -> Option<Finished> {
        self.finished
    }

    fn sent_ms(&self) -> u64 {
        self.sent as u64 * 1000 / u64::from(self.clip.rate)
    }
}

#[cfg(test)]
mod tests {
    use hound::{WavSpec, WavWriter};

    use super::*;

    fn written<S: hound::Sample>(spec: WavSpec, samples: impl IntoIterator<Item = S>) -> Result<Clip, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.wav");
        let mut writer = WavWriter::create(&path, spec).unwrap();
        samples.into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        Clip::read(&path).map_err(|error| error.replace(&path.display().to_string(), "clip.wav"))
    }

    fn spec(channels: u16, sample_rate: u32, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
        WavSpec { channels, sample_rate, bits_per_sample, sample_format }
    }

    #[test]
    fn all_kinds_of_wav_become_mono_of_16_bit() {
        let clip = written(spec(1, 8000, 16, SampleFormat::Int), [0_i16, 16384, -32768]).unwrap();
        assert_eq!(clip, Clip { rate: 8000, samples: vec![0, 16384, -32767] });
        let clip = written(spec(2, 48000, 24, SampleFormat::Int), [1_i32 << 22, 0, 1 << 22, 1 << 22]).unwrap();
        assert_eq!(clip, Clip { rate: 48000, samples: vec![8192, 16384] });
        let clip = written(spec(1, 16000, 32, SampleFormat::Float), [2.0_f32, f32::NAN, -0.5]).unwrap();
        assert_eq!(clip, Clip { rate: 16000, samples: vec![32767, 0, -16384] });
        assert_eq!(written(spec(1, 8000, 16, SampleFormat::Int), vec![0_i16; 4000]).unwrap().duration_ms(), 500);
    }

    #[test]
    fn what_cannot_be_spoken_is_told() {
        let empty: [i16; 0] = [];
        assert_eq!(
            written(spec(1, 8000, 16, SampleFormat::Int), empty),
            Err("clip.wav: there is no sound in it".into())
        );
        let rate = written(spec(1, 96000, 16, SampleFormat::Int), [0_i16]);
        assert_eq!(rate, Err("clip.wav: 96000 Hz: from 8000 to 48000 can be spoken".into()));
        assert!(Clip::read(Path::new("/nonexistent.wav")).unwrap_err().starts_with("/nonexistent.wav: "));
    }
}
