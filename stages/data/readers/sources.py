"""Which reader takes which `--source`, and what prepare-data needs to know of its files before reading them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.data.readers.coco import Phrases, find_coco_files, read_coco
from stages.data.readers.grefcoco import find_gref_files, read_grefcoco
from stages.data.readers.label_studio import read_label_studio
from stages.data.readers.labelme import find_labelme_files, read_labelme
from stages.data.readers.lookups import PictureFiles
from stages.data.readers.mask_folder import find_mask_folder, read_mask_folder
from stages.data.readers.mdetr import find_mdetr_files, read_mdetr
from stages.data.readers.refer import find_refer_files, read_refer
from stages.data.readers.seqtr import find_seqtr_files, read_seqtr
from stages.data.readers.table import read_table
from stages.data.readers.table_file import open_table
from stages.data.readers.tables import ReferringTables, SourceFiles

# (skip_invalid, folder of the pictures) -> tables
ReadTables = Callable[[bool, Path | None], ReferringTables]


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


# formats that name their pictures: how their files are found and read, and how many folders above them pictures may lie
_PUBLIC: dict[str, tuple[Callable[..., SourceFiles], Callable[..., ReferringTables], int]] = {
    "refer": (find_refer_files, read_refer, 1),
    "seqtr": (find_seqtr_files, read_seqtr, 2),  # data/annotations/refcoco-unc; pictures in data/images
    "mdetr": (find_mdetr_files, read_mdetr, 1),
    "grefcoco": (find_gref_files, read_grefcoco, 1),
    "coco": (find_coco_files, read_coco, 1),
}


def open_source(
    kind: str, root: Path, name: str | None, by: str | None, phrases: Phrases = "given"
) -> Source:
    """Locate the files of `--source kind --root root`; only the table of `table` is already parsed.

    `phrases`: where those come from that a COCO file does not give.
    """
    if kind in _OPEN:
        return _OPEN[kind](root, name, by)
    find, read, levels = _PUBLIC[kind]
    files = find(root, name, by)
    near, more = _near(files.folder, levels), {"phrases": phrases} if kind == "coco" else {}
    return Source(
        files.files,
        near,
        lambda skip, images: read(files, skip_invalid=skip, pictures=PictureFiles(near, images), **more),
    )


def _near(folder: Path, levels: int) -> tuple[Path, ...]:
    """The folder and so many above it, as they are seen; then those of what a link in the path leads to."""
    seen, real = Path(os.path.abspath(folder)), folder.resolve()
    return tuple(dict.fromkeys(p for start in (seen, real) for p in [start, *start.parents[:levels]]))


def _table(root: Path, name: str | None, by: str | None) -> Source:
    table = open_table(root, name, by)
    return Source(
        {"table": root, "masks": table.mask_files()},
        tuple(table.folders),
        lambda skip, images: read_table(table, images, skip_invalid=skip),
    )


def _labelstudio(root: Path, name: str | None, by: str | None) -> Source:
    near = _near(root.parent, 1)
    return Source(
        {"export": root},
        near,
        lambda skip, images: read_label_studio(root, name, by, images, near, skip_invalid=skip),
    )


def _labelme(root: Path, name: str | None, by: str | None) -> Source:
    files = find_labelme_files(root, name, by)
    near = _near(files.folder, 1)
    return Source(
        files.files, near, lambda skip, images: read_labelme(files, images, near, skip_invalid=skip)
    )


def _masks(root: Path, name: str | None, by: str | None) -> Source:
    files = find_mask_folder(root, name, by)
    return Source(
        {"masks": files.masks} | ({} if files.table is None else {"table": files.table}),
        _near(root, 1),
        lambda skip, images: read_mask_folder(files, images, skip_invalid=skip),
    )


_OPEN: dict[str, Callable[[Path, str | None, str | None], Source]] = {
    "labelstudio": _labelstudio,
    "labelme": _labelme,
    "masks": _masks,
    "table": _table,
}
