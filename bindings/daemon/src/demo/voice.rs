//! Synthetic voices for both ends of the demo: espeak-ng, from Debian.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use engine::dsp::{Resampler, ResamplerError};

/// What can go wrong while making a voice.
#[derive(Debug, thiserror::Error)]
pub enum VoiceError {
    /// The synthesizer could not be run.
    #[error("espeak-ng cannot be run: {0}; the fix: apt-get install espeak-ng")]
    Run(std::io::Error),
    /// The synthesizer ran and failed.
    #[error("espeak-ng could not say {0:?}")]
    Failed(String),
    /// Its output or our file is not a usable WAV.
    #[error("{path}: {source}")]
    Wav { path: PathBuf, source: hound::Error },
    /// The sample rate cannot be converted.
    #[error(transparent)]
    Rate(#[from] ResamplerError),
}

/// A voice of espeak-ng.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    /// espeak-ng's name for it, such as `en-us`.
    pub name: &'static str,
    /// Words a minute.
    pub rate: u32,
}

/// What somebody says: 16-bit mono.
#[derive(Debug, Clone)]
pub struct Speech {
    /// Samples a second.
    pub rate: u32,
    /// The samples.
    pub samples: Vec<i16>,
}

impl Speech {
    /// How long it takes, in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// The same with so much silence behind it: what is said last is still in the far end's jitter buffer when its last
    /// sample is sent, and who hangs up then cuts it.
    #[must_use]
    pub fn then_silence(mut self, seconds: f64) -> Self {
        let silence = (seconds * f64::from(self.rate)) as usize;
        self.samples.resize(self.samples.len() + silence, 0);
        self
    }

    /// The samples as bytes for the control socket's s16 encoding.
    pub fn bytes(&self) -> Vec<u8> {
        self.samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    /// The same at the telephone's 8 kHz, in [-1, 1].
    ///
    /// # Errors
    /// There is no conversion from this rate.
    pub fn at_telephone_rate(&self) -> Result<Vec<f32>, VoiceError> {
        let samples: Vec<f32> = self.samples.iter().map(|&s| f32::from(s) / 32768.0).collect();
        let mut resampler = Resampler::new(self.rate, 8000)?;
        let mut out = Vec::new();
        resampler.process(&samples, |block| out.extend_from_slice(block));
        resampler.flush(|block| out.extend_from_slice(block));
        Ok(out)
    }
}

impl Voice {
    /// Speaks `text` into memory.
    ///
    /// # Errors
    /// espeak-ng is missing, fails, or writes what is not a WAV.
    pub fn say(&self, text: &str, scratch: &Path) -> Result<Speech, VoiceError> {
        let path = scratch.join("say.wav");
        let status = Command::new("espeak-ng")
            .args(["-v", self.name, "-s", &self.rate.to_string(), "-w"])
            .arg(&path)
            // the text may begin with a dash
            .args(["--", text])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(VoiceError::Run)?;
        if !status.success() {
            return Err(VoiceError::Failed(text.to_owned()));
        }
        let read = || -> Result<Speech, hound::Error> {
            let mut reader = hound::WavReader::open(&path)?;
            let rate = reader.spec().sample_rate;
            Ok(Speech { rate, samples: reader.samples::<i16>().collect::<Result<_, _>>()? })
        };
        read().map_err(|source| VoiceError::Wav { path: path.clone(), source })
    }
}

/// One thing a caller says, with silence before it.
#[derive(Debug, Clone)]
pub struct Cue {
    /// Seconds of silence first.
    pub pause: f64,
    /// What is said then.
    pub speech: Speech,
}

/// Writes what a caller says as one 8 kHz mono WAV, `tail` seconds of silence at its end.
///
/// # Errors
/// The file cannot be written.
pub fn write_script(path: &Path, cues: &[Cue], tail: f64) -> Result<(), VoiceError> {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut samples = Vec::new();
    for cue in cues {
        samples.resize(samples.len() + (cue.pause * 8000.0) as usize, 0.0_f32);
        samples.extend(cue.speech.at_telephone_rate()?);
    }
    samples.resize(samples.len() + (tail * 8000.0) as usize, 0.0);
    let write = || -> Result<(), hound::Error> {
        let mut writer = hound::WavWriter::create(path, spec)?;
        for sample in &samples {
            writer.write_sample((sample * 32767.0) as i16)?;
        }
        writer.finalize()
    };
    write().map_err(|source| VoiceError::Wav { path: path.to_owned(), source })
}
