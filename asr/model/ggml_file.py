"""whisper.cpp's model file ("ggml"), written and read. The standard library suffices to read; writing takes NumPy arrays.

All numbers are little-endian. In order:

* `MAGIC` and eleven int32 hyper-parameters, `HYPER_PARAMETERS`;
* mel filters: int32 bands, int32 bins, float32 values, band by band;
* texts: int32 how many, then for each an uint32 length and its bytes. There may be fewer than `n_vocab`;
* tensors until the end: int32 dimensions, int32 length of the name, int32 type, the int32 dimensions with the fastest
  first, the name, the values.
"""

import collections
import math
import struct

MAGIC = 0x67676D6C

HYPER_PARAMETERS = (
    "n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer"
    " n_text_ctx n_text_state n_text_head n_text_layer n_mels ftype"
).split()

# Types of a tensor's values.
F32, F16, Q8_0 = 0, 1, 8

# The file's own type for one whose matrices are Q8_0: quantisation version 2 in thousands, plus 7.
FILE_TYPE_Q8_0 = 2007

# Q8_0 is blocks of 32 values: an f16 scale, then 32 int8.
BLOCK = 32
BLOCK_BYTES = 2 + BLOCK

# `start` is where its values begin, in bytes from the beginning of the file; `shape` has the fastest dimension last.
Tensor = collections.namedtuple("Tensor", "name kind shape start size")

Contents = collections.namedtuple("Contents", "hyper filters_shape texts tensors")


def size_of(kind, shape):
    """Bytes of a tensor's values."""
    values = math.prod(shape)
    return {F32: 4 * values, F16: 2 * values, Q8_0: values // BLOCK * BLOCK_BYTES}[kind]


def is_one(data):
    """Whether `data`, a file's bytes, begins as such a file does."""
    return data[:4] == struct.pack("<I", MAGIC)


def read(data):
    """The `Contents` of a whole file's bytes, values left where they are. Raises `ValueError` if it is no such file."""
    if struct.unpack_from("<i", data)[0] != MAGIC:
        raise ValueError("not a ggml file")
    hyper = dict(zip(HYPER_PARAMETERS, struct.unpack_from("<11i", data, 4)))
    filters_shape = struct.unpack_from("<2i", data, 48)
    at = 56 + 4 * math.prod(filters_shape)
    (count,), at, texts = struct.unpack_from("<i", data, at), at + 4, []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, at)
        texts.append(bytes(data[at + 4 : at + 4 + length]))
        at += 4 + length
    tensors = {}
    while at < len(data):
        tensor = _read_tensor(data, at)
        tensors[tensor.name] = tensor
        at = tensor.start + tensor.size
    if at != len(data):
        raise ValueError("the last tensor is cut short")
    return Contents(hyper, filters_shape, texts, tensors)


def _read_tensor(data, at):
    dimensions, name_length, kind = struct.unpack_from("<3i", data, at)
    shape = struct.unpack_from(f"<{dimensions}i", data, at + 12)[::-1]
    start = at + 12 + 4 * dimensions
    name = bytes(data[start : start + name_length]).decode()
    return Tensor(name, kind, shape, start + name_length, size_of(kind, shape))


class Writer:
    """Writes a file front to back: `__init__` the head, then `tensor` for each."""

    def __init__(self, file, hyper, filters, texts):
        """`file` is open for bytes; `hyper` a dict by `HYPER_PARAMETERS`; `filters` (bands, bins) float32."""
        self.file = file
        file.write(struct.pack("<12i", MAGIC, *(hyper[name] for name in HYPER_PARAMETERS)))
        file.write(struct.pack("<2i", *filters.shape) + filters.astype("<f4").tobytes())
        file.write(struct.pack("<i", len(texts)))
        for text in texts:
            file.write(struct.pack("<I", len(text)) + text)

    def tensor(self, name, values, kind):
        """One tensor of `values`, stored as `kind`."""
        self.file.write(struct.pack("<3i", values.ndim, len(name), kind))
        self.file.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)) + name.encode())
        self.file.write(encode(values, kind))


def encode(values, kind):
    """The bytes of `values` as `kind`."""
    if kind == F32:
        return values.astype("<f4").tobytes()
    if kind == F16:
        return values.astype("<f2").tobytes()
    import numpy as np

    blocks = values.reshape(-1, BLOCK).astype(np.float32)
    scale = np.abs(blocks).max(1, keepdims=True) / 127
    rounded = np.round(np.divide(blocks, scale, out=np.zeros_like(blocks), where=scale > 0)).astype(np.int8)
    return np.concatenate([scale.astype("<f2").view(np.uint8), rounded.view(np.uint8)], 1).tobytes()


def decode(data, tensor):
    """The values of a `Tensor` of the file's bytes `data`, as a float32 array of its shape."""
    import numpy as np

    values = np.frombuffer(data, np.uint8, tensor.size, tensor.start)
    if tensor.kind == F32:
        return values.view("<f4").astype(np.float32).reshape(tensor.shape)
    if tensor.kind == F16:
        return values.view("<f2").astype(np.float32).reshape(tensor.shape)
    blocks = values.reshape(-1, BLOCK_BYTES)
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    return (np.ascontiguousarray(blocks[:, 2:]).view(np.int8) * scale).astype(np.float32).reshape(tensor.shape)
