"""The REFER layout: `refs(<by>).p` + `instances.json` + COCO pictures (RefCOCO, RefCOCO+, RefCOCOg).

    ROOT/refs(unc).p   ROOT/instances.json           or ROOT/<name>/… with --name
    pictures: --images FOLDER, or images/train2014 and its usual variants in ROOT or beside it

An annotation with an empty `segmentation` is a box-only referent, which is normal. Several refs may share an
annotation. Annotations and images without refs are left out. A ref's own `file_name` carries the annotation's id;
the name in `instances.json` is the picture's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.tables import ReferringTables, ordered_splits
from stages.errors import ArtifactError, UsageError, did_you_mean
from stages.geometry.rasterise import rle_area, rle_from_segmentation

OVERSHOOT_PX = 1.0  # boxes that leave the image by at most this are cut to it
_LARGEST_SIDE = 100_000
_SHOWN = 10  # problems that are listed one by one


@dataclass(frozen=True)
class ReferFiles:
    """Where the two annotation files are."""

    name: str
    by: str
    refs: Path
    instances: Path


def find_refer_files(root: Path, name: str | None, by: str | None) -> ReferFiles:
    """Locate refs(<by>).p and instances.json in `root` or in `root/<name>`.

    Raises:
        UsageError: no such data set or `by` in `root`; the facts list what is there.
        ArtifactError: `root` or its instances.json does not exist.
    """
    if not root.is_dir():
        raise ArtifactError(
            f"no such folder: {root}", hint="--root FOLDER holds refs(<by>).p and instances.json"
        )
    below = sorted(p for p in root.iterdir() if p.is_dir())
    found = {folder: who for folder in [root, *below] if (who := _splits_in(folder))}
    listing = [f"{folder}: by {', '.join(who)}" for folder, who in found.items()]
    folder = _choose_folder(root, name, list(found))
    if folder is None:
        names = [f.name for f in found if f != root]
        near = did_you_mean(name, names) if name else None
        raise UsageError(
            f"no data set {name!r} in {root}" if name else f"{root} holds no refs(<by>).p itself",
            facts=listing or ["neither does any folder in it"],
            hint=f"--name {near or names[0]}"
            if names
            else "--root FOLDER holds refs(<by>).p and instances.json",
        )
    who = found[folder]
    if by is None and len(who) > 1:
        raise UsageError(
            f"{folder} holds several splits: {', '.join(who)}", hint=f"choose one: --by {who[0]}"
        )
    if by is not None and by not in who:
        near = did_you_mean(by, who)
        raise UsageError(f"no refs({by}).p in {folder}", facts=listing, hint=f"--by {near or who[0]}")
    by = by or who[0]
    instances = folder / "instances.json"
    if not instances.is_file():
        raise ArtifactError(f"no such file: {instances}", hint="it belongs beside refs(<by>).p")
    return ReferFiles(name or folder.resolve().name, by, folder / f"refs({by}).p", instances)


def _splits_in(folder: Path) -> list[str]:
    return sorted(p.name[5:-3] for p in folder.glob("refs(*).p") if p.is_file())


def _choose_folder(root: Path, name: str | None, found: list[Path]) -> Path | None:
    """`root/<name>` when it holds refs, else `root` itself when it does; then a name is only a label, unless
    it may well be a misspelt folder."""
    if name and root / name in found:
        return root / name
    label = name is None or root.resolve().name == name or found == [root]
    return root if root in found and label else None


def read_refer(files: ReferFiles, *, skip_invalid: bool = False) -> ReferringTables:
    """Read both files into tables; `image_root` is still open.

    Raises:
        ArtifactError: a file is damaged, or referents are invalid (listed by ref id) and `skip_invalid` is not set.
    """
    refs = load_plain_pickle(files.refs)
    if not isinstance(refs, list | tuple) or not all(isinstance(r, Mapping) for r in refs):
        raise ArtifactError(f"{files.refs} is no list of referents")
    if not refs:
        raise ArtifactError(f"{files.refs} holds no referent")
    wanted = {r.get("ann_id") for r in refs if _is_id(r.get("ann_id"))}
    instances = _load_instances(files.instances, wanted)
    annotations = {a["id"]: a for a in _with_ids(instances["annotations"])}
    images = {i["id"]: i for i in _with_ids(instances["images"])}
    categories = [(c["id"], str(c.get("name", ""))) for c in _with_ids(instances["categories"])]
    del instances
    check = _Checker(annotations, images, dict(categories))
    rows = [row for ref in refs if (row := check.row(ref)) is not None]
    check.finish(files.refs, skip_invalid)
    if not rows:
        raise ArtifactError(f"{files.refs} holds no valid referent")
    return _tables(files, rows, images, categories, check.notices)


def _load_instances(path: Path, wanted: set[int]) -> dict[str, Any]:
    """The COCO tables, annotations only where their id is wanted: the others (three of four) are let go while
    the file is parsed, which keeps the peak of memory below that of a plain `json.load`."""

    def keep(entry: dict[str, Any]) -> dict[str, Any] | None:
        unwanted = (
            "bbox" in entry and "image_id" in entry and _is_id(entry.get("id")) and entry["id"] not in wanted
        )
        return None if unwanted else entry

    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream, object_hook=keep)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is no valid JSON", facts=[str(error)[:120]]) from error
    for part in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise ArtifactError(f"{path} has no list {part!r}", hint="it must be a COCO instances file")
    return content


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _with_ids(entries: list[Any]) -> Iterator[dict[str, Any]]:
    return (entry for entry in entries if isinstance(entry, dict) and _is_id(entry.get("id")))


@dataclass(frozen=True, eq=False)
class _Row:
    """One valid referent."""

    ref_id: int
    ann_id: int
    image_id: int
    category_id: int
    split: str
    box_xyxy: tuple[float, float, float, float]
    is_crowd: bool
    rle: bytes
    sentences: list[tuple[int, str]]


class _Invalid(Exception):
    """One referent cannot be used; the text says why."""


@dataclass
class _Checker:
    """Turns refs into rows; collects what is wrong with them."""

    annotations: Mapping[int, dict[str, Any]]
    images: Mapping[int, dict[str, Any]]
    categories: Mapping[int, str]
    notices: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    n_invalid: int = 0
    _seen: set[int] = field(default_factory=set)
    _rles: dict[int, bytes] = field(default_factory=dict)  # ann id -> counts: refs may share an annotation

    def row(self, ref: Mapping[str, Any]) -> _Row | None:
        try:
            return self._row(ref)
        except _Invalid as error:
            self._problem(f"ref {ref.get('ref_id')}: {error}")
            self._note("invalid referents left out")
            return None

    def finish(self, path: Path, skip_invalid: bool) -> None:
        if not self.n_invalid or skip_invalid:
            return
        left = self.n_invalid - len(self.problems)
        raise ArtifactError(
            f"{path} has {self.n_invalid} invalid {'entry' if self.n_invalid == 1 else 'entries'}",
            facts=[*self.problems, *([f"and {left} more"] if left else [])],
            hint="correct the annotations, or leave these out with --skip-invalid",
        )

    def _problem(self, text: str) -> None:
        self.n_invalid += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(text)

    def _note(self, what: str) -> None:
        self.notices[what] = self.notices.get(what, 0) + 1

    def _row(self, ref: Mapping[str, Any]) -> _Row:
        ids = {key: ref.get(key) for key in ("ref_id", "ann_id", "image_id")}
        for key, value in ids.items():
            if not _is_id(value):
                raise _Invalid(f"{key} is {value!r}, not a whole number")
        ref_id, ann_id, image_id = (int(value) for value in ids.values() if value is not None)
        if ref_id in self._seen:
            raise _Invalid("a second referent with this id")
        self._seen.add(ref_id)
        if image_id not in self.images:
            raise _Invalid(f"image {image_id} is not in instances.json")
        if ann_id not in self.annotations:
            raise _Invalid(f"annotation {ann_id} is not in instances.json")
        annotation = self.annotations[ann_id]
        if annotation.get("image_id") != image_id:
            raise _Invalid(
                f"annotation {ann_id} belongs to image {annotation.get('image_id')}, not {image_id}"
            )
        split = ref.get("split")
        if not isinstance(split, str) or not split or not split.isprintable():
            raise _Invalid(f"split is {split!r}")
        size_hw = self._size(image_id)
        category = annotation.get("category_id", ref.get("category_id"))
        return _Row(
            ref_id=ref_id,
            ann_id=ann_id,
            image_id=image_id,
            category_id=category if isinstance(category, int) and category in self.categories else -1,
            split=split,
            box_xyxy=self._box(annotation.get("bbox"), size_hw),
            is_crowd=bool(annotation.get("iscrowd")),
            sentences=self._sentences(ref_id, ref.get("sentences")),
            rle=self._rle(annotation, size_hw),
        )

    def _size(self, image_id: int) -> tuple[int, int]:
        image = self.images[image_id]
        height, width = image.get("height"), image.get("width")
        sides = [v for v in (height, width) if isinstance(v, int) and 0 < v <= _LARGEST_SIDE]
        if len(sides) != 2:
            raise _Invalid(f"image {image_id} has the size {width}x{height}")
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise _Invalid(f"image {image_id} has no file name")
        return sides[0], sides[1]

    def _box(self, bbox: Any, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
        try:
            x, y, w, h = (float(v) for v in bbox)
        except (TypeError, ValueError):
            raise _Invalid(f"box is {bbox!r}, not x, y, width, height") from None
        if not all(math.isfinite(v) for v in (x, y, w, h)):
            raise _Invalid(f"box {bbox} is not finite")
        if w <= 0 or h <= 0:
            raise _Invalid(f"box {bbox} has no area")
        height, width = size_hw
        if min(x, y, width - x - w, height - y - h) < -OVERSHOOT_PX:
            raise _Invalid(f"box {bbox} (x, y, width, height) lies outside its {width}x{height} image")
        box = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
        if box[2] <= box[0] or box[3] <= box[1]:
            raise _Invalid(f"box {bbox} (x, y, width, height) lies outside its {width}x{height} image")
        if box != (x, y, x + w, y + h):
            self._note("boxes cut to their image")
        return box

    def _sentences(self, ref_id: int, entries: Any) -> list[tuple[int, str]]:
        if not isinstance(entries, list | tuple) or not entries:
            raise _Invalid("no sentence")
        said = [(_get(entry, "sent_id"), _text_of(entry)) for entry in entries]
        if not any(text for _, text in said):
            raise _Invalid(f"empty expression (sentence {said[0][0]}), and it has no other")
        for sent_id, text in said:
            if not text:
                self._problem(f"ref {ref_id}: empty expression (sentence {sent_id})")
                self._note("empty expressions left out")
        return [(sent_id if _is_id(sent_id) else -1, text) for sent_id, text in said if text]

    def _rle(self, annotation: Mapping[str, Any], size_hw: tuple[int, int]) -> bytes:
        segmentation = annotation.get("segmentation")
        if not segmentation:
            return b""
        ann_id = annotation["id"]
        if ann_id not in self._rles:
            try:
                rle = rle_from_segmentation(segmentation, size_hw)
            except ArtifactError as error:
                raise _Invalid(f"annotation {ann_id}: {error.message}") from None
            self._rles[ann_id] = bytes(rle["counts"]) if rle_area(rle) else b""
        if not self._rles[ann_id]:
            self._note("masks without a pixel, taken as box only")
        return self._rles[ann_id]


def _get(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, Mapping) else None


def _text_of(entry: Any) -> str:
    """The sentence: `sent` (lower case, as the public loaders use it), else `raw`, else the joined tokens."""
    tokens = _get(entry, "tokens")
    joined = " ".join(map(str, tokens)) if isinstance(tokens, list | tuple) else ""
    for text in (_get(entry, "sent"), _get(entry, "raw"), joined):
        if isinstance(text, str) and text.strip():
            return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8").strip()
    return ""


def _tables(
    files: ReferFiles,
    rows: Sequence[_Row],
    images: Mapping[int, dict[str, Any]],
    categories: Sequence[tuple[int, str]],
    notices: dict[str, int],
) -> ReferringTables:
    splits = ordered_splits([row.split for row in rows])
    if len(splits) > np.iinfo(np.int8).max:
        raise ArtifactError(f"{files.refs} names {len(splits)} splits", facts=[", ".join(splits[:8]) + " …"])
    place = {name: k for k, name in enumerate(splits)}
    rows = sorted(rows, key=lambda r: (place[r.split], r.image_id, r.ref_id))
    image_ids = list(dict.fromkeys(row.image_id for row in rows))
    image_row = {image_id: k for k, image_id in enumerate(image_ids)}
    category_row = {category_id: k for k, (category_id, _) in enumerate(categories)}
    return ReferringTables(
        name=files.name,
        by=files.by,
        split_names=splits,
        image_ids=_ints(image_ids),
        image_files=[images[i]["file_name"] for i in image_ids],
        image_sizes_hw=np.array([(images[i]["height"], images[i]["width"]) for i in image_ids], np.int32),
        category_ids=_ints(c for c, _ in categories),
        category_names=[name for _, name in categories],
        ref_ids=_ints(r.ref_id for r in rows),
        ann_ids=_ints(r.ann_id for r in rows),
        image_index=_ints(image_row[r.image_id] for r in rows),
        category_index=_ints(category_row.get(r.category_id, -1) for r in rows).astype(np.int32),
        split=_ints(place[r.split] for r in rows).astype(np.int8),
        boxes_xyxy=np.array([r.box_xyxy for r in rows], np.float64),
        is_crowd=np.array([r.is_crowd for r in rows], np.bool_),
        rles=[r.rle for r in rows],
        sentence_offsets=np.concatenate([[0], np.cumsum([len(r.sentences) for r in rows])]).astype(np.int64),
        sentence_ids=_ints(i for r in rows for i, _ in r.sentences),
        texts=[text for r in rows for _, text in r.sentences],
        notices=notices,
    )


def _ints(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), np.int64)
