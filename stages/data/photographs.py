"""Photographs and phrases from anywhere, for a model to answer: what `predict` reads instead of a dataset artifact.

A table (CSV, TSV or JSON lines) has the columns image and expression, and may have x1, y1, x2, y2: a box that is known, in
pixels, right and lower edge exclusive. It is found and read as the one of `prepare-data --source table`.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.schema import LARGEST_PICTURE, LARGEST_SIDE
from stages.data.images import (
    ImageCheck,
    Unreadable,
    because,
    decode_rgb,
    find_image_root,
    in_8_bits,
    look_at,
    path_below,
)
from stages.data.picture_files import PictureHead
from stages.data.readers.records import Findings, Invalid, checked_box, clean_text
from stages.data.readers.table_file import open_lines, open_table
from stages.data.readers.values import is_nothing, text_of
from stages.errors import ArtifactError, UsageError
from stages.nearest import PICTURE_SUFFIXES, nearest_file, shown_name
from stages.untrusted import float_of, shown

BOX_COLUMNS = ("x1", "y1", "x2", "y2")

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Request:
    """One phrase about one picture; `where` it was asked for, `box_xyxy` as given, not yet compared to the picture."""

    where: str
    image: str
    path: Path
    phrase: str
    box_xyxy: Box | None = None


def requests_of_phrases(
    image: Path, phrases: Sequence[str], boxes: Sequence[str | Sequence[float]] = ()
) -> list[Request]:
    """Each phrase about one picture, with the box of the same position where there are boxes.

    Raises:
        UsageError: an empty phrase, a box that is not four numbers, or not as many boxes as phrases.
    """
    if not phrases:
        raise UsageError("no expression for the picture", hint='--expression "the red cup"')
    if boxes and len(boxes) != len(phrases):
        raise UsageError(
            f"{len(boxes)} --box for {len(phrases)} --expression", hint="give one box per expression, or none"
        )
    requests = []
    for i, phrase in enumerate(phrases):
        text = clean_text(phrase)
        if not text:
            raise UsageError(f"--expression is empty: {phrase!r}")
        box = _box_of_text(boxes[i]) if boxes else None
        requests.append(Request(f"--expression {text!r}", str(image), Path(image), text, box))
    return requests


def pictures_of(given: Sequence[str | Path]) -> list[Path]:
    """The pictures that are meant by files, folders (the pictures in them, by name) and patterns (photos/*.jpg), each once.

    Raises:
        UsageError: a folder without a picture, or a pattern that fits none.
    """
    found: dict[Path, None] = {}
    for text in map(str, given):
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
            if not inside:
                raise UsageError(
                    f"{path} holds no picture", hint=f"for the folders in it: --image '{path}/**/*.jpg'"
                )
        elif path.exists() or not glob.has_magic(text):
            inside = [path]
        else:
            matches = sorted(glob.glob(text, recursive=True))
            inside = [Path(m) for m in matches if m.lower().endswith(PICTURE_SUFFIXES) and os.path.isfile(m)]
            if not inside:
                raise UsageError(f"no picture fits {text}")
        found.update(dict.fromkeys(inside))
    return list(found)


def requests_of_table(
    table: Path, images: Path | None = None, piped: Iterable[str] | None = None
) -> list[Request]:
    """The lines of a table; `images`: the folder that its names are relative to, found beside the table unless given.
    `piped`: JSON lines instead of a file, whose names may be whole paths.

    Raises:
        UsageError: the file is no table.
        ArtifactError: it cannot be read, a column is missing, or lines are invalid (listed by number).
    """
    needed = ("image", "expression")
    opened = open_table(Path(table), required=needed) if piped is None else open_lines(piped, required=needed)
    lines, bases = opened.lines, opened.folders
    names = [n.strip() for _, row in lines if isinstance(n := row.get("image"), str) and not is_nothing(n)]
    names = [] if piped is not None else names
    root = find_image_root(bases, names, images) if names or images else bases[0]
    requests, findings = [], Findings()
    for number, row in lines:
        try:
            requests.append(_request_of_line(f"line {number}", row, root, anywhere=piped is not None))
        except Invalid as error:
            findings.problem(f"line {number}: {error}")
    _finish(
        findings, f"{opened.path} has {_count(findings.n_invalid, 'invalid line')}", "correct these lines"
    )
    return requests


def _request_of_line(where: str, row: Mapping[str, Any], root: Path, *, anywhere: bool = False) -> Request:
    name, phrase = row.get("image"), text_of(row.get("expression"))
    if not isinstance(name, str) or is_nothing(name):
        raise Invalid("no image")
    if not phrase:
        raise Invalid("empty expression")
    corners = [row.get(column) for column in BOX_COLUMNS]
    given = [not is_nothing(value) for value in corners]
    if any(given) and not all(given):
        raise Invalid(f"a box without {BOX_COLUMNS[given.index(False)]}")
    try:
        box = _four(corners) if all(given) else None
    except ValueError:
        raise Invalid(f"box {shown(corners, 100)} is not four numbers") from None
    name = name.strip()
    path = Path(name) if anywhere and os.path.isabs(name) else path_below(root, name)
    return Request(where, name, path, phrase, box)


def _box_of_text(box: str | Sequence[float]) -> Box:
    try:
        # also "[120, 80, 210, 190]" and "120; 80; 210; 190", as programs print them
        return _four(re.sub(r"[\[\](),;]", " ", box).split() if isinstance(box, str) else box)
    except (ValueError, TypeError):
        raise UsageError(
            f"--box must be four numbers, got {shown(box)}", hint="--box 120,80,210,190"
        ) from None


def _four(values: Sequence[Any]) -> Box:
    """Four finite numbers; ValueError otherwise."""
    x1, y1, x2, y2 = (math.nan if isinstance(v, bool) else float_of(v) for v in values)
    if math.isnan(x1 + y1 + x2 + y2):
        raise ValueError
    return x1, y1, x2, y2


@dataclass(frozen=True, eq=False)
class Photographs:
    """The requests as prediction reads them (a `ReferringSource`): request i is sentence i and referent i.

    Pictures that are asked about more than once have one row of the image table.
    """

    requests: list[Request]
    image_paths: list[Path]  # I
    image_sizes_hw: NDArray[np.int64]  # (I, 2)
    referent_image: NDArray[np.int64]  # (R,)
    boxes_xyxy: NDArray[np.float64]  # (R, 4), NaN where none was given
    notices: dict[str, int]  # what was repaired or is to be known -> how often
    examples: dict[str, list[str]]  # notice -> the pictures, where they are told

    @classmethod
    def open(cls, requests: Sequence[Request]) -> Photographs:
        """Read the sizes from the headers of the pictures, and check the boxes against them.

        Raises:
            ArtifactError: pictures that are missing, cannot be read or are too large, boxes outside; all are listed.
        """
        rows: dict[str, int] = {}
        heads: list[PictureHead] = []
        check = ImageCheck()
        boxes = np.full((len(requests), 4), np.nan)
        findings, broken = Findings(), set()
        for i, request in enumerate(requests):
            key = os.path.realpath(request.path)
            try:
                if key not in rows:
                    rows[key] = len(heads)
                    heads.append(PictureHead("", (1, 1)))
                    broken.add(key)  # until its size is known; told once, however many lines ask for it
                    heads[-1] = _head_of(request)
                    broken.remove(key)
                    check.tell(request.image, heads[-1])
                if request.box_xyxy is not None and key not in broken:
                    head = heads[rows[key]]
                    assert head.size_hw is not None
                    boxes[i] = checked_box(
                        request.box_xyxy, head.size_hw, findings, "xyxy", orientation=head.orientation
                    )
            except Invalid as error:
                findings.problem(f"{request.where}: {error}")
        _finish(
            findings,
            f"{_count(findings.n_invalid, 'request')} cannot be answered",
            "replace these pictures, or correct the boxes",
        )
        keys = [os.path.realpath(request.path) for request in requests]
        return cls(
            requests=list(requests),
            image_paths=[Path(key) for key in rows],
            image_sizes_hw=np.array([head.size_hw for head in heads], np.int64).reshape(-1, 2),
            referent_image=np.array([rows[key] for key in keys], np.int64),
            boxes_xyxy=boxes,
            notices=findings.notices | {what: len(names) for what, names in check.told.items()},
            examples=check.told,
        )

    def part(self, rows: slice | NDArray[np.int64]) -> Photographs:
        """Some of the requests, about the same table of pictures."""
        return replace(
            self,
            requests=[self.requests[i] for i in np.arange(len(self.requests))[rows]],
            referent_image=self.referent_image[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
        )

    @property
    def texts(self) -> list[str]:
        return [request.phrase for request in self.requests]

    @property
    def sentence_referent(self) -> NDArray[np.int64]:
        return np.arange(len(self.requests), dtype=np.int64)

    @property
    def has_box(self) -> NDArray[np.bool_]:
        """(R,) whether a box was given."""
        return np.asarray(np.isfinite(self.boxes_xyxy).all(1))

    def size_hw(self, request: int) -> tuple[int, int]:
        """(height, width) of the picture of a request."""
        height, width = self.image_sizes_hw[self.referent_image[request]]
        return int(height), int(width)

    def image(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB as stored: the EXIF orientation is ignored. ArtifactError names the file."""
        path = self.image_paths[index]
        try:
            return decode_rgb(np.fromfile(path, np.uint8), str(path), self.image_sizes_hw[index])
        except OSError as error:
            reason = f"cannot read image {path}: {(error.strerror or 'error').lower()}"
        except ArtifactError:
            reason = f"image {path} cannot be decoded at the size that its header tells"
        raise ArtifactError(reason, hint="replace the file, or leave it out")


@dataclass(frozen=True, eq=False)
class ArrayPhotograph(Photographs):
    """One picture in memory."""

    rgb: NDArray[np.uint8]  # (H, W, 3)

    @classmethod
    def of(
        cls, image: NDArray[Any], phrases: Sequence[str], boxes: Sequence[Sequence[float]] = ()
    ) -> ArrayPhotograph:
        """image: (H, W, 3) RGB, (H, W, 4) with an alpha channel that is left out, or grey (H, W), uint8 or uint16.

        Raises:
            UsageError: it is none of these; else as `requests_of_phrases`.
            ArtifactError: boxes lie outside.
        """
        rgb = _as_rgb(image)
        size = rgb.shape[0], rgb.shape[1]
        requests = requests_of_phrases(Path("picture"), phrases, boxes)
        known, findings = np.full((len(requests), 4), np.nan), Findings()
        for i, request in enumerate(requests):
            if request.box_xyxy is not None:
                try:
                    known[i] = checked_box(request.box_xyxy, size, findings, "xyxy")
                except Invalid as error:
                    findings.problem(f"{request.phrase!r}: {error}")
        _finish(findings, f"{_count(findings.n_invalid, 'box')} cannot be used", "correct the boxes")
        sizes, rows = np.array([size], np.int64), np.zeros(len(requests), np.int64)
        return cls(requests, [Path("picture")], sizes, rows, known, {}, {}, rgb)

    def image(self, index: int) -> NDArray[np.uint8]:
        return self.rgb


def _as_rgb(image: Any) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    shape, kind = pixels.shape, pixels.dtype
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)) or 0 in shape:
        raise UsageError(f"the picture has the shape {shape}, not (H, W, 3)")
    if kind not in (np.uint8, np.uint16):
        raise UsageError(f"the picture has values of {kind}", hint="scale them to 0 to 255 as uint8")
    pixels = in_8_bits(pixels)
    if len(shape) == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(np.broadcast_to(pixels[..., :3], (*shape[:2], 3)))


def _head_of(request: Request) -> PictureHead:
    """What the picture holds; Invalid when the file is no good."""
    try:
        head = look_at(request.path, largest=LARGEST_PICTURE)
    except FileNotFoundError:
        near = nearest_file(request.path)
        there = "" if near is None else f", there is {shown_name(near)}"
        raise Invalid(f"image {request.image}: no such file{there}") from None
    except OSError as error:
        raise Invalid(f"image {request.image}: {(error.strerror or 'error').lower()}") from None
    except Unreadable as error:
        raise Invalid(f"image {request.image}: cannot be decoded{because(error)}") from None
    assert head.size_hw is not None
    height, width = head.size_hw
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE and height * width <= LARGEST_PICTURE):
        raise Invalid(
            f"image {request.image} is {width}x{height}, more than the {LARGEST_PICTURE >> 20} megapixels that are read"
        )
    return head


def _finish(findings: Findings, message: str, hint: str) -> None:
    if not findings.n_invalid:
        return
    raise ArtifactError(message, facts=findings.shown, hint=hint)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
