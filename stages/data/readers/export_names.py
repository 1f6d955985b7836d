"""Pictures by the names that annotation tools give them: a path of another machine, a URL, the name of an upload."""

import contextlib
import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from stages.data.images import path_below, picture_folders
from stages.errors import ArtifactError

_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def spellings(name: str) -> list[str]:
    """Relative paths that a tool's name of a picture may mean, the longest first."""
    name = name.strip().replace("\\", "/")
    if _URL.match(name) or "?d=" in name:
        with contextlib.suppress(ValueError):  # "http://[" is a name like any other
            parts = urlsplit(name)
            local = parse_qs(parts.query).get("d", [])
            name = local[0] if local else unquote(parts.path)
    found: list[str] = []
    for text in dict.fromkeys([name, unquote(name)]):
        steps = [step for step in posixpath.normpath(text).split("/") if step not in ("", ".", "..")]
        steps = [step for step in steps if not step.endswith(":")]
        found += ["/".join(steps[k:]) for k in range(len(steps))]
    plain = [
        posixpath.join(posixpath.dirname(f), _UPLOAD.sub("", posixpath.basename(f), count=1)) for f in found
    ]
    return list(dict.fromkeys([*found, *plain]))


def place_pictures(
    names: Sequence[str], bases: Sequence[Path], chosen: Path | None, beside: Sequence[Path | None] = ()
) -> tuple[Path, list[str]]:
    """The folder of the pictures, and each name relative to it.

    `beside`: for each name, the folder of the file that says it, which it may be relative to. A picture that is found
    nowhere keeps the longest name that is no path of another machine, for the caller to report.

    Raises:
        ArtifactError: `chosen` is no folder.
    """
    if chosen is not None and not chosen.is_dir():
        raise ArtifactError(f"no such folder: {chosen}", facts=["given as --images"])
    roots = (
        [chosen] if chosen else [f for f in dict.fromkeys([*bases, *picture_folders(bases)]) if f.is_dir()]
    )
    roots = roots or [Path(bases[0])]
    folders = beside or [None] * len(names)
    best: tuple[int, Path, list[str]] | None = None
    for root in roots:
        placed = [_below(root, name, folder) for name, folder in zip(names, folders, strict=True)]
        hits = sum(name is not None for name in placed)
        if best is None or hits > best[0]:
            plain = [posixpath.basename(n.replace("\\", "/").split("?", 1)[0].rstrip("/")) for n in names]
            best = hits, root, [found or n or "no name" for found, n in zip(placed, plain, strict=True)]
        if hits == len(names):
            break
    assert best is not None
    return best[1].resolve(), best[2]


def _below(root: Path, name: str, folder: Path | None) -> str | None:
    """The name of an existing picture relative to the root."""
    tried: list[str] = []
    if folder is not None:
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have
            beside = Path(folder, name.replace("\\", "/")).resolve()
            tried.append(beside.relative_to(root.resolve()).as_posix())
    for spelling in [*tried, *spellings(name)]:
        try:  # what is not there is not looked at further: a name of 3,000 folders has so many spellings
            if os.path.lexists(os.path.join(root, spelling)) and path_below(root, spelling).is_file():
                return spelling
        except (ArtifactError, OSError, ValueError):
            continue
    return None
