"""A folder of pictures and a folder of masks, one PNG an object; its phrase is in the name of the file or in a table.

    ROOT/images/scan1.png      pictures (or --images FOLDER)
    ROOT/masks/scan1/left kidney.png    or    masks/scan1__left_kidney.png    or    masks/left kidney/scan1.png
    ROOT/phrases.csv           mask,phrase[,image][,split][,category]: instead of names that are phrases

In a name, _ and - between words are blanks. A folder named train, val, test … on the way to a mask is its split. What a
mask file may be: mask_files.py.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.data.readers.labelme import split_of
from stages.data.readers.records import Findings
from stages.data.readers.table import read_table
from stages.data.readers.table_file import Line, Table, open_table
from stages.data.readers.tables import SPLIT_ORDER, ReferringTables
from stages.data.readers.values import is_nothing
from stages.errors import ArtifactError, UsageError
from stages.nearest import PICTURE_SUFFIXES

_IMAGES = ("images", "imgs", "pictures", "photos", "image")
_MASKS = ("masks", "mask", "labels", "annotations", "segmentations")
_MASK_SUFFIXES = (".png", ".jpg", ".jpeg")
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_HINT = "--root FOLDER holds the folders images and masks, masks/<picture>/<phrase>.png"
_BETWEEN = re.compile(r"[\s_-]+")


@dataclass(frozen=True)
class MaskFolder:
    """Where pictures and masks are; `table`: the phrases, where there is a table of them."""

    name: str
    by: str
    root: Path
    images: Path | None
    masks: tuple[Path, ...]
    table: Path | None


def find_mask_folder(root: Path, name: str | None, by: str | None) -> MaskFolder:
    """Locate pictures, masks and the table.

    Raises:
        UsageError: several files may be the table.
        ArtifactError: no such folder, or no mask in it.
    """
    if not root.is_dir():
        raise ArtifactError(f"no such folder: {root}", hint=_HINT)
    folders = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()}
    images = next((folders[name] for name in _IMAGES if name in folders), None)
    below = next((folders[name] for name in _MASKS if name in folders), root)
    masks = tuple(p for p in sorted(below.rglob("*")) if p.suffix.lower() in _MASK_SUFFIXES and p.is_file())
    if images is not None and below == root:
        masks = tuple(p for p in masks if not p.is_relative_to(images))
    tables = [p for p in sorted(root.iterdir()) if p.suffix.lower() in _TABLES and p.is_file()]
    if len(tables) > 1:
        raise UsageError(
            f"{root} holds {len(tables)} tables",
            facts=[p.name for p in tables[:8]],
            hint="leave one with the columns mask and expression, or none",
        )
    if not masks:
        raise ArtifactError(f"{below} holds no mask", hint=_HINT)
    label = name or root.resolve().name
    return MaskFolder(label, by or "masks", root, images, masks, tables[0] if tables else None)


def read_mask_folder(
    files: MaskFolder, images: Path | None, *, skip_invalid: bool = False
) -> ReferringTables:
    """Read the masks into tables, with `image_root`.

    Raises:
        ArtifactError: no folder of pictures, or masks without a picture or a phrase (all listed) and `skip_invalid` is
        not set.
    """
    folder = images or files.images
    if folder is None:
        raise ArtifactError(
            f"{files.root} has no folder of pictures", hint="--images FOLDER, or call it images"
        )
    if not folder.is_dir():
        raise ArtifactError(f"no such folder: {folder}", facts=["given as --images"])
    pictures = _Pictures(folder)
    findings = Findings()
    rows = (
        _of_names(files, pictures, findings) if files.table is None else _of_table(files, pictures, findings)
    )
    table = Table(files.root / "masks", files.name, files.by, list(rows))
    return read_table(table, folder.resolve(), skip_invalid=skip_invalid, findings=findings)


class _Pictures:
    """The pictures below a folder, by what a mask may call them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_stem: dict[str, list[str]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in PICTURE_SUFFIXES:
                name = path.relative_to(folder).as_posix()
                self._by_stem.setdefault(path.stem, []).append(name)

    def named(self, stem: str, split: str) -> str | None:
        """The picture of a stem; of several, that of the split."""
        found = self._by_stem.get(stem, [])
        same = [name for name in found if split_of(name.split("/")[:-1]) == split]
        chosen = same or found
        return chosen[0] if len(chosen) == 1 else None

    def beginning(self, stem: str) -> str | None:
        """The longest stem of a picture that `stem` begins with, before something that is no letter and no digit."""
        ends = (k for k in range(len(stem), 0, -1) if not stem[k : k + 1].isalnum())
        return next((stem[:k] for k in ends if stem[:k] in self._by_stem), None)

    def __contains__(self, stem: str) -> bool:
        return stem in self._by_stem


def _of_names(files: MaskFolder, pictures: _Pictures, findings: Findings) -> Iterator[Line]:
    for path in files.masks:
        where = path.relative_to(files.root).as_posix()
        steps = [
            s for s in where.split("/")[:-1] if s.lower() not in {*_MASKS, *(x.lower() for x in SPLIT_ORDER)}
        ]
        stem, split = path.stem, split_of(where.split("/")[:-1])
        of_folder = next((step for step in steps if step in pictures), None)
        start = None if of_folder else pictures.beginning(stem)
        whose = of_folder or start
        if of_folder:
            words = stem.removeprefix(of_folder)
        elif start is not None:
            words = stem[len(start) :] or (steps[-1] if steps else "")
        else:
            findings.leave_out(where, f"its name begins with that of no picture in {pictures.folder}")
            continue
        assert whose is not None
        phrase = _BETWEEN.sub(" ", words).strip(" .")
        picture = pictures.named(whose, split)
        if picture is None:
            findings.leave_out(where, f"several pictures are called {whose}")
        elif not phrase:
            findings.leave_out(where, "no phrase in its name, nor in that of its folder")
        else:
            yield (
                where,
                {"image": picture, "mask": _from_root(path, files), "expression": phrase, "split": split},
            )


def _from_root(path: Path, files: MaskFolder) -> str:
    return path.relative_to(files.root).as_posix()


def _of_table(files: MaskFolder, pictures: _Pictures, findings: Findings) -> Iterator[Line]:
    """The lines of the table, with the picture that each mask's name begins with where none is told."""
    assert files.table is not None
    masks = _Masks(files)
    for number, row in open_table(files.table, required=("mask", "expression")).lines:
        where = f"{files.table.name} line {number}"
        filled = dict(row)
        mask = row.get("mask")
        if not isinstance(mask, str) or is_nothing(mask):
            findings.leave_out(where, "no mask")
            continue
        found = masks.find(mask.strip())
        if found is None:
            findings.leave_out(where, f"no such mask, or several: {mask.strip()}")
            continue
        path, value = found
        filled["mask"] = _from_root(path, files) + value
        split = split_of(path.relative_to(files.root).parts[:-1])
        filled.setdefault("split", split)
        if is_nothing(row.get("image")):
            steps = path.relative_to(files.root).parts[:-1]
            stem = next((s for s in steps if s in pictures), None) or pictures.beginning(path.stem)
            picture = None if stem is None else pictures.named(stem, split)
            if picture is None:
                findings.leave_out(
                    where, f"which picture {mask.strip()} belongs to is not told: add a column image"
                )
                continue
            filled["image"] = picture
        yield where, filled


class _Masks:
    """The masks below a folder, by the ends of their paths."""

    def __init__(self, files: MaskFolder) -> None:
        self._by_end: dict[str, list[Path]] = {}
        for path in files.masks:
            steps = path.relative_to(files.root).parts
            for k in range(len(steps)):
                self._by_end.setdefault("/".join(steps[k:]), []).append(path)

    def find(self, cell: str) -> tuple[Path, str] | None:
        """The mask of a cell and what stands behind it, "#2"; None for none or several."""
        plain, mark, value = cell.rpartition("#")
        for name, rest in ((cell, ""), (plain, mark + value)):
            if len(found := self._by_end.get(name.strip().removeprefix("./"), [])) == 1:
                return found[0], rest
        return None
