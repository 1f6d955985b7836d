"""The JSON documents of every version that was ever written are read for ever; a newer version is refused by name.

The artifacts' own test: unit/artifacts/test_reading_errors.py::test_files_of_released_versions_stay_readable.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.artifacts import open_artifact
from stages.data.exports.items import labels_of_predictions
from stages.errors import ArtifactError
from stages.metrics.decisions import Decision, read_decisions

FOLDER = Path(__file__).parent / "artifacts"


def newer(name: str, folder: Path) -> Path:
    document = json.loads((FOLDER / name).read_text("utf-8"))
    path = folder / name
    path.write_text(json.dumps({**document, "version": document["version"] + 1}), "utf-8")
    return path


def test_predictions(tmp_path: Path) -> None:
    labels = labels_of_predictions(FOLDER / "predictions-v1.json")
    (item,) = labels.items
    assert item.expressions == ["the red mug"] and item.box_xyxy is not None
    assert item.box_xyxy.tolist() == [1, 0, 3, 4] and item.rle is not None
    assert labels.notices == {"predictions without an object left out": 1}
    with pytest.raises(ArtifactError, match="has version 2 of its format, this seqres reads 1"):
        labels_of_predictions(newer("predictions-v1.json", tmp_path))


def test_decisions(tmp_path: Path) -> None:
    with open_artifact(FOLDER / "dataset-v1.h5") as dataset:
        assert read_decisions(FOLDER / "decisions-v1.json", dataset) == {2: Decision("unsure", 4)}
        with pytest.raises(ArtifactError, match="has version 2 of its format, this seqres reads 1"):
            read_decisions(newer("decisions-v1.json", tmp_path), dataset)
