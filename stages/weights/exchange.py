"""A model as a folder that other programs can read: safetensors for the weights, JSON for everything else.

config.json                 format, kind, architecture, preprocessing, history, which file holds which weights
vocabulary.json             the word list, or the tokenizer
model.safetensors           the weights that `predict` uses, plain names
model.<group>.safetensors   further groups (raw weights, moving average), when the model has them
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.artifacts import Artifact
from stages.artifacts.json_forms import ExportedModel, history_rows, problem_of_form
from stages.data.text import TextCodec, codec_from_dict
from stages.errors import ArtifactError
from stages.file_kinds import refuse_other_kinds
from stages.models.config import ModelConfig
from stages.untrusted import parse_json, plain, require_regular, shown
from stages.weights.model_file import built, described, require_fit

FORMAT, VERSION = "seqres-model", 1
PREFERRED = ("best", "ema", "weights")  # the group that `predict` uses comes first
_LARGEST_JSON = 256 << 20  # bytes; a tokenizer can have tens of millions
CONFIG, VOCABULARY, WEIGHTS = "config.json", "vocabulary.json", "model.safetensors"


@dataclass(frozen=True)
class Exported:
    """What an exported folder holds. `groups`: weights, ema, best -> state dict."""

    kind: str
    config: ModelConfig
    codec: TextCodec
    groups: dict[str, dict[str, Tensor]]
    history: list[dict[str, Any]]
    attributes: dict[str, Any]


def write_folder(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """Write a model artifact's content into an empty folder; returns the content of config.json."""
    present = [g for g in PREFERRED if artifact.names(f"{g}/")]
    files = {}
    for i, group in enumerate(present):
        name = WEIGHTS if i == 0 else f"model.{group}.safetensors"
        state = {
            n.removeprefix(f"{group}/"): torch.from_numpy(artifact[n].copy())
            for n in artifact.names(f"{group}/")
        }
        save_file(state, folder / name, metadata={"format": "pt"})
        files[group] = name
    description = {
        "format": FORMAT,
        "version": VERSION,
        "kind": artifact.kind,
        "architecture": artifact.json("architecture"),
        "preprocessing": artifact.json("preprocessing"),
        "weights": files,
        "history": history_rows(artifact.json("history")),
        "attributes": {
            k: v for k, v in artifact.attrs.items() if k.endswith("_digest") and k != "content_digest"
        },
        "source_digest": artifact.digest,
    }
    _write_json(folder / VOCABULARY, artifact.json("vocabulary"))
    _write_json(folder / CONFIG, description)
    return description


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def read_folder(folder: Path) -> Exported:
    """Inverse of `write_folder`.

    Raises:
        ArtifactError: a file is missing or damaged, the format is newer, or tensors do not fit (each is listed).
    """
    description = _read_json(folder / CONFIG)
    if description.get("format") != FORMAT:
        raise ArtifactError(
            f"{folder / CONFIG} does not describe a seqres model",
            hint="give a folder written by seqres export-weights",
        )
    if isinstance(version := description.get("version", 0), int) and version > VERSION:
        raise ArtifactError(
            f"{folder} has format version {shown(version)}, this program reads up to {VERSION}",
            hint="update seqres",
        )
    if (problem := problem_of_form(ExportedModel, CONFIG, description)) is not None:
        raise ArtifactError(f"{folder / CONFIG} is incomplete", facts=[problem])
    config = described(description["architecture"], str(folder / CONFIG))
    codec = codec_from_dict(_read_json(folder / VOCABULARY))
    groups = {}
    for group, name in description["weights"].items():
        if group not in PREFERRED or Path(name).name != name:
            raise ArtifactError(f"{folder / CONFIG} names the weights {shown(group)} in {shown(name)}")
        groups[group] = _read_tensors(folder / name)
    stored = max((sum(t.numel() for t in state.values()) for state in groups.values()), default=0)
    with torch.device("meta"):
        model = built(config, codec.size, stored, str(folder))
    for group, state in groups.items():
        require_fit(model, state, where=str(folder / description["weights"][group]))
    return Exported(
        description["kind"], config, codec, groups, description["history"], description.get("attributes", {})
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        require_regular(path, largest=_LARGEST_JSON, what="JSON file")
        value = parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"no such file: {path}", hint="give a folder written by seqres export-weights"
        ) from error
    except (OSError, ValueError) as error:
        refuse_other_kinds(path, but="JSON")
        raise ArtifactError(f"{path} is no JSON that can be read", facts=[plain(str(error), 160)]) from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        require_regular(path, what="safetensors file")
        return dict(load_file(path))
    except FileNotFoundError as error:
        raise ArtifactError(f"no such file: {path}", facts=["named in config.json"]) from error
    except (SafetensorError, OSError, struct.error, ValueError) as error:
        refuse_other_kinds(path)
        raise ArtifactError(
            f"{path} is no safetensors file that can be read", facts=[str(error)[:160]]
        ) from error
