"""Promptable segmenters that `transformers` has (SAM, SAM-HQ, SAM 2 and 2.1, EdgeTAM ...), asked with boxes.

All come through `AutoModelForMaskGeneration`, from a local folder or hub id, safetensors only. Photographs are prepared
here, as the processor's JSON file says: the processors themselves need pillow or torchvision. P prompts, C masks each.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from stages.errors import ArtifactError, UsageError, first_of
from stages.hub import reachable_source
from stages.refinement.segmenter import HINT, MEAN, STD, Frame, interior_points

_PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_ONLY_LONGER_SIDE = ("sam", "sam_hq")  # the others stretch a photograph to a square
_SHOWN = 20  # names of missing weights


@dataclass(frozen=True)
class Preparation:
    """What becomes of a photograph before it is encoded: see `Frame`; (x * factor - mean) / std."""

    side: int
    stretch: bool
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    factor: float = 1 / 255


@dataclass
class EncodedPicture:
    """What the model's own `get_image_embeddings` gave, as keywords of its `forward`."""

    embeddings: dict[str, Any]
    frame: Frame


class HubSegmenter:
    """`Segmenter` of a mask generation model, asked with the box and so many points inside the old mask."""

    def __init__(
        self, model: Any, device: torch.device, prompt_points: int, preparation: Preparation
    ) -> None:
        self.model, self.device = model.to(device).eval(), device
        self.prompt_points, self.preparation = prompt_points, preparation

    @torch.inference_mode()
    def encode(self, picture: NDArray[np.uint8]) -> EncodedPicture:
        """See `Segmenter`."""
        how = self.preparation
        frame = Frame.of((picture.shape[0], picture.shape[1]), how.side, stretch=how.stretch)
        pixels = torch.from_numpy(frame.canvas(picture, how.mean, how.std, how.factor)).to(self.device)
        found = self.model.get_image_embeddings(pixels)
        if self.model.config.model_type == "sam_hq":
            return EncodedPicture({"image_embeddings": found[0], "intermediate_embeddings": found[1]}, frame)
        return EncodedPicture({"image_embeddings": found}, frame)

    @torch.inference_mode()
    def segment(
        self, encoded: EncodedPicture, boxes_xyxy: NDArray[np.floating], starts: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """See `Segmenter`."""
        scale = encoded.frame.scale_xy
        boxes = np.asarray(boxes_xyxy, np.float64) * np.tile(scale, 2)
        prompts = {"input_boxes": torch.tensor(boxes, dtype=torch.float32, device=self.device)[None]}
        if self.prompt_points:
            inside = np.stack([interior_points(mask, self.prompt_points) for mask in starts])
            # the models add half a pixel to a point, because they count pixels; our origin is the first one's corner
            points = torch.tensor(inside * scale - 0.5, dtype=torch.float32, device=self.device)[None]
            prompts["input_points"] = points
            prompts["input_labels"] = torch.ones(points.shape[:3], dtype=torch.long, device=self.device)
        out = self.model(**encoded.embeddings, **prompts, multimask_output=True)
        masks = encoded.frame.masks(out.pred_masks[0].float().cpu().numpy())
        return masks, out.iou_scores[0].float().cpu().numpy()


def load_hub_segmenter(source: str, device: torch.device, prompt_points: int) -> HubSegmenter:
    """A mask generation model from a local folder or hub id; safetensors only. See `HubSegmenter` for the points.

    Raises:
        UsageError: the model needs a package that is not installed (EdgeTAM: timm).
        ArtifactError: nothing is there, it generates no masks, its weights are pickles, damaged, or not complete.
    """
    from transformers import AutoConfig, AutoModelForMaskGeneration
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING_NAMES as KNOWN

    _refuse_pickles(source)
    source = reachable_source(source, "segmenter")
    try:
        kind = AutoConfig.from_pretrained(source).model_type
        if kind not in KNOWN:
            known = ", ".join(name for name in KNOWN if not name.endswith("_video"))
            raise ArtifactError(
                f"{source} is a model of type {kind!r}, which draws no masks for boxes",
                facts=[f"those that do: {known}"],
                hint=HINT,
            )
        model, report = AutoModelForMaskGeneration.from_pretrained(
            source, use_safetensors=True, output_loading_info=True
        )
        preparation = _preparation(source, model)
    except ImportError as error:
        raise UsageError(
            f"{source} needs a package that is not installed",
            facts=[str(error).strip().splitlines()[0]],
            hint="pip install timm" if "timm" in str(error) else "install what is named above",
        ) from error
    except (OSError, ValueError, SafetensorError) as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        raise ArtifactError(f"no segmenter at {source!r}", facts=lines[:1], hint=HINT) from error
    missing = sorted(report["missing_keys"])
    if missing:
        facts = first_of([f"missing: {k}" for k in missing], _SHOWN)
        raise ArtifactError(f"{source} does not hold the whole {kind}", facts=facts)
    return HubSegmenter(model, device, prompt_points, preparation)


def _preparation(source: str, model: Any) -> Preparation:
    """From the processor's JSON file, where there is one; its size must be the model's own."""
    from transformers.utils import cached_file

    image_size = model.config.prompt_encoder_config.image_size
    sides = {int(v) for v in (image_size if isinstance(image_size, list | tuple) else [image_size])}
    if len(sides) != 1:
        raise ArtifactError(f"segmenters take square pictures, this one {image_size}")
    side = sides.pop()
    stretch = model.config.model_type not in _ONLY_LONGER_SIDE
    found: Mapping[str, Any] = {}
    for name in _PROCESSOR_FILES:
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            read = json.loads(Path(path).read_text("utf-8"))
            found = read.get("image_processor", read) if isinstance(read, dict) else {}
            break
    size = found.get("size")
    if isinstance(size, Mapping):
        stretch = "longest_edge" not in size
        given = [int(v) for v in size.values() if v]
        if any(v != side for v in given):
            raise ArtifactError(
                f"{source} prepares pictures of {' x '.join(map(str, given))} px, but its model takes {side} px",
                hint="correct the size in the processor's JSON file",
            )
    factor = float(found.get("rescale_factor") or 1 / 255) if found.get("do_rescale", True) else 1.0
    if not found.get("do_normalize", True):
        return Preparation(side, stretch, (0.0,) * 3, (1.0,) * 3, factor)
    mean, std = (
        tuple(float(v) for v in found.get(k) or d) for k, d in (("image_mean", MEAN), ("image_std", STD))
    )
    return Preparation(side, stretch, mean, std, factor)


def _refuse_pickles(source: str) -> None:
    """ArtifactError for a local checkpoint whose weights could only be unpickled."""
    path = Path(source)
    if path.is_file():
        raise ArtifactError(f"{source} is a file, a segmenter of transformers is a folder", hint=HINT)
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return
    pickles = sorted(p.name for pattern in _PICKLES for p in path.glob(pattern))
    if pickles:
        raise ArtifactError(
            f"the weights in {source} are pickles, which are not read: {pickles[0]}",
            hint="take a checkpoint with model.safetensors, or convert it where you trust it: "
            'AutoModelForMaskGeneration.from_pretrained(…).save_pretrained("folder")',
        )
