"""Pictures of masks as tools write them: PNG of any kind, and JPEG.

    palette PNG           the index counts, not its colour; 0 is background, 255 a border to ignore where there are others
    grey, 8 or 16 bits    0 is background; soft edges and the noise of JPEG are cut at half of the largest value
    colour                black is background, each other colour an object
    with an alpha channel the alpha decides where it is not the same everywhere (cut-outs)

A picture of several objects needs to be told which value is meant; without, the one whose pixels lie in the box is
taken when it is the only one.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.data.picture_files import JPEG, PNG, read_head
from stages.data.readers.records import Invalid
from stages.errors import ArtifactError
from stages.file_kinds import what_file_is
from stages.untrusted import require_regular

_IGNORE = 255  # border of the objects in palette masks of PASCAL VOC
_FEW = 16  # objects; a picture with more values and few equal neighbours is a photograph
_BAND_PX = 7  # soft edges are thinner
_SMALLEST_JPEG_WHITE = 64  # JPEG blurs smaller values away

Bits = NDArray[np.bool_]
Values = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class MaskPicture:
    """The values of a mask file; 0 is background."""

    name: str
    values: Values  # (H, W)
    is_colour: bool  # values are 0xRRGGBB

    def mask(self, value: str | None, box_xyxy: Sequence[float] | None) -> tuple[Bits, bool]:
        """(H, W) the pixels of the object, and whether it was chosen among several by its box.

        Raises:
            Invalid: no pixel has the value, or there are several and the box does not tell which is meant.
        """
        present = [int(v) for v in np.unique(self.values) if v]
        if value is not None:
            wanted = self._number(value)
            if wanted not in present:
                raise Invalid(
                    f"mask {self.name} has no pixel of the value {value}, only {self._list(present)}"
                )
            return self.values == wanted, False
        if len(present) <= 1:
            return self.values > 0, False
        if len(present) > _FEW and (self.values[:, 1:] == self.values[:, :-1]).mean() < 0.5:
            raise Invalid(f"mask {self.name} has {len(present)} values: it is a photograph, not a mask")
        inside = [] if box_xyxy is None else self._in_box(box_xyxy)
        if len(inside) != 1:
            raise Invalid(
                f"mask {self.name} shows {len(present)} objects with the values {self._list(present)}: "
                f"say which one is meant, as {self.name}#{self._text(present[0])}"
            )
        return self.values == inside[0], True

    def _in_box(self, box_xyxy: Sequence[float]) -> list[int]:
        """The values that the box may mean: one, if most of it lies in the box and hardly any of the others does."""
        height, width = self.values.shape
        x1, y1 = (max(int(np.floor(v)), 0) for v in box_xyxy[:2])
        x2, y2 = (int(np.ceil(v)) for v in box_xyxy[2:])
        total, inside = _counts(self.values), _counts(self.values[y1 : min(y2, height), x1 : min(x2, width)])
        touched = {v: n / total[v] for v, n in inside.items() if v and n > 0.05 * total[v]}
        return [v for v, share in touched.items() if len(touched) > 1 or share > 0.5]

    def _number(self, value: str) -> int:
        colour = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{6})", value) if self.is_colour else None
        if colour:
            return int(colour[1], 16)
        if not re.fullmatch(r"\d{1,9}", value):
            raise Invalid(
                f"mask value {value!r} is no {'colour as ff0000' if self.is_colour else 'whole number'}"
            )
        return int(value)

    def _text(self, value: int) -> str:
        return f"{value:06x}" if self.is_colour else str(value)

    def _list(self, values: Sequence[int]) -> str:
        return ", ".join(map(self._text, values[:8])) + (" …" if len(values) > 8 else "")


def read_mask_picture(path: Path, name: str, size_hw: tuple[int, int]) -> MaskPicture:
    """The values of a mask file of the size of its picture.

    The size is looked at before anything is decoded: a small file may unpack to gigabytes.

    Raises:
        Invalid: the file cannot be read, is neither PNG nor JPEG, has another size, or is no mask.
    """
    try:
        require_regular(path, what="mask")
        with open(path, "rb") as stream:
            found = read_head(stream)
    except OSError as error:
        raise Invalid(f"mask {name}: {(error.strerror or 'error').lower()}") from None
    except ArtifactError as error:
        raise Invalid(f"mask {name}: {error.message}") from None
    size = found.size_hw if found.kind in (JPEG, PNG) else None
    if size is None:
        kinds = "no PNG" if path.suffix.lower() == ".png" else "neither a PNG nor a JPEG nor a JSON file"
        raise Invalid(f"mask {name} is {what_file_is(path) or kinds}")
    if size != size_hw:
        raise Invalid(
            f"mask {name} is {size[1]}x{size[0]}, its picture {size_hw[1]}x{size_hw[0]} (width x height)"
        )
    if found.is_cut:  # or has a chunk that claims gigabytes, which the decoder would take
        raise Invalid(f"mask {name} cannot be decoded: its end is missing")
    data = path.read_bytes()
    is_jpeg = found.kind == JPEG
    depth, colour_type = (8, -1) if is_jpeg else (data[24], data[25])
    is_palette = colour_type == 3
    if is_palette:
        data = _indices_as_grey(data, depth)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise Invalid(f"mask {name} cannot be decoded")
    if is_palette:
        index = (pixels if pixels.ndim == 2 else pixels[..., 0]).astype(np.uint32)
        if np.isin(np.unique(index), (0, _IGNORE), invert=True).any():
            index[index == _IGNORE] = 0
        return MaskPicture(name, index, False)
    if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels[..., 3].min() < pixels[..., 3].max():
        alpha = pixels[..., 3]
        return MaskPicture(name, (alpha >= (int(alpha.max()) + 1) // 2).astype(np.uint32), False)
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
        if is_jpeg or (pixels == pixels[..., :1]).all():
            pixels = pixels.max(axis=2)
    if pixels.ndim == 3:
        return _of_colours(name, pixels)
    if is_jpeg:
        return _of_jpeg(name, pixels)
    return _of_grey(name, pixels, depth if colour_type == 0 else 8)


def _counts(values: Values) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _of_grey(name: str, grey: NDArray[np.integer], depth: int) -> MaskPicture:
    if soft := _halved(grey):
        return MaskPicture(name, soft[0].astype(np.uint32), False)
    values = grey.astype(np.uint32)
    if depth < 8:  # decoders spread fewer bits over the range of eight
        values //= 255 // (2**depth - 1)
    present = np.unique(values[values > 0])
    if len(present) > 1 and present[-1] == _IGNORE and not _has_area(values == _IGNORE):
        values[values == _IGNORE] = 0
    return MaskPicture(name, values, False)


def _of_colours(name: str, bgr: NDArray[np.integer]) -> MaskPicture:
    """Each colour is an object, unless they are the soft edges of one colour."""
    if bgr.dtype != np.uint8:
        bgr = bgr >> 8
    brightest = bgr.max(axis=2)
    codes: Values = np.einsum("hwc,c->hw", bgr.astype(np.uint32), np.array([1, 1 << 8, 1 << 16], np.uint32))
    clear = np.unique(codes[brightest == brightest.max()])
    if len(clear) == 1 and len(np.unique(codes)) > 3 and (soft := _halved(brightest)):
        return MaskPicture(name, soft[0].astype(np.uint32), False)
    return MaskPicture(name, codes, True)


def _of_jpeg(name: str, grey: NDArray[np.integer]) -> MaskPicture:
    white = int(grey.max())
    middle = (grey > white * 0.25) & (grey < white * 0.75)
    if white == 0:
        return MaskPicture(name, np.zeros(grey.shape, np.uint32), False)
    if white < _SMALLEST_JPEG_WHITE:
        raise Invalid(
            f"mask {name} is a JPEG with values up to {white}, which JPEG does not keep: save it as PNG"
        )
    if middle.mean() > 0.1 or _has_area(middle):
        raise Invalid(f"mask {name} is a JPEG with more than black and white: it is a photograph, not a mask")
    return MaskPicture(name, (grey >= white / 2).astype(np.uint32), False)


def _halved(grey: NDArray[np.integer]) -> tuple[Bits] | None:
    """The pixels of at least half of the largest value, where the values between are soft edges and nothing else."""
    white, full = int(grey.max()), 65535 if grey.dtype == np.uint16 else 255
    between = (grey > 0) & (grey < white)
    if white < 0.75 * full or not between.any():
        return None
    n_between = len(np.unique(grey[between]))
    edge = _near(grey == white) & _near(grey == 0)
    wide = n_between >= 16 and ((grey > white // 2) & between).any() and _is_u_shaped(grey, white)
    if (between & ~edge).any() and not wide:
        return None
    if n_between == 1 and between.sum() > 0.5 * (grey == white).sum():
        return None  # a thin border of a value of its own round a thinner object
    return (grey >= (white + 1) // 2,)


def _is_u_shaped(grey: NDArray[np.integer], white: int) -> bool:
    """Whether nearly all values are near black or near white, and black and white themselves are most."""
    middle = (grey > white * 0.25) & (grey < white * 0.75)
    return bool(middle.mean() < 0.1 and np.isin(grey, (0, white)).mean() > 0.7)


def _near(where: Bits) -> Bits:
    kernel = np.ones((_BAND_PX, _BAND_PX), np.uint8)
    return np.asarray(cv2.dilate(where.astype(np.uint8), kernel)) > 0


def _has_area(where: Bits) -> bool:
    """Whether there is a place that is wider than soft edges."""
    kernel = np.ones((_BAND_PX, _BAND_PX), np.uint8)
    return bool(cv2.erode(where.astype(np.uint8), kernel, borderValue=0).any())


def _indices_as_grey(png: bytes, depth: int) -> bytes:
    """The file with a palette that makes the colour of each index the index itself, and without transparency."""
    parts, at = [png[:8]], 8
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4])
        kind, end = png[at + 4 : at + 8], at + 12 + length
        if kind == b"PLTE":
            body = kind + bytes(k for k in range(2**depth) for _ in range(3))
            parts.append((len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4))
        elif kind != b"tRNS":
            parts.append(png[at:end])
        at = end
    return b"".join(parts)
