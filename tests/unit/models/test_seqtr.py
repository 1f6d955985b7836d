"""Properties of the point-sequence model: caching, batching and padding change nothing; prompts are obeyed."""

from __future__ import annotations

import pytest
import torch

from stages.errors import UsageError
from stages.models.build import build_model
from stages.models.config import FusionConfig, ImageConfig, ModelConfig, TextConfig, VisionConfig
from stages.models.presets import preset
from stages.models.seqtr import PointSequenceModel

TINY = ModelConfig(
    n_points=5,
    n_bins=20,
    d_model=32,
    n_heads=4,
    encoder_layers=2,
    decoder_layers=2,
    ffn_dim=48,
    dropout=0.0,
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

VARIANTS = {
    "box": TINY,
    "contour": TINY.replace(
        sequence="contour", cctf=True, pmca=True, task_token="learnable", text_in_memory="sentence"
    ),
    "box-contour": TINY.replace(
        sequence="box-contour", cctf=True, pmca=True, task_token="learnable", text_in_memory="words"
    ),
    "point content": TINY.replace(
        sequence="box-contour", cctf=True, point_content=True, task_token="learnable"
    ),
    "multitask": TINY.replace(sequence="multitask", task_token="task-wise"),
    "plain contour": TINY.replace(sequence="contour"),
    "release": TINY.replace(
        sequence="contour", cctf=True, pmca=True, text_in_memory="sentence", semantics="release"
    ),
}


@pytest.fixture(params=VARIANTS, name="model")
def model_fixture(request: pytest.FixtureRequest) -> PointSequenceModel:
    torch.manual_seed(5)
    model = build_model(VARIANTS[request.param], 12).eval()
    for module in model.modules():  # statistics of a trained network, so that normalisation is no identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(model.predictor[-1].weight, std=0.5)
    if model.point_content:
        torch.nn.init.normal_(model.point_content.project.weight)
    return model


def batch(sizes: list[tuple[int, int]], canvas: tuple[int, int] | None = None) -> dict[str, torch.Tensor]:
    """Two sentences for each image of the given sizes, padded to `canvas` or to the largest."""
    g = torch.Generator().manual_seed(3)
    h, w = canvas or tuple(-(-max(s[i] for s in sizes) // 16) * 16 for i in (0, 1))
    images = torch.zeros(len(sizes), 3, h, w)
    for i, (a, b) in enumerate(sizes):
        images[i, :, :a, :b] = torch.randn(3, a, b, generator=torch.Generator().manual_seed(i + 10 * a + b))
    n = 2 * len(sizes)
    words = torch.randint(1, 12, (n, 6), generator=g)
    mask = torch.arange(6) < torch.tensor([[3 + k % 3] for k in range(n)])
    return {
        "images": images, "sizes_hw": torch.tensor(sizes), "image_of_sentence": torch.arange(n) // 2,
        "words": words * mask, "word_mask": mask,
    }  # fmt: skip


def memory_of(model: PointSequenceModel, b: dict[str, torch.Tensor]) -> object:
    vision = model.encode_images(b["images"], b["sizes_hw"])
    return model.fuse(vision, b["image_of_sentence"], model.encode_text(b["words"], b["word_mask"]))


def teacher_forced(
    model: PointSequenceModel, b: dict[str, torch.Tensor], tokens: torch.Tensor
) -> torch.Tensor:
    """Logits at the decoded slots when `tokens` (S, K) are the targets there and END elsewhere."""
    slots = list(model.layout.decoded)
    targets = torch.full((len(tokens), model.layout.length), model.layout.end)
    targets[:, slots] = tokens
    return model(**b, targets=targets).logits[:, slots]


SIZES = [(64, 64), (48, 64), (64, 20)]


@torch.no_grad()
def test_cached_decoding_is_the_teacher_forced_pass(model: PointSequenceModel) -> None:
    b = batch(SIZES)
    decoded = model.generate(memory_of(model, b), keep_logits=True)
    assert torch.allclose(teacher_forced(model, b, decoded.tokens), decoded.logits, atol=2e-5)
    allowed = torch.tensor(model.end_is_allowed)[list(model.layout.decoded)]
    choice = decoded.logits.clone()
    choice[:, ~allowed, model.layout.end] = -torch.inf
    assert torch.equal(choice.argmax(-1), decoded.tokens)
    assert len(decoded.tokens.unique()) > 2


@torch.no_grad()
def test_an_image_alone_gives_what_it_gives_in_a_batch(model: PointSequenceModel) -> None:
    if model.semantics.sees_padding:
        pytest.skip("the release encodes the padded batch: results depend on it by definition (ODDITIES A2)")
    b = batch(SIZES)
    together = model.generate(memory_of(model, b), keep_logits=True)
    for i, size in enumerate(SIZES):
        own = tuple(-(-s // 16) * 16 for s in size)
        mine = slice(2 * i, 2 * i + 2)
        alone = {
            "images": b["images"][i : i + 1, :, : own[0], : own[1]], "sizes_hw": b["sizes_hw"][i : i + 1],
            "image_of_sentence": torch.zeros(2, dtype=torch.long), "words": b["words"][mine], "word_mask": b["word_mask"][mine],
        }  # fmt: skip
        single = model.generate(memory_of(model, alone), keep_logits=True)
        assert torch.allclose(single.logits, together.logits[mine], atol=2e-5)
        assert torch.equal(single.tokens, together.tokens[mine])


@torch.no_grad()
def test_extra_padding_changes_nothing(model: PointSequenceModel) -> None:
    if model.semantics.sees_padding:
        pytest.skip("the release's result depends on the padding by definition (ODDITIES A2)")
    plain, padded = batch(SIZES), batch(SIZES, canvas=(96, 128))
    a = model.generate(memory_of(model, plain), keep_logits=True)
    c = model.generate(memory_of(model, padded), keep_logits=True)
    assert torch.allclose(a.logits, c.logits, atol=2e-5)


@torch.no_grad()
def test_a_box_prompt_is_written_and_changes_what_follows() -> None:
    torch.manual_seed(0)
    model = build_model(VARIANTS["box-contour"], 12).eval()
    torch.nn.init.normal_(model.predictor[-1].weight, std=0.5)
    memory = memory_of(model, batch(SIZES))
    free = model.generate(memory)
    prompt = (free.tokens[:, :4] + 3) % 20
    told = model.generate(memory, prompt)
    assert torch.equal(told.tokens[:, :4], prompt)
    assert torch.equal(told.probability[:, :4], torch.ones(6, 4))
    assert not torch.equal(told.tokens[:, 4:], free.tokens[:, 4:])
    assert torch.equal(model.generate(memory, free.tokens[:, :4]).tokens, free.tokens)


@torch.no_grad()
def test_end_is_never_written_inside_a_box_nor_before_three_points() -> None:
    torch.manual_seed(0)
    model = build_model(VARIANTS["box-contour"], 12).eval()
    model.predictor[-1].bias[model.layout.end] = 50.0
    tokens = model.generate(memory_of(model, batch(SIZES))).tokens
    assert (tokens[:, :10] < model.layout.end).all()
    assert (tokens[:, 10:] == model.layout.end).all()


def test_every_parameter_of_the_paper_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model = build_model(VARIANTS["contour"], 12).train()
    targets = torch.randint(0, 20, (6, model.layout.length))
    model(**batch(SIZES), targets=targets).logits.logsumexp(-1).sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []


def test_frozen_backbone_keeps_its_statistics_while_training() -> None:
    import dataclasses

    config = TINY.replace(vision=dataclasses.replace(TINY.vision, frozen="all"))
    model = build_model(config, 12).train()
    before = {k: v.clone() for k, v in model.vision.state_dict().items()}
    model.encode_images(torch.randn(2, 3, 64, 64), torch.tensor([[64, 64], [64, 64]]))
    assert all(torch.equal(before[k], v) for k, v in model.vision.state_dict().items())
    assert not any(p.requires_grad for p in model.vision.parameters())
    drifting = dataclasses.replace(config.vision, frozen_batch_norm=False)
    released = build_model(config.replace(vision=drifting), 12).train()
    released.encode_images(torch.randn(2, 3, 64, 64), torch.tensor([[64, 64], [64, 64]]))
    assert any(
        int(v) == 1 for k, v in released.vision.state_dict().items() if k.endswith("num_batches_tracked")
    )


@pytest.mark.parametrize("config", [*VARIANTS.values(), preset("refshapes-small")])
def test_architecture_survives_json(config: ModelConfig) -> None:
    import json

    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_keys_and_presets_are_named() -> None:
    with pytest.raises(UsageError, match="'colour'"):
        ModelConfig.from_dict({**TINY.to_dict(), "colour": 1})
    with pytest.raises(UsageError, match="'huge'"):
        preset("huge")
    with pytest.raises(UsageError, match="task-wise"):
        TINY.replace(task_token="task-wise")
