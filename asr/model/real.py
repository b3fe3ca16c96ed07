"""Real people's speech, for the test only: recordings of three Debian packages, of which nothing is in this repository.

`recordings.tsv` says what is said in which file of theirs, as far as the vocabulary goes. `fetch` unpacks the packages into
a folder without installing them. What telephone systems do with such recordings is done here, too: single words are
joined to digit strings, dates and spelled names.
"""

import csv
import pathlib
import random
import subprocess
import tempfile

import numpy as np

import data
import grammar
import synthesise
import vocabulary as v

PACKAGES = ["asterisk-core-sounds-en-wav", "klettres-data", "pocketsphinx-testdata"]
LIST = pathlib.Path(__file__).parent / "recordings.tsv"

# Speakers whose single words are joined, and how many of each sort.
JOINED_SPEAKER = "asterisk"
JOINED = 60
JOINED_PAUSE_S = (0.02, 0.12)


def fetch(folder):
    """Downloads and unpacks the packages into `folder`, by Debian's own tools."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as downloads:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=downloads, check=True)
        for package in pathlib.Path(downloads).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)


def _read(path):
    """The recording in `path`, trimmed, at 16 kHz, as int16. Raw ones are 16 kHz; Ogg ones need ffmpeg."""
    if path.suffix == ".raw":
        return synthesise.finish(np.fromfile(path, "<i2").astype(np.float32) / 32768, synthesise.RATE_HZ)
    if path.suffix == ".wav":
        return synthesise.finish(*synthesise.read_wav(path))
    with tempfile.TemporaryDirectory() as folder:
        wav = pathlib.Path(folder) / "recording.wav"
        subprocess.run(["ffmpeg", "-i", str(path), "-ac", "1", str(wav)], check=True, **synthesise.QUIET)
        return synthesise.finish(*synthesise.read_wav(wav))


def recordings(folder):
    """Every listed recording as an `Utterance`; its voice is the speaker and what sort it is."""
    found = []
    with open(LIST, newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            letter = "/letters/" in row["file"] or "/alpha/" in row["file"]
            kind = "letters" if letter else "words and sentences"
            found.append(data.Utterance(f"{row['speaker']}:{kind}", row["text"], _read(folder / row["file"])))
    return found


def _parts(folder):
    """{word: samples} of the joined speaker's single words, letters by their own names."""
    parts = {}
    with open(LIST, newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["speaker"] == JOINED_SPEAKER and " " not in row["text"]:
                path = folder / row["file"]
                word = path.stem if "/letters/" in row["file"] and len(path.stem) == 1 else row["text"]
                parts.setdefault(word, _read(path))
    return parts


def joined(folder):
    """Digit strings, dates and spelled names, joined of single recordings; the same every time."""
    parts, rng, found = _parts(folder), random.Random(1), []
    makers = {
        "digits joined": lambda: grammar.digit_string(rng, rng.choice([3, 4, 4, 5, 6, 7])),
        "dates joined": lambda: [rng.choice(v.DAYS), rng.choice(v.MONTHS), rng.choice(v.ORDINALS[:20])],
        "names spelled, joined": lambda: list(rng.choice([name for name in grammar.NAMES if len(name) < 8])),
    }
    for kind, maker in makers.items():
        for _ in range(JOINED):
            words, sound = maker(), []
            for word in words:
                pause = np.zeros(int(synthesise.RATE_HZ * rng.uniform(*JOINED_PAUSE_S)), np.int16)
                sound += [parts[word], pause]
            found.append(data.Utterance(f"{JOINED_SPEAKER}:{kind}", " ".join(words), np.concatenate(sound)))
    return found
