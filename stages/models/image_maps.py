"""Maps of a batch of images of different sizes, and the encoding that no image's neighbours can change.

Letters: I images, H x W memory cells of the batch's canvas, C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from stages.models.config import ModelConfig
from stages.models.to_device import to_device


@dataclass
class VisionMaps:
    """Image side of the memory, before any sentence.

    Attributes:
        cells: (I, C, H, W) float, zero outside each image's own cells.
        valid: (I, H, W) bool, cells that contain image pixels.
        own_cells_hw, valid_cells_hw: (I, 2) int64, see `Memory`.
        all_valid: every cell of every image is valid.
        finer: further maps (I, C', h, w) of finer strides, those that the model asked for, coarse to fine.
    """

    cells: Tensor
    valid: Tensor
    own_cells_hw: Tensor
    valid_cells_hw: Tensor
    all_valid: bool
    finer: list[Tensor] = field(default_factory=list)


def encode_images(
    encode: Callable[[Tensor], list[Tensor]],
    images: Tensor,
    sizes_hw: Tensor,
    *,
    stride: int,
    multiple: int,
    at_once: bool,
) -> VisionMaps:
    """`encode` applied to each image at its own padded size, so that what else is in the batch cannot change it.

    Args:
        encode: (I, 3, h, w) -> the memory's cells, then the finer maps.
        images: (I, 3, Hb, Wb) float, normalised, padding 0, sides multiples of the stride.
        sizes_hw: (I, 2) int64 pixels, the part of each that is image; on the host, which decides by them what to run.
        stride: pixels of a cell; multiple: an image's own padded size is the next multiple of this (and of the stride).
        at_once: encode the padded batch as one all the same, as training does.
    """
    h, w = images.shape[-2] // stride, images.shape[-1] // stride
    multiple = max(multiple, stride)
    sizes_hw, canvas_hw = sizes_hw.cpu(), torch.tensor([h, w])
    own = (sizes_hw + multiple - 1).div(multiple, rounding_mode="floor") * multiple // stride
    used = (sizes_hw + stride - 1).div(stride, rounding_mode="floor")
    at_once = at_once or torch.equal(own, canvas_hw.expand_as(own))
    all_valid = bool((used >= canvas_hw).all())
    maps = encode(images) if at_once else _by_size(encode, images, own, stride)
    own, used = (to_device(cells, images.device) for cells in (own, used))
    row = torch.arange(h, device=images.device)[None, :, None] < used[:, 0, None, None]
    column = torch.arange(w, device=images.device)[None, None] < used[:, 1, None, None]
    return VisionMaps(maps[0], row & column, own, used, all_valid, maps[1:])


def _by_size(
    encode: Callable[[Tensor], list[Tensor]], images: Tensor, own_cells_hw: Tensor, stride: int
) -> list[Tensor]:
    """Groups of images of the same own size, each put on the batch's canvas; own_cells_hw (I, 2) on the host."""
    canvases: list[Tensor] = []
    for size in own_cells_hw.unique(dim=0):
        group = to_device((own_cells_hw == size).all(1).nonzero()[:, 0], images.device)
        h, w = (int(v) * stride for v in size)
        parts = encode(images[group, :, :h, :w])
        if not canvases:
            canvases = [
                part.new_zeros(len(images), part.shape[1], *(side // (w // part.shape[-1]) for side in images.shape[-2:]))
                for part in parts
            ]  # fmt: skip
        for canvas, part in zip(canvases, parts, strict=True):
            canvas[group, :, : part.shape[-2], : part.shape[-1]] = part
    return canvases


def normalise(images: Tensor, sizes_hw: Tensor, config: ModelConfig) -> Tensor:
    """(I, 3, H, W) uint8 and (I, 2) sizes on the host -> float, minus mean, over std; padding is 0."""
    mean, std = (
        to_device(torch.tensor(values)[:, None, None], images.device)
        for values in (config.image.mean, config.image.std)
    )
    if images.dtype == torch.uint8 and images.device.type == "cpu":
        levels = torch.arange(256, dtype=torch.uint8)[:, None].expand(3, -1, 1)
        out = _looked_up(images, (levels / 255).sub_(mean).div_(std))
    else:
        out = (images / 255).sub_(mean).div_(std)
    for picture, (h, w) in zip(out, sizes_hw.tolist(), strict=True):
        if h < out.shape[2]:
            picture[:, h:] = 0
        if w < out.shape[3]:
            picture[:, :, w:] = 0
    return out


def _looked_up(images: Tensor, table: Tensor) -> Tensor:
    """Values (3, 256, 1) of a table for (I, 3, H, W) uint8, channels last: one pass where arithmetic makes three.

    Over channels last, which pictures are decoded to, torch's own loop is three values long (docs/BENCHMARKS.md, L1).
    """
    rows = images.permute(0, 2, 3, 1).contiguous().numpy()
    out = np.empty(rows.shape, np.float32)
    by_level = table.permute(1, 2, 0).contiguous().numpy()
    for picture, found in zip(rows, out, strict=True):
        cv2.LUT(picture, by_level, found)
    return torch.from_numpy(out).permute(0, 3, 1, 2)
