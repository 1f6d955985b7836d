"""Model artifacts of every family that can predict: tiny, with random weights, and a few known words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stages.artifacts import write_artifact
from stages.data.text import WordCodec
from stages.models.build import ReferringModel, build_model
from stages.models.config import (
    DetectorConfig,
    FusionConfig,
    ImageConfig,
    ModelConfig,
    TextConfig,
    VisionConfig,
)
from stages.models.vocabulary import sequence_layout
from stages.training.batch import Batch
from stages.weights.model_file import write_locator, write_model

TINY = ModelConfig(
    n_points=5, n_bins=40, d_model=32, n_heads=4, encoder_layers=1, decoder_layers=1, ffn_dim=48, dropout=0.0,
    image=ImageConfig(size=64, multiple=16),
    vision=VisionConfig(
        settings={
            "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16], "depths": [1, 1, 1],
            "layer_type": "basic", "out_features": ["stage1", "stage2", "stage3"],
        }
    ),
    fusion=FusionConfig(kind="patch", channels=24, fine_channels=4),
    text=TextConfig(word_dim=8, hidden=8, max_words=6, frozen_words=False),
)  # fmt: skip
DETECTOR = TINY.replace(family="mdetr", detector=DetectorConfig(queries=5))
CONFIGS = {
    "box": TINY,
    "contour": TINY.replace(sequence="contour", text_in_memory="words"),
    "box-contour": TINY.replace(sequence="box-contour", task_token="learnable"),
    "multitask": TINY.replace(sequence="multitask", task_token="task-wise"),
    "second look": TINY.replace(sequence="contour", zoom_margin=0.2),
    "second look, box-contour": TINY.replace(sequence="box-contour", zoom_margin=0.2),
    "second look with marks": TINY.replace(sequence="box-contour", zoom_margin=0.2, auxiliary_mask=4),
    "detector": DETECTOR,
    "detector with masks": DETECTOR.replace(
        sequence="mask", detector=DetectorConfig(queries=5, mask_channels=8)
    ),
}
BATCH_WORDS = 12  # word ids of `random_batch` are less
WORDS = "the a red green blue star moon heart left right on of circle"


def write_random_model(path: Path, name: str, seed: int = 0) -> Path:
    """A model of one of `CONFIGS`, as train-rec or train-res writes it."""
    config = CONFIGS[name]
    torch.manual_seed(seed)
    codec = WordCodec.from_sentences([WORDS], config.text.max_words)
    kind = "res_model" if config.answers_masks else "rec_model"
    with write_artifact(path, kind, fingerprint="f", provenance={}) as w:
        w.attr("dataset_digest", "0" * 64)
        write_model(w, config, codec, {"weights": _lively(build_model(config, codec.size)).state_dict()}, [])
        if config.zoom_margin is not None:
            locator = _lively(build_model(TINY, codec.size))
            write_locator(w, TINY, locator.state_dict())
        w.json("summary", {})
    return path


def _lively(model: ReferringModel) -> ReferringModel:
    """Larger last weights, so that the answers differ between pictures and phrases."""
    if not hasattr(model, "predictor"):
        return model
    torch.nn.init.normal_(model.predictor[-1].weight, std=2.0)  # type: ignore[arg-type]
    return model


def random_batch(name: str) -> Batch:
    """A training step of `CONFIGS[name]`: two pictures of different sizes, three expressions."""
    g = np.random.default_rng(0)
    size, slots = CONFIGS[name].image.size, sequence_layout(CONFIGS[name]).length
    masks = CONFIGS[name].zoom_margin is not None or CONFIGS[name].sequence == "mask"
    return Batch.of_arrays(
        images=g.integers(0, 255, (2, 3, size, size), np.uint8),
        sizes_hw=np.array([[size, size], [size // 2, size]]),
        image_of_sentence=np.array([0, 1, 1]),
        words=g.integers(2, BATCH_WORDS, (3, 6)),
        word_mask=np.arange(6) < np.array([[3], [6], [4]]),
        targets=g.integers(0, CONFIGS[name].n_bins, (3, slots)),
        slot_weights=np.ones((3, slots), np.float32),
        boxes=np.array([[4, 4, 30, 30], [8, 2, 40, 28], [1, 1, 20, 20]], np.float32),
        masks=g.random((3, size, size) if masks else (3, 0, 0)) < 0.5,
        mask_weight=np.array([1, 0, 1] if masks else [0, 0, 0], np.float32),
    )
