"""Sentences as samples: espeak-ng, brought down to a telephone's 8 kHz and u-law. Standard library only."""

from __future__ import annotations

import array
import functools
import math
import operator
import subprocess
import sys

RATE = 8000
WORDS_A_MINUTE = 140
# espeak-ng cannot seek in a pipe, so the lengths in its WAV header are wrong; the rate is right.
RATE_AT, SAMPLES_AT = 24, 44
CUTOFF_HZ = 3700
HALF_WIDTH = 40


@functools.lru_cache(maxsize=64)
def spoken(text: str) -> tuple[int, array.array[int]]:
    """The sentence as espeak-ng makes it: (rate, 16-bit samples)."""
    made = subprocess.run(
        ["espeak-ng", "-s", str(WORDS_A_MINUTE), "--stdout", text], check=True, capture_output=True
    ).stdout
    samples = array.array("h", made[SAMPLES_AT : SAMPLES_AT + (len(made) - SAMPLES_AT) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return int.from_bytes(made[RATE_AT : RATE_AT + 4], "little"), samples


@functools.lru_cache(maxsize=64)
def ulaw_speech(text: str) -> bytes:
    """The sentence as u-law at 8 kHz, low-passed by a windowed sinc before it is resampled."""
    rate, samples = spoken(text)
    step = math.gcd(rate, RATE)
    phases, stride = RATE // step, rate // step
    kernels = [kernel(phase / phases, CUTOFF_HZ / rate) for phase in range(phases)]
    padded = array.array("h", bytes(2 * HALF_WIDTH)) + samples + array.array("h", bytes(4 * HALF_WIDTH))
    out = bytearray()
    for index in range(len(samples) * phases // stride):
        start, phase = divmod(index * stride, phases)
        window = padded[start + 1 : start + 2 * HALF_WIDTH + 1]
        out.append(ulaw(round(sum(map(operator.mul, window, kernels[phase])))))
    return bytes(out)


def kernel(fraction: float, cutoff: float) -> list[float]:
    """A sinc under a Hann window for a point `fraction` of a sample after the middle one."""
    points = [at - (HALF_WIDTH - 1) - fraction for at in range(2 * HALF_WIDTH)]
    made = [
        (2 * cutoff if x == 0 else math.sin(2 * math.pi * cutoff * x) / (math.pi * x))
        * (0.5 + 0.5 * math.cos(math.pi * max(-1.0, min(1.0, x / HALF_WIDTH))))
        for x in points
    ]
    return [value * 0.8 / sum(made) for value in made]


def ulaw(sample: int) -> int:
    """One sample of 16 bits by ITU-T G.711, section 3.2."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = max(0, magnitude.bit_length() - 8)
    return ~(sign | exponent << 4 | magnitude >> (exponent + 3) & 0x0F) & 0xFF
