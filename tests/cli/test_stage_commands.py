"""A command made from a Config: flags, inputs, TOML, caching, results, on a stage made for the test."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqres_cli.output import RichReporter

Seqres = Callable[..., Any]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_written_then_up_to_date_then_refused(seqres: Seqres, stage: Any, data: Path) -> None:
    first = seqres("toy-stage", "--dataset", data, "--out", "out.h5")
    assert (first.code, first.err) == (0, "")
    lines = first.out.splitlines()
    assert lines[0].startswith("wrote out.h5 in ")
    assert lines[1:] == ["  n      3", "  score  0.5"]
    again = seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--on-device", "cuda")
    assert again.code == 0
    assert again.out.startswith("up to date: out.h5\n  n      3")
    stale = seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--ratio", "0.5")
    assert (stale.code, stale.out) == (3, "")
    assert stale.err == (
        "error: out.h5 exists and was made from something else\n"
        "  ratio: 0.1 -> 0.5\n"
        "\n"
        "hint: make it again with --force, or choose another --out\n"
    )
    assert seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--ratio", "0.5", "--force").code == 0


def test_json_is_one_object_on_stdout(seqres: Seqres, stage: Any, data: Path) -> None:
    done = seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--json")
    result = json.loads(done.out)
    assert result["stage"] == "toy-stage"
    assert result["status"] == "written"
    assert result["path"] == "out.h5"
    assert len(result["digest"]) == 64
    assert result["summary"] == {"n": 3, "score": 0.5}
    again = json.loads(seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--json").out)
    assert (again["status"], again["digest"]) == ("up-to-date", result["digest"])
    stale = seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--json", "--seed", 1)
    error = json.loads(stale.out)["error"]
    assert error["type"] == "StaleOutputError"
    assert error["exit_code"] == stale.code == 3
    assert error["facts"] == ["seed: 0 -> 1"]
    assert "error: out.h5 exists" in stale.err


def test_a_dry_run_says_whether_and_why(seqres: Seqres, stage: Any, data: Path) -> None:
    done = seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--dry-run")
    assert (done.code, done.out) == (0, "would run toy-stage: out.h5 does not exist\n")
    assert not Path("out.h5").exists()


def test_every_flag_reaches_the_configuration(seqres: Seqres, stage: Any, data: Path) -> None:
    done = seqres(
        "toy-stage", "--dataset", data, "--out", "out.h5", "--ratio", "0.25", "--count", "7",
        "--strategy", "list", "--splits", "val", "--splits", "testA", "--by-image",
        "--comment", "ü [x]", "--seed", "3", "--resume", "--split", "other.h5", "--on-device", "cuda:1",
    )  # fmt: skip
    assert done.code == 0, done.err
    config = stage.arguments["config"]
    assert (config.ratio, config.count, config.strategy, config.splits) == (0.25, 7, "list", ("val", "testA"))
    assert (config.by_image, config.comment, config.seed, config.device) == (True, "ü [x]", 3, "cuda:1")
    assert stage.arguments["resume"] is True
    assert stage.arguments["split"] == Path("other.h5")
    options = stage.arguments["options"]
    assert options.argv[:2] == ("seqres", "toy-stage")
    assert set(options.origins.values()) == {"flag"}


def test_options_that_are_not_given_are_not_passed_on(seqres: Seqres, stage: Any, data: Path) -> None:
    assert seqres("toy-stage", "--dataset", data, "--out", "out.h5").code == 0
    assert (stage.arguments["split"], stage.arguments["resume"]) == (None, False)
    assert set(stage.arguments["options"].origins.values()) == {"default"}


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--ratio", "1.5"], "ratio must be in (0, 1], got 1.5", None),
        (["--ratio", "much"], "--ratio must be a number, got 'much'", None),
        (["--seed", "1.5"], "--seed must be a whole number, got '1.5'", None),
        (
            ["--strategy", "randon"],
            "--strategy must be one of random, list, got 'randon'",
            "--strategy random?",
        ),
        (["--ratoi", "1"], "no such option: --ratoi", "did you mean --ratio?"),
        (["--ratio"], "option '--ratio' requires an argument", "seqres toy-stage --help"),
        (["surplus"], "got unexpected extra argument (surplus)", "seqres toy-stage --help"),
        (["--config", "nothing.toml"], "no such file: nothing.toml", None),
    ],
)
def test_bad_flags(
    seqres: Seqres, stage: Any, data: Path, arguments: list[str], message: str, hint: str | None
) -> None:
    done = seqres("toy-stage", "--dataset", data, "--out", "out.h5", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == f"error: {message}"
    assert hint is None or hint in done.err
    assert not Path("out.h5").exists()


def test_missing_inputs_are_named_together(seqres: Seqres, stage: Any) -> None:
    done = seqres("toy-stage")
    assert done.code == 2
    assert done.err.startswith("error: toy-stage needs --dataset, --out\n")


def test_a_missing_input_file_names_its_maker(seqres: Seqres, stage: Any) -> None:
    done = seqres("toy-stage", "--dataset", "nothing.h5", "--out", "out.h5")
    assert done.code == 3
    assert done.err == (
        "error: no such file: nothing.h5\n\nhint: make it with: seqres split-masks --out nothing.h5\n"
    )


# ---- the configuration file ----


def config_of(seqres: Seqres, *arguments: object) -> dict[str, Any]:
    done = seqres("toy-stage", "--print-config", "--json", *arguments)
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


def test_flag_wins_over_file_wins_over_default(seqres: Seqres, stage: Any) -> None:
    Path("run.toml").write_text(
        "[toy-stage]\nratio = 1\nseed = 7\nby_image = true\n[train-rec]\nepochs = 3\n"
    )
    done = config_of(seqres, "--config", "run.toml", "--seed", 8, "--no-by-image")
    config = done["config"]["toy-stage"]
    assert (config["ratio"], config["seed"], config["by_image"], config["count"]) == (1.0, 8, False, None)
    origins = done["origins"]
    assert (origins["ratio"], origins["seed"], origins["count"]) == ("file run.toml", "flag", "default")


def test_none_unsets_an_optional_number(seqres: Seqres, stage: Any) -> None:
    Path("run.toml").write_text("[toy-stage]\ncount = 3\n")
    assert config_of(seqres, "--config", "run.toml")["config"]["toy-stage"]["count"] == 3
    assert (
        config_of(seqres, "--config", "run.toml", "--count", "none")["config"]["toy-stage"]["count"] is None
    )


def test_the_printed_table_reads_back(seqres: Seqres, stage: Any) -> None:
    text = 'a "quote" \\ ü \x7f\n tab'
    arguments = ["--comment", text, "--splits", "val", "--splits", "b c", "--ratio", "1e-05", "--by-image"]
    printed = seqres("toy-stage", "--print-config", *arguments).out
    assert "# count is not set" in printed
    assert 'on-device = "auto"' in printed
    assert any(line.startswith("seed = 0 ") and line.endswith("# default") for line in printed.splitlines())
    Path("run.toml").write_text(printed, encoding="utf-8")
    assert tomllib.loads(printed)["toy-stage"]["comment"] == text
    read = config_of(seqres, "--config", "run.toml")["config"]
    assert read == config_of(seqres, *arguments)["config"]


IN = "in [toy-stage] of run.toml"
SET = f"  set {IN}"


@pytest.mark.parametrize(
    ("text", "message", "more"),
    [
        ("[toy-stage]\nratoi = 1\n", f"unknown key 'ratoi' {IN}", "hint: did you mean ratio?"),
        ("[toy-stage]\nqqq = 1\n", f"unknown key 'qqq' {IN}", "--print-config lists all keys"),
        (
            "[toy-stge]\n",
            "run.toml has a table for the unknown stage 'toy-stge'",
            "did you mean [toy-stage]?",
        ),
        ("ratio = 1\n", "run.toml has the key 'ratio' outside of any table", "for instance [toy-stage]"),
        ("toy-stage = 3\n", "'toy-stage' in run.toml must be a table, got 3", "write [toy-stage]"),
        ("[toy-stage]\nratio = '1'\n", "ratio must be a number, got '1'", SET),
        ("[toy-stage]\nratio = 2\n", "ratio must be in (0, 1], got 2.0", SET),
        ("[toy-stage]\nseed = true\n", "seed must be a whole number, got True", SET),
        ("[toy-stage]\nsplits = 'val'\n", "splits must be a list, got 'val'", SET),
        ("[toy-stage.ratio]\nx = 1\n", f"ratio {IN} must be a value, got a table", ""),
        ("[toy-stage]\nby-image = true\nby_image = true\n", f"'by_image' is set twice {IN}", ""),
        ("[toy-stage\n", "run.toml is not valid TOML", "line 1"),
    ],
)
def test_mistakes_in_the_file(
    seqres: Seqres, stage: Any, data: Path, text: str, message: str, more: str
) -> None:
    Path("run.toml").write_text(text)
    done = seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--config", "run.toml")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == f"error: {message}"
    assert more in done.err


# ---- the one error boundary ----


def fail_with(error: BaseException) -> Callable[[Any], None]:
    def effect(reporter: Any) -> None:
        raise error

    return effect


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (MemoryError(), 1, "error: out of memory"),
        (PermissionError(13, "Permission denied", "x/y"), 1, "error: x/y: permission denied"),
        (OSError(28, "No space left on device"), 1, "error: no space left on device"),
        (ValueError("boom\nsecond line"), 1, "error: unexpected ValueError"),
    ],
)
def test_what_goes_wrong_while_running(
    seqres: Seqres, stage: Any, data: Path, error: BaseException, code: int, line: str
) -> None:
    stage.effect = fail_with(error)
    done = seqres("toy-stage", "--dataset", data, "--out", "out.h5")
    assert (done.code, done.out) == (code, "")
    assert done.err.splitlines()[0] == line
    assert "Traceback" not in done.err
    assert sorted(p.name for p in Path().iterdir()) == ["data.h5"]
    as_json = seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--json")
    assert json.loads(as_json.out)["error"]["exit_code"] == code


def test_an_unexpected_error_asks_for_a_report(
    seqres: Seqres, stage: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.effect = fail_with(ValueError("boom"))
    done = seqres("toy-stage", "--dataset", "data.h5", "--out", "out.h5")
    assert (
        "  boom\n  command: seqres toy-stage --dataset data.h5 --out out.h5\n\nhint: this is a bug"
        in done.err
    )
    monkeypatch.setenv("SEQRES_DEBUG", "1")
    done = seqres("toy-stage", "--dataset", "data.h5", "--out", "out.h5")
    assert "Traceback (most recent call last)" in done.err
    assert "ValueError: boom" in done.err


# ---- progress ----


class Clock:
    """Time that passes by one step whenever it is asked for."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


def test_off_a_terminal_quick_work_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("seqres_cli.output.time", Clock(0.001))
    with RichReporter().progress("check", 100, "file") as task:
        for _ in range(100):
            task.advance()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("check: 100 % (100/100 file, ")


def test_off_a_terminal_there_is_a_line_for_each_tenth(
    seqres: Seqres, stage: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqres_cli.output.time", Clock(1.0))

    def effect(reporter: Any) -> None:
        reporter.info("starting [bold]")
        reporter.warn("careful")
        with reporter.progress("train", 200, "step") as task:
            for i in range(200):
                task.advance(loss=1 / (i + 1))
        with reporter.progress("count", None, "file") as task:
            for _ in range(25):
                task.advance()

    stage.effect = effect
    done = seqres("toy-stage", "--dataset", data, "--out", "out.h5")
    lines = done.err.splitlines()
    assert lines[:2] == ["starting [bold]", "warning: careful"]
    train = [line for line in lines if line.startswith("train: ")]
    assert [line.split()[1] for line in train] == [str(n) for n in range(10, 101, 10)]
    assert "(20/200 step, " in train[0]
    assert "/s, eta " in train[0]
    assert train[0].endswith("loss 0.05")
    assert [line.split("(")[1].split()[0] for line in lines if line.startswith("count: ")] == [
        "10",
        "20",
        "25",
    ]
    quiet = seqres("toy-stage", "--dataset", data, "--out", "out.h5", "--force", "--quiet")
    assert quiet.err == "warning: careful\n"
    assert quiet.out.startswith("wrote out.h5")


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    stream = io.StringIO()
    reporter = RichReporter()
    reporter._console = Console(file=stream, force_terminal=True, width=110, soft_wrap=True)
    with reporter.progress("epochs", 2, "epoch") as outer:
        with reporter.progress("steps", 4, "step") as inner:
            inner.advance(4, loss=0.5)
            assert reporter._progress is not None
            reporter._progress.refresh()
        outer.advance()
    assert reporter._progress is None
    text = stream.getvalue()
    for words in ("epochs", "steps", "4/4", "step/s", "eta", "loss 0.5"):
        assert words in text


def test_a_closed_pipe_is_no_error(seqres: Seqres, stage: Any, data: Path, project_root: Path) -> None:
    import subprocess
    import sys

    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "seqres_cli", "inspect", str(data)],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=project_root,
    )
    os.close(writer)
    assert done.returncode == 0
    assert done.stderr == b""
