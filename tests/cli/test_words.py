"""One word for one thing (docs/glossary.md): help and messages use it, former names of options are still taken."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from seqres_cli.commands import COMMANDS, STAGES
from stages.artifacts.job import RunOptions, StageJob
from stages.config import Panel, check_ranges, former_flags, option, option_info, semantic_dict
from stages.errors import StaleOutputError, UsageError
from tests.cli.conftest import fill_split

Seqres = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
FORMER = re.compile(
    r"\b(drawn|redraw\w*|outlines?|grounding|second looks?|sentences?|phrases?|marked outline|true (box|mask|contour))\b",
    re.IGNORECASE,
)
# not our words: a value of --text-in-memory, ids of REFER, and what others call things
EXEMPT = re.compile(
    r"none\|sentence\|words|\(or phrase\)|phrase grounding|sentence (ids?\b|\{?\d|$)|\(sentence |sent_id",
    re.IGNORECASE,
)
NOT_SHOWN = ("stages/data/readers/refer.py",)  # reports in REFER's own terms


@pytest.mark.parametrize("name", COMMANDS)
def test_help_uses_the_words_of_the_glossary(seqres: Seqres, name: str) -> None:
    text = EXEMPT.sub("", " ".join(seqres(name, "--help").out.split()))
    assert FORMER.findall(text) == []


def _texts_for_people() -> Iterator[tuple[str, str]]:
    """Texts given to errors and reporters: (place, text)."""
    for path in sorted([*ROOT.glob("stages/**/*.py"), *ROOT.glob("seqres_cli/**/*.py")]):
        if str(path.relative_to(ROOT)) in NOT_SHOWN:
            continue
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if not (name.endswith("Error") or name in ("info", "warn", "progress", "Invalid")):
                continue
            for node in ast.walk(call):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_messages_use_the_words_of_the_glossary() -> None:
    assert [(place, text) for place, text in _texts_for_people() if FORMER.search(EXEMPT.sub("", text))] == []


# ---- former names ----


@pytest.mark.parametrize(
    ("stage", "former", "present"),
    [
        ("evaluate", ["--outline", "marked"], {"contour": "auxiliary"}),
        ("evaluate", ["--outline=written"], {"contour": "decoder"}),
        ("evaluate", ["--contour", "marked"], {"contour": "auxiliary"}),
        ("predict", ["--outline", "auxiliary"], {"contour": "auxiliary"}),
        ("train-res", ["--grounding", "2", "--grounding-weight", "3"], {"auxiliary_mask": 2, "auxiliary_mask_weight": 3.0}),
        ("train-rec", ["--sentences-per-image", "2"], {"expressions_per_image": 2}),
        ("refine-masks", ["--sam", "somewhere"], {"segmenter": "somewhere"}),
        ("refine-masks", ["--min-outline-iou", "0.25"], {"min_contour_iou": 0.25}),
        ("visualize-attention", ["--sentences", "2", "--sentences", "5"], {"expressions": [2, 5]}),
    ],
)  # fmt: skip
def test_former_flags_are_taken(
    seqres: Seqres, stage: str, former: list[str], present: dict[str, Any]
) -> None:
    done = seqres(stage, *former, "--print-config", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["config"][stage].items() >= present.items()


@pytest.mark.parametrize("name", STAGES)
def test_former_names_are_taken_in_files_and_shown_nowhere(seqres: Seqres, name: str, tmp_path: Path) -> None:
    config_class = COMMANDS[name].load().Config
    shown = seqres(name, "--help").out
    for field in dataclasses.fields(config_class):
        info = option_info(field)
        if info.formerly is None:
            continue
        assert f"--{info.formerly.replace('_', '-')} " not in shown
        value = info.stored(field.default)
        if value in (None, ()):
            continue
        (tmp_path / "run.toml").write_text(f"[{name}]\n{info.formerly} = {json.dumps(value)}\n")
        done = seqres(name, "--config", tmp_path / "run.toml", "--print-config", "--json")
        assert done.code == 0, done.err
        record = json.loads(done.out)
        assert record["config"][name][field.name] == field.default
        assert str(tmp_path / "run.toml") in record["origins"][field.name]


def test_a_name_and_its_former_name_in_one_file_are_set_twice(seqres: Seqres, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[evaluate]\noutline = "marked"\ncontour = "decoder"\n')
    done = seqres("evaluate", "--config", tmp_path / "run.toml", "--print-config")
    assert (done.code, "is set twice" in done.err) == (2, True)


@dataclass(frozen=True)
class Before:
    outline: Literal["written", "marked"] = option("written", "which")
    seed: int = option(0, "seed")


@dataclass(frozen=True)
class Now:
    contour: Literal["decoder", "auxiliary"] = option(
        "decoder", "which", formerly="outline", former_values={"decoder": "written", "auxiliary": "marked"}
    )
    seed: int = option(0, "seed")

    def __post_init__(self) -> None:
        check_ranges(self)


def _job(config: Any, out: Path) -> StageJob:
    return StageJob(stage="toy", version=1, config=config, kind="split", out=out, options=RunOptions())


def test_a_file_made_under_the_former_name_is_up_to_date_and_differences_are_told_in_present_words(
    tmp_path: Path,
) -> None:
    job = _job(Before(outline="marked"), tmp_path / "s.h5")
    with job.writer() as writer:
        fill_split(writer)
    assert semantic_dict(Now(contour="auxiliary")) == semantic_dict(Before(outline="marked"))
    settled = _job(Now(contour="marked"), tmp_path / "s.h5").settled()  # type: ignore[arg-type]
    assert settled is not None
    assert settled.status == "up-to-date"
    with pytest.raises(StaleOutputError) as caught:
        _job(Now(), tmp_path / "s.h5").settled()
    assert caught.value.facts == ("contour: auxiliary -> decoder",)
    with pytest.raises(UsageError, match="contour must be one of decoder, auxiliary, got 'mark'"):
        Now(contour="mark")  # type: ignore[arg-type]


def test_provenance_has_present_names(tmp_path: Path) -> None:
    record = _job(Now(contour="auxiliary"), tmp_path / "s.h5").provenance()["config"]
    assert record["contour"] == {"value": "auxiliary", "origin": "call", "semantic": True}


# ---- panels ----


def test_options_of_training_stand_under_headings(seqres: Seqres) -> None:
    lines = seqres("train-res", "--help").out.splitlines()
    headings = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Inputs and output", "Set most often", "Sequence and model", "Training data and start", "Optimisation",
        "Augmentation", "Crop refinement", "Validation", "Detectors (MDETR, SiRi)", "Release compatibility", "Run",
    ]  # fmt: skip
    assert {*headings} <= {*typing.get_args(Panel)}
    often = lines[lines.index("Set most often:") + 1 : lines.index("Sequence and model:")]
    assert [line.split()[0] for line in often if line.startswith("  --")] == [
        "--epochs", "--batch-images", "--lr", "--seed", "--device", "--zoom",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["train-res", "predict", "reproduce"])
def test_a_narrow_terminal_has_texts_below_their_flags(
    seqres: Seqres, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "52")
    lines = seqres(name, "--help").out.partition("Examples:")[0].splitlines()
    assert [line for line in lines if len(line) > 52 and not line.lstrip().startswith("--")] == []
    assert any(line.startswith("      ") for line in lines)


def test_a_wide_terminal_has_a_line_for_most_options(seqres: Seqres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    lines = (
        seqres("train-res", "--help")
        .out.partition("Inputs and output")[2]
        .partition("Examples:")[0]
        .splitlines()
    )
    rows = [line for line in lines if line.startswith("  -")]
    assert len(rows) > 60
    assert sum(line.startswith("   ") for line in lines) < len(rows) / 2


def test_every_former_name_is_of_one_option() -> None:
    for name in STAGES:
        former = former_flags(COMMANDS[name].load().Config)
        assert not {*former} & {*former.values()}, name
