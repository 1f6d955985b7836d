"""REC weights into a RES model (METHOD.md section 2: every weight but the slot table; section 6: slot by slot)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.errors import ArtifactError
from stages.models.build import ReferringModel


@dataclass(frozen=True)
class Transfer:
    """What came from the REC model and what started anew (names of parameters)."""

    copied: list[str]
    started_anew: list[str]


@torch.no_grad()
def transfer_weights(model: ReferringModel, state: dict[str, Tensor]) -> Transfer:
    """Copy every tensor of `state` that fits `model` in name and shape.

    The slot table is copied slot by slot where the RES sequence starts with the box (there its first slots are the
    REC task; the slot behind them only where it means END, too) and left at its initial values otherwise. Tensors that only the RES model has (task token, PMCA) keep
    their initial values. Raises ArtifactError when a tensor of the same name has another shape.
    """
    own = model.state_dict()
    copied = []
    for name, value in state.items():
        if name == "slot_embedding.weight":
            if model.layout.box:
                n = len(model.layout.box) + (len(model.layout.box) in model.layout.ends)
                own[name][:n] = value[:n]
                copied.append(f"{name}[:{n}]")
            continue
        other_grid = name.startswith("grounding_head.") and own.get(name, value).shape != value.shape
        if name not in own or other_grid:  # boxes and contours are learned on grids of their own
            continue
        if own[name].shape != value.shape:
            raise ArtifactError(
                f"the REC model's {name} has shape {tuple(value.shape)}, the RES model needs {tuple(own[name].shape)}",
                hint="train-res inherits the architecture; leave options that change its size (bins, width) to train-rec",
            )
        own[name].copy_(value)
        copied.append(name)
    model.load_state_dict(own)
    arrived = {name.partition("[")[0] for name in copied}
    return Transfer(copied, [n for n in own if n not in arrived])
