"""Whether what a source says of its referents belongs together: mask and box, boxes and picture, splits.

One check for all sources, on the tables that a reader returns. Nothing is changed: what is doubtful is told, with the
first ones by name and the likely cause where it can be told; what is certainly wrong is an error.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from stages.data.readers.tables import ReferringTables
from stages.errors import ArtifactError
from stages.geometry.boxes import box_iou_pairwise, mask_extent, xywh_to_xyxy
from stages.geometry.rasterise import box_to_rle, rle_to_mask

_FITS = 0.5  # IoU of the box and the extent of the mask, below which they are told
_SAME = 0.75  # IoU from which on another reading explains the difference
_OUTSIDE = 0.5  # share of the mask outside of its box, from which on it is told even where the extents agree
_ROUNDED_PX = 1.5
_SHOWN = 3
_LOOKED_AT = 200  # referents whose cause is looked for: it is the same for all, or it is told for these
_SMALLEST_SIDE = 200  # px; in smaller pictures boxes below 100 px are usual
_HEAD = 64 << 10
_BLOCK = 2048  # masks that are looked at together

Box = NDArray[np.float64]  # (4,) xyxy, px


@dataclass
class Doubt:
    """Something that was found `n` times."""

    what: str
    n: int
    examples: list[str] = field(default_factory=list)


def check_agreement(tables: ReferringTables) -> list[Doubt]:
    """What is doubtful in the tables.

    Raises:
        ArtifactError: every box lies in the first pixel of its picture: they are shares.
    """
    doubts = [_percent(tables), _masks_and_boxes(tables), _splits(tables)]
    return [doubt for doubt in doubts if doubt is not None]


def _name(tables: ReferringTables, row: int) -> str:
    return f"ref {tables.ref_ids[row]} in {tables.image_files[tables.image_index[row]]}"


def _percent(tables: ReferringTables) -> Doubt | None:
    boxes, sizes = tables.boxes_xyxy, tables.image_sizes_hw[tables.image_index]
    if (boxes <= 1).all() and sizes.min() > 1:
        raise ArtifactError(
            "every box lies in the first pixel of its picture",
            facts=[f"{_name(tables, 0)}: {_text(boxes[0])}"],
            hint="boxes are pixels, not shares: multiply x by the width and y by the height of the picture",
        )
    several = len(np.unique(boxes, axis=0)) > 1
    if several and boxes.max() <= 100 and sizes.min() >= _SMALLEST_SIDE:
        return Doubt(
            "boxes, which is all of them, lie within the first 100 pixels of their pictures: percent?",
            len(boxes),
            [f"{_name(tables, row)}: {_text(boxes[row])}" for row in range(min(_SHOWN, len(boxes)))],
        )
    return None


def _masks_and_boxes(tables: ReferringTables) -> Doubt | None:
    """Masks that fit their box by less than half: another object's, inverted, or one of the two read wrongly."""
    rows = np.flatnonzero(tables.has_mask)
    if not len(rows):
        return None
    sizes = tables.image_sizes_hw[tables.image_index]

    def rle(k: int) -> dict[str, Any]:
        return {"size": sizes[rows[k]].tolist(), "counts": tables.rles[rows[k]]}

    extents = np.empty((len(rows), 4))
    for start in range(0, len(rows), _BLOCK):
        here = range(start, min(start + _BLOCK, len(rows)))
        extents[here.start : here.stop] = xywh_to_xyxy(
            np.asarray(coco.toBbox([rle(k) for k in here]), np.float64)
        )
    # a pixel of a mask that is cut at a box's fraction, and boxes thinner than a pixel, differ by up to one
    boxes = tables.boxes_xyxy[rows]
    tight = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
    fit = np.maximum(box_iou_pairwise(extents, boxes), box_iou_pairwise(extents, tight))
    fit[np.abs(extents - boxes).max(axis=1) <= _ROUNDED_PX] = 1.0  # of a few pixels, rounding is half
    doubtful = np.flatnonzero((fit >= _FITS) & (fit < _SAME)).tolist()
    leaves = {k for k in doubtful if _outside(rle(k), tight[k]) > _OUTSIDE}
    suspect = np.array([k for k in range(len(rows)) if fit[k] < _FITS or k in leaves], np.int64)
    low, high = extents[:, :2] >= tight[:, :2] - 1, extents[:, 2:] <= tight[:, 2:] + 1
    inside = np.asarray((low & high).all(axis=1))
    suspect = suspect[~_is_part(tables, rows, suspect, fit >= _FITS, inside)]
    if not len(suspect):
        return None
    sides = sizes[rows]
    causes = [
        _cause(k, extents, boxes, sides[k], rle(k)) or _whose(tables, rows, k, extents[k])
        for k in suspect[:_LOOKED_AT].tolist()
    ]
    examples = []
    for k, cause in list(zip(suspect.tolist(), causes, strict=False))[:_SHOWN]:
        outside = _outside(rle(k), tight[k])
        how = f"{outside:.0%} of the mask outside of its box" if outside > 0.05 else "fills little of its box"
        words = f"{_name(tables, rows[k])}: {how} {_text(boxes[k])}, the mask lies in {_text(extents[k])}"
        examples.append(f"{words}: {cause}" if cause else words)
    usual = Counter(cause for cause in causes if cause and not cause.startswith("it is")).most_common(1)
    if usual and usual[0][1] > 1:
        examples.append(f"likely cause of {usual[0][1]}: {usual[0][0]}")
    return Doubt("masks that do not belong to their box", len(suspect), examples)


def _outside(rle: dict[str, Any], box: Box) -> float:
    """Share of the mask's pixels outside of the box."""
    inside = coco.area(coco.merge([rle, box_to_rle(box, rle["size"])], intersect=True))
    return 1.0 - float(inside) / float(coco.area(rle))


def _is_part(
    tables: ReferringTables,
    rows: NDArray[np.int64],
    suspect: NDArray[np.int64],
    fits: NDArray[np.bool_],
    inside: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which suspects lie inside a box that is also that of a mask that fits: a part of a thing, with the thing's box."""
    suspects: dict[tuple[Any, ...], list[int]] = {}
    for place, k in enumerate(suspect.tolist()):
        suspects.setdefault(_thing(tables, rows[k]), []).append(place)
    part = np.zeros(len(suspect), np.bool_)
    for k in np.flatnonzero(
        fits & np.isin(tables.image_index[rows], tables.image_index[rows[suspect]])
    ).tolist():
        part[suspects.get(_thing(tables, rows[k]), [])] = True
    return part & inside[suspect]


def _thing(tables: ReferringTables, row: int) -> tuple[Any, ...]:
    """What referents of one thing share."""
    return (int(tables.image_index[row]), *tables.boxes_xyxy[row].tolist())


def _cause(k: int, extents: Box, boxes: Box, size_hw: NDArray[np.int32], rle: dict[str, Any]) -> str | None:
    """Which other reading of box or mask makes them fit, in words."""
    extent, (x1, y1, x2, y2) = extents[k], boxes[k].tolist()
    height, width = (int(v) for v in size_hw)
    w, h = x2 - x1, y2 - y1
    scale = np.array([width, height, width, height])
    readings = {
        "the box reads as x, y, width, height, but was given as two corners": (x1, y1, x1 + x2, y1 + y2),
        "the box reads as two corners, but was given as x, y, width, height": (x1, y1, w, h),
        "the box reads as centre, width, height": (x1 - x2 / 2, y1 - y2 / 2, x1 + x2 / 2, y1 + y2 / 2),
        "the box reads as centre, width, height, not as corner, width, height": (
            x1 - w / 2, y1 - h / 2, x1 + w / 2, y1 + h / 2,
        ),
        "x and y of the box are exchanged": (y1, x1, y2, x2),
        "the box reads as percent of the picture": tuple(boxes[k] * scale / 100),
        "the box reads as thousandths of the picture": tuple(boxes[k] * scale / 1000),
        "y of the box counts from the lower edge": (x1, height - y2, x2, height - y1),
    }  # fmt: skip
    fits = {words: _iou(extent, box) for words, box in readings.items()}
    best = max(fits, key=lambda words: fits[words])
    if fits[best] >= _SAME:
        return best
    bits = rle_to_mask(rle)
    if bits.mean() > 0.5 and _iou(mask_extent(~bits), boxes[k]) >= _FITS:
        return "the mask is inverted"
    by_rows = bits.reshape(-1, order="F").reshape(height, width)
    if _iou(mask_extent(by_rows), boxes[k]) >= _SAME:
        return "the run lengths go along the rows; those of COCO go down the columns"
    for words, turned in (("the mask is mirrored", bits[:, ::-1]), ("the mask is upside down", bits[::-1])):
        if _iou(mask_extent(turned), boxes[k]) >= _SAME:
            return words
    return None


def _whose(tables: ReferringTables, rows: NDArray[np.int64], k: int, extent: Box) -> str | None:
    """Which other referent the mask fits: first in the same picture, then in one of the same size."""
    row = int(rows[k])
    sizes = tables.image_sizes_hw[tables.image_index]
    fit = box_iou_pairwise(np.broadcast_to(extent, tables.boxes_xyxy.shape), tables.boxes_xyxy)
    fit = fit + 0.1 * (tables.image_index == tables.image_index[row])
    fit[(sizes != sizes[row]).any(axis=1) | (np.arange(len(fit)) == row)] = 0
    best = int(fit.argmax())
    return f"it is the mask of {_name(tables, best)}" if fit[best] >= 0.9 else None


def _splits(tables: ReferringTables) -> Doubt | None:
    """Objects (one picture, one box) that occur in several splits."""
    keys = np.concatenate([tables.image_index[:, None].astype(np.float64), tables.boxes_xyxy], axis=1)
    _, which = np.unique(keys, axis=0, return_inverse=True)
    which = which.reshape(-1)
    pairs = np.unique(np.stack([which, tables.split.astype(np.int64)]), axis=1)
    objects, counts = np.unique(pairs[0], return_counts=True)
    several = objects[counts > 1]
    if not len(several):
        return None
    examples = []
    for thing in several[:_SHOWN].tolist():
        names = [tables.split_names[s] for s in pairs[1][pairs[0] == thing].tolist()]
        row = int(np.flatnonzero(which == thing)[0])
        where = f"{tables.image_files[tables.image_index[row]]}, box {_text(tables.boxes_xyxy[row])}"
        examples.append(f"{where}: {' and '.join(names)}")
    return Doubt("objects in more than one split", len(several), examples)


def check_copies(tables: ReferringTables, root: Path) -> Doubt | None:
    """Pictures that are byte for byte those of another split under another name."""
    n_splits = len(tables.split_names)
    pairs = np.unique(tables.image_index * n_splits + tables.split)  # (picture, split), sorted

    def splits(image: int) -> set[int]:
        start, stop = np.searchsorted(pairs, (image * n_splits, (image + 1) * n_splits))
        return set((pairs[start:stop] % n_splits).tolist())

    by_size: dict[int, list[int]] = {}
    for image, name in enumerate(tables.image_files):
        try:
            by_size.setdefault((root / name).stat().st_size, []).append(image)
        except OSError:
            continue  # told with the missing pictures
    examples, n = [], 0
    for images in by_size.values():
        if len(images) < 2 or len(set().union(*map(splits, images))) < 2:
            continue
        for same in _equal(images, lambda image: root / tables.image_files[image]):
            first, *others = same
            for other in others:
                if splits(other) - splits(first):
                    n += 1
                    if n <= _SHOWN:
                        examples.append(f"{tables.image_files[other]} is {tables.image_files[first]}")
    return Doubt("pictures that are copies of one in another split", n, examples) if n else None


def _equal(images: Sequence[int], path: Callable[[int], Path]) -> list[list[int]]:
    """Groups of files of one size with the same bytes; whole files are read only where their heads agree."""
    groups: dict[bytes, list[int]] = {b"": list(images)}
    for length in (_HEAD, -1):
        finer: dict[bytes, list[int]] = {}
        for members in groups.values():
            for image in members if len(members) > 1 else ():
                with open(path(image), "rb") as stream:
                    finer.setdefault(hashlib.sha256(stream.read(length)).digest(), []).append(image)
        groups = finer
    return [members for members in groups.values() if len(members) > 1]


def _iou(a: Sequence[float] | Box, b: Sequence[float] | Box) -> float:
    return float(box_iou_pairwise(np.array([a], np.float64), np.array([b], np.float64))[0])


def _text(box: Box) -> str:
    return "(" + ", ".join(f"{v:g}" for v in np.round(box, 2).tolist()) + ")"
