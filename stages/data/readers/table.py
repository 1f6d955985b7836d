"""A practitioner's own photographs: one table (table_file.py) with an expression and a box a line.

    image,expression,x1,y1,x2,y2,split,mask
    kitchen/001.jpg,the red mug,120,80,210,190,train,masks/001-mug.png

`image` is relative to --images or to the table's folder. `x1, y1, x2, y2` are pixels, right and lower edge exclusive;
without them the box is the extent of the mask.
`split` (default: train), `mask` and `category` may be missing or empty; a mask is the path, relative to the table, of a
picture of the same size (mask_files.py; `ids.png#2` or the column `mask_value`: the object of this value) or of a JSON
file with a COCO segmentation (polygons or RLE), or it is the segmentation itself. Lines that agree in image, box, split
and mask are phrases of one object; so is a line without a mask where the others have only one.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.data.images import Unreadable, find_image_root, look_at, path_below
from stages.data.picture_files import OTHER, SIDEWAYS, PictureHead
from stages.data.readers.build_tables import build_tables
from stages.data.readers.ids import distinct_ids, sentence_ids
from stages.data.readers.mask_files import MaskPicture, read_mask_picture
from stages.data.readers.records import (
    LARGEST_SIDE,
    Findings,
    Invalid,
    Picture,
    Record,
    checked_box,
    checked_split,
    extent,
    id_of,
    load_json,
    mask_bytes,
)
from stages.data.readers.table_file import REQUIRED, Table, is_json
from stages.data.readers.tables import ReferringTables
from stages.data.readers.values import is_nothing, label_of, text_of
from stages.errors import ArtifactError
from stages.geometry.rasterise import mask_to_rle
from stages.nearest import Neighbours
from stages.untrusted import shown

_SHOWN = 10  # missing masks for which the nearest file is looked up
Box = tuple[float, float, float, float]
_GEOJSON = ("FeatureCollection", "Feature", "GeometryCollection", "Polygon", "MultiPolygon")


def read_table(
    table: Table, images: Path | None, *, skip_invalid: bool = False, findings: Findings | None = None
) -> ReferringTables:
    """The tables, with `image_root`. Missing pictures are kept in them, for the caller to find and list.

    `findings`: what was found before, by a reader that made the lines of something else than a table.

    Raises:
        ArtifactError: no folder of pictures, a name that leaves its folder, or invalid lines (listed by number) and
        `skip_invalid` is not set.
    """
    names = [
        n.strip() for _, row in table.lines if isinstance(n := row.get("image"), str) and not is_nothing(n)
    ]
    root = find_image_root(table.folders, names, images) if names else images or table.folders[0]
    findings = findings or Findings()
    reader = _Reader(table, root, findings, names)
    records = reader.records()
    findings.finish(table.path, skip_invalid)
    built = build_tables(table, table.path, records, reader.categories, findings, content_ids=True)
    return replace(built, image_root=root, sentence_ids=sentence_ids(built))


@dataclass(frozen=True)
class _Line:
    """What one line says, as far as it can be checked without opening a file."""

    where: str  # "line 3", or the place in another file
    order: int
    image: str  # one name a picture
    size_hw: tuple[int, int] | None  # as annotated
    corners: tuple[float, ...] | None
    split: str
    phrase: str
    category: str
    mask: Any  # None, the name of a file, or the segmentation
    mask_value: str


@dataclass(frozen=True)
class _Object:
    """What one line means."""

    line: _Line
    picture: Picture
    box_xyxy: Box
    rle: bytes  # b"" = no mask

    @property
    def split(self) -> str:
        return self.line.split


class _Reader:
    """Turns lines into referents."""

    def __init__(self, table: Table, root: Path, findings: Findings, names: Sequence[str]) -> None:
        self.table, self.root, self.findings = table, root, findings
        self._name_of = one_name_a_picture(root, names, findings)
        pictures = sorted(set(self._name_of.values()))
        ids = distinct_ids([("picture", name) for name in pictures])
        self._id_of_picture = dict(zip(pictures, ids, strict=True))
        self._pictures: dict[str, tuple[Picture, PictureHead]] = {}
        self._id_of_category: dict[str, int] = {}
        self._neighbours = Neighbours()
        self._opened: tuple[Path, MaskPicture] | None = None  # lines of one mask file mostly lie together

    @property
    def categories(self) -> list[tuple[int, str]]:
        return [(k, label) for label, k in self._id_of_category.items()]

    def records(self) -> list[Record]:
        """Invalid lines are left out and told."""
        objects: dict[tuple[Any, ...], list[_Line]] = {}
        for order, (number, row) in enumerate(self.table.lines):
            where = f"line {number}" if isinstance(number, int) else number
            if _is_no_answer(row):
                self.findings.note("predictions without an object left out")
                continue
            try:
                line = self._line(where, order, row)
            except Invalid as error:
                self.findings.leave_out(where, error)
                continue
            # without a box, each line is opened by itself: its mask tells the box
            key = line.corners or line.order
            objects.setdefault((line.split, line.image, key), []).append(line)
        labels = sorted({line.category for lines in objects.values() for line in lines} - {""})
        ids = distinct_ids([("category", label) for label in labels])
        self._id_of_category = dict(zip(labels, ids, strict=True))
        found: dict[tuple[Any, ...], list[_Object]] = {}
        for lines in objects.values():
            for thing in self._objects(lines):
                found.setdefault((thing.split, thing.picture.file_name, thing.box_xyxy), []).append(thing)
        return [record for things in found.values() for record in self._records(things)]

    def _line(self, where: str, order: int, row: Mapping[str, Any]) -> _Line:
        phrase, name, mask = _phrase_of(row.get("expression")), row.get("image"), row.get("mask")
        if not phrase:
            said = row.get("expression")
            raise Invalid(
                "empty expression" if is_nothing(said) else f"the expression is {shown(said, 40)}, no text"
            )
        if not isinstance(name, str) or is_nothing(name):
            raise Invalid("no image")
        if isinstance(mask, str) and is_json(mask):
            try:
                mask = json.loads(mask)
            except (ValueError, RecursionError):
                raise Invalid(f"mask is no valid JSON: {mask[:40]}") from None
        mask = None if is_nothing(mask) else mask.strip() if isinstance(mask, str) else mask or None
        corners = [row.get(key) for key in REQUIRED[2:]]
        has_box = mask is None or not all(map(is_nothing, corners))
        return _Line(
            where,
            order,
            self._name_of[name.strip()],
            _size_of(row.get("size")),
            tuple(map(_number, corners, REQUIRED[2:])) if has_box else None,
            checked_split(label_of(row.get("split")) or "train"),
            phrase,
            label_of(row.get("category")),
            mask,
            label_of(row.get("mask_value")),
        )

    def _objects(self, lines: list[_Line]) -> list[_Object]:
        """What lines that agree in split, picture and box say, a line each, with the mask read."""
        (picture, head), corners, box = self._picture(lines[0].image), lines[0].corners, None
        found = []
        for line in lines:
            try:
                if line.size_hw not in (None, head.size_hw or line.size_hw):
                    raise Invalid(_other_size(line.size_hw, picture.size_hw, line.image, head.orientation))
                if corners is not None and box is None:
                    box = checked_box(
                        corners, picture.size_hw, self.findings, "xyxy", orientation=head.orientation
                    )
                found.append(self._object(line, picture, box, readable=head.size_hw is not None))
            except Invalid as error:
                self.findings.leave_out(line.where, error)
        return found

    def _object(self, line: _Line, picture: Picture, box: Box | None, *, readable: bool) -> _Object:
        if not readable:  # told when the pictures are checked
            height, width = picture.size_hw
            return _Object(line, picture, box or (0.0, 0.0, float(width), float(height)), b"")
        rle = self._mask(line, picture.size_hw, box)
        if box is None and not rle:
            raise Invalid("neither a box nor a mask with a pixel")
        return _Object(line, picture, box or extent(rle, picture.size_hw), rle)

    def _records(self, things: list[_Object]) -> list[Record]:
        """The objects of lines that agree in split, picture and box: one a mask."""
        of_mask: dict[bytes, list[_Line]] = {}
        for thing in things:
            of_mask.setdefault(thing.rle, []).append(thing.line)
        picture, box = things[0].picture, things[0].box_xyxy
        without = of_mask.pop(b"", [])
        if len(of_mask) > 1:
            for line in without:
                self.findings.leave_out(
                    line.where,
                    f"{len(of_mask)} objects with their own masks have this box: name the mask of one",
                )
        elif without:
            rle, known = next(iter(of_mask.items()), (b"", []))
            of_mask = {rle: sorted(known + without, key=lambda line: line.order)}
        return [self._record(picture, box, rle, same) for rle, same in of_mask.items()]

    def _record(self, picture: Picture, box: Box, rle: bytes, lines: list[_Line]) -> Record:
        phrases = dict.fromkeys(line.phrase for line in lines)
        for _ in range(len(lines) - len(phrases)):
            self.findings.note("lines left out that repeat another one")
        labels = sorted({line.category for line in lines} - {""})
        if len(labels) > 1:
            self.findings.note("objects of several categories, of which the first is kept", lines[0].where)
        return Record(
            ref_id=0,  # follows from the content
            ann_id=-1,
            picture=picture,
            category_id=self._id_of_category[labels[0]] if labels else -1,
            split=lines[0].split,
            box_xyxy=box,
            is_crowd=False,
            rle=rle,
            sentences=[(k, phrase) for k, phrase in enumerate(phrases)],
        )

    def _picture(self, name: str) -> tuple[Picture, PictureHead]:
        """The picture, and its head. One that cannot be read gets a size that holds the boxes: it is reported (or
        left out) when the pictures are checked, so that all such pictures are listed at once."""
        if name not in self._pictures:
            head = _head_of(path_below(self.root, name))
            height, width = head.size_hw or (LARGEST_SIDE, LARGEST_SIDE)
            self._pictures[name] = (Picture(self._id_of_picture[name], name, height, width), head)
        return self._pictures[name]

    def _mask(self, line: _Line, size_hw: tuple[int, int], box: Sequence[float] | None) -> bytes:
        """Compressed counts; b"" where there is no mask."""
        where = line.where
        if line.mask is None:
            return b""
        if not isinstance(line.mask, str):
            return mask_bytes(_one_object(line.mask, "mask"), size_hw, "mask", self.findings, where)
        path, value = self.table.mask_path(line.mask)
        if not path.exists():
            raise Invalid(f"mask {line.mask}: no such file{self._what_there_is(line.mask)}")
        if path.suffix.lower() == ".json":
            try:
                content = load_json(path)
            except ArtifactError as error:
                raise Invalid(error.message) from None
            content = _one_object(content, f"mask {line.mask}")
            return mask_bytes(content, size_hw, f"mask {line.mask}", self.findings, where)
        if value is not None and line.mask_value and value != line.mask_value:
            raise Invalid(f"mask {line.mask} and mask_value {line.mask_value} say two values")
        picture = self._mask_picture(path, line.mask, size_hw)
        bits, by_box = picture.mask(value or line.mask_value or None, box)
        if by_box:
            self.findings.note("masks of several objects, of which the one in the box was taken", where)
        return mask_bytes(mask_to_rle(bits), size_hw, f"mask {line.mask}", self.findings, where)

    def _what_there_is(self, name: str) -> str:
        """The file that may be meant, for the first few that are missing."""
        if self.findings.n_invalid >= _SHOWN:
            return ""
        hints = (self._neighbours.hint(folder, name) for folder in self.table.folders)
        return next((f", {hint}" for hint in hints if hint), "")

    def _mask_picture(self, path: Path, name: str, size_hw: tuple[int, int]) -> MaskPicture:
        if self._opened is None or self._opened[0] != path or self._opened[1].values.shape != size_hw:
            self._opened = (path, read_mask_picture(path, name, size_hw))
        return self._opened[1]


def one_name_a_picture(root: Path, names: Sequence[str], findings: Findings) -> dict[str, str]:
    """name -> the one name of its picture, whatever way it is spelt or linked, whatever comes first.

    Raises:
        ArtifactError: a name leaves the folder.
    """
    found: dict[Any, dict[str, None]] = {}
    plain = {name: os.path.relpath(path_below(root, name), os.path.normpath(root)) for name in names}
    for name in plain.values():
        path = Path(root, name)
        try:
            status = path.stat()
            key: Any = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
        except OSError:
            key = name
        found.setdefault(key, {})[name] = None
    chosen: dict[str, str] = {}
    for same in found.values():
        first = min(same, key=lambda name: (Path(root, name).is_symlink(), len(Path(name).parts), name))
        chosen.update(dict.fromkeys(same, first))
        for name in sorted(set(same) - {first}):
            findings.note("names that mean a picture of another name", f"{name} is {first}")
    return {name: chosen[normal] for name, normal in plain.items()}


def _one_object(content: Any, where: str) -> Any:
    """The segmentation in a JSON value; Invalid for files of whole pictures, said as what they are."""
    if not isinstance(content, dict):
        return content
    if "segmentation" in content:
        return content["segmentation"]
    what = None
    if isinstance(content.get("shapes"), list):
        what = f"a LabelMe file with {len(content['shapes'])} shapes"
    elif isinstance(content.get("annotations"), list) and "images" in content:
        what = f"a COCO file with {len(content['annotations'])} annotations"
    elif content.get("type") in _GEOJSON:
        what = f"GeoJSON ({content['type']})"
    if what is not None:
        raise Invalid(f"{where} is {what}, not one object: write its points alone, [[x, y, x, y, …]]")
    return content


def _is_no_answer(row: Mapping[str, Any]) -> bool:
    """Whether the row is one of `predict` in which the model found nothing."""
    if "box_xyxy" not in row:
        return False
    x1, y1, x2, y2 = (row.get(column) for column in REQUIRED[2:])
    return is_nothing(x1) or x1 == x2 or y1 == y2


def _phrase_of(cell: Any) -> str:
    """The phrase, without the apostrophe that keeps spreadsheets from taking it for a formula (exports/plain.py)."""
    text = text_of(cell)
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@") else text


def _size_of(value: Any) -> tuple[int, int] | None:
    """(height, width), as predict and the readers of annotation tools write it, where it is that."""
    found = [id_of(v) for v in value] if isinstance(value, list | tuple) else []
    return (int(found[0]), int(found[1])) if len(found) == 2 and found[0] and found[1] else None


def _other_size(annotated_hw: Any, size_hw: tuple[int, int], name: str, orientation: int) -> str:
    (height, width), (h, w) = annotated_hw, size_hw
    turned = orientation in SIDEWAYS and (height, width) == (w, h)
    return f"annotated at {width}x{height}, but {name} is {w}x{h}" + (
        f" as stored, its EXIF orientation {orientation} is ignored: store the picture turned"
        if turned
        else ""
    )


def _number(value: Any, column: str) -> float:
    if is_nothing(value):
        raise Invalid(f"no {column}: a box is needed, or a mask")
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        comma = isinstance(value, str) and "," in value and "." not in value
        raise Invalid(
            f"{column} is {shown(value)}, not a number" + (" (decimals follow a point)" if comma else "")
        ) from None


def _head_of(path: Path) -> PictureHead:
    """The head of a picture; without a size when the file is missing or no picture."""
    try:
        return look_at(path)
    except (OSError, Unreadable):
        return PictureHead(OTHER)
