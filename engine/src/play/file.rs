//! WAV files of any rate, number of channels and depth, as the 8 kHz of a call.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader};

use crate::dsp::{Resampler, ResamplerError};

/// The longest file: 4 hours.
const MAX_SECONDS: u64 = 4 * 3_600;
const MAX_CHANNELS: u16 = 8;
/// Frames that are read at once.
const FRAMES: usize = 1_024;

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlayError {
    /// It is not there, or may not be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        reason: std::io::Error,
    },
    /// A folder, a pipe, a device.
    #[error("{path}: not a file")]
    NoFile {
        /// Which.
        path: PathBuf,
    },
    /// It holds something else, or a kind of WAV that is not read (compressed: A-law, mu-law, ADPCM).
    #[error("{path}: not a WAV file of whole or floating-point samples: {reason}")]
    NoWav {
        /// Which file.
        path: PathBuf,
        /// The library's words.
        reason: String,
    },
    /// It is longer than anybody listens.
    #[error("{path}: {seconds} s long; at most {MAX_SECONDS} s")]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        seconds: u64,
    },
    /// Its rate cannot be converted.
    #[error("{path}: {reason}")]
    Rate {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: ResamplerError,
    },
}

/// An open file, read piece by piece.
#[derive(Debug)]
pub struct WavSource {
    reader: Wav,
    channels: usize,
    /// What a sample of the file is multiplied with.
    scale: f32,
    float: bool,
    resampler: Resampler,
    mono: Vec<f32>,
    ended: bool,
}

struct Wav(WavReader<BufReader<File>>);

impl std::fmt::Debug for Wav {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.spec())
    }
}

impl WavSource {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// See [`PlayError`].
    pub fn open(path: &Path) -> Result<Self, PlayError> {
        let unreadable = |reason| PlayError::Unreadable { path: path.to_owned(), reason };
        // asked before it is opened: a pipe would keep the thread waiting for somebody to write
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(PlayError::NoFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(unreadable)?;
        let no_wav = |reason: String| PlayError::NoWav { path: path.to_owned(), reason };
        let reader = WavReader::new(BufReader::new(file)).map_err(|error| no_wav(error.to_string()))?;
        let spec = reader.spec();
        if spec.channels == 0 || spec.channels > MAX_CHANNELS {
            return Err(no_wav(format!("{} channels", spec.channels)));
        }
        if spec.bits_per_sample == 0 || spec.bits_per_sample > 32 {
            return Err(no_wav(format!("{} bits a sample", spec.bits_per_sample)));
        }
        let resampler = Resampler::new(spec.sample_rate, 8_000)
            .map_err(|reason| PlayError::Rate { path: path.to_owned(), reason })?;
        let seconds = u64::from(reader.duration()) / u64::from(spec.sample_rate);
        if seconds > MAX_SECONDS {
            return Err(PlayError::TooLong { path: path.to_owned(), seconds });
        }
        let float = spec.sample_format == SampleFormat::Float;
        let full_scale = if float { 1.0 } else { 2.0_f32.powi(i32::from(spec.bits_per_sample) - 1) };
        let channels = usize::from(spec.channels);
        Ok(Self {
            reader: Wav(reader),
            channels,
            scale: 1.0 / (full_scale * channels as f32),
            float,
            resampler,
            mono: Vec::with_capacity(FRAMES),
            ended: false,
        })
    }

    /// Reads the next piece into `out`, which it adds to. False: the file is over.
    ///
    /// # Errors
    /// The file cannot be read any further.
    pub(super) fn read(&mut self, mut out: impl FnMut(&[f32])) -> Result<bool, hound::Error> {
        if self.ended {
            return Ok(false);
        }
        self.mono.clear();
        let samples = FRAMES * self.channels;
        if self.float {
            let mut all = self.reader.0.samples::<f32>().take(samples);
            gather(&mut self.mono, self.channels, std::iter::from_fn(|| all.next()), |sample| sample)?;
        } else {
            let mut all = self.reader.0.samples::<i32>().take(samples);
            gather(&mut self.mono, self.channels, std::iter::from_fn(|| all.next()), |sample| sample as f32)?;
        }
        for sample in &mut self.mono {
            *sample = if sample.is_finite() { *sample * self.scale } else { 0.0 };
        }
        self.resampler.process(&self.mono, &mut out);
        if self.mono.len() < FRAMES {
            self.ended = true;
            self.resampler.flush(&mut out);
        }
        Ok(true)
    }
}

/// Adds up the channels of each frame. A frame that is cut off at the end of the file is left out.
fn gather<S>(
    mono: &mut Vec<f32>,
    channels: usize,
    mut samples: impl Iterator<Item = hound::Result<S>>,
    value: impl Fn(S) -> f32,
) -> hound::Result<()> {
    'frames: while mono.len() < FRAMES {
        let mut sum = 0.0;
        for _ in 0..channels {
            let Some(sample) = samples.next() else { break 'frames };
            sum += value(sample?);
        }
        mono.push(sum);
    }
    Ok(())
}
