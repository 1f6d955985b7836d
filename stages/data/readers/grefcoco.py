"""gRefCOCO: `grefs(<by>).json` (or `.p`) + COCO's `instances.json`; a sentence may mean several objects, or none.

    ROOT/grefs(unc).json   ROOT/instances.json           or ROOT/grefcoco/…

As REFER, except that `ann_id` is a list. Several targets become one referent (`targets.py`), whose `ann_id` is -1 and
whose `n_targets` says how many. A ref with `ann_id` [-1] (or -1, [], null, or `no_target` without one) refers to
nothing: it has no box, so it is stored apart from the referents, and counted, but neither trained on nor scored.
"""

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.data.readers.build_tables import RecordColumns, build_tables
from stages.data.readers.json_lists import load_json_lists
from stages.data.readers.lookups import PictureFiles
from stages.data.readers.plain_pickle import load_plain_pickle
from stages.data.readers.records import Invalid, Record, check_file_size, checked_split, id_of, whole
from stages.data.readers.refer import CocoTables, checked_refs
from stages.data.readers.tables import NoTarget, ReferringTables, SourceFiles
from stages.data.readers.targets import hull, joined_masks
from stages.data.readers.values import is_nothing
from stages.errors import ArtifactError, UsageError, nearest_hint

_HINT = "--root FOLDER holds grefs(<by>).json and instances.json"


def find_gref_files(root: Path, name: str | None, by: str | None) -> SourceFiles:
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
        raise UsageError(
            f"no grefs({by}).json in {folder}"
            if by
            else f"{folder} holds {len(found) or 'no'} files grefs(<by>).json",
            facts=[str(p) for p in found.values()],
            hint=nearest_hint(by or "", found, "--by {}")
            or (f"--by {next(iter(found))}" if found else _HINT),
        )
    instances = folder / "instances.json"
    if not instances.is_file():
        raise ArtifactError(f"no such file: {instances}", hint=f"it belongs beside {found[by].name}")
    return SourceFiles(name or "grefcoco", by, folder, {"refs": found[by], "instances": instances})


def read_grefcoco(
    files: SourceFiles, *, skip_invalid: bool = False, pictures: PictureFiles | None = None
) -> ReferringTables:
    """Read both files into tables; `image_root` is still open. `pictures`: for sizes that are not annotated.

    Raises:
        ArtifactError: a file is damaged, or refs are invalid (listed by ref id) and `skip_invalid` is not set.
    """
    path = files.one("refs")
    check_file_size(path)
    refs = checked_refs(load_plain_pickle(path) if path.suffix == ".p" else load_json_lists(path), path)
    ann_ids = (value for ref in refs for value in _as_list(ref.get("ann_id")))
    coco = CocoTables.load(files.one("instances"), ann_ids, pictures)
    no_target: list[NoTarget] = []
    records = RecordColumns(_with_target(coco.read_refs(refs, _read_ref), no_target))
    coco.findings.finish(path, skip_invalid)
    return build_tables(files, path, records, coco.categories, coco.findings, no_target=no_target)


def _with_target(found: Iterable[Record | NoTarget], others: list[NoTarget]) -> Iterator[Record]:
    """The referents; what refers to nothing goes to `others`."""
    for entry in found:
        if isinstance(entry, Record):
            yield entry
        else:
            others.append(entry)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _targets(ref: Mapping[str, Any]) -> list[int]:
    """The annotations that a ref means, each once; [] where it means nothing."""
    says_none = ref.get("no_target") is True or id_of(ref.get("no_target")) == 1
    if "ann_id" not in ref and not says_none:
        raise Invalid("no ann_id")
    values = _as_list(ref.get("ann_id"))
    real = [value for value in values if not is_nothing(value) and id_of(value) != -1]
    if real and len(real) < len(values):
        raise Invalid(f"ann_id is {reprlib.repr(values)}, both annotations and none")
    if real and says_none:
        raise Invalid(f"marked as without target, but with annotations {reprlib.repr(values)}")
    return list(dict.fromkeys(whole(value, "ann_id") for value in real))


def _read_ref(ref: Mapping[str, Any], coco: CocoTables) -> Record | NoTarget:
    ref_id, image_id = (whole(ref.get(key), key) for key in ("ref_id", "image_id"))
    picture, split = coco.picture(image_id), checked_split(ref.get("split"))
    sentences = coco.sentences(ref_id, ref.get("sentences"))
    ann_ids = _targets(ref)
    if not ann_ids:
        return NoTarget(ref_id, image_id, picture.file_name, split, tuple(sentences))
    targets = [coco.annotation(i, image_id) for i in ann_ids]
    kinds = {kind for t in targets if (kind := id_of(t.get("category_id"))) is not None}
    return Record(
        ref_id=ref_id,
        ann_id=ann_ids[0] if len(targets) == 1 else -1,
        picture=picture,
        category_id=kinds.pop() if len(kinds) == 1 else -1,
        split=split,
        box_xyxy=hull([coco.box(t, picture) for t in targets]),
        is_crowd=any(bool(t.get("iscrowd")) for t in targets),
        rle=joined_masks([coco.rle(t, picture.size_hw) for t in targets], picture.size_hw, coco.findings),
        sentences=sentences,
        n_targets=len(targets),
    )
