"""SiRi: what of a model lives on when training starts over (METHOD.md section 5).

Each round keeps the multimodal encoder alone; decoders, queries, heads and projections start anew, the backbone and the
text encoder return to their pretrained weights. The idea: a decoder that has settled stops teaching the encoder, a new one
starts again from a better one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

ENCODER_OF = {"seqtr": "encoder.", "mdetr": "detector.encoder."}
PRETRAINED = ("vision.", "text.")  # a new round loads these as the first one did


def fate(name: str, family: str) -> str:
    """`kept`, `pretrained` (loaded again, or new where nothing pretrained is named) or `re-initialised`."""
    if name.startswith(ENCODER_OF[family]):
        return "kept"
    return "pretrained" if name.startswith(PRETRAINED) else "re-initialised"


@torch.no_grad()
def take_over(model: nn.Module, previous: Mapping[str, Tensor], family: str) -> list[str]:
    """Copy what is kept of `previous` (a state dict, the moving average) into a new model; the names copied."""
    own = model.state_dict()
    kept = [name for name in own if fate(name, family) == "kept"]
    for name in kept:
        own[name].copy_(previous[name])
    return kept
