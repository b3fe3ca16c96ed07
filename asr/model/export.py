#!/usr/bin/env python3
"""Writes a trained checkpoint as a whisper.cpp model file.

Matrices and the embedding become q8_0 (or f16), convolutions f16, biases, layer norms and positions f32: what whisper.cpp
expects of each.
"""

import argparse
import os
import pathlib

import torch

import checkpoint
import features
import ggml_file
import network
import vocabulary as v

FILE_TYPES = {"q8_0": (ggml_file.Q8_0, ggml_file.FILE_TYPE_Q8_0), "f16": (ggml_file.F16, 1)}


def hyper_parameters(file_type):
    """What the file's head says."""
    return {
        "n_vocab": v.FILE_VOCABULARY,
        "n_audio_ctx": features.MOST_FRAMES,
        "n_audio_state": network.WIDTH,
        "n_audio_head": network.HEADS,
        "n_audio_layer": network.ENCODER_LAYERS,
        "n_text_ctx": network.TEXT_CONTEXT,
        "n_text_state": network.WIDTH,
        "n_text_head": network.HEADS,
        "n_text_layer": network.DECODER_LAYERS,
        "n_mels": features.MEL_BANDS,
        "ftype": file_type,
    }


def full_embedding(model):
    """(51,864, width): the trained rows at the ids that whisper.cpp gives them, the others silenced."""
    full = torch.zeros(v.FILE_VOCABULARY, network.WIDTH)
    full[:, 0] = checkpoint.UNUSED_LOGIT
    full[: v.TEXT_ROWS] = model.embedding[: v.TEXT_ROWS]
    for row, file_id in v.FILE_ID_OF_CONTROL.items():
        full[file_id] = model.embedding[row]
    return full


def tensors(model, matrix_kind):
    """(name, values, kind) of every tensor of the file."""
    yield "encoder.positional_embedding", model.encoder_positions, ggml_file.F32
    yield "decoder.token_embedding.weight", full_embedding(model), matrix_kind
    weight, bias = model.last_norm()
    for name, values in model.state_dict().items():
        if name.startswith(("ctc.", "embedding")):
            continue
        values = {"ln.weight": weight, "ln.bias": bias}.get(name, values)
        if name.startswith("conv"):
            # whisper.cpp adds a convolution's bias as a column.
            kind, values = (ggml_file.F16, values) if values.ndim == 3 else (ggml_file.F32, values[:, None])
        else:
            kind = matrix_kind if values.ndim == 2 and name != "decoder_positions" else ggml_file.F32
        yield checkpoint.file_name(name), values, kind


@torch.no_grad()
def write(model, path, file_type):
    """Writes the file whole or not at all."""
    matrix_kind, number = FILE_TYPES[file_type]
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        texts = [text.encode() for text in v.TEXTS]
        writer = ggml_file.Writer(file, hyper_parameters(number), features.mel_filters(), texts)
        for name, values, kind in tensors(model, matrix_kind):
            writer.tensor(name, values.detach().float().numpy(), kind)
    os.replace(part, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--type", choices=FILE_TYPES, default="q8_0", help="of matrices (q8_0)")
    options = parser.parse_args()
    write(checkpoint.load(options.checkpoint), options.file, options.type)
    print(f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
