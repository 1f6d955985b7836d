"""Pretrained parts: the shipped RefShapes backbone, or any backbone / text encoder from a local folder or hub id."""

import dataclasses
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from stages.errors import ArtifactError, first_of
from stages.file_kinds import refuse_other_kinds
from stages.hub import reachable_source
from stages.models.build import ReferringModel
from stages.models.config import SHIPPED, TextConfig, VisionConfig
from stages.untrusted import require_regular
from stages.weights.model_file import load_state

_MOST_STAGES = 6  # of a pyramid, with its stem; more are the layers of a ViT, which all have one stride
_NOT_SEMANTIC = ("transformers_version", "torch_dtype", "dtype", "architectures", "_name_or_path")


def shipped_backbone(name: str = SHIPPED[0]) -> dict[str, Tensor]:
    """State dict of a small ResNet trained by scripts/pretrain_backbone.py, float32. name: one of SHIPPED."""
    data = resources.files("stages.weights").joinpath(f"shipped/{name}_backbone.safetensors").read_bytes()
    return {name: value.float() for name, value in load_safetensors(data).items()}


def describe_vision(config: VisionConfig) -> VisionConfig:
    """Fill `settings` from the source's own config, so that the artifact is self-contained."""
    if config.kind != "auto" or config.source is None or config.source in SHIPPED or config.settings:
        return config
    return dataclasses.replace(config, settings=_with_levels(_settings(config.source)))


def _with_levels(settings: dict[str, Any]) -> dict[str, Any]:
    """The last three stages of a pyramid (ResNet, Swin, ConvNeXt: strides 8, 16, 32), the last layer of a ViT."""
    from transformers import AutoConfig

    names = list(AutoConfig.for_model(**settings).stage_names)
    levels = names[-3:] if len(names) <= _MOST_STAGES else names[-1:]
    return {**{k: v for k, v in settings.items() if k != "out_indices"}, "out_features": levels}


def describe_text(config: TextConfig) -> TextConfig:
    if config.kind != "auto" or config.source is None or config.settings:
        return config
    return dataclasses.replace(config, settings=_settings(config.source))


def _settings(source: str) -> dict[str, Any]:
    from transformers import AutoConfig

    try:
        settings = AutoConfig.from_pretrained(reachable_source(source)).to_dict()
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"no transformers model at {source!r}",
            facts=[str(error).splitlines()[0]],
            hint="give a local folder with config.json and model.safetensors, or a hub id while the hub can be reached",
        ) from error
    return {k: v for k, v in settings.items() if k not in _NOT_SEMANTIC}


@torch.no_grad()
def load_pretrained_parts(model: ReferringModel) -> list[str]:
    """Load what `model.config` names; returns one line a part about what was loaded."""
    lines = []
    vision, text = model.config.vision, model.config.text
    if vision.source in SHIPPED:
        shipped = {f"backbone.{k}": v for k, v in shipped_backbone(vision.source).items()}
        load_state(model.vision.body, shipped, where="the shipped backbone")
        lines.append(f"backbone: the weights called {vision.source} that come with seqres")
    elif vision.kind == "darknet53" and vision.source:
        from stages.weights.darknet import load_darknet

        loaded = load_darknet(model.vision.body, Path(vision.source))
        lines.append(
            f"backbone: {len(loaded.read)} tensors of {vision.source}, {loaded.left_over} numbers left over"
        )
    elif vision.kind == "auto" and vision.source:
        body: Any = model.vision.body
        load_state(body.backbone, _backbone_weights(body.backbone, vision.source), where=vision.source)
        lines.append(f"backbone: {vision.source}")
    if text.kind == "auto" and text.source:
        from transformers import AutoModel

        encoder: Any = model.text
        pretrained = _from_source(AutoModel.from_pretrained, text.source)
        load_state(encoder.encoder, pretrained.state_dict(), where=text.source)
        lines.append(f"text encoder: {text.source}")
    return lines


def _backbone_weights(backbone: Any, source: str) -> dict[str, Tensor]:
    """State dict of a pretrained backbone of the same class; also from a classifier's folder, whose head is left.

    Norms that an AutoBackbone adds on its outputs have no pretrained values and keep 1 and 0. The class itself is asked,
    because AutoBackbone.from_pretrained looks for local folders on the hub.
    """
    levels = list(backbone.out_features)
    pretrained, report = _from_source(
        lambda name: type(backbone).from_pretrained(name, out_features=levels, output_loading_info=True),
        source,
    )
    missing = [k for k in report["missing_keys"] if not k.startswith("hidden_states_norms.")]
    if missing:
        facts = first_of([f"missing: {k}" for k in sorted(missing)], 20)
        raise ArtifactError(f"{source} does not hold the whole backbone", facts=facts)
    state: dict[str, Tensor] = pretrained.state_dict()
    return state


def _from_source(load: Callable[[str], Any], source: str) -> Any:
    try:
        return load(reachable_source(source))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"no pretrained weights at {source!r}",
            facts=[str(error).splitlines()[0]],
            hint="give a local folder with config.json and model.safetensors, or a hub id while the hub can be reached",
        ) from error


def load_word_vectors(model: ReferringModel, words: list[str], path: Path) -> int:
    """Word vectors from a GloVe text file (`word v1 … vD` a line) into the word table; returns how many were found."""
    require_regular(path, what="file of word vectors")
    refuse_other_kinds(path, hint="give a GloVe text file")
    encoder: Any = model.text
    table = encoder.embedding.weight
    wanted = {w: i for i, w in enumerate(words)}
    found = 0
    with path.open(encoding="utf-8-sig", errors="replace") as f:  # GloVe's own files have broken words
        for number, line in enumerate(f, 1):
            word, _, rest = line.rstrip().partition(" ")
            if word not in wanted:
                continue
            try:
                vector = np.array(rest.split(), np.float32)
            except ValueError:
                raise ArtifactError(f"{path}, line {number}: no numbers for {word!r}") from None
            if vector.shape != (table.shape[1],):
                raise ArtifactError(
                    f"{path}, line {number}: {len(vector)} numbers for {word!r}, the model's words have {table.shape[1]}",
                    hint="choose the GloVe file of that width",
                )
            with torch.no_grad():
                table[wanted[word]] = torch.from_numpy(vector)
            found += 1
    if not found:
        raise ArtifactError(
            f"{path} has none of the data set's {len(words)} words", hint="is it a GloVe text file?"
        )
    return found
