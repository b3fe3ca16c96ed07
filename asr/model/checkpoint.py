"""A trained network from disk: from a checkpoint of `train.py`, or from a model file such as the one that ships.

A file holds everything but the CTC head, which only training uses, with the rounding of its types. Its words are matched
by their text, so that a file with other words than `vocabulary` has can be gone on from or measured.
"""

import torch

import ggml_file
import network
import vocabulary as v

# The logit of embedding rows that the model does not have; see `network.Recogniser.decode`.
UNUSED_LOGIT = -30.0

# The network's names for what the file calls otherwise, by their beginnings.
_FILE_NAMES = [
    ("encoder_positions", "encoder.positional_embedding"),
    ("decoder_positions", "decoder.positional_embedding"),
    ("conv", "encoder.conv"),
    ("ln_post", "encoder.ln_post"),
    ("ln.", "decoder.ln."),
    ("encoder.", "encoder.blocks."),
    ("decoder.", "decoder.blocks."),
]


def file_name(name):
    """The file's name of the network's tensor `name`."""
    for ours, theirs in _FILE_NAMES:
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    raise KeyError(name)


def load(path, silence_unknown=True):
    """The network in the checkpoint or model file `path`, ready to be measured.

    Words that a file does not have are never chosen, or, unless `silence_unknown`, ready to be learnt.
    """
    data = path.read_bytes()
    model = network.Recogniser()
    if ggml_file.is_one(data):
        model.load_state_dict(_state_of_file(data, model.state_dict(), silence_unknown))
    else:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    return model.eval()


def _state_of_file(data, state, silence_unknown):
    """`state` with what the file's bytes `data` have in place of its values."""
    contents = ggml_file.read(data)
    read = {name: torch.from_numpy(ggml_file.decode(data, one)) for name, one in contents.tensors.items()}
    for name, values in state.items():
        if not name.startswith(("ctc.", "embedding")):
            state[name] = read[file_name(name)].reshape(values.shape).clone()
    full, words = read["decoder.token_embedding.weight"], state["embedding"].clone()
    id_of_text = {text.decode(): number for number, text in enumerate(contents.texts)}
    for row, text in enumerate(v.TEXTS):
        if text in id_of_text:
            words[row] = full[id_of_text[text]]
        elif silence_unknown:
            words[row] = 0
            words[row, 0] = UNUSED_LOGIT
    for row, file_id in v.FILE_ID_OF_CONTROL.items():
        words[row] = full[file_id]
    state["embedding"] = words
    return state
