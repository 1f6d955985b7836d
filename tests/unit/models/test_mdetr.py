"""Properties of the detector: batching and padding change nothing, every weight learns, SiRi keeps only the encoder."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from stages.errors import UsageError
from stages.models.build import build_model
from stages.models.config import (
    DetectorConfig,
    FusionConfig,
    ImageConfig,
    ModelConfig,
    TextConfig,
    VisionConfig,
)
from stages.models.mdetr import Detections, DetectorModel
from stages.models.mdetr_mask_head import masks_in_image
from stages.models.presets import preset
from stages.models.query_decoder import grid_code, grid_code_release
from stages.models.siri import fate, take_over
from stages.training.loader import Batch
from stages.training.objectives import DetectionObjective, MaskLossWeights
from stages.weights.mdetr_names import our_name

RESNET = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16], "depths": [1, 1, 1],
    "layer_type": "basic", "out_features": ["stage1", "stage2", "stage3"],
}  # fmt: skip
TINY = ModelConfig(
    family="mdetr", d_model=32, n_heads=4, encoder_layers=2, decoder_layers=2, ffn_dim=48, dropout=0.0,
    image=ImageConfig(size=64, multiple=16), vision=VisionConfig(settings=RESNET),
    fusion=FusionConfig(kind="patch", channels=24, fine_channels=4),
    text=TextConfig(word_dim=8, hidden=8, max_words=6, frozen_words=False), detector=DetectorConfig(queries=5),
)  # fmt: skip
VARIANTS = {
    "rec": TINY,
    "siri": TINY.replace(
        fusion=FusionConfig(kind="added", channels=16),
        detector=DetectorConfig(queries=5, second_decoder=True),
    ),
    "soft tokens": TINY.replace(
        fusion=FusionConfig(kind="last", channels=16),
        detector=DetectorConfig(queries=5, classes=7, align_dim=12),
    ),
    "sentence gate": TINY.replace(detector=DetectorConfig(queries=5, sentence_gate=True)),
    "embedding masks": TINY.replace(sequence="mask", detector=DetectorConfig(queries=5, mask_channels=8)),
    "attention masks": TINY.replace(
        sequence="mask", detector=DetectorConfig(queries=5, mask_head="attention")
    ),
}
SIZES = [(64, 64), (48, 64), (64, 20)]


def new_model(config: ModelConfig) -> DetectorModel:
    torch.manual_seed(1)
    model = build_model(config, 12)
    assert isinstance(model, DetectorModel)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in model.named_parameters():
        if name.endswith("in_proj_bias"):
            torch.nn.init.normal_(parameter, std=0.1)  # as after some steps
    return model.eval()


@pytest.fixture(params=VARIANTS, name="model")
def model_fixture(request: pytest.FixtureRequest) -> DetectorModel:
    return new_model(VARIANTS[request.param])


def batch(sizes: list[tuple[int, int]], canvas: tuple[int, int] | None = None) -> Batch:
    """Two sentences for each image of the given sizes, padded to `canvas` or to the largest."""
    g = torch.Generator().manual_seed(3)
    h, w = canvas or tuple(-(-max(s[i] for s in sizes) // 16) * 16 for i in (0, 1))
    images = torch.zeros(len(sizes), 3, h, w)
    for i, (a, b) in enumerate(sizes):
        images[i, :, :a, :b] = torch.randn(3, a, b, generator=torch.Generator().manual_seed(i + 10 * a + b))
    n = 2 * len(sizes)
    words = torch.randint(1, 12, (n, 6), generator=g)
    mask = torch.arange(6) < torch.tensor([[3 + k % 3] for k in range(n)])
    owner = torch.arange(n) // 2
    boxes = torch.tensor([[4.0, 6, 15, 30 + k] for k in range(n)])
    masks = torch.zeros(n, h, w, dtype=torch.bool)
    masks[:, 6:30, 4:15] = True
    weight = (torch.arange(n) != 1).float()
    none = torch.zeros(n, 0)
    return Batch(
        images, torch.tensor(sizes), owner, words * mask, mask, none.long(), none, boxes, masks, weight
    )


def run(model: DetectorModel, b: Batch) -> Detections:
    return model(b.images, b.sizes_hw, b.image_of_sentence, b.words, b.word_mask)


def answers(model: DetectorModel, b: Batch) -> list[torch.Tensor]:
    """Logits and boxes of every layer, and the mask of query 0 over each image's own padded size, sentence by sentence."""
    found = run(model, b)
    per_row: list[list[torch.Tensor]] = [[] for _ in b.words]
    for layer in found.layers:
        for i, parts in enumerate(per_row):
            parts += [layer.logits[i].flatten(), layer.boxes[i].flatten()]
    if model.mask_head is not None:
        rows = torch.arange(len(b.words))
        masks = model.mask_logits(found, rows, rows * 0)
        for i, parts in enumerate(per_row):
            h, w = (int(v) * 4 for v in found.memory.own_cells_hw[i])
            parts.append(masks[i, :h, :w].flatten())
    return [torch.cat(parts) for parts in per_row]


@torch.no_grad()
def test_an_image_alone_gives_what_it_gives_in_a_batch(model: DetectorModel) -> None:
    together, whole = answers(model, batch(SIZES)), batch(SIZES)
    for i, (h, w) in enumerate(SIZES):
        rows = whole.image_of_sentence == i
        padded = [-(-v // 16) * 16 for v in (h, w)]
        alone = Batch(
            whole.images[i : i + 1, :, : padded[0], : padded[1]], whole.sizes_hw[i : i + 1], torch.zeros(2, dtype=torch.long),
            whole.words[rows], whole.word_mask[rows], *(x[rows] for x in (
                whole.targets, whole.slot_weights, whole.boxes, whole.masks, whole.mask_weight)),
        )  # fmt: skip
        for got, want in zip(answers(model, alone), together[2 * i : 2 * i + 2], strict=True):
            assert torch.allclose(got, want, atol=3e-5)


@torch.no_grad()
def test_extra_padding_changes_nothing(model: DetectorModel) -> None:
    for got, want in zip(answers(model, batch(SIZES, (96, 80))), answers(model, batch(SIZES)), strict=True):
        assert torch.allclose(got, want, atol=3e-5)
    b = batch(SIZES)
    longer = dataclasses.replace(
        b,
        words=torch.nn.functional.pad(b.words, (0, 3)),
        word_mask=torch.nn.functional.pad(b.word_mask, (0, 3)),
    )
    for got, want in zip(answers(model, longer), answers(model, b), strict=True):
        assert torch.allclose(got, want, atol=3e-5)


def objective(model: DetectorModel) -> DetectionObjective:
    return DetectionObjective(model, masks=MaskLossWeights(pixel=1.0, dice=1.0, focal=1.0))


def test_every_weight_learns(model: DetectorModel) -> None:
    model.train()
    b = batch(SIZES)
    o = objective(model)
    o.loss(o.predict(b.images, b), b).backward()
    # Biases of keys move all logits of a softmax together. The first self-attention reads zeros (DETR): all its values are
    # the same bias, so no weight before them matters. Both have no gradient by definition.
    dead = re.compile(r"key\.bias|decoders\.\d\.layers\.0\.self_attn\.in_proj_weight")
    still = [n for n, p in model.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0]
    assert not [n for n in still if not dead.search(n)]


@torch.no_grad()
def test_loss_does_not_depend_on_the_order_of_queries(model: DetectorModel) -> None:
    b, o = batch(SIZES), objective(model)
    found = o.predict(b.images, b)
    want = o.loss(found, b)
    order = (
        torch.randperm(found.detections.states.shape[1])
        if len(model.detector.decoders) == 1
        else torch.randperm(16)
    )
    for layer in found.detections.layers:
        mine = order if layer.logits.shape[1] == len(order) else torch.arange(layer.logits.shape[1])
        layer.logits, layer.boxes = layer.logits[:, mine], layer.boxes[:, mine]
        layer.aligned = None if layer.aligned is None else layer.aligned[:, mine]
    assert torch.allclose(o.loss(found, b), want, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["rec", "sentence gate"])
def test_what_a_sentence_means_enters_the_encoder_with_the_cells_through_the_gate_alone(name: str) -> None:
    model, b = new_model(VARIANTS[name]), batch(SIZES)
    vision, text = model.encode_images(b.images, b.sizes_hw), model.encode_text(b.words, b.word_mask)
    projected = model.fuse(vision, b.image_of_sentence, text).projected
    assert projected is not None
    first, second = projected[0::2], projected[1::2]  # two sentences about each image
    assert torch.equal(first, second) == (name == "rec")


def test_a_step_without_masks_still_reaches_a_frozen_detectors_head() -> None:
    model = new_model(TINY.replace(sequence="mask", detector=DetectorConfig(queries=5, frozen=True))).train()
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {"mask_head"}
    assert (
        not model.detector.training
        and not model.vision.training
        and model.mask_head is not None
        and model.mask_head.training
    )
    b = batch(SIZES)
    b.mask_weight[:] = 0
    o = objective(model)
    loss = o.loss(o.predict(b.images, b), b)
    loss.backward()
    assert bool(loss.isfinite()) and all(p.grad is not None for p in model.mask_head.parameters())


def test_dropout_of_a_frozen_detector() -> None:
    """ODDITIES H4: the original's frozen detector answers the same picture differently at every training step."""
    b = batch(SIZES)
    for semantics in ("corrected", "release"):
        config = TINY.replace(
            sequence="mask", dropout=0.5, semantics=semantics, detector=DetectorConfig(queries=5, frozen=True)
        )
        model = new_model(config).train()
        first, second = (run(model, b).layers[-1].boxes for _ in range(2))
        assert torch.equal(first, second) == (semantics == "corrected")


def test_second_decoder_answers_from_a_fixed_grid() -> None:
    model = new_model(VARIANTS["siri"])
    found = run(model, batch(SIZES))
    assert [layer.logits.shape[1] for layer in found.layers] == [5, 5, 16, 16]
    code = grid_code(32)
    assert code.shape == (16, 32) and len({tuple(row.tolist()) for row in code}) == 16
    assert torch.equal(code[0:4, :16], code[0:1, :16].expand(4, -1))  # a row of the grid shares its y half
    squeezed = grid_code_release(32)
    assert float((squeezed[0] - squeezed[15]).norm()) < float((code[0] - code[15]).norm())


def test_a_mask_comes_back_at_the_original_size() -> None:
    logits = torch.full((1, 8, 8), -4.0)
    logits[:, :4, :4] = 4.0
    mask = masks_in_image(logits, (32, 32), (24, 32), (48, 64))[0]
    assert mask.shape == (48, 64)
    assert bool(mask[:28, :28].all()) and not bool(mask[36:].any()) and not bool(mask[:, 36:].any())


@pytest.mark.parametrize("name", ["refshapes-small-mdetr", "refshapes-small"])
def test_a_new_round_keeps_the_encoder_alone(name: str) -> None:
    config = preset(name)
    torch.manual_seed(0)
    old = build_model(config, 20)
    new = build_model(config, 20)
    before = {n: v.clone() for n, v in new.state_dict().items()}
    kept = take_over(new, old.state_dict(), config.family)
    prefix = "encoder." if config.family == "seqtr" else "detector.encoder."
    assert kept and all(n.startswith(prefix) for n in kept)
    for n, value in new.state_dict().items():
        assert torch.equal(value, old.state_dict()[n] if n in kept else before[n])
    assert {fate(n, config.family) for n in before} == {"kept", "pretrained", "re-initialised"}


def test_names_of_released_checkpoints() -> None:
    own = new_model(VARIANTS["siri"]).state_dict()
    for released in (
        "transformer.0.encoder.layers.1.self_attn.in_proj_weight", "transformer.1.decoder.layers.0.cross_attn_image.out_proj.bias",
        "transformer.1.decoder.layers.1.norm4.weight", "transformer.0.decoder.norm.bias", "transformer.0.resizer.layer_norm.weight",
        "class_embed.1.bias", "bbox_embed.1.layers.2.weight", "query_embed.weight", "pos_trans_norm.bias", "add_feature.1.weight",
    ):  # fmt: skip
        assert our_name(released) in own, released


def test_impossible_configurations_are_named() -> None:
    with pytest.raises(UsageError, match="'mdetr' does not write 'contour'"):
        TINY.replace(sequence="contour")
    with pytest.raises(UsageError, match="'seqtr' does not write 'mask'"):
        ModelConfig(sequence="mask")
    with pytest.raises(UsageError, match="16 channels of the coarsest level, got 24"):
        new_model(TINY.replace(fusion=FusionConfig(kind="last", channels=24)))


def test_config_survives_json() -> None:
    for config in VARIANTS.values():
        assert ModelConfig.from_dict(config.to_dict()) == config
    assert "detector" not in preset("refshapes-small").to_dict()
