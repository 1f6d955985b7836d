"""The fast head gives what the plain one does: tokens, logits and gradients, with padding, END and every addition."""

from __future__ import annotations

import pytest
import torch

from stages.models.build import build_model
from stages.models.config import ModelConfig
from stages.models.image_maps import VisionMaps
from stages.models.language import SentenceFeatures
from stages.models.seqtr import PointSequenceModel
from tests.oracles import model_textbook as textbook
from tests.oracles.random_models import TINY

PAPER = TINY.replace(
    sequence="contour", task_token="learnable", text_in_memory="sentence", cctf=True, pmca=True
)
VARIANTS = {
    "paper": PAPER,
    "plain contour": TINY.replace(sequence="contour"),
    "box": TINY,
    "box-contour": PAPER.replace(sequence="box-contour", text_in_memory="words", point_content=True),
}


def build(config: ModelConfig) -> PointSequenceModel:
    torch.manual_seed(1)
    model = build_model(config, 12).eval()
    assert isinstance(model, PointSequenceModel)
    torch.nn.init.normal_(model.predictor[-1].weight, std=2.0)  # type: ignore[arg-type]
    return model


def encoded(model: PointSequenceModel) -> tuple[VisionMaps, torch.Tensor, SentenceFeatures]:
    """Four sentences about two images of different size."""
    images = torch.zeros(2, 3, 64, 64)
    sizes = torch.tensor([[64, 64], [40, 64]])
    for i, (h, w) in enumerate(sizes.tolist()):
        images[i, :, :h, :w] = torch.randn(3, h, w)
    words = torch.randint(1, 12, (4, 6))
    mask = torch.arange(6) < torch.tensor([[6], [2], [4], [3]])
    with torch.no_grad():
        return (
            model.encode_images(images, sizes),
            torch.tensor([0, 0, 1, 1]),
            model.encode_text(words * mask, mask),
        )


@pytest.mark.parametrize("name", VARIANTS)
def test_the_plain_head_gives_the_same(name: str) -> None:
    model = build(VARIANTS[name])
    arguments = encoded(model)
    memory, plain = model.fuse(*arguments), textbook.fuse(model, *arguments)
    assert torch.allclose(memory.tokens[memory.mask], plain.tokens[plain.mask], atol=1e-5)
    written = model.generate(memory)
    tokens = textbook.generate(model, plain)
    assert torch.equal(written.tokens, tokens)
    assert len(tokens.unique()) > 3
    targets = torch.full((4, model.layout.length), model.layout.end)
    targets[:, : tokens.shape[1]] = tokens
    targets[1, 2 * len(targets[1]) // 3 :] = model.layout.end
    gradients = []
    for answer in (model.decode(memory, targets), textbook.logits(model, plain, targets)):
        model.zero_grad()
        answer.log_softmax(-1).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        gradients.append([answer.detach()])
    for ours, theirs in ((gradients[0], gradients[2]), (gradients[1], gradients[3])):
        assert len(ours) == len(theirs) > 0
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, atol=2e-4, rtol=1e-3)
