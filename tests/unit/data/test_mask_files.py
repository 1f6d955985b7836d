"""What a mask file may be: every kind of picture that tools write is read as meant, or refused by name."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.data.readers.mask_files import read_mask_picture
from stages.data.readers.records import Invalid

H, W = 48, 64
BOX = (8.0, 10.0, 32.0, 34.0)
Grey = NDArray[np.uint8]


def disc(value: int = 1, dtype: Any = np.uint8) -> NDArray[Any]:
    y, x = np.mgrid[:H, :W]
    return (((x - 19.5) ** 2 + (y - 21.5) ** 2 < 144) * value).astype(dtype)


AREA = int(disc().sum())


def soft() -> Grey:
    """An antialiased disc: values between 0 and 255 along its edge."""
    large = np.zeros((H * 8, W * 8), np.uint8)
    cv2.circle(large, (160, 176), 96, 255, -1)
    return np.asarray(cv2.resize(large, (W, H), interpolation=cv2.INTER_AREA), np.uint8)


def ring(values: Grey, value: int) -> Grey:
    """With a border of another value round the disc."""
    wide = cv2.dilate((values > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.where((wide > 0) & (values == 0), value, values).astype(np.uint8)


def palette_png(path: Path, index: Grey, colours: list[tuple[int, int, int]], depth: int = 8) -> None:
    """Written by hand, because OpenCV writes no palettes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    bits = np.unpackbits(index[..., None], axis=2)[..., 8 - depth :].reshape(H, -1)
    rows = np.packbits(bits, axis=1)
    head = W.to_bytes(4) + H.to_bytes(4) + bytes([depth, 3, 0, 0, 0])
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    plte = bytes(v for colour in colours for v in colour)
    chunks = [chunk(b"IHDR", head), chunk(b"PLTE", plte), chunk(b"tRNS", b"\0"), chunk(b"IDAT", data)]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b""))


def area(path: Path, value: str | None = None, box: tuple[float, ...] = BOX) -> int:
    bits, _ = read_mask_picture(path, path.name, (H, W)).mask(value, box)
    return int(bits.sum())


@pytest.mark.parametrize(
    "colours",
    [
        [(0, 0, 0), (128, 0, 0)],
        [(255, 255, 255), (200, 0, 0)],
        [(255, 255, 255), (0, 0, 0)],
        [(0, 0, 0)] * 2,
    ],
)
@pytest.mark.parametrize("depth", [1, 4, 8])
def test_the_index_of_a_palette_counts_not_its_colour(tmp_path: Path, colours: list[Any], depth: int) -> None:
    palette_png(tmp_path / "m.png", disc(), colours, depth)
    assert area(tmp_path / "m.png") == AREA


def test_the_ignored_border_of_a_palette_is_background(tmp_path: Path) -> None:
    palette_png(tmp_path / "m.png", ring(disc(), 255), [(k, k, 0) for k in range(256)])
    assert area(tmp_path / "m.png") == AREA
    palette_png(tmp_path / "m.png", disc(255), [(0, 0, 0)] * 256)
    assert area(tmp_path / "m.png") == AREA  # here 255 is the object


@pytest.mark.parametrize(
    "pixels",
    [
        disc(),
        disc(7),
        disc(255),
        disc(65535, np.uint16),
        disc(1, np.uint16),
        disc(24001, np.uint16),
        np.repeat(disc(255)[..., None], 3, axis=2),
        disc(255)[..., None] * np.array([0, 0, 1], np.uint8),
        ring(disc(), 255),
    ],
    ids=["0/1", "0/7", "0/255", "16 bit", "16 bit 0/1", "16 bit id", "white", "red", "ignored border"],
)
def test_masks_of_one_value(tmp_path: Path, pixels: NDArray[Any]) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), pixels)
    assert area(tmp_path / "m.png") == AREA


def test_a_mask_of_one_bit(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), disc(255), [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert (tmp_path / "m.png").read_bytes()[24] == 1
    assert area(tmp_path / "m.png") == AREA
    assert area(tmp_path / "m.png", "1") == AREA


@pytest.mark.parametrize("blur", [0, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_soft_edges_are_cut_at_half(tmp_path: Path, blur: int, channels: int) -> None:
    grey = cv2.GaussianBlur(soft(), (blur, blur), 0) if blur else soft()
    cv2.imwrite(str(tmp_path / "m.png"), np.repeat(grey[..., None], channels, axis=2))
    assert area(tmp_path / "m.png") == int((grey >= 128).sum())


def test_the_alpha_of_a_cut_out_decides(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "m.png"), np.concatenate([photo, soft()[..., None]], axis=2))
    assert area(tmp_path / "m.png") == int((soft() >= 128).sum())
    white = np.repeat(disc(255)[..., None], 4, axis=2)
    white[..., 3] = 255  # says nothing
    cv2.imwrite(str(tmp_path / "m.png"), white)
    assert area(tmp_path / "m.png") == AREA


@pytest.mark.parametrize("name", ["m.jpg", "m.png"])
def test_the_noise_of_jpeg_is_cut_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(cv2.imencode(".jpg", disc(255))[1].tobytes())
    assert abs(area(tmp_path / name) - AREA) <= 0.02 * AREA


def several() -> Grey:
    values = disc(1)
    values[12:40, 40:60] = 2
    return values


def test_one_of_several_objects_by_value_or_by_the_box(tmp_path: Path) -> None:
    path = tmp_path / "ids.png"
    cv2.imwrite(str(path), several())
    assert (area(path, "1"), area(path, "2")) == (AREA, 560)
    assert (area(path), area(path, box=(40, 12, 60, 40))) == (AREA, 560)
    picture = read_mask_picture(path, path.name, (H, W))
    assert picture.mask(None, BOX)[1]
    for box in ((8, 10, 60, 40), (0, 0, 6, 6), (8, 10, 14, 34)):  # two, none, a part
        with pytest.raises(Invalid, match=r"shows 2 objects with the values 1, 2: say which .* ids.png#1"):
            picture.mask(None, box)
    with pytest.raises(Invalid, match="no pixel of the value 3, only 1, 2"):
        picture.mask("3", BOX)


def test_objects_of_several_colours(tmp_path: Path) -> None:
    path = tmp_path / "ids.png"
    colours = np.array([[0, 0, 0], [10, 20, 200], [200, 10, 10]], np.uint8)  # B G R
    cv2.imwrite(str(path), colours[several()])
    assert (area(path), area(path, "0a0ac8"), area(path, "c8140a")) == (AREA, 560, AREA)
    with pytest.raises(Invalid, match="'red' is no colour as ff0000"):
        area(path, "red")


@pytest.mark.parametrize(
    ("pixels", "name", "message"),
    [
        (np.random.default_rng(1).integers(40, 200, (H, W, 3), np.uint8), "m.png", "it is a photograph"),
        (np.random.default_rng(1).integers(40, 200, (H, W), np.uint8), "m.png", "it is a photograph"),
        (np.random.default_rng(1).integers(40, 200, (H, W), np.uint8), "m.jpg", "it is a photograph"),
        (disc(3), "m.jpg", "which JPEG does not keep"),
        (np.zeros((W, H), np.uint8), "m.png", "is 48x64, its picture 64x48"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(
    tmp_path: Path, pixels: NDArray[Any], name: str, message: str
) -> None:
    cv2.imwrite(str(tmp_path / name), pixels)
    with pytest.raises(Invalid, match=f"mask {name} .*{message}"):
        area(tmp_path / name)


def test_a_chunk_that_claims_more_than_the_file_is_not_decoded(tmp_path: Path) -> None:
    """The decoder takes as much memory before it reads: 1.6 GB for 190 bytes."""
    path = tmp_path / "m.png"
    cv2.imwrite(str(path), disc(255))
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + (1 << 30).to_bytes(4) + data[at + 4 :])
    with pytest.raises(Invalid, match=r"mask m.png cannot be decoded: its end is missing"):
        read_mask_picture(path, "m.png", (H, W))


def test_an_empty_mask_is_empty(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), np.zeros((H, W), np.uint8))
    assert area(tmp_path / "m.png") == 0
