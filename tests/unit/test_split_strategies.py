"""split-masks that asks a comprehension model, and the list for an annotation tool."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from stages import prepare_data
from stages.artifacts import RunOptions, open_artifact, verify_artifact, write_artifact
from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.errors import ArtifactError, SeqresError, StaleOutputError, UsageError
from stages.inference import annotation
from stages.inference.encoding import encoded_groups
from stages.metrics.coverage import spread_order, unit_features
from stages.models.build import build_model
from stages.split_masks import Config, run
from stages.weights.model_file import load_model, write_model
from tests.oracles.listed_ids import read_ref_ids
from tests.oracles.random_models import CONFIGS, WORDS
from tests.oracles.small_artifacts import digest, write_dataset

STRATEGIES: list[dict[str, Any]] = [
    {"strategy": "diverse"},
    {"strategy": "uncertain"},
    {"strategy": "uncertain", "uncertainty": "disagreement"},
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "d.h5"
    prepare_data.run(prepare_data.Config(scale="tiny"), out=path)
    return path


def write_rec(path: Path, dataset: Path, name: str = "box") -> Path:
    """A comprehension model with random weights, as train-rec would write it for the dataset."""
    config = CONFIGS[name]
    torch.manual_seed(0)
    codec = WordCodec.from_sentences([WORDS], config.text.max_words)
    model = build_model(config, codec.size)
    if name == "box":  # spread logits, so that tokens are neither certain nor all alike
        torch.nn.init.normal_(model.predictor[-1].weight, std=1.0)  # type: ignore[union-attr, arg-type, index]
    with write_artifact(path, "rec_model", fingerprint="f", provenance={}) as w:
        w.attr("dataset_digest", digest(dataset))
        write_model(w, config, codec, {"weights": model.state_dict()}, [])
    return path


@pytest.fixture(scope="module")
def rec(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rec(tmp_path_factory.mktemp("rec") / "rec.h5", dataset)


def chosen(dataset: Path, rec: Path, out: Path, **config: Any) -> np.ndarray:
    run(Config(device="cpu", **config), dataset=dataset, rec=rec, out=out)
    with open_artifact(out, kind="split") as a:
        return a["visible"]


# ---- what there was stays as it was ----


@pytest.mark.parametrize(
    ("config", "content", "fingerprint"),
    [
        (
            {"ratio": 0.2, "seed": 3},
            "593e072356ea29668abcdda29074df6acd4dc0f5672f8eaed272ccc2844bc571",
            "9d325cdfe6cc5d0aeb2cf4a3c7440b2fa60ff87a86bab22c481860fa2a250535",
        ),
        (
            {"count": 5, "unit": "image"},
            "9e4f07262671b322d1daa7092d9d69931412b46adc2d79f1e46183ec035ec0bd",
            "b167e12e5f83b35df7c1d0d7a44a1e00e24cfcd7aef8a6d30fa9900ad9e9cebb",
        ),
    ],
)
def test_the_random_choice_has_not_moved(
    tmp_path: Path, config: dict[str, Any], content: str, fingerprint: str
) -> None:
    """Digest and fingerprint as before there were strategies, so splits made then are up to date."""
    data = write_dataset(tmp_path / "d.h5", ["train"] * 40 + ["val"] * 3)
    result = run(Config(**config), dataset=data, out=tmp_path / "s.h5")
    with open_artifact(tmp_path / "s.h5") as a:
        assert (result.digest, a.fingerprint) == (content, fingerprint)


# ---- strategies ----


@pytest.mark.parametrize("unit", ["referent", "image"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: "-".join(s.values()))
def test_smaller_shares_lie_in_larger_ones(
    dataset: Path, rec: Path, tmp_path: Path, unit: str, strategy: dict[str, Any]
) -> None:
    shares = [
        chosen(dataset, rec, tmp_path / f"{ratio}.h5", ratio=ratio, unit=unit, seed=3, **strategy)
        for ratio in (0.01, 0.05, 0.1)
    ]
    data = ReferringDataset.open(dataset)
    train = data.referent_split == 0
    for smaller, larger in itertools.pairwise(shares):
        assert not (smaller & ~larger).any()
        assert smaller.sum() < larger.sum() <= train.sum()
        assert not (larger & ~train).any()
    if unit == "referent":
        assert shares[-1].sum() == round(0.1 * train.sum())
    else:
        shown = np.isin(data.referent_image, data.referent_image[shares[-1]])
        assert (shares[-1] == (shown & train)).all(), "all of an image or nothing"
    with open_artifact(tmp_path / "0.1.h5") as a:
        rank = a["rank"]
        assert sorted(rank[train].tolist()) == list(range(train.sum()))
        assert a.attrs["rec_digest"] == digest(rec)
    assert verify_artifact(tmp_path / "0.1.h5") == []


def test_the_seed_draws_the_first_of_the_diverse(dataset: Path, rec: Path, tmp_path: Path) -> None:
    a, b = (chosen(dataset, rec, tmp_path / f"{s}.h5", count=9, strategy="diverse", seed=s) for s in (0, 1))
    assert (a != b).any()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: "-".join(s.values()))
def test_no_mask_is_read(
    dataset: Path, rec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: dict[str, Any]
) -> None:
    read: list[str] = []
    original = h5py.Dataset.__getitem__

    def watch(self: h5py.Dataset, *arguments: Any, **options: Any) -> Any:
        read.append(f"{Path(self.file.filename).name}:{self.name}")
        return original(self, *arguments, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watch)
    chosen(dataset, rec, tmp_path / "s.h5", ratio=0.1, **strategy)
    assert "d.h5:/images/encoded/values" in read
    assert "d.h5:/masks/rle/values" not in read


def test_the_least_sure_are_chosen(dataset: Path, rec: Path, tmp_path: Path) -> None:
    visible = chosen(dataset, rec, tmp_path / "s.h5", count=20, strategy="uncertain")
    with open_artifact(tmp_path / "s.h5") as a:
        value = a["uncertainty"]
        summary = a.json("summary")["uncertainty"]
        assert a.attrs["strategy"] == "uncertain (entropy)"
    train = ReferringDataset.open(dataset).referent_split == 0
    assert np.isnan(value[~train]).all()
    assert (value[train] > 0).all() and (value[train] < 1).all()
    assert value[visible].min() >= value[train & ~visible].max()
    assert summary["mean_chosen"] == pytest.approx(value[visible].mean())
    assert summary["mean_chosen"] > summary["mean"]


def test_entropy_is_a_share_of_the_largest_and_leaves_end_out() -> None:
    logits = torch.zeros(1, 2, 5)
    logits[..., -1] = 50.0  # END, which a box slot never writes
    logits[0, 1, 0] = 60.0
    assert annotation.token_entropy(logits)[0].tolist() == pytest.approx([1, 0], abs=1e-6)


def test_entropy_is_that_of_decoding_one_by_one(dataset: Path, rec: Path) -> None:
    loaded, data = load_model(rec), ReferringDataset.open(dataset)
    referents = data.referents_in("val")[:5][::-1].copy()
    together = annotation.box_entropy(loaded, data, referents, batch_images=4)
    for value, referent in zip(together, referents, strict=True):
        alone = []
        for sentence in data.sentences_of(np.array([referent])):
            (group,) = encoded_groups(loaded, data, np.array([sentence]), 1, False)
            logits = loaded.model.generate(group.memory, keep_logits=True).logits
            p = torch.softmax(logits[0, :4, :-1], -1).numpy()
            alone.append((-(p * np.log(p)).sum(-1) / np.log(p.shape[-1])).mean())
        assert value == pytest.approx(np.mean(alone), abs=1e-5)


def test_disagreement_is_one_minus_the_mean_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Referents with three sentences, one, and two."""
    boxes = [[0, 0, 2, 2], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 2]]
    data: Any = SimpleNamespace(
        boxes_xyxy=np.zeros((3, 4)),
        sentence_offsets=np.array([0, 3, 4, 6]),
        sentence_referent=np.array([0, 0, 0, 1, 2, 2]),
        sentences_of=lambda referents: np.arange(6),
    )
    drawn = SimpleNamespace(boxes_xyxy=np.array(boxes, np.float32))
    monkeypatch.setattr(annotation, "predict_sentences", lambda *a, **k: drawn)
    value = annotation.box_disagreement(None, data, np.array([2, 0, 1]))  # type: ignore[arg-type]
    assert value == pytest.approx([0.5, 2 / 3, 0])


@torch.inference_mode()
def test_features_are_the_mean_memory_under_the_box(dataset: Path, rec: Path) -> None:
    loaded, data = load_model(rec), ReferringDataset.open(dataset)
    referents = data.referents_in("val")[3:9]
    features = annotation.box_features(loaded, data, referents, batch_images=2)
    for feature, referent in zip(features, referents, strict=True):
        (group,) = encoded_groups(loaded, data, data.sentence_offsets[[referent]], 1, False)
        h, w = group.memory.grid_hw
        cells = group.memory.tokens[0, : h * w].view(h, w, -1).numpy()
        x1, y1, x2, y2 = (
            group.frames[0].boxes_to_model(data.boxes_xyxy[referent][None])[0] / loaded.model.stride
        )
        under = cells[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
        assert feature == pytest.approx(under.mean((0, 1)), abs=1e-5)


def test_cells_of_boxes_at_the_edges() -> None:
    boxes = np.array([[0, 0, 16, 16], [15.9, 0, 16.1, 1], [30, 40, 30, 40], [64, 64, 64, 64]], np.float64)
    cells = annotation.cells_of_boxes(boxes, 16, (4, 4), np.array([[4, 4], [4, 4], [4, 4], [2, 3]]))
    assert cells.sum((1, 2)).tolist() == [1, 2, 1, 1]
    assert cells[2, 2, 1] == 1
    assert cells[3, 1, 2] == 1, "the last cell with pixels, none of the padding"


def test_spread_visits_every_cluster_before_any_twice() -> None:
    """Eleven tight clusters of very unequal size; by chance the ten small ones would be missed."""
    rng = np.random.default_rng(0)
    centres = np.eye(11)
    cluster = np.repeat(np.arange(11), [900, *[10] * 10])
    features = (centres[cluster] + rng.normal(0, 1e-3, (1000, 11))).astype(np.float32)
    for seed in range(5):
        order, distance = spread_order(features, 11, seed=seed)
        assert sorted(cluster[order].tolist()) == list(range(11))
        assert distance.max() < 0.01
        longer, _ = spread_order(features, 30, seed=seed)
        assert longer[:11].tolist() == order.tolist(), "nested"
        assert len(set(longer.tolist())) == 30
    assert spread_order(features, 3, seed=0)[0].tolist() != spread_order(features, 3, seed=1)[0].tolist()


def test_spread_ends_where_everything_coincides() -> None:
    order, distance = spread_order(np.ones((6, 3), np.float32), 4, seed=2)
    assert len(order) == 1
    assert distance.tolist() == [0] * 6
    assert spread_order(np.zeros((0, 3), np.float32), 4, seed=2)[0].tolist() == []


def test_unit_features_forget_the_common_part_and_the_length() -> None:
    features = np.array([[11, 10], [9, 10], [10, 14], [10, 6], [10, 10]], np.float64)
    assert unit_features(features).tolist() == [[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0]]


def test_doubles_are_filled_up_by_chance(
    dataset: Path, rec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        annotation, "box_features", lambda loaded, data, referents, **_: np.ones((len(referents), 4))
    )
    assert chosen(dataset, rec, tmp_path / "s.h5", count=7, strategy="diverse").sum() == 7


def test_the_model_is_part_of_the_fingerprint(dataset: Path, rec: Path, tmp_path: Path) -> None:
    chosen(dataset, rec, tmp_path / "s.h5", ratio=0.1, strategy="diverse")
    other = write_rec(tmp_path / "other.h5", dataset, "detector")
    with pytest.raises(StaleOutputError, match="made from something else") as caught:
        chosen(dataset, other, tmp_path / "s.h5", ratio=0.1, strategy="diverse")
    assert any(fact.startswith("rec: ") for fact in caught.value.facts)


def test_detectors_can_be_asked_but_have_no_tokens(dataset: Path, tmp_path: Path) -> None:
    detector = write_rec(tmp_path / "rec.h5", dataset, "detector")
    for k, strategy in enumerate(
        ({"strategy": "diverse"}, {"strategy": "uncertain", "uncertainty": "disagreement"})
    ):
        assert chosen(dataset, detector, tmp_path / f"{k}.h5", count=5, **strategy).sum() == 5
    with pytest.raises(UsageError, match="a detector predicts no tokens"):
        chosen(dataset, detector, tmp_path / "s.h5", count=5, strategy="uncertain")


@pytest.mark.parametrize(
    ("config", "with_rec", "message"),
    [
        ({"ratio": 0.1, "strategy": "diverse"}, False, "the strategy 'diverse' needs a comprehension model"),
        (
            {"ratio": 0.1, "strategy": "uncertain"},
            False,
            "the strategy 'uncertain' needs a comprehension model",
        ),
        ({"ratio": 0.1}, True, "--rec is not asked by the strategy 'random'"),
        (
            {"import_list": "x", "strategy": "diverse"},
            True,
            "--import-list and --strategy diverse exclude each other",
        ),
    ],
)
def test_options_that_do_not_go_together(
    dataset: Path, rec: Path, tmp_path: Path, config: dict[str, Any], with_rec: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run(Config(**config), dataset=dataset, rec=rec if with_rec else None, out=tmp_path / "s.h5")


def test_a_model_of_another_dataset_is_refused(rec: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "d.h5", ["train"] * 4)
    with pytest.raises(ArtifactError, match=r"rec\.h5 was not made from .*d\.h5"):
        run(Config(count=1, strategy="diverse"), dataset=other, rec=rec, out=tmp_path / "s.h5")


# ---- the list for an annotation tool ----


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_list_tells_what_a_person_needs(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d.h5", ["train"] * 8 + ["val"], masked=[True] * 6 + [False] * 3)
    run(Config(count=3), dataset=data, out=tmp_path / "s.h5", export_list=tmp_path / "new" / "list.csv")
    rows = read_rows(tmp_path / "new" / "list.csv")
    with open_artifact(tmp_path / "s.h5") as a:
        first = np.argsort(np.where(a["rank"] < 0, 99, a["rank"]))[:3]
    assert [int(row["ref_id"]) for row in rows] == (first + 1).tolist(), "in the order of choice"
    r = int(first[0])
    assert rows[0] == {
        "ref_id": str(r + 1), "ann_id": str(r + 1), "image_id": str(r + 100), "image_file": f"{r}.jpg",
        "box_x_px": str(5 + r), "box_y_px": "10", "box_width_px": "20", "box_height_px": "30",
        "category": "thing", "has_mask": "yes", "sentences": f"thing {2 * r} | thing {2 * r + 1}",
    }  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["list.csv"]


def test_a_list_read_back_gives_the_same_split(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d.h5", ["train"] * 30)
    run(Config(ratio=0.2, seed=4), dataset=data, out=tmp_path / "a.h5", export_list=tmp_path / "l.csv")
    run(Config(import_list=str(tmp_path / "l.csv")), dataset=data, out=tmp_path / "b.h5")
    with open_artifact(tmp_path / "a.h5") as a, open_artifact(tmp_path / "b.h5") as b:
        assert np.array_equal(a["visible"], b["visible"])
        assert a["visible"].sum() == 6


@pytest.mark.parametrize(
    "content",
    [
        b'ref_id,note\n3,"a\nline, and more"\n12,\n,\n',
        b"\xef\xbb\xbfnote;ref_id\r\nx;3\r\ny;12\r\n",  # as a spreadsheet program writes it
        b'note\t"ref_id"\nx\t 3\ny\t12\n',
        b"ref_id\n3\n12\n",
    ],
)
def test_tables_of_other_programs(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes(content)
    assert read_ref_ids(path) == {3, 12}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ref_id,note\n3,a\n,b\n", "line 3: no ref_id"),
        ("note,ref_id\na\n", "line 2: no ref_id"),
        ("ref_id,note\n3.5,a\n", "line 2: no ref_id: '3.5'"),
        ("ref_id,note\n3," + "x" * 200_000 + "\n", "is no CSV file that can be read"),
    ],
)
def test_tables_that_name_no_referent(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "l.csv"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=message):
        read_ref_ids(path)


def test_masks_can_be_planned_where_there_are_none(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d.h5", ["train"] * 10, masked=[True] * 2 + [False] * 8)
    with pytest.raises(UsageError, match="count must be at most 2, got 5"):
        run(Config(count=5), dataset=data, out=tmp_path / "s.h5")
    plan = Config(count=5, candidates="all", seed=1)
    summary = run(plan, dataset=data, out=tmp_path / "s.h5", export_list=tmp_path / "l.csv").summary
    rows = read_rows(tmp_path / "l.csv")
    assert len(rows) == summary["chosen"] == 5
    assert sum(row["has_mask"] == "no" for row in rows) == summary["masks_to_draw"] > 0
    with open_artifact(tmp_path / "s.h5") as a:
        assert a["visible"].sum() == summary["masks_visible"] == 5 - summary["masks_to_draw"]
    (tmp_path / "l.csv").unlink()
    run(plan, dataset=data, out=tmp_path / "s.h5", export_list=tmp_path / "l.csv")
    assert read_rows(tmp_path / "l.csv") == rows, "from the split that is up to date"
    none = write_dataset(tmp_path / "none.h5", ["train"] * 3, masked=[False] * 3)
    with pytest.raises(ArtifactError, match="has a mask") as caught:
        run(Config(count=1), dataset=none, out=tmp_path / "n.h5")
    assert "--candidates all" in str(caught.value.hint)


def test_a_list_of_somebody_is_not_overwritten(tmp_path: Path) -> None:
    data, path = write_dataset(tmp_path / "d.h5", ["train"] * 10), tmp_path / "l.csv"
    path.write_text("my notes")
    for _ in range(2):  # before the split is there, and when it is
        with pytest.raises(StaleOutputError, match=r"l\.csv exists and holds another list"):
            run(Config(count=2), dataset=data, out=tmp_path / "s.h5", export_list=path)
        assert path.read_text() == "my notes"
        run(Config(count=2), dataset=data, out=tmp_path / "s.h5")
    run(
        Config(count=2), dataset=data, out=tmp_path / "s.h5", export_list=path, options=RunOptions(force=True)
    )
    stamp = path.stat().st_mtime_ns
    assert len(read_rows(path)) == 2
    result = run(Config(count=2), dataset=data, out=tmp_path / "s.h5", export_list=path)
    assert (result.status, path.stat().st_mtime_ns) == ("up-to-date", stamp)


def test_a_list_is_no_pipe_and_an_empty_file_is_somebodys(tmp_path: Path) -> None:
    data, pipe, empty = (
        write_dataset(tmp_path / "d.h5", ["train"] * 10), tmp_path / "pipe", tmp_path / "empty.csv",
    )  # fmt: skip
    os.mkfifo(pipe)
    empty.touch()
    for path, words in (pipe, "is a named pipe"), (empty, "exists and is empty"):
        with pytest.raises(SeqresError, match=words):
            run(Config(count=2), dataset=data, out=tmp_path / "s.h5", export_list=path)
    assert not (tmp_path / "s.h5").exists()


def test_a_dry_run_writes_no_list(tmp_path: Path) -> None:
    data, path, dry = (
        write_dataset(tmp_path / "d.h5", ["train"] * 10),
        tmp_path / "l.csv",
        RunOptions(dry_run=True),
    )
    out = tmp_path / "s.h5"
    assert run(Config(count=2), dataset=data, out=out, export_list=path, options=dry).status == "would-run"
    run(Config(count=2), dataset=data, out=out)
    result = run(Config(count=2), dataset=data, out=out, export_list=path, options=dry)
    assert (result.status, result.reasons) == ("would-run", (f"{path} does not exist",))
    assert not path.exists()
