#!/usr/bin/env python3
"""Speaks the corpus: telephone sentences by espeak-ng, flite, festival, SVOX Pico and RHVoice, as 16 kHz mono.

A split is written as shards, each two files that appear only when complete, so that training can begin with the first:

    corpus/train-00.pcm   int16 samples, native order, 16 kHz, one utterance after another, silence trimmed, peak at -6 dBFS
    corpus/train-00.tsv   one line an utterance: first sample, samples, voice ("espeak:f2"), text

`digits` is more training: digit strings only, long ones, mostly by the voices of the demonstration. Voices of the test
split are never in the training split, and the other way round; `demo` is the exception that its name
says: the default espeak-ng voices that the demonstration speaks with, in new sentences.
"""

import argparse
import collections
import multiprocessing
import os
import pathlib
import random
import subprocess
import tempfile
import time
import wave

import numpy as np
from scipy.signal import resample_poly

import grammar
import vocabulary as v

RATE_HZ = 16_000
PEAK = 0.5

# An utterance's edges are where its 20 ms mean level passes 2 % of its loudest; a little is kept around them.
EDGE_LEVEL = 0.02
EDGE_WINDOW = RATE_HZ // 50
KEEP_BEFORE = RATE_HZ // 100
KEEP_AFTER = RATE_HZ // 40
SILENT_LEVEL = 1e-4

# Longer ones cost much to train on and do not occur: a voice detector ends a turn before.
LONGEST_S = 9.5

# Which synthesiser speaks how often. espeak-ng has by far the most voices and is what the demonstration speaks with.
ENGINES = ["espeak", "flite", "festival", "pico"]
ENGINE_SHARES = [0.42, 0.27, 0.17, 0.14]

ESPEAK_VARIANTS = pathlib.Path("/usr/lib/x86_64-linux-gnu/espeak-ng-data/voices/!v")

# Whispers, robots and monsters, and variants that speak another language's sounds: not what a caller sounds like.
ESPEAK_ODD = set(
    """Demonic Storm Tweaky UniRobot anikaRobot croak fast whisper whisperf serious RicishayMax2 RicishayMax3 kaukovalta
    AnxiousAndy announcer Nguyen robosoft robosoft2 robosoft3 robosoft4 robosoft5 robosoft6 robosoft7 robosoft8""".split()
) | {"Mr serious"}
ESPEAK_HELD_OUT = ["f2", "m5", "linda", "adam", "Hugo"]
ESPEAK_ACCENTS = (
    ["en-us"] * 3 + ["en-gb"] * 2 + ["en-gb-x-rp", "en-gb-scotland", "en-029", "en-gb-x-gbclan", "en-us-nyc"]
)
ESPEAK_DEMO = ["en-us", "en-gb"]

# Share of espeak-ng's training utterances by its plain default voice, and by the variants that people choose most.
ESPEAK_DEFAULT_SHARE = 0.22
ESPEAK_COMMON_SHARE = 0.18
# In the digits split the default and common variants fill this share of all (a draw is made that much smaller).
DIGITS_NARROWING = 0.45
ESPEAK_COMMON = ["f1", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m6", "m7", "m8"]

# Mean pitch in Hz of each flite voice. `kal` is 8 kHz. slt is the only woman, so she speaks more.
FLITE_PITCH_HZ = {"kal": 100, "kal16": 100, "awb": 130, "slt": 170, "rms": 100}
FLITE_TRAIN = ["kal", "kal16", "awb", "awb", "slt", "slt", "slt"]
FLITE_HELD_OUT = ["rms"]

FESTIVAL_TRAIN = ["cmu_us_slt_arctic_hts", "cmu_us_slt_arctic_hts", "kal_diphone"]
FESTIVAL_HELD_OUT = ["ked_diphone"]
# festival starts slowly, so one process speaks many.
FESTIVAL_BATCH = 100

# SVOX Pico has two women, one American, one British.
PICO_TRAIN, PICO_HELD_OUT = "en-US", "en-GB"

# RHVoice speaks only when it is asked for (`--engine rhvoice`), and for training: Debian has it from trixie on, in non-free.
RHVOICE_TRAIN = ["bdl", "clb", "alan"]
RHVOICE_PROGRAM = os.environ.get("RHVOICE_TEST", "RHVoice-test")

# How espeak-ng hums, in its phonemes. The other synthesisers spell a word without vowels, so they get none to speak.
HUM_PHONEMES = {
    "mhm": ["[[mh'm]]", "[[m:h'm:]]", "[[m'h@m]]", "[[@mh'm]]"],
    "mm": ["[[m:]]", "[[m'm]]", "[[m:m:]]", "[[hm:]]"],
}

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

SPLITS = ["train", "digits", "test", "demo"]

Job = collections.namedtuple("Job", "name split engine words seed")


def _letters(words):
    """Which of `words` are letters of something spelled: "a" and "i" are only beside other letters."""
    single = [len(word) == 1 for word in words]
    plain = [one and word not in "ai" for one, word in zip(single, words)]
    beside = [False] + single + [False]
    return [one and (plain[at] or (beside[at] or beside[at + 2]) and any(plain)) for at, one in enumerate(single)]


def spelling(words):
    """`words` as a synthesiser should read them: "am" is a verb after "i" and half a day elsewhere."""
    read = []
    for before, word, letter in zip([""] + words, words, _letters(words)):
        if letter:
            # British voices and American ones call the last letter differently, as people do.
            word = word.upper()
        elif word == "uh-huh":
            word = "uh huh"
        elif word == "am" and before not in ("i", "how", "what", "who", "where", "when"):
            word = "A.M."
        elif word == "pm":
            word = "P.M."
        elif word == "i" or word.startswith("i'"):
            word = "I" + word[1:]
        read.append(word)
    return read


def with_pauses(words, rng):
    """Text of `words`, sometimes with commas: people pause within a sentence, and group their digits."""
    read = spelling(words)
    kind = rng.random()
    if len(words) > 3 and kind < 0.2:
        at = rng.randrange(1, len(words))
        read[at - 1] += ","
    elif len(words) > 3 and kind < 0.4:
        group = rng.choice([2, 3, 3, 4])
        for at in range(group, len(words), group):
            read[at - 1] += ","
    elif kind < 0.45:
        read = [word + "," for word in read[:-1]] + read[-1:]
    return " ".join(read)


def read_wav(path):
    """Samples in -1..1 and the rate of a 16-bit mono WAV file."""
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples.astype(np.float32) / 32768, file.getframerate()


def finish(samples, rate_hz):
    """Resampled to 16 kHz, edges trimmed, levelled, as int16; nothing when silent or too long."""
    common = np.gcd(rate_hz, RATE_HZ)
    samples = resample_poly(samples, RATE_HZ // common, rate_hz // common)
    level = np.convolve(np.abs(samples), np.ones(EDGE_WINDOW) / EDGE_WINDOW, "same")
    if len(samples) == 0 or level.max() < SILENT_LEVEL:
        return None
    loud = np.flatnonzero(level > level.max() * EDGE_LEVEL)
    samples = samples[max(0, loud[0] - KEEP_BEFORE) : loud[-1] + KEEP_AFTER]
    if len(samples) > LONGEST_S * RATE_HZ:
        return None
    return (samples * (PEAK * 32767 / np.abs(samples).max())).astype(np.int16)


def _training_variants():
    names = sorted(path.name for path in ESPEAK_VARIANTS.iterdir())
    return [name for name in names if name not in ESPEAK_ODD and name not in ESPEAK_HELD_OUT]


def _hummed(word, rng):
    """A hum as phonemes, its comma kept; other words as they are."""
    bare = word.rstrip(",")
    return rng.choice(HUM_PHONEMES[bare]) + word[len(bare) :] if bare in HUM_PHONEMES else word


def espeak_command(job, rng, path):
    """Arguments that make espeak-ng speak `job` into `path`, and the voice's name."""
    speed, pitch, gap = rng.randint(110, 210), rng.randint(30, 70), rng.choice([0, 0, 0, 1, 3, 8])
    if job.split == "test":
        name = rng.choice(ESPEAK_HELD_OUT)
        voice = f"{rng.choice(ESPEAK_DEMO)}+{name}"
    elif job.split == "demo":
        name = voice = rng.choice(ESPEAK_DEMO)
        speed, pitch, gap = rng.randint(130, 180), 50, 0
    else:
        kind = rng.random() * (DIGITS_NARROWING if job.split == "digits" else 1)
        if kind < ESPEAK_DEFAULT_SHARE:
            name = voice = rng.choice(ESPEAK_DEMO)
            pitch = rng.choice([50, 50, pitch])
        elif kind < ESPEAK_DEFAULT_SHARE + ESPEAK_COMMON_SHARE:
            name = rng.choice(ESPEAK_COMMON)
            voice = f"{rng.choice(ESPEAK_DEMO)}+{name}"
        else:
            name = rng.choice(_training_variants())
            voice = f"{rng.choice(ESPEAK_ACCENTS)}+{name}"
    text = " ".join(_hummed(word, rng) for word in with_pauses(job.words, rng).split(" "))
    return ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-g", str(gap), "-w", str(path), text], name


def flite_command(job, rng, path):
    """Arguments that make flite speak `job` into `path`, and the voice's name."""
    name = rng.choice(FLITE_HELD_OUT if job.split == "test" else FLITE_TRAIN)
    stretch, pitch = rng.uniform(0.75, 1.3), FLITE_PITCH_HZ[name] * rng.uniform(0.75, 1.35)
    command = ["flite", "-voice", name, "--setf", f"duration_stretch={stretch:.2f}"]
    command += ["--setf", f"int_f0_target_mean={pitch:.0f}", "-t", with_pauses(job.words, rng), "-o", str(path)]
    return command, name


def rhvoice_command(job, rng, path):
    """Arguments that make RHVoice speak `job`, which it reads from a file beside `path`, into `path`, and the voice's name."""
    name = rng.choice(RHVOICE_TRAIN)
    rate, pitch = rng.randint(75, 150), rng.randint(80, 125)
    read = path.with_suffix(".txt")
    read.write_text(with_pauses(job.words, rng))
    return [RHVOICE_PROGRAM, "-p", name, "-r", str(rate), "-t", str(pitch), "-i", str(read), "-o", str(path)], name


def speak_pico(job, rng):
    """Samples of one job by SVOX Pico, which lives in this process, and the voice's name."""
    # Here, because training and measuring read this module for less than speaking, and need no synthesiser.
    import py_nanotts

    name = PICO_HELD_OUT if job.split == "test" else PICO_TRAIN
    speed, pitch = rng.uniform(0.75, 1.4), rng.uniform(0.75, 1.15)
    spoken = py_nanotts.NanoTTS().speak(with_pauses(job.words, rng), voice=name, speed=speed, pitch=pitch)
    return np.frombuffer(spoken, "<i2").astype(np.float32) / 32768, name


# Synthesisers that are a program of their own, which speaks one utterance into a file.
COMMANDS = {"espeak": espeak_command, "flite": flite_command, "rhvoice": rhvoice_command}


def speak_one(job):
    """(voice, words, samples) of one job that is not festival's, in a list; an empty list if it cannot be spoken."""
    rng = random.Random(job.seed)
    if job.engine == "pico":
        sound, name = speak_pico(job, rng)
        samples = finish(sound, RATE_HZ) if len(sound) else None
        return [] if samples is None else [(f"pico:{name}", job.words, samples)]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "utterance.wav"
        command, name = COMMANDS[job.engine](job, rng, path)
        subprocess.run(command, check=True, **QUIET)
        samples = finish(*read_wav(path))
    return [] if samples is None else [(f"{job.engine}:{name}", job.words, samples)]


def festival_script(jobs, voice, rng, folder):
    """A festival program that speaks `jobs` in `voice`, each into its own file in `folder`."""
    lines = [f"(voice_{voice})"]
    for number, job in enumerate(jobs):
        lines.append(f"(Parameter.set 'Duration_Stretch {rng.uniform(0.8, 1.3):.2f})")
        if voice.endswith("diphone"):
            mean = rng.uniform(80, 150)
            lines.append(
                f"(set! int_lr_params '((target_f0_mean {mean:.0f}) (target_f0_std {mean / 8:.0f})"
                " (model_f0_mean 170) (model_f0_std 34)))"
            )
        lines.append(f'(utt.save.wave (SynthText "{with_pauses(job.words, rng)}") "{folder}/{number}.wav" \'riff)')
    return "\n".join(lines) + "\n"


def speak_batch(jobs):
    """As `speak_one`, for many jobs that festival speaks in one voice."""
    rng = random.Random(jobs[0].seed)
    voice = rng.choice(FESTIVAL_HELD_OUT if jobs[0].split == "test" else FESTIVAL_TRAIN)
    spoken = []
    with tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder) / "speak.scm"
        script.write_text(festival_script(jobs, voice, rng, folder))
        subprocess.run(["festival", "-b", str(script)], check=False, **QUIET)
        for number, job in enumerate(jobs):
            path = pathlib.Path(folder) / f"{number}.wav"
            samples = finish(*read_wav(path)) if path.exists() else None
            if samples is not None:
                spoken.append((f"festival:{voice}", job.words, samples))
    return spoken


def make_jobs(split, shard, count, only=None):
    """The `count` utterances of one shard, by `only` if it is given, hums excepted; the same arguments give the same."""
    rng = random.Random(f"{split} {shard}")
    jobs = []
    for number in range(count):
        engine = only or rng.choices(ENGINES, ENGINE_SHARES)[0]
        words = grammar.long_digits(rng) if split == "digits" else grammar.utterance(rng)
        if split == "demo" or set(words) & set(v.HUMS):
            engine = "espeak"
        jobs.append(Job(f"{split}-{shard:02}", split, engine, words, f"{split} {shard} {number}"))
    return jobs


def write_shard(folder, jobs, pool):
    """Speaks `jobs` and writes them as one shard; returns utterances and seconds of it."""
    name = jobs[0].name
    single = [job for job in jobs if job.engine != "festival"]
    many = [job for job in jobs if job.engine == "festival"]
    batches = [many[at : at + FESTIVAL_BATCH] for at in range(0, len(many), FESTIVAL_BATCH)]
    rows, offset = [], 0
    with open(folder / f"{name}.pcm.part", "wb") as pcm:
        for spoken in list(pool.imap(speak_batch, batches)) + list(pool.imap(speak_one, single, chunksize=16)):
            for voice, words, samples in spoken:
                pcm.write(samples.tobytes())
                rows.append(f"{offset}\t{len(samples)}\t{voice}\t{' '.join(words)}\n")
                offset += len(samples)
    os.rename(folder / f"{name}.pcm.part", folder / f"{name}.pcm")
    (folder / f"{name}.tsv.part").write_text("".join(rows))
    os.rename(folder / f"{name}.tsv.part", folder / f"{name}.tsv")
    return len(rows), offset / RATE_HZ


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("--corpus", type=pathlib.Path, default=pathlib.Path("corpus"), help="folder to write (corpus)")
    parser.add_argument("--shards", type=int, default=1, help="number of shards (1)")
    parser.add_argument("--first", type=int, default=0, help="number of the first shard (0)")
    parser.add_argument("--engine", choices=[*ENGINES, "rhvoice"], help="the only one to speak, but hums (all but rhvoice)")
    parser.add_argument("--utterances", type=int, default=4000, help="utterances in each shard (4000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="synthesisers at a time (one a core)")
    options = parser.parse_args()
    if options.engine == "rhvoice" and options.split not in ("train", "digits"):
        parser.error("rhvoice has voices of training only; choose another --engine for this split")
    options.corpus.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with multiprocessing.Pool(options.processes) as pool:
        for shard in range(options.first, options.first + options.shards):
            jobs = make_jobs(options.split, shard, options.utterances, options.engine)
            count, seconds = write_shard(options.corpus, jobs, pool)
            took = time.monotonic() - began
            print(f"{jobs[0].name}: {count} utterances, {seconds / 3600:.2f} h, after {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
