"""COCO's instances JSON with expressions: one file, or a folder of files with a split in their names.

    {"images": [{"id": 1, "file_name": "a.jpg", "height": 480, "width": 640}],
     "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [x, y, width, height],
                      "segmentation": [[x, y, …]], "expressions": ["the red mug", "mug on the left"]}],
     "categories": [{"id": 3, "name": "mug"}]}

An annotation is a referent. Its phrases are the texts of the first of `expressions`, `sentences`, `captions`, `phrases`
(or one of them without s), `text`, `refexp`, `description` that it or its `attributes` hold; with --expressions category (or
category-position) the others get the category's name (and where it is among those of its kind). Without a box, the box is
the extent of the mask. The split is the `split` of the annotation or image, else the one in the file's name, else train.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.data.readers.build_tables import build_tables
from stages.data.readers.ids import distinct_ids, sentence_ids
from stages.data.readers.json_lists import List, load_json_lists, require_coco_lists
from stages.data.readers.lookups import ById, PictureFiles
from stages.data.readers.records import (
    Findings,
    Invalid,
    Picture,
    Record,
    checked_split,
    clean_text,
    extent,
    id_of,
    mask_bytes,
    whole,
)
from stages.data.readers.tables import SPLIT_ORDER, ReferringTables, SourceFiles
from stages.errors import ArtifactError

Phrases = Literal["given", "category", "category-position"]
_NAMES = ("expression", "sentence", "caption", "phrase")
_KEYS = (*(key for name in _NAMES for key in (f"{name}s", name)), "text", "refexp", "description")
NO_PHRASE = "annotations without a phrase left out"
_TEXT_KEYS = ("sent", "raw", "text", "caption", "expression", "phrase")


def find_coco_files(root: Path, name: str | None, by: str | None) -> SourceFiles:
    """ArtifactError when there is no JSON file."""
    files = (
        [root] if root.is_file() else sorted(root.glob("*.json")) or sorted(root.glob("annotations/*.json"))
    )
    if not files:
        raise ArtifactError(
            f"{root} holds no JSON file" if root.is_dir() else f"no such file: {root}",
            hint="--root FILE.json has images, annotations and categories",
        )
    label = name or (root.stem if root.is_file() else root.resolve().name)
    return SourceFiles(
        label, by or "coco", files[0].parent, {"instances": files[0] if len(files) == 1 else tuple(files)}
    )


def read_coco(
    files: SourceFiles, *, pictures: PictureFiles, phrases: Phrases = "given", skip_invalid: bool = False
) -> ReferringTables:
    """Read the files into tables; `image_root` is still open.

    Raises:
        ArtifactError: a file is damaged or no instances file, or annotations are invalid (listed by their place) and
        `skip_invalid` is not set.
    """
    findings = Findings()
    records: list[Record] = []
    categories: dict[str, int] = {}
    found = files.files["instances"]
    paths, source = ([found], found) if isinstance(found, Path) else (found, files.folder)
    for path in paths:
        words = re.split(r"[^a-z]+", path.stem.lower())
        split = next((split for split in SPLIT_ORDER if split.lower() in words), "train")
        one = _File(path, split, pictures, findings, several=len(paths) > 1, categories=categories)
        records += one.records(phrases)
    findings.finish(source, skip_invalid)
    if not records and NO_PHRASE in findings.notices:
        raise ArtifactError(
            f"no annotation of {source} has an expression",
            facts=[f"looked for {', '.join(_KEYS)}"],
            hint="take the category's name: --expressions category, or --expressions category-position",
        )
    images = {(r.picture.image_id, r.picture.file_name) for r in records}
    own_ids = len({r.ref_id for r in records}) == len(records) and len({i for i, _ in images}) == len(images)
    if not own_ids:
        findings.note("ids that several files share: they follow from the content instead", str(source))
        records = _with_ids_of_names(records)
    labels = [(k, label) for label, k in categories.items()]
    built = build_tables(files, source, records, labels, findings, content_ids=not own_ids)
    return replace(built, sentence_ids=sentence_ids(built))


def _with_ids_of_names(records: Sequence[Record]) -> list[Record]:
    """Pictures with ids that follow from their names, as in a table."""
    names = sorted({r.picture.file_name for r in records})
    ids = dict(zip(names, distinct_ids([("picture", name) for name in names]), strict=True))
    return [replace(r, picture=replace(r.picture, image_id=ids[r.picture.file_name])) for r in records]


class _File:
    """One instances file."""

    def __init__(
        self,
        path: Path,
        split: str,
        pictures: PictureFiles,
        findings: Findings,
        *,
        several: bool,
        categories: dict[str, int],
    ) -> None:
        content = load_json_lists(path)
        if isinstance(content, List):
            raise ArtifactError(
                f"{path} is a list, perhaps of COCO results, no instances file",
                hint="give the file with images, annotations and categories",
            )
        require_coco_lists(path, content, optional=("categories",))
        self._prefix = f"{path.name} " if several else ""
        self._split, self._files, self._findings = split, pictures, findings
        self._images = ById(content["images"], "image", findings, where="images")
        self._annotations = content["annotations"]
        self._by_id = ById(self._annotations, "annotation", findings, where="annotations")
        self._known: dict[int, Picture] = {}
        named = ById(content.get("categories") or [], "category", findings, where="categories")
        for unclear in named.unclear:
            findings.problem(unclear)
        self._label: dict[int, str] = {}
        for identity, entry in named.items():
            label = self._label[identity] = clean_text(str(entry.get("name", "")))
            if label not in categories:  # the id of the first file that has it
                taken = set(categories.values())
                categories[label] = next(k for k in count(identity) if k not in taken)
        self._category = categories

    def records(self, phrases: Phrases) -> list[Record]:
        """Invalid annotations are left out and told."""
        found: list[tuple[str, Mapping[str, Any], Record]] = []
        for place, annotation in enumerate(self._annotations):
            where = f"{self._prefix}annotations[{place}]"
            if place in self._by_id.repeated:
                continue
            try:
                if not isinstance(annotation, Mapping):
                    raise Invalid("not an object")
                if place in self._by_id.second:
                    raise Invalid(f"a second one with its id, which differs: {self._by_id.second[place]}")
                found.append((where, annotation, self._record(annotation, where)))
            except Invalid as error:
                self._findings.leave_out(where, error)
        ids = [id_of(a.get("category_id", -1)) for _, a, _ in found]
        labels = ["" if i is None else self._label.get(i, "") for i in ids]
        named = (
            _names_with_places([r for *_, r in found], labels) if phrases == "category-position" else labels
        )
        kept = []
        for (where, annotation, record), name in zip(found, named, strict=True):
            texts = phrases_of(annotation) or ([name] if name and phrases != "given" else [])
            if texts:
                kept.append(replace(record, sentences=list(enumerate(texts))))
            else:
                self._findings.note(NO_PHRASE, where)
        return kept

    def _record(self, annotation: Mapping[str, Any], where: str) -> Record:
        ann_id, image_id = whole(annotation.get("id"), "id"), whole(annotation.get("image_id"), "image_id")
        picture, image = self._picture(image_id)
        category = annotation.get("category_id")
        label = None if category is None else self._label.get(whole(category, "category_id"))
        if category is not None and label is None:
            raise Invalid(f"category {category} is not in categories")
        rle = mask_bytes(annotation.get("segmentation"), picture.size_hw, where, self._findings)
        bbox = annotation.get("bbox")
        if bbox or not rle:
            box = self._files.box(bbox, picture, self._findings)
        else:
            box = extent(rle, picture.size_hw)
        ref_id = id_of(annotation.get("ref_id"))
        return Record(
            ref_id=ann_id if ref_id is None else ref_id,
            ann_id=id_of(annotation.get("ann_id", ann_id)) or ann_id,
            picture=picture,
            category_id=-1 if label is None else self._category[label],
            split=checked_split(annotation.get("split") or image.get("split") or self._split),
            box_xyxy=box,
            is_crowd=bool(annotation.get("iscrowd")),
            rle=rle,
            sentences=[],
        )

    def _picture(self, image_id: int) -> tuple[Picture, Mapping[str, Any]]:
        if image_id not in self._images:
            raise Invalid(f"image {image_id} is not in images")
        image = self._images[image_id]
        if image_id not in self._known:
            name = image.get("file_name")
            if not isinstance(name, str) or not name.strip():
                raise Invalid(f"image {image_id} has no file_name")
            size = self._files.size(name, image.get("width"), image.get("height"), f"image {image_id}")
            self._known[image_id] = Picture(image_id, name, *size)
        return self._known[image_id], image


def phrases_of(annotation: Mapping[str, Any]) -> list[str]:
    """The texts of an annotation, each once; [] where it has none."""
    attributes = annotation.get("attributes")
    for holder in (annotation, attributes if isinstance(attributes, Mapping) else {}):
        for key in _KEYS:
            value = holder.get(key)
            entries = value if isinstance(value, list) else [value]
            texts = [clean_text(_text(entry)) for entry in entries]
            if kept := list(dict.fromkeys(filter(None, texts))):
                return kept
    return []


def _text(entry: Any) -> Any:
    """An expression: text, or an object that holds it as REFER's sentences do."""
    if isinstance(entry, Mapping):
        return next((entry[key] for key in _TEXT_KEYS if isinstance(entry.get(key), str)), "")
    return entry


def _names_with_places(records: Sequence[Record], labels: Sequence[str]) -> list[str]:
    """The label of each, with where it is among those of its label in its picture."""
    names, groups = list(labels), dict[tuple[int, str], list[int]]()
    for k, (record, label) in enumerate(zip(records, labels, strict=True)):
        groups.setdefault((record.picture.image_id, label), []).append(k)
    for same in groups.values():
        if len(same) < 2:
            continue
        boxes = np.array([records[k].box_xyxy for k in same])
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        gaps = np.diff(np.sort(centres, axis=0), axis=0).min(axis=0)
        axis = int(gaps[1] > gaps[0])  # along which they are told apart best
        for place, k in enumerate(np.array(same)[np.argsort(centres[:, axis], kind="stable")].tolist()):
            names[k] = _with_place(
                labels[k], place, len(same), ("left", "right") if axis == 0 else ("top", "bottom")
            )
    return names


def _with_place(label: str, place: int, n: int, ends: tuple[str, str]) -> str:
    if n <= 3:
        return f"{[ends[0], *(['middle'] if n == 3 else []), ends[1]][place]} {label}"
    number = place + 1
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending} {label} from the {ends[0]}"
