"""Finding pictures, reading their size from the header, and decoding them.

Pictures are RGB uint8 (H, W, 3). The EXIF orientation is ignored, as COCO's annotations do, and told. Channels of 16
bits are cut to 8 by the highest bit that the picture uses: cameras store 10, 12 or 14 bits in them.
"""

import io
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.artifacts.schema import LARGEST_PICTURE
from stages.data.picture_files import JPEG, OTHER, PNG, SIDEWAYS, TIFF, PictureHead, read_head, without_alpha
from stages.errors import ArtifactError
from stages.file_kinds import HEAD_BYTES, what_it_is
from stages.nearest import Neighbours
from stages.untrusted import plain, shown

_FOLDERS = (
    "images/train2014", "images/mscoco/images/train2014", "images", "images/mscoco/train2014", "images/saiaprtc12",
    "images/flickr30k", "mscoco/images/train2014", "train2014",
)  # fmt: skip
_PROBES = 25
_LARGEST_FILE = 2 << 30  # bytes
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes; usual file systems allow no more
NO_SUCH_FILE = "no such file"
TURNED = (
    "pictures with an EXIF orientation, which is ignored: boxes and masks must be of the picture as stored"
)
DEEP = "pictures of 16 bits, read as 8 from the highest bit that each of them uses"


class Unreadable(Exception):
    """A file is no picture that can be read; the text says why."""


def path_below(root: Path, name: str) -> Path:
    """`root/name`, or a whole path below `root`.

    Raises:
        ArtifactError: the name leaves the folder, also through a link in it, or is none that a file can have.
    """
    if "\0" in name:
        raise ArtifactError(f"image name {shown(name)} holds a null byte")
    try:
        stored = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ArtifactError(f"image name {shown(name)} holds half a character") from error
    if len(stored) > _LONGEST_PATH or max(map(len, stored.split(b"/"))) > _LONGEST_NAME:
        raise ArtifactError(f"image name {shown(name)} of {len(stored)} bytes is too long for a file")
    # an old locale keeps other letters for these bytes
    base = os.path.normpath(root)
    path = Path(os.path.normpath(root / os.fsdecode(stored)))
    if not path.is_relative_to(base):
        raise ArtifactError(
            f"image name {shown(name)} leaves the image folder {root}",
            hint="names are relative to the folder of the pictures, which --images FOLDER gives",
        )
    if _may_lead_out(path, base):
        real = os.path.realpath(path)
        if not Path(real).is_relative_to(os.path.realpath(root)):
            raise ArtifactError(
                f"image name {shown(name)} leads out of the image folder {root} through a link",
                facts=[f"to {plain(real, 200)}"],
                hint="give the folder that the pictures really lie in with --images FOLDER, or copy them",
            )
    return path


def _may_lead_out(path: Path, base: str) -> bool:
    """Whether a part of the path below `base` is a link, or a step up, which the real path of both has to settle."""
    parts = path.relative_to(base).parts
    return ".." in parts or any(
        os.path.islink(os.path.join(base, *parts[:n])) for n in range(1, len(parts) + 1)
    )


def picture_folders(bases: Sequence[Path]) -> list[Path]:
    """Where pictures usually lie near each of the given folders; they need not exist."""
    return [base / folder for base in bases for folder in _FOLDERS]


def find_image_root(bases: Sequence[Path], names: Sequence[str], chosen: Path | None) -> Path:
    """The folder that `names` are relative to: `chosen`, or the usual place that holds most of a few probed names.

    Raises:
        ArtifactError: `chosen` is no folder, or none of the usual ones exists.
    """
    if chosen is not None:
        if not chosen.is_dir():
            raise ArtifactError(f"no such folder: {chosen}", facts=["given as --images"])
        return chosen.resolve()
    tried = picture_folders(bases) + list(bases)
    present = [folder.resolve() for folder in tried if folder.is_dir()]
    probes = (
        [names[i] for i in np.unique(np.linspace(0, len(names) - 1, _PROBES).astype(int))] if names else []
    )
    hits = [sum(_is_in(folder, name) for name in probes) for folder in present]
    if not any(hits) and not any(folder.is_dir() for folder in tried[: -len(bases)]):
        neighbours = Neighbours()
        near = next((hint for folder in present if (hint := neighbours.hint(folder, names[0]))), None)
        raise ArtifactError(
            "no folder with the images found",
            facts=[f"looked for {names[0]} in", *(str(folder) for folder in dict.fromkeys(tried))],
            hint="say where they are with --images FOLDER" + (f"; {near}" if near else ""),
        )
    return present[hits.index(max(hits))]


def _is_in(folder: Path, name: str) -> bool:
    if os.path.isabs(name) and not Path(name).is_relative_to(folder):
        return False  # it may be in another
    return path_below(folder, name).is_file()


def decode_rgb(data: NDArray[np.uint8] | bytes, name: str, size_hw: Sequence[int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB from encoded bytes; ArtifactError unless they decode at `size_hw`."""
    buffer = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    try:
        picture, head = _decode(buffer, name)
    except Unreadable as error:
        raise ArtifactError(
            f"image {name} cannot be decoded{because(error)}",
            hint="replace the file, then run prepare-data again",
        ) from None
    if picture.shape[:2] != tuple(size_hw):
        raise ArtifactError(
            _wrong_size(name, picture.shape, size_hw, head.orientation),
            hint="use the pictures that the annotations belong to",
        )
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def because(reason: object) -> str:
    """ ": " and a reason, where there is one."""
    return f": {reason}" if str(reason) else ""


def _decode(buffer: NDArray[np.uint8], name: str) -> tuple[NDArray[np.uint8], PictureHead]:
    """(H, W, 3) uint8 BGR as stored, and what the head tells; Unreadable otherwise."""
    head = read_head(io.BytesIO(buffer.data))
    what = what_it_is(buffer[:HEAD_BYTES].tobytes(), name) if head.kind in (TIFF, OTHER) else None
    # a camera's raw picture, of which a decoder shows the thumbnail
    if what is not None and head.kind == TIFF:
        raise Unreadable(f"it is {what}")
    if head.is_cut:
        raise Unreadable("its end is missing")
    if head.is_float or head.bits > 16:
        raise Unreadable(
            f"its values are {'floating-point' if head.is_float else 'whole'} numbers of {head.bits} bits, "
            "save them as 8 or 16"
        )
    if head.kind == TIFF:
        buffer = np.frombuffer(without_alpha(buffer.tobytes()), np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH
    try:
        picture = cv2.imdecode(buffer, flags) if len(buffer) else None
    except cv2.error:
        picture = None
    if picture is None:
        is_text = not what and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in buffer[:64].tolist())
        raise Unreadable(f"it is {what}" if what else "it is text" if is_text else "")
    if head.kind == TIFF:
        picture = _as_stored(picture, head.orientation)
    return in_8_bits(picture), replace(head, size_hw=(picture.shape[0], picture.shape[1]))


def _as_stored(picture: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo the orientation of a TIFF, which OpenCV applies whatever it is told (test_orientation_is_ignored)."""
    if orientation in SIDEWAYS:
        picture = picture.transpose(1, 0, 2)
    if orientation in (2, 3, 7, 8):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 6, 7):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def in_8_bits(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """12 bits in 16 lose the lower 4, so that they are not all black; full 16 bits lose 8, as always."""
    if picture.dtype == np.uint8:
        return picture
    if picture.dtype != np.uint16:
        raise Unreadable(f"its values are {picture.dtype} numbers, save them as 8 or 16 bits without a sign")
    surplus = max(int(picture.max(initial=0)).bit_length() - 8, 0)
    return (picture >> surplus).astype(np.uint8)


def look_at(path: Path, *, decode: bool = False, largest: int | None = None) -> PictureHead:
    """What a picture file holds, its size for certain; JPEG and PNG are not decoded for that unless `decode`.

    Raises:
        Unreadable: it is no picture that can be read, a cut one, or one of more than `largest` pixels (JPEG and PNG).
        OSError: there is no such file, or no right to read it.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise Unreadable("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file")
    if status.st_size > _LARGEST_FILE:
        raise Unreadable(f"it has {status.st_size >> 20} MiB, more than a picture can have")
    with open(path, "rb", buffering=512) as stream:
        head = read_head(stream)
    height, width = head.size_hw or (0, 0)
    if largest is not None and height * width > largest:
        raise Unreadable(f"it is {width}x{height}, more than the {largest >> 20} megapixels that are read")
    if not decode:
        if head.is_cut:
            raise Unreadable("its end is missing")
        if head.kind in (JPEG, PNG) and head.size_hw is not None:
            return head
    return _decode(np.fromfile(path, np.uint8), path.name)[1]


def header_size(stream: BinaryIO) -> tuple[int, int] | None:
    """(height, width) from the header of a JPEG or PNG; None for any other file."""
    head = read_head(stream)
    return head.size_hw if head.kind in (JPEG, PNG) else None


def _wrong_size(name: str, shape_hw: Sequence[int], size_hw: Sequence[int], orientation: int = 1) -> str:
    text = f"image {name} is {shape_hw[1]}x{shape_hw[0]}, the annotations say {size_hw[1]}x{size_hw[0]}"
    if orientation in SIDEWAYS and tuple(size_hw) == (shape_hw[1], shape_hw[0]):
        text += f", as its EXIF orientation {orientation} turns it, which is ignored: store it turned"
    return text


def problem_with(
    path: Path, name: str, size_hw: Sequence[int], *, decode: bool
) -> tuple[str | None, PictureHead | None]:
    """What is wrong with a picture file, in words, or None; and what it is where it can be read."""
    try:
        head = look_at(path, decode=decode, largest=LARGEST_PICTURE)
    except FileNotFoundError:
        return f"{name}: {NO_SUCH_FILE}", None
    except OSError as error:
        return f"{name}: {(error.strerror or 'error').lower()}", None
    except Unreadable as error:
        return f"{name}: cannot be decoded{because(error)}", None
    assert head.size_hw is not None
    if head.size_hw != tuple(size_hw):
        return _wrong_size(name, head.size_hw, size_hw, head.orientation), head
    return None, head


@dataclass
class ImageCheck:
    """What is wrong with pictures (by row), and what is to be told of those that are right."""

    wrong: dict[int, str] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)  # notice -> pictures

    def tell(self, name: str, head: PictureHead) -> None:
        if head.orientation != 1:
            self.told.setdefault(TURNED, []).append(f"{name}: orientation {head.orientation}")
        if head.bits > 8:
            self.told.setdefault(DEEP, []).append(name)


def check_images(
    root: Path,
    names: Sequence[str],
    sizes_hw: NDArray[np.int32],
    *,
    decode: bool,
    advance: Callable[[], None] = lambda: None,
) -> ImageCheck:
    """Find each picture that is missing, unreadable, cut, or of another size than annotated.

    Raises:
        ArtifactError: a name leaves the folder (that is an attack or a broken file, never a missing picture).
    """
    check = ImageCheck()
    for row, (name, size) in enumerate(zip(names, sizes_hw.tolist(), strict=True)):
        problem, head = problem_with(path_below(root, name), name, size, decode=decode)
        if problem is not None:
            check.wrong[row] = problem
        elif head is not None:
            check.tell(name, head)
        advance()
    return check
