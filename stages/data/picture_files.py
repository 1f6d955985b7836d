"""What the bytes of a picture file tell without decoding: format, size, EXIF orientation, depth, whether it is whole.

JPEG and PNG are walked from mark to mark, so a thumbnail inside (which has an end of its own) is skipped, and bytes
behind the end (a film of a motion photo, padding) do not matter. Other formats are left to the decoder, which notices
when they are cut; of these only the orientation and the depth are read here.
"""

import io
import os
import re
from dataclasses import dataclass
from typing import BinaryIO, Literal

JPEG, PNG, WEBP, TIFF, OTHER = "JPEG", "PNG", "WebP", "TIFF", ""
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_PNG_MARK = b"\x89PNG\r\n\x1a\n"
_END = b"\xff\xd9"
# a mark inside of a scan: neither a stuffed 0xFF nor a restart
_MARK = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_LARGEST_EXIF = 1 << 20
_MOST_CHUNKS = 1_000_000
_ORIENTATION, _BITS, _FORMAT = 274, 258, 339  # tags of TIFF, and so of EXIF
_EXTRA = 338  # what a channel beyond the colours is
_FLOAT = 3


@dataclass(frozen=True)
class PictureHead:
    """`size_hw` as stored, (height, width); None where only the decoder can tell."""

    kind: str
    size_hw: tuple[int, int] | None = None
    orientation: int = 1  # EXIF: 1 = as stored, 2 to 8 = to be mirrored or turned
    bits: int = 8  # of a channel; at most 16 are read
    is_float: bool = False
    is_cut: bool = False


def read_head(stream: BinaryIO) -> PictureHead:
    """Read a stream from its beginning; a few hundred bytes of most files, all of a JPEG with bytes behind its end."""
    stream.seek(0)
    mark = stream.read(12)
    if mark[:8] == _PNG_MARK:
        return _png(stream)
    if mark[:2] == b"\xff\xd8":
        return _jpeg(stream)
    if mark[:4] == b"RIFF" and mark[8:] == b"WEBP":
        return _webp(stream)
    if mark[:4] in (b"II*\0", b"MM\0*"):
        tags = _tags(stream)
        bits = tags.get(_BITS, 8)
        return PictureHead(
            TIFF, None, _checked(tags.get(_ORIENTATION)), bits, is_float=tags.get(_FORMAT) == _FLOAT
        )
    return PictureHead(OTHER)


def _jpeg(stream: BinaryIO) -> PictureHead:
    size, orientation = None, 1
    stream.seek(2)
    while True:
        mark = stream.read(4)
        if len(mark) < 4:
            return PictureHead(JPEG, size, orientation, is_cut=True)
        if mark[0] != 0xFF:
            return PictureHead(JPEG)
        # a fill byte, a mark without content
        if mark[1] == 0xFF or mark[1] == 0x01 or 0xD0 <= mark[1] <= 0xD8:
            stream.seek(-3 if mark[1] == 0xFF else -2, os.SEEK_CUR)
            continue
        length = int.from_bytes(mark[2:])
        if length < 2 or mark[1] == 0xD9:
            return PictureHead(JPEG)
        begin = stream.tell()
        if 0xC0 <= mark[1] <= 0xCF and mark[1] not in (0xC4, 0xC8, 0xCC):  # a frame header
            frame = stream.read(5)
            if len(frame) == 5:
                size = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
        elif mark[1] == 0xE1 and orientation == 1:
            orientation = _exif(stream.read(length - 2))
        elif mark[1] == 0xDA:
            return PictureHead(JPEG, size, orientation, is_cut=not _has_end(stream, begin + length - 2))
        stream.seek(begin + length - 2)


def _has_end(stream: BinaryIO, begin: int) -> bool:
    """Whether the end mark of a JPEG follows its first scan, which starts at `begin`.

    libjpeg would fill the rest with grey and say nothing.
    """
    size = stream.seek(0, os.SEEK_END)
    if size < begin + 2:
        return False
    stream.seek(-2, os.SEEK_END)
    if stream.read() == _END:  # as nearly always; in a scan these two bytes are no data
        return True
    stream.seek(begin)
    data, at = stream.read(), 0
    while (found := _MARK.search(data, at)) is not None:
        if found[1] == b"\xd9":
            return True
        at = found.end()
        if found[1] != b"\x01":  # tables between the scans of a progressive picture
            at += int.from_bytes(data[at : at + 2])
    return False


def _png(stream: BinaryIO) -> PictureHead:
    size, orientation, bits = None, 1, 8
    whole = stream.seek(0, os.SEEK_END)
    stream.seek(8)
    for _ in range(_MOST_CHUNKS):
        head = stream.read(8)
        end = stream.tell() + int.from_bytes(head[:4]) + 4
        if head[4:] == b"IHDR" and len(fields := stream.read(9)) == 9:
            size, bits = (int.from_bytes(fields[4:8]), int.from_bytes(fields[:4])), fields[8]
        if len(head) < 8 or end > whole:
            break
        if head[4:] == b"IEND":
            return PictureHead(PNG, size, orientation, bits)
        if head[4:] == b"eXIf":
            orientation = _exif(stream.read(min(int.from_bytes(head[:4]), _LARGEST_EXIF)))
        stream.seek(end)
    return PictureHead(PNG, size, orientation, bits, is_cut=True)


def _webp(stream: BinaryIO) -> PictureHead:
    for _ in range(_MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            break
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            return PictureHead(WEBP, None, _exif(stream.read(min(length, _LARGEST_EXIF))))
        stream.seek(length + length % 2, os.SEEK_CUR)
    return PictureHead(WEBP)


def _exif(block: bytes) -> int:
    """The orientation in an EXIF block, with or without the name before it; 1 where it says none."""
    block = block.removeprefix(b"Exif\0\0")
    return _checked(_tags(io.BytesIO(block)).get(_ORIENTATION))


def _checked(orientation: int | None) -> int:
    return orientation if orientation is not None and 1 <= orientation <= 8 else 1


def _tags(stream: BinaryIO) -> dict[int, int]:
    """The first value of each tag of the first directory, where it is a 16- or 32-bit number."""
    stream.seek(0)
    head = stream.read(8)
    if head[:4] not in (b"II*\0", b"MM\0*") or len(head) < 8:
        return {}
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    stream.seek(int.from_bytes(head[4:], order))
    count = int.from_bytes(stream.read(2), order)
    entries = stream.read(12 * count)
    tags = {}
    for at in range(0, len(entries) - 11, 12):
        tag, kind = (int.from_bytes(entries[at + k : at + k + 2], order) for k in (0, 2))
        n = int.from_bytes(entries[at + 4 : at + 8], order)
        width = {3: 2, 4: 4}.get(kind)
        if width is None or tag not in (_ORIENTATION, _BITS, _FORMAT):
            continue
        value = entries[at + 8 : at + 8 + width]
        if n * width > 4:  # the values lie elsewhere
            stream.seek(int.from_bytes(entries[at + 8 : at + 12], order))
            value = stream.read(width)
        tags[tag] = int.from_bytes(value, order)
    return tags


def without_alpha(data: bytes) -> bytes:
    """A TIFF whose fourth channel is data like the others: decoders multiply the colours by what is marked as alpha."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    first = int.from_bytes(data[4:8], order)
    count = int.from_bytes(data[first : first + 2], order)
    for at in range(first + 2, first + 2 + 12 * count, 12):
        tag, kind, n = (int.from_bytes(data[at + k : at + k + w], order) for k, w in ((0, 2), (2, 2), (4, 4)))
        if (tag, kind, n) == (_EXTRA, 3, 1):
            return data[: at + 8] + b"\0\0" + data[at + 10 :]
    return data
