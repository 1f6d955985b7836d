"""What the readers share: loading JSON within limits, checking one referent, and building the tables.

A reader turns each referent of its format into a `Record`, or raises `Invalid` with the reason; `Findings` collects
the reasons, so that a user sees all of a file's problems at once.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from pycocotools import mask as coco

from stages.artifacts.schema import LARGEST_PICTURE, LARGEST_SIDE
from stages.data.picture_files import SIDEWAYS
from stages.errors import ArtifactError, first_of
from stages.file_kinds import refuse_other_kinds
from stages.geometry.boxes import reads_as_shares
from stages.geometry.rasterise import rle_area, rle_from_segmentation
from stages.nearest import cannot_read
from stages.untrusted import parse_json, require_regular, shown

OVERSHOOT_PX = 1.0  # boxes that leave the image by at most this are cut to it
LARGEST_FILE = 4 << 30  # bytes; the largest public annotation file has 1.5 GB
_SHOWN = 20  # problems that are listed one by one
_SHOWN_OF_NOTICE = 3
_DIGITS = re.compile(r"-?[0-9]{1,19}(\.0*)?")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ORDER = {"xywh": "x, y, width, height", "xyxy": "x1, y1, x2, y2"}


class Invalid(Exception):
    """One referent cannot be used; the text says why."""


class InvalidEntries(ArtifactError):
    """A source has invalid entries; `problems` are all of them, the facts the first ones."""

    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """One image, as the annotations describe it."""

    image_id: int
    file_name: str
    height: int
    width: int

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class Record:
    """One valid referent."""

    ref_id: int
    ann_id: int
    picture: Picture
    category_id: int
    split: str
    box_xyxy: tuple[float, float, float, float]
    is_crowd: bool
    rle: bytes
    sentences: list[tuple[int, str]]
    n_targets: int = 1


@dataclass
class Findings:
    """What was repaired or left out, and what is wrong."""

    notices: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)  # notice -> the first places, where told
    problems: list[str] = field(default_factory=list)

    @property
    def n_invalid(self) -> int:
        return len(self.problems)

    @property
    def shown(self) -> list[str]:
        """The first problems, and how many more there are."""
        return first_of(self.problems, _SHOWN)

    def note(self, what: str, where: str | None = None) -> None:
        self.notices[what] = self.notices.get(what, 0) + 1
        if where is not None and len(shown := self.examples.setdefault(what, [])) < _SHOWN_OF_NOTICE:
            shown.append(where)

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def leave_out(self, where: str, reason: object) -> None:
        self.problem(f"{where}: {reason}")
        self.note("invalid referents left out")

    def finish(self, path: Path, skip_invalid: bool) -> None:
        """InvalidEntries that lists the problems, unless there are none or they may be skipped."""
        if not self.n_invalid or skip_invalid:
            return
        error = InvalidEntries(
            f"{path} has {self.n_invalid} invalid {'entry' if self.n_invalid == 1 else 'entries'}",
            facts=self.shown,
            hint="correct the annotations, or leave these out with --skip-invalid"
            + ("; --errors-to FILE lists them all" if self.n_invalid > _SHOWN else ""),
        )
        error.problems = tuple(self.problems)
        raise error


def check_file_size(path: Path) -> None:
    """ArtifactError for a file that is missing, or too large to be annotations, before it is read."""
    try:
        require_regular(path, what="list of annotations")
        size = path.stat().st_size
    except OSError as error:
        raise cannot_read(path, error) from error
    if size > LARGEST_FILE:
        raise ArtifactError(
            f"{path} has {size / (1 << 30):.1f} GiB, more than annotations can have",
            facts=[f"at most {LARGEST_FILE >> 30} GiB are read"],
            hint="split it into several files, one a data set",
        )


def open_text(path: Path) -> TextIO:
    """A text file in UTF-8, or in the encoding that its byte order mark tells; the mark is no part of the text."""
    require_regular(path)
    with open(path, "rb") as stream:
        head = stream.read(2)
    return open(path, encoding="utf-16" if head in _UTF16_MARKS else "utf-8-sig", newline="")


def load_json(
    path: Path, keep: Callable[[dict[str, Any]], Any] | None = None, *, finite: bool = False
) -> Any:
    """The content of a JSON file; `keep` is its `object_hook`. `finite`: also refuse what nothing can write again.

    Raises:
        ArtifactError: the file cannot be read, is too large, is no JSON, or an object has a key twice with two values.
    """
    check_file_size(path)
    try:
        with open_text(path) as stream:
            if finite:
                return parse_json(stream.read())
            return json.load(stream, object_pairs_hook=once_each(keep))
    except OSError as error:
        raise cannot_read(path, error) from error
    except (ValueError, RecursionError) as error:
        refuse_other_kinds(path, but="JSON")
        raise ArtifactError(f"{path} is no valid JSON", facts=[str(error)[:120]]) from error


def once_each(keep: Callable[[dict[str, Any]], Any] | None) -> Callable[[list[tuple[str, Any]]], Any]:
    """Objects as dicts; where a key is there twice, the last one would win in silence."""

    def build(pairs: list[tuple[str, Any]]) -> Any:
        entry = dict(pairs)
        if len(entry) != len(pairs):
            for key, value in pairs:
                if entry[key] != value:
                    raise ValueError(f"an object has the key {shown(key)} twice, with different values")
        return entry if keep is None else keep(entry)

    return build


def id_of(value: Any) -> int | None:
    """`value` as an id, also from a whole float or from digits as text; None when it is none."""
    if type(value) is int:
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return id_of(int(value.strip().partition(".")[0]))
    return id_of(int(value)) if isinstance(value, float) and value.is_integer() else None


def whole(value: Any, what: str) -> int:
    """`value` as an id; Invalid otherwise."""
    if (identity := id_of(value)) is None:
        raise Invalid(f"{what} is {shown(value)}, not a whole number")
    return identity


def checked_size(width: Any, height: Any, where: str) -> tuple[int, int]:
    """(height, width) in pixels; Invalid unless both are sides that a picture can have."""
    h, w = id_of(height), id_of(width)
    if h is None or w is None or not (0 < h <= LARGEST_SIDE and 0 < w <= LARGEST_SIDE):
        raise Invalid(f"{where} has the size {shown(width)}x{shown(height)}")
    if h * w > LARGEST_PICTURE:
        raise Invalid(
            f"{where} has the size {w}x{h}, more than the {LARGEST_PICTURE >> 20} megapixels that are read"
        )
    return h, w


def checked_split(split: Any) -> str:
    """The name of a split, taken exactly; Invalid unless it is printable text."""
    if not isinstance(split, str) or not split or not split.isprintable():
        raise Invalid(f"split is {shown(split)}")
    return split


def checked_box(
    values: Any,
    size_hw: tuple[int, int],
    findings: Findings,
    order: Literal["xywh", "xyxy"] = "xywh",
    *,
    orientation: int = 1,
) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in pixels inside the image; an overshoot of up to a pixel is cut and noted.

    `orientation`: the picture's in EXIF; a box that only fits the turned picture is told as that.
    """

    def told() -> str:
        return shown(values if isinstance(values, list | tuple) else list(values), 100)

    try:
        x, y, c, d = (float(v) for v in values)
    except (TypeError, ValueError, OverflowError):
        raise Invalid(f"box is {shown(values)}, not {_ORDER[order]}") from None
    if not all(math.isfinite(v) for v in (x, y, c, d)):
        raise Invalid(f"box {told()} is not finite")
    height, width = size_hw
    if max(size_hw) > 1 and reads_as_shares((x, y, c, d)):
        raise Invalid(
            f"box {told()} lies within one pixel: it reads as shares of the picture, so multiply x by {width} "
            f"and y by {height}"
        )
    whole_box = (x, y, x + c, y + d) if order == "xywh" else (x, y, c, d)
    if whole_box[2] <= x or whole_box[3] <= y:
        as_size = order == "xyxy" and c > 0 and d > 0 and x + c <= width and y + d <= height
        raise Invalid(
            f"box {told()} has no area ({_ORDER[order]})"
            + (
                f": it reads as {_ORDER['xywh']}, so add x to the third and y to the fourth"
                if as_size
                else ""
            )
        )
    box = (max(x, 0.0), max(y, 0.0), min(whole_box[2], float(width)), min(whole_box[3], float(height)))
    outside = max(abs(a - b) for a, b in zip(box, whole_box, strict=True)) > OVERSHOOT_PX
    if outside or box[2] <= box[0] or box[3] <= box[1]:
        fits_turned = whole_box[2] <= height + OVERSHOOT_PX and whole_box[3] <= width + OVERSHOOT_PX
        turned = orientation in SIDEWAYS and fits_turned and min(x, y) >= -OVERSHOOT_PX
        raise Invalid(
            f"box {told()} ({_ORDER[order]}) lies outside its {width}x{height} image"
            + (
                f", but inside when it is turned by its EXIF orientation {orientation}, which is ignored: "
                "store the picture turned, or give the box as it is stored"
                if turned
                else ""
            )
        )
    if box != whole_box:
        findings.note("boxes cut to their image")
    return box


def mask_bytes(
    segmentation: Any, size_hw: tuple[int, int], where: str, findings: Findings, line: str | None = None
) -> bytes:
    """Compressed counts of a COCO segmentation; b"" where there is none, or none with a pixel (noted, with the line
    where there are lines)."""
    if segmentation is None or (isinstance(segmentation, list | dict | str) and not segmentation):
        return b""
    try:
        rle = rle_from_segmentation(segmentation, size_hw)
    except ArtifactError as error:
        raise Invalid(f"{where}: {error.message}") from None
    if not rle_area(rle):
        findings.note(
            "masks without a pixel, taken as box only", where if line is None else f"{line}: {where}"
        )
        return b""
    return bytes(rle["counts"])


def extent(rle: bytes, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box round the pixels of a mask (compressed counts)."""
    x, y, w, h = coco.toBbox({"size": list(size_hw), "counts": rle}).tolist()
    return x, y, x + w, y + h


def clean_text(text: Any) -> str:
    """A sentence that can be stored, or "" when there is none."""
    if not isinstance(text, str):
        return ""
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8").strip()
