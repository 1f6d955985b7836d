"""Starting a round from the model of the round before, whole or without its decoder (METHOD.md section 6)."""

from typing import Any, Literal

import torch

from stages.artifacts import Artifact
from stages.data.text import TextCodec
from stages.errors import ArtifactError
from stages.models.build import ReferringModel
from stages.models.config import ModelConfig
from stages.weights.model_file import Weights, architecture, load_state, read_weights, require_fit

# What `encoder` keeps: everything that reads pictures and sentences. What predicts the answer starts anew, as SiRi does
# between its rounds (where backbone and text start over, too; here few masks could not teach them again).
_BOTH = ("vision.", "fusion.", "text.", "grounding_head.")
READERS = {
    "seqtr": (*_BOTH, "text_projection.", "input_proj.", "input_norm.", "encoder."),
    "mdetr": (*_BOTH, "sentence_gate.", "detector.input_proj.", "detector.text_proj.", "detector.encoder."),
}
# Where pretrained weights came from once: no part of what a model computes.
NOT_COMPARED = ("vision.source", "text.source")


@torch.no_grad()
def start_from(
    model: ReferringModel,
    codec: TextCodec,
    artifact: Artifact,
    keep: Literal["all", "encoder"],
    weights: Weights,
) -> str:
    """Copy the weights of `artifact` (a res_model) into `model`; one line about it.

    Raises ArtifactError when architecture or vocabulary differ (naming the keys), or a tensor is missing or mis-shaped.
    """
    where = str(artifact.path)
    require_same(artifact, model.config, codec)
    state = read_weights(artifact, weights)
    if keep == "all":
        load_state(model, state, where=where)
        return f"all {len(state)} tensors from {where}"
    require_fit(model, state, where=where)
    own = model.state_dict()
    kept = [name for name in own if name.startswith(READERS[model.config.family])]
    for name in kept:
        own[name].copy_(state[name])
    return f"{len(kept)} tensors from {where}, {len(own) - len(kept)} started anew"


def require_same(artifact: Artifact, config: ModelConfig, codec: TextCodec) -> None:
    """ArtifactError when the model of `artifact` has another architecture (naming the keys) or reads other words."""
    where = str(artifact.path)
    facts = differences(architecture(artifact).to_dict(), config.to_dict())
    if facts:
        raise ArtifactError(
            f"{where} has another architecture than this run: {facts[0]}",
            facts=facts[1:],
            hint="give the options that it was trained with, or leave --init out",
        )
    if artifact.json("vocabulary") != codec.to_dict():
        raise ArtifactError(
            f"{where} reads other words than this run",
            hint="start from a model of the same data, or leave --init out",
        )


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """ "image.size: 112 -> 64" for every key of two nested configurations whose values differ."""
    a, b = _flat(theirs), _flat(ours)
    keys = [k for k in (*a, *(k for k in b if k not in a)) if k not in NOT_COMPARED]
    return [f"{k}: {a.get(k)} -> {b.get(k)}" for k in keys if a.get(k) != b.get(k)]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = list(value) if isinstance(value, tuple) else value
    return out
