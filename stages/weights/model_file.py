"""Models as artifacts: self-contained HDF5 files (architecture, words, weights, history). `predict` needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import Artifact, ArtifactWriter, open_artifact
from stages.artifacts.json_forms import history_rows
from stages.data.text import TextCodec, codec_from_dict
from stages.errors import ArtifactError, SeqresError, UsageError, first_of
from stages.models.build import ReferringModel, build_model, least_parameters
from stages.models.config import ModelConfig

Weights = Literal["best", "ema", "raw"]
_SMALL_MODEL = 50_000_000  # numbers; below, nothing is gained by looking first
GROUPS: dict[str, str] = {"best": "best", "ema": "ema", "raw": "weights"}


@dataclass
class LoadedModel:
    """A model ready to run, with all it needs to read sentences and pictures."""

    model: ReferringModel
    config: ModelConfig
    codec: TextCodec
    device: torch.device
    digest: str = ""
    dataset_digest: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    locator: LoadedModel | None = None  # finds the box that crop refinement works in
    precision: Literal["fp32", "bf16"] = "fp32"  # of prediction


def write_model(
    w: ArtifactWriter,
    config: ModelConfig,
    codec: TextCodec,
    weights: Mapping[str, Mapping[str, Tensor]],
    history: list[dict[str, Any]],
) -> None:
    """Model part of an artifact. `weights`: group name (`weights`, `ema`, `best`) -> state dict."""
    w.json("architecture", config.to_dict())
    w.json("vocabulary", codec.to_dict())
    w.json(
        "preprocessing",
        {"frame": "longer side to size, bottom/right padding to a multiple", **config.to_dict()["image"]},
    )
    w.json("history", history)
    for group, state in weights.items():
        for name, tensor in state.items():
            w.column(f"{group}/{name}", tensor.detach().cpu().numpy(), compress=False)  # weights hardly pack


def write_selection(w: ArtifactWriter, selection: Mapping[str, Any], held_out: NDArray[np.int64]) -> None:
    """What chose the weights called best, and the referents (rows of the dataset) that were kept back for it."""
    w.json("selection", dict(selection))
    w.column("held_out_referent", held_out)


def weights_chosen_by(artifact: Artifact, weights: Weights = "best") -> tuple[str, str | None]:
    """Which of a model's weights are meant, in words, and the split that chose them where a reported one may have."""
    if weights == "raw" or not (artifact.names("best/") or artifact.names("ema/")):
        return "last step", None
    if weights == "ema" or not artifact.names("best/"):
        return "last moving average", None
    if "selection" in artifact:
        return str(artifact.json("selection").get("by") or "not told by what"), None
    recorded = artifact.provenance.get("config", {}).get("validation_split", {}).get("value")
    return (f"best validation on {recorded}", str(recorded)) if recorded else ("as imported", None)


def held_out_referents_of(artifact: Artifact, dataset_digest: str) -> NDArray[np.int64]:
    """Referents that were kept back to choose the model's weights; none where it was made from another dataset."""
    if "held_out_referent" not in artifact or artifact.attrs.get("dataset_digest") != dataset_digest:
        return np.zeros(0, np.int64)
    return np.asarray(artifact["held_out_referent"], np.int64)


def read_weights(artifact: Artifact, weights: Weights = "best") -> dict[str, Tensor]:
    """State dict of one group; falls back from `best` to `ema` to the raw weights where a group is absent."""
    order = {"best": ("best", "ema", "weights"), "ema": ("ema", "weights"), "raw": ("weights",)}[weights]
    for group in order:
        names = artifact.names(f"{group}/")
        if names:
            return {n.removeprefix(f"{group}/"): torch.from_numpy(np.array(artifact[n])) for n in names}
    raise ArtifactError(f"{artifact.path} holds no weights")


def architecture(artifact: Artifact, name: str = "architecture") -> ModelConfig:
    """ArtifactError unless the JSON text describes a model that can be built."""
    return described(artifact.json(name), str(artifact.path), name, hint=f"seqres verify {artifact.path}")


def described(
    data: Mapping[str, Any], where: str, name: str = "architecture", *, hint: str | None = None
) -> ModelConfig:
    """The architecture that a file describes; ArtifactError where it describes none."""
    try:
        return ModelConfig.from_dict(data)
    except UsageError as error:
        facts = [f"{name}: {error.message}", *error.facts]
        raise ArtifactError(f"{where} is damaged", facts=facts, hint=hint) from error


def built(config: ModelConfig, n_words: int, stored: int, where: str) -> ReferringModel:
    """The model that a file describes; a few bytes can describe one that fills any memory.

    `stored`: how many numbers the weights have that stand beside the description.

    Raises:
        ArtifactError: the description leads to no model, or to one that the weights do not fit.
    """
    try:
        least = least_parameters(config, n_words)
        model = build_model(config, n_words) if least <= 2 * stored + _SMALL_MODEL else None
    except SeqresError:
        raise
    except Exception as error:  # transformers fails in many ways on settings that are none
        raise ArtifactError(
            f"no model can be built from the architecture of {where}",
            facts=[f"{type(error).__name__}: {str(error)[:200]}"],
        ) from error
    if model is None:
        raise ArtifactError(
            f"the weights of {where} do not fit the architecture",
            facts=[f"it describes more than {least} numbers, {stored} are there"],
        )
    return model


def _with_weights(
    config: ModelConfig, n_words: int, state: Mapping[str, Tensor], where: str
) -> ReferringModel:
    model = built(config, n_words, sum(tensor.numel() for tensor in state.values()), where)
    load_state(model, state, where=where)
    return model


def load_model(
    path: Path,
    device: torch.device | str = "cpu",
    *,
    weights: Weights = "best",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> LoadedModel:
    """Model in eval mode on `device`. ArtifactError names the tensor that is missing, unknown or mis-shaped."""
    with open_artifact(path, kind=("rec_model", "res_model")) as a:
        config, codec = architecture(a), codec_from_dict(a.json("vocabulary"))
        model = _with_weights(config, codec.size, read_weights(a, weights), str(path))
        digest, history = a.digest, history_rows(a.json("history"))
        dataset_digest = str(a.attrs.get("dataset_digest", ""))
        locator = (
            _read_locator(a, codec, torch.device(device), str(path)) if "locator_architecture" in a else None
        )
    model.to(device).eval()
    if locator is not None:
        locator.precision = precision
    return LoadedModel(
        model, config, codec, torch.device(device), digest, dataset_digest, history, locator, precision
    )


def write_locator(w: ArtifactWriter, config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    """The comprehension model that crop refinement needs to find its window."""
    w.json("locator_architecture", config.to_dict())
    for name, tensor in state.items():
        w.column(f"locator/{name}", tensor.detach().cpu().numpy(), compress=False)


def _read_locator(artifact: Artifact, codec: TextCodec, device: torch.device, where: str) -> LoadedModel:
    config = architecture(artifact, "locator_architecture")
    state = {
        n.removeprefix("locator/"): torch.from_numpy(np.array(artifact[n]))
        for n in artifact.names("locator/")
    }
    model = _with_weights(config, codec.size, state, f"{where} (locator)")
    return LoadedModel(model.to(device).eval(), config, codec, device)


def load_state(model: torch.nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Strict load; every difference is listed in one ArtifactError."""
    require_fit(model, state, where=where)
    model.load_state_dict(dict(state))


def require_fit(model: torch.nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """ArtifactError that lists every tensor that is missing, unknown or mis-shaped; `model` may be on the meta device."""
    own = model.state_dict()
    facts = [f"missing: {n}" for n in own if n not in state] + [
        f"unknown: {n}" for n in state if n not in own
    ]
    facts += [
        f"shape of {n}: {tuple(state[n].shape)}, the model needs {tuple(own[n].shape)}"
        for n in own
        if n in state and state[n].shape != own[n].shape
    ]
    if facts:
        raise ArtifactError(f"the weights of {where} do not fit the architecture", facts=first_of(facts, 20))


def channels_last(model: ReferringModel) -> ReferringModel:
    """Convolutions run faster with channels last (about a quarter of a training step of the small model)."""
    model.vision.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.fusion.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model
