"""Where the public release differs: each difference is an option, and both numbers are shown here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from stages.data.jitter import random_frame
from stages.data.release_pipeline import choose_window, fit_size, jitter_boxes
from stages.data.transforms import Augmentation
from stages.geometry.rasterise import polygon_to_rle, rle_to_mask
from stages.geometry.resampling import contour_targets_release
from stages.models.config import TextConfig
from stages.models.language import GruEncoder
from stages.models.presets import PRESETS, preset, released
from stages.models.semantics import CORRECTED, RELEASE
from stages.train_rec import Config, model_config
from stages.training.optimiser import MovingAverage, linear_factor, schedule_factor, step_factor
from stages.training.targets import SlotWeights, sequence_targets

RELEASE_JITTER = Augmentation(jitter_min=0.3, jitter_max=1.4, jitter_rule="release", colour=0.0)
KEEP_JITTER = Augmentation(jitter_min=0.3, jitter_max=1.4, colour=0.0)


def test_one_option_turns_every_model_difference_on() -> None:
    plain = model_config(Config(model="seqtr-darknet53"))
    changed = model_config(Config(model="seqtr-darknet53", semantics="release", frozen_statistics=False))
    assert (plain.semantics, plain.text.packed, plain.vision.frozen_batch_norm) == ("corrected", True, True)
    assert (changed.semantics, changed.text.packed, changed.vision.frozen_batch_norm) == (
        "release",
        False,
        False,
    )
    assert released(preset("partial-res-darknet53")).to_dict() == {
        **preset("partial-res-darknet53").to_dict(), "semantics": "release",
        "text": {**preset("partial-res-darknet53").to_dict()["text"], "packed": False},
    }  # fmt: skip
    assert all(c.semantics == "corrected" for c in PRESETS.values())


def test_words_over_padding() -> None:
    """ODDITIES A11: the release's sentence vector depends on how many words fit, ours does not."""
    short, long = (torch.tensor([[3, 4, *[0] * n]]) for n in (1, 9))
    for packed in (True, False):
        torch.manual_seed(0)
        encoder = GruEncoder(TextConfig(word_dim=6, hidden=8, packed=packed), 10)
        a, b = (encoder(t, t > 0).sentence for t in (short, long))
        assert torch.allclose(a, b, atol=1e-6) == packed


def test_loss_normalisation() -> None:
    """ODDITIES A13, A14: END slots of weight 0.1 shrink the release's loss; here the weights' sum divides."""
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 4, 11), torch.randint(0, 11, (2, 4))
    weights = torch.tensor([1.0, 1.0, 0.1, 0.1]).expand(2, 4)
    ours, theirs = (s.token_sums(logits, targets, weights).mean().item() for s in (CORRECTED, RELEASE))
    assert theirs / ours == pytest.approx(2.2 / 4, rel=0.02)


def test_coordinates_at_the_border() -> None:
    """ODDITIES A7, A10: a coordinate equal to the side is END in the release and the last bin here."""
    from stages.models.vocabulary import sequence_layout

    layout = sequence_layout(preset("seqtr-darknet53"))
    box, none = np.array([[0.0, 0.0, 640.0, 320.0]]), np.full((1, 18, 2), np.nan)
    found = [
        sequence_targets(layout, box, none, np.ones(1), np.array([[320, 640]]), SlotWeights(), s.quantise)[0][
            0
        ].tolist()
        for s in (CORRECTED, RELEASE)
    ]
    assert found == [[0, 0, 999, 999, 1000], [0, 0, 1000, 1000, 1000]]


def test_point_sampling() -> None:
    """ODDITIES E7: every ceil(M / N)-th pixel leaves points over, which become END; here there are always N."""
    ring = np.array([[10, 10], [17, 10], [17, 17], [10, 17]], np.float32)
    points = contour_targets_release(ring, (40, 40), 12)
    pixels = rle_to_mask(polygon_to_rle(ring, (40, 40)))
    assert pixels.sum() == 49
    known = ~np.isnan(points[:, 0])
    assert known.sum() == 24 // 2  # 24 border pixels
    assert contour_targets_release(ring, (40, 40), 18)[:, 0].tolist().count(10.0) > 0
    assert int((~np.isnan(contour_targets_release(ring, (40, 40), 18)[:, 0])).sum()) == 12
    assert np.isnan(contour_targets_release(ring - 100, (40, 40), 12)).all()


@pytest.mark.parametrize("augmentation", [RELEASE_JITTER, KEEP_JITTER], ids=["release", "keep"])
def test_both_jitters_make_usable_frames(augmentation: Augmentation) -> None:
    rng = np.random.default_rng(0)
    box = np.array([300.0, 200.0, 420.0, 330.0])
    shown, cut = [], 0
    for _ in range(200):
        frame = random_frame(rng, (480, 640), 640, augmentation, box)
        x0, y0, x1, y1 = frame.window_xyxy
        assert 0 <= x0 < x1 <= 640
        assert 0 <= y0 < y1 <= 480
        assert max(frame.size_hw) <= 640
        shown.append(float(frame.shows(box[None])[0]))
        cut += (x1 - x0) < 640
    assert cut > 40
    assert min(shown) > (0.99 if augmentation.jitter_rule == "keep" else 0.49)


def test_the_window_that_is_shown_and_the_one_that_moves_the_box() -> None:
    """ODDITIES E2: when no window shows enough, the best one is cut but the last one tried moves the box."""
    # the first window shows 0.48 of the box, the 499 others 0.34
    values = iter([1.0 - 1e-9, 0.0, 0.5, *[0.999, 0.5] * 499])
    box = np.array([0.0, 0.0, 520.0, 480.0])
    window = choose_window(lambda: next(values), (480, 640), 640, box, jitter=(0.3, 1.6))
    assert window.cut
    assert window.corner_xy[0] == 0.0
    assert window.shift_xy[0] == pytest.approx(0.999 * 384)
    assert jitter_boxes(box, (480, 640), window)[2] == pytest.approx(
        832 - 0.999 * 384
    )  # 640 - 1 would be right
    assert fit_size((480, 640), 640) == window.size_hw


def test_buffers_of_the_average() -> None:
    """ODDITIES F7: the release averages statistics and cuts counts, here they are copied."""
    model = nn.BatchNorm1d(2)
    kept, averaged = MovingAverage(model, 0.5), MovingAverage(model, 0.5, average_buffers=True)
    with torch.no_grad():
        model.running_mean.fill_(1.0)
        model.num_batches_tracked.fill_(7)
    kept.update()
    averaged.update()
    assert kept.values["running_mean"].tolist() == [1.0, 1.0]
    assert averaged.values["running_mean"].tolist() == pytest.approx([0.9, 0.9])
    assert (int(kept.values["num_batches_tracked"]), int(averaged.values["num_batches_tracked"])) == (7, 6)


def test_schedules() -> None:
    common = {"warmup": 5.0, "epochs": 60.0, "decay_epoch": 50}
    steps = [schedule_factor(e + 0.5, kind="step", **common) for e in range(60)]
    assert steps[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert (steps[48], steps[49]) == pytest.approx((1.0, 0.1))  # the 50th epoch, counted from 1
    assert step_factor(80, warmup=0, decay_epochs=(50, 75), ratio=0.5) == 0.25
    line = [schedule_factor(float(e), kind="linear", **common) for e in range(60)]
    assert line[5] == 1.0
    assert line[59] == pytest.approx(linear_factor(59, warmup=5, epochs=60)) == pytest.approx(1 / 55)
