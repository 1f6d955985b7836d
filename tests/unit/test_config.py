"""Configuration fields: types, limits, choices, what is semantic; errors survive pickling."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest

from stages.config import (
    OptionType,
    check_ranges,
    coerce,
    config_dict,
    option,
    option_info,
    option_types,
    range_words,
    semantic_dict,
)
from stages.errors import ArtifactError, SeqresError, StaleOutputError, UsageError, did_you_mean
from stages.reporter import SilentReporter, TqdmReporter, number_words


@dataclass(frozen=True)
class Config:
    ratio: float = option(0.1, "share", min=0, max=1, min_open=True)
    epochs: int = option(5, "epochs", min=1)
    method: Literal["free", "box"] = option("box", "how")
    sizes: tuple[int, ...] = option((1, 2), "sizes", max=9)
    name: str | None = option(None, "name")
    task: str = option("zero", "token", choices=("zero", "learnable"))
    ema: bool = option(True, "average")
    device: str = option("auto", "device", semantic=False)

    def __post_init__(self) -> None:
        check_ranges(self)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": 1.5}, r"ratio must be in \(0, 1\], got 1\.5"),
        ({"ratio": 0}, r"ratio must be in \(0, 1\], got 0\.0"),
        ({"ratio": float("nan")}, "ratio must be a finite number, got nan"),
        ({"ratio": float("inf")}, "ratio must be a finite number, got inf"),
        ({"ratio": "0.1"}, "ratio must be a number, got '0.1'"),
        ({"ratio": True}, "ratio must be a number, got True"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 1.5}, r"epochs must be a whole number, got 1\.5"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"method": "boxx"}, "method must be one of free, box, got 'boxx'"),
        ({"task": "zer"}, "task must be one of zero, learnable, got 'zer'"),
        ({"sizes": (1, 10)}, "sizes must be at most 9, got 10"),
        ({"sizes": 3}, "sizes must be a list, got 3"),
        ({"sizes": ("a",)}, "sizes must be a whole number, got 'a'"),
        ({"name": 3}, "name must be a text, got 3"),
        ({"ema": 1}, "ema must be true or false, got 1"),
    ],
)
def test_values_that_are_not_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        Config(**values)


def test_allowed_values_and_conversions() -> None:
    config = Config(ratio=1, sizes=[3, 4], name=None, method="free")  # type: ignore[arg-type]
    assert config.ratio == 1.0
    assert isinstance(config.ratio, float)
    assert config.sizes == (3, 4)


def test_a_near_choice_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        Config(method="boxx")  # type: ignore[arg-type]
    assert caught.value.hint == "did you mean box?"


def test_the_semantic_part_leaves_out_how_it_is_run() -> None:
    assert config_dict(Config())["sizes"] == [1, 2]
    assert set(config_dict(Config())) - set(semantic_dict(Config())) == {"device"}


def test_types_are_read_from_annotations() -> None:
    kinds = option_types(Config)
    assert kinds["method"] == OptionType(str, choices=("free", "box"))
    assert kinds["sizes"] == OptionType(int, is_tuple=True)
    assert kinds["name"] == OptionType(str, optional=True)


def test_types_that_a_flag_cannot_hold_are_refused() -> None:
    @dataclass(frozen=True)
    class Bad:
        table: dict[str, int] = option(None, "a table")  # noqa: RUF009

    with pytest.raises(TypeError, match="option 'table' has the unsupported type"):
        option_types(Bad)


def test_a_field_without_option_is_refused() -> None:
    @dataclass(frozen=True)
    class Bad:
        x: int = 1

    with pytest.raises(TypeError, match="field 'x' was not made with"):
        option_info(fields(Bad)[0])


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"min": 0, "max": 1}, "in [0, 1]"),
        ({"min": 0, "max": 1, "min_open": True, "max_open": True}, "in (0, 1)"),
        ({"min": 0, "min_open": True}, "above 0"),
        ({"max": 9}, "at most 9"),
        ({"max": 9, "max_open": True}, "below 9"),
        ({}, ""),
    ],
)
def test_limits_in_words(limits: dict[str, Any], words: str) -> None:
    info = option(0, "x", **limits).metadata["option"]
    assert range_words(info) == words


def test_none_only_where_it_is_allowed() -> None:
    assert coerce("name", None, OptionType(str, optional=True)) is None
    with pytest.raises(UsageError, match="name must be a text, got None"):
        coerce("name", None, OptionType(str))


@pytest.mark.parametrize("kind", [SeqresError, UsageError, ArtifactError, StaleOutputError])
def test_errors_come_back_whole_from_a_worker(kind: type[SeqresError]) -> None:
    back = pickle.loads(pickle.dumps(kind("bad", facts=["one", "two"], hint="do this")))
    assert type(back) is kind
    assert (back.message, back.facts, back.hint) == ("bad", ("one", "two"), "do this")
    assert str(back) == "bad\n  one\n  two"


def test_nothing_near_is_nothing_meant() -> None:
    assert did_you_mean("qqq", ["ratio", "count"]) is None


def test_reporters_for_library_use(capsys: pytest.CaptureFixture[str]) -> None:
    for reporter in (SilentReporter(), TqdmReporter()):
        with reporter.progress("work", 2) as task:
            task.advance(2, loss=0.5)
        reporter.info("note")
        reporter.warn("careful")
    out, err = capsys.readouterr()
    assert out == ""
    assert "note" in err
    assert "warning: careful" in err
    assert number_words({"loss": 0.12345, "lr": 5e-4}) == "loss 0.1235  lr 0.0005"


def test_an_added_field_counts_only_when_it_is_set() -> None:
    @dataclass(frozen=True)
    class Later(Config):
        strategy: str = option("random", "how to choose", added=True)

    assert semantic_dict(Later()) == semantic_dict(Config())
    assert semantic_dict(Later(strategy="diverse")) == {**semantic_dict(Config()), "strategy": "diverse"}
    assert config_dict(Later())["strategy"] == "random"
