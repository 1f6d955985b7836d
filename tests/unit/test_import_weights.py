"""import-weights and export-weights on a narrow released model: round trips, semantics, and named mistakes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages import export_weights, import_weights
from stages.artifacts import RunOptions, open_artifact
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.models import darknet
from stages.models.build import build_model
from stages.models.config import FusionConfig, ImageConfig, ModelConfig, TextConfig, VisionConfig
from stages.models.presets import PRESETS
from stages.weights.darknet import layout
from stages.weights.model_file import load_model
from stages.weights.released_names import released_name

WORDS = ["PAD", "UNK", "CLS", "left", "man", "red", "dog"]
NARROW = ModelConfig(
    n_points=5, n_bins=20, d_model=32, n_heads=8, encoder_layers=2, decoder_layers=2, ffn_dim=48, semantics="release",
    image=ImageConfig(size=64, multiple=32, mean=(0, 0, 0), std=(1, 1, 1)),
    vision=VisionConfig(kind="darknet53", frozen="all-but-last-two"),
    fusion=FusionConfig(kind="bottom-up", channels=24), text=TextConfig(word_dim=6, hidden=12, packed=False),
)  # fmt: skip
KINDS = {
    "seqtr box": NARROW,
    "seqtr contour": NARROW.replace(sequence="contour"),
    "seqtr multitask": NARROW.replace(sequence="multitask", task_token="task-wise"),
    "partial-res contour": NARROW.replace(
        sequence="contour", task_token="learnable", text_in_memory="sentence", cctf=True, pmca=True
    ),
}


@pytest.fixture(autouse=True)
def narrow_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """DarkNet-53 at a sixteenth of its width and with single blocks: the same modules, a thousandth of the numbers."""

    def narrow(kind: str, *numbers: int) -> tuple[Any, ...]:
        if kind != "conv":
            return kind, numbers[0] // 16, 1
        c_in, c_out, kernel, stride = numbers
        return kind, 3 if c_in == 3 else c_in // 16, c_out // 16, kernel, stride

    monkeypatch.setattr(darknet, "LAYERS", tuple(narrow(*layer) for layer in darknet.LAYERS))
    monkeypatch.setattr(darknet.DarkNet53, "channels", (16, 32, 64))


def released_state(config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """A random model's weights under their released names and shapes."""
    torch.manual_seed(seed)
    model = build_model(config, len(WORDS))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.nn.init.normal_(model.predictor[-1].weight, std=0.5)
    state = {}
    for name, value in model.state_dict().items():
        theirs = released_name(name, multitask=config.sequence == "multitask")
        state[theirs] = value[..., None, None] if theirs.endswith("input_proj.conv.weight") else value
    return state


def checkpoint(tmp_path: Path, state: dict[str, Tensor], **more: Any) -> Path:
    (tmp_path / "token_to_ix.pkl").write_bytes(pickle.dumps({w: i for i, w in enumerate(WORDS)}))
    path = tmp_path / "released.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 4, **more}, path)
    return path


def settings(tmp_path: Path, **more: Any) -> import_weights.Config:
    return import_weights.Config(vocabulary=str(tmp_path / "token_to_ix.pkl"), image_size=64, **more)


def imported(tmp_path: Path, state: dict[str, Tensor], **more: Any) -> Path:
    out = tmp_path / "model.h5"
    import_weights.run(settings(tmp_path, **more), source=checkpoint(tmp_path, state), out=out)
    return out


@torch.inference_mode()
def logits(path: Path, **more: Any) -> Tensor:
    """Teacher-forced logits of two sentences on two pictures of different size."""
    model = load_model(path, **more).model
    g = torch.Generator().manual_seed(5)
    images = torch.rand(2, 3, 64, 96, generator=g)
    targets = torch.randint(0, 21, (2, model.layout.length), generator=g)
    words = torch.tensor([[3, 4, 5, 0, 0], [6, 3, 0, 0, 0]])
    return model(
        images, torch.tensor([[64, 96], [50, 40]]), torch.arange(2), words, words > 0, targets
    ).logits


@pytest.mark.parametrize("name", KINDS)
def test_the_architecture_is_read_from_the_tensors(tmp_path: Path, name: str) -> None:
    wanted = KINDS[name]
    path = imported(tmp_path, released_state(wanted), pixel_range="0-1")
    found = load_model(path).config
    if wanted.sequence == "box":
        wanted = wanted.replace(n_points=found.n_points)  # a box says nothing about contours
    assert found == wanted.replace(semantics="release")
    with open_artifact(path) as a:
        assert a.kind == ("rec_model" if found.sequence == "box" else "res_model")
        assert a.json("vocabulary")["words"] == WORDS


@pytest.mark.parametrize("name", KINDS)
def test_import_export_import_is_bit_identical(tmp_path: Path, name: str) -> None:
    first = imported(tmp_path, released_state(KINDS[name]))
    export_weights.run(export_weights.Config(), model=first, out=tmp_path / "folder")
    import_weights.run(import_weights.Config(), source=tmp_path / "folder", out=tmp_path / "again.h5")
    assert torch.equal(logits(first), logits(tmp_path / "again.h5"))
    with open_artifact(first) as a, open_artifact(tmp_path / "again.h5") as b:
        assert a.names() == b.names()
        for part in ("architecture", "vocabulary", "preprocessing", "history"):
            assert a.json(part) == b.json(part)
    plain = load_file(tmp_path / "folder" / "model.safetensors")
    assert "predictor.4.weight" in plain
    description = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert description["architecture"]["semantics"] == "release"


def test_raw_and_averaged_weights_both_survive(tmp_path: Path) -> None:
    state, average = released_state(NARROW, 0), released_state(NARROW, 1)
    parameters_only = {k: v for k, v in average.items() if "running_" not in k and "num_batches" not in k}
    source = checkpoint(
        tmp_path, state, ema_state_dict={f"module.{k}": v for k, v in parameters_only.items()}
    )
    import_weights.run(settings(tmp_path), source=source, out=tmp_path / "a.h5")
    export_weights.run(export_weights.Config(), model=tmp_path / "a.h5", out=tmp_path / "folder")
    import_weights.run(import_weights.Config(), source=tmp_path / "folder", out=tmp_path / "b.h5")
    for weights in ("raw", "ema"):
        assert torch.equal(
            logits(tmp_path / "a.h5", weights=weights), logits(tmp_path / "b.h5", weights=weights)
        )
    assert not torch.equal(logits(tmp_path / "a.h5", weights="raw"), logits(tmp_path / "a.h5", weights="ema"))
    loaded = load_model(tmp_path / "a.h5", weights="ema").model
    mean = loaded.fusion.top_project[0].bn.running_mean
    assert torch.equal(mean, state["fusion.top_project.0.bn.running_mean"])


def test_the_pixel_range_of_a_released_checkpoint_is_bytes(tmp_path: Path) -> None:
    state = released_state(NARROW)
    config = load_model(imported(tmp_path, state)).config
    assert config.image.std == pytest.approx((1 / 255,) * 3)
    (tmp_path / "model.h5").unlink()
    assert load_model(imported(tmp_path, state, pixel_range="0-1")).config.image.std == (1.0, 1.0, 1.0)


def test_a_task_prompt_beside_a_box_is_reported(tmp_path: Path) -> None:
    config = NARROW.replace(text_in_memory="sentence", cctf=True, pmca=True)
    state = {**released_state(config), "head.transformer.task_prompt.weight": torch.ones(1, 32)}
    result = import_weights.run(settings(tmp_path), source=checkpoint(tmp_path, state), out=tmp_path / "a.h5")
    assert result.summary["unused"] == ["head.transformer.task_prompt.weight"]
    found = load_model(tmp_path / "a.h5").config
    assert (found.cctf, found.pmca, found.text_in_memory, found.task_token) == (
        True,
        True,
        "sentence",
        "zero",
    )


def test_every_wrong_tensor_is_listed_by_its_released_name(tmp_path: Path) -> None:
    state = released_state(KINDS["partial-res contour"])
    del state["head.predictor.1.fc.weight"]
    state["fusion.extra.weight"] = torch.ones(2)
    state["someone.else"] = torch.ones(2)
    state["head.transformer.encoder.layers.1.norm1.bias"] = torch.ones(31)
    with pytest.raises(ArtifactError, match="4 tensors differ") as caught:
        imported(tmp_path, state)
    text = "\n".join(caught.value.facts)
    assert "missing: head.predictor.1.fc.weight" in text
    assert "unknown: fusion.extra.weight" in text
    assert "unknown: someone.else" in text
    assert "shape of head.transformer.encoder.layers.1.norm1.bias: (31,), expected (32,)" in text
    assert not (tmp_path / "model.h5").exists()
    with pytest.raises(ArtifactError, match="no released SeqTR") as caught:
        imported(tmp_path, {"conv1.weight": torch.ones(3)})
    assert "unknown: conv1.weight" in caught.value.facts


def test_words_must_fit_the_table_or_come_with_vectors(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, released_state(NARROW))
    out = tmp_path / "a.h5"
    with pytest.raises(UsageError, match="not given") as caught:
        import_weights.run(import_weights.Config(), source=source, out=out)
    assert "--vocabulary" in (caught.value.hint or "")
    words = {w: i for i, w in enumerate([*WORDS, "cat"])}
    (tmp_path / "token_to_ix.pkl").write_bytes(pickle.dumps(words))
    with pytest.raises(UsageError, match="7 words, the vocabulary has 8"):
        import_weights.run(settings(tmp_path), source=source, out=out)
    vectors = np.random.default_rng(0).standard_normal((8, 6))
    np.savez(tmp_path / "word_emb.npz", word_emb=vectors)
    config = settings(tmp_path, word_vectors=str(tmp_path / "word_emb.npz"))
    assert import_weights.run(config, source=source, out=out).summary["word_table"] == "word vectors"
    table = load_model(out).model.text.embedding.weight
    assert torch.equal(table, torch.from_numpy(vectors).float())


def test_up_to_date_stale_and_dry(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, released_state(NARROW))
    out, folder = tmp_path / "a.h5", tmp_path / "folder"
    dry = RunOptions(dry_run=True)
    assert import_weights.run(settings(tmp_path), source=source, out=out, options=dry).status == "would-run"
    assert import_weights.run(settings(tmp_path), source=source, out=out).status == "written"
    assert import_weights.run(settings(tmp_path), source=source, out=out).status == "up-to-date"
    with pytest.raises(StaleOutputError, match=r"a\.h5"):
        import_weights.run(settings(tmp_path, max_words=20), source=source, out=out)
    export, nothing = export_weights.run, export_weights.Config()
    assert export(nothing, model=out, out=folder, options=dry).status == "would-run"
    assert not folder.exists()
    assert export(nothing, model=out, out=folder).status == "written"
    assert export(nothing, model=out, out=folder).status == "up-to-date"
    import_weights.run(
        settings(tmp_path, max_words=20), source=source, out=out, options=RunOptions(force=True)
    )
    with pytest.raises(StaleOutputError, match="another model"):
        export(nothing, model=out, out=folder)
    assert export(nothing, model=out, out=folder, options=RunOptions(force=True)).status == "written"
    (folder / "README.md").write_text("mine")
    with pytest.raises(StaleOutputError, match="holds files that seqres did not write") as caught:
        export(nothing, model=out, out=folder, options=RunOptions(force=True))
    assert caught.value.facts == ("README.md",) and (folder / "README.md").read_text() == "mine"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(StaleOutputError, match="no exported model"):
        export(nothing, model=out, out=tmp_path / "mine", options=RunOptions(force=True))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


@pytest.mark.parametrize(
    "damage",
    [
        "truncate", "rename", "reshape", "no config", "newer", "other kind", "escape", "nested", "many digits", "no layers",
        "no backbone", "huge", "history",
    ],
)  # fmt: skip
def test_a_damaged_folder_is_named(tmp_path: Path, damage: str) -> None:
    model = imported(tmp_path, released_state(NARROW))
    folder = tmp_path / "folder"
    export_weights.run(export_weights.Config(), model=model, out=folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    state, description = load_file(weights), json.loads(config.read_text())
    words = r"model\.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage in ("rename", "reshape"):
        value = state.pop("decoder.norm.bias")
        state["decoder.norm.offset" if damage == "rename" else "decoder.norm.bias"] = (
            value if damage == "rename" else value[:5].clone()
        )
        save_file(state, weights)
    elif damage == "no config":
        config.unlink()
        words = r"config\.json"
    elif damage in ("nested", "many digits"):
        odd = "[" * 100_000 if damage == "nested" else "9" * 5000
        config.write_text(config.read_text().replace('"version": 1', f'"version": {odd}'))
        words = "no JSON that can be read"
    else:
        architecture, settings = (
            description["architecture"],
            {"model_type": "resnet", "layer_type": ["basic"]},
        )
        vision = {**architecture["vision"], "kind": "auto"}
        change = {
            "no layers": ("architecture", {**architecture, "vision": {**vision, "settings": settings}}),
            "no backbone": ("architecture", {**architecture, "vision": {**vision, "settings": {}}}),
            "huge": ("architecture", {**architecture, "d_model": 16_384, "encoder_layers": 128}),
            "history": ("history", 3),
            "newer": ("version", 99),
            "other kind": ("kind", "dataset"),
            "escape": ("weights", {"weights": "../x"}),
        }[damage]
        config.write_text(json.dumps({**description, change[0]: change[1]}))
        words = {
            "newer": "99", "other kind": "incomplete", "escape": r"\.\./x", "no layers": "no model can be built",
            "no backbone": "no model can be built", "huge": "do not fit", "history": "config.json.history",
        }[damage]  # fmt: skip
    with pytest.raises(ArtifactError, match=words) as caught:
        import_weights.run(import_weights.Config(), source=folder, out=tmp_path / "b.h5")
    if damage in ("rename", "reshape"):
        assert any("decoder.norm.bias" in fact for fact in caught.value.facts)


def test_a_darknet_trunk_becomes_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "seqtr-darknet53", NARROW.replace(semantics="corrected"))
    trunk = darknet.DarkNet53()
    numbers = np.random.default_rng(0).uniform(0.1, 1.0, sum(t.numel() for _, t in layout(trunk)) + 3)
    header = np.array([0, 2, 0, 1, 0], "<i4").tobytes()
    (tmp_path / "trunk.weights").write_bytes(header + numbers.astype("<f4").tobytes())
    (tmp_path / "token_to_ix.pkl").write_bytes(pickle.dumps({w: i for i, w in enumerate(WORDS)}))
    result = import_weights.run(settings(tmp_path), source=tmp_path / "trunk.weights", out=tmp_path / "a.h5")
    assert result.summary["numbers_left_over"] == 3
    loaded = load_model(tmp_path / "a.h5")
    first = loaded.model.vision.body.darknet[0].bn.bias
    assert torch.equal(first, torch.from_numpy(numbers[:2]).float())
    assert loaded.config.semantics == "corrected"
    assert loaded.config.image.std == (1.0, 1.0, 1.0)
    with pytest.raises(UsageError, match="no DarkNet-53 trunk"):
        import_weights.run(
            settings(tmp_path, model="swin-minilm"), source=tmp_path / "trunk.weights", out=tmp_path / "b.h5"
        )
