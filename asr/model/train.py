#!/usr/bin/env python3
"""Trains the recogniser for a given number of minutes and writes checkpoints.

Time, not steps, is what is set: the learning rate falls to nothing just when the minutes are over, on a fast machine or a
busy one. Batches come from processes beside this one. Training may begin when the first shard of the corpus is there. The
network trains on two cores, and far faster on a graphics card with many cores beside it to make batches.
"""

import argparse
import copy
import math
import os
import pathlib
import time

import torch
import torch.nn.functional as F

import checkpoint
import data
import evaluate
import network
import optimiser

LR_MUON = 4e-3
LR_ADAMW = 3e-3
WARM_UP_STEPS = 50
LEAST_LR = 0.01
GRADIENT_NORM = 1.0
LABEL_SMOOTHING = 0.05

# The encoder's own loss first leads (attention finds nothing to hold on to before the encoder hears), later accompanies.
CTC_WEIGHT_EARLY = 0.5
CTC_WEIGHT_LATE = 0.3

# Share of the time over which the lines grow from easy to as bad as they get.
RAMP_SHARE = 0.3
# The same when training goes on from a checkpoint, which has seen bad lines.
GOING_ON_RAMP_SHARE = 0.02

REPORT_STEPS = 50
CHECKPOINT_S = 600
# Of each split, at checkpoints: enough to see that it learns.
CHECKPOINT_UTTERANCES = 60


def losses(model, pictures, batch):
    """(decoder cross-entropy, encoder CTC loss), both a word."""
    device = pictures.filters.device
    heard = model.encode(pictures(batch))
    logits = model.decode(batch.rows.to(device), heard)
    targets = batch.targets.to(device).flatten()
    entropy = F.cross_entropy(logits.flatten(0, 1), targets, ignore_index=data.NO_TARGET, label_smoothing=LABEL_SMOOTHING)
    spoken = model.ctc(heard).log_softmax(-1).transpose(0, 1)
    words = torch.tensor([row for rows in batch.words for row in rows], dtype=torch.long, device=device)
    lengths = torch.tensor([len(rows) for rows in batch.words])
    ctc = F.ctc_loss(spoken, words, torch.tensor(batch.frames), lengths, blank=0, reduction="sum", zero_infinity=True)
    return entropy, ctc / max(1, len(words))


class Trainer:
    """The model, its optimisers, and where it is in its minutes."""

    def __init__(self, options):
        self.options = options
        self.model = network.Recogniser()
        if options.start:
            self.model = checkpoint.load(options.start, silence_unknown=False).train()
        self.model.to(options.device)
        self.pictures = data.Pictures(options.device)
        self.optimisers = optimiser.make(self.model, LR_MUON, LR_ADAMW)
        self.highest = [group["lr"] for one in self.optimisers for group in one.param_groups]
        self.began, self.steps, self.utterances = time.monotonic(), 0, 0

    def progress(self):
        """Share of the time that is over."""
        return (time.monotonic() - self.began) / (60 * self.options.minutes)

    def set_learning_rates(self):
        fall = LEAST_LR + (1 - LEAST_LR) * 0.5 * (1 + math.cos(math.pi * min(1, self.progress())))
        factor = self.options.rate * fall * min(1, (self.steps + 1) / WARM_UP_STEPS)
        groups = [group for one in self.optimisers for group in one.param_groups]
        for group, highest in zip(groups, self.highest):
            group["lr"] = highest * factor

    def step(self, batch):
        """One update; returns both losses."""
        self.set_learning_rates()
        entropy, ctc = losses(self.model, self.pictures, batch)
        weight = CTC_WEIGHT_EARLY if self.progress() < 0.5 else CTC_WEIGHT_LATE
        self.model.zero_grad()
        ((1 - weight) * entropy + weight * ctc).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        for one in self.optimisers:
            one.step()
        self.steps += 1
        self.utterances += len(batch.words)
        return torch.stack([entropy, ctc]).detach()

    def save(self):
        """Writes the checkpoint whole or not at all, and prints what it can do."""
        part = self.options.checkpoint.with_suffix(".part")
        torch.save({"model": self.model.state_dict(), "steps": self.steps, "utterances": self.utterances}, part)
        os.replace(part, self.options.checkpoint)
        measured = copy.deepcopy(self.model).cpu()
        for split in ("test", "demo"):
            utterances = data.Corpus(self.options.corpus, split).utterances[:CHECKPOINT_UTTERANCES]
            scores = evaluate.measure(measured, utterances)
            for voice, (everything, digits) in scores.items():
                if voice.endswith("all"):
                    rates = f"{everything.word_errors():.1f} % word errors, {digits.word_errors():.1f} % in digits"
                    print(f"  {split} {voice}: {rates}", flush=True)

    def report(self, entropy, ctc):
        minutes = self.progress() * self.options.minutes
        heard = f"step {self.steps}, {self.utterances} utterances"
        print(f"{minutes:5.1f} min, {heard}: entropy {entropy:.3f}, ctc {ctc:.3f}", flush=True)

    def run(self):
        ramp_share = GOING_ON_RAMP_SHARE if self.options.start else RAMP_SHARE
        ramp_s = 60 * self.options.minutes * ramp_share
        given = self.options
        stream = data.Stream(given.corpus, given.seed, ramp_s, given.frames, given.workers, given.hardest)
        sums, saved = 0, time.monotonic()
        for batch in stream.start():
            if self.progress() >= 1:
                break
            sums = sums + self.step(batch)
            if self.steps % REPORT_STEPS == 0:
                self.report(*(sums / REPORT_STEPS).tolist())
                sums = 0
            if time.monotonic() - saved > CHECKPOINT_S:
                self.save()
                saved = time.monotonic()
        self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path, help="file to write, every ten minutes and at the end")
    parser.add_argument("--corpus", type=pathlib.Path, default=pathlib.Path("corpus"))
    parser.add_argument("--minutes", type=float, default=120, help="wall-clock time to train (120)")
    # One for the batches. More threads than idle cores are far worse than fewer: they wait for one another at every product.
    threads = max(1, (os.cpu_count() or 2) - 1)
    parser.add_argument("--threads", type=int, default=threads, help="threads of the network (cores less one)")
    parser.add_argument("--device", default="cpu", help="where the network trains: cpu, cuda (cpu)")
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches (1)")
    parser.add_argument("--frames", type=int, default=3200, help="20 ms frames in a batch (3200)")
    hardest = data.Stream.HARDEST
    parser.add_argument("--hardest", type=float, default=hardest, help=f"how bad lines get, 0 to 1 ({hardest})")
    parser.add_argument("--start", type=pathlib.Path, help="checkpoint or model file to go on from")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates (1)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    Trainer(options).run()


if __name__ == "__main__":
    main()
