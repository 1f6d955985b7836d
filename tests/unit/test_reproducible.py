"""What docs/howto/running.md promises under "What is reproducible": each stage's digest and what it does not depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import prepare_data, pseudo_label, refine_masks, resample_points, split_masks, train_rec
from tests.oracles.random_models import write_random_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.h5"
    prepare_data.run(prepare_data.Config(scale="tiny"), out=path)
    return path


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_stages_without_a_network_know_no_threads(data: Path, tmp_path: Path) -> None:
    digests = []
    for count in (1, 3):
        folder = tmp_path / str(count)
        folder.mkdir()
        with threads(count):
            made = [
                prepare_data.run(prepare_data.Config(scale="tiny"), out=folder / "data.h5"),
                split_masks.run(split_masks.Config(ratio=0.3), dataset=data, out=folder / "split.h5"),
                pseudo_label.run(
                    pseudo_label.Config(start="ellipse"), dataset=data, split=folder / "split.h5",
                    out=folder / "pseudo.h5",
                ),
                refine_masks.run(
                    refine_masks.Config(device="cpu"), dataset=data, pseudo=folder / "pseudo.h5",
                    out=folder / "refined.h5",
                ),
                resample_points.run(
                    resample_points.Config(), dataset=data, pseudo=folder / "refined.h5", out=folder / "points.h5"
                ),
            ]  # fmt: skip
        digests.append([result.digest for result in made])
    assert digests[0] == digests[1]


def test_training_knows_no_workers(data: Path, tmp_path: Path) -> None:
    values: Any = {
        "epochs": 1, "steps_per_epoch": 2, "batch_images": 3, "validation_expressions": 4, "device": "cpu",
        "frozen": "all",
    }  # fmt: skip
    digests = {
        train_rec.run(
            train_rec.Config(workers=workers, **values), dataset=data, out=tmp_path / f"{workers}.h5"
        ).digest
        for workers in (0, 2)
    }
    assert len(digests) == 1


def test_labels_are_the_same_twice(data: Path, tmp_path: Path) -> None:
    split_masks.run(split_masks.Config(ratio=0.3), dataset=data, out=tmp_path / "split.h5")
    model = write_random_model(tmp_path / "model.h5", "second look, box-contour")
    config = pseudo_label.Config(device="cpu", max_referents=15, audit_expressions=5)
    digests = {
        pseudo_label.run(
            config, dataset=data, split=tmp_path / "split.h5", model=model, out=tmp_path / f"{k}.h5"
        ).digest
        for k in range(2)
    }
    assert len(digests) == 1
