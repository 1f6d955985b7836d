"""What the public code computes that seqres has no use for: kept to compare numbers (docs/SEMANTICS.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stages.geometry.projection import profile_distance
from stages.geometry.quantisation import quantise_release
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask
from stages.geometry.resampling import sample_release
from stages.models.mdetr_criterion import LossWeights

Spans = Sequence[tuple[int, int]]


def quantise_vertices_release(vertices_xy: ArrayLike, size_wh: ArrayLike, n_bins: int) -> NDArray[np.int64]:
    """Contour targets as the release makes them: (..., 2) vertices, -1 = none -> tokens, negative ones
    become END.

    The -1 passes through the scaling first, so on sides longer than `n_bins` pixels it truncates to bin 0,
    not END.
    """
    tokens = quantise_release(vertices_xy, size_wh, n_bins)
    return np.where(tokens < 0, n_bins, tokens)


def sample_by_angle(mask: NDArray[Any], n: int) -> NDArray[np.float32]:
    """One contour pixel at each of n angles round the mass centre: (n, 2) float32 xy, rows of -1 where it finds none.

    Where there are fewer than n pixels or the centre lies outside, the release samples the contour instead.
    """
    chains, _ = cv2.findContours(
        np.asarray(mask, dtype=bool).view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE
    )
    chain = max(chains, key=cv2.contourArea)
    moments = cv2.moments(chain)
    if not moments["m00"] > 0:
        return sample_release(mask, n)
    mass_centre = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    if len(chain) < n or cv2.pointPolygonTest(chain, mass_centre, False) <= 0:
        return sample_release(mask, n)
    found = _sample_angles(chain.reshape(-1, 2), np.array(mass_centre), n)
    points = np.full((n, 2), -1.0, dtype=np.float32)
    points[: len(found)] = np.clip(found, 0, (mask.shape[1] - 1, mask.shape[0] - 1))
    return points


def _sample_angles(chain: NDArray[Any], mass_centre: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """For every 360/n-th whole degree the farthest contour pixel there, or at the nearest of the degrees
    within +-5 (the larger first); none across 0/360; an angle without a pixel is left out."""
    x, y = (chain - mass_centre).T
    degrees = np.degrees(np.arctan2(y, x))
    degrees = np.where(degrees < 0, degrees + 360, degrees).astype(np.int64)
    farthest = np.full(360 + 6, -1.0)
    np.maximum.at(farthest, degrees, np.hypot(x, y))
    wanted = np.arange(0, 360, 360 // n)[:n, None]
    candidates = wanted + np.array([0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5])
    known = (candidates >= 0) & (farthest[candidates] >= 0)
    rows = np.flatnonzero(known.any(axis=1))
    angle = candidates[rows, known[rows].argmax(axis=1)]
    direction = np.stack([np.cos(np.radians(angle)), np.sin(np.radians(angle))], axis=1)
    return mass_centre + farthest[angle][:, None] * direction


def projection_score_release(rle: Mapping[str, Any], box_xywh: ArrayLike) -> tuple[float | None, int]:
    """The release's score: (score or None when it finds no polygon, number of polygons it finds).

    The mask goes through cv2 polygons (losing a pixel in width and height; holes become filled polygons of
    their own), the box is cut to whole numbers, and several polygons are compared with as many copies of
    the box. With more than one polygon the release then rejects the sample whatever its score.
    """
    height, width = (int(v) for v in rle["size"])
    pixels = rle_to_mask(rle).view(np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [c.reshape(-1, 2) for c in contours if len(c) > 2]
    if not polygons:
        return None, 0
    filled = [polygon_to_rle(polygon, (height, width)) for polygon in polygons]
    masks = np.stack([rle_to_mask(part) for part in filled], axis=-1)  # (H, W, polygons)
    corner_size = np.asarray(box_xywh, dtype=np.float64).astype(np.int64)
    score = 0.0
    for axis, length in ((0, width), (1, height)):
        profile = masks.any(axis=axis)
        start = corner_size[axis]
        wanted = np.zeros((length, 1), dtype=bool)
        wanted[start : start + corner_size[axis + 2]] = True
        shared, covered = (profile & wanted).sum(), profile.sum()
        score += float(profile_distance(shared, covered, wanted.sum() * len(polygons)))
    return score, len(polygons)


def batch_averaged(correct: ArrayLike, batch_sizes: ArrayLike) -> float:
    """The release's Acc@0.5 and Pr@X: the mean of the batches' means, wrong when the last batch is smaller.

    `correct` (N,) is 0/1 a sample in reading order; the sizes add up to N.
    """
    values = np.asarray(correct, dtype=np.float64)
    ends = np.cumsum(np.asarray(batch_sizes, dtype=np.int64))
    if len(ends) == 0 or ends[-1] != len(values):
        raise ValueError(f"batch sizes must add up to {len(values)}, got {int(ends[-1]) if len(ends) else 0}")
    return float(np.mean([part.mean() for part in np.split(values, ends[:-1])]))


def resize_boxes(
    boxes_xyxy: ArrayLike, size_hw: tuple[int, int], new_hw: tuple[int, int]
) -> NDArray[np.float64]:
    """Validation: boxes times the float32 ratio of the rounded sizes."""
    factor = np.array([new_hw[1] / size_hw[1], new_hw[0] / size_hw[0]] * 2, np.float32)
    return np.asarray(boxes_xyxy, np.float64) * factor


def cardinality_error(logits: Tensor, row: Tensor) -> Tensor:
    """How far the number of queries that see an object is from the number of targets, a row; not for training."""
    seen = (logits.argmax(-1) != logits.shape[-1] - 1).sum(1).float()
    return (seen - torch.bincount(row, minlength=len(logits)).float()).abs().mean()


def weighted_sum(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    return torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()


def token_span(
    table: Sequence[int | None], begin: int, end: int, fallback: Sequence[int | None] | None = None
) -> tuple[int, int] | None:
    """Characters [begin, end) -> tokens (first, last), both included, or None when they cover no token.

    A span may begin or end on a blank, so up to two characters further in are tried.

    Args:
        table: token of each character, None between tokens.
        fallback: table of the further tries; the release looks them up in the first sentence of the batch
            (ODDITIES H3).
    """

    def look(places: tuple[int, int, int]) -> int | None:
        for k, place in enumerate(places):
            source = table if k == 0 or fallback is None else fallback
            token = source[place] if 0 <= place < len(source) else None
            if token is not None:
                return token
        return None

    first, last = look((begin, begin + 1, begin + 2)), look((end - 1, end - 2, end - 3))
    return None if first is None or last is None else (first, last)


def positive_tokens(
    spans_of_target: Sequence[Spans],
    row: Sequence[int],
    tables: Sequence[Sequence[int | None]],
    n_tokens: int,
    fallback: Sequence[int | None] | None = None,
) -> Tensor:
    """(N, L) bool: the tokens that the character spans of each target cover.

    `tables[row]` maps characters to tokens; see `token_span` for `fallback`.
    """
    out = torch.zeros(len(spans_of_target), n_tokens, dtype=torch.bool)
    for k, (spans, i) in enumerate(zip(spans_of_target, row, strict=True)):
        for begin, end in spans:
            found = token_span(tables[i], begin, end, fallback)
            if found:
                out[k, found[0] : found[1] + 1] = True
    return out
