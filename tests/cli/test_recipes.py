"""The recipe book: files that extend each other, recipes in a file, and what people get wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqres_cli.commands import COMMANDS, STAGES
from seqres_cli.config_file import resolve
from stages.config import config_dict
from stages.configs import recipe_names
from stages.errors import UsageError

Seqres = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train_res(recipe: str, **flags: Any) -> tuple[dict[str, Any], dict[str, str]]:
    config, origins = resolve(COMMANDS["train-res"].load().Config, "train-res", flags, recipe, STAGES)
    return config_dict(config), origins


def test_a_file_builds_on_a_shipped_recipe_and_flags_win(seqres: Seqres) -> None:
    Path("my.toml").write_text(
        'extends = "refshapes-smoke:naive"\n[training]\nepochs = 7\n[train-res]\nclip = 0.1\nlr = 0.5\n'
    )
    done = seqres("train-res", "--config", "my.toml", "--lr", "0.25", "--print-config", "--json")
    record = json.loads(done.out)
    config, origins = record["config"]["train-res"], record["origins"]
    wanted = {
        "lr": (0.25, "flag"),
        "clip": (0.1, "file my.toml"),
        "epochs": (7, "file my.toml"),
        "steps_per_epoch": (60, "recipe refshapes-smoke:naive"),
        "task_token": ("zero", "recipe refshapes:naive"),
        "warmup_epochs": (0.1, "recipe refshapes-smoke"),
        "mirror": (0.0, "default"),
    }
    assert {key: (config[key], origins[key]) for key in wanted} == wanted
    shown = seqres("train-res", "--config", "my.toml", "--print-config").out.splitlines()
    assert any(line.startswith("clip = 0.1 ") and line.endswith("# file my.toml") for line in shown)


def test_extends_is_relative_to_its_own_file() -> None:
    Path("lab").mkdir()
    Path("lab/base.toml").write_text("[train-res]\nepochs = 3\nclip = 0.1\n")
    Path("lab/my.toml").write_text('extends = "base.toml"\n[train-res]\nclip = 0.2\n')
    config, origins = train_res("lab/my.toml")
    assert (config["epochs"], origins["epochs"]) == (3, "file lab/base.toml")
    assert (config["clip"], origins["clip"]) == (0.2, "file lab/my.toml")


def test_recipes_of_a_file_win_over_its_tables_and_are_extended_by_later_files() -> None:
    Path("base.toml").write_text(
        "[train-res]\nlr = 0.1\n[recipe.slow]\ntrain-res = { lr = 0.01, epochs = 2 }\n"
        '[recipe.slower]\nextends = "slow"\ntrain-res = { lr = 0.001 }\n'
    )
    Path("my.toml").write_text(
        'extends = "base.toml"\n[train-res]\nlr = 0.2\n[recipe]\nslow.train-res.epochs = 5\n'
    )
    for name, lr, epochs in (("my.toml", 0.2, 10), ("my.toml:slow", 0.01, 5), ("my.toml:slower", 0.001, 5)):
        config, _ = train_res(name)
        assert (config["lr"], config["epochs"]) == (lr, epochs), name


def test_a_number_that_a_recipe_sets_can_be_unset() -> None:
    Path("my.toml").write_text('extends = "refshapes-smoke:naive"\n[train-res]\nsteps-per-epoch = "none"\n')
    assert train_res("my.toml")[0]["steps_per_epoch"] is None


def test_a_file_wins_over_a_shipped_recipe_of_its_name() -> None:
    Path("swin-minilm").write_text("[train-res]\nepochs = 3\n")
    assert train_res("swin-minilm")[0]["epochs"] == 3
    Path("swin-minilm").unlink()
    Path("swin-minilm").mkdir()  # a folder of results is no recipe
    assert train_res("swin-minilm")[0]["epochs"] == 60


@pytest.mark.parametrize(
    ("asked", "message", "more"),
    [
        ("swin-minlm", "no such file: swin-minlm", "did you mean swin-minilm?"),
        ("refshapes-smoke-naive", "no such file: refshapes-smoke-naive", "did you mean refshapes-smoke:naive?"),
        ("refshapes-smoke:naiv", "no such recipe: refshapes-smoke:naiv", "did you mean refshapes-smoke:naive?"),
        ("swin-minilm:naive", "no such recipe: swin-minilm:naive", "recipes of swin-minilm: none"),
        ("self.toml", "self.toml extends itself", "self.toml extends self.toml"),
        ("a.toml", "a.toml extends itself", "a.toml extends b.toml extends a.toml"),
        ("lost.toml", "no such file: refshapes-smok", "did you mean refshapes-smoke?"),
        ("lost.toml", "no such file: refshapes-smok", "lost.toml extends it"),
        ("list.toml", "extends in list.toml must be the name of a recipe or file, got ['x']", ""),
        ("circle.toml:x", "circle.toml:x extends itself", "x extends y extends x"),
        ("circle.toml:z", "circle.toml:z extends 'w', which is none", "recipes of circle.toml: x, y, z"),
        ("stage.toml", "stage.toml has a table for the unknown stage 'train-ress'", "did you mean [recipe.x.train-res]?"),
        ("key.toml:x", "unknown key 'epoch' in [recipe.x.train-res] of key.toml", "did you mean epochs?"),
        ("range.toml", "lr must be above 0, got 0.0", "set in [training] of range.toml"),
        ("word.toml", "word.toml has the key 'extend' outside of any table", "did you mean extends?"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_what_was_meant(asked: str, message: str, more: str) -> None:
    files = {
        "self": 'extends = "self.toml"',
        "a": 'extends = "b.toml"',
        "b": 'extends = "a.toml"',
        "lost": 'extends = "refshapes-smok"',
        "list": 'extends = ["x"]',
        "circle": '[recipe]\nx.extends = "y"\ny.extends = "x"\nz.extends = "w"',
        "stage": "[recipe.x]\ntrain-ress = { lr = 0.1 }",
        "key": "[recipe.x]\ntrain-res = { epoch = 3 }",
        "range": "[training]\nlr = 0",
        "word": 'extend = "a.toml"',
    }
    for name, text in files.items():
        Path(f"{name}.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        train_res(asked)
    error = caught.value
    assert error.message == message
    assert more in "\n".join([*error.facts, f"{error.hint}"])


def test_every_recipe_can_be_read_by_every_stage() -> None:
    for name in recipe_names():
        for stage in (
            "prepare-data",
            "train-rec",
            "train-res",
            "pseudo-label",
            "resample-points",
            "evaluate",
        ):
            resolve(COMMANDS[stage].load().Config, stage, {}, name, STAGES)


def test_the_roles_of_refshapes_have_a_recipe_at_every_scale() -> None:
    roles = [
        "naive",
        "task-token",
        "cctf",
        "pmca",
        "pmca-all",
        "full",
        "multitask",
        "multitask-from-rec",
        "mdetr",
        "mdetr-published",
        "siri",
        "siri-control",
    ]
    steps = ["naive", "first", "final", "full"]
    for scale in ("tiny", "smoke", "standard"):
        assert {f"refshapes-{scale}:{role}" for role in roles} <= set(recipe_names())
        assert {f"pipeline-{scale}:{step}" for step in steps} <= set(recipe_names())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[train-res]\nepochs = " + "9" * 5000, "is not valid TOML"),
        ("[train-res]\nepochs = " + "[" * 5000, "is not valid TOML"),
        ("[train-res]\nepochs = " + "[" * 100 + "]" * 100, "nested too deeply"),
        ("[train-res]\nepochs = 0x" + "f" * 6000, "epochs must be a whole number of at most 64 bits"),
        ("[train-res]\nlr = 0x" + "f" * 6000, "lr must be a number, got a number of"),
        ("[train-res]\ndevice = 0x" + "f" * 6000, "device must be a text, got a number of"),
        ("recipe = 0x" + "f" * 6000, "must be a table"),
        ("extends = 0x" + "f" * 6000, "must be the name of a recipe or file, got a number of"),
        ("[train-res]\n" + "k" * 90_000 + " = 1", "unknown key"),
        ('extends = "' + "x" * 90_000 + '"', "must be the name of a recipe or file, got 'xxx"),
        ('extends = "' + "x" * 300 + '"', "cannot read x+: file name too long"),
        ('extends = "~no-such-person/x"', "no such file: ~no-such-person/x"),
        ('[recipe]\na.extends = "' + "x" * 90_000 + '"', "my.toml:a extends 'xxx.*, which is none"),
    ],
    ids=str.__len__,
)
def test_values_without_end_are_told_in_a_line(text: str, words: str) -> None:
    Path("my.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        train_res("my.toml:a" if "[recipe]" in text else "my.toml")
    assert len("".join([caught.value.message, *caught.value.facts])) < 1000


def test_a_pipe_and_a_folder_are_no_recipes() -> None:
    os.mkfifo("pipe.toml")
    Path("folder.toml").mkdir()
    for name in ("pipe.toml", "folder.toml"):
        with pytest.raises(UsageError, match=r"is no regular file|is a folder"):
            train_res(name)
