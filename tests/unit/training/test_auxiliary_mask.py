"""The head that marks where the referent is: its targets, its loss, and who has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import train_rec, train_res
from stages.artifacts import open_artifact
from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.errors import UsageError
from stages.models.auxiliary_mask import auxiliary_mask_loss, box_share
from stages.models.build import build_model
from stages.models.config import ModelConfig
from stages.models.presets import preset, released
from stages.training.loader import ContourTable, StepDataset, filled
from stages.training.objectives import SequenceObjective
from stages.training.settings import TrainingSettings
from stages.training.targets import SlotWeights
from stages.weights.model_file import architecture, load_model
from tests.unit.training.conftest import FAST


def test_coverage_sums_to_the_area_of_the_box() -> None:
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [3.5, 8.0, 40.0, 30.25], [10.0, 10.0, 10.0, 20.0]])
    share = box_share(boxes, (3, 4), 16)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    torch.testing.assert_close(share.sum((1, 2)) * 256, area)
    assert share.min() >= 0 and share.max() <= 1
    assert share[0].nonzero().tolist() == [[0, 0]]


def test_the_loss_leaves_padding_and_unknown_outlines_out() -> None:
    g = torch.Generator().manual_seed(0)
    logits, share = torch.randn(3, 4, 4, generator=g), torch.rand(3, 4, 4, generator=g)
    valid = torch.ones(3, 4, 4, dtype=torch.bool)
    valid[:, :, 3] = False
    weight = torch.tensor([1.0, 0.0, 2.0])
    loss = auxiliary_mask_loss(logits, valid, share, weight).mean()
    logits[1], logits[:, :, 3] = 99.0, -99.0
    assert auxiliary_mask_loss(logits, valid, share, weight).mean() == loss
    one = torch.nn.functional.binary_cross_entropy_with_logits(logits[0, :, :3], share[0, :, :3])
    torch.testing.assert_close(auxiliary_mask_loss(logits[:1], valid[:1], share[:1], weight[:1]).mean(), one)
    assert auxiliary_mask_loss(logits, valid, share, torch.zeros(3)).mean() == 0


def test_who_marks_what() -> None:
    """Released models and plain fine-tuning have no such head; the small preset marks the cells of a box."""
    small = preset("refshapes-small")
    assert small.auxiliary_mask == 1 and released(small).auxiliary_mask == 0
    assert preset("seqtr-darknet53").auxiliary_mask == preset("partial-res-darknet53").auxiliary_mask == 0
    plain = train_res.res_architecture(small, train_res.Config(sequence="contour"))
    assert plain.auxiliary_mask == 0
    assert train_res.res_architecture(small, train_res.Config()).auxiliary_mask == 1
    assert train_res.res_architecture(small, train_res.Config(zoom=112)).auxiliary_mask == 4
    frozen = train_res.res_architecture(small, train_res.Config(frozen="all"))
    assert (small.vision.frozen, frozen.vision.frozen) == ("none", "all")
    assert train_rec.model_config(train_rec.Config(auxiliary_mask=0)).auxiliary_mask == 0
    with pytest.raises(UsageError, match="auxiliary-mask must divide the stride 16, got 3"):
        build_model(small.replace(auxiliary_mask=3), 9)


def test_model_files_keep_the_former_name_of_the_head() -> None:
    stored = preset("refshapes-small").replace(auxiliary_mask=4).to_dict()
    assert stored["grounding"] == 4 and "auxiliary_mask" not in stored
    assert ModelConfig.from_dict(stored).auxiliary_mask == 4


def objective_and_batch(
    data: ReferringDataset, shuffle_points: float = 0.0, **changes: Any
) -> tuple[SequenceObjective, Any]:
    """A model of the second look and a step that shows three outlines and one box."""
    config = train_res.res_architecture(preset("refshapes-small"), train_res.Config(zoom=64, **changes))
    x0, y0, x1, y1 = data.boxes_xyxy[:3].T
    diamonds = np.stack(
        [
            np.stack(p, -1)
            for p in ((x0, (y0 + y1) / 2), ((x0 + x1) / 2, y0), (x1, (y0 + y1) / 2), ((x0 + x1) / 2, y1))
        ],
        1,
    ).astype(np.float32)
    contours = ContourTable.of_contours(len(data.boxes_xyxy), dict(enumerate(diamonds)), {2: 0.5})
    codec = WordCodec.from_sentences(list(data.texts), 20)
    steps = StepDataset(
        data, codec, config, contours, TrainingSettings(shuffle_points=shuffle_points), SlotWeights(), 0
    )
    first = [int(np.flatnonzero(data.sentence_referent == r)[0]) for r in range(4)]
    entry = (0, 0, [(int(data.referent_image[r]), np.array([first[r]])) for r in range(4)])
    torch.manual_seed(0)
    return SequenceObjective(build_model(config, codec.size), TrainingSettings()), steps[entry]


def test_the_inside_of_an_outline_is_what_its_points_enclose(tiny_dataset: Path) -> None:
    data = ReferringDataset.open(tiny_dataset, masks="none")
    objective, batch = objective_and_batch(data)
    assert batch.masks.shape == (4, 64, 64) and batch.mask_weight.tolist() == [1, 1, 0.5, 0]
    assert not batch.masks[3].any() and batch.masks[0].any()
    contour = list(objective.model.layout.contour)
    points = (batch.targets[0, contour].view(-1, 2).double() + 0.5) / 100 * 64
    x, y = points.T
    area = (x * y.roll(-1) - x.roll(-1) * y).sum().abs() / 2
    assert batch.masks[0].sum() == pytest.approx(float(area), rel=0.05)
    without, bare = objective_and_batch(data, auxiliary_mask=0)
    assert bare.masks.shape == (4, 0, 0) and without.model.grounding_head is None


def test_the_loss_teaches_the_encoder_where_to_look(tiny_dataset: Path) -> None:
    """Its gradient reaches image and sentence, and a few steps on it alone find the outline's inside."""
    objective, batch = objective_and_batch(ReferringDataset.open(tiny_dataset, masks="none"))
    model = objective.model.train()
    images = batch.images.float() / 255
    rate = torch.optim.Adam(model.parameters(), 2e-3)
    seen = []
    for _ in range(12):
        loss = objective.terms(objective.predict(images, batch), batch)["auxiliary mask"].mean()
        rate.zero_grad()
        loss.backward()
        seen.append(loss.item())
        rate.step()
    assert seen[-1] < 0.7 * seen[0]
    assert model.text_projection is not None and model.input_proj.weight.grad.abs().sum() > 0
    assert model.text.embedding.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.predictor.parameters())


def test_shuffled_points_enclose_the_same(tiny_dataset: Path) -> None:
    data = ReferringDataset.open(tiny_dataset, masks="none")
    _, batch = objective_and_batch(data)
    _, shuffled = objective_and_batch(data, shuffle_points=1.0)
    assert not torch.equal(shuffled.targets, batch.targets)
    assert torch.equal(shuffled.masks, batch.masks)


def test_a_missing_polygon_is_an_empty_mask() -> None:
    square = np.array([[2.0, 2.0], [6.0, 2.0], [6.0, 5.0], [2.0, 5.0], [np.nan, np.nan]])
    masks = filled([square, np.full((5, 2), np.nan)], (8, 8))
    assert masks[0].sum() == 12 and not masks[1].any()


def test_each_stage_trains_a_head_of_its_own(tiny_dataset: Path, tiny_split: Path, tmp_path: Path) -> None:
    """The outline's grid starts anew from a box model; the loss without the head's share is another one."""
    rec, res = tmp_path / "rec.h5", tmp_path / "res.h5"
    train_rec.run(train_rec.Config(**{**FAST, "epochs": 1}), dataset=tiny_dataset, out=rec)
    train_res.run(
        train_res.Config(**{**FAST, "epochs": 1, "zoom": 64}), dataset=tiny_dataset, split=tiny_split, rec=rec, out=res
    )  # fmt: skip
    with open_artifact(rec) as a, open_artifact(res) as b:
        assert architecture(a).auxiliary_mask == 1 and architecture(b).auxiliary_mask == 4
        assert b["weights/grounding_head.weight"].shape == (16, 128)
        weighed = a.json("history")[0]["loss"]
    assert load_model(res).locator is not None
    plain = train_rec.run(
        train_rec.Config(**{**FAST, "epochs": 1, "auxiliary_mask_weight": 0.0}), dataset=tiny_dataset, out=tmp_path / "p.h5"
    )  # fmt: skip
    assert plain.summary["final"]["loss"] < weighed - 0.5
