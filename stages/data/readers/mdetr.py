"""MDETR's COCO-style files: `finetune_<name>_<split>.json`, one image entry an expression.

    ROOT/finetune_refcoco_train.json  finetune_refcoco_val.json  finetune_refcoco_testA.json …

An image entry holds `caption`, `original_id` (COCO's image) and the picture's name and size; its annotation holds the
`bbox` (x, y, width, height) and `original_id` (COCO's annotation). Entries of one split that mean the same annotation
are the sentences of one referent. There are usually no masks. `tokens_positive` is not needed: here a whole sentence
refers. Files made from gRefCOCO have several annotations for an entry, or one that is marked `empty`: they become what
`grefcoco.py` makes of them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.data.readers.build_tables import build_tables
from stages.data.readers.json_lists import load_json_lists, require_coco_lists
from stages.data.readers.lookups import ById, PictureFiles, Pictures
from stages.data.readers.records import (
    Findings,
    Invalid,
    Record,
    checked_split,
    clean_text,
    id_of,
    mask_bytes,
    whole,
)
from stages.data.readers.tables import NoTarget, ReferringTables, SourceFiles
from stages.data.readers.targets import hull, joined_masks
from stages.errors import ArtifactError, UsageError, nearest_hint

_NAME = re.compile(r"finetune_(?P<name>.+)_(?P<split>[A-Za-z]+)\.json")
# what the files were made from
_BY = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd", "grefcoco": "unc"}


def find_mdetr_files(root: Path, name: str | None, by: str | None) -> SourceFiles:
    """All `finetune_<name>_<split>.json` of one data set in `root`, by split; `root` may also be one of the files.

    Raises:
        UsageError: no or several data sets fit; the facts list what is there.
        ArtifactError: `root` does not exist.
    """
    if not root.exists():
        raise ArtifactError(
            f"no such folder: {root}", hint="--root FOLDER holds finetune_<name>_<split>.json"
        )
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(root.iterdir()) if root.is_dir() else [root]:
        if match := _NAME.fullmatch(path.name):
            found.setdefault(match["name"], {})[match["split"]] = path
    names = [name] if name in found else list(found) if name is None else []
    if len(names) != 1:
        raise UsageError(
            f"no data set {name!r} in {root}"
            if name
            else f"{root} holds {len(found) or 'no'} data sets of MDETR",
            facts=[f"{n}: {', '.join(splits)}" for n, splits in found.items()]
            or ["the files must be called finetune_<name>_<split>.json"],
            hint=nearest_hint(name or "", found, "--name {}")
            or (
                f"--name {next(iter(found))}" if found else "--root FOLDER holds finetune_<name>_<split>.json"
            ),
        )
    chosen = names[0]
    folder = root if root.is_dir() else root.parent
    return SourceFiles(chosen, by or _BY.get(chosen, "mdetr"), folder, found[chosen])


@dataclass
class _Reader:
    """Collects the referents of all files."""

    findings: Findings
    pictures: Pictures
    categories: dict[int, str] = field(default_factory=dict)
    referents: dict[tuple[Any, ...], Record] = field(default_factory=dict)
    _boxes: dict[tuple[Any, ...], list[str]] = field(default_factory=dict)  # of these referents, as written
    no_target: list[NoTarget] = field(default_factory=list)

    def read(self, split: str, path: Path) -> None:
        content = load_json_lists(path)
        require_coco_lists(path, content, hint="it must be a COCO-style file of MDETR")
        self._add_categories(path, content["categories"])
        annotations = ById(content["annotations"], "annotation", self.findings, where="annotations")
        places: dict[int | None, list[int]] = {}
        for place, annotation in enumerate(content["annotations"]):
            if isinstance(annotation, dict) and place not in annotations.repeated:
                places.setdefault(id_of(annotation.get("image_id")), []).append(place)
        images = ById(content["images"], "image", self.findings, where="images")
        for number, entry in enumerate(content["images"]):
            if number in images.repeated:
                continue
            try:
                if not isinstance(entry, Mapping):
                    raise Invalid(f"not an object but {str(entry)[:40]}")
                entry_id = whole(entry.get("id"), "id")
                images.check(entry_id)
                targets = [content["annotations"][place] for place in places.get(entry_id, [])]
                for target in targets:
                    annotations.check(id_of(target.get("id")))
                self._entry(checked_split(split), entry, targets)
            except Invalid as error:
                self.findings.leave_out(f"{path.name} images[{number}]", error)

    def _add_categories(self, path: Path, entries: Sequence[Any]) -> None:
        categories = ById(entries, "category", self.findings, where="categories")
        for unclear in categories.unclear:
            self.findings.problem(f"{path.name}: {unclear}")
        for category_id, category in categories.items():
            name = str(category.get("name", ""))
            if (first := self.categories.setdefault(category_id, name)) != name:
                self.findings.problem(
                    f"{path.name}: category {category_id} is {name!r} here and {first!r} in another split"
                )

    def _entry(self, split: str, entry: Mapping[str, Any], targets: list[Mapping[str, Any]]) -> None:
        entry_id = whole(entry.get("id"), "id")
        image_id = whole(entry.get("original_id", entry_id), "original_id")
        text = clean_text(entry.get("caption"))
        if not text:
            raise Invalid("empty caption")
        if not isinstance(entry.get("file_name"), str) or not entry["file_name"]:
            raise Invalid("no file name")
        picture = self.pictures.get(image_id, entry["file_name"], entry.get("width"), entry.get("height"))
        sentence = (entry_id, text)
        if all(target.get("empty") is True for target in targets):
            if not targets:
                raise Invalid(f"no annotation has the image_id {entry_id}")
            self.no_target.append(NoTarget(entry_id, image_id, picture.file_name, split, (sentence,)))
            return
        if len({str(target.get("tokens_positive")) for target in targets}) > 1:
            raise Invalid(
                f"{len(targets)} annotations for different words of the caption: phrase grounding, "
                "where no expression as a whole refers"
            )
        names = sorted(str(t.get("original_id", t.get("bbox"))) for t in targets)
        key = (split, picture.image_id, picture.file_name, *names)
        boxes = sorted(str(t.get("bbox")) for t in targets)
        if key in self.referents:
            if boxes != self._boxes[key]:
                raise Invalid(
                    f"original_id {names[0]} has the box {boxes[0][:60]} here and {self._boxes[key][0][:60]} before"
                )
            self.referents[key].sentences.append(sentence)
            return
        self._boxes[key] = boxes
        size = picture.size_hw
        ids = {i for t in targets if (i := id_of(t.get("original_id"))) is not None}
        kinds = {i for t in targets if (i := id_of(t.get("category_id"))) is not None}
        masks = [
            mask_bytes(t.get("segmentation"), size, f"annotation {t.get('id')}", self.findings)
            for t in targets
        ]
        self.referents[key] = Record(
            ref_id=0,  # follows from the content
            ann_id=ids.pop() if len(ids) == 1 else -1,
            picture=picture,
            category_id=kinds.pop() if len(kinds) == 1 else -1,
            split=split,
            box_xyxy=hull([self.pictures.box(t.get("bbox"), picture) for t in targets]),
            is_crowd=any(t.get("iscrowd") == 1 for t in targets),
            rle=joined_masks(masks, size, self.findings),
            sentences=[sentence],
            n_targets=len(targets),
        )


def read_mdetr(
    files: SourceFiles, *, skip_invalid: bool = False, pictures: PictureFiles | None = None
) -> ReferringTables:
    """Read the files of all splits into tables; `image_root` is still open. `pictures`: for sizes that are not
    annotated.

    Raises:
        ArtifactError: a file is damaged, or entries are invalid (listed) and `skip_invalid` is not set.
    """
    findings = Findings()
    reader = _Reader(findings, Pictures(pictures or PictureFiles(), findings))
    for split in files.files:
        reader.read(split, files.one(split))
    findings.finish(files.folder, skip_invalid)
    records = list(reader.referents.values())
    no_target = reader.no_target if reader.no_target or any(r.n_targets > 1 for r in records) else None
    categories = sorted(reader.categories.items())
    return build_tables(
        files, files.folder, records, categories, findings, no_target=no_target, content_ids=True
    )
