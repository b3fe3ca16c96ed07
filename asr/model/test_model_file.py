"""The shipped file is what whisper.cpp expects and what the scripts here say. Standard library only."""

import csv
import importlib.util
import pathlib
import re
import struct
import unittest
import wave

import ggml_file
import vocabulary as v

HERE = pathlib.Path(__file__).parent
FILE = HERE / "telephone-en-q8_0.bin"
MOST_BYTES = 10_000_000
MOST_CLIP_BYTES = 900_000


def constants(script):
    """The whole numbers assigned to capital names in a script, which is not imported: it would need torch."""
    found = re.findall(r"^([A-Z_]+) = ([0-9_]+)$", (HERE / script).read_text(), re.MULTILINE)
    return {name: int(value) for name, value in found}


def expected_shapes(network, features):
    """{name: shape} of every tensor, by the constants of `network.py` and `features.py`."""
    width, bands = network["WIDTH"], features["MEL_BANDS"]
    shapes = {
        "encoder.positional_embedding": (features["MOST_FRAMES"], width),
        "encoder.conv1.weight": (width, bands, 3),
        "encoder.conv1.bias": (width, 1),
        "encoder.conv2.weight": (width, width, 3),
        "encoder.conv2.bias": (width, 1),
        "decoder.positional_embedding": (network["TEXT_CONTEXT"], width),
        "decoder.token_embedding.weight": (v.FILE_VOCABULARY, width),
    }
    norms = ["encoder.ln_post", "decoder.ln"]
    for half, layers, attentions in [
        ("encoder", "ENCODER_LAYERS", ["attn"]),
        ("decoder", "DECODER_LAYERS", ["attn", "cross_attn"]),
    ]:
        for layer in range(network[layers]):
            block = f"{half}.blocks.{layer}"
            for attention in attentions:
                norms.append(f"{block}.{attention}_ln")
                for matrix in ("query", "key", "value", "out"):
                    shapes[f"{block}.{attention}.{matrix}.weight"] = (width, width)
                    if matrix != "key":
                        shapes[f"{block}.{attention}.{matrix}.bias"] = (width,)
            norms.append(f"{block}.mlp_ln")
            shapes[f"{block}.mlp.0.weight"], shapes[f"{block}.mlp.0.bias"] = (4 * width, width), (4 * width,)
            shapes[f"{block}.mlp.2.weight"], shapes[f"{block}.mlp.2.bias"] = (width, 4 * width), (width,)
    for norm in norms:
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (width,)
    return shapes


class ModelFile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.data = FILE.read_bytes()
        cls.contents = ggml_file.read(cls.data)
        cls.network, cls.features = constants("network.py"), constants("features.py")

    def test_it_is_small_enough_to_ship(self):
        self.assertLess(len(self.data), MOST_BYTES)

    def test_hyper_parameters_are_those_of_the_network(self):
        n, hyper = self.network, self.contents.hyper
        self.assertEqual(hyper["n_vocab"], v.FILE_VOCABULARY)
        self.assertEqual(hyper["n_audio_ctx"], self.features["MOST_FRAMES"])
        self.assertEqual((hyper["n_audio_state"], hyper["n_text_state"]), (n["WIDTH"], n["WIDTH"]))
        self.assertEqual((hyper["n_audio_head"], hyper["n_text_head"]), (n["HEADS"], n["HEADS"]))
        self.assertEqual((hyper["n_audio_layer"], hyper["n_text_layer"]), (n["ENCODER_LAYERS"], n["DECODER_LAYERS"]))
        self.assertEqual(hyper["n_text_ctx"], n["TEXT_CONTEXT"])
        self.assertEqual(hyper["n_mels"], self.features["MEL_BANDS"])
        self.assertEqual(hyper["ftype"], ggml_file.FILE_TYPE_Q8_0)

    def test_texts_are_the_vocabulary(self):
        self.assertEqual(self.contents.texts, [text.encode() for text in v.TEXTS])

    def test_tensors_have_the_names_and_shapes_of_the_network(self):
        shapes = {name: tensor.shape for name, tensor in self.contents.tensors.items()}
        self.assertEqual(shapes, expected_shapes(self.network, self.features))

    def test_tensors_have_the_types_that_whisper_cpp_wants(self):
        for name, tensor in self.contents.tensors.items():
            if "conv" in name and name.endswith("weight"):
                wanted = ggml_file.F16
            elif name.endswith("positional_embedding") or len(tensor.shape) == 1 or name.endswith("bias"):
                wanted = ggml_file.F32
            else:
                wanted = ggml_file.Q8_0
            self.assertEqual(tensor.kind, wanted, name)

    def test_dimension_zero_of_the_last_norm_is_the_constant_one(self):
        weight = struct.unpack_from("<f", self.data, self.contents.tensors["decoder.ln.weight"].start)[0]
        bias = struct.unpack_from("<f", self.data, self.contents.tensors["decoder.ln.bias"].start)[0]
        self.assertEqual((weight, bias), (0.0, 1.0))

    def test_rows_that_are_no_token_are_silenced(self):
        embedding = self.contents.tensors["decoder.token_embedding.weight"]
        row_bytes = self.network["WIDTH"] // ggml_file.BLOCK * ggml_file.BLOCK_BYTES
        used = set(range(v.TEXT_ROWS)) | set(v.FILE_ID_OF_CONTROL.values())
        for row in (v.TEXT_ROWS, 1000, 50255, 50258, 51863):
            self.assertNotIn(row, used)
            scale, first = struct.unpack_from("<eb", self.data, embedding.start + row * row_bytes)
            self.assertAlmostEqual(scale * first, -30, delta=0.1)

    def test_a_file_cut_short_is_refused(self):
        with self.assertRaises((ValueError, struct.error)):
            ggml_file.read(self.data[:-1])


class Values(unittest.TestCase):
    @unittest.skipUnless(importlib.util.find_spec("numpy"), "values are NumPy arrays")
    def test_what_was_written_is_read_again(self):
        import numpy as np

        values = np.linspace(-1, 1, 4 * ggml_file.BLOCK).reshape(2, -1)
        for kind, within in [(ggml_file.F32, 1e-7), (ggml_file.F16, 1e-3), (ggml_file.Q8_0, 1 / 127)]:
            data = b"before" + ggml_file.encode(values, kind)
            tensor = ggml_file.Tensor("name", kind, values.shape, 6, ggml_file.size_of(kind, values.shape))
            self.assertLess(np.abs(ggml_file.decode(data, tensor) - values).max(), within, kind)

    def test_a_checkpoint_is_no_model_file(self):
        self.assertTrue(ggml_file.is_one(FILE.read_bytes()[:8]))
        self.assertFalse(ggml_file.is_one(b"PK\x03\x04"))


class Recordings(unittest.TestCase):
    def test_every_listed_recording_says_words_of_the_vocabulary(self):
        with open(HERE / "recordings.tsv", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        self.assertGreater(len(rows), 150)
        self.assertEqual(len(rows), len({row["file"] for row in rows}))
        for row in rows:
            self.assertGreater(len(v.rows_of(row["text"])), 0, row)


class Clips(unittest.TestCase):
    def rows(self):
        with open(HERE / "clips" / "clips.tsv", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    def test_every_clip_is_listed_and_is_a_short_8_khz_file(self):
        files = {row["file"] for row in self.rows()}
        self.assertEqual(files, {path.name for path in (HERE / "clips").glob("*.wav")})
        for name in files:
            with wave.open(str(HERE / "clips" / name)) as clip:
                self.assertEqual((clip.getframerate(), clip.getsampwidth(), clip.getnchannels()), (8000, 2, 1), name)
                self.assertLess(clip.getnframes(), 10 * 8000, name)

    def test_the_clips_are_small_together(self):
        self.assertLess(sum(path.stat().st_size for path in (HERE / "clips").iterdir()), MOST_CLIP_BYTES)

    def test_their_words_are_in_the_vocabulary(self):
        for row in self.rows():
            v.rows_of(row["text"])


if __name__ == "__main__":
    unittest.main()
