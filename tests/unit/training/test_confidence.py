"""How sure a model is of a contour: of the tokens up to and with END, none of those behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.data.dataset import ReferringDataset
from stages.inference.answers import Predictions
from stages.inference.predictions import predict_sentences
from stages.inference.sequence_answers import answer_length
from stages.models.seqtr import PointSequenceModel
from stages.weights.model_file import load_model
from tests.oracles.random_models import write_random_model


@pytest.mark.parametrize("name", ["contour", "box-contour", "multitask"])
def test_tokens_behind_end_do_not_count(tiny_dataset: Path, tmp_path: Path, name: str) -> None:
    loaded = load_model(write_random_model(tmp_path / "m.h5", name, seed=1))
    assert isinstance(loaded.model, PointSequenceModel)
    layout, data = loaded.model.layout, ReferringDataset.open(tiny_dataset)
    with torch.no_grad():
        loaded.model.predictor[-1].bias[-1] += 3.0  # type: ignore[union-attr, operator]
    found = predict_sentences(loaded, data, np.arange(24))
    ended = []
    for row, tokens in enumerate(found.tokens):
        ends = np.flatnonzero(tokens == layout.end)
        stop = int(ends[0]) + 1 if len(ends) else len(tokens)
        ended.append(stop)
        want = float(np.exp(np.log(found.token_probability[row, :stop]).mean()))
        assert found.confidence()[row] == pytest.approx(want, rel=1e-5)
        assert len(found.points_xy[row]) == (stop - len(layout.box) - bool(len(ends))) // 2
    assert min(ended) < len(found.tokens[0]), "or this test would show nothing"
    changed = found.token_probability.copy()
    for row, stop in enumerate(ended):
        changed[row, stop:] = 0.01
    other = Predictions(
        found.sentence_index, found.tokens, changed, found.points_xy, found.boxes_xyxy,
        n_tokens=answer_length(layout, found.tokens),
    )  # fmt: skip
    assert np.array_equal(other.confidence(), found.confidence())


def test_a_box_counts_all_of_its_tokens(tiny_dataset: Path, tmp_path: Path) -> None:
    loaded = load_model(write_random_model(tmp_path / "m.h5", "box"))
    found = predict_sentences(loaded, ReferringDataset.open(tiny_dataset), np.arange(6))
    want = np.exp(np.log(found.token_probability).mean(1))
    assert found.tokens.shape == (6, 4) and np.allclose(found.confidence(), want)
