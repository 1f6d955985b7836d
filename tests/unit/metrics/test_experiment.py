"""Numbers of an experiment: spread over seeds, gains and shares of full supervision, the report's files."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import write_artifact
from stages.errors import ArtifactError
from stages.experiment_report import Curve, Experiment, Row, RunFiles, Table, write_report
from stages.figures.experiment_page import curve_line, round_rows, trivial_points
from stages.metrics.experiment import measure_row, with_comparisons
from stages.metrics.spread import spread
from stages.metrics.tables import MASK_METRICS


def test_mean_and_deviation_by_hand() -> None:
    found = spread([0.4, 0.5, 0.6])
    assert found is not None
    assert found.mean == pytest.approx(0.5)
    assert found.deviation == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)
    assert (found.n, found.text(2), found.text(0, scale=100)) == (3, "0.50 ± 0.10", "50 ± 10")


def test_one_value_has_no_spread_and_no_value_no_mean() -> None:
    one = spread([0.25, None, math.nan])
    assert one is not None and (one.mean, one.deviation, one.n, one.text()) == (0.25, None, 1, "0.250")
    assert spread([None, math.inf]) is None


def measured(name: str, **seeds: float | None) -> dict[str, Any]:
    rows = {int(seed[1:]): {"miou": value} for seed, value in seeds.items()}
    return {"name": name, "seeds": rows, "spread": {}}


def test_comparisons_are_made_seed_by_seed() -> None:
    rows = {
        "naive": measured("naive", s0=0.2, s1=0.4),
        "full": measured("full", s0=0.5, s1=0.6, s2=0.9),
        "all": measured("all", s0=1.0, s1=0.8),
    }
    with_comparisons(rows, {"naive": (None, "gone"), "full": ("naive", "all"), "all": (None, "all")})
    gain, share = (rows["full"]["spread"][key] for key in ("gain", "percent_of_full"))
    assert (gain.mean, gain.n) == (
        pytest.approx(0.25),
        2,
    )  # 0.3 and 0.2; the third seed has nothing beside it
    assert gain.deviation == pytest.approx(math.sqrt(0.005))
    assert (share.mean, share.n) == (pytest.approx(62.5), 2)  # 50 % and 75 %
    assert rows["all"]["spread"]["percent_of_full"].mean == pytest.approx(100)
    assert "gain" not in rows["naive"]["spread"] and "percent_of_full" not in rows["naive"]["spread"]


def write_evaluation(
    path: Path, miou: float | None, accuracy: float | None = 0.9, *, model_digest: str = "x"
) -> Path:
    """An evaluation of val whose mask numbers are `miou`, its trivial rows 0.3 (box) and 0.35 (ellipse)."""
    masks = None
    if miou is not None:
        values = {
            "model": miou,
            "filled_box": 0.3,
            "ellipse": 0.35,
            "true_filled_box": 0.5,
            "true_ellipse": 0.55,
        }
        values["upper_bound"] = 0.95
        masks = {row: dict.fromkeys(MASK_METRICS, value) for row, value in values.items()}
    boxes = None if accuracy is None else {"acc@0.5": accuracy, "mean_box_iou": 0.7}
    part = {"n_sentences": 10, "n_referents": 5, "rec": boxes, "res": masks}
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_artifact(path, "evaluation", fingerprint="f", provenance={}) as w:
        w.attr("model_digest", model_digest)
        for name in ("dataset_digest", "task", "frame"):
            w.attr(name, "x")
        for name in ("referent_index", "sentence_index", "split"):
            w.column(name, np.zeros(0, np.int64))
        w.column("predicted_box_xyxy", np.zeros((0, 4), np.float32))
        w.column("box_iou", np.zeros(0))
        w.json("summary", {"splits": {"val": part}})
    return path


def test_a_row_is_what_its_evaluations_say(tmp_path: Path) -> None:
    runs = tuple(RunFiles(seed, tmp_path / f"{seed}.h5") for seed in range(3))
    write_evaluation(runs[0].evaluation, 0.6)
    write_evaluation(runs[2].evaluation, 0.3)
    row = measure_row(Row("a", "A", 0.01, runs), "val", tmp_path / "data.h5", tmp_path)
    assert (sorted(row["seeds"]), row["missing"]) == ([0, 2], [1])
    assert row["seeds"][0]["above_trivial"] == pytest.approx(0.25)
    assert row["seeds"][2]["above_trivial"] == pytest.approx(-0.05)
    assert row["seeds"][0]["true_ellipse"] == 0.55
    with pytest.raises(ArtifactError, match="no scores of split 'testA'"):
        measure_row(Row("a", "A", 0.01, runs), "testA", tmp_path / "data.h5", tmp_path)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Two methods and the full supervision of the second, on two seeds; a row without any run; a box model."""

    def row(name: str, ratio: float, scores: tuple[float | None, ...], **more: Any) -> Row:
        files = [write_evaluation(tmp_path / name / f"{i}.h5", s) for i, s in enumerate(scores)]
        return Row(
            name, f"the | {name} <row>", ratio, tuple(RunFiles(i, f) for i, f in enumerate(files)), **more
        )

    rows = (
        row("rec", 0.0, (None, None)),
        row("few", 0.01, (0.4, 0.5), reference="all"),
        row("more", 0.1, (0.6, 0.8), basis="few", reference="all", printed={"miou": 0.5206}),
        row("all", 1.0, (0.8, 1.0), reference="all"),
        Row("gone", "never run", 0.05, (RunFiles(0, tmp_path / "no.h5"),)),
    )
    tables = (
        Table("Masks", ("few", "more", "all", "gone"), ("miou", "gain", "percent_of_full", "miou_given_box")),
        Table("Boxes", ("rec",), ("acc@0.5", "miou")),
    )
    curves = (Curve("ours", ("few", "gone", "more", "all"), level=True), Curve("nothing", ("gone",)))
    return Experiment("toy", "Toy & more", "What was tried.", rows, tables, curves, facts={"scale": "tiny"})


def test_the_report_in_all_its_forms(experiment: Experiment, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    for _ in range(2):  # a second report takes the place of the first
        numbers = write_report(
            experiment, dataset=tmp_path / "d.h5", split="val", folder=folder, audits=tmp_path / "audits"
        )
    assert {p.name for p in folder.iterdir()} == {
        "index.html", "report.md", "table.md", "table.csv", "table.json", "curve.png", "curve.json",
    }  # fmt: skip
    assert json.loads((folder / "table.json").read_text()) == numbers
    more = next(row for row in numbers["rows"] if row["name"] == "more")
    assert more["spread"]["miou"] == {
        "mean": pytest.approx(0.7),
        "deviation": pytest.approx(0.1414, abs=1e-4),
        "n": 2,
    }
    assert more["spread"]["percent_of_full"]["mean"] == pytest.approx(77.5)  # 75 % and 80 %
    text = (folder / "table.md").read_text()
    assert "| the \\| more <row> | 10 % | 2 | 0.700 ± 0.141 | 0.250 ± 0.071 | 77.5 ± 3.5 |" in text
    assert "printed in the paper |  |  | 0.5206 |" in text
    assert "| never run | 5 % | 0 of 1 | – | – | – |" in text
    assert "| the \\| rec <row> | boxes only | 2 | 0.900 ± 0.000 |" in text
    assert "box prompt" not in text  # measured nowhere
    assert text in (folder / "report.md").read_text().replace("# Toy & more\n\nWhat was tried.\n\n", "")
    page = (folder / "index.html").read_text()
    assert "Toy &amp; more" in page and "the | more &lt;row&gt;" in page and "curve.png" in page
    links = set(re.findall(r'(?:href|src)="([^"]+)"', page))
    assert links == {"table.json", "table.csv", "table.md", "curve.json", "curve.png"}
    table = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    assert float(table[2]["miou mean"]) == pytest.approx(0.7) and table[2]["miou n"] == "2"


def test_the_curve_keeps_to_what_was_measured(experiment: Experiment, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    write_report(experiment, dataset=tmp_path / "d.h5", split="val", folder=folder, audits=tmp_path)
    numbers = json.loads((folder / "curve.json").read_text())
    (line,) = numbers["series"]
    assert [(p["percent"], p["miou"]) for p in numbers["trivial"]] == [(x, 0.35) for x in (1, 10, 100)]
    assert [(p["percent"], p["miou"]) for p in line["points"]] == [
        (1, pytest.approx(0.45)), (10, pytest.approx(0.7)), (100, pytest.approx(0.9)),
    ]  # fmt: skip
    assert line["full_supervision"] == pytest.approx(0.9)


def test_rounds_of_a_row_over_its_seeds() -> None:
    def row(*scores: float) -> list[dict[str, Any]]:
        return [{"round": i + 1, "val_box_acc50": score} for i, score in enumerate(scores)]

    rows = {
        "siri": {"label": "SiRi", "ratio": 0.0, "rounds": {0: row(0.5, 0.7), 1: row(0.6, 0.9)}},
        "labels": {"label": "L", "ratio": 0.1, "rounds": {0: [{"round": 1, "all": 0.4}]}},
    }
    assert round_rows(rows, {"val_box_acc50": "Acc"}) == [
        {"": "SiRi", "masks": "boxes only", "round": "1", "Acc": "0.550 ± 0.071"},
        {"": "SiRi", "masks": "boxes only", "round": "2", "Acc": "0.800 ± 0.141"},
    ]
    assert round_rows(rows, {"all": "all"}) == []  # a single round is in the table already


def test_the_trivial_row_is_the_best_baseline_of_each_share() -> None:
    def measured(ratio: float, **scores: float) -> dict[str, Any]:
        return {"ratio": ratio, "spread": {key: spread([value]) for key, value in scores.items()}}

    rows = {
        "rec": measured(0.0, filled_box=0.9),
        "a": measured(0.01, filled_box=0.3, ellipse=0.5),
        "b": measured(0.01, filled_box=0.4),
        "c": measured(1.0),
    }
    found = trivial_points((Curve("x", ("rec", "a", "gone")), Curve("y", ("b", "c"))), rows)
    assert found == [(1.0, 0.5)]
    assert curve_line(Curve("x", ("rec",)), {"rec": measured(0.0, miou=0.5)}).points == ()


def test_attention_stands_beside_the_scores(tmp_path: Path) -> None:
    evaluation, file = write_evaluation(tmp_path / "e.h5", 0.5), tmp_path / "attention.h5"
    means = {"in_mask": 0.4, "in_box": 0.6, "distance": None, "mask_share": 0.1, "box_share": 0.2}
    with write_artifact(file, "attention", fingerprint="f", provenance={}) as w:
        for name in ("dataset_digest", "model_digest"):
            w.attr(name, "x")
        for name in ("model", "sentence_index", "referent_index"):
            w.column(name, np.zeros(0, np.int64))
        for name, dtype, shape in (
            ("tokens", np.int32, (0,)), ("points_xy", np.float32, (0, 2)), ("step_of_point", np.int64, (0,)),
            ("maps", np.float16, (0,)),
        ):  # fmt: skip
            w.ragged(name, np.zeros(shape, dtype), np.zeros(1, np.int64))
        w.column("box_xyxy", np.zeros((0, 4), np.float32))
        w.column("map_shape", np.zeros((0, 3), np.int64))
        w.json("summary", {"attention": {"naive": means}})
    row = Row("naive", "naive", 0.1, (RunFiles(0, evaluation, attention=file),))
    found = measure_row(row, "val", tmp_path / "d.h5", tmp_path)["seeds"][0]
    assert (found["attention_in_mask"], found["attention_box_share"]) == (0.4, 0.2)
    assert found["attention_distance"] is None
