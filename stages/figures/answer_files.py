"""The pictures that predict draws: one overlay a request, or one overlay and one mask of a single photograph."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.artifacts.target import require_file_target, require_folder_target
from stages.data.photographs import Photographs
from stages.errors import UsageError
from stages.figures.overlays import png_bytes
from stages.figures.photo_masks import photograph_figure
from stages.figures.predictions import prediction_figure
from stages.geometry.rasterise import rle_to_mask
from stages.inference.photograph_answers import Answers

Drawing = Callable[[Photographs, Answers], bytes]


def drawings_of(
    photographs: Photographs, overlays: Path | None, overlay: Path | None, mask: Path | None
) -> dict[Path, Drawing]:
    """file -> what draws it; one PNG a request in `overlays`.

    Raises:
        UsageError: `overlay` and `mask` are for one picture; a file where a folder is wanted, or something else.
    """
    found: dict[Path, Drawing] = {}
    if overlays is not None:
        require_folder_target(Path(overlays), "--overlays")
        # numbered, because phrases of one picture are drawn apart
        stems = [_short_name(Path(request.image).stem) for request in photographs.requests]
        found |= {Path(overlays, f"{i + 1:04d}-{stem}.png"): overlay_of(i) for i, stem in enumerate(stems)}
    for flag, path, draw in (("overlay", overlay, whole_overlay), ("mask", mask, mask_picture)):
        if path is None:
            continue
        if len(photographs.image_paths) > 1:
            raise UsageError(
                f"--{flag} is for one picture, got {len(photographs.image_paths)}",
                hint="--overlays FOLDER draws all"
                if flag == "overlay"
                else "seqres export --to png writes all masks",
            )
        if Path(path).suffix.lower() != ".png":
            raise UsageError(
                f"--{flag} writes a PNG file, got {path}", hint=f"--{flag} {Path(path).with_suffix('.png')}"
            )
        found[Path(path)] = draw
    for path in found:
        require_file_target(path, "--overlays" if overlays is not None else "--overlay", "picture.png")
    return found


def some_of(
    drawings: Mapping[Path, Drawing], per_request: Sequence[Path], rows: slice | NDArray[np.int64]
) -> dict[Path, Drawing]:
    """The overlays of some requests, drawn from the answers to these."""
    if not per_request:
        return dict(drawings)
    chosen = [per_request[i] for i in np.arange(len(per_request))[rows]]
    return {path: overlay_of(i) for i, path in enumerate(chosen)}


def _short_name(stem: str) -> str:
    """At most 80 letters, and fewer where they take several bytes: a file name ends at 255."""
    stem = stem[:80]
    while len(raw := stem.encode("utf-8", "surrogateescape")) > 200:
        stem = stem[:-1]
    return os.fsdecode(raw)


def overlay_of(i: int) -> Drawing:
    """What draws request i."""

    def draw(photographs: Photographs, answers: Answers) -> bytes:
        picture = prediction_figure(
            photographs.image(int(photographs.referent_image[i])),
            f"{photographs.texts[i]} ({answers.confidence[i]:.2f})",
            mask=None if answers.rles is None else rle_to_mask(answers.rles[i]),
            points_xy=answers.points_xy[i],
            box_xyxy=answers.boxes_xyxy[i],
            given_box_xyxy=photographs.boxes_xyxy[i],
        )
        return png_bytes(picture)

    return draw


def whole_overlay(photographs: Photographs, answers: Answers) -> bytes:
    """All answers about one photograph on it."""
    n = len(photographs.requests)
    if n == 1:
        return overlay_of(0)(photographs, answers)
    empty = np.zeros(photographs.size_hw(0), np.bool_)
    masks = [empty] * n if answers.rles is None else [rle_to_mask(rle) for rle in answers.rles]
    picture = photograph_figure(
        photographs.image(0), photographs.texts, masks, answers.points_xy, answers.boxes_xyxy
    )
    return png_bytes(picture)


def mask_picture(photographs: Photographs, answers: Answers) -> bytes:
    """8-bit grey PNG at the photograph's size: 255 = what the phrase means; of several phrases, the k-th has the value k,
    the later above the earlier."""
    assert answers.rles is not None
    values = np.zeros(photographs.size_hw(0), np.uint8)
    for k, rle in enumerate(answers.rles, 1):
        values[rle_to_mask(rle)] = 255 if len(answers.rles) == 1 else k
    return cv2.imencode(".png", values)[1].tobytes()
