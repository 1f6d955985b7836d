"""Finding pictures, reading their size from the header, and decoding them.

Pictures are RGB uint8 (H, W, 3). The EXIF orientation is ignored, as COCO's annotations do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.errors import ArtifactError

_FOLDERS = (
    "images/train2014",
    "images/mscoco/images/train2014",
    "images",
    "images/mscoco/train2014",
    "images/saiaprtc12",
    "images/flickr30k",
    "mscoco/images/train2014",
    "train2014",
)
_PROBES = 25
_TAIL = 64 << 10
NO_SUCH_FILE = "no such file"


def path_below(root: Path, name: str) -> Path:
    """`root/name`; ArtifactError when the name leaves the folder."""
    if "\0" in name or os.path.isabs(name):
        raise ArtifactError(f"image name {name!r} leaves the image folder {root}")
    path = Path(os.path.normpath(root / name))
    if not path.is_relative_to(os.path.normpath(root)):
        raise ArtifactError(f"image name {name!r} leaves the image folder {root}")
    return path


def find_image_root(bases: Sequence[Path], names: Sequence[str], chosen: Path | None) -> Path:
    """The folder that `names` are relative to: `chosen`, or the usual place that holds most of a few probed names.

    Raises:
        ArtifactError: `chosen` is no folder, or none of the usual ones exists.
    """
    if chosen is not None:
        if not chosen.is_dir():
            raise ArtifactError(f"no such folder: {chosen}", facts=["given as --images"])
        return chosen.resolve()
    tried = [base / folder for base in bases for folder in _FOLDERS] + list(bases)
    present = [folder.resolve() for folder in tried if folder.is_dir()]
    probes = (
        [names[i] for i in np.unique(np.linspace(0, len(names) - 1, _PROBES).astype(int))] if names else []
    )
    hits = [sum(path_below(folder, name).is_file() for name in probes) for folder in present]
    if not any(hits) and not any(folder.is_dir() for folder in tried[: -len(bases)]):
        raise ArtifactError(
            "no folder with the images found",
            facts=[f"looked for {names[0]} in"] + [str(folder) for folder in dict.fromkeys(tried)],
            hint="say where they are with --images FOLDER",
        )
    return present[hits.index(max(hits))]


def decode_rgb(data: NDArray[np.uint8] | bytes, name: str, size_hw: Sequence[int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB from encoded bytes; ArtifactError unless they decode at `size_hw`."""
    buffer = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    picture = _decode(buffer)
    if picture is None:
        raise ArtifactError(
            f"image {name} cannot be decoded", hint="replace the file, then run prepare-data again"
        )
    if picture.shape[:2] != tuple(size_hw):
        raise ArtifactError(
            _wrong_size(name, picture.shape, size_hw), hint="use the pictures that the annotations belong to"
        )
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _decode(buffer: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    if len(buffer) == 0 or (buffer[:2].tobytes() == b"\xff\xd8" and is_cut_off(buffer[-_TAIL:].tobytes())):
        return None
    try:
        picture = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if picture is None else np.asarray(picture, np.uint8)


def decode_size(path: Path) -> tuple[int, int] | None:
    """(height, width) of a picture that is neither JPEG nor PNG; None when it cannot be decoded."""
    picture = _decode(np.fromfile(path, np.uint8))
    return None if picture is None else (picture.shape[0], picture.shape[1])


def _wrong_size(name: str, shape_hw: Sequence[int], size_hw: Sequence[int]) -> str:
    return f"image {name} is {shape_hw[1]}x{shape_hw[0]}, the annotations say {size_hw[1]}x{size_hw[0]}"


def is_cut_off(tail: bytes) -> bool:
    """Whether the last bytes of a JPEG (64 KiB, or all of it) lack its end mark.

    libjpeg would fill the rest with grey and say nothing. Some cameras write more bytes behind the mark.
    """
    return b"\xff\xd9" not in tail


def _read_tail(stream: BinaryIO) -> bytes:
    stream.seek(-2, os.SEEK_END)
    if (end := stream.read()) == b"\xff\xd9":  # as nearly always
        return end
    stream.seek(-min(_TAIL, stream.tell()), os.SEEK_END)
    return stream.read()


def header_size(stream: BinaryIO) -> tuple[int, int] | None:
    """(height, width) from the header of a JPEG or PNG; None for any other file. Reads a few hundred bytes."""
    head = stream.read(24)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 24:
        return int.from_bytes(head[20:24]), int.from_bytes(head[16:20])
    if head[:2] != b"\xff\xd8":
        return None
    stream.seek(2)
    while True:
        marker = stream.read(4)
        if len(marker) < 4 or marker[0] != 0xFF:
            return None
        if marker[1] == 0xFF:  # fill byte
            stream.seek(-3, os.SEEK_CUR)
            continue
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):  # a frame header
            frame = stream.read(5)
            return (int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])) if len(frame) == 5 else None
        length = int.from_bytes(marker[2:4])
        if length < 2:
            return None
        stream.seek(length - 2, os.SEEK_CUR)


def problem_with(path: Path, name: str, size_hw: Sequence[int], *, decode: bool) -> str | None:
    """What is wrong with a picture file, in words, or None. `decode=False` looks at both ends only."""
    try:
        if decode:
            data = path.read_bytes()
            picture = _decode(np.frombuffer(data, np.uint8))
            shape = None if picture is None else picture.shape
        else:
            with open(path, "rb", buffering=512) as stream:
                shape = header_size(stream)
                if (
                    shape is not None
                    and name.lower().endswith((".jpg", ".jpeg"))
                    and is_cut_off(_read_tail(stream))
                ):
                    return f"{name}: cannot be decoded, its end is missing"
            if shape is None:  # neither JPEG nor PNG: let the decoder say
                picture = _decode(np.fromfile(path, np.uint8))
                shape = None if picture is None else picture.shape
    except FileNotFoundError:
        return f"{name}: {NO_SUCH_FILE}"
    except OSError as error:
        return f"{name}: {(error.strerror or 'error').lower()}"
    if shape is None:
        return f"{name}: cannot be decoded"
    return None if tuple(shape[:2]) == tuple(size_hw) else _wrong_size(name, shape, size_hw)


def check_images(
    root: Path,
    names: Sequence[str],
    sizes_hw: NDArray[np.int32],
    *,
    decode: bool,
    advance: Callable[[], None] = lambda: None,
) -> dict[int, str]:
    """Row -> what is wrong, for each picture that is missing, unreadable or of another size than annotated.

    Raises:
        ArtifactError: a name leaves the folder (that is an attack or a broken file, never a missing picture).
    """
    wrong = {}
    for row, (name, size) in enumerate(zip(names, sizes_hw.tolist(), strict=True)):
        problem = problem_with(path_below(root, name), name, size, decode=decode)
        if problem is not None:
            wrong[row] = problem
        advance()
    return wrong
