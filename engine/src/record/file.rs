//! One call's recording on disk: a WAV file, or several one after the other.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavSpec, WavWriter};
use rtrb::Consumer;

use super::tap::Frame;
use crate::PACKET_SAMPLES;
use crate::event::CallId;

/// How often the header of the file is brought up to date.
const HEADER_INTERVAL: Duration = Duration::from_secs(1);
/// Most silence that is written for frames that were left out: an hour; a longer one is a fault of ours.
const MAX_GAP_FRAMES: u64 = 180_000;
/// Both directions of a frame.
const FRAME_VALUES: u32 = 2 * PACKET_SAMPLES as u32;
/// A frame's time, in ms.
const FRAME_MS: u64 = 20;

const SPEC: WavSpec =
    WavSpec { channels: 2, sample_rate: 8_000, bits_per_sample: 16, sample_format: SampleFormat::Int };

type Writer = WavWriter<BufWriter<File>>;

/// A recording as the recorder thread has it.
pub(super) struct Recording {
    pub(super) call: CallId,
    /// The first file's.
    path: PathBuf,
    frames: Consumer<Frame>,
    /// `None` once it failed; what still comes is thrown away.
    writer: Option<Writer>,
    /// The number of the frame that is next in the file.
    next: u64,
    /// Frames in the file that is open, in all files, and the most that one may hold.
    in_file: u64,
    in_all: u64,
    most: u64,
    part: u32,
    header_written: Instant,
}

/// What came of writing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Samples,
    /// The file was full, and this one was begun.
    NextFile(PathBuf),
}

impl Recording {
    /// One that will be written to this file, and to others like it when it has so many frames.
    pub(super) fn new(call: CallId, path: PathBuf, frames: Consumer<Frame>, most: u64) -> Self {
        let header_written = Instant::now();
        Self { call, path, frames, writer: None, next: 0, in_file: 0, in_all: 0, most, part: 1, header_written }
    }

    /// Makes the file. One that is there already is left alone: that is an error.
    pub(super) fn create(&mut self) -> hound::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).open(self.file())?;
        self.write_to(file)
    }

    pub(super) fn write_to(&mut self, file: File) -> hound::Result<()> {
        let mut writer = WavWriter::new(BufWriter::new(file), SPEC)?;
        writer.flush()?;
        self.writer = Some(writer);
        self.in_file = 0;
        Ok(())
    }

    /// The file that is written: `call.wav`, then `call-2.wav`, ...
    pub(super) fn file(&self) -> PathBuf {
        part_of(&self.path, self.part)
    }

    /// How much was written, over all files.
    pub(super) fn length(&self) -> Duration {
        Duration::from_millis(self.in_all * FRAME_MS)
    }

    /// Whether the call is done with it. To be asked before [`write`](Self::write): then nothing that was pushed is missed.
    pub(super) fn is_over(&self) -> bool {
        self.frames.is_abandoned()
    }

    /// Whether it stopped for a failure.
    pub(super) fn has_failed(&self) -> bool {
        self.writer.is_none()
    }

    /// Writes what waits, and sees to the header. Not inlined: the bench that counts its instructions finds it by name.
    #[inline(never)]
    pub(super) fn write(&mut self) -> hound::Result<Wrote> {
        let mut wrote = Wrote::Samples;
        while let Ok(frame) = self.frames.pop() {
            if self.writer.is_none() {
                continue;
            }
            if self.in_file >= self.most {
                wrote = Wrote::NextFile(self.begin_next()?);
            }
            let gap = frame.number.saturating_sub(self.next).min(MAX_GAP_FRAMES);
            for _ in 0..gap {
                self.append(&[[0; 2]; PACKET_SAMPLES])?;
            }
            self.append(&frame.samples)?;
            self.next = frame.number + 1;
        }
        if let Some(writer) = &mut self.writer
            && self.header_written.elapsed() >= HEADER_INTERVAL
        {
            writer.flush()?;
            self.header_written = Instant::now();
        }
        Ok(wrote)
    }

    fn append(&mut self, samples: &[[i16; 2]; PACKET_SAMPLES]) -> hound::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut block = writer.get_i16_writer(FRAME_VALUES);
        for sample in samples.as_flattened() {
            block.write_sample(*sample);
        }
        block.flush()?;
        self.in_file += 1;
        self.in_all += 1;
        Ok(())
    }

    fn begin_next(&mut self) -> hound::Result<PathBuf> {
        self.end()?;
        self.part += 1;
        self.create()?;
        Ok(self.file())
    }

    /// Ends the file that is open.
    pub(super) fn end(&mut self) -> hound::Result<()> {
        self.writer.take().map_or(Ok(()), WavWriter::finalize)
    }

    /// Gives it up. What is in the file can be played up to the last time that the header was written.
    pub(super) fn give_up(&mut self) {
        // the writer tries once more to bring its header up to date as it is dropped; what it says is known already
        self.writer = None;
    }
}

/// The name of a part of a recording.
fn part_of(path: &Path, part: u32) -> PathBuf {
    if part <= 1 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or_else(|| "wav".into(), |extension| extension.to_string_lossy());
    path.with_file_name(format!("{stem}-{part}.{extension}"))
}

/// A failure in words that name what can be done.
pub(super) fn in_words(path: &Path, error: &hound::Error) -> String {
    let hint = match error {
        hound::Error::IoError(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room, then `record.start` begins anew",
            io::ErrorKind::AlreadyExists => "; recordings never replace a file, name another",
            _ => "",
        },
        _ => "",
    };
    format!("{}: {error}{hint}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_before_the_extension() {
        assert_eq!(part_of(Path::new("/a/b.c.wav"), 1), Path::new("/a/b.c.wav"));
        assert_eq!(part_of(Path::new("/a/b.c.wav"), 3), Path::new("/a/b.c-3.wav"));
        assert_eq!(part_of(Path::new("b"), 2), Path::new("b-2.wav"));
    }
}
