"""Every shipped configuration: the numbers of the paper, tiny versions that behave, parts loaded from local folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, PreTrainedTokenizerFast

from seqres_cli.commands import STAGES
from seqres_cli.config_file import resolve
from stages import pseudo_label, resample_points, train_rec, train_res
from stages.configs import recipe_names
from stages.data.text import HubCodec
from stages.errors import ArtifactError, UsageError
from stages.models import darknet
from stages.models.build import build_model, vision_strides
from stages.models.config import SHIPPED, FusionConfig, ImageConfig, ModelConfig
from stages.models.presets import PRESETS, preset, released
from stages.models.seqtr import PointSequenceModel
from stages.weights.pretrained import (
    describe_text,
    describe_vision,
    load_pretrained_parts,
    shipped_backbone,
)

FULL = ["seqtr-darknet53", "partial-res-darknet53", "resnet101-roberta", "swin-minilm"]
SMALLER: dict[str, dict[str, Any]] = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 1]},
    "swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2, "drop_path_rate": 0.0},
    "roberta": {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
                "max_position_embeddings": 48},
    "bert": {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
             "max_position_embeddings": 48},
}  # fmt: skip


@pytest.fixture(autouse=True)
def narrow_darknet(monkeypatch: pytest.MonkeyPatch) -> None:
    """DarkNet-53 at a sixteenth of its width and with single blocks."""

    def narrow(kind: str, *n: int) -> tuple[Any, ...]:
        return (
            (kind, 3 if n[0] == 3 else n[0] // 16, n[1] // 16, *n[2:])
            if kind == "conv"
            else (kind, n[0] // 16, 1)
        )

    monkeypatch.setattr(darknet, "LAYERS", tuple(narrow(*layer) for layer in darknet.LAYERS))
    monkeypatch.setattr(darknet.DarkNet53, "channels", (16, 32, 64))


def tiny(config: ModelConfig) -> ModelConfig:
    """The same parts in the same arrangement, small."""
    vision, text = config.vision, config.text
    if vision.settings:
        smaller = {**vision.settings, **SMALLER[vision.settings["model_type"]]}
        vision = dataclasses.replace(vision, settings=smaller, source=None)
    if text.settings:
        text = dataclasses.replace(
            text, settings={**text.settings, **SMALLER[text.settings["model_type"]]}, source=None
        )
    text = dataclasses.replace(text, word_dim=6, hidden=8, max_words=6)
    return config.replace(
        n_points=5, n_bins=20, d_model=32, n_heads=4, encoder_layers=2, decoder_layers=2, ffn_dim=48, dropout=0.0,
        image=dataclasses.replace(config.image, size=64),
        fusion=FusionConfig(kind=config.fusion.kind, channels=24, fine_channels=8), vision=vision, text=text,
    )  # fmt: skip


def sequences(name: str) -> dict[str, ModelConfig]:
    """A preset as train-rec and train-res build it."""
    rec = tiny(preset(name))
    made = {
        "box": rec,
        "contour": rec.replace(sequence="contour", task_token="learnable", cctf=True, pmca=True),
    }
    if name == "seqtr-darknet53":
        made["multitask"] = rec.replace(sequence="multitask", task_token="task-wise")
        made["release"] = released(made["contour"].replace(text_in_memory="sentence"))
    return made


ALL = [(name, sequence) for name in FULL for sequence in sequences(name)]


def random_model(config: ModelConfig) -> PointSequenceModel:
    torch.manual_seed(2)
    model = build_model(config, 30).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(model.predictor[-1].weight, std=0.5)
    return model


SIZES = [(64, 64), (32, 64), (64, 20)]


def inputs(canvas: tuple[int, int]) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    images = torch.zeros(3, 3, *canvas)
    for i, (h, w) in enumerate(SIZES):
        images[i, :, :h, :w] = torch.randn(3, h, w, generator=g)
    words = torch.randint(2, 30, (3, 6), generator=g)
    mask = torch.arange(6) < torch.tensor([[3], [4], [6]])
    return {"images": images, "sizes": torch.tensor(SIZES), "words": words * mask, "mask": mask}


def memory_of(model: PointSequenceModel, b: dict[str, torch.Tensor], rows: slice = slice(None)) -> Any:
    images, sizes = b["images"][rows], b["sizes"][rows]
    if rows != slice(None):  # alone: at the picture's own padded size
        h, w = ((sizes[0] + 31) // 32 * 32).tolist()
        images = images[:, :, :h, :w]
    text = model.encode_text(b["words"][rows], b["mask"][rows])
    return model.fuse(model.encode_images(images, sizes), torch.arange(len(sizes)), text)


@pytest.mark.parametrize(("name", "sequence"), ALL)
@torch.no_grad()
def test_cached_padded_and_single_decoding_agree(name: str, sequence: str) -> None:
    config = sequences(name)[sequence]
    model = random_model(config)
    b = inputs((64, 64))
    memory = memory_of(model, b)
    decoded = model.generate(memory, keep_logits=True)
    assert decoded.logits is not None
    # uncached: every step again from the whole prefix, with equal tokens
    slots = list(model.layout.decoded)
    targets = torch.full((3, model.layout.length), model.layout.end)
    for k, slot in enumerate(slots):
        logits = model.decode(memory, targets)[:, slot]
        assert torch.allclose(logits, decoded.logits[:, k], atol=3e-4)
        allowed = logits if model.end_is_allowed[slot] else logits[:, :-1]
        targets[:, slot] = allowed.argmax(-1)
    assert torch.equal(targets[:, slots], decoded.tokens)
    if sequence == "release":
        return
    padded = model.generate(memory_of(model, inputs((96, 128))), keep_logits=True)
    assert torch.allclose(padded.logits, decoded.logits, atol=3e-4)
    assert torch.equal(padded.tokens, decoded.tokens)
    for i in range(3):
        single = model.generate(memory_of(model, b, slice(i, i + 1)), keep_logits=True)
        assert torch.allclose(single.logits[0], decoded.logits[i], atol=3e-4)
        assert torch.equal(single.tokens[0], decoded.tokens[i])


def test_the_release_depends_on_its_batch_and_the_default_does_not() -> None:
    both = sequences("seqtr-darknet53")
    for config, depends in (
        (both["release"], True),
        (both["contour"].replace(text_in_memory="sentence"), False),
    ):
        model = random_model(config)
        with torch.no_grad():
            targets = torch.arange(11).expand(3, 11)
            plain, padded = (
                model.decode(memory_of(model, inputs(c)), targets) for c in ((64, 64), (96, 128))
            )
        assert (float((plain - padded).abs().max()) > 1e-3) == depends


@pytest.mark.parametrize("name", ["seqtr-darknet53", "resnet101-roberta"])
@pytest.mark.parametrize("fixed", [True, False])
def test_frozen_parts_stay_frozen_with_their_statistics(name: str, fixed: bool) -> None:
    config = tiny(preset(name))
    config = config.replace(vision=dataclasses.replace(config.vision, frozen_batch_norm=fixed))
    model = build_model(config, 30).train()
    before = {k: v.clone() for k, v in model.vision.state_dict().items()}
    b = inputs((64, 64))
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    targets = torch.arange(5).expand(3, 5)
    logits = model(b["images"], b["sizes"], torch.arange(3), b["words"], b["mask"], targets).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    optimiser.step()
    after = model.vision.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    first = "body.darknet.0" if "darknet" in name else "body.backbone.embedder.embedder"
    last = "body.darknet.13" if "darknet" in name else "body.backbone.encoder.stages.3"
    assert not any(k.startswith(first) and k.endswith(("weight", "bias")) for k in changed)
    assert any(k.startswith(last) and k.endswith("weight") for k in changed)
    assert any(k.startswith(first) and "running_mean" in k for k in changed) == (not fixed)


@pytest.mark.parametrize("model_type", ["resnet", "swin"])
def test_a_backbone_is_loaded_from_a_local_folder(tmp_path: Path, model_type: str) -> None:
    torch.manual_seed(1)
    source = AutoModelForImageClassification.from_config(
        AutoConfig.for_model(model_type, **SMALLER[model_type])
    )
    source.save_pretrained(tmp_path / "backbone")  # what the hub has: a whole classifier
    config = tiny(preset("resnet101-roberta"))
    vision = dataclasses.replace(config.vision, source=str(tmp_path / "backbone"), settings={})
    config = config.replace(vision=describe_vision(vision))
    assert config.vision.settings["out_features"] == ["stage2", "stage3", "stage4"]
    assert vision_strides(config.vision) == (8, 16, 32)
    model = build_model(config, 30)
    assert any("backbone" in line for line in load_pretrained_parts(model))
    stored = source.state_dict() | {
        k.removeprefix(f"{model_type}."): v for k, v in source.state_dict().items()
    }
    loaded = {
        k: v for k, v in model.vision.body.backbone.state_dict().items() if "hidden_states_norms" not in k
    }
    assert all(torch.equal(stored[k], v) for k, v in loaded.items())
    path = tmp_path / "backbone" / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "stages.2" not in k and "layers.2" not in k}, path)
    with pytest.raises(ArtifactError, match="whole backbone") as caught:
        load_pretrained_parts(model)
    assert all("encoder." in fact for fact in caught.value.facts[:2])


def test_a_text_encoder_and_its_tokenizer_are_loaded_from_a_local_folder(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "red": 2, "dog": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        tmp_path
    )
    torch.manual_seed(1)
    source = AutoModel.from_config(AutoConfig.for_model("bert", **SMALLER["bert"]))
    source.save_pretrained(tmp_path)
    config = tiny(preset("swin-minilm"))
    text = describe_text(dataclasses.replace(config.text, source=str(tmp_path), settings={}))
    model = build_model(config.replace(text=text), 30)
    assert load_pretrained_parts(model) == [f"text encoder: {tmp_path}"]
    assert torch.equal(
        model.text.encoder.embeddings.word_embeddings.weight, source.embeddings.word_embeddings.weight
    )
    ids, mask = HubCodec.from_source(str(tmp_path), 6).encode(["red dog", "blue"])
    assert ids[:, :2].tolist() == [[2, 3], [1, 0]]
    assert mask.sum(1).tolist() == [2, 1]


def test_a_missing_source_is_an_error_with_a_hint(tmp_path: Path) -> None:
    config = tiny(preset("swin-minilm"))
    missing = str(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="nothing"):
        describe_vision(dataclasses.replace(config.vision, source=missing, settings={}))
    model = build_model(config.replace(vision=dataclasses.replace(config.vision, source=missing)), 30)
    with pytest.raises(ArtifactError, match="nothing") as caught:
        load_pretrained_parts(model)
    assert "local folder" in (caught.value.hint or "")


def test_the_numbers_of_the_papers() -> None:
    for name in ("seqtr-darknet53", "partial-res-darknet53"):
        c = preset(name)
        assert (c.n_bins, c.d_model, c.n_heads, c.encoder_layers, c.decoder_layers, c.ffn_dim) == (
            1000,
            256,
            8,
            6,
            3,
            1024,
        )
        assert (c.text.word_dim, c.text.hidden, c.text.max_words, c.text.frozen_words) == (300, 512, 15, True)
        assert (c.fusion.kind, c.fusion.channels, c.vision.frozen) == ("bottom-up", 1024, "all-but-last-two")
        assert c.image == ImageConfig(640, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        assert c.semantics == "corrected"
    assert preset("partial-res-darknet53").cctf
    assert preset("partial-res-darknet53").pmca
    with pytest.raises(UsageError, match="seqtr-darknet35") as caught:
        preset("seqtr-darknet35")
    assert "seqtr-darknet53" in (caught.value.hint or "")


CONFIGS = {"train-rec": train_rec.Config, "train-res": train_res.Config, "pseudo-label": pseudo_label.Config,
           "resample-points": resample_points.Config}  # fmt: skip


FULL_SIZE = [name for name in recipe_names() if not name.startswith(("refshapes", "pipeline"))]


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_recipe_is_complete_and_valid(name: str) -> None:
    for stage in ("train-rec", "train-res"):
        config, origins = resolve(CONFIGS[stage], stage, {}, name, STAGES)
        recipe = {k: origins[k] for k in ("epochs", "lr", "optimiser", "schedule", "warmup_epochs", "clip", "ema_decay",
                                          "label_smoothing", "coordinate_spread", "end_weight", "jitter_min", "jitter_max")}  # fmt: skip
        assert "default" not in recipe.values()
        if stage == "train-rec":
            assert config.model in PRESETS


def test_the_published_recipe() -> None:
    rec, _ = resolve(train_rec.Config, "train-rec", {}, "partial-res-darknet53", STAGES)
    res, _ = resolve(train_res.Config, "train-res", {}, "partial-res-darknet53", STAGES)
    for config, epochs, decay in ((rec, 60, 50), (res, 90, 75)):
        assert (config.optimiser, config.lr, config.clip, config.ema_decay) == ("adam", 5e-4, 0.15, 0.999)
        assert (config.epochs, config.decay_epoch, config.warmup_epochs, config.schedule) == (
            epochs,
            decay,
            5.0,
            "step",
        )
        assert (config.jitter_min, config.jitter_max, config.label_smoothing) == (0.3, 1.4, 0.1)
        assert config.batch_images * config.expressions_per_image >= 128
    assert (rec.first_box_weight, res.end_weight, res.points) == (1.5, 0.1, 12)
    assert (res.sequence, res.task_token, res.text_in_memory, res.cctf, res.pmca) == (
        "contour",
        "learnable",
        "sentence",
        True,
        True,
    )
    multi, _ = resolve(train_res.Config, "train-res", {}, "seqtr-darknet53-multitask", STAGES)
    assert (multi.sequence, multi.task_token, multi.end_weight, multi.cctf) == (
        "multitask",
        "task-wise",
        1.0,
        False,
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_backbone_fits_the_small_model(name: str) -> None:
    small = f"{name}-small"
    model = build_model(preset(small), 8)
    assert load_pretrained_parts(model) == [f"backbone: the weights called {name} that come with seqres"]
    body = model.vision.body.state_dict()
    for key, value in shipped_backbone(name).items():
        torch.testing.assert_close(body[f"backbone.{key}"], value.to(body[f"backbone.{key}"].dtype))
