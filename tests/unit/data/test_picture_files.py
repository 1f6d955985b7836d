"""Pictures as they come: named wrongly, with bytes behind their end, turned, cut, deep."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.artifacts.schema import LARGEST_PICTURE
from stages.data.images import DEEP, TURNED, Unreadable, check_images, decode_rgb, look_at
from stages.data.photographs import Photographs, requests_of_table
from stages.errors import ArtifactError
from stages.prepare_data import Config, run
from tests.oracles.picture_bytes import (
    encoded,
    jpeg_segment,
    jpeg_with,
    scene,
    tiff,
    turned_jpeg,
    turned_png,
    turned_webp,
)

SIZE = (24, 32)
JPEG, PNG = encoded(".jpg"), encoded(".png")
PROGRESSIVE = encoded(".jpg", None, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
NOISE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
RGB = np.ascontiguousarray(scene()[..., ::-1])

WHOLE = {
    "png.jpg": PNG,
    "film.jpg": JPEG + b"\0\0\0\x18ftypmp42" + b"\1" * 3000,
    "padded.jpg": JPEG + b"\0" * 500,
    "padded.png": PNG + b"\0" * 500,
    "progressive-padded.jpg": PROGRESSIVE + b"\0" * 500,
    "thumbnail.jpg": jpeg_with(b"JFXX\0\x10" + JPEG, 0xE0),
    "jpeg.png": JPEG,
    "one.png": encoded(".png", np.zeros((1, 1, 3), np.uint8)),
}
CUT = {
    "jpeg": JPEG[:-40],
    "jpeg in its head": JPEG[:100],
    "jpeg, then zeros": JPEG[:-40] + b"\0" * 4000,
    "jpeg with a thumbnail": jpeg_with(b"JFXX\0\x10" + JPEG, 0xE0)[:-40],
    "jpeg cut behind the thumbnail's end": JPEG[:2] + jpeg_segment(0xE0, b"JFXX\0\x10" + JPEG),
    "jpeg cut in the thumbnail's segment": (JPEG[:2] + b"\xff\xe0\xff\xff" + JPEG),
    "progressive": PROGRESSIVE[: len(PROGRESSIVE) * 2 // 3],
    "png": PNG[: len(PNG) // 2],
    "png without its end": PNG[:-12],
    "webp": encoded(".webp", NOISE)[:-100],
    "tiff": encoded(".tif", NOISE)[: 24 * 32],
    "bmp": encoded(".bmp")[:-100],
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pictures_are_read_whatever_they_are_called(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    head = look_at(tmp_path / name)
    assert head.size_hw is not None
    assert decode_rgb(WHOLE[name], name, head.size_hw).shape == (*head.size_hw, 3)


@pytest.mark.parametrize("what", CUT)
@pytest.mark.parametrize("decode", [False, True])
def test_cut_pictures_are_found(what: str, decode: bool, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(CUT[what])
    with pytest.raises(Unreadable):
        look_at(tmp_path / "cut", decode=decode)
    with pytest.raises(ArtifactError, match="image cut cannot be decoded"):
        decode_rgb(CUT[what], "cut", SIZE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is an empty file"),
        (b"hello", "it is text"),
        (b"<!DOCTYPE html><p>404", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + b"\0" * 99, "HEIC picture"),
        (b"%PDF-1.7", "PDF"),
        (tiff(np.ones(SIZE, np.float32), sample_format=3), "floating-point numbers of 32 bits"),
        (b"\0" * 128 + b"DICM", "a DICOM file"),
        (tiff(np.ones(SIZE, np.int32), sample_format=2), "whole numbers of 32 bits"),
    ],
)
def test_what_is_no_picture_is_said(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(Unreadable, match=reason):
        look_at(tmp_path / "a.jpg")


def test_folders_and_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    check = check_images(tmp_path, ["pipe.jpg", "folder.jpg"], np.array([SIZE, SIZE], np.int32), decode=False)
    assert list(check.wrong.values()) == [
        "pipe.jpg: cannot be decoded: it is no regular file",
        "folder.jpg: cannot be decoded: it is a folder",
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_ignored(orientation: int, tmp_path: Path) -> None:
    files = {
        "a.jpg": turned_jpeg(orientation),
        "a.png": turned_png(orientation),
        "a.webp": turned_webp(orientation),
        "a.tif": tiff(RGB, orientation),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        pixels = decode_rgb(content, name, SIZE)
        stored = decode_rgb(JPEG, name, SIZE) if name == "a.jpg" else RGB
        np.testing.assert_array_equal(pixels, stored, err_msg=name)
    check = check_images(tmp_path, list(files), np.array([SIZE] * 4, np.int32), decode=False)
    assert not check.wrong
    told = [f"{name}: orientation {orientation}" for name in files] if orientation > 1 else []
    assert check.told.get(TURNED, []) == told


def test_a_size_that_only_the_turned_picture_has_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(turned_jpeg(6))
    check = check_images(tmp_path, ["a.jpg"], np.array([SIZE[::-1]], np.int32), decode=False)
    assert "32x24, the annotations say 24x32, as its EXIF orientation 6 turns it" in check.wrong[0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_read_from_the_highest_that_is_used(
    bits: int, channels: int, tmp_path: Path
) -> None:
    values = np.linspace(0, 2**bits - 1, 24 * 32).astype(np.uint16).reshape(SIZE)
    picture = values if channels == 1 else np.repeat(values[..., None], channels, axis=2)
    (tmp_path / "deep.png").write_bytes(encoded(".png", picture))
    pixels = decode_rgb((tmp_path / "deep.png").read_bytes(), "deep.png", SIZE)
    np.testing.assert_array_equal(pixels, np.repeat((values >> (bits - 8))[..., None], 3, axis=2))
    check = check_images(tmp_path, ["deep.png"], np.array([SIZE], np.int32), decode=False)
    assert check.told == {DEEP: ["deep.png"]}


def test_a_deep_tiff_is_scaled_and_told(tmp_path: Path) -> None:
    values = np.arange(24 * 32, dtype=np.uint16).reshape(SIZE)  # up to 767: 10 bits
    (tmp_path / "deep.tif").write_bytes(tiff(values))
    assert decode_rgb(tiff(values), "deep.tif", SIZE)[..., 0].max() == 767 >> 2
    assert look_at(tmp_path / "deep.tif").bits == 16


def test_predict_tells_turned_and_deep_pictures(tmp_path: Path) -> None:
    deep = encoded(".png", np.full(SIZE, 4000, np.uint16))
    for name, content in {"turned.jpg": turned_jpeg(6), "deep.png": deep}.items():
        (tmp_path / name).write_bytes(content)
    table = tmp_path / "t.csv"
    table.write_text("image,phrase\nturned.jpg,the mug\nturned.jpg,the cup\ndeep.png,the mug\n")
    photographs = Photographs.open(requests_of_table(table))
    assert photographs.notices == {TURNED: 1, DEEP: 1}
    assert photographs.examples[TURNED] == ["turned.jpg: orientation 6"]
    assert photographs.image(1).max() == 4000 >> 4


def test_a_table_tells_a_box_of_the_turned_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(turned_jpeg(6))
    table = tmp_path / "t.csv"
    table.write_text("image,phrase,x1,y1,x2,y2\na.jpg,the mug,2,10,20,30\n")
    with pytest.raises(ArtifactError) as caught:
        run(Config(source="table", root=str(table)), out=tmp_path / "d.h5")
    assert "inside when it is turned by its EXIF orientation 6" in caught.value.facts[0]


def test_prepare_data_counts_turned_pictures_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(turned_jpeg(6))
    table = tmp_path / "t.csv"
    table.write_text("image,phrase,x1,y1,x2,y2\na.jpg,the mug,2,2,20,20\n")
    for embed in (False, True):
        config = Config(source="table", root=str(table), embed_images=embed)
        summary = run(config, out=tmp_path / f"{embed}.h5").summary
        assert summary["notices"] == {TURNED: 1}


def _bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("decode", [False, True], ids=["named", "embedded"])
def test_a_picture_that_claims_more_than_any_camera_makes_is_not_decoded(
    tmp_path: Path, decode: bool
) -> None:
    (tmp_path / "bomb.png").write_bytes(_bomb(30_000, 30_000))
    (tmp_path / "t.csv").write_text("image,expression,x1,y1,x2,y2\nbomb.png,the mug,1,1,9,9\n")
    config = Config(source="table", root=str(tmp_path / "t.csv"), images=str(tmp_path), embed_images=decode)
    with pytest.raises(ArtifactError, match="missing or unreadable") as caught:
        run(config, out=tmp_path / "d.h5")
    assert "30000x30000, more than the 256 megapixels" in caught.value.facts[0]


def test_the_command_bounds_pictures_of_every_format_in_their_decoder(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 30000 30000 255\n" + bytes(100))
    code = "import os, seqres_cli; print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS']); import cv2; cv2.imread('a.pgm')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == str(LARGEST_PICTURE)
    assert "pixels <= CV_IO_MAX_IMAGE_PIXELS" in done.stderr
