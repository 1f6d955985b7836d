"""Architecture of a model as plain data; presets.toml names some.

A `ModelConfig` travels inside every model artifact as JSON; `stages.models.build.build_model` is the only
place that turns it into modules.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stages.errors import UsageError
from stages.untrusted import shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# mask: box and mask of a detector (mdetr)
Sequence = Literal["box", "contour", "box-contour", "multitask", "mask"]
TaskToken = Literal["zero", "learnable", "task-wise"]

SHIPPED = ("refshapes", "objects", "objects-all")  # names of the backbones that come with the package


# the least and the most that a size may be: a description comes out of a file, and decides what is built
_SIZES: dict[str, dict[str, tuple[int, int]]] = {
    "model": {
        "n_points": (0, 10_000), "n_bins": (0, 1_000_000), "auxiliary_mask": (0, 64), "d_model": (1, 16_384),
        "n_heads": (1, 1024), "encoder_layers": (0, 128), "decoder_layers": (0, 128), "ffn_dim": (1, 131_072),
        "dropout": (0, 1),
    },
    "image": {"size": (1, 4096), "multiple": (1, 4096)},
    "fusion": {"channels": (1, 16_384), "fine_channels": (1, 16_384)},
    "text": {"word_dim": (1, 16_384), "hidden": (1, 16_384), "max_words": (1, 10_000)},
    "detector": {
        "queries": (1, 10_000), "classes": (1, 100_000), "align_dim": (0, 16_384), "mask_channels": (1, 16_384),
    },
}  # fmt: skip


@dataclass(frozen=True)
class ImageConfig:
    """How a photograph becomes the network input."""

    size: int = 640  # pixels, longer side after resizing
    multiple: int = 32  # pixels, each image's own padded sides are multiples of this
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # RGB, of values in [0, 1]
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VisionConfig:
    """Backbone: `darknet53`, or any `transformers` AutoBackbone described by its own config."""

    kind: Literal["auto", "darknet53"] = "auto"
    source: str | None = None  # local folder or hub id the weights came from; None = `settings` or shipped
    # the transformers config, so that a model artifact needs nothing else
    settings: Mapping[str, Any] = field(default_factory=dict)
    frozen: Literal["none", "all", "all-but-last-two"] = "none"  # which parts get no gradient
    # frozen parts also keep their batch-norm statistics (the release lets them drift)
    frozen_batch_norm: bool = True


@dataclass(frozen=True)
class FusionConfig:
    """How several backbone levels become one map at the memory's stride."""

    # bottom-up: SeqTR; patch: space-to-depth keeps fine detail in the cell; last: the coarsest level alone (MDETR);
    # added: the first of three levels on top of it through two strided convolutions (SiRi)
    kind: Literal["bottom-up", "patch", "last", "added"] = "patch"
    channels: int = 256  # channels of the fused map, equal to the width of the sentence vector
    fine_channels: int = 32  # channels kept of each finer level before space-to-depth (patch only)


@dataclass(frozen=True)
class TextConfig:
    """Sentence encoder: a bidirectional GRU over words, or any `transformers` AutoModel."""

    kind: Literal["gru", "auto"] = "gru"
    source: str | None = None  # local folder or hub id (auto)
    settings: Mapping[str, Any] = field(default_factory=dict)
    word_dim: int = 300  # GloVe's width (gru)
    hidden: int = 512  # a direction (gru)
    max_words: int = 15  # words (gru) or sub-words (auto) kept; 20 for RefCOCOg
    frozen_words: bool = True  # word vectors get no gradient (they come from GloVe)
    # the backward direction starts at the last word; False = at the padding, as the release
    packed: bool = True


@dataclass(frozen=True)
class DetectorConfig:
    """Queries and heads of the `mdetr` family (METHOD.md section 5)."""

    queries: int = 16  # boxes proposed for a sentence
    # soft-token classes beside "no object": 1 = SiRi's single class, 255 = MDETR's word positions
    classes: int = 1
    align_dim: int = 0  # width of the contrastive space of queries and words; 0 = no contrastive loss
    # multi-task SiRi: a second decoder with a fixed 4 x 4 grid of queries, which answers
    second_decoder: bool = False
    # embedding: the supplement's; attention: the original's
    mask_head: Literal["embedding", "attention"] = "embedding"
    mask_channels: int = 32  # pixel features of the embedding head at the finest level
    frozen: bool = False  # segmentation trains the mask head alone
    # cells enter the encoder multiplied by the sentence, as SeqTR's do (the original's meet the words only there)
    sentence_gate: bool = False


# the parts of a ModelConfig
PARTS: dict[str, type[Any]] = {
    "image": ImageConfig, "vision": VisionConfig, "fusion": FusionConfig, "text": TextConfig, "detector": DetectorConfig,
}  # fmt: skip
# model files keep the names that they were first written with
_STORED_NAMES = {"auxiliary_mask": "grounding"}


@dataclass(frozen=True)
class ModelConfig:
    """A point-sequence model (`seqtr`, METHOD.md sections 2 and 3) or a detector (`mdetr`, section 5)."""

    family: Literal["seqtr", "mdetr"] = "seqtr"
    sequence: Sequence = "box"
    n_points: int = 12
    n_bins: int = 1000
    task_token: TaskToken = "zero"
    text_in_memory: Literal["none", "sentence", "words"] = "none"
    cctf: bool = False
    pmca: bool = False
    # crop refinement: contours are predicted in a square window around the box, wider by this share
    zoom_margin: float | None = None
    # a finished point is shown the finer backbone map under it (beyond the paper)
    point_content: bool = False
    # the auxiliary mask head: where the referent is, for a loss beside the tokens' (beyond the paper): so many sub-cells a side
    # of each memory cell; 0 = no such head
    auxiliary_mask: int = 0
    semantics: Literal["corrected", "release"] = "corrected"
    d_model: int = 256
    n_heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 3
    ffn_dim: int = 1024
    dropout: float = 0.1
    image: ImageConfig = ImageConfig()
    vision: VisionConfig = VisionConfig()
    fusion: FusionConfig = FusionConfig()
    text: TextConfig = TextConfig()
    detector: DetectorConfig = DetectorConfig()

    def __post_init__(self) -> None:
        for where, part in (
            ("model", self), ("image", self.image), ("fusion", self.fusion), ("text", self.text),
            ("detector", self.detector),
        ):  # fmt: skip
            for key, (low, high) in _SIZES[where].items():
                _require_size(where, key, getattr(part, key), low, high)
        for where, settings in (("vision", self.vision.settings), ("text", self.text.settings)):
            _require_settings(where, settings)
        if self.sequence != "box" and (self.family == "mdetr") != (self.sequence == "mask"):
            raise UsageError(f"the model family {self.family!r} does not write {self.sequence!r}")
        if self.d_model % self.n_heads or self.d_model % 4:
            raise UsageError(
                f"d_model must be a multiple of 4 and of n_heads, got {self.d_model} and {self.n_heads}"
            )
        if self.sequence != "box" and self.n_points < 3:
            raise UsageError(f"n_points must be at least 3 to enclose an area, got {self.n_points}")
        if self.n_bins < 2:
            raise UsageError(f"n_bins must be at least 2, got {self.n_bins}")
        if (self.task_token == "task-wise") != (self.sequence == "multitask"):
            raise UsageError(
                f"task token 'task-wise' and sequence 'multitask' go together, got {self.task_token!r} and {self.sequence!r}"
            )

    def replace(self, **changes: Any) -> ModelConfig:
        return dataclasses.replace(self, **changes)

    @property
    def answers_masks(self) -> bool:
        """Whether it answers with a mask or contour, not only with a box."""
        return self.sequence != "box"

    @property
    def answers_boxes(self) -> bool:
        """Whether it answers with a box of its own, so that box-only referents can train it."""
        return self.sequence != "contour"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, under the names that files have; what only the other family uses is left out."""
        values = {_STORED_NAMES.get(name, name): value for name, value in dataclasses.asdict(self).items()}
        if self.family == "seqtr":
            del values["detector"]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Inverse of `to_dict`; unknown keys raise `UsageError` by name."""
        own_names = {stored: name for name, stored in _STORED_NAMES.items()}
        values = {own_names.get(name, name): value for name, value in data.items()}
        for name, part in PARTS.items():
            if name in values:
                values[name] = _from_dict(part, values[name], name)
        return _from_dict(cls, values, "model")


def _from_dict(cls: type[Any], data: Any, where: str) -> Any:
    """The part of a description as its dataclass, each value of the type that is declared there."""
    from pydantic import ValidationError

    if isinstance(data, cls):
        return data
    if not isinstance(data, Mapping):
        raise UsageError(f"the {where} configuration is {shown(data)}, not a table of keys")
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise UsageError(
            f"unknown key {shown(unknown[0])} in the {where} configuration",
            facts=[f"known keys: {', '.join(sorted(known))}"],
        )
    try:
        return _adapter(cls).validate_python(dict(data))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(str(part)[:40] for part in first["loc"])
        raise UsageError(f"{key} of the {where} configuration: {first['msg'].lower()}") from error


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    """Made once: that takes longer than reading a description with it."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _require_size(where: str, key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{key} of the {where} configuration must be {low} to {high}, got {shown(value)}")


def _require_settings(where: str, settings: Any, key: str = "settings") -> None:
    """Sizes in the settings of a backbone or text encoder: nothing is built that could only fill the memory."""
    parts = settings.items() if isinstance(settings, Mapping) else enumerate(settings)
    for name, value in parts:
        inner = f"{key}.{name}"[:60]
        if isinstance(value, Mapping | list | tuple):
            _require_settings(where, value, inner)
        elif isinstance(value, int):
            deep = "depth" in inner or "layers" in inner
            _require_size(where, inner, value, -1_000_000, 512 if deep else 1_000_000)
