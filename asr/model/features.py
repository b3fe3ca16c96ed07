"""The picture of sound that the network sees: Whisper's log-mel spectrogram, as whisper.cpp computes it.

80 mel bands every 10 ms of 16 kHz sound. The encoder halves the rate: one *frame* of audio context is 20 ms, 320 samples.
"""

import numpy as np

RATE_HZ = 16_000
WINDOW = 400
HOP = 160
MEL_BANDS = 80
BINS = WINDOW // 2 + 1

# Samples of one frame of audio context (what whisper.cpp's `audio_ctx` counts), and the most that there can be.
FRAME_SAMPLES = 320
MOST_FRAMES = 1500

# What a caller of the finished model should give as `audio_ctx`: the utterance's frames and a margin, but a least number.
CONTEXT_FLOOR = 80
CONTEXT_MARGIN = 24

# Slaney's mel scale: linear up to 1 kHz, 27 steps an e-fold of 6.4 above it.
_LINEAR_HZ = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27

# Log power is floored 80 dB under the clip's loudest point, then brought to about -1..1.
_FLOOR_POWER = 1e-10
_RANGE_DECADES = 8.0


def _mel_to_hz(mel):
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ, _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL)))


def mel_filters(warp=1.0):
    """(80, 201) float32: area-normalised triangles over the bins of a 400-point transform.

    `warp` multiplies the triangles' frequencies: 1.1 hears a voice as if its throat were a tenth longer. Training uses it
    to make new speakers out of the few there are; the file has the filters of 1.0.
    """
    top_mel = _KNEE_MEL + np.log(RATE_HZ / 2 / _KNEE_HZ) / _LOG_STEP
    edges = _mel_to_hz(np.linspace(0, top_mel, MEL_BANDS + 2))
    bins = np.linspace(0, RATE_HZ / 2, BINS)[None] / warp
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.maximum(0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))
    return (triangles * 2 / (high - low)).astype(np.float32)


def context_frames(samples):
    """The audio context, in frames, to give for `samples` of 16 kHz sound."""
    frames = -(-samples // FRAME_SAMPLES) + CONTEXT_MARGIN
    return min(MOST_FRAMES, max(CONTEXT_FLOOR, frames))


def log_mel(sound, filters):
    """(batch, 80, samples / 160) of `sound`, a (batch, samples) tensor; `filters` is (80, 201), or one for each item.

    Both are on the same device.
    """
    import torch

    window = torch.hann_window(WINDOW, device=sound.device)
    spectrum = torch.stft(sound, WINDOW, HOP, window=window, center=True, pad_mode="reflect", return_complex=True)
    spectrum = torch.view_as_real(spectrum[..., :-1])
    power = spectrum.square().sum(-1)
    log_power = torch.clamp(filters @ power, min=_FLOOR_POWER).log10()
    loudest = log_power.amax(dim=(1, 2), keepdim=True)
    return (torch.maximum(log_power, loudest - _RANGE_DECADES) + 4) / 4
