"""Names and shapes of the public SeqTR / Partial-RES state dict <-> ours.

The released model is `vis_enc` (backbone), `lan_enc` (words and GRU), `fusion` and `head`. Packed attention
projections, norms, GRU gates and DarkNet modules have the same names and layouts on both sides, so the map is
a table of prefixes; the one tensor of another shape is the 1x1 convolution before the encoder.
"""

import re
from collections.abc import Mapping

from torch import Tensor

# released prefix -> ours, the first that fits
_PREFIXES: tuple[tuple[str, str], ...] = (
    ("vis_enc.darknet.", "vision.body.darknet."),
    ("lan_enc.embedding.", "text.embedding."),
    ("lan_enc.lstm.", "text.lstm."),
    ("fusion.", "fusion."),
    ("head.transformer.encoder.", "encoder."),
    ("head.transformer.decoder.", "decoder."),
    ("head.transformer.seq_positional_encoding.embedding.", "slot_embedding."),
    ("head.transformer.query_embedding.", "token_embedding."),
    ("head.transformer.task_prompt.", "task_embedding."),
    ("head.task_embedding.", "task_embedding."),
    ("head.transformer.input_proj.conv.", "input_proj."),
    ("head.transformer.input_proj.gn.", "input_norm."),
    ("head.predictor.0.fc.", "predictor.0."),
    ("head.predictor.1.fc.", "predictor.2."),
    ("head.predictor.2.fc.", "predictor.4."),
)
_RELEASED_POINT = re.compile(r"(decoder\.layers\.\d+\.point\.)(\d)")
_OUR_POINT = re.compile(r"(decoder\.layers\.\d+\.point\.)mlp\.(\d)")
TASK_PROMPT = "head.transformer.task_prompt.weight"


def our_name(released: str) -> str | None:
    """Our name of a released tensor; None when the released model has no such part."""
    for theirs, ours in _PREFIXES:
        if released.startswith(theirs):
            return _RELEASED_POINT.sub(r"\1mlp.\2", ours + released.removeprefix(theirs))
    return None


def released_name(ours: str, *, multitask: bool) -> str:
    """Inverse of `our_name`; `multitask` decides which of the two names a task token has."""
    name = _OUR_POINT.sub(r"\1\2", ours)
    for theirs, mine in _PREFIXES:
        if name.startswith(mine) and not (theirs == "head.transformer.task_prompt." and multitask):
            return theirs + name.removeprefix(mine)
    raise KeyError(f"{ours} has no counterpart in the released models")


def rename(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Released state dict -> (ours, released names that have no counterpart)."""
    renamed, unknown = {}, []
    for released, tensor in state.items():
        name = our_name(released)
        if name is None:
            unknown.append(released)
        else:
            renamed[name] = tensor.flatten(1) if name == "input_proj.weight" else tensor
    return renamed, unknown
