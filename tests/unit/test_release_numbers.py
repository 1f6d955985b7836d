"""docs/SEMANTICS.md, the smaller rows: the release's number and ours, side by side."""

from __future__ import annotations

from itertools import chain, cycle, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_checks.released import quantise_vertices_release, sample_by_angle

from stages.data.dataset import ReferringDataset
from stages.data.jitter import random_frame
from stages.data.readers.refer import find_refer_files, read_refer
from stages.data.release_pipeline import choose_window, jitter_boxes, jitter_pixels
from stages.data.text import UNKNOWN, WordCodec
from stages.data.transforms import Augmentation
from stages.geometry.contours import largest_outer_contour
from stages.geometry.rasterise import box_to_rle, rle_to_mask
from stages.geometry.resampling import contour_targets_release, resample_uniform, sample_release
from stages.metrics.segmentation import Overlaps, summarise_masks
from stages.models.config import TextConfig
from stages.models.language import GruEncoder
from stages.models.presets import preset
from stages.models.vocabulary import sequence_layout
from stages.pseudo_label import Config, unlabelled_sentences
from stages.training.optimiser import MovingAverage, build_optimiser, step_factor
from stages.training.settings import TrainingSettings
from stages.training.targets import SlotWeights, sequence_targets
from tests.oracles.refer_folder import ReferFolder
from tests.oracles.small_artifacts import write_dataset


def test_a_missing_vertex() -> None:
    """On a picture padded to 1088 px the release's -1 becomes token 0, a point at the border; here it stays END."""
    layout = sequence_layout(preset("partial-res-darknet53").replace(sequence="contour"))
    theirs = quantise_vertices_release([[-1, -1]], (1088, 1088), 1000)
    ours, _ = sequence_targets(
        layout, np.zeros((1, 4)), np.full((1, layout.length // 2, 2), np.nan), np.ones(1),
        np.array([[1088, 1088]]), SlotWeights(),
    )  # fmt: skip
    assert (theirs.ravel().tolist(), set(ours.ravel().tolist())) == ([0, 0], {1000})


def test_weight_of_end() -> None:
    """END after a box: 1 in the release, which lowers it for outlines alone, and 0.1 here."""
    layout = sequence_layout(preset("seqtr-darknet53"))
    box, none, size = np.array([[1.0, 2.0, 3.0, 4.0]]), np.full((1, 18, 2), np.nan), np.array([[64, 64]])
    found = [
        sequence_targets(layout, box, none, np.ones(1), size, SlotWeights(end=e))[1][0, -1]
        for e in (TrainingSettings().end_weight, 1.0)
    ]
    assert found == pytest.approx([0.1, 1.0])


def test_slots_of_a_multitask_sequence() -> None:
    """Multi-task in the release: the outline's own sequence, whose first four tokens are then reported as the box."""
    config = preset("partial-res-darknet53")
    ours = sequence_layout(config.replace(sequence="multitask", task_token="task-wise"))
    theirs = sequence_layout(config.replace(sequence="contour"))
    assert (ours.box, ours.contour[:4]) == ((0, 1, 2, 3), (5, 6, 7, 8))
    assert (theirs.box, theirs.contour[:4]) == ((), (0, 1, 2, 3))


def test_words_of_other_splits() -> None:
    """A word that only val holds has a row of its own in the release's list, and is UNK here."""
    train, val = ["left man"], ["left zebra"]
    ours, theirs = (WordCodec.from_sentences(s, 4) for s in (train, [*train, *val]))
    assert (ours.size, theirs.size) == (5, 6)
    assert (ours.encode(val)[0][0, 1], theirs.encode(val)[0][0, 1]) == (UNKNOWN, 5)


def test_vector_of_the_padding() -> None:
    """PAD is zero here; the release's is the vector of the string "PAD", and its GRU reads it."""
    tokens = torch.tensor([[3, 4, 0, 0]])
    for packed in (True, False):
        torch.manual_seed(0)
        encoder = GruEncoder(TextConfig(word_dim=6, hidden=8, packed=packed), 10)
        assert not encoder.embedding.weight[0].any()
        zero = encoder(tokens, tokens > 0).sentence
        encoder.embedding.weight.data[0] = 1.0
        assert torch.allclose(encoder(tokens, tokens > 0).sentence, zero) == packed


def test_an_empty_sentence() -> None:
    """No word at all: the release's maximum over nothing raises; here the sentence is one unknown word."""
    ids, mask = WordCodec.from_sentences(["man"], 3).encode([" ?! "])
    assert (ids.tolist(), mask.tolist()) == ([[UNKNOWN, 0, 0]], [[True, False, False]])


def test_thin_and_empty_masks() -> None:
    """A line has no area for cv2: no point in the release, N here. An empty mask raises there."""
    line = np.array([[5, 5], [25, 5], [25, 6], [5, 6]], np.float32)
    theirs, ours = contour_targets_release(line, (40, 40), 12), resample_uniform(line, 12)
    assert (int((~np.isnan(theirs[:, 0])).sum()), len(ours)) == (0, 12)
    with pytest.raises(ValueError, match="cannot sample an empty mask"):
        sample_release(np.zeros((4, 4), bool), 12)
    assert np.isnan(contour_targets_release(line - 100, (40, 40), 12)).all()


def test_points_by_angle() -> None:
    """A flat rectangle seen from its centre: some angles meet no pixel near, and stay empty."""
    mask = rle_to_mask(box_to_rle([10, 20, 50, 24], (60, 60)))
    theirs = sample_by_angle(mask, 36)
    ring = np.array([[10, 20], [50, 20], [50, 24], [10, 24]], np.float32)
    assert int((theirs[:, 0] >= 0).sum()) < 36 == len(resample_uniform(ring, 36))


def test_a_jitter_that_gives_up() -> None:
    """No window shows 0.3 of the box: the release hands on the picture unscaled and says it were scaled."""
    draws = chain([1.0 - 1e-9], cycle([0.999, 0.0]))  # always the upper right corner
    box = np.array([0.0, 0.0, 60.0, 40.0])
    window = choose_window(lambda: next(draws), (480, 640), 640, box, jitter=(0.3, 1.6))
    assert window.untouched
    assert (jitter_boxes(box, (480, 640), window) == box).all()
    assert jitter_pixels(np.zeros((480, 640), np.uint8), window).shape == (480, 640) != window.scaled_hw
    rng, jitter = (
        np.random.default_rng(0),
        Augmentation(jitter_min=1.0, jitter_max=1.6, jitter_rule="release"),
    )
    for _ in range(20):
        frame = random_frame(rng, (480, 640), 640, jitter, box)
        assert max(frame.size_hw) <= 640  # the size that is told is the size that is shown


def test_a_window_beside_the_box() -> None:
    """Both overlaps negative: their product passes for a share of the box, and the first window is taken."""
    draws = chain([1.0 - 1e-9, 0.999, 0.999], repeat(0.0))
    box = np.array([0.0, 0.0, 60.0, 40.0])
    small = choose_window(lambda: next(draws), (480, 640), 640, box, jitter=(0.3, 3.0))
    corner = np.array(small.corner_xy)
    assert small.cut
    assert (corner > np.array([60.0, 40.0]) * small.scaled_hw[1] / 640).all(), "nothing of the box is shown"
    rng = np.random.default_rng(0)
    frames = [random_frame(rng, (480, 640), 640, Augmentation(jitter_max=3.0), box) for _ in range(20)]
    assert min(float(f.shows(box[None])[0]) for f in frames) > 0.99


def test_a_window_between_two_pixels() -> None:
    """The picture is cut at the whole part of the corner, the box moves by all of it: up to a pixel apart."""
    draws = chain([1.0 - 1e-9], repeat(0.4995))
    box = np.array([200.0, 150.0, 400.0, 300.0])
    window = choose_window(lambda: next(draws), (480, 640), 640, box, jitter=(0.3, 1.6))
    left = int(window.corner_xy[0])
    moved = jitter_boxes(box, (480, 640), window)[0]
    assert 200 * 1.6 - left - moved == pytest.approx(window.corner_xy[0] - left, abs=1e-3)
    assert 0.01 < window.corner_xy[0] - left < 1
    frame = random_frame(np.random.default_rng(0), (480, 640), 640, Augmentation(jitter_max=1.6), box)
    assert all(float(v).is_integer() for v in frame.window_xyxy)


def test_average_before_the_weights_are_loaded() -> None:
    """The release's average starts at random weights (here 0), not at those that it continues from (1)."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    theirs = MovingAverage(model, 0.999)
    torch.nn.init.ones_(model.weight)
    ours = MovingAverage(model, 0.999)
    seen = []
    for _ in range(30):
        theirs.update()
        ours.update()
        seen.append(theirs.values["weight"].item())
        assert ours.values["weight"].item() == 1
    assert (seen[0], seen[-1]) == pytest.approx((0.9, 1.0))


def test_rate_after_a_resume() -> None:
    """Resumed in the epoch where the rate falls: the release runs it once more at the rate before."""
    ours, theirs = (step_factor(e, warmup=5, decay_epochs=(50,)) for e in (49, 48))
    assert (ours, theirs) == pytest.approx((0.1, 1.0))


def test_a_layer_without_weights() -> None:
    """A variance of 0 in a layer that the file does not cover multiplies what passes by 316."""
    x, layers = torch.ones(1, 1, 1, 1), [torch.nn.BatchNorm2d(1).eval() for _ in range(2)]
    assert layers[1].running_var is not None
    layers[1].running_var.zero_()
    assert [layer(x).item() for layer in layers] == pytest.approx([1.0, 316.2], rel=1e-3)


def test_rate_of_the_trunk() -> None:
    """The unfrozen part of a frozen trunk: the full rate in the release, a share of it here."""
    model = torch.nn.ModuleDict({"vision": torch.nn.Linear(2, 2), "decoder": torch.nn.Linear(2, 2)})
    rates = []
    for factor in (TrainingSettings().backbone_lr_factor, 1.0):
        optimiser = build_optimiser(
            model, kind="adam", lr=1e-3, weight_decay=0, backbone_factor=factor, text_factor=1.0
        )
        rates.append({g["name"]: g["lr"] for g in optimiser.param_groups}["vision"])
    assert rates == pytest.approx([3e-4, 1e-3])


def test_two_referents_of_one_annotation(tmp_path: Path) -> None:
    """REFER's table from annotation to referent keeps the last one; looked up by row, both are there."""
    folder = ReferFolder(tmp_path / "data")
    theirs = {r["ann_id"]: r["ref_id"] for r in folder.refs}
    tables = read_refer(find_refer_files(folder.write(), "toy", None))
    assert (len(tables.ref_ids), len(theirs)) == (7, 6)


def test_annotations_of_chosen_referents(tmp_path: Path) -> None:
    """REFER computes the annotations of the wanted referents and returns all; here a row names its own."""
    data = ReferringDataset.open(write_dataset(tmp_path / "d.h5", ["train", "train", "val"]))
    theirs = list(range(len(data.referent_split)))
    assert (data.referents_in("val").tolist(), theirs) == ([2], [0, 1, 2])


def test_order_of_the_predictions() -> None:
    """Two processes take turns at the objects and their answers are put one after the other: row i is not object i."""
    objects = np.arange(6)
    gathered = np.concatenate([objects[0::2], objects[1::2]])
    theirs = int((gathered == objects).sum())  # taken by place
    ours = int((gathered[np.argsort(gathered)] == objects).sum())  # taken by the number stored with the row
    assert (ours, theirs) == (6, 2)


def test_one_sentence_of_each_referent(tmp_path: Path) -> None:
    """The first one, or as the release one that is drawn; always one of the referent's own."""
    data = ReferringDataset.open(write_dataset(tmp_path / "d.h5", ["train"] * 20 + ["val"], sentences=3))
    visible = np.arange(21) < 2

    def chosen(**given: object) -> np.ndarray:
        return unlabelled_sentences(data, visible, Config(**given))  # type: ignore[arg-type]

    first = chosen(expressions_per_referent=1)
    drawn = [chosen(expressions_per_referent=1, expression_choice="random", seed=s) for s in (0, 0, 1)]
    assert first.tolist() == list(range(6, 60, 3))
    for sentences in drawn:
        assert data.sentence_referent[sentences].tolist() == list(range(2, 20))
    assert set((drawn[0] % 3).tolist()) == {0, 1, 2}
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    two = chosen(expressions_per_referent=2, expression_choice="random")
    assert np.bincount(data.sentence_referent[two])[2:].tolist() == [2] * 18
    assert (chosen(expression_choice="random") == chosen()).all(), "all are all"


def test_scores_averaged_over_processes() -> None:
    """Two processes with the IoUs (1, 0) and (0, 0.4): their mean sample by sample is no sample's."""
    ranks, none = np.array([[1.0, 0.0], [0.0, 0.4]]), np.zeros(0, np.int64)
    ours, theirs = (summarise_masks(Overlaps(none, none, iou)) for iou in (ranks.ravel(), ranks.mean(0)))
    assert (ours["pr@0.5"], theirs["pr@0.5"]) == (0.25, 0.5)
    assert ours["miou"] == theirs["miou"]


def test_first_point() -> None:
    """Both begin at the topmost, then leftmost pixel; ours at its upper edge."""
    mask = np.zeros((40, 40), bool)
    mask[10:30, 12:20] = mask[7:10, 15:18] = True
    theirs, ours = sample_release(mask, 12)[0], largest_outer_contour(mask)[0]
    assert theirs.tolist() == np.floor(ours).tolist() == [15, 7]
