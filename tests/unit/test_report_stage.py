"""report: a page from whatever is there, hidden masks stay hidden, texts stay texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.artifacts import open_artifact, write_artifact
from stages.errors import ArtifactError, UsageError
from stages.figures.cards import choose_shown, mask_rings, script_json, spread
from stages.figures.run_graph import run_graph
from stages.metrics.report_numbers import counted, size_rows
from stages.report import Config, run
from stages.resample_points import Config as ResampleConfig
from stages.resample_points import run as resample
from tests.oracles.small_artifacts import (
    boxes_of,
    diamond,
    digest,
    write_dataset,
    write_model,
    write_pseudo,
    write_split,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "artifacts"
BOXES = boxes_of(4).tolist()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("run")
    texts = ["<b>bold</b> </script>", "zwei\u2028lines", "thing 2", "thing 3"]
    data = write_dataset(folder / "data.h5", ["train"] * 3 + ["val"], sentences=1, texts=texts, pictures=True)
    rows = [(r, r, 0.9, diamond(BOXES[r])) for r in range(3)]
    pseudo = write_pseudo(folder / "pseudo.h5", data, rows, n_points=8)
    points = folder / "points.h5"
    resample(ResampleConfig(), dataset=data, pseudo=pseudo, out=points)
    model = write_model(folder / "model.h5", data)
    return {
        "data": data,
        "pseudo": pseudo,
        "points": points,
        "model": model,
        "split": write_split(folder / "split.h5", data, [False, False, True, False]),
        "scores": write_scores(folder / "scores.h5", data, model),
    }


def write_scores(path: Path, data: Path, model: Path) -> Path:
    part = {"miou": 0.5, "oiou": 0.5}
    masks = dict.fromkeys(
        ("model", "filled_box", "ellipse", "true_filled_box", "true_ellipse", "upper_bound"), part
    )
    counts = {"n_referents": 1, "n_sentences": 1, "n_mask_referents": 1, "n_mask_sentences": 1}
    with write_artifact(path, "evaluation", fingerprint="f", provenance={}) as w:
        for name, value in (("dataset_digest", digest(data)), ("model_digest", digest(model))):
            w.attr(name, value)
        w.attr("task", "res")
        w.attr("frame", "original")
        for name in ("referent_index", "sentence_index"):
            w.column(name, np.array([3]))
        w.column("split", np.array([1]))
        w.column("predicted_box_xyxy", np.array([BOXES[3]], np.float32))
        w.column("box_iou", np.ones(1))
        w.column("mask_iou", np.array([0.5]))
        w.column("ellipse_iou", np.array([0.75]))
        ring = np.asarray(diamond(BOXES[3]), np.float32)
        w.ragged("points_xy", ring, np.array([0, len(ring)]))
        summary = {
            "frame": "original",
            "n_points": 8,
            "splits": {"val": {**counts, "rec": None, "res": masks}},
        }
        w.json("summary", summary)
    return path


def cards(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "cards.js").read_text("utf-8").splitlines()[1:-1]
    return [json.loads(line.removesuffix(",")) for line in lines]


def shapes(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "shapes-0.js").read_text("utf-8")
    found: list[dict[str, Any]] = json.loads(text[text.index("[") : text.rindex(")")])
    return found


def test_cards_tell_pseudo_masks_and_predictions(files: dict[str, Path], tmp_path: Path) -> None:
    shown = run(Config(), files=list(files.values()), out=tmp_path / "page")
    assert shown["cards"] == 4
    first, *_, last = cards(tmp_path / "page")
    assert (first["ref"], first["r"], first["s"], first["split"], first["st"]) == (1, 0, 0, "train", "kept")
    assert first["sc"] < 0.1
    assert (last["st"], last["sc"]) == ("scored", None)
    assert last["iou"] > 0.5
    assert set(shapes(tmp_path / "page")[0]["layers"]) == {"pseudo", "resampled"}
    assert set(shapes(tmp_path / "page")[3]["layers"]) == {"predicted", "true"}
    html = (tmp_path / "page" / "index.html").read_text("utf-8")
    for words in (
        "ellipse in its box",
        "ground-truth box, filled",
        "IoU by object size",
        "Pseudo masks by confidence",
    ):
        assert words in html
    assert not re.search(r"""(src|href)=["']?(\w+:)?//""", html)


@pytest.mark.parametrize(
    ("given", "show_hidden", "seen"),
    [
        (("data", "pseudo"), False, set()),
        (("data", "pseudo", "split"), False, {2}),
        (("data", "pseudo", "split", "all"), False, {2}),  # what one split hides stays hidden
        (("data", "pseudo", "split"), True, {0, 1, 2}),
    ],
)
def test_hidden_masks_stay_hidden_unless_asked_for(
    files: dict[str, Path], tmp_path: Path, given: tuple[str, ...], show_hidden: bool, seen: set[int]
) -> None:
    every = write_split(tmp_path / "all.h5", files["data"], [True] * 3 + [False])
    paths = [{**files, "all": every}[name] for name in given]
    run(Config(show_hidden=show_hidden), files=paths, out=tmp_path / "page")
    assert {i for i, s in enumerate(shapes(tmp_path / "page")) if "true" in s["layers"]} == seen
    assert {card["r"] for card in cards(tmp_path / "page") if card["iou"] is not None} == seen


def test_texts_of_data_cannot_end_a_script(files: dict[str, Path], tmp_path: Path) -> None:
    run(Config(), files=[files["data"], files["pseudo"]], out=tmp_path / "page")
    written = (tmp_path / "page" / "cards.js").read_text("utf-8")
    assert not set("<>&\u2028\u2029") & set(written)
    assert [card["t"] for card in cards(tmp_path / "page")][:2] == [
        "<b>bold</b> </script>",
        "zwei\u2028lines",
    ]
    assert json.loads(script_json({"a": "<!--\ud800"})) == {"a": "<!--\ud800"}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.h5")), ids=lambda p: p.stem)
def test_every_kind_alone_makes_a_page(path: Path, tmp_path: Path) -> None:
    if path.stem.startswith("dataset"):
        pytest.skip("its pictures lie elsewhere")
    run(Config(), files=[path], out=tmp_path / "page")
    assert "seqres report" in (tmp_path / "page" / "index.html").read_text("utf-8")


def test_a_dataset_alone_shows_its_referents(files: dict[str, Path], tmp_path: Path) -> None:
    shown = run(Config(cards=2), files=[files["data"], files["data"]], out=tmp_path / "page")
    assert (shown["files"], shown["cards"], shown["of"], shown["reviewed"]) == (1, 2, 4, None)
    assert [card["st"] for card in cards(tmp_path / "page")] == ["referent", "referent"]
    assert 'id="review"' not in (tmp_path / "page" / "index.html").read_text("utf-8")


def test_files_of_different_datasets_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other.h5", ["train"], seed=1)
    with pytest.raises(ArtifactError, match=r"pseudo.h5 and .*other.h5 belong to different datasets"):
        run(Config(), files=[other, files["pseudo"]], out=tmp_path / "page")
    with pytest.raises(UsageError, match="nothing to report on"):
        run(Config(), files=[], out=tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_decisions_kept_beside_the_page_are_not_lost(files: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page"
    for _ in range(2):
        run(Config(), files=[files["data"], files["pseudo"]], out=page)
    (page / "decisions.json").write_text("{}")
    with pytest.raises(ArtifactError, match="holds files that seqres did not write"):
        run(Config(), files=[files["data"], files["pseudo"]], out=page)
    assert (page / "decisions.json").read_text() == "{}"
    assert [p.name for p in tmp_path.iterdir()] == ["page"]


def test_the_graph_survives_a_record_that_names_itself(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d.h5", ["train"])
    made = []
    for i in range(2):
        record = {"inputs": [{"role": "x", "digest": digest(data)}, "nonsense"], "seconds": 1.5}
        with write_artifact(tmp_path / f"{i}.h5", "split", fingerprint="f", provenance=record) as w:
            for name in ("dataset_digest", "split_name", "strategy", "seed", "unit"):
                w.attr(name, str(i))
            w.column("visible", np.zeros(1, bool))
            w.column("rank", np.zeros(1, np.int64))
            w.column("labelled_ref_id", np.zeros(0, np.int64))
        made.append(open_artifact(tmp_path / f"{i}.h5"))
    first, second = made
    artifacts = [open_artifact(data), first, second]
    graph = run_graph(artifacts, {a.digest: a.path.stem for a in artifacts})
    assert [node.x for node in graph.nodes] == [4, 254, 254]
    assert len(graph.edges) == 2
    assert graph.nodes[1].seconds == 1.5


def test_what_is_shown_is_the_newest_chain(files: dict[str, Path]) -> None:
    artifacts = [open_artifact(files[name]) for name in ("scores", "points", "pseudo", "model")]
    shown = choose_shown(artifacts)
    assert (shown.pseudo, shown.before, shown.points, shown.evaluation) == (
        artifacts[2], None, artifacts[1], artifacts[0],
    )  # fmt: skip


def test_numbers_of_the_tables(files: dict[str, Path]) -> None:
    assert counted(np.array([0.0, 0.05, 0.1, 5.0, np.nan]), (0, 0.1, 1)) == [2, 2]
    scores = open_artifact(files["scores"])
    rows = size_rows([scores], open_artifact(files["data"]), {scores.digest: "final"})
    assert rows == [
        {"name": "final", "10% to 30%": 0.5, "sentences": 1},
        {"name": "final: ellipse in its box", "10% to 30%": 0.75, "sentences": 1},
    ]


def test_cards_are_spread_evenly_and_parts_of_masks_are_kept() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]  # type: ignore[arg-type, comparison-overlap]
    mask = np.zeros((20, 30), bool)
    mask[2:6, 2:6] = mask[10:18, 10:25] = True
    rings = mask_rings(mask)
    assert len(rings) == 2
    assert max(rings[0][0::2]) == 25  # the larger one first, its right edge
    assert mask_rings(np.zeros((3, 3), bool)) == []
