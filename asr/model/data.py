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

# mel (batch, 80, 2 x context) float32; rows and targets (batch, length); words of each item; frames of each item.
Batch = collections.namedtuple("Batch", "mel rows targets words frames")


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
    # The throat's length, as a factor on the mel filters' frequencies.
    WARPS = np.linspace(0.88, 1.12, 13)
    WARP_SHARE = 0.6
    # A random prompt of earlier words teaches the decoder to bear one.
    PROMPT_SHARE = 0.06
    MOST_PROMPT_WORDS = 8
    # The longest sample, at the least and at full difficulty: alignment is found soonest in short ones.
    LONGEST_S = (2.4, 8.0)
    MOST_WORDS = 28
    # The voice detector's cut: mostly 0.1 to 0.45 s of pre-roll, sometimes nearly none.
    LEAD_S = (0.08, 0.45)
    TIGHT_LEAD_S = (0.0, 0.08)
    TIGHT_SHARE = 0.12
    TAIL_S = (0.05, 0.6)
    SPEECH_PEAK_DBFS = (-30.0, -3.0)
    NOISE_PEAK_DBFS = (-75.0, -5.0)
    # A pool of samples is sorted by length and cut into batches of about this many frames of context, so that no batch is
    # mostly padding and every step costs the same.
    POOL = 320
    BATCH_FRAMES = 3200
    MOST_ITEMS = 64
    # Frames beyond the longest item: nearly always the margin that callers are told to use; sometimes what they use for
    # models in general; for a few items of some pools, Whisper's full context.
    MARGINS = [24] * 16 + [32, 40, 64, 128, 256]
    FULL_CONTEXT_SHARE = 0.064
    FULL_CONTEXT_ITEMS = 6
    # Spectrum masking.
    BAND_MASK_SHARE, BAND_MASK = 0.4, 10
    TIME_MASK_SHARE, TIME_MASK = 0.35, 12
    # The share of sound that is left after the cut instead of whisper.cpp's digital zero.
    UNCUT_SHARE = 0.05

    def __init__(self, folder, seed, difficulty):
        """`difficulty` is a function of no arguments: 0 at the beginning, `Stream.HARDEST` from some time on."""
        self.corpus, self.digits = Corpus(folder, "train", self.FAVOURITES), Corpus(folder, "digits")
        self.difficulty = difficulty
        self.rng, self.random = np.random.default_rng(seed), random.Random(seed)
        self.distort = telephone.Distorter(self.rng)
        # The first is the true one; the others are drawn from.
        warps = [1.0, *self.WARPS]
        self.filters = torch.from_numpy(np.stack([features.mel_filters(warp) for warp in warps]))

    def batches(self):
        while True:
            self.corpus.refresh()
            self.digits.refresh()
            pool = [self._sample() for _ in range(self.POOL)]
            longest = np.interp(self.difficulty(), [0, Stream.HARDEST], self.LONGEST_S) * RATE_HZ
            pool = [one for one in pool if len(one[0]) < longest and len(one[1] or []) <= self.MOST_WORDS]
            if self.random.random() < self.FULL_CONTEXT_SHARE:
                yield self._batch(self.random.sample(pool, self.FULL_CONTEXT_ITEMS), features.MOST_FRAMES)
            pool.sort(key=lambda sample: len(sample[0]))
            pieces = list(self._cut(pool))
            self.random.shuffle(pieces)
            for samples, context in pieces:
                yield self._batch(samples, context)

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
            while end < len(pool) and end - start < self.MOST_ITEMS:
                if (end + 1 - start) * (len(pool[end][0]) / features.FRAME_SAMPLES + 24) > self.BATCH_FRAMES:
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
        mel = self._mask(features.log_mel(torch.from_numpy(sound), self.filters[[self._warp() for _ in samples]]))
        words = [rows or [] for _, rows in samples]
        frames = [min(context, -(-len(piece) // features.FRAME_SAMPLES) + 2) for piece, _ in samples]
        return Batch(mel, *self._targets([rows for _, rows in samples]), words, frames)

    def _warp(self):
        """Which of `self.filters` an item is heard through."""
        warped = self.random.random() < self.WARP_SHARE
        return self.random.randrange(1, len(self.filters)) if warped else 0

    def _mask(self, mel):
        for picture in mel:
            if self.random.random() < self.BAND_MASK_SHARE * self.difficulty():
                band = self.random.randrange(features.MEL_BANDS)
                picture[band : band + self.random.randint(1, self.BAND_MASK)] = picture.mean()
            if self.random.random() < self.TIME_MASK_SHARE * self.difficulty():
                time_step = self.random.randrange(picture.shape[1])
                picture[:, time_step : time_step + self.random.randint(1, self.TIME_MASK)] = picture.mean()
        return mel

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


def _padded(lists, length, value):
    """(lists, length) tensor, each list filled up with `value`."""
    return torch.tensor([items + [value] * (length - len(items)) for items in lists])


class Stream(torch.utils.data.IterableDataset):
    """Batches made in a process of their own. Difficulty rises over the first `ramp_s` seconds of wall clock."""

    # With the few utterances that an hour can hear, the worst lines cost more on good ones than they give on bad ones.
    HARDEST = 0.65
    # Batches made ahead.
    AHEAD = 16

    def __init__(self, folder, seed, ramp_s):
        self.folder, self.seed, self.ramp_s = folder, seed, ramp_s

    def __iter__(self):
        torch.set_num_threads(1)
        began = time.monotonic()

        def difficulty():
            return self.HARDEST * min(1.0, (time.monotonic() - began) / self.ramp_s)

        return Sampler(self.folder, self.seed, difficulty).batches()

    def start(self):
        return iter(torch.utils.data.DataLoader(self, batch_size=None, num_workers=1, prefetch_factor=self.AHEAD))
