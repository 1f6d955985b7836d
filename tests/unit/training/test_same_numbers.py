"""What was made faster gives the numbers that it gave before, bit by bit."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.artifacts import open_artifact
from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.data.transforms import Augmentation
from stages.inference.predictions import predict_sentences
from stages.models.build import build_model
from stages.models.image_maps import normalise
from stages.models.presets import preset
from stages.training.batch import Batch
from stages.training.loader import ContourTable, StepDataset
from stages.training.objectives import build_objective
from stages.training.optimiser import MovingAverage
from stages.training.settings import TrainingSettings
from stages.training.targets import SlotWeights
from stages.weights.model_file import load_model
from tests.oracles.random_models import BATCH_WORDS, CONFIGS, random_batch, write_random_model


def test_normalised_pictures_stay_as_they_lie_in_memory() -> None:
    config = preset("refshapes-small")
    canvas = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
    fields = dict.fromkeys(Batch.__dataclass_fields__, np.zeros(1))
    images = Batch.of_arrays(**{**fields, "images": canvas.transpose(0, 3, 1, 2)}).images
    sizes = torch.tensor([[32, 48], [20, 48], [32, 33]])
    found = normalise(images, sizes, config)
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.image.mean, config.image.std))
    want = (images.float() / 255 - mean) / std
    want[1, :, 20:], want[2, :, :, 33:] = 0, 0
    assert torch.equal(found, want) and found.is_contiguous(memory_format=torch.channels_last)
    assert images.data_ptr() == canvas.ctypes.data, "no copy on the way"
    assert torch.equal(normalise(images.float(), sizes, config), want)
    assert torch.equal(normalise(images.contiguous(), sizes, config), want)
    assert np.array_equal(images.numpy(), canvas.transpose(0, 3, 1, 2)), "the pictures are unchanged"


def test_what_is_frozen_is_its_own_average() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
    model[0].weight.requires_grad_(False)
    average = MovingAverage(model, 0.9)
    plain = {k: v.clone() for k, v in model.state_dict().items()}
    for step in range(4):
        with torch.no_grad():
            model[0].bias.add_(torch.randn(4))
            model(torch.randn(8, 5))
        share = 1 - min(0.9, (1 + step) / (10 + step))
        average.update()
        for name, value in model.state_dict().items():
            averaged = not name.startswith(("1.running", "1.num"))
            plain[name] = plain[name].lerp(value, share) if averaged else value.clone()
    assert all(torch.equal(average.values[name], value) for name, value in plain.items())


@pytest.mark.parametrize("box_prompt", [False, True])
def test_a_picture_is_decoded_once_for_all_of_its_windows(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, box_prompt: bool
) -> None:
    loaded = load_model(write_random_model(tmp_path / "m.h5", "second look, box-contour"))
    data = ReferringDataset.open(tiny_dataset)
    decoded: Counter[int] = Counter()
    read = data.image
    monkeypatch.setattr(data, "image", lambda index: decoded.update([index]) or read(index))
    sentences = np.arange(40)
    predict_sentences(loaded, data, sentences, batch_images=3, box_prompt=box_prompt)
    pictures = np.unique(data.referent_image[data.sentence_referent[sentences]])
    assert decoded == Counter(pictures.tolist())


@pytest.mark.parametrize("name", ["contour", "detector"])
def test_padding_beyond_the_longest_expression_is_not_trained_on(tiny_dataset: Path, name: str) -> None:
    """It changes neither loss nor gradient; the release reads it, so its batches keep it."""
    data, config = ReferringDataset.open(tiny_dataset), CONFIGS[name]
    codec = WordCodec(["PAD", "UNK", "CLS"], max_words=40)
    contours = ContourTable.of_contours(len(data.boxes_xyxy), {}, {})
    item = [(int(data.referent_image[data.sentence_referent[s]]), np.array([s])) for s in (0, 9)]
    steps, padded = (
        StepDataset(data, codec, c, contours, Augmentation(), SlotWeights(), 0)
        for c in (config, config.replace(semantics="release"))
    )
    short, long = steps[0, 0, item], padded[0, 0, item]
    assert short.words.shape[1] == short.word_mask.sum(1).max() < long.words.shape[1] == 40
    torch.manual_seed(0)
    model = build_model(config, codec.size)
    objective = build_objective(model, TrainingSettings())
    found = []
    for batch in (short, dataclasses.replace(short, words=long.words, word_mask=long.word_mask)):
        model.zero_grad()
        loss = objective.loss(
            objective.predict(normalise(batch.images, batch.sizes_hw, config), batch), batch
        )
        loss.backward()
        found.append((loss.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_a_column_is_opened_once(tiny_dataset: Path) -> None:
    with open_artifact(tiny_dataset, kind="dataset") as a:
        assert a.dataset("masks/rle/values") is a.dataset("masks/rle/values")


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_no_gradient_is_added_up_by_a_race(name: str) -> None:
    """On a CPU the gradient of x[rows] is added up by all threads at once: where a row comes twice, in any order, so that
    two trainings of one seed end with other weights. index_select and gather add it up in one order.
    """
    torch.manual_seed(0)
    model, batch = build_model(CONFIGS[name], BATCH_WORDS), random_batch(name)
    objective = build_objective(model, TrainingSettings(device="cpu", auxiliary_mask_weight=1.0))
    outputs = objective.predict(normalise(batch.images, batch.sizes_hw, model.config), batch)
    open_nodes: list[Any] = [objective.loss(outputs, batch).grad_fn]
    seen = set(open_nodes)
    assert batch.image_of_sentence.bincount().max() > 1
    while open_nodes:
        node = open_nodes.pop()
        if node.name() == "IndexBackward0":
            rows = torch.broadcast_tensors(*(i for i in node._saved_indices if i is not None))
            assert len(torch.stack(rows).flatten(1).unique(dim=1).T) == rows[0].numel(), node.metadata
        reached = {following for following, _ in node.next_functions if following is not None}
        open_nodes += reached - seen
        seen |= reached
    assert len(seen) > 50
