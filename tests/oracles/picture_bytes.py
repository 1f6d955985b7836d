"""Picture files made byte by byte: what a camera, a phone or a broken download leaves."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np


def scene(height: int = 24, width: int = 32) -> np.ndarray:
    """(H, W, 3) BGR uint8 without any symmetry."""
    y, x = np.mgrid[:height, :width]
    return np.stack([5 * x, 7 * y, 3 * x + 2 * y], axis=-1).astype(np.uint8)


def encoded(ending: str, picture: np.ndarray | None = None, *options: int) -> bytes:
    done, data = cv2.imencode(ending, scene() if picture is None else picture, list(options))
    assert done
    return bytes(data)


def exif(orientation: int) -> bytes:
    """A TIFF structure whose only tag is the orientation."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def jpeg_segment(mark: int, content: bytes) -> bytes:
    return bytes([0xFF, mark]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(content: bytes, mark: int = 0xE1, jpeg: bytes | None = None) -> bytes:
    """A JPEG with one more segment at its beginning."""
    jpeg = encoded(".jpg") if jpeg is None else jpeg
    return jpeg[:2] + jpeg_segment(mark, content) + jpeg[2:]


def turned_jpeg(orientation: int) -> bytes:
    return jpeg_with(b"Exif\0\0" + exif(orientation))


def turned_png(orientation: int) -> bytes:
    png, block = encoded(".png"), b"eXIf" + exif(orientation)
    chunk = struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block))
    return png[:33] + chunk + png[33:]


def turned_webp(orientation: int) -> bytes:
    body = encoded(".webp", None, cv2.IMWRITE_WEBP_QUALITY, 101)[8:]
    body += b"EXIF" + struct.pack("<I", len(exif(orientation))) + exif(orientation)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(rgb: np.ndarray, orientation: int = 1, *, sample_format: int = 1) -> bytes:
    """Uncompressed, little-endian, one strip: (H, W, C) or (H, W) of any depth; a second or fourth channel as alpha."""
    height, width = rgb.shape[:2]
    channels = 1 if rgb.ndim == 2 else rgb.shape[2]
    bits = 8 * rgb.dtype.itemsize
    far = struct.pack("<" + "H" * 4, *([bits] * 4))  # bits of a channel, which do not fit into their entry
    pixels = rgb.astype(rgb.dtype.newbyteorder("<")).tobytes()
    inside = bits if channels == 1 else bits << 16 | bits
    alpha = [(338, 3, 1, 2)] if channels in (2, 4) else []
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, 8 if channels > 2 else inside), (259, 3, 1, 1),
        (262, 3, 1, 2 if channels > 2 else 1), (273, 4, 1, 16), (274, 3, 1, orientation), (277, 3, 1, channels),
        (278, 4, 1, height), (279, 4, 1, len(pixels)), *alpha, (339, 3, 1, sample_format),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return b"II*\0" + struct.pack("<I", 16 + len(pixels)) + far + pixels + directory + b"\0" * 4
