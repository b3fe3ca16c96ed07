"""The network: Whisper's architecture at a size that trains on a laptop and ships in a repository.

Every name and shape is Whisper's own, so that whisper.cpp loads the result as it would any other model. Two things differ
from the published code, both because of whisper.cpp: its GELU is the tanh approximation, and its vocabulary has a fixed
size (see `Recogniser.decode`).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

import features
import vocabulary as v

# Small enough to learn in minutes on a graphics card, in hours on two cores; most of the q8_0 file is the embedding's
# 51,864 rows all the same.
WIDTH = 128
HEADS = 4
ENCODER_LAYERS = 6
# Two decoder layers, because that many are enough for words that are tokens; the encoder does the hearing.
DECODER_LAYERS = 2
# Control tokens, a short prompt and the longest utterance (about 30 words) fit well.
TEXT_CONTEXT = 128

EMBEDDING_SCALE = 0.05
POSITION_SCALE = 0.01


def sinusoids(length, width):
    """(length, width) of Whisper's fixed encoder positions: sines, then cosines, of geometric wavelengths."""
    step = math.log(10_000) / (width // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-step * torch.arange(width // 2))[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


def gelu(x):
    """GELU as whisper.cpp computes it."""
    return F.gelu(x, approximate="tanh")


class Attention(nn.Module):
    """Multi-head attention; keys have no bias, as in Whisper."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, source=None, causal=False):
        """`x` (batch, length, width) attends to `source`, or to itself."""
        source = x if source is None else source
        heads = [self._split(y) for y in (self.query(x), self.key(source), self.value(source))]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2))

    @staticmethod
    def _split(x):
        return x.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)


class Block(nn.Module):
    """One layer; `decoder` gives it causal self-attention and attention to the encoder."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder
        self.attn = Attention()
        self.attn_ln = nn.LayerNorm(WIDTH)
        if decoder:
            self.cross_attn = Attention()
            self.cross_attn_ln = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH))
        self.mlp_ln = nn.LayerNorm(WIDTH)

    def forward(self, x, heard=None):
        x = x + self.attn(self.attn_ln(x), causal=self.decoder)
        if self.decoder:
            x = x + self.cross_attn(self.cross_attn_ln(x), heard)
        return x + self.mlp(self.mlp_ln(x))


class Recogniser(nn.Module):
    """Sound to words. Rows, not whisper.cpp's ids, number its tokens (see `vocabulary`)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(features.MEL_BANDS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.register_buffer("encoder_positions", sinusoids(features.MOST_FRAMES, WIDTH), persistent=False)
        self.encoder = nn.ModuleList(Block(decoder=False) for _ in range(ENCODER_LAYERS))
        self.ln_post = nn.LayerNorm(WIDTH)
        self.embedding = nn.Parameter(torch.randn(v.ROWS, WIDTH) * EMBEDDING_SCALE)
        self.decoder_positions = nn.Parameter(torch.randn(TEXT_CONTEXT, WIDTH) * POSITION_SCALE)
        self.decoder = nn.ModuleList(Block(decoder=True) for _ in range(DECODER_LAYERS))
        self.ln = nn.LayerNorm(WIDTH)
        # Only for training: words straight from the encoder. Without it attention finds no alignment in the time there is.
        self.ctc = nn.Linear(WIDTH, v.TEXT_ROWS)
        keep = torch.ones(WIDTH)
        keep[0] = 0
        self.register_buffer("keep", keep, persistent=False)

    def encode(self, mel):
        """(batch, frames, width) from `mel` (batch, 80, 2 x frames)."""
        x = gelu(self.conv2(gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.encoder_positions[: x.shape[1]]
        for block in self.encoder:
            x = block(x)
        return self.ln_post(x)

    def last_norm(self):
        """Weight and bias of the last layer norm, dimension 0 made the constant 1 (see `decode`)."""
        return self.ln.weight * self.keep, self.ln.bias * self.keep + (1 - self.keep)

    def decode(self, rows, heard):
        """(batch, length, rows) logits of each next token, given `rows` (batch, length) so far.

        The file must have 51,864 embedding rows, of which this model has about 200. Dimension 0 of the last layer norm's
        output is therefore held at 1: it is a bias for the rows in use, and -30 there in all others silences them.
        """
        x = self.embedding[rows] + self.decoder_positions[: rows.shape[1]]
        for block in self.decoder:
            x = block(x, heard)
        weight, bias = self.last_norm()
        return F.layer_norm(x, (WIDTH,), weight, bias) @ self.embedding.T


@torch.no_grad()
def transcribe(model, mel, most_words=32):
    """Greedy decoding as whisper.cpp does it without timestamps: (rows, no-speech probability) of all items."""
    heard = model.encode(mel)
    rows = torch.tensor([[v.START, v.NO_TIMESTAMPS]] * len(mel))
    first = model.decode(rows[:, :1], heard)[:, 0]
    no_speech = first.softmax(-1)[:, v.NO_SPEECH].tolist()
    words, ended = [[] for _ in range(len(mel))], [False] * len(mel)
    forbidden = [0, v.START, v.NO_TIMESTAMPS, v.NO_SPEECH, v.PREVIOUS]
    for position in range(most_words):
        logits = model.decode(rows, heard)[:, -1]
        logits[:, forbidden + ([v.END_OF_TEXT] if position == 0 else [])] = -math.inf
        chosen = logits.argmax(-1)
        rows = torch.cat([rows, chosen[:, None]], 1)
        for item, row in enumerate(chosen.tolist()):
            ended[item] |= row == v.END_OF_TEXT
            if not ended[item]:
                words[item].append(row)
        if all(ended):
            break
    return words, no_speech
