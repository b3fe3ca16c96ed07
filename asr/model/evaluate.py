#!/usr/bin/env python3
"""Word errors of a checkpoint or a model file, voice by voice, through a telephone line (u-law, 8 kHz).

Prints for each voice the word error rate, the share of utterances that are right as a whole, and the same for its digit
strings alone; then, for noises without speech, how often the model says so. A model file's numbers are used as they are,
rounded to its types. `--real` adds recordings of people (see `real.py`), and fetches them if the folder is not there.
"""

import argparse
import csv
import pathlib

import numpy as np
import torch

import checkpoint
import data
import features
import network
import noises
import real
import synthesise
import telephone
import vocabulary as v

# Utterances decoded at a time; neighbours in length, so that little of it is padding.
BATCH = 24

# whisper.cpp's usual threshold on the no-speech probability.
NO_SPEECH_THRESHOLD = 0.6
CLIPS = pathlib.Path(__file__).parent / "clips"

NOISE_CLIPS = 200
NOISE_S = (0.5, 4.0)


def edits(said, heard):
    """Least number of insertions, deletions and substitutions between two lists."""
    row = list(range(len(heard) + 1))
    for number, one in enumerate(said, 1):
        before, row[0] = row[0], number
        for at, other in enumerate(heard, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (one != other))
    return row[-1]


def recognise(model, sounds):
    """(rows, no-speech probability) of each 16 kHz sound in `sounds`, in their order."""
    model.eval()
    filters = torch.from_numpy(features.mel_filters())
    order, found = sorted(range(len(sounds)), key=lambda at: len(sounds[at])), [None] * len(sounds)
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        context = features.context_frames(len(sounds[part[-1]]))
        block = np.zeros((len(part), context * features.FRAME_SAMPLES), np.float32)
        for item, at in enumerate(part):
            block[item, : len(sounds[at])] = sounds[at]
        words, no_speech = network.transcribe(model, features.log_mel(torch.from_numpy(block), filters))
        for item, at in enumerate(part):
            found[at] = words[item], no_speech[item]
    model.train()
    return found


class Score:
    """Counts over utterances."""

    def __init__(self):
        self.errors = self.words = self.right = self.utterances = self.rejected = 0

    def add(self, said, heard, no_speech):
        self.errors += edits(said, heard)
        self.words += len(said)
        self.right += said == heard
        self.rejected += no_speech > NO_SPEECH_THRESHOLD
        self.utterances += 1

    def word_errors(self):
        return 100 * self.errors / max(1, self.words)

    def taken_for_noise(self):
        return 100 * self.rejected / max(1, self.utterances)

    def whole(self):
        return 100 * self.right / max(1, self.utterances)


def is_digits(text):
    return set(text.split()) <= set(v.DIGITS) | {"oh"}


def on_the_line(utterances):
    """What the recogniser gets of each of `utterances`; the same every time."""
    return [telephone.line(data.as_float(utterance.samples), seed) for seed, utterance in enumerate(utterances)]


def measure(model, utterances):
    """{voice: (Score of all, Score of digit strings)} over `utterances`; "flite:all" and the like are voices, too."""
    scores = {}
    for utterance, (heard, no_speech) in zip(utterances, recognise(model, on_the_line(utterances))):
        for voice in (utterance.voice, utterance.voice.split(":")[0] + ":all"):
            everything, digits = scores.setdefault(voice, (Score(), Score()))
            everything.add(utterance.text.split(), v.text_of(heard).split(), no_speech)
            if is_digits(utterance.text):
                digits.add(utterance.text.split(), v.text_of(heard).split(), no_speech)
    return scores


def noise_rejection(model, seed=1):
    """Share of noises whose no-speech probability passes the threshold, in percent."""
    rng = np.random.default_rng(seed)
    sounds = []
    for number in range(NOISE_CLIPS):
        clip = noises.any_noise(rng, int(features.RATE_HZ * rng.uniform(*NOISE_S)))
        sounds.append(telephone.line(clip, number))
    return 100 * np.mean([no_speech > NO_SPEECH_THRESHOLD for _, no_speech in recognise(model, sounds)])


def table(scores):
    """The scores as a Markdown table."""
    lines = [
        "| voice | utterances | word errors | wholly right | digits: word errors | digits: wholly right | taken for noise |",
        "|---|---|---|---|---|---|---|",
    ]
    for voice, (everything, digits) in sorted(scores.items()):
        engine = voice.split(":")[0]
        if voice == f"{engine}:all" and sum(other.startswith(f"{engine}:") for other in scores) == 2:
            continue
        of_digits = f"{digits.word_errors():.1f} % | {digits.whole():.0f} %" if digits.utterances else "- | -"
        lines.append(
            f"| {voice} | {everything.utterances} | {everything.word_errors():.1f} % | {everything.whole():.0f} % "
            f"| {of_digits} | {everything.taken_for_noise():.1f} % |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="a checkpoint, or a model file such as the one that ships")
    parser.add_argument("--corpus", type=pathlib.Path, default=pathlib.Path("corpus"))
    parser.add_argument("--real", type=pathlib.Path, help="folder of the packages with recordings of people, unpacked")
    parser.add_argument("--most", type=int, default=None, help="utterances of each split (all)")
    parser.add_argument("--errors", action="store_true", help="print every utterance that was not wholly right")
    options = parser.parse_args()
    model = checkpoint.load(options.model)
    splits = {split: data.Corpus(options.corpus, split).utterances[: options.most] for split in ("test", "demo")}
    if options.real:
        if not options.real.exists():
            real.fetch(options.real)
        splits["real people"] = real.recordings(options.real) + real.joined(options.real)
    for split, utterances in splits.items():
        print(f"\n## {split}\n\n{table(measure(model, utterances))}")
        if options.errors:
            print_errors(model, utterances)
    print(f"\nnoises recognised as no speech: {noise_rejection(model):.1f} %\n")
    check_clips(model)


def check_clips(model):
    """Said and heard of each shipped clip, through u-law."""
    with open(CLIPS / "clips.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    sounds = []
    for row in rows:
        call, _ = synthesise.read_wav(CLIPS / row["file"])
        call = telephone.through_law(call[: len(call) // 2 * 2], telephone.U_LAW)
        sounds.append(telephone.widen(call).astype(np.float32))
    for row, (heard, no_speech) in zip(rows, recognise(model, sounds)):
        heard = "" if no_speech > NO_SPEECH_THRESHOLD else v.text_of(heard)
        verdict = "right" if heard == row["text"] else f"WRONG, heard {heard!r}"
        print(f"clips/{row['file']}: {row['text']!r} {verdict}, no-speech {no_speech:.3f}")


def print_errors(model, utterances):
    """Said and heard of each utterance that was misheard."""
    for utterance, (heard, _) in zip(utterances, recognise(model, on_the_line(utterances))):
        if utterance.text != v.text_of(heard):
            print(f"{utterance.voice}\n  said  {utterance.text}\n  heard {v.text_of(heard)}")


if __name__ == "__main__":
    main()
