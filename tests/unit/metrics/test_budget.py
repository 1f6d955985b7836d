"""What the trainings of a row cost, read from their files, and the table, picture and numbers made of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from stages.artifacts import Artifact, open_artifact, write_artifact
from stages.errors import UsageError
from stages.experiment_report import Experiment, Row, RunFiles, Table, write_report
from stages.metrics.budget import Cost, budget_of, cost_of, masks_seen
from stages.metrics.tables import comparison
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


def write_step(
    path: Path, kind: str, inputs: dict[str, Artifact], *, steps: int = 0, older: bool = False
) -> Artifact:
    """A model of two epochs of `steps` steps of 8 images with 3 expressions each, or what tells of a file between two."""
    each = "sentences_per_image" if older else "expressions_per_image"
    numbers = {"steps_per_epoch": steps, "epochs": 2, "batch_images": 8, each: 3}
    config = (
        {k: {"value": v, "origin": "flag", "semantic": True} for k, v in numbers.items()} if steps else {}
    )
    parts = [{"role": role, "kind": a.kind, "digest": a.digest} for role, a in inputs.items()]
    record: dict[str, Any] = {"config": config, "inputs": parts}
    if not steps:
        return cast(Artifact, SimpleNamespace(kind=kind, digest=path.stem, provenance=record))
    with write_artifact(path, kind, fingerprint="f", provenance=record) as w:
        w.attr("dataset_digest", "d")
        for name in ("architecture", "vocabulary", "preprocessing", "history"):
            w.json(name, {})
        w.column("weights/w", np.full(1, steps, np.float32))
        w.json("summary", {"contours_from_masks": 7})
    return open_artifact(path)


def test_a_row_has_cost_what_all_trainings_behind_it_have(tmp_path: Path) -> None:
    """Through `init`, and through pseudo labels of a model that the second training does not go on from."""
    rec = write_step(tmp_path / "rec.h5", "rec_model", {}, steps=1000)
    first = write_step(tmp_path / "first.h5", "res_model", {"rec": rec}, steps=5)
    pseudo = write_step(tmp_path / "pseudo.h5", "pseudo_points", {"model": first})
    refined = write_step(tmp_path / "refined.h5", "pseudo_points", {"pseudo": pseudo})
    points = write_step(tmp_path / "points.h5", "resampled_points", {"pseudo": refined})
    anew = write_step(tmp_path / "anew.h5", "res_model", {"rec": rec, "points": points}, steps=7)
    on = write_step(
        tmp_path / "on.h5", "res_model", {"rec": rec, "points": points, "init": first}, steps=7, older=True
    )
    files = {a.digest: a for a in (rec, first, pseudo, refined, points)}
    assert cost_of(rec, files) == Cost()
    assert cost_of(first, {}) == Cost(10, 80, 240)
    assert cost_of(anew, files) == cost_of(on, files) == Cost(24, 192, 576)
    assert cost_of(anew, {}) is None  # what is not there is not guessed
    assert (masks_seen(rec), masks_seen(first)) == (0, 7)


def test_the_table_tells_costs_where_models_are_given(tmp_path: Path) -> None:
    model = write_step(tmp_path / "naive.h5", "res_model", {}, steps=5)
    (tmp_path / "eval").mkdir()
    scores = write_evaluation(tmp_path / "eval" / "naive.h5", 0.25, 0.75, model_digest=model.digest)
    first, *others = comparison([scores, model.path])
    assert [first[key] for key in ("masks_seen", "steps", "steps_x_images")] == [7, 10, 80]
    assert {row["steps"] for row in others} == {None}  # the trivial rows
    assert all("steps" not in row for row in comparison([scores]))
    with pytest.raises(UsageError, match="no evaluation among"):
        comparison([model.path])


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
