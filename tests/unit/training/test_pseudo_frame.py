"""pseudo-label --frame model: outlines as the release stores them, in pixels of the resized picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages import pseudo_label
from stages.artifacts import open_artifact
from stages.errors import UsageError
from tests.oracles.random_models import write_random_model


def test_outlines_in_the_frame_of_the_model(tiny_dataset: Path, tiny_split: Path, tmp_path: Path) -> None:
    """RefShapes pictures are resized to the 64 px of the model: every number shrinks by the same factor."""
    model = write_random_model(tmp_path / "model.h5", "contour")
    with open_artifact(tiny_dataset) as a:
        width = int(a["images/width"][0])
        assert set(a["images/width"].tolist()) == {width} != {64}
    points, boxes, scores = {}, {}, {}
    for frame in ("original", "model"):
        out = tmp_path / f"pseudo-{frame}.h5"
        config = pseudo_label.Config(frame=frame, box_prompt=False, audit_split="", device="cpu")  # type: ignore[arg-type]
        pseudo_label.run(config, dataset=tiny_dataset, split=tiny_split, model=model, out=out)
        with open_artifact(out) as a:
            points[frame] = a["points_xy/values"]
            boxes[frame], scores[frame] = a["box_xyxy"], a["projection_score"]
    assert len(points["model"]) > 10
    assert points["model"] == pytest.approx(points["original"] * 64 / width, rel=1e-5)
    np.testing.assert_allclose(boxes["model"], boxes["original"] * 64 / width, rtol=1e-5)
    assert scores["model"].mean() > scores["original"].mean() + 0.05, "read as original pixels, they miss"


def test_only_for_models_that_draw_the_whole_picture(
    tiny_dataset: Path, tiny_split: Path, tmp_path: Path
) -> None:
    for name in ("second look", "detector with masks"):
        model = write_random_model(tmp_path / f"{name}.h5", name)
        config = pseudo_label.Config(frame="model", box_prompt=False, audit_split="", device="cpu")
        with pytest.raises(UsageError, match="--frame model is for models that write points"):
            pseudo_label.run(
                config, dataset=tiny_dataset, split=tiny_split, model=model, out=tmp_path / "out.h5"
            )
