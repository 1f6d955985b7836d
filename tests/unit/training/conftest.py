"""A tiny RefShapes data set, a split of it, and configurations that train in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages import prepare_data, split_masks

FAST: dict[str, object] = {
    "epochs": 2, "steps_per_epoch": 3, "batch_images": 4, "expressions_per_image": 2, "validation_expressions": 6, "device": "cpu", "save_every": 2,
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "dataset.h5"
    prepare_data.run(prepare_data.Config(source="refshapes", scale="tiny"), out=out)
    return out


@pytest.fixture(scope="session")
def tiny_split(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("split") / "split.h5"
    split_masks.run(split_masks.Config(ratio=0.3), dataset=tiny_dataset, out=out)
    return out
