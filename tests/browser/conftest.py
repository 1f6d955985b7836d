"""A headless Chromium and a report on small artifacts. Skipped, with the reason, where there is no browser.

SEQRES_CHROMIUM: its program, when it is not found by name. SEQRES_AXE: axe.min.js of the npm package axe-core.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import write_artifact
from stages.artifacts.ragged import pack
from stages.report import Config, run
from stages.resample_points import Config as ResampleConfig
from stages.resample_points import run as resample
from tests.oracles.small_artifacts import boxes_of, diamond, digest, write_dataset, write_pseudo, write_split

COUNT = 60
HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">\u2028 & “café”"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = [os.environ.get("SEQRES_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium found (apt-get install chromium, or set SEQRES_CHROMIUM)")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """60 referents, the first 50 for training with a pseudo mask each: every second one is shifted too far to be kept."""
    folder = tmp_path_factory.mktemp("run")
    texts = [f"thing {i}{' left' if i % 3 == 0 else ''}" for i in range(COUNT)]
    texts[4] = HOSTILE
    data = write_dataset(
        folder / "data.h5", ["train"] * 50 + ["val"] * 10, sentences=1, texts=texts, pictures=True
    )
    boxes = boxes_of(COUNT).tolist()
    rows = [
        (r, r, 0.5 + r / 200, diamond([b[0] + 9 * (r % 2), b[1], b[2] + 9 * (r % 2), b[3]]))
        for r, b in enumerate(boxes[:50])
    ]
    pseudo = write_pseudo(folder / "pseudo.h5", data, rows, n_points=8)
    split = write_split(folder / "split.h5", data, [False] * COUNT)
    points = folder / "points.h5"
    resample(ResampleConfig(), dataset=data, pseudo=pseudo, out=points)
    attention = write_attention(folder / "attention.h5", data)
    return {"data": data, "pseudo": pseudo, "split": split, "points": points, "attention": attention}


def write_attention(path: Path, data: Path) -> Path:
    """Two samples of one model: four points, nine steps on 3 x 4 cells."""
    ring = np.array([[10, 10], [30, 10], [30, 40], [10, 40]], np.float32)
    with write_artifact(path, "attention", fingerprint="f", provenance={}) as w:
        w.attr("dataset_digest", digest(data))
        w.attr("model_digest", "0" * 64)
        w.column("model", np.zeros(2, np.int8))
        w.column("referent_index", np.array([50, 51]))
        w.column("sentence_index", np.array([50, 51]))
        w.column("box_xyxy", np.zeros((2, 4), np.float32))
        w.column("map_shape", np.full((2, 3), [9, 3, 4]))
        w.ragged("tokens", *pack([np.arange(9)] * 2, np.int32))
        w.ragged("points_xy", *pack([ring] * 2, np.float32, (2,)))
        w.ragged("step_of_point", *pack([np.array([0, 2, 4, 6])] * 2, np.int64))
        maps = np.arange(108).reshape(9, 1, 3, 4) / 108
        w.ragged("maps", *pack([maps.ravel()] * 2, np.float16))
        layers = np.concatenate((1 - maps, maps), 1)  # the first layer looks elsewhere
        w.ragged("layer_maps", *pack([layers.ravel()] * 2, np.float16))
        w.json("summary", {"models": ["final"]})
    return path


@pytest.fixture(scope="session")
def report(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "page"
    run(Config(), files=list(files.values()), out=out)
    return out


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The report opened as a file; at the end nothing may have been written to the console."""
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    told: list[str] = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((report / "index.html").as_uri())
    opened.wait_for_selector(".card svg path")
    yield opened
    assert told == []
    assert all(url.startswith((report.as_uri(), "blob:file://", "blob:null")) for url in asked), asked
    context.close()
