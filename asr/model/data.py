"""From the corpus on disk to batches: utterances cut as a voice detector cuts them, on bad lines, with target rows."""

import collections
import csv
import random
import time

import numpy as np
import torch

import features
import noises
import telephone
import vocabulary as v

RATE_HZ = features.RATE_HZ

# Cross-entropy ignores targets of this value.
NO_TARGET = -100

Utterance = collections.namedtuple("Utterance", "voice text samples")

# sound (batch, samples) int16, of each item which of `WARPS` it is heard through and what is masked of its picture (see
# `Sampler._masks`); rows and targets (batch, length); words of each item; frames of each item.
Batch = collections.namedtuple("Batch", "sound warps masks rows targets words frames")

# The throat's length, as a factor on the mel filters' frequencies: the true one, then those that are drawn from.
WARPS = [1.0, *np.linspace(0.86, 1.16, 16)]


class Corpus:
    """The finished shards of one split. `refresh` finds those that were finished since."""

    def __init__(self, folder, split, favourites=()):
        """Keeps the utterances of the voices in `favourites` in a list of their own, too."""
        self.folder, self.split, self._favoured = folder, split, favourites
        self.utterances, self.favourites, self._read = [], [], set()
        self.refresh()

    def refresh(self):
        for index in sorted(self.folder.glob(f"{self.split}-*.tsv")):
            if index not in self._read:
                self._read.add(index)
                pcm = np.memmap(index.with_suffix(".pcm"), np.int16, "r")
                with open(index, newline="") as file:
                    for offset, samples, voice, text in csv.reader(file, delimiter="\t"):
                        piece = pcm[int(offset) : int(offset) + int(samples)]
                        self.utterances.append(Utterance(voice, text, piece))
        self.favourites = [utterance for utterance in self.utterances if utterance.voice in self._favoured]


def as_float(samples):
    """int16 as float32 in -1..1."""
    return samples.astype(np.float32) / 32768


def at_speed(sound, factor):
    """`sound` played `factor` times as fast, pitch and all."""
    return np.interp(np.arange(int(len(sound) / factor)) * factor, np.arange(len(sound)), sound).astype(np.float32)


class Sampler:
    """Makes random training batches without end."""

    NOISE_SHARE = 0.08
    # So many utterances are of the voices that the demonstration speaks with, whatever their share of the corpus.
    FAVOURITES = ("espeak:en-us", "espeak:en-gb")
    FAVOURITE_SHARE = 0.15
    # And so many are of the split that has long digit strings only: the decoder loses its place in them longest.
    DIGITS_SHARE = 0.15
    # Two utterances with a pause between: what a turn with a silence in its middle sounds like.
    JOINED_SHARE = 0.15
    JOINED_LONGEST_S = 3.0
    SPEED_SHARE = 0.7
    SPEED = (0.85, 1.2)
    # Of the utterances, by a throat of another length.
    WARP_SHARE = 0.6
    # A random prompt of earlier words teaches the decoder to bear one.
    PROMPT_SHARE = 0.06
    MOST_PROMPT_WORDS = 8
    # The longest sample, at first and when lines are as bad as they get: alignment is found soonest in short ones.
    LONGEST_S = (2.4, 8.0)
    MOST_WORDS = 28
    # The voice detector's cut: mostly 0.1 to 0.45 s of pre-roll, sometimes nearly none.
    LEAD_S = (0.08, 0.45)
    TIGHT_LEAD_S = (0.0, 0.08)
    TIGHT_SHARE = 0.12
    TAIL_S = (0.05, 0.6)
    SPEECH_PEAK_DBFS = (-30.0, -3.0)
    NOISE_PEAK_DBFS = (-75.0, -5.0)
    # A pool of samples, so many a frame of a batch, is sorted by length and cut into batches of about as many frames of
    # context as are asked for, so that no batch is mostly padding and every step costs the same.
    POOL = 0.1
    # The most items of a batch, a frame.
    MOST_ITEMS = 0.02
    # Frames beyond the longest item: nearly always the margin that callers are told to use; sometimes what they use for
    # models in general; for some pools a batch of a few items in Whisper's full context.
    MARGINS = [24] * 16 + [32, 40, 64, 128, 256]
    FULL_CONTEXT_SHARE = 0.064
    # Spectrum masking.
    BAND_MASK_SHARE, BAND_MASK = 0.4, 10
    TIME_MASK_SHARE, TIME_MASK = 0.35, 12
    # The share of sound that is left after the cut instead of whisper.cpp's digital zero.
    UNCUT_SHARE = 0.05

    def __init__(self, folder, seed, ramp, hardest, batch_frames):
        """`ramp` is a function of no arguments, 0 at the beginning and 1 from some time on; `hardest` is how bad lines get."""
        self.corpus, self.digits = Corpus(folder, "train", self.FAVOURITES), Corpus(folder, "digits")
        self.ramp, self.hardest, self.batch_frames = ramp, hardest, batch_frames
        self.rng, self.random = np.random.default_rng(seed), random.Random(seed)
        self.distort = telephone.Distorter(self.rng)

    def batches(self):
        while True:
            self.corpus.refresh()
            self.digits.refresh()
            pool = [self._sample() for _ in range(int(self.POOL * self.batch_frames))]
            longest = np.interp(self.ramp(), [0, 1], self.LONGEST_S) * RATE_HZ
            pool = [one for one in pool if len(one[0]) < longest and len(one[1] or []) <= self.MOST_WORDS]
            if self.random.random() < self.FULL_CONTEXT_SHARE:
                few = max(1, min(len(pool), self.batch_frames // features.MOST_FRAMES))
                yield self._batch(self.random.sample(pool, few), features.MOST_FRAMES)
            pool.sort(key=lambda sample: len(sample[0]))
            pieces = list(self._cut(pool))
            self.random.shuffle(pieces)
            for samples, context in pieces:
                yield self._batch(samples, context)

    def difficulty(self):
        """How bad lines are by now, 0 to 1."""
        return self.hardest * self.ramp()

    def _uniform(self, bounds):
        return self.random.uniform(*bounds)

    def _sample(self):
        """(sound, rows) of one utterance with what the voice detector leaves around it; rows are None for noise."""
        if self.random.random() < self.NOISE_SHARE:
            return noises.any_noise(self.rng, int(RATE_HZ * self.random.uniform(0.3, 4))), None
        sound, rows = self._utterance()
        joint = self.random.random() < self.JOINED_SHARE * self.difficulty()
        if joint and len(sound) < self.JOINED_LONGEST_S * RATE_HZ:
            after, more = self._utterance()
            if len(after) < self.JOINED_LONGEST_S * RATE_HZ:
                pause = np.zeros(int(RATE_HZ * self.random.uniform(0.05, 0.7)), np.float32)
                sound, rows = np.concatenate([sound, pause, after * self.random.uniform(0.6, 1.2)]), rows + more
        lead = self.TIGHT_LEAD_S if self.random.random() < self.TIGHT_SHARE else self.LEAD_S
        around = [np.zeros(int(RATE_HZ * self._uniform(bounds)), np.float32) for bounds in (lead, self.TAIL_S)]
        return np.concatenate([around[0], sound, around[1]]), rows

    def _source(self):
        """The utterances to choose the next from."""
        kind = self.random.random()
        if kind < self.DIGITS_SHARE:
            return self.digits.utterances or self.corpus.utterances
        if kind < self.DIGITS_SHARE + self.FAVOURITE_SHARE:
            return self.corpus.favourites or self.corpus.utterances
        return self.corpus.utterances

    def _utterance(self):
        utterance = self.random.choice(self._source())
        sound = as_float(utterance.samples)
        if self.random.random() < self.SPEED_SHARE:
            sound = at_speed(sound, self._uniform(self.SPEED))
        return sound, v.rows_of(utterance.text)

    def _cut(self, pool):
        """(samples, context) of batches of neighbouring lengths from a sorted pool."""
        start = 0
        while start < len(pool):
            end = start + 1
            while end < len(pool) and end - start < self.MOST_ITEMS * self.batch_frames:
                if (end + 1 - start) * (len(pool[end][0]) / features.FRAME_SAMPLES + 24) > self.batch_frames:
                    break
                end += 1
            frames = -(-len(pool[end - 1][0]) // features.FRAME_SAMPLES)
            context = frames + self.random.choice(self.MARGINS)
            # Multiples of four make the transforms fast.
            context = min(features.MOST_FRAMES, max(features.CONTEXT_FLOOR, -(-context // 4) * 4))
            yield pool[start:end], context
            start = end

    def _batch(self, samples, context):
        sound = np.zeros((len(samples), context * features.FRAME_SAMPLES), np.float32)
        for item, (piece, _) in enumerate(samples):
            sound[item, : len(piece)] = piece
        peaks = [self._uniform(self.NOISE_PEAK_DBFS if rows is None else self.SPEECH_PEAK_DBFS) for _, rows in samples]
        sound = self.distort(sound, peaks, self.difficulty())
        for item, (piece, _) in enumerate(samples):
            if self.random.random() > self.UNCUT_SHARE:
                sound[item, len(piece) :] = 0
        sound = torch.from_numpy((sound * 32767).astype(np.int16))
        warps, masks = (torch.tensor([draw() for _ in samples]) for draw in (self._warp, self._masks))
        words = [rows or [] for _, rows in samples]
        frames = [min(context, -(-len(piece) // features.FRAME_SAMPLES) + 2) for piece, _ in samples]
        return Batch(sound, warps, masks, *self._targets([rows for _, rows in samples]), words, frames)

    def _warp(self):
        """Which of `WARPS` an item is heard through."""
        return self.random.randrange(1, len(WARPS)) if self.random.random() < self.WARP_SHARE else 0

    def _masks(self):
        """First band and bands that are masked of an item's picture, then where the masked time begins, 0 to 1, and its steps."""
        masks = [0.0, 0.0, 0.0, 0.0]
        if self.random.random() < self.BAND_MASK_SHARE * self.difficulty():
            masks[:2] = self.random.randrange(features.MEL_BANDS), self.random.randint(1, self.BAND_MASK)
        if self.random.random() < self.TIME_MASK_SHARE * self.difficulty():
            masks[2:] = self.random.random(), self.random.randint(1, self.TIME_MASK)
        return masks

    def _targets(self, texts):
        """What the decoder reads and should say next. No-speech stands where the first token would, as in Whisper."""
        read, say = [], []
        for rows in texts:
            prompt = []
            if self.random.random() < self.PROMPT_SHARE:
                words = range(self.random.randint(1, self.MOST_PROMPT_WORDS))
                prompt = [v.PREVIOUS] + [self.random.randrange(1, v.TEXT_ROWS) for _ in words]
            read.append(prompt + [v.START, v.NO_TIMESTAMPS] + (rows or []))
            first = v.NO_SPEECH if rows is None else v.NO_TIMESTAMPS
            say.append([NO_TARGET] * len(prompt) + [first] + (rows or []) + [v.END_OF_TEXT])
        length = max(map(len, read))
        return _padded(read, length, v.END_OF_TEXT), _padded(say, length, NO_TARGET)


class Pictures:
    """What the network sees of batches, made on the device that it is on."""

    def __init__(self, device):
        self.filters = torch.from_numpy(np.stack([features.mel_filters(warp) for warp in WARPS])).to(device)

    def __call__(self, batch):
        """(batch, 80, 2 x context) float32, masked parts at the picture's mean."""
        device = self.filters.device
        sound, warps, masks = (one.to(device, non_blocking=True) for one in (batch.sound, batch.warps, batch.masks))
        mel = features.log_mel(sound.float() / 32767, self.filters[warps])
        band, bands, start, steps = masks[:, :, None, None].unbind(1)
        at_band, at_step = (torch.arange(size, device=device) for size in mel.shape[1:])
        start = (start * mel.shape[2]).floor()
        masked = (at_band[:, None] >= band) & (at_band[:, None] < band + bands) | (at_step >= start) & (at_step < start + steps)
        return torch.where(masked, mel.mean(dim=(1, 2), keepdim=True), mel)


def _padded(lists, length, value):
    """(lists, length) tensor, each list filled up with `value`."""
    return torch.tensor([items + [value] * (length - len(items)) for items in lists])


class Stream(torch.utils.data.IterableDataset):
    """Batches made in processes of their own. Difficulty rises to `hardest` over the first `ramp_s` seconds of wall clock."""

    # With the few utterances that an hour can hear, the worst lines cost more on good ones than they give on bad ones.
    HARDEST = 0.65
    # Batches made ahead, altogether.
    AHEAD = 16

    def __init__(self, folder, seed, ramp_s, batch_frames, workers=1, hardest=HARDEST):
        self.folder, self.seed, self.ramp_s, self.hardest = folder, seed, ramp_s, hardest
        self.batch_frames, self.workers = batch_frames, workers

    def __iter__(self):
        torch.set_num_threads(1)
        began = time.monotonic()

        def ramp():
            return min(1.0, (time.monotonic() - began) / self.ramp_s)

        seed = self.seed + 1_000 * torch.utils.data.get_worker_info().id
        return Sampler(self.folder, seed, ramp, self.hardest, self.batch_frames).batches()

    def start(self):
        ahead = max(2, self.AHEAD // self.workers)
        return iter(torch.utils.data.DataLoader(self, batch_size=None, num_workers=self.workers, prefetch_factor=ahead))
