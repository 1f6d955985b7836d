"""--shard and merge: the joined shards are the file of one run; whatever does not fit together is refused by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from stages import merge, predict, prepare_data, pseudo_label, resample_points, split_masks
from stages.artifacts import RunOptions, StageResult, open_artifact, verify_artifact
from stages.data.exports.items import labels_of_predictions
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.inference.pseudo_rows import PseudoRows
from stages.shards import Part, Shard, order_of
from tests.oracles.processes import in_processes
from tests.oracles.random_models import write_random_model

LABELS: Any = {"audit_expressions": 7, "batch_images": 3, "device": "cpu", "max_referents": 20}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("inputs")
    data, split = folder / "data.h5", folder / "split.h5"
    prepare_data.run(prepare_data.Config(scale="tiny"), out=data)
    split_masks.run(split_masks.Config(ratio=0.3), dataset=data, out=split)
    models = {
        "points": write_random_model(folder / "points.h5", "box-contour"),
        "masks": write_random_model(folder / "masks.h5", "detector with masks"),
    }
    return SimpleNamespace(data=data, split=split, models=models)


def label(inputs: SimpleNamespace, out: Path, model: str = "points", **changes: Any) -> StageResult:
    options = changes.pop("options", None)
    return pseudo_label.run(
        pseudo_label.Config(**{**LABELS, **changes}), dataset=inputs.data, split=inputs.split,
        model=inputs.models[model], out=out, options=options,
    )  # fmt: skip


def joined(files: Sequence[Path], out: Path, **options: Any) -> StageResult:
    return merge.run(merge.Config(), files=files, out=out, options=RunOptions(**options))


@pytest.fixture(scope="module")
def shards(inputs: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    files = [folder / f"{k}.h5" for k in (1, 2, 3)]
    for k, path in enumerate(files, 1):
        label(inputs, path, shard=f"{k}/3")
    return files


@pytest.mark.parametrize("model", ["points", "masks"])
def test_joined_shards_are_the_file_of_one_run(inputs: SimpleNamespace, tmp_path: Path, model: str) -> None:
    whole = label(inputs, tmp_path / "whole.h5", model)
    files = [tmp_path / f"{k}.h5" for k in (1, 2)]
    for k, path in enumerate(files, 1):
        result = label(inputs, path, model, shard=f"{k}/2")
        assert 0 < result.summary["sentences"] < whole.summary["sentences"]
        assert verify_artifact(path) == []
    made = joined(files[::-1], tmp_path / "joined.h5")
    assert (made.status, made.digest, made.summary) == ("written", whole.digest, whole.summary)
    assert verify_artifact(made.path) == []
    with open_artifact(made.path) as a, open_artifact(tmp_path / "whole.h5") as b:
        assert a.fingerprint == b.fingerprint
        assert [x["path"] for x in a.provenance["merged"]] == [str(path) for path in files[::-1]]
        assert a.provenance["inputs"] == b.provenance["inputs"]
    assert label(inputs, made.path, model).status == "up-to-date"
    assert joined(files, made.path).status == "up-to-date"
    with pytest.raises(StaleOutputError, match="was made from something else") as stale:
        label(inputs, made.path, model, max_referents=19)
    assert stale.value.facts == ("max-referents: 20 -> 19",)


def test_more_shards_than_pictures_and_several_processes(inputs: SimpleNamespace, tmp_path: Path) -> None:
    """An empty shard is a shard; the processes of a shard share its groups."""
    few: Any = {"max_referents": 2, "audit_split": ""}
    whole = label(inputs, tmp_path / "whole.h5", **few)
    files = [tmp_path / f"{k}.h5" for k in (1, 2, 3)]

    def work(world: Any) -> None:
        label(inputs, files[0], shard="1/3", options=RunOptions(world=world), **few)

    in_processes(2, work, tmp_path)
    sizes = [
        label(inputs, path, shard=f"{k}/3", **few).summary["sentences"] for k, path in enumerate(files, 1)
    ]
    assert 0 in sizes
    assert joined(files, tmp_path / "joined.h5").digest == whole.digest


def test_a_shard_is_no_whole(inputs: SimpleNamespace, shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is a pseudo_shard artifact, expected pseudo_points") as part:
        resample_points.run(
            resample_points.Config(), dataset=inputs.data, pseudo=shards[0], out=tmp_path / "points.h5"
        )
    assert part.value.hint == "join it with the other shards: seqres merge … --out FILE.h5"
    with pytest.raises(StaleOutputError, match="made from something else") as stale:
        label(inputs, shards[0], shard="2/3")
    assert stale.value.facts == ("shard: 1/3 -> 2/3",)
    assert label(inputs, shards[0], shard="1/3").status == "up-to-date"


def test_what_does_not_fit_is_refused(inputs: SimpleNamespace, shards: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "joined.h5"
    with pytest.raises(UsageError, match="nothing to merge"):
        joined([], out)
    with pytest.raises(ArtifactError, match=r"shard 2/3 missing") as missing:
        joined([shards[0], shards[2]], out)
    assert missing.value.hint == "seqres pseudo-label --shard 2/3 …"
    copied = Path(shutil.copy(shards[1], tmp_path / "copied.h5"))
    with pytest.raises(ArtifactError, match=r"copied.h5 and .*2.h5 are both shard 2/3"):
        joined([*shards, copied], out)
    for changes, words in (
        ({"shard": "3/3", "max_referents": 19}, "are shards of different runs"),
        ({"shard": "3/4"}, "differ in the number of shards"),
        ({"shard": "3/3", "batch_images": 4}, "differ in the batch size"),
    ):
        other = tmp_path / f"{len(words)}.h5"
        label(inputs, other, **changes)
        with pytest.raises(ArtifactError, match=words):
            joined([*shards[:2], other], out)
    with pytest.raises(ArtifactError, match="is a dataset artifact, expected pseudo_shard"):
        joined([*shards[:2], inputs.data], out)
    assert not out.exists()
    with pytest.raises(UsageError, match="is also an input"):
        joined(shards, shards[0])
    assert joined(shards, out, dry_run=True).status == "would-run"
    assert not out.exists()


def test_another_file_is_not_replaced(inputs: SimpleNamespace, shards: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "other.h5"
    label(inputs, out, max_referents=5)
    with pytest.raises(StaleOutputError, match="made from something else") as stale:
        joined(shards, out)
    assert stale.value.facts == ("max-referents: 5 -> 20",)
    assert joined(shards, out, force=True).status == "written"


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "١/٢", "1/1000000", " 1/2"]
)
def test_a_shard_is_i_of_n(text: str) -> None:
    with pytest.raises(UsageError, match="--shard must be i/n"):
        pseudo_label.Config(shard=text)
    with pytest.raises(UsageError, match="--shard must be i/n"):
        predict.Config(shard=text)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures and a table of nine questions, some with boxes."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for k in range(5):
        cv2.imwrite(str(folder / f"{k}.png"), rng.integers(0, 255, (48, 60 + k, 3), np.uint8))
    lines = [f"{i % 5}.png,thing {i},{'1,2,30,40' if i % 3 else ',,,'}" for i in range(9)]
    (folder / "list.csv").write_text("\n".join(["image,phrase,x1,y1,x2,y2", *lines]) + "\n")
    return folder


def ask(inputs: SimpleNamespace, photographs: Path, out: Path, **changes: Any) -> dict[str, Any]:
    overlays = changes.pop("overlays", None)
    config = predict.Config(**{"batch_size": 2, "device": "cpu", "segmenter": "grabcut", **changes})
    table = photographs / "list.csv"
    predict.run(config, model=inputs.models["points"], table=table, out=out, overlays=overlays)
    document: dict[str, Any] = json.loads(out.read_text())
    return document


def test_joined_answers_are_those_of_one_run(
    inputs: SimpleNamespace, photographs: Path, tmp_path: Path
) -> None:
    whole = ask(inputs, photographs, tmp_path / "whole.json", overlays=tmp_path / "drawn")
    files = [tmp_path / f"{k}.json" for k in (1, 2)]
    for k, path in enumerate(files, 1):
        part = ask(inputs, photographs, path, shard=f"{k}/2", overlays=tmp_path / "drawn-apart")
        assert 0 < len(part["predictions"]) < 9
    out = tmp_path / "joined.json"
    assert joined(files, out, dry_run=True).status == "would-run"
    result = joined(files[::-1], out)
    made = json.loads(out.read_text())
    assert (result.status, result.summary) == ("written", made["summary"])
    assert list(made) == list(whole)
    for document in (made, whole):
        del document["provenance"], document["summary"]["overlays"]
        for row in document["predictions"]:
            row["overlay"] = Path(row["overlay"]).name
    assert made == whole
    drawn = [{p.name: p.read_bytes() for p in (tmp_path / d).iterdir()} for d in ("drawn", "drawn-apart")]
    assert drawn[0] == drawn[1]
    assert joined(files, out).status == "up-to-date"
    assert ask(inputs, photographs, out)["fingerprint"] == whole["fingerprint"]
    names = ["1.json", "2.json", "joined.json", "whole.json"]
    assert sorted(path.name for path in tmp_path.glob("*.json")) == names


def test_answers_that_do_not_fit_are_refused(
    inputs: SimpleNamespace, photographs: Path, tmp_path: Path
) -> None:
    files, out = [tmp_path / f"{k}.json" for k in (1, 2)], tmp_path / "joined.json"
    first, _ = [ask(inputs, photographs, path, shard=f"{k}/2") for k, path in enumerate(files, 1)]
    with pytest.raises(ArtifactError, match="shard 2/2 missing"):
        joined(files[:1], out)
    with pytest.raises(UsageError, match="are in different folders"):
        joined(files, tmp_path.parent / "joined.json")
    other, whole = tmp_path / "other.json", tmp_path / "whole.json"
    ask(inputs, photographs, other, shard="2/2", segmenter=None)
    with pytest.raises(ArtifactError, match="are shards of different runs"):
        joined([files[0], other], out)
    ask(inputs, photographs, whole)
    for path, words in ((whole, "is no shard"), (inputs.data, "is an HDF5 file")):
        with pytest.raises(ArtifactError, match=words):
            joined([files[0], path], out)
    with pytest.raises(ArtifactError, match="holds no predictions"):
        labels_of_predictions(files[0])
    for damage, words in (
        ({"predictions": first["predictions"][1:]}, "predictions for"),
        ({"shard": {**first["shard"], "confidence": []}}, "predictions with 0 numbers"),
        ({"shard": {**first["shard"], "number": "3/2"}}, "its shard is '3/2'"),
        ({"shard": {**first["shard"], "rows": [-1]}}, "shard.rows.0"),
        ({"predictions": [{}]}, "predictions.0.image"),
        (
            {"shard": {**first["shard"], "confidence": [1e300] * len(first["predictions"])}},
            "shard.confidence.0",
        ),
        ({"model": [1]}, "model: input should be a valid dictionary"),
    ):
        other.write_text(json.dumps({**first, **damage}))
        with pytest.raises(ArtifactError, match="is damaged") as damaged:
            joined([other, files[1]], out)
        assert words in str(damaged.value.facts)
    other.write_text(json.dumps({**first, "provenance": {"seconds": float("nan")}}))
    with pytest.raises(ArtifactError, match="no valid JSON"):
        joined([other, files[1]], out)
    assert not out.exists()


def test_one_picture_has_no_shards(inputs: SimpleNamespace, photographs: Path, tmp_path: Path) -> None:
    config = predict.Config(shard="1/2")
    asked: Any = {"model": inputs.models["points"], "image": photographs / "0.png", "phrase": ["a"]}
    for given in ({"mask": tmp_path / "m.png"}, {"overlay": tmp_path / "o.png"}):
        with pytest.raises(UsageError, match="is of one picture, which has no parts"):
            predict.run(config, out=tmp_path / "o.json", **given, **asked)
    with pytest.raises(UsageError, match="--out - is for one process and no shard"):
        predict.run(config, out=Path("-"), emit=print, **asked)


def test_a_start_without_a_model_has_no_shards() -> None:
    with pytest.raises(UsageError, match="--shard is for a model, and --start ellipse needs none"):
        pseudo_label.Config(start="ellipse", shard="1/2")


def test_rows_of_one_run_have_one_form() -> None:
    def rows(slots: int, masks: bool, whole: type = np.int64) -> PseudoRows:
        flat = (np.zeros((0, 2), np.float32), np.zeros(2, np.int64))
        columns = {name: np.zeros(1, whole) for name in ("referent_index", "sentence_index", "confidence")}
        columns |= {"tokens": np.zeros((1, slots)), "token_probability": np.zeros((1, slots))}
        columns["box_xyxy"] = np.zeros((1, 4))
        return PseudoRows(columns, np.zeros(1), flat, flat if masks else None)

    order = np.arange(2)
    assert len(PseudoRows.join([rows(4, True), rows(4, True)], order).scores) == 2
    for other in (rows(5, True), rows(4, False), rows(4, True, np.uint64)):
        with pytest.raises(ArtifactError, match="tokens or masks of different models"):
            PseudoRows.join([rows(4, True), other], order)


def test_rows_must_be_those_of_one_run() -> None:
    parts = [
        Part(Path(f"{k}.h5"), Shard(k, 2), "run", 3, np.array(rows), 4)
        for k, rows in ((1, [0, 3]), (2, [1, 2]))
    ]
    assert order_of(parts, "seqres").tolist() == [0, 2, 3, 1]
    for rows in ([1, 1], [1], [1, 4]):
        with pytest.raises(ArtifactError, match="that are not the 4 of one run"):
            order_of([parts[0], dataclasses.replace(parts[1], rows=np.array(rows))], "seqres")
