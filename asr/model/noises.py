"""What a line carries when nobody speaks: silence, hiss, tones, rustle, knocks, hold music. There are no words in it.

Each function returns (samples,) float32 at 16 kHz in about -1..1; `rng` is a NumPy generator.
"""

import numpy as np

RATE_HZ = 16_000

# Pairs of Hz: dial, ringing, busy, and some keys.
TONES_HZ = [(350, 440), (440, 480), (480, 620), (425, 425), (697, 1209), (770, 1336), (852, 1477), (941, 1336)]


def silence(rng, samples):
    return np.zeros(samples, np.float32)


def hiss(rng, samples):
    return rng.standard_normal(samples, dtype=np.float32) * np.float32(0.2)


def tone(rng, samples):
    """Two sines, steady or switched."""
    seconds = np.arange(samples) / RATE_HZ
    pair = TONES_HZ[rng.integers(len(TONES_HZ))] if rng.random() < 0.75 else rng.uniform(200, 3000, 2)
    switch = np.sin(2 * np.pi * (seconds * rng.uniform(0.3, 3) + rng.random())) > rng.uniform(-1.2, 0.3)
    return (sum(np.sin(2 * np.pi * hz * seconds) for hz in pair) * 0.25 * switch).astype(np.float32)


def dial_tone(rng, samples):
    seconds = np.arange(samples) / RATE_HZ
    return sum(np.sin(2 * np.pi * hz * seconds) for hz in TONES_HZ[0]).astype(np.float32) * np.float32(0.25)


def rustle(rng, samples):
    """Breath, cloth, wind: coloured noise of changing loudness."""
    noise = rng.standard_normal(samples, dtype=np.float32)
    width = rng.choice([1, 4, 12, 40])
    noise = np.convolve(noise, np.ones(width) / width, "same")
    loudness = np.interp(np.arange(samples), np.linspace(0, samples, 8), rng.random(8))
    return (noise * loudness / (np.abs(noise).max() + 1e-9)).astype(np.float32)


def knocks(rng, samples):
    """Clicks, knocks, a receiver put down."""
    sound = rng.standard_normal(samples, dtype=np.float32) * np.float32(0.002)
    for _ in range(rng.integers(1, 9)):
        at = rng.integers(samples)
        length = min(samples - at, rng.integers(30, 1500))
        burst = rng.standard_normal(length) * np.exp(-np.arange(length) / rng.uniform(10, 300))
        sound[at : at + length] += (burst * rng.uniform(0.05, 0.6)).astype(np.float32)
    return sound


def music(rng, samples):
    """Chords of plucked harmonics."""
    sound, note = np.zeros(samples, np.float32), int(RATE_HZ * rng.uniform(0.15, 0.6))
    for start in range(0, samples, note):
        seconds = np.arange(min(2 * note, samples - start)) / RATE_HZ
        decay = np.exp(-seconds * rng.uniform(1, 8)) * np.minimum(1, seconds * 100)
        for step in rng.choice([0, 2, 4, 5, 7, 9, 12], rng.integers(1, 4), replace=False):
            hz = 130.8 * 2 ** ((step + 12 * rng.integers(0, 3)) / 12)
            for harmonic in range(1, 5):
                part = np.sin(2 * np.pi * hz * harmonic * seconds) * decay / harmonic
                sound[start : start + len(seconds)] += (0.1 * part).astype(np.float32)
    return sound


KINDS = [silence, hiss, hiss, tone, tone, rustle, knocks, music]


def any_noise(rng, samples):
    """One of `KINDS` at random."""
    return KINDS[rng.integers(len(KINDS))](rng, samples)
