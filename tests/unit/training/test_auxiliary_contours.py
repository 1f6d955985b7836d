"""--contour auxiliary: contours traced around the auxiliary mask, in every stage that predicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from stages import evaluate, predict, pseudo_label
from stages.artifacts import open_artifact
from stages.data.dataset import ReferringDataset
from stages.data.transforms import zoom_frame
from stages.errors import UsageError
from stages.inference.auxiliary_contours import auxiliary_contours
from stages.models.auxiliary_mask import AuxiliaryMaskHead
from stages.weights.model_file import load_model
from tests.oracles.random_models import write_random_model

PARTS = 16  # a side: 4 cells of 16 pixels, 4 x 4 parts each


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_random_model(tmp_path / "model.h5", "second look with marks")


@pytest.fixture
def disc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every head marks a disc of 5 parts' radius in the middle of its window, and a single part far from it."""
    y, x = torch.meshgrid(torch.arange(PARTS) + 0.5, torch.arange(PARTS) + 0.5, indexing="ij")
    logits = 5 - torch.hypot(x - PARTS / 2, y - PARTS / 2)
    logits[0, 0] = 3.0

    def in_the_middle(self: AuxiliaryMaskHead, memory: Any) -> Any:
        s = len(memory.tokens)
        return logits.expand(s, -1, -1), torch.ones(s, PARTS, PARTS, dtype=torch.bool)

    monkeypatch.setattr(AuxiliaryMaskHead, "logits", in_the_middle)


class Memory:
    tokens = torch.zeros(2, 1, 1)


def test_the_ring_runs_round_the_largest_marked_piece(model: Path, disc: None) -> None:
    loaded = load_model(model, torch.device("cpu"))
    frames = [zoom_frame(np.array(box), 64, 0.2) for box in ([40, 60, 100, 90], [10.0, 10, 200, 30])]
    rings = auxiliary_contours(loaded, Memory(), frames)  # type: ignore[arg-type]
    for frame, ring in zip(frames, rings, strict=True):
        assert ring.shape == (4 * loaded.config.n_points, 2) and ring.dtype == np.float32
        x0, y0, x1, y1 = frame.window_xyxy
        radius = np.hypot(*((ring - ((x0 + x1) / 2, (y0 + y1) / 2)) / (x1 - x0) * PARTS).T)
        assert radius == pytest.approx(5, abs=0.2), "in parts: finer than the parts themselves"


def test_nothing_marked_is_no_outline(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        AuxiliaryMaskHead, "logits", lambda self, memory: (torch.full((2, 16, 16), -1.0), None)
    )
    loaded = load_model(model, torch.device("cpu"))
    frame = zoom_frame(np.array([40, 60, 100, 90]), 64, 0.2)
    assert [len(r) for r in auxiliary_contours(loaded, Memory(), [frame, frame])] == [0, 0]  # type: ignore[arg-type]


def test_pseudo_labels_are_what_is_marked(
    model: Path, tiny_dataset: Path, tiny_split: Path, tmp_path: Path, disc: None
) -> None:
    config = pseudo_label.Config(contour="auxiliary", audit_split="", max_referents=5, device="cpu")
    out = tmp_path / "pseudo.h5"
    pseudo_label.run(config, dataset=tiny_dataset, split=tiny_split, model=model, out=out)
    data = ReferringDataset.open(tiny_dataset)
    with open_artifact(out, "pseudo_points") as a:
        assert a.attrs["n_points"] == 20
        referents, rings = a["referent_index"], a.ragged("points_xy")
        assert len(a["tokens"][0]) > 4, "what the decoder wrote stays"
        for r, ring in zip(referents, (rings[i] for i in range(len(referents))), strict=True):
            box = data.boxes_xyxy[r]
            middle = np.reshape(ring, (-1, 2)).mean(0)
            assert middle == pytest.approx((box[:2] + box[2:]) / 2, abs=2), "windows lie round the known box"


def test_scores_and_answers_of_what_is_marked(
    model: Path, tiny_dataset: Path, tmp_path: Path, disc: None
) -> None:
    """Both are drawn round the locator's box; a disc in its window has the same area wherever that is."""
    shares = {}
    for contour in ("decoder", "auxiliary"):
        out = tmp_path / f"{contour}.h5"
        config = evaluate.Config(splits=("val",), max_expressions=3, contour=contour, device="cpu")  # type: ignore[arg-type]
        summary = evaluate.run(config, dataset=tiny_dataset, model=model, out=out).summary
        assert summary["outline"] == {"decoder": "written", "auxiliary": "marked"}[contour], (
            "as files have it"
        )
        shares[contour] = summary["splits"]["val"]["res"]["model"]["miou"]
    assert shares["decoder"] != shares["auxiliary"]
    data = ReferringDataset.open(tiny_dataset)
    photo, out = tmp_path / "photo.png", tmp_path / "answers.json"
    cv2.imwrite(str(photo), data.image(0)[..., ::-1])
    predict.run(
        predict.Config(contour="auxiliary", device="cpu"),
        model=model, image=photo, phrase=["the red star"], box=[[20, 20, 60, 60]], out=out,
    )  # fmt: skip
    (answer,) = json.loads(out.read_text("utf-8"))["predictions"]
    x0, _, x1, _ = zoom_frame(np.array([20, 20, 60, 60]), 64, 0.2).window_xyxy
    assert answer["area"] == pytest.approx(np.pi * (5 / PARTS * (x1 - x0)) ** 2, rel=0.1)


@pytest.mark.parametrize("name", ["box-contour", "second look, box-contour"])
def test_models_without_marks_are_refused(
    name: str, tiny_dataset: Path, tiny_split: Path, tmp_path: Path
) -> None:
    model = write_random_model(tmp_path / "model.h5", name)
    config = pseudo_label.Config(contour="auxiliary", audit_split="", device="cpu")
    with pytest.raises(UsageError, match="--contour auxiliary needs a model with crop refinement") as caught:
        pseudo_label.run(config, dataset=tiny_dataset, split=tiny_split, model=model, out=tmp_path / "o.h5")
    assert "--auxiliary-mask 4" in caught.value.hint
