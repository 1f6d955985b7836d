"""The REFER layout: `refs(<by>).p` + `instances.json` + COCO pictures (RefCOCO, RefCOCO+, RefCOCOg).

    ROOT/refs(unc).p   ROOT/instances.json           or ROOT/<name>/… with --name
    pictures: --images FOLDER, or images/train2014 and its usual variants in ROOT or beside it

An annotation with an empty `segmentation` is a box-only referent, which is normal. Several refs may share an
annotation. Annotations and images without refs are left out, and so are refs without a sentence (which are counted).
A ref's own `file_name` carries the annotation's id; the name in `instances.json` is the picture's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stages.data.readers.build_tables import RecordColumns, build_tables
from stages.data.readers.entry_file import EntryFile
from stages.data.readers.json_lists import load_json_lists, require_coco_lists
from stages.data.readers.lookups import ById, PictureFiles, SeenIds
from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.records import (
    Findings,
    Invalid,
    Picture,
    Record,
    check_file_size,
    checked_split,
    clean_text,
    id_of,
    mask_bytes,
    whole,
)
from stages.data.readers.tables import ReferringTables, SourceFiles
from stages.errors import ArtifactError, UsageError, nearest_hint

T = TypeVar("T")


def find_refer_files(root: Path, name: str | None, by: str | None) -> SourceFiles:
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
        raise UsageError(
            f"no data set {name!r} in {root}" if name else f"{root} holds no refs(<by>).p itself",
            facts=listing or ["neither does any folder in it"],
            hint=nearest_hint(name or "", names, "--name {}")
            or (f"--name {names[0]}" if names else "--root FOLDER holds refs(<by>).p and instances.json"),
        )
    who = found[folder]
    if by is None and len(who) > 1:
        raise UsageError(
            f"{folder} holds several splits: {', '.join(who)}", hint=f"choose one: --by {who[0]}"
        )
    if by is not None and by not in who:
        hint = nearest_hint(by, who, "--by {}") or f"--by {who[0]}"
        raise UsageError(f"no refs({by}).p in {folder}", facts=listing, hint=hint)
    by = by or who[0]
    instances = folder / "instances.json"
    if not instances.is_file():
        raise ArtifactError(f"no such file: {instances}", hint="it belongs beside refs(<by>).p")
    files = {"refs": folder / f"refs({by}).p", "instances": instances}
    return SourceFiles(name or folder.resolve().name, by, folder, files)


def _splits_in(folder: Path) -> list[str]:
    return sorted(p.name[5:-3] for p in folder.glob("refs(*).p") if p.is_file())


def _choose_folder(root: Path, name: str | None, found: list[Path]) -> Path | None:
    """`root/<name>` when it holds refs, else `root` itself when it does; then a name is only a label, unless
    it may well be a misspelt folder."""
    if name and root / name in found:
        return root / name
    label = name is None or root.resolve().name == name or found == [root]
    return root if root in found and label else None


def read_refer(
    files: SourceFiles, *, skip_invalid: bool = False, pictures: PictureFiles | None = None
) -> ReferringTables:
    """Read both files into tables; `image_root` is still open. `pictures`: for sizes that are not annotated.

    Raises:
        ArtifactError: a file is damaged, or referents are invalid (listed by ref id) and `skip_invalid` is not set.
    """
    path = files.one("refs")
    check_file_size(path)
    refs = checked_refs(load_plain_pickle(path), path)
    coco = CocoTables.load(files.one("instances"), (r.get("ann_id") for r in refs), pictures)
    records = RecordColumns(coco.read_refs(refs, _record))
    coco.findings.finish(path, skip_invalid)
    return build_tables(files, path, records, coco.categories, coco.findings)


def checked_refs(refs: Any, path: Path) -> Sequence[Mapping[str, Any]]:
    """ArtifactError unless `refs` is a list of at least one dict."""
    if not isinstance(refs, list | tuple | EntryFile) or not all(isinstance(r, dict | Mapping) for r in refs):
        raise ArtifactError(f"{path} is no list of referents")
    if not refs:
        raise ArtifactError(f"{path} holds no referent")
    return refs


@dataclass(eq=False)
class CocoTables:
    """`instances.json`, by id, and what is found wrong on the way."""

    images: ById
    annotations: ById
    categories: list[tuple[int, str]]
    findings: Findings
    files: PictureFiles
    _without_pixel: set[int] = field(default_factory=set)  # ids of annotations that were told
    _sentences: SeenIds = field(default_factory=SeenIds)

    @classmethod
    def load(cls, path: Path, ann_ids: Iterable[Any], files: PictureFiles | None = None) -> CocoTables:
        """Annotations only where their id is asked for: the others (three of four) are let go at once."""
        wanted = SeenIds()
        for value in ann_ids:
            if (ann_id := id_of(value)) is not None:
                wanted.add(ann_id)

        def keep(entry: dict[str, Any]) -> dict[str, Any] | None:
            if "bbox" not in entry or "image_id" not in entry:
                return entry
            identity = id_of(entry.get("id"))
            return None if identity is not None and identity not in wanted else entry

        content = load_json_lists(path, keep)
        require_coco_lists(path, content)
        findings = Findings()
        categories = ById(content["categories"], "category", findings, where="categories")
        for unclear in categories.unclear:
            findings.problem(unclear)
        return cls(
            images=ById(content["images"], "image", findings, where="images"),
            annotations=ById(content["annotations"], "annotation", findings, where="annotations"),
            categories=[(c, str(entry.get("name", ""))) for c, entry in categories.items()],
            findings=findings,
            files=files or PictureFiles(),
        )

    def read_refs(
        self, refs: Sequence[Mapping[str, Any]], read: Callable[[Mapping[str, Any], CocoTables], T]
    ) -> Iterator[T]:
        """What `read` makes of each ref; invalid ones and those without a sentence are left out and told."""
        by_id = ById(refs, "ref", self.findings, key="ref_id", where="refs")
        for place, ref in enumerate(refs):
            if place in by_id.repeated:
                continue
            try:
                if place in by_id.second:
                    raise Invalid(f"a second referent with this id, which differs: {by_id.second[place]}")
                if not ref.get("sentences"):
                    self.findings.note("refs without a sentence left out", f"ref {ref.get('ref_id')}")
                    continue
                found = read(ref, self)
            except Invalid as error:
                self.findings.leave_out(f"ref {ref.get('ref_id')}", error)
                continue
            yield found

    def picture(self, image_id: int) -> Picture:
        if image_id not in self.images:
            raise Invalid(f"image {image_id} is not in instances.json")
        image = self.images[image_id]
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise Invalid(f"image {image_id} has no file name")
        height, width = self.files.size(name, image.get("width"), image.get("height"), f"image {image_id}")
        return Picture(image_id, name, height, width)

    def annotation(self, ann_id: int, image_id: int) -> Mapping[str, Any]:
        if ann_id not in self.annotations:
            raise Invalid(f"annotation {ann_id} is not in instances.json")
        annotation = self.annotations[ann_id]
        if id_of(annotation.get("image_id")) != image_id:
            raise Invalid(
                f"annotation {ann_id} belongs to image {annotation.get('image_id')}, not {image_id}"
            )
        return annotation

    def box(self, annotation: Mapping[str, Any], picture: Picture) -> tuple[float, float, float, float]:
        return self.files.box(annotation.get("bbox"), picture, self.findings)

    def rle(self, annotation: Mapping[str, Any], size_hw: tuple[int, int]) -> bytes:
        """Compressed counts, b"" where there is no mask; refs may share an annotation."""
        ann_id = whole(annotation["id"], "id")
        if ann_id in self._without_pixel:
            self.findings.note("masks without a pixel, taken as box only")
            return b""
        segmentation = annotation.get("segmentation") or None
        rle = mask_bytes(segmentation, size_hw, f"annotation {ann_id}", self.findings)
        if segmentation and not rle:
            self._without_pixel.add(ann_id)
        return rle

    def sentences(self, ref_id: int, entries: Any) -> list[tuple[int, str]]:
        """(sentence id, text) of a ref; empty and repeated ones are left out and noted. Invalid when none is left."""
        if not isinstance(entries, list | tuple) or not entries:
            raise Invalid("no sentence")
        said = [(_get(entry, "sent_id"), _text_of(entry)) for entry in entries]
        if not any(text for _, text in said):
            raise Invalid(f"empty expression (sentence {said[0][0]}), and it has no other")
        kept: list[tuple[int, str]] = []
        for sent_id, text in said:
            if not text:
                self.findings.problem(f"ref {ref_id}: empty expression (sentence {sent_id})")
                self.findings.note("empty expressions left out")
                continue
            known = id_of(sent_id)
            if known is not None and known >= 0:
                if (known, text) in kept:
                    self.findings.note(
                        "sentences that are there twice, alike: taken once", f"sentence {known}"
                    )
                    continue
                if known in self._sentences:
                    self.findings.note(
                        "sentence ids that are there twice", f"sentence {known} in ref {ref_id}"
                    )
                self._sentences.add(known)
            kept.append((-1 if known is None else known, text))
        return kept


def _record(ref: Mapping[str, Any], coco: CocoTables) -> Record:
    ref_id, ann_id, image_id = (whole(ref.get(key), key) for key in ("ref_id", "ann_id", "image_id"))
    picture = coco.picture(image_id)
    annotation = coco.annotation(ann_id, image_id)
    category = id_of(annotation.get("category_id", ref.get("category_id")))
    return Record(
        ref_id=ref_id,
        ann_id=ann_id,
        picture=picture,
        category_id=-1 if category is None else category,
        split=checked_split(ref.get("split")),
        box_xyxy=coco.box(annotation, picture),
        is_crowd=bool(annotation.get("iscrowd")),
        sentences=coco.sentences(ref_id, ref.get("sentences")),
        rle=coco.rle(annotation, picture.size_hw),
    )


def _get(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, dict | Mapping) else None


def _text_of(entry: Any) -> str:
    """The sentence: `sent` (lower case, as the public loaders use it), else `raw`, else the joined tokens."""
    for key in ("sent", "raw"):
        if text := clean_text(_get(entry, key)):
            return text
    tokens = _get(entry, "tokens")
    return clean_text(" ".join(map(str, tokens))) if isinstance(tokens, list | tuple) else ""
