//! How it sounded, by ITU-T P.862, and how late it was.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::network::{Network, PTIME_MS, WAY_MS};

/// What is heard may come so much later, and belongs to its piece: 600 ms.
const LATEST: usize = 4_800;
/// A piece that is looked for in what was heard: 100 ms.
const SOUGHT: usize = 800;
/// From one such piece to the next.
const SOUGHT_EVERY: usize = 2_000;
/// It is found if it is this like what was heard, and worth looking for if it is this loud (mean square).
const FOUND: f32 = 0.8;
const LOUD: f32 = 2e-4;

/// What was said and what was heard of it.
#[derive(Debug)]
pub(crate) struct Sample {
    said: Vec<f32>,
    heard: Vec<f32>,
}

impl Sample {
    /// A piece of what was said, and what was heard from the time on at which a network without delay had brought it.
    pub(crate) fn cut(said: &[f32], heard: &[f32], piece: Range<usize>, network: &Network) -> Self {
        let at = earliest(piece.start, network);
        let until = (at + piece.len() + LATEST / 2).min(heard.len());
        Self { said: said[piece].to_vec(), heard: heard.get(at..until).unwrap_or(&[]).to_vec() }
    }
}

/// When a sample can be heard at the earliest, in samples of the receiver's clock.
fn earliest(at: usize, network: &Network) -> usize {
    (at as f64 * network.pace() + (PTIME_MS + WAY_MS) * 8.0) as usize
}

/// How much later than at the earliest pieces were heard, by their likeness; pieces that were not heard are left out.
pub(crate) fn added_delays_ms(said: &[f32], heard: &[f32], piece: Range<usize>, network: &Network) -> Vec<f64> {
    let found = piece.step_by(SOUGHT_EVERY).filter_map(|at| {
        let sought = said.get(at..at + SOUGHT)?;
        if sought.iter().map(|s| s * s).sum::<f32>() < LOUD * SOUGHT as f32 {
            return None;
        }
        let from = earliest(at, network).saturating_sub(80);
        let within = heard.get(from..(from + LATEST + SOUGHT).min(heard.len()))?;
        let energy = dot(sought, sought);
        let (lag, likeness) = within
            .windows(SOUGHT)
            .enumerate()
            .map(|(lag, window)| (lag, dot(sought, window) / (energy * dot(window, window)).sqrt().max(1e-9)))
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        (likeness >= FOUND).then(|| (from + lag) as f64 / 8.0 - earliest(at, network) as f64 / 8.0)
    });
    found.collect()
}

/// In eight sums, so that it is quick.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for n in 0..8 {
            sums[n] += a[n] * b[n];
        }
    }
    sums.iter().sum()
}

/// Scores samples with the `pesq` package of PyPI, in a virtual environment of its own.
#[derive(Debug)]
pub(crate) struct Judge {
    python: PathBuf,
    folder: PathBuf,
}

/// Reads names of file pairs from its input and prints a score for each; None where nothing was heard.
const SCRIPT: &str = "
import sys
from multiprocessing import Pool
import numpy, pesq
def score(line):
    said, heard = (numpy.fromfile(name, dtype='<i2') for name in line.split())
    try:
        return pesq.pesq(8000, said, heard, 'nb')
    except pesq.PesqError:
        return 1.0
if __name__ == '__main__':
    with Pool() as pool:
        for mark in pool.map(score, sys.stdin.read().splitlines(), chunksize=1):
            print(mark)
";

impl Judge {
    /// Makes the virtual environment beside the build's own files, if it is not there yet.
    ///
    /// # Errors
    /// There is no Python, no C compiler, or no PyPI.
    pub(crate) fn new() -> Result<Self> {
        let program = std::env::current_exe()?;
        let target = program.ancestors().nth(2).context("the program lies in no build folder")?;
        let folder = target.join("quality");
        fs::create_dir_all(&folder)?;
        let python = match std::env::var_os("MR_SIP_PESQ_PYTHON") {
            Some(python) => python.into(),
            None => target.join("quality-venv/bin/python"),
        };
        if !has_pesq(&python) {
            let venv = target.join("quality-venv");
            eprintln!("making {} with pesq, numpy and scipy: minutes, once", venv.display());
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "pesq", "numpy", "scipy"]))?;
            ensure!(has_pesq(&python), "{} has no pesq even now", python.display());
        }
        Ok(Self { python, folder })
    }

    /// The score of each sample, 1 to 4.5.
    ///
    /// # Errors
    /// A file cannot be written, or Python fails.
    pub(crate) fn scores(&self, samples: &[Sample]) -> Result<Vec<f64>> {
        let mut lines = String::new();
        for (n, sample) in samples.iter().enumerate() {
            for (what, audio) in [("said", &sample.said), ("heard", &sample.heard)] {
                let file = self.folder.join(format!("{}-{n}-{what}.raw", std::process::id()));
                let bytes: Vec<u8> = audio
                    .iter()
                    .flat_map(|s| ((s * 32_767.0).clamp(-32_768.0, 32_767.0) as i16).to_le_bytes())
                    .collect();
                fs::write(&file, bytes)?;
                lines += &format!("{} ", file.display());
            }
            lines.push('\n');
        }
        let mut child = Command::new(&self.python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("Python cannot be run")?;
        child.stdin.take().context("no way to Python")?.write_all(lines.as_bytes())?;
        let output = child.wait_with_output()?;
        for name in lines.split_whitespace() {
            fs::remove_file(name)?;
        }
        ensure!(output.status.success(), "pesq failed");
        let scores: Vec<f64> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| Ok(line.trim().parse()?))
            .collect::<Result<_>>()?;
        ensure!(scores.len() == samples.len(), "{} scores of {} samples", scores.len(), samples.len());
        Ok(scores)
    }
}

fn has_pesq(python: &PathBuf) -> bool {
    Command::new(python).args(["-c", "import pesq, numpy"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} cannot be run"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
