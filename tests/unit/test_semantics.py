"""docs/SEMANTICS.md is true: its options and tests exist, and both numbers where no other test shows them."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from golden_checks.released import batch_averaged, projection_score_release

from seqres_cli.main import main
from stages.data.release_sample import match_sample
from stages.data.text import WordCodec
from stages.data.transforms import plain_frame
from stages.geometry.polygons import polygon_scores
from stages.geometry.projection import projection_scores
from stages.geometry.rasterise import (
    box_to_rle,
    polygon_to_rle,
    resize_mask_nearest,
    rle_from_segmentation,
    rle_to_mask,
    union_rle,
)
from stages.inference.sequence_answers import answer_of
from stages.metrics.segmentation import overlaps
from stages.models.build import build_model
from stages.models.config import ImageConfig
from stages.models.detection_boxes import giou
from stages.models.mdetr_criterion import pixel_cross_entropy
from stages.models.memory import Memory
from stages.models.presets import preset
from stages.models.semantics import CORRECTED, RELEASE
from stages.models.vocabulary import sequence_layout
from stages.training.optimiser import MovingAverage
from stages.training.targets import SlotWeights, sequence_targets
from stages.weights.model_file import LoadedModel

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "SEMANTICS.md").read_text("utf-8")

FINDINGS = {"A": 17, "B": 9, "C": 12, "D": 7, "E": 9, "F": 8, "G": 6, "H": 13}  # how many of each letter

DIFFERENT, _, SAME = DOCUMENT.partition("## Same result, done differently")


def rows(text: str = DIFFERENT) -> list[list[str]]:
    """The cells of every table row."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| Where")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_row_is_complete() -> None:
    table = rows()
    assert len(table) >= 35
    for row in table:
        assert len(row) == 5, row
        assert all(row), row
        assert row[3].startswith(("`", "none: ")), f"neither an option nor a reason: {row}"
    same = rows(SAME)
    assert len(same) >= 4
    assert {len(row) for row in same} == {4}
    names = [(row[0], row[1]) for row in table + same]
    found = {i for row in table + same for i in re.findall(r"\b[A-H]\d+\b", row[0])}
    assert found == {f"{letter}{i + 1}" for letter, n in FINDINGS.items() for i in range(n)}
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("option", sorted({o for row in rows() for o in re.findall(r"`([^`]+)`", row[3])}))
def test_every_option_exists(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    if option.startswith("seqres "):
        name, *flags = option.split()[1:]
        assert main([name, *flags, "--print-config"]) == 0, capsys.readouterr().err
        assert "flag" in capsys.readouterr().out
        return
    found = re.fullmatch(r"((?:stages|golden_checks)[\w.]+)\.(\w+)\((\w+)=\)", option)
    assert found is not None, option
    function = getattr(importlib.import_module(found[1]), found[2])
    assert found[3] in inspect.signature(function).parameters


@pytest.mark.parametrize(
    "test", sorted({t for row in rows() + rows(SAME) for t in re.findall(r"`([^`]+)`", row[-1])})
)
def test_every_test_exists(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_readme_links_to_it() -> None:
    assert "(docs/SEMANTICS.md)" in (ROOT / "README.md").read_text("utf-8")


# ---- both numbers ----


def test_content_of_a_coordinate() -> None:
    """A 4 x 4 memory whose cell (row, column) holds (row, column); the image itself is 2 rows high."""
    grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij"), -1)
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[:, :8] = True
    memory = Memory(
        tokens=grid.view(1, 16, 2),
        mask=mask,
        positions=torch.zeros(1, 16, 2),
        grid_hw=(4, 4),
        own_cells_hw=torch.tensor([[2, 4]]),
        valid_cells_hw=torch.tensor([[2, 4]]),
        all_valid=False,
    )
    tokens, axes = torch.tensor([[750, 750, 1000]]), torch.tensor([0, 1, 1])
    ours, theirs = (s.content(memory, 1000).look_up(tokens, axes)[0].tolist() for s in (CORRECTED, RELEASE))
    assert ours == [[0.5, 3.0], [1.0, 1.5], [0.0, 0.0]]  # column 3, row 1 of 2, nothing for END
    assert theirs == [[2.0, 1.5], [1.5, 2.0], [1.5, 3.0]]  # row 2 of 4, column 2, END = the last column


def test_where_end_may_be_written() -> None:
    plain = preset("partial-res-darknet53")
    for config, expected in (
        (plain.replace(sequence="contour"), (6, 0)),
        (plain.replace(sequence="multitask", task_token="task-wise"), (11, 9)),
    ):
        layout = sequence_layout(config)
        first = tuple(int(np.flatnonzero(s.end_allowed(layout))[0]) for s in (CORRECTED, RELEASE))
        assert first == expected, config.sequence


def test_weight_of_the_first_box_token() -> None:
    layout = sequence_layout(preset("seqtr-darknet53"))
    box, none = np.array([[1.0, 2.0, 3.0, 4.0]]), np.full((1, 18, 2), np.nan)
    size = np.array([[64, 64]])
    for value in (1.0, 1.5):
        weights = SlotWeights(first_box=value)
        slots = sequence_targets(layout, box, none, np.ones(1), size, weights)[1][0]
        assert slots.tolist()[:4] == [value, 1, 1, 1]


@pytest.mark.parametrize(
    ("semantics", "expected"), [("corrected", [20, 30, 60, 70]), ("release", [60, 70, 20, 30])]
)
def test_corners_in_any_order(semantics: Literal["corrected", "release"], expected: list[float]) -> None:
    config = preset("refshapes-small").replace(
        n_bins=1000, semantics=semantics, image=ImageConfig(size=1000, multiple=8)
    )
    loaded = LoadedModel(
        build_model(config.replace(n_bins=100, d_model=32), 4),
        config,
        WordCodec(["a"], 4),
        torch.device("cpu"),
    )
    tokens = np.array([60, 70, 20, 30, 1000])
    _, box = answer_of(loaded, tokens, plain_frame(1000, 1000, 1000))
    assert box is not None
    np.testing.assert_allclose(box, expected, atol=0.6)


def test_boxes_do_not_grow(tmp_path: Path) -> None:
    """The release's loader on one list, three times; and a dataset, which hands out the same box each time."""
    from stages.data.dataset import ReferringDataset
    from tests.oracles.small_artifacts import write_dataset

    box, seen = [10, 10, 30, 30], []
    for _ in range(3):
        box[2], box[3] = box[0] + box[2], box[1] + box[3]
        seen.append(list(box))
    assert seen == [[10, 10, 40, 40], [10, 10, 50, 50], [10, 10, 60, 60]]
    data = ReferringDataset.open(write_dataset(tmp_path / "d.h5", ["train"]))
    assert {tuple(data.boxes_xyxy[0].tolist()) for _ in range(3)} == {(5.0, 10.0, 25.0, 40.0)}


def test_names_of_refer_splits() -> None:
    """REFER takes a part of the name, so "testA" means the referents of "testAB", too; both can be asked for by name."""
    from types import SimpleNamespace

    from stages.evaluate import Config, choose_splits

    splits = ["train", "testA", "testAB", "testA", "testAB", "testB"]
    data: Any = SimpleNamespace(
        split_names=("train", "testA", "testAB", "testB"),
        referents_in=lambda name: [i for i, s in enumerate(splits) if s == name],
    )

    def chosen(*wanted: str) -> list[int]:
        names = choose_splits(Config(splits=wanted), data, "rec", may_see_train=False)
        return sorted(i for name in names for i in data.referents_in(name))

    theirs = [i for i, name in enumerate(splits) if "testA" in name]
    assert (chosen("testA"), theirs) == ([1, 3], [1, 2, 3, 4])
    assert chosen("testA", "testAB") == theirs


def test_overlapping_parts_of_a_mask() -> None:
    """Two boxes of 100 pixels that share 25: REFER adds their bitmaps up, and its area counts the shared ones twice."""
    parts = [[0, 0, 10, 0, 10, 10, 0, 10], [5, 5, 15, 5, 15, 15, 5, 15]]
    bitmaps = [rle_to_mask(rle_from_segmentation([part], (20, 20))) for part in parts]
    ours = rle_to_mask(rle_from_segmentation(parts, (20, 20)))
    theirs = np.sum(bitmaps, axis=0)
    assert (int(ours.sum()), int(theirs.sum()), int(theirs.max())) == (175, 200, 2)


def test_a_labelled_object_whose_entry_differs() -> None:
    """The same object, its box written with one digit fewer: not in the release's list, found again here."""
    entry = {"image_id": 7, "bbox": [10.04, 20.0, 30.0, 40.0], "expressions": ["left man"]}
    listed = [{**entry, "bbox": [10.0, 20.0, 30.0, 40.0]}]
    theirs = [0] if entry in listed else []
    ours = match_sample(
        listed,
        where="train",
        rows=np.array([0]),
        image_ids=[7],
        boxes_xyxy=[[10.04, 20, 40.04, 60]],
        texts=[["left man"]],
    )
    assert (ours.tolist(), theirs) == ([0], [])


def test_an_empty_prediction() -> None:
    """The second object's prediction is empty: the release keeps the first one's score, and with it the true mask."""
    size, box = (40, 40), [5.0, 5, 25, 25]
    hidden = [box_to_rle([6, 6, 24, 24], size), box_to_rle([7, 9, 20, 22], size)]
    drawn: list[Any] = [box_to_rle(box, size), None]
    labels, score = [], np.inf
    for true, prediction in zip(hidden, drawn, strict=True):
        label = true
        with contextlib.suppress(Exception):  # the release's "except: pass"
            score = projection_scores([prediction], [box])[0]
            label = prediction
        if score < 0.1:
            labels.append(label)
    assert labels == [drawn[0], hidden[1]], "the true mask of the second object"
    square = np.array([[5.0, 5], [25, 5], [25, 25], [5, 25]], np.float32)
    ours = polygon_scores(square, np.array([0, 4, 4]), np.array([box, box]), np.array([size, size]))
    assert (ours < 0.1).tolist() == [True, False]


def test_average_after_a_resume() -> None:
    """A weight that jumps from 0 to 1 after 1000 steps: with the count kept it moves by a thousandth."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = MovingAverage(model, 0.999)
    for _ in range(10_000):
        average.updates += 1
    torch.nn.init.ones_(model.weight)
    kept, lost = MovingAverage(model, 0.999), MovingAverage(model, 0.999)
    kept.load(average.state())
    lost.load({**average.state(), "updates": 0})
    kept.update()
    lost.update()
    assert kept.values["weight"].item() == pytest.approx(0.001)
    assert lost.values["weight"].item() == pytest.approx(0.9)


def test_frame_of_a_pseudo_mask() -> None:
    """A 480 x 320 picture is shown at 640 px: its outline, read without the way back, is a third too large."""
    frame = plain_frame(320, 480, 640)
    ring = np.array([[60.0, 60], [240, 60], [240, 240], [60, 240]])
    drawn = frame.to_model(ring)
    true = polygon_to_rle(ring, (320, 480))
    right, wrong = (polygon_to_rle(points, (320, 480)) for points in (frame.to_original(drawn), drawn))
    assert overlaps([right, wrong], [true, true]).iou.tolist() == pytest.approx([1.0, 25_600 / 64_400])


def test_projection_scores() -> None:
    """A rectangle that is its box scores 0; cv2's polygon of it is a pixel too small. Two contours: no verdict."""
    size = (100, 100)
    rectangle = box_to_rle([20, 20, 80, 80], size)
    score, polygons = projection_score_release(rectangle, [20, 20, 60, 60])
    assert projection_scores([rectangle], [[20, 20, 80, 80]])[0] == pytest.approx(0, abs=1e-6)
    assert (score, polygons) == (pytest.approx(0.0168, abs=1e-4), 1)
    speck = union_rle([rectangle, box_to_rle([2, 2, 6, 6], size)], size)
    assert projection_score_release(speck, [20, 20, 60, 60])[1] == 2
    assert projection_scores([speck], [[20, 20, 80, 80]])[0] < 0.1


def test_batches_of_different_size() -> None:
    correct = [1, 1, 0, 0, 1]
    assert (np.mean(correct), batch_averaged(correct, [4, 1])) == (0.6, 0.75)


def test_padding_is_cropped_before_a_mask_is_resized() -> None:
    """427 x 640 is padded to 448 x 640; resizing that straight to 427 squeezes the padding into the picture."""
    true = rle_to_mask(box_to_rle([100, 200, 300, 420], (427, 640)))
    padded = np.zeros((448, 640), bool)
    padded[:427] = true
    found = [resize_mask_nearest(m, (427, 640)) for m in (padded[:427], padded)]
    iou = [(m & true).sum() / (m | true).sum() for m in found]
    assert iou == pytest.approx([1.0, 201 / 229])


def test_precision_by_giou() -> None:
    a, b = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[1.7, 1.7, 11.7, 11.7]])
    shared = 8.3**2
    iou = shared / (200 - shared)
    assert iou == pytest.approx(0.525, abs=0.001)  # counts
    assert giou(a, b).item() == pytest.approx(0.483, abs=0.001)  # does not


def test_padding_in_a_mask_loss() -> None:
    logits, truth = torch.tensor([[2.0, 2.0, -9.0, -9.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    valid = torch.tensor([[True, True, False, False]])
    ours, theirs = pixel_cross_entropy(logits, truth, valid), pixel_cross_entropy(logits, truth)
    assert (ours.item(), theirs.item()) == pytest.approx((0.1269, 0.0635), abs=1e-4)


def test_grid_of_the_second_decoder() -> None:
    """Places of the four columns as shares of the side, read back from the code's first wave."""
    spread = []
    for semantics in (CORRECTED, RELEASE):
        code = semantics.grid_code(16)[:4, 8:]
        places = torch.atan2(code[:, 0], code[:, 1]).div(2 * torch.pi) % 1
        spread.append(float(places.max() - places.min()))
    assert spread == pytest.approx([0.6, 0.1415], abs=1e-3)
