"""The REFER layout: `refs(<by>).p` + `instances.json` + COCO pictures (RefCOCO, RefCOCO+, RefCOCOg).

    ROOT/refs(unc).p   ROOT/instances.json           or ROOT/<name>/… with --name
    pictures: --images FOLDER, or images/train2014 and its usual variants in ROOT or beside it

An annotation with an empty `segmentation` is a box-only referent, which is normal. Several refs may share an
annotation. Annotations and images without refs are left out. A ref's own `file_name` carries the annotation's id;
the name in `instances.json` is the picture's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.records import (
    Findings,
    Invalid,
    Picture,
    Record,
    build_tables,
    check_file_size,
    checked_box,
    checked_size,
    checked_split,
    clean_text,
    entries_with_ids,
    is_id,
    load_json,
    mask_bytes,
    whole,
)
from stages.data.readers.tables import ReferringTables
from stages.errors import ArtifactError, UsageError, did_you_mean


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
    check_file_size(files.refs)
    refs = checked_refs(load_plain_pickle(files.refs), files.refs)
    coco = CocoTables.load(files.instances, {a for r in refs if is_id(a := r.get("ann_id"))})
    check = _Checker(coco)
    records = [record for ref in refs if (record := check.record(ref)) is not None]
    coco.findings.finish(files.refs, skip_invalid)
    return build_tables(
        name=files.name,
        by=files.by,
        source=files.refs,
        records=records,
        categories=coco.categories,
        findings=coco.findings,
    )


def checked_refs(refs: Any, path: Path) -> list[Mapping[str, Any]]:
    """ArtifactError unless `refs` is a list of at least one dict."""
    if not isinstance(refs, list | tuple) or not all(isinstance(r, Mapping) for r in refs):
        raise ArtifactError(f"{path} is no list of referents")
    if not refs:
        raise ArtifactError(f"{path} holds no referent")
    return list(refs)


@dataclass(eq=False)
class CocoTables:
    """`instances.json`, by id, and what is found wrong on the way."""

    images: Mapping[int, Mapping[str, Any]]
    annotations: Mapping[int, Mapping[str, Any]]
    categories: list[tuple[int, str]]
    findings: Findings = field(default_factory=Findings)
    _rles: dict[int, bytes] = field(default_factory=dict)  # ann id -> counts: refs may share an annotation

    @classmethod
    def load(cls, path: Path, wanted: set[int]) -> CocoTables:
        """Annotations only where their id is wanted: the others (three of four) are let go while the file is
        parsed, which keeps the peak of memory below that of a plain `json.load`."""

        def keep(entry: dict[str, Any]) -> dict[str, Any] | None:
            unwanted = (
                "bbox" in entry
                and "image_id" in entry
                and is_id(entry.get("id"))
                and entry["id"] not in wanted
            )
            return None if unwanted else entry

        content = load_json(path, keep)
        for part in ("images", "annotations", "categories"):
            if not isinstance(content, dict) or not isinstance(content.get(part), list):
                raise ArtifactError(f"{path} has no list {part!r}", hint="it must be a COCO instances file")
        return cls(
            images={i["id"]: i for i in entries_with_ids(content["images"])},
            annotations={a["id"]: a for a in entries_with_ids(content["annotations"])},
            categories=[(c["id"], str(c.get("name", ""))) for c in entries_with_ids(content["categories"])],
        )

    def picture(self, image_id: int) -> Picture:
        if image_id not in self.images:
            raise Invalid(f"image {image_id} is not in instances.json")
        image = self.images[image_id]
        height, width = checked_size(image.get("width"), image.get("height"), f"image {image_id}")
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise Invalid(f"image {image_id} has no file name")
        return Picture(image_id, image["file_name"], height, width)

    def annotation(self, ann_id: int, image_id: int) -> Mapping[str, Any]:
        if ann_id not in self.annotations:
            raise Invalid(f"annotation {ann_id} is not in instances.json")
        annotation = self.annotations[ann_id]
        if annotation.get("image_id") != image_id:
            raise Invalid(
                f"annotation {ann_id} belongs to image {annotation.get('image_id')}, not {image_id}"
            )
        return annotation

    def rle(self, annotation: Mapping[str, Any], size_hw: tuple[int, int]) -> bytes:
        ann_id = annotation["id"]
        if ann_id not in self._rles:
            segmentation = annotation.get("segmentation") or None
            self._rles[ann_id] = mask_bytes(segmentation, size_hw, f"annotation {ann_id}", self.findings)
        elif annotation.get("segmentation") and not self._rles[ann_id]:
            self.findings.note("masks without a pixel, taken as box only")
        return self._rles[ann_id]


@dataclass
class _Checker:
    """Turns refs into records."""

    coco: CocoTables
    _seen: set[int] = field(default_factory=set)

    def record(self, ref: Mapping[str, Any]) -> Record | None:
        try:
            return self._record(ref)
        except Invalid as error:
            self.coco.findings.leave_out(f"ref {ref.get('ref_id')}", error)
            return None

    def _record(self, ref: Mapping[str, Any]) -> Record:
        ref_id, ann_id, image_id = (whole(ref.get(key), key) for key in ("ref_id", "ann_id", "image_id"))
        if ref_id in self._seen:
            raise Invalid("a second referent with this id")
        self._seen.add(ref_id)
        coco = self.coco
        picture = coco.picture(image_id)
        annotation = coco.annotation(ann_id, image_id)
        split = checked_split(ref.get("split"))
        category = annotation.get("category_id", ref.get("category_id"))
        return Record(
            ref_id=ref_id,
            ann_id=ann_id,
            picture=picture,
            category_id=category if is_id(category) else -1,
            split=split,
            box_xyxy=checked_box(annotation.get("bbox"), picture.size_hw, coco.findings),
            is_crowd=bool(annotation.get("iscrowd")),
            sentences=ref_sentences(f"ref {ref_id}", ref.get("sentences"), coco.findings),
            rle=coco.rle(annotation, picture.size_hw),
        )


def ref_sentences(where: str, entries: Any, findings: Findings) -> list[tuple[int, str]]:
    """(sentence id, text) of a ref; empty ones are left out and noted. Invalid when none is left."""
    if not isinstance(entries, list | tuple) or not entries:
        raise Invalid("no sentence")
    said = [(_get(entry, "sent_id"), _text_of(entry)) for entry in entries]
    if not any(text for _, text in said):
        raise Invalid(f"empty expression (sentence {said[0][0]}), and it has no other")
    for sent_id, text in said:
        if not text:
            findings.problem(f"{where}: empty expression (sentence {sent_id})")
            findings.note("empty expressions left out")
    return [(sent_id if is_id(sent_id) else -1, text) for sent_id, text in said if text]


def _get(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, Mapping) else None


def _text_of(entry: Any) -> str:
    """The sentence: `sent` (lower case, as the public loaders use it), else `raw`, else the joined tokens."""
    tokens = _get(entry, "tokens")
    joined = " ".join(map(str, tokens)) if isinstance(tokens, list | tuple) else ""
    found = (clean_text(text) for text in (_get(entry, "sent"), _get(entry, "raw"), joined))
    return next((text for text in found if text), "")
