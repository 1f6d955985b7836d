"""A promptable segmenter (SAM, through `transformers`): picture, box and points in, masks out.

The points lie deep inside the outline that is to be redrawn. P prompts, C masks offered for each. Pictures are prepared
here: SAM's own processor needs pillow or torchvision. An image is encoded once for all of its prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch.nn import functional

from stages.errors import ArtifactError
from stages.hub import reachable_source

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of every published SAM checkpoint
MODEL_TYPE = "sam"
_PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
_AT_ONCE = 8  # prompts: three masks of 1024 x 1024 floats each
_HINT = "give a local folder with config.json and model.safetensors, or a hub id while the hub can be reached"


class MaskPredictor(Protocol):
    """What refinement needs of a segmenter."""

    def encode(self, picture: NDArray[np.uint8]) -> Any:
        """(H, W, 3) RGB -> whatever `draw` takes."""

    def draw(
        self,
        encoded: Any,
        boxes_xyxy: NDArray[np.floating],
        drawn: NDArray[np.bool_],
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Masks (P, C, H, W) and the segmenter's own estimate of their IoU (P, C), NaN if it has none.

        boxes_xyxy (P, 4): pixels of the original image. drawn (P, H, W): the masks to be redrawn, none empty.
        """


@dataclass
class EncodedPicture:
    """embedding (1, D, h, w); own_hw: the part of the square input that is picture; size_hw: of the original."""

    embedding: torch.Tensor
    own_hw: tuple[int, int]
    size_hw: tuple[int, int]


class Sam:
    """`MaskPredictor` of a `transformers` SamModel, asked with the box and so many points inside the old mask."""

    def __init__(self, model: Any, device: torch.device, prompt_points: int) -> None:
        self.model, self.device, self.prompt_points = model.to(device).eval(), device, prompt_points
        self.side = int(model.config.vision_config.image_size)

    @torch.inference_mode()
    def encode(self, picture: NDArray[np.uint8]) -> EncodedPicture:
        """Longer side to the model's input, normalised, zeros at the bottom or right."""
        h, w = picture.shape[:2]
        own = own_size(h, w, self.side)
        shrinks = max(h, w) > self.side
        resized = cv2.resize(
            picture, own[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        )
        pixels = (torch.from_numpy(resized).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        canvas = torch.zeros(1, 3, self.side, self.side)
        canvas[0, :, : own[0], : own[1]] = pixels.permute(2, 0, 1)
        embedding = self.model.get_image_embeddings(canvas.to(self.device))
        return EncodedPicture(embedding, own, (h, w))

    @torch.inference_mode()
    def draw(
        self,
        encoded: EncodedPicture,
        boxes_xyxy: NDArray[np.floating],
        drawn: NDArray[np.bool_],
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """See `MaskPredictor`."""
        points_xy = np.stack([interior_points(mask, self.prompt_points) for mask in drawn])
        scale = np.array(encoded.own_hw[::-1]) / np.array(encoded.size_hw[::-1])
        # SamModel adds half a pixel to a point, because it counts pixels; our origin is the corner of the first one.
        points = points_xy.astype(np.float64) * scale - 0.5
        boxes = np.asarray(boxes_xyxy, np.float64) * np.tile(scale, 2)
        masks, scores = [], []
        for start in range(0, len(boxes), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            given = torch.tensor(points[part], dtype=torch.float32, device=self.device)[None]
            with_points = given.shape[2] > 0
            out = self.model(
                image_embeddings=encoded.embedding,
                input_boxes=torch.tensor(boxes[part], dtype=torch.float32, device=self.device)[None],
                input_points=given if with_points else None,
                input_labels=torch.ones_like(given[..., 0], dtype=torch.long) if with_points else None,
                multimask_output=True,
            )
            masks.append(at_original_size(out.pred_masks[0], self.side, encoded.own_hw, encoded.size_hw))
            scores.append(out.iou_scores[0].float().cpu().numpy())
        return np.concatenate(masks), np.concatenate(scores)


def interior_points(mask: NDArray[np.bool_], n: int) -> NDArray[np.float32]:
    """n pixel centres deep inside a mask (H, W) that is not empty, and apart from each other: (n, 2) float32 xy.

    Each is the largest of min(distance to the border, distance to the points before it); a mask of fewer pixels gives
    some twice.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    window = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    # a frame of one empty pixel, so that the edge of the window is a border, too
    depth = cv2.distanceTransform(np.pad(window, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.mgrid[: window.shape[0], : window.shape[1]]
    points = np.zeros((n, 2), np.float32)
    for k in range(n):
        at = int(depth.argmax())
        v, u = divmod(at, window.shape[1])
        points[k] = (u + left + 0.5, v + top + 0.5)
        if depth.flat[at] > 0:
            depth = np.minimum(depth, np.hypot(x - u, y - v))
        else:  # every pixel is taken
            points[k] = points[0]
    return points


def own_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) of a picture whose longer side is made `side`."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def at_original_size(
    logits: torch.Tensor, side: int, own_hw: tuple[int, int], size_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    """Logits (P, C, h, w) over the padded square -> masks (P, C, H, W) of the picture."""
    full = functional.interpolate(logits.float(), (side, side), mode="bilinear", align_corners=False)
    own = full[..., : own_hw[0], : own_hw[1]]
    return np.asarray(
        (functional.interpolate(own, size_hw, mode="bilinear", align_corners=False) > 0).cpu().numpy()
    )


def load_sam(source: str, device: torch.device, prompt_points: int) -> Sam:
    """A SAM checkpoint from a local folder or hub id; safetensors only. See `Sam` for the points.

    Raises:
        ArtifactError: nothing is there, it is no SAM, its weights are pickles, damaged, or not complete.
    """
    from transformers import AutoConfig, SamModel

    _refuse_pickles(source)
    source = reachable_source(source, "SAM checkpoint")
    try:
        kind = AutoConfig.from_pretrained(source).model_type
        if kind != MODEL_TYPE:
            raise ArtifactError(
                f"{source} is a model of type {kind!r}, not {MODEL_TYPE!r}",
                hint="give a checkpoint of the first SAM (vit-base, vit-large, vit-huge, or a slim one)",
            )
        loader: Any = (
            SamModel.from_pretrained
        )  # with loading info it returns a pair, which its types do not say
        model, report = loader(source, use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(
            f"no SAM checkpoint at {source!r}", facts=[str(error).strip().splitlines()[0]], hint=_HINT
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        more = [f"and {len(missing) - 20} more"] if len(missing) > 20 else []
        raise ArtifactError(
            f"{source} does not hold the whole SAM", facts=[f"missing: {k}" for k in missing[:20]] + more
        )
    return Sam(model, device, prompt_points)


def _refuse_pickles(source: str) -> None:
    """ArtifactError for a local checkpoint whose weights could only be unpickled."""
    path = Path(source)
    if path.is_file():
        raise ArtifactError(f"{source} is a file, a SAM checkpoint is a folder", hint=_HINT)
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return
    pickles = sorted(p.name for pattern in _PICKLES for p in path.glob(pattern))
    if pickles:
        raise ArtifactError(
            f"the weights in {source} are pickles, which are not read: {pickles[0]}",
            hint="take a checkpoint with model.safetensors, or convert it where you trust it: "
            'SamModel.from_pretrained(…).save_pretrained("folder")',
        )
