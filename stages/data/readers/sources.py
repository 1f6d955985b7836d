"""Which reader takes which `--source`, and what prepare-data needs to know of its files before reading them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.data.readers.tables import ReferringTables

if TYPE_CHECKING:
    from stages.data.readers.coco import Phrases

ReadTables = Callable[
    [bool, Path | None], ReferringTables
]  # (skip_invalid, folder of the pictures) -> tables


@dataclass(frozen=True, eq=False)
class Source:
    """Annotation files of any format."""

    external: Mapping[str, Path | tuple[Path, ...]]  # role -> files whose content decides the result
    near: tuple[Path, ...]  # folders that the pictures may lie in or near
    read: ReadTables

    def describe(self) -> str:
        """The files in words: "a.json and b.json", "photos.csv and 12 masks"."""
        single = [str(path) for path in self.external.values() if isinstance(path, Path)]
        many = [f"{len(p)} {role}" for role, p in self.external.items() if isinstance(p, tuple) and p]
        return " and ".join(single + many)


def open_source(
    kind: str, root: Path, name: str | None, by: str | None, phrases: Phrases = "given"
) -> Source:
    """Locate the files of `--source kind --root root`; only the table of `table` is already parsed.

    `phrases`: where those come from that a COCO file does not give.
    """
    return _coco(root, name, by, phrases) if kind == "coco" else _OPEN[kind](root, name, by)


def _near(folder: Path, levels: int) -> tuple[Path, ...]:
    """The folder and so many above it, as they are seen; then those of what a link in the path leads to."""
    seen, real = Path(os.path.abspath(folder)), folder.resolve()
    return tuple(dict.fromkeys(p for start in (seen, real) for p in [start, *start.parents[:levels]]))


def _refer(root: Path, name: str | None, by: str | None) -> Source:
    from stages.data.readers.lookups import PictureFiles
    from stages.data.readers.refer import find_refer_files, read_refer

    files = find_refer_files(root, name, by)
    near = _near(files.refs.parent, 1)
    return Source(
        {"refs": files.refs, "instances": files.instances},
        near,
        lambda skip, images: read_refer(files, skip_invalid=skip, pictures=PictureFiles(near, images)),
    )


def _seqtr(root: Path, name: str | None, by: str | None) -> Source:
    from stages.data.readers.lookups import PictureFiles
    from stages.data.readers.seqtr import find_seqtr_files, read_seqtr

    files = find_seqtr_files(root, name, by)
    near = _near(files.instances.parent, 2)  # data/annotations/refcoco-unc; pictures in data/images
    return Source(
        {"instances": files.instances},
        near,
        lambda skip, images: read_seqtr(files, skip_invalid=skip, pictures=PictureFiles(near, images)),
    )


def _mdetr(root: Path, name: str | None, by: str | None) -> Source:
    from stages.data.readers.lookups import PictureFiles
    from stages.data.readers.mdetr import find_mdetr_files, read_mdetr

    files = find_mdetr_files(root, name, by)
    near = _near(files.folder, 1)
    return Source(
        dict(files.splits),
        near,
        lambda skip, images: read_mdetr(files, skip_invalid=skip, pictures=PictureFiles(near, images)),
    )


def _grefcoco(root: Path, name: str | None, by: str | None) -> Source:
    from stages.data.readers.grefcoco import find_gref_files, read_grefcoco
    from stages.data.readers.lookups import PictureFiles

    files = find_gref_files(root, name, by)
    near = _near(files.refs.parent, 1)
    return Source(
        {"refs": files.refs, "instances": files.instances},
        near,
        lambda skip, images: read_grefcoco(files, skip_invalid=skip, pictures=PictureFiles(near, images)),
    )


def _table(root: Path, name: str | None, by: str | None) -> Source:
    from stages.data.readers.table import read_table
    from stages.data.readers.table_file import open_table

    table = open_table(root, name, by)
    return Source(
        {"table": root, "masks": table.mask_files()},
        tuple(table.folders),
        lambda skip, images: read_table(table, images, skip_invalid=skip),
    )


def _coco(root: Path, name: str | None, by: str | None, phrases: Phrases) -> Source:
    from stages.data.readers.coco import find_coco_files, read_coco
    from stages.data.readers.lookups import PictureFiles

    files = find_coco_files(root, name, by)
    near = _near(files.folder, 1)
    return Source(
        {"instances": tuple(files.splits)}
        if len(files.splits) > 1
        else {"instances": next(iter(files.splits))},
        near,
        lambda skip, images: read_coco(files, PictureFiles(near, images), phrases=phrases, skip_invalid=skip),
    )


def _labelstudio(root: Path, name: str | None, by: str | None) -> Source:
    from stages.data.readers.label_studio import read_label_studio

    near = _near(root.parent, 1)
    return Source(
        {"export": root},
        near,
        lambda skip, images: read_label_studio(root, name, by, images, near, skip_invalid=skip),
    )


def _labelme(root: Path, name: str | None, by: str | None) -> Source:
    from stages.data.readers.labelme import find_labelme_files, read_labelme

    files = find_labelme_files(root, name, by)
    near = _near(files.folder, 1)
    return Source(
        {"files": files.files},
        near,
        lambda skip, images: read_labelme(files, images, near, skip_invalid=skip),
    )


def _masks(root: Path, name: str | None, by: str | None) -> Source:
    from stages.data.readers.mask_folder import find_mask_folder, read_mask_folder

    files = find_mask_folder(root, name, by)
    return Source(
        {"masks": files.masks} | ({} if files.table is None else {"table": files.table}),
        _near(root, 1),
        lambda skip, images: read_mask_folder(files, images, skip_invalid=skip),
    )


_OPEN: dict[str, Callable[[Path, str | None, str | None], Source]] = {
    "refer": _refer,
    "seqtr": _seqtr,
    "mdetr": _mdetr,
    "grefcoco": _grefcoco,
    "labelstudio": _labelstudio,
    "labelme": _labelme,
    "masks": _masks,
    "table": _table,
}
