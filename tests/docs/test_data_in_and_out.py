"""Every example of docs/data-in-and-out.md runs as it stands; so does the journey on scans of every kind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from seqres_cli.main import main
from stages.data.dataset import ReferringDataset
from tests.oracles.picture_bytes import tiff
from tests.oracles.tool_files import SIZE_HW, block, picture

PAGE = (Path(__file__).resolve().parents[2] / "docs/data-in-and-out.md").read_text("utf-8")
FILES = re.findall(r"^`([^`]+)`:\n\n```\w+\n(.*?)^```", PAGE, re.S | re.M)
PARTS = re.split(r"^## ", PAGE, flags=re.M)[1:]


def lines_of(part: str) -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```", part, re.S | re.M)
    return [line.split()[1:] for block in blocks for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    picture(tmp_path / "scans/images/scan1.png")
    (tmp_path / "scans/masks").mkdir()
    cv2.imwrite(str(tmp_path / "scans/masks/scan1_001.png"), block(10, 5, 30, 20).astype(np.uint8) * 255)
    for name, content in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    return tmp_path


@pytest.mark.parametrize("part", [p for p in PARTS if lines_of(p)], ids=lambda p: p.splitlines()[0])
def test_the_examples_run(folder: Path, part: str) -> None:
    if part.startswith("Masks out"):
        assert main(lines_of(PARTS[0])[0]) == 0
    for words in lines_of(part):
        assert main([*words, "--quiet"]) == 0, words
    for path in folder.glob("*.h5"):
        if path.stem in ("coco", "labelme", "scans", "photos"):
            data = ReferringDataset.open(path, masks="all")
            assert (
                data.has_mask.any() and (data.mask(int(data.has_mask.argmax())) == block(10, 5, 30, 20)).all()
            )


def test_a_journey_with_scans_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One to four channels, 8 and 16 bits, PNG, TIFF and WebP; one mask PNG and a phrase an object."""
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "scans/images"
    mask = block(12, 8, 44, 30)
    rng = np.random.default_rng(0)
    for channels in (1, 2, 3, 4):
        for bits, kind in ((8, np.uint8), (16, np.uint16)):
            pixels = rng.integers(0, 60, (*SIZE_HW, channels)) + 150 * mask[..., None]
            pixels = (pixels * (1 if bits == 8 else 16)).astype(kind)  # 12 bits of 16
            images.mkdir(parents=True, exist_ok=True)
            (images / f"t{channels}x{bits}.tiff").write_bytes(tiff(pixels.squeeze()))
            if channels != 2:
                assert cv2.imwrite(str(images / f"p{channels}x{bits}.png"), pixels)
                if bits == 8:
                    assert cv2.imwrite(str(images / f"w{channels}x{bits}.webp"), pixels)
    names = sorted(path.stem for path in images.iterdir())
    for name in names:
        path = tmp_path / "scans/masks" / name / "left kidney.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), mask.astype(np.uint8) * 255)
    for words in lines_of(PARTS[-1]):
        assert main([*words, "--quiet"]) == 0, words
    data = ReferringDataset.open(tmp_path / "scans.h5", masks="all")
    assert len(names) == 17 and set(data.texts) == {"left kidney"}
    for i in range(len(names)):
        pixels = data.image(i)
        assert pixels.shape == (*SIZE_HW, 3) and pixels[mask].mean() > 2 * pixels[~mask].mean()
    assert len(list((tmp_path / "look").iterdir())) == len(names)
    assert len((tmp_path / "review.csv").read_text("utf-8").splitlines()) == 2
    api = COCO(str(tmp_path / "scans.json"))
    assert len(api.anns) == 17 and {ann["area"] for ann in api.anns.values()} == {mask.sum()}
    assert json.loads((tmp_path / "scans.json").read_text())["annotations"][0]["expressions"] == [
        "left kidney"
    ]
