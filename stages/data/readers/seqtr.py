"""The SeqTR release's `instances.json`: {split: [{image_id, height, width, bbox, expressions, mask …}, …]}.

    ROOT/instances.json     or ROOT/<name>-<by>/instances.json with --name (and --by): refcoco-unc, refcocoplus-unc,
    refcocog-umd, refcocog-google, referitgame-berkeley, flickr30k, mixed

One entry is one referent. `bbox` is x, y, width, height; `mask` is polygons or RLE, absent in the box-only lists
(Flickr30k Entities, ReferItGame, mixed). The file has no ids of referents and annotations: those of referents follow from
picture and box (ids.py). Picture names follow from the image id as in the release.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.data.readers.build_tables import build_tables
from stages.data.readers.json_lists import List, load_json_lists
from stages.data.readers.lookups import PictureFiles, Pictures
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
from stages.data.readers.tables import ReferringTables, SourceFiles
from stages.errors import ArtifactError, UsageError, nearest_hint

_FILE = "instances.json"
_COCO_NAME = "COCO_train2014_{:012d}.jpg"
# where the release's mixed list keeps the pictures of each source, below the folder `images`
_MIXED_FOLDERS = {
    "coco": "mscoco/train2014",
    "visual-genome": "visual-genome",
    "saiaprtc12": "saiaprtc12",
    "flickr": "flickr30k",
}


def find_seqtr_files(root: Path, name: str | None, by: str | None) -> SourceFiles:
    """Locate `instances.json` in `root` or in the folder below it that `name` and `by` say.

    Raises:
        UsageError: no or several folders fit; the facts list what is there.
        ArtifactError: `root` does not exist.
    """
    if not root.is_dir():
        raise ArtifactError(f"no such folder: {root}", hint=f"--root FOLDER holds {_FILE}")
    if (root / _FILE).is_file():
        own_name, own_by = _labels(root.resolve().name)
        return SourceFiles(name or own_name, by or own_by, root, {"instances": root / _FILE})
    found = {p.name: _labels(p.name) for p in sorted(root.iterdir()) if (p / _FILE).is_file()}
    fitting = [
        folder for folder, labels in found.items()
        if (name is None or name in (folder, labels[0])) and (by is None or by == labels[1])
    ]  # fmt: skip
    if len(fitting) != 1:
        raise UsageError(
            f"{'no' if not fitting else 'several'} data sets fit in {root}",
            facts=[f"{folder}: --name {n} --by {b}" for folder, (n, b) in found.items()]
            or [f"neither it nor a folder in it holds {_FILE}"],
            hint=nearest_hint(name or "", [labels[0] for labels in found.values()], "--name {}")
            or f"--root FOLDER holds {_FILE}",
        )
    folder = root / fitting[0]
    return SourceFiles(*found[fitting[0]], folder, {"instances": folder / _FILE})


def _labels(folder: str) -> tuple[str, str]:
    """refcocoplus-unc -> (refcoco+, unc); a name without a dash was split by the release."""
    name, _, by = folder.rpartition("-") if "-" in folder else (folder, "", "release")
    return name.replace("refcocoplus", "refcoco+"), by


def load_lists(path: Path) -> dict[str, Sequence[Any]]:
    """{split: entries} of a file in this form; ArtifactError when it has another one."""
    content = load_json_lists(path)
    if isinstance(content, dict) and isinstance(content.get("annotations"), List) and "images" in content:
        raise ArtifactError(
            f"{path} is a COCO file, no list of the SeqTR release",
            hint="read REFER folders with --source refer, MDETR's files with --source mdetr",
        )
    if not isinstance(content, dict) or not content or not all(isinstance(v, List) for v in content.values()):
        raise ArtifactError(
            f"{path} is no list of the SeqTR release",
            hint='it must be {"train": [{"image_id": …, "bbox": …, "expressions": …}, …], "val": …}',
        )
    return content


def read_seqtr(
    files: SourceFiles, *, skip_invalid: bool = False, pictures: PictureFiles | None = None
) -> ReferringTables:
    """Read the list into tables; `image_root` is still open. `pictures`: for sizes that are not annotated.

    Raises:
        ArtifactError: the file is damaged, or entries are invalid (listed as split[number]) and `skip_invalid` is
        not set.
    """
    path = files.one("instances")
    content = load_lists(path)
    findings = Findings()
    known = Pictures(pictures or PictureFiles(), findings)
    records = []
    for split, number, entry in ((s, k, e) for s, entries in content.items() for k, e in enumerate(entries)):
        try:
            if isinstance(entry, Mapping) and entry.get("expressions", ()) in ([], None):
                findings.note("entries without an expression left out", f"{split}[{number}]")
                continue
            records.append(_record(split, entry, files.name, known, findings))
        except Invalid as error:
            findings.leave_out(f"{split}[{number}]", error)
    findings.finish(path, skip_invalid)
    categories = [(c, str(c)) for c in sorted({r.category_id for r in records} - {-1})]
    return build_tables(files, path, records, categories, findings, content_ids=True)


def _record(split: str, entry: Any, name: str, pictures: Pictures, findings: Findings) -> Record:
    if not isinstance(entry, Mapping):
        raise Invalid(f"not an object but {str(entry)[:40]}")
    image_id = whole(entry.get("image_id"), "image_id")
    picture = pictures.get(
        image_id, picture_name(name, image_id, entry), entry.get("width"), entry.get("height")
    )
    category = id_of(entry.get("category_id"))
    return Record(
        ref_id=0,  # follows from the content
        ann_id=-1,
        picture=picture,
        category_id=-1 if category is None else category,
        split=checked_split(split),
        box_xyxy=pictures.box(entry.get("bbox"), picture),
        is_crowd=bool(entry.get("iscrowd")),
        rle=mask_bytes(entry.get("mask"), picture.size_hw, "mask", findings),
        sentences=_sentences(entry.get("expressions"), findings),
    )


def _sentences(expressions: Any, findings: Findings) -> list[tuple[int, str]]:
    if not isinstance(expressions, list) or not expressions:
        raise Invalid("no expressions")
    said = [(number, clean_text(text)) for number, text in enumerate(expressions)]
    kept = [(number, text) for number, text in said if text]
    if not kept:
        raise Invalid("only empty expressions")
    for _ in range(len(said) - len(kept)):
        findings.note("empty expressions left out")
    return kept


def picture_name(name: str, image_id: int, entry: Mapping[str, Any]) -> str:
    """The picture of an image id, as the release's loader finds it; `file_name` in the entry wins."""
    if isinstance(entry.get("file_name"), str) and entry["file_name"]:
        return str(entry["file_name"])
    source = entry.get("data_source")
    if isinstance(source, str):
        folder = next((f for key, f in _MIXED_FOLDERS.items() if key in source), source)
        return f"{folder}/{_COCO_NAME.format(image_id) if 'coco' in source else f'{image_id}.jpg'}"
    return f"{image_id}.jpg" if name.startswith(("referit", "flickr")) else _COCO_NAME.format(image_id)
