"""What a telephone line does to sound, in NumPy: G.711, lost packets, band, room, noise and level.

`line` is the fixed, mild line of tests; `Distorter` the random one of training. Sounds are (batch, samples) float32 in
-1..1; lengths are even, so that 16 kHz and 8 kHz lie sample on sample.
"""

import numpy as np
from scipy import fft

NARROW_HZ = 8_000
WIDE_HZ = 16_000
PACKET_S = 0.02


def _law_table(levels):
    """(65,536,) float32 of what each int16 sample comes back as, given the positive levels of a G.711 law."""
    levels = np.sort(np.concatenate([-levels, levels])).astype(np.float32)
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, np.arange(-32768, 32768))
    return levels[nearest] / 32768


def _u_law_levels():
    exponent, mantissa = np.divmod(np.arange(128), 16)
    return (((mantissa << 3) + 0x84) << exponent) - 0x84


def _a_law_levels():
    exponent, mantissa = np.divmod(np.arange(128), 16)
    return np.where(exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0))


U_LAW = _law_table(_u_law_levels())
A_LAW = _law_table(_a_law_levels())


def through_law(sound, law):
    """`sound` as it is after coding and decoding by `law`."""
    return law[(np.clip(sound, -1, 32767 / 32768) * 32768).astype(np.int32) + 32768]


def narrow(sound):
    """16 kHz to 8 kHz, ideally band-limited."""
    half = sound.shape[-1] // 2
    return fft.irfft(fft.rfft(sound)[..., : half // 2 + 1], n=half) / 2


def widen(sound, image=0.0):
    """8 kHz to 16 kHz; `image` is how much of the mirrored band above 4 kHz a real resampler leaves."""
    spectrum = fft.rfft(sound) * 2
    mirrored = np.conj(spectrum[..., -2::-1]) * np.float32(image)
    return fft.irfft(np.concatenate([spectrum, mirrored], -1), n=2 * sound.shape[-1])


def to_peak(sound, dbfs):
    """`sound` scaled so that each item's loudest sample is at `dbfs`."""
    peak = np.abs(sound).max(-1, keepdims=True)
    return sound * (10 ** (np.asarray(dbfs, np.float32) / 20) / np.maximum(peak, 1e-4))


def conceal(sound, lost, rate_hz):
    """Hides the `lost` packets (indices, ascending) of one item in place: the last good one again, ever softer."""
    packet, fade = int(rate_hz * PACKET_S), 0.8
    for number in lost:
        start = number * packet
        if packet <= start < len(sound):
            room = min(packet, len(sound) - start)
            sound[start : start + room] = fade * sound[start - packet : start - packet + room]


# The fixed line of tests: an ordinary level, the quiet hiss of a line, and the voice detector's usual cut.
LINE_PEAK_DBFS = -12.0
LINE_NOISE_DBFS = -62.0
LINE_LEAD_S = 0.25
LINE_TAIL_S = 0.35


def line_before_codec(sound, seed):
    """One 16 kHz utterance (samples,) cut with lead and tail and on its way into the codec: 8 kHz, levelled, with hiss."""
    rng = np.random.default_rng(seed)
    lead, tail = (np.zeros(int(WIDE_HZ * seconds), np.float32) for seconds in (LINE_LEAD_S, LINE_TAIL_S))
    whole = np.concatenate([lead, sound, tail])
    call = to_peak(narrow(whole[: len(whole) // 4 * 4]), LINE_PEAK_DBFS)
    return call + rng.standard_normal(len(call)).astype(np.float32) * 10 ** (LINE_NOISE_DBFS / 20)


def line(sound, seed):
    """One 16 kHz utterance (samples,) as the recogniser gets it: through u-law at 8 kHz, then at 16 kHz again."""
    return widen(through_law(line_before_codec(sound, seed), U_LAW)).astype(np.float32)


class Distorter:
    """A random line for every item of a batch. `difficulty` in 0..1 is how often the rarer troubles strike."""

    # Most calls are G.711; the rest are wideband codecs, taken as transparent.
    NARROW_SHARE = 0.88
    BAND_SHARE = 0.6
    ROOM_SHARE = 0.35
    EQUALISER_SHARE = 0.55
    NOISE_SHARE = 0.5
    LOSS_SHARE = 0.3
    LOSS_RATE = (0.01, 0.04)
    # From an ideal resampler's image band to that of a short filter.
    IMAGE_DB = (-90.0, -30.0)

    def __init__(self, rng):
        self.rng = rng

    def __call__(self, sound, peaks_dbfs, difficulty):
        """`sound` (batch, samples) at 16 kHz, distorted, its items' peaks at `peaks_dbfs`, still at 16 kHz."""
        is_narrow = self.rng.random() < self.NARROW_SHARE
        rate_hz = NARROW_HZ if is_narrow else WIDE_HZ
        samples = sound.shape[1] * rate_hz // WIDE_HZ
        spectrum = fft.rfft(sound)[:, : samples // 2 + 1] * np.float32(rate_hz / WIDE_HZ)
        hz = np.linspace(0, rate_hz / 2, spectrum.shape[1], dtype=np.float32)
        for item in range(len(sound)):
            spectrum[item] *= self._response(hz, samples, rate_hz, difficulty)
        call = fft.irfft(spectrum, n=samples)
        call = self._add_noise(call, hz, difficulty)
        call = to_peak(call, np.reshape(peaks_dbfs, (-1, 1)))
        if is_narrow:
            a_law = self.rng.random(len(call)) < 0.4
            call = np.where(a_law[:, None], through_law(call, A_LAW), through_law(call, U_LAW))
        for item in range(len(call)):
            if self.rng.random() < self.LOSS_SHARE * difficulty:
                lost = self.rng.random(int(samples / (rate_hz * PACKET_S))) < self.rng.uniform(*self.LOSS_RATE)
                conceal(call[item], np.flatnonzero(lost), rate_hz)
        if is_narrow:
            call = widen(call, 10 ** (self.rng.uniform(*self.IMAGE_DB) / 20))
        return np.clip(call, -1, 1).astype(np.float32)

    def _response(self, hz, samples, rate_hz, difficulty):
        """The complex gain of one item's microphone, room and line at `hz`."""
        rng, gain = self.rng, np.ones(len(hz), np.complex64)
        if rng.random() < self.BAND_SHARE:
            low, high = rng.uniform(80, 380), rng.uniform(2900, 3900)
            gain *= 1 / (1 + (low / np.maximum(hz, 1)) ** rng.choice([2, 4, 8]))
            gain *= 1 / (1 + (hz / high) ** rng.choice([8, 16, 30]))
        if rng.random() < self.EQUALISER_SHARE * difficulty:
            points = np.linspace(0, rate_hz / 2, rate_hz // 1000 + 1)
            gain *= 10 ** (np.interp(hz, points, rng.normal(0, rng.uniform(0, 5), len(points))) / 20)
        if rng.random() < self.ROOM_SHARE * difficulty:
            taps = min(int(rate_hz * rng.uniform(0.03, 0.25)), samples - 1)
            echo = rng.standard_normal(taps) * np.exp(-np.arange(taps) * 5 / taps) * rng.uniform(0.02, 0.2)
            gain *= 1 + fft.rfft(echo.astype(np.float32), n=samples)
        return gain

    def _add_noise(self, call, hz, difficulty):
        """Hiss, rumble or other talkers, 4 to 40 dB under the speech; talkers at least 12, or they would be the speech."""
        rng = self.rng
        noises = []
        for item in range(len(call)):
            if rng.random() > self.NOISE_SHARE * difficulty:
                noises.append(np.zeros_like(call[item]))
                continue
            kind, ratio_db = rng.random(), rng.uniform(4, 40)
            noise = rng.standard_normal(call.shape[1], dtype=np.float32)
            if kind < 0.4:
                colour = np.maximum(hz, 50) ** np.float32(-rng.uniform(0.3, 1))
                noise = fft.irfft(fft.rfft(noise) * colour, n=call.shape[1])
            elif kind < 0.6:
                talkers = rng.choice(len(call), 3)
                noise = sum(np.roll(call[talker], rng.integers(call.shape[1])) for talker in talkers)
                ratio_db = max(12, ratio_db)
            loudness = np.sqrt(np.mean(call[item] ** 2)) / (np.sqrt(np.mean(noise**2)) + 1e-9)
            noises.append(noise * np.float32(loudness * 10 ** (-ratio_db / 20)))
        return call + np.stack(noises)
