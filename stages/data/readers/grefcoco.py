"""gRefCOCO: `grefs(<by>).json` (or `.p`) + COCO's `instances.json`; a sentence may mean several objects, or none.

    ROOT/grefs(unc).json   ROOT/instances.json           or ROOT/grefcoco/…

As REFER, except that `ann_id` is a list. Several targets become one referent (`targets.py`), whose `ann_id` is -1 and
whose `n_targets` says how many. A ref with `ann_id` [-1] (or `no_target`) refers to nothing: it has no box, so it is
stored apart from the referents, and counted, but neither trained on nor scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.records import (
    Invalid,
    Record,
    build_tables,
    check_file_size,
    checked_box,
    checked_split,
    is_id,
    load_json,
    whole,
)
from stages.data.readers.refer import CocoTables, checked_refs, ref_sentences
from stages.data.readers.tables import NoTarget, ReferringTables
from stages.data.readers.targets import hull, joined_masks
from stages.errors import ArtifactError, UsageError, did_you_mean

_HINT = "--root FOLDER holds grefs(<by>).json and instances.json"


@dataclass(frozen=True)
class GrefFiles:
    """Where the two annotation files are."""

    name: str
    by: str
    refs: Path
    instances: Path


def find_gref_files(root: Path, name: str | None, by: str | None) -> GrefFiles:
    """Locate grefs(<by>).json and instances.json in `root`, or in `root/<name>` (default: grefcoco).

    Raises:
        UsageError: no such file, or several and no `by`.
        ArtifactError: `root` or its instances.json does not exist.
    """
    if not root.is_dir():
        raise ArtifactError(f"no such folder: {root}", hint=_HINT)
    folder = next(
        (f for f in (root, root / (name or "grefcoco")) if f.is_dir() and any(f.glob("grefs(*).*"))), root
    )
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("grefs(*).*")):
        if path.suffix in (".json", ".p"):
            found.setdefault(path.stem[6:-1], path)
    if by is None and len(found) == 1:
        by = next(iter(found))
    if by not in found:
        near = did_you_mean(by, list(found)) if by else next(iter(found), None)
        raise UsageError(
            f"no grefs({by}).json in {folder}"
            if by
            else f"{folder} holds {len(found) or 'no'} files grefs(<by>).json",
            facts=[str(p) for p in found.values()],
            hint=f"--by {near}" if near else _HINT,
        )
    instances = folder / "instances.json"
    if not instances.is_file():
        raise ArtifactError(f"no such file: {instances}", hint=f"it belongs beside {found[by].name}")
    return GrefFiles(name or "grefcoco", by, found[by], instances)


def read_grefcoco(files: GrefFiles, *, skip_invalid: bool = False) -> ReferringTables:
    """Read both files into tables; `image_root` is still open.

    Raises:
        ArtifactError: a file is damaged, or refs are invalid (listed by ref id) and `skip_invalid` is not set.
    """
    check_file_size(files.refs)
    content = load_plain_pickle(files.refs) if files.refs.suffix == ".p" else load_json(files.refs)
    refs = checked_refs(content, files.refs)
    coco = CocoTables.load(
        files.instances, {i for ref in refs for i in _as_list(ref.get("ann_id")) if is_id(i)}
    )
    records: list[Record] = []
    no_target: list[NoTarget] = []
    seen: set[int] = set()
    for ref in refs:
        try:
            found = _read_ref(ref, coco, seen)
        except Invalid as error:
            coco.findings.leave_out(f"ref {ref.get('ref_id')}", error)
            continue
        if isinstance(found, Record):
            records.append(found)
        else:
            no_target.append(found)
    coco.findings.finish(files.refs, skip_invalid)
    return build_tables(
        name=files.name,
        by=files.by,
        source=files.refs,
        records=records,
        categories=coco.categories,
        findings=coco.findings,
        no_target=no_target,
    )


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _read_ref(ref: Mapping[str, Any], coco: CocoTables, seen: set[int]) -> Record | NoTarget:
    ref_id, image_id = (whole(ref.get(key), key) for key in ("ref_id", "image_id"))
    if ref_id in seen:
        raise Invalid("a second referent with this id")
    seen.add(ref_id)
    picture, split, findings = coco.picture(image_id), checked_split(ref.get("split")), coco.findings
    sentences = ref_sentences(f"ref {ref_id}", ref.get("sentences"), findings)
    ann_ids = [whole(i, "ann_id") for i in _as_list(ref.get("ann_id"))]
    if ann_ids in ([], [-1]):
        return NoTarget(ref_id, image_id, picture.file_name, split, tuple(sentences))
    if ref.get("no_target") is True:
        raise Invalid(f"marked as without target, but with annotations {ann_ids}")
    targets = [coco.annotation(i, image_id) for i in dict.fromkeys(ann_ids)]
    kinds = {t["category_id"] for t in targets if is_id(t.get("category_id"))}
    return Record(
        ref_id=ref_id,
        ann_id=ann_ids[0] if len(targets) == 1 else -1,
        picture=picture,
        category_id=kinds.pop() if len(kinds) == 1 else -1,
        split=split,
        box_xyxy=hull([checked_box(t.get("bbox"), picture.size_hw, findings) for t in targets]),
        is_crowd=any(bool(t.get("iscrowd")) for t in targets),
        rle=joined_masks([coco.rle(t, picture.size_hw) for t in targets], picture.size_hw, findings),
        sentences=sentences,
        n_targets=len(targets),
    )
