"""Boxes as the detector predicts them: centre and size relative to the image, and their generalised IoU.

Everywhere else in the project a box is xyxy in pixels; these four functions are the border.
"""

import torch
from torch import Tensor


def centre_to_corners(boxes_cxcywh: Tensor) -> Tensor:
    """(..., 4) centre x, centre y, width, height -> x1 y1 x2 y2, same unit."""
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), -1)


def corners_to_centre(boxes_xyxy: Tensor) -> Tensor:
    """Inverse of `centre_to_corners`."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat(((low + high) / 2, high - low), -1)


def _area(boxes_xyxy: Tensor) -> Tensor:
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).prod(-1)


def giou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Generalised IoU, in [-1, 1], of boxes that broadcast against each other: (..., 4), (..., 4) -> (...).

    IoU minus the share of the smallest enclosing box that neither covers: unlike IoU it still tells near from far
    when the boxes do not touch.
    """
    low, high = (
        torch.maximum(a_xyxy[..., :2], b_xyxy[..., :2]),
        torch.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:]),
    )
    shared = (high - low).clamp(min=0).prod(-1)
    union = _area(a_xyxy) + _area(b_xyxy) - shared
    outer_low, outer_high = (
        torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2]),
        torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:]),
    )
    outer = (outer_high - outer_low).clamp(min=0).prod(-1)
    union, outer = union.clamp(min=1e-12), outer.clamp(min=1e-12)  # boxes without area
    return shared / union - (outer - union) / outer
