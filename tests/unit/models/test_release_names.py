"""Released tensor names map one to one onto ours."""

from __future__ import annotations

import pytest
import torch

from stages.models.build import build_model
from stages.models.presets import PRESETS, released
from stages.weights.released_names import our_name, released_name, rename


@pytest.mark.parametrize("multitask", [False, True])
@pytest.mark.parametrize("name", ["seqtr-darknet53", "partial-res-darknet53"])
def test_every_tensor_has_one_released_name(name: str, multitask: bool) -> None:
    token = "task-wise" if multitask else "learnable"
    config = released(PRESETS[name]).replace(
        sequence="multitask" if multitask else "contour", task_token=token
    )
    with torch.device("meta"):
        ours = list(build_model(config, 50).state_dict())
    theirs = [released_name(n, multitask=multitask) for n in ours]
    assert len(set(theirs)) == len(ours)
    assert [our_name(n) for n in theirs] == ours
    token_name = "head.task_embedding.weight" if multitask else "head.transformer.task_prompt.weight"
    assert token_name in theirs


@pytest.mark.parametrize(
    ("released_one", "ours"),
    [
        ("vis_enc.darknet.2.module_list.0.1.bn.weight", "vision.body.darknet.2.module_list.0.1.bn.weight"),
        ("lan_enc.lstm.bias_hh_l0_reverse", "text.lstm.bias_hh_l0_reverse"),
        ("head.transformer.decoder.layers.2.point.4.weight", "decoder.layers.2.point.mlp.4.weight"),
        ("head.transformer.seq_positional_encoding.embedding.weight", "slot_embedding.weight"),
        ("head.predictor.1.fc.bias", "predictor.2.bias"),
        ("fusion.down_mid2top.1.conv.weight", "fusion.down_mid2top.1.conv.weight"),
    ],
)
def test_known_names(released_one: str, ours: str) -> None:
    assert our_name(released_one) == ours
    assert released_name(ours, multitask=False) == released_one


def test_foreign_names_are_reported_and_the_convolution_is_flattened() -> None:
    assert our_name("head.other.weight") is None
    with pytest.raises(KeyError, match="no counterpart"):
        released_name("reader.weight", multitask=False)
    state = {
        "head.transformer.input_proj.conv.weight": torch.ones(4, 6, 1, 1),
        "backbone.conv1.weight": torch.ones(1),
    }
    renamed, unknown = rename(state)
    assert renamed["input_proj.weight"].shape == (4, 6)
    assert unknown == ["backbone.conv1.weight"]
