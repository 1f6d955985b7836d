"""What the trainings of a row cost, read from their files, and the table, picture and numbers made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stages.artifacts import write_artifact
from stages.experiment_report import Experiment, Row, RunFiles, Table, write_report
from stages.metrics.budget import budget_of
from tests.unit.metrics.test_experiment import write_evaluation


def write_training(
    path: Path, scores: list[float | None], *, steps: int | None = 100, seconds: float = 60
) -> Path:
    """A model whose epochs scored so (None = not validated), of 8 images a step."""
    config = {"steps_per_epoch": steps, "batch_images": 8, "epochs": len(scores)}
    provenance = {"config": {k: {"value": v, "origin": "flag", "semantic": True} for k, v in config.items()}}
    history = [
        {"epoch": i + 1, "loss": 1.0} | ({} if s is None else {"val_miou": s}) for i, s in enumerate(scores)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_artifact(path, "res_model", fingerprint="f", provenance=provenance) as w:
        w.attr("dataset_digest", "d")
        w.json("history", history)
        for name in ("architecture", "vocabulary", "preprocessing"):
            w.json(name, {})
        w.column("weights/w", np.zeros(1, np.float32))
        w.note_json(
            "timing", {"training_seconds_after_epoch": [seconds * (i + 1) for i in range(len(scores))]}
        )
    return path


def test_several_trainings_add_up_and_curves_follow_each_other(tmp_path: Path) -> None:
    first = write_training(tmp_path / "a.h5", [0.2, 0.3])
    second = write_training(tmp_path / "b.h5", [0.3, None, 0.44, 0.45], steps=50, seconds=30)
    found = budget_of([first, second])
    assert found is not None
    assert (found.steps, found.pictures, found.minutes) == (400, 3200, pytest.approx(4))
    assert found.curve == ((100, 0.2), (200, 0.3), (250, 0.3), (350, 0.44), (400, 0.45))
    assert found.last_quarter == pytest.approx(0.01)


def test_what_is_not_told_is_not_guessed(tmp_path: Path) -> None:
    unknown = write_training(tmp_path / "a.h5", [0.2], steps=None)
    assert budget_of([unknown]) is None
    assert budget_of([tmp_path / "gone.h5"]) is None
    assert budget_of([]) is None
    short = budget_of([write_training(tmp_path / "b.h5", [0.2, 0.4])])
    assert short is not None and short.last_quarter is None  # two epochs have no last quarter


def test_the_report_shows_budgets_and_learning_curves(tmp_path: Path) -> None:
    runs = []
    for seed, scores in enumerate(([0.1, 0.2, 0.3, 0.31], [0.2, 0.3, 0.4, 0.43])):
        evaluation = write_evaluation(tmp_path / f"{seed}.h5", 0.5)
        model = write_training(tmp_path / f"model{seed}.h5", list(scores))
        runs.append(RunFiles(seed, evaluation, model=model, trainings=(model,)))
    rows = (Row("naive", "naive", 0.01, tuple(runs)), Row("rec", "REC", 0.0, tuple(runs[:1])))
    table = Table("All", ("naive", "rec"), ("miou", "steps", "pictures", "minutes", "last_quarter"))
    experiment = Experiment("toy", "Toy", "", rows, (table,), learning=("naive", "gone"))
    folder = tmp_path / "report"
    numbers = write_report(experiment, dataset=tmp_path / "d.h5", split="val", folder=folder, audits=tmp_path)
    assert "| naive | 1 % | 2 | 0.500 ± 0.000 | 400 ± 0 | 3200 ± 0 | 4.0 ± 0.0 | 0.020 ± 0.014 |" in (
        folder / "table.md"
    ).read_text("utf-8")
    assert numbers["rows"][0]["curves"]["1"][-1] == (400, 0.43)
    series = json.loads((folder / "learning.json").read_text())["series"]
    assert series == {
        "naive, 1 % of the masks": [[100, pytest.approx(0.15)], [200, 0.25], [300, 0.35], [400, 0.37]]
    }
    assert (folder / "learning.png").read_bytes().startswith(b"\x89PNG")
    assert "learning.png" in (folder / "index.html").read_text("utf-8")
